#include "mvcc/memtable.h"

#include <errno.h>
#include <stdalign.h>
#include <stdlib.h>

#define CHUNK_BYTES ((size_t)16 << 10)
#define ALIGN alignof(max_align_t)

struct mem_chunk {
	struct mem_chunk *older;
	alignas(max_align_t) uint8_t data[];
};

static size_t aligned(size_t n)
{
	return (n + ALIGN - 1) & ~(ALIGN - 1);
}

size_t memtable_copy_bytes(size_t len)
{
	return aligned(len ? len : 1);
}

size_t memtable_node_bytes(size_t key_len)
{
	return aligned(sizeof(struct mem_node) + MEM_HEIGHT_MAX * sizeof(struct mem_node *)) +
	       memtable_copy_bytes(key_len);
}

int memtable_reserve(struct memtable *mt, size_t bytes)
{
	size_t want = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
	struct mem_chunk *chunk;

	if (mt->free && bytes <= (size_t)(mt->limit - mt->free))
		return 0;
	chunk = malloc(sizeof(*chunk) + want);
	if (!chunk)
		return -ENOMEM;
	chunk->older = mt->chunks;
	mt->chunks = chunk;
	mt->free = chunk->data;
	mt->limit = chunk->data + want;
	return 0;
}

void *memtable_alloc(struct memtable *mt, size_t bytes)
{
	void *p;

	bytes = aligned(bytes ? bytes : 1);
	if (memtable_reserve(mt, bytes))
		return NULL;
	p = mt->free;
	mt->free += bytes;
	atomic_fetch_add_explicit(&mt->bytes, bytes, memory_order_relaxed);
	return p;
}

struct slice memtable_copy(struct memtable *mt, struct slice s)
{
	void *p = memtable_alloc(mt, s.len);

	if (!p)
		return slice_of(NULL, 0);
	if (s.len)
		memcpy(p, s.data, s.len);
	return slice_of(p, s.len);
}

static struct mem_node *node_new(struct memtable *mt, unsigned height)
{
	struct mem_node *node = memtable_alloc(mt, sizeof(*node) + height * sizeof(node->next[0]));

	if (!node)
		return NULL;
	*node = (struct mem_node){ .height = height };
	for (unsigned i = 0; i < height; i++)
		atomic_init(&node->next[i], NULL);
	return node;
}

int memtable_init(struct memtable *mt)
{
	*mt = (struct memtable){ .random = 0x9e3779b9U };
	mt->head = node_new(mt, MEM_HEIGHT_MAX);
	if (!mt->head)
		return -ENOMEM;
	atomic_init(&mt->height, 1);
	return 0;
}

void memtable_release(struct memtable *mt)
{
	struct mem_chunk *chunk = mt->chunks;

	while (chunk) {
		struct mem_chunk *older = chunk->older;

		free(chunk);
		chunk = older;
	}
	*mt = (struct memtable){ 0 };
}

/* One level in four goes on: the height that keeps seeks short for the least memory. */
static unsigned random_height(struct memtable *mt)
{
	unsigned height = 1;
	uint32_t x = mt->random;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	mt->random = x;
	while (height < MEM_HEIGHT_MAX && (x & 3) == 0) {
		height++;
		x >>= 2;
	}
	return height;
}

/* Does `node` stand before (key, rev)? */
static bool is_before(const struct mem_node *node, struct slice key, uint64_t rev)
{
	int c = slice_cmp(node->key, key);

	return c < 0 || (c == 0 && node->rev > rev);
}

/* First node at or after (key, rev); `prev`, if asked for, gets the last node before it on each level. */
static struct mem_node *find(const struct memtable *mt, struct slice key, uint64_t rev,
			     struct mem_node **prev)
{
	unsigned level = atomic_load_explicit(&mt->height, memory_order_relaxed) - 1;
	struct mem_node *at = mt->head;

	for (;;) {
		struct mem_node *next = atomic_load_explicit(&at->next[level], memory_order_acquire);

		if (next && is_before(next, key, rev)) {
			at = next;
			continue;
		}
		if (prev)
			prev[level] = at;
		if (level == 0)
			return next;
		level--;
	}
}

struct mem_node *memtable_insert(struct memtable *mt, struct slice key, uint64_t rev, struct slice value,
				 unsigned flags)
{
	unsigned height = random_height(mt);
	struct mem_node *prev[MEM_HEIGHT_MAX];
	struct mem_node *node;

	node = node_new(mt, height);
	if (!node)
		return NULL;
	node->key = memtable_copy(mt, key);
	if (!node->key.data)
		return NULL;
	node->rev = rev;
	node->value = value;
	node->flags = flags;

	for (unsigned i = 0; i < MEM_HEIGHT_MAX; i++)
		prev[i] = mt->head;
	find(mt, key, rev, prev);
	if (height > atomic_load_explicit(&mt->height, memory_order_relaxed))
		atomic_store_explicit(&mt->height, height,
				      memory_order_relaxed); /* too high only finds NULL */
	for (unsigned i = 0; i < height; i++) {
		struct mem_node *next = atomic_load_explicit(&prev[i]->next[i], memory_order_relaxed);

		atomic_store_explicit(&node->next[i], next, memory_order_relaxed);
		atomic_store_explicit(&prev[i]->next[i], node, memory_order_release);
	}
	atomic_fetch_add_explicit(&mt->count, 1, memory_order_relaxed);
	return node;
}

struct mem_node *memtable_seek(const struct memtable *mt, struct slice key, uint64_t rev)
{
	return find(mt, key, rev, NULL);
}

struct mem_node *memtable_find(const struct memtable *mt, struct slice key, uint64_t rev)
{
	struct mem_node *node = find(mt, key, rev, NULL);

	return node && slice_eq(node->key, key) ? node : NULL;
}

void memtable_unlink(struct memtable *mt, struct mem_node *node)
{
	struct mem_node *prev[MEM_HEIGHT_MAX];

	for (unsigned i = 0; i < MEM_HEIGHT_MAX; i++)
		prev[i] = mt->head;
	find(mt, node->key, node->rev, prev);
	for (unsigned i = 0; i < node->height; i++) {
		struct mem_node *next = atomic_load_explicit(&node->next[i], memory_order_relaxed);

		atomic_store_explicit(&prev[i]->next[i], next, memory_order_relaxed);
	}
	atomic_fetch_sub_explicit(&mt->count, 1, memory_order_relaxed);
}

struct mem_mark memtable_mark(const struct memtable *mt)
{
	return (struct mem_mark){ mt->chunks, mt->free, mt->limit, atomic_load(&mt->bytes) };
}

void memtable_rewind(struct memtable *mt, const struct mem_mark *mark)
{
	while (mt->chunks != mark->chunks) {
		struct mem_chunk *older = mt->chunks->older;

		free(mt->chunks);
		mt->chunks = older;
	}
	mt->free = mark->free;
	mt->limit = mark->limit;
	atomic_store(&mt->bytes, mark->bytes);
}
