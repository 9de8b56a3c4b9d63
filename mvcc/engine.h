/*
 * What mvcc asks of a store: a few families of ordered keys, gets whose bytes are lent, bounded
 * iterators, atomic batches over all families, and sync. No more: revisions, history and blobs are
 * mvcc's ideas, made of rows in these families.
 *
 * mvcc names the families and says of each how it is used; the engine chooses what that means for
 * its files. An engine is safe for use by many threads at once, except for close and reopen, which
 * the caller runs alone. Keys order as slice_cmp() orders them. Keys and values are copied in.
 *
 * Errors are negative codes of mvcc/error.h. Anything an engine may say besides what a function's
 * contract lists: -EIO, -ENOSPC, -ENOMEM, MVCC_ECORRUPT.
 */
#ifndef MVCC_ENGINE_H
#define MVCC_ENGINE_H

#include "mvcc/bytes.h"

#include <stdatomic.h>

/* How a family is used, so that an engine can lay it out well. */
enum engine_use {
	ENGINE_USE_META,   /* a handful of small rows, overwritten often */
	ENGINE_USE_POINT,  /* overwritten in place; gets of present and absent keys, ordered scans */
	ENGINE_USE_PREFIX, /* written once; sought by prefix (see prefix_len), seldom scanned whole */
	ENGINE_USE_APPEND, /* written once in rising key order, read in order */
	ENGINE_USE_BLOB,   /* large values, written once in rising key order, read by point gets */
	ENGINE_USE_STAGE,  /* written, read once in order, then deleted */
};

struct engine_family {
	const char *name;
	enum engine_use use;
	/*
	 * ENGINE_USE_PREFIX only: the length of the part of `key` by which rows are sought. Must be
	 * stable: applied to that part alone it gives its whole length.
	 */
	size_t (*prefix_len)(struct slice key);
	/*
	 * May a row go? Asked at any time and any number of times while the engine rewrites its
	 * files; a row for which it once said true must never be needed again. NULL: keep all.
	 */
	bool (*drop)(void *arg, struct slice key, struct slice value);
	void *drop_arg;
};

struct engine;
struct engine_iter;

/* A lent value. Valid, and the engine may not be closed, until engine_pin_release(). */
struct engine_pin {
	struct slice value;
	void *handle; /* the engine's */
};

/* One row of a batch. `value` is ignored by deletes; ENGINE_DEL_RANGE deletes [key, end). */
enum engine_op { ENGINE_PUT, ENGINE_DEL, ENGINE_DEL_RANGE };

/* A batch: rows for any families, applied whole or not at all. Filled by one thread. */
struct engine_batch;

/* Flags of engine_write(). */
enum {
	ENGINE_NOSYNC = 0,
	ENGINE_SYNC = 1, /* on disk when it returns */
};

/* Figures. An engine leaves at 0 what it does not have. */
struct engine_stats {
	uint64_t bytes_live;    /* estimate of the user bytes that are live */
	uint64_t bytes_disk;    /* size of its files, logs included */
	uint64_t bytes_cache;   /* block cache in use */
	uint64_t bytes_buffers; /* memtables */
	uint64_t rows_estimate; /* of all families */
};

/*
 * The operations. Each engine fills one static const table; `struct engine` is its first member of
 * its own struct. Call them through the inline functions below.
 */
struct engine_ops {
	void (*close)(struct engine *e);
	int (*reopen)(struct engine *e);
	int (*get)(struct engine *e, unsigned family, struct slice key, struct engine_pin *out);
	void (*pin_release)(struct engine *e, struct engine_pin *pin);
	int (*iter_new)(struct engine *e, unsigned family, struct slice start, struct slice end,
			struct engine_iter **out);
	struct engine_batch *(*batch_new)(struct engine *e);
	int (*batch_add)(struct engine_batch *b, enum engine_op op, unsigned family, struct slice key,
			 struct slice value_or_end);
	size_t (*batch_bytes)(const struct engine_batch *b);
	void (*batch_clear)(struct engine_batch *b);
	void (*batch_free)(struct engine_batch *b);
	int (*write)(struct engine *e, struct engine_batch *b, unsigned flags);
	int (*sync)(struct engine *e);
	int (*checkpoint)(struct engine *e, const char *dir);
	int (*rewrite)(struct engine *e, unsigned family, struct slice start, struct slice end,
		       uint64_t bytes_per_s, const atomic_bool *stop);
	void (*stats)(struct engine *e, struct engine_stats *out);
};

struct engine {
	const struct engine_ops *ops;
};

struct engine_batch {
	const struct engine_ops *ops;
};

/* Every iterator begins with this; engines embed it. */
struct engine_iter_ops {
	bool (*seek)(struct engine_iter *it, struct slice key);
	bool (*next)(struct engine_iter *it);
	bool (*seek_last)(struct engine_iter *it);
	int (*error)(struct engine_iter *it);
	void (*free)(struct engine_iter *it);
};

struct engine_iter {
	const struct engine_iter_ops *ops;
	struct slice key;   /* while the last move returned true: lent until the next move or free */
	struct slice value; /* likewise */
};

/*
 * How mvcc comes by an engine: the caller of mvcc_open() hands one of these. `dir` is an existing
 * directory for the engine's own files; `families` outlives the engine. Gives an open engine, with
 * every family present (empty ones made).
 */
struct engine_provider {
	int (*open)(void *arg, const char *dir, const struct engine_family *families, unsigned nfamilies,
		    struct engine **out);
	void *arg;
};

/*
 * Closes and frees. All pins, iterators and batches must be gone. What was written but not synced
 * reaches the disk as the engine's own log does (a kill loses nothing, a power cut may).
 */
static inline void engine_close(struct engine *e)
{
	if (e)
		e->ops->close(e);
}

/*
 * Closes and opens again in place, to leave a state of failure behind (disk was full, now is not).
 * Pins, iterators and batches must be gone. On failure the engine answers every call with that
 * error, and reopen may be tried again.
 */
static inline int engine_reopen(struct engine *e)
{
	return e->ops->reopen(e);
}

/* Lends the value of `key`; -ENOENT when absent. */
static inline int engine_get(struct engine *e, unsigned family, struct slice key, struct engine_pin *out)
{
	return e->ops->get(e, family, key, out);
}

/* Accepts a zeroed pin. */
static inline void engine_pin_release(struct engine *e, struct engine_pin *pin)
{
	if (pin->handle)
		e->ops->pin_release(e, pin);
	*pin = (struct engine_pin){ 0 };
}

/*
 * Gives an iterator over start <= key < end of one family, as the family stands now; later writes
 * are not seen. An empty `end` means no bound. `start` and `end` are copied. It begins before the
 * first row: call engine_iter_seek() with `start` or any key within the bounds. One thread at a time.
 */
static inline int engine_iter_new(struct engine *e, unsigned family, struct slice start, struct slice end,
				  struct engine_iter **out)
{
	return e->ops->iter_new(e, family, start, end, out);
}

/*
 * Moves; true when on a row. False is the end *or a failure*: ask engine_iter_error(). seek goes to
 * the first key >= `key` (keys below `start` mean `start`), seek_last to the last row in bounds.
 */
static inline bool engine_iter_seek(struct engine_iter *it, struct slice key)
{
	return it->ops->seek(it, key);
}

static inline bool engine_iter_next(struct engine_iter *it)
{
	return it->ops->next(it);
}

static inline bool engine_iter_seek_last(struct engine_iter *it)
{
	return it->ops->seek_last(it);
}

/* 0, or why the last move failed. */
static inline int engine_iter_error(struct engine_iter *it)
{
	return it->ops->error(it);
}

/* Accepts NULL. */
static inline void engine_iter_free(struct engine_iter *it)
{
	if (it)
		it->ops->free(it);
}

/* An empty batch, or NULL when out of memory. */
static inline struct engine_batch *engine_batch_new(struct engine *e)
{
	return e->ops->batch_new(e);
}

/* Rows of one batch apply in the order they were added. 0 or -ENOMEM. */
static inline int engine_batch_put(struct engine_batch *b, unsigned family, struct slice key,
				   struct slice value)
{
	return b->ops->batch_add(b, ENGINE_PUT, family, key, value);
}

static inline int engine_batch_del(struct engine_batch *b, unsigned family, struct slice key)
{
	return b->ops->batch_add(b, ENGINE_DEL, family, key, slice_of(NULL, 0));
}

/* Deletes start <= key < end. */
static inline int engine_batch_del_range(struct engine_batch *b, unsigned family, struct slice start,
					 struct slice end)
{
	return b->ops->batch_add(b, ENGINE_DEL_RANGE, family, start, end);
}

/* About how many bytes the batch will write. */
static inline size_t engine_batch_bytes(const struct engine_batch *b)
{
	return b->ops->batch_bytes(b);
}

/* Empties a batch for further use. */
static inline void engine_batch_clear(struct engine_batch *b)
{
	b->ops->batch_clear(b);
}

/* Accepts NULL. */
static inline void engine_batch_free(struct engine_batch *b)
{
	if (b)
		b->ops->batch_free(b);
}

/*
 * Applies the batch, whole or not at all, and keeps it (clear or free it). After 0 every get and
 * new iterator sees it and a kill of the process does not lose it; ENGINE_SYNC adds that a power
 * cut does not. Writes reach the disk in the order of the calls: after a power cut a prefix stands.
 * After an error it is unknown whether the batch will be there when the engine is opened again.
 */
static inline int engine_write(struct engine *e, struct engine_batch *b, unsigned flags)
{
	return e->ops->write(e, b, flags);
}

/* All writes that returned before this call are on disk when it returns 0. */
static inline int engine_sync(struct engine *e)
{
	return e->ops->sync(e);
}

/*
 * A consistent copy of everything written so far in the new directory `dir`, on disk when it returns. -EEXIST if it
 * exists. Cut short by a kill, it may leave `dir` or `dir`.tmp, which mean nothing.
 */
static inline int engine_checkpoint(struct engine *e, const char *dir)
{
	return e->ops->checkpoint(e, dir);
}

/*
 * Gives back the space of what is gone, in the rows of one family that were written before this call and
 * lie in start <= key < end (bounds as for engine_iter_new()): asks the family's drop predicate about each,
 * and forgets what was deleted. Whoever iterates meanwhile sees what he saw. What has been dropped is gone
 * from the disk at once, also if a power cut takes writes that came later or, unsynced, before.
 *
 * Goes slice by slice, reading and writing no more than `bytes_per_s` (UINT64_MAX: as fast as it can; an
 * engine without a disk need not care), and looks at `*stop` (may be NULL) before each slice.
 * 0, or -ECANCELED when stopped: then a part has been done.
 */
static inline int engine_rewrite(struct engine *e, unsigned family, struct slice start, struct slice end,
				 uint64_t bytes_per_s, const atomic_bool *stop)
{
	return e->ops->rewrite(e, family, start, end, bytes_per_s, stop);
}

static inline void engine_stats_get(struct engine *e, struct engine_stats *out)
{
	*out = (struct engine_stats){ 0 };
	e->ops->stats(e, out);
}

#endif
