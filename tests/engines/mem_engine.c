/*
 * Each family is a treap of which no part that others hold is changed, only replaced: a write copies the
 * path from the root to the row and publishes the new root. Whoever holds a root holds the family as it
 * stood, so an iterator is a counted root, the state on disk is the roots of the last sync, and a
 * checkpoint is a copy of roots.
 *
 * Locks: `write_lock` is held by a writer from reading the roots to publishing the new ones; `lock`,
 * taken inside it, only while pointers are copied. Counts are atomic, so what is no longer held is freed
 * outside of both.
 */
#include "tests/engines/mem_engine.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { REWRITE_SLICE_ROWS = 256 };

/* A key and its value, shared by every version of the tree that has it. */
struct row {
	atomic_uint refs;
	size_t key_len, value_len;
	uint8_t bytes[];
};

struct node {
	atomic_uint refs;
	uint32_t priority; /* a heap by this, ordered by key */
	struct row *row;
	struct node *left, *right;
	uint64_t rows, bytes; /* of the whole subtree */
};

/* The families of one directory at one moment; `roots` has one for each name of the store. */
struct state {
	struct node **roots;
	unsigned n;
};

struct store {
	struct store *next;
	char *dir;
	char **names; /* of the families */
	struct state now;
	struct state synced;
	struct state kept[MEM_ENGINE_KEPT_MAX]; /* after the first, second, ... unsynced write */
	size_t unsynced;
};

struct mem_engine {
	pthread_mutex_t write_lock;
	pthread_mutex_t lock;
	struct store *stores; /* lock */
	uint64_t life;   /* lock; one more for each kill, so that engines of the dead process are known */
	uint32_t random; /* write_lock */
	unsigned open;   /* lock; engines */
};

struct mem_handle {
	struct engine base;
	struct mem_engine *mem;
	struct store *store;
	uint64_t life;
	const struct engine_family *families;
	unsigned nfamilies;
	unsigned *map; /* family of the caller -> family of the store */
};

struct mem_iter {
	struct engine_iter base;
	struct node *root;
	struct buf start, end;
};

struct mem_op {
	enum engine_op op;
	unsigned family;
	struct buf key, value;
};

struct mem_batch {
	struct engine_batch base;
	struct mem_op *ops;
	size_t n, cap, bytes;
};

static const struct engine_ops mem_ops;

static void *must(void *p)
{
	if (!p) {
		fprintf(stderr, "memory engine: out of memory\n");
		abort();
	}
	return p;
}

/* ---- rows and nodes -------------------------------------------------------------------------- */

static struct row *row_new(struct slice key, struct slice value)
{
	struct row *row = must(malloc(sizeof(*row) + key.len + value.len));

	atomic_init(&row->refs, 1);
	row->key_len = key.len;
	row->value_len = value.len;
	if (key.len)
		memcpy(row->bytes, key.data, key.len);
	if (value.len)
		memcpy(row->bytes + key.len, value.data, value.len);
	return row;
}

static struct row *row_ref(struct row *row)
{
	atomic_fetch_add(&row->refs, 1);
	return row;
}

static void row_unref(struct row *row)
{
	if (atomic_fetch_sub(&row->refs, 1) == 1)
		free(row);
}

static struct slice row_key(const struct row *row)
{
	return slice_of(row->bytes, row->key_len);
}

static struct slice row_value(const struct row *row)
{
	return slice_of(row->bytes + row->key_len, row->value_len);
}

static struct node *node_ref(struct node *node)
{
	if (node)
		atomic_fetch_add(&node->refs, 1);
	return node;
}

static void node_unref(struct node *node)
{
	while (node && atomic_fetch_sub(&node->refs, 1) == 1) {
		struct node *right = node->right;

		node_unref(node->left);
		row_unref(node->row);
		free(node);
		node = right;
	}
}

/* Takes `row`. */
static struct node *node_new(uint32_t priority, struct row *row)
{
	struct node *node = must(calloc(1, sizeof(*node)));

	atomic_init(&node->refs, 1);
	node->priority = priority;
	node->row = row;
	return node;
}

static void node_count(struct node *node)
{
	const struct node *left = node->left, *right = node->right;

	node->rows = 1 + (left ? left->rows : 0) + (right ? right->rows : 0);
	node->bytes = node->row->key_len + node->row->value_len + (left ? left->bytes : 0) +
		      (right ? right->bytes : 0);
}

/* Takes `node`, a part of the tree of a writer; gives one that nobody else holds, so that it may be changed. */
static struct node *node_own(struct node *node)
{
	struct node *copy;

	if (atomic_load(&node->refs) == 1)
		return node;
	copy = node_new(node->priority, row_ref(node->row));
	copy->left = node_ref(node->left);
	copy->right = node_ref(node->right);
	node_unref(node);
	return copy;
}

/* Takes `node`; gives its parts below `key` and from `key` on. */
static void node_split(struct node *node, struct slice key, struct node **low, struct node **high)
{
	struct node *part;

	if (!node) {
		*low = *high = NULL;
		return;
	}
	node = node_own(node);
	if (slice_cmp(row_key(node->row), key) < 0) {
		node_split(node->right, key, &part, high);
		node->right = part;
		*low = node;
	} else {
		node_split(node->left, key, low, &part);
		node->left = part;
		*high = node;
	}
	node_count(node);
}

/* Takes two trees, every key of `low` below every key of `high`; gives one. */
static struct node *node_join(struct node *low, struct node *high)
{
	struct node *node;

	if (!low || !high)
		return low ? low : high;
	if (low->priority > high->priority) {
		node = node_own(low);
		node->right = node_join(node->right, high);
	} else {
		node = node_own(high);
		node->left = node_join(low, node->left);
	}
	node_count(node);
	return node;
}

/* The row of the smallest key >= `key`, or > `key` if `after`; borrowed, NULL if there is none. */
static struct row *node_find(struct node *node, struct slice key, bool after)
{
	struct row *best = NULL;

	while (node) {
		int c = slice_cmp(row_key(node->row), key);

		if (c > 0 || (c == 0 && !after)) {
			best = node->row;
			node = node->left;
		} else {
			node = node->right;
		}
	}
	return best;
}

/* The row of the largest key < `end`, or of the largest at all if `end` is empty. */
static struct row *node_find_last(struct node *node, struct slice end)
{
	struct row *best = NULL;

	while (node) {
		if (!end.len || slice_cmp(row_key(node->row), end) < 0) {
			best = node->row;
			node = node->right;
		} else {
			node = node->left;
		}
	}
	return best;
}

/* Takes `node`; gives it without the keys in [start, end). */
static struct node *node_cut(struct node *node, struct slice start, struct slice end)
{
	struct node *low, *rest, *mid, *high;

	node_split(node, start, &low, &rest);
	node_split(rest, end, &mid, &high);
	node_unref(mid);
	return node_join(low, high);
}

/* Takes `node`, which has `key`; gives it without. */
static struct node *node_del(struct node *node, struct slice key)
{
	struct node *joined;
	int c;

	node = node_own(node);
	c = slice_cmp(key, row_key(node->row));
	if (c == 0) {
		joined = node_join(node->left, node->right);
		node->left = node->right = NULL;
		node_unref(node);
		return joined;
	}
	if (c < 0)
		node->left = node_del(node->left, key);
	else
		node->right = node_del(node->right, key);
	node_count(node);
	return node;
}

/* Takes `node`, which has the key of `row`, and `row`, which comes in the place of that. */
static struct node *node_replace(struct node *node, struct row *row)
{
	int c;

	node = node_own(node);
	c = slice_cmp(row_key(row), row_key(node->row));
	if (c == 0) {
		row_unref(node->row);
		node->row = row;
	} else if (c < 0) {
		node->left = node_replace(node->left, row);
	} else {
		node->right = node_replace(node->right, row);
	}
	node_count(node);
	return node;
}

/* Takes `node`, which has not the key of `row`, and `row`. */
static struct node *node_insert(struct node *node, uint32_t priority, struct row *row)
{
	struct node *top;

	if (!node || priority > node->priority) {
		top = node_new(priority, row);
		node_split(node, row_key(row), &top->left, &top->right);
		node = top;
	} else {
		node = node_own(node);
		if (slice_cmp(row_key(row), row_key(node->row)) < 0)
			node->left = node_insert(node->left, priority, row);
		else
			node->right = node_insert(node->right, priority, row);
	}
	node_count(node);
	return node;
}

/* The row of `key`; borrowed, NULL if there is none. */
static struct row *node_get(struct node *node, struct slice key)
{
	struct row *row = node_find(node, key, false);

	return row && slice_eq(row_key(row), key) ? row : NULL;
}

/* ---- states and stores ----------------------------------------------------------------------- */

static struct state state_copy(const struct state *state)
{
	struct state copy = { must(calloc(state->n + 1, sizeof(*copy.roots))), state->n };

	for (unsigned i = 0; i < state->n; i++)
		copy.roots[i] = node_ref(state->roots[i]);
	return copy;
}

static void state_release(struct state *state)
{
	for (unsigned i = 0; i < state->n; i++)
		node_unref(state->roots[i]);
	free(state->roots);
	*state = (struct state){ 0 };
}

static void state_grow(struct state *state)
{
	state->roots = must(reallocarray(state->roots, state->n + 1, sizeof(*state->roots)));
	state->roots[state->n++] = NULL;
}

/* Under `lock`, as whoever unrefs is a test that does nothing else meanwhile. */
static void store_synced_locked(struct store *store)
{
	for (size_t i = 0; i < store->unsynced && i < MEM_ENGINE_KEPT_MAX; i++)
		state_release(&store->kept[i]);
	store->unsynced = 0;
	state_release(&store->synced);
	store->synced = state_copy(&store->now);
}

static struct store *store_find_locked(struct mem_engine *mem, const char *dir)
{
	for (struct store *store = mem->stores; store; store = store->next)
		if (strcmp(store->dir, dir) == 0)
			return store;
	return NULL;
}

static struct store *store_new_locked(struct mem_engine *mem, const char *dir)
{
	struct store *store = must(calloc(1, sizeof(*store)));

	store->dir = must(strdup(dir));
	store->next = mem->stores;
	mem->stores = store;
	return store;
}

static unsigned store_family_locked(struct store *store, const char *name)
{
	unsigned i = store->now.n;

	for (unsigned j = 0; j < i; j++)
		if (strcmp(store->names[j], name) == 0)
			return j;
	store->names = must(reallocarray(store->names, i + 1, sizeof(*store->names)));
	store->names[i] = must(strdup(name));
	state_grow(&store->now);
	state_grow(&store->synced);
	for (size_t k = 0; k < store->unsynced && k < MEM_ENGINE_KEPT_MAX; k++)
		state_grow(&store->kept[k]);
	return i;
}

static void store_free(struct store *store)
{
	store_synced_locked(store);
	state_release(&store->synced);
	for (unsigned i = 0; i < store->now.n; i++)
		free(store->names[i]);
	free(store->names);
	state_release(&store->now);
	free(store->dir);
	free(store);
}

/* ---- the machine ----------------------------------------------------------------------------- */

struct mem_engine *mem_engine_new(void)
{
	struct mem_engine *mem = must(calloc(1, sizeof(*mem)));

	pthread_mutex_init(&mem->write_lock, NULL);
	pthread_mutex_init(&mem->lock, NULL);
	mem->random = 2463534242U;
	return mem;
}

void mem_engine_free(struct mem_engine *mem)
{
	if (!mem)
		return;
	if (mem->open) {
		fprintf(stderr, "memory engine: freed while %u engines are open\n", mem->open);
		abort();
	}
	while (mem->stores) {
		struct store *next = mem->stores->next;

		store_free(mem->stores);
		mem->stores = next;
	}
	pthread_mutex_destroy(&mem->lock);
	pthread_mutex_destroy(&mem->write_lock);
	free(mem);
}

void mem_engine_kill(struct mem_engine *mem)
{
	pthread_mutex_lock(&mem->write_lock);
	pthread_mutex_lock(&mem->lock);
	mem->life++;
	pthread_mutex_unlock(&mem->lock);
	pthread_mutex_unlock(&mem->write_lock);
}

void mem_engine_power_cut(struct mem_engine *mem)
{
	mem_engine_power_cut_keeping(mem, 0);
}

void mem_engine_power_cut_keeping(struct mem_engine *mem, size_t keep)
{
	pthread_mutex_lock(&mem->write_lock);
	pthread_mutex_lock(&mem->lock);
	mem->life++;
	for (struct store *store = mem->stores; store; store = store->next) {
		size_t n = keep < MEM_ENGINE_KEPT_MAX ? keep : MEM_ENGINE_KEPT_MAX;

		if (n > store->unsynced)
			n = store->unsynced;
		state_release(&store->now);
		store->now = state_copy(n ? &store->kept[n - 1] : &store->synced);
		store_synced_locked(store);
	}
	pthread_mutex_unlock(&mem->lock);
	pthread_mutex_unlock(&mem->write_lock);
}

size_t mem_engine_unsynced(struct mem_engine *mem)
{
	size_t n = 0;

	pthread_mutex_lock(&mem->lock);
	for (struct store *store = mem->stores; store; store = store->next)
		n += store->unsynced;
	pthread_mutex_unlock(&mem->lock);
	return n;
}

/* ---- the engine ------------------------------------------------------------------------------ */

static struct mem_handle *handle_of(struct engine *e)
{
	return (struct mem_handle *)e;
}

static int mem_open(void *arg, const char *dir, const struct engine_family *families, unsigned nfamilies,
		    struct engine **out)
{
	struct mem_engine *mem = arg;
	struct mem_handle *h = must(calloc(1, sizeof(*h)));

	h->base.ops = &mem_ops;
	h->mem = mem;
	h->families = families;
	h->nfamilies = nfamilies;
	h->map = must(calloc(nfamilies + 1, sizeof(*h->map)));
	pthread_mutex_lock(&mem->write_lock);
	pthread_mutex_lock(&mem->lock);
	h->life = mem->life;
	h->store = store_find_locked(mem, dir);
	if (!h->store)
		h->store = store_new_locked(mem, dir);
	for (unsigned i = 0; i < nfamilies; i++)
		h->map[i] = store_family_locked(h->store, families[i].name);
	mem->open++;
	pthread_mutex_unlock(&mem->lock);
	pthread_mutex_unlock(&mem->write_lock);
	*out = &h->base;
	return 0;
}

struct engine_provider mem_engine_provider(struct mem_engine *mem)
{
	return (struct engine_provider){ mem_open, mem };
}

static void mem_close(struct engine *e)
{
	struct mem_handle *h = handle_of(e);

	pthread_mutex_lock(&h->mem->lock);
	h->mem->open--;
	pthread_mutex_unlock(&h->mem->lock);
	free(h->map);
	free(h);
}

/* 0, or -EIO when the process this engine belongs to is dead. */
static int alive_locked(const struct mem_handle *h)
{
	return h->life == h->mem->life ? 0 : -EIO;
}

static int mem_reopen(struct engine *e)
{
	struct mem_handle *h = handle_of(e);
	int err;

	pthread_mutex_lock(&h->mem->lock);
	err = alive_locked(h);
	pthread_mutex_unlock(&h->mem->lock);
	return err;
}

static int mem_root(struct engine *e, unsigned family, struct node **out)
{
	struct mem_handle *h = handle_of(e);
	int err;

	pthread_mutex_lock(&h->mem->lock);
	err = alive_locked(h);
	if (!err)
		*out = node_ref(h->store->now.roots[h->map[family]]);
	pthread_mutex_unlock(&h->mem->lock);
	return err;
}

static int mem_get(struct engine *e, unsigned family, struct slice key, struct engine_pin *out)
{
	struct node *root;
	struct row *row;
	int err = mem_root(e, family, &root);

	if (err)
		return err;
	row = node_get(root, key);
	if (row) {
		out->handle = row_ref(row);
		out->value = row_value(row);
	} else {
		err = -ENOENT;
	}
	node_unref(root);
	return err;
}

static void mem_pin_release(struct engine *e, struct engine_pin *pin)
{
	(void)e;
	row_unref(pin->handle);
}

/* ---- iterators ------------------------------------------------------------------------------- */

static bool iter_stand(struct engine_iter *base, struct row *row)
{
	struct mem_iter *it = (struct mem_iter *)base;

	if (!row)
		return false;
	if (it->end.len && slice_cmp(row_key(row), slice_buf(&it->end)) >= 0)
		return false;
	if (slice_cmp(row_key(row), slice_buf(&it->start)) < 0)
		return false;
	base->key = row_key(row);
	base->value = row_value(row);
	return true;
}

static bool mem_iter_seek(struct engine_iter *base, struct slice key)
{
	struct mem_iter *it = (struct mem_iter *)base;

	if (slice_cmp(key, slice_buf(&it->start)) < 0)
		key = slice_buf(&it->start);
	return iter_stand(base, node_find(it->root, key, false));
}

static bool mem_iter_next(struct engine_iter *base)
{
	struct mem_iter *it = (struct mem_iter *)base;

	return iter_stand(base, node_find(it->root, base->key, true));
}

static bool mem_iter_seek_last(struct engine_iter *base)
{
	struct mem_iter *it = (struct mem_iter *)base;

	return iter_stand(base, node_find_last(it->root, slice_buf(&it->end)));
}

static int mem_iter_error(struct engine_iter *base)
{
	(void)base;
	return 0;
}

static void mem_iter_free(struct engine_iter *base)
{
	struct mem_iter *it = (struct mem_iter *)base;

	node_unref(it->root);
	buf_release(&it->start);
	buf_release(&it->end);
	free(it);
}

static const struct engine_iter_ops mem_iter_ops = {
	.seek = mem_iter_seek,
	.next = mem_iter_next,
	.seek_last = mem_iter_seek_last,
	.error = mem_iter_error,
	.free = mem_iter_free,
};

static int mem_iter_new(struct engine *e, unsigned family, struct slice start, struct slice end,
			struct engine_iter **out)
{
	struct mem_iter *it = must(calloc(1, sizeof(*it)));
	int err = mem_root(e, family, &it->root);

	if (err) {
		free(it);
		return err;
	}
	it->base.ops = &mem_iter_ops;
	if (buf_copy(&it->start, start) || buf_copy(&it->end, end))
		must(NULL);
	*out = &it->base;
	return 0;
}

/* ---- batches --------------------------------------------------------------------------------- */

static struct engine_batch *mem_batch_new(struct engine *e)
{
	struct mem_batch *b = must(calloc(1, sizeof(*b)));

	(void)e;
	b->base.ops = &mem_ops;
	return &b->base;
}

static int mem_batch_add(struct engine_batch *base, enum engine_op op, unsigned family, struct slice key,
			 struct slice value)
{
	struct mem_batch *b = (struct mem_batch *)base;
	struct mem_op *added;

	if (b->n == b->cap) {
		b->cap = b->cap ? b->cap * 2 : 16;
		b->ops = must(reallocarray(b->ops, b->cap, sizeof(*b->ops)));
	}
	added = &b->ops[b->n++];
	*added = (struct mem_op){ .op = op, .family = family };
	if (buf_put_slice(&added->key, key) || buf_put_slice(&added->value, value))
		must(NULL);
	b->bytes += key.len + value.len;
	return 0;
}

static size_t mem_batch_bytes(const struct engine_batch *base)
{
	return ((const struct mem_batch *)base)->bytes;
}

static void mem_batch_clear(struct engine_batch *base)
{
	struct mem_batch *b = (struct mem_batch *)base;

	for (size_t i = 0; i < b->n; i++) {
		buf_release(&b->ops[i].key);
		buf_release(&b->ops[i].value);
	}
	b->n = 0;
	b->bytes = 0;
}

static void mem_batch_free(struct engine_batch *base)
{
	struct mem_batch *b = (struct mem_batch *)base;

	mem_batch_clear(base);
	free(b->ops);
	free(b);
}

static uint32_t mem_random(struct mem_engine *mem)
{
	mem->random ^= mem->random << 13;
	mem->random ^= mem->random >> 17;
	mem->random ^= mem->random << 5;
	return mem->random;
}

static void apply(struct mem_handle *h, struct node **root, const struct mem_op *op)
{
	struct slice key = slice_buf(&op->key), value = slice_buf(&op->value);

	switch (op->op) {
	case ENGINE_PUT:
		*root = node_get(*root, key) ? node_replace(*root, row_new(key, value)) :
					       node_insert(*root, mem_random(h->mem), row_new(key, value));
		break;
	case ENGINE_DEL:
		if (node_get(*root, key))
			*root = node_del(*root, key);
		break;
	case ENGINE_DEL_RANGE:
		if (slice_cmp(key, value) < 0)
			*root = node_cut(*root, key, value);
		break;
	}
}

static int mem_write(struct engine *e, struct engine_batch *base, unsigned flags)
{
	struct mem_handle *h = handle_of(e);
	struct mem_engine *mem = h->mem;
	struct mem_batch *b = (struct mem_batch *)base;
	struct state next, old = { 0 };
	int err;

	pthread_mutex_lock(&mem->write_lock);
	pthread_mutex_lock(&mem->lock);
	err = alive_locked(h);
	if (!err)
		next = state_copy(&h->store->now);
	pthread_mutex_unlock(&mem->lock);
	if (err)
		goto out;
	for (size_t i = 0; i < b->n; i++)
		apply(h, &next.roots[h->map[b->ops[i].family]], &b->ops[i]);
	pthread_mutex_lock(&mem->lock);
	old = h->store->now;
	h->store->now = next;
	if (flags & ENGINE_SYNC) {
		store_synced_locked(h->store);
	} else {
		if (h->store->unsynced < MEM_ENGINE_KEPT_MAX)
			h->store->kept[h->store->unsynced] = state_copy(&next);
		h->store->unsynced++;
	}
	pthread_mutex_unlock(&mem->lock);
out:
	pthread_mutex_unlock(&mem->write_lock);
	state_release(&old);
	return err;
}

static int mem_sync(struct engine *e)
{
	struct mem_handle *h = handle_of(e);
	int err;

	pthread_mutex_lock(&h->mem->lock);
	err = alive_locked(h);
	if (!err)
		store_synced_locked(h->store);
	pthread_mutex_unlock(&h->mem->lock);
	return err;
}

/* There was no such directory, so what is remembered under its name was removed by somebody. */
static void store_forget_locked(struct mem_engine *mem, const char *dir)
{
	for (struct store **at = &mem->stores; *at; at = &(*at)->next) {
		struct store *store = *at;

		if (strcmp(store->dir, dir) != 0)
			continue;
		*at = store->next;
		store_free(store);
		return;
	}
}

static int mem_checkpoint(struct engine *e, const char *dir)
{
	struct mem_handle *h = handle_of(e);
	struct store *from = h->store, *to;
	int err;

	pthread_mutex_lock(&h->mem->write_lock);
	pthread_mutex_lock(&h->mem->lock);
	err = alive_locked(h);
	if (!err && mkdir(dir, 0777) < 0)
		err = -errno;
	if (err)
		goto out;
	store_forget_locked(h->mem, dir);
	to = store_new_locked(h->mem, dir);
	for (unsigned i = 0; i < from->now.n; i++)
		store_family_locked(to, from->names[i]);
	state_release(&to->now);
	to->now = state_copy(&from->now);
	store_synced_locked(to);
out:
	pthread_mutex_unlock(&h->mem->lock);
	pthread_mutex_unlock(&h->mem->write_lock);
	return err;
}

static void mem_stats(struct engine *e, struct engine_stats *out)
{
	for (unsigned i = 0; i < handle_of(e)->nfamilies; i++) {
		struct node *root;

		if (mem_root(e, i, &root) || !root)
			continue;
		out->rows_estimate += root->rows;
		out->bytes_live += root->bytes;
		node_unref(root);
	}
}

/* Takes the row of `key` out of one state, if its family may drop it as it stands there. */
static void drop_row(const struct engine_family *family, struct node **root, struct slice key)
{
	struct row *row = node_get(*root, key);

	if (row && family->drop(family->drop_arg, key, row_value(row)))
		*root = node_del(*root, key);
}

/* From every state of the store at once: what a rewritten file lacks, no power cut brings back. */
static void drop_row_locked(struct mem_handle *h, unsigned family, struct slice key)
{
	const struct engine_family *f = &h->families[family];
	struct store *store = h->store;
	unsigned i = h->map[family];

	drop_row(f, &store->now.roots[i], key);
	drop_row(f, &store->synced.roots[i], key);
	for (size_t k = 0; k < store->unsynced && k < MEM_ENGINE_KEPT_MAX; k++)
		drop_row(f, &store->kept[k].roots[i], key);
}

/* Looks at some rows from `*pos` on, which it moves. 1 when there are more, 0, or a code. */
static int rewrite_slice(struct mem_handle *h, unsigned family, struct buf *pos, struct slice end)
{
	const struct engine_family *f = &h->families[family];
	struct row *row = NULL;
	int err;

	pthread_mutex_lock(&h->mem->write_lock);
	pthread_mutex_lock(&h->mem->lock);
	err = alive_locked(h);
	for (unsigned i = 0; !err && i < REWRITE_SLICE_ROWS; i++) {
		row = node_find(h->store->now.roots[h->map[family]], slice_buf(pos), i > 0);
		if (!row || (end.len && slice_cmp(row_key(row), end) >= 0)) {
			row = NULL;
			break;
		}
		if (buf_copy(pos, row_key(row)))
			must(NULL);
		if (f->drop && f->drop(f->drop_arg, row_key(row), row_value(row)))
			drop_row_locked(h, family, slice_buf(pos));
	}
	pthread_mutex_unlock(&h->mem->lock);
	pthread_mutex_unlock(&h->mem->write_lock);
	return err ? err : row != NULL;
}

static int mem_rewrite(struct engine *e, unsigned family, struct slice start, struct slice end,
		       uint64_t bytes_per_s, const atomic_bool *stop)
{
	struct buf pos = { 0 };
	int more = 1;

	(void)bytes_per_s;
	if (buf_copy(&pos, start))
		must(NULL);
	while (more == 1)
		more = stop && atomic_load(stop) ? -ECANCELED :
						   rewrite_slice(handle_of(e), family, &pos, end);
	buf_release(&pos);
	return more;
}

static const struct engine_ops mem_ops = {
	.close = mem_close,
	.reopen = mem_reopen,
	.get = mem_get,
	.pin_release = mem_pin_release,
	.iter_new = mem_iter_new,
	.batch_new = mem_batch_new,
	.batch_add = mem_batch_add,
	.batch_bytes = mem_batch_bytes,
	.batch_clear = mem_batch_clear,
	.batch_free = mem_batch_free,
	.write = mem_write,
	.sync = mem_sync,
	.checkpoint = mem_checkpoint,
	.rewrite = mem_rewrite,
	.stats = mem_stats,
};
