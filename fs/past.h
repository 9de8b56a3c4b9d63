/*
 * The past in a mount: what EXPR in `@rev/EXPR` means, which revisions a listing shows, and who may
 * read what was.
 */
#ifndef FS_PAST_H
#define FS_PAST_H

#include "fs/ns.h"

#define PAST_LISTED 100 /* revisions that `ls D/@rev` shows */

/*
 * As a name under @rev: the revision that `expr` means (query_rev()). `*moving` says that it may mean
 * another one later. -ENOENT for what is no expression or lies in the future, MVCC_ECOMPACTED below
 * the floor.
 */
int past_resolve(struct mvcc *db, struct slice expr, mvcc_rev_t *rev, bool *moving);

/*
 * The newest revisions, at most PAST_LISTED, in which a directory stood at `path`, newest first.
 * `out` has PAST_LISTED places; `*n` gets how many are used.
 */
int past_list(struct mvcc *db, struct slice path, mvcc_rev_t *out, unsigned *n);

/* Who asks: `groups` are the supplementary ones. */
struct past_who {
	uint32_t uid, gid;
	const uint32_t *groups;
	unsigned ngroups;
};

/*
 * May `who` read, by the permissions of today, what `view` has as `ino`? Judged on the live inode of
 * that number and the directories above it; where it is gone, on the nearest parent that survives.
 * 0 or -EACCES.
 */
int past_may_read(struct ns *ns, struct mvcc_view *view, uint64_t ino, const struct past_who *who);

#endif
