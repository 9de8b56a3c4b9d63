/*
 * Opening, each time in a process of its own, so that its memory is told, too. etcd rebuilds its index here
 * (StoreRestore), at a cost for each key and revision; nothing of the kind should show.
 */
#include "bench/mvcc_bench.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static long rss_kib(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[256];
	long kib = 0;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "VmRSS: %ld", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
}

/* Up to the first answer. */
static double open_ours(const char *dir, long *rss, double *close_us)
{
	int64_t start = bench_now_ns();
	struct mvcc *db = store_open(dir);
	struct mvcc_view *view;
	double us;

	must(mvcc_view_open(db, MVCC_REV_LATEST, &view), "view");
	store_expect(view, 0, 1);
	mvcc_view_close(view);
	us = bench_since_us(start);
	*rss = rss_kib();
	start = bench_now_ns();
	store_close(db);
	*close_us = bench_since_us(start);
	return us;
}

static double open_raw(const char *dir, long *rss, double *close_us)
{
	int64_t start = bench_now_ns();
	struct raw *raw = raw_open(dir);
	struct buf value = { 0 };
	struct key k;
	double us;

	must_hold(raw_get(raw, key_of(&k, 0), &value), "raw get");
	us = bench_since_us(start);
	*rss = rss_kib();
	buf_release(&value);
	start = bench_now_ns();
	raw_close(raw);
	*close_us = bench_since_us(start);
	return us;
}

int open_once(const char *kind, const char *dir)
{
	double us, close_us;
	long rss;

	if (strcmp(kind, "ours") == 0)
		us = open_ours(dir, &rss, &close_us);
	else
		us = open_raw(dir, &rss, &close_us);
	printf("%.0f %.0f %ld\n", us, close_us, rss);
	return 0;
}

/* What one more process says. */
static void ask(const char *kind, const char *dir, double *open_us, long *rss)
{
	char exe[300] = "", command[800];
	double close_us;
	FILE *f;

	must_hold(readlink("/proc/self/exe", exe, sizeof(exe) - 1) > 0, "/proc/self/exe");
	snprintf(command, sizeof(command), "'%s' open-once %s '%s'", exe, kind, dir);
	f = popen(command, "re");
	must_hold(f, "popen");
	must_hold(fscanf(f, "%lf %lf %ld", open_us, &close_us, rss) == 3, "what open-once says");
	must_hold(pclose(f) == 0, "open-once");
}

struct size {
	const char *row, *title;
	const char *row_rss, *title_rss;
	uint64_t keys, versions;
	bool huge;
};

static void one_size(struct bench *b, const struct size *size)
{
	struct path ours = bench_path(b, "ours"), theirs = bench_path(b, "raw");
	uint64_t keys = bench_scaled(b, size->keys, 1000);
	bool wants_ms = bench_row(b, size->row, "ms", size->title);
	bool wants_rss = bench_row(b, size->row_rss, "MiB", size->title_rss);
	struct mvcc *db;
	struct raw *raw;

	if (!wants_ms && !wants_rss)
		return;
	db = store_open(ours.name);
	raw = raw_open(theirs.name);
	/* The last put of each key is version 1, which the process looks for. */
	for (uint64_t v = size->versions; v > 0; v--) {
		store_load(db, keys, v);
		raw_load(raw, keys, v);
	}
	raw_flush(raw);
	store_close(db);
	raw_close(raw);
	for (unsigned round = 0; round < b->rounds; round++) {
		const char *sides[] = { "ours", "raw" };
		const char *dirs[] = { ours.name, theirs.name };

		for (unsigned i = 0; i < 2; i++) {
			double us;
			long rss;

			ask(sides[i], dirs[i], &us, &rss);
			if (bench_row(b, size->row, "ms", size->title))
				bench_figure(b, round, sides[i], us / 1000);
			if (bench_row(b, size->row_rss, "MiB", size->title_rss))
				bench_figure(b, round, sides[i], (double)rss / 1024);
		}
	}
	bench_remove(ours.name);
	bench_remove(theirs.name);
}

void part_open(struct bench *b)
{
	static const struct size sizes[] = {
		{ "open.100k", "open, 100 k keys (StoreRestoreRevs1)", "open.100k_rss", "process then",
		  100000, 1, false },
		{ "open.100k_10", "open, 100 k keys of 10 revisions (StoreRestoreRevs10)", "open.100k_10_rss",
		  "process then", 100000, 10, false },
		{ "open.1m", "open, 1 M keys", "open.1m_rss", "process then", 1000000, 1, false },
		{ "open.1m_3", "open, 1 M keys of 3 revisions", "open.1m_3_rss", "process then", 1000000, 3,
		  false },
		{ "open.10m", "open, 10 M keys", "open.10m_rss", "process then", 10000000, 1, true },
	};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		if (!sizes[i].huge || b->huge)
			one_size(b, &sizes[i]);
}
