/*
 * The inside of a transaction, shared by txn.c (what it reads and writes), spill.c (its staged run),
 * savepoint.c and commit.c. A transaction belongs to one thread at a time, so nothing here has a lock.
 */
#ifndef MVCC_TXN_INT_H
#define MVCC_TXN_INT_H

#include "mvcc/mvcc_int.h"

/* Something read, or guarded, or at least looked at. Lives in the arena of the table of reads. */
struct txn_read {
	bool validate;        /* commit fails if it changed */
	bool must_exist;      /* commit fails if it is absent then */
	bool spilled;         /* the run has the key, and is validated: it need not be remembered here */
	struct header first;  /* at the first base */
	struct header header; /* at the base */
	bool exists_now;      /* for must_exist: as far as validation has come */
	struct txn_read *next_guard;
};

/* A change to be computed at commit. */
struct txn_update {
	struct txn_update *next;
	mvcc_update_fn *fn;
	struct slice arg;
};

/* A key written. Lives in the arena of the table of writes. */
struct txn_write {
	enum { WRITE_NONE, WRITE_PUT, WRITE_DEL } what; /* NONE: only updates */
	bool reborn;                                    /* deleted, then put again */
	bool reborn_known;                              /* the run has been asked, too */
	bool header_known;
	bool moved; /* validation met another commit of the key */
	bool old_known;
	bool attaches; /* it was put with a lease, which has to exist at commit */
	mvcc_lease_t lease;
	uint64_t level; /* of the savepoint since which a txn_undo remembers it */
	struct slice value;
	uint64_t nblobs;
	struct slice blobs;      /* encoded; which are own is told when commit begins */
	struct slice blobs_told; /* encoded as the commit will tell them; set when commit begins */
	struct header header;    /* what it replaces: at the base, then as validation goes on */
	struct txn_update *updates, *last_update;
	struct mvcc_item old; /* of a key only updated: its record at the base, if old_known */
};

/* A write as it was at a savepoint. Lives in the arena of the table of writes. */
struct txn_undo {
	struct txn_undo *older;
	struct mem_node *node;
	bool made; /* the node is newer than the savepoint */
	struct txn_write was;
};

/*
 * The table of writes. Counted, as a cursor may still walk one that has been spilled, and a savepoint
 * may come back to it.
 */
struct txn_writes {
	unsigned refs;
	struct memtable mt;     /* a node's value points to its txn_write */
	struct txn_undo *undos; /* newest first */
	size_t spillable;       /* bytes added since the last spill */
};

/* What a transaction was, so that it can be that again. */
struct savepoint {
	struct savepoint *below;
	unsigned number;
	uint64_t level; /* no other savepoint of the transaction ever had it; a number comes again */
	struct txn_writes *writes; /* the table then, held; NULL: an empty one, which is gone */
	bool was_empty;
	struct txn_undo *undos; /* the newest of the table then */
	struct mem_mark mark;   /* of the table */
	size_t spillable, kept_bytes;
	uint64_t run, run_counts, run_grows;
	size_t run_leases; /* how many of them */
	uint64_t undo_run; /* what the rows of `run` were that were changed since; 0 for none */
	struct bloom *blooms;
	size_t nsettled;
	struct txn_broken *broken;
	struct txn_read *guards;
	struct txn_range *ranges;
};

/* A range walked, or guarded to be empty. Of a walked one, [start, upto] counts until `whole`. */
struct txn_range {
	struct txn_range *next;
	struct buf start, end, upto;
	bool started, whole;
	bool guard;
};

/* A guard that the transaction's own writes break, so that it can never hold. */
struct txn_broken {
	struct txn_broken *next;
	const struct txn_range *range; /* that was to be empty, and has `key`; NULL: `key` was to exist */
	struct buf key;
};

/* Which keys spills put into the run: no false "no". */
struct bloom {
	struct bloom *next;
	size_t nkeys, room; /* how many it is made for, and may still take */
	size_t nbits;       /* a power of two */
	uint64_t bits[];
};

struct mvcc_txn {
	struct mvcc *db;
	struct mvcc_view *view;       /* at the base */
	struct mvcc_view *first_view; /* at the first base, once it moved: what was seen there must stay */
	struct memtable reads;        /* a node's value points to its txn_read; made with the first */
	size_t reads_trimmed;         /* its bytes when it was last rid of what need not be remembered */
	struct txn_read *guards;
	struct txn_writes *writes;
	struct txn_range *ranges;
	size_t nranges;
	uint64_t run;                /* id of the staged run, 0 for none */
	uint64_t run_counts;         /* how many of its rows are a change */
	uint64_t run_grows;          /* how many are puts */
	bool miscounted;             /* these two, and the references to staged blobs: a spill failed */
	bool attaches;               /* some put names a lease */
	struct lease_ids run_leases; /* those that puts in the run name */
	struct bloom *blooms;
	struct savepoint *savepoints; /* newest first */
	uint64_t levels;              /* savepoints there ever were */
	size_t kept_bytes;            /* of spilled tables that savepoints hold */
	struct staged_blobs staged;
	uint64_t *settled;
	size_t nsettled;
	struct txn_broken *broken;          /* newest first */
	bool always;                        /* makes a revision, even when it changes nothing */
	bool moved_on;                      /* others had committed since the base when it was judged last */
	int err;                            /* a failed spill: the transaction can only be aborted */
	struct buf story, rec, value, list; /* scratch of commit */
	size_t payload_max;                 /* a guess of what the commit will take in the ring */
	size_t key_bytes;                   /* of all keys in `writes`, once commit has looked */
};

static inline struct txn_write *write_of(const struct mem_node *node)
{
	return (struct txn_write *)(uintptr_t)(const void *)node->value.data;
}

static inline struct txn_read *read_of(const struct mem_node *node)
{
	return (struct txn_read *)(uintptr_t)(const void *)node->value.data;
}

/* ---- read.c ------------------------------------------------------------------------------- */

/*
 * A cursor over the store at `rev`, or, with `txn`, over what that transaction sees. `range`, if any,
 * is told how far it came, and outlives the cursor.
 */
int cursor_open(struct mvcc *db, mvcc_rev_t rev, struct mvcc_txn *txn, struct txn_range *range,
		struct slice start, struct slice end, struct mvcc_cursor **out);

/* A cursor over all keys that `ever`, which outlives it, sees; its items say nothing. */
struct ever;
int cursor_open_ever(struct mvcc *db, const struct ever *ever, struct slice start, struct slice end,
		     struct mvcc_cursor **out);

/* ---- txn.c -------------------------------------------------------------------------------- */

struct txn_writes *txn_writes_new(void);
void txn_writes_unref(struct txn_writes *w); /* accepts NULL */

/* The write of `key`, NULL if there is none in memory. */
struct txn_write *txn_write_find(struct mvcc_txn *txn, struct slice key);

/* The write of `key`, made if there is none; NULL when out of memory. */
struct txn_write *txn_write_new(struct txn_writes *writes, struct slice key);

/* The same, to be changed: what it is now is remembered for the newest savepoint. */
struct txn_write *txn_write_at(struct mvcc_txn *txn, struct slice key);

struct txn_read *txn_read_find(struct mvcc_txn *txn, struct slice key);

/* Learns what `w` replaces, at the base. */
int txn_write_header(struct mvcc_txn *txn, struct slice key, struct txn_write *w);

/* The record that put `w` of `key` will make, as far as it is known: mod 0. */
int txn_write_record(struct mvcc_txn *txn, struct slice key, struct txn_write *w, struct record *out);

/* Does the transaction delete `key`? 1 or 0, or a code. */
int txn_deletes(struct mvcc_txn *txn, struct slice key);

/* Has the guarded range a key at the base that this transaction does not delete? 1 or 0, or a code. */
int txn_range_occupied(struct mvcc_txn *txn, const struct txn_range *range);

void txn_range_advance(struct txn_range *range, struct slice key); /* a cursor gave `key` */
void txn_range_finish(struct txn_range *range);                    /* a cursor came to the end */
bool txn_range_covers(const struct txn_range *range, struct slice key);

/* Makes a put, of that record, of a write that has updates only. On failure it stays as it is. 0 or -ENOMEM. */
int txn_update_to_put(struct mvcc_txn *txn, struct txn_write *w, const struct record *rec);

/* Applies the updates of `w` to its own put. */
int txn_fold_updates(struct mvcc_txn *txn, struct txn_write *w);

/* Encodes a list of blobs anew, into `out`: those that this transaction staged are marked, and counted. */
int txn_blobs_tell(struct mvcc_txn *txn, struct slice blobs, uint64_t nblobs, struct buf *out);

/* Forgets reads that the run validates as well, if they have become many. */
void txn_reads_trim(struct mvcc_txn *txn);

void txn_range_free(struct txn_range *range);

/* Forgets the guards broken since `upto`, which may be NULL. */
void txn_broken_free(struct mvcc_txn *txn, struct txn_broken *upto);

void txn_free(struct mvcc_txn *txn);

/* ---- spill.c ------------------------------------------------------------------------------ */

/* Moves the writes to the staged run; those with updates stay, unless `last`, which also ends the run. */
int txn_spill(struct mvcc_txn *txn, bool last);

/* May the run hold `key`? */
bool run_may_hold(const struct mvcc_txn *txn, struct slice key);

/* No key of the run was changed in (the base, rev]: 0, or MVCC_ECONFLICT. */
int run_validate(struct mvcc_txn *txn, mvcc_rev_t rev);

/* Is there a row of `key` in the run? 1 or 0, or a code. */
int run_holds(struct mvcc_txn *txn, struct slice key);

/* Calls `fn` for each row of the run, until it returns non-zero; returns that. */
typedef int run_row_fn(struct mvcc_txn *txn, const struct op *op, void *arg);
int run_each_row(struct mvcc_txn *txn, run_row_fn *fn, void *arg);

/* Learns from the run whether this transaction deleted the key that `w` puts. */
int run_reborn(struct mvcc_txn *txn, struct slice key, struct txn_write *w);

/* Counts the references of a row of the run to blobs that the transaction staged, up or down. */
int run_count_blobs(struct mvcc_txn *txn, const struct op *op, bool up);

int run_del(struct engine_batch *batch, uint64_t run); /* adds the deletion of all its rows */
void run_remove(struct mvcc_txn *txn);

/* May a filter from `bloom` on, and before `end`, hold the key? */
bool blooms_may_hold(const struct bloom *bloom, const struct bloom *end, struct slice key);

/* Frees those before `end`, which may be NULL, and gives that. */
struct bloom *blooms_free(struct bloom *bloom, struct bloom *end);

/* ---- conflict.c --------------------------------------------------------------------------- */

/*
 * Calls `fn` for each key of the part walked of a range whose record, by its revision (0: none), differs between
 * `base` and `rev`, until it returns non-zero; returns that.
 */
typedef int txn_differs_fn(void *arg, struct slice key, mvcc_rev_t was, mvcc_rev_t now);
int txn_range_compare(struct mvcc *db, const struct txn_range *range, mvcc_rev_t base, mvcc_rev_t rev,
		      txn_differs_fn *fn, void *arg);

/* ---- savepoint.c -------------------------------------------------------------------------- */

/*
 * The row of `key` in the run is about to be replaced, by the same batch: keeps what it is, `row`, empty
 * if there is none, for the newest savepoint. Caller is inside the gate.
 */
int savepoint_keep_row(struct mvcc_txn *txn, struct slice key, struct slice row, struct engine_batch *batch);

/* The table of writes has been spilled, and is about to be replaced. */
void savepoints_spilled(struct mvcc_txn *txn);

/* Forgets all savepoints, and what the engine holds for them. */
void savepoints_end(struct mvcc_txn *txn);

#endif
