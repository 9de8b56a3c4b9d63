/*
 * An ordered table in memory: (key ascending, revision descending) -> value. A skip list over an
 * arena, after LevelDB's: one writer at a time (its lock is the caller's matter), any number of
 * readers beside it without a lock, nothing ever removed before the table is released. A node is
 * linked with a release store once it is complete, so a reader that meets it can read all of it.
 *
 * A table that has no reader but its writer can also be taken back to where it was (a transaction's
 * own writes, when it rolls back).
 */
#ifndef MVCC_MEMTABLE_H
#define MVCC_MEMTABLE_H

#include "mvcc/bytes.h"

#include <stdatomic.h>

#define MEM_HEIGHT_MAX 12

struct mem_node {
	struct slice key;
	uint64_t rev;
	struct slice value; /* as the owner of the table means it */
	unsigned flags;     /* likewise */
	unsigned height;
	_Atomic(struct mem_node *) next[];
};

struct mem_chunk;

/* How far the arena of a table had come. */
struct mem_mark {
	struct mem_chunk *chunks;
	uint8_t *free, *limit;
	size_t bytes;
};

struct memtable {
	struct mem_chunk *chunks; /* writer */
	uint8_t *free, *limit;    /* writer; the rest of the newest chunk */
	struct mem_node *head;
	_Atomic unsigned height;
	uint32_t random;      /* writer */
	_Atomic size_t count; /* nodes */
	_Atomic size_t bytes; /* taken from the arena */
};

int memtable_init(struct memtable *mt); /* 0 or -ENOMEM */
void memtable_release(struct memtable *mt);

/* Room for one node with a key of `key_len`, and for a copy of `len` bytes: for memtable_reserve(). */
size_t memtable_node_bytes(size_t key_len);
size_t memtable_copy_bytes(size_t len);

/* After 0, allocations of up to `bytes` in sum do not fail. */
int memtable_reserve(struct memtable *mt, size_t bytes);

/* Memory that lives as long as the table, aligned for any struct; NULL when out of memory. */
void *memtable_alloc(struct memtable *mt, size_t bytes);

/* A copy of `s` in the table's memory; its data is NULL when out of memory (never for an empty one). */
struct slice memtable_copy(struct memtable *mt, struct slice s);

/*
 * Adds a node that is not there yet. The key is copied, the value is kept as it is and must live as
 * long as the table. NULL when out of memory.
 */
struct mem_node *memtable_insert(struct memtable *mt, struct slice key, uint64_t rev, struct slice value,
				 unsigned flags);

/* The first node at or after (key, rev): for the same key, the newest one not after `rev`. Or NULL. */
struct mem_node *memtable_seek(const struct memtable *mt, struct slice key, uint64_t rev);

/* The newest node of `key` not after `rev`, or NULL. */
struct mem_node *memtable_find(const struct memtable *mt, struct slice key, uint64_t rev);

/* Only while nobody else reads: takes a node out; its memory stays. */
void memtable_unlink(struct memtable *mt, struct mem_node *node);

/*
 * Only while nobody else reads: gives back all memory taken since the mark. Nodes added since must
 * have been taken out before.
 */
struct mem_mark memtable_mark(const struct memtable *mt);
void memtable_rewind(struct memtable *mt, const struct mem_mark *mark);

static inline struct mem_node *memtable_next(const struct mem_node *node)
{
	return atomic_load_explicit(&node->next[0], memory_order_acquire);
}

static inline struct mem_node *memtable_first(const struct memtable *mt)
{
	return memtable_next(mt->head);
}

#endif
