/*
 * What is left when the engine fails, the process dies, or the power goes.
 *
 * One scenario of commits of every kind is run again and again, each time with the next engine call
 * failing, until it runs clean. Each commit writes its number to its log entry, so afterwards the log
 * itself says which of them are there: they must be whole, in order, and among them all whose commit had
 * returned 0. The state of every revision is compared with what the same steps make of a plain table.
 *
 * A second scenario has all the store can do: savepoints, requests, leases, pins, compaction, checkpoints,
 * watches. There the log begins at the floor; what made the revisions below is noted before they go.
 */
#include "mvcc/keep.h"
#include "mvcc/lease.h"
#include "mvcc/request.h"
#include "mvcc/watch.h"
#include "tests/store_fixture.h"

#include "tests/engines/fault_engine.h"
#include "tests/engines/mem_engine.h"
#include "tests/lease_check.h"
#include "tests/unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#define KIB ((size_t)1 << 10)

/* ---- the plain table ----------------------------------------------------------------------- */

enum { ROWS_MAX = 1024, BIG_ROWS = 300 };

struct table {
	struct table_row {
		char key[24];
		uint32_t step; /* who put it */
		bool there;
	} rows[ROWS_MAX];
	unsigned n; /* rows, sorted by key */
};

static struct table_row *table_row(struct table *t, const char *key)
{
	unsigned at = 0;

	while (at < t->n && strcmp(t->rows[at].key, key) < 0)
		at++;
	if (at == t->n || strcmp(t->rows[at].key, key) != 0) {
		if (t->n == ROWS_MAX)
			abort();
		memmove(&t->rows[at + 1], &t->rows[at], (t->n - at) * sizeof(t->rows[0]));
		t->rows[at] = (struct table_row){ 0 };
		snprintf(t->rows[at].key, sizeof(t->rows[at].key), "%s", key);
		t->n++;
	}
	return &t->rows[at];
}

/* ---- the steps ----------------------------------------------------------------------------- */

/* A step writes to a transaction or to the table. */
struct sink {
	struct mvcc_txn *txn; /* NULL: to the table */
	struct table *table;
	uint32_t step;
	int err; /* the first one */
};

static void fill(uint8_t *out, size_t len, uint64_t state)
{
	for (size_t i = 0; i < len; i += 8) {
		uint64_t word = random_next(&state);

		memcpy(out + i, &word, len - i < 8 ? len - i : 8);
	}
}

/* The value a step gives to a key: long for the big rows, and told apart by key and step. */
static struct slice value_of(const char *key, uint32_t step, uint8_t out[1024])
{
	size_t len = strncmp(key, "big", 3) == 0 ? 1000 : 12 + step % 7;
	uint64_t state = step + 1;

	for (const char *c = key; *c; c++)
		state = state * 31 + (uint8_t)*c;
	fill(out, len, state);
	put_le32(out, step);
	return slice_of(out, len);
}

static void blob_of(uint32_t step, uint8_t out[5000])
{
	fill(out, 5000, step + 1000);
}

static void sink_put(struct sink *s, const char *key, bool with_blob)
{
	uint8_t bytes[5000];
	mvcc_blob_t blob = 0;

	if (!s->txn) {
		struct table_row *row = table_row(s->table, key);

		row->step = s->step;
		row->there = true;
		return;
	}
	if (with_blob && !s->err) {
		blob_of(s->step, bytes);
		s->err = mvcc_txn_stage_blob(s->txn, slice_of(bytes, sizeof(bytes)), &blob);
	}
	if (!s->err)
		s->err = mvcc_txn_put(s->txn, str(key), value_of(key, s->step, bytes), &blob, with_blob);
}

static void sink_del(struct sink *s, const char *key)
{
	if (!s->txn)
		table_row(s->table, key)->there = false;
	else if (!s->err)
		s->err = mvcc_txn_del(s->txn, str(key));
}

static int stamp(const void *arg, struct slice old, struct buf *out)
{
	int err = buf_put(out, arg, 4);

	return err ? err : buf_put(out, old.data + 4, old.len - 4);
}

/* An update leaves the value as "hot" has it, but for the step in front: compared by that alone. */
static void sink_update(struct sink *s, const char *key)
{
	uint8_t raw[4];

	put_le32(raw, s->step);
	if (!s->txn)
		table_row(s->table, key)->step = s->step;
	else if (!s->err)
		s->err = mvcc_txn_update(s->txn, str(key), stamp, raw, sizeof(raw));
}

enum { STEP_KINDS = 6 };

/* Every step changes something, so that each has its revision. */
static void do_step(struct sink *s)
{
	char key[24];

	switch (s->step % STEP_KINDS) {
	case 0:
		sink_put(s, "hot", false);
		sink_put(s, "a", false);
		break;
	case 1:
		sink_put(s, "blob", true);
		sink_put(s, "b", true);
		sink_put(s, "a", false);
		break;
	case 2: /* larger than the ring */
		for (unsigned i = 0; i < BIG_ROWS; i++) {
			snprintf(key, sizeof(key), "big%03u", i * 7 % BIG_ROWS);
			sink_put(s, key, false);
		}
		sink_put(s, "blob", true);
		break;
	case 3:
		sink_update(s, "hot");
		snprintf(key, sizeof(key), "once%u", s->step);
		sink_put(s, key, false);
		sink_del(s, "a");
		break;
	case 4:
		for (unsigned i = 0; i < BIG_ROWS; i += 2) {
			snprintf(key, sizeof(key), "big%03u", i);
			sink_del(s, key);
		}
		sink_del(s, "b");
		sink_put(s, "b", false);
		break;
	default:
		sink_del(s, "blob");
		snprintf(key, sizeof(key), "once%u", s->step);
		sink_put(s, key, false);
		break;
	}
}

/* ---- the scenario -------------------------------------------------------------------------- */

enum { STEPS_MAX = 256 };

struct run {
	struct fixture *fx;
	uint32_t steps;              /* done so far, in vain or not */
	mvcc_rev_t acked[STEPS_MAX]; /* the revision of each, 0 if the commit failed */
	mvcc_rev_t synced;           /* a sync up to it returned 0 */
	uint64_t intents[STEPS_MAX]; /* put before the step, 0 for none */
	bool settling[STEPS_MAX];    /* the step tried to settle it */
};

/* One commit; each third also puts an intent, and settles the one of the step before. */
static int commit_step(struct run *r)
{
	struct sink sink = { .step = r->steps };
	struct mvcc_story story = { .op = "step", .pid = r->steps };
	mvcc_rev_t rev = 0;
	int err;

	if (r->steps == STEPS_MAX)
		abort();
	r->steps++;
	if (sink.step % 3 == 0 && mvcc_intent_put(r->fx->db, slice_of(&sink.step, 4), &r->intents[sink.step]))
		r->intents[sink.step] = 0;
	err = mvcc_txn_begin(r->fx->db, &sink.txn);
	if (err)
		return err;
	do_step(&sink);
	if (!sink.err && sink.step % 3 == 1 && r->intents[sink.step - 1]) {
		sink.err = mvcc_txn_settle(sink.txn, r->intents[sink.step - 1]);
		r->settling[sink.step - 1] = true;
	}
	if (sink.err) {
		mvcc_txn_abort(sink.txn);
		return sink.err;
	}
	err = mvcc_txn_commit(sink.txn, &story, MVCC_COMMIT_WAIT, &rev);
	if (!err)
		r->acked[sink.step] = rev;
	return err;
}

static void sync_run(struct run *r)
{
	mvcc_rev_t now = mvcc_current(r->fx->db);

	if (mvcc_sync(r->fx->db, MVCC_REV_LATEST) == 0)
		r->synced = now;
}

/* Reads of every kind, for their engine calls; their results are checked when nothing fails. */
static void read_around(struct mvcc *db)
{
	struct mvcc_view *view = NULL;
	struct mvcc_item item = { 0 };
	struct mvcc_rows rows = { 0 };

	if (mvcc_view_open(db, 1 + mvcc_current(db) / 2, &view))
		return;
	if (mvcc_get(view, str("a"), &item) == 0)
		mvcc_item_release(&item);
	if (mvcc_range(view, str("b"), str("big010"), NULL, &rows) == 0)
		mvcc_rows_release(&rows);
	mvcc_view_close(view);
}

static void run_scenario(struct run *r)
{
	for (int i = 0; i < STEP_KINDS; i++)
		commit_step(r);
	sync_run(r);
	read_around(r->fx->db);
	commit_step(r);
	mvcc_close(r->fx->db); /* an error is allowed: the ring has it */
	r->fx->db = NULL;
	if (fixture_try_open(r->fx))
		return;
	for (int i = 0; i < STEP_KINDS; i++)
		commit_step(r);
	read_around(r->fx->db);
	sync_run(r);
	commit_step(r);
}

/* ---- judging what is left ------------------------------------------------------------------ */

static const char *judged; /* what went wrong first, for a message that helps; NULL if nothing */

static bool wrong(const char *what)
{
	if (!judged)
		judged = what;
	return false;
}

static bool value_is(const struct mvcc_item *item, const struct table_row *row)
{
	uint8_t expected[1024];

	if (item->value.len < 4 || get_le32(item->value.data) != row->step)
		return false;
	return strcmp(row->key, "hot") == 0 || slice_eq(item->value, value_of(row->key, row->step, expected));
}

static bool blobs_are(struct mvcc *db, const struct mvcc_item *item, uint32_t step)
{
	uint8_t expected[5000], got[5001];

	blob_of(step, expected);
	for (size_t i = 0; i < item->nblobs; i++)
		if (mvcc_blob_read(db, item->blobs[i], 0, got, sizeof(got)) != 5000 ||
		    memcmp(got, expected, 5000) != 0)
			return false;
	return true;
}

static bool state_is(struct mvcc *db, mvcc_rev_t rev, const struct table *t)
{
	const struct mvcc_item *item;
	struct mvcc_cursor *c = NULL;
	struct mvcc_view *view = NULL;
	struct slice key;
	bool same = true;
	unsigned at = 0;

	if (mvcc_view_open(db, rev, &view))
		return wrong("a revision has no view");
	if (mvcc_cursor_open(view, str(""), str(""), &c)) {
		mvcc_view_close(view);
		return wrong("a view has no cursor");
	}
	while (same && mvcc_cursor_next(c, &key, &item) == 1) {
		while (at < t->n && !t->rows[at].there)
			at++;
		same = at < t->n && slice_eq(key, str(t->rows[at].key));
		if (!same)
			wrong("a row that should not be there, or one is missing");
		else if (!value_is(item, &t->rows[at]))
			same = wrong("a row of another step");
		else if (!blobs_are(db, item, t->rows[at].step))
			same = wrong("a blob is gone or changed");
		at++;
	}
	while (same && at < t->n && !t->rows[at].there)
		at++;
	if (same && at != t->n)
		same = wrong("rows are missing at the end");
	mvcc_cursor_close(c);
	mvcc_view_close(view);
	return same;
}

/* Every acknowledged revision can be read: its steps are all those before. */
static bool acked_is_readable(struct run *r)
{
	static struct table table;
	bool good = true;

	table = (struct table){ 0 };
	for (uint32_t i = 0; good && i < r->steps; i++) {
		struct sink sink = { .table = &table, .step = i };

		if (!r->acked[i])
			continue;
		do_step(&sink);
		good = state_is(r->fx->db, r->acked[i], &table);
	}
	return good;
}

/* The log's revisions are steps in order, each state is theirs; `there` says which steps were found. */
static bool history_is_of_steps(struct run *r, bool there[STEPS_MAX])
{
	struct mvcc *db = r->fx->db;
	static struct table table;
	const struct mvcc_entry *entry;
	struct mvcc_log *log = NULL;
	uint32_t last = 0;
	bool good = true;
	mvcc_rev_t rev = MVCC_REV_FIRST;

	table = (struct table){ 0 };
	if (mvcc_log_open(db, MVCC_REV_FIRST, MVCC_REV_LATEST, &log))
		return wrong("no log");
	if (mvcc_log_next(log, &entry) != 1 || entry->rev != rev)
		good = wrong("the log does not begin at revision 1");
	good = good && state_is(db, rev, &table);
	while (good && mvcc_log_next(log, &entry) == 1) {
		struct sink sink = { .table = &table, .step = entry->story.pid };

		if (entry->rev != ++rev) {
			good = wrong("the log has a gap");
		} else if (strcmp(entry->story.op, "step") != 0 || sink.step >= r->steps ||
			   (rev > 2 && sink.step <= last)) {
			good = wrong("the log is out of order");
		} else {
			last = sink.step;
			there[sink.step] = true;
			if (r->acked[sink.step] && r->acked[sink.step] != rev)
				good = wrong("a commit is at another revision than it was told");
			do_step(&sink);
			good = good && state_is(db, rev, &table);
		}
	}
	if (good && rev != mvcc_current(db))
		good = wrong("the log ends before the newest revision");
	mvcc_log_close(log);
	return good;
}

struct found_intents {
	uint64_t ids[STEPS_MAX];
	unsigned n;
};

static int find_intent(void *arg, uint64_t intent, struct slice payload)
{
	struct found_intents *f = arg;

	if (f->n < STEPS_MAX && payload.len == 4)
		f->ids[f->n++] = intent;
	return 0;
}

static bool intents_follow(struct run *r, const bool there[STEPS_MAX])
{
	struct found_intents f = { .n = 0 };

	if (mvcc_intents(r->fx->db, find_intent, &f))
		return wrong("no intents");
	for (uint32_t i = 0; i + 1 < r->steps; i++) {
		bool found = false;

		for (unsigned j = 0; j < f.n; j++)
			found |= r->intents[i] && f.ids[j] == r->intents[i];
		if (r->intents[i] && found && r->settling[i] && there[i + 1])
			return wrong("a settled intent is back");
		if (r->intents[i] && !found && !(r->settling[i] && there[i + 1]))
			return wrong("an intent is lost");
	}
	return true;
}

enum { MAY_LOSE_UNSYNCED = 1 };

static bool left_whole(struct run *r, unsigned flags)
{
	bool there[STEPS_MAX] = { false };
	bool lost = false;

	judged = NULL;
	if (!history_is_of_steps(r, there))
		return false;
	for (uint32_t i = 0; i < r->steps; i++) {
		if (!r->acked[i])
			continue;
		if (!there[i] && (!(flags & MAY_LOSE_UNSYNCED) || r->acked[i] <= r->synced))
			return wrong(r->acked[i] <= r->synced ? "a synced commit is lost" :
								"an acknowledged commit is lost");
		if (there[i] && lost)
			return wrong("a commit is there, one before it is not");
		lost |= !there[i];
	}
	if (!(flags & MAY_LOSE_UNSYNCED) && !intents_follow(r, there))
		return false;
	if (fixture_rows_of(r->fx, "stage", ""))
		return wrong("staged rows are left");
	if (verify_problems(r->fx->db))
		return wrong("the rows do not fit together");
	return true;
}

/* No blob is left that no record refers to: the sweep found them all. */
static size_t blobs_referred(struct mvcc *db)
{
	size_t n = 0;
	const struct mvcc_entry *entry;
	struct mvcc_log *log = NULL;

	if (mvcc_log_open(db, MVCC_REV_FIRST, MVCC_REV_LATEST, &log))
		return SIZE_MAX;
	while (mvcc_log_next(log, &entry) == 1) {
		if (entry->rev == MVCC_REV_FIRST)
			continue;
		n += entry->story.pid % STEP_KINDS == 1 ? 2 : entry->story.pid % STEP_KINDS == 2 ? 1 : 0;
	}
	mvcc_log_close(log);
	return n;
}

/* Opens what is left, judges it, and sees that the store goes on from there, over a restart, too. */
static bool goes_on(struct run *r, unsigned flags)
{
	bool good;
	int err = fixture_try_open(r->fx);

	if (err) {
		fprintf(stderr, "open: %s\n", mvcc_strerror(err));
		judged = NULL;
		return wrong("it does not open");
	}
	good = left_whole(r, flags);
	if (good && fixture_rows(r->fx, ENGINE_USE_BLOB) != blobs_referred(r->fx->db))
		good = wrong("staged blobs are left, or some are missing");
	if (good) {
		/* what was lost is lost; from here on nothing may be */
		for (uint32_t i = 0; i < r->steps; i++)
			if (r->acked[i] > mvcc_current(r->fx->db))
				r->acked[i] = 0;
		memset(r->intents, 0, sizeof(r->intents));
		for (int i = 0; good && i < STEP_KINDS; i++)
			if (commit_step(r))
				good = wrong("a commit fails, though nothing else does any more");
	}
	if (mvcc_close(r->fx->db) && good)
		good = wrong("the close fails");
	r->fx->db = NULL;
	if (good && fixture_try_open(r->fx))
		good = wrong("it does not open again");
	good = good && left_whole(r, 0);
	return good;
}

/* ---- every call failing -------------------------------------------------------------------- */

static struct fixture *faulty_fixture(struct mem_engine **mem, struct fault_engine **fault)
{
	static struct engine_provider provider;
	struct fixture *fx;

	*mem = mem_engine_new();
	*fault = *mem ? fault_engine_new(mem_engine_provider(*mem)) : NULL;
	if (!*fault)
		abort();
	provider = fault_engine_provider(*fault);
	fixture_use(&provider);
	fx = fixture_new();
	fx->opt.ring_bytes = 256 * KIB;
	fx->opt.sync_ms = 60000;
	fixture_use(NULL);
	return fx;
}

/* One run with the n-th call failing. `*again`: it did fail, so there may be more calls to try. */
static bool run_with_fault(struct fault_plan plan, bool *again)
{
	struct mem_engine *mem;
	struct fault_engine *fault;
	struct run *r = calloc(1, sizeof(*r));
	bool good = true;

	if (!r)
		abort();
	r->fx = faulty_fixture(&mem, &fault);
	fault_engine_arm(fault, plan);
	if (fixture_try_open(r->fx) == 0)
		run_scenario(r);
	*again = fault_engine_failed(fault) > 0;
	if (!*again)
		for (uint32_t i = 0; i < r->steps; i++)
			if (!r->acked[i])
				good = wrong("a commit failed, though no call did");
	mvcc_close(r->fx->db);
	r->fx->db = NULL;
	fault_engine_disarm(fault);
	good = good && goes_on(r, 0);
	if (!good)
		fprintf(stderr, "\nkinds %u, mode %d%s, call %llu: %s\n", plan.kinds, (int)plan.mode,
			plan.done ? " (done)" : "", (unsigned long long)plan.at, judged);
	fixture_close(r->fx);
	fault_engine_free(fault);
	mem_engine_free(mem);
	free(r);
	return good;
}

/* ---- all the store can do ------------------------------------------------------------------ */

enum { ANY_KINDS = 10, LEASE_OF = 1000, CAUSES_MAX = 2 * STEPS_MAX };

/* What made a revision: a step, or the end of the lease that a step had granted. */
struct cause {
	uint32_t step;
	bool expired;
};

struct all {
	struct run run;
	struct cause causes[CAUSES_MAX]; /* by revision, below `noted` */
	mvcc_rev_t noted;
	mvcc_rev_t floor, pinned; /* as told; pinned: 0 for no pin */
	bool floor_unsure, pin_unsure;
};

static void rolled_back(struct sink *s)
{
	unsigned savepoint = 0;
	char key[24];

	if (!s->txn)
		return;
	if (!s->err)
		s->err = mvcc_txn_savepoint(s->txn, &savepoint);
	for (unsigned i = 0; i < BIG_ROWS / 4; i++) {
		snprintf(key, sizeof(key), "big%03u", i);
		sink_put(s, key, i == 0);
	}
	if (!s->err)
		s->err = mvcc_txn_del_range(s->txn, str("a"), str("c"), NULL);
	if (!s->err)
		s->err = mvcc_txn_rollback(s->txn, savepoint);
}

static void sink_put_leased(struct sink *s, const char *key)
{
	struct mvcc_put put = { .key = str(key), .lease = LEASE_OF + s->step };
	uint8_t bytes[1024];

	put.value = value_of(key, s->step, bytes);
	if (!s->txn)
		sink_put(s, key, false);
	else if (!s->err)
		s->err = mvcc_txn_put_with(s->txn, &put);
}

static void table_del(struct table *t, const char *prefix)
{
	for (unsigned i = 0; i < t->n; i++)
		if (strncmp(t->rows[i].key, prefix, strlen(prefix)) == 0)
			t->rows[i].there = false;
}

/* What a request, or the end of a lease, does to the table. */
static void requested(struct sink *s)
{
	if (table_row(s->table, "hot")->there) {
		sink_put(s, "rq1", false);
		table_del(s->table, "once");
	}
	sink_put(s, "rq2", false);
}

static void lease_ended(struct table *t, uint32_t step)
{
	for (unsigned i = 0; i < t->n; i++)
		if (t->rows[i].key[0] == 'l' && t->rows[i].step == step)
			t->rows[i].there = false;
}

static void do_any_step(struct sink *s)
{
	switch (s->step % ANY_KINDS) {
	case 6:
		sink_put(s, "sp1", false);
		rolled_back(s);
		sink_put(s, "sp2", true);
		break;
	case 7:
		sink_put_leased(s, "l1");
		sink_put_leased(s, "l2");
		break;
	case 8: /* of the table: to the store it is told otherwise */
		lease_ended(s->table, s->step - 1);
		break;
	case 9:
		requested(s);
		break;
	default:
		do_step(s);
	}
}

static int request_step(struct mvcc *db, uint32_t step, const struct mvcc_story *story, mvcc_rev_t *rev)
{
	uint8_t first[1024], second[1024];
	struct mvcc_request_op ops[] = {
		{ .kind = MVCC_OP_PUT, .put = { .key = str("rq1"), .value = value_of("rq1", step, first) } },
		{ .kind = MVCC_OP_DELETE, .start = str("once"), .range = true, .end = str("oncf") },
		{ .kind = MVCC_OP_PUT, .put = { .key = str("rq2"), .value = value_of("rq2", step, second) } },
		{ .kind = MVCC_OP_RANGE, .start = str("rq"), .range = true, .end = str("rr") },
	};
	struct mvcc_compare there = { .target = MVCC_VERSION, .relation = MVCC_GREATER, .key = str("hot") };
	struct mvcc_request request = { .compares = &there,
					.ncompares = 1,
					.then_ops = ops,
					.nthen = 4,
					.else_ops = &ops[2],
					.nelse = 2 };
	struct mvcc_response response = { 0 };
	int err = mvcc_execute(db, &request, story, &response);

	if (!err)
		*rev = response.rev;
	mvcc_response_release(&response);
	return err;
}

static int transaction_step(struct mvcc *db, uint32_t step, const struct mvcc_story *story, mvcc_rev_t *rev)
{
	struct sink sink = { .step = step };
	mvcc_lease_t got;
	int err = step % ANY_KINDS == 7 ? mvcc_lease_grant(db, LEASE_OF + step, 3600 * 1000, &got) : 0;

	if (!err)
		err = mvcc_txn_begin(db, &sink.txn);
	if (err)
		return err;
	do_any_step(&sink);
	if (sink.err) {
		mvcc_txn_abort(sink.txn);
		return sink.err;
	}
	return mvcc_txn_commit(sink.txn, story, MVCC_COMMIT_WAIT, rev);
}

static int any_step(struct all *a)
{
	struct run *r = &a->run;
	uint32_t step = r->steps;
	struct mvcc_story story = { .op = "step", .pid = step };
	mvcc_rev_t rev = 0;
	int err;

	if (step == STEPS_MAX)
		abort();
	r->steps++;
	if (step % ANY_KINDS == 9)
		err = request_step(r->fx->db, step, &story, &rev);
	else if (step % ANY_KINDS == 8)
		err = mvcc_lease_revoke(r->fx->db, LEASE_OF + step - 1, &story, &rev);
	else
		err = transaction_step(r->fx->db, step, &story, &rev);
	if (!err)
		r->acked[step] = rev;
	return err;
}

static void any_steps(struct all *a, int n)
{
	while (n--)
		any_step(a);
}

/* Notes what made the revisions from `a->noted` on; false if that cannot be read, or is wrong. */
static bool note_causes(struct all *a)
{
	struct mvcc *db = a->run.fx->db;
	const struct mvcc_entry *entry;
	struct mvcc_log *log = NULL;
	mvcc_rev_t rev = a->noted;
	int got = rev > mvcc_current(db) ? 0 : mvcc_log_open(db, rev, MVCC_REV_LATEST, &log);

	while (!got && log && (got = mvcc_log_next(log, &entry)) == 1) {
		struct cause cause = { .step = entry->story.pid,
				       .expired = strcmp(entry->story.op, "expire") == 0 };

		if (cause.expired)
			cause.step = (uint32_t)strtoul(entry->story.message + strlen("lease "), NULL, 10) -
				     LEASE_OF;
		if (entry->rev != rev || rev == CAUSES_MAX) {
			mvcc_log_close(log);
			return wrong("the log has a gap");
		}
		a->causes[rev++] = cause;
		got = 0;
	}
	mvcc_log_close(log);
	if (!got)
		a->noted = rev;
	return !got;
}

/* Only what was noted goes. */
static void compact_all(struct all *a, mvcc_rev_t behind)
{
	mvcc_rev_t rev = mvcc_current(a->run.fx->db) - behind;

	if (!note_causes(a) || rev <= a->floor)
		return;
	if (mvcc_compact(a->run.fx->db, rev) == 0)
		a->floor = rev;
	else
		a->floor_unsure = true;
}

static void pin_all(struct all *a)
{
	mvcc_rev_t rev = mvcc_current(a->run.fx->db);

	if (mvcc_pin(a->run.fx->db, "p", rev) == 0)
		a->pinned = rev;
	else
		a->pin_unsure = true;
}

static void unpin_all(struct all *a)
{
	if (mvcc_unpin(a->run.fx->db, "p") == 0)
		a->pinned = 0;
	else
		a->pin_unsure = true;
}

/* What reads much: none of it changes anything, and any of it may fail. */
static void look_at_all(struct mvcc *db)
{
	struct mvcc_watch_options opt = { .from = mvcc_floor(db), .flags = MVCC_WATCH_PREV };
	const struct mvcc_entry *entry;
	struct mvcc_watch *watch = NULL;
	struct mvcc_view *view = NULL;
	struct mvcc_event event;
	struct mvcc_hash hash;

	if (mvcc_watch_open(db, &opt, &watch) == 0)
		while (mvcc_watch_next(watch, 0, &entry) == 1)
			while (mvcc_watch_event(watch, &event) == 1)
				;
	mvcc_watch_close(watch);
	if (mvcc_view_open(db, MVCC_REV_LATEST, &view) == 0)
		mvcc_hash(view, &hash);
	mvcc_view_close(view);
	mvcc_verify(db, NULL, NULL, NULL);
}

/* A copy that was told to be one is one. */
static bool copy_all(struct all *a)
{
	struct mvcc_options opt = a->run.fx->opt;
	struct mvcc *copy = NULL;
	mvcc_rev_t rev = 0;
	char dir[320];
	bool good = true;

	snprintf(dir, sizeof(dir), "%s/copy", a->run.fx->tmp);
	if (mvcc_checkpoint(a->run.fx->db, dir, &rev) == 0) {
		opt.dir = dir;
		opt.create = false;
		if (mvcc_open(&opt, &copy) == 0 && mvcc_current(copy) != rev)
			good = wrong("a copy is of another revision than was told");
		mvcc_close(copy);
	}
	fixture_rmdir(dir);
	return good;
}

static bool run_all(struct all *a)
{
	struct fixture *fx = a->run.fx;
	bool good;

	any_steps(a, ANY_KINDS);
	pin_all(a);
	any_steps(a, 4);
	compact_all(a, 1);
	mvcc_compact_wait(fx->db);
	good = copy_all(a);
	look_at_all(fx->db);
	any_steps(a, 2);
	mvcc_close(fx->db);
	fx->db = NULL;
	if (fixture_try_open(fx))
		return good;
	any_steps(a, ANY_KINDS);
	mvcc_sync(fx->db, MVCC_REV_LATEST);
	unpin_all(a);
	compact_all(a, 3);
	mvcc_upkeep(fx->db);
	any_steps(a, 2);
	return good;
}

static int first_pin(void *arg, const struct mvcc_pin *pin)
{
	*(mvcc_rev_t *)arg = pin->rev;
	return 0;
}

/* Floor and pin are as told; after an error they may have moved or not, and from now on it is known. */
static bool kept_as_told(struct all *a)
{
	mvcc_rev_t floor = mvcc_floor(a->run.fx->db), pinned = 0;

	if (mvcc_pins(a->run.fx->db, first_pin, &pinned))
		return wrong("the pins cannot be listed");
	if (floor != a->floor && !(a->floor_unsure && floor > a->floor))
		return wrong("the floor is another");
	if (pinned != a->pinned && !a->pin_unsure)
		return wrong("the pin is another");
	a->floor = floor;
	a->pinned = pinned;
	a->floor_unsure = a->pin_unsure = false;
	return true;
}

/* Each revision is made by a step of its own, later ones by later steps, and acknowledged ones as told. */
static bool causes_fit(struct all *a)
{
	struct run *r = &a->run;
	uint32_t next = 0;

	for (mvcc_rev_t rev = MVCC_REV_FIRST + 1; rev <= mvcc_current(r->fx->db); rev++) {
		const struct cause *c = &a->causes[rev];

		if (c->step >= r->steps || (!c->expired && c->step < next))
			return wrong("the log is out of order");
		if (!c->expired && r->acked[c->step] && r->acked[c->step] != rev)
			return wrong("a commit is at another revision than it was told");
		if (!c->expired)
			next = c->step + 1;
	}
	for (uint32_t i = 0; i < r->steps; i++)
		if (r->acked[i] && (r->acked[i] > mvcc_current(r->fx->db) ||
				    a->causes[r->acked[i]].step != i || a->causes[r->acked[i]].expired))
			return wrong("an acknowledged commit is lost");
	return true;
}

static bool states_fit(struct all *a)
{
	struct mvcc *db = a->run.fx->db;
	static struct table table;
	bool good = true;

	table = (struct table){ 0 };
	for (mvcc_rev_t rev = MVCC_REV_FIRST + 1; good && rev <= mvcc_current(db); rev++) {
		struct sink sink = { .table = &table, .step = a->causes[rev].step };

		if (a->causes[rev].expired)
			lease_ended(&table, sink.step);
		else
			do_any_step(&sink);
		if (rev >= a->floor || rev == a->pinned)
			good = state_is(db, rev, &table);
	}
	return good;
}

static bool all_is_whole(struct all *a)
{
	struct fixture *fx = a->run.fx;
	const char *leases;

	judged = NULL;
	if (!kept_as_told(a) || !note_causes(a) || !causes_fit(a) || !states_fit(a))
		return wrong("the log cannot be read");
	if (fixture_rows_of(fx, "stage", "") || fixture_rows_of(fx, "meta", "checkpoint/"))
		return wrong("something that was not finished is left");
	leases = lease_check(fx->db);
	if (leases)
		return wrong(leases);
	if (verify_problems(fx->db))
		return wrong("the rows do not fit together");
	return true;
}

/* What is left is whole, what was begun is finished, and the store goes on from there. */
static bool all_goes_on(struct all *a)
{
	struct fixture *fx = a->run.fx;
	bool good;

	judged = NULL;
	if (fixture_try_open(fx))
		return wrong("it does not open");
	good = all_is_whole(a);
	if (good && mvcc_compact_wait(fx->db))
		good = wrong("what is left of a compaction cannot be done");
	good = good && all_is_whole(a);
	while (good && a->run.steps % ANY_KINDS)
		a->run.steps++;
	for (int i = 0; good && i < ANY_KINDS; i++)
		if (any_step(a))
			good = wrong("a step fails, though no call does any more");
	if (good)
		compact_all(a, 0);
	if (mvcc_close(fx->db) && good)
		good = wrong("the close fails");
	fx->db = NULL;
	if (good && fixture_try_open(fx))
		good = wrong("it does not open again");
	return good && all_is_whole(a);
}

static bool all_with_fault(struct fault_plan plan, bool *again)
{
	struct mem_engine *mem;
	struct fault_engine *fault;
	struct all *a = calloc(1, sizeof(*a));
	bool good = true;

	if (!a)
		abort();
	judged = NULL;
	a->floor = a->noted = MVCC_REV_FIRST;
	a->run.fx = faulty_fixture(&mem, &fault);
	a->run.fx->opt.manual_upkeep = true;
	a->run.fx->opt.compact_bytes_per_s = UINT64_MAX;
	fault_engine_arm(fault, plan);
	if (fixture_try_open(a->run.fx) == 0)
		good = run_all(a);
	*again = fault_engine_failed(fault) > 0;
	mvcc_close(a->run.fx->db);
	a->run.fx->db = NULL;
	fault_engine_disarm(fault);
	if (!*again) {
		for (uint32_t i = 0; i < a->run.steps; i++)
			if (!a->run.acked[i])
				good = wrong("a step failed, though no call did");
		if (a->floor == MVCC_REV_FIRST || a->floor_unsure || a->pin_unsure)
			good = wrong("pins or compaction failed, though no call did");
	}
	good = good && all_goes_on(a);
	if (!good)
		fprintf(stderr, "\nall, kinds %u, mode %d, call %llu: %s\n", plan.kinds, (int)plan.mode,
			(unsigned long long)plan.at, judged);
	fixture_close(a->run.fx);
	fault_engine_free(fault);
	mem_engine_free(mem);
	free(a);
	return good;
}

/* Sanitizers are several times slower, the one for threads most of all, and try a share of the calls. */
#ifdef __has_feature
#define HAS_FEATURE(feature) __has_feature(feature)
#else
#define HAS_FEATURE(feature) 0
#endif
#if defined(__SANITIZE_THREAD__) || HAS_FEATURE(thread_sanitizer)
enum { SHARE = 16 };
#elif defined(__SANITIZE_ADDRESS__) || HAS_FEATURE(address_sanitizer)
enum { SHARE = 4 };
#else
enum { SHARE = 1 };
#endif

/*
 * Fails every n-th call, one run for each. Where a scenario has more than half of `most` of them, the steps
 * grow from there on; MVCCFS_LONG=1 tries each one all the same.
 */
static void fail_calls_of(bool (*scenario)(struct fault_plan plan, bool *again), struct fault_plan plan,
			  uint64_t most)
{
	uint64_t stride = 1, tried = 0;
	bool again = true;
	unsigned bad = 0;

	plan.at = 1;
	most = fixture_env("MVCCFS_LONG", 0) ? UINT64_MAX : most / SHARE;
	while (again && bad < 3) {
		bad += !scenario(plan, &again);
		if (++tried > most / 2)
			stride = 1 + plan.at / (most / 4 + 1);
		plan.at += stride;
	}
	CU_ASSERT_EQUAL(bad, 0);
	CU_ASSERT(tried > 1);
}

static void fail_every_call(unsigned kinds, enum fault_mode mode, bool done, int err, uint64_t most)
{
	fail_calls_of(run_with_fault,
		      (struct fault_plan){ .kinds = kinds, .err = err, .mode = mode, .done = done }, most);
}

static void fail_every_call_of_all(unsigned kinds, enum fault_mode mode, bool done, int err, uint64_t most)
{
	fail_calls_of(all_with_fault,
		      (struct fault_plan){ .kinds = kinds, .err = err, .mode = mode, .done = done }, most);
}

static void test_any_write_may_fail_once_whatever_the_store_does(void)
{
	fail_every_call_of_all(FAULT_WRITE | FAULT_SYNC | FAULT_CHECKPOINT | FAULT_REWRITE | FAULT_OPEN,
			       FAULT_ONCE, false, -EIO, 40);
	fail_every_call_of_all(FAULT_WRITE | FAULT_REWRITE, FAULT_ONCE, true, -EIO, 40);
}

static void test_any_read_may_fail_once_whatever_the_store_does(void)
{
	fail_every_call_of_all(FAULT_GET | FAULT_ITER | FAULT_MOVE | FAULT_BATCH, FAULT_ONCE, false, -EIO,
			       40);
}

static void test_the_process_may_die_at_any_call_whatever_the_store_does(void)
{
	fail_every_call_of_all(FAULT_ALL, FAULT_CRASH, false, -EIO, 60);
}

static void test_any_write_may_fail_once(void)
{
	fail_every_call(FAULT_WRITE, FAULT_ONCE, false, -EIO, 200);
}

static void test_any_write_may_fail_and_be_done_all_the_same(void)
{
	fail_every_call(FAULT_WRITE, FAULT_ONCE, true, -EIO, 200);
}

static void test_writes_may_fail_from_any_on(void)
{
	fail_every_call(FAULT_WRITE | FAULT_SYNC, FAULT_FROM_ON, false, -ENOSPC, 200);
}

static void test_any_sync_may_fail(void)
{
	fail_every_call(FAULT_SYNC, FAULT_ONCE, false, -EIO, 200);
}

static void test_any_open_may_fail(void)
{
	bool again = true;
	unsigned bad = 0;

	for (uint64_t n = 1; again && n < 10; n++)
		bad += !run_with_fault(
			(struct fault_plan){ .kinds = FAULT_OPEN, .at = n, .err = -EIO, .mode = FAULT_ONCE },
			&again);
	CU_ASSERT_EQUAL(bad, 0);
	CU_ASSERT_FALSE(again);
}

static void test_any_batch_may_find_no_memory(void)
{
	fail_every_call(FAULT_BATCH, FAULT_ONCE, false, -ENOMEM, 200);
}

static void test_any_get_may_fail(void)
{
	fail_every_call(FAULT_GET, FAULT_ONCE, false, -EIO, 60);
}

static void test_any_iterator_may_not_come(void)
{
	fail_every_call(FAULT_ITER, FAULT_ONCE, false, -EIO, 200);
}

static void test_any_move_of_an_iterator_may_fail(void)
{
	fail_every_call(FAULT_MOVE, FAULT_ONCE, false, MVCC_ECORRUPT, 60);
}

static void test_the_process_may_die_at_any_call(void)
{
	fail_every_call(FAULT_ALL, FAULT_CRASH, false, -EIO, 90);
}

static void test_the_process_may_die_behind_any_write(void)
{
	fail_every_call(FAULT_WRITE, FAULT_CRASH, true, -EIO, 200);
}

/* ---- a full disk --------------------------------------------------------------------------- */

static void test_a_full_disk_stops_writers_only_and_is_left_in_place(void)
{
	struct mem_engine *mem;
	struct fault_engine *fault;
	struct run *r = calloc(1, sizeof(*r));
	uint32_t refused = 0;
	mvcc_rev_t rev;
	int err = 0;

	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	r->fx = faulty_fixture(&mem, &fault);
	r->fx->opt.sync_ms = 50; /* syncs are tried all the time */
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(r->fx), 0);
	for (int i = 0; i < 2 * STEP_KINDS; i++)
		CU_ASSERT_EQUAL(commit_step(r), 0);
	fault_engine_arm(fault, (struct fault_plan){ .kinds = FAULT_WRITE | FAULT_SYNC,
						     .at = 1,
						     .err = -ENOSPC,
						     .mode = FAULT_FROM_ON });
	while (!err && r->steps < 100) /* the ring takes some yet */
		err = commit_step(r);
	CU_ASSERT_EQUAL(err, -ENOSPC);
	CU_ASSERT_EQUAL(mvcc_sync(r->fx->db, MVCC_REV_LATEST), -ENOSPC);
	rev = mvcc_current(r->fx->db);
	CU_ASSERT_NOT_EQUAL(commit_step(r), 0);
	CU_ASSERT_EQUAL(mvcc_current(r->fx->db), rev);
	judged = NULL;
	CU_ASSERT(acked_is_readable(r)); /* meanwhile */
	if (judged)
		fprintf(stderr, "\nwhile the disk is full: %s\n", judged);
	fault_engine_disarm(fault);
	while (commit_step(r) && refused < 100) { /* the store tries by itself, not at once */
		refused++;
		nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
	}
	CU_ASSERT(r->acked[r->steps - 1] > rev);
	for (int i = 0; i < STEP_KINDS; i++)
		CU_ASSERT_EQUAL(commit_step(r), 0);
	CU_ASSERT_EQUAL(mvcc_sync(r->fx->db, MVCC_REV_LATEST), 0);
	CU_ASSERT(left_whole(r, 0));
	CU_ASSERT_EQUAL(mvcc_close(r->fx->db), 0);
	r->fx->db = NULL;
	CU_ASSERT(goes_on(r, 0));
	if (judged)
		fprintf(stderr, "\nafter the disk was full: %s\n", judged);
	fixture_close(r->fx);
	fault_engine_free(fault);
	mem_engine_free(mem);
	free(r);
}

static void test_a_sync_that_failed_is_told_to_all_who_wait(void)
{
	struct mem_engine *mem;
	struct fault_engine *fault;
	struct fixture *fx = faulty_fixture(&mem, &fault);
	unsigned tries = 0;

	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	put(fx->db, "a", "1");
	fault_engine_arm(fault, (struct fault_plan){
					.kinds = FAULT_SYNC, .at = 1, .err = -EIO, .mode = FAULT_FROM_ON });
	CU_ASSERT_EQUAL(mvcc_sync(fx->db, MVCC_REV_LATEST), -EIO);
	assert_value_at(fx->db, MVCC_REV_LATEST, "a", "1");
	fault_engine_disarm(fault);
	while (mvcc_sync(fx->db, MVCC_REV_LATEST) && tries++ < 100)
		nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
	CU_ASSERT(tries < 100);
	fixture_drain(fx);
	assert_value_at(fx->db, MVCC_REV_LATEST, "a", "1");
	fixture_close(fx);
	fault_engine_free(fault);
	mem_engine_free(mem);
}

static void test_the_reserve_is_kept_for_deletes(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;
	struct statvfs vfs;

	put(fx->db, "a", "1");
	put(fx->db, "b", "1");
	CU_ASSERT_EQUAL_FATAL(statvfs(fx->tmp, &vfs), 0);
	fx->opt.reserve_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize / 4 * 5;
	fixture_reopen(fx);
	txn = begin(fx->db);
	txn_put(txn, "c", "1");
	CU_ASSERT_EQUAL(commit_err(txn), -ENOSPC);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 3);
	CU_ASSERT_EQUAL(del(fx->db, "a"), 4);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "b=1");
	fx->opt.reserve_bytes = 1;
	fixture_reopen(fx);
	CU_ASSERT_EQUAL(put(fx->db, "c", "1"), 5);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "b=1 c=1");
	fixture_close(fx);
}

/* They are too many for memory. */
static void test_many_deletes_use_the_reserve_too(void)
{
	struct fixture *fx = fixture_open_small_ring();
	struct mvcc_txn *txn = begin(fx->db);
	struct statvfs vfs;
	char key[32];

	for (unsigned i = 0; i < 1000; i++) {
		snprintf(key, sizeof(key), "key %u", i);
		txn_put(txn, key, "1");
	}
	commit(txn);
	CU_ASSERT_EQUAL_FATAL(statvfs(fx->tmp, &vfs), 0);
	fx->opt.reserve_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize / 4 * 5;
	fixture_reopen(fx);
	txn = begin(fx->db);
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(key, sizeof(key), "key %u", i);
		CU_ASSERT_EQUAL(mvcc_txn_del(txn, str(key)), 0);
	}
	CU_ASSERT(fixture_rows_of(fx, "stage", "") > 0);
	CU_ASSERT_EQUAL(commit(txn), 3);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "");
	fixture_close(fx);
}

/* ---- death of the process ------------------------------------------------------------------ */

static struct run *run_new(void)
{
	struct run *r = calloc(1, sizeof(*r));

	if (!r)
		abort();
	fixture_use(NULL);
	r->fx = fixture_new();
	r->fx->opt.ring_bytes = 256 * KIB;
	r->fx->opt.sync_ms = 60000;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(r->fx), 0);
	return r;
}

static void run_free(struct run *r)
{
	fixture_close(r->fx);
	free(r);
}

/* Nothing of what the process still does reaches the engine any more. */
static void die(struct run *r)
{
	mem_engine_kill(r->fx->mem);
	fixture_sluice_open(r->fx);
	mvcc_close(r->fx->db);
	r->fx->db = NULL;
}

/* Does the step write to the engine before its commit: blobs, or more than a transaction keeps in memory? */
static bool needs_engine(uint32_t step)
{
	return step % STEP_KINDS == 1 || step % STEP_KINDS == 2 || step % STEP_KINDS == 4;
}

static void test_a_kill_loses_nothing_that_only_the_ring_had(void)
{
	struct run *r = run_new();
	struct mvcc_stats stats;
	struct mvcc_txn *txn;
	mvcc_blob_t blob;

	for (int i = 0; i < STEP_KINDS; i++)
		CU_ASSERT_EQUAL(commit_step(r), 0);
	fixture_drain(r->fx);
	fixture_sluice_shut(r->fx);
	while (r->steps < 30) {
		if (needs_engine(r->steps))
			r->steps++;
		else
			CU_ASSERT_EQUAL(commit_step(r), 0);
	}
	die(r);
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(r->fx), 0);
	mvcc_stats(r->fx->db, &stats);
	CU_ASSERT_EQUAL(stats.replayed, 12);
	CU_ASSERT(left_whole(r, 0));
	txn = begin(r->fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_stage_blob(txn, str("staged, and then death"), &blob), 0);
	mem_engine_kill(r->fx->mem);
	mvcc_txn_abort(txn); /* too late to take anything back */
	die(r);
	CU_ASSERT(goes_on(r, 0));
	if (judged)
		fprintf(stderr, "\nafter a kill: %s\n", judged);
	run_free(r);
}

static void test_a_kill_at_any_step_loses_nothing(void)
{
	for (uint32_t steps = 0; steps < 4 * STEP_KINDS; steps++) {
		struct run *r = run_new();
		bool good;

		for (uint32_t i = 0; i < steps; i++)
			CU_ASSERT_EQUAL(commit_step(r), 0);
		die(r);
		good = goes_on(r, 0);
		if (!good)
			fprintf(stderr, "\nkilled after %u steps: %s\n", steps, judged);
		CU_ASSERT(good);
		run_free(r);
	}
}

static void *commit_steps(void *arg)
{
	struct run *r = arg;

	while (r->steps < 60 && commit_step(r) == 0)
		;
	return NULL;
}

static void test_a_kill_at_any_moment_loses_nothing(void)
{
	uint64_t state = 99;

	for (int round = 0; round < 40; round++) {
		struct run *r = run_new();
		pthread_t thread;
		bool good;

		CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, commit_steps, r), 0);
		nanosleep(&(struct timespec){ .tv_nsec = (long)random_below(&state, 20000000) }, NULL);
		mem_engine_kill(r->fx->mem);
		pthread_join(thread, NULL);
		die(r);
		good = goes_on(r, 0);
		if (!good)
			fprintf(stderr, "\nkilled in round %d: %s\n", round, judged);
		CU_ASSERT(good);
		run_free(r);
	}
}

static void test_counters_do_not_go_back_by_a_kill_or_a_power_cut(void)
{
	struct run *r = run_new();
	uint64_t first = 0, last = 0;

	for (int i = 0; i < 30; i++) {
		for (int j = 0; j < 5; j++) {
			CU_ASSERT_EQUAL(mvcc_reserve(r->fx->db, "ino", 3, &first), 0);
			CU_ASSERT(first > last);
			last = first + 2;
		}
		if (i % 2)
			mem_engine_power_cut(r->fx->mem);
		die(r);
		CU_ASSERT_EQUAL_FATAL(fixture_try_open(r->fx), 0);
	}
	run_free(r);
}

/* ---- power cuts ---------------------------------------------------------------------------- */

/* The ring's file in the database: the one that is as large as the ring. */
static bool find_ring(const char *dir, char path[1024], off_t *len)
{
	DIR *d = opendir(dir);
	struct dirent *entry;
	struct stat st;
	bool found = false;

	while (d && !found && (entry = readdir(d))) {
		snprintf(path, 1024, "%s/%s", dir, entry->d_name);
		found = stat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size >= (off_t)(256 * KIB);
	}
	if (d)
		closedir(d);
	*len = found ? st.st_size : 0;
	return found;
}

enum damage {
	RING_KEPT,
	RING_ZEROED,      /* every byte */
	RING_DATA_ZEROED, /* but for the first page */
	RING_TRUNCATED,
	RING_EMPTY,
	RING_GONE,
	RING_FLIPPED, /* one bit, anywhere in what is not zero */
	RING_TORN,    /* a page of it, the newest perhaps, is as it was at first: zero */
	RING_OLD,     /* as it was some commits ago */
	RING_DAMAGES,
};

static void write_zeros(int fd, off_t off, off_t len)
{
	static const uint8_t zeros[4096];

	for (; len > 0; off += 4096, len -= 4096)
		CU_ASSERT(pwrite(fd, zeros, len < 4096 ? (size_t)len : 4096, off) > 0);
}

static void flip_bit(int fd, off_t file_len, uint64_t *state)
{
	uint8_t byte = 0;
	off_t at = 0;

	for (int i = 0; i < 10000 && !byte; i++) {
		at = (off_t)random_below(state, (uint64_t)file_len);
		if (pread(fd, &byte, 1, at) != 1)
			byte = 0;
	}
	byte ^= (uint8_t)(1u << random_below(state, 8));
	CU_ASSERT_EQUAL(pwrite(fd, &byte, 1, at), 1);
}

static void damage_ring(const char *dir, const char *old_dir, enum damage damage, uint64_t *state)
{
	char path[1024];
	off_t len;
	int fd, err = 0;

	if (damage == RING_KEPT)
		return;
	if (damage == RING_OLD) {
		CU_ASSERT_EQUAL(fixture_copy_files(old_dir, dir), 0);
		return;
	}
	CU_ASSERT(find_ring(dir, path, &len));
	if (damage == RING_GONE) {
		CU_ASSERT_EQUAL(unlink(path), 0);
		return;
	}
	fd = open(path, O_RDWR | O_CLOEXEC);
	CU_ASSERT(fd >= 0);
	if (fd < 0)
		return;
	if (damage == RING_ZEROED)
		write_zeros(fd, 0, len);
	else if (damage == RING_DATA_ZEROED)
		write_zeros(fd, 4096, len - 4096);
	else if (damage == RING_TRUNCATED)
		err = ftruncate(fd, (off_t)random_below(state, (uint64_t)len));
	else if (damage == RING_EMPTY)
		err = ftruncate(fd, 0);
	else if (damage == RING_FLIPPED)
		flip_bit(fd, len, state);
	else
		write_zeros(fd, (off_t)random_below(state, (uint64_t)len / 4096) * 4096, 4096);
	CU_ASSERT_EQUAL(err, 0);
	close(fd);
}

static void cut_power(enum damage damage, unsigned rounds)
{
	uint64_t state = 7 + damage;

	for (unsigned round = 0; round < rounds; round++) {
		struct run *r = run_new();
		uint32_t steps = (uint32_t)random_below(&state, 4 * STEP_KINDS);
		uint32_t synced_at = (uint32_t)random_below(&state, 4 * STEP_KINDS);
		uint32_t copied_at = (uint32_t)random_below(&state, steps + 1);
		char old_dir[300];
		bool good;

		snprintf(old_dir, sizeof(old_dir), "%s/old", r->fx->tmp);
		CU_ASSERT_EQUAL(mkdir(old_dir, 0700), 0);
		for (uint32_t i = 0; i < steps; i++) {
			if (i == copied_at)
				CU_ASSERT_EQUAL(fixture_copy_files(r->fx->dir, old_dir), 0);
			CU_ASSERT_EQUAL(commit_step(r), 0);
			if (i == synced_at)
				sync_run(r);
		}
		if (copied_at == steps)
			CU_ASSERT_EQUAL(fixture_copy_files(r->fx->dir, old_dir), 0);
		mem_engine_power_cut_keeping(r->fx->mem, random_below(&state, 40));
		die(r);
		damage_ring(r->fx->dir, old_dir, damage, &state);
		good = goes_on(r, MAY_LOSE_UNSYNCED);
		if (!good)
			fprintf(stderr, "\npower cut, damage %d, round %u, %u steps, synced after %u: %s\n",
				(int)damage, round, steps, synced_at, judged);
		CU_ASSERT(good);
		run_free(r);
		if (!good)
			break;
	}
}

static void test_a_power_cut_leaves_a_prefix(void)
{
	cut_power(RING_KEPT, 40);
}

static void test_a_power_cut_that_took_the_ring_leaves_a_prefix(void)
{
	cut_power(RING_ZEROED, 10);
	cut_power(RING_DATA_ZEROED, 10);
	cut_power(RING_TRUNCATED, 10);
	cut_power(RING_EMPTY, 10);
	cut_power(RING_GONE, 10);
}

static void test_a_power_cut_that_tore_the_ring_leaves_a_prefix(void)
{
	cut_power(RING_FLIPPED, 30);
	cut_power(RING_TORN, 30);
	cut_power(RING_OLD, 30);
}

enum { RUN_KEYS = 3000 };

/* Commits a run that takes several batches to be moved, and waits until it is. */
static void move_a_run(struct fixture *fx)
{
	static const char value[1024] = "of the run";
	struct mvcc_txn *txn = begin(fx->db);
	struct mvcc_stats stats;
	char key[16];

	for (unsigned i = 0; i < RUN_KEYS; i++) {
		snprintf(key, sizeof(key), "k%04u", i);
		CU_ASSERT_EQUAL(mvcc_txn_put(txn, str(key), slice_of(value, sizeof(value)), NULL, 0), 0);
	}
	commit(txn);
	do {
		usleep(1000);
		mvcc_stats(fx->db, &stats);
	} while (stats.applied != stats.current && !stats.failed);
	CU_ASSERT_EQUAL(stats.failed, 0);
}

static void test_a_run_half_moved_is_moved_to_its_end_whatever_became_of_the_ring(void)
{
	uint64_t state = 1, moved = 0;
	bool all = false;

	for (size_t keep = 0; !all; keep++) {
		struct fixture *fx = fixture_new();
		struct mvcc_rows rows = { 0 };
		struct mvcc_view *view;

		fx->opt.sync_ms = 3600000;
		CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
		put(fx->db, "k0007", "before");
		fixture_drain(fx);
		move_a_run(fx);
		all = keep >= mem_engine_unsynced(fx->mem);
		mem_engine_power_cut_keeping(fx->mem, keep);
		mvcc_close(fx->db);
		fx->db = NULL;
		damage_ring(fx->dir, NULL, keep % 2 ? RING_ZEROED : RING_DATA_ZEROED, &state);
		CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
		CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, MVCC_REV_LATEST, &view), 0);
		CU_ASSERT_EQUAL(mvcc_range(view, str("k"), str("l"), NULL, &rows), 0);
		CU_ASSERT(rows.n == 1 || rows.n == RUN_KEYS);
		CU_ASSERT_EQUAL(mvcc_current(fx->db), rows.n == 1 ? 2 : 3);
		moved += rows.n == RUN_KEYS;
		mvcc_rows_release(&rows);
		mvcc_view_close(view);
		assert_value_at(fx->db, 2, "k0007", "before");
		fixture_verify(fx);
		CU_ASSERT_EQUAL(put(fx->db, "after", "it"), mvcc_current(fx->db));
		fixture_reopen(fx);
		fixture_verify(fx);
		fixture_close(fx);
	}
	CU_ASSERT(moved >= 3); /* not the last batch alone */
}

/* The same with the engine whole: what had reached it stays, what was damaged ends the replay. */
static void test_a_damaged_ring_ends_the_replay_not_the_store(void)
{
	uint64_t state = 5;

	for (int damage = RING_ZEROED; damage < RING_DAMAGES; damage++) {
		for (int round = 0; round < 8; round++) {
			struct run *r = run_new();
			char old_dir[300];
			bool good;

			snprintf(old_dir, sizeof(old_dir), "%s/old", r->fx->tmp);
			CU_ASSERT_EQUAL(mkdir(old_dir, 0700), 0);
			for (int i = 0; i < STEP_KINDS; i++)
				CU_ASSERT_EQUAL(commit_step(r), 0);
			sync_run(r);
			fixture_sluice_shut(r->fx);
			while (r->steps < 24) {
				if (needs_engine(r->steps))
					r->steps++;
				else
					CU_ASSERT_EQUAL(commit_step(r), 0);
				if (r->steps == 15)
					CU_ASSERT_EQUAL(fixture_copy_files(r->fx->dir, old_dir), 0);
			}
			die(r);
			damage_ring(r->fx->dir, old_dir, (enum damage)damage, &state);
			good = goes_on(r, MAY_LOSE_UNSYNCED);
			if (!good)
				fprintf(stderr, "\nring damage %d, round %d: %s\n", damage, round, judged);
			CU_ASSERT(good);
			run_free(r);
		}
	}
}

static void test_a_store_half_made_is_made_anew(void)
{
	bool again = true;

	for (uint64_t n = 1; again && n < 200; n++) {
		struct mem_engine *mem;
		struct fault_engine *fault;
		struct fixture *fx = faulty_fixture(&mem, &fault);
		int err;

		fault_engine_arm(
			fault,
			(struct fault_plan){ .kinds = FAULT_ALL, .at = n, .err = -EIO, .mode = FAULT_CRASH });
		err = fixture_try_open(fx);
		again = fault_engine_failed(fault) > 0;
		if (n % 2)
			mem_engine_power_cut(mem);
		else
			mem_engine_kill(mem);
		mvcc_close(fx->db);
		fx->db = NULL;
		CU_ASSERT(again || err == 0);
		fault_engine_disarm(fault);
		CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
		CU_ASSERT_EQUAL(mvcc_current(fx->db), MVCC_REV_FIRST);
		assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "");
		CU_ASSERT_EQUAL(put(fx->db, "a", "1"), 2);
		fixture_reopen(fx);
		assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "a=1");
		fixture_close(fx);
		fault_engine_free(fault);
		mem_engine_free(mem);
	}
	CU_ASSERT_FALSE(again);
}

/* -------------------------------------------------------------------------------------------- */

static CU_TestInfo tests[] = {
	UNIT_TEST(test_any_write_may_fail_once),
	UNIT_TEST(test_any_write_may_fail_once_whatever_the_store_does),
	UNIT_TEST(test_any_read_may_fail_once_whatever_the_store_does),
	UNIT_TEST(test_the_process_may_die_at_any_call_whatever_the_store_does),
	UNIT_TEST(test_any_write_may_fail_and_be_done_all_the_same),
	UNIT_TEST(test_writes_may_fail_from_any_on),
	UNIT_TEST(test_any_sync_may_fail),
	UNIT_TEST(test_any_open_may_fail),
	UNIT_TEST(test_any_batch_may_find_no_memory),
	UNIT_TEST(test_any_get_may_fail),
	UNIT_TEST(test_any_iterator_may_not_come),
	UNIT_TEST(test_any_move_of_an_iterator_may_fail),
	UNIT_TEST(test_the_process_may_die_at_any_call),
	UNIT_TEST(test_the_process_may_die_behind_any_write),
	UNIT_TEST(test_a_full_disk_stops_writers_only_and_is_left_in_place),
	UNIT_TEST(test_a_sync_that_failed_is_told_to_all_who_wait),
	UNIT_TEST(test_the_reserve_is_kept_for_deletes),
	UNIT_TEST(test_many_deletes_use_the_reserve_too),
	UNIT_TEST(test_a_kill_loses_nothing_that_only_the_ring_had),
	UNIT_TEST(test_a_kill_at_any_step_loses_nothing),
	UNIT_TEST(test_a_kill_at_any_moment_loses_nothing),
	UNIT_TEST(test_counters_do_not_go_back_by_a_kill_or_a_power_cut),
	UNIT_TEST(test_a_power_cut_leaves_a_prefix),
	UNIT_TEST(test_a_power_cut_that_took_the_ring_leaves_a_prefix),
	UNIT_TEST(test_a_power_cut_that_tore_the_ring_leaves_a_prefix),
	UNIT_TEST(test_a_run_half_moved_is_moved_to_its_end_whatever_became_of_the_ring),
	UNIT_TEST(test_a_damaged_ring_ends_the_replay_not_the_store),
	UNIT_TEST(test_a_store_half_made_is_made_anew),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("faults", NULL, NULL, tests), CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
