/*
 * Compaction: keys of three versions, the floor raised to where all had the second, so that half of the history
 * goes. To compare with: RocksDB rewriting as many rows, half of them deleted.
 */
#include "bench/mvcc_bench.h"

#include "mvcc/keep.h"

#define VERSIONS 3
#define ROUNDS_MAX 3 /* each makes its store anew */

/* `*floor_us`: what raising the floor takes; returns what it takes until the space is back. */
static double compact_us(const char *dir, uint64_t keys, double *floor_us)
{
	struct mvcc *db = store_open_unlimited(dir);
	mvcc_rev_t revs[VERSIONS + 1];
	struct mvcc_view *view;
	int64_t start;
	double us;

	for (uint64_t v = 1; v <= VERSIONS; v++)
		revs[v] = store_load(db, keys, v);
	start = bench_now_ns();
	must(mvcc_compact(db, revs[2]), "compact");
	*floor_us = bench_since_us(start);
	must(mvcc_compact_wait(db), "compaction");
	us = bench_since_us(start);

	must_hold(mvcc_view_open(db, revs[2] - 1, &view) == MVCC_ECOMPACTED, "what was compacted");
	for (uint64_t v = 2; v <= VERSIONS; v++) {
		must(mvcc_view_open(db, revs[v], &view), "view");
		store_expect(view, keys / 2, v);
		mvcc_view_close(view);
	}
	store_close(db);
	return us;
}

static double raw_compact_us(const char *dir, uint64_t keys)
{
	struct raw *raw = raw_open(dir);
	struct key k;
	int64_t start;
	double us;

	raw_load(raw, keys * 2, 1);
	raw_flush(raw);
	for (uint64_t i = 0; i < keys; i++)
		raw_delete(raw, key_of(&k, i * 2));
	start = bench_now_ns();
	raw_rewrite(raw);
	us = bench_since_us(start);
	must_hold(raw_scan(raw, slice_of(NULL, 0), UINT64_MAX) == keys, "what was deleted");
	raw_close(raw);
	return us;
}

void part_compact(struct bench *b)
{
	static const char row[] = "compact.rows",
			  title[] = "compaction, each row of a history that goes by half";
	static const char floor_row[] = "compact.floor", floor_title[] = "raising the floor";
	struct path ours = bench_path(b, "ours"), theirs = bench_path(b, "raw");
	uint64_t keys = bench_scaled(b, 1000000, 1000);
	bool wants_rows = bench_row(b, row, "us", title);
	bool wanted = bench_row(b, floor_row, "us", floor_title) || wants_rows;

	for (unsigned round = 0; wanted && round < b->rounds && round < ROUNDS_MAX; round++) {
		double floor_us, us = compact_us(ours.name, keys, &floor_us);

		if (bench_row(b, floor_row, "us", floor_title))
			bench_figure(b, round, "ours", floor_us);
		if (bench_row(b, row, "us", title)) {
			bench_figure(b, round, "ours", us / (double)(keys * 2));
			bench_figure(b, round, "raw", raw_compact_us(theirs.name, keys) / (double)(keys * 2));
			bench_remove(theirs.name);
		}
		bench_remove(ours.name);
	}
}
