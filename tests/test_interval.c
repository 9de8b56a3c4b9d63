/* The index of intervals, against a plain list of them. */
#include "mvcc/interval.h"

#include "tests/store_fixture.h"
#include "tests/unit.h"

enum { MANY = 400, KEYS = 64 };

struct range {
	struct interval iv;
	bool in;
	unsigned found;
	uint8_t start[2], end[2];
};

static void count_found(void *arg, struct interval *iv)
{
	(void)arg;
	((struct range *)(void *)iv)->found++;
}

static struct range range_of(const char *start, const char *end)
{
	return (struct range){ .iv = { .start = str(start), .end = str(end) } };
}

static void test_a_table_of_intervals_and_keys(void)
{
	struct range r[] = {
		range_of("", ""),    range_of("b", ""),  range_of("b", "d"), range_of("b", "c"),
		range_of("c", "c"),  range_of("d", "b"), range_of("a", "e"), range_of("c", "cc"),
		range_of("cc", "d"), range_of("b", "d"),
	};
	static const struct {
		const char *key, *found;
	} rows[] = {
		{ "", "1000000000" },  { "a", "1000001000" },  { "b", "1111001001" },  { "bz", "1111001001" },
		{ "c", "1110001101" }, { "cb", "1110001101" }, { "cc", "1110001011" }, { "d", "1100001000" },
		{ "e", "1100000000" }, { "zz", "1100000000" },
	};
	struct interval_index ix = { 0 };

	for (unsigned i = 0; i < 10; i++)
		interval_insert(&ix, &r[i].iv);
	CU_ASSERT_EQUAL(ix.n, 10);
	for (unsigned row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
		char found[11] = "";

		interval_stab(&ix, str(rows[row].key), count_found, NULL);
		for (unsigned i = 0; i < 10; i++) {
			found[i] = (char)('0' + r[i].found);
			r[i].found = 0;
		}
		CU_ASSERT_STRING_EQUAL(found, rows[row].found);
	}
	for (unsigned i = 0; i < 10; i++)
		interval_remove(&ix, &r[i].iv);
	CU_ASSERT_EQUAL(ix.n, 0);
	CU_ASSERT_PTR_NULL(ix.root);
}

static void range_random(struct range *r, uint64_t *seed)
{
	r->start[0] = (uint8_t)random_below(seed, KEYS);
	r->end[0] = (uint8_t)random_below(seed, KEYS + 4);
	if (random_below(seed, 3) == 0)
		r->end[0] = (uint8_t)(r->start[0] + random_below(seed, 3));
	r->iv.start = slice_of(r->start, random_below(seed, 10) ? 1 + random_below(seed, 2) : 0);
	r->iv.end = slice_of(r->end, random_below(seed, 10) ? 1 + random_below(seed, 2) : 0);
}

static bool holds(const struct range *r, struct slice key)
{
	return r->in && slice_cmp(r->iv.start, key) <= 0 && (!r->iv.end.len || slice_cmp(key, r->iv.end) < 0);
}

/* Does the index find exactly what the list finds? */
static bool agrees(const struct interval_index *ix, struct range *all, struct slice key)
{
	bool same = true;

	interval_stab(ix, key, count_found, NULL);
	for (unsigned i = 0; i < MANY; i++) {
		same = same && all[i].found == holds(&all[i], key);
		all[i].found = 0;
	}
	return same;
}

static void test_random_intervals_are_found_as_in_a_list(void)
{
	static struct range all[MANY];
	struct interval_index ix = { 0 };
	uint64_t seed = fixture_env("INTERVAL_SEED", 4711);
	size_t n = 0;

	memset(all, 0, sizeof(all));
	for (unsigned step = 0; step < 20000; step++) {
		struct range *r = &all[random_below(&seed, MANY)];
		uint8_t key[2] = { (uint8_t)random_below(&seed, KEYS + 4), 0 };

		if (r->in) {
			interval_remove(&ix, &r->iv);
			n--;
		} else {
			range_random(r, &seed);
			interval_insert(&ix, &r->iv);
			n++;
		}
		r->in = !r->in;
		if (step % 7 == 0 && !agrees(&ix, all, slice_of(key, random_below(&seed, 3)))) {
			CU_FAIL("index and list differ");
			return;
		}
	}
	CU_ASSERT_EQUAL(ix.n, n);
}

static unsigned depth(const struct interval *t)
{
	unsigned l = t ? depth(t->left) : 0, r = t ? depth(t->right) : 0;

	return t ? 1 + (l > r ? l : r) : 0;
}

/* Keys that come in their order are what makes a list of a tree that is not balanced. */
static void test_the_tree_stays_flat(void)
{
	enum { LARGE = 100000 };
	struct interval_index ix = { 0 };
	struct interval *all = calloc(LARGE, sizeof(*all));
	uint8_t(*keys)[8] = calloc(LARGE, sizeof(*keys));

	CU_ASSERT_FATAL(all && keys);
	for (unsigned i = 0; i < LARGE; i++) {
		put_be64(keys[i], i);
		all[i].start = slice_of(keys[i], 8);
		interval_insert(&ix, &all[i]);
	}
	CU_ASSERT(depth(ix.root) < 80);
	for (unsigned i = 0; i < LARGE; i++)
		interval_remove(&ix, &all[i]);
	CU_ASSERT_PTR_NULL(ix.root);
	free(all);
	free(keys);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_a_table_of_intervals_and_keys),
	UNIT_TEST(test_random_intervals_are_found_as_in_a_list),
	UNIT_TEST(test_the_tree_stays_flat),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("interval", NULL, NULL, tests), CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
