/*
 * Revision expressions: every form and what it means, what is none, what may be a tag's name, and
 * which names a listing of the past has. Clocks are told, so that no test waits for one.
 */
#include "fs/expr.h"
#include "fs/past.h"
#include "mvcc/keep.h"

#include "tests/store_fixture.h"
#include "tests/unit.h"

#include <errno.h>
#include <inttypes.h>
#include <time.h>

#define S INT64_C(1000000000)

/* 2026-11-22T23:30:05Z, the "now" of these tests. */
#define NOW_S INT64_C(1795390205)
#define DAY_BEGINS_S INT64_C(1795305600) /* of that day, in UTC */

static struct fixture *fx;
static int64_t clock_ns;

static int64_t told_time(void *arg)
{
	(void)arg;
	return clock_ns;
}

static void use_zone(const char *zone)
{
	setenv("TZ", zone, 1);
	tzset();
}

/* A store with a root directory, begun at `seconds`; there every commit is made when the test says. */
static void open_at(int64_t seconds)
{
	use_zone("UTC");
	clock_ns = seconds * S;
	fx = fixture_new();
	fx->opt.init = ns_init;
	fx->opt.clock = told_time;
	fx->opt.manual_upkeep = true;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
}

static void open_store(void)
{
	open_at(NOW_S);
}

static void close_store(void)
{
	fixture_close(fx);
	fx = NULL;
}

static mvcc_rev_t commit_at(int64_t ns)
{
	clock_ns = ns;
	return put(fx->db, "k", "v");
}

/* ---- times ------------------------------------------------------------------------------------- */

static void assert_time(const char *text, int64_t from_ns, int64_t to_ns)
{
	struct expr_time time = { 0 };

	CU_ASSERT_EQUAL(expr_time(slice_str(text), NOW_S * S, &time), 0);
	CU_ASSERT_EQUAL(time.from_ns, from_ns);
	CU_ASSERT_EQUAL(time.to_ns, to_ns);
	if (time.from_ns != from_ns || time.to_ns != to_ns)
		printf("\n    %s: %" PRId64 " to %" PRId64 ", not %" PRId64 " to %" PRId64 "\n", text,
		       time.from_ns, time.to_ns, from_ns, to_ns);
}

static void assert_second(const char *text, int64_t seconds)
{
	assert_time(text, seconds * S, seconds * S + S - 1);
}

static void assert_no_time(struct slice text)
{
	struct expr_time time = { 1, 2 };

	CU_ASSERT_EQUAL(expr_time(text, NOW_S * S, &time), -EINVAL);
	CU_ASSERT_EQUAL(time.from_ns, 1);
	CU_ASSERT_EQUAL(time.to_ns, 2);
}

static void test_rfc_3339_means_the_second_it_names(void)
{
	use_zone("UTC");
	assert_second("2026-11-22T23:30:05Z", NOW_S);
	assert_second("2026-11-22t23:30:05z", NOW_S);
	assert_second("2026-11-22T23:30:05", NOW_S);
	assert_second("2026-11-23T00:30:05+01:00", NOW_S);
	assert_second("2026-11-23T00:30:05+0100", NOW_S);
	assert_second("2026-11-22T18:00:05-05:30", NOW_S);
	assert_second("2026-11-22T23:30:05-00:00", NOW_S);
	assert_second("2026-11-22T23:29:60Z", NOW_S - 5);
	assert_second("1970-01-01T00:00:00Z", 0);
	assert_second("1969-12-31T23:59:59Z", -1);
	assert_second("2000-02-29T00:00:00Z", 951782400);
}

static void test_a_time_is_as_long_as_it_is_written(void)
{
	use_zone("UTC");
	assert_time("2026-11-22", DAY_BEGINS_S * S, (DAY_BEGINS_S + 86400) * S - 1);
	assert_time("2026-11-22T23:30", (NOW_S - 5) * S, (NOW_S + 55) * S - 1);
	assert_time("2026-11-22T23:30Z", (NOW_S - 5) * S, (NOW_S + 55) * S - 1);
	assert_time("2026-11-22T23:30:05.5Z", NOW_S * S + 500000000, NOW_S * S + 599999999);
	assert_time("2026-11-22T23:30:05.25", NOW_S * S + 250000000, NOW_S * S + 259999999);
	assert_time("2026-11-22T23:30:05.123456789Z", NOW_S * S + 123456789, NOW_S * S + 123456789);
	assert_time("2026-11-22T23:30:05.123456789987Z", NOW_S * S + 123456789, NOW_S * S + 123456789);
	assert_second("@1795390205", NOW_S);
	assert_time("@1795390205.001", NOW_S * S + 1000000, NOW_S * S + 1999999);
	assert_second("@0", 0);
	assert_second("@GMT-2026.11.22-23.30.05", NOW_S);
}

static void test_times_beyond_what_nanoseconds_tell_are_cut(void)
{
	use_zone("UTC");
	assert_time("9999-12-31T23:59:59Z", INT64_MAX, INT64_MAX);
	assert_time("0001-01-01", INT64_MIN, INT64_MIN);
	assert_time("@9223372036854775807", INT64_MAX, INT64_MAX);
	assert_time("-9223372036854775807w", INT64_MIN, INT64_MIN);
	assert_time("-99999999999d", INT64_MIN, INT64_MIN);
}

static void test_relative_times_count_back_from_now(void)
{
	static const struct {
		const char *text;
		int64_t seconds;
	} cases[] = {
		{ "-30s", 30 },    { "-5m", 300 }, { "-2h", 7200 },       { "-3d", 259200 },
		{ "-1w", 604800 }, { "-0s", 0 },   { "-100w", 60480000 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_time(cases[i].text, (NOW_S - cases[i].seconds) * S, (NOW_S - cases[i].seconds) * S);
}

static void test_days_are_those_of_the_local_zone(void)
{
	use_zone("UTC");
	assert_time("today", DAY_BEGINS_S * S, (DAY_BEGINS_S + 86400) * S - 1);
	assert_time("yesterday", (DAY_BEGINS_S - 86400) * S, DAY_BEGINS_S * S - 1);
	use_zone("XXX-01:00"); /* an hour ahead: there it is the 23rd already */
	assert_time("today", (DAY_BEGINS_S + 82800) * S, (DAY_BEGINS_S + 169200) * S - 1);
	assert_time("2026-11-23", (DAY_BEGINS_S + 82800) * S, (DAY_BEGINS_S + 169200) * S - 1);
	assert_second("2026-11-23T00:30:05", NOW_S);
	assert_second("2026-11-22T23:30:05Z", NOW_S);
	assert_second("@GMT-2026.11.22-23.30.05", NOW_S);
	use_zone("UTC");
}

static void test_a_day_may_have_23_hours_or_25(void)
{
	struct expr_time short_day = { 0 }, long_day = { 0 };

	use_zone("XXX0YYY,M3.5.0/1,M10.5.0/2");
	CU_ASSERT_EQUAL(expr_time(slice_str("2026-03-29"), 0, &short_day), 0);
	CU_ASSERT_EQUAL(expr_time(slice_str("2026-10-25"), 0, &long_day), 0);
	CU_ASSERT_EQUAL(short_day.to_ns - short_day.from_ns + 1, 23 * 3600 * S);
	CU_ASSERT_EQUAL(long_day.to_ns - long_day.from_ns + 1, 25 * 3600 * S);
	use_zone("UTC");
}

static void test_what_is_no_time(void)
{
	static const char *const texts[] = {
		"",
		"2026",
		"2026-11",
		"2026-13-01",
		"2026-00-01",
		"2026-11-00",
		"2026-11-31",
		"2026-02-29",
		"1900-02-29",
		"26-11-22",
		"2026-1-2",
		"2026/11/22",
		"2026-11-22T",
		"2026-11-22T23",
		"2026-11-22T2330",
		"2026-11-22 23:30:05",
		"2026-11-22T24:00:00Z",
		"2026-11-22T23:60:00Z",
		"2026-11-22T23:30:61Z",
		"2026-11-22T23:30:5Z",
		"2026-11-22T23:30:05.Z",
		"2026-11-22T23:30.5Z",
		"2026-11-22T23:30:05+1",
		"2026-11-22T23:30:05+01",
		"2026-11-22T23:30:05+24:00",
		"2026-11-22T23:30:05+01:60",
		"2026-11-22T23:30:05ZZ",
		"2026-11-22T23:30:05Z ",
		" 2026-11-22",
		"2026-11-22Z",
		"-2026-11-22",
		"@",
		"@-5",
		"@1.",
		"@.5",
		"@5x",
		"@99999999999999999999",
		"@GMT-2026.11.22",
		"@GMT-2026.11.22-23.30",
		"@GMT-2026.11.22-23.30.05Z",
		"@GMT-2026.11.31-00.00.00",
		"@GMT-2026.11.22-24.00.00",
		"@gmt-2026.11.22-23.30.05",
		"@GMT-2026-11-22-23.30.05",
		"-",
		"-5",
		"-m",
		"-5 m",
		"-5M",
		"-5y",
		"-5mm",
		"-5m2s",
		"-1.5h",
		"--5m",
		"+5m",
		"5m",
		"-99999999999999999999s",
		"Yesterday",
		"yesterday ",
		"tomorrow",
		"nowhere",
		"head",
		"41",
	};

	use_zone("UTC");
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_no_time(slice_str(texts[i]));
	assert_no_time(slice_of("now\0", 4));
	assert_no_time(slice_of("2026-11-22\0", 11));
	assert_no_time(slice_of("-5m\0", 4));
}

/* ---- revisions --------------------------------------------------------------------------------- */

static int rev_of(struct slice text, mvcc_rev_t *rev, bool *moving)
{
	return expr_rev(fx->db, text, clock_ns, rev, moving);
}

static void assert_rev(const char *text, mvcc_rev_t wanted)
{
	mvcc_rev_t rev = 0;

	CU_ASSERT_EQUAL(rev_of(slice_str(text), &rev, NULL), 0);
	CU_ASSERT_EQUAL(rev, wanted);
	if (rev != wanted)
		printf("\n    %s: revision %" PRIu64 ", not %" PRIu64 "\n", text, rev, wanted);
}

static void assert_no_rev(const char *text, int wanted)
{
	mvcc_rev_t rev = 77;
	int err = rev_of(slice_str(text), &rev, NULL);

	CU_ASSERT_EQUAL(err, wanted);
	CU_ASSERT_EQUAL(rev, 77);
	if (err != wanted)
		printf("\n    %s: %d, not %d\n", text, err, wanted);
}

static void test_numbers_and_head(void)
{
	for (int i = 2; i <= 5; i++)
		commit_at(clock_ns + S);
	assert_rev("1", 1);
	assert_rev("5", 5);
	assert_rev("head", 5);
	assert_rev("HEAD", 5);
	assert_rev("head~0", 5);
	assert_rev("head~3", 2);
	assert_rev("HEAD~4", 1);
	assert_no_rev("0", -ENOENT);
	assert_no_rev("6", MVCC_EFUTURE);
	assert_no_rev("18446744073709551615", MVCC_EFUTURE);
	assert_no_rev("18446744073709551616", -EINVAL);
	assert_no_rev("head~5", -ENOENT);
	assert_no_rev("head~18446744073709551615", -ENOENT);
	assert_no_rev("head~18446744073709551616", -EINVAL);
	assert_no_rev("", -EINVAL);
	assert_no_rev("01", -EINVAL);
	assert_no_rev("head~", -EINVAL);
	assert_no_rev("head~01", -EINVAL);
	assert_no_rev("head~-1", -EINVAL);
	assert_no_rev("head^", -EINVAL);
	assert_no_rev("Head", -EINVAL);
	assert_no_rev("no such tag", -EINVAL);
	assert_no_rev("..", -EINVAL);
}

static void test_a_time_means_the_newest_revision_not_after_it(void)
{
	commit_at((NOW_S + 10) * S + 1); /* 2 */
	commit_at((NOW_S + 10) * S + 2); /* 3 */
	commit_at((NOW_S + 100) * S);    /* 4 */
	commit_at((NOW_S + 86400) * S);  /* 5, a day later */
	assert_rev("2026-11-22T23:30:05Z", 1);
	assert_rev("@1795390205", 1);
	assert_rev("@1795390205.000000000", 1);
	assert_rev("@1795390214", 1);
	assert_rev("@1795390215.000000000", 1);
	assert_rev("@1795390215.000000001", 2);
	assert_rev("@1795390215", 3);
	assert_rev("@GMT-2026.11.22-23.30.15", 3);
	assert_rev("2026-11-22T23:30", 3);
	assert_rev("2026-11-22T23:31:44Z", 3);
	assert_rev("2026-11-22T23:31:45Z", 4);
	assert_rev("2026-11-22", 4);
	assert_rev("2026-11-23", 5);
	assert_rev("2030-01-01", 5);
	assert_rev("9999-12-31", 5);
	assert_rev("yesterday", 4);
	assert_rev("today", 5);
	assert_rev("-0s", 5);
	assert_rev("-1s", 4);
	assert_rev("-1d", 1);
	assert_no_rev("@1795390204", -ENOENT);
	assert_no_rev("2026-11-21", -ENOENT);
	assert_no_rev("-2d", -ENOENT);
	assert_no_rev("-1w", -ENOENT);
}

static void test_of_several_revisions_at_one_time_the_last_is_meant(void)
{
	for (int i = 2; i <= 4; i++)
		commit_at((NOW_S + 1) * S);
	commit_at((NOW_S + 2) * S);
	assert_rev("@1795390206", 4);
}

static void test_a_tag_means_what_it_pins(void)
{
	commit_at(clock_ns + S);
	commit_at(clock_ns + S);
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "v1.0", 2), 0);
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "before the release", 1), 0);
	assert_rev("v1.0", 2);
	assert_rev("before the release", 1);
	assert_no_rev("v1", -EINVAL);
	assert_no_rev("v1.0~1", -EINVAL);
	CU_ASSERT_EQUAL(mvcc_pin_rename(fx->db, "v1.0", "v1"), 0);
	assert_rev("v1", 2);
	assert_no_rev("v1.0", -EINVAL);
	CU_ASSERT_EQUAL(mvcc_unpin(fx->db, "v1"), 0);
	assert_no_rev("v1", -EINVAL);
}

static void test_another_form_wins_over_a_tag(void)
{
	static const char *const names[] = { "3", "head", "head~1", "2026-11-22", "@1795390205", "-1d" };

	commit_at(clock_ns + S);
	commit_at(clock_ns + S);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		CU_ASSERT_EQUAL(mvcc_pin(fx->db, names[i], 2), 0);
	assert_rev("3", 3);
	assert_rev("head", 3);
	assert_rev("2026-11-22", 3);
	assert_rev("@1795390205", 1);
	assert_no_rev("-1d", -ENOENT);
}

static void test_below_the_floor_only_what_is_pinned_can_be_read(void)
{
	for (int i = 2; i <= 10; i++)
		commit_at((NOW_S + i) * S);
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "four", 4), 0);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, 7), 0);
	CU_ASSERT_EQUAL(mvcc_upkeep(fx->db), 0);
	assert_rev("7", 7);
	assert_rev("4", 4);
	assert_rev("four", 4);
	assert_rev("head~6", 4);
	assert_no_rev("1", MVCC_ECOMPACTED);
	assert_no_rev("5", MVCC_ECOMPACTED);
	assert_no_rev("head~4", MVCC_ECOMPACTED);
	assert_rev("@1795390212", 7);
	assert_rev("@1795390211", 4); /* what was kept, not after it */
	assert_rev("@1795390209", 4);
	assert_no_rev("@1795390208", MVCC_ECOMPACTED);
	CU_ASSERT_EQUAL(mvcc_unpin(fx->db, "four"), 0);
	assert_no_rev("4", MVCC_ECOMPACTED);
	assert_no_rev("four", -EINVAL);
	assert_no_rev("@1795390211", MVCC_ECOMPACTED);
}

static void test_the_first_revision_can_be_kept_by_a_pin_alone(void)
{
	for (int i = 2; i <= 5; i++)
		commit_at((NOW_S + i) * S);
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "first", 1), 0);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, 4), 0);
	CU_ASSERT_EQUAL(mvcc_upkeep(fx->db), 0);
	assert_rev("@1795390207", 1);
	assert_rev("@1795390205", 1);
	assert_no_rev("@1795390204", MVCC_ECOMPACTED);
}

static void test_only_numbers_mean_the_same_for_ever(void)
{
	static const struct {
		const char *text;
		bool moving;
	} cases[] = {
		{ "1", false },         { "2", false },
		{ "head", true },       { "head~1", true },
		{ "2026-11-22", true }, { "@1795390205", true },
		{ "-0s", true },        { "today", true },
		{ "tag", true },        { "@GMT-2026.11.22-23.30.05", true },
	};

	commit_at(clock_ns + S);
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "tag", 1), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool moving = !cases[i].moving;
		mvcc_rev_t rev;

		CU_ASSERT_EQUAL(rev_of(slice_str(cases[i].text), &rev, &moving), 0);
		CU_ASSERT_EQUAL(moving, cases[i].moving);
	}
}

static void test_names_that_no_tag_may_have(void)
{
	static const char *const reserved[] = {
		"",
		".",
		"..",
		"a..b",
		"v1~2",
		"~",
		"0",
		"1",
		"007",
		"18446744073709551616",
		"head",
		"HEAD",
		"head~1",
		"head~",
		"today",
		"yesterday",
		"2026-11-22",
		"-5m",
		"-",
		"-x",
		"@",
		"@epoch",
		"2026-11-22T23:30:05Z",
		"@1",
		"@GMT-2026.11.22-23.30.05",
		"2026-11-22T23:30",
	};
	static const char *const free_names[] = {
		"v1",        "v1.0",
		"release 2", "header",
		"Head",      "a.b",
		"1a",        "2026",
		"now",       "now-ish",
		"2026-Q4",   "a-b",
		"a@b",       "auto-2026-11-22T23:30:05Z",
		"\xff",      "snap_2026-11-22",
	};

	use_zone("UTC");
	for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++) {
		CU_ASSERT_TRUE(expr_is_reserved_form(slice_str(reserved[i])));
		if (!expr_is_reserved_form(slice_str(reserved[i])))
			printf("\n    \"%s\" is not reserved\n", reserved[i]);
	}
	for (size_t i = 0; i < sizeof(free_names) / sizeof(free_names[0]); i++) {
		/* All digits are reserved, so "2026" is. */
		bool wanted = strcmp(free_names[i], "2026") == 0;

		CU_ASSERT_EQUAL(expr_is_reserved_form(slice_str(free_names[i])), wanted);
	}
}

/* Bytes that look a little like expressions, of every length, none followed by anything readable. */
static void test_random_bytes_are_judged_and_harm_nothing(void)
{
	static const char pieces[][12] = { "head", "~", "@",  "GMT-", "2026",        "-",        "11",  "22",
					   "T",    ":", "30", ".",    "05",          "Z",        "+01", "now",
					   "d",    "w", "\0", "\xff", "99999999999", "yesterday" };
	uint64_t state = fixture_env("MVCCFS_TEST_SEED", 41);
	unsigned times = 0, revs = 0;

	commit_at(clock_ns + S);
	for (int i = 0; i < 200000; i++) {
		size_t len = 0, n = random_below(&state, 9);
		char text[256];
		uint8_t *exact;
		struct expr_time time;
		mvcc_rev_t rev = 0;
		int err;

		while (n--) {
			const char *piece = pieces[random_below(&state, sizeof(pieces) / sizeof(pieces[0]))];

			do
				text[len++] = *piece;
			while (*piece && *++piece);
		}
		if (len && random_below(&state, 4) == 0)
			text[random_below(&state, len)] = (char)random_below(&state, 256);
		exact = malloc(len ? len : 1); /* so that a sanitizer sees a byte too far */
		memcpy(exact, text, len);
		err = expr_time(slice_of(exact, len), clock_ns, &time);
		if (!err) {
			times++;
			if (time.from_ns > time.to_ns || !expr_is_reserved_form(slice_of(exact, len)))
				CU_FAIL("a time that ends before it begins, or could be a tag");
		}
		if (err || i % 16 == 0) {
			err = rev_of(slice_of(exact, len), &rev, NULL);
			revs += !err;
			if (err ? err != -EINVAL && err != -ENOENT && err != MVCC_EFUTURE : rev - 1 > 1)
				CU_FAIL("no such revision, and no such error");
		}
		free(exact);
	}
	CU_ASSERT(times > 100);
	CU_ASSERT(revs > 100);
}

/* ---- as names in a mount ------------------------------------------------------------------------ */

static void test_as_a_name_what_is_no_expression_does_not_exist(void)
{
	mvcc_rev_t rev = 0;
	bool moving = true;

	for (int i = 2; i <= 5; i++)
		commit_at(clock_ns);
	CU_ASSERT_EQUAL(past_resolve(fx->db, slice_str("3"), &rev, &moving), 0);
	CU_ASSERT_EQUAL(rev, 3);
	CU_ASSERT_FALSE(moving);
	CU_ASSERT_EQUAL(past_resolve(fx->db, slice_str("nonsense"), &rev, &moving), -ENOENT);
	CU_ASSERT_EQUAL(past_resolve(fx->db, slice_str("6"), &rev, &moving), -ENOENT);
	CU_ASSERT_EQUAL(past_resolve(fx->db, slice_str("head~9"), &rev, &moving), -ENOENT);
	CU_ASSERT_EQUAL(past_resolve(fx->db, slice_str("@5"), &rev, &moving), -ENOENT);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, 4), 0);
	CU_ASSERT_EQUAL(past_resolve(fx->db, slice_str("3"), &rev, &moving), MVCC_ECOMPACTED);
}

/* The names of a listing as "a=1 b=2", in its order; and each name must mean the revision beside it. */
static void assert_listed(const char *path, const char *wanted)
{
	struct past_names names = { 0 };
	char got[4096] = "";
	size_t len = 0;

	CU_ASSERT_EQUAL(past_list(fx->db, slice_str(path), &names), 0);
	for (size_t i = 0; i < names.n && len < sizeof(got) - 300; i++) {
		const struct past_name *name = &names.names[i];
		mvcc_rev_t rev = 0;

		len += (size_t)snprintf(got + len, sizeof(got) - len, "%s%s=%" PRIu64, i ? " " : "",
					name->text, name->rev);
		CU_ASSERT_EQUAL(rev_of(slice_str(name->text), &rev, NULL), 0);
		CU_ASSERT_EQUAL(rev, name->rev);
	}
	CU_ASSERT_STRING_EQUAL(got, wanted);
	if (strcmp(got, wanted) != 0)
		printf("\n    %s: got \"%s\", not \"%s\"\n", path, got, wanted);
	past_names_release(&names);
}

static void test_a_listing_has_tags_numbers_and_times(void)
{
	commit_at((NOW_S + 1) * S);
	commit_at((NOW_S + 1) * S + 5);
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "v1", 1), 0);
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "2", 1), 0); /* means another: not listed as a tag */
	assert_listed("/", "v1=1 3=3 2=2 1=1 @GMT-2026.11.22-23.30.06=3 @GMT-2026.11.22-23.30.05=1");
}

static void test_a_listing_has_one_time_an_hour_and_then_one_a_day(void)
{
	for (int i = 1; i <= 3; i++) /* two in each of three hours of the next day */
		for (int j = 0; j < 2; j++)
			commit_at((DAY_BEGINS_S + 86400 + i * 3600 + j * 600) * S);
	commit_at((DAY_BEGINS_S + 2 * 86400 + 60) * S); /* 8 */
	assert_listed("/", "8=8 7=7 6=6 5=5 4=4 3=3 2=2 1=1 @GMT-2026.11.24-00.01.00=8 "
			   "@GMT-2026.11.23-03.10.00=7 @GMT-2026.11.23-02.10.00=5 "
			   "@GMT-2026.11.23-01.10.00=3 @GMT-2026.11.22-23.30.05=1");
}

static unsigned count_listed(const char *prefix)
{
	struct past_names names = { 0 };
	unsigned n = 0;

	CU_ASSERT_EQUAL(past_list(fx->db, slice_str("/"), &names), 0);
	for (size_t i = 0; i < names.n; i++)
		n += strncmp(names.names[i].text, prefix, strlen(prefix)) == 0;
	past_names_release(&names);
	return n;
}

static void test_a_listing_is_bounded(void)
{
	for (int i = 0; i < 2400; i++) /* an hour apart: a hundred days */
		commit_at(clock_ns + 3600 * S);
	/* A day's newest hour is among the hours for the last two days. */
	CU_ASSERT(count_listed("@GMT-") >= PAST_HOURS + PAST_DAYS - 2);
	CU_ASSERT(count_listed("@GMT-") <= PAST_HOURS + PAST_DAYS);
	CU_ASSERT_EQUAL(count_listed(""), PAST_LISTED + count_listed("@GMT-"));
}

static void test_a_listing_shows_pins_below_the_floor_by_their_time(void)
{
	for (int i = 2; i <= 6; i++)
		commit_at((NOW_S + 10 * i) * S);
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "two", 2), 0);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, 5), 0);
	CU_ASSERT_EQUAL(mvcc_upkeep(fx->db), 0);
	assert_listed("/", "two=2 6=6 5=5 @GMT-2026.11.22-23.31.05=6 @GMT-2026.11.22-23.30.25=2");
}

/* What retention keeps is a time, and no tag among those that people gave. */
static void test_what_retention_pins_is_listed_by_its_time(void)
{
	struct mvcc_policy policy = { .keep_revs = 1, .daily = 3 };

	for (int i = 1; i <= 3; i++)
		commit_at((DAY_BEGINS_S + i * 86400) * S);
	CU_ASSERT_EQUAL(mvcc_policy_set(fx->db, &policy), 0);
	CU_ASSERT_EQUAL(mvcc_upkeep(fx->db), 0);
	assert_listed("/", "4=4 @GMT-2026.11.25-00.00.00=4 @GMT-2026.11.24-00.00.00=3 "
			   "@GMT-2026.11.23-00.00.00=2 @GMT-2026.11.22-23.30.05=1");
}

static void test_a_listing_shows_only_when_there_was_such_a_directory(void)
{
	const struct ns_who me = { .comm = "test" };
	struct ns_options opt = { .commit_ms = 60000 };
	struct ns_attr attr;
	struct ns *ns;

	CU_ASSERT_EQUAL_FATAL(ns_open(fx->db, &opt, &ns), 0);
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "none", 1), 0);
	clock_ns += S;
	CU_ASSERT_EQUAL(ns_mkdir(ns, &me, NS_ROOT, slice_str("d"), 0755, &attr), 0);
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "there", 2), 0);
	clock_ns += S;
	CU_ASSERT_EQUAL(ns_rmdir(ns, &me, NS_ROOT, slice_str("d"), NULL), 0);
	CU_ASSERT_EQUAL(ns_close(ns), 0);
	assert_listed("/d", "there=2 2=2 @GMT-2026.11.22-23.30.06=2");
	assert_listed("/e", "");
}

static CU_TestInfo time_tests[] = {
	UNIT_TEST(test_rfc_3339_means_the_second_it_names),
	UNIT_TEST(test_a_time_is_as_long_as_it_is_written),
	UNIT_TEST(test_times_beyond_what_nanoseconds_tell_are_cut),
	UNIT_TEST(test_relative_times_count_back_from_now),
	UNIT_TEST(test_days_are_those_of_the_local_zone),
	UNIT_TEST(test_a_day_may_have_23_hours_or_25),
	UNIT_TEST(test_what_is_no_time),
	CU_TEST_INFO_NULL,
};

static CU_TestInfo rev_tests[] = {
	UNIT_TEST(test_numbers_and_head),
	UNIT_TEST(test_a_time_means_the_newest_revision_not_after_it),
	UNIT_TEST(test_of_several_revisions_at_one_time_the_last_is_meant),
	UNIT_TEST(test_a_tag_means_what_it_pins),
	UNIT_TEST(test_another_form_wins_over_a_tag),
	UNIT_TEST(test_below_the_floor_only_what_is_pinned_can_be_read),
	UNIT_TEST(test_the_first_revision_can_be_kept_by_a_pin_alone),
	UNIT_TEST(test_only_numbers_mean_the_same_for_ever),
	UNIT_TEST(test_names_that_no_tag_may_have),
	UNIT_TEST(test_random_bytes_are_judged_and_harm_nothing),
	CU_TEST_INFO_NULL,
};

static CU_TestInfo name_tests[] = {
	UNIT_TEST(test_as_a_name_what_is_no_expression_does_not_exist),
	UNIT_TEST(test_a_listing_has_tags_numbers_and_times),
	UNIT_TEST(test_a_listing_has_one_time_an_hour_and_then_one_a_day),
	UNIT_TEST(test_a_listing_is_bounded),
	UNIT_TEST(test_a_listing_shows_pins_below_the_floor_by_their_time),
	UNIT_TEST(test_what_retention_pins_is_listed_by_its_time),
	UNIT_TEST(test_a_listing_shows_only_when_there_was_such_a_directory),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = {
		UNIT_SUITE("times", NULL, NULL, time_tests),
		UNIT_SUITE("revisions", open_store, close_store, rev_tests),
		UNIT_SUITE("names", open_store, close_store, name_tests),
		CU_SUITE_INFO_NULL,
	};

	return unit_main(argc, argv, suites);
}
