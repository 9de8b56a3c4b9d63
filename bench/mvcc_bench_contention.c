/*
 * What a commit and a get take when nothing else goes on, and what they take while everything does: a reader walks
 * slowly through one view, the versions of a million puts are compacted, a watcher half a million revisions behind
 * catches up, and a checkpoint is made. Commits and gets come at a steady rate, as in a store that is used and not
 * at its limit; how long each took is sorted, nothing is averaged away.
 *
 * The busy time ends with the last of these, so that all of it is busy.
 */
#include "bench/mvcc_bench.h"

#include "mvcc/check.h"
#include "mvcc/keep.h"
#include "mvcc/watch.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define KEYS 100000
#define SUPERSEDED_VERSIONS 10 /* of each key, so a million in all */
#define BEHIND 500000
#define QUIET_MS 5000
#define INTERVAL_NS 500000 /* 2,000 commits and 2,000 gets a second */
#define SLOW_READ_NS 100000
#define LATENCIES_MAX 4000000

struct contention {
	struct bench *b;
	struct mvcc *db;
	uint64_t keys, behind;
	mvcc_rev_t compact_to, watch_from, watch_to;
	atomic_bool stop; /* of commits, gets and the slow reader */
};

/* ---- latencies -------------------------------------------------------------------------------- */

struct latencies {
	struct contention *c;
	uint64_t seed;
	float *us;
	size_t n;
};

static void sleep_until(struct timespec *t, long ns)
{
	t->tv_nsec += ns;
	if (t->tv_nsec >= 1000000000) {
		t->tv_nsec -= 1000000000;
		t->tv_sec++;
	}
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, t, NULL);
}

static void one_commit(struct contention *c, uint64_t i)
{
	struct key k;
	struct value v;

	store_put(c->db, key_of(&k, i % c->keys), value_of(&v, i, 0, VALUE_BYTES));
}

static void one_get(struct contention *c, uint64_t i)
{
	struct mvcc_item item = { 0 };
	struct mvcc_view *view;
	struct key k;

	must(mvcc_view_open(c->db, MVCC_REV_LATEST, &view), "view");
	must(mvcc_get(view, key_of(&k, i % c->keys), &item), "get");
	must_hold(item.value.len == VALUE_BYTES, "the length of a value");
	mvcc_item_release(&item);
	mvcc_view_close(view);
}

static void measure(struct latencies *l, void (*one)(struct contention *c, uint64_t i))
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	while (!atomic_load(&l->c->stop) && l->n < LATENCIES_MAX) {
		int64_t start;

		sleep_until(&t, INTERVAL_NS);
		start = bench_now_ns();
		one(l->c, random_next(&l->seed));
		l->us[l->n++] = (float)bench_since_us(start);
	}
}

static void *measure_commits(void *arg)
{
	measure(arg, one_commit);
	return NULL;
}

static void *measure_gets(void *arg)
{
	measure(arg, one_get);
	return NULL;
}

static int by_size(const void *a, const void *b)
{
	const float *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static double quantile(const struct latencies *l, double q)
{
	return (double)l->us[(size_t)(q * (double)(l->n - 1))];
}

/* ---- what goes on meanwhile ------------------------------------------------------------------- */

/* A view opened before all else and read to the end, slowly, over and over: it must not change. */
static void *read_slowly(void *arg)
{
	struct contention *c = arg;
	struct timespec t;
	struct mvcc_view *view;

	must(mvcc_view_open(c->db, c->watch_to, &view), "view");
	clock_gettime(CLOCK_MONOTONIC, &t);
	while (!atomic_load(&c->stop)) {
		struct mvcc_cursor *cursor;
		const struct mvcc_item *item;
		struct slice key;
		uint64_t n = 0;
		int got = 1;

		must(mvcc_cursor_open(view, slice_of(NULL, 0), slice_of(NULL, 0), &cursor), "cursor");
		while (!atomic_load(&c->stop) && (got = mvcc_cursor_next(cursor, &key, &item)) == 1) {
			must_hold(item->mod_rev <= c->watch_to, "a row of an open view");
			n++;
			sleep_until(&t, SLOW_READ_NS);
		}
		must_hold(got == 1 || (got == 0 && n == c->keys), "the rows of an open view");
		mvcc_cursor_close(cursor);
	}
	mvcc_view_close(view);
	return NULL;
}

static void *compact(void *arg)
{
	struct contention *c = arg;

	must(mvcc_compact(c->db, c->compact_to), "compact");
	must(mvcc_compact_wait(c->db), "compaction");
	return NULL;
}

static void *catch_up(void *arg)
{
	struct contention *c = arg;
	const struct mvcc_watch_options opt = { .from = c->watch_from };
	const struct mvcc_entry *entry;
	struct mvcc_watch *watch;
	struct mvcc_event event;

	must(mvcc_watch_open(c->db, &opt, &watch), "watch");
	for (mvcc_rev_t rev = c->watch_from; rev <= c->watch_to; rev++) {
		must_hold(mvcc_watch_next(watch, -1, &entry) == 1 && entry->rev == rev,
			  "the next revision of a watch");
		must_hold(mvcc_watch_event(watch, &event) == 1, "an event");
	}
	mvcc_watch_close(watch);
	return NULL;
}

static void *copy(void *arg)
{
	struct contention *c = arg;
	struct path path = bench_path(c->b, "copy");
	mvcc_rev_t rev;

	must(mvcc_checkpoint(c->db, path.name, &rev), "checkpoint");
	must_hold(rev >= c->watch_to, "the revision of a checkpoint");
	bench_remove(path.name);
	return NULL;
}

/* ---- both times -------------------------------------------------------------------------------- */

static void figures(struct bench *b, const char *side, struct latencies *l, const char *what)
{
	static const struct {
		const char *name;
		double q;
	} quantiles[] = { { "p50", 0.5 }, { "p99", 0.99 }, { "p99.9", 0.999 }, { "max", 1 } };

	must_hold(l->n > 0, "something measured");
	qsort(l->us, l->n, sizeof(*l->us), by_size);
	for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
		char row[64], title[64];

		snprintf(row, sizeof(row), "contention.%s_%s", what, quantiles[i].name);
		snprintf(title, sizeof(title), "%s, %s", what, quantiles[i].name);
		if (bench_row(b, row, "us", title))
			bench_figure(b, 0, side, quantile(l, quantiles[i].q));
	}
}

/* Until the last of the tasks has ended. */
static void be_busy(struct contention *c)
{
	static void *(*const tasks[])(void *) = { compact, catch_up, copy };
	pthread_t reader, ids[3];

	must_hold(pthread_create(&reader, NULL, read_slowly, c) == 0, "a thread");
	for (unsigned i = 0; i < 3; i++)
		must_hold(pthread_create(&ids[i], NULL, tasks[i], c) == 0, "a thread");
	for (unsigned i = 0; i < 3; i++)
		pthread_join(ids[i], NULL);
	atomic_store(&c->stop, true);
	pthread_join(reader, NULL);
}

static void be_quiet(struct contention *c)
{
	const struct timespec quiet = { QUIET_MS / 1000, QUIET_MS % 1000 * 1000000L };

	nanosleep(&quiet, NULL);
	atomic_store(&c->stop, true);
}

static void one_time(struct contention *c, const char *side, void (*meanwhile)(struct contention *c))
{
	struct latencies commits = { .c = c, .seed = 1 }, gets = { .c = c, .seed = 2 };
	pthread_t committer, getter;

	commits.us = calloc(LATENCIES_MAX, sizeof(*commits.us));
	gets.us = calloc(LATENCIES_MAX, sizeof(*gets.us));
	must_hold(commits.us && gets.us, "memory");
	atomic_store(&c->stop, false);
	must_hold(pthread_create(&committer, NULL, measure_commits, &commits) == 0, "a thread");
	must_hold(pthread_create(&getter, NULL, measure_gets, &gets) == 0, "a thread");
	meanwhile(c);
	pthread_join(committer, NULL);
	pthread_join(getter, NULL);
	figures(c->b, side, &commits, "commit");
	figures(c->b, side, &gets, "get");
	free(commits.us);
	free(gets.us);
}

void part_contention(struct bench *b)
{
	struct contention c = { .b = b,
				.keys = bench_scaled(b, KEYS, 1000),
				.behind = bench_scaled(b, BEHIND, 1000) };
	struct path ours = bench_path(b, "ours");

	c.db = store_open(ours.name);
	for (uint64_t v = 0; v <= SUPERSEDED_VERSIONS; v++)
		c.compact_to = store_load(c.db, c.keys, v);
	c.watch_from = c.compact_to + 1;
	for (uint64_t i = 0; i < c.behind; i++)
		one_commit(&c, i);
	c.watch_to = mvcc_current(c.db);
	must(mvcc_sync(c.db, MVCC_REV_LATEST), "sync");
	one_time(&c, "quiet", be_quiet);
	one_time(&c, "busy", be_busy);
	store_close(c.db);
	bench_remove(ours.name);
}
