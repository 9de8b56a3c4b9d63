/*
 * One handler a request: decode, call the namespace, reply once. Here are those of names and attributes, and the
 * table of all; fuse_file.c, fuse_dir.c and fuse_xattr.c have the others.
 *
 * The mount is the only writer, so what the kernel has been told stays true until it changes it
 * itself, or we say otherwise (fuse_notify.c): entries, attributes, absent names and pages never expire. The exceptions
 * are names in @rev that move (`head`), and the doings of names that are no tree's.
 */
#include "fs/fuse_int.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/statvfs.h>

/* ---- looking ----------------------------------------------------------------------------------- */

static void reply_absent(fuse_req_t req)
{
	struct fuse_entry_param e = { .entry_timeout = FOREVER };

	fuse_reply_entry(req, &e);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct mount *m = mount_of(req);
	struct node *dir = node_of(req, parent);
	struct fuse_entry_param e;
	int err = lookup(m, dir, name, &e);

	if (!err) {
		if (fuse_reply_entry(req, &e) == -ENOENT)
			forget_entry(m, &e);
	} else if (err == -ENOENT && kind_of(dir)->absent_is_kept) {
		reply_absent(req);
	} else {
		reply_err(req, err);
	}
}

static void op_forget(fuse_req_t req, fuse_ino_t id, uint64_t nlookup)
{
	node_forget(&mount_of(req)->nodes, node_of(req, id), nlookup);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		node_forget(&mount_of(req)->nodes, node_of(req, forgets[i].ino), forgets[i].nlookup);
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct node *node = node_of(req, id);
	const struct kind *kind = kind_of(node);
	struct mount *m = mount_of(req);
	struct ns_attr attr;
	struct stat st;
	int err = fi && kind->open_getattr ? kind->open_getattr(m, node, handle_of(fi), &attr) :
					     node_getattr(m, node, &attr);

	if (err) {
		reply_err(req, err);
		return;
	}
	stat_of(stat_ino_of(node), &attr, &st);
	fuse_reply_attr(req, &st, kind->attr_moves ? 0 : FOREVER);
}

static void op_readlink(fuse_req_t req, fuse_ino_t id)
{
	struct node *node = node_of(req, id);
	struct buf target = { 0 };
	int err = kind_of(node)->readlink ? kind_of(node)->readlink(req, node, &target) : -EINVAL;

	if (!err)
		err = buf_put_u8(&target, 0);
	if (err)
		reply_err(req, err);
	else
		fuse_reply_readlink(req, (char *)target.data);
	buf_release(&target);
}

static void op_statfs(fuse_req_t req, fuse_ino_t id)
{
	struct mount *m = mount_of(req);
	struct statvfs st;

	(void)id;
	if (fstatvfs(m->db_fd, &st)) {
		reply_err(req, -errno);
		return;
	}
	st.f_namemax = NS_NAME_MAX;
	fuse_reply_statfs(req, &st);
}

/* ---- changes ----------------------------------------------------------------------------------- */

static void run_setattr(struct call *c)
{
	struct mount *m = mount_of(c->req);
	struct ns_attr attr;
	struct asker asker;
	struct tree tree;
	struct stat st;
	int err;

	err = tree_enter(m, c->node, &tree);
	if (!err) {
		err = ns_setattr(tree.ns, who_asks(c->req, &asker), c->node->ino, &c->set, c->what, c->flags,
				 &attr);
		tree_leave(&tree);
	}
	if (err) {
		reply_err(c->req, err);
		return;
	}
	stat_of(stat_ino_of(c->node), &attr, &st);
	fuse_reply_attr(c->req, &st, FOREVER);
}

static void op_setattr(fuse_req_t req, fuse_ino_t id, struct stat *st, int to_set, struct fuse_file_info *fi)
{
	struct call c = { .run = run_setattr, .req = req, .node = node_of(req, id), .flags = fi != NULL };
	const int by_writing = FUSE_SET_ATTR_SIZE | FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW |
			       FUSE_SET_ATTR_MTIME_NOW | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_CTIME;
	struct timespec now;

	if (!tree_of(c.node)) {
		if (kind_of(c.node)->write && !(to_set & ~by_writing))
			op_getattr(req, id,
				   fi); /* "echo request > @ctl" truncates first, touch(1) sets the times */
		else
			reply_err(req, kind_of(c.node)->read_only);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	c.set = (struct ns_attr){
		.mode = st->st_mode,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.size = (uint64_t)st->st_size,
		.atime_ns = ns_of(to_set & FUSE_SET_ATTR_ATIME_NOW ? now : st->st_atim),
		.mtime_ns = ns_of(to_set & FUSE_SET_ATTR_MTIME_NOW ? now : st->st_mtim),
		.ctime_ns = ns_of(st->st_ctim),
	};
	c.what = (to_set & FUSE_SET_ATTR_MODE ? NS_SET_MODE : 0) |
		 (to_set & FUSE_SET_ATTR_UID ? NS_SET_UID : 0) |
		 (to_set & FUSE_SET_ATTR_GID ? NS_SET_GID : 0) |
		 (to_set & FUSE_SET_ATTR_SIZE ? NS_SET_SIZE : 0) |
		 (to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW) ? NS_SET_ATIME : 0) |
		 (to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW) ? NS_SET_MTIME : 0) |
		 (to_set & FUSE_SET_ATTR_CTIME ? NS_SET_CTIME : 0);
	if (!c.what) {
		op_getattr(req, id, fi);
		return;
	}
	dispatch(&c);
}

/* May nothing be made, removed or changed by that name in a tree? */
static int need_name(struct mount *m, const struct node *dir, const char *name)
{
	if (strlen(name) > NS_NAME_MAX)
		return -ENAMETOOLONG;
	return reserved(m, dir, name) ? -EPERM : 0;
}

/*
 * Runs a change of names, if `node` (and of a rename and a link, `node2`) belong to a tree that can be changed. A directory
 * that is no tree's deals with it by itself.
 */
void dispatch_name(struct call *c)
{
	struct mount *m = mount_of(c->req);
	uint64_t tree = tree_of(c->node);
	int err = 0;

	if (txn_create(c))
		return;
	if (!tree && kind_of(c->node)->change) {
		kind_of(c->node)->change(c);
		return;
	}
	if (!tree)
		err = kind_of(c->node)->read_only;
	else if (c->node2 && tree_of(c->node2) != tree)
		err = tree_of(c->node2) ? -EXDEV : kind_of(c->node2)->read_only;
	if (!err)
		err = need_name(m, c->node, c->name);
	if (!err && c->name2)
		err = need_name(m, c->node2, c->name2);
	if (err)
		reply_err(c->req, err);
	else
		dispatch(c);
}

static void run_mknod(struct call *c)
{
	struct ns_attr attr = { 0 };
	struct asker asker;
	struct tree tree;
	int err = tree_enter(mount_of(c->req), c->node, &tree);

	if (!err) {
		err = ns_mknod(tree.ns, who_asks(c->req, &asker), c->node->ino, slice_str(c->name), c->mode,
			       c->rdev, &attr);
		tree_leave(&tree);
	}
	reply_tree_entry(c->req, c->node, err, &attr);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct call c = {
		.run = run_mknod,
		.change = CHANGE_MKNOD,
		.req = req,
		.node = node_of(req, parent),
		.name = name,
		.mode = mode,
		.rdev = rdev,
	};

	dispatch_name(&c);
}

static void run_mkdir(struct call *c)
{
	struct ns_attr attr = { 0 };
	struct asker asker;
	struct tree tree;
	int err = tree_enter(mount_of(c->req), c->node, &tree);

	if (!err) {
		err = ns_mkdir(tree.ns, who_asks(c->req, &asker), c->node->ino, slice_str(c->name), c->mode,
			       &attr);
		tree_leave(&tree);
	}
	reply_tree_entry(c->req, c->node, err, &attr);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct call c = {
		.run = run_mkdir,
		.change = CHANGE_MKDIR,
		.req = req,
		.node = node_of(req, parent),
		.name = name,
		.mode = mode,
	};

	dispatch_name(&c);
}

static void run_symlink(struct call *c)
{
	struct ns_attr attr = { 0 };
	struct asker asker;
	struct tree tree;
	int err = tree_enter(mount_of(c->req), c->node, &tree);

	if (!err) {
		err = ns_symlink(tree.ns, who_asks(c->req, &asker), c->node->ino, slice_str(c->name),
				 slice_str(c->data), &attr);
		tree_leave(&tree);
	}
	reply_tree_entry(c->req, c->node, err, &attr);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct call c = {
		.run = run_symlink,
		.change = CHANGE_SYMLINK,
		.req = req,
		.node = node_of(req, parent),
		.name = name,
		.data = target,
		.len = strlen(target) + 1,
	};

	dispatch_name(&c);
}

static void run_link(struct call *c)
{
	struct ns_attr attr = { 0 };
	struct asker asker;
	struct tree tree;
	int err = tree_enter(mount_of(c->req), c->node, &tree);

	if (!err) {
		err = ns_link(tree.ns, who_asks(c->req, &asker), c->node2->ino, c->node->ino,
			      slice_str(c->name), &attr);
		tree_leave(&tree);
	}
	reply_tree_entry(c->req, c->node, err, &attr);
}

static void op_link(fuse_req_t req, fuse_ino_t id, fuse_ino_t newparent, const char *newname)
{
	struct call c = {
		.run = run_link,
		.change = CHANGE_LINK,
		.req = req,
		.node = node_of(req, newparent),
		.node2 = node_of(req, id),
		.name = newname,
	};

	dispatch_name(&c);
}

static void run_unlink(struct call *c)
{
	struct mount *m = mount_of(c->req);
	struct ns_gone gone = { 0 };
	struct asker asker;
	struct tree tree;
	int err = tree_enter(m, c->node, &tree);

	if (!err) {
		err = ns_unlink(tree.ns, who_asks(c->req, &asker), c->node->ino, slice_str(c->name), &gone);
		tree_leave(&tree);
	}
	if (!err && c->node->kind == NODE_LIVE)
		node_set_gone(&m->nodes, gone);
	reply_err(c->req, err);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct call c = { .run = run_unlink,
			  .change = CHANGE_UNLINK,
			  .req = req,
			  .node = node_of(req, parent),
			  .name = name };

	dispatch_name(&c);
}

static void run_rmdir(struct call *c)
{
	struct mount *m = mount_of(c->req);
	struct ns_gone gone = { 0 };
	struct asker asker;
	struct tree tree;
	int err = tree_enter(m, c->node, &tree);

	if (!err) {
		err = ns_rmdir(tree.ns, who_asks(c->req, &asker), c->node->ino, slice_str(c->name), &gone);
		tree_leave(&tree);
	}
	if (!err && c->node->kind == NODE_LIVE)
		node_set_gone(&m->nodes, gone);
	reply_err(c->req, err);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct call c = { .run = run_rmdir,
			  .change = CHANGE_RMDIR,
			  .req = req,
			  .node = node_of(req, parent),
			  .name = name };

	dispatch_name(&c);
}

static void run_rename(struct call *c)
{
	struct mount *m = mount_of(c->req);
	struct ns_gone gone = { 0 };
	struct asker asker;
	struct tree tree;
	int err = tree_enter(m, c->node, &tree);

	if (!err) {
		err = ns_rename(tree.ns, who_asks(c->req, &asker), c->node->ino, slice_str(c->name),
				c->node2->ino, slice_str(c->name2), c->flags, &gone);
		tree_leave(&tree);
	}
	if (!err && c->node->kind == NODE_LIVE)
		node_set_gone(&m->nodes, gone);
	reply_err(c->req, err);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		      const char *newname, unsigned flags)
{
	struct call c = {
		.run = run_rename,
		.change = CHANGE_RENAME,
		.req = req,
		.node = node_of(req, parent),
		.name = name,
		.node2 = node_of(req, newparent),
		.name2 = newname,
		.flags = flags,
	};

	dispatch_name(&c);
}

/* ---- the table --------------------------------------------------------------------------------- */

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct mount *m = userdata;

	/*
	 * No writeback cache: see docs/decisions.md. Pages are dropped when we say so, not whenever a
	 * time stamp looks new: otherwise each write would throw away what was just written.
	 * Set-id bits are cleared by the kernel, with a SETATTR: libfuse would promise that we do it.
	 */
	conn->want &=
		~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_HANDLE_KILLPRIV);
	conn->want |= conn->capable & (FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_CACHE_SYMLINKS |
				       FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ATOMIC_O_TRUNC);
	/* The kernel judges by access control lists; what new files inherit, in place of a umask, is ours to do. */
	conn->want |= conn->capable & (FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK);
	conn->max_write = WRITE_MAX;
	conn->max_readahead = WRITE_MAX;
	conn->max_background = 64;
	conn->congestion_threshold = 48;
	conn->time_gran = 1;
	if (!m->ready_told && m->config->ready)
		m->config->ready(m->config->ready_arg);
	m->ready_told = true;
}

const struct fuse_lowlevel_ops mount_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.release = op_release,
	.fsync = op_fsync,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_releasedir,
	.fsyncdir = op_fsyncdir,
	.statfs = op_statfs,
	.setxattr = op_setxattr,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
	.create = op_create,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
	.poll = op_poll,
	.copy_file_range = op_copy_file_range,
};
