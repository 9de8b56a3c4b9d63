/*
 * Ranges: what matches, in which order, how many, and that it is all the same wherever the rows are: buffered, in the
 * engine, or the transaction's own. etcd's tables of TestKVRange*, and random data against a plain sort.
 */
#include "tests/store_fixture.h"

#include "rocks_backend/rocks.h"
#include "tests/unit.h"

#include <errno.h>

/* ---- one line each ------------------------------------------------------------------------- */

/* The keys of the rows, as "a b c", with "..." behind when there are more, and "/n" when counted. */
static void assert_rows(const struct mvcc_rows *rows, unsigned flags, const char *expected)
{
	char got[1024] = "";
	size_t len = 0;

	for (size_t i = 0; i < rows->n && len < sizeof(got) - 64; i++)
		len += (size_t)snprintf(got + len, sizeof(got) - len, "%s%.*s", i ? " " : "",
					(int)rows->rows[i].key.len, (const char *)rows->rows[i].key.data);
	if (rows->more)
		len += (size_t)snprintf(got + len, sizeof(got) - len, "...");
	if (flags & (MVCC_RANGE_COUNT | MVCC_RANGE_COUNT_ONLY))
		snprintf(got + len, sizeof(got) - len, "/%llu", (unsigned long long)rows->count);
	if (strcmp(got, expected) != 0)
		fprintf(stderr, "got \"%s\", not \"%s\"\n", got, expected);
	CU_ASSERT_STRING_EQUAL(got, expected);
}

static void assert_range(struct mvcc *db, mvcc_rev_t rev, const char *start, const char *end,
			 struct mvcc_range_opt opt, const char *expected)
{
	struct mvcc_rows rows = { 0 };
	struct mvcc_view *view = NULL;

	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(db, rev, &view), 0);
	CU_ASSERT_EQUAL(mvcc_range(view, str(start), str(end), &opt, &rows), 0);
	assert_rows(&rows, opt.flags, expected);
	mvcc_rows_release(&rows);
	mvcc_view_close(view);
}

static void assert_txn_rows(struct mvcc_txn *txn, const char *start, const char *end,
			    struct mvcc_range_opt opt, const char *expected)
{
	struct mvcc_rows rows = { 0 };

	CU_ASSERT_EQUAL(mvcc_txn_range(txn, str(start), str(end), &opt, &rows), 0);
	assert_rows(&rows, opt.flags, expected);
	mvcc_rows_release(&rows);
}

/* ---- etcd's tables ------------------------------------------------------------------------- */

/* Three keys, of revisions 2, 3 and 4. */
static struct fixture *three_keys(void)
{
	struct fixture *fx = fixture_open();

	CU_ASSERT_EQUAL(put(fx->db, "foo", "bar"), 2);
	CU_ASSERT_EQUAL(put(fx->db, "foo1", "bar1"), 3);
	CU_ASSERT_EQUAL(put(fx->db, "foo2", "bar2"), 4);
	return fx;
}

static void test_bounds_are_half_open(void)
{
	static const struct {
		const char *start, *end, *expected;
	} table[] = {
		{ "doo", "foo", "" },          { "doo", "foo1", "foo" },
		{ "foo", "foo1", "foo" },      { "doo", "foo3", "foo foo1 foo2" },
		{ "foo", "foo2", "foo foo1" }, { "foo1", "", "foo1 foo2" },
		{ "", "", "foo foo1 foo2" },   { "foo", "foo", "" },
		{ "foo2", "foo1", "" },        { "foo3", "", "" },
		{ "", "foo1", "foo" },         { "foo", "foo\x01", "foo" },
	};
	struct fixture *fx = three_keys();
	struct mvcc_txn *txn = begin(fx->db);

	for (int drained = 0; drained < 2; drained++) {
		for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
			assert_range(fx->db, 0, table[i].start, table[i].end, (struct mvcc_range_opt){ 0 },
				     table[i].expected);
			assert_txn_rows(txn, table[i].start, table[i].end, (struct mvcc_range_opt){ 0 },
					table[i].expected);
		}
		fixture_drain(fx);
	}
	mvcc_txn_abort(txn);
	fixture_close(fx);
}

static void test_each_revision_has_its_rows(void)
{
	/* etcd's -1 and 0 are "the newest": our 0 */
	static const struct {
		mvcc_rev_t rev;
		const char *expected;
	} table[] = {
		{ 0, "foo foo1 foo2" }, { 1, "" }, { 2, "foo" }, { 3, "foo foo1" }, { 4, "foo foo1 foo2" }
	};
	struct fixture *fx = three_keys();
	struct mvcc_view *view;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		assert_range(fx->db, table[i].rev, "foo", "foo3", (struct mvcc_range_opt){ 0 },
			     table[i].expected);
	CU_ASSERT_EQUAL(mvcc_view_open(fx->db, 5, &view), MVCC_EFUTURE);
	CU_ASSERT_EQUAL(mvcc_view_open(fx->db, 100, &view), MVCC_EFUTURE);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 4);
	fixture_close(fx);
}

static void test_a_limit_does_not_touch_the_count(void)
{
	static const struct {
		size_t limit;
		const char *expected;
	} table[] = { { 0, "foo foo1 foo2/3" },
		      { 1, "foo.../3" },
		      { 2, "foo foo1.../3" },
		      { 3, "foo foo1 foo2/3" },
		      { 100, "foo foo1 foo2/3" } };
	struct fixture *fx = three_keys();

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		assert_range(fx->db, 0, "foo", "foo3",
			     (struct mvcc_range_opt){ .limit = table[i].limit, .flags = MVCC_RANGE_COUNT },
			     table[i].expected);
	assert_range(fx->db, 0, "foo", "foo3",
		     (struct mvcc_range_opt){ .limit = 1, .flags = MVCC_RANGE_COUNT_ONLY }, "/3");
	assert_range(fx->db, 0, "foo1", "", (struct mvcc_range_opt){ .flags = MVCC_RANGE_COUNT_ONLY }, "/2");
	fixture_close(fx);
}

static void test_without_counting_it_counts_what_it_gives(void)
{
	struct fixture *fx = three_keys();
	struct mvcc_view *view = NULL;
	struct mvcc_rows rows;

	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, 0, &view), 0);
	CU_ASSERT_EQUAL(mvcc_range(view, str(""), str(""), &(struct mvcc_range_opt){ .limit = 2 }, &rows), 0);
	CU_ASSERT_EQUAL(rows.count, 2);
	CU_ASSERT_EQUAL(rows.n, 2);
	CU_ASSERT_TRUE(rows.more);
	mvcc_rows_release(&rows);
	CU_ASSERT_EQUAL(mvcc_range(view, str(""), str(""), NULL, &rows), 0);
	CU_ASSERT_EQUAL(rows.count, 3);
	CU_ASSERT_FALSE(rows.more);
	mvcc_rows_release(&rows);
	mvcc_view_close(view);
	fixture_close(fx);
}

static void test_unknown_options_are_refused(void)
{
	struct fixture *fx = three_keys();
	struct mvcc_txn *txn = begin(fx->db);
	struct mvcc_view *view = NULL;
	struct mvcc_range_opt bad[] = { { .flags = 16 },
					{ .flags = 0x80000000u | MVCC_RANGE_KEYS },
					{ .sort = (enum mvcc_sort)(MVCC_SORT_VALUE + 1) } };
	struct mvcc_rows rows = { 0 };

	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, 0, &view), 0);
	for (size_t i = 0; i < 3; i++) {
		CU_ASSERT_EQUAL(mvcc_range(view, str(""), str(""), &bad[i], &rows), -EINVAL);
		CU_ASSERT_EQUAL(mvcc_txn_range(txn, str(""), str(""), &bad[i], &rows), -EINVAL);
		CU_ASSERT_PTR_NULL(rows.rows);
	}
	mvcc_view_close(view);
	mvcc_txn_abort(txn);
	fixture_close(fx);
}

/* ---- keys alone ---------------------------------------------------------------------------- */

static void test_keys_come_without_values_and_blobs(void)
{
	static const enum mvcc_sort sorts[] = { MVCC_SORT_KEY, MVCC_SORT_VALUE, MVCC_SORT_MOD };
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn = begin(fx->db);
	struct mvcc_view *view = NULL;
	mvcc_blob_t blob = 0;

	CU_ASSERT_EQUAL(mvcc_txn_stage_blob(txn, str("blob"), &blob), 0);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("a"), str("2"), &blob, 1), 0);
	txn_put(txn, "b", "1");
	CU_ASSERT_EQUAL(commit(txn), 2);
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, 0, &view), 0);
	for (size_t i = 0; i < 3; i++) {
		struct mvcc_range_opt opt = { .flags = MVCC_RANGE_KEYS, .sort = sorts[i] };
		struct mvcc_rows rows;

		CU_ASSERT_EQUAL_FATAL(mvcc_range(view, str(""), str(""), &opt, &rows), 0);
		assert_rows(&rows, 0, sorts[i] == MVCC_SORT_VALUE ? "b a" : "a b");
		for (size_t j = 0; j < rows.n; j++) {
			CU_ASSERT_EQUAL(rows.rows[j].item.value.len, 0);
			CU_ASSERT_EQUAL(rows.rows[j].item.nblobs, 0);
			CU_ASSERT_EQUAL(rows.rows[j].item.own.cap,
					0); /* nothing was copied, or it is freed */
			CU_ASSERT_EQUAL(rows.rows[j].item.mod_rev, 2);
			CU_ASSERT_EQUAL(rows.rows[j].item.version, 1);
		}
		mvcc_rows_release(&rows);
	}
	mvcc_view_close(view);
	fixture_close(fx);
}

static void test_rows_of_any_order_have_values_and_blobs(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_range_opt opt = { .limit = 2, .flags = MVCC_RANGE_DESCENDING };
	struct mvcc_txn *txn = begin(fx->db);
	struct mvcc_view *view = NULL;
	struct mvcc_rows rows = { 0 };
	mvcc_blob_t blob = 0;

	CU_ASSERT_EQUAL(mvcc_txn_stage_blob(txn, str("blob"), &blob), 0);
	txn_put(txn, "a", "a long value that has to be replaced in the memory of a row");
	txn_put(txn, "b", "");
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("c"), str("third"), &blob, 1), 0);
	txn_put(txn, "d", "fourth");
	commit(txn);
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, 0, &view), 0);
	CU_ASSERT_EQUAL_FATAL(mvcc_range(view, str(""), str(""), &opt, &rows), 0);
	assert_rows(&rows, 0, "d c...");
	CU_ASSERT(slice_eq(rows.rows[0].item.value, str("fourth")));
	CU_ASSERT_EQUAL(rows.rows[0].item.nblobs, 0);
	CU_ASSERT(slice_eq(rows.rows[1].item.value, str("third")));
	CU_ASSERT_EQUAL_FATAL(rows.rows[1].item.nblobs, 1);
	CU_ASSERT_EQUAL(rows.rows[1].item.blobs[0], blob);
	mvcc_rows_release(&rows);
	mvcc_view_close(view);
	fixture_close(fx);
}

/* ---- buffer and engine --------------------------------------------------------------------- */

/* Every split of six keys between buffer and engine, newer and older versions in both, each limit. */
static void test_limits_count_across_buffer_and_engine(void)
{
	static const char *const keys[] = { "a", "b", "c", "d", "e", "f" };
	static const char *const ascending[] = { "a b c d e f/6", "a.../6",       "a b.../6",
						 "a b c.../6",    "a b c d.../6", "a b c d e.../6",
						 "a b c d e f/6" };
	static const char *const descending[] = { "f e d c b a/6", "f.../6",       "f e.../6",
						  "f e d.../6",    "f e d c.../6", "f e d c b.../6",
						  "f e d c b a/6" };

	struct fixture *fx = fixture_open();

	for (unsigned split = 0; split < 64; split++) {
		struct mvcc_txn *txn = begin(fx->db);

		for (unsigned i = 0; i < 6; i++)
			txn_del(txn, keys[i]);
		txn_put(txn, "bb", "deleted later"); /* in the engine, below a tombstone in the buffer */
		for (unsigned i = 0; i < 6; i++)
			if (!(split >> i & 1))
				txn_put(txn, keys[i], "engine");
		commit(txn);
		fixture_drain(fx);
		fixture_sluice_shut(fx);
		del(fx->db, "bb");
		for (unsigned i = 0; i < 6; i++)
			if (split >> i & 1)
				put(fx->db, keys[i], "buffer");
		for (unsigned limit = 0; limit <= 6; limit++) {
			struct mvcc_range_opt opt = { .limit = limit, .flags = MVCC_RANGE_COUNT };

			assert_range(fx->db, 0, "", "", opt, ascending[limit]);
			opt.flags |= MVCC_RANGE_DESCENDING;
			assert_range(fx->db, 0, "", "", opt, descending[limit]);
		}
		fixture_sluice_open(fx);
	}
	fixture_close(fx);
}

static void test_a_key_put_three_times_in_one_transaction_is_one_row(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;

	for (int round = 0; round < 2; round++) {
		if (round)
			fixture_sluice_shut(fx);
		txn = begin(fx->db);
		for (int i = 0; i < 3; i++) {
			txn_put(txn, "k", i == 2 ? "last" : "before");
			txn_put(txn, "l", "other");
			assert_txn_rows(txn, "", "", (struct mvcc_range_opt){ .flags = MVCC_RANGE_COUNT },
					"k l/2");
		}
		commit(txn);
		assert_range(fx->db, 0, "", "", (struct mvcc_range_opt){ .flags = MVCC_RANGE_COUNT },
			     "k l/2");
		assert_range_at(fx->db, 0, "", "", 0, "k=last l=other");
		if (!round)
			fixture_drain(fx);
	}
	fixture_close(fx);
}

/* ---- filters and orders -------------------------------------------------------------------- */

static void test_filters_include_their_bounds(void)
{
	struct fixture *fx = three_keys(); /* created at 2, 3, 4 */

	put(fx->db, "foo", "again"); /* modified at 5 */
	assert_range(fx->db, 0, "", "", (struct mvcc_range_opt){ .min_mod = 4 }, "foo foo2");
	assert_range(fx->db, 0, "", "", (struct mvcc_range_opt){ .max_mod = 4 }, "foo1 foo2");
	assert_range(fx->db, 0, "", "", (struct mvcc_range_opt){ .min_mod = 3, .max_mod = 3 }, "foo1");
	assert_range(fx->db, 0, "", "", (struct mvcc_range_opt){ .min_create = 3 }, "foo1 foo2");
	assert_range(fx->db, 0, "", "", (struct mvcc_range_opt){ .max_create = 2 }, "foo");
	assert_range(fx->db, 0, "", "", (struct mvcc_range_opt){ .min_create = 2, .max_mod = 3 }, "foo1");
	assert_range(fx->db, 0, "", "", (struct mvcc_range_opt){ .min_mod = 6 }, "");
	/* the limit is for what matches */
	assert_range(fx->db, 0, "", "",
		     (struct mvcc_range_opt){ .min_create = 3, .limit = 1, .flags = MVCC_RANGE_COUNT },
		     "foo1.../2");
	assert_range(fx->db, 0, "", "", (struct mvcc_range_opt){ .min_create = 3, .limit = 2 }, "foo1 foo2");
	assert_range(fx->db, 0, "", "",
		     (struct mvcc_range_opt){ .max_create = 3, .flags = MVCC_RANGE_COUNT_ONLY }, "/2");
	fixture_close(fx);
}

static void test_own_rows_are_the_newest(void)
{
	struct fixture *fx = three_keys();
	struct mvcc_txn *txn = begin(fx->db);

	txn_put(txn, "foo", "own");
	txn_put(txn, "new", "own");
	assert_txn_rows(txn, "", "", (struct mvcc_range_opt){ .sort = MVCC_SORT_MOD }, "foo1 foo2 foo new");
	assert_txn_rows(txn, "", "", (struct mvcc_range_opt){ .sort = MVCC_SORT_CREATE },
			"foo foo1 foo2 new");
	assert_txn_rows(txn, "", "", (struct mvcc_range_opt){ .max_mod = 4 }, "foo1 foo2");
	assert_txn_rows(txn, "", "", (struct mvcc_range_opt){ .min_mod = 4 }, "foo foo2 new");
	assert_txn_rows(txn, "", "", (struct mvcc_range_opt){ .max_create = 4 }, "foo foo1 foo2");
	mvcc_txn_abort(txn);
	fixture_close(fx);
}

static void test_rows_walked_by_a_transaction_are_validated_up_to_the_limit(void)
{
	struct fixture *fx = three_keys();
	struct mvcc_range_opt two = { .limit = 1 }; /* the second row tells that there are more */
	struct mvcc_txn *near = begin(fx->db), *far = begin(fx->db), *all = begin(fx->db);

	assert_txn_rows(near, "", "", two, "foo...");
	assert_txn_rows(far, "", "", two, "foo...");
	assert_txn_rows(all, "", "", (struct mvcc_range_opt){ .limit = 1, .flags = MVCC_RANGE_COUNT },
			"foo.../3");
	txn_put(near, "x", "1");
	txn_put(far, "x", "1");
	txn_put(all, "x", "1");
	put(fx->db, "foo2", "behind what was walked");
	CU_ASSERT_EQUAL(commit_err(near), 0);
	CU_ASSERT_EQUAL(commit_err(all), MVCC_ECONFLICT);
	del(fx->db, "foo1");
	CU_ASSERT_EQUAL(commit_err(far), MVCC_ECONFLICT);
	fixture_close(fx);
}

/* ---- random data against a plain sort ------------------------------------------------------ */

enum { PLAIN_MAX = 120 };

struct plain {
	char key[8], value[8];
	mvcc_rev_t create, mod;
	uint64_t version;
	bool there, own;
};

static struct mvcc_range_opt sorted_by; /* what by_opt() compares by */

static int number_order(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

static int by_opt(const void *x, const void *y)
{
	const struct plain *a = x, *b = y;
	int cmp = 0;

	switch (sorted_by.sort) {
	case MVCC_SORT_KEY:
		cmp = strcmp(a->key, b->key);
		break;
	case MVCC_SORT_VERSION:
		cmp = number_order(a->version, b->version);
		break;
	case MVCC_SORT_CREATE:
		cmp = number_order(a->create, b->create);
		break;
	case MVCC_SORT_MOD:
		cmp = number_order(a->mod, b->mod);
		break;
	case MVCC_SORT_VALUE:
		cmp = strcmp(a->value, b->value);
		break;
	}
	cmp = sorted_by.flags & MVCC_RANGE_DESCENDING ? -cmp : cmp;
	return cmp ? cmp : strcmp(a->key, b->key);
}

static bool matches(const struct plain *p, const struct mvcc_range_opt *opt)
{
	return p->there && p->mod >= opt->min_mod && (!opt->max_mod || p->mod <= opt->max_mod) &&
	       p->create >= opt->min_create && (!opt->max_create || p->create <= opt->max_create);
}

static bool same_row(const struct mvcc_row *row, const struct plain *p, bool values)
{
	return slice_eq(slice_buf(&row->key), str(p->key)) &&
	       slice_eq(row->item.value, values ? str(p->value) : str("")) &&
	       row->item.mod_rev == (p->own ? 0 : p->mod) && row->item.version == p->version;
}

static bool same_as_plain(const struct mvcc_rows *rows, const struct plain *plain,
			  const struct mvcc_range_opt *opt)
{
	static struct plain sorted[PLAIN_MAX];
	size_t n = 0, given;

	for (size_t i = 0; i < PLAIN_MAX; i++)
		if (matches(&plain[i], opt))
			sorted[n++] = plain[i];
	sorted_by = *opt;
	qsort(sorted, n, sizeof(sorted[0]), by_opt);
	given = opt->limit && opt->limit < n ? opt->limit : n;
	if (opt->flags & MVCC_RANGE_COUNT_ONLY)
		return rows->n == 0 && rows->count == n && !rows->more;
	if (rows->n != given || rows->more != (given < n) ||
	    rows->count != (opt->flags & MVCC_RANGE_COUNT ? n : given))
		return false;
	for (size_t i = 0; i < given; i++)
		if (!same_row(&rows->rows[i], &sorted[i], !(opt->flags & MVCC_RANGE_KEYS)))
			return false;
	return true;
}

static struct mvcc_range_opt random_opt(uint64_t *random, mvcc_rev_t current)
{
	struct mvcc_range_opt opt = {
		.limit = random_below(random, 3) ? random_below(random, PLAIN_MAX) : 0,
		.flags = (unsigned)random_below(random, 16),
		.sort = (enum mvcc_sort)random_below(random, MVCC_SORT_VALUE + 1),
	};

	if (random_below(random, 3) == 0)
		opt.min_mod = random_below(random, current + 1);
	if (random_below(random, 3) == 0)
		opt.max_mod = random_below(random, current + 1);
	if (random_below(random, 3) == 0)
		opt.min_create = random_below(random, current + 1);
	if (random_below(random, 3) == 0)
		opt.max_create = random_below(random, current + 1);
	return opt;
}

/* Changes a few keys, in the store by a commit, or in a transaction that stays open. */
static void change_some(struct mvcc_txn *txn, struct plain *plain, uint64_t *random, mvcc_rev_t rev, bool own)
{
	for (uint64_t n = 1 + random_below(random, 6); n > 0; n--) {
		struct plain *p = &plain[random_below(random, PLAIN_MAX)];

		if (p->there && random_below(random, 5) == 0) {
			txn_del(txn, p->key);
			p->there = false;
			p->create = rev; /* of the tombstone: the next put in this revision begins anew */
			continue;
		}
		snprintf(p->value, sizeof(p->value), "v%02u", (unsigned)random_below(random, 20));
		txn_put(txn, p->key, p->value);
		if (!p->there) {
			p->create = rev;
			p->version = 1;
		} else if (p->mod != rev) {
			p->version++;
		}
		p->mod = rev;
		p->own = own;
		p->there = true;
	}
}

static void test_random_ranges_are_what_a_plain_sort_gives(void)
{
	static struct plain plain[PLAIN_MAX];
	uint64_t seed = fixture_env("MODEL_SEED", 20260), random = seed;
	struct fixture *fx = fixture_open_small_ring();
	unsigned wrong = 0;

	memset(plain, 0, sizeof(plain));
	for (unsigned i = 0; i < PLAIN_MAX; i++)
		snprintf(plain[i].key, sizeof(plain[i].key), "k%03u", i);
	for (int round = 0; round < 120; round++) {
		mvcc_rev_t rev = mvcc_current(fx->db) + 1;
		static struct plain mine[PLAIN_MAX];
		struct mvcc_txn *txn = begin(fx->db);
		struct mvcc_view *view = NULL;

		change_some(txn, plain, &random, rev, false);
		commit(txn);
		if (round % 40 == 20)
			fixture_drain(fx);
		rev = mvcc_current(fx->db);
		CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, 0, &view), 0);
		txn = begin(fx->db);
		memcpy(mine, plain, sizeof(mine));
		change_some(txn, mine, &random, UINT64_MAX, true);
		for (int i = 0; i < 20; i++) {
			struct mvcc_range_opt opt = random_opt(&random, rev);
			struct mvcc_rows rows = { 0 };

			CU_ASSERT_EQUAL(mvcc_range(view, str(""), str(""), &opt, &rows), 0);
			wrong += !same_as_plain(&rows, plain, &opt);
			mvcc_rows_release(&rows);
			CU_ASSERT_EQUAL(mvcc_txn_range(txn, str(""), str(""), &opt, &rows), 0);
			wrong += !same_as_plain(&rows, mine, &opt);
			mvcc_rows_release(&rows);
		}
		mvcc_txn_abort(txn);
		mvcc_view_close(view);
	}
	if (wrong)
		fprintf(stderr, "seed %llu: %u ranges are wrong\n", (unsigned long long)seed, wrong);
	CU_ASSERT_EQUAL(wrong, 0);
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
	UNIT_TEST(test_bounds_are_half_open),
	UNIT_TEST(test_each_revision_has_its_rows),
	UNIT_TEST(test_a_limit_does_not_touch_the_count),
	UNIT_TEST(test_without_counting_it_counts_what_it_gives),
	UNIT_TEST(test_unknown_options_are_refused),
	UNIT_TEST(test_keys_come_without_values_and_blobs),
	UNIT_TEST(test_rows_of_any_order_have_values_and_blobs),
	UNIT_TEST(test_limits_count_across_buffer_and_engine),
	UNIT_TEST(test_a_key_put_three_times_in_one_transaction_is_one_row),
	UNIT_TEST(test_filters_include_their_bounds),
	UNIT_TEST(test_own_rows_are_the_newest),
	UNIT_TEST(test_rows_walked_by_a_transaction_are_validated_up_to_the_limit),
	UNIT_TEST(test_random_ranges_are_what_a_plain_sort_gives),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = {
		UNIT_SUITE("ranges on memory", on_memory, NULL, tests),
		UNIT_SUITE("ranges on rocksdb", on_rocks, NULL, tests),
		CU_SUITE_INFO_NULL,
	};

	return unit_main(argc, argv, suites);
}
