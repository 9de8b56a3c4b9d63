/*
 * Reading: views, single keys, cursors.
 *
 * A view is a number. What stood at revision R is found by looking, in this order, into the overlay
 * (taken once, as a whole), `latest`, and `hist`. The order is what makes it right without any
 * snapshot of the engine, while the committer moves rows from the first to the other two: see
 * DESIGN.md, "Visibility".
 */
#include "mvcc/keep_int.h"
#include "mvcc/txn_int.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* ---- views -------------------------------------------------------------------------------- */

static void view_add_locked(struct mvcc *db, struct mvcc_view *view, mvcc_rev_t rev)
{
	*view = (struct mvcc_view){ .db = db, .rev = rev, .birth = ++db->view_births };
	LIST_INSERT_HEAD(&db->views, view, link);
	db->nviews++;
}

int view_open(struct mvcc *db, mvcc_rev_t rev, bool holds, struct mvcc_view **out)
{
	struct mvcc_view *view = malloc(sizeof(*view));
	int err = 0;

	if (!view)
		return -ENOMEM;
	pthread_mutex_lock(&db->views_lock); /* so that the floor, once it moves, sees every older view */
	if (rev == MVCC_REV_LATEST)
		rev = atomic_load(&db->current);
	if (rev > atomic_load(&db->current))
		err = MVCC_EFUTURE;
	else if (rev < atomic_load(&db->floor) && !keep_is_pinned_locked(db, rev))
		err = MVCC_ECOMPACTED;
	else
		view_add_locked(db, view, rev);
	if (!err)
		view->holds = holds;
	pthread_mutex_unlock(&db->views_lock);
	if (err) {
		free(view);
		return err;
	}
	*out = view;
	return 0;
}

int mvcc_view_open(struct mvcc *db, mvcc_rev_t rev, struct mvcc_view **out)
{
	return view_open(db, rev, false, out);
}

int view_open_floor(struct mvcc *db, struct mvcc_view **out)
{
	struct mvcc_view *view = malloc(sizeof(*view));

	if (!view)
		return -ENOMEM;
	pthread_mutex_lock(&db->views_lock);
	view_add_locked(db, view, atomic_load(&db->floor));
	pthread_mutex_unlock(&db->views_lock);
	*out = view;
	return 0;
}

void mvcc_view_close(struct mvcc_view *view)
{
	struct mvcc *db;
	bool held_back;

	if (!view)
		return;
	db = view->db;
	pthread_mutex_lock(&db->views_lock);
	LIST_REMOVE(view, link);
	db->nviews--;
	held_back =
		view->rev < atomic_load(&db->floor) && (view->holds || !keep_is_pinned_locked(db, view->rev));
	held_back |= view->birth <= atomic_load(&db->keep->held_births);
	pthread_mutex_unlock(&db->views_lock);
	free(view);
	if (held_back)
		keep_wake(db, false);
}

mvcc_rev_t mvcc_view_rev(const struct mvcc_view *view)
{
	return view->rev;
}

/* ---- one key ------------------------------------------------------------------------------ */

void mvcc_item_release(struct mvcc_item *item)
{
	buf_release(&item->own);
	*item = (struct mvcc_item){ 0 };
}

/* Decodes a record's list of blobs to an array at the front of `out`. */
static int blobs_fill(struct buf *out, const struct record *rec)
{
	struct slice list = rec->blobs;
	int err = buf_reserve(out, (size_t)rec->nblobs * sizeof(mvcc_blob_t));

	for (uint64_t i = 0; !err && i < rec->nblobs; i++) {
		mvcc_blob_t blob;
		bool own;

		if (!record_blob_take(&list, &blob, &own))
			return MVCC_ECORRUPT;
		err = buf_put(out, &blob, sizeof(blob));
	}
	return err;
}

static void item_point(struct mvcc_item *item, const struct record *rec, const void *blobs)
{
	item->create_rev = rec->create;
	item->mod_rev = rec->mod;
	item->version = rec->version;
	item->lease = rec->lease;
	item->value = rec->value;
	item->blobs = blobs;
	item->nblobs = (size_t)rec->nblobs;
}

int item_lend(struct mvcc_item *item, const struct record *rec, struct buf *blobs)
{
	int err;

	buf_clear(blobs);
	err = blobs_fill(blobs, rec);
	if (!err)
		item_point(item, rec, blobs->data);
	return err;
}

int item_fill(struct mvcc_item *item, const struct record *rec)
{
	struct mvcc_item filled = { 0 };
	int err = buf_reserve(&filled.own, (size_t)rec->nblobs * sizeof(mvcc_blob_t) + rec->value.len);

	if (!err)
		err = blobs_fill(&filled.own, rec);
	if (!err)
		err = buf_put_slice(&filled.own, rec->value);
	if (err) {
		buf_release(&filled.own);
		return err;
	}
	item_point(&filled, rec, filled.own.data);
	filled.value = slice_of(filled.own.data + filled.own.len - rec->value.len, rec->value.len);
	*item = filled;
	return 0;
}

int stage_get(struct mvcc *db, uint64_t run, struct slice key, struct engine_pin *pin, struct op *op)
{
	struct buf row = { 0 };
	int err = stage_key(&row, run, key);

	*pin = (struct engine_pin){ 0 };
	if (!err)
		err = engine_get(db->engine, FAM_STAGE, slice_buf(&row), pin);
	buf_release(&row);
	if (err)
		return err;
	err = staged_decode(pin->value, op);
	if (err)
		engine_pin_release(db->engine, pin);
	return err;
}

/* Looks into the overlay. `*done`: what it returns is the answer. */
static int find_in_overlay(struct found *f, mvcc_rev_t rev, struct slice key, bool *done)
{
	*done = true;
	for (unsigned i = 0; i < f->set->n; i++) {
		struct generation *gen = f->set->gens[i];
		struct mem_node *node = memtable_find(&gen->mt, key, rev);
		struct op op;
		int err;

		if (node)
			return node->value.len ? record_decode(node->value, &f->rec) : -ENOENT;
		if (!gen->run || gen->last_rev > rev)
			continue;
		err = stage_get(f->db, gen->run, key, &f->pin, &op);
		if (!err && (op.flags & OP_DEL))
			return -ENOENT;
		if (!err)
			err = record_decode(op.record, &f->rec);
		if (!err)
			record_resolve(&f->rec, gen->last_rev);
		if (err != -ENOENT)
			return err;
		if (atomic_load(&gen->moving))
			break; /* moved perhaps; and all that is older is in the engine */
	}
	*done = false;
	return 0;
}

static int find_in_hist(struct found *f, mvcc_rev_t rev, struct slice key)
{
	struct buf start = { 0 }, end = { 0 };
	int err = hist_key(&start, key, rev + 1);

	if (!err)
		err = hist_key_after(&end, key);
	if (!err)
		err = engine_iter_new(f->db->engine, FAM_HIST, slice_buf(&start), slice_buf(&end), &f->it);
	if (err)
		goto out;
	if (!engine_iter_seek(f->it, slice_buf(&start))) {
		err = engine_iter_error(f->it);
		err = err ? err : -ENOENT;
		goto out;
	}
	err = record_decode(f->it->value, &f->rec);
	if (!err && f->rec.mod > rev)
		err = -ENOENT;
out:
	buf_release(&start);
	buf_release(&end);
	return err;
}

static int find_in_engine(struct found *f, mvcc_rev_t rev, struct slice key)
{
	int err = engine_get(f->db->engine, FAM_LATEST, key, &f->pin);

	if (!err)
		err = record_decode(f->pin.value, &f->rec);
	if (err && err != -ENOENT)
		return err;
	if (!err && f->rec.mod <= rev)
		return 0;
	engine_pin_release(f->db->engine, &f->pin);
	if (atomic_load(&f->db->applying) <= rev)
		return -ENOENT; /* nothing newer than `rev` had reached `latest` when it was asked */
	return find_in_hist(f, rev, key);
}

int find_at(struct mvcc *db, mvcc_rev_t rev, struct slice key, struct found *out)
{
	bool done;
	int err;

	*out = (struct found){ .db = db };
	gate_enter(&db->gate);
	out->set = overlay_ref(&db->overlay);
	err = find_in_overlay(out, rev, key, &done);
	if (!done)
		err = find_in_engine(out, rev, key);
	if (err)
		found_release(out);
	return err;
}

/* There is one record of a key and a revision: where it is found, no other place need be asked before. */
int find_ended(struct mvcc *db, mvcc_rev_t rev, mvcc_rev_t mod, struct slice key, struct found *out)
{
	int err;

	*out = (struct found){ .db = db };
	gate_enter(&db->gate);
	err = find_in_hist(out, rev, key);
	if (!err && out->rec.mod == mod)
		return 0;
	found_release(out);
	return err && err != -ENOENT ? err : find_at(db, rev, key, out);
}

void found_release(struct found *f)
{
	if (!f->db)
		return;
	engine_iter_free(f->it);
	engine_pin_release(f->db->engine, &f->pin);
	gate_leave(&f->db->gate);
	gen_set_unref(f->set);
	*f = (struct found){ 0 };
}

int header_at(struct mvcc *db, mvcc_rev_t rev, struct slice key, struct header *out)
{
	struct header header = { 0 };
	struct found f;
	int err = find_at(db, rev, key, &f);

	if (!err) {
		header = (struct header){ true, f.rec.mod, f.rec.create, f.rec.version };
		found_release(&f);
	}
	if (err && err != -ENOENT)
		return err;
	*out = header;
	return 0;
}

int mvcc_get(struct mvcc_view *view, struct slice key, struct mvcc_item *out)
{
	struct found f;
	int err;

	if (!key_is_legal(key))
		return -ENOENT;
	err = find_at(view->db, view->rev, key, &f);
	if (err)
		return err;
	err = item_fill(out, &f.rec);
	found_release(&f);
	return err;
}

/* ---- cursors ------------------------------------------------------------------------------ */

/*
 * A cursor merges sources, each of which gives in key order, for its part of the store, the newest
 * row of every key that the cursor's revision can see. Where several have the same key, the first in
 * the array is the newest: a transaction's own writes, its own run, the generations from the newest
 * on, `latest`, `hist`.
 */
enum source_kind { SRC_WRITES, SRC_OWN_RUN, SRC_MEM, SRC_RUN, SRC_LATEST, SRC_HIST };

struct source {
	enum source_kind kind;
	bool valid;     /* on a row */
	bool spent;     /* its row has been given or passed over */
	bool tombstone; /* of the row */
	struct slice key;
	struct record rec;
	struct mem_node *node;  /* WRITES, MEM */
	struct engine_iter *it; /* the others */
	mvcc_rev_t run_rev;     /* RUN */
	struct buf unescaped;   /* HIST */
	struct buf seek;        /* HIST */
};

struct mvcc_cursor {
	struct mvcc *db;
	mvcc_rev_t rev;
	struct mvcc_txn *txn;
	struct txn_writes *writes;
	struct txn_range *range;
	const struct ever *ever; /* not what stood at `rev`, but all keys there ever were */
	struct gen_set *set;
	struct buf start, end;
	struct source *sources;
	unsigned nsources;
	bool begun;
	int err; /* once failed, it stays so */
	struct mvcc_item item;
	struct buf blobs;
};

/*
 * Each settle function goes forward, from the raw position reached, to the next row that the cursor
 * can see, and loads it. 0 with s->valid set or not, or a code.
 */
static int settle_mem(struct mvcc_cursor *c, struct source *s)
{
	for (; s->node; s->node = memtable_next(s->node)) {
		if (c->end.len && slice_cmp(s->node->key, slice_buf(&c->end)) >= 0)
			return 0;
		if (s->kind == SRC_WRITES ? write_of(s->node)->what == WRITE_NONE : s->node->rev > c->rev)
			continue;
		if (c->ever && s->node->value.len == 0)
			continue;
		s->valid = true;
		s->key = s->node->key;
		if (s->kind == SRC_WRITES)
			return 0; /* what it holds is asked when its turn comes */
		s->tombstone = s->node->value.len == 0;
		return s->tombstone ? 0 : record_decode(s->node->value, &s->rec);
	}
	return 0;
}

/* The run's own end row is none, and where all keys are asked for, a tombstone is none either. */
static bool run_row_counts(const struct mvcc_cursor *c, const struct source *s, const struct op *op)
{
	return s->it->key.len != 8 && !(c->ever && (op->flags & OP_DEL));
}

static int settle_run(struct mvcc_cursor *c, struct source *s, int at)
{
	struct op op = { 0 };

	for (; at == 0; at = iter_at(s->it, engine_iter_next(s->it))) {
		if (s->it->key.len != 8 && staged_decode(s->it->value, &op))
			return MVCC_ECORRUPT;
		if (run_row_counts(c, s, &op))
			break;
	}
	if (at)
		return at < 0 ? at : 0;
	s->valid = true;
	s->key = slice_of(s->it->key.data + 8, s->it->key.len - 8);
	s->tombstone = op.flags & OP_DEL;
	if (s->tombstone)
		return 0;
	if (record_decode(op.record, &s->rec))
		return MVCC_ECORRUPT;
	if (s->kind == SRC_RUN)
		record_resolve(&s->rec, s->run_rev);
	return 0;
}

static int settle_latest(struct mvcc_cursor *c, struct source *s, int at)
{
	for (; at == 0; at = iter_at(s->it, engine_iter_next(s->it))) {
		if (record_decode(s->it->value, &s->rec))
			return MVCC_ECORRUPT;
		if (s->rec.mod > c->rev)
			continue;
		s->valid = true;
		s->key = s->it->key;
		return 0;
	}
	return at < 0 ? at : 0;
}

/* Rows of a key too old to matter are stepped over while they are few, then sought past. */
static int settle_hist(struct mvcc_cursor *c, struct source *s, int at)
{
	unsigned steps = 0;

	while (at == 0) {
		mvcc_rev_t end_rev;
		int err = hist_key_decode(s->it->key, &s->unescaped, &end_rev);

		if (err)
			return err;
		if (end_rev <= c->rev) {
			if (steps++ < 4) {
				at = iter_at(s->it, engine_iter_next(s->it));
				continue;
			}
			steps = 0;
			err = hist_key(&s->seek, slice_buf(&s->unescaped), c->rev + 1);
		} else {
			if (record_decode(s->it->value, &s->rec))
				return MVCC_ECORRUPT;
			if (s->rec.mod <= c->rev) {
				s->valid = true;
				s->key = slice_buf(&s->unescaped);
				return 0;
			}
			err = hist_key_after(&s->seek, slice_buf(&s->unescaped));
		}
		if (err)
			return err;
		at = iter_at(s->it, engine_iter_seek(s->it, slice_buf(&s->seek)));
	}
	return at < 0 ? at : 0;
}

/* Goes on to a row that somebody can see: of each key, that is sought from one revision to the next. */
static int settle_ever(struct mvcc_cursor *c, struct source *s, int at)
{
	while (at == 0) {
		mvcc_rev_t end_rev, next;
		int err = hist_key_decode(s->it->key, &s->unescaped, &end_rev);

		if (!err)
			err = record_decode(s->it->value, &s->rec);
		if (err)
			return err;
		if (ever_sees(c->ever, s->rec.mod, end_rev)) {
			s->valid = true;
			s->key = slice_buf(&s->unescaped);
			return 0;
		}
		next = ever_from(c->ever, end_rev);
		err = next ? hist_key(&s->seek, slice_buf(&s->unescaped), next + 1) :
			     hist_key_after(&s->seek, slice_buf(&s->unescaped));
		if (err)
			return err;
		at = iter_at(s->it, engine_iter_seek(s->it, slice_buf(&s->seek)));
	}
	return at < 0 ? at : 0;
}

static int settle(struct mvcc_cursor *c, struct source *s, int at)
{
	s->valid = false;
	s->tombstone = false;
	switch (s->kind) {
	case SRC_WRITES:
	case SRC_MEM:
		return settle_mem(c, s);
	case SRC_OWN_RUN:
	case SRC_RUN:
		return settle_run(c, s, at);
	case SRC_LATEST:
		return settle_latest(c, s, at);
	case SRC_HIST:
		break;
	}
	return c->ever ? settle_ever(c, s, at) : settle_hist(c, s, at);
}

/* The first row of the next key in `hist`, however many this one has. */
static int step_past_key(struct source *s)
{
	int err = hist_key_after(&s->seek, s->key);

	return err ? err : iter_at(s->it, engine_iter_seek(s->it, slice_buf(&s->seek)));
}

static int source_step(struct mvcc_cursor *c, struct source *s)
{
	struct slice key = s->key;
	int at = 0;

	s->spent = false;
	if (s->kind == SRC_WRITES || s->kind == SRC_MEM) {
		do
			s->node = memtable_next(s->node);
		while (s->node && slice_eq(s->node->key, key));
	} else if (c->ever && s->kind == SRC_HIST) {
		at = step_past_key(s);
	} else {
		at = iter_at(s->it, engine_iter_next(s->it));
	}
	return settle(c, s, at);
}

static int add_mem(struct mvcc_cursor *c, enum source_kind kind, const struct memtable *mt)
{
	struct source *s = &c->sources[c->nsources];

	*s = (struct source){ .kind = kind, .node = memtable_seek(mt, slice_buf(&c->start), UINT64_MAX) };
	if (s->node)
		c->nsources++;
	return s->node ? settle(c, s, 0) : 0;
}

/* Takes an iterator over the source's rows; the first one is sought when the cursor begins. */
static int add_iter(struct mvcc_cursor *c, enum source_kind kind, unsigned family, struct slice start,
		    struct slice end)
{
	struct source *s = &c->sources[c->nsources];
	int err;

	*s = (struct source){ .kind = kind };
	err = engine_iter_new(c->db->engine, family, start, end, &s->it);
	if (err)
		return err;
	c->nsources++;
	return 0;
}

static int add_run(struct mvcc_cursor *c, enum source_kind kind, uint64_t run, mvcc_rev_t rev)
{
	struct buf start = { 0 }, end = { 0 };
	int err = stage_key(&start, run, slice_buf(&c->start));

	if (!err && c->end.len)
		err = stage_key(&end, run, slice_buf(&c->end));
	else if (!err)
		err = id_key(&end, run + 1);
	if (!err)
		err = add_iter(c, kind, FAM_STAGE, slice_buf(&start), slice_buf(&end));
	if (!err)
		c->sources[c->nsources - 1].run_rev = rev;
	if (!err) {
		struct source *s = &c->sources[c->nsources - 1];

		err = settle(c, s, iter_at(s->it, engine_iter_seek(s->it, slice_buf(&start))));
	}
	buf_release(&start);
	buf_release(&end);
	return err;
}

static int add_hist(struct mvcc_cursor *c)
{
	struct buf start = { 0 }, end = { 0 };
	int err = 0;

	if (c->start.len)
		err = hist_key_start(&start, slice_buf(&c->start));
	if (!err && c->end.len)
		err = hist_key_start(&end, slice_buf(&c->end));
	if (!err)
		err = add_iter(c, SRC_HIST, FAM_HIST, slice_buf(&start), slice_buf(&end));
	if (!err) {
		struct source *s = &c->sources[c->nsources - 1];

		err = settle(c, s, iter_at(s->it, engine_iter_seek(s->it, slice_buf(&start))));
	}
	buf_release(&start);
	buf_release(&end);
	return err;
}

/* The generations, newest first; stops at a run on its way into the engine: what is older is there. */
static int add_overlay(struct mvcc_cursor *c)
{
	int err = 0;

	for (unsigned i = 0; !err && i < c->set->n; i++) {
		struct generation *gen = c->set->gens[i];

		err = add_mem(c, SRC_MEM, &gen->mt);
		if (err || !gen->run || gen->last_rev > c->rev)
			continue;
		err = add_run(c, SRC_RUN, gen->run, gen->last_rev);
		if (atomic_load(&gen->moving)) /* asked after the iterator was made */
			break;
	}
	return err;
}

static int add_sources(struct mvcc_cursor *c)
{
	uint64_t run = c->txn ? c->txn->run : 0;
	int err = 0;

	if (c->writes)
		err = add_mem(c, SRC_WRITES, &c->writes->mt);
	if (!err && run)
		err = add_run(c, SRC_OWN_RUN, run, 0);
	if (!err)
		err = add_overlay(c);
	if (!err)
		err = add_iter(c, SRC_LATEST, FAM_LATEST, slice_buf(&c->start), slice_buf(&c->end));
	if (!err) {
		struct source *s = &c->sources[c->nsources - 1];

		err = settle(c, s, iter_at(s->it, engine_iter_seek(s->it, slice_buf(&c->start))));
	}
	/* `hist` is looked into only if `latest`, as just opened, can lack something of the revision. */
	if (!err && (c->ever || atomic_load(&c->db->applying) > c->rev))
		err = add_hist(c);
	return err;
}

static int open_cursor(struct mvcc_cursor how, struct slice start, struct slice end, struct mvcc_cursor **out)
{
	struct mvcc_cursor *c = malloc(sizeof(*c));
	struct mvcc_txn *txn = how.txn;
	struct mvcc *db = how.db;
	int err;

	if (!c)
		return -ENOMEM;
	*c = how;
	gate_enter(&db->gate);
	c->writes = txn ? txn->writes : NULL;
	if (c->writes)
		c->writes->refs++;
	c->set = overlay_ref(&db->overlay);
	c->sources = calloc(2 * (size_t)c->set->n + 4, sizeof(c->sources[0]));
	err = c->sources ? 0 : -ENOMEM;
	if (!err)
		err = buf_copy(&c->start, start);
	if (!err)
		err = buf_copy(&c->end, end);
	if (!err && !(end.len && slice_cmp(start, end) >= 0)) /* an empty range has no sources */
		err = add_sources(c);
	if (err) {
		mvcc_cursor_close(c);
		return err;
	}
	*out = c;
	return 0;
}

int cursor_open(struct mvcc *db, mvcc_rev_t rev, struct mvcc_txn *txn, struct txn_range *range,
		struct slice start, struct slice end, struct mvcc_cursor **out)
{
	return open_cursor((struct mvcc_cursor){ .db = db, .rev = rev, .txn = txn, .range = range }, start,
			   end, out);
}

int cursor_open_ever(struct mvcc *db, const struct ever *ever, struct slice start, struct slice end,
		     struct mvcc_cursor **out)
{
	return open_cursor((struct mvcc_cursor){ .db = db, .rev = ever->current, .ever = ever }, start, end,
			   out);
}

int mvcc_cursor_open(struct mvcc_view *view, struct slice start, struct slice end, struct mvcc_cursor **out)
{
	return cursor_open(view->db, view->rev, NULL, NULL, start, end, out);
}

void mvcc_cursor_close(struct mvcc_cursor *c)
{
	if (!c)
		return;
	for (unsigned i = 0; i < c->nsources; i++) {
		engine_iter_free(c->sources[i].it);
		buf_release(&c->sources[i].unescaped);
		buf_release(&c->sources[i].seek);
	}
	free(c->sources);
	gate_leave(&c->db->gate);
	gen_set_unref(c->set);
	txn_writes_unref(c->writes);
	buf_release(&c->start);
	buf_release(&c->end);
	buf_release(&c->blobs);
	free(c);
}

/* The source whose row comes next, NULL at the end. All that stand on the same key are marked as spent. */
static struct source *choose(struct mvcc_cursor *c)
{
	struct source *best = NULL;

	for (unsigned i = 0; i < c->nsources; i++) {
		struct source *s = &c->sources[i];
		int cmp;

		if (!s->valid)
			continue;
		cmp = best ? slice_cmp(s->key, best->key) : -1;
		if (cmp < 0)
			best = s;
	}
	for (unsigned i = 0; best && i < c->nsources; i++)
		if (c->sources[i].valid)
			c->sources[i].spent = slice_eq(c->sources[i].key, best->key);
	return best;
}

static int step_spent(struct mvcc_cursor *c)
{
	int err = 0;

	for (unsigned i = 0; !err && i < c->nsources; i++)
		if (c->sources[i].valid && c->sources[i].spent)
			err = source_step(c, &c->sources[i]);
	return err;
}

/* Loads the row of `s`. 1, 0 when it is a tombstone, or a code. */
static int load(struct mvcc_cursor *c, struct source *s)
{
	int err;

	if (s->kind == SRC_WRITES) {
		struct txn_write *w = write_of(s->node);

		if (w->what == WRITE_DEL)
			return 0;
		err = txn_write_record(c->txn, s->key, w, &s->rec);
		if (err)
			return err;
	} else if (s->tombstone) {
		return 0;
	}
	err = c->ever ? 0 : item_lend(&c->item, &s->rec, &c->blobs);
	return err ? err : 1;
}

int mvcc_cursor_next(struct mvcc_cursor *c, struct slice *key, const struct mvcc_item **item)
{
	while (!c->err) {
		struct source *s;
		int got;

		c->err = step_spent(c);
		if (c->err)
			break;
		s = choose(c);
		if (!s) {
			if (c->range)
				txn_range_finish(c->range);
			return 0;
		}
		got = load(c, s);
		if (got == 0)
			continue;
		if (got < 0) {
			c->err = got;
			break;
		}
		if (c->range)
			txn_range_advance(c->range, s->key);
		*key = s->key;
		*item = &c->item;
		return 1;
	}
	assert(c->err < 0);
	return c->err;
}
