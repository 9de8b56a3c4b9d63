/*
 * What differs between two revisions: each kind of difference by itself, and random histories against a comparison of
 * the two trees, by the log and without it.
 */
#include "fs/ns_diff.h"
#include "rocks_backend/rocks.h"

#include "mvcc/keep.h"

#include "tests/ns_history.h"
#include "tests/unit.h"

#include <errno.h>
#include <linux/fs.h>

static const struct ns_who me = { .uid = 1000, .gid = 100, .pid = 42, .comm = "test" };

/* ---- a diff as a text, and as a list ------------------------------------------------------------- */

static int add_text(void *arg, const struct ns_diff_entry *e)
{
	static const char *const words[] = { "content", "mode", "owner", "xattr", "times", "type" };
	struct buf *out = arg;
	int err = buf_put_u8(out, (uint8_t)e->status);

	err |= buf_put_u8(out, ' ');
	err |= buf_put_slice(out, e->path);
	if (e->status == 'R' || (e->new_attr && e->old_attr && !slice_eq(e->path, e->old_path))) {
		err |= buf_put(out, " from ", 6);
		err |= buf_put_slice(out, e->old_path);
	}
	for (unsigned i = 0; i < 6; i++)
		if (e->what & 1u << i) {
			err |= buf_put_u8(out, ' ');
			err |= buf_put_slice(out, slice_str(words[i]));
		}
	return err | buf_put(out, "; ", 2);
}

static void assert_diff(struct history *h, mvcc_rev_t from, mvcc_rev_t to, const char *path,
			const char *expected)
{
	struct buf text = { 0 };

	CU_ASSERT_EQUAL(ns_diff(h->fx->db, from, to, slice_str(path), 0, add_text, &text), 0);
	CU_ASSERT_EQUAL(buf_put_u8(&text, 0), 0);
	CU_ASSERT_STRING_EQUAL((char *)text.data, expected);
	buf_release(&text);
}

static mvcc_rev_t now(struct history *h)
{
	return mvcc_current(h->fx->db);
}

static uint64_t mkdir_in(struct history *h, uint64_t dir, const char *name)
{
	struct ns_attr attr = { 0 };

	CU_ASSERT_EQUAL(ns_mkdir(h->ns, &me, dir, slice_str(name), 0755, &attr), 0);
	return attr.ino;
}

static uint64_t write_in(struct history *h, uint64_t dir, const char *name, const char *text)
{
	struct ns_file *f = NULL;
	struct ns_attr attr = { 0 };

	if (ns_create(h->ns, &me, dir, slice_str(name), 0644, &f, &attr) == -EEXIST) {
		CU_ASSERT_EQUAL(ns_lookup(h->ns, dir, slice_str(name), &attr), 0);
		CU_ASSERT_EQUAL_FATAL(ns_file_open(h->ns, &me, attr.ino, NS_OPEN_WRITE | NS_OPEN_TRUNC,
						   (struct ns_gone){ 0 }, &f),
				      0);
	}
	CU_ASSERT_EQUAL(ns_file_write(f, &me, 0, text, strlen(text)), 0);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	return attr.ino;
}

static void rename_to(struct history *h, uint64_t dir, const char *name, uint64_t to, const char *new_name)
{
	CU_ASSERT_EQUAL(ns_rename(h->ns, &me, dir, slice_str(name), to, slice_str(new_name), 0, NULL), 0);
}

static void set(struct history *h, uint64_t ino, unsigned what)
{
	struct ns_attr attr = { .mode = 0600, .uid = 7, .mtime_ns = 5 }, out;

	CU_ASSERT_EQUAL(ns_setattr(h->ns, &me, ino, &attr, what, false, &out), 0);
}

/* ---- each kind ------------------------------------------------------------------------------------ */

static void test_what_came_went_and_changed(void)
{
	struct history h;
	uint64_t f;

	history_open(&h, 1);
	write_in(&h, NS_ROOT, "gone", "1");
	f = write_in(&h, NS_ROOT, "written", "1");
	set(&h, write_in(&h, NS_ROOT, "zero", "1"), NS_SET_MTIME);
	CU_ASSERT_EQUAL(now(&h), 5);
	write_in(&h, NS_ROOT, "written", "2");
	write_in(&h, mkdir_in(&h, NS_ROOT, "d"), "new", "1");
	CU_ASSERT_EQUAL(ns_unlink(h.ns, &me, NS_ROOT, slice_str("gone"), NULL), 0);
	assert_diff(&h, 5, now(&h), "", "A /d; A /d/new; D /gone; M /written content times; ");
	assert_diff(&h, now(&h), 5, "/", "D /d; D /d/new; A /gone; M /written content times; ");
	assert_diff(&h, 5, now(&h), "d", "A /d; A /d/new; ");
	assert_diff(&h, 5, now(&h), "//d/new/", "A /d/new; ");
	assert_diff(&h, 5, now(&h), "/written", "M /written content times; ");
	assert_diff(&h, 5, 5, "", "");
	assert_diff(&h, now(&h), now(&h), "", "");
	CU_ASSERT_EQUAL(ns_diff(h.fx->db, 5, now(&h), slice_str("/no"), 0, add_text, NULL), -ENOENT);
	CU_ASSERT_EQUAL(ns_diff(h.fx->db, 5, now(&h) + 1, slice_str(""), 0, add_text, NULL), MVCC_EFUTURE);
	(void)f;
	history_close(&h);
}

static void test_properties_are_told_one_by_one(void)
{
	struct history h;
	mvcc_rev_t before;
	uint64_t f, d;

	history_open(&h, 1);
	f = write_in(&h, NS_ROOT, "f", "1");
	d = mkdir_in(&h, NS_ROOT, "d");
	before = now(&h);
	set(&h, f, NS_SET_MODE);
	assert_diff(&h, before, now(&h), "", "P /f mode; ");
	set(&h, f, NS_SET_UID);
	CU_ASSERT_EQUAL(ns_setxattr(h.ns, &me, f, "user.a", slice_str("1"), 0), 0);
	set(&h, f, NS_SET_MTIME);
	assert_diff(&h, before, now(&h), "", "P /f mode owner xattr times; ");
	CU_ASSERT_EQUAL(ns_removexattr(h.ns, &me, f, "user.a"), 0);
	assert_diff(&h, before, now(&h), "", "P /f mode owner times; ");
	before = now(&h);
	set(&h, d, NS_SET_MTIME); /* the times of a directory are its entries' business */
	assert_diff(&h, before, now(&h), "", "");
	set(&h, d, NS_SET_MODE);
	set(&h, NS_ROOT, NS_SET_MODE);
	assert_diff(&h, before, now(&h), "", "P / mode; P /d mode; ");
	history_close(&h);
}

static void test_what_is_changed_and_changed_back_does_not_differ(void)
{
	struct history h;
	mvcc_rev_t before;
	uint64_t f;

	history_open(&h, 1);
	f = write_in(&h, NS_ROOT, "f", "1");
	set(&h, f, NS_SET_MTIME);
	mkdir_in(&h, NS_ROOT, "d");
	before = now(&h);
	write_in(&h, NS_ROOT, "f", "2");
	write_in(&h, NS_ROOT, "f", "1");
	set(&h, f, NS_SET_MTIME);
	write_in(&h, NS_ROOT, "passing", "1");
	CU_ASSERT_EQUAL(ns_unlink(h.ns, &me, NS_ROOT, slice_str("passing"), NULL), 0);
	CU_ASSERT_EQUAL(ns_rmdir(h.ns, &me, NS_ROOT, slice_str("d"), NULL), 0);
	mkdir_in(&h, NS_ROOT, "d");
	assert_diff(&h, before, now(&h), "", "");
	history_close(&h);
}

static void test_a_file_saved_by_renaming_is_a_changed_file(void)
{
	struct history h;
	mvcc_rev_t before;

	history_open(&h, 1);
	write_in(&h, NS_ROOT, "f", "1");
	write_in(&h, NS_ROOT, "other", "2");
	before = now(&h);
	write_in(&h, NS_ROOT, "f.new", "2");
	rename_to(&h, NS_ROOT, "f.new", NS_ROOT, "f");
	assert_diff(&h, before, now(&h), "", "M /f content times; ");
	rename_to(&h, NS_ROOT, "other", NS_ROOT, "f"); /* it was there, and has gone from its place */
	assert_diff(&h, before, now(&h), "", "M /f content times; D /other; ");
	history_close(&h);
}

static void test_another_type_at_the_same_path(void)
{
	struct history h;
	struct ns_attr attr;
	mvcc_rev_t before;

	history_open(&h, 1);
	write_in(&h, NS_ROOT, "f", "1");
	before = now(&h);
	CU_ASSERT_EQUAL(ns_unlink(h.ns, &me, NS_ROOT, slice_str("f"), NULL), 0);
	CU_ASSERT_EQUAL(ns_symlink(h.ns, &me, NS_ROOT, slice_str("f"), slice_str("x"), &attr), 0);
	assert_diff(&h, before, now(&h), "", "T /f mode type; ");
	CU_ASSERT_EQUAL(ns_unlink(h.ns, &me, NS_ROOT, slice_str("f"), NULL), 0);
	write_in(&h, mkdir_in(&h, NS_ROOT, "f"), "in", "1");
	assert_diff(&h, before, now(&h), "", "T /f mode type; A /f/in; ");
	history_close(&h);
}

static void test_a_moved_directory_is_one_line(void)
{
	struct history h;
	mvcc_rev_t before;
	uint64_t d, sub;

	history_open(&h, 1);
	d = mkdir_in(&h, NS_ROOT, "d");
	sub = mkdir_in(&h, d, "sub");
	write_in(&h, sub, "kept", "1");
	write_in(&h, sub, "changed", "1");
	write_in(&h, sub, "gone", "1");
	before = now(&h);
	rename_to(&h, NS_ROOT, "d", NS_ROOT, "e");
	assert_diff(&h, before, now(&h), "", "R /e from /d; ");
	write_in(&h, sub, "changed", "2");
	write_in(&h, sub, "new", "2");
	CU_ASSERT_EQUAL(ns_unlink(h.ns, &me, sub, slice_str("gone"), NULL), 0);
	rename_to(&h, sub, "kept", NS_ROOT, "out");
	assert_diff(&h, before, now(&h), "",
		    "D /d/sub/gone; R /e from /d; M /e/sub/changed from /d/sub/changed content times; A "
		    "/e/sub/new; "
		    "R /out from /d/sub/kept; ");
	/* a scope shows what was there as well as what is there */
	assert_diff(&h, before, now(&h), "/out", "R /out from /d/sub/kept; ");
	assert_diff(&h, before, now(&h), "/d/sub/kept", "R /out from /d/sub/kept; ");
	assert_diff(&h, now(&h), before, "",
		    "R /d from /e; M /d/sub/changed from /e/sub/changed content times; A /d/sub/gone; "
		    "R /d/sub/kept from /out; D /e/sub/new; ");
	history_close(&h);
}

static void test_each_name_of_a_file_is_told(void)
{
	struct history h;
	struct ns_attr attr;
	mvcc_rev_t before;
	uint64_t f;

	history_open(&h, 1);
	f = write_in(&h, NS_ROOT, "a", "1");
	CU_ASSERT_EQUAL(ns_link(h.ns, &me, f, NS_ROOT, slice_str("b"), &attr), 0);
	before = now(&h);
	write_in(&h, NS_ROOT, "b", "2");
	assert_diff(&h, before, now(&h), "", "M /a content times; M /b content times; ");
	CU_ASSERT_EQUAL(ns_link(h.ns, &me, f, NS_ROOT, slice_str("c"), &attr), 0);
	CU_ASSERT_EQUAL(ns_unlink(h.ns, &me, NS_ROOT, slice_str("a"), NULL), 0);
	assert_diff(&h, before, now(&h), "", "M /b content times; R /c from /a content times; ");
	history_close(&h);
}

/* ---- random histories ------------------------------------------------------------------------------ */

struct entry {
	char status;
	unsigned what;
	char path[512], old_path[512];
};

struct entries {
	struct entry v[4096];
	size_t n;
	size_t stop; /* stops after that many, if not 0 */
	size_t next;
};

static void copy_path(char out[512], struct slice path)
{
	snprintf(out, 512, "%.*s", (int)path.len, (const char *)path.data);
}

static int add_entry(void *arg, const struct ns_diff_entry *e)
{
	struct entries *list = arg;
	struct entry *to = &list->v[list->n++];

	CU_ASSERT_FATAL(list->n < 4096);
	to->status = e->status;
	to->what = e->what;
	copy_path(to->path, e->path);
	copy_path(to->old_path, e->old_path);
	list->next = e->index + 1;
	return list->stop && list->n % list->stop == 0;
}

/* Where a path of the old tree is in the new one, if it was not deleted: as the moves say. */
static void moved_path(const struct entries *list, const char *path, char out[1024])
{
	size_t best = 0;
	const char *to = "";

	for (size_t i = 0; i < list->n; i++) {
		const struct entry *e = &list->v[i];
		size_t len = strlen(e->old_path);

		if (e->status != 'R' || len <= best || strncmp(path, e->old_path, len) != 0 ||
		    (path[len] != '/' && path[len] != 0))
			continue;
		best = len;
		to = e->path;
	}
	snprintf(out, 1024, "%s%s", to, path + best);
}

static const struct entry *entry_of(const struct entries *list, const char *status, const char *path,
				    bool old)
{
	for (size_t i = 0; i < list->n; i++)
		if (strchr(status, list->v[i].status) &&
		    strcmp(old ? list->v[i].old_path : list->v[i].path, path) == 0)
			return &list->v[i];
	return NULL;
}

static void complain(const char *what, const char *path)
{
	CU_FAIL("the diff is not the difference");
	printf("    %s: %s\n", path, what);
}

/* The old tree, with what the diff says, must be the new one; and what it says must be so. */
static void check_diff(const struct entries *list, const struct picture *a, const struct picture *b)
{
	bool *reached = calloc(b->n + 1, 1);
	char path[1024];

	CU_ASSERT_PTR_NOT_NULL_FATAL(reached);
	for (size_t i = 0; i < a->n; i++) {
		const struct shown *x = &a->v[i], *y;
		const struct entry *e;
		unsigned what;

		if (entry_of(list, "D", x->path, true))
			continue;
		moved_path(list, x->path, path);
		y = picture_find(b, path);
		if (!y || reached[y - b->v]) {
			complain(y ? "two come to one place" : "is not there", path);
			continue;
		}
		reached[y - b->v] = true;
		what = shown_differs(x, y);
		e = entry_of(list, "MPRT", y->path, false);
		if (what != (e ? e->what : 0))
			complain("differs otherwise", path);
		if (e && strcmp(e->old_path, x->path) != 0)
			complain("came from elsewhere", path);
		/* What was moved may be at the path it had: if its directory was moved away from above it. */
		if (e && e->status != (what & NS_DIFF_TYPE    ? 'T' :
				       e->status == 'R'       ? 'R' :
				       what & NS_DIFF_CONTENT ? 'M' :
								'P'))
			complain("has the wrong letter", path);
	}
	for (size_t i = 0; i < b->n; i++)
		if (reached[i] == (entry_of(list, "A", b->v[i].path, false) != NULL))
			complain(reached[i] ? "was there before" : "was not there before", b->v[i].path);
	for (size_t i = 1; i < list->n; i++)
		if (strcmp(list->v[i - 1].path, list->v[i].path) > 0)
			complain("is told too late", list->v[i].path);
	for (size_t i = 0; i < list->n; i++)
		if (list->v[i].status == 'D' && !picture_find(a, list->v[i].old_path))
			complain("was never there", list->v[i].old_path);
	free(reached);
}

static void check_pair(struct history *h, mvcc_rev_t from, mvcc_rev_t to, const struct picture *a,
		       const struct picture *b)
{
	struct entries *all = calloc(1, sizeof(*all)), *pages = calloc(1, sizeof(*pages));
	int got;

	CU_ASSERT_FATAL(all && pages);
	CU_ASSERT_EQUAL(ns_diff(h->fx->db, from, to, slice_str(""), 0, add_entry, all), 0);
	check_diff(all, a, b);
	pages->stop = 3;
	while ((got = ns_diff(h->fx->db, from, to, slice_str("/"), pages->next, add_entry, pages)) == 1)
		;
	CU_ASSERT_EQUAL(got, 0);
	CU_ASSERT_EQUAL(pages->n, all->n);
	CU_ASSERT_EQUAL(memcmp(pages->v, all->v, all->n * sizeof(all->v[0])), 0);
	free(all);
	free(pages);
}

static void check_history(uint64_t seed, unsigned steps, unsigned pairs)
{
	struct picture first, middle, last;
	struct history h;
	mvcc_rev_t top;

	printf("  seed %llu ", (unsigned long long)seed);
	history_open(&h, seed);
	top = history_run(&h, "", steps);
	for (unsigned i = 0; i < pairs; i++) {
		mvcc_rev_t a = 1 + random_below(&h.seed, top), b = 1 + random_below(&h.seed, top);

		picture_take(&h, a, &first);
		picture_take(&h, b, &last);
		check_pair(&h, a, b, &first, &last);
		picture_free(&first);
		picture_free(&last);
	}
	/* and where the log has gone: from one pinned revision to another, and to those after */
	picture_take(&h, top / 3, &first);
	picture_take(&h, top / 2, &middle);
	picture_take(&h, top, &last);
	CU_ASSERT_EQUAL(mvcc_pin(h.fx->db, "first", top / 3), 0);
	CU_ASSERT_EQUAL(mvcc_pin(h.fx->db, "middle", top / 2), 0);
	CU_ASSERT_EQUAL(mvcc_compact(h.fx->db, top - 1), 0);
	check_pair(&h, top / 3, top, &first, &last);
	check_pair(&h, top, top / 2, &last, &middle);
	check_pair(&h, top / 3, top / 2, &first, &middle);
	CU_ASSERT_EQUAL(ns_diff(h.fx->db, 2, top, slice_str(""), 0, add_entry, NULL), MVCC_ECOMPACTED);
	picture_free(&first);
	picture_free(&middle);
	picture_free(&last);
	history_close(&h);
}

static void test_random_histories_equal_a_comparison_of_the_trees(void)
{
	uint64_t seed = fixture_env("DIFF_SEED", 0);

	if (seed) {
		check_history(seed, 200, 12);
		return;
	}
	for (seed = 1; seed <= fixture_env("DIFF_ROUNDS", 12); seed++)
		check_history(seed, 200, 12);
}

static void test_random_histories_on_disk(void)
{
	struct rocks_options rocks = { 0 };
	struct engine_provider provider = rocks_provider(&rocks);

	fixture_use(&provider);
	check_history(101, 200, 12);
	fixture_use(NULL);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_what_came_went_and_changed),
	UNIT_TEST(test_properties_are_told_one_by_one),
	UNIT_TEST(test_what_is_changed_and_changed_back_does_not_differ),
	UNIT_TEST(test_a_file_saved_by_renaming_is_a_changed_file),
	UNIT_TEST(test_another_type_at_the_same_path),
	UNIT_TEST(test_a_moved_directory_is_one_line),
	UNIT_TEST(test_each_name_of_a_file_is_told),
	UNIT_TEST(test_random_histories_equal_a_comparison_of_the_trees),
	UNIT_TEST(test_random_histories_on_disk),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("diff", NULL, NULL, tests), CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
