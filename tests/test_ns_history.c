/*
 * What versions a path had: over renames, removals, directories made anew, and compaction with tags.
 */
#include "fs/ns_history.h"

#include "mvcc/keep.h"
#include "tests/store_fixture.h"
#include "tests/unit.h"

#include <errno.h>
#include <inttypes.h>

static const struct ns_who me = { .uid = 1000, .gid = 100, .pid = 42, .comm = "test" };
static struct fixture *fx;
static struct ns *ns;

static void set_up(void)
{
	struct ns_options opt = { .commit_ms = 60000 };

	fx = fixture_new();
	fx->opt.init = ns_init;
	fx->opt.manual_upkeep = true;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	CU_ASSERT_EQUAL_FATAL(ns_open(fx->db, &opt, &ns), 0);
}

static void tear_down(void)
{
	CU_ASSERT_EQUAL(ns_close(ns), 0);
	fixture_close(fx);
}

/* ---- a tree to work on -------------------------------------------------------------------------- */

static uint64_t ino_of(const char *path)
{
	struct mvcc_view *view;
	uint64_t ino = 0;

	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, MVCC_REV_LATEST, &view), 0);
	CU_ASSERT_EQUAL(ns_at_walk(view, slice_str(path), &ino), 0);
	mvcc_view_close(view);
	return ino;
}

/* The directory of a path, and its last name. */
static uint64_t dir_of(const char *path, struct slice *name)
{
	const char *last = strrchr(path, '/');
	char dir[256];

	snprintf(dir, sizeof(dir), "%.*s", (int)(last - path), path);
	*name = slice_str(last + 1);
	return ino_of(dir);
}

static mvcc_rev_t write_file(const char *path, const char *text)
{
	struct ns_file *f = NULL;
	struct ns_attr attr;
	struct slice name;
	uint64_t dir = dir_of(path, &name);
	int err = ns_create(ns, &me, dir, name, 0644, &f, &attr);

	if (err == -EEXIST)
		err = ns_file_open(ns, &me, ino_of(path), NS_OPEN_WRITE | NS_OPEN_TRUNC,
				   (struct ns_gone){ 0 }, &f);
	CU_ASSERT_EQUAL_FATAL(err, 0);
	CU_ASSERT_EQUAL(ns_file_write(f, &me, 0, text, strlen(text)), 0);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	return mvcc_current(fx->db);
}

static mvcc_rev_t make_dir(const char *path)
{
	struct ns_attr attr;
	struct slice name;
	uint64_t dir = dir_of(path, &name);

	CU_ASSERT_EQUAL(ns_mkdir(ns, &me, dir, name, 0755, &attr), 0);
	return mvcc_current(fx->db);
}

static mvcc_rev_t remove_name(const char *path, bool is_dir)
{
	struct slice name;
	uint64_t dir = dir_of(path, &name);

	CU_ASSERT_EQUAL((is_dir ? ns_rmdir : ns_unlink)(ns, &me, dir, name, NULL), 0);
	return mvcc_current(fx->db);
}

static mvcc_rev_t move(const char *from, const char *to)
{
	struct slice old, new;
	uint64_t from_dir = dir_of(from, &old), to_dir = dir_of(to, &new);

	CU_ASSERT_EQUAL(ns_rename(ns, &me, from_dir, old, to_dir, new, 0, NULL), 0);
	return mvcc_current(fx->db);
}

/* ---- what is asked ------------------------------------------------------------------------------ */

/* The versions by their names, "2 3 7"; and each is found by its name, and no revision between them is one. */
static void assert_versions(const char *path, const char *expected)
{
	struct ns_version *v = NULL, one;
	char got[1024] = "";
	size_t n = 0, len = 0, found = 0;

	CU_ASSERT_EQUAL(ns_history(fx->db, slice_str(path), &v, &n), 0);
	for (size_t i = 0; i < n && len < sizeof(got); i++)
		len += (size_t)snprintf(got + len, sizeof(got) - len, "%s%" PRIu64, i ? " " : "", v[i].rev);
	CU_ASSERT_STRING_EQUAL(got, expected);
	if (strcmp(got, expected) != 0)
		printf("\n    %s: got \"%s\", not \"%s\"\n", path, got, expected);
	CU_ASSERT_EQUAL(ns_history_any(fx->db, slice_str(path)), n ? 0 : -ENOENT);
	for (mvcc_rev_t rev = 1; rev <= mvcc_current(fx->db) + 1; rev++) {
		int err = ns_history_at(fx->db, slice_str(path), rev, &one);

		if (found < n && v[found].rev == rev) {
			CU_ASSERT_EQUAL(err, 0);
			CU_ASSERT(one.ino == v[found].ino && one.row_rev == v[found].row_rev &&
				  one.mode == v[found].mode);
			found++;
		} else {
			CU_ASSERT(err == -ENOENT || err == MVCC_ECOMPACTED);
		}
	}
	CU_ASSERT_EQUAL(found, n);
	free(v);
}

static int add_name(void *arg, struct slice name)
{
	struct buf *text = arg;

	return text->len && buf_put_u8(text, ' ') ? -ENOMEM : buf_put_slice(text, name);
}

static void assert_names(const char *path, const char *expected)
{
	struct buf got = { 0 };

	CU_ASSERT_EQUAL(ns_history_names(fx->db, slice_str(path), add_name, &got), 0);
	CU_ASSERT(slice_eq(slice_buf(&got), slice_str(expected)));
	if (!slice_eq(slice_buf(&got), slice_str(expected)))
		printf("\n    %s: got \"%.*s\", not \"%s\"\n", path, (int)got.len, (const char *)got.data,
		       expected);
	buf_release(&got);
}

/* ---- tests -------------------------------------------------------------------------------------- */

static void test_each_change_of_a_file_is_a_version(void)
{
	struct ns_attr set = { .mode = 0600 }, attr;

	write_file("/f", "one");   /* 2 */
	write_file("/g", "other"); /* 3 */
	write_file("/f", "two");   /* 4 */
	CU_ASSERT_EQUAL(ns_setattr(ns, &me, ino_of("/f"), &set, NS_SET_MODE, false, &attr), 0);
	assert_versions("/f", "2 4 5");
	assert_versions("/g", "3");
	assert_versions("/h", "");
	assert_versions("/f/x", "");
	assert_names("/", "f g");
}

static void test_a_file_that_is_gone_has_its_versions(void)
{
	write_file("/f", "one");   /* 2 */
	remove_name("/f", false);  /* 3 */
	write_file("/g", "x");     /* 4 */
	write_file("/f", "again"); /* 5 */
	remove_name("/f", false);  /* 6 */
	assert_versions("/f", "2 5");
	assert_names("/", "f g");
}

static void test_it_goes_by_path(void)
{
	make_dir("/d");            /* 2 */
	write_file("/d/f", "one"); /* 3 */
	move("/d", "/e");          /* 4 */
	write_file("/e/f", "two"); /* 5 */
	make_dir("/d");            /* 6 */
	write_file("/d/f", "new"); /* 7 */
	move("/e/f", "/d/f");      /* 8: over it */
	assert_versions("/d/f", "3 7 8");
	assert_versions("/e/f", "4 5");
	assert_names("/d", "f");
	assert_names("/e", "f");
}

static void test_a_directory_has_a_version_for_each_of_its_listings(void)
{
	make_dir("/d");             /* 2 */
	write_file("/d/a", "1");    /* 3 */
	write_file("/d/a", "2");    /* 4: no change of the listing */
	write_file("/d/b", "1");    /* 5 */
	remove_name("/d/a", false); /* 6 */
	assert_versions("/d", "2 3 5 6");
	assert_names("/d", "a b");
}

static void test_a_removed_directory_is_asked_by_its_path(void)
{
	make_dir("/d");             /* 2 */
	write_file("/d/f", "1");    /* 3 */
	remove_name("/d/f", false); /* 4 */
	remove_name("/d", true);    /* 5 */
	assert_versions("/d/f", "3");
	assert_names("/d", "f");
	assert_names("/", "d");
}

static void test_what_was_compacted_is_named_by_what_still_shows_it(void)
{
	write_file("/f", "one");   /* 2 */
	write_file("/g", "x");     /* 3 */
	write_file("/f", "two");   /* 4 */
	write_file("/g", "y");     /* 5 */
	write_file("/f", "three"); /* 6 */
	remove_name("/g", false);  /* 7 */
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, 5), 0);
	CU_ASSERT_EQUAL(mvcc_upkeep(fx->db), 0);
	assert_versions("/f", "5 6"); /* 5 shows what 4 made */
	assert_versions("/g", "5");
	assert_names("/", "f g");
}

static void test_a_tag_keeps_its_version(void)
{
	write_file("/f", "one");  /* 2 */
	write_file("/g", "x");    /* 3 */
	write_file("/f", "two");  /* 4 */
	remove_name("/g", false); /* 5 */
	write_file("/f", "3");    /* 6 */
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "v1", 3), 0);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, 6), 0);
	CU_ASSERT_EQUAL(mvcc_upkeep(fx->db), 0);
	assert_versions("/f", "3 6");
	assert_versions("/g", "3");
	assert_names("/", "f g");
	CU_ASSERT_EQUAL(mvcc_unpin(fx->db, "v1"), 0);
	CU_ASSERT_EQUAL(mvcc_upkeep(fx->db), 0);
	assert_versions("/f", "6");
	assert_versions("/g", "");
	assert_names("/", "f");
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_each_change_of_a_file_is_a_version),
	UNIT_TEST(test_a_file_that_is_gone_has_its_versions),
	UNIT_TEST(test_it_goes_by_path),
	UNIT_TEST(test_a_directory_has_a_version_for_each_of_its_listings),
	UNIT_TEST(test_a_removed_directory_is_asked_by_its_path),
	UNIT_TEST(test_what_was_compacted_is_named_by_what_still_shows_it),
	UNIT_TEST(test_a_tag_keeps_its_version),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("versions of a path", set_up, tear_down, tests),
				  CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
