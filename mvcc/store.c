/*
 * The store as a whole: making one, opening it, bringing it back to where it was, closing it; and
 * what all its parts share: the gate before the engine, the failed state, room on the disk.
 *
 * Opening after a kill: the engine says how far the ring was moved into it (`applied`). The records
 * behind that point are put through the ordinary overlay and drained, each batch moving `applied`, so
 * a kill in the middle changes nothing. Then everything is synced and a new *epoch* begins: a random
 * number, stored with `applied` before the ring is written again, to which the next record is
 * chained. What the ring held before can never be taken for part of the new chain.
 */
#include "mvcc/dir.h"
#include "mvcc/keep_int.h"
#include "mvcc/mvcc_int.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <syslog.h>
#include <unistd.h>

#define SPACE_LOOK_NS (100 * 1000000ull)
#define SPACE_LOOK_BYTES ((uint64_t)4 << 20)
#define RESERVE_MIN ((uint64_t)4 << 20)
#define RESERVE_MAX ((uint64_t)64 << 20)

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int64_t wall_ns(const struct mvcc *db)
{
	struct timespec ts;

	if (db->clock)
		return db->clock(db->clock_arg);
	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void db_log(struct mvcc *db, int priority, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	if (!db->log)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	db->log(db->log_arg, priority, text);
}

/* ---- the gate ----------------------------------------------------------------------------- */

void gate_init(struct gate *g)
{
	atomic_init(&g->inside, 0);
	atomic_init(&g->shut, false);
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->opened, NULL);
}

void gate_release(struct gate *g)
{
	pthread_cond_destroy(&g->opened);
	pthread_mutex_destroy(&g->lock);
}

/* Each side first says what it does and then looks at the other: at least one of them sees it. */
void gate_enter(struct gate *g)
{
	for (;;) {
		atomic_fetch_add(&g->inside, 1);
		if (!atomic_load(&g->shut))
			return;
		atomic_fetch_sub(&g->inside, 1);
		pthread_mutex_lock(&g->lock);
		while (atomic_load(&g->shut))
			pthread_cond_wait(&g->opened, &g->lock);
		pthread_mutex_unlock(&g->lock);
	}
}

void gate_leave(struct gate *g)
{
	atomic_fetch_sub(&g->inside, 1);
}

bool gate_try_shut(struct gate *g)
{
	atomic_store(&g->shut, true);
	if (atomic_load(&g->inside) == 0)
		return true;
	gate_open(g);
	return false;
}

void gate_open(struct gate *g)
{
	pthread_mutex_lock(&g->lock);
	atomic_store(&g->shut, false);
	pthread_cond_broadcast(&g->opened);
	pthread_mutex_unlock(&g->lock);
}

/* ---- failure ------------------------------------------------------------------------------ */

int db_fail(struct mvcc *db, int err)
{
	bool first;

	pthread_mutex_lock(&db->commit_lock);
	first = atomic_load(&db->failed) == 0;
	if (first) {
		atomic_store(&db->failed, err);
		room_wake_locked(db);
	}
	pthread_mutex_unlock(&db->commit_lock);
	if (!first)
		return err;
	keep_interrupt(db);
	db_log(db, LOG_ERR, "writing stopped: %s; reading goes on, and writing will be tried again",
	       mvcc_strerror(err));
	pthread_mutex_lock(&db->work_lock);
	pthread_cond_broadcast(&db->drained_cv);
	pthread_cond_signal(&db->work_cv);
	pthread_mutex_unlock(&db->work_lock);
	return err;
}

int db_write(struct mvcc *db, struct engine_batch *batch, unsigned flags)
{
	int err;

	pthread_rwlock_rdlock(&db->rows_lock);
	err = engine_write(db->engine, batch, ENGINE_NOSYNC);
	pthread_rwlock_unlock(&db->rows_lock);
	if (!err &&
	    flags & ENGINE_SYNC) /* not under the lock: whoever waits to be alone holds up all others */
		err = engine_sync(db->engine);
	return err ? db_fail(db, err) : 0;
}

void rows_freeze(struct mvcc *db)
{
	pthread_mutex_lock(&db->run_lock);
	pthread_rwlock_wrlock(&db->rows_lock);
}

void rows_thaw(struct mvcc *db)
{
	pthread_rwlock_unlock(&db->rows_lock);
	pthread_mutex_unlock(&db->run_lock);
}

/* ---- room on the disk --------------------------------------------------------------------- */

static uint64_t default_reserve(int dir_fd)
{
	struct statvfs st;
	uint64_t share = RESERVE_MAX;

	if (fstatvfs(dir_fd, &st) == 0)
		share = (uint64_t)st.f_blocks * st.f_frsize / 32;
	if (share < RESERVE_MIN)
		share = RESERVE_MIN;
	return share < RESERVE_MAX ? share : RESERVE_MAX;
}

/* Asks the disk. What was promised since the last look is on it by now, or still in the ring. */
static void space_look_locked(struct mvcc *db, uint64_t now)
{
	struct statvfs st;

	db->space_free = fstatvfs(db->dir_fd, &st) == 0 ? (uint64_t)st.f_bavail * st.f_frsize : UINT64_MAX;
	db->space_stamp_ns = now;
	db->space_taken = 0;
}

uint64_t space_free(struct mvcc *db)
{
	struct statvfs st;

	if (db->disk_free)
		return db->disk_free(db->disk_free_arg);
	return fstatvfs(db->dir_fd, &st) == 0 ? (uint64_t)st.f_bavail * st.f_frsize : UINT64_MAX;
}

int space_admit(struct mvcc *db, uint64_t bytes, bool growing)
{
	uint64_t reserve = growing ? db->reserve_bytes : db->reserve_bytes / 4;
	uint64_t waiting = atomic_load(&db->head_pos) - atomic_load(&db->ring.tail);
	uint64_t now = now_ns(), need;
	bool fresh = false, room;

	pthread_mutex_lock(&db->space_lock);
	if (now - db->space_stamp_ns > SPACE_LOOK_NS || db->space_taken > SPACE_LOOK_BYTES) {
		space_look_locked(db, now);
		fresh = true;
	}
	/* what waits takes its size in the engine's log, and again in its tables */
	need = bytes + 2 * waiting;
	room = db->space_free >= db->space_taken + need && db->space_free - db->space_taken - need >= reserve;
	if (!room && !fresh) {
		space_look_locked(db, now);
		room = db->space_free >= need && db->space_free - need >= reserve;
	}
	if (room)
		db->space_taken += bytes;
	pthread_mutex_unlock(&db->space_lock);
	return room ? 0 : -ENOSPC;
}

bool space_recovered(struct mvcc *db)
{
	uint64_t wanted = db->reserve_bytes < RESERVE_MAX ? db->reserve_bytes : RESERVE_MAX;
	struct statvfs st;

	if (fstatvfs(db->dir_fd, &st))
		return true;
	return (uint64_t)st.f_bavail * st.f_frsize >= wanted / 4;
}

/* ---- replay ------------------------------------------------------------------------------- */

/* Was the row written last of the run, or, of an ordinary commit, its last own blob? Then all were. */
static int commit_is_whole(struct mvcc *db, const struct commit_head *head, bool *whole)
{
	struct slice ops = head->ops;
	mvcc_blob_t newest = 0;
	struct op op;
	int err = 0;

	*whole = true;
	if (head->run) {
		struct engine_pin pin = { 0 };
		uint8_t key[8];

		put_be64(key, head->run);
		err = engine_get(db->engine, FAM_STAGE, slice_of(key, sizeof(key)), &pin);
		engine_pin_release(db->engine, &pin);
		*whole = err == 0;
		return err == -ENOENT ? 0 : err;
	}
	while (op_take(&ops, &op)) {
		struct record rec;
		mvcc_blob_t blob;
		bool own;

		if ((op.flags & OP_DEL) || record_decode(op.record, &rec))
			continue;
		while (record_blob_take(&rec.blobs, &blob, &own))
			if (own && blob > newest)
				newest = blob;
	}
	if (newest)
		*whole = blob_present(db, newest, &err);
	return err;
}

/* Takes a commit from the ring. 1: history ends before it. */
static int replay_commit(struct mvcc *db, struct slice payload, struct ring_at after)
{
	struct generation *gen;
	struct commit_head head;
	struct slice settled;
	uint64_t intent;
	bool whole;
	int err = commit_head_decode(payload, &head);

	if (!err && head.rev != atomic_load(&db->current) + 1)
		err = MVCC_ECORRUPT;
	if (!err)
		err = commit_is_whole(db, &head, &whole);
	if (err || !whole)
		return err ? err : 1;
	err = target_locked(db, head.rev, head.run, head.ops, &gen);
	if (err)
		return err;
	db->ring.head = after;
	ops_insert(gen, head.rev, head.ops);
	target_taken_locked(db, gen, head.rev, head.time_ns);
	settled = head.settled;
	while (take_varint(&settled, &intent))
		intent_forget(db, intent);
	atomic_store(&db->current, head.rev);
	db->replayed++;
	return 0;
}

static int replay_record(struct mvcc *db, uint32_t type, struct slice payload, struct ring_at after)
{
	int err = 0;

	switch (type) {
	case RING_COMMIT:
		return replay_commit(db, payload, after);
	case RING_INTENT:
		err = intent_remember(db, after.seq, payload);
		break;
	case RING_INTENT_DROP:
		if (payload.len != 8)
			return MVCC_ECORRUPT;
		intent_forget(db, get_le64(payload.data));
		break;
	case RING_LEASE:
		err = lease_remember(db, payload);
		break;
	case RING_LEASE_DROP:
		if (payload.len != 8)
			return MVCC_ECORRUPT;
		lease_forget(db, get_le64(payload.data));
		break;
	default:
		return MVCC_ECORRUPT;
	}
	db->ring.head = after;
	db->active->end = after;
	return err;
}

static int drain_sealed(struct mvcc *db, unsigned keep)
{
	int err = 0;

	while (!err) {
		struct gen_set *set = overlay_ref(&db->overlay);
		unsigned n = set->n;

		gen_set_unref(set);
		if (n <= keep)
			break;
		err = drain_last(db);
	}
	return err;
}

/*
 * A run was being moved, in several batches, and the first one is there: the rest follows, whatever became of the
 * ring. After it the ring goes on, if it has more.
 */
static int resume_run(struct mvcc *db)
{
	struct engine_pin pin = { 0 };
	struct applied after;
	struct slice payload;
	int err = engine_get(db->engine, FAM_META, slice_str(META_MOVING), &pin);

	if (err)
		return err == -ENOENT ? 0 : err;
	err = moving_decode(pin.value, &after, &payload);
	if (!err)
		err = buf_copy(&db->moving, payload);
	engine_pin_release(db->engine, &pin);
	if (!err && after.seq != db->ring.head.seq + 1)
		err = MVCC_ECORRUPT;
	if (!err)
		err = replay_commit(db, slice_buf(&db->moving),
				    (struct ring_at){ after.pos, after.seq, after.check });
	if (!err)
		err = drain_sealed(db, 1);
	buf_release(&db->moving);
	return err == 1 ? MVCC_ECORRUPT : err; /* rows went before what they need: the engine lost order */
}

/* Puts what the ring holds behind `applied` into the engine. No thread runs yet. */
static int replay(struct mvcc *db)
{
	struct ring_at at = db->ring.head;
	struct slice payload;
	uint32_t type;
	int err = 0;

	while (!err && ring_next(&db->ring, &at, &type, &payload)) {
		err = replay_record(db, type, payload, at);
		if (!err && db->active->end.pos - db->active->begin.pos >= SEAL_BYTES)
			err = seal_locked(db);
		if (!err)
			err = drain_sealed(db, 1);
	}
	if (err == 1) {
		db_log(db, LOG_WARNING,
		       "a power cut took the data of revision %llu: the history ends before it",
		       (unsigned long long)atomic_load(&db->current) + 1);
		err = 0;
	}
	if (!err)
		err = seal_locked(db);
	if (!err)
		err = drain_sealed(db, 1);
	return err;
}

/* Removes what is left of runs that were never committed. */
static int sweep_stage(struct mvcc *db)
{
	static const uint8_t last[9] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	static const uint8_t first[8];
	struct engine_batch *batch = NULL;
	struct engine_iter *it;
	int err = engine_iter_new(db->engine, FAM_STAGE, slice_of(NULL, 0), slice_of(NULL, 0), &it);
	bool any;

	if (err)
		return err;
	any = engine_iter_seek(it, slice_of(first, sizeof(first)));
	if (!any)
		err = engine_iter_error(it);
	engine_iter_free(it);
	if (err || !any)
		return err;
	batch = engine_batch_new(db->engine);
	err = batch ? 0 : -ENOMEM;
	if (!err)
		err = engine_batch_del_range(batch, FAM_STAGE, slice_of(first, sizeof(first)),
					     slice_of(last, sizeof(last)));
	if (!err)
		err = engine_write(db->engine, batch, ENGINE_NOSYNC);
	engine_batch_free(batch);
	return err;
}

static int random_u64(uint64_t *out)
{
	return getrandom(out, sizeof(*out), 0) == (ssize_t)sizeof(*out) ? 0 : -EIO;
}

/* Begins an epoch: from here on the ring is chained to a number that was never used before. */
static int begin_epoch(struct mvcc *db, struct engine_batch *batch, mvcc_rev_t rev)
{
	struct applied applied = {
		.seq = db->ring.head.seq, .pos = db->ring.head.pos, .rev = rev, .time_ns = db->last_time_ns
	};
	struct ring_at at;
	struct buf row = { 0 };
	int err = random_u64(&applied.check);

	if (!err)
		err = applied_encode(&row, &applied);
	if (!err)
		err = engine_batch_put(batch, FAM_META, slice_str(META_APPLIED), slice_buf(&row));
	buf_release(&row);
	if (!err)
		err = engine_write(db->engine, batch, ENGINE_SYNC);
	if (err)
		return err;
	at = (struct ring_at){ .pos = applied.pos, .seq = applied.seq, .check = applied.check };
	ring_start(&db->ring, at);
	db->active->begin = db->active->end = db->ring.head;
	db->engine_seq = at.seq;
	atomic_store(&db->head_seq, at.seq);
	atomic_store(&db->head_pos, at.pos);
	atomic_store(&db->applied_seq, at.seq);
	atomic_store(&db->synced_seq, at.seq);
	atomic_store(&db->synced, rev);
	db->sync_due_ns = 0;
	return 0;
}

/* ---- open --------------------------------------------------------------------------------- */

static void families_init(struct mvcc *db)
{
	db->families[FAM_META] = (struct engine_family){ .name = "default", .use = ENGINE_USE_META };
	db->families[FAM_LATEST] = (struct engine_family){ .name = "latest", .use = ENGINE_USE_POINT };
	db->families[FAM_HIST] = (struct engine_family){ .name = "hist",
							 .use = ENGINE_USE_PREFIX,
							 .prefix_len = hist_prefix_len };
	db->families[FAM_LOG] = (struct engine_family){ .name = "log", .use = ENGINE_USE_APPEND };
	db->families[FAM_BLOB] = (struct engine_family){ .name = "blob", .use = ENGINE_USE_BLOB };
	db->families[FAM_STAGE] = (struct engine_family){ .name = "stage", .use = ENGINE_USE_STAGE };
	db->families[FAM_ENDED] = (struct engine_family){ .name = "ended", .use = ENGINE_USE_STAGE };
	db->families[FAM_LEASE] = (struct engine_family){ .name = "lease", .use = ENGINE_USE_POINT };
}

void cond_init(pthread_cond_t *cv)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cv, &attr);
	pthread_condattr_destroy(&attr);
}

void rwlock_init_fair(pthread_rwlock_t *lock)
{
	pthread_rwlockattr_t attr;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(lock, &attr);
	pthread_rwlockattr_destroy(&attr);
}

static struct mvcc *db_new(const struct mvcc_options *opt)
{
	struct mvcc *db = calloc(1, sizeof(*db));
	struct generation *first = generation_new();

	if (db) {
		db->keep = keep_new(opt);
		db->watching = watching_new(db);
	}
	if (!db || !db->keep || !db->watching || !first || overlay_init(&db->overlay, first)) {
		generation_unref(first);
		keep_free(db ? db->keep : NULL);
		if (db)
			watching_free(db->watching);
		free(db);
		return NULL;
	}
	db->dir_fd = db->lock_fd = -1;
	db->active = first;
	db->provider = opt->engine;
	db->log = opt->log;
	db->log_arg = opt->log_arg;
	db->clock = opt->clock;
	db->clock_arg = opt->clock_arg;
	db->committed = opt->committed;
	db->committed_arg = opt->committed_arg;
	db->sync_ns = (opt->sync_ms ? opt->sync_ms : 1000) * 1000000ull;
	db->next_blob = 1;
	families_init(db);
	keep_families(db);
	gate_init(&db->gate);
	lessor_init(&db->lessor);
	TAILQ_INIT(&db->turns);
	STAILQ_INIT(&db->syncs);
	STAILQ_INIT(&db->rooms);
	STAILQ_INIT(&db->notices);
	LIST_INIT(&db->views);
	LIST_INIT(&db->stagers);
	LIST_INIT(&db->intents);
	LIST_INIT(&db->counters);
	pthread_mutex_init(&db->commit_lock, NULL);
	pthread_mutex_init(&db->work_lock, NULL);
	pthread_mutex_init(&db->views_lock, NULL);
	pthread_mutex_init(&db->blob_lock, NULL);
	pthread_mutex_init(&db->refs_lock, NULL);
	pthread_mutex_init(&db->intent_lock, NULL);
	pthread_mutex_init(&db->counter_lock, NULL);
	pthread_mutex_init(&db->space_lock, NULL);
	pthread_mutex_init(&db->checkpoint_lock, NULL);
	pthread_mutex_init(&db->step_lock, NULL);
	pthread_mutex_init(&db->policy_lock, NULL);
	pthread_mutex_init(&db->run_lock, NULL);
	rwlock_init_fair(&db->rows_lock);
	cond_init(&db->room_cv);
	cond_init(&db->work_cv);
	cond_init(&db->drained_cv);
	cond_init(&db->sync_cv);
	cond_init(&db->notify_cv);
	return db;
}

/* Frees a store, opened or half opened. What is not in the engine stays in the ring. */
static void db_free(struct mvcc *db)
{
	struct stager *stager;

	lessor_stop(db); /* first, as it commits */
	keep_stop(db);
	threads_stop(db);
	watching_free(db->watching);
	overlay_release(&db->overlay);
	engine_close(db->engine);
	keep_free(db->keep);
	ring_unmap(&db->ring);
	window_release(&db->window);
	buf_release(&db->scratch);
	intents_release(db);
	lessor_release(&db->lessor);
	while ((stager = LIST_FIRST(&db->stagers))) {
		LIST_REMOVE(stager, link);
		free(stager);
	}
	if (db->lock_fd >= 0)
		close(db->lock_fd); /* the lock goes with it, and last of all */
	if (db->dir_fd >= 0)
		close(db->dir_fd);
	gate_release(&db->gate);
	pthread_mutex_destroy(&db->commit_lock);
	pthread_mutex_destroy(&db->work_lock);
	pthread_mutex_destroy(&db->views_lock);
	pthread_mutex_destroy(&db->blob_lock);
	pthread_mutex_destroy(&db->refs_lock);
	pthread_mutex_destroy(&db->intent_lock);
	pthread_mutex_destroy(&db->counter_lock);
	pthread_mutex_destroy(&db->space_lock);
	pthread_mutex_destroy(&db->checkpoint_lock);
	pthread_mutex_destroy(&db->step_lock);
	pthread_mutex_destroy(&db->policy_lock);
	pthread_mutex_destroy(&db->run_lock);
	pthread_rwlock_destroy(&db->rows_lock);
	pthread_cond_destroy(&db->room_cv);
	pthread_cond_destroy(&db->work_cv);
	pthread_cond_destroy(&db->drained_cv);
	pthread_cond_destroy(&db->sync_cv);
	pthread_cond_destroy(&db->notify_cv);
	free(db);
}

/* May the directory be opened, and has a database to be made in it? */
static int judge(const char *dir, bool create, bool *make, bool *absent)
{
	enum dir_kind kind;
	unsigned format;
	int err = dir_classify(dir, &kind, &format);

	if (err)
		return err;
	*absent = kind == DIR_ABSENT;
	*make = kind != DIR_DB;
	switch (kind) {
	case DIR_DB:
		return format == FORMAT_KNOWN ? 0 : MVCC_EFORMAT;
	case DIR_STRANGE:
		return MVCC_ENODB;
	case DIR_ABSENT:
	case DIR_EMPTY:
	case DIR_HALF:
		break;
	}
	return create ? 0 : -ENOENT;
}

/* Opens and locks the directory, made if need be. Nothing in it is touched before the lock is held. */
static int enter_dir(struct mvcc *db, const struct mvcc_options *opt, bool *make)
{
	bool absent, made;
	int err = judge(opt->dir, opt->create, make, &absent);

	if (err)
		return err;
	made = absent;
	if (absent && mkdir(opt->dir, 0700) && errno != EEXIST)
		return -errno;
	db->dir_fd = open(opt->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (db->dir_fd < 0)
		return -errno;
	err = dir_lock(db->dir_fd, opt->holder, &db->lock_fd);
	if (!err && made)
		err = dir_sync_parent(db->dir_fd);
	if (!err) /* somebody may have made it between the look and the lock */
		err = judge(opt->dir, opt->create, make, &absent);
	if (!err && *make)
		err = dir_wipe(db->dir_fd);
	if (!err && *make && mkdirat(db->dir_fd, "engine", 0700))
		err = -errno;
	return err;
}

static int open_engine(struct mvcc *db, const struct mvcc_options *opt)
{
	char real[PATH_MAX], path[PATH_MAX];

	if (!realpath(opt->dir, real)) /* the caller may change its directory while the store is open */
		return -errno;
	if (snprintf(path, sizeof(path), "%s/engine", real) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	return opt->engine.open(opt->engine.arg, path, db->families, FAM_COUNT, &db->engine);
}

int meta_get_u64(struct mvcc *db, const char *name, uint64_t *out)
{
	struct engine_pin pin = { 0 };
	int err = engine_get(db->engine, FAM_META, slice_str(name), &pin);

	if (!err && pin.value.len != 8)
		err = MVCC_ECORRUPT;
	if (!err)
		*out = get_le64(pin.value.data);
	engine_pin_release(db->engine, &pin);
	return err;
}

int meta_put_u64(struct engine_batch *batch, const char *name, uint64_t value)
{
	uint8_t raw[8];

	put_le64(raw, value);
	return engine_batch_put(batch, FAM_META, slice_str(name), slice_of(raw, sizeof(raw)));
}

static int load_applied(struct mvcc *db, struct applied *out)
{
	struct engine_pin pin = { 0 };
	int err = engine_get(db->engine, FAM_META, slice_str(META_APPLIED), &pin);

	if (!err)
		err = applied_decode(pin.value, out);
	engine_pin_release(db->engine, &pin);
	return err;
}

static size_t ring_bytes_of(const struct mvcc_options *opt)
{
	return opt->ring_bytes ? opt->ring_bytes : RING_BYTES_DEFAULT;
}

/* The first rows of a fresh store, which stands at revision 0 until its first commit. */
static int make_rows(struct mvcc *db, const struct mvcc_options *opt)
{
	struct engine_batch *batch = NULL;
	int err = random_u64(&db->incarnation);

	if (!err)
		err = ring_create(db->dir_fd, RING_NAME, ring_bytes_of(opt), db->incarnation);
	if (!err)
		err = ring_map(&db->ring, db->dir_fd, RING_NAME, db->incarnation);
	if (err)
		return err;
	batch = engine_batch_new(db->engine);
	err = batch ? meta_put_u64(batch, META_STORE, db->incarnation) : -ENOMEM;
	if (!err)
		err = meta_put_u64(batch, META_FLOOR, MVCC_REV_FIRST);
	if (!err)
		err = begin_epoch(db, batch, 0);
	engine_batch_free(batch);
	return err;
}

/* The ring of an existing store. A lost one cannot be replayed, which is said, but holds up nobody. */
static int map_ring(struct mvcc *db, const struct mvcc_options *opt)
{
	int err = ring_map(&db->ring, db->dir_fd, RING_NAME, db->incarnation);

	if (err != -ENOENT && err != MVCC_ECORRUPT)
		return err;
	db_log(db, LOG_WARNING, "the ring is %s: revisions not yet moved to the engine are lost",
	       err == -ENOENT ? "missing" : "damaged");
	err = ring_create(db->dir_fd, RING_NAME, ring_bytes_of(opt), db->incarnation);
	return err ? err : ring_map(&db->ring, db->dir_fd, RING_NAME, db->incarnation);
}

/* A ring of another size than asked for is made anew, once nothing in it is needed. */
static int resize_ring(struct mvcc *db, const struct mvcc_options *opt)
{
	struct ring_at head = db->ring.head;
	int err;

	if (!opt->ring_bytes || opt->ring_bytes == db->ring.size)
		return 0;
	err = engine_sync(db->engine);
	if (!err)
		err = ring_create(db->dir_fd, RING_NAME, opt->ring_bytes, db->incarnation);
	if (err)
		return err;
	ring_unmap(&db->ring);
	err = ring_map(&db->ring, db->dir_fd, RING_NAME, db->incarnation);
	if (!err)
		ring_start(&db->ring, head);
	return err;
}

static int load_rows(struct mvcc *db, const struct mvcc_options *opt)
{
	struct engine_batch *batch = NULL;
	struct applied applied;
	int err = meta_get_u64(db, META_STORE, &db->incarnation);

	if (!err)
		err = load_applied(db, &applied);
	if (err)
		return err == -ENOENT ? MVCC_ECORRUPT : err;
	err = map_ring(db, opt);
	if (err)
		return err;
	atomic_store(&db->current, applied.rev);
	atomic_store(&db->applied, applied.rev);
	atomic_store(&db->applying, applied.rev);
	atomic_store(&db->applied_seq, applied.seq);
	db->engine_seq = applied.seq;
	db->last_time_ns = applied.time_ns;
	ring_start(&db->ring, (struct ring_at){ applied.pos, applied.seq, applied.check });
	db->active->begin = db->active->end = db->ring.head;
	db->active->last_rev = applied.rev;
	db->active->last_time_ns = applied.time_ns;

	err = blob_load(db);
	if (!err)
		err = keep_load(db);
	if (!err)
		err = purges_load(db);
	if (!err)
		err = intents_load(db);
	if (!err)
		err = counters_load(db);
	if (!err)
		err = leases_load(db);
	if (!err)
		err = resume_run(db);
	if (!err)
		err = replay(db);
	if (!err)
		err = resize_ring(db, opt);
	if (!err && !(batch = engine_batch_new(db->engine)))
		err = -ENOMEM;
	if (!err)
		err = begin_epoch(db, batch, atomic_load(&db->current));
	if (!err)
		err = sweep_stage(db);
	if (!err)
		err = blob_open(db);
	if (!err)
		err = checkpoints_sweep(db);
	if (!err)
		err = policy_load(db);
	engine_batch_free(batch);
	return err;
}

/* Commits revision 1, and declares the store made. */
static int make_first_revision(struct mvcc *db, const struct mvcc_options *opt)
{
	struct mvcc_story story = { .op = "init" };
	struct mvcc_txn *txn;
	int err = mvcc_txn_begin(db, &txn);

	if (err)
		return err;
	if (opt->init)
		err = opt->init(opt->init_arg, txn);
	if (err) {
		mvcc_txn_abort(txn);
		return err;
	}
	err = txn_commit_always(txn, &story, NULL);
	if (!err)
		err = mvcc_sync(db, MVCC_REV_LATEST);
	if (!err) {
		atomic_store(&db->floor, MVCC_REV_FIRST);
		atomic_store(&db->n_commits, 0); /* figures begin with the store made */
		err = dir_write_format(db->dir_fd, FORMAT_KNOWN);
	}
	return err;
}

static bool ring_bytes_are_legal(size_t n)
{
	return n == 0 || (n >= RING_BYTES_MIN && (n & (n - 1)) == 0 && n <= (size_t)1 << 40);
}

int mvcc_open(const struct mvcc_options *opt, struct mvcc **out)
{
	struct mvcc *db;
	bool make = false;
	int err;

	if (!ring_bytes_are_legal(opt->ring_bytes))
		return -EINVAL;
	db = db_new(opt);
	if (!db)
		return -ENOMEM;
	err = enter_dir(db, opt, &make);
	if (!err)
		err = open_engine(db, opt);
	if (!err) {
		db->reserve_bytes = opt->reserve_bytes ? opt->reserve_bytes : default_reserve(db->dir_fd);
		err = make ? make_rows(db, opt) : load_rows(db, opt);
	}
	if (!err) {
		db->spill_bytes = db->ring.size / 16 < SPILL_BYTES_MAX ? db->ring.size / 16 : SPILL_BYTES_MAX;
		window_init(&db->window, atomic_load(&db->current));
		err = threads_start(db);
	}
	if (!err && make)
		err = make_first_revision(db, opt);
	if (!err)
		err = keep_start(db, opt->manual_upkeep);
	if (!err && !opt->manual_upkeep)
		err = lessor_start(db);
	if (err) {
		db_free(db);
		return err;
	}
	*out = db;
	return 0;
}

/* ---- close -------------------------------------------------------------------------------- */

/* What the next open need not find out: the exact counters, and that no blob is without its fate. */
static int write_last_rows(struct mvcc *db)
{
	struct engine_batch *batch = engine_batch_new(db->engine);
	int err = batch ? counters_store(db, batch) : -ENOMEM;

	if (!err)
		err = blob_low_put(db, batch, atomic_load(&db->applied), NULL);
	if (!err)
		err = engine_write(db->engine, batch, ENGINE_SYNC);
	engine_batch_free(batch);
	return err;
}

int mvcc_close(struct mvcc *db)
{
	int err;

	if (!db)
		return 0;
	lessor_stop(db);
	keep_stop(db);
	err = mvcc_sync(db, MVCC_REV_LATEST);
	threads_stop(db);
	if (!err)
		err = write_last_rows(db);
	db_free(db);
	return err;
}

/* ---- figures ------------------------------------------------------------------------------ */

mvcc_rev_t mvcc_current(struct mvcc *db)
{
	return atomic_load(&db->current);
}

mvcc_rev_t mvcc_floor(struct mvcc *db)
{
	return atomic_load(&db->floor);
}

void mvcc_stats(struct mvcc *db, struct mvcc_stats *out)
{
	struct gen_set *set = overlay_ref(&db->overlay);
	struct mvcc_stats s = {
		.current = atomic_load(&db->current),
		.applied = atomic_load(&db->applied),
		.synced = atomic_load(&db->synced),
		.floor = atomic_load(&db->floor),
		.commits = atomic_load(&db->n_commits),
		.conflicts = atomic_load(&db->n_conflicts),
		.syncs = atomic_load(&db->n_syncs),
		.drains = atomic_load(&db->n_drains),
		.ring_bytes = db->ring.size,
		.blobs_staged = atomic_load(&db->n_blobs),
		.blob_bytes_staged = atomic_load(&db->n_blob_bytes),
		.replayed = db->replayed,
		.failed = atomic_load(&db->failed),
	};

	histogram_read(&db->h_commit, &s.commit);
	histogram_read(&db->h_drain, &s.drain);
	histogram_read(&db->h_sync, &s.sync);
	histogram_read(&db->h_compact, &s.compact);
	for (unsigned i = 0; i < set->n; i++)
		s.buffered_rows += atomic_load(&set->gens[i]->mt.count);
	gen_set_unref(set);
	pthread_mutex_lock(&db->commit_lock);
	s.ring_used = ring_used(&db->ring);
	pthread_mutex_unlock(&db->commit_lock);
	pthread_mutex_lock(&db->views_lock);
	s.views = db->nviews;
	keep_stats_locked(db, &s);
	pthread_mutex_unlock(&db->views_lock);
	lessor_stats(&db->lessor, &s);
	s.watches = watch_count(db);
	gate_enter(&db->gate);
	engine_stats_get(db->engine, &s.engine);
	gate_leave(&db->gate);
	*out = s;
}
