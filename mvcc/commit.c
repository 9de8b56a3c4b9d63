/*
 * Commit. Optimistic: what the transaction read is compared with what others committed since its
 * base, under the commit lock but in memory alone (window.h). Where memory does not tell, the lock
 * is dropped, the transaction is carried to a newer base by looking at the store (txn_refresh), and
 * commit is tried again; so nobody ever waits for a disk read of somebody else.
 *
 * Once judged, the commit is encoded into the ring, put into the active generation, and published
 * by one store of the current revision.
 */
#include "mvcc/lease_int.h"
#include "mvcc/txn_int.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define LOOK_AGAIN 1    /* not a result: memory does not tell */
#define TRIES_MAX 64    /* then it counts as a conflict */
#define TRIES_PATIENT 4 /* as long, rather look again than walk much of the window under the lock */
#define WALK_MAX ((size_t)4096)

/* ---- operations into a generation --------------------------------------------------------- */

int ops_reserve(struct generation *gen, struct slice ops)
{
	size_t bytes = 0;
	struct op op;

	while (ops.len) {
		struct record rec;

		if (!op_take(&ops, &op) || op.key.len == 0 || op.key.len > MVCC_KEY_MAX)
			return MVCC_ECORRUPT;
		if (!(op.flags & OP_DEL) && record_decode(op.record, &rec))
			return MVCC_ECORRUPT;
		bytes += memtable_node_bytes(op.key.len) + memtable_copy_bytes(op.record.len);
	}
	return memtable_reserve(&gen->mt, bytes);
}

void ops_insert(struct generation *gen, mvcc_rev_t rev, struct slice ops)
{
	struct op op;

	while (op_take(&ops, &op)) {
		struct slice value = op.flags & OP_DEL ? TOMBSTONE : memtable_copy(&gen->mt, op.record);
		struct mem_node *node = memtable_insert(&gen->mt, op.key, rev, value, op.prev ? 0 : MEM_NEW);

		assert(node);
		(void)node;
	}
}

/* ---- before the lock ---------------------------------------------------------------------- */

static size_t payload_guess(struct mvcc_txn *txn)
{
	size_t n = txn->story.len + 10 * txn->nsettled + 256;

	txn->key_bytes = 0;
	for (struct mem_node *node = memtable_first(&txn->writes->mt); node; node = memtable_next(node)) {
		const struct txn_write *w = write_of(node);

		txn->key_bytes += node->key.len;
		n += node->key.len + w->value.len + w->blobs.len + 128;
		if (w->what == WRITE_NONE)
			n += w->old.value.len + w->old.nblobs * 10;
		for (const struct txn_update *u = w->updates; u; u = u->next)
			n += u->arg.len + 128;
	}
	return n;
}

/* Marks and counts the references to blobs that this transaction staged. */
static int tell_blobs(struct mvcc_txn *txn)
{
	int err = 0;

	if (txn->run)
		return 0; /* done as it was spilled; what is left has updates only */
	for (size_t i = 0; i < txn->staged.n; i++)
		txn->staged.v[i].refs = 0;
	for (struct mem_node *node = memtable_first(&txn->writes->mt); !err && node;
	     node = memtable_next(node)) {
		struct txn_write *w = write_of(node);

		if (w->what != WRITE_PUT)
			continue;
		err = txn_blobs_tell(txn, w->blobs, w->nblobs, &txn->list);
		if (err)
			break;
		w->blobs_told = memtable_copy(&txn->writes->mt, slice_buf(&txn->list));
		if (!w->blobs_told.data)
			err = -ENOMEM;
	}
	return err;
}

/* The record that an update will start from, unless another commit comes first. */
static int load_old(struct mvcc_txn *txn, struct slice key, struct txn_write *w)
{
	struct found f;
	int err = 0;

	if (!w->old_known) {
		err = find_at(txn->db, txn->view->rev, key, &f);
		if (!err) {
			err = item_fill(&w->old, &f.rec);
			found_release(&f);
		}
		if (err && err != -ENOENT)
			return err;
		w->old_known = true;
	}
	/* also when it is known: a commit that failed may have left its own there */
	w->header = (struct header){ w->old.mod_rev != 0, w->old.mod_rev, w->old.create_rev, w->old.version };
	w->header_known = true;
	return 0;
}

/* Encodes an item's list of blobs; none is told as the transaction's own. */
static int item_blobs_encode(struct buf *out, const struct mvcc_item *item)
{
	int err = 0;

	buf_clear(out);
	for (size_t i = 0; !err && i < item->nblobs; i++)
		err = record_blob_put(out, item->blobs[i], false);
	return err;
}

static int old_record(struct mvcc_txn *txn, struct txn_write *w, struct record *out)
{
	int err = item_blobs_encode(&txn->list, &w->old);

	*out = (struct record){ .mod = w->old.mod_rev,
				.create = w->old.create_rev,
				.version = w->old.version,
				.lease = w->old.lease,
				.nblobs = w->old.nblobs,
				.blobs = slice_buf(&txn->list),
				.value = w->old.value };
	return err;
}

/* Makes a put, from the record at the base, of a key that is only updated; of an absent one, nothing. */
static int update_to_put(struct mvcc_txn *txn, struct txn_write *w)
{
	struct record rec;
	int err;

	if (!w->header.exists) {
		w->updates = w->last_update = NULL;
		return 0;
	}
	err = old_record(txn, w, &rec);
	if (!err)
		err = txn_update_to_put(txn, w, &rec);
	return err ? err : txn_fold_updates(txn, w);
}

/*
 * What is too much for one record of the ring becomes a staged run, the updates, too: so their keys
 * are then validated like any that a run holds.
 */
static int spill_if_too_much(struct mvcc_txn *txn)
{
	int err = 0;

	for (struct mem_node *node = memtable_first(&txn->writes->mt); !err && node;
	     node = memtable_next(node))
		if (write_of(node)->what == WRITE_NONE && write_of(node)->updates)
			err = load_old(txn, node->key, write_of(node));
	if (err || payload_guess(txn) <= room_max(txn->db) / 2)
		return err;
	for (struct mem_node *node = memtable_first(&txn->writes->mt); !err && node;
	     node = memtable_next(node))
		if (write_of(node)->what == WRITE_NONE && write_of(node)->updates)
			err = update_to_put(txn, write_of(node));
	return err ? err : txn_spill(txn, true);
}

static int prepare(struct mvcc_txn *txn, const struct mvcc_story *story)
{
	int err = txn->err;

	savepoints_end(txn);
	buf_clear(&txn->story);
	if (!err)
		err = story_encode(&txn->story, story);
	if (!err && txn->story.len > STORY_MAX)
		err = -EINVAL;
	if (!err && txn->run)
		err = txn_spill(txn, true);
	for (struct mem_node *node = memtable_first(&txn->writes->mt); !err && node;
	     node = memtable_next(node))
		if (write_of(node)->what == WRITE_PUT)
			err = txn_fold_updates(txn, write_of(node));
	if (!err)
		err = spill_if_too_much(txn);
	if (!err)
		err = tell_blobs(txn);
	return err;
}

/* Fetches from the store, at the base, what the lock must not wait for. 0, LOOK_AGAIN or a code. */
static int look(struct mvcc_txn *txn)
{
	int err = 0;

	for (struct mem_node *node = memtable_first(&txn->writes->mt); !err && node;
	     node = memtable_next(node)) {
		struct txn_write *w = write_of(node);

		if (w->what != WRITE_NONE)
			err = txn_write_header(txn, node->key, w);
		else if (w->updates)
			err = load_old(txn, node->key, w);
		w->moved = false;
	}
	for (struct txn_read *read = txn->guards; read; read = read->next_guard)
		read->exists_now = read->header.exists;
	for (struct txn_range *range = txn->ranges; !err && range; range = range->next) {
		if (!range->guard)
			continue;
		err = txn_range_occupied(txn, range);
		if (err == 1)
			err = txn->view->rev == atomic_load(&txn->db->current) ? MVCC_ECONFLICT : LOOK_AGAIN;
	}
	return err;
}

/* ---- carrying the transaction to a newer base --------------------------------------------- */

static int is_conflict(void *arg, struct slice key, mvcc_rev_t was, mvcc_rev_t now)
{
	(void)arg, (void)key, (void)was, (void)now;
	return MVCC_ECONFLICT;
}

static int reads_validate(struct mvcc_txn *txn, mvcc_rev_t rev)
{
	if (!txn->reads.head)
		return 0;
	for (struct mem_node *node = memtable_first(&txn->reads); node; node = memtable_next(node)) {
		struct txn_read *read = read_of(node);
		struct header header;
		int err = header_at(txn->db, rev, node->key, &header);

		if (err)
			return err;
		if (read->validate && header.mod != read->header.mod)
			return MVCC_ECONFLICT;
		read->header = header;
	}
	return 0;
}

/* The base has moved: what was learnt there of the keys that are written counts no more. */
static void forget_headers(struct mvcc_txn *txn)
{
	for (struct mem_node *node = memtable_first(&txn->writes->mt); node; node = memtable_next(node)) {
		struct txn_write *w = write_of(node);

		w->header_known = w->old_known = false;
		mvcc_item_release(&w->old);
	}
}

/*
 * Proves, by looking at the store, that all the transaction read is the same at the newest revision,
 * and makes that one its base.
 */
static int txn_refresh(struct mvcc_txn *txn)
{
	struct mvcc_view *view;
	int err = view_open(txn->db, MVCC_REV_LATEST, true, &view);

	if (err)
		return err;
	for (struct txn_range *range = txn->ranges; !err && range; range = range->next)
		if (!range->guard)
			err = txn_range_compare(txn->db, range, txn->view->rev, view->rev, is_conflict, NULL);
	if (!err && txn->run)
		err = run_validate(txn, view->rev);
	if (!err)
		err = reads_validate(txn, view->rev);
	if (err) {
		mvcc_view_close(view);
		return err;
	}
	forget_headers(txn);
	/* A blob seen at the first base may be referred to by this commit: no collector takes it before. */
	if (txn->first_view)
		mvcc_view_close(txn->view);
	else
		txn->first_view = txn->view;
	txn->view = view;
	return 0;
}

/* The transaction lives on: it goes on reading where it began, whatever commit has come to see. */
static void base_restore(struct mvcc_txn *txn)
{
	struct mem_node *node = txn->reads.head ? memtable_first(&txn->reads) : NULL;

	for (; node; node = memtable_next(node))
		read_of(node)->header = read_of(node)->first;
	forget_headers(txn);
	if (txn->first_view) {
		mvcc_view_close(txn->view);
		txn->view = txn->first_view;
		txn->first_view = NULL;
	}
}

/* ---- judging, under the lock -------------------------------------------------------------- */

static int judge_change(struct mvcc_txn *txn, const struct window_change *change)
{
	struct txn_read *read = txn_read_find(txn, change->key);
	struct txn_write *w = txn_write_find(txn, change->key);

	if (read && read->validate)
		return MVCC_ECONFLICT;
	if (read)
		read->exists_now = change->header.exists;
	if (w) {
		w->header = change->header;
		w->moved = true;
	}
	for (struct txn_range *range = txn->ranges; range; range = range->next) {
		if (!txn_range_covers(range, change->key))
			continue;
		if (!range->guard)
			return MVCC_ECONFLICT;
		if (change->header.exists && !(w && w->what == WRITE_DEL))
			return LOOK_AGAIN;
	}
	return txn->run && run_may_hold(txn, change->key) ? LOOK_AGAIN : 0;
}

static int judge_locked(struct mvcc_txn *txn, unsigned attempt)
{
	struct window *window = &txn->db->window;
	mvcc_rev_t current = atomic_load(&txn->db->current);
	size_t walked = 0;

	txn->moved_on = txn->view->rev < current;
	if (txn->broken)
		return MVCC_ECONFLICT;
	if (txn->view->rev < window->low)
		return LOOK_AGAIN;
	for (mvcc_rev_t rev = txn->view->rev + 1; rev <= current; rev++) {
		const struct window_commit *c = window_at(window, rev);

		walked += c->n * (1 + txn->nranges);
		if (c->run || (walked > WALK_MAX && attempt < TRIES_PATIENT))
			return LOOK_AGAIN;
		for (unsigned i = 0; i < c->n; i++) {
			int err = judge_change(txn, &c->changes[i]);

			if (err)
				return err;
		}
	}
	for (const struct txn_read *read = txn->guards; read; read = read->next_guard)
		if (!read->exists_now)
			return MVCC_ECONFLICT;
	return 0;
}

/* Do all leases that puts name still take keys? */
static int leases_locked(struct mvcc_txn *txn)
{
	struct mvcc *db = txn->db;
	uint64_t seq = db->ring.head.seq + 1;
	int err = 0;

	if (!txn->attaches)
		return 0;
	for (size_t i = 0; !err && i < txn->run_leases.n; i++)
		err = lease_attach(db, txn->run_leases.v[i], seq);
	for (struct mem_node *node = memtable_first(&txn->writes->mt); !err && node;
	     node = memtable_next(node)) {
		const struct txn_write *w = write_of(node);

		if (w->what == WRITE_PUT && w->attaches)
			err = lease_attach(db, w->lease, seq);
	}
	return err;
}

/* ---- encoding, under the lock ------------------------------------------------------------- */

/* The newest record of a key that was committed after the base, from memory. 0, LOOK_AGAIN or a code. */
static int newest_in_memory(struct gen_set *set, struct slice key, mvcc_rev_t mod, struct record *out)
{
	for (unsigned i = 0; i < set->n; i++) {
		struct mem_node *node = memtable_find(&set->gens[i]->mt, key, UINT64_MAX);

		if (node && node->rev == mod && node->value.len)
			return record_decode(node->value, out);
		if (node || set->gens[i]->run)
			break;
	}
	return LOOK_AGAIN;
}

/* Encodes the list of blobs that an update keeps: counted references, all of them. */
static int keep_blobs(struct mvcc_txn *txn, struct record *rec)
{
	int err = 0;

	buf_clear(&txn->list);
	for (uint64_t i = 0; !err && i < rec->nblobs; i++) {
		mvcc_blob_t blob;
		bool own;

		if (!record_blob_take(&rec->blobs, &blob, &own))
			return MVCC_ECORRUPT;
		err = record_blob_put(&txn->list, blob, false);
	}
	rec->blobs = slice_buf(&txn->list);
	return err;
}

/* Computes the record of a key that has only updates. */
static int encode_update(struct mvcc_txn *txn, struct slice key, struct txn_write *w, mvcc_rev_t rev)
{
	struct gen_set *set = NULL;
	struct buf next = { 0 };
	struct record rec;
	int err;

	if (w->moved) {
		set = overlay_ref(&txn->db->overlay);
		err = newest_in_memory(set, key, w->header.mod, &rec);
		if (!err)
			err = keep_blobs(txn, &rec);
	} else {
		err = old_record(txn, w, &rec);
	}
	buf_clear(&txn->value);
	for (const struct txn_update *u = w->updates; !err && u; u = u->next) {
		struct buf was = txn->value;

		buf_clear(&next);
		err = u->fn(u->arg.data, rec.value, &next);
		if (!err && next.len > MVCC_VALUE_MAX)
			err = -EINVAL;
		txn->value = next;
		next = was; /* the value before stays alive while the next one is made of it */
		rec.value = slice_buf(&txn->value);
	}
	buf_clear(&txn->rec);
	if (!err) {
		rec.mod = rev;
		rec.version++;
		err = record_encode(&txn->rec, &rec);
	}
	buf_release(&next);
	gen_set_unref(set);
	if (!err)
		w->header = (struct header){ true, rev, rec.create, rec.version };
	return err;
}

static int encode_put(struct mvcc_txn *txn, struct txn_write *w, mvcc_rev_t rev)
{
	bool goes_on = w->header.exists && !w->reborn;
	struct record rec = {
		.mod = rev,
		.create = goes_on ? w->header.create : rev,
		.version = goes_on ? w->header.version + 1 : 1,
		.lease = w->lease,
		.nblobs = w->nblobs,
		.blobs = w->blobs_told,
		.value = w->value,
	};

	buf_clear(&txn->rec);
	w->header = (struct header){ true, rev, rec.create, rec.version };
	return record_encode(&txn->rec, &rec);
}

/*
 * Appends the operations of the commit to db->scratch, and to the window's new commit. Afterwards
 * w->header says what the commit leaves, so a failed one has to fetch it anew.
 */
static int encode_ops_locked(struct mvcc_txn *txn, mvcc_rev_t rev, struct window_commit *changes)
{
	struct buf *out = &txn->db->scratch;
	int err = 0;

	for (struct mem_node *node = memtable_first(&txn->writes->mt); !err && node;
	     node = memtable_next(node)) {
		struct txn_write *w = write_of(node);
		struct op op = { .key = node->key, .prev = w->header.mod };

		if ((w->what != WRITE_PUT && !w->header.exists) || (w->what == WRITE_NONE && !w->updates))
			continue;
		w->header_known = false;
		if (w->what == WRITE_DEL) {
			op.flags = OP_DEL;
			w->header = (struct header){ 0 };
		} else {
			err = w->what == WRITE_PUT ? encode_put(txn, w, rev) :
						     encode_update(txn, node->key, w, rev);
			op.record = slice_buf(&txn->rec);
		}
		if (!err)
			err = op_encode(out, &op);
		if (!err)
			window_add(changes, node->key, w->header);
	}
	return err;
}

static int encode_head_locked(struct mvcc_txn *txn, mvcc_rev_t rev, int64_t time_ns)
{
	struct commit_head head = {
		.rev = rev,
		.time_ns = time_ns,
		.story = slice_buf(&txn->story),
		.run = txn->run_counts ? txn->run : 0,
		.nsettled = txn->nsettled,
	};
	int err = 0;

	buf_clear(&txn->list);
	for (size_t i = 0; !err && i < txn->nsettled; i++)
		err = buf_put_varint(&txn->list, txn->settled[i]);
	head.settled = slice_buf(&txn->list);
	buf_clear(&txn->db->scratch);
	return err ? err : commit_head_encode(&txn->db->scratch, &head);
}

/* ---- publishing, under the lock ----------------------------------------------------------- */

static int64_t time_locked(struct mvcc *db)
{
	int64_t now = wall_ns(db);

	return now > db->last_time_ns ? now : db->last_time_ns;
}

int target_locked(struct mvcc *db, mvcc_rev_t rev, uint64_t run, struct slice ops, struct generation **out)
{
	struct generation *gens[2];
	int err;

	if (!run) {
		*out = db->active;
		return ops_reserve(db->active, ops);
	}
	gens[0] = generation_new();
	gens[1] = generation_new();
	err = gens[0] && gens[1] ? ops_reserve(gens[1], ops) : -ENOMEM;
	if (!err) {
		gens[1]->run = run;
		gens[1]->last_rev = rev; /* readers look at it as soon as it is in the overlay */
		gens[1]->begin = gens[1]->end = db->ring.head;
		err = overlay_push(&db->overlay, gens, 2);
	}
	if (err) {
		generation_unref(gens[0]);
		generation_unref(gens[1]);
		return err;
	}
	db->active = gens[0];
	db->runs_pending++;
	*out = gens[1];
	return 0;
}

void target_taken_locked(struct mvcc *db, struct generation *gen, mvcc_rev_t rev, int64_t time_ns)
{
	if (!gen->run)
		gen->last_rev = rev;
	gen->last_time_ns = time_ns;
	gen->end = db->ring.head;
	if (gen != db->active) {
		db->active->last_rev = rev;
		db->active->last_time_ns = time_ns;
		db->active->begin = db->active->end = db->ring.head;
	}
	db->last_time_ns = time_ns;
}

static int publish_locked(struct mvcc_txn *txn, mvcc_rev_t rev, int64_t time_ns, size_t head_len,
			  struct window_commit *changes)
{
	struct mvcc *db = txn->db;
	uint64_t run = txn->run_counts ? txn->run : 0;
	struct slice payload = slice_buf(&db->scratch);
	struct slice ops = slice_of(payload.data + head_len, payload.len - head_len);
	struct generation *gen;
	int err = target_locked(db, rev, run, ops, &gen);

	if (err)
		return err;
	ring_append(&db->ring, RING_COMMIT, payload);
	ops_insert(gen, rev, ops);
	target_taken_locked(db, gen, rev, time_ns);
	changes->run = run != 0;
	window_push(&db->window, *changes);
	*changes = (struct window_commit){ 0 };
	atomic_store(&db->current, rev); /* last: whoever sees rev can read all of it */
	appended_locked(db);
	atomic_fetch_add_explicit(&db->n_commits, 1, memory_order_relaxed);
	return 0;
}

/* A transaction that changes nothing but settles intents takes no revision. */
static void settle_locked(struct mvcc_txn *txn)
{
	struct mvcc *db = txn->db;

	for (size_t i = 0; i < txn->nsettled; i++) {
		uint8_t raw[8];

		put_le64(raw, txn->settled[i]);
		ring_append(&db->ring, RING_INTENT_DROP, slice_of(raw, sizeof(raw)));
		appended_locked(db);
	}
}

static int commit_locked(struct mvcc_txn *txn, unsigned attempt, mvcc_rev_t *out_rev)
{
	struct mvcc *db = txn->db;
	mvcc_rev_t rev = atomic_load(&db->current) + 1;
	size_t nwrites = atomic_load(&txn->writes->mt.count), head_len;
	struct window_commit changes;
	int64_t time_ns = time_locked(db);
	int err = judge_locked(txn, attempt);

	if (!err)
		err = leases_locked(txn);
	if (err)
		return err;
	err = encode_head_locked(txn, rev, time_ns);
	if (err)
		return err;
	head_len = db->scratch.len;
	changes = window_begin((unsigned)nwrites, txn->key_bytes);
	err = encode_ops_locked(txn, rev, &changes);
	if (!err && db->scratch.len == head_len && !txn->run_counts && !txn->always) {
		settle_locked(txn);
		*out_rev = rev - 1;
	} else if (!err && db->scratch.len > txn->payload_max) {
		txn->payload_max = db->scratch.len; /* an update made more of it than was guessed */
		err = LOOK_AGAIN;
	} else if (!err) {
		err = publish_locked(txn, rev, time_ns, head_len, &changes);
		*out_rev = rev;
	}
	window_discard(&changes);
	return err;
}

/* ---- the whole ---------------------------------------------------------------------------- */

/* Would the commit make the store grow? One that only deletes and updates may use the reserve. */
static bool grows(const struct mvcc_txn *txn)
{
	if (txn->run_grows)
		return true;
	for (struct mem_node *node = memtable_first(&txn->writes->mt); node; node = memtable_next(node))
		if (write_of(node)->what == WRITE_PUT)
			return true;
	return false;
}

static bool is_empty(const struct mvcc_txn *txn)
{
	return !txn->run && !txn->nsettled && !txn->always && atomic_load(&txn->writes->mt.count) == 0;
}

static int try_once(struct mvcc_txn *txn, unsigned flags, unsigned attempt, mvcc_rev_t *out_rev)
{
	struct mvcc *db = txn->db;
	size_t guess, need;
	int err;

	txn->moved_on = false;
	err = look(txn);
	if (err)
		return err;
	guess = payload_guess(txn);
	if (guess > txn->payload_max)
		txn->payload_max = guess;
	need = txn->payload_max + 32 * txn->nsettled;
	if (need > room_max(db))
		return -EINVAL; /* an update came to more, from a newer value, than the ring can carry */
	if (!is_empty(txn)) {
		err = space_admit(db, txn->payload_max, grows(txn));
		if (err)
			return err;
	}
	pthread_mutex_lock(&db->commit_lock);
	if (!is_empty(txn)) /* one that only read needs no room, and no working engine */
		err = room_wait_locked(db, need, flags);
	if (!err)
		err = commit_locked(txn, attempt, out_rev);
	pthread_mutex_unlock(&db->commit_lock);
	if (!err)
		watching_tell(db);
	return err;
}

static bool lives_on(int err, unsigned flags)
{
	if (err == MVCC_ECONFLICT)
		return flags & MVCC_COMMIT_KEEP_CONFLICT;
	return err == -EAGAIN || (err && flags & MVCC_COMMIT_KEEP);
}

/*
 * A key that was changed and is again as it was (absent) is a conflict for the judge. Where the transaction is to live
 * on, the store decides, so that what mvcc_txn_conflicts() tells is all there is.
 */
static int try_until(struct mvcc_txn *txn, unsigned flags, mvcc_rev_t *out_rev)
{
	int err = 0;

	for (unsigned attempt = 0; !err; attempt++) {
		err = attempt < TRIES_MAX ? try_once(txn, flags, attempt, out_rev) : MVCC_ECONFLICT;
		if (err == MVCC_ECONFLICT && flags & MVCC_COMMIT_KEEP_CONFLICT && txn->moved_on &&
		    !txn->broken && attempt < TRIES_MAX)
			err = LOOK_AGAIN;
		if (err != LOOK_AGAIN)
			break;
		err = txn_refresh(txn);
	}
	return err;
}

int mvcc_txn_commit(struct mvcc_txn *txn, const struct mvcc_story *story, unsigned flags, mvcc_rev_t *out_rev)
{
	struct mvcc *db = txn->db;
	uint64_t begun_ns = now_ns();
	mvcc_rev_t rev = 0;
	int err = prepare(txn, story);

	if (!err)
		err = try_until(txn, flags, &rev);
	if (err == MVCC_ECONFLICT)
		atomic_fetch_add_explicit(&db->n_conflicts, 1, memory_order_relaxed);
	if (lives_on(err, flags)) {
		base_restore(txn);
		return err;
	}
	if (err) {
		mvcc_txn_abort(txn);
		return err;
	}
	for (size_t i = 0; i < txn->nsettled; i++)
		intent_forget(db, txn->settled[i]);
	if (!txn->run_counts)
		run_remove(txn);
	blob_settle(db, &txn->staged, rev);
	txn_free(txn);
	histogram_add(&db->h_commit, now_ns() - begun_ns);
	if (out_rev)
		*out_rev = rev;
	return 0;
}

int txn_commit_always(struct mvcc_txn *txn, const struct mvcc_story *story, mvcc_rev_t *out_rev)
{
	txn->always = true;
	return mvcc_txn_commit(txn, story, MVCC_COMMIT_WAIT, out_rev);
}
