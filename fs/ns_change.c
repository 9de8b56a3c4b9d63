#include "fs/ns_change.h"

#include <errno.h>
#include <stdlib.h>

/* ---- memory ------------------------------------------------------------------------------------ */

/* Bytes that live as long as their list. */
struct arena_block {
	struct arena_block *next;
	size_t used, cap;
	uint8_t bytes[];
};

static uint8_t *arena_take(struct arena_block **blocks, size_t len)
{
	struct arena_block *b = *blocks;

	if (!b || b->cap - b->used < len) {
		size_t cap = len > 65536 ? len : 65536;

		b = malloc(sizeof(*b) + cap);
		if (!b)
			return NULL;
		*b = (struct arena_block){ .next = *blocks, .cap = cap };
		*blocks = b;
	}
	b->used += len;
	return b->bytes + b->used - len;
}

static void arena_free(struct arena_block *b)
{
	while (b) {
		struct arena_block *next = b->next;

		free(b);
		b = next;
	}
}

/* ---- which inodes ------------------------------------------------------------------------------ */

static int touched_add(struct touched_set *set, uint64_t ino, unsigned rows)
{
	if (set->n && set->v[set->n - 1].ino == ino) {
		set->v[set->n - 1].rows |= rows;
		return 0;
	}
	if (set->n == set->cap) {
		size_t cap = set->cap ? 2 * set->cap : 64;
		struct touched *grown = realloc(set->v, cap * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		set->v = grown;
		set->cap = cap;
	}
	set->v[set->n++] = (struct touched){ ino, rows };
	return 0;
}

static int by_ino(const void *a, const void *b)
{
	const struct touched *x = a, *y = b;

	return (x->ino > y->ino) - (x->ino < y->ino);
}

/* Sorts, and makes one of those that mean the same inode. */
void touched_sort(struct touched_set *set)
{
	size_t n = 0;

	if (set->n)
		qsort(set->v, set->n, sizeof(*set->v), by_ino);
	for (size_t i = 0; i < set->n; i++) {
		if (n && set->v[n - 1].ino == set->v[i].ino)
			set->v[n - 1].rows |= set->v[i].rows;
		else
			set->v[n++] = set->v[i];
	}
	set->n = n;
}

void touched_release(struct touched_set *set)
{
	free(set->v);
	*set = (struct touched_set){ 0 };
}

const struct touched *touched_find(const struct touched_set *set, uint64_t ino)
{
	const struct touched key = { .ino = ino };

	return set->n ? bsearch(&key, set->v, set->n, sizeof(*set->v), by_ino) : NULL;
}

static int add_change(struct touched_set *set, struct slice key)
{
	struct row_key k;
	int err = row_key_decode(key, &k);

	if (err)
		return err;
	switch (k.kind) {
	case ROW_INODE:
		return touched_add(set, k.ino, TOUCHED_ROW);
	case ROW_EXTENT:
		return touched_add(set, k.ino, TOUCHED_EXTENTS);
	case ROW_XATTR:
		return touched_add(set, k.ino, TOUCHED_XATTRS);
	default:
		return 0; /* its inode has a change of its own */
	}
}

/* MVCC_ECOMPACTED: the log does not tell. */
static int touched_by_log(struct mvcc *db, mvcc_rev_t from, mvcc_rev_t to, struct touched_set *out)
{
	const struct mvcc_entry *e;
	struct mvcc_change change;
	size_t settled = 0;
	struct mvcc_log *log;
	int err = mvcc_log_open(db, from, to, &log);

	if (err)
		return err;
	while ((err = mvcc_log_next(log, &e)) > 0) {
		while ((err = mvcc_log_change(log, &change)) > 0) {
			err = add_change(out, change.key);
			if (err)
				goto out;
		}
		if (err)
			goto out;
		if (out->n - settled > 65536 && out->n > 2 * settled) { /* the same ones again and again */
			touched_sort(out);
			settled = out->n;
		}
	}
out:
	mvcc_log_close(log);
	return err;
}

/* Steps on in the rows of all inodes; `*ino` is UINT64_MAX at the end. */
static int next_inode(struct mvcc_cursor *c, uint64_t *ino, mvcc_rev_t *mod)
{
	const struct mvcc_item *item;
	struct row_key k;
	struct slice key;
	int got = mvcc_cursor_next(c, &key, &item);

	*ino = UINT64_MAX;
	if (got <= 0)
		return got;
	got = row_key_decode(key, &k);
	if (!got) {
		*ino = k.ino;
		*mod = item->mod_rev;
	}
	return got;
}

static int touched_by_walk(struct mvcc_view *a, struct mvcc_view *b, struct touched_set *out)
{
	static const uint8_t start = ROW_INODE, end = ROW_INODE + 1;
	const unsigned all = TOUCHED_ROW | TOUCHED_EXTENTS | TOUCHED_XATTRS;
	struct mvcc_cursor *ca = NULL, *cb = NULL;
	mvcc_rev_t mod_a = 0, mod_b = 0;
	uint64_t ino_a, ino_b;
	int err = mvcc_cursor_open(a, slice_of(&start, 1), slice_of(&end, 1), &ca);

	if (!err)
		err = mvcc_cursor_open(b, slice_of(&start, 1), slice_of(&end, 1), &cb);
	if (!err)
		err = next_inode(ca, &ino_a, &mod_a);
	if (!err)
		err = next_inode(cb, &ino_b, &mod_b);
	while (!err && (ino_a != UINT64_MAX || ino_b != UINT64_MAX)) {
		uint64_t ino = ino_a < ino_b ? ino_a : ino_b;

		if (ino_a != ino_b || mod_a != mod_b)
			err = touched_add(out, ino, all);
		if (!err && ino_a == ino)
			err = next_inode(ca, &ino_a, &mod_a);
		if (!err && ino_b == ino)
			err = next_inode(cb, &ino_b, &mod_b);
	}
	mvcc_cursor_close(ca);
	mvcc_cursor_close(cb);
	return err;
}

int touched_between(struct mvcc *db, struct mvcc_view *a, struct mvcc_view *b, struct touched_set *out)
{
	mvcc_rev_t lo = mvcc_view_rev(a), hi = mvcc_view_rev(b);
	int err;

	*out = (struct touched_set){ 0 };
	if (lo == hi)
		return 0;
	if (lo > hi) {
		lo = mvcc_view_rev(b);
		hi = mvcc_view_rev(a);
	}
	err = touched_by_log(db, lo + 1, hi, out);
	if (err == MVCC_ECOMPACTED) {
		out->n = 0;
		err = touched_by_walk(a, b, out);
	}
	touched_sort(out);
	if (err)
		touched_release(out);
	return err;
}

/* ---- names ------------------------------------------------------------------------------------- */

void links_release(struct link_list *list)
{
	free(list->v);
	arena_free(list->blocks);
	*list = (struct link_list){ 0 };
}

int links_add(struct link_list *list, uint64_t ino, uint64_t dir, struct slice name, uint8_t type)
{
	uint8_t *copy;

	if (list->n == list->cap) {
		size_t cap = list->cap ? 2 * list->cap : 64;
		struct link_at *grown = realloc(list->v, cap * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		list->v = grown;
		list->cap = cap;
	}
	copy = arena_take(&list->blocks, name.len);
	if (!copy)
		return -ENOMEM;
	if (name.len)
		memcpy(copy, name.data, name.len);
	list->v[list->n++] =
		(struct link_at){ .ino = ino, .dir = dir, .name = slice_of(copy, name.len), .type = type };
	return 0;
}

static int further_links(struct ns_src src, uint64_t ino, uint8_t type, struct link_list *out)
{
	struct buf start = { 0 }, end = { 0 };
	const struct mvcc_item *item;
	struct mvcc_cursor *c = NULL;
	struct row_key k;
	struct slice key;
	int err = row_bounds(ROW_LINK, ino, &start, &end);

	if (!err)
		err = src_cursor(src, slice_buf(&start), slice_buf(&end), &c);
	while (!err && (err = mvcc_cursor_next(c, &key, &item)) > 0) {
		err = row_key_decode(key, &k);
		if (!err)
			err = links_add(out, ino, k.dir, k.tail, type);
	}
	mvcc_cursor_close(c);
	buf_release(&start);
	buf_release(&end);
	return err;
}

int links_of(struct ns_src src, uint64_t ino, const struct row_inode *row, struct link_list *out)
{
	struct held_row held = { 0 };
	int err = 0;

	if (!row) {
		err = src_row(src, ino, &held);
		row = &held.row;
	}
	if (!err && ino != NS_ROOT)
		err = links_add(out, ino, row->parent, row->name, NS_TYPE_OF(row->mode));
	if (!err && !S_ISDIR(row->mode) && row->nlink > 1)
		err = further_links(src, ino, NS_TYPE_OF(row->mode), out);
	held_row_release(&held);
	return err == -ENOENT ? 0 : err;
}

/* ---- paths ------------------------------------------------------------------------------------- */

struct path_slot {
	struct path_slot *next;
	uint64_t dir;
	size_t len;
	uint8_t path[];
};

void path_cache_release(struct path_cache *cache)
{
	for (size_t i = 0; i < cache->cap; i++)
		while (cache->buckets[i]) {
			struct path_slot *next = cache->buckets[i]->next;

			free(cache->buckets[i]);
			cache->buckets[i] = next;
		}
	free(cache->buckets);
	cache->buckets = NULL;
	cache->n = cache->cap = 0;
}

static size_t path_bucket(uint64_t dir, size_t cap)
{
	return (size_t)((dir * 0x9e3779b97f4a7c15u) >> 20) & (cap - 1);
}

static int path_cache_grow(struct path_cache *cache)
{
	size_t cap = cache->cap ? 4 * cache->cap : 256;
	struct path_slot **grown;

	if (cache->n < cache->cap)
		return 0;
	grown = calloc(cap, sizeof(struct path_slot *));
	if (!grown)
		return -ENOMEM;
	for (size_t i = 0; i < cache->cap; i++)
		while (cache->buckets[i]) {
			struct path_slot *slot = cache->buckets[i];

			cache->buckets[i] = slot->next;
			slot->next = grown[path_bucket(slot->dir, cap)];
			grown[path_bucket(slot->dir, cap)] = slot;
		}
	free(cache->buckets);
	cache->buckets = grown;
	cache->cap = cap;
	return 0;
}

static int path_cache_put(struct path_cache *cache, uint64_t dir, struct slice path, struct path_slot **out)
{
	struct path_slot *slot, **bucket;
	int err = path_cache_grow(cache);

	if (err)
		return err;
	slot = malloc(sizeof(*slot) + path.len);
	if (!slot)
		return -ENOMEM;
	bucket = &cache->buckets[path_bucket(dir, cache->cap)];
	*slot = (struct path_slot){ .next = *bucket, .dir = dir, .len = path.len };
	if (path.len)
		memcpy(slot->path, path.data, path.len);
	*bucket = slot;
	cache->n++;
	*out = slot;
	return 0;
}

static struct path_slot *path_cache_find(const struct path_cache *cache, uint64_t dir)
{
	struct path_slot *slot = cache->cap ? cache->buckets[path_bucket(dir, cache->cap)] : NULL;

	while (slot && slot->dir != dir)
		slot = slot->next;
	return slot;
}

/* Puts the paths of `dir` and of all above it that are not known yet; from the top, so that each is made of the one above. */
int path_of_dir(struct path_cache *cache, uint64_t dir, struct slice *out)
{
	enum { DEEP = 100000 }; /* only a damaged, circular tree is as deep */
	struct link_list up = { 0 };
	struct path_slot *slot;
	struct buf path = { 0 };
	int err = 0;

	while (!err && !(slot = path_cache_find(cache, dir))) {
		struct held_row held = { 0 };

		if (dir == NS_ROOT) {
			err = path_cache_put(cache, dir, slice_of(NULL, 0), &slot);
			break;
		}
		err = src_row(cache->src, dir, &held);
		if (!err && (up.n > DEEP || held.row.name.len == 0))
			err = MVCC_ECORRUPT;
		if (!err)
			err = links_add(&up, dir, held.row.parent, held.row.name, 0);
		if (!err)
			dir = held.row.parent;
		held_row_release(&held);
	}
	while (!err && up.n) {
		struct link_at *link = &up.v[--up.n];

		err = buf_copy(&path, slice_of(slot->path, slot->len));
		if (!err)
			err = buf_put_u8(&path, '/');
		if (!err)
			err = buf_put_slice(&path, link->name);
		if (!err)
			err = path_cache_put(cache, link->ino, slice_buf(&path), &slot);
	}
	if (!err)
		*out = slice_of(slot->path, slot->len);
	links_release(&up);
	buf_release(&path);
	return err;
}

int path_of_name(struct path_cache *cache, uint64_t dir, struct slice name, struct buf *out)
{
	struct slice parent;
	int err = path_of_dir(cache, dir, &parent);

	if (!err)
		err = buf_copy(out, parent);
	if (!err)
		err = buf_put_u8(out, '/');
	return err ? err : buf_put_slice(out, name);
}

int scope_of(struct slice path, struct buf *out)
{
	int err = 0;

	while (!err && path.len) {
		const uint8_t *slash = memchr(path.data, '/', path.len);
		size_t n = slash ? (size_t)(slash - path.data) : path.len;

		if (n) {
			err = buf_put_u8(out, '/');
			if (!err)
				err = buf_put(out, path.data, n);
		}
		n += slash != NULL;
		path = slice_of(path.data + n, path.len - n);
	}
	return err;
}

/* ---- comparing --------------------------------------------------------------------------------- */

/* A walk over the rows of one kind of an inode. */
struct row_walk {
	struct mvcc_cursor *c;
	size_t skip; /* bytes of the key before what comes after the number */
	struct slice key;
	const struct mvcc_item *item;
	int got;
};

static int row_walk_open(struct row_walk *w, struct ns_src src, uint8_t kind, uint64_t ino)
{
	struct buf start = { 0 }, end = { 0 };
	int err = row_bounds(kind, ino, &start, &end);

	if (!err)
		err = src_cursor(src, slice_buf(&start), slice_buf(&end), &w->c);
	w->skip = start.len;
	buf_release(&start);
	buf_release(&end);
	return err;
}

/* The part of the key after the number; negative when the walk failed. */
static int row_walk_next(struct row_walk *w, struct slice *tail)
{
	w->got = mvcc_cursor_next(w->c, &w->key, &w->item);
	if (w->got > 0)
		*tail = slice_of(w->key.data + w->skip, w->key.len - w->skip);
	return w->got;
}

bool items_same(const struct mvcc_item *a, const struct mvcc_item *b)
{
	return slice_eq(a->value, b->value) && a->nblobs == b->nblobs &&
	       (a->nblobs == 0 || memcmp(a->blobs, b->blobs, a->nblobs * sizeof(*a->blobs)) == 0);
}

/* Where in the file the row at hand begins. */
static uint64_t row_walk_start(const struct row_walk *w)
{
	struct row_key k;

	return w->got > 0 && row_key_decode(w->key, &k) == 0 ? k.start : UINT64_MAX;
}

int rows_same(struct ns_src a, uint64_t ino_a, struct ns_src b, uint64_t ino_b, uint8_t kind, uint64_t *from)
{
	struct row_walk wa = { 0 }, wb = { 0 };
	struct slice ta = { 0 }, tb = { 0 };
	int same = row_walk_open(&wa, a, kind, ino_a);

	if (!same)
		same = row_walk_open(&wb, b, kind, ino_b);
	while (same == 0) {
		if (row_walk_next(&wa, &ta) < 0 || row_walk_next(&wb, &tb) < 0) {
			same = wa.got < 0 ? wa.got : wb.got;
		} else if (wa.got == 0 && wb.got == 0) {
			same = 1;
		} else if (wa.got != wb.got || !slice_eq(ta, tb) || !items_same(wa.item, wb.item)) {
			uint64_t sa = row_walk_start(&wa), sb = row_walk_start(&wb);

			if (from)
				*from = sa < sb ? sa : sb;
			break;
		}
	}
	mvcc_cursor_close(wa.c);
	mvcc_cursor_close(wb.c);
	return same;
}

static int read_some(struct mvcc *db, struct ns_src src, uint64_t ino, const struct row_inode *row,
		     uint64_t off, uint8_t *out, size_t len)
{
	if (!row->inlined)
		return src_read_extents(db, src, ino, UINT64_MAX, off, out, len);
	memcpy(out, row->content.data + off, len);
	return 0;
}

int content_same(struct mvcc *db, struct ns_src a, uint64_t ino_a, const struct row_inode *row_a,
		 struct ns_src b, uint64_t ino_b, const struct row_inode *row_b)
{
	uint64_t off = 0;
	uint8_t *bytes;
	int same = 1;

	if (row_a->size != row_b->size)
		return 0;
	if (row_a->inlined && row_b->inlined)
		return slice_eq(row_a->content, row_b->content);
	if (!row_a->inlined && !row_b->inlined) {
		same = rows_same(a, ino_a, b, ino_b, ROW_EXTENT, &off);
		if (same)
			return same;
		same = 1;
	}
	bytes = malloc(2 * NS_EXTENT_MAX);
	if (!bytes)
		return -ENOMEM;
	while (same == 1 && off < row_a->size) {
		size_t len = (size_t)(row_a->size - off < NS_EXTENT_MAX ? row_a->size - off : NS_EXTENT_MAX);
		int err = read_some(db, a, ino_a, row_a, off, bytes, len);

		if (!err)
			err = read_some(db, b, ino_b, row_b, off, bytes + NS_EXTENT_MAX, len);
		same = err ? err : memcmp(bytes, bytes + NS_EXTENT_MAX, len) == 0;
		off += len;
	}
	free(bytes);
	return same;
}
