/* How far long work has come: one line on stderr, drawn over, when that is a terminal. */
#ifndef TOOLS_CTL_PROGRESS_H
#define TOOLS_CTL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct ctl_progress {
	const char *what; /* "files" */
	uint64_t n, bytes;
	bool begun, shown, drawn; /* private, as the rest */
	int64_t last_ms;
};

void ctl_progress(struct ctl_progress *p);     /* draws it, not too often */
void ctl_progress_end(struct ctl_progress *p); /* takes it away: before other output */

#endif
