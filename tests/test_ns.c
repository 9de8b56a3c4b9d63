/*
 * The namespace without a mount: what makes a revision, what the live tree shows before one is made,
 * names, links, open files that lost their name, content against a plain array.
 */
#include "fs/ns.h"
#include "fs/ns_check.h"
#include "rocks_backend/rocks.h"

#include "tests/store_fixture.h"
#include "tests/unit.h"

#include <errno.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>

static const struct ns_who me = { .uid = 1000, .gid = 100, .pid = 42, .comm = "test" };
static const struct ns_who labelled = {
	.uid = 1000, .gid = 100, .pid = 44, .comm = "test", .session = "agent 7", .message = "to see"
};

struct tree {
	struct fixture *fx;
	struct ns *ns;
	struct ns_options opt;
};

static void tree_open(struct tree *t)
{
	t->fx = fixture_new();
	t->fx->opt.init = ns_init;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(t->fx), 0);
	t->opt = (struct ns_options){ .commit_ms = 60000 };
	CU_ASSERT_EQUAL_FATAL(ns_open(t->fx->db, &t->opt, &t->ns), 0);
}

static void tree_reopen(struct tree *t)
{
	CU_ASSERT_EQUAL(ns_close(t->ns), 0);
	fixture_reopen(t->fx);
	CU_ASSERT_EQUAL_FATAL(ns_open(t->fx->db, &t->opt, &t->ns), 0);
}

static int tell_problem(void *arg, const struct ns_problem *p)
{
	(void)arg;
	printf("\n    inode %llu: %s\n", (unsigned long long)p->ino, p->what);
	return 0;
}

/* Whatever a test did: the rows it left fit together. */
static void tree_check(struct tree *t)
{
	const struct ns_check_options opt = { .problem = tell_problem };
	struct mvcc_view *view;
	uint64_t problems;

	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(t->fx->db, MVCC_REV_LATEST, &view), 0);
	CU_ASSERT_EQUAL(ns_check(t->fx->db, view, &opt, &problems), 0);
	CU_ASSERT_EQUAL(problems, 0);
	mvcc_view_close(view);
}

static void tree_close(struct tree *t)
{
	CU_ASSERT_EQUAL(ns_close(t->ns), 0);
	tree_check(t);
	fixture_close(t->fx);
}

static mvcc_rev_t now(struct tree *t)
{
	return mvcc_current(t->fx->db);
}

static uint64_t mkdir_in(struct tree *t, uint64_t dir, const char *name)
{
	struct ns_attr attr = { 0 };

	CU_ASSERT_EQUAL(ns_mkdir(t->ns, &me, dir, slice_str(name), 0755, &attr), 0);
	return attr.ino;
}

static struct ns_file *create(struct tree *t, uint64_t dir, const char *name, uint64_t *ino)
{
	struct ns_file *f = NULL;
	struct ns_attr attr = { 0 };

	CU_ASSERT_EQUAL_FATAL(ns_create(t->ns, &me, dir, slice_str(name), 0644, &f, &attr), 0);
	if (ino)
		*ino = attr.ino;
	return f;
}

static void write_at(struct ns_file *f, uint64_t off, const char *text)
{
	CU_ASSERT_EQUAL(ns_file_write(f, &me, off, text, strlen(text)), 0);
}

/* close(2) and the release that follows it. */
static void done(struct ns_file *f)
{
	CU_ASSERT_EQUAL(ns_file_flush(f), 0);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
}

static uint64_t make_file(struct tree *t, uint64_t dir, const char *name, const char *text)
{
	uint64_t ino;
	struct ns_file *f = create(t, dir, name, &ino);

	write_at(f, 0, text);
	done(f);
	return ino;
}

static void assert_content(struct ns_file *f, const char *text)
{
	char got[256] = "";
	ssize_t n = ns_file_read(f, 0, got, sizeof(got) - 1);

	CU_ASSERT_EQUAL(n, (ssize_t)strlen(text));
	CU_ASSERT_STRING_EQUAL(got, text);
}

/* The content of a path at a revision; NULL: no such path. */
static void assert_at(struct tree *t, mvcc_rev_t rev, const char *path, const char *text)
{
	struct mvcc_view *view;
	char got[256] = "";
	uint64_t ino;
	int err;

	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(t->fx->db, rev, &view), 0);
	err = ns_at_walk(view, slice_str(path), &ino);
	if (!text) {
		CU_ASSERT_EQUAL(err, -ENOENT);
	} else {
		CU_ASSERT_EQUAL(err, 0);
		if (!err) {
			CU_ASSERT_EQUAL(ns_at_read(t->fx->db, view, ino, 0, got, sizeof(got) - 1),
					(ssize_t)strlen(text));
			CU_ASSERT_STRING_EQUAL(got, text);
		}
	}
	mvcc_view_close(view);
}

static void assert_absent(struct tree *t, uint64_t dir, const char *name)
{
	struct ns_attr attr;

	CU_ASSERT_EQUAL(ns_lookup(t->ns, dir, slice_str(name), &attr), -ENOENT);
}

static uint64_t ino_of(struct tree *t, uint64_t dir, const char *name)
{
	struct ns_attr attr = { 0 };

	CU_ASSERT_EQUAL(ns_lookup(t->ns, dir, slice_str(name), &attr), 0);
	return attr.ino;
}

static uint64_t nlink_of(struct tree *t, uint64_t ino)
{
	struct ns_attr attr = { 0 };

	CU_ASSERT_EQUAL(ns_getattr(t->ns, ino, &attr), 0);
	return attr.nlink;
}

static void assert_path(struct tree *t, uint64_t ino, const char *path)
{
	struct buf got = { 0 };

	CU_ASSERT_EQUAL(ns_path(t->ns, ino, &got), 0);
	CU_ASSERT_TRUE(slice_eq(slice_buf(&got), slice_str(path)));
	buf_release(&got);
}

/* ---- revisions --------------------------------------------------------------------------------- */

static void test_a_fresh_tree_is_revision_1_with_an_empty_root(void)
{
	struct tree t;
	struct ns_attr attr;

	tree_open(&t);
	CU_ASSERT_EQUAL(now(&t), 1);
	CU_ASSERT_EQUAL(ns_getattr(t.ns, NS_ROOT, &attr), 0);
	CU_ASSERT_TRUE(S_ISDIR(attr.mode));
	CU_ASSERT_EQUAL(attr.nlink, 2);
	assert_absent(&t, NS_ROOT, "x");
	tree_close(&t);
}

static void test_create_write_close_is_one_revision(void)
{
	struct tree t;
	mvcc_rev_t before;

	tree_open(&t);
	before = now(&t);
	make_file(&t, NS_ROOT, "f", "hello");
	CU_ASSERT_EQUAL(now(&t), before + 1);
	assert_at(&t, before, "/f", NULL);
	assert_at(&t, before + 1, "/f", "hello");
	tree_close(&t);
}

static void test_a_pending_file_is_seen_by_all_and_in_no_revision(void)
{
	struct tree t;
	struct ns_file *f, *g;
	struct ns_attr attr;
	uint64_t ino;
	mvcc_rev_t before;

	tree_open(&t);
	before = now(&t);
	f = create(&t, NS_ROOT, "f", &ino);
	write_at(f, 0, "abc");
	CU_ASSERT_EQUAL(now(&t), before);
	CU_ASSERT_EQUAL(ino_of(&t, NS_ROOT, "f"), ino);
	CU_ASSERT_EQUAL(ns_getattr(t.ns, ino, &attr), 0);
	CU_ASSERT_EQUAL(attr.size, 3);
	CU_ASSERT_EQUAL(attr.rev, 0);
	CU_ASSERT_EQUAL(ns_create(t.ns, &me, NS_ROOT, slice_str("f"), 0644, &g, &attr), -EEXIST);
	CU_ASSERT_EQUAL(ns_mkdir(t.ns, &me, NS_ROOT, slice_str("f"), 0755, &attr), -EEXIST);
	CU_ASSERT_EQUAL(ns_file_open(t.ns, &me, ino, NS_OPEN_READ, (struct ns_gone){ 0 }, &g), 0);
	assert_content(g, "abc");
	CU_ASSERT_EQUAL(ns_file_close(g), 0);
	CU_ASSERT_EQUAL(now(&t), before); /* a reader's close completes nothing */
	done(f);
	assert_at(&t, before + 1, "/f", "abc");
	CU_ASSERT_EQUAL(now(&t), before + 1);
	tree_close(&t);
}

static void test_opening_and_closing_unchanged_makes_no_revision(void)
{
	struct tree t;
	struct ns_file *f;
	mvcc_rev_t before;
	uint64_t ino;

	tree_open(&t);
	ino = make_file(&t, NS_ROOT, "f", "x");
	before = now(&t);
	CU_ASSERT_EQUAL(ns_file_open(t.ns, &me, ino, NS_OPEN_WRITE, (struct ns_gone){ 0 }, &f), 0);
	assert_content(f, "x");
	done(f);
	CU_ASSERT_EQUAL(now(&t), before);
	tree_close(&t);
}

static void test_the_shells_early_close_makes_no_revision(void)
{
	struct tree t;
	struct ns_file *f;
	mvcc_rev_t before;
	uint64_t ino;

	tree_open(&t);
	before = now(&t);
	f = create(&t, NS_ROOT, "f", &ino);
	CU_ASSERT_EQUAL(ns_file_flush(f), 0); /* open, dup2, close */
	CU_ASSERT_EQUAL(now(&t), before);
	write_at(f, 0, "x\n");
	CU_ASSERT_EQUAL(ns_file_flush(f), 0);
	CU_ASSERT_EQUAL(now(&t), before + 1);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	CU_ASSERT_EQUAL(now(&t), before + 1);

	CU_ASSERT_EQUAL(
		ns_file_open(t.ns, &me, ino, NS_OPEN_WRITE | NS_OPEN_TRUNC, (struct ns_gone){ 0 }, &f), 0);
	CU_ASSERT_EQUAL(ns_file_flush(f), 0);
	CU_ASSERT_EQUAL(now(&t), before + 1);
	CU_ASSERT_EQUAL(ns_file_close(f), 0); /* `: > f` is one, at the release */
	CU_ASSERT_EQUAL(now(&t), before + 2);
	assert_at(&t, before + 1, "/f", "x\n");
	assert_at(&t, before + 2, "/f", "");
	tree_close(&t);
}

/* The kernel releases late: the next command may come before the release of the one before. */
static void test_a_late_release_takes_nothing_of_the_next_change(void)
{
	const struct ns_who other = { .uid = 1000, .gid = 100, .pid = 43, .comm = "chmod" };
	struct ns_attr set = { .mode = 0600, .mtime_ns = 5 }, attr;
	struct ns_file *first, *second;
	struct tree t;
	mvcc_rev_t rev;
	uint64_t ino;

	tree_open(&t);
	ino = make_file(&t, NS_ROOT, "f", "old");
	rev = now(&t);
	CU_ASSERT_EQUAL(ns_file_open(t.ns, &me, ino, NS_OPEN_WRITE | NS_OPEN_TRUNC, (struct ns_gone){ 0 },
				     &first),
			0);
	write_at(first, 0, "one");
	CU_ASSERT_EQUAL(ns_file_flush(first), 0);
	CU_ASSERT_EQUAL(ns_file_open(t.ns, &me, ino, NS_OPEN_WRITE | NS_OPEN_TRUNC, (struct ns_gone){ 0 },
				     &second),
			0);
	CU_ASSERT_EQUAL(ns_file_close(first), 0);
	CU_ASSERT_EQUAL(now(&t), rev + 1); /* the truncation belongs to what comes */
	write_at(second, 0, "two");
	CU_ASSERT_EQUAL(ns_file_flush(second), 0);
	CU_ASSERT_EQUAL(ns_file_close(second), 0);
	CU_ASSERT_EQUAL(now(&t), rev + 2);
	assert_at(&t, rev + 1, "/f", "one");
	assert_at(&t, rev + 2, "/f", "two");

	/* `: > g; : > g; chmod 600 g` with both releases late is three. */
	rev = now(&t);
	first = create(&t, NS_ROOT, "g", &ino);
	CU_ASSERT_EQUAL(ns_file_flush(first), 0);
	CU_ASSERT_EQUAL(ns_file_open(t.ns, &me, ino, NS_OPEN_WRITE | NS_OPEN_TRUNC, (struct ns_gone){ 0 },
				     &second),
			0);
	CU_ASSERT_EQUAL(now(&t), rev + 1);
	CU_ASSERT_EQUAL(ns_file_flush(second), 0);
	CU_ASSERT_EQUAL(ns_setattr(t.ns, &other, ino, &set, NS_SET_MODE, false, &attr), 0);
	CU_ASSERT_EQUAL(now(&t), rev + 3);
	CU_ASSERT_EQUAL(ns_file_close(first), 0);
	CU_ASSERT_EQUAL(ns_file_close(second), 0);
	CU_ASSERT_EQUAL(now(&t), rev + 3);

	/* `touch h` closes a duplicate, then sets the times: one. */
	first = create(&t, NS_ROOT, "h", &ino);
	CU_ASSERT_EQUAL(ns_file_flush(first), 0);
	CU_ASSERT_EQUAL(ns_setattr(t.ns, &me, ino, &set, NS_SET_MTIME, false, &attr), 0);
	done(first);
	CU_ASSERT_EQUAL(now(&t), rev + 4);
	tree_close(&t);
}

static void test_changes_of_a_pending_file_fold_into_its_revision(void)
{
	struct ns_attr set = { .mode = 0600, .uid = 7, .mtime_ns = 12345 }, attr;
	struct buf value = { 0 };
	struct tree t;
	struct ns_file *f;
	mvcc_rev_t before;
	uint64_t ino;

	tree_open(&t);
	before = now(&t);
	f = create(&t, NS_ROOT, "f", &ino);
	write_at(f, 0, "x");
	CU_ASSERT_EQUAL(
		ns_setattr(t.ns, &me, ino, &set, NS_SET_MODE | NS_SET_UID | NS_SET_MTIME, false, &attr), 0);
	CU_ASSERT_EQUAL(ns_setxattr(t.ns, &me, ino, "user.a", slice_str("1"), 0), 0);
	CU_ASSERT_EQUAL(ns_getxattr(t.ns, ino, "user.a", &value), 0);
	CU_ASSERT_TRUE(slice_eq(slice_buf(&value), slice_str("1")));
	CU_ASSERT_EQUAL(now(&t), before);
	done(f);
	CU_ASSERT_EQUAL(now(&t), before + 1);
	CU_ASSERT_EQUAL(ns_getattr(t.ns, ino, &attr), 0);
	CU_ASSERT_EQUAL(attr.mode, S_IFREG | 0600);
	CU_ASSERT_EQUAL(attr.uid, 7);
	CU_ASSERT_EQUAL(attr.mtime_ns, 12345);
	buf_release(&value);
	CU_ASSERT_EQUAL(ns_getxattr(t.ns, ino, "user.a", &value), 0);
	buf_release(&value);
	tree_close(&t);
}

static void test_each_change_of_attributes_is_one_revision(void)
{
	struct ns_attr set = { .mode = 0400, .gid = 5, .size = 1, .atime_ns = 9 }, attr;
	struct tree t;
	mvcc_rev_t rev;
	uint64_t ino;

	tree_open(&t);
	ino = make_file(&t, NS_ROOT, "f", "abc");
	rev = now(&t);
	CU_ASSERT_EQUAL(ns_setattr(t.ns, &me, ino, &set, NS_SET_MODE, false, &attr), 0);
	CU_ASSERT_EQUAL(now(&t), rev + 1);
	CU_ASSERT_EQUAL(ns_setattr(t.ns, &me, ino, &set, NS_SET_GID, false, &attr), 0);
	CU_ASSERT_EQUAL(ns_setattr(t.ns, &me, ino, &set, NS_SET_ATIME, false, &attr), 0);
	CU_ASSERT_EQUAL(ns_setattr(t.ns, &me, ino, &set, NS_SET_SIZE, false, &attr), 0);
	CU_ASSERT_EQUAL(now(&t), rev + 4);
	CU_ASSERT_EQUAL(ns_setxattr(t.ns, &me, ino, "user.b", slice_str("2"), XATTR_CREATE), 0);
	CU_ASSERT_EQUAL(ns_setxattr(t.ns, &me, ino, "user.b", slice_str("2"), XATTR_CREATE), -EEXIST);
	CU_ASSERT_EQUAL(ns_setxattr(t.ns, &me, ino, "user.c", slice_str("2"), XATTR_REPLACE), -ENODATA);
	CU_ASSERT_EQUAL(ns_removexattr(t.ns, &me, ino, "user.b"), 0);
	CU_ASSERT_EQUAL(ns_removexattr(t.ns, &me, ino, "user.b"), -ENODATA);
	CU_ASSERT_EQUAL(now(&t), rev + 6);
	assert_at(&t, rev + 3, "/f", "abc");
	assert_at(&t, rev + 4, "/f", "a");
	tree_close(&t);
}

static void test_a_file_left_open_is_committed_by_the_timer(void)
{
	struct tree t;
	struct ns_file *f;
	mvcc_rev_t before;
	int waited;

	tree_open(&t);
	CU_ASSERT_EQUAL(ns_close(t.ns), 0);
	t.opt.commit_ms = 20;
	CU_ASSERT_EQUAL_FATAL(ns_open(t.fx->db, &t.opt, &t.ns), 0);
	before = now(&t);
	f = create(&t, NS_ROOT, "f", NULL);
	write_at(f, 0, "slow");
	for (waited = 0; now(&t) == before && waited < 1000; waited++)
		usleep(10000);
	assert_at(&t, before + 1, "/f", "slow");
	write_at(f, 4, "er");
	done(f);
	assert_at(&t, before + 2, "/f", "slower");
	CU_ASSERT_EQUAL(now(&t), before + 2);
	tree_close(&t);
}

static void test_a_big_file_is_one_revision_in_bounded_memory(void)
{
	enum { BLOCK = 1 << 20, BLOCKS = 48 };
	struct ns_stats stats;
	struct mvcc_view *view;
	struct tree t;
	struct ns_file *f;
	mvcc_rev_t before;
	uint64_t ino, most = 0;
	uint8_t *block = malloc(BLOCK), *got = malloc(BLOCK);
	int wrong = 0;

	tree_open(&t);
	CU_ASSERT_EQUAL(ns_close(t.ns), 0);
	t.opt.dirty_bytes = 4 << 20;
	CU_ASSERT_EQUAL_FATAL(ns_open(t.fx->db, &t.opt, &t.ns), 0);
	before = now(&t);
	f = create(&t, NS_ROOT, "big", &ino);
	for (int i = 0; i < BLOCKS; i++) {
		memset(block, i + 1, BLOCK);
		wrong += ns_file_write(f, &me, (uint64_t)i * BLOCK, block, BLOCK) != 0;
		ns_stats(t.ns, &stats);
		most = stats.dirty_bytes > most ? stats.dirty_bytes : most;
	}
	CU_ASSERT_TRUE(most <= (4 << 20));
	CU_ASSERT_EQUAL(now(&t), before);
	CU_ASSERT_EQUAL(ns_file_read(f, 5 * BLOCK, got, BLOCK), BLOCK);
	CU_ASSERT_EQUAL(got[77], 6);
	done(f);
	CU_ASSERT_EQUAL(now(&t), before + 1);
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(t.fx->db, before + 1, &view), 0);
	for (int i = 0; i < BLOCKS; i++) {
		memset(block, i + 1, BLOCK);
		wrong += ns_at_read(t.fx->db, view, ino, (uint64_t)i * BLOCK, got, BLOCK) != BLOCK ||
			 memcmp(block, got, BLOCK) != 0;
	}
	mvcc_view_close(view);
	CU_ASSERT_EQUAL(wrong, 0);
	ns_stats(t.ns, &stats);
	CU_ASSERT_EQUAL(stats.dirty_bytes, 0);
	free(block);
	free(got);
	tree_close(&t);
}

/* ---- names ------------------------------------------------------------------------------------- */

static void test_links_share_an_inode_and_the_last_one_takes_it_away(void)
{
	struct ns_gone gone;
	struct ns_attr attr;
	struct tree t;
	uint64_t ino, dir;

	tree_open(&t);
	dir = mkdir_in(&t, NS_ROOT, "d");
	ino = make_file(&t, NS_ROOT, "a", "x");
	CU_ASSERT_EQUAL(ns_link(t.ns, &me, ino, dir, slice_str("b"), &attr), 0);
	CU_ASSERT_EQUAL(attr.nlink, 2);
	CU_ASSERT_EQUAL(ns_link(t.ns, &me, ino, dir, slice_str("b"), &attr), -EEXIST);
	CU_ASSERT_EQUAL(ns_link(t.ns, &me, dir, NS_ROOT, slice_str("e"), &attr), -EPERM);
	CU_ASSERT_EQUAL(ns_unlink(t.ns, &me, NS_ROOT, slice_str("a"), &gone), 0);
	CU_ASSERT_EQUAL(gone.ino, 0);
	CU_ASSERT_EQUAL(nlink_of(&t, ino), 1);
	assert_path(&t, ino, "/d/b"); /* the second link has become the first */
	CU_ASSERT_EQUAL(ns_rename(t.ns, &me, dir, slice_str("b"), NS_ROOT, slice_str("c"), 0, &gone), 0);
	assert_path(&t, ino, "/c");
	CU_ASSERT_EQUAL(ns_unlink(t.ns, &me, NS_ROOT, slice_str("c"), &gone), 0);
	CU_ASSERT_EQUAL(gone.ino, ino);
	CU_ASSERT_EQUAL(gone.rev, now(&t));
	CU_ASSERT_EQUAL(ns_getattr(t.ns, ino, &attr), -ENOENT);
	CU_ASSERT_EQUAL(ns_gone_getattr(t.ns, gone, &attr), 0);
	CU_ASSERT_EQUAL(attr.nlink, 0);
	CU_ASSERT_EQUAL(attr.size, 1);
	tree_close(&t);
}

static void test_an_unlinked_open_file_lives_until_it_is_closed(void)
{
	enum { SIZE = 300000 };
	char *big = malloc(SIZE), *got = malloc(SIZE + 10);
	struct ns_gone gone;
	struct ns_attr attr;
	struct tree t;
	struct ns_file *f;
	uint64_t ino;
	mvcc_rev_t rev;

	tree_open(&t);
	memset(big, 'b', SIZE);
	f = create(&t, NS_ROOT, "f", &ino);
	CU_ASSERT_EQUAL(ns_file_write(f, &me, 0, big, SIZE), 0);
	CU_ASSERT_EQUAL(ns_unlink(t.ns, &me, NS_ROOT, slice_str("f"), &gone), 0);
	rev = now(&t);
	assert_absent(&t, NS_ROOT, "f");
	CU_ASSERT_EQUAL(ns_getattr(t.ns, ino, &attr), 0);
	CU_ASSERT_EQUAL(attr.nlink, 0);
	CU_ASSERT_EQUAL(ns_file_read(f, 0, got, SIZE + 10), SIZE);
	CU_ASSERT_EQUAL(memcmp(got, big, SIZE), 0);
	write_at(f, 100, "changed");
	CU_ASSERT_EQUAL(ns_file_allocate(f, &me, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 131072, 8192),
			0);
	CU_ASSERT_EQUAL(ns_file_read(f, 0, got, SIZE + 10), SIZE);
	CU_ASSERT_EQUAL(memcmp(got + 100, "changed", 7), 0);
	CU_ASSERT_EQUAL(got[131072], 0);
	CU_ASSERT_EQUAL(got[131071], 'b');
	CU_ASSERT_EQUAL(got[131072 + 8192], 'b');
	CU_ASSERT_EQUAL(ns_file_flush(f), 0);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	CU_ASSERT_EQUAL(now(&t), rev); /* what nobody can name makes no revision */
	CU_ASSERT_EQUAL(ns_getattr(t.ns, ino, &attr), -ENOENT);
	free(big);
	free(got);
	tree_close(&t);
}

static void test_rmdir_wants_an_empty_directory_pending_files_included(void)
{
	struct ns_gone gone;
	struct tree t;
	struct ns_file *f;
	uint64_t dir;

	tree_open(&t);
	dir = mkdir_in(&t, NS_ROOT, "d");
	CU_ASSERT_EQUAL(nlink_of(&t, NS_ROOT), 3);
	f = create(&t, dir, "f", NULL);
	CU_ASSERT_EQUAL(ns_rmdir(t.ns, &me, NS_ROOT, slice_str("d"), &gone), -ENOTEMPTY);
	CU_ASSERT_EQUAL(ns_unlink(t.ns, &me, NS_ROOT, slice_str("d"), &gone), -EISDIR);
	done(f);
	CU_ASSERT_EQUAL(ns_rmdir(t.ns, &me, dir, slice_str("f"), &gone), -ENOTDIR);
	CU_ASSERT_EQUAL(ns_unlink(t.ns, &me, dir, slice_str("f"), &gone), 0);
	CU_ASSERT_EQUAL(ns_rmdir(t.ns, &me, NS_ROOT, slice_str("d"), &gone), 0);
	CU_ASSERT_EQUAL(gone.ino, dir);
	CU_ASSERT_EQUAL(nlink_of(&t, NS_ROOT), 2);
	tree_close(&t);
}

static void test_rename_in_all_its_ways(void)
{
	struct ns_gone gone;
	struct tree t;
	struct ns_file *f;
	uint64_t d1, d2, a, b;
	mvcc_rev_t rev;

	tree_open(&t);
	d1 = mkdir_in(&t, NS_ROOT, "d1");
	d2 = mkdir_in(&t, d1, "d2");
	a = make_file(&t, NS_ROOT, "a", "A");
	b = make_file(&t, d2, "b", "B");
	rev = now(&t);
	CU_ASSERT_EQUAL(ns_rename(t.ns, &me, NS_ROOT, slice_str("d1"), d2, slice_str("x"), 0, &gone),
			-EINVAL);
	CU_ASSERT_EQUAL(ns_rename(t.ns, &me, NS_ROOT, slice_str("a"), d2, slice_str("b"), RENAME_NOREPLACE,
				  &gone),
			-EEXIST);
	CU_ASSERT_EQUAL(ns_rename(t.ns, &me, NS_ROOT, slice_str("a"), NS_ROOT, slice_str("d1"), 0, &gone),
			-EISDIR);
	CU_ASSERT_EQUAL(ns_rename(t.ns, &me, NS_ROOT, slice_str("d1"), NS_ROOT, slice_str("a"), 0, &gone),
			-ENOTDIR);
	CU_ASSERT_EQUAL(ns_rename(t.ns, &me, NS_ROOT, slice_str("a"), NS_ROOT, slice_str("n"),
				  RENAME_EXCHANGE, &gone),
			-ENOENT);
	CU_ASSERT_EQUAL(ns_rename(t.ns, &me, NS_ROOT, slice_str("a"), NS_ROOT, slice_str("n"),
				  RENAME_WHITEOUT | RENAME_EXCHANGE, &gone),
			-EINVAL);
	CU_ASSERT_EQUAL(ns_rename(t.ns, &me, NS_ROOT, slice_str("a"), NS_ROOT, slice_str("a"), 0, &gone), 0);
	CU_ASSERT_EQUAL(now(&t), rev); /* none of these changed anything */

	CU_ASSERT_EQUAL(
		ns_rename(t.ns, &me, NS_ROOT, slice_str("a"), d2, slice_str("b"), RENAME_EXCHANGE, &gone), 0);
	CU_ASSERT_EQUAL(ino_of(&t, NS_ROOT, "a"), b);
	CU_ASSERT_EQUAL(ino_of(&t, d2, "b"), a);
	assert_path(&t, a, "/d1/d2/b");

	/* A directory with a file changes places: links of both parents follow. */
	CU_ASSERT_EQUAL(ns_rename(t.ns, &me, d1, slice_str("d2"), NS_ROOT, slice_str("a"), RENAME_EXCHANGE,
				  &gone),
			0);
	CU_ASSERT_EQUAL(nlink_of(&t, NS_ROOT), 4);
	CU_ASSERT_EQUAL(nlink_of(&t, d1), 2);
	assert_path(&t, a, "/a/b");

	/* Over an open file: who has it open keeps it. */
	CU_ASSERT_EQUAL(ns_file_open(t.ns, &me, b, NS_OPEN_READ, (struct ns_gone){ 0 }, &f), 0);
	CU_ASSERT_EQUAL(ns_rename(t.ns, &me, d2, slice_str("b"), d1, slice_str("d2"), 0, &gone), 0);
	CU_ASSERT_EQUAL(gone.ino, b);
	assert_content(f, "B");
	CU_ASSERT_EQUAL(ns_file_close(f), 0);

	/* Over an empty directory. */
	mkdir_in(&t, NS_ROOT, "e");
	CU_ASSERT_EQUAL(ns_rename(t.ns, &me, NS_ROOT, slice_str("e"), NS_ROOT, slice_str("d1"), 0, &gone),
			-ENOTEMPTY);
	CU_ASSERT_EQUAL(ns_rename(t.ns, &me, NS_ROOT, slice_str("d1"), NS_ROOT, slice_str("e"), 0, &gone), 0);
	CU_ASSERT_EQUAL(nlink_of(&t, NS_ROOT), 4);
	assert_at(&t, rev, "/d1/d2/b", "B");
	assert_at(&t, now(&t), "/e/d2", "A");
	tree_close(&t);
}

static void test_special_files_keep_what_they_are(void)
{
	struct buf target = { 0 };
	struct ns_attr attr;
	struct tree t;

	tree_open(&t);
	CU_ASSERT_EQUAL(ns_mknod(t.ns, &me, NS_ROOT, slice_str("fifo"), S_IFIFO | 0600, 0, &attr), 0);
	CU_ASSERT_EQUAL(attr.mode, S_IFIFO | 0600);
	CU_ASSERT_EQUAL(ns_mknod(t.ns, &me, NS_ROOT, slice_str("dev"), S_IFCHR | 0666, 0x105, &attr), 0);
	CU_ASSERT_EQUAL(ns_symlink(t.ns, &me, NS_ROOT, slice_str("l"), slice_str("../x"), &attr), 0);
	CU_ASSERT_EQUAL(attr.size, 4);
	tree_reopen(&t);
	CU_ASSERT_EQUAL(ns_lookup(t.ns, NS_ROOT, slice_str("dev"), &attr), 0);
	CU_ASSERT_EQUAL(attr.rdev, 0x105);
	CU_ASSERT_EQUAL(ns_lookup(t.ns, NS_ROOT, slice_str("l"), &attr), 0);
	CU_ASSERT_EQUAL(ns_readlink(t.ns, attr.ino, &target), 0);
	CU_ASSERT_TRUE(slice_eq(slice_buf(&target), slice_str("../x")));
	CU_ASSERT_EQUAL(ns_readlink(t.ns, NS_ROOT, &target), -EINVAL);
	buf_release(&target);
	tree_close(&t);
}

static void test_inode_numbers_are_never_used_twice(void)
{
	struct tree t;
	uint64_t last = NS_ROOT;

	tree_open(&t);
	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < 5; i++) {
			struct ns_gone gone;
			uint64_t ino = make_file(&t, NS_ROOT, "f", "x");

			CU_ASSERT_TRUE(ino > last);
			last = ino;
			CU_ASSERT_EQUAL(ns_unlink(t.ns, &me, NS_ROOT, slice_str("f"), &gone), 0);
		}
		tree_reopen(&t);
	}
	tree_close(&t);
}

/* ---- listings ---------------------------------------------------------------------------------- */

static void test_a_listing_has_every_name_once_at_its_place(void)
{
	enum { FILES = 1000 };
	struct ns_file *open[10];
	struct ns_dir *d = NULL;
	struct ns_dirent e;
	char last[64] = "", names[FILES + 10][16];
	uint64_t seed = 7, n = 0;
	struct tree t;
	int wrong = 0;

	tree_open(&t);
	for (int i = 0; i < FILES; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%04d", i * 7 % FILES);
		if (i % 100 == 50)
			open[i / 100] = create(&t, NS_ROOT, name, NULL); /* stays pending */
		else
			make_file(&t, NS_ROOT, name, "x");
	}
	CU_ASSERT_EQUAL_FATAL(ns_opendir(t.ns, NS_ROOT, &d), 0);
	while (ns_dir_read(d, n, &e) > 0 && n < FILES + 10) {
		snprintf(names[n], sizeof(names[n]), "%.*s", (int)e.name.len, (const char *)e.name.data);
		wrong += strcmp(last, names[n]) >= 0;
		snprintf(last, sizeof(last), "%s", names[n]);
		if (++n % 33 == 0) {
			/* Changes while it is open change nothing, nor does letting go in between. */
			struct ns_gone gone;

			wrong += ns_unlink(t.ns, &me, NS_ROOT, slice_str(names[n - 1]), &gone) != 0;
			ns_dir_pause(d);
		}
	}
	CU_ASSERT_EQUAL(n, FILES);
	for (int i = 0; i < 300; i++) {
		uint64_t pos = random_below(&seed, FILES);

		wrong += ns_dir_read(d, pos, &e) != 1 || !slice_eq(e.name, slice_str(names[pos]));
		if (i % 5 == 0)
			ns_dir_pause(d);
	}
	CU_ASSERT_EQUAL(ns_dir_read(d, FILES, &e), 0);
	ns_dir_pause(d); /* at the end, too */
	CU_ASSERT_EQUAL(ns_dir_read(d, FILES - 1, &e), 1);
	CU_ASSERT_TRUE(slice_eq(e.name, slice_str(names[FILES - 1])));
	CU_ASSERT_EQUAL(wrong, 0);
	ns_dir_close(d);
	for (int i = 0; i < 10; i++)
		done(open[i]);
	tree_close(&t);
}

/* ---- content against a plain array ------------------------------------------------------------- */

enum { MODEL_MAX = 700000 };

struct model {
	uint8_t bytes[MODEL_MAX];
	size_t size;
};

static size_t any_offset(uint64_t *seed)
{
	static const size_t edges[] = { 0,    1,      1023,   1024,   1025,   4095,  4096,
					4097, 131071, 131072, 131073, 262144, 400000 };

	if (random_below(seed, 2))
		return edges[random_below(seed, sizeof(edges) / sizeof(edges[0]))];
	return random_below(seed, 450000);
}

/* One random change to both; true when they agree on what is there afterwards. */
static bool model_step(struct model *m, struct tree *t, struct ns_file *f, uint64_t ino, uint64_t *seed)
{
	static uint8_t data[MODEL_MAX], got[MODEL_MAX];
	size_t off = any_offset(seed),
	       len = random_below(seed, 4) ? random_below(seed, 5000) : any_offset(seed) / 2;
	struct ns_attr set = { .size = off }, attr;
	ssize_t n;

	switch (random_below(seed, 8)) {
	case 0:
	case 1:
	case 2:
		for (size_t i = 0; i < len; i++)
			data[i] = (uint8_t)(random_next(seed) >> 32);
		if (ns_file_write(f, &me, off, data, len))
			return false;
		memcpy(m->bytes + off, data, len);
		if (len && off + len > m->size)
			m->size = off + len;
		break;
	case 3:
		if (ns_setattr(t->ns, &me, ino, &set, NS_SET_SIZE, random_below(seed, 2), &attr))
			return false;
		if (off < m->size)
			memset(m->bytes + off, 0, m->size - off);
		m->size = off;
		break;
	case 4:
		if (len == 0)
			break;
		if (ns_file_allocate(f, &me, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len))
			return false;
		if (off < m->size)
			memset(m->bytes + off, 0, off + len < m->size ? len : m->size - off);
		break;
	case 5:
		if (len == 0)
			break;
		if (ns_file_allocate(f, &me, FALLOC_FL_ZERO_RANGE, off, len))
			return false;
		memset(m->bytes + off, 0, len);
		if (off + len > m->size)
			m->size = off + len;
		break;
	case 6:
		if (len && ns_file_allocate(f, &me, 0, off, len))
			return false;
		if (len && off + len > m->size)
			m->size = off + len;
		break;
	default:
		if (ns_file_flush(f))
			return false;
	}
	n = ns_file_read(f, 0, got, sizeof(got));
	if (n != (ssize_t)m->size || memcmp(got, m->bytes, m->size)) {
		fprintf(stderr, "size %zd, model %zu\n", n, m->size);
		return false;
	}
	off = any_offset(seed);
	n = ns_file_read(f, off, got, len);
	return off >= m->size ? n == 0 :
				n == (ssize_t)(len < m->size - off ? len : m->size - off) &&
					memcmp(got, m->bytes + off, (size_t)n) == 0;
}

static void check_content_model(size_t dirty_bytes, uint64_t seed, int steps)
{
	struct model *m = calloc(1, sizeof(*m));
	uint8_t *got = malloc(MODEL_MAX);
	struct mvcc_view *view;
	struct tree t;
	struct ns_file *f;
	uint64_t ino, start = seed;
	int i;

	tree_open(&t);
	CU_ASSERT_EQUAL(ns_close(t.ns), 0);
	t.opt.dirty_bytes = dirty_bytes;
	CU_ASSERT_EQUAL_FATAL(ns_open(t.fx->db, &t.opt, &t.ns), 0);
	f = create(&t, NS_ROOT, "f", &ino);
	for (i = 0; i < steps && model_step(m, &t, f, ino, &seed); i++)
		;
	CU_ASSERT_EQUAL(i, steps);
	if (i != steps)
		fprintf(stderr, "content model: seed %llu, step %d\n", (unsigned long long)start, i);
	done(f);
	tree_reopen(&t);
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(t.fx->db, MVCC_REV_LATEST, &view), 0);
	CU_ASSERT_EQUAL(ns_at_read(t.fx->db, view, ino, 0, got, MODEL_MAX), (ssize_t)m->size);
	CU_ASSERT_EQUAL(memcmp(got, m->bytes, m->size), 0);
	mvcc_view_close(view);
	free(m);
	free(got);
	tree_close(&t);
}

static void test_content_equals_a_plain_array(void)
{
	for (uint64_t seed = 1; seed <= 12; seed++)
		check_content_model((size_t)64 << 20, seed * 1000003, 150);
}

static void test_content_equals_a_plain_array_when_memory_is_scarce(void)
{
	for (uint64_t seed = 1; seed <= 12; seed++)
		check_content_model((size_t)1 << 20, seed * 7000003, 150);
}

static void test_holes_are_found_and_take_no_space(void)
{
	struct ns_attr attr;
	struct tree t;
	struct ns_file *f;
	uint64_t ino, at = 0;

	tree_open(&t);
	f = create(&t, NS_ROOT, "f", &ino);
	write_at(f, (uint64_t)1 << 40, "end");
	for (int committed = 0; committed < 2; committed++) {
		CU_ASSERT_EQUAL(ns_file_seek(f, 0, SEEK_DATA, &at), 0);
		CU_ASSERT_EQUAL(at, (uint64_t)1 << 40);
		CU_ASSERT_EQUAL(ns_file_seek(f, 5, SEEK_HOLE, &at), 0);
		CU_ASSERT_EQUAL(at, 5);
		CU_ASSERT_EQUAL(ns_file_seek(f, (uint64_t)1 << 40, SEEK_HOLE, &at), 0);
		CU_ASSERT_EQUAL(at, ((uint64_t)1 << 40) + 3);
		CU_ASSERT_EQUAL(ns_file_seek(f, ((uint64_t)1 << 40) + 3, SEEK_DATA, &at), -ENXIO);
		CU_ASSERT_EQUAL(ns_file_flush(f), 0);
	}
	CU_ASSERT_EQUAL(ns_getattr(t.ns, ino, &attr), 0);
	CU_ASSERT_EQUAL(attr.size, ((uint64_t)1 << 40) + 3);
	CU_ASSERT_TRUE(attr.alloc > 0 && attr.alloc <= 4096);
	CU_ASSERT_EQUAL(ns_file_write(f, &me, NS_SIZE_MAX - 1, "x", 1), 0);
	CU_ASSERT_EQUAL(ns_file_write(f, &me, NS_SIZE_MAX, "x", 1), -EFBIG);
	done(f);
	CU_ASSERT_EQUAL(ns_getattr(t.ns, ino, &attr), 0);
	CU_ASSERT_EQUAL(attr.size, NS_SIZE_MAX);
	tree_close(&t);
}

static void test_overwriting_a_page_of_a_large_file_stores_a_page(void)
{
	enum { SIZE = 1 << 20 };
	struct mvcc_stats before, after;
	char *bytes = calloc(1, SIZE);
	struct tree t;
	struct ns_file *f;
	uint64_t ino;

	tree_open(&t);
	f = create(&t, NS_ROOT, "f", &ino);
	CU_ASSERT_EQUAL(ns_file_write(f, &me, 0, bytes, SIZE), 0);
	CU_ASSERT_EQUAL(ns_file_flush(f), 0);
	mvcc_stats(t.fx->db, &before);
	CU_ASSERT_EQUAL(ns_file_write(f, &me, 500000, "x", 1), 0);
	CU_ASSERT_EQUAL(ns_file_flush(f), 0);
	mvcc_stats(t.fx->db, &after);
	CU_ASSERT_EQUAL(after.blob_bytes_staged - before.blob_bytes_staged, 4096);
	CU_ASSERT_EQUAL(after.blobs_staged - before.blobs_staged, 1);
	done(f);
	free(bytes);
	tree_close(&t);
}

/* ---- no room ------------------------------------------------------------------------------------ */

static void test_a_full_disk_refuses_what_grows_and_lets_go_what_frees(void)
{
	struct ns_attr attr;
	struct ns_gone gone;
	struct statvfs st;
	struct tree t;
	struct ns_file *f, *g;
	uint64_t old, ino;
	mvcc_rev_t rev;

	tree_open(&t);
	old = make_file(&t, NS_ROOT, "old", "kept");
	CU_ASSERT_EQUAL(ns_close(t.ns), 0);
	CU_ASSERT_EQUAL_FATAL(statvfs(t.fx->tmp, &st), 0);
	t.fx->opt.reserve_bytes = 2 * (uint64_t)st.f_bavail * st.f_frsize;
	fixture_reopen(t.fx);
	CU_ASSERT_EQUAL_FATAL(ns_open(t.fx->db, &t.opt, &t.ns), 0);
	rev = now(&t);

	f = create(&t, NS_ROOT, "new", &ino);
	write_at(f, 0, "does not fit");
	CU_ASSERT_EQUAL(ns_file_flush(f), -ENOSPC);
	CU_ASSERT_EQUAL(ns_file_flush(f), -ENOSPC); /* and is tried again, with all that was written */
	assert_content(f, "does not fit");
	CU_ASSERT_EQUAL(ns_mkdir(t.ns, &me, NS_ROOT, slice_str("d"), 0755, &attr), -ENOSPC);
	CU_ASSERT_EQUAL(ns_file_open(t.ns, &me, old, NS_OPEN_WRITE, (struct ns_gone){ 0 }, &g), 0);
	write_at(g, 0, "K");
	CU_ASSERT_EQUAL(ns_file_flush(g), -ENOSPC);
	CU_ASSERT_EQUAL(now(&t), rev);

	/* Both can be removed: the one that was never committed, and the one that only cannot change. */
	CU_ASSERT_EQUAL(ns_unlink(t.ns, &me, NS_ROOT, slice_str("new"), &gone), 0);
	assert_absent(&t, NS_ROOT, "new");
	assert_content(f, "does not fit");
	CU_ASSERT_EQUAL(ns_unlink(t.ns, &me, NS_ROOT, slice_str("old"), &gone), 0);
	assert_absent(&t, NS_ROOT, "old");
	CU_ASSERT_EQUAL(now(&t), rev + 1);
	assert_at(&t, rev, "/old", "kept");
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	CU_ASSERT_EQUAL(ns_file_close(g), 0);

	/* A file that could not be committed stays, for another try, until there is no daemon any more. */
	f = create(&t, NS_ROOT, "later", NULL);
	write_at(f, 0, "it fits");
	CU_ASSERT_EQUAL(ns_file_flush(f), -ENOSPC);
	CU_ASSERT_EQUAL(ns_file_close(f), -ENOSPC);
	CU_ASSERT_EQUAL(ino_of(&t, NS_ROOT, "later") > 0, true);
	CU_ASSERT_EQUAL(ns_close(t.ns), -ENOSPC); /* what is lost is said */
	t.fx->opt.reserve_bytes = 0;
	fixture_reopen(t.fx);
	CU_ASSERT_EQUAL_FATAL(ns_open(t.fx->db, &t.opt, &t.ns), 0);
	make_file(&t, NS_ROOT, "new", "fits now");
	assert_at(&t, now(&t), "/new", "fits now");
	tree_close(&t);
}

/* ---- labels ------------------------------------------------------------------------------------ */

static void assert_labels(struct mvcc *db, mvcc_rev_t rev, const char *op, const char *session,
			  const char *message)
{
	const struct mvcc_entry *e;
	struct mvcc_log *log;

	CU_ASSERT_EQUAL_FATAL(mvcc_log_open(db, rev, rev, &log), 0);
	CU_ASSERT_EQUAL_FATAL(mvcc_log_next(log, &e), 1);
	CU_ASSERT_STRING_EQUAL(e->story.op, op);
	CU_ASSERT_STRING_EQUAL(e->story.session, session);
	CU_ASSERT_STRING_EQUAL(e->story.message, message);
	mvcc_log_close(log);
}

static void test_a_revision_tells_session_and_message_of_who_began_it(void)
{
	struct tree t;
	struct ns_attr attr = { 0 };
	struct ns_file *f = NULL;

	tree_open(&t);
	CU_ASSERT_EQUAL(ns_mkdir(t.ns, &labelled, NS_ROOT, slice_str("d"), 0755, &attr), 0);
	assert_labels(t.fx->db, now(&t), "mkdir", "agent 7", "to see");
	CU_ASSERT_EQUAL_FATAL(ns_create(t.ns, &labelled, attr.ino, slice_str("f"), 0644, &f, &attr), 0);
	write_at(f, 0, "by another, who is not asked");
	done(f);
	assert_labels(t.fx->db, now(&t), "create", "agent 7", "to see");

	/* The next change of the same inode has a label of its own, or none. */
	CU_ASSERT_EQUAL_FATAL(ns_file_open(t.ns, NULL, attr.ino, NS_OPEN_WRITE, (struct ns_gone){ 0 }, &f),
			      0);
	write_at(f, 0, "x");
	CU_ASSERT_EQUAL(ns_file_flush(f), 0);
	assert_labels(t.fx->db, now(&t), "write", "", "");
	CU_ASSERT_EQUAL(ns_file_write(f, &labelled, 0, "y", 1), 0);
	done(f);
	assert_labels(t.fx->db, now(&t), "write", "agent 7", "to see");
	tree_close(&t);
}

/* ---- a kill ------------------------------------------------------------------------------------ */

/* In a process of its own: closes files that are in no revision yet, and dies. */
static void promise_and_die(const struct mvcc_options *opt)
{
	struct ns_options ns_options = { .commit_ms = 60000 };
	struct ns_file *f;
	struct ns_attr attr;
	struct mvcc *db;
	struct ns *ns;
	bool good;

	good = !mvcc_open(opt, &db) && !ns_open(db, &ns_options, &ns) &&
	       !ns_create(ns, &me, NS_ROOT, slice_str("full"), 0644, &f, &attr) &&
	       !ns_file_write(f, &me, 0, "old", 3) && !ns_file_flush(f) && !ns_file_close(f) &&
	       !ns_file_open(ns, &me, attr.ino, NS_OPEN_WRITE | NS_OPEN_TRUNC, (struct ns_gone){ 0 }, &f) &&
	       !ns_file_flush(f) && !ns_create(ns, &labelled, NS_ROOT, slice_str("new"), 0640, &f, &attr) &&
	       !ns_file_flush(f) && !ns_create(ns, &me, NS_ROOT, slice_str("never closed"), 0640, &f, &attr);
	_exit(good ? 0 : 1);
}

static void test_what_was_closed_survives_a_kill(void)
{
	struct rocks_options rocks = { 0 };
	struct mvcc_options opt = { .create = true, .init = ns_init, .engine = rocks_provider(&rocks) };
	struct ns_options ns_options = { .commit_ms = 60000 };
	struct fixture fake = { 0 };
	struct tree t = { .fx = &fake };
	struct ns_attr attr;
	char tmp[256], dir[300];
	int status = -1;
	pid_t pid;

	fixture_tmpdir(tmp);
	snprintf(dir, sizeof(dir), "%s/db", tmp);
	opt.dir = dir;
	pid = fork();
	if (pid == 0)
		promise_and_die(&opt);
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT_EQUAL(status, 0);
	CU_ASSERT_EQUAL_FATAL(mvcc_open(&opt, &fake.db), 0);
	CU_ASSERT_EQUAL(now(&t), 2); /* a promise is no revision */
	CU_ASSERT_EQUAL_FATAL(ns_open(fake.db, &ns_options, &t.ns), 0);
	CU_ASSERT_EQUAL(now(&t), 4);
	assert_at(&t, 2, "/full", "old");
	assert_at(&t, 3, "/full", "");
	assert_at(&t, 4, "/new", "");
	assert_labels(fake.db, 3, "write", "", "");
	assert_labels(fake.db, 4, "create", "agent 7", "to see");
	CU_ASSERT_EQUAL(ns_lookup(t.ns, NS_ROOT, slice_str("new"), &attr), 0);
	CU_ASSERT_EQUAL(attr.mode, S_IFREG | 0640);
	CU_ASSERT_EQUAL(attr.uid, 1000);
	assert_absent(&t, NS_ROOT, "never closed");
	CU_ASSERT_EQUAL(ns_close(t.ns), 0);
	CU_ASSERT_EQUAL(mvcc_close(fake.db), 0);

	/* And is redone once only. */
	CU_ASSERT_EQUAL_FATAL(mvcc_open(&opt, &fake.db), 0);
	CU_ASSERT_EQUAL_FATAL(ns_open(fake.db, &ns_options, &t.ns), 0);
	CU_ASSERT_EQUAL(now(&t), 4);
	CU_ASSERT_EQUAL(ns_close(t.ns), 0);
	CU_ASSERT_EQUAL(mvcc_close(fake.db), 0);
	fixture_rmdir(tmp);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_a_fresh_tree_is_revision_1_with_an_empty_root),
	UNIT_TEST(test_create_write_close_is_one_revision),
	UNIT_TEST(test_a_pending_file_is_seen_by_all_and_in_no_revision),
	UNIT_TEST(test_opening_and_closing_unchanged_makes_no_revision),
	UNIT_TEST(test_the_shells_early_close_makes_no_revision),
	UNIT_TEST(test_a_late_release_takes_nothing_of_the_next_change),
	UNIT_TEST(test_changes_of_a_pending_file_fold_into_its_revision),
	UNIT_TEST(test_each_change_of_attributes_is_one_revision),
	UNIT_TEST(test_a_file_left_open_is_committed_by_the_timer),
	UNIT_TEST(test_a_big_file_is_one_revision_in_bounded_memory),
	UNIT_TEST(test_links_share_an_inode_and_the_last_one_takes_it_away),
	UNIT_TEST(test_an_unlinked_open_file_lives_until_it_is_closed),
	UNIT_TEST(test_rmdir_wants_an_empty_directory_pending_files_included),
	UNIT_TEST(test_rename_in_all_its_ways),
	UNIT_TEST(test_special_files_keep_what_they_are),
	UNIT_TEST(test_inode_numbers_are_never_used_twice),
	UNIT_TEST(test_a_listing_has_every_name_once_at_its_place),
	UNIT_TEST(test_content_equals_a_plain_array),
	UNIT_TEST(test_content_equals_a_plain_array_when_memory_is_scarce),
	UNIT_TEST(test_holes_are_found_and_take_no_space),
	UNIT_TEST(test_overwriting_a_page_of_a_large_file_stores_a_page),
	UNIT_TEST(test_a_full_disk_refuses_what_grows_and_lets_go_what_frees),
	UNIT_TEST(test_a_revision_tells_session_and_message_of_who_began_it),
	UNIT_TEST(test_what_was_closed_survives_a_kill),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("ns", NULL, NULL, tests), CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
