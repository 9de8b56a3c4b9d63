/*
 * Entries of a diff as people read them: diff, show and undo tell what differs in the same ways.
 */
#ifndef TOOLS_CTL_DIFF_H
#define TOOLS_CTL_DIFF_H

#include "tools/ctl.h"

enum ctl_diff_form {
	CTL_DIFF_SUMMARY,     /* "M  path  (content, mode)" */
	CTL_DIFF_NAME_STATUS, /* as git's */
	CTL_DIFF_STAT,
	CTL_DIFF_PATCH,
};

struct ctl_stat_line;

/* How differences are told, and what has been so far. All zero at first; ctl_diff_end() releases it. */
struct ctl_diff {
	struct ctl *ctl;
	enum ctl_diff_form form;
	bool color;
	uint64_t from, to; /* the revisions */
	uint64_t told;
	struct ctl_stat_line *stat; /* CTL_DIFF_STAT: told in the end, as columns depend on all */
	size_t nstat, stat_cap;
};

/* Colours, if people look at it: stdout is a terminal, and NO_COLOR is not set. */
bool ctl_want_color(void);

/* Tells one entry of a reply to `diff`, or of a dry run. 0, or the exit status. */
int ctl_diff_entry(struct ctl_diff *d, struct json_object *entry);

/* Tells what is told in the end, if `status` is 0, and releases. `status`, or what that made of it. */
int ctl_diff_end(struct ctl_diff *d, int status);

/* Asks for what differs between d->from and d->to below `path` (NULL: all), and tells it. */
int ctl_diff_ask(struct ctl_diff *d, const char *path, const char *from, const char *to);

/* ---- patches (ctl_patch.c) --------------------------------------------------------------------- */

/* Lines added and removed; of binary content, sizes. */
struct ctl_stat {
	bool binary;
	uint64_t added, removed;
};

int ctl_patch_print(struct ctl_diff *d, struct json_object *entry);
int ctl_patch_stat(struct ctl_diff *d, struct json_object *entry, struct ctl_stat *out);

#endif
