/*
 * What a watch over the tree tells: of changes with a story, of revisions that only their rows tell of, and to whom it
 * may be told.
 */
#include "fs/ns_int.h"
#include "fs/ns_watch.h"
#include "fs/past.h"
#include "mvcc/keep.h"

#include "tests/store_fixture.h"
#include "tests/unit.h"

#include <errno.h>
#include <stdio.h>

static const struct ns_who me = { .uid = 1000, .gid = 100, .pid = 42, .comm = "test" };

struct tree {
	struct fixture *fx;
	struct ns *ns;
};

static void tree_open(struct tree *t)
{
	struct ns_options opt = { .commit_ms = 60000 };

	t->fx = fixture_new();
	t->fx->opt.init = ns_init;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(t->fx), 0);
	CU_ASSERT_EQUAL_FATAL(ns_open(t->fx->db, &opt, &t->ns), 0);
}

static void tree_close(struct tree *t)
{
	CU_ASSERT_EQUAL(ns_close(t->ns), 0);
	fixture_close(t->fx);
}

static uint64_t make_dir(struct tree *t, uint64_t dir, const char *name, uint32_t mode)
{
	struct ns_attr attr = { 0 };

	CU_ASSERT_EQUAL(ns_mkdir(t->ns, &me, dir, slice_str(name), mode, &attr), 0);
	return attr.ino;
}

static uint64_t make_file(struct tree *t, uint64_t dir, const char *name)
{
	struct ns_attr attr = { 0 };
	struct ns_file *f = NULL;

	CU_ASSERT_EQUAL_FATAL(ns_create(t->ns, &me, dir, slice_str(name), 0644, &f, &attr), 0);
	CU_ASSERT_EQUAL(ns_file_write(f, &me, 0, "text", 4), 0);
	CU_ASSERT_EQUAL(ns_file_flush(f), 0);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	return attr.ino;
}

static struct ns_watch *watch_open(struct tree *t, mvcc_rev_t from, const char *path)
{
	struct ns_watch_options opt = { .from = from, .path = slice_str(path) };
	struct ns_watch *w = NULL;

	CU_ASSERT_EQUAL_FATAL(ns_watch_open(t->fx->db, &opt, &w), 0);
	return w;
}

/* All there is now, as "kind path", with " path2" where there is one, one a line. */
static void assert_told(struct ns_watch *w, const char *wanted)
{
	struct ns_change c;
	char got[2048] = "";
	size_t len = 0;
	int res;

	while ((res = ns_watch_next(w, &c)) == 1)
		len += (size_t)snprintf(got + len, sizeof(got) - len, "%s %.*s%s%.*s\n", c.kind,
					(int)c.path.len, (const char *)c.path.data, c.path2.len ? " " : "",
					(int)c.path2.len, c.path2.len ? (const char *)c.path2.data : "");
	CU_ASSERT_EQUAL(res, 0);
	CU_ASSERT_STRING_EQUAL(got, wanted);
	if (strcmp(got, wanted) != 0)
		printf("told:\n%s", got);
}

/* ---- stories ----------------------------------------------------------------------------------- */

static void test_each_change_with_a_story_is_told_once(void)
{
	struct tree t;
	struct ns_watch *w;
	uint64_t d;

	tree_open(&t);
	w = watch_open(&t, MVCC_REV_LATEST, "/");
	assert_told(w, "");
	d = make_dir(&t, NS_ROOT, "d", 0755);
	make_file(&t, d, "f");
	CU_ASSERT_EQUAL(ns_rename(t.ns, &me, d, slice_str("f"), NS_ROOT, slice_str("g"), 0, NULL), 0);
	CU_ASSERT_EQUAL(ns_unlink(t.ns, &me, NS_ROOT, slice_str("g"), NULL), 0);
	assert_told(w, "mkdir /d\ncreate /d/f\nrename /g /d/f\nunlink /g\n");
	assert_told(w, "");
	ns_watch_close(w);
	tree_close(&t);
}

static void test_only_what_is_at_or_below_the_path(void)
{
	struct tree t;
	struct ns_watch *w;
	uint64_t d;

	tree_open(&t);
	w = watch_open(&t, MVCC_REV_LATEST, "/d");
	d = make_dir(&t, NS_ROOT, "d", 0755);
	make_dir(&t, NS_ROOT, "dd", 0755);
	make_dir(&t, d, "e", 0755);
	make_file(&t, NS_ROOT, "f");
	CU_ASSERT_EQUAL(ns_rename(t.ns, &me, NS_ROOT, slice_str("f"), d, slice_str("f"), 0, NULL), 0);
	CU_ASSERT_EQUAL(ns_rename(t.ns, &me, d, slice_str("f"), NS_ROOT, slice_str("f"), 0, NULL), 0);
	assert_told(w, "mkdir /d\nmkdir /d/e\nrename /d/f /f\nrename /f /d/f\n");
	ns_watch_close(w);
	tree_close(&t);
}

static void test_who_looks_at_much_that_is_not_his_lets_others_have_their_turn(void)
{
	struct tree t;
	struct ns_watch *w;
	struct ns_change c;
	char name[32];
	int got, turns = 0;

	tree_open(&t);
	w = watch_open(&t, MVCC_REV_LATEST, "/mine");
	for (int i = 0; i < 1500; i++) {
		snprintf(name, sizeof(name), "%d", i);
		make_dir(&t, NS_ROOT, name, 0755);
	}
	make_dir(&t, NS_ROOT, "mine", 0755);
	while ((got = ns_watch_next(w, &c)) == -EAGAIN)
		turns++;
	CU_ASSERT_EQUAL(got, 1);
	CU_ASSERT(turns >= 2);
	ns_watch_close(w);
	tree_close(&t);
}

static void count(void *arg)
{
	atomic_fetch_add((_Atomic unsigned *)arg, 1);
}

static void test_who_found_nothing_is_told_when_there_is_something(void)
{
	_Atomic unsigned calls = 0;
	struct ns_watch_options opt = { .from = MVCC_REV_LATEST, .notify = count, .arg = (void *)&calls };
	struct ns_watch *w = NULL;
	struct tree t;

	tree_open(&t);
	CU_ASSERT_EQUAL_FATAL(ns_watch_open(t.fx->db, &opt, &w), 0);
	assert_told(w, "");
	make_dir(&t, NS_ROOT, "d", 0755);
	while (!atomic_load(&calls))
		sched_yield();
	assert_told(w, "mkdir /d\n");
	ns_watch_close(w);
	tree_close(&t);
}

static void test_below_the_floor_it_says_so(void)
{
	struct tree t;
	struct ns_watch *w;
	struct ns_change c;
	struct ns_watch_options opt = { .from = 2 };

	tree_open(&t);
	w = watch_open(&t, MVCC_REV_LATEST, "/");
	make_dir(&t, NS_ROOT, "a", 0755);
	make_dir(&t, NS_ROOT, "b", 0755);
	make_dir(&t, NS_ROOT, "c", 0755);
	CU_ASSERT_EQUAL(mvcc_compact(t.fx->db, 4), 0);
	CU_ASSERT_EQUAL(ns_watch_next(w, &c), MVCC_ECOMPACTED);
	ns_watch_close(w);
	w = NULL;
	CU_ASSERT_EQUAL(ns_watch_open(t.fx->db, &opt, &w), MVCC_ECOMPACTED);
	CU_ASSERT_PTR_NULL(w);
	tree_close(&t);
}

/* ---- rows -------------------------------------------------------------------------------------- */

static void put_inode(struct tree *t, struct mvcc_txn *txn, uint64_t from, uint64_t ino, uint64_t dir,
		      const char *name)
{
	struct ns_src src = { .txn = txn };
	struct held_row held = { 0 };
	struct row_inode row;

	(void)t;
	CU_ASSERT_EQUAL_FATAL(src_row(src, from, &held), 0);
	row = held.row;
	if (name) {
		row.parent = dir;
		row.name = slice_str(name);
	}
	row.mtime_ns++;
	CU_ASSERT_EQUAL(put_row(txn, ino, &row), 0);
	held_row_release(&held);
}

static void del_inode(struct mvcc_txn *txn, uint64_t ino)
{
	struct buf key = { 0 };

	CU_ASSERT_EQUAL(row_inode_key(&key, ino), 0);
	CU_ASSERT_EQUAL(mvcc_txn_del(txn, slice_buf(&key)), 0);
	buf_release(&key);
}

static void del_name(struct mvcc_txn *txn, uint64_t dir, const char *name)
{
	struct buf key = { 0 };

	CU_ASSERT_EQUAL(row_dirent_key(&key, dir, slice_str(name)), 0);
	CU_ASSERT_EQUAL(mvcc_txn_del(txn, slice_buf(&key)), 0);
	buf_release(&key);
}

static mvcc_rev_t commit_undo(struct mvcc_txn *txn)
{
	const struct mvcc_story story = { .op = "undo", .comm = "mvccctl" };
	mvcc_rev_t rev = 0;

	CU_ASSERT_EQUAL(mvcc_txn_commit(txn, &story, MVCC_COMMIT_WAIT, &rev), 0);
	return rev;
}

/*
 * One revision from the side: d/f goes, d/new comes, d/g has another inode, e/h is modified; old/ goes with old/x in it. The
 * rows of d and of the root change, too, which says nothing new.
 */
static mvcc_rev_t change_much(struct tree *t, uint64_t d, uint64_t *old)
{
	uint64_t f = make_file(t, d, "f"), g = make_file(t, d, "g"), e = make_dir(t, NS_ROOT, "e", 0755);
	uint64_t h = make_file(t, e, "h"), x, other;
	struct mvcc_txn *txn;

	*old = make_dir(t, NS_ROOT, "old", 0755);
	x = make_file(t, *old, "x");
	CU_ASSERT_EQUAL(new_ino(t->ns, &other), 0);
	CU_ASSERT_EQUAL_FATAL(mvcc_txn_begin(t->fx->db, &txn), 0);
	put_inode(t, txn, f, other, d, "new");
	CU_ASSERT_EQUAL(put_dirent(txn, d, slice_str("new"), other, NS_TYPE_OF(S_IFREG), 0), 0);
	CU_ASSERT_EQUAL(new_ino(t->ns, &other), 0);
	put_inode(t, txn, g, other, d, "g");
	CU_ASSERT_EQUAL(put_dirent(txn, d, slice_str("g"), other, NS_TYPE_OF(S_IFREG), 0), 0);
	del_inode(txn, g);
	put_inode(t, txn, h, h, 0, NULL);
	put_inode(t, txn, d, d, 0, NULL);
	put_inode(t, txn, NS_ROOT, NS_ROOT, 0, NULL);
	del_name(txn, d, "f");
	del_inode(txn, f);
	del_name(txn, NS_ROOT, "old");
	del_name(txn, *old, "x");
	del_inode(txn, *old);
	del_inode(txn, x);
	return commit_undo(txn);
}

static void test_a_revision_of_many_paths_is_told_path_by_path(void)
{
	struct tree t;
	struct ns_watch *w, *below;
	mvcc_rev_t rev;
	uint64_t d, old;

	tree_open(&t);
	d = make_dir(&t, NS_ROOT, "d", 0755);
	rev = change_much(&t, d, &old);
	w = watch_open(&t, rev, "/");
	below = watch_open(&t, rev, "/d");
	assert_told(w, "D /old\nD /d/f\nM /d/g\nA /d/new\nD /old/x\nM /e/h\n");
	assert_told(below, "D /d/f\nM /d/g\nA /d/new\n");
	ns_watch_close(w);
	ns_watch_close(below);
	tree_close(&t);
}

static void test_it_can_be_resumed_in_the_middle_of_a_revision(void)
{
	struct tree t;
	struct ns_watch *w;
	struct ns_change c;
	uint64_t d, old, given;
	mvcc_rev_t rev, at;

	tree_open(&t);
	d = make_dir(&t, NS_ROOT, "d", 0755);
	rev = change_much(&t, d, &old);
	make_dir(&t, NS_ROOT, "after", 0755);
	w = watch_open(&t, rev, "/d");
	CU_ASSERT_EQUAL(ns_watch_next(w, &c), 1);
	ns_watch_pause(w); /* costs nothing but time */
	CU_ASSERT_EQUAL(ns_watch_next(w, &c), 1);
	at = ns_watch_at(w, &given);
	CU_ASSERT_EQUAL(at, rev);
	CU_ASSERT_EQUAL(given, 3); /* /old is not below /d, and counted all the same */
	ns_watch_close(w);

	w = watch_open(&t, at, "/");
	ns_watch_skip(w, given);
	assert_told(w, "A /d/new\nD /old/x\nM /e/h\nmkdir /after\n");
	CU_ASSERT_EQUAL(ns_watch_at(w, &given), rev + 2);
	CU_ASSERT_EQUAL(given, 0);
	ns_watch_close(w);
	tree_close(&t);
}

static void test_the_first_revision_tells_nothing(void)
{
	struct tree t;
	struct ns_watch *w;

	tree_open(&t);
	w = watch_open(&t, MVCC_REV_FIRST, "/");
	assert_told(w, "");
	ns_watch_close(w);
	tree_close(&t);
}

/* ---- who may know ------------------------------------------------------------------------------ */

static int may_know(struct tree *t, mvcc_rev_t rev, const char *path, uint32_t uid, uint32_t gid)
{
	struct past_who who = { .uid = uid, .gid = gid };

	return past_may_know(t->ns, t->fx->db, rev, slice_str(path), &who);
}

static void test_what_lies_below_a_directory_one_may_not_search_is_not_told(void)
{
	struct tree t;
	uint64_t p;
	mvcc_rev_t rev, gone;
	struct ns_attr closed = { .mode = 0700 }, attr;

	tree_open(&t);
	p = make_dir(&t, NS_ROOT, "p", 0750);
	make_file(&t, p, "f");
	rev = mvcc_current(t.fx->db);
	CU_ASSERT_EQUAL(may_know(&t, rev, "/p/f", 1000, 1), 0);    /* the owner */
	CU_ASSERT_EQUAL(may_know(&t, rev, "/p/f", 7, 100), 0);     /* the group */
	CU_ASSERT_EQUAL(may_know(&t, rev, "/p/f", 7, 7), -EACCES); /* others */
	CU_ASSERT_EQUAL(may_know(&t, rev - 1, "/p", 7, 7), 0);     /* its name is no secret */

	/* Today's permissions count. */
	CU_ASSERT_EQUAL(ns_setattr(t.ns, &me, p, &closed, NS_SET_MODE, false, &attr), 0);
	CU_ASSERT_EQUAL(may_know(&t, rev, "/p/f", 7, 100), -EACCES);

	/* And those it had, when the directory is gone. */
	CU_ASSERT_EQUAL(ns_unlink(t.ns, &me, p, slice_str("f"), NULL), 0);
	gone = mvcc_current(t.fx->db);
	CU_ASSERT_EQUAL(ns_rmdir(t.ns, &me, NS_ROOT, slice_str("p"), NULL), 0);
	CU_ASSERT_EQUAL(may_know(&t, gone, "/p/f", 7, 100), -EACCES);
	CU_ASSERT_EQUAL(may_know(&t, gone, "/p/f", 1000, 1), 0);
	CU_ASSERT_EQUAL(may_know(&t, gone + 1, "/p", 7, 7), 0);
	tree_close(&t);
}

static void test_a_directory_that_went_with_its_content_keeps_its_secrets(void)
{
	struct tree t;
	struct mvcc_txn *txn;
	uint64_t p, f;
	mvcc_rev_t rev;

	tree_open(&t);
	p = make_dir(&t, NS_ROOT, "p", 0700);
	f = make_file(&t, p, "f");
	CU_ASSERT_EQUAL_FATAL(mvcc_txn_begin(t.fx->db, &txn), 0);
	del_name(txn, NS_ROOT, "p");
	del_name(txn, p, "f");
	del_inode(txn, p);
	del_inode(txn, f);
	rev = commit_undo(txn);
	CU_ASSERT_EQUAL(may_know(&t, rev, "/p/f", 7, 7), -EACCES);
	CU_ASSERT_EQUAL(may_know(&t, rev, "/p/f", 1000, 7), 0);
	CU_ASSERT_EQUAL(may_know(&t, rev, "/p", 7, 7), 0);
	tree_close(&t);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_each_change_with_a_story_is_told_once),
	UNIT_TEST(test_only_what_is_at_or_below_the_path),
	UNIT_TEST(test_who_looks_at_much_that_is_not_his_lets_others_have_their_turn),
	UNIT_TEST(test_who_found_nothing_is_told_when_there_is_something),
	UNIT_TEST(test_below_the_floor_it_says_so),
	UNIT_TEST(test_a_revision_of_many_paths_is_told_path_by_path),
	UNIT_TEST(test_it_can_be_resumed_in_the_middle_of_a_revision),
	UNIT_TEST(test_the_first_revision_tells_nothing),
	UNIT_TEST(test_what_lies_below_a_directory_one_may_not_search_is_not_told),
	UNIT_TEST(test_a_directory_that_went_with_its_content_keeps_its_secrets),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("ns_watch", NULL, NULL, tests), CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
