/*
 * Who asks, what stat shows, and the entries of directories: what every handler needs, whatever kind of node it is
 * about.
 */
#include "fs/fuse_int.h"

#include "fs/ns_txn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct kind *const kinds[] = {
	[NODE_LIVE] = &kind_live,         [NODE_REVDIR] = &kind_revdir,
	[NODE_PAST_DIR] = &kind_past_dir, [NODE_PAST_FILE] = &kind_past_file,
	[NODE_CTL] = &kind_ctl,           [NODE_TAGDIR] = &kind_tagdir,
	[NODE_TAG] = &kind_tag,           [NODE_HISTDIR] = &kind_histdir,
	[NODE_HISTORY] = &kind_history,   [NODE_STATUS] = &kind_status,
	[NODE_WATCH] = &kind_watch,       [NODE_TXN] = &kind_txn,
	[NODE_TXNS] = &kind_txns,         [NODE_TXN_FILE] = &kind_txn_file,
};

const struct kind *kind_of(const struct node *node)
{
	return kinds[node->kind];
}

uint64_t tree_of(const struct node *node)
{
	return node->kind == NODE_LIVE ? 1 : node->kind == NODE_TXN ? 1 + node->rev : 0;
}

int tree_enter(struct mount *m, const struct node *node, struct tree *out)
{
	int err = 0;

	*out = (struct tree){ .ns = m->ns };
	if (node->kind != NODE_TXN)
		return 0;
	err = ns_txn_find_id(m->txns, node->rev, &out->txn);
	if (err)
		return -ESTALE;
	out->ns = ns_txn_enter(out->txn);
	if (out->ns)
		return 0;
	ns_txn_unref(out->txn);
	out->txn = NULL;
	return -ESTALE;
}

void tree_leave(struct tree *tree)
{
	if (!tree->txn)
		return;
	ns_txn_leave(tree->txn);
	ns_txn_unref(tree->txn);
	tree->txn = NULL;
}

void reply_err(fuse_req_t req, int err)
{
	fuse_reply_err(req, -mvcc_errno(err));
}

/* A copy is sent, as whoever has the answer may close the file, and so free what it has, before the sending is over. */
void reply_part(fuse_req_t req, struct slice bytes, size_t size, uint64_t off)
{
	size_t rest = off < bytes.len ? (size_t)(bytes.len - off) : 0;
	struct buf part = { 0 };
	int err;

	if (size > rest)
		size = rest;
	err = size ? buf_put(&part, bytes.data + off, size) : 0;
	if (err)
		reply_err(req, err);
	else
		fuse_reply_buf(req, (const char *)part.data, size);
	buf_release(&part);
}

/* ---- who asks ---------------------------------------------------------------------------------- */

static void read_comm(pid_t pid, char out[32])
{
	char path[48];
	ssize_t n = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, out, 31);
		close(fd);
	}
	if (n < 0)
		n = 0;
	if (n && out[n - 1] == '\n')
		n--;
	out[n] = '\0';
}

/* Program and labels of a process. Reading /proc costs more than a commit, so both are believed for a second. */
static void read_process(struct mount *m, pid_t pid, struct asker *a)
{
	struct comm_slot *slot = &m->comms[(unsigned)pid % COMM_SLOTS];
	int64_t now = ns_time_ms();
	bool known;

	pthread_mutex_lock(&m->comm_lock);
	known = slot->pid == pid && now - slot->read_ms < COMM_MS;
	if (known) {
		memcpy(a->comm, slot->comm, sizeof(slot->comm));
		a->label = slot->label;
	}
	pthread_mutex_unlock(&m->comm_lock);
	if (known)
		return;
	read_comm(pid, a->comm);
	label_of_process(pid, &a->label);
	pthread_mutex_lock(&m->comm_lock);
	slot->pid = pid;
	slot->read_ms = now;
	memcpy(slot->comm, a->comm, sizeof(slot->comm));
	slot->label = a->label;
	pthread_mutex_unlock(&m->comm_lock);
}

const struct ns_who *who_asks(fuse_req_t req, struct asker *a)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	*a = (struct asker){ 0 };
	if (ctx->pid)
		read_process(mount_of(req), ctx->pid, a);
	a->who = (struct ns_who){
		.uid = ctx->uid,
		.gid = ctx->gid,
		.pid = (uint32_t)ctx->pid,
		.comm = a->comm,
		.umask = ctx->umask,
		.session = a->label.session,
		.message = a->label.message,
	};
	return &a->who;
}

/* ---- attributes and entries -------------------------------------------------------------------- */

static struct timespec timespec_of(int64_t ns)
{
	struct timespec ts = { ns / 1000000000, ns % 1000000000 };

	if (ts.tv_nsec < 0) {
		ts.tv_sec--;
		ts.tv_nsec += 1000000000;
	}
	return ts;
}

int64_t ns_of(struct timespec ts)
{
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void stat_of(uint64_t ino, const struct ns_attr *attr, struct stat *st)
{
	*st = (struct stat){
		.st_ino = ino,
		.st_mode = attr->mode,
		.st_nlink = attr->nlink,
		.st_uid = attr->uid,
		.st_gid = attr->gid,
		.st_rdev = attr->rdev,
		.st_size = (off_t)attr->size,
		.st_blocks = (blkcnt_t)((attr->alloc + 511) / 512),
		.st_blksize = 4096,
		.st_atim = timespec_of(attr->atime_ns),
		.st_mtim = timespec_of(attr->mtime_ns),
		.st_ctim = timespec_of(attr->ctime_ns),
	};
}

int node_getattr(struct mount *m, struct node *node, struct ns_attr *attr)
{
	return kind_of(node)->getattr(m, node, attr);
}

void own_attr(struct mount *m, uint32_t mode, struct ns_attr *attr)
{
	*attr = (struct ns_attr){
		.mode = mode,
		.uid = (uint32_t)m->owner,
		.nlink = S_ISDIR(mode) ? 2 : 1,
		.atime_ns = m->started_ns,
		.mtime_ns = m->started_ns,
		.ctime_ns = m->started_ns,
	};
}

void entry_of(struct mount *m, struct node *node, const struct ns_attr *attr, double timeout,
	      struct fuse_entry_param *e)
{
	*e = (struct fuse_entry_param){
		.ino = id_of(m, node),
		.attr_timeout = kind_of(node)->attr_moves ? 0 : FOREVER,
		.entry_timeout = timeout,
	};
	stat_of(stat_ino_of(node), attr, &e->attr);
}

int kind_entry(struct mount *m, enum node_kind kind, uint64_t ino, mvcc_rev_t rev, struct node *parent,
	       const char *name, double timeout, struct fuse_entry_param *e)
{
	struct node *node = node_get(&m->nodes, kind, ino, rev, parent, name);
	struct ns_attr attr;
	int err;

	if (!node)
		return -ENOMEM;
	err = node_getattr(m, node, &attr);
	if (err)
		node_forget(&m->nodes, node, 1);
	else
		entry_of(m, node, &attr, timeout, e);
	return err;
}

int tree_entry(struct mount *m, const struct node *dir, const struct ns_attr *attr,
	       struct fuse_entry_param *e)
{
	struct node *node = node_get(&m->nodes, dir->kind, attr->ino, dir->rev, NULL, NULL);

	if (!node)
		return -ENOMEM;
	entry_of(m, node, attr, FOREVER, e);
	return 0;
}

void forget_entry(struct mount *m, const struct fuse_entry_param *e)
{
	node_forget(&m->nodes, e->ino == FUSE_ROOT_ID ? m->nodes.root : (struct node *)(uintptr_t)e->ino, 1);
}

void reply_entry(fuse_req_t req, int err, const struct fuse_entry_param *e)
{
	struct mount *m = mount_of(req);

	if (err)
		reply_err(req, err);
	else if (fuse_reply_entry(req, e) == -ENOENT)
		forget_entry(m, e);
}

void reply_tree_entry(fuse_req_t req, const struct node *dir, int err, const struct ns_attr *attr)
{
	struct fuse_entry_param e;

	if (!err)
		err = tree_entry(mount_of(req), dir, attr, &e);
	reply_entry(req, err, &e);
}

/* ---- names ------------------------------------------------------------------------------------- */

/* Those at the front are in every directory, the others at the root only. */
static const struct {
	const char *name; /* NULL: what the mount calls @rev */
	enum node_kind kind;
	bool everywhere;
} own_names[] = {
	{ NULL, NODE_REVDIR, true },    { "@history", NODE_HISTDIR, true }, { "@watch", NODE_WATCH, true },
	{ "@tag", NODE_TAGDIR, false }, { "@txn", NODE_TXNS, false },       { "@status", NODE_STATUS, false },
	{ "@ctl", NODE_CTL, false },
};

const char *own_name(struct mount *m, const struct node *dir, unsigned i, enum node_kind *kind, uint64_t *ino)
{
	if (i >= sizeof(own_names) / sizeof(own_names[0]))
		return NULL;
	if (!tree_of(dir) || (!own_names[i].everywhere && dir->ino != NS_ROOT))
		return NULL;
	*kind = own_names[i].kind;
	*ino = own_names[i].everywhere ? dir->ino : 0;
	return own_names[i].name ? own_names[i].name : m->config->revname;
}

bool reserved(struct mount *m, const struct node *dir, const char *name)
{
	enum node_kind kind;
	const char *own;
	uint64_t ino;

	for (unsigned i = 0; (own = own_name(m, dir, i, &kind, &ino)); i++)
		if (strcmp(name, own) == 0)
			return true;
	return txn_reserved(dir, name);
}

int lookup(struct mount *m, struct node *dir, const char *name, struct fuse_entry_param *e)
{
	if (strlen(name) > NS_NAME_MAX)
		return -ENAMETOOLONG;
	return kind_of(dir)->lookup ? kind_of(dir)->lookup(m, dir, name, e) : -ENOTDIR;
}
