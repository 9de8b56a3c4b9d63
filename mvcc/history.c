/*
 * What of the past can be seen: the life of one key, in both directions, and the keys of a range that there ever were.
 *
 * Seen means: by a revision from the floor up, or by a pinned one. A row of `hist` tells by itself whether it is; what
 * the overlay and `latest` hold always is.
 */
#include "mvcc/keep_int.h"
#include "mvcc/txn_int.h"

#include <errno.h>
#include <stdlib.h>

/* ---- who can see ---------------------------------------------------------------------------- */

bool ever_sees(const struct ever *e, mvcc_rev_t mod, mvcc_rev_t end)
{
	return mod <= e->current && (end > e->floor || revs_newest_in(&e->pinned, mod, end));
}

mvcc_rev_t ever_from(const struct ever *e, mvcc_rev_t rev)
{
	mvcc_rev_t pin = revs_next(&e->pinned, rev);

	if (rev > e->floor)
		return 0;
	return pin && pin < e->floor ? pin : e->floor;
}

/* The oldest revision there is to see. */
static mvcc_rev_t ever_oldest(const struct ever *e)
{
	return ever_from(e, 1);
}

/* `*hold` keeps what is seen from the floor up. */
static int ever_init(struct ever *e, struct mvcc *db, struct mvcc_view **hold)
{
	int err = view_open_floor(db, hold);

	*e = (struct ever){ .floor = 0 };
	if (!err)
		err = keep_pinned_copy(db, &e->pinned);
	if (err)
		return err;
	e->current = atomic_load(&db->current);
	e->floor = (*hold)->rev;
	return 0;
}

/* ---- the life of a key -------------------------------------------------------------------- */

/* A version of the key that the overlay holds. */
struct version {
	mvcc_rev_t rev;
	bool tombstone;
	struct record rec;
	struct engine_pin pin; /* what a run's record is lent by */
};

struct life {
	struct mvcc *db;
	struct slice key;
	struct ever ever;
	struct mvcc_view *hold;
	int (*fn)(void *arg, const struct mvcc_item *item, mvcc_rev_t end_rev);
	void *arg;
	struct version *versions; /* of the overlay, newest first */
	size_t n, cap;
	mvcc_rev_t told; /* mod of the newest record told of */
};

static int life_add(struct life *l, struct version v)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 8;
		struct version *grown = realloc(l->versions, cap * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		l->versions = grown;
		l->cap = cap;
	}
	l->versions[l->n++] = v;
	return 0;
}

static int life_add_run(struct life *l, struct generation *gen)
{
	struct version v = { .rev = gen->last_rev };
	struct op op;
	int err = stage_get(l->db, gen->run, l->key, &v.pin, &op);

	if (err)
		return err == -ENOENT ? 0 : err;
	v.tombstone = op.flags & OP_DEL;
	if (!v.tombstone)
		err = record_decode(op.record, &v.rec);
	if (!err) {
		record_resolve(&v.rec, v.rev);
		err = life_add(l, v);
	}
	if (err)
		engine_pin_release(l->db->engine, &v.pin);
	return err;
}

static int life_of_overlay(struct life *l, struct gen_set *set)
{
	int err = 0;

	for (unsigned i = 0; !err && i < set->n; i++) {
		struct generation *gen = set->gens[i];
		struct mem_node *node = memtable_find(&gen->mt, l->key, l->ever.current);

		for (; !err && node && slice_eq(node->key, l->key); node = memtable_next(node)) {
			struct version v = { .rev = node->rev, .tombstone = node->value.len == 0 };

			if (!v.tombstone)
				err = record_decode(node->value, &v.rec);
			if (!err)
				err = life_add(l, v);
		}
		if (err || !gen->run || gen->last_rev > l->ever.current)
			continue;
		err = life_add_run(l, gen);
		if (atomic_load(&gen->moving))
			break;
	}
	return err;
}

static int life_tell(struct life *l, const struct record *rec, mvcc_rev_t end_rev)
{
	struct mvcc_item item = { 0 };
	int err;

	l->told = rec->mod;
	if (end_rev > l->ever.current)
		end_rev = 0; /* what came after the revision asked about has not happened */
	if (end_rev && !ever_sees(&l->ever, rec->mod, end_rev))
		return 0; /* not dropped yet */
	err = item_fill(&item, rec);
	if (!err)
		err = l->fn(l->arg, &item, end_rev);
	mvcc_item_release(&item);
	return err;
}

/* The rows of `hist` whose records are older than `below`. */
static int life_of_hist(struct life *l, mvcc_rev_t below)
{
	struct buf start = { 0 }, end = { 0 }, key = { 0 };
	struct engine_iter *it = NULL;
	int at, err = hist_key(&start, l->key, ever_oldest(&l->ever) + 1);

	if (!err)
		err = hist_key_after(&end, l->key);
	if (!err)
		err = engine_iter_new(l->db->engine, FAM_HIST, slice_buf(&start), slice_buf(&end), &it);
	if (err)
		goto out;
	for (at = iter_at(it, engine_iter_seek(it, slice_buf(&start))); at == 0;
	     at = iter_at(it, engine_iter_next(it))) {
		mvcc_rev_t end_rev;
		struct record rec;

		err = hist_key_decode(it->key, &key, &end_rev);
		if (!err)
			err = record_decode(it->value, &rec);
		if (err || rec.mod >= below)
			break;
		err = life_tell(l, &rec, end_rev);
		if (err)
			break;
	}
	if (!err && at < 0)
		err = at;
out:
	engine_iter_free(it);
	buf_release(&start);
	buf_release(&end);
	buf_release(&key);
	return err;
}

static int life_of_engine(struct life *l, mvcc_rev_t below)
{
	struct engine_pin pin = { 0 };
	struct record rec = { 0 };
	int err = engine_get(l->db->engine, FAM_LATEST, l->key, &pin);
	bool alive = !err;

	if (!err)
		err = record_decode(pin.value, &rec);
	if (err == -ENOENT)
		err = 0;
	if (!err)
		err = life_of_hist(l, below);
	if (!err && alive && rec.mod < below && rec.mod > l->told)
		err = life_tell(l, &rec, below);
	engine_pin_release(l->db->engine, &pin);
	return err;
}

static int life_init(struct life *l, struct gen_set **set)
{
	int err = ever_init(&l->ever, l->db, &l->hold);

	*set = NULL;
	if (err)
		return err;
	gate_enter(&l->db->gate);
	*set = overlay_ref(&l->db->overlay);
	return life_of_overlay(l, *set);
}

static void life_release(struct life *l, struct gen_set *set)
{
	for (size_t i = 0; i < l->n; i++)
		engine_pin_release(l->db->engine, &l->versions[i].pin);
	if (set)
		gate_leave(&l->db->gate);
	gen_set_unref(set);
	mvcc_view_close(l->hold);
	free(l->versions);
	free(l->ever.pinned.v);
}

int mvcc_history(struct mvcc *db, struct slice key, mvcc_history_fn *fn, void *arg)
{
	struct life l = { .db = db, .key = key, .fn = fn, .arg = arg };
	struct gen_set *set;
	int err;

	if (!key_is_legal(key))
		return 0;
	err = life_init(&l, &set);
	if (!err)
		err = life_of_engine(&l, l.n ? l.versions[l.n - 1].rev : l.ever.current + 1);
	for (size_t i = l.n; !err && i-- > 0;)
		if (!l.versions[i].tombstone)
			err = life_tell(&l, &l.versions[i].rec, i ? l.versions[i - 1].rev : 0);
	life_release(&l, set);
	return err;
}

/* ---- backwards ------------------------------------------------------------------------------ */

/* Tells of the first or last row of `hist` with first <= end <= last, if its record is older than *before. */
static int tell_row(struct life *l, mvcc_rev_t first, mvcc_rev_t last, bool backward, mvcc_rev_t *before)
{
	struct buf start = { 0 }, end = { 0 }, key = { 0 };
	struct engine_iter *it = NULL;
	mvcc_rev_t end_rev;
	struct record rec;
	int at, err = hist_key(&start, l->key, first);

	if (!err)
		err = last < REV_LIMIT ? hist_key(&end, l->key, last + 1) : hist_key_after(&end, l->key);
	if (!err)
		err = engine_iter_new(l->db->engine, FAM_HIST, slice_buf(&start), slice_buf(&end), &it);
	if (err)
		goto out;
	at = iter_at(it, backward ? engine_iter_seek_last(it) : engine_iter_seek(it, slice_buf(&start)));
	err = at == 0 ? hist_key_decode(it->key, &key, &end_rev) : at < 0 ? at : -ENOENT;
	if (!err)
		err = record_decode(it->value, &rec);
	if (!err && rec.mod >= *before)
		err = -ENOENT;
	if (!err) {
		*before = rec.mod;
		err = life_tell(l, &rec, end_rev);
	}
out:
	engine_iter_free(it);
	buf_release(&start);
	buf_release(&end);
	buf_release(&key);
	return err;
}

/* The records of the engine older than `before`; the oldest version of the overlay is of `end_rev`, 0: none. */
static int back_of_engine(struct life *l, mvcc_rev_t end_rev, mvcc_rev_t before)
{
	struct engine_pin pin = { 0 };
	struct record rec;
	int err = engine_get(l->db->engine, FAM_LATEST, l->key, &pin);

	if (!err)
		err = record_decode(pin.value, &rec);
	if (!err && rec.mod < before) {
		before = rec.mod;
		err = life_tell(l, &rec, end_rev);
	} else if (!err || err == -ENOENT) {
		err = tell_row(l, before, REV_LIMIT, false, &before); /* that which ended there, or later */
	}
	engine_pin_release(l->db->engine, &pin);
	if (err == -ENOENT)
		err = 0;
	while (!err) /* what is older has ended by then */
		err = tell_row(l, ever_oldest(&l->ever) + 1, before, true, &before);
	return err == -ENOENT ? 0 : err;
}

int mvcc_history_back(struct mvcc *db, struct slice key, mvcc_rev_t before, mvcc_history_fn *fn, void *arg)
{
	struct life l = { .db = db, .key = key, .fn = fn, .arg = arg };
	struct gen_set *set;
	int err;

	if (!key_is_legal(key))
		return 0;
	err = life_init(&l, &set);
	if (before == MVCC_REV_LATEST || before > l.ever.current + 1)
		before = l.ever.current + 1;
	for (size_t i = 0; !err && i < l.n; i++)
		if (!l.versions[i].tombstone && l.versions[i].rev < before)
			err = life_tell(&l, &l.versions[i].rec, i ? l.versions[i - 1].rev : 0);
	if (!err) {
		mvcc_rev_t oldest = l.n ? l.versions[l.n - 1].rev : 0;

		err = back_of_engine(&l, oldest, l.n && oldest < before ? oldest : before);
	}
	life_release(&l, set);
	return err;
}

/* ---- the keys there ever were --------------------------------------------------------------- */

struct mvcc_keys {
	struct mvcc_cursor *c;
	struct ever ever;
	struct mvcc_view *hold;
};

int mvcc_keys_ever_open(struct mvcc *db, struct slice start, struct slice end, struct mvcc_keys **out)
{
	struct mvcc_keys *keys = calloc(1, sizeof(*keys));
	int err;

	if (!keys)
		return -ENOMEM;
	err = ever_init(&keys->ever, db, &keys->hold);
	if (!err)
		err = cursor_open_ever(db, &keys->ever, start, end, &keys->c);
	if (err) {
		mvcc_keys_close(keys);
		return err;
	}
	*out = keys;
	return 0;
}

int mvcc_keys_next(struct mvcc_keys *keys, struct slice *key)
{
	const struct mvcc_item *item;

	return mvcc_cursor_next(keys->c, key, &item);
}

void mvcc_keys_close(struct mvcc_keys *keys)
{
	if (!keys)
		return;
	mvcc_cursor_close(keys->c);
	mvcc_view_close(keys->hold);
	free(keys->ever.pinned.v);
	free(keys);
}
