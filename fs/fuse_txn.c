/*
 * `@txn`, as nodes: a directory whose entries are the open transactions, each the root of its tree. An inode of such
 * a tree is a node like one of the live tree, but of a tree of its own, with other numbers; only the tree's own
 * changes change it, so the kernel may keep what it is told until the transaction ends. Then its name is taken from
 * the kernel, and whatever is still held is stale.
 *
 * In a transaction's root three names are ours: creating `@commit` commits, `@conflicts` tells why that failed, and
 * `@message` is what the log will say.
 */
#include "fs/fuse_int.h"

#include "fs/ns_txn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* Which a NODE_TXN_FILE is, in its `ino`. */
enum { FILE_COMMIT = 1, FILE_CONFLICTS, FILE_MESSAGE };

static const char *const file_names[] = {
	[FILE_COMMIT] = "@commit", [FILE_CONFLICTS] = "@conflicts", [FILE_MESSAGE] = "@message"
};

static unsigned file_of(const struct node *dir, const char *name)
{
	unsigned which = FILE_MESSAGE;

	if (dir->kind != NODE_TXN || dir->ino != NS_ROOT)
		return 0;
	while (which && strcmp(name, file_names[which]) != 0)
		which--;
	return which;
}

bool txn_reserved(const struct node *dir, const char *name)
{
	return file_of(dir, name) != 0;
}

uint64_t txns_stat_ino(void)
{
	return node_stat_ino(NODE_TXNS, 0, 0);
}

/* ---- a tree ------------------------------------------------------------------------------------- */

static int txn_lookup(struct mount *m, struct node *dir, const char *name, struct fuse_entry_param *e)
{
	unsigned which = file_of(dir, name);
	struct ns_attr attr;
	struct tree tree;
	int err;

	if (which > FILE_COMMIT) /* which is made, and never there */
		return kind_entry(m, NODE_TXN_FILE, which, dir->rev, NULL, NULL, FOREVER, e);
	if (reserved(m, dir, name))
		return -ENOENT;
	err = tree_enter(m, dir, &tree);
	if (err)
		return err;
	err = ns_lookup(tree.ns, dir->ino, slice_str(name), &attr);
	tree_leave(&tree);
	return err ? err : tree_entry(m, dir, &attr, e);
}

static int txn_list(struct mount *m, struct node *dir, struct handle *h, uint64_t pos, struct listed *out)
{
	struct ns_dirent d;
	int got = ns_dir_read(h->dir, pos, &d);

	(void)m;
	if (got > 0)
		tree_listed(dir, &d, out);
	return got;
}

const struct kind kind_txn = {
	.getattr = tree_getattr,
	.lookup = txn_lookup,
	.absent_is_kept = true,
	.opendir = tree_opendir,
	.list = txn_list,
	.open = tree_open,
	.read = tree_read,
	.seek = tree_seek,
	.readlink = tree_readlink,
	.getxattr = tree_getxattr,
	.listxattr = tree_listxattr,
	.has_own_xattrs = true,
};

/* ---- commit ------------------------------------------------------------------------------------- */

struct commit_job {
	struct mount *m;
	struct ns_txn *txn;
	fuse_req_t req;
	bool opens; /* asked for by open(O_CREAT): to be answered with a file */
	struct fuse_file_info fi;
	struct asker asker;
	uint64_t id;
};

/* The kernel forgets a transaction that has ended, by its name in @txn. */
static void forget_txn(struct mount *m, struct ns_txn *t)
{
	struct node *txns = node_hold(&m->nodes, NODE_TXNS, 0);
	struct ns_txn_info info;

	if (!txns)
		return;
	ns_txn_info(t, &info);
	fuse_lowlevel_notify_inval_entry(m->session, id_of(m, txns), (const char *)info.name.data,
					 info.name.len);
	node_release(&m->nodes, txns);
}

/* Whoever reads the file is told the revision. */
static int commit_text(mvcc_rev_t rev, struct buf *out)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu\n", (unsigned long long)rev);
	return buf_copy(out, slice_str(text));
}

static void reply_committed(struct commit_job *job, mvcc_rev_t rev)
{
	struct mount *m = job->m;
	struct fuse_entry_param e;
	struct handle *h = NULL;
	int err;

	err = kind_entry(m, NODE_TXN_FILE, FILE_COMMIT, job->id, NULL, NULL, 0, &e);
	if (err || !job->opens) {
		reply_entry(job->req, err, &e);
		return;
	}
	h = handle_new(&job->fi);
	if (!h || commit_text(rev, &h->reply)) {
		if (h)
			handle_free(h);
		forget_entry(m, &e);
		reply_err(job->req, -ENOMEM);
		return;
	}
	job->fi.direct_io = 1;
	if (fuse_reply_create(job->req, &e, &job->fi) == -ENOENT) {
		handle_free(h);
		forget_entry(m, &e);
	}
}

static void commit_run(void *arg)
{
	struct commit_job *job = arg;
	mvcc_rev_t before, rev = 0;
	int err;

	notify_write_back(
		job->m); /* what programs have written through mappings counts as before the commit */
	before = mvcc_current(job->m->db);
	err = ns_txn_commit(job->txn, &job->asker.who, &rev);

	if (err) {
		reply_err(job->req, err);
	} else {
		if (rev > before)
			notify_changed(job->m, rev);
		forget_txn(job->m, job->txn);
		reply_committed(job, rev);
	}
	ns_txn_unref(job->txn);
	free(job);
}

bool txn_create(struct call *c)
{
	struct mount *m = mount_of(c->req);
	struct commit_job *job = NULL;
	int err = 0;

	if ((c->change != CHANGE_CREATE && c->change != CHANGE_MKNOD) ||
	    file_of(c->node, c->name) != FILE_COMMIT)
		return false;
	job = calloc(1, sizeof(*job));
	if (!job)
		err = -ENOMEM;
	else if (ns_txn_find_id(m->txns, c->node->rev, &job->txn))
		err = -ESTALE;
	if (!err) {
		*job = (struct commit_job){ .m = m,
					    .txn = job->txn,
					    .req = c->req,
					    .opens = c->change == CHANGE_CREATE,
					    .fi = c->fi,
					    .id = c->node->rev };
		who_asks(c->req, &job->asker);
		job->asker.who.comm = job->asker.comm;
		err = ns_txn_may(job->txn, job->asker.who.uid);
	}
	if (!err)
		err = work_start(m, commit_run, job);
	if (err) {
		ns_txn_unref(job ? job->txn : NULL);
		free(job);
		reply_err(c->req, err);
	}
	return true;
}

/* ---- @conflicts and @message -------------------------------------------------------------------- */

/* Its transaction, held; of an `ended` one -ENOENT. */
static int file_txn(struct mount *m, const struct node *node, struct ns_txn **out)
{
	return ns_txn_find_id(m->txns, node->rev, out);
}

/* What reading it gives. */
static int file_text(struct ns_txn *t, uint64_t which, struct buf *out)
{
	int err = which == FILE_CONFLICTS ? ns_txn_conflicts(t, out) : ns_txn_message(t, out);

	return !err && which == FILE_MESSAGE && out->len ? buf_put_u8(out, '\n') : err;
}

static int file_getattr(struct mount *m, struct node *node, struct ns_attr *attr)
{
	struct ns_txn_info info = { .uid = (uint32_t)m->owner };
	struct buf text = { 0 };
	struct ns_txn *t = NULL;
	int err = 0;

	/* @commit outlives its transaction, in the hand of who has made it. */
	if (file_txn(m, node, &t) && node->ino != FILE_COMMIT)
		return -ESTALE;
	if (t) {
		ns_txn_info(t, &info);
		err = file_text(t, node->ino, &text);
	}
	*attr = (struct ns_attr){
		.mode = S_IFREG | (node->ino == FILE_CONFLICTS ? 0444 : 0644),
		.uid = info.uid,
		.gid = info.gid,
		.nlink = 1,
		.size = text.len,
		.alloc = text.len,
		.atime_ns = info.begun_ns,
		.mtime_ns = info.begun_ns,
		.ctime_ns = info.begun_ns,
		.rev = info.base,
	};
	buf_release(&text);
	ns_txn_unref(t);
	return err;
}

static int file_open(fuse_req_t req, struct node *node, struct handle *h, struct fuse_file_info *fi)
{
	bool write = (fi->flags & O_ACCMODE) != O_RDONLY;
	struct ns_txn *t;
	int err = file_txn(mount_of(req), node, &t);

	if (err)
		return -ESTALE;
	fi->direct_io = 1;
	fi->noflush = 1;
	if (write && node->ino == FILE_CONFLICTS)
		err = -EPERM;
	if (!err && write)
		err = ns_txn_may(t, fuse_req_ctx(req)->uid);
	if (!err && fi->flags & O_TRUNC)
		err = ns_txn_set_message(t, slice_of(NULL, 0));
	if (!err)
		err = file_text(t, node->ino, &h->reply);
	ns_txn_unref(t);
	return err;
}

static void file_read(fuse_req_t req, struct node *node, struct handle *h, size_t size, uint64_t off)
{
	struct buf text = { 0 };
	int err;

	(void)node;
	pthread_mutex_lock(&h->lock);
	err = buf_copy(&text, slice_buf(&h->reply));
	pthread_mutex_unlock(&h->lock);
	if (err)
		reply_err(req, err);
	else
		reply_part(req, slice_buf(&text), size, off); /* last: the handle may be closed at once */
	buf_release(&text);
}

/* What is written is added to what the handle has: a message comes line by line. */
static void file_write(fuse_req_t req, struct node *node, struct handle *h, const char *data, size_t len)
{
	struct ns_txn *t = NULL;
	size_t had;
	int err = node->ino != FILE_MESSAGE ? -EPERM : file_txn(mount_of(req), node, &t) != 0 ? -ESTALE : 0;

	pthread_mutex_lock(&h->lock);
	had = h->reply.len;
	if (!err)
		err = buf_put(&h->reply, data, len);
	if (!err)
		err = ns_txn_set_message(t, slice_buf(&h->reply));
	if (err)
		h->reply.len = had;
	pthread_mutex_unlock(&h->lock);
	ns_txn_unref(t);
	if (err)
		reply_err(req, err);
	else
		fuse_reply_write(req, len);
}

const struct kind kind_txn_file = {
	.getattr = file_getattr,
	.open = file_open,
	.read = file_read,
	.write = file_write,
	.has_own_xattrs = true, /* user.mvccfs.rev is what the transaction began with */
	.read_only = -EPERM,
};

/* ---- @txn ---------------------------------------------------------------------------------------- */

static int txns_getattr(struct mount *m, struct node *node, struct ns_attr *attr)
{
	(void)node;
	own_attr(m, S_IFDIR | 0777, attr); /* whoever may come here may begin; who may end is asked then */
	return 0;
}

/* The entry of the root of a transaction. */
static int root_entry(struct mount *m, struct ns_txn *t, struct fuse_entry_param *e)
{
	struct ns_txn_info info;

	ns_txn_info(t, &info);
	return kind_entry(m, NODE_TXN, NS_ROOT, info.id, NULL, NULL, FOREVER, e);
}

static int txns_lookup(struct mount *m, struct node *dir, const char *name, struct fuse_entry_param *e)
{
	struct ns_txn *t;
	int err = ns_txn_find(m->txns, slice_str(name), &t);

	(void)dir;
	if (err)
		return err;
	err = root_entry(m, t, e);
	ns_txn_unref(t);
	return err;
}

struct txn_list {
	size_t n;
	struct ns_txn **v;
};

static void txn_list_free(void *arg)
{
	struct txn_list *list = arg;

	while (list->n)
		ns_txn_unref(list->v[--list->n]);
	free(list->v);
	free(list);
}

static int txns_opendir(fuse_req_t req, struct node *dir, struct handle *h)
{
	struct txn_list *list = calloc(1, sizeof(*list));

	(void)dir;
	if (!list)
		return -ENOMEM;
	h->own = list;
	h->free_own = txn_list_free;
	return ns_txns_list(mount_of(req)->txns, &list->v, &list->n);
}

static int txns_list(struct mount *m, struct node *dir, struct handle *h, uint64_t pos, struct listed *out)
{
	const struct txn_list *list = h->own;
	struct ns_txn_info info;

	(void)m;
	(void)dir;
	if (pos >= list->n)
		return 0;
	ns_txn_info(list->v[pos], &info);
	memcpy(out->name, info.name.data, info.name.len);
	out->name[info.name.len] = '\0';
	out->ino = node_stat_ino(NODE_TXN, NS_ROOT, info.id);
	return 1;
}

static void run_begin(struct call *c)
{
	struct mount *m = mount_of(c->req);
	struct ns_txn *t = NULL;
	struct fuse_entry_param e;
	struct asker asker;
	int err = ns_txn_begin(m->txns, slice_str(c->name), who_asks(c->req, &asker), &t);

	if (!err) {
		err = root_entry(m, t, &e);
		if (err)
			ns_txn_abort(t);
		ns_txn_unref(t);
	}
	reply_entry(c->req, err, &e);
}

static void run_abort(struct call *c)
{
	struct ns_txn *t;
	int err = ns_txn_find(mount_of(c->req)->txns, slice_str(c->name), &t);

	if (err) {
		reply_err(c->req, err);
		return;
	}
	err = ns_txn_may(t, fuse_req_ctx(c->req)->uid);
	if (!err)
		err = ns_txn_abort(t);
	ns_txn_unref(t);
	reply_err(c->req, err);
}

static void txns_change(struct call *c)
{
	if (c->change == CHANGE_MKDIR)
		run_begin(c);
	else if (c->change == CHANGE_RMDIR)
		run_abort(c);
	else
		reply_err(c->req, -EPERM);
}

const struct kind kind_txns = {
	.getattr = txns_getattr,
	.lookup = txns_lookup,
	.opendir = txns_opendir,
	.list = txns_list,
	.change = txns_change,
	.read_only = -EPERM,
};
