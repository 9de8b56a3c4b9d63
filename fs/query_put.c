/* del: a name taken away, if what has it is still what the asker thinks. */
#include "fs/query_int.h"

#include <errno.h>
#include <inttypes.h>

/* The members "if_rev" and "if_version", of which one may be there. */
static int take_wanted(struct json_object *req, struct ns_wanted *out)
{
	uint64_t n;
	int rev = number_member(req, "if_rev", &out->n), version = number_member(req, "if_version", &n);

	if (rev == -EINVAL || version == -EINVAL || (!rev && !version))
		return -EINVAL;
	out->compare = !rev ? NS_IF_REV : !version ? NS_IF_VERSION : 0;
	if (!version)
		out->n = n;
	return 0;
}

/* The directory of a path, and its last name. */
static int walk_parent(struct ns *ns, struct slice path, uint64_t *dir, struct slice *name)
{
	struct ns_attr attr;
	size_t at;
	int err;

	while (path.len && path.data[path.len - 1] == '/')
		path.len--;
	for (at = path.len; at && path.data[at - 1] != '/'; at--)
		;
	*name = slice_of(path.data + at, path.len - at);
	if (!name->len)
		return -EBUSY; /* the root */
	err = live_walk(ns, slice_of(path.data, at), &attr);
	*dir = attr.ino;
	return !err && !S_ISDIR(attr.mode) ? -ENOTDIR : err;
}

static int reply_deleted(struct slice path, mvcc_rev_t rev, struct buf *reply)
{
	struct json_object *o = json_object_new_object();
	int err = o ? json_add_bool(o, "ok", true) : -ENOMEM;

	if (!err)
		err = json_add_bytes(o, "path", path);
	if (!err)
		err = json_add_u64(o, "rev", rev);
	if (!err)
		err = json_append(reply, o);
	json_object_put(o);
	return err;
}

int answer_del(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	const struct ns_who who = {
		.uid = env->uid,
		.gid = env->gid,
		.pid = env->asker,
		.comm = env->comm,
		.session = text_member(req, "session"),
		.message = text_member(req, "message"),
	};
	struct ns_wanted wanted;
	struct buf path = { 0 };
	struct slice name;
	mvcc_rev_t rev = 0;
	uint64_t dir;
	int err = json_get_bytes(req, "path", &path), res;

	if (err || take_wanted(req, &wanted)) {
		buf_release(&path);
		return err == -ENOMEM ?
			       err :
			       refuse(reply, -EINVAL,
				      "del wants a path, and \"if_rev\" or \"if_version\" as a number");
	}
	err = walk_parent(env->ns, slice_buf(&path), &dir, &name);
	if (!err)
		err = ns_remove_if(env->ns, &who, dir, name, &wanted, NULL, &rev);
	if (!err) {
		query_changed(env, rev);
		res = reply_deleted(slice_buf(&path), rev, reply);
	} else if (err == -EBUSY && name.len) {
		/* A compare that does not hold is no trouble: the exit status is that of "not found". */
		res = refuse(reply, -ENOENT, "%.*s: has changed, or is not as told", (int)path.len,
			     path.data);
	} else {
		res = refuse(reply, err, "%.*s: %s", (int)path.len, path.data, mvcc_strerror(err));
	}
	buf_release(&path);
	return res;
}
