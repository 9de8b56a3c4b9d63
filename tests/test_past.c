/*
 * The past, beside what views show: the keys of a range that there ever were, the life of a key backwards, and
 * records put again with the blobs of old ones. The model (test_store_model.c) compares the first two with a plain list;
 * here is what they cost, and what compaction, faults and pins make of all three.
 */
#include "tests/store_fixture.h"

#include "mvcc/keep.h"
#include "mvcc/mvcc_int.h"
#include "rocks_backend/rocks.h"
#include "tests/engines/fault_engine.h"
#include "tests/engines/mem_engine.h"
#include "tests/unit.h"

#include <errno.h>

/* ---- one line each ------------------------------------------------------------------------- */

/* The keys that there ever were, as "a b c". */
static void assert_ever(struct mvcc *db, const char *start, const char *end, const char *expected)
{
	struct mvcc_keys *keys = NULL;
	char text[1024] = "";
	struct slice key;
	size_t at = 0;
	int got;

	CU_ASSERT_EQUAL_FATAL(mvcc_keys_ever_open(db, str(start), str(end), &keys), 0);
	while ((got = mvcc_keys_next(keys, &key)) == 1)
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%.*s", at ? " " : "", (int)key.len,
				       (const char *)key.data);
	CU_ASSERT_EQUAL(got, 0);
	mvcc_keys_close(keys);
	CU_ASSERT_STRING_EQUAL(text, expected);
}

static int note_life(void *arg, const struct mvcc_item *item, mvcc_rev_t end_rev)
{
	char *text = arg;
	size_t at = strlen(text);

	snprintf(text + at, 1024 - at, "%s%d-%d=%.*s", at ? " " : "", (int)item->mod_rev, (int)end_rev,
		 (int)item->value.len, (const char *)item->value.data);
	return 0;
}

static void assert_life_back(struct mvcc *db, const char *key, mvcc_rev_t before, const char *expected)
{
	char text[1024] = "";

	CU_ASSERT_EQUAL(mvcc_history_back(db, str(key), before, note_life, text), 0);
	CU_ASSERT_STRING_EQUAL(text, expected);
}

/* ---- keys there ever were ------------------------------------------------------------------ */

static void test_deleted_keys_are_among_those_there_ever_were(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;

	assert_ever(fx->db, "", "", "");
	put(fx->db, "alive", "1");
	put(fx->db, "gone", "1");
	put(fx->db, "gone", "2");
	del(fx->db, "gone");
	put(fx->db, "other", "1");
	for (int i = 0; i < 3; i++) {
		assert_ever(fx->db, "", "", "alive gone other");
		assert_ever(fx->db, "b", "o", "gone");
		assert_ever(fx->db, "o", "o", "");
		if (i == 0)
			fixture_drain(fx);
		else
			fixture_reopen(fx);
	}
	txn = begin(fx->db); /* a run that waits, with a put and tombstones */
	fx->db->spill_bytes = 1;
	txn_put(txn, "in a run", "1");
	txn_del(txn, "alive");
	txn_del(txn, "never there");
	commit(txn);
	fx->db->spill_bytes = SPILL_BYTES_MAX;
	assert_ever(fx->db, "", "", "alive gone in a run other");
	fixture_drain(fx);
	assert_ever(fx->db, "", "", "alive gone in a run other");
	fixture_close(fx);
}

static void test_what_no_revision_shows_any_more_is_not_among_them(void)
{
	struct fixture *fx = fixture_open();
	mvcc_rev_t pinned, floor;

	put(fx->db, "a", "1");
	del(fx->db, "a");
	put(fx->db, "b", "1");
	pinned = put(fx->db, "c", "1");
	del(fx->db, "b");
	del(fx->db, "c");
	put(fx->db, "d", "1");
	floor = put(fx->db, "e", "1");
	del(fx->db, "d");
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "p", pinned), 0);
	assert_ever(fx->db, "", "", "a b c d e");
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, floor), 0);
	assert_ever(fx->db, "", "", "b c d e");
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	assert_ever(fx->db, "", "", "b c d e");
	CU_ASSERT_EQUAL(mvcc_unpin(fx->db, "p"), 0);
	assert_ever(fx->db, "", "", "d e");
	fixture_close(fx);
}

/* ---- blobs of old records ------------------------------------------------------------------- */

static mvcc_rev_t put_blob(struct mvcc *db, const char *key, const char *bytes, mvcc_blob_t *blob)
{
	struct mvcc_txn *txn = begin(db);

	CU_ASSERT_EQUAL(mvcc_txn_stage_blob(txn, str(bytes), blob), 0);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str(key), str("with a blob"), blob, 1), 0);
	return commit(txn);
}

/* Puts `key` as `view` sees it, without copying data. 0, or what went wrong. */
static int put_back(struct mvcc_view *view, struct mvcc *db, const char *key)
{
	struct mvcc_item item = { 0 };
	struct mvcc_txn *txn;
	int err = mvcc_txn_begin(db, &txn);

	if (err)
		return err;
	err = mvcc_get(view, str(key), &item);
	if (!err)
		err = mvcc_txn_put(txn, str(key), item.value, item.blobs, item.nblobs);
	mvcc_item_release(&item);
	if (err)
		mvcc_txn_abort(txn);
	else
		err = mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, NULL);
	return err;
}

static bool blob_is(struct mvcc *db, mvcc_blob_t blob, const char *bytes)
{
	char got[64];
	ssize_t n = mvcc_blob_read(db, blob, 0, got, sizeof(got));

	return n == (ssize_t)strlen(bytes) && memcmp(got, bytes, (size_t)n) == 0;
}

/* What only the past referred to is referred to again: the past may go, and the blob stays until that goes, too. */
static void assert_blob_is_kept_and_freed(struct fixture *fx, mvcc_blob_t blob)
{
	put(fx->db, "later", "1");
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, MVCC_REV_LATEST), 0);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	CU_ASSERT(blob_is(fx->db, blob, "bytes"));
	CU_ASSERT_EQUAL(fixture_rows_of(fx, "default", "blobref/"), 0);
	fixture_verify(fx);
	fixture_reopen(fx);
	CU_ASSERT(blob_is(fx->db, blob, "bytes"));
	del(fx->db, "k");
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, MVCC_REV_LATEST), 0);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	CU_ASSERT_EQUAL(fixture_rows_of(fx, "blob", ""), 0);
	fixture_verify(fx);
}

static void test_a_deleted_record_is_put_back_with_its_blobs(void)
{
	struct mvcc_view *view = NULL;
	mvcc_blob_t blob = 0;

	for (int spilled = 0; spilled < 2; spilled++) {
		struct fixture *fx = fixture_open();
		mvcc_rev_t rev = put_blob(fx->db, "k", "bytes", &blob);

		del(fx->db, "k");
		CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, rev, &view), 0);
		CU_ASSERT_EQUAL(mvcc_compact(fx->db, MVCC_REV_LATEST), 0);
		CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), -EBUSY);
		fx->db->spill_bytes = spilled ? 1 : SPILL_BYTES_MAX;
		CU_ASSERT_EQUAL(put_back(view, fx->db, "k"), 0);
		mvcc_view_close(view); /* the commit may still be in the ring alone */
		assert_blob_is_kept_and_freed(fx, blob);
		fixture_close(fx);
	}
}

static void test_so_is_one_that_only_a_pin_kept(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_view *view = NULL;
	mvcc_blob_t blob = 0;
	mvcc_rev_t rev = put_blob(fx->db, "k", "bytes", &blob);

	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "p", rev), 0);
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "later", put(fx->db, "other", "1")), 0);
	del(fx->db, "k");
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, MVCC_REV_LATEST), 0);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, rev, &view), 0);
	CU_ASSERT_EQUAL(mvcc_unpin(fx->db, "later"), 0);
	CU_ASSERT_EQUAL(mvcc_unpin(fx->db, "p"), 0);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), -EBUSY);
	CU_ASSERT_EQUAL(put_back(view, fx->db, "k"), 0);
	mvcc_view_close(view);
	assert_blob_is_kept_and_freed(fx, blob);
	fixture_close(fx);
}

/* ---- what it costs --------------------------------------------------------------------------- */

struct counted {
	struct mem_engine *mem;
	struct fault_engine *fault;
	struct engine_provider provider;
	struct fixture *fx;
};

/* A store whose engine's calls are counted. */
static void counted_open(struct counted *c)
{
	c->mem = mem_engine_new();
	c->fault = fault_engine_new(mem_engine_provider(c->mem));
	c->provider = fault_engine_provider(c->fault);
	fixture_use(&c->provider);
	c->fx = fixture_open();
	fixture_use(NULL);
}

static void counted_close(struct counted *c)
{
	fixture_close(c->fx);
	fault_engine_free(c->fault);
	mem_engine_free(c->mem);
}

/*
 * A record put back, with a compaction before and after, as the n-th call of the engine fails, or the process dies
 * there. Afterwards all is whole: the blob is there if a record refers to it, and not if none does.
 */
static bool put_back_with_fault(struct fault_plan plan)
{
	struct mvcc_view *view = NULL;
	struct counted c;
	mvcc_blob_t blob = 0;
	mvcc_rev_t rev;
	bool failed, acked;
	int err;

	counted_open(&c);
	rev = put_blob(c.fx->db, "k", "bytes", &blob);
	del(c.fx->db, "k");
	put(c.fx->db, "other", "1");
	fixture_drain(c.fx);
	fault_engine_arm(c.fault, plan);
	err = mvcc_view_open(c.fx->db, rev, &view);
	mvcc_compact(c.fx->db, MVCC_REV_LATEST);
	acked = !err && put_back(view, c.fx->db, "k") == 0;
	mvcc_view_close(view);
	mvcc_compact(c.fx->db, MVCC_REV_LATEST);
	mvcc_compact_wait(c.fx->db);
	failed = fault_engine_failed(c.fault) > 0;
	mvcc_close(c.fx->db);
	c.fx->db = NULL;
	fault_engine_disarm(c.fault);
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(c.fx), 0);
	if (acked)
		assert_value_at(c.fx->db, MVCC_REV_LATEST, "k", "with a blob");
	fixture_verify(c.fx);
	err = mvcc_compact(c.fx->db, MVCC_REV_LATEST);
	CU_ASSERT(err == 0 || err == MVCC_ECOMPACTED);
	CU_ASSERT_EQUAL(mvcc_compact_wait(c.fx->db), 0);
	CU_ASSERT_EQUAL(blob_is(c.fx->db, blob, "bytes"), acked);
	fixture_verify(c.fx);
	counted_close(&c);
	return failed;
}

static void test_putting_back_survives_any_failure(void)
{
	const struct fault_plan plans[] = {
		{ FAULT_WRITE | FAULT_SYNC, 0, -EIO, FAULT_ONCE, false },
		{ FAULT_WRITE | FAULT_SYNC, 0, -EIO, FAULT_ONCE, true },
		{ FAULT_ALL, 0, -EIO, FAULT_CRASH, false },
		{ FAULT_WRITE, 0, -EIO, FAULT_CRASH, true },
	};

	for (unsigned i = 0; i < sizeof(plans) / sizeof(plans[0]); i++) {
		struct fault_plan plan = plans[i];
		unsigned before = CU_get_number_of_failures();

		do
			plan.at++;
		while (put_back_with_fault(plan) && CU_get_number_of_failures() == before);
		CU_ASSERT(plan.at > 3);
	}
}

static int first_ten(void *arg, const struct mvcc_item *item, mvcc_rev_t end_rev)
{
	(void)item, (void)end_rev;
	return ++*(int *)arg == 10;
}

static void test_the_cost_is_by_the_keys_and_not_by_their_versions(void)
{
	struct counted c;
	int calls = 0;

	counted_open(&c);
	for (int i = 0; i < 1000; i++) {
		put(c.fx->db, "a", "1");
		put(c.fx->db, "b", "1");
	}
	del(c.fx->db, "a");
	fixture_drain(c.fx);
	fault_engine_arm(c.fault, (struct fault_plan){ .kinds = FAULT_MOVE });
	assert_ever(c.fx->db, "", "", "a b");
	CU_ASSERT(fault_engine_calls(c.fault) < 10);
	fault_engine_arm(c.fault, (struct fault_plan){ .kinds = FAULT_MOVE });
	CU_ASSERT_EQUAL(mvcc_history_back(c.fx->db, str("b"), 500, first_ten, &calls), 1);
	CU_ASSERT(fault_engine_calls(c.fault) < 15);
	fault_engine_disarm(c.fault);
	counted_close(&c);
}

static void test_any_call_may_fail(void)
{
	const unsigned kinds[] = { FAULT_GET, FAULT_ITER, FAULT_MOVE };
	struct mvcc_keys *keys;
	struct counted c;
	struct slice key;
	char text[1024];

	counted_open(&c);
	for (int i = 0; i < 3; i++)
		put(c.fx->db, "a", "1");
	del(c.fx->db, "a");
	put(c.fx->db, "b", "1");
	fixture_drain(c.fx);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t failed = 1;

		for (uint64_t at = 1; failed; at++) {
			int err;

			fault_engine_arm(c.fault,
					 (struct fault_plan){ kinds[i], at, -EIO, FAULT_ONCE, false });
			keys = NULL;
			err = mvcc_keys_ever_open(c.fx->db, str(""), str(""), &keys);
			while (!err && (err = mvcc_keys_next(keys, &key)) == 1)
				err = 0;
			mvcc_keys_close(keys);
			text[0] = 0;
			if (!err)
				err = mvcc_history_back(c.fx->db, str("a"), 0, note_life, text);
			failed = fault_engine_failed(c.fault);
			CU_ASSERT_EQUAL(err, failed ? -EIO : 0);
		}
	}
	fault_engine_disarm(c.fault);
	counted_close(&c);
}

/* ---- backwards ------------------------------------------------------------------------------- */

static void test_the_life_of_a_key_backwards(void)
{
	struct fixture *fx = fixture_open();

	put(fx->db, "k", "1");
	put(fx->db, "k", "2");
	del(fx->db, "k");
	put(fx->db, "other", "1");
	put(fx->db, "k", "3");
	for (int i = 0; i < 2; i++) {
		assert_life_back(fx->db, "k", MVCC_REV_LATEST, "6-0=3 3-4=2 2-3=1");
		assert_life_back(fx->db, "k", 100, "6-0=3 3-4=2 2-3=1");
		assert_life_back(fx->db, "k", 7, "6-0=3 3-4=2 2-3=1");
		assert_life_back(fx->db, "k", 6, "3-4=2 2-3=1");
		assert_life_back(fx->db, "k", 4, "3-4=2 2-3=1");
		assert_life_back(fx->db, "k", 3, "2-3=1");
		assert_life_back(fx->db, "k", 2, "");
		assert_life_back(fx->db, "never", MVCC_REV_LATEST, "");
		fixture_drain(fx);
	}
	put(fx->db, "k", "4"); /* in the buffer, the others not */
	assert_life_back(fx->db, "k", MVCC_REV_LATEST, "7-0=4 6-7=3 3-4=2 2-3=1");
	assert_life_back(fx->db, "k", 7, "6-7=3 3-4=2 2-3=1");
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "p", 2), 0);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, 6), 0);
	for (int i = 0; i < 2; i++) {
		assert_life_back(fx->db, "k", MVCC_REV_LATEST, "7-0=4 6-7=3 2-3=1");
		CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
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
	UNIT_TEST(test_deleted_keys_are_among_those_there_ever_were),
	UNIT_TEST(test_what_no_revision_shows_any_more_is_not_among_them),
	UNIT_TEST(test_the_life_of_a_key_backwards),
	UNIT_TEST(test_a_deleted_record_is_put_back_with_its_blobs),
	UNIT_TEST(test_so_is_one_that_only_a_pin_kept),
	CU_TEST_INFO_NULL,
};

static CU_TestInfo counted_tests[] = {
	UNIT_TEST(test_the_cost_is_by_the_keys_and_not_by_their_versions),
	UNIT_TEST(test_any_call_may_fail),
	UNIT_TEST(test_putting_back_survives_any_failure),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = {
		UNIT_SUITE("past on memory", on_memory, NULL, tests),
		UNIT_SUITE("past on rocksdb", on_rocks, NULL, tests),
		UNIT_SUITE("past, counted", on_memory, NULL, counted_tests),
		CU_SUITE_INFO_NULL,
	};

	return unit_main(argc, argv, suites);
}
