/*
 * The plan of retention against the calendar of the C library, and against the plainest way to say what a policy
 * means: look at every revision there ever was.
 */
#include "mvcc/mvcc_int.h"
#include "mvcc/retain.h"
#include "rocks_backend/rocks.h"
#include "tests/engines/fault_engine.h"
#include "tests/engines/mem_engine.h"
#include "tests/store_fixture.h"
#include "tests/unit.h"

#include <errno.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#define SECOND ((int64_t)1000000000)
#define HOUR (3600 * SECOND)
#define DAY (24 * HOUR)

/* ---- the calendar ---------------------------------------------------------------------------- */

/* "2024-02-29 12:00:00", in ns since 1970. */
static int64_t at(const char *text)
{
	struct tm tm = { .tm_isdst = 0 };

	if (!strptime(text, "%Y-%m-%d %H:%M:%S", &tm))
		abort();
	return (int64_t)timegm(&tm) * SECOND;
}

static void test_units_begin_where_the_calendar_says(void)
{
	static const struct {
		const char *time, *begins[RETAIN_UNITS];
	} table[] = {
		{ "1970-01-01 00:00:00",
		  { "1970-01-01 00:00:00", "1970-01-01 00:00:00", "1969-12-29 00:00:00",
		    "1970-01-01 00:00:00", "1970-01-01 00:00:00" } },
		{ "2024-02-29 23:59:59", /* a leap day, a Thursday */
		  { "2024-02-29 23:00:00", "2024-02-29 00:00:00", "2024-02-26 00:00:00",
		    "2024-02-01 00:00:00", "2024-01-01 00:00:00" } },
		{ "2024-03-01 00:00:00",
		  { "2024-03-01 00:00:00", "2024-03-01 00:00:00", "2024-02-26 00:00:00",
		    "2024-03-01 00:00:00", "2024-01-01 00:00:00" } },
		{ "2024-12-31 10:20:30", /* in the first week of 2025 */
		  { "2024-12-31 10:00:00", "2024-12-31 00:00:00", "2024-12-30 00:00:00",
		    "2024-12-01 00:00:00", "2024-01-01 00:00:00" } },
		{ "2021-01-03 01:00:00", /* in the last week of 2020 */
		  { "2021-01-03 01:00:00", "2021-01-03 00:00:00", "2020-12-28 00:00:00",
		    "2021-01-01 00:00:00", "2021-01-01 00:00:00" } },
		{ "2021-01-04 00:00:00", /* a Monday */
		  { "2021-01-04 00:00:00", "2021-01-04 00:00:00", "2021-01-04 00:00:00",
		    "2021-01-01 00:00:00", "2021-01-01 00:00:00" } },
		{ "2100-02-28 12:00:00", /* no leap year */
		  { "2100-02-28 12:00:00", "2100-02-28 00:00:00", "2100-02-22 00:00:00",
		    "2100-02-01 00:00:00", "2100-01-01 00:00:00" } },
		{ "2100-03-01 12:00:00",
		  { "2100-03-01 12:00:00", "2100-03-01 00:00:00", "2100-03-01 00:00:00",
		    "2100-03-01 00:00:00", "2100-01-01 00:00:00" } },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		for (unsigned unit = 0; unit < RETAIN_UNITS; unit++)
			CU_ASSERT_EQUAL(retain_begin((enum retain_unit)unit, at(table[i].time)),
					at(table[i].begins[unit]));
	CU_ASSERT_EQUAL(retain_begin(RETAIN_HOUR, -1), -HOUR);
	CU_ASSERT_EQUAL(retain_begin(RETAIN_YEAR, -1), at("1969-01-01 00:00:00"));
	CU_ASSERT_EQUAL(retain_begin(RETAIN_DAY, at("2024-02-29 00:00:00") + 1), at("2024-02-29 00:00:00"));
}

/* The same by the C library. */
static int64_t begin_of(unsigned unit, int64_t time_ns)
{
	time_t s = (time_t)(time_ns / SECOND - (time_ns % SECOND < 0));
	struct tm tm;

	gmtime_r(&s, &tm);
	tm.tm_min = tm.tm_sec = 0;
	if (unit != RETAIN_HOUR)
		tm.tm_hour = 0;
	if (unit == RETAIN_WEEK)
		tm.tm_mday -= (tm.tm_wday + 6) % 7;
	if (unit == RETAIN_MONTH || unit == RETAIN_YEAR)
		tm.tm_mday = 1;
	if (unit == RETAIN_YEAR)
		tm.tm_mon = 0;
	return (int64_t)timegm(&tm) * SECOND;
}

static void test_random_times_begin_where_the_library_says(void)
{
	uint64_t state = 7;
	unsigned wrong = 0;

	for (int i = 0; i < 50000; i++) {
		int64_t time_ns = (int64_t)random_below(&state, UINT64_MAX >> 11) * 700 - INT64_MAX / 4;

		for (unsigned unit = 0; unit < RETAIN_UNITS; unit++)
			wrong += retain_begin((enum retain_unit)unit, time_ns) != begin_of(unit, time_ns);
	}
	CU_ASSERT_EQUAL(wrong, 0);
}

/* ---- a history ------------------------------------------------------------------------------- */

enum { REVS_MAX = 4000, PINS_MAX = 1000 };

/* All revisions there ever were: times[i] is that of revision i + 1. And how a store would stand. */
struct history {
	int64_t times[REVS_MAX];
	mvcc_rev_t current, floor;
	struct retain_rev pins[PINS_MAX];
	size_t npins;
	bool full;
	unsigned wrong_questions; /* about revisions that are gone */
};

static int history_at(void *arg, int64_t time_ns, struct retain_rev *out)
{
	const struct history *h = arg;

	for (mvcc_rev_t rev = h->current; rev >= h->floor; rev--) {
		if (h->times[rev - 1] > time_ns)
			continue;
		*out = (struct retain_rev){ rev, h->times[rev - 1] };
		return 1;
	}
	return 0;
}

static int history_time_of(void *arg, mvcc_rev_t rev, int64_t *out)
{
	struct history *h = arg;

	h->wrong_questions += rev < h->floor || rev > h->current;
	*out = h->times[rev - 1];
	return 0;
}

static void history_add(struct history *h, int64_t time_ns)
{
	h->times[h->current++] = time_ns;
}

static struct history *history_new(void)
{
	struct history *h = calloc(1, sizeof(*h));

	if (!h)
		abort();
	h->floor = MVCC_REV_FIRST;
	return h;
}

static int by_rev(const void *a, const void *b)
{
	const struct retain_rev *x = a, *y = b;

	return (x->rev > y->rev) - (x->rev < y->rev);
}

static bool is_pinned(const struct history *h, mvcc_rev_t rev)
{
	for (size_t i = 0; i < h->npins; i++)
		if (h->pins[i].rev == rev)
			return true;
	return false;
}

/* Plans, and does what is planned, in the order in which a store has to. Gives when to come again. */
static int64_t step(struct history *h, const struct mvcc_policy *policy, int64_t now_ns)
{
	struct retain_state state = { .now_ns = now_ns,
				      .floor = h->floor,
				      .current = h->current,
				      .pins = h->pins,
				      .npins = h->npins,
				      .full = h->full,
				      .at = history_at,
				      .time_of = history_time_of,
				      .arg = h };
	struct retain_plan plan;
	int64_t due_ns;

	CU_ASSERT_EQUAL_FATAL(retain_plan(policy, &state, &plan), 0);
	for (size_t i = 0; i < plan.nadd; i++) {
		CU_ASSERT(plan.add[i].rev >= h->floor && plan.add[i].rev <= h->current);
		CU_ASSERT_EQUAL(plan.add[i].time_ns, h->times[plan.add[i].rev - 1]);
		CU_ASSERT(!is_pinned(h, plan.add[i].rev));
		CU_ASSERT_FATAL(h->npins < PINS_MAX);
		h->pins[h->npins++] = plan.add[i];
	}
	CU_ASSERT(plan.floor >= h->floor && plan.floor <= h->current);
	h->floor = plan.floor;
	for (size_t i = 0; i < plan.ndrop; i++) {
		CU_ASSERT(is_pinned(h, plan.drop[i].rev));
		for (size_t j = 0; j < h->npins; j++)
			if (h->pins[j].rev == plan.drop[i].rev)
				h->pins[j--] = h->pins[--h->npins];
	}
	qsort(h->pins, h->npins, sizeof(h->pins[0]), by_rev);
	CU_ASSERT_EQUAL(h->wrong_questions, 0);
	CU_ASSERT(plan.due_ns > now_ns);
	due_ns = plan.due_ns;
	retain_plan_release(&plan);
	return due_ns;
}

/* ---- what it comes to, said plainly ---------------------------------------------------------- */

/* The floor, by looking at every revision. It never falls. */
static mvcc_rev_t plain_floor(const struct history *h, const struct mvcc_policy *policy, int64_t now_ns)
{
	mvcc_rev_t by_age = h->current, by_count = h->current;

	if (policy->keep_all_s)
		for (by_age = h->current; by_age > 1; by_age--)
			if (h->times[by_age - 1] <= now_ns - (int64_t)policy->keep_all_s * SECOND)
				break;
	if (policy->keep_revs)
		by_count = h->current >= policy->keep_revs ? h->current - policy->keep_revs + 1 : 1;
	return by_age < by_count ? by_age : by_count;
}

/* Is `rev` the newest of one of the last so many units of which nothing is in the window? */
static bool plain_unit_keeps(const struct history *h, mvcc_rev_t floor, unsigned unit, uint32_t n,
			     mvcc_rev_t rev)
{
	int64_t mine = begin_of(unit, h->times[rev - 1]), last = begin_of(unit, h->times[floor - 1]);
	uint32_t units = 0;

	if (mine == last || begin_of(unit, h->times[rev]) == mine)
		return false;
	for (mvcc_rev_t other = floor; other-- > rev;) {
		int64_t begin = begin_of(unit, h->times[other - 1]);

		if (begin != last)
			units++;
		last = begin;
	}
	return units <= n;
}

static bool plain_keeps(const struct history *h, mvcc_rev_t floor, const struct mvcc_policy *p,
			mvcc_rev_t rev)
{
	const uint32_t counts[RETAIN_UNITS] = { p->hourly, p->daily, p->weekly, p->monthly, p->yearly };

	for (unsigned unit = 0; unit < RETAIN_UNITS; unit++)
		if (counts[unit] && plain_unit_keeps(h, floor, unit, counts[unit], rev))
			return true;
	return false;
}

/* Under a policy that never changed, exactly what it says of the whole history is there. */
static unsigned differences(const struct history *h, const struct mvcc_policy *policy, int64_t now_ns)
{
	mvcc_rev_t floor = plain_floor(h, policy, now_ns);
	unsigned wrong = h->floor != floor;

	for (mvcc_rev_t rev = 1; !wrong && rev < floor; rev++)
		wrong += plain_keeps(h, floor, policy, rev) != is_pinned(h, rev);
	for (size_t i = 0; i < h->npins; i++)
		wrong += h->pins[i].rev >= floor;
	return wrong;
}

static void random_policy(uint64_t *random, struct mvcc_policy *p)
{
	*p = (struct mvcc_policy){ .keep_revs = random_below(random, 3) ? random_below(random, 30) : 0 };
	if (random_below(random, 3))
		p->keep_all_s = random_below(random, 3 * 86400);
	if (!p->keep_revs && !p->keep_all_s)
		p->keep_revs = 1;
	if (random_below(random, 2))
		p->hourly = (uint32_t)random_below(random, 30);
	if (random_below(random, 2))
		p->daily = (uint32_t)random_below(random, 10);
	if (random_below(random, 2))
		p->weekly = (uint32_t)random_below(random, 6);
	if (random_below(random, 2))
		p->monthly = (uint32_t)random_below(random, 14);
	if (random_below(random, 2))
		p->yearly = (uint32_t)random_below(random, 4);
}

static void test_random_histories_keep_what_the_policy_says(void)
{
	uint64_t seed = fixture_env("RETAIN_SEED", (uint64_t)time(NULL)), random = seed;
	unsigned wrong = 0;

	printf("seed %llu ", (unsigned long long)seed);
	for (int round = 0; round < 30 && !wrong; round++) {
		struct history *h = history_new();
		struct mvcc_policy policy;
		int64_t now = at("2023-11-01 00:00:00") + (int64_t)random_below(&random, 90) * DAY;
		/* from minutes to months between two commits */
		static const int64_t gaps[] = { HOUR / 10, 2 * HOUR, DAY, 40 * DAY };
		int64_t gap = gaps[random_below(&random, 4)];

		random_policy(&random, &policy);
		history_add(h, now);
		for (int i = 0; i < 70 && !wrong; i++) {
			uint64_t commits = random_below(&random, 6);

			for (uint64_t j = 0; j < commits && h->current < REVS_MAX; j++) {
				now += (int64_t)random_below(&random, 4) *
				       (int64_t)random_below(&random, (uint64_t)gap);
				history_add(h, now);
			}
			now += (int64_t)random_below(&random, (uint64_t)gap);
			step(h, &policy, now);
			wrong += differences(h, &policy, now);
			if (wrong)
				fprintf(stderr, "\nseed %llu, round %d, step %d\n", (unsigned long long)seed,
					round, i);
		}
		free(h);
	}
	CU_ASSERT_EQUAL(wrong, 0);
}

static void test_a_changed_policy_never_brings_back_or_asks_for_what_is_gone(void)
{
	uint64_t random = 5;

	for (int round = 0; round < 30; round++) {
		struct history *h = history_new();
		int64_t now = at("2024-01-01 00:00:00");

		history_add(h, now);
		for (int i = 0; i < 100; i++) {
			struct mvcc_policy policy;
			mvcc_rev_t floor = h->floor;

			random_policy(&random, &policy);
			h->full = random_below(&random, 5) == 0;
			for (int j = 0; j < 10; j++) {
				now += (int64_t)random_below(&random, (uint64_t)DAY);
				history_add(h, now);
			}
			step(h, &policy, now); /* asserts that it asks for nothing below the floor */
			CU_ASSERT(h->floor >= floor);
		}
		free(h);
	}
}

/* ---- single facts ---------------------------------------------------------------------------- */

/* A commit every ten minutes for so many days, ending with `end`. */
static struct history *ten_minutes(const char *end, int days)
{
	struct history *h = history_new();

	for (int i = 144 * days; i >= 0; i--)
		history_add(h, at(end) - i * (HOUR / 6));
	return h;
}

static void assert_pins(const struct history *h, size_t n, const char *const *times)
{
	CU_ASSERT_EQUAL(h->npins, n);
	for (size_t i = 0; i < n && i < h->npins; i++)
		CU_ASSERT_EQUAL(h->pins[i].time_ns, at(times[i]));
}

static void test_the_last_of_each_hour_and_day_stays(void)
{
	static const char *const expected[] = { "2024-03-08 23:50:00", "2024-03-09 23:50:00",
						"2024-03-10 07:50:00", "2024-03-10 08:50:00",
						"2024-03-10 09:50:00" };
	struct history *h = ten_minutes("2024-03-10 12:00:00", 10);
	struct mvcc_policy policy = { .keep_all_s = 2 * 3600, .hourly = 3, .daily = 2 };
	int64_t now = at("2024-03-10 12:05:00");

	step(h, &policy, now);
	CU_ASSERT_EQUAL(h->times[h->floor - 1], at("2024-03-10 10:00:00"));
	assert_pins(h, 5, expected);
	step(h, &policy, now + HOUR / 60); /* nothing new: nothing to do */
	assert_pins(h, 5, expected);
	free(h);
}

static void test_months_without_commits_do_not_count(void)
{
	static const char *const commits[] = { "2019-05-05 00:00:00", "2021-02-01 00:00:00",
					       "2021-02-28 00:00:00", "2023-07-01 00:00:00",
					       "2024-02-29 00:00:00", "2024-06-01 00:00:00" };
	struct history *h = history_new();
	struct mvcc_policy policy = { .keep_revs = 1, .monthly = 3, .yearly = 4 };

	for (int i = 0; i < 6; i++)
		history_add(h, at(commits[i]));
	step(h, &policy, at("2024-06-02 00:00:00"));
	CU_ASSERT_EQUAL(h->floor, 6);
	/* months: 2024-02, 2023-07, 2021-02; years before this one: 2023, 2021, 2019 */
	CU_ASSERT_EQUAL(h->npins, 4);
	for (mvcc_rev_t rev = 1; rev <= 6; rev++)
		CU_ASSERT_EQUAL(is_pinned(h, rev), rev != 2 && rev != 6);
	free(h);
}

static void test_what_was_current_in_the_window_stays(void)
{
	struct history *h = history_new();
	struct mvcc_policy policy = { .keep_all_s = 3600 };

	history_add(h, at("2024-01-01 00:00:00"));
	history_add(h, at("2024-01-02 00:00:00")); /* current until just now */
	history_add(h, at("2024-01-09 12:00:00"));
	step(h, &policy, at("2024-01-09 12:00:01"));
	CU_ASSERT_EQUAL(h->floor, 2);
	step(h, &policy, at("2024-01-09 12:59:59"));
	CU_ASSERT_EQUAL(h->floor, 2);
	step(h, &policy, at("2024-01-09 13:00:00"));
	CU_ASSERT_EQUAL(h->floor, 3);
	step(h, &policy, at("2030-01-01 00:00:00")); /* the newest stays for ever */
	CU_ASSERT_EQUAL(h->floor, 3);
	free(h);
}

static void test_age_and_count_keep_together(void)
{
	struct history *h = ten_minutes("2024-03-10 12:00:00", 1);
	struct mvcc_policy policy = { .keep_all_s = 3600, .keep_revs = 3 };
	int64_t now = at("2024-03-10 12:00:00");

	step(h, &policy, now);
	CU_ASSERT_EQUAL(h->floor, h->current - 6);
	policy = (struct mvcc_policy){ .keep_all_s = 60, .keep_revs = 3 };
	step(h, &policy, now);
	CU_ASSERT_EQUAL(h->floor, h->current - 2);
	policy = (struct mvcc_policy){ .keep_revs = 1000 }; /* the floor does not come back */
	step(h, &policy, now);
	CU_ASSERT_EQUAL(h->floor, h->current - 2);
	free(h);
}

static void test_without_age_and_count_nothing_goes(void)
{
	struct history *h = ten_minutes("2024-03-10 12:00:00", 5);
	struct mvcc_policy policy = { .keep_revs = 10, .daily = 3 };
	int64_t now = at("2024-03-10 12:00:00");
	mvcc_rev_t floor;

	step(h, &policy, now);
	CU_ASSERT_EQUAL(h->npins, 3);
	floor = h->floor;
	policy = (struct mvcc_policy){ .hourly = 1 };
	CU_ASSERT_EQUAL(step(h, &policy, now + 100 * DAY), INT64_MAX);
	policy = (struct mvcc_policy){ 0 };
	CU_ASSERT_EQUAL(step(h, &policy, now + 100 * DAY), INT64_MAX);
	CU_ASSERT_EQUAL(h->npins, 3);
	CU_ASSERT_EQUAL(h->floor, floor);
	free(h);
}

static void test_a_full_disk_takes_the_oldest_pins_first_then_the_window(void)
{
	struct history *h = ten_minutes("2024-03-10 12:00:00", 10);
	struct mvcc_policy policy = { .keep_all_s = 86400, .daily = 8, .free_bytes = 1 };
	int64_t now = at("2024-03-10 12:00:00");
	mvcc_rev_t floor, pin;
	int steps = 0;

	step(h, &policy, now);
	CU_ASSERT_EQUAL(h->npins, 8);
	floor = h->floor;
	h->full = true;
	for (size_t n = h->npins; n; n = h->npins, steps++) {
		pin = h->pins[n - 1].rev;
		CU_ASSERT(step(h, &policy, now) <= now + 10 * SECOND);
		CU_ASSERT(h->npins < n);
		CU_ASSERT_EQUAL(h->floor, floor);
		if (h->npins)
			CU_ASSERT_EQUAL(h->pins[h->npins - 1].rev, pin);
	}
	CU_ASSERT(steps > 2);
	for (steps = 0; h->floor < h->current && steps < 100; steps++) {
		floor = h->floor;
		step(h, &policy, now);
		CU_ASSERT(h->floor > floor);
	}
	CU_ASSERT(steps > 2 && steps < 100);
	step(h, &policy, now); /* and then there is nothing left to give */
	CU_ASSERT_EQUAL(h->floor, h->current);
	free(h);
}

static void test_the_next_step_is_due_when_there_is_something_to_do(void)
{
	struct history *h = history_new();
	struct mvcc_policy policy = { .keep_all_s = 3600 };
	int64_t now = at("2024-01-01 12:00:00");

	history_add(h, now - 2 * HOUR);
	CU_ASSERT_EQUAL(step(h, &policy, now), now + HOUR); /* for a commit that comes right now */
	history_add(h, now - HOUR / 2);
	CU_ASSERT_EQUAL(step(h, &policy, now), now + HOUR / 2);
	history_add(h, now);
	CU_ASSERT_EQUAL(step(h, &policy, now + HOUR / 2 - 1),
			now + HOUR / 2 - 1 + HOUR / 64); /* not at once */
	policy.keep_revs = 5;
	CU_ASSERT_EQUAL(step(h, &policy, now), now + 60 * SECOND);
	policy = (struct mvcc_policy){ .keep_all_s = UINT64_MAX }; /* longer than time can tell */
	CU_ASSERT(step(h, &policy, now) > now + 100 * 365 * DAY);
	CU_ASSERT_EQUAL(h->floor, MVCC_REV_FIRST);
	free(h);
}

static int fail_at(void *arg, int64_t time_ns, struct retain_rev *out)
{
	(void)time_ns;
	(void)out;
	return --*(int *)arg ? 0 : -EIO;
}

static int fail_time_of(void *arg, mvcc_rev_t rev, int64_t *out)
{
	(void)rev;
	*out = 0;
	return --*(int *)arg ? 0 : -EIO;
}

static void test_what_cannot_be_read_is_no_plan(void)
{
	struct mvcc_policy policy = { .keep_all_s = 1, .hourly = 1, .daily = 1 };

	for (int calls = 1; calls <= 5; calls++) {
		struct retain_plan plan = { .floor = 77 };
		int left = calls;
		struct retain_state state = { .now_ns = DAY,
					      .floor = 1,
					      .current = 9,
					      .at = fail_at,
					      .time_of = fail_time_of,
					      .arg = &left };

		CU_ASSERT_EQUAL(retain_plan(&policy, &state, &plan), -EIO);
		CU_ASSERT_EQUAL(plan.floor, 77);
	}
}

/* ---- in a store ------------------------------------------------------------------------------ */

/* A store whose clock stands still unless it is moved. */
static int64_t clock_ns;

static int64_t told_time(void *arg)
{
	(void)arg;
	return clock_ns;
}

static struct fixture *store_at(const char *time)
{
	struct fixture *fx = fixture_new();

	clock_ns = at(time);
	fx->opt.clock = told_time;
	fx->opt.manual_upkeep = true;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	return fx;
}

/* Commits at so many times, `gap` apart; the clock ends with the last. */
static void commits(struct fixture *fx, int n, int64_t gap)
{
	char value[16];

	for (int i = 0; i < n; i++) {
		clock_ns += gap;
		snprintf(value, sizeof(value), "%d", i);
		put(fx->db, "k", value);
	}
}

static int64_t step_store(struct fixture *fx)
{
	int64_t due_ns = 0;

	CU_ASSERT_EQUAL(retain_step(fx->db, &due_ns), 0);
	CU_ASSERT(due_ns > clock_ns);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	fixture_verify(fx);
	return due_ns;
}

static int pin_text(void *arg, const struct mvcc_pin *pin)
{
	struct buf *out = arg;

	return buf_put(out, pin->name, strlen(pin->name)) ||
	       buf_put(out, pin->kind ? "* " : " ", pin->kind ? 2 : 1);
}

static void assert_names(struct fixture *fx, const char *expected)
{
	struct buf text = { 0 };

	CU_ASSERT_EQUAL(mvcc_pins(fx->db, pin_text, &text), 0);
	CU_ASSERT_EQUAL(buf_put_u8(&text, 0), 0);
	CU_ASSERT_STRING_EQUAL(text.data, expected);
	if (strcmp((char *)text.data, expected) != 0)
		fprintf(stderr, "\n%s\n", (char *)text.data);
	buf_release(&text);
}

/* What a step leaves of 61 hourly revisions, when it was let to its end. */
#define STEP_DONE "auto-2024-02-27T23:00:00Z* auto-2024-02-28T23:00:00Z* mine "

static void test_a_policy_is_kept_with_the_store(void)
{
	struct fixture *fx = store_at("2024-02-28 00:00:00");
	struct mvcc_policy set = { 3600, 10, 1, 2, 3, 4, 5, 0 }, got;

	mvcc_policy_get(fx->db, &got);
	CU_ASSERT(!got.keep_all_s && !got.keep_revs && !got.hourly && !got.yearly && !got.free_bytes);
	CU_ASSERT_EQUAL(step_store(fx), INT64_MAX);
	CU_ASSERT_EQUAL(mvcc_policy_set(fx->db, &set), 0);
	fixture_reopen(fx);
	mvcc_policy_get(fx->db, &got);
	CU_ASSERT(got.keep_all_s == 3600 && got.keep_revs == 10 && got.hourly == 1 && got.daily == 2);
	CU_ASSERT(got.weekly == 3 && got.monthly == 4 && got.yearly == 5 && got.free_bytes == 0);
	fixture_verify(fx);
	fixture_close(fx);
}

static void test_a_step_pins_compacts_and_unpins(void)
{
	struct fixture *fx = store_at("2024-02-27 00:00:00");
	struct mvcc_policy policy = { .keep_all_s = 7200, .daily = 2 };

	commits(fx, 60, HOUR); /* up to 2024-02-29 12:00, revision 61 */
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "mine", 5), 0);
	CU_ASSERT_EQUAL(mvcc_policy_set(fx->db, &policy), 0);
	step_store(fx);
	CU_ASSERT_EQUAL(mvcc_floor(fx->db), 59);
	assert_names(fx, STEP_DONE);
	assert_value_at(fx->db, 24, "k", "22");
	assert_value_at(fx->db, 48, "k", "46");
	assert_value_at(fx->db, 5, "k", "3");
	CU_ASSERT_EQUAL(mvcc_pin_rename(fx->db, "auto-2024-02-27T23:00:00Z", "kept"), 0);
	commits(fx, 24, HOUR);
	fixture_reopen(fx);
	step_store(fx);
	/* the day that became the user's is pinned twice no more: two later ones have come */
	assert_names(fx, "auto-2024-02-28T23:00:00Z* auto-2024-02-29T23:00:00Z* kept mine ");
	assert_value_at(fx->db, 24, "k", "22");
	CU_ASSERT_EQUAL(mvcc_floor(fx->db), 83);
	fixture_close(fx);
}

static void test_a_policy_that_is_tried_changes_nothing(void)
{
	struct fixture *fx = store_at("2024-02-27 00:00:00");
	struct mvcc_policy policy = { .keep_all_s = 7200, .daily = 2 }, none = { 0 };
	struct mvcc_policy_step would;

	commits(fx, 60, HOUR);
	CU_ASSERT_EQUAL(mvcc_policy_try(fx->db, &policy, &would), 0);
	CU_ASSERT(would.floor == 59 && would.pins_made == 2 && would.pins_taken == 0);
	CU_ASSERT_EQUAL(mvcc_floor(fx->db), MVCC_REV_FIRST);
	assert_names(fx, "");
	CU_ASSERT_EQUAL(mvcc_policy_set(fx->db, &policy), 0);
	step_store(fx);
	CU_ASSERT_EQUAL(mvcc_floor(fx->db), 59);
	CU_ASSERT_EQUAL(mvcc_policy_try(fx->db, &policy, &would), 0);
	CU_ASSERT(would.floor == 59 && would.pins_made == 0 && would.pins_taken == 0);
	policy.daily = 1;
	CU_ASSERT_EQUAL(mvcc_policy_try(fx->db, &policy, &would), 0);
	CU_ASSERT(would.floor == 59 && would.pins_made == 0 && would.pins_taken == 1);
	CU_ASSERT_EQUAL(mvcc_policy_try(fx->db, &none, &would), 0);
	CU_ASSERT(would.floor == 59 && would.pins_made == 0 && would.pins_taken == 0);
	fixture_close(fx);
}

static void test_upkeep_does_all_that_is_due(void)
{
	struct fixture *fx = store_at("2024-02-27 00:00:00");
	struct mvcc_policy policy = { .keep_all_s = 7200 };
	struct mvcc_put leased = { .key = str("leased"), .value = str("v") };
	struct mvcc_stats stats;
	struct mvcc_txn *txn;

	CU_ASSERT_EQUAL(mvcc_lease_grant(fx->db, 0, 3600 * 1000, &leased.lease), 0);
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_put_with(txn, &leased), 0);
	commit(txn);
	CU_ASSERT_EQUAL(mvcc_policy_set(fx->db, &policy), 0);
	CU_ASSERT_EQUAL(mvcc_upkeep(fx->db), 0);
	CU_ASSERT_EQUAL(mvcc_floor(fx->db), MVCC_REV_FIRST);
	assert_value_at(fx->db, MVCC_REV_LATEST, "leased", "v");
	commits(fx, 6, HOUR);
	CU_ASSERT_EQUAL(mvcc_upkeep(fx->db), 0);
	mvcc_stats(fx->db, &stats);
	CU_ASSERT_EQUAL(stats.leases, 0);
	CU_ASSERT_EQUAL(stats.floor, 6);
	CU_ASSERT_EQUAL(stats.compacted, 6);
	assert_absent_at(fx->db, MVCC_REV_LATEST, "leased");
	fixture_close(fx);
}

static _Atomic int64_t shared_clock_ns;

static int64_t told_shared_time(void *arg)
{
	(void)arg;
	return atomic_load(&shared_clock_ns);
}

/* Nothing but the clock moves; the keeper looks at it. */
static void test_the_keeper_follows_policy_and_clock_by_itself(void)
{
	struct fixture *fx = fixture_new();
	struct mvcc_policy policy = { .keep_all_s = 3600 };

	atomic_store(&shared_clock_ns, at("2024-02-27 00:00:00"));
	fx->opt.clock = told_shared_time;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	for (int i = 0; i < 9; i++)
		put(fx->db, "k", "v");
	CU_ASSERT_EQUAL(mvcc_policy_set(fx->db, &policy), 0);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0); /* a pass, and a step of the policy before it */
	CU_ASSERT_EQUAL(mvcc_floor(fx->db), MVCC_REV_FIRST);
	atomic_fetch_add(&shared_clock_ns, 2 * HOUR);
	for (int i = 0; i < 1000 && mvcc_floor(fx->db) != 10; i++)
		usleep(10000);
	CU_ASSERT_EQUAL(mvcc_floor(fx->db), 10);
	fixture_close(fx);
}

/* Value of "k" at a revision, as commits() made it. */
static void assert_commit_at(struct fixture *fx, mvcc_rev_t rev)
{
	char value[16];

	snprintf(value, sizeof(value), "%d", (int)rev - 2);
	assert_value_at(fx->db, rev, "k", value);
}

static int assert_pinned_commit(void *arg, const struct mvcc_pin *pin)
{
	assert_commit_at(arg, pin->rev);
	return 0;
}

/*
 * One step with the n-th call of the engine being the last of the process, done or not; then, after the next
 * open, all that may be read is there, and the next step comes to the same end. False: there were not so many.
 */
static bool die_in_a_step(struct mem_engine *mem, struct fault_engine *fault, uint64_t n, bool done)
{
	struct mvcc_policy policy = { .keep_all_s = 7200, .daily = 2 };
	struct fixture *fx = store_at("2024-02-27 00:00:00");
	mvcc_rev_t floor;
	bool died;

	commits(fx, 60, HOUR);
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "mine", 5), 0);
	CU_ASSERT_EQUAL(mvcc_policy_set(fx->db, &policy), 0);
	fixture_drain(fx);
	fault_engine_arm(fault, (struct fault_plan){
					.kinds = FAULT_WRITE | FAULT_SYNC | FAULT_REWRITE,
					.at = n,
					.err = -EIO,
					.mode = FAULT_CRASH,
					.done = done,
				});
	mvcc_upkeep(fx->db);
	died = fault_engine_failed(fault) > 0;
	mem_engine_kill(mem);
	mvcc_close(fx->db);
	fx->db = NULL;
	fault_engine_disarm(fault);
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	floor = mvcc_floor(fx->db);
	CU_ASSERT(floor == MVCC_REV_FIRST || floor == 59);
	for (mvcc_rev_t rev = floor < 2 ? 2 : floor; rev <= 61; rev++)
		assert_commit_at(fx, rev);
	CU_ASSERT_EQUAL(mvcc_pins(fx->db, assert_pinned_commit, fx), 0);
	assert_commit_at(fx, 5);
	fixture_verify(fx);
	CU_ASSERT_EQUAL(mvcc_upkeep(fx->db), 0);
	assert_names(fx, STEP_DONE);
	CU_ASSERT_EQUAL(mvcc_floor(fx->db), 59);
	CU_ASSERT_EQUAL(fixture_rows_of(fx, "hist", ""), 5); /* of the pins, and of the window */
	fixture_verify(fx);
	fixture_close(fx);
	return died;
}

static void test_a_kill_in_any_step_loses_nothing(void)
{
	for (int done = 0; done < 2; done++) {
		bool died = true;

		for (uint64_t n = 1; died && n < 100; n++) {
			struct mem_engine *mem = mem_engine_new();
			struct fault_engine *fault = fault_engine_new(mem_engine_provider(mem));
			struct engine_provider provider = fault_engine_provider(fault);

			fixture_use(&provider);
			died = die_in_a_step(mem, fault, n, done);
			CU_ASSERT(died || n > 5);
			fixture_use(NULL);
			fault_engine_free(fault);
			mem_engine_free(mem);
		}
		CU_ASSERT_FALSE(died);
	}
}

static void test_a_taken_name_is_no_obstacle(void)
{
	struct fixture *fx = store_at("2024-02-27 00:00:00");
	struct mvcc_policy policy = { .keep_revs = 1, .daily = 1 };

	commits(fx, 30, HOUR);
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "auto-2024-02-27T23:00:00Z", 3), 0);
	CU_ASSERT_EQUAL(mvcc_policy_set(fx->db, &policy), 0);
	step_store(fx);
	assert_names(fx, "auto-2024-02-27T23:00:00Z auto-2024-02-27T23:00:00Z-24* ");
	step_store(fx);
	assert_names(fx, "auto-2024-02-27T23:00:00Z auto-2024-02-27T23:00:00Z-24* ");
	fixture_close(fx);
}

static uint64_t told_free(void *arg)
{
	return *(uint64_t *)arg;
}

static void test_a_full_disk_takes_history(void)
{
	struct fixture *fx = store_at("2024-02-20 00:00:00");
	struct mvcc_policy policy = { .keep_all_s = 7200, .daily = 6, .free_bytes = 1000 };
	uint64_t free_bytes = 1000;

	commits(fx, 200, HOUR);
	fx->db->disk_free = told_free;
	fx->db->disk_free_arg = &free_bytes;
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "mine", 5), 0);
	CU_ASSERT_EQUAL(mvcc_policy_set(fx->db, &policy), 0);
	step_store(fx);
	assert_names(
		fx, "auto-2024-02-22T23:00:00Z* auto-2024-02-23T23:00:00Z* auto-2024-02-24T23:00:00Z* "
		    "auto-2024-02-25T23:00:00Z* auto-2024-02-26T23:00:00Z* auto-2024-02-27T23:00:00Z* mine ");
	free_bytes = 999;
	step_store(fx);
	assert_names(fx, "auto-2024-02-24T23:00:00Z* auto-2024-02-25T23:00:00Z* auto-2024-02-26T23:00:00Z* "
			 "auto-2024-02-27T23:00:00Z* mine ");
	for (int i = 0; i < 10; i++)
		step_store(fx);
	assert_names(fx, "mine ");
	CU_ASSERT_EQUAL(mvcc_floor(fx->db), mvcc_current(fx->db));
	assert_value_at(fx->db, 5, "k", "3");
	fixture_close(fx);
}

static void test_why_a_revision_is_here(void)
{
	struct fixture *fx = store_at("2024-02-27 00:00:00");
	struct mvcc_policy policy = { .keep_all_s = 7200, .daily = 1 };
	struct mvcc_view *view = NULL;
	struct mvcc_why why;

	commits(fx, 30, HOUR); /* revision 31 at 2024-02-28 06:00 */
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "mine", 5), 0);
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "again", 5), 0);
	CU_ASSERT_EQUAL(mvcc_policy_set(fx->db, &policy), 0);
	step_store(fx);
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, 30, &view), 0);
	CU_ASSERT_EQUAL(mvcc_why(fx->db, 30, &why), 0);
	CU_ASSERT(why.readable && why.above_floor && !why.newest && !why.pins && why.views == 1);
	CU_ASSERT_EQUAL(why.time_ns, at("2024-02-28 05:00:00"));
	CU_ASSERT_EQUAL(why.policy_ns, at("2024-02-28 08:00:00"));
	mvcc_view_close(view);
	CU_ASSERT_EQUAL(mvcc_why(fx->db, MVCC_REV_LATEST, &why), 0);
	CU_ASSERT(why.readable && why.newest && why.above_floor && why.policy_ns == 0);
	CU_ASSERT_EQUAL(mvcc_why(fx->db, 5, &why), 0);
	CU_ASSERT(why.readable && !why.above_floor && why.pins == 2);
	CU_ASSERT_STRING_EQUAL(why.pin.name, "again");
	CU_ASSERT_EQUAL(why.time_ns, at("2024-02-27 04:00:00"));
	CU_ASSERT_EQUAL(mvcc_why(fx->db, 6, &why), 0);
	CU_ASSERT(!why.readable && !why.above_floor && !why.pins && !why.time_ns);
	CU_ASSERT_EQUAL(mvcc_why(fx->db, 32, &why), MVCC_EFUTURE);
	fixture_close(fx);
}

static void test_the_row_of_a_policy_has_these_bytes(void)
{
	static const uint8_t expected[] = { 0x90, 0x1c, 10, 1, 2, 3, 4, 5, 0x80, 1 };
	struct mvcc_policy policy = { 3600, 10, 1, 2, 3, 4, 5, 128 }, got;
	struct buf row = { 0 };

	CU_ASSERT_EQUAL(policy_encode(&row, &policy), 0);
	CU_ASSERT(slice_eq(slice_buf(&row), slice_of(expected, sizeof(expected))));
	CU_ASSERT_EQUAL(policy_decode(slice_buf(&row), &got), 0);
	CU_ASSERT_EQUAL(got.free_bytes, 128);
	for (size_t len = 0; len < row.len; len++)
		CU_ASSERT_EQUAL(policy_decode(slice_of(row.data, len), &got), MVCC_ECORRUPT);
	CU_ASSERT_EQUAL(buf_put_u8(&row, 0), 0);
	CU_ASSERT_EQUAL(policy_decode(slice_buf(&row), &got), MVCC_ECORRUPT);
	buf_release(&row);
}

static void on_memory(void)
{
	fixture_use(NULL);
}

static void on_rocks(void)
{
	static struct rocks_options options = { .cache_bytes = (size_t)8 << 20 };
	static struct engine_provider provider;

	provider = rocks_provider(&options);
	fixture_use(&provider);
}

static CU_TestInfo store_tests[] = {
	UNIT_TEST(test_a_policy_is_kept_with_the_store),
	UNIT_TEST(test_a_step_pins_compacts_and_unpins),
	UNIT_TEST(test_a_policy_that_is_tried_changes_nothing),
	UNIT_TEST(test_upkeep_does_all_that_is_due),
	UNIT_TEST(test_the_keeper_follows_policy_and_clock_by_itself),
	UNIT_TEST(test_a_taken_name_is_no_obstacle),
	UNIT_TEST(test_a_full_disk_takes_history),
	UNIT_TEST(test_why_a_revision_is_here),
	CU_TEST_INFO_NULL,
};

static CU_TestInfo tests[] = {
	UNIT_TEST(test_units_begin_where_the_calendar_says),
	UNIT_TEST(test_random_times_begin_where_the_library_says),
	UNIT_TEST(test_the_last_of_each_hour_and_day_stays),
	UNIT_TEST(test_months_without_commits_do_not_count),
	UNIT_TEST(test_what_was_current_in_the_window_stays),
	UNIT_TEST(test_age_and_count_keep_together),
	UNIT_TEST(test_without_age_and_count_nothing_goes),
	UNIT_TEST(test_a_full_disk_takes_the_oldest_pins_first_then_the_window),
	UNIT_TEST(test_the_next_step_is_due_when_there_is_something_to_do),
	UNIT_TEST(test_what_cannot_be_read_is_no_plan),
	UNIT_TEST(test_random_histories_keep_what_the_policy_says),
	UNIT_TEST(test_the_row_of_a_policy_has_these_bytes),
	UNIT_TEST(test_a_changed_policy_never_brings_back_or_asks_for_what_is_gone),
	UNIT_TEST(test_a_kill_in_any_step_loses_nothing),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = {
		UNIT_SUITE("retain", NULL, NULL, tests),
		UNIT_SUITE("retention on memory", on_memory, NULL, store_tests),
		UNIT_SUITE("retention on rocksdb", on_rocks, NULL, store_tests),
		CU_SUITE_INFO_NULL,
	};

	return unit_main(argc, argv, suites);
}
