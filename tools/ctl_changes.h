/* The history of files, version by version, in a range of revisions. */
#ifndef TOOLS_CTL_CHANGES_H
#define TOOLS_CTL_CHANGES_H

#include "tools/ctl_tree.h"

/* "A..B", "A.." , "..B" or one revision, as numbers; NULL: from the oldest to the newest. 0, or the exit status. */
int ctl_range(struct ctl *ctl, const char *range, mvcc_rev_t *from, mvcc_rev_t *to);

/*
 * Asks what revision `rev` changed (`changes` of @ctl), and calls `fn` for each path; `tree` says that a directory came whole
 * from elsewhere. `after`: what is new or changed; else what was before. Stops when `fn` returns anything but 0, and
 * returns that; else 0, or the exit status.
 */
typedef int ctl_change_fn(void *arg, const char *path, bool tree);
int ctl_changes(struct ctl *ctl, mvcc_rev_t rev, bool after, ctl_change_fn *fn, void *arg);

#endif
