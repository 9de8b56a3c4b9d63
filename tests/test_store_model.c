/*
 * Random operations against a model so plain that it cannot be wrong: for each key an array of (revision,
 * value, lease, deleted), a floor, pins by name, leases with their deadlines. Transactions of puts, deletes,
 * updates, blobs and savepoints, committed or aborted, small or larger than the ring; requests; leases that
 * are granted, renewed, revoked and expire by a clock of the test's; compaction, pins and their renaming;
 * reads at any revision by get, range, cursor, history, log and time; views held for long; watches asked now
 * and then; checkpoints, syncs and restarts. The seed is printed; MODEL_SEED and MODEL_OPS choose others.
 */
#include "mvcc/keep.h"
#include "mvcc/lease.h"
#include "mvcc/request.h"
#include "mvcc/watch.h"
#include "rocks_backend/rocks.h"
#include "tests/store_fixture.h"
#include "tests/unit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <time.h>

enum {
	KEYS_MAX = 320,
	VIEWS_MAX = 6,
	BLOBS_OF_RECORD_MAX = 3,
	SAVEPOINTS_MAX = 3,
	LEASES_MAX = 12,
	PINS_MAX = 8,
	WATCHES_MAX = 3,
};

#define MS_NS ((int64_t)1000000)

struct value {
	struct buf bytes;
	mvcc_blob_t blobs[BLOBS_OF_RECORD_MAX];
	size_t nblobs;
};

/* What one revision made of a key. */
struct version {
	mvcc_rev_t rev, create; /* create: 0 for a tombstone */
	uint64_t version;
	mvcc_lease_t lease;
	struct value value;
};

/* What the open transaction has made of a key so far. */
struct draft {
	enum { UNTOUCHED, DRAFT_PUT, DRAFT_DEL } what;
	bool reborn;  /* deleted at some time: a put begins a generation */
	bool updated; /* by `suffix`, and not otherwise touched */
	uint8_t suffix;
	mvcc_lease_t lease;
	struct value value;
};

struct key {
	uint8_t bytes[24];
	size_t len;
	struct version *versions;
	size_t n, cap;
	struct draft draft;
	struct draft saved[SAVEPOINTS_MAX]; /* what it was at each savepoint */
};

struct blob {
	mvcc_blob_t id;
	uint32_t len;
	uint64_t seed;
};

struct watching {
	struct mvcc_watch *watch; /* NULL: none */
	uint8_t a[32], b[32];     /* what start and end point into */
	struct slice start, end;
	unsigned flags;
	mvcc_rev_t next; /* everything before was given, or is not for it */
};

/* When a revision was made; by a lease that expired if `expired`. */
struct made {
	int64_t time_ns;
	bool expired;
};

struct model {
	struct fixture *fx;
	uint64_t random;
	uint64_t seed;
	struct key keys[KEYS_MAX];
	unsigned nkeys;
	unsigned nsavepoints;
	mvcc_rev_t current, floor;
	_Atomic int64_t now_ns; /* the store's clock; whole milliseconds */
	struct made *made;      /* by revision */
	size_t made_cap;
	struct granted {
		mvcc_lease_t id; /* 0: none */
		uint64_t ttl_ms;
		int64_t deadline_ms;
	} leases[LEASES_MAX];
	struct {
		mvcc_rev_t rev; /* 0: there is none of that name */
		int64_t made_ns;
	} pins[PINS_MAX];
	struct watching watches[WATCHES_MAX];
	struct blob *blobs;
	size_t nblobs, blobs_cap;
	struct {
		struct mvcc_view *view;
		mvcc_rev_t rev;
	} views[VIEWS_MAX];
	uint64_t op;
	bool bad;
};

__attribute__((format(printf, 2, 3))) static void complain(struct model *m, const char *fmt, ...)
{
	va_list args;

	if (!m->bad) {
		fprintf(stderr, "\nmodel seed %" PRIu64 ", operation %" PRIu64 ", revision %" PRIu64 ": ",
			m->seed, m->op, m->current);
		va_start(args, fmt);
		vfprintf(stderr, fmt, args);
		va_end(args);
		fputc('\n', stderr);
	}
	m->bad = true;
}

static uint64_t below(struct model *m, uint64_t n)
{
	return random_below(&m->random, n);
}

static struct slice key_slice(const struct key *key)
{
	return slice_of(key->bytes, key->len);
}

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

/* ---- the model's own store ----------------------------------------------------------------- */

static int compare_keys(const void *a, const void *b)
{
	return slice_cmp(key_slice(a), key_slice(b));
}

/* Keys full of what escaping and prefixes may trip over, and some plain ones. Sorted, each once. */
static void make_keys(struct model *m)
{
	static const uint8_t odd[] = { 0x00, 0x00, 0x01, 0xff, 0xfe, 'a', 'a', 'b' };
	unsigned n = 0;

	for (unsigned i = 0; i < KEYS_MAX; i++) {
		struct key *key = &m->keys[i];

		key->len = 1 + below(m, i % 4 == 0 ? sizeof(key->bytes) : 5);
		for (size_t j = 0; j < key->len; j++)
			key->bytes[j] = odd[below(m, sizeof(odd))];
	}
	qsort(m->keys, KEYS_MAX, sizeof(m->keys[0]), compare_keys);
	for (unsigned i = 0; i < KEYS_MAX; i++)
		if (n == 0 || compare_keys(&m->keys[n - 1], &m->keys[i]) != 0)
			m->keys[n++] = m->keys[i];
	m->nkeys = n;
}

/* The newest change of a key up to `rev`, a tombstone, too. */
static const struct version *change_at(const struct key *key, mvcc_rev_t rev)
{
	size_t low = 0, high = key->n;

	while (low < high) {
		size_t at = (low + high) / 2;

		if (key->versions[at].rev <= rev)
			low = at + 1;
		else
			high = at;
	}
	return low ? &key->versions[low - 1] : NULL;
}

static const struct version *version_at(const struct key *key, mvcc_rev_t rev)
{
	const struct version *found = change_at(key, rev);

	return found && found->create ? found : NULL;
}

static void value_copy(struct value *to, const struct value *from)
{
	if (buf_copy(&to->bytes, slice_buf(&from->bytes)))
		abort();
	memcpy(to->blobs, from->blobs, sizeof(to->blobs));
	to->nblobs = from->nblobs;
}

static void version_add(struct key *key, mvcc_rev_t rev, mvcc_rev_t create, uint64_t version,
			mvcc_lease_t lease, const struct value *value)
{
	if (key->n == key->cap) {
		key->cap = key->cap ? 2 * key->cap : 8;
		key->versions = must(realloc(key->versions, key->cap * sizeof(key->versions[0])));
	}
	key->versions[key->n] =
		(struct version){ .rev = rev, .create = create, .version = version, .lease = lease };
	if (value)
		value_copy(&key->versions[key->n].value, value);
	key->n++;
}

static void draft_clear(struct key *key)
{
	struct buf bytes = key->draft.value.bytes;

	buf_clear(&bytes);
	key->draft = (struct draft){ .value = { .bytes = bytes } };
}

static void draft_copy(struct draft *to, const struct draft *from)
{
	struct buf bytes = to->value.bytes;

	buf_clear(&bytes);
	*to = *from;
	to->value.bytes = bytes;
	if (from->what == DRAFT_PUT)
		value_copy(&to->value, &from->value);
}

/* What the transaction sees of a key: false if it is absent. */
static bool sees(const struct model *m, const struct key *key, const struct value **value,
		 mvcc_lease_t *lease)
{
	const struct version *now = version_at(key, m->current);

	if (key->draft.what == DRAFT_DEL || (key->draft.what == UNTOUCHED && !now))
		return false;
	*value = key->draft.what == DRAFT_PUT ? &key->draft.value : &now->value;
	*lease = key->draft.what == DRAFT_PUT ? key->draft.lease : now->lease;
	return true;
}

static void model_savepoint(struct model *m)
{
	for (unsigned i = 0; i < m->nkeys; i++)
		draft_copy(&m->keys[i].saved[m->nsavepoints], &m->keys[i].draft);
	m->nsavepoints++;
}

/* Savepoints are numbered from 1. */
static void model_rollback(struct model *m, unsigned savepoint)
{
	for (unsigned i = 0; i < m->nkeys; i++)
		draft_copy(&m->keys[i].draft, &m->keys[i].saved[savepoint - 1]);
	m->nsavepoints = savepoint;
}

/* The next revision, or the first, is made now. */
static void model_made(struct model *m, mvcc_rev_t rev, bool expired)
{
	if (rev >= m->made_cap) {
		m->made_cap = m->made_cap ? 2 * m->made_cap : 1024;
		m->made = must(realloc(m->made, m->made_cap * sizeof(m->made[0])));
	}
	m->made[rev] = (struct made){ m->now_ns, expired };
	m->current = rev;
}

static bool is_pinned(const struct model *m, mvcc_rev_t from, mvcc_rev_t end)
{
	for (int i = 0; i < PINS_MAX; i++)
		if (m->pins[i].rev >= from && m->pins[i].rev < end && m->pins[i].rev)
			return true;
	return false;
}

/* What opening a view there says. */
static int readable(const struct model *m, mvcc_rev_t rev)
{
	if (rev > m->current)
		return MVCC_EFUTURE;
	return rev >= m->floor || is_pinned(m, rev, rev + 1) ? 0 : MVCC_ECOMPACTED;
}

static bool draft_changes(const struct model *m, const struct key *key)
{
	const struct version *now = version_at(key, m->current);

	return key->draft.what == DRAFT_PUT || (now && (key->draft.what == DRAFT_DEL || key->draft.updated));
}

/* Makes the drafts the next revision; false when they change nothing. */
static bool model_commit(struct model *m)
{
	bool changed = false;

	for (unsigned i = 0; i < m->nkeys; i++)
		changed |= draft_changes(m, &m->keys[i]);
	for (unsigned i = 0; i < m->nkeys; i++) {
		struct key *key = &m->keys[i];
		const struct version *now = version_at(key, m->current);
		bool goes_on = now && !key->draft.reborn;

		if (draft_changes(m, key)) {
			mvcc_rev_t rev = m->current + 1;

			if (key->draft.what == DRAFT_DEL) {
				version_add(key, rev, 0, 0, 0, NULL);
			} else if (key->draft.what == DRAFT_PUT) {
				version_add(key, rev, goes_on ? now->create : rev,
					    goes_on ? now->version + 1 : 1, key->draft.lease,
					    &key->draft.value);
			} else {
				struct value value = { 0 };

				value_copy(&value, &now->value);
				if (buf_put_u8(&value.bytes, key->draft.suffix))
					abort();
				version_add(key, rev, now->create, now->version + 1, now->lease, &value);
				buf_release(&value.bytes);
			}
		}
		draft_clear(key);
	}
	m->nsavepoints = 0;
	if (changed)
		model_made(m, m->current + 1, false);
	return changed;
}

static void model_abort(struct model *m)
{
	for (unsigned i = 0; i < m->nkeys; i++)
		draft_clear(&m->keys[i]);
	m->nsavepoints = 0;
}

static void model_release(struct model *m)
{
	for (unsigned i = 0; i < m->nkeys; i++) {
		for (size_t j = 0; j < m->keys[i].n; j++)
			buf_release(&m->keys[i].versions[j].value.bytes);
		free(m->keys[i].versions);
		buf_release(&m->keys[i].draft.value.bytes);
		for (int j = 0; j < SAVEPOINTS_MAX; j++)
			buf_release(&m->keys[i].saved[j].value.bytes);
	}
	free(m->blobs);
	free(m->made);
}

/* ---- comparing ----------------------------------------------------------------------------- */

static void blob_fill(uint8_t *bytes, size_t len, uint64_t seed)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)random_next(&seed);
}

static void check_blob(struct model *m, mvcc_blob_t id)
{
	struct blob *blob = NULL;
	uint8_t *expected, *got;
	size_t off, len;
	ssize_t n;

	for (size_t i = 0; i < m->nblobs; i++)
		if (m->blobs[i].id == id)
			blob = &m->blobs[i];
	if (!blob) {
		complain(m, "blob %" PRIu64 " was never made", id);
		return;
	}
	expected = must(malloc(blob->len));
	got = must(malloc(blob->len + 1));
	blob_fill(expected, blob->len, blob->seed);
	off = below(m, blob->len + 1);
	len = below(m, 3) ? blob->len + 1 : below(m, blob->len + 1);
	n = mvcc_blob_read(m->fx->db, id, off, got, len);
	if (len > blob->len - off)
		len = blob->len - off;
	if (n != (ssize_t)len || memcmp(got, expected + off, len) != 0)
		complain(m, "blob %" PRIu64 " of %u bytes, read at %zu: %zd, or other bytes", id, blob->len,
			 off, n);
	free(expected);
	free(got);
}

static bool same_value(const struct mvcc_item *item, const struct value *value)
{
	if (!slice_eq(item->value, slice_buf(&value->bytes)) || item->nblobs != value->nblobs)
		return false;
	for (size_t i = 0; i < value->nblobs; i++)
		if (item->blobs[i] != value->blobs[i])
			return false;
	return true;
}

static bool same_version(const struct mvcc_item *item, const struct version *v)
{
	return item->create_rev == v->create && item->mod_rev == v->rev && item->version == v->version &&
	       item->lease == v->lease && same_value(item, &v->value);
}

static void check_get(struct model *m, struct mvcc_view *view, mvcc_rev_t rev, unsigned at)
{
	const struct version *v = version_at(&m->keys[at], rev);
	struct mvcc_item item = { 0 };
	int err = mvcc_get(view, key_slice(&m->keys[at]), &item);

	if (err != (v ? 0 : -ENOENT)) {
		complain(m, "get of key %u at %" PRIu64 ": %d", at, rev, err);
		return;
	}
	if (err)
		return;
	if (!same_version(&item, v))
		complain(m,
			 "key %u at %" PRIu64 " is %" PRIu64 ".%" PRIu64 ".%" PRIu64
			 " of %zu bytes, not %" PRIu64 ".%" PRIu64 ".%" PRIu64 " of %zu",
			 at, rev, item.create_rev, item.mod_rev, item.version, item.value.len, v->create,
			 v->rev, v->version, v->value.bytes.len);
	if (v->value.nblobs && !m->bad)
		check_blob(m, v->value.blobs[below(m, v->value.nblobs)]);
	mvcc_item_release(&item);
}

/* Bounds for a range: a key, a prefix of one, a key and a bit more, or none at all. */
static struct slice random_bound(struct model *m, uint8_t scratch[32])
{
	const struct key *key = &m->keys[below(m, m->nkeys)];
	size_t len = key->len;

	memcpy(scratch, key->bytes, len);
	switch (below(m, 5)) {
	case 0:
		return slice_of(NULL, 0);
	case 1:
		len = 1 + below(m, len);
		break;
	case 2:
		scratch[len++] = (uint8_t)below(m, 3);
		break;
	default:
		break;
	}
	return slice_of(scratch, len);
}

static bool in_range(const struct key *key, struct slice start, struct slice end)
{
	return slice_cmp(key_slice(key), start) >= 0 && (end.len == 0 || slice_cmp(key_slice(key), end) < 0);
}

static void check_range(struct model *m, struct mvcc_view *view, mvcc_rev_t rev)
{
	uint8_t a[32], b[32];
	struct slice start = random_bound(m, a), end = random_bound(m, b);
	size_t limit = below(m, 2) ? below(m, 12) : 0, n = 0;
	struct mvcc_rows rows = { 0 };
	bool more = false;
	int err = mvcc_range(view, start, end, &(struct mvcc_range_opt){ .limit = limit }, &rows);

	if (err) {
		complain(m, "range at %" PRIu64 ": %d", rev, err);
		return;
	}
	for (unsigned i = 0; i < m->nkeys; i++) {
		const struct version *v = version_at(&m->keys[i], rev);

		if (!v || !in_range(&m->keys[i], start, end))
			continue;
		if (limit && n == limit) {
			more = true;
			break;
		}
		if (n >= rows.n || !slice_eq(slice_buf(&rows.rows[n].key), key_slice(&m->keys[i])) ||
		    !same_version(&rows.rows[n].item, v)) {
			complain(m, "range at %" PRIu64 ", limit %zu: row %zu of %zu is not key %u", rev,
				 limit, n, rows.n, i);
			break;
		}
		n++;
	}
	if (rows.n != n || rows.more != more)
		complain(m, "range at %" PRIu64 ", limit %zu: %zu rows%s, not %zu%s", rev, limit, rows.n,
			 rows.more ? " and more" : "", n, more ? " and more" : "");
	mvcc_rows_release(&rows);
}

/* Walks with a cursor; `own` is the transaction whose drafts count, too. */
static void check_cursor(struct model *m, struct mvcc_cursor *c, struct slice start, struct slice end,
			 mvcc_rev_t rev, bool own)
{
	const struct mvcc_item *item;
	struct slice key;
	int got = 1;

	for (unsigned i = 0; i < m->nkeys && !m->bad; i++) {
		const struct version *v = version_at(&m->keys[i], rev);
		const struct draft *draft = &m->keys[i].draft;
		bool mine = own && draft->what == DRAFT_PUT;

		if (!in_range(&m->keys[i], start, end) || (own && draft->what == DRAFT_DEL) || (!mine && !v))
			continue;
		got = mvcc_cursor_next(c, &key, &item);
		if (got != 1 || !slice_eq(key, key_slice(&m->keys[i])))
			complain(m, "cursor at %" PRIu64 ": %d, not on key %u", rev, got, i);
		else if (mine ? !same_value(item, &draft->value) || item->lease != draft->lease ||
					 item->mod_rev != 0 :
				!same_version(item, v))
			complain(m, "cursor at %" PRIu64 ": key %u has another %s", rev, i,
				 mine ? "value" : "version");
		if (below(m, 100) == 0)
			return; /* closed half-way */
	}
	if (!m->bad) {
		got = mvcc_cursor_next(c, &key, &item);
		if (got != 0)
			complain(m, "cursor at %" PRIu64 ": %d behind the end", rev, got);
	}
}

static void check_walk(struct model *m, struct mvcc_view *view, mvcc_rev_t rev)
{
	uint8_t a[32], b[32];
	struct slice start = random_bound(m, a), end = random_bound(m, b);
	struct mvcc_cursor *c;
	int err = mvcc_cursor_open(view, start, end, &c);

	if (err) {
		complain(m, "cursor_open: %d", err);
		return;
	}
	check_cursor(m, c, start, end, rev, false);
	mvcc_cursor_close(c);
}

static void check_view(struct model *m, struct mvcc_view *view, mvcc_rev_t rev)
{
	switch (below(m, 4)) {
	case 0:
		check_range(m, view, rev);
		break;
	case 1:
		check_walk(m, view, rev);
		break;
	default:
		for (int i = 0; i < 4; i++)
			check_get(m, view, rev, (unsigned)below(m, m->nkeys));
	}
}

struct life {
	struct model *m;
	const struct key *key;
	size_t at;
};

/* From when on a version is not current any more; 0: it is. */
static mvcc_rev_t version_end(const struct key *key, size_t at)
{
	return at + 1 < key->n ? key->versions[at + 1].rev : 0;
}

/* Goes on to the next version that somebody can see. */
static void life_skip(struct life *life)
{
	const struct key *key = life->key;

	for (; life->at < key->n; life->at++) {
		mvcc_rev_t end = version_end(key, life->at);

		if (key->versions[life->at].create &&
		    (!end || end > life->m->floor || is_pinned(life->m, key->versions[life->at].rev, end)))
			return;
	}
}

static int check_life(void *arg, const struct mvcc_item *item, mvcc_rev_t end_rev)
{
	struct life *life = arg;
	const struct key *key = life->key;

	life_skip(life);
	if (life->at == key->n) {
		complain(life->m, "history: one record too many");
		return 1;
	}
	if (!same_version(item, &key->versions[life->at]) || end_rev != version_end(key, life->at)) {
		complain(life->m, "history: record %" PRIu64 " ends at %" PRIu64, item->mod_rev, end_rev);
		return 1;
	}
	life->at++;
	return 0;
}

static void check_history(struct model *m)
{
	struct life life = { .m = m, .key = &m->keys[below(m, m->nkeys)] };
	int err = mvcc_history(m->fx->db, key_slice(life.key), check_life, &life);

	life_skip(&life);
	if (err || life.at != life.key->n)
		complain(m, "history of key %td: %d, after %zu of %zu", life.key - m->keys, err, life.at,
			 life.key->n);
}

/* From version `at` - 1 of `life` back to the last one that came before `before` and somebody can see. */
static bool life_skip_back(struct life *life)
{
	const struct key *key = life->key;

	for (; life->at > 0; life->at--) {
		mvcc_rev_t end = version_end(key, life->at - 1);

		if (key->versions[life->at - 1].create &&
		    (!end || end > life->m->floor ||
		     is_pinned(life->m, key->versions[life->at - 1].rev, end)))
			return true;
	}
	return false;
}

static int check_life_back(void *arg, const struct mvcc_item *item, mvcc_rev_t end_rev)
{
	struct life *life = arg;
	const struct key *key = life->key;

	if (!life_skip_back(life) || !same_version(item, &key->versions[life->at - 1]) ||
	    end_rev != version_end(key, life->at - 1)) {
		complain(life->m, "history back: record %" PRIu64 " ends at %" PRIu64, item->mod_rev,
			 end_rev);
		return 1;
	}
	life->at--;
	return below(life->m, 20) ? 0 : 2;
}

static void check_history_back(struct model *m)
{
	struct life life = { .m = m, .key = &m->keys[below(m, m->nkeys)] };
	mvcc_rev_t before = below(m, 2) ? below(m, m->current + 3) : MVCC_REV_LATEST;
	int err;

	for (life.at = life.key->n; before && life.at > 0; life.at--)
		if (life.key->versions[life.at - 1].rev < before)
			break;
	err = mvcc_history_back(m->fx->db, key_slice(life.key), before, check_life_back, &life);
	if (err != 2 && (err || life_skip_back(&life)))
		complain(m, "history of key %td back: %d, %zu left", life.key - m->keys, err, life.at);
}

static bool is_seen(struct model *m, const struct key *key)
{
	struct life life = { .m = m, .key = key };

	life_skip(&life);
	return life.at < key->n;
}

/* All keys there ever were, of a range. */
static void check_ever(struct model *m)
{
	uint8_t a[32], b[32];
	struct slice start = random_bound(m, a), end = random_bound(m, b), key;
	struct mvcc_keys *keys;
	int got, err = mvcc_keys_ever_open(m->fx->db, start, end, &keys);

	if (err) {
		complain(m, "keys_ever_open: %d", err);
		return;
	}
	for (unsigned i = 0; i < m->nkeys; i++) {
		if (!in_range(&m->keys[i], start, end) || !is_seen(m, &m->keys[i]))
			continue;
		got = mvcc_keys_next(keys, &key);
		if (got != 1 || !slice_eq(key, key_slice(&m->keys[i]))) {
			complain(m, "keys ever: %d, not key %u", got, i);
			break;
		}
	}
	if (!m->bad && (got = mvcc_keys_next(keys, &key)) != 0)
		complain(m, "keys ever: %d behind the end", got);
	mvcc_keys_close(keys);
}

static const struct version *version_of(const struct key *key, mvcc_rev_t rev)
{
	const struct version *v = change_at(key, rev);

	return v && v->rev == rev ? v : NULL;
}

static void check_changes(struct model *m, struct mvcc_log *log, mvcc_rev_t rev, struct slice start,
			  struct slice end)
{
	struct mvcc_change change;
	int got;

	for (unsigned i = 0; i < m->nkeys; i++) {
		const struct version *v = version_of(&m->keys[i], rev);
		const struct version *before = version_at(&m->keys[i], rev - 1);

		if (!v || !in_range(&m->keys[i], start, end))
			continue;
		got = mvcc_log_change(log, &change);
		if (got != 1 || !slice_eq(change.key, key_slice(&m->keys[i])) ||
		    change.deleted != !v->create || change.prev_rev != (before ? before->rev : 0)) {
			complain(m, "log of %" PRIu64 ": %d, not the change of key %u", rev, got, i);
			return;
		}
	}
	got = mvcc_log_change(log, &change);
	if (got != 0)
		complain(m, "log of %" PRIu64 ": %d, a change too many", rev, got);
}

/* Does the revision change something in the range, but for what the flags of a watch leave out? */
static bool rev_matches(const struct model *m, mvcc_rev_t rev, struct slice start, struct slice end,
			unsigned flags)
{
	for (unsigned i = 0; i < m->nkeys; i++) {
		const struct version *v = version_of(&m->keys[i], rev);

		if (v && in_range(&m->keys[i], start, end) &&
		    !(flags & (v->create ? MVCC_WATCH_NO_PUT : MVCC_WATCH_NO_DEL)))
			return true;
	}
	return false;
}

static void check_entry(struct model *m, const struct mvcc_entry *entry)
{
	const struct made *made = &m->made[entry->rev];
	bool told =
		entry->rev == MVCC_REV_FIRST || (made->expired ? strcmp(entry->story.op, "expire") == 0 :
								 entry->story.pid == (uint32_t)entry->rev);

	if (entry->time_ns != made->time_ns || !told)
		complain(m, "log of %" PRIu64 ": time or story", entry->rev);
}

static void check_log_from(struct model *m, struct mvcc_log *log, mvcc_rev_t from, mvcc_rev_t to)
{
	uint8_t a[32], b[32];
	struct slice start = slice_of(NULL, 0), end = start;
	bool filtered = below(m, 3) == 0;
	const struct mvcc_entry *entry;
	int got;

	if (filtered) {
		start = random_bound(m, a);
		end = random_bound(m, b);
		got = mvcc_log_filter(log, start, end);
		if (got)
			complain(m, "log_filter: %d", got);
	}
	for (mvcc_rev_t rev = from; rev <= to && !m->bad; rev++) {
		if (filtered && !rev_matches(m, rev, start, end, 0))
			continue;
		got = mvcc_log_next(log, &entry);
		if (got != 1 || entry->rev != rev) {
			complain(m, "log_next: %d, not revision %" PRIu64, got, rev);
			break;
		}
		check_entry(m, entry);
		if (below(m, 4))
			check_changes(m, log, rev, start, end);
	}
	if (!m->bad && mvcc_log_next(log, &entry) != 0)
		complain(m, "log goes on after %" PRIu64, to);
}

static void check_log(struct model *m)
{
	mvcc_rev_t from =
		below(m, 8) ? m->floor + below(m, m->current - m->floor + 1) : 1 + below(m, m->current);
	mvcc_rev_t to = from + below(m, 12);
	struct mvcc_log *log;
	int err;

	if (to > m->current)
		to = m->current;
	err = mvcc_log_open(m->fx->db, from, to, &log);
	if (err != (from < m->floor ? MVCC_ECOMPACTED : 0))
		complain(m, "log_open at %" PRIu64 ": %d", from, err);
	if (err)
		return;
	check_log_from(m, log, from, to);
	mvcc_log_close(log);
}

/* The newest readable revision that was made by then. */
static void check_rev_at(struct model *m)
{
	int64_t time_ns = m->made[1 + below(m, m->current)].time_ns + (int64_t)below(m, 3) - 1;
	mvcc_rev_t rev = m->current, got = 0;
	int err = mvcc_rev_at(m->fx->db, time_ns, &got);

	while (rev && (m->made[rev].time_ns > time_ns || readable(m, rev)))
		rev--;
	if (!rev && m->floor == MVCC_REV_FIRST)
		rev = MVCC_REV_FIRST;
	if (err != (rev ? 0 : MVCC_ECOMPACTED) || got != rev)
		complain(m, "rev_at: %d, %" PRIu64 ", not %" PRIu64, err, got, rev);
}

/* ---- a transaction ------------------------------------------------------------------------- */

static size_t random_len(struct model *m)
{
	switch (below(m, 20)) {
	case 0:
		return 0;
	case 1:
		return below(m, 3000);
	default:
		return 1 + below(m, 40);
	}
}

static void random_bytes(struct model *m, struct buf *out, size_t len)
{
	buf_clear(out);
	for (size_t i = 0; i < len; i++)
		if (buf_put_u8(out, (uint8_t)below(m, 256)))
			abort();
}

/* A blob that a live record refers to; 0 if the first one looked at has none. */
static mvcc_blob_t live_blob(struct model *m)
{
	const struct version *live = version_at(&m->keys[below(m, m->nkeys)], m->current);

	return live && live->value.nblobs ? live->value.blobs[0] : 0;
}

static void random_value(struct model *m, struct mvcc_txn *txn, struct value *value, size_t len)
{
	mvcc_blob_t live;

	value->nblobs = 0;
	random_bytes(m, &value->bytes, len);
	while (below(m, 40) == 0 && value->nblobs < BLOBS_OF_RECORD_MAX) {
		struct blob blob = { .len = (uint32_t)(1 + below(m, 9000)), .seed = 1 + below(m, 1 << 30) };
		uint8_t *bytes = must(malloc(blob.len));
		int err;

		blob_fill(bytes, blob.len, blob.seed);
		err = mvcc_txn_stage_blob(txn, slice_of(bytes, blob.len), &blob.id);
		free(bytes);
		if (err) {
			complain(m, "stage_blob: %d", err);
			return;
		}
		if (m->nblobs == m->blobs_cap) {
			m->blobs_cap = m->blobs_cap ? 2 * m->blobs_cap : 64;
			m->blobs = must(realloc(m->blobs, m->blobs_cap * sizeof(blob)));
		}
		m->blobs[m->nblobs++] = blob;
		value->blobs[value->nblobs++] = blob.id;
	}
	live = live_blob(m);
	if (live && value->nblobs < BLOBS_OF_RECORD_MAX)
		value->blobs[value->nblobs++] = live;
}

static void do_put(struct model *m, struct mvcc_txn *txn, struct key *key, size_t len)
{
	struct draft *draft = &key->draft;
	int err;

	if (draft->updated)
		return; /* the order of an update and a later put is nobody's business */
	random_value(m, txn, &draft->value, len);
	err = mvcc_txn_put(txn, key_slice(key), slice_buf(&draft->value.bytes),
			   draft->value.nblobs ? draft->value.blobs : NULL, draft->value.nblobs);
	if (err)
		complain(m, "put: %d", err);
	draft->what = DRAFT_PUT;
	draft->lease = 0;
}

/* A lease that keys can be put with; 0 if the first one looked at is none. */
static mvcc_lease_t usable_lease(struct model *m)
{
	const struct granted *lease = &m->leases[below(m, LEASES_MAX)];

	return lease->deadline_ms > m->now_ns / MS_NS ? lease->id : 0;
}

/* With a lease, or keeping the value, the lease or both. */
static void do_put_with(struct model *m, struct mvcc_txn *txn, struct key *key)
{
	struct mvcc_put put = { .key = key_slice(key), .flags = (unsigned)below(m, 4) };
	struct draft *draft = &key->draft;
	const struct value *seen = NULL;
	mvcc_lease_t lease = 0;
	bool there = sees(m, key, &seen, &lease);
	int err, expected = put.flags && !there ? -ENOENT : 0;

	if (draft->updated)
		return;
	if (!(put.flags & MVCC_PUT_KEEP_LEASE))
		put.lease = lease = usable_lease(m);
	if (!put.flags && below(m, 20) == 0) {
		put.lease = UINT32_MAX; /* nobody has it */
		expected = MVCC_ENOLEASE;
	}
	if (!(put.flags & MVCC_PUT_KEEP_VALUE)) {
		struct value value = { 0 };

		random_bytes(m, &value.bytes, random_len(m));
		put.value = slice_buf(&value.bytes);
		err = mvcc_txn_put_with(txn, &put);
		if (!err)
			value_copy(&draft->value, &value);
		buf_release(&value.bytes);
	} else {
		err = mvcc_txn_put_with(txn, &put);
		if (!err && seen != &draft->value)
			value_copy(&draft->value, seen);
	}
	if (err != expected)
		complain(m, "put_with, flags %u: %d, not %d", put.flags, err, expected);
	if (!err) {
		draft->what = DRAFT_PUT;
		draft->lease = lease;
	}
}

static void draft_del(struct key *key)
{
	key->draft.what = DRAFT_DEL;
	key->draft.reborn = true;
}

static void do_del(struct model *m, struct mvcc_txn *txn, struct key *key)
{
	int err;

	if (key->draft.updated)
		return;
	err = mvcc_txn_del(txn, key_slice(key));
	if (err)
		complain(m, "del: %d", err);
	draft_del(key);
}

static void do_del_range(struct model *m, struct mvcc_txn *txn)
{
	uint8_t a[32], b[32];
	struct slice start = random_bound(m, a), end = random_bound(m, b);
	uint64_t n = 0, expected = 0;
	const struct value *value;
	mvcc_lease_t lease;
	int err;

	for (unsigned i = 0; i < m->nkeys; i++) {
		if (!in_range(&m->keys[i], start, end))
			continue;
		expected += sees(m, &m->keys[i], &value, &lease);
		if (m->keys[i].draft.updated || expected > 40)
			return; /* few keys, or soon there are none */
	}
	err = mvcc_txn_del_range(txn, start, end, &n);
	if (err || n != expected)
		complain(m, "del_range: %d, %" PRIu64 " keys, not %" PRIu64, err, n, expected);
	for (unsigned i = 0; i < m->nkeys; i++)
		if (in_range(&m->keys[i], start, end) && sees(m, &m->keys[i], &value, &lease))
			draft_del(&m->keys[i]);
}

static int append_byte(const void *arg, struct slice old, struct buf *out)
{
	int err = buf_put_slice(out, old);

	return err ? err : buf_put_u8(out, *(const uint8_t *)arg);
}

static void do_update(struct model *m, struct mvcc_txn *txn, struct key *key)
{
	int err;

	if (key->draft.what != UNTOUCHED || key->draft.updated)
		return;
	key->draft.updated = true;
	key->draft.suffix = (uint8_t)below(m, 256);
	err = mvcc_txn_update(txn, key_slice(key), append_byte, &key->draft.suffix, 1);
	if (err)
		complain(m, "update: %d", err);
}

static void do_savepoint(struct model *m, struct mvcc_txn *txn)
{
	unsigned savepoint = 0;
	int err;

	if (m->nsavepoints && below(m, 2)) {
		savepoint = 1 + (unsigned)below(m, m->nsavepoints);
		err = mvcc_txn_rollback(txn, savepoint);
		if (err)
			complain(m, "rollback: %d", err);
		model_rollback(m, savepoint);
		if (mvcc_txn_rollback(txn, savepoint + 1) != -EINVAL)
			complain(m, "a savepoint after one that was rolled back to is there");
	} else if (m->nsavepoints < SAVEPOINTS_MAX) {
		err = mvcc_txn_savepoint(txn, &savepoint);
		model_savepoint(m);
		if (err || savepoint != m->nsavepoints)
			complain(m, "savepoint: %d, number %u", err, savepoint);
	}
}

static bool same_draft(const struct mvcc_item *item, const struct draft *draft)
{
	return same_value(item, &draft->value) && item->lease == draft->lease;
}

static void check_own(struct model *m, struct mvcc_txn *txn, struct key *key)
{
	const struct version *v = version_at(key, m->current);
	const struct draft *draft = &key->draft;
	bool there = draft->what == DRAFT_PUT || (draft->what == UNTOUCHED && v);
	struct mvcc_item item = { 0 };
	int err = below(m, 2) ? mvcc_txn_get(txn, key_slice(key), &item) :
				mvcc_txn_peek(txn, key_slice(key), &item);

	if (err != (there ? 0 : -ENOENT))
		complain(m, "own read of key %td: %d", key - m->keys, err);
	else if (there && (draft->what == DRAFT_PUT ? !same_draft(&item, draft) || item.mod_rev != 0 :
						      !same_version(&item, v)))
		complain(m, "own read of key %td: something else", key - m->keys);
	if (!err)
		mvcc_item_release(&item);
}

static void check_own_walk(struct model *m, struct mvcc_txn *txn)
{
	uint8_t a[32], b[32];
	struct slice start = random_bound(m, a), end = random_bound(m, b);
	struct mvcc_cursor *c;
	int err = below(m, 2) ? mvcc_txn_cursor_open(txn, start, end, &c) :
				mvcc_txn_peek_cursor_open(txn, start, end, &c);

	if (err) {
		complain(m, "txn_cursor_open: %d", err);
		return;
	}
	check_cursor(m, c, start, end, m->current, true);
	mvcc_cursor_close(c);
}

static void end_transaction(struct model *m, struct mvcc_txn *txn, bool give_up)
{
	struct mvcc_story story = { .pid = (uint32_t)(m->current + 1), .op = "model" };
	mvcc_rev_t rev = 0;
	int err;

	if (give_up) {
		mvcc_txn_abort(txn);
		model_abort(m);
		return;
	}
	err = mvcc_txn_commit(txn, &story, MVCC_COMMIT_WAIT, &rev);
	if (err)
		complain(m, "commit: %d", err);
	model_commit(m);
	if (!err && (rev != m->current || mvcc_current(m->fx->db) != m->current))
		complain(m, "commit gave revision %" PRIu64, rev);
}

/* Few keys are touched often, so that they live through much. */
static struct key *random_key(struct model *m)
{
	return &m->keys[below(m, below(m, 3) ? 24 : m->nkeys) % m->nkeys];
}

static void do_transaction(struct model *m)
{
	bool big = below(m, 200) == 0;
	uint64_t n = big ? 150 + below(m, 300) : 1 + below(m, 12);
	struct mvcc_txn *txn;
	int err = mvcc_txn_begin(m->fx->db, &txn);

	if (err) {
		complain(m, "begin: %d", err);
		return;
	}
	if (mvcc_txn_rev(txn) != m->current)
		complain(m, "a transaction at %" PRIu64, mvcc_txn_rev(txn));
	for (uint64_t i = 0; i < n && !m->bad; i++) {
		struct key *key = random_key(m);

		switch (below(m, 16)) {
		case 0:
		case 1:
		case 2:
			do_del(m, txn, key);
			break;
		case 3:
			do_update(m, txn, key);
			break;
		case 4:
			check_own(m, txn, key);
			break;
		case 5:
			if (!big || i % 32 == 0)
				check_own_walk(m, txn);
			break;
		case 6:
		case 7:
			do_put_with(m, txn, key);
			break;
		case 8:
			if (i % 4 == 0)
				do_del_range(m, txn);
			break;
		case 9:
			if (!big || i % 8 == 0)
				do_savepoint(m, txn);
			break;
		default:
			do_put(m, txn, key, big ? 2000 + below(m, 2500) : random_len(m));
		}
	}
	end_transaction(m, txn, below(m, 6) == 0);
}

/* ---- requests ------------------------------------------------------------------------------ */

enum { COMPARES_MAX = 2, OPS_MAX = 3 };

/* A request and what it points into. */
struct node {
	struct mvcc_request request;
	struct mvcc_compare compares[COMPARES_MAX];
	struct mvcc_request_op ops[2][OPS_MAX]; /* then, else */
	struct value values[2][OPS_MAX];
	struct buf compared[COMPARES_MAX];
	struct node *nested[2][OPS_MAX];
	uint8_t bounds[2 * COMPARES_MAX + 4 * OPS_MAX][32];
	unsigned nbounds;
};

static void node_free(struct node *node)
{
	if (!node)
		return;
	for (int i = 0; i < COMPARES_MAX; i++)
		buf_release(&node->compared[i]);
	for (int branch = 0; branch < 2; branch++) {
		for (int i = 0; i < OPS_MAX; i++) {
			buf_release(&node->values[branch][i].bytes);
			node_free(node->nested[branch][i]);
		}
	}
	free(node);
}

/* One key, or a range. */
static void random_target(struct model *m, struct node *node, struct slice *start, bool *range,
			  struct slice *end)
{
	*range = below(m, 3) == 0;
	if (*range) {
		*start = random_bound(m, node->bounds[node->nbounds++]);
		*end = random_bound(m, node->bounds[node->nbounds++]);
	} else {
		*start = key_slice(random_key(m));
	}
}

static void random_compare(struct model *m, struct node *node, unsigned at)
{
	struct mvcc_compare *c = &node->compares[at];
	const struct version *v = version_at(random_key(m), m->current);

	c->target = (enum mvcc_target)below(m, 5);
	c->relation = (enum mvcc_relation)below(m, 4);
	random_target(m, node, &c->key, &c->range, &c->end);
	if (c->target == MVCC_VALUE) {
		if (v && buf_copy(&node->compared[at], slice_buf(&v->value.bytes)))
			abort();
		c->value = slice_buf(&node->compared[at]);
	} else if (c->target == MVCC_VERSION) {
		c->number = below(m, 4);
	} else if (c->target == MVCC_LEASE) {
		c->number = usable_lease(m);
	} else {
		c->number = v ? v->rev : 0;
	}
}

static struct node *random_node(struct model *m, unsigned depth);

static void random_op(struct model *m, struct node *node, int branch, unsigned at, unsigned depth)
{
	struct mvcc_request_op *op = &node->ops[branch][at];
	struct value *value = &node->values[branch][at];

	op->kind = (enum mvcc_request_kind)below(m, depth < 2 ? 4 : 3);
	op->prev = op->kind <= MVCC_OP_DELETE && below(m, 2);
	switch (op->kind) {
	case MVCC_OP_PUT:
		random_bytes(m, &value->bytes, random_len(m));
		value->blobs[0] = below(m, 4) ? 0 : live_blob(m);
		value->nblobs = value->blobs[0] != 0;
		op->put = (struct mvcc_put){ .key = key_slice(random_key(m)),
					     .value = slice_buf(&value->bytes),
					     .blobs = value->nblobs ? value->blobs : NULL,
					     .nblobs = value->nblobs,
					     .lease = below(m, 2) ? usable_lease(m) : 0 };
		break;
	case MVCC_OP_REQUEST:
		node->nested[branch][at] = random_node(m, depth + 1);
		op->request = &node->nested[branch][at]->request;
		break;
	default:
		random_target(m, node, &op->start, &op->range, &op->end);
		if (op->kind == MVCC_OP_RANGE && below(m, 2))
			op->opt.limit = 1 + below(m, 8);
	}
}

static struct node *random_node(struct model *m, unsigned depth)
{
	struct node *node = must(calloc(1, sizeof(*node)));
	struct mvcc_request *r = &node->request;

	r->compares = node->compares;
	r->ncompares = below(m, COMPARES_MAX + 1);
	r->then_ops = node->ops[0];
	r->nthen = below(m, OPS_MAX + 1);
	r->else_ops = node->ops[1];
	r->nelse = below(m, OPS_MAX + 1);
	for (unsigned i = 0; i < r->ncompares; i++)
		random_compare(m, node, i);
	for (unsigned i = 0; i < r->nthen; i++)
		random_op(m, node, 0, i, depth);
	for (unsigned i = 0; i < r->nelse; i++)
		random_op(m, node, 1, i, depth);
	return node;
}

static bool relation_holds(enum mvcc_relation relation, int order)
{
	switch (relation) {
	case MVCC_EQUAL:
		return order == 0;
	case MVCC_NOT_EQUAL:
		return order != 0;
	case MVCC_LESS:
		return order < 0;
	default:
		return order > 0;
	}
}

/* `v` is NULL for an absent key. */
static bool compare_holds(const struct mvcc_compare *c, const struct version *v)
{
	uint64_t number = 0;

	if (c->target == MVCC_VALUE)
		return v && relation_holds(c->relation, slice_cmp(slice_buf(&v->value.bytes), c->value));
	if (v)
		number = c->target == MVCC_CREATE  ? v->create :
			 c->target == MVCC_MOD     ? v->rev :
			 c->target == MVCC_VERSION ? v->version :
						     v->lease;
	return relation_holds(c->relation, (number > c->number) - (number < c->number));
}

static bool is_target(const struct key *key, struct slice start, bool range, struct slice end)
{
	return range ? in_range(key, start, end) : slice_eq(key_slice(key), start);
}

static bool all_hold(const struct model *m, const struct mvcc_request *r)
{
	for (size_t i = 0; i < r->ncompares; i++) {
		const struct mvcc_compare *c = &r->compares[i];
		bool any = false;

		for (unsigned k = 0; k < m->nkeys; k++) {
			const struct version *v = version_at(&m->keys[k], m->current);

			if (!v || !is_target(&m->keys[k], c->key, c->range, c->end))
				continue;
			any = true;
			if (!compare_holds(c, v))
				return false;
		}
		if (!any && !compare_holds(c, NULL))
			return false;
	}
	return true;
}

/* The rows are what a transaction with these drafts sees, and those of its own are of revision `rev`. */
static void check_rows(struct model *m, const struct mvcc_rows *rows, const struct mvcc_request_op *op,
		       mvcc_rev_t rev, const char *what)
{
	struct slice start = op->kind == MVCC_OP_PUT ? op->put.key : op->start;
	bool range = op->kind != MVCC_OP_PUT && op->range, more = false;
	size_t limit = op->kind == MVCC_OP_RANGE ? op->opt.limit : 0, n = 0;

	for (unsigned i = 0; i < m->nkeys && !more; i++) {
		const struct key *key = &m->keys[i];
		const struct value *value;
		mvcc_lease_t lease;

		if (!is_target(key, start, range, op->end) || !sees(m, key, &value, &lease))
			continue;
		more = limit && n == limit;
		if (more)
			break;
		if (n >= rows->n || !slice_eq(slice_buf(&rows->rows[n].key), key_slice(key)) ||
		    (key->draft.what == DRAFT_PUT ?
			     !same_draft(&rows->rows[n].item, &key->draft) ||
				     rows->rows[n].item.mod_rev != rev :
			     !same_version(&rows->rows[n].item, version_at(key, m->current)))) {
			complain(m, "%s: row %zu of %zu is not key %u", what, n, rows->n, i);
			return;
		}
		n++;
	}
	if (rows->n != n || (op->kind == MVCC_OP_RANGE && rows->more != more))
		complain(m, "%s: %zu rows, not %zu", what, rows->n, n);
}

static void follow_request(struct model *m, const struct mvcc_request *r,
			   const struct mvcc_response *response, const struct mvcc_response *top);

/* Compares what one operation gave, and does it to the drafts. */
static void follow_op(struct model *m, const struct mvcc_request_op *op, const struct mvcc_result *result,
		      const struct mvcc_response *top)
{
	static const struct mvcc_rows none;
	uint64_t deleted = 0;
	const struct value *value;
	mvcc_lease_t lease;

	if (result->kind != op->kind) {
		complain(m, "a result of another kind");
		return;
	}
	if (op->kind == MVCC_OP_REQUEST) {
		follow_request(m, op->request, result->response, top);
		return;
	}
	if (op->prev || op->kind == MVCC_OP_RANGE)
		check_rows(m, &result->rows, op, top->rev, op->prev ? "what was there" : "a range");
	else if (result->rows.n != none.n)
		complain(m, "rows nobody asked for");
	for (unsigned i = 0; i < m->nkeys; i++) {
		struct key *key = &m->keys[i];

		if (op->kind == MVCC_OP_PUT && slice_eq(key_slice(key), op->put.key)) {
			struct value put = { .bytes = key->draft.value.bytes, .nblobs = op->put.nblobs };

			if (buf_copy(&put.bytes, op->put.value))
				abort();
			if (put.nblobs)
				put.blobs[0] = op->put.blobs[0];
			key->draft.value = put;
			key->draft.what = DRAFT_PUT;
			key->draft.lease = op->put.lease;
		} else if (op->kind == MVCC_OP_DELETE && is_target(key, op->start, op->range, op->end) &&
			   sees(m, key, &value, &lease)) {
			draft_del(key);
			deleted++;
		}
	}
	if (op->kind == MVCC_OP_DELETE && result->deleted != deleted)
		complain(m, "%" PRIu64 " keys deleted, not %" PRIu64, result->deleted, deleted);
}

static void follow_request(struct model *m, const struct mvcc_request *r,
			   const struct mvcc_response *response, const struct mvcc_response *top)
{
	bool hold = all_hold(m, r);
	size_t n = hold ? r->nthen : r->nelse;

	if (response->succeeded != hold || response->nresults != n) {
		complain(m, "a request %s, with %zu results",
			 response->succeeded ? "succeeded" : "did not succeed", response->nresults);
		return;
	}
	for (size_t i = 0; i < n && !m->bad; i++)
		follow_op(m, hold ? &r->then_ops[i] : &r->else_ops[i], &response->results[i], top);
}

static void do_request(struct model *m)
{
	struct mvcc_story story = { .pid = (uint32_t)(m->current + 1), .op = "request" };
	struct node *node = random_node(m, 0);
	struct mvcc_response response = { 0 };
	int err = mvcc_execute(m->fx->db, &node->request, &story, &response);

	if (err) {
		complain(m, "execute: %d", err);
	} else {
		follow_request(m, &node->request, &response, &response);
		model_commit(m);
		if (response.rev != m->current || mvcc_current(m->fx->db) != m->current)
			complain(m, "a request gave revision %" PRIu64, response.rev);
		mvcc_response_release(&response);
	}
	node_free(node);
}

/* ---- leases -------------------------------------------------------------------------------- */

/* No two leases are due at the same time, so that it is known which ends first. */
static void tick_until_free(struct model *m, uint64_t ttl_ms)
{
	for (int i = 0; i < LEASES_MAX; i++) {
		if (m->leases[i].id && m->leases[i].deadline_ms == m->now_ns / MS_NS + (int64_t)ttl_ms) {
			m->now_ns += MS_NS;
			i = -1;
		}
	}
}

static void do_grant(struct model *m, struct granted *lease)
{
	uint64_t ttl_ms = 1 + below(m, below(m, 3) ? 5000 : 100000);
	mvcc_lease_t id = below(m, 2) ? 1 + below(m, 40) : 0, got = 0;
	bool taken = false;
	int err;

	for (int i = 0; i < LEASES_MAX; i++)
		taken |= id && m->leases[i].id == id;
	tick_until_free(m, ttl_ms);
	err = mvcc_lease_grant(m->fx->db, id, ttl_ms, &got);
	if (err != (taken ? -EEXIST : 0) || (!err && (id ? got != id : got == 0)))
		complain(m, "grant of %" PRIu64 ": %d, %" PRIu64, id, err, got);
	if (!err)
		*lease = (struct granted){ got, ttl_ms, m->now_ns / MS_NS + (int64_t)ttl_ms };
}

static void do_renew(struct model *m, struct granted *lease)
{
	uint64_t ttl_ms = lease->ttl_ms;
	bool due = lease->deadline_ms <= m->now_ns / MS_NS;
	int err;

	if (!due)
		tick_until_free(m, lease->ttl_ms);
	due = lease->deadline_ms <= m->now_ns / MS_NS;
	err = mvcc_lease_renew(m->fx->db, lease->id, &ttl_ms);
	if (err != (due ? MVCC_ENOLEASE : 0) || ttl_ms != lease->ttl_ms)
		complain(m, "renew of %" PRIu64 ": %d", lease->id, err);
	if (!err)
		lease->deadline_ms = m->now_ns / MS_NS + (int64_t)lease->ttl_ms;
}

/* All keys of a lease go in one revision, if there are any, and it is gone. */
static void model_end_lease(struct model *m, struct granted *lease, bool expired)
{
	mvcc_rev_t rev = m->current + 1;
	bool changed = false;

	for (unsigned i = 0; i < m->nkeys; i++) {
		const struct version *v = version_at(&m->keys[i], m->current);

		if (v && v->lease == lease->id) {
			version_add(&m->keys[i], rev, 0, 0, 0, NULL);
			changed = true;
		}
	}
	if (changed)
		model_made(m, rev, expired);
	lease->id = 0;
}

static void do_revoke(struct model *m, struct granted *lease)
{
	struct mvcc_story story = { .pid = (uint32_t)(m->current + 1), .op = "revoke" };
	mvcc_rev_t rev = 0;
	int err = mvcc_lease_revoke(m->fx->db, lease->id, &story, &rev);

	model_end_lease(m, lease, false);
	if (err || rev != m->current)
		complain(m, "revoke: %d, revision %" PRIu64, err, rev);
}

struct lease_keys {
	struct model *m;
	mvcc_lease_t id;
	unsigned at;
};

static void skip_other_keys(struct lease_keys *l)
{
	for (; l->at < l->m->nkeys; l->at++) {
		const struct version *v = version_at(&l->m->keys[l->at], l->m->current);

		if (v && v->lease == l->id)
			return;
	}
}

static int check_lease_key(void *arg, struct slice key)
{
	struct lease_keys *l = arg;

	skip_other_keys(l);
	return l->at == l->m->nkeys || !slice_eq(key, key_slice(&l->m->keys[l->at++]));
}

static void check_lease(struct model *m, const struct granted *lease)
{
	struct lease_keys keys = { .m = m, .id = lease->id };
	int64_t left_ms = lease->deadline_ms - m->now_ns / MS_NS;
	struct mvcc_lease got = { .id = 0 };
	int err = mvcc_lease_get(m->fx->db, lease->id, &got);

	if (err || got.id != lease->id || got.ttl_ms != lease->ttl_ms ||
	    got.left_ms != (left_ms > 0 ? (uint64_t)left_ms : 0))
		complain(m, "lease %" PRIu64 ": %d, %" PRIu64 " ms left, not %" PRId64, lease->id, err,
			 got.left_ms, left_ms);
	err = mvcc_lease_keys(m->fx->db, lease->id, check_lease_key, &keys);
	skip_other_keys(&keys);
	if (err || keys.at != m->nkeys)
		complain(m, "keys of lease %" PRIu64 ": %d, up to key %u", lease->id, err, keys.at);
}

static int check_listed(void *arg, const struct mvcc_lease *lease)
{
	struct model *m = arg;

	for (int i = 0; i < LEASES_MAX; i++)
		if (m->leases[i].id == lease->id)
			return 0;
	return 1;
}

static void do_lease(struct model *m)
{
	struct granted *lease = &m->leases[below(m, LEASES_MAX)];
	struct mvcc_lease got;

	if (!lease->id) {
		do_grant(m, lease);
		return;
	}
	switch (below(m, 8)) {
	case 0:
		do_revoke(m, lease);
		break;
	case 1:
		if (mvcc_leases(m->fx->db, check_listed, m) ||
		    mvcc_lease_get(m->fx->db, UINT32_MAX, &got) != MVCC_ENOLEASE)
			complain(m, "a lease that nobody granted");
		break;
	case 2:
	case 3:
		do_renew(m, lease);
		break;
	default:
		check_lease(m, lease);
	}
}

/* Time passes; what is due ends in the order in which it is. */
static void do_upkeep(struct model *m)
{
	const struct granted *lease = &m->leases[below(m, LEASES_MAX)];
	int64_t left_ms = lease->id ? lease->deadline_ms - m->now_ns / MS_NS : 0;
	int err;

	if (left_ms > 0 && left_ms < 4000)
		m->now_ns += left_ms * MS_NS; /* to the very moment */
	else
		m->now_ns += (int64_t)below(m, 2000) * MS_NS;
	if (below(m, 2))
		return;
	err = mvcc_upkeep(m->fx->db);
	if (err)
		complain(m, "upkeep: %d", err);
	for (;;) {
		struct granted *first = NULL;

		for (int i = 0; i < LEASES_MAX; i++)
			if (m->leases[i].id && m->leases[i].deadline_ms <= m->now_ns / MS_NS &&
			    (!first || m->leases[i].deadline_ms < first->deadline_ms))
				first = &m->leases[i];
		if (!first)
			break;
		model_end_lease(m, first, true);
	}
	if (mvcc_current(m->fx->db) != m->current)
		complain(m, "after upkeep it is revision %" PRIu64, mvcc_current(m->fx->db));
}

/* ---- what is kept -------------------------------------------------------------------------- */

static void do_compact(struct model *m)
{
	mvcc_rev_t rev = below(m, 2) ? 1 + below(m, m->current) : m->current + 1 + below(m, 2);
	int err, expected = 0;

	if (below(m, 8))
		rev = m->floor + 1 + below(m, (m->current - m->floor) / 2 + 1);
	if (rev <= m->floor)
		expected = MVCC_ECOMPACTED;
	else if (rev > m->current)
		expected = MVCC_EFUTURE;
	err = mvcc_compact(m->fx->db, rev);
	if (err != expected)
		complain(m, "compact at %" PRIu64 ": %d, not %d", rev, err, expected);
	if (!err)
		m->floor = rev;
	if (mvcc_floor(m->fx->db) != m->floor)
		complain(m, "the floor is %" PRIu64, mvcc_floor(m->fx->db));
	if (below(m, 2)) {
		err = mvcc_compact_wait(m->fx->db);
		if (err && err != -EBUSY)
			complain(m, "compact_wait: %d", err);
	}
}

static const char *pin_name(unsigned at, char out[16])
{
	snprintf(out, 16, "pin %u", at);
	return out;
}

struct pin_list {
	struct model *m;
	unsigned at;
};

static int check_pin(void *arg, const struct mvcc_pin *pin)
{
	struct pin_list *l = arg;
	char name[16];

	while (l->at < PINS_MAX && !l->m->pins[l->at].rev)
		l->at++;
	if (l->at == PINS_MAX || strcmp(pin->name, pin_name(l->at, name)) != 0 ||
	    pin->kind != MVCC_PIN_USER || pin->rev != l->m->pins[l->at].rev ||
	    pin->time_ns != l->m->made[pin->rev].time_ns || pin->made_ns != l->m->pins[l->at].made_ns)
		return 1;
	l->at++;
	return 0;
}

static void check_pins(struct model *m)
{
	struct pin_list l = { .m = m };

	if (mvcc_pins(m->fx->db, check_pin, &l))
		complain(m, "pin %u is another", l.at);
	while (l.at < PINS_MAX && !m->pins[l.at].rev)
		l.at++;
	if (l.at != PINS_MAX)
		complain(m, "pin %u is missing", l.at);
}

static void do_set_pin(struct model *m, unsigned at)
{
	mvcc_rev_t rev =
		below(m, 3) ? m->floor + below(m, m->current - m->floor + 1) : 1 + below(m, m->current + 1);
	char name[16];
	int err, expected;

	if (m->pins[at].rev)
		rev = m->current;
	expected = m->pins[at].rev ? -EEXIST : readable(m, rev);
	err = mvcc_pin(m->fx->db, pin_name(at, name), rev);
	if (err != expected)
		complain(m, "pin of %" PRIu64 ": %d, not %d", rev, err, expected);
	if (!err) {
		m->pins[at].rev = rev;
		m->pins[at].made_ns = m->now_ns;
	}
}

static void do_rename_pin(struct model *m, unsigned from, unsigned to)
{
	int err, expected = m->pins[from].rev ? (m->pins[to].rev ? -EEXIST : 0) : -ENOENT;
	char a[16], b[16];

	if (from == to)
		return;
	err = mvcc_pin_rename(m->fx->db, pin_name(from, a), pin_name(to, b));
	if (err != expected)
		complain(m, "pin_rename: %d, not %d", err, expected);
	if (!err) {
		m->pins[to] = m->pins[from];
		m->pins[from].rev = 0;
	}
}

static void do_pin(struct model *m)
{
	unsigned at = (unsigned)below(m, PINS_MAX);
	char name[16];
	int err;

	switch (below(m, 4)) {
	case 0:
		err = mvcc_unpin(m->fx->db, pin_name(at, name));
		if (err != (m->pins[at].rev ? 0 : -ENOENT))
			complain(m, "unpin: %d", err);
		m->pins[at].rev = 0;
		break;
	case 1:
		do_rename_pin(m, at, (unsigned)below(m, PINS_MAX));
		break;
	default:
		do_set_pin(m, at);
	}
	check_pins(m);
}

/* ---- watches ------------------------------------------------------------------------------- */

static void end_watch(struct watching *w)
{
	mvcc_watch_close(w->watch);
	w->watch = NULL;
}

static void open_watch(struct model *m, struct watching *w, mvcc_rev_t from)
{
	struct mvcc_watch_options opt = { .start = w->start, .end = w->end, .from = from, .flags = w->flags };
	int err = mvcc_watch_open(m->fx->db, &opt, &w->watch);

	w->next = from == MVCC_REV_LATEST ? m->current + 1 : from;
	if (err != (w->next < m->floor ? MVCC_ECOMPACTED : 0))
		complain(m, "watch_open at %" PRIu64 ": %d", from, err);
	if (err)
		w->watch = NULL;
}

static void begin_watch(struct model *m, struct watching *w)
{
	mvcc_rev_t from = m->floor + below(m, m->current - m->floor + 4);

	if (below(m, 4) == 0)
		from = MVCC_REV_LATEST;
	else if (below(m, 8) == 0)
		from = 1 + below(m, m->current);
	w->start = random_bound(m, w->a);
	w->end = random_bound(m, w->b);
	if (below(m, 2))
		w->start = w->end = slice_of(NULL, 0);
	w->flags = (unsigned)below(m, 2) * MVCC_WATCH_PREV + (below(m, 4) ? 0 : 2u << below(m, 3));
	open_watch(m, w, from);
}

/* What was there before is given if its revision can be read, and otherwise perhaps. */
static bool prev_fits(const struct model *m, const struct watching *w, const struct key *key, mvcc_rev_t rev,
		      const struct mvcc_item *prev)
{
	const struct version *before = version_at(key, rev - 1);

	if (!prev)
		return !before || !(w->flags & MVCC_WATCH_PREV) || rev - 1 < m->floor;
	return before && (w->flags & MVCC_WATCH_PREV) &&
	       (w->flags & MVCC_WATCH_KEYS ? prev->mod_rev == before->rev : same_version(prev, before));
}

static bool event_fits(const struct watching *w, const struct version *v, const struct mvcc_item *item)
{
	if (!v->create || !item)
		return !v->create && !item;
	if (w->flags & MVCC_WATCH_KEYS)
		return item->mod_rev == v->rev && item->create_rev == v->create &&
		       item->version == v->version && item->value.len == 0;
	return same_version(item, v);
}

static void check_events(struct model *m, const struct watching *w, mvcc_rev_t rev)
{
	struct mvcc_event event;
	int got;

	for (unsigned i = 0; i < m->nkeys; i++) {
		const struct key *key = &m->keys[i];
		const struct version *v = version_of(key, rev);

		if (!v || !in_range(key, w->start, w->end) ||
		    (w->flags & (v->create ? MVCC_WATCH_NO_PUT : MVCC_WATCH_NO_DEL)))
			continue;
		got = mvcc_watch_event(w->watch, &event);
		if (got != 1 || !slice_eq(event.key, key_slice(key)) || event.deleted != !v->create ||
		    !event_fits(w, v, event.item) || !prev_fits(m, w, key, rev, event.prev)) {
			complain(m, "watch, flags %u: event of %" PRIu64 ": %d, not that of key %u", w->flags,
				 rev, got, i);
			return;
		}
		if (below(m, 50) == 0)
			return; /* the rest is left behind */
	}
	got = mvcc_watch_event(w->watch, &event);
	if (got != 0)
		complain(m, "watch: %d, an event too many of %" PRIu64, got, rev);
}

/* True if the watch gave a revision, the one the model gives. */
static bool ask_watch(struct model *m, struct watching *w)
{
	const struct mvcc_entry *entry;
	mvcc_rev_t rev = w->next;
	int got = mvcc_watch_next(w->watch, 0, &entry);

	while (rev <= m->current && !rev_matches(m, rev, w->start, w->end, w->flags))
		rev++;
	if (got == MVCC_ECOMPACTED && w->next < m->floor) {
		end_watch(w);
		return false;
	}
	if (got != (rev <= m->current ? 1 : 0) || (got && (entry->rev != rev || rev < m->floor))) {
		complain(m, "watch from %" PRIu64 ": %d, not revision %" PRIu64, w->next, got, rev);
		return false;
	}
	if (w->next <= m->current)
		w->next = got ? rev + 1 : m->current + 1;
	if (got) {
		check_entry(m, entry);
		check_events(m, w, rev);
	}
	if (!m->bad && mvcc_watch_rev(w->watch) < w->next)
		complain(m, "watch stands at %" PRIu64 ", not %" PRIu64, mvcc_watch_rev(w->watch), w->next);
	return got == 1;
}

static void do_watch(struct model *m)
{
	struct watching *w = &m->watches[below(m, WATCHES_MAX)];

	if (!w->watch) {
		begin_watch(m, w);
		return;
	}
	for (uint64_t n = below(m, 30); n-- && !m->bad;)
		if (!ask_watch(m, w))
			break;
	if (w->watch && below(m, 100) == 0)
		end_watch(w);
}

/* ---- the store ----------------------------------------------------------------------------- */

static void close_views(struct model *m)
{
	for (int i = 0; i < VIEWS_MAX; i++) {
		mvcc_view_close(m->views[i].view);
		m->views[i].view = NULL;
	}
}

/* Watches are resumed where they stood. */
static void do_reopen(struct model *m)
{
	mvcc_rev_t stood[WATCHES_MAX] = { 0 };
	int err;

	close_views(m);
	for (int i = 0; i < WATCHES_MAX; i++) {
		if (m->watches[i].watch)
			stood[i] = mvcc_watch_rev(m->watches[i].watch);
		end_watch(&m->watches[i]);
	}
	err = mvcc_close(m->fx->db);
	m->fx->db = NULL;
	if (err)
		complain(m, "close: %d", err);
	err = fixture_try_open(m->fx);
	if (err) {
		complain(m, "open: %d", err);
		return;
	}
	if (mvcc_current(m->fx->db) != m->current || mvcc_floor(m->fx->db) != m->floor)
		complain(m, "opened at revision %" PRIu64 ", floor %" PRIu64, mvcc_current(m->fx->db),
			 mvcc_floor(m->fx->db));
	for (int i = 0; i < WATCHES_MAX; i++)
		if (stood[i])
			open_watch(m, &m->watches[i], stood[i]);
}

static void do_hold_view(struct model *m)
{
	unsigned at = (unsigned)below(m, VIEWS_MAX);
	int err;

	mvcc_view_close(m->views[at].view);
	m->views[at].view = NULL;
	m->views[at].rev = below(m, 2) ? m->current : 1 + below(m, m->current + 1);
	err = mvcc_view_open(m->fx->db, m->views[at].rev, &m->views[at].view);
	if (err)
		m->views[at].view = NULL;
	if (err != readable(m, m->views[at].rev))
		complain(m, "view_open at %" PRIu64 ": %d", m->views[at].rev, err);
}

static void do_read(struct model *m)
{
	unsigned at = (unsigned)below(m, VIEWS_MAX);
	struct mvcc_view *view = NULL;
	mvcc_rev_t rev = m->current;
	int err;

	if (m->views[at].view && below(m, 2)) {
		check_view(m, m->views[at].view, m->views[at].rev);
		return;
	}
	if (below(m, 3))
		rev = below(m, 4) ? m->floor + below(m, m->current - m->floor + 1) : 1 + below(m, m->current);
	err = mvcc_view_open(m->fx->db, rev, &view);
	if (err != readable(m, rev))
		complain(m, "view_open at %" PRIu64 ": %d", rev, err);
	if (err)
		return;
	check_view(m, view, rev);
	mvcc_view_close(view);
}

static void check_whole(struct model *m, mvcc_rev_t rev)
{
	struct mvcc_view *view = NULL;
	struct mvcc_cursor *c = NULL;

	if (mvcc_view_open(m->fx->db, rev, &view)) {
		complain(m, "no view at %" PRIu64, rev);
		return;
	}
	for (unsigned i = 0; i < m->nkeys && !m->bad; i++)
		check_get(m, view, rev, i);
	if (!m->bad && mvcc_cursor_open(view, slice_of(NULL, 0), slice_of(NULL, 0), &c) == 0)
		check_cursor(m, c, slice_of(NULL, 0), slice_of(NULL, 0), rev, false);
	mvcc_cursor_close(c);
	mvcc_view_close(view);
}

static void check_all(struct model *m)
{
	mvcc_rev_t step = 1 + (m->current - m->floor) / 50;

	for (mvcc_rev_t rev = m->floor; rev <= m->current && !m->bad; rev += step)
		check_whole(m, rev);
	for (int i = 0; i < PINS_MAX && !m->bad; i++)
		if (m->pins[i].rev)
			check_whole(m, m->pins[i].rev);
	if (!m->bad)
		check_whole(m, m->current);
	if (!m->bad && verify_problems(m->fx->db))
		complain(m, "the rows do not fit together");
}

static bool hash_at(struct mvcc *db, mvcc_rev_t rev, struct mvcc_hash *out)
{
	struct mvcc_view *view;
	bool good;

	if (mvcc_view_open(db, rev, &view))
		return false;
	good = mvcc_hash(view, out) == 0;
	mvcc_view_close(view);
	return good;
}

/* Two stores have the same states, at the revisions from the floor on. */
static void compare_stores(struct model *m, struct mvcc *other, mvcc_rev_t step)
{
	for (mvcc_rev_t rev = m->floor; rev <= m->current && !m->bad; rev += step) {
		struct mvcc_hash a, b;

		if (!hash_at(m->fx->db, rev, &a) || !hash_at(other, rev, &b) || a.hi != b.hi ||
		    a.lo != b.lo || a.keys != b.keys)
			complain(m, "two stores of the same history differ at %" PRIu64, rev);
	}
}

static void do_checkpoint(struct model *m)
{
	struct mvcc_options opt = m->fx->opt;
	struct mvcc *copy = NULL;
	mvcc_rev_t rev = 0;
	char dir[320];
	int err;

	snprintf(dir, sizeof(dir), "%s/copy", m->fx->tmp);
	err = mvcc_checkpoint(m->fx->db, dir, &rev);
	opt.dir = dir;
	opt.create = false;
	if (!err)
		err = mvcc_open(&opt, &copy);
	if (err || rev != m->current || mvcc_current(copy) != m->current || mvcc_floor(copy) != m->floor)
		complain(m, "checkpoint: %d, of revision %" PRIu64, err, rev);
	if (!m->bad)
		compare_stores(m, copy, 1 + (m->current - m->floor) / 3);
	if (!m->bad && verify_problems(copy))
		complain(m, "the rows of a copy do not fit together");
	err = mvcc_close(copy);
	if (err)
		complain(m, "close of a copy: %d", err);
	fixture_rmdir(dir);
}

static void do_one(struct model *m)
{
	uint64_t dice = below(m, 2000);

	if (dice < 3)
		do_reopen(m);
	else if (dice < 4)
		do_checkpoint(m);
	else if (dice < 16)
		mvcc_sync(m->fx->db, MVCC_REV_LATEST);
	else if (dice < 60)
		do_hold_view(m);
	else if (dice < 80)
		check_history(m);
	else if (dice < 90)
		check_history_back(m);
	else if (dice < 100)
		check_ever(m);
	else if (dice < 140)
		check_log(m);
	else if (dice < 160)
		check_rev_at(m);
	else if (dice < 300)
		do_lease(m);
	else if (dice < 330)
		do_upkeep(m);
	else if (dice < 336)
		do_compact(m);
	else if (dice < 370)
		do_pin(m);
	else if (dice < 430)
		do_watch(m);
	else if (dice < 1000)
		do_read(m);
	else if (dice < 1200)
		do_request(m);
	else
		do_transaction(m);
}

static int64_t model_clock(void *arg)
{
	return ((struct model *)arg)->now_ns;
}

static struct model *model_open(uint64_t seed)
{
	struct model *m = must(calloc(1, sizeof(*m)));

	m->seed = seed;
	m->random = seed;
	m->floor = MVCC_REV_FIRST;
	m->now_ns = 1700000000000 * MS_NS;
	make_keys(m);
	model_made(m, MVCC_REV_FIRST, false);
	m->fx = fixture_new();
	m->fx->opt.ring_bytes = (size_t)256 << 10;
	m->fx->opt.manual_upkeep = true;
	m->fx->opt.compact_bytes_per_s = UINT64_MAX;
	m->fx->opt.clock = model_clock;
	m->fx->opt.clock_arg = m;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(m->fx), 0);
	return m;
}

static void model_close(struct model *m)
{
	CU_ASSERT_FALSE(m->bad);
	close_views(m);
	for (int i = 0; i < WATCHES_MAX; i++)
		end_watch(&m->watches[i]);
	fixture_close(m->fx);
	model_release(m);
	free(m);
}

static void run_model(uint64_t seed, uint64_t ops)
{
	struct model *m = model_open(seed);

	for (m->op = 0; m->op < ops && !m->bad; m->op++) {
		do_one(m);
		if (m->op % 8192 == 8191 && verify_problems(m->fx->db))
			complain(m, "the rows do not fit together");
	}
	check_all(m);
	if (!m->bad)
		do_reopen(m);
	if (!m->bad)
		check_all(m);
	model_close(m);
}

/* ---- the same history afresh --------------------------------------------------------------- */

static int put_again(struct model *m, struct mvcc_txn *txn, const struct key *key, const struct version *v)
{
	mvcc_blob_t blobs[BLOBS_OF_RECORD_MAX];
	struct mvcc_put put = { .key = key_slice(key),
				.value = slice_buf(&v->value.bytes),
				.blobs = blobs,
				.nblobs = v->value.nblobs,
				.lease = v->lease };
	int err = v->create == v->rev ? mvcc_txn_del(txn, put.key) : 0; /* a generation begins */

	for (size_t i = 0; i < put.nblobs && !err; i++) {
		const struct blob *blob = m->blobs;
		uint8_t *bytes;

		while (blob->id != v->value.blobs[i])
			blob++;
		bytes = must(malloc(blob->len));
		blob_fill(bytes, blob->len, blob->seed);
		err = mvcc_txn_stage_blob(txn, slice_of(bytes, blob->len), &blobs[i]);
		free(bytes);
	}
	return err ? err : mvcc_txn_put_with(txn, &put);
}

static int make_again(struct model *m, struct mvcc *db, mvcc_rev_t rev)
{
	struct mvcc_txn *txn;
	int err = mvcc_txn_begin(db, &txn);

	if (err)
		return err;
	for (unsigned i = 0; i < m->nkeys && !err; i++) {
		const struct version *v = version_of(&m->keys[i], rev);
		mvcc_lease_t got;

		if (v && v->lease)
			mvcc_lease_grant(db, v->lease, MVCC_LEASE_TTL_MAX * 1000, &got); /* or it is there */
		if (v)
			err = v->create ? put_again(m, txn, &m->keys[i], v) :
					  mvcc_txn_del(txn, key_slice(&m->keys[i]));
	}
	if (err) {
		mvcc_txn_abort(txn);
		return err;
	}
	return mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, NULL);
}

/* However a store came to its history, its hashes are those of one that was told the changes alone. */
static void test_the_same_history_told_afresh_has_the_same_hashes(void)
{
	for (uint64_t seed = 11; seed < 14; seed++) {
		struct model *m = model_open(seed);
		struct fixture *afresh = fixture_open();

		for (m->op = 0; m->op < 400 && !m->bad; m->op++)
			do_one(m);
		for (mvcc_rev_t rev = MVCC_REV_FIRST + 1; rev <= m->current && !m->bad; rev++)
			CU_ASSERT_EQUAL(make_again(m, afresh->db, rev), 0);
		CU_ASSERT_EQUAL(mvcc_current(afresh->db), m->current);
		compare_stores(m, afresh->db, 1);
		fixture_close(afresh);
		model_close(m);
	}
}

static void test_random_operations_do_what_the_model_does(void)
{
	uint64_t seed = fixture_env("MODEL_SEED", (uint64_t)time(NULL));

	printf("seed %" PRIu64 " ", seed);
	run_model(seed, fixture_env("MODEL_OPS", 20000));
}

static void test_seeds_that_matter_do_what_the_model_does(void)
{
	static const uint64_t seeds[] = { 1, 2, 3 };

	for (size_t i = 0; i < sizeof(seeds) / sizeof(seeds[0]); i++)
		run_model(seeds[i], 2000);
}

static void on_memory(void)
{
	fixture_use(NULL);
}

static void on_rocks(void)
{
	static struct rocks_options options = { .cache_bytes = (size_t)8 << 20 };
	static struct engine_provider provider;

	provider = rocks_provider(&options);
	fixture_use(&provider);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_random_operations_do_what_the_model_does),
	UNIT_TEST(test_seeds_that_matter_do_what_the_model_does),
	UNIT_TEST(test_the_same_history_told_afresh_has_the_same_hashes),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = {
		UNIT_SUITE("model on memory", on_memory, NULL, tests),
		UNIT_SUITE("model on rocksdb", on_rocks, NULL, tests),
		CU_SUITE_INFO_NULL,
	};

	return unit_main(argc, argv, suites);
}
