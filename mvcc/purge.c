/*
 * Purging: ranges of keys go out of all of history, as if they had never been.
 *
 * First an ordinary revision deletes what is there, and tells who asked; from then on every record of these keys
 * has ended by it. Once that is drained, the rows of `hist` that ended so far go, whatever floor and pins say; no
 * revision shows them any more. All this is done before mvcc_purge() returns, and leaves the log as it was: it tells
 * of records that are not there, and the purge's own row says that this is no damage, for as long as the log has them.
 *
 * The rest is the keeper's, in a pass. The blobs of these records wait until nobody is left who may have seen them
 * there: those rows of `ended` stand apart meanwhile. Then what may still have the bytes is rewritten: the
 * families, the engine's own log by flushing all of them, and the ring.
 *
 * The row is there, on disk, before the revision is made. Until it says that the purge is done, each open, and each pass,
 * does again what has not been done; all of it may be done twice.
 */
#include "mvcc/keep_int.h"

#include <errno.h>
#include <stdlib.h>

#define TRIES_MAX 64u
#define STEP_ROWS 1000u
#define STEP_BYTES ((size_t)1 << 20)

/* ---- the list ----------------------------------------------------------------------------- */

static void purge_free(struct purge *p)
{
	if (!p)
		return;
	buf_release(&p->story);
	buf_release(&p->ranges);
	free(p);
}

/* Adds a purge to the list. 0 or -ENOMEM. */
static int list_add(struct keep *k, uint64_t id, const struct purge_row *row)
{
	struct purge *p = calloc(1, sizeof(*p)), *last;
	int err = p ? buf_copy(&p->story, row->story) : -ENOMEM;

	if (!err)
		err = buf_copy(&p->ranges, row->ranges);
	if (err) {
		purge_free(p);
		return err;
	}
	p->rev = row->rev;
	p->done = row->done;
	p->removed = p->released = row->done;
	pthread_mutex_lock(&k->purge_lock);
	last = TAILQ_LAST(&k->purges, purges);
	p->id = id ? id : last ? last->id + 1 : 1;
	TAILQ_INSERT_TAIL(&k->purges, p, link);
	atomic_fetch_add(&k->n_purges, 1);
	pthread_mutex_unlock(&k->purge_lock);
	return 0;
}

static void list_remove(struct keep *k, struct purge *p)
{
	pthread_mutex_lock(&k->purge_lock);
	TAILQ_REMOVE(&k->purges, p, link);
	atomic_fetch_sub(&k->n_purges, 1);
	pthread_mutex_unlock(&k->purge_lock);
	purge_free(p);
}

void purges_free(struct keep *k)
{
	struct purge *p;

	while ((p = TAILQ_FIRST(&k->purges)))
		list_remove(k, p);
}

bool purge_has(struct slice ranges, struct slice key)
{
	struct slice start, end;

	while (purge_range_take(&ranges, &start, &end))
		if (key_within(key, start, end))
			return true;
	return false;
}

bool purge_covers(struct mvcc *db, struct slice key, mvcc_rev_t rev)
{
	struct keep *k = db->keep;
	const struct purge *p;
	bool covers = false;

	if (!atomic_load(&k->n_purges))
		return false;
	pthread_mutex_lock(&k->purge_lock);
	TAILQ_FOREACH(p, &k->purges, link)
		covers |= rev < p->rev && purge_has(slice_buf(&p->ranges), key);
	pthread_mutex_unlock(&k->purge_lock);
	return covers;
}

/* ---- its row ------------------------------------------------------------------------------ */

static int put_row(struct engine_batch *batch, const struct purge *p, bool done)
{
	struct purge_row row = {
		.rev = p->rev, .done = done, .story = slice_buf(&p->story), .ranges = slice_buf(&p->ranges)
	};
	struct buf key = { 0 }, value = { 0 };
	int err = meta_key_id(&key, META_PURGE, p->id);

	if (!err)
		err = purge_encode(&value, &row);
	if (!err)
		err = engine_batch_put(batch, FAM_META, slice_buf(&key), slice_buf(&value));
	buf_release(&key);
	buf_release(&value);
	return err;
}

static int del_row(struct engine_batch *batch, const struct purge *p)
{
	struct buf key = { 0 };
	int err = meta_key_id(&key, META_PURGE, p->id);

	if (!err)
		err = engine_batch_del(batch, FAM_META, slice_buf(&key));
	buf_release(&key);
	return err;
}

enum what { ROW_PUT, ROW_DONE, ROW_DEL };

static int write_row(struct mvcc *db, const struct purge *p, enum what what, unsigned flags)
{
	struct engine_batch *batch = NULL;
	int err;

	gate_enter(&db->gate);
	err = atomic_load(&db->failed);
	if (!err && !(batch = engine_batch_new(db->engine)))
		err = -ENOMEM;
	if (!err)
		err = what == ROW_DEL ? del_row(batch, p) : put_row(batch, p, what == ROW_DONE);
	if (!err)
		err = db_write(db, batch, flags);
	engine_batch_free(batch);
	gate_leave(&db->gate);
	return err;
}

/* ---- the revision ------------------------------------------------------------------------- */

static int delete_once(struct mvcc *db, struct purge *p, const struct mvcc_story *story, mvcc_rev_t *rev)
{
	struct slice ranges = slice_buf(&p->ranges), start, end;
	struct mvcc_txn *txn;
	int err = mvcc_txn_begin(db, &txn);

	if (err)
		return err;
	while (!err && purge_range_take(&ranges, &start, &end))
		err = mvcc_txn_del_range(txn, start, end, NULL);
	if (err) {
		mvcc_txn_abort(txn);
		return err;
	}
	return txn_commit_always(txn, story, rev);
}

/* Makes the revision of the purge, and drains it: all records of before have ended in the engine. */
static int make_revision(struct mvcc *db, struct purge *p)
{
	struct mvcc_entry entry;
	struct buf text = { 0 };
	mvcc_rev_t rev = 0;
	int err = p->rev ? 0 : write_row(db, p, ROW_PUT, ENGINE_SYNC);

	if (!err && !p->rev)
		err = entry_fill(&entry, &text, slice_buf(&p->story));
	if (!err && !p->rev) {
		err = MVCC_ECONFLICT;
		for (unsigned i = 0; err == MVCC_ECONFLICT && i < TRIES_MAX; i++)
			err = delete_once(db, p, &entry.story, &rev);
		if (!err) {
			pthread_mutex_lock(&db->keep->purge_lock);
			p->rev = rev; /* from now on what is missing is no damage */
			pthread_mutex_unlock(&db->keep->purge_lock);
		}
	}
	buf_release(&text);
	return err ? err : drain_to(db, atomic_load(&db->head_seq));
}

/* ---- its records -------------------------------------------------------------------------- */

struct removal {
	struct mvcc *db;
	const struct purge *p;
	struct engine_batch *batch;
	struct revs aside; /* revisions under which rows of `ended` may have been put aside */
	struct buf key, row;
	size_t rows;
};

/* The row of `ended` for a record goes where it waits for those who may have seen that. Not there: it is released. */
static int set_apart(struct removal *r, mvcc_rev_t at, mvcc_rev_t end, struct slice key)
{
	struct engine_pin pin = { 0 };
	int err = ended_key(&r->row, at, end, key);

	if (!err)
		err = engine_get(r->db->engine, FAM_ENDED, slice_buf(&r->row), &pin);
	if (err)
		return err;
	err = engine_batch_del(r->batch, FAM_ENDED, slice_buf(&r->row));
	if (!err)
		err = ended_key_purged(&r->row, r->p->rev, end, key);
	if (!err)
		err = engine_batch_put(r->batch, FAM_ENDED, slice_buf(&r->row), pin.value);
	engine_pin_release(r->db->engine, &pin);
	return err;
}

static int remove_row(struct removal *r, struct slice row, struct slice value)
{
	mvcc_rev_t end;
	struct record rec;
	int err = hist_key_decode(row, &r->key, &end);

	if (err || end > r->p->rev)
		return err; /* of a new life of the key */
	err = record_decode(value, &rec);
	if (!err)
		err = engine_batch_del(r->batch, FAM_HIST, row);
	r->rows++;
	if (err || !rec.nblobs)
		return err;
	err = set_apart(r, ENDED_NEW, end, slice_buf(&r->key));
	for (size_t i = 0; err == -ENOENT && i < r->aside.n; i++)
		if (r->aside.v[i] >= rec.mod && r->aside.v[i] < end)
			err = set_apart(r, r->aside.v[i], end, slice_buf(&r->key));
	return err == -ENOENT ? 0 : err;
}

static int write_removal(struct removal *r)
{
	int err = db_write(r->db, r->batch, ENGINE_NOSYNC);

	engine_batch_clear(r->batch);
	r->rows = 0;
	return err;
}

static int remove_range(struct removal *r, struct slice start, struct slice end)
{
	struct buf from = { 0 }, to = { 0 };
	struct engine_iter *it = NULL;
	int at, err = hist_key_start(&from, start);

	if (!err && end.len)
		err = hist_key_start(&to, end);
	if (!err)
		err = engine_iter_new(r->db->engine, FAM_HIST, slice_buf(&from), slice_buf(&to), &it);
	if (err)
		goto out;
	for (at = iter_at(it, engine_iter_seek(it, slice_buf(&from))); !err && at == 0;
	     at = iter_at(it, engine_iter_next(it))) {
		err = remove_row(r, it->key, it->value);
		if (!err && (r->rows >= STEP_ROWS || engine_batch_bytes(r->batch) > STEP_BYTES))
			err = write_removal(r);
	}
	if (!err && at < 0)
		err = at;
out:
	engine_iter_free(it);
	buf_release(&from);
	buf_release(&to);
	return err;
}

static int copy_aside(struct mvcc *db, struct revs *out)
{
	const struct pin_set *pins = &db->keep->pins;
	const struct revs *const all[] = { &pins->pinned, &pins->zombies, &pins->unpinned };
	int err;

	pthread_mutex_lock(&db->views_lock);
	err = revs_reserve(out, pins->pinned.n + pins->zombies.n + pins->unpinned.n);
	for (unsigned i = 0; !err && i < 3; i++)
		for (size_t j = 0; j < all[i]->n; j++)
			revs_add(out, all[i]->v[j]);
	pthread_mutex_unlock(&db->views_lock);
	return err;
}

/* The batch that begins it tells of the revision, so that what is missing then is known for what it is. */
static int remove_records(struct mvcc *db, struct purge *p)
{
	struct removal r = { .db = db, .p = p };
	struct slice ranges = slice_buf(&p->ranges), start, end;
	int err = copy_aside(db, &r.aside);

	gate_enter(&db->gate);
	if (!err)
		err = atomic_load(&db->failed);
	if (!err && !(r.batch = engine_batch_new(db->engine)))
		err = -ENOMEM;
	if (!err)
		err = put_row(r.batch, p, false);
	while (!err && purge_range_take(&ranges, &start, &end))
		err = remove_range(&r, start, end);
	if (!err)
		err = write_removal(&r);
	engine_batch_free(r.batch);
	gate_leave(&db->gate);
	buf_release(&r.key);
	buf_release(&r.row);
	free(r.aside.v);
	if (err)
		return err;
	pthread_mutex_lock(&db->views_lock);
	p->births = db->view_births;
	pthread_mutex_unlock(&db->views_lock);
	p->removed = true;
	return 0;
}

static int purge_one(struct mvcc *db, struct purge *p)
{
	int err = make_revision(db, p);

	return err ? err : remove_records(db, p);
}

int purges_remove(struct mvcc *db)
{
	struct purge *p;
	int err = 0;

	TAILQ_FOREACH(p, &db->keep->purges, link) {
		mvcc_rev_t known = p->rev;

		if (p->removed)
			continue;
		err = purge_one(db, p);
		if (p->rev != known && db->committed)
			db->committed(db->committed_arg, p->rev);
		if (err)
			break;
	}
	return err;
}

/* ---- what the keeper does ------------------------------------------------------------------- */

bool purges_wait(const struct keep *k)
{
	const struct purge *p;

	TAILQ_FOREACH(p, &k->purges, link)
		if (!p->done)
			return true;
	return false;
}

/* Is there a view that was there when the purge had removed its records? It may have shown one of them. */
static bool is_seen(struct mvcc *db, const struct purge *p)
{
	const struct mvcc_view *view;
	bool seen = false;

	pthread_mutex_lock(&db->views_lock);
	LIST_FOREACH(view, &db->views, link)
		seen |= view->birth <= p->births;
	if (seen && p->births > atomic_load(&db->keep->held_births))
		atomic_store(&db->keep->held_births,
			     p->births); /* whoever closes such a view wakes the keeper */
	pthread_mutex_unlock(&db->views_lock);
	return seen;
}

/* As for what ends (see gc.c): first who looks, then all that was committed by now is counted, then blobs go. */
int purges_release(struct mvcc *db, bool *held)
{
	struct purge *p;
	int err = 0;

	atomic_store(&db->keep->held_births, 0);
	TAILQ_FOREACH(p, &db->keep->purges, link) {
		if (!p->removed || p->released)
			continue;
		if (is_seen(db, p)) {
			*held = true;
			continue;
		}
		err = drain_to(db, atomic_load(&db->head_seq));
		if (!err)
			err = keep_release_purged(db, p->rev);
		if (err)
			break;
		p->released = true;
	}
	return err;
}

static int rewrite_ranges(struct mvcc *db, const struct purge *p)
{
	struct slice ranges = slice_buf(&p->ranges), start, end;
	struct buf from = { 0 }, to = { 0 };
	int err = 0;

	while (!err && purge_range_take(&ranges, &start, &end)) {
		err = keep_rewrite(db, FAM_LATEST, start, end);
		if (!err)
			err = hist_key_start(&from, start);
		buf_clear(&to);
		if (!err && end.len)
			err = hist_key_start(&to, end);
		if (!err)
			err = keep_rewrite(db, FAM_HIST, slice_buf(&from), slice_buf(&to));
	}
	buf_release(&from);
	buf_release(&to);
	return err;
}

/*
 * A commit on its way leaves its bytes in rows of the stage and of the meta family. The others had none of them, but
 * all share the engine's log, and what that has goes when no family needs it: a rewrite brings a family to its files.
 */
static int rewrite_others(struct mvcc *db)
{
	static const unsigned whole[] = { FAM_STAGE, FAM_META },
			      none[] = { FAM_LOG, FAM_LEASE, FAM_ENDED, FAM_BLOB };
	struct slice all = slice_of(NULL, 0), first = slice_of("", 1);
	int err = 0;

	for (unsigned i = 0; !err && i < 2; i++)
		err = keep_rewrite(db, whole[i], all, all);
	for (unsigned i = 0; !err && i < 4; i++)
		err = keep_rewrite(db, none[i], all, first);
	return err;
}

/* What the ring had is in the engine, and on its disk, before it goes. */
static int wipe_ring(struct mvcc *db)
{
	int err = mvcc_sync(db, MVCC_REV_LATEST);
	uint64_t pos = 0, end = 0;
	bool more = !err;

	while (more) {
		pthread_mutex_lock(&db->commit_lock);
		more = ring_wipe(&db->ring, &pos, &end);
		pthread_mutex_unlock(&db->commit_lock);
	}
	return err ? err : ring_sync(&db->ring);
}

int purges_finish(struct mvcc *db)
{
	struct purge *p, *next;
	bool others = false;
	int err = 0;

	TAILQ_FOREACH(p, &db->keep->purges, link) {
		if (!p->released || p->done)
			continue;
		err = rewrite_ranges(db, p);
		if (err)
			return err;
		p->rewritten = others = true;
	}
	if (others)
		err = rewrite_others(db);
	if (!err && others)
		err = wipe_ring(db);
	for (p = TAILQ_FIRST(&db->keep->purges); !err && p; p = next) {
		next = TAILQ_NEXT(p, link);
		if (p->rewritten && !p->done) {
			err = write_row(db, p, ROW_DONE, ENGINE_NOSYNC);
			p->done = err == 0;
		}
		if (err || !p->done || p->rev > atomic_load(&db->floor))
			continue;
		err = write_row(db, p, ROW_DEL, ENGINE_NOSYNC); /* the log tells nothing of before any more */
		if (!err)
			list_remove(db->keep, p);
	}
	return err;
}

/* ---- loading ------------------------------------------------------------------------------ */

int purges_load(struct mvcc *db)
{
	struct slice prefix = slice_str(META_PURGE);
	struct engine_iter *it = NULL;
	struct buf end = { 0 };
	int at, err = buf_prefix_end(&end, prefix);

	if (!err)
		err = engine_iter_new(db->engine, FAM_META, prefix, slice_buf(&end), &it);
	if (err)
		goto out;
	for (at = iter_at(it, engine_iter_seek(it, prefix)); !err && at == 0;
	     at = iter_at(it, engine_iter_next(it))) {
		struct purge_row row;

		err = it->key.len == prefix.len + 8 ? purge_decode(it->value, &row) : MVCC_ECORRUPT;
		if (!err)
			err = list_add(db->keep, get_be64(it->key.data + prefix.len), &row);
	}
	if (!err && at < 0)
		err = at;
out:
	engine_iter_free(it);
	buf_release(&end);
	return err;
}

/* ---- asking for it ------------------------------------------------------------------------ */

static bool range_is_legal(const struct mvcc_purge_range *r)
{
	return r->start.len > 0 && r->start.len <= MVCC_KEY_MAX && r->end.len <= MVCC_KEY_MAX + 1 &&
	       (r->end.len == 0 || slice_cmp(r->start, r->end) < 0);
}

static int encode_ranges(struct buf *out, const struct mvcc_purge_range *ranges, size_t n)
{
	int err = n > 0 && n <= MVCC_PURGE_MAX ? 0 : -EINVAL;

	for (size_t i = 0; !err && i < n; i++) {
		err = range_is_legal(&ranges[i]) ? buf_put_bytes(out, ranges[i].start) : -EINVAL;
		if (!err)
			err = buf_put_bytes(out, ranges[i].end);
	}
	return err;
}

int mvcc_purge(struct mvcc *db, const struct mvcc_purge_range *ranges, size_t n,
	       const struct mvcc_story *story, mvcc_rev_t *out_rev)
{
	struct mvcc_story told = story ? *story : (struct mvcc_story){ 0 };
	struct buf list = { 0 }, text = { 0 };
	struct keep *k = db->keep;
	struct purge *p = NULL;
	int err = encode_ranges(&list, ranges, n);

	told.op = told.op ? told.op : "purge";
	if (!err)
		err = story_encode(&text, &told);
	if (!err && text.len > STORY_MAX)
		err = -EINVAL;
	pthread_mutex_lock(&k->pass_lock);
	if (!err)
		err = atomic_load(&db->failed);
	if (!err)
		err = list_add(k, 0,
			       &(struct purge_row){ .story = slice_buf(&text), .ranges = slice_buf(&list) });
	if (!err) {
		p = TAILQ_LAST(&k->purges, purges);
		err = purge_one(db, p);
	}
	if (!err && out_rev)
		*out_rev = p->rev;
	pthread_mutex_unlock(&k->pass_lock);
	if (p)
		keep_wake(db, false);
	buf_release(&list);
	buf_release(&text);
	return err;
}
