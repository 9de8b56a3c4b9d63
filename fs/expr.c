#include "fs/expr.h"

#include "mvcc/keep.h"

#include <errno.h>
#include <time.h>

#define NS_PER_S ((int64_t)1000000000)

enum { MINUTE_S = 60, HOUR_S = 3600, DAY_S = 86400, WEEK_S = 7 * 86400 };

/* ---- words and numbers, taken off the front of a text ---------------------------------------- */

static bool take_one(struct slice *s, const char *any_of)
{
	if (!s->len || !s->data[0] || !strchr(any_of, s->data[0]))
		return false;
	*s = slice_of(s->data + 1, s->len - 1);
	return true;
}

static bool take_word(struct slice *s, const char *word)
{
	if (!slice_starts(*s, slice_str(word)))
		return false;
	*s = slice_of(s->data + strlen(word), s->len - strlen(word));
	return true;
}

static bool at_digit(struct slice s)
{
	return s.len && s.data[0] >= '0' && s.data[0] <= '9';
}

/* Exactly so many digits. */
static bool take_digits(struct slice *s, unsigned digits, int *out)
{
	struct slice rest = *s;
	int n = 0;

	for (unsigned i = 0; i < digits; i++) {
		if (!at_digit(rest))
			return false;
		n = n * 10 + (rest.data[0] - '0');
		rest = slice_of(rest.data + 1, rest.len - 1);
	}
	*s = rest;
	*out = n;
	return true;
}

/* Digits to their end, if the number is not beyond `max`. */
static bool take_number(struct slice *s, uint64_t max, uint64_t *out)
{
	uint64_t n = 0;

	if (!at_digit(*s))
		return false;
	for (; at_digit(*s); *s = slice_of(s->data + 1, s->len - 1)) {
		if (__builtin_mul_overflow(n, (uint64_t)10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(s->data[0] - '0'), &n) || n > max)
			return false;
	}
	*out = n;
	return true;
}

/* A number as revisions are written: the whole text, without zeros in front. */
static bool is_number(struct slice s, uint64_t *out)
{
	return (s.len == 1 || !slice_starts(s, slice_str("0"))) && take_number(&s, UINT64_MAX, out) && !s.len;
}

/* "head" or "head~3": how many before the newest. */
static bool is_head(struct slice s, uint64_t *before)
{
	if (!take_word(&s, "head") && !take_word(&s, "HEAD"))
		return false;
	*before = 0;
	return !s.len || (take_one(&s, "~") && is_number(s, before));
}

/* ---- times ------------------------------------------------------------------------------------ */

/* In ns, or the nearest that can be told so. */
static int64_t ns_at(int64_t seconds, int64_t ns)
{
	int64_t out;

	if (__builtin_mul_overflow(seconds, NS_PER_S, &out) || __builtin_add_overflow(out, ns, &out))
		return seconds < 0 ? INT64_MIN : INT64_MAX;
	return out;
}

/* What begins `ns` after `seconds` and lasts for `length_ns`. */
static struct expr_time span(int64_t seconds, int64_t ns, int64_t length_ns)
{
	return (struct expr_time){ ns_at(seconds, ns), ns_at(seconds, ns + length_ns - 1) };
}

static struct expr_time instant(int64_t ns)
{
	return (struct expr_time){ ns, ns };
}

static int64_t local_seconds(struct tm tm)
{
	tm.tm_isdst = -1;
	return mktime(&tm);
}

/* The local day that `tm` lies in, or one so many days later. */
static struct expr_time local_day(const struct tm *tm, int days)
{
	struct tm first = { .tm_year = tm->tm_year, .tm_mon = tm->tm_mon, .tm_mday = tm->tm_mday + days };
	struct tm next = first;

	next.tm_mday++;
	return (struct expr_time){ ns_at(local_seconds(first), 0), ns_at(local_seconds(next), -1) };
}

static bool day_exists(int year, int month, int day)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return month >= 1 && month <= 12 && day >= 1 && day <= days[month - 1] + (month == 2 && leap ? 1 : 0);
}

/* Year, month and day with `between` them. */
static bool take_date(struct slice *s, const char *between, struct tm *tm)
{
	int year, month, day;

	if (!take_digits(s, 4, &year) || !take_one(s, between) || !take_digits(s, 2, &month) ||
	    !take_one(s, between) || !take_digits(s, 2, &day) || !day_exists(year, month, day))
		return false;
	*tm = (struct tm){ .tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day };
	return true;
}

/* ".25": what it adds, and how long the last digit is. More digits than nine say nothing more. */
static bool take_fraction(struct slice *s, int64_t *ns, int64_t *length_ns)
{
	struct slice rest = *s;

	if (!take_one(&rest, ".") || !at_digit(rest))
		return false;
	for (; at_digit(rest); rest = slice_of(rest.data + 1, rest.len - 1)) {
		*length_ns /= 10;
		*ns += *length_ns * (rest.data[0] - '0');
	}
	if (!*length_ns)
		*length_ns = 1;
	*s = rest;
	return true;
}

/* "Z", "+01:00" or "+0100": how far its clocks are ahead. */
static bool take_zone(struct slice *s, int64_t *ahead_s)
{
	int hours, minutes, sign = 1;

	*ahead_s = 0;
	if (take_one(s, "Zz"))
		return true;
	if (slice_starts(*s, slice_str("-")))
		sign = -1;
	if (!take_one(s, "+-") || !take_digits(s, 2, &hours))
		return false;
	take_one(s, ":");
	if (!take_digits(s, 2, &minutes) || hours > 23 || minutes > 59)
		return false;
	*ahead_s = (int64_t)sign * (hours * HOUR_S + minutes * MINUTE_S);
	return true;
}

/* RFC 3339, and what may be left out of it. 60 is the second that is inserted now and then. */
static bool is_rfc3339(struct slice s, struct expr_time *out)
{
	int64_t ns = 0, length_ns = MINUTE_S * NS_PER_S, ahead_s, seconds;
	struct tm tm;

	if (!take_date(&s, "-", &tm))
		return false;
	if (!s.len) {
		*out = local_day(&tm, 0);
		return true;
	}
	if (!take_one(&s, "Tt") || !take_digits(&s, 2, &tm.tm_hour) || tm.tm_hour > 23 ||
	    !take_one(&s, ":") || !take_digits(&s, 2, &tm.tm_min) || tm.tm_min > 59)
		return false;
	if (take_one(&s, ":")) {
		if (!take_digits(&s, 2, &tm.tm_sec) || tm.tm_sec > 60)
			return false;
		length_ns = NS_PER_S;
		take_fraction(&s, &ns, &length_ns);
	}
	if (!s.len)
		seconds = local_seconds(tm);
	else if (take_zone(&s, &ahead_s) && !s.len)
		seconds = timegm(&tm) - ahead_s;
	else
		return false;
	*out = span(seconds, ns, length_ns);
	return true;
}

static bool is_samba(struct slice s, struct expr_time *out)
{
	struct tm tm;

	if (!take_word(&s, "@GMT-") || !take_date(&s, ".", &tm) || !take_one(&s, "-") ||
	    !take_digits(&s, 2, &tm.tm_hour) || tm.tm_hour > 23 || !take_one(&s, ".") ||
	    !take_digits(&s, 2, &tm.tm_min) || tm.tm_min > 59 || !take_one(&s, ".") ||
	    !take_digits(&s, 2, &tm.tm_sec) || tm.tm_sec > 60 || s.len)
		return false;
	*out = span(timegm(&tm), 0, NS_PER_S);
	return true;
}

static bool is_epoch(struct slice s, struct expr_time *out)
{
	int64_t ns = 0, length_ns = NS_PER_S;
	uint64_t seconds;

	if (!take_one(&s, "@") || !take_number(&s, INT64_MAX, &seconds))
		return false;
	take_fraction(&s, &ns, &length_ns);
	*out = span((int64_t)seconds, ns, length_ns);
	return !s.len;
}

static bool is_ago(struct slice s, int64_t now_ns, struct expr_time *out)
{
	static const struct {
		const char *unit;
		int64_t seconds;
	} units[] = { { "s", 1 }, { "m", MINUTE_S }, { "h", HOUR_S }, { "d", DAY_S }, { "w", WEEK_S } };
	uint64_t n;
	int64_t ago;

	if (!take_one(&s, "-") || !take_number(&s, INT64_MAX, &n) || s.len != 1)
		return false;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (!take_one(&s, units[i].unit))
			continue;
		if (__builtin_mul_overflow((int64_t)n, units[i].seconds * NS_PER_S, &ago) ||
		    __builtin_sub_overflow(now_ns, ago, &ago))
			ago = INT64_MIN;
		*out = instant(ago);
		return true;
	}
	return false;
}

static bool is_day_word(struct slice s, int64_t now_ns, struct expr_time *out)
{
	time_t now = (time_t)(now_ns / NS_PER_S - (now_ns % NS_PER_S < 0));
	bool today = slice_eq(s, slice_str("today"));
	struct tm tm;

	if ((!today && !slice_eq(s, slice_str("yesterday"))) || !localtime_r(&now, &tm))
		return false;
	*out = local_day(&tm, today ? 0 : -1);
	return true;
}

int expr_time(struct slice text, int64_t now_ns, struct expr_time *out)
{
	struct expr_time time;

	if (!is_rfc3339(text, &time) && !is_samba(text, &time) && !is_epoch(text, &time) &&
	    !is_ago(text, now_ns, &time) && !is_day_word(text, now_ns, &time))
		return -EINVAL;
	*out = time;
	return 0;
}

/* ---- revisions -------------------------------------------------------------------------------- */

/* mvcc_rev_at() gives the first revision also for what was before it. */
static int not_before_the_first(struct mvcc *db, int64_t time_ns)
{
	struct mvcc_why why;
	int err = mvcc_why(db, MVCC_REV_FIRST, &why);

	return err ? err : why.time_ns > time_ns ? -ENOENT : 0;
}

static int rev_at(struct mvcc *db, int64_t time_ns, mvcc_rev_t *rev)
{
	int err = mvcc_rev_at(db, time_ns, rev);

	return !err && *rev == MVCC_REV_FIRST ? not_before_the_first(db, time_ns) : err;
}

/* Is it there to be read? A pin may keep it below the floor, so the floor alone does not tell. */
static int readable(struct mvcc *db, mvcc_rev_t rev)
{
	struct mvcc_view *view;
	int err = rev ? mvcc_view_open(db, rev, &view) : -ENOENT;

	if (!err)
		mvcc_view_close(view);
	return err;
}

static int rev_of_tag(struct mvcc *db, struct slice name, mvcc_rev_t *rev)
{
	struct mvcc_pin pin;
	char text[MVCC_PIN_NAME_MAX + 1];

	if (!name.len || name.len > MVCC_PIN_NAME_MAX || memchr(name.data, 0, name.len))
		return -EINVAL;
	memcpy(text, name.data, name.len);
	text[name.len] = '\0';
	if (mvcc_pin_get(db, text, &pin))
		return -EINVAL;
	*rev = pin.rev;
	return 0;
}

int expr_rev(struct mvcc *db, struct slice text, int64_t now_ns, mvcc_rev_t *rev, bool *moving)
{
	mvcc_rev_t current = mvcc_current(db), found;
	struct expr_time time;
	uint64_t n;
	bool number = is_number(text, &n);
	int err;

	if (number) {
		found = n;
		err = readable(db, found);
	} else if (is_head(text, &n)) {
		found = n < current ? current - n : 0;
		err = readable(db, found);
	} else if (!expr_time(text, now_ns, &time)) {
		err = rev_at(db, time.to_ns, &found);
	} else {
		err = rev_of_tag(db, text, &found);
	}
	if (err)
		return err;
	*rev = found;
	if (moving)
		*moving = !number;
	return 0;
}

static bool has_range_or_tilde(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.data[i] == '~' || (s.data[i] == '.' && i && s.data[i - 1] == '.'))
			return true;
	return false;
}

static bool all_digits(struct slice s)
{
	while (at_digit(s))
		s = slice_of(s.data + 1, s.len - 1);
	return !s.len;
}

bool expr_is_reserved_form(struct slice name)
{
	struct slice rest = name;
	struct expr_time time;
	uint64_t before;

	return all_digits(name) || take_one(&rest, "@-") || slice_eq(name, slice_str(".")) ||
	       has_range_or_tilde(name) || is_head(name, &before) || !expr_time(name, 0, &time);
}
