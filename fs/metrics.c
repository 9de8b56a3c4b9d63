#include "fs/metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/statvfs.h>

static int put(struct buf *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int put(struct buf *out, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return buf_put(out, text, (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1);
}

static int head(struct buf *out, const char *name, const char *type, const char *help)
{
	return put(out, "# HELP mvccfs_%s %s\n# TYPE mvccfs_%s %s\n", name, help, name, type);
}

struct figure {
	const char *name, *type, *help;
	uint64_t value;
};

static int put_figures(struct buf *out, const struct figure *f, size_t n)
{
	int err = 0;

	for (size_t i = 0; i < n && !err; i++) {
		err = head(out, f[i].name, f[i].type, f[i].help);
		if (!err)
			err = put(out, "mvccfs_%s %" PRIu64 "\n", f[i].name, f[i].value);
	}
	return err;
}

#define PUT_FIGURES(out, figures) put_figures(out, figures, sizeof(figures) / sizeof((figures)[0]))

/* ---- histograms -------------------------------------------------------------------------------- */

enum { BOUNDS_EACH = 8 }; /* buckets of the store that make one here: two doublings */

/* Seconds with nine places: no figure is rounded. */
static int put_seconds(struct buf *out, uint64_t ns)
{
	return put(out, "%" PRIu64 ".%09" PRIu64, ns / 1000000000, ns % 1000000000);
}

static int put_bucket(struct buf *out, const char *name, uint64_t bound_ns, uint64_t count)
{
	int err = put(out, "mvccfs_%s_bucket{le=\"", name);

	if (!err)
		err = put_seconds(out, bound_ns);
	return err ? err : put(out, "\"} %" PRIu64 "\n", count);
}

static int put_histogram(struct buf *out, const char *name, const char *help, const struct mvcc_histogram *h)
{
	uint64_t sum = 0;
	int err = head(out, name, "histogram", help);

	for (unsigned i = 0; i < MVCC_HISTOGRAM_BUCKETS && !err; i++) {
		sum += h->buckets[i];
		/* The last bucket of the store has no bound: it is within +Inf. */
		if (i % BOUNDS_EACH == BOUNDS_EACH - 1 && i + 1 < MVCC_HISTOGRAM_BUCKETS)
			err = put_bucket(out, name, mvcc_histogram_bound(i), sum);
	}
	if (!err)
		err = put(out, "mvccfs_%s_bucket{le=\"+Inf\"} %" PRIu64 "\nmvccfs_%s_sum ", name, sum, name);
	if (!err)
		err = put_seconds(out, h->sum_ns);
	return err ? err : put(out, "\nmvccfs_%s_count %" PRIu64 "\n", name, sum);
}

/* ---- the parts --------------------------------------------------------------------------------- */

static int put_store(struct buf *out, const struct mvcc_stats *s)
{
	const struct figure figures[] = {
		{ "revision", "gauge", "Newest revision.", s->current },
		{ "floor_revision", "gauge", "Oldest revision that is surely readable.", s->floor },
		{ "applied_revision", "gauge", "Newest revision in the engine.", s->applied },
		{ "synced_revision", "gauge", "Newest revision surely on disk.", s->synced },
		{ "compacted_revision", "gauge", "The space of all below it has come back.", s->compacted },
		{ "commits_total", "counter", "Revisions made.", s->commits },
		{ "conflicts_total", "counter", "Transactions refused as another came first.", s->conflicts },
		{ "leases_expired_total", "counter", "Leases that have ended.", s->leases_expired },
		{ "compactions_total", "counter", "Steps of compaction.", s->compactions },
		{ "blobs_staged_total", "counter", "Large values written.", s->blobs_staged },
		{ "blob_staged_bytes_total", "counter", "Bytes of large values written.",
		  s->blob_bytes_staged },
		{ "blobs_freed_total", "counter", "Large values given back.", s->blobs_freed },
		{ "ring_bytes", "gauge", "Size of the write-back ring.", s->ring_bytes },
		{ "ring_used_bytes", "gauge", "Of it, waiting for the engine.", s->ring_used },
		{ "buffered_rows", "gauge", "Rows in the write-back buffer.", s->buffered_rows },
		{ "views", "gauge", "Open views of the store.", s->views },
		{ "pins", "gauge", "Tags, those of retention included.", s->pins },
		{ "leases", "gauge", "Leases there are.", s->leases },
		{ "watches", "gauge", "Open watches.", s->watches },
		{ "stopped", "gauge", "1 while an error of the engine keeps all commits off.",
		  s->failed != 0 },
	};
	int err = PUT_FIGURES(out, figures);

	if (!err)
		err = put_histogram(out, "commit_duration_seconds", "Commits, as their callers see them.",
				    &s->commit);
	if (!err)
		err = put_histogram(out, "drain_duration_seconds", "Batches to the engine.", &s->drain);
	if (!err)
		err = put_histogram(out, "sync_duration_seconds", "Syncs of the engine.", &s->sync);
	if (!err)
		err = put_histogram(out, "compaction_duration_seconds", "Steps of compaction.", &s->compact);
	return err;
}

static int put_engine(struct buf *out, const struct engine_stats *e)
{
	const struct figure figures[] = {
		{ "engine_disk_bytes", "gauge", "Size of the engine's files.", e->bytes_disk },
		{ "engine_live_bytes", "gauge", "Of it, live: an estimate.", e->bytes_live },
		{ "engine_cache_bytes", "gauge", "Block cache in use.", e->bytes_cache },
		{ "engine_buffer_bytes", "gauge", "Memory of rows not yet in files.", e->bytes_buffers },
		{ "engine_rows", "gauge", "Rows of all families: an estimate.", e->rows_estimate },
	};

	return PUT_FIGURES(out, figures);
}

static int put_tree(struct buf *out, const struct metrics_env *env)
{
	struct ns_stats s;

	ns_stats(env->ns, &s);
	const struct figure figures[] = {
		{ "open_inodes", "gauge", "Files that are open, or being written.", s.open_inodes },
		{ "dirty_inodes", "gauge", "Of them, with changes in no revision yet.", s.dirty_inodes },
		{ "pending_files", "gauge", "Of them, created and in no revision yet.", s.pending },
		{ "dirty_bytes", "gauge", "Memory of file data not yet stored.", s.dirty_bytes },
		{ "kernel_inodes", "gauge", "Inodes that the kernel knows.", env->nodes },
		{ "parked_requests_total", "counter", "Requests put aside as the ring was full.",
		  env->parked },
		{ "start_time_seconds", "gauge", "When it was mounted, since 1970 UTC.",
		  (uint64_t)env->started_ns / 1000000000 },
	};

	return PUT_FIGURES(out, figures);
}

static int put_disk(struct buf *out, const char *dir)
{
	struct statvfs st;

	if (statvfs(dir, &st))
		return 0; /* the rest is told all the same */
	const struct figure figures[] = {
		{ "disk_bytes", "gauge", "Size of the disk that has the database.",
		  (uint64_t)st.f_blocks * st.f_frsize },
		{ "disk_free_bytes", "gauge", "Of it, free.", (uint64_t)st.f_bavail * st.f_frsize },
	};

	return PUT_FIGURES(out, figures);
}

/* A label's value: backslash, quote and line feed are escaped. */
static int put_label(struct buf *out, const char *text)
{
	int err = 0;

	for (; *text && !err; text++)
		err = *text == '\n'                 ? put(out, "\\n") :
		      *text == '"' || *text == '\\' ? put(out, "\\%c", *text) :
						      buf_put_u8(out, (uint8_t)*text);
	return err;
}

static int put_info(struct buf *out, const char *db_path)
{
	int err = head(out, "info", "gauge", "The program and its database.");

	if (!err)
		err = put(out, "mvccfs_info{version=\"" MVCCFS_VERSION "\",db=\"");
	if (!err)
		err = put_label(out, db_path);
	return err ? err : put(out, "\"} 1\n");
}

int metrics_text(const struct metrics_env *env, struct buf *out)
{
	struct mvcc_stats stats;
	int err;

	mvcc_stats(env->db, &stats);
	err = put_info(out, env->db_path);
	if (!err)
		err = put_store(out, &stats);
	if (!err)
		err = put_engine(out, &stats.engine);
	if (!err)
		err = put_tree(out, env);
	return err ? err : put_disk(out, env->db_path);
}
