/*
 * What the store keeps beside its revisions: intents and counters.
 *
 * Intents are few and short-lived. All of them are in memory; the ring, and then a row of the meta
 * family each, make them outlive a kill.
 *
 * A counter's row on disk says below which number all may have been given. It is raised by steps,
 * and synced, before the first number of a step is given: so no number comes twice, whatever is lost,
 * and only one call in many waits for the disk. A clean close writes the exact number.
 */
#include "mvcc/mvcc_int.h"

#include <errno.h>
#include <stdlib.h>

#define INTENT_MAX ((size_t)64 << 10)
#define COUNTER_STEP 4096
#define COUNTER_NAME_MAX 32

/* ---- intents ------------------------------------------------------------------------------ */

int intent_remember(struct mvcc *db, uint64_t id, struct slice payload)
{
	struct intent *intent = calloc(1, sizeof(*intent));

	if (!intent)
		return -ENOMEM;
	intent->id = id;
	if (buf_copy(&intent->payload, payload)) {
		free(intent);
		return -ENOMEM;
	}
	pthread_mutex_lock(&db->intent_lock);
	LIST_INSERT_HEAD(&db->intents, intent, link);
	pthread_mutex_unlock(&db->intent_lock);
	return 0;
}

static void intent_free(struct intent *intent)
{
	buf_release(&intent->payload);
	free(intent);
}

void intent_forget(struct mvcc *db, uint64_t id)
{
	struct intent *intent;

	pthread_mutex_lock(&db->intent_lock);
	LIST_FOREACH(intent, &db->intents, link)
		if (intent->id == id)
			break;
	if (intent)
		LIST_REMOVE(intent, link);
	pthread_mutex_unlock(&db->intent_lock);
	if (intent)
		intent_free(intent);
}

int mvcc_intent_put(struct mvcc *db, struct slice payload, uint64_t *out)
{
	uint64_t id = 0;
	int err;

	if (payload.len > INTENT_MAX)
		return -EINVAL;
	err = space_admit(db, payload.len, true);
	if (err)
		return err;
	pthread_mutex_lock(&db->commit_lock);
	err = room_wait_locked(db, payload.len, MVCC_COMMIT_WAIT);
	if (!err) {
		id = db->ring.head.seq + 1;
		err = intent_remember(db, id, payload);
	}
	if (!err) {
		ring_append(&db->ring, RING_INTENT, payload);
		appended_locked(db);
	}
	pthread_mutex_unlock(&db->commit_lock);
	if (!err)
		*out = id;
	return err;
}

int mvcc_intent_drop(struct mvcc *db, uint64_t intent)
{
	uint8_t raw[8];
	int err;

	put_le64(raw, intent);
	pthread_mutex_lock(&db->commit_lock);
	err = room_wait_locked(db, sizeof(raw), MVCC_COMMIT_WAIT);
	if (!err) {
		ring_append(&db->ring, RING_INTENT_DROP, slice_of(raw, sizeof(raw)));
		appended_locked(db);
	}
	pthread_mutex_unlock(&db->commit_lock);
	if (!err)
		intent_forget(db, intent);
	return err;
}

static int by_id(const void *a, const void *b)
{
	const struct intent *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

/* Copies of all intents, oldest first, so that `fn` may put, settle and drop. */
static int intents_copy(struct mvcc *db, struct intent **out, size_t *out_n)
{
	struct intent *copies = NULL, *intent;
	size_t n = 0;
	int err = 0;

	pthread_mutex_lock(&db->intent_lock);
	LIST_FOREACH(intent, &db->intents, link)
		n++;
	copies = calloc(n ? n : 1, sizeof(*copies));
	if (!copies)
		err = -ENOMEM;
	n = 0;
	LIST_FOREACH(intent, &db->intents, link) {
		if (err)
			break;
		copies[n].id = intent->id;
		err = buf_copy(&copies[n++].payload, slice_buf(&intent->payload));
	}
	pthread_mutex_unlock(&db->intent_lock);
	if (n)
		qsort(copies, n, sizeof(*copies), by_id);
	*out = copies;
	*out_n = n;
	return err;
}

int mvcc_intents(struct mvcc *db, int (*fn)(void *arg, uint64_t intent, struct slice payload), void *arg)
{
	struct intent *copies;
	size_t n;
	int err = intents_copy(db, &copies, &n);

	for (size_t i = 0; !err && i < n; i++)
		err = fn(arg, copies[i].id, slice_buf(&copies[i].payload));
	for (size_t i = 0; i < n; i++)
		buf_release(&copies[i].payload);
	free(copies);
	return err;
}

/* ---- both, at open ------------------------------------------------------------------------ */

/* Calls `fn` for every meta row that starts with `prefix`, which is cut off the key. */
static int each_meta(struct mvcc *db, const char *prefix,
		     int (*fn)(struct mvcc *db, struct slice rest, struct slice value))
{
	struct slice start = slice_str(prefix);
	struct engine_iter *it = NULL;
	struct buf end = { 0 };
	bool on_row;
	int err = buf_prefix_end(&end, start);

	if (!err)
		err = engine_iter_new(db->engine, FAM_META, start, slice_buf(&end), &it);
	if (err)
		goto out;
	for (on_row = engine_iter_seek(it, start); on_row && !err; on_row = engine_iter_next(it))
		err = fn(db, slice_of(it->key.data + start.len, it->key.len - start.len), it->value);
	if (!err)
		err = engine_iter_error(it);
out:
	engine_iter_free(it);
	buf_release(&end);
	return err;
}

static int intent_load(struct mvcc *db, struct slice rest, struct slice value)
{
	return rest.len == 8 ? intent_remember(db, get_be64(rest.data), value) : MVCC_ECORRUPT;
}

int intents_load(struct mvcc *db)
{
	return each_meta(db, META_INTENT, intent_load);
}

static struct counter *counter_add(struct mvcc *db, struct slice name)
{
	struct counter *counter = calloc(1, sizeof(*counter));

	if (!counter)
		return NULL;
	if (buf_copy(&counter->name, name)) {
		free(counter);
		return NULL;
	}
	counter->next = counter->stored = 1;
	LIST_INSERT_HEAD(&db->counters, counter, link);
	return counter;
}

static int counter_load(struct mvcc *db, struct slice rest, struct slice value)
{
	struct counter *counter;

	if (value.len != 8)
		return MVCC_ECORRUPT;
	counter = counter_add(db, rest);
	if (!counter)
		return -ENOMEM;
	counter->next = counter->stored = get_le64(value.data);
	return 0;
}

int counters_load(struct mvcc *db)
{
	return each_meta(db, META_COUNTER, counter_load);
}

void intents_release(struct mvcc *db)
{
	struct intent *intent;
	struct counter *counter;

	while ((intent = LIST_FIRST(&db->intents))) {
		LIST_REMOVE(intent, link);
		intent_free(intent);
	}
	while ((counter = LIST_FIRST(&db->counters))) {
		LIST_REMOVE(counter, link);
		buf_release(&counter->name);
		free(counter);
	}
}

/* ---- counters ----------------------------------------------------------------------------- */

static int counter_put(struct engine_batch *batch, const struct counter *counter, uint64_t value)
{
	struct buf key = { 0 };
	uint8_t raw[8];
	int err = meta_key_name(&key, META_COUNTER, slice_buf(&counter->name));

	put_le64(raw, value);
	if (!err)
		err = engine_batch_put(batch, FAM_META, slice_buf(&key), slice_of(raw, sizeof(raw)));
	buf_release(&key);
	return err;
}

static int counter_raise(struct mvcc *db, struct counter *counter, uint64_t to)
{
	struct engine_batch *batch;
	int err = atomic_load(&db->failed);

	if (err)
		return err;
	gate_enter(&db->gate);
	batch = engine_batch_new(db->engine);
	err = batch ? counter_put(batch, counter, to) : -ENOMEM;
	if (!err)
		err = db_write(db, batch, ENGINE_SYNC);
	engine_batch_free(batch);
	gate_leave(&db->gate);
	if (!err)
		counter->stored = to;
	return err;
}

int mvcc_reserve(struct mvcc *db, const char *name, uint64_t n, uint64_t *first)
{
	struct slice wanted = slice_str(name);
	struct counter *counter;
	int err = 0;

	if (wanted.len == 0 || wanted.len > COUNTER_NAME_MAX || n > UINT64_MAX / 2)
		return -EINVAL;
	pthread_mutex_lock(&db->counter_lock);
	LIST_FOREACH(counter, &db->counters, link)
		if (slice_eq(slice_buf(&counter->name), wanted))
			break;
	if (!counter)
		counter = counter_add(db, wanted);
	if (!counter)
		err = -ENOMEM;
	else if (n > UINT64_MAX / 2 - counter->next)
		err = -EOVERFLOW;
	else if (counter->next + n > counter->stored)
		err = counter_raise(db, counter, counter->next + n + COUNTER_STEP);
	if (!err) {
		*first = counter->next;
		counter->next += n;
	}
	pthread_mutex_unlock(&db->counter_lock);
	return err;
}

int counters_store(struct mvcc *db, struct engine_batch *batch)
{
	const struct counter *counter;
	int err = 0;

	LIST_FOREACH(counter, &db->counters, link) {
		if (err)
			break;
		err = counter_put(batch, counter, counter->next);
	}
	return err;
}
