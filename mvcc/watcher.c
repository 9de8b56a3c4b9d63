/*
 * The watch thread: makes the tail of notes that watches read, and wakes those that wait.
 *
 * It is told of a commit by a flag and a semaphore, and copies the ring's new bytes as they are, in small
 * pieces, under commit_lock, as the ring's tail moves under it only. From them it makes notes. Each key of a
 * note is looked up among the ranges of the *idle* watches, those that have seen everything there is; a watch
 * found there is idle no more, remembers the revision, and is woken. All others need not even be looked at:
 * how far they have come is `judged`, which they share.
 *
 * Where the changes of a commit cannot be seen in the ring (those of a staged run; what the committer has
 * moved away before the thread came to it), the tail has no changes, and the thread reads them from the log.
 * When that cannot be read, it wakes all idle watches: each then looks for itself, and meets the error.
 *
 * No wake-up is lost:
 * - Of the thread. It sets `asleep`, then looks at head_pos; a commit stores head_pos, then looks at
 *   `asleep`. So one of them sees what the other did. The same holds for `n` and `stop`, which are changed
 *   under the lock before `asleep` is looked at.
 * - Of a watch. It becomes idle under the lock, having looked at every revision before its `next`, and
 *   next >= tail.end. A revision is pushed to the tail under the lock before its keys are looked up. So for
 *   a revision R either the watch became idle after the push: then it has looked at R itself, and R < next;
 *   or before, and then it is in the index for all keys of R, until it is found.
 */
#include "mvcc/watch_int.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

/* ---- idle watches ------------------------------------------------------------------------- */

static struct mvcc_watch *watch_of(struct interval *iv)
{
	return (struct mvcc_watch *)(void *)((uint8_t *)iv - offsetof(struct mvcc_watch, interval));
}

void watch_go_idle_locked(struct mvcc_watch *w)
{
	w->idle = true;
	interval_insert(&w->db->watching->idle, &w->interval);
}

/* What the watch looks at next is `rev`. Callers hold lock. */
static void wake_locked(struct watching *all, struct mvcc_watch *w, mvcc_rev_t rev)
{
	interval_remove(&all->idle, &w->interval);
	w->idle = false;
	w->next = rev;
	if (w->notify && !w->told && !w->asking) {
		w->told = true;
		TAILQ_INSERT_TAIL(&all->told, w, link);
	}
	pthread_cond_signal(&w->woken);
}

static void wake_all_locked(struct watching *all)
{
	while (all->idle.root) {
		struct mvcc_watch *w = watch_of(all->idle.root);

		wake_locked(all, w, w->next > all->judged ? w->next : all->judged);
	}
}

/* A changed key, and the idle watches that want it. */
struct stab {
	mvcc_rev_t rev;
	unsigned unwanted; /* watches with this flag do not want it */
	SLIST_HEAD(, mvcc_watch) found;
};

static void stab_found(void *arg, struct interval *iv)
{
	struct stab *stab = arg;
	struct mvcc_watch *w = watch_of(iv);

	if (w->next <= stab->rev && !(w->flags & stab->unwanted))
		SLIST_INSERT_HEAD(&stab->found, w, found);
}

static void judge_locked(struct watching *all, mvcc_rev_t rev, struct slice key, bool deleted)
{
	struct stab stab = { .rev = rev, .unwanted = deleted ? MVCC_WATCH_NO_DEL : MVCC_WATCH_NO_PUT };
	struct mvcc_watch *w;

	SLIST_INIT(&stab.found);
	interval_stab(&all->idle, key, stab_found, &stab);
	while ((w = SLIST_FIRST(&stab.found))) {
		SLIST_REMOVE_HEAD(&stab.found, found);
		wake_locked(all, w, rev);
	}
}

static void judged_locked(struct watching *all)
{
	all->judged = all->tail.end;
	pthread_cond_broadcast(&all->judged_cv);
}

/* Calls the notify of those woken, with no lock held. Whoever closes a watch meanwhile waits for its call. */
static void notify_told(struct watching *all)
{
	struct mvcc_watch *w;

	pthread_mutex_lock(&all->lock);
	while ((w = TAILQ_FIRST(&all->told))) {
		TAILQ_REMOVE(&all->told, w, link);
		w->told = false;
		all->notifying = w;
		pthread_mutex_unlock(&all->lock);
		w->notify(w->arg);
		pthread_mutex_lock(&all->lock);
		all->notifying = NULL;
		pthread_cond_broadcast(&all->notified_cv);
	}
	pthread_mutex_unlock(&all->lock);
}

/* ---- from the log ------------------------------------------------------------------------- */

static int judge_entry(struct watching *all, struct mvcc_log *log, mvcc_rev_t rev)
{
	struct mvcc_change change;
	int got;

	while ((got = mvcc_log_change(log, &change)) == 1) {
		pthread_mutex_lock(&all->lock);
		judge_locked(all, rev, change.key, change.deleted);
		pthread_mutex_unlock(&all->lock);
	}
	return got;
}

/* Looks up the keys of from <= rev <= to, which are in the engine. */
static int judge_stretch(struct watching *all, mvcc_rev_t from, mvcc_rev_t to)
{
	const struct mvcc_entry *entry;
	struct mvcc_log *log;
	int got = mvcc_log_open(all->db, from, to, &log);

	if (got)
		return got;
	while ((got = mvcc_log_next(log, &entry)) == 1) {
		got = judge_entry(all, log, entry->rev);
		if (got)
			break;
	}
	mvcc_log_close(log);
	return got;
}

static bool anybody_idle(struct watching *all)
{
	bool anybody;

	pthread_mutex_lock(&all->lock);
	anybody = all->idle.root != NULL;
	pthread_mutex_unlock(&all->lock);
	return anybody;
}

/*
 * Tells the idle watches of the revisions from `from` up to tail.end, whose changes are in the log once `seq`
 * is drained. The tail has them already, so watches that become idle now have looked at them.
 */
static void judge_log(struct watching *all, mvcc_rev_t from, uint64_t seq)
{
	mvcc_rev_t end = all->tail.end; /* this thread alone moves it */
	int err = 0;

	notify_told(all); /* before a wait for the engine */
	if (from < end && anybody_idle(all))
		err = drain_to(all->db, seq);
	while (!err && from < end && anybody_idle(all)) { /* in pieces, as an open log holds up a recovery */
		mvcc_rev_t to = end - from > WATCH_HITS_MAX ? from + WATCH_HITS_MAX - 1 : end - 1;

		err = judge_stretch(all, from, to);
		from = to + 1;
	}
	pthread_mutex_lock(&all->lock);
	if (err)
		wake_all_locked(all);
	judged_locked(all);
	pthread_mutex_unlock(&all->lock);
}

/* ---- from the ring ------------------------------------------------------------------------ */

static void judge_ops_locked(struct watching *all, mvcc_rev_t rev, struct slice ops)
{
	struct op op;

	while (op_take(&ops, &op))
		judge_locked(all, rev, op.key, op.flags & OP_DEL);
}

/* Takes a commit from the ring. MVCC_ECORRUPT when it is none. */
static int take_commit(struct watching *all, uint64_t seq, struct slice payload)
{
	struct commit_head head;
	struct note *note;
	int err = commit_head_decode(payload, &head);

	if (err || head.rev < all->tail.end)
		return err; /* the log has it, and the thread was there */
	if (head.rev > all->tail.end)
		return MVCC_ECORRUPT;
	note = note_new(seq, payload, &head);
	pthread_mutex_lock(&all->lock);
	if (note)
		tail_push(&all->tail, note);
	else
		tail_restart(&all->tail, head.rev + 1, seq); /* no memory: left to the log */
	if (!head.run) {
		judge_ops_locked(all, head.rev, head.ops);
		judged_locked(all);
	}
	pthread_mutex_unlock(&all->lock);
	if (head.run)
		judge_log(all, head.rev, seq);
	return 0;
}

static int take_records(struct watching *all)
{
	struct slice rest = slice_buf(&all->bytes), payload;
	uint32_t type;
	uint64_t seq;
	int err = 0;

	while (!err && ring_take(&rest, &seq, &type, &payload))
		if (type == RING_COMMIT)
			err = take_commit(all, seq, payload);
	if (rest.len)
		memmove(all->bytes.data, rest.data, rest.len);
	all->bytes.len = rest.len;
	return err;
}

/* The tail goes on at `resume`; what was not seen before is left to the log. */
static void skip_to(struct watching *all, mvcc_rev_t resume, uint64_t before_seq)
{
	mvcc_rev_t from = all->tail.end;

	buf_clear(&all->bytes);
	if (resume == from)
		return;
	pthread_mutex_lock(&all->lock);
	tail_restart(&all->tail, resume, before_seq);
	pthread_mutex_unlock(&all->lock);
	judge_log(all, from, before_seq);
}

/* What was copied does not decode. Goes on at the head; the engine, too, will have to say something about it. */
static void skip_to_head(struct watching *all)
{
	struct mvcc *db = all->db;
	mvcc_rev_t resume;
	uint64_t seq;

	pthread_mutex_lock(&db->commit_lock);
	all->pos = db->ring.head.pos;
	seq = db->ring.head.seq;
	resume = atomic_load(&db->current) + 1;
	pthread_mutex_unlock(&db->commit_lock);
	skip_to(all, resume, seq);
}

/* Starts at the ring's tail: what is before is in the engine, up to `applied`. Callers hold commit_lock. */
static mvcc_rev_t start_locked(struct watching *all, uint64_t *before_seq)
{
	struct mvcc *db = all->db;

	all->pos = atomic_load(&db->ring.tail);
	*before_seq = atomic_load(&db->applied_seq);
	return atomic_load(&db->applied) + 1;
}

/* Copies and takes what is new. False when nothing is. */
static bool advance(struct watching *all)
{
	struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };
	struct mvcc *db = all->db;
	mvcc_rev_t resume = 0;
	uint64_t before_seq = 0;
	size_t copied = 0;

	if (buf_reserve(&all->bytes, WATCH_COPY_BYTES)) {
		nanosleep(&pause, NULL); /* somebody may give some back */
		return true;
	}
	pthread_mutex_lock(&db->commit_lock);
	if (atomic_load(&db->ring.tail) > all->pos)
		resume = start_locked(all, &before_seq);
	else
		copied = ring_copy(&db->ring, all->pos, WATCH_COPY_BYTES, all->bytes.data + all->bytes.len);
	pthread_mutex_unlock(&db->commit_lock);
	all->pos += copied;
	all->bytes.len += copied;
	if (resume)
		skip_to(all, resume, before_seq);
	else if (take_records(all))
		skip_to_head(all);
	notify_told(all);
	return resume || copied;
}

/* ---- the thread --------------------------------------------------------------------------- */

static bool is_wanted(struct watching *all)
{
	bool wanted;

	pthread_mutex_lock(&all->lock);
	wanted = all->stop || !all->n || atomic_load(&all->db->head_pos) != all->pos;
	pthread_mutex_unlock(&all->lock);
	return wanted;
}

static void sleep_until_kicked(struct watching *all)
{
	atomic_store(&all->asleep, true);
	if (is_wanted(all) && atomic_exchange(&all->asleep, false))
		return;
	while (sem_wait(&all->wake) && errno == EINTR)
		;
}

void watching_kick(struct watching *all)
{
	if (atomic_load(&all->asleep) && atomic_exchange(&all->asleep, false))
		sem_post(&all->wake);
}

void watching_tell(struct mvcc *db)
{
	watching_kick(db->watching);
}

/* Nobody watches: the tail goes, and commits need not tell any more. */
static void rest_locked(struct watching *all)
{
	all->on = false;
	tail_release(&all->tail);
	buf_release(&all->bytes);
}

static void *watcher_main(void *arg)
{
	struct watching *all = arg;

	pthread_mutex_lock(&all->lock);
	while (!all->stop) {
		if (all->n == 0)
			rest_locked(all);
		if (!all->on) {
			pthread_cond_wait(&all->begun_cv, &all->lock);
			continue;
		}
		pthread_mutex_unlock(&all->lock);
		if (!advance(all))
			sleep_until_kicked(all);
		pthread_mutex_lock(&all->lock);
	}
	pthread_mutex_unlock(&all->lock);
	return NULL;
}

static int start_thread(struct watching *all)
{
	sigset_t mask, was;
	int err;

	sigfillset(&mask); /* signals are for the program's own threads */
	pthread_sigmask(SIG_SETMASK, &mask, &was);
	err = pthread_create(&all->thread, NULL, watcher_main, all);
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	all->started = !err;
	return err ? -ENOMEM : 0;
}

int watching_begin_locked(struct watching *all)
{
	uint64_t before_seq;
	mvcc_rev_t at;
	int err = all->started ? 0 : start_thread(all);

	if (err || all->on)
		return err;
	at = start_locked(all, &before_seq);
	tail_restart(&all->tail, at, before_seq);
	all->judged = at;
	all->on = true;
	pthread_cond_signal(&all->begun_cv);
	return 0;
}

/* ---- the whole ---------------------------------------------------------------------------- */

struct watching *watching_new(struct mvcc *db)
{
	struct watching *all = calloc(1, sizeof(*all));

	if (!all)
		return NULL;
	all->db = db;
	TAILQ_INIT(&all->told);
	pthread_mutex_init(&all->lock, NULL);
	pthread_cond_init(&all->begun_cv, NULL);
	pthread_cond_init(&all->judged_cv, NULL);
	pthread_cond_init(&all->notified_cv, NULL);
	sem_init(&all->wake, 0, 0);
	return all;
}

void watching_stop(struct mvcc *db)
{
	struct watching *all = db->watching;

	pthread_mutex_lock(&all->lock);
	all->stop = true;
	pthread_cond_signal(&all->begun_cv);
	pthread_mutex_unlock(&all->lock);
	watching_kick(all);
	if (all->started)
		pthread_join(all->thread, NULL);
	all->started = false;
}

void watching_free(struct watching *all)
{
	if (!all)
		return;
	rest_locked(all); /* there is nobody else any more */
	sem_destroy(&all->wake);
	pthread_cond_destroy(&all->begun_cv);
	pthread_cond_destroy(&all->judged_cv);
	pthread_cond_destroy(&all->notified_cv);
	pthread_mutex_destroy(&all->lock);
	free(all);
}

uint64_t watch_count(struct mvcc *db)
{
	struct watching *all = db->watching;
	uint64_t n;

	pthread_mutex_lock(&all->lock);
	n = all->n;
	pthread_mutex_unlock(&all->lock);
	return n;
}

void watch_tail_size(struct mvcc *db, size_t *notes, size_t *bytes)
{
	struct watching *all = db->watching;

	pthread_mutex_lock(&all->lock);
	*notes = (size_t)(all->tail.end - all->tail.first);
	*bytes = all->tail.bytes;
	pthread_mutex_unlock(&all->lock);
}
