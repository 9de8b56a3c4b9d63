#include "fs/ns_row.h"

#include <errno.h>

/* Bits of the inode row's flags byte. Others are of a later format. */
enum { INODE_INLINED = 1 };

static int put_key_int(struct buf *out, uint64_t v)
{
	uint8_t raw[8];
	unsigned skip = 0;
	int err;

	put_be64(raw, v);
	while (skip < 8 && raw[skip] == 0)
		skip++;
	err = buf_put_u8(out, (uint8_t)(8 - skip));
	return err ? err : buf_put(out, raw + skip, 8 - skip);
}

static bool take_key_int(struct slice *s, uint64_t *out)
{
	struct slice digits;
	uint64_t v = 0;
	uint8_t n;

	if (!take_u8(s, &n) || n > 8 || !take(s, n, &digits) || (n && digits.data[0] == 0))
		return false;
	for (unsigned i = 0; i < n; i++)
		v = v << 8 | digits.data[i];
	*out = v;
	return true;
}

static int key_begin(struct buf *out, uint8_t kind, uint64_t ino)
{
	int err;

	buf_clear(out);
	err = buf_put_u8(out, kind);
	return err ? err : put_key_int(out, ino);
}

int row_inode_key(struct buf *out, uint64_t ino)
{
	return key_begin(out, ROW_INODE, ino);
}

int row_dirent_key(struct buf *out, uint64_t dir, struct slice name)
{
	int err = key_begin(out, ROW_DIRENT, dir);

	return err ? err : buf_put_slice(out, name);
}

int row_link_key(struct buf *out, uint64_t ino, uint64_t dir, struct slice name)
{
	int err = key_begin(out, ROW_LINK, ino);

	if (!err)
		err = put_key_int(out, dir);
	return err ? err : buf_put_slice(out, name);
}

int row_extent_key(struct buf *out, uint64_t ino, uint64_t start)
{
	int err = key_begin(out, ROW_EXTENT, ino);

	return err ? err : put_key_int(out, start);
}

int row_xattr_key(struct buf *out, uint64_t ino, struct slice name)
{
	int err = key_begin(out, ROW_XATTR, ino);

	return err ? err : buf_put_slice(out, name);
}

int row_bounds(uint8_t kind, uint64_t ino, struct buf *start, struct buf *end)
{
	int err = key_begin(start, kind, ino);

	return err ? err : buf_prefix_end(end, slice_buf(start));
}

int row_key_decode(struct slice key, struct row_key *out)
{
	struct row_key k = { 0 };

	if (!take_u8(&key, &k.kind) || !take_key_int(&key, &k.ino))
		return MVCC_ECORRUPT;
	switch (k.kind) {
	case ROW_INODE:
		break;
	case ROW_LINK:
		if (!take_key_int(&key, &k.dir))
			return MVCC_ECORRUPT;
		k.tail = key;
		key.len = 0;
		break;
	case ROW_DIRENT:
	case ROW_XATTR:
		k.tail = key;
		key.len = 0;
		break;
	case ROW_EXTENT:
		if (!take_key_int(&key, &k.start))
			return MVCC_ECORRUPT;
		break;
	default:
		return MVCC_ECORRUPT;
	}
	if (key.len)
		return MVCC_ECORRUPT;
	*out = k;
	return 0;
}

int row_inode_encode(struct buf *out, const struct row_inode *row)
{
	const uint64_t ints[] = {
		row->mode, row->uid, row->gid, row->rdev, row->nlink, row->size, row->alloc
	};
	const int64_t times[] = { row->atime_ns, row->mtime_ns, row->ctime_ns, row->btime_ns };
	int err;

	buf_clear(out);
	err = buf_put_u8(out, row->inlined ? INODE_INLINED : 0);
	for (unsigned i = 0; !err && i < sizeof(ints) / sizeof(ints[0]); i++)
		err = buf_put_varint(out, ints[i]);
	for (unsigned i = 0; !err && i < sizeof(times) / sizeof(times[0]); i++)
		err = buf_put_le64(out, (uint64_t)times[i]);
	if (!err)
		err = buf_put_varint(out, row->parent);
	if (!err)
		err = buf_put_bytes(out, row->name);
	return err ? err : buf_put_slice(out, row->content);
}

int row_inode_decode(struct slice value, struct row_inode *out)
{
	uint64_t mode, uid, gid, times[4];
	struct row_inode row = { 0 };
	uint8_t flags;

	if (!take_u8(&value, &flags) || flags > INODE_INLINED || !take_varint(&value, &mode) ||
	    !take_varint(&value, &uid) || !take_varint(&value, &gid) || !take_varint(&value, &row.rdev) ||
	    !take_varint(&value, &row.nlink) || !take_varint(&value, &row.size) ||
	    !take_varint(&value, &row.alloc))
		return MVCC_ECORRUPT;
	for (unsigned i = 0; i < 4; i++)
		if (!take_le64(&value, &times[i]))
			return MVCC_ECORRUPT;
	if (!take_varint(&value, &row.parent) || !take_bytes(&value, &row.name) || mode > UINT32_MAX ||
	    uid > UINT32_MAX || gid > UINT32_MAX || row.name.len > NS_NAME_MAX || row.size > NS_SIZE_MAX)
		return MVCC_ECORRUPT;
	row.inlined = flags & INODE_INLINED;
	row.mode = (uint32_t)mode;
	row.uid = (uint32_t)uid;
	row.gid = (uint32_t)gid;
	row.atime_ns = (int64_t)times[0];
	row.mtime_ns = (int64_t)times[1];
	row.ctime_ns = (int64_t)times[2];
	row.btime_ns = (int64_t)times[3];
	row.content = value;
	if (row.inlined ? row.content.len != row.size : row.content.len != 0)
		return MVCC_ECORRUPT;
	*out = row;
	return 0;
}

int row_dirent_encode(struct buf *out, uint64_t ino, uint8_t type)
{
	int err;

	buf_clear(out);
	err = buf_put_u8(out, type);
	return err ? err : buf_put_varint(out, ino);
}

int row_dirent_decode(struct slice value, uint64_t *ino, uint8_t *type)
{
	uint64_t number;
	uint8_t t;

	if (!take_u8(&value, &t) || t > 15 || !take_varint(&value, &number) || value.len)
		return MVCC_ECORRUPT;
	*ino = number;
	*type = t;
	return 0;
}

int row_extent_encode(struct buf *out, const struct row_extent *ext)
{
	int err;

	buf_clear(out);
	err = buf_put_varint(out, ext->off);
	return err ? err : buf_put_varint(out, ext->len);
}

int row_extent_decode(const struct mvcc_item *item, struct row_extent *out)
{
	struct slice value = item->value;
	struct row_extent ext;

	if (item->nblobs != 1 || !take_varint(&value, &ext.off) || !take_varint(&value, &ext.len) ||
	    value.len || ext.len == 0 || ext.len > NS_EXTENT_MAX || ext.off > MVCC_BLOB_MAX)
		return MVCC_ECORRUPT;
	ext.blob = item->blobs[0];
	*out = ext;
	return 0;
}
