/*
 * Everything at once: many threads do on one store all that a store can do, for a few seconds, while a second
 * store with other options, on another engine, has the same to bear in the same process.
 *
 * Writers keep what anybody can check at any revision: transfers between accounts leave their sum as it is, a
 * transaction larger than memory gives all its rows the same stamp, the keys of a lease come and go together.
 * Readers look at revisions that are readable, a watch rebuilds the store from what it is told and must end
 * with what a view shows, counters end at the number of their successes. Meanwhile history is compacted and
 * pinned, copies are made, and all is verified. Threads note what goes wrong; the main thread asserts.
 * THREADS_S and THREADS_SEED choose other than 5 seconds in all and the clock.
 */
#include "mvcc/check.h"
#include "mvcc/keep.h"
#include "mvcc/lease.h"
#include "mvcc/mvcc.h"
#include "mvcc/request.h"
#include "mvcc/watch.h"
#include "rocks_backend/rocks.h"
#include "tests/store_fixture.h"
#include "tests/unit.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum {
	ACCOUNTS = 16,
	ACCOUNT_BEGIN = 1000,
	COUNTERS = 3,
	BIG_ROWS = 64,
	BIG_BYTES = 700,
	SLOTS = 6, /* groups of keys with a lease, for each leaser */
	GROUP = 3,
	PINS = 8,
	WORKERS_MAX = 24,
	ROWS_MAX = 512,
};

#define SECOND_NS ((int64_t)1000000000)
#define HOUR_MS ((uint64_t)3600 * 1000)

/* One store, and what its threads share. */
struct world {
	struct fixture *fx;
	struct mvcc *db;
	_Atomic mvcc_rev_t watched; /* all before was told to the watcher; the floor does not pass it */
	_Atomic mvcc_rev_t last;    /* the newest revision there will be; 0 while there are writers */
	atomic_bool no_writers, stop;
	int64_t clock_began_ns; /* of the clock that runs too fast */
};

/* A thread. Its fields are its own until it is joined, but for what it has done. */
struct worker {
	struct world *world;
	struct mvcc *db;
	const struct role *role;
	pthread_t thread;
	unsigned id; /* among those of its role */
	uint64_t random;
	_Atomic uint64_t done; /* how often it did what it is there for */
	uint64_t wrong;
	const char *what; /* the first thing that was wrong */
	int err;
};

static void note(struct worker *w, const char *what, int err)
{
	if (!w->wrong++) {
		w->what = what;
		w->err = err;
	}
}

static uint64_t below(struct worker *w, uint64_t n)
{
	return random_below(&w->random, n);
}

static void pause_ms(unsigned ms)
{
	nanosleep(&(struct timespec){ .tv_nsec = (long)ms * 1000000 }, NULL);
}

/* A test that lasts so long as it was told to waits now and then for the thread that follows it all. */
static void keep_pace(struct worker *w)
{
	if (mvcc_current(w->db) > atomic_load(&w->world->watched) + 2000)
		pause_ms(1);
}

static int64_t wall_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * SECOND_NS + ts.tv_nsec;
}

static int64_t fast_clock(void *arg)
{
	const struct world *world = arg;
	int64_t now = wall_ns();

	return now + 20 * (now - world->clock_began_ns);
}

/* ---- what holds at every revision ---------------------------------------------------------- */

static struct slice account_key(unsigned account, char out[16])
{
	snprintf(out, 16, "acct/%02u", account);
	return str(out);
}

static unsigned account_of(struct slice key)
{
	return ((key.data[5] - (unsigned)'0') * 10 + (key.data[6] - (unsigned)'0')) % ACCOUNTS;
}

static struct slice number_value(uint64_t number, uint8_t out[8])
{
	put_le64(out, number);
	return slice_of(out, 8);
}

static const char *check_accounts(struct mvcc_view *view)
{
	struct mvcc_rows rows = { 0 };
	const char *wrong = NULL;
	uint64_t sum = 0;

	if (mvcc_range(view, str("acct/"), str("acct0"), NULL, &rows))
		return "the accounts cannot be read";
	if (rows.n != ACCOUNTS)
		wrong = "an account is missing";
	for (size_t i = 0; i < rows.n && !wrong; i++) {
		if (rows.rows[i].item.value.len != 8)
			wrong = "what stands in an account is no number";
		else
			sum += get_le64(rows.rows[i].item.value.data);
	}
	if (!wrong && sum != (uint64_t)ACCOUNTS * ACCOUNT_BEGIN)
		wrong = "the sum of the accounts is another";
	mvcc_rows_release(&rows);
	return wrong;
}

/* All rows of a big transaction have one stamp, and so has the blob of the first. */
static bool big_row_fits(struct mvcc *db, const struct mvcc_item *item, uint64_t stamp)
{
	uint8_t blob[16];

	if (item->value.len != BIG_BYTES || get_le64(item->value.data) != stamp)
		return false;
	return !item->nblobs ||
	       (mvcc_blob_read(db, item->blobs[0], 0, blob, sizeof(blob)) == 8 && get_le64(blob) == stamp);
}

static const char *check_big(struct mvcc *db, struct mvcc_view *view, const char *start, const char *end)
{
	const struct mvcc_item *item;
	struct mvcc_cursor *c = NULL;
	struct slice key;
	uint64_t stamp = 0;
	unsigned n = 0;
	int got;

	if (mvcc_cursor_open(view, str(start), str(end), &c))
		return "no cursor";
	while ((got = mvcc_cursor_next(c, &key, &item)) == 1) {
		if (n++ == 0 && item->value.len == BIG_BYTES)
			stamp = get_le64(item->value.data);
		if (!big_row_fits(db, item, stamp)) {
			mvcc_cursor_close(c);
			return "rows of one transaction have different stamps";
		}
	}
	mvcc_cursor_close(c);
	if (got)
		return "the big rows cannot be read";
	return n == 0 || n == BIG_ROWS ? NULL : "half of a big transaction is there";
}

/* Keys "lease/WORKER/SLOT/i": of each group all or none, with one lease. */
static const char *check_groups(struct mvcc_view *view)
{
	const struct mvcc_item *item;
	struct mvcc_cursor *c = NULL;
	struct slice key;
	mvcc_lease_t lease = 0;
	unsigned n = 0;
	const char *wrong = NULL;
	int got;

	if (mvcc_cursor_open(view, str("lease/"), str("lease0"), &c))
		return "no cursor";
	while (!wrong && (got = mvcc_cursor_next(c, &key, &item)) == 1) {
		unsigned at = key.data[key.len - 1] - (unsigned)'0';

		if (at != n % GROUP)
			wrong = "a key of a group is missing";
		else if (at && item->lease != lease)
			wrong = "keys of a group have different leases";
		lease = item->lease;
		n++;
	}
	mvcc_cursor_close(c);
	if (!wrong && got)
		wrong = "the groups cannot be read";
	if (!wrong && n % GROUP)
		wrong = "a key of the last group is missing";
	return wrong;
}

static const char *check_state(struct mvcc *db, struct mvcc_view *view)
{
	const char *wrong = check_accounts(view);

	if (!wrong)
		wrong = check_groups(view);
	if (!wrong)
		wrong = check_big(db, view, "big/0/", "big/00");
	return wrong ? wrong : check_big(db, view, "big/1/", "big/10");
}

/* ---- writers ------------------------------------------------------------------------------- */

static int add_one(const void *arg, struct slice old, struct buf *out)
{
	(void)arg;
	return old.len == 8 ? buf_put_le64(out, get_le64(old.data) + 1) : -EINVAL;
}

static int read_number(struct mvcc_txn *txn, struct slice key, uint64_t *out)
{
	struct mvcc_item item = { 0 };
	int err = mvcc_txn_get(txn, key, &item);

	if (err)
		return err;
	*out = item.value.len == 8 ? get_le64(item.value.data) : UINT64_MAX;
	mvcc_item_release(&item);
	return 0;
}

static int put_number(struct mvcc_txn *txn, struct slice key, uint64_t number)
{
	uint8_t raw[8];

	return mvcc_txn_put(txn, key, number_value(number, raw), NULL, 0);
}

/* Does what must leave no trace: what is read afterwards is what was there before. */
static int write_in_vain(struct worker *w, struct mvcc_txn *txn, struct slice key, uint64_t number)
{
	unsigned first, second;
	uint64_t again = 0, deleted = 0;
	int err = mvcc_txn_savepoint(txn, &first);

	if (!err)
		err = put_number(txn, key, ~number);
	if (!err)
		err = mvcc_txn_savepoint(txn, &second);
	if (!err)
		err = mvcc_txn_del_range(txn, str("acct/"), str("acct0"), &deleted);
	if (!err && deleted != ACCOUNTS)
		note(w, "a range that was deleted had other keys", 0);
	if (!err && below(w, 2))
		err = mvcc_txn_rollback(txn, second);
	if (!err)
		err = mvcc_txn_rollback(txn, first);
	if (!err)
		err = read_number(txn, key, &again);
	if (!err && again != number)
		note(w, "a rollback left something", 0);
	return err;
}

static int transfer(struct worker *w)
{
	unsigned from = (unsigned)below(w, ACCOUNTS),
		 to = (from + 1 + (unsigned)below(w, ACCOUNTS - 1)) % ACCOUNTS;
	uint64_t a = 0, b = 0, amount = below(w, 50);
	struct slice from_key, to_key;
	char names[2][16];
	struct mvcc_txn *txn;
	int err = mvcc_txn_begin(w->db, &txn);

	if (err)
		return err;
	from_key = account_key(from, names[0]);
	to_key = account_key(to, names[1]);
	err = read_number(txn, from_key, &a);
	if (!err)
		err = read_number(txn, to_key, &b);
	if (!err && below(w, 4) == 0)
		err = write_in_vain(w, txn, from_key, a);
	if (!err)
		err = put_number(txn, from_key, a - amount);
	if (!err)
		err = put_number(txn, to_key, b + amount);
	if (!err)
		err = mvcc_txn_update(txn, str("hits"), add_one, NULL, 0);
	if (err) {
		mvcc_txn_abort(txn);
		return err;
	}
	return mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, NULL);
}

static void transfer_on(struct worker *w)
{
	while (!atomic_load(&w->world->no_writers)) {
		int err = transfer(w);

		keep_pace(w);
		if (!err)
			w->done++;
		else if (err != MVCC_ECONFLICT)
			note(w, "transfer", err);
	}
}

static int put_big_rows(struct worker *w, struct mvcc_txn *txn, uint64_t stamp, unsigned from, unsigned to)
{
	uint8_t value[BIG_BYTES] = { 0 }, raw[8];
	mvcc_blob_t blob = 0;
	char key[24];
	int err = 0;

	put_le64(value, stamp);
	if (from == 0)
		err = mvcc_txn_stage_blob(txn, number_value(stamp, raw), &blob);
	for (unsigned i = from; i < to && !err; i++) {
		snprintf(key, sizeof(key), "big/%u/%02u", w->id, i);
		err = mvcc_txn_put(txn, str(key), slice_of(value, sizeof(value)), &blob, i == 0);
	}
	return err;
}

/* Larger than what a transaction keeps in memory, and half of it rolled back. */
static int write_big(struct worker *w, uint64_t stamp)
{
	char start[16], end[16];
	unsigned half = 1 + (unsigned)below(w, BIG_ROWS - 1), savepoint;
	uint64_t deleted = 0;
	struct mvcc_txn *txn;
	int err = mvcc_txn_begin(w->db, &txn);

	if (err)
		return err;
	snprintf(start, sizeof(start), "big/%u/", w->id);
	snprintf(end, sizeof(end), "big/%u0", w->id);
	if (stamp % 4 == 0)
		err = mvcc_txn_del_range(txn, str(start), str(end), &deleted);
	if (deleted != 0 && deleted != BIG_ROWS)
		note(w, "half of the big rows were there", 0);
	if (!err && stamp % 8 != 0)
		err = put_big_rows(w, txn, stamp, 0, half);
	if (!err)
		err = mvcc_txn_savepoint(txn, &savepoint);
	if (!err && stamp % 3 == 0) {
		err = put_big_rows(w, txn, ~stamp, 0, BIG_ROWS);
		if (!err)
			err = mvcc_txn_rollback(txn, savepoint);
	}
	if (!err && stamp % 8 != 0)
		err = put_big_rows(w, txn, stamp, half, BIG_ROWS);
	if (err || stamp % 11 == 0) {
		mvcc_txn_abort(txn);
		return err;
	}
	return mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, NULL);
}

static void write_big_on(struct worker *w)
{
	for (uint64_t stamp = 1; !atomic_load(&w->world->no_writers); stamp++) {
		int err = write_big(w, stamp);

		if (err)
			note(w, "a big transaction", err);
		else
			w->done++;
		pause_ms((unsigned)below(w, 10));
	}
}

/* A compare and swap: one more, if nobody was there since. */
static int count_once(struct worker *w, struct slice key)
{
	struct mvcc_request_op ops[2] = { { .kind = MVCC_OP_PUT }, { .kind = MVCC_OP_RANGE, .start = key } };
	struct mvcc_compare same = { .target = MVCC_MOD, .relation = MVCC_EQUAL, .key = key };
	struct mvcc_request request = { .compares = &same,
					.ncompares = 1,
					.then_ops = ops,
					.nthen = 2,
					.else_ops = &ops[1],
					.nelse = 1 };
	struct mvcc_response response = { 0 };
	struct mvcc_item item = { 0 };
	struct mvcc_view *view;
	const struct mvcc_rows *rows;
	uint64_t number = 0;
	uint8_t raw[8];
	int err = mvcc_view_open(w->db, MVCC_REV_LATEST, &view);

	if (err)
		return err;
	err = mvcc_get(view, key, &item);
	if (!err) {
		number = item.value.len == 8 ? get_le64(item.value.data) : UINT64_MAX;
		same.number = item.mod_rev;
	}
	mvcc_item_release(&item);
	mvcc_view_close(view);
	if (err && err != -ENOENT)
		return err;
	ops[0].put.key = key;
	ops[0].put.value = number_value(number + 1, raw);
	err = mvcc_execute(w->db, &request, NULL, &response);
	if (err)
		return err;
	rows = &response.results[response.nresults - 1].rows;
	if (response.succeeded && (rows->n != 1 || rows->rows[0].item.mod_rev != response.rev ||
				   !slice_eq(rows->rows[0].item.value, ops[0].put.value)))
		note(w, "a request does not see its own put", 0);
	if (!response.succeeded && (rows->n != 1 || rows->rows[0].item.mod_rev == same.number))
		note(w, "a compare did not hold, though nothing had changed", 0);
	w->done += response.succeeded;
	mvcc_response_release(&response);
	return 0;
}

static void count_on(struct worker *w)
{
	char key[16];

	while (!atomic_load(&w->world->no_writers)) {
		int err;

		snprintf(key, sizeof(key), "count/%u", (unsigned)below(w, COUNTERS));
		err = count_once(w, str(key));
		keep_pace(w);
		if (err)
			note(w, "a request", err);
	}
}

/* ---- leases -------------------------------------------------------------------------------- */

/* Puts the keys of a group, with a lease or without. */
static int put_group(struct worker *w, unsigned slot, mvcc_lease_t lease)
{
	char key[32];
	struct mvcc_put put = { .value = str("x"), .lease = lease };
	struct mvcc_txn *txn;
	int err = mvcc_txn_begin(w->db, &txn);

	if (err)
		return err;
	for (unsigned i = 0; i < GROUP && !err; i++) {
		snprintf(key, sizeof(key), "lease/%u/%u/%u", w->id, slot, i);
		put.key = str(key);
		err = mvcc_txn_put_with(txn, &put);
	}
	if (err) {
		mvcc_txn_abort(txn);
		return err;
	}
	return mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, NULL);
}

/* How many keys of the group there are, with that lease. */
static unsigned group_keys(struct worker *w, unsigned slot, mvcc_lease_t lease)
{
	char start[32], end[32];
	struct mvcc_rows rows = { 0 };
	struct mvcc_view *view;
	unsigned n = 0;

	snprintf(start, sizeof(start), "lease/%u/%u/", w->id, slot);
	snprintf(end, sizeof(end), "lease/%u/%u0", w->id, slot);
	if (mvcc_view_open(w->db, MVCC_REV_LATEST, &view))
		return UINT32_MAX;
	if (mvcc_range(view, str(start), str(end), NULL, &rows))
		n = UINT32_MAX;
	for (size_t i = 0; i < rows.n; i++)
		n += rows.rows[i].item.lease == lease;
	mvcc_rows_release(&rows);
	mvcc_view_close(view);
	return n;
}

static void end_of_lease(struct worker *w, unsigned slot, mvcc_lease_t *lease)
{
	int err = mvcc_lease_revoke(w->db, *lease, NULL, NULL);

	if (err && err != MVCC_ENOLEASE)
		note(w, "revoke", err);
	else if (group_keys(w, slot, *lease) != 0)
		note(w, "a lease that is gone has keys", 0);
	*lease = 0;
}

static void begin_lease(struct worker *w, unsigned slot, mvcc_lease_t *lease)
{
	int err = mvcc_lease_grant(w->db, 0, below(w, 3) ? 30 + below(w, 400) : HOUR_MS, lease);

	if (err) {
		note(w, "grant", err);
		return;
	}
	w->done++;
	err = put_group(w, slot, *lease);
	if (err && err != MVCC_ENOLEASE)
		note(w, "a put with a lease", err);
}

static void lease_step(struct worker *w, unsigned slot, mvcc_lease_t *lease)
{
	struct mvcc_lease found;
	int err;

	switch (below(w, 5)) {
	case 0:
		end_of_lease(w, slot, lease);
		return;
	case 1:
		err = mvcc_lease_renew(w->db, *lease, NULL);
		break;
	case 2:
		err = put_group(w, slot, *lease);
		break;
	case 3:
		err = mvcc_lease_get(w->db, *lease, &found);
		if (!err && found.left_ms > found.ttl_ms)
			note(w, "a lease has more time than was granted", 0);
		break;
	default:
		err = put_group(w, slot, 0); /* and it goes without keys */
		if (!err && group_keys(w, slot, 0) != GROUP)
			note(w, "keys without a lease are gone", 0);
		break;
	}
	if (err == MVCC_ENOLEASE)
		end_of_lease(w, slot, lease);
	else if (err)
		note(w, "a lease", err);
}

static void lease_on(struct worker *w)
{
	mvcc_lease_t leases[SLOTS] = { 0 };

	while (!atomic_load(&w->world->no_writers)) {
		unsigned slot = (unsigned)below(w, SLOTS);

		if (leases[slot])
			lease_step(w, slot, &leases[slot]);
		else
			begin_lease(w, slot, &leases[slot]);
		pause_ms((unsigned)below(w, 4));
	}
	for (unsigned slot = 0; slot < SLOTS; slot++)
		if (leases[slot])
			end_of_lease(w, slot, &leases[slot]);
}

/* ---- readers ------------------------------------------------------------------------------- */

static mvcc_rev_t readable_rev(struct worker *w)
{
	mvcc_rev_t floor = mvcc_floor(w->db), current = mvcc_current(w->db);

	return floor + below(w, current - floor + 1);
}

static void read_state(struct worker *w)
{
	mvcc_rev_t rev = readable_rev(w);
	struct mvcc_view *view;
	const char *wrong;
	int err = mvcc_view_open(w->db, rev, &view);

	if (err == MVCC_ECOMPACTED && mvcc_floor(w->db) > rev)
		return;
	if (err) {
		note(w, "a view", err);
		return;
	}
	wrong = check_state(w->db, view);
	if (wrong)
		note(w, wrong, 0);
	else
		w->done++;
	mvcc_view_close(view);
}

struct life {
	mvcc_rev_t mod, end;
	uint64_t version;
	bool bad;
};

static int follow_life(void *arg, const struct mvcc_item *item, mvcc_rev_t end_rev)
{
	struct life *life = arg;

	/* a pinned revision may stand alone, with a gap behind it */
	life->bad = item->create_rev != MVCC_REV_FIRST || item->mod_rev < life->end ||
		    item->version <= life->version || (life->mod && !life->end) ||
		    (end_rev && end_rev <= item->mod_rev);
	life->mod = item->mod_rev;
	life->end = end_rev;
	life->version = item->version;
	return life->bad;
}

/* The records of an account follow each other up to one that is current. */
static void read_life(struct worker *w)
{
	struct life life = { 0 };
	char key[16];
	int err = mvcc_history(w->db, account_key((unsigned)below(w, ACCOUNTS), key), follow_life, &life);

	if (err || life.bad || life.mod == 0 || life.end != 0)
		note(w, "the life of an account", err);
}

static void read_log(struct worker *w)
{
	mvcc_rev_t from = readable_rev(w), to = from + below(w, 20), current = mvcc_current(w->db),
		   rev = from;
	const struct mvcc_entry *entry;
	struct mvcc_change change;
	struct mvcc_log *log;
	int64_t time_ns = 0;
	int err = mvcc_log_open(w->db, from, to < current ? to : current, &log), got;

	if (err == MVCC_ECOMPACTED && mvcc_floor(w->db) > from)
		return;
	if (err) {
		note(w, "the log", err);
		return;
	}
	for (; (got = mvcc_log_next(log, &entry)) == 1; rev++) {
		unsigned changes = 0;

		if (entry->rev != rev || entry->time_ns < time_ns)
			note(w, "the log is out of order", 0);
		time_ns = entry->time_ns;
		while ((got = mvcc_log_change(log, &change)) == 1)
			changes++;
		if (got || !changes)
			note(w, "a revision without changes", got);
	}
	if (got || rev != (to < current ? to : current) + 1)
		note(w, "the log ends early", got);
	mvcc_log_close(log);
}

static void read_on(struct worker *w)
{
	while (!atomic_load(&w->world->stop)) {
		read_state(w);
		if (below(w, 4) == 0)
			read_life(w);
		if (below(w, 4) == 0)
			read_log(w);
	}
}

/* ---- watches ------------------------------------------------------------------------------- */

/* What a watcher knows of a key. */
struct row {
	char key[32];
	mvcc_rev_t create, mod;
	uint64_t version, sum;
	mvcc_lease_t lease;
	bool there;
};

struct rows {
	struct row rows[ROWS_MAX];
	unsigned n; /* sorted by key */
};

static struct row *row_of(struct rows *t, struct slice key)
{
	unsigned low = 0, high = t->n;

	while (low < high) {
		unsigned at = (low + high) / 2;

		if (slice_cmp(str(t->rows[at].key), key) < 0)
			low = at + 1;
		else
			high = at;
	}
	if (low == t->n || !slice_eq(str(t->rows[low].key), key)) {
		if (t->n == ROWS_MAX || key.len >= sizeof(t->rows[0].key))
			return NULL;
		memmove(&t->rows[low + 1], &t->rows[low], (t->n - low) * sizeof(t->rows[0]));
		t->rows[low] = (struct row){ .there = false };
		memcpy(t->rows[low].key, key.data, key.len);
		t->n++;
	}
	return &t->rows[low];
}

static uint64_t sum_of(struct slice value)
{
	uint64_t sum = 0xcbf29ce484222325u;

	for (size_t i = 0; i < value.len; i++)
		sum = (sum ^ value.data[i]) * 0x100000001b3u;
	return sum;
}

static void row_take(struct row *row, const struct mvcc_item *item)
{
	row->there = true;
	row->create = item->create_rev;
	row->mod = item->mod_rev;
	row->version = item->version;
	row->lease = item->lease;
	row->sum = sum_of(item->value);
}

static bool row_is(const struct row *row, const struct mvcc_item *item)
{
	return row->there && row->create == item->create_rev && row->mod == item->mod_rev &&
	       row->version == item->version && row->lease == item->lease && row->sum == sum_of(item->value);
}

/* One change: it fits what was known, and follows from it. */
static const char *follow_event(struct rows *t, const struct mvcc_event *event, mvcc_rev_t rev)
{
	struct row *row = row_of(t, event->key);

	if (!row)
		return "a key of nobody";
	if (event->prev && !row_is(row, event->prev))
		return "what a change replaced was something else";
	if (event->deleted) {
		if (!row->there)
			return "an absent key was deleted";
		row->there = false;
		return NULL;
	}
	if (event->item->mod_rev != rev)
		return "an event of another revision";
	if (event->item->create_rev != rev && (!row->there || event->item->create_rev != row->create ||
					       event->item->version != row->version + 1))
		return "a put that does not go on from the one before";
	if (event->item->create_rev == rev && event->item->version != 1)
		return "a generation that does not begin at 1";
	row_take(row, event->item);
	return NULL;
}

static void follow_entry(struct worker *w, struct rows *t, struct mvcc_watch *watch, mvcc_rev_t rev)
{
	struct mvcc_event event;
	char last[32] = "";
	unsigned n = 0;
	int got;

	while ((got = mvcc_watch_event(watch, &event)) == 1) {
		const char *wrong = follow_event(t, &event, rev);

		if (wrong)
			note(w, wrong, 0);
		if (event.key.len >= sizeof(last) || (n++ && slice_cmp(str(last), event.key) >= 0)) {
			note(w, "events out of order", 0);
			continue;
		}
		memset(last, 0, sizeof(last));
		memcpy(last, event.key.data, event.key.len);
	}
	if (got || n == 0)
		note(w, "the events of a revision", got);
}

static void compare_rows(struct worker *w, const struct rows *t, mvcc_rev_t rev)
{
	const struct mvcc_item *item;
	struct mvcc_cursor *c = NULL;
	struct mvcc_view *view;
	struct slice key;
	unsigned at = 0;
	int got = mvcc_view_open(w->db, rev, &view);

	if (got) {
		note(w, "the view at the end", got);
		return;
	}
	got = mvcc_cursor_open(view, str(""), str(""), &c);
	while (!got && (got = mvcc_cursor_next(c, &key, &item)) == 1) {
		got = 0;
		while (at < t->n && !t->rows[at].there)
			at++;
		if (at == t->n || !slice_eq(str(t->rows[at].key), key) || !row_is(&t->rows[at], item)) {
			note(w, "what was rebuilt from events is not what is there", 0);
			break;
		}
		at++;
	}
	while (at < t->n && !t->rows[at].there)
		at++;
	if (got || at != t->n)
		note(w, "keys rebuilt from events are not there", got);
	mvcc_cursor_close(c);
	mvcc_view_close(view);
}

/* Rebuilds the whole store, from its first revision to its last; none may be left out. */
static void watch_on(struct worker *w)
{
	struct mvcc_watch_options opt = { .from = MVCC_REV_FIRST, .flags = MVCC_WATCH_PREV };
	struct rows *t = calloc(1, sizeof(*t));
	const struct mvcc_entry *entry;
	struct mvcc_watch *watch;
	mvcc_rev_t last;
	int err = t ? mvcc_watch_open(w->db, &opt, &watch) : -ENOMEM;

	if (err) {
		note(w, "the watch", err);
		free(t);
		return;
	}
	for (;;) {
		int got = mvcc_watch_next(watch, 20, &entry);

		if (got < 0) {
			note(w, "watch_next", got);
			break;
		}
		if (got) {
			if (entry->rev != w->done + 1)
				note(w, "a revision was left out, or told twice", 0);
			w->done = entry->rev;
			follow_entry(w, t, watch, entry->rev);
		}
		if (mvcc_watch_rev(watch) != w->done + 1)
			note(w, "the watch stands somewhere else", 0);
		atomic_store(&w->world->watched, mvcc_watch_rev(watch));
		last = atomic_load(&w->world->last);
		if (last && w->done >= last)
			break;
	}
	mvcc_watch_close(watch);
	compare_rows(w, t, w->done);
	free(t);
}

static uint64_t known_sum(const uint64_t balances[ACCOUNTS])
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < ACCOUNTS; i++)
		sum += balances[i];
	return sum;
}

static int list_accounts(struct worker *w, uint64_t balances[ACCOUNTS], mvcc_rev_t *rev)
{
	struct mvcc_rows rows = { 0 };
	struct mvcc_view *view;
	int err = mvcc_view_open(w->db, MVCC_REV_LATEST, &view);

	if (err)
		return err;
	*rev = mvcc_view_rev(view);
	err = mvcc_range(view, str("acct/"), str("acct0"), NULL, &rows);
	for (size_t i = 0; i < rows.n && i < ACCOUNTS; i++)
		balances[i] = get_le64(rows.rows[i].item.value.data);
	mvcc_rows_release(&rows);
	mvcc_view_close(view);
	return err;
}

/* Takes up to `n` revisions; `*from` is where to go on. */
static int follow_accounts(struct worker *w, uint64_t balances[ACCOUNTS], unsigned n, mvcc_rev_t *from)
{
	struct mvcc_watch_options opt = { .start = str("acct/"), .end = str("acct0"), .from = *from };
	const struct mvcc_entry *entry;
	struct mvcc_watch *watch;
	struct mvcc_event event;
	int got = mvcc_watch_open(w->db, &opt, &watch);

	if (got)
		return got;
	while (n-- && (got = mvcc_watch_next(watch, 20, &entry)) == 1) {
		if (entry->rev < *from)
			note(w, "a revision of before", 0);
		while ((got = mvcc_watch_event(watch, &event)) == 1) {
			if (event.deleted || event.item->value.len != 8)
				note(w, "an account was closed", 0);
			else
				balances[account_of(event.key)] = get_le64(event.item->value.data);
		}
		if (got)
			break;
		if (known_sum(balances) != (uint64_t)ACCOUNTS * ACCOUNT_BEGIN)
			note(w, "the sum of the accounts, as events tell them", 0);
		w->done++;
	}
	if (got >= 0)
		*from = mvcc_watch_rev(watch);
	mvcc_watch_close(watch);
	return got < 0 ? got : 0;
}

/* Lists the accounts, then watches them; again from there when the floor has passed. */
static void list_and_watch_on(struct worker *w)
{
	uint64_t balances[ACCOUNTS] = { 0 };
	mvcc_rev_t from = 0;

	while (!atomic_load(&w->world->stop)) {
		int err = 0;

		if (!from) {
			err = list_accounts(w, balances, &from);
			from++;
		}
		if (!err)
			err = follow_accounts(w, balances, (unsigned)below(w, 200), &from);
		if (err == MVCC_ECOMPACTED)
			from = 0;
		else if (err)
			note(w, "list and watch", err);
		if (below(w, 20) == 0)
			pause_ms(30);
	}
}

/* ---- what is kept -------------------------------------------------------------------------- */

struct pinned {
	char name[16];
	mvcc_rev_t rev; /* 0: there is none of that name */
	struct mvcc_hash hash;
};

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

static void raise_floor(struct worker *w)
{
	mvcc_rev_t floor = mvcc_floor(w->db), top = mvcc_current(w->db),
		   watched = atomic_load(&w->world->watched);
	mvcc_rev_t rev;
	int err;

	if (watched < top)
		top = watched;
	if (top <= floor)
		return;
	rev = floor + 1 + below(w, top - floor);
	err = mvcc_compact(w->db, rev);
	if (err || mvcc_floor(w->db) != rev)
		note(w, "compact", err);
	err = mvcc_compact(w->db, rev);
	if (err != MVCC_ECOMPACTED)
		note(w, "compact twice", err);
}

static void set_pin(struct worker *w, struct pinned *p)
{
	mvcc_rev_t rev = below(w, 2) ? mvcc_current(w->db) : readable_rev(w);
	int err = mvcc_pin(w->db, p->name, rev); /* nobody else raises the floor meanwhile */

	if (err != (p->rev ? -EEXIST : 0))
		note(w, "pin", err);
	if (err)
		return;
	p->rev = rev;
	err = hash_at(w->db, rev, &p->hash);
	if (err)
		note(w, "the hash of a pinned revision", err);
}

static void rename_pin(struct worker *w, struct pinned *p, struct pinned *to)
{
	int err = mvcc_pin_rename(w->db, p->name, to->name), expected = p->rev ? 0 : -ENOENT;

	if (p == to)
		return; /* to its own name: what that says is the contract's own suite's */
	if (p->rev && to->rev)
		expected = -EEXIST;
	if (err != expected)
		note(w, "pin_rename", err);
	if (err)
		return;
	to->rev = p->rev;
	to->hash = p->hash;
	p->rev = 0;
}

static void end_pin(struct worker *w, struct pinned *p)
{
	int err = mvcc_unpin(w->db, p->name);

	if (err != (p->rev ? 0 : -ENOENT))
		note(w, "unpin", err);
	p->rev = 0;
}

static void look_at_pin(struct worker *w, const struct pinned *p)
{
	struct mvcc_pin pin;
	struct mvcc_hash hash;
	int err = mvcc_pin_get(w->db, p->name, &pin);

	if (err != (p->rev ? 0 : -ENOENT) || (!err && pin.rev != p->rev))
		note(w, "pin_get", err);
	if (err)
		return;
	err = hash_at(w->db, p->rev, &hash);
	if (err || hash.hi != p->hash.hi || hash.lo != p->hash.lo || hash.keys != p->hash.keys)
		note(w, "a pinned revision is not what it was", err);
}

static void keep_on(struct worker *w)
{
	struct pinned pins[PINS] = { 0 };

	for (unsigned i = 0; i < PINS; i++)
		snprintf(pins[i].name, sizeof(pins[i].name), "pin-%u", i);
	while (!atomic_load(&w->world->stop)) {
		struct pinned *p = &pins[below(w, PINS)];
		int err = 0;

		switch (below(w, 8)) {
		case 0:
		case 1:
		case 2:
			raise_floor(w);
			if (below(w, 4) == 0)
				err = mvcc_compact_wait(w->db);
			break;
		case 3:
			set_pin(w, p);
			break;
		case 4:
			end_pin(w, p);
			break;
		case 5:
			rename_pin(w, p, &pins[below(w, PINS)]);
			break;
		default:
			look_at_pin(w, p);
			break;
		}
		if (err && err != -EBUSY)
			note(w, "compact_wait", err);
		w->done++;
		pause_ms((unsigned)below(w, 5));
	}
	raise_floor(w);
	for (unsigned i = 0; i < PINS; i++)
		look_at_pin(w, &pins[i]);
}

/* ---- the rest ------------------------------------------------------------------------------ */

static void copy_once(struct worker *w, unsigned n)
{
	struct mvcc_options opt = w->world->fx->opt;
	struct mvcc_view *view = NULL;
	const char *wrong;
	char dir[320];
	struct mvcc *copy = NULL;
	mvcc_rev_t rev = 0;
	int err;

	snprintf(dir, sizeof(dir), "%s/copy-%u", w->world->fx->tmp, n);
	err = mvcc_checkpoint(w->db, dir, &rev);
	opt.dir = dir;
	opt.create = false;
	opt.manual_upkeep = true;
	if (!err)
		err = mvcc_open(&opt, &copy);
	if (!err)
		err = mvcc_view_open(copy, MVCC_REV_LATEST, &view);
	if (err) {
		note(w, "a checkpoint", err);
	} else {
		wrong = check_state(copy, view);
		if (wrong || mvcc_current(copy) != rev || mvcc_floor(copy) > rev || verify_problems(copy))
			note(w, wrong ? wrong : "a copy is not sound", 0);
	}
	mvcc_view_close(view);
	err = mvcc_close(copy);
	if (err)
		note(w, "close of a copy", err);
	fixture_rmdir(dir);
}

static void check_on(struct worker *w)
{
	for (unsigned n = 0; n == 0 || !atomic_load(&w->world->stop); n++) {
		if (n % 3 == 0)
			copy_once(w, n);
		if (verify_problems(w->db))
			note(w, "the rows do not fit together", 0);
		w->done++;
		pause_ms(20);
	}
}

struct syncing {
	atomic_uint called, failed;
};

static void synced(void *arg, int err)
{
	struct syncing *s = arg;

	if (err)
		atomic_fetch_add(&s->failed, 1);
	atomic_fetch_add(&s->called, 1);
}

static void sync_on(struct worker *w)
{
	struct syncing s = { .called = 0 };
	struct mvcc_stats stats;
	unsigned asked = 0;

	while (!atomic_load(&w->world->stop)) {
		mvcc_rev_t rev = mvcc_current(w->db);
		int err = mvcc_sync(w->db, below(w, 2) ? rev : MVCC_REV_LATEST);

		mvcc_stats(w->db, &stats);
		if (err || stats.synced < rev)
			note(w, "sync", err);
		err = mvcc_sync_async(w->db, MVCC_REV_LATEST, synced, &s);
		if (err)
			note(w, "sync_async", err);
		else
			asked++;
		w->done++;
		pause_ms((unsigned)below(w, 5));
	}
	for (unsigned i = 0; i < 10000 && atomic_load(&s.called) < asked; i++)
		pause_ms(1);
	if (atomic_load(&s.called) != asked || atomic_load(&s.failed))
		note(w, "not every sync was told to have succeeded", 0);
}

static bool stats_follow(const struct mvcc_stats *a, const struct mvcc_stats *b)
{
	return a->current <= b->current && a->applied <= b->applied && a->synced <= b->synced &&
	       a->floor <= b->floor && a->compacted <= b->compacted && a->commits <= b->commits &&
	       a->conflicts <= b->conflicts && a->blobs_freed <= b->blobs_freed &&
	       a->leases_expired <= b->leases_expired && a->commit.count <= b->commit.count;
}

static void stats_on(struct worker *w)
{
	struct mvcc_stats before, now;

	mvcc_stats(w->db, &before);
	while (!atomic_load(&w->world->stop)) {
		mvcc_stats(w->db, &now);
		if (!stats_follow(&before, &now))
			note(w, "a figure went back", 0);
		if (now.failed || now.ring_used > now.ring_bytes || now.pins > PINS)
			note(w, "a figure cannot be", now.failed);
		before = now;
		w->done++;
		pause_ms(1);
	}
}

/* For the store that has no thread of its own for it. */
static void upkeep_on(struct worker *w)
{
	while (!atomic_load(&w->world->stop)) {
		int err = mvcc_upkeep(w->db);

		if (err)
			note(w, "upkeep", err);
		w->done++;
		pause_ms(2);
	}
}

/* ---- all of it ----------------------------------------------------------------------------- */

static const struct role {
	const char *name;
	void (*run)(struct worker *w);
	unsigned first, second; /* how many in each store */
	bool writes;
} roles[] = {
	{ "transfer", transfer_on, 2, 1, true },
	{ "big", write_big_on, 2, 1, true },
	{ "count", count_on, 2, 1, true },
	{ "lease", lease_on, 2, 1, true },
	{ "read", read_on, 2, 1, false },
	{ "watch", watch_on, 1, 1, false },
	{ "list and watch", list_and_watch_on, 1, 1, false },
	{ "keep", keep_on, 1, 1, false },
	{ "check", check_on, 1, 0, false },
	{ "sync", sync_on, 1, 1, false },
	{ "stats", stats_on, 1, 1, false },
	{ "upkeep", upkeep_on, 0, 1, false },
};

static int make_accounts(void *arg, struct mvcc_txn *txn)
{
	char key[16];
	int err = put_number(txn, str("hits"), 0);

	(void)arg;
	for (unsigned i = 0; i < ACCOUNTS && !err; i++)
		err = put_number(txn, account_key(i, key), ACCOUNT_BEGIN);
	return err;
}

/* The first has small memories and the system's clock; the second all the other way round. */
static void world_open(struct world *world, const struct engine_provider *provider, bool second)
{
	struct mvcc_options *opt;

	fixture_use(provider);
	world->fx = fixture_new();
	opt = &world->fx->opt;
	opt->init = make_accounts;
	opt->ring_bytes = (size_t)(second ? 1024 : 256) << 10;
	opt->sync_ms = second ? 10 : 0;
	if (second) {
		world->clock_began_ns = wall_ns();
		opt->clock = fast_clock;
		opt->clock_arg = world;
		opt->manual_upkeep = true;
		opt->compact_bytes_per_s = UINT64_MAX;
	}
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(world->fx), 0);
	world->db = world->fx->db;
}

static void *work(void *arg)
{
	struct worker *w = arg;

	w->role->run(w);
	return NULL;
}

static unsigned world_start(struct world *world, struct worker *workers, bool second, uint64_t seed)
{
	unsigned n = 0;

	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
		for (unsigned id = 0; id < (second ? roles[i].second : roles[i].first); id++) {
			struct worker *w = &workers[n];

			if (n == WORKERS_MAX)
				abort();
			*w = (struct worker){ .world = world,
					      .db = world->db,
					      .role = &roles[i],
					      .id = id,
					      .random = seed + 7919 * n };
			if (pthread_create(&w->thread, NULL, work, w))
				abort();
			n++;
		}
	}
	return n;
}

static void join(struct worker *workers, unsigned n, bool writers)
{
	for (unsigned i = 0; i < n; i++)
		if (workers[i].role->writes == writers)
			pthread_join(workers[i].thread, NULL);
}

/* On a machine that has much else to do, too, each gets its turn. */
static bool all_at_it(const struct worker *workers, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (atomic_load(&workers[i].done) == 0)
			return false;
	return true;
}

static int any_lease(void *arg, const struct mvcc_lease *lease)
{
	(void)arg;
	(void)lease;
	return 1;
}

/* No writer is left, and no lease whose end would be one more revision. */
static void world_settle(struct world *world, struct worker *workers, unsigned n)
{
	unsigned waited_ms = 0;

	join(workers, n, true);
	while (mvcc_leases(world->db, any_lease, NULL) && waited_ms < 20000)
		pause_ms(waited_ms++ ? 1 : 0);
	CU_ASSERT_EQUAL(mvcc_leases(world->db, any_lease, NULL), 0);
	atomic_store(&world->last, mvcc_current(world->db));
}

static uint64_t number_now(struct mvcc_view *view, const char *key)
{
	struct mvcc_item item = { 0 };
	uint64_t number = 0;

	if (mvcc_get(view, str(key), &item) == 0)
		number = get_le64(item.value.data);
	mvcc_item_release(&item);
	return number;
}

static uint64_t done_by(const struct worker *workers, unsigned n, const char *role)
{
	uint64_t done = 0;

	for (unsigned i = 0; i < n; i++)
		if (strcmp(workers[i].role->name, role) == 0)
			done += workers[i].done;
	return done;
}

static void world_judge(struct world *world, const struct worker *workers, unsigned n)
{
	struct mvcc_view *view = NULL;
	uint64_t counted = 0;
	char key[16];

	for (unsigned i = 0; i < n; i++) {
		const struct worker *w = &workers[i];

		if (w->wrong || !w->done)
			fprintf(stderr, "\n%s %u: %" PRIu64 " done, %" PRIu64 " wrong: %s: %s\n",
				w->role->name, w->id, w->done, w->wrong, w->what ? w->what : "",
				mvcc_strerror(w->err));
		CU_ASSERT_EQUAL(w->wrong, 0);
		CU_ASSERT(w->done > 0);
	}
	CU_ASSERT_EQUAL(mvcc_current(world->db), atomic_load(&world->last));
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(world->db, MVCC_REV_LATEST, &view), 0);
	CU_ASSERT_PTR_NULL(check_state(world->db, view));
	for (unsigned i = 0; i < COUNTERS; i++) {
		snprintf(key, sizeof(key), "count/%u", i);
		counted += number_now(view, key);
	}
	CU_ASSERT_EQUAL(counted, done_by(workers, n, "count"));
	CU_ASSERT_EQUAL(number_now(view, "hits"), done_by(workers, n, "transfer"));
	mvcc_view_close(view);
	fixture_verify(world->fx);
}

/* All is there after a restart, and fits together. */
static void world_close(struct world *world)
{
	struct mvcc_hash before = { 0 }, after = { 0 };

	CU_ASSERT_EQUAL(hash_at(world->db, MVCC_REV_LATEST, &before), 0);
	fixture_reopen(world->fx);
	CU_ASSERT_EQUAL(hash_at(world->fx->db, MVCC_REV_LATEST, &after), 0);
	CU_ASSERT(before.hi == after.hi && before.lo == after.lo && before.keys == after.keys);
	fixture_verify(world->fx);
	fixture_close(world->fx);
}

static void run_worlds(const struct engine_provider *first, const struct engine_provider *second)
{
	uint64_t seed = fixture_env("THREADS_SEED", (uint64_t)time(NULL));
	int64_t until_ns = wall_ns() + (int64_t)fixture_env("THREADS_S", 5) * SECOND_NS / 2;
	static struct worker workers[2][WORKERS_MAX];
	struct world worlds[2] = { { .watched = 0 }, { .watched = 0 } };
	unsigned n[2];

	printf("seed %" PRIu64 " ", seed);
	world_open(&worlds[0], first, false);
	world_open(&worlds[1], second, true);
	for (int i = 0; i < 2; i++)
		n[i] = world_start(&worlds[i], workers[i], i == 1, seed + 1000 * (uint64_t)i);
	while (wall_ns() < until_ns || (wall_ns() < until_ns + 60 * SECOND_NS &&
					!(all_at_it(workers[0], n[0]) && all_at_it(workers[1], n[1]))))
		pause_ms(10);
	for (int i = 0; i < 2; i++)
		atomic_store(&worlds[i].no_writers, true);
	for (int i = 0; i < 2; i++)
		world_settle(&worlds[i], workers[i], n[i]);
	for (int i = 0; i < 2; i++)
		atomic_store(&worlds[i].stop, true);
	for (int i = 0; i < 2; i++) {
		join(workers[i], n[i], false);
		world_judge(&worlds[i], workers[i], n[i]);
		printf("%" PRIu64 " revisions ", mvcc_current(worlds[i].db));
		world_close(&worlds[i]);
	}
	fixture_use(NULL);
}

static const struct engine_provider *rocks(void)
{
	static struct rocks_options options = { .cache_bytes = (size_t)8 << 20 };
	static struct engine_provider provider;

	provider = rocks_provider(&options);
	return &provider;
}

static void test_all_at_once_on_memory_beside_a_store_on_rocksdb(void)
{
	run_worlds(NULL, rocks());
}

static void test_all_at_once_on_rocksdb_beside_a_store_in_memory(void)
{
	run_worlds(rocks(), NULL);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_all_at_once_on_memory_beside_a_store_on_rocksdb),
	UNIT_TEST(test_all_at_once_on_rocksdb_beside_a_store_in_memory),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("threads", NULL, NULL, tests), CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
