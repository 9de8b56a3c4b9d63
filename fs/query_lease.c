/* Leases: files with a time to live. */
#include "fs/query_int.h"

#include "fs/ns_row.h"
#include "fs/ns_side.h"
#include "mvcc/lease.h"

#include <errno.h>
#include <inttypes.h>

enum { PATHS_MAX = 100 }; /* told of one lease */

static int refuse_lease(struct buf *reply, int err, mvcc_lease_t id)
{
	switch (err) {
	case MVCC_ENOLEASE:
		return refuse(reply, -ENOENT, "there is no lease %" PRIu64 ", or it has ended", id);
	case -EEXIST:
		return refuse(reply, err, "the lease %" PRIu64 " exists already", id);
	default:
		return refuse(reply, err, "lease %" PRIu64 ": %s", id, mvcc_strerror(err));
	}
}

/* The member "id". False when it was refused, with what refuse() says in `*err`. */
static bool wanted_id(struct json_object *req, struct buf *reply, mvcc_lease_t *id, int *err)
{
	*err = number_member(req, "id", id);
	if (!*err && *id)
		return true;
	*err = refuse(reply, -EINVAL, "the request names no lease: its number, from 1 up");
	return false;
}

/* ---- one lease ------------------------------------------------------------------------------------- */

/* What a lease has: how many files, and the paths of the first ones. */
struct leased {
	struct mvcc_view *view;
	struct json_object *paths;
	uint64_t files;
};

static int add_path(struct leased *l, uint64_t ino)
{
	struct json_object *o = json_object_new_object();
	struct buf path = { 0 };
	int err = o ? ns_at_path(l->view, ino, &path) : -ENOMEM;

	if (!err)
		err = json_add_bytes(o, "path", slice_buf(&path));
	if (!err && json_object_array_add(l->paths, o))
		err = -ENOMEM;
	buf_release(&path);
	if (err)
		json_object_put(o);
	return err == -ENOENT ? 0 : err; /* it has come or gone since */
}

/* A file has one inode, whatever else it has. */
static int leased_key(void *arg, struct slice key)
{
	struct leased *l = arg;
	struct row_key k;
	int err = row_key_decode(key, &k);

	if (err || k.kind != ROW_INODE)
		return err;
	return l->files++ < PATHS_MAX ? add_path(l, k.ino) : 0;
}

static int fill_files(const struct query_env *env, struct json_object *o, mvcc_lease_t id)
{
	struct leased l = { .paths = json_object_new_array() };
	int err = l.paths ? mvcc_view_open(env->db, MVCC_REV_LATEST, &l.view) : -ENOMEM;

	if (!err)
		err = mvcc_lease_keys(env->db, id, leased_key, &l);
	mvcc_view_close(l.view);
	if (!err)
		err = json_add_u64(o, "files", l.files);
	if (err) {
		json_object_put(l.paths);
		return err;
	}
	return json_add(o, "paths", l.paths);
}

static int fill_lease(const struct query_env *env, struct json_object *o, const struct mvcc_lease *lease)
{
	int err = json_add_u64(o, "id", lease->id);

	if (!err)
		err = json_add_u64(o, "ttl_ms", lease->ttl_ms);
	if (!err)
		err = json_add_u64(o, "left_ms", lease->left_ms);
	return err ? err : fill_files(env, o, lease->id);
}

static int tell_lease(const struct query_env *env, mvcc_lease_t id, struct buf *reply)
{
	struct json_object *o = json_object_new_object();
	struct mvcc_lease lease;
	int err = o ? json_add_bool(o, "ok", true) : -ENOMEM;

	if (!err)
		err = mvcc_lease_get(env->db, id, &lease);
	if (!err)
		err = fill_lease(env, o, &lease);
	if (!err)
		err = json_append(reply, o);
	json_object_put(o);
	return err && err != -ENOMEM ? refuse_lease(reply, err, id) : err;
}

int answer_lease_grant(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	mvcc_lease_t id = 0;
	uint64_t ttl_ms;
	int err = number_member(req, "id", &id);

	if (err == -EINVAL || number_member(req, "ttl_ms", &ttl_ms) || ttl_ms == 0 ||
	    ttl_ms > MVCC_LEASE_TTL_MAX * 1000 || id > INT64_MAX)
		return refuse(reply, -EINVAL,
			      "a lease has a time of up to %" PRIu64 " seconds, and may have a number",
			      MVCC_LEASE_TTL_MAX);
	err = mvcc_lease_grant(env->db, id, ttl_ms, &id);
	return err ? refuse_lease(reply, err, id) : tell_lease(env, id, reply);
}

int answer_lease_keepalive(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	mvcc_lease_t id;
	int err;

	if (!wanted_id(req, reply, &id, &err))
		return err;
	err = mvcc_lease_renew(env->db, id, NULL);
	return err ? refuse_lease(reply, err, id) : tell_lease(env, id, reply);
}

int answer_lease(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	mvcc_lease_t id;
	int err;

	return wanted_id(req, reply, &id, &err) ? tell_lease(env, id, reply) : err;
}

int answer_lease_revoke(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	mvcc_rev_t before = mvcc_current(env->db), rev;
	struct mvcc_story story;
	mvcc_lease_t id;
	int err;

	if (!wanted_id(req, reply, &id, &err))
		return err;
	query_story(env, req, "revoke", slice_of(NULL, 0), &story);
	err = mvcc_lease_revoke(env->db, id, &story, &rev);
	if (err)
		return refuse_lease(reply, err, id);
	if (rev > before) {
		ns_side_removed(env->ns);
		query_changed(env, rev);
	}
	return put_text(reply, "{\"ok\":true,\"id\":%" PRIu64 ",\"rev\":%" PRIu64 "}", id, rev);
}

/* ---- all of them ----------------------------------------------------------------------------------- */

struct lease_ids {
	mvcc_lease_t after;
	struct buf ids; /* le64 */
};

static int note_id(void *arg, const struct mvcc_lease *lease)
{
	struct lease_ids *l = arg;

	return lease->id > l->after ? buf_put_le64(&l->ids, lease->id) : 0;
}

static int tell_leases(const struct query_env *env, struct slice ids, struct buf *reply, mvcc_lease_t *next)
{
	size_t start = reply->len;
	struct mvcc_lease lease;
	mvcc_lease_t last = 0;
	uint64_t id;
	int err = 0;

	*next = 0;
	while (!err && take_le64(&ids, &id)) {
		struct json_object *o;

		if (last && reply->len - start >= QUERY_REPLY_BYTES) {
			*next = last;
			break;
		}
		if (mvcc_lease_get(env->db, id, &lease))
			continue; /* it has just ended */
		o = json_object_new_object();
		err = o ? fill_lease(env, o, &lease) : -ENOMEM;
		if (err == MVCC_ENOLEASE) {
			json_object_put(o);
			err = 0;
			continue;
		}
		if (!err && last)
			err = buf_put_u8(reply, ',');
		if (!err)
			err = json_append(reply, o);
		json_object_put(o);
		last = id;
	}
	return err;
}

int answer_leases(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	struct lease_ids l = { 0 };
	mvcc_lease_t next = 0;
	size_t mark = reply->len;
	int err = number_member(req, "after", &l.after);

	if (err == -EINVAL)
		return refuse(reply, err, "after is the number of a lease");
	err = mvcc_leases(env->db, note_id, &l);
	if (!err)
		err = put_text(reply, "{\"ok\":true,\"leases\":[");
	if (!err)
		err = tell_leases(env, slice_buf(&l.ids), reply, &next);
	buf_release(&l.ids);
	if (err && err != -ENOMEM) {
		reply->len = mark;
		return refuse(reply, err, "the leases cannot be read: %s", mvcc_strerror(err));
	}
	if (!err)
		err = put_text(reply, "]");
	if (!err && next)
		err = put_text(reply, ",\"next\":%" PRIu64, next);
	return err ? err : put_text(reply, "}");
}

/* ---- a file's lease -------------------------------------------------------------------------------- */

static int set_lease(const struct query_env *env, struct json_object *req, struct buf *reply, mvcc_lease_t id)
{
	const struct ns_who who = {
		.uid = env->uid,
		.gid = env->gid,
		.pid = env->asker,
		.comm = env->comm,
		.session = text_member(req, "session"),
		.message = text_member(req, "message"),
	};
	mvcc_rev_t before = mvcc_current(env->db), rev = before;
	struct ns_attr attr;
	struct buf path = { 0 };
	int err = json_get_bytes(req, "path", &path);

	if (err) {
		err = err == -ENOMEM ? err : refuse(reply, -EINVAL, "the request names no path");
		goto out;
	}
	err = live_walk(env->ns, slice_buf(&path), &attr);
	if (!err)
		err = ns_set_lease(env->ns, &who, attr.ino, id, &rev);
	if (err == MVCC_ENOLEASE)
		err = refuse_lease(reply, err, id);
	else if (err == -EISDIR)
		err = refuse(reply, err, "that is a directory: only files can have a lease");
	else if (err)
		err = refuse(reply, err, "the file: %s", mvcc_strerror(err));
	else {
		if (rev > before)
			query_changed(env, rev);
		err = put_text(reply, "{\"ok\":true,\"id\":%" PRIu64 ",\"rev\":%" PRIu64 "}", id, rev);
	}
out:
	buf_release(&path);
	return err;
}

int answer_lease_attach(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	mvcc_lease_t id;
	int err;

	return wanted_id(req, reply, &id, &err) ? set_lease(env, req, reply, id) : err;
}

int answer_lease_detach(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	return set_lease(env, req, reply, 0);
}
