#include "fs/query.h"

#include "fs/expr.h"
#include "fs/json_bytes.h"
#include "fs/ns.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <time.h>

/* Revisions read at a time, forward, to be told backward: the log has no way back. */
#define CHUNK_MAX 256

/* ---- words ------------------------------------------------------------------------------------- */

int query_exit(int err)
{
	switch (err) {
	case 0:
		return 0;
	case -ENOENT:
	case MVCC_EFUTURE:
		return 1;
	case MVCC_ENODB:
		return 10;
	case MVCC_ELOCKED:
		return 11;
	case MVCC_ECOMPACTED:
		return 13;
	default:
		return 2;
	}
}

int query_rev(struct mvcc *db, struct slice expr, mvcc_rev_t *out)
{
	return expr_rev(db, expr, ns_time_ns(), out, NULL);
}

static struct slice trim_front(struct slice s)
{
	while (s.len && s.data[0] == '/')
		s = slice_of(s.data + 1, s.len - 1);
	return s;
}

bool query_path_below(struct slice path, struct slice dir)
{
	path = trim_front(path);
	dir = trim_front(dir);
	while (dir.len && dir.data[dir.len - 1] == '/')
		dir.len--;
	return slice_starts(path, dir) && (!dir.len || path.len == dir.len || path.data[dir.len] == '/');
}

/* ---- replies ----------------------------------------------------------------------------------- */

/* Gives up on the request: `err`, and a sentence for people. */
static int refuse(struct buf *reply, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static int refuse(struct buf *reply, int err, const char *fmt, ...)
{
	struct json_object *o = json_object_new_object();
	const char *name = strerrorname_np(-mvcc_errno(err));
	char text[512];
	va_list ap;
	int res;

	if (!o)
		return -ENOMEM;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	res = json_add_bool(o, "ok", false);
	if (!res)
		res = json_add_str(o, "error", text);
	if (!res)
		res = json_add_str(o, "errno", name ? name : "EIO");
	if (!res)
		res = json_add_i64(o, "exit", query_exit(err));
	if (!res)
		res = json_append(reply, o);
	json_object_put(o);
	return res;
}

/* ---- status ------------------------------------------------------------------------------------ */

struct figure {
	const char *key;
	uint64_t value;
};

static int add_figures(struct json_object *o, const struct figure *figures, size_t n)
{
	int err = 0;

	for (size_t i = 0; i < n && !err; i++)
		err = json_add_u64(o, figures[i].key, figures[i].value);
	return err;
}

#define ADD_FIGURES(o, figures) add_figures(o, figures, sizeof(figures) / sizeof((figures)[0]))

static int add_store(struct json_object *o, struct mvcc *db)
{
	struct mvcc_stats s;
	int err;

	mvcc_stats(db, &s);
	const struct figure figures[] = {
		{ "current", s.current },
		{ "applied", s.applied },
		{ "synced", s.synced },
		{ "floor", s.floor },
		{ "commits", s.commits },
		{ "conflicts", s.conflicts },
		{ "syncs", s.syncs },
		{ "drains", s.drains },
		{ "replayed", s.replayed },
		{ "views", s.views },
		{ "ring_bytes", s.ring_bytes },
		{ "ring_used", s.ring_used },
		{ "buffered_rows", s.buffered_rows },
		{ "blobs_staged", s.blobs_staged },
		{ "blob_bytes_staged", s.blob_bytes_staged },
		{ "engine_bytes_live", s.engine.bytes_live },
		{ "engine_bytes_disk", s.engine.bytes_disk },
		{ "engine_bytes_cache", s.engine.bytes_cache },
		{ "engine_bytes_buffers", s.engine.bytes_buffers },
		{ "engine_rows", s.engine.rows_estimate },
	};

	err = ADD_FIGURES(o, figures);
	if (!err && s.failed)
		err = json_add_str(o, "failed", mvcc_strerror(s.failed));
	return err;
}

static int add_tree(struct json_object *o, const struct query_env *env)
{
	struct ns_stats s;

	ns_stats(env->ns, &s);
	const struct figure figures[] = {
		{ "open_inodes", s.open_inodes }, { "dirty_inodes", s.dirty_inodes },
		{ "pending", s.pending },         { "dirty_bytes", s.dirty_bytes },
		{ "nodes", env->nodes },          { "parked", env->parked },
	};

	return ADD_FIGURES(o, figures);
}

static int add_disk(struct json_object *o, const char *dir)
{
	struct statvfs st;

	if (statvfs(dir, &st))
		return 0; /* the database answers all the same */
	const struct figure figures[] = {
		{ "disk_bytes", (uint64_t)st.f_blocks * st.f_frsize },
		{ "disk_free", (uint64_t)st.f_bavail * st.f_frsize },
	};

	return ADD_FIGURES(o, figures);
}

static int fill_status(const struct query_env *env, struct json_object *o)
{
	unsigned format, known;
	int err = json_add_bool(o, "ok", true);

	if (!err)
		err = json_add_str(o, "program", MVCCFS_VERSION);
	if (!err)
		err = json_add_str(o, "db", env->db_path);
	if (!err && mvcc_dir_format(env->db_path, &format, &known) == 0)
		err = json_add_u64(o, "format", format);
	if (!err)
		err = json_add_bool(o, "mounted", env->mountpoint != NULL);
	if (!err && env->mountpoint)
		err = json_add_str(o, "mountpoint", env->mountpoint);
	if (!err && env->mountpoint && env->revname)
		err = json_add_str(o, "revname", env->revname);
	if (!err)
		err = json_add_u64(o, "pid", env->pid);
	if (!err)
		err = json_add_i64(o, "started_ns", env->started_ns);
	if (!err)
		err = add_store(o, env->db);
	if (!err && env->ns)
		err = add_tree(o, env);
	if (!err)
		err = add_disk(o, env->db_path);
	return err;
}

static int answer_status(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	struct json_object *o = json_object_new_object();
	int err = o ? fill_status(env, o) : -ENOMEM;

	(void)req;
	if (!err)
		err = json_append(reply, o);
	json_object_put(o);
	return err;
}

/* ---- log --------------------------------------------------------------------------------------- */

struct log_query {
	mvcc_rev_t from, to;
	uint64_t limit;
	struct buf path; /* empty: all */
};

static void format_time(int64_t ns, char out[64])
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

static int fill_entry(struct json_object *o, const struct mvcc_entry *e, uint64_t changes)
{
	const struct mvcc_story *s = &e->story;
	char time[64];
	int err;

	format_time(e->time_ns, time);
	err = json_add_u64(o, "rev", e->rev);
	if (!err)
		err = json_add_str(o, "time", time);
	if (!err)
		err = json_add_i64(o, "time_ns", e->time_ns);
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
	if (!err && s->session[0])
		err = json_add_str(o, "session", s->session);
	if (!err && s->message[0])
		err = json_add_str(o, "message", s->message);
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

static bool entry_matches(const struct mvcc_entry *e, const struct log_query *q)
{
	struct slice dir = slice_buf(&q->path);

	return !dir.len || query_path_below(e->story.path, dir) ||
	       (e->story.path2.len && query_path_below(e->story.path2, dir));
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
		uint64_t want = q->path.len ? CHUNK_MAX : q->limit - told + 1;
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

static int put_text(struct buf *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int put_text(struct buf *out, const char *fmt, ...)
{
	char text[128];
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return buf_put(out, text, (size_t)len);
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

/* The text of member `key` as query_rev() wants it; NULL when absent. Lent by `req`. */
static const char *rev_member(struct json_object *req, const char *key)
{
	struct json_object *member;

	if (!json_object_object_get_ex(req, key, &member))
		return NULL;
	return json_object_get_string(member);
}

static int refuse_rev(const struct query_env *env, struct buf *reply, int err, const char *expr)
{
	switch (err) {
	case MVCC_EFUTURE:
		return refuse(reply, err, "revision %s does not exist yet; the newest is %" PRIu64, expr,
			      mvcc_current(env->db));
	case MVCC_ECOMPACTED:
		return refuse(reply, err, "revision %s was compacted away; the oldest there is, is %" PRIu64,
			      expr, mvcc_floor(env->db));
	case -ENOENT:
		return refuse(reply, err,
			      "there is no revision %s: it is before the first; the newest is %" PRIu64, expr,
			      mvcc_current(env->db));
	default:
		return refuse(reply, err, "\"%s\" is no revision; say " EXPR_FORMS, expr);
	}
}

static int answer_log(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	struct log_query q = { .limit = QUERY_LIMIT_MAX };
	const char *from = rev_member(req, "from"), *to = rev_member(req, "to");
	struct json_object *limit;
	size_t mark = reply->len;
	int err;

	q.from = mvcc_floor(env->db);
	q.to = mvcc_current(env->db);
	err = from ? query_rev(env->db, slice_str(from), &q.from) : 0;
	if (!err && q.from < mvcc_floor(env->db))
		err = MVCC_ECOMPACTED; /* pinned: it can be read, but its log is gone */
	if (err)
		return refuse_rev(env, reply, err, from);
	err = to ? query_rev(env->db, slice_str(to), &q.to) : 0;
	if (err)
		return refuse_rev(env, reply, err, to);
	if (q.from > q.to)
		return refuse(reply, -EINVAL,
			      "the range runs backwards: %" PRIu64 " is above %" PRIu64
			      "; say it the other way round",
			      q.from, q.to);
	if (json_object_object_get_ex(req, "limit", &limit)) {
		q.limit = json_object_get_uint64(limit);
		if (!json_object_is_type(limit, json_type_int) || q.limit == 0 || q.limit > QUERY_LIMIT_MAX)
			return refuse(reply, -EINVAL, "limit is a number from 1 to %d", QUERY_LIMIT_MAX);
	}
	err = json_get_bytes(req, "path", &q.path);
	if (err == -ENOENT)
		err = 0;
	else if (err == -EINVAL)
		return refuse(reply, err, "path is text, or path_b64 is base64");
	if (!err)
		err = tell_log(env, &q, reply);
	buf_release(&q.path);
	if (err && err != -ENOMEM) {
		reply->len = mark;
		return refuse(reply, err, "the log cannot be read: %s", mvcc_strerror(err));
	}
	return err;
}

/* ---- the verbs --------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	int (*answer)(const struct query_env *env, struct json_object *req, struct buf *reply);
} verbs[] = {
	{ "status", answer_status },
	{ "log", answer_log },
};

static int answer(const struct query_env *env, struct slice request, struct buf *reply)
{
	struct json_object *req = NULL, *verb;
	const char *name;
	int err;

	if (env->uid != 0 && env->uid != env->owner)
		return refuse(reply, -EACCES, "only root and the owner of the mount (uid %u) may ask",
			      (unsigned)env->owner);
	if (request.len > QUERY_REQUEST_MAX)
		return refuse(reply, -EMSGSIZE, "the request is longer than %zu bytes", QUERY_REQUEST_MAX);
	err = json_parse(request, &req);
	if (err == -EINVAL)
		return refuse(reply, err, "the request is not one JSON object such as {\"verb\":\"status\"}");
	if (err)
		return err;
	name = json_object_object_get_ex(req, "verb", &verb) ? json_object_get_string(verb) : "";
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (name && strcmp(verbs[i].name, name) == 0) {
			err = verbs[i].answer(env, req, reply);
			goto out;
		}
	err = refuse(reply, -EOPNOTSUPP, "this mvccfs (%s) does not know the verb \"%.40s\"", MVCCFS_VERSION,
		     name ? name : "");
out:
	json_object_put(req);
	return err;
}

int query_answer(const struct query_env *env, struct slice request, struct buf *reply)
{
	size_t mark = reply->len;
	int err = answer(env, request, reply);

	if (!err)
		err = buf_put_u8(reply, '\n');
	if (err)
		reply->len = mark;
	return err;
}
