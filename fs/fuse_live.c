/*
 * The live tree, as nodes: what was committed last and what is being written. The trees of transactions do most in
 * the same way (tree_*()).
 */
#include "fs/fuse_int.h"

#include "fs/ns_txn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/*
 * A node whose inode is not there has lost its last name. If we have not been told so yet, the
 * rename or unlink that did it is about to return: ESTALE makes the kernel look the name up again.
 */
int tree_getattr(struct mount *m, struct node *node, struct ns_attr *attr)
{
	struct ns_gone gone;
	struct tree tree;
	int err = tree_enter(m, node, &tree);

	if (err)
		return err;
	err = ns_getattr(tree.ns, node->ino, attr);
	if (err == -ENOENT) {
		gone = node_gone(&m->nodes, node);
		err = gone.rev ? ns_gone_getattr(tree.ns, gone, attr) : -ESTALE;
	}
	tree_leave(&tree);
	return err;
}

/* `revdir=disabled` leaves nothing of the past to be seen. */
static bool is_hidden(struct mount *m, enum node_kind kind)
{
	return m->config->revdir == REVDIR_DISABLED &&
	       (kind == NODE_REVDIR || kind == NODE_HISTDIR || kind == NODE_TAGDIR);
}

static int live_lookup(struct mount *m, struct node *dir, const char *name, struct fuse_entry_param *e)
{
	enum node_kind kind;
	struct ns_attr attr;
	const char *own;
	uint64_t ino;
	int err;

	for (unsigned i = 0; (own = own_name(m, dir, i, &kind, &ino)); i++)
		if (strcmp(name, own) == 0)
			return is_hidden(m, kind) ? -ENOENT :
						    kind_entry(m, kind, ino, 0, NULL, NULL, FOREVER, e);
	if (reserved(m, dir, name))
		return -ENOENT;
	err = ns_lookup(m->ns, dir->ino, slice_str(name), &attr);
	return err ? err : tree_entry(m, dir, &attr, e);
}

/* ---- listing ----------------------------------------------------------------------------------- */

int tree_opendir(fuse_req_t req, struct node *dir, struct handle *h)
{
	struct tree tree;
	int err = tree_enter(mount_of(req), dir, &tree);

	if (err)
		return err;
	err = ns_opendir(tree.ns, dir->ino, &h->dir);
	tree_leave(&tree);
	return err;
}

void tree_listed(const struct node *dir, const struct ns_dirent *entry, struct listed *out)
{
	memcpy(out->name, entry->name.data, entry->name.len);
	out->name[entry->name.len] = '\0';
	out->type = entry->type;
	out->ino = node_stat_ino(dir->kind, entry->ino, dir->rev);
}

static int live_list(struct mount *m, struct node *dir, struct handle *h, uint64_t pos, struct listed *out)
{
	bool visible = m->config->revdir == REVDIR_VISIBLE && dir->ino == NS_ROOT;
	enum node_kind kind;
	struct ns_dirent d;
	const char *own;
	uint64_t ino;
	int got;

	for (unsigned i = 0; visible && (own = own_name(m, dir, i, &kind, &ino)); i++) {
		if (pos-- == 0) {
			snprintf(out->name, sizeof(out->name), "%s", own);
			out->ino = node_stat_ino(kind, ino, 0);
			out->type = NS_TYPE_OF(kind == NODE_CTL || kind == NODE_STATUS || kind == NODE_WATCH ?
						       S_IFREG :
						       S_IFDIR);
			return 1;
		}
	}
	got = ns_dir_read(h->dir, pos, &d);
	if (got > 0)
		tree_listed(dir, &d, out);
	return got;
}

/* ---- files ------------------------------------------------------------------------------------- */

int tree_open(fuse_req_t req, struct node *node, struct handle *h, struct fuse_file_info *fi)
{
	struct mount *m = mount_of(req);
	unsigned how = (fi->flags & O_ACCMODE) == O_RDONLY ? NS_OPEN_READ : NS_OPEN_WRITE;
	struct ns_gone gone = node_gone(&m->nodes, node);
	struct asker asker;
	const struct ns_who *who = NULL;
	struct tree tree;
	int err;

	fi->keep_cache = 1;
	fi->noflush = how == NS_OPEN_READ;
	if (fi->flags & O_TRUNC)
		how |= NS_OPEN_TRUNC;
	if (how & NS_OPEN_TRUNC)
		who = who_asks(req, &asker);
	err = tree_enter(m, node, &tree);
	if (err)
		return err;
	err = ns_file_open(tree.ns, who, node->ino, how, gone, &h->file);
	if (err == -ENOENT && !gone.rev) {
		/* It went between the two: as tree_getattr() has it. */
		gone = node_gone(&m->nodes, node);
		err = gone.rev ? ns_file_open(tree.ns, who, node->ino, how, gone, &h->file) : -ESTALE;
	}
	if (!err)
		handle_in(h, &tree);
	tree_leave(&tree);
	return err;
}

void tree_read(fuse_req_t req, struct node *node, struct handle *h, size_t size, uint64_t off)
{
	char *data = malloc(size);
	struct tree tree;
	ssize_t n = data ? file_enter(mount_of(req), h, &tree) : -ENOMEM;

	(void)node;
	if (!n) {
		n = ns_file_read(h->file, off, data, size);
		tree_leave(&tree);
	}
	if (n < 0)
		reply_err(req, (int)n);
	else
		fuse_reply_buf(req, data, (size_t)n);
	free(data);
}

int tree_seek(fuse_req_t req, struct node *node, struct handle *h, uint64_t off, int whence, uint64_t *out)
{
	struct tree tree;
	int err = file_enter(mount_of(req), h, &tree);

	(void)node;
	if (err)
		return err;
	err = ns_file_seek(h->file, off, whence, out);
	tree_leave(&tree);
	return err;
}

int tree_readlink(fuse_req_t req, struct node *node, struct buf *out)
{
	struct tree tree;
	int err = tree_enter(mount_of(req), node, &tree);

	if (err)
		return err;
	err = ns_readlink(tree.ns, node->ino, out);
	tree_leave(&tree);
	return err;
}

int tree_getxattr(fuse_req_t req, struct node *node, const char *name, struct buf *out)
{
	struct tree tree;
	int err = tree_enter(mount_of(req), node, &tree);

	if (err)
		return err;
	err = ns_getxattr(tree.ns, node->ino, name, out);
	tree_leave(&tree);
	return err;
}

int tree_listxattr(fuse_req_t req, struct node *node, struct buf *out)
{
	struct tree tree;
	int err = tree_enter(mount_of(req), node, &tree);

	if (err)
		return err;
	err = ns_listxattr(tree.ns, node->ino, out);
	tree_leave(&tree);
	return err;
}

const struct kind kind_live = {
	.getattr = tree_getattr,
	.lookup = live_lookup,
	.absent_is_kept = true,
	.opendir = tree_opendir,
	.list = live_list,
	.open = tree_open,
	.read = tree_read,
	.seek = tree_seek,
	.readlink = tree_readlink,
	.getxattr = tree_getxattr,
	.listxattr = tree_listxattr,
	.has_own_xattrs = true,
};
