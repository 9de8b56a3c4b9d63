/* purge: a path out of all of history. */
#include "fs/query_int.h"

#include "fs/ns_purge.h"
#include "mvcc/keep.h"

#include <errno.h>

static int tell_purged(const struct ns_purged *p, bool dry_run, bool waits, struct buf *reply)
{
	struct json_object *o = json_object_new_object();
	int err = o ? json_add_bool(o, "ok", true) : -ENOMEM;

	if (!err)
		err = json_add_u64(o, "files", p->n);
	if (!err)
		err = json_add_u64(o, "names", p->names);
	if (!err && !dry_run)
		err = json_add_u64(o, "rev", p->rev);
	if (!err && !dry_run)
		err = json_add_bool(o, "waits", waits);
	if (!err)
		err = json_append(reply, o);
	json_object_put(o);
	return err;
}

static void tell_mount(const struct query_env *env, const struct ns_purged *p)
{
	if (p->removed_rev)
		query_changed(env, p->removed_rev);
	if (p->rev)
		query_changed(env, p->rev);
	if (env->purged && p->removed_rev + p->rev)
		env->purged(env->changed_arg, p->inos, p->n);
}

static int purge(const struct query_env *env, struct json_object *req, struct slice path, struct buf *reply)
{
	bool dry_run = flag_member(req, "dry_run");
	struct ns_purged purged = { 0 };
	struct mvcc_story story;
	struct query_task task;
	int err, waits = 0;

	query_story(env, req, "purge", path, &story);
	task_begin(&task, req, "what there ever was");
	err = query_settle(env);
	if (!err)
		err = ns_purge(env->ns, path, &story, dry_run, &purged);
	tell_mount(env, &purged); /* also of what was done before it failed */
	if (!err && !dry_run) {
		task_phase(&task, "the files of the database");
		waits = mvcc_compact_wait(env->db);
	}
	task_end(&task);
	/* Another error of the wait means that the store goes on with it by itself. */
	if (err)
		err = refuse(reply, err, "%s",
			     err == -ENOENT ? "no revision has anything of that path" :
			     err == -EINVAL ? "the root cannot be purged" :
					      mvcc_strerror(err));
	else
		err = tell_purged(&purged, dry_run, waits != 0, reply);
	ns_purged_release(&purged);
	return err;
}

int answer_purge(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	struct buf path = { 0 };
	int err = json_get_bytes(req, "path", &path);

	if (!err)
		err = purge(env, req, slice_buf(&path), reply);
	else if (err != -ENOMEM)
		err = refuse(reply, -EINVAL, "purge wants a path");
	buf_release(&path);
	return err;
}
