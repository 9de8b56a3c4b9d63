/*
 * Requests: a whole transaction told in one piece, as etcd's Txn: if all compares hold, do these operations, else
 * those. All compares, nested ones too, look at the state before the request; the operations run in order and see
 * what those before them did. It is an optimistic transaction underneath, repeated until it meets no conflict, so
 * there is no limit to the number of operations or bytes, and the same key may be changed more than once.
 */
#ifndef MVCC_REQUEST_H
#define MVCC_REQUEST_H

#include "mvcc/mvcc.h"

enum mvcc_target { MVCC_VALUE, MVCC_CREATE, MVCC_MOD, MVCC_VERSION, MVCC_LEASE };
enum mvcc_relation { MVCC_EQUAL, MVCC_NOT_EQUAL, MVCC_LESS, MVCC_GREATER };

/*
 * One key, or with `range` every key of start <= k < end (an empty end: to the last key). An absent key has zeros for
 * numbers; a compare of its value does not hold, whatever the relation. A range that is empty is compared like one
 * absent key, as etcd has it.
 */
struct mvcc_compare {
	enum mvcc_target target;
	enum mvcc_relation relation;
	struct slice key; /* or the start of the range */
	bool range;
	struct slice end;
	struct slice value; /* MVCC_VALUE: in the order of bytes */
	uint64_t number;    /* the others */
};

struct mvcc_request;

struct mvcc_request_op {
	enum mvcc_request_kind { MVCC_OP_PUT, MVCC_OP_DELETE, MVCC_OP_RANGE, MVCC_OP_REQUEST } kind;
	struct mvcc_put put; /* PUT */
	struct slice start;  /* DELETE, RANGE: one key, or with `range` start <= k < end */
	bool range;
	struct slice end;
	struct mvcc_range_opt opt;          /* RANGE */
	bool prev;                          /* PUT, DELETE: give what was there before */
	const struct mvcc_request *request; /* REQUEST: nested */
};

struct mvcc_request {
	const struct mvcc_compare *compares;
	size_t ncompares;
	const struct mvcc_request_op *then_ops;
	size_t nthen;
	const struct mvcc_request_op *else_ops;
	size_t nelse;
};

struct mvcc_response;

/* What one operation gave. */
struct mvcc_result {
	enum mvcc_request_kind kind;
	struct mvcc_rows rows;          /* RANGE: the result; PUT, DELETE with `prev`: what was there */
	uint64_t deleted;               /* DELETE: how many keys */
	struct mvcc_response *response; /* REQUEST */
};

struct mvcc_response {
	bool succeeded;  /* the compares held, so `then` was done */
	mvcc_rev_t rev;  /* the revision it made or, if it changed nothing, the one it read at */
	size_t nresults; /* one for each operation of the branch taken */
	struct mvcc_result *results;
};

#define MVCC_REQUEST_DEPTH_MAX 16u /* of nested requests */

/*
 * Does a request. On 0 release `*out` by mvcc_response_release(). A request whose branch has nothing but ranges, or
 * changes nothing, takes no revision. Returns 0, or
 *   -EINVAL        nested too deep, or a key, value or option that its operation forbids (a value or lease beside
 *                  the flag that keeps the old one is forbidden, too); nothing was done
 *   MVCC_ENOLEASE  put with a lease that does not exist; nothing was done
 *   -ENOENT        MVCC_PUT_KEEP_VALUE or _KEEP_LEASE of an absent key; nothing was done
 *   or what a commit says.
 */
MVCC_API int mvcc_execute(struct mvcc *db, const struct mvcc_request *request, const struct mvcc_story *story,
			  struct mvcc_response *out);
MVCC_API void mvcc_response_release(struct mvcc_response *response); /* accepts a zeroed one */

#endif
