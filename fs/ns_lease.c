/*
 * Files with a time to live. A lease deletes the keys that are attached to it in one revision; so a file that is to
 * end has all of its rows attached: the inode, each of its names, its extents and xattrs. Whatever is put for that
 * file later is attached, too (row_inode.lease).
 */
#include "fs/ns_int.h"

#include "mvcc/lease.h"

#include <errno.h>

/* Rows are collected before they are put, as a cursor does not promise to see later writes. */
enum { BATCH = 256 };

struct attach {
	uint64_t ino;
	mvcc_lease_t lease;
};

static int put_again(struct mvcc_txn *txn, struct slice key, mvcc_lease_t lease)
{
	const struct mvcc_put put = { .key = key, .lease = lease, .flags = MVCC_PUT_KEEP_VALUE };

	return mvcc_txn_put_with(txn, &put);
}

/* One row; for that of a further link, the entry it stands for, as well. */
static int attach_key(struct mvcc_txn *txn, struct slice key, mvcc_lease_t lease)
{
	struct buf dirent = { 0 };
	struct row_key k;
	int err = row_key_decode(key, &k);

	if (!err)
		err = put_again(txn, key, lease);
	if (!err && k.kind == ROW_LINK) {
		err = row_dirent_key(&dirent, k.dir, k.tail);
		if (!err)
			err = put_again(txn, slice_buf(&dirent), lease);
	}
	buf_release(&dirent);
	return err;
}

/* Up to BATCH keys of start <= key < end into `keys`; how many, or negative. */
static int collect(struct mvcc_txn *txn, const struct buf *start, const struct buf *end, struct buf *keys)
{
	const struct mvcc_item *item;
	struct mvcc_cursor *c = NULL;
	struct slice key;
	int n = 0, err;

	buf_clear(keys);
	err = mvcc_txn_cursor_open(txn, slice_buf(start), slice_buf(end), &c);
	while (!err && n < BATCH && (err = mvcc_cursor_next(c, &key, &item)) > 0) {
		err = buf_put_bytes(keys, key);
		n++;
	}
	mvcc_cursor_close(c);
	return err < 0 ? err : n;
}

static int attach_rows(struct mvcc_txn *txn, uint8_t kind, const struct attach *a)
{
	struct buf start = { 0 }, end = { 0 }, keys = { 0 };
	struct slice rest, key;
	int n = BATCH, err;

	err = row_bounds(kind, a->ino, &start, &end);
	while (!err && n == BATCH) {
		n = collect(txn, &start, &end, &keys);
		err = n < 0 ? n : 0;
		rest = slice_buf(&keys);
		while (!err && take_bytes(&rest, &key)) {
			err = attach_key(txn, key, a->lease);
			if (!err && !rest.len)
				err = buf_copy(&start, key);
		}
		if (!err)
			err = buf_put_u8(&start, 0); /* right behind the last one */
	}
	buf_release(&start);
	buf_release(&end);
	buf_release(&keys);
	return err;
}

static int attach_body(struct change *c, struct mvcc_txn *txn, void *arg)
{
	static const uint8_t kinds[] = { ROW_LINK, ROW_EXTENT, ROW_XATTR };
	const struct attach *a = arg;
	struct held_row held = { 0 };
	int err = src_row((struct ns_src){ .txn = txn, .validate = true }, a->ino, &held);

	if (!err && S_ISDIR(held.row.mode))
		err = -EISDIR;
	if (err || held.row.lease == a->lease)
		goto out;
	held.row.lease = a->lease;
	held.row.ctime_ns = c->now;
	err = put_row(txn, a->ino, &held.row);
	if (!err)
		err = put_dirent(txn, held.row.parent, held.row.name, a->ino, NS_TYPE_OF(held.row.mode),
				 a->lease);
	for (size_t i = 0; !err && i < sizeof(kinds); i++)
		err = attach_rows(txn, kinds[i], a);
out:
	held_row_release(&held);
	return err;
}

int ns_set_lease(struct ns *ns, const struct ns_who *who, uint64_t ino, mvcc_lease_t lease, mvcc_rev_t *rev)
{
	struct change c = { .ns = ns, .who = who, .op = "lease" };
	struct attach a = { ino, lease };
	struct ns_inode *n = inode_find(ns, ino);
	struct lock_set locks;
	int err = 0;

	lock_set(ns, &locks, &ino, 1);
	/* What is open and dirty goes first: the rows it will put later are then attached, as they are loaded anew. */
	if (n && n->gone.rev)
		err = -ENOENT;
	else if (n)
		err = inode_commit_locked(n, NULL);
	if (!err)
		err = ns->live ? 0 : ns_path(ns, ino, &c.path);
	if (!err)
		err = change_run(&c, attach_body, &a);
	else
		buf_release(&c.path);
	if (!err && rev)
		*rev = c.rev;
	unlock_set(ns, &locks);
	if (n)
		inode_put(n);
	return err;
}

/* The lease that the row of `ino` has now; 0: none. */
static int lease_of(struct ns *ns, uint64_t ino, mvcc_lease_t *out)
{
	struct held_row held = { 0 };
	struct ns_src src;
	int err = ns_source(ns, &src);

	if (err)
		return err;
	err = src_row(src, ino, &held);
	if (!err)
		*out = held.row.lease;
	held_row_release(&held);
	mvcc_view_close(src.view);
	return err;
}

int ns_get_lease(struct ns *ns, uint64_t ino, struct mvcc_lease *out)
{
	mvcc_lease_t id = 0;
	int err = lease_of(ns, ino, &id);

	if (err)
		return err;
	return id && mvcc_lease_get(ns->db, id, out) == 0 ? 0 : -ENODATA;
}

int ns_set_ttl(struct ns *ns, const struct ns_who *who, uint64_t ino, uint64_t ttl_s)
{
	const struct mvcc_story none = { .op = "lease" };
	struct mvcc_lease old;
	mvcc_lease_t lease;
	int err;

	if (ttl_s == 0)
		return ns_set_lease(ns, who, ino, 0, NULL);
	if (ttl_s > MVCC_LEASE_TTL_MAX)
		return -EINVAL;
	/* The same time again is a renewal, and no revision. */
	if (ns_get_lease(ns, ino, &old) == 0 && old.ttl_ms == ttl_s * 1000)
		return mvcc_lease_renew(ns->db, old.id, NULL);
	err = mvcc_lease_grant(ns->db, 0, ttl_s * 1000, &lease);
	if (err)
		return err;
	err = ns_set_lease(ns, who, ino, lease, NULL);
	if (err)
		mvcc_lease_revoke(ns->db, lease, &none, NULL); /* or it ends by itself */
	return err;
}
