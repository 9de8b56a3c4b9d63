/*
 * The tree at one revision, to be read by a verb: through the mount, below @rev, with the rights of whoever asks; or
 * from a view of the store, when nothing is mounted. No symbolic link is followed: in a mount it would lead from the
 * past into the present.
 */
#ifndef TOOLS_CTL_TREE_H
#define TOOLS_CTL_TREE_H

#include "tools/ctl.h"

struct ctl_tree;

/* The tree at `expr`. 0, or the exit status: then it is told why. Close it before ctl_close(). */
int ctl_tree_open(struct ctl *ctl, const char *expr, struct ctl_tree **out);
void ctl_tree_close(struct ctl_tree *tree); /* accepts NULL */
mvcc_rev_t ctl_tree_rev(const struct ctl_tree *tree);

/* Something in it. All zero but `fd`, which is -1, is none. */
struct ctl_node {
	uint64_t ino; /* the same for all names of one file, and different for different ones */
	uint32_t mode, uid, gid;
	uint64_t rdev, nlink, size;
	int64_t mtime_ns;
	int fd; /* private */
};
#define CTL_NODE_NONE ((struct ctl_node){ .fd = -1 })

/* Functions below return 0 or one negative code. */

/* What stands at a path from the root, or by a name in a directory. */
int ctl_node_open(struct ctl_tree *tree, const char *path, struct ctl_node *out);
int ctl_node_open_at(struct ctl_tree *tree, const struct ctl_node *dir, struct slice name,
		     struct ctl_node *out);
void ctl_node_close(struct ctl_node *node);

/* A regular file's content: how many bytes (fewer at its end). */
ssize_t ctl_node_read(struct ctl_tree *tree, struct ctl_node *node, uint64_t off, void *out, size_t len);

/* All of it, replacing `out`. */
int ctl_node_content(struct ctl_tree *tree, struct ctl_node *node, struct buf *out);

/* The first data at or after `off`: 1 with its bounds, 0 when the rest is a hole. */
int ctl_node_data(struct ctl_tree *tree, struct ctl_node *node, uint64_t off, uint64_t *start, uint64_t *end);

int ctl_node_readlink(struct ctl_tree *tree, struct ctl_node *node, struct buf *out);

/* Extended attributes: the names, each ended by a NUL, and the value of one. */
int ctl_node_listxattr(struct ctl_tree *tree, struct ctl_node *node, struct buf *out);
int ctl_node_getxattr(struct ctl_tree *tree, struct ctl_node *node, const char *name, struct buf *out);

/* Revision of the last change, of the creation, and version. */
struct ctl_revs {
	mvcc_rev_t rev, create_rev;
	uint64_t version;
};
int ctl_node_revs(struct ctl_tree *tree, struct ctl_node *node, struct ctl_revs *out);

/*
 * Calls `fn` for what stands at `path` ("/a/b", or "/") and all below it, directories before what is in them, in the order of
 * names. Stops when `fn` returns anything but 0, and returns that; or a code, and then `*failed` (to be freed) is the path.
 */
typedef int ctl_walk_fn(void *arg, const char *path, struct ctl_node *node);
int ctl_tree_walk(struct ctl_tree *tree, const char *path, ctl_walk_fn *fn, void *arg, char **failed);

/* Says what a code means for `path` at the revision asked for, and gives the exit status. */
int ctl_tree_complain(const struct ctl_tree *tree, int err, const char *path);

/* The content of the regular file `path` at `expr`, to stdout; and the complaint about what is none. 0, or the exit status. */
int ctl_cat_out(struct ctl *ctl, const char *path, const char *expr);
int ctl_complain_type(uint32_t mode, const char *path);

#endif
