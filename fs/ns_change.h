/*
 * What changed between two states of the tree, in rows: which inodes, and where they are named. Included by
 * fs/ns_*.c and their unit tests only.
 *
 * Every change of an inode's extents, links or xattrs comes with one of its own row, so the inodes whose rows changed
 * are all there are.
 */
#ifndef FS_NS_CHANGE_H
#define FS_NS_CHANGE_H

#include "fs/ns_diff.h"
#include "fs/ns_int.h"

/* Kinds of rows, as bits. */
enum { TOUCHED_ROW = 1, TOUCHED_EXTENTS = 2, TOUCHED_XATTRS = 4 };

struct touched {
	uint64_t ino;
	unsigned rows; /* all bits, where it is not known */
};

struct touched_set { /* in order of ino; all zero is empty */
	struct touched *v;
	size_t n, cap;
};
void touched_release(struct touched_set *set);
void touched_sort(struct touched_set *set); /* puts it in order, each inode once */
const struct touched *touched_find(const struct touched_set *set, uint64_t ino);

/*
 * The inodes that differ between the two views, and some that do not: those whose rows were put in between. Costs what
 * was changed, if the log still tells of that, else a walk over all inodes.
 */
int touched_between(struct mvcc *db, struct mvcc_view *a, struct mvcc_view *b, struct touched_set *out);

/* One name of an inode. */
struct link_at {
	uint64_t ino, dir;
	struct slice name; /* in the arena */
	uint8_t type;
	bool found; /* free for the user */
};

struct link_list {
	struct link_at *v;
	size_t n, cap;
	struct arena_block *blocks;
};
void links_release(struct link_list *list);

/* Appends all names of `ino`: none if it is absent. The root has none. `row` is its row there, or NULL: read it. */
int links_of(struct ns_src src, uint64_t ino, const struct row_inode *row, struct link_list *out);
int links_add(struct link_list *list, uint64_t ino, uint64_t dir, struct slice name, uint8_t type);

/* Paths of directories in one source, remembered. */
struct path_cache {
	struct ns_src src;
	struct path_slot **buckets;
	size_t n, cap;
};
void path_cache_release(struct path_cache *cache);

/* The path of a directory; "" for the root, so that "/name" can be appended. Lent until the cache is released. */
int path_of_dir(struct path_cache *cache, uint64_t dir, struct slice *out);
int path_of_name(struct path_cache *cache, uint64_t dir, struct slice name,
		 struct buf *out); /* replaces `out` */

/* Appends "/a/b" for what a user may write: one slash before each name, none at the end; nothing for the root. */
int scope_of(struct slice path, struct buf *out);

/*
 * Do two inodes have the same rows of one kind (E or X): keys behind the number, values and blobs? 1 or 0, or
 * negative. For 0 `*from` (may be NULL) gets the offset before which all extents are the same.
 */
int rows_same(struct ns_src a, uint64_t ino_a, struct ns_src b, uint64_t ino_b, uint8_t kind, uint64_t *from);

/* The same value and blobs. */
bool items_same(const struct mvcc_item *a, const struct mvcc_item *b);

/* Do two files or symlinks have the same bytes? 1 or 0, or negative. */
int content_same(struct mvcc *db, struct ns_src a, uint64_t ino_a, const struct row_inode *row_a,
		 struct ns_src b, uint64_t ino_b, const struct row_inode *row_b);

/* ns_diff.c: what a transaction would change, told as ns_diff() does. `touched` is taken. */
int diff_txn(struct mvcc *db, struct mvcc_txn *txn, struct touched_set *touched, ns_diff_fn *fn, void *arg);

#endif
