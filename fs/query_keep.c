/* What of history is kept: tags, compaction, the retention policy, and why a revision is still there. */
#include "fs/query_int.h"

#include "fs/expr.h"
#include "mvcc/keep.h"

#include <errno.h>
#include <inttypes.h>

/* The revision of member "rev", the newest without it. False when that was refused, with what refuse() says in `*err`. */
static bool wanted_rev(const struct query_env *env, struct json_object *req, struct buf *reply,
		       mvcc_rev_t *rev, int *err)
{
	const char *expr = rev_member(req, "rev");

	*rev = mvcc_current(env->db);
	*err = expr ? query_rev(env->db, slice_str(expr), rev) : 0;
	if (!*err)
		return true;
	*err = refuse_rev(env, reply, *err, expr);
	return false;
}

/* ---- tags ---------------------------------------------------------------------------------------- */

/* A name from the request, as a string: of bytes as a path is. */
static int name_member(struct json_object *req, const char *key, struct buf *out)
{
	int err = json_get_bytes(req, key, out);

	if (!err && (!out->len || memchr(out->data, 0, out->len)))
		err = -EINVAL;
	return err ? err : buf_put_u8(out, 0);
}

static int refuse_name(struct buf *reply, int err, const char *what)
{
	return err == -ENOMEM ? err : refuse(reply, -EINVAL, "the request has no %s that can be a tag", what);
}

/* Who names a revision so would find another by it, or none. */
static bool is_free_name(const char *name)
{
	return !expr_is_reserved_form(slice_str(name));
}

static int refuse_tag(const struct query_env *env, struct buf *reply, int err, const char *name)
{
	struct mvcc_pin pin;

	switch (err) {
	case -EEXIST:
		if (mvcc_pin_get(env->db, name, &pin) == 0)
			return refuse(reply, err,
				      "the tag %s exists already, for revision %" PRIu64 "; untag it first",
				      name, pin.rev);
		return refuse(reply, err, "the tag %s exists already", name);
	case -ENOENT:
		return refuse(reply, err, "there is no tag %s", name);
	case -EINVAL:
		return refuse(reply, err,
			      "%s cannot be a tag: that is 1 to %zu bytes without a slash, and nothing that "
			      "means a revision by itself",
			      name, MVCC_PIN_NAME_MAX);
	default:
		return refuse(reply, err, "%s: %s", name, mvcc_strerror(err));
	}
}

static int fill_tag(struct json_object *o, const struct mvcc_pin *pin)
{
	char time[64], made[64];
	int err;

	format_time(pin->time_ns, time);
	format_time(pin->made_ns, made);
	err = json_add_bytes(o, "name", slice_str(pin->name));
	if (!err)
		err = json_add_u64(o, "rev", pin->rev);
	if (!err)
		err = json_add_str(o, "time", time);
	if (!err)
		err = json_add_i64(o, "time_ns", pin->time_ns);
	if (!err)
		err = json_add_str(o, "made", made);
	if (!err)
		err = json_add_i64(o, "made_ns", pin->made_ns);
	if (!err)
		err = json_add_bool(o, "auto", pin->kind == MVCC_PIN_AUTO);
	return err;
}

static int tell_tag(struct buf *reply, const struct mvcc_pin *pin)
{
	struct json_object *o = json_object_new_object();
	int err = o ? json_add_bool(o, "ok", true) : -ENOMEM;

	if (!err)
		err = fill_tag(o, pin);
	if (!err)
		err = json_append(reply, o);
	json_object_put(o);
	return err;
}

int answer_tag(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	struct buf name = { 0 };
	struct mvcc_pin pin;
	mvcc_rev_t rev;
	int err = name_member(req, "name", &name);

	if (err) {
		err = refuse_name(reply, err, "name");
	} else if (wanted_rev(env, req, reply, &rev, &err)) {
		const char *text = (const char *)name.data;

		err = is_free_name(text) ? mvcc_pin(env->db, text, rev) : -EINVAL;
		if (!err)
			err = mvcc_pin_get(env->db, text, &pin);
		err = err ? refuse_tag(env, reply, err, text) : tell_tag(reply, &pin);
	}
	buf_release(&name);
	return err;
}

int answer_untag(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	struct buf name = { 0 };
	struct mvcc_pin pin;
	int err = name_member(req, "name", &name);

	if (err) {
		err = refuse_name(reply, err, "name");
	} else {
		const char *text = (const char *)name.data;

		err = mvcc_pin_get(env->db, text, &pin);
		if (!err)
			err = mvcc_unpin(env->db, text);
		err = err ? refuse_tag(env, reply, err, text) : tell_tag(reply, &pin);
	}
	buf_release(&name);
	return err;
}

int answer_retag(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	struct buf name = { 0 }, to = { 0 };
	struct mvcc_pin pin;
	int err = name_member(req, "name", &name);
	int to_err = name_member(req, "to", &to);

	if (err) {
		err = refuse_name(reply, err, "name");
	} else if (to_err) {
		err = refuse_name(reply, to_err, "new name");
	} else {
		const char *old_text = (const char *)name.data, *new_text = (const char *)to.data;

		err = is_free_name(new_text) ? mvcc_pin_rename(env->db, old_text, new_text) : -EINVAL;
		if (!err)
			err = mvcc_pin_get(env->db, new_text, &pin);
		err = err ? refuse_tag(env, reply, err, err == -ENOENT ? old_text : new_text) :
			    tell_tag(reply, &pin);
	}
	buf_release(&name);
	buf_release(&to);
	return err;
}

/* A page of tags, in order of names: those after `after`, until the reply is long enough. */
struct tag_page {
	struct buf *reply;
	size_t start;
	struct slice after;
	char next[256]; /* the last name told, if there are more */
	bool any, more;
};

static int page_tag(void *arg, const struct mvcc_pin *pin)
{
	struct tag_page *page = arg;
	struct json_object *o;
	int err;

	if (page->after.len && slice_cmp(slice_str(pin->name), page->after) <= 0)
		return 0;
	if (page->any && page->reply->len - page->start >= QUERY_REPLY_BYTES) {
		page->more = true;
		return 1;
	}
	o = json_object_new_object();
	err = o ? fill_tag(o, pin) : -ENOMEM;
	if (!err && page->any)
		err = buf_put_u8(page->reply, ',');
	if (!err)
		err = json_append(page->reply, o);
	json_object_put(o);
	memcpy(page->next, pin->name, sizeof(page->next));
	page->any = true;
	return err;
}

static int put_next_name(struct buf *reply, const char *name)
{
	struct json_object *o = json_object_new_object();
	size_t at = reply->len;
	int err = o ? json_add_bytes(o, "next", slice_str(name)) : -ENOMEM;

	if (!err)
		err = json_append(reply, o);
	json_object_put(o);
	if (!err)
		reply->data[at] = ','; /* its brace: the members join those of the reply */
	return err;
}

int answer_tags(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	struct tag_page page = { .reply = reply };
	struct buf after = { 0 };
	int err = json_get_bytes(req, "after", &after);

	if (err == -EINVAL)
		return refuse(reply, err, "after is the name of a tag");
	page.after = slice_buf(&after);
	err = put_text(reply, "{\"ok\":true,\"tags\":[");
	page.start = reply->len;
	if (!err)
		err = mvcc_pins(env->db, page_tag, &page);
	if (err >= 0)
		err = put_text(reply, "]");
	if (!err)
		err = page.more ? put_next_name(reply, page.next) : put_text(reply, "}");
	buf_release(&after);
	return err;
}

/* ---- compaction ---------------------------------------------------------------------------------- */

struct count_pins {
	mvcc_rev_t from, to; /* not including `to` */
	uint64_t n;
};

static int count_pin(void *arg, const struct mvcc_pin *pin)
{
	struct count_pins *c = arg;

	c->n += pin->rev >= c->from && pin->rev < c->to;
	return 0;
}

/* The floor that is asked for: "rev", or the newest "keep" revisions, or neither: 0, what the policy wants. */
static bool wanted_floor(const struct query_env *env, struct json_object *req, struct buf *reply,
			 mvcc_rev_t *floor, int *err)
{
	mvcc_rev_t current = mvcc_current(env->db);
	uint64_t n = 0;

	*floor = 0;
	*err = number_member(req, "keep", &n);
	if (*err != -ENOENT) {
		if (*err || n == 0 || rev_member(req, "rev")) {
			*err = refuse(reply, -EINVAL,
				      "say a revision or how many to keep, which is a number from 1 up");
			return false;
		}
		*floor = n < current ? current - n + 1 : MVCC_REV_FIRST;
		if (*floor < mvcc_floor(env->db))
			*floor = mvcc_floor(env->db);
		return true;
	}
	*err = 0;
	return !rev_member(req, "rev") || wanted_rev(env, req, reply, floor, err);
}

static int compact_to(const struct query_env *env, mvcc_rev_t floor)
{
	int err;

	if (!floor)
		return mvcc_upkeep(env->db);
	err = mvcc_compact(env->db, floor);
	return err == MVCC_ECOMPACTED ? 0 : err; /* it is there already */
}

int answer_compact(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	struct count_pins pins = { .from = mvcc_floor(env->db) };
	bool dry = flag_member(req, "dry_run"), wait = flag_member(req, "wait"), held = false;
	struct mvcc_policy_step step;
	struct mvcc_policy policy;
	struct query_task task;
	mvcc_rev_t floor;
	int err;

	if (!wanted_floor(env, req, reply, &floor, &err))
		return err;
	if (dry && !floor) {
		mvcc_policy_get(env->db, &policy);
		err = mvcc_policy_try(env->db, &policy, &step);
		floor = step.floor;
	}
	if (!dry)
		err = compact_to(env, floor);
	pins.to = dry ? floor : mvcc_floor(env->db);
	if (!err)
		err = mvcc_pins(env->db, count_pin, &pins);
	if (!err && wait && !dry) {
		task_begin(&task, req, "space coming back");
		err = mvcc_compact_wait(env->db);
		task_end(&task);
		held = err == -EBUSY;
		err = held ? 0 : err;
	}
	if (err)
		return refuse(reply, err, "history cannot be compacted: %s", mvcc_strerror(err));
	return put_text(reply,
			"{\"ok\":true,\"floor\":%" PRIu64 ",\"was\":%" PRIu64 ",\"tagged\":%" PRIu64
			",\"held\":%s}",
			pins.to, pins.from, pins.n, held ? "true" : "false");
}

/* ---- retention ----------------------------------------------------------------------------------- */

enum { POLICY_NUMBERS = 8 };

static const char *const policy_keys[POLICY_NUMBERS] = { "keep_all_s", "keep_revs", "hourly", "daily",
							 "weekly",     "monthly",   "yearly", "free_bytes" };

static void policy_numbers(const struct mvcc_policy *p, uint64_t out[POLICY_NUMBERS])
{
	const uint64_t numbers[POLICY_NUMBERS] = { p->keep_all_s, p->keep_revs, p->hourly, p->daily,
						   p->weekly,     p->monthly,   p->yearly, p->free_bytes };

	memcpy(out, numbers, sizeof(numbers));
}

static bool policy_of(const uint64_t n[POLICY_NUMBERS], struct mvcc_policy *out)
{
	for (int i = 2; i < 7; i++)
		if (n[i] > UINT32_MAX)
			return false;
	*out = (struct mvcc_policy){ n[0],           n[1],           (uint32_t)n[2], (uint32_t)n[3],
				     (uint32_t)n[4], (uint32_t)n[5], (uint32_t)n[6], n[7] };
	return true;
}

/* Members of the request take the place of what the policy says. -EINVAL when one is no number, or too large. */
static int policy_change(struct mvcc_policy *policy, struct json_object *req, bool *changed)
{
	uint64_t numbers[POLICY_NUMBERS] = { 0 };

	*changed = flag_member(req, "off");
	if (!*changed)
		policy_numbers(policy, numbers);
	for (int i = 0; i < POLICY_NUMBERS; i++) {
		int err = number_member(req, policy_keys[i], &numbers[i]);

		if (err && err != -ENOENT)
			return err;
		*changed |= !err;
	}
	return policy_of(numbers, policy) ? 0 : -EINVAL;
}

static int tell_policy(const struct query_env *env, const struct mvcc_policy *policy,
		       const struct mvcc_policy_step *step, struct buf *reply)
{
	uint64_t numbers[POLICY_NUMBERS];
	struct json_object *o = json_object_new_object();
	int err = o ? json_add_bool(o, "ok", true) : -ENOMEM;

	policy_numbers(policy, numbers);
	for (int i = 0; i < POLICY_NUMBERS && !err; i++)
		err = json_add_u64(o, policy_keys[i], numbers[i]);
	if (!err)
		err = json_add_u64(o, "floor", mvcc_floor(env->db));
	if (!err && step) {
		const struct figure figures[] = { { "floor_would_be", step->floor },
						  { "tags_made", step->pins_made },
						  { "tags_taken", step->pins_taken } };

		err = ADD_FIGURES(o, figures);
	}
	if (!err)
		err = json_append(reply, o);
	json_object_put(o);
	return err;
}

int answer_retain(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	struct mvcc_policy_step step;
	struct mvcc_policy policy;
	bool changed, dry = flag_member(req, "dry_run");
	int err;

	mvcc_policy_get(env->db, &policy);
	err = policy_change(&policy, req, &changed);
	if (err)
		return refuse(reply, err, "a policy is made of numbers from 0 up");
	if (!err && dry)
		err = mvcc_policy_try(env->db, &policy, &step);
	else if (!err && changed)
		err = mvcc_policy_set(env->db, &policy);
	if (err)
		return refuse(reply, err, "the retention policy cannot be %s: %s", dry ? "tried" : "set",
			      mvcc_strerror(err));
	return tell_policy(env, &policy, dry ? &step : NULL, reply);
}

/* ---- why ----------------------------------------------------------------------------------------- */

static int fill_why(struct json_object *o, mvcc_rev_t rev, const struct mvcc_why *why)
{
	char time[64];
	int err = json_add_bool(o, "ok", true);

	if (!err)
		err = json_add_u64(o, "rev", rev);
	if (!err)
		err = json_add_bool(o, "readable", why->readable);
	if (!err)
		err = json_add_bool(o, "newest", why->newest);
	if (!err)
		err = json_add_bool(o, "above_floor", why->above_floor);
	if (!err && why->policy_ns)
		err = json_add_i64(o, "policy_ns", why->policy_ns);
	if (!err)
		err = json_add_u64(o, "tags", why->pins);
	if (!err && why->pins)
		err = json_add_bytes(o, "tag", slice_str(why->pin.name));
	if (!err && why->pins)
		err = json_add_bool(o, "auto", why->pin.kind == MVCC_PIN_AUTO);
	if (!err)
		err = json_add_u64(o, "views", why->views);
	if (!err && why->time_ns) {
		format_time(why->time_ns, time);
		err = json_add_str(o, "time", time);
		if (!err)
			err = json_add_i64(o, "time_ns", why->time_ns);
	}
	return err;
}

int answer_why(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	const char *expr = rev_member(req, "rev");
	struct json_object *o;
	struct mvcc_why why;
	mvcc_rev_t rev = 0;
	int err;

	/* A number is one also below the floor: that is when people ask. */
	if (!expr || !decimal(slice_str(expr), &rev) || rev == 0) {
		if (!wanted_rev(env, req, reply, &rev, &err))
			return err;
	}
	err = mvcc_why(env->db, rev, &why);
	if (err == MVCC_EFUTURE)
		return refuse_rev(env, reply, err, expr);
	if (err)
		return refuse(reply, err, "revision %" PRIu64 ": %s", rev, mvcc_strerror(err));
	o = json_object_new_object();
	err = o ? fill_why(o, rev, &why) : -ENOMEM;
	if (!err)
		err = json_append(reply, o);
	json_object_put(o);
	return err;
}
