/*
 * The staged run of a transaction too large for memory. Its rows stand in the engine's staging
 * family under BE64(run) ++ key, one for each key it wrote, in the form they will have but for the
 * revision. They belong to nobody else until a commit record names the run; what never gets so far
 * is removed by abort, or by the next open.
 *
 * A row says what stood under its key at the transaction's base. That is still true at commit, as
 * commit fails if another transaction changed a key of the run.
 */
#include "mvcc/lease_int.h"
#include "mvcc/txn_int.h"

#include <errno.h>
#include <stdlib.h>
#include <xxhash.h>

/* ---- which keys the run holds ------------------------------------------------------------- */

static struct bloom *bloom_new(size_t nkeys)
{
	size_t nbits = 512;
	struct bloom *bloom;

	while (nbits < 8 * nkeys)
		nbits *= 2;
	bloom = calloc(1, sizeof(*bloom) + nbits / 8);
	if (bloom) {
		bloom->nkeys = bloom->room = nkeys;
		bloom->nbits = nbits;
	}
	return bloom;
}

/*
 * The filter that a spill's keys go to: the newest, if it has room and no savepoint needs it as it is, or a new one.
 * Each is made for twice as many keys as the one before, so that a run of any size has few to look into.
 */
static struct bloom *bloom_for(struct mvcc_txn *txn, size_t nkeys)
{
	struct bloom *newest = txn->savepoints ? NULL : txn->blooms;

	if (newest && newest->room >= nkeys)
		return newest;
	return bloom_new(newest && nkeys < 2 * newest->nkeys ? 2 * newest->nkeys : nkeys);
}

/* The four bits of a key: the hash, then steps of its upper half. */
static uint64_t bloom_bit(const struct bloom *bloom, uint64_t hash, unsigned i)
{
	return (hash + i * (hash >> 32 | 1)) & (bloom->nbits - 1);
}

static void bloom_add(struct bloom *bloom, struct slice key)
{
	uint64_t hash = XXH3_64bits_withSeed(key.data, key.len, 0);

	for (unsigned i = 0; i < 4; i++) {
		uint64_t bit = bloom_bit(bloom, hash, i);

		bloom->bits[bit / 64] |= 1ull << (bit % 64);
	}
}

bool blooms_may_hold(const struct bloom *bloom, const struct bloom *end, struct slice key)
{
	uint64_t hash = XXH3_64bits_withSeed(key.data, key.len, 0);

	for (; bloom != end; bloom = bloom->next) {
		unsigned hits = 0;

		while (hits < 4) {
			uint64_t bit = bloom_bit(bloom, hash, hits);

			if (!(bloom->bits[bit / 64] >> (bit % 64) & 1))
				break;
			hits++;
		}
		if (hits == 4)
			return true;
	}
	return false;
}

bool run_may_hold(const struct mvcc_txn *txn, struct slice key)
{
	return blooms_may_hold(txn->blooms, NULL, key);
}

struct bloom *blooms_free(struct bloom *bloom, struct bloom *end)
{
	while (bloom != end) {
		struct bloom *next = bloom->next;

		free(bloom);
		bloom = next;
	}
	return end;
}

/* ---- spilling ----------------------------------------------------------------------------- */

int run_count_blobs(struct mvcc_txn *txn, const struct op *op, bool up)
{
	struct record rec;
	int err = 0;

	if (op->flags & OP_DEL)
		return 0;
	err = record_decode(op->record, &rec);
	while (!err && rec.nblobs-- > 0) {
		struct staged_blob *staged;
		mvcc_blob_t blob;
		bool own;

		if (!record_blob_take(&rec.blobs, &blob, &own))
			return MVCC_ECORRUPT;
		staged = blob_staged(&txn->staged, blob);
		if (staged && up)
			staged->refs++;
		else if (staged && staged->refs)
			staged->refs--;
	}
	return err;
}

int run_reborn(struct mvcc_txn *txn, struct slice key, struct txn_write *w)
{
	struct engine_pin pin = { 0 };
	struct op op;
	int err = -ENOENT;

	gate_enter(&txn->db->gate);
	if (run_may_hold(txn, key))
		err = stage_get(txn->db, txn->run, key, &pin, &op);
	if (!err)
		w->reborn |= op.flags & (OP_DEL | OP_REBORN);
	engine_pin_release(txn->db->engine, &pin);
	gate_leave(&txn->db->gate);
	w->reborn_known = !err || err == -ENOENT;
	return err == -ENOENT ? 0 : err;
}

int run_holds(struct mvcc_txn *txn, struct slice key)
{
	struct engine_pin pin = { 0 };
	struct op op;
	int err = -ENOENT;

	gate_enter(&txn->db->gate);
	if (run_may_hold(txn, key))
		err = stage_get(txn->db, txn->run, key, &pin, &op);
	engine_pin_release(txn->db->engine, &pin);
	gate_leave(&txn->db->gate);
	return err == -ENOENT ? 0 : err ? err : 1;
}

/* Is a row of the run a change? Not if it deletes what is not there. */
static bool op_counts(const struct op *op)
{
	return !(op->flags & OP_DEL) || op->prev;
}

/* The run has a row of the key already, perhaps. That one counts no more. */
static int spill_earlier(struct mvcc_txn *txn, struct slice key, struct txn_write *w,
			 struct engine_batch *batch)
{
	struct engine_pin pin = { 0 };
	struct op op;
	int err = -ENOENT;

	w->reborn_known = true;
	if (run_may_hold(txn, key))
		err = stage_get(txn->db, txn->run, key, &pin, &op);
	if (err == -ENOENT)
		return savepoint_keep_row(txn, key, slice_of(NULL, 0), batch);
	if (err)
		return err;
	w->reborn |= w->what == WRITE_PUT && (op.flags & (OP_DEL | OP_REBORN));
	err = savepoint_keep_row(txn, key, pin.value, batch);
	if (!err)
		err = run_count_blobs(txn, &op, false);
	txn->run_counts -= op_counts(&op);
	txn->run_grows -= !(op.flags & OP_DEL);
	engine_pin_release(txn->db->engine, &pin);
	return err;
}

static int spill_write(struct mvcc_txn *txn, struct slice key, struct txn_write *w,
		       struct engine_batch *batch)
{
	struct op op = { .flags = w->what == WRITE_DEL ? OP_DEL : 0 };
	struct buf row = { 0 };
	int err = txn_write_header(txn, key, w);

	if (!err)
		err = spill_earlier(txn, key, w, batch);
	op.prev = w->header.mod;
	buf_clear(&txn->rec);
	if (!err && w->what == WRITE_PUT) {
		struct record rec;

		err = txn_write_record(txn, key, w, &rec);
		if (!err)
			err = txn_blobs_tell(txn, w->blobs, w->nblobs, &txn->list);
		rec.blobs = slice_buf(&txn->list);
		if (!err)
			err = record_encode(&txn->rec, &rec);
		op.record = slice_buf(&txn->rec);
		if (w->reborn)
			op.flags |= OP_REBORN;
	}
	buf_clear(&txn->value);
	if (!err)
		err = staged_encode(&txn->value, &op);
	if (!err)
		err = stage_key(&row, txn->run, key);
	if (!err)
		err = engine_batch_put(batch, FAM_STAGE, slice_buf(&row), slice_buf(&txn->value));
	buf_release(&row);
	if (!err && w->what == WRITE_PUT && w->attaches)
		err = lease_ids_add(&txn->run_leases, w->lease);
	txn->run_counts += op_counts(&op);
	txn->run_grows += !(op.flags & OP_DEL);
	return err;
}

/* A write with updates only, or that has to wait for commit, goes over to the next table. */
static int keep_write(struct txn_writes *next, struct slice key, const struct txn_write *w)
{
	struct txn_write *kept = txn_write_new(next, key);

	if (!kept)
		return -ENOMEM;
	*kept = *w;
	kept->old = (struct mvcc_item){ 0 };
	kept->old_known = false;
	kept->updates = kept->last_update = NULL;
	kept->value = memtable_copy(&next->mt, w->value);
	kept->blobs = memtable_copy(&next->mt, w->blobs);
	kept->blobs_told = slice_of(NULL, 0);
	for (const struct txn_update *u = w->updates; u; u = u->next) {
		struct txn_update *copy = memtable_alloc(&next->mt, sizeof(*copy));

		if (!copy)
			return -ENOMEM;
		*copy = (struct txn_update){ .fn = u->fn, .arg = memtable_copy(&next->mt, u->arg) };
		if (!copy->arg.data)
			return -ENOMEM;
		if (kept->last_update)
			kept->last_update->next = copy;
		else
			kept->updates = copy;
		kept->last_update = copy;
	}
	return kept->value.data && kept->blobs.data ? 0 : -ENOMEM;
}

/* Before the last spill: updates of keys that the run holds become puts. */
static int fold_into_run(struct mvcc_txn *txn, struct slice key, struct txn_write *w)
{
	struct engine_pin pin;
	struct record rec;
	struct op op;
	int err;

	if (w->what == WRITE_NONE && run_may_hold(txn, key)) {
		err = stage_get(txn->db, txn->run, key, &pin, &op);
		if (err && err != -ENOENT)
			return err;
		if (!err && (op.flags & OP_DEL))
			w->updates = w->last_update = NULL;
		else if (!err)
			err = record_decode(op.record, &rec);
		if (!err && !(op.flags & OP_DEL))
			err = txn_update_to_put(txn, w, &rec);
		engine_pin_release(txn->db->engine, &pin);
		if (err && err != -ENOENT)
			return err;
	}
	return w->what == WRITE_PUT ? txn_fold_updates(txn, w) : 0;
}

/* A run that only deletes may use most of the reserve, as its commit may. */
static int write_and_clear(struct mvcc_txn *txn, struct engine_batch *batch)
{
	int err = space_admit(txn->db, engine_batch_bytes(batch), txn->run_grows > 0);

	if (!err)
		err = db_write(txn->db, batch, ENGINE_NOSYNC);
	engine_batch_clear(batch);
	return err;
}

/* Written last, it vouches for all other rows; and it knows which blobs they share. */
static int put_end_row(struct mvcc_txn *txn, struct engine_batch *batch)
{
	struct buf key = { 0 };
	int err = id_key(&key, txn->run);

	buf_clear(&txn->value);
	for (size_t i = 0; !err && i < txn->staged.n; i++)
		if (txn->staged.v[i].refs > 1)
			err = shared_put(&txn->value, txn->staged.v[i].id, txn->staged.v[i].refs);
	if (!err)
		err = engine_batch_put(batch, FAM_STAGE, slice_buf(&key), slice_buf(&txn->value));
	buf_release(&key);
	return err;
}

int run_each_row(struct mvcc_txn *txn, run_row_fn *fn, void *arg)
{
	struct buf start = { 0 }, end = { 0 };
	struct engine_iter *it = NULL;
	int err = id_key(&start, txn->run);
	bool on_row;

	gate_enter(&txn->db->gate);
	if (!err)
		err = id_key(&end, txn->run + 1);
	if (!err)
		err = engine_iter_new(txn->db->engine, FAM_STAGE, slice_buf(&start), slice_buf(&end), &it);
	if (err)
		goto out;
	for (on_row = engine_iter_seek(it, slice_buf(&start)); on_row && !err;
	     on_row = engine_iter_next(it)) {
		struct op op;

		if (it->key.len == 8) /* the end row */
			continue;
		err = staged_decode(it->value, &op);
		op.key = slice_of(it->key.data + 8, it->key.len - 8);
		if (!err)
			err = fn(txn, &op, arg);
	}
	if (!err)
		err = engine_iter_error(it);
out:
	engine_iter_free(it);
	gate_leave(&txn->db->gate);
	buf_release(&start);
	buf_release(&end);
	return err;
}

static void forget_refs(struct mvcc_txn *txn)
{
	for (size_t i = 0; i < txn->staged.n; i++)
		txn->staged.v[i].refs = 0;
}

static int count_row(struct mvcc_txn *txn, const struct op *op, void *arg)
{
	(void)arg;
	txn->run_counts += op_counts(op);
	txn->run_grows += !(op->flags & OP_DEL);
	return run_count_blobs(txn, op, true);
}

/*
 * A commit came to grief in its last spill, and the transaction lives on: nobody knows how much of that spill is in
 * the run, so the figures of both are in the counts. All rows are there by now.
 */
static int count_anew(struct mvcc_txn *txn)
{
	txn->run_counts = txn->run_grows = 0;
	forget_refs(txn);
	return run_each_row(txn, count_row, NULL);
}

static int end_run(struct mvcc_txn *txn, struct engine_batch *batch)
{
	int err = 0;

	if (txn->miscounted)
		err = write_and_clear(txn, batch);
	if (!err && txn->miscounted)
		err = count_anew(txn);
	return err ? err : put_end_row(txn, batch);
}

static int spill_into(struct mvcc_txn *txn, bool last, struct txn_writes *next, struct engine_batch *batch,
		      struct bloom *bloom)
{
	int err = 0;

	for (struct mem_node *node = memtable_first(&txn->writes->mt); !err && node;
	     node = memtable_next(node)) {
		struct txn_write *w = write_of(node);
		struct txn_read *read;

		if (last)
			err = fold_into_run(txn, node->key, w);
		if (err)
			break;
		if (w->what == WRITE_NONE || w->updates) {
			err = w->updates ? keep_write(next, node->key, w) : 0;
			continue;
		}
		err = spill_write(txn, node->key, w, batch);
		bloom_add(bloom, node->key);
		read = txn_read_find(txn, node->key);
		if (read)
			read->spilled = true;
		if (!err && engine_batch_bytes(batch) > CHUNK_BYTES_MAX)
			err = write_and_clear(txn, batch);
	}
	if (!err && last)
		err = end_run(txn, batch);
	if (!err && engine_batch_bytes(batch) > 0)
		err = write_and_clear(txn, batch);
	return err;
}

static void begin_run(struct mvcc_txn *txn)
{
	txn->run = atomic_fetch_add(&txn->db->next_run, 1) + 1;
	forget_refs(txn); /* of a commit that failed: it had counted what was in memory */
}

int txn_spill(struct mvcc_txn *txn, bool last)
{
	struct mvcc *db = txn->db;
	struct txn_writes *next = txn_writes_new();
	size_t nkeys = atomic_load(&txn->writes->mt.count);
	struct bloom *bloom = bloom_for(txn, nkeys);
	struct engine_batch *batch;
	int err = -ENOMEM;

	gate_enter(&db->gate);
	batch = engine_batch_new(db->engine);
	if (!txn->run)
		begin_run(txn);
	if (next && bloom && batch)
		err = spill_into(txn, last, next, batch, bloom);
	engine_batch_free(batch);
	gate_leave(&db->gate);
	if (err) {
		txn->miscounted = true;
		if (bloom != txn->blooms)
			free(bloom);
		txn_writes_unref(next);
		return err;
	}
	txn->miscounted &= !last;
	bloom->room -= nkeys;
	if (bloom != txn->blooms) {
		bloom->next = txn->blooms;
		txn->blooms = bloom;
	}
	savepoints_spilled(txn);
	txn_writes_unref(txn->writes);
	txn->writes = next;
	txn_reads_trim(txn);
	return 0;
}

int run_del(struct engine_batch *batch, uint64_t run)
{
	struct buf start = { 0 }, end = { 0 };
	int err = id_key(&start, run);

	if (!err)
		err = id_key(&end, run + 1);
	if (!err)
		err = engine_batch_del_range(batch, FAM_STAGE, slice_buf(&start), slice_buf(&end));
	buf_release(&start);
	buf_release(&end);
	return err;
}

void run_remove(struct mvcc_txn *txn)
{
	struct mvcc *db = txn->db;
	struct engine_batch *batch;

	if (!txn->run)
		return;
	gate_enter(&db->gate);
	batch = engine_batch_new(db->engine);
	if (batch && run_del(batch, txn->run) == 0)
		db_write(db, batch, ENGINE_NOSYNC); /* else the next open removes them */
	engine_batch_free(batch);
	gate_leave(&db->gate);
}

/* ---- validating --------------------------------------------------------------------------- */

/* Copies the keys changed in (base, rev] from the window: 0, 1 if it does not know them, or a code. */
static int window_keys(struct mvcc *db, mvcc_rev_t base, mvcc_rev_t rev, struct buf *out)
{
	int err = 0;

	pthread_mutex_lock(&db->commit_lock);
	if (base < db->window.low)
		err = 1;
	for (mvcc_rev_t r = base + 1; !err && r <= rev; r++) {
		const struct window_commit *c = window_at(&db->window, r);

		if (c->run)
			err = 1;
		for (unsigned i = 0; !err && i < c->n; i++)
			err = buf_put_bytes(out, c->changes[i].key);
	}
	pthread_mutex_unlock(&db->commit_lock);
	return err;
}

static int validate_row(struct mvcc_txn *txn, const struct op *op, void *arg)
{
	const mvcc_rev_t *rev = arg;
	struct header header;
	int err = header_at(txn->db, *rev, op->key, &header);

	return err ? err : header.mod != op->prev ? MVCC_ECONFLICT : 0;
}

static int validate_keys(struct mvcc_txn *txn, struct slice keys, mvcc_rev_t rev)
{
	struct slice key;
	int err = 0;

	while (!err && take_bytes(&keys, &key)) {
		struct engine_pin pin;
		struct op op;

		if (!run_may_hold(txn, key))
			continue;
		err = stage_get(txn->db, txn->run, key, &pin, &op);
		op.key = key;
		if (!err)
			err = validate_row(txn, &op, &rev);
		engine_pin_release(txn->db->engine, &pin);
		if (err == -ENOENT)
			err = 0;
	}
	return err;
}

int run_validate(struct mvcc_txn *txn, mvcc_rev_t rev)
{
	struct buf keys = { 0 };
	int err = window_keys(txn->db, txn->view->rev, rev, &keys);

	gate_enter(&txn->db->gate);
	if (err == 0)
		err = validate_keys(txn, slice_buf(&keys), rev);
	else if (err == 1)
		err = run_each_row(txn, validate_row, &rev); /* with what stands under its key then */
	gate_leave(&txn->db->gate);
	buf_release(&keys);
	return err;
}
