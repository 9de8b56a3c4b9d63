/*
 * What the kernel was told stays true until the kernel itself changes it. A revision made from the side (undo, a
 * transaction's commit, the end of a lease) breaks that: here the kernel is made to forget what such a revision
 * changed. The log says what that is: a dirent's row is a name of a directory, every other row belongs to an inode,
 * whose attributes and pages go.
 */
#include "fs/fuse_int.h"

#include <errno.h>
#include <string.h>

#include "fs/ns_row.h"

/* Forgets `name` in directory `dir`, also that it is absent. */
static void forget_name(struct mount *m, uint64_t dir, struct slice name)
{
	struct node *node = node_hold(&m->nodes, NODE_LIVE, dir);
	char text[NS_NAME_MAX + 1];

	if (!node)
		return;
	memcpy(text, name.data, name.len);
	text[name.len] = '\0';
	fuse_lowlevel_notify_inval_entry(m->session, id_of(m, node), text, name.len);
	node_release(&m->nodes, node);
}

static void forget_inode(struct mount *m, uint64_t ino)
{
	struct node *node = node_hold(&m->nodes, NODE_LIVE, ino);

	if (!node)
		return;
	fuse_lowlevel_notify_inval_inode(m->session, id_of(m, node), 0, 0);
	node_release(&m->nodes, node);
}

static int forget_change(struct mount *m, mvcc_rev_t rev, const struct mvcc_change *change)
{
	struct row_key key;
	int err = row_key_decode(change->key, &key);

	if (err)
		return err;
	if (key.kind == ROW_DIRENT) {
		forget_name(m, key.ino, key.tail);
		return 0;
	}
	if (key.kind != ROW_INODE)
		return 0; /* what changes another row of an inode changes its own, too */
	if (change->deleted)
		node_set_gone(&m->nodes, (struct ns_gone){ key.ino, rev });
	forget_inode(m, key.ino);
	return 0;
}

void notify_changed(struct mount *m, mvcc_rev_t rev)
{
	const struct mvcc_entry *entry;
	struct mvcc_change change;
	struct mvcc_log *log;
	int got = mvcc_log_open(m->db, rev, rev, &log);

	if (got)
		return; /* the store has stopped, and so has the mount */
	got = mvcc_log_next(log, &entry);
	while (got > 0) {
		got = mvcc_log_change(log, &change);
		if (got > 0 && forget_change(m, rev, &change))
			break;
	}
	mvcc_log_close(log);
}
