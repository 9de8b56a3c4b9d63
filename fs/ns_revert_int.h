/*
 * What undo and restore share. Included by fs/ns_undo.c and fs/ns_restore.c only.
 */
#ifndef FS_NS_REVERT_INT_H
#define FS_NS_REVERT_INT_H

#include "fs/ns_edit.h"
#include "fs/ns_revert.h"

/* From inode to inode. All zero is empty. */
struct ino_map {
	struct ino_pair {
		uint64_t from, to;
	} * v; /* from 0 is a free place */
	size_t n, cap;
};
int ino_map_put(struct ino_map *map, uint64_t from, uint64_t to);
uint64_t ino_map_get(const struct ino_map *map, uint64_t from); /* 0: none */
void ino_map_release(struct ino_map *map);

/* What a body returns when it has told what would happen, or when nothing is left to be done. */
enum { REVERT_CONFLICT = 1, REVERT_TOLD = 2 };

/* A change under way: begun anew with each try, released by revert_run(). */
struct revert {
	struct ns *ns;
	const struct ns_revert *how;
	struct edit edit;
	struct ino_map map;       /* inodes then to what stands for them now */
	struct mvcc_view **views; /* that what is put refers to: open until the commit */
	size_t nviews;
	struct buf conflicts; /* path and reason, each with its length */
	int (*body)(struct revert *r, void *arg);
	void *arg;
};

/* Runs the body, which fills r->edit, in a transaction, and again after a conflict; then finishes. */
int revert_run(struct ns *ns, const struct ns_revert *how, int (*body)(struct revert *r, void *arg),
	       void *arg, mvcc_rev_t *rev);

/* A view that stays open as long as need be. */
int revert_view(struct revert *r, mvcc_rev_t rev, struct ns_src *out);
int revert_conflict(struct revert *r, struct slice path, const char *why);

#endif
