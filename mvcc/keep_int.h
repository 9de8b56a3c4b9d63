/*
 * What is kept, inside: the floor and the pins (keep.c), and the keeper, who gives back what is below
 * (gc.c). The proof that nothing goes that somebody can see stands in DESIGN.md, "Compaction".
 */
#ifndef MVCC_KEEP_INT_H
#define MVCC_KEEP_INT_H

#include "mvcc/mvcc_int.h"

/* Revisions in rising order, each once. */
struct revs {
	mvcc_rev_t *v;
	size_t n, cap;
};

int revs_reserve(struct revs *revs, size_t n); /* room for n in all; 0 or -ENOMEM */
bool revs_has(const struct revs *revs, mvcc_rev_t rev);
void revs_add(struct revs *revs, mvcc_rev_t rev); /* has room, or has it already */
void revs_remove(struct revs *revs, mvcc_rev_t rev);
void revs_subtract(struct revs *revs, const struct revs *gone);
mvcc_rev_t revs_next(const struct revs *revs, mvcc_rev_t rev); /* the first at or above `rev`, or 0 */
mvcc_rev_t revs_newest_in(const struct revs *revs, mvcc_rev_t mod, mvcc_rev_t end); /* of [mod, end), or 0 */

/* Those who look at all of the past: every revision from the floor to the current one, and pinned ones. */
struct ever {
	mvcc_rev_t floor, current;
	struct revs pinned;
};

/* Does any of them see a record that was current for [mod, end)? */
bool ever_sees(const struct ever *e, mvcc_rev_t mod, mvcc_rev_t end);

/* The oldest of them from `rev` up to the floor; 0 if `rev` is above that. */
mvcc_rev_t ever_from(const struct ever *e, mvcc_rev_t rev);

/* The pins, and the revisions that follow from them. */
struct pin_set {
	struct mvcc_pin *v; /* by name */
	size_t n, cap;
	struct revs pinned;   /* the revisions they are of */
	struct revs zombies;  /* no longer pinned, but a view is open there: kept until it is closed */
	struct revs unpinned; /* those whose rows of `ended` wait for the keeper; a row of the engine each */
};

/* A purge, from when it is asked for until the log has nothing any more of what it took. */
struct purge {
	TAILQ_ENTRY(purge) link;
	uint64_t id;
	struct buf story, ranges;          /* encoded; immutable */
	mvcc_rev_t rev;                    /* 0: not made yet. Written under pass_lock and purge_lock */
	uint64_t births;                   /* pass_lock; how many views there had ever been when `removed` */
	bool removed, released, rewritten; /* pass_lock; its records; their blobs; what had their bytes */
	bool done;                         /* pass_lock; and so it says on disk */
};
TAILQ_HEAD(purges, purge);

struct keep {
	uint64_t bytes_per_s; /* immutable */
	bool threaded;        /* set by keep_start(), then immutable */

	/* One change of floor or pins at a time; held until it is on disk. */
	pthread_mutex_t keep_lock;

	/* The pins and `pinned` change under keep_lock and views_lock; the rest of it under views_lock. */
	struct pin_set pins;
	mvcc_rev_t log_since; /* views_lock; an unclean open reads the log behind this: so the disk says */

	/* What the engine's predicates judge by, from any of its threads. All of it under kept_lock. */
	pthread_rwlock_t kept_lock;
	mvcc_rev_t horizon, log_horizon; /* only rise */
	struct revs kept;                /* `pinned` and `zombies` */

	/* Changed under pass_lock and purge_lock. */
	pthread_mutex_t purge_lock;
	struct purges purges; /* by id */
	_Atomic unsigned n_purges;
	_Atomic uint64_t held_births; /* views born so far hold a purge back; 0: none */

	/* The keeper. */
	pthread_mutex_t pass_lock; /* one pass at a time */
	struct {
		bool hist, log, ended;
		mvcc_blob_t blob_first, blob_last; /* 0: none */
	} owed;                                    /* pass_lock; what was deleted and is to be rewritten */
	_Atomic mvcc_rev_t compacted; /* all below it is done; stored under pass_lock or by open */
	atomic_bool interrupt;        /* a rewrite is to end: the store failed, or closes */
	pthread_mutex_t keeper_lock;
	pthread_cond_t asked_cv, done_cv;
	uint64_t asked, done; /* keeper_lock; passes */
	bool thorough;        /* keeper_lock; the next one gives back all space, not only if it is worth it */
	int result;           /* keeper_lock; of the last one: 0, -EBUSY or what failed */
	atomic_bool stop;     /* stored under keeper_lock */
	pthread_t keeper;
	bool running;

	_Atomic uint64_t n_compactions, n_blobs_freed;
};

/* ---- keep.c ------------------------------------------------------------------------------- */

struct keep *keep_new(const struct mvcc_options *opt); /* NULL when out of memory */
void keep_free(struct keep *k);                        /* accepts NULL */
void keep_families(struct mvcc *db);                   /* gives the engine's families their predicates */

/* Reads floor and pins from the engine: at open, and when the engine works again after it failed. */
int keep_load(struct mvcc *db);

/* As mvcc_compact() and mvcc_unpin(); `thorough` as for keep_wake(). */
int keep_compact(struct mvcc *db, mvcc_rev_t rev, bool thorough);
int keep_unpin(struct mvcc *db, const char *name, bool thorough);

/* As mvcc_pin(), of either kind. */
int keep_pin(struct mvcc *db, const char *name, enum mvcc_pin_kind kind, mvcc_rev_t rev);

bool keep_is_pinned_locked(struct mvcc *db, mvcc_rev_t rev);   /* views_lock */
int keep_pinned_copy(struct mvcc *db, struct revs *out);       /* to be freed; 0 or -ENOMEM */
void keep_stats_locked(struct mvcc *db, struct mvcc_stats *s); /* views_lock */

/* The newest pinned revision below the floor whose time is not after `time_ns`; 0 if there is none. */
mvcc_rev_t keep_pinned_before(struct mvcc *db, int64_t time_ns, mvcc_rev_t floor);

/* What a pass of the keeper is about. */
struct pass {
	mvcc_rev_t horizon; /* what ended up to here is garbage unless a kept revision sees it */
	bool held;          /* an open view holds something back */
	struct revs todo;   /* unpinned, and no view there */
};

/* Moves the horizon as far as open views allow, and tells what there is to do. 0 or -ENOMEM. */
int keep_look(struct mvcc *db, struct pass *p);

/* Puts on disk from where on an unclean open reads the log, so that what is older may go. */
int keep_log_since(struct mvcc *db);

/* The newest kept revision in [mod, end), or 0. */
mvcc_rev_t keep_holds(struct keep *k, mvcc_rev_t mod, mvcc_rev_t end);

mvcc_rev_t keep_log_horizon(struct keep *k); /* rows of the log below it may go */

/* ---- gc.c --------------------------------------------------------------------------------- */

int keep_start(struct mvcc *db, bool manual);   /* the store is open: begins what is left to do */
void keep_stop(struct mvcc *db);                /* at once; what is left waits for the next open */
void keep_wake(struct mvcc *db, bool thorough); /* there may be something to do; is space waited for? */
void keep_interrupt(struct mvcc *db);           /* the store failed: nobody may stay in the engine */

/* In a pass: has the engine rewrite part of a family; releases the blobs that the purge of `rev` set apart. */
int keep_rewrite(struct mvcc *db, unsigned family, struct slice start, struct slice end);
int keep_release_purged(struct mvcc *db, mvcc_rev_t rev);

/* ---- purge.c ------------------------------------------------------------------------------ */

int purges_load(struct mvcc *db); /* at open */
void purges_free(struct keep *k);

/* May a record that `key` had, of revision `rev`, be missing as it was purged? */
bool purge_covers(struct mvcc *db, struct slice key, mvcc_rev_t rev);

bool purge_has(struct slice ranges, struct slice key); /* is it in one of them? */

/* The steps of a pass; callers hold pass_lock. */
int purges_remove(struct mvcc *db);              /* records, of those purges that have not come so far */
bool purges_wait(const struct keep *k);          /* is one not done? */
int purges_release(struct mvcc *db, bool *held); /* blobs, unless a view may have shown them: `*held` */
int purges_finish(struct mvcc *db);              /* bytes */

#endif
