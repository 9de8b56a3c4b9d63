/*
 * The bytes mvcc gives to the engine and to the ring: records, operations, commits, rows of the log
 * and the keys of every family. Each has one encoder and one decoder, here; FORMAT.md draws them.
 * Decoders lend slices of what they were given and trust nothing.
 */
#ifndef MVCC_RECORD_H
#define MVCC_RECORD_H

#include "mvcc/keep.h"
#include "mvcc/lease.h"
#include "mvcc/mvcc.h"

/* The families, in the order in which the engine is told of them. */
enum { FAM_META, FAM_LATEST, FAM_HIST, FAM_LOG, FAM_BLOB, FAM_STAGE, FAM_ENDED, FAM_LEASE, FAM_COUNT };

/* A revision ends below this, so that the first byte of a BE64 in a key of `hist` is 00. */
#define REV_LIMIT ((mvcc_rev_t)1 << 56)

/* ---- records ------------------------------------------------------------------------------ */

/*
 * What is stored under a key: its place in history, the blobs it refers to, its value. In a staged
 * run `mod` is 0, and so is the `create` of a new generation: both mean the revision of the commit.
 */
struct record {
	mvcc_rev_t mod, create;
	uint64_t version;
	mvcc_lease_t lease; /* 0: none */
	uint64_t nblobs;
	struct slice blobs; /* encoded: see record_blob_take() */
	struct slice value;
};

int record_encode(struct buf *out, const struct record *rec); /* appends; 0 or -ENOMEM */
int record_decode(struct slice in, struct record *out);       /* 0 or MVCC_ECORRUPT */
void record_resolve(struct record *rec, mvcc_rev_t rev);      /* of a run: fills in the revision */

/* A blob in a record's list. `own`: staged by the very transaction that put the record. */
int record_blob_put(struct buf *out, mvcc_blob_t blob, bool own);
bool record_blob_take(struct slice *blobs, mvcc_blob_t *blob, bool *own);

/* ---- operations and commits --------------------------------------------------------------- */

enum {
	OP_DEL = 1,    /* a tombstone; no record follows */
	OP_REBORN = 2, /* deleted and put again by one transaction; meant for the run's own later rows */
};

/* One change of a key: an element of a commit, or the value of a staged row (which has no key in it). */
struct op {
	uint8_t flags;
	struct slice key;
	mvcc_rev_t prev; /* revision of the record it replaces, 0 if there is none */
	struct slice record;
};

int op_encode(struct buf *out, const struct op *op); /* with the key */
bool op_take(struct slice *in, struct op *out);
int staged_encode(struct buf *out, const struct op *op); /* without */
int staged_decode(struct slice in, struct op *out);      /* 0 or MVCC_ECORRUPT; leaves out->key */

/*
 * The value of a run's end row: the blobs that several rows of the run refer to, with how many. Each
 * is a varint id and a varint count.
 */
int shared_put(struct buf *out, mvcc_blob_t blob, uint64_t count);
bool shared_take(struct slice *in, mvcc_blob_t *blob, uint64_t *count);

/* A story as stored: the strings are slices. */
struct story_raw {
	uint32_t uid, gid, pid;
	struct slice comm, op, path, path2, session, message;
};

#define STORY_MAX ((size_t)64 << 10) /* encoded */

int story_encode(struct buf *out, const struct mvcc_story *story); /* NULL is an empty story */
bool story_take(struct slice *in, struct story_raw *out);

/* A commit as the ring has it: this head, then operations in key order to the end. */
struct commit_head {
	mvcc_rev_t rev;
	int64_t time_ns;
	struct slice story; /* encoded */
	uint64_t run;       /* id of the staged run that belongs to it, 0 for none */
	uint64_t nsettled;
	struct slice settled; /* encoded varints */
	struct slice ops;
};

int commit_head_encode(struct buf *out, const struct commit_head *head); /* `ops` is left to the caller */
int commit_head_decode(struct slice in, struct commit_head *out);        /* 0 or MVCC_ECORRUPT */

/* ---- keys --------------------------------------------------------------------------------- */

/* All of these replace the contents of `out`, and return 0 or -ENOMEM. */
int hist_key(struct buf *out, struct slice key, mvcc_rev_t end_rev);
int hist_key_start(struct buf *out, struct slice key); /* before every row of `key` */
int hist_key_after(struct buf *out, struct slice key); /* after every row of `key`, before the next key's */
int hist_key_decode(struct slice in, struct buf *key, mvcc_rev_t *end_rev); /* or MVCC_ECORRUPT */
size_t hist_prefix_len(struct slice in);                                    /* for engine_family */

int log_key(struct buf *out, mvcc_rev_t rev, uint32_t part);
int log_key_decode(struct slice in, mvcc_rev_t *rev, uint32_t *part); /* 0 or MVCC_ECORRUPT */
int id_key(struct buf *out, uint64_t id);                             /* of a blob, of a run's end row */
int stage_key(struct buf *out, uint64_t run, struct slice key);

/* A row of `ended`: waits for the floor (`at` is ENDED_NEW), or for the end of the pins of revision `at`. */
#define ENDED_NEW ((mvcc_rev_t)0)
int ended_key(struct buf *out, mvcc_rev_t at, mvcc_rev_t end_rev, struct slice key);
int ended_key_start(struct buf *out, mvcc_rev_t at,
		    mvcc_rev_t end_rev); /* before all that end there or later */
int ended_key_decode(struct slice in, mvcc_rev_t *end_rev, struct slice *key); /* or MVCC_ECORRUPT */
int ended_key_purged(struct buf *out, mvcc_rev_t rev, mvcc_rev_t end_rev,
		     struct slice key); /* by that purge */
bool ended_is_purged(struct slice in);
int ended_encode(struct buf *out, mvcc_rev_t mod, struct slice blobs);   /* blobs: as a record lists them */
int ended_decode(struct slice in, mvcc_rev_t *mod, struct slice *blobs); /* or MVCC_ECORRUPT */
/*
 * A lease: a record of the ring holds all of it, its row in FAM_LEASE has the id in its key. Times of leases are
 * in ms, as the longest would not fit in ns.
 */
struct lease_row {
	mvcc_lease_t id;     /* 1 to 2^63 - 1 */
	uint64_t ttl_ms;     /* 1 to LEASE_TTL_MS_MAX */
	int64_t deadline_ms; /* since 1970 UTC */
};

#define LEASE_BYTES 24
#define LEASE_VALUE 8 /* where in these bytes the value of the row begins */
#define LEASE_TTL_MS_MAX (MVCC_LEASE_TTL_MAX * 1000)

void lease_encode(uint8_t out[LEASE_BYTES], const struct lease_row *row);
int lease_decode(struct slice in, struct lease_row *out);                          /* 0 or MVCC_ECORRUPT */
int lease_row_decode(struct slice key, struct slice value, struct lease_row *out); /* likewise */
int lease_key(struct buf *out, mvcc_lease_t id);
int lease_keys_end(struct buf *out); /* behind the rows of all leases */

/* The row that says that `key` is attached; with an empty key, what stands before all those of the lease. */
int attached_key(struct buf *out, mvcc_lease_t id, struct slice key);
int attached_key_decode(struct slice in, mvcc_lease_t *id, struct slice *key); /* 0 or MVCC_ECORRUPT */

/* Rows of FAM_META. */
#define META_STORE "store"
#define META_CHECKPOINT "checkpoint/" /* ++ path */
#define META_POLICY "policy"
#define META_APPLIED "applied"
#define META_MOVING "moving"
#define META_FLOOR "floor"
#define META_BLOB_LOW "blob_low"
#define META_INTENT "intent/"   /* ++ BE64(id) */
#define META_COUNTER "counter/" /* ++ name */
#define META_BLOBREF "blobref/" /* ++ BE64(blob) */
#define META_COMPACTED "compacted"
#define META_PIN "pin/"           /* ++ name */
#define META_UNPINNED "unpinned/" /* ++ BE64(rev) */
#define META_PURGE "purge/"       /* ++ BE64(id) */

/* A purge: its revision, 0 while that is not made; the ranges are for purge_range_take(). */
struct purge_row {
	mvcc_rev_t rev;
	bool done;
	struct slice story, ranges; /* encoded */
};

int purge_encode(struct buf *out, const struct purge_row *row); /* replaces */
int purge_decode(struct slice in, struct purge_row *out);       /* 0 or MVCC_ECORRUPT */
bool purge_range_take(struct slice *ranges, struct slice *start, struct slice *end);

int pin_encode(struct buf *out, const struct mvcc_pin *pin);              /* replaces */
int pin_decode(struct slice name, struct slice in, struct mvcc_pin *out); /* or MVCC_ECORRUPT */

int meta_key_id(struct buf *out, const char *prefix, uint64_t id);
int meta_key_name(struct buf *out, const char *prefix, struct slice name);

int policy_encode(struct buf *out, const struct mvcc_policy *policy); /* replaces */
int policy_decode(struct slice in, struct mvcc_policy *out);          /* 0 or MVCC_ECORRUPT */

/* How far the ring has been moved into the engine, written in the same batch as what it tells of. */
struct applied {
	uint64_t seq;   /* of the last ring record applied */
	uint64_t pos;   /* where the next one begins */
	uint64_t check; /* what the next one's checksum is chained to */
	mvcc_rev_t rev; /* newest revision applied */
	int64_t time_ns;
};

int applied_encode(struct buf *out, const struct applied *a);
int applied_decode(struct slice in, struct applied *out);

/* The row `moving`: what `applied` will be once a run is moved, and its commit, as the ring has it. */
int moving_encode(struct buf *out, const struct applied *after, struct slice payload); /* replaces */
int moving_decode(struct slice in, struct applied *after, struct slice *payload);      /* or MVCC_ECORRUPT */

/* ---- rows of the log ---------------------------------------------------------------------- */

#define LOG_PART_MAX ((size_t)32 << 10)

struct log_part {
	int64_t time_ns;    /* part 0 only */
	struct slice story; /* part 0 only; encoded */
	uint64_t nranges;
	struct slice ranges;  /* encoded: see log_range_take() */
	struct slice changes; /* encoded: see log_change_take() */
};

int log_part_encode(struct buf *out, uint32_t part, const struct log_part *p);
int log_part_decode(struct slice in, uint32_t part, struct log_part *out); /* 0 or MVCC_ECORRUPT */

/* Blobs brought by the changes of the part: ids first .. first + count - 1. */
int log_range_put(struct buf *out, mvcc_blob_t first, uint64_t count);
bool log_range_take(struct slice *ranges, mvcc_blob_t *first, uint64_t *count);

int log_change_put(struct buf *out, const struct mvcc_change *change);
bool log_change_take(struct slice *changes, struct mvcc_change *out);

#endif
