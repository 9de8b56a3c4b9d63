/*
 * Purging: no revision shows what was purged, all else is as it was, nobody takes the holes for damage, and in the end no
 * file has the bytes; whenever a call of the engine fails, or the process dies.
 */
#include "tests/store_fixture.h"

#include "mvcc/keep.h"
#include "mvcc/mvcc_int.h"
#include "mvcc/watch.h"
#include "rocks_backend/rocks.h"
#include "tests/engines/fault_engine.h"
#include "tests/engines/mem_engine.h"
#include "tests/unit.h"

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

/* ---- one line each ------------------------------------------------------------------------- */

static const char *end_of(const char *key, char out[64])
{
	snprintf(out, 64, "%s", key);
	return out;
}

/* The range of that key alone. */
static struct mvcc_purge_range one(const char *key, char out[64])
{
	return (struct mvcc_purge_range){ str(key), slice_of(end_of(key, out), strlen(key) + 1) };
}

static mvcc_rev_t purge(struct mvcc *db, const char *key)
{
	const struct mvcc_story story = { .uid = 7, .message = "a court's order" };
	struct mvcc_purge_range range;
	mvcc_rev_t rev = 0;
	char end[64];

	range = one(key, end);
	CU_ASSERT_EQUAL(mvcc_purge(db, &range, 1, &story, &rev), 0);
	CU_ASSERT_EQUAL(rev, mvcc_current(db));
	return rev;
}

static mvcc_rev_t put_blob(struct mvcc *db, const char *key, const char *bytes, mvcc_blob_t *blob)
{
	struct mvcc_txn *txn = begin(db);

	if (bytes)
		CU_ASSERT_EQUAL(mvcc_txn_stage_blob(txn, str(bytes), blob), 0);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str(key), str("with a blob"), blob, 1), 0);
	return commit(txn);
}

static bool blob_is_there(struct mvcc *db, mvcc_blob_t blob)
{
	char got[8];

	return mvcc_blob_read(db, blob, 0, got, sizeof(got)) >= 0;
}

static bool is_absent_everywhere(struct mvcc *db, const char *key, mvcc_rev_t from)
{
	struct mvcc_item item = { 0 };
	bool absent = true;

	for (mvcc_rev_t rev = from; rev <= mvcc_current(db); rev++) {
		struct mvcc_view *view;

		if (mvcc_view_open(db, rev, &view))
			continue;
		absent &= mvcc_get(view, str(key), &item) == -ENOENT;
		mvcc_item_release(&item);
		mvcc_view_close(view);
	}
	return absent;
}

/* No row is left that is there for the purge alone, but its own one. */
static void assert_given_back(struct fixture *fx)
{
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	CU_ASSERT_EQUAL(fixture_rows_of(fx, "ended", "\2"), 0);
	fixture_verify(fx);
}

/* ---- what is gone, and what is not --------------------------------------------------------- */

static void test_no_revision_shows_it_any_more(void)
{
	struct fixture *fx = fixture_open();
	const struct mvcc_entry *entry;
	struct mvcc_log *log = NULL;

	put(fx->db, "a", "1");
	put(fx->db, "secret", "one");
	put(fx->db, "secret", "two");
	del(fx->db, "secret");
	put(fx->db, "secrets", "another key");
	put(fx->db, "secret", "three");
	put(fx->db, "a", "2");
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "p", 3), 0);
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "q", 4), 0);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, 6), 0);
	CU_ASSERT_EQUAL(purge(fx->db, "secret"), 9);
	for (int i = 0; i < 3; i++) {
		CU_ASSERT(is_absent_everywhere(fx->db, "secret", 1));
		assert_history(fx->db, "secret", "");
		assert_range_at(fx->db, 3, "", "", 0, "a=1");
		assert_range_at(fx->db, 7, "", "", 0, "a=1 secrets=another key");
		assert_range_at(fx->db, 9, "", "", 0, "a=2 secrets=another key");
		assert_changes(fx->db, 7, "+secret<0"); /* it was changed: that is all the log says */
		assert_changes(fx->db, 9, "-secret<7");
		fixture_verify(fx);
		if (i == 0)
			assert_given_back(fx);
		else
			fixture_reopen(fx);
	}
	CU_ASSERT_EQUAL_FATAL(mvcc_log_open(fx->db, 9, 9, &log), 0);
	CU_ASSERT_EQUAL(mvcc_log_next(log, &entry), 1);
	CU_ASSERT_STRING_EQUAL(entry->story.op, "purge");
	CU_ASSERT_STRING_EQUAL(entry->story.message, "a court's order");
	CU_ASSERT_EQUAL(entry->story.uid, 7);
	mvcc_log_close(log);
	CU_ASSERT_EQUAL(mvcc_unpin(fx->db, "p"), 0);
	CU_ASSERT_EQUAL(mvcc_unpin(fx->db, "q"), 0);
	CU_ASSERT_EQUAL(fixture_rows_of(fx, "default", "purge/"), 1);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, 9), 0);
	assert_given_back(fx);
	CU_ASSERT_EQUAL(fixture_rows_of(fx, "default", "purge/"), 0); /* nothing tells of it any more */
	fixture_close(fx);
}

static void test_what_was_deleted_before_is_purged_and_told(void)
{
	struct fixture *fx = fixture_open();

	put(fx->db, "secret", "one");
	del(fx->db, "secret");
	CU_ASSERT_EQUAL(purge(fx->db, "secret"), 4); /* a revision, though it changes nothing */
	CU_ASSERT(is_absent_everywhere(fx->db, "secret", 1));
	assert_changes(fx->db, 4, "");
	CU_ASSERT_EQUAL(purge(fx->db, "never there"), 5);
	assert_given_back(fx);
	CU_ASSERT_EQUAL(fixture_rows_of(fx, "hist", ""), 0);
	fixture_close(fx);
}

static void test_a_later_life_of_the_key_is_another(void)
{
	struct fixture *fx = fixture_open();

	put(fx->db, "k", "old");
	purge(fx->db, "k");
	put(fx->db, "k", "new");
	put(fx->db, "k", "newer");
	for (int i = 0; i < 3; i++) {
		assert_history(fx->db, "k", "4.4.1-5=new 4.5.2-0=newer");
		if (i)
			fixture_reopen(fx);
		else
			assert_given_back(fx);
	}
	CU_ASSERT_EQUAL(purge(fx->db, "k"), 6);
	CU_ASSERT(is_absent_everywhere(fx->db, "k", 1));
	assert_given_back(fx);
	fixture_close(fx);
}

static void test_ranges_have_their_bounds(void)
{
	const struct mvcc_purge_range ranges[] = { { str("b"), str("d") }, { str("x"), str("") } };
	struct fixture *fx = fixture_open();
	const char *keys[] = { "a", "b", "b\1", "c", "d", "x", "z" };

	for (unsigned round = 0; round < 2; round++)
		for (unsigned i = 0; i < 7; i++)
			put(fx->db, keys[i], "1");
	CU_ASSERT_EQUAL(mvcc_purge(fx->db, ranges, 2, NULL, NULL), 0);
	assert_range_at(fx->db, 10, "", "", 0, "a=1 d=1");
	assert_range_at(fx->db, 16, "", "", 0, "a=1 d=1");
	assert_given_back(fx);
	CU_ASSERT_EQUAL(fixture_rows_of(fx, "hist", ""), 2);
	CU_ASSERT_EQUAL(mvcc_purge(fx->db, ranges, 0, NULL, NULL), -EINVAL);
	CU_ASSERT_EQUAL(mvcc_purge(fx->db, ranges, MVCC_PURGE_MAX + 1, NULL, NULL), -EINVAL);
	CU_ASSERT_EQUAL(mvcc_purge(fx->db, &(struct mvcc_purge_range){ str(""), str("b") }, 1, NULL, NULL),
			-EINVAL);
	CU_ASSERT_EQUAL(mvcc_purge(fx->db, &(struct mvcc_purge_range){ str("b"), str("b") }, 1, NULL, NULL),
			-EINVAL);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 16);
	fixture_close(fx);
}

static void test_very_many_keys_are_purged_in_steps(void)
{
	enum { MANY = 5000 };
	struct fixture *fx = fixture_open_small_ring();
	char key[16];

	for (unsigned round = 0; round < 2; round++) {
		struct mvcc_txn *txn = begin(fx->db);

		for (unsigned i = 0; i < MANY; i++) {
			snprintf(key, sizeof(key), "k%06u", i);
			txn_put(txn, key,
				"a value that is of some length, so that there are several batches");
		}
		commit(txn);
	}
	CU_ASSERT_EQUAL(
		mvcc_purge(fx->db, &(struct mvcc_purge_range){ str("k"), str("k004990") }, 1, NULL, NULL), 0);
	CU_ASSERT(is_absent_everywhere(fx->db, "k000000", 1));
	CU_ASSERT(is_absent_everywhere(fx->db, "k004989", 1));
	assert_history(fx->db, "k004990",
		       "2.2.1-3=a value that is of some length, so that there are several batches "
		       "2.3.2-0=a value that is of some length, so that there are several batches");
	assert_given_back(fx);
	CU_ASSERT_EQUAL(fixture_rows_of(fx, "hist", ""), 10);
	fixture_close(fx);
}

/* ---- blobs ------------------------------------------------------------------------------------ */

static void test_blobs_go_unless_others_refer_to_them(void)
{
	struct fixture *fx = fixture_open();
	mvcc_blob_t own = 0, shared = 0, old = 0, aside = 0;
	mvcc_rev_t pinned;

	put_blob(fx->db, "secret", "old", &old);
	pinned = put_blob(fx->db, "secret", "aside", &aside);
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "p", pinned), 0);
	put_blob(fx->db, "secret", "shared", &shared);
	put_blob(fx->db, "other", NULL, &shared);
	put_blob(fx->db, "secret", "own", &own);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, MVCC_REV_LATEST), 0);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), 0);
	CU_ASSERT(blob_is_there(fx->db, aside));
	purge(fx->db, "secret");
	assert_given_back(fx);
	CU_ASSERT_FALSE(blob_is_there(fx->db, old));
	CU_ASSERT_FALSE(blob_is_there(fx->db, aside));
	CU_ASSERT_FALSE(blob_is_there(fx->db, own));
	CU_ASSERT(blob_is_there(fx->db, shared));
	CU_ASSERT_EQUAL(fixture_rows_of(fx, "default", "blobref/"), 0);
	del(fx->db, "other");
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, MVCC_REV_LATEST), 0);
	assert_given_back(fx);
	CU_ASSERT_EQUAL(fixture_rows_of(fx, "blob", ""), 0);
	fixture_close(fx);
}

static void test_a_blob_waits_for_those_who_may_have_seen_it(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_item item = { 0 };
	struct mvcc_view *view = NULL;
	mvcc_blob_t taken = 0, left = 0;
	struct mvcc_txn *txn;

	put_blob(fx->db, "secret", "taken", &taken);
	put_blob(fx->db, "secret", "left", &left);
	txn = begin(fx->db);
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, 2, &view), 0);
	CU_ASSERT_EQUAL(mvcc_get(view, str("secret"), &item), 0);
	purge(fx->db, "secret");
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), -EBUSY);
	assert_view_value(view, "secret", NULL);
	assert_txn_peek(txn, "secret", NULL);
	CU_ASSERT(blob_is_there(fx->db, taken) && blob_is_there(fx->db, left));
	fixture_verify(fx);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("copy"), item.value, item.blobs, item.nblobs), 0);
	mvcc_item_release(&item);
	commit(txn);
	CU_ASSERT_EQUAL(mvcc_compact_wait(fx->db), -EBUSY);
	mvcc_view_close(view);
	assert_given_back(fx);
	CU_ASSERT(blob_is_there(fx->db, taken));
	CU_ASSERT_FALSE(blob_is_there(fx->db, left));
	fixture_close(fx);
}

/* ---- those who tell of changes ---------------------------------------------------------------- */

/* What a watch of all keys gives from `rev` on, as "REV: key=value key- ...; ". */
static void assert_watched(struct mvcc_watch *watch, const char *expected)
{
	const struct mvcc_entry *entry;
	struct mvcc_event event;
	char text[1024] = "";
	size_t at = 0;
	int got;

	while ((got = mvcc_watch_next(watch, 0, &entry)) == 1) {
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%d:", (int)entry->rev);
		while ((got = mvcc_watch_event(watch, &event)) == 1)
			at += (size_t)snprintf(text + at, sizeof(text) - at, " %.*s%s%.*s%s",
					       (int)event.key.len, (const char *)event.key.data,
					       event.deleted ? "-" : "=",
					       event.item ? (int)event.item->value.len : 0,
					       event.item ? (const char *)event.item->value.data : "",
					       event.prev ? "<" : "");
		CU_ASSERT_EQUAL(got, 0);
		at += (size_t)snprintf(text + at, sizeof(text) - at, "; ");
	}
	CU_ASSERT_EQUAL(got, 0);
	CU_ASSERT_STRING_EQUAL(text, expected);
}

static void test_a_watch_tells_nothing_of_it(void)
{
	const struct mvcc_watch_options options = { .from = 2, .flags = MVCC_WATCH_PREV };
	struct fixture *fx = fixture_open();
	struct mvcc_watch *early = NULL, *late = NULL;
	struct mvcc_txn *txn;

	CU_ASSERT_EQUAL_FATAL(mvcc_watch_open(fx->db, &options, &early), 0); /* it will read notes */
	txn = begin(fx->db);
	txn_put(txn, "a", "1");
	txn_put(txn, "secret", "one");
	commit(txn);
	put(fx->db, "secret", "two");
	put(fx->db, "a", "2");
	purge(fx->db, "secret");
	put(fx->db, "secret", "new");
	CU_ASSERT_EQUAL_FATAL(mvcc_watch_open(fx->db, &options, &late), 0); /* and this one the log */
	assert_watched(early, "2: a=1; 3:; 4: a=2<; 5: secret-; 6: secret=new; ");
	assert_watched(late, "2: a=1; 3:; 4: a=2<; 5: secret-; 6: secret=new; ");
	mvcc_watch_close(early);
	mvcc_watch_close(late);
	fixture_close(fx);
}

static void test_the_log_of_the_key_alone_still_tells_of_its_changes(void)
{
	struct fixture *fx = fixture_open();
	const struct mvcc_entry *entry;
	struct mvcc_log *log = NULL;
	unsigned n = 0;
	char end[64];

	put(fx->db, "secret", "one");
	put(fx->db, "a", "1");
	put(fx->db, "secret", "two");
	purge(fx->db, "secret");
	CU_ASSERT_EQUAL_FATAL(mvcc_log_open(fx->db, 1, MVCC_REV_LATEST, &log), 0);
	CU_ASSERT_EQUAL(mvcc_log_filter(log, str("secret"), one("secret", end).end), 0);
	while (mvcc_log_next(log, &entry) == 1)
		n += entry->rev != 3;
	CU_ASSERT_EQUAL(n, 3);
	mvcc_log_close(log);
	fixture_close(fx);
}

static void test_who_read_it_conflicts(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *reader, *writer;

	put(fx->db, "secret", "one");
	reader = begin(fx->db);
	writer = begin(fx->db);
	assert_txn_value(reader, "secret", "one");
	txn_put(reader, "copy", "one");
	txn_put(writer, "secret", "new");
	purge(fx->db, "secret");
	CU_ASSERT_EQUAL(commit_err(reader), MVCC_ECONFLICT);
	CU_ASSERT_EQUAL(commit(writer), 4);
	assert_history(fx->db, "secret", "4.4.1-0=new");
	assert_given_back(fx);
	fixture_close(fx);
}

/* ---- its bytes --------------------------------------------------------------------------------- */

#define SECRET "kRypt0n1te-77-the-treasure-is-under-the-third-oak"

/* Does a file below `dir` have these bytes? */
static bool found_in(const char *dir, const char *bytes)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	bool found = false;

	while (d && (e = readdir(d))) {
		char path[1024];
		struct stat st;

		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		if (e->d_name[0] == '.' || stat(path, &st))
			continue;
		if (S_ISDIR(st.st_mode)) {
			found |= found_in(path, bytes);
		} else if (S_ISREG(st.st_mode) && st.st_size > 0) {
			char *text = malloc((size_t)st.st_size);
			FILE *f = fopen(path, "r");
			size_t n = text && f ? fread(text, 1, (size_t)st.st_size, f) : 0;

			if (n && memmem(text, n, bytes, strlen(bytes))) {
				found = true;
				fprintf(stderr, "\n%s has the bytes\n", path);
			}
			if (f)
				fclose(f);
			free(text);
		}
	}
	if (d)
		closedir(d);
	return found;
}

/* The secret in every place that there is: current, ended, pinned, blobs, a run, several files. */
static void spread_secret(struct fixture *fx)
{
	mvcc_blob_t blob = 0;
	struct mvcc_txn *txn;

	put(fx->db, "secret", SECRET " 1");
	put(fx->db, "a", "1");
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "p", MVCC_REV_LATEST), 0);
	fixture_drain(fx);
	put_blob(fx->db, "secret", SECRET " in a blob", &blob);
	fixture_reopen(fx); /* whatever the engine has, it may bring to files */
	txn = begin(fx->db);
	fx->db->spill_bytes = 1;
	txn_put(txn, "secret", SECRET " in a run");
	txn_put(txn, "b", "1");
	fx->db->spill_bytes = SPILL_BYTES_MAX;
	commit(txn);
	txn = begin(fx->db);
	fx->db->spill_bytes = 1;
	txn_put(txn, "secret", SECRET " in a run that was aborted");
	mvcc_txn_abort(txn);
	fx->db->spill_bytes = SPILL_BYTES_MAX;
	put(fx->db, "secret", SECRET " 2");
}

static void test_no_file_has_the_bytes_any_more(void)
{
	struct fixture *fx = fixture_open();

	fprintf(stderr, "\n(the files that have the bytes at first:)");
	spread_secret(fx);
	CU_ASSERT(found_in(fx->tmp, SECRET));
	purge(fx->db, "secret");
	assert_given_back(fx);
	fprintf(stderr, "(and afterwards:)\n");
	CU_ASSERT_FALSE(found_in(fx->tmp, SECRET));
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "a=1 b=1");
	fixture_reopen(fx);
	CU_ASSERT_FALSE(found_in(fx->tmp, SECRET));
	fixture_verify(fx);
	fixture_close(fx);
}

static void test_what_a_restart_cut_short_goes_on(void)
{
	struct fixture *fx = fixture_new();

	fx->opt.manual_upkeep = true;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	spread_secret(fx);
	purge(fx->db, "secret");
	fixture_reopen(fx);
	CU_ASSERT(is_absent_everywhere(fx->db, "secret", 1));
	assert_given_back(fx);
	CU_ASSERT_FALSE(found_in(fx->tmp, SECRET));
	fixture_close(fx);
}

/* ---- failures ----------------------------------------------------------------------------------- */

/* Is the key everywhere as it was, or nowhere to be seen? */
static bool is_all_or_nothing(struct mvcc *db)
{
	struct mvcc_item item = { 0 };
	unsigned seen = 0;

	for (mvcc_rev_t rev = 2; rev <= 5; rev++) {
		struct mvcc_view *view;

		if (mvcc_view_open(db, rev, &view))
			return false;
		if (mvcc_get(view, str("secret"), &item) == 0)
			seen++;
		mvcc_item_release(&item);
		mvcc_view_close(view);
	}
	return seen == 0 || (seen == 4 && mvcc_current(db) == 5);
}

static bool purge_with_fault(struct fault_plan plan, bool power)
{
	struct mem_engine *mem = mem_engine_new();
	struct fault_engine *fault = fault_engine_new(mem_engine_provider(mem));
	struct engine_provider provider = fault_engine_provider(fault);
	struct mvcc_purge_range range;
	mvcc_blob_t old = 0, shared = 0;
	struct fixture *fx;
	bool failed, acked;
	char end[64];

	fixture_use(&provider);
	fx = fixture_new();
	fixture_use(NULL);
	fx->opt.manual_upkeep = true;
	fx->opt.ring_bytes = (size_t)256 << 10; /* it is wiped each time */
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	put_blob(fx->db, "secret", "old", &old);       /* 2 */
	put_blob(fx->db, "secret", "shared", &shared); /* 3 */
	put_blob(fx->db, "other", NULL, &shared);      /* 4 */
	put(fx->db, "secret", "now");                  /* 5 */
	CU_ASSERT_EQUAL(mvcc_pin(fx->db, "p", 2), 0);
	fixture_drain(fx);
	range = one("secret", end);
	fault_engine_arm(fault, plan);
	acked = mvcc_purge(fx->db, &range, 1, NULL, NULL) == 0;
	mvcc_compact_wait(fx->db);
	failed = fault_engine_failed(fault) > 0;
	if (power)
		mem_engine_power_cut(mem);
	mvcc_close(fx->db);
	fx->db = NULL;
	fault_engine_disarm(fault);
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	CU_ASSERT(failed || acked);
	CU_ASSERT(is_all_or_nothing(fx->db));
	if (acked)
		CU_ASSERT(is_absent_everywhere(fx->db, "secret", 1));
	fixture_verify(fx);
	purge(fx->db, "secret"); /* again, or for the first time */
	CU_ASSERT(is_absent_everywhere(fx->db, "secret", 1));
	assert_given_back(fx);
	CU_ASSERT_FALSE(blob_is_there(fx->db, old));
	CU_ASSERT(blob_is_there(fx->db, shared));
	CU_ASSERT_EQUAL(fixture_rows_of(fx, "default", "blobref/"), 0);
	fixture_close(fx);
	fault_engine_free(fault);
	mem_engine_free(mem);
	return failed;
}

static void test_any_call_may_fail_and_the_process_die_at_any(void)
{
	const struct fault_plan plans[] = {
		{ FAULT_WRITE | FAULT_SYNC | FAULT_REWRITE | FAULT_BATCH, 0, -EIO, FAULT_ONCE, false },
		{ FAULT_WRITE, 0, -EIO, FAULT_ONCE, true },
		{ FAULT_GET | FAULT_ITER | FAULT_MOVE, 0, -EIO, FAULT_ONCE, false },
		{ FAULT_ALL, 0, -EIO, FAULT_CRASH, false },
		{ FAULT_WRITE, 0, -EIO, FAULT_CRASH, true },
	};

	for (unsigned i = 0; i < 2 * sizeof(plans) / sizeof(plans[0]); i++) {
		struct fault_plan plan = plans[i / 2];
		unsigned before = CU_get_number_of_failures();
		bool power = i % 2;

		if (power && plan.mode != FAULT_CRASH)
			continue;
		do
			plan.at += power ? 3 : 1;
		while (purge_with_fault(plan, power) && CU_get_number_of_failures() == before);
		if (CU_get_number_of_failures() != before)
			fprintf(stderr, "\nplan %u, call %u\n", i, (unsigned)plan.at);
		CU_ASSERT(plan.at > 3);
	}
}

/* The store fails in the midst of it, works again by and by, and goes on with it by itself. */
static void test_what_failed_is_done_without_a_restart(void)
{
	struct mem_engine *mem = mem_engine_new();
	struct fault_engine *fault = fault_engine_new(mem_engine_provider(mem));
	struct engine_provider provider = fault_engine_provider(fault);
	struct mvcc_purge_range range;
	struct fixture *fx;
	char end[64];
	int err = -EIO;

	fixture_use(&provider);
	fx = fixture_open();
	fixture_use(NULL);
	put(fx->db, "secret", "1");
	put(fx->db, "secret", "2");
	fixture_drain(fx);
	range = one("secret", end);
	fault_engine_arm(fault, (struct fault_plan){ FAULT_WRITE, 1, -EIO, FAULT_ONCE, false });
	CU_ASSERT_EQUAL(mvcc_purge(fx->db, &range, 1, NULL, NULL), -EIO);
	for (unsigned i = 0; err && i < 1000; i++) {
		err = mvcc_compact_wait(fx->db);
		if (err)
			nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	}
	fault_engine_disarm(fault);
	CU_ASSERT_EQUAL(err, 0);
	CU_ASSERT(is_absent_everywhere(fx->db, "secret", 1));
	assert_given_back(fx);
	fixture_close(fx);
	fault_engine_free(fault);
	mem_engine_free(mem);
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

#define TESTS_OF_BOTH                                                                \
	UNIT_TEST(test_no_revision_shows_it_any_more),                               \
		UNIT_TEST(test_what_was_deleted_before_is_purged_and_told),          \
		UNIT_TEST(test_a_later_life_of_the_key_is_another),                  \
		UNIT_TEST(test_ranges_have_their_bounds),                            \
		UNIT_TEST(test_very_many_keys_are_purged_in_steps),                  \
		UNIT_TEST(test_blobs_go_unless_others_refer_to_them),                \
		UNIT_TEST(test_a_blob_waits_for_those_who_may_have_seen_it),         \
		UNIT_TEST(test_a_watch_tells_nothing_of_it),                         \
		UNIT_TEST(test_the_log_of_the_key_alone_still_tells_of_its_changes), \
		UNIT_TEST(test_who_read_it_conflicts)

static CU_TestInfo memory_tests[] = {
	TESTS_OF_BOTH,
	UNIT_TEST(test_any_call_may_fail_and_the_process_die_at_any),
	UNIT_TEST(test_what_failed_is_done_without_a_restart),
	CU_TEST_INFO_NULL,
};

static CU_TestInfo rocks_tests[] = {
	TESTS_OF_BOTH,
	UNIT_TEST(test_no_file_has_the_bytes_any_more),
	UNIT_TEST(test_what_a_restart_cut_short_goes_on),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = {
		UNIT_SUITE("purge on memory", on_memory, NULL, memory_tests),
		UNIT_SUITE("purge on rocksdb", on_rocks, NULL, rocks_tests),
		CU_SUITE_INFO_NULL,
	};

	return unit_main(argc, argv, suites);
}
