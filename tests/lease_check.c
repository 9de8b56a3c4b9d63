#include "tests/lease_check.h"

#include "mvcc/mvcc_int.h"

static size_t rows_between(struct mvcc *db, const char *start, const char *end)
{
	struct engine_iter *it = NULL;
	size_t n = 0;

	gate_enter(&db->gate);
	if (engine_iter_new(db->engine, FAM_LEASE, slice_of(start, 1), slice_of(end, 1), &it)) {
		gate_leave(&db->gate);
		return SIZE_MAX;
	}
	for (bool on = engine_iter_seek(it, slice_of(start, 1)); on; on = engine_iter_next(it))
		n++;
	if (engine_iter_error(it))
		n = SIZE_MAX;
	engine_iter_free(it);
	gate_leave(&db->gate);
	return n;
}

size_t lease_rows(struct mvcc *db)
{
	return rows_between(db, "\0", "\1");
}

size_t attached_rows(struct mvcc *db)
{
	return rows_between(db, "\1", "\2");
}

int64_t lease_row_deadline(struct mvcc *db, mvcc_lease_t id)
{
	struct lease_row row = { .deadline_ms = INT64_MIN };
	struct engine_pin pin;
	struct buf key = { 0 };

	gate_enter(&db->gate);
	if (lease_key(&key, id) == 0 && engine_get(db->engine, FAM_LEASE, slice_buf(&key), &pin) == 0) {
		if (lease_row_decode(slice_buf(&key), pin.value, &row))
			row.deadline_ms = INT64_MIN;
		engine_pin_release(db->engine, &pin);
	}
	gate_leave(&db->gate);
	buf_release(&key);
	return row.deadline_ms;
}

static bool is_told(struct mvcc *db, mvcc_lease_t id, struct slice key)
{
	struct engine_pin pin;
	struct buf row = { 0 };
	bool told = false;

	if (attached_key(&row, id, key) == 0 &&
	    engine_get(db->engine, FAM_LEASE, slice_buf(&row), &pin) == 0) {
		told = pin.value.len == 0;
		engine_pin_release(db->engine, &pin);
	}
	buf_release(&row);
	return told;
}

static const char *check_keys(struct mvcc *db, struct mvcc_cursor *c, size_t *attached)
{
	const struct mvcc_item *item;
	struct mvcc_lease lease;
	struct slice key;
	int got;

	while ((got = mvcc_cursor_next(c, &key, &item)) == 1) {
		if (!item->lease)
			continue;
		++*attached;
		if (mvcc_lease_get(db, item->lease, &lease))
			return "a key has a lease that does not exist";
		if (!is_told(db, item->lease, key))
			return "a key is missing among those of its lease";
	}
	return got ? "the keys cannot be read" : NULL;
}

static int count_one(void *arg, const struct mvcc_lease *lease)
{
	++*(size_t *)arg;
	return lease->id == 0 || lease->left_ms > lease->ttl_ms;
}

const char *lease_check(struct mvcc *db)
{
	struct slice all = slice_of(NULL, 0);
	struct mvcc_cursor *c = NULL;
	struct mvcc_view *view;
	size_t attached = 0, leases = 0;
	const char *wrong;

	if (mvcc_sync(db, MVCC_REV_LATEST) || mvcc_view_open(db, MVCC_REV_LATEST, &view))
		return "the store does not work";
	wrong = mvcc_cursor_open(view, all, all, &c) ? "no cursor" : check_keys(db, c, &attached);
	mvcc_cursor_close(c);
	mvcc_view_close(view);
	if (!wrong && attached_rows(db) != attached)
		wrong = "a lease has rows of keys that are not its own";
	if (!wrong && (mvcc_leases(db, count_one, &leases) || lease_rows(db) != leases))
		wrong = "leases and their rows differ";
	return wrong;
}
