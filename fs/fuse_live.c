/*
 * The live tree, as nodes: what was committed last and what is being written.
 */
#include "fs/fuse_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/*
 * A live node whose inode is not there has lost its last name. If we have not been told so yet, the
 * rename or unlink that did it is about to return: ESTALE makes the kernel look the name up again.
 */
static int live_getattr(struct mount *m, struct node *node, struct ns_attr *attr)
{
	struct ns_gone gone;
	int err = ns_getattr(m->ns, node->ino, attr);

	if (err != -ENOENT)
		return err;
	gone = node_gone(&m->nodes, node);
	return gone.rev ? ns_gone_getattr(m->ns, gone, attr) : -ESTALE;
}

static int live_lookup(struct mount *m, struct node *dir, const char *name, struct fuse_entry_param *e)
{
	struct ns_attr attr;
	int err;

	if (reserved(m, dir, name)) {
		if (strcmp(name, m->config->revname) == 0 && m->config->revdir != REVDIR_DISABLED)
			return kind_entry(m, NODE_REVDIR, dir->ino, 0, NULL, NULL, FOREVER, e);
		if (at_root(dir) && strcmp(name, "@ctl") == 0)
			return kind_entry(m, NODE_CTL, 0, 0, NULL, NULL, FOREVER, e);
		return -ENOENT;
	}
	err = ns_lookup(m->ns, dir->ino, slice_str(name), &attr);
	return err ? err : live_entry(m, &attr, e);
}

/* ---- listing ----------------------------------------------------------------------------------- */

static int live_opendir(fuse_req_t req, struct node *dir, struct handle *h)
{
	return ns_opendir(mount_of(req)->ns, dir->ino, &h->dir);
}

/* The names that `revdir=visible` lists at the root. */
static const char *visible_name(struct mount *m, const struct node *dir, uint64_t i)
{
	if (m->config->revdir != REVDIR_VISIBLE || !at_root(dir))
		return NULL;
	return i == 0 ? m->config->revname : i == 1 ? "@ctl" : NULL;
}

static int live_list(struct mount *m, struct node *dir, struct handle *h, uint64_t pos, struct listed *out)
{
	struct ns_dirent d;
	const char *name;
	int got;

	for (uint64_t i = 0; (name = visible_name(m, dir, i)); i++) {
		if (pos-- == 0) {
			snprintf(out->name, sizeof(out->name), "%s", name);
			out->ino = node_stat_ino(i == 0 ? NODE_REVDIR : NODE_CTL, i == 0 ? dir->ino : 0, 0);
			out->type = NS_TYPE_OF(i == 0 ? S_IFDIR : S_IFREG);
			return 1;
		}
	}
	got = ns_dir_read(h->dir, pos, &d);
	if (got <= 0)
		return got;
	memcpy(out->name, d.name.data, d.name.len);
	out->name[d.name.len] = '\0';
	out->type = d.type;
	out->ino = d.ino;
	return 1;
}

/* ---- files ------------------------------------------------------------------------------------- */

static int live_open(fuse_req_t req, struct node *node, struct handle *h, struct fuse_file_info *fi)
{
	struct mount *m = mount_of(req);
	unsigned how = (fi->flags & O_ACCMODE) == O_RDONLY ? NS_OPEN_READ : NS_OPEN_WRITE;
	struct ns_gone gone = node_gone(&m->nodes, node);
	struct asker asker;
	int err;

	fi->keep_cache = 1;
	fi->noflush = how == NS_OPEN_READ;
	if (fi->flags & O_TRUNC)
		how |= NS_OPEN_TRUNC;
	err = ns_file_open(m->ns, who_asks(req, &asker), node->ino, how, gone, &h->file);
	if (err != -ENOENT || gone.rev)
		return err;
	/* It went between the two: as live_getattr() has it. */
	gone = node_gone(&m->nodes, node);
	return gone.rev ? ns_file_open(m->ns, &asker.who, node->ino, how, gone, &h->file) : -ESTALE;
}

static void live_read(fuse_req_t req, struct node *node, struct handle *h, size_t size, uint64_t off)
{
	char *data = malloc(size);
	ssize_t n = data ? ns_file_read(h->file, off, data, size) : -ENOMEM;

	(void)node;
	if (n < 0)
		reply_err(req, (int)n);
	else
		fuse_reply_buf(req, data, (size_t)n);
	free(data);
}

static int live_seek(fuse_req_t req, struct node *node, struct handle *h, uint64_t off, int whence,
		     uint64_t *out)
{
	(void)req;
	(void)node;
	return ns_file_seek(h->file, off, whence, out);
}

static int live_readlink(fuse_req_t req, struct node *node, struct buf *out)
{
	return ns_readlink(mount_of(req)->ns, node->ino, out);
}

static int live_getxattr(fuse_req_t req, struct node *node, const char *name, struct buf *out)
{
	return ns_getxattr(mount_of(req)->ns, node->ino, name, out);
}

static int live_listxattr(fuse_req_t req, struct node *node, struct buf *out)
{
	return ns_listxattr(mount_of(req)->ns, node->ino, out);
}

const struct kind kind_live = {
	.getattr = live_getattr,
	.lookup = live_lookup,
	.absent_is_kept = true,
	.opendir = live_opendir,
	.list = live_list,
	.open = live_open,
	.read = live_read,
	.seek = live_seek,
	.readlink = live_readlink,
	.getxattr = live_getxattr,
	.listxattr = live_listxattr,
	.has_own_xattrs = true,
};
