/*
 * mvcc: a store of ordered keys in which nothing is overwritten.
 *
 * Each committed write transaction makes the next *revision* of the whole store; every earlier
 * revision stays readable. Semantics are etcd's (revisions, generations, versions, tombstones);
 * transactions are optimistic and can really be aborted. Keys and values are arbitrary bytes, keys of
 * 1 to MVCC_KEY_MAX bytes. The engine underneath is chosen by the caller (engine.h).
 *
 * Topics of their own: keep.h (compaction, pins, retention), lease.h, watch.h, request.h (if/then/else),
 * check.h (hash, checkpoint, verify, restore).
 *
 * Every function may be called from any thread, on any number of stores in one process. A single
 * view, cursor, transaction or log reader serves one thread at a time.
 *
 * Errors: 0 or one negative code (error.h). Besides what a contract lists, reads may return -EIO,
 * -ENOMEM or MVCC_ECORRUPT, and writes what made the store stop (see mvcc_txn_commit).
 */
#ifndef MVCC_H
#define MVCC_H

#include "mvcc/bytes.h"
#include "mvcc/engine.h"
#include "mvcc/error.h"

#include <sys/types.h>

/* Marks what libmvcc exports; everything else is hidden. */
#define MVCC_API __attribute__((visibility("default")))

typedef uint64_t mvcc_rev_t;
typedef uint64_t mvcc_blob_t;
typedef uint64_t mvcc_lease_t; /* 0 is no lease */

#define MVCC_REV_LATEST ((mvcc_rev_t)0) /* "the newest commit" where a revision is asked for */
#define MVCC_REV_FIRST ((mvcc_rev_t)1)  /* a fresh store stands at revision 1, and is empty */
#define MVCC_KEY_MAX ((size_t)4096)
#define MVCC_VALUE_MAX ((size_t)1 << 20) /* of a value in its record; larger ones are blobs */
#define MVCC_BLOB_MAX ((size_t)16 << 20)

struct mvcc;
struct mvcc_view;
struct mvcc_cursor;
struct mvcc_txn;
struct mvcc_log;

/* ---- the store ---------------------------------------------------------------------------- */

struct mvcc_options {
	const char *dir;               /* the database; made if absent, or if it is an empty directory */
	struct engine_provider engine; /* who keeps the rows */
	const char *holder;            /* told to whoever finds the store locked; may be NULL */
	size_t ring_bytes;             /* write-back ring; 0 is 16 MiB. A power of two from 256 KiB up */
	unsigned sync_ms;              /* unsynced commits reach the disk after at most this; 0 is 1000 */
	uint64_t reserve_bytes;        /* free disk kept for deletes and draining; 0 is by size of the disk */
	bool create;                   /* false: an absent database is -ENOENT */
	uint64_t
		compact_bytes_per_s; /* the rate at which compaction rewrites; 0 is 64 MiB, UINT64_MAX no limit */
	bool manual_upkeep;          /* no thread for compaction, retention and expiry: call mvcc_upkeep() */
	/*
	 * The time on the wall, in ns since 1970 UTC, for commits, leases and retention. NULL: the system's.
	 * Asked by any thread, those of the store included.
	 */
	int64_t (*clock)(void *arg);
	void *clock_arg;
	/*
	 * Told of each revision that no call of the caller's has made: those in which a lease ends, and that of a purge
	 * which could not be made when it was asked for. Once for each, after new views see it, by the thread that
	 * made it: one of the store's, or that of mvcc_lease_revoke(), mvcc_upkeep() or mvcc_compact_wait(). All of the
	 * store may be used but these, mvcc_purge() and mvcc_close(), which waits for it as the next such revision does.
	 * It may be called before mvcc_open() has returned. May be NULL.
	 */
	void (*committed)(void *arg, mvcc_rev_t rev);
	void *committed_arg;
	/* Fills revision 1 of a fresh store; NULL: it is empty. */
	int (*init)(void *arg, struct mvcc_txn *txn);
	void *init_arg;
	/* Told what the operator should know, with syslog's priorities. NULL is silence. */
	void (*log)(void *arg, int priority, const char *text);
	void *log_arg;
};

/*
 * Opens a store, alone: a lock file keeps others out. Replays what the ring still holds, then
 * removes what unfinished transactions left. Nothing is rebuilt: the time taken does not depend on
 * the number of keys.
 *
 * Returns 0, or
 *   -ENOENT        absent, and create is false
 *   MVCC_ELOCKED   open elsewhere; mvcc_lock_holder() tells by whom
 *   MVCC_ENODB     `dir` is a non-empty directory, or a file, that is no database; untouched
 *   MVCC_EFORMAT   of another format; mvcc_dir_format() tells which
 *   or what the engine's open returns.
 */
MVCC_API int mvcc_open(const struct mvcc_options *opt, struct mvcc **out);

/*
 * Puts everything on disk and closes. All views, cursors, transactions, watches and log readers must be gone.
 * The store is freed whatever is returned; an error means that the newest commits may be only in the
 * ring (the next open replays it). Accepts NULL.
 */
MVCC_API int mvcc_close(struct mvcc *db);

/* Who holds the lock of `dir`: a line like "pid 812, /mnt". -ENOENT if nobody does. */
MVCC_API int mvcc_lock_holder(const char *dir, char *out, size_t out_len);

/* The format of the database in `dir`, and the newest this library knows. -ENOENT if no database. */
MVCC_API int mvcc_dir_format(const char *dir, unsigned *format, unsigned *known);

/* Newest committed revision (etcd's currentRev). */
MVCC_API mvcc_rev_t mvcc_current(struct mvcc *db);

/* Oldest revision that is surely readable (etcd's compactMainRev). MVCC_REV_FIRST if never compacted. */
MVCC_API mvcc_rev_t mvcc_floor(struct mvcc *db);

/* ---- reading ------------------------------------------------------------------------------ */

/*
 * A view reads the store as it stood at one revision, however long it lives. It waits for no writer
 * and no writer waits for it.
 *
 * `rev` is a revision, or MVCC_REV_LATEST for the newest commit. Returns 0, or MVCC_ECOMPACTED,
 * MVCC_EFUTURE, -ENOMEM.
 */
MVCC_API int mvcc_view_open(struct mvcc *db, mvcc_rev_t rev, struct mvcc_view **out);
MVCC_API void mvcc_view_close(struct mvcc_view *view); /* accepts NULL; its cursors must be gone */
MVCC_API mvcc_rev_t mvcc_view_rev(const struct mvcc_view *view);

/* A key as it stood. Filled by reads; owns memory: release it with mvcc_item_release(). */
struct mvcc_item {
	mvcc_rev_t create_rev; /* the put that began this generation */
	mvcc_rev_t mod_rev;    /* the last put up to the view's revision; 0 for a transaction's own */
	uint64_t version;      /* puts since the generation began; 1 at creation */
	mvcc_lease_t lease;    /* 0: none */
	struct slice value;
	const mvcc_blob_t *blobs; /* the blobs the record refers to */
	size_t nblobs;
	struct buf own; /* private */
};

MVCC_API void mvcc_item_release(struct mvcc_item *item); /* accepts a zeroed item */

/* Reads one key. Returns 0, or -ENOENT when absent at the view's revision. */
MVCC_API int mvcc_get(struct mvcc_view *view, struct slice key, struct mvcc_item *out);

/*
 * Walks start <= key < end in key order; an empty `end` means to the last key. Nothing is held in
 * memory but the row at hand.
 */
MVCC_API int mvcc_cursor_open(struct mvcc_view *view, struct slice start, struct slice end,
			      struct mvcc_cursor **out);

/*
 * Steps to the next row: 1 with `*key` and `*item` lent until the next call or close (do not release
 * the item), 0 at the end, or a negative code.
 */
MVCC_API int mvcc_cursor_next(struct mvcc_cursor *c, struct slice *key, const struct mvcc_item **item);
MVCC_API void mvcc_cursor_close(struct mvcc_cursor *c); /* accepts NULL */

struct mvcc_row {
	struct buf key;
	struct mvcc_item item;
};

/* A result of mvcc_range(). Release with mvcc_rows_release(). */
struct mvcc_rows {
	struct mvcc_row *rows;
	size_t n;
	bool more;      /* the limit cut rows off */
	uint64_t count; /* with MVCC_RANGE_COUNT: how many rows match, whatever the limit */
};

enum mvcc_sort { MVCC_SORT_KEY, MVCC_SORT_VERSION, MVCC_SORT_CREATE, MVCC_SORT_MOD, MVCC_SORT_VALUE };

enum {
	MVCC_RANGE_COUNT = 1,      /* count all that match; else counting stops with the limit */
	MVCC_RANGE_COUNT_ONLY = 2, /* nothing but the count */
	MVCC_RANGE_KEYS = 4,       /* no values and blobs */
	MVCC_RANGE_DESCENDING = 8,
};

/* All zero: every row, in key order. Rows that sort alike stand in key order. */
struct mvcc_range_opt {
	size_t limit; /* 0: none */
	unsigned flags;
	enum mvcc_sort sort;
	mvcc_rev_t min_mod, max_mod, min_create, max_create; /* only rows within; 0: no bound */
};

/*
 * The rows of start <= key < end (an empty `end`: to the last key) that match. `opt` may be NULL. In key order it
 * reads no further than the limit; another order reads the whole range, and keeps no more rows than the limit.
 */
MVCC_API int mvcc_range(struct mvcc_view *view, struct slice start, struct slice end,
			const struct mvcc_range_opt *opt, struct mvcc_rows *out);
MVCC_API void mvcc_rows_release(struct mvcc_rows *rows);

/*
 * The life of one key: calls `fn` for every record of it that any revision in [floor, current], or a
 * pinned one, can see, oldest first. `end_rev` is the revision from which the record is no longer current (a further
 * put, or the tombstone), 0 for the record that is current now. A generation begins where
 * item->version is 1, and has ended where the next create_rev differs. Stops when `fn` returns
 * non-zero, and returns that.
 */
typedef int mvcc_history_fn(void *arg, const struct mvcc_item *item, mvcc_rev_t end_rev);
MVCC_API int mvcc_history(struct mvcc *db, struct slice key, mvcc_history_fn *fn, void *arg);

/*
 * The same from the newest to the oldest, of the records that came before revision `before` (MVCC_REV_LATEST: all).
 * Each costs a few look-ups, so the newest of very many are soon found: let `fn` stop when it has enough, and go on
 * another time with the last mod_rev told.
 */
MVCC_API int mvcc_history_back(struct mvcc *db, struct slice key, mvcc_rev_t before, mvcc_history_fn *fn,
			       void *arg);

/*
 * Walks all keys of start <= key < end (an empty `end`: to the last key) that any revision in [floor, current], or a
 * pinned one, has, deleted ones, too: each once, in key order. What is current, and what is kept, is as of the opening,
 * but what is given up meanwhile may be left out. It takes no more memory for more keys, and no more time for
 * more versions of a key.
 */
struct mvcc_keys;
MVCC_API int mvcc_keys_ever_open(struct mvcc *db, struct slice start, struct slice end,
				 struct mvcc_keys **out);
MVCC_API int mvcc_keys_next(struct mvcc_keys *keys, struct slice *key); /* as mvcc_cursor_next() */
MVCC_API void mvcc_keys_close(struct mvcc_keys *keys);                  /* accepts NULL */

/* Blobs: large values beside the records. Immutable; ids are never used twice while referred to. */

/* Reads up to `len` bytes at `off`. Returns how many (fewer at the end), or a negative code; -ENOENT. */
MVCC_API ssize_t mvcc_blob_read(struct mvcc *db, mvcc_blob_t blob, size_t off, void *out, size_t len);

/* ---- writing ------------------------------------------------------------------------------ */

/* The story of a commit, kept in the log with it. Strings may be NULL; the store copies them. */
struct mvcc_story {
	uint32_t uid, gid, pid;
	const char *comm;    /* the program that asked */
	const char *op;      /* a word: "write", "rename", ... */
	struct slice path;   /* what was changed, any bytes */
	struct slice path2;  /* a second name (rename's old, link's target); may be empty */
	const char *session; /* label of the session */
	const char *message;
};

/*
 * A write transaction: reads as of its beginning plus its own writes; nobody else sees anything of
 * it before commit. Of any size: what does not fit in memory is staged in the engine.
 */
MVCC_API int mvcc_txn_begin(struct mvcc *db, struct mvcc_txn **out);

/* The revision it reads at. */
MVCC_API mvcc_rev_t mvcc_txn_rev(const struct mvcc_txn *txn);

/*
 * Reads that commit validates: if another commit changed the key (or put or deleted any key of a
 * walked range) in between, commit returns MVCC_ECONFLICT. Absence counts as read, too.
 */
MVCC_API int mvcc_txn_get(struct mvcc_txn *txn, struct slice key, struct mvcc_item *out);
MVCC_API int mvcc_txn_cursor_open(struct mvcc_txn *txn, struct slice start, struct slice end,
				  struct mvcc_cursor **out);

/* The same, not validated: for what the caller guards otherwise. */
MVCC_API int mvcc_txn_peek(struct mvcc_txn *txn, struct slice key, struct mvcc_item *out);
MVCC_API int mvcc_txn_peek_cursor_open(struct mvcc_txn *txn, struct slice start, struct slice end,
				       struct mvcc_cursor **out);

/* As mvcc_range(), over what the transaction sees; validated. Its own rows sort, and are filtered, as the newest. */
MVCC_API int mvcc_txn_range(struct mvcc_txn *txn, struct slice start, struct slice end,
			    const struct mvcc_range_opt *opt, struct mvcc_rows *out);

/*
 * Guards, judged at commit: MVCC_ECONFLICT if then they do not hold. "exists" of a key that the transaction has put
 * holds; of one that it puts later, the guard is about what others leave there.
 */
MVCC_API int mvcc_txn_expect_exists(struct mvcc_txn *txn, struct slice key);
MVCC_API int mvcc_txn_expect_empty(struct mvcc_txn *txn, struct slice start, struct slice end);

/*
 * Writes. Key, value and list of blobs are copied. `blobs` are the blobs the value refers to, each
 * staged by this transaction, or referred to by a record that the transaction sees, or by one that an open view sees:
 * of any revision, so that what was there once is put again without copying data. That view must have been
 * opened before the record was read, and stay open until the transaction is committed.
 * Returns 0, or -EINVAL for a key or value of forbidden length, -ENOMEM, or an engine's error.
 */
MVCC_API int mvcc_txn_put(struct mvcc_txn *txn, struct slice key, struct slice value,
			  const mvcc_blob_t *blobs, size_t nblobs);
MVCC_API int mvcc_txn_del(struct mvcc_txn *txn, struct slice key); /* of an absent key: no change */

enum {
	MVCC_PUT_KEEP_VALUE = 1, /* value and blobs stay as they are: -ENOENT if the key is absent */
	MVCC_PUT_KEEP_LEASE = 2, /* the lease stays as it is: -ENOENT if the key is absent */
};

struct mvcc_put {
	struct slice key, value;
	const mvcc_blob_t *blobs;
	size_t nblobs;
	mvcc_lease_t lease; /* the key goes when this lease ends; 0: none, also if it had one */
	unsigned flags;     /* what is kept is read, and validated */
};

/*
 * As mvcc_txn_put(), with all there is to say. MVCC_ENOLEASE if the lease does not exist, now or (from the commit)
 * then.
 */
MVCC_API int mvcc_txn_put_with(struct mvcc_txn *txn, const struct mvcc_put *put);

/* Deletes what the transaction sees of start <= key < end; validated. `*n` (may be NULL): how many keys. */
MVCC_API int mvcc_txn_del_range(struct mvcc_txn *txn, struct slice start, struct slice end, uint64_t *n);

/*
 * Changes `key` at commit, from whatever value it has then, so that two transactions that count on
 * the same key do not conflict. `fn` gets the newest value and appends the new one to `out`; it runs
 * under the commit lock, so it only computes; it may run several times. `arg` (arg_len bytes) is
 * copied. If the key is absent at commit the update is left out. The record's blobs are kept. Applied
 * to this transaction's own put if there is one. Not seen by this transaction's reads.
 */
typedef int mvcc_update_fn(const void *arg, struct slice old, struct buf *out);
MVCC_API int mvcc_txn_update(struct mvcc_txn *txn, struct slice key, mvcc_update_fn *fn, const void *arg,
			     size_t arg_len);

/*
 * A savepoint: what the transaction has written so far. Rolling back undoes all writes, updates, guards and settled
 * intents after it, and later savepoints; it stays itself. What was read is still validated. `*out` numbers them
 * from 1. Rolling back to one that does not exist (any more) is -EINVAL. The transaction's cursors must be closed
 * before, and a commit ends all savepoints, even one that leaves the transaction alive. If rolling back fails in the
 * engine, the transaction can only be aborted.
 */
MVCC_API int mvcc_txn_savepoint(struct mvcc_txn *txn, unsigned *out);
MVCC_API int mvcc_txn_rollback(struct mvcc_txn *txn, unsigned savepoint);

/* Stages a blob of 1 to MVCC_BLOB_MAX bytes for records of this transaction. */
MVCC_API int mvcc_txn_stage_blob(struct mvcc_txn *txn, struct slice bytes, mvcc_blob_t *out);

/* With the commit, the intent is settled (see mvcc_intent_put). */
MVCC_API int mvcc_txn_settle(struct mvcc_txn *txn, uint64_t intent);

/*
 * Commits and frees the transaction, whatever is returned, except -EAGAIN (see below) and what
 * MVCC_COMMIT_KEEP and MVCC_COMMIT_KEEP_CONFLICT keep.
 * On 0 `*out_rev` (may be NULL) is the new revision; a transaction that changed nothing takes none,
 * and gives the current one. Once it returns 0, every new view sees the commit, and a kill of the
 * process does not lose it; mvcc_sync() makes it survive a power cut.
 *
 * Returns 0, or
 *   MVCC_ECONFLICT  a read or guard no longer holds: begin anew
 *   -ENOSPC         the disk has no room for it (deletes are still admitted)
 *   -EAGAIN         only with MVCC_COMMIT_NOWAIT: the ring is full; nothing happened, the transaction
 *                   lives on: commit it again (mvcc_on_room() tells when), or abort
 *   or the engine's error that stopped the store: no commit succeeds until the store has reopened
 *   the engine, which it tries by itself.
 */
enum {
	MVCC_COMMIT_WAIT = 0,
	MVCC_COMMIT_NOWAIT = 1,
	/* After any error but MVCC_ECONFLICT the transaction lives on, to be committed again or aborted. */
	MVCC_COMMIT_KEEP = 2,
	/*
	 * After MVCC_ECONFLICT the transaction lives on, too, with all it has written, to be read at the revision it began
	 * at, added to, committed again or aborted; its savepoints are gone. mvcc_txn_conflicts() tells why. What was
	 * read was read, so the conflict stays; only that of a guard goes with its cause.
	 */
	MVCC_COMMIT_KEEP_CONFLICT = 4,
};
MVCC_API int mvcc_txn_commit(struct mvcc_txn *txn, const struct mvcc_story *story, unsigned flags,
			     mvcc_rev_t *out_rev);
MVCC_API void mvcc_txn_abort(struct mvcc_txn *txn); /* accepts NULL */

enum mvcc_conflict_kind {
	MVCC_CONFLICT_READ,   /* a key that was read has been changed */
	MVCC_CONFLICT_RANGE,  /* in a range that was walked a key has been changed, has come or gone */
	MVCC_CONFLICT_EXISTS, /* a key that is to exist does not */
	MVCC_CONFLICT_EMPTY,  /* in a range that is to be empty there is a key */
	/* A key that was written has been changed: of transactions larger than memory, which may forget that they read it. */
	MVCC_CONFLICT_WRITE,
};

struct mvcc_conflict {
	enum mvcc_conflict_kind kind;
	struct slice key;
	struct slice start, end; /* RANGE and EMPTY: the range, as it was asked for; else empty */
	mvcc_rev_t base_rev;     /* of the record the transaction sees; 0: none */
	mvcc_rev_t now_rev;      /* of the record that is there now; 0: none */
	bool own; /* EXISTS and EMPTY: broken by the transaction's own write; then both are 0 */
};

/*
 * Calls `fn` for all that keeps the transaction from being committed now: once for each key and each reason, so a key
 * that was read and is in a walked range is told twice, and in a range walked twice, too. What it is given is lent for that call, in which the
 * transaction must not be used; no lock is held. Stops when `fn` returns non-zero, and returns that.
 *
 * A commit with MVCC_COMMIT_KEEP_CONFLICT has a conflict if and only if this tells of one; without that flag,
 * a key that is absent again, as it was read, is a conflict, too. A commit that was overtaken by
 * others again and again is MVCC_ECONFLICT in the end, and this may tell nothing.
 */
MVCC_API int mvcc_txn_conflicts(struct mvcc_txn *txn,
				int (*fn)(void *arg, const struct mvcc_conflict *conflict), void *arg);

/* Is there room in the ring for a few more commits? False means that a commit may have to wait. */
MVCC_API bool mvcc_has_room(struct mvcc *db);

/* Calls `fn` once, from another thread, as soon as mvcc_has_room(); at once if it has. 0 or -ENOMEM. */
MVCC_API int mvcc_on_room(struct mvcc *db, void (*fn)(void *arg), void *arg);

/* Puts every commit up to `rev` (MVCC_REV_LATEST: all so far) on disk. */
MVCC_API int mvcc_sync(struct mvcc *db, mvcc_rev_t rev);

/* The same without waiting: `fn` is called once, from another thread, with the result. 0 or -ENOMEM. */
MVCC_API int mvcc_sync_async(struct mvcc *db, mvcc_rev_t rev, void (*fn)(void *arg, int err), void *arg);

/* ---- beside the revisions ------------------------------------------------------------------ */

/*
 * An intent is a promise to commit something soon, kept as safely as a commit (ring, then engine) and
 * part of no revision. One that is still unsettled when the store is opened again is shown by
 * mvcc_intents(), for the caller to redo and settle. Payload up to 64 KiB.
 */
MVCC_API int mvcc_intent_put(struct mvcc *db, struct slice payload, uint64_t *out);
MVCC_API int mvcc_intent_drop(struct mvcc *db, uint64_t intent);
MVCC_API int mvcc_intents(struct mvcc *db, int (*fn)(void *arg, uint64_t intent, struct slice payload),
			  void *arg);

/*
 * Takes `n` numbers off a counter kept with the store: `*first` .. `*first + n - 1`, never given
 * again, whatever happens. A counter begins at 1. `name` is 1 to 32 bytes.
 */
MVCC_API int mvcc_reserve(struct mvcc *db, const char *name, uint64_t n, uint64_t *first);

/* ---- the log ------------------------------------------------------------------------------- */

struct mvcc_change {
	struct slice key;
	bool deleted;
	mvcc_rev_t prev_rev; /* the record it replaced was of this revision; 0 if there was none */
};

struct mvcc_entry {
	mvcc_rev_t rev;
	int64_t time_ns;         /* since 1970 UTC; never decreases from one revision to the next */
	struct mvcc_story story; /* strings are never NULL here */
};

/*
 * Reads the log of from <= rev <= to (MVCC_REV_LATEST: to the newest). It brings what is still buffered
 * into the engine first, so it may wait for that, and fails as commits do while the store is stopped.
 * Returns 0, or MVCC_ECOMPACTED, MVCC_EFUTURE, or what stopped the store.
 */
MVCC_API int mvcc_log_open(struct mvcc *db, mvcc_rev_t from, mvcc_rev_t to, struct mvcc_log **out);

/*
 * From here on only revisions that changed a key of start <= key < end (an empty `end`: to the last key), and of
 * their changes only these. To be called before the first mvcc_log_next().
 */
MVCC_API int mvcc_log_filter(struct mvcc_log *log, struct slice start, struct slice end);

/* The next revision: 1 with `*entry` lent until the next call or close, 0 at the end, or negative. */
MVCC_API int mvcc_log_next(struct mvcc_log *log, const struct mvcc_entry **entry);

/* The next change of the entry at hand, in key order: 1, 0 when there are no more, or negative. */
MVCC_API int mvcc_log_change(struct mvcc_log *log, struct mvcc_change *change);
MVCC_API void mvcc_log_close(struct mvcc_log *log); /* accepts NULL */

/*
 * The newest readable revision whose time is not after `time_ns`: one from the floor up, or a pinned one. If all are
 * later, the first one of a store that was never compacted, or MVCC_ECOMPACTED. O(log n).
 */
MVCC_API int mvcc_rev_at(struct mvcc *db, int64_t time_ns, mvcc_rev_t *out);

/* ---- figures ------------------------------------------------------------------------------- */

/*
 * How long something took, in ns: bucket i counts what took at least mvcc_histogram_bound(i - 1) and less than
 * mvcc_histogram_bound(i); four buckets for each doubling, the last one for all that took longer.
 */
#define MVCC_HISTOGRAM_BUCKETS 128

struct mvcc_histogram {
	uint64_t count, sum_ns, max_ns;
	uint64_t buckets[MVCC_HISTOGRAM_BUCKETS];
};

MVCC_API uint64_t mvcc_histogram_bound(unsigned bucket);

/* The time below which the share `q` (0 to 1) of all lies; 0 if there were none. Right to a quarter. */
MVCC_API uint64_t mvcc_histogram_quantile(const struct mvcc_histogram *h, double q);

struct mvcc_stats {
	mvcc_rev_t current, applied, synced, floor; /* applied: in the engine; synced: on disk */
	uint64_t commits, conflicts, syncs, drains; /* since open */
	uint64_t ring_bytes, ring_used;
	uint64_t buffered_rows;                   /* in the write-back buffer */
	uint64_t blobs_staged, blob_bytes_staged; /* since open */
	uint64_t views;                           /* open now */
	uint64_t replayed;                        /* revisions the last open took from the ring */
	uint64_t pins, leases, watches;           /* there now */
	uint64_t leases_expired;                  /* since open */
	mvcc_rev_t compacted;                     /* the space of all below it has come back */
	uint64_t blobs_freed, compactions;        /* since open */
	struct mvcc_histogram commit;             /* callers of mvcc_txn_commit(), successful ones */
	struct mvcc_histogram drain, sync;        /* batches to the engine; its syncs */
	struct mvcc_histogram compact;            /* steps of compaction */
	int failed;                               /* 0, or the error that stopped commits */
	struct engine_stats engine;
};

MVCC_API void mvcc_stats(struct mvcc *db, struct mvcc_stats *out);

#endif
