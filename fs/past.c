#include "fs/past.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "fs/expr.h"
#include "fs/ns_acl.h"
#include "mvcc/keep.h"

#define NS_PER_S ((int64_t)1000000000)

int past_resolve(struct mvcc *db, struct slice expr, mvcc_rev_t *rev, bool *moving)
{
	int err = expr_rev(db, expr, ns_time_ns(), rev, moving);

	return err == -EINVAL || err == MVCC_EFUTURE ? -ENOENT : err;
}

static int directory_at(struct mvcc *db, mvcc_rev_t rev, struct slice path)
{
	struct mvcc_view *view;
	struct ns_attr attr;
	uint64_t ino;
	int err = mvcc_view_open(db, rev, &view);

	if (err)
		return err;
	err = ns_at_walk(view, path, &ino);
	if (!err)
		err = ns_at_getattr(view, ino, &attr);
	if (!err && !S_ISDIR(attr.mode))
		err = -ENOTDIR;
	mvcc_view_close(view);
	return err;
}

/* What one listing is made of. */
struct listing {
	struct mvcc *db;
	struct slice path;
	struct past_names *out;
	int64_t *times_s; /* for "@GMT-" names */
	size_t ntimes, times_cap;
};

/* `items` with room for more than `n`, or NULL: then they are as they were. */
static void *with_room(void *items, size_t n, size_t *cap, size_t size)
{
	size_t more = *cap ? *cap * 2 : 64;
	void *bigger;

	if (n < *cap)
		return items;
	bigger = reallocarray(items, more, size);
	if (bigger)
		*cap = more;
	return bigger;
}

/* A name for `rev`, if there was such a directory then. */
static int add_name(struct listing *l, const char *text, mvcc_rev_t rev)
{
	struct past_names *out = l->out;
	struct past_name *names;
	int err = directory_at(l->db, rev, l->path);

	if (err)
		return err == -ENOENT || err == -ENOTDIR || err == MVCC_ECOMPACTED ? 0 : err;
	names = with_room(out->names, out->n, &out->cap, sizeof(*names));
	if (!names)
		return -ENOMEM;
	out->names = names;
	snprintf(names[out->n].text, sizeof(names->text), "%s", text);
	names[out->n++].rev = rev;
	return 0;
}

static int64_t round_down(int64_t ns, int64_t step_ns)
{
	int64_t rest = ns % step_ns;

	return ns - (rest < 0 ? rest + step_ns : rest);
}

static int add_time(struct listing *l, int64_t time_ns)
{
	int64_t *times_s = with_room(l->times_s, l->ntimes, &l->times_cap, sizeof(*times_s));

	if (!times_s)
		return -ENOMEM;
	l->times_s = times_s;
	times_s[l->ntimes++] = round_down(time_ns, NS_PER_S) / NS_PER_S;
	return 0;
}

static int add_pin(void *arg, const struct mvcc_pin *pin)
{
	struct listing *l = arg;
	int err = add_time(l, pin->time_ns);

	/* What retention pins has its time for a name already, and what has another meaning is no tag. */
	if (!err && pin->kind == MVCC_PIN_USER && !expr_is_reserved_form(slice_str(pin->name)))
		err = add_name(l, pin->name, pin->rev);
	return err;
}

static int add_numbers(struct listing *l)
{
	mvcc_rev_t rev = mvcc_current(l->db), floor = mvcc_floor(l->db);
	char text[32];
	int err = 0;

	for (unsigned i = 0; i < PAST_LISTED && rev >= floor && !err; i++, rev--) {
		snprintf(text, sizeof(text), "%" PRIu64, rev);
		err = add_name(l, text, rev);
	}
	return err;
}

/* The times of the newest revisions of the last `count` periods that have any. */
static int add_timeline(struct listing *l, int64_t period_s, unsigned count)
{
	int64_t to_ns = INT64_MAX;
	struct mvcc_why why;
	mvcc_rev_t rev;

	for (unsigned i = 0; i < count; i++) {
		int err = mvcc_rev_at(l->db, to_ns, &rev);

		if (!err)
			err = mvcc_why(l->db, rev, &why);
		if (err == MVCC_ECOMPACTED)
			return 0;
		if (!err && (!why.above_floor || why.time_ns > to_ns))
			return 0;
		if (!err)
			err = add_time(l, why.time_ns);
		if (err)
			return err;
		to_ns = round_down(why.time_ns, period_s * NS_PER_S) - 1;
	}
	return 0;
}

static int compare_times(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

/* The names of the times, each once. */
static int add_times(struct listing *l)
{
	char text[64];
	mvcc_rev_t rev;
	bool moving;

	qsort(l->times_s, l->ntimes, sizeof(*l->times_s), compare_times);
	for (size_t i = l->ntimes; i-- > 0;) {
		time_t t = (time_t)l->times_s[i];
		struct tm tm;
		int err;

		if (i && l->times_s[i - 1] == l->times_s[i])
			continue;
		if (!gmtime_r(&t, &tm) || !strftime(text, sizeof(text), "@GMT-%Y.%m.%d-%H.%M.%S", &tm))
			continue;
		err = past_resolve(l->db, slice_str(text), &rev, &moving);
		if (!err)
			err = add_name(l, text, rev);
		if (err && err != -ENOENT && err != MVCC_ECOMPACTED)
			return err;
	}
	return 0;
}

int past_list(struct mvcc *db, struct slice path, struct past_names *out)
{
	struct past_names names = { 0 };
	struct listing l = { .db = db, .path = path, .out = &names };
	int err = mvcc_pins(db, add_pin, &l);

	if (!err)
		err = add_numbers(&l);
	if (!err)
		err = add_timeline(&l, 3600, PAST_HOURS);
	if (!err)
		err = add_timeline(&l, 86400, PAST_DAYS);
	if (!err)
		err = add_times(&l);
	free(l.times_s);
	if (err)
		past_names_release(&names);
	else
		*out = names;
	return err;
}

void past_names_release(struct past_names *names)
{
	free(names->names);
	*names = (struct past_names){ 0 };
}

/* Is `who` in the group? */
static bool in_group(const struct past_who *who, uint32_t gid)
{
	if (who->gid == gid)
		return true;
	for (unsigned i = 0; i < who->ngroups; i++)
		if (who->groups[i] == gid)
			return true;
	return false;
}

/* 0 if the live inode grants `who` all of `want` (4 read, 2 write, 1 search), else -EACCES. */
static int grants(struct ns *ns, struct mvcc_view *view, const struct ns_attr *attr,
		  const struct past_who *who, unsigned want)
{
	const struct acl_who asks = { who->uid, who->gid, who->groups, who->ngroups };
	struct buf acl = { 0 };
	unsigned bits;
	int err = -ENODATA;

	if (who->uid == attr->uid)
		bits = attr->mode >> 6;
	else if (in_group(who, attr->gid))
		bits = attr->mode >> 3;
	else
		bits = attr->mode;
	if (who->uid != attr->uid)
		err = view ? ns_at_getxattr(view, attr->ino, ACL_ACCESS, &acl) :
			     ns_getxattr(ns, attr->ino, ACL_ACCESS, &acl);
	if (!err && acl_check(slice_buf(&acl)))
		err = MVCC_ECORRUPT;
	if (err == -ENODATA)
		err = (bits & want) == want ? 0 : -EACCES;
	else if (!err)
		err = acl_permits(slice_buf(&acl), attr->uid, attr->gid, &asks, want) ? 0 : -EACCES;
	buf_release(&acl);
	return err;
}

/* Search permission on every directory from the root down to `dir`. */
static int may_search(struct ns *ns, uint64_t dir, const struct past_who *who)
{
	struct ns_attr attr;
	int err;

	for (;;) {
		err = ns_getattr(ns, dir, &attr);
		if (err)
			return err;
		err = grants(ns, NULL, &attr, who, 1);
		if (err || dir == NS_ROOT)
			return err;
		dir = attr.parent;
	}
}

/* The nearest ancestor of `ino`, as the view has them, that is still alive. */
static int surviving_parent(struct ns *ns, struct mvcc_view *view, uint64_t ino, struct ns_attr *live)
{
	struct ns_attr then;
	int err;

	do {
		err = ns_at_getattr(view, ino, &then);
		if (err)
			return err;
		ino = then.parent;
		err = ns_getattr(ns, ino, live);
	} while (err == -ENOENT && ino != NS_ROOT);
	return err;
}

int past_may_read(struct ns *ns, struct mvcc_view *view, uint64_t ino, const struct past_who *who)
{
	struct ns_attr attr;
	unsigned need = 4;
	int err;

	if (who->uid == 0)
		return 0;
	err = ns_getattr(ns, ino, &attr);
	if (err == -ENOENT) {
		err = surviving_parent(ns, view, ino, &attr);
		need = 4 | 1;
	}
	if (!err)
		err = grants(ns, NULL, &attr, who, need);
	return err || attr.ino == NS_ROOT ? err : may_search(ns, attr.parent, who);
}

/* ---- who may know of a change ------------------------------------------------------------------ */

/* A name in a directory, in a view or (NULL) in the live tree. */
static int child_of(struct ns *ns, struct mvcc_view *view, uint64_t dir, struct slice name,
		    struct ns_attr *out)
{
	uint64_t ino;
	int err;

	if (!view)
		return ns_lookup(ns, dir, name, out);
	err = ns_at_lookup(view, dir, name, &ino);
	return err ? err : ns_at_getattr(view, ino, out);
}

/* May all directories above `path` be searched that stand there? */
static int may_reach(struct ns *ns, struct mvcc_view *view, struct slice path, const struct past_who *who)
{
	struct ns_attr attr;
	struct slice name, last;
	int err = view ? ns_at_getattr(view, NS_ROOT, &attr) : ns_getattr(ns, NS_ROOT, &attr);

	if (err || !ns_path_take(&path, &name))
		return err;
	for (;;) {
		if (!S_ISDIR(attr.mode))
			return 0;
		err = grants(ns, view, &attr, who, 1);
		if (err)
			return err;
		last = name;
		if (!ns_path_take(&path, &name))
			return 0;
		err = child_of(ns, view, attr.ino, last, &attr);
		if (err)
			return err == -ENOENT ? 0 : err;
	}
}

static int may_reach_at(struct mvcc *db, mvcc_rev_t rev, struct slice path, const struct past_who *who)
{
	struct mvcc_view *view;
	int err = mvcc_view_open(db, rev, &view);

	if (err)
		return err == MVCC_ECOMPACTED ? -EACCES : err;
	err = may_reach(NULL, view, path, who);
	mvcc_view_close(view);
	return err;
}

int past_may_know(struct ns *ns, struct mvcc *db, mvcc_rev_t rev, struct slice path,
		  const struct past_who *who)
{
	int err = rev > MVCC_REV_FIRST ? may_reach_at(db, rev - 1, path, who) : 0;

	if (!err)
		err = may_reach_at(db, rev, path, who);
	return err ? err : may_reach(ns, NULL, path, who);
}
