/*
 * Readers never see half a transaction, and old revisions never change, while writers write as fast as they
 * can. Four writers give all keys of a group the same number, or remove them all, in one transaction; the
 * keys of a group lie far apart, one group is larger than the ring. Four readers verify by single gets, by
 * ranges and by cursors, at the newest revision and at old ones; what a revision showed once it must show
 * whenever it is read again. ISOLATION_SECONDS chooses how long: 5, or 30 with MVCCFS_LONG=1.
 */
#include "tests/store_fixture.h"

#include "rocks_backend/rocks.h"
#include "tests/unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum { WRITERS = 4, READERS = 4, GROUPS = 6, MEMBERS = 8, BIG_ROWS = 300, BIG_BYTES = 1000, SEEN = 1 << 14 };

struct shared {
	struct mvcc *db;
	atomic_bool stop;
	atomic_uint errors;
	atomic_ulong commits, reads;
	_Atomic uint64_t next_number;
	_Atomic uint64_t seen[SEEN]; /* what a revision showed, by its number; 0 is not seen yet */
};

struct thread {
	struct shared *shared;
	unsigned id;
	pthread_t thread;
};

static void group_key(char key[32], unsigned member, unsigned group)
{
	snprintf(key, 32, "m%u/group%u", member, group);
}

static void big_key(char key[32], unsigned row)
{
	snprintf(key, 32, "n/big%04u", row);
}

/* ---- writers ------------------------------------------------------------------------------- */

static int put_group(struct mvcc_txn *txn, unsigned group, uint64_t number, bool remove)
{
	uint8_t raw[8];
	char key[32];
	int err = 0;

	put_le64(raw, number);
	for (unsigned i = 0; i < MEMBERS && !err; i++) {
		group_key(key, (i + (unsigned)number) % MEMBERS, group);
		err = remove ? mvcc_txn_del(txn, str(key)) :
			       mvcc_txn_put(txn, str(key), slice_of(raw, sizeof(raw)), NULL, 0);
	}
	return err;
}

static int put_big(struct mvcc_txn *txn, uint64_t number)
{
	uint8_t bytes[BIG_BYTES] = { 0 };
	char key[32];
	int err = 0;

	put_le64(bytes, number);
	for (unsigned i = 0; i < BIG_ROWS && !err; i++) {
		big_key(key, i);
		err = mvcc_txn_put(txn, str(key), slice_of(bytes, sizeof(bytes)), NULL, 0);
	}
	return err;
}

static int write_once(struct shared *s, unsigned id, uint64_t *state)
{
	uint64_t number = atomic_fetch_add(&s->next_number, 1);
	struct mvcc_txn *txn;
	int err = mvcc_txn_begin(s->db, &txn);

	if (err)
		return err;
	if (id == 0 && random_below(state, 40) == 0) {
		err = put_big(txn, number);
	} else {
		unsigned group = (unsigned)random_below(state, GROUPS);
		bool validated = random_below(state, 4) == 0;
		struct mvcc_item item = { 0 };
		char key[32];

		if (validated) { /* a reading transaction may be refused, and then leaves nothing */
			group_key(key, 0, group);
			err = mvcc_txn_get(txn, str(key), &item);
			mvcc_item_release(&item);
			err = err == -ENOENT ? 0 : err;
		}
		if (!err)
			err = put_group(txn, group, number, random_below(state, 6) == 0);
		if (!err && random_below(state, 4) == 0) /* two groups at once */
			err = put_group(txn, (group + 1) % GROUPS, number, false);
	}
	if (err || random_below(state, 20) == 0) {
		mvcc_txn_abort(txn);
		return err;
	}
	err = mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, NULL);
	return err == MVCC_ECONFLICT ? 0 : err;
}

static void *write_busily(void *arg)
{
	struct thread *t = arg;
	uint64_t state = t->id + 1;

	while (!atomic_load(&t->shared->stop)) {
		if (write_once(t->shared, t->id, &state)) {
			atomic_fetch_add(&t->shared->errors, 1);
			break;
		}
		atomic_fetch_add(&t->shared->commits, 1);
	}
	return NULL;
}

/* ---- readers ------------------------------------------------------------------------------- */

/* One number for a group by gets: 0 when it is absent, UINT64_MAX when it is torn. */
static uint64_t group_by_gets(struct mvcc_view *view, unsigned group)
{
	uint64_t number = UINT64_MAX;
	char key[32];

	for (unsigned i = 0; i < MEMBERS; i++) {
		struct mvcc_item item = { 0 };
		uint64_t n;
		int err;

		group_key(key, i, group);
		err = mvcc_get(view, str(key), &item);
		if (err && err != -ENOENT)
			return UINT64_MAX;
		n = !err && item.value.len == 8 ? get_le64(item.value.data) : 0;
		mvcc_item_release(&item);
		if (i && n != number)
			return UINT64_MAX;
		number = n;
	}
	return number;
}

/* The numbers of all groups by one walk; the last is the big one's. False when one is torn. */
struct walk {
	uint64_t number[GROUPS + 1];
	unsigned n[GROUPS + 1];
};

static bool walk_row(struct walk *w, struct slice key, struct slice value)
{
	unsigned member, group = GROUPS;
	char text[32];

	if (key.len >= sizeof(text) || value.len < 8)
		return false;
	memcpy(text, key.data, key.len);
	text[key.len] = 0;
	if (text[0] == 'm' && (sscanf(text, "m%u/group%u", &member, &group) != 2 || group >= GROUPS))
		return false;
	if (w->n[group]++ == 0)
		w->number[group] = get_le64(value.data);
	return w->number[group] == get_le64(value.data);
}

static bool walk_whole(const struct walk *w)
{
	for (unsigned i = 0; i < GROUPS; i++)
		if (w->n[i] != 0 && w->n[i] != MEMBERS)
			return false;
	return w->n[GROUPS] == 0 || w->n[GROUPS] == BIG_ROWS;
}

static bool walk_by_range(struct mvcc_view *view, struct walk *w)
{
	struct mvcc_rows rows = { 0 };
	bool good = true;

	if (mvcc_range(view, str(""), str(""), NULL, &rows))
		return false;
	for (size_t i = 0; i < rows.n && good; i++)
		good = walk_row(w, slice_buf(&rows.rows[i].key), rows.rows[i].item.value);
	mvcc_rows_release(&rows);
	return good && walk_whole(w);
}

static bool walk_by_cursor(struct mvcc_view *view, struct walk *w)
{
	const struct mvcc_item *item;
	struct mvcc_cursor *c;
	struct slice key;
	bool good = true;
	int got = 0;

	if (mvcc_cursor_open(view, str(""), str(""), &c))
		return false;
	while (good && (got = mvcc_cursor_next(c, &key, &item)) == 1)
		good = walk_row(w, key, item->value);
	mvcc_cursor_close(c);
	return good && got == 0 && walk_whole(w);
}

/* One number that stands for all of a revision; never 0. */
static uint64_t digest(const struct walk *w)
{
	uint64_t d = 1;

	for (unsigned i = 0; i <= GROUPS; i++)
		d = d * 0x9e3779b97f4a7c15u + (w->n[i] ? w->number[i] + 1 : 0);
	return d ? d : 1;
}

static bool same_as_seen(struct shared *s, mvcc_rev_t rev, uint64_t d)
{
	uint64_t unseen = 0;

	return rev >= SEEN || atomic_compare_exchange_strong(&s->seen[rev], &unseen, d) || unseen == d;
}

static bool view_is_whole(struct shared *s, struct mvcc_view *view, uint64_t *state)
{
	struct walk w = { .n = { 0 } };

	if (random_below(state, 3)) {
		for (unsigned i = 0; i < GROUPS; i++)
			if (group_by_gets(view, i) == UINT64_MAX)
				return false;
		return true;
	}
	if (!(random_below(state, 2) ? walk_by_range(view, &w) : walk_by_cursor(view, &w)))
		return false;
	for (unsigned i = 0; i < GROUPS; i++)
		if (group_by_gets(view, i) != (w.n[i] ? w.number[i] : 0))
			return false;
	return same_as_seen(s, mvcc_view_rev(view), digest(&w));
}

static void *read_busily(void *arg)
{
	struct thread *t = arg;
	struct shared *s = t->shared;
	uint64_t state = t->id + 100;
	mvcc_rev_t last = 0;

	while (!atomic_load(&s->stop)) {
		mvcc_rev_t current = mvcc_current(s->db), rev = MVCC_REV_LATEST;
		struct mvcc_view *view;
		bool good;

		if (random_below(&state, 2)) { /* mostly recent: still on their way to the engine */
			uint64_t back = random_below(&state, 4) && current > 50 ? 50 : current;

			rev = current - random_below(&state, back);
		}
		if (mvcc_view_open(s->db, rev, &view)) {
			atomic_fetch_add(&s->errors, 1);
			break;
		}
		good = view_is_whole(s, view, &state);
		if (rev == MVCC_REV_LATEST) {
			good = good && mvcc_view_rev(view) >= last && mvcc_view_rev(view) >= current;
			last = mvcc_view_rev(view);
		}
		if (good && random_below(&state, 20) == 0) /* a view that lives long */
			for (int i = 0; i < 20 && good; i++)
				good = view_is_whole(s, view, &state);
		mvcc_view_close(view);
		if (!good)
			atomic_fetch_add(&s->errors, 1);
		atomic_fetch_add(&s->reads, 1);
	}
	return NULL;
}

/* -------------------------------------------------------------------------------------------- */

static void start(struct thread *threads, unsigned n, struct shared *s, void *(*work)(void *arg))
{
	for (unsigned i = 0; i < n; i++) {
		threads[i] = (struct thread){ .shared = s, .id = i };
		if (pthread_create(&threads[i].thread, NULL, work, &threads[i]))
			abort();
	}
}

static void join(struct thread *threads, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i].thread, NULL);
}

static unsigned errors_of_history(struct shared *s)
{
	mvcc_rev_t current = mvcc_current(s->db);
	uint64_t state = 5;
	unsigned errors = 0;

	for (int i = 0; i < 300; i++) {
		struct walk w = { .n = { 0 } };
		struct mvcc_view *view;
		mvcc_rev_t rev = 1 + random_below(&state, i % 2 && current > SEEN ? SEEN : current);

		if (mvcc_view_open(s->db, rev, &view)) {
			errors++;
			continue;
		}
		errors += !walk_by_cursor(view, &w) || !same_as_seen(s, rev, digest(&w));
		mvcc_view_close(view);
	}
	return errors;
}

static void test_readers_never_see_half_a_transaction(void)
{
	uint64_t seconds = fixture_env("ISOLATION_SECONDS", fixture_env("MVCCFS_LONG", 0) ? 30 : 5);
	struct fixture *fx = fixture_open_small_ring();
	struct shared *s = calloc(1, sizeof(*s));
	struct thread writers[WRITERS], readers[READERS];
	struct timespec until, now;

	CU_ASSERT_PTR_NOT_NULL_FATAL(s);
	s->db = fx->db;
	atomic_store(&s->next_number, 1);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)seconds;
	start(writers, WRITERS, s, write_busily);
	start(readers, READERS, s, read_busily);
	do {
		nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (atomic_load(&s->errors) == 0 &&
		 (now.tv_sec < until.tv_sec || (now.tv_sec == until.tv_sec && now.tv_nsec < until.tv_nsec)));
	atomic_store(&s->stop, true);
	join(writers, WRITERS);
	join(readers, READERS);
	CU_ASSERT_EQUAL(atomic_load(&s->errors), 0);
	CU_ASSERT(atomic_load(&s->commits) > 0);
	CU_ASSERT(atomic_load(&s->reads) > 0);
	printf("%lu transactions, %lu views ", atomic_load(&s->commits), atomic_load(&s->reads));
	CU_ASSERT_EQUAL(errors_of_history(s), 0);
	fixture_reopen(fx);
	s->db = fx->db;
	CU_ASSERT_EQUAL(errors_of_history(s), 0);
	free(s);
	fixture_close(fx);
}

static void on_memory(void)
{
	fixture_use(NULL);
}

static void on_rocks(void)
{
	static struct rocks_options options = { .cache_bytes = (size_t)8 << 20 };
	static struct engine_provider provider;

	provider = rocks_provider(&options);
	fixture_use(&provider);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_readers_never_see_half_a_transaction),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = {
		UNIT_SUITE("isolation on memory", on_memory, NULL, tests),
		UNIT_SUITE("isolation on rocksdb", on_rocks, NULL, tests),
		CU_SUITE_INFO_NULL,
	};

	return unit_main(argc, argv, suites);
}
