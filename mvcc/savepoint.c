/*
 * Savepoints. What a transaction has written is in two places, and each remembers for itself what it was.
 *
 * In memory: the first change of a write after a savepoint puts the write as it was on the table's list of undos. A
 * spill empties the table into the run; then the savepoints made since the spill before keep the old table as it is,
 * with its undos, and coming back to one of them makes it the transaction's table again. Tables are small, as they
 * are spilled when they are large, and once several are kept, a savepoint spills first and so has nothing to keep.
 *
 * In the run: a spill that replaces or adds a row puts what was there into the undo run of the newest savepoint, in
 * the same batch, unless that has the key already. A savepoint of before the first spill needs none: coming back to
 * it, the whole run goes.
 */
#include "mvcc/txn_int.h"

#include <errno.h>
#include <stdlib.h>

#define KEPT_TABLES 4 /* so many times the size at which a table is spilled may be kept in old ones */

/* ---- making, ending ----------------------------------------------------------------------- */

static struct savepoint *find_savepoint(const struct mvcc_txn *txn, unsigned number)
{
	struct savepoint *s = txn->savepoints;

	while (s && s->number != number)
		s = s->below;
	return s;
}

/* Would a spill now, of little, save keeping a table in memory later? */
static bool keeps_too_much(const struct mvcc_txn *txn)
{
	const struct memtable *mt = &txn->writes->mt;

	return txn->run && txn->writes->spillable &&
	       txn->kept_bytes + atomic_load(&mt->bytes) > KEPT_TABLES * txn->db->spill_bytes;
}

int mvcc_txn_savepoint(struct mvcc_txn *txn, unsigned *out)
{
	struct savepoint *s;

	if (!txn->err && keeps_too_much(txn))
		txn->err = txn_spill(txn, false);
	if (txn->err)
		return txn->err;
	s = malloc(sizeof(*s));
	if (!s)
		return -ENOMEM;
	*s = (struct savepoint){
		.below = txn->savepoints,
		.number = txn->savepoints ? txn->savepoints->number + 1 : 1,
		.level = ++txn->levels,
		.writes = txn->writes,
		.was_empty = atomic_load(&txn->writes->mt.count) == 0,
		.undos = txn->writes->undos,
		.mark = memtable_mark(&txn->writes->mt),
		.spillable = txn->writes->spillable,
		.kept_bytes = txn->kept_bytes,
		.run = txn->run,
		.run_counts = txn->run_counts,
		.run_grows = txn->run_grows,
		.run_leases = txn->run_leases.n,
		.blooms = txn->blooms,
		.nsettled = txn->nsettled,
		.broken = txn->broken,
		.guards = txn->guards,
		.ranges = txn->ranges,
	};
	s->writes->refs++;
	txn->run_leases.fixed = txn->run_leases.n;
	txn->savepoints = s;
	*out = s->number;
	return 0;
}

static void pop(struct mvcc_txn *txn)
{
	struct savepoint *s = txn->savepoints;

	txn->savepoints = s->below;
	txn_writes_unref(s->writes);
	free(s);
}

/* Deletes the run, if asked for, and the undo runs of the savepoints above `upto`, which may be NULL. */
static int remove_runs(struct mvcc_txn *txn, uint64_t run, const struct savepoint *upto)
{
	struct mvcc *db = txn->db;
	struct engine_batch *batch;
	int err;

	gate_enter(&db->gate);
	batch = engine_batch_new(db->engine);
	err = batch ? 0 : -ENOMEM;
	if (!err && run)
		err = run_del(batch, run);
	for (const struct savepoint *s = txn->savepoints; !err && s != upto; s = s->below)
		if (s->undo_run)
			err = run_del(batch, s->undo_run);
	if (!err)
		err = db_write(db, batch, ENGINE_NOSYNC);
	engine_batch_free(batch);
	gate_leave(&db->gate);
	return err;
}

void savepoints_end(struct mvcc_txn *txn)
{
	bool any = false;

	for (const struct savepoint *s = txn->savepoints; s; s = s->below)
		any |= s->undo_run != 0;
	if (any)
		remove_runs(txn, 0, NULL); /* if it fails, the next open removes them */
	while (txn->savepoints)
		pop(txn);
}

/* ---- at a spill --------------------------------------------------------------------------- */

int savepoint_keep_row(struct mvcc_txn *txn, struct slice key, struct slice row, struct engine_batch *batch)
{
	struct savepoint *s = txn->savepoints;
	struct engine_pin pin = { 0 };
	struct buf undo_key = { 0 };
	int err = -ENOENT;

	if (!s || !s->run)
		return 0;
	if (!s->undo_run)
		s->undo_run = atomic_fetch_add(&txn->db->next_run, 1) + 1;
	if (stage_key(&undo_key, s->undo_run, key))
		return -ENOMEM;
	if (blooms_may_hold(txn->blooms, s->blooms, key)) /* spilled since the savepoint, perhaps */
		err = engine_get(txn->db->engine, FAM_STAGE, slice_buf(&undo_key), &pin);
	engine_pin_release(txn->db->engine, &pin);
	if (err == -ENOENT)
		err = engine_batch_put(batch, FAM_STAGE, slice_buf(&undo_key), row);
	buf_release(&undo_key);
	return err;
}

void savepoints_spilled(struct mvcc_txn *txn)
{
	bool kept = false;

	for (struct savepoint *s = txn->savepoints; s && s->writes == txn->writes; s = s->below) {
		kept |= !s->was_empty;
		if (s->was_empty) {
			txn_writes_unref(s->writes);
			s->writes = NULL;
		}
	}
	if (kept)
		txn->kept_bytes += atomic_load(&txn->writes->mt.bytes);
}

/* ---- rolling back: the run ---------------------------------------------------------------- */

/* Adds to the batch that a row of the run becomes what `it` says it was. */
static int undo_row(struct mvcc_txn *txn, const struct engine_iter *it, struct engine_batch *batch)
{
	struct slice key = slice_of(it->key.data + 8, it->key.len - 8);
	struct engine_pin pin;
	struct buf row = { 0 };
	struct op now, was;
	int err = stage_get(txn->db, txn->run, key, &pin, &now);

	if (!err)
		err = run_count_blobs(txn, &now, false);
	engine_pin_release(txn->db->engine, &pin);
	if (!err)
		err = stage_key(&row, txn->run, key);
	if (!err && it->value.len) {
		err = staged_decode(it->value, &was);
		if (!err)
			err = run_count_blobs(txn, &was, true);
		if (!err)
			err = engine_batch_put(batch, FAM_STAGE, slice_buf(&row), it->value);
	} else if (!err) {
		err = engine_batch_del(batch, FAM_STAGE, slice_buf(&row));
	}
	if (!err)
		err = engine_batch_del(batch, FAM_STAGE, it->key);
	buf_release(&row);
	return err == -ENOENT ? MVCC_ECORRUPT : err; /* what was replaced is there */
}

static int write_undone(struct mvcc *db, struct engine_batch *batch)
{
	int err = space_admit(db, engine_batch_bytes(batch), false);

	if (!err)
		err = db_write(db, batch, ENGINE_NOSYNC);
	engine_batch_clear(batch);
	return err;
}

static int undo_rows(struct mvcc_txn *txn, struct engine_iter *it, struct slice start,
		     struct engine_batch *batch)
{
	bool on_row;
	int err = 0;

	for (on_row = engine_iter_seek(it, start); on_row && !err; on_row = engine_iter_next(it)) {
		err = undo_row(txn, it, batch);
		if (!err && engine_batch_bytes(batch) > CHUNK_BYTES_MAX)
			err = write_undone(txn->db, batch);
	}
	if (!err)
		err = engine_iter_error(it);
	return err ? err : write_undone(txn->db, batch);
}

/* Makes the run what it was at the savepoint, given what it was at the next one. */
static int undo_run(struct mvcc_txn *txn, const struct savepoint *s)
{
	struct engine_batch *batch = NULL;
	struct buf start = { 0 }, end = { 0 };
	struct engine_iter *it = NULL;
	int err = id_key(&start, s->undo_run);

	if (!err)
		err = id_key(&end, s->undo_run + 1);
	gate_enter(&txn->db->gate);
	if (!err)
		err = engine_iter_new(txn->db->engine, FAM_STAGE, slice_buf(&start), slice_buf(&end), &it);
	if (!err) {
		batch = engine_batch_new(txn->db->engine);
		err = batch ? undo_rows(txn, it, slice_buf(&start), batch) : -ENOMEM;
	}
	engine_iter_free(it);
	engine_batch_free(batch);
	gate_leave(&txn->db->gate);
	buf_release(&start);
	buf_release(&end);
	return err;
}

static int rollback_run(struct mvcc_txn *txn, const struct savepoint *to)
{
	int err = 0;

	if (txn->blooms == to->blooms)
		return 0; /* nothing was spilled since */
	if (to->run) {
		for (const struct savepoint *s = txn->savepoints; !err && s != to->below; s = s->below)
			if (s->undo_run)
				err = undo_run(txn, s);
		return err;
	}
	err = remove_runs(txn, txn->run, to);
	for (size_t i = 0; !err && i < txn->staged.n; i++)
		txn->staged.v[i].refs = 0;
	return err;
}

/* ---- rolling back: memory ----------------------------------------------------------------- */

static void rollback_writes(struct txn_writes *writes, const struct savepoint *to)
{
	for (; writes->undos != to->undos; writes->undos = writes->undos->older) {
		struct txn_write *w = write_of(writes->undos->node);

		*w = writes->undos->was;
		if (w->last_update)
			w->last_update->next = NULL; /* later ones were hung on it */
		if (writes->undos->made)
			memtable_unlink(&writes->mt, writes->undos->node);
	}
	memtable_rewind(&writes->mt, &to->mark);
	writes->spillable = to->spillable;
}

/* Guards told since are about writes that are undone; ranges walked stay. */
static void rollback_guards(struct mvcc_txn *txn, const struct savepoint *to)
{
	struct txn_range **at = &txn->ranges;

	txn_broken_free(txn, to->broken);
	for (; txn->guards != to->guards; txn->guards = txn->guards->next_guard)
		txn->guards->must_exist = false;
	while (*at != to->ranges) {
		struct txn_range *range = *at;

		if (!range->guard) {
			at = &range->next;
			continue;
		}
		*at = range->next;
		txn->nranges--;
		txn_range_free(range);
	}
}

/* Makes the table that the savepoint remembers the transaction's, as it was. Takes `fresh`, if there is none. */
static void rollback_table(struct mvcc_txn *txn, struct savepoint *to, struct txn_writes *fresh)
{
	if (fresh) {
		to->writes = fresh;
		to->undos = NULL;
		to->mark = memtable_mark(&fresh->mt);
		to->spillable = 0;
	}
	if (txn->writes != to->writes) {
		txn_writes_unref(txn->writes);
		txn->writes = to->writes;
		txn->writes->refs++;
	}
	rollback_writes(txn->writes, to);
}

int mvcc_txn_rollback(struct mvcc_txn *txn, unsigned savepoint)
{
	struct savepoint *to = find_savepoint(txn, savepoint);
	struct txn_writes *fresh = NULL;

	if (txn->err)
		return txn->err;
	if (!to)
		return -EINVAL;
	if (!to->writes) {
		fresh = txn_writes_new();
		if (!fresh)
			return -ENOMEM;
	}
	txn->err = rollback_run(txn, to);
	if (txn->err) {
		txn_writes_unref(fresh);
		return txn->err;
	}
	while (txn->savepoints != to)
		pop(txn);
	rollback_table(txn, to, fresh);
	rollback_guards(txn, to);
	txn->blooms = blooms_free(txn->blooms, to->blooms);
	txn->run = to->run;
	txn->run_counts = to->run_counts;
	txn->run_grows = to->run_grows;
	txn->run_leases.n = txn->run_leases.fixed = to->run_leases;
	txn->kept_bytes = to->kept_bytes;
	txn->nsettled = to->nsettled;
	return 0;
}
