#include "fs/query_int.h"

#include "fs/text.h"

#include "fs/expr.h"
#include "fs/ns_side.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

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

bool decimal(struct slice s, uint64_t *out)
{
	uint64_t v = 0;

	if (!s.len || (s.data[0] == '0' && s.len > 1))
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (s.data[i] < '0' || s.data[i] > '9' || __builtin_mul_overflow(v, (uint64_t)10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(s.data[i] - '0'), &v))
			return false;
	*out = v;
	return true;
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

int refuse(struct buf *reply, int err, const char *fmt, ...)
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

int put_text(struct buf *out, const char *fmt, ...)
{
	char text[128];
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return buf_put(out, text, (size_t)len);
}

int add_figures(struct json_object *o, const struct figure *figures, size_t n)
{
	int err = 0;

	for (size_t i = 0; i < n && !err; i++)
		err = json_add_u64(o, figures[i].key, figures[i].value);
	return err;
}

bool flag_member(struct json_object *req, const char *key)
{
	struct json_object *member;

	return json_object_object_get_ex(req, key, &member) && json_object_get_boolean(member);
}

int number_member(struct json_object *req, const char *key, uint64_t *out)
{
	struct json_object *member;

	if (!json_object_object_get_ex(req, key, &member))
		return -ENOENT;
	if (!json_object_is_type(member, json_type_int) || json_object_get_int64(member) < 0)
		return -EINVAL;
	*out = json_object_get_uint64(member);
	return 0;
}

const char *rev_member(struct json_object *req, const char *key)
{
	struct json_object *member;

	if (!json_object_object_get_ex(req, key, &member))
		return NULL;
	return json_object_get_string(member);
}

int refuse_rev(const struct query_env *env, struct buf *reply, int err, const char *expr)
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

/* ---- who asks ------------------------------------------------------------------------------------ */

const char *text_member(struct json_object *req, const char *key)
{
	struct json_object *member;

	if (!json_object_object_get_ex(req, key, &member) || !json_object_is_type(member, json_type_string))
		return NULL;
	return json_object_get_string(member);
}

void query_story(const struct query_env *env, struct json_object *req, const char *op, struct slice path,
		 struct mvcc_story *out)
{
	*out = (struct mvcc_story){
		.uid = env->uid,
		.gid = env->gid,
		.pid = env->asker,
		.comm = env->comm,
		.op = op,
		.path = path,
		.session = text_member(req, "session"),
		.message = text_member(req, "message"),
	};
}

int add_when(struct json_object *o, mvcc_rev_t rev, int64_t time_ns)
{
	char time[64];
	int err;

	format_time(time_ns, time);
	err = json_add_u64(o, "rev", rev);
	if (!err)
		err = json_add_str(o, "time", time);
	return err ? err : json_add_i64(o, "time_ns", time_ns);
}

int add_labels(struct json_object *o, const struct mvcc_story *story)
{
	int err = story->session[0] ? json_add_str(o, "session", story->session) : 0;

	return !err && story->message[0] ? json_add_str(o, "message", story->message) : err;
}

int live_walk(struct ns *ns, struct slice path, struct ns_attr *out)
{
	int err = ns_getattr(ns, NS_ROOT, out);

	for (path = trim_front(path); !err && path.len; path = trim_front(path)) {
		const uint8_t *end = memchr(path.data, '/', path.len);
		size_t n = end ? (size_t)(end - path.data) : path.len;

		err = S_ISDIR(out->mode) ? ns_lookup(ns, out->ino, slice_of(path.data, n), out) : -ENOTDIR;
		path = slice_of(path.data + n, path.len - n);
	}
	return err;
}

int query_settle(const struct query_env *env)
{
	if (env->write_back)
		env->write_back(env->changed_arg);
	return ns_settle_all(env->ns);
}

void query_changed(const struct query_env *env, mvcc_rev_t rev)
{
	if (env->changed)
		env->changed(env->changed_arg, rev);
}

/* ---- the verbs --------------------------------------------------------------------------------- */

/* clang-format off */
static const struct {
	const char *name;
	int (*answer)(const struct query_env *env, struct json_object *req, struct buf *reply);
} verbs[] = {
	{ "status", answer_status },
	{ "log", answer_log },
	{ "tag", answer_tag },
	{ "untag", answer_untag },
	{ "retag", answer_retag },
	{ "tags", answer_tags },
	{ "compact", answer_compact },
	{ "retain", answer_retain },
	{ "why", answer_why },
	{ "del", answer_del },
	{ "purge", answer_purge },
	{ "changes", answer_changes },
	{ "diff", answer_diff },
	{ "undo", answer_undo },
	{ "redo", answer_redo },
	{ "restore", answer_restore },
	{ "progress", answer_progress },
	{ "check", answer_check },
	{ "backup", answer_backup },
	{ "lease", answer_lease },
	{ "leases", answer_leases },
	{ "lease_grant", answer_lease_grant },
	{ "lease_keepalive", answer_lease_keepalive },
	{ "lease_revoke", answer_lease_revoke },
	{ "lease_attach", answer_lease_attach },
	{ "lease_detach", answer_lease_detach },
	{ "watch", answer_watch },
};
/* clang-format on */

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
