/*
 * The inside of a store: its fields, with who guards each, and the functions that the files of this
 * folder lend to each other. Included by mvcc/ and its own unit tests only. The order of the locks
 * stands in DESIGN.md.
 */
#ifndef MVCC_INT_H
#define MVCC_INT_H

#include "mvcc/check.h"
#include "mvcc/histogram.h"
#include "mvcc/lease_int.h"
#include "mvcc/mvcc.h"
#include "mvcc/overlay.h"
#include "mvcc/record.h"
#include "mvcc/ring.h"
#include "mvcc/window.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>
#include <time.h>

#define FORMAT_KNOWN 1u

#define RING_BYTES_DEFAULT ((size_t)16 << 20)
#define RING_NAME "ring"
#define RING_NAME_NEW "ring.new" /* while ring_create() makes it */

#define SEAL_BYTES ((size_t)1 << 20) /* a generation this large is sealed at once */
#define SEAL_NS (20 * 1000000ull)    /* and one this old by the committer */
#define SPILL_BYTES_MAX ((size_t)512 << 10)
#define CHUNK_BYTES_MAX ((size_t)1 << 20) /* of one engine batch, where it can be chosen */
#define RUNS_PENDING_MAX 8u
#define RETRY_NS (1000 * 1000000ull) /* between two attempts to leave the failed state */

/*
 * The gate: every use of the engine is inside, reopening it needs it empty. Not a rwlock, since a
 * cursor may be opened by one thread and closed by another; and shutting never waits for those
 * inside, so that they may enter again.
 */
struct gate {
	_Atomic unsigned inside;
	_Atomic bool shut;
	pthread_mutex_t lock; /* guards nothing but the wait for `shut` to end */
	pthread_cond_t opened;
};

void gate_init(struct gate *g);
void gate_release(struct gate *g);
void gate_enter(struct gate *g);
void gate_leave(struct gate *g);
bool gate_try_shut(struct gate *g); /* true: nobody is inside until gate_open() */
void gate_open(struct gate *g);

/* Somebody who waits for room in the ring; first come, first served. */
struct turn {
	TAILQ_ENTRY(turn) link;
};

/* A completion to be called: of a sync, or of mvcc_on_room(). */
struct waiter {
	STAILQ_ENTRY(waiter) link;
	mvcc_rev_t rev;
	void (*sync_fn)(void *arg, int err);
	void (*room_fn)(void *arg);
	void *arg;
	int err;
	bool direct; /* sync_fn is one of ours and waits for nothing: no need for the notifier */
};
STAILQ_HEAD(waiters, waiter);

struct intent {
	LIST_ENTRY(intent) link;
	uint64_t id;
	struct buf payload;
};

struct counter {
	LIST_ENTRY(counter) link;
	struct buf name;
	uint64_t next;   /* the number given next */
	uint64_t stored; /* what the engine has on disk: nothing at or above it was given */
};

/* A transaction that has staged blobs: from its first one until its fate is in the engine. */
struct stager {
	LIST_ENTRY(stager) link;
	mvcc_blob_t first; /* its smallest id */
	mvcc_rev_t since;  /* the current revision when that was taken */
	mvcc_rev_t commit; /* its revision once committed; 0 before */
};

struct mvcc_view {
	struct mvcc *db;
	mvcc_rev_t rev;
	bool holds;     /* views_lock; of a transaction: the horizon stays below it even where a pin is */
	uint64_t birth; /* the how manieth view it is */
	LIST_ENTRY(mvcc_view) link; /* views_lock */
};

struct watching;

struct mvcc {
	/* Set by mvcc_open(), then immutable. */
	int dir_fd, lock_fd;
	struct engine *engine; /* used inside the gate only */
	struct engine_provider provider;
	struct engine_family families[FAM_COUNT];
	uint64_t incarnation;
	size_t spill_bytes;
	uint64_t sync_ns;
	uint64_t reserve_bytes;
	void (*log)(void *arg, int priority, const char *text);
	void *log_arg;
	int64_t (*clock)(void *arg);
	void *clock_arg;
	void (*committed)(void *arg, mvcc_rev_t rev);
	void *committed_arg;
	uint64_t replayed;
	struct buf moving; /* open only: the commit whose run was being moved, if its own row tells it */
	struct gate gate;
	struct keep *keep;         /* keep_int.h */
	struct watching *watching; /* a lock of its own */

	_Atomic mvcc_rev_t current; /* stored under commit_lock, last of all; loaded by anyone */
	_Atomic int failed;         /* set under commit_lock; 0, or why no commit is taken */
	_Atomic uint64_t head_seq;  /* number of the newest ring record; stored under commit_lock */
	_Atomic uint64_t head_pos;  /* where the next one goes; likewise */
	_Atomic mvcc_rev_t floor;   /* stored under keep_lock and views_lock */
	_Atomic uint64_t next_run;

	/* One commit at a time. */
	pthread_mutex_t commit_lock;
	pthread_cond_t room_cv;    /* with commit_lock: the ring has room, or the store failed */
	TAILQ_HEAD(, turn) turns;  /* commit_lock */
	struct ring ring;          /* the head: commit_lock */
	struct window window;      /* commit_lock */
	int64_t last_time_ns;      /* commit_lock */
	unsigned runs_pending;     /* commit_lock */
	struct buf scratch;        /* commit_lock; a commit is encoded here */
	struct generation *active; /* commit_lock; the overlay's first, held by it */
	struct overlay overlay;    /* a lock of its own */

	/* What the engine has. Written by the committer (or by open) alone, read by anyone. */
	_Atomic uint64_t applied_seq;
	_Atomic mvcc_rev_t applied;
	_Atomic mvcc_rev_t applying; /* newest revision that may be in the engine: stored before the write */
	uint64_t engine_seq;         /* committer: what the engine itself said last */

	/* The threads. */
	pthread_mutex_t work_lock;
	pthread_cond_t work_cv;    /* the committer's: there is something to do */
	pthread_cond_t drained_cv; /* applied_seq moved, or the store failed */
	pthread_cond_t sync_cv;    /* the sync thread's */
	pthread_cond_t notify_cv;  /* the notifier's */
	uint64_t kick_seq;         /* work_lock; drain up to this record at once */
	uint64_t active_born_ns;   /* work_lock; 0 while the active generation is empty */
	uint64_t retry_due_ns;     /* work_lock; when a failed store is tried again; 0 to be set */
	uint64_t sync_due_ns;      /* work_lock; when the timer syncs; 0 when all is synced */
	struct waiters syncs;      /* work_lock */
	struct waiters rooms;      /* work_lock */
	struct waiters notices;    /* work_lock; completions to be called */
	bool stop_committer, stop_syncer, stop_notifier; /* work_lock */
	pthread_t committer, syncer, notifier;
	unsigned threads; /* how many were started */
	_Atomic uint64_t synced_seq;
	_Atomic mvcc_rev_t synced;

	pthread_mutex_t views_lock;
	LIST_HEAD(, mvcc_view) views; /* views_lock */
	uint64_t nviews;              /* views_lock */
	uint64_t view_births;         /* views_lock */

	pthread_mutex_t blob_lock;
	LIST_HEAD(, stager) stagers; /* blob_lock */
	mvcc_blob_t next_blob;       /* blob_lock */
	struct stager stuck;         /* blob_lock; blobs from `first` on may be unused; 0 for none */

	/*
	 * Held from reading counts of blobs, or what blob_low is made of, to the end of the engine's write that
	 * changes them.
	 */
	pthread_mutex_t refs_lock;

	pthread_mutex_t intent_lock;
	LIST_HEAD(, intent) intents; /* intent_lock */

	pthread_mutex_t counter_lock;  /* held over the engine's write */
	LIST_HEAD(, counter) counters; /* counter_lock */

	struct lessor lessor; /* a lock of its own */

	pthread_mutex_t space_lock;
	uint64_t space_free, space_taken, space_stamp_ns; /* space_lock; see space_admit() */

	pthread_mutex_t
		step_lock; /* one step of retention at a time, and no change of the policy meanwhile */
	pthread_mutex_t policy_lock;
	struct mvcc_policy policy;        /* policy_lock; written under step_lock, too */
	uint64_t (*disk_free)(void *arg); /* set by tests: asked instead of the disk */
	void *disk_free_arg;

	pthread_mutex_t checkpoint_lock; /* one checkpoint at a time */
	pthread_mutex_t run_lock;        /* held while a run is moved: it takes several batches */
	pthread_rwlock_t rows_lock;      /* shared: db_write(); alone: iterators that show one state */

	_Atomic uint64_t n_commits, n_conflicts, n_syncs, n_drains, n_blobs, n_blob_bytes;
	struct histogram h_commit, h_drain, h_sync, h_compact;
};

/* ---- store.c ------------------------------------------------------------------------------ */

uint64_t now_ns(void);                  /* monotonic */
int64_t wall_ns(const struct mvcc *db); /* since 1970 UTC */

static inline struct timespec timespec_of(uint64_t ns)
{
	return (struct timespec){ .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000) };
}

void cond_init(pthread_cond_t *cv); /* its timed waits go by the monotonic clock */

/* One in which whoever waits to be alone comes before those that share, or he might wait for ever. */
void rwlock_init_fair(pthread_rwlock_t *lock);
__attribute__((format(printf, 3, 4))) void db_log(struct mvcc *db, int priority, const char *fmt, ...);

/* Stops commits with `err`, unless they are stopped. Callers hold no lock. Gives back `err`. */
int db_fail(struct mvcc *db, int err);

/* engine_write(), and the store stops if it fails. Callers are inside the gate and hold no lock. */
int db_write(struct mvcc *db, struct engine_batch *batch, unsigned flags);

/*
 * Between these two nobody writes rows, and no run is half moved: iterators made meanwhile show one and the same
 * state. Callers are inside the gate, and do nothing else.
 */
void rows_freeze(struct mvcc *db);
void rows_thaw(struct mvcc *db);

/*
 * Is there disk for `bytes` more, beside what waits to be drained? `grows`: a change that only
 * deletes or updates may use most of the reserve. 0 or -ENOSPC.
 */
int space_admit(struct mvcc *db, uint64_t bytes, bool grows);

/* Does the disk have room enough that reopening the engine makes sense? */
bool space_recovered(struct mvcc *db);

/* Rows of FAM_META that hold one number. -ENOENT when absent. */
int meta_get_u64(struct mvcc *db, const char *name, uint64_t *out);
int meta_put_u64(struct engine_batch *batch, const char *name, uint64_t value);

/* ---- committer.c -------------------------------------------------------------------------- */

int threads_start(struct mvcc *db);
void threads_stop(struct mvcc *db);

/* Seals the active generation if it holds anything. Caller holds commit_lock. 0 or -ENOMEM. */
int seal_locked(struct mvcc *db);

/* Takes note of a record just appended to the ring for the active generation. Caller holds commit_lock. */
void appended_locked(struct mvcc *db);

/*
 * Waits until a record of `payload_len` bytes fits, first come first served. Caller holds commit_lock,
 * which is dropped while it waits. 0, -EAGAIN (with MVCC_COMMIT_NOWAIT), or why the store stopped.
 */
int room_wait_locked(struct mvcc *db, size_t payload_len, unsigned flags);

/* The longest payload the ring is asked to carry: so much room is always to be had by waiting. */
size_t room_max(const struct mvcc *db);

/* Wakes whoever waits for room, or for the store to work again. Caller holds commit_lock. */
void room_wake_locked(struct mvcc *db);

/* Drains everything up to ring record `seq`. 0, or why the store stopped. */
int drain_to(struct mvcc *db, uint64_t seq);

/* Drains the oldest sealed generation in the calling thread: the committer's, or that of open. */
int drain_last(struct mvcc *db);

/* ---- log.c -------------------------------------------------------------------------------- */

int drain_to_rev(struct mvcc *db, mvcc_rev_t rev); /* as drain_to() */

/* When a revision was committed, by its row in the log, which must be there. */
int log_time_of(struct mvcc *db, mvcc_rev_t rev, int64_t *out);

/*
 * The newest revision in [lo, hi] that is not after `time_ns`, and its time: 1, 0 if there is none, or a code. By
 * halves, as times never decrease. The caller holds a view at or below `lo`, and has drained up to `hi`.
 */
int log_rev_at(struct mvcc *db, mvcc_rev_t lo, mvcc_rev_t hi, int64_t time_ns, mvcc_rev_t *rev,
	       int64_t *then);

/* ---- read.c ------------------------------------------------------------------------------- */

/* As mvcc_view_open(); one that holds keeps the horizon below it even where a pin is. */
int view_open(struct mvcc *db, mvcc_rev_t rev, bool holds, struct mvcc_view **out);

/* A view of the floor: while it is open, all from there on stays, in the log, too. 0 or -ENOMEM. */
int view_open_floor(struct mvcc *db, struct mvcc_view **out);

/* A record found, and what it is lent by. */
struct found {
	struct mvcc *db;
	struct record rec;
	struct gen_set *set;
	struct engine_pin pin;
	struct engine_iter *it;
};

/* Looks `key` up as it stood at `rev`. On 0 release it with found_release(); -ENOENT needs no release. */
int find_at(struct mvcc *db, mvcc_rev_t rev, struct slice key, struct found *out);
void found_release(struct found *f);

/*
 * The same for a key that had the record of `mod` at `rev`, as the caller knows, and has, as he thinks, another by
 * now: `hist` is asked first. A view of `rev` is open.
 */
int find_ended(struct mvcc *db, mvcc_rev_t rev, mvcc_rev_t mod, struct slice key, struct found *out);

/* The header alone. An absent key is no error here. */
int header_at(struct mvcc *db, mvcc_rev_t rev, struct slice key, struct header *out);

/* Points the item into a record; its list of blobs is in `blobs`. 0, -ENOMEM or MVCC_ECORRUPT. */
int item_lend(struct mvcc_item *item, const struct record *rec, struct buf *blobs);

/* Copies a record into an item, which owns it. 0, -ENOMEM or MVCC_ECORRUPT. */
int item_fill(struct mvcc_item *item, const struct record *rec);

/* A row of a staged run, lent by `*pin`. -ENOENT when there is none. */
int stage_get(struct mvcc *db, uint64_t run, struct slice key, struct engine_pin *pin, struct op *op);

/* ---- log.c -------------------------------------------------------------------------------- */

/* Fills an entry from an encoded story; its strings live in `text`. 0, -ENOMEM or MVCC_ECORRUPT. */
int entry_fill(struct mvcc_entry *entry, struct buf *text, struct slice story);

/* Does a key lie in start <= key < end, where an empty end is none? */
static inline bool key_within(struct slice key, struct slice start, struct slice end)
{
	return slice_cmp(key, start) >= 0 && (!end.len || slice_cmp(key, end) < 0);
}

/* Is the iterator on a row? If not: 1 at the end, or why it failed. */
static inline int iter_at(struct engine_iter *it, bool on_row)
{
	int err;

	if (on_row)
		return 0;
	err = engine_iter_error(it);
	return err ? err : 1;
}

static inline bool key_is_legal(struct slice key)
{
	return key.len > 0 && key.len <= MVCC_KEY_MAX;
}

/* ---- watcher.c ---------------------------------------------------------------------------- */

struct watching *watching_new(struct mvcc *db); /* NULL when out of memory */
void watching_free(struct watching *all);       /* accepts NULL; its thread has ended */
void watching_stop(struct mvcc *db);            /* ends the thread, if there is one */

uint64_t watch_count(struct mvcc *db); /* watches there are */

/* Tells whoever watches of a commit. Waits for nothing; callers hold no lock, for others' sake. */
void watching_tell(struct mvcc *db);

/* ---- commit.c ----------------------------------------------------------------------------- */

/* As mvcc_txn_commit(), but even if it changes nothing it makes a revision. */
int txn_commit_always(struct mvcc_txn *txn, const struct mvcc_story *story, mvcc_rev_t *out_rev);

/*
 * Puts the operations of a commit into a generation's memtable, as revision `rev`. ops_reserve()
 * checks them and takes all memory; after it, ops_insert() cannot fail.
 */
int ops_reserve(struct generation *gen, struct slice ops); /* 0, -ENOMEM or MVCC_ECORRUPT */
void ops_insert(struct generation *gen, mvcc_rev_t rev, struct slice ops);

/*
 * The generation that takes a commit, with room for its operations: the active one, or, for one with
 * a run, a sealed one of its own with a new active one before it. Caller holds commit_lock, appends
 * the record to the ring, and calls target_taken_locked(). 0, -ENOMEM or MVCC_ECORRUPT.
 */
int target_locked(struct mvcc *db, mvcc_rev_t rev, uint64_t run, struct slice ops, struct generation **out);
void target_taken_locked(struct mvcc *db, struct generation *gen, mvcc_rev_t rev, int64_t time_ns);

/* ---- blob.c ------------------------------------------------------------------------------- */

/* The blobs a transaction staged, in rising order of their ids. */
struct staged_blobs {
	struct staged_blob {
		mvcc_blob_t id;
		uint64_t refs; /* records of the transaction that refer to it, once commit has begun */
	} * v;
	size_t n, cap;
	struct stager *stager; /* NULL while nothing is staged */
};

int blob_stage(struct mvcc *db, struct staged_blobs *staged, struct slice bytes, mvcc_blob_t *out);
struct staged_blob *blob_staged(struct staged_blobs *staged, mvcc_blob_t id); /* NULL: not one of them */

/* The transaction is over: committed as `rev` or, with 0, not at all. Removes what nothing refers to. */
void blob_settle(struct mvcc *db, struct staged_blobs *staged, mvcc_rev_t rev);

/* Adds the row that says from where on an unclean open has to look for unused blobs, and in the log. */
int blob_low_put(struct mvcc *db, struct engine_batch *batch, mvcc_rev_t applied,
		 mvcc_rev_t *out_since);                /* refs_lock; out_since may be NULL: that revision */
void blob_applied(struct mvcc *db, mvcc_rev_t applied); /* forgets stagers whose commit is in the engine */

/* Blobs whose counts are to change, each as often as by one; its owner frees `v`. */
struct blob_ids {
	mvcc_blob_t *v;
	size_t n, cap;
};

int blob_ids_add(struct blob_ids *ids, mvcc_blob_t id); /* 0 or -ENOMEM */
void blob_ids_sort(struct blob_ids *ids);
size_t blob_ids_same(const struct blob_ids *ids, size_t i); /* sorted: how many there are of the one at `i` */

/*
 * How many records refer to a blob: one, if no row says otherwise. `key` is filled with that of the row, for
 * blob_count_put(). Callers are inside the gate and hold refs_lock until what they put is written.
 */
int blob_count_get(struct mvcc *db, mvcc_blob_t blob, struct buf *key, uint64_t *count);
int blob_count_put(struct engine_batch *batch, struct slice key, uint64_t count);

int blob_load(struct mvcc *db); /* before replay: what that row says holds until blob_open() */
int blob_open(struct mvcc *db); /* after it: removes what unfinished transactions left; finds the next id */
bool blob_present(struct mvcc *db, mvcc_blob_t id, int *err);

/* How many bytes of the disk are free. */
uint64_t space_free(struct mvcc *db);

/* ---- policy.c ----------------------------------------------------------------------------- */

int policy_load(struct mvcc *db); /* at open */

/* Does what the policy asks for now. Tells when to come again, by the clock on the wall; INT64_MAX is never. */
int retain_step(struct mvcc *db, int64_t *due_ns);

/* ---- checkpoint.c ------------------------------------------------------------------------- */

/* At open: removes what is left of checkpoints that were cut short. */
int checkpoints_sweep(struct mvcc *db);

/* ---- verify.c ----------------------------------------------------------------------------- */

/* As mvcc_verify(), counting the references to so many blobs at a time: each needs 16 bytes, and a pass. */
int verify_rows(struct mvcc *db, size_t blobs_at_once,
		int (*fn)(void *arg, const struct mvcc_problem *problem), void *arg, uint64_t *problems);

/* ---- intent.c ----------------------------------------------------------------------------- */

int intents_load(struct mvcc *db);
int counters_load(struct mvcc *db);
void intents_release(struct mvcc *db);
int intent_remember(struct mvcc *db, uint64_t id, struct slice payload);
void intent_forget(struct mvcc *db, uint64_t id);
int counters_store(struct mvcc *db, struct engine_batch *batch); /* at close: the exact numbers */

#endif
