/*
 * kill -9 of a process that grants, renews and revokes leases, on RocksDB, again and again over the same
 * database. The program runs itself as the victim and tells each success through a pipe, after the call had
 * returned. The parent kills at a random moment and opens the database itself: what was told holds, no lease
 * has ended by half, and the rows are right. KILL_ROUNDS and KILL_SEED choose other than 12 rounds and the
 * clock.
 */
#include "mvcc/lease.h"
#include "tests/store_fixture.h"

#include "rocks_backend/rocks.h"
#include "tests/lease_check.h"
#include "tests/unit.h"

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

enum { WRITERS = 2, KEYS = 3, MANY_KEYS = 200, LIVES = 3 };

#define HOUR_MS ((uint64_t)3600 * 1000)

/* What a victim tells. Smaller than PIPE_BUF, so each write() is whole. */
enum told { TOLD_OPEN, TOLD_GRANT, TOLD_PUT, TOLD_RENEW, TOLD_REVOKE };

struct message {
	uint32_t told;
	uint32_t writer;
	uint64_t step;
	int64_t deadline_ms; /* of a renewed lease: at least this */
};

static mvcc_lease_t step_lease(unsigned writer, uint64_t step)
{
	return (mvcc_lease_t)(writer + 1) << 32 | step;
}

/* Some steps attach more keys than a transaction holds in memory. */
static unsigned step_keys(uint64_t step)
{
	return step % 16 == 0 ? MANY_KEYS : KEYS;
}

/* ---- the victim ---------------------------------------------------------------------------- */

static _Atomic int64_t skew_ms; /* each renewal comes a second later */

static int64_t skewed_ns(void *arg)
{
	struct timespec ts;

	(void)arg;
	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec + skew_ms * 1000000;
}

struct writer {
	struct mvcc *db;
	unsigned id;
	uint64_t step; /* done */
	int out;
};

static void tell(const struct writer *w, enum told told, uint64_t step, int64_t deadline_ms)
{
	struct message m = { told, w->id, step, deadline_ms };

	if (write(w->out, &m, sizeof(m)) != (ssize_t)sizeof(m))
		_exit(4);
}

static int put_keys(struct writer *w, uint64_t step)
{
	static const uint8_t zeros[200];
	struct mvcc_put put = { .value = slice_of(zeros, sizeof(zeros)), .lease = step_lease(w->id, step) };
	struct mvcc_txn *txn;
	char key[40];
	int err = mvcc_txn_begin(w->db, &txn);

	if (err)
		return err;
	for (unsigned i = 0; i < step_keys(step) && !err; i++) {
		snprintf(key, sizeof(key), "%u/%" PRIu64 "/%u", w->id, step, i);
		put.key = str(key);
		err = mvcc_txn_put_with(txn, &put);
	}
	return err ? err : mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, NULL);
}

static void *lease_until_killed(void *arg)
{
	struct writer *w = arg;

	for (uint64_t step = w->step + 1;; step++) {
		mvcc_lease_t id = step_lease(w->id, step), out;
		int64_t deadline_ms;

		if (mvcc_lease_grant(w->db, id, HOUR_MS, &out))
			_exit(5);
		tell(w, TOLD_GRANT, step, 0);
		if (put_keys(w, step))
			_exit(6);
		tell(w, TOLD_PUT, step, 0);
		skew_ms += 1000;
		deadline_ms = skewed_ns(NULL) / 1000000 + (int64_t)HOUR_MS;
		if (mvcc_lease_renew(w->db, id, NULL))
			_exit(7);
		tell(w, TOLD_RENEW, step, deadline_ms);
		if (step > w->step + LIVES) {
			if (mvcc_lease_revoke(w->db, step_lease(w->id, step - LIVES), NULL, NULL))
				_exit(8);
			tell(w, TOLD_REVOKE, step - LIVES, 0);
		}
	}
	return NULL;
}

static int newest_step(void *arg, const struct mvcc_lease *lease)
{
	struct writer *writers = arg;
	unsigned writer = (unsigned)(lease->id >> 32) - 1;
	uint64_t step = lease->id & UINT32_MAX;

	if (writer >= WRITERS)
		return 1;
	if (step > writers[writer].step)
		writers[writer].step = step;
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
		.clock = skewed_ns,
		.holder = "the victim",
	};
	struct writer writers[WRITERS] = { { .out = out } };
	struct mvcc *db;

	opt.engine = rocks_provider(&rocks);
	if (mvcc_open(&opt, &db) || mvcc_leases(db, newest_step, writers))
		return 3;
	tell(&writers[0], TOLD_OPEN, 0, 0);
	for (unsigned i = 0; i < WRITERS; i++) {
		pthread_t thread;

		writers[i].db = db;
		writers[i].id = i;
		writers[i].out = out;
		if (pthread_create(&thread, NULL, lease_until_killed, &writers[i]))
			return 3;
	}
	for (;;)
		pause();
}

/* ---- the parent ---------------------------------------------------------------------------- */

/* What one writer told in this round: steps first to last, of which those up to `revoked` have ended. */
struct told_by {
	uint64_t first, granted, put, renewed, revoked;
	int64_t deadline_ms; /* of the one renewed last */
};

struct round {
	struct told_by by[WRITERS];
	bool opened;
};

static void round_take(struct round *r, const struct message *m)
{
	struct told_by *by = &r->by[m->writer % WRITERS];

	switch (m->told) {
	case TOLD_OPEN:
		r->opened = true;
		break;
	case TOLD_GRANT:
		if (!by->first)
			by->first = m->step;
		by->granted = m->step;
		break;
	case TOLD_PUT:
		by->put = m->step;
		break;
	case TOLD_RENEW:
		by->renewed = m->step;
		by->deadline_ms = m->deadline_ms;
		break;
	default:
		by->revoked = m->step;
	}
}

static int ms_left(const struct timespec *since, unsigned ms)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int)ms -
	       (int)((now.tv_sec - since->tv_sec) * 1000 + (now.tv_nsec - since->tv_nsec) / 1000000);
}

/* Kills the victim `ms` after it is open, and takes all it told. */
static void run_victim(struct round *r, const char *dir, unsigned ms)
{
	struct timespec began;
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
	clock_gettime(CLOCK_MONOTONIC, &began);
	while (ms_left(&began, r->opened ? ms : 60000) > 0) {
		struct pollfd p = { .fd = fds[0], .events = POLLIN };
		bool was_open = r->opened;

		if (poll(&p, 1, ms_left(&began, r->opened ? ms : 60000)) != 1)
			continue;
		if (read(fds[0], &m, sizeof(m)) != (ssize_t)sizeof(m))
			break;
		round_take(r, &m);
		if (r->opened && !was_open)
			clock_gettime(CLOCK_MONOTONIC, &began);
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

static unsigned keys_of(struct mvcc *db, unsigned writer, uint64_t step)
{
	const struct mvcc_item *item;
	struct mvcc_cursor *c = NULL;
	struct mvcc_view *view;
	struct slice key;
	char start[40], end[40];
	unsigned n = 0;

	snprintf(start, sizeof(start), "%u/%" PRIu64 "/", writer, step);
	snprintf(end, sizeof(end), "%u/%" PRIu64 "0", writer, step); /* '0' comes after '/' */
	if (mvcc_view_open(db, MVCC_REV_LATEST, &view))
		return UINT32_MAX;
	if (mvcc_cursor_open(view, str(start), str(end), &c) == 0)
		while (mvcc_cursor_next(c, &key, &item) == 1)
			n += item->lease == step_lease(writer, step);
	mvcc_cursor_close(c);
	mvcc_view_close(view);
	return n;
}

static const char *judge(struct mvcc *db, unsigned writer, const struct told_by *by)
{
	for (uint64_t step = by->first; by->first && step <= by->granted; step++) {
		bool maybe_revoked = step == by->revoked + 1 || (!by->revoked && step == by->first);
		mvcc_lease_t id = step_lease(writer, step);
		unsigned keys = keys_of(db, writer, step);
		struct mvcc_lease lease;
		bool there = mvcc_lease_get(db, id, &lease) == 0;

		if (step <= by->revoked && (there || keys))
			return "a lease that was revoked is there, or a key of it";
		if (step > by->revoked && !there && !maybe_revoked)
			return "a lease that was granted is gone";
		if (keys && keys != step_keys(step))
			return "some keys of a lease are there, others are not";
		if (step > by->revoked && step <= by->put && !keys && !maybe_revoked)
			return "keys that were put are gone";
		if (step == by->renewed && there && lease_row_deadline(db, id) < by->deadline_ms)
			return "a lease that was renewed is as before";
	}
	return NULL;
}

static void test_a_killed_process_keeps_what_it_told_of_leases(void)
{
	uint64_t seed = fixture_env("KILL_SEED", (uint64_t)time(NULL)), state = seed, revoked = 0;
	uint64_t rounds = fixture_env("KILL_ROUNDS", 12);
	static struct rocks_options rocks = { .cache_bytes = (size_t)8 << 20 };
	struct engine_provider provider = rocks_provider(&rocks);
	struct fixture *fx;

	printf("seed %" PRIu64 " ", seed);
	fixture_use(&provider);
	fx = fixture_new();
	fx->opt.ring_bytes = (size_t)256 << 10;
	fx->opt.manual_upkeep = true;
	for (uint64_t i = 0; i < rounds; i++) {
		struct round r = { .opened = false };
		const char *wrong = NULL;

		run_victim(&r, fx->dir, 20 + (unsigned)random_below(&state, 150));
		CU_ASSERT(r.opened);
		CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
		wrong = lease_check(fx->db);
		for (unsigned w = 0; w < WRITERS && !wrong; w++) {
			wrong = judge(fx->db, w, &r.by[w]);
			revoked += r.by[w].revoked != 0;
		}
		if (!wrong && fixture_rows(fx, ENGINE_USE_STAGE))
			wrong = "something staged is left";
		if (wrong)
			fprintf(stderr, "\nround %" PRIu64 ": %s\n", i, wrong);
		CU_ASSERT_PTR_NULL(wrong);
		CU_ASSERT_EQUAL(mvcc_close(fx->db), 0);
		fx->db = NULL;
		if (wrong)
			break;
	}
	CU_ASSERT(revoked > 0);
	fixture_use(NULL);
	fixture_close(fx);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_a_killed_process_keeps_what_it_told_of_leases),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("kill and leases", NULL, NULL, tests), CU_SUITE_INFO_NULL };

	if (argc == 4 && strcmp(argv[1], "--victim") == 0)
		return be_the_victim(argv[2], atoi(argv[3]));
	return unit_main(argc, argv, suites);
}
