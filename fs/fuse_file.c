/*
 * Open files.
 */
#include "fs/fuse_int.h"

#include "fs/ns_txn.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

struct handle *handle_new(struct fuse_file_info *fi)
{
	struct handle *h = calloc(1, sizeof(*h));

	if (h) {
		pthread_mutex_init(&h->lock, NULL);
		h->sync = fi->flags & (O_SYNC | O_DSYNC);
		fi->fh = (uintptr_t)h;
	}
	return h;
}

void handle_clear(struct handle *h)
{
	ns_dir_close(h->dir);
	h->dir = NULL;
	mvcc_view_close(h->view);
	h->view = NULL;
	if (h->free_own)
		h->free_own(h->own);
	h->own = NULL;
	h->free_own = NULL;
}

void handle_in(struct handle *h, const struct tree *tree)
{
	h->txn = tree->txn;
	if (h->txn)
		ns_txn_ref(h->txn);
}

int file_enter(struct mount *m, struct handle *h, struct tree *out)
{
	*out = (struct tree){ .ns = m->ns, .txn = h->txn };
	if (!h->txn)
		return 0;
	out->ns = ns_txn_enter(h->txn);
	if (!out->ns)
		return -ESTALE;
	ns_txn_ref(h->txn);
	return 0;
}

static void close_file(struct handle *h)
{
	if (!h->file)
		return;
	if (h->txn)
		ns_txn_enter_ended(h->txn);
	ns_file_close(h->file); /* close(2) has had its answer by FLUSH; a failure is logged */
	if (h->txn)
		ns_txn_leave(h->txn);
	ns_txn_unref(h->txn);
}

void handle_free(struct handle *h)
{
	close_file(h);
	handle_clear(h);
	buf_release(&h->reply);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

static void run_create(struct call *c)
{
	struct mount *m = mount_of(c->req);
	struct handle *h = handle_new(&c->fi);
	struct fuse_entry_param e;
	struct ns_attr attr;
	struct asker asker;
	struct tree tree;
	int err = h ? tree_enter(m, c->node, &tree) : -ENOMEM;

	if (!err) {
		err = ns_create(tree.ns, who_asks(c->req, &asker), c->node->ino, slice_str(c->name), c->mode,
				&h->file, &attr);
		if (!err)
			handle_in(h, &tree);
		tree_leave(&tree);
	}
	if (!err)
		err = tree_entry(m, c->node, &attr, &e);
	if (err) {
		if (h)
			handle_free(h);
		reply_err(c->req, err);
		return;
	}
	c->fi.keep_cache = 1;
	if (fuse_reply_create(c->req, &e, &c->fi) == -ENOENT) {
		/* The caller was interrupted: nobody will close this. */
		handle_free(h);
		forget_entry(m, &e);
	}
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct call c = {
		.run = run_create,
		.change = CHANGE_CREATE,
		.req = req,
		.node = node_of(req, parent),
		.name = name,
		.mode = mode,
		.fi = *fi,
	};

	dispatch_name(&c);
}

void op_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct node *node = node_of(req, id);
	const struct kind *kind = kind_of(node);
	struct handle *h = handle_new(fi);
	int err = !h ? -ENOMEM : kind->open ? kind->open(req, node, h, fi) : -EISDIR;

	if (err) {
		if (h)
			handle_free(h);
		reply_err(req, err);
	} else if (fuse_reply_open(req, fi) == -ENOENT) {
		handle_free(h);
	}
}

void op_read(fuse_req_t req, fuse_ino_t id, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct node *node = node_of(req, id);

	handle_of(fi)->nonblock = fi->flags & O_NONBLOCK;
	kind_of(node)->read(req, node, handle_of(fi), size, (uint64_t)off);
}

static void run_write(struct call *c)
{
	struct handle *h = handle_of(&c->fi);
	struct asker asker;
	mvcc_rev_t rev = 0;
	struct tree tree;
	int err = file_enter(mount_of(c->req), h, &tree);

	if (!err) {
		err = ns_file_write(h->file, who_asks(c->req, &asker), c->rdev, c->data, c->len);
		if (!err && h->sync)
			err = ns_file_commit(h->file, &rev);
		tree_leave(&tree);
	}
	if (err)
		reply_err(c->req, err);
	else if (h->sync && !h->txn)
		reply_when_synced(c->req, rev, c->len);
	else
		fuse_reply_write(c->req, c->len);
}

void op_write(fuse_req_t req, fuse_ino_t id, const char *data, size_t len, off_t off,
	      struct fuse_file_info *fi)
{
	struct node *node = node_of(req, id);
	struct handle *h = handle_of(fi);
	struct call c = {
		.run = run_write,
		.req = req,
		.node = node,
		.data = data,
		.len = len,
		.rdev = (uint64_t)off,
		.fi = *fi,
	};

	if (kind_of(node)->write)
		kind_of(node)->write(req, node, h, data, len);
	else if (!h->file)
		reply_err(req, kind_of(node)->read_only);
	else if (h->sync)
		dispatch(&c);
	else
		run_write(&c); /* commits nothing: needs no room in the ring */
}

static void run_flush(struct call *c)
{
	struct handle *h = handle_of(&c->fi);
	struct tree tree;
	int err = file_enter(mount_of(c->req), h, &tree);

	if (!err) {
		err = ns_file_flush(h->file);
		tree_leave(&tree);
	}
	if (err == -EBUSY) /* a compare failed: whoever looks now must find the file as it was */
		reply_after_notices(c->req, err);
	else
		reply_err(c->req, err);
}

void op_flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct call c = { .run = run_flush, .req = req, .node = node_of(req, id), .fi = *fi };

	if (handle_of(fi)->file)
		dispatch(&c);
	else
		reply_err(req, 0);
}

static void run_release(struct call *c)
{
	handle_free(handle_of(&c->fi));
	reply_err(c->req, 0);
}

void op_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct call c = { .run = run_release, .req = req, .node = node_of(req, id), .fi = *fi };

	dispatch(&c);
}

/* What is in a transaction is on no disk before its commit: there an fsync only puts the file into it. */
static void run_fsync(struct call *c)
{
	struct handle *h = handle_of(&c->fi);
	mvcc_rev_t rev = MVCC_REV_LATEST;
	struct tree tree;
	int err = file_enter(mount_of(c->req), h, &tree);

	if (!err) {
		err = ns_file_commit(h->file, &rev);
		tree_leave(&tree);
	}
	if (err == -EBUSY)
		reply_after_notices(c->req, err);
	else if (err || h->txn)
		reply_err(c->req, err);
	else
		reply_when_synced(c->req, rev, 0);
}

void op_fsync(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi)
{
	struct call c = { .run = run_fsync, .req = req, .node = node_of(req, id), .fi = *fi };

	(void)datasync;
	if (handle_of(fi)->file)
		dispatch(&c);
	else
		reply_err(req, 0);
}

static void run_fsyncdir(struct call *c)
{
	mvcc_rev_t rev = MVCC_REV_LATEST;
	int err = ns_settle_dir(mount_of(c->req)->ns, c->node->ino, &rev);

	if (err)
		reply_err(c->req, err);
	else
		reply_when_synced(c->req, rev, 0);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi)
{
	struct call c = { .run = run_fsyncdir, .req = req, .node = node_of(req, id), .fi = *fi };

	(void)datasync;
	if (c.node->kind == NODE_LIVE)
		dispatch(&c);
	else
		reply_err(req, 0);
}

void op_fallocate(fuse_req_t req, fuse_ino_t id, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);
	struct asker asker;
	struct tree tree;
	int err = h->file ? file_enter(mount_of(req), h, &tree) : kind_of(node_of(req, id))->read_only;

	if (!err) {
		err = ns_file_allocate(h->file, who_asks(req, &asker), mode, (uint64_t)off, (uint64_t)len);
		tree_leave(&tree);
	}
	reply_err(req, err);
}

/* What is copied: a live file, or one of the past, which the caller has open and so may read. */
static int copy_source(const struct node *node, const struct handle *h, struct ns_copy *copy)
{
	copy->from = h->file;
	copy->ino = node->ino;
	copy->rev = node->rev;
	return h->file || node->kind == NODE_PAST_FILE ? 0 : -EXDEV;
}

static void run_copy(struct call *c)
{
	struct handle *h = handle_of(&c->fi);
	struct asker asker;
	uint64_t copied = 0;
	mvcc_rev_t rev = 0;
	int err = ns_file_copy(&c->copy, who_asks(c->req, &asker), &copied);

	if (!err && h->sync && copied)
		err = ns_file_commit(h->file, &rev);
	if (err)
		reply_err(c->req, err);
	else if (h->sync && copied)
		reply_when_synced(c->req, rev, copied);
	else
		fuse_reply_write(c->req, copied);
}

/* With EXDEV the kernel reads and writes the bytes itself. */
void op_copy_file_range(fuse_req_t req, fuse_ino_t in, off_t in_off, struct fuse_file_info *in_fi,
			fuse_ino_t out, off_t out_off, struct fuse_file_info *out_fi, size_t len, int flags)
{
	struct handle *to = handle_of(out_fi);
	struct call c = {
		.run = run_copy,
		.req = req,
		.node = node_of(req, out),
		.fi = *out_fi,
		.copy = { .off = (uint64_t)in_off, .to = to->file, .to_off = (uint64_t)out_off, .len = len },
	};
	/* What a transaction has may go with it: nothing is shared over its border, nor inside. */
	bool shared = node_of(req, in)->kind != NODE_TXN && c.node->kind != NODE_TXN;
	int err = shared ? copy_source(node_of(req, in), handle_of(in_fi), &c.copy) : -EXDEV;

	(void)flags;
	if (!err && !to->file)
		err = kind_of(c.node)->write ? -EXDEV : kind_of(c.node)->read_only;
	if (err)
		reply_err(req, err);
	else if (to->sync)
		dispatch(&c);
	else
		run_copy(&c); /* commits nothing: needs no room in the ring */
}

void op_lseek(fuse_req_t req, fuse_ino_t id, off_t off, int whence, struct fuse_file_info *fi)
{
	struct node *node = node_of(req, id);
	const struct kind *kind = kind_of(node);
	uint64_t at = 0;
	int err = kind->seek ? kind->seek(req, node, handle_of(fi), (uint64_t)off, whence, &at) : -EINVAL;

	if (err)
		reply_err(req, err);
	else
		fuse_reply_lseek(req, (off_t)at);
}
