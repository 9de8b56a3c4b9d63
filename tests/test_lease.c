/*
 * Leases, and the puts that go with them. The properties are etcd's (its tests of the lessor, and those of
 * puts with leases), and ours: time goes by the wall, also while the store is closed. Most tests have a clock
 * of their own and end what is due by themselves; lease_check() looks at the rows behind it all.
 */
#include "mvcc/lease_int.h"
#include "tests/store_fixture.h"

#include "rocks_backend/rocks.h"
#include "tests/engines/fault_engine.h"
#include "tests/engines/mem_engine.h"
#include "tests/lease_check.h"
#include "tests/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/statvfs.h>
#include <time.h>

#define KIB ((size_t)1 << 10)
#define NO_SLICE slice_of(NULL, 0)
#define MINUTE_MS ((uint64_t)60000)

/* ---- a store with a clock ------------------------------------------------------------------- */

static _Atomic int64_t clock_ms;

static int64_t clock_ns(void *arg)
{
	(void)arg;
	return atomic_load(&clock_ms) * 1000000;
}

static void tick(int64_t ms)
{
	atomic_fetch_add(&clock_ms, ms);
}

static struct fixture *lease_fixture_new(void)
{
	struct fixture *fx = fixture_new();

	atomic_store(&clock_ms, 1764000000000);
	fx->opt.clock = clock_ns;
	fx->opt.manual_upkeep = true;
	return fx;
}

static struct fixture *lease_fixture(void)
{
	struct fixture *fx = lease_fixture_new();

	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	return fx;
}

static void lease_fixture_close(struct fixture *fx)
{
	const char *wrong = lease_check(fx->db);

	if (wrong)
		fprintf(stderr, "\n%s\n", wrong);
	CU_ASSERT_PTR_NULL(wrong);
	fixture_close(fx);
}

/* ---- one line each --------------------------------------------------------------------------- */

static mvcc_lease_t grant(struct mvcc *db, mvcc_lease_t id, uint64_t ttl_ms)
{
	mvcc_lease_t out = 0;

	CU_ASSERT_EQUAL(mvcc_lease_grant(db, id, ttl_ms, &out), 0);
	CU_ASSERT(id ? out == id : out != 0);
	return out;
}

static int txn_attach(struct mvcc_txn *txn, const char *key, const char *value, mvcc_lease_t lease)
{
	return mvcc_txn_put_with(txn,
				 &(struct mvcc_put){ .key = str(key), .value = str(value), .lease = lease });
}

static mvcc_rev_t attach(struct mvcc *db, const char *key, const char *value, mvcc_lease_t lease)
{
	struct mvcc_txn *txn = begin(db);

	CU_ASSERT_EQUAL(txn_attach(txn, key, value, lease), 0);
	return commit(txn);
}

static mvcc_lease_t lease_at(struct mvcc *db, mvcc_rev_t rev, const char *key)
{
	struct mvcc_item item = { 0 };
	struct mvcc_view *view;
	mvcc_lease_t lease = UINT64_MAX;

	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(db, rev, &view), 0);
	if (mvcc_get(view, str(key), &item) == 0)
		lease = item.lease;
	mvcc_item_release(&item);
	mvcc_view_close(view);
	return lease;
}

static size_t expire(struct mvcc *db)
{
	size_t n = SIZE_MAX;

	CU_ASSERT_EQUAL(lease_expire_due(db, &n), 0);
	return n;
}

static mvcc_rev_t end_lease(struct mvcc *db, mvcc_lease_t id)
{
	mvcc_rev_t rev = 0;

	CU_ASSERT_EQUAL(mvcc_lease_revoke(db, id, NULL, &rev), 0);
	return rev;
}

static bool is_there(struct mvcc *db, mvcc_lease_t id)
{
	struct mvcc_lease lease;
	int err = mvcc_lease_get(db, id, &lease);

	CU_ASSERT(err == 0 || err == MVCC_ENOLEASE);
	return err == 0;
}

static void assert_left(struct mvcc *db, mvcc_lease_t id, uint64_t left_ms)
{
	struct mvcc_lease lease = { 0 };

	CU_ASSERT_EQUAL(mvcc_lease_get(db, id, &lease), 0);
	CU_ASSERT_EQUAL(lease.id, id);
	CU_ASSERT_EQUAL(lease.left_ms, left_ms);
}

static int list_key(void *arg, struct slice key)
{
	struct buf *text = arg;
	int err = text->len ? buf_put_u8(text, ' ') : 0;

	return err ? err : buf_put_slice(text, key);
}

static void assert_keys(struct mvcc *db, mvcc_lease_t id, const char *expected)
{
	struct buf text = { 0 };

	CU_ASSERT_EQUAL(mvcc_lease_keys(db, id, list_key, &text), 0);
	if (!slice_eq(slice_buf(&text), str(expected)))
		fprintf(stderr, "\nthe keys are \"%.*s\", not \"%s\"\n", (int)text.len,
			(const char *)text.data, expected);
	CU_ASSERT(slice_eq(slice_buf(&text), str(expected)));
	buf_release(&text);
}

/* What the log says was done. */
static void assert_op(struct mvcc *db, mvcc_rev_t rev, const char *op)
{
	const struct mvcc_entry *entry;
	struct mvcc_log *log = NULL;

	CU_ASSERT_EQUAL_FATAL(mvcc_log_open(db, rev, rev, &log), 0);
	CU_ASSERT_EQUAL(mvcc_log_next(log, &entry), 1);
	CU_ASSERT_STRING_EQUAL(entry->story.op, op);
	mvcc_log_close(log);
}

/* ---- granting ---------------------------------------------------------------------------------- */

static int list_lease(void *arg, const struct mvcc_lease *lease)
{
	char text[64];

	snprintf(text, sizeof(text), "%llu:%llu/%llu ", (unsigned long long)lease->id,
		 (unsigned long long)lease->left_ms, (unsigned long long)lease->ttl_ms);
	return buf_put(arg, text, strlen(text));
}

static int stop_at_once(void *arg, const struct mvcc_lease *lease)
{
	(void)lease;
	++*(unsigned *)arg;
	return 7;
}

static void test_leases_are_granted_and_shown_in_order(void)
{
	struct fixture *fx = lease_fixture();
	struct buf text = { 0 };
	struct mvcc_stats stats;
	struct mvcc_lease lease;
	mvcc_lease_t id = 77;
	unsigned calls = 0;

	grant(fx->db, 30, 9000);
	grant(fx->db, 10, 5000);
	tick(1000);
	grant(fx->db, INT64_MAX, 1);
	grant(fx->db, 20, 7000);
	CU_ASSERT_EQUAL(mvcc_leases(fx->db, list_lease, &text), 0);
	CU_ASSERT(slice_eq(slice_buf(&text),
			   str("10:4000/5000 20:7000/7000 30:8000/9000 9223372036854775807:1/1 ")));
	CU_ASSERT_EQUAL(mvcc_leases(fx->db, stop_at_once, &calls), 7);
	CU_ASSERT_EQUAL(calls, 1);
	CU_ASSERT_EQUAL(mvcc_lease_grant(fx->db, 20, 1, &id), -EEXIST);
	CU_ASSERT_EQUAL(id, 77);
	CU_ASSERT_EQUAL(mvcc_lease_get(fx->db, 40, &lease), MVCC_ENOLEASE);
	CU_ASSERT_EQUAL(mvcc_lease_renew(fx->db, 40, NULL), MVCC_ENOLEASE);
	CU_ASSERT_EQUAL(mvcc_lease_revoke(fx->db, 40, NULL, NULL), MVCC_ENOLEASE);
	CU_ASSERT_EQUAL(mvcc_lease_keys(fx->db, 40, list_key, &text), MVCC_ENOLEASE);
	mvcc_stats(fx->db, &stats);
	CU_ASSERT_EQUAL(stats.leases, 4);
	CU_ASSERT_EQUAL(stats.leases_expired, 0);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), MVCC_REV_FIRST);
	buf_release(&text);
	lease_fixture_close(fx);
}

static void test_times_and_ids_have_bounds(void)
{
	struct fixture *fx = lease_fixture();
	mvcc_lease_t id;

	CU_ASSERT_EQUAL(mvcc_lease_grant(fx->db, 1, 0, &id), -EINVAL);
	CU_ASSERT_EQUAL(mvcc_lease_grant(fx->db, 1, MVCC_LEASE_TTL_MAX * 1000 + 1, &id), -EINVAL);
	CU_ASSERT_EQUAL(mvcc_lease_grant(fx->db, (mvcc_lease_t)1 << 63, 1, &id), -EINVAL);
	grant(fx->db, 1, MVCC_LEASE_TTL_MAX * 1000);
	assert_left(fx->db, 1, MVCC_LEASE_TTL_MAX * 1000);
	fixture_reopen(fx);
	assert_left(fx->db, 1, MVCC_LEASE_TTL_MAX * 1000);
	CU_ASSERT_EQUAL(expire(fx->db), 0);
	lease_fixture_close(fx);
}

static void test_an_id_is_chosen_once(void)
{
	struct fixture *fx = lease_fixture();
	mvcc_lease_t first = grant(fx->db, 0, 1000), second, third;

	grant(fx->db, first + 1, 1000); /* somebody takes the next one */
	second = grant(fx->db, 0, 1000);
	CU_ASSERT(second > first + 1);
	end_lease(fx->db, second);
	fixture_reopen(fx);
	third = grant(fx->db, 0, 1000);
	CU_ASSERT(third > second);
	lease_fixture_close(fx);
}

/* ---- keys ---------------------------------------------------------------------------------------- */

static void test_revoking_deletes_the_keys_in_one_revision(void)
{
	struct mvcc_story story = { .op = "give up", .uid = 7 };
	struct fixture *fx = lease_fixture();
	mvcc_lease_t id = grant(fx->db, 0, 1000), other = grant(fx->db, 0, 1000);
	mvcc_rev_t rev = 0;

	attach(fx->db, "b", "1", id);
	attach(fx->db, "a", "2", id);
	attach(fx->db, "other", "3", other);
	put(fx->db, "plain", "4");
	assert_keys(fx->db, id, "a b");
	CU_ASSERT_EQUAL(mvcc_lease_revoke(fx->db, id, &story, &rev), 0);
	CU_ASSERT_EQUAL(rev, 6);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "other=3 plain=4");
	assert_range_at(fx->db, 5, "", "", 0, "a=2 b=1 other=3 plain=4");
	CU_ASSERT_EQUAL(lease_at(fx->db, 5, "a"), id); /* as it was then */
	assert_changes(fx->db, rev, "-a<3 -b<2");
	assert_op(fx->db, rev, "give up");
	CU_ASSERT_FALSE(is_there(fx->db, id));
	CU_ASSERT_EQUAL(mvcc_lease_revoke(fx->db, id, NULL, NULL), MVCC_ENOLEASE);
	assert_keys(fx->db, other, "other");
	lease_fixture_close(fx);
}

static void test_a_lease_without_keys_goes_without_a_revision(void)
{
	struct fixture *fx = lease_fixture();
	mvcc_lease_t id = grant(fx->db, 0, 1000), due = grant(fx->db, 0, 10);

	put(fx->db, "a", "1");
	CU_ASSERT_EQUAL(end_lease(fx->db, id), 2);
	tick(10);
	CU_ASSERT_EQUAL(expire(fx->db), 1);
	CU_ASSERT_FALSE(is_there(fx->db, due));
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 2);
	fixture_reopen(fx);
	CU_ASSERT_FALSE(is_there(fx->db, id));
	lease_fixture_close(fx);
}

static void test_the_newest_put_says_which_lease(void)
{
	struct fixture *fx = lease_fixture();
	mvcc_lease_t a = grant(fx->db, 0, 1000), b = grant(fx->db, 0, 1000);

	attach(fx->db, "k", "1", a);
	attach(fx->db, "k", "2", a); /* the same once more */
	assert_record_at(fx->db, MVCC_REV_LATEST, "k", "2", 2, 3, 2);
	assert_keys(fx->db, a, "k");
	CU_ASSERT_EQUAL(attached_rows(fx->db), 1);
	attach(fx->db, "k", "3", b);
	assert_record_at(fx->db, MVCC_REV_LATEST, "k", "3", 2, 4, 3);
	assert_keys(fx->db, a, "");
	assert_keys(fx->db, b, "k");
	CU_ASSERT_EQUAL(attached_rows(fx->db), 1);
	CU_ASSERT_EQUAL(end_lease(fx->db, a), 4);
	assert_value_at(fx->db, MVCC_REV_LATEST, "k", "3");
	CU_ASSERT_EQUAL(end_lease(fx->db, b), 5);
	assert_absent_at(fx->db, MVCC_REV_LATEST, "k");
	CU_ASSERT_EQUAL(lease_at(fx->db, 3, "k"), a);
	CU_ASSERT_EQUAL(lease_at(fx->db, 4, "k"), b);
	lease_fixture_close(fx);
}

static void test_a_put_without_and_a_delete_detach(void)
{
	struct fixture *fx = lease_fixture();
	mvcc_lease_t id = grant(fx->db, 0, 1000);
	struct mvcc_txn *txn;

	attach(fx->db, "put", "1", id);
	attach(fx->db, "deleted", "1", id);
	attach(fx->db, "again", "1", id);
	attach(fx->db, "reborn", "1", id);
	fixture_drain(fx);
	CU_ASSERT_EQUAL(attached_rows(fx->db), 4);
	put(fx->db, "put", "2");
	del(fx->db, "deleted");
	del(fx->db, "again");
	put(fx->db, "again", "2");
	txn = begin(fx->db);
	txn_del(txn, "reborn");
	txn_put(txn, "reborn", "2");
	commit(txn);
	assert_keys(fx->db, id, "");
	CU_ASSERT_EQUAL(lease_at(fx->db, MVCC_REV_LATEST, "put"), 0);
	CU_ASSERT_EQUAL(attached_rows(fx->db), 0);
	end_lease(fx->db, id);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "again=2 put=2 reborn=2");
	lease_fixture_close(fx);
}

static void test_a_key_that_was_just_detached_stays(void)
{
	struct fixture *fx = lease_fixture();
	mvcc_lease_t id = grant(fx->db, 0, 1000);

	attach(fx->db, "a", "1", id);
	attach(fx->db, "b", "1", id);
	fixture_drain(fx);
	fixture_sluice_shut(fx);
	put(fx->db, "a", "2"); /* the row that says otherwise is still there */
	CU_ASSERT_EQUAL(end_lease(fx->db, id), 5);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "a=2");
	fixture_sluice_open(fx);
	assert_changes(fx->db, 5, "-b<3");
	lease_fixture_close(fx);
}

/* What is merged in one generation leaves the rows that the newest versions ask for. */
static void test_rows_follow_chains_of_versions(void)
{
	static const char *const keys[] = { "old", "new" };
	struct fixture *fx = lease_fixture();
	uint64_t state = 5;

	for (mvcc_lease_t id = 1; id <= 3; id++)
		grant(fx->db, id, 1000);
	for (int round = 0; round < 40; round++) {
		fixture_drain(fx);
		fixture_sluice_shut(fx);
		for (uint64_t n = 1 + random_below(&state, 5); n; n--) {
			const char *key = keys[random_below(&state, 2)];
			mvcc_lease_t id = random_below(&state, 5);

			if (id == 4)
				del(fx->db, key);
			else
				attach(fx->db, key, "v", id);
		}
		fixture_sluice_open(fx);
		CU_ASSERT_PTR_NULL(lease_check(fx->db));
	}
	lease_fixture_close(fx);
}

static void test_an_aborted_put_attaches_nothing(void)
{
	struct fixture *fx = lease_fixture();
	mvcc_lease_t id = grant(fx->db, 0, 1000);
	struct mvcc_txn *txn = begin(fx->db);
	struct mvcc_item item = { 0 };

	CU_ASSERT_EQUAL(txn_attach(txn, "k", "1", id), 0);
	CU_ASSERT_EQUAL(mvcc_txn_get(txn, str("k"), &item), 0);
	CU_ASSERT_EQUAL(item.lease, id); /* seen by the transaction itself */
	mvcc_item_release(&item);
	mvcc_txn_abort(txn);
	assert_keys(fx->db, id, "");
	lease_fixture_close(fx);
}

/* ---- what puts keep ------------------------------------------------------------------------------ */

static int txn_keep(struct mvcc_txn *txn, const char *key, const char *value, mvcc_lease_t lease,
		    unsigned flags)
{
	struct mvcc_put put = { .key = str(key), .value = str(value), .lease = lease, .flags = flags };

	return mvcc_txn_put_with(txn, &put);
}

static void test_a_put_may_keep_the_value_or_the_lease(void)
{
	enum { BOTH = MVCC_PUT_KEEP_VALUE | MVCC_PUT_KEEP_LEASE };
	struct fixture *fx = lease_fixture();
	mvcc_lease_t a = grant(fx->db, 0, 1000), b = grant(fx->db, 0, 1000);
	struct mvcc_txn *txn = begin(fx->db);
	struct mvcc_item item = { 0 };
	mvcc_blob_t blob;

	CU_ASSERT_EQUAL_FATAL(mvcc_txn_stage_blob(txn, str("large"), &blob), 0);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("k"), str("one"), &blob, 1), 0);
	commit(txn);
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(txn_keep(txn, "none", "", a, MVCC_PUT_KEEP_VALUE), -ENOENT);
	CU_ASSERT_EQUAL(txn_keep(txn, "none", "v", 0, MVCC_PUT_KEEP_LEASE), -ENOENT);
	CU_ASSERT_EQUAL(txn_keep(txn, "k", "v", 0, 4), -EINVAL);
	CU_ASSERT_EQUAL(txn_keep(txn, "k", "ignored", a, MVCC_PUT_KEEP_VALUE), 0);
	commit(txn);
	assert_record_at(fx->db, MVCC_REV_LATEST, "k", "one", 2, 3, 2);
	assert_keys(fx->db, a, "k");
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(txn_keep(txn, "k", "two", b, MVCC_PUT_KEEP_LEASE), 0); /* b is not looked at */
	CU_ASSERT_EQUAL(txn_keep(txn, "k", "", b, BOTH), 0);                   /* its own put counts */
	CU_ASSERT_EQUAL(mvcc_txn_get(txn, str("k"), &item), 0);
	CU_ASSERT(item.lease == a && slice_eq(item.value, str("two")) && item.nblobs == 0);
	mvcc_item_release(&item);
	txn_del(txn, "k");
	CU_ASSERT_EQUAL(txn_keep(txn, "k", "", b, BOTH), -ENOENT);
	mvcc_txn_abort(txn);
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(txn_keep(txn, "k", "", 0, BOTH), 0);
	commit(txn);
	fixture_drain(fx);
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_get(txn, str("k"), &item), 0);
	CU_ASSERT(item.lease == a && item.nblobs == 1 && item.blobs[0] == blob);
	CU_ASSERT(slice_eq(item.value, str("one")) && item.version == 3);
	mvcc_item_release(&item);
	mvcc_txn_abort(txn);
	CU_ASSERT_EQUAL(end_lease(fx->db, a), 5);
	assert_absent_at(fx->db, MVCC_REV_LATEST, "k");
	lease_fixture_close(fx);
}

static void test_what_a_put_keeps_is_validated(void)
{
	struct fixture *fx = lease_fixture();
	mvcc_lease_t id = grant(fx->db, 0, 1000);
	struct mvcc_txn *txn;

	attach(fx->db, "k", "1", id);
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(txn_keep(txn, "k", "2", 0, MVCC_PUT_KEEP_LEASE), 0);
	put(fx->db, "k", "3");
	CU_ASSERT_EQUAL(commit_err(txn), MVCC_ECONFLICT);
	attach(fx->db, "k", "4", id);
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(txn_keep(txn, "k", "5", 0, MVCC_PUT_KEEP_LEASE), 0);
	end_lease(fx->db, id); /* it cannot come back by a put that keeps its lease */
	CU_ASSERT_EQUAL(commit_err(txn), MVCC_ECONFLICT);
	assert_absent_at(fx->db, MVCC_REV_LATEST, "k");
	lease_fixture_close(fx);
}

static int append(const void *arg, struct slice old, struct buf *out)
{
	int err = buf_put_slice(out, old);

	return err ? err : buf_put(out, arg, 1);
}

static void txn_append(struct mvcc_txn *txn, const char *key, const char *what)
{
	CU_ASSERT_EQUAL(mvcc_txn_update(txn, str(key), append, what, 1), 0);
}

/* Rows that make a transaction on the smallest ring spill what it wrote before. */
static void put_filler(struct mvcc_txn *txn)
{
	static const uint8_t zeros[1000];
	char key[24];

	for (unsigned i = 0; i < 40; i++) {
		snprintf(key, sizeof(key), "filler%02u", i);
		CU_ASSERT_EQUAL(mvcc_txn_put(txn, str(key), slice_of(zeros, sizeof(zeros)), NULL, 0), 0);
	}
}

static void test_an_update_keeps_the_lease(void)
{
	struct fixture *fx = lease_fixture_new();
	struct mvcc_txn *txn, *late;
	mvcc_lease_t id;

	fx->opt.ring_bytes = 256 * KIB;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	id = grant(fx->db, 0, 1000);
	attach(fx->db, "k", "0", id);
	attach(fx->db, "run", "0", id);
	fixture_drain(fx);
	txn = begin(fx->db);
	txn_append(txn, "k", "1");
	late = begin(fx->db);
	txn_append(late, "k", "2");
	commit(txn);
	commit(late); /* of a newer value than its base has */
	assert_value_at(fx->db, MVCC_REV_LATEST, "k", "012");
	CU_ASSERT_EQUAL(lease_at(fx->db, MVCC_REV_LATEST, "k"), id);
	txn = begin(fx->db);
	txn_append(txn, "k", "3");
	put_filler(txn); /* an update beside a run */
	CU_ASSERT_EQUAL(txn_attach(txn, "run", "a", id), 0);
	put_filler(txn);
	txn_append(txn, "run", "b"); /* and of a key in it */
	commit(txn);
	assert_value_at(fx->db, MVCC_REV_LATEST, "run", "ab");
	assert_value_at(fx->db, MVCC_REV_LATEST, "k", "0123");
	assert_keys(fx->db, id, "k run");
	txn = begin(fx->db);
	for (unsigned i = 0; i < 2000; i++) /* too many for the ring: they become rows of a run */
		txn_append(txn, "k", "x");
	commit(txn);
	assert_keys(fx->db, id, "k run");
	txn = begin(fx->db);
	txn_append(txn, "run", "c");
	CU_ASSERT_EQUAL(txn_keep(txn, "run", "", 0, MVCC_PUT_KEEP_VALUE), 0); /* keeps what it will be */
	commit(txn);
	assert_value_at(fx->db, MVCC_REV_LATEST, "run", "abc");
	assert_keys(fx->db, id, "k");
	end_lease(fx->db, id);
	assert_absent_at(fx->db, MVCC_REV_LATEST, "k");
	lease_fixture_close(fx);
}

/* ---- leases that do not exist --------------------------------------------------------------------- */

static void test_a_put_needs_a_living_lease(void)
{
	struct fixture *fx = lease_fixture();
	mvcc_lease_t id = grant(fx->db, 0, 1000), gone = grant(fx->db, 0, MINUTE_MS);
	struct mvcc_txn *txn = begin(fx->db);

	CU_ASSERT_EQUAL(txn_attach(txn, "k", "1", 12345), MVCC_ENOLEASE);
	CU_ASSERT_EQUAL(txn_attach(txn, "k", "1", gone), 0);
	end_lease(fx->db, gone);
	CU_ASSERT_EQUAL(txn_attach(txn, "k", "1", gone), MVCC_ENOLEASE);
	CU_ASSERT_EQUAL(commit_err(txn), MVCC_ENOLEASE);
	gone = grant(fx->db, 0, MINUTE_MS);
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(txn_attach(txn, "k", "1", gone), 0);
	CU_ASSERT_EQUAL(txn_keep(txn, "k", "2", 0, MVCC_PUT_KEEP_LEASE), 0); /* as good as named */
	end_lease(fx->db, gone);
	CU_ASSERT_EQUAL(commit_err(txn), MVCC_ENOLEASE);
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(txn_attach(txn, "k", "1", id), 0);
	tick(999);
	CU_ASSERT_EQUAL(txn_attach(txn, "k", "2", id), 0);
	tick(1);
	CU_ASSERT_EQUAL(txn_attach(txn, "k", "3", id), MVCC_ENOLEASE); /* over, though nobody removed it */
	CU_ASSERT_EQUAL(mvcc_txn_commit(txn, NULL, MVCC_COMMIT_KEEP, NULL), MVCC_ENOLEASE);
	txn_put(txn, "k", "without");
	commit(txn); /* what counts is what is put in the end */
	assert_value_at(fx->db, MVCC_REV_LATEST, "k", "without");
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 2);
	lease_fixture_close(fx);
}

static void test_a_large_transaction_needs_living_leases(void)
{
	struct fixture *fx = lease_fixture_new();
	struct mvcc_txn *txn;
	mvcc_lease_t ids[200];
	char key[24];

	fx->opt.ring_bytes = 256 * KIB;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	for (unsigned i = 0; i < 200; i++)
		ids[i] = grant(fx->db, 0, 1000);
	for (int round = 0; round < 2; round++) {
		txn = begin(fx->db);
		for (unsigned i = 0; i < 1000; i++) {
			snprintf(key, sizeof(key), "k%u", i);
			CU_ASSERT_EQUAL(txn_attach(txn, key, "1", ids[i % 200]), 0);
		}
		put_filler(txn); /* all of them are in the run by now */
		if (round == 0) {
			end_lease(fx->db, ids[57]);
			CU_ASSERT_EQUAL(commit_err(txn), MVCC_ENOLEASE);
			assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "");
			ids[57] = ids[56];
		} else {
			commit(txn);
		}
	}
	fixture_drain(fx);
	CU_ASSERT_EQUAL(attached_rows(fx->db), 1000);
	CU_ASSERT_EQUAL(fixture_rows(fx, ENGINE_USE_STAGE), 0);
	lease_fixture_close(fx);
}

/* ---- time ------------------------------------------------------------------------------------------ */

static void test_a_lease_expires_in_its_time_and_no_sooner(void)
{
	struct fixture *fx = lease_fixture();
	mvcc_lease_t late = grant(fx->db, 0, 3000), soon = grant(fx->db, 0, 1000);
	struct mvcc_stats stats;

	attach(fx->db, "late", "1", late);
	attach(fx->db, "a", "1", soon);
	attach(fx->db, "b", "1", soon);
	tick(999);
	CU_ASSERT_EQUAL(expire(fx->db), 0);
	assert_left(fx->db, soon, 1);
	tick(1);
	assert_left(fx->db, soon, 0);
	assert_value_at(fx->db, MVCC_REV_LATEST, "a", "1");
	CU_ASSERT_EQUAL(expire(fx->db), 1);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 5);
	assert_changes(fx->db, 5, "-a<3 -b<4");
	assert_op(fx->db, 5, "expire");
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "late=1");
	CU_ASSERT_FALSE(is_there(fx->db, soon));
	assert_left(fx->db, late, 2000);
	mvcc_stats(fx->db, &stats);
	CU_ASSERT(stats.leases == 1 && stats.leases_expired == 1);
	lease_fixture_close(fx);
}

/* What the caller of the store was told of. */
struct told {
	struct mvcc *db;
	mvcc_rev_t revs[8];
	unsigned n;
	char seen[8]; /* of each: was it to be read, and did it delete something? */
};

static void note_committed(void *arg, mvcc_rev_t rev)
{
	const struct mvcc_entry *entry;
	struct mvcc_change change;
	struct mvcc_log *log;
	struct told *told = arg;

	if (told->n >= 8)
		return;
	told->revs[told->n] = rev;
	if (mvcc_log_open(told->db, rev, rev, &log) == 0) { /* which waits for the committer */
		told->seen[told->n] = mvcc_log_next(log, &entry) == 1 && mvcc_log_change(log, &change) == 1 &&
				      change.deleted;
		mvcc_log_close(log);
	}
	told->n++;
}

static void test_each_revision_that_ends_a_lease_is_told(void)
{
	struct fixture *fx = lease_fixture_new();
	struct told told = { .n = 0 };
	mvcc_lease_t a, b, empty, lost, revoked;

	fx->opt.committed = note_committed;
	fx->opt.committed_arg = &told;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	told.db = fx->db;
	a = grant(fx->db, 0, 100);
	b = grant(fx->db, 0, 200);
	empty = grant(fx->db, 0, 150);
	lost = grant(fx->db, 0, 160);
	revoked = grant(fx->db, 0, 100000);
	attach(fx->db, "a", "1", a);
	attach(fx->db, "b", "1", b);
	attach(fx->db, "lost", "1", lost);
	put(fx->db, "lost", "no more");
	attach(fx->db, "r", "1", revoked);
	tick(5000);
	CU_ASSERT_EQUAL(expire(fx->db), 4);
	CU_ASSERT_EQUAL(told.n, 2); /* one that has no keys makes no revision */
	CU_ASSERT_EQUAL(mvcc_lease_revoke(fx->db, revoked, NULL, NULL), 0);
	CU_ASSERT_EQUAL(told.n, 3);
	CU_ASSERT_FALSE(is_there(fx->db, empty));
	for (unsigned i = 0; i < 3; i++) {
		CU_ASSERT_EQUAL(told.revs[i], 7 + i);
		CU_ASSERT_EQUAL(told.seen[i], 1);
	}
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 9);
	lease_fixture_close(fx);
}

static void test_each_expiry_is_a_revision_of_its_own_in_order(void)
{
	struct fixture *fx = lease_fixture();
	mvcc_lease_t c = grant(fx->db, 0, 300), a = grant(fx->db, 0, 100), b = grant(fx->db, 0, 200);

	attach(fx->db, "c", "1", c);
	attach(fx->db, "a", "1", a);
	attach(fx->db, "b", "1", b);
	tick(5000);
	CU_ASSERT_EQUAL(expire(fx->db), 3);
	assert_changes(fx->db, 5, "-a<3");
	assert_changes(fx->db, 6, "-b<4");
	assert_changes(fx->db, 7, "-c<2");
	lease_fixture_close(fx);
}

static void test_renewing_gives_the_full_time_again(void)
{
	struct fixture *fx = lease_fixture();
	mvcc_lease_t id = grant(fx->db, 0, 1000);
	uint64_t ttl_ms = 0;

	attach(fx->db, "k", "1", id);
	for (int i = 0; i < 5; i++) {
		tick(900);
		CU_ASSERT_EQUAL(expire(fx->db), 0);
		CU_ASSERT_EQUAL(mvcc_lease_renew(fx->db, id, &ttl_ms), 0);
		CU_ASSERT_EQUAL(ttl_ms, 1000);
		assert_left(fx->db, id, 1000);
	}
	tick(1000);
	CU_ASSERT_EQUAL(mvcc_lease_renew(fx->db, id, NULL), MVCC_ENOLEASE); /* only waits to be removed */
	CU_ASSERT_EQUAL(expire(fx->db), 1);
	assert_absent_at(fx->db, MVCC_REV_LATEST, "k");
	lease_fixture_close(fx);
}

static void test_a_restart_neither_prolongs_nor_forgets(void)
{
	struct fixture *fx = lease_fixture();
	mvcc_lease_t id = grant(fx->db, 0, 10000), renewed = grant(fx->db, 0, 10000);
	mvcc_lease_t over = grant(fx->db, 0, 5000), dropped = grant(fx->db, 0, 5000);

	attach(fx->db, "k", "1", id);
	attach(fx->db, "over", "1", over);
	tick(1000);
	CU_ASSERT_EQUAL(mvcc_lease_renew(fx->db, renewed, NULL), 0);
	end_lease(fx->db, dropped);
	for (int i = 0; i < 2; i++) {
		fixture_reopen(fx);
		assert_left(fx->db, id, 9000);
		assert_left(fx->db, renewed, 10000);
		CU_ASSERT_FALSE(is_there(fx->db, dropped));
		assert_keys(fx->db, id, "k");
	}
	CU_ASSERT_EQUAL(mvcc_close(fx->db), 0);
	tick(4000); /* while it is closed */
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	assert_left(fx->db, id, 5000);
	assert_left(fx->db, over, 0);
	CU_ASSERT_EQUAL(expire(fx->db), 1);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "k=1");
	tick(5000);
	CU_ASSERT_EQUAL(expire(fx->db), 1);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "");
	lease_fixture_close(fx);
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Sanitizers are several times slower. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { MANY = 10000 };
#else
enum { MANY = 100000 };
#endif

/* Leases 1 to MANY of as many ms, granted in any order. */
static void grant_many(struct mvcc *db)
{
	mvcc_lease_t *ids = malloc(MANY * sizeof(ids[0]));
	mvcc_lease_t out;
	uint64_t state = 9;
	unsigned bad = 0;

	CU_ASSERT_PTR_NOT_NULL_FATAL(ids);
	for (unsigned i = 0; i < MANY; i++) {
		uint64_t at = random_below(&state, i + 1);

		ids[i] = ids[at];
		ids[at] = i + 1;
	}
	for (unsigned i = 0; i < MANY; i++)
		bad += mvcc_lease_grant(db, ids[i], MINUTE_MS + ids[i], &out) != 0;
	CU_ASSERT_EQUAL(bad, 0);
	free(ids);
}

static void test_very_many_leases_expire_in_order(void)
{
	struct fixture *fx = lease_fixture();
	double began = seconds(), granted, opened, expired;
	struct mvcc_stats stats;

	grant_many(fx->db);
	granted = seconds();
	CU_ASSERT_EQUAL(mvcc_close(fx->db), 0);
	opened = seconds();
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	opened = seconds() - opened;
	expired = seconds();
	for (unsigned i = 1; i <= 20; i++) {
		tick(i == 1 ? MINUTE_MS + MANY / 20 : MANY / 20);
		CU_ASSERT_EQUAL(mvcc_lease_renew(fx->db, MANY / 20 * i, NULL), MVCC_ENOLEASE);
		CU_ASSERT_EQUAL(expire(fx->db), MANY / 20);
		CU_ASSERT_FALSE(is_there(fx->db, MANY / 20 * i));
		CU_ASSERT(i == 20 || is_there(fx->db, MANY / 20 * i + 1));
	}
	mvcc_stats(fx->db, &stats);
	CU_ASSERT(stats.leases == 0 && stats.leases_expired == MANY);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), MVCC_REV_FIRST);
	printf("%d granted in %.0f ms, opened in %.0f, expired in %.0f ", MANY, (granted - began) * 1e3,
	       opened * 1e3, (seconds() - expired) * 1e3);
	lease_fixture_close(fx);
}

/* ---- large ------------------------------------------------------------------------------------------ */

static void test_a_lease_of_very_many_keys_ends_in_one_revision(void)
{
	struct fixture *fx = lease_fixture_new();
	mvcc_lease_t id, other;
	mvcc_rev_t before;
	struct mvcc_txn *txn;
	char key[24];
	uint64_t n = 0;

	fx->opt.ring_bytes = 256 * KIB;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	id = grant(fx->db, 0, 1000);
	other = grant(fx->db, 0, 9000);
	txn = begin(fx->db);
	for (unsigned i = 0; i < MANY / 2; i++) {
		snprintf(key, sizeof(key), "k%06u", i);
		CU_ASSERT_EQUAL(txn_attach(txn, key, "value", id), 0);
	}
	CU_ASSERT_EQUAL(commit(txn), 2);
	txn = begin(fx->db);
	for (unsigned i = 0; i < MANY / 2; i += 5) { /* some go elsewhere, or lose it */
		snprintf(key, sizeof(key), "k%06u", i);
		CU_ASSERT_EQUAL(txn_attach(txn, key, "value", i % 10 ? other : 0), 0);
	}
	CU_ASSERT_EQUAL(commit(txn), 3);
	CU_ASSERT_PTR_NULL(lease_check(fx->db));
	CU_ASSERT_EQUAL(attached_rows(fx->db), MANY / 2 - MANY / 20);
	before = mvcc_current(fx->db);
	tick(1000);
	CU_ASSERT_EQUAL(expire(fx->db), 1);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), before + 1);
	assert_op(fx->db, before + 1, "expire");
	fixture_drain(fx);
	CU_ASSERT_EQUAL(attached_rows(fx->db), MANY / 20);
	assert_value_at(fx->db, before, "k000001", "value");
	assert_absent_at(fx->db, MVCC_REV_LATEST, "k000001");
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_del_range(txn, NO_SLICE, NO_SLICE, &n), 0);
	CU_ASSERT_EQUAL(n, MANY / 10);
	commit(txn);
	assert_keys(fx->db, other, "");
	lease_fixture_close(fx);
}

/* ---- deleting a range --------------------------------------------------------------------------------- */

static void test_a_range_is_deleted_as_the_transaction_sees_it(void)
{
	struct fixture *fx = lease_fixture();
	struct mvcc_txn *txn = begin(fx->db), *late;
	uint64_t n = 0;

	txn_put(txn, "a", "1");
	txn_put(txn, "b", "1");
	txn_put(txn, "c", "1");
	txn_put(txn, "d", "1");
	commit(txn);
	txn = begin(fx->db);
	late = begin(fx->db);
	txn_put(txn, "bb", "2");
	txn_del(txn, "c");
	CU_ASSERT_EQUAL(mvcc_txn_del_range(txn, str("b"), str("d"), &n), 0);
	CU_ASSERT_EQUAL(n, 2); /* b and bb: c was gone */
	assert_txn_range(txn, "", "", "a=1 d=1");
	CU_ASSERT_EQUAL(mvcc_txn_del_range(txn, str("b"), str("d"), NULL), 0);
	CU_ASSERT_EQUAL(mvcc_txn_del_range(late, str("b"), NO_SLICE, &n), 0);
	CU_ASSERT_EQUAL(n, 3);
	CU_ASSERT_EQUAL(commit(txn), 3);
	assert_changes(fx->db, 3, "-b<2 -c<2");
	CU_ASSERT_EQUAL(commit_err(late), MVCC_ECONFLICT); /* what it saw of the range has changed */
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_del_range(txn, str("e"), NO_SLICE, &n), 0);
	CU_ASSERT_EQUAL(n, 0);
	put(fx->db, "f", "1");
	txn_put(txn, "g", "1");
	CU_ASSERT_EQUAL(commit_err(txn), MVCC_ECONFLICT);
	lease_fixture_close(fx);
}

/* ---- threads ------------------------------------------------------------------------------------------ */

enum { RACE_KEYS = 40, RACE_ROUNDS = 100 };

struct race {
	struct mvcc *db;
	_Atomic mvcc_lease_t lease;
	atomic_bool stop;
	_Atomic unsigned errors, attached, refused;
};

static void *attach_all_the_time(void *arg)
{
	struct race *race = arg;
	uint64_t state = (uint64_t)(uintptr_t)&state;

	while (!atomic_load(&race->stop)) {
		mvcc_lease_t id = random_below(&state, 4) ? atomic_load(&race->lease) : 0;
		struct mvcc_put put = { .value = str("v"), .lease = id };
		struct mvcc_txn *txn;
		char key[24];
		int err;

		snprintf(key, sizeof(key), "k%02u", (unsigned)random_below(&state, RACE_KEYS));
		put.key = str(key);
		if (random_below(&state, 4) == 0)
			put.flags = MVCC_PUT_KEEP_LEASE;
		if (mvcc_txn_begin(race->db, &txn)) {
			atomic_fetch_add(&race->errors, 1);
			break;
		}
		err = mvcc_txn_put_with(txn, &put);
		if (err)
			mvcc_txn_abort(txn);
		else
			err = mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, NULL);
		if (!err)
			atomic_fetch_add(&race->attached, id != 0);
		else if (err == MVCC_ENOLEASE)
			atomic_fetch_add(&race->refused, 1);
		else
			atomic_fetch_add(&race->errors, err != -ENOENT && err != MVCC_ECONFLICT);
	}
	return NULL;
}

static unsigned keys_of(struct mvcc *db, mvcc_lease_t id)
{
	const struct mvcc_item *item;
	struct mvcc_cursor *c = NULL;
	struct mvcc_view *view;
	struct slice key;
	unsigned n = 0;

	if (mvcc_view_open(db, MVCC_REV_LATEST, &view))
		return 1;
	if (mvcc_cursor_open(view, NO_SLICE, NO_SLICE, &c))
		n++;
	while (c && mvcc_cursor_next(c, &key, &item) == 1)
		n += item->lease == id;
	mvcc_cursor_close(c);
	mvcc_view_close(view);
	return n;
}

/* Of what ending the lease deleted, if `rev` is that and no earlier one: how much had another lease, or none. */
static unsigned wrongly_deleted(struct mvcc *db, mvcc_rev_t rev, mvcc_lease_t id)
{
	const struct mvcc_entry *entry;
	struct mvcc_change change;
	struct mvcc_log *log = NULL;
	unsigned wrong = 0;
	char key[24];

	if (mvcc_log_open(db, rev, rev, &log) || mvcc_log_next(log, &entry) != 1)
		wrong++;
	while (!wrong && entry->story.pid == id && mvcc_log_change(log, &change) == 1) {
		snprintf(key, sizeof(key), "%.*s", (int)change.key.len, (const char *)change.key.data);
		wrong += !change.deleted || lease_at(db, rev - 1, key) != id;
	}
	mvcc_log_close(log);
	return wrong;
}

static void test_no_key_of_a_gone_lease_is_left_by_a_race(void)
{
	struct fixture *fx = lease_fixture_new();
	struct race race = { .stop = false };
	pthread_t threads[2];
	mvcc_lease_t id;
	struct mvcc_story story = { .op = "end" };
	unsigned left = 0, wrong = 0;
	mvcc_rev_t rev;

	fx->opt.ring_bytes = 256 * KIB;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	race.db = fx->db;

	for (int i = 0; i < 2; i++)
		CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, attach_all_the_time, &race), 0);
	for (int i = 0; i < RACE_ROUNDS; i++) {
		id = grant(fx->db, 0, 1000);
		atomic_store(&race.lease, id);
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
		if (i % 2) {
			story.pid = (uint32_t)id;
			CU_ASSERT_EQUAL(mvcc_lease_revoke(fx->db, id, &story, &rev), 0);
			wrong += wrongly_deleted(fx->db, rev, id);
		} else {
			tick(1000);
			CU_ASSERT_EQUAL(expire(fx->db), 1);
		}
		left += keys_of(fx->db, id);
	}
	atomic_store(&race.stop, true);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	CU_ASSERT_EQUAL(left, 0);
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_EQUAL(atomic_load(&race.errors), 0);
	CU_ASSERT(atomic_load(&race.attached) > 0);
	CU_ASSERT(atomic_load(&race.refused) > 0);
	fixture_drain(fx);
	CU_ASSERT_EQUAL(attached_rows(fx->db), 0);
	lease_fixture_close(fx);
}

struct lessee {
	struct mvcc *db;
	mvcc_lease_t shared;
	unsigned id, revoked, errors;
};

static int no_op(void *arg, const struct mvcc_lease *lease)
{
	(void)arg;
	return lease->ttl_ms == 0;
}

static int no_key(void *arg, struct slice key)
{
	(void)arg;
	return key.len == 0;
}

static void *use_leases(void *arg)
{
	struct lessee *lessee = arg;
	struct mvcc_lease lease;

	for (unsigned i = 0; i < 100; i++) {
		mvcc_lease_t id = 0;
		int err = mvcc_lease_grant(lessee->db, 0, 1000, &id);

		if (!err)
			err = mvcc_lease_renew(lessee->db, id, NULL);
		if (!err)
			err = mvcc_lease_get(lessee->db, id, &lease);
		if (!err)
			err = mvcc_leases(lessee->db, no_op, NULL);
		if (!err && i % 10 == 0)
			err = mvcc_lease_keys(lessee->db, id, no_key, NULL);
		if (!err && i % 2)
			err = mvcc_lease_revoke(lessee->db, id, NULL, NULL);
		lessee->errors += err != 0;
	}
	if (mvcc_lease_revoke(lessee->db, lessee->shared, NULL, NULL) == 0)
		lessee->revoked++;
	lessee->errors += mvcc_lease_get(lessee->db, lessee->shared, &lease) != MVCC_ENOLEASE;
	return NULL;
}

/* Whoever is told that there is no such lease finds its keys gone, too, though another removed it. */
static void test_leases_serve_many_threads(void)
{
	struct fixture *fx = lease_fixture();
	mvcc_lease_t shared = grant(fx->db, 0, 1000);
	struct lessee lessees[4];
	pthread_t threads[4];
	unsigned revoked = 0;

	attach(fx->db, "k", "1", shared);
	for (unsigned i = 0; i < 4; i++) {
		lessees[i] = (struct lessee){ .db = fx->db, .shared = shared, .id = i };
		CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, use_leases, &lessees[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		CU_ASSERT_EQUAL(lessees[i].errors, 0);
		revoked += lessees[i].revoked;
	}
	CU_ASSERT_EQUAL(revoked, 1);
	assert_absent_at(fx->db, MVCC_REV_LATEST, "k");
	tick(1000);
	CU_ASSERT_EQUAL(expire(fx->db), 200);
	lease_fixture_close(fx);
}

static bool gone_within_ms(struct mvcc *db, mvcc_lease_t id, unsigned ms)
{
	for (unsigned i = 0; i < ms && is_there(db, id); i += 5)
		nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
	return !is_there(db, id);
}

static void test_a_thread_ends_leases_by_the_wall(void)
{
	struct fixture *fx = fixture_open();
	mvcc_lease_t far = grant(fx->db, 0, 1000 * MINUTE_MS), id;
	double began;

	attach(fx->db, "far", "1", far);
	nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL); /* it waits for that one */
	began = seconds();
	id = grant(fx->db, 0, 60);
	attach(fx->db, "k", "1", id);
	CU_ASSERT(gone_within_ms(fx->db, id, 10000));
	CU_ASSERT(seconds() - began >= 0.06);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "far=1");
	assert_op(fx->db, mvcc_current(fx->db), "expire");
	id = grant(fx->db, 0, 60);
	attach(fx->db, "k", "2", id);
	CU_ASSERT_EQUAL(mvcc_close(fx->db), 0);
	nanosleep(&(struct timespec){ .tv_nsec = 80000000 }, NULL);
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	CU_ASSERT(gone_within_ms(fx->db, id, 10000));
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "far=1");
	began = seconds();
	fixture_reopen(fx); /* nobody waits for the far one */
	CU_ASSERT(seconds() - began < 5);
	assert_keys(fx->db, far, "far");
	lease_fixture_close(fx);
}

static void test_a_thread_follows_a_clock_that_jumps(void)
{
	struct fixture *fx = lease_fixture_new();
	mvcc_lease_t id;

	fx->opt.manual_upkeep = false;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	id = grant(fx->db, 0, MINUTE_MS);
	attach(fx->db, "k", "1", id);
	tick((int64_t)MINUTE_MS);
	CU_ASSERT(gone_within_ms(fx->db, id, 10000));
	assert_absent_at(fx->db, MVCC_REV_LATEST, "k");
	lease_fixture_close(fx);
}

/* ---- what goes wrong ----------------------------------------------------------------------------------- */

static void test_a_full_disk_refuses_grants_alone(void)
{
	struct fixture *fx = lease_fixture();
	mvcc_lease_t id = grant(fx->db, 0, 1000), other = grant(fx->db, 0, 1000), out;
	struct statvfs vfs;

	attach(fx->db, "k", "1", id);
	attach(fx->db, "other", "1", other);
	CU_ASSERT_EQUAL_FATAL(statvfs(fx->tmp, &vfs), 0);
	fx->opt.reserve_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize / 4 * 5;
	fixture_reopen(fx);
	CU_ASSERT_EQUAL(mvcc_lease_grant(fx->db, 0, 1000, &out), -ENOSPC);
	CU_ASSERT_EQUAL(mvcc_lease_renew(fx->db, id, NULL), 0);
	end_lease(fx->db, id);
	tick(1000);
	CU_ASSERT_EQUAL(expire(fx->db), 1);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "");
	lease_fixture_close(fx);
}

static int refuse(const void *arg, struct slice old, struct buf *out)
{
	(void)arg;
	(void)old;
	(void)out;
	return -EPERM;
}

/* It had asked for the lease by then; who ends that must not wait for what never came. */
static void test_a_lease_ends_after_a_commit_that_failed_at_last(void)
{
	struct fixture *fx = lease_fixture();
	mvcc_lease_t id = grant(fx->db, 0, 1000);
	struct mvcc_txn *txn;

	attach(fx->db, "k", "1", id);
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(txn_attach(txn, "a", "1", id), 0);
	CU_ASSERT_EQUAL(mvcc_txn_update(txn, str("k"), refuse, "", 0), 0);
	CU_ASSERT_EQUAL(commit_err(txn), -EPERM);
	CU_ASSERT_EQUAL(end_lease(fx->db, id), 3);
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "");
	lease_fixture_close(fx);
}

/* Damages the newest record of that type: there the ring ends. */
static void cut_ring_before(const struct fixture *fx, uint32_t type)
{
	static uint8_t bytes[512 << 10];
	char path[400];
	ssize_t n, at = -1;
	int fd;

	snprintf(path, sizeof(path), "%s/ring", fx->dir);
	fd = open(path, O_RDWR | O_CLOEXEC);
	CU_ASSERT_FATAL(fd >= 0);
	n = read(fd, bytes, sizeof(bytes));
	for (ssize_t i = 4096; i + 32 <= n; i += 8)
		if (get_le32(bytes + i + 8) == 8 && get_le32(bytes + i + 12) == type)
			at = i;
	CU_ASSERT_FATAL(at > 0);
	bytes[at] ^= 1;
	CU_ASSERT_EQUAL(pwrite(fd, bytes + at, 1, at), 1);
	close(fd);
}

static void test_a_kill_between_keys_and_lease_leaves_an_empty_lease(void)
{
	struct fixture *fx = lease_fixture_new();
	mvcc_lease_t id;
	mvcc_rev_t rev;

	if (!fx->mem) { /* only that machine can be switched off */
		fixture_close(fx);
		return;
	}
	fx->opt.ring_bytes = 256 * KIB;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	id = grant(fx->db, 0, 1000);
	attach(fx->db, "k", "1", id);
	fixture_drain(fx);
	fixture_sluice_shut(fx);
	rev = end_lease(fx->db, id);
	mem_engine_kill(fx->mem);
	fixture_sluice_open(fx);
	CU_ASSERT_NOT_EQUAL(mvcc_close(fx->db), 0);
	fx->db = NULL;
	cut_ring_before(fx, 5);
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), rev);
	assert_absent_at(fx->db, MVCC_REV_LATEST, "k");
	assert_left(fx->db, id, 1000);
	assert_keys(fx->db, id, "");
	tick(1000);
	CU_ASSERT_EQUAL(expire(fx->db), 1);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), rev);
	lease_fixture_close(fx);
}

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
	fx = lease_fixture_new();
	fx->opt.ring_bytes = 256 * KIB;
	fixture_use(NULL);
	return fx;
}

static void faulty_fixture_close(struct fixture *fx, struct mem_engine *mem, struct fault_engine *fault)
{
	fixture_close(fx);
	fault_engine_free(fault);
	mem_engine_free(mem);
}

static void test_expiry_goes_on_when_the_store_works_again(void)
{
	struct mem_engine *mem;
	struct fault_engine *fault;
	struct fixture *fx = faulty_fixture(&mem, &fault);
	mvcc_lease_t id, revoked;
	struct mvcc_lease lease;

	fx->opt.manual_upkeep = false;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	id = grant(fx->db, 0, MINUTE_MS);
	revoked = grant(fx->db, 0, 100 * MINUTE_MS);
	attach(fx->db, "k", "1", id);
	attach(fx->db, "r", "1", revoked);
	fault_engine_arm(fault, (struct fault_plan){ .kinds = FAULT_WRITE | FAULT_SYNC,
						     .at = 1,
						     .err = -EIO,
						     .mode = FAULT_FROM_ON });
	CU_ASSERT_EQUAL(mvcc_lease_revoke(fx->db, revoked, NULL, NULL), -EIO);
	CU_ASSERT_EQUAL(mvcc_lease_get(fx->db, revoked, &lease), 0);
	CU_ASSERT_EQUAL(lease.left_ms, 0); /* still there, to be ended */
	CU_ASSERT_EQUAL(mvcc_lease_renew(fx->db, id, NULL), -EIO);
	CU_ASSERT_EQUAL(mvcc_lease_grant(fx->db, 99, 1, &id), -EIO);
	tick((int64_t)MINUTE_MS);
	nanosleep(&(struct timespec){ .tv_nsec = 150000000 }, NULL);
	CU_ASSERT(is_there(fx->db, id));
	assert_value_at(fx->db, MVCC_REV_LATEST, "k", "1");
	fault_engine_disarm(fault);
	CU_ASSERT(gone_within_ms(fx->db, id, 20000));
	CU_ASSERT(gone_within_ms(fx->db, revoked, 20000));
	assert_range_at(fx->db, MVCC_REV_LATEST, "", "", 0, "");
	CU_ASSERT_PTR_NULL(lease_check(fx->db));
	faulty_fixture_close(fx, mem, fault);
}

/* What returned 0; 0 for what did not. */
struct acked {
	bool granted[4];
	mvcc_rev_t put, moved;
	bool renewed, revoked;
};

static int try_put(struct mvcc *db, unsigned first, unsigned n, mvcc_lease_t lease, mvcc_rev_t *rev)
{
	static const uint8_t zeros[200];
	struct mvcc_txn *txn;
	char key[24];
	int err = mvcc_txn_begin(db, &txn);

	if (err)
		return err;
	for (unsigned i = 0; i < n && !err; i++) {
		snprintf(key, sizeof(key), "k%03u", first + i);
		err = mvcc_txn_put_with(txn, &(struct mvcc_put){ .key = str(key),
								 .value = slice_of(zeros, sizeof(zeros)),
								 .lease = lease });
	}
	if (!err)
		return mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, rev);
	mvcc_txn_abort(txn);
	return err;
}

enum { FEW = 3, LARGE = 200 };

static void lease_scenario(struct fixture *fx, struct acked *acked)
{
	mvcc_lease_t out;

	for (mvcc_lease_t id = 1; id <= 3; id++)
		acked->granted[id] = mvcc_lease_grant(fx->db, id, MINUTE_MS * id, &out) == 0;
	if (try_put(fx->db, 0, FEW, 1, &acked->put))
		acked->put = 0;
	try_put(fx->db, 100, LARGE, 2, NULL);
	mvcc_sync(fx->db, MVCC_REV_LATEST);
	mvcc_close(fx->db); /* an error is allowed: the ring has it */
	fx->db = NULL;
	if (fixture_try_open(fx))
		return;
	tick(1000);
	acked->renewed = mvcc_lease_renew(fx->db, 1, NULL) == 0;
	if (try_put(fx->db, 0, 1, 3, &acked->moved))
		acked->moved = 0;
	mvcc_sync(fx->db, MVCC_REV_LATEST);
	acked->revoked = mvcc_lease_revoke(fx->db, 2, NULL, NULL) == 0;
	tick((int64_t)MINUTE_MS);
	lease_expire_due(fx->db, NULL);
	mvcc_sync(fx->db, MVCC_REV_LATEST);
}

static const char *judge(struct fixture *fx, const struct acked *acked)
{
	const char *wrong = lease_check(fx->db);
	struct mvcc_lease lease;
	size_t n;

	if (wrong)
		return wrong;
	if (acked->granted[3] && mvcc_lease_get(fx->db, 3, &lease))
		return "a lease that was granted is missing";
	if (acked->revoked && (mvcc_lease_get(fx->db, 2, &lease) == 0 || keys_of(fx->db, 2)))
		return "a lease that was revoked is there";
	if (keys_of(fx->db, 2) != 0 && keys_of(fx->db, 2) != LARGE)
		return "part of what has one lease";
	if (acked->put && acked->moved && keys_of(fx->db, 3) != 1)
		return "a key that was moved is not where it was";
	tick((int64_t)(3 * MINUTE_MS));
	if (lease_expire_due(fx->db, &n))
		return "expiry fails, though nothing else does any more";
	wrong = lease_check(fx->db);
	if (!wrong && (lease_rows(fx->db) || attached_rows(fx->db)))
		wrong = "something does not end";
	for (mvcc_lease_t id = 1; !wrong && id <= 3; id++)
		if (keys_of(fx->db, id))
			wrong = "a key is left of a lease that ended";
	return wrong;
}

static bool run_with_fault(struct fault_plan plan, bool *again)
{
	struct acked acked = { .put = 0 };
	const char *wrong = NULL;
	struct mem_engine *mem;
	struct fault_engine *fault;
	struct fixture *fx = faulty_fixture(&mem, &fault);

	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	fault_engine_arm(fault, plan);
	lease_scenario(fx, &acked);
	*again = fault_engine_failed(fault) > 0;
	if (!*again && !(acked.put && acked.moved && acked.renewed && acked.revoked && acked.granted[3]))
		wrong = "something failed, though no call did";
	mvcc_close(fx->db); /* an error is allowed: the ring has it */
	fx->db = NULL;
	fault_engine_disarm(fault);
	if (fixture_try_open(fx))
		wrong = "it does not open";
	if (!wrong)
		wrong = judge(fx, &acked);
	if (wrong)
		fprintf(stderr, "\nkinds %u, mode %d, call %llu: %s\n", plan.kinds, (int)plan.mode,
			(unsigned long long)plan.at, wrong);
	faulty_fixture_close(fx, mem, fault);
	return !wrong;
}

static void fail_every_call(unsigned kinds, enum fault_mode mode, int err, uint64_t stride)
{
	struct fault_plan plan = { .kinds = kinds, .at = 1, .err = err, .mode = mode };
	bool again = true;
	unsigned bad = 0;

	for (; again && bad < 3; plan.at += stride)
		bad += !run_with_fault(plan, &again);
	CU_ASSERT_EQUAL(bad, 0);
	CU_ASSERT(plan.at > 2);
}

static void test_any_call_of_the_engine_may_fail(void)
{
	fail_every_call(FAULT_WRITE | FAULT_SYNC, FAULT_ONCE, -EIO, 1);
	fail_every_call(FAULT_BATCH, FAULT_ONCE, -ENOMEM, 1);
	fail_every_call(FAULT_ITER, FAULT_ONCE, -EIO, 1);
	fail_every_call(FAULT_GET, FAULT_ONCE, -EIO, 23);
	fail_every_call(FAULT_MOVE, FAULT_ONCE, MVCC_ECORRUPT, 23);
}

static void test_the_process_may_die_at_any_call(void)
{
	fail_every_call(FAULT_WRITE | FAULT_SYNC, FAULT_CRASH, -EIO, 1);
	fail_every_call(FAULT_ALL, FAULT_CRASH, -EIO, 31);
}

/* ---- which engine -------------------------------------------------------------------------------------- */

static void on_memory(void)
{
	fixture_use(NULL);
}

static void on_rocks(void)
{
	static struct rocks_options rocks = { .cache_bytes = (size_t)8 << 20 };
	static struct engine_provider provider;

	provider = rocks_provider(&rocks);
	fixture_use(&provider);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_leases_are_granted_and_shown_in_order),
	UNIT_TEST(test_times_and_ids_have_bounds),
	UNIT_TEST(test_an_id_is_chosen_once),
	UNIT_TEST(test_revoking_deletes_the_keys_in_one_revision),
	UNIT_TEST(test_a_lease_without_keys_goes_without_a_revision),
	UNIT_TEST(test_the_newest_put_says_which_lease),
	UNIT_TEST(test_a_put_without_and_a_delete_detach),
	UNIT_TEST(test_a_key_that_was_just_detached_stays),
	UNIT_TEST(test_rows_follow_chains_of_versions),
	UNIT_TEST(test_an_aborted_put_attaches_nothing),
	UNIT_TEST(test_a_put_may_keep_the_value_or_the_lease),
	UNIT_TEST(test_what_a_put_keeps_is_validated),
	UNIT_TEST(test_an_update_keeps_the_lease),
	UNIT_TEST(test_a_put_needs_a_living_lease),
	UNIT_TEST(test_a_large_transaction_needs_living_leases),
	UNIT_TEST(test_a_lease_expires_in_its_time_and_no_sooner),
	UNIT_TEST(test_each_revision_that_ends_a_lease_is_told),
	UNIT_TEST(test_each_expiry_is_a_revision_of_its_own_in_order),
	UNIT_TEST(test_renewing_gives_the_full_time_again),
	UNIT_TEST(test_a_restart_neither_prolongs_nor_forgets),
	UNIT_TEST(test_very_many_leases_expire_in_order),
	UNIT_TEST(test_a_lease_of_very_many_keys_ends_in_one_revision),
	UNIT_TEST(test_a_range_is_deleted_as_the_transaction_sees_it),
	UNIT_TEST(test_no_key_of_a_gone_lease_is_left_by_a_race),
	UNIT_TEST(test_leases_serve_many_threads),
	UNIT_TEST(test_a_thread_ends_leases_by_the_wall),
	UNIT_TEST(test_a_thread_follows_a_clock_that_jumps),
	UNIT_TEST(test_a_lease_ends_after_a_commit_that_failed_at_last),
	UNIT_TEST(test_a_full_disk_refuses_grants_alone),
	UNIT_TEST(test_a_kill_between_keys_and_lease_leaves_an_empty_lease),
	CU_TEST_INFO_NULL,
};

static CU_TestInfo fault_tests[] = {
	UNIT_TEST(test_expiry_goes_on_when_the_store_works_again),
	UNIT_TEST(test_any_call_of_the_engine_may_fail),
	UNIT_TEST(test_the_process_may_die_at_any_call),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = {
		UNIT_SUITE("leases on memory", on_memory, NULL, tests),
		UNIT_SUITE("leases on rocksdb", on_rocks, NULL, tests),
		UNIT_SUITE("leases and faults", on_memory, NULL, fault_tests),
		CU_SUITE_INFO_NULL,
	};

	return unit_main(argc, argv, suites);
}
