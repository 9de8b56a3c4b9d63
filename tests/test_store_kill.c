/*
 * kill -9 of a process that writes, on RocksDB, again and again over the same database.
 *
 * The program runs itself as the victim: threads that commit small transactions, blobs, transactions larger
 * than the ring and intents, and tell each success through a pipe, after the commit had returned. The
 * parent kills at a random moment, opening included, then opens the database itself: everything told is
 * there under the revision told, every writer's commits are a prefix of what it did, no transaction is
 * torn, nothing staged is left. KILL_ROUNDS and KILL_SEED choose other than 30 rounds and the clock.
 */
#include "tests/store_fixture.h"

#include "rocks_backend/rocks.h"
#include "tests/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

enum { WRITERS = 3, GROUP = 4, BIG_ROWS = 300, BIG_BYTES = 1000 };

/* What a victim tells. Smaller than PIPE_BUF, so each write() is whole. */
enum told { TOLD_OPEN, TOLD_COMMIT, TOLD_INTENT };

struct message {
	uint32_t told;
	uint32_t writer;
	uint64_t step;   /* of that writer, from 1 on */
	uint64_t number; /* the revision, or the intent */
};

/* ---- what a step writes -------------------------------------------------------------------- */

static bool step_is_big(uint64_t step)
{
	return step % 61 == 0;
}

static size_t step_blob_len(uint64_t step)
{
	return step % 7 == 3 ? (size_t)(1 + step * 7919 % 90000) : 0;
}

static bool step_has_intent(uint64_t step)
{
	return step % 5 == 0;
}

static void fill(uint8_t *out, size_t len, unsigned writer, uint64_t step)
{
	uint64_t state = step * WRITERS + writer + 1;

	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t)random_next(&state);
}

/* All values of a step are its number; what is longer goes on with bytes of its own. */
static void value_fill(uint8_t *out, size_t len, unsigned writer, uint64_t step)
{
	fill(out, len, writer, step);
	put_le64(out, step);
}

/* ---- the victim ---------------------------------------------------------------------------- */

struct writer {
	struct mvcc *db;
	unsigned id;
	uint64_t step; /* done */
	int out;
};

static void tell(int fd, struct message m)
{
	if (write(fd, &m, sizeof(m)) != (ssize_t)sizeof(m))
		_exit(4);
}

static int put_step(struct writer *w, struct mvcc_txn *txn, uint64_t step, uint64_t intent)
{
	static _Thread_local uint8_t bytes[90000];
	size_t blob_len = step_blob_len(step);
	mvcc_blob_t blob = 0;
	char key[32];
	int err = 0;

	if (blob_len) {
		fill(bytes, blob_len, w->id, step);
		err = mvcc_txn_stage_blob(txn, slice_of(bytes, blob_len), &blob);
	}
	for (unsigned i = 0; i < GROUP && !err; i++) {
		snprintf(key, sizeof(key), "%u/group/%u", i, w->id);
		value_fill(bytes, 8, w->id, step);
		err = mvcc_txn_put(txn, str(key), slice_of(bytes, 8), &blob, i == 0 && blob_len);
	}
	for (unsigned i = 0; i < BIG_ROWS && step_is_big(step) && !err; i++) {
		snprintf(key, sizeof(key), "big/%u/%u", w->id, i);
		value_fill(bytes, BIG_BYTES, w->id, step);
		err = mvcc_txn_put(txn, str(key), slice_of(bytes, BIG_BYTES), NULL, 0);
	}
	if (!err && intent) {
		put_le64(bytes, intent);
		snprintf(key, sizeof(key), "settled/%u", w->id);
		err = mvcc_txn_put(txn, str(key), slice_of(bytes, 8), NULL, 0);
		if (!err)
			err = mvcc_txn_settle(txn, intent);
	}
	return err;
}

static void *write_until_killed(void *arg)
{
	struct writer *w = arg;

	for (uint64_t step = w->step + 1;; step++) {
		char text[24];
		struct mvcc_story story = { .pid = w->id, .op = "step", .message = text };
		struct mvcc_txn *txn;
		uint64_t intent = 0;
		mvcc_rev_t rev = 0;

		snprintf(text, sizeof(text), "%" PRIu64, step);
		if (step_has_intent(step)) {
			if (mvcc_intent_put(w->db, slice_of(&w->id, sizeof(w->id)), &intent))
				_exit(5);
			tell(w->out, (struct message){ TOLD_INTENT, w->id, step, intent });
		}
		if (mvcc_txn_begin(w->db, &txn) || put_step(w, txn, step, intent) ||
		    mvcc_txn_commit(txn, &story, MVCC_COMMIT_WAIT, &rev))
			_exit(6);
		tell(w->out, (struct message){ TOLD_COMMIT, w->id, step, rev });
		if (step % 100 == 0 && mvcc_sync(w->db, rev))
			_exit(7);
	}
	return NULL;
}

static uint64_t newest_step(struct mvcc *db, unsigned writer)
{
	struct mvcc_item item = { 0 };
	struct mvcc_view *view = NULL;
	uint64_t step = 0;
	char key[32];

	snprintf(key, sizeof(key), "0/group/%u", writer);
	if (mvcc_view_open(db, MVCC_REV_LATEST, &view))
		return UINT64_MAX;
	if (mvcc_get(view, str(key), &item) == 0) {
		step = item.value.len == 8 ? get_le64(item.value.data) : UINT64_MAX;
		mvcc_item_release(&item);
	}
	mvcc_view_close(view);
	return step;
}

struct intent_list {
	uint64_t ids[16];
	unsigned n;
};

static int list_intent(void *arg, uint64_t intent, struct slice payload)
{
	struct intent_list *list = arg;

	(void)payload;
	if (list->n < 16)
		list->ids[list->n] = intent;
	list->n++;
	return 0;
}

static int be_the_victim(const char *dir, int out)
{
	static struct rocks_options rocks = { .cache_bytes = (size_t)8 << 20 };
	struct mvcc_options opt = {
		.dir = dir,
		.create = true,
		.ring_bytes = (size_t)256 << 10,
		.sync_ms = 20,
		.holder = "the victim",
	};
	struct writer writers[WRITERS];
	struct intent_list intents = { .n = 0 };
	struct mvcc *db;

	opt.engine = rocks_provider(&rocks);
	if (mvcc_open(&opt, &db))
		return 3;
	/* what an earlier life left unsettled has been looked at by the parent */
	if (mvcc_intents(db, list_intent, &intents))
		return 3;
	for (unsigned i = 0; i < intents.n && i < 16; i++)
		if (mvcc_intent_drop(db, intents.ids[i]))
			return 3;
	tell(out, (struct message){ .told = TOLD_OPEN });
	for (unsigned i = 0; i < WRITERS; i++) {
		pthread_t thread;

		writers[i] = (struct writer){ .db = db, .id = i, .step = newest_step(db, i), .out = out };
		if (pthread_create(&thread, NULL, write_until_killed, &writers[i]))
			return 3;
	}
	for (;;)
		pause();
}

/* ---- the parent ---------------------------------------------------------------------------- */

struct told_by {
	uint64_t step; /* the last commit told in this round */
	mvcc_rev_t rev;
	uint64_t intent, intent_step; /* the last intent */
	uint64_t first_step;
	mvcc_rev_t *revs; /* of first_step, first_step + 1, ... */
	size_t n, cap;
};

struct round {
	struct told_by by[WRITERS];
	bool opened;
	unsigned errors;
};

static void round_take(struct round *r, const struct message *m)
{
	struct told_by *by = &r->by[m->writer % WRITERS];

	if (m->told == TOLD_OPEN) {
		r->opened = true;
	} else if (m->told == TOLD_INTENT) {
		by->intent = m->number;
		by->intent_step = m->step;
	} else {
		if (by->n == by->cap) {
			by->cap = by->cap ? 2 * by->cap : 1024;
			by->revs = realloc(by->revs, by->cap * sizeof(by->revs[0]));
			if (!by->revs)
				abort();
		}
		if (!by->n)
			by->first_step = m->step;
		r->errors += m->step != by->first_step + by->n;
		by->revs[by->n++] = m->number;
		by->step = m->step;
		by->rev = m->number;
	}
}

/* Reads what is told for `ms` from the start, or from when it is open; then kills, then reads the rest. */
static void run_victim(struct round *r, const char *dir, unsigned ms, bool from_open)
{
	struct timespec start, now;
	struct message m;
	char fd_text[16];
	int fds[2], status = 0;
	pid_t pid;

	CU_ASSERT_EQUAL_FATAL(pipe(fds), 0);
	snprintf(fd_text, sizeof(fd_text), "%d", fds[1]);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(fds[0]);
		execl("/proc/self/exe", "victim", "--victim", dir, fd_text, (char *)NULL);
		_exit(2);
	}
	close(fds[1]);
	CU_ASSERT_FATAL(pid > 0);
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (;;) {
		struct pollfd p = { .fd = fds[0], .events = POLLIN };
		bool was_open = r->opened;
		long left = -1;

		clock_gettime(CLOCK_MONOTONIC, &now);
		if (r->opened || !from_open) {
			left = (long)ms - (now.tv_sec - start.tv_sec) * 1000 -
			       (now.tv_nsec - start.tv_nsec) / 1000000;
			if (left <= 0)
				break;
		}
		if (poll(&p, 1, (int)left) != 1)
			continue;
		if (read(fds[0], &m, sizeof(m)) != (ssize_t)sizeof(m))
			break;
		round_take(r, &m);
		if (from_open && r->opened && !was_open)
			clock_gettime(CLOCK_MONOTONIC, &start);
	}
	kill(pid, SIGKILL);
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	if (WIFEXITED(status))
		fprintf(stderr, "\nthe victim ended by itself: %d\n", WEXITSTATUS(status));
	while (read(fds[0], &m, sizeof(m)) == (ssize_t)sizeof(m))
		round_take(r, &m);
	close(fds[0]);
}

/* What the parent knows of the history it has verified. */
struct known {
	mvcc_rev_t rev;
	uint64_t steps[WRITERS];
	size_t blobs;
};

static bool value_is_step(struct mvcc_view *view, const char *key, uint64_t step, unsigned writer, size_t len)
{
	struct mvcc_item item = { 0 };
	uint8_t expected[BIG_BYTES];
	bool same;
	int err = mvcc_get(view, str(key), &item);

	if (!step)
		return err == -ENOENT;
	if (err)
		return false;
	value_fill(expected, len, writer, step);
	same = slice_eq(item.value, slice_of(expected, len));
	mvcc_item_release(&item);
	return same;
}

static bool blob_is_step(struct mvcc *db, struct mvcc_view *view, uint64_t step, unsigned writer)
{
	static uint8_t expected[90001], got[90001];
	struct mvcc_item item = { 0 };
	size_t len = step_blob_len(step);
	char key[32];
	bool same;

	snprintf(key, sizeof(key), "0/group/%u", writer);
	if (mvcc_get(view, str(key), &item))
		return false;
	same = item.nblobs == (len ? 1 : 0);
	if (same && len) {
		fill(expected, len, writer, step);
		same = mvcc_blob_read(db, item.blobs[0], 0, got, sizeof(got)) == (ssize_t)len &&
		       memcmp(got, expected, len) == 0;
	}
	mvcc_item_release(&item);
	return same;
}

/* At `rev`, writers stand at `steps`: every key of theirs says so. */
static unsigned state_errors(struct mvcc *db, mvcc_rev_t rev, const uint64_t steps[WRITERS])
{
	struct mvcc_view *view = NULL;
	unsigned errors = 0;
	char key[32];

	if (mvcc_view_open(db, rev, &view))
		return 1;
	for (unsigned w = 0; w < WRITERS; w++) {
		uint64_t big = steps[w] / 61 * 61;

		for (unsigned i = 0; i < GROUP; i++) {
			snprintf(key, sizeof(key), "%u/group/%u", i, w);
			errors += !value_is_step(view, key, steps[w], w, 8);
		}
		for (unsigned i = 0; i < BIG_ROWS; i += 23) {
			snprintf(key, sizeof(key), "big/%u/%u", w, i);
			errors += !value_is_step(view, key, big, w, BIG_BYTES);
		}
		if (steps[w])
			errors += !blob_is_step(db, view, steps[w], w);
	}
	mvcc_view_close(view);
	return errors;
}

static unsigned log_errors(struct round *r, struct mvcc *db, struct known *known, uint64_t *state)
{
	const struct mvcc_entry *entry;
	struct mvcc_log *log = NULL;
	unsigned errors = 0;

	if (known->rev == mvcc_current(db))
		return 0;
	if (mvcc_log_open(db, known->rev + 1, MVCC_REV_LATEST, &log))
		return 1;
	while (mvcc_log_next(log, &entry) == 1) {
		unsigned w = entry->story.pid % WRITERS;
		uint64_t step = strtoull(entry->story.message, NULL, 10);
		struct told_by *by = &r->by[w];

		errors += entry->rev != known->rev + 1 || step != known->steps[w] + 1;
		if (by->n && step >= by->first_step && step < by->first_step + by->n)
			errors += by->revs[step - by->first_step] != entry->rev;
		known->rev = entry->rev;
		known->steps[w] = step;
		known->blobs += step_blob_len(step) != 0;
		if (random_below(state, 50) == 0 || step_is_big(step))
			errors += state_errors(db, entry->rev, known->steps);
	}
	mvcc_log_close(log);
	return errors + (known->rev != mvcc_current(db));
}

/* The last intent of each writer is unsettled, or the commit that settles it is there. */
static unsigned intent_errors(struct round *r, struct mvcc *db, const struct known *known)
{
	struct intent_list list = { .n = 0 };
	unsigned errors = 0, expected = 0;

	if (mvcc_intents(db, list_intent, &list))
		return 1;
	for (unsigned w = 0; w < WRITERS; w++) {
		bool listed = false, settled = known->steps[w] >= r->by[w].intent_step;

		if (!r->by[w].intent)
			continue;
		for (unsigned i = 0; i < list.n && i < 16; i++)
			listed |= list.ids[i] == r->by[w].intent;
		expected += listed;
		errors += listed == settled;
	}
	/* one more of each may be there that was put, and died untold */
	return errors + (list.n > expected + WRITERS);
}

static void test_a_killed_process_loses_nothing_it_had_been_told(void)
{
	uint64_t seed = fixture_env("KILL_SEED", (uint64_t)time(NULL)), state = seed;
	uint64_t rounds = fixture_env("KILL_ROUNDS", 30);
	static struct rocks_options rocks = { .cache_bytes = (size_t)8 << 20 };
	struct engine_provider provider = rocks_provider(&rocks);
	struct known known = { .rev = MVCC_REV_FIRST };
	unsigned opened = 0;
	struct fixture *fx;

	printf("seed %" PRIu64 " ", seed);
	fixture_use(&provider);
	fx = fixture_new();
	fx->opt.ring_bytes = (size_t)256 << 10;
	for (uint64_t i = 0; i < rounds; i++) {
		struct round r = { .errors = 0 };
		unsigned errors;

		run_victim(&r, fx->dir, (unsigned)random_below(&state, i % 3 ? 300 : 100), i % 3 != 0);
		opened += r.opened;
		CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
		errors = log_errors(&r, fx->db, &known, &state);
		for (unsigned w = 0; w < WRITERS; w++) {
			errors += known.steps[w] < r.by[w].step || newest_step(fx->db, w) != known.steps[w];
			free(r.by[w].revs);
		}
		errors += state_errors(fx->db, MVCC_REV_LATEST, known.steps);
		if (i % 5 == 4 || i + 1 == rounds) /* it reads everything, and the history grows */
			errors += verify_problems(fx->db);
		if (r.opened)
			errors += intent_errors(&r, fx->db, &known);
		if (fixture_rows_of(fx, "stage", "") || fixture_rows(fx, ENGINE_USE_BLOB) != known.blobs) {
			fprintf(stderr, "\n%zu staged rows, %zu blobs of %zu\n",
				fixture_rows_of(fx, "stage", ""), fixture_rows(fx, ENGINE_USE_BLOB),
				known.blobs);
			errors++;
		}
		if (errors || r.errors)
			fprintf(stderr, "\nround %" PRIu64 ": %u errors, %u in what was told\n", i, errors,
				r.errors);
		CU_ASSERT_EQUAL(errors, 0);
		CU_ASSERT_EQUAL(r.errors, 0);
		CU_ASSERT_EQUAL(mvcc_close(fx->db), 0);
		fx->db = NULL;
		if (errors)
			break;
	}
	CU_ASSERT(opened >= rounds / 3 * 2);
	CU_ASSERT(known.rev > MVCC_REV_FIRST);
	printf("%" PRIu64 " revisions ", known.rev);
	fixture_use(NULL);
	fixture_close(fx);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_a_killed_process_loses_nothing_it_had_been_told),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("kill", NULL, NULL, tests), CU_SUITE_INFO_NULL };

	if (argc == 4 && strcmp(argv[1], "--victim") == 0)
		return be_the_victim(argv[2], atoi(argv[3]));
	return unit_main(argc, argv, suites);
}
