/*
 * Changes from the side: of the live tree, made by others than its own operations: an undo, a restore, the commit of
 * a large transaction. They are transactions of the store over the rows of ns_row.h, and must not be committed but
 * here, as an open file may have data in no revision yet, and may be about to lose its inode.
 *
 * A handle sees the new content of its file with its next read. If the file is removed it keeps the object it had, as
 * after an unlink; so what is made again must get a new number (ns_new_ino()), never one that was there before. What
 * the kernel knows of the tree is the mount's business.
 */
#ifndef FS_NS_SIDE_H
#define FS_NS_SIDE_H

#include "fs/ns.h"

/*
 * Commits `txn`, which is taken whatever is returned, as one revision. All else stands still meanwhile: first every
 * file with data in no revision becomes one, so a transaction that has read what such a file changes meets a conflict.
 * Returns 0; MVCC_ECONFLICT: begin anew, as ns_side_run() does; or why a file could not be committed, or `txn`: then
 * nothing changed.
 */
int ns_side_commit(struct ns *ns, struct mvcc_txn *txn, const struct mvcc_story *story, mvcc_rev_t *rev);

/* The same, but if it fails the transaction lives on, whatever the error: to be tried again, or aborted. */
int ns_side_try(struct ns *ns, struct mvcc_txn *txn, const struct mvcc_story *story, mvcc_rev_t *rev);

/*
 * Makes a change: `fn` fills a fresh transaction, from what it reads there, and is called again after a conflict; in
 * the end with the tree standing still, so that writers who never rest do not keep it from succeeding. It must use
 * no operation of the live tree. If it returns anything but 0 that is returned, and nothing changed. `story` is looked
 * at after it. A transaction that changes nothing makes no revision: then `*rev` is the newest one.
 */
typedef int ns_side_fn(void *arg, struct mvcc_txn *txn);
int ns_side_run(struct ns *ns, ns_side_fn *fn, void *arg, const struct mvcc_story *story, mvcc_rev_t *rev);

/* The same with the tree standing still from the beginning: what `fn` finds, also without reading it in `txn`, stays so. */
int ns_side_run_still(struct ns *ns, ns_side_fn *fn, void *arg, const struct mvcc_story *story,
		      mvcc_rev_t *rev);

/*
 * The inodes that are open for writing: pages of theirs may be with the kernel alone, if they are mapped. Gives the
 * array.
 */
int ns_writers(struct ns *ns, uint64_t **out, size_t *n);

/* Commits every file that has data in no revision yet. The first error is returned; the others are still tried. */
int ns_settle_all(struct ns *ns);

/* The store itself has removed inodes (a lease ended): those of them that are open go on as after an unlink. */
void ns_side_removed(struct ns *ns);

/* A number for an inode, given once and never again. */
int ns_new_ino(struct ns *ns, uint64_t *out);

#endif
