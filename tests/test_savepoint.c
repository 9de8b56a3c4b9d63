/*
 * Savepoints: a transaction rolled back is as it was, in memory and in the stage, whatever came in between. Single
 * facts first, then random transactions against a plain stack of tables, then failures. Spills are made to happen
 * all the time by letting a transaction keep no more than a few hundred bytes.
 */
#include "tests/store_fixture.h"

#include "mvcc/txn_int.h"
#include "rocks_backend/rocks.h"
#include "tests/engines/fault_engine.h"
#include "tests/engines/mem_engine.h"
#include "tests/unit.h"

#include <errno.h>

#define SPILL_TINY 300

/* ---- one line each ------------------------------------------------------------------------- */

static struct fixture *open_tiny(void)
{
	struct fixture *fx = fixture_open();

	fx->db->spill_bytes = SPILL_TINY;
	return fx;
}

static size_t rows_of(struct mvcc *db, unsigned family)
{
	struct slice none = slice_of(NULL, 0);
	struct engine_iter *it;
	size_t n = 0;

	if (engine_iter_new(db->engine, family, none, none, &it)) {
		CU_FAIL("engine_iter_new");
		return 0;
	}
	for (bool on = engine_iter_seek(it, none); on; on = engine_iter_next(it))
		n++;
	CU_ASSERT_EQUAL(engine_iter_error(it), 0);
	engine_iter_free(it);
	return n;
}

static unsigned savepoint(struct mvcc_txn *txn)
{
	unsigned number = 0;

	CU_ASSERT_EQUAL(mvcc_txn_savepoint(txn, &number), 0);
	return number;
}

static void rollback(struct mvcc_txn *txn, unsigned number)
{
	CU_ASSERT_EQUAL(mvcc_txn_rollback(txn, number), 0);
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

/* Enough to be spilled. */
static void txn_fill(struct mvcc_txn *txn, const char *prefix, unsigned n)
{
	char key[32], value[101];

	memset(value, 'f', 100);
	value[100] = 0;
	for (unsigned i = 0; i < n; i++) {
		snprintf(key, sizeof(key), "%s%02u", prefix, i);
		txn_put(txn, key, value);
	}
}

static mvcc_blob_t txn_blob(struct mvcc_txn *txn, const char *bytes)
{
	mvcc_blob_t blob = 0;

	CU_ASSERT_EQUAL(mvcc_txn_stage_blob(txn, str(bytes), &blob), 0);
	return blob;
}

/* ---- single facts -------------------------------------------------------------------------- */

static void test_a_rollback_undoes_what_came_after(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;
	unsigned first, second;

	put(fx->db, "a", "base");
	put(fx->db, "b", "base");
	txn = begin(fx->db);
	txn_put(txn, "a", "1");
	txn_put(txn, "c", "1");
	first = savepoint(txn);
	CU_ASSERT_EQUAL(first, 1);
	txn_put(txn, "a", "2");
	txn_del(txn, "b");
	txn_del(txn, "c");
	txn_put(txn, "d", "2");
	second = savepoint(txn);
	CU_ASSERT_EQUAL(second, 2);
	txn_put(txn, "a", "3");
	txn_put(txn, "e", "3");
	assert_txn_peek_range(txn, "", "", "a=3 d=2 e=3");
	rollback(txn, second);
	assert_txn_peek_range(txn, "", "", "a=2 d=2");
	rollback(txn, second); /* it stays */
	assert_txn_peek_range(txn, "", "", "a=2 d=2");
	rollback(txn, first);
	assert_txn_peek_range(txn, "", "", "a=1 b=base c=1");
	CU_ASSERT_EQUAL(mvcc_txn_rollback(txn, second), -EINVAL);
	CU_ASSERT_EQUAL(mvcc_txn_rollback(txn, 0), -EINVAL);
	CU_ASSERT_EQUAL(savepoint(txn), 2); /* numbers go on from the one that is left */
	txn_put(txn, "f", "4");
	CU_ASSERT_EQUAL(commit(txn), 4);
	assert_range_at(fx->db, 0, "", "", 0, "a=1 b=base c=1 f=4");
	assert_changes(fx->db, 4, "+a<2 +c<0 +f<0");
	fixture_close(fx);
}

static void test_updates_are_undone_one_by_one(void)
{
	for (int tiny = 0; tiny < 2; tiny++) {
		struct fixture *fx = tiny ? open_tiny() : fixture_open();
		struct mvcc_txn *txn;
		unsigned at;

		put(fx->db, "k", "base");
		txn = begin(fx->db);
		txn_put(txn, "own", "x");
		txn_update(txn, "k", '1');
		txn_update(txn, "own", '1');
		at = savepoint(txn);
		txn_update(txn, "k", '2');
		txn_update(txn, "own", '2');
		txn_update(txn, "k", '3');
		if (tiny)
			txn_fill(txn, "z", 8);
		txn_update(txn, "k", '4');
		rollback(txn, at);
		txn_update(txn, "k", '5');
		txn_update(txn, "own", '5');
		CU_ASSERT_EQUAL(commit(txn), 3);
		assert_range_at(fx->db, 0, "", "", 0, "k=base15 own=x15");
		fixture_close(fx);
	}
}

static void test_a_rollback_to_nothing_leaves_nothing_to_commit(void)
{
	struct fixture *fx = open_tiny();
	struct mvcc_txn *txn;
	unsigned at;

	put(fx->db, "k", "base");
	txn = begin(fx->db);
	at = savepoint(txn);
	txn_put(txn, "k", "1");
	txn_fill(txn, "z", 30);
	savepoint(txn);
	txn_fill(txn, "z", 30);
	fixture_drain(fx);
	CU_ASSERT(rows_of(fx->db, FAM_STAGE) > 30);
	rollback(txn, at);
	CU_ASSERT_EQUAL(rows_of(fx->db, FAM_STAGE), 0);
	assert_txn_peek_range(txn, "", "", "k=base");
	CU_ASSERT_EQUAL(commit(txn), 2);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 2);
	fixture_close(fx);
}

static void test_new_keys_that_are_all_deleted_again_take_no_revision(void)
{
	struct fixture *fx = open_tiny();
	struct mvcc_txn *txn = begin(fx->db);
	char key[8];

	txn_fill(txn, "z", 30);
	for (unsigned i = 0; i < 30; i++) {
		snprintf(key, sizeof(key), "z%02u", i);
		txn_del(txn, key);
	}
	CU_ASSERT_EQUAL(commit(txn), 1);
	fixture_drain(fx);
	CU_ASSERT_EQUAL(rows_of(fx->db, FAM_STAGE), 0);
	fixture_close(fx);
}

static void test_a_deleted_key_that_was_spilled_begins_a_generation(void)
{
	struct fixture *fx = open_tiny();
	struct mvcc_item item = { 0 };
	struct mvcc_txn *txn;
	unsigned at;

	put(fx->db, "k", "base");
	txn = begin(fx->db);
	txn_fill(txn, "y", 8);
	at = savepoint(txn);
	txn_del(txn, "k");
	txn_fill(txn, "z", 8);
	txn_put(txn, "k", "new");
	CU_ASSERT_EQUAL(mvcc_txn_get(txn, str("k"), &item), 0);
	CU_ASSERT_EQUAL(item.create_rev, 0);
	CU_ASSERT_EQUAL(item.version, 1);
	mvcc_item_release(&item);
	txn_fill(txn, "z", 8);
	rollback(txn, at);
	txn_put(txn, "k", "on"); /* the delete is undone, so the generation goes on */
	txn_fill(txn, "z", 1);
	CU_ASSERT_EQUAL(commit(txn), 3);
	assert_record_at(fx->db, 3, "k", "on", 2, 3, 2);
	fixture_drain(fx);
	assert_record_at(fx->db, 3, "k", "on", 2, 3, 2);
	fixture_close(fx);
}

static void test_guards_and_reads(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;
	unsigned at;

	put(fx->db, "k", "v");
	put(fx->db, "read", "v");
	/* a guard that its own writes break is undone with them */
	txn = begin(fx->db);
	at = savepoint(txn);
	txn_del(txn, "k");
	CU_ASSERT_EQUAL(mvcc_txn_expect_exists(txn, str("k")), 0);
	rollback(txn, at);
	txn_put(txn, "x", "1");
	CU_ASSERT_EQUAL(commit_err(txn), 0);
	/* and so is one that others break */
	txn = begin(fx->db);
	at = savepoint(txn);
	CU_ASSERT_EQUAL(mvcc_txn_expect_empty(txn, str("e"), str("f")), 0);
	CU_ASSERT_EQUAL(mvcc_txn_expect_exists(txn, str("k")), 0);
	rollback(txn, at);
	txn_put(txn, "x", "2");
	put(fx->db, "ee", "v");
	del(fx->db, "k");
	CU_ASSERT_EQUAL(commit_err(txn), 0);
	/* it can be told again */
	put(fx->db, "k", "v");
	txn = begin(fx->db);
	at = savepoint(txn);
	CU_ASSERT_EQUAL(mvcc_txn_expect_exists(txn, str("k")), 0);
	rollback(txn, at);
	CU_ASSERT_EQUAL(mvcc_txn_expect_exists(txn, str("k")), 0);
	txn_put(txn, "x", "3");
	del(fx->db, "k");
	CU_ASSERT_EQUAL(commit_err(txn), MVCC_ECONFLICT);
	/* those of before stay */
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_expect_empty(txn, str("g"), str("h")), 0);
	at = savepoint(txn);
	CU_ASSERT_EQUAL(mvcc_txn_expect_empty(txn, str("i"), str("j")), 0);
	rollback(txn, at);
	txn_put(txn, "x", "3");
	put(fx->db, "gg", "v");
	CU_ASSERT_EQUAL(commit_err(txn), MVCC_ECONFLICT);
	/* what was read is validated, rolled back or not */
	txn = begin(fx->db);
	at = savepoint(txn);
	assert_txn_range(txn, "r", "s", "read=v");
	rollback(txn, at);
	txn_put(txn, "x", "4");
	put(fx->db, "read", "changed");
	CU_ASSERT_EQUAL(commit_err(txn), MVCC_ECONFLICT);
	fixture_close(fx);
}

static int count_intent(void *arg, uint64_t intent, struct slice payload)
{
	(void)intent;
	(void)payload;
	(*(unsigned *)arg)++;
	return 0;
}

static unsigned intents(struct mvcc *db)
{
	unsigned n = 0;

	CU_ASSERT_EQUAL(mvcc_intents(db, count_intent, &n), 0);
	return n;
}

static void test_intents_settled_after_it_stay(void)
{
	struct fixture *fx = fixture_open();
	uint64_t one = 0, two = 0;
	struct mvcc_txn *txn;
	unsigned at;

	CU_ASSERT_EQUAL(mvcc_intent_put(fx->db, str("one"), &one), 0);
	CU_ASSERT_EQUAL(mvcc_intent_put(fx->db, str("two"), &two), 0);
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_settle(txn, one), 0);
	at = savepoint(txn);
	CU_ASSERT_EQUAL(mvcc_txn_settle(txn, two), 0);
	rollback(txn, at);
	txn_put(txn, "k", "v");
	commit(txn);
	CU_ASSERT_EQUAL(intents(fx->db), 1);
	fixture_reopen(fx);
	CU_ASSERT_EQUAL(intents(fx->db), 1);
	fixture_close(fx);
}

static void test_blobs_of_what_was_undone_are_gone(void)
{
	for (int tiny = 0; tiny < 2; tiny++) {
		struct fixture *fx = tiny ? open_tiny() : fixture_open();
		struct mvcc_txn *txn = begin(fx->db);
		mvcc_blob_t kept = txn_blob(txn, "kept"), undone;
		unsigned at;
		char byte;

		CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("k"), str("v"), &kept, 1), 0);
		if (tiny)
			txn_fill(txn, "a", 8);
		at = savepoint(txn);
		undone = txn_blob(txn, "undone");
		CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("k"), str("v"), &undone, 1), 0);
		CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("l"), str("v"), &kept, 1), 0);
		if (tiny)
			txn_fill(txn, "b", 8);
		rollback(txn, at);
		CU_ASSERT_EQUAL(commit(txn), 2);
		fixture_drain(fx);
		CU_ASSERT_EQUAL(rows_of(fx->db, FAM_BLOB), 1);
		CU_ASSERT_EQUAL(mvcc_blob_read(fx->db, kept, 0, &byte, 1), 1);
		CU_ASSERT_EQUAL(mvcc_blob_read(fx->db, undone, 0, &byte, 1), -ENOENT);
		fixture_reopen(fx);
		CU_ASSERT_EQUAL(rows_of(fx->db, FAM_BLOB), 1);
		fixture_close(fx);
	}
}

/* The rows an undo run remembers as absent are empty, and no damage. */
static void test_verify_knows_undo_runs(void)
{
	struct fixture *fx = open_tiny();
	struct mvcc_txn *txn = begin(fx->db);

	txn_fill(txn, "a", 8);
	savepoint(txn);
	txn_fill(txn, "a", 4);
	txn_fill(txn, "b", 8);
	CU_ASSERT(rows_of(fx->db, FAM_STAGE) > 16);
	fixture_verify(fx);
	mvcc_txn_abort(txn);
	fixture_close(fx);
}

static void test_a_commit_ends_savepoints(void)
{
	struct fixture *fx = open_tiny();
	struct mvcc_story too_long = { .op = NULL };
	struct mvcc_txn *txn = begin(fx->db);
	static char path[STORY_MAX + 1];
	unsigned at;

	txn_fill(txn, "a", 8);
	at = savepoint(txn);
	txn_fill(txn, "a", 8);
	CU_ASSERT(rows_of(fx->db, FAM_STAGE) > 8);
	memset(path, 'p', sizeof(path));
	too_long.path = slice_of(path, sizeof(path));
	CU_ASSERT_EQUAL(mvcc_txn_commit(txn, &too_long, MVCC_COMMIT_KEEP, NULL), -EINVAL);
	CU_ASSERT_EQUAL(mvcc_txn_rollback(txn, at), -EINVAL);
	CU_ASSERT_EQUAL(commit(txn), 2);
	fixture_drain(fx);
	CU_ASSERT_EQUAL(rows_of(fx->db, FAM_STAGE), 0);
	fixture_close(fx);
}

/* A commit that left the transaction alive ended its savepoints; a new one has the number of one that ended. */
static void test_a_savepoint_after_a_failed_commit_is_a_new_one(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_story too_long = { .op = NULL };
	struct mvcc_txn *txn = begin(fx->db);
	static char path[STORY_MAX + 1];
	unsigned at;

	memset(path, 'p', sizeof(path));
	too_long.path = slice_of(path, sizeof(path));
	CU_ASSERT_EQUAL(savepoint(txn), 1);
	txn_put(txn, "k", "before");
	CU_ASSERT_EQUAL(mvcc_txn_commit(txn, &too_long, MVCC_COMMIT_KEEP, NULL), -EINVAL);
	at = savepoint(txn);
	txn_put(txn, "k", "after");
	rollback(txn, at);
	txn_put(txn, "l", "other"); /* where "after" was */
	assert_txn_peek(txn, "k", "before");
	CU_ASSERT_EQUAL(commit(txn), 2);
	assert_value_at(fx->db, 0, "k", "before");
	fixture_close(fx);
}

static void test_going_back_gives_memory_back(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn = begin(fx->db);
	static char value[4000];
	size_t before;
	unsigned at;

	memset(value, 'v', sizeof(value) - 1);
	txn_put(txn, "kept", "v");
	at = savepoint(txn);
	before = atomic_load(&txn->writes->mt.bytes);
	for (int i = 0; i < 1000; i++) { /* 40 MB in all, and at no time as much as is spilled at once */
		txn_fill(txn, "k", 4);
		for (int j = 0; j < 10; j++)
			txn_put(txn, "kept", value);
		CU_ASSERT(atomic_load(&txn->writes->mt.bytes) > before);
		rollback(txn, at);
		CU_ASSERT_EQUAL(atomic_load(&txn->writes->mt.bytes), before);
	}
	CU_ASSERT_EQUAL(rows_of(fx->db, FAM_STAGE), 0);
	assert_txn_peek_range(txn, "", "", "kept=v");
	mvcc_txn_abort(txn);
	fixture_close(fx);
}

static void test_many_savepoints_keep_little_in_memory(void)
{
	enum { N = 300 };
	struct fixture *fx = open_tiny();
	struct mvcc_txn *txn = begin(fx->db);
	char key[16];

	for (unsigned i = 1; i <= N; i++) {
		snprintf(key, sizeof(key), "s%03u", i);
		txn_put(txn, key, "a row in memory, to be kept for the savepoint");
		CU_ASSERT_EQUAL(savepoint(txn), i);
		txn_fill(txn, "z", 4); /* spilled */
		CU_ASSERT(txn->kept_bytes < 20 * SPILL_TINY);
	}
	for (unsigned i = N; i > 0; i -= 50) {
		struct mvcc_range_opt count = { .flags = MVCC_RANGE_COUNT_ONLY };
		struct mvcc_rows rows = { 0 };

		rollback(txn, i);
		CU_ASSERT_EQUAL(mvcc_txn_range(txn, str("s"), str("t"), &count, &rows), 0);
		CU_ASSERT_EQUAL(rows.count, i);
	}
	CU_ASSERT_EQUAL(commit(txn), 2);
	fixture_drain(fx);
	CU_ASSERT_EQUAL(rows_of(fx->db, FAM_STAGE), 0);
	CU_ASSERT_EQUAL(rows_of(fx->db, FAM_LATEST), 50 + 4);
	fixture_close(fx);
}

/* ---- random transactions against a plain stack --------------------------------------------- */

enum { KEYS = 40, DEPTH = 9, BLOBS = 4096, INTENTS = 6, TEXT = 160 };

struct cell {
	enum { UNTOUCHED, IS_PUT, IS_DEL } what;
	bool was_deleted; /* at some time: a put begins a generation */
	char value[TEXT];
	char suffix[16]; /* of updates */
	unsigned blobs[2], nblobs;
};

struct state {
	struct cell cells[KEYS];
	bool settled[INTENTS];
};

struct base {
	bool there;
	char value[TEXT];
	mvcc_rev_t create, mod;
	uint64_t version;
	unsigned blobs[2], nblobs;
};

struct model {
	struct fixture *fx;
	uint64_t random;
	struct state stack[DEPTH]; /* [0] is now, the others savepoints 1 .. depth */
	unsigned depth;
	struct base base[KEYS];
	mvcc_blob_t blobs[BLOBS]; /* by the model's number */
	uint64_t refs[BLOBS];     /* of committed records */
	unsigned nblobs, first_own;
	uint64_t intents[INTENTS];
	bool bad;
};

static uint64_t below(struct model *m, uint64_t n)
{
	return random_below(&m->random, n);
}

static void expect(struct model *m, bool good, const char *what, unsigned i)
{
	if (!good && !m->bad)
		fprintf(stderr, "%s %u, at revision %llu\n", what, i,
			(unsigned long long)mvcc_current(m->fx->db));
	m->bad |= !good;
}

static void key_of(unsigned i, char out[8])
{
	snprintf(out, 8, "k%02u", i);
}

static void do_put(struct model *m, struct mvcc_txn *txn, unsigned i)
{
	struct cell *cell = &m->stack[0].cells[i];
	mvcc_blob_t ids[2];
	char key[8];
	size_t len = below(m, 5) ? below(m, 40) : below(m, TEXT - 20);

	key_of(i, key);
	cell->was_deleted |= cell->what == IS_DEL;
	cell->what = IS_PUT;
	cell->suffix[0] = 0;
	cell->nblobs = 0;
	memset(cell->value, 'a' + (int)below(m, 26), len);
	cell->value[len] = 0;
	if (below(m, 4) == 0 && m->nblobs < BLOBS) {
		m->blobs[m->nblobs] = txn_blob(txn, "blob");
		cell->blobs[cell->nblobs++] = m->nblobs++;
	}
	if (below(m, 4) == 0 && m->nblobs > m->first_own + 1) {
		unsigned other = m->first_own + (unsigned)below(m, m->nblobs - m->first_own);

		if (!cell->nblobs || cell->blobs[0] != other)
			cell->blobs[cell->nblobs++] = other;
	}
	for (unsigned b = 0; b < cell->nblobs; b++)
		ids[b] = m->blobs[cell->blobs[b]];
	expect(m, mvcc_txn_put(txn, str(key), str(cell->value), ids, cell->nblobs) == 0, "put", i);
}

static void do_del(struct model *m, struct mvcc_txn *txn, unsigned i)
{
	struct cell *cell = &m->stack[0].cells[i];
	char key[8];

	key_of(i, key);
	cell->what = IS_DEL;
	cell->was_deleted = true;
	cell->suffix[0] = 0;
	expect(m, mvcc_txn_del(txn, str(key)) == 0, "del", i);
}

static void do_update(struct model *m, struct mvcc_txn *txn, unsigned i)
{
	struct cell *cell = &m->stack[0].cells[i];
	size_t len = strlen(cell->suffix);
	char key[8], c = (char)('0' + below(m, 10));

	if (len + 1 >= sizeof(cell->suffix))
		return;
	key_of(i, key);
	if (cell->what != IS_DEL) {
		cell->suffix[len] = c;
		cell->suffix[len + 1] = 0;
	}
	expect(m, mvcc_txn_update(txn, str(key), append, &c, 1) == 0, "update", i);
}

static void do_settle(struct model *m, struct mvcc_txn *txn)
{
	unsigned i = (unsigned)below(m, INTENTS);

	if (m->stack[0].settled[i])
		return;
	m->stack[0].settled[i] = true;
	expect(m, mvcc_txn_settle(txn, m->intents[i]) == 0, "settle", i);
}

static void do_savepoint(struct model *m, struct mvcc_txn *txn)
{
	if (m->depth + 1 == DEPTH)
		return;
	m->stack[++m->depth] = m->stack[0];
	expect(m, savepoint(txn) == m->depth, "savepoint", m->depth);
}

static void do_rollback(struct model *m, struct mvcc_txn *txn)
{
	unsigned to = 1 + (unsigned)below(m, m->depth + 1);

	if (to > m->depth) {
		expect(m, mvcc_txn_rollback(txn, to) == -EINVAL, "rollback to none", to);
		return;
	}
	expect(m, mvcc_txn_rollback(txn, to) == 0, "rollback", to);
	m->stack[0] = m->stack[to];
	m->depth = to;
}

/* On a full disk it comes as far as the end of the last spill, and has put updates into own values by then. */
static void fold_updates(struct state *now)
{
	for (unsigned i = 0; i < KEYS; i++) {
		struct cell *cell = &now->cells[i];

		if (cell->what != IS_PUT)
			continue;
		strncat(cell->value, cell->suffix, TEXT - 1 - strlen(cell->value));
		cell->suffix[0] = 0;
	}
}

/* A commit that leaves the transaction alive, and ends its savepoints. */
static void do_failed_commit(struct model *m, struct mvcc_txn *txn)
{
	static char path[STORY_MAX + 1];
	struct mvcc_story too_long = { .path = slice_of(path, sizeof(path)) };
	uint64_t reserve = m->fx->db->reserve_bytes;
	bool any = false, short_enough = true;

	for (unsigned i = 0; i < KEYS; i++) {
		const struct cell *cell = &m->stack[0].cells[i];

		any |= cell->what != UNTOUCHED || cell->suffix[0];
		short_enough &= strlen(cell->value) + strlen(cell->suffix) < TEXT;
	}
	if (!any || !short_enough)
		return;
	if (below(m, 2)) {
		expect(m, mvcc_txn_commit(txn, &too_long, MVCC_COMMIT_KEEP, NULL) == -EINVAL, "failed commit",
		       0);
	} else {
		m->fx->db->reserve_bytes = UINT64_MAX;
		expect(m, mvcc_txn_commit(txn, NULL, MVCC_COMMIT_KEEP, NULL) == -ENOSPC, "failed commit", 1);
		m->fx->db->reserve_bytes = reserve;
		fold_updates(&m->stack[0]);
	}
	m->depth = 0;
}

/* What the transaction sees of key `i`: own puts without updates, else the base. */
static bool sees(const struct model *m, unsigned i, const struct mvcc_item *item)
{
	const struct cell *cell = &m->stack[0].cells[i];
	const struct base *base = &m->base[i];
	bool goes_on = base->there && !cell->was_deleted;

	if (cell->what == IS_PUT)
		return slice_eq(item->value, str(cell->value)) && item->nblobs == cell->nblobs &&
		       item->mod_rev == 0 && item->create_rev == (goes_on ? base->create : 0) &&
		       item->version == (goes_on ? base->version + 1 : 1);
	return slice_eq(item->value, str(base->value)) && item->nblobs == base->nblobs &&
	       item->mod_rev == base->mod && item->create_rev == base->create &&
	       item->version == base->version;
}

static bool is_seen(const struct model *m, unsigned i)
{
	const struct cell *cell = &m->stack[0].cells[i];

	return cell->what == IS_PUT || (cell->what == UNTOUCHED && m->base[i].there);
}

static void check_walk(struct model *m, struct mvcc_txn *txn)
{
	const struct mvcc_item *item;
	struct mvcc_cursor *c = NULL;
	struct slice key;
	char name[8];

	expect(m, mvcc_txn_peek_cursor_open(txn, str(""), str(""), &c) == 0, "cursor", 0);
	for (unsigned i = 0; c && i < KEYS && !m->bad; i++) {
		key_of(i, name);
		if (is_seen(m, i))
			expect(m,
			       mvcc_cursor_next(c, &key, &item) == 1 && slice_eq(key, str(name)) &&
				       sees(m, i, item),
			       "walk", i);
	}
	if (c && !m->bad)
		expect(m, mvcc_cursor_next(c, &key, &item) == 0, "end of walk", 0);
	mvcc_cursor_close(c);
}

static void check_get(struct model *m, struct mvcc_txn *txn, unsigned i)
{
	struct mvcc_item item = { 0 };
	char key[8];
	int err;

	key_of(i, key);
	err = below(m, 2) ? mvcc_txn_get(txn, str(key), &item) : mvcc_txn_peek(txn, str(key), &item);
	expect(m, err == (is_seen(m, i) ? 0 : -ENOENT) && (err || sees(m, i, &item)), "get", i);
	mvcc_item_release(&item);
}

static bool cell_changes(const struct model *m, unsigned i)
{
	const struct cell *cell = &m->stack[0].cells[i];

	return cell->what == IS_PUT || (m->base[i].there && (cell->what == IS_DEL || cell->suffix[0]));
}

static void commit_cell(struct model *m, unsigned i, mvcc_rev_t rev)
{
	const struct cell *cell = &m->stack[0].cells[i];
	struct base *base = &m->base[i];
	bool goes_on = base->there && !cell->was_deleted;

	if (!cell_changes(m, i))
		return;
	if (cell->what == IS_DEL) {
		*base = (struct base){ 0 };
		return;
	}
	if (cell->what == IS_PUT) {
		base->create = goes_on ? base->create : rev;
		base->version = goes_on ? base->version : 0;
		strcpy(base->value, cell->value);
		memcpy(base->blobs, cell->blobs, sizeof(base->blobs));
		base->nblobs = cell->nblobs;
	}
	if (strlen(base->value) + strlen(cell->suffix) < TEXT)
		strcat(base->value, cell->suffix);
	base->there = true;
	base->mod = rev;
	base->version++;
	for (unsigned b = 0; b < base->nblobs; b++)
		m->refs[base->blobs[b]]++;
}

/* Every blob has as many references as records that name it; without one, it is gone. */
static void check_blobs(struct model *m)
{
	struct mvcc *db = m->fx->db;
	size_t alive = 0;

	for (unsigned b = 0; b < m->nblobs; b++) {
		struct engine_pin pin = { 0 };
		struct buf key = { 0 };
		uint64_t count = 1;

		alive += m->refs[b] > 0;
		expect(m, meta_key_id(&key, META_BLOBREF, m->blobs[b]) == 0, "key", b);
		if (engine_get(db->engine, FAM_META, slice_buf(&key), &pin) == 0)
			count = get_le64(pin.value.data);
		if (m->refs[b])
			expect(m, count == m->refs[b], "references of blob", b);
		engine_pin_release(db->engine, &pin);
		buf_release(&key);
	}
	expect(m, rows_of(db, FAM_BLOB) == alive, "blobs", (unsigned)alive);
}

static void check_store(struct model *m)
{
	struct mvcc_view *view = NULL;
	char key[8];

	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(m->fx->db, 0, &view), 0);
	for (unsigned i = 0; i < KEYS; i++) {
		const struct base *base = &m->base[i];
		struct mvcc_item item = { 0 };
		int err;

		key_of(i, key);
		err = mvcc_get(view, str(key), &item);
		expect(m, err == (base->there ? 0 : -ENOENT), "presence of key", i);
		if (!err)
			expect(m,
			       slice_eq(item.value, str(base->value)) && item.create_rev == base->create &&
				       item.mod_rev == base->mod && item.version == base->version &&
				       item.nblobs == base->nblobs,
			       "record of key", i);
		mvcc_item_release(&item);
	}
	mvcc_view_close(view);
	fixture_drain(m->fx);
	expect(m, rows_of(m->fx->db, FAM_STAGE) == 0, "staged rows", 0);
	expect(m, intents(m->fx->db) == INTENTS, "intents", 0);
	check_blobs(m);
}

static void commit_model(struct model *m, struct mvcc_txn *txn)
{
	mvcc_rev_t before = mvcc_current(m->fx->db), rev = 0;
	bool changes = false;

	for (unsigned i = 0; i < KEYS; i++)
		changes |= cell_changes(m, i);
	expect(m, mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, &rev) == 0, "commit", 0);
	expect(m, rev == before + changes, "revisions taken, where there should have been", changes);
	for (unsigned i = 0; i < KEYS; i++)
		commit_cell(m, i, rev);
	expect(m, intents(m->fx->db) <= INTENTS, "intents", 0);
	for (unsigned i = 0; i < INTENTS; i++)
		if (m->stack[0].settled[i])
			expect(m, mvcc_intent_put(m->fx->db, str("again"), &m->intents[i]) == 0, "intent", i);
}

static void random_step(struct model *m, struct mvcc_txn *txn)
{
	unsigned i = (unsigned)below(m, below(m, 2) ? 8 : KEYS);

	if (below(m, 40) == 0)
		do_failed_commit(m, txn);
	switch (below(m, 16)) {
	case 0:
	case 1:
		do_savepoint(m, txn);
		break;
	case 2:
		do_rollback(m, txn);
		check_walk(m, txn);
		break;
	case 3:
		do_settle(m, txn);
		break;
	case 4:
	case 5:
	case 6:
		do_del(m, txn, i);
		break;
	case 7:
	case 8:
		do_update(m, txn, i);
		break;
	case 9:
		check_get(m, txn, i);
		break;
	default:
		do_put(m, txn, i);
	}
}

static void random_transaction(struct model *m)
{
	struct mvcc_txn *txn = begin(m->fx->db);
	uint64_t steps = 1 + below(m, below(m, 4) ? 30 : 200);

	m->stack[0] = (struct state){ 0 };
	m->depth = 0;
	m->first_own = m->nblobs;
	while (steps-- > 0 && !m->bad)
		random_step(m, txn);
	if (below(m, 6) == 0 && m->depth && !m->bad) {
		expect(m, mvcc_txn_rollback(txn, 1) == 0, "rollback to the first", 1);
		m->stack[0] = m->stack[1];
		m->depth = 1;
	}
	if (below(m, 6))
		commit_model(m, txn);
	else
		mvcc_txn_abort(txn);
}

static void test_random_transactions_match_a_plain_stack(void)
{
	uint64_t seed = fixture_env("MODEL_SEED", 4242);
	struct model *m = calloc(1, sizeof(*m));

	CU_ASSERT_PTR_NOT_NULL_FATAL(m);
	m->random = seed;
	m->fx = fixture_open_small_ring();
	m->fx->db->spill_bytes = SPILL_TINY;
	for (unsigned i = 0; i < INTENTS; i++)
		CU_ASSERT_EQUAL(mvcc_intent_put(m->fx->db, str("intent"), &m->intents[i]), 0);
	for (int round = 0; round < 250 && !m->bad; round++) {
		m->fx->db->spill_bytes = below(m, 3) ? SPILL_TINY : 3000;
		random_transaction(m);
		if (round % 10 == 0)
			check_store(m);
	}
	check_store(m);
	if (m->bad)
		fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
	CU_ASSERT_FALSE(m->bad);
	fixture_close(m->fx);
	free(m);
}

/* ---- failures ------------------------------------------------------------------------------ */

static int put_many(struct mvcc_txn *txn, const char *prefix, unsigned n, mvcc_blob_t blob)
{
	char key[16], value[81];
	int err = 0;

	memset(value, 'v', sizeof(value));
	for (unsigned i = 0; !err && i < n; i++) {
		snprintf(key, sizeof(key), "%s%02u", prefix, i);
		err = mvcc_txn_put(txn, str(key), slice_of(value, sizeof(value)), &blob, blob ? 1 : 0);
	}
	return err;
}

/* Spills, goes back over spilled rows and to a new beginning. What it leaves in `txn`: a00 to a07, and c00. */
static int write_and_go_back(struct mvcc_txn *txn)
{
	mvcc_blob_t kept, undone;
	unsigned one, two;
	int err = mvcc_txn_stage_blob(txn, str("kept"), &kept);

	if (!err)
		err = put_many(txn, "a", 8, kept);
	if (!err)
		err = mvcc_txn_savepoint(txn, &one);
	if (!err)
		err = mvcc_txn_stage_blob(txn, str("undone"), &undone);
	if (!err)
		err = put_many(txn, "a", 4, undone);
	if (!err)
		err = mvcc_txn_del(txn, str("a07"));
	if (!err)
		err = put_many(txn, "b", 5, undone);
	if (!err)
		err = mvcc_txn_savepoint(txn, &two);
	if (!err)
		err = put_many(txn, "b", 8, 0);
	if (!err)
		err = mvcc_txn_rollback(txn, two);
	if (!err)
		err = mvcc_txn_update(txn, str("base"), append, "u", 1);
	if (!err)
		err = put_many(txn, "d", 5, 0);
	if (!err)
		err = mvcc_txn_rollback(txn, one);
	return err ? err : put_many(txn, "c", 1, 0);
}

static int commit_base(struct mvcc *db)
{
	struct mvcc_txn *txn;
	int err = mvcc_txn_begin(db, &txn);

	if (err)
		return err;
	err = mvcc_txn_put(txn, str("base"), str("b"), NULL, 0);
	if (err) {
		mvcc_txn_abort(txn);
		return err;
	}
	return mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, NULL);
}

static int commit_gone_back(struct mvcc *db)
{
	struct mvcc_txn *txn;
	int err = mvcc_txn_begin(db, &txn);

	if (err)
		return err;
	err = write_and_go_back(txn);
	if (err) {
		mvcc_txn_abort(txn);
		return err;
	}
	return mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, NULL);
}

/* The store is as before the transaction, or as after it, and nothing is left over. */
static bool is_whole(struct mvcc *db, bool must_be_there)
{
	struct mvcc_view *view = NULL;
	struct mvcc_rows rows = { 0 };
	bool good;

	if (mvcc_sync(db, 0) || mvcc_view_open(db, 0, &view))
		return false;
	good = mvcc_range(view, str(""), str(""), NULL, &rows) == 0;
	mvcc_view_close(view);
	good = good && (rows.n == 10 || (rows.n == 1 && !must_be_there));
	for (size_t i = 0; good && rows.n == 10 && i < 8; i++)
		good = rows.rows[i].item.nblobs == 1 && rows.rows[i].item.version == 1 &&
		       rows.rows[i].key.data[0] == 'a';
	good = good && rows_of(db, FAM_STAGE) == 0 && rows_of(db, FAM_BLOB) == (rows.n == 10);
	mvcc_rows_release(&rows);
	return good;
}

static bool run_with_fault(struct fault_plan plan, bool *again)
{
	struct mem_engine *mem = mem_engine_new();
	struct fault_engine *fault = mem ? fault_engine_new(mem_engine_provider(mem)) : NULL;
	struct engine_provider provider = fault_engine_provider(fault);
	struct fixture *fx;
	bool good;
	int err;

	fixture_use(&provider);
	fx = fixture_open_small_ring();
	fixture_use(NULL);
	fx->db->spill_bytes = SPILL_TINY;
	good = commit_base(fx->db) == 0 && mvcc_sync(fx->db, 0) == 0;
	fault_engine_arm(fault, plan);
	err = commit_gone_back(fx->db);
	*again = fault_engine_failed(fault) > 0;
	good = good && (*again || !err);
	mvcc_close(fx->db);
	fault_engine_disarm(fault);
	fx->db = NULL;
	good = good && fixture_try_open(fx) == 0 && is_whole(fx->db, err == 0);
	if (!good)
		fprintf(stderr, "kinds %u, mode %d, call %llu: %d\n", plan.kinds, (int)plan.mode,
			(unsigned long long)plan.at, err);
	fixture_close(fx);
	fault_engine_free(fault);
	mem_engine_free(mem);
	return good;
}

static void test_any_call_may_fail(void)
{
	static const struct {
		unsigned kind;
		enum fault_mode mode;
	} faults[] = {
		{ FAULT_GET, FAULT_ONCE },   { FAULT_ITER, FAULT_ONCE },  { FAULT_MOVE, FAULT_ONCE },
		{ FAULT_WRITE, FAULT_ONCE }, { FAULT_BATCH, FAULT_ONCE }, { FAULT_WRITE, FAULT_CRASH },
	};

	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		struct fault_plan plan = { .kinds = faults[i].kind, .err = -EIO, .mode = faults[i].mode };
		bool again = true, good = true;

		while (again && good) {
			plan.at++;
			good = run_with_fault(plan, &again);
		}
		CU_ASSERT_TRUE(good);
		CU_ASSERT(plan.at > 3); /* some did fail */
	}
}

static void test_a_kill_in_the_middle_leaves_nothing(void)
{
	struct fixture *fx = open_tiny();
	struct mvcc_txn *txn;

	CU_ASSERT_EQUAL(commit_base(fx->db), 0);
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(write_and_go_back(txn), 0);
	savepoint(txn);
	CU_ASSERT_EQUAL(put_many(txn, "a", 8, 0), 0);
	CU_ASSERT(rows_of(fx->db, FAM_STAGE) > 8); /* the run, and an undo run */
	mem_engine_kill(fx->mem);
	mvcc_txn_abort(txn);
	mvcc_close(fx->db);
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	CU_ASSERT_EQUAL(rows_of(fx->db, FAM_STAGE), 0);
	CU_ASSERT_EQUAL(rows_of(fx->db, FAM_BLOB), 0);
	assert_range_at(fx->db, 0, "", "", 0, "base=b");
	fixture_close(fx);
}

/* A transaction of a run, whose last spill is cut short by the `n`-th get; commit is then called again. */
static void commit_twice(struct fixture *fx, struct fault_engine *fault, uint64_t n)
{
	const struct mvcc_story story = { .op = "twice" };
	struct mvcc_txn *txn = begin(fx->db);
	mvcc_blob_t blob;

	fx->db->spill_bytes = SPILL_TINY;
	txn_fill(txn, "a", 8);
	fx->db->spill_bytes = SPILL_BYTES_MAX; /* what comes now stays in memory until commit */
	blob = txn_blob(txn, "bytes");
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("b"), str("ref"), &blob, 1), 0);
	txn_put(txn, "c", "1");
	fault_engine_arm(fault,
			 (struct fault_plan){ .kinds = FAULT_GET, .at = n, .err = -EIO, .mode = FAULT_ONCE });
	CU_ASSERT_EQUAL_FATAL(mvcc_txn_commit(txn, &story, MVCC_COMMIT_WAIT | MVCC_COMMIT_KEEP, NULL), -EIO);
	fault_engine_disarm(fault);
	CU_ASSERT_EQUAL(mvcc_txn_commit(txn, &story, MVCC_COMMIT_WAIT, NULL), 0);
	fixture_verify(fx);
}

static void test_a_commit_tried_again_counts_its_blobs_once(void)
{
	struct mem_engine *mem = mem_engine_new();
	struct fault_engine *fault = mem ? fault_engine_new(mem_engine_provider(mem)) : NULL;
	struct engine_provider provider = fault_engine_provider(fault);
	struct fixture *fx;

	fixture_use(&provider);
	fx = fixture_open();
	fixture_use(NULL);
	for (uint64_t n = 1; n <= 2; n++) { /* the headers of the two keys that are not spilled yet */
		commit_twice(fx, fault, n);
		fixture_drain(fx);
	}
	fixture_close(fx);
	fault_engine_free(fault);
	mem_engine_free(mem);
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
	UNIT_TEST(test_a_rollback_undoes_what_came_after),
	UNIT_TEST(test_updates_are_undone_one_by_one),
	UNIT_TEST(test_a_rollback_to_nothing_leaves_nothing_to_commit),
	UNIT_TEST(test_new_keys_that_are_all_deleted_again_take_no_revision),
	UNIT_TEST(test_a_deleted_key_that_was_spilled_begins_a_generation),
	UNIT_TEST(test_guards_and_reads),
	UNIT_TEST(test_intents_settled_after_it_stay),
	UNIT_TEST(test_blobs_of_what_was_undone_are_gone),
	UNIT_TEST(test_verify_knows_undo_runs),
	UNIT_TEST(test_a_commit_ends_savepoints),
	UNIT_TEST(test_a_savepoint_after_a_failed_commit_is_a_new_one),
	UNIT_TEST(test_going_back_gives_memory_back),
	UNIT_TEST(test_many_savepoints_keep_little_in_memory),
	UNIT_TEST(test_random_transactions_match_a_plain_stack),
	CU_TEST_INFO_NULL,
};

static CU_TestInfo failures[] = {
	UNIT_TEST(test_any_call_may_fail),
	UNIT_TEST(test_a_kill_in_the_middle_leaves_nothing),
	UNIT_TEST(test_a_commit_tried_again_counts_its_blobs_once),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = {
		UNIT_SUITE("savepoints on memory", on_memory, NULL, tests),
		UNIT_SUITE("savepoints on rocksdb", on_rocks, NULL, tests),
		UNIT_SUITE("savepoints and failures", on_memory, NULL, failures),
		CU_SUITE_INFO_NULL,
	};

	return unit_main(argc, argv, suites);
}
