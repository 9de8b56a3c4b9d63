/* status: what a database holds, and how it is. */
#include "fs/query_int.h"

#include <errno.h>
#include <sys/statvfs.h>

/* How long something took: how often it was done, and the times that half and 99 of 100 stayed below. */
static int add_histogram(struct json_object *o, const char *key, const struct mvcc_histogram *h)
{
	const struct figure figures[] = {
		{ "count", h->count },
		{ "mean_ns", h->count ? h->sum_ns / h->count : 0 },
		{ "p50_ns", mvcc_histogram_quantile(h, 0.5) },
		{ "p99_ns", mvcc_histogram_quantile(h, 0.99) },
		{ "max_ns", h->max_ns },
	};
	struct json_object *times = json_object_new_object();
	int err = times ? ADD_FIGURES(times, figures) : -ENOMEM;

	if (err) {
		json_object_put(times);
		return err;
	}
	return json_add(o, key, times);
}

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
		{ "tags", s.pins },
		{ "leases", s.leases },
		{ "leases_expired", s.leases_expired },
		{ "watches", s.watches },
		{ "compacted", s.compacted },
		{ "compactions", s.compactions },
		{ "blobs_freed", s.blobs_freed },
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
	if (!err)
		err = add_histogram(o, "commit", &s.commit);
	if (!err)
		err = add_histogram(o, "drain", &s.drain);
	if (!err)
		err = add_histogram(o, "sync", &s.sync);
	if (!err)
		err = add_histogram(o, "compact", &s.compact);
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
	if (!err)
		err = add_tree(o, env);
	if (!err)
		err = add_disk(o, env->db_path);
	return err;
}

int answer_status(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	struct json_object *o = json_object_new_object();
	int err = o ? fill_status(env, o) : -ENOMEM;

	(void)req;
	if (!err)
		err = json_append(reply, o);
	json_object_put(o);
	return err;
}
