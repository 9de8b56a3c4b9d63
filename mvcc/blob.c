/*
 * Blobs: large values in a family of their own, under BE64(id). One is written before the commit
 * whose record refers to it, so what never got so far must be found again: by abort, which knows its
 * own, and by open.
 *
 * For open the store keeps two numbers, `blob_low` and a revision, written with every drain: every
 * blob below blob_low has found its fate, either referred to by something in the engine, or removed;
 * and every commit that first refers to a blob at or above it is newer than the revision. So open
 * looks at the blobs from blob_low on and at the log after the revision, and at nothing else.
 */
#include "mvcc/keep_int.h"
#include "mvcc/mvcc_int.h"

#include <errno.h>
#include <stdlib.h>

#define REMOVALS_MAX 4096 /* in one batch */

static int blob_write(struct mvcc *db, mvcc_blob_t id, struct slice bytes)
{
	struct engine_batch *batch;
	uint8_t key[8];
	int err = -ENOMEM;

	put_be64(key, id);
	gate_enter(&db->gate);
	batch = engine_batch_new(db->engine);
	if (batch)
		err = engine_batch_put(batch, FAM_BLOB, slice_of(key, sizeof(key)), bytes);
	if (!err)
		err = db_write(db, batch, ENGINE_NOSYNC);
	engine_batch_free(batch);
	gate_leave(&db->gate);
	return err;
}

/* Takes an id, and notes it as the transaction's before anything is written. */
static int blob_take_id(struct mvcc *db, struct staged_blobs *staged, mvcc_blob_t *out)
{
	if (staged->n == staged->cap) {
		size_t cap = staged->cap ? 2 * staged->cap : 8;
		struct staged_blob *grown = realloc(staged->v, cap * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		staged->v = grown;
		staged->cap = cap;
	}
	pthread_mutex_lock(&db->blob_lock);
	if (!staged->stager) {
		staged->stager = calloc(1, sizeof(*staged->stager));
		if (staged->stager) {
			staged->stager->first = db->next_blob;
			staged->stager->since = atomic_load(&db->current);
			LIST_INSERT_HEAD(&db->stagers, staged->stager, link);
		}
	}
	*out = staged->stager ? db->next_blob++ : 0;
	pthread_mutex_unlock(&db->blob_lock);
	if (*out == 0)
		return -ENOMEM;
	staged->v[staged->n++] = (struct staged_blob){ .id = *out };
	return 0;
}

int blob_stage(struct mvcc *db, struct staged_blobs *staged, struct slice bytes, mvcc_blob_t *out)
{
	mvcc_blob_t id;
	int err = atomic_load(&db->failed);

	if (!err)
		err = space_admit(db, bytes.len, true);
	if (!err)
		err = blob_take_id(db, staged, &id);
	if (!err)
		err = blob_write(db, id, bytes);
	if (err)
		return err;
	atomic_fetch_add_explicit(&db->n_blobs, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&db->n_blob_bytes, bytes.len, memory_order_relaxed);
	*out = id;
	return 0;
}

/* Index of the first one from `id` on. */
static size_t staged_from(const struct staged_blobs *staged, mvcc_blob_t id)
{
	size_t lo = 0, hi = staged->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (staged->v[mid].id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct staged_blob *blob_staged(struct staged_blobs *staged, mvcc_blob_t id)
{
	size_t i = staged_from(staged, id);

	return i < staged->n && staged->v[i].id == id ? &staged->v[i] : NULL;
}

/* Removes those that no record of the transaction refers to, or all. */
static int blobs_remove(struct mvcc *db, const struct staged_blob *v, size_t n, bool referred_too)
{
	struct engine_batch *batch;
	size_t in_batch = 0;
	int err = 0;

	gate_enter(&db->gate);
	batch = engine_batch_new(db->engine);
	if (!batch)
		err = -ENOMEM;
	for (size_t i = 0; !err && i < n; i++) {
		uint8_t key[8];

		if (v[i].refs && !referred_too)
			continue;
		put_be64(key, v[i].id);
		err = engine_batch_del(batch, FAM_BLOB, slice_of(key, sizeof(key)));
		if (err || ++in_batch < REMOVALS_MAX)
			continue;
		err = db_write(db, batch, ENGINE_NOSYNC);
		engine_batch_clear(batch);
		in_batch = 0;
	}
	if (!err && in_batch)
		err = db_write(db, batch, ENGINE_NOSYNC);
	engine_batch_free(batch);
	gate_leave(&db->gate);
	return err;
}

void blob_settle(struct mvcc *db, struct staged_blobs *staged, mvcc_rev_t rev)
{
	struct stager *stager = staged->stager;
	size_t unwanted = 0;
	int err = 0;

	if (!stager)
		return;
	for (size_t i = 0; i < staged->n; i++)
		unwanted += rev == 0 || staged->v[i].refs == 0;
	if (unwanted)
		err = blobs_remove(db, staged->v, staged->n, rev == 0);
	pthread_mutex_lock(&db->blob_lock);
	if (err && (!db->stuck.first || stager->first < db->stuck.first)) {
		if (!db->stuck.first || stager->since < db->stuck.since)
			db->stuck.since = stager->since;
		db->stuck.first = stager->first;
	}
	stager->commit = rev;
	if (rev == 0 || unwanted == staged->n || rev <= atomic_load(&db->applied)) {
		LIST_REMOVE(stager, link);
		free(stager);
	}
	pthread_mutex_unlock(&db->blob_lock);
	staged->stager = NULL;
	staged->n = 0;
}

void blob_applied(struct mvcc *db, mvcc_rev_t applied)
{
	struct stager *stager, *next;

	pthread_mutex_lock(&db->blob_lock);
	for (stager = LIST_FIRST(&db->stagers); stager; stager = next) {
		next = LIST_NEXT(stager, link);
		if (stager->commit == 0 || stager->commit > applied)
			continue;
		LIST_REMOVE(stager, link);
		free(stager);
	}
	pthread_mutex_unlock(&db->blob_lock);
}

int blob_low_put(struct mvcc *db, struct engine_batch *batch, mvcc_rev_t applied, mvcc_rev_t *out_since)
{
	const struct stager *stager;
	mvcc_rev_t since = applied;
	mvcc_blob_t low;
	uint8_t raw[16];

	pthread_mutex_lock(&db->blob_lock);
	low = db->next_blob;
	LIST_FOREACH(stager, &db->stagers, link) {
		if (stager->commit && stager->commit <= applied)
			continue;
		low = stager->first < low ? stager->first : low;
		since = stager->since < since ? stager->since : since;
	}
	if (db->stuck.first) {
		low = db->stuck.first < low ? db->stuck.first : low;
		since = db->stuck.since < since ? db->stuck.since : since;
	}
	pthread_mutex_unlock(&db->blob_lock);
	put_le64(raw, low);
	put_le64(raw + 8, since);
	if (out_since)
		*out_since = since;
	return engine_batch_put(batch, FAM_META, slice_str(META_BLOB_LOW), slice_of(raw, sizeof(raw)));
}

/* ---- how many records refer to one ---------------------------------------------------------- */

int blob_ids_add(struct blob_ids *ids, mvcc_blob_t id)
{
	if (ids->n == ids->cap) {
		size_t cap = ids->cap ? 2 * ids->cap : 64;
		mvcc_blob_t *grown = realloc(ids->v, cap * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		ids->v = grown;
		ids->cap = cap;
	}
	ids->v[ids->n++] = id;
	return 0;
}

static int by_id(const void *a, const void *b)
{
	const mvcc_blob_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

void blob_ids_sort(struct blob_ids *ids)
{
	if (ids->n)
		qsort(ids->v, ids->n, sizeof(ids->v[0]), by_id);
}

size_t blob_ids_same(const struct blob_ids *ids, size_t i)
{
	size_t n = 1;

	while (i + n < ids->n && ids->v[i + n] == ids->v[i])
		n++;
	return n;
}

int blob_count_get(struct mvcc *db, mvcc_blob_t blob, struct buf *key, uint64_t *count)
{
	struct engine_pin pin = { 0 };
	int err = meta_key_id(key, META_BLOBREF, blob);

	*count = 1;
	if (!err)
		err = engine_get(db->engine, FAM_META, slice_buf(key), &pin);
	if (!err && pin.value.len != 8)
		err = MVCC_ECORRUPT;
	else if (!err)
		*count = get_le64(pin.value.data);
	engine_pin_release(db->engine, &pin);
	return err == -ENOENT ? 0 : err;
}

int blob_count_put(struct engine_batch *batch, struct slice key, uint64_t count)
{
	uint8_t raw[8];

	put_le64(raw, count);
	return count > 1 ? engine_batch_put(batch, FAM_META, key, slice_of(raw, sizeof(raw))) :
			   engine_batch_del(batch, FAM_META, key);
}

/* ---- reading ------------------------------------------------------------------------------ */

ssize_t mvcc_blob_read(struct mvcc *db, mvcc_blob_t blob, size_t off, void *out, size_t len)
{
	struct engine_pin pin = { 0 };
	uint8_t key[8];
	ssize_t got;
	int err;

	put_be64(key, blob);
	gate_enter(&db->gate);
	err = engine_get(db->engine, FAM_BLOB, slice_of(key, sizeof(key)), &pin);
	if (err) {
		got = err;
	} else if (off >= pin.value.len) {
		got = 0;
	} else {
		if (len > pin.value.len - off)
			len = pin.value.len - off;
		if (len)
			memcpy(out, pin.value.data + off, len);
		got = (ssize_t)len;
	}
	engine_pin_release(db->engine, &pin);
	gate_leave(&db->gate);
	return got;
}

bool blob_present(struct mvcc *db, mvcc_blob_t id, int *err)
{
	struct engine_pin pin = { 0 };
	uint8_t key[8];

	put_be64(key, id);
	*err = engine_get(db->engine, FAM_BLOB, slice_of(key, sizeof(key)), &pin);
	engine_pin_release(db->engine, &pin);
	if (*err == -ENOENT) {
		*err = 0;
		return false;
	}
	return *err == 0;
}

/* ---- at open ------------------------------------------------------------------------------ */

int blob_load(struct mvcc *db)
{
	struct engine_pin pin = { 0 };
	int err = engine_get(db->engine, FAM_META, slice_str(META_BLOB_LOW), &pin);

	db->next_blob = UINT64_MAX;
	db->stuck = (struct stager){ .first = 1, .since = 0 };
	if (err == -ENOENT)
		return 0;
	if (!err && pin.value.len != 16)
		err = MVCC_ECORRUPT;
	if (!err) {
		db->stuck.first = get_le64(pin.value.data);
		db->stuck.since = get_le64(pin.value.data + 8);
		db->keep->log_since = db->stuck.since;
	}
	engine_pin_release(db->engine, &pin);
	return err;
}

/* The blobs from `low` on, as if they were those of one transaction. */
static int collect(struct mvcc *db, mvcc_blob_t low, struct staged_blobs *out)
{
	struct engine_iter *it;
	uint8_t key[8];
	bool on_row;
	int err;

	put_be64(key, low);
	err = engine_iter_new(db->engine, FAM_BLOB, slice_of(key, sizeof(key)), slice_of(NULL, 0), &it);
	if (err)
		return err;
	for (on_row = engine_iter_seek(it, slice_of(key, sizeof(key))); on_row;
	     on_row = engine_iter_next(it)) {
		if (it->key.len != 8) {
			err = MVCC_ECORRUPT;
			break;
		}
		if (out->n == out->cap) {
			size_t cap = out->cap ? 2 * out->cap : 64;
			struct staged_blob *grown = realloc(out->v, cap * sizeof(*grown));

			if (!grown) {
				err = -ENOMEM;
				break;
			}
			out->v = grown;
			out->cap = cap;
		}
		out->v[out->n++] = (struct staged_blob){ .id = get_be64(it->key.data) };
	}
	if (!err)
		err = engine_iter_error(it);
	engine_iter_free(it);
	return err;
}

static void mark_range(struct staged_blobs *blobs, mvcc_blob_t first, uint64_t count)
{
	for (size_t i = staged_from(blobs, first); i < blobs->n && blobs->v[i].id - first < count; i++)
		blobs->v[i].refs = 1;
}

/* Marks those that the log after `since` says were brought by a commit. */
static int mark_referred(struct mvcc *db, mvcc_rev_t since, struct staged_blobs *blobs)
{
	struct buf start = { 0 };
	struct engine_iter *it = NULL;
	bool on_row;
	int err = log_key(&start, since + 1, 0);

	if (!err)
		err = engine_iter_new(db->engine, FAM_LOG, slice_buf(&start), slice_of(NULL, 0), &it);
	if (err)
		goto out;
	for (on_row = engine_iter_seek(it, slice_buf(&start)); on_row && !err;
	     on_row = engine_iter_next(it)) {
		struct log_part part;
		mvcc_rev_t rev;
		uint32_t number;
		mvcc_blob_t first;
		uint64_t count;

		err = log_key_decode(it->key, &rev, &number);
		if (!err)
			err = log_part_decode(it->value, number, &part);
		while (!err && log_range_take(&part.ranges, &first, &count))
			mark_range(blobs, first, count);
	}
	if (!err)
		err = engine_iter_error(it);
out:
	engine_iter_free(it);
	buf_release(&start);
	return err;
}

/* So that no id is given again that a row of the log after the old `since` tells of. */
static int low_move(struct mvcc *db)
{
	struct engine_batch *batch = engine_batch_new(db->engine);
	int err = batch ? blob_low_put(db, batch, atomic_load(&db->applied), NULL) : -ENOMEM;

	if (!err)
		err = engine_write(db->engine, batch, ENGINE_NOSYNC);
	engine_batch_free(batch);
	return err;
}

int blob_open(struct mvcc *db)
{
	struct staged_blobs blobs = { 0 };
	mvcc_blob_t low = db->stuck.first;
	bool moves;
	size_t unwanted = 0;
	int err = collect(db, low, &blobs);

	if (!err && blobs.n)
		err = mark_referred(db, db->stuck.since, &blobs);
	if (err)
		goto out;
	for (size_t i = 0; i < blobs.n; i++)
		unwanted += blobs.v[i].refs == 0;
	if (unwanted)
		err = blobs_remove(db, blobs.v, blobs.n, false);
	db->next_blob = blobs.n ? blobs.v[blobs.n - 1].id + 1 : low;
	moves = db->next_blob != low || db->stuck.since != atomic_load(&db->applied);
	db->stuck = (struct stager){ 0 };
	if (!err && moves)
		err = low_move(db);
out:
	free(blobs.v);
	return err;
}
