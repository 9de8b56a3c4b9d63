/*
 * A tree inside a transaction: every function of ns.h works on it, isolated from the live tree and from all others.
 * It serves one thread at a time, and its inodes have the numbers they have in the live tree. What it was begun
 * from is the newest revision of that moment, with all that closes had promised by then.
 *
 * What must still hold when it is committed: names it has changed or found free, rows it has changed, and the files
 * it has opened. Listing a directory, stat(2) and reading a link look at the moment of the beginning, and ask no more.
 */
#ifndef FS_NS_BOUND_H
#define FS_NS_BOUND_H

#include "fs/ns.h"

/* Begins. The live tree must outlive it. */
int ns_bound_open(struct ns *live, struct ns **out);

/*
 * Brings all that was done in it into its transaction, ready to be committed. It can go on after that. Fails, and goes
 * on failing, if a change had failed halfway.
 */
int ns_bound_settle(struct ns *ns);

/* The transaction. NULL once it has ended. */
struct mvcc_txn *ns_bound_txn(struct ns *ns);

/*
 * Ends it: the transaction is the caller's, to be committed, if the tree was settled, or aborted. Files may still be open: everything
 * on them fails with -ESTALE, but closing them.
 */
struct mvcc_txn *ns_bound_end(struct ns *ns);

/* Frees a tree that has ended, and of which no file is open. Accepts NULL. */
void ns_bound_free(struct ns *ns);

#endif
