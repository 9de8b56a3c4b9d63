/*
 * Hash, checkpoint, restore and verify. A checkpoint is compared with what it is a copy of by their hashes at its
 * revision; verify is shown rows damaged on purpose, one kind after another, and has to name each.
 */
#include "mvcc/check.h"
#include "mvcc/dir.h"
#include "mvcc/keep.h"
#include "mvcc/mvcc_int.h"
#include "rocks_backend/rocks.h"
#include "tests/engines/fault_engine.h"
#include "tests/engines/mem_engine.h"
#include "tests/store_fixture.h"
#include "tests/unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static struct rocks_options rocks_options = { .cache_bytes = (size_t)8 << 20 };

/* ---- a history ------------------------------------------------------------------------------ */

static mvcc_blob_t stage(struct mvcc_txn *txn, const void *bytes, size_t len)
{
	mvcc_blob_t blob = 0;

	CU_ASSERT_EQUAL(mvcc_txn_stage_blob(txn, slice_of(bytes, len), &blob), 0);
	return blob;
}

static void put_blob(struct mvcc_txn *txn, const char *key, const char *value, mvcc_blob_t blob)
{
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str(key), str(value), &blob, 1), 0);
}

/* A transaction of `n` rows of 1000 bytes, which a small ring sends to the stage. */
static void put_many(struct mvcc *db, const char *prefix, int n, uint8_t fill)
{
	struct mvcc_txn *txn = begin(db);
	uint8_t value[1000];
	char key[32];

	memset(value, fill, sizeof(value));
	for (int i = 0; i < n; i++) {
		snprintf(key, sizeof(key), "%s%04d", prefix, i);
		CU_ASSERT_EQUAL(mvcc_txn_put(txn, str(key), slice_of(value, sizeof(value)), NULL, 0), 0);
	}
	commit(txn);
}

/* Puts, deletes, a key born again, blobs of one record and of two, a transaction of 100 KB. */
static void make_history(struct mvcc *db)
{
	static uint8_t bytes[70000];
	struct mvcc_txn *txn = begin(db);
	mvcc_blob_t blob;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 31 >> 3);
	txn_put(txn, "a", "1");
	txn_put(txn, "b", "1");
	commit(txn);
	txn = begin(db);
	blob = stage(txn, bytes, sizeof(bytes));
	put_blob(txn, "a", "2", blob);
	put_blob(txn, "b", "2", blob);
	commit(txn);
	txn = begin(db);
	txn_del(txn, "b");
	put_blob(txn, "c", "1", stage(txn, "short", 5));
	commit(txn);
	txn = begin(db);
	txn_put(txn, "a", "3");
	txn_put(txn, "b", "again");
	commit(txn);
	put_many(db, "many/", 100, 'm');
	put_many(db, "many/", 50, 'n');
	txn = begin(db);
	txn_del(txn, "c");
	txn_put(txn, "c", "born again");
	put_blob(txn, "d", "", stage(txn, bytes, 300));
	commit(txn);
}

enum { HISTORY_END = 8, HISTORY_KEYS = 104 };

static struct mvcc_hash hash_at(struct mvcc *db, mvcc_rev_t rev)
{
	struct mvcc_hash hash = { 0 };
	struct mvcc_view *view = NULL;

	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(db, rev, &view), 0);
	CU_ASSERT_EQUAL(mvcc_hash(view, &hash), 0);
	mvcc_view_close(view);
	return hash;
}

static bool hash_eq(struct mvcc_hash a, struct mvcc_hash b)
{
	return a.hi == b.hi && a.lo == b.lo && a.keys == b.keys;
}

static void assert_hash(struct mvcc_hash got, uint64_t hi, uint64_t lo, uint64_t keys)
{
	bool same = hash_eq(got, (struct mvcc_hash){ .hi = hi, .lo = lo, .keys = keys });

	CU_ASSERT(same);
	if (!same)
		fprintf(stderr, "\ngot 0x%016llx, 0x%016llx of %llu keys\n", (unsigned long long)got.hi,
			(unsigned long long)got.lo, (unsigned long long)got.keys);
}

/* ---- hash ------------------------------------------------------------------------------------ */

static void assert_golden(struct mvcc *db)
{
	assert_hash(hash_at(db, 1), 0x99aa06d3014798d8, 0x6001c324468d497f, 0); /* of nothing */
	assert_hash(hash_at(db, 2), 0x2475e714946a8f74, 0x17d05cdfa0239639, 2);
	assert_hash(hash_at(db, 4), 0xf7d975196126eacd, 0xb74a052ab5a33b24, 2);
	assert_hash(hash_at(db, HISTORY_END), 0x6293abdc0eb7692c, 0xfcc56044daa6c2ae, HISTORY_KEYS);
	assert_hash(hash_at(db, MVCC_REV_LATEST), 0x6293abdc0eb7692c, 0xfcc56044daa6c2ae, HISTORY_KEYS);
}

static void test_the_hash_of_a_history_is_what_it_was(void)
{
	struct fixture *fx = fixture_open();

	make_history(fx->db);
	assert_golden(fx->db);
	fixture_close(fx);
}

static void test_neither_ring_nor_drain_nor_restart_changes_the_hash(void)
{
	struct fixture *fx =
		fixture_open_small_ring(); /* here the transaction of 100 KB goes through the stage */

	make_history(fx->db);
	assert_golden(fx->db);
	fixture_drain(fx);
	assert_golden(fx->db);
	fx->opt.ring_bytes = (size_t)1 << 20;
	fixture_reopen(fx);
	assert_golden(fx->db);
	fixture_close(fx);
}

static void test_the_hash_of_buffered_rows_is_that_of_drained_ones(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_hash buffered;

	fixture_sluice_shut(fx);
	put(fx->db, "a", "1");
	put(fx->db, "b", "2");
	put(fx->db, "a", "3");
	buffered = hash_at(fx->db, MVCC_REV_LATEST);
	CU_ASSERT_EQUAL(buffered.keys, 2);
	fixture_sluice_open(fx);
	fixture_drain(fx);
	CU_ASSERT(hash_eq(buffered, hash_at(fx->db, MVCC_REV_LATEST)));
	fixture_close(fx);
}

static void test_the_hash_of_a_revision_stays_what_it_was(void)
{
	enum { STEPS = 60 };
	struct fixture *fx = fixture_open_small_ring();
	struct mvcc_hash hashes[STEPS];
	mvcc_rev_t revs[STEPS];
	char key[16], value[16];

	for (int i = 0; i < STEPS; i++) {
		snprintf(key, sizeof(key), "k%d", i * 7 % 10);
		snprintf(value, sizeof(value), "v%d", i);
		revs[i] = i % 6 == 5 ? del(fx->db, "k7") : put(fx->db, key, value);
		hashes[i] = hash_at(fx->db, MVCC_REV_LATEST);
	}
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < STEPS; i++) {
			CU_ASSERT(hash_eq(hash_at(fx->db, revs[i]), hashes[i]));
			for (int j = 0; j < i; j++)
				CU_ASSERT_EQUAL(hash_eq(hashes[i], hashes[j]), revs[i] == revs[j]);
		}
		fixture_reopen(fx);
	}
	CU_ASSERT(revs[STEPS - 1] > STEPS / 2);
	fixture_close(fx);
}

static void raw_put(struct fixture *fx, unsigned family, struct slice key, struct slice value)
{
	struct engine_batch *batch = engine_batch_new(fixture_engine(fx));

	CU_ASSERT_PTR_NOT_NULL_FATAL(batch);
	CU_ASSERT_EQUAL(engine_batch_put(batch, family, key, value), 0);
	CU_ASSERT_EQUAL(engine_write(fixture_engine(fx), batch, ENGINE_SYNC), 0);
	engine_batch_free(batch);
}

static void raw_del(struct fixture *fx, unsigned family, struct slice key)
{
	struct engine_batch *batch = engine_batch_new(fixture_engine(fx));

	CU_ASSERT_PTR_NOT_NULL_FATAL(batch);
	CU_ASSERT_EQUAL(engine_batch_del(batch, family, key), 0);
	CU_ASSERT_EQUAL(engine_write(fixture_engine(fx), batch, ENGINE_SYNC), 0);
	engine_batch_free(batch);
}

struct raw_record {
	const char *key, *value;
	mvcc_rev_t mod, create;
	uint64_t version, lease;
	mvcc_blob_t blob; /* 0: none */
};

static void raw_encode(struct buf *out, const struct raw_record *raw)
{
	struct buf blobs = { 0 };
	struct record rec = { .mod = raw->mod,
			      .create = raw->create,
			      .version = raw->version,
			      .lease = raw->lease,
			      .value = str(raw->value) };

	if (raw->blob) {
		CU_ASSERT_EQUAL(record_blob_put(&blobs, raw->blob, true), 0);
		rec.blobs = slice_buf(&blobs);
		rec.nblobs = 1;
	}
	CU_ASSERT_EQUAL(record_encode(out, &rec), 0);
	buf_release(&blobs);
}

static void raw_latest(struct fixture *fx, const struct raw_record *raw)
{
	struct buf value = { 0 };

	raw_encode(&value, raw);
	raw_put(fx, FAM_LATEST, str(raw->key), slice_buf(&value));
	buf_release(&value);
}

static void raw_hist(struct fixture *fx, mvcc_rev_t end, const struct raw_record *raw)
{
	struct buf key = { 0 }, value = { 0 };

	raw_encode(&value, raw);
	CU_ASSERT_EQUAL(hist_key(&key, str(raw->key), end), 0);
	raw_put(fx, FAM_HIST, slice_buf(&key), slice_buf(&value));
	buf_release(&key);
	buf_release(&value);
}

static void test_any_difference_changes_the_hash(void)
{
	static const struct raw_record rows[] = {
		{ "key", "value", 5, 4, 2, 0, 7 }, /* the one all others differ from */
		{ "kez", "value", 5, 4, 2, 0, 7 }, { "key", "valud", 5, 4, 2, 0, 7 },
		{ "key", "value", 4, 4, 2, 0, 7 }, { "key", "value", 5, 5, 2, 0, 7 },
		{ "key", "value", 5, 4, 3, 0, 7 }, { "key", "value", 5, 4, 2, 1, 7 },
		{ "key", "value", 5, 4, 2, 0, 0 }, { "key", "value", 5, 4, 2, 0, 8 },
		{ "key", "value", 5, 4, 2, 0, 9 }, { "keyv", "alue", 5, 4, 2, 0, 7 },
		{ "ke", "yvalue", 5, 4, 2, 0, 7 }, { "key", "", 5, 4, 2, 0, 7 },
		{ "key", "value", 5, 4, 2, 1, 0 }, { "key", "value", 5, 4, 2, 2, 7 },
	};
	enum { ROWS = sizeof(rows) / sizeof(rows[0]) };
	struct mvcc_hash hashes[ROWS + 1];
	struct fixture *fx = fixture_open();
	uint8_t id[8];

	for (int i = 0; i < 8; i++)
		put(fx->db, "other", "row");
	fixture_drain(fx);
	raw_del(fx, FAM_LATEST, str("other"));
	for (mvcc_blob_t blob = 7; blob <= 10; blob++) {
		static const char *const bytes[] = { "contents", "contentr", "content", "contents" };

		put_be64(id, blob);
		raw_put(fx, FAM_BLOB, slice_of(id, 8), str(bytes[blob - 7]));
	}
	for (int i = 0; i < ROWS; i++) {
		raw_latest(fx, &rows[i]);
		hashes[i] = hash_at(fx->db, MVCC_REV_LATEST);
		CU_ASSERT_EQUAL(hashes[i].keys, 1);
		raw_del(fx, FAM_LATEST, str(rows[i].key));
	}
	raw_latest(fx, &rows[0]);
	raw_latest(fx, &rows[1]);
	hashes[ROWS] = hash_at(fx->db, MVCC_REV_LATEST);
	raw_del(fx, FAM_LATEST, str(rows[1].key));
	for (int i = 0; i <= ROWS; i++)
		for (int j = 0; j < i; j++)
			CU_ASSERT(!hash_eq(hashes[i], hashes[j]));
	/* the number of a blob is no difference */
	raw_latest(fx, &(struct raw_record){ "key", "value", 5, 4, 2, 0, 10 });
	CU_ASSERT(hash_eq(hash_at(fx->db, MVCC_REV_LATEST), hashes[0]));
	fixture_close(fx);
}

static void test_a_hash_of_what_cannot_be_read_is_an_error(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_hash hash = { 1, 2, 3 };
	struct mvcc_view *view = NULL;
	uint8_t id[8];

	make_history(fx->db);
	fixture_drain(fx);
	put_be64(id, 1);
	raw_del(fx, FAM_BLOB, slice_of(id, 8));
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, 3, &view), 0);
	CU_ASSERT_EQUAL(mvcc_hash(view, &hash), MVCC_ECORRUPT);
	CU_ASSERT_EQUAL(hash.keys, 3);
	mvcc_view_close(view);
	fixture_close(fx);
}

/* ---- checkpoint ------------------------------------------------------------------------------ */

static bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static enum dir_kind kind_of(const char *dir)
{
	enum dir_kind kind = DIR_STRANGE;
	unsigned format;

	CU_ASSERT_EQUAL(dir_classify(dir, &kind, &format), 0);
	return kind;
}

static struct mvcc *open_at(struct fixture *fx, const char *dir)
{
	struct mvcc_options opt = fx->opt;
	struct mvcc *db = NULL;

	opt.dir = dir;
	opt.create = false;
	opt.ring_bytes = 0;
	CU_ASSERT_EQUAL_FATAL(mvcc_open(&opt, &db), 0);
	return db;
}

static void path_in(struct fixture *fx, const char *name, char out[320])
{
	snprintf(out, 320, "%s/%s", fx->tmp, name);
}

static size_t rows_of_meta(struct fixture *fx, const char *prefix)
{
	struct engine_iter *it = NULL;
	size_t n = 0;

	CU_ASSERT_EQUAL_FATAL(
		engine_iter_new(fixture_engine(fx), FAM_META, slice_of(NULL, 0), slice_of(NULL, 0), &it), 0);
	for (bool on = engine_iter_seek(it, str(prefix)); on && slice_starts(it->key, str(prefix));
	     on = engine_iter_next(it))
		n++;
	engine_iter_free(it);
	return n;
}

static void test_a_checkpoint_is_a_database_of_its_own(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_hash hash;
	char dir[320];
	mvcc_rev_t rev = 0;
	struct mvcc *copy;

	path_in(fx, "copy", dir);
	make_history(fx->db);
	CU_ASSERT_EQUAL_FATAL(mvcc_checkpoint(fx->db, dir, &rev), 0);
	CU_ASSERT_EQUAL(rev, HISTORY_END);
	CU_ASSERT_EQUAL(kind_of(dir), DIR_DB);
	CU_ASSERT_EQUAL(rows_of_meta(fx, META_CHECKPOINT), 0);
	copy = open_at(fx, dir); /* while the other is open, and one writes */
	put(fx->db, "a", "of the original");
	hash = hash_at(fx->db, MVCC_REV_LATEST);
	assert_golden(copy);
	CU_ASSERT_EQUAL(mvcc_current(copy), HISTORY_END);
	CU_ASSERT_EQUAL(verify_problems(copy), 0);
	CU_ASSERT_EQUAL(put(copy, "a", "of the copy"), HISTORY_END + 1);
	put_many(copy, "more/", 700, 'c');
	put(copy, "a", "of the copy");
	assert_value_at(fx->db, MVCC_REV_LATEST, "a", "of the original");
	assert_value_at(copy, MVCC_REV_LATEST, "a", "of the copy");
	assert_absent_at(fx->db, MVCC_REV_LATEST, "more/0001");
	CU_ASSERT(hash_eq(hash_at(fx->db, MVCC_REV_LATEST), hash));
	CU_ASSERT_EQUAL(mvcc_close(copy), 0);
	copy = open_at(fx, dir);
	assert_value_at(copy, MVCC_REV_LATEST, "a", "of the copy");
	CU_ASSERT_EQUAL(verify_problems(copy), 0);
	CU_ASSERT_EQUAL(mvcc_close(copy), 0);
	fixture_reopen(fx);
	CU_ASSERT(hash_eq(hash_at(fx->db, MVCC_REV_LATEST), hash));
	fixture_verify(fx);
	fixture_close(fx);
}

static void test_a_checkpoint_holds_what_was_only_buffered(void)
{
	struct fixture *fx = fixture_open();
	mvcc_rev_t rev, last = 0;
	struct mvcc *copy;
	char dir[320];

	path_in(fx, "copy", dir);
	for (int i = 0; i < 100; i++)
		last = put(fx->db, "k", "v");
	CU_ASSERT_EQUAL_FATAL(mvcc_checkpoint(fx->db, dir, &rev), 0);
	CU_ASSERT_EQUAL(rev, last);
	copy = open_at(fx, dir);
	CU_ASSERT(hash_eq(hash_at(copy, MVCC_REV_LATEST), hash_at(fx->db, MVCC_REV_LATEST)));
	CU_ASSERT_EQUAL(mvcc_close(copy), 0);
	fixture_close(fx);
}

static void test_a_checkpoint_holds_nothing_of_unfinished_transactions(void)
{
	struct fixture *fx = fixture_open_small_ring();
	struct mvcc_txn *txn = begin(fx->db);
	struct mvcc *copy;
	uint8_t value[1000] = { 0 };
	char dir[320], key[16];

	path_in(fx, "copy", dir);
	for (int i = 0; i < 100; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		CU_ASSERT_EQUAL(mvcc_txn_put(txn, str(key), slice_of(value, sizeof(value)), NULL, 0), 0);
	}
	put_blob(txn, "with a blob", "", stage(txn, "blob", 4));
	CU_ASSERT(fixture_rows(fx, ENGINE_USE_STAGE) > 0);
	CU_ASSERT_EQUAL_FATAL(mvcc_checkpoint(fx->db, dir, NULL), 0);
	fixture_verify(fx);
	copy = open_at(fx, dir);
	CU_ASSERT_EQUAL(mvcc_current(copy), MVCC_REV_FIRST);
	CU_ASSERT_EQUAL(hash_at(copy, MVCC_REV_LATEST).keys, 0);
	CU_ASSERT_EQUAL(verify_problems(copy), 0);
	CU_ASSERT_EQUAL(mvcc_close(copy), 0);
	commit(txn);
	fixture_verify(fx);
	fixture_close(fx);
}

static void test_a_checkpoint_takes_no_name_that_is_taken(void)
{
	struct fixture *fx = fixture_open();
	char dir[320], file[340];
	int fd;

	path_in(fx, "taken", dir);
	CU_ASSERT_EQUAL(mkdir(dir, 0700), 0);
	snprintf(file, sizeof(file), "%s/file", dir);
	fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	CU_ASSERT(fd >= 0);
	close(fd);
	CU_ASSERT_EQUAL(mvcc_checkpoint(fx->db, dir, NULL), -EEXIST);
	CU_ASSERT_EQUAL(mvcc_checkpoint(fx->db, file, NULL), -EEXIST);
	CU_ASSERT_EQUAL(mvcc_checkpoint(fx->db, fx->dir, NULL), -EEXIST);
	CU_ASSERT(exists(file));
	snprintf(file, sizeof(file), "%s/none/copy", dir);
	CU_ASSERT_EQUAL(mvcc_checkpoint(fx->db, file, NULL), -ENOENT);
	CU_ASSERT_EQUAL(rows_of_meta(fx, META_CHECKPOINT), 0);
	put(fx->db, "a", "1");
	fixture_close(fx);
}

static void test_a_checkpoint_may_be_named_relatively(void)
{
	struct fixture *fx = fixture_open();
	char was[1024], dir[320];
	struct mvcc *copy;

	CU_ASSERT_PTR_NOT_NULL_FATAL(getcwd(was, sizeof(was)));
	CU_ASSERT_EQUAL(chdir(fx->tmp), 0);
	CU_ASSERT_EQUAL(mvcc_checkpoint(fx->db, "here", NULL), 0);
	CU_ASSERT_EQUAL(mvcc_checkpoint(fx->db, "./there/", NULL), 0);
	CU_ASSERT_EQUAL(chdir(was), 0);
	for (int i = 0; i < 2; i++) {
		path_in(fx, i ? "here" : "there", dir);
		copy = open_at(fx, dir);
		CU_ASSERT_EQUAL(mvcc_close(copy), 0);
	}
	fixture_close(fx);
}

static void test_a_checkpoint_of_a_checkpoint_is_one(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc *copy;
	char dir[320];

	make_history(fx->db);
	path_in(fx, "0", dir);
	CU_ASSERT_EQUAL_FATAL(mvcc_checkpoint(fx->db, dir, NULL), 0);
	for (int i = 1; i < 4; i++) {
		char name[8];

		copy = open_at(fx, dir);
		snprintf(name, sizeof(name), "%d", i);
		path_in(fx, name, dir);
		CU_ASSERT_EQUAL(mvcc_checkpoint(copy, dir, NULL), 0);
		CU_ASSERT_EQUAL(mvcc_close(copy), 0);
	}
	copy = open_at(fx, dir);
	assert_golden(copy);
	CU_ASSERT_EQUAL(verify_problems(copy), 0);
	CU_ASSERT_EQUAL(mvcc_close(copy), 0);
	fixture_close(fx);
}

/* A directory on another filesystem, or false. */
static bool other_filesystem(struct fixture *fx, char out[256])
{
	struct stat here, there;

	if (stat(fx->tmp, &here) || stat("/dev/shm", &there) || here.st_dev == there.st_dev)
		return false;
	snprintf(out, 256, "/dev/shm/mvccfs-test-XXXXXX");
	return mkdtemp(out) != NULL;
}

static void test_a_checkpoint_may_lie_on_another_filesystem(void)
{
	struct fixture *fx = fixture_open();
	char other[256], dir[320];
	struct mvcc *copy;

	if (!other_filesystem(fx, other)) {
		printf("(/dev/shm is no other filesystem) ");
		fixture_close(fx);
		return;
	}
	snprintf(dir, sizeof(dir), "%s/copy", other);
	make_history(fx->db);
	CU_ASSERT_EQUAL(mvcc_checkpoint(fx->db, dir, NULL), 0);
	copy = open_at(fx, dir);
	assert_golden(copy);
	CU_ASSERT_EQUAL(verify_problems(copy), 0);
	CU_ASSERT_EQUAL(mvcc_close(copy), 0);
	unit_rmtree(other);
	fixture_close(fx);
}

/* ---- checkpoint under load ------------------------------------------------------------------- */

enum { WRITERS = 4 };

struct load {
	struct mvcc *db;
	atomic_bool stop;
	atomic_uint errors, commits;
};

struct load_writer {
	struct load *load;
	unsigned id;
	pthread_t thread;
};

/* One step: two keys that agree, a blob now and then, a transaction for the stage now and then. */
static int load_step(struct load_writer *w, unsigned step)
{
	struct mvcc_txn *txn;
	mvcc_blob_t blob = 0;
	char key[32], value[16];
	static const uint8_t bytes[900];
	int err = mvcc_txn_begin(w->load->db, &txn);

	if (err)
		return err;
	snprintf(value, sizeof(value), "%u", step);
	if (step % 5 == 0)
		err = mvcc_txn_stage_blob(txn, str(value), &blob);
	for (unsigned i = 0; !err && i < 2; i++) {
		snprintf(key, sizeof(key), "%u/%u", i, w->id);
		err = mvcc_txn_put(txn, str(key), str(value), &blob, blob ? 1 : 0);
	}
	for (unsigned i = 0; !err && w->id == 0 && step % 20 == 0 && i < 400; i++) {
		snprintf(key, sizeof(key), "big/%u", i);
		err = (step / 20 + i) % 3 ?
			      mvcc_txn_put(txn, str(key), slice_of(bytes, sizeof(bytes)), NULL, 0) :
			      mvcc_txn_del(txn, str(key));
	}
	if (err) {
		mvcc_txn_abort(txn);
		return err;
	}
	return mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, NULL);
}

static void *write_on(void *arg)
{
	struct load_writer *w = arg;

	for (unsigned step = 1; !atomic_load(&w->load->stop); step++) {
		if (load_step(w, step))
			atomic_fetch_add(&w->load->errors, 1);
		atomic_fetch_add(&w->load->commits, 1);
		/* slower and slower: or history grows faster than it can be looked at */
		nanosleep(&(struct timespec){ .tv_nsec = 500000 + 30000 * (long)(step < 1000 ? step : 1000) },
			  NULL);
	}
	return NULL;
}

static void load_start(struct load *load, struct load_writer writers[WRITERS], struct mvcc *db)
{
	load->db = db;
	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i] = (struct load_writer){ .load = load, .id = i };
		CU_ASSERT_EQUAL_FATAL(pthread_create(&writers[i].thread, NULL, write_on, &writers[i]), 0);
	}
}

static void load_stop(struct load *load, struct load_writer writers[WRITERS])
{
	atomic_store(&load->stop, true);
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(writers[i].thread, NULL);
	CU_ASSERT_EQUAL(atomic_load(&load->errors), 0);
}

static void wait_commits(struct load *load, unsigned more)
{
	unsigned until = atomic_load(&load->commits) + more;

	while (atomic_load(&load->commits) < until)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

static void test_checkpoints_under_load_are_prefixes_of_history(void)
{
	enum { COPIES = 6 };
	struct fixture *fx = fixture_open_small_ring();
	struct load_writer writers[WRITERS];
	struct load load = { .stop = false };
	char dirs[COPIES][320], name[8];
	mvcc_rev_t revs[COPIES] = { 0 };

	load_start(&load, writers, fx->db);
	for (int i = 0; i < COPIES; i++) {
		mvcc_rev_t before;

		wait_commits(&load, 30);
		snprintf(name, sizeof(name), "c%d", i);
		path_in(fx, name, dirs[i]);
		before = mvcc_current(fx->db);
		CU_ASSERT_EQUAL(mvcc_checkpoint(fx->db, dirs[i], &revs[i]), 0);
		CU_ASSERT(revs[i] >= before && revs[i] <= mvcc_current(fx->db));
	}
	wait_commits(&load, 30);
	load_stop(&load, writers);
	for (int i = 0; i < COPIES; i++) {
		struct mvcc *copy = open_at(fx, dirs[i]);

		CU_ASSERT_EQUAL(mvcc_current(copy), revs[i]);
		CU_ASSERT_EQUAL(verify_problems(copy), 0);
		CU_ASSERT(hash_eq(hash_at(copy, revs[i]), hash_at(fx->db, revs[i])));
		CU_ASSERT(hash_eq(hash_at(copy, revs[i] / 2), hash_at(fx->db, revs[i] / 2)));
		CU_ASSERT_EQUAL(put(copy, "new", "row"), revs[i] + 1);
		CU_ASSERT_EQUAL(mvcc_close(copy), 0);
	}
	fixture_verify(fx);
	fixture_close(fx);
}

struct maker {
	struct mvcc *db;
	char dir[320];
	pthread_t thread;
	int err;
};

static void *make_checkpoint(void *arg)
{
	struct maker *m = arg;

	m->err = mvcc_checkpoint(m->db, m->dir, NULL);
	return NULL;
}

static void test_two_checkpoints_at_once_get_in_nobodys_way(void)
{
	struct fixture *fx = fixture_open();
	struct maker makers[4];
	int made = 0;

	make_history(fx->db);
	for (int i = 0; i < 4; i++) { /* two of them of one name */
		makers[i] = (struct maker){ .db = fx->db };
		path_in(fx, i < 2 ? "same" : i == 2 ? "x" : "y", makers[i].dir);
		CU_ASSERT_EQUAL_FATAL(pthread_create(&makers[i].thread, NULL, make_checkpoint, &makers[i]),
				      0);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(makers[i].thread, NULL);
	for (int i = 0; i < 4; i++) {
		made += makers[i].err == 0;
		CU_ASSERT(makers[i].err == 0 || (i < 2 && makers[i].err == -EEXIST));
		if (makers[i].err == 0) {
			struct mvcc *copy = open_at(fx, makers[i].dir);

			assert_golden(copy);
			CU_ASSERT_EQUAL(mvcc_close(copy), 0);
		}
	}
	CU_ASSERT_EQUAL(made, 3);
	fixture_close(fx);
}

/* ---- checkpoints that fail ------------------------------------------------------------------- */

/* A checkpoint with the `at`th call to the engine failing. Was there such a call? */
static bool checkpoint_with_fault(uint64_t at, bool done)
{
	struct fault_engine *fault;
	struct mem_engine *mem = mem_engine_new();
	struct engine_provider provider;
	struct fixture *fx;
	struct mvcc *copy;
	char dir[320];
	uint64_t failed;
	int err;

	fault = fault_engine_new(mem_engine_provider(mem));
	provider = fault_engine_provider(fault);
	fixture_use(&provider);
	fx = fixture_open();
	fixture_use(NULL);
	path_in(fx, "copy", dir);
	make_history(fx->db);
	fixture_drain(fx);
	fault_engine_arm(fault,
			 (struct fault_plan){ .kinds = FAULT_ALL, .at = at, .err = -EIO, .done = done });
	err = mvcc_checkpoint(fx->db, dir, NULL);
	failed = fault_engine_failed(fault);
	fault_engine_disarm(fault);
	if (err)
		CU_ASSERT(!exists(dir));
	if (!failed)
		CU_ASSERT_EQUAL(err, 0);
	mvcc_close(fx->db); /* it may have stopped */
	fx->db = NULL;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	CU_ASSERT_EQUAL(rows_of_meta(fx, META_CHECKPOINT), 0);
	assert_golden(fx->db);
	fixture_verify(fx);
	if (!err) {
		copy = open_at(fx, dir);
		assert_golden(copy);
		CU_ASSERT_EQUAL(verify_problems(copy), 0);
		CU_ASSERT_EQUAL(mvcc_close(copy), 0);
	} else { /* and now it works, under the same name */
		CU_ASSERT_EQUAL(mvcc_checkpoint(fx->db, dir, NULL), 0);
		CU_ASSERT_EQUAL(kind_of(dir), DIR_DB);
	}
	fixture_close(fx);
	fault_engine_free(fault);
	mem_engine_free(mem);
	return failed != 0;
}

static void test_any_call_of_a_checkpoint_may_fail(void)
{
	uint64_t at = 1;

	while (checkpoint_with_fault(at, false))
		at++;
	CU_ASSERT(at > 10);
	for (uint64_t i = 1; i < at; i++)
		checkpoint_with_fault(i, true);
}

static void note_of(struct fixture *fx, const char *dir)
{
	struct buf key = { 0 };

	CU_ASSERT_EQUAL(meta_key_name(&key, META_CHECKPOINT, str(dir)), 0);
	raw_put(fx, FAM_META, slice_buf(&key), slice_of(NULL, 0));
	buf_release(&key);
}

static void touch(const char *dir, const char *name, const char *text)
{
	char path[400];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	CU_ASSERT(fd >= 0);
	CU_ASSERT_EQUAL(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static void test_only_what_a_checkpoint_left_goes_at_the_next_open(void)
{
	enum { HALF, EMPTY, DB, STRANGER, LOCKED, ABSENT, KINDS };
	struct fixture *fx = fixture_open();
	char dirs[KINDS][320], name[8], engine[340];
	int lock_fd = -1, dir_fd;

	for (int i = 0; i < KINDS; i++) {
		snprintf(name, sizeof(name), "d%d", i);
		path_in(fx, name, dirs[i]);
		if (i != ABSENT && i != DB)
			CU_ASSERT_EQUAL(mkdir(dirs[i], 0700), 0);
	}
	snprintf(engine, sizeof(engine), "%s/engine", dirs[HALF]);
	CU_ASSERT_EQUAL(mkdir(engine, 0700), 0);
	touch(engine, "000123.sst", "rows");
	snprintf(engine, sizeof(engine), "%s/engine.tmp", dirs[HALF]);
	CU_ASSERT_EQUAL(mkdir(engine, 0700), 0);
	touch(dirs[HALF], "LOCK", "pid 1\n");
	touch(dirs[HALF], "ring.new", "half a ring");
	CU_ASSERT_EQUAL(mvcc_checkpoint(fx->db, dirs[DB], NULL), 0);
	touch(dirs[STRANGER], "LOCK", "pid 1\n");
	touch(dirs[STRANGER], "letters", "from home");
	dir_fd = open(dirs[LOCKED], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CU_ASSERT_EQUAL(dir_lock(dir_fd, NULL, &lock_fd), 0);
	for (int i = 0; i < KINDS; i++)
		note_of(fx, dirs[i]);
	fixture_reopen(fx);
	CU_ASSERT(!exists(dirs[HALF]));
	CU_ASSERT(!exists(dirs[EMPTY]));
	CU_ASSERT_EQUAL(kind_of(dirs[DB]), DIR_DB);
	CU_ASSERT_EQUAL(kind_of(dirs[STRANGER]), DIR_STRANGE);
	CU_ASSERT(exists(dirs[LOCKED]));
	CU_ASSERT_EQUAL(rows_of_meta(fx, META_CHECKPOINT), 1); /* somebody works there: at another open */
	close(lock_fd);
	close(dir_fd);
	fixture_reopen(fx);
	CU_ASSERT(!exists(dirs[LOCKED]));
	CU_ASSERT_EQUAL(rows_of_meta(fx, META_CHECKPOINT), 0);
	fixture_verify(fx);
	fixture_close(fx);
}

/* ---- checkpoints that are killed (RocksDB) --------------------------------------------------- */

static void open_options(struct mvcc_options *opt, const char *dir)
{
	*opt = (struct mvcc_options){ .dir = dir, .create = true, .ring_bytes = (size_t)256 << 10 };
	opt->engine = rocks_provider(&rocks_options);
}

/* Makes checkpoints until it is killed: DIR.1, DIR.2, ... Tells when it begins. */
static int be_the_victim(const char *dir, int out)
{
	struct load load = { .stop = false };
	struct load_writer writers[1] = { { .load = &load } };
	struct mvcc_options opt;
	char copy[320];

	open_options(&opt, dir);
	if (mvcc_open(&opt, &load.db) || load_step(&writers[0], 1))
		return 3;
	if (pthread_create(&writers[0].thread, NULL, write_on, &writers[0]) || write(out, "!", 1) != 1)
		return 3;
	for (unsigned i = 1;; i++) {
		snprintf(copy, sizeof(copy), "%s.%u", dir, i);
		if (mvcc_checkpoint(load.db, copy, NULL))
			return 3;
	}
}

/* One commit, and gone before it can have left the ring. */
static int commit_and_vanish(const char *dir)
{
	struct mvcc_options opt;
	struct mvcc_txn *txn;
	struct mvcc *db;

	open_options(&opt, dir);
	if (mvcc_open(&opt, &db) || mvcc_txn_begin(db, &txn) ||
	    mvcc_txn_put(txn, str("ring"), str("only"), NULL, 0) ||
	    mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, NULL))
		return 3;
	_exit(0);
}

static void kill_a_victim(const char *dir, unsigned us)
{
	char fd_text[16], byte;
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
	CU_ASSERT_EQUAL(read(fds[0], &byte, 1), 1);
	usleep(us);
	kill(pid, SIGKILL);
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT(WIFSIGNALED(status));
	close(fds[0]);
}

/* What lies beside the database is databases: verifies and removes each. Gives how many there were. */
static unsigned check_copies(struct fixture *fx)
{
	unsigned n = 0;

	for (unsigned i = 1; i < 1000; i++) {
		struct mvcc *copy;
		char dir[320];

		snprintf(dir, sizeof(dir), "%s.%u", fx->dir, i);
		if (!exists(dir))
			break;
		n++;
		CU_ASSERT_EQUAL_FATAL(kind_of(dir), DIR_DB);
		if (i <= 2) {
			copy = open_at(fx, dir);
			CU_ASSERT_EQUAL(verify_problems(copy), 0);
			CU_ASSERT(
				hash_eq(hash_at(copy, MVCC_REV_LATEST), hash_at(fx->db, mvcc_current(copy))));
			CU_ASSERT_EQUAL(mvcc_close(copy), 0);
		}
		unit_rmtree(dir);
	}
	return n;
}

static void test_a_killed_checkpoint_leaves_nothing_behind(void)
{
	uint64_t seed = fixture_env("KILL_SEED", (uint64_t)time(NULL)), state = seed;
	struct fixture *fx = fixture_new();
	unsigned half = 0, copies = 0;

	printf("seed %llu ", (unsigned long long)seed);
	for (unsigned round = 0; round < 8; round++) {
		char dir[320];

		kill_a_victim(fx->dir, (unsigned)random_below(&state, 500000));
		for (unsigned i = 1; i < 1000; i++) {
			snprintf(dir, sizeof(dir), "%s.%u", fx->dir, i);
			if (!exists(dir))
				break;
			half += kind_of(dir) != DIR_DB;
		}
		CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
		copies += check_copies(fx);
		CU_ASSERT_EQUAL(rows_of_meta(fx, META_CHECKPOINT), 0);
		fixture_verify(fx);
		CU_ASSERT_EQUAL(mvcc_close(fx->db), 0);
		fx->db = NULL;
	}
	printf("%u half made, %u whole ", half, copies);
	CU_ASSERT(half + copies > 0);
	fixture_close(fx);
}

/* ---- restore (RocksDB) ----------------------------------------------------------------------- */

static struct fixture *closed_with_history(void)
{
	struct fixture *fx = fixture_open();

	make_history(fx->db);
	CU_ASSERT_EQUAL(mvcc_close(fx->db), 0);
	fx->db = NULL;
	return fx;
}

static void assert_restored(struct fixture *fx, const char *dir)
{
	struct mvcc *copy = open_at(fx, dir);

	assert_golden(copy);
	CU_ASSERT_EQUAL(verify_problems(copy), 0);
	CU_ASSERT_EQUAL(put(copy, "a", "of the copy"), HISTORY_END + 1);
	CU_ASSERT_EQUAL(mvcc_close(copy), 0);
}

static void test_a_restored_database_is_the_one_it_was_copied_from(void)
{
	struct fixture *fx = closed_with_history();
	char dir[320], again[320], checkpoint[320];

	path_in(fx, "restored", dir);
	path_in(fx, "again", again);
	path_in(fx, "checkpoint", checkpoint);
	CU_ASSERT_EQUAL(mvcc_restore(fx->dir, dir), 0);
	assert_restored(fx, dir);
	CU_ASSERT_EQUAL(fixture_try_open(fx), 0);
	assert_golden(fx->db);
	CU_ASSERT_EQUAL(mvcc_checkpoint(fx->db, checkpoint, NULL), 0);
	CU_ASSERT_EQUAL(mkdir(again, 0700), 0); /* an empty directory will do */
	CU_ASSERT_EQUAL(mvcc_restore(checkpoint, again), 0);
	assert_restored(fx, again);
	assert_golden(fx->db);
	fixture_close(fx);
}

static void test_restore_says_what_is_in_its_way(void)
{
	struct fixture *fx = closed_with_history();
	char dir[320], strange[320], absent[320], inside[340], line[340];
	char was[64] = { 0 };
	int fd;

	path_in(fx, "restored", dir);
	path_in(fx, "strange", strange);
	path_in(fx, "absent", absent);
	CU_ASSERT_EQUAL(mkdir(strange, 0700), 0);
	touch(strange, "letters", "from home");
	CU_ASSERT_EQUAL(mvcc_restore(absent, dir), -ENOENT);
	CU_ASSERT_EQUAL(mvcc_restore(strange, dir), MVCC_ENODB);
	CU_ASSERT_EQUAL(mvcc_restore(fx->dir, strange), MVCC_ENODB);
	snprintf(inside, sizeof(inside), "%s/letters", strange);
	CU_ASSERT_EQUAL(mvcc_restore(fx->dir, inside), MVCC_ENODB);
	CU_ASSERT_EQUAL(mvcc_restore(fx->dir, fx->dir), -EEXIST);
	snprintf(inside, sizeof(inside), "%s/engine/inside", fx->dir);
	CU_ASSERT_EQUAL(mvcc_restore(fx->dir, inside), -EINVAL);
	CU_ASSERT(!exists(inside));
	snprintf(inside, sizeof(inside), "%s/no/parent", strange);
	CU_ASSERT_EQUAL(mvcc_restore(fx->dir, inside), -ENOENT);
	CU_ASSERT_EQUAL(fixture_try_open(fx), 0);
	CU_ASSERT_EQUAL(mvcc_restore(fx->dir, dir), MVCC_ELOCKED);
	CU_ASSERT(!exists(dir));
	CU_ASSERT_EQUAL(mvcc_close(fx->db), 0);
	fx->db = NULL;
	snprintf(line, sizeof(line), "%s/FORMAT", fx->dir);
	fd = open(line, O_RDWR | O_CLOEXEC);
	CU_ASSERT(read(fd, was, sizeof(was) - 1) > 0);
	CU_ASSERT_EQUAL(pwrite(fd, "mvccfs database, format 9\n", 26, 0), 26);
	CU_ASSERT_EQUAL(mvcc_restore(fx->dir, dir), MVCC_EFORMAT);
	CU_ASSERT_EQUAL(pwrite(fd, was, strlen(was), 0), (ssize_t)strlen(was));
	close(fd);
	CU_ASSERT(!exists(dir));
	CU_ASSERT_EQUAL(mvcc_restore(fx->dir, dir), 0);
	CU_ASSERT_EQUAL(mvcc_restore(fx->dir, dir), -EEXIST);
	assert_restored(fx, dir);
	CU_ASSERT_EQUAL(fixture_try_open(fx), 0);
	assert_golden(fx->db);
	fixture_close(fx);
}

static void test_restore_replaces_what_was_cut_short(void)
{
	struct fixture *fx = closed_with_history();
	char dir[320], engine[340], format[340];

	path_in(fx, "restored", dir);
	CU_ASSERT_EQUAL(mvcc_restore(fx->dir, dir), 0);
	snprintf(format, sizeof(format), "%s/FORMAT", dir);
	CU_ASSERT_EQUAL(unlink(format), 0); /* as if killed just before the end */
	snprintf(engine, sizeof(engine), "%s/engine", dir);
	touch(engine, "999999.sst", "half a table");
	CU_ASSERT_EQUAL(kind_of(dir), DIR_HALF);
	CU_ASSERT_EQUAL(mvcc_restore(fx->dir, dir), 0);
	snprintf(engine, sizeof(engine), "%s/engine/999999.sst", dir);
	CU_ASSERT(!exists(engine));
	assert_restored(fx, dir);
	fixture_close(fx);
}

static void test_restore_takes_what_only_the_ring_has(void)
{
	struct fixture *fx = closed_with_history();
	char dir[320];
	int status = 0;
	pid_t pid;

	path_in(fx, "restored", dir);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		execl("/proc/self/exe", "victim", "--commit", fx->dir, (char *)NULL);
		_exit(2);
	}
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	CU_ASSERT_EQUAL(mvcc_restore(fx->dir, dir), 0);
	for (int i = 0; i < 2; i++) {
		struct mvcc *db = open_at(fx, i ? fx->dir : dir);

		assert_value_at(db, HISTORY_END + 1, "ring", "only");
		CU_ASSERT_EQUAL(verify_problems(db), 0);
		CU_ASSERT_EQUAL(mvcc_close(db), 0);
	}
	fixture_close(fx);
}

static void test_restore_may_cross_filesystems(void)
{
	struct fixture *fx = closed_with_history();
	char other[256], dir[320];

	if (other_filesystem(fx, other)) {
		snprintf(dir, sizeof(dir), "%s/restored", other);
		CU_ASSERT_EQUAL(mvcc_restore(fx->dir, dir), 0);
		assert_restored(fx, dir);
		unit_rmtree(other);
	} else {
		printf("(/dev/shm is no other filesystem) ");
	}
	fixture_close(fx);
}

/* ---- verify ---------------------------------------------------------------------------------- */

static void test_a_sound_store_has_no_problems(void)
{
	struct fixture *fx = fixture_open_small_ring();
	struct mvcc_txn *open_txn, *txn;
	uint64_t intent, first;

	fixture_verify(fx);
	make_history(fx->db);
	fixture_verify(fx);
	CU_ASSERT_EQUAL(mvcc_intent_put(fx->db, str("a promise"), &intent), 0);
	CU_ASSERT_EQUAL(mvcc_reserve(fx->db, "ino", 3, &first), 0);
	open_txn = begin(fx->db);
	put_blob(open_txn, "staged", "", stage(open_txn, "for later", 9));
	txn = begin(fx->db);
	stage(txn, "for nobody", 10);
	mvcc_txn_abort(txn);
	txn = begin(fx->db); /* puts and deletes that cancel out, in a run and out of one */
	txn_put(txn, "gone", "1");
	txn_del(txn, "gone");
	txn_put(txn, "stays", "1");
	commit(txn);
	put_many(fx->db, "big/", 400, 'b');
	txn = begin(fx->db);
	for (int i = 0; i < 300; i++) {
		char key[32];

		snprintf(key, sizeof(key), "big/%04d", i);
		txn_del(txn, key);
		if (i % 3 == 0)
			txn_put(txn, key, "again");
	}
	commit(txn);
	fixture_verify(fx);
	commit(open_txn);
	fixture_verify(fx);
	fixture_reopen(fx);
	fixture_verify(fx);
	fixture_close(fx);
}

static void test_a_store_that_changes_meanwhile_has_no_problems(void)
{
	struct fixture *fx = fixture_open_small_ring();
	struct load_writer writers[WRITERS];
	struct load load = { .stop = false };
	unsigned problems = 0;

	load_start(&load, writers, fx->db);
	for (int i = 0; i < 20; i++) {
		problems += verify_problems(fx->db);
		wait_commits(&load, 10);
	}
	load_stop(&load, writers);
	CU_ASSERT_EQUAL(problems, 0);
	fixture_close(fx);
}

/*
 * What the damages are done to. Revision 2 puts a and b; 3 puts both again, with blob 1; 4 deletes b and puts c with
 * blob 2; 5 puts a and b. Then: latest a(5,2,v3) b(5,5,v1) c(4,4,v1); hist a-3 a-5 b-3 b-4; blob 1 counts 2.
 */
static struct fixture *specimen(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn = begin(fx->db);
	mvcc_blob_t blob;
	uint64_t first;

	txn_put(txn, "a", "1");
	txn_put(txn, "b", "1");
	commit(txn);
	txn = begin(fx->db);
	blob = stage(txn, "shared", 6);
	put_blob(txn, "a", "2", blob);
	put_blob(txn, "b", "2", blob);
	commit(txn);
	txn = begin(fx->db);
	txn_del(txn, "b");
	put_blob(txn, "c", "1", stage(txn, "single", 6));
	commit(txn);
	txn = begin(fx->db);
	txn_put(txn, "a", "3");
	txn_put(txn, "b", "3");
	commit(txn);
	CU_ASSERT_EQUAL(mvcc_reserve(fx->db, "ino", 1, &first), 0);
	fixture_drain(fx);
	return fx;
}

static void damage_meta(struct fixture *fx, const char *key, const char *value)
{
	if (value)
		raw_put(fx, FAM_META, str(key), str(value));
	else
		raw_del(fx, FAM_META, str(key));
}

static void damage_meta_u64(struct fixture *fx, const char *key, uint64_t value)
{
	uint8_t raw[8];

	put_le64(raw, value);
	raw_put(fx, FAM_META, str(key), slice_of(raw, sizeof(raw)));
}

static void damage_count(struct fixture *fx, mvcc_blob_t blob, uint64_t count)
{
	struct buf key = { 0 };
	uint8_t raw[8];

	put_le64(raw, count);
	CU_ASSERT_EQUAL(meta_key_id(&key, META_BLOBREF, blob), 0);
	if (count)
		raw_put(fx, FAM_META, slice_buf(&key), slice_of(raw, sizeof(raw)));
	else
		raw_del(fx, FAM_META, slice_buf(&key));
	buf_release(&key);
}

static void damage_blob(struct fixture *fx, mvcc_blob_t blob, const char *bytes)
{
	uint8_t key[8];

	put_be64(key, blob);
	if (bytes)
		raw_put(fx, FAM_BLOB, slice_of(key, sizeof(key)), str(bytes));
	else
		raw_del(fx, FAM_BLOB, slice_of(key, sizeof(key)));
}

static void damage_hist(struct fixture *fx, const char *key, mvcc_rev_t end)
{
	struct buf row = { 0 };

	CU_ASSERT_EQUAL(hist_key(&row, str(key), end), 0);
	raw_del(fx, FAM_HIST, slice_buf(&row));
	buf_release(&row);
}

/* Puts a log row with one or two changes, or removes it. */
static void damage_log(struct fixture *fx, mvcc_rev_t rev, uint32_t part, int64_t time_ns,
		       const struct mvcc_change *changes, size_t n)
{
	struct log_part row = { .time_ns = time_ns };
	struct buf key = { 0 }, story = { 0 }, list = { 0 }, value = { 0 };

	CU_ASSERT_EQUAL(story_encode(&story, NULL), 0);
	for (size_t i = 0; i < n; i++)
		CU_ASSERT_EQUAL(log_change_put(&list, &changes[i]), 0);
	row.story = slice_buf(&story);
	row.changes = slice_buf(&list);
	CU_ASSERT_EQUAL(log_key(&key, rev, part), 0);
	CU_ASSERT_EQUAL(log_part_encode(&value, part, &row), 0);
	if (changes)
		raw_put(fx, FAM_LOG, slice_buf(&key), slice_buf(&value));
	else
		raw_del(fx, FAM_LOG, slice_buf(&key));
	buf_release(&key);
	buf_release(&story);
	buf_release(&list);
	buf_release(&value);
}

static void damage_pin(struct fixture *fx, const char *name, mvcc_rev_t rev)
{
	struct mvcc_pin pin = { .rev = rev };
	struct buf key = { 0 }, row = { 0 };

	CU_ASSERT_EQUAL(meta_key_name(&key, META_PIN, str(name)), 0);
	CU_ASSERT_EQUAL(pin_encode(&row, &pin), 0);
	raw_put(fx, FAM_META, slice_buf(&key), slice_buf(&row));
	buf_release(&key);
	buf_release(&row);
}

/* Puts a row of `ended` about blob 1, or removes the one there is. */
static void damage_ended(struct fixture *fx, mvcc_rev_t at, mvcc_rev_t end, const char *key, mvcc_rev_t mod)
{
	struct buf row = { 0 }, blobs = { 0 }, value = { 0 };

	CU_ASSERT_EQUAL(ended_key(&row, at, end, str(key)), 0);
	CU_ASSERT_EQUAL(record_blob_put(&blobs, 1, true), 0);
	CU_ASSERT_EQUAL(ended_encode(&value, mod ? mod : 1, slice_buf(&blobs)), 0);
	if (mod)
		raw_put(fx, FAM_ENDED, slice_buf(&row), slice_buf(&value));
	else
		raw_del(fx, FAM_ENDED, slice_buf(&row));
	buf_release(&row);
	buf_release(&blobs);
	buf_release(&value);
}

#define CHANGES(...)                                 \
	(const struct mvcc_change[]){ __VA_ARGS__ }, \
		sizeof((const struct mvcc_change[]){ __VA_ARGS__ }) / sizeof(struct mvcc_change)
#define CHANGE(key_, del_, prev_)                                                                            \
	{                                                                                                    \
		.key = { (const uint8_t *)(key_), sizeof(key_) - 1 }, .deleted = (del_), .prev_rev = (prev_) \
	}
#define NOW ((int64_t)1 << 61) /* later than any commit of the specimen */

/* The damages: each function does one, and names what verify has to say of it. */
struct damage {
	const char *what, *key;
	mvcc_rev_t rev;
	mvcc_blob_t blob;
};

static struct damage named(const char *what, const char *key, mvcc_rev_t rev, mvcc_blob_t blob)
{
	return (struct damage){ .what = what, .key = key, .rev = rev, .blob = blob };
}

/* A key with a lease, whose id is given. */
static mvcc_lease_t leased_key(struct fixture *fx)
{
	struct mvcc_txn *txn = begin(fx->db);
	struct mvcc_put put = { .key = str("leased"), .value = str("v") };

	CU_ASSERT_EQUAL_FATAL(mvcc_lease_grant(fx->db, 0, 3600000, &put.lease), 0);
	CU_ASSERT_EQUAL(mvcc_txn_put_with(txn, &put), 0);
	commit(txn);
	fixture_drain(fx);
	fixture_verify(fx);
	return put.lease;
}

/* The row of a lease, or of a key of it: is added, or goes. */
static void damage_lease(struct fixture *fx, mvcc_lease_t id, const char *key, bool goes)
{
	struct buf row = { 0 };

	CU_ASSERT_EQUAL(key ? attached_key(&row, id, str(key)) : lease_key(&row, id), 0);
	if (goes)
		raw_del(fx, FAM_LEASE, slice_buf(&row));
	else
		raw_put(fx, FAM_LEASE, slice_buf(&row), slice_of(NULL, 0));
	buf_release(&row);
}

static struct damage damage(struct fixture *fx, unsigned kind, bool *last)
{
	static const char not_a_record[] = "\x80nonsense";
	*last = false;

	switch (kind) {
	case 0:
		damage_meta(fx, "applied", "short");
		return named("meta: the row does not decode", "applied", 0, 0);
	case 1:
		damage_meta(fx, "applied", NULL);
		return named("meta: the row is missing", "applied", 0, 0);
	case 2:
		damage_meta(fx, "floor", NULL);
		return named("meta: the row is missing", "floor", 0, 0);
	case 3:
		damage_meta_u64(fx, "floor", 6);
		return named("meta: the floor lies above", NULL, 6, 0);
	case 4:
		damage_meta_u64(fx, "floor", 0);
		return named("meta: the row does not decode", "floor", 0, 0);
	case 5:
		damage_meta(fx, "store", NULL);
		return named("meta: the row is missing", "store", 0, 0);
	case 6:
		damage_meta(fx, "store", "7 bytes");
		return named("meta: the row does not decode", "store", 0, 0);
	case 7:
		damage_meta(fx, "blob_low", "short");
		return named("meta: the row does not decode", "blob_low", 0, 0);
	case 8:
		damage_meta(fx, "stranger", "x");
		return named("meta: nobody knows this row", "stranger", 0, 0);
	case 9:
		damage_meta(fx, "storee", "x");
		return named("meta: nobody knows this row", "storee", 0, 0);
	case 10:
		damage_meta(fx, "counter/ino", "x");
		return named("meta: a counter does not decode", "counter/ino", 0, 0);
	case 11:
		damage_meta_u64(fx, "counter/", 5);
		return named("meta: a counter does not decode", "counter/", 0, 0);
	case 12:
		damage_meta(fx, "intent/7", "x");
		return named("meta: the key of an intent", "intent/7", 0, 0);
	case 13:
		damage_meta_u64(fx, "blobref/7", 2);
		return named("meta: the count of a blob does not decode", "blobref/7", 0, 0);
	case 14:
		damage_count(fx, 2, 1);
		return named("meta: a count of a blob that needs none", NULL, 0, 2);
	case 15:
		damage_count(fx, 1, 3);
		return named("the count of a blob is wrong", NULL, 0, 1);
	case 16:
		damage_count(fx, 1, 0);
		return named("the count of a blob is missing", NULL, 0, 1);
	case 17:
		damage_count(fx, 77, 2);
		return named("the count of a blob that is not there", NULL, 0, 77);
	case 18:
		damage_count(fx, 2, 2);
		return named("the count of a blob is wrong", NULL, 0, 2);
	case 19:
		damage_blob(fx, 2, NULL);
		return named("a record refers to a blob that is not there", "c", 4, 2);
	case 20:
		damage_blob(fx, 1, NULL);
		return named("a record refers to a blob that is not there", "b", 3, 1);
	case 21:
		damage_blob(fx, 2, "");
		return named("blob: no blob has this length", NULL, 0, 2);
	case 22:
		raw_put(fx, FAM_BLOB, str("seven b"), str("x"));
		return named("blob: the key does not decode", "seven b", 0, 0);
	case 23: { /* from blob_low on it may be staged: so it is raised */
		uint8_t low[16] = { 10 };

		damage_blob(fx, 3, "of nobody");
		raw_put(fx, FAM_META, str("blob_low"), slice_of(low, sizeof(low)));
		return named("nothing refers to the blob", NULL, 0, 3);
	}
	case 24:
		raw_put(fx, FAM_LATEST, str("a"), str(not_a_record));
		return named("latest: the record does not decode", "a", 0, 0);
	case 25:
		raw_latest(fx, &(struct raw_record){ "a", "3", 6, 2, 3, 0, 0 });
		return named("a record of a revision that does not exist", "a", 6, 0);
	case 26:
		raw_latest(fx, &(struct raw_record){ "a", "3", 0, 0, 3, 0, 0 });
		return named("latest: the record does not decode", "a", 0, 0);
	case 27:
		raw_latest(fx, &(struct raw_record){ "a", "3", 5, 2, 1, 0, 0 });
		return named("latest: the record does not decode", "a", 0, 0);
	case 28:
		raw_latest(fx, &(struct raw_record){ "a", "3", 5, 2, 4, 0, 0 });
		return named("a version does not follow", "a", 5, 0);
	case 29:
		raw_latest(fx, &(struct raw_record){ "b", "3", 5, 3, 2, 0, 0 });
		return named("a generation begins before", "b", 5, 0);
	case 30:
		raw_del(fx, FAM_LATEST, str("a"));
		return named("log: tells of a record that is not there", "a", 5, 0);
	case 31:
		raw_latest(fx, &(struct raw_record){ "a", "2", 4, 2, 3, 0, 0 });
		return named("a record begins before", "a", 4, 0);
	case 32:
		raw_latest(fx, &(struct raw_record){ "zz", "extra", 3, 3, 1, 0, 0 });
		return named("a record that the log does not tell of", "zz", 3, 0);
	case 33:
		raw_hist(fx, 4, &(struct raw_record){ "zz", "extra", 3, 3, 1, 0, 0 });
		return named("a record that the log does not tell of", "zz", 3, 0);
	case 34:
		damage_hist(fx, "a", 3);
		return named("log: tells of a record that is not there", "a", 2, 0);
	case 35:
		damage_hist(fx, "b", 4);
		return named("log: tells of the end of a record", "b", 4, 0);
	case 36:
		raw_put(fx, FAM_HIST, str("no end"), str("x"));
		return named("hist: the key does not decode", "no end", 0, 0);
	case 37:
		raw_hist(fx, 3, &(struct raw_record){ "a", "1", 3, 3, 1, 0, 0 });
		return named("hist: a record has ended before", "a", 3, 0);
	case 38:
		raw_hist(fx, 9, &(struct raw_record){ "c", "1", 4, 4, 1, 0, 0 });
		return named("hist: a record ends with a revision that does not exist", "c", 9, 0);
	case 39:
		raw_hist(fx, 4, &(struct raw_record){ "a", "1", 2, 2, 1, 0, 0 });
		return named("a record begins before", "a", 2, 0);
	case 40: {
		struct buf key = { 0 };

		CU_ASSERT_EQUAL(hist_key(&key, str("b"), 3), 0);
		raw_put(fx, FAM_HIST, slice_buf(&key), str(not_a_record));
		buf_release(&key);
		return named("hist: the record does not decode", "b", 0, 0);
	}
	case 41:
		damage_log(fx, 3, 0, 0, NULL, 0);
		return named("log: this revision is missing, and all up to", NULL, 3, 0);
	case 42:
		damage_log(fx, 5, 0, 0, NULL, 0);
		return named("log: this revision is missing, and all newer", NULL, 5, 0);
	case 43:
		damage_log(fx, 1, 0, 0, NULL, 0);
		return named("log: this revision is missing, and all up to", NULL, 1, 0);
	case 44:
		damage_log(fx, 3, 2, 0, CHANGES(CHANGE("q", false, 0)));
		return named("log: a part is missing", NULL, 3, 0);
	case 45:
		damage_log(fx, 5, 0, 0, NULL, 0);
		damage_log(fx, 5, 1, 0, CHANGES(CHANGE("a", false, 3), CHANGE("b", false, 0)));
		return named("log: a part is missing", NULL, 5, 0);
	case 46:
		damage_log(fx, 5, 0, 1, CHANGES(CHANGE("a", false, 3), CHANGE("b", false, 0)));
		return named("log: the time goes back", NULL, 5, 0);
	case 47:
		damage_log(fx, 5, 0, NOW, CHANGES(CHANGE("b", false, 0), CHANGE("a", false, 3)));
		return named("log: changes are out of order", "a", 5, 0);
	case 48:
		damage_log(fx, 5, 0, NOW, CHANGES(CHANGE("a", false, 2), CHANGE("b", false, 0)));
		return named("log: tells of the end of a record", "a", 5, 0);
	case 49:
		damage_log(fx, 5, 0, NOW, CHANGES(CHANGE("a", false, 0), CHANGE("b", false, 0)));
		return named("log: tells of a first version", "a", 5, 0);
	case 50:
		damage_log(fx, 5, 0, NOW, CHANGES(CHANGE("a", false, 5), CHANGE("b", false, 0)));
		return named("log: a change that cannot be", "a", 5, 0);
	case 51:
		damage_log(fx, 5, 0, NOW, CHANGES(CHANGE("a", false, 3)));
		return named("a record that the log does not tell of", "b", 5, 0);
	case 52:
		damage_log(fx, 5, 0, NOW,
			   CHANGES(CHANGE("a", false, 3), CHANGE("b", false, 0), CHANGE("d", false, 0)));
		return named("log: tells of a record that is not there", "d", 5, 0);
	case 53:
		damage_log(fx, 9, 0, NOW, CHANGES(CHANGE("a", false, 3)));
		return named("log: of a revision that does not exist", NULL, 9, 0);
	case 54:
		raw_put(fx, FAM_LOG, str("no revision"), str("x"));
		return named("log: the key does not decode", "no revision", 0, 0);
	case 55: {
		struct buf key = { 0 };

		CU_ASSERT_EQUAL(log_key(&key, 4, 0), 0);
		raw_put(fx, FAM_LOG, slice_buf(&key), str("x"));
		buf_release(&key);
		return named("log: the row does not decode", NULL, 4, 0);
	}
	case 56:
		raw_put(fx, FAM_STAGE, str("short"), str("x"));
		return named("stage: the key does not decode", "short", 0, 0);
	case 57:
		raw_put(fx, FAM_STAGE, str("run 9999 and a key"), str("x"));
		return named("stage: a row that belongs to no transaction", "run 9999 and a key", 0, 0);
	case 58:
		damage_meta(fx, "pin/name", "short");
		return named("meta: a pin does not decode", "pin/name", 0, 0);
	case 59:
		damage_meta(fx, "unpinned/x", "");
		return named("meta: the row of a pin that is gone", "unpinned/x", 0, 0);
	case 60:
		damage_meta_u64(fx, "compacted", 4);
		return named("meta: more was compacted", NULL, 4, 0);
	case 61:
		damage_pin(fx, "early", 9);
		return named("meta: a pin of a revision that does not exist", NULL, 9, 0);
	case 62:
		raw_put(fx, FAM_ENDED, str("\x05"), str("x"));
		return named("ended: the row does not decode", "\x05", 0, 0);
	case 63:
		damage_ended(fx, ENDED_NEW, 4, "b", 0);
		return named("hist: nothing tells that a record with blobs", "b", 3, 0);
	case 64:
		damage_ended(fx, ENDED_NEW, 3, "a", 2);
		return named("ended: tells of a record that is not there", "a", 2, 0);
	case 65:
		damage_ended(fx, ENDED_NEW, 4, "b", 2);
		return named("ended: tells of a record that is not there", "b", 2, 0);
	case 66:
		raw_put(fx, FAM_LEASE, str("\x05"), str("x"));
		return named("lease: the row does not decode", "\x05", 0, 0);
	case 67:
		damage_lease(fx, 5, "b", false);
		return named("lease: a row of a key that does not have it", "b", 0, 0);
	case 68:
		damage_lease(fx, leased_key(fx), NULL, true);
		return named("latest: the record has a lease that does not exist", "leased",
			     mvcc_current(fx->db), 0);
	case 69:
		damage_lease(fx, leased_key(fx), "leased", true);
		return named("lease: the row of a key is missing", "leased", mvcc_current(fx->db), 0);
	default:
		*last = true;
		return named(NULL, NULL, 0, 0);
	}
}

struct heard {
	const struct damage *expected;
	unsigned n, matching;
	char first[200];
};

static int hear(void *arg, const struct mvcc_problem *p)
{
	struct heard *heard = arg;
	const struct damage *d = heard->expected;

	if (heard->n++ == 0)
		snprintf(heard->first, sizeof(heard->first), "%s (%.*s, %llu, %llu)", p->what,
			 (int)p->key.len, p->key.data, (unsigned long long)p->rev,
			 (unsigned long long)p->blob);
	heard->matching += strncmp(p->what, d->what, strlen(d->what)) == 0 &&
			   (!d->key || slice_eq(p->key, str(d->key))) && p->rev == d->rev &&
			   p->blob == d->blob;
	return 0;
}

static void test_every_damage_is_found_and_named(void)
{
	bool last = false;

	for (unsigned kind = 0; !last; kind++) {
		struct fixture *fx = specimen();
		uint64_t problems = 0;
		struct damage d;
		struct heard heard = { .expected = &d };

		fixture_verify(fx);
		d = damage(fx, kind, &last);
		if (!last) {
			CU_ASSERT_EQUAL(verify_rows(fx->db, 1 + kind % 3, hear, &heard, &problems), 0);
			CU_ASSERT_EQUAL(problems, heard.n);
			CU_ASSERT(heard.matching >= 1);
			if (!heard.matching)
				fprintf(stderr, "\n%u: not \"%s\", but %u, the first: %s\n", kind, d.what,
					heard.n, heard.first);
		}
		fixture_close(fx);
	}
}

static int stop_at_the_second(void *arg, const struct mvcc_problem *p)
{
	(void)p;
	return ++*(unsigned *)arg == 2 ? 77 : 0;
}

static void test_verify_stops_when_told(void)
{
	struct fixture *fx = specimen();
	uint64_t problems = 0;
	unsigned told = 0;

	damage_blob(fx, 1, NULL);
	damage_blob(fx, 2, NULL);
	CU_ASSERT_EQUAL(mvcc_verify(fx->db, stop_at_the_second, &told, &problems), 77);
	CU_ASSERT_EQUAL(told, 2);
	CU_ASSERT_EQUAL(problems, 2);
	CU_ASSERT_EQUAL(mvcc_verify(fx->db, NULL, NULL, &problems), 0);
	CU_ASSERT(problems >= 3);
	CU_ASSERT_EQUAL(mvcc_verify(fx->db, NULL, NULL, NULL), 0);
	fixture_close(fx);
}

static int fail_the_store(void *arg, const struct mvcc_problem *p)
{
	(void)p;
	db_fail(arg, -EIO);
	return 0;
}

static void test_verify_does_not_keep_a_failed_store_failed(void)
{
	struct fixture *fx = specimen();
	struct mvcc_stats stats = { .failed = 1 };

	damage_blob(fx, 1, NULL);
	damage_blob(fx, 2, NULL);
	CU_ASSERT_EQUAL(mvcc_verify(fx->db, fail_the_store, fx->db, NULL), -EIO);
	for (int ms = 0; ms < 10000 && stats.failed; ms += 10) {
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
		mvcc_stats(fx->db, &stats);
	}
	CU_ASSERT_EQUAL(stats.failed, 0);
	CU_ASSERT_EQUAL(mvcc_verify(fx->db, NULL, NULL, NULL), 0);
	fixture_close(fx);
}

/* What lies below the floor goes row by row, in no order: a revision's first part may go before the others. */
static void test_half_an_entry_below_the_floor_is_no_problem(void)
{
	struct fixture *fx = fixture_new();
	struct buf part = { 0 };
	struct mvcc_txn *txn;
	mvcc_rev_t rev;
	char key[64];

	fx->opt.manual_upkeep = true;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	txn = begin(fx->db);
	for (unsigned i = 0; i < 2000; i++) {
		snprintf(key, sizeof(key), "a key of some length, that its entry has parts: %u", i);
		txn_put(txn, key, "");
	}
	rev = commit(txn);
	put(fx->db, "k", "v");
	fixture_drain(fx);
	CU_ASSERT_EQUAL(log_key(&part, rev, 1), 0);
	raw_del(fx, FAM_LOG, slice_buf(&part));
	CU_ASSERT(verify_problems(fx->db) > 0);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, MVCC_REV_LATEST), 0);
	fixture_verify(fx);
	CU_ASSERT_EQUAL(log_key(&part, rev, 0), 0);
	raw_del(fx, FAM_LOG, slice_buf(&part));
	fixture_verify(fx);
	buf_release(&part);
	fixture_close(fx);
}

static void test_blobs_are_counted_whatever_the_table_holds(void)
{
	struct fixture *fx = fixture_open();
	mvcc_blob_t blobs[20], shared = 0;
	struct mvcc_txn *txn = begin(fx->db);
	char key[16];

	for (unsigned i = 0; i < 20; i++) {
		snprintf(key, sizeof(key), "k%u", i);
		blobs[i] = stage(txn, key, strlen(key));
		put_blob(txn, key, "", blobs[i]);
	}
	commit(txn);
	for (unsigned i = 0; i < 20; i += 3) {
		txn = begin(fx->db);
		snprintf(key, sizeof(key), "again%u", i);
		shared = blobs[i];
		put_blob(txn, key, "", shared);
		snprintf(key, sizeof(key), "k%u", i);
		txn_put(txn, key, "none");
		commit(txn);
	}
	fixture_drain(fx);
	for (size_t n = 1; n < 25; n++) {
		uint64_t problems = 99;

		CU_ASSERT_EQUAL(verify_rows(fx->db, n, NULL, NULL, &problems), 0);
		CU_ASSERT_EQUAL(problems, 0);
	}
	damage_blob(fx, blobs[7], NULL);
	damage_count(fx, shared, 5);
	for (size_t n = 1; n < 25; n++) {
		uint64_t problems = 99;

		CU_ASSERT_EQUAL(verify_rows(fx->db, n, NULL, NULL, &problems), 0);
		CU_ASSERT_EQUAL(problems, 2);
	}
	fixture_close(fx);
}

static void test_what_cannot_be_read_is_a_problem_and_the_rest_is_read(void)
{
	struct mem_engine *mem = mem_engine_new();
	struct fault_engine *fault = fault_engine_new(mem_engine_provider(mem));
	struct engine_provider provider = fault_engine_provider(fault);
	uint64_t problems = 0, moves;
	struct fixture *fx;

	fixture_use(&provider);
	fx = specimen();
	fixture_use(NULL);
	fault_engine_arm(fault, (struct fault_plan){ .kinds = FAULT_MOVE });
	CU_ASSERT_EQUAL(mvcc_verify(fx->db, NULL, NULL, &problems), 0);
	CU_ASSERT_EQUAL(problems, 0);
	moves = fault_engine_calls(fault);
	CU_ASSERT(moves > 50);
	for (uint64_t at = 1; at <= moves;
	     at++) { /* exactly this is told, and nothing that follows from it */
		struct damage d = { .what = "" };
		struct heard heard = { .expected = &d };

		fault_engine_arm(fault, (struct fault_plan){ .kinds = FAULT_MOVE, .at = at, .err = -EIO });
		CU_ASSERT_EQUAL(mvcc_verify(fx->db, hear, &heard, &problems), 0);
		CU_ASSERT_EQUAL(problems, 1);
		CU_ASSERT_PTR_NOT_NULL(strstr(heard.first, "cannot be read on"));
		if (problems != 1)
			fprintf(stderr, "\nmove %llu: %s\n", (unsigned long long)at, heard.first);
	}
	for (uint64_t at = 1; at <= FAM_COUNT; at++) {
		fault_engine_arm(fault, (struct fault_plan){ .kinds = FAULT_ITER, .at = at, .err = -EIO });
		CU_ASSERT_EQUAL(mvcc_verify(fx->db, NULL, NULL, &problems), -EIO);
	}
	fault_engine_disarm(fault);
	fixture_verify(fx);
	fixture_close(fx);
	fault_engine_free(fault);
	mem_engine_free(mem);
}

/* Changes a byte in the middle of the largest file with that ending. */
static bool damage_file(const char *dir, const char *ending)
{
	char path[800], best[800] = "";
	struct dirent *e;
	struct stat st;
	off_t len = 0;
	uint8_t byte;
	DIR *d = opendir(dir);
	int fd;

	while (d && (e = readdir(d))) {
		const char *dot = strrchr(e->d_name, '.');

		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		if (!dot || strcmp(dot, ending) != 0 || stat(path, &st) || st.st_size <= len)
			continue;
		len = st.st_size;
		memcpy(best, path, sizeof(best));
	}
	if (d)
		closedir(d);
	fd = len ? open(best, O_RDWR | O_CLOEXEC) : -1;
	if (fd < 0)
		return false;
	CU_ASSERT_EQUAL(pread(fd, &byte, 1, len / 2), 1);
	byte ^= 0x10;
	CU_ASSERT_EQUAL(pwrite(fd, &byte, 1, len / 2), 1);
	close(fd);
	return true;
}

static void test_a_flipped_bit_in_a_file_is_found(void)
{
	struct fixture *fx = fixture_open();
	char dir[320], engine[340];
	uint64_t problems = 0;
	struct mvcc *copy;

	make_history(fx->db);
	path_in(fx, "copy", dir);
	CU_ASSERT_EQUAL(mvcc_checkpoint(fx->db, dir, NULL), 0); /* whose rows are all in files */
	snprintf(engine, sizeof(engine), "%s/engine", dir);
	CU_ASSERT(damage_file(engine, ".sst"));
	copy = open_at(fx, dir);
	CU_ASSERT_EQUAL(mvcc_verify(copy, NULL, NULL, &problems), 0);
	CU_ASSERT(problems >= 1);
	CU_ASSERT_EQUAL(mvcc_close(copy), 0);
	fixture_close(fx);
}

/* ---------------------------------------------------------------------------------------------- */

static void on_memory(void)
{
	fixture_use(NULL);
}

static void on_rocks(void)
{
	static struct engine_provider provider;

	provider = rocks_provider(&rocks_options);
	fixture_use(&provider);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_the_hash_of_a_history_is_what_it_was),
	UNIT_TEST(test_neither_ring_nor_drain_nor_restart_changes_the_hash),
	UNIT_TEST(test_the_hash_of_buffered_rows_is_that_of_drained_ones),
	UNIT_TEST(test_the_hash_of_a_revision_stays_what_it_was),
	UNIT_TEST(test_any_difference_changes_the_hash),
	UNIT_TEST(test_a_hash_of_what_cannot_be_read_is_an_error),
	UNIT_TEST(test_a_checkpoint_is_a_database_of_its_own),
	UNIT_TEST(test_a_checkpoint_holds_what_was_only_buffered),
	UNIT_TEST(test_a_checkpoint_holds_nothing_of_unfinished_transactions),
	UNIT_TEST(test_a_checkpoint_takes_no_name_that_is_taken),
	UNIT_TEST(test_a_checkpoint_may_be_named_relatively),
	UNIT_TEST(test_a_checkpoint_of_a_checkpoint_is_one),
	UNIT_TEST(test_a_checkpoint_may_lie_on_another_filesystem),
	UNIT_TEST(test_checkpoints_under_load_are_prefixes_of_history),
	UNIT_TEST(test_two_checkpoints_at_once_get_in_nobodys_way),
	UNIT_TEST(test_only_what_a_checkpoint_left_goes_at_the_next_open),
	UNIT_TEST(test_a_sound_store_has_no_problems),
	UNIT_TEST(test_a_store_that_changes_meanwhile_has_no_problems),
	UNIT_TEST(test_verify_stops_when_told),
	UNIT_TEST(test_verify_does_not_keep_a_failed_store_failed),
	UNIT_TEST(test_half_an_entry_below_the_floor_is_no_problem),
	UNIT_TEST(test_blobs_are_counted_whatever_the_table_holds),
	CU_TEST_INFO_NULL,
};

/* The engine makes no difference here, and memory is faster. */
static CU_TestInfo memory_tests[] = {
	UNIT_TEST(test_any_call_of_a_checkpoint_may_fail),
	UNIT_TEST(test_every_damage_is_found_and_named),
	UNIT_TEST(test_what_cannot_be_read_is_a_problem_and_the_rest_is_read),
	CU_TEST_INFO_NULL,
};

/* Only what has files can be copied by files, and survives its process. */
static CU_TestInfo rocks_tests[] = {
	UNIT_TEST(test_a_killed_checkpoint_leaves_nothing_behind),
	UNIT_TEST(test_a_restored_database_is_the_one_it_was_copied_from),
	UNIT_TEST(test_restore_says_what_is_in_its_way),
	UNIT_TEST(test_restore_replaces_what_was_cut_short),
	UNIT_TEST(test_restore_takes_what_only_the_ring_has),
	UNIT_TEST(test_restore_may_cross_filesystems),
	UNIT_TEST(test_a_flipped_bit_in_a_file_is_found),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = {
		UNIT_SUITE("check on memory", on_memory, NULL, tests),
		UNIT_SUITE("check on memory alone", on_memory, NULL, memory_tests),
		UNIT_SUITE("check on rocksdb", on_rocks, NULL, tests),
		UNIT_SUITE("check on rocksdb alone", on_rocks, NULL, rocks_tests),
		CU_SUITE_INFO_NULL,
	};

	if (argc == 3 && strcmp(argv[1], "--commit") == 0)
		return commit_and_vanish(argv[2]);
	if (argc == 4 && strcmp(argv[1], "--victim") == 0)
		return be_the_victim(argv[2], atoi(argv[3]));
	return unit_main(argc, argv, suites);
}
