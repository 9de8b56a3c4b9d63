/*
 * Undo and restore: the live tree made, in one revision, what it was.
 *
 * What went is made anew, under new inode numbers but with the content that history still has, so nothing is copied.
 * Files that stay keep their numbers: open handles see the content with their next read. ctime is the time of the
 * change, all else is as it was.
 */
#ifndef FS_NS_REVERT_H
#define FS_NS_REVERT_H

#include "fs/ns_diff.h"

/* Revisions first <= rev <= last. */
struct ns_range {
	mvcc_rev_t first, last;
};

struct ns_revert {
	struct mvcc_story story;
	/*
	 * Only tell: `diff` (may be NULL) is called with what would differ, and nothing is changed. Its new_attr has
	 * numbers that nobody will ever have.
	 */
	bool dry_run;
	ns_diff_fn *diff;
	void *diff_arg;
	/* Told of each conflict; may be NULL. Both are lent. */
	void (*conflict)(void *arg, struct slice path, const char *why);
	void *conflict_arg;
};

/*
 * Takes back what the revisions of `ranges` changed, newest range first, none overlapping, and leaves what others
 * changed since: names by name, and of each file content, mode, user, group and each xattr by itself. Times go back
 * where nothing newer set them. Where both changed the same, that is a conflict: any conflict and nothing is done.
 *
 * Returns 0 with `*rev` the revision made, 0 if there is nothing to take back any more (or of a dry run); 1 after conflicts; or
 *   -EINVAL          a range that is empty, or has revision 1, the making of the tree
 *   MVCC_ECOMPACTED  a range, or the revision before it, is below the floor
 *   MVCC_EFUTURE
 *   or what ns_side_run() returns.
 */
int ns_undo(struct ns *ns, const struct ns_range *ranges, size_t n, const struct ns_revert *how,
	    mvcc_rev_t *rev);

/*
 * Makes what stands at each of the paths what stood there at `then`, with all below: content, modes, owners, times,
 * xattrs, hard links among them; what was not there goes. Whatever was done there since is overwritten. Directories
 * above a path that are missing are made as they were. "" or "/" is the whole tree.
 *
 * Returns 0 with `*rev` as above (0: all is so already), or
 *   -ENOENT          a path that is neither there now nor then
 *   -ENOTDIR         a path below something that is no directory now
 *   MVCC_ECOMPACTED, MVCC_EFUTURE of `then`
 *   or what ns_side_run() returns.
 */
int ns_restore(struct ns *ns, mvcc_rev_t then, const struct slice *paths, size_t n,
	       const struct ns_revert *how, mvcc_rev_t *rev);

#endif
