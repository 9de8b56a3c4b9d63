/*
 * The rows of a range as they are gathered: filtered, counted, and kept in whatever order is asked for. In key
 * order they are kept as they come. In any other order a heap keeps those that come first, its worst one on top, so
 * that no more rows than the limit are in memory, and a row that is not kept is never copied.
 */
#ifndef MVCC_RANGE_H
#define MVCC_RANGE_H

#include "mvcc/mvcc.h"

struct gather {
	struct mvcc_range_opt opt;
	bool in_key_order;
	uint64_t matched;
	size_t cap;
	struct mvcc_rows rows;
};

int range_opt_check(const struct mvcc_range_opt *opt); /* 0 or -EINVAL; accepts NULL */

void gather_init(struct gather *g, const struct mvcc_range_opt *opt);

/* Takes note of the next row in key order, which is copied if it is kept. 1: no more rows are needed. */
int gather_add(struct gather *g, struct slice key, const struct mvcc_item *item);

void gather_finish(struct gather *g, struct mvcc_rows *out); /* gives the rows */
void gather_release(struct gather *g);                       /* instead, after an error */

#endif
