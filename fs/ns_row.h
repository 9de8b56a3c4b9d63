/*
 * The rows a filesystem is made of: keys and values, to bytes and back. fs/FORMAT.md has every byte.
 *
 * Integers in keys are a length byte and the significant bytes, big-endian, so that the order of keys
 * is the order of numbers. Decoders trust nothing and return MVCC_ECORRUPT for what does not fit.
 */
#ifndef FS_NS_ROW_H
#define FS_NS_ROW_H

#include "fs/ns.h"

/* First byte of a key. */
enum {
	ROW_DIRENT = 'D', /* dir, name -> ino, type */
	ROW_EXTENT = 'E', /* ino, start -> where the bytes are */
	ROW_INODE = 'I',  /* ino -> struct row_inode */
	ROW_LINK = 'L',   /* ino, dir, name -> nothing: a further hard link */
	ROW_XATTR = 'X',  /* ino, name -> value */
};

/* The value of an inode's row. */
struct row_inode {
	uint32_t mode, uid, gid;
	uint64_t rdev, nlink, size, alloc;
	int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
	bool inlined;         /* the whole content is in `content`, not in extents */
	uint64_t parent;      /* directory of the first link; the root's is the root */
	struct slice name;    /* name of the first link; empty for the root. Borrowed */
	struct slice content; /* of a small file, or the target of a symlink. Borrowed */
	mvcc_lease_t lease;   /* of the record, not in its value: whoever reads the record sets it */
};

struct row_extent {
	mvcc_blob_t blob;
	uint64_t off; /* in the blob, of the first byte */
	uint64_t len;
};

/* Keys, replacing what `out` holds. 0 or -ENOMEM. */
int row_inode_key(struct buf *out, uint64_t ino);
int row_dirent_key(struct buf *out, uint64_t dir, struct slice name);
int row_link_key(struct buf *out, uint64_t ino, uint64_t dir, struct slice name);
int row_extent_key(struct buf *out, uint64_t ino, uint64_t start);
int row_xattr_key(struct buf *out, uint64_t ino, struct slice name);

/* The bounds of all rows of one kind and inode (dirents: of one directory): start <= key < end. */
int row_bounds(uint8_t kind, uint64_t ino, struct buf *start, struct buf *end);

/* What a key names. `tail` (name) is borrowed from the key; for links `dir` and `tail` are set. */
struct row_key {
	uint8_t kind;
	uint64_t ino;   /* D: the directory */
	uint64_t dir;   /* L */
	uint64_t start; /* E */
	struct slice tail;
};
int row_key_decode(struct slice key, struct row_key *out);

int row_inode_encode(struct buf *out, const struct row_inode *row);
int row_inode_decode(struct slice value, struct row_inode *out);
int row_dirent_encode(struct buf *out, uint64_t ino, uint8_t type);
int row_dirent_decode(struct slice value, uint64_t *ino, uint8_t *type);
int row_extent_encode(struct buf *out, const struct row_extent *ext);

/* Blob and record go together: the record's list of blobs holds the one the value means. */
int row_extent_decode(const struct mvcc_item *item, struct row_extent *out);

#endif
