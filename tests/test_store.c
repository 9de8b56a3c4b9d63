/*
 * What the store promises its callers, through mvcc.h alone, on the memory engine and on RocksDB. The
 * properties are etcd's (its tests of store, index, backend and buffers) as far as both have them, and
 * those of what etcd has not: real aborts, guards, blobs, intents, transactions larger than memory.
 */
#include "tests/store_fixture.h"

#include "rocks_backend/rocks.h"
#include "tests/unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* ---- a fresh store ------------------------------------------------------------------------- */

static void test_a_fresh_store_is_empty_and_at_revision_1(void)
{
	struct fixture *fx = fixture_open();

	CU_ASSERT_EQUAL(mvcc_current(fx->db), MVCC_REV_FIRST);
	CU_ASSERT_EQUAL(mvcc_floor(fx->db), MVCC_REV_FIRST);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "");
	assert_range_at(fx->db, MVCC_REV_FIRST, "", "", 0, "");
	assert_absent_at(fx->db, MVCC_REV_LATEST, "a");
	assert_changes(fx->db, MVCC_REV_FIRST, "");
	fixture_close(fx);
}

static int init_two_keys(void *arg, struct mvcc_txn *txn)
{
	int err;

	++*(unsigned *)arg;
	err = mvcc_txn_put(txn, str("root"), str("/"), NULL, 0);
	return err ? err : mvcc_txn_put(txn, str("trash"), str("#"), NULL, 0);
}

static void test_init_fills_revision_1_once(void)
{
	struct fixture *fx = fixture_new();
	unsigned calls = 0;

	fx->opt.init = init_two_keys;
	fx->opt.init_arg = &calls;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), MVCC_REV_FIRST);
	assert_record_at(fx->db, MVCC_REV_FIRST, "root", "/", 1, 1, 1);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "root=/ trash=#");
	CU_ASSERT_EQUAL(put(fx->db, "a", "1"), 2);
	fixture_reopen(fx);
	CU_ASSERT_EQUAL(calls, 1);
	assert_range_at(fx->db, MVCC_REV_FIRST, "", "", 0, "root=/ trash=#");
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "a=1 root=/ trash=#");
	fixture_close(fx);
}

static int init_fails(void *arg, struct mvcc_txn *txn)
{
	(void)arg;
	return mvcc_txn_put(txn, str("half"), str("made"), NULL, 0) ? -ENOMEM : -EPERM;
}

static void test_a_store_whose_init_failed_is_made_anew(void)
{
	struct fixture *fx = fixture_new();
	unsigned calls = 0;

	fx->opt.init = init_fails;
	CU_ASSERT_EQUAL(fixture_try_open(fx), -EPERM);
	fx->opt.init = init_two_keys;
	fx->opt.init_arg = &calls;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	CU_ASSERT_EQUAL(calls, 1);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), MVCC_REV_FIRST);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "root=/ trash=#");
	fixture_close(fx);
}

/* ---- puts, deletes, ranges ----------------------------------------------------------------- */

static void test_each_commit_takes_the_next_revision(void)
{
	struct fixture *fx = fixture_open();

	CU_ASSERT_EQUAL(put(fx->db, "a", "1"), 2);
	CU_ASSERT_EQUAL(put(fx->db, "b", "2"), 3);
	CU_ASSERT_EQUAL(put(fx->db, "a", "1"), 4);
	CU_ASSERT_EQUAL(del(fx->db, "a"), 5);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 5);
	fixture_close(fx);
}

static void test_get_at_is_not_moved_by_a_later_put(void)
{
	struct fixture *fx = fixture_open();
	mvcc_rev_t first = put(fx->db, "k", "one");

	put(fx->db, "k", "two");
	assert_value_at(fx->db, first, "k", "one");
	assert_value_at(fx->db, MVCC_REV_LATEST, "k", "two");
	fixture_drain(fx);
	assert_value_at(fx->db, first, "k", "one");
	assert_value_at(fx->db, MVCC_REV_LATEST, "k", "two");
	fixture_close(fx);
}

static void test_puts_raise_the_version_and_keep_the_creation(void)
{
	struct fixture *fx = fixture_open();

	for (unsigned i = 0; i < 10; i++) {
		mvcc_rev_t rev = put(fx->db, "k", "v");

		assert_record_at(fx->db, rev, "k", "v", 2, rev, rev - 1);
		if (i % 3 == 0)
			fixture_drain(fx);
	}
	assert_record_at(fx->db, 7, "k", "v", 2, 7, 6);
	fixture_close(fx);
}

static void test_an_empty_value_is_not_absence(void)
{
	struct fixture *fx = fixture_open();

	put(fx->db, "k", "");
	assert_record_at(fx->db, MVCC_REV_LATEST, "k", "", 2, 2, 1);
	fixture_drain(fx);
	assert_record_at(fx->db, MVCC_REV_LATEST, "k", "", 2, 2, 1);
	put(fx->db, "k", "x");
	assert_record_at(fx->db, 2, "k", "", 2, 2, 1);
	fixture_close(fx);
}

static void test_a_deleted_key_is_absent_from_its_tombstone_on(void)
{
	struct fixture *fx = fixture_open();
	mvcc_rev_t there, gone;

	there = put(fx->db, "k", "v");
	gone = del(fx->db, "k");
	put(fx->db, "other", "v");
	for (int drained = 0; drained < 2; drained++) {
		assert_absent_at(fx->db, there - 1, "k");
		assert_value_at(fx->db, there, "k", "v");
		assert_absent_at(fx->db, gone, "k");
		assert_absent_at(fx->db, MVCC_REV_LATEST, "k");
		assert_range_at(fx->db, there, "", "", 0, "k=v");
		assert_range_at(fx->db, gone, "", "", 0, "");
		fixture_drain(fx);
	}
	fixture_close(fx);
}

static void test_a_transaction_that_changes_nothing_takes_no_revision(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;

	put(fx->db, "a", "1");
	CU_ASSERT_EQUAL(commit(begin(fx->db)), 2);
	CU_ASSERT_EQUAL(del(fx->db, "absent"), 2);
	txn = begin(fx->db);
	assert_txn_value(txn, "a", "1");
	assert_txn_range(txn, "", "", "a=1");
	txn_del(txn, "absent");
	txn_del(txn, "absent");
	CU_ASSERT_EQUAL(commit(txn), 2);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 2);
	fixture_reopen(fx);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 2);
	CU_ASSERT_EQUAL(put(fx->db, "a", "1"), 3);
	fixture_close(fx);
}

static void test_an_aborted_transaction_leaves_nothing(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;

	put(fx->db, "a", "1");
	txn = begin(fx->db);
	txn_put(txn, "a", "2");
	txn_put(txn, "b", "2");
	mvcc_txn_abort(txn);
	mvcc_txn_abort(NULL);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 2);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "a=1");
	CU_ASSERT_EQUAL(put(fx->db, "c", "3"), 3);
	fixture_reopen(fx);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "a=1 c=3");
	assert_changes(fx->db, 3, "+c<0");
	fixture_close(fx);
}

static void check_range_bounds(struct mvcc *db, mvcc_rev_t rev)
{
	assert_range_at(db, rev, "", "", 0, "a=1 b=2 bb=3 c=4 d=5");
	assert_range_at(db, rev, "b", "d", 0, "b=2 bb=3 c=4");
	assert_range_at(db, rev, "b", "b", 0, "");
	assert_range_at(db, rev, "c", "b", 0, "");
	assert_range_at(db, rev, "c", "", 0, "c=4 d=5");
	assert_range_at(db, rev, "e", "", 0, "");
	assert_range_at(db, rev, "", "a", 0, "");
	assert_range_at(db, rev, "a0", "bb", 0, "b=2");
	assert_range_at(db, rev, "", "", 1, "a=1 ...");
	assert_range_at(db, rev, "", "", 4, "a=1 b=2 bb=3 c=4 ...");
	assert_range_at(db, rev, "", "", 5, "a=1 b=2 bb=3 c=4 d=5");
	assert_range_at(db, rev, "", "", 6, "a=1 b=2 bb=3 c=4 d=5");
	assert_range_at(db, rev, "b", "c", 2, "b=2 bb=3");
	assert_range_at(db, rev, "b", "c", 1, "b=2 ...");
}

static void test_ranges_are_half_open_ordered_and_limited(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn = begin(fx->db);
	mvcc_rev_t rev;

	txn_put(txn, "c", "4");
	txn_put(txn, "a", "1");
	txn_put(txn, "d", "5");
	txn_put(txn, "bb", "3");
	txn_put(txn, "b", "2");
	rev = commit(txn);
	check_range_bounds(fx->db, MVCC_REV_LATEST);
	fixture_drain(fx);
	check_range_bounds(fx->db, MVCC_REV_LATEST);
	put(fx->db, "b", "new");
	del(fx->db, "d");
	put(fx->db, "0", "new");
	check_range_bounds(fx->db, rev);
	fixture_drain(fx);
	check_range_bounds(fx->db, rev);
	fixture_reopen(fx);
	check_range_bounds(fx->db, rev);
	fixture_close(fx);
}

static void test_views_outside_history_are_refused(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_view *view = NULL;
	mvcc_rev_t now = put(fx->db, "a", "1");

	CU_ASSERT_EQUAL(mvcc_view_open(fx->db, now + 1, &view), MVCC_EFUTURE);
	CU_ASSERT_EQUAL(mvcc_view_open(fx->db, UINT64_MAX, &view), MVCC_EFUTURE);
	CU_ASSERT_PTR_NULL(view);
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, MVCC_REV_LATEST, &view), 0);
	CU_ASSERT_EQUAL(mvcc_view_rev(view), now);
	mvcc_view_close(view);
	mvcc_view_close(NULL);
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, MVCC_REV_FIRST, &view), 0);
	CU_ASSERT_EQUAL(mvcc_view_rev(view), MVCC_REV_FIRST);
	mvcc_view_close(view);
	fixture_close(fx);
}

/* etcd's worked example: puts at 2, 4, delete 6, puts 8, 10, delete 12, put 14. */
static void check_generations(struct mvcc *db)
{
	static const struct {
		mvcc_rev_t create, mod;
		uint64_t version;
	} at[] = {
		[2] = { 2, 2, 1 },    [3] = { 2, 2, 1 },    [4] = { 2, 4, 2 },   [5] = { 2, 4, 2 },
		[8] = { 8, 8, 1 },    [9] = { 8, 8, 1 },    [10] = { 8, 10, 2 }, [11] = { 8, 10, 2 },
		[14] = { 14, 14, 1 }, [15] = { 14, 14, 1 },
	};
	char value[8];

	for (mvcc_rev_t rev = 1; rev <= 15; rev++) {
		if (!at[rev].create) {
			assert_absent_at(db, rev, "k");
			continue;
		}
		snprintf(value, sizeof(value), "v%u", (unsigned)at[rev].mod);
		assert_record_at(db, rev, "k", value, at[rev].create, at[rev].mod, at[rev].version);
	}
	assert_history(db, "k", "2.2.1-4=v2 2.4.2-6=v4 8.8.1-10=v8 8.10.2-12=v10 14.14.1-0=v14");
	assert_history(db, "x",
		       "3.3.1-5=x 3.5.2-7=x 3.7.3-9=x 3.9.4-11=x 3.11.5-13=x 3.13.6-15=x 3.15.7-0=x");
	assert_history(db, "never", "");
}

static void test_generations_begin_and_end_as_in_etcd(void)
{
	struct fixture *fx = fixture_open();
	char value[8];

	for (unsigned rev = 2; rev <= 15; rev++) {
		mvcc_rev_t got;

		snprintf(value, sizeof(value), "v%u", rev);
		if (rev % 2)
			got = put(fx->db, "x", "x");
		else if (rev == 6 || rev == 12)
			got = del(fx->db, "k");
		else
			got = put(fx->db, "k", value);
		CU_ASSERT_EQUAL(got, rev);
	}
	check_generations(fx->db);
	fixture_drain(fx);
	check_generations(fx->db);
	fixture_reopen(fx);
	check_generations(fx->db);
	fixture_close(fx);
}

static void test_history_is_whole_when_half_of_it_is_buffered(void)
{
	struct fixture *fx = fixture_open();

	put(fx->db, "k", "a");
	put(fx->db, "k", "b");
	fixture_drain(fx);
	fixture_sluice_shut(fx);
	put(fx->db, "k", "c");
	del(fx->db, "k");
	put(fx->db, "k", "d");
	put(fx->db, "k", "e");
	assert_history(fx->db, "k", "2.2.1-3=a 2.3.2-4=b 2.4.3-5=c 6.6.1-7=d 6.7.2-0=e");
	fixture_sluice_open(fx);
	fixture_drain(fx);
	assert_history(fx->db, "k", "2.2.1-3=a 2.3.2-4=b 2.4.3-5=c 6.6.1-7=d 6.7.2-0=e");
	fixture_sluice_shut(fx);
	del(fx->db, "k");
	assert_history(fx->db, "k", "2.2.1-3=a 2.3.2-4=b 2.4.3-5=c 6.6.1-7=d 6.7.2-8=e");
	fixture_close(fx);
}

static int stop_at_second(void *arg, const struct mvcc_item *item, mvcc_rev_t end_rev)
{
	(void)item;
	(void)end_rev;
	return ++*(int *)arg == 2 ? 77 : 0;
}

static void test_history_stops_when_told(void)
{
	struct fixture *fx = fixture_open();
	int calls = 0;

	for (int i = 0; i < 5; i++)
		put(fx->db, "k", "v");
	CU_ASSERT_EQUAL(mvcc_history(fx->db, str("k"), stop_at_second, &calls), 77);
	CU_ASSERT_EQUAL(calls, 2);
	fixture_close(fx);
}

static void test_history_of_one_key_holds_nothing_of_its_neighbours(void)
{
	static const char zero_neighbour[] = { 'k', 0, 0, 0, 0, 0, 0, 0, 0 };
	struct slice odd = slice_of(zero_neighbour, sizeof(zero_neighbour));
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;

	put(fx->db, "k", "1");
	put(fx->db, "kk", "2");
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, odd, str("3"), NULL, 0), 0);
	commit(txn);
	put(fx->db, "kk", "5");
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, odd, str("6"), NULL, 0), 0);
	commit(txn);
	put(fx->db, "k", "7");
	fixture_drain(fx);
	assert_history(fx->db, "k", "2.2.1-7=1 2.7.2-0=7");
	assert_history(fx->db, "kk", "3.3.1-5=2 3.5.2-0=5");
	assert_value_at(fx->db, 6, "k", "1");
	assert_range_at(fx->db, 3, "", "", 0, "k=1 kk=2");
	fixture_close(fx);
}

/* ---- inside one transaction ---------------------------------------------------------------- */

static void test_a_transaction_reads_its_own_writes(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;

	put(fx->db, "a", "1");
	put(fx->db, "c", "3");
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_rev(txn), 3);
	txn_put(txn, "b", "2");
	txn_put(txn, "c", "33");
	txn_del(txn, "a");
	assert_txn_value(txn, "a", NULL);
	assert_txn_value(txn, "b", "2");
	assert_txn_peek(txn, "c", "33");
	assert_txn_range(txn, "", "", "b=2 c=33");
	assert_txn_peek_range(txn, "", "c", "b=2");
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "a=1 c=3");
	txn_put(txn, "a", "again");
	txn_del(txn, "b");
	assert_txn_range(txn, "", "", "a=again c=33");
	CU_ASSERT_EQUAL(commit(txn), 4);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "a=again c=33");
	assert_range_at(fx->db, 3, "", "", 0, "a=1 c=3");
	fixture_close(fx);
}

static void test_own_writes_have_mod_rev_0(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_item item = { 0 };
	struct mvcc_txn *txn;

	put(fx->db, "a", "1");
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_get(txn, str("a"), &item), 0);
	CU_ASSERT_EQUAL(item.mod_rev, 2);
	mvcc_item_release(&item);
	txn_put(txn, "a", "2");
	CU_ASSERT_EQUAL(mvcc_txn_get(txn, str("a"), &item), 0);
	CU_ASSERT_EQUAL(item.mod_rev, 0);
	CU_ASSERT_EQUAL(item.version, 2);
	mvcc_item_release(&item);
	mvcc_txn_abort(txn);
	fixture_close(fx);
}

static void test_a_transaction_does_not_see_later_commits(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;

	put(fx->db, "a", "1");
	txn = begin(fx->db);
	put(fx->db, "a", "2");
	put(fx->db, "b", "2");
	assert_txn_peek(txn, "a", "1");
	assert_txn_peek(txn, "b", NULL);
	assert_txn_peek_range(txn, "", "", "a=1");
	fixture_drain(fx);
	assert_txn_peek(txn, "a", "1");
	assert_txn_peek_range(txn, "", "", "a=1");
	CU_ASSERT_EQUAL(mvcc_txn_rev(txn), 2);
	mvcc_txn_abort(txn);
	fixture_close(fx);
}

static void test_delete_and_recreate_in_one_transaction_begins_a_generation(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;

	put(fx->db, "k", "old");
	put(fx->db, "k", "older no more");
	txn = begin(fx->db);
	txn_del(txn, "k");
	assert_txn_value(txn, "k", NULL);
	txn_put(txn, "k", "new");
	assert_txn_value(txn, "k", "new");
	CU_ASSERT_EQUAL(commit(txn), 4);
	for (int drained = 0; drained < 2; drained++) {
		assert_record_at(fx->db, 4, "k", "new", 4, 4, 1);
		assert_record_at(fx->db, 3, "k", "older no more", 2, 3, 2);
		assert_history(fx->db, "k", "2.2.1-3=old 2.3.2-4=older no more 4.4.1-0=new");
		assert_changes(fx->db, 4, "+k<3");
		fixture_drain(fx);
	}
	fixture_reopen(fx);
	assert_record_at(fx->db, 4, "k", "new", 4, 4, 1);
	CU_ASSERT_EQUAL(put(fx->db, "k", "next"), 5);
	assert_record_at(fx->db, 5, "k", "next", 4, 5, 2);
	fixture_close(fx);
}

static void test_a_key_put_several_times_in_one_transaction_shows_its_last_value(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;

	put(fx->db, "b", "0");
	txn = begin(fx->db);
	for (int round = 1; round <= 3; round++) {
		char value[16];

		snprintf(value, sizeof(value), "%d", round);
		txn_put(txn, "a", value);
		txn_put(txn, "b", value);
		assert_txn_value(txn, "a", value);
	}
	CU_ASSERT_EQUAL(commit(txn), 3);
	for (int drained = 0; drained < 2; drained++) {
		assert_record_at(fx->db, 3, "a", "3", 3, 3, 1); /* a version is what a revision can show */
		assert_record_at(fx->db, 3, "b", "3", 2, 3, 2);
		assert_changes(fx->db, 3, "+a<0 +b<2");
		assert_history(fx->db, "b", "2.2.1-3=0 2.3.2-0=3");
		fixture_drain(fx);
	}
	fixture_close(fx);
}

static void test_a_key_put_and_deleted_in_one_transaction_was_never_there(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;

	put(fx->db, "there", "1");
	txn = begin(fx->db);
	txn_put(txn, "new", "1");
	txn_del(txn, "new");
	txn_put(txn, "there", "2");
	txn_del(txn, "there");
	assert_txn_range(txn, "", "", "");
	CU_ASSERT_EQUAL(commit(txn), 3);
	for (int drained = 0; drained < 2; drained++) {
		assert_range_at(fx->db, 3, "", "", 0, "");
		assert_range_at(fx->db, 2, "", "", 0, "there=1");
		assert_history(fx->db, "new", "");
		assert_history(fx->db, "there", "2.2.1-3=1");
		fixture_drain(fx);
	}
	CU_ASSERT_EQUAL(put(fx->db, "there", "3"), 4);
	assert_record_at(fx->db, 4, "there", "3", 4, 4, 1);
	fixture_close(fx);
}

/* ---- buffer and engine --------------------------------------------------------------------- */

static void test_commits_are_visible_before_the_engine_has_them(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_stats stats;

	put(fx->db, "a", "1");
	fixture_drain(fx);
	fixture_sluice_shut(fx);
	put(fx->db, "a", "2");
	put(fx->db, "b", "3");
	del(fx->db, "a");
	mvcc_stats(fx->db, &stats);
	CU_ASSERT_EQUAL(stats.current, 5);
	CU_ASSERT_EQUAL(stats.applied, 2);
	CU_ASSERT(stats.buffered_rows > 0);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "b=3");
	assert_range_at(fx->db, 4, "", "", 0, "a=2 b=3");
	assert_range_at(fx->db, 3, "", "", 0, "a=2");
	assert_range_at(fx->db, 2, "", "", 0, "a=1");
	fixture_close(fx);
}

static void test_limits_count_in_key_order_across_buffer_and_engine(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn = begin(fx->db);

	txn_put(txn, "k1", "e");
	txn_put(txn, "k3", "e");
	txn_put(txn, "k5", "e");
	commit(txn);
	fixture_drain(fx);
	fixture_sluice_shut(fx);
	txn = begin(fx->db);
	txn_put(txn, "k2", "b");
	txn_put(txn, "k3", "b");
	txn_put(txn, "k6", "b");
	commit(txn);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 1, "k1=e ...");
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 2, "k1=e k2=b ...");
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 3, "k1=e k2=b k3=b ...");
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 4, "k1=e k2=b k3=b k5=e ...");
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 5, "k1=e k2=b k3=b k5=e k6=b");
	assert_range_at(fx->db, MVCC_REV_LATEST, "k2", "k5", 1, "k2=b ...");
	del(fx->db, "k1");
	del(fx->db, "k2");
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 1, "k3=b ...");
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "k5", 1, "k3=b");
	assert_range_at(fx->db, 3, "", "", 2, "k1=e k2=b ...");
	assert_range_at(fx->db, 2, "", "", 2, "k1=e k3=e ...");
	fixture_close(fx);
}

/* In etcd: committed 1 2 3, buffered 4 5 6, limit 2 gave 4 5. */
static void test_buffered_keys_do_not_push_out_smaller_ones(void)
{
	struct fixture *fx = fixture_open();

	put(fx->db, "1", "");
	put(fx->db, "2", "");
	put(fx->db, "3", "");
	fixture_drain(fx);
	fixture_sluice_shut(fx);
	put(fx->db, "4", "");
	put(fx->db, "5", "");
	put(fx->db, "6", "");
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 2, "1= 2= ...");
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 4, "1= 2= 3= 4= ...");
	fixture_close(fx);
}

/* In etcd: 20 keys put three times in one transaction, 12 of them read stale until the commit. */
static void test_keys_repeated_in_one_transaction_never_read_stale(void)
{
	struct fixture *fx = fixture_open();
	struct buf expected = { 0 };
	struct mvcc_txn *txn;
	char key[16], value[48];

	for (int drained = 0; drained < 2; drained++) {
		for (int i = 0; i < 200; i++) {
			snprintf(key, sizeof(key), "%03d", i * 37 % 200);
			put(fx->db, key, "before");
		}
		if (drained)
			fixture_drain(fx);
		fixture_sluice_shut(fx);
		txn = begin(fx->db);
		for (int round = 0; round < 3; round++) {
			for (int i = 0; i < 200; i++) {
				snprintf(key, sizeof(key), "%03d", i * 61 % 200);
				snprintf(value, sizeof(value), "%s-%d", key, round);
				txn_put(txn, key, value);
			}
		}
		commit(txn);
		buf_clear(&expected);
		for (int i = 0; i < 200; i++) {
			snprintf(value, sizeof(value), "%s%03d=%03d-2", i ? " " : "", i, i);
			CU_ASSERT_EQUAL(buf_put(&expected, value, strlen(value)), 0);
		}
		CU_ASSERT_EQUAL(buf_put_u8(&expected, 0), 0);
		assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, (const char *)expected.data);
		for (int i = 0; i < 200; i++) {
			snprintf(key, sizeof(key), "%03d", i);
			snprintf(value, sizeof(value), "%03d-2", i);
			assert_value_at(fx->db, MVCC_REV_LATEST, key, value);
		}
		fixture_sluice_open(fx);
	}
	buf_release(&expected);
	fixture_close(fx);
}

static void test_a_walk_orders_buffered_rows_as_a_drained_store_would(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_view *view = NULL;
	char key[16];
	char expected[256] = "";

	for (int i = 0; i < 20; i++)
		snprintf(expected + strlen(expected), sizeof(expected) - strlen(expected), "%sk%02d=v",
			 i ? " " : "", i);
	for (int i = 0; i < 5; i++) {
		snprintf(key, sizeof(key), "k%02d", i * 4);
		put(fx->db, key, "v");
	}
	fixture_drain(fx);
	fixture_sluice_shut(fx);
	for (int i = 0; i < 20; i++) {
		snprintf(key, sizeof(key), "k%02d", i * 7 % 20);
		if (i * 7 % 20 % 4)
			put(fx->db, key, "v");
	}
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, expected);
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, MVCC_REV_LATEST, &view), 0);
	fixture_sluice_open(fx);
	fixture_drain(fx);
	assert_view_range(view, "", "", 0, expected);
	mvcc_view_close(view);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, expected);
	fixture_close(fx);
}

static void test_a_view_reads_the_same_while_the_buffer_drains(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_view *buffered = NULL, *drained = NULL;
	struct mvcc_cursor *c = NULL;
	const struct mvcc_item *item;
	struct slice key;

	put(fx->db, "a", "1");
	put(fx->db, "c", "1");
	put(fx->db, "e", "1");
	fixture_drain(fx);
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, MVCC_REV_LATEST, &drained), 0);
	fixture_sluice_shut(fx);
	put(fx->db, "b", "2");
	del(fx->db, "c");
	put(fx->db, "a", "2");
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, MVCC_REV_LATEST, &buffered), 0);
	CU_ASSERT_EQUAL_FATAL(mvcc_cursor_open(buffered, str(""), str(""), &c), 0);
	CU_ASSERT_EQUAL(mvcc_cursor_next(c, &key, &item), 1);
	CU_ASSERT(slice_eq(key, str("a")) && slice_eq(item->value, str("2")));
	fixture_sluice_open(fx);
	fixture_drain(fx);
	put(fx->db, "b", "3");
	put(fx->db, "c", "3");
	del(fx->db, "e");
	fixture_drain(fx);
	CU_ASSERT_EQUAL(mvcc_cursor_next(c, &key, &item), 1);
	CU_ASSERT(slice_eq(key, str("b")) && slice_eq(item->value, str("2")));
	CU_ASSERT_EQUAL(mvcc_cursor_next(c, &key, &item), 1);
	CU_ASSERT(slice_eq(key, str("e")) && slice_eq(item->value, str("1")));
	CU_ASSERT_EQUAL(mvcc_cursor_next(c, &key, &item), 0);
	mvcc_cursor_close(c);
	mvcc_cursor_close(NULL);
	assert_view_range(buffered, "", "", 0, "a=2 b=2 e=1");
	assert_view_range(drained, "", "", 0, "a=1 c=1 e=1");
	assert_view_value(drained, "c", "1");
	assert_view_value(buffered, "c", NULL);
	mvcc_view_close(buffered);
	mvcc_view_close(drained);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "a=2 b=3 c=3");
	fixture_close(fx);
}

static void test_two_cursors_of_one_view_walk_apart(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_cursor *one = NULL, *two = NULL;
	const struct mvcc_item *item;
	struct mvcc_view *view = NULL;
	struct slice key;

	put(fx->db, "a", "1");
	put(fx->db, "b", "2");
	fixture_drain(fx);
	put(fx->db, "c", "3");
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, MVCC_REV_LATEST, &view), 0);
	CU_ASSERT_EQUAL_FATAL(mvcc_cursor_open(view, str(""), str(""), &one), 0);
	CU_ASSERT_EQUAL_FATAL(mvcc_cursor_open(view, str("b"), str(""), &two), 0);
	CU_ASSERT_EQUAL(mvcc_cursor_next(two, &key, &item), 1);
	CU_ASSERT(slice_eq(key, str("b")));
	CU_ASSERT_EQUAL(mvcc_cursor_next(one, &key, &item), 1);
	CU_ASSERT(slice_eq(key, str("a")));
	CU_ASSERT_EQUAL(mvcc_cursor_next(two, &key, &item), 1);
	CU_ASSERT(slice_eq(key, str("c")));
	CU_ASSERT_EQUAL(mvcc_cursor_next(one, &key, &item), 1);
	CU_ASSERT(slice_eq(key, str("b")));
	CU_ASSERT_EQUAL(mvcc_cursor_next(two, &key, &item), 0);
	mvcc_cursor_close(one);
	mvcc_cursor_close(two);
	mvcc_view_close(view);
	fixture_close(fx);
}

struct flag {
	pthread_mutex_t lock;
	pthread_cond_t moved;
	int calls; /* lock */
	int err;   /* lock */
};

#define FLAG_INIT                                                         \
	{                                                                 \
		PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0 \
	}

static void flag_raise_err(void *arg, int err)
{
	struct flag *flag = arg;

	pthread_mutex_lock(&flag->lock);
	flag->calls++;
	flag->err = err;
	pthread_cond_broadcast(&flag->moved);
	pthread_mutex_unlock(&flag->lock);
}

static void flag_raise(void *arg)
{
	flag_raise_err(arg, 0);
}

static int flag_calls(struct flag *flag)
{
	int calls;

	pthread_mutex_lock(&flag->lock);
	calls = flag->calls;
	pthread_mutex_unlock(&flag->lock);
	return calls;
}

static void flag_wait(struct flag *flag, int calls)
{
	pthread_mutex_lock(&flag->lock);
	while (flag->calls < calls)
		pthread_cond_wait(&flag->moved, &flag->lock);
	pthread_mutex_unlock(&flag->lock);
}

static struct slice filler(size_t len, unsigned seed)
{
	static uint8_t bytes[(1 << 20) + 16];
	uint64_t state = seed + 1;

	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)random_next(&state);
	return slice_of(bytes, len);
}

static void test_a_full_ring_makes_commits_wait_and_tells_when_there_is_room(void)
{
	struct fixture *fx = fixture_open_small_ring();
	struct flag room = FLAG_INIT, at_once = FLAG_INIT;
	struct mvcc_txn *txn = NULL;
	unsigned commits = 0;
	mvcc_rev_t rev = 0;
	char key[16];
	int err = 0;

	CU_ASSERT(mvcc_has_room(fx->db));
	CU_ASSERT_EQUAL(mvcc_on_room(fx->db, flag_raise, &at_once), 0);
	flag_wait(&at_once, 1);
	fixture_sluice_shut(fx);
	while (!err && commits < 1000) {
		txn = begin(fx->db);
		snprintf(key, sizeof(key), "k%04u", commits);
		CU_ASSERT_EQUAL(mvcc_txn_put(txn, str(key), filler(4 * KIB, commits), NULL, 0), 0);
		err = mvcc_txn_commit(txn, NULL, MVCC_COMMIT_NOWAIT, &rev);
		if (!err) {
			CU_ASSERT_EQUAL(rev, commits + 2);
			commits++;
		}
	}
	CU_ASSERT_EQUAL(err, -EAGAIN);
	CU_ASSERT(commits >= 16);
	CU_ASSERT_FALSE(mvcc_has_room(fx->db));
	CU_ASSERT_EQUAL(mvcc_current(fx->db), commits + 1);
	CU_ASSERT_EQUAL(mvcc_on_room(fx->db, flag_raise, &room), 0);
	CU_ASSERT_EQUAL(flag_calls(&room), 0);
	fixture_sluice_open(fx);
	flag_wait(&room, 1);
	if (err == -EAGAIN) {
		while ((err = mvcc_txn_commit(txn, NULL, MVCC_COMMIT_NOWAIT, &rev)) == -EAGAIN)
			sched_yield();
		CU_ASSERT_EQUAL(err, 0);
		CU_ASSERT_EQUAL(rev, commits + 2);
	}
	fixture_drain(fx);
	CU_ASSERT_EQUAL(flag_calls(&room), 1);
	CU_ASSERT_EQUAL(flag_calls(&at_once), 1);
	for (unsigned i = 0; i <= commits; i++) {
		struct mvcc_item item = { 0 };
		struct mvcc_view *view = NULL;

		snprintf(key, sizeof(key), "k%04u", i);
		CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, MVCC_REV_LATEST, &view), 0);
		CU_ASSERT_EQUAL(mvcc_get(view, str(key), &item), 0);
		CU_ASSERT(slice_eq(item.value, filler(4 * KIB, i)));
		mvcc_item_release(&item);
		mvcc_view_close(view);
	}
	fixture_close(fx);
}

struct waiting_commit {
	struct mvcc *db;
	atomic_int result;
	atomic_int done;
};

static void *commit_many(void *arg)
{
	struct waiting_commit *w = arg;
	static const uint8_t bytes[4096];
	int err = 0;

	for (unsigned i = 0; i < 200 && !err; i++) {
		struct mvcc_txn *txn;
		char key[16];

		snprintf(key, sizeof(key), "w%04u", i);
		err = mvcc_txn_begin(w->db, &txn);
		if (err)
			break;
		err = mvcc_txn_put(txn, str(key), slice_of(bytes, sizeof(bytes)), NULL, 0);
		if (err)
			mvcc_txn_abort(txn);
		else
			err = mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, NULL);
	}
	atomic_store(&w->result, err);
	atomic_store(&w->done, 1);
	return NULL;
}

static void test_readers_go_on_while_a_writer_waits_for_room(void)
{
	struct fixture *fx = fixture_open_small_ring();
	struct waiting_commit w = { .db = fx->db };
	mvcc_rev_t seen = 0;
	pthread_t thread;

	put(fx->db, "a", "1");
	fixture_drain(fx);
	fixture_sluice_shut(fx);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, commit_many, &w), 0);
	while (mvcc_has_room(fx->db))
		sched_yield();
	assert_value_at(fx->db, MVCC_REV_LATEST, "a", "1");
	seen = mvcc_current(fx->db);
	CU_ASSERT(seen >= 2);
	assert_range_at(fx->db, MVCC_REV_FIRST, "", "", 0, "");
	CU_ASSERT_EQUAL(atomic_load(&w.done), 0); /* 800 KiB cannot lie in a ring of 256 */
	fixture_sluice_open(fx);
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(atomic_load(&w.result), 0);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 202);
	fixture_close(fx);
}

static void test_the_ring_may_wrap_many_times(void)
{
	struct fixture *fx = fixture_open_small_ring();
	struct mvcc_item item = { 0 };
	struct mvcc_view *view = NULL;
	char key[16];

	for (unsigned i = 0; i < 1500; i++) {
		struct mvcc_txn *txn = begin(fx->db);

		snprintf(key, sizeof(key), "k%03u", i % 100);
		CU_ASSERT_EQUAL(mvcc_txn_put(txn, str(key), filler(i * 7 % 3000, i), NULL, 0), 0);
		CU_ASSERT_EQUAL(commit(txn), i + 2);
	}
	for (int opened = 0; opened < 2; opened++) {
		for (unsigned i = 0; i < 1500; i += 7) {
			snprintf(key, sizeof(key), "k%03u", i % 100);
			CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, i + 2, &view), 0);
			CU_ASSERT_EQUAL(mvcc_get(view, str(key), &item), 0);
			CU_ASSERT(slice_eq(item.value, filler(i * 7 % 3000, i)));
			CU_ASSERT_EQUAL(item.version, i / 100 + 1);
			mvcc_item_release(&item);
			mvcc_view_close(view);
		}
		fixture_reopen(fx);
	}
	fixture_close(fx);
}

static void test_sync_async_calls_back_once_all_is_on_disk(void)
{
	struct fixture *fx = fixture_open();
	struct flag synced = FLAG_INIT;
	struct mvcc_stats stats;
	mvcc_rev_t rev;

	fixture_sluice_shut(fx);
	rev = put(fx->db, "a", "1");
	CU_ASSERT_EQUAL(mvcc_sync_async(fx->db, MVCC_REV_LATEST, flag_raise_err, &synced), 0);
	CU_ASSERT_EQUAL(flag_calls(&synced), 0);
	fixture_sluice_open(fx);
	flag_wait(&synced, 1);
	CU_ASSERT_EQUAL(synced.err, 0);
	mvcc_stats(fx->db, &stats);
	CU_ASSERT(stats.synced >= rev);
	CU_ASSERT(stats.applied >= rev);
	CU_ASSERT_EQUAL(mvcc_sync_async(fx->db, rev, flag_raise_err, &synced), 0);
	flag_wait(&synced, 2);
	CU_ASSERT_EQUAL(mvcc_sync(fx->db, rev), 0);
	CU_ASSERT_EQUAL(mvcc_sync(fx->db, MVCC_REV_LATEST), 0);
	CU_ASSERT_EQUAL(flag_calls(&synced), 2);
	fixture_close(fx);
}

static void test_unsynced_commits_reach_the_disk_by_themselves(void)
{
	struct fixture *fx = fixture_new();
	struct mvcc_stats stats;
	mvcc_rev_t rev;

	fx->opt.sync_ms = 10;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	rev = put(fx->db, "a", "1");
	do {
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
		mvcc_stats(fx->db, &stats);
	} while (stats.synced < rev);
	CU_ASSERT_EQUAL(stats.synced, rev);
	fixture_close(fx);
}

/* ---- restart ------------------------------------------------------------------------------- */

static void test_a_restart_keeps_every_revision(void)
{
	struct fixture *fx = fixture_open();
	char value[16];

	for (unsigned i = 0; i < 10; i++) {
		snprintf(value, sizeof(value), "%u", i);
		put(fx->db, "put", value);
		put(fx->db, "gone", value);
		if (i % 3 == 2)
			del(fx->db, "gone");
		if (i % 4 == 1)
			fixture_reopen(fx);
	}
	for (int opened = 0; opened < 2; opened++) {
		mvcc_rev_t rev = 1;

		assert_range_at(fx->db, rev, "", "", 0, "");
		for (unsigned i = 0; i < 10; i++) {
			char expected[64];
			bool fresh = i % 3 == 0;

			rev++;
			if (fresh)
				snprintf(expected, sizeof(expected), "put=%u", i);
			else
				snprintf(expected, sizeof(expected), "gone=%u put=%u", i - 1, i);
			assert_range_at(fx->db, rev, "", "", 0, expected);
			rev++;
			snprintf(expected, sizeof(expected), "gone=%u put=%u", i, i);
			assert_range_at(fx->db, rev, "", "", 0, expected);
			if (i % 3 == 2) {
				rev++;
				snprintf(expected, sizeof(expected), "put=%u", i);
				assert_range_at(fx->db, rev, "", "", 0, expected);
			}
		}
		CU_ASSERT_EQUAL(mvcc_current(fx->db), rev);
		fixture_reopen(fx);
	}
	fixture_close(fx);
}

static void test_the_revision_does_not_go_back_when_all_keys_are_gone(void)
{
	struct fixture *fx = fixture_open();

	put(fx->db, "a", "1");
	put(fx->db, "b", "1");
	del(fx->db, "a");
	del(fx->db, "b");
	fixture_reopen(fx);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 5);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "");
	CU_ASSERT_EQUAL(put(fx->db, "a", "2"), 6);
	assert_record_at(fx->db, 6, "a", "2", 6, 6, 1);
	assert_history(fx->db, "a", "2.2.1-4=1 6.6.1-0=2");
	fixture_close(fx);
}

static void test_a_store_opened_and_closed_idle_stays_as_it_is(void)
{
	struct fixture *fx = fixture_open();

	put(fx->db, "a", "1");
	for (int i = 0; i < 5; i++)
		fixture_reopen(fx);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 2);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "a=1");
	assert_range_at(fx->db, 1, "", "", 0, "");
	fixture_close(fx);
}

static void test_the_ring_may_change_its_size_between_opens(void)
{
	struct fixture *fx = fixture_open_small_ring();

	put(fx->db, "a", "1");
	fx->opt.ring_bytes = MIB;
	fixture_reopen(fx);
	put(fx->db, "b", "2");
	fx->opt.ring_bytes = 256 * KIB;
	fixture_reopen(fx);
	put(fx->db, "c", "3");
	fx->opt.ring_bytes = 0;
	fixture_reopen(fx);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "a=1 b=2 c=3");
	fixture_close(fx);
}

/* ---- the log ------------------------------------------------------------------------------- */

static void test_the_log_tells_the_story_of_each_commit(void)
{
	static const char odd_path[] = { 'p', 0, '\n', (char)0xff };
	struct fixture *fx = fixture_open();
	struct mvcc_story story = {
		.uid = 1000,
		.gid = 100,
		.pid = 4242,
		.comm = "bash",
		.op = "rename",
		.path = slice_of(odd_path, sizeof(odd_path)),
		.path2 = str("old"),
		.session = "monday",
		.message = "tidied up",
	};
	const struct mvcc_entry *entry;
	struct mvcc_log *log = NULL;
	struct mvcc_txn *txn;

	txn = begin(fx->db);
	txn_put(txn, "b", "1");
	txn_put(txn, "a", "1");
	CU_ASSERT_EQUAL(mvcc_txn_commit(txn, &story, MVCC_COMMIT_WAIT, NULL), 0);
	put(fx->db, "a", "2");
	for (int opened = 0; opened < 2; opened++) {
		CU_ASSERT_EQUAL_FATAL(mvcc_log_open(fx->db, 2, MVCC_REV_LATEST, &log), 0);
		CU_ASSERT_EQUAL_FATAL(mvcc_log_next(log, &entry), 1);
		CU_ASSERT_EQUAL(entry->rev, 2);
		CU_ASSERT_EQUAL(entry->story.uid, 1000);
		CU_ASSERT_EQUAL(entry->story.gid, 100);
		CU_ASSERT_EQUAL(entry->story.pid, 4242);
		CU_ASSERT_STRING_EQUAL(entry->story.comm, "bash");
		CU_ASSERT_STRING_EQUAL(entry->story.op, "rename");
		CU_ASSERT(slice_eq(entry->story.path, story.path));
		CU_ASSERT(slice_eq(entry->story.path2, story.path2));
		CU_ASSERT_STRING_EQUAL(entry->story.session, "monday");
		CU_ASSERT_STRING_EQUAL(entry->story.message, "tidied up");
		CU_ASSERT_EQUAL_FATAL(mvcc_log_next(log, &entry), 1);
		CU_ASSERT_EQUAL(entry->rev, 3);
		CU_ASSERT_EQUAL(entry->story.uid, 0);
		CU_ASSERT_STRING_EQUAL(entry->story.comm, "");
		CU_ASSERT_STRING_EQUAL(entry->story.op, "");
		CU_ASSERT_EQUAL(entry->story.path.len, 0);
		CU_ASSERT_STRING_EQUAL(entry->story.session, "");
		CU_ASSERT_STRING_EQUAL(entry->story.message, "");
		CU_ASSERT_EQUAL(mvcc_log_next(log, &entry), 0);
		mvcc_log_close(log);
		fixture_reopen(fx);
	}
	mvcc_log_close(NULL);
	fixture_close(fx);
}

static void test_changes_name_what_they_replaced(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;

	txn = begin(fx->db);
	txn_put(txn, "c", "1");
	txn_put(txn, "a", "1");
	txn_put(txn, "b", "1");
	commit(txn);
	put(fx->db, "b", "2");
	txn = begin(fx->db);
	txn_del(txn, "b");
	txn_put(txn, "d", "3");
	txn_put(txn, "a", "3");
	txn_del(txn, "never");
	commit(txn);
	put(fx->db, "b", "4");
	for (int i = 0; i < 3; i++) {
		assert_changes(fx->db, 2, "+a<0 +b<0 +c<0");
		assert_changes(fx->db, 3, "+b<2");
		assert_changes(fx->db, 4, "+a<2 -b<3 +d<0");
		assert_changes(fx->db, 5, "+b<0");
		if (i == 0)
			fixture_drain(fx);
		else
			fixture_reopen(fx);
	}
	fixture_close(fx);
}

static void test_the_log_is_read_across_buffer_and_engine(void)
{
	struct fixture *fx = fixture_open();
	const struct mvcc_entry *entry;
	struct mvcc_change change;
	struct mvcc_log *log = NULL;
	mvcc_rev_t rev = 2;

	for (int i = 0; i < 5; i++)
		put(fx->db, "a", "1");
	fixture_drain(fx);
	for (int i = 0; i < 5; i++)
		put(fx->db, "a", "1");
	CU_ASSERT_EQUAL_FATAL(mvcc_log_open(fx->db, 3, 10, &log), 0);
	while (mvcc_log_next(log, &entry) == 1) {
		CU_ASSERT_EQUAL(entry->rev, rev + 1);
		rev = entry->rev;
		CU_ASSERT_EQUAL(mvcc_log_change(log, &change), 1);
		CU_ASSERT_EQUAL(change.prev_rev, rev - 1);
		if (rev == 6) /* changes may be skipped, and the buffer may be drained meanwhile */
			fixture_drain(fx);
		else
			CU_ASSERT_EQUAL(mvcc_log_change(log, &change), 0);
	}
	CU_ASSERT_EQUAL(rev, 10);
	mvcc_log_close(log);
	fixture_close(fx);
}

static void test_the_log_is_bounded_by_history(void)
{
	struct fixture *fx = fixture_open();
	const struct mvcc_entry *entry;
	struct mvcc_log *log = NULL;

	put(fx->db, "a", "1");
	CU_ASSERT_EQUAL(mvcc_log_open(fx->db, 2, 3, &log), MVCC_EFUTURE);
	CU_ASSERT_EQUAL(mvcc_log_open(fx->db, 3, 3, &log), MVCC_EFUTURE);
	CU_ASSERT_EQUAL_FATAL(mvcc_log_open(fx->db, MVCC_REV_FIRST, MVCC_REV_FIRST, &log), 0);
	CU_ASSERT_EQUAL(mvcc_log_next(log, &entry), 1);
	CU_ASSERT_EQUAL(entry->rev, MVCC_REV_FIRST);
	CU_ASSERT_EQUAL(mvcc_log_next(log, &entry), 0);
	mvcc_log_close(log);
	CU_ASSERT_EQUAL_FATAL(mvcc_log_open(fx->db, 2, MVCC_REV_LATEST, &log), 0);
	put(fx->db, "a", "2");
	CU_ASSERT_EQUAL(mvcc_log_next(log, &entry), 1);
	CU_ASSERT_EQUAL(entry->rev, 2);
	CU_ASSERT_EQUAL(mvcc_log_next(log, &entry), 0); /* what was newest when it was opened */
	mvcc_log_close(log);
	fixture_close(fx);
}

static int64_t time_of(struct mvcc *db, mvcc_rev_t rev)
{
	const struct mvcc_entry *entry;
	struct mvcc_log *log = NULL;
	int64_t time_ns = -1;

	CU_ASSERT_EQUAL(mvcc_log_open(db, rev, rev, &log), 0);
	if (!log)
		return -1;
	if (mvcc_log_next(log, &entry) == 1)
		time_ns = entry->time_ns;
	mvcc_log_close(log);
	return time_ns;
}

static void test_times_never_decrease_and_find_their_revisions(void)
{
	struct fixture *fx = fixture_open();
	int64_t last, now;
	mvcc_rev_t at = 0;

	for (int i = 0; i < 200; i++) {
		put(fx->db, "a", "1");
		if (i == 100)
			fixture_reopen(fx);
		if (i == 150)
			fixture_drain(fx);
	}
	last = time_of(fx->db, 1);
	CU_ASSERT(last > 0);
	for (mvcc_rev_t rev = 2; rev <= 201; rev++) {
		now = time_of(fx->db, rev);
		CU_ASSERT(now >= last);
		last = now;
		CU_ASSERT_EQUAL(mvcc_rev_at(fx->db, now, &at), 0);
		CU_ASSERT(at >= rev);
		CU_ASSERT(at == 201 || time_of(fx->db, at + 1) > now);
		if (now > time_of(fx->db, rev - 1)) {
			CU_ASSERT_EQUAL(mvcc_rev_at(fx->db, now - 1, &at), 0);
			CU_ASSERT_EQUAL(at, rev - 1);
		}
	}
	CU_ASSERT_EQUAL(mvcc_rev_at(fx->db, INT64_MAX, &at), 0);
	CU_ASSERT_EQUAL(at, 201);
	CU_ASSERT_EQUAL(mvcc_rev_at(fx->db, 0, &at), 0);
	CU_ASSERT_EQUAL(at, MVCC_REV_FIRST);
	CU_ASSERT_EQUAL(mvcc_rev_at(fx->db, INT64_MIN, &at), 0);
	CU_ASSERT_EQUAL(at, MVCC_REV_FIRST);
	fixture_close(fx);
}

/* ---- keys and values at their limits ------------------------------------------------------- */

static void test_keys_have_1_to_4096_bytes(void)
{
	struct fixture *fx = fixture_open();
	static uint8_t bytes[MVCC_KEY_MAX + 1];
	struct slice longest = slice_of(bytes, MVCC_KEY_MAX), too_long = slice_of(bytes, MVCC_KEY_MAX + 1);
	struct mvcc_item item = { 0 };
	struct mvcc_view *view = NULL;
	struct mvcc_txn *txn;

	for (int fill = 0; fill < 2; fill++) { /* all zeros are the longest when escaped */
		memset(bytes, fill ? 0xff : 0x00, sizeof(bytes));
		txn = begin(fx->db);
		CU_ASSERT_EQUAL(mvcc_txn_put(txn, str(""), str("v"), NULL, 0), -EINVAL);
		CU_ASSERT_EQUAL(mvcc_txn_put(txn, too_long, str("v"), NULL, 0), -EINVAL);
		CU_ASSERT_EQUAL(mvcc_txn_del(txn, str("")), -EINVAL);
		CU_ASSERT_EQUAL(mvcc_txn_del(txn, too_long), -EINVAL);
		CU_ASSERT_EQUAL(mvcc_txn_put(txn, slice_of(bytes, 1), str("short"), NULL, 0), 0);
		CU_ASSERT_EQUAL(mvcc_txn_put(txn, longest, str("long"), NULL, 0), 0);
		commit(txn);
		txn = begin(fx->db);
		CU_ASSERT_EQUAL(mvcc_txn_put(txn, longest, str("longer"), NULL, 0), 0);
		commit(txn);
	}
	fixture_drain(fx);
	for (int fill = 0; fill < 2; fill++) {
		memset(bytes, fill ? 0xff : 0x00, sizeof(bytes));
		for (mvcc_rev_t rev = 2; rev <= 3; rev++) {
			CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, rev + 2u * (unsigned)fill, &view), 0);
			CU_ASSERT_EQUAL(mvcc_get(view, slice_of(bytes, 1), &item), 0);
			CU_ASSERT(slice_eq(item.value, str("short")));
			mvcc_item_release(&item);
			CU_ASSERT_EQUAL(mvcc_get(view, longest, &item), 0);
			CU_ASSERT(slice_eq(item.value, str(rev == 2 ? "long" : "longer")));
			mvcc_item_release(&item);
			CU_ASSERT_EQUAL(mvcc_get(view, slice_of(bytes, 2), &item), -ENOENT);
			mvcc_view_close(view);
		}
	}
	fixture_close(fx);
}

static void test_keys_of_any_bytes_keep_their_order(void)
{
	static const struct {
		const char *bytes;
		size_t len;
	} keys[] = {
		{ "\0", 1 },
		{ "\0\0", 2 },
		{ "\0\0\0\0\0\0\0\0\0\0", 10 },
		{ "\0\1", 2 },
		{ "\0\xfe", 2 },
		{ "\0\xff", 2 },
		{ "\0\xff\0", 3 },
		{ "\0\xff\xff", 3 },
		{ "\1", 1 },
		{ "\1\0", 2 },
		{ "\1\0\0\0\0\0\0\0\2", 9 },
		{ "\1\0\xff", 3 },
		{ "\1\1", 2 },
		{ "a", 1 },
		{ "a\0", 2 },
		{ "a\0\0\0\0\0\0\0\0\3", 10 },
		{ "a\0b", 3 },
		{ "a\1", 2 },
		{ "aa", 2 },
		{ "\xff", 1 },
		{ "\xff\0", 2 },
		{ "\xff\xff", 2 },
	};
	const size_t n = sizeof(keys) / sizeof(keys[0]);
	struct fixture *fx = fixture_open();
	struct mvcc_rows rows = { 0 };
	struct mvcc_view *view = NULL;

	for (unsigned round = 0; round < 3; round++) {
		for (size_t i = 0; i < n; i++) {
			size_t at = i * 5 % n;
			struct mvcc_txn *txn = begin(fx->db);
			uint8_t value[2] = { (uint8_t)at, (uint8_t)round };

			CU_ASSERT_EQUAL(mvcc_txn_put(txn, slice_of(keys[at].bytes, keys[at].len),
						     slice_of(value, 2), NULL, 0),
					0);
			commit(txn);
		}
		if (round == 1)
			fixture_drain(fx);
	}
	for (unsigned round = 0; round < 3; round++) {
		CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, 1 + n * (round + 1), &view), 0);
		CU_ASSERT_EQUAL(mvcc_range(view, str(""), str(""), NULL, &rows), 0);
		CU_ASSERT_EQUAL(rows.n, n);
		for (size_t i = 0; i < rows.n && i < n; i++) {
			uint8_t value[2] = { (uint8_t)i, (uint8_t)round };

			CU_ASSERT(
				slice_eq(slice_buf(&rows.rows[i].key), slice_of(keys[i].bytes, keys[i].len)));
			CU_ASSERT(slice_eq(rows.rows[i].item.value, slice_of(value, 2)));
		}
		mvcc_rows_release(&rows);
		for (size_t from = 0; from < n; from++) {
			size_t to = from + 4 < n ? from + 4 : n - 1;

			CU_ASSERT_EQUAL(mvcc_range(view, slice_of(keys[from].bytes, keys[from].len),
						   slice_of(keys[to].bytes, keys[to].len), NULL, &rows),
					0);
			CU_ASSERT_EQUAL(rows.n, to - from);
			mvcc_rows_release(&rows);
		}
		mvcc_view_close(view);
	}
	fixture_close(fx);
}

static void test_values_have_0_to_1_mib(void)
{
	struct fixture *fx = fixture_open_small_ring();
	struct mvcc_item item = { 0 };
	struct mvcc_view *view = NULL;
	struct mvcc_txn *txn = begin(fx->db);

	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("k"), filler(MVCC_VALUE_MAX + 1, 1), NULL, 0), -EINVAL);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("k"), filler(MVCC_VALUE_MAX, 2), NULL, 0), 0);
	CU_ASSERT_EQUAL(mvcc_txn_get(txn, str("k"), &item), 0);
	CU_ASSERT(slice_eq(item.value, filler(MVCC_VALUE_MAX, 2)));
	mvcc_item_release(&item);
	CU_ASSERT_EQUAL(commit(txn), 2);
	for (int opened = 0; opened < 2; opened++) {
		CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, 2, &view), 0);
		CU_ASSERT_EQUAL(mvcc_get(view, str("k"), &item), 0);
		CU_ASSERT(slice_eq(item.value, filler(MVCC_VALUE_MAX, 2)));
		mvcc_item_release(&item);
		mvcc_view_close(view);
		fixture_reopen(fx);
	}
	fixture_close(fx);
}

/* ---- blobs --------------------------------------------------------------------------------- */

static mvcc_blob_t stage(struct mvcc_txn *txn, struct slice bytes)
{
	mvcc_blob_t blob = 0;

	CU_ASSERT_EQUAL(mvcc_txn_stage_blob(txn, bytes, &blob), 0);
	return blob;
}

static bool blob_is(struct mvcc *db, mvcc_blob_t blob, struct slice bytes)
{
	uint8_t *got = malloc(bytes.len + 1);
	ssize_t n = got ? mvcc_blob_read(db, blob, 0, got, bytes.len + 1) : -1;
	bool same = n == (ssize_t)bytes.len && memcmp(got, bytes.data, bytes.len) == 0;

	free(got);
	return same;
}

static void test_blobs_are_read_in_part_and_whole(void)
{
	struct fixture *fx = fixture_open();
	struct slice bytes = filler(300 * KIB, 5);
	struct mvcc_txn *txn = begin(fx->db);
	mvcc_blob_t blob = stage(txn, bytes);
	uint8_t part[100];

	CU_ASSERT(blob_is(fx->db, blob, bytes)); /* whoever staged it may read it back */
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("k"), str("v"), &blob, 1), 0);
	commit(txn);
	for (int i = 0; i < 3; i++) {
		CU_ASSERT(blob_is(fx->db, blob, bytes));
		CU_ASSERT_EQUAL(mvcc_blob_read(fx->db, blob, 1000, part, 100), 100);
		CU_ASSERT_EQUAL(memcmp(part, bytes.data + 1000, 100), 0);
		CU_ASSERT_EQUAL(mvcc_blob_read(fx->db, blob, bytes.len - 40, part, 100), 40);
		CU_ASSERT_EQUAL(memcmp(part, bytes.data + bytes.len - 40, 40), 0);
		CU_ASSERT_EQUAL(mvcc_blob_read(fx->db, blob, bytes.len, part, 100), 0);
		CU_ASSERT_EQUAL(mvcc_blob_read(fx->db, blob, bytes.len + 1000, part, 100), 0);
		CU_ASSERT_EQUAL(mvcc_blob_read(fx->db, blob, SIZE_MAX, part, 100), 0);
		CU_ASSERT_EQUAL(mvcc_blob_read(fx->db, blob, 0, part, 0), 0);
		CU_ASSERT_EQUAL(mvcc_blob_read(fx->db, blob + 1000, 0, part, 100), -ENOENT);
		if (i == 0)
			fixture_drain(fx);
		else
			fixture_reopen(fx);
	}
	fixture_close(fx);
}

static void test_blobs_have_1_to_16_mib(void)
{
	struct fixture *fx = fixture_open();
	uint8_t *bytes = malloc(MVCC_BLOB_MAX + 1);
	struct mvcc_txn *txn = begin(fx->db);
	mvcc_blob_t blobs[2] = { 0 }, none = 0;

	CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
	for (size_t i = 0; i <= MVCC_BLOB_MAX; i++)
		bytes[i] = (uint8_t)(i * 2654435761u >> 11);
	CU_ASSERT_EQUAL(mvcc_txn_stage_blob(txn, slice_of(bytes, 0), &none), -EINVAL);
	CU_ASSERT_EQUAL(mvcc_txn_stage_blob(txn, slice_of(bytes, MVCC_BLOB_MAX + 1), &none), -EINVAL);
	blobs[0] = stage(txn, slice_of(bytes, 1));
	blobs[1] = stage(txn, slice_of(bytes, MVCC_BLOB_MAX));
	CU_ASSERT_NOT_EQUAL(blobs[0], blobs[1]);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("k"), str("v"), blobs, 2), 0);
	commit(txn);
	fixture_reopen(fx);
	CU_ASSERT(blob_is(fx->db, blobs[0], slice_of(bytes, 1)));
	CU_ASSERT(blob_is(fx->db, blobs[1], slice_of(bytes, MVCC_BLOB_MAX)));
	free(bytes);
	fixture_close(fx);
}

static void check_blob_list(struct mvcc *db, mvcc_rev_t rev, const char *key, const mvcc_blob_t *blobs,
			    size_t nblobs)
{
	struct mvcc_item item = { 0 };
	struct mvcc_view *view = NULL;

	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(db, rev, &view), 0);
	CU_ASSERT_EQUAL(mvcc_get(view, str(key), &item), 0);
	CU_ASSERT_EQUAL(item.nblobs, nblobs);
	for (size_t i = 0; i < nblobs && i < item.nblobs; i++)
		CU_ASSERT_EQUAL(item.blobs[i], blobs[i]);
	mvcc_item_release(&item);
	mvcc_view_close(view);
}

static void test_records_may_share_blobs(void)
{
	struct fixture *fx = fixture_open();
	struct slice bytes = filler(5000, 9);
	struct mvcc_txn *txn = begin(fx->db);
	mvcc_blob_t pair[2], one;

	pair[0] = stage(txn, bytes);
	pair[1] = stage(txn, str("tiny"));
	one = pair[0];
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("a"), str("1"), pair, 2), 0);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("b"), str("1"), &one, 1), 0);
	commit(txn);
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("copy"), str("2"), &one, 1), 0);
	txn_del(txn, "a");
	commit(txn);
	put(fx->db, "b", "3"); /* refers to none any more */
	for (int i = 0; i < 3; i++) {
		check_blob_list(fx->db, 2, "a", pair, 2);
		check_blob_list(fx->db, 2, "b", &one, 1);
		check_blob_list(fx->db, 3, "copy", &one, 1);
		check_blob_list(fx->db, 4, "b", NULL, 0);
		CU_ASSERT(blob_is(fx->db, one, bytes));
		CU_ASSERT(blob_is(fx->db, pair[1], str("tiny"))); /* revision 2 still shows it */
		if (i == 0)
			fixture_drain(fx);
		else
			fixture_reopen(fx);
	}
	del(fx->db, "copy");
	fixture_reopen(fx);
	CU_ASSERT(blob_is(fx->db, one, bytes));
	fixture_close(fx);
}

static void test_a_record_may_refer_to_many_blobs(void)
{
	enum { N = 500 };
	struct fixture *fx = fixture_open_small_ring();
	struct mvcc_txn *txn = begin(fx->db);
	mvcc_blob_t blobs[N];
	char bytes[32];

	for (int i = 0; i < N; i++) {
		snprintf(bytes, sizeof(bytes), "blob %d", i);
		blobs[i] = stage(txn, str(bytes));
	}
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("k"), str("v"), blobs, N), 0);
	commit(txn);
	put(fx->db, "k", "later");
	fixture_reopen(fx);
	check_blob_list(fx->db, 2, "k", blobs, N);
	for (int i = 0; i < N; i += 41) {
		snprintf(bytes, sizeof(bytes), "blob %d", i);
		CU_ASSERT(blob_is(fx->db, blobs[i], str(bytes)));
	}
	fixture_close(fx);
}

static void test_blobs_of_an_aborted_transaction_are_gone(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;
	mvcc_blob_t kept, lost;
	uint8_t byte;

	txn = begin(fx->db);
	kept = stage(txn, filler(70 * KIB, 1));
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("k"), str("v"), &kept, 1), 0);
	commit(txn);
	fixture_drain(fx);
	CU_ASSERT_EQUAL(fixture_rows(fx, ENGINE_USE_BLOB), 1);
	txn = begin(fx->db);
	lost = stage(txn, filler(70 * KIB, 2));
	for (int i = 0; i < 20; i++)
		stage(txn, filler(3 * KIB, 3));
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("k"), str("w"), &lost, 1), 0);
	mvcc_txn_abort(txn);
	fixture_reopen(fx);
	CU_ASSERT_EQUAL(fixture_rows(fx, ENGINE_USE_BLOB), 1);
	CU_ASSERT_EQUAL(mvcc_blob_read(fx->db, lost, 0, &byte, 1), -ENOENT);
	CU_ASSERT(blob_is(fx->db, kept, filler(70 * KIB, 1)));
	fixture_close(fx);
}

static void test_blobs_staged_but_not_referred_to_are_gone(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn = begin(fx->db);
	mvcc_blob_t kept;

	stage(txn, str("first"));
	kept = stage(txn, str("second"));
	stage(txn, str("third"));
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("k"), str("v"), &kept, 1), 0);
	commit(txn);
	fixture_reopen(fx);
	CU_ASSERT_EQUAL(fixture_rows(fx, ENGINE_USE_BLOB), 1);
	CU_ASSERT(blob_is(fx->db, kept, str("second")));
	fixture_close(fx);
}

static void test_blob_ids_are_not_given_twice_while_referred_to(void)
{
	enum { TXNS = 8, EACH = 50 };
	struct fixture *fx = fixture_open();
	mvcc_blob_t referred[TXNS * EACH], blobs[EACH];
	size_t n = 0;

	for (int i = 0; i < TXNS; i++) {
		struct mvcc_txn *txn = begin(fx->db);

		for (int j = 0; j < EACH; j++) {
			blobs[j] = stage(txn, str("x"));
			for (size_t k = 0; k < n; k++)
				CU_ASSERT_NOT_EQUAL(blobs[j], referred[k]);
			for (int k = 0; k < j; k++)
				CU_ASSERT_NOT_EQUAL(blobs[j], blobs[k]);
		}
		CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("k"), str("v"), blobs, EACH / 2), 0);
		if (i % 2) {
			commit(txn);
			memcpy(referred + n, blobs, EACH / 2 * sizeof(blobs[0]));
			n += EACH / 2;
		} else {
			mvcc_txn_abort(txn);
		}
		if (i % 3 == 2)
			fixture_reopen(fx);
	}
	fixture_close(fx);
}

/* ---- larger than the ring ------------------------------------------------------------------ */

enum { BIG = 2000 }; /* rows of about 1 KiB: 2 MiB, eight small rings */

static void big_key(char key[16], unsigned i)
{
	snprintf(key, 16, "big%06u", i);
}

static void big_puts(struct mvcc_txn *txn, unsigned seed)
{
	char key[16];

	for (unsigned i = 0; i < BIG; i++) {
		big_key(key, i * 7 % BIG);
		CU_ASSERT_EQUAL(mvcc_txn_put(txn, str(key), filler(1000, seed + i * 7 % BIG), NULL, 0), 0);
	}
}

/* Every big row of the view is of that seed; true also says that there are BIG of them. */
static bool big_rows_are(struct mvcc_view *view, unsigned seed)
{
	const struct mvcc_item *item;
	struct mvcc_cursor *c = NULL;
	struct slice key;
	unsigned n = 0;
	bool same = true;
	char expected[16];
	int got;

	if (mvcc_cursor_open(view, str("big"), str("bih"), &c))
		return false;
	while ((got = mvcc_cursor_next(c, &key, &item)) == 1) {
		big_key(expected, n);
		same &= slice_eq(key, str(expected)) && slice_eq(item->value, filler(1000, seed + n));
		n++;
	}
	mvcc_cursor_close(c);
	return got == 0 && same && n == BIG;
}

static bool big_rows_at(struct mvcc *db, mvcc_rev_t rev, unsigned seed)
{
	struct mvcc_view *view = NULL;
	bool same;

	if (mvcc_view_open(db, rev, &view))
		return false;
	same = big_rows_are(view, seed);
	mvcc_view_close(view);
	return same;
}

static void test_a_transaction_larger_than_the_ring_is_one_revision(void)
{
	struct fixture *fx = fixture_open_small_ring();
	struct mvcc_view *before = NULL, *between = NULL;
	struct mvcc_txn *txn;

	put(fx->db, "big000003", "small");
	put(fx->db, "other", "1");
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, MVCC_REV_LATEST, &before), 0);
	txn = begin(fx->db);
	big_puts(txn, 10);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "big000003=small other=1");
	CU_ASSERT_EQUAL(commit(txn), 4);
	CU_ASSERT(big_rows_at(fx->db, MVCC_REV_LATEST, 10));
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, MVCC_REV_LATEST, &between), 0);
	CU_ASSERT_EQUAL(put(fx->db, "other", "2"), 5);
	txn = begin(fx->db);
	big_puts(txn, 20);
	CU_ASSERT_EQUAL(commit(txn), 6);
	CU_ASSERT(big_rows_at(fx->db, MVCC_REV_LATEST, 20));
	CU_ASSERT(big_rows_at(fx->db, 5, 10));
	CU_ASSERT(big_rows_are(between, 10));
	assert_view_range(before, "", "", 0, "big000003=small other=1");
	mvcc_view_close(before);
	mvcc_view_close(between);
	for (int opened = 0; opened < 3; opened++) {
		CU_ASSERT_EQUAL(mvcc_current(fx->db), 6);
		assert_range_at(fx->db, 3, "", "", 0, "big000003=small other=1");
		CU_ASSERT(big_rows_at(fx->db, 4, 10));
		CU_ASSERT(big_rows_at(fx->db, 5, 10));
		CU_ASSERT(big_rows_at(fx->db, 6, 20));
		assert_value_at(fx->db, 4, "other", "1");
		assert_value_at(fx->db, 6, "other", "2");
		if (opened)
			fixture_reopen(fx);
		else
			fixture_drain(fx);
	}
	CU_ASSERT_EQUAL(fixture_rows_of(fx, "stage", ""), 0);
	fixture_close(fx);
}

static void test_a_big_transaction_is_in_the_log_like_any_other(void)
{
	struct fixture *fx = fixture_open_small_ring();
	const struct mvcc_entry *entry;
	struct mvcc_change change;
	struct mvcc_log *log = NULL;
	struct mvcc_txn *txn;
	unsigned n = 0;
	char key[16];

	put(fx->db, "big000003", "small");
	put(fx->db, "del", "me");
	txn = begin(fx->db);
	txn_del(txn, "del");
	big_puts(txn, 1);
	CU_ASSERT_EQUAL(mvcc_txn_commit(txn, &(struct mvcc_story){ .op = "import", .uid = 7 },
					MVCC_COMMIT_WAIT, NULL),
			0);
	for (int drained = 0; drained < 2; drained++) {
		CU_ASSERT_EQUAL_FATAL(mvcc_log_open(fx->db, 4, 4, &log), 0);
		CU_ASSERT_EQUAL_FATAL(mvcc_log_next(log, &entry), 1);
		CU_ASSERT_STRING_EQUAL(entry->story.op, "import");
		CU_ASSERT_EQUAL(entry->story.uid, 7);
		for (n = 0; mvcc_log_change(log, &change) == 1; n++) {
			if (n < BIG)
				big_key(key, n);
			else
				snprintf(key, sizeof(key), "del");
			CU_ASSERT(slice_eq(change.key, str(key)));
			CU_ASSERT_EQUAL(change.deleted, n == BIG);
			CU_ASSERT_EQUAL(change.prev_rev, n == 3 ? 2 : n == BIG ? 3 : 0);
		}
		CU_ASSERT_EQUAL(n, BIG + 1);
		mvcc_log_close(log);
		fixture_drain(fx);
	}
	assert_history(fx->db, "del", "3.3.1-4=me");
	fixture_close(fx);
}

static void test_a_big_transaction_reads_its_own_writes(void)
{
	struct fixture *fx = fixture_open_small_ring();
	const struct mvcc_item *item;
	struct mvcc_cursor *c = NULL;
	struct mvcc_item got = { 0 };
	struct mvcc_txn *txn;
	struct slice key;
	char name[16];
	unsigned n = 0;

	put(fx->db, "bif", "before");
	put(fx->db, "big000005", "before");
	txn = begin(fx->db);
	big_puts(txn, 30);
	for (unsigned i = 0; i < BIG; i += 13) {
		big_key(name, i);
		CU_ASSERT_EQUAL(mvcc_txn_get(txn, str(name), &got), 0);
		CU_ASSERT(slice_eq(got.value, filler(1000, 30 + i)));
		CU_ASSERT_EQUAL(got.mod_rev, 0);
		CU_ASSERT_EQUAL(got.version, i == 5 ? 2 : 1);
		mvcc_item_release(&got);
	}
	for (unsigned i = 0; i < BIG; i += 2) {
		big_key(name, i);
		txn_del(txn, name);
		assert_txn_value(txn, name, NULL);
	}
	txn_put(txn, "big000004", "again");
	assert_txn_value(txn, "big000004", "again");
	assert_txn_value(txn, "bif", "before");
	CU_ASSERT_EQUAL_FATAL(mvcc_txn_cursor_open(txn, str("big"), str("bih"), &c), 0);
	while (mvcc_cursor_next(c, &key, &item) == 1) {
		unsigned i = n < 2 ? 2 * n + 1 : n == 2 ? 4 : 2 * n - 1;

		big_key(name, i);
		CU_ASSERT(slice_eq(key, str(name)));
		CU_ASSERT(slice_eq(item->value, i == 4 ? str("again") : filler(1000, 30 + i)));
		n++;
	}
	mvcc_cursor_close(c);
	CU_ASSERT_EQUAL(n, BIG / 2 + 1);
	CU_ASSERT_EQUAL(commit(txn), 4);
	for (int drained = 0; drained < 2; drained++) {
		struct mvcc_rows rows = { 0 };
		struct mvcc_view *view = NULL;

		assert_record_at(fx->db, 4, "big000004", "again", 4, 4, 1);
		assert_absent_at(fx->db, 4, "big000006");
		CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, 4, &view), 0);
		CU_ASSERT_EQUAL(mvcc_range(view, str("big"), str("bih"), NULL, &rows), 0);
		CU_ASSERT_EQUAL(rows.n, BIG / 2 + 1);
		mvcc_rows_release(&rows);
		mvcc_view_close(view);
		assert_range_at(fx->db, 3, "", "", 0, "bif=before big000005=before");
		fixture_drain(fx);
	}
	fixture_close(fx);
}

static void test_an_aborted_big_transaction_leaves_nothing(void)
{
	struct fixture *fx = fixture_open_small_ring();
	struct mvcc_txn *txn;

	put(fx->db, "a", "1");
	txn = begin(fx->db);
	big_puts(txn, 1);
	stage(txn, filler(100 * KIB, 1));
	mvcc_txn_abort(txn);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "a=1");
	CU_ASSERT_EQUAL(put(fx->db, "b", "2"), 3);
	fixture_reopen(fx);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "a=1 b=2");
	CU_ASSERT_EQUAL(fixture_rows_of(fx, "stage", ""), 0);
	CU_ASSERT_EQUAL(fixture_rows(fx, ENGINE_USE_BLOB), 0);
	fixture_close(fx);
}

static void test_a_big_transaction_deletes_more_than_the_ring_holds(void)
{
	enum { ROWS = 12000 };
	struct fixture *fx = fixture_open_small_ring();
	struct mvcc_txn *txn = begin(fx->db);
	struct mvcc_rows rows = { 0 };
	struct mvcc_view *view = NULL;
	char key[64];

	for (unsigned i = 0; i < ROWS; i++) {
		snprintf(key, sizeof(key), "a rather long name of a key %06u", i);
		txn_put(txn, key, "v");
	}
	CU_ASSERT_EQUAL(commit(txn), 2);
	txn = begin(fx->db);
	for (unsigned i = 0; i < ROWS; i++) {
		snprintf(key, sizeof(key), "a rather long name of a key %06u", i);
		txn_del(txn, key);
	}
	txn_put(txn, "left", "v");
	assert_txn_peek_range(txn, "", "", "left=v");
	CU_ASSERT_EQUAL(commit(txn), 3);
	for (int drained = 0; drained < 2; drained++) {
		assert_range_at(fx->db, 3, "", "", 0, "left=v");
		assert_range_at(fx->db, 3, "a", "b", 1, "");
		CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, 2, &view), 0);
		CU_ASSERT_EQUAL(mvcc_range(view, str(""), str(""), NULL, &rows), 0);
		CU_ASSERT_EQUAL(rows.n, ROWS);
		mvcc_rows_release(&rows);
		mvcc_view_close(view);
		fixture_reopen(fx);
	}
	fixture_close(fx);
}

static void test_big_and_small_transactions_interleave(void)
{
	struct fixture *fx = fixture_open_small_ring();
	struct mvcc_txn *one, *two;

	one = begin(fx->db);
	two = begin(fx->db);
	for (unsigned i = 0; i < BIG; i++) {
		char key[16];

		snprintf(key, sizeof(key), "one%06u", i);
		CU_ASSERT_EQUAL(mvcc_txn_put(one, str(key), filler(500, i), NULL, 0), 0);
		snprintf(key, sizeof(key), "two%06u", i);
		CU_ASSERT_EQUAL(mvcc_txn_put(two, str(key), filler(500, i), NULL, 0), 0);
		if (i % 100 == 0)
			put(fx->db, "small", key);
	}
	CU_ASSERT_EQUAL(commit(two), 22);
	assert_absent_at(fx->db, MVCC_REV_LATEST, "one000000");
	put(fx->db, "small", "between");
	CU_ASSERT_EQUAL(commit(one), 24);
	put(fx->db, "small", "after");
	for (int opened = 0; opened < 2; opened++) {
		assert_absent_at(fx->db, 21, "two000000");
		assert_absent_at(fx->db, 23, "one001999");
		for (unsigned i = 0; i < BIG; i += 111) {
			struct mvcc_item item = { 0 };
			struct mvcc_view *view = NULL;
			char key[16];

			snprintf(key, sizeof(key), "two%06u", i);
			CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, 22, &view), 0);
			CU_ASSERT_EQUAL(mvcc_get(view, str(key), &item), 0);
			CU_ASSERT(slice_eq(item.value, filler(500, i)));
			mvcc_item_release(&item);
			snprintf(key, sizeof(key), "one%06u", i);
			CU_ASSERT_EQUAL(mvcc_get(view, str(key), &item), -ENOENT);
			mvcc_view_close(view);
			CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, 24, &view), 0);
			CU_ASSERT_EQUAL(mvcc_get(view, str(key), &item), 0);
			CU_ASSERT(slice_eq(item.value, filler(500, i)));
			mvcc_item_release(&item);
			mvcc_view_close(view);
		}
		assert_value_at(fx->db, 24, "small", "between");
		assert_value_at(fx->db, 25, "small", "after");
		fixture_reopen(fx);
	}
	CU_ASSERT_EQUAL(fixture_rows_of(fx, "stage", ""), 0);
	fixture_close(fx);
}

/* ---- intents, counters --------------------------------------------------------------------- */

struct intents {
	unsigned n;
	uint64_t id[8];
	char payload[8][16];
};

static int collect_intent(void *arg, uint64_t intent, struct slice payload)
{
	struct intents *in = arg;

	if (in->n < 8) {
		in->id[in->n] = intent;
		snprintf(in->payload[in->n], 16, "%.*s", (int)payload.len, (const char *)payload.data);
	}
	in->n++;
	return 0;
}

static void assert_intents(struct mvcc *db, const char *expected)
{
	struct intents in = { 0 };
	char text[160] = "";

	CU_ASSERT_EQUAL(mvcc_intents(db, collect_intent, &in), 0);
	for (unsigned i = 0; i < in.n && i < 8; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i ? " " : "",
			 in.payload[i]);
	if (strcmp(text, expected))
		fprintf(stderr, "intents \"%s\", not \"%s\"\n", text, expected);
	CU_ASSERT_STRING_EQUAL(text, expected);
}

static void test_intents_live_until_settled_or_dropped(void)
{
	struct fixture *fx = fixture_open();
	uint64_t one = 0, two = 0, three = 0, four = 0;
	struct mvcc_txn *txn;

	assert_intents(fx->db, "");
	CU_ASSERT_EQUAL(mvcc_intent_put(fx->db, str("one"), &one), 0);
	CU_ASSERT_EQUAL(mvcc_intent_put(fx->db, str("two"), &two), 0);
	CU_ASSERT_EQUAL(mvcc_intent_put(fx->db, str("three"), &three), 0);
	CU_ASSERT(one != two && two != three && one != three);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 1);
	fixture_reopen(fx);
	assert_intents(fx->db, "one two three");
	CU_ASSERT_EQUAL(mvcc_intent_drop(fx->db, one), 0);
	txn = begin(fx->db);
	txn_put(txn, "a", "1");
	CU_ASSERT_EQUAL(mvcc_txn_settle(txn, two), 0);
	CU_ASSERT_EQUAL(commit(txn), 2);
	txn = begin(fx->db);
	txn_put(txn, "a", "2");
	CU_ASSERT_EQUAL(mvcc_txn_settle(txn, three), 0);
	mvcc_txn_abort(txn);
	CU_ASSERT_EQUAL(mvcc_intent_put(fx->db, str("four"), &four), 0);
	CU_ASSERT(four != one && four != two && four != three);
	fixture_reopen(fx);
	assert_intents(fx->db, "three four");
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_settle(txn, three), 0);
	CU_ASSERT_EQUAL(commit(txn), 2); /* nothing but the intent: no revision */
	CU_ASSERT_EQUAL(mvcc_intent_drop(fx->db, four), 0);
	fixture_reopen(fx);
	assert_intents(fx->db, "");
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 2);
	fixture_close(fx);
}

static void test_an_intent_settled_by_a_big_transaction_is_gone(void)
{
	struct fixture *fx = fixture_open_small_ring();
	struct mvcc_txn *txn;
	uint64_t intent = 0;

	CU_ASSERT_EQUAL(mvcc_intent_put(fx->db, str("big"), &intent), 0);
	txn = begin(fx->db);
	big_puts(txn, 3);
	CU_ASSERT_EQUAL(mvcc_txn_settle(txn, intent), 0);
	commit(txn);
	fixture_reopen(fx);
	assert_intents(fx->db, "");
	CU_ASSERT(big_rows_at(fx->db, 2, 3));
	fixture_close(fx);
}

static int check_long_intent(void *arg, uint64_t intent, struct slice payload)
{
	(void)intent;
	if (slice_eq(payload, filler(64 * KIB, 4)))
		++*(unsigned *)arg;
	return 0;
}

static void test_intents_have_up_to_64_kib(void)
{
	struct fixture *fx = fixture_open_small_ring();
	unsigned found = 0;
	uint64_t intent;

	CU_ASSERT_EQUAL(mvcc_intent_put(fx->db, filler(64 * KIB + 1, 4), &intent), -EINVAL);
	for (int i = 0; i < 12; i++) /* more than one ring */
		CU_ASSERT_EQUAL(mvcc_intent_put(fx->db, filler(64 * KIB, 4), &intent), 0);
	fixture_reopen(fx);
	CU_ASSERT_EQUAL(mvcc_intents(fx->db, check_long_intent, &found), 0);
	CU_ASSERT_EQUAL(found, 12);
	fixture_close(fx);
}

struct reserving {
	struct mvcc *db;
	uint64_t firsts[300];
	int err;
};

static void *reserve_many(void *arg)
{
	struct reserving *r = arg;

	for (unsigned i = 0; i < 300 && !r->err; i++)
		r->err = mvcc_reserve(r->db, "many", 3, &r->firsts[i]);
	return NULL;
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void test_reserved_numbers_are_never_given_again(void)
{
	static uint64_t all[1200];
	struct fixture *fx = fixture_open();
	struct reserving r[4];
	pthread_t threads[4];
	uint64_t first = 0, last = 0;

	CU_ASSERT_EQUAL(mvcc_reserve(fx->db, "ino", 10, &first), 0);
	CU_ASSERT_EQUAL(first, 1);
	last = 10;
	for (int i = 0; i < 20; i++) {
		CU_ASSERT_EQUAL(mvcc_reserve(fx->db, "ino", 7, &first), 0);
		CU_ASSERT(first > last);
		last = first + 6;
		if (i % 5 == 0)
			fixture_reopen(fx);
	}
	CU_ASSERT_EQUAL(mvcc_reserve(fx->db, "other", 1, &first), 0);
	CU_ASSERT_EQUAL(first, 1);
	CU_ASSERT_EQUAL(mvcc_reserve(fx->db, "a name of just thirty-two bytes.", 1, &first), 0);
	CU_ASSERT_EQUAL(mvcc_reserve(fx->db, "a name of just thirty-three bytes", 1, &first), -EINVAL);
	CU_ASSERT_EQUAL(mvcc_reserve(fx->db, "", 1, &first), -EINVAL);
	for (int t = 0; t < 4; t++) {
		r[t] = (struct reserving){ .db = fx->db };
		CU_ASSERT_EQUAL(pthread_create(&threads[t], NULL, reserve_many, &r[t]), 0);
	}
	for (int t = 0; t < 4; t++) {
		pthread_join(threads[t], NULL);
		CU_ASSERT_EQUAL(r[t].err, 0);
		memcpy(all + 300 * t, r[t].firsts, sizeof(r[t].firsts));
	}
	qsort(all, 1200, sizeof(all[0]), compare_u64);
	for (int i = 1; i < 1200; i++)
		CU_ASSERT(all[i] >= all[i - 1] + 3);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 1);
	fixture_close(fx);
}

/* ---- opening ------------------------------------------------------------------------------- */

static void test_an_absent_store_is_made_only_when_asked(void)
{
	struct fixture *fx = fixture_new();
	struct stat st;
	unsigned format, known;

	fx->opt.create = false;
	CU_ASSERT_EQUAL(fixture_try_open(fx), -ENOENT);
	CU_ASSERT_NOT_EQUAL(stat(fx->dir, &st), 0);
	CU_ASSERT_EQUAL(mvcc_dir_format(fx->dir, &format, &known), -ENOENT);
	CU_ASSERT_EQUAL(mkdir(fx->dir, 0700), 0);
	CU_ASSERT_EQUAL(fixture_try_open(fx), -ENOENT); /* an empty directory is no database either */
	fx->opt.create = true;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	put(fx->db, "a", "1");
	fx->opt.create = false;
	fixture_reopen(fx);
	assert_value_at(fx->db, MVCC_REV_LATEST, "a", "1");
	CU_ASSERT_EQUAL(mvcc_dir_format(fx->dir, &format, &known), 0);
	CU_ASSERT_EQUAL(format, known);
	fixture_close(fx);
}

static void test_a_store_is_open_once(void)
{
	struct fixture *fx = fixture_new();
	struct mvcc_options again;
	struct mvcc *second = NULL;
	char holder[128] = "", expected[64];

	fx->opt.holder = "/mnt/a place";
	CU_ASSERT_EQUAL(mvcc_lock_holder(fx->dir, holder, sizeof(holder)), -ENOENT);
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	again = fx->opt;
	again.engine = (struct engine_provider){ 0 }; /* must not be reached */
	CU_ASSERT_EQUAL(mvcc_open(&again, &second), MVCC_ELOCKED);
	CU_ASSERT_PTR_NULL(second);
	CU_ASSERT_EQUAL(mvcc_lock_holder(fx->dir, holder, sizeof(holder)), 0);
	snprintf(expected, sizeof(expected), "pid %d", (int)getpid());
	CU_ASSERT_PTR_NOT_NULL(strstr(holder, expected));
	CU_ASSERT_PTR_NOT_NULL(strstr(holder, "/mnt/a place"));
	CU_ASSERT_EQUAL(mvcc_lock_holder(fx->dir, holder, 5), 0); /* cut, and ended by a NUL */
	CU_ASSERT(strlen(holder) < 5);
	put(fx->db, "a", "1");
	fixture_reopen(fx);
	assert_value_at(fx->db, MVCC_REV_LATEST, "a", "1");
	CU_ASSERT_EQUAL(mvcc_close(fx->db), 0);
	fx->db = NULL;
	CU_ASSERT_EQUAL(mvcc_lock_holder(fx->dir, holder, sizeof(holder)), -ENOENT);
	fixture_close(fx);
}

/* The child only asks for the lock: it was forked from a process with threads. */
static void test_another_process_finds_the_store_locked(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_options again = fx->opt;
	struct mvcc *second = NULL;
	int status = 0;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(mvcc_open(&again, &second) == MVCC_ELOCKED ? 0 : 1);
	CU_ASSERT(pid > 0);
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	put(fx->db, "a", "1"); /* the child's end did not take the lock along */
	CU_ASSERT_EQUAL(mvcc_open(&again, &second), MVCC_ELOCKED);
	fixture_close(fx);
}

/* What a directory holds, as text: names, sizes, and times of change. */
static void describe_dir(const char *path, char *out, size_t out_len)
{
	struct dirent **names = NULL;
	int n = scandir(path, &names, NULL, alphasort);

	out[0] = 0;
	for (int i = 0; i < n; i++) {
		char file[1024];
		struct stat st = { 0 };

		snprintf(file, sizeof(file), "%s/%s", path, names[i]->d_name);
		if (strcmp(names[i]->d_name, "..") && lstat(file, &st) == 0)
			snprintf(out + strlen(out), out_len - strlen(out), "%s %lld %lld.%ld\n",
				 names[i]->d_name, (long long)st.st_size, (long long)st.st_mtim.tv_sec,
				 st.st_mtim.tv_nsec);
		free(names[i]);
	}
	free(names);
}

static void write_file(const char *dir, const char *name, const char *text)
{
	char path[1024];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	CU_ASSERT_PTR_NOT_NULL(f);
	if (f) {
		fputs(text, f);
		fclose(f);
	}
}

static void test_what_is_no_database_is_not_touched(void)
{
	struct fixture *fx = fixture_new();
	char before[2048], after[2048], path[512];
	unsigned format, known;

	CU_ASSERT_EQUAL(mkdir(fx->dir, 0700), 0);
	write_file(fx->dir, "letter.txt", "Dear Anna,\n");
	snprintf(path, sizeof(path), "%s/folder", fx->dir);
	CU_ASSERT_EQUAL(mkdir(path, 0700), 0);
	describe_dir(fx->dir, before, sizeof(before));
	CU_ASSERT_EQUAL(fixture_try_open(fx), MVCC_ENODB);
	fx->opt.create = false;
	CU_ASSERT_EQUAL(fixture_try_open(fx), MVCC_ENODB);
	describe_dir(fx->dir, after, sizeof(after));
	CU_ASSERT_STRING_EQUAL(before, after);
	CU_ASSERT_EQUAL(mvcc_dir_format(fx->dir, &format, &known), -ENOENT);
	fixture_close(fx);
}

static void test_a_file_is_no_database(void)
{
	struct fixture *fx = fixture_new();
	char before[2048], after[2048];

	write_file(fx->tmp, "db", "a file\n");
	describe_dir(fx->tmp, before, sizeof(before));
	CU_ASSERT_EQUAL(fixture_try_open(fx), MVCC_ENODB);
	describe_dir(fx->tmp, after, sizeof(after));
	CU_ASSERT_STRING_EQUAL(before, after);
	fixture_close(fx);
}

static void test_a_database_of_another_format_is_refused_untouched(void)
{
	struct fixture *fx = fixture_open();
	char before[2048], after[2048];
	unsigned format = 0, known = 0;

	put(fx->db, "a", "1");
	CU_ASSERT_EQUAL(mvcc_close(fx->db), 0);
	fx->db = NULL;
	CU_ASSERT_EQUAL(mvcc_dir_format(fx->dir, &format, &known), 0);
	write_file(fx->dir, "FORMAT", "mvccfs database, format 4711\n");
	CU_ASSERT_EQUAL(fixture_try_open(fx), MVCC_EFORMAT);
	describe_dir(fx->dir, before, sizeof(before));
	CU_ASSERT_EQUAL(fixture_try_open(fx), MVCC_EFORMAT);
	describe_dir(fx->dir, after, sizeof(after));
	CU_ASSERT_STRING_EQUAL(before, after);
	CU_ASSERT_EQUAL(mvcc_dir_format(fx->dir, &format, &known), 0);
	CU_ASSERT_EQUAL(format, 4711);
	CU_ASSERT(known < 4711);
	write_file(fx->dir, "FORMAT", "some words\n");
	CU_ASSERT_EQUAL(fixture_try_open(fx), MVCC_ENODB);
	fixture_close(fx);
}

/* Files that only a maker of ours leaves, and none that says "made": it is made again. */
static void test_a_half_made_database_is_made_again_and_a_stranger_like_it_is_not(void)
{
	struct fixture *fx = fixture_open();
	char path[512];

	put(fx->db, "a", "1");
	CU_ASSERT_EQUAL(mvcc_close(fx->db), 0);
	fx->db = NULL;
	snprintf(path, sizeof(path), "%s/FORMAT", fx->dir);
	CU_ASSERT_EQUAL(unlink(path), 0);
	write_file(fx->dir, "letter.txt", "Dear Anna,\n");
	CU_ASSERT_EQUAL(fixture_try_open(fx), MVCC_ENODB);
	snprintf(path, sizeof(path), "%s/letter.txt", fx->dir);
	CU_ASSERT_EQUAL(unlink(path), 0);
	fx->opt.create = false;
	CU_ASSERT_EQUAL(fixture_try_open(fx), -ENOENT);
	fx->opt.create = true;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), MVCC_REV_FIRST);
	CU_ASSERT_EQUAL(put(fx->db, "b", "2"), 2);
	fixture_reopen(fx);
	assert_value_at(fx->db, MVCC_REV_LATEST, "b", "2");
	fixture_close(fx);
}

static void test_two_stores_live_in_one_process(void)
{
	struct fixture *one = fixture_open(), *two = fixture_open();

	put(one->db, "k", "of one");
	put(two->db, "k", "of two");
	put(two->db, "k", "of two again");
	CU_ASSERT_EQUAL(mvcc_current(one->db), 2);
	CU_ASSERT_EQUAL(mvcc_current(two->db), 3);
	fixture_reopen(one);
	assert_value_at(one->db, MVCC_REV_LATEST, "k", "of one");
	assert_value_at(two->db, MVCC_REV_LATEST, "k", "of two again");
	fixture_close(one);
	assert_value_at(two->db, 2, "k", "of two");
	put(two->db, "k", "after the other is gone");
	fixture_close(two);
}

static void test_figures_count_what_happened(void)
{
	struct fixture *fx = fixture_open_small_ring();
	struct mvcc_view *view = NULL;
	struct mvcc_stats stats;
	struct mvcc_txn *txn;
	uint64_t commits;

	mvcc_stats(fx->db, &stats);
	CU_ASSERT_EQUAL(stats.current, 1);
	CU_ASSERT_EQUAL(stats.floor, 1);
	CU_ASSERT_EQUAL(stats.ring_bytes, 256 * KIB);
	commits = stats.commits; /* that of revision 1, perhaps */
	put(fx->db, "a", "1");
	put(fx->db, "a", "2");
	txn = begin(fx->db);
	assert_txn_value(txn, "a", "2");
	put(fx->db, "a", "3");
	txn_put(txn, "b", "1");
	CU_ASSERT_EQUAL(commit_err(txn), MVCC_ECONFLICT);
	txn = begin(fx->db);
	stage(txn, str("12345"));
	mvcc_txn_abort(txn);
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, MVCC_REV_LATEST, &view), 0);
	fixture_drain(fx);
	mvcc_stats(fx->db, &stats);
	CU_ASSERT_EQUAL(stats.commits, commits + 3);
	CU_ASSERT_EQUAL(stats.conflicts, 1);
	CU_ASSERT(stats.syncs >= 1);
	CU_ASSERT(stats.drains >= 1);
	CU_ASSERT_EQUAL(stats.views, 1);
	CU_ASSERT_EQUAL(stats.blobs_staged, 1);
	CU_ASSERT_EQUAL(stats.blob_bytes_staged, 5);
	CU_ASSERT_EQUAL(stats.failed, 0);
	mvcc_view_close(view);
	fixture_close(fx);
}

/* ---- readers and writers at once ----------------------------------------------------------- */

struct busy {
	struct mvcc *db;
	atomic_bool stop;
	atomic_uint errors;
	atomic_ulong commits;
};

static void *write_busily(void *arg)
{
	struct busy *busy = arg;

	for (unsigned i = 0; !atomic_load(&busy->stop); i++) {
		struct mvcc_txn *txn;
		char key[16], value[16];
		int err = mvcc_txn_begin(busy->db, &txn);

		if (err) {
			atomic_fetch_add(&busy->errors, 1);
			break;
		}
		snprintf(key, sizeof(key), "k%02u", i % 50);
		snprintf(value, sizeof(value), "new %u", i);
		err = i % 7 ? mvcc_txn_put(txn, str(key), str(value), NULL, 0) : mvcc_txn_del(txn, str(key));
		if (err)
			mvcc_txn_abort(txn);
		else
			err = mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, NULL);
		if (err)
			atomic_fetch_add(&busy->errors, 1);
		atomic_fetch_add(&busy->commits, 1);
	}
	return NULL;
}

static void test_an_old_view_stays_while_writers_go_on(void)
{
	struct fixture *fx = fixture_open_small_ring();
	struct busy busy = { .db = fx->db };
	struct mvcc_view *view = NULL;
	struct mvcc_txn *txn = begin(fx->db);
	struct buf expected = { 0 };
	pthread_t thread;
	char text[32];

	for (int i = 0; i < 50; i += 2) {
		snprintf(text, sizeof(text), "k%02d", i);
		txn_put(txn, text, "old");
		snprintf(text, sizeof(text), "%sk%02d=old", i ? " " : "", i);
		CU_ASSERT_EQUAL(buf_put(&expected, text, strlen(text)), 0);
	}
	CU_ASSERT_EQUAL(buf_put_u8(&expected, 0), 0);
	CU_ASSERT_EQUAL(commit(txn), 2);
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, MVCC_REV_LATEST, &view), 0);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, write_busily, &busy), 0);
	for (int round = 0; round < 200 || atomic_load(&busy.commits) < 2000; round++) {
		assert_view_range(view, "", "", 0, (const char *)expected.data);
		assert_view_value(view, "k24", "old");
		assert_view_value(view, "k25", NULL);
		if (round % 50 == 0)
			assert_range_at(fx->db, 2, "", "", 0, (const char *)expected.data);
	}
	atomic_store(&busy.stop, true);
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(atomic_load(&busy.errors), 0);
	mvcc_view_close(view);
	buf_release(&expected);
	fixture_close(fx);
}

static void test_a_reader_sees_every_commit_that_returned(void)
{
	struct fixture *fx = fixture_open_small_ring();
	char value[16];

	for (unsigned i = 0; i < 3000; i++) { /* drains come and go meanwhile */
		snprintf(value, sizeof(value), "%u", i);
		put(fx->db, "k", value);
		assert_value_at(fx->db, MVCC_REV_LATEST, "k", value);
	}
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
	UNIT_TEST(test_a_fresh_store_is_empty_and_at_revision_1),
	UNIT_TEST(test_init_fills_revision_1_once),
	UNIT_TEST(test_a_store_whose_init_failed_is_made_anew),
	UNIT_TEST(test_each_commit_takes_the_next_revision),
	UNIT_TEST(test_get_at_is_not_moved_by_a_later_put),
	UNIT_TEST(test_puts_raise_the_version_and_keep_the_creation),
	UNIT_TEST(test_an_empty_value_is_not_absence),
	UNIT_TEST(test_a_deleted_key_is_absent_from_its_tombstone_on),
	UNIT_TEST(test_a_transaction_that_changes_nothing_takes_no_revision),
	UNIT_TEST(test_an_aborted_transaction_leaves_nothing),
	UNIT_TEST(test_ranges_are_half_open_ordered_and_limited),
	UNIT_TEST(test_views_outside_history_are_refused),
	UNIT_TEST(test_generations_begin_and_end_as_in_etcd),
	UNIT_TEST(test_history_is_whole_when_half_of_it_is_buffered),
	UNIT_TEST(test_history_stops_when_told),
	UNIT_TEST(test_history_of_one_key_holds_nothing_of_its_neighbours),
	UNIT_TEST(test_a_transaction_reads_its_own_writes),
	UNIT_TEST(test_own_writes_have_mod_rev_0),
	UNIT_TEST(test_a_transaction_does_not_see_later_commits),
	UNIT_TEST(test_delete_and_recreate_in_one_transaction_begins_a_generation),
	UNIT_TEST(test_a_key_put_several_times_in_one_transaction_shows_its_last_value),
	UNIT_TEST(test_a_key_put_and_deleted_in_one_transaction_was_never_there),
	UNIT_TEST(test_commits_are_visible_before_the_engine_has_them),
	UNIT_TEST(test_limits_count_in_key_order_across_buffer_and_engine),
	UNIT_TEST(test_buffered_keys_do_not_push_out_smaller_ones),
	UNIT_TEST(test_keys_repeated_in_one_transaction_never_read_stale),
	UNIT_TEST(test_a_walk_orders_buffered_rows_as_a_drained_store_would),
	UNIT_TEST(test_a_view_reads_the_same_while_the_buffer_drains),
	UNIT_TEST(test_two_cursors_of_one_view_walk_apart),
	UNIT_TEST(test_a_full_ring_makes_commits_wait_and_tells_when_there_is_room),
	UNIT_TEST(test_readers_go_on_while_a_writer_waits_for_room),
	UNIT_TEST(test_the_ring_may_wrap_many_times),
	UNIT_TEST(test_sync_async_calls_back_once_all_is_on_disk),
	UNIT_TEST(test_unsynced_commits_reach_the_disk_by_themselves),
	UNIT_TEST(test_a_restart_keeps_every_revision),
	UNIT_TEST(test_the_revision_does_not_go_back_when_all_keys_are_gone),
	UNIT_TEST(test_a_store_opened_and_closed_idle_stays_as_it_is),
	UNIT_TEST(test_the_ring_may_change_its_size_between_opens),
	UNIT_TEST(test_the_log_tells_the_story_of_each_commit),
	UNIT_TEST(test_changes_name_what_they_replaced),
	UNIT_TEST(test_the_log_is_read_across_buffer_and_engine),
	UNIT_TEST(test_the_log_is_bounded_by_history),
	UNIT_TEST(test_times_never_decrease_and_find_their_revisions),
	UNIT_TEST(test_keys_have_1_to_4096_bytes),
	UNIT_TEST(test_keys_of_any_bytes_keep_their_order),
	UNIT_TEST(test_values_have_0_to_1_mib),
	UNIT_TEST(test_blobs_are_read_in_part_and_whole),
	UNIT_TEST(test_blobs_have_1_to_16_mib),
	UNIT_TEST(test_records_may_share_blobs),
	UNIT_TEST(test_a_record_may_refer_to_many_blobs),
	UNIT_TEST(test_blobs_of_an_aborted_transaction_are_gone),
	UNIT_TEST(test_blobs_staged_but_not_referred_to_are_gone),
	UNIT_TEST(test_blob_ids_are_not_given_twice_while_referred_to),
	UNIT_TEST(test_a_transaction_larger_than_the_ring_is_one_revision),
	UNIT_TEST(test_a_big_transaction_is_in_the_log_like_any_other),
	UNIT_TEST(test_a_big_transaction_reads_its_own_writes),
	UNIT_TEST(test_an_aborted_big_transaction_leaves_nothing),
	UNIT_TEST(test_a_big_transaction_deletes_more_than_the_ring_holds),
	UNIT_TEST(test_big_and_small_transactions_interleave),
	UNIT_TEST(test_intents_live_until_settled_or_dropped),
	UNIT_TEST(test_an_intent_settled_by_a_big_transaction_is_gone),
	UNIT_TEST(test_intents_have_up_to_64_kib),
	UNIT_TEST(test_reserved_numbers_are_never_given_again),
	UNIT_TEST(test_an_absent_store_is_made_only_when_asked),
	UNIT_TEST(test_a_store_is_open_once),
	UNIT_TEST(test_another_process_finds_the_store_locked),
	UNIT_TEST(test_what_is_no_database_is_not_touched),
	UNIT_TEST(test_a_file_is_no_database),
	UNIT_TEST(test_a_database_of_another_format_is_refused_untouched),
	UNIT_TEST(test_a_half_made_database_is_made_again_and_a_stranger_like_it_is_not),
	UNIT_TEST(test_two_stores_live_in_one_process),
	UNIT_TEST(test_figures_count_what_happened),
	UNIT_TEST(test_an_old_view_stays_while_writers_go_on),
	UNIT_TEST(test_a_reader_sees_every_commit_that_returned),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = {
		UNIT_SUITE("store on memory", on_memory, NULL, tests),
		UNIT_SUITE("store on rocksdb", on_rocks, NULL, tests),
		CU_SUITE_INFO_NULL,
	};

	return unit_main(argc, argv, suites);
}
