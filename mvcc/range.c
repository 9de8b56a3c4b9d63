/*
 * Ranges: the rows of a cursor, those that match, in the order that is asked for. A transaction's own rows, whose
 * revision is not known yet, count as newer than all others.
 */
#include "mvcc/range.h"

#include <errno.h>
#include <stdlib.h>

/* ---- which rows, in which order ----------------------------------------------------------- */

int range_opt_check(const struct mvcc_range_opt *opt)
{
	const unsigned known =
		MVCC_RANGE_COUNT | MVCC_RANGE_COUNT_ONLY | MVCC_RANGE_KEYS | MVCC_RANGE_DESCENDING;

	if (!opt)
		return 0;
	return (opt->flags & ~known) || (unsigned)opt->sort > MVCC_SORT_VALUE ? -EINVAL : 0;
}

static mvcc_rev_t rev_rank(mvcc_rev_t rev)
{
	return rev ? rev : UINT64_MAX;
}

static bool is_within(mvcc_rev_t rev, mvcc_rev_t min, mvcc_rev_t max)
{
	return rev_rank(rev) >= min && (max == 0 || rev_rank(rev) <= max);
}

static int number_cmp(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

/* Does a row stand behind (> 0) or before (< 0) another? Those that sort alike are in key order. */
static int row_cmp(const struct gather *g, struct slice key_a, const struct mvcc_item *a, struct slice key_b,
		   const struct mvcc_item *b)
{
	int cmp = 0;

	switch (g->opt.sort) {
	case MVCC_SORT_KEY:
		cmp = slice_cmp(key_a, key_b);
		break;
	case MVCC_SORT_VERSION:
		cmp = number_cmp(a->version, b->version);
		break;
	case MVCC_SORT_CREATE:
		cmp = number_cmp(rev_rank(a->create_rev), rev_rank(b->create_rev));
		break;
	case MVCC_SORT_MOD:
		cmp = number_cmp(rev_rank(a->mod_rev), rev_rank(b->mod_rev));
		break;
	case MVCC_SORT_VALUE:
		cmp = slice_cmp(a->value, b->value);
		break;
	}
	if (g->opt.flags & MVCC_RANGE_DESCENDING)
		cmp = -cmp;
	return cmp ? cmp : slice_cmp(key_a, key_b);
}

static bool is_behind(const struct gather *g, const struct mvcc_row *a, const struct mvcc_row *b)
{
	return row_cmp(g, slice_buf(&a->key), &a->item, slice_buf(&b->key), &b->item) > 0;
}

/* ---- the heap: a row is never before those below it --------------------------------------- */

static void rows_swap(struct mvcc_row *a, struct mvcc_row *b)
{
	struct mvcc_row was = *a;

	*a = *b;
	*b = was;
}

static void sift_up(const struct gather *g, size_t at)
{
	struct mvcc_row *rows = g->rows.rows;

	while (at > 0 && is_behind(g, &rows[at], &rows[(at - 1) / 2])) {
		rows_swap(&rows[at], &rows[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
}

static void sift_down(const struct gather *g, size_t n)
{
	struct mvcc_row *rows = g->rows.rows;
	size_t at = 0, child;

	while ((child = 2 * at + 1) < n) {
		if (child + 1 < n && is_behind(g, &rows[child + 1], &rows[child]))
			child++;
		if (!is_behind(g, &rows[child], &rows[at]))
			return;
		rows_swap(&rows[child], &rows[at]);
		at = child;
	}
}

/* ---- copies ------------------------------------------------------------------------------- */

static void item_strip(struct mvcc_item *item)
{
	item->value = slice_of(NULL, 0);
	item->blobs = NULL;
	item->nblobs = 0;
}

/* Replaces what `out` holds, and uses its memory again. */
static int item_copy(struct mvcc_item *out, const struct mvcc_item *item)
{
	size_t blob_bytes = item->nblobs * sizeof(item->blobs[0]);
	struct mvcc_item copy = *item;
	int err;

	copy.own = out->own;
	buf_clear(&copy.own);
	err = buf_reserve(&copy.own, blob_bytes + item->value.len);
	if (!err)
		err = buf_put(&copy.own, item->blobs, blob_bytes);
	if (!err)
		err = buf_put_slice(&copy.own, item->value);
	copy.blobs = (const mvcc_blob_t *)(const void *)copy.own.data;
	copy.value = slice_of(blob_bytes ? copy.own.data + blob_bytes : copy.own.data, item->value.len);
	*out = copy;
	return err;
}

static int row_copy(const struct gather *g, struct mvcc_row *row, struct slice key,
		    const struct mvcc_item *item)
{
	struct mvcc_item bare = *item;
	int err = buf_copy(&row->key, key);

	if ((g->opt.flags & MVCC_RANGE_KEYS) && g->opt.sort == MVCC_SORT_VALUE)
		bare.nblobs = 0; /* the value is needed until all are sorted */
	else if (g->opt.flags & MVCC_RANGE_KEYS)
		item_strip(&bare);
	return err ? err : item_copy(&row->item, &bare);
}

static void row_release(struct mvcc_row *row)
{
	buf_release(&row->key);
	mvcc_item_release(&row->item);
}

void mvcc_rows_release(struct mvcc_rows *rows)
{
	for (size_t i = 0; i < rows->n; i++)
		row_release(&rows->rows[i]);
	free(rows->rows);
	*rows = (struct mvcc_rows){ 0 };
}

/* ---- gathering ---------------------------------------------------------------------------- */

void gather_init(struct gather *g, const struct mvcc_range_opt *opt)
{
	*g = (struct gather){ 0 };
	if (opt)
		g->opt = *opt;
	g->in_key_order = g->opt.sort == MVCC_SORT_KEY && !(g->opt.flags & MVCC_RANGE_DESCENDING);
}

static int keep_one_more(struct gather *g, struct slice key, const struct mvcc_item *item)
{
	struct mvcc_row row = { 0 };
	int err;

	if (g->rows.n == g->cap) {
		size_t cap = g->cap ? 2 * g->cap : 16;
		struct mvcc_row *grown = realloc(g->rows.rows, cap * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		g->rows.rows = grown;
		g->cap = cap;
	}
	err = row_copy(g, &row, key, item);
	if (err) {
		row_release(&row);
		return err;
	}
	g->rows.rows[g->rows.n++] = row;
	if (!g->in_key_order)
		sift_up(g, g->rows.n - 1);
	return 0;
}

/* Puts the row in the place of the one that stands last, unless it stands behind it itself. */
static int keep_instead(struct gather *g, struct slice key, const struct mvcc_item *item)
{
	struct mvcc_row *last = &g->rows.rows[0];
	int err;

	if (row_cmp(g, key, item, slice_buf(&last->key), &last->item) > 0)
		return 0;
	err = row_copy(g, last, key, item);
	if (!err)
		sift_down(g, g->rows.n);
	return err;
}

int gather_add(struct gather *g, struct slice key, const struct mvcc_item *item)
{
	const struct mvcc_range_opt *opt = &g->opt;

	if (!is_within(item->mod_rev, opt->min_mod, opt->max_mod) ||
	    !is_within(item->create_rev, opt->min_create, opt->max_create))
		return 0;
	g->matched++;
	if (opt->flags & MVCC_RANGE_COUNT_ONLY)
		return 0;
	if (!opt->limit || g->rows.n < opt->limit)
		return keep_one_more(g, key, item);
	g->rows.more = true;
	if (!g->in_key_order)
		return keep_instead(g, key, item);
	return opt->flags & MVCC_RANGE_COUNT ? 0 : 1;
}

void gather_finish(struct gather *g, struct mvcc_rows *out)
{
	bool all_counted = g->opt.flags & (MVCC_RANGE_COUNT | MVCC_RANGE_COUNT_ONLY);

	for (size_t n = g->in_key_order ? 0 : g->rows.n; n > 1; n--) {
		rows_swap(&g->rows.rows[0], &g->rows.rows[n - 1]);
		sift_down(g, n - 1);
	}
	if (g->opt.flags & MVCC_RANGE_KEYS) {
		for (size_t i = 0; i < g->rows.n; i++) {
			item_strip(&g->rows.rows[i].item);
			buf_release(&g->rows.rows[i].item.own);
		}
	}
	g->rows.count = all_counted ? g->matched : g->rows.n;
	*out = g->rows;
	g->rows = (struct mvcc_rows){ 0 };
}

void gather_release(struct gather *g)
{
	mvcc_rows_release(&g->rows);
}

/* Takes the cursor. */
static int range_of(struct mvcc_cursor *c, const struct mvcc_range_opt *opt, struct mvcc_rows *out)
{
	const struct mvcc_item *item;
	struct gather gather;
	struct slice key;
	int got, err = 0;

	gather_init(&gather, opt);
	while ((got = mvcc_cursor_next(c, &key, &item)) == 1) {
		err = gather_add(&gather, key, item);
		if (err)
			break;
	}
	mvcc_cursor_close(c);
	err = got < 0 ? got : err;
	if (err < 0) {
		gather_release(&gather);
		return err;
	}
	gather_finish(&gather, out);
	return 0;
}

int mvcc_range(struct mvcc_view *view, struct slice start, struct slice end, const struct mvcc_range_opt *opt,
	       struct mvcc_rows *out)
{
	struct mvcc_cursor *c;
	int err = range_opt_check(opt);

	if (!err)
		err = mvcc_cursor_open(view, start, end, &c);
	return err ? err : range_of(c, opt, out);
}

int mvcc_txn_range(struct mvcc_txn *txn, struct slice start, struct slice end,
		   const struct mvcc_range_opt *opt, struct mvcc_rows *out)
{
	struct mvcc_cursor *c;
	int err = range_opt_check(opt);

	if (!err)
		err = mvcc_txn_cursor_open(txn, start, end, &c);
	return err ? err : range_of(c, opt, out);
}
