/*
 * What the files of the namespace share. Included by fs/ns*.c and their unit tests only.
 */
#ifndef FS_NS_INT_H
#define FS_NS_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "fs/ns_row.h"

/* ---- ns_at.c: rows of one source, a view or a transaction with its own writes ------------------ */

struct ns_src {
	struct mvcc_view *view; /* one of the two is set */
	struct mvcc_txn *txn;
	bool validate; /* of a transaction: what is read must still hold at commit */
};

/* An inode's row with the memory its slices borrow. Release with held_row_release(). */
struct held_row {
	struct row_inode row;
	struct mvcc_item item;
};

int src_get(struct ns_src src, struct slice key, struct mvcc_item *out);
int src_cursor(struct ns_src src, struct slice start, struct slice end, struct mvcc_cursor **out);
int src_row(struct ns_src src, uint64_t ino, struct held_row *out);
void held_row_release(struct held_row *held);

/* Of a row read in a transaction: has that put it itself? */
static inline bool held_is_own(const struct held_row *held)
{
	return held->item.mod_rev == 0;
}
void row_to_attr(uint64_t ino, const struct row_inode *row, const struct mvcc_item *item,
		 struct ns_attr *out);

/* What ns_at_*() do, of any source. */
int src_getattr(struct ns_src src, uint64_t ino, struct ns_attr *out);
int src_lookup(struct ns_src src, uint64_t dir, struct slice name, uint64_t *out);
int src_path(struct ns_src src, uint64_t ino, struct buf *out);
ssize_t src_read(struct mvcc *db, struct ns_src src, uint64_t ino, uint64_t off, void *out, size_t len);
int src_seek(struct ns_src src, uint64_t ino, uint64_t off, int whence, uint64_t *out);
int src_readlink(struct ns_src src, uint64_t ino, struct buf *out);

/* The inode and type behind a name. */
int src_dirent(struct ns_src src, uint64_t dir, struct slice name, uint64_t *ino, uint8_t *type);

/* Fills `out` from extents; what no extent holds, and all from `cut` on, becomes zeros. */
int src_read_extents(struct mvcc *db, struct ns_src src, uint64_t ino, uint64_t cut, uint64_t off,
		     uint8_t *out, size_t len);

/* The first stored bytes at or after `off` and below `cut`: 1 with [*start, *end), 0 when none, or negative. */
int src_next_data(struct ns_src src, uint64_t ino, uint64_t cut, uint64_t off, uint64_t *start,
		  uint64_t *end);

int src_getxattr(struct ns_src src, uint64_t ino, const char *name, struct buf *out);
int src_listxattr(struct ns_src src, uint64_t ino, struct buf *out);

/* A name that is in the live tree only. */
struct ns_pending_name {
	char *name; /* owned by whoever owns the array */
	size_t len;
	uint64_t ino;
	uint8_t type;
};

/*
 * As ns_at_opendir(), with names that are not in the view (yet) merged in; `view` may be NULL: then these are all.
 * Takes the array and its names; takes the view if `own_view`, also on failure.
 */
int ns_dir_open(struct mvcc_view *view, bool own_view, uint64_t dir, struct ns_pending_name *pending,
		size_t npending, struct ns_dir **out);

/* ---- ns_content.c: file content inside a transaction ------------------------------------------- */

/*
 * Each changes the extents of `ino` in `txn` and keeps `row->alloc`, the bytes stored, true; what it puts has the
 * row's lease. Offsets at or above NS_SIZE_MAX mean the end.
 */
int content_cut(struct mvcc_txn *txn, uint64_t ino, uint64_t from, uint64_t to, struct row_inode *row);

/* Puts `bytes` (at most NS_EXTENT_MAX) at `off`. `fresh`: the caller knows that no extent is there. */
int content_place(struct mvcc_txn *txn, uint64_t ino, uint64_t off, struct slice bytes, bool fresh,
		  struct row_inode *row);

/*
 * Gives `ino` at `to` what `src` has as `from_ino` at `from`, `len` bytes: the extents share the blobs, and holes stay
 * holes. No extent may be there yet.
 */
int content_share(struct mvcc_txn *txn, struct ns_src src, uint64_t from_ino, uint64_t from, uint64_t ino,
		  uint64_t to, uint64_t len, struct row_inode *row);

/* Gives a file the size `size` by cutting or by a hole, in `row` and in the extents. `content` backs the row's. */
int content_resize(struct mvcc_txn *txn, uint64_t ino, struct row_inode *row, struct buf *content,
		   uint64_t size);

/* Deletes every row of one kind of an inode. */
int content_drop_rows(struct mvcc_txn *txn, uint8_t kind, uint64_t ino);

/* ---- the live tree, and bound ones ------------------------------------------------------------- */

/* A change from the side holds all stripes, and the thread sanitizer cannot follow more than 64 locks of a thread. */
#ifdef __SANITIZE_THREAD__
enum { NS_STRIPES = 48 };
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
enum { NS_STRIPES = 48 };
#else
enum { NS_STRIPES = 1024 };
#endif
#else
enum { NS_STRIPES = 1024 };
#endif
enum { NS_BUCKETS = 4096, NS_PATHS = 1024, NS_PAGE = 4096 };
enum { CHUNK_PAGES = NS_EXTENT_MAX / NS_PAGE };

/* Dirty pages of one extent's place in a file: page i of `data` is dirty when bit i of `dirty` is set. */
struct chunk {
	uint64_t index; /* start of the extent / NS_EXTENT_MAX */
	uint32_t dirty;
	uint8_t *data;
	size_t cap;
};

/*
 * An inode that is open, or dirty. Found through ns->table; `refs` and the links are guarded by
 * ns->table_lock, all else by the stripe lock of `ino`.
 *
 * Not dirty and not gone, it holds nothing that the store does not: then `row` is not loaded. Dirty,
 * `row` is the inode as the live tree shows it, `chunks` the newest data, under it what `txn` has
 * staged, under that what is committed (below `cut`). Gone (its last name was removed), it is never
 * committed again and its committed part is read at the revision before it went.
 */
struct ns_inode {
	struct ns *ns;
	uint64_t ino;
	unsigned refs;
	struct ns_inode *next;                         /* in its bucket of ns->table */
	struct ns_inode *dirty_next, **dirty_prev;     /* in ns->dirty */
	struct ns_inode *pending_next, **pending_prev; /* in its bucket of ns->pending */

	unsigned opens;   /* handles */
	unsigned writers; /* of them, those opened for writing */
	bool dirty;
	bool pending;  /* created, and in no revision yet */
	bool has_data; /* more than its creation or truncation happened */
	bool acl_only; /* all that `txn` has is the access control list a new file began with */
	bool loaded;
	struct ns_gone gone;
	struct row_inode row;
	struct buf name, content; /* back row.name and row.content */
	struct mvcc_item base;    /* header of the committed row: only mod_rev, create_rev, version are set */
	struct mvcc_txn *txn;     /* its own; in a bound tree the tree's, unless it is gone */
	struct mvcc_view
		*lender; /* of a past revision whose blobs `txn` refers to: they stay until it commits */
	uint64_t cut;
	uint64_t stored_end;  /* no extent lies at or above it */
	struct chunk *chunks; /* sorted by index */
	size_t nchunks, chunks_cap;
	size_t dirty_pages;
	uint64_t intent;   /* 0: none */
	bool intent_stale; /* the row has changed since */
	_Atomic int64_t first_dirty_ms, last_write_ms;
	enum ns_compare compare; /* 0: none; what a commit must find, and where ns_file_if() put it */
	uint64_t compare_n;
	bool refused;           /* it found another; until the last writer has closed */
	uint32_t uid, gid, pid; /* who made it dirty */
	char comm[32];
	struct buf label; /* and for what: session, NUL, message, NUL; empty: neither */
	const char *op;
};

struct ns_path_slot {
	uint64_t dir;
	uint64_t epoch;
	struct buf path;
};

struct ns {
	struct mvcc *db;
	struct ns *live;          /* of a bound tree (ns_bound.c): the one it was begun from */
	struct mvcc_txn *bound;   /* of a bound tree: what it stands in; NULL once it has ended */
	struct dir_touch **touch; /* of a bound tree: what was done to its directories, NS_BUCKETS chains */
	int failed; /* of a bound tree: a change failed halfway, so that it can only be dropped */
	struct ns_options opt;
	size_t inode_dirty_max; /* pages one inode may keep before it stages */

	/*
	 * One lock for the inodes of a stripe: shared to read, exclusive to change. Several are taken in
	 * rising order (lock_set()). Everything below is taken after them.
	 */
	pthread_rwlock_t stripes[NS_STRIPES];

	pthread_mutex_t table_lock;
	pthread_cond_t timer_wake;
	struct ns_inode *table[NS_BUCKETS];   /* table_lock, as all up to `stop` */
	struct ns_inode *pending[NS_BUCKETS]; /* by directory */
	struct ns_inode *dirty;
	uint64_t ninodes, ndirty, npending;
	bool stop;
	void (*dropped)(void *arg, const struct ns_dropped *what); /* table_lock, as its `arg` */
	void *dropped_arg;

	_Atomic uint64_t dirty_pages;
	pthread_t timer;
	bool timer_started;

	pthread_mutex_t ino_lock;
	uint64_t next_ino, end_ino; /* ino_lock: numbers reserved and not given yet */

	pthread_mutex_t path_lock;
	struct ns_path_slot paths[NS_PATHS]; /* path_lock: paths of directories */
	uint64_t path_epoch;                 /* path_lock: moved on by every rename of a directory */
};

/* A set of inodes locked together, each once, in an order that cannot deadlock. */
struct lock_set {
	unsigned n;
	unsigned stripe[4];
};
void lock_set(struct ns *ns, struct lock_set *set, const uint64_t *inos, unsigned n);
void unlock_set(struct ns *ns, struct lock_set *set);
pthread_rwlock_t *stripe_of(struct ns *ns, uint64_t ino);

/* The open or dirty inode, with a reference; NULL if there is none. */
struct ns_inode *inode_find(struct ns *ns, uint64_t ino);
struct ns_inode *inode_get(struct ns *ns, uint64_t ino); /* makes one if there is none; NULL: no memory */
void inode_put(struct ns_inode *n);

/* The pending inode of that name: its number, or 0. */
uint64_t pending_find(struct ns *ns, uint64_t dir, struct slice name);
int pending_names(struct ns *ns, uint64_t dir, struct ns_pending_name **out, size_t *n);

/* Commits if dirty. Caller holds the stripe lock exclusively. `*rev`, if set, gets the commit's revision. */
int inode_commit_locked(struct ns_inode *n, mvcc_rev_t *rev);

/*
 * Commits a change that a close has promised and whose release is still on its way, so that what comes
 * next is a change of its own: an open for writing (`who` NULL), or what another process does. What the
 * same process does is part of it: touch(1) closes a duplicate, then sets the times.
 */
void inode_finish_locked(struct ns_inode *n, const struct ns_who *who);

/* Commits the inode, or the pending name, or all pending names of a directory, if there is something. */
int settle_ino(struct ns *ns, uint64_t ino);
int settle_name(struct ns *ns, uint64_t dir, struct slice name);

/* Marks an open inode as gone. Caller holds its stripe lock exclusively. */
int inode_gone_locked(struct ns_inode *n, struct ns_gone gone);

/*
 * An inode that others than the operations of this tree have removed from the store is made gone: a change from the
 * side, or the end of a lease. Caller holds its stripe lock exclusively. 0 also if it is still there.
 */
int inode_notice_locked(struct ns_inode *n);

/*
 * The store has no such inode. Is it an open one that was removed just now, and nobody has noticed yet (as the end of a
 * lease is told a moment later)? Then it is gone now, and loaded. Takes its stripe lock.
 */
bool inode_was_removed(struct ns_inode *n);

/*
 * The names of an inode were changed in the store: one that is dirty takes them over, or it would put
 * the old ones back. Caller holds its stripe lock exclusively.
 */
int inode_names_locked(struct ns *ns, uint64_t ino);

/*
 * The lease of an open file has ended, or is about to: the store deletes all the file's rows, so it is gone to whoever
 * still has it open.
 */
int inode_lease_over_locked(struct ns_inode *n);

/* Makes a pending inode gone that never came into a revision, and takes its name away. */
void inode_discard_locked(struct ns_inode *n);

/* Forgets everything that is not committed; the store's state is the inode's again. */
void inode_clean_locked(struct ns_inode *n);

/* Locks the inode for reading: shared, or alone when its transaction has to be read. */
void lock_for_reading(struct ns_inode *n);

int inode_setattr_locked(struct ns_inode *n, const struct ns_attr *set, unsigned what);
int inode_load_locked(struct ns_inode *n);
int inode_dirty_locked(struct ns_inode *n, const struct ns_who *who, const char *op);
int inode_txn_locked(struct ns_inode *n);

/*
 * In a bound tree: the inode goes on in a transaction of its own, with all it has now, as one that is gone. Caller
 * holds its stripe lock exclusively, and then removes its rows.
 */
int inode_leave_locked(struct ns_inode *n);
void inode_attr(const struct ns_inode *n, struct ns_attr *out);
void inode_dir_times(struct ns *ns, uint64_t dir, struct ns_attr *attr);

/*
 * What is committed, as far as this tree goes: the newest revision, or the bound transaction. To be closed by
 * mvcc_view_close(src.view), which accepts that there is none. -ESTALE of a bound tree that has ended.
 */
int ns_source(struct ns *ns, struct ns_src *out);

/* A tree without its timer; the options' zeros are filled in. NULL: no memory. */
struct ns *ns_new(struct mvcc *db, const struct ns_options *opt);
void ns_free(struct ns *ns);

int new_ino(struct ns *ns, uint64_t *out);
int dir_path(struct ns *ns, uint64_t dir, struct buf *out);
void paths_forget(struct ns *ns);

/* "Directory `dir` was changed at `now`, and has `nlink` more links": an update at commit. */
int touch_dir(struct ns *ns, struct mvcc_txn *txn, uint64_t dir, int64_t now, int64_t nlink);

/* The same as an update of a transaction; of a directory that may have got times of its own choice, too. */
struct touch {
	int64_t now_ns;
	int64_t nlink;
	unsigned set; /* NS_SET_ATIME, _MTIME, _CTIME: these become what is given, whatever they were */
	int64_t atime_ns, mtime_ns, ctime_ns;
};
void touch_apply(const struct touch *t, struct row_inode *row);
int touch_update(struct mvcc_txn *txn, uint64_t dir, const struct touch *t);

int put_row(struct mvcc_txn *txn, uint64_t ino, const struct row_inode *row);
int expect_exists(struct mvcc_txn *txn, uint64_t ino); /* the inode's row */
int put_dirent(struct mvcc_txn *txn, uint64_t dir, struct slice name, uint64_t ino, uint8_t type,
	       mvcc_lease_t lease);
int put_link(struct mvcc_txn *txn, uint64_t ino, uint64_t dir, struct slice name, mvcc_lease_t lease);

/* ---- one change ------------------------------------------------------------------------------ */

/* A change under way: its body fills the transaction, from the state that the transaction reads. */
struct change {
	struct ns *ns;
	const struct ns_who *who;
	const char *op;
	struct buf path, path2; /* released by change_run() */
	int64_t now;
	mvcc_rev_t rev; /* of the commit */
};

typedef int change_body(struct change *c, struct mvcc_txn *txn, void *arg);

/*
 * Runs `body` in a transaction, and again when another change came in between; in a bound tree, once, in the tree's
 * transaction: so a body asks all it has to ask before it writes.
 */
int change_run(struct change *c, change_body *body, void *arg);
int redo_intents(struct ns *ns);

/* An access control list of an inode. -ENODATA if it has none. */
int src_acl(struct ns_src src, uint64_t ino, const char *name, struct buf *out);
int put_acl(struct mvcc_txn *txn, uint64_t ino, const char *name, struct slice acl, mvcc_lease_t lease);

/*
 * What is made in `dir` with `*mode` gets the mode it really has. `access` becomes the list it begins with, `dflt` that of
 * a directory; both stay empty where there is none.
 */
int acl_of_new(struct ns_src src, uint64_t dir, uint32_t umask, uint32_t *mode, struct buf *access,
	       struct buf *dflt);

/* The mode has become `mode`: so does the list, if there is one. `txn` has what `src` reads. */
int acl_follow_mode(struct mvcc_txn *txn, struct ns_src src, uint64_t ino, uint32_t mode, mvcc_lease_t lease);
/* ---- ns_bound.c: what is different in a tree that stands in one transaction -------------------- */

/* Notes that a directory was touched, or that its times were set. */
int bound_touch(struct ns *ns, uint64_t dir, const struct touch *t);

/* Shows in a directory's row what was noted of it. `own`: the transaction has put the row itself. */
void bound_dir_show(struct ns *ns, uint64_t dir, bool own, struct row_inode *row);

/* The same for a row that will be put: what was noted is in it, and forgotten. */
void bound_dir_fold(struct ns *ns, uint64_t dir, bool own, struct row_inode *row);

/* The last name of `ino` is about to go: whoever has it open keeps it. Caller holds its stripe lock exclusively. */
int bound_keep_open(struct ns *ns, uint64_t ino);

/* A pending file that was taken out of all tables: what it has in the transaction is taken out of that, too. */
void bound_discard(struct ns_inode *n);

/* What is read of `ino` must still hold at commit. */
int bound_validate(struct ns *ns, uint64_t ino);

/* As ns_opendir(); takes the pending names. Entries are those of the moment, whatever is done while it is read. */
int bound_opendir(struct ns *ns, uint64_t dir, struct ns_pending_name *pending, size_t n,
		  struct ns_dir **out);

#endif
