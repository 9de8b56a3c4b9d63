/*
 * Reads. The newest state is read in a large store of one version of each key, the past in one whose keys have a
 * hundred versions. RocksDB has the newest values only, but was given the same puts in the same order, so that
 * its files have the same shape. Both were closed and opened again before.
 */
#include "bench/mvcc_bench.h"

#include <errno.h>

#define VERSIONS 100
#define LATER_KEYS 1000 /* put last, so that there is something newer than the past that is read */
#define NAMES 1000      /* of a listing */
#define SAMPLES 100

struct stores {
	struct mvcc *db;
	struct raw *raw;
	struct path ours, theirs;
	uint64_t keys;
	mvcc_rev_t revs[VERSIONS + 1]; /* after all keys had this version */
};

static void stores_open(struct stores *s)
{
	s->db = store_open(s->ours.name);
	s->raw = raw_open(s->theirs.name);
}

static void stores_close(struct stores *s)
{
	store_close(s->db);
	raw_close(s->raw);
}

static struct stores stores_make(struct bench *b, uint64_t keys, uint64_t versions)
{
	struct stores s = { .ours = bench_path(b, "ours"), .theirs = bench_path(b, "raw"), .keys = keys };

	stores_open(&s);
	for (uint64_t v = 1; v <= versions; v++) {
		s.revs[v] = store_load(s.db, keys, v);
		raw_load(s.raw, keys, v);
	}
	raw_flush(s.raw);
	stores_close(&s);
	stores_open(&s);
	return s;
}

static void stores_remove(struct stores *s)
{
	stores_close(s);
	bench_remove(s->ours.name);
	bench_remove(s->theirs.name);
}

/* Is every value there in this version? Looks at some, outside of what is measured. */
static void expect_samples(struct mvcc_view *view, const struct stores *s, uint64_t version)
{
	uint64_t seed = 4711;

	for (unsigned i = 0; i < SAMPLES; i++)
		store_expect(view, random_next(&seed) % s->keys, version);
}

/* ---- one key at a time ------------------------------------------------------------------------ */

static double get_us(struct mvcc_view *view, uint64_t keys, uint64_t ops, unsigned round, int wanted)
{
	uint64_t seed = round, first = wanted ? keys : 0; /* behind the last key there is none */
	int64_t start = bench_now_ns();

	for (uint64_t i = 0; i < ops; i++) {
		struct mvcc_item item = { 0 };
		struct key k;

		must_hold(mvcc_get(view, key_of(&k, first + random_next(&seed) % keys), &item) == wanted,
			  "get");
		must_hold(item.value.len == (wanted ? 0 : VALUE_BYTES), "the length of a value");
		mvcc_item_release(&item);
	}
	return bench_since_us(start) / (double)ops;
}

static double raw_get_us(struct raw *raw, uint64_t keys, uint64_t ops, unsigned round, bool wanted)
{
	uint64_t seed = round, first = wanted ? 0 : keys;
	int64_t start = bench_now_ns();
	struct buf value = { 0 };
	double us;

	for (uint64_t i = 0; i < ops; i++) {
		struct key k;

		must_hold(raw_get(raw, key_of(&k, first + random_next(&seed) % keys), &value) == wanted,
			  "raw get");
	}
	us = bench_since_us(start) / (double)ops;
	buf_release(&value);
	return us;
}

/* Gets at a revision beside RocksDB's gets of the newest. */
static void gets(struct bench *b, struct stores *s, const char *row, const char *title, mvcc_rev_t rev,
		 uint64_t version)
{
	const uint64_t ops = bench_scaled(b, 200000, 1000);
	struct mvcc_view *view;

	if (!bench_row(b, row, "us", title))
		return;
	must(mvcc_view_open(s->db, rev, &view), "view");
	expect_samples(view, s, version);
	get_us(view, s->keys, ops / 2, b->rounds, 0); /* warm */
	raw_get_us(s->raw, s->keys, ops / 2, b->rounds, true);
	for (unsigned round = 0; round < b->rounds; round++) {
		bench_figure(b, round, "ours", get_us(view, s->keys, ops, round, 0));
		bench_figure(b, round, "raw", raw_get_us(s->raw, s->keys, ops, round, true));
	}
	mvcc_view_close(view);
}

static void absent(struct bench *b, struct stores *s)
{
	const uint64_t ops = bench_scaled(b, 400000, 1000);
	struct mvcc_view *view;

	if (!bench_row(b, "read.absent", "us", "get of an absent key"))
		return;
	must(mvcc_view_open(s->db, MVCC_REV_LATEST, &view), "view");
	for (unsigned round = 0; round < b->rounds; round++) {
		bench_figure(b, round, "ours", get_us(view, s->keys, ops, round, -ENOENT));
		bench_figure(b, round, "raw", raw_get_us(s->raw, s->keys, ops, round, false));
	}
	mvcc_view_close(view);
}

/* ---- many rows ------------------------------------------------------------------------------- */

/* Ranges of `limit` rows, in a view of their own each, as a request would have them. */
static double range_us(struct mvcc *db, uint64_t keys, uint64_t limit, uint64_t ops, unsigned round)
{
	const struct mvcc_range_opt opt = { .limit = limit };
	uint64_t seed = round;
	int64_t start = bench_now_ns();

	for (uint64_t i = 0; i < ops; i++) {
		struct mvcc_view *view;
		struct mvcc_rows rows;
		struct key k;

		must(mvcc_view_open(db, MVCC_REV_LATEST, &view), "view");
		must(mvcc_range(view, key_of(&k, random_next(&seed) % (keys - limit)), slice_of(NULL, 0),
				&opt, &rows),
		     "range");
		must_hold(rows.n == limit && rows.more, "the rows of a range");
		mvcc_rows_release(&rows);
		mvcc_view_close(view);
	}
	return bench_since_us(start) / (double)ops;
}

static double raw_range_us(struct raw *raw, uint64_t keys, uint64_t limit, uint64_t ops, unsigned round)
{
	uint64_t seed = round;
	int64_t start = bench_now_ns();

	for (uint64_t i = 0; i < ops; i++) {
		struct key k;

		must_hold(raw_scan(raw, key_of(&k, random_next(&seed) % (keys - limit)), limit) == limit,
			  "the rows of a scan");
	}
	return bench_since_us(start) / (double)ops;
}

static void ranges(struct bench *b, struct stores *s, const char *row, const char *title, uint64_t limit,
		   uint64_t ops)
{
	if (!bench_row(b, row, "us", title))
		return;
	ops = bench_scaled(b, ops, 100);
	for (unsigned round = 0; round < b->rounds; round++) {
		bench_figure(b, round, "ours", range_us(s->db, s->keys, limit, ops, round));
		bench_figure(b, round, "raw", raw_range_us(s->raw, s->keys, limit, ops, round));
	}
}

/* Walks `rows` rows from key `from` on. */
static double walk_us(struct mvcc_view *view, uint64_t from, uint64_t rows)
{
	const struct mvcc_item *item;
	struct mvcc_cursor *cursor;
	struct slice key;
	struct key k;
	uint64_t n = 0;
	int64_t start = bench_now_ns();

	must(mvcc_cursor_open(view, key_of(&k, from), slice_of(NULL, 0), &cursor), "cursor");
	for (; n < rows && mvcc_cursor_next(cursor, &key, &item) == 1; n++)
		must_hold(item->value.len == VALUE_BYTES, "the length of a value");
	must_hold(n == rows, "the rows of a walk");
	mvcc_cursor_close(cursor);
	return bench_since_us(start);
}

static double raw_walk_us(struct raw *raw, uint64_t from, uint64_t rows)
{
	struct key k;
	int64_t start = bench_now_ns();

	must_hold(raw_scan(raw, key_of(&k, from), rows) == rows, "the rows of a scan");
	return bench_since_us(start);
}

static void scan(struct bench *b, struct stores *s)
{
	struct mvcc_view *view;

	if (!bench_row(b, "read.scan", "us", "scan of the newest state, each row"))
		return;
	must(mvcc_view_open(s->db, MVCC_REV_LATEST, &view), "view");
	for (unsigned round = 0; round < b->rounds; round++) {
		bench_figure(b, round, "ours", walk_us(view, 0, s->keys) / (double)s->keys);
		bench_figure(b, round, "raw", raw_walk_us(s->raw, 0, s->keys) / (double)s->keys);
	}
	mvcc_view_close(view);
}

void part_read(struct bench *b)
{
	struct stores s = stores_make(b, bench_scaled(b, 1000000, 10000), 1);
	mvcc_rev_t loaded = mvcc_current(s.db);

	gets(b, &s, "read.get", "get, newest", MVCC_REV_LATEST, 1);
	absent(b, &s);
	ranges(b, &s, "read.range1", "range of 1 (RangeKey1)", 1, 50000);
	ranges(b, &s, "read.range100", "range of 100 (RangeKey100)", 100, 5000);
	ranges(b, &s, "read.list10", "10 names of all", 10, 20000);
	scan(b, &s);
	store_load(s.db, LATER_KEYS, 1);
	raw_load(s.raw, LATER_KEYS, 1);
	gets(b, &s, "read.unchanged", "get at a revision, not changed since", loaded, 1);
	stores_remove(&s);
}

/* ---- the past -------------------------------------------------------------------------------- */

static void listing(struct bench *b, struct stores *s, const char *row, const char *title, mvcc_rev_t rev,
		    uint64_t version)
{
	struct mvcc_view *view;

	if (!bench_row(b, row, "us", title))
		return;
	must(mvcc_view_open(s->db, rev, &view), "view");
	expect_samples(view, s, version);
	for (unsigned round = 0; round < b->rounds; round++) {
		uint64_t seed = round, from = random_next(&seed) % (s->keys - NAMES + 1);

		bench_figure(b, round, "ours", walk_us(view, from, NAMES));
		bench_figure(b, round, "raw", raw_walk_us(s->raw, from, NAMES));
	}
	mvcc_view_close(view);
}

void part_past(struct bench *b)
{
	struct stores s = stores_make(b, bench_scaled(b, 20000, 2 * NAMES), VERSIONS);

	gets(b, &s, "past.newest", "get, newest of 100 versions", MVCC_REV_LATEST, VERSIONS);
	gets(b, &s, "past.1", "get, 1 version back", s.revs[VERSIONS - 1], VERSIONS - 1);
	gets(b, &s, "past.10", "get, 10 versions back", s.revs[VERSIONS - 10], VERSIONS - 10);
	gets(b, &s, "past.99", "get, 99 versions back", s.revs[1], 1);
	listing(b, &s, "past.list_newest", "1,000 names of 100 versions, newest", MVCC_REV_LATEST, VERSIONS);
	listing(b, &s, "past.list_old", "the same, 50 versions back", s.revs[VERSIONS - 50], VERSIONS - 50);
	stores_remove(&s);
}
