/*
 * The retention policy in a store: the row that keeps it, the step that does what retain_plan() says, and the answer
 * to why a revision is still here.
 *
 * A step first pins, then raises the floor, then takes away pins: a kill between two of these has lost nothing, and
 * the next step finds the rest to do.
 */
#include "mvcc/keep_int.h"
#include "mvcc/retain.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* ---- the row ------------------------------------------------------------------------------ */

int policy_load(struct mvcc *db)
{
	struct engine_pin pin = { 0 };
	struct mvcc_policy policy;
	int err = engine_get(db->engine, FAM_META, slice_str(META_POLICY), &pin);

	if (!err)
		err = policy_decode(pin.value, &policy);
	engine_pin_release(db->engine, &pin);
	if (!err) {
		pthread_mutex_lock(&db->policy_lock);
		db->policy = policy;
		pthread_mutex_unlock(&db->policy_lock);
	}
	return err == -ENOENT ? 0 : err;
}

static int policy_write(struct mvcc *db, const struct mvcc_policy *policy)
{
	struct engine_batch *batch;
	struct buf row = { 0 };
	int err = policy_encode(&row, policy);

	gate_enter(&db->gate);
	if (!err)
		err = atomic_load(&db->failed);
	batch = err ? NULL : engine_batch_new(db->engine);
	if (!err && !batch)
		err = -ENOMEM;
	if (!err)
		err = engine_batch_put(batch, FAM_META, slice_str(META_POLICY), slice_buf(&row));
	if (!err)
		err = db_write(db, batch, ENGINE_SYNC);
	engine_batch_free(batch);
	gate_leave(&db->gate);
	buf_release(&row);
	return err;
}

int mvcc_policy_set(struct mvcc *db, const struct mvcc_policy *policy)
{
	int err;

	pthread_mutex_lock(&db->step_lock);
	err = policy_write(db, policy);
	if (!err) {
		pthread_mutex_lock(&db->policy_lock);
		db->policy = *policy;
		pthread_mutex_unlock(&db->policy_lock);
	}
	pthread_mutex_unlock(&db->step_lock);
	if (!err)
		keep_wake(db, false);
	return err;
}

void mvcc_policy_get(struct mvcc *db, struct mvcc_policy *out)
{
	pthread_mutex_lock(&db->policy_lock);
	*out = db->policy;
	pthread_mutex_unlock(&db->policy_lock);
}

/* ---- how the store stands ----------------------------------------------------------------- */

struct look {
	struct mvcc *db;
	mvcc_rev_t floor, current;
	struct mvcc_pin *pins; /* the automatic ones, in order of revisions */
	struct retain_rev *revs;
	size_t n, cap;
};

static int look_time_of(void *arg, mvcc_rev_t rev, int64_t *out)
{
	const struct look *l = arg;

	return log_time_of(l->db, rev, out);
}

static int look_at(void *arg, int64_t time_ns, struct retain_rev *out)
{
	const struct look *l = arg;

	return log_rev_at(l->db, l->floor, l->current, time_ns, &out->rev, &out->time_ns);
}

static int look_pin(void *arg, const struct mvcc_pin *pin)
{
	struct look *l = arg;
	struct mvcc_pin *grown;

	if (pin->kind != MVCC_PIN_AUTO)
		return 0;
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;

		grown = realloc(l->pins, cap * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		l->pins = grown;
		l->cap = cap;
	}
	l->pins[l->n++] = *pin;
	return 0;
}

static int by_rev(const void *a, const void *b)
{
	const struct mvcc_pin *x = a, *y = b;

	return (x->rev > y->rev) - (x->rev < y->rev);
}

static int look_pins(struct look *l)
{
	int err = mvcc_pins(l->db, look_pin, l);

	if (err)
		return err;
	l->revs = malloc((l->n ? l->n : 1) * sizeof(*l->revs));
	if (!l->revs)
		return -ENOMEM;
	if (l->n)
		qsort(l->pins, l->n, sizeof(*l->pins), by_rev);
	for (size_t i = 0; i < l->n; i++)
		l->revs[i] = (struct retain_rev){ .rev = l->pins[i].rev, .time_ns = l->pins[i].time_ns };
	return 0;
}

static void look_release(struct look *l)
{
	free(l->pins);
	free(l->revs);
}

/* ---- the step ----------------------------------------------------------------------------- */

/* "auto-2024-02-29T12:00:00Z"; if a user has taken that name, with the revision behind it. */
static int pin_auto(struct mvcc *db, struct retain_rev rev)
{
	time_t s = (time_t)(rev.time_ns / 1000000000 - (rev.time_ns % 1000000000 < 0));
	char name[64], longer[96];
	struct tm tm;
	int err;

	if (!gmtime_r(&s, &tm) || !strftime(name, sizeof(name), "auto-%Y-%m-%dT%H:%M:%SZ", &tm))
		return -EOVERFLOW;
	err = keep_pin(db, name, MVCC_PIN_AUTO, rev.rev);
	if (err != -EEXIST)
		return err;
	snprintf(longer, sizeof(longer), "%s-%llu", name, (unsigned long long)rev.rev);
	return keep_pin(db, longer, MVCC_PIN_AUTO, rev.rev);
}

static int drop_pins(struct look *l, const struct retain_plan *plan, bool full)
{
	int err = 0;

	for (size_t i = 0, j = 0; !err && i < plan->ndrop; i++) {
		while (l->pins[j].rev != plan->drop[i].rev)
			j++;
		for (; !err && j < l->n && l->pins[j].rev == plan->drop[i].rev; j++)
			err = keep_unpin(l->db, l->pins[j].name, full);
		if (err == -ENOENT) /* somebody was faster */
			err = 0;
	}
	return err;
}

/* Space is given back at once if it is short, else when that is worth a rewrite. */
static int carry_out(struct look *l, const struct retain_plan *plan, bool full)
{
	int err = 0;

	for (size_t i = 0; !err && i < plan->nadd; i++) {
		err = pin_auto(l->db, plan->add[i]);
		if (err == MVCC_ECOMPACTED) /* somebody has raised the floor over it */
			err = 0;
	}
	if (!err && plan->floor > l->floor)
		err = keep_compact(l->db, plan->floor, full);
	if (err == MVCC_ECOMPACTED)
		err = 0;
	return err ? err : drop_pins(l, plan, full);
}

static bool is_active(const struct mvcc_policy *policy)
{
	return policy->keep_all_s || policy->keep_revs || policy->free_bytes;
}

/* What the policy asks for now. Before anything is done, `look` says how the store stands. */
static int plan_locked(struct mvcc *db, const struct mvcc_policy *policy, mvcc_rev_t floor, struct look *l,
		       struct retain_plan *plan, bool *full)
{
	struct retain_state state = {
		.now_ns = wall_ns(db), .at = look_at, .time_of = look_time_of, .arg = l
	};
	int err;

	l->db = db;
	l->floor = state.floor = floor;
	l->current = state.current = atomic_load(&db->current);
	err = drain_to_rev(db, l->current);
	if (!err)
		err = look_pins(l);
	state.pins = l->revs;
	state.npins = l->n;
	state.full = *full = policy->free_bytes && space_free(db) < policy->free_bytes;
	return err ? err : retain_plan(policy, &state, plan);
}

static int step_locked(struct mvcc *db, const struct mvcc_policy *policy, int64_t *due_ns)
{
	struct retain_plan plan = { 0 };
	struct look l = { 0 };
	struct mvcc_view *hold;
	bool full;
	int err = view_open_floor(db, &hold); /* so that the log from there on stays */

	if (err)
		return err;
	err = plan_locked(db, policy, mvcc_view_rev(hold), &l, &plan, &full);
	if (!err)
		err = carry_out(&l, &plan, full);
	if (!err)
		*due_ns = plan.due_ns;
	mvcc_view_close(hold);
	retain_plan_release(&plan);
	look_release(&l);
	return err;
}

static int try_locked(struct mvcc *db, const struct mvcc_policy *policy, struct mvcc_policy_step *out)
{
	struct retain_plan plan = { 0 };
	struct look l = { 0 };
	struct mvcc_view *hold;
	bool full;
	int err = view_open_floor(db, &hold);

	if (err)
		return err;
	*out = (struct mvcc_policy_step){ .floor = mvcc_view_rev(hold) };
	if (is_active(policy)) {
		err = plan_locked(db, policy, mvcc_view_rev(hold), &l, &plan, &full);
		if (!err)
			*out = (struct mvcc_policy_step){ plan.floor, plan.nadd, plan.ndrop };
	}
	mvcc_view_close(hold);
	retain_plan_release(&plan);
	look_release(&l);
	return err;
}

int mvcc_policy_try(struct mvcc *db, const struct mvcc_policy *policy, struct mvcc_policy_step *out)
{
	int err;

	pthread_mutex_lock(&db->step_lock);
	err = try_locked(db, policy, out);
	pthread_mutex_unlock(&db->step_lock);
	return err;
}

int retain_step(struct mvcc *db, int64_t *due_ns)
{
	struct mvcc_policy policy;
	int err = 0;

	pthread_mutex_lock(&db->step_lock);
	mvcc_policy_get(db, &policy);
	if (is_active(&policy))
		err = step_locked(db, &policy, due_ns);
	else
		*due_ns = INT64_MAX;
	pthread_mutex_unlock(&db->step_lock);
	return err;
}

/* ---- why a revision is here --------------------------------------------------------------- */

struct why_pins {
	mvcc_rev_t rev;
	struct mvcc_why *why;
};

static int why_pin(void *arg, const struct mvcc_pin *pin)
{
	struct why_pins *w = arg;

	if (pin->rev != w->rev)
		return 0;
	if (w->why->pins++ == 0)
		w->why->pin = *pin;
	return 0;
}

static uint64_t views_at(struct mvcc *db, mvcc_rev_t rev)
{
	const struct mvcc_view *view;
	uint64_t n = 0;

	pthread_mutex_lock(&db->views_lock);
	LIST_FOREACH(view, &db->views, link)
		n += view->rev == rev;
	pthread_mutex_unlock(&db->views_lock);
	return n;
}

/* It leaves the window when the one after it is as old as the window is long. */
static int why_window(struct mvcc *db, mvcc_rev_t rev, struct mvcc_why *why)
{
	struct mvcc_policy policy;
	int64_t next_ns;
	int err = drain_to_rev(db, why->newest ? rev : rev + 1);

	if (!err)
		err = log_time_of(db, rev, &why->time_ns);
	mvcc_policy_get(db, &policy);
	if (err || why->newest || !policy.keep_all_s)
		return err;
	err = log_time_of(db, rev + 1, &next_ns);
	if (!err && policy.keep_all_s < (uint64_t)((INT64_MAX - next_ns) / 1000000000))
		why->policy_ns = next_ns + (int64_t)policy.keep_all_s * 1000000000;
	return err;
}

int mvcc_why(struct mvcc *db, mvcc_rev_t rev, struct mvcc_why *out)
{
	mvcc_rev_t current = atomic_load(&db->current);
	struct mvcc_why why = { .readable = false };
	struct why_pins pins = { .why = &why };
	struct mvcc_view *hold;
	int err;

	if (rev == MVCC_REV_LATEST)
		rev = current;
	if (rev > current)
		return MVCC_EFUTURE;
	pins.rev = rev;
	why.views = views_at(db, rev);
	err = view_open_floor(db, &hold);
	if (err)
		return err;
	err = mvcc_pins(db, why_pin, &pins);
	why.newest = rev == current;
	why.above_floor = rev >= mvcc_view_rev(hold);
	why.readable = why.above_floor || why.pins;
	why.time_ns = why.pins ? why.pin.time_ns : 0;
	if (!err && why.above_floor)
		err = why_window(db, rev, &why);
	mvcc_view_close(hold);
	if (!err)
		*out = why;
	return err;
}
