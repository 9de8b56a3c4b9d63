/* check: does everything fit together? And backup: a copy of the database while it is in use. */
#include "fs/query_int.h"

#include "fs/ns_check.h"
#include "fs/ns_row.h"
#include "mvcc/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { PROBLEMS_TOLD_MAX = 1000 };

/* ---- check ----------------------------------------------------------------------------------------- */

struct check_run {
	struct query_task task;
	struct mvcc_view *view;
	struct json_object *told;
	uint64_t rows;
};

/* The file that a row belongs to, as far as that is known, and the name in the row. */
static int add_place(const struct check_run *run, struct json_object *o, struct slice key)
{
	struct buf path = { 0 };
	struct row_key k;
	int err;

	if (!key.len || row_key_decode(key, &k))
		return key.len ? json_add_bytes(o, "key", key) : 0;
	err = json_add_u64(o, "ino", k.ino);
	if (!err && k.tail.len)
		err = json_add_bytes(o, "name", k.tail);
	if (!err && ns_at_path(run->view, k.ino, &path) == 0)
		err = json_add_bytes(o, "path", slice_buf(&path));
	buf_release(&path);
	return err;
}

static int tell_problem(struct check_run *run, const char *part, const char *what, struct slice key,
			mvcc_rev_t rev, mvcc_blob_t blob)
{
	struct json_object *o;
	int err;

	if (json_object_array_length(run->told) >= PROBLEMS_TOLD_MAX)
		return 0;
	o = json_object_new_object();
	err = o ? json_add_str(o, "part", part) : -ENOMEM;
	if (!err)
		err = json_add_str(o, "what", what);
	if (!err)
		err = add_place(run, o, key);
	if (!err && rev)
		err = json_add_u64(o, "rev", rev);
	if (!err && blob)
		err = json_add_u64(o, "blob", blob);
	if (!err && json_object_array_add(run->told, o))
		err = -ENOMEM;
	if (err)
		json_object_put(o);
	return err;
}

static int store_problem(void *arg, const struct mvcc_problem *p)
{
	return tell_problem(arg, "store", p->what, p->key, p->rev, p->blob);
}

static int tree_problem(void *arg, const struct ns_problem *p)
{
	return tell_problem(arg, "tree", p->what, p->key, 0, 0);
}

static void tree_progress(void *arg, uint64_t rows)
{
	struct check_run *run = arg;

	run->rows = rows;
	run->task.done = rows;
}

static int check_all(const struct query_env *env, struct check_run *run, uint64_t *problems)
{
	const struct ns_check_options opt = { tree_problem, tree_progress, run };
	uint64_t in_tree = 0;
	int err = mvcc_verify(env->db, store_problem, run, problems);

	task_phase(&run->task, "rows of the tree");
	if (!err)
		err = ns_check(env->db, run->view, &opt, &in_tree);
	*problems += in_tree;
	return err;
}

static int tell_check(const struct check_run *run, uint64_t problems, struct buf *reply)
{
	struct json_object *o = json_object_new_object();
	int err = o ? json_add_bool(o, "ok", true) : -ENOMEM;

	if (!err)
		err = json_add_u64(o, "rev", mvcc_view_rev(run->view));
	if (!err)
		err = json_add_u64(o, "rows", run->rows);
	if (!err)
		err = json_add_u64(o, "problems", problems);
	if (!err)
		err = json_add(o, "told", json_object_get(run->told));
	if (!err)
		err = json_append(reply, o);
	json_object_put(o);
	return err;
}

int answer_check(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	struct check_run run = { .told = json_object_new_array() };
	uint64_t problems = 0;
	int err = run.told ? mvcc_view_open(env->db, MVCC_REV_LATEST, &run.view) : -ENOMEM;

	if (!err) {
		task_begin(&run.task, req, "the store");
		err = check_all(env, &run, &problems);
		task_end(&run.task);
	}
	if (!err)
		err = tell_check(&run, problems, reply);
	else if (err != -ENOMEM)
		err = refuse(reply, err, "the check came to no end: %s", mvcc_strerror(err));
	mvcc_view_close(run.view);
	json_object_put(run.told);
	return err;
}

/* ---- backup ---------------------------------------------------------------------------------------- */

/* Is the directory that `dir` would be made in one of this mount? The copy would wait for itself. */
static bool lies_in_mount(const struct query_env *env, const char *dir)
{
	const char *last = strrchr(dir, '/');
	char *parent = strndup(dir, last == dir ? 1 : (size_t)(last - dir));
	struct stat here, there;
	bool inside = parent && env->mountpoint && stat(parent, &there) == 0 &&
		      stat(env->mountpoint, &here) == 0 && here.st_dev == there.st_dev;

	free(parent);
	return inside;
}

static int backup_to(const struct query_env *env, struct json_object *req, struct buf *reply, const char *dir)
{
	struct query_task task;
	mvcc_rev_t rev;
	int err;

	if (dir[0] != '/')
		return refuse(reply, -EINVAL, "the directory of a backup is an absolute path");
	if (lies_in_mount(env, dir))
		return refuse(reply, -EINVAL, "a backup cannot lie in the mount it is made of");
	task_begin(&task, req, "the copy");
	err = mvcc_checkpoint(env->db, dir, &rev);
	task_end(&task);
	if (err)
		return refuse(reply, err, "the backup cannot be made: %s", mvcc_strerror(err));
	return put_text(reply, "{\"ok\":true,\"rev\":%" PRIu64 "}", rev);
}

int answer_backup(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	struct buf dir = { 0 };
	int err = json_get_bytes(req, "dir", &dir);

	if (!err && memchr(dir.data ? (const char *)dir.data : "", 0, dir.len))
		err = -EINVAL;
	if (!err)
		err = buf_put_u8(&dir, 0);
	if (!err)
		err = backup_to(env, req, reply, (const char *)dir.data);
	else if (err != -ENOMEM)
		err = refuse(reply, -EINVAL, "the request names no directory");
	buf_release(&dir);
	return err;
}
