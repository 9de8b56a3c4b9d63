/*
 * Commits. A commit returns once it is in the ring; the committer moves it on behind the caller's back. So there
 * are two figures: what the caller waits for while the ring has room, and what the whole way costs when it goes on
 * and on. Both sides of the second one end with everything on disk.
 */
#include "bench/mvcc_bench.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define HOT_KEYS 100
#define BURST 8000 /* commits that the ring has room for */
#define BIG_VALUE 1024
#define THREADS_MAX 64

struct workload {
	const char *row, *title;
	uint64_t ops;
	uint64_t keys; /* chosen from at random; 0: each op a key of its own */
	size_t value_bytes;
	bool told; /* with a story, in a transaction that reads the key first */
};

static uint64_t key_number(const struct workload *w, uint64_t *seed)
{
	uint64_t x = random_next(seed);

	return w->keys ? x % w->keys : x;
}

static void one_told(struct mvcc *db, struct slice key, struct slice value)
{
	const struct mvcc_story story = { .comm = "mvcc_bench", .op = "put", .path = key };
	struct mvcc_item item = { 0 };
	struct mvcc_txn *txn;
	int err;

	must(mvcc_txn_begin(db, &txn), "begin");
	err = mvcc_txn_get(txn, key, &item);
	must_hold(!err || err == -ENOENT, "get");
	mvcc_item_release(&item);
	must(mvcc_txn_put(txn, key, value, NULL, 0), "put");
	must(mvcc_txn_commit(txn, &story, MVCC_COMMIT_WAIT, NULL), "commit");
}

static double ours_us(struct mvcc *db, const struct workload *w, unsigned round)
{
	uint64_t seed = round;
	mvcc_rev_t before = mvcc_current(db);
	int64_t start = bench_now_ns();
	double us;

	for (uint64_t i = 0; i < w->ops; i++) {
		struct key k;
		struct value v;
		uint64_t n = key_number(w, &seed);
		struct slice key = key_of(&k, n), value = value_of(&v, n, i, w->value_bytes);

		if (w->told)
			one_told(db, key, value);
		else
			store_put(db, key, value);
	}
	must(mvcc_sync(db, MVCC_REV_LATEST), "sync");
	us = bench_since_us(start) / (double)w->ops;
	must_hold(mvcc_current(db) == before + w->ops, "a revision for each commit");
	return us;
}

static double raw_us(struct raw *r, const struct workload *w, unsigned round)
{
	uint64_t seed = round;
	int64_t start = bench_now_ns();
	struct buf old = { 0 };

	for (uint64_t i = 0; i < w->ops; i++) {
		struct key k;
		struct value v;
		uint64_t n = key_number(w, &seed);
		struct slice key = key_of(&k, n), value = value_of(&v, n, i, w->value_bytes);

		if (w->told)
			raw_get(r, key, &old);
		raw_put(r, key, value, false);
	}
	raw_sync(r);
	buf_release(&old);
	return bench_since_us(start) / (double)w->ops;
}

static void sustained(struct bench *b, const struct workload *w)
{
	struct path ours, theirs;
	struct mvcc *db;
	struct raw *raw;

	if (!bench_row(b, w->row, "us", w->title))
		return;
	ours = bench_path(b, "ours");
	theirs = bench_path(b, "raw");
	db = store_open(ours.name);
	raw = raw_open(theirs.name);
	for (unsigned round = 0; round < b->rounds; round++) {
		bench_figure(b, round, "ours", ours_us(db, w, round));
		bench_figure(b, round, "raw", raw_us(raw, w, round));
	}
	store_close(db);
	raw_close(raw);
	bench_remove(ours.name);
	bench_remove(theirs.name);
}

struct burst {
	struct key keys[BURST];
	struct value values[BURST];
};

/* Of a burst, for each: the commit alone, or all of the transaction. */
static double burst_us(struct mvcc *db, const struct burst *burst, bool whole)
{
	double us = 0;

	for (unsigned i = 0; i < BURST; i++) {
		struct mvcc_txn *txn;
		int64_t start = bench_now_ns();

		must(mvcc_txn_begin(db, &txn), "begin");
		must(mvcc_txn_put(txn, slice_of(burst->keys[i].bytes, KEY_BYTES),
				  slice_of(burst->values[i].bytes, VALUE_BYTES), NULL, 0),
		     "put");
		if (!whole)
			start = bench_now_ns();
		must(mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, NULL), "commit");
		us += bench_since_us(start);
	}
	must(mvcc_sync(db, MVCC_REV_LATEST), "sync");
	return us / BURST;
}

static double raw_burst_us(struct raw *raw, const struct burst *burst)
{
	int64_t start = bench_now_ns();
	double us;

	for (unsigned i = 0; i < BURST; i++)
		raw_put(raw, slice_of(burst->keys[i].bytes, KEY_BYTES),
			slice_of(burst->values[i].bytes, VALUE_BYTES), false);
	us = bench_since_us(start) / BURST;
	raw_sync(raw);
	return us;
}

/* What one caller waits for, while the ring has room. */
static void caller_side(struct bench *b, const char *row, const char *title, bool whole)
{
	struct burst *burst;
	struct path ours, theirs;
	struct mvcc *db;
	struct raw *raw;
	uint64_t seed = 1;

	if (!bench_row(b, row, "us", title))
		return;
	burst = calloc(1, sizeof(*burst));
	must_hold(burst, "memory");
	ours = bench_path(b, "ours");
	theirs = bench_path(b, "raw");
	db = store_open(ours.name);
	raw = raw_open(theirs.name);
	for (unsigned round = 0; round < b->rounds; round++) {
		for (unsigned i = 0; i < BURST; i++) {
			key_of(&burst->keys[i], random_next(&seed));
			value_of(&burst->values[i], i, round, VALUE_BYTES);
		}
		bench_figure(b, round, "ours", burst_us(db, burst, whole));
		bench_figure(b, round, "raw", raw_burst_us(raw, burst));
	}
	must_hold(mvcc_current(db) == MVCC_REV_FIRST + (mvcc_rev_t)b->rounds * BURST,
		  "a revision for each commit");
	free(burst);
	store_close(db);
	raw_close(raw);
	bench_remove(ours.name);
	bench_remove(theirs.name);
}

void part_put(struct bench *b)
{
	const uint64_t ops = bench_scaled(b, 200000, 1000);
	const struct workload workloads[] = {
		{ "put.random", "put, 64 B of each, random keys, to the disk (StorePut)", ops, 0, VALUE_BYTES,
		  false },
		{ "put.txn", "the same, read before and with a story (StoreTxnPut)", ops, 0, VALUE_BYTES,
		  true },
		{ "put.update", "put of 1 KiB to one key (StorePutUpdate)", ops / 4, 1, BIG_VALUE, false },
		{ "put.hot", "put to 100 hot keys, to the disk", ops, HOT_KEYS, VALUE_BYTES, false },
	};

	caller_side(b, "put.commit", "commit of one put, ring with room", false);
	caller_side(b, "put.caller", "begin, put and commit, ring with room", true);
	for (size_t i = 0; i < sizeof(workloads) / sizeof(workloads[0]); i++)
		sustained(b, &workloads[i]);
}

/* ---- commits that wait for the disk ----------------------------------------------------------- */

struct writer {
	struct mvcc *db;
	struct raw *raw; /* one of the two is NULL */
	uint64_t seed, ops;
};

static void *write_durably(void *arg)
{
	struct writer *w = arg;

	for (uint64_t i = 0; i < w->ops; i++) {
		struct key k;
		struct value v;
		uint64_t n = random_next(&w->seed);
		struct slice key = key_of(&k, n), value = value_of(&v, n, i, VALUE_BYTES);

		if (w->db) {
			store_put(w->db, key, value);
			must(mvcc_sync(w->db, MVCC_REV_LATEST), "sync");
		} else {
			raw_put(w->raw, key, value, true);
		}
	}
	return NULL;
}

static double durable_us(struct mvcc *db, struct raw *raw, unsigned threads, uint64_t ops, unsigned round)
{
	struct writer writers[THREADS_MAX];
	pthread_t ids[THREADS_MAX];
	int64_t start = bench_now_ns();

	for (unsigned i = 0; i < threads; i++) {
		writers[i] = (struct writer){ db, raw, round * THREADS_MAX + i, ops / threads };
		must_hold(pthread_create(&ids[i], NULL, write_durably, &writers[i]) == 0, "a thread");
	}
	for (unsigned i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	return bench_since_us(start) / (double)(threads * writers[0].ops);
}

static void durable(struct bench *b, const char *row, const char *title, unsigned threads, uint64_t ops)
{
	struct path ours, theirs;
	struct mvcc *db;
	struct raw *raw;

	if (!bench_row(b, row, "us", title))
		return;
	ours = bench_path(b, "ours");
	theirs = bench_path(b, "raw");
	db = store_open(ours.name);
	raw = raw_open(theirs.name);
	ops = bench_scaled(b, ops, threads * 10);
	for (unsigned round = 0; round < b->rounds; round++) {
		struct mvcc_stats stats;

		bench_figure(b, round, "ours", durable_us(db, NULL, threads, ops, round));
		mvcc_stats(db, &stats);
		must_hold(stats.synced == stats.current, "all on disk");
		bench_figure(b, round, "raw", durable_us(NULL, raw, threads, ops, round));
	}
	store_close(db);
	raw_close(raw);
	bench_remove(ours.name);
	bench_remove(theirs.name);
}

void part_durable(struct bench *b)
{
	durable(b, "durable.1", "commit and sync, 1 thread", 1, 2000);
	durable(b, "durable.16", "commit and sync, 16 threads, each", 16, 16000);
	durable(b, "durable.64", "commit and sync, 64 threads, each", 64, 32000);
}
