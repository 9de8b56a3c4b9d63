/*
 * Reading the log: one row of the engine's `log` family, or several, for each revision. What is still
 * in the ring is drained first, so that there is only one place to read from. A filter for a range reads
 * all rows; one for a single key asks for the life of the key, and seeks where that says.
 */
#include "mvcc/keep_int.h"
#include "mvcc/mvcc_int.h"

#include <errno.h>
#include <stdlib.h>

enum { SOUGHT_MAX = 1024 }; /* a key with more changes is found by reading all */

struct mvcc_log {
	struct mvcc *db;
	struct engine_iter *it;
	bool begun;
	bool on_row;     /* the iterator stands on a row not yet looked at */
	mvcc_rev_t rev;  /* of the entry at hand, 0 before the first */
	struct buf row;  /* the part at hand */
	struct buf text; /* the story at hand */
	struct slice changes;
	struct mvcc_entry entry;
	mvcc_rev_t from, to;
	bool filtered;
	struct buf start, end; /* of the filter */
	/* Of a filter for one key: all revisions that may have changed it, in rising order. */
	bool sought; /* only these are looked at */
	mvcc_rev_t revs[SOUGHT_MAX];
	size_t nrevs, next_rev;
};

int drain_to_rev(struct mvcc *db, mvcc_rev_t rev)
{
	if (rev <= atomic_load(&db->applied))
		return 0;
	return drain_to(db, atomic_load(&db->head_seq));
}

int mvcc_log_open(struct mvcc *db, mvcc_rev_t from, mvcc_rev_t to, struct mvcc_log **out)
{
	mvcc_rev_t current = atomic_load(&db->current);
	struct buf start = { 0 }, end = { 0 };
	struct mvcc_view *hold = NULL;
	struct mvcc_log *log;
	int err = 0;

	if (to == MVCC_REV_LATEST)
		to = current;
	if (from > current || to > current)
		return from < atomic_load(&db->floor) ? MVCC_ECOMPACTED : MVCC_EFUTURE;
	err = view_open_floor(db, &hold); /* nothing goes from there on, until the iterator has it */
	if (!err && from < mvcc_view_rev(hold))
		err = MVCC_ECOMPACTED;
	if (!err)
		err = drain_to_rev(db, to);
	log = err ? NULL : calloc(1, sizeof(*log));
	if (!log) {
		mvcc_view_close(hold);
		return err ? err : -ENOMEM;
	}
	log->db = db;
	log->from = from;
	log->to = to;
	gate_enter(&db->gate);
	err = log_key(&start, from, 0);
	if (!err)
		err = log_key(&end, to + 1 > from ? to + 1 : from, 0);
	if (!err)
		err = engine_iter_new(db->engine, FAM_LOG, slice_buf(&start), slice_buf(&end), &log->it);
	if (!err && !(log->on_row = engine_iter_seek(log->it, slice_buf(&start))))
		err = engine_iter_error(log->it);
	buf_release(&start);
	buf_release(&end);
	mvcc_view_close(hold);
	if (err) {
		mvcc_log_close(log);
		return err;
	}
	*out = log;
	return 0;
}

void mvcc_log_close(struct mvcc_log *log)
{
	if (!log)
		return;
	engine_iter_free(log->it);
	gate_leave(&log->db->gate);
	buf_release(&log->row);
	buf_release(&log->text);
	buf_release(&log->start);
	buf_release(&log->end);
	free(log);
}

static int step(struct mvcc_log *log)
{
	log->on_row = engine_iter_next(log->it);
	return log->on_row ? 0 : engine_iter_error(log->it);
}

/* Copies the row under the iterator, decodes it, and steps on. */
static int take_row(struct mvcc_log *log, uint32_t part, struct log_part *out)
{
	int err = buf_copy(&log->row, log->it->value);

	if (!err)
		err = log_part_decode(slice_buf(&log->row), part, out);
	if (!err)
		err = step(log);
	return err;
}

static int text_put(struct buf *text, struct slice s)
{
	int err = buf_put_slice(text, s);

	return err ? err : buf_put_u8(text, 0);
}

/* Copies the story to where it outlives the row: the strings, each with its end. */
int entry_fill(struct mvcc_entry *entry, struct buf *text, struct slice story)
{
	struct story_raw raw;
	struct slice *const strings[] = { &raw.comm,  &raw.op,      &raw.path,
					  &raw.path2, &raw.session, &raw.message };
	const uint8_t *p;
	int err = 0;

	if (!story_take(&story, &raw))
		return MVCC_ECORRUPT;
	buf_clear(text);
	for (unsigned i = 0; !err && i < 6; i++)
		err = text_put(text, *strings[i]);
	if (err)
		return err;
	p = text->data;
	for (unsigned i = 0; i < 6; i++) {
		strings[i]->data = p;
		p += strings[i]->len + 1;
	}
	entry->story = (struct mvcc_story){
		.uid = raw.uid,
		.gid = raw.gid,
		.pid = raw.pid,
		.comm = (const char *)raw.comm.data,
		.op = (const char *)raw.op.data,
		.path = raw.path,
		.path2 = raw.path2,
		.session = (const char *)raw.session.data,
		.message = (const char *)raw.message.data,
	};
	return 0;
}

/* ---- the filter ---- */

static void add_rev(struct mvcc_log *log, mvcc_rev_t rev)
{
	if (log->nrevs == 0 || log->revs[log->nrevs - 1] < rev)
		log->revs[log->nrevs++] = rev;
}

static int note_revs(void *arg, const struct mvcc_item *item, mvcc_rev_t end_rev)
{
	const mvcc_rev_t revs[] = { item->mod_rev, end_rev };
	struct mvcc_log *log = arg;

	for (unsigned i = 0; i < 2; i++) {
		if (revs[i] < log->from || revs[i] > log->to)
			continue;
		if (log->nrevs == SOUGHT_MAX)
			return 1;
		add_rev(log, revs[i]);
	}
	return 0;
}

/* The life of a key tells where its changes are: each record came with one and ended with one. */
static int find_revs(struct mvcc_log *log)
{
	int got;

	log->nrevs = 0;
	add_rev(log, log->from); /* a life as seen from the floor does not tell what ended right there */
	got = mvcc_history(log->db, slice_buf(&log->start), note_revs, log);
	/* it tells all only of what is not below the floor: that may have moved since the log was opened */
	log->sought = got == 0 && atomic_load(&log->db->floor) <= log->from &&
		      !purge_covers(log->db, slice_buf(&log->start), 0);
	return got < 0 ? got : 0;
}

static bool is_one_key(struct slice start, struct slice end)
{
	return start.len && end.len == start.len + 1 && end.data[start.len] == 0 && slice_starts(end, start);
}

int mvcc_log_filter(struct mvcc_log *log, struct slice start, struct slice end)
{
	int err = buf_copy(&log->start, start);

	if (!err)
		err = buf_copy(&log->end, end);
	log->filtered = true;
	log->sought = false;
	log->next_rev = 0;
	return !err && is_one_key(start, end) ? find_revs(log) : err;
}

/* Moves the iterator to the next revision that may matter. */
static int seek_next(struct mvcc_log *log)
{
	struct buf key = { 0 };
	int err;

	if (log->next_rev == log->nrevs) {
		log->on_row = false;
		return 0;
	}
	err = log_key(&key, log->revs[log->next_rev++], 0);
	if (!err && !(log->on_row = engine_iter_seek(log->it, slice_buf(&key))))
		err = engine_iter_error(log->it);
	buf_release(&key);
	return err;
}

/* ---- entries and changes ---- */

static int next_entry(struct mvcc_log *log)
{
	struct log_part part;
	mvcc_rev_t rev = 0;
	uint32_t number = 0;
	int err = log->sought ? seek_next(log) : 0;

	while (!err && log->on_row) {
		err = log_key_decode(log->it->key, &rev, &number);
		if (err || rev != log->rev)
			break;
		err = step(log); /* changes that nobody asked for */
	}
	if (err || !log->on_row)
		return err;
	if (number != 0)
		return MVCC_ECORRUPT;
	log->rev = rev;
	err = take_row(log, 0, &part);
	if (!err)
		err = entry_fill(&log->entry, &log->text, part.story);
	if (err)
		return err;
	log->entry.rev = rev;
	log->entry.time_ns = part.time_ns;
	log->changes = part.changes;
	return 1;
}

/* Has the entry at hand a further change, loaded now if it was not yet? 1, 0 or a code. */
static int next_part(struct mvcc_log *log)
{
	struct log_part part;
	mvcc_rev_t rev;
	uint32_t number;
	int err;

	if (!log->rev)
		return 0;
	while (log->changes.len == 0) {
		if (!log->on_row)
			return 0;
		err = log_key_decode(log->it->key, &rev, &number);
		if (err || rev != log->rev)
			return err;
		err = take_row(log, number, &part);
		if (err)
			return err;
		log->changes = part.changes;
	}
	return 1;
}

/* The same for a change that the filter lets through; what comes before it is left out. */
static int next_match(struct mvcc_log *log)
{
	int got;

	while ((got = next_part(log)) == 1) {
		struct slice rest = log->changes;
		struct mvcc_change change;

		if (!log_change_take(&rest, &change))
			return MVCC_ECORRUPT;
		if (!log->filtered || key_within(change.key, slice_buf(&log->start), slice_buf(&log->end)))
			break;
		log->changes = rest;
	}
	return got;
}

int mvcc_log_next(struct mvcc_log *log, const struct mvcc_entry **entry)
{
	int got;

	do {
		got = next_entry(log);
		if (got <= 0)
			return got;
		got = log->filtered ? next_match(log) : 1;
	} while (got == 0);
	if (got == 1)
		*entry = &log->entry;
	return got;
}

int mvcc_log_change(struct mvcc_log *log, struct mvcc_change *change)
{
	int got = next_match(log);

	if (got <= 0)
		return got;
	return log_change_take(&log->changes, change) ? 1 : MVCC_ECORRUPT;
}

int log_time_of(struct mvcc *db, mvcc_rev_t rev, int64_t *out)
{
	struct engine_pin pin = { 0 };
	struct log_part part;
	struct buf key = { 0 };
	int err = log_key(&key, rev, 0);

	gate_enter(&db->gate);
	if (!err)
		err = engine_get(db->engine, FAM_LOG, slice_buf(&key), &pin);
	if (!err)
		err = log_part_decode(pin.value, 0, &part);
	if (!err)
		*out = part.time_ns;
	engine_pin_release(db->engine, &pin);
	gate_leave(&db->gate);
	buf_release(&key);
	return err == -ENOENT ? MVCC_ECORRUPT : err;
}

int log_rev_at(struct mvcc *db, mvcc_rev_t lo, mvcc_rev_t hi, int64_t time_ns, mvcc_rev_t *rev, int64_t *then)
{
	int found = 0;

	while (lo <= hi) {
		mvcc_rev_t mid = lo + (hi - lo) / 2;
		int64_t at;
		int err = log_time_of(db, mid, &at);

		if (err)
			return err;
		if (at > time_ns) {
			hi = mid - 1;
			continue;
		}
		*rev = mid;
		*then = at;
		found = 1;
		lo = mid + 1;
	}
	return found;
}

int mvcc_rev_at(struct mvcc *db, int64_t time_ns, mvcc_rev_t *out)
{
	mvcc_rev_t floor, current = atomic_load(&db->current), found = 0;
	struct mvcc_view *hold;
	int64_t then;
	int err = view_open_floor(db, &hold); /* so that the log from there on stays */

	if (err)
		return err;
	floor = mvcc_view_rev(hold);
	err = drain_to_rev(db, current);
	if (!err)
		err = log_rev_at(db, floor, current, time_ns, &found, &then);
	mvcc_view_close(hold);
	if (err < 0)
		return err;
	if (!found)
		found = floor == MVCC_REV_FIRST ? MVCC_REV_FIRST : keep_pinned_before(db, time_ns, floor);
	if (!found)
		return MVCC_ECOMPACTED;
	*out = found;
	return 0;
}
