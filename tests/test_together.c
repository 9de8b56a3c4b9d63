/*
 * What one part of the store promises while another is at work: each has its own suite, and here they meet.
 */
#include "mvcc/check.h"
#include "mvcc/keep.h"
#include "mvcc/lease.h"
#include "mvcc/mvcc.h"
#include "mvcc/watch.h"
#include "rocks_backend/rocks.h"
#include "tests/store_fixture.h"
#include "tests/unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#define REVISIONS 200
#define KEYS 20

static bool hash_eq(const struct mvcc_hash *a, const struct mvcc_hash *b)
{
	return a->hi == b->hi && a->lo == b->lo && a->keys == b->keys;
}

static int hash_at(struct mvcc *db, mvcc_rev_t rev, struct mvcc_hash *out)
{
	struct mvcc_view *view;
	int err = mvcc_view_open(db, rev, &view);

	if (err)
		return err;
	err = mvcc_hash(view, out);
	mvcc_view_close(view);
	return err;
}

/* Puts, and a delete now and then; the hash of each revision, in hashes[rev]. */
static void make_history(struct fixture *fx, struct mvcc_hash hashes[REVISIONS + 1])
{
	for (mvcc_rev_t rev = MVCC_REV_FIRST; rev <= REVISIONS; rev++) {
		char key[16], value[16];

		CU_ASSERT_EQUAL_FATAL(hash_at(fx->db, MVCC_REV_LATEST, &hashes[rev]), 0);
		snprintf(key, sizeof(key), "k%02d", (int)(rev * 7 % KEYS));
		snprintf(value, sizeof(value), "v%d", (int)rev);
		if (rev % 60 == 59)
			del(fx->db, key);
		else
			put(fx->db, key, value);
	}
}

static void assert_hashes(struct fixture *fx, const struct mvcc_hash *hashes, mvcc_rev_t from, mvcc_rev_t to)
{
	for (mvcc_rev_t rev = from; rev <= to; rev++) {
		struct mvcc_hash hash = { 0 };

		CU_ASSERT_EQUAL(hash_at(fx->db, rev, &hash), 0);
		CU_ASSERT(hash_eq(&hash, &hashes[rev]));
	}
}

static void test_no_compaction_moves_the_hash_of_a_revision_that_stays(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_hash hashes[REVISIONS + 1], gone;
	const mvcc_rev_t pinned = REVISIONS / 4;

	make_history(fx, hashes);
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "p", pinned), 0);
	for (mvcc_rev_t floor = REVISIONS / 2; floor < REVISIONS; floor += REVISIONS / 10) {
		CU_ASSERT_EQUAL(mvcc_compact(fx->db, floor), 0);
		assert_hashes(fx, hashes, floor, REVISIONS); /* at once */
		CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
		assert_hashes(fx, hashes, floor, REVISIONS);
		assert_hashes(fx, hashes, pinned, pinned);
		CU_ASSERT_EQUAL(hash_at(fx->db, floor - 1, &gone), MVCC_ECOMPACTED);
	}
	fixture_reopen(fx);
	assert_hashes(fx, hashes, mvcc_floor(fx->db), REVISIONS);
	assert_hashes(fx, hashes, pinned, pinned);
	fixture_close(fx);
}

struct hasher {
	struct mvcc *db;
	const struct mvcc_hash *hashes;
	atomic_uint wrong, right;
	atomic_bool stop;
};

/* Hashes revisions that are there, while the floor comes after them. */
static void *hash_meanwhile(void *arg)
{
	struct hasher *h = arg;
	uint64_t seed = 1;

	while (!atomic_load(&h->stop)) {
		mvcc_rev_t rev = MVCC_REV_FIRST + random_below(&seed, REVISIONS);
		struct mvcc_hash hash;
		int err = hash_at(h->db, rev, &hash);

		if (err == MVCC_ECOMPACTED)
			continue;
		if (err || !hash_eq(&hash, &h->hashes[rev]))
			atomic_fetch_add(&h->wrong, 1);
		else
			atomic_fetch_add(&h->right, 1);
	}
	return NULL;
}

static void test_hashes_are_right_while_compaction_goes_on(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_hash hashes[REVISIONS + 1];
	struct hasher h = { .hashes = hashes };
	pthread_t thread;

	make_history(fx, hashes);
	h.db = fx->db;
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, hash_meanwhile, &h), 0);
	for (mvcc_rev_t floor = 2; floor <= REVISIONS; floor += 3) {
		int err;

		CU_ASSERT_EQUAL(mvcc_compact(fx->db, floor), 0);
		err = mvcc_compact_wait(fx->db);
		CU_ASSERT(err == 0 || err == -EBUSY); /* the hasher's view */
	}
	while (!atomic_load(&h.right) && !atomic_load(&h.wrong))
		usleep(1000);
	atomic_store(&h.stop, true);
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(atomic_load(&h.wrong), 0);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0); /* nobody looks any more */
	fixture_close(fx);
}

/* A key deleted and made anew in one revision, and that is the floor: hash, watch and log still have it. */
static void test_what_was_made_anew_at_the_floor_is_told_by_watch_and_hash(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_watch_options opt = { .flags = MVCC_WATCH_PREV };
	const struct mvcc_entry *entry;
	struct mvcc_hash before, after;
	struct mvcc_watch *watch;
	struct mvcc_event event;
	struct mvcc_txn *txn;
	mvcc_rev_t rev;

	put(fx->db, "k", "old");
	put(fx->db, "other", "1");
	txn = begin(fx->db);
	txn_del(txn, "k");
	txn_put(txn, "k", "new");
	rev = commit(txn);
	CU_ASSERT_EQUAL(hash_at(fx->db, rev, &before), 0);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, rev), 0);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	CU_ASSERT_EQUAL(hash_at(fx->db, rev, &after), 0);
	CU_ASSERT(hash_eq(&before, &after));
	assert_record_at(fx->db, rev, "k", "new", rev, rev, 1);

	opt.from = rev;
	CU_ASSERT_EQUAL_FATAL(mvcc_watch_open(fx->db, &opt, &watch), 0);
	CU_ASSERT_EQUAL_FATAL(mvcc_watch_next(watch, 10000, &entry), 1);
	CU_ASSERT_EQUAL(entry->rev, rev);
	CU_ASSERT_EQUAL_FATAL(mvcc_watch_event(watch, &event), 1);
	CU_ASSERT(slice_eq(event.key, str("k")) && !event.deleted);
	CU_ASSERT(event.item && slice_eq(event.item->value, str("new")));
	CU_ASSERT_PTR_NULL(event.prev); /* gone with the compaction */
	CU_ASSERT_EQUAL(mvcc_watch_event(watch, &event), 0);
	mvcc_watch_close(watch);
	fixture_close(fx);
}

/* A copy keeps what the store keeps: the floor, the pins, and every hash. */
static void test_a_checkpoint_has_the_floor_and_the_pins(void)
{
	struct fixture *fx = fixture_open();
	const mvcc_rev_t pinned = REVISIONS / 4, floor = REVISIONS / 2;
	struct mvcc_hash hashes[REVISIONS + 1];
	char dir[600];
	mvcc_rev_t rev;

	make_history(fx, hashes);
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "p", pinned), 0);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, floor), 0);
	snprintf(dir, sizeof(dir), "%s/copy", fx->tmp);
	CU_ASSERT_EQUAL(mvcc_checkpoint(fx->db, dir, &rev), 0);
	CU_ASSERT_EQUAL(rev, mvcc_current(fx->db));
	CU_ASSERT_EQUAL(mvcc_close(fx->db), 0);
	fx->db = NULL;
	fx->opt.dir = dir;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	CU_ASSERT_EQUAL(mvcc_floor(fx->db), floor);
	assert_hashes(fx, hashes, floor, REVISIONS);
	assert_hashes(fx, hashes, pinned, pinned);
	fixture_close(fx);
}

static void put_much(struct mvcc_txn *txn, const char *prefix)
{
	char key[32], value[1000];

	memset(value, 'v', sizeof(value));
	for (int i = 0; i < 100; i++) {
		snprintf(key, sizeof(key), "%s%d", prefix, i);
		CU_ASSERT_EQUAL(mvcc_txn_put(txn, str(key), slice_of(value, sizeof(value)), NULL, 0), 0);
	}
}

/* Rows replaced and added since a savepoint are both kept in the stage, as what they were. */
static void test_a_savepoint_in_the_stage_is_no_problem(void)
{
	struct fixture *fx = fixture_open_small_ring();
	struct mvcc_txn *txn = begin(fx->db);
	unsigned savepoint;

	put_much(txn, "a");
	CU_ASSERT_EQUAL(mvcc_txn_savepoint(txn, &savepoint), 0);
	put_much(txn, "a");
	put_much(txn, "b");
	CU_ASSERT(fixture_rows_of(fx, "stage", "") > 200);
	fixture_verify(fx);
	CU_ASSERT_EQUAL(mvcc_txn_rollback(txn, savepoint), 0);
	fixture_verify(fx);
	commit(txn);
	fixture_verify(fx);
	fixture_close(fx);
}

static int64_t clock_of(void *arg)
{
	return *(int64_t *)arg;
}

/* Without a thread of its own: the keys of a lease that is due are deleted, and what is below the floor goes. */
static void test_upkeep_ends_leases_and_compacts(void)
{
	struct fixture *fx = fixture_new();
	int64_t now_ns = (int64_t)1700000000 * 1000000000;
	struct mvcc_put with_lease = { .key = str("k"), .value = str("2") };
	struct mvcc_stats stats;
	struct mvcc_txn *txn;

	fx->opt.manual_upkeep = true;
	fx->opt.clock = clock_of;
	fx->opt.clock_arg = &now_ns;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	put(fx->db, "k", "1");
	CU_ASSERT_EQUAL(mvcc_lease_grant(fx->db, 7, 1000, &with_lease.lease), 0);
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_put_with(txn, &with_lease), 0);
	CU_ASSERT_EQUAL(commit(txn), 3);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, 3), 0);
	CU_ASSERT_EQUAL(mvcc_upkeep(fx->db), 0);
	assert_value_at(fx->db, MVCC_REV_LATEST, "k", "2");
	now_ns += (int64_t)2 * 1000000000;
	CU_ASSERT_EQUAL(mvcc_upkeep(fx->db), 0);
	assert_absent_at(fx->db, MVCC_REV_LATEST, "k");
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 4);
	mvcc_stats(fx->db, &stats);
	CU_ASSERT_EQUAL(stats.leases, 0);
	CU_ASSERT_EQUAL(stats.compacted, 3);
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
	UNIT_TEST(test_no_compaction_moves_the_hash_of_a_revision_that_stays),
	UNIT_TEST(test_hashes_are_right_while_compaction_goes_on),
	UNIT_TEST(test_what_was_made_anew_at_the_floor_is_told_by_watch_and_hash),
	UNIT_TEST(test_a_checkpoint_has_the_floor_and_the_pins),
	UNIT_TEST(test_a_savepoint_in_the_stage_is_no_problem),
	UNIT_TEST(test_upkeep_ends_leases_and_compacts),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = {
		UNIT_SUITE("together on memory", on_memory, NULL, tests),
		UNIT_SUITE("together on rocksdb", on_rocks, NULL, tests),
		CU_SUITE_INFO_NULL,
	};

	return unit_main(argc, argv, suites);
}
