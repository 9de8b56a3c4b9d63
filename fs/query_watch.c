/*
 * watch: what was changed from a revision on, a page a request. The asker says where he is, so nothing of him is kept
 * here; when there is more to ask for he knows from @watch.
 */
#include "fs/query_int.h"

#include <errno.h>
#include <inttypes.h>

#include "fs/ns_watch.h"

struct watch_query {
	mvcc_rev_t from;
	uint64_t skip, limit;
	struct buf path;
};

static int fill_change(struct json_object *o, const struct ns_change *c)
{
	const struct mvcc_story *s = c->story;
	int err = add_when(o, c->rev, c->time_ns);

	if (!err)
		err = json_add_str(o, "kind", c->kind);
	if (!err)
		err = json_add_bytes(o, "path", c->path);
	if (!err && c->path2.len)
		err = json_add_bytes(o, "path2", c->path2);
	if (!err)
		err = json_add_u64(o, "uid", s->uid);
	if (!err)
		err = json_add_u64(o, "gid", s->gid);
	if (!err)
		err = json_add_u64(o, "pid", s->pid);
	if (!err)
		err = json_add_bytes(o, "comm", slice_str(s->comm));
	if (!err)
		err = add_labels(o, s);
	return err;
}

static int tell_change(const struct ns_change *c, bool first, struct buf *reply)
{
	struct json_object *o = json_object_new_object();
	int err = o ? 0 : -ENOMEM;

	if (!err && !first)
		err = buf_put_u8(reply, ',');
	if (!err)
		err = fill_change(o, c);
	if (!err)
		err = json_append(reply, o);
	json_object_put(o);
	return err;
}

/* `*more`: the page is full, or so many changes were looked at that nobody else should wait any longer. */
static int tell_changes(struct ns_watch *w, const struct watch_query *q, struct buf *reply, bool *more)
{
	size_t mark = reply->len;
	struct ns_change c;
	uint64_t told = 0;
	unsigned looks = 0;
	int got = 1;

	while ((got == 1 || got == -EAGAIN) && told < q->limit && reply->len - mark < QUERY_REPLY_BYTES &&
	       looks < QUERY_SCAN_MAX / 512) {
		int err;

		got = ns_watch_next(w, &c);
		looks += got == -EAGAIN;
		err = got == 1 ? tell_change(&c, told == 0, reply) : 0;
		if (err)
			return err;
		told += got == 1;
	}
	*more = got != 0;
	return got == 1 || got == -EAGAIN ? 0 : got;
}

static int tell_watch(struct ns_watch *w, const struct watch_query *q, struct buf *reply)
{
	bool more = false;
	uint64_t given;
	mvcc_rev_t at;
	int err = put_text(reply, "{\"ok\":true,\"changes\":[");

	if (!err)
		err = tell_changes(w, q, reply, &more);
	if (err)
		return err;
	at = ns_watch_at(w, &given);
	return put_text(reply, "],\"from\":%" PRIu64 ",\"skip\":%" PRIu64 ",\"more\":%s}", at, given,
			more ? "true" : "false");
}

static int watch_from(const struct query_env *env, const struct watch_query *q, struct buf *reply)
{
	struct ns_watch_options opt = { .from = q->from, .path = slice_buf(&q->path) };
	struct ns_watch *w;
	int err = ns_watch_open(env->db, &opt, &w);

	if (err)
		return err;
	ns_watch_skip(w, q->skip);
	err = tell_watch(w, q, reply);
	ns_watch_close(w);
	return err;
}

/* A revision still to come may be waited for, if it is said by its number. */
static int parse_from(const struct query_env *env, const char *text, mvcc_rev_t *out)
{
	if (!text) {
		*out = MVCC_REV_LATEST;
		return 0;
	}
	return decimal(slice_str(text), out) && *out != MVCC_REV_LATEST ?
		       0 :
		       query_rev(env->db, slice_str(text), out);
}

static int optional(int err)
{
	return err == -ENOENT ? 0 : err;
}

int answer_watch(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	struct watch_query q = { .limit = QUERY_LIMIT_MAX };
	const char *from = rev_member(req, "from");
	size_t mark = reply->len;
	int err = parse_from(env, from, &q.from);

	if (err)
		return refuse_rev(env, reply, err, from);
	if (optional(number_member(req, "skip", &q.skip)))
		return refuse(reply, -EINVAL, "skip is a number");
	if (optional(number_member(req, "limit", &q.limit)) || q.limit > QUERY_LIMIT_MAX)
		return refuse(reply, -EINVAL, "limit is a number up to %d", QUERY_LIMIT_MAX);
	err = optional(json_get_bytes(req, "path", &q.path));
	if (err == -EINVAL)
		return refuse(reply, err, "path is text, or path_b64 is base64");
	if (!err)
		err = watch_from(env, &q, reply);
	buf_release(&q.path);
	if (!err || err == -ENOMEM)
		return err;
	reply->len = mark;
	if (err == MVCC_ECOMPACTED)
		return refuse(reply, err,
			      "what changed from revision %" PRIu64
			      " on was compacted away; the oldest there is, is %" PRIu64,
			      q.from, mvcc_floor(env->db));
	return refuse(reply, err, "the log cannot be read: %s", mvcc_strerror(err));
}
