/*
 * Watches: from a put until every watcher of its key has the event, for each watcher; a writer with a watcher
 * that follows it, event by event; and a watcher far behind who catches up from the log. RocksDB has nothing to
 * compare with but the writer's puts.
 */
#include "bench/mvcc_bench.h"

#include "mvcc/watch.h"

#include <pthread.h>
#include <stdlib.h>

#define WATCHERS 1000

static struct mvcc_watch *watch_open(struct mvcc *db, mvcc_rev_t from)
{
	const struct mvcc_watch_options opt = { .from = from };
	struct mvcc_watch *watch;

	must(mvcc_watch_open(db, &opt, &watch), "watch");
	return watch;
}

/* Takes the next revision, which has `events` changes. */
static void take_revision(struct mvcc_watch *watch, mvcc_rev_t rev, unsigned events)
{
	const struct mvcc_entry *entry;
	struct mvcc_event event;

	must_hold(mvcc_watch_next(watch, -1, &entry) == 1 && entry->rev == rev,
		  "the next revision of a watch");
	for (unsigned i = 0; i < events; i++)
		must_hold(mvcc_watch_event(watch, &event) == 1 && !event.deleted &&
				  event.item->value.len == VALUE_BYTES,
			  "an event");
	must_hold(mvcc_watch_event(watch, &event) == 0, "the end of events");
}

static void all_told(struct bench *b)
{
	struct mvcc_watch *watches[WATCHERS];
	struct path ours;
	struct mvcc *db;
	struct key k;
	struct value v;

	if (!bench_row(b, "watch.each", "us", "a put told to 1,000 watchers, each (WatchPutSync)"))
		return;
	ours = bench_path(b, "ours");
	db = store_open(ours.name);
	for (unsigned i = 0; i < WATCHERS; i++)
		watches[i] = watch_open(db, MVCC_REV_LATEST);
	for (unsigned round = 0; round < b->rounds; round++) {
		int64_t start = bench_now_ns();

		store_put(db, key_of(&k, 1), value_of(&v, 1, round, VALUE_BYTES));
		for (unsigned i = 0; i < WATCHERS; i++)
			take_revision(watches[i], MVCC_REV_FIRST + 1 + round, 1);
		bench_figure(b, round, "ours", bench_since_us(start) / WATCHERS);
	}
	for (unsigned i = 0; i < WATCHERS; i++)
		mvcc_watch_close(watches[i]);
	store_close(db);
	bench_remove(ours.name);
}

struct follower {
	struct mvcc_watch *watch;
	mvcc_rev_t from, to;
};

static void *follow(void *arg)
{
	struct follower *f = arg;

	for (mvcc_rev_t rev = f->from; rev <= f->to; rev++)
		take_revision(f->watch, rev, 1);
	return NULL;
}

/* The writer's puts while one watcher follows; up to the last event. */
static void followed(struct bench *b)
{
	const uint64_t ops = bench_scaled(b, 100000, 1000);
	struct path ours, theirs;
	struct mvcc *db;
	struct raw *raw;

	if (!bench_row(b, "watch.follow", "us", "put with a watcher that follows"))
		return;
	ours = bench_path(b, "ours");
	theirs = bench_path(b, "raw");
	db = store_open(ours.name);
	raw = raw_open(theirs.name);
	for (unsigned round = 0; round < b->rounds; round++) {
		mvcc_rev_t first = mvcc_current(db) + 1;
		struct follower f = { watch_open(db, first), first, first + ops - 1 };
		uint64_t seed = round;
		int64_t start = bench_now_ns();
		struct key k;
		struct value v;
		pthread_t id;

		must_hold(pthread_create(&id, NULL, follow, &f) == 0, "a thread");
		for (uint64_t i = 0; i < ops; i++)
			store_put(db, key_of(&k, random_next(&seed)), value_of(&v, i, round, VALUE_BYTES));
		pthread_join(id, NULL);
		bench_figure(b, round, "ours", bench_since_us(start) / (double)ops);
		mvcc_watch_close(f.watch);
		start = bench_now_ns();
		seed = round;
		for (uint64_t i = 0; i < ops; i++)
			raw_put(raw, key_of(&k, random_next(&seed)), value_of(&v, i, round, VALUE_BYTES),
				false);
		bench_figure(b, round, "raw", bench_since_us(start) / (double)ops);
	}
	store_close(db);
	raw_close(raw);
	bench_remove(ours.name);
	bench_remove(theirs.name);
}

static void caught_up(struct bench *b)
{
	const uint64_t ops = bench_scaled(b, 200000, 1000);
	struct path ours;
	struct mvcc *db;
	struct key k;
	struct value v;

	if (!bench_row(b, "watch.behind", "us", "catching up, each revision (WatchPutUnsync)"))
		return;
	ours = bench_path(b, "ours");
	db = store_open(ours.name);
	for (uint64_t i = 0; i < ops; i++)
		store_put(db, key_of(&k, i % 1000), value_of(&v, i, 1, VALUE_BYTES));
	for (unsigned round = 0; round < b->rounds; round++) {
		int64_t start = bench_now_ns();
		struct follower f = { watch_open(db, MVCC_REV_FIRST + 1), MVCC_REV_FIRST + 1,
				      MVCC_REV_FIRST + ops };

		follow(&f);
		bench_figure(b, round, "ours", bench_since_us(start) / (double)ops);
		mvcc_watch_close(f.watch);
	}
	store_close(db);
	bench_remove(ours.name);
}

void part_watch(struct bench *b)
{
	all_told(b);
	followed(b);
	caught_up(b);
}
