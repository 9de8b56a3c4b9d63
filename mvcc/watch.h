/*
 * Watch: what was committed, revision by revision, as it happens.
 *
 * A watch stands at a revision and is asked for the next one that changed something in its range. It gives
 * whole revisions, in order, each once; none is left out, whatever crashes or restarts come between, as long
 * as its revision is not below the floor. To resume later, open one at mvcc_watch_rev().
 *
 * Nothing is queued for a watch: the newest commits are shared by all in a memory of bounded size, and whoever
 * is further behind reads the log at his own pace. So a slow watch, or one that nobody asks any more, costs
 * writers nothing.
 *
 * A watch serves one thread at a time, but for mvcc_watch_cancel().
 */
#ifndef MVCC_WATCH_H
#define MVCC_WATCH_H

#include "mvcc/mvcc.h"

struct mvcc_watch;

enum {
	MVCC_WATCH_PREV = 1,   /* give what each change replaced */
	MVCC_WATCH_NO_PUT = 2, /* deletions only */
	MVCC_WATCH_NO_DEL = 4, /* puts only */
	MVCC_WATCH_KEYS = 8,   /* no values: item holds nothing but revisions and version */
};

struct mvcc_watch_options {
	struct slice start, end; /* start <= key < end; an empty end: to the last key */
	mvcc_rev_t from;         /* the first revision wanted; MVCC_REV_LATEST: the one after the newest */
	unsigned flags;
	/*
	 * Called, from a thread of the store, when a watch that had nothing to give may have something: then
	 * ask mvcc_watch_next() until it says 0. It must not call the store. NULL: nobody is told. A watch
	 * opened at a revision that is there already has something from the start: it is asked first.
	 */
	void (*notify)(void *arg);
	void *arg;
};

/*
 * Opens a watch. A revision still to come may be asked for: nothing is given before it. Returns 0,
 * MVCC_ECOMPACTED (from lies below the floor: mvcc_floor() is the first to be had), or -ENOMEM.
 */
MVCC_API int mvcc_watch_open(struct mvcc *db, const struct mvcc_watch_options *opt, struct mvcc_watch **out);

/*
 * The next revision that changed something in the range: 1 with `*entry` lent until the next call or close;
 * 0 if none came within `timeout_ms` (0: do not wait; -1: for ever). What was committed before the call is looked at
 * in any case, if it takes longer, too: a large transaction is moved into the engine first, the log is read up to the
 * end. Or
 *   MVCC_ECOMPACTED  the floor has passed it: what comes next is lost, the watch can only be closed
 *   -ECANCELED       mvcc_watch_cancel() was called
 *   or what reading says; asking again goes on where it was.
 */
MVCC_API int mvcc_watch_next(struct mvcc_watch *watch, int timeout_ms, const struct mvcc_entry **entry);

struct mvcc_event {
	struct slice key;
	bool deleted;
	const struct mvcc_item *item; /* what was put; NULL for a deletion */
	const struct mvcc_item *prev; /* what it replaced, with MVCC_WATCH_PREV and if there was; else NULL */
};

/*
 * The next change of the revision at hand within the range, in key order: 1 with `*event` lent until the next
 * call, 0 when there are no more, or negative. A key put several times by one transaction shows its last value.
 */
MVCC_API int mvcc_watch_event(struct mvcc_watch *watch, struct mvcc_event *event);

/*
 * Progress: everything in the range before this revision was given by mvcc_watch_next(). It moves on without
 * events, too, whenever mvcc_watch_next() says 0. To resume, open a watch from here.
 */
MVCC_API mvcc_rev_t mvcc_watch_rev(const struct mvcc_watch *watch);

/* Makes the call that waits in mvcc_watch_next(), and every later one, return -ECANCELED. From any thread. */
MVCC_API void mvcc_watch_cancel(struct mvcc_watch *watch);

/* Accepts NULL. Once it returns, notify is not called any more. */
MVCC_API void mvcc_watch_close(struct mvcc_watch *watch);

#endif
