/*
 * File content inside a transaction: extents are cut, split and placed so that no two overlap, each
 * lies within one step of the NS_EXTENT_MAX grid, and holes have no row.
 */
#include "fs/ns_int.h"

#include <errno.h>
#include <stdlib.h>

/* Rows are collected before they are changed, as a cursor does not promise to see later writes. */
enum { BATCH = 256 };

struct extent_at {
	uint64_t start;
	struct row_extent ext;
};

static int put_extent(struct mvcc_txn *txn, uint64_t ino, uint64_t start, const struct row_extent *ext,
		      mvcc_lease_t lease)
{
	struct mvcc_put put = { .blobs = &ext->blob, .nblobs = 1, .lease = lease };
	struct buf key = { 0 }, value = { 0 };
	int err;

	err = row_extent_key(&key, ino, start);
	if (!err)
		err = row_extent_encode(&value, ext);
	put.key = slice_buf(&key);
	put.value = slice_buf(&value);
	if (!err)
		err = mvcc_txn_put_with(txn, &put);
	buf_release(&key);
	buf_release(&value);
	return err;
}

static int del_extent(struct mvcc_txn *txn, uint64_t ino, uint64_t start)
{
	struct buf key = { 0 };
	int err = row_extent_key(&key, ino, start);

	if (!err)
		err = mvcc_txn_del(txn, slice_buf(&key));
	buf_release(&key);
	return err;
}

/* Up to BATCH extents that overlap [from, to): how many, or negative. */
static int collect(struct mvcc_txn *txn, uint64_t ino, uint64_t from, uint64_t to, struct extent_at *out)
{
	struct buf start = { 0 }, end = { 0 }, none = { 0 };
	struct mvcc_cursor *c = NULL;
	const struct mvcc_item *item;
	struct row_key k = { 0 };
	struct slice key;
	int n = 0, err;

	err = row_extent_key(&start, ino, from < NS_EXTENT_MAX ? 0 : from - NS_EXTENT_MAX + 1);
	if (!err)
		err = to < NS_SIZE_MAX ? row_extent_key(&end, ino, to) :
					 row_bounds(ROW_EXTENT, ino, &none, &end);
	if (!err)
		err = mvcc_txn_peek_cursor_open(txn, slice_buf(&start), slice_buf(&end), &c);
	while (!err && n < BATCH && (err = mvcc_cursor_next(c, &key, &item)) > 0) {
		err = row_key_decode(key, &k);
		if (!err)
			err = row_extent_decode(item, &out[n].ext);
		out[n].start = k.start;
		if (!err && k.start + out[n].ext.len > from)
			n++;
	}
	mvcc_cursor_close(c);
	buf_release(&start);
	buf_release(&end);
	buf_release(&none);
	return err ? err : n;
}

/* Takes [from, to) out of one extent: what is left are a head, a tail, both or nothing. */
static int cut_one(struct mvcc_txn *txn, uint64_t ino, const struct extent_at *at, uint64_t from, uint64_t to,
		   struct row_inode *row)
{
	uint64_t end = at->start + at->ext.len;
	uint64_t removed = (to < end ? to : end) - (from > at->start ? from : at->start);
	struct row_extent part = at->ext;
	int err = 0;

	if (end > to) {
		part.off = at->ext.off + (to - at->start);
		part.len = end - to;
		err = put_extent(txn, ino, to, &part, row->lease);
	}
	if (!err && at->start < from) {
		part.off = at->ext.off;
		part.len = from - at->start;
		err = put_extent(txn, ino, at->start, &part, row->lease);
	} else if (!err) {
		err = del_extent(txn, ino, at->start);
	}
	row->alloc -= removed < row->alloc ? removed : row->alloc;
	return err;
}

int content_cut(struct mvcc_txn *txn, uint64_t ino, uint64_t from, uint64_t to, struct row_inode *row)
{
	struct extent_at *at = calloc(BATCH, sizeof(*at));
	int n = BATCH, err = 0;

	if (!at)
		return -ENOMEM;
	while (!err && n == BATCH && from < to) {
		n = collect(txn, ino, from, to, at);
		if (n < 0)
			err = n;
		for (int i = 0; !err && i < n; i++)
			err = cut_one(txn, ino, &at[i], from, to, row);
		if (n > 0)
			from = at[n - 1].start + at[n - 1].ext.len;
	}
	free(at);
	return err;
}

int content_place(struct mvcc_txn *txn, uint64_t ino, uint64_t off, struct slice bytes, bool fresh,
		  struct row_inode *row)
{
	struct row_extent ext = { .len = bytes.len };
	int err = 0;

	if (!fresh)
		err = content_cut(txn, ino, off, off + bytes.len, row);
	if (!err)
		err = mvcc_txn_stage_blob(txn, bytes, &ext.blob);
	if (!err)
		err = put_extent(txn, ino, off, &ext, row->lease);
	if (!err)
		row->alloc += bytes.len;
	return err;
}

/* One extent of another file, cut to [from, from + len), as extents of this one: they keep to its grid. */
static int share_one(struct mvcc_txn *txn, const struct extent_at *at, uint64_t from, uint64_t ino,
		     uint64_t to, uint64_t len, struct row_inode *row)
{
	uint64_t pos = at->start > from ? at->start : from;
	uint64_t end = at->start + at->ext.len < from + len ? at->start + at->ext.len : from + len;
	int err = 0;

	while (!err && pos < end) {
		uint64_t place = to + (pos - from), room = NS_EXTENT_MAX - place % NS_EXTENT_MAX;
		struct row_extent part = {
			.blob = at->ext.blob,
			.off = at->ext.off + (pos - at->start),
			.len = end - pos < room ? end - pos : room,
		};

		err = put_extent(txn, ino, place, &part, row->lease);
		if (!err)
			row->alloc += part.len;
		pos += part.len;
	}
	return err;
}

int content_share(struct mvcc_txn *txn, struct ns_src src, uint64_t from_ino, uint64_t from, uint64_t ino,
		  uint64_t to, uint64_t len, struct row_inode *row)
{
	struct buf start = { 0 }, end = { 0 };
	const struct mvcc_item *item;
	struct mvcc_cursor *c = NULL;
	struct extent_at at = { 0 };
	struct row_key k = { 0 };
	struct slice key;
	int err;

	err = row_extent_key(&start, from_ino, from < NS_EXTENT_MAX ? 0 : from - NS_EXTENT_MAX + 1);
	if (!err)
		err = row_extent_key(&end, from_ino, from + len);
	if (!err)
		err = src_cursor(src, slice_buf(&start), slice_buf(&end), &c);
	while (!err && (err = mvcc_cursor_next(c, &key, &item)) > 0) {
		err = row_key_decode(key, &k);
		if (!err)
			err = row_extent_decode(item, &at.ext);
		at.start = k.start;
		if (!err)
			err = share_one(txn, &at, from, ino, to, len, row);
	}
	mvcc_cursor_close(c);
	buf_release(&start);
	buf_release(&end);
	return err;
}

int content_resize(struct mvcc_txn *txn, uint64_t ino, struct row_inode *row, struct buf *content,
		   uint64_t size)
{
	static const uint8_t zeros[NS_INLINE_MAX];
	int err = 0;

	if (row->inlined && size <= NS_INLINE_MAX) {
		if (size > content->len)
			err = buf_put(content, zeros, (size_t)size - content->len);
		content->len = err ? content->len : (size_t)size;
	} else if (row->inlined) {
		row->inlined = false;
		row->alloc = 0;
		if (content->len)
			err = content_place(txn, ino, 0, slice_buf(content), true, row);
		buf_clear(content);
	} else if (size < row->size) {
		err = content_cut(txn, ino, size, NS_SIZE_MAX, row);
		row->inlined = size == 0;
	}
	row->content = slice_buf(content);
	row->size = size;
	return err;
}

int content_drop_rows(struct mvcc_txn *txn, uint8_t kind, uint64_t ino)
{
	struct buf start = { 0 }, end = { 0 }, keys = { 0 };
	struct mvcc_cursor *c = NULL;
	const struct mvcc_item *item;
	struct slice key, rest;
	int n = BATCH, err;

	err = row_bounds(kind, ino, &start, &end);
	while (!err && n == BATCH) {
		buf_clear(&keys);
		n = 0;
		err = mvcc_txn_peek_cursor_open(txn, slice_buf(&start), slice_buf(&end), &c);
		while (!err && n < BATCH && (err = mvcc_cursor_next(c, &key, &item)) > 0) {
			err = buf_put_bytes(&keys, key);
			n++;
		}
		mvcc_cursor_close(c);
		c = NULL;
		rest = slice_buf(&keys);
		while (!err && take_bytes(&rest, &key)) {
			err = mvcc_txn_del(txn, key);
			if (!err && rest.len == 0)
				err = buf_copy(&start, key); /* go on from here: it is deleted already */
		}
	}
	buf_release(&start);
	buf_release(&end);
	buf_release(&keys);
	return err;
}
