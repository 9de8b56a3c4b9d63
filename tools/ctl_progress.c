#include "tools/ctl_progress.h"

#include "tools/ctl.h"

#include <inttypes.h>
#include <time.h>
#include <unistd.h>

enum { EVERY_MS = 200 };

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void ctl_progress(struct ctl_progress *p)
{
	char bytes[32];
	int64_t now;

	if (!p->begun) {
		p->begun = true;
		p->shown = isatty(STDERR_FILENO);
	}
	if (!p->shown)
		return;
	now = now_ms();
	if (now - p->last_ms < EVERY_MS)
		return;
	p->last_ms = now;
	ctl_format_bytes(p->bytes, bytes);
	fprintf(stderr, "\r\033[K%" PRIu64 " %s, %s", p->n, p->what, bytes);
	p->drawn = true;
}

void ctl_progress_end(struct ctl_progress *p)
{
	if (p->drawn)
		fputs("\r\033[K", stderr);
	p->drawn = false;
}
