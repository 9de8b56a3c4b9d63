/*
 * The keeper: gives back what the floor and the pins have left behind.
 *
 * It works in passes. A pass moves the horizon as far as views allow; takes from the family `ended` the
 * records with blobs that ended up to there, and releases the blobs of those that no kept revision sees
 * (the others are put aside, under the newest one that does); does the same with what was put aside for
 * pins that are gone; has the engine rewrite the families that lost something; and writes down how far it
 * came. A kill at any moment is made good by the next pass: each step is one batch of the engine, and what
 * is not written down as done is done again.
 *
 * A transaction may take a reference to a blob from a record it can see while another commit ends that
 * record. Its view then keeps the horizon below the end until it is committed. So the order of a pass is:
 * first the horizon, then all that was committed by now is drained, and counted with it, then blobs go.
 */
#include "mvcc/keep_int.h"
#include "mvcc/lease_int.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <syslog.h>

#define STEP_ROWS 1000u
#define STEP_BYTES ((size_t)1 << 20)
#define ROUNDS_MAX 8u /* of one pass, while the horizon rises under its feet */
#define CLOCK_LOOK_NS (100 * 1000000ull)
#define RETRY_MAX_NS (64 * RETRY_NS)

/* ---- one step through `ended` ------------------------------------------------------------- */

struct step {
	struct mvcc *db;
	struct engine_batch *batch;
	struct buf pos; /* the row to begin with */
	struct buf key, row;
	struct blob_ids ids; /* of blobs to be referred to once less, each time */
	size_t rows, bytes;
	mvcc_blob_t first, last; /* of those freed; 0: none */
	uint64_t freed;
	bool more;
};

static void step_release(struct step *s)
{
	engine_batch_free(s->batch);
	buf_release(&s->pos);
	buf_release(&s->key);
	buf_release(&s->row);
	free(s->ids.v);
}

/* A record that ended: put aside for the newest kept revision that sees it, or its blobs are released. */
static int take_row(struct step *s, struct slice key, struct slice value)
{
	struct slice blobs, user_key;
	mvcc_rev_t end, mod, kept;
	mvcc_blob_t blob;
	bool own;
	int err = ended_key_decode(key, &end, &user_key);

	if (!err)
		err = ended_decode(value, &mod, &blobs);
	if (!err)
		err = engine_batch_del(s->batch, FAM_ENDED, key);
	if (err)
		return err;
	s->rows++;
	s->bytes += key.len + value.len;
	kept = ended_is_purged(key) ? 0 : keep_holds(s->db->keep, mod, end);
	if (kept) {
		err = ended_key(&s->key, kept, end, user_key);
		return err ? err : engine_batch_put(s->batch, FAM_ENDED, slice_buf(&s->key), value);
	}
	while (!err && record_blob_take(&blobs, &blob, &own))
		err = blob_ids_add(&s->ids, blob);
	return err;
}

static int free_blob(struct step *s, mvcc_blob_t blob)
{
	int err = id_key(&s->key, blob);

	if (!s->first || blob < s->first)
		s->first = blob;
	if (blob > s->last)
		s->last = blob;
	s->freed++;
	return err ? err : engine_batch_del(s->batch, FAM_BLOB, slice_buf(&s->key));
}

/* The last reference goes with the blob. */
static int lower_count(struct step *s, mvcc_blob_t blob, uint64_t by)
{
	uint64_t count;
	int err = blob_count_get(s->db, blob, &s->key, &count);

	if (!err && count < by)
		err = MVCC_ECORRUPT;
	if (!err)
		err = blob_count_put(s->batch, slice_buf(&s->key), count - by);
	return err || count > by ? err : free_blob(s, blob);
}

/* Before the write, which may be there though it fails. */
static void note_owed(struct keep *k, const struct step *s)
{
	k->owed.ended = true;
	if (!s->freed)
		return;
	if (!k->owed.blob_first || s->first < k->owed.blob_first)
		k->owed.blob_first = s->first;
	if (s->last > k->owed.blob_last)
		k->owed.blob_last = s->last;
}

/* Several rows of the step may refer to one blob: it is counted down once, by all of them. */
static int write_step(struct step *s)
{
	struct mvcc *db = s->db;
	int err = 0;

	blob_ids_sort(&s->ids);
	pthread_mutex_lock(&db->refs_lock);
	for (size_t i = 0, n; !err && i < s->ids.n; i += n) {
		n = blob_ids_same(&s->ids, i);
		err = lower_count(s, s->ids.v[i], n);
	}
	note_owed(db->keep, s);
	if (!err)
		err = db_write(db, s->batch, ENGINE_NOSYNC);
	pthread_mutex_unlock(&db->refs_lock);
	return err;
}

/* Takes some rows from s->pos on, and moves that to the next one. */
static int take_rows(struct step *s, struct slice end)
{
	struct engine_iter *it;
	bool on_row;
	int err = engine_iter_new(s->db->engine, FAM_ENDED, slice_buf(&s->pos), end, &it);

	if (err)
		return err;
	on_row = engine_iter_seek(it, slice_buf(&s->pos));
	while (on_row && !err && s->rows < STEP_ROWS && s->ids.n < STEP_ROWS && s->bytes < STEP_BYTES) {
		err = take_row(s, it->key, it->value);
		if (!err)
			on_row = engine_iter_next(it);
	}
	s->more = on_row;
	if (!err)
		err = on_row ? buf_copy(&s->pos, it->key) : engine_iter_error(it);
	engine_iter_free(it);
	return err;
}

/* One batch. Caller holds pass_lock. */
static int do_step(struct step *s, struct slice end)
{
	struct mvcc *db = s->db;
	uint64_t begun_ns = now_ns();
	int err;

	s->rows = s->bytes = s->ids.n = 0;
	s->first = s->last = s->freed = 0;
	gate_enter(&db->gate);
	err = atomic_load(&db->failed);
	if (!err && !s->batch && !(s->batch = engine_batch_new(db->engine)))
		err = -ENOMEM;
	if (!err)
		err = take_rows(s, end);
	if (!err && s->rows)
		err = write_step(s);
	if (!err)
		histogram_add(&db->h_compact, now_ns() - begun_ns);
	if (!err)
		atomic_fetch_add_explicit(&db->keep->n_blobs_freed, s->freed, memory_order_relaxed);
	/* batches do not outlive a reopening of the engine, so none is kept outside the gate */
	engine_batch_free(s->batch);
	s->batch = NULL;
	gate_leave(&db->gate);
	return err;
}

/* Sleeps as long as `bytes` may take, or until something ends the pass. */
static void pace(struct keep *k, uint64_t bytes, uint64_t start_ns)
{
	struct timespec pause = { .tv_nsec = 5 * 1000 * 1000 };
	double due_ns = (double)bytes / (double)k->bytes_per_s * 1e9;

	while ((double)(now_ns() - start_ns) < due_ns && !atomic_load(&k->interrupt))
		nanosleep(&pause, NULL);
}

/* Why the pass cannot go on, or 0. */
static int interrupted(struct mvcc *db)
{
	int failed = atomic_load(&db->failed);

	return atomic_load(&db->keep->stop) ? -ECANCELED : failed;
}

/* Goes through the rows from s->pos on. */
static int walk_rows(struct step *s, struct slice end)
{
	int err = 0;

	s->more = true;
	while (!err && s->more) {
		uint64_t start_ns = now_ns();

		err = interrupted(s->db);
		if (!err)
			err = do_step(s, end);
		if (!err && s->more)
			pace(s->db->keep, 2 * s->bytes, start_ns);
	}
	return err;
}

/* Goes through the rows put aside for `at` (or ENDED_NEW) that ended before `end_rev`. */
static int walk(struct mvcc *db, mvcc_rev_t at, mvcc_rev_t end_rev)
{
	struct step s = { .db = db };
	struct buf end = { 0 };
	int err = ended_key_start(&s.pos, at, 0);

	if (!err)
		err = ended_key_start(&end, at, end_rev);
	if (!err)
		err = walk_rows(&s, slice_buf(&end));
	step_release(&s);
	buf_release(&end);
	return err;
}

int keep_release_purged(struct mvcc *db, mvcc_rev_t rev)
{
	struct step s = { .db = db };
	struct buf end = { 0 };
	int err = ended_key_purged(&s.pos, rev, 0, slice_of(NULL, 0));

	if (!err)
		err = ended_key_purged(&end, rev + 1, 0, slice_of(NULL, 0));
	if (!err)
		err = walk_rows(&s, slice_buf(&end));
	step_release(&s);
	buf_release(&end);
	return err;
}

/* ---- a pass ------------------------------------------------------------------------------- */

static bool has_work(const struct keep *k, const struct pass *p)
{
	return p->horizon > atomic_load(&k->compacted) || p->todo.n || k->owed.hist || k->owed.log ||
	       k->owed.ended || k->owed.blob_first || purges_wait(k);
}

static int release(struct mvcc *db, const struct pass *p)
{
	int err = drain_to(db, atomic_load(&db->head_seq)); /* after the horizon was taken: see above */

	if (!err)
		err = walk(db, ENDED_NEW, p->horizon + 1);
	for (size_t i = 0; !err && i < p->todo.n; i++)
		err = walk(db, p->todo.v[i], REV_LIMIT);
	return err;
}

/*
 * Releases blobs, for the horizon as it is, and then for as far as it has come meanwhile: that costs little,
 * and may save another rewrite. What the pass is about in the end is what was walked through.
 */
static int release_all(struct mvcc *db, struct pass *p)
{
	struct pass next = { .horizon = 0 };
	int err = release(db, p);

	for (unsigned round = 1; !err && round < ROUNDS_MAX; round++) {
		struct revs todo = p->todo;

		err = keep_look(db, &next);
		if (err || next.horizon == p->horizon)
			break;
		*p = next;
		next.todo = todo;
		err = release(db, p);
	}
	free(next.todo.v);
	return err;
}

int keep_rewrite(struct mvcc *db, unsigned family, struct slice start, struct slice end)
{
	struct keep *k = db->keep;
	uint64_t begun_ns = now_ns();
	int err;

	gate_enter(&db->gate);
	err = interrupted(db);
	if (!err)
		err = engine_rewrite(db->engine, family, start, end, k->bytes_per_s, &k->interrupt);
	gate_leave(&db->gate);
	if (!err)
		histogram_add(&db->h_compact, now_ns() - begun_ns);
	if (err == -ECANCELED) {
		int why = interrupted(db);

		return why ? why : err;
	}
	return err ? db_fail(db, err) : 0;
}

static int rewrite_blobs(struct mvcc *db)
{
	struct keep *k = db->keep;
	struct buf start = { 0 }, end = { 0 };
	int err;

	if (!k->owed.blob_first)
		return 0;
	err = id_key(&start, k->owed.blob_first);
	if (!err && k->owed.blob_last != UINT64_MAX)
		err = id_key(&end, k->owed.blob_last + 1);
	if (!err)
		err = keep_rewrite(db, FAM_BLOB, slice_buf(&start), slice_buf(&end));
	if (!err)
		k->owed.blob_first = k->owed.blob_last = 0;
	buf_release(&start);
	buf_release(&end);
	return err;
}

static int rewrite_log(struct mvcc *db, mvcc_rev_t horizon)
{
	struct keep *k = db->keep;
	mvcc_rev_t below = keep_log_horizon(k);
	struct buf end = { 0 };
	int err = log_key(&end, below, 0);

	if (!err)
		err = keep_rewrite(db, FAM_LOG, slice_of(NULL, 0), slice_buf(&end));
	if (!err)
		k->owed.log = below < horizon; /* an unclean open may still need the rest */
	buf_release(&end);
	return err;
}

/* What the release of blobs left behind. */
static int rewrite_released(struct mvcc *db)
{
	struct slice none = slice_of(NULL, 0);
	struct keep *k = db->keep;
	int err = 0;

	if (k->owed.ended) {
		err = keep_rewrite(db, FAM_ENDED, none, none);
		k->owed.ended = err != 0;
	}
	return err ? err : rewrite_blobs(db);
}

static int rewrite_all(struct mvcc *db, const struct pass *p)
{
	struct slice none = slice_of(NULL, 0);
	struct keep *k = db->keep;
	int err = rewrite_released(db);

	if (p->horizon > atomic_load(&k->compacted))
		k->owed.hist = k->owed.log = true;
	k->owed.hist |= p->todo.n > 0;
	if (!err && k->owed.hist) {
		err = keep_rewrite(db, FAM_HIST, none, none);
		k->owed.hist = err != 0;
	}
	if (!err && k->owed.log)
		err = rewrite_log(db, p->horizon);
	return err;
}

static int finish_batch(struct mvcc *db, const struct pass *p)
{
	struct engine_batch *batch = engine_batch_new(db->engine);
	struct buf key = { 0 };
	int err = batch ? meta_put_u64(batch, META_COMPACTED, p->horizon) : -ENOMEM;

	for (size_t i = 0; !err && i < p->todo.n; i++) {
		err = meta_key_id(&key, META_UNPINNED, p->todo.v[i]);
		if (!err)
			err = engine_batch_del(batch, FAM_META, slice_buf(&key));
	}
	if (!err)
		err = db_write(db, batch, ENGINE_NOSYNC);
	engine_batch_free(batch);
	buf_release(&key);
	return err;
}

/* Writes down that the pass is done. A revision unpinned below the floor is never pinned again. */
static int finish(struct mvcc *db, const struct pass *p)
{
	int err;

	gate_enter(&db->gate);
	err = atomic_load(&db->failed);
	if (!err)
		err = finish_batch(db, p);
	gate_leave(&db->gate);
	if (err)
		return err;
	pthread_mutex_lock(&db->views_lock);
	revs_subtract(&db->keep->pins.unpinned, &p->todo);
	pthread_mutex_unlock(&db->views_lock);
	atomic_store(&db->keep->compacted, p->horizon);
	return 0;
}

/*
 * A rewrite costs as much as all that is kept. Where nobody waits for the space, it is left until the revisions that
 * went are a quarter of those that stay; until then what the engine's own compactions meet goes.
 */
static bool is_worth_it(struct mvcc *db, const struct pass *p)
{
	mvcc_rev_t current = atomic_load(&db->current);

	return (p->horizon - atomic_load(&db->keep->compacted)) * 4 >= current - p->horizon;
}

static int work(struct mvcc *db, struct pass *p, bool thorough)
{
	bool purging = purges_wait(db->keep);
	int err = 0;

	if (p->horizon > keep_log_horizon(db->keep))
		err = keep_log_since(db);
	if (!err)
		err = release_all(db, p);
	if (!err)
		err = purges_release(db, &p->held);
	if (err || !(thorough || purging || is_worth_it(db, p)))
		return err;
	if (thorough || is_worth_it(db, p)) {
		err = rewrite_all(db, p);
		if (!err)
			err = finish(db, p);
	} else {
		err = rewrite_released(db);
	}
	return err ? err : purges_finish(db);
}

/* 0, -EBUSY when all is done but what an open view holds back, or what failed. */
static int pass(struct mvcc *db, bool thorough)
{
	struct keep *k = db->keep;
	struct pass p = { .horizon = 0 };
	int err;

	pthread_mutex_lock(&k->pass_lock);
	atomic_store(&k->interrupt,
		     false); /* first; then whether somebody has set it is known by the others */
	err = interrupted(db);
	if (!err)
		err = purges_remove(db);
	if (!err)
		err = keep_look(db, &p);
	if (!err && has_work(k, &p))
		err = work(db, &p, thorough);
	pthread_mutex_unlock(&k->pass_lock);
	free(p.todo.v);
	return err || !p.held ? err : -EBUSY;
}

/* ---- the thread --------------------------------------------------------------------------- */

void keep_wake(struct mvcc *db, bool thorough)
{
	struct keep *k = db->keep;

	pthread_mutex_lock(&k->keeper_lock);
	k->asked++;
	k->thorough |= thorough;
	pthread_cond_signal(&k->asked_cv);
	pthread_mutex_unlock(&k->keeper_lock);
}

void keep_interrupt(struct mvcc *db)
{
	atomic_store(&db->keep->interrupt, true);
}

/* A failed store wakes the keeper when it works again; anything else is tried again after a while. */
static void wait_after_error_locked(struct mvcc *db, uint64_t *pause_ns)
{
	struct keep *k = db->keep;
	uint64_t due = now_ns() + *pause_ns;
	struct timespec until = timespec_of(due);

	if (atomic_load(&db->failed) || atomic_load(&k->stop) || k->asked != k->done)
		return;
	if (*pause_ns < RETRY_MAX_NS)
		*pause_ns *= 2;
	while (k->asked == k->done && !atomic_load(&k->stop))
		if (pthread_cond_timedwait(&k->asked_cv, &k->keeper_lock, &until) == ETIMEDOUT)
			k->asked++;
}

/*
 * Waits until somebody asks, or until retention is due, by the clock on the wall: that is what the kernel is asked
 * to wait for, so it wakes us in time, too, when the clock is set or the machine has slept.
 */
static void wait_for_work_locked(struct mvcc *db, int64_t due_ns)
{
	struct keep *k = db->keep;
	struct timespec until = timespec_of(now_ns() + CLOCK_LOOK_NS);
	clockid_t clock = CLOCK_MONOTONIC;

	if (due_ns == INT64_MAX) {
		pthread_cond_wait(&k->asked_cv, &k->keeper_lock);
		return;
	}
	if (!db->clock) { /* the caller's own can only be looked at */
		clock = CLOCK_REALTIME;
		until = timespec_of((uint64_t)due_ns);
	}
	pthread_cond_clockwait(&k->asked_cv, &k->keeper_lock, clock, &until);
}

static void *keeper_main(void *arg)
{
	struct mvcc *db = arg;
	struct keep *k = db->keep;
	uint64_t pause_ns = RETRY_NS;
	int64_t due_ns = INT64_MIN; /* when retention is to be looked at: at first now */

	pthread_mutex_lock(&k->keeper_lock);
	while (!atomic_load(&k->stop)) {
		uint64_t asked = k->asked;
		bool thorough = k->thorough;
		bool failed;
		int err;

		if (asked == k->done && wall_ns(db) < due_ns) {
			wait_for_work_locked(db, due_ns);
			continue;
		}
		k->thorough = false;
		pthread_mutex_unlock(&k->keeper_lock);
		err = retain_step(db, &due_ns);
		if (err)
			due_ns = INT64_MAX; /* it is asked again, with the pass */
		else
			err = pass(db, thorough);
		failed = err && err != -EBUSY && !atomic_load(&k->stop);
		if (failed && pause_ns == RETRY_NS && !atomic_load(&db->failed))
			db_log(db, LOG_WARNING, "compaction stopped: %s; it will be tried again",
			       mvcc_strerror(err));
		pthread_mutex_lock(&k->keeper_lock);
		k->done = asked;
		k->result = err;
		k->thorough |= thorough && err;
		pthread_cond_broadcast(&k->done_cv);
		if (failed)
			wait_after_error_locked(db, &pause_ns);
		else
			pause_ns = RETRY_NS;
	}
	pthread_mutex_unlock(&k->keeper_lock);
	return NULL;
}

/* What was left by an earlier life is not known in detail: all may have lost something. */
static bool is_left(struct mvcc *db)
{
	struct keep *k = db->keep;

	if (atomic_load(&db->floor) <= atomic_load(&k->compacted) && k->pins.unpinned.n == 0 &&
	    !purges_wait(k))
		return false;
	k->owed.hist = k->owed.log = k->owed.ended = true;
	k->owed.blob_first = 1;
	k->owed.blob_last = UINT64_MAX;
	return true;
}

int keep_start(struct mvcc *db, bool manual)
{
	struct keep *k = db->keep;
	struct pass p = { .horizon = 0 };
	sigset_t all, was;
	int err;

	pthread_mutex_lock(&k->pass_lock);
	k->asked += is_left(db);
	err = keep_look(db, &p); /* from here on the engine may drop */
	if (!err)
		purges_remove(db); /* before anybody looks; what fails is tried again */
	pthread_mutex_unlock(&k->pass_lock);
	free(p.todo.v);
	if (err || manual)
		return err;
	sigfillset(&all); /* signals are for the program's own threads */
	pthread_sigmask(SIG_SETMASK, &all, &was);
	k->threaded = true;
	err = -pthread_create(&k->keeper, NULL, keeper_main, db);
	k->running = err == 0;
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	return err;
}

void keep_stop(struct mvcc *db)
{
	struct keep *k = db->keep;

	pthread_mutex_lock(&k->keeper_lock);
	atomic_store(&k->stop, true);
	pthread_cond_broadcast(&k->asked_cv);
	pthread_cond_broadcast(&k->done_cv);
	pthread_mutex_unlock(&k->keeper_lock);
	atomic_store(&k->interrupt, true);
	if (k->running)
		pthread_join(k->keeper, NULL);
	k->running = false;
}

/* ---- asking for it ------------------------------------------------------------------------ */

int mvcc_compact_wait(struct mvcc *db)
{
	struct keep *k = db->keep;
	uint64_t mine;
	int err;

	if (!k->threaded)
		return pass(db, true);
	pthread_mutex_lock(&k->keeper_lock);
	mine = ++k->asked;
	k->thorough = true;
	pthread_cond_signal(&k->asked_cv);
	while (k->done < mine && !atomic_load(&k->stop))
		pthread_cond_wait(&k->done_cv, &k->keeper_lock);
	err = k->done < mine ? -ECANCELED : k->result;
	pthread_mutex_unlock(&k->keeper_lock);
	return err;
}

int mvcc_upkeep(struct mvcc *db)
{
	int64_t due_ns;
	int first = retain_step(db, &due_ns);
	int err = lease_expire_due(db, NULL);

	first = first ? first : err;
	err = pass(db, true);
	first = first ? first : err;
	return first == -EBUSY ? 0 : first; /* what a view holds back is not due yet */
}
