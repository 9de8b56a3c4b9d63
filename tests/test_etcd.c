/*
 * Properties that etcd's tests of its store hold it to, where no other suite here has just that scenario. Which
 * test of etcd is answered by which of ours stands in docs/etcd.md.
 */
#include "mvcc/keep.h"
#include "mvcc/mvcc.h"
#include "rocks_backend/rocks.h"
#include "tests/store_fixture.h"
#include "tests/unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

/* ---- one key, since a revision -------------------------------------------------------------- */

/* TestKeyIndexSince: each revision from R on that changed the key, once, though it was put more than once. */
static void test_since_a_revision_a_key_has_one_change_for_each(void)
{
	static const bool changes[] = { [2] = true, [4] = true, [5] = true, [7] = true, [9] = true };
	struct fixture *fx = fixture_open();
	const mvcc_rev_t newest = 9;

	for (mvcc_rev_t rev = 2; rev <= newest; rev++) {
		struct mvcc_txn *txn = begin(fx->db);

		txn_put(txn, "other", "x");
		if (changes[rev] && rev == 7)
			txn_del(txn, "k");
		for (int i = 0; i < 3 && changes[rev] && rev != 7; i++)
			txn_put(txn, "k", i == 2 ? "last" : "not the last");
		CU_ASSERT_EQUAL(commit(txn), rev);
	}
	for (mvcc_rev_t since = 1; since <= newest; since++) {
		const struct mvcc_entry *entry;
		struct mvcc_change change;
		struct mvcc_log *log;

		CU_ASSERT_EQUAL_FATAL(mvcc_log_open(fx->db, since, MVCC_REV_LATEST, &log), 0);
		CU_ASSERT_EQUAL(mvcc_log_filter(log, slice_of("k", 1), slice_of("k", 2)), 0);
		for (mvcc_rev_t rev = since; rev <= newest; rev++) {
			if (rev >= sizeof(changes) || !changes[rev])
				continue;
			CU_ASSERT_EQUAL_FATAL(mvcc_log_next(log, &entry), 1);
			CU_ASSERT_EQUAL(entry->rev, rev);
			CU_ASSERT_EQUAL_FATAL(mvcc_log_change(log, &change), 1);
			CU_ASSERT(slice_eq(change.key, str("k")));
			CU_ASSERT_EQUAL(change.deleted, rev == 7);
			CU_ASSERT_EQUAL(mvcc_log_change(log, &change), 0);
		}
		CU_ASSERT_EQUAL(mvcc_log_next(log, &entry), 0);
		mvcc_log_close(log);
	}
	fixture_close(fx);
}

/* ---- an open transaction ------------------------------------------------------------------- */

static void put_rows(struct mvcc_txn *txn, unsigned n)
{
	char key[16], value[1000];

	memset(value, 'v', sizeof(value));
	for (unsigned i = 0; i < n; i++) {
		snprintf(key, sizeof(key), "row%03u", i);
		CU_ASSERT_EQUAL(mvcc_txn_put(txn, str(key), slice_of(value, sizeof(value)), NULL, 0), 0);
	}
}

/*
 * TestKVTxnNonBlockRange, and TestKVTxnBlockWriteOperations turned round: whoever has written, much or little, and
 * not yet committed, is seen by nobody and in nobody's way; both commits are whole.
 */
static void open_transaction_blocks_nobody(unsigned rows)
{
	struct fixture *fx = fixture_open_small_ring();
	struct mvcc_txn *txn;
	struct mvcc_view *view;
	struct mvcc_rows all = { 0 };

	put(fx->db, "foo", "1");
	txn = begin(fx->db);
	put_rows(txn, rows);
	txn_put(txn, "foo", "mine");
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "foo=1");
	CU_ASSERT_EQUAL(put(fx->db, "bar", "2"), 3);
	CU_ASSERT_EQUAL(del(fx->db, "bar"), 4);
	CU_ASSERT_EQUAL(put(fx->db, "baz", "3"), 5);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, 3), 0);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "baz=3 foo=1");
	CU_ASSERT_EQUAL(commit(txn), 6);
	assert_range_at(fx->db, 5, "", "", 0, "baz=3 foo=1");
	assert_record_at(fx->db, MVCC_REV_LATEST, "foo", "mine", 2, 6, 2);
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, MVCC_REV_LATEST, &view), 0);
	CU_ASSERT_EQUAL(mvcc_range(view, str("row"), str("rox"), NULL, &all), 0);
	CU_ASSERT_EQUAL(all.n, rows);
	mvcc_rows_release(&all);
	mvcc_view_close(view);
	fixture_close(fx);
}

static void test_an_open_transaction_blocks_nobody(void)
{
	open_transaction_blocks_nobody(3);
}

static void test_an_open_transaction_that_is_staged_blocks_nobody(void)
{
	open_transaction_blocks_nobody(400);
}

/* ---- a restart ----------------------------------------------------------------------------- */

enum { REVS = 10, ROWS_TEXT = 256 };

/* What revision `rev` shows, or what opening it says. */
static void state_text(struct mvcc *db, mvcc_rev_t rev, char out[ROWS_TEXT])
{
	const struct mvcc_item *item;
	struct mvcc_cursor *c = NULL;
	struct mvcc_view *view;
	struct slice key;
	size_t len = 0;
	int err = mvcc_view_open(db, rev, &view);

	out[0] = '\0';
	if (err) {
		snprintf(out, ROWS_TEXT, "error %d", err);
		return;
	}
	CU_ASSERT_EQUAL_FATAL(mvcc_cursor_open(view, str(""), str(""), &c), 0);
	while (mvcc_cursor_next(c, &key, &item) == 1 && len < ROWS_TEXT)
		len += (size_t)snprintf(out + len, ROWS_TEXT - len, "%.*s=%.*s@%d.%d.%d ", (int)key.len,
					key.data, (int)item->value.len, item->value.data,
					(int)item->create_rev, (int)item->mod_rev, (int)item->version);
	CU_ASSERT(len < ROWS_TEXT);
	mvcc_cursor_close(c);
	mvcc_view_close(view);
}

static void three_puts(struct mvcc *db)
{
	put(db, "foo", "bar0");
	put(db, "foo1", "bar1");
	put(db, "foo", "bar2");
}

static void puts_and_deletes(struct mvcc *db)
{
	three_puts(db);
	del(db, "foo");
	put(db, "foo", "again");
	del(db, "foo1");
}

static void compacted_at_the_newest(struct mvcc *db)
{
	three_puts(db);
	CU_ASSERT_EQUAL(mvcc_compact(db, MVCC_REV_LATEST), 0);
}

static void compacted_at_a_tombstone(struct mvcc *db)
{
	three_puts(db);
	del(db, "foo");
	put(db, "x", "y");
	CU_ASSERT_EQUAL(mvcc_compact(db, 5), 0);
}

static void only_a_tombstone_is_left(struct mvcc *db)
{
	put(db, "foo", "bar");
	del(db, "foo");
	CU_ASSERT_EQUAL(mvcc_compact(db, MVCC_REV_LATEST), 0);
}

static void compacted_and_written_again(struct mvcc *db)
{
	puts_and_deletes(db);
	CU_ASSERT_EQUAL(mvcc_compact(db, 4), 0);
	CU_ASSERT_EQUAL(mvcc_compact_wait(db), 0);
	put(db, "foo1", "new");
	put(db, "foo1", "newer");
}

/* TestKVRestore: every revision shows what it did, or is refused as it was, and the life of keys is the same. */
static void test_a_restart_changes_no_revision_whatever_the_history(void)
{
	static void (*const histories[])(struct mvcc *) = {
		three_puts,
		puts_and_deletes,
		compacted_at_the_newest,
		compacted_at_a_tombstone,
		only_a_tombstone_is_left,
		compacted_and_written_again,
	};

	for (size_t i = 0; i < sizeof(histories) / sizeof(histories[0]); i++) {
		struct fixture *fx = fixture_open();
		char before[REVS][ROWS_TEXT], after[ROWS_TEXT];
		mvcc_rev_t current, floor;

		histories[i](fx->db);
		current = mvcc_current(fx->db);
		floor = mvcc_floor(fx->db);
		for (mvcc_rev_t rev = 0; rev < REVS; rev++)
			state_text(fx->db, rev, before[rev]);
		for (int opened = 0; opened < 2; opened++) {
			fixture_reopen(fx);
			CU_ASSERT_EQUAL(mvcc_current(fx->db), current);
			CU_ASSERT_EQUAL(mvcc_floor(fx->db), floor);
			for (mvcc_rev_t rev = 0; rev < REVS; rev++) {
				state_text(fx->db, rev, after);
				CU_ASSERT_STRING_EQUAL(before[rev], after);
			}
			fixture_verify(fx);
		}
		CU_ASSERT_EQUAL(put(fx->db, "foo", "on"), current + 1);
		fixture_close(fx);
	}
}

/* TestRestoreDelete: of random puts and deletes, the keys that live are those that lived. */
static void test_what_random_deletes_left_is_left_after_a_restart(void)
{
	struct fixture *fx = fixture_open_small_ring();
	bool lives[200] = { false };
	uint64_t seed = 20;
	char key[16];

	for (int i = 0; i < 1000; i++) {
		unsigned at = (unsigned)random_below(&seed, 200);

		snprintf(key, sizeof(key), "foo-%u", at);
		lives[at] = random_below(&seed, 2);
		if (lives[at])
			put(fx->db, key, "bar");
		else
			del(fx->db, key);
		if (i % 300 == 299)
			CU_ASSERT_EQUAL(mvcc_compact(fx->db, MVCC_REV_LATEST), 0);
		if (i % 250 == 249)
			fixture_reopen(fx);
	}
	fixture_reopen(fx);
	for (unsigned at = 0; at < 200; at++) {
		snprintf(key, sizeof(key), "foo-%u", at);
		assert_value_at(fx->db, MVCC_REV_LATEST, key, lives[at] ? "bar" : NULL);
	}
	fixture_close(fx);
}

/* ---- many at once -------------------------------------------------------------------------- */

enum { WRITERS = 100, READERS = 100, KEYS = 30, PUTS_MAX = 10 };

/* A transaction that was committed: which keys it gave the number of its revision's writer. */
struct finished {
	unsigned writer, n;
	unsigned keys[PUTS_MAX];
};

struct many {
	struct mvcc *db;
	struct finished by_rev[WRITERS + 2]; /* the first is revision 2 */
	_Atomic mvcc_rev_t newest;           /* some commit had returned this */
	atomic_uint wrong;
};

struct reader {
	struct many *many;
	pthread_t thread;
	unsigned id;
	mvcc_rev_t rev;
	int seen[KEYS]; /* the writer of each key, -1 for none */
};

static void sleep_a_little(uint64_t *seed)
{
	nanosleep(&(struct timespec){ .tv_nsec = (long)random_below(seed, 50) * 1000000 }, NULL);
}

static struct slice many_key(unsigned at, char out[8])
{
	snprintf(out, 8, "k%02u", at);
	return str(out);
}

static void *write_once(void *arg)
{
	struct reader *w = arg;
	struct finished done = { .writer = w->id };
	uint64_t seed = w->id + 1;
	struct mvcc_txn *txn;
	mvcc_rev_t rev = 0, newest;
	char key[8];
	int err;

	sleep_a_little(&seed);
	done.n = 1 + (unsigned)random_below(&seed, PUTS_MAX);
	err = mvcc_txn_begin(w->many->db, &txn);
	for (unsigned i = 0; i < done.n && !err; i++) {
		done.keys[i] = (unsigned)random_below(&seed, KEYS);
		err = mvcc_txn_put(txn, many_key(done.keys[i], key), slice_of(&w->id, sizeof(w->id)), NULL,
				   0);
	}
	if (!err)
		err = mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, &rev);
	if (err || rev < 2 || rev > WRITERS + 1) {
		atomic_fetch_add(&w->many->wrong, 1);
		return NULL;
	}
	w->many->by_rev[rev] = done; /* nobody else has this revision */
	newest = atomic_load(&w->many->newest);
	while (newest < rev && !atomic_compare_exchange_weak(&w->many->newest, &newest, rev))
		;
	return NULL;
}

static void *read_once(void *arg)
{
	struct reader *r = arg;
	uint64_t seed = r->id + 1000;
	struct mvcc_view *view;
	mvcc_rev_t before;
	char key[8];

	sleep_a_little(&seed);
	before = atomic_load(&r->many->newest);
	if (mvcc_view_open(r->many->db, MVCC_REV_LATEST, &view)) {
		atomic_fetch_add(&r->many->wrong, 1);
		return NULL;
	}
	r->rev = mvcc_view_rev(view);
	for (unsigned i = 0; i < KEYS; i++) {
		struct mvcc_item item = { 0 };
		int err = mvcc_get(view, many_key(i, key), &item);

		r->seen[i] = -1;
		if (!err && item.value.len == sizeof(unsigned))
			memcpy(&r->seen[i], item.value.data, sizeof(unsigned));
		else if (err != -ENOENT)
			atomic_fetch_add(&r->many->wrong, 1);
		mvcc_item_release(&item);
	}
	mvcc_view_close(view);
	if (r->rev < before)
		atomic_fetch_add(&r->many->wrong, 1);
	return NULL;
}

/* The revision shows all transactions up to it, and none after. */
static bool saw_what_was_finished(const struct many *many, const struct reader *r)
{
	int expected[KEYS];

	for (unsigned i = 0; i < KEYS; i++)
		expected[i] = -1;
	for (mvcc_rev_t rev = 2; rev <= r->rev; rev++)
		for (unsigned i = 0; i < many->by_rev[rev].n; i++)
			expected[many->by_rev[rev].keys[i]] = (int)many->by_rev[rev].writer;
	return memcmp(expected, r->seen, sizeof(expected)) == 0;
}

/* TestConcurrentReadTxAndWrite */
static void test_100_readers_see_exactly_what_100_writers_had_finished(void)
{
	struct fixture *fx = fixture_open();
	struct many *many = calloc(1, sizeof(*many));
	struct reader *all = calloc(WRITERS + READERS, sizeof(*all));

	CU_ASSERT_FATAL(many && all);
	many->db = fx->db;
	for (unsigned i = 0; i < WRITERS + READERS; i++) {
		all[i].many = many;
		all[i].id = i;
		if (pthread_create(&all[i].thread, NULL, i < WRITERS ? write_once : read_once, &all[i]))
			abort();
	}
	for (unsigned i = 0; i < WRITERS + READERS; i++)
		pthread_join(all[i].thread, NULL);
	CU_ASSERT_EQUAL(atomic_load(&many->wrong), 0);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), WRITERS + 1);
	for (unsigned i = WRITERS; i < WRITERS + READERS; i++)
		CU_ASSERT(saw_what_was_finished(many, &all[i]));
	free(all);
	free(many);
	fixture_close(fx);
}

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
	UNIT_TEST(test_since_a_revision_a_key_has_one_change_for_each),
	UNIT_TEST(test_an_open_transaction_blocks_nobody),
	UNIT_TEST(test_an_open_transaction_that_is_staged_blocks_nobody),
	UNIT_TEST(test_a_restart_changes_no_revision_whatever_the_history),
	UNIT_TEST(test_what_random_deletes_left_is_left_after_a_restart),
	UNIT_TEST(test_100_readers_see_exactly_what_100_writers_had_finished),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = {
		UNIT_SUITE("etcd's properties on memory", on_memory, NULL, tests),
		UNIT_SUITE("etcd's properties on rocksdb", on_rocks, NULL, tests),
		CU_SUITE_INFO_NULL,
	};

	return unit_main(argc, argv, suites);
}
