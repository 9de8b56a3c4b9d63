#include "tools/ctl.h"

#include "fs/json_bytes.h"
#include "fs/query.h"

#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

int ctl_complain(int status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("mvccctl: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	return status;
}

int ctl_complain_err(int err, const char *what)
{
	return ctl_complain(query_exit(err), "%s: %s", what, mvcc_strerror(err));
}

/* U+0080 to U+009F are control characters, too: terminals obey them. */
static bool is_control(struct slice s, size_t n)
{
	return (n == 1 && (s.data[0] < 0x20 || s.data[0] == 0x7f)) ||
	       (n == 2 && s.data[0] == 0xc2 && s.data[1] < 0xa0);
}

void ctl_print_escaped(FILE *f, struct slice s)
{
	while (s.len) {
		size_t n = utf8_char(s);

		if (s.data[0] == '\n')
			fputs("\\n", f);
		else if (s.data[0] == '\t')
			fputs("\\t", f);
		else if (s.data[0] == '\\')
			fputs("\\\\", f);
		else if (n && !is_control(s, n))
			fwrite(s.data, 1, n, f);
		else
			for (size_t i = 0; i < (n ? n : 1); i++)
				fprintf(f, "\\%03o", s.data[i]);
		s = slice_of(s.data + (n ? n : 1), s.len - (n ? n : 1));
	}
}

void ctl_format_time(int64_t ns, char out[64])
{
	time_t t = (time_t)(ns / 1000000000);
	struct tm tm;

	if (!localtime_r(&t, &tm) || !strftime(out, 64, "%Y-%m-%d %H:%M:%S", &tm))
		snprintf(out, 64, "@%lld", (long long)t);
}

const char *ctl_user_name(uint32_t uid)
{
	static char name[64]; /* of the last one asked for: a log has few users in a row */
	static uint32_t last;
	struct passwd *pw;

	if (name[0] && last == uid)
		return name;
	pw = getpwuid(uid);
	if (pw)
		snprintf(name, sizeof(name), "%s", pw->pw_name);
	else
		snprintf(name, sizeof(name), "%u", uid);
	last = uid;
	return name;
}

static volatile sig_atomic_t reader_gone; /* a write gave SIGPIPE; errno may be another by the time we look */

static void on_sigpipe(int sig)
{
	(void)sig;
	reader_gone = 1;
}

void ctl_outlive_reader(void)
{
	struct sigaction sa = { .sa_handler = on_sigpipe, .sa_flags = SA_RESTART };

	sigaction(SIGPIPE, &sa, NULL);
}

bool ctl_flush(int *status)
{
	bool failed_before = ferror(stdout) != 0;

	if (fflush(stdout) == 0 && !failed_before)
		return true;
	if (!reader_gone && *status != CTL_TROUBLE)
		*status = ctl_complain(CTL_TROUBLE, "cannot write the output%s%s", failed_before ? "" : ": ",
				       failed_before ? "" : strerror(errno));
	return false;
}
