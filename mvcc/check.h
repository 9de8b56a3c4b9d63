/*
 * Trust, but verify: the hash of a state, copies of a running store, and the proof that all of its rows fit together.
 */
#ifndef MVCC_CHECK_H
#define MVCC_CHECK_H

#include "mvcc/mvcc.h"

struct mvcc_hash {
	uint64_t hi, lo; /* 128 bits, XXH3 */
	uint64_t keys;   /* how many keys the state has */
};

/*
 * The hash of all that a view sees: every key with its create and mod revision, version, lease, value and the contents
 * of its blobs. It depends on nothing else: neither on compaction, pins, batches and restarts, nor on the engine. Equal
 * histories have equal hashes. Reads everything, in bounded memory.
 */
MVCC_API int mvcc_hash(struct mvcc_view *view, struct mvcc_hash *out);

/*
 * Copies the store as it is now, while it goes on, into the new directory `dir`: a database of its own, which can be
 * opened. Files are linked where they can be (the same filesystem), so it costs little time and space. On disk when it
 * returns; if it fails, or is cut short by a kill, `dir` is no database, and what is left of it goes when this store
 * is next opened. `*out_rev` (may be NULL) is its newest revision. -EEXIST if `dir` exists.
 */
MVCC_API int mvcc_checkpoint(struct mvcc *db, const char *dir, mvcc_rev_t *out_rev);

/*
 * Makes the new database `dir` from a checkpoint (or any database that is not open), by copying; what shares blocks on
 * its filesystem is shared. `checkpoint` stays as it is. Cut short, `dir` is no database, and another try replaces it.
 * Returns 0, or -EEXIST (dir holds a database), MVCC_ENODB (one of the two is something else), -ENOENT, MVCC_ELOCKED,
 * MVCC_EFORMAT, -errno.
 */
MVCC_API int mvcc_restore(const char *checkpoint, const char *dir);

/* Something that does not fit, in words for an operator. `key` may be empty. */
struct mvcc_problem {
	const char *what;
	struct slice key;
	mvcc_rev_t rev;
	mvcc_blob_t blob; /* 0: not about a blob */
};

/*
 * Reads every row and checks that it decodes, that each fits the others (records and their ends, the log and what it
 * tells of, blobs and their counts, leases and their keys, pins), and that the engine's own checksums hold. Each problem
 * is told to `fn` (NULL: nobody), until it returns non-zero, which then is returned. The store goes on meanwhile; what
 * changes while it is read is not taken for damage. `*problems` counts them. 0 also when there are some. A store that
 * fails, or has failed, ends it with why.
 */
MVCC_API int mvcc_verify(struct mvcc *db, int (*fn)(void *arg, const struct mvcc_problem *problem), void *arg,
			 uint64_t *problems);

#endif
