/*
 * What a transaction is told of its conflicts, and how it lives on with them (MVCC_COMMIT_KEEP_CONFLICT): all of them
 * are told, nothing else is, and a commit has a conflict if and only if one is told.
 */
#include "tests/store_fixture.h"

#include "mvcc/mvcc_int.h"
#include "rocks_backend/rocks.h"
#include "tests/unit.h"

#include <errno.h>

/* ---- one line each ------------------------------------------------------------------------- */

static const char *const kinds[] = { "read", "range", "exists", "empty", "write" };

struct told {
	char text[4096];
	unsigned n, stop_at;
};

/* "kind key was>now", and of a range, between kind and key, "[start,end)". */
static int note(void *arg, const struct mvcc_conflict *c)
{
	struct told *told = arg;
	size_t at = strlen(told->text);
	bool ranged = c->kind == MVCC_CONFLICT_RANGE || c->kind == MVCC_CONFLICT_EMPTY;

	at += (size_t)snprintf(told->text + at, sizeof(told->text) - at, "%s%s ", at ? "; " : "",
			       kinds[c->kind]);
	if (ranged)
		at += (size_t)snprintf(told->text + at, sizeof(told->text) - at, "[%.*s,%.*s) ",
				       (int)c->start.len, (const char *)c->start.data, (int)c->end.len,
				       (const char *)c->end.data);
	snprintf(told->text + at, sizeof(told->text) - at, "%.*s %d>%d", (int)c->key.len,
		 (const char *)c->key.data, (int)c->base_rev, (int)c->now_rev);
	if (c->own)
		strcat(told->text, " own");
	return ++told->n == told->stop_at ? 7 : 0;
}

static void assert_told(struct mvcc_txn *txn, const char *expected)
{
	struct told told = { .n = 0 };

	CU_ASSERT_EQUAL(mvcc_txn_conflicts(txn, note, &told), 0);
	CU_ASSERT_STRING_EQUAL(told.text, expected);
	if (strcmp(told.text, expected) != 0)
		printf("\n    told: %s\n    not:  %s\n", told.text, expected);
}

static int try_commit(struct mvcc_txn *txn)
{
	return mvcc_txn_commit(txn, NULL, MVCC_COMMIT_KEEP_CONFLICT, NULL);
}

/* ---- what is told -------------------------------------------------------------------------- */

static void test_all_conflicts_are_told_and_the_transaction_lives_on(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;

	put(fx->db, "a", "1");
	put(fx->db, "b", "1");
	put(fx->db, "r1", "1");
	txn = begin(fx->db);
	assert_txn_value(txn, "a", "1");
	assert_txn_value(txn, "b", "1");
	assert_txn_value(txn, "new", NULL);
	assert_txn_range(txn, "r", "s", "r1=1");
	txn_put(txn, "mine", "1");
	txn_del(txn, "r1");
	assert_told(txn, "");
	put(fx->db, "other", "1");
	put(fx->db, "b", "2");
	put(fx->db, "new", "1");
	put(fx->db, "r0", "1");
	del(fx->db, "r1");
	for (int i = 0; i < 3; i++) {
		CU_ASSERT_EQUAL(try_commit(txn), MVCC_ECONFLICT);
		assert_told(txn, "read b 3>6; read new 0>7; range [r,s) r0 0>8; range [r,s) r1 4>0");
		assert_txn_value(txn, "mine", "1");
		assert_txn_value(txn, "b", "1");
		assert_txn_peek_range(txn, "r", "s", "");
		CU_ASSERT_EQUAL(mvcc_txn_rev(txn), 4);
		if (i == 1)
			fixture_drain(fx);
	}
	txn_put(txn, "b", "mine");
	assert_txn_value(txn, "b", "mine");
	CU_ASSERT_EQUAL(try_commit(txn), MVCC_ECONFLICT); /* it was read before */
	mvcc_txn_abort(txn);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 9);
	assert_absent_at(fx->db, MVCC_REV_LATEST, "mine");
	fixture_verify(fx);
	fixture_close(fx);
}

static void test_the_conflict_of_a_guard_goes_with_its_cause(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;
	mvcc_rev_t rev = 0;

	put(fx->db, "dir", "1");
	put(fx->db, "dir/gone", "1");
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_expect_exists(txn, str("dir")), 0);
	CU_ASSERT_EQUAL(mvcc_txn_expect_empty(txn, str("dir/"), str("dir0")), 0);
	txn_del(txn, "dir/gone");
	txn_put(txn, "mine", "1");
	assert_told(txn, "");
	put(fx->db, "dir/a", "1");
	del(fx->db, "dir");
	CU_ASSERT_EQUAL(try_commit(txn), MVCC_ECONFLICT);
	assert_told(txn, "exists dir 2>0; empty [dir/,dir0) dir/a 0>4");
	put(fx->db, "dir", "2");
	CU_ASSERT_EQUAL(try_commit(txn), MVCC_ECONFLICT);
	del(fx->db, "dir/a");
	assert_told(txn, "");
	CU_ASSERT_EQUAL(mvcc_txn_commit(txn, NULL, MVCC_COMMIT_KEEP_CONFLICT, &rev), 0);
	CU_ASSERT_EQUAL(rev, 8);
	assert_changes(fx->db, 8, "-dir/gone<3 +mine<0");
	fixture_verify(fx);
	fixture_close(fx);
}

static void test_guards_that_the_transaction_breaks_itself(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;
	unsigned point = 0;

	put(fx->db, "k", "1");
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_savepoint(txn, &point), 0);
	txn_del(txn, "k");
	txn_put(txn, "dir/b", "1");
	CU_ASSERT_EQUAL(mvcc_txn_expect_exists(txn, str("k")), 0);
	CU_ASSERT_EQUAL(mvcc_txn_expect_empty(txn, str("dir/"), str("dir0")), 0);
	assert_told(txn, "empty [dir/,dir0) dir/b 0>0 own; exists k 0>0 own");
	CU_ASSERT_EQUAL(mvcc_txn_rollback(txn, point), 0);
	assert_told(txn, "");
	txn_del(txn, "k");
	CU_ASSERT_EQUAL(mvcc_txn_expect_exists(txn, str("k")), 0);
	CU_ASSERT_EQUAL(try_commit(txn), MVCC_ECONFLICT);
	assert_told(txn, "exists k 0>0 own");
	mvcc_txn_abort(txn);
	fixture_close(fx);
}

static void test_only_the_part_of_a_range_that_was_walked_counts(void)
{
	struct fixture *fx = fixture_open();
	const struct mvcc_item *item;
	struct mvcc_cursor *c = NULL;
	struct mvcc_txn *txn;
	struct slice key;

	put(fx->db, "a", "1");
	put(fx->db, "m", "1");
	put(fx->db, "z", "1");
	txn = begin(fx->db);
	CU_ASSERT_EQUAL_FATAL(mvcc_txn_cursor_open(txn, str(""), str(""), &c), 0);
	CU_ASSERT_EQUAL(mvcc_cursor_next(c, &key, &item), 1);
	CU_ASSERT_EQUAL(mvcc_cursor_next(c, &key, &item), 1);
	mvcc_cursor_close(c);
	txn_put(txn, "result", "1");
	put(fx->db, "n", "1");
	put(fx->db, "z", "2");
	assert_told(txn, "");
	put(fx->db, "b", "1");
	put(fx->db, "m", "2");
	assert_told(txn, "range [,) b 0>7; range [,) m 3>8");
	CU_ASSERT_EQUAL(try_commit(txn), MVCC_ECONFLICT);
	mvcc_txn_abort(txn);
	fixture_close(fx);
}

static void test_what_is_again_as_it_was_is_no_conflict_for_those_who_stay(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;

	for (int i = 0; i < 3; i++) {
		txn = begin(fx->db);
		if (i == 2)
			fx->db->spill_bytes = 1;
		assert_txn_value(txn, "a", NULL);
		assert_txn_range(txn, "r", "s", "");
		txn_put(txn, i == 2 ? "a" : "b", "1");
		fx->db->spill_bytes = SPILL_BYTES_MAX;
		put(fx->db, "a", "1");
		del(fx->db, "a");
		put(fx->db, "r", "1");
		del(fx->db, "r");
		assert_told(txn, "");
		CU_ASSERT_EQUAL(mvcc_txn_commit(txn, NULL, i ? MVCC_COMMIT_KEEP_CONFLICT : 0, NULL),
				i ? 0 : MVCC_ECONFLICT);
	}
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "a=1 b=1");
	fixture_verify(fx);
	fixture_close(fx);
}

static void test_written_keys_of_a_spilled_transaction_are_told(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn, *small;

	put(fx->db, "a", "1");
	put(fx->db, "b", "1");
	txn = begin(fx->db);
	small = begin(fx->db);
	fx->db->spill_bytes = 1;
	txn_put(txn, "a", "mine");
	txn_del(txn, "b");
	fx->db->spill_bytes = SPILL_BYTES_MAX;
	txn_put(txn, "c", "mine"); /* in memory still */
	txn_put(txn, "d", "mine");
	txn_put(small, "a", "late");
	put(fx->db, "a", "2");
	put(fx->db, "c", "2");
	del(fx->db, "b");
	assert_told(small, "");
	for (int i = 0; i < 2; i++) {
		assert_told(txn, i ? "write a 2>4; write b 3>0; write c 0>5" :
				     "write c 0>5; write a 2>4; write b 3>0");
		CU_ASSERT_EQUAL(try_commit(txn), MVCC_ECONFLICT);
	}
	txn_put(txn, "e", "more");
	assert_txn_range(txn, "", "", "a=mine c=mine d=mine e=more");
	mvcc_txn_abort(txn);
	commit(small);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "a=late c=2");
	CU_ASSERT_EQUAL(fixture_rows_of(fx, "stage", ""), 0);
	fixture_verify(fx);
	fixture_close(fx);
}

static void test_telling_stops_when_asked(void)
{
	struct fixture *fx = fixture_open();
	struct told told = { .stop_at = 2 };
	struct mvcc_txn *txn = begin(fx->db);

	assert_txn_value(txn, "a", NULL);
	assert_txn_value(txn, "b", NULL);
	assert_txn_value(txn, "c", NULL);
	put(fx->db, "a", "1");
	put(fx->db, "b", "1");
	put(fx->db, "c", "1");
	CU_ASSERT_EQUAL(mvcc_txn_conflicts(txn, note, &told), 7);
	CU_ASSERT_EQUAL(told.n, 2);
	mvcc_txn_abort(txn);
	fixture_close(fx);
}

/* What a kept transaction writes is what it would have written at once: nothing of what the judge saw stays. */
static void test_a_kept_transaction_builds_on_what_it_reads(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_item item = { 0 };
	struct mvcc_txn *txn;
	mvcc_rev_t rev = 0;

	put(fx->db, "k", "1");
	put(fx->db, "dir", "1");
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_expect_exists(txn, str("dir")), 0);
	txn_put(txn, "k", "mine");
	put(fx->db, "k", "2");
	del(fx->db, "dir");
	CU_ASSERT_EQUAL(try_commit(txn), MVCC_ECONFLICT);
	put(fx->db, "k", "3");
	put(fx->db, "dir", "1");
	CU_ASSERT_EQUAL(mvcc_txn_peek(txn, str("k"), &item), 0);
	CU_ASSERT_EQUAL(item.version, 2);
	mvcc_item_release(&item);
	CU_ASSERT_EQUAL(mvcc_txn_commit(txn, NULL, MVCC_COMMIT_KEEP_CONFLICT, &rev), 0);
	assert_record_at(fx->db, rev, "k", "mine", 2, 8, 4);
	fixture_verify(fx);
	fixture_close(fx);
}

/* ---- against a plain list ------------------------------------------------------------------- */

enum { KEYS = 12, ROUNDS = 300 };

struct model {
	struct mvcc *db;
	uint64_t seed;
	mvcc_rev_t now[KEYS], base[KEYS];
	bool own_put[KEYS], own_del[KEYS], spilled[KEYS];
	bool read[KEYS], exists[KEYS], walked[KEYS], empty[KEYS], broken;
};

static void model_key(char out[8], unsigned i)
{
	snprintf(out, 8, "k%02u", i);
}

static void others_change(struct model *m)
{
	unsigned i = (unsigned)random_below(&m->seed, KEYS);
	char key[8];

	model_key(key, i);
	if (m->now[i] && random_below(&m->seed, 2)) {
		del(m->db, key);
		m->now[i] = 0;
	} else {
		m->now[i] = put(m->db, key, "x");
	}
}

static void walk(struct model *m, struct mvcc_txn *txn, unsigned from, unsigned to)
{
	const struct mvcc_item *item;
	struct mvcc_cursor *c;
	struct slice key;
	char start[8], end[8];

	model_key(start, from);
	model_key(end, to);
	CU_ASSERT_EQUAL_FATAL(mvcc_txn_cursor_open(txn, str(start), str(end), &c), 0);
	while (mvcc_cursor_next(c, &key, &item) == 1)
		;
	mvcc_cursor_close(c);
	for (unsigned i = from; i < to; i++)
		m->walked[i] = true;
}

static void expect_empty(struct model *m, struct mvcc_txn *txn, unsigned from, unsigned to)
{
	char start[8], end[8];

	model_key(start, from);
	model_key(end, to);
	CU_ASSERT_EQUAL(mvcc_txn_expect_empty(txn, str(start), str(end)), 0);
	for (unsigned i = from; i < to; i++) {
		m->empty[i] = true;
		m->broken |= m->own_put[i];
	}
}

static void act(struct model *m, struct mvcc_txn *txn, bool spills)
{
	unsigned i = (unsigned)random_below(&m->seed, KEYS);
	unsigned to = i + 1 + (unsigned)random_below(&m->seed, KEYS - i);
	struct mvcc_item item = { 0 };
	char key[8];

	model_key(key, i);
	switch (random_below(&m->seed, 8)) {
	case 0:
	case 1:
		CU_ASSERT_NOT_EQUAL(mvcc_txn_get(txn, str(key), &item), -EIO);
		mvcc_item_release(&item);
		m->read[i] |= !m->own_put[i] && !m->own_del[i];
		break;
	case 2:
		walk(m, txn, i, to > i + 3 ? i + 3 : to);
		break;
	case 3:
		CU_ASSERT_EQUAL(mvcc_txn_expect_exists(txn, str(key)), 0);
		m->broken |= m->own_del[i];
		m->exists[i] |= !m->own_put[i] && !m->own_del[i];
		break;
	case 4:
		expect_empty(m, txn, i, i + 1);
		break;
	case 5:
		txn_del(txn, key);
		m->own_put[i] = false;
		m->own_del[i] = true;
		m->spilled[i] |= spills;
		break;
	default:
		txn_put(txn, key, "mine");
		m->own_put[i] = true;
		m->own_del[i] = false;
		m->spilled[i] |= spills;
		break;
	}
}

/* A bit for each kind and key. */
static void expected_bits(const struct model *m, bool bits[5][KEYS])
{
	for (unsigned i = 0; i < KEYS; i++) {
		bool changed = m->now[i] != m->base[i];

		bits[MVCC_CONFLICT_READ][i] = m->read[i] && changed;
		bits[MVCC_CONFLICT_RANGE][i] = m->walked[i] && changed;
		bits[MVCC_CONFLICT_EXISTS][i] = m->exists[i] && !m->now[i] && !(m->read[i] && changed);
		bits[MVCC_CONFLICT_EMPTY][i] = m->empty[i] && m->now[i] && !m->own_del[i];
		bits[MVCC_CONFLICT_WRITE][i] = m->spilled[i] && changed;
	}
}

static int note_bit(void *arg, const struct mvcc_conflict *c)
{
	bool(*told)[KEYS] = arg;
	unsigned i = 0;

	CU_ASSERT_EQUAL(c->key.len, 3);
	i = (unsigned)(c->key.data[1] - '0') * 10 + (unsigned)(c->key.data[2] - '0');
	CU_ASSERT(i < KEYS);
	if (i < KEYS && !c->own)
		told[c->kind][i] = true;
	return 0;
}

/* Compares what is told; is it anything? */
static bool check_told(const struct model *m, struct mvcc_txn *txn)
{
	bool expected[5][KEYS] = { { false } }, told[5][KEYS] = { { false } };
	bool any = m->broken;

	expected_bits(m, expected);
	CU_ASSERT_EQUAL(mvcc_txn_conflicts(txn, note_bit, told), 0);
	for (unsigned kind = 0; kind < 5; kind++)
		for (unsigned i = 0; i < KEYS; i++) {
			/* That a written key was read may be forgotten. */
			if (kind != MVCC_CONFLICT_READ || !m->spilled[i])
				CU_ASSERT_EQUAL(told[kind][i], expected[kind][i]);
			any |= expected[kind][i];
		}
	return any;
}

static void model_round(struct model *m, bool spills)
{
	struct mvcc_txn *txn = begin(m->db);
	unsigned steps = 2 + (unsigned)random_below(&m->seed, 8);
	int err;

	memcpy(m->base, m->now, sizeof(m->base));
	m->db->spill_bytes = spills ? 1 : SPILL_BYTES_MAX;
	for (unsigned i = 0; i < steps; i++)
		act(m, txn, spills);
	m->db->spill_bytes = SPILL_BYTES_MAX;
	for (unsigned tries = 0; tries < 3; tries++) {
		bool any;

		for (uint64_t n = random_below(&m->seed, 4); n > 0; n--)
			others_change(m);
		any = check_told(m, txn);
		err = try_commit(txn);
		CU_ASSERT_EQUAL(err, any ? MVCC_ECONFLICT : 0);
		if (err != MVCC_ECONFLICT)
			break;
	}
	if (err == MVCC_ECONFLICT)
		mvcc_txn_abort(txn);
	for (unsigned i = 0; !err && i < KEYS; i++)
		m->now[i] = m->own_put[i] ? mvcc_current(m->db) : m->own_del[i] ? 0 : m->now[i];
}

static void test_a_model_agrees(void)
{
	uint64_t seed = fixture_env("MVCC_TEST_SEED", (uint64_t)getpid());
	struct fixture *fx = fixture_open();

	printf("seed %llu ", (unsigned long long)seed);
	struct model m = { .db = fx->db, .seed = seed };

	for (unsigned round = 0; round < ROUNDS && !CU_get_number_of_failures(); round++) {
		struct model next = { .db = fx->db, .seed = m.seed };

		memcpy(next.now, m.now, sizeof(m.now));
		m = next;
		model_round(&m, round % 2);
		if (round % 16 == 0)
			fixture_drain(fx);
	}
	fixture_verify(fx);
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
	UNIT_TEST(test_all_conflicts_are_told_and_the_transaction_lives_on),
	UNIT_TEST(test_the_conflict_of_a_guard_goes_with_its_cause),
	UNIT_TEST(test_guards_that_the_transaction_breaks_itself),
	UNIT_TEST(test_only_the_part_of_a_range_that_was_walked_counts),
	UNIT_TEST(test_what_is_again_as_it_was_is_no_conflict_for_those_who_stay),
	UNIT_TEST(test_written_keys_of_a_spilled_transaction_are_told),
	UNIT_TEST(test_telling_stops_when_asked),
	UNIT_TEST(test_a_kept_transaction_builds_on_what_it_reads),
	UNIT_TEST(test_a_model_agrees),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = {
		UNIT_SUITE("conflicts told on memory", on_memory, NULL, tests),
		UNIT_SUITE("conflicts told on rocksdb", on_rocks, NULL, tests),
		CU_SUITE_INFO_NULL,
	};

	return unit_main(argc, argv, suites);
}
