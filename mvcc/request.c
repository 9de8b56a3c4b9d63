/*
 * Requests: checked as a whole before anything is done; then an optimistic transaction, anew from the first compare
 * on after each conflict.
 *
 * The compares come first, down through the branches that are taken, and make the tree of responses with a result
 * for each operation to come. The second walk does the operations and fills it. When the revision is known, it is
 * written into the rows that the request had put itself.
 */
#include "mvcc/request.h"

#include "mvcc/mvcc_int.h"
#include "mvcc/range.h"

#include <errno.h>
#include <stdlib.h>

#define TRIES_AT_ONCE 4u
#define PAUSE_NS_MIN 50000ul
#define PAUSE_DOUBLINGS 7u

/* ---- is it a request? --------------------------------------------------------------------- */

static int check_compare(const struct mvcc_compare *c)
{
	if ((unsigned)c->target > MVCC_LEASE || (unsigned)c->relation > MVCC_GREATER)
		return -EINVAL;
	return c->range || key_is_legal(c->key) ? 0 : -EINVAL;
}

static int check_put(const struct mvcc_put *put)
{
	bool keeps_value = put->flags & MVCC_PUT_KEEP_VALUE;

	if (!key_is_legal(put->key) || put->value.len > MVCC_VALUE_MAX ||
	    (put->flags & ~(unsigned)(MVCC_PUT_KEEP_VALUE | MVCC_PUT_KEEP_LEASE)))
		return -EINVAL;
	if (keeps_value && (put->value.len || put->nblobs))
		return -EINVAL;
	return (put->flags & MVCC_PUT_KEEP_LEASE) && put->lease ? -EINVAL : 0;
}

static int check_request(const struct mvcc_request *request, unsigned depth);

static int check_op(const struct mvcc_request_op *op, unsigned depth)
{
	switch (op->kind) {
	case MVCC_OP_PUT:
		return check_put(&op->put);
	case MVCC_OP_DELETE:
		return op->range || key_is_legal(op->start) ? 0 : -EINVAL;
	case MVCC_OP_RANGE:
		return op->range || key_is_legal(op->start) ? range_opt_check(&op->opt) : -EINVAL;
	case MVCC_OP_REQUEST:
		return op->request && depth < MVCC_REQUEST_DEPTH_MAX ? check_request(op->request, depth + 1) :
								       -EINVAL;
	}
	return -EINVAL;
}

static int check_request(const struct mvcc_request *request, unsigned depth)
{
	int err = 0;

	for (size_t i = 0; !err && i < request->ncompares; i++)
		err = check_compare(&request->compares[i]);
	for (size_t i = 0; !err && i < request->nthen; i++)
		err = check_op(&request->then_ops[i], depth);
	for (size_t i = 0; !err && i < request->nelse; i++)
		err = check_op(&request->else_ops[i], depth);
	return err;
}

/* ---- compares ----------------------------------------------------------------------------- */

/* Does an item (that of an absent key: zeroed) compare as is wanted? */
static bool holds(const struct mvcc_compare *c, const struct mvcc_item *item)
{
	uint64_t number = 0;
	int cmp;

	switch (c->target) {
	case MVCC_VALUE:
		break;
	case MVCC_CREATE:
		number = item->create_rev;
		break;
	case MVCC_MOD:
		number = item->mod_rev;
		break;
	case MVCC_VERSION:
		number = item->version;
		break;
	case MVCC_LEASE:
		number = item->lease;
		break;
	}
	cmp = c->target == MVCC_VALUE ? slice_cmp(item->value, c->value) :
					(number > c->number) - (number < c->number);
	switch (c->relation) {
	case MVCC_EQUAL:
		return cmp == 0;
	case MVCC_NOT_EQUAL:
		return cmp != 0;
	case MVCC_LESS:
		return cmp < 0;
	case MVCC_GREATER:
		break;
	}
	return cmp > 0;
}

static bool absence_holds(const struct mvcc_compare *c)
{
	return c->target != MVCC_VALUE && holds(c, &(struct mvcc_item){ 0 });
}

static int compare_key(struct mvcc_txn *txn, const struct mvcc_compare *c, bool *out)
{
	struct mvcc_item item = { 0 };
	int err = mvcc_txn_get(txn, c->key, &item);

	if (err && err != -ENOENT)
		return err;
	*out = err ? absence_holds(c) : holds(c, &item);
	mvcc_item_release(&item);
	return 0;
}

static int compare_range(struct mvcc_txn *txn, const struct mvcc_compare *c, bool *out)
{
	const struct mvcc_item *item;
	struct mvcc_cursor *cursor;
	struct slice key;
	bool any = false;
	int got, err = mvcc_txn_cursor_open(txn, c->key, c->end, &cursor);

	if (err)
		return err;
	*out = true;
	while (*out && (got = mvcc_cursor_next(cursor, &key, &item)) == 1) {
		any = true;
		*out = holds(c, item);
	}
	mvcc_cursor_close(cursor);
	if (*out && got < 0)
		return got;
	if (!any)
		*out = absence_holds(c);
	return 0;
}

static const struct mvcc_request_op *branch_of(const struct mvcc_request *request, bool succeeded, size_t *n)
{
	*n = succeeded ? request->nthen : request->nelse;
	return succeeded ? request->then_ops : request->else_ops;
}

/* Compares, here and below, and makes the results to be filled. After an error release what there is. */
static int judge(struct mvcc_txn *txn, const struct mvcc_request *request, struct mvcc_response *out)
{
	const struct mvcc_request_op *ops;
	bool good = true;
	size_t n;
	int err = 0;

	for (size_t i = 0; !err && good && i < request->ncompares; i++)
		err = request->compares[i].range ? compare_range(txn, &request->compares[i], &good) :
						   compare_key(txn, &request->compares[i], &good);
	if (err)
		return err;
	out->succeeded = good;
	ops = branch_of(request, good, &n);
	out->results = n ? calloc(n, sizeof(out->results[0])) : NULL;
	if (n && !out->results)
		return -ENOMEM;
	out->nresults = n;
	for (size_t i = 0; !err && i < n; i++) {
		out->results[i].kind = ops[i].kind;
		if (ops[i].kind != MVCC_OP_REQUEST)
			continue;
		out->results[i].response = calloc(1, sizeof(*out->results[i].response));
		err = out->results[i].response ? judge(txn, ops[i].request, out->results[i].response) :
						 -ENOMEM;
	}
	return err;
}

/* ---- operations --------------------------------------------------------------------------- */

/* A range of one key, by a get: that reads, and validates, less. */
static int range_of_key(struct mvcc_txn *txn, struct slice key, const struct mvcc_range_opt *opt,
			struct mvcc_rows *out)
{
	struct mvcc_item item = { 0 };
	struct gather gather;
	int err = mvcc_txn_get(txn, key, &item);

	if (err && err != -ENOENT)
		return err;
	gather_init(&gather, opt);
	err = err ? 0 : gather_add(&gather, key, &item);
	mvcc_item_release(&item);
	if (err < 0)
		gather_release(&gather);
	else
		gather_finish(&gather, out);
	return err < 0 ? err : 0;
}

static int do_put(struct mvcc_txn *txn, const struct mvcc_request_op *op, struct mvcc_result *out)
{
	int err = op->prev ? range_of_key(txn, op->put.key, NULL, &out->rows) : 0;

	return err ? err : mvcc_txn_put_with(txn, &op->put);
}

static int delete_key(struct mvcc_txn *txn, const struct mvcc_request_op *op, struct mvcc_result *out)
{
	const struct mvcc_range_opt count = { .flags = MVCC_RANGE_COUNT_ONLY };
	struct mvcc_rows rows = { 0 };
	int err = range_of_key(txn, op->start, op->prev ? NULL : &count, &rows);

	if (err)
		return err;
	out->deleted = op->prev ? rows.n : rows.count;
	if (op->prev)
		out->rows = rows;
	return out->deleted ? mvcc_txn_del(txn, op->start) : 0;
}

static int do_delete(struct mvcc_txn *txn, const struct mvcc_request_op *op, struct mvcc_result *out)
{
	int err = 0;

	if (!op->range)
		return delete_key(txn, op, out);
	if (op->prev)
		err = mvcc_txn_range(txn, op->start, op->end, NULL, &out->rows);
	return err ? err : mvcc_txn_del_range(txn, op->start, op->end, &out->deleted);
}

/* Does the branch taken. `*wrote`: something that may be a change. */
static int apply(struct mvcc_txn *txn, const struct mvcc_request *request, struct mvcc_response *response,
		 bool *wrote)
{
	size_t n;
	const struct mvcc_request_op *ops = branch_of(request, response->succeeded, &n);
	int err = 0;

	for (size_t i = 0; !err && i < n; i++) {
		struct mvcc_result *result = &response->results[i];

		switch (ops[i].kind) {
		case MVCC_OP_PUT:
			*wrote = true;
			err = do_put(txn, &ops[i], result);
			break;
		case MVCC_OP_DELETE:
			err = do_delete(txn, &ops[i], result);
			*wrote |= result->deleted > 0;
			break;
		case MVCC_OP_RANGE:
			err = ops[i].range ? mvcc_txn_range(txn, ops[i].start, ops[i].end, &ops[i].opt,
							    &result->rows) :
					     range_of_key(txn, ops[i].start, &ops[i].opt, &result->rows);
			break;
		case MVCC_OP_REQUEST:
			err = apply(txn, ops[i].request, result->response, wrote);
			break;
		}
	}
	return err;
}

/* ---- the response ------------------------------------------------------------------------- */

static void tell_rev(struct mvcc_response *response, mvcc_rev_t rev)
{
	response->rev = rev;
	for (size_t i = 0; i < response->nresults; i++) {
		struct mvcc_rows *rows = &response->results[i].rows;

		for (size_t j = 0; j < rows->n; j++) {
			struct mvcc_item *item = &rows->rows[j].item;

			item->mod_rev = item->mod_rev ? item->mod_rev : rev;
			item->create_rev = item->create_rev ? item->create_rev : rev;
		}
		if (response->results[i].response)
			tell_rev(response->results[i].response, rev);
	}
}

void mvcc_response_release(struct mvcc_response *response)
{
	for (size_t i = 0; i < response->nresults; i++) {
		mvcc_rows_release(&response->results[i].rows);
		if (response->results[i].response)
			mvcc_response_release(response->results[i].response);
		free(response->results[i].response);
	}
	free(response->results);
	*response = (struct mvcc_response){ 0 };
}

/* ---- the whole ---------------------------------------------------------------------------- */

static int try_request(struct mvcc *db, const struct mvcc_request *request, const struct mvcc_story *story,
		       struct mvcc_response *out)
{
	struct mvcc_txn *txn;
	mvcc_rev_t rev;
	bool wrote = false;
	int err = mvcc_txn_begin(db, &txn);

	if (err)
		return err;
	rev = mvcc_txn_rev(txn);
	err = judge(txn, request, out);
	if (!err)
		err = apply(txn, request, out, &wrote);
	if (err || !wrote) /* what only read needs no judging: it all stood so at one revision */
		mvcc_txn_abort(txn);
	else
		err = mvcc_txn_commit(txn, story, MVCC_COMMIT_WAIT, &rev);
	if (!err)
		tell_rev(out, rev);
	return err;
}

/* Lets others go first; for a random time, so that those who met do not come back all at once. */
static void pause_after(unsigned tries)
{
	unsigned doublings = tries - TRIES_AT_ONCE;
	uint64_t most = PAUSE_NS_MIN << (doublings < PAUSE_DOUBLINGS ? doublings : PAUSE_DOUBLINGS);
	uint64_t seed = now_ns() * 0x9e3779b97f4a7c15u;
	struct timespec pause = { .tv_nsec = (long)((seed >> 32) % most) };

	nanosleep(&pause, NULL);
}

int mvcc_execute(struct mvcc *db, const struct mvcc_request *request, const struct mvcc_story *story,
		 struct mvcc_response *out)
{
	struct mvcc_response response = { 0 };
	int err = check_request(request, 0);

	for (unsigned tries = 1; !err; tries++) {
		err = try_request(db, request, story, &response);
		if (!err)
			break;
		mvcc_response_release(&response);
		if (err == MVCC_ECONFLICT)
			err = 0;
		if (!err && tries >= TRIES_AT_ONCE)
			pause_after(tries);
	}
	if (!err)
		*out = response;
	return err;
}
