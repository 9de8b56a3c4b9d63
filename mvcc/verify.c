/*
 * The proof that all rows fit together: each decodes, each says what the others say of it.
 *
 * All iterators are made in a moment in which nobody writes (rows_freeze()), so that they show one state, whatever
 * comes later; a difference between two rows is damage then. Each check is one walk over a family that looks the
 * rest up, and takes no more memory than the row at hand; only references to blobs are counted in a table, for so
 * many blobs at a time, with a walk over all records for each fill of it.
 *
 * A family that cannot be read to its end is a problem itself, and ends the checks that would need it.
 */
#include "mvcc/check.h"

#include "mvcc/keep_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define BLOBS_AT_ONCE ((size_t)1 << 20)
#define COUNTER_NAME_MAX 32
#define BLOB_LOW_BYTES 16

struct blob_refs {
	mvcc_blob_t id;
	uint64_t refs;
};

/* The version of a key that came before the one at hand. */
struct before {
	bool any;
	mvcc_rev_t create, end;
	uint64_t version;
};

struct verify {
	struct mvcc *db;
	int (*fn)(void *arg, const struct mvcc_problem *problem);
	void *arg;
	uint64_t problems;

	struct engine_iter *rows[FAM_COUNT];
	bool unreadable[FAM_COUNT];
	struct buf at;                        /* the last key read of the family that is being walked */
	struct buf key, hist_key, before_key; /* scratch */

	/* what the meta family says */
	struct applied applied;
	mvcc_rev_t floor, compacted;
	mvcc_blob_t blob_low;
	struct revs pinned;   /* of pins */
	struct buf purges;    /* varint rev, bytes ranges: of each */
	struct revs unpinned; /* of pins that are gone, where rows of `ended` may still wait */
	bool has_store, has_applied, has_floor;

	struct before before;
	uint64_t records; /* from the floor up */
	uint64_t told;    /* of these, how many the log tells of */

	/* the log */
	mvcc_rev_t log_rev;
	uint32_t log_part;
	int64_t log_time;

	/* blobs */
	struct blob_refs *blobs;
	size_t nblobs, blobs_max;
	mvcc_blob_t blobs_first, blobs_last; /* what the table is about: all ids between */
};

/* Every check returns 0, or why to stop: what `fn` returned, no memory, or what failed the store. */
static int problem(struct verify *v, const char *what, struct slice key, mvcc_rev_t rev, mvcc_blob_t blob)
{
	const struct mvcc_problem p = { .what = what, .key = key, .rev = rev, .blob = blob };

	v->problems++;
	return v->fn ? v->fn(v->arg, &p) : 0;
}

static struct slice no_key(void)
{
	return slice_of(NULL, 0);
}

/* ---- rows --------------------------------------------------------------------------------- */

static int unreadable(struct verify *v, unsigned family, int err, struct slice from)
{
	char text[160];

	v->unreadable[family] = true;
	snprintf(text, sizeof(text), "%s: cannot be read on behind this key: %s",
		 v->db->families[family].name, mvcc_strerror(err));
	return problem(v, text, from, 0, 0);
}

/* Calls `row` for the rows of a family from `start` on that begin with `prefix`. */
static int walk_from(struct verify *v, unsigned family, struct slice start, struct slice prefix,
		     int (*row)(struct verify *v, struct slice key, struct slice value))
{
	struct engine_iter *it = v->rows[family];
	int err = buf_copy(&v->at, start);

	if (err || v->unreadable[family])
		return err;
	for (bool on = engine_iter_seek(it, start); on && !err; on = engine_iter_next(it)) {
		if (!slice_starts(it->key, prefix))
			return 0;
		err = atomic_load(&v->db->failed); /* a store that failed waits for all iterators to go */
		if (!err)
			err = row(v, it->key, it->value);
		if (!err)
			err = buf_copy(&v->at, it->key);
	}
	if (!err && engine_iter_error(it))
		err = unreadable(v, family, engine_iter_error(it), slice_buf(&v->at));
	return err;
}

static int walk(struct verify *v, unsigned family,
		int (*row)(struct verify *v, struct slice key, struct slice value))
{
	return walk_from(v, family, no_key(), no_key(), row);
}

/* Puts the iterator of a family on the first row from `key` on that begins with `prefix`. 1, 0, or why to stop. */
static int look_up(struct verify *v, unsigned family, struct slice key, struct slice prefix, bool *found)
{
	struct engine_iter *it = v->rows[family];

	*found = engine_iter_seek(it, key);
	if (!*found && engine_iter_error(it))
		return unreadable(v, family, engine_iter_error(it), key);
	*found = *found && slice_starts(it->key, prefix);
	return 0;
}

/* The newest record of a key. One that does not decode has been told of already, and is not found. */
static int look_up_latest(struct verify *v, struct slice key, struct record *rec, bool *found)
{
	struct engine_iter *it = v->rows[FAM_LATEST];
	int err = look_up(v, FAM_LATEST, key, key, found);

	*found = !err && *found && slice_eq(it->key, key) && record_decode(it->value, rec) == 0;
	return err;
}

/* The first ended record of a key whose end is `from` or later. */
static int look_up_hist(struct verify *v, struct slice key, mvcc_rev_t from, struct record *rec,
			mvcc_rev_t *end, bool *found)
{
	struct engine_iter *it = v->rows[FAM_HIST];
	struct slice row;
	int err = hist_key(&v->hist_key, key, from);

	if (err)
		return err;
	row = slice_buf(&v->hist_key);
	err = look_up(v, FAM_HIST, row, slice_of(row.data, row.len - 8), found);
	*found = !err && *found && it->key.len == row.len && record_decode(it->value, rec) == 0;
	if (*found)
		*end = get_be64(it->key.data + it->key.len - 8);
	return err;
}

/* ---- the store's own rows ----------------------------------------------------------------- */

static bool take_meta_u64(struct slice value, uint64_t *out)
{
	return take_le64(&value, out) && value.len == 0;
}

static int check_counter(struct verify *v, struct slice key, struct slice name, struct slice value)
{
	uint64_t next;

	if (name.len == 0 || name.len > COUNTER_NAME_MAX || !take_meta_u64(value, &next) || next == 0)
		return problem(v, "meta: a counter does not decode", key, 0, 0);
	return 0;
}

static int check_blobref(struct verify *v, struct slice key, struct slice id, struct slice value)
{
	uint64_t count;

	if (id.len != 8 || !take_meta_u64(value, &count))
		return problem(v, "meta: the count of a blob does not decode", key, 0, 0);
	if (count < 2)
		return problem(v, "meta: a count of a blob that needs none", key, 0, get_be64(id.data));
	return 0;
}

static int check_intent(struct verify *v, struct slice key, struct slice id, struct slice value)
{
	(void)value;
	return id.len == 8 ? 0 : problem(v, "meta: the key of an intent does not decode", key, 0, 0);
}

static int note_rev(struct revs *revs, mvcc_rev_t rev)
{
	int err = revs_reserve(revs, revs->n + 1);

	if (!err)
		revs_add(revs, rev);
	return err;
}

static int check_pin(struct verify *v, struct slice key, struct slice name, struct slice value)
{
	struct mvcc_pin pin;

	if (pin_decode(name, value, &pin))
		return problem(v, "meta: a pin does not decode", key, 0, 0);
	return note_rev(&v->pinned, pin.rev);
}

static int check_unpinned(struct verify *v, struct slice key, struct slice rev, struct slice value)
{
	if (rev.len != 8 || value.len || get_be64(rev.data) == 0)
		return problem(v, "meta: the row of a pin that is gone does not decode", key, 0, 0);
	return note_rev(&v->unpinned, get_be64(rev.data));
}

static int check_compacted(struct verify *v, struct slice key, struct slice rest, struct slice value)
{
	mvcc_rev_t compacted;

	if (rest.len || !take_meta_u64(value, &compacted))
		return problem(v, "meta: the row does not decode", key, 0, 0);
	v->compacted = compacted;
	return 0;
}

static int check_policy(struct verify *v, struct slice key, struct slice rest, struct slice value)
{
	struct mvcc_policy policy;

	if (rest.len || policy_decode(value, &policy))
		return problem(v, "meta: the row does not decode", key, 0, 0);
	return 0;
}

static int check_purge(struct verify *v, struct slice key, struct slice id, struct slice value)
{
	struct purge_row row;
	int err;

	if (id.len != 8 || purge_decode(value, &row))
		return problem(v, "meta: a purge does not decode", key, 0, 0);
	err = buf_put_varint(&v->purges, row.rev);
	return err ? err : buf_put_bytes(&v->purges, row.ranges);
}

/* Was a record of the key, of a revision below `rev`, purged by that or later? */
static bool is_purged(const struct verify *v, struct slice key, mvcc_rev_t rev)
{
	struct slice rest = slice_buf(&v->purges), ranges;
	mvcc_rev_t at;

	while (take_varint(&rest, &at) && take_bytes(&rest, &ranges))
		if (rev <= at && purge_has(ranges, key))
			return true;
	return false;
}

static int check_anything(struct verify *v, struct slice key, struct slice rest, struct slice value)
{
	(void)v;
	(void)key;
	(void)rest;
	(void)value;
	return 0;
}

static int check_store(struct verify *v, struct slice key, struct slice rest, struct slice value)
{
	uint64_t incarnation;

	v->has_store = true;
	if (rest.len || !take_meta_u64(value, &incarnation))
		return problem(v, "meta: the row does not decode", key, 0, 0);
	return 0;
}

static int check_applied(struct verify *v, struct slice key, struct slice rest, struct slice value)
{
	v->has_applied = rest.len == 0 && applied_decode(value, &v->applied) == 0;
	return v->has_applied ? 0 : problem(v, "meta: the row does not decode", key, 0, 0);
}

static int check_floor(struct verify *v, struct slice key, struct slice rest, struct slice value)
{
	mvcc_rev_t floor;

	v->has_floor = rest.len == 0 && take_meta_u64(value, &floor) && floor >= MVCC_REV_FIRST;
	if (!v->has_floor)
		return problem(v, "meta: the row does not decode", key, 0, 0);
	v->floor = floor;
	return 0;
}

static int check_blob_low(struct verify *v, struct slice key, struct slice rest, struct slice value)
{
	if (rest.len || value.len != BLOB_LOW_BYTES || get_le64(value.data) == 0)
		return problem(v, "meta: the row does not decode", key, 0, 0);
	v->blob_low = get_le64(value.data);
	return 0;
}

static int check_meta_row(struct verify *v, struct slice key, struct slice value)
{
	static const struct {
		const char *prefix; /* of several rows if it ends with '/', else the key of one */
		int (*check)(struct verify *v, struct slice key, struct slice rest, struct slice value);
	} kinds[] = {
		{ META_STORE, check_store },
		{ META_APPLIED, check_applied },
		{ META_FLOOR, check_floor },
		{ META_BLOB_LOW, check_blob_low },
		{ META_INTENT, check_intent },
		{ META_COUNTER, check_counter },
		{ META_BLOBREF, check_blobref },
		{ META_CHECKPOINT, check_anything },
		{ META_PIN, check_pin },
		{ META_UNPINNED, check_unpinned },
		{ META_COMPACTED, check_compacted },
		{ META_POLICY, check_policy },
		{ META_PURGE, check_purge },
	};

	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct slice prefix = slice_str(kinds[i].prefix);
		bool several = prefix.data[prefix.len - 1] == '/';

		if (several ? slice_starts(key, prefix) : slice_eq(key, prefix))
			return kinds[i].check(v, key, slice_of(key.data + prefix.len, key.len - prefix.len),
					      value);
	}
	return problem(v, "meta: nobody knows this row", key, 0, 0);
}

static int check_meta(struct verify *v)
{
	int err;

	v->applied.rev = REV_LIMIT; /* where a row does not say it, nothing is wrong by it */
	v->floor = atomic_load(&v->db->floor);
	v->blob_low = 1;
	err = walk(v, FAM_META, check_meta_row);
	if (err || v->unreadable[FAM_META])
		return err;
	if (!v->has_store)
		err = problem(v, "meta: the row is missing", slice_str(META_STORE), 0, 0);
	if (!err && !v->has_applied)
		err = problem(v, "meta: the row is missing", slice_str(META_APPLIED), 0, 0);
	if (!err && !v->has_floor)
		err = problem(v, "meta: the row is missing", slice_str(META_FLOOR), 0, 0);
	if (!err && v->has_applied && v->has_floor && v->floor > v->applied.rev)
		err = problem(v, "meta: the floor lies above the newest revision", no_key(), v->floor, 0);
	if (!err && v->compacted > v->floor)
		err = problem(v, "meta: more was compacted than the floor says", no_key(), v->compacted, 0);
	for (size_t i = 0; !err && v->has_applied && i < v->pinned.n; i++)
		if (v->pinned.v[i] > v->applied.rev)
			err = problem(v, "meta: a pin of a revision that does not exist yet", no_key(),
				      v->pinned.v[i], 0);
	return err;
}

/* ---- records ------------------------------------------------------------------------------ */

/* What can be said of a record alone. `*good`: it can be compared with others. */
static int check_record(struct verify *v, const char *bad, struct slice key, struct slice value,
			struct record *rec, bool *good)
{
	struct slice blobs;
	mvcc_blob_t blob;
	bool own;

	*good = record_decode(value, rec) == 0 && rec->mod != 0 && key.len >= 1 && key.len <= MVCC_KEY_MAX &&
		rec->value.len <= MVCC_VALUE_MAX && (rec->version == 1) == (rec->create == rec->mod);
	if (!*good)
		return problem(v, bad, key, 0, 0);
	blobs = rec->blobs;
	while (record_blob_take(&blobs, &blob, &own))
		if (blob == 0)
			return problem(v, bad, key, rec->mod, 0);
	if (rec->mod > v->applied.rev)
		return problem(v, "a record of a revision that does not exist yet", key, rec->mod, 0);
	v->records += rec->mod >= v->floor;
	return 0;
}

static int check_latest_row(struct verify *v, struct slice key, struct slice value)
{
	struct record rec;
	bool good;

	return check_record(v, "latest: the record does not decode", key, value, &rec, &good);
}

static int check_latest(struct verify *v)
{
	return walk(v, FAM_LATEST, check_latest_row);
}

/*
 * A record and the one before it: lives do not overlap, versions count on. Where compaction took what was between
 * them, there may be a gap.
 */
static int check_order(struct verify *v, struct slice key, const struct record *rec)
{
	const struct before *b = &v->before;

	if (!b->any)
		return 0;
	if (rec->mod < b->end)
		return problem(v, "a record begins before the one before it has ended", key, rec->mod, 0);
	if (rec->create != b->create && rec->create < b->end)
		return problem(v, "a generation begins before the one before it has ended", key, rec->mod, 0);
	if (rec->create == b->create &&
	    (rec->version <= b->version || (rec->mod == b->end && rec->version != b->version + 1)))
		return problem(v, "a version does not follow the one before it", key, rec->mod, 0);
	return 0;
}

/* The last ended record of a key, and the one that is current. */
static int check_key_end(struct verify *v)
{
	struct slice key = slice_buf(&v->before_key);
	struct record rec;
	bool found;
	int err;

	if (!v->before.any || v->unreadable[FAM_LATEST])
		return 0;
	err = look_up_latest(v, key, &rec, &found);
	return err || !found ? err : check_order(v, key, &rec);
}

static int check_hist_row(struct verify *v, struct slice row, struct slice value)
{
	struct record rec;
	mvcc_rev_t end;
	bool good;
	int err = hist_key_decode(row, &v->key, &end);

	if (err)
		return err == -ENOMEM ? err : problem(v, "hist: the key does not decode", row, 0, 0);
	if (!slice_eq(slice_buf(&v->key), slice_buf(&v->before_key))) {
		err = check_key_end(v);
		v->before.any = false;
		if (!err)
			err = buf_copy(&v->before_key, slice_buf(&v->key));
	}
	if (!err)
		err = check_record(v, "hist: the record does not decode", slice_buf(&v->key), value, &rec,
				   &good);
	if (err || !good)
		return err;
	if (rec.mod >= end)
		return problem(v, "hist: a record has ended before it began", slice_buf(&v->key), rec.mod, 0);
	if (end > v->applied.rev)
		err = problem(v, "hist: a record ends with a revision that does not exist yet",
			      slice_buf(&v->key), end, 0);
	if (!err)
		err = check_order(v, slice_buf(&v->key), &rec);
	v->before = (struct before){ .any = true, .create = rec.create, .end = end, .version = rec.version };
	return err;
}

static int check_hist(struct verify *v)
{
	int err;

	v->before.any = false;
	buf_clear(&v->before_key);
	err = walk(v, FAM_HIST, check_hist_row);
	return err || v->unreadable[FAM_HIST] ? err : check_key_end(v);
}

/* ---- the log ------------------------------------------------------------------------------ */

/* The record that a change put: the current one, or the first that ended later. */
static int check_put(struct verify *v, const struct mvcc_change *change)
{
	struct record rec;
	mvcc_rev_t end;
	bool found;
	int err = look_up_latest(v, change->key, &rec, &found);

	if (!err && (!found || rec.mod != v->log_rev))
		err = look_up_hist(v, change->key, v->log_rev + 1, &rec, &end, &found);
	if (err || v->unreadable[FAM_LATEST] || v->unreadable[FAM_HIST])
		return err;
	if (!found || rec.mod != v->log_rev)
		return is_purged(v, change->key, v->log_rev + 1) ?
			       0 :
			       problem(v, "log: tells of a record that is not there", change->key, v->log_rev,
				       0);
	v->told++;
	if (change->prev_rev == 0 && rec.create != rec.mod)
		return problem(v, "log: tells of a first version where there is a later one", change->key,
			       v->log_rev, 0);
	return 0;
}

/* The record that a change replaced or deleted. Nobody needs it if it ended with the floor or before. */
static int check_replaced(struct verify *v, const struct mvcc_change *change)
{
	struct record rec;
	mvcc_rev_t end;
	bool found;
	int err;

	if (change->prev_rev == 0 || v->log_rev <= v->floor)
		return 0;
	err = look_up_hist(v, change->key, v->log_rev, &rec, &end, &found);
	if (err || v->unreadable[FAM_HIST])
		return err;
	if (!found || end != v->log_rev || rec.mod != change->prev_rev)
		return is_purged(v, change->key, v->log_rev) ?
			       0 :
			       problem(v, "log: tells of the end of a record that is not there", change->key,
				       v->log_rev, 0);
	return 0;
}

static int check_change(struct verify *v, const struct mvcc_change *change)
{
	int err = 0;

	if (change->key.len == 0 || change->key.len > MVCC_KEY_MAX || change->prev_rev >= v->log_rev ||
	    (change->deleted && change->prev_rev == 0))
		return problem(v, "log: a change that cannot be", change->key, v->log_rev, 0);
	if (v->before_key.len && slice_cmp(slice_buf(&v->before_key), change->key) >= 0)
		err = problem(v, "log: changes are out of order", change->key, v->log_rev, 0);
	if (!err)
		err = buf_copy(&v->before_key, change->key);
	if (err || v->log_rev < v->floor || v->unreadable[FAM_HIST] || v->unreadable[FAM_LATEST])
		return err;
	if (!change->deleted)
		err = check_put(v, change);
	return err ? err : check_replaced(v, change);
}

/* A row's place: revisions without a gap from the floor up, with parts from 0 on; times that never go back. */
static int check_log_place(struct verify *v, mvcc_rev_t rev, uint32_t number, const struct log_part *part)
{
	mvcc_rev_t next = v->log_rev + 1 > v->floor ? v->log_rev + 1 : v->floor;
	int err = 0;

	if (rev == v->log_rev) {
		if (number != v->log_part + 1 && rev >= v->floor)
			err = problem(v, "log: a part is missing", no_key(), rev, 0);
		v->log_part = number;
		return err;
	}
	if (number != 0 && rev >= v->floor)
		err = problem(v, "log: a part is missing", no_key(), rev, 0);
	if (!err && rev > v->applied.rev)
		err = problem(v, "log: of a revision that does not exist yet", no_key(), rev, 0);
	if (!err && rev > next)
		err = problem(v, "log: this revision is missing, and all up to the next one there", no_key(),
			      next, 0);
	if (!err && number == 0 && part->time_ns < v->log_time)
		err = problem(v, "log: the time goes back", no_key(), rev, 0);
	if (number == 0)
		v->log_time = part->time_ns;
	v->log_rev = rev;
	v->log_part = number;
	buf_clear(&v->before_key);
	return err;
}

static int check_log_row(struct verify *v, struct slice key, struct slice value)
{
	struct mvcc_change change;
	struct log_part part;
	mvcc_blob_t first;
	mvcc_rev_t rev;
	uint64_t count;
	uint32_t number;
	int err;

	if (log_key_decode(key, &rev, &number))
		return problem(v, "log: the key does not decode", key, 0, 0);
	if (log_part_decode(value, number, &part)) {
		v->log_rev = rev;
		v->log_part = number;
		return problem(v, "log: the row does not decode", no_key(), rev, 0);
	}
	err = check_log_place(v, rev, number, &part);
	while (!err && log_range_take(&part.ranges, &first, &count))
		if (first == 0 || count == 0 || first + count < first)
			err = problem(v, "log: a range of blobs that cannot be", no_key(), rev, first);
	while (!err && part.changes.len) {
		if (!log_change_take(&part.changes, &change))
			return problem(v, "log: the row does not decode", no_key(), rev, 0);
		err = check_change(v, &change);
	}
	return err;
}

static int check_log(struct verify *v)
{
	mvcc_rev_t next;
	int err;

	v->log_rev = 0;
	v->log_time = INT64_MIN;
	buf_clear(&v->before_key);
	err = walk(v, FAM_LOG, check_log_row);
	if (err || v->unreadable[FAM_LOG])
		return err;
	next = v->log_rev + 1 > v->floor ? v->log_rev + 1 : v->floor;
	if (v->has_applied && next <= v->applied.rev)
		err = problem(v, "log: this revision is missing, and all newer ones", no_key(), next, 0);
	return err;
}

/* Does the log tell of this put? */
static int find_told(struct verify *v, struct slice key, mvcc_rev_t rev, bool *told)
{
	struct engine_iter *it = v->rows[FAM_LOG];
	struct mvcc_change change;
	struct log_part part;
	uint32_t number;
	mvcc_rev_t of;
	bool on;
	int err = log_key(&v->hist_key, rev, 0);

	*told = false;
	if (!err)
		err = look_up(v, FAM_LOG, slice_buf(&v->hist_key), no_key(), &on);
	if (err || v->unreadable[FAM_LOG])
		return err;
	for (; !err && on && !*told; on = engine_iter_next(it)) {
		if (log_key_decode(it->key, &of, &number) || of != rev ||
		    log_part_decode(it->value, number, &part))
			break;
		while (!*told && part.changes.len && log_change_take(&part.changes, &change))
			*told = !change.deleted && slice_eq(change.key, key);
	}
	if (!err && engine_iter_error(it))
		err = unreadable(v, FAM_LOG, engine_iter_error(it), slice_buf(&v->hist_key));
	return err;
}

static int check_told(struct verify *v, struct slice key, struct slice value)
{
	struct record rec;
	bool told;
	int err;

	if (v->unreadable[FAM_LOG] || record_decode(value, &rec) || rec.mod < v->floor ||
	    rec.mod > v->applied.rev)
		return 0;
	err = find_told(v, key, rec.mod, &told);
	if (!err && !told && !v->unreadable[FAM_LOG])
		err = problem(v, "a record that the log does not tell of", key, rec.mod, 0);
	return err;
}

static int check_told_hist(struct verify *v, struct slice row, struct slice value)
{
	mvcc_rev_t end;
	int err = hist_key_decode(row, &v->key, &end);

	if (err)
		return err == -ENOMEM ? err : 0;
	return check_told(v, slice_buf(&v->key), value);
}

/*
 * Every change has found another record; so if there are as many of both, every record has its change. Only if
 * there are not, they are looked for one by one.
 */
static int check_untold(struct verify *v)
{
	int err;

	if (v->told == v->records || v->unreadable[FAM_LOG])
		return 0;
	err = walk(v, FAM_LATEST, check_told);
	return err ? err : walk(v, FAM_HIST, check_told_hist);
}

/* ---- what waits to release its blobs ------------------------------------------------------ */

/* Does somebody need a record that was current for [mod, end)? If not, its row of `hist` goes at any time. */
static bool is_needed(const struct verify *v, mvcc_rev_t mod, mvcc_rev_t end)
{
	return end > v->floor || revs_newest_in(&v->pinned, mod, end);
}

static int check_ended_row(struct verify *v, struct slice row, struct slice value)
{
	mvcc_rev_t end, mod, hist_end, at = ENDED_NEW;
	struct slice key, blobs;
	struct record rec;
	bool found;
	int err;

	if (ended_key_decode(row, &end, &key) || ended_decode(value, &mod, &blobs))
		return problem(v, "ended: the row does not decode", row, 0, 0);
	if (row.data[0])
		at = get_be64(row.data + 1);
	if (ended_is_purged(row))
		at = at >= end ? mod : end; /* the purge has ended all it took */
	if (mod >= end || end > v->applied.rev || (at != ENDED_NEW && (at < mod || at >= end)))
		return problem(v, "ended: the row does not decode", row, 0, 0);
	if (ended_is_purged(row) || !is_needed(v, mod, end) || v->unreadable[FAM_HIST] ||
	    v->unreadable[FAM_META])
		return 0;
	err = look_up_hist(v, key, end, &rec, &hist_end, &found);
	if (err || v->unreadable[FAM_HIST])
		return err;
	if (!found || hist_end != end || rec.mod != mod || !slice_eq(rec.blobs, blobs))
		return problem(v, "ended: tells of a record that is not there", key, mod, 0);
	return 0;
}

static int find_ended_row(struct verify *v, mvcc_rev_t at, mvcc_rev_t end, struct slice key, bool *found)
{
	int err = ended_key(&v->hist_key, at, end, key);

	if (!err)
		err = look_up(v, FAM_ENDED, slice_buf(&v->hist_key), slice_buf(&v->hist_key), found);
	*found = !err && *found && v->rows[FAM_ENDED]->key.len == v->hist_key.len;
	return err;
}

/* Under one of these revisions, newest first. */
static int find_aside(struct verify *v, const struct revs *revs, mvcc_rev_t mod, mvcc_rev_t end,
		      struct slice key, bool *found)
{
	mvcc_rev_t at = end;
	int err = 0;

	while (!err && !*found && (at = revs_newest_in(revs, mod, at)))
		err = find_ended_row(v, at, end, key, found);
	return err;
}

/* A record with blobs that somebody needs has a row that will release them one day. */
static int check_will_release(struct verify *v, struct slice row, struct slice value)
{
	struct record rec;
	mvcc_rev_t end;
	struct slice key;
	bool found = false;
	int err = hist_key_decode(row, &v->key, &end);

	if (err)
		return err == -ENOMEM ? err : 0;
	if (v->unreadable[FAM_ENDED] || record_decode(value, &rec) || rec.nblobs == 0 ||
	    !is_needed(v, rec.mod, end))
		return 0;
	key = slice_buf(&v->key);
	err = find_ended_row(v, ENDED_NEW, end, key, &found);
	if (!err)
		err = find_aside(v, &v->pinned, rec.mod, end, key, &found);
	if (!err)
		err = find_aside(v, &v->unpinned, rec.mod, end, key, &found);
	if (!err && !found && !v->unreadable[FAM_ENDED])
		err = problem(v, "hist: nothing tells that a record with blobs has ended", key, rec.mod, 0);
	return err;
}

static int check_ended(struct verify *v)
{
	int err = walk(v, FAM_ENDED, check_ended_row);

	return err || v->unreadable[FAM_META] ? err : walk(v, FAM_HIST, check_will_release);
}

/* ---- leases ------------------------------------------------------------------------------- */

static int check_lease_row(struct verify *v, struct slice row, struct slice value)
{
	struct lease_row lease;
	struct record rec;
	mvcc_lease_t id;
	struct slice key;
	bool found;
	int err;

	if (lease_row_decode(row, value, &lease) == 0)
		return 0;
	if (attached_key_decode(row, &id, &key) || value.len)
		return problem(v, "lease: the row does not decode", row, 0, 0);
	if (v->unreadable[FAM_LATEST])
		return 0;
	err = look_up_latest(v, key, &rec, &found);
	if (err || v->unreadable[FAM_LATEST] || (found && rec.lease == id))
		return err;
	return problem(v, "lease: a row of a key that does not have it", key, 0, 0);
}

static int find_lease_row(struct verify *v, bool *found)
{
	int err = look_up(v, FAM_LEASE, slice_buf(&v->hist_key), slice_buf(&v->hist_key), found);

	*found = !err && *found && v->rows[FAM_LEASE]->key.len == v->hist_key.len;
	return err;
}

/* A record with a lease: that exists, and will find the key when it ends. */
static int check_leased(struct verify *v, struct slice key, struct slice value)
{
	bool lease = false, attached = false;
	struct record rec;
	int err;

	if (v->unreadable[FAM_LEASE] || record_decode(value, &rec) || !rec.lease)
		return 0;
	err = lease_key(&v->hist_key, rec.lease);
	if (!err)
		err = find_lease_row(v, &lease);
	if (!err)
		err = attached_key(&v->hist_key, rec.lease, key);
	if (!err)
		err = find_lease_row(v, &attached);
	if (err || v->unreadable[FAM_LEASE])
		return err;
	if (!lease)
		err = problem(v, "latest: the record has a lease that does not exist", key, rec.mod, 0);
	if (!err && !attached)
		err = problem(v, "lease: the row of a key is missing", key, rec.mod, 0);
	return err;
}

static int check_leases(struct verify *v)
{
	int err = walk(v, FAM_LEASE, check_lease_row);

	return err ? err : walk(v, FAM_LATEST, check_leased);
}

/* ---- blobs -------------------------------------------------------------------------------- */

static struct blob_refs *find_blob(struct verify *v, mvcc_blob_t id)
{
	size_t lo = 0, hi = v->nblobs;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (v->blobs[mid].id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < v->nblobs && v->blobs[lo].id == id ? &v->blobs[lo] : NULL;
}

static int count_blobs(struct verify *v, struct slice key, mvcc_rev_t mod, struct slice blobs)
{
	struct blob_refs *found;
	mvcc_blob_t blob;
	bool own;
	int err = 0;

	while (!err && record_blob_take(&blobs, &blob, &own)) {
		if (blob < v->blobs_first || blob > v->blobs_last)
			continue;
		found = find_blob(v, blob);
		if (found)
			found->refs++;
		else
			err = problem(v, "a record refers to a blob that is not there", key, mod, blob);
	}
	return err;
}

static int count_record(struct verify *v, struct slice key, struct slice value)
{
	struct record rec;

	return record_decode(value, &rec) ? 0 : count_blobs(v, key, rec.mod, rec.blobs);
}

/* Of what has ended, rows of `ended` are the references: those of `hist` may stay for a while without them. */
static int count_ended(struct verify *v, struct slice row, struct slice value)
{
	struct slice key, blobs;
	mvcc_rev_t end, mod;

	if (ended_key_decode(row, &end, &key) || ended_decode(value, &mod, &blobs))
		return 0;
	return count_blobs(v, key, mod, blobs);
}

/* Compares what was counted with what a row says; those without one have one reference, or are being staged. */
static int check_count(struct verify *v, const struct blob_refs *blob, bool has_row, uint64_t count)
{
	if (has_row && blob->refs != count)
		return problem(v, "the count of a blob is wrong", no_key(), 0, blob->id);
	if (!has_row && blob->refs > 1)
		return problem(v, "the count of a blob is missing", no_key(), 0, blob->id);
	if (!has_row && blob->refs == 0 && blob->id < v->blob_low)
		return problem(v, "nothing refers to the blob", no_key(), 0, blob->id);
	return 0;
}

/* The rows of counts and the table of blobs, both in order of ids. */
static int check_counts(struct verify *v)
{
	struct engine_iter *it = v->rows[FAM_META];
	struct slice prefix = slice_str(META_BLOBREF);
	size_t i = 0;
	bool on;
	int err = meta_key_id(&v->key, META_BLOBREF, v->blobs_first);

	if (!err)
		err = look_up(v, FAM_META, slice_buf(&v->key), prefix, &on);
	if (err || v->unreadable[FAM_META])
		return err;
	while (!err && on && slice_starts(it->key, prefix)) {
		struct slice value = it->value;
		uint64_t count, id;

		if (it->key.len == prefix.len + 8 && take_meta_u64(value, &count)) {
			id = get_be64(it->key.data + prefix.len);
			if (id > v->blobs_last)
				break;
			for (; !err && i < v->nblobs && v->blobs[i].id < id; i++)
				err = check_count(v, &v->blobs[i], false, 0);
			if (!err && i < v->nblobs && v->blobs[i].id == id)
				err = check_count(v, &v->blobs[i++], true, count);
			else if (!err)
				err = problem(v, "the count of a blob that is not there", no_key(), 0, id);
		}
		on = engine_iter_next(it);
	}
	if (!err && engine_iter_error(it))
		return unreadable(v, FAM_META, engine_iter_error(it), slice_buf(&v->key));
	for (; !err && i < v->nblobs; i++)
		err = check_count(v, &v->blobs[i], false, 0);
	return err;
}

/* Reads the next blobs, each with its bytes, and fills the table with their ids. */
static int fill_blobs(struct verify *v)
{
	struct engine_iter *it = v->rows[FAM_BLOB];
	mvcc_blob_t last = v->blobs_first;
	bool on;
	int err = id_key(&v->key, v->blobs_first);

	v->nblobs = 0;
	v->blobs_last = UINT64_MAX;
	if (!err)
		err = look_up(v, FAM_BLOB, slice_buf(&v->key), no_key(), &on);
	if (err || v->unreadable[FAM_BLOB])
		return err;
	while (!err && on) {
		if (it->key.len != 8) {
			err = problem(v, "blob: the key does not decode", it->key, 0, 0);
		} else if (v->nblobs == v->blobs_max) {
			v->blobs_last = last;
			return 0;
		} else {
			last = get_be64(it->key.data);
			v->blobs[v->nblobs++] = (struct blob_refs){ .id = last };
			if (it->value.len == 0 || it->value.len > MVCC_BLOB_MAX)
				err = problem(v, "blob: no blob has this length", no_key(), 0, last);
		}
		on = !err && engine_iter_next(it);
	}
	if (!err && engine_iter_error(it)) {
		err = id_key(&v->key, last);
		if (!err)
			err = unreadable(v, FAM_BLOB, engine_iter_error(it), slice_buf(&v->key));
	}
	return err;
}

static int check_blobs(struct verify *v)
{
	int err;

	v->blobs_first = 0;
	do {
		err = fill_blobs(v);
		if (!err && v->unreadable[FAM_BLOB])
			break;
		if (!err)
			err = walk(v, FAM_LATEST, count_record);
		if (!err)
			err = walk(v, FAM_ENDED, count_ended);
		if (!err && !v->unreadable[FAM_LATEST] && !v->unreadable[FAM_ENDED] &&
		    !v->unreadable[FAM_META])
			err = check_counts(v);
		v->blobs_first = v->blobs_last + 1;
	} while (!err && v->blobs_last != UINT64_MAX);
	return err;
}

/* ---- runs --------------------------------------------------------------------------------- */

static int check_stage_row(struct verify *v, struct slice key, struct slice value)
{
	struct slice shared = value;
	struct record rec;
	struct op op;
	uint64_t run, blob, count;

	if (key.len < 8)
		return problem(v, "stage: the key does not decode", key, 0, 0);
	run = get_be64(key.data);
	if (run == 0 || run > atomic_load(&v->db->next_run))
		return problem(v, "stage: a row that belongs to no transaction", key, 0, 0);
	if (key.len == 8) {
		while (shared.len)
			if (!shared_take(&shared, &blob, &count))
				return problem(v, "stage: the end of a run does not decode", key, 0, 0);
		return 0;
	}
	if (!value.len)
		return 0; /* of an undo run: there was none */
	if (staged_decode(value, &op) || (!(op.flags & OP_DEL) && record_decode(op.record, &rec)))
		return problem(v, "stage: the row does not decode", key, 0, 0);
	return 0;
}

static int check_stage(struct verify *v)
{
	return walk(v, FAM_STAGE, check_stage_row);
}

/* ---- all of it ---------------------------------------------------------------------------- */

static int run_checks(struct verify *v)
{
	static int (*const checks[])(struct verify * v) = {
		check_meta,  check_latest, check_hist,  check_log,   check_untold,
		check_ended, check_leases, check_blobs, check_stage,
	};
	int err = 0;

	for (unsigned i = 0; !err && i < sizeof(checks) / sizeof(checks[0]); i++)
		err = checks[i](v);
	return err;
}

/* Iterators over everything, as it is in one moment. */
static int take_rows(struct verify *v)
{
	int err;

	rows_freeze(v->db);
	err = atomic_load(&v->db->failed); /* then a run may be half moved all the same */
	for (unsigned i = 0; !err && i < FAM_COUNT; i++)
		err = engine_iter_new(v->db->engine, i, no_key(), no_key(), &v->rows[i]);
	rows_thaw(v->db);
	return err;
}

int verify_rows(struct mvcc *db, size_t blobs_at_once,
		int (*fn)(void *arg, const struct mvcc_problem *problem), void *arg, uint64_t *problems)
{
	struct verify v = { .db = db, .fn = fn, .arg = arg, .blobs_max = blobs_at_once };
	int err = drain_to(db, atomic_load(&db->head_seq));

	if (err)
		return err;
	v.blobs = calloc(blobs_at_once, sizeof(v.blobs[0]));
	if (!v.blobs)
		return -ENOMEM;
	gate_enter(&db->gate);
	err = take_rows(&v);
	if (!err)
		err = run_checks(&v);
	for (unsigned i = 0; i < FAM_COUNT; i++)
		engine_iter_free(v.rows[i]);
	gate_leave(&db->gate);
	buf_release(&v.at);
	buf_release(&v.key);
	buf_release(&v.hist_key);
	buf_release(&v.before_key);
	buf_release(&v.purges);
	free(v.pinned.v);
	free(v.unpinned.v);
	free(v.blobs);
	if (problems)
		*problems = v.problems;
	return err;
}

int mvcc_verify(struct mvcc *db, int (*fn)(void *arg, const struct mvcc_problem *problem), void *arg,
		uint64_t *problems)
{
	return verify_rows(db, BLOBS_AT_ONCE, fn, arg, problems);
}
