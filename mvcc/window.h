/*
 * The window: which keys the newest commits changed, and what stands under them since. Transactions
 * are validated against it, in memory, under the commit lock. It forgets the oldest commits when it
 * grows too large; a transaction that began before what it still knows must look at the store again.
 */
#ifndef MVCC_WINDOW_H
#define MVCC_WINDOW_H

#include "mvcc/mvcc.h"

/* What stands under a key, less its value. */
struct header {
	bool exists; /* if not, the rest is 0 */
	mvcc_rev_t mod, create;
	uint64_t version;
};

struct window_change {
	struct slice key;
	struct header header; /* after the commit */
};

struct window_commit {
	bool run; /* a staged run belongs to it: its keys are not listed */
	unsigned n;
	size_t bytes;
	struct window_change *changes; /* owns them, and the keys behind them */
};

struct window {
	struct window_commit *ring;
	size_t cap, first, n;
	size_t keys, bytes; /* of all commits in it */
	mvcc_rev_t low;     /* knows the commits low + 1 .. low + n */
};

void window_init(struct window *w, mvcc_rev_t current);
void window_release(struct window *w);

/*
 * A commit of up to `n` changes whose keys have `key_bytes` in sum: begun, filled, pushed. When memory
 * is out, the pushed commit makes the window forget everything up to itself.
 */
struct window_commit window_begin(unsigned n, size_t key_bytes);
void window_add(struct window_commit *c, struct slice key, struct header header);
void window_push(struct window *w, struct window_commit c);
void window_discard(struct window_commit *c); /* instead of the push */

/* The commit of revision `rev`, which lies above low and is not newer than the last. */
const struct window_commit *window_at(const struct window *w, mvcc_rev_t rev);

#endif
