/*
 * The past in a mount: what EXPR in `@rev/EXPR` means, which revisions a listing shows, and who may
 * read what was.
 */
#ifndef FS_PAST_H
#define FS_PAST_H

#include "fs/ns.h"

#define PAST_LISTED 100 /* revisions that `ls D/@rev` shows by number */
#define PAST_HOURS 24   /* and by time: the newest of each of so many hours that have any, */
#define PAST_DAYS 31    /* and of so many days */

/*
 * As a name under @rev: the revision that `expr` means (expr_rev()). `*moving` says that it may mean
 * another one later. -ENOENT for what is no expression or lies in the future, MVCC_ECOMPACTED below
 * the floor.
 */
int past_resolve(struct mvcc *db, struct slice expr, mvcc_rev_t *rev, bool *moving);

/* A name that a listing shows, and the revision it means. */
struct past_name {
	char text[NS_NAME_MAX + 1];
	mvcc_rev_t rev;
};

struct past_names {
	struct past_name *names;
	size_t n, cap;
};

/*
 * What `ls D/@rev` shows where D is at `path`, of the revisions in which a directory stood there: the tags;
 * the newest revisions by number, at most PAST_LISTED; and, as Samba wants its snapshots named,
 * "@GMT-..." for the time of each pin and the newest revision of each of the last hours and days (of UTC).
 * Each name means, by past_resolve(), the revision beside it. Release with past_names_release().
 */
int past_list(struct mvcc *db, struct slice path, struct past_names *out);
void past_names_release(struct past_names *names);

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

/*
 * May `who` know what revision `rev` changed at `path`? If every directory above it may be searched, of those that stood
 * there just before that revision, after it, and stand there today. Where that cannot be told any more, no. 0 or -EACCES,
 * or what reading says.
 */
int past_may_know(struct ns *ns, struct mvcc *db, mvcc_rev_t rev, struct slice path,
		  const struct past_who *who);

#endif
