/*
 * The past, as nodes: `@rev` of a directory, and directories and files as they stood at a revision.
 */
#include "fs/fuse_int.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* ---- what stood there -------------------------------------------------------------------------- */

/* A view at the floor, if the floor still has the version of the file that the node stands for; else MVCC_ECOMPACTED. */
static int view_at_floor(struct mount *m, struct node *node, struct mvcc_view **out)
{
	struct mvcc_view *view;
	struct ns_attr attr;
	int err = mvcc_view_open(m->db, mvcc_floor(m->db), &view);

	if (err)
		return err;
	err = ns_at_getattr(view, node->ino, &attr);
	if (err == -ENOENT || (!err && attr.rev != node->rev))
		err = MVCC_ECOMPACTED;
	if (err) {
		mvcc_view_close(view);
		return err;
	}
	atomic_store(&node->seen, mvcc_view_rev(view));
	*out = view;
	return 0;
}

/*
 * A view that shows what the node stands for. The revision that made a version of a file may be gone, while later ones
 * that have the same version are not: so the one it was last seen at is asked, then the floor.
 */
static int past_view(struct mount *m, struct node *node, struct mvcc_view **out)
{
	mvcc_rev_t rev = node->kind == NODE_PAST_FILE ? atomic_load(&node->seen) : node->rev;
	int err = mvcc_view_open(m->db, rev, out);

	if (err == MVCC_ECOMPACTED && node->kind == NODE_PAST_FILE)
		err = view_at_floor(m, node, out);
	return err;
}

static int past_getattr(struct mount *m, struct node *node, struct ns_attr *attr)
{
	struct mvcc_view *view;
	int err = past_view(m, node, &view);

	if (err)
		return err;
	err = ns_at_getattr(view, node->ino, attr);
	mvcc_view_close(view);
	return err;
}

int past_entry(struct mount *m, struct mvcc_view *view, uint64_t ino, struct node *parent, const char *name,
	       double timeout, struct fuse_entry_param *e)
{
	struct ns_attr attr;
	struct node *node;
	int err = ns_at_getattr(view, ino, &attr);

	if (err)
		return err;
	node = S_ISDIR(attr.mode) ?
		       node_get(&m->nodes, NODE_PAST_DIR, ino, mvcc_view_rev(view), parent, name) :
		       node_get(&m->nodes, NODE_PAST_FILE, ino, attr.rev, NULL, NULL);
	if (!node)
		return -ENOMEM;
	atomic_store(&node->seen, mvcc_view_rev(view));
	entry_of(m, node, &attr, timeout, e);
	return 0;
}

static int past_lookup(struct mount *m, struct node *dir, const char *name, struct fuse_entry_param *e)
{
	struct mvcc_view *view;
	uint64_t ino;
	int err = mvcc_view_open(m->db, dir->rev, &view);

	if (err)
		return err;
	err = ns_at_lookup(view, dir->ino, slice_str(name), &ino);
	if (!err)
		err = past_entry(m, view, ino, dir, name, FOREVER, e);
	mvcc_view_close(view);
	return err;
}

static int past_opendir(fuse_req_t req, struct node *dir, struct handle *h)
{
	int err = mvcc_view_open(mount_of(req)->db, dir->rev, &h->view);

	if (!err)
		err = need_readable(req, h->view, dir->ino);
	return err ? err : ns_at_opendir(h->view, dir->ino, &h->dir);
}

/* A file's number depends on the revision that made this version. */
uint64_t past_stat_ino(struct mvcc_view *view, uint64_t ino)
{
	struct ns_attr attr;

	if (ns_at_getattr(view, ino, &attr))
		return ino;
	return S_ISDIR(attr.mode) ? node_stat_ino(NODE_PAST_DIR, ino, mvcc_view_rev(view)) :
				    node_stat_ino(NODE_PAST_FILE, ino, attr.rev);
}

static int past_list_dir(struct mount *m, struct node *dir, struct handle *h, uint64_t pos,
			 struct listed *out)
{
	struct ns_dirent d;
	int got = ns_dir_read(h->dir, pos, &d);

	(void)m;
	(void)dir;
	if (got <= 0)
		return got;
	memcpy(out->name, d.name.data, d.name.len);
	out->name[d.name.len] = '\0';
	out->type = d.type;
	out->ino = past_stat_ino(h->view, d.ino);
	return 1;
}

static int past_open(fuse_req_t req, struct node *node, struct handle *h, struct fuse_file_info *fi)
{
	struct mvcc_view *view;
	int err;

	(void)h;
	if ((fi->flags & O_ACCMODE) != O_RDONLY || fi->flags & O_TRUNC)
		return -EROFS;
	fi->keep_cache = 1;
	fi->noflush = 1;
	err = past_view(mount_of(req), node, &view);
	if (err)
		return err;
	err = need_readable(req, view, node->ino);
	mvcc_view_close(view);
	return err;
}

static void past_read(fuse_req_t req, struct node *node, struct handle *h, size_t size, uint64_t off)
{
	struct mount *m = mount_of(req);
	struct mvcc_view *view = NULL;
	char *data = malloc(size);
	ssize_t n = data ? past_view(m, node, &view) : -ENOMEM;

	(void)h;
	if (!n)
		n = ns_at_read(m->db, view, node->ino, off, data, size);
	mvcc_view_close(view);
	if (n < 0)
		reply_err(req, (int)n);
	else
		fuse_reply_buf(req, data, (size_t)n);
	free(data);
}

static int past_seek(fuse_req_t req, struct node *node, struct handle *h, uint64_t off, int whence,
		     uint64_t *out)
{
	struct mvcc_view *view;
	int err = past_view(mount_of(req), node, &view);

	(void)h;
	if (err)
		return err;
	err = ns_at_seek(view, node->ino, off, whence, out);
	mvcc_view_close(view);
	return err;
}

/* A view of a node that whoever asks may read. */
static int readable_view(fuse_req_t req, struct node *node, struct mvcc_view **out)
{
	int err = past_view(mount_of(req), node, out);

	if (err)
		return err;
	err = need_readable(req, *out, node->ino);
	if (err)
		mvcc_view_close(*out);
	return err;
}

static int past_readlink(fuse_req_t req, struct node *node, struct buf *out)
{
	struct mvcc_view *view;
	int err = readable_view(req, node, &view);

	if (err)
		return err;
	err = ns_at_readlink(view, node->ino, out);
	mvcc_view_close(view);
	return err;
}

static int past_getxattr(fuse_req_t req, struct node *node, const char *name, struct buf *out)
{
	struct mvcc_view *view;
	int err = readable_view(req, node, &view);

	if (err)
		return err;
	err = ns_at_getxattr(view, node->ino, name, out);
	mvcc_view_close(view);
	return err;
}

static int past_listxattr(fuse_req_t req, struct node *node, struct buf *out)
{
	struct mvcc_view *view;
	int err = readable_view(req, node, &view);

	if (err)
		return err;
	err = ns_at_listxattr(view, node->ino, out);
	mvcc_view_close(view);
	return err;
}

const struct kind kind_past_dir = {
	.getattr = past_getattr,
	.lookup = past_lookup,
	.absent_is_kept = true,
	.opendir = past_opendir,
	.list = past_list_dir,
	.getxattr = past_getxattr,
	.listxattr = past_listxattr,
	.has_own_xattrs = true,
	.read_only = -EROFS,
};

const struct kind kind_past_file = {
	.getattr = past_getattr,
	.open = past_open,
	.read = past_read,
	.seek = past_seek,
	.readlink = past_readlink,
	.getxattr = past_getxattr,
	.listxattr = past_listxattr,
	.has_own_xattrs = true,
	.read_only = -EROFS,
};

/* ---- D/@rev ------------------------------------------------------------------------------------ */

static int revdir_getattr(struct mount *m, struct node *node, struct ns_attr *attr)
{
	int err = ns_getattr(m->ns, node->ino, attr);

	attr->mode = S_IFDIR | 0555;
	attr->nlink = 2;
	attr->size = attr->alloc = 0;
	attr->atime_ns = attr->mtime_ns = attr->ctime_ns = attr->btime_ns;
	return err;
}

/* D/@rev/EXPR: what stood at D's path of today. */
static int revdir_lookup(struct mount *m, struct node *revdir, const char *name, struct fuse_entry_param *e)
{
	struct mvcc_view *view = NULL;
	struct buf path = { 0 };
	bool moving = false;
	mvcc_rev_t rev = 0;
	uint64_t ino = 0;
	int err;

	err = past_resolve(m->db, slice_str(name), &rev, &moving);
	if (!err)
		err = ns_path(m->ns, revdir->ino, &path);
	if (!err)
		err = mvcc_view_open(m->db, rev, &view);
	if (!err)
		err = ns_at_walk(view, slice_buf(&path), &ino);
	if (err == -ENOTDIR)
		err = -ENOENT;
	/* The path of any directory but the root may change, and with it what its names here mean. */
	if (!err)
		err = past_entry(m, view, ino, revdir, name, revdir->ino == NS_ROOT && !moving ? FOREVER : 0,
				 e);
	mvcc_view_close(view);
	buf_release(&path);
	return err;
}

static void names_free(void *names)
{
	past_names_release(names);
	free(names);
}

static int revdir_opendir(fuse_req_t req, struct node *dir, struct handle *h)
{
	struct mount *m = mount_of(req);
	struct past_names *names = calloc(1, sizeof(*names));
	struct buf path = { 0 };
	int err;

	if (!names)
		return -ENOMEM;
	h->own = names;
	h->free_own = names_free;
	err = ns_path(m->ns, dir->ino, &path);
	if (!err)
		err = past_list(m->db, slice_buf(&path), names);
	buf_release(&path);
	return err;
}

static int revdir_list(struct mount *m, struct node *dir, struct handle *h, uint64_t pos, struct listed *out)
{
	const struct past_names *names = h->own;

	(void)m;
	if (pos >= names->n)
		return 0;
	memcpy(out->name, names->names[pos].text, sizeof(out->name));
	out->ino = node_stat_ino(NODE_PAST_DIR, dir->ino, names->names[pos].rev);
	return 1;
}

const struct kind kind_revdir = {
	.getattr = revdir_getattr,
	.lookup = revdir_lookup, /* @rev/42 may come to be: absence is not kept by the kernel */
	.opendir = revdir_opendir,
	.list = revdir_list,
	.read_only = -EROFS,
};

/* ---- permissions ------------------------------------------------------------------------------- */

int need_readable(fuse_req_t req, struct mvcc_view *view, uint64_t ino)
{
	struct mount *m = mount_of(req);
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct past_who who = { .uid = ctx->uid, .gid = ctx->gid };
	gid_t groups[256];
	int n;

	if (!m->config->revperm_both)
		return 0;
	n = fuse_req_getgroups(req, sizeof(groups) / sizeof(groups[0]), groups);
	if (n > (int)(sizeof(groups) / sizeof(groups[0])))
		n = (int)(sizeof(groups) / sizeof(groups[0]));
	who.groups = groups;
	who.ngroups = n > 0 ? (unsigned)n : 0;
	return past_may_read(m->ns, view, ino, &who);
}
