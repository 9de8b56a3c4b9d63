#include "fs/ns_edit.h"
#include "fs/ns_side.h"

#include <errno.h>
#include <stdlib.h>

/* ---- the table --------------------------------------------------------------------------------- */

int edit_begin(struct edit *e, struct ns *ns, struct mvcc_txn *txn)
{
	*e = (struct edit){ .ns = ns,
			    .txn = txn,
			    .src = { .txn = txn, .validate = true },
			    .now_ns = ns_time_ns(),
			    .cap = 1024 };
	e->buckets = calloc(e->cap, sizeof(struct edit_inode *));
	return e->buckets ? 0 : -ENOMEM;
}

void edit_end(struct edit *e)
{
	while (e->all) {
		struct edit_inode *n = e->all;

		e->all = n->all;
		while (n->links) {
			struct edit_link *next = n->links->next;

			free(n->links);
			n->links = next;
		}
		buf_release(&n->name);
		buf_release(&n->content);
		free(n);
	}
	free(e->buckets);
	links_release(&e->arena);
	*e = (struct edit){ 0 };
}

static struct edit_inode **bucket_of(struct edit *e, uint64_t ino)
{
	return &e->buckets[(size_t)((ino * 0x9e3779b97f4a7c15u) >> 20) & (e->cap - 1)];
}

static struct edit_inode *find(struct edit *e, uint64_t ino)
{
	struct edit_inode *n = *bucket_of(e, ino);

	while (n && n->ino != ino)
		n = n->chain;
	return n;
}

/* If there is no memory for more buckets, the chains get longer. */
static void grow(struct edit *e)
{
	struct edit_inode **more = calloc(4 * e->cap, sizeof(struct edit_inode *));

	if (!more)
		return;
	free(e->buckets);
	e->buckets = more;
	e->cap *= 4;
	for (struct edit_inode *n = e->all; n; n = n->all) {
		struct edit_inode **bucket = bucket_of(e, n->ino);

		n->chain = *bucket;
		*bucket = n;
	}
}

/* Takes in an inode whose row is a copy of `row`. */
static int insert(struct edit *e, uint64_t ino, const struct row_inode *row, struct edit_inode **out)
{
	struct edit_inode *n = calloc(1, sizeof(*n)), **bucket;
	int err = n ? 0 : -ENOMEM;

	if (!err)
		err = buf_copy(&n->name, row->name);
	if (!err)
		err = buf_copy(&n->content, row->content);
	if (err) {
		if (n)
			buf_release(&n->name);
		free(n);
		return err;
	}
	if (e->n >= 2 * e->cap)
		grow(e);
	n->ino = ino;
	n->row = *row;
	n->row.name = slice_buf(&n->name);
	n->row.content = slice_buf(&n->content);
	bucket = bucket_of(e, ino);
	n->chain = *bucket;
	*bucket = n;
	n->all = e->all;
	e->all = n;
	e->n++;
	*out = n;
	return 0;
}

int edit_get(struct edit *e, uint64_t ino, struct edit_inode **out)
{
	struct held_row held = { 0 };
	int err = 0;

	*out = find(e, ino);
	if (*out)
		return 0;
	err = src_row(e->src, ino, &held);
	if (!err)
		err = insert(e, ino, &held.row, out);
	held_row_release(&held);
	return err;
}

int edit_new(struct edit *e, const struct row_inode *like, struct edit_inode **out)
{
	struct row_inode row = *like;
	uint64_t ino;
	int err = ns_new_ino(e->ns, &ino);

	row.nlink = S_ISDIR(row.mode) ? 2 : 0;
	row.parent = 0;
	row.name = row.content = slice_of(NULL, 0);
	row.size = row.alloc = 0;
	row.inlined = true;
	row.lease = 0;
	if (!err)
		err = insert(e, ino, &row, out);
	if (!err)
		(*out)->fresh = (*out)->changed = (*out)->times_set = true;
	return err;
}

/* ---- names ------------------------------------------------------------------------------------- */

/* Takes out the note of the opposite, as if neither had been. */
static bool cancel_link(struct edit_inode *n, uint64_t dir, struct slice name, bool add)
{
	for (struct edit_link **p = &n->links; *p; p = &(*p)->next) {
		struct edit_link *l = *p;

		if (l->add == add || l->dir != dir || !slice_eq(l->name, name))
			continue;
		*p = l->next;
		free(l);
		n->adds -= !add;
		n->dels -= add;
		return true;
	}
	return false;
}

static int add_note(struct edit *e, struct edit_inode *n, uint64_t dir, struct slice name, bool add)
{
	struct edit_link *link = malloc(sizeof(*link));
	int err = link ? links_add(&e->arena, 0, 0, name, 0) : -ENOMEM;

	if (err) {
		free(link);
		return err;
	}
	*link = (struct edit_link){
		.next = n->links, .dir = dir, .name = e->arena.v[--e->arena.n].name, .add = add
	};
	n->links = link;
	n->adds += add;
	n->dels += !add;
	return 0;
}

static int note_link(struct edit *e, struct edit_inode *n, uint64_t dir, struct slice name, bool add)
{
	struct edit_inode *parent;
	int err = edit_get(e, dir, &parent);

	if (!err && !cancel_link(n, dir, name, add))
		err = add_note(e, n, dir, name, add);
	if (err)
		return err;
	n->changed = true;
	parent->touched = true;
	if (S_ISDIR(n->row.mode))
		parent->row.nlink += add ? 1 : (uint64_t)-1;
	return 0;
}

int edit_link(struct edit *e, struct edit_inode *n, uint64_t dir, struct slice name)
{
	int err = note_link(e, n, dir, name, true);

	e->writes++;
	return err ? err : put_dirent(e->txn, dir, name, n->ino, NS_TYPE_OF(n->row.mode), n->row.lease);
}

int edit_unlink(struct edit *e, struct edit_inode *n, uint64_t dir, struct slice name)
{
	struct buf key = { 0 };
	int err = note_link(e, n, dir, name, false);

	if (!err)
		err = row_dirent_key(&key, dir, name);
	if (!err)
		err = mvcc_txn_del(e->txn, slice_buf(&key));
	e->writes++;
	buf_release(&key);
	return err;
}

static bool has_link(const struct edit_inode *n, bool add, uint64_t dir, struct slice name)
{
	for (const struct edit_link *l = n->links; l; l = l->next)
		if (l->add == add && l->dir == dir && slice_eq(l->name, name))
			return true;
	return false;
}

static int del_link_row(struct edit *e, uint64_t ino, uint64_t dir, struct slice name)
{
	struct buf key = { 0 };
	int err = row_link_key(&key, ino, dir, name);

	if (!err)
		err = mvcc_txn_del(e->txn, slice_buf(&key));
	e->writes++;
	buf_release(&key);
	return err;
}

static int set_first(struct edit_inode *n, uint64_t dir, struct slice name)
{
	int err = buf_copy(&n->name, name);

	if (err)
		return err;
	n->row.parent = dir;
	n->row.name = slice_buf(&n->name);
	return 0;
}

/* One of its further links becomes the first. */
static int promote(struct edit *e, struct edit_inode *n)
{
	struct link_list further = { 0 };
	struct row_inode row = n->row;
	size_t i = 1; /* the first one listed is the one in the row, which has been taken away */
	int err;

	row.nlink = 2; /* or further ones are not looked for */
	err = links_of(e->src, n->ino, &row, &further);
	if (!err && i >= further.n)
		err = MVCC_ECORRUPT; /* nlink counts a link that is nowhere */
	if (!err)
		err = set_first(n, further.v[i].dir, further.v[i].name);
	if (!err)
		err = del_link_row(e, n->ino, n->row.parent, n->row.name);
	links_release(&further);
	return err;
}

static int settle_file(struct edit *e, struct edit_inode *n)
{
	bool first = !n->fresh && !has_link(n, false, n->row.parent, n->row.name);
	int err = 0;

	n->row.nlink = n->row.nlink + n->adds - n->dels;
	for (const struct edit_link *l = n->links; !err && l; l = l->next)
		if (!l->add && !(l->dir == n->row.parent && slice_eq(l->name, n->row.name)))
			err = del_link_row(e, n->ino, l->dir, l->name);
	n->gone = n->row.nlink == 0;
	if (n->gone)
		return err;
	for (const struct edit_link *l = n->links; !err && l; l = l->next) {
		if (!l->add)
			continue;
		if (!first)
			err = set_first(n, l->dir, l->name);
		else
			err = put_link(e->txn, n->ino, l->dir, l->name, n->row.lease);
		first = true;
	}
	return err || first ? err : promote(e, n);
}

/* It has one name at most; two were given if somebody moved it meanwhile, which the caller finds out. */
static int settle_dir(struct edit_inode *n)
{
	n->gone = n->dels >= 1 + n->adds || (n->fresh && !n->adds);
	for (const struct edit_link *l = n->links; l; l = l->next)
		if (l->add)
			return set_first(n, l->dir, l->name);
	return 0;
}

int edit_settle(struct edit *e)
{
	int err = 0;

	for (struct edit_inode *n = e->all; n && !err; n = n->all) {
		if (n->links || n->fresh)
			err = S_ISDIR(n->row.mode) ? settle_dir(n) : settle_file(e, n);
		if (n->touched) {
			n->changed = true;
			if (!n->times_set && n->row.mtime_ns < e->now_ns)
				n->row.mtime_ns = e->now_ns;
		}
	}
	return err;
}

/* ---- content and xattrs ------------------------------------------------------------------------ */

/* What is wanted of one key: rows of a kind, after the number, with what they hold. */
struct wanted {
	struct mvcc_cursor *c;
	size_t skip; /* bytes of the key before that part */
	struct slice tail;
	const struct mvcc_item *item;
};

static int wanted_next(struct wanted *w)
{
	struct slice key;
	int got = mvcc_cursor_next(w->c, &key, &w->item);

	if (got > 0)
		w->tail = slice_of(key.data + w->skip, key.len - w->skip);
	return got;
}

static int put_wanted(struct edit *e, struct edit_inode *n, uint8_t kind, const struct wanted *w)
{
	struct mvcc_put put = { .value = w->item->value,
				.blobs = w->item->blobs,
				.nblobs = w->item->nblobs,
				.lease = n->row.lease };
	struct buf key = { 0 }, end = { 0 };
	int err = row_bounds(kind, n->ino, &key, &end);

	if (!err)
		err = buf_put(&key, w->tail.data, w->tail.len);
	put.key = slice_buf(&key);
	if (!err)
		err = mvcc_txn_put_with(e->txn, &put);
	buf_release(&key);
	buf_release(&end);
	return err;
}

/* Deletes the rows that the other inode has not got, as a cursor does not promise to see what is deleted under it. */
static int drop_others(struct edit *e, struct edit_inode *n, uint8_t kind, struct ns_src src, uint64_t ino)
{
	struct buf start = { 0 }, end = { 0 }, theirs = { 0 }, keys = { 0 };
	struct mvcc_item item = { 0 };
	struct mvcc_cursor *c = NULL;
	const struct mvcc_item *row;
	struct slice key, rest;
	int err = row_bounds(kind, n->ino, &start, &end);

	if (!err)
		err = src_cursor(e->src, slice_buf(&start), slice_buf(&end), &c);
	while (!err && (err = mvcc_cursor_next(c, &key, &row)) > 0) {
		buf_release(&end);
		err = row_bounds(kind, ino, &theirs, &end);
		if (!err)
			err = buf_put(&theirs, key.data + start.len, key.len - start.len);
		if (!err)
			err = src_get(src, slice_buf(&theirs), &item);
		mvcc_item_release(&item);
		if (err == -ENOENT)
			err = buf_put_bytes(&keys, key);
	}
	mvcc_cursor_close(c);
	rest = slice_buf(&keys);
	while (!err && take_bytes(&rest, &key))
		err = mvcc_txn_del(e->txn, key);
	buf_release(&start);
	buf_release(&end);
	buf_release(&theirs);
	buf_release(&keys);
	return err;
}

/* Is the row there already? 1 or 0, or negative. */
static int has_wanted(struct edit *e, const struct edit_inode *n, uint8_t kind, const struct wanted *w)
{
	struct mvcc_item item = { 0 };
	struct buf key = { 0 }, end = { 0 };
	int err = row_bounds(kind, n->ino, &key, &end);

	if (!err)
		err = buf_put(&key, w->tail.data, w->tail.len);
	if (!err)
		err = src_get(e->src, slice_buf(&key), &item);
	if (!err)
		err = items_same(&item, w->item) ? 1 : 0;
	mvcc_item_release(&item);
	buf_release(&key);
	buf_release(&end);
	return err == -ENOENT ? 0 : err;
}

/* Makes all rows of a kind those of another inode: what is the same already is not put again. */
static int copy_rows(struct edit *e, struct edit_inode *n, uint8_t kind, struct ns_src src, uint64_t ino)
{
	bool blank = n->fresh && !n->filled;
	struct buf start = { 0 }, end = { 0 };
	struct wanted w = { 0 };
	int err = blank ? 0 : drop_others(e, n, kind, src, ino);

	if (!err)
		err = row_bounds(kind, ino, &start, &end);
	if (!err)
		err = src_cursor(src, slice_buf(&start), slice_buf(&end), &w.c);
	w.skip = start.len;
	while (!err && (err = wanted_next(&w)) > 0) {
		err = blank ? 0 : has_wanted(e, n, kind, &w);
		if (!err)
			err = put_wanted(e, n, kind, &w);
		else if (err > 0)
			err = 0;
	}
	mvcc_cursor_close(w.c);
	n->changed = n->filled = true;
	e->writes++;
	buf_release(&start);
	buf_release(&end);
	return err;
}

int edit_content(struct edit *e, struct edit_inode *n, struct ns_src src, uint64_t ino,
		 const struct row_inode *row)
{
	int err = 0;

	if (!n->row.inlined || !row->inlined)
		err = copy_rows(e, n, ROW_EXTENT, src, ino);
	if (!err)
		err = buf_copy(&n->content, row->content);
	if (err)
		return err;
	n->row.content = slice_buf(&n->content);
	n->row.inlined = row->inlined;
	n->row.size = row->size;
	n->row.alloc = row->alloc;
	n->changed = true;
	return 0;
}

int edit_xattrs(struct edit *e, struct edit_inode *n, struct ns_src src, uint64_t ino)
{
	return copy_rows(e, n, ROW_XATTR, src, ino);
}

int edit_xattr(struct edit *e, struct edit_inode *n, struct slice name, const struct slice *value)
{
	struct mvcc_put put = { .lease = n->row.lease };
	struct buf key = { 0 };
	int err = row_xattr_key(&key, n->ino, name);

	put.key = slice_buf(&key);
	if (!err && value) {
		put.value = *value;
		err = mvcc_txn_put_with(e->txn, &put);
	} else if (!err) {
		err = mvcc_txn_del(e->txn, put.key);
	}
	n->changed = n->filled = true;
	e->writes++;
	buf_release(&key);
	return err;
}

/* ---- looking at the whole ---------------------------------------------------------------------- */

int edit_occupied(struct edit *e, uint64_t dir)
{
	struct buf start = { 0 }, end = { 0 };
	const struct mvcc_item *item;
	struct mvcc_cursor *c = NULL;
	struct slice key;
	int got = row_bounds(ROW_DIRENT, dir, &start, &end);

	if (!got)
		got = src_cursor(e->src, slice_buf(&start), slice_buf(&end), &c);
	if (!got)
		got = mvcc_cursor_next(c, &key, &item);
	mvcc_cursor_close(c);
	buf_release(&start);
	buf_release(&end);
	return got;
}

int edit_circular(struct edit *e, struct edit_inode *n)
{
	uint64_t at = n->row.parent;
	int err = 0;

	/* As many steps as there are directories is more than enough; a tree is never as deep. */
	for (unsigned depth = 0; !err && at != NS_ROOT; depth++) {
		struct edit_inode *up;

		if (at == n->ino || depth > 100000)
			return 1;
		err = edit_get(e, at, &up);
		if (!err)
			at = up->row.parent;
	}
	return err;
}

/* ---- writing ----------------------------------------------------------------------------------- */

static int drop_inode(struct edit *e, struct edit_inode *n)
{
	struct buf key = { 0 };
	int err;

	if (n->fresh)
		return 0; /* nothing of it was put but what the caller gave it: that has to go, too */
	err = row_inode_key(&key, n->ino);
	if (!err)
		err = mvcc_txn_del(e->txn, slice_buf(&key));
	e->writes++;
	buf_release(&key);
	return err;
}

int edit_finish(struct edit *e)
{
	int err = 0;

	for (struct edit_inode *n = e->all; n && !err; n = n->all) {
		if (n->gone) {
			err = drop_inode(e, n);
			if (!err)
				err = content_drop_rows(e->txn, ROW_EXTENT, n->ino);
			if (!err)
				err = content_drop_rows(e->txn, ROW_XATTR, n->ino);
		} else if (n->changed) {
			n->row.ctime_ns = e->now_ns;
			err = put_row(e->txn, n->ino, &n->row);
			e->writes++;
		}
	}
	return err;
}

int edit_touched(const struct edit *e, struct touched_set *out)
{
	*out = (struct touched_set){ .v = calloc(e->n + 1, sizeof(struct touched)), .cap = e->n + 1 };
	if (!out->v)
		return -ENOMEM;
	for (const struct edit_inode *n = e->all; n; n = n->all)
		if (n->changed || n->gone)
			out->v[out->n++] =
				(struct touched){ n->ino, TOUCHED_ROW | TOUCHED_EXTENTS | TOUCHED_XATTRS };
	touched_sort(out);
	return 0;
}
