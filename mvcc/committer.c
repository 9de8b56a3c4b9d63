/*
 * The threads behind a store.
 *
 * The *committer* seals the active generation when it is old enough, or when somebody asks, and
 * drains the oldest one: one engine batch that takes each key from what it was to what it is now,
 * tells `hist` what ended, `log` what happened, and `applied` how far the ring has been moved. Then
 * the generation goes and its stretch of the ring is free. A staged run is moved in chunks.
 *
 * The *sync thread* has the committer drain up to what is asked for, then has the engine put it on
 * disk: one sync for all who wait. The *notifier* calls completions, so that what they do (commit
 * again, for instance) cannot stand in the way of the two others.
 *
 * A failed engine write stops all commits. Nothing is lost by it: ring and generations stay as they
 * are, and the committer tries every second to reopen the engine and to go on.
 */
#include "mvcc/keep_int.h"
#include "mvcc/mvcc_int.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <syslog.h>

/* ---- the active generation ---------------------------------------------------------------- */

static bool is_empty(const struct generation *gen)
{
	return gen->begin.seq == gen->end.seq;
}

int seal_locked(struct mvcc *db)
{
	struct generation *gen;

	if (is_empty(db->active))
		return 0;
	gen = generation_new();
	if (!gen || overlay_push(&db->overlay, &gen, 1)) {
		generation_unref(gen);
		return -ENOMEM;
	}
	gen->begin = gen->end = db->ring.head;
	gen->last_rev = db->active->last_rev;
	gen->last_time_ns = db->active->last_time_ns;
	db->active = gen;
	return 0;
}

void appended_locked(struct mvcc *db)
{
	bool wake;

	db->active->end = db->ring.head;
	atomic_store(&db->head_seq, db->ring.head.seq);
	atomic_store(&db->head_pos, db->ring.head.pos);
	wake = is_empty(db->active); /* the record was a run's, which is sealed already */
	if (!wake && db->active->born_ns == 0) {
		db->active->born_ns = now_ns();
		wake = true;
	}
	if (atomic_load(&db->active->mt.bytes) >= SEAL_BYTES && seal_locked(db) == 0)
		wake = true;
	if (!wake)
		return;
	pthread_mutex_lock(&db->work_lock);
	db->active_born_ns = db->active->born_ns;
	pthread_cond_signal(&db->work_cv);
	pthread_mutex_unlock(&db->work_lock);
}

/* ---- room in the ring --------------------------------------------------------------------- */

size_t room_max(const struct mvcc *db)
{
	return db->ring.size / 8 * 3 - 64;
}

static bool fits_locked(struct mvcc *db, size_t payload_len)
{
	return ring_used(&db->ring) + ring_record_bytes(payload_len) <= db->ring.size &&
	       db->runs_pending < RUNS_PENDING_MAX;
}

static bool has_room_locked(struct mvcc *db)
{
	return atomic_load(&db->failed) || (TAILQ_EMPTY(&db->turns) && fits_locked(db, room_max(db)));
}

static void kick(struct mvcc *db, uint64_t seq)
{
	pthread_mutex_lock(&db->work_lock);
	if (seq > db->kick_seq)
		db->kick_seq = seq;
	pthread_cond_signal(&db->work_cv);
	pthread_mutex_unlock(&db->work_lock);
}

int room_wait_locked(struct mvcc *db, size_t payload_len, unsigned flags)
{
	struct turn turn;
	int failed = atomic_load(&db->failed);

	if (failed)
		return failed;
	if (TAILQ_EMPTY(&db->turns) && fits_locked(db, payload_len))
		return 0;
	kick(db, atomic_load(&db->head_seq));
	if (flags & MVCC_COMMIT_NOWAIT)
		return -EAGAIN;
	TAILQ_INSERT_TAIL(&db->turns, &turn, link);
	for (;;) {
		failed = atomic_load(&db->failed);
		if (failed || (TAILQ_FIRST(&db->turns) == &turn && fits_locked(db, payload_len)))
			break;
		pthread_cond_wait(&db->room_cv, &db->commit_lock);
	}
	TAILQ_REMOVE(&db->turns, &turn, link);
	if (!TAILQ_EMPTY(&db->turns)) {
		kick(db, atomic_load(&db->head_seq));
		pthread_cond_broadcast(&db->room_cv); /* the next one may fit, too */
	}
	return failed;
}

void room_wake_locked(struct mvcc *db)
{
	pthread_cond_broadcast(&db->room_cv);
	if (!has_room_locked(db))
		return;
	pthread_mutex_lock(&db->work_lock);
	STAILQ_CONCAT(&db->notices, &db->rooms);
	pthread_cond_signal(&db->notify_cv);
	pthread_mutex_unlock(&db->work_lock);
}

bool mvcc_has_room(struct mvcc *db)
{
	bool room;

	pthread_mutex_lock(&db->commit_lock);
	room = has_room_locked(db);
	pthread_mutex_unlock(&db->commit_lock);
	return room;
}

int mvcc_on_room(struct mvcc *db, void (*fn)(void *arg), void *arg)
{
	struct waiter *w = malloc(sizeof(*w));

	if (!w)
		return -ENOMEM;
	*w = (struct waiter){ .room_fn = fn, .arg = arg };
	pthread_mutex_lock(&db->commit_lock);
	pthread_mutex_lock(&db->work_lock);
	STAILQ_INSERT_TAIL(&db->rooms, w, link);
	pthread_mutex_unlock(&db->work_lock);
	if (has_room_locked(db))
		room_wake_locked(db);
	else
		kick(db, atomic_load(&db->head_seq));
	pthread_mutex_unlock(&db->commit_lock);
	return 0;
}

/* ---- draining ----------------------------------------------------------------------------- */

/* A batch in the making. */
struct drain {
	struct mvcc *db;
	struct generation *gen;
	struct engine_batch *batch;
	struct buf key, row, record;
	struct slice commit;     /* of a run: its record in the ring */
	bool told;               /* it is in the engine, too */
	struct mem_node **chain; /* the versions of one key, newest first */
	size_t nchain, chain_cap;
	struct blob_ids refs; /* blobs referred to once more, in any order */
	struct blob_ids own;  /* blobs referred to by the commit that brought them */
	/* the log entry in the making */
	mvcc_rev_t rev;
	uint32_t part;
	struct log_part head;
	struct buf ranges, changes;
	mvcc_blob_t range_first;
	uint64_t range_count;
};

static int drain_init(struct drain *d, struct mvcc *db, struct generation *gen)
{
	*d = (struct drain){ .db = db, .gen = gen };
	d->batch = engine_batch_new(db->engine);
	return d->batch ? 0 : -ENOMEM;
}

static void drain_release(struct drain *d)
{
	engine_batch_free(d->batch);
	buf_release(&d->key);
	buf_release(&d->row);
	buf_release(&d->record);
	buf_release(&d->ranges);
	buf_release(&d->changes);
	free(d->chain);
	free(d->refs.v);
	free(d->own.v);
}

/* ---- its log rows ---- */

static int log_close_range(struct drain *d)
{
	int err = 0;

	if (d->range_count) {
		err = log_range_put(&d->ranges, d->range_first, d->range_count);
		d->head.nranges++;
	}
	d->range_count = 0;
	return err;
}

/* Ends the part at hand, if there is something in it; part 0 is always written. */
static int log_flush(struct drain *d)
{
	int err = log_close_range(d);

	if (err || (d->part > 0 && d->ranges.len == 0 && d->changes.len == 0))
		return err;
	d->head.ranges = slice_buf(&d->ranges);
	d->head.changes = slice_buf(&d->changes);
	err = log_key(&d->key, d->rev, d->part);
	if (!err)
		err = log_part_encode(&d->row, d->part, &d->head);
	if (!err)
		err = engine_batch_put(d->batch, FAM_LOG, slice_buf(&d->key), slice_buf(&d->row));
	buf_clear(&d->ranges);
	buf_clear(&d->changes);
	d->head.nranges = 0;
	d->part++;
	return err;
}

static void log_begin(struct drain *d, const struct commit_head *head, uint32_t part)
{
	d->rev = head->rev;
	d->part = part;
	d->head = (struct log_part){ .time_ns = head->time_ns, .story = head->story };
	buf_clear(&d->ranges);
	buf_clear(&d->changes);
	d->range_count = 0;
}

/*
 * Notes the blobs of a new record for their counts. Of those that its own transaction brought, the
 * first reference counts for nothing; a run says in its end row how many there are.
 */
static int count_blobs(struct drain *d, const struct record *rec)
{
	struct slice blobs = rec->blobs;
	mvcc_blob_t blob;
	bool own;
	int err = 0;

	while (!err && record_blob_take(&blobs, &blob, &own))
		if (!own || !d->gen->run)
			err = blob_ids_add(own ? &d->own : &d->refs, blob);
	return err;
}

/* Notes in the log the blobs that a record's transaction brought. */
static int log_blobs(struct drain *d, const struct record *rec)
{
	struct slice blobs = rec->blobs;
	mvcc_blob_t blob;
	bool own;
	int err = 0;

	while (!err && record_blob_take(&blobs, &blob, &own)) {
		if (!own)
			continue;
		if (d->range_count && blob == d->range_first + d->range_count) {
			d->range_count++;
			continue;
		}
		err = log_close_range(d);
		d->range_first = blob;
		d->range_count = 1;
	}
	return err;
}

static int log_op(struct drain *d, const struct op *op, const struct record *rec)
{
	struct mvcc_change change = { .key = op->key, .deleted = op->flags & OP_DEL, .prev_rev = op->prev };
	int err = log_change_put(&d->changes, &change);

	if (!err && rec)
		err = log_blobs(d, rec);
	if (!err && d->changes.len + d->ranges.len > LOG_PART_MAX)
		err = log_flush(d);
	return err;
}

/* ---- its rows of `latest` and `hist` ---- */

static int chain_add(struct drain *d, struct mem_node *node)
{
	if (d->nchain == d->chain_cap) {
		size_t cap = d->chain_cap ? 2 * d->chain_cap : 64;
		struct mem_node **grown = realloc(d->chain, cap * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		d->chain = grown;
		d->chain_cap = cap;
	}
	d->chain[d->nchain++] = node;
	return 0;
}

/* `record`, encoded, and as `rec`, ended. The collector finds by `ended` which blobs that may release. */
static int put_hist(struct drain *d, struct slice key, mvcc_rev_t end_rev, struct slice record,
		    const struct record *rec)
{
	int err = hist_key(&d->key, key, end_rev);

	if (!err)
		err = engine_batch_put(d->batch, FAM_HIST, slice_buf(&d->key), record);
	if (err || !rec->nblobs)
		return err;
	err = ended_key(&d->key, ENDED_NEW, end_rev, key);
	if (!err)
		err = ended_encode(&d->row, rec->mod, rec->blobs);
	return err ? err : engine_batch_put(d->batch, FAM_ENDED, slice_buf(&d->key), slice_buf(&d->row));
}

/* What `latest` holds for a key. 0 with the pin to be released, -ENOENT, or a code. */
static int get_latest(struct drain *d, struct slice key, struct engine_pin *pin, struct record *rec)
{
	int err = engine_get(d->db->engine, FAM_LATEST, key, pin);

	if (err)
		return err;
	err = record_decode(pin->value, rec);
	if (err)
		engine_pin_release(d->db->engine, pin);
	return err;
}

/* Keeps the keys of each lease: `key` had one, and has the other; 0 is none, or no key. */
static int move_lease(struct drain *d, struct slice key, mvcc_lease_t had, mvcc_lease_t has)
{
	int err = 0;

	if (had == has)
		return 0;
	if (had)
		err = attached_key(&d->key, had, key);
	if (!err && had)
		err = engine_batch_del(d->batch, FAM_LEASE, slice_buf(&d->key));
	if (!err && has)
		err = attached_key(&d->key, has, key);
	if (!err && has)
		err = engine_batch_put(d->batch, FAM_LEASE, slice_buf(&d->key), slice_of(NULL, 0));
	return err;
}

/*
 * Moves the versions of one key: each ends the one before it, which goes to `hist`; the last stays
 * in `latest`. One that stands there already, of the same revision, is itself and ended by nothing.
 */
static int move_chain(struct drain *d)
{
	struct mem_node *oldest = d->chain[d->nchain - 1];
	struct slice key = oldest->key, alive = { 0 };
	struct engine_pin pin = { 0 };
	struct record rec;
	mvcc_rev_t alive_rev = 0;
	mvcc_lease_t had = 0;
	bool existed = false;
	int err = 0;

	if (!(oldest->flags & MEM_NEW)) {
		err = get_latest(d, key, &pin, &rec);
		existed = err == 0;
		if (existed) {
			alive = pin.value;
			alive_rev = rec.mod;
			had = rec.lease;
		}
		if (err == -ENOENT)
			err = 0;
	}
	for (size_t i = d->nchain; !err && i-- > 0;) {
		struct mem_node *node = d->chain[i];

		if (alive.len && alive_rev < node->rev)
			err = put_hist(d, key, node->rev, alive, &rec);
		alive = node->value;
		alive_rev = node->rev;
		if (!err && alive.len)
			err = record_decode(alive, &rec);
		if (!err && alive.len)
			err = count_blobs(d, &rec);
	}
	if (!err && alive.len)
		err = engine_batch_put(d->batch, FAM_LATEST, key, alive);
	else if (!err && existed)
		err = engine_batch_del(d->batch, FAM_LATEST, key);
	if (!err)
		err = move_lease(d, key, had, alive.len ? rec.lease : 0);
	engine_pin_release(d->db->engine, &pin);
	return err;
}

static int move_memtable(struct drain *d)
{
	struct mem_node *node = memtable_first(&d->gen->mt);
	int err = 0;

	while (!err && node) {
		struct slice key = node->key;

		d->nchain = 0;
		for (; !err && node && slice_eq(node->key, key); node = memtable_next(node))
			err = chain_add(d, node);
		if (!err)
			err = move_chain(d);
	}
	return err;
}

/* ---- its rows of the meta family ---- */

static int put_settled(struct drain *d, const struct commit_head *head)
{
	struct slice settled = head->settled;
	uint64_t id;
	int err = 0;

	while (!err && take_varint(&settled, &id)) {
		err = meta_key_id(&d->key, META_INTENT, id);
		if (!err)
			err = engine_batch_del(d->batch, FAM_META, slice_buf(&d->key));
	}
	return err;
}

static int raise_count(struct drain *d, mvcc_blob_t blob, uint64_t by)
{
	uint64_t count;
	int err = blob_count_get(d->db, blob, &d->key, &count);

	return err ? err : blob_count_put(d->batch, slice_buf(&d->key), count + by);
}

/* Raises the counts of the blobs noted. */
static int put_refs(struct drain *d)
{
	int err = 0;

	blob_ids_sort(&d->own);
	for (size_t i = 0, n; !err && i < d->own.n; i += n) {
		n = blob_ids_same(&d->own, i);
		for (size_t j = 1; !err && j < n; j++)
			err = blob_ids_add(&d->refs, d->own.v[i]);
	}
	blob_ids_sort(&d->refs);
	for (size_t i = 0, n; !err && i < d->refs.n; i += n) {
		n = blob_ids_same(&d->refs, i);
		err = raise_count(d, d->refs.v[i], n);
	}
	d->own.n = d->refs.n = 0;
	return err;
}

static struct applied applied_by(const struct generation *gen)
{
	return (struct applied){
		.seq = gen->end.seq,
		.pos = gen->end.pos,
		.check = gen->end.check,
		.rev = gen->last_rev,
		.time_ns = gen->last_time_ns,
	};
}

static int put_applied(struct drain *d)
{
	struct applied applied = applied_by(d->gen);
	int err = applied_encode(&d->row, &applied);

	if (!err)
		err = engine_batch_put(d->batch, FAM_META, slice_str(META_APPLIED), slice_buf(&d->row));
	return err ? err : blob_low_put(d->db, d->batch, applied.rev, NULL);
}

static int write_batch(struct drain *d)
{
	uint64_t begun_ns = now_ns();
	int err = db_write(d->db, d->batch, ENGINE_NOSYNC);

	if (!err)
		histogram_add(&d->db->h_drain, now_ns() - begun_ns);
	return err;
}

/* The last batch of a generation. Under refs_lock, as it counts, and says where unused blobs may begin. */
static int finish(struct drain *d)
{
	int err;

	pthread_mutex_lock(&d->db->refs_lock);
	err = put_refs(d);
	if (!err)
		err = put_applied(d);
	if (!err)
		err = write_batch(d);
	pthread_mutex_unlock(&d->db->refs_lock);
	return err;
}

/* ---- a generation in memory ---- */

static int log_commit(struct drain *d, struct slice payload)
{
	struct commit_head head;
	struct slice ops;
	struct op op;
	int err = commit_head_decode(payload, &head);

	if (err)
		return err;
	log_begin(d, &head, 0);
	ops = head.ops;
	while (!err && op_take(&ops, &op)) {
		struct record rec;

		if (!(op.flags & OP_DEL))
			err = record_decode(op.record, &rec);
		if (!err)
			err = log_op(d, &op, op.flags & OP_DEL ? NULL : &rec);
	}
	if (!err)
		err = log_flush(d);
	return err ? err : put_settled(d, &head);
}

/* A lease was granted or renewed: its row is the record, with the id in its key. */
static int put_lease(struct drain *d, struct slice payload)
{
	struct lease_row row;
	int err = lease_decode(payload, &row);

	if (!err)
		err = lease_key(&d->key, row.id);
	if (!err)
		err = engine_batch_put(d->batch, FAM_LEASE, slice_buf(&d->key),
				       slice_of(payload.data + LEASE_VALUE, LEASE_BYTES - LEASE_VALUE));
	return err;
}

/* The ring still has the generation's records: log rows, intents and leases are made from them. */
static int move_ring(struct drain *d)
{
	struct ring_at at = d->gen->begin;
	int err = 0;

	while (!err && at.seq != d->gen->end.seq) {
		struct slice payload;
		uint32_t type;

		if (!ring_next(&d->db->ring, &at, &type, &payload))
			return MVCC_ECORRUPT;
		switch (type) {
		case RING_COMMIT:
			err = log_commit(d, payload);
			break;
		case RING_INTENT:
			err = meta_key_id(&d->key, META_INTENT, at.seq);
			if (!err)
				err = engine_batch_put(d->batch, FAM_META, slice_buf(&d->key), payload);
			break;
		case RING_INTENT_DROP:
			err = payload.len == 8 ? 0 : MVCC_ECORRUPT;
			if (!err)
				err = meta_key_id(&d->key, META_INTENT, get_le64(payload.data));
			if (!err)
				err = engine_batch_del(d->batch, FAM_META, slice_buf(&d->key));
			break;
		case RING_LEASE:
			err = put_lease(d, payload);
			break;
		case RING_LEASE_DROP:
			err = payload.len == 8 ? 0 : MVCC_ECORRUPT;
			if (!err)
				err = lease_key(&d->key, get_le64(payload.data));
			if (!err)
				err = engine_batch_del(d->batch, FAM_LEASE, slice_buf(&d->key));
			break;
		default:
			err = MVCC_ECORRUPT;
		}
	}
	return err;
}

static int drain_memory(struct drain *d)
{
	int err = move_memtable(d);

	if (!err)
		err = move_ring(d);
	return err ? err : finish(d);
}

/* ---- a staged run ---- */

/*
 * Which log part comes next: 0, or the one after the last, when a kill came between two chunks. The
 * rows moved by then are gone from the stage, so nothing is told twice.
 */
static int next_log_part(struct drain *d, mvcc_rev_t rev, uint32_t *out)
{
	struct engine_iter *it = NULL;
	int err = log_key(&d->key, rev, 0);

	*out = 0;
	if (!err)
		err = log_key(&d->row, rev + 1, 0);
	if (!err)
		err = engine_iter_new(d->db->engine, FAM_LOG, slice_buf(&d->key), slice_buf(&d->row), &it);
	if (err)
		return err;
	if (engine_iter_seek_last(it)) {
		err = log_key_decode(it->key, &rev, out);
		(*out)++;
	} else {
		err = engine_iter_error(it);
	}
	engine_iter_free(it);
	return err;
}

/* Moves one row of the run, or one operation that was computed at its commit. */
static int move_op(struct drain *d, struct op *op)
{
	struct engine_pin pin = { 0 };
	struct record rec, old;
	bool existed = false;
	int err = 0;

	if (op->prev) {
		err = get_latest(d, op->key, &pin, &old);
		existed = err == 0;
		if (err == -ENOENT)
			err = 0;
	}
	if (!err && existed && old.mod == d->rev) /* moved by a chunk before the kill */
		goto out;
	if (!err && existed)
		err = put_hist(d, op->key, d->rev, pin.value, &old);
	if (!err && (op->flags & OP_DEL)) {
		if (existed)
			err = engine_batch_del(d->batch, FAM_LATEST, op->key);
		if (!err && existed)
			err = move_lease(d, op->key, old.lease, 0);
		if (!err && existed)
			err = log_op(d, op, NULL);
		goto out;
	}
	if (!err)
		err = record_decode(op->record, &rec);
	if (err)
		goto out;
	record_resolve(&rec, d->rev);
	buf_clear(&d->record);
	err = record_encode(&d->record, &rec);
	if (!err)
		err = engine_batch_put(d->batch, FAM_LATEST, op->key, slice_buf(&d->record));
	if (!err)
		err = move_lease(d, op->key, existed ? old.lease : 0, rec.lease);
	if (!err)
		err = count_blobs(d, &rec);
	if (!err)
		err = log_op(d, op, &rec);
out:
	engine_pin_release(d->db->engine, &pin);
	return err;
}

/*
 * A run that takes more than one batch could be left half moved by a power cut that takes its record in the ring.
 * So the first batch brings that record.
 */
static int tell_commit(struct drain *d)
{
	struct applied after = applied_by(d->gen);
	int err = d->told ? 0 : moving_encode(&d->row, &after, d->commit);

	if (!err && !d->told)
		err = engine_batch_put(d->batch, FAM_META, slice_str(META_MOVING), slice_buf(&d->row));
	d->told = true;
	return err;
}

static int end_chunk(struct drain *d)
{
	int err = log_flush(d);

	if (!err)
		err = tell_commit(d);
	pthread_mutex_lock(&d->db->refs_lock);
	if (!err)
		err = put_refs(d);
	if (!err)
		err = write_batch(d);
	pthread_mutex_unlock(&d->db->refs_lock);
	engine_batch_clear(d->batch);
	return err;
}

/* Merges the rows of the run with the operations of its commit record: their keys are disjoint. */
static int move_rows(struct drain *d, struct engine_iter *it, struct slice start, struct slice ops)
{
	bool on_row = engine_iter_seek(it, start), has_op;
	struct op row, computed;
	int err = 0;

	has_op = op_take(&ops, &computed);
	while (!err && (on_row || has_op)) {
		bool take_row = on_row;

		if (on_row && it->key.len == 8) { /* the end row goes last */
			on_row = engine_iter_next(it);
			continue;
		}
		if (on_row) {
			err = staged_decode(it->value, &row);
			row.key = slice_of(it->key.data + 8, it->key.len - 8);
			take_row = !has_op || slice_cmp(row.key, computed.key) < 0;
		}
		if (!err)
			err = move_op(d, take_row ? &row : &computed);
		if (!err && take_row)
			err = engine_batch_del(d->batch, FAM_STAGE, it->key);
		if (err)
			break;
		if (take_row)
			on_row = engine_iter_next(it);
		else
			has_op = op_take(&ops, &computed);
		if (engine_batch_bytes(d->batch) > CHUNK_BYTES_MAX)
			err = end_chunk(d);
	}
	return err ? err : engine_iter_error(it);
}

/* Counts the blobs that rows of the run share, and removes the end row, which tells of them. */
static int end_run(struct drain *d, struct slice end_row)
{
	struct engine_pin pin = { 0 };
	struct slice shared;
	mvcc_blob_t blob;
	uint64_t count;
	int err = engine_get(d->db->engine, FAM_STAGE, end_row, &pin);

	if (err)
		return err == -ENOENT ? MVCC_ECORRUPT : err;
	shared = pin.value;
	while (!err && shared_take(&shared, &blob, &count))
		for (uint64_t i = 1; !err && i < count; i++)
			err = blob_ids_add(&d->refs, blob);
	engine_pin_release(d->db->engine, &pin);
	return err ? err : engine_batch_del(d->batch, FAM_STAGE, end_row);
}

static int drain_run(struct drain *d)
{
	struct buf start = { 0 }, end = { 0 };
	struct engine_iter *it = NULL;
	struct ring_at at = d->gen->begin;
	struct commit_head head;
	uint32_t type, part;
	int err;

	d->commit = slice_buf(&d->db->moving);
	if (!d->commit.len && (!ring_next(&d->db->ring, &at, &type, &d->commit) || type != RING_COMMIT))
		return MVCC_ECORRUPT;
	err = commit_head_decode(d->commit, &head);
	if (!err)
		err = next_log_part(d, head.rev, &part);
	if (err)
		return err;
	log_begin(d, &head, part);
	err = id_key(&start, head.run);
	if (!err)
		err = id_key(&end, head.run + 1);
	if (!err)
		err = engine_iter_new(d->db->engine, FAM_STAGE, slice_buf(&start), slice_buf(&end), &it);
	if (!err) {
		atomic_store(&d->gen->moving, true); /* before the first row can be missing: see overlay.h */
		err = move_rows(d, it, slice_buf(&start), head.ops);
	}
	engine_iter_free(it);
	if (!err)
		err = log_flush(d);
	if (!err)
		err = end_run(d, slice_buf(&start));
	if (!err)
		err = put_settled(d, &head);
	if (!err)
		err = engine_batch_del(d->batch, FAM_META, slice_str(META_MOVING));
	if (!err)
		err = finish(d);
	buf_release(&start);
	buf_release(&end);
	return err;
}

/* ---- a generation, from its turn to its end ---- */

static int drain_into_engine(struct mvcc *db, struct generation *gen)
{
	struct drain d;
	int err;

	gate_enter(&db->gate);
	atomic_store(&db->applying, gen->last_rev); /* before any of it can be seen: see cursors */
	err = drain_init(&d, db, gen);
	if (!err && gen->run) {
		pthread_mutex_lock(&db->run_lock);
		err = drain_run(&d);
		if (err)
			db_fail(db, err); /* before anybody takes what is half moved for whole */
		pthread_mutex_unlock(&db->run_lock);
	} else if (!err) {
		err = drain_memory(&d);
	}
	drain_release(&d);
	gate_leave(&db->gate);
	if (err)
		return db_fail(db, err);
	db->engine_seq = gen->end.seq;
	atomic_fetch_add_explicit(&db->n_drains, 1, memory_order_relaxed);
	return 0;
}

/* The engine has all of `gen`: frees its stretch of the ring and takes it out of the overlay. */
static void retire(struct mvcc *db, struct generation *gen)
{
	atomic_store(&db->applied, gen->last_rev);
	blob_applied(db, gen->last_rev);
	overlay_drop_last(&db->overlay);
	pthread_mutex_lock(&db->commit_lock);
	atomic_store(&db->ring.tail, gen->end.pos);
	if (gen->run)
		db->runs_pending--;
	atomic_store(&db->applied_seq, gen->end.seq);
	room_wake_locked(db);
	pthread_mutex_unlock(&db->commit_lock);
	pthread_mutex_lock(&db->work_lock);
	if (!db->sync_due_ns && atomic_load(&db->synced_seq) != gen->end.seq) {
		db->sync_due_ns = (gen->born_ns ? gen->born_ns : now_ns()) + db->sync_ns;
		pthread_cond_signal(&db->sync_cv);
	}
	pthread_cond_broadcast(&db->drained_cv);
	pthread_mutex_unlock(&db->work_lock);
}

int drain_last(struct mvcc *db)
{
	struct gen_set *set;
	struct generation *gen;
	int err = 0;

	pthread_mutex_lock(&db->commit_lock); /* whoever pushed a generation has finished it */
	set = overlay_ref(&db->overlay);
	pthread_mutex_unlock(&db->commit_lock);
	gen = set->gens[set->n - 1];
	if (set->n > 1) {
		if (!is_empty(gen) && gen->end.seq > db->engine_seq)
			err = drain_into_engine(db, gen);
		if (!err)
			retire(db, gen);
	}
	gen_set_unref(set);
	return err;
}

int drain_to(struct mvcc *db, uint64_t seq)
{
	int failed = 0;

	kick(db, seq);
	pthread_mutex_lock(&db->work_lock);
	while (atomic_load(&db->applied_seq) < seq) {
		failed = atomic_load(&db->failed);
		if (failed)
			break;
		pthread_cond_wait(&db->drained_cv, &db->work_lock);
	}
	pthread_mutex_unlock(&db->work_lock);
	return failed;
}

/* ---- leaving the failed state ------------------------------------------------------------- */

/* What the engine says it has applied: after a failed write, nobody else knows. */
static int ask_applied(struct mvcc *db)
{
	struct engine_pin pin = { 0 };
	struct applied applied;
	int err;

	gate_enter(&db->gate);
	err = engine_get(db->engine, FAM_META, slice_str(META_APPLIED), &pin);
	if (!err)
		err = applied_decode(pin.value, &applied);
	engine_pin_release(db->engine, &pin);
	gate_leave(&db->gate);
	if (!err)
		db->engine_seq = applied.seq;
	return err;
}

static void recover(struct mvcc *db)
{
	int err;

	if (!space_recovered(db) || !gate_try_shut(&db->gate))
		return; /* somebody has a cursor open: next time */
	err = engine_reopen(db->engine);
	gate_open(&db->gate);
	if (!err)
		err = ask_applied(db);
	if (!err)
		err = keep_load(db);
	if (!err)
		err = policy_load(db);
	if (err)
		return;
	db_log(db, LOG_NOTICE, "the engine works again; %s",
	       "commits that waited in the ring go on their way");
	pthread_mutex_lock(&db->commit_lock);
	atomic_store(&db->failed, 0);
	room_wake_locked(db);
	pthread_mutex_unlock(&db->commit_lock);
	keep_wake(db, true); /* what was asked for before it failed may have been forgotten */
}

/* ---- the threads -------------------------------------------------------------------------- */

enum { THREADS = 3 };

static bool anything_sealed(struct mvcc *db)
{
	struct gen_set *set = overlay_ref(&db->overlay);
	bool sealed = set->n > 1;

	gen_set_unref(set);
	return sealed;
}

static void seal(struct mvcc *db)
{
	struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };
	int err;

	pthread_mutex_lock(&db->commit_lock);
	err = seal_locked(db);
	if (!err) {
		pthread_mutex_lock(&db->work_lock);
		db->active_born_ns = 0;
		pthread_mutex_unlock(&db->work_lock);
	}
	pthread_mutex_unlock(&db->commit_lock);
	if (err)
		nanosleep(&pause, NULL); /* out of memory: somebody may give some back */
}

/* One step of the committer, which holds work_lock, and drops it while it works. */
static void committer_step(struct mvcc *db)
{
	bool asked = db->kick_seq > atomic_load(&db->applied_seq);
	uint64_t born = db->active_born_ns;
	struct timespec until;

	if (atomic_load(&db->failed)) {
		if (!db->retry_due_ns)
			db->retry_due_ns = now_ns() + RETRY_NS;
		if (now_ns() < db->retry_due_ns) {
			until = timespec_of(db->retry_due_ns);
			pthread_cond_timedwait(&db->work_cv, &db->work_lock, &until);
			return;
		}
		db->retry_due_ns = 0;
		pthread_mutex_unlock(&db->work_lock);
		recover(db);
		pthread_mutex_lock(&db->work_lock);
	} else if (anything_sealed(db)) {
		pthread_mutex_unlock(&db->work_lock);
		drain_last(db);
		pthread_mutex_lock(&db->work_lock);
	} else if (born && (asked || now_ns() >= born + SEAL_NS)) {
		pthread_mutex_unlock(&db->work_lock);
		seal(db);
		pthread_mutex_lock(&db->work_lock);
	} else if (born) {
		until = timespec_of(born + SEAL_NS);
		pthread_cond_timedwait(&db->work_cv, &db->work_lock, &until);
	} else {
		pthread_cond_wait(&db->work_cv, &db->work_lock);
	}
}

static void *committer_main(void *arg)
{
	struct mvcc *db = arg;

	pthread_mutex_lock(&db->work_lock);
	while (!db->stop_committer)
		committer_step(db);
	pthread_mutex_unlock(&db->work_lock);
	return NULL;
}

/* Puts all that is committed by now on disk. */
static int sync_all(struct mvcc *db)
{
	uint64_t seq = atomic_load(&db->head_seq);
	mvcc_rev_t applied;
	uint64_t begun_ns;
	int err = drain_to(db, seq);

	if (err)
		return err;
	seq = atomic_load(&db->applied_seq);
	applied = atomic_load(&db->applied);
	if (seq == atomic_load(&db->synced_seq))
		return 0;
	gate_enter(&db->gate);
	begun_ns = now_ns();
	err = engine_sync(db->engine);
	gate_leave(&db->gate);
	if (err)
		return db_fail(db, err);
	histogram_add(&db->h_sync, now_ns() - begun_ns);
	atomic_store(&db->synced_seq, seq);
	atomic_store(&db->synced, applied);
	atomic_fetch_add_explicit(&db->n_syncs, 1, memory_order_relaxed);
	return 0;
}

static void answer_syncs(struct mvcc *db, struct waiters *waiters, int err)
{
	struct waiter *w;

	while ((w = STAILQ_FIRST(waiters))) {
		STAILQ_REMOVE_HEAD(waiters, link);
		w->err = err;
		if (w->direct) {
			w->sync_fn(w->arg, err);
			free(w);
			continue;
		}
		pthread_mutex_lock(&db->work_lock);
		STAILQ_INSERT_TAIL(&db->notices, w, link);
		pthread_cond_signal(&db->notify_cv);
		pthread_mutex_unlock(&db->work_lock);
	}
}

static bool sync_is_due(struct mvcc *db)
{
	struct timespec until;

	if (!STAILQ_EMPTY(&db->syncs))
		return true;
	if (!db->sync_due_ns) {
		pthread_cond_wait(&db->sync_cv, &db->work_lock); /* idle: nothing to wake up for */
		return false;
	}
	if (now_ns() >= db->sync_due_ns)
		return true;
	until = timespec_of(db->sync_due_ns);
	pthread_cond_timedwait(&db->sync_cv, &db->work_lock, &until);
	return false;
}

static void *syncer_main(void *arg)
{
	struct mvcc *db = arg;

	pthread_mutex_lock(&db->work_lock);
	while (!db->stop_syncer || !STAILQ_EMPTY(&db->syncs)) {
		struct waiters taken = STAILQ_HEAD_INITIALIZER(taken);
		int err;

		if (!sync_is_due(db))
			continue;
		STAILQ_CONCAT(&taken, &db->syncs);
		pthread_mutex_unlock(&db->work_lock);
		err = sync_all(db);
		answer_syncs(db, &taken, err);
		pthread_mutex_lock(&db->work_lock);
		db->sync_due_ns = 0;
		if (err || atomic_load(&db->applied_seq) != atomic_load(&db->synced_seq))
			db->sync_due_ns = now_ns() + db->sync_ns;
	}
	pthread_mutex_unlock(&db->work_lock);
	return NULL;
}

static void *notifier_main(void *arg)
{
	struct mvcc *db = arg;
	struct waiter *w;

	pthread_mutex_lock(&db->work_lock);
	while (!db->stop_notifier || !STAILQ_EMPTY(&db->notices)) {
		w = STAILQ_FIRST(&db->notices);
		if (!w) {
			pthread_cond_wait(&db->notify_cv, &db->work_lock);
			continue;
		}
		STAILQ_REMOVE_HEAD(&db->notices, link);
		pthread_mutex_unlock(&db->work_lock);
		if (w->room_fn)
			w->room_fn(w->arg);
		else
			w->sync_fn(w->arg, w->err);
		free(w);
		pthread_mutex_lock(&db->work_lock);
	}
	pthread_mutex_unlock(&db->work_lock);
	return NULL;
}

int threads_start(struct mvcc *db)
{
	static void *(*const mains[])(void *) = { syncer_main, committer_main, notifier_main };
	pthread_t *const threads[] = { &db->syncer, &db->committer, &db->notifier };
	sigset_t all, was;
	int err = 0;

	sigfillset(&all); /* signals are for the program's own threads */
	pthread_sigmask(SIG_SETMASK, &all, &was);
	while (!err && db->threads < THREADS) {
		err = -pthread_create(threads[db->threads], NULL, mains[db->threads], db);
		if (!err)
			db->threads++;
	}
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	return err;
}

/*
 * The watch thread and the sync thread first, as they need the committer; the notifier when it has called all
 * completions.
 */
void threads_stop(struct mvcc *db)
{
	bool *const stops[] = { &db->stop_syncer, &db->stop_committer, &db->stop_notifier };
	pthread_cond_t *const cvs[] = { &db->sync_cv, &db->work_cv, &db->notify_cv };
	const pthread_t threads[] = { db->syncer, db->committer, db->notifier };

	watching_stop(db);
	for (unsigned i = 0; i < db->threads && i < THREADS; i++) {
		pthread_mutex_lock(&db->work_lock);
		if (stops[i] == &db->stop_notifier)
			STAILQ_CONCAT(&db->notices, &db->rooms);
		*stops[i] = true;
		pthread_cond_broadcast(cvs[i]);
		pthread_mutex_unlock(&db->work_lock);
		pthread_join(threads[i], NULL);
	}
	db->threads = 0;
}

/* ---- sync --------------------------------------------------------------------------------- */

static int sync_enqueue(struct mvcc *db, mvcc_rev_t rev, void (*fn)(void *arg, int err), void *arg,
			bool direct)
{
	struct waiter *w = malloc(sizeof(*w));

	if (!w)
		return -ENOMEM;
	*w = (struct waiter){ .rev = rev, .sync_fn = fn, .arg = arg, .direct = direct };
	pthread_mutex_lock(&db->work_lock);
	STAILQ_INSERT_TAIL(&db->syncs, w, link);
	pthread_cond_signal(&db->sync_cv);
	pthread_mutex_unlock(&db->work_lock);
	return 0;
}

int mvcc_sync_async(struct mvcc *db, mvcc_rev_t rev, void (*fn)(void *arg, int err), void *arg)
{
	return sync_enqueue(db, rev, fn, arg, false);
}

struct sync_wait {
	pthread_mutex_t lock;
	pthread_cond_t cv;
	bool done;
	int err;
};

static void sync_done(void *arg, int err)
{
	struct sync_wait *wait = arg;

	pthread_mutex_lock(&wait->lock);
	wait->err = err;
	wait->done = true;
	pthread_cond_signal(&wait->cv);
	pthread_mutex_unlock(&wait->lock);
}

/* Is there nothing to do for a sync up to `rev`? */
static bool is_synced(struct mvcc *db, mvcc_rev_t rev)
{
	if (atomic_load(&db->failed))
		return false;
	if (rev != MVCC_REV_LATEST && rev <= atomic_load(&db->synced))
		return true;
	return atomic_load(&db->synced_seq) == atomic_load(&db->head_seq);
}

int mvcc_sync(struct mvcc *db, mvcc_rev_t rev)
{
	struct sync_wait wait = { .done = false };
	int err;

	if (rev > atomic_load(&db->current))
		return MVCC_EFUTURE;
	if (is_synced(db, rev))
		return 0;
	pthread_mutex_init(&wait.lock, NULL);
	pthread_cond_init(&wait.cv, NULL);
	err = sync_enqueue(db, rev, sync_done, &wait, true);
	pthread_mutex_lock(&wait.lock);
	while (!err && !wait.done)
		pthread_cond_wait(&wait.cv, &wait.lock);
	pthread_mutex_unlock(&wait.lock);
	pthread_cond_destroy(&wait.cv);
	pthread_mutex_destroy(&wait.lock);
	return err ? err : wait.err;
}
