/*
 * What differs between two revisions of the tree, path by path. Costs what was changed in between, not what there is:
 * the log tells. Where that is gone, below the compaction floor, all inodes are walked, once.
 */
#ifndef FS_NS_DIFF_H
#define FS_NS_DIFF_H

#include "fs/ns.h"

/* In what. */
enum {
	NS_DIFF_CONTENT = 1, /* bytes, a symlink's target, a device's number */
	NS_DIFF_MODE = 2,
	NS_DIFF_OWNER = 4, /* user or group */
	NS_DIFF_XATTR = 8,
	NS_DIFF_TIMES = 16, /* mtime or atime; those of directories do not count */
	NS_DIFF_TYPE = 32,
};

/*
 * One difference. `status` is one of
 *
 *	A  there is something now          D  there is nothing any more
 *	M  the content differs             T  it is of another type
 *	P  only properties differ          R  it has moved here, from a place that is free now
 *
 * A directory that was moved is one R, and what lies in it is told only if it differs itself: with the paths it has
 * now and had then. What was made anew at the same path (as editors save) is M, or P. Each name of a file with
 * several is told. All is lent until the function returns.
 */
struct ns_diff_entry {
	char status;
	unsigned what;                             /* NS_DIFF_*, if it was there on both sides */
	struct slice path;                         /* of D as it was, else as it is */
	struct slice old_path;                     /* of all but A */
	const struct ns_attr *old_attr, *new_attr; /* NULL: not there */
	size_t index;                              /* its place among the candidates, see `first` */
};

/* Returns 0 to go on; a positive number stops, and is returned, as is a negative one. */
typedef int ns_diff_fn(void *arg, const struct ns_diff_entry *entry);

/*
 * Calls `fn` for all that differs between `from` and `to`, in order of paths; `from` may be the newer one. `path`: only
 * what lies there, or lay there; empty or "/": everything. `first`: 0, or the index of an entry, to go on there.
 * Returns 0, what `fn` said, MVCC_ECOMPACTED, MVCC_EFUTURE, or -ENOENT: `path` is in neither.
 */
int ns_diff(struct mvcc *db, mvcc_rev_t from, mvcc_rev_t to, struct slice path, size_t first, ns_diff_fn *fn,
	    void *arg);

#endif
