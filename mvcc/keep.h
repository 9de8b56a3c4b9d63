/*
 * What of history is kept: the compaction floor, pins, the retention policy that moves both, and purging.
 *
 * Every revision from the *floor* up is readable. Below it only *pinned* ones are: revisions with a name,
 * kept until the name goes. Raising the floor takes effect at once; the space comes back in the
 * background, by a thread that holds up nobody, at most at the rate of mvcc_options.compact_bytes_per_s.
 * A view that is open holds back what it can see, and nothing else. After a kill the work goes on where
 * it was. The semantics of compaction are etcd's; pins and policies are ours.
 */
#ifndef MVCC_KEEP_H
#define MVCC_KEEP_H

#include "mvcc/mvcc.h"

/* ---- compaction --------------------------------------------------------------------------- */

/*
 * Raises the floor to `rev` (MVCC_REV_LATEST: to the newest commit), which stays readable itself, as do
 * pinned ones and the newest state. On disk when it returns. Returns 0, or
 *   MVCC_ECOMPACTED  the floor is there or higher already; nothing changed
 *   MVCC_EFUTURE     there is no such revision yet
 *   or what stopped the store.
 */
MVCC_API int mvcc_compact(struct mvcc *db, mvcc_rev_t rev);

/*
 * Waits until the space of all that is below the floor, pinned by nobody and seen by no view, has been given
 * back to the engine and by it to the disk. 0, or what stopped the work (it is tried again later), or
 * -EBUSY: an open view holds some of it back.
 */
MVCC_API int mvcc_compact_wait(struct mvcc *db);

/* ---- pins --------------------------------------------------------------------------------- */

#define MVCC_PIN_NAME_MAX ((size_t)255) /* bytes of a name, of 1 to 255, any but NUL and '/' */

/* Why a pin is there. Those that retention made go by themselves; MVCC_PIN_USER only by mvcc_unpin(). */
enum mvcc_pin_kind {
	MVCC_PIN_USER = 0,
	MVCC_PIN_AUTO = 1, /* made by the policy; named "auto-" and the time of the revision, in UTC */
};

struct mvcc_pin {
	char name[256];
	enum mvcc_pin_kind kind;
	mvcc_rev_t rev;
	int64_t time_ns; /* when the revision was committed */
	int64_t made_ns; /* when it was pinned */
};

/*
 * Pins `rev` (MVCC_REV_LATEST: the newest) under a name; one revision may have many. On disk, with the
 * revision, when it returns. Returns 0, or
 *   -EEXIST          the name is taken
 *   -EINVAL          no name: its length or bytes
 *   MVCC_ECOMPACTED  below the floor and not pinned: it may be gone
 *   MVCC_EFUTURE
 *   or what stopped the store.
 * Also while a compaction runs.
 */
MVCC_API int mvcc_pin(struct mvcc *db, const char *name, mvcc_rev_t rev);

/* -ENOENT if there is none. What only this pin kept goes in the background. */
MVCC_API int mvcc_unpin(struct mvcc *db, const char *name);

/* Gives the pin another name, at once. An automatic pin becomes the user's. -ENOENT, -EEXIST, -EINVAL. */
MVCC_API int mvcc_pin_rename(struct mvcc *db, const char *name, const char *new_name);

MVCC_API int mvcc_pin_get(struct mvcc *db, const char *name, struct mvcc_pin *out); /* 0 or -ENOENT */

/* Calls `fn` for every pin, in order of their names, until it returns non-zero; returns that. No lock is held. */
MVCC_API int mvcc_pins(struct mvcc *db, int (*fn)(void *arg, const struct mvcc_pin *pin), void *arg);

/* ---- purging ------------------------------------------------------------------------------ */

#define MVCC_PURGE_MAX ((size_t)1024) /* ranges in one call */

struct mvcc_purge_range {
	struct slice start,
		end; /* start <= key < end; of one key the end is that key and a 00; empty: to the last */
};

/*
 * Takes all keys of the ranges out of history: every record that they have and ever had, at every revision, pinned ones,
 * too. It is a revision itself, which deletes what is there now, and is made, with its story, even if nothing is; the
 * word of it is "purge" if the story has none. What the keys become later is not touched.
 *
 * Once it has returned 0, no revision shows these keys any more, to open views neither; a cursor, a log reader or a
 * callback that is under way may. The log still tells that the keys were changed, and when: of the records it names, those
 * that were purged are absent like any that never was. A watch gives none of these changes any more.
 *
 * The bytes go in the background, from the files of the engine and from the ring: mvcc_compact_wait() waits for
 * it, and says -EBUSY while a view or a transaction is open that was open when this returned, as a blob may
 * be about to be put again from there. Blobs to which other records refer stay. Checkpoints, copies and what the engine's
 * medium remembers are not reached, and keys and stories are no part of it.
 *
 * Returns 0, or -EINVAL (no range, too many, or one that is none), -ENOMEM, or what stopped the store. Then the purge
 * may have been noted: what is missing is done by itself, once the store works again or when it is opened next.
 */
MVCC_API int mvcc_purge(struct mvcc *db, const struct mvcc_purge_range *ranges, size_t n,
			const struct mvcc_story *story, mvcc_rev_t *out_rev);

/* ---- retention ---------------------------------------------------------------------------- */

/*
 * The policy, kept in the store. All of 0: keep everything, for ever (how a store begins).
 *
 * Everything that was current at some moment of the last `keep_all_s` and, also, the newest `keep_revs` revisions
 * stay. Of the time before, so far as nothing of the same hour (day, ...) is among these,
 * the newest revision of each of the last `hourly` hours that have any, of the last `daily` days, and so on,
 * stays by an automatic pin (snapper's timeline; hours to years are UTC's, weeks begin on Monday); the rest is
 * compacted. With both at 0 nothing is ever compacted by age or count.
 *
 * The space of what goes so comes back once it is worth a rewrite (a quarter as many revisions as are left above the
 * floor), or when mvcc_compact_wait() asks for it.
 *
 * While less than `free_bytes` of the disk is free, history goes before its time: oldest automatic pins first,
 * then the floor is raised towards the newest revision. Pins of users stay.
 */
struct mvcc_policy {
	uint64_t keep_all_s;
	uint64_t keep_revs;
	uint32_t hourly, daily, weekly, monthly, yearly;
	uint64_t free_bytes;
};

MVCC_API int mvcc_policy_set(struct mvcc *db, const struct mvcc_policy *policy);
MVCC_API void mvcc_policy_get(struct mvcc *db, struct mvcc_policy *out);

/* What a policy would do by itself right now, if it were set. Space that other programs free or take is not foreseen. */
struct mvcc_policy_step {
	mvcc_rev_t floor;    /* where the floor would come to lie; as it is, if nothing would go */
	uint64_t pins_made;  /* revisions below it that would stay, by new automatic pins */
	uint64_t pins_taken; /* automatic pins that would go */
};
MVCC_API int mvcc_policy_try(struct mvcc *db, const struct mvcc_policy *policy, struct mvcc_policy_step *out);

/*
 * Does what is due by the clock, now, in the calling thread: the policy's step, then expired leases, then
 * all pending work of compaction. The background thread does the same by itself unless the store was opened
 * with manual_upkeep. 0, or the first error.
 */
MVCC_API int mvcc_upkeep(struct mvcc *db);

/* Why a revision is still here; or that it is not. All reasons that hold are given. */
struct mvcc_why {
	bool readable;
	bool newest;         /* it is the newest */
	bool above_floor;    /* from the floor up everything stays */
	int64_t policy_ns;   /* above the floor: when the policy will compact it; 0: by no age */
	uint64_t pins;       /* how many names it has */
	struct mvcc_pin pin; /* the first of them, in order of names */
	uint64_t views;      /* open views at it */
	int64_t time_ns;     /* when it was committed; 0 if that is no longer known */
};

/* 0, MVCC_EFUTURE, or what reading the log says. A revision that is gone is no error: readable is false. */
MVCC_API int mvcc_why(struct mvcc *db, mvcc_rev_t rev, struct mvcc_why *out);

#endif
