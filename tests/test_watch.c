/*
 * What watches promise, on the memory engine and on RocksDB: the properties of etcd's tests of watches, and
 * those of ours: positions that survive a restart, bounded memory, one wake-up a hit. Also the log's filter.
 */
#include "tests/store_fixture.h"

#include "mvcc/watch_int.h"
#include "rocks_backend/rocks.h"
#include "tests/engines/fault_engine.h"
#include "tests/engines/mem_engine.h"
#include "tests/unit.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/wait.h>

static const char *self; /* argv[0], to be run again as a victim */

/* ---- one line each -------------------------------------------------------------------------- */

static struct mvcc_watch *watch_at(struct mvcc *db, const char *start, const char *end, mvcc_rev_t from,
				   unsigned flags)
{
	struct mvcc_watch_options opt = {
		.start = str(start), .end = str(end), .from = from, .flags = flags
	};
	struct mvcc_watch *w = NULL;

	CU_ASSERT_EQUAL_FATAL(mvcc_watch_open(db, &opt, &w), 0);
	return w;
}

static void add(struct buf *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add(struct buf *out, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (buf_put(out, text, strlen(text)))
		abort();
}

static void add_item(struct buf *out, const char *sign, const struct mvcc_item *item)
{
	add(out, "%s%.*s(%u.%u.%u)", sign, (int)item->value.len,
	    item->value.data ? (const char *)item->value.data : "", (unsigned)item->create_rev,
	    (unsigned)item->mod_rev, (unsigned)item->version);
}

/* The next revision, as "7: +a=new(2.7.3)<old(2.5.2) -b"; what was replaced is there if it was given. */
static int render_next(struct mvcc_watch *w, int timeout_ms, struct buf *out)
{
	const struct mvcc_entry *entry;
	struct mvcc_event event;
	int got = mvcc_watch_next(w, timeout_ms, &entry);

	if (got != 1)
		return got;
	add(out, "%u:", (unsigned)entry->rev);
	while ((got = mvcc_watch_event(w, &event)) == 1) {
		add(out, " %c%.*s", event.deleted ? '-' : '+', (int)event.key.len, event.key.data);
		if (event.item)
			add_item(out, "=", event.item);
		if (event.prev)
			add_item(out, "<", event.prev);
		if (event.deleted != !event.item)
			add(out, " (deleted, or not?)");
	}
	return got ? got : 1;
}

/* Takes the text. */
static void assert_text(struct buf *text, const char *expected)
{
	bool same = slice_eq(slice_buf(text), str(expected));

	if (!same)
		fprintf(stderr, "\n    got      \"%.*s\"\n    expected \"%s\"\n", (int)text->len,
			text->data ? (const char *)text->data : "", expected);
	CU_ASSERT(same);
	buf_release(text);
}

static void assert_next(struct mvcc_watch *w, const char *expected)
{
	struct buf text = { 0 };

	CU_ASSERT_EQUAL(render_next(w, 0, &text), 1);
	assert_text(&text, expected);
}

static void assert_none(struct mvcc_watch *w)
{
	const struct mvcc_entry *entry;

	CU_ASSERT_EQUAL(mvcc_watch_next(w, 0, &entry), 0);
}

static void nap(void)
{
	usleep(1000);
}

/* Waits, for seconds at most, until the count is reached. */
static bool reaches(_Atomic unsigned *count, unsigned n)
{
	for (unsigned i = 0; i < 10000 && atomic_load(count) < n; i++)
		nap();
	return atomic_load(count) >= n;
}

static void put_n(struct mvcc *db, const char *prefix, unsigned n)
{
	char key[32];

	for (unsigned i = 0; i < n; i++) {
		snprintf(key, sizeof(key), "%s%u", prefix, i);
		put(db, key, "v");
	}
}

/* ---- where a watch begins ------------------------------------------------------------------- */

static void test_a_watch_gives_what_is_committed_from_its_opening_on(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_watch *w;

	put(fx->db, "a", "before");
	w = watch_at(fx->db, "", "", MVCC_REV_LATEST, 0);
	CU_ASSERT_EQUAL(mvcc_watch_rev(w), 3);
	assert_none(w);
	put(fx->db, "a", "1");
	del(fx->db, "a");
	put(fx->db, "a", "2");
	assert_next(w, "3: +a=1(2.3.2)");
	assert_next(w, "4: -a");
	assert_next(w, "5: +a=2(5.5.1)");
	assert_none(w);
	CU_ASSERT_EQUAL(mvcc_watch_rev(w), 6);
	mvcc_watch_close(w);
	mvcc_watch_close(NULL);
	fixture_close(fx);
}

static void test_a_watch_from_an_old_revision_gives_all_since(void)
{
	struct fixture *fx = fixture_open();

	put(fx->db, "a", "1");
	put(fx->db, "b", "2");
	fixture_drain(fx);
	put(fx->db, "a", "3");
	for (int round = 0; round < 3; round++) { /* in the ring partly; in the tail; all in the engine */
		struct mvcc_watch *w = watch_at(fx->db, "", "", 1, 0), *later;

		assert_next(w, "2: +a=1(2.2.1)");
		assert_next(w, "3: +b=2(3.3.1)");
		assert_next(w, "4: +a=3(2.4.2)");
		assert_none(w);
		later = watch_at(fx->db, "", "", 3, 0);
		assert_next(later, "3: +b=2(3.3.1)");
		assert_next(later, "4: +a=3(2.4.2)");
		assert_none(later);
		mvcc_watch_close(later);
		mvcc_watch_close(w);
		if (round == 1)
			fixture_reopen(fx);
	}
	fixture_close(fx);
}

static void test_nothing_is_given_before_a_future_revision(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_watch *w = watch_at(fx->db, "", "", 5, 0);

	for (int i = 0; i < 3; i++) {
		CU_ASSERT_EQUAL(mvcc_watch_rev(w), 5);
		put(fx->db, "a", "x");
		assert_none(w);
	}
	put(fx->db, "a", "y");
	assert_next(w, "5: +a=y(2.5.4)");
	put(fx->db, "a", "z");
	assert_next(w, "6: +a=z(2.6.5)");
	mvcc_watch_close(w);
	fixture_close(fx);
}

static void test_the_story_comes_with_the_revision(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_story story = { .uid = 7, .comm = "cp", .op = "write", .path = str("/x") };
	const struct mvcc_entry *entry = NULL;

	for (int round = 0; round < 2; round++) {
		struct mvcc_watch *w = watch_at(fx->db, "", "", round ? 2 : MVCC_REV_LATEST, 0);

		if (!round) {
			struct mvcc_txn *txn = begin(fx->db);

			txn_put(txn, "k", "v");
			CU_ASSERT_EQUAL(mvcc_txn_commit(txn, &story, MVCC_COMMIT_WAIT, NULL), 0);
		}
		CU_ASSERT_EQUAL_FATAL(mvcc_watch_next(w, 0, &entry), 1);
		CU_ASSERT_EQUAL(entry->rev, 2);
		CU_ASSERT(entry->time_ns > 0);
		CU_ASSERT_EQUAL(entry->story.uid, 7);
		CU_ASSERT_STRING_EQUAL(entry->story.comm, "cp");
		CU_ASSERT_STRING_EQUAL(entry->story.op, "write");
		CU_ASSERT_STRING_EQUAL(entry->story.message, "");
		CU_ASSERT(slice_eq(entry->story.path, str("/x")));
		mvcc_watch_close(w);
		fixture_drain(fx);
	}
	fixture_close(fx);
}

/* ---- what it gives -------------------------------------------------------------------------- */

static void test_a_transaction_is_one_revision_with_all_its_events(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_watch *w = watch_at(fx->db, "", "", MVCC_REV_LATEST, 0);
	struct mvcc_txn *txn = begin(fx->db);

	txn_put(txn, "b", "1");
	txn_put(txn, "a", "1");
	txn_put(txn, "c", "1");
	txn_put(txn, "a", "2");
	commit(txn);
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_del(txn, str("a")), 0);
	CU_ASSERT_EQUAL(mvcc_txn_del(txn, str("b")), 0);
	CU_ASSERT_EQUAL(mvcc_txn_del(txn, str("c")), 0);
	commit(txn);
	for (int round = 0; round < 2; round++) {
		assert_next(w, "2: +a=2(2.2.1) +b=1(2.2.1) +c=1(2.2.1)");
		assert_next(w, "3: -a -b -c");
		assert_none(w);
		mvcc_watch_close(w);
		fixture_drain(fx);
		w = watch_at(fx->db, "", "", 2, 0);
	}
	mvcc_watch_close(w);
	fixture_close(fx);
}

static void test_deleting_and_putting_again_is_a_put_of_a_new_generation(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_watch *w = watch_at(fx->db, "", "", MVCC_REV_LATEST, MVCC_WATCH_PREV);
	struct mvcc_txn *txn;

	put(fx->db, "k", "old");
	txn = begin(fx->db);
	txn_del(txn, "k");
	txn_put(txn, "k", "new");
	commit(txn);
	txn = begin(fx->db);
	txn_put(txn, "gone", "x");
	txn_del(txn, "gone");
	txn_del(txn, "k");
	commit(txn);
	for (int round = 0; round < 2; round++) {
		assert_next(w, "2: +k=old(2.2.1)");
		assert_next(w, "3: +k=new(3.3.1)<old(2.2.1)");
		assert_next(w, "4: -k<new(3.3.1)");
		assert_none(w);
		mvcc_watch_close(w);
		fixture_drain(fx);
		w = watch_at(fx->db, "", "", 2, MVCC_WATCH_PREV);
	}
	mvcc_watch_close(w);
	fixture_close(fx);
}

static void test_a_range_gives_what_lies_in_it(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_watch *prefix = watch_at(fx->db, "foo", "fop", MVCC_REV_LATEST, 0);
	struct mvcc_watch *one = watch_at(fx->db, "foo", "foo0", MVCC_REV_LATEST, 0);
	struct mvcc_watch *wrong = watch_at(fx->db, "fop", "foo", MVCC_REV_LATEST, 0);
	struct mvcc_watch *empty = watch_at(fx->db, "foo", "foo", MVCC_REV_LATEST, 0);
	struct mvcc_watch *rest = watch_at(fx->db, "fop", "", MVCC_REV_LATEST, 0);
	struct mvcc_txn *txn = begin(fx->db);

	txn_put(txn, "fo", "1");
	txn_put(txn, "foo", "2");
	txn_put(txn, "foobar", "3");
	txn_put(txn, "fop", "4");
	commit(txn);
	put(fx->db, "bar", "5");
	for (int round = 0; round < 2; round++) {
		assert_next(prefix, "2: +foo=2(2.2.1) +foobar=3(2.2.1)");
		assert_next(one, "2: +foo=2(2.2.1)");
		assert_next(rest, "2: +fop=4(2.2.1)");
		assert_none(prefix);
		assert_none(one);
		assert_none(rest);
		assert_none(wrong);
		assert_none(empty);
		CU_ASSERT_EQUAL(mvcc_watch_rev(wrong), 4);
		CU_ASSERT_EQUAL(mvcc_watch_rev(one), 4);
		mvcc_watch_close(prefix);
		mvcc_watch_close(one);
		mvcc_watch_close(rest);
		mvcc_watch_close(wrong);
		mvcc_watch_close(empty);
		fixture_drain(fx);
		prefix = watch_at(fx->db, "foo", "fop", 1, 0);
		one = watch_at(fx->db, "foo", "foo0", 1, 0);
		wrong = watch_at(fx->db, "fop", "foo", 1, 0);
		empty = watch_at(fx->db, "foo", "foo", 1, 0);
		rest = watch_at(fx->db, "fop", "", 1, 0);
	}
	mvcc_watch_close(prefix);
	mvcc_watch_close(one);
	mvcc_watch_close(rest);
	mvcc_watch_close(wrong);
	mvcc_watch_close(empty);
	fixture_close(fx);
}

static void test_filters_leave_out_puts_or_deletions(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_watch *puts = watch_at(fx->db, "", "", MVCC_REV_LATEST, MVCC_WATCH_NO_DEL);
	struct mvcc_watch *dels = watch_at(fx->db, "", "", MVCC_REV_LATEST, MVCC_WATCH_NO_PUT);
	struct mvcc_watch *none =
		watch_at(fx->db, "", "", MVCC_REV_LATEST, MVCC_WATCH_NO_PUT | MVCC_WATCH_NO_DEL);
	struct mvcc_txn *txn;

	for (int idle = 0; idle < 2; idle++) { /* found by the thread, and by the watch itself */
		put(fx->db, "a", "1");
		del(fx->db, "a");
		txn = begin(fx->db);
		txn_put(txn, "b", "1");
		commit(txn);
		txn = begin(fx->db);
		txn_del(txn, "b");
		txn_put(txn, "c", "1");
		commit(txn);
		del(fx->db, "c");
	}
	for (unsigned round = 0; round < 3; round++) {
		assert_next(puts, "2: +a=1(2.2.1)");
		assert_next(puts, "4: +b=1(4.4.1)");
		assert_next(puts, "5: +c=1(5.5.1)");
		assert_next(puts, "7: +a=1(7.7.1)");
		assert_next(dels, "3: -a");
		assert_next(dels, "5: -b");
		assert_next(dels, "6: -c");
		assert_next(dels, "8: -a");
		assert_none(none);
		CU_ASSERT_EQUAL(mvcc_watch_rev(none), 12);
		mvcc_watch_close(puts);
		mvcc_watch_close(dels);
		mvcc_watch_close(none);
		fixture_drain(fx);
		puts = watch_at(fx->db, "", "", 1, MVCC_WATCH_NO_DEL);
		dels = watch_at(fx->db, "", "", 1, MVCC_WATCH_NO_PUT);
		none = watch_at(fx->db, "", "", 1, MVCC_WATCH_NO_PUT | MVCC_WATCH_NO_DEL);
	}
	mvcc_watch_close(puts);
	mvcc_watch_close(dels);
	mvcc_watch_close(none);
	fixture_close(fx);
}

static void test_keys_alone_come_with_no_value(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_watch *w = watch_at(fx->db, "", "", MVCC_REV_LATEST, MVCC_WATCH_KEYS | MVCC_WATCH_PREV);

	put(fx->db, "k", "one");
	put(fx->db, "k", "two");
	del(fx->db, "k");
	for (int round = 0; round < 2; round++) {
		assert_next(w, "2: +k=(2.2.1)");
		assert_next(w, "3: +k=(2.3.2)<(2.2.1)");
		assert_next(w, "4: -k<(2.3.2)");
		mvcc_watch_close(w);
		fixture_drain(fx);
		w = watch_at(fx->db, "", "", 2, MVCC_WATCH_KEYS | MVCC_WATCH_PREV);
	}
	mvcc_watch_close(w);
	fixture_close(fx);
}

static void test_blobs_of_a_record_are_told(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_watch *w = watch_at(fx->db, "", "", MVCC_REV_LATEST, 0);
	const struct mvcc_entry *entry;
	struct mvcc_txn *txn = begin(fx->db);
	struct mvcc_event event = { 0 };
	mvcc_blob_t blob = 0;

	CU_ASSERT_EQUAL(mvcc_txn_stage_blob(txn, str("large"), &blob), 0);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("k"), str("v"), &blob, 1), 0);
	commit(txn);
	for (int round = 0; round < 2; round++) {
		CU_ASSERT_EQUAL_FATAL(mvcc_watch_next(w, 0, &entry), 1);
		CU_ASSERT_EQUAL_FATAL(mvcc_watch_event(w, &event), 1);
		CU_ASSERT_EQUAL_FATAL(event.item->nblobs, 1);
		CU_ASSERT_EQUAL(event.item->blobs[0], blob);
		CU_ASSERT(slice_eq(event.item->value, str("v")));
		CU_ASSERT_EQUAL(mvcc_watch_event(w, &event), 0);
		CU_ASSERT_EQUAL(mvcc_watch_event(w, &event), 0);
		mvcc_watch_close(w);
		fixture_drain(fx);
		w = watch_at(fx->db, "", "", 2, 0);
	}
	CU_ASSERT_EQUAL(mvcc_watch_event(w, &event), 0); /* no revision is at hand */
	mvcc_watch_close(w);
	fixture_close(fx);
}

static void test_watches_share_no_events(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_watch *a = watch_at(fx->db, "", "", MVCC_REV_LATEST, 0);
	struct mvcc_watch *b = watch_at(fx->db, "", "", MVCC_REV_LATEST, 0);
	const struct mvcc_entry *entry;
	struct mvcc_event event;

	put(fx->db, "k", "1");
	put(fx->db, "k", "2");
	CU_ASSERT_EQUAL_FATAL(mvcc_watch_next(a, 0, &entry), 1);
	assert_next(b, "2: +k=1(2.2.1)"); /* while a stands on the same revision */
	CU_ASSERT_EQUAL_FATAL(mvcc_watch_event(a, &event), 1);
	assert_next(b, "3: +k=2(2.3.2)");
	mvcc_watch_close(b);
	CU_ASSERT(slice_eq(event.key, str("k")) && slice_eq(event.item->value, str("1")));
	assert_next(a, "3: +k=2(2.3.2)");
	mvcc_watch_close(a);
	fixture_close(fx);
}

/* A revision that was left half read is not given again, and the next one is whole. */
static void test_events_not_asked_for_are_left_behind(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_watch *w = watch_at(fx->db, "", "", MVCC_REV_LATEST, 0);
	const struct mvcc_entry *entry;
	struct mvcc_event event;
	struct mvcc_txn *txn = begin(fx->db);

	txn_put(txn, "a", "1");
	txn_put(txn, "b", "1");
	commit(txn);
	put(fx->db, "c", "1");
	for (int round = 0; round < 2; round++) {
		CU_ASSERT_EQUAL(mvcc_watch_next(w, 0, &entry), 1);
		CU_ASSERT_EQUAL(mvcc_watch_event(w, &event), 1);
		assert_next(w, "3: +c=1(3.3.1)");
		mvcc_watch_close(w);
		fixture_drain(fx);
		w = watch_at(fx->db, "", "", 2, 0);
	}
	mvcc_watch_close(w);
	fixture_close(fx);
}

/* ---- the floor ------------------------------------------------------------------------------ */

static void test_a_watch_from_below_the_floor_is_refused(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_watch_options opt = { .from = 5 };
	struct mvcc_watch *w = NULL;

	put_n(fx->db, "k", 9);
	atomic_store(&fx->db->floor, 6);
	CU_ASSERT_EQUAL(mvcc_watch_open(fx->db, &opt, &w), MVCC_ECOMPACTED);
	CU_ASSERT_PTR_NULL(w);
	w = watch_at(fx->db, "", "", 6, 0);
	assert_next(w, "6: +k4=v(6.6.1)");
	mvcc_watch_close(w);
	fixture_close(fx);
}

static void test_a_position_below_the_floor_stays_lost(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_watch *behind, *idle;
	const struct mvcc_entry *entry;

	put_n(fx->db, "k", 9);
	fixture_drain(fx);
	behind = watch_at(fx->db, "", "", 2, 0);
	idle = watch_at(fx->db, "other", "", MVCC_REV_LATEST, 0);
	assert_next(behind, "2: +k0=v(2.2.1)");
	assert_none(idle);
	put_n(fx->db, "k", 5);
	assert_none(idle); /* the watch thread has seen them, before the floor passes them */
	atomic_store(&fx->db->floor, mvcc_current(fx->db));
	CU_ASSERT_EQUAL(mvcc_watch_next(behind, 0, &entry), MVCC_ECOMPACTED);
	put(fx->db, "other", "v");
	CU_ASSERT_EQUAL(mvcc_watch_next(behind, 0, &entry), MVCC_ECOMPACTED);
	CU_ASSERT_EQUAL(mvcc_watch_next(behind, -1, &entry), MVCC_ECOMPACTED);
	assert_next(idle, "16: +other=v(16.16.1)"); /* all that it missed does not matter */
	assert_none(idle);
	mvcc_watch_close(behind);
	mvcc_watch_close(idle);
	fixture_close(fx);
}

static void test_what_was_before_is_left_out_when_it_is_compacted(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_watch *w;

	put(fx->db, "k", "1");
	put(fx->db, "k", "2");
	put(fx->db, "k", "3");
	fixture_drain(fx);
	atomic_store(&fx->db->floor, 3);
	w = watch_at(fx->db, "", "", 3, MVCC_WATCH_PREV);
	assert_next(w, "3: +k=2(2.3.2)");
	assert_next(w, "4: +k=3(2.4.3)<2(2.3.2)");
	mvcc_watch_close(w);
	fixture_close(fx);
}

static void test_the_floor_may_pass_a_revision_half_given(void)
{
	struct fixture *fx = fixture_open();
	const struct mvcc_entry *entry;
	struct mvcc_txn *txn = begin(fx->db);
	struct mvcc_event event;
	struct mvcc_watch *w;

	txn_put(txn, "a", "1");
	txn_put(txn, "b", "1");
	commit(txn);
	put(fx->db, "c", "1");
	fixture_drain(fx);
	w = watch_at(fx->db, "", "", 2, 0);
	CU_ASSERT_EQUAL(mvcc_watch_next(w, 0, &entry), 1);
	CU_ASSERT_EQUAL(mvcc_watch_event(w, &event), 1);
	atomic_store(&fx->db->floor, 3);
	CU_ASSERT_EQUAL(mvcc_watch_event(w, &event), MVCC_ECOMPACTED);
	CU_ASSERT_EQUAL(mvcc_watch_next(w, 0, &entry), MVCC_ECOMPACTED);
	mvcc_watch_close(w);
	fixture_close(fx);
}

/* Who compacts up to where his watch stands, before he has heard that there are no more events, has lost nothing. */
static void test_the_floor_may_pass_a_revision_given_whole(void)
{
	struct fixture *fx = fixture_open();
	const struct mvcc_entry *entry;
	struct mvcc_event event;
	struct mvcc_watch *w;

	put(fx->db, "a", "1");
	put(fx->db, "a", "2");
	put(fx->db, "a", "3");
	fixture_drain(fx);
	w = watch_at(fx->db, "", "", 2, 0);
	for (mvcc_rev_t rev = 2; rev <= 3; rev++) {
		CU_ASSERT_EQUAL(mvcc_watch_next(w, 0, &entry), 1);
		CU_ASSERT_EQUAL(mvcc_watch_event(w, &event), 1);
		CU_ASSERT_EQUAL(mvcc_watch_rev(w), rev + 1);
		CU_ASSERT_EQUAL(mvcc_compact(fx->db, mvcc_watch_rev(w)), 0);
		CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
		CU_ASSERT_EQUAL(mvcc_watch_event(w, &event), 0);
	}
	assert_next(w, "4: +a=3(2.4.3)");
	mvcc_watch_close(w);
	fixture_close(fx);
}

/* ---- waiting -------------------------------------------------------------------------------- */

struct waiting {
	struct mvcc_watch *w;
	int timeout_ms, got;
	mvcc_rev_t rev;
	_Atomic unsigned done;
};

static void *wait_for_next(void *arg)
{
	struct waiting *waiting = arg;
	const struct mvcc_entry *entry;

	waiting->got = mvcc_watch_next(waiting->w, waiting->timeout_ms, &entry);
	if (waiting->got == 1)
		waiting->rev = entry->rev;
	atomic_store(&waiting->done, 1);
	return NULL;
}

static void test_a_thread_waits_until_something_matches(void)
{
	struct fixture *fx = fixture_open();
	struct waiting waiting = { .w = watch_at(fx->db, "k", "l", MVCC_REV_LATEST, 0), .timeout_ms = -1 };
	pthread_t thread;

	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, wait_for_next, &waiting), 0);
	put(fx->db, "other", "v");
	usleep(20000);
	CU_ASSERT_EQUAL(atomic_load(&waiting.done), 0);
	put(fx->db, "k", "v");
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(waiting.got, 1);
	CU_ASSERT_EQUAL(waiting.rev, 3);
	mvcc_watch_close(waiting.w);
	fixture_close(fx);
}

static void test_a_wait_ends_in_time(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_watch *w = watch_at(fx->db, "k", "l", MVCC_REV_LATEST, 0);
	const struct mvcc_entry *entry;
	uint64_t start = now_ns();

	CU_ASSERT_EQUAL(mvcc_watch_next(w, 30, &entry), 0);
	CU_ASSERT(now_ns() - start >= 30 * 1000000u);
	mvcc_watch_close(w);
	fixture_close(fx);
}

static void test_cancel_ends_the_wait_and_all_later_ones(void)
{
	struct fixture *fx = fixture_open();
	struct waiting waiting = { .w = watch_at(fx->db, "", "", MVCC_REV_LATEST, 0), .timeout_ms = -1 };
	const struct mvcc_entry *entry;
	pthread_t thread;

	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, wait_for_next, &waiting), 0);
	usleep(5000);
	mvcc_watch_cancel(waiting.w);
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(waiting.got, -ECANCELED);
	put(fx->db, "k", "v");
	CU_ASSERT_EQUAL(mvcc_watch_next(waiting.w, 0, &entry), -ECANCELED);
	mvcc_watch_cancel(waiting.w);
	mvcc_watch_close(waiting.w);
	waiting.w = watch_at(fx->db, "", "", 2, 0); /* one that is behind */
	mvcc_watch_cancel(waiting.w);
	CU_ASSERT_EQUAL(mvcc_watch_next(waiting.w, -1, &entry), -ECANCELED);
	mvcc_watch_close(waiting.w);
	fixture_close(fx);
}

static void test_progress_moves_on_without_events(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_watch *w = watch_at(fx->db, "k", "l", MVCC_REV_LATEST, 0);

	for (unsigned i = 0; i < 100; i++) {
		mvcc_rev_t rev = put(fx->db, "other", "v");

		assert_none(w);
		CU_ASSERT_EQUAL(mvcc_watch_rev(w), rev + 1);
	}
	put(fx->db, "k", "v");
	put(fx->db, "other", "v");
	assert_next(w, "102: +k=v(102.102.1)");
	CU_ASSERT_EQUAL(mvcc_watch_rev(w), 103);
	mvcc_watch_close(w);
	fixture_close(fx);
}

static void count_notice(void *arg)
{
	atomic_fetch_add((_Atomic unsigned *)arg, 1);
}

static struct mvcc_watch *watch_notified(struct mvcc *db, const char *start, const char *end,
					 _Atomic unsigned *count)
{
	struct mvcc_watch_options opt = {
		.start = str(start), .end = str(end), .notify = count_notice, .arg = count
	};
	struct mvcc_watch *w = NULL;

	CU_ASSERT_EQUAL_FATAL(mvcc_watch_open(db, &opt, &w), 0);
	return w;
}

static void test_notify_comes_once_until_all_was_asked_for(void)
{
	struct fixture *fx = fixture_open();
	_Atomic unsigned count = 0;
	struct mvcc_watch *w = watch_notified(fx->db, "k", "l", &count);

	put(fx->db, "k", "1");
	CU_ASSERT(reaches(&count, 1));
	put(fx->db, "k", "2");
	assert_next(w, "2: +k=1(2.2.1)");
	assert_next(w, "3: +k=2(2.3.2)");
	CU_ASSERT_EQUAL(atomic_load(&count), 1);
	assert_none(w);
	put(fx->db, "other", "2");
	put(fx->db, "k", "3");
	CU_ASSERT(reaches(&count, 2));
	assert_next(w, "5: +k=3(2.5.3)");
	mvcc_watch_close(w);
	CU_ASSERT_EQUAL(atomic_load(&count), 2);
	fixture_close(fx);
}

/* A notify that holds up the watch thread until it may go on. */
struct stall {
	_Atomic unsigned entered;
	_Atomic bool go_on;
};

static void stall_here(void *arg)
{
	struct stall *stall = arg;

	atomic_fetch_add(&stall->entered, 1);
	while (!atomic_load(&stall->go_on))
		nap();
}

/* The committer moves away what the watch thread has not seen; `floor` is raised above it, or not. */
static void miss_commits(struct fixture *fx, bool compact)
{
	struct stall stall = { .entered = 0 };
	struct mvcc_watch_options opt = {
		.start = str("stall"), .end = str("t"), .notify = stall_here, .arg = &stall
	};
	struct mvcc_watch *w = NULL;

	CU_ASSERT_EQUAL_FATAL(mvcc_watch_open(fx->db, &opt, &w), 0);
	put(fx->db, "stall", "v");
	CU_ASSERT(reaches(&stall.entered, 1));
	put(fx->db, "other", "v");
	put(fx->db, "x", "v");
	put(fx->db, "other", "v");
	fixture_drain(fx);
	if (compact)
		atomic_store(&fx->db->floor, mvcc_current(fx->db));
	put(fx->db, "other", "after");
	atomic_store(&stall.go_on, true);
	mvcc_watch_close(w);
	CU_ASSERT_EQUAL(atomic_load(&stall.entered), 1);
}

static void test_a_watch_is_woken_by_what_its_thread_has_missed(void)
{
	struct fixture *fx = fixture_open();
	_Atomic unsigned count = 0;
	struct mvcc_watch *idle = watch_at(fx->db, "y", "", MVCC_REV_LATEST, 0);
	struct mvcc_watch *w = watch_notified(fx->db, "x", "y", &count);

	miss_commits(fx, false);
	CU_ASSERT(reaches(&count, 1));
	assert_next(w, "4: +x=v(4.4.1)");
	assert_none(w);
	assert_none(idle);
	CU_ASSERT_EQUAL(mvcc_watch_rev(idle), 7);
	CU_ASSERT_EQUAL(atomic_load(&count), 1);
	put(fx->db, "x", "w");
	assert_next(w, "7: +x=w(4.7.2)");
	mvcc_watch_close(w);
	mvcc_watch_close(idle);
	fixture_close(fx);
}

static void test_a_watch_is_lost_if_nobody_knows_what_was_missed(void)
{
	struct fixture *fx = fixture_open();
	_Atomic unsigned count = 0;
	struct mvcc_watch *w = watch_notified(fx->db, "x", "y", &count);
	const struct mvcc_entry *entry;

	miss_commits(fx, true);
	CU_ASSERT(reaches(&count, 1));
	CU_ASSERT_EQUAL(mvcc_watch_next(w, 0, &entry), MVCC_ECOMPACTED);
	mvcc_watch_close(w);
	fixture_close(fx);
}

static void test_of_10000_idle_watches_a_commit_wakes_one(void)
{
	enum { N = 10000 };
	struct fixture *fx = fixture_open();
	struct mvcc_watch **watches = calloc(N, sizeof(*watches));
	_Atomic unsigned *counts = calloc(N, sizeof(*counts));
	struct mvcc_stats stats;
	char key[16], end[17];

	CU_ASSERT_FATAL(watches && counts);
	for (unsigned i = 0; i < N; i++) {
		snprintf(key, sizeof(key), "key%05u", i);
		snprintf(end, sizeof(end), "%s ", key); /* of what is asked for, only the key itself is put */
		watches[i] = watch_notified(fx->db, key, end, &counts[i]);
	}
	mvcc_stats(fx->db, &stats);
	CU_ASSERT_EQUAL(stats.watches, N);
	for (unsigned round = 1; round <= 20; round++) {
		unsigned chosen = round * 397 % N, sum = 0;

		snprintf(key, sizeof(key), "key%05u", chosen);
		put(fx->db, "unrelated", "v");
		put(fx->db, key, "v");
		CU_ASSERT(reaches(&counts[chosen], 1));
		assert_none(watches[N - 1]); /* what it says is true of all before */
		for (unsigned i = 0; i < N; i++)
			sum += atomic_load(&counts[i]);
		CU_ASSERT_EQUAL(sum, round);
	}
	for (unsigned i = 0; i < N; i++)
		mvcc_watch_close(watches[i]);
	mvcc_stats(fx->db, &stats);
	CU_ASSERT_EQUAL(stats.watches, 0);
	free(watches);
	free(counts);
	fixture_close(fx);
}

/* ---- slow watches --------------------------------------------------------------------------- */

static void assert_all_values(struct mvcc_watch *w, mvcc_rev_t from, mvcc_rev_t to)
{
	const struct mvcc_entry *entry;
	struct mvcc_event event;

	for (mvcc_rev_t rev = from; rev <= to; rev++) {
		if (mvcc_watch_next(w, 0, &entry) != 1 || entry->rev != rev ||
		    mvcc_watch_event(w, &event) != 1 || event.item->mod_rev != rev ||
		    mvcc_watch_event(w, &event) != 0) {
			fprintf(stderr, "at revision %u\n", (unsigned)rev);
			CU_FAIL("a revision is missing or wrong");
			return;
		}
	}
	assert_none(w);
}

static void test_a_watch_not_asked_for_20000_commits_gets_them_all(void)
{
	struct fixture *fx = fixture_open_small_ring();
	struct mvcc_watch *w = watch_at(fx->db, "", "", MVCC_REV_LATEST, 0);
	struct mvcc_watch *idle = watch_at(fx->db, "z", "", MVCC_REV_LATEST, 0);
	size_t notes, bytes, notes_max = 0, bytes_max = 0;
	char value[1200];

	memset(value, 'x', sizeof(value) - 1);
	value[sizeof(value) - 1] = 0;
	for (unsigned i = 0; i < 20000; i++) {
		put(fx->db, "k", i % 4 ? "small" : value);
		if (i % 100)
			continue;
		watch_tail_size(fx->db, &notes, &bytes);
		notes_max = notes > notes_max ? notes : notes_max;
		bytes_max = bytes > bytes_max ? bytes : bytes_max;
	}
	assert_none(idle);
	CU_ASSERT(notes_max > 0 && notes_max <= TAIL_NOTES_MAX);
	CU_ASSERT(bytes_max > 0 && bytes_max <= TAIL_BYTES_MAX);
	assert_all_values(w, 2, 20001);
	mvcc_watch_close(w);
	mvcc_watch_close(idle);
	fixture_close(fx);
}

static void test_the_tail_holds_a_bounded_number_of_bytes(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_watch *w = watch_at(fx->db, "z", "", MVCC_REV_LATEST, 0);
	static char value[200001];
	size_t notes, bytes;

	memset(value, 'x', sizeof(value) - 1);
	fixture_sluice_shut(fx); /* the ring keeps all: nothing is moved away before it is noted */
	for (unsigned i = 0; i < 60; i++)
		put(fx->db, "k", value);
	assert_none(w);
	fixture_sluice_open(fx);
	watch_tail_size(fx->db, &notes, &bytes);
	CU_ASSERT(notes >= 10 && notes < 60);
	CU_ASSERT(bytes > 200000 && bytes <= TAIL_BYTES_MAX);
	mvcc_watch_close(w);
	for (unsigned i = 0; i < 10000 && bytes; i++) { /* nobody watches: it goes */
		nap();
		watch_tail_size(fx->db, &notes, &bytes);
	}
	CU_ASSERT_EQUAL(notes, 0);
	CU_ASSERT_EQUAL(bytes, 0);
	put(fx->db, "z", "v");
	w = watch_at(fx->db, "z", "", 2, 0);
	assert_next(w, "62: +z=v(62.62.1)");
	mvcc_watch_close(w);
	fixture_close(fx);
}

/* What fell off the tail before the engine had it is drained for whoever asks. */
static void test_what_the_tail_has_lost_is_drained_when_asked_for(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_watch *w = watch_at(fx->db, "", "", MVCC_REV_LATEST, 0);

	fixture_sluice_shut(fx);
	for (unsigned i = 0; i < 6000; i++)
		put(fx->db, "k", "v");
	fixture_sluice_open(fx);
	assert_all_values(w, 2, 6001);
	mvcc_watch_close(w);
	fixture_close(fx);
}

static void test_the_tail_gives_what_the_engine_has_not_got(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_watch *w = watch_at(fx->db, "", "", MVCC_REV_LATEST, 0), *from_ring;

	fixture_sluice_shut(fx);
	for (unsigned i = 0; i < 300; i++)
		put(fx->db, "k", "v");
	assert_all_values(w, 2, 301);
	mvcc_watch_close(w);
	from_ring = watch_at(fx->db, "", "", 10, 0);
	assert_all_values(from_ring, 10, 301);
	mvcc_watch_close(from_ring);
	fixture_sluice_open(fx);
	fixture_close(fx);
}

/* ---- large transactions --------------------------------------------------------------------- */

enum { BIG = 30000 };

static void put_big(struct mvcc *db, const char *value)
{
	struct mvcc_txn *txn = begin(db);
	char key[32];

	for (unsigned i = 0; i < BIG; i++) {
		snprintf(key, sizeof(key), "big%06u", i);
		txn_put(txn, key, value);
	}
	commit(txn);
}

static void assert_big(struct mvcc_watch *w, mvcc_rev_t rev, const char *value, const char *prev)
{
	const struct mvcc_entry *entry;
	struct mvcc_event event;
	unsigned n = 0;
	char key[32];
	int got = mvcc_watch_next(w, 0, &entry);

	CU_ASSERT_EQUAL_FATAL(got, 1);
	CU_ASSERT_EQUAL(entry->rev, rev);
	while ((got = mvcc_watch_event(w, &event)) == 1) {
		snprintf(key, sizeof(key), "big%06u", n);
		if (!slice_eq(event.key, str(key)) || !slice_eq(event.item->value, str(value)) ||
		    event.item->mod_rev != rev || !event.prev != !prev ||
		    (prev && !slice_eq(event.prev->value, str(prev))))
			break;
		n++;
	}
	CU_ASSERT_EQUAL(got, 0);
	CU_ASSERT_EQUAL(n, BIG);
	CU_ASSERT(w->row.cap <= 128 << 10); /* one part of it at a time */
}

static void test_a_spilled_transaction_streams_whole(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_watch *w = watch_at(fx->db, "big", "bih", MVCC_REV_LATEST, MVCC_WATCH_PREV);
	struct mvcc_watch *one = watch_at(fx->db, "big020000", "big020001", MVCC_REV_LATEST, 0);
	struct mvcc_watch *other = watch_at(fx->db, "x", "", MVCC_REV_LATEST, 0);
	static const char old[] = "a value of forty bytes, more or less....";

	put_big(fx->db, old);
	put(fx->db, "x", "1");
	put_big(fx->db, "second");
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 4);
	for (int round = 0; round < 2; round++) {
		assert_big(w, 2, old, NULL);
		assert_big(w, 4, "second", old);
		assert_none(w);
		assert_next(one, "2: +big020000=a value of forty bytes, more or less....(2.2.1)");
		assert_next(one, "4: +big020000=second(2.4.2)");
		assert_none(one);
		assert_next(other, "3: +x=1(3.3.1)");
		assert_none(other);
		mvcc_watch_close(w);
		mvcc_watch_close(one);
		mvcc_watch_close(other);
		fixture_drain(fx);
		w = watch_at(fx->db, "big", "bih", 2, MVCC_WATCH_PREV);
		one = watch_at(fx->db, "big020000", "big020001", 2, 0);
		other = watch_at(fx->db, "x", "", 2, 0);
	}
	mvcc_watch_close(w);
	mvcc_watch_close(one);
	mvcc_watch_close(other);
	fixture_close(fx);
}

/* ---- restarts ------------------------------------------------------------------------------- */

static void test_a_watch_is_resumed_after_a_restart(void)
{
	struct fixture *fx = fixture_open_small_ring();
	mvcc_rev_t next = 2;
	char expected[64];

	for (unsigned life = 0; life < 6; life++) {
		struct mvcc_watch *w = watch_at(fx->db, "k", "l", next, 0);

		for (unsigned i = 0; i < 30; i++) {
			put(fx->db, "other", "v");
			put(fx->db, "k", "v");
		}
		for (unsigned i = 0; i < 20 + life; i++) {
			unsigned rev = (unsigned)next + (next % 2 == 0);

			snprintf(expected, sizeof(expected), "%u: +k=v(3.%u.%u)", rev, rev, (rev - 1) / 2);
			assert_next(w, expected);
			next = mvcc_watch_rev(w);
		}
		mvcc_watch_close(w);
		fixture_reopen(fx);
	}
	fixture_close(fx);
}

/* The victim: commits, and tells what its watch has given, until it is killed. */
static int be_killed(const char *dir)
{
	struct rocks_options options = { .cache_bytes = (size_t)8 << 20 };
	struct mvcc_options opt = { .dir = dir, .engine = rocks_provider(&options), .create = true };
	struct mvcc_watch_options wopt = { .from = 2 };
	const struct mvcc_entry *entry;
	struct mvcc_watch *w;
	struct mvcc *db;

	opt.ring_bytes = (size_t)256 << 10;
	if (mvcc_open(&opt, &db) || mvcc_watch_open(db, &wopt, &w))
		return 3;
	for (;;) {
		struct mvcc_txn *txn;
		mvcc_rev_t rev;

		if (mvcc_txn_begin(db, &txn) || mvcc_txn_put(txn, str("k"), str("v"), NULL, 0) ||
		    mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, NULL) || mvcc_watch_next(w, -1, &entry) != 1)
			return 4;
		rev = mvcc_watch_rev(w);
		if (write(STDOUT_FILENO, &rev, sizeof(rev)) != sizeof(rev))
			return 5;
	}
}

static mvcc_rev_t run_victim(const char *dir, unsigned revisions)
{
	mvcc_rev_t rev, last = 0;
	int fds[2], status;
	pid_t pid;

	CU_ASSERT_EQUAL_FATAL(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		dup2(fds[1], STDOUT_FILENO);
		execl("/proc/self/exe", self, "--victim", dir, (char *)NULL);
		_exit(9);
	}
	close(fds[1]);
	while (read(fds[0], &rev, sizeof(rev)) == sizeof(rev)) {
		last = rev;
		if (rev == revisions)
			kill(pid, SIGKILL);
	}
	close(fds[0]);
	waitpid(pid, &status, 0);
	CU_ASSERT(WIFSIGNALED(status));
	return last;
}

static void test_a_watch_is_resumed_after_a_kill(void)
{
	struct fixture *fx = fixture_new();
	struct mvcc_watch *w;
	mvcc_rev_t last;

	if (fx->mem) { /* that engine does not outlive its process */
		free(fx->sluice);
		mem_engine_free(fx->mem);
		fixture_rmdir(fx->tmp);
		free(fx);
		return;
	}
	last = run_victim(fx->dir, 3000);
	CU_ASSERT(last >= 3000);
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	CU_ASSERT(mvcc_current(fx->db) + 1 >= last);
	put(fx->db, "k", "after");
	w = watch_at(fx->db, "", "", last, 0);
	assert_all_values(w, last, mvcc_current(fx->db));
	mvcc_watch_close(w);
	fixture_close(fx);
}

/* ---- failures ------------------------------------------------------------------------------- */

static struct fixture *open_faulty(struct fault_engine **fault)
{
	struct fixture *fx = fixture_new();

	*fault = fault_engine_new(fx->opt.engine);
	CU_ASSERT_FATAL(*fault != NULL);
	fx->opt.engine = fault_engine_provider(*fault);
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	return fx;
}

static int wait_until_failed(struct mvcc *db)
{
	for (unsigned i = 0; i < 10000 && !atomic_load(&db->failed); i++)
		nap();
	return atomic_load(&db->failed);
}

static void test_a_stopped_store_still_tells_what_was_committed(void)
{
	struct fault_engine *fault;
	struct fixture *fx = open_faulty(&fault);
	struct mvcc_watch *w = watch_at(fx->db, "", "", MVCC_REV_LATEST, 0), *big;
	const struct mvcc_entry *entry;
	int got = 0;

	fault_engine_arm(fault, (struct fault_plan){ FAULT_WRITE, 1, -EIO, FAULT_FROM_ON, false });
	put(fx->db, "a", "1");
	CU_ASSERT_EQUAL(wait_until_failed(fx->db), -EIO);
	assert_next(w, "2: +a=1(2.2.1)");
	assert_none(w);
	fault_engine_disarm(fault);
	CU_ASSERT_EQUAL(mvcc_sync(fx->db, MVCC_REV_LATEST) == 0 || wait_until_failed(fx->db), 1);
	for (unsigned i = 0; i < 5000 && atomic_load(&fx->db->failed); i++)
		nap();
	CU_ASSERT_EQUAL(atomic_load(&fx->db->failed), 0);
	/* a run's changes are in the log alone, which has to be drained: asking again goes on */
	big = watch_at(fx->db, "big", "bih", MVCC_REV_LATEST, 0);
	fixture_sluice_shut(fx);
	CU_ASSERT_EQUAL(mvcc_watch_rev(big), 3);
	fixture_sluice_open(fx);
	put_big(fx->db, "a value of forty bytes, more or less....");
	fault_engine_arm(fault, (struct fault_plan){ FAULT_MOVE, 1, -EIO, FAULT_ONCE, false });
	for (unsigned i = 0; i < 5000 && (got = mvcc_watch_next(big, 0, &entry)) < 0; i++)
		nap();
	CU_ASSERT_EQUAL(got, 1);
	CU_ASSERT_EQUAL(entry->rev, 3);
	fault_engine_disarm(fault);
	mvcc_watch_close(w);
	mvcc_watch_close(big);
	CU_ASSERT_EQUAL(mvcc_close(fx->db), 0);
	fx->db = NULL;
	fixture_close(fx);
	fault_engine_free(fault);
}

/* Each call of the engine on the way of a watch through the log fails once; what is given stays whole. */
static void test_asking_again_after_an_error_goes_on(void)
{
	struct fault_engine *fault;
	struct fixture *fx = open_faulty(&fault);
	unsigned failed = 0;

	for (unsigned i = 0; i < 5; i++) {
		struct mvcc_txn *txn = begin(fx->db);

		txn_put(txn, "a", "v");
		txn_put(txn, "b", "w");
		commit(txn);
	}
	fixture_drain(fx);
	for (uint64_t at = 1; at < 60; at++) {
		struct mvcc_watch *w = watch_at(fx->db, "", "", 2, MVCC_WATCH_PREV);
		const struct mvcc_entry *entry = NULL;
		struct mvcc_event event;
		unsigned events = 0, revs = 0;
		int got;

		fault_engine_arm(fault, (struct fault_plan){ FAULT_GET | FAULT_ITER | FAULT_MOVE, at, -EIO,
							     FAULT_ONCE, false });
		while ((got = mvcc_watch_next(w, 0, &entry)) != 0) {
			failed += got < 0;
			if (got < 0)
				continue;
			CU_ASSERT_EQUAL(entry->rev, 2 + revs);
			revs++;
			while ((got = mvcc_watch_event(w, &event)) != 0) {
				failed += got < 0;
				if (got < 0)
					continue;
				CU_ASSERT(slice_eq(event.key, str(events % 2 ? "b" : "a")));
				CU_ASSERT_EQUAL(event.item->mod_rev, entry->rev);
				CU_ASSERT_EQUAL(!event.prev, entry->rev == 2);
				events++;
			}
		}
		CU_ASSERT_EQUAL(revs, 5);
		CU_ASSERT_EQUAL(events, 10);
		fault_engine_disarm(fault);
		mvcc_watch_close(w);
	}
	CU_ASSERT(failed >= 20);
	CU_ASSERT_EQUAL(mvcc_close(fx->db), 0);
	fx->db = NULL;
	fixture_close(fx);
	fault_engine_free(fault);
}

/* ---- threads -------------------------------------------------------------------------------- */

struct stress {
	struct mvcc *db;
	_Atomic bool stop;
	_Atomic unsigned errors, closed, late;
};

/* What notify is lent: it outlives the watch, to tell whether it is called once that is closed. */
struct slot {
	_Atomic bool open;
	_Atomic unsigned *late;
};

static void note_notice(void *arg)
{
	struct slot *slot = arg;

	if (!atomic_load(&slot->open))
		atomic_fetch_add(slot->late, 1);
}

static void *cancel_it(void *arg)
{
	mvcc_watch_cancel(arg);
	return NULL;
}

/* Opens, asks a little, is canceled, closes. */
static void *open_and_close(void *arg)
{
	struct stress *s = arg;
	uint64_t seed = (uintptr_t)&seed;
	struct slot slots[64];

	for (unsigned i = 0; !atomic_load(&s->stop); i++) {
		struct slot *slot = &slots[i % 64]; /* used again when a late call would have come */
		struct mvcc_watch_options opt = { .from = random_below(&seed, 2) ? 0 : 1,
						  .notify = note_notice,
						  .arg = slot };
		const struct mvcc_entry *entry;
		struct mvcc_watch *w;
		pthread_t thread;
		int got = 1;

		atomic_init(&slot->open, true);
		slot->late = &s->late;
		if (mvcc_watch_open(s->db, &opt, &w)) {
			atomic_fetch_add(&s->errors, 1);
			return NULL;
		}
		for (uint64_t n = random_below(&seed, 20); n-- > 0 && got >= 0;)
			got = mvcc_watch_next(w, (int)random_below(&seed, 2), &entry);
		if (random_below(&seed, 2) && !pthread_create(&thread, NULL, cancel_it, w)) {
			while ((got = mvcc_watch_next(w, -1, &entry)) == 1)
				;
			if (got != -ECANCELED)
				atomic_fetch_add(&s->errors, 1);
			pthread_join(thread, NULL);
		}
		mvcc_watch_close(w);
		atomic_store(&slot->open, false);
		atomic_fetch_add(&s->closed, 1);
	}
	return NULL;
}

static void test_watches_are_opened_canceled_and_closed_while_commits_go_on(void)
{
	struct fixture *fx = fixture_open_small_ring();
	struct stress s = { .db = fx->db };
	pthread_t threads[3];

	for (unsigned i = 0; i < 3; i++)
		CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, open_and_close, &s), 0);
	for (unsigned i = 0; i < 3000 || atomic_load(&s.closed) < 200; i++) {
		put(fx->db, "k", "v");
		if (i > 1000000)
			break;
	}
	atomic_store(&s.stop, true);
	for (unsigned i = 0; i < 3; i++) {
		while (pthread_tryjoin_np(threads[i], NULL)) /* somebody may wait for one more commit */
			put(fx->db, "k", "v");
	}
	CU_ASSERT_EQUAL(atomic_load(&s.errors), 0);
	CU_ASSERT_EQUAL(atomic_load(&s.late), 0);
	CU_ASSERT(atomic_load(&s.closed) >= 200);
	CU_ASSERT_EQUAL(watch_count(fx->db), 0);
	fixture_close(fx);
}

/* ---- against the log ------------------------------------------------------------------------ */

enum { MODEL_WRITERS = 2, MODEL_WATCHES = 8, MODEL_COMMITS = 1500, MODEL_KEYS = 40 };

struct writer {
	struct mvcc *db;
	uint64_t seed;
	_Atomic unsigned *errors;
};

static void *write_at_random(void *arg)
{
	struct writer *writer = arg;

	for (unsigned i = 0; i < MODEL_COMMITS; i++) {
		struct mvcc_txn *txn;
		uint64_t ops = 1 + random_below(&writer->seed, 4);
		char key[16], value[600];
		int err = mvcc_txn_begin(writer->db, &txn);

		if (i % 500 == 250)
			ops = 3000; /* a run, in the smallest ring */
		memset(value, 'v', sizeof(value));
		for (uint64_t op = 0; !err && op < ops; op++) {
			uint64_t k = random_below(&writer->seed, ops > 10 ? 3000 : MODEL_KEYS);
			size_t len = random_below(&writer->seed, ops > 10 ? 10 : sizeof(value));

			snprintf(key, sizeof(key), "k%04u", (unsigned)k);
			put_le64((uint8_t *)value, random_next(&writer->seed));
			err = random_below(&writer->seed, 4) ?
				      mvcc_txn_put(txn, str(key), slice_of(value, len), NULL, 0) :
				      mvcc_txn_del(txn, str(key));
		}
		if (!err)
			err = mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, NULL);
		if (err && err != MVCC_ECONFLICT) /* which a run may meet, as it reads what it replaces */
			atomic_fetch_add(writer->errors, 1);
	}
	return NULL;
}

/* One event as a line, for comparing. */
static void add_event(struct buf *out, mvcc_rev_t rev, const struct mvcc_event *e)
{
	const struct mvcc_item *items[] = { e->item, e->prev };

	if (buf_put_varint(out, rev) || buf_put_u8(out, e->deleted) || buf_put_bytes(out, e->key))
		abort();
	for (unsigned i = 0; i < 2; i++) {
		struct mvcc_item none = { 0 };
		const struct mvcc_item *item = items[i] ? items[i] : &none;

		if (buf_put_varint(out, item->create_rev) || buf_put_varint(out, item->mod_rev) ||
		    buf_put_varint(out, item->version) || buf_put_bytes(out, item->value))
			abort();
	}
}

struct consumer {
	struct mvcc *db;
	struct mvcc_watch *w;
	char start[16], end[16];
	mvcc_rev_t from;
	unsigned flags;
	uint64_t seed;
	_Atomic bool *stop;
	_Atomic unsigned *errors;
	struct buf seen;
	mvcc_rev_t next;
};

/* Asks at a random pace, and now and then resumes with a new watch; ends once it has seen all. */
static void *consume(void *arg)
{
	struct consumer *c = arg;
	bool stop = false;

	while (!stop) {
		const struct mvcc_entry *entry;
		struct mvcc_event event;
		int got;

		stop = atomic_load(c->stop);
		while ((got = mvcc_watch_next(c->w, 1, &entry)) == 1) {
			while ((got = mvcc_watch_event(c->w, &event)) == 1)
				add_event(&c->seen, entry->rev, &event);
			if (got)
				break;
			if (random_below(&c->seed, 200) == 0)
				usleep((useconds_t)random_below(&c->seed, 8000));
			if (random_below(&c->seed, 300) == 0) {
				struct mvcc_watch_options opt = { .start = str(c->start),
								  .end = str(c->end),
								  .from = mvcc_watch_rev(c->w),
								  .flags = c->flags };

				mvcc_watch_close(c->w);
				if (mvcc_watch_open(c->db, &opt, &c->w))
					abort();
			}
		}
		if (got) {
			atomic_fetch_add(c->errors, 1);
			return NULL;
		}
	}
	c->next = mvcc_watch_rev(c->w);
	return NULL;
}

static struct mvcc_item item_at(struct mvcc *db, mvcc_rev_t rev, struct slice key)
{
	struct mvcc_item item = { 0 };
	struct mvcc_view *view = NULL;

	if (mvcc_view_open(db, rev, &view) || mvcc_get(view, key, &item))
		abort();
	mvcc_view_close(view);
	return item;
}

/* What a watch should have seen, read from the log and the views. */
static void read_expected(struct mvcc *db, const struct consumer *c, struct buf *out)
{
	const struct mvcc_entry *entry;
	struct mvcc_change change;
	struct mvcc_log *log = NULL;

	CU_ASSERT_EQUAL_FATAL(mvcc_log_open(db, c->from, MVCC_REV_LATEST, &log), 0);
	while (mvcc_log_next(log, &entry) == 1) {
		while (mvcc_log_change(log, &change) == 1) {
			struct mvcc_item item = { 0 }, prev = { 0 };
			struct mvcc_event event = { .key = change.key, .deleted = change.deleted };

			if (slice_cmp(change.key, str(c->start)) < 0 ||
			    (c->end[0] && slice_cmp(change.key, str(c->end)) >= 0) ||
			    (c->flags & (change.deleted ? MVCC_WATCH_NO_DEL : MVCC_WATCH_NO_PUT)))
				continue;
			if (!change.deleted) {
				item = item_at(db, entry->rev, change.key);
				event.item = &item;
			}
			if (change.prev_rev && (c->flags & MVCC_WATCH_PREV)) {
				prev = item_at(db, entry->rev - 1, change.key);
				event.prev = &prev;
				CU_ASSERT_EQUAL(prev.mod_rev, change.prev_rev);
			}
			add_event(out, entry->rev, &event);
			mvcc_item_release(&item);
			mvcc_item_release(&prev);
		}
	}
	mvcc_log_close(log);
}

static void consumer_begin(struct consumer *c, unsigned i)
{
	static const unsigned flags[] = { 0, MVCC_WATCH_PREV, MVCC_WATCH_NO_DEL, MVCC_WATCH_NO_PUT };
	unsigned a = (unsigned)random_below(&c->seed, MODEL_KEYS), b;

	b = a + (unsigned)random_below(&c->seed, 12);
	snprintf(c->start, sizeof(c->start), "k%04u", a);
	snprintf(c->end, sizeof(c->end), "k%04u", b);
	if (i == 0)
		c->start[0] = c->end[0] = 0;
	if (i == 1)
		c->end[0] = 0;
	c->from = 1 + random_below(&c->seed, mvcc_current(c->db) + 50);
	c->flags = flags[random_below(&c->seed, 4)];
	c->w = watch_at(c->db, c->start, c->end, c->from, c->flags);
}

static void test_watches_give_what_the_log_says(void)
{
	struct fixture *fx = fixture_open_small_ring();
	uint64_t seed = fixture_env("WATCH_SEED", (uint64_t)getpid() * 2654435761u);
	struct consumer consumers[MODEL_WATCHES];
	struct writer writers[MODEL_WRITERS];
	pthread_t threads[MODEL_WATCHES + MODEL_WRITERS];
	_Atomic unsigned errors = 0;
	_Atomic bool stop = false;
	struct buf expected = { 0 };

	printf("WATCH_SEED=%llu ", (unsigned long long)seed);
	put_n(fx->db, "k00", 100);
	for (unsigned i = 0; i < MODEL_WRITERS; i++) {
		writers[i] = (struct writer){ fx->db, random_next(&seed), &errors };
		CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, write_at_random, &writers[i]), 0);
	}
	for (unsigned i = 0; i < MODEL_WATCHES; i++) {
		consumers[i] = (struct consumer){
			.db = fx->db, .seed = random_next(&seed), .stop = &stop, .errors = &errors
		};
		usleep(5000);
		consumer_begin(&consumers[i], i);
		CU_ASSERT_EQUAL_FATAL(
			pthread_create(&threads[MODEL_WRITERS + i], NULL, consume, &consumers[i]), 0);
	}
	for (unsigned i = 0; i < MODEL_WRITERS; i++)
		pthread_join(threads[i], NULL);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < MODEL_WATCHES; i++) {
		pthread_join(threads[MODEL_WRITERS + i], NULL);
		read_expected(fx->db, &consumers[i], &expected);
		CU_ASSERT(slice_eq(slice_buf(&expected), slice_buf(&consumers[i].seen)));
		CU_ASSERT(consumers[i].next == mvcc_current(fx->db) + 1);
		buf_clear(&expected);
		buf_release(&consumers[i].seen);
		mvcc_watch_close(consumers[i].w);
	}
	CU_ASSERT_EQUAL(atomic_load(&errors), 0);
	buf_release(&expected);
	fixture_close(fx);
}

/* ---- the filter of the log ------------------------------------------------------------------ */

static void assert_log(struct mvcc *db, mvcc_rev_t from, struct slice start, struct slice end,
		       const char *expected)
{
	const struct mvcc_entry *entry;
	struct mvcc_change change;
	struct mvcc_log *log = NULL;
	struct buf text = { 0 };
	int got;

	CU_ASSERT_EQUAL_FATAL(mvcc_log_open(db, from, MVCC_REV_LATEST, &log), 0);
	CU_ASSERT_EQUAL(mvcc_log_filter(log, start, end), 0);
	while ((got = mvcc_log_next(log, &entry)) == 1) {
		add(&text, "%s%u", text.len ? " " : "", (unsigned)entry->rev);
		while ((got = mvcc_log_change(log, &change)) == 1)
			add(&text, "%c%.*s", change.deleted ? '-' : '+', (int)change.key.len,
			    change.key.data);
		CU_ASSERT_EQUAL(got, 0);
	}
	CU_ASSERT_EQUAL(got, 0);
	CU_ASSERT_EQUAL(mvcc_log_change(log, &change), 0);
	assert_text(&text, expected);
	mvcc_log_close(log);
}

static void assert_log_of(struct mvcc *db, mvcc_rev_t from, const char *key, const char *expected)
{
	assert_log(db, from, str(key), slice_of(key, strlen(key) + 1), expected);
}

static void test_a_filtered_log_has_only_what_matches(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;

	put(fx->db, "a", "1");
	put(fx->db, "b", "1");
	txn = begin(fx->db);
	txn_put(txn, "a", "2");
	txn_del(txn, "b");
	txn_put(txn, "c", "2");
	commit(txn);
	del(fx->db, "a");
	put(fx->db, "d", "3");
	txn = begin(fx->db);
	txn_put(txn, "b", "4");
	txn_put(txn, "bb", "4");
	commit(txn);
	assert_log(fx->db, 1, str(""), str(""), "2+a 3+b 4+a-b+c 5-a 6+d 7+b+bb");
	assert_log(fx->db, 1, str("b"), str("d"), "3+b 4-b+c 7+b+bb");
	assert_log(fx->db, 4, str("b"), str("d"), "4-b+c 7+b+bb");
	assert_log(fx->db, 1, str("c"), str(""), "4+c 6+d");
	assert_log(fx->db, 1, str("x"), str(""), "");
	assert_log(fx->db, 1, str("d"), str("a"), "");
	assert_log_of(fx->db, 1, "a", "2+a 4+a 5-a");
	assert_log_of(fx->db, 5, "a", "5-a");
	assert_log_of(fx->db, 6, "a", "");
	assert_log_of(fx->db, 1, "b", "3+b 4-b 7+b");
	assert_log_of(fx->db, 1, "bb", "7+bb");
	assert_log_of(fx->db, 1, "none", "");
	atomic_store(&fx->db->floor, 4); /* a life as seen from there does not show what ended with it */
	assert_log_of(fx->db, 4, "b", "4-b 7+b");
	assert_log_of(fx->db, 4, "a", "4+a 5-a");
	fixture_close(fx);
}

static void test_a_filter_looks_through_all_parts_of_a_revision(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn;

	put_big(fx->db, "a value of forty bytes, more or less....");
	txn = begin(fx->db);
	txn_put(txn, "x", "1");
	commit(txn);
	put_big(fx->db, "again");
	assert_log(fx->db, 2, str("big029998"), str("c"), "2+big029998+big029999 4+big029998+big029999");
	assert_log(fx->db, 2, str("x"), str(""), "3+x");
	assert_log_of(fx->db, 1, "big015000", "2+big015000 4+big015000");
	fixture_close(fx);
}

static void test_a_key_of_many_changes_is_found_by_reading_all(void)
{
	struct fixture *fx = fixture_open();
	const struct mvcc_entry *entry;
	struct mvcc_log *log = NULL;
	mvcc_rev_t rev = 2;

	for (unsigned i = 0; i < 1500; i++) {
		put(fx->db, "k", "v");
		put(fx->db, "other", "v");
	}
	CU_ASSERT_EQUAL_FATAL(mvcc_log_open(fx->db, 1, MVCC_REV_LATEST, &log), 0);
	CU_ASSERT_EQUAL(mvcc_log_filter(log, str("k"), slice_of("k", 2)), 0);
	for (; mvcc_log_next(log, &entry) == 1; rev += 2)
		CU_ASSERT_EQUAL(entry->rev, rev);
	CU_ASSERT_EQUAL(rev, 3002);
	mvcc_log_close(log);
	fixture_close(fx);
}

/* -------------------------------------------------------------------------------------------- */

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
	UNIT_TEST(test_a_watch_gives_what_is_committed_from_its_opening_on),
	UNIT_TEST(test_a_watch_from_an_old_revision_gives_all_since),
	UNIT_TEST(test_nothing_is_given_before_a_future_revision),
	UNIT_TEST(test_the_story_comes_with_the_revision),
	UNIT_TEST(test_a_transaction_is_one_revision_with_all_its_events),
	UNIT_TEST(test_deleting_and_putting_again_is_a_put_of_a_new_generation),
	UNIT_TEST(test_a_range_gives_what_lies_in_it),
	UNIT_TEST(test_filters_leave_out_puts_or_deletions),
	UNIT_TEST(test_keys_alone_come_with_no_value),
	UNIT_TEST(test_blobs_of_a_record_are_told),
	UNIT_TEST(test_watches_share_no_events),
	UNIT_TEST(test_events_not_asked_for_are_left_behind),
	UNIT_TEST(test_a_watch_from_below_the_floor_is_refused),
	UNIT_TEST(test_a_position_below_the_floor_stays_lost),
	UNIT_TEST(test_what_was_before_is_left_out_when_it_is_compacted),
	UNIT_TEST(test_the_floor_may_pass_a_revision_half_given),
	UNIT_TEST(test_the_floor_may_pass_a_revision_given_whole),
	UNIT_TEST(test_a_thread_waits_until_something_matches),
	UNIT_TEST(test_a_wait_ends_in_time),
	UNIT_TEST(test_cancel_ends_the_wait_and_all_later_ones),
	UNIT_TEST(test_progress_moves_on_without_events),
	UNIT_TEST(test_notify_comes_once_until_all_was_asked_for),
	UNIT_TEST(test_a_watch_is_woken_by_what_its_thread_has_missed),
	UNIT_TEST(test_a_watch_is_lost_if_nobody_knows_what_was_missed),
	UNIT_TEST(test_of_10000_idle_watches_a_commit_wakes_one),
	UNIT_TEST(test_a_watch_not_asked_for_20000_commits_gets_them_all),
	UNIT_TEST(test_the_tail_holds_a_bounded_number_of_bytes),
	UNIT_TEST(test_what_the_tail_has_lost_is_drained_when_asked_for),
	UNIT_TEST(test_the_tail_gives_what_the_engine_has_not_got),
	UNIT_TEST(test_a_spilled_transaction_streams_whole),
	UNIT_TEST(test_a_watch_is_resumed_after_a_restart),
	UNIT_TEST(test_a_watch_is_resumed_after_a_kill),
	UNIT_TEST(test_a_stopped_store_still_tells_what_was_committed),
	UNIT_TEST(test_asking_again_after_an_error_goes_on),
	UNIT_TEST(test_watches_are_opened_canceled_and_closed_while_commits_go_on),
	UNIT_TEST(test_watches_give_what_the_log_says),
	UNIT_TEST(test_a_filtered_log_has_only_what_matches),
	UNIT_TEST(test_a_filter_looks_through_all_parts_of_a_revision),
	UNIT_TEST(test_a_key_of_many_changes_is_found_by_reading_all),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = {
		UNIT_SUITE("watch on memory", on_memory, NULL, tests),
		UNIT_SUITE("watch on rocksdb", on_rocks, NULL, tests),
		CU_SUITE_INFO_NULL,
	};

	self = argv[0];
	if (argc == 3 && strcmp(argv[1], "--victim") == 0)
		return be_killed(argv[2]);
	return unit_main(argc, argv, suites);
}
