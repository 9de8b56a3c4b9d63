/*
 * Do the rows of a tree fit together? mvcc_verify() proves that the store is whole; here it is what the store cannot know:
 * names and inodes, links and their counts, extents and sizes, leases.
 */
#ifndef FS_NS_CHECK_H
#define FS_NS_CHECK_H

#include "fs/ns.h"

/* Something that does not fit, in words for an operator. Borrowed. */
struct ns_problem {
	const char *what;
	uint64_t ino; /* the inode it is about; of a directory's entry, the directory; 0: no row of ours */
	struct slice name; /* of the entry, link or xattr it is about; may be empty */
	struct slice key;  /* the row */
};

struct ns_check_options {
	/* Told each problem, until it returns non-zero, which then is returned. NULL: nobody. */
	int (*problem)(void *arg, const struct ns_problem *problem);
	void (*progress)(void *arg,
			 uint64_t rows); /* now and then, how many rows were looked at. NULL: nobody */
	void *arg;
};

/*
 * Looks at every row of the view, in bounded memory. `*problems` counts what does not fit. 0 also when there are some; else
 * what reading says. What is read is one revision, so a tree that is in use is not taken for damaged.
 */
int ns_check(struct mvcc *db, struct mvcc_view *view, const struct ns_check_options *opt, uint64_t *problems);

#endif
