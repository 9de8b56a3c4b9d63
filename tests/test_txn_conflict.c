/*
 * What a commit validates: keys read, keys found absent, ranges walked, guards; and what it must not mind.
 * Too little validation loses updates, too much makes every busy directory a conflict: both are tested.
 */
#include "mvcc/txn_int.h"
#include "tests/store_fixture.h"

#include "rocks_backend/rocks.h"
#include "tests/unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

/* ---- keys ---------------------------------------------------------------------------------- */

enum change { PUT, DEL, REPLACE };

static void change_key(struct mvcc *db, const char *key, enum change what)
{
	struct mvcc_txn *txn = begin(db);

	if (what != PUT)
		txn_del(txn, key);
	if (what != DEL)
		txn_put(txn, key, "theirs");
	commit(txn);
}

static void test_a_key_that_was_read_and_changed_conflicts(void)
{
	static const enum change changes[] = { PUT, DEL, REPLACE };
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;
	mvcc_rev_t rev;

	for (int i = 0; i < 3; i++) {
		put(fx->db, "a", "mine");
		txn = begin(fx->db);
		assert_txn_value(txn, "a", "mine");
		txn_put(txn, "b", "from a");
		change_key(fx->db, "a", changes[i]);
		rev = mvcc_current(fx->db);
		CU_ASSERT_EQUAL(commit_err(txn), MVCC_ECONFLICT);
		CU_ASSERT_EQUAL(mvcc_current(fx->db), rev);
		assert_absent_at(fx->db, MVCC_REV_LATEST, "b");
	}
	fixture_close(fx);
}

static void test_the_same_value_put_again_is_a_change(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;

	put(fx->db, "a", "1");
	txn = begin(fx->db);
	assert_txn_value(txn, "a", "1");
	txn_put(txn, "b", "1");
	put(fx->db, "a", "2");
	put(fx->db, "a", "1");
	CU_ASSERT_EQUAL(commit_err(txn), MVCC_ECONFLICT);
	fixture_close(fx);
}

static void test_a_key_found_absent_and_put_conflicts(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;

	put(fx->db, "was", "1");
	del(fx->db, "was");
	for (int i = 0; i < 2; i++) {
		txn = begin(fx->db);
		assert_txn_value(txn, i ? "was" : "never", NULL);
		txn_put(txn, "b", "1");
		put(fx->db, i ? "was" : "never", "now");
		CU_ASSERT_EQUAL(commit_err(txn), MVCC_ECONFLICT);
	}
	txn = begin(fx->db);
	assert_txn_value(txn, "other", NULL);
	txn_put(txn, "b", "2");
	del(fx->db, "other"); /* changes nothing */
	put(fx->db, "others", "1");
	commit(txn);
	fixture_close(fx);
}

static void test_other_keys_do_not_conflict(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;

	put(fx->db, "b", "1");
	txn = begin(fx->db);
	assert_txn_value(txn, "b", "1");
	assert_txn_value(txn, "bb", NULL);
	txn_put(txn, "b", "2");
	put(fx->db, "a", "1");
	put(fx->db, "ba", "1");
	put(fx->db, "bbb", "1");
	put(fx->db, "c", "1");
	CU_ASSERT_EQUAL(commit(txn), 7);
	assert_value_at(fx->db, MVCC_REV_LATEST, "b", "2");
	fixture_close(fx);
}

static void test_changes_before_the_beginning_do_not_conflict(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;

	put(fx->db, "a", "1");
	put(fx->db, "a", "2");
	txn = begin(fx->db);
	assert_txn_value(txn, "a", "2");
	txn_put(txn, "a", "3");
	CU_ASSERT_EQUAL(commit(txn), 4);
	txn = begin(fx->db);
	assert_txn_value(txn, "a", "3");
	txn_put(txn, "a", "4");
	put(fx->db, "other", "1");
	CU_ASSERT_EQUAL(commit(txn), 6);
	fixture_close(fx);
}

static void test_peeks_are_not_validated(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;

	put(fx->db, "a", "1");
	txn = begin(fx->db);
	assert_txn_peek(txn, "a", "1");
	assert_txn_peek(txn, "absent", NULL);
	assert_txn_peek_range(txn, "", "", "a=1");
	txn_put(txn, "b", "1");
	put(fx->db, "a", "2");
	put(fx->db, "absent", "no more");
	commit(txn);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "a=2 absent=no more b=1");
	fixture_close(fx);
}

static void test_blind_writes_do_not_conflict_and_build_on_the_newest(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *one, *two, *three;

	put(fx->db, "k", "0");
	one = begin(fx->db);
	two = begin(fx->db);
	three = begin(fx->db);
	txn_put(one, "k", "1");
	txn_put(two, "k", "2");
	txn_del(three, "k");
	CU_ASSERT_EQUAL(commit(two), 3);
	CU_ASSERT_EQUAL(commit(one), 4);
	CU_ASSERT_EQUAL(commit(three), 5);
	one = begin(fx->db);
	two = begin(fx->db);
	put(fx->db, "k", "3");
	txn_put(one, "k", "4");
	txn_del(two, "k");
	CU_ASSERT_EQUAL(del(fx->db, "k"), 7);
	CU_ASSERT_EQUAL(commit(two), 7); /* gone already: nothing to do */
	CU_ASSERT_EQUAL(commit(one), 8);
	for (int drained = 0; drained < 2; drained++) {
		assert_history(fx->db, "k", "2.2.1-3=0 2.3.2-4=2 2.4.3-5=1 6.6.1-7=3 8.8.1-0=4");
		assert_changes(fx->db, 4, "+k<3");
		assert_changes(fx->db, 8, "+k<0");
		fixture_drain(fx);
	}
	fixture_close(fx);
}

static void test_write_skew_is_refused(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *one, *two;

	put(fx->db, "x", "on call");
	put(fx->db, "y", "on call");
	one = begin(fx->db);
	two = begin(fx->db);
	assert_txn_value(one, "x", "on call");
	assert_txn_value(one, "y", "on call");
	assert_txn_value(two, "x", "on call");
	assert_txn_value(two, "y", "on call");
	txn_put(one, "x", "off");
	txn_put(two, "y", "off");
	commit(one);
	CU_ASSERT_EQUAL(commit_err(two), MVCC_ECONFLICT);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "x=off y=on call");
	fixture_close(fx);
}

/* ---- ranges -------------------------------------------------------------------------------- */

/* A transaction walks [b, d) over b0, b5, c5; somebody does `what` to `key`; does the commit conflict? */
static bool walked_range_conflicts(const char *key, enum change what)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;
	int err;

	put(fx->db, "a", "1");
	put(fx->db, "b0", "1");
	put(fx->db, "b5", "1");
	put(fx->db, "c5", "1");
	put(fx->db, "d", "1");
	txn = begin(fx->db);
	assert_txn_range(txn, "b", "d", "b0=1 b5=1 c5=1");
	txn_put(txn, "result", "1");
	change_key(fx->db, key, what);
	err = commit_err(txn);
	CU_ASSERT(err == 0 || err == MVCC_ECONFLICT);
	fixture_close(fx);
	return err == MVCC_ECONFLICT;
}

static void test_a_walked_range_admits_no_phantoms(void)
{
	CU_ASSERT_TRUE(walked_range_conflicts("b3", PUT));
	CU_ASSERT_TRUE(walked_range_conflicts("b", PUT)); /* the very start */
	CU_ASSERT_TRUE(walked_range_conflicts("c9", PUT));
	CU_ASSERT_TRUE(walked_range_conflicts("b5", PUT));
	CU_ASSERT_TRUE(walked_range_conflicts("b5", DEL));
	CU_ASSERT_TRUE(walked_range_conflicts("c5", REPLACE));
	CU_ASSERT_FALSE(walked_range_conflicts("a", PUT));
	CU_ASSERT_FALSE(walked_range_conflicts("az", PUT));
	CU_ASSERT_FALSE(walked_range_conflicts("d", DEL)); /* the end is not in it */
	CU_ASSERT_FALSE(walked_range_conflicts("e", PUT));
	CU_ASSERT_FALSE(walked_range_conflicts("b6", DEL)); /* absent: no change */
}

static void test_an_empty_walked_range_admits_no_phantoms(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn = begin(fx->db);

	assert_txn_range(txn, "dir/", "dir0", "");
	txn_put(txn, "decided", "to remove dir");
	put(fx->db, "dir/file", "1");
	CU_ASSERT_EQUAL(commit_err(txn), MVCC_ECONFLICT);
	txn = begin(fx->db);
	assert_txn_range(txn, "x", "", "");
	txn_put(txn, "a", "1");
	put(fx->db, "zzz", "1");
	CU_ASSERT_EQUAL(commit_err(txn), MVCC_ECONFLICT); /* an open end reaches every key */
	fixture_close(fx);
}

/* ---- guards -------------------------------------------------------------------------------- */

static void test_expect_exists_is_judged_at_commit(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;

	put(fx->db, "dir", "1");
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_expect_exists(txn, str("dir")), 0);
	txn_put(txn, "dir/a", "1");
	put(fx->db, "dir", "touched"); /* no conflict: it exists all the same */
	commit(txn);
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_expect_exists(txn, str("dir")), 0);
	txn_put(txn, "dir/b", "1");
	change_key(fx->db, "dir", REPLACE);
	commit(txn);
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_expect_exists(txn, str("dir")), 0);
	txn_put(txn, "dir/c", "1");
	del(fx->db, "dir");
	CU_ASSERT_EQUAL(commit_err(txn), MVCC_ECONFLICT);
	assert_absent_at(fx->db, MVCC_REV_LATEST, "dir/c");
	txn = begin(fx->db); /* absent from the beginning */
	CU_ASSERT_EQUAL(mvcc_txn_expect_exists(txn, str("dir")), 0);
	txn_put(txn, "dir/c", "1");
	CU_ASSERT_EQUAL(commit_err(txn), MVCC_ECONFLICT);
	txn = begin(fx->db); /* absent at the beginning, there at the commit */
	CU_ASSERT_EQUAL(mvcc_txn_expect_exists(txn, str("dir")), 0);
	txn_put(txn, "dir/c", "1");
	put(fx->db, "dir", "again");
	commit(txn);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "dir=again dir/a=1 dir/b=1 dir/c=1");
	fixture_close(fx);
}

static void test_a_guard_before_the_put_is_about_what_others_do(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;

	put(fx->db, "k", "1");
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_expect_exists(txn, str("k")), 0);
	txn_put(txn, "k", "mine");
	put(fx->db, "k", "2"); /* only written, not read: the later one wins */
	commit(txn);
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_expect_exists(txn, str("k")), 0);
	txn_put(txn, "k", "mine again");
	del(fx->db, "k");
	CU_ASSERT_EQUAL(commit_err(txn), MVCC_ECONFLICT);
	assert_absent_at(fx->db, MVCC_REV_LATEST, "k");
	fixture_close(fx);
}

static void test_expect_empty_is_judged_at_commit(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;

	put(fx->db, "dir", "1");
	for (int drained = 0; drained < 2; drained++) {
		txn = begin(fx->db); /* a key put after the beginning */
		CU_ASSERT_EQUAL(mvcc_txn_expect_empty(txn, str("dir/"), str("dir0")), 0);
		txn_del(txn, "dir");
		put(fx->db, "dir/a", "1");
		CU_ASSERT_EQUAL(commit_err(txn), MVCC_ECONFLICT);
		if (drained)
			fixture_drain(fx);
		txn = begin(fx->db); /* a key that was there already */
		CU_ASSERT_EQUAL(mvcc_txn_expect_empty(txn, str("dir/"), str("dir0")), 0);
		txn_del(txn, "dir");
		CU_ASSERT_EQUAL(commit_err(txn), MVCC_ECONFLICT);
		txn = begin(fx->db); /* there at the beginning, gone at the commit */
		CU_ASSERT_EQUAL(mvcc_txn_expect_empty(txn, str("dir/"), str("dir0")), 0);
		txn_put(txn, "dir", "found empty");
		del(fx->db, "dir/a");
		commit(txn);
		if (drained)
			fixture_drain(fx);
		txn = begin(fx->db);
		CU_ASSERT_EQUAL(mvcc_txn_expect_empty(txn, str("dir/"), str("dir0")), 0);
		txn_put(txn, "dir", "still empty");
		put(fx->db, "dir0", "next door");
		put(fx->db, "dir.", "next door");
		put(fx->db, "dir/x", "come");
		del(fx->db, "dir/x"); /* and gone */
		commit(txn);
		assert_value_at(fx->db, MVCC_REV_LATEST, "dir", "still empty");
	}
	fixture_close(fx);
}

static void test_a_directory_is_never_removed_under_a_new_child(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *creator, *remover;

	for (int creator_first = 0; creator_first < 2; creator_first++) {
		put(fx->db, "dir", "1");
		creator = begin(fx->db);
		remover = begin(fx->db);
		CU_ASSERT_EQUAL(mvcc_txn_expect_exists(creator, str("dir")), 0);
		txn_put(creator, "dir/a", "1");
		CU_ASSERT_EQUAL(mvcc_txn_expect_empty(remover, str("dir/"), str("dir0")), 0);
		txn_del(remover, "dir");
		if (creator_first) {
			commit(creator);
			CU_ASSERT_EQUAL(commit_err(remover), MVCC_ECONFLICT);
			assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "dir=1 dir/a=1");
		} else {
			commit(remover);
			CU_ASSERT_EQUAL(commit_err(creator), MVCC_ECONFLICT);
			assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "");
		}
	}
	fixture_close(fx);
}

/* ---- updates ------------------------------------------------------------------------------- */

static int add_number(const void *arg, struct slice old, struct buf *out)
{
	uint64_t n = old.len == 8 ? get_le64(old.data) : 0;

	return buf_put_le64(out, n + get_le64(arg));
}

static int append_text(const void *arg, struct slice old, struct buf *out)
{
	int err = buf_put_slice(out, old);

	return err ? err : buf_put(out, arg, strlen(arg));
}

static void update_text(struct mvcc_txn *txn, const char *key, const char *more)
{
	char copy[16]; /* the argument is copied: this one is gone when the update runs */

	snprintf(copy, sizeof(copy), "%s", more);
	CU_ASSERT_EQUAL(mvcc_txn_update(txn, str(key), append_text, copy, strlen(copy) + 1), 0);
	memset(copy, 'X', sizeof(copy) - 1);
}

static void test_updates_are_applied_to_what_is_there_at_commit(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *one, *two;

	put(fx->db, "k", "0");
	one = begin(fx->db);
	two = begin(fx->db);
	update_text(one, "k", "1");
	update_text(two, "k", "2");
	assert_txn_peek(one, "k", "0"); /* not seen by its own reads */
	put(fx->db, "k", "new ");
	CU_ASSERT_EQUAL(commit(two), 4);
	CU_ASSERT_EQUAL(commit(one), 5);
	for (int drained = 0; drained < 2; drained++) {
		assert_record_at(fx->db, 4, "k", "new 2", 2, 4, 3);
		assert_record_at(fx->db, 5, "k", "new 21", 2, 5, 4);
		assert_changes(fx->db, 5, "+k<4");
		fixture_drain(fx);
	}
	fixture_close(fx);
}

static void test_updates_of_an_absent_key_are_left_out(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;

	put(fx->db, "k", "0");
	txn = begin(fx->db);
	update_text(txn, "absent", "1");
	CU_ASSERT_EQUAL(commit(txn), 2); /* nothing changed */
	txn = begin(fx->db);
	update_text(txn, "k", "1");
	txn_put(txn, "other", "1");
	del(fx->db, "k");
	CU_ASSERT_EQUAL(commit(txn), 4);
	assert_range_at(fx->db, 4, "", "", 0, "other=1");
	assert_changes(fx->db, 4, "+other<0");
	txn = begin(fx->db); /* absent at the beginning, there at the commit */
	update_text(txn, "k", "+");
	put(fx->db, "k", "again");
	CU_ASSERT_EQUAL(commit(txn), 6);
	assert_value_at(fx->db, MVCC_REV_LATEST, "k", "again+");
	fixture_close(fx);
}

static void test_updates_follow_the_own_writes(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;

	put(fx->db, "k", "theirs");
	txn = begin(fx->db);
	txn_put(txn, "k", "mine");
	update_text(txn, "k", "+1");
	update_text(txn, "k", "+2");
	txn_put(txn, "new", "born");
	update_text(txn, "new", "!");
	put(fx->db, "gone", "1");
	txn_del(txn, "gone");
	update_text(txn, "gone", "!");
	put(fx->db, "k", "theirs again");
	commit(txn);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "k=mine+1+2 new=born!");
	fixture_drain(fx);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "k=mine+1+2 new=born!");
	fixture_close(fx);
}

static void test_updates_keep_the_blobs_of_the_record(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_item item = { 0 };
	struct mvcc_view *view = NULL;
	struct mvcc_txn *txn = begin(fx->db);
	mvcc_blob_t blob = 0;
	char text[8];

	CU_ASSERT_EQUAL(mvcc_txn_stage_blob(txn, str("bytes"), &blob), 0);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("k"), str("v"), &blob, 1), 0);
	commit(txn);
	txn = begin(fx->db);
	update_text(txn, "k", "w");
	commit(txn);
	fixture_reopen(fx);
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, MVCC_REV_LATEST, &view), 0);
	CU_ASSERT_EQUAL(mvcc_get(view, str("k"), &item), 0);
	CU_ASSERT(slice_eq(item.value, str("vw")));
	CU_ASSERT_EQUAL(item.nblobs, 1);
	CU_ASSERT(item.nblobs == 1 && item.blobs[0] == blob);
	CU_ASSERT_EQUAL(mvcc_blob_read(fx->db, blob, 0, text, sizeof(text)), 5);
	mvcc_item_release(&item);
	mvcc_view_close(view);
	fixture_close(fx);
}

static void test_an_update_is_a_change_for_those_who_read(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *reader, *updater;

	put(fx->db, "k", "0");
	reader = begin(fx->db);
	assert_txn_value(reader, "k", "0");
	txn_put(reader, "copy", "0");
	updater = begin(fx->db);
	update_text(updater, "k", "1");
	commit(updater);
	CU_ASSERT_EQUAL(commit_err(reader), MVCC_ECONFLICT);
	fixture_close(fx);
}

/* ---- the window ---------------------------------------------------------------------------- */

enum { MANY = 3000, EACH = 25 }; /* commits, and keys in each: more than the window in memory knows */

static void commit_many(struct mvcc *db, const char *hit)
{
	char key[16];

	for (unsigned i = 0; i < MANY; i++) {
		struct mvcc_txn *txn = begin(db);

		for (unsigned j = 0; j < EACH; j++) {
			snprintf(key, sizeof(key), "k%03u%03u", i % 100, j);
			txn_put(txn, key, "");
		}
		commit(txn);
		if (hit && i == 10)
			put(db, hit, "changed early");
	}
}

static void test_a_transaction_older_than_the_window_is_still_judged_rightly(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *key_kept, *key_hit, *range_kept, *range_hit, *absent_kept, *absent_hit, *guarded;

	put(fx->db, "a", "1");
	put(fx->db, "r/1", "1");
	put(fx->db, "s/1", "1");
	key_kept = begin(fx->db);
	assert_txn_value(key_kept, "a", "1");
	txn_put(key_kept, "result 1", "1");
	range_kept = begin(fx->db);
	assert_txn_range(range_kept, "r/", "r0", "r/1=1");
	txn_put(range_kept, "result 2", "1");
	absent_kept = begin(fx->db);
	assert_txn_value(absent_kept, "never", NULL);
	txn_put(absent_kept, "result 3", "1");
	key_hit = begin(fx->db);
	assert_txn_value(key_hit, "s/1", "1");
	txn_put(key_hit, "result 4", "1");
	range_hit = begin(fx->db);
	assert_txn_range(range_hit, "s/", "s0", "s/1=1");
	txn_put(range_hit, "result 5", "1");
	absent_hit = begin(fx->db);
	assert_txn_value(absent_hit, "s/0", NULL);
	txn_put(absent_hit, "result 6", "1");
	guarded = begin(fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_expect_exists(guarded, str("a")), 0);
	CU_ASSERT_EQUAL(mvcc_txn_expect_empty(guarded, str("e/"), str("e0")), 0);
	txn_put(guarded, "result 7", "1");
	commit_many(fx->db, "s/1");
	put(fx->db, "s/0", "changed late");
	CU_ASSERT_EQUAL(commit_err(key_kept), 0);
	CU_ASSERT_EQUAL(commit_err(range_kept), 0);
	CU_ASSERT_EQUAL(commit_err(absent_kept), 0);
	CU_ASSERT_EQUAL(commit_err(key_hit), MVCC_ECONFLICT);
	CU_ASSERT_EQUAL(commit_err(range_hit), MVCC_ECONFLICT);
	CU_ASSERT_EQUAL(commit_err(absent_hit), MVCC_ECONFLICT);
	CU_ASSERT_EQUAL(commit_err(guarded), 0);
	assert_range_at(fx->db, MVCC_REV_LATEST, "result", "resulu", 0,
			"result 1=1 result 2=1 result 3=1 result 7=1");
	fixture_close(fx);
}

static void test_an_old_transaction_commits_while_others_go_on(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *old[3];

	put(fx->db, "a", "1");
	for (int i = 0; i < 3; i++) {
		old[i] = begin(fx->db);
		assert_txn_value(old[i], "a", "1");
		txn_put(old[i], "b", "1");
	}
	for (int i = 0; i < 3; i++) {
		commit_many(fx->db, NULL);
		CU_ASSERT_EQUAL(commit_err(old[i]), 0);
	}
	assert_record_at(fx->db, MVCC_REV_LATEST, "b", "1", MANY + 3, 3 * MANY + 5, 3);
	fixture_close(fx);
}

/* One commit that changes every even key of 0..2n-1, by a ring record or by a staged run. */
static void commit_wide(struct mvcc *db, unsigned n, size_t value_len)
{
	static const uint8_t value[4096];
	struct mvcc_txn *txn = begin(db);
	char key[16];

	for (unsigned i = 0; i < n; i++) {
		snprintf(key, sizeof(key), "w%06u", 2 * i);
		CU_ASSERT_EQUAL(mvcc_txn_put(txn, str(key), slice_of(value, value_len), NULL, 0), 0);
	}
	commit(txn);
}

static void check_wide(unsigned n, size_t value_len)
{
	struct fixture *fx = fixture_open_small_ring();
	struct mvcc_txn *odd, *even, *between, *across, *outside;

	put(fx->db, "w000101", "odd");
	put(fx->db, "w000100", "even");
	odd = begin(fx->db);
	assert_txn_value(odd, "w000101", "odd");
	assert_txn_value(odd, "w000103", NULL);
	txn_put(odd, "result 1", "1");
	even = begin(fx->db);
	assert_txn_value(even, "w000100", "even");
	txn_put(even, "result 2", "1");
	between = begin(fx->db);
	assert_txn_range(between, "w000101", "w000102", "w000101=odd");
	txn_put(between, "result 3", "1");
	across = begin(fx->db);
	assert_txn_range(across, "w000103", "w000105", "");
	txn_put(across, "result 4", "1");
	outside = begin(fx->db);
	assert_txn_range(outside, "x", "", "");
	assert_txn_range(outside, "a", "w", "");
	txn_put(outside, "v", "1");
	commit_wide(fx->db, n, value_len);
	CU_ASSERT_EQUAL(commit_err(odd), 0);
	CU_ASSERT_EQUAL(commit_err(even), MVCC_ECONFLICT);
	CU_ASSERT_EQUAL(commit_err(between), 0);
	CU_ASSERT_EQUAL(commit_err(across), MVCC_ECONFLICT);
	CU_ASSERT_EQUAL(commit_err(outside), MVCC_ECONFLICT); /* result 1 came into [a, w) */
	fixture_close(fx);
}

static void test_a_wide_commit_conflicts_by_its_keys_not_by_its_width(void)
{
	check_wide(1000, 1);
	check_wide(4000, 10);
}

static void test_a_commit_larger_than_the_ring_conflicts_by_its_keys(void)
{
	check_wide(2000, 1000);
}

static void test_a_transaction_larger_than_the_ring_is_validated(void)
{
	static const uint8_t value[1000];
	struct fixture *fx = fixture_open_small_ring();
	struct mvcc_txn *txn;
	char key[16];

	put(fx->db, "a", "1");
	for (int conflict = 1; conflict >= 0; conflict--) {
		txn = begin(fx->db);
		assert_txn_value(txn, "a", conflict ? "1" : "2");
		for (unsigned i = 0; i < 2000; i++) {
			snprintf(key, sizeof(key), "big%06u", i);
			CU_ASSERT_EQUAL(mvcc_txn_put(txn, str(key), slice_of(value, 1000), NULL, 0), 0);
		}
		if (conflict)
			put(fx->db, "a", "2");
		put(fx->db, "other", "1");
		CU_ASSERT_EQUAL(commit_err(txn), conflict ? MVCC_ECONFLICT : 0);
		if (conflict)
			assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "a=2 other=1");
	}
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "b", 0, "a=2");
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 6);
	fixture_reopen(fx);
	CU_ASSERT_EQUAL(fixture_rows_of(fx, "stage", ""), 0);
	fixture_close(fx);
}

/* ---- threads ------------------------------------------------------------------------------- */

enum { THREADS = 6 };

struct worker {
	struct mvcc *db;
	unsigned id, rounds;
	unsigned errors, conflicts; /* written by the worker, read once it was joined */
	pthread_t thread;
};

static void run_workers(struct mvcc *db, void *(*work)(void *arg), unsigned rounds, struct worker *w)
{
	unsigned started = 0;

	for (unsigned i = 0; i < THREADS; i++) {
		w[i] = (struct worker){ .db = db, .id = i, .rounds = rounds };
		if (pthread_create(&w[i].thread, NULL, work, &w[i]) == 0)
			started++;
		else
			break;
	}
	CU_ASSERT_EQUAL(started, THREADS);
	for (unsigned i = 0; i < started; i++) {
		pthread_join(w[i].thread, NULL);
		CU_ASSERT_EQUAL(w[i].errors, 0);
	}
}

static uint64_t number_at(struct mvcc *db, const char *key)
{
	struct mvcc_item item = { 0 };
	struct mvcc_view *view = NULL;
	uint64_t n = UINT64_MAX;

	if (mvcc_view_open(db, MVCC_REV_LATEST, &view))
		return n;
	if (mvcc_get(view, str(key), &item) == 0) {
		n = item.value.len == 8 ? get_le64(item.value.data) : UINT64_MAX;
		mvcc_item_release(&item);
	}
	mvcc_view_close(view);
	return n;
}

static void put_number(struct mvcc *db, const char *key, uint64_t n)
{
	struct mvcc_txn *txn = begin(db);
	uint8_t raw[8];

	put_le64(raw, n);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str(key), slice_of(raw, 8), NULL, 0), 0);
	commit(txn);
}

static void *count_by_updates(void *arg)
{
	struct worker *w = arg;
	uint8_t raw[8];

	put_le64(raw, w->id + 1);
	for (unsigned i = 0; i < w->rounds; i++) {
		struct mvcc_txn *txn;
		char key[24];
		int err = mvcc_txn_begin(w->db, &txn);

		if (err) {
			w->errors++;
			break;
		}
		snprintf(key, sizeof(key), "own/%u/%u", w->id, i);
		err = mvcc_txn_update(txn, str("hot"), add_number, raw, sizeof(raw));
		if (!err)
			err = mvcc_txn_expect_exists(txn, str("hot"));
		if (!err)
			err = mvcc_txn_put(txn, str(key), slice_of(raw, 8), NULL, 0);
		if (err)
			mvcc_txn_abort(txn);
		else
			err = mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, NULL);
		if (err == MVCC_ECONFLICT)
			w->conflicts++;
		else if (err)
			w->errors++;
	}
	return NULL;
}

static void test_updates_of_a_hot_key_never_conflict_and_none_is_lost(void)
{
	enum { ROUNDS = 800 };
	struct fixture *fx = fixture_open_small_ring();
	struct worker w[THREADS];
	uint64_t sum = 0;

	put_number(fx->db, "hot", 0);
	run_workers(fx->db, count_by_updates, ROUNDS, w);
	for (unsigned i = 0; i < THREADS; i++) {
		CU_ASSERT_EQUAL(w[i].conflicts, 0);
		sum += (uint64_t)ROUNDS * (i + 1);
	}
	CU_ASSERT_EQUAL(number_at(fx->db, "hot"), sum);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 2 + THREADS * ROUNDS);
	fixture_reopen(fx);
	CU_ASSERT_EQUAL(number_at(fx->db, "hot"), sum);
	fixture_close(fx);
}

static int increment(struct mvcc *db, const char *key)
{
	struct mvcc_item item = { 0 };
	struct mvcc_txn *txn;
	uint8_t raw[8];
	int err = mvcc_txn_begin(db, &txn);

	if (err)
		return err;
	err = mvcc_txn_get(txn, str(key), &item);
	if (err == -ENOENT) {
		put_le64(raw, 1);
		err = 0;
	} else if (!err) {
		put_le64(raw, (item.value.len == 8 ? get_le64(item.value.data) : 0) + 1);
		mvcc_item_release(&item);
	}
	if (!err)
		err = mvcc_txn_put(txn, str(key), slice_of(raw, 8), NULL, 0);
	if (err) {
		mvcc_txn_abort(txn);
		return err;
	}
	return mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, NULL);
}

static void *count_by_retries(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < w->rounds; i++) {
		int err;

		while ((err = increment(w->db, "hot")) == MVCC_ECONFLICT)
			w->conflicts++;
		w->errors += err != 0;
	}
	return NULL;
}

static void test_retried_increments_end_and_none_is_lost(void)
{
	enum { ROUNDS = 400 };
	struct fixture *fx = fixture_open_small_ring();
	struct mvcc_stats stats;
	struct worker w[THREADS];
	uint64_t conflicts = 0;

	run_workers(fx->db, count_by_retries, ROUNDS, w);
	for (unsigned i = 0; i < THREADS; i++)
		conflicts += w[i].conflicts;
	CU_ASSERT_EQUAL(number_at(fx->db, "hot"), THREADS * ROUNDS);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 1 + THREADS * ROUNDS);
	mvcc_stats(fx->db, &stats);
	CU_ASSERT_EQUAL(stats.conflicts, conflicts);
	fixture_close(fx);
}

static void *count_apart(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < w->rounds; i++) {
		char key[24];
		int err;

		snprintf(key, sizeof(key), "own/%u/%u", w->id, i % 50);
		err = increment(w->db, key);
		if (err == MVCC_ECONFLICT)
			w->conflicts++;
		else if (err)
			w->errors++;
	}
	return NULL;
}

static void test_threads_on_keys_of_their_own_never_conflict(void)
{
	enum { ROUNDS = 1000 };
	struct fixture *fx = fixture_open_small_ring();
	struct worker w[THREADS];
	char key[24];

	run_workers(fx->db, count_apart, ROUNDS, w);
	for (unsigned i = 0; i < THREADS; i++) {
		CU_ASSERT_EQUAL(w[i].conflicts, 0);
		snprintf(key, sizeof(key), "own/%u/7", i);
		CU_ASSERT_EQUAL(number_at(fx->db, key), ROUNDS / 50);
	}
	fixture_close(fx);
}

enum { ACCOUNTS = 8, START_MONEY = 100 };

static void account_key(char key[16], uint64_t i)
{
	snprintf(key, 16, "account %u", (unsigned)i);
}

static int transfer(struct mvcc *db, uint64_t from, uint64_t to, uint64_t amount)
{
	struct mvcc_item a = { 0 }, b = { 0 };
	struct mvcc_txn *txn;
	uint8_t raw[8];
	char key[16];
	int err = mvcc_txn_begin(db, &txn);

	if (err)
		return err;
	account_key(key, from);
	err = mvcc_txn_get(txn, str(key), &a);
	if (!err) {
		account_key(key, to);
		err = mvcc_txn_get(txn, str(key), &b);
	}
	if (!err && get_le64(a.value.data) >= amount && from != to) {
		put_le64(raw, get_le64(b.value.data) + amount);
		err = mvcc_txn_put(txn, str(key), slice_of(raw, 8), NULL, 0);
		put_le64(raw, get_le64(a.value.data) - amount);
		account_key(key, from);
		if (!err)
			err = mvcc_txn_put(txn, str(key), slice_of(raw, 8), NULL, 0);
	}
	mvcc_item_release(&a);
	mvcc_item_release(&b);
	if (err) {
		mvcc_txn_abort(txn);
		return err;
	}
	return mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, NULL);
}

static void *transfer_busily(void *arg)
{
	struct worker *w = arg;
	uint64_t state = w->id + 77;

	for (unsigned i = 0; i < w->rounds; i++) {
		uint64_t from = random_below(&state, ACCOUNTS), to = random_below(&state, ACCOUNTS);
		uint64_t amount = random_below(&state, START_MONEY);
		int err;

		while ((err = transfer(w->db, from, to, amount)) == MVCC_ECONFLICT)
			w->conflicts++;
		w->errors += err != 0;
	}
	return NULL;
}

static void test_transfers_keep_the_sum_at_every_revision(void)
{
	struct fixture *fx = fixture_open_small_ring();
	struct mvcc_txn *txn = begin(fx->db);
	struct worker w[THREADS];
	unsigned wrong = 0;
	uint8_t raw[8];
	char key[16];

	put_le64(raw, START_MONEY);
	for (unsigned i = 0; i < ACCOUNTS; i++) {
		account_key(key, i);
		CU_ASSERT_EQUAL(mvcc_txn_put(txn, str(key), slice_of(raw, 8), NULL, 0), 0);
	}
	CU_ASSERT_EQUAL(commit(txn), 2);
	run_workers(fx->db, transfer_busily, 300, w);
	for (mvcc_rev_t rev = 2; rev <= mvcc_current(fx->db); rev++) {
		struct mvcc_rows rows = { 0 };
		struct mvcc_view *view = NULL;
		uint64_t sum = 0;

		CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, rev, &view), 0);
		CU_ASSERT_EQUAL(mvcc_range(view, str("account"), str("accounu"), NULL, &rows), 0);
		for (size_t i = 0; i < rows.n; i++)
			sum += get_le64(rows.rows[i].item.value.data);
		wrong += rows.n != ACCOUNTS || sum != ACCOUNTS * START_MONEY;
		mvcc_rows_release(&rows);
		mvcc_view_close(view);
	}
	CU_ASSERT_EQUAL(wrong, 0);
	fixture_close(fx);
}

/* Half the threads make children of a directory, the others remove it when it is empty, or make it. */
static int work_on_dir(struct worker *w, unsigned round)
{
	struct mvcc_txn *txn;
	char child[24];
	int err = mvcc_txn_begin(w->db, &txn);

	if (err)
		return err;
	snprintf(child, sizeof(child), "dir/%u", w->id);
	if (w->id % 2 == 0) {
		err = mvcc_txn_expect_exists(txn, str("dir"));
		if (!err && round % 2 == 0)
			err = mvcc_txn_put(txn, str(child), str("c"), NULL, 0);
		else if (!err)
			err = mvcc_txn_del(txn, str(child));
	} else if (round % 2 == 0) {
		err = mvcc_txn_expect_empty(txn, str("dir/"), str("dir0"));
		if (!err)
			err = mvcc_txn_del(txn, str("dir"));
	} else {
		err = mvcc_txn_put(txn, str("dir"), str("d"), NULL, 0);
	}
	if (err) {
		mvcc_txn_abort(txn);
		return err;
	}
	return mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, NULL);
}

static void *work_on_dir_busily(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < w->rounds; i++) {
		int err = work_on_dir(w, i);

		if (err == MVCC_ECONFLICT)
			w->conflicts++;
		else if (err)
			w->errors++;
	}
	return NULL;
}

static void test_guards_hold_at_every_revision(void)
{
	struct fixture *fx = fixture_open_small_ring();
	struct worker w[THREADS];
	unsigned orphans = 0;

	put(fx->db, "dir", "d");
	run_workers(fx->db, work_on_dir_busily, 500, w);
	for (mvcc_rev_t rev = 2; rev <= mvcc_current(fx->db); rev++) {
		struct mvcc_rows rows = { 0 };
		struct mvcc_view *view = NULL;

		CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, rev, &view), 0);
		CU_ASSERT_EQUAL(mvcc_range(view, str("dir"), str("dir0"),
					   &(struct mvcc_range_opt){ .limit = 1 }, &rows),
				0);
		orphans += rows.n == 1 && !slice_eq(slice_buf(&rows.rows[0].key), str("dir"));
		mvcc_rows_release(&rows);
		mvcc_view_close(view);
	}
	CU_ASSERT_EQUAL(orphans, 0);
	fixture_close(fx);
}

/* ---- what need not be remembered ------------------------------------------------------------- */

static void test_reads_of_what_was_written_take_no_memory_for_ever(void)
{
	enum { KEYS = 20000 };
	struct fixture *fx = fixture_open_small_ring();
	struct mvcc_txn *txn;
	char key[24];

	put(fx->db, "only read", "1");
	for (int round = 0; round < 3; round++) {
		txn = begin(fx->db);
		assert_txn_value(txn, "only read", round == 2 ? "2" : "1");
		CU_ASSERT_EQUAL(mvcc_txn_expect_exists(txn, str("only read")), 0);
		for (unsigned i = 0; i < KEYS; i++) {
			struct mvcc_item item = { 0 };

			snprintf(key, sizeof(key), "%d/%u", round, i);
			CU_ASSERT_EQUAL(mvcc_txn_get(txn, str(key), &item), -ENOENT);
			txn_put(txn, key, "mine");
		}
		CU_ASSERT_TRUE(atomic_load(&txn->reads.bytes) < (size_t)KEYS * 32);
		CU_ASSERT_TRUE(txn->blooms && txn->blooms->nkeys > KEYS / 8); /* so there are few */
		/* All the same: what was read at the very beginning, written or not, must still hold. */
		if (round == 0)
			put(fx->db, "0/0", "theirs");
		else if (round == 1)
			put(fx->db, "only read", "2");
		CU_ASSERT_EQUAL(commit_err(txn), round < 2 ? MVCC_ECONFLICT : 0);
	}
	assert_value_at(fx->db, MVCC_REV_LATEST, "2/0", "mine");
	assert_absent_at(fx->db, MVCC_REV_LATEST, "1/0");
	fixture_close(fx);
}

/* -------------------------------------------------------------------------------------------- */

static void on_memory(void)
{
	fixture_use(NULL);
}

static void on_rocks(void)
{
	static struct rocks_options options = { .cache_bytes = (size_t)8 << 20 };
	static struct engine_provider provider;

	provider = rocks_provider(&options);
	fixture_use(&provider);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_a_key_that_was_read_and_changed_conflicts),
	UNIT_TEST(test_the_same_value_put_again_is_a_change),
	UNIT_TEST(test_a_key_found_absent_and_put_conflicts),
	UNIT_TEST(test_other_keys_do_not_conflict),
	UNIT_TEST(test_changes_before_the_beginning_do_not_conflict),
	UNIT_TEST(test_peeks_are_not_validated),
	UNIT_TEST(test_blind_writes_do_not_conflict_and_build_on_the_newest),
	UNIT_TEST(test_write_skew_is_refused),
	UNIT_TEST(test_a_walked_range_admits_no_phantoms),
	UNIT_TEST(test_an_empty_walked_range_admits_no_phantoms),
	UNIT_TEST(test_expect_exists_is_judged_at_commit),
	UNIT_TEST(test_a_guard_before_the_put_is_about_what_others_do),
	UNIT_TEST(test_expect_empty_is_judged_at_commit),
	UNIT_TEST(test_a_directory_is_never_removed_under_a_new_child),
	UNIT_TEST(test_updates_are_applied_to_what_is_there_at_commit),
	UNIT_TEST(test_updates_of_an_absent_key_are_left_out),
	UNIT_TEST(test_updates_follow_the_own_writes),
	UNIT_TEST(test_updates_keep_the_blobs_of_the_record),
	UNIT_TEST(test_an_update_is_a_change_for_those_who_read),
	UNIT_TEST(test_a_transaction_older_than_the_window_is_still_judged_rightly),
	UNIT_TEST(test_an_old_transaction_commits_while_others_go_on),
	UNIT_TEST(test_a_wide_commit_conflicts_by_its_keys_not_by_its_width),
	UNIT_TEST(test_a_commit_larger_than_the_ring_conflicts_by_its_keys),
	UNIT_TEST(test_a_transaction_larger_than_the_ring_is_validated),
	UNIT_TEST(test_updates_of_a_hot_key_never_conflict_and_none_is_lost),
	UNIT_TEST(test_retried_increments_end_and_none_is_lost),
	UNIT_TEST(test_threads_on_keys_of_their_own_never_conflict),
	UNIT_TEST(test_transfers_keep_the_sum_at_every_revision),
	UNIT_TEST(test_guards_hold_at_every_revision),
	UNIT_TEST(test_reads_of_what_was_written_take_no_memory_for_ever),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = {
		UNIT_SUITE("conflicts on memory", on_memory, NULL, tests),
		UNIT_SUITE("conflicts on rocksdb", on_rocks, NULL, tests),
		CU_SUITE_INFO_NULL,
	};

	return unit_main(argc, argv, suites);
}
