/*
 * A directory tree in memory, for comparing: of each file its type, mode, owner, size, nlink, device, xattrs
 * and a hash of its content or target. A few hundred bytes a file, so a test can keep hundreds of trees.
 */
#ifndef TESTS_MOUNT_TREE_H
#define TESTS_MOUNT_TREE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct tree_entry {
	char *path; /* relative to the root of the tree; "." is the root itself */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	nlink_t nlink;
	off_t size; /* 0 for directories: what it means is up to the filesystem */
	dev_t rdev;
	ino_t ino;
	int64_t mtime_ns;
	uint64_t content; /* hash; 0 where there is none, or it was not read */
	uint64_t xattrs;  /* hash of the user.* names and values, in order of names */
};

struct tree {
	struct tree_entry *entries; /* by path */
	size_t n;
	int errors; /* files that could not be read; each was reported to stderr */
};

/* Hashes that are known, by inode number: of trees that change only where the caller knows. */
struct tree_cache;
struct tree_cache *tree_cache_new(void);
void tree_cache_free(struct tree_cache *cache); /* accepts NULL */
void tree_cache_forget(struct tree_cache *cache, ino_t ino);

enum {
	TREE_NO_CONTENT = 1, /* read: leave content hashes out; diff: do not compare them */
	TREE_NO_OWNER = 2,   /* diff: do not compare uid and gid */
	TREE_NO_NLINK = 4,   /* diff: do not compare nlink */
	TREE_NO_TIMES = 8,   /* diff: do not compare mtime */
	TREE_NO_ROOT = 16,   /* diff: compare what is in the roots, not the roots themselves */
};

/*
 * Reads what is below `root`, names as readdir shows them. With a cache, a regular file whose inode number is
 * known is not read. Files that fail are reported, counted and left out. Free with tree_release().
 */
void tree_read(struct tree *out, const char *root, unsigned flags, struct tree_cache *cache);
void tree_release(struct tree *tree);

/*
 * The number of differences, the first ten of them told on stderr under the title `what` (NULL: silently).
 *
 * mtime: a time before 2000 was set by the test, and must be equal; a later one is of the clock, which two
 * filesystems read at different moments, so that the other must only be of the clock, too.
 */
size_t tree_diff(const struct tree *want, const struct tree *got, unsigned flags, const char *what);

/* The entry of a path, or NULL. */
const struct tree_entry *tree_find(const struct tree *tree, const char *path);

/* The same files, in every field but inode number: for telling trees apart cheaply. */
uint64_t tree_hash(const struct tree *tree);

/* A hash of bytes, the one used for content. */
uint64_t tree_hash_bytes(const void *data, size_t len);

#endif
