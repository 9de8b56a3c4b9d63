/*
 * What is kept and what goes: compaction and pins, through mvcc.h and keep.h, on the memory engine and on
 * RocksDB. The properties of compaction are etcd's (its tests of store, index and key index). What is gone
 * is counted in the rows of the engine, and must be exactly what nobody can see any more.
 */
#include "mvcc/keep.h"

#include "rocks_backend/rocks.h"
#include "tests/store_fixture.h"
#include "tests/unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define KIB ((size_t)1 << 10)

/* ---- one line each ------------------------------------------------------------------------- */

static void compact(struct fixture *fx, mvcc_rev_t rev)
{
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, rev), 0);
}

/* Compacts, and waits until all that may go is gone. */
static void compact_all(struct fixture *fx, mvcc_rev_t rev)
{
	compact(fx, rev);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
}

static void pin(struct fixture *fx, const char *name, mvcc_rev_t rev)
{
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, name, rev), 0);
}

static void unpin(struct fixture *fx, const char *name)
{
	CU_ASSERT_EQUAL(mvcc_unpin(fx->db, name), 0);
}

static int view_err(struct mvcc *db, mvcc_rev_t rev)
{
	struct mvcc_view *view = NULL;
	int err = mvcc_view_open(db, rev, &view);

	mvcc_view_close(view);
	return err;
}

static struct mvcc_view *view_open(struct mvcc *db, mvcc_rev_t rev)
{
	struct mvcc_view *view = NULL;

	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(db, rev, &view), 0);
	return view;
}

static size_t hist(struct fixture *fx)
{
	return fixture_rows_of(fx, "hist", "");
}

static size_t blobs(struct fixture *fx)
{
	return fixture_rows_of(fx, "blob", "");
}

static size_t ended(struct fixture *fx)
{
	return fixture_rows_of(fx, "ended", "");
}

static size_t blob_counts(struct fixture *fx)
{
	return fixture_rows_of(fx, "default", "blobref/");
}

/* No work is left, of no kind. */
static void assert_done(struct fixture *fx)
{
	struct mvcc_stats stats;

	mvcc_stats(fx->db, &stats);
	CU_ASSERT_EQUAL(stats.compacted, stats.floor);
	CU_ASSERT_EQUAL(fixture_rows_of(fx, "default", "unpinned/"), 0);
	CU_ASSERT_EQUAL(fixture_rows_of(fx, "log", ""), stats.current - stats.floor + 1);
}

static mvcc_blob_t stage(struct mvcc_txn *txn, const char *bytes)
{
	mvcc_blob_t blob = 0;

	CU_ASSERT_EQUAL(mvcc_txn_stage_blob(txn, str(bytes), &blob), 0);
	return blob;
}

static void txn_ref(struct mvcc_txn *txn, const char *key, mvcc_blob_t blob)
{
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str(key), str("ref"), &blob, 1), 0);
}

static mvcc_blob_t put_blob(struct mvcc *db, const char *key, const char *bytes)
{
	struct mvcc_txn *txn = begin(db);
	mvcc_blob_t blob = stage(txn, bytes);

	txn_ref(txn, key, blob);
	commit(txn);
	return blob;
}

static mvcc_rev_t put_ref(struct mvcc *db, const char *key, mvcc_blob_t blob)
{
	struct mvcc_txn *txn = begin(db);

	txn_ref(txn, key, blob);
	return commit(txn);
}

/* `bytes` of NULL: gone. */
static void assert_blob(struct fixture *fx, mvcc_blob_t blob, const char *bytes)
{
	char got[64];
	ssize_t n = mvcc_blob_read(fx->db, blob, 0, got, sizeof(got));

	if (!bytes) {
		CU_ASSERT_EQUAL(n, -ENOENT);
		return;
	}
	CU_ASSERT_EQUAL(n, (ssize_t)strlen(bytes));
	CU_ASSERT(n < 0 || memcmp(got, bytes, (size_t)n) == 0);
}

/* ---- compaction, as etcd has it ------------------------------------------------------------ */

static void test_a_key_made_anew_at_the_floor_itself_lives(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;
	mvcc_rev_t rev;

	put(fx->db, "k", "old");
	put(fx->db, "k", "older");
	txn = begin(fx->db);
	txn_del(txn, "k");
	txn_put(txn, "k", "new");
	rev = commit(txn);
	put(fx->db, "other", "1");
	compact_all(fx, rev);
	assert_record_at(fx->db, rev, "k", "new", rev, rev, 1);
	assert_record_at(fx->db, MVCC_REV_LATEST, "k", "new", rev, rev, 1);
	CU_ASSERT_EQUAL(hist(fx), 0);
	fixture_reopen(fx);
	assert_record_at(fx->db, rev, "k", "new", rev, rev, 1);
	CU_ASSERT_EQUAL(put(fx->db, "k", "newer"), rev + 2);
	assert_record_at(fx->db, MVCC_REV_LATEST, "k", "newer", rev, rev + 2, 2);
	fixture_close(fx);
}

static void test_the_state_at_the_floor_stays(void)
{
	static const char *const values[] = { NULL, NULL, "bar0", "bar1", NULL, "bar2" };

	for (mvcc_rev_t rev = 2; rev <= 5; rev++) {
		struct fixture *fx = fixture_open();

		put(fx->db, "foo", "bar0");
		put(fx->db, "foo", "bar1");
		del(fx->db, "foo");
		put(fx->db, "foo", "bar2");
		compact_all(fx, rev);
		assert_done(fx);
		CU_ASSERT_EQUAL(mvcc_floor(fx->db), rev);
		CU_ASSERT_EQUAL(view_err(fx->db, rev - 1), MVCC_ECOMPACTED);
		for (mvcc_rev_t r = rev; r <= 5; r++)
			assert_value_at(fx->db, r, "foo", values[r]);
		fixture_close(fx);
	}
}

static void test_a_floor_is_raised_to_what_exists_and_once(void)
{
	struct fixture *fx = fixture_open();

	CU_ASSERT_EQUAL(mvcc_compact(fx->db, MVCC_REV_LATEST), MVCC_ECOMPACTED);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, MVCC_REV_FIRST), MVCC_ECOMPACTED);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, 2), MVCC_EFUTURE);
	for (int i = 2; i <= 6; i++)
		put(fx->db, "a", "1");
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, 3), 0);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, 3), MVCC_ECOMPACTED);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, 2), MVCC_ECOMPACTED);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, 7), MVCC_EFUTURE);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, 100), MVCC_EFUTURE);
	CU_ASSERT_EQUAL(mvcc_floor(fx->db), 3);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, MVCC_REV_LATEST), 0);
	CU_ASSERT_EQUAL(mvcc_floor(fx->db), 6);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	assert_done(fx);
	fixture_reopen(fx);
	CU_ASSERT_EQUAL(mvcc_floor(fx->db), 6);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, 6), MVCC_ECOMPACTED);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	assert_done(fx);
	fixture_close(fx);
}

/* "k" put at 2, 4, deleted at 6, put at 8, 10, deleted at 12, put at 14; "x" put at the odd ones between. */
static struct fixture *worked_example(void)
{
	struct fixture *fx = fixture_open();
	char value[8];

	for (unsigned rev = 2; rev <= 14; rev++) {
		snprintf(value, sizeof(value), "%u", rev);
		if (rev == 6 || rev == 12) {
			CU_ASSERT_EQUAL(del(fx->db, "k"), rev);
		} else {
			CU_ASSERT_EQUAL(put(fx->db, rev % 2 ? "x" : "k", value), rev);
		}
	}
	return fx;
}

static const char *const example_k[] = { NULL, NULL, "2",  "2",  "4",  "4",  NULL, NULL,
					 "8",  "8",  "10", "10", NULL, NULL, "14" };
static const char *const example_x[] = { NULL, NULL, NULL, "3",  "3",  "5",  "5", "7",
					 "7",  "9",  "9",  "11", "11", "13", "13" };

static void assert_example(struct fixture *fx, mvcc_rev_t floor)
{
	size_t rows = 0;

	for (mvcc_rev_t end = 4; end <= 13; end++)
		rows += end > floor && (end == 4 || end == 5 || end == 6 || end == 7 || end == 9 ||
					end == 10 || end == 11 || end == 12 || end == 13);
	CU_ASSERT_EQUAL(hist(fx), rows);
	CU_ASSERT_EQUAL(view_err(fx->db, floor - 1), MVCC_ECOMPACTED);
	for (mvcc_rev_t rev = floor; rev <= 14; rev++) {
		assert_value_at(fx->db, rev, "k", example_k[rev]);
		assert_value_at(fx->db, rev, "x", example_x[rev]);
		assert_changes(fx->db, rev,
			       rev == 6  ? "-k<4" :
			       rev == 12 ? "-k<10" :
			       rev == 2  ? "+k<0" :
			       rev == 3  ? "+x<0" :
			       rev == 4  ? "+k<2" :
			       rev == 8  ? "+k<0" :
			       rev == 10 ? "+k<8" :
			       rev == 14 ? "+k<0" :
			       rev == 5  ? "+x<3" :
			       rev == 7  ? "+x<5" :
			       rev == 9  ? "+x<7" :
			       rev == 11 ? "+x<9" :
					   "+x<11");
	}
	assert_done(fx);
}

static void test_the_worked_example_in_one_go_and_step_by_step(void)
{
	struct fixture *steps = worked_example();

	for (mvcc_rev_t floor = 2; floor <= 14; floor++) {
		struct fixture *fx = worked_example();

		compact_all(fx, floor);
		assert_example(fx, floor);
		fixture_close(fx);
		compact_all(steps, floor);
		assert_example(steps, floor);
	}
	fixture_close(steps);
}

static void test_the_life_of_a_key_begins_at_the_floor(void)
{
	struct fixture *fx = worked_example();

	compact(fx, 10);
	assert_history(fx->db, "k", "8.10.2-12=10 14.14.1-0=14");
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	assert_history(fx->db, "k", "8.10.2-12=10 14.14.1-0=14");
	compact_all(fx,
		    12); /* the delete itself: nothing of the life before is left, but the log tells of it */
	assert_history(fx->db, "k", "14.14.1-0=14");
	assert_changes(fx->db, 12, "-k<10");
	compact_all(fx, 14);
	assert_history(fx->db, "k", "14.14.1-0=14");
	CU_ASSERT_EQUAL(hist(fx), 0);
	fixture_close(fx);
}

static void test_a_floor_far_above_a_keys_last_change_keeps_it(void)
{
	struct fixture *fx = fixture_open();

	put(fx->db, "k", "1");
	put(fx->db, "k", "2");
	for (int i = 0; i < 10; i++)
		put(fx->db, "x", "1");
	compact_all(fx, 10);
	for (mvcc_rev_t rev = 10; rev <= 13; rev++)
		assert_record_at(fx->db, rev, "k", "2", 2, 3, 2);
	fixture_close(fx);
}

static void test_the_revision_does_not_go_back_when_all_is_deleted_and_compacted(void)
{
	struct fixture *fx = fixture_open();
	mvcc_rev_t rev;

	put(fx->db, "a", "1");
	put(fx->db, "b", "1");
	del(fx->db, "a");
	rev = del(fx->db, "b");
	compact_all(fx, rev);
	CU_ASSERT_EQUAL(hist(fx), 0);
	fixture_reopen(fx);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), rev);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "");
	CU_ASSERT_EQUAL(put(fx->db, "a", "2"), rev + 1);
	assert_record_at(fx->db, MVCC_REV_LATEST, "a", "2", rev + 1, rev + 1, 1);
	fixture_close(fx);
}

static void test_a_compaction_not_finished_goes_on_after_a_restart(void)
{
	struct fixture *fx = fixture_new();
	struct mvcc_stats stats;
	mvcc_blob_t blob;

	fx->opt.manual_upkeep = true;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	blob = put_blob(fx->db, "b", "bytes");
	del(fx->db, "b");
	for (int i = 0; i < 20; i++)
		put(fx->db, "k", "1");
	compact(fx, MVCC_REV_LATEST);
	mvcc_stats(fx->db, &stats);
	CU_ASSERT_EQUAL(stats.compacted, MVCC_REV_FIRST);
	CU_ASSERT_EQUAL(hist(fx), 20);
	fx->opt.manual_upkeep = false;
	fixture_reopen(fx);
	CU_ASSERT_EQUAL(mvcc_floor(fx->db), 23);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	CU_ASSERT_EQUAL(hist(fx), 0);
	assert_blob(fx, blob, NULL);
	assert_done(fx);
	fixture_close(fx);
}

static void test_upkeep_does_in_the_calling_thread_what_is_due(void)
{
	struct fixture *fx = fixture_new();
	struct mvcc_stats stats;

	fx->opt.manual_upkeep = true;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	for (int i = 0; i < 5; i++)
		put(fx->db, "k", "1");
	compact(fx, 4);
	CU_ASSERT_EQUAL(mvcc_upkeep(fx->db), 0);
	CU_ASSERT_EQUAL(hist(fx), 2);
	assert_done(fx);
	compact(fx, 6);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	CU_ASSERT_EQUAL(hist(fx), 0);
	mvcc_stats(fx->db, &stats);
	CU_ASSERT_EQUAL(stats.compactions, 2);
	fixture_close(fx);
}

/* ---- readers meanwhile --------------------------------------------------------------------- */

static void test_an_open_view_keeps_what_it_sees_and_nothing_else(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_cursor *c = NULL;
	const struct mvcc_item *item;
	struct mvcc_view *view;
	struct slice key;

	put(fx->db, "a", "1"); /* 2 */
	put(fx->db, "a", "2");
	put(fx->db, "b", "1");
	view = view_open(fx->db, 4);
	put(fx->db, "a", "3");
	put(fx->db, "b", "2");
	put(fx->db, "a", "4"); /* 7 */
	fixture_drain(fx);
	CU_ASSERT_EQUAL(mvcc_cursor_open(view, str(""), str(""), &c), 0);
	CU_ASSERT_EQUAL(mvcc_cursor_next(c, &key, &item), 1);
	compact(fx, 7);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), -EBUSY);
	CU_ASSERT_EQUAL(hist(fx), 3); /* a=1 is gone */
	CU_ASSERT_EQUAL(view_err(fx->db, 4), MVCC_ECOMPACTED);
	CU_ASSERT_EQUAL(mvcc_cursor_next(c, &key, &item), 1);
	CU_ASSERT(slice_eq(item->value, str("1")));
	CU_ASSERT_EQUAL(mvcc_cursor_next(c, &key, &item), 0);
	mvcc_cursor_close(c);
	assert_view_range(view, "", "", 0, "a=2 b=1");
	mvcc_view_close(view);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	CU_ASSERT_EQUAL(hist(fx), 0);
	assert_done(fx);
	fixture_close(fx);
}

static void test_what_a_view_held_back_goes_when_it_is_closed(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_stats stats = { .compacted = 0 };
	struct mvcc_view *view;

	put(fx->db, "a", "1");
	view = view_open(fx->db, MVCC_REV_LATEST);
	put(fx->db, "a", "2");
	put(fx->db, "a", "3");
	compact(fx, 4);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), -EBUSY);
	mvcc_view_close(view);
	for (int i = 0; i < 2000 && stats.compacted != 4; i++) { /* nobody asks: it goes by itself */
		struct timespec ms = { .tv_nsec = 1000000 };

		nanosleep(&ms, NULL);
		mvcc_stats(fx->db, &stats);
	}
	CU_ASSERT_EQUAL(stats.compacted, 4);
	CU_ASSERT_EQUAL(hist(fx), 0);
	fixture_close(fx);
}

static void test_an_open_log_reader_goes_on_while_its_rows_go(void)
{
	struct fixture *fx = fixture_open();
	const struct mvcc_entry *entry;
	struct mvcc_log *log = NULL;
	mvcc_rev_t rev = 1;

	for (int i = 0; i < 10; i++)
		put(fx->db, "a", "1");
	CU_ASSERT_EQUAL(mvcc_log_open(fx->db, 1, MVCC_REV_LATEST, &log), 0);
	compact(fx, 8);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	while (mvcc_log_next(log, &entry) == 1)
		CU_ASSERT_EQUAL(entry->rev, rev++);
	CU_ASSERT_EQUAL(rev, 12);
	mvcc_log_close(log);
	CU_ASSERT_EQUAL(mvcc_log_open(fx->db, 7, MVCC_REV_LATEST, &log), MVCC_ECOMPACTED);
	CU_ASSERT_EQUAL(fixture_rows_of(fx, "log", ""), 4);
	fixture_close(fx);
}

static int64_t clock_at(void *arg)
{
	return atomic_load((_Atomic int64_t *)arg);
}

static void test_times_find_readable_revisions_only(void)
{
	struct fixture *fx = fixture_new();
	_Atomic int64_t now = 1000;
	mvcc_rev_t rev = 0;

	fx->opt.clock = clock_at;
	fx->opt.clock_arg = &now;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	for (now = 2000; now <= 10000; now += 1000) /* revision r at 1000 r */
		put(fx->db, "a", "1");
	CU_ASSERT_EQUAL(mvcc_rev_at(fx->db, 5, &rev), 0);
	CU_ASSERT_EQUAL(rev, 1);
	pin(fx, "two", 2);
	pin(fx, "four", 4);
	compact_all(fx, 7);
	CU_ASSERT_EQUAL(mvcc_rev_at(fx->db, 8999, &rev), 0);
	CU_ASSERT_EQUAL(rev, 8);
	CU_ASSERT_EQUAL(mvcc_rev_at(fx->db, 6999, &rev), 0);
	CU_ASSERT_EQUAL(rev, 4);
	CU_ASSERT_EQUAL(mvcc_rev_at(fx->db, 3999, &rev), 0);
	CU_ASSERT_EQUAL(rev, 2);
	CU_ASSERT_EQUAL(mvcc_rev_at(fx->db, 1999, &rev), MVCC_ECOMPACTED);
	unpin(fx, "four");
	CU_ASSERT_EQUAL(mvcc_rev_at(fx->db, 6999, &rev), 0);
	CU_ASSERT_EQUAL(rev, 2);
	fixture_close(fx);
}

/* ---- pins ---------------------------------------------------------------------------------- */

static void test_a_pinned_revision_stays_as_it_was(void)
{
	struct fixture *fx = worked_example();

	pin(fx, "ten", 10);
	pin(fx, "five", 5);
	compact_all(fx, 14);
	for (int restarts = 0; restarts < 2; restarts++) {
		assert_range_at(fx->db, 10, "", "", 0, "k=10 x=9");
		assert_range_at(fx->db, 5, "", "", 0, "k=4 x=5");
		CU_ASSERT_EQUAL(view_err(fx->db, 6), MVCC_ECOMPACTED);
		CU_ASSERT_EQUAL(view_err(fx->db, 9), MVCC_ECOMPACTED);
		CU_ASSERT_EQUAL(view_err(fx->db, 11), MVCC_ECOMPACTED);
		CU_ASSERT_EQUAL(hist(fx), 4);
		assert_history(fx->db, "k", "2.4.2-6=4 8.10.2-12=10 14.14.1-0=14");
		fixture_reopen(fx);
	}
	unpin(fx, "ten");
	CU_ASSERT_EQUAL(view_err(fx->db, 10), MVCC_ECOMPACTED);
	assert_history(fx->db, "k", "2.4.2-6=4 14.14.1-0=14");
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	CU_ASSERT_EQUAL(hist(fx), 2);
	assert_range_at(fx->db, 5, "", "", 0, "k=4 x=5");
	unpin(fx, "five");
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	CU_ASSERT_EQUAL(hist(fx), 0);
	assert_done(fx);
	fixture_close(fx);
}

static void test_names_of_pins_have_their_limits(void)
{
	struct fixture *fx = fixture_open();
	char name[300];
	struct mvcc_pin got;

	memset(name, 'n', sizeof(name));
	name[256] = '\0';
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, name, 1), -EINVAL);
	name[255] = '\0';
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, name, 1), 0);
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, name, 1), -EEXIST);
	CU_ASSERT_EQUAL(mvcc_pin_get(fx->db, name, &got), 0);
	CU_ASSERT_STRING_EQUAL(got.name, name);
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "", 1), -EINVAL);
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "a/b", 1), -EINVAL);
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "\xff \n", 1), 0);
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "later", 2), MVCC_EFUTURE);
	CU_ASSERT_EQUAL(mvcc_pin_get(fx->db, "later", &got), -ENOENT);
	CU_ASSERT_EQUAL(mvcc_unpin(fx->db, "later"), -ENOENT);
	CU_ASSERT_EQUAL(mvcc_pin_rename(fx->db, name, "a/b"), -EINVAL);
	CU_ASSERT_EQUAL(mvcc_pin_rename(fx->db, name, "\xff \n"), -EEXIST);
	CU_ASSERT_EQUAL(mvcc_pin_rename(fx->db, "later", "n"), -ENOENT);
	put(fx->db, "a", "1");
	put(fx->db, "a", "1");
	compact(fx, 3);
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "gone", 2), MVCC_ECOMPACTED);
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "again", 1), 0); /* one that is pinned may be pinned again */
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "newest", MVCC_REV_LATEST), 0);
	CU_ASSERT_EQUAL(mvcc_pin_get(fx->db, "newest", &got), 0);
	CU_ASSERT_EQUAL(got.rev, 3);
	fixture_close(fx);
}

static int list_pin(void *arg, const struct mvcc_pin *p)
{
	struct buf *text = arg;
	char one[300];

	snprintf(one, sizeof(one), "%s%s@%llu/%d", text->len ? " " : "", p->name, (unsigned long long)p->rev,
		 (int)p->kind);
	return buf_put(text, one, strlen(one)) ? 1 : strcmp(p->name, "stop") == 0 ? 7 : 0;
}

static void assert_pins(struct fixture *fx, const char *expected, int result)
{
	struct buf text = { 0 };

	CU_ASSERT_EQUAL(mvcc_pins(fx->db, list_pin, &text), result);
	if (!slice_eq(slice_buf(&text), str(expected)))
		fprintf(stderr, "pins are \"%.*s\"\n", (int)text.len, (const char *)text.data);
	CU_ASSERT(slice_eq(slice_buf(&text), str(expected)));
	buf_release(&text);
}

static void test_pins_are_listed_by_name_and_may_be_renamed(void)
{
	struct fixture *fx = fixture_new();
	struct mvcc_pin got;
	struct mvcc_stats stats;
	_Atomic int64_t now = 5000;

	fx->opt.clock = clock_at;
	fx->opt.clock_arg = &now;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	assert_pins(fx, "", 0);
	put(fx->db, "a", "1");
	put(fx->db, "a", "2");
	now = 9000;
	pin(fx, "b", 2);
	pin(fx, "c", 3);
	pin(fx, "a", 2);
	assert_pins(fx, "a@2/0 b@2/0 c@3/0", 0);
	CU_ASSERT_EQUAL(mvcc_pin_get(fx->db, "a", &got), 0);
	CU_ASSERT_EQUAL(got.time_ns, 5000);
	CU_ASSERT_EQUAL(got.made_ns, 9000);
	CU_ASSERT_EQUAL(mvcc_pin_rename(fx->db, "a", "stop"), 0);
	CU_ASSERT_EQUAL(mvcc_pin_rename(fx->db, "b", "z"), 0);
	assert_pins(fx, "c@3/0 stop@2/0", 7);
	mvcc_stats(fx->db, &stats);
	CU_ASSERT_EQUAL(stats.pins, 3);
	fixture_reopen(fx);
	CU_ASSERT_EQUAL(mvcc_pin_rename(fx->db, "stop", "go"), 0);
	assert_pins(fx, "c@3/0 go@2/0 z@2/0", 0);
	CU_ASSERT_EQUAL(mvcc_pin_get(fx->db, "go", &got), 0);
	CU_ASSERT_EQUAL(got.time_ns, 5000);
	CU_ASSERT_EQUAL(got.made_ns, 9000);
	fixture_close(fx);
}

static void test_a_revision_of_two_names_stays_until_the_last_is_gone(void)
{
	struct fixture *fx = fixture_open();

	put(fx->db, "a", "1");
	pin(fx, "one", 2);
	put(fx->db, "a", "2");
	compact_all(fx, 3);
	pin(fx, "two", 2);
	unpin(fx, "one");
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	assert_value_at(fx->db, 2, "a", "1");
	CU_ASSERT_EQUAL(mvcc_pin_rename(fx->db, "two", "one"), 0);
	assert_value_at(fx->db, 2, "a", "1");
	unpin(fx, "one");
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	CU_ASSERT_EQUAL(view_err(fx->db, 2), MVCC_ECOMPACTED);
	CU_ASSERT_EQUAL(hist(fx), 0);
	fixture_close(fx);
}

static void test_a_view_of_a_revision_unpinned_goes_on(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_view *view;
	mvcc_blob_t blob;

	blob = put_blob(fx->db, "b", "bytes");
	put(fx->db, "a", "1");
	pin(fx, "p", 3);
	put(fx->db, "a", "2");
	del(fx->db, "b");
	compact_all(fx, 5);
	view = view_open(fx->db, 3);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0); /* a pin keeps it, not the view */
	unpin(fx, "p");
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), -EBUSY);
	put(fx->db, "a", "3");
	compact(fx, 6);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), -EBUSY);
	CU_ASSERT_EQUAL(view_err(fx->db, 3), MVCC_ECOMPACTED);
	assert_view_range(view, "", "", 0, "a=1 b=ref");
	assert_blob(fx, blob, "bytes");
	CU_ASSERT_EQUAL(hist(fx), 2);
	mvcc_view_close(view);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	CU_ASSERT_EQUAL(hist(fx), 0);
	assert_blob(fx, blob, NULL);
	assert_done(fx);
	fixture_close(fx);
}

static void test_a_pin_from_the_floor_up_comes_and_goes_for_nothing(void)
{
	struct fixture *fx = fixture_open();

	put(fx->db, "a", "1");
	put(fx->db, "a", "2");
	pin(fx, "p", 2);
	unpin(fx, "p");
	CU_ASSERT_EQUAL(fixture_rows_of(fx, "default", "unpinned/"), 0);
	assert_value_at(fx->db, 2, "a", "1");
	pin(fx, "p", 2);
	compact_all(fx, 3);
	assert_value_at(fx->db, 2, "a", "1");
	fixture_close(fx);
}

enum { RACE_REVS = 4096, RACE_PINS = 6 };

struct race {
	struct mvcc *db;
	_Atomic unsigned value[RACE_REVS]; /* of "n" at each revision; 0 where that is not known yet */
	atomic_bool stop;
	atomic_uint errors, pinned;
};

static void *race_writer(void *arg)
{
	struct race *r = arg;

	for (unsigned i = 1; !atomic_load(&r->stop) && i < RACE_REVS - 8; i++) {
		struct mvcc_txn *txn;
		mvcc_rev_t rev = 0;
		char text[16];

		snprintf(text, sizeof(text), "%u", i);
		if (mvcc_txn_begin(r->db, &txn) || mvcc_txn_put(txn, str("n"), str(text), NULL, 0) ||
		    mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, &rev)) {
			atomic_fetch_add(&r->errors, 1);
			break;
		}
		atomic_store(&r->value[rev], i);
	}
	return NULL;
}

static bool race_value_is(struct race *r, mvcc_rev_t rev)
{
	unsigned expected = atomic_load(&r->value[rev]);
	struct mvcc_item item = { 0 };
	struct mvcc_view *view;
	char text[16];
	bool good;

	if (mvcc_view_open(r->db, rev, &view))
		return false;
	snprintf(text, sizeof(text), "%u", expected);
	good = mvcc_get(view, str("n"), &item) == 0 && (!expected || slice_eq(item.value, str(text)));
	mvcc_item_release(&item);
	mvcc_view_close(view);
	return good;
}

static void *race_pinner(void *arg)
{
	struct race *r = arg;
	mvcc_rev_t revs[RACE_PINS] = { 0 };
	uint64_t state = 7;

	for (unsigned i = 0; !atomic_load(&r->stop); i++) {
		mvcc_rev_t floor = mvcc_floor(r->db), current = mvcc_current(r->db);
		mvcc_rev_t rev = floor + random_below(&state, current - floor + 1);
		unsigned slot = i % RACE_PINS;
		char name[16];

		snprintf(name, sizeof(name), "p%u", slot);
		if (revs[slot]) {
			atomic_fetch_add(&r->errors, !race_value_is(r, revs[slot]));
			atomic_fetch_add(&r->errors, mvcc_unpin(r->db, name) != 0);
			revs[slot] = 0;
		}
		if (rev > MVCC_REV_FIRST && mvcc_pin(r->db, name, rev) == 0) {
			revs[slot] = rev;
			atomic_fetch_add(&r->pinned, 1);
			atomic_fetch_add(&r->errors, !race_value_is(r, rev));
		}
	}
	for (unsigned slot = 0; slot < RACE_PINS; slot++)
		if (revs[slot])
			atomic_fetch_add(&r->errors, !race_value_is(r, revs[slot]));
	return NULL;
}

static void test_pins_may_be_set_while_compactions_run(void)
{
	struct fixture *fx = fixture_open();
	struct race *r = calloc(1, sizeof(*r));
	struct timespec pause = { .tv_nsec = 3000000 };
	pthread_t writer, pinner;
	struct mvcc_stats stats;

	r->db = fx->db;
	put(fx->db, "n", "0");
	CU_ASSERT_EQUAL(pthread_create(&writer, NULL, race_writer, r), 0);
	CU_ASSERT_EQUAL(pthread_create(&pinner, NULL, race_pinner, r), 0);
	for (int i = 0; i < 100; i++) {
		int err = mvcc_compact(fx->db, MVCC_REV_LATEST);

		CU_ASSERT(err == 0 || err == MVCC_ECOMPACTED);
		nanosleep(&pause, NULL);
	}
	atomic_store(&r->stop, true);
	pthread_join(writer, NULL);
	pthread_join(pinner, NULL);
	CU_ASSERT_EQUAL(atomic_load(&r->errors), 0);
	CU_ASSERT(atomic_load(&r->pinned) > 0);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	mvcc_stats(fx->db, &stats);
	CU_ASSERT(hist(fx) <= stats.pins + stats.current - stats.floor);
	free(r);
	fixture_close(fx);
}

/* ---- blobs --------------------------------------------------------------------------------- */

static void test_a_blob_goes_with_the_last_record_that_refers_to_it(void)
{
	struct fixture *fx = fixture_open();
	mvcc_blob_t blob = put_blob(fx->db, "a", "shared"); /* 2 */
	struct mvcc_stats stats;

	put_ref(fx->db, "b", blob); /* 3 */
	put_ref(fx->db, "b", blob);
	put(fx->db, "b", "none"); /* 5 */
	compact_all(fx, 5);
	assert_blob(fx, blob, "shared");
	CU_ASSERT_EQUAL(blob_counts(fx), 0); /* one reference is left */
	CU_ASSERT_EQUAL(ended(fx), 0);
	del(fx->db, "a"); /* 6 */
	put(fx->db, "x", "1");
	assert_blob(fx, blob, "shared");
	compact_all(fx, 6);
	assert_blob(fx, blob, NULL);
	CU_ASSERT_EQUAL(blobs(fx), 0);
	CU_ASSERT_EQUAL(blob_counts(fx), 0);
	CU_ASSERT_EQUAL(ended(fx), 0);
	mvcc_stats(fx->db, &stats);
	CU_ASSERT_EQUAL(stats.blobs_freed, 1);
	assert_done(fx);
	fixture_close(fx);
}

static void test_a_blob_ended_above_the_floor_stays(void)
{
	struct fixture *fx = fixture_open();
	mvcc_blob_t blob = put_blob(fx->db, "a", "bytes"); /* 2 */

	put(fx->db, "x", "1");
	del(fx->db, "a"); /* 4 */
	compact_all(fx, 3);
	assert_blob(fx, blob, "bytes");
	CU_ASSERT_EQUAL(ended(fx), 1);
	compact_all(fx, 4);
	assert_blob(fx, blob, NULL);
	fixture_close(fx);
}

static void test_one_record_may_refer_to_a_blob_many_times(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn = begin(fx->db);
	mvcc_blob_t one = stage(txn, "one"), two = stage(txn, "two");
	mvcc_blob_t list[] = { one, two, one, one };

	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("a"), str("v"), list, 4), 0);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("b"), str("v"), list, 2), 0);
	commit(txn);
	del(fx->db, "a");
	compact_all(fx, 3);
	assert_blob(fx, one, "one");
	assert_blob(fx, two, "two");
	CU_ASSERT_EQUAL(blob_counts(fx), 0);
	del(fx->db, "b");
	compact_all(fx, 4);
	CU_ASSERT_EQUAL(blobs(fx), 0);
	fixture_close(fx);
}

static void test_blobs_overwritten_in_the_buffer_go_too(void)
{
	struct fixture *fx = fixture_open();
	mvcc_blob_t first = put_blob(fx->db, "a", "0"), last = 0;
	struct mvcc_txn *txns[10];

	fixture_drain(fx);
	for (int i = 0; i < 10; i++) {
		txns[i] = begin(fx->db);
		last = stage(txns[i], "n");
		txn_ref(txns[i], "a", last);
	}
	fixture_sluice_shut(fx);
	for (int i = 0; i < 10; i++)
		commit(txns[i]);
	put_ref(fx->db, "b", last);
	put_ref(fx->db, "b", last);
	fixture_sluice_open(fx);
	compact_all(fx, MVCC_REV_LATEST);
	assert_blob(fx, first, NULL);
	assert_blob(fx, last, "n");
	CU_ASSERT_EQUAL(blobs(fx), 1);
	CU_ASSERT_EQUAL(blob_counts(fx), 1);
	del(fx->db, "a");
	del(fx->db, "b");
	compact_all(fx, MVCC_REV_LATEST);
	CU_ASSERT_EQUAL(blobs(fx), 0);
	CU_ASSERT_EQUAL(blob_counts(fx), 0);
	CU_ASSERT_EQUAL(ended(fx), 0);
	fixture_close(fx);
}

/* A transaction of a megabyte, in which some rows share a blob. */
static mvcc_rev_t put_big(struct fixture *fx, mvcc_blob_t old, mvcc_blob_t *out_own)
{
	struct mvcc_txn *txn = begin(fx->db);
	char key[16], value[1001];

	memset(value, 'v', 1000);
	value[1000] = '\0';
	*out_own = stage(txn, "own");
	for (unsigned i = 0; i < 1000; i++) {
		mvcc_blob_t list[] = { *out_own, old };

		snprintf(key, sizeof(key), "k%03u", i);
		CU_ASSERT_EQUAL(mvcc_txn_put(txn, str(key), str(value), list, i % 100 == 0 ? 2 : 0), 0);
	}
	return commit(txn);
}

static void test_blobs_of_a_big_transaction_are_counted_and_go(void)
{
	struct fixture *fx = fixture_open_small_ring();
	mvcc_blob_t old = put_blob(fx->db, "old", "old"), own, own_2;
	struct mvcc_txn *txn;
	char key[16];

	put_big(fx, old, &own);
	del(fx->db, "old");
	put_big(fx, old, &own_2);
	compact_all(fx, MVCC_REV_LATEST);
	assert_blob(fx, own, NULL);
	assert_blob(fx, own_2, "own");
	assert_blob(fx, old, "old");
	CU_ASSERT_EQUAL(blob_counts(fx), 2);
	CU_ASSERT_EQUAL(hist(fx), 0);
	txn = begin(fx->db);
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(key, sizeof(key), "k%03u", i);
		txn_del(txn, key);
	}
	commit(txn);
	compact_all(fx, MVCC_REV_LATEST);
	CU_ASSERT_EQUAL(blobs(fx), 0);
	CU_ASSERT_EQUAL(blob_counts(fx), 0);
	CU_ASSERT_EQUAL(ended(fx), 0);
	fixture_close(fx);
}

static void test_a_pin_keeps_blobs_until_it_goes(void)
{
	struct fixture *fx = fixture_open();
	mvcc_blob_t a = put_blob(fx->db, "a", "a"), b; /* 2 */
	struct mvcc_stats stats;

	b = put_blob(fx->db, "a", "b"); /* 3 */
	pin(fx, "two", 2);
	pin(fx, "three", 3);
	put_ref(fx->db, "b", b); /* 4 */
	pin(fx, "four", 4);
	del(fx->db, "a"); /* 5 */
	del(fx->db, "b");
	compact_all(fx, 6);
	CU_ASSERT_EQUAL(ended(fx), 3);
	CU_ASSERT_EQUAL(blobs(fx), 2);
	fixture_reopen(fx);
	unpin(fx, "four"); /* "a" of it was seen by three, too */
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	CU_ASSERT_EQUAL(ended(fx), 2);
	assert_blob(fx, b, "b");
	CU_ASSERT_EQUAL(blob_counts(fx), 0);
	unpin(fx, "two");
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	assert_blob(fx, a, NULL);
	assert_blob(fx, b, "b");
	unpin(fx, "three");
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	CU_ASSERT_EQUAL(blobs(fx), 0);
	CU_ASSERT_EQUAL(ended(fx), 0);
	mvcc_stats(fx->db, &stats);
	CU_ASSERT_EQUAL(stats.blobs_freed, 2);
	assert_done(fx);
	fixture_close(fx);
}

static void test_unpinning_not_finished_goes_on_after_a_restart(void)
{
	struct fixture *fx = fixture_new();
	mvcc_blob_t blob;

	fx->opt.manual_upkeep = true;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	blob = put_blob(fx->db, "a", "bytes");
	pin(fx, "p", 2);
	del(fx->db, "a");
	compact_all(fx, 3);
	assert_blob(fx, blob, "bytes");
	unpin(fx, "p");
	CU_ASSERT_EQUAL(fixture_rows_of(fx, "default", "unpinned/"), 1);
	fx->opt.manual_upkeep = false;
	fixture_reopen(fx);
	CU_ASSERT_EQUAL(view_err(fx->db, 2), MVCC_ECOMPACTED);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	assert_blob(fx, blob, NULL);
	CU_ASSERT_EQUAL(hist(fx), 0);
	assert_done(fx);
	fixture_close(fx);
}

static void test_a_blob_seen_by_a_transaction_waits_for_it(void)
{
	struct fixture *fx = fixture_open();
	mvcc_blob_t blob = put_blob(fx->db, "a", "bytes");
	struct mvcc_item item = { 0 };
	struct mvcc_txn *txn = begin(fx->db);

	CU_ASSERT_EQUAL(mvcc_txn_peek(txn, str("a"), &item), 0);
	del(fx->db, "a");
	compact(fx, MVCC_REV_LATEST);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), -EBUSY);
	txn_ref(txn, "b", item.blobs[0]);
	mvcc_item_release(&item);
	commit(txn);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	assert_blob(fx, blob, "bytes");
	CU_ASSERT_EQUAL(blob_counts(fx), 0);
	fixture_close(fx);
}

/* One that only history refers to, as an undo finds it: a view that sees it is held until the commit has returned. */
static void test_a_blob_of_history_can_be_referred_to_again(void)
{
	for (unsigned pinned = 0; pinned < 2; pinned++) {
		struct fixture *fx = fixture_open();
		mvcc_blob_t blob = put_blob(fx->db, "a", "bytes");
		mvcc_rev_t then = mvcc_current(fx->db);
		struct mvcc_view *view;
		struct mvcc_txn *txn;

		if (pinned)
			CU_ASSERT_EQUAL(mvcc_pin(fx->db, "then", then), 0);
		del(fx->db, "a");
		put(fx->db, "x", "1");
		CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, then, &view), 0);
		compact(fx, MVCC_REV_LATEST);
		if (pinned)
			CU_ASSERT_EQUAL(mvcc_unpin(fx->db, "then"), 0);
		mvcc_upkeep(fx->db);
		txn = begin(fx->db); /* long after the record had ended */
		txn_ref(txn, "b", blob);
		fixture_sluice_shut(fx); /* it is in the buffer alone when the view goes */
		commit(txn);
		mvcc_view_close(view);
		fixture_sluice_open(fx);
		CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
		assert_blob(fx, blob, "bytes");
		CU_ASSERT_EQUAL(blob_counts(fx), 0);
		fixture_verify(fx);
		del(fx->db, "b");
		compact(fx, MVCC_REV_LATEST);
		CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
		assert_blob(fx, blob, NULL);
		fixture_close(fx);
	}
}

static int fail_while_told(const void *arg, struct slice old, struct buf *out)
{
	bool *const *failing = arg;

	return **failing ? -EDOM : buf_put_slice(out, old);
}

/* What was spilled in between cannot be judged from memory, so the base of the transaction moves. */
static void test_also_when_its_base_has_moved(void)
{
	struct fixture *fx = fixture_open_small_ring();
	mvcc_blob_t blob = put_blob(fx->db, "a", "bytes"), own;
	bool failing = true, *told = &failing;
	struct mvcc_item item = { 0 };
	struct mvcc_txn *txn;
	mvcc_rev_t base;

	put(fx->db, "u", "1");
	txn = begin(fx->db);
	base = mvcc_txn_rev(txn);
	CU_ASSERT_EQUAL(mvcc_txn_peek(txn, str("a"), &item), 0);
	txn_ref(txn, "b", item.blobs[0]);
	mvcc_item_release(&item);
	CU_ASSERT_EQUAL(mvcc_txn_update(txn, str("u"), fail_while_told, &told, sizeof(told)), 0);
	del(fx->db, "a");
	put_big(fx, put_blob(fx->db, "c", "c"), &own);
	CU_ASSERT_EQUAL(mvcc_txn_commit(txn, NULL, MVCC_COMMIT_KEEP, NULL), -EDOM);
	CU_ASSERT_EQUAL(mvcc_txn_rev(txn), base); /* where it is set back to, as it lives on */
	compact(fx, MVCC_REV_LATEST);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), -EBUSY);
	failing = false;
	commit(txn);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	assert_blob(fx, blob, "bytes");
	fixture_close(fx);
}

static void test_ids_of_freed_blobs_do_no_harm_after_a_kill(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;
	mvcc_blob_t blob;

	txn = begin(fx->db);
	stage(txn, "never committed");
	blob = put_blob(fx->db, "a", "bytes");
	del(fx->db, "a");
	mvcc_txn_abort(txn);
	compact_all(fx, MVCC_REV_LATEST);
	assert_blob(fx, blob, NULL);
	fixture_reopen(fx);
	blob = put_blob(fx->db, "a", "anew");
	fixture_reopen(fx);
	assert_blob(fx, blob, "anew");
	CU_ASSERT_EQUAL(blobs(fx), 1);
	fixture_close(fx);
}

/* ---- space --------------------------------------------------------------------------------- */

static uint64_t disk_bytes(struct fixture *fx)
{
	struct mvcc_stats stats;

	mvcc_stats(fx->db, &stats);
	return stats.engine.bytes_disk;
}

static void fill_random(uint8_t *out, size_t len, uint64_t *state)
{
	for (size_t i = 0; i < len; i += 8) {
		uint64_t word = random_next(state);

		memcpy(out + i, &word, len - i < 8 ? len - i : 8);
	}
}

/* Overwrites `keys` keys with values of a KiB that do not compress, and one blob of 64 KiB a round. */
static void overwrite(struct fixture *fx, unsigned keys, unsigned rounds)
{
	static uint8_t bytes[64 * KIB];
	uint64_t state = 99;

	for (unsigned round = 0; round < rounds; round++) {
		struct mvcc_txn *txn = begin(fx->db);
		mvcc_blob_t blob = 0;
		char key[16];

		fill_random(bytes, sizeof(bytes), &state);
		CU_ASSERT_EQUAL(mvcc_txn_stage_blob(txn, slice_of(bytes, sizeof(bytes)), &blob), 0);
		CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("blob"), str(""), &blob, 1), 0);
		for (unsigned i = 0; i < keys; i++) {
			snprintf(key, sizeof(key), "key%u", i);
			fill_random(bytes, KIB, &state);
			CU_ASSERT_EQUAL(mvcc_txn_put(txn, str(key), slice_of(bytes, KIB), NULL, 0), 0);
		}
		commit(txn);
	}
}

static void test_the_disk_gets_its_space_back(void)
{
	struct fixture *fx = fixture_open();
	uint64_t before;

	fx->opt.compact_bytes_per_s = UINT64_MAX;
	fixture_reopen(fx);
	overwrite(fx, 200, 200);
	fixture_reopen(fx);
	before = disk_bytes(fx);
	CU_ASSERT(before > (uint64_t)40 << 20);
	compact_all(fx, MVCC_REV_LATEST);
	fixture_reopen(fx); /* logs whose rows are in tables by now go with the open */
	if (disk_bytes(fx) >= before / 10 * 3)
		fprintf(stderr, "%llu bytes of %llu are left\n", (unsigned long long)disk_bytes(fx),
			(unsigned long long)before);
	CU_ASSERT(disk_bytes(fx) < before / 10 * 3);
	CU_ASSERT_EQUAL(hist(fx), 0);
	CU_ASSERT_EQUAL(blobs(fx), 1);
	fixture_close(fx);
}

static uint64_t ms_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* At so low a rate the rewrite would take hours: whoever waited for it would show. */
static void test_nobody_waits_for_a_slow_compaction_nor_does_the_close(void)
{
	struct fixture *fx = fixture_new();
	struct mvcc_stats stats;
	uint64_t start;

	fx->opt.compact_bytes_per_s = 1000;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	overwrite(fx, 100, 100);
	compact(fx, MVCC_REV_LATEST);
	for (unsigned i = 0; i < 100; i++) {
		put(fx->db, "x", "1");
		assert_value_at(fx->db, MVCC_REV_LATEST, "x", "1");
	}
	pin(fx, "p", MVCC_REV_LATEST);
	compact(fx, MVCC_REV_LATEST);
	mvcc_stats(fx->db, &stats);
	CU_ASSERT(stats.compacted < stats.floor);
	start = ms_now();
	CU_ASSERT_EQUAL(mvcc_close(fx->db), 0);
	fx->db = NULL;
	CU_ASSERT(ms_now() - start < 3000);
	fx->opt.compact_bytes_per_s = UINT64_MAX;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	CU_ASSERT_EQUAL(hist(fx), 0);
	CU_ASSERT_EQUAL(blobs(fx), 1);
	assert_done(fx);
	fixture_close(fx);
}

/* ---- suites -------------------------------------------------------------------------------- */

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

#define TESTS_OF_BOTH                                                                            \
	UNIT_TEST(test_a_key_made_anew_at_the_floor_itself_lives),                               \
		UNIT_TEST(test_the_state_at_the_floor_stays),                                    \
		UNIT_TEST(test_a_floor_is_raised_to_what_exists_and_once),                       \
		UNIT_TEST(test_the_worked_example_in_one_go_and_step_by_step),                   \
		UNIT_TEST(test_the_life_of_a_key_begins_at_the_floor),                           \
		UNIT_TEST(test_a_floor_far_above_a_keys_last_change_keeps_it),                   \
		UNIT_TEST(test_the_revision_does_not_go_back_when_all_is_deleted_and_compacted), \
		UNIT_TEST(test_a_compaction_not_finished_goes_on_after_a_restart),               \
		UNIT_TEST(test_upkeep_does_in_the_calling_thread_what_is_due),                   \
		UNIT_TEST(test_an_open_view_keeps_what_it_sees_and_nothing_else),                \
		UNIT_TEST(test_what_a_view_held_back_goes_when_it_is_closed),                    \
		UNIT_TEST(test_an_open_log_reader_goes_on_while_its_rows_go),                    \
		UNIT_TEST(test_times_find_readable_revisions_only),                              \
		UNIT_TEST(test_a_pinned_revision_stays_as_it_was),                               \
		UNIT_TEST(test_names_of_pins_have_their_limits),                                 \
		UNIT_TEST(test_pins_are_listed_by_name_and_may_be_renamed),                      \
		UNIT_TEST(test_a_revision_of_two_names_stays_until_the_last_is_gone),            \
		UNIT_TEST(test_a_view_of_a_revision_unpinned_goes_on),                           \
		UNIT_TEST(test_a_pin_from_the_floor_up_comes_and_goes_for_nothing),              \
		UNIT_TEST(test_pins_may_be_set_while_compactions_run),                           \
		UNIT_TEST(test_a_blob_goes_with_the_last_record_that_refers_to_it),              \
		UNIT_TEST(test_a_blob_ended_above_the_floor_stays),                              \
		UNIT_TEST(test_one_record_may_refer_to_a_blob_many_times),                       \
		UNIT_TEST(test_blobs_overwritten_in_the_buffer_go_too),                          \
		UNIT_TEST(test_blobs_of_a_big_transaction_are_counted_and_go),                   \
		UNIT_TEST(test_a_pin_keeps_blobs_until_it_goes),                                 \
		UNIT_TEST(test_unpinning_not_finished_goes_on_after_a_restart),                  \
		UNIT_TEST(test_a_blob_seen_by_a_transaction_waits_for_it),                       \
		UNIT_TEST(test_a_blob_of_history_can_be_referred_to_again),                      \
		UNIT_TEST(test_also_when_its_base_has_moved),                                    \
		UNIT_TEST(test_ids_of_freed_blobs_do_no_harm_after_a_kill)

static CU_TestInfo memory_tests[] = { TESTS_OF_BOTH, CU_TEST_INFO_NULL };

static CU_TestInfo rocks_tests[] = {
	TESTS_OF_BOTH,
	UNIT_TEST(test_the_disk_gets_its_space_back),
	UNIT_TEST(test_nobody_waits_for_a_slow_compaction_nor_does_the_close),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = {
		UNIT_SUITE("keep on memory", on_memory, NULL, memory_tests),
		UNIT_SUITE("keep on rocksdb", on_rocks, NULL, rocks_tests),
		CU_SUITE_INFO_NULL,
	};

	return unit_main(argc, argv, suites);
}
