/*
 * Changes of the live tree from the side, and what open files make of them: one revision, after all that was being
 * written; a handle reads the new content of its file, or keeps what was removed; nothing comes back by itself.
 */
#include "fs/ns_row.h"
#include "fs/ns_side.h"

#include "tests/store_fixture.h"
#include "tests/unit.h"

#include <errno.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/statvfs.h>

static const struct ns_who me = { .uid = 1000, .gid = 100, .pid = 42, .comm = "test" };
static const struct mvcc_story side = { .op = "side", .comm = "test" };

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
	fixture_verify(t->fx);
	fixture_close(t->fx);
}

static struct ns_file *make_open(struct tree *t, const char *name, const char *text, uint64_t *ino)
{
	struct ns_file *f = NULL;
	struct ns_attr attr = { 0 };

	CU_ASSERT_EQUAL_FATAL(ns_create(t->ns, &me, NS_ROOT, slice_str(name), 0644, &f, &attr), 0);
	CU_ASSERT_EQUAL(ns_file_write(f, &me, 0, text, strlen(text)), 0);
	*ino = attr.ino;
	return f;
}

static void assert_reads(struct ns_file *f, const char *text)
{
	char got[64] = "";

	CU_ASSERT_EQUAL(ns_file_read(f, 0, got, sizeof(got) - 1), (ssize_t)strlen(text));
	CU_ASSERT_STRING_EQUAL(got, text);
}

/* Gives a small file the content `text`, as anybody may who knows the rows. */
struct rewrite {
	uint64_t ino;
	const char *text;
	unsigned calls;
};

static int rewrite(void *arg, struct mvcc_txn *txn)
{
	struct rewrite *r = arg;
	struct buf key = { 0 }, value = { 0 };
	struct mvcc_item item = { 0 };
	struct row_inode row;
	int err = row_inode_key(&key, r->ino);

	r->calls++;
	if (!err)
		err = mvcc_txn_get(txn, slice_buf(&key), &item);
	if (!err)
		err = row_inode_decode(item.value, &row);
	if (!err) {
		row.content = slice_str(r->text);
		row.size = row.content.len;
		err = row_inode_encode(&value, &row);
	}
	if (!err)
		err = mvcc_txn_put(txn, slice_buf(&key), slice_buf(&value), NULL, 0);
	mvcc_item_release(&item);
	buf_release(&key);
	buf_release(&value);
	return err;
}

/* Removes a file of the root, all its rows. */
struct removal {
	uint64_t ino;
	const char *name;
};

static int removal(void *arg, struct mvcc_txn *txn)
{
	static const uint8_t kinds[] = { ROW_INODE, ROW_EXTENT, ROW_XATTR };
	const struct removal *r = arg;
	struct buf key = { 0 }, end = { 0 };
	int err = row_dirent_key(&key, NS_ROOT, slice_str(r->name));

	if (!err)
		err = mvcc_txn_del(txn, slice_buf(&key));
	for (unsigned i = 0; !err && i < sizeof(kinds); i++) {
		err = row_bounds(kinds[i], r->ino, &key, &end);
		if (!err && kinds[i] == ROW_INODE)
			err = mvcc_txn_del(txn, slice_buf(&key));
		else if (!err)
			err = mvcc_txn_del_range(txn, slice_buf(&key), slice_buf(&end), NULL);
	}
	buf_release(&key);
	buf_release(&end);
	return err;
}

static void test_what_is_being_written_becomes_a_revision_first(void)
{
	struct rewrite r = { .text = "from the side" };
	struct ns_file *f, *other;
	mvcc_rev_t rev = 0;
	struct tree t;
	uint64_t ino;

	tree_open(&t);
	f = make_open(&t, "f", "mine", &r.ino);
	other = make_open(&t, "other", "pending", &ino);
	CU_ASSERT_EQUAL(mvcc_current(t.fx->db), 1);
	CU_ASSERT_EQUAL(ns_side_run(t.ns, rewrite, &r, &side, &rev), 0);
	CU_ASSERT_EQUAL(rev, 4); /* two files were made before */
	CU_ASSERT_EQUAL(r.calls, 1);
	assert_reads(f, "from the side");
	assert_reads(other, "pending");
	CU_ASSERT_EQUAL(ns_file_write(f, &me, 5, "THE", 3), 0);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	CU_ASSERT_EQUAL(ns_file_close(other), 0);
	CU_ASSERT_EQUAL(mvcc_current(t.fx->db), 5);
	CU_ASSERT_EQUAL(ns_file_open(t.ns, &me, r.ino, NS_OPEN_READ, (struct ns_gone){ 0 }, &f), 0);
	assert_reads(f, "from THE side");
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	tree_close(&t);
}

static void test_a_transaction_meets_what_was_written_since_it_began(void)
{
	struct rewrite r = { .text = "too late" };
	struct mvcc_txn *txn;
	struct ns_file *f;
	struct tree t;

	tree_open(&t);
	f = make_open(&t, "f", "one", &r.ino);
	CU_ASSERT_EQUAL(ns_file_flush(f), 0);
	txn = begin(t.fx->db);
	CU_ASSERT_EQUAL(rewrite(&r, txn), 0);
	CU_ASSERT_EQUAL(ns_file_write(f, &me, 0, "two", 3), 0);
	CU_ASSERT_EQUAL(ns_side_commit(t.ns, txn, &side, NULL), MVCC_ECONFLICT);
	assert_reads(f, "two");
	CU_ASSERT_EQUAL(mvcc_current(t.fx->db), 3);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	tree_close(&t);
}

static void test_a_file_removed_from_the_side_stays_with_its_handles(void)
{
	struct removal r = { .name = "f" };
	struct ns_attr attr;
	mvcc_rev_t rev = 0;
	struct ns_file *f;
	struct tree t;

	tree_open(&t);
	f = make_open(&t, "f", "mine", &r.ino);
	CU_ASSERT_EQUAL(ns_side_run(t.ns, removal, &r, &side, &rev), 0);
	assert_reads(f, "mine");
	CU_ASSERT_EQUAL(ns_file_write(f, &me, 4, " still", 6), 0);
	assert_reads(f, "mine still");
	CU_ASSERT_EQUAL(ns_getattr(t.ns, r.ino, &attr), 0);
	CU_ASSERT_EQUAL(attr.nlink, 0);
	CU_ASSERT_EQUAL(ns_lookup(t.ns, NS_ROOT, slice_str("f"), &attr), -ENOENT);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	CU_ASSERT_EQUAL(mvcc_current(t.fx->db), rev);
	CU_ASSERT_EQUAL(ns_getattr(t.ns, r.ino, &attr), -ENOENT);
	tree_close(&t);
}

/* Removes the rows as the store itself does when a lease ends: nobody asks the tree. */
static void remove_unasked(struct tree *t, struct removal *r)
{
	struct mvcc_txn *txn = begin(t->fx->db);

	CU_ASSERT_EQUAL(removal(r, txn), 0);
	commit(txn);
}

static void test_a_file_that_the_store_removed_is_not_brought_back(void)
{
	enum { BIG = 1 << 20 };
	struct removal small = { .name = "small" }, big = { .name = "big" };
	char *data = calloc(1, BIG), *got = calloc(1, BIG);
	struct ns_file *s, *b;
	struct ns_attr attr;
	mvcc_rev_t rev = 0;
	struct tree t;

	tree_open(&t);
	memset(data, 'x', BIG);
	s = make_open(&t, "small", "one", &small.ino);
	b = make_open(&t, "big", "", &big.ino);
	CU_ASSERT_EQUAL(ns_file_write(b, &me, 0, data, BIG), 0);
	CU_ASSERT_EQUAL(ns_settle_all(t.ns), 0);
	CU_ASSERT_EQUAL(ns_file_write(s, &me, 0, "two", 3), 0);
	memset(data, 'y', BIG / 2);
	CU_ASSERT_EQUAL(ns_file_write(b, &me, 0, data, BIG / 2), 0);
	CU_ASSERT_EQUAL(ns_file_allocate(b, &me, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, BIG / 2, 4096),
			0); /* staged */
	memset(data + BIG / 2, 0, 4096);
	remove_unasked(&t, &small);
	remove_unasked(&t, &big);
	rev = mvcc_current(t.fx->db);
	CU_ASSERT_EQUAL(ns_file_flush(s), 0);
	CU_ASSERT_EQUAL(ns_file_commit(b, &rev), 0);
	CU_ASSERT_EQUAL(mvcc_current(t.fx->db), rev);
	assert_reads(s, "two");
	CU_ASSERT_EQUAL(ns_file_read(b, 0, got, BIG), BIG);
	CU_ASSERT_EQUAL(memcmp(got, data, BIG), 0);
	CU_ASSERT_EQUAL(ns_file_close(s), 0);
	CU_ASSERT_EQUAL(ns_file_close(b), 0);
	CU_ASSERT_EQUAL(ns_getattr(t.ns, small.ino, &attr), -ENOENT);
	CU_ASSERT_EQUAL(ns_getattr(t.ns, big.ino, &attr), -ENOENT);
	free(data);
	free(got);
	tree_close(&t);
}

static void test_what_the_store_removed_stays_with_its_readers(void)
{
	struct removal r = { .name = "f" };
	struct ns_file *f;
	struct tree t;

	tree_open(&t);
	f = make_open(&t, "f", "mine", &r.ino);
	CU_ASSERT_EQUAL(ns_file_flush(f), 0);
	remove_unasked(&t, &r);
	ns_side_removed(t.ns);
	assert_reads(f, "mine");
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	tree_close(&t);
}

struct busy {
	struct ns_file *f;
	atomic_bool stop;
	atomic_uint failures;
};

static void *write_on(void *arg)
{
	struct busy *b = arg;
	mvcc_rev_t rev;

	while (!atomic_load(&b->stop)) {
		if (ns_file_write(b->f, &me, 0, "busy", 4) || ns_file_commit(b->f, &rev))
			atomic_fetch_add(&b->failures, 1);
	}
	return NULL;
}

static void test_a_writer_who_never_rests_holds_nobody_up(void)
{
	struct rewrite r = { .text = "from the side" };
	struct busy b = { 0 };
	pthread_t thread;
	struct tree t;

	tree_open(&t);
	b.f = make_open(&t, "f", "mine", &r.ino);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, write_on, &b), 0);
	for (unsigned i = 0; i < 20; i++)
		CU_ASSERT_EQUAL(ns_side_run(t.ns, rewrite, &r, &side, NULL), 0);
	atomic_store(&b.stop, true);
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(atomic_load(&b.failures), 0);
	CU_ASSERT_EQUAL(ns_file_write(b.f, &me, 0, "busy", 4), 0);
	assert_reads(b.f, "busy the side");
	CU_ASSERT_EQUAL(ns_file_close(b.f), 0);
	tree_close(&t);
}

static void test_what_cannot_be_committed_before_keeps_the_change_away(void)
{
	struct removal r = { .name = "old" };
	struct ns_options opt = { .commit_ms = 60000 };
	struct ns_file *f;
	struct ns_attr attr;
	struct statvfs st;
	mvcc_rev_t rev;
	struct tree t;
	uint64_t ino;

	tree_open(&t);
	CU_ASSERT_EQUAL(ns_file_close(make_open(&t, "old", "kept", &r.ino)), 0);
	CU_ASSERT_EQUAL(ns_close(t.ns), 0);
	CU_ASSERT_EQUAL_FATAL(statvfs(t.fx->tmp, &st), 0);
	t.fx->opt.reserve_bytes =
		2 * (uint64_t)st.f_bavail * st.f_frsize; /* a full disk: only deletes are let in */
	fixture_reopen(t.fx);
	CU_ASSERT_EQUAL_FATAL(ns_open(t.fx->db, &opt, &t.ns), 0);
	rev = mvcc_current(t.fx->db);
	f = make_open(&t, "new", "does not fit", &ino);
	CU_ASSERT_EQUAL(ns_side_run(t.ns, removal, &r, &side, NULL), -ENOSPC);
	CU_ASSERT_EQUAL(mvcc_current(t.fx->db), rev);
	CU_ASSERT_EQUAL(ns_lookup(t.ns, NS_ROOT, slice_str("old"), &attr), 0);
	assert_reads(f, "does not fit");
	CU_ASSERT_EQUAL(ns_unlink(t.ns, &me, NS_ROOT, slice_str("new"), NULL), 0);
	CU_ASSERT_EQUAL(ns_side_run(t.ns, removal, &r, &side, NULL), 0);
	CU_ASSERT_EQUAL(ns_lookup(t.ns, NS_ROOT, slice_str("old"), &attr), -ENOENT);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	tree_close(&t);
}

static int refuse(void *arg, struct mvcc_txn *txn)
{
	(void)arg;
	txn_put(txn, "never", "seen");
	return -EDOM;
}

static void test_a_change_that_is_given_up_leaves_nothing(void)
{
	mvcc_rev_t rev = 0;
	struct tree t;

	tree_open(&t);
	CU_ASSERT_EQUAL(ns_side_run(t.ns, refuse, NULL, &side, &rev), -EDOM);
	CU_ASSERT_EQUAL(rev, 0);
	CU_ASSERT_EQUAL(mvcc_current(t.fx->db), 1);
	tree_close(&t);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_what_is_being_written_becomes_a_revision_first),
	UNIT_TEST(test_a_transaction_meets_what_was_written_since_it_began),
	UNIT_TEST(test_a_file_removed_from_the_side_stays_with_its_handles),
	UNIT_TEST(test_a_file_that_the_store_removed_is_not_brought_back),
	UNIT_TEST(test_what_the_store_removed_stays_with_its_readers),
	UNIT_TEST(test_a_writer_who_never_rests_holds_nobody_up),
	UNIT_TEST(test_what_cannot_be_committed_before_keeps_the_change_away),
	UNIT_TEST(test_a_change_that_is_given_up_leaves_nothing),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("ns_side", NULL, NULL, tests), CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
