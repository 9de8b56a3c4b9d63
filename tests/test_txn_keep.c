/*
 * A commit that failed and left its transaction alive (MVCC_COMMIT_KEEP): committed again, the transaction is what
 * it would have been at once, wherever the first one came to its end. Verify looks at all that is counted.
 */
#include "tests/store_fixture.h"

#include "mvcc/mvcc_int.h"
#include "rocks_backend/rocks.h"
#include "tests/engines/fault_engine.h"
#include "tests/engines/mem_engine.h"
#include "tests/unit.h"

#include <errno.h>

#define SPILL_TINY 300

/* ---- one line each ------------------------------------------------------------------------- */

static mvcc_blob_t put_blob(struct mvcc_txn *txn, const char *key, mvcc_blob_t blob)
{
	if (!blob)
		CU_ASSERT_EQUAL(mvcc_txn_stage_blob(txn, str("some bytes"), &blob), 0);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str(key), str("blob"), &blob, 1), 0);
	return blob;
}

static int append(const void *arg, struct slice old, struct buf *out)
{
	int err = buf_put_slice(out, old);

	return err ? err : buf_put(out, arg, 1);
}

static void txn_update(struct mvcc_txn *txn, const char *key, char c)
{
	CU_ASSERT_EQUAL(mvcc_txn_update(txn, str(key), append, &c, 1), 0);
}

/* A new value for a row of the run, one for none, a key deleted, and blobs with one reference and with two. */
static struct mvcc_txn *big_transaction(struct mvcc *db)
{
	struct mvcc_txn *txn = begin(db);
	mvcc_blob_t shared;
	char key[16];

	db->spill_bytes = SPILL_TINY;
	shared = put_blob(txn, "a", 0);
	for (unsigned i = 0; i < 8; i++) {
		snprintf(key, sizeof(key), "row%u", i);
		txn_put(txn, key, "a value that takes some room, so that a few of them are too much");
	}
	db->spill_bytes = SPILL_BYTES_MAX; /* what follows waits for the commit */
	put_blob(txn, "b", shared);
	put_blob(txn, "c", 0);
	txn_put(txn, "row3", "new");
	txn_del(txn, "row4");
	txn_del(txn, "old");
	txn_update(txn, "count", '+');
	txn_update(txn, "row5", '!');
	return txn;
}

static void assert_big_transaction(struct fixture *fx, mvcc_rev_t rev)
{
	assert_changes(
		fx->db, rev,
		"+a<0 +b<0 +c<0 +count<3 -old<2 +row0<0 +row1<0 +row2<0 +row3<0 +row5<0 +row6<0 +row7<0");
	assert_value_at(fx->db, rev, "row3", "new");
	assert_value_at(fx->db, rev, "count", "0+");
	fixture_drain(fx);
	fixture_verify(fx);
	CU_ASSERT_EQUAL(fixture_rows_of(fx, "stage", ""), 0);
	CU_ASSERT_EQUAL(fixture_rows_of(fx, "default", "blobref/"), 1); /* the shared one's */
}

/* ---- the tests ----------------------------------------------------------------------------- */

static void test_a_full_disk_at_commit_and_then_room(void)
{
	struct fixture *fx = fixture_open();
	uint64_t reserve = fx->db->reserve_bytes;
	struct mvcc_txn *txn;
	mvcc_rev_t rev = 0;

	put(fx->db, "old", "0");
	put(fx->db, "count", "0");
	txn = big_transaction(fx->db);
	for (unsigned i = 0; i < 3; i++) {
		fx->db->reserve_bytes = UINT64_MAX;
		CU_ASSERT_EQUAL(mvcc_txn_commit(txn, NULL, MVCC_COMMIT_KEEP, &rev), -ENOSPC);
		fx->db->reserve_bytes = reserve;
		assert_txn_peek(txn, "row3", "new");
		assert_txn_peek(txn, "row6",
				"a value that takes some room, so that a few of them are too much");
	}
	CU_ASSERT_EQUAL(mvcc_txn_commit(txn, NULL, MVCC_COMMIT_KEEP, &rev), 0);
	CU_ASSERT_EQUAL(rev, 4);
	assert_big_transaction(fx, rev);
	fixture_close(fx);
}

/* Nothing of the transaction is a change in the end, though a commit that failed had put some of it in the run. */
static void test_what_is_taken_back_after_a_failed_commit_counts_no_more(void)
{
	struct fixture *fx = fixture_open();
	uint64_t reserve = fx->db->reserve_bytes;
	struct mvcc_txn *txn = begin(fx->db);
	mvcc_rev_t rev = 0;

	fx->db->spill_bytes = 1;
	txn_put(txn, "a", "1");
	fx->db->spill_bytes = SPILL_BYTES_MAX;
	txn_put(txn, "b", "1");
	fx->db->reserve_bytes = UINT64_MAX;
	CU_ASSERT_EQUAL(mvcc_txn_commit(txn, NULL, MVCC_COMMIT_KEEP, &rev), -ENOSPC);
	fx->db->reserve_bytes = reserve;
	txn_del(txn, "a");
	txn_del(txn, "b");
	CU_ASSERT_EQUAL(mvcc_txn_commit(txn, NULL, MVCC_COMMIT_KEEP, &rev), 0);
	CU_ASSERT_EQUAL(rev, 1);
	CU_ASSERT_EQUAL(fixture_rows_of(fx, "stage", ""), 0);
	fixture_verify(fx);
	fixture_close(fx);
}

struct judge {
	unsigned refusals;
};

/* Refuses as often as it is told to. */
static int refuse_first(const void *arg, struct slice old, struct buf *out)
{
	struct judge *judge;

	memcpy(&judge, arg, sizeof(judge));
	if (judge->refusals > 0) {
		judge->refusals--;
		return -EPERM;
	}
	return append("x", old, out);
}

static void test_an_update_that_refuses_leaves_the_others_as_they_were(void)
{
	struct fixture *fx = fixture_open();
	struct judge judge = { 2 }, *arg = &judge;
	struct mvcc_txn *txn;
	mvcc_rev_t rev = 0;

	put(fx->db, "a", "0");
	put(fx->db, "b", "0");
	put(fx->db, "z", "0");
	txn = begin(fx->db);
	txn_put(txn, "a", "1");
	txn_update(txn, "b", '+');
	CU_ASSERT_EQUAL(mvcc_txn_update(txn, str("z"), refuse_first, &arg, sizeof(arg)), 0);
	for (unsigned i = 0; i < 2; i++)
		CU_ASSERT_EQUAL(mvcc_txn_commit(txn, NULL, MVCC_COMMIT_KEEP, &rev), -EPERM);
	CU_ASSERT_EQUAL(mvcc_txn_commit(txn, NULL, MVCC_COMMIT_KEEP, &rev), 0);
	CU_ASSERT_EQUAL(rev, 5);
	assert_changes(fx->db, 5, "+a<2 +b<3 +z<4");
	assert_range_at(fx->db, 5, "", "", 0, "a=1 b=0+ z=0x");
	fixture_drain(fx);
	fixture_verify(fx);
	fixture_close(fx);
}

/*
 * A commit in which call number `at` fails, or with 0 only the last step of its spill; then it is made again. How many
 * calls the first one made: no other thread made any, as it did not come as far as the ring.
 */
static uint64_t call_fails_once(unsigned kinds, uint64_t at)
{
	struct mem_engine *mem = mem_engine_new();
	struct fault_engine *fault = fault_engine_new(mem_engine_provider(mem));
	struct engine_provider provider = fault_engine_provider(fault);
	struct fixture *fx;
	struct mvcc_txn *txn;
	mvcc_rev_t rev = 0;
	uint64_t calls, reserve;

	fixture_use(&provider);
	fx = fixture_open();
	fixture_use(NULL);
	put(fx->db, "old", "0");
	put(fx->db, "count", "0");
	fixture_drain(fx);
	txn = big_transaction(fx->db);
	reserve = fx->db->reserve_bytes;
	fx->db->reserve_bytes = at ? reserve : UINT64_MAX;
	fault_engine_arm(fault, (struct fault_plan){ kinds, at, -EIO, FAULT_ONCE, false });
	CU_ASSERT_NOT_EQUAL(mvcc_txn_commit(txn, NULL, MVCC_COMMIT_KEEP, &rev), 0);
	calls = fault_engine_calls(fault);
	fault_engine_disarm(fault);
	fx->db->reserve_bytes = reserve;
	CU_ASSERT_EQUAL(mvcc_txn_commit(txn, NULL, MVCC_COMMIT_KEEP, &rev), 0);
	assert_big_transaction(fx, rev);
	fixture_close(fx);
	fault_engine_free(fault);
	mem_engine_free(mem);
	return calls;
}

static void test_any_call_may_fail_once(void)
{
	const unsigned kinds[] = { FAULT_GET, FAULT_BATCH };

	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		uint64_t calls = call_fails_once(kinds[i], 0);

		CU_ASSERT(calls > 0);
		for (uint64_t at = 1; at <= calls; at++)
			call_fails_once(kinds[i], at);
	}
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
	UNIT_TEST(test_a_full_disk_at_commit_and_then_room),
	UNIT_TEST(test_what_is_taken_back_after_a_failed_commit_counts_no_more),
	UNIT_TEST(test_an_update_that_refuses_leaves_the_others_as_they_were),
	CU_TEST_INFO_NULL,
};

static CU_TestInfo failures[] = {
	UNIT_TEST(test_any_call_may_fail_once),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = {
		UNIT_SUITE("commits again on memory", on_memory, NULL, tests),
		UNIT_SUITE("commits again on rocksdb", on_rocks, NULL, tests),
		UNIT_SUITE("commits again and failures", on_memory, NULL, failures),
		CU_SUITE_INFO_NULL,
	};

	return unit_main(argc, argv, suites);
}
