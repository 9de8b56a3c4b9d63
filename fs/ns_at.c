/*
 * The tree at a revision. Everything here reads rows of one source: a view, or (for files being
 * written) a transaction with its own writes on top.
 */
#include "fs/ns_int.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

int src_get(struct ns_src src, struct slice key, struct mvcc_item *out)
{
	if (!src.txn)
		return mvcc_get(src.view, key, out);
	return src.validate ? mvcc_txn_get(src.txn, key, out) : mvcc_txn_peek(src.txn, key, out);
}

int src_cursor(struct ns_src src, struct slice start, struct slice end, struct mvcc_cursor **out)
{
	if (!src.txn)
		return mvcc_cursor_open(src.view, start, end, out);
	return src.validate ? mvcc_txn_cursor_open(src.txn, start, end, out) :
			      mvcc_txn_peek_cursor_open(src.txn, start, end, out);
}

int src_row(struct ns_src src, uint64_t ino, struct held_row *out)
{
	struct held_row held = { 0 };
	struct buf key = { 0 };
	int err;

	err = row_inode_key(&key, ino);
	if (!err)
		err = src_get(src, slice_buf(&key), &held.item);
	if (!err)
		err = row_inode_decode(held.item.value, &held.row);
	held.row.lease = held.item.lease;
	buf_release(&key);
	if (err)
		held_row_release(&held);
	else
		*out = held;
	return err;
}

void held_row_release(struct held_row *held)
{
	mvcc_item_release(&held->item);
	*held = (struct held_row){ 0 };
}

void row_to_attr(uint64_t ino, const struct row_inode *row, const struct mvcc_item *item, struct ns_attr *out)
{
	*out = (struct ns_attr){
		.ino = ino,
		.parent = row->parent,
		.mode = row->mode,
		.uid = row->uid,
		.gid = row->gid,
		.rdev = row->rdev,
		.nlink = row->nlink,
		.size = row->size,
		.alloc = row->inlined ? row->size : row->alloc,
		.atime_ns = row->atime_ns,
		.mtime_ns = row->mtime_ns,
		.ctime_ns = row->ctime_ns,
		.btime_ns = row->btime_ns,
		.rev = item ? item->mod_rev : 0,
		.create_rev = item ? item->create_rev : 0,
		.version = item ? item->version : 0,
	};
}

int src_dirent(struct ns_src src, uint64_t dir, struct slice name, uint64_t *ino, uint8_t *type)
{
	struct mvcc_item item = { 0 };
	struct buf key = { 0 };
	int err;

	err = row_dirent_key(&key, dir, name);
	if (!err)
		err = src_get(src, slice_buf(&key), &item);
	if (!err)
		err = row_dirent_decode(item.value, ino, type);
	mvcc_item_release(&item);
	buf_release(&key);
	return err;
}

int src_getattr(struct ns_src src, uint64_t ino, struct ns_attr *out)
{
	struct held_row held = { 0 };
	int err = src_row(src, ino, &held);

	if (!err)
		row_to_attr(ino, &held.row, &held.item, out);
	held_row_release(&held);
	return err;
}

int ns_at_getattr(struct mvcc_view *view, uint64_t ino, struct ns_attr *out)
{
	return src_getattr((struct ns_src){ .view = view }, ino, out);
}

int src_lookup(struct ns_src src, uint64_t dir, struct slice name, uint64_t *out)
{
	struct ns_attr attr;
	uint8_t type;
	int err;

	err = src_dirent(src, dir, name, out, &type);
	if (err != -ENOENT)
		return err;
	err = src_getattr(src, dir, &attr);
	if (!err)
		err = S_ISDIR(attr.mode) ? -ENOENT : -ENOTDIR;
	return err;
}

int ns_at_lookup(struct mvcc_view *view, uint64_t dir, struct slice name, uint64_t *out)
{
	return src_lookup((struct ns_src){ .view = view }, dir, name, out);
}

bool ns_path_take(struct slice *path, struct slice *name)
{
	size_t n = 0;

	while (path->len && path->data[0] == '/')
		*path = slice_of(path->data + 1, path->len - 1);
	while (n < path->len && path->data[n] != '/')
		n++;
	*name = slice_of(path->data, n);
	*path = slice_of(path->data + n, path->len - n);
	return n > 0;
}

int ns_at_walk(struct mvcc_view *view, struct slice path, uint64_t *out)
{
	uint64_t ino = NS_ROOT;
	struct slice name;
	int err = 0;

	while (!err && ns_path_take(&path, &name))
		err = name.len > NS_NAME_MAX ? -ENAMETOOLONG : ns_at_lookup(view, ino, name, &ino);
	if (!err)
		*out = ino;
	return err;
}

/* Puts "/name" in front of what `path` holds. */
static int path_prepend(struct buf *path, struct slice name)
{
	int err = buf_reserve(path, name.len + 1);

	if (err)
		return err;
	if (path->len)
		memmove(path->data + name.len + 1, path->data, path->len);
	path->data[0] = '/';
	memcpy(path->data + 1, name.data, name.len);
	path->len += name.len + 1;
	return 0;
}

int src_path(struct ns_src src, uint64_t ino, struct buf *out)
{
	struct held_row held = { 0 };
	struct buf path = { 0 };
	int err = 0;

	/* The kernel's longest path has 4096 bytes; the bound only stops a damaged, circular tree. */
	for (unsigned depth = 0; ino != NS_ROOT && !err; depth++) {
		err = src_row(src, ino, &held);
		if (!err && (depth > 100000 || held.row.name.len == 0))
			err = MVCC_ECORRUPT;
		if (!err)
			err = path_prepend(&path, held.row.name);
		if (!err)
			ino = held.row.parent;
		held_row_release(&held);
	}
	if (!err && path.len == 0)
		err = buf_put(&path, "/", 1);
	if (!err)
		err = buf_copy(out, slice_buf(&path));
	buf_release(&path);
	return err;
}

int ns_at_path(struct mvcc_view *view, uint64_t ino, struct buf *out)
{
	return src_path((struct ns_src){ .view = view }, ino, out);
}

/*
 * Opens a cursor at the extent that may hold `off`: as no extent is longer than NS_EXTENT_MAX, it
 * starts less than that before.
 */
static int extent_cursor(struct ns_src src, uint64_t ino, uint64_t off, uint64_t end,
			 struct mvcc_cursor **out)
{
	struct buf first = { 0 }, last = { 0 }, none = { 0 };
	int err;

	err = row_extent_key(&first, ino, off < NS_EXTENT_MAX ? 0 : off - NS_EXTENT_MAX + 1);
	if (!err && end <= NS_SIZE_MAX)
		err = row_extent_key(&last, ino, end);
	else if (!err)
		err = row_bounds(ROW_EXTENT, ino, &none, &last);
	if (!err)
		err = src_cursor(src, slice_buf(&first), slice_buf(&last), out);
	buf_release(&first);
	buf_release(&last);
	buf_release(&none);
	return err;
}

static int extent_next(struct mvcc_cursor *c, uint64_t *start, struct row_extent *ext)
{
	const struct mvcc_item *item;
	struct row_key k;
	struct slice key;
	int got = mvcc_cursor_next(c, &key, &item);
	int err;

	if (got <= 0)
		return got;
	err = row_key_decode(key, &k);
	if (!err)
		err = row_extent_decode(item, ext);
	if (err)
		return err;
	*start = k.start;
	return 1;
}

int src_read_extents(struct mvcc *db, struct ns_src src, uint64_t ino, uint64_t cut, uint64_t off,
		     uint8_t *out, size_t len)
{
	struct mvcc_cursor *c = NULL;
	struct row_extent ext = { 0 };
	uint64_t start = 0;
	int got;

	memset(out, 0, len);
	if (off >= cut || len == 0)
		return 0;
	if (len > cut - off)
		len = (size_t)(cut - off);
	got = extent_cursor(src, ino, off, off + len, &c);
	if (got)
		return got;
	while ((got = extent_next(c, &start, &ext)) > 0) {
		uint64_t from = start > off ? start : off;
		uint64_t to = start + ext.len < off + len ? start + ext.len : off + len;
		ssize_t n;

		if (from >= to)
			continue;
		n = mvcc_blob_read(db, ext.blob, (size_t)(ext.off + from - start), out + (from - off),
				   (size_t)(to - from));
		if (n >= 0 && (uint64_t)n != to - from)
			n = MVCC_ECORRUPT;
		if (n < 0) {
			got = n == -ENOENT ? MVCC_ECORRUPT : (int)n;
			break;
		}
	}
	mvcc_cursor_close(c);
	return got;
}

int src_next_data(struct ns_src src, uint64_t ino, uint64_t cut, uint64_t off, uint64_t *start, uint64_t *end)
{
	struct mvcc_cursor *c = NULL;
	struct row_extent ext = { 0 };
	uint64_t at = 0;
	int got;

	if (off >= cut)
		return 0;
	got = extent_cursor(src, ino, off, UINT64_MAX, &c);
	if (got)
		return got;
	while ((got = extent_next(c, &at, &ext)) > 0) {
		if (at + ext.len <= off)
			continue;
		if (at >= cut) {
			got = 0;
			break;
		}
		*start = at > off ? at : off;
		*end = at + ext.len < cut ? at + ext.len : cut;
		break;
	}
	mvcc_cursor_close(c);
	return got;
}

ssize_t src_read(struct mvcc *db, struct ns_src src, uint64_t ino, uint64_t off, void *out, size_t len)
{
	struct held_row held = { 0 };
	ssize_t n;

	n = src_row(src, ino, &held);
	if (n)
		return n;
	if (S_ISDIR(held.row.mode)) {
		n = -EISDIR;
		goto out;
	}
	if (off >= held.row.size)
		goto out;
	if (len > held.row.size - off)
		len = (size_t)(held.row.size - off);
	if (held.row.inlined)
		memcpy(out, held.row.content.data + off, len);
	else
		n = src_read_extents(db, src, ino, UINT64_MAX, off, out, len);
	if (!n)
		n = (ssize_t)len;
out:
	held_row_release(&held);
	return n;
}

ssize_t ns_at_read(struct mvcc *db, struct mvcc_view *view, uint64_t ino, uint64_t off, void *out, size_t len)
{
	return src_read(db, (struct ns_src){ .view = view }, ino, off, out, len);
}

int src_seek(struct ns_src src, uint64_t ino, uint64_t off, int whence, uint64_t *out)
{
	struct held_row held = { 0 };
	uint64_t at = off, start = 0, end = 0;
	int got;

	got = src_row(src, ino, &held);
	if (got)
		return got;
	if (off >= held.row.size) {
		got = -ENXIO;
	} else if (held.row.inlined) {
		*out = whence == SEEK_DATA ? off : held.row.size;
	} else if (whence == SEEK_DATA) {
		got = src_next_data(src, ino, held.row.size, off, &start, &end);
		if (got > 0)
			*out = start;
		got = got > 0 ? 0 : got ? got : -ENXIO;
	} else {
		while ((got = src_next_data(src, ino, held.row.size, at, &start, &end)) > 0 && start == at)
			at = end;
		if (got >= 0) {
			*out = at < held.row.size ? at : held.row.size;
			got = 0;
		}
	}
	held_row_release(&held);
	return got;
}

int ns_at_seek(struct mvcc_view *view, uint64_t ino, uint64_t off, int whence, uint64_t *out)
{
	return src_seek((struct ns_src){ .view = view }, ino, off, whence, out);
}

int src_readlink(struct ns_src src, uint64_t ino, struct buf *out)
{
	struct held_row held = { 0 };
	int err = src_row(src, ino, &held);

	if (!err && !S_ISLNK(held.row.mode))
		err = -EINVAL;
	if (!err && held.row.inlined)
		err = buf_copy(out, held.row.content);
	held_row_release(&held);
	return err;
}

int ns_at_readlink(struct mvcc_view *view, uint64_t ino, struct buf *out)
{
	return src_readlink((struct ns_src){ .view = view }, ino, out);
}

int src_getxattr(struct ns_src src, uint64_t ino, const char *name, struct buf *out)
{
	struct mvcc_item item = { 0 };
	struct buf key = { 0 };
	int err;

	err = row_xattr_key(&key, ino, slice_str(name));
	if (!err)
		err = src_get(src, slice_buf(&key), &item);
	if (!err)
		err = buf_copy(out, item.value);
	mvcc_item_release(&item);
	buf_release(&key);
	return err == -ENOENT ? -ENODATA : err;
}

int src_listxattr(struct ns_src src, uint64_t ino, struct buf *out)
{
	struct buf start = { 0 }, end = { 0 };
	const struct mvcc_item *item;
	struct mvcc_cursor *c = NULL;
	struct row_key k;
	struct slice key;
	int err;

	buf_clear(out);
	err = row_bounds(ROW_XATTR, ino, &start, &end);
	if (!err)
		err = src_cursor(src, slice_buf(&start), slice_buf(&end), &c);
	while (!err && (err = mvcc_cursor_next(c, &key, &item)) > 0) {
		err = row_key_decode(key, &k);
		if (!err)
			err = buf_put_slice(out, k.tail);
		if (!err)
			err = buf_put_u8(out, 0);
	}
	mvcc_cursor_close(c);
	buf_release(&start);
	buf_release(&end);
	return err;
}

int ns_at_getxattr(struct mvcc_view *view, uint64_t ino, const char *name, struct buf *out)
{
	return src_getxattr((struct ns_src){ .view = view }, ino, name, out);
}

int ns_at_listxattr(struct mvcc_view *view, uint64_t ino, struct buf *out)
{
	return src_listxattr((struct ns_src){ .view = view }, ino, out);
}

/*
 * A directory being read merges two sorted runs of names: the view's and the pending ones. A name
 * that is in both was committed between the taking of the two, and is shown once. Every
 * ANCHOR_EVERY-th position is remembered by its name, so that a far seek walks a short way.
 */
enum { ANCHOR_EVERY = 256 };

struct ns_dir {
	struct mvcc_view *view;
	bool own_view;
	uint64_t dir;
	struct mvcc_cursor *cursor;
	bool row_ready; /* row_* hold the cursor's row, not yet given out */
	struct slice row_name;
	uint64_t row_ino;
	uint8_t row_type;
	struct ns_pending_name *pending;
	size_t npending, next_pending;
	uint64_t pos; /* of the entry `last`; UINT64_MAX before the first */
	bool at_end;
	struct ns_dirent last;
	bool last_is_row; /* the cursor must move on before the next entry */
	struct buf name;  /* owns last.name */
	char **anchors;   /* name at position i * ANCHOR_EVERY */
	uint8_t *anchor_lens;
	size_t nanchors, anchors_cap;
};

static int dir_cursor(struct ns_dir *d, struct slice from)
{
	struct buf start = { 0 }, end = { 0 };
	int err;

	mvcc_cursor_close(d->cursor);
	d->cursor = NULL;
	d->row_ready = false;
	d->last_is_row = false;
	d->at_end = !d->view;
	if (d->at_end)
		return 0;
	err = row_bounds(ROW_DIRENT, d->dir, &start, &end);
	if (!err)
		err = buf_put_slice(&start, from);
	if (!err)
		err = mvcc_cursor_open(d->view, slice_buf(&start), slice_buf(&end), &d->cursor);
	buf_release(&start);
	buf_release(&end);
	return err;
}

/* Goes to the remembered position at or before `pos`. */
static int dir_restart(struct ns_dir *d, uint64_t pos)
{
	uint64_t i = pos / ANCHOR_EVERY;
	struct slice from = { 0 };

	if (i >= d->nanchors)
		i = d->nanchors ? d->nanchors - 1 : 0;
	if (d->nanchors)
		from = slice_of(d->anchors[i], d->anchor_lens[i]);
	d->next_pending = 0;
	while (d->next_pending < d->npending &&
	       slice_cmp(slice_of(d->pending[d->next_pending].name, d->pending[d->next_pending].len), from) <
		       0)
		d->next_pending++;
	d->pos = d->nanchors && i ? i * ANCHOR_EVERY - 1 : UINT64_MAX;
	return dir_cursor(d, from);
}

static int dir_anchor(struct ns_dir *d, struct slice name)
{
	char *copy;

	if (d->nanchors == d->anchors_cap) {
		size_t cap = d->anchors_cap ? 2 * d->anchors_cap : 16;
		char **names = realloc(d->anchors, cap * sizeof(*names));
		uint8_t *lens;

		if (!names)
			return -ENOMEM;
		d->anchors = names;
		lens = realloc(d->anchor_lens, cap);
		if (!lens)
			return -ENOMEM;
		d->anchor_lens = lens;
		d->anchors_cap = cap;
	}
	copy = malloc(name.len + 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, name.data, name.len);
	d->anchors[d->nanchors] = copy;
	d->anchor_lens[d->nanchors++] = (uint8_t)name.len;
	return 0;
}

static int dir_row(struct ns_dir *d)
{
	const struct mvcc_item *item;
	struct row_key k;
	struct slice key;
	int got;

	if (d->row_ready || d->at_end)
		return 0;
	got = mvcc_cursor_next(d->cursor, &key, &item);
	if (got < 0)
		return got;
	if (got == 0) {
		d->at_end = true;
		return 0;
	}
	got = row_key_decode(key, &k);
	if (!got)
		got = row_dirent_decode(item->value, &d->row_ino, &d->row_type);
	d->row_name = k.tail;
	d->row_ready = !got;
	return got;
}

/* A new cursor, right behind the last entry: no name has a NUL, so name NUL is the next possible key. */
static int dir_resume(struct ns_dir *d)
{
	int err;

	if (d->pos == UINT64_MAX)
		return dir_cursor(d, slice_of(NULL, 0));
	err = buf_put_u8(&d->name, 0);
	if (err)
		return err;
	err = dir_cursor(d, slice_buf(&d->name));
	d->name.len--;
	d->last.name = slice_buf(&d->name);
	return err;
}

/* The next entry into `last`: 1, 0 at the end, or negative. */
static int dir_step(struct ns_dir *d)
{
	struct ns_pending_name *p;
	int order, err;

	if (d->last_is_row) {
		d->row_ready = false;
		d->last_is_row = false;
	}
	if (!d->cursor && !d->at_end) {
		err = dir_resume(d);
		if (err)
			return err;
	}
	err = dir_row(d);
	if (err)
		return err;
	p = d->next_pending < d->npending ? &d->pending[d->next_pending] : NULL;
	if (!d->row_ready && !p)
		return 0;
	order = !p ? -1 : !d->row_ready ? 1 : slice_cmp(d->row_name, slice_of(p->name, p->len));
	if (order >= 0)
		d->next_pending++;
	err = buf_copy(&d->name, order <= 0 ? d->row_name : slice_of(p->name, p->len));
	if (err)
		return err;
	d->last_is_row = order <= 0;
	d->last.name = slice_buf(&d->name);
	d->last.ino = order <= 0 ? d->row_ino : p->ino;
	d->last.type = order <= 0 ? d->row_type : p->type;
	d->pos++;
	if (d->pos % ANCHOR_EVERY == 0 && d->pos / ANCHOR_EVERY == d->nanchors)
		err = dir_anchor(d, d->last.name);
	return err ? err : 1;
}

int ns_dir_read(struct ns_dir *d, uint64_t pos, struct ns_dirent *out)
{
	int got = 1;

	if (d->pos == UINT64_MAX ? false : pos < d->pos)
		got = dir_restart(d, pos);
	else if (d->pos != UINT64_MAX && pos > d->pos + 2 * ANCHOR_EVERY)
		got = dir_restart(d, pos);
	if (got < 0)
		return got;
	got = 1;
	while (got > 0 && (d->pos == UINT64_MAX || d->pos < pos))
		got = dir_step(d);
	if (got > 0)
		*out = d->last;
	return got;
}

void ns_dir_pause(struct ns_dir *d)
{
	mvcc_cursor_close(d->cursor);
	d->cursor = NULL;
	d->row_ready = false;
	d->last_is_row = false;
}

int ns_dir_open(struct mvcc_view *view, bool own_view, uint64_t dir, struct ns_pending_name *pending,
		size_t npending, struct ns_dir **out)
{
	struct ns_dir *d = calloc(1, sizeof(*d));

	if (!d) {
		for (size_t i = 0; i < npending; i++)
			free(pending[i].name);
		free(pending);
		if (own_view)
			mvcc_view_close(view);
		return -ENOMEM;
	}
	d->view = view;
	d->own_view = own_view;
	d->dir = dir;
	d->pending = pending;
	d->npending = npending;
	d->pos = UINT64_MAX;
	*out = d;
	return 0;
}

int ns_at_opendir(struct mvcc_view *view, uint64_t dir, struct ns_dir **out)
{
	struct ns_attr attr;
	int err = ns_at_getattr(view, dir, &attr);

	if (!err && !S_ISDIR(attr.mode))
		err = -ENOTDIR;
	return err ? err : ns_dir_open(view, false, dir, NULL, 0, out);
}

void ns_dir_close(struct ns_dir *d)
{
	if (!d)
		return;
	mvcc_cursor_close(d->cursor);
	if (d->own_view)
		mvcc_view_close(d->view);
	for (size_t i = 0; i < d->npending; i++)
		free(d->pending[i].name);
	free(d->pending);
	for (size_t i = 0; i < d->nanchors; i++)
		free(d->anchors[i]);
	free(d->anchors);
	free(d->anchor_lens);
	buf_release(&d->name);
	free(d);
}
