/*
 * Taking a path out of all of history: secrets, what the law says must go, what was never to be there.
 *
 * What goes is every inode that the path ever led to and, of directories, everything that was ever in them: content,
 * attributes and xattrs, at every revision, tagged ones, too; the names by which the path and what was below it were reached; and
 * all other names that such a file has or had, as far as they never meant anything else. Where a directory had
 * the name at another time, under another path, it goes as well: it is one row.
 */
#ifndef FS_NS_PURGE_H
#define FS_NS_PURGE_H

#include "fs/ns.h"

struct ns_purged {
	uint64_t *inos; /* what goes, in order; release with ns_purged_release() */
	size_t n;
	uint64_t names;         /* that go */
	mvcc_rev_t removed_rev; /* the revision that removed what was there until now; 0 if nothing was */
	mvcc_rev_t rev;         /* of the purge itself */
};
void ns_purged_release(struct ns_purged *p);

/*
 * Purges `path`, of what is in a revision (ns_settle_all() before). First what is there now is removed as by unlink, as a revision of its own, so that whoever has it open goes on
 * without a name; then history goes. `dry_run`: only tells what would. The bytes leave the disk in the background:
 * mvcc_compact_wait(). `*out` is set in any case, as far as it came, and released by the caller. Returns 0; -ENOENT if nothing readable ever had the path; -EINVAL for the root; or what the store says, and
 * then asking again goes on.
 */
int ns_purge(struct ns *ns, struct slice path, const struct mvcc_story *story, bool dry_run,
	     struct ns_purged *out);

#endif
