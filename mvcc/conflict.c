/*
 * What keeps a transaction from committing: all that validation looks at, compared between the base and the newest
 * revision. commit.c, which is content with the first difference, shares the comparison of ranges.
 */
#include "mvcc/txn_int.h"

#include <errno.h>

/* ---- ranges ------------------------------------------------------------------------------- */

/* Two cursors over one range, each on a row or at its end. */
struct both {
	struct mvcc_cursor *c[2];
	struct slice key[2];
	const struct mvcc_item *item[2];
	int got[2];
};

static int step(struct both *b, unsigned which)
{
	b->got[which] = mvcc_cursor_next(b->c[which], &b->key[which], &b->item[which]);
	return b->got[which] < 0 ? b->got[which] : 0;
}

/* Tells of the row that comes next if it differs, and steps over it. 0, or what `fn` or a cursor says. */
static int compare_next(struct both *b, txn_differs_fn *fn, void *arg)
{
	int cmp = b->got[0] && b->got[1] ? slice_cmp(b->key[0], b->key[1]) : b->got[0] ? -1 : 1;
	mvcc_rev_t was = cmp <= 0 ? b->item[0]->mod_rev : 0;
	mvcc_rev_t now = cmp >= 0 ? b->item[1]->mod_rev : 0;
	int err = was == now ? 0 : fn(arg, b->key[cmp > 0], was, now);

	if (!err && cmp <= 0)
		err = step(b, 0);
	if (!err && cmp >= 0)
		err = step(b, 1);
	return err;
}

int txn_range_compare(struct mvcc *db, const struct txn_range *range, mvcc_rev_t base, mvcc_rev_t rev,
		      txn_differs_fn *fn, void *arg)
{
	const mvcc_rev_t revs[2] = { base, rev };
	struct both b = { .got = { 0 } };
	struct buf end = { 0 };
	int err;

	if (!range->whole && !range->started)
		return 0;
	err = buf_copy(&end, slice_buf(range->whole ? &range->end : &range->upto));
	if (!err && !range->whole)
		err = buf_put_u8(&end, 0); /* the first key after upto */
	for (unsigned i = 0; !err && i < 2; i++) {
		err = cursor_open(db, revs[i], NULL, NULL, slice_buf(&range->start), slice_buf(&end),
				  &b.c[i]);
		if (!err)
			err = step(&b, i);
	}
	while (!err && (b.got[0] || b.got[1]))
		err = compare_next(&b, fn, arg);
	mvcc_cursor_close(b.c[0]);
	mvcc_cursor_close(b.c[1]);
	buf_release(&end);
	return err;
}

/* ---- telling ------------------------------------------------------------------------------ */

struct telling {
	struct mvcc_txn *txn;
	struct mvcc_view *now;
	int (*fn)(void *arg, const struct mvcc_conflict *conflict);
	void *arg;
	const struct txn_range *range; /* the one at hand */
};

static int tell_range(void *arg, struct slice key, mvcc_rev_t was, mvcc_rev_t now)
{
	const struct telling *t = arg;

	return t->fn(t->arg, &(struct mvcc_conflict){ .kind = MVCC_CONFLICT_RANGE,
						      .key = key,
						      .start = slice_buf(&t->range->start),
						      .end = slice_buf(&t->range->end),
						      .base_rev = was,
						      .now_rev = now });
}

/* All that is there now and that the transaction does not delete. */
static int tell_occupied(struct telling *t)
{
	struct slice start = slice_buf(&t->range->start), end = slice_buf(&t->range->end);
	const struct mvcc_item *item;
	struct mvcc_cursor *c;
	struct slice key;
	int got, err = mvcc_cursor_open(t->now, start, end, &c);

	if (err)
		return err;
	while (!err && (got = mvcc_cursor_next(c, &key, &item)) != 0) {
		struct mvcc_conflict conflict = {
			.kind = MVCC_CONFLICT_EMPTY, .key = key, .start = start, .end = end
		};
		struct header header;

		err = got < 0 ? got : txn_deletes(t->txn, key);
		if (err == 1) {
			err = 0;
			continue;
		}
		conflict.now_rev = err ? 0 : item->mod_rev;
		if (!err)
			err = header_at(t->txn->db, t->txn->view->rev, key, &header);
		conflict.base_rev = err ? 0 : header.mod;
		if (!err)
			err = t->fn(t->arg, &conflict);
	}
	mvcc_cursor_close(c);
	return err;
}

static int tell_ranges(struct telling *t)
{
	int err = 0;

	for (t->range = t->txn->ranges; !err && t->range; t->range = t->range->next)
		err = t->range->guard ? tell_occupied(t) :
					txn_range_compare(t->txn->db, t->range, t->txn->view->rev,
							  t->now->rev, tell_range, t);
	return err;
}

static int tell_key(struct telling *t, enum mvcc_conflict_kind kind, struct slice key, mvcc_rev_t was,
		    mvcc_rev_t now)
{
	return t->fn(t->arg,
		     &(struct mvcc_conflict){ .kind = kind, .key = key, .base_rev = was, .now_rev = now });
}

static int tell_reads(struct telling *t)
{
	struct mem_node *node = t->txn->reads.head ? memtable_first(&t->txn->reads) : NULL;
	int err = 0;

	for (; !err && node; node = memtable_next(node)) {
		const struct txn_read *read = read_of(node);
		struct header now;

		if (!read->validate && !read->must_exist)
			continue;
		err = header_at(t->txn->db, t->now->rev, node->key, &now);
		if (!err && read->validate && now.mod != read->header.mod)
			err = tell_key(t, MVCC_CONFLICT_READ, node->key, read->header.mod, now.mod);
		else if (!err && read->must_exist && !now.exists)
			err = tell_key(t, MVCC_CONFLICT_EXISTS, node->key, read->header.mod, 0);
	}
	return err;
}

static int tell_written(struct mvcc_txn *txn, const struct op *op, void *arg)
{
	struct telling *t = arg;
	struct header now;
	int err = header_at(txn->db, t->now->rev, op->key, &now);

	return err || now.mod == op->prev ? err :
					    tell_key(t, MVCC_CONFLICT_WRITE, op->key, op->prev, now.mod);
}

/* Of a transaction that was spilled, what is in memory will be in the run, and validated, too. */
static int tell_writes(struct telling *t)
{
	struct mvcc_txn *txn = t->txn;
	int err;

	if (!txn->run)
		return 0;
	for (struct mem_node *node = memtable_first(&txn->writes->mt); node; node = memtable_next(node)) {
		struct txn_write *w = write_of(node);
		struct op op = { .key = node->key };

		err = w->what == WRITE_NONE ? 1 : run_holds(txn, node->key);
		if (err == 1) /* told by its row, or not validated */
			continue;
		if (!err)
			err = txn_write_header(txn, node->key, w);
		op.prev = w->header.mod;
		if (!err)
			err = tell_written(txn, &op, t);
		if (err)
			return err;
	}
	return run_each_row(txn, tell_written, t);
}

static int tell_broken(const struct telling *t)
{
	int err = 0;

	for (const struct txn_broken *b = t->txn->broken; !err && b; b = b->next)
		err = t->fn(t->arg,
			    &(struct mvcc_conflict){
				    .kind = b->range ? MVCC_CONFLICT_EMPTY : MVCC_CONFLICT_EXISTS,
				    .own = true,
				    .key = slice_buf(&b->key),
				    .start = b->range ? slice_buf(&b->range->start) : slice_of(NULL, 0),
				    .end = b->range ? slice_buf(&b->range->end) : slice_of(NULL, 0),
			    });
	return err;
}

int mvcc_txn_conflicts(struct mvcc_txn *txn, int (*fn)(void *arg, const struct mvcc_conflict *conflict),
		       void *arg)
{
	struct telling t = { .txn = txn, .fn = fn, .arg = arg };
	int err = txn->err;

	if (!err)
		err = mvcc_view_open(txn->db, MVCC_REV_LATEST, &t.now);
	if (err)
		return err;
	err = tell_broken(&t);
	if (!err)
		err = tell_reads(&t);
	if (!err)
		err = tell_writes(&t);
	if (!err)
		err = tell_ranges(&t);
	mvcc_view_close(t.now);
	return err;
}
