/* What people write after a verb: numbers, spans of time, sizes. */
#include "tools/ctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Digits at the front of `*at`, which moves behind them. */
static bool take_number(const char **at, uint64_t *out)
{
	char *end;

	if (**at < '0' || **at > '9')
		return false;
	errno = 0;
	*out = strtoull(*at, &end, 10);
	*at = end;
	return !errno;
}

bool ctl_parse_number(const char *arg, uint64_t *out)
{
	return take_number(&arg, out) && !*arg;
}

static uint64_t span_unit(char c)
{
	switch (c) {
	case 's':
		return 1;
	case 'm':
		return 60;
	case 'h':
		return 3600;
	case 'd':
		return 86400;
	case 'w':
		return 7 * 86400;
	case 'y':
		return (uint64_t)365 * 86400;
	default:
		return 0;
	}
}

bool ctl_parse_span(const char *arg, uint64_t *out)
{
	uint64_t sum = 0, n;

	if (ctl_parse_number(arg, out))
		return true;
	do {
		uint64_t unit;

		if (!take_number(&arg, &n))
			return false;
		unit = span_unit(*arg++);
		if (!unit || __builtin_mul_overflow(n, unit, &n) || __builtin_add_overflow(sum, n, &sum))
			return false;
	} while (*arg);
	*out = sum;
	return true;
}

bool ctl_parse_bytes(const char *arg, uint64_t *out)
{
	static const char units[] = "KMGTPE";
	const char *unit;

	if (!take_number(&arg, out))
		return false;
	if (!*arg)
		return true;
	unit = strchr(units, *arg);
	return unit && !arg[1] && !__builtin_mul_overflow(*out, (uint64_t)1 << 10 * (unit - units + 1), out);
}

/* Anything that is no path: a tag may be called anything but that. */
static bool is_bound(struct slice s)
{
	return !s.len || !memchr(s.data, '/', s.len);
}

bool ctl_parse_range(const char *arg, struct slice *from, struct slice *to)
{
	const char *dots = strstr(arg, "..");
	struct slice left, right;

	if (!dots || strcmp(arg, "..") == 0)
		return false;
	left = slice_of(arg, (size_t)(dots - arg));
	right = slice_str(dots + 2);
	if (!is_bound(left) || !is_bound(right))
		return false;
	*from = left;
	*to = right;
	return true;
}
