/* log: revisions, newest first, a page a request. */
#include "fs/query_int.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/* Revisions read at a time, forward, to be told backward: the log has no way back. */
#define CHUNK_MAX 256

/* Which revisions are meant: from `from` to `to`, and of these the ones that match all the rest. */
struct log_query {
	mvcc_rev_t from, to; /* none if from > to */
	uint64_t limit;
	bool filtered;                   /* something of the following is set */
	struct buf path;                 /* empty: all */
	int64_t since_ns, until_ns;      /* both included */
	const char *comm, *op, *session; /* lent by the request; NULL: any */
	bool by_uid;
	uint32_t uid;
};

static int fill_entry(struct json_object *o, const struct mvcc_entry *e, uint64_t changes)
{
	const struct mvcc_story *s = &e->story;
	int err = add_when(o, e->rev, e->time_ns);

	if (!err)
		err = json_add_u64(o, "uid", s->uid);
	if (!err)
		err = json_add_u64(o, "gid", s->gid);
	if (!err)
		err = json_add_u64(o, "pid", s->pid);
	if (!err)
		err = json_add_str(o, "comm", s->comm);
	if (!err)
		err = json_add_str(o, "op", s->op);
	if (!err)
		err = json_add_bytes(o, "path", s->path);
	if (!err && s->path2.len)
		err = json_add_bytes(o, "path2", s->path2);
	if (!err)
		err = add_labels(o, s);
	if (!err)
		err = json_add_u64(o, "changes", changes);
	return err;
}

static int count_changes(struct mvcc_log *log, uint64_t *n)
{
	struct mvcc_change change;
	int res;

	*n = 0;
	while ((res = mvcc_log_change(log, &change)) > 0)
		++*n;
	return res;
}

static bool text_matches(const char *text, const char *wanted)
{
	return !wanted || strcmp(text, wanted) == 0;
}

static bool entry_matches(const struct mvcc_entry *e, const struct log_query *q)
{
	const struct mvcc_story *s = &e->story;
	struct slice dir = slice_buf(&q->path);

	if (!q->filtered)
		return true;
	if (e->time_ns < q->since_ns || e->time_ns > q->until_ns || (q->by_uid && s->uid != q->uid))
		return false;
	if (!text_matches(s->comm, q->comm) || !text_matches(s->op, q->op) ||
	    !text_matches(s->session, q->session))
		return false;
	return !dir.len || query_path_below(s->path, dir) ||
	       (s->path2.len && query_path_below(s->path2, dir));
}

/* Entries of a chunk, as text one after the other, to be told from the last to the first. */
struct chunk {
	struct buf text;
	struct {
		size_t end;
		mvcc_rev_t rev;
	} at[CHUNK_MAX];
	size_t n;
};

static int chunk_add(struct chunk *c, struct mvcc_log *log, const struct mvcc_entry *e)
{
	struct json_object *o = json_object_new_object();
	mvcc_rev_t rev = e->rev;
	uint64_t changes;
	int err = o ? 0 : -ENOMEM;

	if (!err)
		err = count_changes(log, &changes);
	if (!err)
		err = fill_entry(o, e, changes);
	if (!err)
		err = json_append(&c->text, o);
	json_object_put(o);
	if (err)
		return err;
	c->at[c->n].end = c->text.len;
	c->at[c->n++].rev = rev;
	return 0;
}

/* The entries low..high that match. */
static int chunk_read(struct chunk *c, struct mvcc *db, const struct log_query *q, mvcc_rev_t low,
		      mvcc_rev_t high)
{
	const struct mvcc_entry *e;
	struct mvcc_log *log;
	int err = mvcc_log_open(db, low, high, &log);

	buf_clear(&c->text);
	c->n = 0;
	if (err)
		return err;
	while ((err = mvcc_log_next(log, &e)) > 0) {
		if (!entry_matches(e, q))
			continue;
		err = chunk_add(c, log, e);
		if (err)
			break;
	}
	mvcc_log_close(log);
	return err;
}

/*
 * Tells the chunk's entries, newest first, until the page is full. `*next` gets the revision of the
 * first entry left out, and stays if there is none.
 */
static int chunk_tell(const struct chunk *c, const struct log_query *q, uint64_t *told, size_t page_start,
		      struct buf *reply, mvcc_rev_t *next)
{
	for (size_t i = c->n; i-- > 0;) {
		size_t start = i ? c->at[i - 1].end : 0;
		int err = 0;

		if (*told == q->limit || (*told && reply->len - page_start >= QUERY_REPLY_BYTES)) {
			*next = c->at[i].rev;
			return 0;
		}
		if (*told)
			err = buf_put_u8(reply, ',');
		if (!err)
			err = buf_put(reply, c->text.data + start, c->at[i].end - start);
		if (err)
			return err;
		++*told;
	}
	return 0;
}

/* The array of entries. `*next` is 0 when all have been told. */
static int tell_entries(const struct query_env *env, const struct log_query *q, struct buf *reply,
			mvcc_rev_t *next)
{
	struct chunk *c = calloc(1, sizeof(*c));
	size_t page_start = reply->len;
	mvcc_rev_t high = q->to;
	uint64_t told = 0, scanned = 0;
	int err = c ? 0 : -ENOMEM;

	*next = 0;
	while (!err && high >= q->from && !*next) {
		/* Without a filter one entry more than is wanted tells whether there is a next page. */
		uint64_t want = q->filtered ? CHUNK_MAX : q->limit - told + 1;
		uint64_t size = want < CHUNK_MAX ? want : CHUNK_MAX;
		mvcc_rev_t low = high - q->from < size ? q->from : high - size + 1;

		if (scanned >= QUERY_SCAN_MAX) {
			*next = high;
			break;
		}
		err = chunk_read(c, env->db, q, low, high);
		if (!err)
			err = chunk_tell(c, q, &told, page_start, reply, next);
		scanned += high - low + 1;
		high = low - 1;
	}
	if (c)
		buf_release(&c->text);
	free(c);
	return err;
}

static int tell_log(const struct query_env *env, const struct log_query *q, struct buf *reply)
{
	mvcc_rev_t next = 0;
	int err = put_text(reply, "{\"ok\":true,\"from\":%" PRIu64 ",\"to\":%" PRIu64 ",\"entries\":[",
			   q->from, q->to);

	if (!err)
		err = tell_entries(env, q, reply, &next);
	if (!err)
		err = put_text(reply, "]");
	if (!err && next)
		err = put_text(reply, ",\"next\":%" PRIu64, next);
	if (!err)
		err = put_text(reply, "}");
	return err;
}

/* ---- the request --------------------------------------------------------------------------------- */

static int read_range(const struct query_env *env, struct json_object *req, struct buf *reply,
		      struct log_query *q, bool *refused)
{
	const char *from = rev_member(req, "from"), *to = rev_member(req, "to");
	int err;

	*refused = true;
	q->from = mvcc_floor(env->db);
	q->to = mvcc_current(env->db);
	err = from ? query_rev(env->db, slice_str(from), &q->from) : 0;
	if (!err && q->from < mvcc_floor(env->db))
		err = MVCC_ECOMPACTED; /* pinned: it can be read, but its log is gone */
	if (err)
		return refuse_rev(env, reply, err, from);
	err = to ? query_rev(env->db, slice_str(to), &q->to) : 0;
	if (err)
		return refuse_rev(env, reply, err, to);
	if (q->from > q->to)
		return refuse(reply, -EINVAL,
			      "the range runs backwards: %" PRIu64 " is above %" PRIu64
			      "; say it the other way round",
			      q->from, q->to);
	*refused = false;
	return 0;
}

static bool time_member(struct json_object *req, const char *key, int64_t *out)
{
	struct json_object *member;

	if (!json_object_object_get_ex(req, key, &member))
		return true;
	*out = json_object_get_int64(member);
	return json_object_is_type(member, json_type_int);
}

/* -EINVAL when a member is not what it should be. */
static int read_filters(struct json_object *req, struct log_query *q)
{
	uint64_t uid = 0;
	int err = number_member(req, "uid", &uid);

	if (err == -EINVAL || uid > UINT32_MAX || !time_member(req, "since_ns", &q->since_ns) ||
	    !time_member(req, "until_ns", &q->until_ns))
		return -EINVAL;
	q->by_uid = !err;
	q->uid = (uint32_t)uid;
	q->comm = text_member(req, "comm");
	q->op = text_member(req, "op");
	q->session = text_member(req, "session");
	err = json_get_bytes(req, "path", &q->path);
	q->filtered = q->by_uid || q->comm || q->op || q->session || q->path.len ||
		      q->since_ns != INT64_MIN || q->until_ns != INT64_MAX;
	return err == -ENOENT ? 0 : err;
}

/* Times never decrease, so they are bounds of revisions, too, which spares reading the others. */
static int clip_to_times(struct mvcc *db, struct log_query *q)
{
	mvcc_rev_t rev;
	int err;

	if (q->until_ns != INT64_MAX) {
		err = mvcc_rev_at(db, q->until_ns, &rev);
		if (err && err != MVCC_ECOMPACTED)
			return err;
		if (err || rev < q->to)
			q->to = err ? 0 : rev;
	}
	if (q->since_ns != INT64_MIN && q->since_ns > 0) {
		err = mvcc_rev_at(db, q->since_ns - 1, &rev);
		if (err && err != MVCC_ECOMPACTED)
			return err;
		/* It may itself be of that time, if all are: then it is the first there is. */
		if (!err && rev > q->from)
			q->from = rev;
	}
	return 0;
}

int answer_log(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	struct log_query q = { .limit = QUERY_LIMIT_MAX, .since_ns = INT64_MIN, .until_ns = INT64_MAX };
	size_t mark = reply->len;
	bool refused;
	int err = read_range(env, req, reply, &q, &refused);

	if (refused)
		return err;
	err = number_member(req, "limit", &q.limit);
	if ((err && err != -ENOENT) || q.limit == 0 || q.limit > QUERY_LIMIT_MAX)
		return refuse(reply, -EINVAL, "limit is a number from 1 to %d", QUERY_LIMIT_MAX);
	err = read_filters(req, &q);
	if (err == -EINVAL)
		return refuse(reply, err,
			      "path is text, or path_b64 is base64; uid, since_ns and until_ns are numbers");
	if (!err)
		err = clip_to_times(env->db, &q);
	if (!err)
		err = tell_log(env, &q, reply);
	buf_release(&q.path);
	if (err && err != -ENOMEM) {
		reply->len = mark;
		return refuse(reply, err, "the log cannot be read: %s", mvcc_strerror(err));
	}
	return err;
}
