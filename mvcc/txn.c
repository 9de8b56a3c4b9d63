/*
 * Transactions: what they read, and what they mean to write. Everything is noted in two tables in
 * memory, reads and writes; commit.c judges and publishes them, spill.c moves writes out of memory.
 *
 * What a transaction wrote itself is no business of validation: reading it back depends on nobody,
 * and a guard over it is judged with it. So "exists" holds for a key the transaction itself has put,
 * and "empty" for a range whose keys it has itself deleted.
 */
#include "mvcc/lease_int.h"
#include "mvcc/txn_int.h"

#include <errno.h>
#include <stdlib.h>

#define PEEKS_KEPT 4096 /* headers of unvalidated reads that are kept to save a look at commit */

/* ---- begin and end ------------------------------------------------------------------------ */

struct txn_writes *txn_writes_new(void)
{
	struct txn_writes *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	if (memtable_init(&w->mt)) {
		free(w);
		return NULL;
	}
	w->refs = 1;
	return w;
}

void txn_writes_unref(struct txn_writes *w)
{
	if (!w || --w->refs)
		return;
	for (struct mem_node *node = memtable_first(&w->mt); node; node = memtable_next(node))
		mvcc_item_release(&write_of(node)->old);
	memtable_release(&w->mt);
	free(w);
}

int mvcc_txn_begin(struct mvcc *db, struct mvcc_txn **out)
{
	struct mvcc_txn *txn = calloc(1, sizeof(*txn));
	int err;

	if (!txn)
		return -ENOMEM;
	txn->db = db;
	err = view_open(db, MVCC_REV_LATEST, true, &txn->view);
	if (!err) {
		txn->writes = txn_writes_new();
		err = txn->writes ? 0 : -ENOMEM;
	}
	if (err) {
		txn_free(txn);
		return err;
	}
	*out = txn;
	return 0;
}

void txn_range_free(struct txn_range *range)
{
	buf_release(&range->start);
	buf_release(&range->end);
	buf_release(&range->upto);
	free(range);
}

void txn_broken_free(struct mvcc_txn *txn, struct txn_broken *upto)
{
	while (txn->broken != upto) {
		struct txn_broken *next = txn->broken->next;

		buf_release(&txn->broken->key);
		free(txn->broken);
		txn->broken = next;
	}
}

void txn_free(struct mvcc_txn *txn)
{
	txn_broken_free(txn, NULL);
	while (txn->ranges) {
		struct txn_range *next = txn->ranges->next;

		txn_range_free(txn->ranges);
		txn->ranges = next;
	}
	mvcc_view_close(txn->view);
	mvcc_view_close(txn->first_view);
	memtable_release(&txn->reads);
	txn_writes_unref(txn->writes);
	blooms_free(txn->blooms, NULL);
	free(txn->staged.v);
	free(txn->run_leases.v);
	free(txn->settled);
	buf_release(&txn->story);
	buf_release(&txn->rec);
	buf_release(&txn->value);
	buf_release(&txn->list);
	free(txn);
}

void mvcc_txn_abort(struct mvcc_txn *txn)
{
	if (!txn)
		return;
	savepoints_end(txn);
	run_remove(txn);
	blob_settle(txn->db, &txn->staged, 0);
	txn_free(txn);
}

mvcc_rev_t mvcc_txn_rev(const struct mvcc_txn *txn)
{
	return txn->view->rev;
}

/* ---- the tables --------------------------------------------------------------------------- */

static struct slice as_value(const void *p, size_t len)
{
	return slice_of(p, len);
}

struct txn_read *txn_read_find(struct mvcc_txn *txn, struct slice key)
{
	struct mem_node *node = txn->reads.head ? memtable_find(&txn->reads, key, 0) : NULL;

	return node ? read_of(node) : NULL;
}

/* Notes that `key` was seen as `header`. The entry, or NULL when out of memory. */
static struct txn_read *note_read(struct mvcc_txn *txn, struct slice key, struct header header)
{
	struct txn_read *read = txn_read_find(txn, key);

	if (read)
		return read;
	if (!txn->reads.head && memtable_init(&txn->reads))
		return NULL;
	read = memtable_alloc(&txn->reads, sizeof(*read));
	if (!read)
		return NULL;
	*read = (struct txn_read){ .first = header, .header = header };
	if (!memtable_insert(&txn->reads, key, 0, as_value(read, sizeof(*read)), 0))
		return NULL;
	return read;
}

/* Copies an entry of the table of reads into another table. */
static int keep_read(struct memtable *to, struct slice key, const struct txn_read *read,
		     struct txn_read **guards)
{
	struct txn_read *copy = memtable_alloc(to, sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	*copy = *read;
	if (copy->must_exist) {
		copy->next_guard = *guards;
		*guards = copy;
	}
	return memtable_insert(to, key, 0, as_value(copy, sizeof(*copy)), 0) ? 0 : -ENOMEM;
}

void txn_reads_trim(struct mvcc_txn *txn)
{
	size_t bytes = txn->reads.head ? atomic_load(&txn->reads.bytes) : 0;
	struct txn_read *guards = NULL;
	struct memtable kept = { 0 };
	int err;

	/* Rolling back takes rows out of the run, but what was read is validated all the same. */
	if (txn->savepoints || bytes < 2 * txn->db->spill_bytes || bytes < 2 * txn->reads_trimmed)
		return;
	err = memtable_init(&kept);
	for (struct mem_node *node = memtable_first(&txn->reads); !err && node; node = memtable_next(node)) {
		const struct txn_read *read = read_of(node);

		if (read->must_exist || (read->validate && !read->spilled))
			err = keep_read(&kept, node->key, read, &guards);
	}
	if (err) {
		memtable_release(&kept); /* then it is remembered on */
		return;
	}
	memtable_release(&txn->reads);
	txn->reads = kept;
	txn->guards = guards;
	txn->reads_trimmed = atomic_load(&kept.bytes);
}

struct txn_write *txn_write_find(struct mvcc_txn *txn, struct slice key)
{
	struct mem_node *node = memtable_find(&txn->writes->mt, key, 0);

	return node ? write_of(node) : NULL;
}

struct txn_write *txn_write_new(struct txn_writes *writes, struct slice key)
{
	struct mem_node *node = memtable_find(&writes->mt, key, 0);
	struct txn_write *w;

	if (node)
		return write_of(node);
	w = memtable_alloc(&writes->mt, sizeof(*w));
	if (!w)
		return NULL;
	*w = (struct txn_write){ .what = WRITE_NONE };
	if (!memtable_insert(&writes->mt, key, 0, as_value(w, sizeof(*w)), 0))
		return NULL;
	return w;
}

struct txn_write *txn_write_at(struct mvcc_txn *txn, struct slice key)
{
	const struct savepoint *s = txn->savepoints;
	struct txn_undo *undo;
	struct mem_node *node;
	struct txn_write *w;

	if (!s || s->writes != txn->writes) /* spilled since: going back means going to another table */
		return txn_write_new(txn->writes, key);
	node = memtable_find(&txn->writes->mt, key, 0);
	if (node && write_of(node)->level == s->level)
		return write_of(node);
	undo = memtable_alloc(&txn->writes->mt, sizeof(*undo)); /* first: no node without its undo */
	w = undo ? txn_write_new(txn->writes, key) : NULL;
	if (!w)
		return NULL;
	*undo = (struct txn_undo){ .older = txn->writes->undos, .made = !node, .was = *w };
	undo->node = node ? node : memtable_find(&txn->writes->mt, key, 0);
	txn->writes->undos = undo;
	w->level = s->level;
	return w;
}

int txn_write_header(struct mvcc_txn *txn, struct slice key, struct txn_write *w)
{
	struct txn_read *read;
	int err;

	if (w->header_known)
		return 0;
	read = txn_read_find(txn, key);
	if (read) {
		w->header = read->header;
	} else {
		err = header_at(txn->db, txn->view->rev, key, &w->header);
		if (err)
			return err;
	}
	w->header_known = true;
	return 0;
}

int txn_write_record(struct mvcc_txn *txn, struct slice key, struct txn_write *w, struct record *out)
{
	int err = txn_write_header(txn, key, w);
	bool goes_on;

	if (!err && !w->reborn_known)
		err = run_reborn(txn, key, w);
	if (err)
		return err;
	goes_on = w->header.exists && !w->reborn;
	*out = (struct record){
		.create = goes_on ? w->header.create : 0,
		.version = goes_on ? w->header.version + 1 : 1,
		.lease = w->lease,
		.nblobs = w->nblobs,
		.blobs = w->blobs,
		.value = w->value,
	};
	return 0;
}

/* ---- reading ------------------------------------------------------------------------------ */

/* Reads what the transaction itself wrote. 1: it did not write the key. */
static int get_own(struct mvcc_txn *txn, struct slice key, struct mvcc_item *out)
{
	struct txn_write *w = txn_write_find(txn, key);
	struct engine_pin pin;
	struct record rec;
	struct op op;
	int err;

	if (w && w->what == WRITE_DEL)
		return -ENOENT;
	if (w && w->what == WRITE_PUT) {
		err = txn_write_record(txn, key, w, &rec);
		return err ? err : item_fill(out, &rec);
	}
	if (!txn->run || !run_may_hold(txn, key))
		return 1;
	gate_enter(&txn->db->gate);
	err = stage_get(txn->db, txn->run, key, &pin, &op);
	if (!err && (op.flags & OP_DEL))
		err = -ENOENT;
	else if (!err)
		err = record_decode(op.record, &rec) ? MVCC_ECORRUPT : item_fill(out, &rec);
	else if (err == -ENOENT)
		err = 1;
	engine_pin_release(txn->db->engine, &pin);
	gate_leave(&txn->db->gate);
	return err;
}

/* Reads the store at the base; `*header` says what was seen, `out` may be NULL. */
static int get_base(struct mvcc_txn *txn, struct slice key, struct header *header, struct mvcc_item *out)
{
	struct found f;
	int err = find_at(txn->db, txn->view->rev, key, &f);

	*header = (struct header){ 0 };
	if (err)
		return err;
	*header = (struct header){ true, f.rec.mod, f.rec.create, f.rec.version };
	if (out)
		err = item_fill(out, &f.rec);
	found_release(&f);
	return err;
}

static int txn_read(struct mvcc_txn *txn, struct slice key, bool validate, struct mvcc_item *out)
{
	struct mvcc_item item = { 0 };
	struct header header;
	struct txn_read *read;
	int err;

	if (txn->err)
		return txn->err;
	if (!key_is_legal(key))
		return -ENOENT;
	err = get_own(txn, key, out);
	if (err <= 0)
		return err;
	err = get_base(txn, key, &header, &item);
	if (err && err != -ENOENT)
		return err;
	if (validate || atomic_load(&txn->reads.count) < PEEKS_KEPT) {
		read = note_read(txn, key, header);
		if (!read) {
			mvcc_item_release(&item);
			return -ENOMEM;
		}
		read->validate |= validate;
	}
	if (!err)
		*out = item;
	return err;
}

int mvcc_txn_get(struct mvcc_txn *txn, struct slice key, struct mvcc_item *out)
{
	return txn_read(txn, key, true, out);
}

int mvcc_txn_peek(struct mvcc_txn *txn, struct slice key, struct mvcc_item *out)
{
	return txn_read(txn, key, false, out);
}

/* ---- ranges ------------------------------------------------------------------------------- */

static int range_add(struct mvcc_txn *txn, struct slice start, struct slice end, struct txn_range **out)
{
	struct txn_range *range = calloc(1, sizeof(*range));
	int err;

	if (!range)
		return -ENOMEM;
	err = buf_copy(&range->start, start);
	if (!err)
		err = buf_copy(&range->end, end);
	if (!err)
		err = buf_reserve(&range->upto, MVCC_KEY_MAX); /* so that advancing cannot fail */
	if (err) {
		txn_range_free(range);
		return err;
	}
	range->next = txn->ranges;
	txn->ranges = range;
	txn->nranges++;
	*out = range;
	return 0;
}

void txn_range_advance(struct txn_range *range, struct slice key)
{
	buf_copy(&range->upto, key);
	range->started = true;
}

void txn_range_finish(struct txn_range *range)
{
	range->whole = true;
	buf_release(&range->upto); /* nothing moves it any more */
}

bool txn_range_covers(const struct txn_range *range, struct slice key)
{
	if (slice_cmp(key, slice_buf(&range->start)) < 0)
		return false;
	if (!range->whole)
		return range->started && slice_cmp(key, slice_buf(&range->upto)) <= 0;
	return range->end.len == 0 || slice_cmp(key, slice_buf(&range->end)) < 0;
}

int mvcc_txn_cursor_open(struct mvcc_txn *txn, struct slice start, struct slice end, struct mvcc_cursor **out)
{
	struct txn_range *range;
	int err = txn->err;

	if (!err)
		err = range_add(txn, start, end, &range);
	return err ? err : cursor_open(txn->db, txn->view->rev, txn, range, start, end, out);
}

int mvcc_txn_peek_cursor_open(struct mvcc_txn *txn, struct slice start, struct slice end,
			      struct mvcc_cursor **out)
{
	return txn->err ? txn->err : cursor_open(txn->db, txn->view->rev, txn, NULL, start, end, out);
}

/* ---- guards ------------------------------------------------------------------------------- */

static int note_broken(struct mvcc_txn *txn, const struct txn_range *range, struct slice key)
{
	struct txn_broken *broken = calloc(1, sizeof(*broken));

	if (!broken || buf_copy(&broken->key, key)) {
		free(broken);
		return -ENOMEM;
	}
	broken->range = range;
	broken->next = txn->broken;
	txn->broken = broken;
	return 0;
}

int mvcc_txn_expect_exists(struct mvcc_txn *txn, struct slice key)
{
	struct mvcc_item own = { 0 };
	struct header header;
	struct txn_read *read;
	int err;

	if (txn->err)
		return txn->err;
	if (!key_is_legal(key))
		return -EINVAL;
	err = get_own(txn, key, &own);
	mvcc_item_release(&own);
	if (err <= 0)
		return err == -ENOENT ? note_broken(txn, NULL, key) : err;
	read = txn_read_find(txn, key);
	if (!read) {
		err = get_base(txn, key, &header, NULL);
		if (err && err != -ENOENT)
			return err;
		read = note_read(txn, key, header);
		if (!read)
			return -ENOMEM;
	}
	if (!read->must_exist) {
		read->must_exist = true;
		read->next_guard = txn->guards;
		txn->guards = read;
	}
	return 0;
}

int txn_deletes(struct mvcc_txn *txn, struct slice key)
{
	struct mvcc_item own = { 0 };
	int err = get_own(txn, key, &own);

	mvcc_item_release(&own);
	if (err == -ENOENT)
		return 1;
	return err < 0 ? err : 0;
}

int txn_range_occupied(struct mvcc_txn *txn, const struct txn_range *range)
{
	const struct mvcc_item *item;
	struct mvcc_cursor *c;
	struct slice key;
	int got, err = cursor_open(txn->db, txn->view->rev, NULL, NULL, slice_buf(&range->start),
				   slice_buf(&range->end), &c);

	if (err)
		return err;
	while ((got = mvcc_cursor_next(c, &key, &item)) == 1) {
		int deleted = txn_deletes(txn, key);

		if (deleted == 1)
			continue;
		got = deleted < 0 ? deleted : 1;
		break;
	}
	mvcc_cursor_close(c);
	return got;
}

/* Notes it if the transaction itself has put something into the range. */
static int note_own_in(struct mvcc_txn *txn, const struct txn_range *range)
{
	const struct mvcc_item *item;
	struct mvcc_cursor *c;
	struct slice key;
	int got, err = cursor_open(txn->db, txn->view->rev, txn, NULL, slice_buf(&range->start),
				   slice_buf(&range->end), &c);

	if (err)
		return err;
	while ((got = mvcc_cursor_next(c, &key, &item)) == 1)
		if (item->mod_rev == 0)
			break;
	if (got == 1)
		got = note_broken(txn, range, key);
	mvcc_cursor_close(c);
	return got;
}

int mvcc_txn_expect_empty(struct mvcc_txn *txn, struct slice start, struct slice end)
{
	struct txn_range *range;
	int err = txn->err;

	if (!err)
		err = range_add(txn, start, end, &range);
	if (err)
		return err;
	range->guard = true;
	txn_range_finish(range);
	return note_own_in(txn, range);
}

/* ---- writing ------------------------------------------------------------------------------ */

static int spill_if_large(struct mvcc_txn *txn)
{
	if (txn->writes->spillable <= txn->db->spill_bytes)
		return 0;
	txn->err = txn_spill(txn, false);
	return txn->err;
}

static int blobs_encode(struct buf *out, const mvcc_blob_t *blobs, size_t nblobs)
{
	int err = 0;

	buf_clear(out);
	for (size_t i = 0; !err && i < nblobs; i++)
		err = blobs[i] >> 63 ? -EINVAL : record_blob_put(out, blobs[i], false);
	return err;
}

/*
 * Notes a put whose list of blobs stands in txn->list. One that keeps the value keeps what is still to be done
 * to it by updates; another value replaces that, too.
 */
static int note_put(struct mvcc_txn *txn, const struct mvcc_put *put, bool attaches)
{
	struct memtable *mt = &txn->writes->mt;
	size_t before = atomic_load(&mt->bytes);
	struct slice value = memtable_copy(mt, put->value);
	struct slice list = memtable_copy(mt, slice_buf(&txn->list));
	struct txn_write *w = value.data && list.data ? txn_write_at(txn, put->key) : NULL;

	if (!w)
		return -ENOMEM;
	w->attaches = attaches || ((put->flags & MVCC_PUT_KEEP_LEASE) && w->what == WRITE_PUT && w->attaches);
	w->reborn |= w->what == WRITE_DEL;
	w->what = WRITE_PUT;
	w->lease = put->lease;
	w->value = value;
	w->nblobs = put->nblobs;
	w->blobs = list;
	if (!(put->flags & MVCC_PUT_KEEP_VALUE))
		w->updates = w->last_update = NULL;
	txn->attaches |= w->attaches;
	txn->writes->spillable += atomic_load(&mt->bytes) - before;
	return spill_if_large(txn);
}

int mvcc_txn_put_with(struct mvcc_txn *txn, const struct mvcc_put *put)
{
	bool attaches = put->lease && !(put->flags & MVCC_PUT_KEEP_LEASE);
	struct mvcc_item kept = { 0 };
	struct mvcc_put whole = *put;
	int err = txn->err;

	if (err)
		return err;
	if (!key_is_legal(put->key) || (put->flags & ~(unsigned)(MVCC_PUT_KEEP_VALUE | MVCC_PUT_KEEP_LEASE)))
		return -EINVAL;
	if (put->flags)
		err = mvcc_txn_get(txn, put->key, &kept);
	if (!err && attaches)
		err = lease_attach(txn->db, put->lease, 0);
	if (put->flags & MVCC_PUT_KEEP_VALUE) {
		whole.value = kept.value;
		whole.blobs = kept.blobs;
		whole.nblobs = kept.nblobs;
	}
	if (put->flags & MVCC_PUT_KEEP_LEASE)
		whole.lease = kept.lease;
	if (!err && whole.value.len > MVCC_VALUE_MAX)
		err = -EINVAL;
	if (!err)
		err = blobs_encode(&txn->list, whole.blobs, whole.nblobs);
	if (!err)
		err = note_put(txn, &whole, attaches);
	mvcc_item_release(&kept);
	return err;
}

int mvcc_txn_put(struct mvcc_txn *txn, struct slice key, struct slice value, const mvcc_blob_t *blobs,
		 size_t nblobs)
{
	struct mvcc_put put = { .key = key, .value = value, .blobs = blobs, .nblobs = nblobs };

	return mvcc_txn_put_with(txn, &put);
}

int mvcc_txn_del(struct mvcc_txn *txn, struct slice key)
{
	struct memtable *mt = &txn->writes->mt;
	size_t before = atomic_load(&mt->bytes);
	struct txn_write *w;

	if (txn->err)
		return txn->err;
	if (!key_is_legal(key))
		return -EINVAL;
	w = txn_write_at(txn, key);
	if (!w)
		return -ENOMEM;
	w->what = WRITE_DEL;
	w->reborn = false;
	w->updates = w->last_update = NULL;
	txn->writes->spillable += atomic_load(&mt->bytes) - before;
	return spill_if_large(txn);
}

int mvcc_txn_del_range(struct mvcc_txn *txn, struct slice start, struct slice end, uint64_t *n)
{
	const struct mvcc_item *item;
	struct mvcc_cursor *c;
	struct slice key;
	uint64_t deleted = 0;
	int err = mvcc_txn_cursor_open(txn, start, end, &c);

	if (err)
		return err;
	while (!err && (err = mvcc_cursor_next(c, &key, &item)) == 1) {
		err = mvcc_txn_del(txn, key);
		deleted++;
	}
	mvcc_cursor_close(c);
	if (!err && n)
		*n = deleted;
	return err;
}

int mvcc_txn_update(struct mvcc_txn *txn, struct slice key, mvcc_update_fn *fn, const void *arg,
		    size_t arg_len)
{
	struct memtable *mt = &txn->writes->mt;
	struct txn_update *update;
	struct txn_write *w;

	if (txn->err)
		return txn->err;
	if (!key_is_legal(key))
		return -EINVAL;
	w = txn_write_at(txn, key);
	update = memtable_alloc(mt, sizeof(*update));
	if (!w || !update)
		return -ENOMEM;
	if (w->what == WRITE_DEL)
		return 0; /* absent at commit, as far as this transaction goes */
	*update = (struct txn_update){ .fn = fn, .arg = memtable_copy(mt, slice_of(arg, arg_len)) };
	if (!update->arg.data)
		return -ENOMEM;
	if (w->last_update)
		w->last_update->next = update;
	else
		w->updates = update;
	w->last_update = update;
	return 0;
}

int txn_update_to_put(struct mvcc_txn *txn, struct txn_write *w, const struct record *rec)
{
	struct slice value = memtable_copy(&txn->writes->mt, rec->value);
	struct slice blobs = memtable_copy(&txn->writes->mt, rec->blobs);

	if (!value.data || !blobs.data)
		return -ENOMEM;
	w->what = WRITE_PUT;
	w->lease = rec->lease;
	w->value = value;
	w->nblobs = rec->nblobs;
	w->blobs = blobs;
	return 0;
}

int txn_fold_updates(struct mvcc_txn *txn, struct txn_write *w)
{
	for (; w->updates; w->updates = w->updates->next) {
		struct slice copy;
		int err;

		buf_clear(&txn->value);
		err = w->updates->fn(w->updates->arg.data, w->value, &txn->value);
		if (!err && txn->value.len > MVCC_VALUE_MAX)
			err = -EINVAL;
		if (err)
			return err;
		copy = memtable_copy(&txn->writes->mt, slice_buf(&txn->value));
		if (!copy.data)
			return -ENOMEM;
		w->value = copy;
	}
	w->last_update = NULL;
	return 0;
}

int mvcc_txn_stage_blob(struct mvcc_txn *txn, struct slice bytes, mvcc_blob_t *out)
{
	if (txn->err)
		return txn->err;
	if (bytes.len == 0 || bytes.len > MVCC_BLOB_MAX)
		return -EINVAL;
	return blob_stage(txn->db, &txn->staged, bytes, out);
}

int txn_blobs_tell(struct mvcc_txn *txn, struct slice blobs, uint64_t nblobs, struct buf *out)
{
	int err = 0;

	buf_clear(out);
	for (uint64_t i = 0; !err && i < nblobs; i++) {
		struct staged_blob *staged;
		mvcc_blob_t blob;
		bool own;

		if (!record_blob_take(&blobs, &blob, &own))
			return MVCC_ECORRUPT;
		staged = blob_staged(&txn->staged, blob);
		if (staged)
			staged->refs++;
		err = record_blob_put(out, blob, staged != NULL);
	}
	return err;
}

int mvcc_txn_settle(struct mvcc_txn *txn, uint64_t intent)
{
	uint64_t *grown = realloc(txn->settled, (txn->nsettled + 1) * sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	txn->settled = grown;
	txn->settled[txn->nsettled++] = intent;
	return 0;
}
