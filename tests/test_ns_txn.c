/*
 * Trees that stand in a transaction: isolation both ways, one revision, conflicts that are told and leave it open,
 * files that lose their name while open, and that everything works in it as in the live tree, by the same random
 * operations done to both.
 */
#include "fs/ns_bound.h"
#include "fs/ns_txn.h"
#include "mvcc/lease.h"
#include "rocks_backend/rocks.h"

#include "tests/store_fixture.h"
#include "tests/unit.h"

#include <errno.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

static const struct ns_who me = { .uid = 1000, .gid = 100, .pid = 42, .comm = "test" };
static const struct ns_gone not_gone = { 0 };

struct world {
	struct fixture *fx;
	struct ns *ns; /* live */
	struct ns_txns *txns;
};

static void world_open(struct world *w)
{
	struct ns_options opt = { .commit_ms = 60000 };

	w->fx = fixture_new();
	w->fx->opt.init = ns_init;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(w->fx), 0);
	CU_ASSERT_EQUAL_FATAL(ns_open(w->fx->db, &opt, &w->ns), 0);
	CU_ASSERT_EQUAL_FATAL(ns_txns_new(w->ns, &w->txns), 0);
}

static void world_close(struct world *w)
{
	ns_txns_free(w->txns);
	CU_ASSERT_EQUAL(ns_close(w->ns), 0);
	fixture_verify(w->fx);
	fixture_close(w->fx);
}

static mvcc_rev_t now(struct world *w)
{
	return mvcc_current(w->fx->db);
}

static struct ns_txn *begin_txn(struct world *w, const char *name)
{
	struct ns_txn *t = NULL;

	CU_ASSERT_EQUAL_FATAL(ns_txn_begin(w->txns, slice_str(name), &me, &t), 0);
	return t;
}

/* The transaction's tree. One thread is all there is here. */
static struct ns *tree_of(struct ns_txn *t)
{
	struct ns *ns = ns_txn_enter(t);

	CU_ASSERT_PTR_NOT_NULL_FATAL(ns);
	ns_txn_leave(t);
	return ns;
}

/* ---- one line each, by path --------------------------------------------------------------------- */

/* The directory that holds the last name of `path`, and that name. */
static int find_parent(struct ns *ns, const char *path, uint64_t *dir, struct slice *name)
{
	struct ns_attr attr = { .ino = NS_ROOT };
	int err = 0;

	for (;;) {
		size_t n = strcspn(path, "/");

		*dir = attr.ino;
		*name = slice_of(path, n);
		if (err || path[n] == '\0')
			return err;
		err = ns_lookup(ns, *dir, *name, &attr);
		path += n + 1;
	}
}

static int stat_path(struct ns *ns, const char *path, struct ns_attr *out)
{
	struct slice name;
	uint64_t dir;
	int err;

	if (path[0] == '\0')
		return ns_getattr(ns, NS_ROOT, out);
	err = find_parent(ns, path, &dir, &name);
	return err ? err : ns_lookup(ns, dir, name, out);
}

static int open_path(struct ns *ns, const char *path, unsigned flags, struct ns_file **out)
{
	struct ns_attr attr;
	int err = stat_path(ns, path, &attr);

	/* The kernel opens nothing else. */
	if (!err && !S_ISREG(attr.mode))
		err = -EINVAL;
	return err ? err : ns_file_open(ns, &me, attr.ino, flags, not_gone, out);
}

static int create_path(struct ns *ns, const char *path, struct ns_file **out)
{
	struct ns_attr attr;
	struct slice name;
	uint64_t dir;
	int err = find_parent(ns, path, &dir, &name);

	return err ? err : ns_create(ns, &me, dir, name, 0644, out, &attr);
}

static void done(struct ns_file *f)
{
	CU_ASSERT_EQUAL(ns_file_flush(f), 0);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
}

/* As the shell's "echo > path". */
static int try_write_path(struct ns *ns, const char *path, const char *text)
{
	struct ns_file *f = NULL;
	int err = open_path(ns, path, NS_OPEN_WRITE | NS_OPEN_TRUNC, &f), closed;

	if (err == -ENOENT)
		err = create_path(ns, path, &f);
	if (err)
		return err;
	err = ns_file_write(f, &me, 0, text, strlen(text));
	closed = ns_file_flush(f);
	err = err ? err : closed;
	closed = ns_file_close(f);
	return err ? err : closed;
}

static void write_path(struct ns *ns, const char *path, const char *text)
{
	CU_ASSERT_EQUAL(try_write_path(ns, path, text), 0);
}

static void append_path(struct ns *ns, const char *path, const char *text)
{
	struct ns_file *f = NULL;
	struct ns_attr attr;

	CU_ASSERT_EQUAL_FATAL(stat_path(ns, path, &attr), 0);
	CU_ASSERT_EQUAL_FATAL(open_path(ns, path, NS_OPEN_WRITE, &f), 0);
	CU_ASSERT_EQUAL(ns_file_write(f, &me, attr.size, text, strlen(text)), 0);
	done(f);
}

static int mkdir_path(struct ns *ns, const char *path)
{
	struct ns_attr attr;
	struct slice name;
	uint64_t dir;
	int err = find_parent(ns, path, &dir, &name);

	return err ? err : ns_mkdir(ns, &me, dir, name, 0755, &attr);
}

static int remove_path(struct ns *ns, const char *path, bool rmdir)
{
	struct ns_gone gone;
	struct slice name;
	uint64_t dir;
	int err = find_parent(ns, path, &dir, &name);

	if (err)
		return err;
	return rmdir ? ns_rmdir(ns, &me, dir, name, &gone) : ns_unlink(ns, &me, dir, name, &gone);
}

static int rename_path(struct ns *ns, const char *from, const char *to, unsigned flags)
{
	uint64_t from_dir, to_dir;
	struct slice from_name, to_name;
	struct ns_gone gone;
	int err = find_parent(ns, from, &from_dir, &from_name);

	if (!err)
		err = find_parent(ns, to, &to_dir, &to_name);
	return err ? err : ns_rename(ns, &me, from_dir, from_name, to_dir, to_name, flags, &gone);
}

static int link_path(struct ns *ns, const char *from, const char *to)
{
	struct ns_attr attr;
	struct slice name;
	uint64_t dir;
	int err = stat_path(ns, from, &attr);

	if (!err)
		err = find_parent(ns, to, &dir, &name);
	return err ? err : ns_link(ns, &me, attr.ino, dir, name, &attr);
}

static int chmod_path(struct ns *ns, const char *path, uint32_t mode)
{
	struct ns_attr set = { .mode = mode }, attr;
	int err = stat_path(ns, path, &attr);

	return err ? err : ns_setattr(ns, &me, attr.ino, &set, NS_SET_MODE, false, &attr);
}

static int utimens_path(struct ns *ns, const char *path, int64_t mtime_ns)
{
	struct ns_attr set = { .mtime_ns = mtime_ns, .atime_ns = mtime_ns }, attr;
	int err = stat_path(ns, path, &attr);

	return err ? err : ns_setattr(ns, &me, attr.ino, &set, NS_SET_MTIME | NS_SET_ATIME, false, &attr);
}

static int setxattr_path(struct ns *ns, const char *path, const char *name, const char *value)
{
	struct ns_attr attr;
	int err = stat_path(ns, path, &attr);

	return err ? err : ns_setxattr(ns, &me, attr.ino, name, slice_str(value), 0);
}

static void assert_content(struct ns_file *f, const char *text)
{
	char got[256] = "";
	ssize_t n = ns_file_read(f, 0, got, sizeof(got) - 1);

	CU_ASSERT_EQUAL(n, (ssize_t)strlen(text));
	CU_ASSERT_STRING_EQUAL(got, text);
}

/* What a path says; NULL: it is not there. */
static void assert_text(struct ns *ns, const char *path, const char *text)
{
	struct ns_file *f = NULL;
	int err = open_path(ns, path, NS_OPEN_READ, &f);

	CU_ASSERT_EQUAL(err, text ? 0 : -ENOENT);
	if (err)
		return;
	if (text)
		assert_content(f, text);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
}

static void assert_names(struct ns *ns, const char *path, const char *expected)
{
	struct buf names = { 0 };
	struct ns_dirent entry;
	struct ns_dir *d = NULL;
	struct ns_attr attr;

	CU_ASSERT_EQUAL_FATAL(stat_path(ns, path, &attr), 0);
	CU_ASSERT_EQUAL_FATAL(ns_opendir(ns, attr.ino, &d), 0);
	for (uint64_t pos = 0; ns_dir_read(d, pos, &entry) == 1; pos++) {
		CU_ASSERT_EQUAL(buf_put_slice(&names, entry.name), 0);
		CU_ASSERT_EQUAL(buf_put_u8(&names, ' '), 0);
	}
	ns_dir_close(d);
	CU_ASSERT_TRUE(slice_eq(slice_buf(&names), slice_str(expected)));
	buf_release(&names);
}

static void commit_ok(struct world *w, struct ns_txn *t)
{
	mvcc_rev_t before = now(w), rev = 0;

	CU_ASSERT_EQUAL(ns_txn_commit(t, &me, &rev), 0);
	CU_ASSERT_EQUAL(rev, before + 1);
	CU_ASSERT_EQUAL(now(w), before + 1);
	CU_ASSERT_PTR_NULL(ns_txn_enter(t));
	ns_txn_unref(t);
}

static void commit_conflicts(struct world *w, struct ns_txn *t, const char *expected)
{
	mvcc_rev_t before = now(w);
	struct buf got = { 0 };

	CU_ASSERT_EQUAL(ns_txn_commit(t, &me, NULL), MVCC_ECONFLICT);
	CU_ASSERT_EQUAL(now(w), before);
	CU_ASSERT_EQUAL(ns_txn_conflicts(t, &got), 0);
	CU_ASSERT_TRUE(slice_eq(slice_buf(&got), slice_str(expected)));
	if (!slice_eq(slice_buf(&got), slice_str(expected)))
		printf("\nconflicts: %.*s\n", (int)got.len, (const char *)got.data);
	buf_release(&got);
}

static void abort_ok(struct ns_txn *t)
{
	CU_ASSERT_EQUAL(ns_txn_abort(t), 0);
	CU_ASSERT_EQUAL(ns_txn_abort(t), -ESTALE);
	ns_txn_unref(t);
}

/* ---- isolation ---------------------------------------------------------------------------------- */

static void test_a_transaction_is_seen_by_nobody_and_sees_nobody(void)
{
	struct ns_txn *t, *u;
	struct world w;
	struct ns *a, *b;

	world_open(&w);
	write_path(w.ns, "f", "old");
	CU_ASSERT_EQUAL(mkdir_path(w.ns, "d"), 0);
	t = begin_txn(&w, "t");
	u = begin_txn(&w, "u");
	a = tree_of(t);
	b = tree_of(u);
	write_path(a, "f", "of t");
	write_path(a, "d/new", "new");
	CU_ASSERT_EQUAL(chmod_path(a, "d", 0700), 0);
	write_path(w.ns, "live", "live");
	assert_text(w.ns, "f", "old");
	assert_text(w.ns, "d/new", NULL);
	assert_text(b, "f", "old");
	assert_text(b, "d/new", NULL);
	assert_text(a, "f", "of t");
	assert_text(a, "d/new", "new");
	assert_text(a, "live", NULL);
	assert_text(b, "live", NULL);
	assert_names(a, "", "d f ");
	assert_names(w.ns, "", "d f live ");
	commit_ok(&w, t);
	assert_text(w.ns, "f", "of t");
	assert_text(w.ns, "d/new", "new");
	assert_text(w.ns, "live", "live");
	assert_text(b, "f", "old");
	abort_ok(u);
	assert_text(w.ns, "f", "of t");
	world_close(&w);
}

static void test_an_abort_leaves_nothing(void)
{
	enum { SIZE = 9 << 20 };
	char *bytes = calloc(1, SIZE);
	struct mvcc_stats stats;
	struct ns_file *f = NULL;
	struct ns_txn *t;
	struct world w;
	mvcc_rev_t rev;

	world_open(&w);
	write_path(w.ns, "f", "old");
	rev = now(&w);
	t = begin_txn(&w, "t");
	CU_ASSERT_EQUAL(create_path(tree_of(t), "big", &f), 0);
	CU_ASSERT_EQUAL(ns_file_write(f, &me, 0, bytes, SIZE), 0);
	done(f);
	CU_ASSERT_EQUAL(remove_path(tree_of(t), "f", false), 0);
	abort_ok(t);
	CU_ASSERT_EQUAL(now(&w), rev);
	assert_names(w.ns, "", "f ");
	fixture_drain(w.fx);
	CU_ASSERT_EQUAL(fixture_rows(w.fx, ENGINE_USE_BLOB), 0);
	mvcc_stats(w.fx->db, &stats);
	CU_ASSERT_EQUAL(stats.views, 0);
	free(bytes);
	world_close(&w);
}

static void test_a_commit_is_one_revision_that_tells_who_and_why(void)
{
	const struct mvcc_entry *entry = NULL;
	struct mvcc_log *log = NULL;
	struct ns_txn *t;
	struct world w;

	world_open(&w);
	t = begin_txn(&w, "import");
	for (int i = 0; i < 100; i++) {
		char name[32];

		snprintf(name, sizeof(name), "f%d", i);
		write_path(tree_of(t), name, name);
	}
	CU_ASSERT_EQUAL(ns_txn_set_message(t, slice_str("all of it\n")), 0);
	commit_ok(&w, t);
	CU_ASSERT_EQUAL_FATAL(mvcc_log_open(w.fx->db, now(&w), now(&w), &log), 0);
	CU_ASSERT_EQUAL_FATAL(mvcc_log_next(log, &entry), 1);
	CU_ASSERT_STRING_EQUAL(entry->story.op, "txn");
	CU_ASSERT_TRUE(slice_eq(entry->story.path, slice_str("/@txn/import")));
	CU_ASSERT_STRING_EQUAL(entry->story.message, "all of it");
	CU_ASSERT_EQUAL(entry->story.uid, 1000);
	CU_ASSERT_STRING_EQUAL(entry->story.comm, "test");
	mvcc_log_close(log);
	world_close(&w);
}

static void test_a_commit_of_nothing_is_no_revision(void)
{
	struct world w;
	struct ns_txn *t;
	mvcc_rev_t rev = 0;

	world_open(&w);
	write_path(w.ns, "f", "x");
	t = begin_txn(&w, "t");
	assert_text(tree_of(t), "f", "x");
	CU_ASSERT_EQUAL(ns_txn_commit(t, &me, &rev), 0);
	CU_ASSERT_EQUAL(rev, now(&w));
	CU_ASSERT_EQUAL(now(&w), 2);
	ns_txn_unref(t);
	world_close(&w);
}

static void test_what_a_close_has_promised_is_in_the_base(void)
{
	struct ns_file *f = NULL, *g = NULL;
	struct ns_txn *t;
	struct world w;

	world_open(&w);
	CU_ASSERT_EQUAL(create_path(w.ns, "empty", &f), 0);
	CU_ASSERT_EQUAL(ns_file_flush(f), 0); /* closed; the release is on its way */
	CU_ASSERT_EQUAL(create_path(w.ns, "open", &g), 0);
	t = begin_txn(&w, "t");
	assert_text(tree_of(t), "empty", "");
	assert_text(tree_of(t), "open", NULL);
	abort_ok(t);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	done(g);
	world_close(&w);
}

/* ---- names of transactions ----------------------------------------------------------------------- */

static void test_a_name_is_taken_as_long_as_it_is_open(void)
{
	struct ns_txn *t, *found = NULL, **list = NULL;
	struct world w;
	size_t n = 0;

	world_open(&w);
	t = begin_txn(&w, "b");
	CU_ASSERT_EQUAL(ns_txn_begin(w.txns, slice_str("b"), &me, NULL), -EEXIST);
	CU_ASSERT_EQUAL(ns_txn_begin(w.txns, slice_str("@commit"), &me, NULL), -EPERM);
	CU_ASSERT_EQUAL(ns_txn_begin(w.txns, slice_str("a/b"), &me, NULL), -EINVAL);
	CU_ASSERT_EQUAL(ns_txn_begin(w.txns, slice_str(".."), &me, NULL), -EINVAL);
	CU_ASSERT_EQUAL(ns_txn_begin(w.txns, slice_str(""), &me, NULL), -EINVAL);
	CU_ASSERT_EQUAL(ns_txn_begin(w.txns, slice_str("c"), &me, NULL), 0);
	CU_ASSERT_EQUAL(ns_txn_begin(w.txns, slice_str("a"), &me, NULL), 0);
	CU_ASSERT_EQUAL(ns_txns_list(w.txns, &list, &n), 0);
	CU_ASSERT_EQUAL_FATAL(n, 3);
	for (size_t i = 0; i < n; i++) {
		struct ns_txn_info info;

		ns_txn_info(list[i], &info);
		CU_ASSERT_TRUE(slice_eq(info.name, slice_of(&"abc"[i], 1)));
		CU_ASSERT_EQUAL(info.uid, 1000);
		CU_ASSERT_EQUAL(info.base, now(&w));
		ns_txn_unref(list[i]);
	}
	free(list);
	CU_ASSERT_EQUAL(ns_txn_may(t, 0), 0);
	CU_ASSERT_EQUAL(ns_txn_may(t, 1000), 0);
	CU_ASSERT_EQUAL(ns_txn_may(t, 1001), -EPERM);
	abort_ok(t);
	CU_ASSERT_EQUAL(ns_txn_find(w.txns, slice_str("b"), &found), -ENOENT);
	CU_ASSERT_EQUAL(ns_txn_find(w.txns, slice_str("a"), &found), 0);
	ns_txn_unref(found);
	t = begin_txn(&w, "b");
	ns_txn_unref(t);
	world_close(&w); /* which aborts those that are open */
}

static void test_there_are_only_so_many(void)
{
	struct world w;
	char name[32];

	world_open(&w);
	for (unsigned i = 0; i < NS_TXNS_MAX; i++) {
		snprintf(name, sizeof(name), "t%u", i);
		CU_ASSERT_EQUAL(ns_txn_begin(w.txns, slice_str(name), &me, NULL), 0);
	}
	CU_ASSERT_EQUAL(ns_txn_begin(w.txns, slice_str("more"), &me, NULL), -EMLINK);
	world_close(&w);
}

/* ---- files that are open -------------------------------------------------------------------------- */

static void test_an_unlinked_open_file_lives_on_in_its_transaction(void)
{
	enum { SIZE = 3 << 20 };
	char *bytes = calloc(1, SIZE), *got = calloc(1, SIZE);
	struct ns_file *small = NULL, *large = NULL, *fresh = NULL;
	struct ns_attr attr;
	struct ns_txn *t;
	struct world w;
	struct ns *ns;

	for (size_t i = 0; i < SIZE; i++)
		bytes[i] = (char)(i * 7 >> 3);
	world_open(&w);
	write_path(w.ns, "small", "small");
	CU_ASSERT_EQUAL(create_path(w.ns, "large", &large), 0);
	CU_ASSERT_EQUAL(ns_file_write(large, &me, 0, bytes, SIZE), 0);
	done(large);
	CU_ASSERT_EQUAL(setxattr_path(w.ns, "large", "user.a", "1"), 0);
	t = begin_txn(&w, "t");
	ns = tree_of(t);
	CU_ASSERT_EQUAL(open_path(ns, "small", NS_OPEN_WRITE, &small), 0);
	CU_ASSERT_EQUAL(open_path(ns, "large", NS_OPEN_WRITE, &large), 0);
	CU_ASSERT_EQUAL(create_path(ns, "fresh", &fresh), 0);
	CU_ASSERT_EQUAL(ns_file_write(fresh, &me, 0, "fresh", 5), 0);
	CU_ASSERT_EQUAL(ns_file_write(large, &me, 5, "XXX", 3), 0);
	memset(bytes + 5, 'X', 3);
	CU_ASSERT_EQUAL(stat_path(ns, "large", &attr), 0);
	CU_ASSERT_EQUAL(remove_path(ns, "small", false), 0);
	CU_ASSERT_EQUAL(rename_path(ns, "fresh", "large", 0), 0);
	CU_ASSERT_EQUAL(remove_path(ns, "large", false), 0);
	assert_names(ns, "", "");
	assert_content(small, "small");
	assert_content(fresh, "fresh");
	CU_ASSERT_EQUAL(ns_file_read(large, 0, got, SIZE), SIZE);
	CU_ASSERT_EQUAL(memcmp(got, bytes, SIZE), 0);
	CU_ASSERT_EQUAL(ns_getattr(ns, attr.ino, &attr), 0);
	CU_ASSERT_EQUAL(attr.nlink, 0);
	CU_ASSERT_EQUAL(attr.size, SIZE);
	CU_ASSERT_EQUAL(ns_file_write(large, &me, SIZE / 2, "YYY", 3), 0);
	memset(bytes + SIZE / 2, 'Y', 3);
	CU_ASSERT_EQUAL(ns_file_flush(large), 0);
	/* A failing commit keeps all of it; a commit has nothing of it. */
	CU_ASSERT_EQUAL(ns_file_read(large, 0, got, SIZE), SIZE);
	CU_ASSERT_EQUAL(memcmp(got, bytes, SIZE), 0);
	CU_ASSERT_EQUAL(ns_file_close(small), 0);
	CU_ASSERT_EQUAL(ns_txn_commit(t, &me, NULL), 0);
	assert_names(w.ns, "", "");
	CU_ASSERT_EQUAL(ns_file_read(large, 0, got, SIZE), -ESTALE);
	CU_ASSERT_PTR_NOT_NULL(ns_txn_enter_ended(t));
	CU_ASSERT_EQUAL(ns_file_close(large), 0);
	CU_ASSERT_EQUAL(ns_file_close(fresh), 0);
	ns_txn_leave(t);
	ns_txn_unref(t);
	free(bytes);
	free(got);
	world_close(&w);
}

static void test_what_is_open_at_the_commit_is_part_of_it_and_stale_after(void)
{
	struct ns_file *f = NULL, *g = NULL;
	struct ns_txn *t;
	struct world w;
	uint64_t at;

	world_open(&w);
	write_path(w.ns, "old", "old");
	t = begin_txn(&w, "t");
	CU_ASSERT_EQUAL(create_path(tree_of(t), "new", &f), 0);
	CU_ASSERT_EQUAL(ns_file_write(f, &me, 0, "so far", 6), 0);
	CU_ASSERT_EQUAL(open_path(tree_of(t), "old", NS_OPEN_WRITE, &g), 0);
	commit_ok(&w, (ns_txn_ref(t), t));
	assert_text(w.ns, "new", "so far");
	CU_ASSERT_EQUAL(ns_file_write(f, &me, 6, "more", 4), -ESTALE);
	CU_ASSERT_EQUAL(ns_file_read(g, 0, &at, 1), -ESTALE);
	CU_ASSERT_EQUAL(ns_file_seek(g, 0, SEEK_DATA, &at), -ESTALE);
	CU_ASSERT_EQUAL(ns_file_allocate(g, &me, 0, 0, 100), -ESTALE);
	CU_ASSERT_EQUAL(ns_file_flush(f), 0);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	CU_ASSERT_EQUAL(ns_file_close(g), 0);
	ns_txn_unref(t);
	assert_text(w.ns, "new", "so far");
	world_close(&w);
}

static void test_a_file_larger_than_memory_allows_is_one_revision(void)
{
	enum { CHUNK = 1 << 20, CHUNKS = 40 };
	char *bytes = calloc(1, CHUNK);
	struct ns_stats stats;
	struct ns_file *f = NULL;
	struct ns_attr attr;
	struct ns_txn *t;
	struct world w;
	uint64_t most = 0;

	world_open(&w);
	t = begin_txn(&w, "t");
	CU_ASSERT_EQUAL(create_path(tree_of(t), "big", &f), 0);
	for (unsigned i = 0; i < CHUNKS; i++) {
		memset(bytes, (int)i, CHUNK);
		CU_ASSERT_EQUAL(ns_file_write(f, &me, (uint64_t)i * CHUNK, bytes, CHUNK), 0);
		ns_stats(tree_of(t), &stats);
		most = stats.dirty_bytes > most ? stats.dirty_bytes : most;
	}
	CU_ASSERT_TRUE(most <= (size_t)8 << 20);
	done(f);
	commit_ok(&w, t);
	CU_ASSERT_EQUAL(stat_path(w.ns, "big", &attr), 0);
	CU_ASSERT_EQUAL(attr.size, (uint64_t)CHUNK * CHUNKS);
	CU_ASSERT_EQUAL(open_path(w.ns, "big", NS_OPEN_READ, &f), 0);
	for (unsigned i = 0; i < CHUNKS; i++) {
		CU_ASSERT_EQUAL(ns_file_read(f, (uint64_t)i * CHUNK, bytes, CHUNK), CHUNK);
		CU_ASSERT_EQUAL(bytes[0], (char)i);
		CU_ASSERT_EQUAL(bytes[CHUNK - 1], (char)i);
	}
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	free(bytes);
	world_close(&w);
}

/* ---- conflicts ------------------------------------------------------------------------------------ */

static void test_a_file_that_both_wrote_conflicts_and_the_transaction_stays(void)
{
	struct ns_txn *t;
	struct world w;

	world_open(&w);
	CU_ASSERT_EQUAL(mkdir_path(w.ns, "d"), 0);
	write_path(w.ns, "d/f", "0");
	t = begin_txn(&w, "t");
	write_path(tree_of(t), "d/f", "of t");
	write_path(tree_of(t), "d/other", "of t");
	write_path(w.ns, "d/f", "live");
	commit_conflicts(&w, t, "/d/f\n");
	commit_conflicts(&w, t, "/d/f\n");
	assert_text(w.ns, "d/f", "live");
	assert_text(tree_of(t), "d/f", "of t"); /* to be looked at, and taken out */
	assert_text(tree_of(t), "d/other", "of t");
	write_path(tree_of(t), "d/more", "it goes on");
	assert_names(tree_of(t), "d", "f more other ");
	commit_conflicts(&w, t, "/d/f\n");
	abort_ok(t);
	assert_names(w.ns, "d", "f ");
	world_close(&w);
}

static void test_names_conflict_and_different_names_do_not(void)
{
	struct ns_txn *t, *u;
	struct ns_attr attr;
	struct world w;

	world_open(&w);
	CU_ASSERT_EQUAL(mkdir_path(w.ns, "d"), 0);
	t = begin_txn(&w, "t");
	u = begin_txn(&w, "u");
	write_path(tree_of(t), "d/a", "a");
	CU_ASSERT_EQUAL(mkdir_path(tree_of(t), "d/sub"), 0);
	write_path(tree_of(u), "d/b", "b");
	CU_ASSERT_EQUAL(mkdir_path(tree_of(u), "d/sub2"), 0);
	CU_ASSERT_EQUAL(stat_path(tree_of(u), "d", &attr), 0);
	CU_ASSERT_EQUAL(attr.nlink, 3);
	write_path(w.ns, "d/c", "c");
	commit_ok(&w, t);
	commit_ok(&w, u);
	assert_names(w.ns, "d", "a b c sub sub2 ");
	CU_ASSERT_EQUAL(stat_path(w.ns, "d", &attr), 0);
	CU_ASSERT_EQUAL(attr.nlink, 4);
	t = begin_txn(&w, "t");
	write_path(tree_of(t), "d/new\tname", "t");
	write_path(w.ns, "d/new\tname", "live");
	commit_conflicts(&w, t, "/d/new\\tname\n");
	abort_ok(t);
	world_close(&w);
}

static void test_what_was_read_must_still_hold_but_not_what_was_only_seen(void)
{
	struct ns_attr attr;
	struct ns_txn *t;
	struct world w;

	world_open(&w);
	write_path(w.ns, "counter", "1");
	write_path(w.ns, "seen", "1");
	t = begin_txn(&w, "t");
	assert_text(tree_of(t), "counter", "1");
	CU_ASSERT_EQUAL(stat_path(tree_of(t), "seen", &attr), 0);
	assert_names(tree_of(t), "", "counter seen ");
	write_path(tree_of(t), "result", "2");
	write_path(w.ns, "seen", "2");
	write_path(w.ns, "unseen", "2");
	write_path(w.ns, "counter", "5");
	commit_conflicts(&w, t, "/counter\n");
	abort_ok(t);
	t = begin_txn(&w, "t");
	assert_text(tree_of(t), "counter", "5");
	CU_ASSERT_EQUAL(stat_path(tree_of(t), "seen", &attr), 0);
	write_path(tree_of(t), "result", "6");
	write_path(w.ns, "seen", "3");
	commit_ok(&w, t);
	assert_text(w.ns, "result", "6");
	world_close(&w);
}

static void test_a_directory_that_was_removed_or_filled_meanwhile_conflicts(void)
{
	struct ns_txn *t;
	struct world w;

	world_open(&w);
	CU_ASSERT_EQUAL(mkdir_path(w.ns, "gone"), 0);
	CU_ASSERT_EQUAL(mkdir_path(w.ns, "empty"), 0);
	t = begin_txn(&w, "t");
	write_path(tree_of(t), "gone/f", "f");
	CU_ASSERT_EQUAL(remove_path(w.ns, "gone", true), 0);
	commit_conflicts(&w, t, "/gone\n");
	abort_ok(t);
	t = begin_txn(&w, "t");
	CU_ASSERT_EQUAL(remove_path(tree_of(t), "empty", true), 0);
	write_path(w.ns, "empty/f", "f");
	CU_ASSERT_EQUAL(ns_txn_commit(t, &me, NULL), MVCC_ECONFLICT);
	abort_ok(t);
	assert_text(w.ns, "empty/f", "f");
	world_close(&w);
}

static void test_a_live_file_being_written_conflicts_at_its_settling(void)
{
	struct ns_file *f = NULL;
	struct ns_txn *t;
	struct world w;

	world_open(&w);
	write_path(w.ns, "f", "0");
	t = begin_txn(&w, "t");
	append_path(tree_of(t), "f", "t");
	CU_ASSERT_EQUAL(open_path(w.ns, "f", NS_OPEN_WRITE, &f), 0);
	CU_ASSERT_EQUAL(ns_file_write(f, &me, 1, "live", 4), 0);
	CU_ASSERT_EQUAL(ns_txn_commit(t, &me, NULL), MVCC_ECONFLICT);
	assert_content(f, "0live");
	done(f);
	assert_text(w.ns, "f", "0live");
	abort_ok(t);
	world_close(&w);
}

static void test_directories_times_are_set_whatever_others_make_in_them(void)
{
	struct ns_attr before, attr;
	struct ns_txn *t;
	struct world w;

	world_open(&w);
	CU_ASSERT_EQUAL(mkdir_path(w.ns, "d"), 0);
	CU_ASSERT_EQUAL(mkdir_path(w.ns, "d/one"), 0);
	t = begin_txn(&w, "t");
	CU_ASSERT_EQUAL(stat_path(tree_of(t), "d", &before), 0);
	CU_ASSERT_EQUAL(before.nlink, 3);
	CU_ASSERT_EQUAL(mkdir_path(tree_of(t), "d/two"), 0);
	CU_ASSERT_EQUAL(stat_path(tree_of(t), "d", &attr), 0);
	CU_ASSERT_EQUAL(attr.nlink, 4);
	CU_ASSERT_TRUE(attr.mtime_ns > before.mtime_ns);
	CU_ASSERT_EQUAL(utimens_path(tree_of(t), "d", 1000), 0);
	CU_ASSERT_EQUAL(mkdir_path(w.ns, "d/three"), 0);
	/* A commit that fails applies nothing twice. */
	write_path(w.ns, "clash", "live");
	write_path(tree_of(t), "clash", "t");
	CU_ASSERT_EQUAL(ns_txn_commit(t, &me, NULL), MVCC_ECONFLICT);
	CU_ASSERT_EQUAL(stat_path(tree_of(t), "d", &attr), 0);
	CU_ASSERT_EQUAL(attr.nlink, 4);
	CU_ASSERT_EQUAL(attr.mtime_ns, 1000);
	abort_ok(t);

	t = begin_txn(&w, "t");
	CU_ASSERT_EQUAL(mkdir_path(tree_of(t), "d/two"), 0);
	CU_ASSERT_EQUAL(utimens_path(tree_of(t), "d", 1000), 0);
	CU_ASSERT_EQUAL(remove_path(w.ns, "d/one", true), 0);
	commit_ok(&w, t);
	CU_ASSERT_EQUAL(stat_path(w.ns, "d", &attr), 0);
	CU_ASSERT_EQUAL(attr.nlink, 4); /* two, three */
	CU_ASSERT_EQUAL(attr.mtime_ns, 1000);
	assert_names(w.ns, "d", "three two ");

	/* A directory's own row changes: then times made before are in it, and later ones on top. */
	t = begin_txn(&w, "t");
	CU_ASSERT_EQUAL(mkdir_path(tree_of(t), "d/four"), 0);
	CU_ASSERT_EQUAL(chmod_path(tree_of(t), "d", 0700), 0);
	CU_ASSERT_EQUAL(rename_path(tree_of(t), "d", "e", 0), 0);
	CU_ASSERT_EQUAL(mkdir_path(tree_of(t), "e/five"), 0);
	CU_ASSERT_EQUAL(stat_path(tree_of(t), "e", &before), 0);
	CU_ASSERT_EQUAL(before.nlink, 6);
	commit_ok(&w, t);
	CU_ASSERT_EQUAL(stat_path(w.ns, "e", &attr), 0);
	CU_ASSERT_EQUAL(attr.nlink, 6);
	CU_ASSERT_EQUAL(attr.mtime_ns, before.mtime_ns);
	CU_ASSERT_EQUAL(attr.mode, S_IFDIR | 0700);
	world_close(&w);
}

static void test_moving_a_directory_conflicts_with_another_move_only(void)
{
	struct ns_txn *t, *u;
	struct world w;

	world_open(&w);
	CU_ASSERT_EQUAL(mkdir_path(w.ns, "a"), 0);
	CU_ASSERT_EQUAL(mkdir_path(w.ns, "b"), 0);
	CU_ASSERT_EQUAL(mkdir_path(w.ns, "b/c"), 0);
	t = begin_txn(&w, "t");
	u = begin_txn(&w, "u");
	CU_ASSERT_EQUAL(rename_path(tree_of(t), "a", "b/c/a", 0), 0);
	CU_ASSERT_EQUAL(rename_path(tree_of(u), "b", "a/b", 0), 0);
	CU_ASSERT_EQUAL(rename_path(tree_of(t), "b", "b/c/a/b", 0), -EINVAL);
	write_path(w.ns, "b/c/f", "made meanwhile");
	commit_ok(&w, t);
	CU_ASSERT_EQUAL(ns_txn_commit(u, &me, NULL), MVCC_ECONFLICT);
	abort_ok(u);
	assert_names(w.ns, "b/c", "a f ");
	world_close(&w);
}

/* ---- everything, as in the live tree --------------------------------------------------------------- */

/* A line for each thing in the tree: path, type, mode, links, size, xattr, content. */
static void dump(struct ns *ns, uint64_t ino, const char *path, struct buf *out, uint64_t *numbers,
		 unsigned *n)
{
	struct buf more = { 0 };
	struct ns_dirent entry;
	struct ns_attr attr;
	struct ns_dir *d = NULL;
	struct ns_file *f = NULL;
	char line[512], child[256];
	unsigned same = 0;

	CU_ASSERT_EQUAL_FATAL(ns_getattr(ns, ino, &attr), 0);
	while (same < *n && numbers[same] != ino)
		same++;
	if (same == *n)
		numbers[(*n)++] = ino;
	snprintf(line, sizeof(line), "%s #%u %o %llu %llu %lld", path, same, attr.mode,
		 (unsigned long long)attr.nlink, (unsigned long long)(S_ISDIR(attr.mode) ? 0 : attr.size),
		 attr.mtime_ns < 1000000 ? (long long)attr.mtime_ns : -1);
	CU_ASSERT_EQUAL(buf_put_slice(out, slice_str(line)), 0);
	if (ns_getxattr(ns, ino, "user.x", &more) == 0) {
		CU_ASSERT_EQUAL(buf_put_u8(out, ' '), 0);
		CU_ASSERT_EQUAL(buf_put_slice(out, slice_buf(&more)), 0);
	}
	if (S_ISREG(attr.mode)) {
		char text[600];
		uint64_t sum = 0;
		ssize_t got;

		CU_ASSERT_EQUAL_FATAL(ns_file_open(ns, &me, ino, NS_OPEN_READ, not_gone, &f), 0);
		for (uint64_t off = 0; (got = ns_file_read(f, off, text, sizeof(text))) > 0;
		     off += (uint64_t)got)
			for (ssize_t i = 0; i < got; i++)
				sum = sum * 31 + (uint8_t)text[i];
		CU_ASSERT_EQUAL(got, 0);
		CU_ASSERT_EQUAL(ns_file_close(f), 0);
		snprintf(text, sizeof(text), " sum %llx", (unsigned long long)sum);
		CU_ASSERT_EQUAL(buf_put_slice(out, slice_str(text)), 0);
	} else if (S_ISLNK(attr.mode)) {
		CU_ASSERT_EQUAL(ns_readlink(ns, ino, &more), 0);
		CU_ASSERT_EQUAL(buf_put_slice(out, slice_buf(&more)), 0);
	}
	CU_ASSERT_EQUAL(buf_put_u8(out, '\n'), 0);
	buf_release(&more);
	if (!S_ISDIR(attr.mode))
		return;
	CU_ASSERT_EQUAL_FATAL(ns_opendir(ns, ino, &d), 0);
	for (uint64_t pos = 0; ns_dir_read(d, pos, &entry) == 1; pos++) {
		snprintf(child, sizeof(child), "%.200s/%.*s", path, (int)entry.name.len,
			 (const char *)entry.name.data);
		dump(ns, entry.ino, child, out, numbers, n);
	}
	ns_dir_close(d);
}

static void dump_tree(struct ns *ns, struct buf *out)
{
	uint64_t numbers[4096];
	unsigned n = 0;

	buf_clear(out);
	dump(ns, NS_ROOT, "", out, numbers, &n);
}

static void assert_same_trees(struct ns *a, struct ns *b)
{
	struct buf x = { 0 }, y = { 0 };

	dump_tree(a, &x);
	dump_tree(b, &y);
	CU_ASSERT_TRUE(slice_eq(slice_buf(&x), slice_buf(&y)));
	if (!slice_eq(slice_buf(&x), slice_buf(&y)))
		printf("\n%.*s---\n%.*s", (int)x.len, (const char *)x.data, (int)y.len, (const char *)y.data);
	buf_release(&x);
	buf_release(&y);
}

static void random_path(uint64_t *seed, char out[64])
{
	static const char *const names[] = { "a", "b", "c", "d" };
	unsigned depth = 1 + (unsigned)random_below(seed, 3);

	out[0] = '\0';
	for (unsigned i = 0; i < depth; i++) {
		if (i)
			strcat(out, "/");
		strcat(out, names[random_below(seed, 4)]);
	}
}

struct open_files {
	struct ns_file *f[8];
};

static void close_one(struct open_files *o, unsigned i)
{
	if (o->f[i]) {
		ns_file_flush(o->f[i]);
		ns_file_close(o->f[i]);
	}
	o->f[i] = NULL;
}

static int open_one(struct ns *ns, struct open_files *o, unsigned i, const char *path, unsigned flags)
{
	int err;

	close_one(o, i);
	err = open_path(ns, path, flags, &o->f[i]);
	if (err == -ENOENT)
		err = create_path(ns, path, &o->f[i]);
	if (err)
		o->f[i] = NULL;
	return err;
}

static int write_one(struct open_files *o, unsigned i, uint64_t off, size_t len, uint8_t fill)
{
	char *bytes;
	int err;

	if (!o->f[i])
		return -EBADF;
	bytes = malloc(len);
	memset(bytes, fill, len);
	err = ns_file_write(o->f[i], &me, off, bytes, len);
	free(bytes);
	return err;
}

static uint64_t read_one(struct open_files *o, unsigned i)
{
	uint8_t bytes[1000];
	uint64_t sum = 0;
	ssize_t got;

	if (!o->f[i])
		return 0;
	for (uint64_t off = 0; (got = ns_file_read(o->f[i], off, bytes, sizeof(bytes))) > 0;
	     off += (uint64_t)got)
		for (ssize_t k = 0; k < got; k++)
			sum = sum * 31 + bytes[k];
	return sum + (uint64_t)got;
}

static int truncate_path(struct ns *ns, const char *path, uint64_t size)
{
	struct ns_attr set = { .size = size }, attr;
	int err = stat_path(ns, path, &attr);

	return err ? err : ns_setattr(ns, &me, attr.ino, &set, NS_SET_SIZE, false, &attr);
}

static int symlink_path(struct ns *ns, const char *path, const char *target)
{
	struct ns_attr attr;
	struct slice name;
	uint64_t dir;
	int err = find_parent(ns, path, &dir, &name);

	return err ? err : ns_symlink(ns, &me, dir, name, slice_str(target), &attr);
}

/* One operation, the same one for the same seed, of whatever tree. What it says. */
static int random_op(struct ns *ns, struct open_files *o, uint64_t seed)
{
	unsigned what = (unsigned)random_below(&seed, 20), i = (unsigned)random_below(&seed, 8);
	uint64_t off = random_below(&seed, 3) ? random_below(&seed, 3000) : random_below(&seed, 600000);
	size_t len = 1 + (size_t)(random_below(&seed, 4) ? random_below(&seed, 2000) :
							   random_below(&seed, 400000));
	char path[64], other[64], text[32];

	random_path(&seed, path);
	random_path(&seed, other);
	snprintf(text, sizeof(text), "v%llu", (unsigned long long)random_below(&seed, 1000));
	switch (what) {
	case 0:
	case 1:
	case 2:
		return mkdir_path(ns, path);
	case 3:
		return try_write_path(ns, path, text);
	case 4:
		return remove_path(ns, path, false);
	case 5:
		return remove_path(ns, path, true);
	case 6:
	case 7:
		return rename_path(ns, path, other, 0);
	case 8:
		return rename_path(ns, path, other, RENAME_EXCHANGE);
	case 9:
		return link_path(ns, path, other);
	case 10:
		return chmod_path(ns, path, (uint32_t)random_below(&seed, 4) << 6);
	case 11:
		return utimens_path(ns, path, (int64_t)random_below(&seed, 1000));
	case 12:
		return setxattr_path(ns, path, "user.x", text);
	case 13:
		return truncate_path(ns, path, off);
	case 14:
		return symlink_path(ns, path, text);
	case 15:
		return open_one(ns, o, i, path, NS_OPEN_WRITE | (off & 1 ? NS_OPEN_TRUNC : 0));
	case 16:
		close_one(o, i);
		return 0;
	case 17:
		return (int)(read_one(o, i) & 0x7fffffff);
	default:
		return write_one(o, i, off, len, (uint8_t)len);
	}
}

static void check_model(uint64_t seed, unsigned ops)
{
	struct open_files plain = { 0 }, bound = { 0 };
	struct world a, b;
	struct ns_txn *t;
	unsigned wrong = 0;

	world_open(&a);
	world_open(&b);
	/* A part of the history is in the base. */
	for (unsigned i = 0; i < ops; i++) {
		random_op(a.ns, &plain, seed + i);
		random_op(b.ns, &bound, seed + i);
	}
	for (unsigned i = 0; i < 8; i++) {
		close_one(&plain, i);
		close_one(&bound, i);
	}
	t = begin_txn(&b, "t");
	for (unsigned i = ops; i < 3 * ops && !wrong; i++) {
		int x = random_op(a.ns, &plain, seed + i), y = random_op(tree_of(t), &bound, seed + i);

		wrong += x != y;
		if (wrong)
			printf("\nseed %llu: operation %u: %d, in a transaction %d\n",
			       (unsigned long long)seed, i, x, y);
		if (i % 64 == 0)
			assert_same_trees(a.ns, tree_of(t));
	}
	CU_ASSERT_EQUAL(wrong, 0);
	assert_same_trees(a.ns, tree_of(t));
	CU_ASSERT_EQUAL(ns_txn_commit(t, &me, NULL), 0);
	assert_same_trees(a.ns, b.ns);
	for (unsigned i = 0; i < 8; i++) {
		close_one(&plain, i);
		close_one(&bound, i);
	}
	assert_same_trees(a.ns, b.ns);
	ns_txn_unref(t);
	world_close(&a);
	world_close(&b);
}

static void test_random_operations_do_in_a_transaction_what_they_do_live(void)
{
	for (uint64_t seed = 1; seed <= 12; seed++)
		check_model(seed * 1000003, (unsigned)fixture_env("TXN_OPS", 400));
}

static void test_a_directory_may_be_emptied_while_it_is_read(void)
{
	struct ns_dirent entry;
	struct ns_dir *d = NULL;
	struct ns_txn *t;
	struct world w;
	char name[32];
	unsigned n = 0;

	world_open(&w);
	t = begin_txn(&w, "t");
	for (unsigned i = 0; i < 600; i++) {
		snprintf(name, sizeof(name), "f%03u", i);
		write_path(tree_of(t), name, "x");
	}
	CU_ASSERT_EQUAL_FATAL(ns_opendir(tree_of(t), NS_ROOT, &d), 0);
	for (uint64_t pos = 0; ns_dir_read(d, pos, &entry) == 1; pos++, n++) {
		snprintf(name, sizeof(name), "%.*s", (int)entry.name.len, (const char *)entry.name.data);
		CU_ASSERT_EQUAL(remove_path(tree_of(t), name, false), 0);
		ns_dir_pause(d);
	}
	CU_ASSERT_EQUAL(n, 600);
	CU_ASSERT_EQUAL(ns_dir_read(d, 300, &entry), 1);
	CU_ASSERT_TRUE(slice_eq(entry.name, slice_str("f300")));
	ns_dir_close(d);
	assert_names(tree_of(t), "", "");
	abort_ok(t);
	world_close(&w);
}

/* ---- many at a time ------------------------------------------------------------------------------ */

enum { THREADS = 4, ROUNDS = 25 };

struct worker {
	struct world *w;
	unsigned id;
	unsigned conflicts, errors; /* CUnit's assertions are not for threads */
};

/* What a shell does with "echo $(( $(cat f) + 1 )) > f". */
static int increment(struct ns *ns, const char *path)
{
	struct ns_file *f = NULL;
	char text[32] = "";
	int err = open_path(ns, path, NS_OPEN_READ, &f);

	if (err)
		return err;
	if (ns_file_read(f, 0, text, sizeof(text) - 1) < 0)
		err = -EIO;
	ns_file_close(f);
	snprintf(text, sizeof(text), "%ld", strtol(text, NULL, 10) + 1);
	return err ? err : try_write_path(ns, path, text);
}

static int add_in_txn(struct worker *w, unsigned round)
{
	struct ns_txn *t = NULL;
	char name[32];
	struct ns *ns;
	int err;

	snprintf(name, sizeof(name), "w%u", w->id);
	err = ns_txn_begin(w->w->txns, slice_str(name), &me, &t);
	if (err)
		return err;
	ns = ns_txn_enter(t);
	err = increment(ns, "counter");
	snprintf(name, sizeof(name), "dir/%u-%u", w->id, round);
	if (!err)
		err = try_write_path(ns, name, "x");
	ns_txn_leave(t);
	if (!err)
		err = ns_txn_commit(t, &me, NULL);
	if (err)
		ns_txn_abort(t);
	ns_txn_unref(t);
	return err;
}

static void *add_busily(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < ROUNDS; i++) {
		int err;

		while ((err = add_in_txn(w, i)) == MVCC_ECONFLICT)
			w->conflicts++;
		w->errors += err != 0;
	}
	return NULL;
}

/* Beside them, the live tree: names of its own in the same directory, and a file that nobody else has. */
static void *write_live(void *arg)
{
	struct worker *w = arg;
	char name[32];

	for (unsigned i = 0; i < ROUNDS; i++) {
		snprintf(name, sizeof(name), "dir/live-%u", i);
		w->errors += try_write_path(w->w->ns, name, "x") != 0;
		w->errors += increment(w->w->ns, "live") != 0;
	}
	return NULL;
}

static void test_counters_lose_nothing_between_transactions_and_the_live_tree(void)
{
	struct worker workers[THREADS + 1];
	pthread_t threads[THREADS + 1];
	struct ns_attr attr;
	struct world w;
	char text[32];

	world_open(&w);
	CU_ASSERT_EQUAL(mkdir_path(w.ns, "dir"), 0);
	write_path(w.ns, "counter", "0");
	write_path(w.ns, "live", "0");
	for (unsigned i = 0; i <= THREADS; i++) {
		workers[i] = (struct worker){ &w, i, 0, 0 };
		CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, i < THREADS ? add_busily : write_live,
						     &workers[i]),
				      0);
	}
	for (unsigned i = 0; i <= THREADS; i++) {
		pthread_join(threads[i], NULL);
		CU_ASSERT_EQUAL(workers[i].errors, 0);
	}
	snprintf(text, sizeof(text), "%d", THREADS * ROUNDS);
	assert_text(w.ns, "counter", text);
	snprintf(text, sizeof(text), "%d", ROUNDS);
	assert_text(w.ns, "live", text);
	for (unsigned i = 0; i < THREADS * ROUNDS; i++) {
		snprintf(text, sizeof(text), "dir/%u-%u", i / ROUNDS, i % ROUNDS);
		CU_ASSERT_EQUAL(stat_path(w.ns, text, &attr), 0);
	}
	world_close(&w);
}

/* ---- leases ---------------------------------------------------------------------------------------- */

static void test_a_time_to_live_is_given_with_the_commit(void)
{
	const struct mvcc_story story = { .op = "lease" };
	struct mvcc_lease lease;
	struct ns_attr attr;
	struct ns_txn *t;
	struct world w;

	world_open(&w);
	write_path(w.ns, "f", "x");
	t = begin_txn(&w, "t");
	CU_ASSERT_EQUAL(stat_path(tree_of(t), "f", &attr), 0);
	CU_ASSERT_EQUAL(ns_set_ttl(tree_of(t), &me, attr.ino, 3600), 0);
	CU_ASSERT_EQUAL(ns_get_lease(tree_of(t), attr.ino, &lease), 0);
	CU_ASSERT_EQUAL(lease.ttl_ms, 3600 * 1000);
	CU_ASSERT_EQUAL(ns_get_lease(w.ns, attr.ino, &lease), -ENODATA);
	append_path(tree_of(t), "f", "y");
	commit_ok(&w, t);
	CU_ASSERT_EQUAL(ns_get_lease(w.ns, attr.ino, &lease), 0);
	assert_text(w.ns, "f", "xy");
	/* And one that ends before the commit takes the file, which then is a conflict. */
	t = begin_txn(&w, "t");
	append_path(tree_of(t), "f", "z");
	CU_ASSERT_EQUAL(mvcc_lease_revoke(w.fx->db, lease.id, &story, NULL), 0);
	CU_ASSERT_EQUAL(ns_txn_commit(t, &me, NULL), MVCC_ECONFLICT);
	abort_ok(t);
	assert_text(w.ns, "f", NULL);
	world_close(&w);
}

/* ---- no room -------------------------------------------------------------------------------------- */

static void test_a_full_disk_leaves_the_transaction_to_be_aborted(void)
{
	enum { SIZE = 12 << 20 };
	char *bytes = calloc(1, SIZE);
	struct ns_options opt = { .commit_ms = 60000 };
	struct ns_file *f = NULL;
	struct statvfs st;
	struct ns_txn *t;
	struct world w;
	mvcc_rev_t rev;

	world_open(&w);
	write_path(w.ns, "old", "kept");
	ns_txns_free(w.txns);
	CU_ASSERT_EQUAL(ns_close(w.ns), 0);
	CU_ASSERT_EQUAL_FATAL(statvfs(w.fx->tmp, &st), 0);
	w.fx->opt.reserve_bytes = 2 * (uint64_t)st.f_bavail * st.f_frsize;
	fixture_reopen(w.fx);
	CU_ASSERT_EQUAL_FATAL(ns_open(w.fx->db, &opt, &w.ns), 0);
	CU_ASSERT_EQUAL_FATAL(ns_txns_new(w.ns, &w.txns), 0);
	rev = now(&w);

	t = begin_txn(&w, "t");
	CU_ASSERT_EQUAL(create_path(tree_of(t), "big", &f), 0);
	CU_ASSERT_EQUAL(ns_file_write(f, &me, 0, bytes, SIZE), -ENOSPC);
	CU_ASSERT_EQUAL(ns_file_flush(f), -ENOSPC);
	CU_ASSERT_EQUAL(ns_txn_commit(t, &me, NULL), -ENOSPC);
	CU_ASSERT_EQUAL(remove_path(tree_of(t), "big", false), 0);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	assert_names(tree_of(t), "", "old ");
	CU_ASSERT_EQUAL(remove_path(tree_of(t), "old", false), 0);
	CU_ASSERT_EQUAL(now(&w), rev);
	CU_ASSERT_EQUAL(ns_txn_commit(t, &me, NULL), 0); /* it frees */
	ns_txn_unref(t);
	assert_names(w.ns, "", "");
	free(bytes);
	world_close(&w);
}

static void on_memory(void)
{
	fixture_use(NULL);
}

static void on_rocks(void)
{
	static struct rocks_options rocks = { .cache_bytes = (size_t)8 << 20 };
	static struct engine_provider provider;

	provider = rocks_provider(&rocks);
	fixture_use(&provider);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_a_transaction_is_seen_by_nobody_and_sees_nobody),
	UNIT_TEST(test_an_abort_leaves_nothing),
	UNIT_TEST(test_a_commit_is_one_revision_that_tells_who_and_why),
	UNIT_TEST(test_a_commit_of_nothing_is_no_revision),
	UNIT_TEST(test_what_a_close_has_promised_is_in_the_base),
	UNIT_TEST(test_a_name_is_taken_as_long_as_it_is_open),
	UNIT_TEST(test_there_are_only_so_many),
	UNIT_TEST(test_an_unlinked_open_file_lives_on_in_its_transaction),
	UNIT_TEST(test_what_is_open_at_the_commit_is_part_of_it_and_stale_after),
	UNIT_TEST(test_a_file_larger_than_memory_allows_is_one_revision),
	UNIT_TEST(test_a_file_that_both_wrote_conflicts_and_the_transaction_stays),
	UNIT_TEST(test_names_conflict_and_different_names_do_not),
	UNIT_TEST(test_what_was_read_must_still_hold_but_not_what_was_only_seen),
	UNIT_TEST(test_a_directory_that_was_removed_or_filled_meanwhile_conflicts),
	UNIT_TEST(test_a_live_file_being_written_conflicts_at_its_settling),
	UNIT_TEST(test_directories_times_are_set_whatever_others_make_in_them),
	UNIT_TEST(test_moving_a_directory_conflicts_with_another_move_only),
	UNIT_TEST(test_random_operations_do_in_a_transaction_what_they_do_live),
	UNIT_TEST(test_a_directory_may_be_emptied_while_it_is_read),
	UNIT_TEST(test_counters_lose_nothing_between_transactions_and_the_live_tree),
	UNIT_TEST(test_a_time_to_live_is_given_with_the_commit),
	UNIT_TEST(test_a_full_disk_leaves_the_transaction_to_be_aborted),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("ns_txn on memory", on_memory, NULL, tests),
				  UNIT_SUITE("ns_txn on RocksDB", on_rocks, NULL, tests),
				  CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
