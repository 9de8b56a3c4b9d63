/*
 * A watch, as its caller sees it. It is a position in history: `next`. Asked for the next revision it looks
 * where that is: in the notes of the tail, one after the other; before the tail, in the log, in pieces, with no
 * iterator left open between two calls; after it, nowhere: then the watch is idle, and the watch thread looks
 * for it (see watcher.c).
 *
 * A revision from a note shows what the note has. One from the log is read part by part, and its records from
 * the store as of that revision, so one of a million changes takes no more memory than one of its parts.
 */
#include "mvcc/keep_int.h"
#include "mvcc/watch_int.h"

#include <errno.h>
#include <stdlib.h>

static bool wants(const struct mvcc_watch *w, struct slice key, bool deleted)
{
	return !(w->flags & (deleted ? MVCC_WATCH_NO_DEL : MVCC_WATCH_NO_PUT)) &&
	       key_within(key, slice_buf(&w->start), slice_buf(&w->end));
}

static int lose(struct mvcc_watch *w)
{
	w->lost = true;
	return MVCC_ECOMPACTED;
}

static bool is_lost(const struct mvcc_watch *w, mvcc_rev_t rev)
{
	return w->lost || rev < atomic_load(&w->db->floor);
}

/* ---- open, close -------------------------------------------------------------------------- */

static void watch_free(struct mvcc_watch *w)
{
	note_unref(w->note);
	mvcc_item_release(&w->item);
	mvcc_item_release(&w->prev);
	buf_release(&w->row);
	buf_release(&w->rows);
	buf_release(&w->text);
	buf_release(&w->blobs);
	buf_release(&w->start);
	buf_release(&w->end);
	free(w->hits);
	pthread_cond_destroy(&w->woken);
	free(w);
}

static int watch_new(struct mvcc *db, const struct mvcc_watch_options *opt, struct mvcc_watch **out)
{
	struct mvcc_watch *w = calloc(1, sizeof(*w));
	int err;

	if (!w)
		return -ENOMEM;
	w->db = db;
	w->flags = opt->flags;
	w->notify = opt->notify;
	w->arg = opt->arg;
	cond_init(&w->woken);
	err = buf_copy(&w->start, opt->start);
	if (!err)
		err = buf_copy(&w->end, opt->end);
	if (err) {
		watch_free(w);
		return err;
	}
	w->interval.start = slice_buf(&w->start);
	w->interval.end = slice_buf(&w->end);
	*out = w;
	return 0;
}

/* Takes its place among the watches. Callers hold commit_lock, so that no commit comes in between, and lock. */
static int join_locked(struct mvcc_watch *w, mvcc_rev_t from)
{
	struct watching *all = w->db->watching;
	int err;

	w->next = from == MVCC_REV_LATEST ? atomic_load(&w->db->current) + 1 : from;
	if (is_lost(w, w->next))
		return MVCC_ECOMPACTED;
	err = watching_begin_locked(all);
	if (err)
		return err;
	all->n++;
	if (w->next >= all->tail.end)
		watch_go_idle_locked(w);
	return 0;
}

int mvcc_watch_open(struct mvcc *db, const struct mvcc_watch_options *opt, struct mvcc_watch **out)
{
	struct mvcc_watch *w;
	int err = watch_new(db, opt, &w);

	if (err)
		return err;
	pthread_mutex_lock(&db->commit_lock);
	pthread_mutex_lock(&db->watching->lock);
	err = join_locked(w, opt->from);
	pthread_mutex_unlock(&db->watching->lock);
	pthread_mutex_unlock(&db->commit_lock);
	if (err) {
		watch_free(w);
		return err;
	}
	*out = w;
	return 0;
}

void mvcc_watch_close(struct mvcc_watch *w)
{
	struct watching *all;
	bool last;

	if (!w)
		return;
	all = w->db->watching;
	pthread_mutex_lock(&all->lock);
	if (w->idle)
		interval_remove(&all->idle, &w->interval);
	if (w->told)
		TAILQ_REMOVE(&all->told, w, link);
	while (all->notifying == w)
		pthread_cond_wait(&all->notified_cv, &all->lock);
	last = --all->n == 0;
	pthread_mutex_unlock(&all->lock);
	if (last)
		watching_kick(all);
	watch_free(w);
}

void mvcc_watch_cancel(struct mvcc_watch *w)
{
	struct watching *all = w->db->watching;

	pthread_mutex_lock(&all->lock);
	w->canceled = true;
	pthread_cond_signal(&w->woken);
	pthread_cond_broadcast(&all->judged_cv);
	pthread_mutex_unlock(&all->lock);
}

/* ---- the log ------------------------------------------------------------------------------ */

/* Does a part of a log row have a change that is wanted? 1, 0 or MVCC_ECORRUPT. */
static int part_matches(const struct mvcc_watch *w, struct slice row, uint32_t number)
{
	struct mvcc_change change;
	struct log_part part;

	if (log_part_decode(row, number, &part))
		return MVCC_ECORRUPT;
	while (part.changes.len) {
		if (!log_change_take(&part.changes, &change))
			return MVCC_ECORRUPT;
		if (wants(w, change.key, change.deleted))
			return 1;
	}
	return 0;
}

/* Is this the row that has to come next? No revision is without a row, and no row without those before it. */
static bool row_is_next(const struct mvcc_watch *w, mvcc_rev_t rev, uint32_t part)
{
	if (rev == w->log_rev && part == w->log_part)
		return true;
	return w->log_part > 0 && rev == w->log_rev + 1 && part == 0;
}

/*
 * Steps over the row at hand. Of a revision that was found, what is left does not matter but for whether there is
 * something left: who reads it need not ask then.
 */
static int scan_step(struct mvcc_watch *w, struct engine_iter *it, bool *on_row)
{
	mvcc_rev_t rev = w->log_rev;
	uint32_t part;
	int err = 0;

	*on_row = engine_iter_next(it);
	if (w->log_part > 0) /* nothing was found in it so far */
		return 0;
	if (*on_row)
		err = log_key_decode(it->key, &rev, &part);
	else
		err = engine_iter_error(it);
	if (err)
		return err;
	w->hits[w->nhits - 1].more = rev < w->log_rev;
	if (rev < w->log_rev) {
		err = log_key(&w->row, w->log_rev, 0);
		*on_row = !err && engine_iter_seek(it, slice_buf(&w->row));
	}
	return err;
}

/* A short row is kept, so that it need not be got again. */
static void hit_add(struct mvcc_watch *w, mvcc_rev_t rev, uint32_t part, struct slice row)
{
	struct watch_hit hit = { .rev = rev, .part = part, .more = true, .off = w->rows.len };

	if (part == 0 && w->rows.len + row.len <= WATCH_ROWS_BYTES && buf_put_slice(&w->rows, row) == 0)
		hit.len = row.len;
	w->hits[w->nhits++] = hit;
}

/* Looks through rows up to the end of the iterator, or until it was enough for once. */
static int scan_rows(struct mvcc_watch *w, struct engine_iter *it, struct slice start, mvcc_rev_t to)
{
	bool on_row = engine_iter_seek(it, start);
	size_t bytes = 0;
	int err = 0;

	while (!err && on_row && w->nhits < WATCH_HITS_MAX && bytes < WATCH_PIECE_BYTES) {
		mvcc_rev_t rev;
		uint32_t part;
		int got = log_key_decode(it->key, &rev, &part);

		if (!got)
			got = row_is_next(w, rev, part) ? part_matches(w, it->value, part) : MVCC_ECORRUPT;
		if (got < 0)
			return got;
		bytes += it->key.len + it->value.len;
		if (got)
			hit_add(w, rev, part, it->value);
		w->log_rev = got ? rev + 1 : rev;
		w->log_part = got ? 0 : part + 1;
		err = scan_step(w, it, &on_row);
	}
	if (err || on_row)
		return err;
	err = engine_iter_error(it);
	if (err)
		return err;
	if (w->log_rev + (w->log_part > 0) != to + 1)
		return MVCC_ECORRUPT;
	w->log_rev = to + 1;
	w->log_part = 0;
	return 0;
}

/* Looks for matching revisions from log_rev on; those up to `to` are in the engine. */
static int scan(struct mvcc_watch *w, mvcc_rev_t to)
{
	struct buf start = { 0 }, end = { 0 };
	struct engine_iter *it = NULL;
	int err = log_key(&start, w->log_rev, w->log_part);

	if (!err)
		err = log_key(&end, to + 1, 0);
	gate_enter(&w->db->gate);
	if (!err)
		err = engine_iter_new(w->db->engine, FAM_LOG, slice_buf(&start), slice_buf(&end), &it);
	if (!err && is_lost(w, w->log_rev)) /* rows below the floor may be gone; asked after it was made */
		err = lose(w);
	if (!err)
		err = scan_rows(w, it, slice_buf(&start), to);
	engine_iter_free(it);
	gate_leave(&w->db->gate);
	buf_release(&start);
	buf_release(&end);
	w->next = w->nhits ? w->hits[0].rev : w->log_rev;
	return err;
}

/* Looks through a piece of the log, of revisions up to `to`, which is in the engine once `seq` is drained. */
static int read_log(struct mvcc_watch *w, mvcc_rev_t to, uint64_t seq)
{
	mvcc_rev_t applied = atomic_load(&w->db->applied);
	int err = 0;

	if (w->next > applied)
		err = drain_to(w->db, seq);
	else if (to > applied)
		to = applied; /* what is there is read first, and nobody waited for */
	if (!err && !w->hits && !(w->hits = malloc(WATCH_HITS_MAX * sizeof(w->hits[0]))))
		err = -ENOMEM;
	if (err)
		return err;
	if (w->log_rev != w->next) {
		w->log_rev = w->next;
		w->log_part = 0;
	}
	w->nhits = w->hit = 0;
	buf_clear(&w->rows);
	return scan(w, to);
}

/* Copies a part of a revision to `row`. -ENOENT: it has no such part. */
static int row_get(struct mvcc_watch *w, mvcc_rev_t rev, uint32_t number, struct log_part *out)
{
	struct engine_pin pin = { 0 };
	struct buf key = { 0 };
	int err = log_key(&key, rev, number);

	gate_enter(&w->db->gate);
	if (!err)
		err = engine_get(w->db->engine, FAM_LOG, slice_buf(&key), &pin);
	if (!err)
		err = buf_copy(&w->row, pin.value);
	engine_pin_release(w->db->engine, &pin);
	gate_leave(&w->db->gate);
	buf_release(&key);
	if (err == -ENOENT && is_lost(w, rev)) /* gone, rather than never there */
		return lose(w);
	return err ? err : log_part_decode(slice_buf(&w->row), number, out);
}

/* Its first part, with the story: as it was seen, or else from the log. */
static int hit_row(struct mvcc_watch *w, const struct watch_hit *hit, struct log_part *out)
{
	int err;

	if (!hit->len)
		return row_get(w, hit->rev, 0, out);
	err = buf_copy(&w->row, slice_of(w->rows.data + hit->off, hit->len));
	return err ? err : log_part_decode(slice_buf(&w->row), 0, out);
}

/* Makes the oldest hit the revision at hand. */
static int take_hit(struct mvcc_watch *w)
{
	const struct watch_hit hit = w->hits[w->hit];
	struct log_part part;
	int err = hit_row(w, &hit, &part);

	if (!err)
		err = entry_fill(&w->entry, &w->text, part.story);
	if (!err)
		w->entry.time_ns = part.time_ns;
	if (!err && hit.part)
		err = row_get(w, hit.rev, hit.part, &part);
	if (err)
		return err == -ENOENT ? MVCC_ECORRUPT : err;
	w->entry.rev = w->rev = hit.rev;
	w->changes = part.changes;
	w->part = hit.part;
	w->more = hit.more;
	w->hit++;
	w->next = w->hit < w->nhits ? w->hits[w->hit].rev : w->log_rev;
	return 1;
}

/* ---- the tail ----------------------------------------------------------------------------- */

/* Looks at a note, which is taken. 1 when it is the revision at hand now, 0, or a code. */
static int try_note(struct mvcc_watch *w, struct note *note)
{
	struct slice ops = note->head.ops;
	bool found = false;
	struct op op;
	int err = 0;

	while (!found && op_take(&ops, &op))
		found = wants(w, op.key, op.flags & OP_DEL);
	if (found)
		err = entry_fill(&w->entry, &w->text, note->head.story);
	if (!err)
		w->next = note->head.rev + 1;
	if (err || !found) {
		note_unref(note);
		return err;
	}
	w->entry.rev = w->rev = note->head.rev;
	w->entry.time_ns = note->head.time_ns;
	w->changes = note->head.ops;
	w->note = note;
	return 1;
}

/* ---- next --------------------------------------------------------------------------------- */

/* Where the next revision is: in a note; in the log, up to `to`, once `seq` is drained; or still to come. */
struct place {
	struct note *note; /* with a reference */
	mvcc_rev_t to;     /* 0: not in the log */
	uint64_t seq;
};

static int find_place(struct mvcc_watch *w, struct place *place)
{
	struct watching *all = w->db->watching;
	struct tail *tail = &all->tail;
	int err = 0;

	*place = (struct place){ 0 };
	pthread_mutex_lock(&all->lock);
	if (w->canceled)
		err = -ECANCELED;
	else if (w->next < tail->first)
		*place = (struct place){ .to = tail->first - 1, .seq = tail->before_seq };
	else if (w->next < tail->end)
		place->note = note_ref(tail_at(tail, w->next));
	else
		watch_go_idle_locked(w);
	pthread_mutex_unlock(&all->lock);
	if (place->note && place->note->in_log) {
		place->to = place->note->head.rev;
		place->seq = place->note->seq;
		note_unref(place->note);
		place->note = NULL;
	}
	return err;
}

/* Looks for the next revision: 1 when there is one at hand; 0 when the watch is idle now; or a code. */
static int look(struct mvcc_watch *w)
{
	struct place place;
	int got;

	do {
		if (is_lost(w, w->next))
			return lose(w);
		if (w->hit < w->nhits)
			return take_hit(w);
		got = find_place(w, &place);
		if (got)
			return got;
		if (place.note)
			got = try_note(w, place.note);
		else if (place.to)
			got = read_log(w, place.to, place.seq);
	} while (!got && (place.note || place.to));
	if (!got) { /* a watch that waits needs little memory */
		free(w->hits);
		w->hits = NULL;
		buf_release(&w->rows);
	}
	return got;
}

static mvcc_rev_t rev_locked(const struct mvcc_watch *w)
{
	mvcc_rev_t judged = w->db->watching->judged;

	return w->idle && judged > w->next ? judged : w->next;
}

/*
 * Waits while the watch is idle: until all up to `target`, which was there when the call began, was looked at,
 * however long that takes, then until `until_ns`. 1 when it is idle no more, 0, or -ECANCELED.
 */
static int wait_woken(struct mvcc_watch *w, mvcc_rev_t target, uint64_t until_ns)
{
	struct timespec until = timespec_of(until_ns);
	struct watching *all = w->db->watching;
	int got;

	pthread_mutex_lock(&all->lock);
	w->asking = true;
	while (w->idle && !w->canceled && rev_locked(w) <= target)
		pthread_cond_wait(&all->judged_cv, &all->lock);
	while (w->idle && !w->canceled && now_ns() < until_ns) {
		if (until_ns == UINT64_MAX)
			pthread_cond_wait(&w->woken, &all->lock);
		else
			pthread_cond_timedwait(&w->woken, &all->lock, &until);
	}
	got = w->canceled ? -ECANCELED : !w->idle;
	w->asking = got == 1;
	pthread_mutex_unlock(&all->lock);
	return got;
}

int mvcc_watch_next(struct mvcc_watch *w, int timeout_ms, const struct mvcc_entry **entry)
{
	mvcc_rev_t target = atomic_load(&w->db->current);
	uint64_t until = timeout_ms < 0 ? UINT64_MAX : 0;
	int got;

	if (timeout_ms > 0)
		until = now_ns() + (uint64_t)timeout_ms * 1000000u;
	note_unref(w->note);
	w->note = NULL;
	w->rev = 0;
	do {
		got = wait_woken(w, target, until);
		if (got <= 0)
			return got;
		got = look(w);
	} while (!got);
	w->asking = false; /* it is not idle, so nobody else looks */
	if (got == 1)
		*entry = &w->entry;
	return got;
}

mvcc_rev_t mvcc_watch_rev(const struct mvcc_watch *w)
{
	struct watching *all = w->db->watching;
	mvcc_rev_t rev;

	pthread_mutex_lock(&all->lock);
	rev = rev_locked(w);
	pthread_mutex_unlock(&all->lock);
	return rev;
}

/* ---- events ------------------------------------------------------------------------------- */

static void item_strip(struct mvcc_item *item, mvcc_rev_t create, mvcc_rev_t mod, uint64_t version)
{
	*item = (struct mvcc_item){ .create_rev = create, .mod_rev = mod, .version = version };
}

/*
 * The record of `mod` that a key had at `rev`, read from the store. `*ended`: is it thought to have ended? Then told
 * where it was.
 */
static int item_read(struct mvcc_watch *w, mvcc_rev_t rev, mvcc_rev_t mod, struct slice key, bool *ended,
		     struct mvcc_item *out)
{
	struct mvcc_view *view;
	struct found f;
	int err = mvcc_view_open(w->db, rev, &view);

	if (err)
		return err;
	err = *ended ? find_ended(w->db, rev, mod, key, &f) : find_at(w->db, rev, key, &f);
	if (!err) {
		*ended = f.it != NULL;
		if (w->flags & MVCC_WATCH_KEYS)
			item_strip(out, f.rec.create, f.rec.mod, f.rec.version);
		else
			err = item_fill(out, &f.rec);
		found_release(&f);
	}
	mvcc_view_close(view);
	return err == -ENOENT && !purge_covers(w->db, key, mod) ? MVCC_ECORRUPT : err;
}

/* A record that is in the note at hand. */
static int item_of_note(struct mvcc_watch *w, struct slice record)
{
	struct record rec;
	int err = record_decode(record, &rec);

	if (err)
		return err;
	if (!(w->flags & MVCC_WATCH_KEYS))
		return item_lend(&w->item, &rec, &w->blobs);
	item_strip(&w->item, rec.create, rec.mod, rec.version);
	return 0;
}

/* Fills the event of a change. `record` is NULL when it is to be read. 1, 0 if it was purged, or a code. */
static int event_fill(struct mvcc_watch *w, const struct mvcc_change *change, const struct slice *record,
		      struct mvcc_event *event)
{
	struct mvcc_event filled = { .key = change->key, .deleted = change->deleted };
	bool prev_ended = !record; /* by this very change, which is drained if it comes from the log */
	int err = 0;

	mvcc_item_release(&w->item);
	mvcc_item_release(&w->prev);
	if (purge_covers(w->db, change->key, w->rev))
		return 0;
	if (!change->deleted) {
		err = record ? item_of_note(w, *record) :
			       item_read(w, w->rev, w->rev, change->key, &w->ended, &w->item);
		filled.item = &w->item;
	}
	if (err == -ENOENT)
		return 0;
	if (err == MVCC_ECOMPACTED)
		return lose(w);
	if (!err && change->prev_rev && (w->flags & MVCC_WATCH_PREV)) {
		err = item_read(w, w->rev - 1, change->prev_rev, change->key, &prev_ended, &w->prev);
		filled.prev = err ? NULL : &w->prev;
		if (err == MVCC_ECOMPACTED ||
		    err == -ENOENT) /* the change is still to be had, what was before is not */
			err = 0;
	}
	if (err)
		return err;
	*event = filled;
	return 1;
}

static int event_of_note(struct mvcc_watch *w, struct mvcc_event *event)
{
	while (w->changes.len) {
		struct slice rest = w->changes;
		struct op op;
		int got = 0;

		if (!op_take(&rest, &op))
			return MVCC_ECORRUPT;
		if (wants(w, op.key, op.flags & OP_DEL)) {
			struct mvcc_change change = { op.key, op.flags & OP_DEL, op.prev };

			got = event_fill(w, &change, &op.record, event);
		}
		if (got >= 0) /* after an error the same change is tried again */
			w->changes = rest;
		if (got)
			return got;
	}
	return 0;
}

static int event_of_log(struct mvcc_watch *w, struct mvcc_event *event)
{
	for (;;) {
		struct mvcc_change change;
		struct slice rest;
		int got = 0;

		while (w->changes.len == 0) {
			struct log_part part;
			int err = w->more ? row_get(w, w->rev, w->part + 1, &part) : -ENOENT;

			if (err)
				return err == -ENOENT ? 0 : err;
			w->part++;
			w->changes = part.changes;
		}
		rest = w->changes;
		if (!log_change_take(&rest, &change))
			return MVCC_ECORRUPT;
		if (wants(w, change.key, change.deleted))
			got = event_fill(w, &change, NULL, event);
		if (got >= 0)
			w->changes = rest;
		if (got)
			return got;
	}
}

int mvcc_watch_event(struct mvcc_watch *w, struct mvcc_event *event)
{
	if (!w->rev)
		return 0;
	return w->note ? event_of_note(w, event) : event_of_log(w, event);
}
