/*
 * A tree that stands in one transaction: what @txn shows. The code of the live tree works on it, with three
 * differences. A change is made in the bound transaction and commits nothing (change_run(), inode_commit_locked()).
 * A file that lost its last name while it is open goes on in a transaction of its own. And what is done to
 * directories by making and removing names in them is noted here and told to the transaction only when that is to
 * be committed: as an update of whatever the directory's row is then, which its own reads would not see.
 */
#include "fs/ns_bound.h"
#include "fs/ns_int.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* ---- touched directories ----------------------------------------------------------------------- */

struct dir_touch {
	struct dir_touch *next;
	uint64_t dir;
	struct touch t;
	int64_t told; /* of t.nlink, how many an update has told the transaction, at a commit that failed */
};

static struct dir_touch **touch_find(struct ns *ns, uint64_t dir)
{
	struct dir_touch **at = &ns->touch[(dir * 0x9e3779b97f4a7c15u) >> 52];

	while (*at && (*at)->dir != dir)
		at = &(*at)->next;
	return at;
}

static void touch_forget(struct dir_touch **at)
{
	struct dir_touch *e = *at;

	*at = e->next;
	free(e);
}

int bound_touch(struct ns *ns, uint64_t dir, const struct touch *t)
{
	struct dir_touch **at = touch_find(ns, dir);
	struct touch *all;

	if (!*at) {
		*at = calloc(1, sizeof(**at));
		if (!*at)
			return -ENOMEM;
		(*at)->dir = dir;
	}
	all = &(*at)->t;
	if (all->now_ns < t->now_ns)
		all->now_ns = t->now_ns;
	if (all->set & NS_SET_MTIME && all->mtime_ns < t->now_ns)
		all->mtime_ns = t->now_ns;
	if (all->set & NS_SET_CTIME && all->ctime_ns < t->now_ns)
		all->ctime_ns = t->now_ns;
	all->nlink += t->nlink;
	all->set |= t->set;
	if (t->set & NS_SET_ATIME)
		all->atime_ns = t->atime_ns;
	if (t->set & NS_SET_MTIME)
		all->mtime_ns = t->mtime_ns;
	if (t->set & NS_SET_CTIME)
		all->ctime_ns = t->ctime_ns;
	return 0;
}

/* A row the transaction has put has in it what it was told before; a row of the store has nothing of it. */
static struct touch touch_of(const struct dir_touch *e, bool own)
{
	struct touch t = e->t;

	if (own)
		t.nlink -= e->told;
	return t;
}

void bound_dir_show(struct ns *ns, uint64_t dir, bool own, struct row_inode *row)
{
	const struct dir_touch *e = *touch_find(ns, dir);
	struct touch t;

	if (!e)
		return;
	t = touch_of(e, own);
	touch_apply(&t, row);
}

void bound_dir_fold(struct ns *ns, uint64_t dir, bool own, struct row_inode *row)
{
	struct dir_touch **at = touch_find(ns, dir);

	bound_dir_show(ns, dir, own, row);
	if (*at)
		touch_forget(at); /* also what was told: a put takes the place of updates */
}

/* Tells the transaction what was noted of one directory. 1: then it is forgotten, as the row has it. */
static int touch_tell(struct ns *ns, struct dir_touch **at)
{
	struct dir_touch *e = *at;
	struct held_row held = { 0 };
	struct touch t;
	int err;

	err = src_row((struct ns_src){ .txn = ns->bound }, e->dir, &held);
	if (err == -ENOENT) {
		touch_forget(at);
		return 1;
	}
	if (err)
		return err;
	if (held_is_own(&held)) {
		t = touch_of(e, true);
		touch_apply(&t, &held.row);
		err = put_row(ns->bound, e->dir, &held.row);
		if (!err) {
			touch_forget(at);
			err = 1;
		}
	} else {
		t = e->t;
		t.nlink -= e->told;
		err = touch_update(ns->bound, e->dir, &t);
		if (!err)
			e->told = e->t.nlink;
	}
	held_row_release(&held);
	return err;
}

static int touches_tell(struct ns *ns)
{
	int err = 0;

	for (unsigned i = 0; err >= 0 && i < NS_BUCKETS; i++)
		for (struct dir_touch **at = &ns->touch[i]; err >= 0 && *at;) {
			err = touch_tell(ns, at);
			if (err == 0)
				at = &(*at)->next;
		}
	return err < 0 ? err : 0;
}

/* ---- files ------------------------------------------------------------------------------------- */

int bound_validate(struct ns *ns, uint64_t ino)
{
	struct held_row held = { 0 };
	int err = ns->bound ? src_row((struct ns_src){ .txn = ns->bound, .validate = true }, ino, &held) :
			      -ESTALE;

	held_row_release(&held);
	return err;
}

int bound_keep_open(struct ns *ns, uint64_t ino)
{
	struct ns_inode *n = inode_find(ns, ino);
	int err = 0;

	if (!n)
		return 0;
	if (!n->gone.rev)
		err = inode_leave_locked(n);
	inode_put(n);
	return err;
}

void bound_discard(struct ns_inode *n)
{
	struct ns *ns = n->ns;
	int err = inode_leave_locked(n);

	if (!err && ns->bound)
		err = content_drop_rows(ns->bound, ROW_EXTENT, n->ino);
	if (!err && ns->bound)
		err = content_drop_rows(ns->bound, ROW_XATTR, n->ino);
	if (err)
		ns->failed = err; /* rows of a file that has no name must not be committed */
}

/* ---- reading a directory ----------------------------------------------------------------------- */

struct names {
	struct ns_pending_name *v;
	size_t n, cap;
};

static void names_release(struct names *names)
{
	while (names->n)
		free(names->v[--names->n].name);
	free(names->v);
}

/* Takes `name.name`, also on failure. */
static int names_add(struct names *names, struct ns_pending_name name)
{
	if (names->n == names->cap) {
		size_t cap = names->cap ? 2 * names->cap : 64;
		struct ns_pending_name *more = realloc(names->v, cap * sizeof(*more));

		if (!more) {
			free(name.name);
			return -ENOMEM;
		}
		names->v = more;
		names->cap = cap;
	}
	names->v[names->n++] = name;
	return 0;
}

static int names_add_row(struct names *names, struct slice key, const struct mvcc_item *item)
{
	struct ns_pending_name name = { 0 };
	struct row_key k;
	int err = row_key_decode(key, &k);

	if (!err)
		err = row_dirent_decode(item->value, &name.ino, &name.type);
	if (err)
		return err;
	name.len = k.tail.len;
	name.name = malloc(name.len + 1);
	if (!name.name)
		return -ENOMEM;
	memcpy(name.name, k.tail.data, name.len);
	return names_add(names, name);
}

static int name_order(const void *a, const void *b)
{
	const struct ns_pending_name *x = a, *y = b;

	return slice_cmp(slice_of(x->name, x->len), slice_of(y->name, y->len));
}

static int names_collect(struct ns *ns, uint64_t dir, struct names *names)
{
	struct buf start = { 0 }, end = { 0 };
	const struct mvcc_item *item;
	struct mvcc_cursor *c = NULL;
	struct slice key;
	int err;

	err = row_bounds(ROW_DIRENT, dir, &start, &end);
	if (!err)
		err = mvcc_txn_peek_cursor_open(ns->bound, slice_buf(&start), slice_buf(&end), &c);
	while (!err && (err = mvcc_cursor_next(c, &key, &item)) > 0)
		err = names_add_row(names, key, item);
	mvcc_cursor_close(c);
	buf_release(&start);
	buf_release(&end);
	return err;
}

int bound_opendir(struct ns *ns, uint64_t dir, struct ns_pending_name *pending, size_t n, struct ns_dir **out)
{
	struct names names = { pending, n, n };
	struct ns_attr attr;
	int err = ns_getattr(ns, dir, &attr);

	if (!err && !S_ISDIR(attr.mode))
		err = -ENOTDIR;
	if (!err)
		err = names_collect(ns, dir, &names);
	if (err) {
		names_release(&names);
		return err;
	}
	if (names.n)
		qsort(names.v, names.n, sizeof(*names.v), name_order);
	return ns_dir_open(NULL, false, dir, names.v, names.n, out);
}

/* ---- life -------------------------------------------------------------------------------------- */

/* Dirty inodes of the live tree, each with a reference: what closes there have promised is to be in the base. */
static int finish_promised(struct ns *live)
{
	struct ns_inode **dirty, *n;
	size_t count = 0;

	pthread_mutex_lock(&live->table_lock);
	dirty = live->ndirty ? calloc(live->ndirty, sizeof(*dirty)) : NULL;
	for (n = live->dirty; dirty && n; n = n->dirty_next) {
		n->refs++;
		dirty[count++] = n;
	}
	pthread_mutex_unlock(&live->table_lock);
	for (size_t i = 0; i < count; i++) {
		pthread_rwlock_t *lock = stripe_of(live, dirty[i]->ino);

		pthread_rwlock_wrlock(lock);
		inode_finish_locked(dirty[i], NULL);
		pthread_rwlock_unlock(lock);
		inode_put(dirty[i]);
	}
	free(dirty);
	return 0;
}

int ns_bound_open(struct ns *live, struct ns **out)
{
	struct ns_options opt = live->opt;
	struct ns *ns;
	int err;

	opt.dirty_bytes /= 4;
	err = finish_promised(live);
	if (err)
		return err;
	ns = ns_new(live->db, &opt);
	if (!ns)
		return -ENOMEM;
	ns->live = live;
	ns->touch = calloc(NS_BUCKETS, sizeof(*ns->touch));
	err = ns->touch ? mvcc_txn_begin(ns->db, &ns->bound) : -ENOMEM;
	if (err)
		ns_free(ns);
	else
		*out = ns;
	return err;
}

int ns_bound_settle(struct ns *ns)
{
	struct ns_inode *n;
	int err = ns->bound ? ns->failed : -ESTALE;

	while (!err && (n = ns->dirty) != NULL) {
		pthread_rwlock_t *lock = stripe_of(ns, n->ino);

		pthread_rwlock_wrlock(lock);
		pthread_mutex_lock(&ns->table_lock);
		n->refs++;
		pthread_mutex_unlock(&ns->table_lock);
		err = inode_commit_locked(n, NULL);
		pthread_rwlock_unlock(lock);
		inode_put(n);
	}
	return err ? err : touches_tell(ns);
}

struct mvcc_txn *ns_bound_txn(struct ns *ns)
{
	return ns->bound;
}

struct mvcc_txn *ns_bound_end(struct ns *ns)
{
	struct mvcc_txn *txn = ns->bound;

	for (unsigned i = 0; i < NS_BUCKETS; i++) {
		struct ns_inode *n, *next;

		for (n = ns->table[i]; n; n = next) {
			next = n->next;
			n->refs++; /* nobody else is here */
			inode_clean_locked(n);
			inode_put(n);
		}
		while (ns->touch[i])
			touch_forget(&ns->touch[i]);
	}
	ns->bound = NULL;
	return txn;
}

void ns_bound_free(struct ns *ns)
{
	if (!ns)
		return;
	assert(!ns->bound && ns->ninodes == 0);
	ns_free(ns);
}
