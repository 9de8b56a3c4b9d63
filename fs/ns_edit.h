/*
 * Editing the tree inside a transaction, freely: names are given and taken away, inodes are made as others are or
 * were, and only in the end it is seen to that all fits together: first links, counts of links, times, and rows of
 * what has no name any more. Included by fs/ns_*.c and their unit tests only.
 *
 * What is read is validated when the transaction commits. Memory is for the inodes that change.
 */
#ifndef FS_NS_EDIT_H
#define FS_NS_EDIT_H

#include "fs/ns_change.h"

/* A name that is given or taken. */
struct edit_link {
	struct edit_link *next;
	uint64_t dir;
	struct slice name;
	bool add;
};

struct edit_inode {
	struct edit_inode *chain, *all; /* in its bucket; in the list of all */
	uint64_t ino;
	bool fresh;     /* made here */
	bool filled;    /* it may have got extents or xattrs */
	bool changed;   /* its row is to be put */
	bool times_set; /* its times are as they are to be; else a change of names is one of the directory */
	bool touched;   /* names in it were changed */
	bool must_go;   /* of an undo: it came with what is undone */
	bool gone;      /* set by edit_settle(): it has no name any more */
	unsigned adds, dels; /* names */
	int64_t extra;       /* of an undo: names it has got since, less those it has lost */
	struct edit_link *links;
	struct row_inode row; /* as it will be, but for links and nlink of files before edit_settle() */
	struct buf name, content;
};

struct edit {
	struct ns *ns;
	struct mvcc_txn *txn;
	struct ns_src src; /* the transaction, validated */
	int64_t now_ns;
	struct edit_inode **buckets;
	struct edit_inode *all;
	size_t n, cap;
	struct link_list arena;
	uint64_t writes; /* rows put or deleted */
};

int edit_begin(struct edit *e, struct ns *ns, struct mvcc_txn *txn);
void edit_end(struct edit *e); /* accepts a zeroed one */

/* The inode, as it is by now: -ENOENT. Lent until edit_end(). */
int edit_get(struct edit *e, uint64_t ino, struct edit_inode **out);

/* A new inode with the mode, owner, times and rdev of `like`, no name, and no content yet. */
int edit_new(struct edit *e, const struct row_inode *like, struct edit_inode **out);

/* Gives the name (dir, name), which must be free; takes it away. */
int edit_link(struct edit *e, struct edit_inode *n, uint64_t dir, struct slice name);
int edit_unlink(struct edit *e, struct edit_inode *n, uint64_t dir, struct slice name);

/* Makes content, or xattrs, those of another inode. */
int edit_content(struct edit *e, struct edit_inode *n, struct ns_src src, uint64_t ino,
		 const struct row_inode *row);
int edit_xattrs(struct edit *e, struct edit_inode *n, struct ns_src src, uint64_t ino);

/* Puts or deletes (`value` NULL) one xattr. */
int edit_xattr(struct edit *e, struct edit_inode *n, struct slice name, const struct slice *value);

/*
 * Decides what names each inode has now, and which are gone. Then `row` of each is what edit_finish() will put, and
 * until that the caller may object.
 */
int edit_settle(struct edit *e);

/* Has the directory an entry, as it is by now? 1 or 0, or negative. */
int edit_occupied(struct edit *e, uint64_t dir);

/* Does the directory, after edit_settle(), lie in itself? 1 or 0, or negative. */
int edit_circular(struct edit *e, struct edit_inode *n);

/* Writes all rows. */
int edit_finish(struct edit *e);

/* The inodes that were changed: for a comparison of the transaction with what was before. */
int edit_touched(const struct edit *e, struct touched_set *out);

#endif
