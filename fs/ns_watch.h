/*
 * A watch over the tree: what was changed at or below a path, as it happens, one path after the other. A revision
 * with a story of one path (a file written, a rename) is one change. What its story does not name (an undo, a
 * transaction, the end of a lease) is told from the rows it changed: a change for each name that was added, put in
 * the place of another, or removed, and for each other inode that was modified.
 *
 * It is a watch of the store (mvcc/watch.h) and costs as little: nothing is queued for it.
 */
#ifndef FS_NS_WATCH_H
#define FS_NS_WATCH_H

#include "fs/ns.h"

struct ns_watch;

struct ns_watch_options {
	mvcc_rev_t from;           /* as mvcc_watch_open() has it */
	struct slice path;         /* empty or "/": the whole tree */
	void (*notify)(void *arg); /* as mvcc_watch_open() has it; may be NULL */
	void *arg;
};

/* As mvcc_watch_open(). */
int ns_watch_open(struct mvcc *db, const struct ns_watch_options *opt, struct ns_watch **out);

struct ns_change {
	mvcc_rev_t rev;
	int64_t time_ns;
	/*
	 * What happened: the story's word, such as "create", "write", "rename"; else "A" (added), "D" (deleted) or "M"
	 * (modified, or put in the place of another).
	 */
	const char *kind;
	struct slice path;
	struct slice path2; /* of a rename the old name, of a link what it was made of; else empty */
	const struct mvcc_story *story;
};

/*
 * The next change: 1 with `*out` lent until the next call; 0 if there is none yet: then notify will be called. Or
 *   -EAGAIN          many revisions were looked at, none of which told of the path: ask again
 *   MVCC_ECOMPACTED  the floor has passed the watch: what comes next is lost
 *   or what reading says.
 */
int ns_watch_next(struct ns_watch *w, struct ns_change *out);

/* Progress, to resume from: the revision of which changes come next, and how many of its changes were given. */
mvcc_rev_t ns_watch_at(const struct ns_watch *w, uint64_t *given);

/* Passes over so many changes of the next revision. To be called before the first ns_watch_next(). */
void ns_watch_skip(struct ns_watch *w, uint64_t n);

/* Lets go of what it holds in the store, until the next ns_watch_next(). */
void ns_watch_pause(struct ns_watch *w);
void ns_watch_close(struct ns_watch *w); /* accepts NULL */

#endif
