/*
 * Leases. The table is in memory: a tree by id, and a heap by deadline, so that nothing that happens to one
 * lease looks at the others. The ring, and then a row each, make it outlive a kill; which keys a lease has is
 * told by rows that the committer keeps beside `latest`, and by nothing in memory.
 *
 * A lease ends in steps: it is marked as *ending*, under the commit lock, so that no later commit attaches to
 * it; what came before is drained, so that the rows tell all its keys; these go in one transaction; then the
 * lease goes. From the mark on its keys can only become fewer: so a key that has lost it since is left
 * alone, and needs no more thought. A kill in between leaves a lease with fewer keys, that ends in its time.
 */
#include "mvcc/mvcc_int.h"
#include "mvcc/txn_int.h"

#include <errno.h>
#include <search.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define END_TRIES 64  /* other commits may change its keys as often while a lease ends */
#define END_BATCH 256 /* leases that end with one draining */
#define LOOK_MS 100   /* how often a clock of the caller's is looked at: nobody tells when it jumps */
#define RETRY_MS 1000 /* what could not end is tried again */

static int64_t now_ms(const struct mvcc *db)
{
	return wall_ns(db) / 1000000;
}

/* Rounded up: nobody gets less than was granted. */
static int64_t deadline_after(const struct mvcc *db, uint64_t ttl_ms)
{
	return (wall_ns(db) + 999999) / 1000000 + (int64_t)ttl_ms;
}

/* ---- the heap ----------------------------------------------------------------------------- */

static void heap_set(struct lessor *l, size_t slot, struct lease *lease)
{
	l->heap[slot] = lease;
	lease->slot = slot;
}

/* Moves the lease of a slot to where its deadline belongs. */
static void heap_fix(struct lessor *l, size_t slot)
{
	struct lease *lease = l->heap[slot];
	size_t child;

	while (slot > 0 && l->heap[(slot - 1) / 2]->deadline_ms > lease->deadline_ms) {
		heap_set(l, slot, l->heap[(slot - 1) / 2]);
		slot = (slot - 1) / 2;
	}
	while ((child = 2 * slot + 1) < l->in_heap) {
		if (child + 1 < l->in_heap && l->heap[child + 1]->deadline_ms < l->heap[child]->deadline_ms)
			child++;
		if (l->heap[child]->deadline_ms >= lease->deadline_ms)
			break;
		heap_set(l, slot, l->heap[child]);
		slot = child;
	}
	heap_set(l, slot, lease);
}

/* The thread waits for the first of the heap. */
static void heap_moved(struct lessor *l, const struct lease *lease)
{
	if (lease->slot == 0)
		pthread_cond_signal(&l->sooner);
}

static void heap_add(struct lessor *l, struct lease *lease)
{
	heap_set(l, l->in_heap++, lease);
	heap_fix(l, lease->slot);
	heap_moved(l, lease);
}

static void heap_remove(struct lessor *l, struct lease *lease)
{
	size_t slot = lease->slot;
	struct lease *last = l->heap[--l->in_heap];

	if (last == lease)
		return;
	heap_set(l, slot, last);
	heap_fix(l, slot);
}

/* ---- the table: callers hold its lock ------------------------------------------------------ */

static int by_id(const void *a, const void *b)
{
	const struct lease *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

static struct lease *find_locked(struct lessor *l, mvcc_lease_t id)
{
	struct lease wanted = { .id = id };
	void *node = tfind(&wanted, &l->by_id, by_id);

	return node ? *(struct lease **)node : NULL;
}

static bool is_usable(const struct lease *lease, int64_t now)
{
	return lease && !lease->ending && lease->deadline_ms > now;
}

static int add_locked(struct lessor *l, const struct lease_row *row)
{
	struct lease *lease;

	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;
		struct lease **grown = realloc(l->heap, cap * sizeof(struct lease *));

		if (!grown)
			return -ENOMEM;
		l->heap = grown;
		l->cap = cap;
	}
	lease = calloc(1, sizeof(*lease));
	if (!lease)
		return -ENOMEM;
	*lease = (struct lease){ .id = row->id, .ttl_ms = row->ttl_ms, .deadline_ms = row->deadline_ms };
	if (!tsearch(lease, &l->by_id, by_id)) {
		free(lease);
		return -ENOMEM;
	}
	l->n++;
	heap_add(l, lease);
	return 0;
}

static void remove_locked(struct lessor *l, struct lease *lease)
{
	if (!lease->ending)
		heap_remove(l, lease);
	tdelete(lease, &l->by_id, by_id);
	l->n--;
	free(lease);
}

static void set_deadline_locked(struct lessor *l, struct lease *lease, int64_t deadline_ms)
{
	lease->deadline_ms = deadline_ms;
	heap_fix(l, lease->slot);
	heap_moved(l, lease);
}

/* ---- at open and at the end ---------------------------------------------------------------- */

void lessor_init(struct lessor *l)
{
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->sooner, NULL);
	pthread_cond_init(&l->ended, NULL);
}

void lessor_release(struct lessor *l)
{
	tdestroy(l->by_id, free);
	free(l->heap);
	pthread_mutex_destroy(&l->lock);
	pthread_cond_destroy(&l->sooner);
	pthread_cond_destroy(&l->ended);
}

void lessor_stats(struct lessor *l, struct mvcc_stats *out)
{
	pthread_mutex_lock(&l->lock);
	out->leases = l->n;
	pthread_mutex_unlock(&l->lock);
	out->leases_expired = atomic_load(&l->expired);
}

static int remember(struct mvcc *db, const struct lease_row *row)
{
	struct lessor *l = &db->lessor;
	struct lease *lease;
	int err = 0;

	pthread_mutex_lock(&l->lock);
	lease = find_locked(l, row->id);
	if (lease) {
		lease->ttl_ms = row->ttl_ms;
		set_deadline_locked(l, lease, row->deadline_ms);
	} else {
		err = add_locked(l, row);
	}
	pthread_mutex_unlock(&l->lock);
	return err;
}

int lease_remember(struct mvcc *db, struct slice payload)
{
	struct lease_row row;
	int err = lease_decode(payload, &row);

	return err ? err : remember(db, &row);
}

void lease_forget(struct mvcc *db, mvcc_lease_t id)
{
	struct lessor *l = &db->lessor;
	struct lease *lease;

	pthread_mutex_lock(&l->lock);
	lease = find_locked(l, id);
	if (lease)
		remove_locked(l, lease);
	pthread_mutex_unlock(&l->lock);
}

int leases_load(struct mvcc *db)
{
	struct buf start = { 0 }, end = { 0 };
	struct engine_iter *it = NULL;
	struct lease_row row;
	bool on_row;
	int err = lease_key(&start, 0);

	if (!err)
		err = lease_keys_end(&end);
	if (!err)
		err = engine_iter_new(db->engine, FAM_LEASE, slice_buf(&start), slice_buf(&end), &it);
	if (err)
		goto out;
	for (on_row = engine_iter_seek(it, slice_buf(&start)); on_row && !err;
	     on_row = engine_iter_next(it)) {
		err = lease_row_decode(it->key, it->value, &row);
		if (!err)
			err = remember(db, &row);
	}
	if (!err)
		err = engine_iter_error(it);
out:
	engine_iter_free(it);
	buf_release(&start);
	buf_release(&end);
	return err;
}

/* ---- granting and renewing ------------------------------------------------------------------ */

/* A record of the ring, which the caller has made room for. Caller holds commit_lock. */
static void append_lease_locked(struct mvcc *db, const struct lease_row *row)
{
	uint8_t raw[LEASE_BYTES];

	lease_encode(raw, row);
	ring_append(&db->ring, RING_LEASE, slice_of(raw, sizeof(raw)));
	appended_locked(db);
}

static int grant(struct mvcc *db, struct lease_row row)
{
	struct lessor *l = &db->lessor;
	int err = space_admit(db, LEASE_BYTES, true);

	if (err)
		return err;
	pthread_mutex_lock(&db->commit_lock);
	err = room_wait_locked(db, LEASE_BYTES, MVCC_COMMIT_WAIT);
	if (!err) {
		row.deadline_ms = deadline_after(db, row.ttl_ms);
		pthread_mutex_lock(&l->lock);
		err = find_locked(l, row.id) ? -EEXIST : add_locked(l, &row);
		pthread_mutex_unlock(&l->lock);
	}
	if (!err)
		append_lease_locked(db, &row);
	pthread_mutex_unlock(&db->commit_lock);
	return err;
}

int mvcc_lease_grant(struct mvcc *db, mvcc_lease_t id, uint64_t ttl_ms, mvcc_lease_t *out)
{
	struct lease_row row = { .id = id, .ttl_ms = ttl_ms };
	int err = 0;

	if (ttl_ms == 0 || ttl_ms > LEASE_TTL_MS_MAX || id > INT64_MAX)
		return -EINVAL;
	do {
		if (!id)
			err = mvcc_reserve(db, "lease", 1, &row.id);
		if (!err)
			err = grant(db, row);
	} while (!id && err == -EEXIST); /* somebody chose that number himself */
	if (!err)
		*out = row.id;
	return err;
}

int mvcc_lease_renew(struct mvcc *db, mvcc_lease_t id, uint64_t *ttl_ms)
{
	struct lessor *l = &db->lessor;
	struct lease_row row = { .id = id };
	struct lease *lease;
	int err;

	pthread_mutex_lock(&db->commit_lock);
	err = room_wait_locked(db, LEASE_BYTES, MVCC_COMMIT_WAIT);
	if (!err) {
		pthread_mutex_lock(&l->lock);
		lease = find_locked(l, id);
		if (is_usable(lease, now_ms(db))) {
			row.ttl_ms = lease->ttl_ms;
			row.deadline_ms = deadline_after(db, row.ttl_ms);
			set_deadline_locked(l, lease, row.deadline_ms);
		} else {
			err = MVCC_ENOLEASE;
		}
		pthread_mutex_unlock(&l->lock);
	}
	if (!err)
		append_lease_locked(db, &row);
	pthread_mutex_unlock(&db->commit_lock);
	if (!err && ttl_ms)
		*ttl_ms = row.ttl_ms;
	return err;
}

/* ---- asking --------------------------------------------------------------------------------- */

int lease_attach(struct mvcc *db, mvcc_lease_t id, uint64_t seq)
{
	struct lessor *l = &db->lessor;
	int64_t now = now_ms(db);
	struct lease *lease;
	bool usable;

	pthread_mutex_lock(&l->lock);
	lease = find_locked(l, id);
	usable = is_usable(lease, now);
	if (usable && seq)
		lease->seq = seq;
	pthread_mutex_unlock(&l->lock);
	return usable ? 0 : MVCC_ENOLEASE;
}

/* A clock that was set back makes no lease longer to look at than it was granted. */
static struct mvcc_lease shown(const struct lease *lease, int64_t now)
{
	uint64_t left_ms = is_usable(lease, now) ? (uint64_t)lease->deadline_ms - (uint64_t)now : 0;

	return (struct mvcc_lease){
		.id = lease->id,
		.ttl_ms = lease->ttl_ms,
		.left_ms = left_ms < lease->ttl_ms ? left_ms : lease->ttl_ms,
	};
}

int mvcc_lease_get(struct mvcc *db, mvcc_lease_t id, struct mvcc_lease *out)
{
	struct lessor *l = &db->lessor;
	int64_t now = now_ms(db);
	struct lease *lease;

	pthread_mutex_lock(&l->lock);
	lease = find_locked(l, id);
	if (lease)
		*out = shown(lease, now);
	pthread_mutex_unlock(&l->lock);
	return lease ? 0 : MVCC_ENOLEASE;
}

struct copies {
	struct mvcc_lease *v;
	size_t n;
	int64_t now;
};

static void copy_lease(const void *node, VISIT visit, void *arg)
{
	struct copies *copies = arg;

	if (visit == postorder || visit == leaf) /* in order of ids, once each */
		copies->v[copies->n++] = shown(*(struct lease *const *)node, copies->now);
}

int mvcc_leases(struct mvcc *db, int (*fn)(void *arg, const struct mvcc_lease *lease), void *arg)
{
	struct lessor *l = &db->lessor;
	struct copies copies = { .now = now_ms(db) };
	int err = 0;

	pthread_mutex_lock(&l->lock);
	copies.v = calloc(l->n ? l->n : 1, sizeof(copies.v[0]));
	if (copies.v)
		twalk_r(l->by_id, copy_lease, &copies);
	pthread_mutex_unlock(&l->lock);
	if (!copies.v)
		return -ENOMEM;
	for (size_t i = 0; !err && i < copies.n; i++)
		err = fn(arg, &copies.v[i]);
	free(copies.v);
	return err;
}

/* Calls `fn` for each key that the engine says is attached, until it returns non-zero; returns that. */
static int each_attached(struct mvcc *db, mvcc_lease_t id, int (*fn)(void *arg, struct slice key), void *arg)
{
	struct buf start = { 0 }, end = { 0 };
	struct engine_iter *it = NULL;
	struct slice key;
	bool on_row;
	int err = attached_key(&start, id, slice_of(NULL, 0));

	gate_enter(&db->gate);
	if (!err)
		err = buf_prefix_end(&end, slice_buf(&start));
	if (!err)
		err = engine_iter_new(db->engine, FAM_LEASE, slice_buf(&start), slice_buf(&end), &it);
	if (err)
		goto out;
	for (on_row = engine_iter_seek(it, slice_buf(&start)); on_row && !err;
	     on_row = engine_iter_next(it)) {
		err = attached_key_decode(it->key, &id, &key);
		if (!err)
			err = fn(arg, key);
	}
	if (!err)
		err = engine_iter_error(it);
out:
	engine_iter_free(it);
	gate_leave(&db->gate);
	buf_release(&start);
	buf_release(&end);
	return err;
}

int mvcc_lease_keys(struct mvcc *db, mvcc_lease_t id, int (*fn)(void *arg, struct slice key), void *arg)
{
	struct mvcc_lease lease;
	int err = mvcc_lease_get(db, id, &lease);

	if (!err)
		err = drain_to(db, atomic_load(&db->head_seq));
	return err ? err : each_attached(db, id, fn, arg);
}

/* ---- ending --------------------------------------------------------------------------------- */

struct ending {
	struct mvcc_txn *txn;
	mvcc_lease_t id;
	uint64_t deleted;
};

/*
 * Deletes a key that still has the lease. Only then is it a read that counts: whoever takes the lease from a
 * key all the time would be in the way for ever. The keys of a run are validated as such.
 */
static int end_key(void *arg, struct slice key)
{
	struct ending *e = arg;
	struct mvcc_item item = { 0 };
	int err = mvcc_txn_peek(e->txn, key, &item);
	bool attached = !err && item.lease == e->id;

	mvcc_item_release(&item);
	if (err || !attached)
		return err == -ENOENT ? 0 : err;
	if (!e->txn->run) {
		err = mvcc_txn_get(e->txn, key, &item);
		mvcc_item_release(&item);
	}
	e->deleted++;
	return err ? err : mvcc_txn_del(e->txn, key);
}

/* What was deleted was seen, and is validated: so if anything was, `rev` is a new revision. */
static void tell_committed(struct mvcc *db, const struct ending *e, mvcc_rev_t rev)
{
	if (e->deleted && db->committed)
		db->committed(db->committed_arg, rev);
}

static int end_keys(struct mvcc *db, mvcc_lease_t id, const struct mvcc_story *story, mvcc_rev_t *rev)
{
	int err = MVCC_ECONFLICT;

	for (unsigned i = 0; err == MVCC_ECONFLICT && i < END_TRIES; i++) {
		struct ending e = { .id = id };

		err = mvcc_txn_begin(db, &e.txn);
		if (err)
			break;
		err = each_attached(db, id, end_key, &e);
		if (err)
			mvcc_txn_abort(e.txn);
		else
			err = mvcc_txn_commit(e.txn, story, MVCC_COMMIT_WAIT, rev);
		if (!err)
			tell_committed(db, &e, *rev);
	}
	return err;
}

static int drop(struct mvcc *db, struct lease *lease)
{
	struct lessor *l = &db->lessor;
	uint8_t raw[8];
	int err;

	put_le64(raw, lease->id);
	pthread_mutex_lock(&db->commit_lock);
	err = room_wait_locked(db, sizeof(raw), MVCC_COMMIT_WAIT);
	if (!err) {
		ring_append(&db->ring, RING_LEASE_DROP, slice_of(raw, sizeof(raw)));
		appended_locked(db);
		pthread_mutex_lock(&l->lock);
		remove_locked(l, lease);
		pthread_cond_broadcast(&l->ended);
		pthread_mutex_unlock(&l->lock);
	}
	pthread_mutex_unlock(&db->commit_lock);
	return err;
}

/* It could not end, but will: it is due. */
static void give_up(struct mvcc *db, struct lease *lease)
{
	struct lessor *l = &db->lessor;
	int64_t now = now_ms(db);

	pthread_mutex_lock(&l->lock);
	lease->ending = false;
	if (lease->deadline_ms > now)
		lease->deadline_ms = now;
	heap_add(l, lease);
	pthread_cond_broadcast(&l->ended);
	pthread_mutex_unlock(&l->lock);
}

/* Ends a lease that was marked. It is gone, or due. */
static int end_lease(struct mvcc *db, struct lease *lease, const struct mvcc_story *story, mvcc_rev_t *rev)
{
	int err = drain_to(db, lease->seq); /* from the mark on nobody else changes it */

	if (!err)
		err = end_keys(db, lease->id, story, rev);
	if (!err)
		err = drop(db, lease);
	if (err)
		give_up(db, lease);
	return err;
}

/*
 * Caller holds commit_lock, too, under which a commit looks at the lease and appends its record. So all that
 * attached a key are in the ring by now; what a commit said of a later one is not true: it failed in between.
 */
static void mark_locked(struct mvcc *db, struct lease *lease)
{
	heap_remove(&db->lessor, lease);
	lease->ending = true;
	if (lease->seq > db->ring.head.seq)
		lease->seq = db->ring.head.seq;
}

/* Marks a lease as ending; waits while another does that. */
static int mark(struct mvcc *db, mvcc_lease_t id, struct lease **out)
{
	struct lessor *l = &db->lessor;
	bool busy;

	do {
		pthread_mutex_lock(&db->commit_lock);
		pthread_mutex_lock(&l->lock);
		*out = find_locked(l, id);
		busy = *out && (*out)->ending;
		if (*out && !busy)
			mark_locked(db, *out);
		pthread_mutex_unlock(&db->commit_lock);
		if (busy)
			pthread_cond_wait(&l->ended, &l->lock);
		pthread_mutex_unlock(&l->lock);
	} while (busy);
	return *out ? 0 : MVCC_ENOLEASE;
}

int mvcc_lease_revoke(struct mvcc *db, mvcc_lease_t id, const struct mvcc_story *story, mvcc_rev_t *out_rev)
{
	struct lease *lease;
	mvcc_rev_t rev = 0;
	int err = mark(db, id, &lease);

	if (!err)
		err = end_lease(db, lease, story, &rev);
	if (!err && out_rev)
		*out_rev = rev;
	return err;
}

/* ---- expiring ------------------------------------------------------------------------------- */

static size_t mark_due(struct mvcc *db, struct lease *out[END_BATCH])
{
	struct lessor *l = &db->lessor;
	int64_t now = now_ms(db);
	size_t n = 0;

	pthread_mutex_lock(&db->commit_lock);
	pthread_mutex_lock(&l->lock);
	while (n < END_BATCH && l->in_heap && l->heap[0]->deadline_ms <= now) {
		out[n] = l->heap[0];
		mark_locked(db, out[n++]);
	}
	pthread_mutex_unlock(&l->lock);
	pthread_mutex_unlock(&db->commit_lock);
	return n;
}

static int expire(struct mvcc *db, struct lease *lease)
{
	char text[40];
	struct mvcc_story story = { .op = "expire", .message = text };
	mvcc_rev_t rev;
	int err;

	snprintf(text, sizeof(text), "lease %llu", (unsigned long long)lease->id);
	err = end_lease(db, lease, &story, &rev);
	if (!err)
		atomic_fetch_add(&db->lessor.expired, 1);
	return err;
}

/* Ends leases that were marked. How many; `*err` is told the first error, which holds up no other lease. */
static size_t expire_marked(struct mvcc *db, struct lease *const *due, size_t n, int *err)
{
	uint64_t seq = 0;
	size_t ended = 0;

	for (size_t i = 0; i < n; i++)
		if (due[i]->seq > seq)
			seq = due[i]->seq;
	*err = drain_to(db, seq); /* once for all; if it fails, it fails for each */
	for (size_t i = 0; i < n; i++) {
		int one;

		if (atomic_load(&db->lessor.stop)) {
			give_up(db, due[i]);
			continue;
		}
		one = expire(db, due[i]);
		ended += one == 0;
		if (!*err)
			*err = one;
	}
	return ended;
}

int lease_expire_due(struct mvcc *db, size_t *n)
{
	struct lease *due[END_BATCH];
	size_t marked, ended = 0;
	int err = 0;

	while (!err && !atomic_load(&db->lessor.stop) && (marked = mark_due(db, due)))
		ended += expire_marked(db, due, marked, &err);
	if (n)
		*n = ended;
	return err;
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void wait_ms(struct lessor *l, unsigned ms)
{
	struct timespec until = timespec_of(now_ns() + (uint64_t)ms * 1000000);

	pthread_cond_clockwait(&l->sooner, &l->lock, CLOCK_MONOTONIC, &until);
}

/*
 * Waits until the first lease is due, or another is before it. A time on the wall is what the kernel is asked
 * to wait for, so it wakes us in time, too, when the clock is set or the machine has slept.
 */
static void wait_for_first(struct mvcc *db)
{
	struct lessor *l = &db->lessor;
	struct timespec until;

	if (!l->in_heap) {
		pthread_cond_wait(&l->sooner, &l->lock);
	} else if (db->clock) {
		wait_ms(l, LOOK_MS);
	} else {
		until.tv_sec = (time_t)(l->heap[0]->deadline_ms / 1000);
		until.tv_nsec = (long)(l->heap[0]->deadline_ms % 1000) * 1000000;
		pthread_cond_clockwait(&l->sooner, &l->lock, CLOCK_REALTIME, &until);
	}
}

static void *lessor_main(void *arg)
{
	struct mvcc *db = arg;
	struct lessor *l = &db->lessor;
	int err;

	pthread_mutex_lock(&l->lock);
	while (!atomic_load(&l->stop)) {
		if (!l->in_heap || l->heap[0]->deadline_ms > now_ms(db)) {
			wait_for_first(db);
			continue;
		}
		pthread_mutex_unlock(&l->lock);
		err = lease_expire_due(db, NULL);
		pthread_mutex_lock(&l->lock);
		if (err && !atomic_load(&l->stop))
			wait_ms(l, RETRY_MS);
	}
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

int lessor_start(struct mvcc *db)
{
	sigset_t all, was;
	int err;

	sigfillset(&all); /* signals are for the program's own threads */
	pthread_sigmask(SIG_SETMASK, &all, &was);
	err = -pthread_create(&db->lessor.thread, NULL, lessor_main, db);
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	db->lessor.running = !err;
	return err;
}

void lessor_stop(struct mvcc *db)
{
	struct lessor *l = &db->lessor;

	if (!l->running)
		return;
	pthread_mutex_lock(&l->lock);
	atomic_store(&l->stop, true);
	pthread_cond_signal(&l->sooner);
	pthread_mutex_unlock(&l->lock);
	pthread_join(l->thread, NULL);
	l->running = false;
}

/* ---- those that a run names ------------------------------------------------------------------ */

static int by_number(const void *a, const void *b)
{
	const mvcc_lease_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void ids_unite(struct lease_ids *ids)
{
	size_t n = ids->fixed;

	if (ids->n > n)
		qsort(ids->v + n, ids->n - n, sizeof(ids->v[0]), by_number);
	for (size_t i = n; i < ids->n; i++)
		if (n == ids->fixed || ids->v[i] != ids->v[n - 1])
			ids->v[n++] = ids->v[i];
	ids->n = n;
}

int lease_ids_add(struct lease_ids *ids, mvcc_lease_t id)
{
	bool full = false;

	if (ids->n && ids->v[ids->n - 1] == id)
		return 0;
	if (ids->n == ids->cap) {
		ids_unite(ids);
		full = 2 * ids->n >= ids->cap; /* uniting has to pay, or it comes with every id */
	}
	if (full) {
		size_t cap = ids->cap ? 2 * ids->cap : 64;
		mvcc_lease_t *grown = realloc(ids->v, cap * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		ids->v = grown;
		ids->cap = cap;
	}
	ids->v[ids->n++] = id;
	return 0;
}
