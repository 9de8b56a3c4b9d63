/*
 * Buckets: the first takes all below 64 ns, which is about what reading the clock takes; from there on four for each
 * doubling, found by the highest bit and the two bits behind it.
 */
#include "mvcc/histogram.h"

#define FIRST_SHIFT 4u /* 4 << FIRST_SHIFT is the first bound */

uint64_t mvcc_histogram_bound(unsigned bucket)
{
	if (bucket >= MVCC_HISTOGRAM_BUCKETS - 1)
		return UINT64_MAX;
	return (uint64_t)(4 + bucket % 4) << (FIRST_SHIFT + bucket / 4);
}

static unsigned bucket_of(uint64_t ns)
{
	unsigned shift, bucket;

	if (ns < mvcc_histogram_bound(0))
		return 0;
	shift = 61 - (unsigned)__builtin_clzll(ns); /* leaves the highest three bits: 4 to 7 */
	bucket = 4 * (shift - FIRST_SHIFT) + (unsigned)(ns >> shift) - 4 + 1;
	return bucket < MVCC_HISTOGRAM_BUCKETS ? bucket : MVCC_HISTOGRAM_BUCKETS - 1;
}

void histogram_add(struct histogram *h, uint64_t ns)
{
	uint64_t max = atomic_load_explicit(&h->max_ns, memory_order_relaxed);

	atomic_fetch_add_explicit(&h->count, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&h->sum_ns, ns, memory_order_relaxed);
	atomic_fetch_add_explicit(&h->buckets[bucket_of(ns)], 1, memory_order_relaxed);
	while (ns > max && !atomic_compare_exchange_weak_explicit(&h->max_ns, &max, ns, memory_order_relaxed,
								  memory_order_relaxed))
		;
}

void histogram_read(struct histogram *h, struct mvcc_histogram *out)
{
	out->count = atomic_load_explicit(&h->count, memory_order_relaxed);
	out->sum_ns = atomic_load_explicit(&h->sum_ns, memory_order_relaxed);
	out->max_ns = atomic_load_explicit(&h->max_ns, memory_order_relaxed);
	for (unsigned i = 0; i < MVCC_HISTOGRAM_BUCKETS; i++)
		out->buckets[i] = atomic_load_explicit(&h->buckets[i], memory_order_relaxed);
}

uint64_t mvcc_histogram_quantile(const struct mvcc_histogram *h, double q)
{
	uint64_t total = 0, below = 0;
	double wanted;

	for (unsigned i = 0; i < MVCC_HISTOGRAM_BUCKETS; i++)
		total += h->buckets[i];
	wanted = q * (double)total;
	for (unsigned i = 0; total && i < MVCC_HISTOGRAM_BUCKETS; i++) {
		below += h->buckets[i];
		if (below && (double)below >= wanted) {
			uint64_t bound = mvcc_histogram_bound(i);

			return bound < h->max_ns ? bound : h->max_ns;
		}
	}
	return total ? h->max_ns : 0; /* asked for more than all */
}
