/*
 * The versions of what stood at a path, over all revisions that are readable. It goes by path, as `@rev` does: when a directory
 * above was another one in the meantime, its time counts as well.
 *
 * A version is what the inode's row was from one of its changes to the next, as long as the path led to it. It is named by the
 * oldest readable revision that shows it there: the one that made it, unless that was compacted away.
 */
#ifndef FS_NS_HISTORY_H
#define FS_NS_HISTORY_H

#include "fs/ns.h"

struct ns_version {
	mvcc_rev_t rev; /* its name */
	uint64_t ino;
	mvcc_rev_t row_rev; /* the revision that made the row: with `ino`, the same for the same version */
	uint32_t mode;
};

/* All of them, oldest first; `*out` is the caller's to free(). None is no error. */
int ns_history(struct mvcc *db, struct slice path, struct ns_version **out, size_t *n);

/* The version of that name. -ENOENT if it is none; costs no more for a path of many versions. */
int ns_history_at(struct mvcc *db, struct slice path, mvcc_rev_t rev, struct ns_version *out);

/* Calls `fn` for each inode that the path led to in some revision, until it returns non-zero; returns that. */
int ns_history_inodes(struct mvcc *db, struct slice path, int (*fn)(void *arg, uint64_t ino), void *arg);

/* Does the path have any version? 0 or -ENOENT. */
int ns_history_any(struct mvcc *db, struct slice path);

/*
 * Calls `fn` for each name that the directory at `path` has, or had in a readable revision, each once, in order of bytes, until it
 * returns non-zero; returns that.
 */
int ns_history_names(struct mvcc *db, struct slice path, int (*fn)(void *arg, struct slice name), void *arg);

#endif
