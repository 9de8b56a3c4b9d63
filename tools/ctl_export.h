/* What export is made of. */
#ifndef TOOLS_CTL_EXPORT_H
#define TOOLS_CTL_EXPORT_H

#include "tools/ctl_progress.h"
#include "tools/ctl_tree.h"

/* A pax archive of `path` at `expr` to the file `fd`. 0, or the exit status. */
int export_tar(struct ctl *ctl, const char *expr, const char *path, int fd);

/* A stream for git fast-import, of the revisions of `range`, as ctl_range() has it, to `out`. */
int export_git(struct ctl *ctl, const char *range, const char *path, const char *branch, FILE *out);

#endif
