/*
 * An index of half-open intervals of keys: which of them hold a given key? A treap in the order of the
 * starts, in which each node knows the largest end below it, so that parts that end too early are never
 * entered. Nodes live in what they stand for: nothing here takes memory, nothing can fail. Its owner's
 * lock guards it.
 */
#ifndef MVCC_INTERVAL_H
#define MVCC_INTERVAL_H

#include "mvcc/bytes.h"

struct interval {
	struct slice start, end; /* start <= key < end; an empty end: to the last key. Borrowed */
	/* the index's */
	struct interval *left, *right;
	struct slice reach; /* the largest end of all from here down */
	uint32_t priority;
};

/* All zero is an empty index. */
struct interval_index {
	struct interval *root;
	size_t n;
	uint32_t random;
};

/* Adds one that is in no index, with start and end set. Intervals may be alike. O(log n). */
void interval_insert(struct interval_index *ix, struct interval *iv);

/* Removes one that is in the index. O(log n). */
void interval_remove(struct interval_index *ix, struct interval *iv);

/* Calls `fn` for each interval that holds `key`; it leaves the index as it is. O((1 + hits) log n). */
void interval_stab(const struct interval_index *ix, struct slice key,
		   void (*fn)(void *arg, struct interval *iv), void *arg);

#endif
