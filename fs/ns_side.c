#include "fs/ns_side.h"
#include "fs/ns_int.h"

#include <errno.h>
#include <stdlib.h>

enum {
	TRIES_FREE = 4, /* then the tree stands still from the first read on */
	TRIES_MAX = 1000,
};

int ns_new_ino(struct ns *ns, uint64_t *out)
{
	return new_ino(ns, out);
}

/* ---- standing still ---------------------------------------------------------------------------- */

/* In rising order, as everybody takes them. */
static void freeze(struct ns *ns)
{
	for (unsigned i = 0; i < NS_STRIPES; i++)
		pthread_rwlock_wrlock(&ns->stripes[i]);
}

static void thaw(struct ns *ns)
{
	for (unsigned i = NS_STRIPES; i > 0; i--)
		pthread_rwlock_unlock(&ns->stripes[i - 1]);
}

/* A dirty inode, with a reference; NULL if there is none. */
static struct ns_inode *next_dirty(struct ns *ns)
{
	struct ns_inode *n;

	pthread_mutex_lock(&ns->table_lock);
	n = ns->dirty;
	if (n)
		n->refs++;
	pthread_mutex_unlock(&ns->table_lock);
	return n;
}

static int settle_locked(struct ns *ns)
{
	struct ns_inode *n;
	int err = 0;

	while (!err && (n = next_dirty(ns))) {
		err = inode_commit_locked(n, NULL);
		inode_put(n);
	}
	return err;
}

/* All inodes in the table, each with a reference. */
static int hold_all(struct ns *ns, struct ns_inode ***out, size_t *n)
{
	struct ns_inode **all;
	size_t got = 0;

	pthread_mutex_lock(&ns->table_lock);
	all = calloc(ns->ninodes + 1, sizeof(struct ns_inode *));
	for (unsigned i = 0; all && i < NS_BUCKETS; i++)
		for (struct ns_inode *p = ns->table[i]; p; p = p->next) {
			p->refs++;
			all[got++] = p;
		}
	pthread_mutex_unlock(&ns->table_lock);
	if (!all)
		return -ENOMEM;
	*out = all;
	*n = got;
	return 0;
}

static void put_all(struct ns_inode **all, size_t n)
{
	while (n)
		inode_put(all[--n]);
	free(all);
}

/* Commits under the locks of all, and keeps `txn` if that fails; `open` are the inodes that may be gone then. */
static int commit_frozen(struct ns *ns, struct mvcc_txn *txn, const struct mvcc_story *story, mvcc_rev_t *rev)
{
	struct ns_inode **open = NULL;
	size_t n = 0;
	int err = hold_all(ns, &open, &n); /* before: afterwards nothing may fail any more */

	if (err)
		return err;
	err = mvcc_txn_commit(txn, story, MVCC_COMMIT_KEEP | MVCC_COMMIT_KEEP_CONFLICT, rev);
	if (!err) {
		for (size_t i = 0; i < n; i++)
			inode_notice_locked(open[i]);
		paths_forget(ns);
	}
	put_all(open, n);
	return err;
}

/* ---- the changes ------------------------------------------------------------------------------- */

int ns_side_try(struct ns *ns, struct mvcc_txn *txn, const struct mvcc_story *story, mvcc_rev_t *rev)
{
	int err;

	freeze(ns);
	err = settle_locked(ns);
	if (!err)
		err = commit_frozen(ns, txn, story, rev);
	thaw(ns);
	return err;
}

int ns_side_commit(struct ns *ns, struct mvcc_txn *txn, const struct mvcc_story *story, mvcc_rev_t *rev)
{
	int err = ns_side_try(ns, txn, story, rev);

	if (err)
		mvcc_txn_abort(txn);
	return err;
}

/* Begins a transaction, and has it filled. */
static int fill(struct ns *ns, ns_side_fn *fn, void *arg, struct mvcc_txn **out)
{
	struct mvcc_txn *txn;
	int err = mvcc_txn_begin(ns->db, &txn);

	if (err)
		return err;
	err = fn(arg, txn);
	if (err)
		mvcc_txn_abort(txn);
	else
		*out = txn;
	return err;
}

int ns_side_run_still(struct ns *ns, ns_side_fn *fn, void *arg, const struct mvcc_story *story,
		      mvcc_rev_t *rev)
{
	struct mvcc_txn *txn;
	int err;

	freeze(ns);
	err = settle_locked(ns);
	if (!err)
		err = fill(ns, fn, arg, &txn);
	if (!err) {
		err = commit_frozen(ns, txn, story, rev);
		if (err)
			mvcc_txn_abort(txn);
	}
	thaw(ns);
	return err;
}

int ns_side_run(struct ns *ns, ns_side_fn *fn, void *arg, const struct mvcc_story *story, mvcc_rev_t *rev)
{
	struct mvcc_txn *txn;
	int err = MVCC_ECONFLICT;

	for (unsigned try = 0; try < TRIES_MAX && err == MVCC_ECONFLICT; try++) {
		if (try >= TRIES_FREE) {
			err = ns_side_run_still(ns, fn, arg, story, rev);
			continue;
		}
		err = ns_settle_all(ns); /* so that it is seen; what comes now is settled by the commit */
		if (!err)
			err = fill(ns, fn, arg, &txn);
		if (!err)
			err = ns_side_commit(ns, txn, story, rev);
	}
	return err;
}

int ns_writers(struct ns *ns, uint64_t **out, size_t *n)
{
	struct ns_inode **all;
	size_t nall, found = 0;
	uint64_t *inos;
	int err = hold_all(ns, &all, &nall);

	if (err)
		return err;
	inos = calloc(nall + 1, sizeof(*inos));
	for (size_t i = 0; inos && i < nall; i++) {
		pthread_rwlock_t *lock = stripe_of(ns, all[i]->ino);

		pthread_rwlock_rdlock(lock);
		if (all[i]->writers)
			inos[found++] = all[i]->ino;
		pthread_rwlock_unlock(lock);
	}
	put_all(all, nall);
	if (!inos)
		return -ENOMEM;
	*out = inos;
	*n = found;
	return 0;
}

int ns_settle_all(struct ns *ns)
{
	struct ns_inode **all;
	size_t n;
	int first = 0, err = hold_all(ns, &all, &n);

	if (err)
		return err;
	for (size_t i = 0; i < n; i++) {
		pthread_rwlock_t *lock = stripe_of(ns, all[i]->ino);

		pthread_rwlock_wrlock(lock);
		err = inode_commit_locked(all[i], NULL);
		pthread_rwlock_unlock(lock);
		if (err && !first)
			first = err;
	}
	put_all(all, n);
	return first;
}

void ns_side_removed(struct ns *ns)
{
	struct ns_inode **all;
	size_t n;

	if (hold_all(ns, &all, &n))
		return; /* each finds out by itself when it is next written to */
	for (size_t i = 0; i < n; i++) {
		pthread_rwlock_t *lock = stripe_of(ns, all[i]->ino);

		pthread_rwlock_wrlock(lock);
		inode_notice_locked(all[i]);
		pthread_rwlock_unlock(lock);
	}
	put_all(all, n);
}
