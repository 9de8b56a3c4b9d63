/*
 * One handler a request: decode, call the namespace, reply once.
 *
 * Requests that may have to wait are parked, never the thread they came on: libfuse has few threads,
 * and the kernel may need one to go on with the very thing that is waited for. A change that finds
 * the ring full is put aside whole (struct call) and run by a thread of its own when there is room;
 * fsync is answered from the store's sync thread.
 *
 * The mount is the only writer, so what the kernel has been told stays true until it changes it
 * itself: entries, attributes, absent names and pages never expire. The exceptions are names in @rev
 * that move (`head`), and @rev's and @ctl's own doings.
 */
#define FUSE_USE_VERSION 312

#include <fuse_lowlevel.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <syslog.h>
#include <unistd.h>

#include "fs/mount.h"
#include "fs/node.h"
#include "fs/past.h"
#include "fs/query.h"

#define FOREVER 1e8 /* seconds */
#define XATTR_PREFIX "user.mvccfs."

enum { WRITE_MAX = 1 << 20, COMM_SLOTS = 256, COMM_MS = 1000 };

struct comm_slot {
	pid_t pid;
	int64_t read_ms;
	char comm[32];
};

struct call;

struct mount {
	const struct mount_config *config;
	struct mvcc *db;
	struct ns *ns;
	struct fuse_session *session;
	struct node_table nodes;
	int64_t started_ns;
	uid_t owner;
	int db_fd; /* the directory of the database, for statfs */
	bool ready_told;

	pthread_mutex_t comm_lock;
	struct comm_slot comms[COMM_SLOTS]; /* comm_lock */

	pthread_mutex_t park_lock;
	pthread_cond_t park_wake;
	struct call *parked, **parked_end; /* park_lock, as the rest */
	bool room_asked, stop;
	pthread_t parker;
	unsigned nwaits;           /* park_lock; completions the store owes us */
	pthread_cond_t waits_over; /* nwaits is 0 */
	_Atomic uint64_t nparked;  /* calls put aside, ever */
};

/* What an open file or directory is, behind fi->fh. */
struct handle {
	pthread_mutex_t lock;   /* directories and @ctl: guards what moves on */
	struct ns_file *file;   /* live files */
	bool sync;              /* O_SYNC or O_DSYNC */
	struct mvcc_view *view; /* of a past directory */
	struct ns_dir *dir;
	bool dir_used;
	struct past_names past; /* @rev: what it lists */
	struct buf reply;       /* @ctl */
	size_t reply_at;
};

static struct mount *mount_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static struct node *node_of(fuse_req_t req, fuse_ino_t id)
{
	return id == FUSE_ROOT_ID ? mount_of(req)->nodes.root : (struct node *)(uintptr_t)id;
}

static fuse_ino_t id_of(struct mount *m, struct node *node)
{
	return node == m->nodes.root ? FUSE_ROOT_ID : (fuse_ino_t)(uintptr_t)node;
}

static void reply_err(fuse_req_t req, int err)
{
	fuse_reply_err(req, -mvcc_errno(err));
}

/* ---- who asks ---------------------------------------------------------------------------------- */

/* Reading /proc costs more than a commit, so names are believed for a second. */
static void comm_of(struct mount *m, pid_t pid, char out[32])
{
	struct comm_slot *slot = &m->comms[(unsigned)pid % COMM_SLOTS];
	int64_t now = ns_time_ms();
	char path[48];
	ssize_t n = 0;
	int fd;

	pthread_mutex_lock(&m->comm_lock);
	if (slot->pid == pid && now - slot->read_ms < COMM_MS) {
		memcpy(out, slot->comm, sizeof(slot->comm));
		pthread_mutex_unlock(&m->comm_lock);
		return;
	}
	pthread_mutex_unlock(&m->comm_lock);
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
	pthread_mutex_lock(&m->comm_lock);
	slot->pid = pid;
	slot->read_ms = now;
	memcpy(slot->comm, out, sizeof(slot->comm));
	pthread_mutex_unlock(&m->comm_lock);
}

struct asker {
	struct ns_who who;
	char comm[32];
};

static const struct ns_who *who_asks(fuse_req_t req, struct asker *a)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	memset(a->comm, 0, sizeof(a->comm));
	if (ctx->pid)
		comm_of(mount_of(req), ctx->pid, a->comm);
	a->who = (struct ns_who){ ctx->uid, ctx->gid, (uint32_t)ctx->pid, a->comm };
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

static int64_t ns_of(struct timespec ts)
{
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void stat_of(uint64_t ino, const struct ns_attr *attr, struct stat *st)
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

static enum node_kind past_kind(const struct ns_attr *attr)
{
	return S_ISDIR(attr->mode) ? NODE_PAST_DIR : NODE_PAST_FILE;
}

/* The number of what a node shows; `attr` is what was read of it. */
static uint64_t stat_ino_of(const struct node *node)
{
	return node_stat_ino(node->kind, node->ino, node->rev);
}

/*
 * The attributes of any node.
 *
 * A live node whose inode is not there has lost its last name. If we have not been told so yet, the
 * rename or unlink that did it is about to return: ESTALE makes the kernel look the name up again.
 */
static int node_getattr(struct mount *m, struct node *node, struct ns_attr *attr)
{
	struct mvcc_view *view;
	struct ns_gone gone;
	int err;

	switch (node->kind) {
	case NODE_LIVE:
		err = ns_getattr(m->ns, node->ino, attr);
		if (err != -ENOENT)
			return err;
		gone = node_gone(&m->nodes, node);
		return gone.rev ? ns_gone_getattr(m->ns, gone, attr) : -ESTALE;
	case NODE_REVDIR:
		err = ns_getattr(m->ns, node->ino, attr);
		attr->mode = S_IFDIR | 0555;
		attr->nlink = 2;
		attr->size = attr->alloc = 0;
		attr->atime_ns = attr->mtime_ns = attr->ctime_ns = attr->btime_ns;
		return err;
	case NODE_CTL:
		*attr = (struct ns_attr){
			.mode = S_IFREG | 0600,
			.uid = (uint32_t)m->owner,
			.nlink = 1,
			.atime_ns = m->started_ns,
			.mtime_ns = m->started_ns,
			.ctime_ns = m->started_ns,
		};
		return 0;
	case NODE_PAST_DIR:
	case NODE_PAST_FILE:
		break;
	}
	err = mvcc_view_open(m->db, node->rev, &view);
	if (err)
		return err;
	err = ns_at_getattr(view, node->ino, attr);
	mvcc_view_close(view);
	return err;
}

static void entry_of(struct mount *m, struct node *node, const struct ns_attr *attr, double timeout,
		     struct fuse_entry_param *e)
{
	*e = (struct fuse_entry_param){
		.ino = id_of(m, node),
		.attr_timeout = FOREVER,
		.entry_timeout = timeout,
	};
	stat_of(stat_ino_of(node), attr, &e->attr);
}

/* An entry for a live inode just looked up or made; counts a lookup. */
static int live_entry(struct mount *m, const struct ns_attr *attr, struct fuse_entry_param *e)
{
	struct node *node = node_get(&m->nodes, NODE_LIVE, attr->ino, 0, NULL, NULL);

	if (!node)
		return -ENOMEM;
	entry_of(m, node, attr, FOREVER, e);
	return 0;
}

/* Takes back a lookup whose reply nobody was there to take. The request is gone by then. */
static void forget_entry(struct mount *m, const struct fuse_entry_param *e)
{
	node_forget(&m->nodes, e->ino == FUSE_ROOT_ID ? m->nodes.root : (struct node *)(uintptr_t)e->ino, 1);
}

static void reply_live_entry(fuse_req_t req, int err, const struct ns_attr *attr)
{
	struct mount *m = mount_of(req);
	struct fuse_entry_param e;

	if (!err)
		err = live_entry(m, attr, &e);
	if (err)
		reply_err(req, err);
	else if (fuse_reply_entry(req, &e) == -ENOENT)
		forget_entry(m, &e);
}

static void reply_absent(fuse_req_t req)
{
	struct fuse_entry_param e = { .entry_timeout = FOREVER };

	fuse_reply_entry(req, &e);
}

/* ---- names that are ours ----------------------------------------------------------------------- */

static bool at_root(const struct node *dir)
{
	return dir->kind == NODE_LIVE && dir->ino == NS_ROOT;
}

/* May nothing be called so in that directory? */
static bool reserved(struct mount *m, const struct node *dir, const char *name)
{
	static const char *const everywhere[] = { "@history", "@watch" };
	static const char *const root_only[] = { "@tag", "@txn", "@status", "@ctl" };

	if (strcmp(name, m->config->revname) == 0)
		return true;
	for (unsigned i = 0; i < sizeof(everywhere) / sizeof(everywhere[0]); i++)
		if (strcmp(name, everywhere[i]) == 0)
			return true;
	for (unsigned i = 0; at_root(dir) && i < sizeof(root_only) / sizeof(root_only[0]); i++)
		if (strcmp(name, root_only[i]) == 0)
			return true;
	return false;
}

/* May a name be made, removed or changed in `dir`? */
static int need_writable(struct mount *m, const struct node *dir, const char *name)
{
	if (dir->kind != NODE_LIVE)
		return -EROFS;
	if (name && strlen(name) > NS_NAME_MAX)
		return -ENAMETOOLONG;
	return name && reserved(m, dir, name) ? -EPERM : 0;
}

/* ---- lookup ------------------------------------------------------------------------------------ */

/* What stood at revision `rev` as inode `ino`; for a directory known as `name` in node `parent`. */
static int past_entry(struct mount *m, struct mvcc_view *view, uint64_t ino, struct node *parent,
		      const char *name, double timeout, struct fuse_entry_param *e)
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
	entry_of(m, node, &attr, timeout, e);
	return 0;
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

static int virtual_entry(struct mount *m, enum node_kind kind, uint64_t ino, struct fuse_entry_param *e)
{
	struct node *node = node_get(&m->nodes, kind, ino, 0, NULL, NULL);
	struct ns_attr attr;
	int err;

	if (!node)
		return -ENOMEM;
	err = node_getattr(m, node, &attr);
	if (err)
		node_forget(&m->nodes, node, 1);
	else
		entry_of(m, node, &attr, FOREVER, e);
	return err;
}

static int lookup(struct mount *m, struct node *dir, const char *name, struct fuse_entry_param *e)
{
	struct ns_attr attr;
	int err;

	if (strlen(name) > NS_NAME_MAX)
		return -ENAMETOOLONG;
	switch (dir->kind) {
	case NODE_REVDIR:
		return revdir_lookup(m, dir, name, e);
	case NODE_PAST_DIR:
		return past_lookup(m, dir, name, e);
	case NODE_LIVE:
		break;
	case NODE_PAST_FILE:
	case NODE_CTL:
		return -ENOTDIR;
	}
	if (reserved(m, dir, name)) {
		if (strcmp(name, m->config->revname) == 0 && m->config->revdir != REVDIR_DISABLED)
			return virtual_entry(m, NODE_REVDIR, dir->ino, e);
		if (at_root(dir) && strcmp(name, "@ctl") == 0)
			return virtual_entry(m, NODE_CTL, 0, e);
		return -ENOENT;
	}
	err = ns_lookup(m->ns, dir->ino, slice_str(name), &attr);
	return err ? err : live_entry(m, &attr, e);
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
	} else if (err == -ENOENT && dir->kind != NODE_REVDIR) {
		reply_absent(req);
	} else {
		reply_err(req, err); /* @rev/42 may come to be: not kept by the kernel */
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
	struct ns_attr attr;
	struct stat st;
	int err = node_getattr(mount_of(req), node, &attr);

	(void)fi;
	if (err) {
		reply_err(req, err);
		return;
	}
	stat_of(stat_ino_of(node), &attr, &st);
	fuse_reply_attr(req, &st, FOREVER);
}

/* Both permissions: the kernel has asked those shown, this asks today's. */
static int need_readable(fuse_req_t req, struct mvcc_view *view, uint64_t ino)
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

static void op_readlink(fuse_req_t req, fuse_ino_t id)
{
	struct mount *m = mount_of(req);
	struct node *node = node_of(req, id);
	struct mvcc_view *view = NULL;
	struct buf target = { 0 };
	int err;

	if (node->kind == NODE_LIVE) {
		err = ns_readlink(m->ns, node->ino, &target);
	} else {
		err = mvcc_view_open(m->db, node->rev, &view);
		if (!err)
			err = need_readable(req, view, node->ino);
		if (!err)
			err = ns_at_readlink(view, node->ino, &target);
		mvcc_view_close(view);
	}
	if (!err)
		err = buf_put_u8(&target, 0);
	if (err)
		reply_err(req, err);
	else
		fuse_reply_readlink(req, (char *)target.data);
	buf_release(&target);
}

/* ---- changes: put aside whole while the ring is full ------------------------------------------- */

/* One change as the kernel asked for it. Strings and bytes are borrowed, until parked: then owned. */
struct call {
	void (*run)(struct call *c);
	struct call *next;
	fuse_req_t req;
	struct node *node, *node2; /* the request holds them: the kernel forgets nothing in use */
	const char *name, *name2;
	const void *data;
	size_t len;
	uint32_t mode;
	uint64_t rdev;
	unsigned flags;
	struct ns_attr set;
	unsigned what;
	struct fuse_file_info fi;
};

static void *copy_bytes(const void *data, size_t len)
{
	void *copy = data ? malloc(len ? len : 1) : NULL;

	if (copy && len)
		memcpy(copy, data, len);
	return copy;
}

static void call_free(struct call *c)
{
	free((void *)(uintptr_t)c->name);
	free((void *)(uintptr_t)c->name2);
	free((void *)(uintptr_t)c->data);
	free(c);
}

static struct call *call_copy(const struct call *c)
{
	struct call *copy = malloc(sizeof(*copy));

	if (!copy)
		return NULL;
	*copy = *c;
	copy->next = NULL;
	copy->name = copy_bytes(c->name, c->name ? strlen(c->name) + 1 : 0);
	copy->name2 = copy_bytes(c->name2, c->name2 ? strlen(c->name2) + 1 : 0);
	copy->data = copy_bytes(c->data, c->len);
	if ((c->name && !copy->name) || (c->name2 && !copy->name2) || (c->data && !copy->data)) {
		call_free(copy);
		return NULL;
	}
	return copy;
}

/* The store has given a completion it owed. Caller holds park_lock. */
static void wait_over_locked(struct mount *m)
{
	if (--m->nwaits == 0)
		pthread_cond_broadcast(&m->waits_over);
}

/* Called by the store, from one of its threads: only wakes the one that runs what is parked. */
static void room_again(void *arg)
{
	struct mount *m = arg;

	pthread_mutex_lock(&m->park_lock);
	m->room_asked = false;
	pthread_cond_signal(&m->park_wake);
	wait_over_locked(m);
	pthread_mutex_unlock(&m->park_lock);
}

static void *parker_main(void *arg)
{
	struct mount *m = arg;

	pthread_mutex_lock(&m->park_lock);
	while (!m->stop || m->parked) {
		struct call *c = m->parked;

		if (!c) {
			pthread_cond_wait(&m->park_wake, &m->park_lock);
			continue;
		}
		if (!m->stop && !mvcc_has_room(m->db)) {
			if (!m->room_asked) {
				m->room_asked = true;
				m->nwaits++;
				pthread_mutex_unlock(&m->park_lock);
				if (mvcc_on_room(m->db, room_again, m))
					room_again(m);
				pthread_mutex_lock(&m->park_lock);
			} else {
				pthread_cond_wait(&m->park_wake, &m->park_lock);
			}
			continue;
		}
		m->parked = c->next;
		if (!m->parked)
			m->parked_end = &m->parked;
		pthread_mutex_unlock(&m->park_lock);
		c->run(c);
		call_free(c);
		pthread_mutex_lock(&m->park_lock);
	}
	pthread_mutex_unlock(&m->park_lock);
	return NULL;
}

/* Runs a change now if the ring has room for it, else later. */
static void dispatch(struct call *c)
{
	struct mount *m = mount_of(c->req);
	struct call *copy;

	if (mvcc_has_room(m->db)) {
		c->run(c);
		return;
	}
	copy = call_copy(c);
	if (!copy) {
		reply_err(c->req, -ENOMEM);
		return;
	}
	pthread_mutex_lock(&m->park_lock);
	m->nparked++;
	*m->parked_end = copy;
	m->parked_end = &copy->next;
	pthread_cond_signal(&m->park_wake);
	pthread_mutex_unlock(&m->park_lock);
}

static void run_setattr(struct call *c)
{
	struct mount *m = mount_of(c->req);
	struct ns_attr attr;
	struct asker asker;
	struct stat st;
	int err;

	err = ns_setattr(m->ns, who_asks(c->req, &asker), c->node->ino, &c->set, c->what, c->flags, &attr);
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
	struct timespec now;

	if (c.node->kind == NODE_CTL && !(to_set & ~(FUSE_SET_ATTR_SIZE | FUSE_SET_ATTR_MTIME_NOW |
						     FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_CTIME))) {
		op_getattr(req, id, fi); /* "echo request > @ctl" truncates first */
		return;
	}
	if (c.node->kind != NODE_LIVE) {
		reply_err(req, c.node->kind == NODE_CTL ? -EPERM : -EROFS);
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

/* Replies and says true if nothing called `name` may be made, removed or changed in `dir`. */
static bool refused(fuse_req_t req, const struct node *dir, const char *name)
{
	int err = need_writable(mount_of(req), dir, name);

	if (err)
		reply_err(req, err);
	return err != 0;
}

static void dispatch_name(struct call *c)
{
	if (!refused(c->req, c->node, c->name))
		dispatch(c);
}

static void run_mknod(struct call *c)
{
	struct ns_attr attr = { 0 };
	struct asker asker;
	int err = ns_mknod(mount_of(c->req)->ns, who_asks(c->req, &asker), c->node->ino, slice_str(c->name),
			   c->mode, c->rdev, &attr);

	reply_live_entry(c->req, err, &attr);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct call c = {
		.run = run_mknod,
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
	int err = ns_mkdir(mount_of(c->req)->ns, who_asks(c->req, &asker), c->node->ino, slice_str(c->name),
			   c->mode, &attr);

	reply_live_entry(c->req, err, &attr);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct call c = {
		.run = run_mkdir,
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
	int err = ns_symlink(mount_of(c->req)->ns, who_asks(c->req, &asker), c->node->ino, slice_str(c->name),
			     slice_str(c->data), &attr);

	reply_live_entry(c->req, err, &attr);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct call c = {
		.run = run_symlink,
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
	int err = ns_link(mount_of(c->req)->ns, who_asks(c->req, &asker), c->node2->ino, c->node->ino,
			  slice_str(c->name), &attr);

	reply_live_entry(c->req, err, &attr);
}

static void op_link(fuse_req_t req, fuse_ino_t id, fuse_ino_t newparent, const char *newname)
{
	struct call c = {
		.run = run_link,
		.req = req,
		.node = node_of(req, newparent),
		.node2 = node_of(req, id),
		.name = newname,
	};

	if (!refused(req, c.node2, NULL))
		dispatch_name(&c);
}

static void run_unlink(struct call *c)
{
	struct mount *m = mount_of(c->req);
	struct ns_gone gone = { 0 };
	struct asker asker;
	int err = ns_unlink(m->ns, who_asks(c->req, &asker), c->node->ino, slice_str(c->name), &gone);

	if (!err)
		node_set_gone(&m->nodes, gone);
	reply_err(c->req, err);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct call c = { .run = run_unlink, .req = req, .node = node_of(req, parent), .name = name };

	dispatch_name(&c);
}

static void run_rmdir(struct call *c)
{
	struct mount *m = mount_of(c->req);
	struct ns_gone gone = { 0 };
	struct asker asker;
	int err = ns_rmdir(m->ns, who_asks(c->req, &asker), c->node->ino, slice_str(c->name), &gone);

	if (!err)
		node_set_gone(&m->nodes, gone);
	reply_err(c->req, err);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct call c = { .run = run_rmdir, .req = req, .node = node_of(req, parent), .name = name };

	dispatch_name(&c);
}

static void run_rename(struct call *c)
{
	struct mount *m = mount_of(c->req);
	struct ns_gone gone = { 0 };
	struct asker asker;
	int err = ns_rename(m->ns, who_asks(c->req, &asker), c->node->ino, slice_str(c->name), c->node2->ino,
			    slice_str(c->name2), c->flags, &gone);

	if (!err)
		node_set_gone(&m->nodes, gone);
	reply_err(c->req, err);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		      const char *newname, unsigned flags)
{
	struct call c = {
		.run = run_rename,
		.req = req,
		.node = node_of(req, parent),
		.name = name,
		.node2 = node_of(req, newparent),
		.name2 = newname,
		.flags = flags,
	};

	if (!refused(req, c.node2, newname))
		dispatch_name(&c);
}

/* ---- open files -------------------------------------------------------------------------------- */

static struct handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh;
}

static struct handle *handle_new(struct fuse_file_info *fi)
{
	struct handle *h = calloc(1, sizeof(*h));

	if (h) {
		pthread_mutex_init(&h->lock, NULL);
		h->sync = fi->flags & (O_SYNC | O_DSYNC);
		fi->fh = (uintptr_t)h;
	}
	return h;
}

static void handle_free(struct handle *h)
{
	ns_dir_close(h->dir);
	mvcc_view_close(h->view);
	past_names_release(&h->past);
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
	int err = h ? 0 : -ENOMEM;

	if (!err)
		err = ns_create(m->ns, who_asks(c->req, &asker), c->node->ino, slice_str(c->name), c->mode,
				&h->file, &attr);
	if (!err) {
		err = live_entry(m, &attr, &e);
		if (err)
			ns_file_close(h->file);
	}
	if (err) {
		if (h)
			handle_free(h);
		reply_err(c->req, err);
		return;
	}
	c->fi.keep_cache = 1;
	if (fuse_reply_create(c->req, &e, &c->fi) == -ENOENT) {
		/* The caller was interrupted: nobody will close this. */
		ns_file_close(h->file);
		handle_free(h);
		forget_entry(m, &e);
	}
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	struct call c = {
		.run = run_create,
		.req = req,
		.node = node_of(req, parent),
		.name = name,
		.mode = mode,
		.fi = *fi,
	};

	dispatch_name(&c);
}

static int open_past_file(fuse_req_t req, struct node *node, struct fuse_file_info *fi)
{
	struct mvcc_view *view;
	int err;

	if ((fi->flags & O_ACCMODE) != O_RDONLY || fi->flags & O_TRUNC)
		return -EROFS;
	err = mvcc_view_open(mount_of(req)->db, node->rev, &view);
	if (err)
		return err;
	err = need_readable(req, view, node->ino);
	mvcc_view_close(view);
	return err;
}

static int open_live_file(fuse_req_t req, struct node *node, int flags, struct handle *h)
{
	struct mount *m = mount_of(req);
	unsigned how = (flags & O_ACCMODE) == O_RDONLY ? NS_OPEN_READ : NS_OPEN_WRITE;
	struct ns_gone gone = node_gone(&m->nodes, node);
	struct asker asker;
	int err;

	if (flags & O_TRUNC)
		how |= NS_OPEN_TRUNC;
	err = ns_file_open(m->ns, who_asks(req, &asker), node->ino, how, gone, &h->file);
	if (err != -ENOENT || gone.rev)
		return err;
	/* It went between the two: as node_getattr() has it. */
	gone = node_gone(&m->nodes, node);
	return gone.rev ? ns_file_open(m->ns, &asker.who, node->ino, how, gone, &h->file) : -ESTALE;
}

static void op_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct node *node = node_of(req, id);
	struct handle *h = handle_new(fi);
	int err = h ? 0 : -ENOMEM;

	if (err) {
		reply_err(req, err);
		return;
	}
	fi->keep_cache = 1;
	switch (node->kind) {
	case NODE_LIVE:
		err = open_live_file(req, node, fi->flags, h);
		fi->noflush = (fi->flags & O_ACCMODE) == O_RDONLY;
		break;
	case NODE_PAST_FILE:
		err = open_past_file(req, node, fi);
		fi->noflush = 1;
		break;
	case NODE_CTL:
		fi->direct_io = 1;
		fi->nonseekable = 1;
		fi->noflush = 1;
		break;
	case NODE_REVDIR:
	case NODE_PAST_DIR:
		err = -EISDIR;
		break;
	}
	if (err) {
		handle_free(h);
		reply_err(req, err);
	} else if (fuse_reply_open(req, fi) == -ENOENT) {
		if (h->file)
			ns_file_close(h->file);
		handle_free(h);
	}
}

static ssize_t ctl_read(struct handle *h, void *out, size_t len)
{
	size_t n;

	pthread_mutex_lock(&h->lock);
	n = h->reply.len - h->reply_at;
	if (n > len)
		n = len;
	if (n)
		memcpy(out, h->reply.data + h->reply_at, n);
	h->reply_at += n;
	pthread_mutex_unlock(&h->lock);
	return (ssize_t)n;
}

static void op_read(fuse_req_t req, fuse_ino_t id, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct mount *m = mount_of(req);
	struct node *node = node_of(req, id);
	struct handle *h = handle_of(fi);
	struct mvcc_view *view;
	char *data = malloc(size);
	ssize_t n = -ENOMEM;

	if (data && node->kind == NODE_LIVE) {
		n = ns_file_read(h->file, (uint64_t)off, data, size);
	} else if (data && node->kind == NODE_CTL) {
		n = ctl_read(h, data, size);
	} else if (data) {
		n = mvcc_view_open(m->db, node->rev, &view);
		if (!n) {
			n = ns_at_read(m->db, view, node->ino, (uint64_t)off, data, size);
			mvcc_view_close(view);
		}
	}
	if (n < 0)
		reply_err(req, (int)n);
	else
		fuse_reply_buf(req, data, (size_t)n);
	free(data);
}

/*
 * A request that waits for the disk, answered from the store's sync thread. As on any disk it is not
 * interrupted: there are databases for which an fsync that failed, also with EINTR, is the end.
 */
struct sync_wait {
	struct mount *m;
	fuse_req_t req;
	size_t written; /* of a write; 0 for fsync */
};

static void sync_done(void *arg, int err)
{
	struct sync_wait *w = arg;
	struct mount *m = w->m;

	if (!err && w->written)
		fuse_reply_write(w->req, w->written);
	else
		reply_err(w->req, err);
	free(w);
	pthread_mutex_lock(&m->park_lock);
	wait_over_locked(m);
	pthread_mutex_unlock(&m->park_lock);
}

static void reply_when_synced(fuse_req_t req, mvcc_rev_t rev, size_t written)
{
	struct mount *m = mount_of(req);
	struct sync_wait *w = malloc(sizeof(*w));
	int err;

	if (!w) {
		reply_err(req, -ENOMEM);
		return;
	}
	*w = (struct sync_wait){ .m = m, .req = req, .written = written };
	pthread_mutex_lock(&m->park_lock);
	m->nwaits++;
	pthread_mutex_unlock(&m->park_lock);
	err = mvcc_sync_async(m->db, rev, sync_done, w);
	if (err)
		sync_done(w, err);
}

static void run_write(struct call *c)
{
	struct handle *h = handle_of(&c->fi);
	struct asker asker;
	mvcc_rev_t rev = 0;
	int err;

	err = ns_file_write(h->file, who_asks(c->req, &asker), c->rdev, c->data, c->len);
	if (!err && h->sync)
		err = ns_file_commit(h->file, &rev);
	if (err)
		reply_err(c->req, err);
	else if (h->sync)
		reply_when_synced(c->req, rev, c->len);
	else
		fuse_reply_write(c->req, c->len);
}

static void ctl_write(fuse_req_t req, struct handle *h, const char *data, size_t len)
{
	struct mount *m = mount_of(req);
	struct query_env env = {
		.db = m->db,
		.ns = m->ns,
		.db_path = m->config->db_path,
		.mountpoint = m->config->mountpoint,
		.revname = m->config->revdir == REVDIR_DISABLED ? NULL : m->config->revname,
		.started_ns = m->started_ns,
		.nodes = node_count(&m->nodes),
		.parked = m->nparked,
		.pid = (unsigned)getpid(),
		.uid = fuse_req_ctx(req)->uid,
		.owner = m->owner,
	};
	int err;

	if (len > QUERY_REQUEST_MAX) {
		reply_err(req, -EMSGSIZE);
		return;
	}
	pthread_mutex_lock(&h->lock);
	buf_clear(&h->reply);
	h->reply_at = 0;
	err = query_answer(&env, slice_of(data, len), &h->reply);
	pthread_mutex_unlock(&h->lock);
	if (err)
		reply_err(req, err);
	else
		fuse_reply_write(req, len);
}

static void op_write(fuse_req_t req, fuse_ino_t id, const char *data, size_t len, off_t off,
		     struct fuse_file_info *fi)
{
	struct node *node = node_of(req, id);
	struct call c = {
		.run = run_write,
		.req = req,
		.node = node,
		.data = data,
		.len = len,
		.rdev = (uint64_t)off,
		.fi = *fi,
	};

	if (node->kind == NODE_CTL)
		ctl_write(req, handle_of(fi), data, len);
	else if (node->kind != NODE_LIVE)
		reply_err(req, -EROFS);
	else if (handle_of(fi)->sync)
		dispatch(&c);
	else
		run_write(&c); /* commits nothing: needs no room in the ring */
}

static void run_flush(struct call *c)
{
	reply_err(c->req, ns_file_flush(handle_of(&c->fi)->file));
}

static void op_flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct call c = { .run = run_flush, .req = req, .node = node_of(req, id), .fi = *fi };

	if (handle_of(fi)->file)
		dispatch(&c);
	else
		reply_err(req, 0);
}

static void run_release(struct call *c)
{
	struct handle *h = handle_of(&c->fi);

	if (h->file)
		ns_file_close(h->file); /* close(2) has had its answer by FLUSH; a failure is logged */
	handle_free(h);
	reply_err(c->req, 0);
}

static void op_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct call c = { .run = run_release, .req = req, .node = node_of(req, id), .fi = *fi };

	dispatch(&c);
}

static void run_fsync(struct call *c)
{
	mvcc_rev_t rev = MVCC_REV_LATEST;
	int err = ns_file_commit(handle_of(&c->fi)->file, &rev);

	if (err)
		reply_err(c->req, err);
	else
		reply_when_synced(c->req, rev, 0);
}

static void op_fsync(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi)
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

static void op_fsyncdir(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi)
{
	struct call c = { .run = run_fsyncdir, .req = req, .node = node_of(req, id), .fi = *fi };

	(void)datasync;
	if (c.node->kind == NODE_LIVE)
		dispatch(&c);
	else
		reply_err(req, 0);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t id, int mode, off_t off, off_t len,
			 struct fuse_file_info *fi)
{
	struct asker asker;

	if (node_of(req, id)->kind != NODE_LIVE)
		reply_err(req, -EROFS);
	else
		reply_err(req, ns_file_allocate(handle_of(fi)->file, who_asks(req, &asker), mode,
						(uint64_t)off, (uint64_t)len));
}

static void op_lseek(fuse_req_t req, fuse_ino_t id, off_t off, int whence, struct fuse_file_info *fi)
{
	struct mount *m = mount_of(req);
	struct node *node = node_of(req, id);
	struct mvcc_view *view;
	uint64_t at = 0;
	int err;

	if (node->kind == NODE_LIVE) {
		err = ns_file_seek(handle_of(fi)->file, (uint64_t)off, whence, &at);
	} else if (node->kind == NODE_PAST_FILE) {
		err = mvcc_view_open(m->db, node->rev, &view);
		if (!err) {
			err = ns_at_seek(view, node->ino, (uint64_t)off, whence, &at);
			mvcc_view_close(view);
		}
	} else {
		err = -EINVAL;
	}
	if (err)
		reply_err(req, err);
	else
		fuse_reply_lseek(req, (off_t)at);
}

/* ---- directories ------------------------------------------------------------------------------- */

static int open_past_dir(fuse_req_t req, struct node *node, struct handle *h)
{
	int err = mvcc_view_open(mount_of(req)->db, node->rev, &h->view);

	if (!err)
		err = need_readable(req, h->view, node->ino);
	return err ? err : ns_at_opendir(h->view, node->ino, &h->dir);
}

static int open_revdir(struct mount *m, struct node *node, struct handle *h)
{
	struct buf path = { 0 };
	int err;

	err = ns_path(m->ns, node->ino, &path);
	if (!err)
		err = past_list(m->db, slice_buf(&path), &h->past);
	buf_release(&path);
	return err;
}

static int open_dir(fuse_req_t req, struct node *node, struct handle *h)
{
	struct mount *m = mount_of(req);

	switch (node->kind) {
	case NODE_LIVE:
		return ns_opendir(m->ns, node->ino, &h->dir);
	case NODE_REVDIR:
		return open_revdir(m, node, h);
	case NODE_PAST_DIR:
		return open_past_dir(req, node, h);
	case NODE_PAST_FILE:
	case NODE_CTL:
		break;
	}
	return -ENOTDIR;
}

static void op_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct handle *h = handle_new(fi);
	int err = h ? open_dir(req, node_of(req, id), h) : -ENOMEM;

	if (err) {
		if (h)
			handle_free(h);
		reply_err(req, err);
	} else if (fuse_reply_open(req, fi) == -ENOENT) {
		handle_free(h);
	}
}

static void op_releasedir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	(void)id;
	handle_free(handle_of(fi));
	reply_err(req, 0);
}

/* One line of a listing. `ino` is what stat will show. */
struct listed {
	char name[NS_NAME_MAX + 1];
	uint64_t ino;
	uint8_t type;
	bool entry; /* by this name something can be looked up: not "." nor ".." */
};

static uint64_t parent_stat_ino(struct mount *m, const struct node *dir)
{
	struct ns_attr attr;

	if (dir->kind == NODE_PAST_DIR && dir->parent)
		return stat_ino_of(dir->parent);
	if (dir->kind == NODE_REVDIR)
		return dir->ino;
	if (dir->kind == NODE_LIVE && !ns_getattr(m->ns, dir->ino, &attr))
		return attr.parent;
	return stat_ino_of(dir);
}

/* The names that `revdir=visible` lists at the root. */
static const char *visible_name(struct mount *m, const struct node *dir, uint64_t i)
{
	if (m->config->revdir != REVDIR_VISIBLE || !at_root(dir))
		return NULL;
	return i == 0 ? m->config->revname : i == 1 ? "@ctl" : NULL;
}

/* The number a past file has, which depends on the revision that made this version. */
static uint64_t past_child_ino(struct handle *h, const struct node *dir, const struct ns_dirent *d)
{
	struct ns_attr attr;

	if (ns_at_getattr(h->view, d->ino, &attr))
		return d->ino;
	return node_stat_ino(past_kind(&attr), d->ino, S_ISDIR(attr.mode) ? dir->rev : attr.rev);
}

/* Line number `pos` of a listing: 1, 0 at the end, or negative. */
static int list_at(struct mount *m, struct node *dir, struct handle *h, uint64_t pos, struct listed *out)
{
	struct ns_dirent d;
	const char *name;
	int got;

	*out = (struct listed){ .type = NS_TYPE_OF(S_IFDIR) };
	if (pos < 2) {
		strcpy(out->name, pos == 0 ? "." : "..");
		out->ino = pos == 0 ? stat_ino_of(dir) : parent_stat_ino(m, dir);
		return 1;
	}
	pos -= 2;
	out->entry = true;
	if (dir->kind == NODE_REVDIR) {
		if (pos >= h->past.n)
			return 0;
		memcpy(out->name, h->past.names[pos].text, sizeof(out->name));
		out->ino = node_stat_ino(NODE_PAST_DIR, dir->ino, h->past.names[pos].rev);
		return 1;
	}
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
	out->ino = dir->kind == NODE_LIVE ? d.ino : past_child_ino(h, dir, &d);
	return 1;
}

/* From the beginning again: then a listing shows what is there now. */
static int rewind_dir(fuse_req_t req, struct node *dir, struct handle *h)
{
	ns_dir_close(h->dir);
	h->dir = NULL;
	mvcc_view_close(h->view);
	h->view = NULL;
	past_names_release(&h->past);
	h->dir_used = false;
	return open_dir(req, dir, h);
}

static void list_dir(fuse_req_t req, fuse_ino_t id, size_t size, off_t off, struct fuse_file_info *fi,
		     bool plus)
{
	struct mount *m = mount_of(req);
	struct node *dir = node_of(req, id);
	struct handle *h = handle_of(fi);
	char *out = malloc(size);
	struct listed line;
	size_t used = 0;
	int got = out ? 1 : -ENOMEM;

	pthread_mutex_lock(&h->lock);
	if (got > 0 && off == 0 && h->dir_used)
		got = rewind_dir(req, dir, h);
	got = got == 0 ? 1 : got;
	h->dir_used = true;
	for (uint64_t pos = (uint64_t)off; got > 0; pos++) {
		struct fuse_entry_param e = { 0 };
		size_t need;

		got = list_at(m, dir, h, pos, &line);
		if (got <= 0)
			break;
		e.attr.st_ino = line.ino;
		e.attr.st_mode = (mode_t)line.type << 12;
		if (!plus) {
			need = fuse_add_direntry(req, out + used, size - used, line.name, &e.attr,
						 (off_t)(pos + 1));
		} else {
			/* Room first: an entry that is counted must be sent. */
			if (fuse_add_direntry_plus(req, NULL, 0, line.name, &e, 0) > size - used)
				break;
			if (line.entry) {
				int err = lookup(m, dir, line.name, &e);

				if (err == -ENOENT)
					continue; /* removed since */
				if (err)          /* shown, but nothing the kernel could keep */
					e = (struct fuse_entry_param){ .attr.st_ino = line.ino,
								       .attr.st_mode = (mode_t)line.type
										       << 12 };
			}
			need = fuse_add_direntry_plus(req, out + used, size - used, line.name, &e,
						      (off_t)(pos + 1));
		}
		if (need > size - used)
			break;
		used += need;
	}
	if (h->dir)
		ns_dir_pause(h->dir);
	pthread_mutex_unlock(&h->lock);
	if (got < 0 && used == 0)
		reply_err(req, got);
	else
		fuse_reply_buf(req, out, used);
	free(out);
}

static void op_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t off, struct fuse_file_info *fi)
{
	list_dir(req, id, size, off, fi, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t id, size_t size, off_t off, struct fuse_file_info *fi)
{
	list_dir(req, id, size, off, fi, true);
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

/* ---- xattrs ------------------------------------------------------------------------------------ */

static int author_of(struct mvcc *db, mvcc_rev_t rev, struct buf *out)
{
	const struct mvcc_entry *entry;
	struct mvcc_log *log;
	char text[128];
	int got = mvcc_log_open(db, rev, rev, &log);

	if (got)
		return got;
	got = mvcc_log_next(log, &entry);
	if (got > 0) {
		snprintf(text, sizeof(text), "uid=%u gid=%u pid=%u comm=%s", entry->story.uid,
			 entry->story.gid, entry->story.pid, entry->story.comm);
		got = buf_copy(out, slice_str(text));
	} else if (got == 0) {
		got = -ENODATA;
	}
	mvcc_log_close(log);
	return got;
}

/* What the store knows of a node, as text. */
static int own_xattr(struct mount *m, struct node *node, const char *name, struct buf *out)
{
	struct ns_attr attr;
	char text[32];
	uint64_t value;
	int err = node_getattr(m, node, &attr);

	if (err)
		return err;
	/* A view's directory answers with the view's revision: what `@rev/head` has become. */
	if (strcmp(name, "rev") == 0)
		value = node->kind == NODE_PAST_DIR ? node->rev : attr.rev;
	else if (strcmp(name, "create_rev") == 0)
		value = attr.create_rev;
	else if (strcmp(name, "version") == 0)
		value = attr.version;
	else if (strcmp(name, "author") == 0 && attr.rev)
		return author_of(m->db, attr.rev, out);
	else
		return -ENODATA;
	if (!value)
		return -ENODATA; /* not committed yet */
	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return buf_copy(out, slice_str(text));
}

static void reply_xattr(fuse_req_t req, int err, const struct buf *value, size_t size)
{
	if (err)
		reply_err(req, err);
	else if (size == 0)
		fuse_reply_xattr(req, value->len);
	else if (size < value->len)
		reply_err(req, -ERANGE);
	else
		fuse_reply_buf(req, (const char *)value->data, value->len);
}

static bool is_own_xattr(const char *name)
{
	return strncmp(name, XATTR_PREFIX, sizeof(XATTR_PREFIX) - 1) == 0;
}

static void op_getxattr(fuse_req_t req, fuse_ino_t id, const char *name, size_t size)
{
	struct mount *m = mount_of(req);
	struct node *node = node_of(req, id);
	struct mvcc_view *view = NULL;
	struct buf value = { 0 };
	int err = -ENODATA;

	if (is_own_xattr(name)) {
		if (node->kind != NODE_CTL && node->kind != NODE_REVDIR)
			err = own_xattr(m, node, name + sizeof(XATTR_PREFIX) - 1, &value);
	} else if (node->kind == NODE_LIVE) {
		err = ns_getxattr(m->ns, node->ino, name, &value);
	} else if (node->kind == NODE_PAST_DIR || node->kind == NODE_PAST_FILE) {
		err = mvcc_view_open(m->db, node->rev, &view);
		if (!err)
			err = need_readable(req, view, node->ino);
		if (!err)
			err = ns_at_getxattr(view, node->ino, name, &value);
		mvcc_view_close(view);
	}
	reply_xattr(req, err, &value, size);
	buf_release(&value);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t id, size_t size)
{
	struct mount *m = mount_of(req);
	struct node *node = node_of(req, id);
	struct mvcc_view *view = NULL;
	struct buf names = { 0 };
	int err = 0;

	if (node->kind == NODE_LIVE) {
		err = ns_listxattr(m->ns, node->ino, &names);
	} else if (node->kind == NODE_PAST_DIR || node->kind == NODE_PAST_FILE) {
		err = mvcc_view_open(m->db, node->rev, &view);
		if (!err)
			err = need_readable(req, view, node->ino);
		if (!err)
			err = ns_at_listxattr(view, node->ino, &names);
		mvcc_view_close(view);
	}
	if (!err && names.len > XATTR_LIST_MAX)
		err = -E2BIG;
	reply_xattr(req, err, &names, size);
	buf_release(&names);
}

static void run_setxattr(struct call *c)
{
	struct asker asker;

	reply_err(c->req, ns_setxattr(mount_of(c->req)->ns, who_asks(c->req, &asker), c->node->ino, c->name,
				      slice_of(c->data, c->len), (int)c->flags));
}

/* May this xattr be set or removed? */
static int need_xattr_writable(const struct node *node, const char *name)
{
	if (node->kind != NODE_LIVE)
		return node->kind == NODE_CTL ? -EPERM : -EROFS;
	if (is_own_xattr(name))
		return -EPERM;
	return strncmp(name, "system.", 7) == 0 ? -EOPNOTSUPP : 0;
}

static void op_setxattr(fuse_req_t req, fuse_ino_t id, const char *name, const char *value, size_t size,
			int flags)
{
	struct call c = {
		.run = run_setxattr,
		.req = req,
		.node = node_of(req, id),
		.name = name,
		.data = value,
		.len = size,
		.flags = (unsigned)flags,
	};
	int err = need_xattr_writable(c.node, name);

	if (err)
		reply_err(req, err);
	else
		dispatch(&c);
}

static void run_removexattr(struct call *c)
{
	struct asker asker;

	reply_err(c->req,
		  ns_removexattr(mount_of(c->req)->ns, who_asks(c->req, &asker), c->node->ino, c->name));
}

static void op_removexattr(fuse_req_t req, fuse_ino_t id, const char *name)
{
	struct call c = { .run = run_removexattr, .req = req, .node = node_of(req, id), .name = name };
	int err = need_xattr_writable(c.node, name);

	if (err)
		reply_err(req, err);
	else
		dispatch(&c);
}

/* ---- the session ------------------------------------------------------------------------------- */

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
	conn->max_write = WRITE_MAX;
	conn->max_readahead = WRITE_MAX;
	conn->max_background = 64;
	conn->congestion_threshold = 48;
	conn->time_gran = 1;
	if (!m->ready_told && m->config->ready)
		m->config->ready(m->config->ready_arg);
	m->ready_told = true;
}

static const struct fuse_lowlevel_ops ops = {
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
};

/*
 * SIGTERM and SIGINT unmount as umount(8) does, so that what the kernel still holds is written back
 * and served to the end. If somebody is busy in there, the mount point is freed and the session ended.
 */
struct signals {
	struct mount *m;
	pthread_t main_thread;
	atomic_bool done;
};

static int unmount(const char *mountpoint)
{
	pid_t pid;
	int status;

	if (geteuid() == 0)
		return umount2(mountpoint, 0) ? -errno : 0;
	pid = fork();
	if (pid == 0) {
		execlp("fusermount3", "fusermount3", "-u", "-q", "--", mountpoint, (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

static sigset_t ending_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	return set;
}

void mount_block_signals(void)
{
	sigset_t set = ending_signals();

	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void *signals_main(void *arg)
{
	struct signals *s = arg;
	sigset_t set = ending_signals();
	int sig;

	for (;;) {
		if (sigwait(&set, &sig) || atomic_load(&s->done))
			return NULL;
		if (unmount(s->m->config->mountpoint) == 0)
			continue; /* the session ends by itself, when the kernel is through */
		if (s->m->config->log)
			s->m->config->log(s->m->config->log_arg, LOG_WARNING,
					  "the mount is in use: leaving all the same, as asked");
		fuse_session_exit(s->m->session);
		pthread_kill(s->main_thread, SIGUSR2); /* wakes the loop */
	}
}

static void wake_up(int sig)
{
	(void)sig;
}

static int serve_loop(struct mount *m)
{
	struct fuse_loop_config *loop;
	int err;

	if (m->config->single_thread)
		return fuse_session_loop(m->session);
	loop = fuse_loop_cfg_create();
	if (!loop)
		return -ENOMEM;
	fuse_loop_cfg_set_clone_fd(loop, 0);
	err = fuse_session_loop_mt(m->session, loop);
	fuse_loop_cfg_destroy(loop);
	return err;
}

static int serve(struct mount *m)
{
	struct signals signals = { .m = m, .main_thread = pthread_self() };
	struct sigaction wake = { .sa_handler = wake_up };
	pthread_t thread;
	int err;

	sigaction(SIGUSR2, &wake, NULL);
	signal(SIGPIPE, SIG_IGN);
	err = -pthread_create(&m->parker, NULL, parker_main, m);
	if (err)
		return err;
	err = -pthread_create(&thread, NULL, signals_main, &signals);
	if (!err) {
		err = serve_loop(m);
		if (err > 0)
			err = 0; /* ended by a signal: as asked */
		atomic_store(&signals.done, true);
		pthread_kill(thread, SIGHUP);
		pthread_join(thread, NULL);
	}
	pthread_mutex_lock(&m->park_lock);
	m->stop = true;
	pthread_cond_signal(&m->park_wake);
	pthread_mutex_unlock(&m->park_lock);
	pthread_join(m->parker, NULL);
	pthread_mutex_lock(&m->park_lock);
	while (m->nwaits)
		pthread_cond_wait(&m->waits_over, &m->park_lock);
	pthread_mutex_unlock(&m->park_lock);
	return err;
}

static int session_new(struct mount *m)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	char fsname[4200];
	int err = 0;

	snprintf(fsname, sizeof(fsname), "-ofsname=%s", m->config->db_path);
	if (fuse_opt_add_arg(&args, m->config->program) || fuse_opt_add_arg(&args, "-odefault_permissions") ||
	    fuse_opt_add_arg(&args, "-osubtype=mvccfs") || fuse_opt_add_arg(&args, fsname) ||
	    (m->config->debug && fuse_opt_add_arg(&args, "-d")) ||
	    (m->config->root_rev && fuse_opt_add_arg(&args, "-oro")) ||
	    (m->config->fuse_options[0] &&
	     (fuse_opt_add_arg(&args, "-o") || fuse_opt_add_arg(&args, m->config->fuse_options))))
		err = -ENOMEM;
	if (!err) {
		m->session = fuse_session_new(&args, &ops, sizeof(ops), m);
		err = m->session ? 0 : -EINVAL;
	}
	fuse_opt_free_args(&args);
	return err;
}

int mount_serve(const struct mount_config *config)
{
	struct mount *m = calloc(1, sizeof(*m));
	int err;

	if (!m)
		return -ENOMEM;
	m->config = config;
	m->db = config->db;
	m->ns = config->ns;
	m->owner = geteuid();
	m->started_ns = ns_time_ns();
	m->parked_end = &m->parked;
	pthread_mutex_init(&m->comm_lock, NULL);
	pthread_mutex_init(&m->park_lock, NULL);
	pthread_cond_init(&m->park_wake, NULL);
	pthread_cond_init(&m->waits_over, NULL);
	m->db_fd = open(config->db_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	err = m->db_fd < 0 ? -errno : 0;
	if (!err)
		err = node_table_init(&m->nodes, config->root_rev ? NODE_PAST_DIR : NODE_LIVE,
				      config->root_rev);
	if (err)
		goto out;
	err = session_new(m);
	if (!err) {
		err = fuse_session_mount(m->session, config->mountpoint) ? -EIO : 0;
		if (!err) {
			err = serve(m);
			fuse_session_unmount(m->session);
		}
		fuse_session_destroy(m->session);
	}
	node_table_release(&m->nodes);
out:
	if (m->db_fd >= 0)
		close(m->db_fd);
	pthread_mutex_destroy(&m->comm_lock);
	pthread_mutex_destroy(&m->park_lock);
	pthread_cond_destroy(&m->park_wake);
	pthread_cond_destroy(&m->waits_over);
	free(m);
	return err;
}
