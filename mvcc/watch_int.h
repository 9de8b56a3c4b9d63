/*
 * The inside of watches: what the watch thread (watcher.c) and the callers of watch.h (watch.c) share.
 * The order of the locks stands in DESIGN.md.
 */
#ifndef MVCC_WATCH_INT_H
#define MVCC_WATCH_INT_H

#include "mvcc/interval.h"
#include "mvcc/mvcc_int.h"
#include "mvcc/tail.h"
#include "mvcc/watch.h"

#include <semaphore.h>

#define WATCH_HITS_MAX 256u                 /* revisions found by one look into the log */
#define WATCH_PIECE_BYTES ((size_t)1 << 20) /* and what it reads at most */
#define WATCH_ROWS_BYTES ((size_t)64 << 10) /* and keeps of it */
#define WATCH_COPY_BYTES ((size_t)64 << 10) /* out of the ring at once, under the commit lock */

/* A revision that changed something in the range, and the part of its log row where that begins. */
struct watch_hit {
	mvcc_rev_t rev;
	uint32_t part;
	bool more;       /* there are further parts, or it is not known */
	size_t off, len; /* its row, in `rows`; none of 0 bytes */
};

struct mvcc_watch {
	/* Set by mvcc_watch_open(), then immutable. */
	struct mvcc *db;
	struct buf start, end;
	unsigned flags;
	void (*notify)(void *arg);
	void *arg;

	/* Of struct watching, and under its lock. */
	bool idle; /* in the index: it has nothing to give, and is to be told */
	bool told; /* in the list of those to be notified */
	bool canceled;
	struct interval interval;
	TAILQ_ENTRY(mvcc_watch) link;  /* while told */
	SLIST_ENTRY(mvcc_watch) found; /* the thread's, while it looks up a key */
	pthread_cond_t woken;          /* not idle any more, or canceled */
	/*
	 * The position: all before was given, or does not matter. While it is idle: under the lock, and all before
	 * watching.judged does not matter, either. Else the caller's, as is the rest.
	 */
	mvcc_rev_t next;
	bool asking; /* likewise; its caller is in mvcc_watch_next(), and needs no notify */

	bool lost;              /* the floor has passed it */
	struct watch_hit *hits; /* found in the log and not given yet; NULL while there never were any */
	unsigned nhits, hit;
	struct buf rows;    /* those of hits, as far as there is room */
	mvcc_rev_t log_rev; /* where the log was left: the row that comes next, */
	uint32_t log_part;  /* of a revision in which nothing was found so far */

	/* The revision at hand. */
	mvcc_rev_t rev;       /* 0: none */
	struct note *note;    /* it is one of the tail; else it is read from the log */
	struct slice changes; /* those to come: operations of the note, or changes of `row` */
	uint32_t part;        /* of the log, in `row` */
	bool more;            /* there may be further parts */
	bool ended;           /* the record read last was not current any more: so may be the next */
	struct buf row, text;
	struct mvcc_entry entry;
	struct mvcc_item item, prev; /* own what they show when that was read from the store */
	struct buf blobs;
};

/* What all watches of a store share. */
struct watching {
	struct mvcc *db;
	pthread_mutex_t lock;
	pthread_cond_t begun_cv;    /* the thread's: there is a watch, or it shall stop */
	pthread_cond_t judged_cv;   /* `judged` has moved */
	pthread_cond_t notified_cv; /* a call of notify is over */
	bool started, stop;         /* lock */
	bool on;           /* lock; the tail is made: the thread clears it, the first watch sets it */
	uint64_t n;        /* lock; watches there are */
	struct tail tail;  /* lock */
	mvcc_rev_t judged; /* lock; idle watches were told of all before; tail.end at most */
	struct interval_index idle;    /* lock */
	TAILQ_HEAD(, mvcc_watch) told; /* lock; to be notified */
	struct mvcc_watch *notifying;  /* lock; the one whose notify runs */

	/* The thread's; while `on` is not set, that of whoever sets it. */
	uint64_t pos;     /* in the ring: what comes before was copied */
	struct buf bytes; /* copied and not yet looked at: less than a record, between two steps */

	_Atomic bool asleep; /* the thread waits for `wake`; whoever clears this posts it */
	sem_t wake;
	pthread_t thread;
};

/* ---- watcher.c ---------------------------------------------------------------------------- */

/* A first watch is about to be: starts the thread and the tail, as need be. Callers hold commit_lock and lock. */
int watching_begin_locked(struct watching *all);

/* Wakes the thread, to look whether there is something to do. */
void watching_kick(struct watching *all);

/* The watch has looked at all before `next`, which is tail.end or later. Callers hold lock. */
void watch_go_idle_locked(struct mvcc_watch *w);

/* For tests: how large the tail is now. */
void watch_tail_size(struct mvcc *db, size_t *notes, size_t *bytes);

#endif
