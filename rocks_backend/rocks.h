/*
 * engine.h answered by RocksDB: a family is a column family, a batch is a WriteBatch, sync is the sync of
 * RocksDB's log, and a drop predicate is its compaction filter.
 */
#ifndef ROCKS_BACKEND_ROCKS_H
#define ROCKS_BACKEND_ROCKS_H

#include "mvcc/engine.h"

struct rocks_options {
	size_t cache_bytes; /* block cache of all families; 0 is 128 MiB */
	/* Every error of RocksDB, in its own words, beside the code that is returned. NULL is silence. */
	void (*log)(void *arg, int priority, const char *text); /* syslog priorities; from any thread */
	void *log_arg;
};

/*
 * Both the provider and the engines it opens borrow `opt`.
 *
 * Threads of RocksDB begin with the open and do not survive a fork: become a daemon before. Its open says,
 * besides what engine.h lists, MVCC_ELOCKED when the directory is open elsewhere. A database whose files
 * are damaged or partly gone is MVCC_ECORRUPT or -EIO, told in the log with the name of the file.
 */
#pragma GCC visibility push(default) /* exported by libmvcc_rocks, which has this header as mvcc/rocks.h */
struct engine_provider rocks_provider(struct rocks_options *opt);
#pragma GCC visibility pop

#endif
