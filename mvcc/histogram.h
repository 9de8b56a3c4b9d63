/*
 * Histograms that any thread may add to while another takes a copy: counters of their own, without a lock and without
 * order between them. So a copy taken meanwhile may count a time in one field and not yet in another.
 */
#ifndef MVCC_HISTOGRAM_H
#define MVCC_HISTOGRAM_H

#include "mvcc/mvcc.h"

#include <stdatomic.h>

struct histogram {
	_Atomic uint64_t count, sum_ns, max_ns;
	_Atomic uint64_t buckets[MVCC_HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t ns);
void histogram_read(struct histogram *h, struct mvcc_histogram *out);

#endif
