/*
 * Random operations against a model so plain that it cannot be wrong: for each key an array of (revision,
 * value, deleted). Transactions of puts, deletes, updates and blobs, committed or aborted, small or larger
 * than the ring; reads at any revision by get, range, cursor, history and log; views held for long;
 * syncs and restarts. The seed is printed; MODEL_SEED and MODEL_OPS choose others.
 */
#include "tests/store_fixture.h"

#include "rocks_backend/rocks.h"
#include "tests/unit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <time.h>

enum { KEYS_MAX = 320, VIEWS_MAX = 6, BLOBS_OF_RECORD_MAX = 3 };

struct value {
	struct buf bytes;
	mvcc_blob_t blobs[BLOBS_OF_RECORD_MAX];
	size_t nblobs;
};

/* What one revision made of a key. */
struct version {
	mvcc_rev_t rev, create; /* create: 0 for a tombstone */
	uint64_t version;
	struct value value;
};

/* What the open transaction has made of a key so far. */
struct draft {
	enum { UNTOUCHED, DRAFT_PUT, DRAFT_DEL } what;
	bool reborn;  /* deleted at some time: a put begins a generation */
	bool updated; /* by `suffix`, and not otherwise touched */
	uint8_t suffix;
	struct value value;
};

struct key {
	uint8_t bytes[24];
	size_t len;
	struct version *versions;
	size_t n, cap;
	struct draft draft;
};

struct blob {
	mvcc_blob_t id;
	uint32_t len;
	uint64_t seed;
};

struct model {
	struct fixture *fx;
	uint64_t random;
	uint64_t seed;
	struct key keys[KEYS_MAX];
	unsigned nkeys;
	mvcc_rev_t current;
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

static const struct version *version_at(const struct key *key, mvcc_rev_t rev)
{
	const struct version *found = NULL;

	for (size_t i = 0; i < key->n && key->versions[i].rev <= rev; i++)
		found = &key->versions[i];
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
			const struct value *value)
{
	if (key->n == key->cap) {
		key->cap = key->cap ? 2 * key->cap : 8;
		key->versions = must(realloc(key->versions, key->cap * sizeof(key->versions[0])));
	}
	key->versions[key->n] = (struct version){ .rev = rev, .create = create, .version = version };
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
				version_add(key, rev, 0, 0, NULL);
			} else if (key->draft.what == DRAFT_PUT) {
				version_add(key, rev, goes_on ? now->create : rev,
					    goes_on ? now->version + 1 : 1, &key->draft.value);
			} else {
				struct value value = { 0 };

				value_copy(&value, &now->value);
				if (buf_put_u8(&value.bytes, key->draft.suffix))
					abort();
				version_add(key, rev, now->create, now->version + 1, &value);
				buf_release(&value.bytes);
			}
		}
		draft_clear(key);
	}
	m->current += changed;
	return changed;
}

static void model_abort(struct model *m)
{
	for (unsigned i = 0; i < m->nkeys; i++)
		draft_clear(&m->keys[i]);
}

static void model_release(struct model *m)
{
	for (unsigned i = 0; i < m->nkeys; i++) {
		for (size_t j = 0; j < m->keys[i].n; j++)
			buf_release(&m->keys[i].versions[j].value.bytes);
		free(m->keys[i].versions);
		buf_release(&m->keys[i].draft.value.bytes);
	}
	free(m->blobs);
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
	       same_value(item, &v->value);
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
		else if (mine ? !same_value(item, &draft->value) || item->mod_rev != 0 :
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

static int check_life(void *arg, const struct mvcc_item *item, mvcc_rev_t end_rev)
{
	struct life *life = arg;
	const struct key *key = life->key;
	const struct version *v;

	while (life->at < key->n && !key->versions[life->at].create)
		life->at++;
	if (life->at == key->n) {
		complain(life->m, "history: one record too many");
		return 1;
	}
	v = &key->versions[life->at++];
	if (!same_version(item, v) || end_rev != (life->at < key->n ? key->versions[life->at].rev : 0)) {
		complain(life->m, "history: record %" PRIu64 " ends at %" PRIu64, item->mod_rev, end_rev);
		return 1;
	}
	return 0;
}

static void check_history(struct model *m)
{
	struct life life = { .m = m, .key = &m->keys[below(m, m->nkeys)] };
	int err = mvcc_history(m->fx->db, key_slice(life.key), check_life, &life);

	while (life.at < life.key->n && !life.key->versions[life.at].create)
		life.at++;
	if (err || life.at != life.key->n)
		complain(m, "history of key %td: %d, after %zu of %zu", life.key - m->keys, err, life.at,
			 life.key->n);
}

static const struct version *version_of(const struct key *key, mvcc_rev_t rev)
{
	for (size_t i = 0; i < key->n && key->versions[i].rev <= rev; i++)
		if (key->versions[i].rev == rev)
			return &key->versions[i];
	return NULL;
}

static void check_changes(struct model *m, struct mvcc_log *log, mvcc_rev_t rev)
{
	struct mvcc_change change;
	int got;

	for (unsigned i = 0; i < m->nkeys; i++) {
		const struct version *v = version_of(&m->keys[i], rev);
		const struct version *before = version_at(&m->keys[i], rev - 1);

		if (!v)
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

static void check_log(struct model *m)
{
	mvcc_rev_t from = 1 + below(m, m->current), to = from + below(m, 12);
	const struct mvcc_entry *entry;
	struct mvcc_log *log;
	int64_t last = INT64_MIN;
	int err, got;

	if (to > m->current)
		to = m->current;
	err = mvcc_log_open(m->fx->db, from, to, &log);
	if (err) {
		complain(m, "log_open: %d", err);
		return;
	}
	for (mvcc_rev_t rev = from; rev <= to && !m->bad; rev++) {
		got = mvcc_log_next(log, &entry);
		if (got != 1 || entry->rev != rev) {
			complain(m, "log_next: %d, not revision %" PRIu64, got, rev);
			break;
		}
		if (entry->time_ns < last || (rev > 1 && entry->story.pid != (uint32_t)rev))
			complain(m, "log of %" PRIu64 ": time or story", rev);
		last = entry->time_ns;
		if (below(m, 4))
			check_changes(m, log, rev);
	}
	if (!m->bad && mvcc_log_next(log, &entry) != 0)
		complain(m, "log goes on after %" PRIu64, to);
	mvcc_log_close(log);
}

/* ---- doing --------------------------------------------------------------------------------- */

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

static void random_value(struct model *m, struct mvcc_txn *txn, struct value *value, size_t len)
{
	const struct version *live;

	value->nblobs = 0;
	buf_clear(&value->bytes);
	for (size_t i = 0; i < len; i++)
		if (buf_put_u8(&value->bytes, (uint8_t)below(m, 256)))
			abort();
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
	live = version_at(&m->keys[below(m, m->nkeys)], m->current);
	if (live && live->value.nblobs && value->nblobs < BLOBS_OF_RECORD_MAX)
		value->blobs[value->nblobs++] = live->value.blobs[0];
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
}

static void do_del(struct model *m, struct mvcc_txn *txn, struct key *key)
{
	int err;

	if (key->draft.updated)
		return;
	err = mvcc_txn_del(txn, key_slice(key));
	if (err)
		complain(m, "del: %d", err);
	key->draft.what = DRAFT_DEL;
	key->draft.reborn = true;
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
	else if (there && (draft->what == DRAFT_PUT ? !same_value(&item, &draft->value) || item.mod_rev != 0 :
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
		/* few keys are touched often, so that they live through much */
		struct key *key = &m->keys[below(m, below(m, 3) ? 24 : m->nkeys) % m->nkeys];

		switch (below(m, 12)) {
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
		default:
			do_put(m, txn, key, big ? 2000 + below(m, 2500) : random_len(m));
		}
	}
	end_transaction(m, txn, below(m, 6) == 0);
}

static void close_views(struct model *m)
{
	for (int i = 0; i < VIEWS_MAX; i++) {
		mvcc_view_close(m->views[i].view);
		m->views[i].view = NULL;
	}
}

static void do_reopen(struct model *m)
{
	int err;

	close_views(m);
	err = mvcc_close(m->fx->db);
	m->fx->db = NULL;
	if (err)
		complain(m, "close: %d", err);
	err = fixture_try_open(m->fx);
	if (err)
		complain(m, "open: %d", err);
	else if (mvcc_current(m->fx->db) != m->current)
		complain(m, "opened at revision %" PRIu64, mvcc_current(m->fx->db));
}

static void do_hold_view(struct model *m)
{
	unsigned at = (unsigned)below(m, VIEWS_MAX);
	int err;

	mvcc_view_close(m->views[at].view);
	m->views[at].view = NULL;
	m->views[at].rev = below(m, 2) ? m->current : 1 + below(m, m->current);
	err = mvcc_view_open(m->fx->db, m->views[at].rev, &m->views[at].view);
	if (err) {
		m->views[at].view = NULL;
		complain(m, "view_open: %d", err);
	}
}

static void do_read(struct model *m)
{
	unsigned at = (unsigned)below(m, VIEWS_MAX);
	struct mvcc_view *view = NULL;
	mvcc_rev_t rev = below(m, 3) ? 1 + below(m, m->current) : m->current;
	int err;

	if (m->views[at].view && below(m, 2)) {
		check_view(m, m->views[at].view, m->views[at].rev);
		return;
	}
	err = mvcc_view_open(m->fx->db, rev, &view);
	if (err) {
		complain(m, "view_open at %" PRIu64 ": %d", rev, err);
		return;
	}
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

static void do_one(struct model *m)
{
	uint64_t dice = below(m, 1000);

	if (dice < 2)
		do_reopen(m);
	else if (dice < 12)
		mvcc_sync(m->fx->db, MVCC_REV_LATEST);
	else if (dice < 40)
		do_hold_view(m);
	else if (dice < 60)
		check_history(m);
	else if (dice < 80)
		check_log(m);
	else if (dice < 550)
		do_read(m);
	else
		do_transaction(m);
}

static void run_model(uint64_t seed, uint64_t ops)
{
	struct model *m = must(calloc(1, sizeof(*m)));

	m->seed = seed;
	m->random = seed;
	m->current = MVCC_REV_FIRST;
	make_keys(m);
	m->fx = fixture_open_small_ring();
	for (m->op = 0; m->op < ops && !m->bad; m->op++)
		do_one(m);
	for (int i = 0; i < 2 && !m->bad; i++) {
		for (mvcc_rev_t rev = 1; rev <= m->current && !m->bad; rev += 1 + m->current / 50)
			check_whole(m, rev);
		if (!m->bad)
			check_whole(m, m->current);
		if (!m->bad && verify_problems(m->fx->db))
			complain(m, "the rows do not fit together");
		if (!m->bad)
			do_reopen(m);
	}
	CU_ASSERT_FALSE(m->bad);
	close_views(m);
	fixture_close(m->fx);
	model_release(m);
	free(m);
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
