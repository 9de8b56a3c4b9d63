/*
 * The namespace: files, directories and links as keys of mvcc. Knows no FUSE, so it runs, and is
 * tested, without a mount; mvccctl uses it when no daemon runs.
 *
 * Two faces. ns_at_*() reads the tree as it stands in a view of the store, at any revision. The rest
 * works on the live tree, which is the newest revision plus what is open and not yet committed: data
 * of files being written, and files created but not yet closed (*pending*).
 *
 * Inodes are named by number. A number is never used twice, in the whole life of a database.
 * Functions return 0 or one negative code; -ENOENT for an inode or name that does not exist is always
 * possible and not listed. Names are 1 to NS_NAME_MAX bytes of anything but '/' and NUL, and are
 * never "." or "..".
 */
#ifndef FS_NS_H
#define FS_NS_H

#include <sys/stat.h>

#include "mvcc/mvcc.h"

#define NS_ROOT ((uint64_t)1)
#define NS_NAME_MAX 255
#define NS_INLINE_MAX 1024                  /* content up to this lives in the inode's row */
#define NS_EXTENT_MAX ((uint64_t)128 << 10) /* bytes of one extent, and the grid they align to */
#define NS_XATTR_MAX ((size_t)65536)        /* value of an xattr */
#define NS_SESSION_MAX 64                   /* bytes of a session's label */
#define NS_MESSAGE_MAX 512                  /* and of the message */
#define NS_SYMLINK_MAX 4095
#define NS_LINK_MAX ((uint64_t)1 << 31)
#define NS_SIZE_MAX ((uint64_t)INT64_MAX)

/* The type bits that readdir shows: DT_REG and so on, of a mode. */
#define NS_TYPE_OF(mode) ((uint8_t)(((mode)&S_IFMT) >> 12))

/* What stat shows of an inode, at one revision. */
struct ns_attr {
	uint64_t ino;
	uint64_t parent; /* directory of its first link */
	uint32_t mode;
	uint32_t uid, gid;
	uint64_t rdev;
	uint64_t nlink;
	uint64_t size;
	uint64_t alloc; /* bytes really stored: st_blocks * 512 */
	int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
	mvcc_rev_t rev; /* revision of the last change; 0 while a change is not committed */
	mvcc_rev_t create_rev;
	uint64_t version; /* of the inode's row */
};

/*
 * Who asks, and for what: becomes the story of the revision. Strings are borrowed; may be NULL. `umask` is taken from
 * the modes of what is made, unless its directory has a default access control list, which then says instead.
 */
struct ns_who {
	uint32_t uid, gid, pid;
	const char *comm;
	uint32_t umask;
	const char *session, *message; /* at most NS_SESSION_MAX and NS_MESSAGE_MAX bytes */
};

/* ---- the tree at a revision: reads only -------------------------------------------------------- */

int ns_at_getattr(struct mvcc_view *view, uint64_t ino, struct ns_attr *out);

/* The inode that `name` in `dir` means. -ENOTDIR if `dir` is none. */
int ns_at_lookup(struct mvcc_view *view, uint64_t dir, struct slice name, uint64_t *out);

/* Takes the first name off a path, and slashes before it; false if there is none. */
bool ns_path_take(struct slice *path, struct slice *name);

/* The inode at `path`, from the root; leading, double and trailing '/' are ignored; no link is followed. */
int ns_at_walk(struct mvcc_view *view, struct slice path, uint64_t *out);

/* The path of an inode by its first link, "/a/b"; "/" for the root. `out` is replaced. */
int ns_at_path(struct mvcc_view *view, uint64_t ino, struct buf *out);

/* Reads file content: returns how many bytes (fewer at the end of the file), or a negative code. */
ssize_t ns_at_read(struct mvcc *db, struct mvcc_view *view, uint64_t ino, uint64_t off, void *out,
		   size_t len);

/* SEEK_DATA or SEEK_HOLE from `off`. -ENXIO beyond the end. */
int ns_at_seek(struct mvcc_view *view, uint64_t ino, uint64_t off, int whence, uint64_t *out);

int ns_at_readlink(struct mvcc_view *view, uint64_t ino, struct buf *out);

/* An xattr's value. -ENODATA when absent. */
int ns_at_getxattr(struct mvcc_view *view, uint64_t ino, const char *name, struct buf *out);

/* The names of all xattrs, each ended by a NUL. */
int ns_at_listxattr(struct mvcc_view *view, uint64_t ino, struct buf *out);

/*
 * A directory being read: its entries as of the moment of opening (or of the last rewind), in an
 * order that does not change. Entries are numbered from 0. Does not own the view.
 */
struct ns_dir;
struct ns_dirent {
	struct slice name; /* lent until the next call */
	uint64_t ino;
	uint8_t type; /* DT_* */
};
int ns_at_opendir(struct mvcc_view *view, uint64_t dir, struct ns_dir **out);

/* Entry number `pos`: 1, 0 past the end, or negative. In order it costs a step, elsewhere a short walk. */
int ns_dir_read(struct ns_dir *d, uint64_t pos, struct ns_dirent *out);

/*
 * Lets go of what the reading holds in the store, until the next ns_dir_read(). To be called when a
 * directory stays open between requests.
 */
void ns_dir_pause(struct ns_dir *d);
void ns_dir_close(struct ns_dir *d); /* accepts NULL */

/* ---- the live tree ----------------------------------------------------------------------------- */

struct ns;

struct ns_options {
	unsigned commit_ms;     /* an open dirty file is committed when not written for this long; 0: 5000 */
	unsigned commit_max_ms; /* and at the latest after this; 0: 300000 */
	size_t dirty_bytes;     /* memory for data not yet staged; 0: 64 MiB */
	void (*log)(void *arg, int priority, const char *text); /* may be NULL */
	void *log_arg;
};

/* Fills revision 1 with an empty root directory: give it to mvcc_open() as `init`. `arg` is unused. */
int ns_init(void *arg, struct mvcc_txn *txn);

/*
 * Takes the tree into use: redoes what a killed daemon had promised (closed, not yet committed
 * files), and starts the thread that commits files left open. `db` stays the caller's.
 */
int ns_open(struct mvcc *db, const struct ns_options *opt, struct ns **out);

/* Commits all that is dirty and frees. The first error met is returned; accepts NULL. */
int ns_close(struct ns *ns);

struct mvcc *ns_db(struct ns *ns);

int ns_lookup(struct ns *ns, uint64_t dir, struct slice name, struct ns_attr *out);
int ns_getattr(struct ns *ns, uint64_t ino, struct ns_attr *out);
int ns_path(struct ns *ns, uint64_t ino, struct buf *out);

/* What ns_setattr() changes. */
enum {
	NS_SET_MODE = 1,
	NS_SET_UID = 2,
	NS_SET_GID = 4,
	NS_SET_SIZE = 8,
	NS_SET_ATIME = 16,
	NS_SET_MTIME = 32,
	NS_SET_CTIME = 64,
};

/*
 * Changes attributes: a revision of its own, or part of the change at hand if the inode is dirty.
 * `open` says that the size is set through an open file (ftruncate): that is writing, and becomes a
 * revision at its close.
 */
int ns_setattr(struct ns *ns, const struct ns_who *who, uint64_t ino, const struct ns_attr *set,
	       unsigned what, bool open, struct ns_attr *out);

/*
 * Names. Each makes one revision. Directories with S_ISGID give their group to what is made in them.
 * Removing the last name of an inode: `*gone` (may be NULL) gets its number and the revision that
 * removed it, else ino 0; open files live on until closed, and ns_gone_getattr() still knows it.
 */
struct ns_gone {
	uint64_t ino;
	mvcc_rev_t rev;
};
int ns_mkdir(struct ns *ns, const struct ns_who *who, uint64_t dir, struct slice name, uint32_t mode,
	     struct ns_attr *out);
int ns_mknod(struct ns *ns, const struct ns_who *who, uint64_t dir, struct slice name, uint32_t mode,
	     uint64_t rdev, struct ns_attr *out);
int ns_symlink(struct ns *ns, const struct ns_who *who, uint64_t dir, struct slice name, struct slice target,
	       struct ns_attr *out);
int ns_link(struct ns *ns, const struct ns_who *who, uint64_t ino, uint64_t dir, struct slice name,
	    struct ns_attr *out);
int ns_unlink(struct ns *ns, const struct ns_who *who, uint64_t dir, struct slice name, struct ns_gone *gone);
int ns_rmdir(struct ns *ns, const struct ns_who *who, uint64_t dir, struct slice name, struct ns_gone *gone);

/* `flags`: RENAME_NOREPLACE, _EXCHANGE, _WHITEOUT of <linux/fs.h> as renameat2(2) has them; others -EINVAL. */
int ns_rename(struct ns *ns, const struct ns_who *who, uint64_t dir, struct slice name, uint64_t newdir,
	      struct slice newname, unsigned flags, struct ns_gone *gone);

/*
 * As ns_unlink() or, if it is a directory, ns_rmdir(), if what has the name is as wanted: -EBUSY when it is not. `*rev`
 * is the revision that removed it.
 */
enum ns_compare { NS_IF_REV = 1, NS_IF_VERSION };
struct ns_wanted {
	enum ns_compare compare; /* 0: whatever it is */
	uint64_t n;              /* its newest revision, or the version of its row */
};
int ns_remove_if(struct ns *ns, const struct ns_who *who, uint64_t dir, struct slice name,
		 const struct ns_wanted *wanted, struct ns_gone *gone, mvcc_rev_t *rev);

/* The attributes of an inode that `gone` removed, with nlink 0. */
int ns_gone_getattr(struct ns *ns, struct ns_gone gone, struct ns_attr *out);

int ns_readlink(struct ns *ns, uint64_t ino, struct buf *out);
int ns_opendir(struct ns *ns, uint64_t dir, struct ns_dir **out); /* pending files included */

/*
 * xattrs. `flags` as setxattr(2). A revision, or part of the change at hand if the inode is dirty.
 *
 * The access control lists of POSIX are two of them (ns_acl.h); setting one that is none is -EINVAL or -EOPNOTSUPP, a
 * default one of what is no directory -EACCES. The access list and the mode are kept in step; with
 * NS_XATTR_DROP_SGID among the flags setting it takes S_ISGID away. One that says no more than a mode is not kept.
 */
#define NS_XATTR_DROP_SGID (1 << 16)
int ns_getxattr(struct ns *ns, uint64_t ino, const char *name, struct buf *out);
int ns_listxattr(struct ns *ns, uint64_t ino, struct buf *out);
int ns_setxattr(struct ns *ns, const struct ns_who *who, uint64_t ino, const char *name, struct slice value,
		int flags);
int ns_removexattr(struct ns *ns, const struct ns_who *who, uint64_t ino, const char *name);

/*
 * A file's time to live: when its lease ends, all of the file goes, with all its names, in one revision that the
 * store makes by itself. What is done to the file meanwhile does not change that. Directories have none: -EISDIR. Whoever
 * has the file open when it goes keeps it, as after unlinking.
 *
 * ns_set_ttl() gives the file a lease of its own; the time it has already only begins anew, which is no
 * revision. 0 takes the lease away. -EINVAL beyond MVCC_LEASE_TTL_MAX seconds, MVCC_ENOLEASE when the file is about to go.
 * ns_set_lease() attaches it to a lease that is there, or (0) to none; `*rev` (may be NULL) is the revision that made.
 * ns_get_lease() is -ENODATA when there is none.
 */
struct mvcc_lease;
int ns_set_ttl(struct ns *ns, const struct ns_who *who, uint64_t ino, uint64_t ttl_s);
int ns_set_lease(struct ns *ns, const struct ns_who *who, uint64_t ino, mvcc_lease_t lease, mvcc_rev_t *rev);
int ns_get_lease(struct ns *ns, uint64_t ino, struct mvcc_lease *out);

/*
 * Open files. A handle is to one inode; handles of one inode share all state. What is written is
 * seen by every reader of the live tree at once, and by no revision before it is committed.
 */
struct ns_file;

/* Makes a pending file and opens it. -EEXIST. */
int ns_create(struct ns *ns, const struct ns_who *who, uint64_t dir, struct slice name, uint32_t mode,
	      struct ns_file **out, struct ns_attr *attr);

/*
 * Opens. NS_OPEN_TRUNC empties the file, as part of the change that the close will make; without it `who` may be
 * NULL. `gone`, when its rev is not 0, is what ns_unlink() or ns_rename() said of this inode.
 */
enum { NS_OPEN_READ = 0, NS_OPEN_WRITE = 1, NS_OPEN_TRUNC = 2 };
int ns_file_open(struct ns *ns, const struct ns_who *who, uint64_t ino, unsigned flags, struct ns_gone gone,
		 struct ns_file **out);

ssize_t ns_file_read(struct ns_file *f, uint64_t off, void *out, size_t len);

/* All of it or an error. -EFBIG beyond NS_SIZE_MAX. */
int ns_file_write(struct ns_file *f, const struct ns_who *who, uint64_t off, const void *data, size_t len);

/* `mode`: 0, or FALLOC_FL_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE as fallocate(2); others -EOPNOTSUPP. */
int ns_file_allocate(struct ns_file *f, const struct ns_who *who, int mode, uint64_t off, uint64_t len);

/*
 * Copies bytes without reading them: what is stored of them is shared. From the live file `from`, or where that is NULL from
 * inode `ino` as a view of the revision `rev` has it, at `off`; to `to`. `*copied` is how many of the `len` were, at
 * most NS_COPY_MAX and never beyond the end of the source.
 *
 * -EXDEV when these bytes cannot be shared (they are few, are not aligned to 4 KiB in the target, are being
 * written, or ...): then they have to be read and written. MVCC_ECOMPACTED.
 */
#define NS_COPY_MAX ((uint64_t)64 << 20)
struct ns_copy {
	struct ns_file *from;
	uint64_t ino;
	mvcc_rev_t rev;
	uint64_t off;
	struct ns_file *to;
	uint64_t to_off;
	uint64_t len;
};
int ns_file_copy(const struct ns_copy *copy, const struct ns_who *who, uint64_t *copied);

int ns_file_seek(struct ns_file *f, uint64_t off, int whence, uint64_t *out);

/*
 * close(2) was called on a descriptor: if it was opened for writing, what was written becomes a
 * revision now. A new or truncated file without data makes none yet, but an intent, so that a kill
 * cannot lose it.
 */
int ns_file_flush(struct ns_file *f);

/* Commits what is dirty; `*rev` is the revision to sync. */
int ns_file_commit(struct ns_file *f, mvcc_rev_t *rev);

/* The last descriptor is closed: commits what is left, and frees the handle. The error is logged, too. */
int ns_file_close(struct ns_file *f);

/*
 * Compare-and-swap. Who has the file open for writing, alone, says on which state its change is based: the file's newest
 * revision, or the version of its row, is `n`; 0: it is in no revision yet; NS_IF_NEVER: none, the change is given up. A
 * commit that finds another drops what was written: the file is again what it was (one that was just created is gone), and
 * from then until the last writer has closed it, every flush, commit and write by whatever handle is -EBUSY. A commit that
 * succeeds moves `n` on, so that a file may be synced in between. The last close of a writer ends it.
 * -EINVAL when nobody has the file open for writing, or it has no name any more; -EBUSY when several have, unless it is to
 * give up; -EOPNOTSUPP in the tree of a transaction, which compares by itself.
 */
#define NS_IF_NEVER UINT64_MAX
int ns_file_if(struct ns *ns, uint64_t ino, enum ns_compare what, uint64_t n);

/* What a compare dropped. `gone.rev` is 0, or the file was created by the change and is gone. */
struct ns_dropped {
	uint64_t ino;
	struct ns_gone gone;
	uint64_t dir; /* where it had the name `name`, which is lent */
	struct slice name;
};

/* `fn` is called with locks held: it may use no operation of the tree. Once this returns, the `fn` before is not called any more. NULL: nobody. */
void ns_on_dropped(struct ns *ns, void (*fn)(void *arg, const struct ns_dropped *what), void *arg);

/* Commits the pending files of a directory; `*rev` is the revision to sync. */
int ns_settle_dir(struct ns *ns, uint64_t dir, mvcc_rev_t *rev);

/* The clocks everything here goes by: wall time in ns since 1970, and ms of a clock that never jumps. */
int64_t ns_time_ns(void);
int64_t ns_time_ms(void);

/* Figures. */
struct ns_stats {
	uint64_t open_inodes, dirty_inodes, pending, dirty_bytes;
};
void ns_stats(struct ns *ns, struct ns_stats *out);

#endif
