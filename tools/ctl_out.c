#include "tools/ctl.h"

#include "fs/json_bytes.h"
#include "fs/query.h"
#include "fs/text.h"

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <json-c/json.h>
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

void ctl_print_escaped(FILE *f, struct slice s)
{
	struct buf text = { 0 };

	if (put_escaped(&text, s) == 0)
		fwrite(text.data, 1, text.len, f);
	buf_release(&text);
}

bool ctl_print_bytes(struct json_object *o, const char *key)
{
	struct buf bytes = { 0 };
	bool there = json_get_bytes(o, key, &bytes) == 0 && bytes.len;

	if (there)
		ctl_print_escaped(stdout, slice_buf(&bytes));
	buf_release(&bytes);
	return there;
}

void ctl_print_nul(struct json_object *o, const char *key)
{
	struct buf bytes = { 0 };

	if (json_get_bytes(o, key, &bytes) == 0) {
		fwrite(bytes.data, 1, bytes.len, stdout);
		putchar(0);
	}
	buf_release(&bytes);
}

int ctl_print_json(struct json_object *o)
{
	struct buf text = { 0 };
	int err;

	json_object_object_del(o, "ok");
	err = json_append(&text, o);
	if (!err)
		err = buf_put_u8(&text, '\n');
	if (!err)
		fwrite(text.data, 1, text.len, stdout);
	buf_release(&text);
	return err ? ctl_complain_err(err, "the output") : 0;
}

void ctl_format_time(int64_t ns, char out[64])
{
	time_t t = (time_t)(ns / 1000000000);
	struct tm tm;

	if (!localtime_r(&t, &tm) || !strftime(out, 64, "%Y-%m-%d %H:%M:%S", &tm))
		snprintf(out, 64, "@%lld", (long long)t);
}

void ctl_format_bytes(uint64_t bytes, char out[32])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double v = (double)bytes;
	unsigned unit = 0;

	while (v >= 1024 && unit < 6) {
		v /= 1024;
		unit++;
	}
	snprintf(out, 32, unit ? "%.1f %s" : "%.0f %s", v, units[unit]);
}

void ctl_format_span(uint64_t s, char out[32])
{
	static const struct {
		uint64_t s;
		char unit;
	} units[] = { { 86400, 'd' }, { 3600, 'h' }, { 60, 'm' }, { 1, 's' } };
	unsigned i = 0;

	while (i < 3 && s < units[i].s)
		i++;
	if (i < 3 && s % units[i].s / units[i + 1].s)
		snprintf(out, 32, "%" PRIu64 "%c %" PRIu64 "%c", s / units[i].s, units[i].unit,
			 s % units[i].s / units[i + 1].s, units[i + 1].unit);
	else
		snprintf(out, 32, "%" PRIu64 "%c", s / units[i].s, units[i].unit);
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

const char *ctl_group_name(uint32_t gid)
{
	static char name[64];
	static uint32_t last;
	struct group *gr;

	if (name[0] && last == gid)
		return name;
	gr = getgrgid(gid);
	if (gr)
		snprintf(name, sizeof(name), "%s", gr->gr_name);
	else
		snprintf(name, sizeof(name), "%u", gid);
	last = gid;
	return name;
}

static volatile sig_atomic_t reader_gone; /* a write gave SIGPIPE; errno may be another by the time we look */

static void on_sigpipe(int sig)
{
	(void)sig;
	reader_gone = 1;
}

bool ctl_reader_gone(void)
{
	return reader_gone;
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
