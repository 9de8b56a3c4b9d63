/*
 * The window is what was current at some moment of the last `keep_all_s`, and the newest `keep_revs`: it begins with
 * the future floor. Of the hours, days, ... that lie before it as a whole, the last so many that have any revision
 * keep their newest one. One whose newest revision is still in the window does not count yet: so what an hour keeps
 * is decided once, when it has passed, and stays.
 *
 * Below the floor there are only automatic pins to choose from; the pins of users are theirs.
 */
#include "mvcc/retain.h"

#include <errno.h>
#include <stdlib.h>

#define SECOND_NS ((int64_t)1000000000)
#define HOUR_S ((int64_t)3600)
#define DAY_S (24 * HOUR_S)
#define STEP_MIN_NS SECOND_NS         /* steps are not closer than this, */
#define STEP_MAX_NS (600 * SECOND_NS) /* and a window's steps a 64th of it, at most this */
#define FULL_LOOK_NS (10 * SECOND_NS) /* how often free space is looked at */
#define REVS_LOOK_NS (60 * SECOND_NS) /* and the count of revisions */
#define KEEP_ALL_MAX_S (INT64_MAX / SECOND_NS / 2)

/* ---- the calendar ------------------------------------------------------------------------- */

static int64_t floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

/* The year of a day since 1970, and its month from 0 on; both in a calendar whose years begin in March. */
static void march_month(int64_t day, int64_t *year, int64_t *month)
{
	int64_t shifted = day + 719468; /* days since 0000-03-01 */
	int64_t era = floor_div(shifted, 146097);
	int64_t in_era = shifted - era * 146097;
	int64_t of_era = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
	int64_t in_year = in_era - (365 * of_era + of_era / 4 - of_era / 100);

	*year = era * 400 + of_era;
	*month = (5 * in_year + 2) / 153;
}

/* The day since 1970 on which a month of that calendar begins. */
static int64_t march_month_begin(int64_t year, int64_t month)
{
	int64_t era = floor_div(year, 400);
	int64_t of_era = year - era * 400;

	return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 - 719468;
}

int64_t retain_begin(enum retain_unit unit, int64_t time_ns)
{
	int64_t s = floor_div(time_ns, SECOND_NS), day = floor_div(s, DAY_S), year, month;

	switch (unit) {
	case RETAIN_HOUR:
		return floor_div(s, HOUR_S) * HOUR_S * SECOND_NS;
	case RETAIN_WEEK:
		day -= ((day + 3) % 7 + 7) % 7; /* the first day of 1970 was a Thursday */
		break;
	case RETAIN_MONTH:
		march_month(day, &year, &month);
		day = march_month_begin(year, month);
		break;
	case RETAIN_YEAR:
		march_month(day, &year, &month);
		day = march_month_begin(month >= 10 ? year : year - 1, 10); /* January is the eleventh */
		break;
	case RETAIN_DAY:
	case RETAIN_UNITS:
		break;
	}
	return day * DAY_S * SECOND_NS;
}

/* ---- what stays --------------------------------------------------------------------------- */

/* Revisions in rising order, each once. */
struct chosen {
	struct retain_rev *v;
	size_t n, cap;
};

/* Index of the first one at or above `rev`. */
static size_t from_rev(const struct retain_rev *v, size_t n, mvcc_rev_t rev)
{
	size_t lo = 0;

	while (lo < n) {
		size_t mid = lo + (n - lo) / 2;

		if (v[mid].rev < rev)
			lo = mid + 1;
		else
			n = mid;
	}
	return lo;
}

static bool has_rev(const struct retain_rev *v, size_t n, mvcc_rev_t rev)
{
	size_t i = from_rev(v, n, rev);

	return i < n && v[i].rev == rev;
}

static int choose(struct chosen *c, struct retain_rev rev)
{
	size_t i = from_rev(c->v, c->n, rev.rev);

	if (i < c->n && c->v[i].rev == rev.rev)
		return 0;
	if (c->n == c->cap) {
		size_t cap = c->cap ? 2 * c->cap : 64;
		struct retain_rev *grown = realloc(c->v, cap * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		c->v = grown;
		c->cap = cap;
	}
	memmove(c->v + i + 1, c->v + i, (c->n - i) * sizeof(*c->v));
	c->v[i] = rev;
	c->n++;
	return 0;
}

/* The newest revision before a time that is still there. 1, 0 if there is none, or a code. */
static int before(const struct retain_state *state, int64_t time_ns, struct retain_rev *out)
{
	int got = time_ns == INT64_MIN ? 0 : state->at(state->arg, time_ns - 1, out);

	if (got)
		return got;
	for (size_t i = state->npins; i-- > 0;) {
		if (state->pins[i].rev >= state->floor || state->pins[i].time_ns >= time_ns)
			continue;
		*out = state->pins[i];
		return 1;
	}
	return 0;
}

/* The newest revision of each of the last `n` hours, days, ... before the one in which the window begins. */
static int choose_unit(const struct retain_state *state, enum retain_unit unit, uint32_t n, int64_t window_ns,
		       struct chosen *c)
{
	int64_t begin = retain_begin(unit, window_ns);
	struct retain_rev rev;

	for (; n > 0; n--) {
		int got = before(state, begin, &rev);

		if (got == 1)
			got = choose(c, rev);
		else
			return got;
		if (got)
			return got;
		begin = retain_begin(unit, rev.time_ns);
	}
	return 0;
}

static int choose_all(const struct mvcc_policy *policy, const struct retain_state *state, mvcc_rev_t window,
		      struct chosen *c)
{
	const uint32_t counts[RETAIN_UNITS] = { policy->hourly, policy->daily, policy->weekly,
						policy->monthly, policy->yearly };
	int64_t window_ns;
	int err = state->time_of(state->arg, window, &window_ns);

	for (unsigned unit = 0; !err && unit < RETAIN_UNITS; unit++)
		err = choose_unit(state, (enum retain_unit)unit, counts[unit], window_ns, c);
	return err;
}

/* ---- the window --------------------------------------------------------------------------- */

static int64_t keep_all_ns(const struct mvcc_policy *policy)
{
	uint64_t s = policy->keep_all_s < KEEP_ALL_MAX_S ? policy->keep_all_s : KEEP_ALL_MAX_S;

	return (int64_t)s * SECOND_NS;
}

static int64_t later(int64_t a, int64_t b)
{
	return a > INT64_MAX - b ? INT64_MAX : a + b;
}

/* The first revision of the window: what was current when it began. Tells when that will be another one. */
static int find_window(const struct mvcc_policy *policy, const struct retain_state *state, mvcc_rev_t *out,
		       int64_t *due_ns)
{
	int64_t length = keep_all_ns(policy), step = length / 64, next_ns;
	struct retain_rev begin = { .rev = state->current };
	mvcc_rev_t by_count = state->current;
	int got = 0;

	if (policy->keep_all_s) {
		got = state->at(state->arg, state->now_ns - length, &begin);
		if (got < 0)
			return got;
		if (got == 0)
			begin.rev = state->floor;
		*due_ns = later(state->now_ns, length);
		if (begin.rev < state->current) {
			got = state->time_of(state->arg, begin.rev + 1, &next_ns);
			if (got)
				return got;
			if (later(next_ns, length) < *due_ns)
				*due_ns = later(next_ns, length);
		}
		step = step < STEP_MIN_NS ? STEP_MIN_NS : step > STEP_MAX_NS ? STEP_MAX_NS : step;
		if (*due_ns < later(state->now_ns, step))
			*due_ns = later(state->now_ns, step);
	}
	if (policy->keep_revs)
		by_count = policy->keep_revs > state->current ? MVCC_REV_FIRST :
								state->current - policy->keep_revs + 1;
	*out = begin.rev < by_count ? begin.rev : by_count;
	if (*out < state->floor)
		*out = state->floor;
	return 0;
}

/* ---- the plan ----------------------------------------------------------------------------- */

/* Room is short: the oldest quarter of what automatic pins keep goes; if there is nothing, half of the window. */
static void give_way(const struct retain_state *state, struct chosen *c, mvcc_rev_t *window)
{
	size_t n = (c->n + 3) / 4;

	if (n) {
		memmove(c->v, c->v + n, (c->n - n) * sizeof(*c->v));
		c->n -= n;
	} else {
		*window += (state->current - *window + 1) / 2;
	}
}

/* Those of `v` that are not among `other`. */
static int difference(const struct retain_rev *v, size_t n, const struct retain_rev *other, size_t nother,
		      struct retain_rev **out, size_t *nout)
{
	*out = malloc((n ? n : 1) * sizeof(**out));
	if (!*out)
		return -ENOMEM;
	*nout = 0;
	for (size_t i = 0; i < n; i++)
		if (!has_rev(other, nother, v[i].rev))
			(*out)[(*nout)++] = v[i];
	return 0;
}

void retain_plan_release(struct retain_plan *plan)
{
	free(plan->add);
	free(plan->drop);
	*plan = (struct retain_plan){ 0 };
}

int retain_plan(const struct mvcc_policy *policy, const struct retain_state *state, struct retain_plan *out)
{
	struct retain_plan plan = { .floor = state->floor, .due_ns = INT64_MAX };
	bool moves = policy->keep_all_s || policy->keep_revs;
	struct chosen c = { 0 };
	int err = 0;

	if (moves)
		err = find_window(policy, state, &plan.floor, &plan.due_ns);
	if (!err && moves)
		err = choose_all(policy, state, plan.floor, &c);
	for (size_t i = 0; !err && !moves && i < state->npins; i++) /* nothing goes by age: nor do they */
		err = choose(&c, state->pins[i]);
	if (!err && state->full)
		give_way(state, &c, &plan.floor);
	if (!err)
		err = difference(c.v, c.n, state->pins, state->npins, &plan.add, &plan.nadd);
	if (!err)
		err = difference(state->pins, state->npins, c.v, c.n, &plan.drop, &plan.ndrop);
	free(c.v);
	if (err) {
		retain_plan_release(&plan);
		return err;
	}
	if (policy->keep_revs && plan.due_ns > later(state->now_ns, REVS_LOOK_NS))
		plan.due_ns = later(state->now_ns, REVS_LOOK_NS);
	if (policy->free_bytes && plan.due_ns > later(state->now_ns, FULL_LOOK_NS))
		plan.due_ns = later(state->now_ns, FULL_LOOK_NS);
	*out = plan;
	return 0;
}
