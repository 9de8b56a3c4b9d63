/*
 * Named transactions: what the directories below @txn are. Each has a tree of its own (ns_bound.h) and is ended by
 * a commit, which makes one revision of it, or by an abort; whatever is open in it then is stale. They live in
 * memory alone: the end of the process drops them.
 */
#ifndef FS_NS_TXN_H
#define FS_NS_TXN_H

#include "fs/ns.h"

#define NS_TXNS_MAX 256                            /* open at a time */
#define NS_TXN_MESSAGE_MAX ((size_t)4096)          /* bytes of a message */
#define NS_TXN_CONFLICTS_BYTES ((size_t)256 << 10) /* of the list of conflicts; then it ends with "..." */

struct ns_txns;
struct ns_txn;

int ns_txns_new(struct ns *live, struct ns_txns **out);

/* Aborts what is open. Whoever still holds a transaction must not use it any more. Accepts NULL. */
void ns_txns_free(struct ns_txns *txns);

/*
 * Begins a transaction. `*out` (may be NULL) is held for the caller. Returns 0, or -EEXIST, -EINVAL for what is no
 * name of a file, -EPERM for one that begins with '@', or -EMLINK when there are too many.
 */
int ns_txn_begin(struct ns_txns *txns, struct slice name, const struct ns_who *who, struct ns_txn **out);

/* The open transaction of that name, held for the caller. -ENOENT. */
int ns_txn_find(struct ns_txns *txns, struct slice name, struct ns_txn **out);

/* The same, by the id that ns_txn_info() tells. */
int ns_txn_find_id(struct ns_txns *txns, uint64_t id, struct ns_txn **out);

void ns_txn_ref(struct ns_txn *t);
void ns_txn_unref(struct ns_txn *t); /* accepts NULL */

/* Only who began it, and root, may end it or change its message: 0 or -EPERM. */
int ns_txn_may(const struct ns_txn *t, uint32_t uid);

/*
 * The tree of the transaction, for this thread alone until ns_txn_leave(). NULL when it has ended; then there is
 * nothing to leave. Closing a file of it is allowed all the same, between ns_txn_enter_ended() and ns_txn_leave().
 */
struct ns *ns_txn_enter(struct ns_txn *t);
struct ns *ns_txn_enter_ended(struct ns_txn *t);
void ns_txn_leave(struct ns_txn *t);

/*
 * Makes one revision of all that was done. `*rev` (may be NULL): which, or the current one if nothing was. On any
 * error the transaction stays open. -ESTALE when it has ended, MVCC_ECONFLICT when others have changed what it read
 * or changed: ns_txn_conflicts() lists it then, and only what is left of the live tree can help (abort, begin anew).
 */
int ns_txn_commit(struct ns_txn *t, const struct ns_who *who, mvcc_rev_t *rev);

/* -ESTALE when it has ended. */
int ns_txn_abort(struct ns_txn *t);

/* What it will say in the log; replaced by each call. -EFBIG, or -EINVAL with a NUL in it. */
int ns_txn_set_message(struct ns_txn *t, struct slice text);
int ns_txn_message(struct ns_txn *t, struct buf *out);

/* The paths for which the last commit failed, a line each, '\\' and control characters as in C; empty before one has. */
int ns_txn_conflicts(struct ns_txn *t, struct buf *out);

/* What can be told of an open transaction. `name` is lent by it. */
struct ns_txn_info {
	struct slice name;
	uint64_t id;     /* never the same for two, in the life of the process */
	mvcc_rev_t base; /* it began with this revision */
	int64_t begun_ns;
	uint32_t uid, gid, pid; /* who began it */
	const char *comm;       /* lent */
	bool conflicts;         /* the last try to commit met some */
};
void ns_txn_info(struct ns_txn *t, struct ns_txn_info *out);

/* The open transactions, by name, each held for the caller, in an array for free(). */
int ns_txns_list(struct ns_txns *txns, struct ns_txn ***out, size_t *n);

#endif
