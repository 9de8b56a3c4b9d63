/*
 * The overlay: what is committed and perhaps not yet in the engine. It is a list of generations,
 * newest first, each holding the changes of a stretch of revisions; the first is *active* and takes
 * the commits, the others are sealed and wait for the committer, who drains the last one.
 *
 * The list is an immutable array with a count of holders. Whoever reads takes a hold of the whole
 * array and keeps it as long as he looks; sealing and dropping replace the array. So a reader never
 * waits for a writer and a drained generation lives until its last reader is gone.
 *
 * A transaction too large for memory has its changes in the engine's staging family (a *run*) and
 * is a generation of its own; its memtable holds only what was computed at its commit.
 */
#ifndef MVCC_OVERLAY_H
#define MVCC_OVERLAY_H

#include "mvcc/memtable.h"
#include "mvcc/mvcc.h"
#include "mvcc/ring.h"

#include <pthread.h>

/* Flag of a node: the change replaced nothing, so the engine need not be asked what was there. */
enum { MEM_NEW = 1 };

/* In a generation's memtable a node's value is the encoded record; this one is a tombstone. */
#define TOMBSTONE slice_of(NULL, 0)

struct generation {
	_Atomic unsigned refs;
	struct memtable mt;   /* written under the commit lock while active */
	struct ring_at begin; /* the stretch of the ring it stands for; `end` moves under the commit lock */
	struct ring_at end;
	mvcc_rev_t last_rev;  /* newest revision up to `end`; commit lock while active, then immutable */
	int64_t last_time_ns; /* its time; likewise */
	uint64_t born_ns;     /* when the first record came; likewise */
	uint64_t run;         /* id of the staged run that belongs to last_rev, 0 for none; immutable */
	/*
	 * Of a run: set before the committer moves the first row. From then on rows may be missing in
	 * the stage, and everything in older generations is known to be in the engine.
	 */
	_Atomic bool moving;
};

struct gen_set {
	_Atomic unsigned refs;
	unsigned n;
	struct generation *gens[]; /* newest first; the set holds a reference to each */
};

struct overlay {
	pthread_mutex_t lock; /* guards `set`; held for a few instructions */
	struct gen_set *set;
};

int overlay_init(struct overlay *o, struct generation *first); /* takes `first`; 0 or -ENOMEM */
void overlay_release(struct overlay *o);

struct gen_set *overlay_ref(struct overlay *o);
void gen_set_unref(struct gen_set *set); /* accepts NULL */

/* Puts `n` generations in front, newest first; takes them. 0, or -ENOMEM and they are still the caller's. */
int overlay_push(struct overlay *o, struct generation *const *gens, unsigned n);

/* Removes the last generation. Never fails: when memory is out it waits for some. */
void overlay_drop_last(struct overlay *o);

struct generation *generation_new(void);       /* NULL when out of memory */
void generation_unref(struct generation *gen); /* accepts NULL */

#endif
