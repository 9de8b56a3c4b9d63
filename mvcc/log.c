/*
 * Reading the log: one row of the engine's `log` family, or several, for each revision. What is still
 * in the ring is drained first, so that there is only one place to read from.
 */
#include "mvcc/keep_int.h"
#include "mvcc/mvcc_int.h"

#include <errno.h>
#include <stdlib.h>

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
static int entry_fill(struct mvcc_log *log, const struct log_part *part)
{
	struct slice rest = part->story;
	struct story_raw raw;
	struct slice *const strings[] = { &raw.comm,  &raw.op,      &raw.path,
					  &raw.path2, &raw.session, &raw.message };
	struct mvcc_story *story = &log->entry.story;
	const uint8_t *p;
	int err = 0;

	if (!story_take(&rest, &raw))
		return MVCC_ECORRUPT;
	buf_clear(&log->text);
	for (unsigned i = 0; !err && i < 6; i++)
		err = text_put(&log->text, *strings[i]);
	if (err)
		return err;
	p = log->text.data;
	for (unsigned i = 0; i < 6; i++) {
		strings[i]->data = p;
		p += strings[i]->len + 1;
	}
	log->entry.rev = log->rev;
	log->entry.time_ns = part->time_ns;
	*story = (struct mvcc_story){
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

int mvcc_log_next(struct mvcc_log *log, const struct mvcc_entry **entry)
{
	struct log_part part;
	mvcc_rev_t rev = 0;
	uint32_t number = 0;
	int err = 0;

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
		err = entry_fill(log, &part);
	if (err)
		return err;
	log->changes = part.changes;
	*entry = &log->entry;
	return 1;
}

int mvcc_log_change(struct mvcc_log *log, struct mvcc_change *change)
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

int mvcc_rev_at(struct mvcc *db, int64_t time_ns, mvcc_rev_t *out)
{
	mvcc_rev_t floor, lo, hi = atomic_load(&db->current), found = 0;
	struct mvcc_view *hold;
	int err = view_open_floor(db, &hold); /* so that the log from there on stays */

	if (err)
		return err;
	floor = lo = mvcc_view_rev(hold);
	err = drain_to_rev(db, hi);
	while (!err && lo <= hi) {
		mvcc_rev_t mid = lo + (hi - lo) / 2;
		int64_t then = 0;

		err = log_time_of(db, mid, &then);
		if (!err && then <= time_ns) {
			found = mid;
			lo = mid + 1;
		} else {
			hi = mid - 1;
		}
	}
	mvcc_view_close(hold);
	if (err)
		return err;
	if (!found)
		found = floor == MVCC_REV_FIRST ? MVCC_REV_FIRST : keep_pinned_before(db, time_ns, floor);
	if (!found)
		return MVCC_ECOMPACTED;
	*out = found;
	return 0;
}
