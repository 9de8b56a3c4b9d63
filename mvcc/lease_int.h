/*
 * The inside of leases: the table in memory, and what the store, its commits and its upkeep ask of it.
 */
#ifndef MVCC_LEASE_INT_H
#define MVCC_LEASE_INT_H

#include "mvcc/lease.h"

#include <pthread.h>
#include <stdatomic.h>

struct lease {
	mvcc_lease_t id; /* immutable */
	uint64_t ttl_ms;
	int64_t deadline_ms; /* since 1970 UTC */
	uint64_t seq;        /* the last record of the ring that may have attached a key */
	size_t slot;         /* in the heap */
	bool ending;         /* somebody is deleting its keys: it takes no more, and is not in the heap */
};

/* All of it is guarded by `lock`, but for what says otherwise. */
struct lessor {
	pthread_mutex_t lock;
	pthread_cond_t sooner; /* the thread's: something is due before what it waits for */
	pthread_cond_t ended;  /* a lease is no longer ending */
	void *by_id;           /* a tree of tsearch(3) */
	size_t n;              /* of leases in it */
	struct lease **heap;   /* of those that are not ending; the one due first is the first */
	size_t in_heap, cap;   /* cap >= n: whatever is in the tree can go into the heap */
	_Atomic uint64_t expired;
	_Atomic bool stop;
	bool running; /* the caller of open or close */
	pthread_t thread;
};

void lessor_init(struct lessor *l);
void lessor_release(struct lessor *l);
void lessor_stats(struct lessor *l, struct mvcc_stats *out);

/* The thread that ends leases when their time is over. */
int lessor_start(struct mvcc *db);
void lessor_stop(struct mvcc *db); /* accepts one that does not run */

int leases_load(struct mvcc *db);                          /* at open: the rows */
int lease_remember(struct mvcc *db, struct slice payload); /* then the records of the ring */
void lease_forget(struct mvcc *db, mvcc_lease_t id);

/*
 * May keys be attached to it now? 0 or MVCC_ENOLEASE. A commit asks under the commit lock, and says by which
 * record of the ring it will attach them; 0 is a mere question.
 */
int lease_attach(struct mvcc *db, mvcc_lease_t id, uint64_t seq);

/*
 * Ends the leases that are due, the one due first first, in the calling thread. `*n` (may be NULL) is how many,
 * also after an error. 0, or the first error; what it kept from ending is due at once.
 */
int lease_expire_due(struct mvcc *db, size_t *n);

/* Leases that the puts of a run name, in any order; some may be there twice. The first `fixed` keep their places. */
struct lease_ids {
	mvcc_lease_t *v;
	size_t n, cap;
	size_t fixed;
};

int lease_ids_add(struct lease_ids *ids, mvcc_lease_t id); /* 0 or -ENOMEM */

#endif
