/*
 * Compaction and pins against a plain list of records: at random, with every engine call failing, with the
 * power cut, and killed again and again.
 *
 * What revision r changes follows from r alone (step_changes()), so whoever knows how far a store came
 * knows every record it ever had, and the floor and the pins say which of them must be there: every
 * readable revision is compared with the list, and once the work is done the rows of the engine are counted,
 * which must be those of the list. KEEP_OPS, KEEP_SEED and KEEP_ROUNDS choose other than 5000 operations (on
 * memory; 1000 on RocksDB), the clock and 12 kills.
 */
#include "mvcc/keep.h"

#include "rocks_backend/rocks.h"
#include "tests/engines/fault_engine.h"
#include "tests/engines/mem_engine.h"
#include "tests/store_fixture.h"
#include "tests/unit.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

enum { KEYS = 8, PINS = 6, PINS_MAX = 64 };

/* ---- the list ------------------------------------------------------------------------------ */

struct record {
	unsigned key;
	mvcc_rev_t mod, end; /* end of 0: current */
	mvcc_rev_t blob;     /* the revision that brought the blob it refers to; 0 for none */
};

struct model {
	struct record *records;
	size_t n, cap;
	size_t live[KEYS]; /* index of the current record of each key plus 1, 0 for none */
	mvcc_rev_t current;
};

static const struct record *model_live(const struct model *m, unsigned key)
{
	return m->live[key] ? &m->records[m->live[key] - 1] : NULL;
}

static void model_del(struct model *m, unsigned key, mvcc_rev_t rev)
{
	if (m->live[key])
		m->records[m->live[key] - 1].end = rev;
	m->live[key] = 0;
}

static void model_put(struct model *m, unsigned key, mvcc_rev_t rev, mvcc_rev_t blob)
{
	model_del(m, key, rev);
	if (m->n == m->cap) {
		m->cap = m->cap ? 2 * m->cap : 256;
		m->records = realloc(m->records, m->cap * sizeof(*m->records));
		if (!m->records)
			abort();
	}
	m->records[m->n++] = (struct record){ .key = key, .mod = rev, .blob = blob };
	m->live[key] = m->n;
}

static void model_release(struct model *m)
{
	free(m->records);
	*m = (struct model){ 0 };
}

/* What revision `rev` does to the state before it. */
struct changes {
	unsigned put, other, from;
	bool anew;  /* the put key is deleted first */
	bool blob;  /* the put brings a blob */
	bool del;   /* `other` is deleted */
	bool share; /* `other` is put, with the blob that `from` refers to */
};

static struct changes step_changes(const struct model *m, mvcc_rev_t rev)
{
	uint64_t state = rev * 0x9e3779b97f4a7c15u + 1;
	struct changes c = { .anew = rev % 7 == 0, .blob = rev % 3 == 0 };
	const struct record *from;

	random_next(&state);
	c.put = (unsigned)random_below(&state, KEYS);
	c.other = (c.put + 1 + (unsigned)random_below(&state, KEYS - 1)) % KEYS;
	c.from = (unsigned)random_below(&state, KEYS);
	from = model_live(m, c.from);
	c.del = rev % 5 == 1;
	c.share = !c.del && rev % 2 == 0 && c.from != c.put && c.from != c.other && from && from->blob;
	return c;
}

static void model_step(struct model *m)
{
	mvcc_rev_t rev = m->current + 1;
	struct changes c = step_changes(m, rev);
	mvcc_rev_t shared = c.share ? model_live(m, c.from)->blob : 0;

	model_put(m, c.put, rev, c.blob ? rev : 0);
	if (c.del)
		model_del(m, c.other, rev);
	if (c.share)
		model_put(m, c.other, rev, shared);
	m->current = rev;
}

static void model_catch_up(struct model *m, mvcc_rev_t rev)
{
	if (!m->current)
		m->current = MVCC_REV_FIRST;
	while (m->current < rev)
		model_step(m);
}

static struct slice key_text(unsigned key, char out[8])
{
	snprintf(out, 8, "k%u", key);
	return str(out);
}

static struct slice value_text(mvcc_rev_t rev, char out[24])
{
	snprintf(out, 24, "%" PRIu64, rev);
	return str(out);
}

static struct slice blob_text(mvcc_rev_t rev, char out[64])
{
	snprintf(out, 64, "the blob that revision %" PRIu64 " brought", rev);
	return str(out);
}

/* ---- the same on a store ------------------------------------------------------------------- */

static int write_changes(struct mvcc_txn *txn, const struct changes *c, mvcc_rev_t rev)
{
	char key[8], value[24], blob_bytes[64];
	struct mvcc_item item = { 0 };
	mvcc_blob_t blob = 0;
	int err = 0;

	if (c->anew)
		err = mvcc_txn_del(txn, key_text(c->put, key));
	if (!err && c->blob)
		err = mvcc_txn_stage_blob(txn, blob_text(rev, blob_bytes), &blob);
	if (!err)
		err = mvcc_txn_put(txn, key_text(c->put, key), value_text(rev, value), &blob, c->blob);
	if (!err && c->del)
		err = mvcc_txn_del(txn, key_text(c->other, key));
	if (!err && c->share) {
		err = mvcc_txn_peek(txn, key_text(c->from, key), &item);
		if (!err)
			err = mvcc_txn_put(txn, key_text(c->other, key), value_text(rev, value), item.blobs,
					   item.nblobs);
		mvcc_item_release(&item);
	}
	return err;
}

/* Commits the next revision; the list goes on with it if that succeeds. */
static int store_step(struct mvcc *db, struct model *m)
{
	struct changes c = step_changes(m, m->current + 1);
	struct mvcc_txn *txn;
	mvcc_rev_t rev = 0;
	int err = mvcc_txn_begin(db, &txn);

	if (err)
		return err;
	err = write_changes(txn, &c, m->current + 1);
	if (err) {
		mvcc_txn_abort(txn);
		return err;
	}
	err = mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, &rev);
	if (err)
		return err;
	model_step(m);
	return rev == m->current ? 0 : -EPROTO;
}

/* ---- comparing ----------------------------------------------------------------------------- */

static bool blob_is(struct mvcc *db, const struct mvcc_item *item, mvcc_rev_t blob)
{
	char expected[64], got[64];
	struct slice bytes = blob_text(blob, expected);

	if (!blob)
		return item->nblobs == 0;
	return item->nblobs == 1 && mvcc_blob_read(db, item->blobs[0], 0, got, 64) == (ssize_t)bytes.len &&
	       slice_eq(slice_of(got, bytes.len), bytes);
}

/* The record of a key at a revision, NULL if it is absent. */
static const struct record *model_at(const struct model *m, unsigned key, mvcc_rev_t rev)
{
	for (size_t i = m->n; i-- > 0;) {
		const struct record *r = &m->records[i];

		if (r->key == key && r->mod <= rev)
			return r->end == 0 || r->end > rev ? r : NULL;
	}
	return NULL;
}

static unsigned view_errors(struct mvcc *db, struct mvcc_view *view, const struct model *m)
{
	const struct mvcc_item *item;
	struct mvcc_cursor *c;
	unsigned errors = 0;
	struct slice key;
	char text[8], value[24];

	if (mvcc_cursor_open(view, str(""), str(""), &c))
		return 1;
	for (unsigned k = 0; k < KEYS; k++) {
		const struct record *r = model_at(m, k, mvcc_view_rev(view));

		if (!r)
			continue;
		if (mvcc_cursor_next(c, &key, &item) != 1) {
			errors++;
			break;
		}
		errors += !slice_eq(key, key_text(k, text)) || item->mod_rev != r->mod ||
			  !slice_eq(item->value, value_text(r->mod, value)) || !blob_is(db, item, r->blob);
	}
	errors += mvcc_cursor_next(c, &key, &item) != 0;
	mvcc_cursor_close(c);
	return errors;
}

static unsigned rev_errors(struct mvcc *db, mvcc_rev_t rev, const struct model *m)
{
	struct mvcc_view *view;
	unsigned errors;

	if (mvcc_view_open(db, rev, &view))
		return 1;
	errors = view_errors(db, view, m);
	mvcc_view_close(view);
	if (errors)
		fprintf(stderr, "\nrevision %" PRIu64 ": %u errors\n", rev, errors);
	return errors;
}

struct pins {
	struct mvcc_pin v[PINS_MAX];
	unsigned n;
};

static int pins_add(void *arg, const struct mvcc_pin *pin)
{
	struct pins *pins = arg;

	if (pins->n == PINS_MAX)
		abort();
	pins->v[pins->n++] = *pin;
	return 0;
}

static bool is_visible(const struct record *r, mvcc_rev_t floor, const struct pins *pins)
{
	if (r->end == 0 || r->end > floor)
		return true;
	for (unsigned i = 0; i < pins->n; i++)
		if (pins->v[i].rev >= r->mod && pins->v[i].rev < r->end)
			return true;
	return false;
}

/* How many rows the visible records make. */
struct rows {
	size_t hist, ended, blobs, counts, log;
};

static int by_rev(const void *a, const void *b)
{
	const mvcc_rev_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static struct rows model_rows(const struct model *m, mvcc_rev_t floor, const struct pins *pins)
{
	mvcc_rev_t *refs = calloc(m->n + 1, sizeof(*refs));
	struct rows rows = { .log = m->current - floor + 1 };
	size_t nrefs = 0;

	if (!refs)
		abort();
	for (size_t i = 0; i < m->n; i++) {
		const struct record *r = &m->records[i];

		if (!is_visible(r, floor, pins))
			continue;
		rows.hist += r->end != 0;
		rows.ended += r->end && r->blob;
		if (r->blob)
			refs[nrefs++] = r->blob;
	}
	qsort(refs, nrefs, sizeof(*refs), by_rev);
	for (size_t i = 0, n; i < nrefs; i += n) {
		for (n = 1; i + n < nrefs && refs[i + n] == refs[i];)
			n++;
		rows.blobs++;
		rows.counts += n > 1;
	}
	free(refs);
	return rows;
}

static unsigned row_error(const char *what, size_t got, size_t expected)
{
	if (got != expected)
		fprintf(stderr, "\n%s: %zu rows, not %zu\n", what, got, expected);
	return got != expected;
}

/* All work is done, and the engine has what is visible, and no more. */
static unsigned rows_errors(struct fixture *fx, const struct model *m)
{
	struct pins pins = { .n = 0 };
	struct rows rows;
	int err = mvcc_sync(fx->db, MVCC_REV_LATEST);

	if (!err)
		err = mvcc_compact_wait(fx->db);
	if (err) {
		fprintf(stderr, "\ncompaction: %s\n", mvcc_strerror(err));
		return 1;
	}
	mvcc_pins(fx->db, pins_add, &pins);
	rows = model_rows(m, mvcc_floor(fx->db), &pins);
	return row_error("hist", fixture_rows_of(fx, "hist", ""), rows.hist) +
	       row_error("ended", fixture_rows_of(fx, "ended", ""), rows.ended) +
	       row_error("blob", fixture_rows_of(fx, "blob", ""), rows.blobs) +
	       row_error("log", fixture_rows_of(fx, "log", ""), rows.log) +
	       row_error("blobref", fixture_rows_of(fx, "default", "blobref/"), rows.counts) +
	       row_error("unpinned", fixture_rows_of(fx, "default", "unpinned/"), 0) +
	       row_error("pin", fixture_rows_of(fx, "default", "pin/"), pins.n);
}

/* Every pinned revision is right, and so are those from the floor up, `most` of them. */
static unsigned store_errors(struct fixture *fx, struct model *m, unsigned most)
{
	mvcc_rev_t floor = mvcc_floor(fx->db), current = mvcc_current(fx->db);
	mvcc_rev_t step = 1 + (current - floor) / most;
	struct pins pins = { .n = 0 };
	unsigned errors = 0;

	model_catch_up(m, current);
	mvcc_pins(fx->db, pins_add, &pins);
	for (unsigned i = 0; i < pins.n; i++)
		errors += rev_errors(fx->db, pins.v[i].rev, m);
	for (mvcc_rev_t rev = floor; rev <= current; rev += step)
		errors += rev_errors(fx->db, rev, m);
	return errors + rev_errors(fx->db, current, m);
}

/* ---- at random ----------------------------------------------------------------------------- */

enum { VIEWS = 2 };

struct game {
	struct fixture *fx;
	struct model m;
	mvcc_rev_t floor;
	mvcc_rev_t pins[PINS];
	struct mvcc_view *views[VIEWS];
	uint64_t random;
	unsigned errors;
};

static const char *pin_name(unsigned slot)
{
	static const char *const names[PINS] = { "a", "bb", "c", "d d", "e", "f" };

	return names[slot];
}

static bool game_is_pinned(const struct game *g, mvcc_rev_t rev)
{
	for (unsigned i = 0; i < PINS; i++)
		if (g->pins[i] == rev)
			return true;
	return false;
}

static void game_expect(struct game *g, int got, int expected, const char *what)
{
	if (got == expected)
		return;
	fprintf(stderr, "\n%s: %s, not %s\n", what, mvcc_strerror(got), mvcc_strerror(expected));
	g->errors++;
}

static void game_compact(struct game *g)
{
	mvcc_rev_t rev = g->floor + random_below(&g->random, g->m.current - g->floor + 1);

	game_expect(g, mvcc_compact(g->fx->db, rev), rev > g->floor ? 0 : MVCC_ECOMPACTED, "compact");
	if (rev > g->floor)
		g->floor = rev;
}

static void game_pin(struct game *g)
{
	unsigned slot = (unsigned)random_below(&g->random, PINS);
	mvcc_rev_t rev = 1 + random_below(&g->random, g->m.current);
	bool readable = rev >= g->floor || game_is_pinned(g, rev);

	if (random_below(&g->random, 4)) { /* most often one that is readable */
		rev = g->floor + random_below(&g->random, g->m.current - g->floor + 1);
		readable = true;
	}
	game_expect(g, mvcc_pin(g->fx->db, pin_name(slot), rev),
		    g->pins[slot] ? -EEXIST :
		    readable      ? 0 :
				    MVCC_ECOMPACTED,
		    "pin");
	if (!g->pins[slot] && readable)
		g->pins[slot] = rev;
}

static void game_unpin(struct game *g)
{
	unsigned slot = (unsigned)random_below(&g->random, PINS);

	game_expect(g, mvcc_unpin(g->fx->db, pin_name(slot)), g->pins[slot] ? 0 : -ENOENT, "unpin");
	g->pins[slot] = 0;
}

static void game_rename(struct game *g)
{
	unsigned from = (unsigned)random_below(&g->random, PINS),
		 to = (unsigned)random_below(&g->random, PINS);

	game_expect(g, mvcc_pin_rename(g->fx->db, pin_name(from), pin_name(to)),
		    !g->pins[from] ? -ENOENT :
		    g->pins[to]    ? -EEXIST :
				     0,
		    "rename");
	if (g->pins[from] && !g->pins[to]) {
		g->pins[to] = g->pins[from];
		g->pins[from] = 0;
	}
}

static void game_view(struct game *g)
{
	unsigned slot = (unsigned)random_below(&g->random, VIEWS);
	mvcc_rev_t rev = g->floor + random_below(&g->random, g->m.current - g->floor + 1);
	mvcc_rev_t pinned = g->pins[random_below(&g->random, PINS)];

	if (g->views[slot]) {
		g->errors += view_errors(g->fx->db, g->views[slot], &g->m);
		mvcc_view_close(g->views[slot]);
		g->views[slot] = NULL;
		return;
	}
	if (pinned && random_below(&g->random, 2))
		rev = pinned;
	game_expect(g, mvcc_view_open(g->fx->db, rev, &g->views[slot]), 0, "view");
}

static void game_close_views(struct game *g)
{
	for (unsigned i = 0; i < VIEWS; i++) {
		if (g->views[i])
			g->errors += view_errors(g->fx->db, g->views[i], &g->m);
		mvcc_view_close(g->views[i]);
		g->views[i] = NULL;
	}
}

static void game_settle(struct game *g)
{
	bool held = false;

	for (unsigned i = 0; i < VIEWS; i++) {
		mvcc_rev_t rev = g->views[i] ? mvcc_view_rev(g->views[i]) : g->floor;

		held |= rev < g->floor && !game_is_pinned(g, rev);
	}
	if (held)
		game_expect(g, mvcc_compact_wait(g->fx->db), -EBUSY, "wait");
	else
		g->errors += rows_errors(g->fx, &g->m);
}

static void game_step(struct game *g)
{
	uint64_t dice = random_below(&g->random, 200);

	if (dice < 140)
		game_expect(g, store_step(g->fx->db, &g->m), 0, "commit");
	else if (dice < 148)
		game_compact(g);
	else if (dice < 162)
		game_pin(g);
	else if (dice < 174)
		game_unpin(g);
	else if (dice < 178)
		game_rename(g);
	else if (dice < 188)
		game_view(g);
	else if (dice < 196)
		g->errors += rev_errors(
			g->fx->db, g->floor + random_below(&g->random, g->m.current - g->floor + 1), &g->m);
	else if (dice < 199)
		game_settle(g);
	else
		g->errors += store_errors(g->fx, &g->m, 10);
}

static void game_reopen(struct game *g)
{
	game_close_views(g);
	fixture_reopen(g->fx);
	g->errors += mvcc_floor(g->fx->db) != g->floor || mvcc_current(g->fx->db) != g->m.current;
	g->errors += store_errors(g->fx, &g->m, 10);
}

static void play(uint64_t ops)
{
	struct game g = { .floor = MVCC_REV_FIRST, .random = fixture_env("KEEP_SEED", (uint64_t)time(NULL)) };

	printf("seed %" PRIu64 " ", g.random);
	g.fx = fixture_open_small_ring();
	model_catch_up(&g.m, MVCC_REV_FIRST);
	for (uint64_t i = 0; i < ops && !g.errors; i++) {
		game_step(&g);
		if (i % 500 == 499)
			game_reopen(&g);
		if (g.errors)
			fprintf(stderr, "\noperation %" PRIu64 "\n", i);
	}
	game_close_views(&g);
	g.errors += rows_errors(g.fx, &g.m);
	for (unsigned slot = 0; slot < PINS; slot++)
		if (g.pins[slot])
			game_expect(&g, mvcc_unpin(g.fx->db, pin_name(slot)), 0, "unpin");
	g.errors += rows_errors(g.fx, &g.m);
	CU_ASSERT_EQUAL(g.errors, 0);
	fixture_close(g.fx);
	model_release(&g.m);
}

static void test_random_operations_match_the_list(void)
{
	fixture_use(NULL);
	play(fixture_env("KEEP_OPS", 5000));
}

static void test_random_operations_match_the_list_on_rocksdb(void)
{
	static struct rocks_options rocks = { .cache_bytes = (size_t)8 << 20 };
	struct engine_provider provider = rocks_provider(&rocks);

	fixture_use(&provider);
	play(fixture_env("KEEP_OPS", 1000));
	fixture_use(NULL);
}

/* ---- every call failing -------------------------------------------------------------------- */

struct trial {
	struct mem_engine *mem;
	struct fault_engine *fault;
	struct fixture *fx;
	struct model m;
	mvcc_rev_t floor; /* surely reached */
	bool pinned;      /* "q" surely is */
	unsigned failed;  /* calls of ours */
};

static void trial_init(struct trial *t)
{
	struct engine_provider provider;

	*t = (struct trial){ .mem = mem_engine_new() };
	t->fault = fault_engine_new(mem_engine_provider(t->mem));
	provider = fault_engine_provider(t->fault);
	fixture_use(&provider);
	t->fx = fixture_new();
	fixture_use(NULL);
	t->fx->opt.ring_bytes = (size_t)256 << 10;
	t->fx->opt.sync_ms = 60000;
	model_catch_up(&t->m, MVCC_REV_FIRST);
}

static void trial_release(struct trial *t)
{
	fixture_close(t->fx);
	fault_engine_free(t->fault);
	mem_engine_free(t->mem);
	model_release(&t->m);
}

static void trial_steps(struct trial *t, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		t->failed += store_step(t->fx->db, &t->m) != 0;
}

static void trial_compact(struct trial *t, mvcc_rev_t rev)
{
	int err = mvcc_compact(t->fx->db, rev);

	t->failed += err != 0;
	if (!err)
		t->floor = rev;
}

static void trial_scenario(struct trial *t)
{
	struct mvcc *db = t->fx->db;

	t->failed += mvcc_pin(db, "p", 10) != 0;
	t->failed += mvcc_pin(db, "p2", 10) != 0;
	trial_compact(t, 14);
	trial_steps(t, 4);
	t->failed += mvcc_compact_wait(db) != 0;
	t->pinned = mvcc_pin(db, "q", 16) == 0;
	t->failed += !t->pinned;
	t->failed += mvcc_pin_rename(db, "p2", "p3") != 0;
	trial_compact(t, 20);
	t->failed += mvcc_unpin(db, "p") != 0;
	t->failed += mvcc_unpin(db, "p3") != 0;
	t->failed += mvcc_compact_wait(db) != 0;
	trial_steps(t, 4);
	trial_compact(t, 24);
	t->failed += mvcc_compact_wait(db) != 0;
}

/* Opens what is left, with nothing failing any more. */
static unsigned trial_errors(struct trial *t, bool power_cut)
{
	struct mvcc_pin pin;
	mvcc_rev_t current;
	unsigned errors = 0;

	if (fixture_try_open(t->fx))
		return 1;
	current = mvcc_current(t->fx->db);
	if (power_cut && current < t->m.current) { /* what was not on disk may be lost */
		model_release(&t->m);
		model_catch_up(&t->m, current);
	}
	if (current < t->m.current || mvcc_floor(t->fx->db) < t->floor)
		errors++;
	if (t->pinned && (mvcc_pin_get(t->fx->db, "q", &pin) || pin.rev != 16))
		errors++;
	errors += store_errors(t->fx, &t->m, 100);
	errors += rows_errors(t->fx, &t->m);
	errors += store_errors(t->fx, &t->m, 100);
	trial_steps(t, 3);
	errors += mvcc_compact(t->fx->db, MVCC_REV_LATEST) != 0;
	errors += rows_errors(t->fx, &t->m);
	return errors;
}

/* `keep` of SIZE_MAX: the process dies, else the power goes, too, with so many unsynced writes on disk. */
static unsigned trial_run(struct fault_plan plan, size_t keep, bool *again)
{
	struct trial t;
	unsigned errors;

	trial_init(&t);
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(t.fx), 0);
	trial_steps(&t, 20);
	fault_engine_arm(t.fault, plan);
	t.failed = 0;
	trial_scenario(&t);
	*again = fault_engine_failed(t.fault) > 0;
	errors = !*again && t.failed;
	if (keep != SIZE_MAX)
		mem_engine_power_cut_keeping(t.mem, keep);
	mvcc_close(t.fx->db); /* an error is allowed: the ring has it */
	t.fx->db = NULL;
	fault_engine_disarm(t.fault);
	errors += trial_errors(&t, keep != SIZE_MAX);
	if (errors)
		fprintf(stderr, "\nkinds %u, mode %d%s, call %" PRIu64 ", kept %zu: %u errors\n", plan.kinds,
			(int)plan.mode, plan.done ? " (done)" : "", plan.at, keep, errors);
	trial_release(&t);
	return errors;
}

static void fail_every_call(unsigned kinds, enum fault_mode mode, bool done, size_t keep)
{
	struct fault_plan plan = { .kinds = kinds, .at = 1, .err = -EIO, .mode = mode, .done = done };
	unsigned bad = 0, tried = 0;
	bool again = true;

	while (again && bad < 3) {
		bad += trial_run(plan, keep == SIZE_MAX ? keep : tried % (keep + 1), &again) != 0;
		tried++;
		plan.at += tried > 100 ? 1 + tried / 10 : 1;
	}
	CU_ASSERT_EQUAL(bad, 0);
	CU_ASSERT(tried > 2);
}

static void test_any_write_may_fail(void)
{
	fail_every_call(FAULT_WRITE, FAULT_ONCE, false, SIZE_MAX);
	fail_every_call(FAULT_WRITE, FAULT_ONCE, true, SIZE_MAX);
}

static void test_any_sync_batch_or_rewrite_may_fail(void)
{
	fail_every_call(FAULT_SYNC | FAULT_BATCH | FAULT_REWRITE, FAULT_ONCE, false, SIZE_MAX);
}

static void test_any_read_may_fail(void)
{
	fail_every_call(FAULT_GET | FAULT_ITER, FAULT_ONCE, false, SIZE_MAX);
	fail_every_call(FAULT_MOVE, FAULT_ONCE, false, SIZE_MAX);
}

static void test_the_process_may_die_at_any_change(void)
{
	fail_every_call(FAULT_WRITE | FAULT_SYNC | FAULT_REWRITE, FAULT_CRASH, false, SIZE_MAX);
	fail_every_call(FAULT_WRITE | FAULT_SYNC | FAULT_REWRITE, FAULT_CRASH, true, SIZE_MAX);
}

static void test_the_power_may_go_at_any_change(void)
{
	fail_every_call(FAULT_WRITE | FAULT_SYNC | FAULT_REWRITE, FAULT_CRASH, false, 3);
}

/* The store reopens its engine by itself, and the work goes on with nobody asking. */
static void test_the_work_goes_on_after_a_failure(void)
{
	static const unsigned kinds[] = { FAULT_WRITE, FAULT_SYNC, FAULT_REWRITE };

	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct fault_plan plan = { .kinds = kinds[i], .at = 2, .err = -EIO };
		struct mvcc_stats stats = { .failed = 1 };
		struct trial t;

		trial_init(&t);
		CU_ASSERT_EQUAL_FATAL(fixture_try_open(t.fx), 0);
		trial_steps(&t, 20);
		fault_engine_arm(t.fault, plan);
		mvcc_compact(t.fx->db, 14);
		mvcc_compact_wait(t.fx->db);
		for (int ms = 0; ms < 10000 && (stats.failed || stats.compacted != 15); ms += 10) {
			struct timespec pause = { .tv_nsec = 10000000 };

			mvcc_compact(t.fx->db,
				     15); /* fails until it works again; then it was enough to ask */
			nanosleep(&pause, NULL);
			mvcc_stats(t.fx->db, &stats);
		}
		CU_ASSERT_EQUAL(fault_engine_failed(t.fault), 1);
		CU_ASSERT_EQUAL(stats.failed, 0);
		CU_ASSERT_EQUAL(stats.compacted, 15);
		CU_ASSERT_EQUAL(store_errors(t.fx, &t.m, 100), 0);
		CU_ASSERT_EQUAL(rows_errors(t.fx, &t.m), 0);
		trial_release(&t);
	}
}

static bool works_again(struct mvcc *db)
{
	struct mvcc_stats stats = { .failed = 1 };

	for (int ms = 0; ms < 10000 && stats.failed; ms += 10) {
		struct timespec pause = { .tv_nsec = 10000000 };

		nanosleep(&pause, NULL);
		mvcc_stats(db, &stats);
	}
	return !stats.failed;
}

static void put_blob(struct mvcc *db, const char *key)
{
	struct mvcc_txn *txn = begin(db);
	mvcc_blob_t blob = 0;

	CU_ASSERT_EQUAL(mvcc_txn_stage_blob(txn, str("bytes"), &blob), 0);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str(key), str("ref"), &blob, 1), 0);
	commit(txn);
}

/*
 * A pin from the floor up goes, though its removal is said to have failed, while a view is open where it was: that
 * view holds the horizon like any other, and nothing is put aside for a name that nobody will take away any more.
 */
static void test_a_pin_that_went_in_a_failure_leaves_nothing_behind(void)
{
	struct fault_plan plan = { .kinds = FAULT_WRITE, .at = 1, .err = -EIO, .done = true };
	struct mvcc_view *view;
	struct mvcc_pin pin;
	struct trial t;

	trial_init(&t);
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(t.fx), 0);
	put_blob(t.fx->db, "k");
	CU_ASSERT_EQUAL(mvcc_pin(t.fx->db, "p", MVCC_REV_LATEST), 0);
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(t.fx->db, MVCC_REV_LATEST, &view), 0);
	fault_engine_arm(t.fault, plan);
	CU_ASSERT_EQUAL(mvcc_unpin(t.fx->db, "p"), -EIO);
	CU_ASSERT(works_again(t.fx->db));
	CU_ASSERT_EQUAL(mvcc_pin_get(t.fx->db, "p", &pin), -ENOENT);
	put_blob(t.fx->db, "k");
	CU_ASSERT_EQUAL(mvcc_compact(t.fx->db, MVCC_REV_LATEST), 0);
	CU_ASSERT_EQUAL(mvcc_compact_wait(t.fx->db), -EBUSY);
	assert_view_value(view, "k", "ref");
	CU_ASSERT_EQUAL(fixture_rows_of(t.fx, "blob", ""), 2);
	mvcc_view_close(view);
	CU_ASSERT_EQUAL(mvcc_compact_wait(t.fx->db), 0);
	CU_ASSERT_EQUAL(fixture_rows_of(t.fx, "hist", ""), 0);
	CU_ASSERT_EQUAL(fixture_rows_of(t.fx, "ended", ""), 0);
	CU_ASSERT_EQUAL(fixture_rows_of(t.fx, "blob", ""), 1);
	trial_release(&t);
}

/* ---- killed -------------------------------------------------------------------------------- */

enum told { TOLD_OPEN, TOLD_COMMIT, TOLD_FLOOR, TOLD_PIN };

struct message {
	uint32_t told, slot;
	mvcc_rev_t rev; /* TOLD_PIN: 0 once it is gone */
};

static void tell(int fd, struct message m)
{
	if (write(fd, &m, sizeof(m)) != (ssize_t)sizeof(m))
		_exit(4);
}

static int victim_step(struct mvcc *db, struct model *m, uint64_t *random, int out)
{
	uint64_t dice = random_below(random, 100);
	unsigned slot = (unsigned)random_below(random, PINS);
	mvcc_rev_t floor = mvcc_floor(db);
	mvcc_rev_t rev = floor + random_below(random, m->current - floor + 1);
	int err = 0;

	if (dice < 80) {
		err = store_step(db, m);
		tell(out, (struct message){ TOLD_COMMIT, 0, m->current });
	} else if (dice < 86 && rev > floor) {
		err = mvcc_compact(db, rev);
		tell(out, (struct message){ TOLD_FLOOR, 0, rev });
	} else if (dice < 93) {
		err = mvcc_pin(db, pin_name(slot), rev);
		if (!err)
			tell(out, (struct message){ TOLD_PIN, slot, rev });
	} else {
		err = mvcc_unpin(db, pin_name(slot));
		if (!err)
			tell(out, (struct message){ TOLD_PIN, slot, 0 });
	}
	return err == -EEXIST || err == -ENOENT ? 0 : err;
}

static int be_the_victim(const char *dir, int out, uint64_t random)
{
	static struct rocks_options rocks = { .cache_bytes = (size_t)8 << 20 };
	struct mvcc_options opt = { .dir = dir, .create = true, .ring_bytes = (size_t)256 << 10 };
	struct model m = { .n = 0 };
	struct mvcc *db;

	opt.engine = rocks_provider(&rocks);
	if (mvcc_open(&opt, &db))
		return 3;
	model_catch_up(&m, mvcc_current(db));
	tell(out, (struct message){ .told = TOLD_OPEN });
	while (victim_step(db, &m, &random, out) == 0)
		;
	return 5;
}

struct heard {
	mvcc_rev_t rev, floor, pins[PINS];
	bool open;
};

static void hear(struct heard *h, const struct message *m)
{
	if (m->told == TOLD_OPEN)
		h->open = true;
	else if (m->told == TOLD_COMMIT)
		h->rev = m->rev;
	else if (m->told == TOLD_FLOOR)
		h->floor = m->rev;
	else
		h->pins[m->slot % PINS] = m->rev;
}

static void run_victim(struct heard *h, const char *dir, uint64_t seed, int ms)
{
	char fd_text[16], seed_text[24];
	struct pollfd p = { .events = POLLIN };
	struct timespec life = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
	struct message m;
	int fds[2], status = 0;
	pid_t pid;

	CU_ASSERT_EQUAL_FATAL(pipe(fds), 0);
	snprintf(fd_text, sizeof(fd_text), "%d", fds[1]);
	snprintf(seed_text, sizeof(seed_text), "%" PRIu64, seed);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(fds[0]);
		execl("/proc/self/exe", "victim", "--victim", dir, fd_text, seed_text, (char *)NULL);
		_exit(2);
	}
	close(fds[1]);
	CU_ASSERT_FATAL(pid > 0);
	p.fd = fds[0];
	poll(&p, 1, 20000); /* until it is open */
	for (uint64_t start = 0; start < 10; start++) {
		struct timespec part = { .tv_nsec = life.tv_sec * 100000000 + life.tv_nsec / 10 };

		while (poll(&p, 1, 0) == 1 && read(fds[0], &m, sizeof(m)) == (ssize_t)sizeof(m))
			hear(h, &m);
		nanosleep(&part, NULL);
	}
	kill(pid, SIGKILL);
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	if (WIFEXITED(status))
		fprintf(stderr, "\nthe victim ended by itself: %d\n", WEXITSTATUS(status));
	while (read(fds[0], &m, sizeof(m)) == (ssize_t)sizeof(m))
		hear(h, &m);
	close(fds[0]);
}

/* What was told is there; of what was not, one thing at most. */
static unsigned told_errors(const struct heard *h, struct mvcc *db)
{
	unsigned ahead = mvcc_current(db) != h->rev, lost = mvcc_current(db) < h->rev;

	ahead += mvcc_floor(db) != h->floor;
	lost += mvcc_floor(db) < h->floor;

	for (unsigned slot = 0; slot < PINS; slot++) {
		struct mvcc_pin pin = { .rev = 0 };

		mvcc_pin_get(db, pin_name(slot), &pin);
		ahead += pin.rev != h->pins[slot];
	}
	return lost + (ahead > 1 ? ahead - 1 : 0);
}

static void test_a_kill_at_any_moment_is_made_good(void)
{
	uint64_t seed = fixture_env("KEEP_SEED", (uint64_t)time(NULL)), random = seed;
	uint64_t rounds = fixture_env("KEEP_ROUNDS", 12);
	static struct rocks_options rocks = { .cache_bytes = (size_t)8 << 20 };
	struct engine_provider provider = rocks_provider(&rocks);
	struct heard h = { .rev = MVCC_REV_FIRST, .floor = MVCC_REV_FIRST };
	struct model m = { .n = 0 };
	struct fixture *fx;

	printf("seed %" PRIu64 " ", seed);
	fixture_use(&provider);
	fx = fixture_new();
	fx->opt.ring_bytes = (size_t)256 << 10;
	for (uint64_t round = 0; round < rounds; round++) {
		unsigned errors;

		run_victim(&h, fx->dir, random_next(&random), (int)random_below(&random, 300));
		CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
		errors = told_errors(&h, fx->db) + store_errors(fx, &m, 40);
		if (round % 3 != 2) /* else the next life goes on with what is left to do */
			errors += rows_errors(fx, &m);
		if (errors)
			fprintf(stderr, "\nround %" PRIu64 ": %u errors\n", round, errors);
		h.rev = mvcc_current(fx->db);
		h.floor = mvcc_floor(fx->db);
		for (unsigned slot = 0; slot < PINS; slot++) {
			struct mvcc_pin pin = { .rev = 0 };

			mvcc_pin_get(fx->db, pin_name(slot), &pin);
			h.pins[slot] = pin.rev;
		}
		CU_ASSERT_EQUAL(errors, 0);
		CU_ASSERT_EQUAL(mvcc_close(fx->db), 0);
		fx->db = NULL;
		if (errors)
			break;
	}
	CU_ASSERT(h.open);
	CU_ASSERT(h.floor > MVCC_REV_FIRST);
	printf("%" PRIu64 " revisions ", h.rev);
	fixture_use(NULL);
	fixture_close(fx);
	model_release(&m);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_random_operations_match_the_list),
	UNIT_TEST(test_random_operations_match_the_list_on_rocksdb),
	UNIT_TEST(test_any_write_may_fail),
	UNIT_TEST(test_any_sync_batch_or_rewrite_may_fail),
	UNIT_TEST(test_any_read_may_fail),
	UNIT_TEST(test_the_process_may_die_at_any_change),
	UNIT_TEST(test_the_power_may_go_at_any_change),
	UNIT_TEST(test_the_work_goes_on_after_a_failure),
	UNIT_TEST(test_a_pin_that_went_in_a_failure_leaves_nothing_behind),
	UNIT_TEST(test_a_kill_at_any_moment_is_made_good),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("keep, modelled", NULL, NULL, tests), CU_SUITE_INFO_NULL };

	if (argc == 5 && strcmp(argv[1], "--victim") == 0)
		return be_the_victim(argv[2], atoi(argv[3]), strtoull(argv[4], NULL, 10));
	return unit_main(argc, argv, suites);
}
