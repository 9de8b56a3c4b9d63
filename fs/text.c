#include "fs/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "fs/json_bytes.h"

/* U+0080 to U+009F are control characters, too: terminals obey them. */
static bool is_control(struct slice s, size_t n)
{
	return (n == 1 && (s.data[0] < 0x20 || s.data[0] == 0x7f)) ||
	       (n == 2 && s.data[0] == 0xc2 && s.data[1] < 0xa0);
}

/* One character, or one byte that begins none: `n` bytes. */
static int put_char(struct buf *out, struct slice s, size_t n)
{
	char octal[8];
	int err = 0;

	switch (s.data[0]) {
	case '\n':
		return buf_put(out, "\\n", 2);
	case '\t':
		return buf_put(out, "\\t", 2);
	case '\\':
		return buf_put(out, "\\\\", 2);
	default:
		if (n && !is_control(s, n))
			return buf_put(out, s.data, n);
	}
	for (size_t i = 0; i < (n ? n : 1) && !err; i++)
		err = buf_put(out, octal, (size_t)snprintf(octal, sizeof(octal), "\\%03o", s.data[i]));
	return err;
}

int put_escaped(struct buf *out, struct slice s)
{
	int err = 0;

	while (s.len && !err) {
		size_t n = utf8_char(s);

		err = put_char(out, s, n);
		s = slice_of(s.data + (n ? n : 1), s.len - (n ? n : 1));
	}
	return err;
}

void format_time(int64_t ns, char out[64])
{
	int64_t sec = ns / 1000000000, rest = ns % 1000000000;
	char date[40];
	struct tm tm;
	time_t t;

	if (rest < 0) {
		rest += 1000000000;
		sec--;
	}
	t = (time_t)sec;
	if (!gmtime_r(&t, &tm))
		tm = (struct tm){ .tm_mday = 1, .tm_year = 70 };
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out, 64, "%s.%09" PRId64 "Z", date, rest);
}
