/*
 * Random histories of a tree, and pictures of it at a revision, for tests that compare trees. Everything a picture has
 * is what a user can see, so trees that look the same are the same to him.
 */
#ifndef TESTS_NS_HISTORY_H
#define TESTS_NS_HISTORY_H

#include "fs/ns.h"

#include "tests/store_fixture.h"

struct history {
	struct fixture *fx;
	struct ns *ns;
	uint64_t seed; /* of what comes next */
};

/* A fresh tree, on the engine that fixtures use. Ended by history_close(), which checks the store and the tree. */
void history_open(struct history *h, uint64_t seed);
void history_close(struct history *h);

/* Asserts that the rows of the tree fit together, now. */
void history_check(struct history *h);

/* One random change below `top` ("" or "/dir"); it may turn out not to be possible. */
void history_step(struct history *h, const char *top);

/* `n` of them. Gives the revision then. */
mvcc_rev_t history_run(struct history *h, const char *top, unsigned n);

/* What stands at a path. */
struct shown {
	char *path;
	uint64_t ino;
	uint32_t mode, uid, gid;
	uint64_t rdev, size, nlink;
	int64_t mtime_ns, atime_ns;
	uint64_t content, xattrs; /* hashes */
	size_t same;              /* the place in the picture of the first name of the same inode */
};

/* In order of paths. */
struct picture {
	struct shown *v;
	size_t n;
};
void picture_take(struct history *h, mvcc_rev_t rev, struct picture *out);
void picture_free(struct picture *p);
const struct shown *picture_find(const struct picture *p, const char *path);

/* How two things that are shown differ: NS_DIFF_* of fs/ns_diff.h. */
unsigned shown_differs(const struct shown *a, const struct shown *b);

/*
 * Asserts that two pictures are the same but for inode numbers; only what lies below `top`, or (`but`) all but that.
 * Times of directories count if `dir_times`.
 */
void assert_same_picture(const struct picture *a, const struct picture *b, const char *top, bool but,
			 bool dir_times);

#endif
