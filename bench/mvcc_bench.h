/*
 * What the parts of mvcc_bench share: the run at hand, where figures go, inputs that are the same in every run,
 * the store under test, and RocksDB by itself to compare with (mvcc_bench_raw.c).
 *
 * A part is a function that makes its data and measures one row after the other: each round first our side, then
 * the other, so that a machine that is busy for a while favours neither. What goes wrong ends the program.
 */
#ifndef BENCH_MVCC_BENCH_H
#define BENCH_MVCC_BENCH_H

#include "mvcc/mvcc.h"

#define KEY_BYTES 64
#define VALUE_BYTES 64

struct bench {
	char dir[256]; /* scratch, the part's own; removed when the part is done */
	double scale;
	unsigned rounds;
	bool huge;           /* also what takes ten million keys */
	char *const *chosen; /* rows to run, or what their names begin with; NULL at the end; none: all */
	const char *row, *unit, *title; /* the row at hand */
};

/* Begins a row, "PART.NAME". False if it was not asked for: leave it out. */
bool bench_row(struct bench *b, const char *row, const char *unit, const char *title);

/* A figure of the row at hand, of one side: "ours" and "raw", or "quiet" and "busy". */
void bench_figure(const struct bench *b, unsigned round, const char *side, double value);

/* `n` at the scale that was asked for, at least `least`. */
uint64_t bench_scaled(const struct bench *b, uint64_t n, uint64_t least);

int64_t bench_now_ns(void);
double bench_since_us(int64_t start_ns); /* on the clock of bench_now_ns() */

void must(int err, const char *what);         /* ends the program if err is not 0 */
void must_hold(bool holds, const char *what); /* ends the program if not */

/* A path in the part's directory, and its removal. */
struct path {
	char name[300];
};
struct path bench_path(const struct bench *b, const char *name);
void bench_remove(const char *path);

/* ---- inputs ---------------------------------------------------------------------------------- */

/* Key `i`: KEY_BYTES bytes, in the order of the numbers. The bytes live in `k`. */
struct key {
	char bytes[KEY_BYTES];
};
struct slice key_of(struct key *k, uint64_t i);

/* A value of `len` bytes, up to 1024, that tells `i` and `version`. The bytes live in `v`. */
struct value {
	char bytes[1024];
};
struct slice value_of(struct value *v, uint64_t i, uint64_t version, size_t len);

/* Random, the same each time for the same state. */
uint64_t random_next(uint64_t *state);

/* ---- ours ------------------------------------------------------------------------------------ */

struct mvcc *store_open(const char *dir);
struct mvcc *store_open_unlimited(const char *dir); /* compaction at full speed */
void store_close(struct mvcc *db);
void store_put(struct mvcc *db, struct slice key, struct slice value);

/* Puts version `version` of the keys 0 to n - 1, a hundred in a transaction. The newest revision. */
mvcc_rev_t store_load(struct mvcc *db, uint64_t n, uint64_t version);

/* Has the key this value in the view? Ends the program if not. */
void store_expect(struct mvcc_view *view, uint64_t i, uint64_t version);

/* ---- RocksDB --------------------------------------------------------------------------------- */

struct raw;

struct raw *raw_open(const char *dir);
void raw_close(struct raw *r);
void raw_put(struct raw *r, struct slice key, struct slice value, bool sync);
void raw_delete(struct raw *r, struct slice key);
void raw_load(struct raw *r, uint64_t n, uint64_t version);       /* as store_load() */
void raw_sync(struct raw *r);                                     /* all so far on disk */
void raw_flush(struct raw *r);                                    /* out of memory into files */
void raw_rewrite(struct raw *r);                                  /* all files */
bool raw_get(struct raw *r, struct slice key, struct buf *value); /* replaces the contents */

/* Reads up to `limit` rows from `start` on; how many there were. */
uint64_t raw_scan(struct raw *r, struct slice start, uint64_t limit);

/* ---- the parts ------------------------------------------------------------------------------- */

void part_put(struct bench *b);
void part_durable(struct bench *b);
void part_read(struct bench *b);
void part_past(struct bench *b);
void part_open(struct bench *b);
void part_compact(struct bench *b);
void part_watch(struct bench *b);
void part_lease(struct bench *b);
void part_contention(struct bench *b);

/* The process that part_open() starts anew for each figure: "open_us close_us rss_kib" on its output. */
int open_once(const char *kind, const char *dir);

#endif
