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
	return err ? err : live_entry(m, &attr, e);
}

/* ---- listing ----------------------------------------------------------------------------------- */

static int live_opendir(fuse_req_t req, struct node *dir, struct handle *h)
{
	return ns_opendir(mount_of(req)->ns, dir->ino, &h->dir);
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
	const struct ns_who *who = NULL;
	int err;

	fi->keep_cache = 1;
	fi->noflush = how == NS_OPEN_READ;
	if (fi->flags & O_TRUNC)
		how |= NS_OPEN_TRUNC;
	if (how & NS_OPEN_TRUNC)
		who = who_asks(req, &asker);
	err = ns_file_open(m->ns, who, node->ino, how, gone, &h->file);
	if (err != -ENOENT || gone.rev)
		return err;
	/* It went between the two: as live_getattr() has it. */
	gone = node_gone(&m->nodes, node);
	return gone.rev ? ns_file_open(m->ns, who, node->ino, how, gone, &h->file) : -ESTALE;
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
