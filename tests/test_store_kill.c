/*
 * kill -9 of a process that writes, on RocksDB, again and again over the same database.
 *
 * The program runs itself as the victim: threads that commit small transactions, blobs, transactions larger
 * than the ring and intents, and tell each success through a pipe, after the commit had returned. The
 * parent kills at a random moment, opening included, then opens the database itself: everything told is
 * there under the revision told, every writer's commits are a prefix of what it did, no transaction is
 * torn, nothing staged is left.
 *
 * A second victim is busier: beside its writers it raises the floor, pins and renames, ends leases and makes
 * checkpoints. Each of these threads tells what it is about to do, and that it is done; what was under way
 * when it died has happened or has not, and all else is as it was told. KILL_ROUNDS and KILL_SEED choose other
 * than 16 and 10 rounds, and the clock.
 */
#include "mvcc/keep.h"
#include "mvcc/lease.h"
#include "rocks_backend/rocks.h"
#include "tests/store_fixture.h"
#include "tests/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

enum { WRITERS = 3, GROUP = 4, BIG_ROWS = 300, BIG_BYTES = 1000, PINS = 6, LEASE_KEYS = 3 };

/* What a victim tells. Smaller than PIPE_BUF, so each write() is whole. */
enum told { TOLD_OPEN, TOLD_COMMIT, TOLD_INTENT, TOLD_DOING, TOLD_DONE };

struct message {
	uint32_t told;
	uint32_t writer; /* of DOING and DONE: which busy thread */
	uint64_t step;   /* of that writer, from 1 on */
	uint64_t number; /* the revision, or the intent; of DOING and DONE what the deed is about */
	struct deed {
		uint32_t kind, from, to; /* names of pins */
		struct mvcc_hash hash;   /* of the revision pinned */
	} deed;
};

/* What busy threads do. */
enum { KEEPER, LEASER, COPIER, BUSY };
enum { DEED_COMPACT, DEED_PIN, DEED_UNPIN, DEED_RENAME, DEED_LEASE, DEED_REVOKE, DEED_COPY };

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
			tell(w->out,
			     (struct message){
				     .told = TOLD_INTENT, .writer = w->id, .step = step, .number = intent });
		}
		if (mvcc_txn_begin(w->db, &txn) || put_step(w, txn, step, intent) ||
		    mvcc_txn_commit(txn, &story, MVCC_COMMIT_WAIT, &rev))
			_exit(6);
		tell(w->out,
		     (struct message){ .told = TOLD_COMMIT, .writer = w->id, .step = step, .number = rev });
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

/* ---- the busy victim ----------------------------------------------------------------------- */

struct busy {
	struct mvcc *db;
	const char *dir;
	mvcc_rev_t limit; /* the floor stays below: the parent knows what is up to here */
	uint64_t random;
	int out;
};

/* Tells of the deed before and after; ends the process if it fails. */
static void do_deed(struct busy *b, uint32_t thread, struct deed deed, uint64_t number,
		    int (*fn)(struct busy *b, const struct deed *deed, uint64_t *number))
{
	struct message m = { .told = TOLD_DOING, .writer = thread, .number = number, .deed = deed };

	tell(b->out, m);
	if (fn(b, &deed, &m.number))
		_exit(8);
	m.told = TOLD_DONE;
	tell(b->out, m);
}

static const char *pin_name(uint32_t at, char out[16])
{
	snprintf(out, 16, "pin-%u", at);
	return out;
}

static int keep_deed(struct busy *b, const struct deed *deed, uint64_t *number)
{
	char from[16], to[16];

	pin_name(deed->from, from);
	switch (deed->kind) {
	case DEED_COMPACT:
		return mvcc_compact(b->db, *number);
	case DEED_PIN:
		return mvcc_pin(b->db, from, *number);
	case DEED_UNPIN:
		return mvcc_unpin(b->db, from);
	default:
		return mvcc_pin_rename(b->db, from, pin_name(deed->to, to));
	}
}

static int hash_at(struct mvcc *db, mvcc_rev_t rev, struct mvcc_hash *out)
{
	struct mvcc_view *view;
	int err = mvcc_view_open(db, rev, &view);

	if (err)
		return err;
	err = mvcc_hash(view, out);
	mvcc_view_close(view);
	return err;
}

static int take_pin(void *arg, const struct mvcc_pin *pin)
{
	mvcc_rev_t *pins = arg;
	unsigned long at = strtoul(pin->name + 4, NULL, 10);

	if (at >= PINS)
		return 1;
	pins[at] = pin->rev;
	return 0;
}

static void keep_once(struct busy *b, mvcc_rev_t pins[PINS])
{
	mvcc_rev_t floor = mvcc_floor(b->db),
		   rev = floor + random_below(&b->random, mvcc_current(b->db) - floor + 1);
	static const uint32_t often[] = { DEED_COMPACT, DEED_PIN,    DEED_UNPIN,
					  DEED_RENAME,  DEED_RENAME, DEED_RENAME };
	struct deed deed = { .kind = often[random_below(&b->random, sizeof(often) / sizeof(often[0]))] };

	deed.from = (uint32_t)random_below(&b->random, PINS);
	deed.to = (uint32_t)random_below(&b->random, PINS);
	switch (deed.kind) {
	case DEED_COMPACT:
		if (floor < b->limit)
			do_deed(b, KEEPER, deed,
				floor + 1 + random_below(&b->random, (b->limit - floor + 3) / 4), keep_deed);
		break;
	case DEED_PIN:
		if (pins[deed.from])
			break;
		if (hash_at(b->db, rev, &deed.hash))
			_exit(9);
		do_deed(b, KEEPER, deed, rev, keep_deed);
		pins[deed.from] = rev;
		break;
	case DEED_UNPIN:
		if (!pins[deed.from])
			break;
		do_deed(b, KEEPER, deed, 0, keep_deed);
		pins[deed.from] = 0;
		break;
	default:
		if (!pins[deed.from] || pins[deed.to])
			break;
		do_deed(b, KEEPER, deed, 0, keep_deed);
		pins[deed.to] = pins[deed.from];
		pins[deed.from] = 0;
	}
}

static void *keep_until_killed(void *arg)
{
	struct busy *b = arg;
	mvcc_rev_t pins[PINS] = { 0 };

	if (mvcc_pins(b->db, take_pin, pins))
		_exit(9);
	for (;;) {
		keep_once(b, pins);
		if (random_below(&b->random, 100) == 0)
			mvcc_compact_wait(b->db); /* or it is still at work when it dies */
	}
	return NULL;
}

static int lease_deed(struct busy *b, const struct deed *deed, uint64_t *number)
{
	struct mvcc_story story = { .op = "lease" };
	struct mvcc_put put = { .value = str("x"), .lease = *number };
	struct mvcc_txn *txn;
	mvcc_lease_t got;
	char key[32];
	int err;

	if (deed->kind == DEED_REVOKE)
		return mvcc_lease_revoke(b->db, *number, &story, NULL);
	err = mvcc_lease_grant(b->db, *number, 3600 * 1000, &got);
	if (!err)
		err = mvcc_txn_begin(b->db, &txn);
	for (unsigned i = 0; i < LEASE_KEYS && !err; i++) {
		snprintf(key, sizeof(key), "lease/%" PRIu64 "/%u", *number, i);
		put.key = str(key);
		err = mvcc_txn_put_with(txn, &put);
	}
	return err ? err : mvcc_txn_commit(txn, &story, MVCC_COMMIT_WAIT, NULL);
}

static int newest_lease(void *arg, const struct mvcc_lease *lease)
{
	*(mvcc_lease_t *)arg = lease->id;
	return 0;
}

/* Two leases live at a time, and the one before them ends. */
static void *lease_until_killed(void *arg)
{
	struct busy *b = arg;
	mvcc_lease_t first = 0;

	if (mvcc_leases(b->db, newest_lease, &first))
		_exit(9);
	first++;
	for (mvcc_lease_t id = first;; id++) {
		do_deed(b, LEASER, (struct deed){ .kind = DEED_LEASE }, id, lease_deed);
		if (id >= first + 2)
			do_deed(b, LEASER, (struct deed){ .kind = DEED_REVOKE }, id - 2, lease_deed);
	}
	return NULL;
}

static void copy_dir(const char *dir, uint32_t at, char out[320])
{
	snprintf(out, 320, "%s.copy-%u", dir, at);
}

static int copy_deed(struct busy *b, const struct deed *deed, uint64_t *number)
{
	char dir[320];

	copy_dir(b->dir, deed->from, dir);
	return mvcc_checkpoint(b->db, dir, number);
}

static void *copy_until_killed(void *arg)
{
	struct busy *b = arg;

	for (uint32_t at = 0;; at++)
		do_deed(b, COPIER, (struct deed){ .kind = DEED_COPY, .from = at }, 0, copy_deed);
	return NULL;
}

static int start_busy(struct mvcc *db, const char *dir, int out)
{
	static void *(*const fns[BUSY])(void *) = { keep_until_killed, lease_until_killed,
						    copy_until_killed };
	static struct busy busy[BUSY];
	pthread_t thread;
	int err = 0;

	for (unsigned i = 0; i < BUSY && !err; i++) {
		busy[i] = (struct busy){ .db = db,
					 .dir = dir,
					 .limit = mvcc_current(db),
					 .random = mvcc_current(db) + i,
					 .out = out };
		err = pthread_create(&thread, NULL, fns[i], &busy[i]);
	}
	return err;
}

static int be_the_victim(const char *dir, int out, bool is_busy)
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
	if (is_busy && start_busy(db, dir, out))
		return 3;
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

/* What a busy thread told last. */
struct told_of {
	struct message doing; /* it was under way, unless `done` */
	bool any, done;
	uint32_t copies;                      /* made */
	mvcc_rev_t copied;                    /* the revision of the last one */
	mvcc_lease_t first, granted, revoked; /* of this round; 0: none */
};

struct kept {
	mvcc_rev_t floor;
	struct {
		mvcc_rev_t rev; /* 0: none of that name */
		struct mvcc_hash hash;
	} pins[PINS];
};

struct round {
	struct told_by by[WRITERS];
	struct told_of of[BUSY];
	struct kept *kept;
	bool opened;
	unsigned errors;
};

/* What the keeper did, done to what is known. */
static void kept_take(struct kept *k, const struct message *m)
{
	const struct deed *d = &m->deed;

	switch (d->kind) {
	case DEED_COMPACT:
		k->floor = m->number;
		break;
	case DEED_PIN:
		k->pins[d->from].rev = m->number;
		k->pins[d->from].hash = d->hash;
		break;
	case DEED_UNPIN:
		k->pins[d->from].rev = 0;
		break;
	default:
		k->pins[d->to] = k->pins[d->from];
		k->pins[d->from].rev = 0;
	}
}

static void take_deed(struct round *r, const struct message *m)
{
	struct told_of *of = &r->of[m->writer % BUSY];

	of->any = true;
	of->done = m->told == TOLD_DONE;
	if (!of->done) {
		of->doing = *m;
		return;
	}
	switch (m->deed.kind) {
	case DEED_LEASE:
		if (!of->first)
			of->first = m->number;
		of->granted = m->number;
		break;
	case DEED_REVOKE:
		of->revoked = m->number;
		break;
	case DEED_COPY:
		of->copies++;
		of->copied = m->number;
		break;
	default:
		kept_take(r->kept, m);
	}
}

static void round_take(struct round *r, const struct message *m)
{
	struct told_by *by = &r->by[m->writer % WRITERS];

	if (m->told >= TOLD_DOING) {
		take_deed(r, m);
		return;
	}
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
static void run_victim(struct round *r, const char *kind, const char *dir, unsigned ms, bool from_open)
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
		execl("/proc/self/exe", "victim", kind, dir, fd_text, (char *)NULL);
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

		errors += entry->rev != known->rev + 1;
		known->rev = entry->rev;
		if (strcmp(entry->story.op, "lease") == 0)
			continue;
		errors += step != known->steps[w] + 1;
		if (by->n && step >= by->first_step && step < by->first_step + by->n)
			errors += by->revs[step - by->first_step] != entry->rev;
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

/* ---- what the busy threads left ------------------------------------------------------------ */

static unsigned told_wrong(const char *what)
{
	fprintf(stderr, "\n%s\n", what);
	return 1;
}

static bool kept_is(struct mvcc *db, const struct kept *k)
{
	mvcc_rev_t pins[PINS] = { 0 };

	if (mvcc_pins(db, take_pin, pins) || mvcc_floor(db) != k->floor)
		return false;
	for (unsigned i = 0; i < PINS; i++)
		if (pins[i] != k->pins[i].rev)
			return false;
	return true;
}

/* Floor and pins are as told, what was under way done or not; each pinned revision is what it was. */
static unsigned kept_errors(struct mvcc *db, struct round *r)
{
	const struct told_of *of = &r->of[KEEPER];
	struct kept after = *r->kept;
	unsigned errors = 0;

	if (of->any && !of->done) {
		kept_take(&after, &of->doing);
		if (kept_is(db, &after))
			*r->kept = after;
	}
	if (!kept_is(db, r->kept))
		return told_wrong("the floor or the pins are others");
	for (unsigned i = 0; i < PINS; i++) {
		const struct mvcc_hash *told = &r->kept->pins[i].hash;
		struct mvcc_hash hash;

		if (r->kept->pins[i].rev &&
		    (hash_at(db, r->kept->pins[i].rev, &hash) || hash.hi != told->hi || hash.lo != told->lo))
			errors += told_wrong("a pinned revision is not what it was");
	}
	return errors;
}

/* How many keys of a lease there are. */
static unsigned lease_keys(struct mvcc *db, mvcc_lease_t id)
{
	char start[32], end[32];
	struct mvcc_rows rows = { 0 };
	struct mvcc_view *view;
	unsigned n = 0;

	snprintf(start, sizeof(start), "lease/%" PRIu64 "/", id);
	snprintf(end, sizeof(end), "lease/%" PRIu64 "0", id);
	if (mvcc_view_open(db, MVCC_REV_LATEST, &view))
		return UINT32_MAX;
	if (mvcc_range(view, str(start), str(end), NULL, &rows))
		n = UINT32_MAX;
	for (size_t i = 0; i < rows.n; i++)
		n += rows.rows[i].item.lease == id;
	mvcc_rows_release(&rows);
	mvcc_view_close(view);
	return n;
}

static unsigned lease_errors(struct mvcc *db, const struct round *r)
{
	const struct told_of *of = &r->of[LEASER];
	mvcc_lease_t under_way = of->done ? 0 : of->doing.number;
	unsigned errors = 0;

	for (mvcc_lease_t id = of->first; of->any && id && id <= of->granted + 1; id++) {
		unsigned keys = lease_keys(db, id);
		struct mvcc_lease lease;
		bool there = mvcc_lease_get(db, id, &lease) == 0;

		if (id == under_way)
			errors += keys != 0 && (keys != LEASE_KEYS || !there);
		else if (id <= of->revoked || id > of->granted)
			errors += keys != 0 || there;
		else
			errors += keys != LEASE_KEYS || !there;
	}
	return errors ? told_wrong("the keys of a lease") : 0;
}

/* A copy is a whole store, of a revision from told ones on. */
static unsigned copy_errors(const struct fixture *fx, uint32_t at, mvcc_rev_t rev)
{
	struct mvcc_options opt = fx->opt;
	struct mvcc *copy = NULL;
	char dir[320];
	unsigned errors = 0;

	copy_dir(fx->dir, at, dir);
	opt.dir = dir;
	opt.create = false;
	if (mvcc_open(&opt, &copy))
		return told_wrong("a copy does not open");
	if (rev && mvcc_current(copy) != rev)
		errors = told_wrong("a copy is of another revision than was told");
	errors += verify_problems(copy);
	return errors + (mvcc_close(copy) != 0);
}

/* The last copy told is sound; the one under way is sound or nowhere; nothing else is known of copies. */
static unsigned copies_errors(struct fixture *fx, const struct round *r)
{
	const struct told_of *of = &r->of[COPIER];
	unsigned errors = 0;
	char dir[320];

	if (of->copies)
		errors += copy_errors(fx, of->copies - 1, of->copied);
	copy_dir(fx->dir, of->copies, dir);
	if (access(dir, F_OK) == 0)
		errors += copy_errors(fx, of->copies, 0);
	if (fixture_rows_of(fx, "meta", "checkpoint/"))
		errors += told_wrong("a checkpoint that was begun is still known");
	for (uint32_t i = 0; i <= of->copies; i++) {
		copy_dir(fx->dir, i, dir);
		fixture_rmdir(dir);
	}
	return errors;
}

/* What was left of compactions is done, and all fits together before and after. */
static unsigned busy_errors(struct fixture *fx, struct round *r)
{
	unsigned errors = kept_errors(fx->db, r) + lease_errors(fx->db, r) + copies_errors(fx, r);

	errors += verify_problems(fx->db);
	if (mvcc_compact_wait(fx->db))
		errors += told_wrong("what is left of compactions cannot be done");
	return errors + verify_problems(fx->db) +
	       (kept_is(fx->db, r->kept) ? 0 : told_wrong("the floor moved"));
}

/* ---- rounds -------------------------------------------------------------------------------- */

/* One kill, and what is there afterwards. */
static unsigned judge(struct fixture *fx, struct round *r, struct known *known, uint64_t *state)
{
	unsigned errors = log_errors(r, fx->db, known, state);

	for (unsigned w = 0; w < WRITERS; w++)
		errors += known->steps[w] < r->by[w].step || newest_step(fx->db, w) != known->steps[w];
	errors += state_errors(fx->db, MVCC_REV_LATEST, known->steps);
	if (r->opened)
		errors += intent_errors(r, fx->db, known);
	if (fixture_rows_of(fx, "stage", ""))
		errors += told_wrong("staged rows are left");
	return errors;
}

static unsigned blob_errors(struct fixture *fx, const struct known *known)
{
	if (fixture_rows(fx, ENGINE_USE_BLOB) == known->blobs)
		return 0;
	fprintf(stderr, "\n%zu blobs of %zu\n", fixture_rows(fx, ENGINE_USE_BLOB), known->blobs);
	return 1;
}

static void kill_rounds(bool is_busy, uint64_t rounds)
{
	uint64_t seed = fixture_env("KILL_SEED", (uint64_t)time(NULL)), state = seed;
	static struct rocks_options rocks = { .cache_bytes = (size_t)8 << 20 };
	struct engine_provider provider = rocks_provider(&rocks);
	struct known known = { .rev = MVCC_REV_FIRST };
	struct kept kept = { .floor = MVCC_REV_FIRST };
	unsigned opened = 0, errors = 0;
	struct fixture *fx;

	printf("seed %" PRIu64 " ", seed);
	fixture_use(&provider);
	fx = fixture_new();
	fx->opt.ring_bytes = (size_t)256 << 10;
	fx->opt.manual_upkeep = true;
	for (uint64_t i = 0; i < rounds && !errors; i++) {
		struct round r = { .kept = &kept };

		run_victim(&r, is_busy ? "--busy" : "--victim", fx->dir,
			   (unsigned)random_below(&state, i % 3 ? 300 : 100), i % 3 != 0);
		opened += r.opened;
		CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
		errors = judge(fx, &r, &known, &state);
		if (is_busy)
			errors += busy_errors(fx, &r);
		else
			errors += blob_errors(fx, &known);
		if (!is_busy &&
		    (i % 5 == 4 || i + 1 == rounds)) /* it reads everything, and the history grows */
			errors += verify_problems(fx->db);
		for (unsigned w = 0; w < WRITERS; w++)
			free(r.by[w].revs);
		if (errors || r.errors)
			fprintf(stderr, "\nround %" PRIu64 ": %u errors, %u in what was told\n", i, errors,
				r.errors);
		CU_ASSERT_EQUAL(errors, 0);
		CU_ASSERT_EQUAL(r.errors, 0);
		CU_ASSERT_EQUAL(mvcc_close(fx->db), 0);
		fx->db = NULL;
	}
	CU_ASSERT(opened >= rounds / 3 * 2);
	CU_ASSERT(known.rev > MVCC_REV_FIRST);
	CU_ASSERT(!is_busy || rounds < 6 || kept.floor > MVCC_REV_FIRST);
	printf("%" PRIu64 " revisions ", known.rev);
	fixture_use(NULL);
	fixture_close(fx);
}

static void test_a_killed_process_loses_nothing_it_had_been_told(void)
{
	kill_rounds(false, fixture_env("KILL_ROUNDS", 16));
}

static void test_a_process_killed_while_it_keeps_leases_and_copies_did_all_it_told(void)
{
	kill_rounds(true, fixture_env("KILL_ROUNDS", 10));
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_a_killed_process_loses_nothing_it_had_been_told),
	UNIT_TEST(test_a_process_killed_while_it_keeps_leases_and_copies_did_all_it_told),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("kill", NULL, NULL, tests), CU_SUITE_INFO_NULL };

	if (argc == 4 && strcmp(argv[1], "--victim") == 0)
		return be_the_victim(argv[2], atoi(argv[3]), false);
	if (argc == 4 && strcmp(argv[1], "--busy") == 0)
		return be_the_victim(argv[2], atoi(argv[3]), true);
	return unit_main(argc, argv, suites);
}
