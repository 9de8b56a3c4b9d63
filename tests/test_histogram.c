/* Histograms: where a time is counted, what is read out of them, and what a store counts. */
#include "mvcc/histogram.h"

#include "tests/store_fixture.h"
#include "tests/unit.h"

#include <pthread.h>

enum { LAST = MVCC_HISTOGRAM_BUCKETS - 1 };

static void test_four_buckets_double_the_bound(void)
{
	CU_ASSERT_EQUAL(mvcc_histogram_bound(0), 64);
	for (unsigned i = 0; i + 5 < MVCC_HISTOGRAM_BUCKETS; i++) {
		CU_ASSERT(mvcc_histogram_bound(i) < mvcc_histogram_bound(i + 1));
		CU_ASSERT_EQUAL(2 * mvcc_histogram_bound(i), mvcc_histogram_bound(i + 4));
	}
	CU_ASSERT_EQUAL(mvcc_histogram_bound(LAST), UINT64_MAX);
	CU_ASSERT_EQUAL(mvcc_histogram_bound(LAST + 1), UINT64_MAX);
	CU_ASSERT(mvcc_histogram_bound(LAST - 1) > 100 * (uint64_t)1000000000);
}

/* In which bucket a time is counted; asserts that it is exactly one. */
static unsigned bucket_of(uint64_t ns)
{
	struct mvcc_histogram read;
	struct histogram h = { 0 };
	unsigned found = 0, n = 0;

	histogram_add(&h, ns);
	histogram_read(&h, &read);
	CU_ASSERT_EQUAL(read.count, 1);
	CU_ASSERT_EQUAL(read.sum_ns, ns);
	CU_ASSERT_EQUAL(read.max_ns, ns);
	for (unsigned i = 0; i < MVCC_HISTOGRAM_BUCKETS; i++) {
		n += read.buckets[i] == 1;
		found = read.buckets[i] ? i : found;
	}
	CU_ASSERT_EQUAL(n, 1);
	return found;
}

static void test_a_time_is_counted_between_its_bounds(void)
{
	CU_ASSERT_EQUAL(bucket_of(0), 0);
	CU_ASSERT_EQUAL(bucket_of(63), 0);
	for (unsigned i = 0; i < LAST; i++) {
		CU_ASSERT_EQUAL(bucket_of(mvcc_histogram_bound(i)), i + 1);
		CU_ASSERT_EQUAL(bucket_of(mvcc_histogram_bound(i) - 1), i);
	}
	CU_ASSERT_EQUAL(bucket_of(UINT64_MAX), LAST);
}

static void test_quantiles_are_right_to_a_quarter(void)
{
	static const double shares[] = { 0.01, 0.5, 0.9, 0.99, 0.999 };
	struct histogram h = { 0 };
	struct mvcc_histogram read;

	histogram_read(&h, &read);
	CU_ASSERT_EQUAL(mvcc_histogram_quantile(&read, 0.5), 0);
	for (uint64_t i = 1; i <= 10000; i++)
		histogram_add(&h, 1000 * i);
	histogram_read(&h, &read);
	for (unsigned i = 0; i < 5; i++) {
		double exact = shares[i] * 10000 * 1000,
		       got = (double)mvcc_histogram_quantile(&read, shares[i]);

		CU_ASSERT(got >= exact && got <= 1.25 * exact);
	}
	CU_ASSERT_EQUAL(mvcc_histogram_quantile(&read, 1), 10000 * 1000);
	CU_ASSERT(mvcc_histogram_quantile(&read, 0) <= 1250);
	histogram_add(&h, UINT64_MAX / 2);
	histogram_read(&h, &read);
	CU_ASSERT_EQUAL(mvcc_histogram_quantile(&read, 1), UINT64_MAX / 2);
}

static void *add_many(void *arg)
{
	for (uint64_t i = 1; i <= 20000; i++)
		histogram_add(arg, i);
	return NULL;
}

static void test_nothing_is_lost_between_threads(void)
{
	struct histogram h = { 0 };
	struct mvcc_histogram read;
	pthread_t threads[4];
	uint64_t sum = 0;

	for (int i = 0; i < 4; i++)
		CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, add_many, &h), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	histogram_read(&h, &read);
	for (unsigned i = 0; i < MVCC_HISTOGRAM_BUCKETS; i++)
		sum += read.buckets[i];
	CU_ASSERT_EQUAL(read.count, 80000);
	CU_ASSERT_EQUAL(sum, 80000);
	CU_ASSERT_EQUAL(read.sum_ns, (uint64_t)4 * 20000 * 20001 / 2);
	CU_ASSERT_EQUAL(read.max_ns, 20000);
}

static void test_a_store_counts_commits_drains_and_syncs(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *loser = begin(fx->db);
	struct mvcc_stats before, after;

	mvcc_stats(fx->db, &before);
	assert_txn_value(loser, "k", NULL);
	txn_put(loser, "x", "v");
	put(fx->db, "k", "1");
	put(fx->db, "k", "2");
	CU_ASSERT_NOT_EQUAL(commit_err(loser), 0);
	fixture_drain(fx);
	mvcc_stats(fx->db, &after);
	CU_ASSERT_EQUAL(after.commit.count - before.commit.count, 2); /* successful ones */
	CU_ASSERT(after.commit.sum_ns > before.commit.sum_ns);
	CU_ASSERT(after.drain.count > before.drain.count);
	CU_ASSERT_EQUAL(after.sync.count, after.syncs);
	CU_ASSERT(after.sync.count > before.sync.count);
	CU_ASSERT_EQUAL(after.compact.count, 0);
	fixture_close(fx);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_four_buckets_double_the_bound),
	UNIT_TEST(test_a_time_is_counted_between_its_bounds),
	UNIT_TEST(test_quantiles_are_right_to_a_quarter),
	UNIT_TEST(test_nothing_is_lost_between_threads),
	UNIT_TEST(test_a_store_counts_commits_drains_and_syncs),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("histograms", NULL, NULL, tests), CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
