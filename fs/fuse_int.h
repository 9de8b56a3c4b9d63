/*
 * What the files that talk to the kernel share. Included by fs/fuse_*.c only: they alone know libfuse.
 *
 * fuse_ops.c has the handlers of files and names; what a node *is* stands in its kind's own file, as a table
 * of functions (struct kind): fuse_live.c the live tree, fuse_past.c revisions, fuse_ctl.c `@ctl`. A kind fills in what it
 * can do; what it leaves out is refused.
 */
#ifndef FS_FUSE_INT_H
#define FS_FUSE_INT_H

#define FUSE_USE_VERSION 312

#include <fuse_lowlevel.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "fs/label.h"
#include "fs/mount.h"
#include "fs/node.h"
#include "fs/past.h"

#define FOREVER 1e8 /* seconds */

enum { WRITE_MAX = 1 << 20, COMM_SLOTS = 256, COMM_MS = 1000 };

struct comm_slot {
	pid_t pid;
	int64_t read_ms;
	char comm[32];
	struct label label;
};

struct call;
struct ns_txn;
struct ns_txns;

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

	struct work *work;         /* fuse_work.c */
	struct teller *teller;     /* fuse_watch.c */
	struct notifier *notifier; /* fuse_notify.c */
	struct ns_txns *txns;      /* NULL when the past is mounted */
};

/* What an open file or directory is, behind fi->fh. */
struct handle {
	pthread_mutex_t lock;   /* directories and @ctl: guards what moves on */
	struct ns_file *file;   /* of a tree that can be changed */
	struct ns_txn *txn;     /* held; the one that the file is in */
	bool sync;              /* O_SYNC or O_DSYNC */
	_Atomic bool nonblock;  /* O_NONBLOCK, as fcntl(2) had it at the last read */
	struct mvcc_view *view; /* of a past directory */
	struct ns_dir *dir;
	bool dir_used;
	void *own; /* the kind's; freed by `free_own` (NULL: there is none) */
	void (*free_own)(void *own);
	struct buf
		reply; /* of a file whose content is made when it is opened or written: what reading gives */
	size_t reply_at;
};

/* One line of a listing. `ino` is what stat will show. */
struct listed {
	char name[NS_NAME_MAX + 1];
	uint64_t ino;
	uint8_t type;
	bool entry; /* by this name something can be looked up: not "." nor ".." */
};

/*
 * What nodes of one kind can do. Functions return 0 or a code, unless said otherwise; those that reply themselves return nothing.
 * NULL: it cannot, and is refused with the error at the right.
 */
struct kind {
	/* Attributes. `attr->ino` is not looked at: stat shows node_stat_ino(). */
	int (*getattr)(struct mount *m, struct node *node, struct ns_attr *attr);
	bool attr_moves; /* they change by themselves: the kernel asks each time */

	/* Of an open file, where that differs: what the kernel asks for when somebody seeks to the end. */
	int (*open_getattr)(struct mount *m, struct node *node, struct handle *h, struct ns_attr *attr);

	/* A directory's: the entry of `name`, with one lookup counted.               -ENOTDIR */
	int (*lookup)(struct mount *m, struct node *dir, const char *name, struct fuse_entry_param *e);
	bool absent_is_kept; /* the kernel may remember that a name is absent */

	/* A directory's: opens, then lists line `pos` (0 is the first after "..") : 1, 0 at the end, or a code.   -ENOTDIR */
	int (*opendir)(fuse_req_t req, struct node *dir, struct handle *h);
	int (*list)(struct mount *m, struct node *dir, struct handle *h, uint64_t pos, struct listed *out);

	/* A file's. open sets what it wants in `fi`; read and write reply.          -EISDIR, -EROFS */
	int (*open)(fuse_req_t req, struct node *node, struct handle *h, struct fuse_file_info *fi);
	void (*read)(fuse_req_t req, struct node *node, struct handle *h, size_t size, uint64_t off);
	void (*write)(fuse_req_t req, struct node *node, struct handle *h, const char *data, size_t len);
	int (*seek)(fuse_req_t req, struct node *node, struct handle *h, uint64_t off, int whence,
		    uint64_t *out);
	int (*readlink)(fuse_req_t req, struct node *node, struct buf *out);

	/* poll(2) of an open file whose reads may wait. Replies. Takes `handle`, by which to tell of a change; it may be NULL. */
	void (*poll)(fuse_req_t req, struct handle *h, struct fuse_pollhandle *handle);

	/* Extended attributes, the names of listxattr each ended by a NUL. `has_own_xattrs`: user.mvccfs.* answers. */
	int (*getxattr)(fuse_req_t req, struct node *node, const char *name, struct buf *out);
	int (*listxattr)(fuse_req_t req, struct node *node, struct buf *out);
	bool has_own_xattrs;

	/* Names in a directory that is no tree's. They reply.                     -EROFS */
	void (*change)(struct call *c);

	int read_only; /* the error of what would change it: -EROFS, or -EPERM */
};

extern const struct kind kind_live, kind_revdir, kind_past_dir, kind_past_file, kind_ctl, kind_tagdir,
	kind_tag, kind_histdir, kind_history, kind_status, kind_watch, kind_txn, kind_txns, kind_txn_file;

const struct kind *kind_of(const struct node *node);

/* Which of the trees that can be changed a node is in: 0 for none, 1 the live one, else that of a transaction. */
uint64_t tree_of(const struct node *node);

/* The tree of a node, while a handler uses it: of a transaction for one thread at a time. */
struct tree {
	struct ns *ns;
	struct ns_txn *txn; /* held; NULL: the live tree */
};

/* -ESTALE when the transaction has ended. tree_leave() ends it before the reply, and accepts what failed. */
int tree_enter(struct mount *m, const struct node *node, struct tree *out);
void tree_leave(struct tree *tree);

static inline struct mount *mount_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static inline struct node *node_of(fuse_req_t req, fuse_ino_t id)
{
	return id == FUSE_ROOT_ID ? mount_of(req)->nodes.root : (struct node *)(uintptr_t)id;
}

static inline fuse_ino_t id_of(struct mount *m, struct node *node)
{
	return node == m->nodes.root ? FUSE_ROOT_ID : (fuse_ino_t)(uintptr_t)node;
}

static inline struct handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh;
}

/* The number of what a node shows. */
static inline uint64_t stat_ino_of(const struct node *node)
{
	return node_stat_ino(node->kind, node->ino, node->rev);
}

void reply_err(fuse_req_t req, int err);

/* Replies with a part of bytes that are all in memory, as read(2) has it. */
void reply_part(fuse_req_t req, struct slice bytes, size_t size, uint64_t off);

/* ---- fuse_entry.c: who asks, attributes, entries ------------------------------------------------- */

struct asker {
	struct ns_who who;
	char comm[32];
	struct label label;
};

/* Valid as long as `a`. */
const struct ns_who *who_asks(fuse_req_t req, struct asker *a);

void stat_of(uint64_t ino, const struct ns_attr *attr, struct stat *st);
int64_t ns_of(struct timespec ts);
int node_getattr(struct mount *m, struct node *node, struct ns_attr *attr);

/* Attributes of what is no tree's: the mount's owner has it, and it is as old as the mount. */
void own_attr(struct mount *m, uint32_t mode, struct ns_attr *attr);

/* The entry of a node whose lookup is counted already; `timeout` of its name, in seconds. */
void entry_of(struct mount *m, struct node *node, const struct ns_attr *attr, double timeout,
	      struct fuse_entry_param *e);

/* The entry of a node of ours; counts a lookup. `name` and `parent` as node_get() has them. */
int kind_entry(struct mount *m, enum node_kind kind, uint64_t ino, mvcc_rev_t rev, struct node *parent,
	       const char *name, double timeout, struct fuse_entry_param *e);

/* An entry for an inode just looked up or made in `dir`, of a tree that can be changed; counts a lookup. */
int tree_entry(struct mount *m, const struct node *dir, const struct ns_attr *attr,
	       struct fuse_entry_param *e);

/* Takes back a lookup whose reply nobody was there to take. The request is gone by then. */
void forget_entry(struct mount *m, const struct fuse_entry_param *e);

void reply_entry(fuse_req_t req, int err, const struct fuse_entry_param *e);
void reply_tree_entry(fuse_req_t req, const struct node *dir, int err, const struct ns_attr *attr);

/* May nothing be called so in that directory? */
bool reserved(struct mount *m, const struct node *dir, const char *name);

/* The names of ours that mean something in a directory of the live tree, one by one: NULL after the last. */
const char *own_name(struct mount *m, const struct node *dir, unsigned i, enum node_kind *kind,
		     uint64_t *ino);

/* The entry of `name` in any directory. */
int lookup(struct mount *m, struct node *dir, const char *name, struct fuse_entry_param *e);

/* Both permissions: the kernel has asked those shown, this asks today's. */
int need_readable(fuse_req_t req, struct mvcc_view *view, uint64_t ino);

/* ---- handlers ------------------------------------------------------------------------------------ */

extern const struct fuse_lowlevel_ops mount_ops; /* fuse_ops.c */

/* A change of names: refused, run or put aside. See struct kind. */
void dispatch_name(struct call *c);

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void op_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void op_read(fuse_req_t req, fuse_ino_t id, size_t size, off_t off, struct fuse_file_info *fi);
void op_write(fuse_req_t req, fuse_ino_t id, const char *data, size_t len, off_t off,
	      struct fuse_file_info *fi);
void op_flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi);
void op_fsyncdir(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi);
void op_fallocate(fuse_req_t req, fuse_ino_t id, int mode, off_t off, off_t len, struct fuse_file_info *fi);
void op_lseek(fuse_req_t req, fuse_ino_t id, off_t off, int whence, struct fuse_file_info *fi);
void op_copy_file_range(fuse_req_t req, fuse_ino_t in, off_t in_off, struct fuse_file_info *in_fi,
			fuse_ino_t out, off_t out_off, struct fuse_file_info *out_fi, size_t len, int flags);
void op_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t off, struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t id, size_t size, off_t off, struct fuse_file_info *fi);
void op_releasedir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void op_getxattr(fuse_req_t req, fuse_ino_t id, const char *name, size_t size);
void op_listxattr(fuse_req_t req, fuse_ino_t id, size_t size);
void op_setxattr(fuse_req_t req, fuse_ino_t id, const char *name, const char *value, size_t size, int flags);
void op_removexattr(fuse_req_t req, fuse_ino_t id, const char *name);

struct handle *handle_new(struct fuse_file_info *fi); /* NULL: no memory */
void handle_clear(struct handle *h);                  /* all but the file: a listing begins anew */
void handle_free(struct handle *h);                   /* closes the file, too, if it is open */

/* The file of a handle, just opened, is in that tree. */
void handle_in(struct handle *h, const struct tree *tree);

/* The tree of an open file, entered: -ESTALE if it was a transaction's that has ended. For tree_leave(). */
int file_enter(struct mount *m, struct handle *h, struct tree *out);

/* ---- fuse_past.c --------------------------------------------------------------------------------- */

/* What stood at revision `rev` as inode `ino`; for a directory known as `name` in node `parent`. */
int past_entry(struct mount *m, struct mvcc_view *view, uint64_t ino, struct node *parent, const char *name,
	       double timeout, struct fuse_entry_param *e);

/* The number that stat shows of inode `ino` in a view. */
uint64_t past_stat_ino(struct mvcc_view *view, uint64_t ino);

/* ---- fuse_park.c: changes put aside while the ring is full, and waits for the disk -------------- */

enum change {
	CHANGE_MKNOD = 1,
	CHANGE_MKDIR,
	CHANGE_SYMLINK,
	CHANGE_LINK,
	CHANGE_UNLINK,
	CHANGE_RMDIR,
	CHANGE_RENAME,
	CHANGE_CREATE
};

/* One change as the kernel asked for it. Strings and bytes are borrowed, until parked: then owned. */
struct call {
	void (*run)(struct call *c);
	enum change change; /* of a name; 0: of something else */
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
	struct ns_copy copy;
	struct fuse_file_info fi;
};

/* Runs a change now if the ring has room for it, else later. */
void dispatch(struct call *c);

struct call *call_copy(const struct call *c); /* NULL: no memory */
void call_free(struct call *c);

void *parker_main(void *arg);

/* Answers once the revision is on disk: a write of so many bytes, or with 0 bytes an fsync. */
void reply_when_synced(fuse_req_t req, mvcc_rev_t rev, size_t written);

/* Waits until the store owes no completion any more. */
void waits_end(struct mount *m);

/* ---- fuse_work.c: threads for what takes long -------------------------------------------------- */

/*
 * Runs `run(arg)` on a thread of its own, which may wait for the disk and, as it serves no request, tell the kernel to forget
 * things. 0, -EAGAIN when too many run already, -ENOMEM.
 */
int work_start(struct mount *m, void (*run)(void *arg), void *arg);
int work_init(struct mount *m);
void work_end(struct mount *m); /* waits for all of it */

/* As dispatch(), for a change that waits for the disk whatever the ring has: on a thread of its own. */
void dispatch_long(struct call *c);

/* ---- fuse_watch.c -------------------------------------------------------------------------------- */

void op_poll(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, struct fuse_pollhandle *handle);

int teller_start(struct mount *m);
void teller_stop(struct mount *m); /* answers whoever still waits; also if it was not started */

/* ---- fuse_live.c ---------------------------------------------------------------------------------- */

/* What fuse_txn.c does in the same way. */
int tree_getattr(struct mount *m, struct node *node, struct ns_attr *attr);
int tree_opendir(fuse_req_t req, struct node *dir, struct handle *h);
int tree_open(fuse_req_t req, struct node *node, struct handle *h, struct fuse_file_info *fi);
void tree_read(fuse_req_t req, struct node *node, struct handle *h, size_t size, uint64_t off);
int tree_seek(fuse_req_t req, struct node *node, struct handle *h, uint64_t off, int whence, uint64_t *out);
int tree_readlink(fuse_req_t req, struct node *node, struct buf *out);
int tree_getxattr(fuse_req_t req, struct node *node, const char *name, struct buf *out);
int tree_listxattr(fuse_req_t req, struct node *node, struct buf *out);

/* Fills a line of a listing from an entry of a tree, whose nodes have the kind and `rev` of `dir`. */
void tree_listed(const struct node *dir, const struct ns_dirent *entry, struct listed *out);

/* ---- fuse_txn.c ----------------------------------------------------------------------------------- */

bool txn_reserved(const struct node *dir, const char *name);

/* Creating @commit commits. True when `c` was that, and has been or will be answered. */
bool txn_create(struct call *c);

/* The number stat shows of the directory that holds a transaction's root. */
uint64_t txns_stat_ino(void);

/* ---- fuse_notify.c ------------------------------------------------------------------------------- */

/*
 * Revision `rev` was made from the side, not by a request of the kernel: makes the kernel forget what it changed. Not to
 * be called from a thread that serves a request, as the kernel may hold a lock that the request waits for.
 */
void notify_changed(struct mount *m, mvcc_rev_t rev);

/* The same for what the past had as these inodes, in order: it is gone from there, too. */
void notify_purged(struct mount *m, const uint64_t *inos, size_t n);

/* Makes the kernel write what it has of files that are open for writing. From a thread that serves no request. */
void notify_write_back(struct mount *m);

/*
 * The thread that serves no request. It makes the kernel forget what a failed compare dropped (ns_file_if()), and
 * answers a request when all that was found before it is forgotten.
 */
int notifier_start(struct mount *m);
void notifier_stop(struct mount *m);
void reply_after_notices(fuse_req_t req, int err);

#endif
