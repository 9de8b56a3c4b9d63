/*
 * The live tree: names and attributes. Every change is one transaction, tried again when another
 * change came in between. Locks keep apart what this process does to one inode; what makes a change
 * right against everybody else (another transaction, a restore) is the transaction's validation.
 */
#include "fs/ns_acl.h"
#include "fs/ns_int.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/xattr.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

enum { INO_RANGE = 4096, RETRIES = 1000 };

int64_t ns_time_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t ns_time_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- locks ------------------------------------------------------------------------------------- */

static unsigned stripe_index(uint64_t ino)
{
	return (unsigned)((ino * 0x9e3779b97f4a7c15u) >> 32) % NS_STRIPES;
}

pthread_rwlock_t *stripe_of(struct ns *ns, uint64_t ino)
{
	return &ns->stripes[stripe_index(ino)];
}

void lock_set(struct ns *ns, struct lock_set *set, const uint64_t *inos, unsigned n)
{
	set->n = 0;
	for (unsigned i = 0; i < n; i++) {
		unsigned stripe = stripe_index(inos[i]);
		unsigned at = 0;

		if (inos[i] == 0)
			continue;
		while (at < set->n && set->stripe[at] < stripe)
			at++;
		if (at < set->n && set->stripe[at] == stripe)
			continue;
		memmove(&set->stripe[at + 1], &set->stripe[at], (set->n - at) * sizeof(set->stripe[0]));
		set->stripe[at] = stripe;
		set->n++;
	}
	for (unsigned i = 0; i < set->n; i++)
		pthread_rwlock_wrlock(&ns->stripes[set->stripe[i]]);
}

void unlock_set(struct ns *ns, struct lock_set *set)
{
	while (set->n)
		pthread_rwlock_unlock(&ns->stripes[set->stripe[--set->n]]);
}

int ns_source(struct ns *ns, struct ns_src *out)
{
	*out = (struct ns_src){ .txn = ns->bound };
	if (ns->bound)
		return 0;
	return ns->live ? -ESTALE : mvcc_view_open(ns->db, MVCC_REV_LATEST, &out->view);
}

/* ---- numbers and paths ------------------------------------------------------------------------- */

int new_ino(struct ns *ns, uint64_t *out)
{
	int err = 0;

	if (ns->live)
		return new_ino(ns->live, out);
	pthread_mutex_lock(&ns->ino_lock);
	if (ns->next_ino == ns->end_ino) {
		uint64_t first;

		err = mvcc_reserve(ns->db, "ino", INO_RANGE, &first);
		if (!err) {
			/* The counter begins at 1; inode 1 is the root. */
			ns->next_ino = first + NS_ROOT;
			ns->end_ino = ns->next_ino + INO_RANGE;
		}
	}
	if (!err)
		*out = ns->next_ino++;
	pthread_mutex_unlock(&ns->ino_lock);
	return err;
}

/*
 * Paths of directories, for the story of each commit. A slot is right as long as no directory was
 * renamed or removed since it was filled.
 */
int dir_path(struct ns *ns, uint64_t dir, struct buf *out)
{
	struct ns_path_slot *slot = &ns->paths[dir % NS_PATHS];
	uint64_t epoch;
	int err = 0;

	pthread_mutex_lock(&ns->path_lock);
	epoch = ns->path_epoch;
	if (slot->dir == dir && slot->epoch == epoch) {
		err = buf_copy(out, slice_buf(&slot->path));
		pthread_mutex_unlock(&ns->path_lock);
		return err;
	}
	pthread_mutex_unlock(&ns->path_lock);
	err = ns_path(ns, dir, out);
	if (err)
		return err;
	pthread_mutex_lock(&ns->path_lock);
	if (ns->path_epoch == epoch && buf_copy(&slot->path, slice_buf(out)) == 0) {
		slot->dir = dir;
		slot->epoch = epoch;
	} else {
		slot->dir = 0;
	}
	pthread_mutex_unlock(&ns->path_lock);
	return 0;
}

void paths_forget(struct ns *ns)
{
	pthread_mutex_lock(&ns->path_lock);
	ns->path_epoch++;
	pthread_mutex_unlock(&ns->path_lock);
}

/* For the story of a change; in a bound tree a change has none. */
static int name_path(struct ns *ns, uint64_t dir, struct slice name, struct buf *out)
{
	int err = 0;

	if (ns->live)
		return 0;
	err = dir_path(ns, dir, out);
	if (!err && out->len > 1)
		err = buf_put(out, "/", 1);
	return err ? err : buf_put_slice(out, name);
}

int ns_path(struct ns *ns, uint64_t ino, struct buf *out)
{
	struct ns_src src;
	int err = ns_source(ns, &src);

	if (err)
		return err;
	err = src_path(src, ino, out);
	mvcc_view_close(src.view);
	return err;
}

static int story_path(struct ns *ns, uint64_t ino, struct buf *out)
{
	return ns->live ? 0 : ns_path(ns, ino, out);
}

/* ---- rows in a transaction --------------------------------------------------------------------- */

static int put_leased(struct mvcc_txn *txn, const struct buf *key, const struct buf *value,
		      mvcc_lease_t lease)
{
	const struct mvcc_put put = { .key = slice_buf(key), .value = slice_buf(value), .lease = lease };

	return mvcc_txn_put_with(txn, &put);
}

int put_row(struct mvcc_txn *txn, uint64_t ino, const struct row_inode *row)
{
	struct buf key = { 0 }, value = { 0 };
	int err;

	err = row_inode_key(&key, ino);
	if (!err)
		err = row_inode_encode(&value, row);
	if (!err)
		err = put_leased(txn, &key, &value, row->lease);
	buf_release(&key);
	buf_release(&value);
	return err;
}

int put_dirent(struct mvcc_txn *txn, uint64_t dir, struct slice name, uint64_t ino, uint8_t type,
	       mvcc_lease_t lease)
{
	struct buf key = { 0 }, value = { 0 };
	int err;

	err = row_dirent_key(&key, dir, name);
	if (!err)
		err = row_dirent_encode(&value, ino, type);
	if (!err)
		err = put_leased(txn, &key, &value, lease);
	buf_release(&key);
	buf_release(&value);
	return err;
}

static int del_dirent(struct mvcc_txn *txn, uint64_t dir, struct slice name)
{
	struct buf key = { 0 };
	int err = row_dirent_key(&key, dir, name);

	if (!err)
		err = mvcc_txn_del(txn, slice_buf(&key));
	buf_release(&key);
	return err;
}

int put_link(struct mvcc_txn *txn, uint64_t ino, uint64_t dir, struct slice name, mvcc_lease_t lease)
{
	struct buf key = { 0 }, nothing = { 0 };
	int err = row_link_key(&key, ino, dir, name);

	if (!err)
		err = put_leased(txn, &key, &nothing, lease);
	buf_release(&key);
	return err;
}

static int del_link(struct mvcc_txn *txn, uint64_t ino, uint64_t dir, struct slice name)
{
	struct buf key = { 0 };
	int err = row_link_key(&key, ino, dir, name);

	if (!err)
		err = mvcc_txn_del(txn, slice_buf(&key));
	buf_release(&key);
	return err;
}

void touch_apply(const struct touch *t, struct row_inode *row)
{
	if (row->mtime_ns < t->now_ns)
		row->mtime_ns = t->now_ns;
	if (row->ctime_ns < t->now_ns)
		row->ctime_ns = t->now_ns;
	if (t->set & NS_SET_ATIME)
		row->atime_ns = t->atime_ns;
	if (t->set & NS_SET_MTIME)
		row->mtime_ns = t->mtime_ns;
	if (t->set & NS_SET_CTIME)
		row->ctime_ns = t->ctime_ns;
	row->nlink = (uint64_t)((int64_t)row->nlink + t->nlink);
}

static int touch_row(const void *arg, struct slice old, struct buf *out)
{
	struct row_inode row;
	struct touch t;
	int err;

	memcpy(&t, arg, sizeof(t));
	err = row_inode_decode(old, &row);
	if (err)
		return err;
	touch_apply(&t, &row);
	return row_inode_encode(out, &row);
}

int touch_update(struct mvcc_txn *txn, uint64_t dir, const struct touch *t)
{
	struct buf key = { 0 };
	int err = row_inode_key(&key, dir);

	if (!err)
		err = mvcc_txn_update(txn, slice_buf(&key), touch_row, t, sizeof(*t));
	buf_release(&key);
	return err;
}

int touch_dir(struct ns *ns, struct mvcc_txn *txn, uint64_t dir, int64_t now, int64_t nlink)
{
	struct touch t = { .now_ns = now, .nlink = nlink };

	return ns->live ? bound_touch(ns, dir, &t) : touch_update(txn, dir, &t);
}

int expect_exists(struct mvcc_txn *txn, uint64_t ino)
{
	struct buf key = { 0 };
	int err = row_inode_key(&key, ino);

	if (!err)
		err = mvcc_txn_expect_exists(txn, slice_buf(&key));
	buf_release(&key);
	return err;
}

/* Reads in a transaction that its commit validates. */
static struct ns_src validated(struct mvcc_txn *txn)
{
	return (struct ns_src){ .txn = txn, .validate = true };
}

/* A directory that gets a name: it must be one, and must still be there at commit. */
static int need_dir(struct mvcc_txn *txn, uint64_t dir, struct row_inode *out)
{
	struct held_row held = { 0 };
	int err;

	err = src_row((struct ns_src){ .txn = txn }, dir, &held);
	if (!err && !S_ISDIR(held.row.mode))
		err = -ENOTDIR;
	if (!err)
		err = expect_exists(txn, dir);
	if (!err) {
		*out = held.row;
		out->name = out->content = slice_of(NULL, 0);
	}
	held_row_release(&held);
	return err;
}

/* -ENOTEMPTY if the directory has entries; and with `guard` it must have none at commit, either. */
static int need_empty(struct mvcc_txn *txn, uint64_t dir, bool guard)
{
	struct buf start = { 0 }, end = { 0 };
	const struct mvcc_item *item;
	struct mvcc_cursor *c = NULL;
	struct slice key;
	int err;

	err = row_bounds(ROW_DIRENT, dir, &start, &end);
	if (!err)
		err = mvcc_txn_peek_cursor_open(txn, slice_buf(&start), slice_buf(&end), &c);
	if (!err)
		err = mvcc_cursor_next(c, &key, &item);
	mvcc_cursor_close(c);
	if (err > 0)
		err = -ENOTEMPTY;
	if (!err && guard)
		err = mvcc_txn_expect_empty(txn, slice_buf(&start), slice_buf(&end));
	buf_release(&start);
	buf_release(&end);
	return err;
}

/* ---- one change -------------------------------------------------------------------------------- */

/* Makes the change a revision of its own, tried again when another one came in between. */
static int change_commit(struct change *c, change_body *body, void *arg)
{
	struct mvcc_story story = {
		.uid = c->who->uid,
		.gid = c->who->gid,
		.pid = c->who->pid,
		.comm = c->who->comm,
		.session = c->who->session,
		.message = c->who->message,
		.op = c->op,
		.path = slice_buf(&c->path),
		.path2 = slice_buf(&c->path2),
	};
	struct mvcc_txn *txn;
	int err = 0;

	for (int try = 0; try < RETRIES; try++) {
		err = mvcc_txn_begin(c->ns->db, &txn);
		if (err)
			break;
		err = body(c, txn, arg);
		if (err)
			mvcc_txn_abort(txn);
		else
			err = mvcc_txn_commit(txn, &story, MVCC_COMMIT_WAIT, &c->rev);
		if (err != MVCC_ECONFLICT)
			break;
	}
	return err;
}

/*
 * Makes the change a part of the transaction that the tree stands in. Bodies ask everything before they write, so
 * what fails with the answer to a question has written nothing. Anything else may have failed halfway.
 */
static int change_bound(struct change *c, change_body *body, void *arg)
{
	struct ns *ns = c->ns;
	int err = ns->failed;

	if (!err && !ns->bound)
		err = -ESTALE;
	if (err)
		return err;
	err = body(c, ns->bound, arg);
	if (err == -ENOMEM || err == -ENOSPC || err == -EIO || err <= MVCC_ECOMPACTED)
		ns->failed = err;
	return err;
}

int change_run(struct change *c, change_body *body, void *arg)
{
	int err;

	c->now = ns_time_ns();
	err = c->ns->live ? change_bound(c, body, arg) : change_commit(c, body, arg);
	buf_release(&c->path);
	buf_release(&c->path2);
	return err;
}

/* What is committed of an inode. */
static int stored_getattr(struct ns *ns, uint64_t ino, struct ns_attr *out)
{
	struct held_row held = { 0 };
	struct ns_src src;
	int err = ns_source(ns, &src);

	if (!err)
		err = src_row(src, ino, &held);
	mvcc_view_close(src.view);
	if (err)
		return err;
	if (ns->live && S_ISDIR(held.row.mode))
		bound_dir_show(ns, ino, held_is_own(&held), &held.row);
	row_to_attr(ino, &held.row, &held.item, out);
	held_row_release(&held);
	return err;
}

/* ---- making names ------------------------------------------------------------------------------ */

struct make {
	uint64_t dir, ino;
	struct slice name;
	uint32_t mode;
	uint64_t rdev;
	struct slice target;
	struct ns_attr *out;
};

static int make_body(struct change *c, struct mvcc_txn *txn, void *arg)
{
	struct make *m = arg;
	struct row_inode parent;
	struct row_inode row = {
		.mode = m->mode,
		.uid = c->who->uid,
		.gid = c->who->gid,
		.rdev = m->rdev,
		.nlink = S_ISDIR(m->mode) ? 2 : 1,
		.size = m->target.len,
		.atime_ns = c->now,
		.mtime_ns = c->now,
		.ctime_ns = c->now,
		.btime_ns = c->now,
		.inlined = true,
		.parent = m->dir,
		.name = m->name,
		.content = m->target,
	};
	struct buf access = { 0 }, dflt = { 0 };
	uint64_t other;
	uint8_t type;
	int err;

	err = need_dir(txn, m->dir, &parent);
	if (err)
		return err;
	err = src_dirent(validated(txn), m->dir, m->name, &other, &type);
	if (err != -ENOENT)
		return err ? err : -EEXIST;
	err = acl_of_new(validated(txn), m->dir, c->who->umask, &row.mode, &access, &dflt);
	if (parent.mode & S_ISGID) {
		row.gid = parent.gid;
		if (S_ISDIR(row.mode))
			row.mode |= S_ISGID;
	}
	if (!err)
		err = put_row(txn, m->ino, &row);
	if (!err && access.len)
		err = put_acl(txn, m->ino, ACL_ACCESS, slice_buf(&access), 0);
	if (!err && dflt.len)
		err = put_acl(txn, m->ino, ACL_DEFAULT, slice_buf(&dflt), 0);
	if (!err)
		err = put_dirent(txn, m->dir, m->name, m->ino, NS_TYPE_OF(row.mode), 0);
	if (!err)
		err = touch_dir(c->ns, txn, m->dir, c->now, S_ISDIR(row.mode) ? 1 : 0);
	row_to_attr(m->ino, &row, NULL, m->out);
	buf_release(&access);
	buf_release(&dflt);
	return err;
}

static int make_name(struct ns *ns, const struct ns_who *who, const char *op, struct make *m)
{
	struct change c = { .ns = ns, .who = who, .op = op };
	struct lock_set locks;
	int err;

	err = new_ino(ns, &m->ino);
	if (!err)
		err = name_path(ns, m->dir, m->name, &c.path);
	if (err) {
		buf_release(&c.path);
		return err;
	}
	lock_set(ns, &locks, &m->dir, 1);
	if (pending_find(ns, m->dir, m->name)) {
		buf_release(&c.path);
		err = -EEXIST;
	} else {
		err = change_run(&c, make_body, m);
	}
	unlock_set(ns, &locks);
	m->out->rev = m->out->create_rev = c.rev;
	m->out->version = 1;
	return err;
}

int ns_mkdir(struct ns *ns, const struct ns_who *who, uint64_t dir, struct slice name, uint32_t mode,
	     struct ns_attr *out)
{
	struct make m = { .dir = dir, .name = name, .mode = S_IFDIR | (mode & 07777), .out = out };

	return make_name(ns, who, "mkdir", &m);
}

int ns_mknod(struct ns *ns, const struct ns_who *who, uint64_t dir, struct slice name, uint32_t mode,
	     uint64_t rdev, struct ns_attr *out)
{
	struct make m = {
		.dir = dir, .name = name, .mode = mode & (S_IFMT | 07777), .rdev = rdev, .out = out
	};

	if ((mode & S_IFMT) == 0)
		m.mode |= S_IFREG;
	if (!S_ISBLK(m.mode) && !S_ISCHR(m.mode))
		m.rdev = 0;
	return make_name(ns, who, "mknod", &m);
}

int ns_symlink(struct ns *ns, const struct ns_who *who, uint64_t dir, struct slice name, struct slice target,
	       struct ns_attr *out)
{
	struct make m = { .dir = dir, .name = name, .mode = S_IFLNK | 0777, .target = target, .out = out };

	if (target.len == 0)
		return -ENOENT;
	if (target.len > NS_SYMLINK_MAX)
		return -ENAMETOOLONG;
	return make_name(ns, who, "symlink", &m);
}

struct link_arg {
	uint64_t ino, dir;
	struct slice name;
};

static int link_body(struct change *c, struct mvcc_txn *txn, void *arg)
{
	struct link_arg *l = arg;
	struct held_row held = { 0 };
	struct row_inode parent;
	uint64_t other;
	uint8_t type;
	int err;

	err = need_dir(txn, l->dir, &parent);
	if (err)
		return err;
	err = src_dirent(validated(txn), l->dir, l->name, &other, &type);
	if (err != -ENOENT)
		return err ? err : -EEXIST;
	err = src_row(validated(txn), l->ino, &held);
	if (!err && S_ISDIR(held.row.mode))
		err = -EPERM;
	if (!err && held.row.nlink >= NS_LINK_MAX)
		err = -EMLINK;
	if (!err) {
		held.row.nlink++;
		held.row.ctime_ns = c->now;
		err = put_row(txn, l->ino, &held.row);
	}
	if (!err)
		err = put_dirent(txn, l->dir, l->name, l->ino, NS_TYPE_OF(held.row.mode), held.row.lease);
	if (!err)
		err = put_link(txn, l->ino, l->dir, l->name, held.row.lease);
	if (!err)
		err = touch_dir(c->ns, txn, l->dir, c->now, 0);
	held_row_release(&held);
	return err;
}

int ns_link(struct ns *ns, const struct ns_who *who, uint64_t ino, uint64_t dir, struct slice name,
	    struct ns_attr *out)
{
	struct change c = { .ns = ns, .who = who, .op = "link" };
	struct link_arg l = { ino, dir, name };
	struct lock_set locks;
	int err;

	err = settle_name(ns, dir, name);
	if (!err)
		err = settle_ino(ns, ino);
	if (!err)
		err = name_path(ns, dir, name, &c.path);
	if (!err)
		err = story_path(ns, ino, &c.path2);
	if (err) {
		buf_release(&c.path);
		buf_release(&c.path2);
		return err;
	}
	lock_set(ns, &locks, (uint64_t[]){ ino, dir }, 2);
	err = change_run(&c, link_body, &l);
	if (!err)
		err = inode_names_locked(ns, ino);
	unlock_set(ns, &locks);
	return err ? err : ns_getattr(ns, ino, out);
}

/* ---- removing names ---------------------------------------------------------------------------- */

/* Another link of `ino` than (dir, name) becomes its first: its place is taken from the L rows. */
static int promote_link(struct mvcc_txn *txn, uint64_t ino, struct row_inode *row, struct buf *name)
{
	struct buf start = { 0 }, end = { 0 };
	const struct mvcc_item *item;
	struct mvcc_cursor *c = NULL;
	struct row_key k = { 0 };
	struct slice key = { 0 };
	int err;

	err = row_bounds(ROW_LINK, ino, &start, &end);
	/* Not validated: whatever changes the links of an inode changes its row. */
	if (!err)
		err = mvcc_txn_peek_cursor_open(txn, slice_buf(&start), slice_buf(&end), &c);
	if (!err)
		err = mvcc_cursor_next(c, &key, &item);
	if (err == 0)
		err = MVCC_ECORRUPT; /* nlink counts a link that is nowhere */
	else if (err > 0)
		err = row_key_decode(key, &k);
	if (!err)
		err = buf_copy(name, k.tail);
	mvcc_cursor_close(c);
	if (!err) {
		row->parent = k.dir;
		row->name = slice_buf(name);
		err = del_link(txn, ino, row->parent, row->name);
	}
	buf_release(&start);
	buf_release(&end);
	return err;
}

/* Removes the name (dir, name) of a file from its inode; the entry itself is the caller's. `*last`: it was the last. */
static int drop_file_link(struct change *c, struct mvcc_txn *txn, uint64_t ino, uint64_t dir,
			  struct slice name, bool *last)
{
	struct held_row held = { 0 };
	struct buf key = { 0 }, first = { 0 };
	int err;

	err = src_row(validated(txn), ino, &held);
	if (err)
		return err;
	*last = held.row.nlink <= 1;
	if (*last) {
		if (c->ns->live)
			err = bound_keep_open(c->ns, ino);
		if (!err)
			err = row_inode_key(&key, ino);
		if (!err)
			err = mvcc_txn_del(txn, slice_buf(&key));
		if (!err && held.row.alloc)
			err = content_drop_rows(txn, ROW_EXTENT, ino);
		if (!err)
			err = content_drop_rows(txn, ROW_XATTR, ino);
	} else {
		held.row.nlink--;
		held.row.ctime_ns = c->now;
		if (held.row.parent == dir && slice_eq(held.row.name, name))
			err = promote_link(txn, ino, &held.row, &first);
		else
			err = del_link(txn, ino, dir, name);
		if (!err)
			err = put_row(txn, ino, &held.row);
	}
	held_row_release(&held);
	buf_release(&key);
	buf_release(&first);
	return err;
}

/* Removes an empty directory's rows; the entry is the caller's. */
static int drop_dir(struct mvcc_txn *txn, uint64_t ino)
{
	struct held_row held = { 0 };
	struct buf key = { 0 };
	int err;

	err = src_row(validated(txn), ino, &held);
	/* One that the transaction itself has made is nobody else's. */
	if (!err)
		err = need_empty(txn, ino, held.item.create_rev != 0);
	if (!err)
		err = row_inode_key(&key, ino);
	if (!err)
		err = mvcc_txn_del(txn, slice_buf(&key));
	if (!err)
		err = content_drop_rows(txn, ROW_XATTR, ino);
	held_row_release(&held);
	buf_release(&key);
	return err;
}

struct remove {
	uint64_t dir, ino; /* ino: what the caller has locked */
	struct slice name;
	bool rmdir;
	bool last;
	const struct ns_wanted *wanted; /* NULL: nothing is compared */
	mvcc_rev_t rev;                 /* of the removal */
};

/* -EBUSY when it is not. */
static int need_wanted(struct mvcc_txn *txn, uint64_t ino, const struct ns_wanted *wanted)
{
	struct held_row held = { 0 };
	int err = src_row(validated(txn), ino, &held);

	if (!err && wanted->compare &&
	    wanted->n != (wanted->compare == NS_IF_REV ? held.item.mod_rev : held.item.version))
		err = -EBUSY;
	held_row_release(&held);
	return err;
}

static int remove_body(struct change *c, struct mvcc_txn *txn, void *arg)
{
	struct remove *r = arg;
	uint64_t ino;
	uint8_t type;
	int err;

	err = src_dirent(validated(txn), r->dir, r->name, &ino, &type);
	if (err)
		return err;
	if (ino != r->ino)
		return -ESTALE; /* the name means another inode now: lock that one */
	if (r->rmdir != (type == NS_TYPE_OF(S_IFDIR)))
		return r->rmdir ? -ENOTDIR : -EISDIR;
	r->last = true;
	err = r->wanted ? need_wanted(txn, ino, r->wanted) : 0;
	if (err)
		return err;
	err = r->rmdir ? drop_dir(txn, ino) : drop_file_link(c, txn, ino, r->dir, r->name, &r->last);
	if (!err)
		err = del_dirent(txn, r->dir, r->name);
	if (!err)
		err = touch_dir(c->ns, txn, r->dir, c->now, r->rmdir ? -1 : 0);
	return err;
}

static int stored_dirent(struct ns *ns, uint64_t dir, struct slice name, uint64_t *ino, uint8_t *type)
{
	struct ns_src src;
	int err = ns_source(ns, &src);

	if (err)
		return err;
	err = src_dirent(src, dir, name, ino, type);
	mvcc_view_close(src.view);
	return err;
}

/* Whoever has the file open keeps it. Caller holds the stripe lock of `ino`. */
static int keep_open_file(struct ns *ns, uint64_t ino, mvcc_rev_t rev, struct ns_gone *gone)
{
	struct ns_gone g = { ino, ns->live ? 1 : rev };
	struct ns_inode *n = ns->live ? NULL : inode_find(ns, ino); /* a bound tree did it before */
	int err = 0;

	if (n) {
		err = inode_gone_locked(n, g);
		inode_put(n);
	}
	if (gone)
		*gone = g;
	return err;
}

/*
 * A pending file whose commit fails (no room) can still be removed: it only has to be forgotten.
 * True when it was.
 */
static bool discard_pending(struct ns *ns, uint64_t dir, struct slice name, struct ns_gone *gone)
{
	uint64_t ino = pending_find(ns, dir, name);
	struct ns_inode *n = ino ? inode_find(ns, ino) : NULL;
	struct lock_set locks;
	bool done = false;

	if (!n)
		return false;
	lock_set(ns, &locks, (uint64_t[]){ dir, ino }, 2);
	if (n->pending && n->row.parent == dir && slice_eq(n->row.name, name)) {
		inode_discard_locked(n);
		if (gone)
			*gone = n->gone;
		done = true;
	}
	unlock_set(ns, &locks);
	inode_put(n);
	return done;
}

static int remove_name(struct ns *ns, const struct ns_who *who, struct remove *r, struct ns_gone *gone)
{
	struct lock_set locks;
	uint8_t type;
	int err;

	if (gone)
		*gone = (struct ns_gone){ 0 };
	do {
		struct change c = { .ns = ns, .who = who, .op = r->rmdir ? "rmdir" : "unlink" };

		err = settle_name(ns, r->dir, r->name);
		if (err && !r->rmdir && discard_pending(ns, r->dir, r->name, gone))
			return 0;
		if (err)
			return err;
		err = stored_dirent(ns, r->dir, r->name, &r->ino, &type);
		if (err)
			return err;
		if (r->rmdir)
			err = ns_settle_dir(ns, r->ino, NULL);
		else if (settle_ino(ns, r->ino) == -ENOMEM)
			err = -ENOMEM; /* that it cannot be committed otherwise must not keep it from going */
		if (!err)
			err = name_path(ns, r->dir, r->name, &c.path);
		if (err) {
			buf_release(&c.path);
			return err;
		}
		lock_set(ns, &locks, (uint64_t[]){ r->dir, r->ino }, 2);
		err = change_run(&c, remove_body, r);
		if (!err && r->last) {
			if (r->rmdir) {
				paths_forget(ns);
				if (gone)
					*gone = (struct ns_gone){ r->ino, ns->live ? 1 : c.rev };
			} else {
				err = keep_open_file(ns, r->ino, c.rev, gone);
			}
		}
		if (!err && !r->last)
			err = inode_names_locked(ns, r->ino);
		r->rev = c.rev;
		unlock_set(ns, &locks);
	} while (err == -ESTALE);
	return err;
}

int ns_unlink(struct ns *ns, const struct ns_who *who, uint64_t dir, struct slice name, struct ns_gone *gone)
{
	struct remove r = { .dir = dir, .name = name };

	return remove_name(ns, who, &r, gone);
}

int ns_rmdir(struct ns *ns, const struct ns_who *who, uint64_t dir, struct slice name, struct ns_gone *gone)
{
	struct remove r = { .dir = dir, .name = name, .rmdir = true };

	return remove_name(ns, who, &r, gone);
}

int ns_remove_if(struct ns *ns, const struct ns_who *who, uint64_t dir, struct slice name,
		 const struct ns_wanted *wanted, struct ns_gone *gone, mvcc_rev_t *rev)
{
	struct remove r = { .dir = dir, .name = name, .wanted = wanted };
	int err = remove_name(ns, who, &r, gone);

	if (err == -EISDIR) {
		r.rmdir = true;
		err = remove_name(ns, who, &r, gone);
	}
	if (!err)
		*rev = r.rev;
	return err;
}

/* ---- rename ------------------------------------------------------------------------------------ */

struct rename {
	uint64_t from_dir, to_dir;
	struct slice from, to;
	unsigned flags;
	uint64_t ino, other; /* what the caller has locked; other: 0 when `to` is free */
	uint64_t whiteout;   /* RENAME_WHITEOUT: the number of what is left behind */
	bool dir, last, nothing;
};

/* What overlayfs leaves where a name was: a device that is none. */
static int put_whiteout(struct change *c, struct mvcc_txn *txn, const struct rename *r)
{
	struct row_inode parent;
	struct row_inode row = {
		.mode = S_IFCHR,
		.uid = c->who->uid,
		.nlink = 1,
		.atime_ns = c->now,
		.mtime_ns = c->now,
		.ctime_ns = c->now,
		.btime_ns = c->now,
		.inlined = true,
		.parent = r->from_dir,
		.name = r->from,
	};
	int err = need_dir(txn, r->from_dir, &parent);

	row.gid = !err && parent.mode & S_ISGID ? parent.gid : c->who->gid;
	if (!err)
		err = put_row(txn, r->whiteout, &row);
	return err ? err : put_dirent(txn, r->from_dir, r->from, r->whiteout, NS_TYPE_OF(S_IFCHR), 0);
}

/*
 * An inode's name moves from one place to another: in its row, if that was its first link, else in an L row; and the
 * new place gets its entry.
 */
static int move_link(struct change *c, struct mvcc_txn *txn, uint64_t ino, uint64_t from_dir,
		     struct slice from, uint64_t to_dir, struct slice to)
{
	struct held_row held = { 0 };
	int err;

	err = src_row(validated(txn), ino, &held);
	if (err)
		return err;
	if (c->ns->live)
		bound_dir_fold(c->ns, ino, held_is_own(&held), &held.row);
	if (held.row.parent == from_dir && slice_eq(held.row.name, from)) {
		held.row.parent = to_dir;
		held.row.name = to;
	} else {
		err = del_link(txn, ino, from_dir, from);
		if (!err)
			err = put_link(txn, ino, to_dir, to, held.row.lease);
	}
	held.row.ctime_ns = c->now;
	if (!err)
		err = put_row(txn, ino, &held.row);
	if (!err)
		err = put_dirent(txn, to_dir, to, ino, NS_TYPE_OF(held.row.mode), held.row.lease);
	held_row_release(&held);
	return err;
}

/*
 * -EINVAL if `dir` is `ino` or lies below it. What must still be so at commit are the entries on the way up: rows of
 * directories change with everything that is made in them.
 */
static int need_outside(struct mvcc_txn *txn, uint64_t ino, uint64_t dir)
{
	struct held_row held = { 0 };
	uint64_t child;
	uint8_t type;
	int err = 0;

	while (!err && dir != NS_ROOT) {
		if (dir == ino)
			return -EINVAL;
		err = src_row((struct ns_src){ .txn = txn }, dir, &held);
		if (!err)
			err = src_dirent(validated(txn), held.row.parent, held.row.name, &child, &type);
		if (!err && child != dir)
			err = MVCC_ECORRUPT;
		if (!err)
			dir = held.row.parent;
		held_row_release(&held);
	}
	return err;
}

static int rename_body(struct change *c, struct mvcc_txn *txn, void *arg)
{
	struct rename *r = arg;
	bool exchange = r->flags & RENAME_EXCHANGE;
	uint64_t ino, other = 0;
	uint8_t type, other_type = 0;
	int64_t from_links = 0, to_links = 0;
	struct row_inode to_parent;
	bool dir, other_dir;
	int err;

	err = src_dirent(validated(txn), r->from_dir, r->from, &ino, &type);
	if (!err)
		err = need_dir(txn, r->to_dir, &to_parent);
	if (err)
		return err;
	err = src_dirent(validated(txn), r->to_dir, r->to, &other, &other_type);
	if (err && err != -ENOENT)
		return err;
	if (ino != r->ino || other != r->other)
		return -ESTALE;
	if (other && r->flags & RENAME_NOREPLACE)
		return -EEXIST;
	if (!other && exchange)
		return -ENOENT;
	r->nothing = ino == other;
	if (r->nothing)
		return 0;
	dir = type == NS_TYPE_OF(S_IFDIR);
	other_dir = other_type == NS_TYPE_OF(S_IFDIR);
	r->dir = dir || other_dir;
	err = 0;
	if (dir && r->from_dir != r->to_dir)
		err = need_outside(txn, ino, r->to_dir);
	if (!err && exchange && other_dir && r->from_dir != r->to_dir)
		err = need_outside(txn, other, r->from_dir);
	if (err)
		return err;
	if (other && !exchange) {
		if (dir != other_dir)
			return dir ? -ENOTDIR : -EISDIR;
		r->last = true;
		err = other_dir ? drop_dir(txn, other) :
				  drop_file_link(c, txn, other, r->to_dir, r->to, &r->last);
	} else if (exchange) {
		err = move_link(c, txn, other, r->to_dir, r->to, r->from_dir, r->from);
	}
	if (!err && r->whiteout)
		err = put_whiteout(c, txn, r);
	else if (!err && !exchange)
		err = del_dirent(txn, r->from_dir, r->from);
	if (!err)
		err = move_link(c, txn, ino, r->from_dir, r->from, r->to_dir, r->to);
	if (dir) {
		from_links--;
		to_links++;
	}
	if (other_dir) {
		to_links--;
		from_links += exchange;
	}
	if (r->from_dir == r->to_dir)
		from_links += to_links;
	if (!err)
		err = touch_dir(c->ns, txn, r->from_dir, c->now, from_links);
	if (!err && r->from_dir != r->to_dir)
		err = touch_dir(c->ns, txn, r->to_dir, c->now, to_links);
	return err;
}

/* What a rename needs in revisions first: the two inodes, and what is pending in a directory that moves or goes. */
static int rename_settle(struct ns *ns, struct rename *r)
{
	uint8_t type, other_type = 0;
	int err;

	err = settle_name(ns, r->from_dir, r->from);
	if (!err)
		err = settle_name(ns, r->to_dir, r->to);
	if (!err)
		err = stored_dirent(ns, r->from_dir, r->from, &r->ino, &type);
	if (err)
		return err;
	err = stored_dirent(ns, r->to_dir, r->to, &r->other, &other_type);
	if (err == -ENOENT) {
		r->other = 0;
		err = 0;
	}
	if (!err)
		err = type == NS_TYPE_OF(S_IFDIR) ? ns_settle_dir(ns, r->ino, NULL) : settle_ino(ns, r->ino);
	if (!err && r->other)
		err = other_type == NS_TYPE_OF(S_IFDIR) ? ns_settle_dir(ns, r->other, NULL) :
							  settle_ino(ns, r->other);
	return err;
}

int ns_rename(struct ns *ns, const struct ns_who *who, uint64_t dir, struct slice name, uint64_t newdir,
	      struct slice newname, unsigned flags, struct ns_gone *gone)
{
	struct rename r = { .from_dir = dir, .to_dir = newdir, .from = name, .to = newname, .flags = flags };
	struct lock_set locks;
	int err;

	if (gone)
		*gone = (struct ns_gone){ 0 };
	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT) ||
	    (flags & RENAME_EXCHANGE && flags != RENAME_EXCHANGE))
		return -EINVAL;
	if (flags & RENAME_WHITEOUT) {
		err = new_ino(ns, &r.whiteout);
		if (err)
			return err;
	}
	do {
		struct change c = { .ns = ns,
				    .who = who,
				    .op = flags & RENAME_EXCHANGE ? "exchange" : "rename" };

		r.last = r.nothing = r.dir = false;
		err = rename_settle(ns, &r);
		if (!err)
			err = name_path(ns, newdir, newname, &c.path);
		if (!err)
			err = name_path(ns, dir, name, &c.path2);
		if (err) {
			buf_release(&c.path);
			buf_release(&c.path2);
			return err;
		}
		lock_set(ns, &locks, (uint64_t[]){ dir, newdir, r.ino, r.other }, 4);
		err = change_run(&c, rename_body, &r);
		if (!err && !r.nothing && r.dir)
			paths_forget(ns);
		if (!err && r.last && r.other && !r.dir)
			err = keep_open_file(ns, r.other, c.rev, gone);
		else if (!err && r.last && r.other && gone)
			*gone = (struct ns_gone){ r.other, ns->live ? 1 : c.rev };
		if (!err && !r.nothing)
			err = inode_names_locked(ns, r.ino);
		if (!err && !r.nothing && !r.last)
			err = inode_names_locked(ns, r.other);
		unlock_set(ns, &locks);
	} while (err == -ESTALE);
	return err;
}

/* ---- looking ----------------------------------------------------------------------------------- */

/* `*n`: the inode, with a reference, if it is open or dirty. */
static int getattr_now(struct ns *ns, uint64_t ino, struct ns_attr *out, struct ns_inode **n)
{
	pthread_rwlock_t *lock = stripe_of(ns, ino);
	int err = 0;

	pthread_rwlock_rdlock(lock);
	*n = inode_find(ns, ino);
	if (*n && (*n)->loaded)
		inode_attr(*n, out);
	else
		err = stored_getattr(ns, ino, out);
	pthread_rwlock_unlock(lock);
	return err;
}

int ns_getattr(struct ns *ns, uint64_t ino, struct ns_attr *out)
{
	struct ns_inode *n, *again;
	int err = getattr_now(ns, ino, out, &n);

	if (err == -ENOENT && n && inode_was_removed(n)) {
		err = getattr_now(ns, ino, out, &again);
		inode_put(again); /* the same: we hold it */
	}
	if (n)
		inode_put(n);
	if (!err && S_ISDIR(out->mode))
		inode_dir_times(ns, ino, out);
	return err;
}

int ns_lookup(struct ns *ns, uint64_t dir, struct slice name, struct ns_attr *out)
{
	struct ns_src src;
	uint64_t ino;
	int err;

	if (name.len > NS_NAME_MAX)
		return -ENAMETOOLONG;
	/* Pending first: a file that is being committed leaves that table after it is in the store. */
	ino = pending_find(ns, dir, name);
	if (!ino) {
		err = ns_source(ns, &src);
		if (err)
			return err;
		err = src_lookup(src, dir, name, &ino);
		mvcc_view_close(src.view);
		if (err)
			return err;
	}
	return ns_getattr(ns, ino, out);
}

int ns_gone_getattr(struct ns *ns, struct ns_gone gone, struct ns_attr *out)
{
	struct mvcc_view *view;
	int err;

	if (ns->live)
		return ns_getattr(ns, gone.ino, out); /* as long as it is open */
	err = mvcc_view_open(ns->db, gone.rev - 1, &view);
	if (err)
		return err;
	err = ns_at_getattr(view, gone.ino, out);
	mvcc_view_close(view);
	if (!err)
		out->nlink = 0;
	return err;
}

int ns_readlink(struct ns *ns, uint64_t ino, struct buf *out)
{
	struct ns_src src;
	int err = ns_source(ns, &src);

	if (err)
		return err;
	err = src_readlink(src, ino, out);
	mvcc_view_close(src.view);
	return err;
}

int ns_opendir(struct ns *ns, uint64_t dir, struct ns_dir **out)
{
	struct ns_pending_name *pending;
	struct mvcc_view *view;
	struct ns_attr attr;
	size_t n;
	int err;

	/* In this order: a file committed in between is in both, and shown once. */
	err = pending_names(ns, dir, &pending, &n);
	if (err)
		return err;
	if (ns->live)
		return bound_opendir(ns, dir, pending, n, out);
	err = mvcc_view_open(ns->db, MVCC_REV_LATEST, &view);
	if (!err) {
		err = ns_at_getattr(view, dir, &attr);
		if (!err && S_ISDIR(attr.mode))
			return ns_dir_open(view, true, dir, pending, n, out);
		mvcc_view_close(view);
		err = err ? err : -ENOTDIR;
	}
	while (n)
		free(pending[--n].name);
	free(pending);
	return err;
}

/* ---- attributes -------------------------------------------------------------------------------- */

struct setattr {
	uint64_t ino;
	const struct ns_attr *set;
	unsigned what;
};

/*
 * In a bound tree, times of a directory are set as they are touched: at commit, whatever others have made in it
 * meanwhile. 1 when this was such a change, 0 or negative.
 */
static int dir_times_bound(struct change *c, struct mvcc_txn *txn, const struct setattr *s)
{
	struct touch t = { .set = s->what | NS_SET_CTIME,
			   .atime_ns = s->set->atime_ns,
			   .mtime_ns = s->set->mtime_ns,
			   .ctime_ns = s->what & NS_SET_CTIME ? s->set->ctime_ns : c->now };
	struct held_row held = { 0 };
	bool dir;
	int err;

	if (s->what & ~(unsigned)(NS_SET_ATIME | NS_SET_MTIME | NS_SET_CTIME))
		return 0;
	err = src_row((struct ns_src){ .txn = txn }, s->ino, &held);
	if (err)
		return err;
	dir = S_ISDIR(held.row.mode);
	held_row_release(&held);
	if (!dir)
		return 0;
	err = expect_exists(txn, s->ino);
	if (!err)
		err = bound_touch(c->ns, s->ino, &t);
	return err ? err : 1;
}

static int setattr_body(struct change *c, struct mvcc_txn *txn, void *arg)
{
	struct setattr *s = arg;
	struct held_row held = { 0 };
	struct buf content = { 0 };
	struct row_inode *row = &held.row;
	int err;

	if (c->ns->live) {
		err = dir_times_bound(c, txn, s);
		if (err)
			return err < 0 ? err : 0;
	}
	err = src_row(validated(txn), s->ino, &held);
	if (err)
		return err;
	if (s->what & NS_SET_SIZE) {
		if (S_ISDIR(row->mode))
			err = -EISDIR;
		else if (!S_ISREG(row->mode))
			err = -EINVAL;
		else if (s->set->size > NS_SIZE_MAX)
			err = -EFBIG;
		if (!err)
			err = buf_copy(&content, row->content);
		if (!err)
			err = content_resize(txn, s->ino, row, &content, s->set->size);
		row->mtime_ns = c->now;
	}
	if (err)
		goto out;
	if (c->ns->live)
		bound_dir_fold(c->ns, s->ino, held_is_own(&held), row);
	if (s->what & NS_SET_MODE)
		row->mode = (row->mode & S_IFMT) | (s->set->mode & 07777);
	if (s->what & NS_SET_UID)
		row->uid = s->set->uid;
	if (s->what & NS_SET_GID)
		row->gid = s->set->gid;
	if (s->what & NS_SET_ATIME)
		row->atime_ns = s->set->atime_ns;
	if (s->what & NS_SET_MTIME)
		row->mtime_ns = s->set->mtime_ns;
	row->ctime_ns = s->what & NS_SET_CTIME ? s->set->ctime_ns : c->now;
	if (s->what & NS_SET_MODE)
		err = acl_follow_mode(txn, validated(txn), s->ino, row->mode, row->lease);
	if (!err)
		err = put_row(txn, s->ino, row);
out:
	held_row_release(&held);
	buf_release(&content);
	return err;
}

static const char *setattr_op(unsigned what)
{
	return what & NS_SET_SIZE               ? "truncate" :
	       what & (NS_SET_UID | NS_SET_GID) ? "chown" :
	       what & NS_SET_MODE               ? "chmod" :
						  "utimens";
}

int ns_setattr(struct ns *ns, const struct ns_who *who, uint64_t ino, const struct ns_attr *set,
	       unsigned what, bool open, struct ns_attr *out)
{
	struct change c = { .ns = ns, .who = who, .op = setattr_op(what) };
	struct setattr s = { ino, set, what };
	struct ns_inode *n = NULL;
	struct lock_set locks;
	int err;

	/* A directory's times are those set now, not those of a file made in it before and committed later. */
	err = ns_settle_dir(ns, ino, NULL);
	if (err)
		return err;
	lock_set(ns, &locks, &ino, 1);
	n = inode_find(ns, ino);
	if (n)
		inode_finish_locked(n, who);
	if (n && (n->dirty || n->gone.rev || (open && what & NS_SET_SIZE))) {
		err = inode_dirty_locked(n, who, "write");
		if (!err)
			err = inode_setattr_locked(n, set, what);
		if (!err)
			inode_attr(n, out);
	} else {
		err = story_path(ns, ino, &c.path);
		if (!err)
			err = change_run(&c, setattr_body, &s);
		else
			buf_release(&c.path);
		if (!err)
			err = stored_getattr(ns, ino, out);
	}
	unlock_set(ns, &locks);
	if (n)
		inode_put(n);
	if (!err && S_ISDIR(out->mode))
		inode_dir_times(ns, ino, out);
	return err;
}

/* ---- xattrs ------------------------------------------------------------------------------------ */

struct xattr {
	uint64_t ino;
	const char *name;
	struct slice value;
	int flags;
	bool remove;
	bool acl; /* it is an access control list */
};

/*
 * What else an access control list does: sets the mode. One that says no more than that is not kept. `*only_mode` tells.
 */
static int xattr_acl(const struct xattr *x, struct row_inode *row, bool *only_mode)
{
	*only_mode = false;
	if (!x->acl || x->remove)
		return 0;
	if (S_ISLNK(row->mode))
		return -EOPNOTSUPP;
	if (strcmp(x->name, ACL_DEFAULT) == 0)
		return S_ISDIR(row->mode) ? 0 : -EACCES;
	row->mode = (row->mode & ~0777U) | acl_mode(x->value, only_mode);
	if (x->flags & NS_XATTR_DROP_SGID)
		row->mode &= ~(uint32_t)S_ISGID;
	return 0;
}

static int xattr_in(struct mvcc_txn *txn, const struct xattr *x, mvcc_lease_t lease)
{
	struct mvcc_put put = { .value = x->value, .lease = lease };
	struct mvcc_item item = { 0 };
	struct buf key = { 0 };
	int err;

	err = row_xattr_key(&key, x->ino, slice_str(x->name));
	if (err)
		return err;
	put.key = slice_buf(&key);
	err = mvcc_txn_peek(txn, slice_buf(&key), &item);
	mvcc_item_release(&item);
	if (!err && x->flags & XATTR_CREATE)
		err = -EEXIST;
	else if (err == -ENOENT && (x->remove || x->flags & XATTR_REPLACE))
		err = -ENODATA;
	else if (err == -ENOENT)
		err = 0;
	if (!err)
		err = x->remove ? mvcc_txn_del(txn, put.key) : mvcc_txn_put_with(txn, &put);
	buf_release(&key);
	return err;
}

/* Sets or removes it in the row and in the transaction that will have the row. */
static int xattr_apply(struct mvcc_txn *txn, const struct xattr *x, struct row_inode *row)
{
	struct xattr y = *x;
	bool only_mode;
	int err = xattr_acl(x, row, &only_mode);

	if (err)
		return err;
	y.remove = x->remove || only_mode;
	err = xattr_in(txn, &y, row->lease);
	return err == -ENODATA && only_mode ? 0 : err;
}

static int xattr_body(struct change *c, struct mvcc_txn *txn, void *arg)
{
	struct xattr *x = arg;
	struct held_row held = { 0 };
	int err;

	err = src_row(validated(txn), x->ino, &held);
	if (!err)
		err = xattr_apply(txn, x, &held.row);
	if (!err) {
		if (c->ns->live)
			bound_dir_fold(c->ns, x->ino, held_is_own(&held), &held.row);
		held.row.ctime_ns = c->now;
		err = put_row(txn, x->ino, &held.row);
	}
	held_row_release(&held);
	return err;
}

static int change_xattr(struct ns *ns, const struct ns_who *who, struct xattr *x)
{
	struct change c = { .ns = ns, .who = who, .op = x->remove ? "removexattr" : "setxattr" };
	struct ns_inode *n = NULL;
	struct lock_set locks;
	int err;

	lock_set(ns, &locks, &x->ino, 1);
	n = inode_find(ns, x->ino);
	if (n)
		inode_finish_locked(n, who);
	if (n && (n->dirty || n->gone.rev)) {
		err = inode_dirty_locked(n, who, "write");
		if (!err)
			err = inode_txn_locked(n);
		if (!err)
			err = xattr_apply(n->txn, x, &n->row);
		if (!err) {
			n->row.ctime_ns = ns_time_ns();
			n->acl_only = false;
		}
	} else {
		err = story_path(ns, x->ino, &c.path);
		if (!err)
			err = change_run(&c, xattr_body, x);
		else
			buf_release(&c.path);
	}
	unlock_set(ns, &locks);
	if (n)
		inode_put(n);
	return err;
}

static int xattr_name_check(const char *name)
{
	size_t len = strlen(name);

	return len == 0 || len > NS_NAME_MAX ? -ERANGE : 0;
}

int ns_setxattr(struct ns *ns, const struct ns_who *who, uint64_t ino, const char *name, struct slice value,
		int flags)
{
	struct xattr x = {
		.ino = ino, .name = name, .value = value, .flags = flags, .acl = acl_is_name(name)
	};
	int err = xattr_name_check(name);

	if (!err && value.len > NS_XATTR_MAX)
		err = -E2BIG;
	if (!err && x.acl)
		err = acl_check(value);
	return err ? err : change_xattr(ns, who, &x);
}

int ns_removexattr(struct ns *ns, const struct ns_who *who, uint64_t ino, const char *name)
{
	struct xattr x = { .ino = ino, .name = name, .remove = true };
	int err = xattr_name_check(name);

	return err ? err : change_xattr(ns, who, &x);
}

/* Reads xattrs of an inode where they are: in its transaction, in the store, or in the past if it is gone. */
static int read_xattrs(struct ns *ns, uint64_t ino, const char *name, struct buf *out)
{
	struct ns_inode *n = inode_find(ns, ino);
	struct ns_src src = { 0 };
	int err = 0;

	if (n)
		lock_for_reading(n);
	if (n && n->txn)
		src.txn = n->txn;
	else if (n && n->gone.rev)
		err = mvcc_view_open(ns->db, n->gone.rev - 1, &src.view);
	else
		err = ns_source(ns, &src);
	if (!err)
		err = name ? src_getxattr(src, ino, name, out) : src_listxattr(src, ino, out);
	mvcc_view_close(src.view);
	if (n) {
		pthread_rwlock_unlock(stripe_of(ns, ino));
		inode_put(n);
	}
	return err;
}

int ns_getxattr(struct ns *ns, uint64_t ino, const char *name, struct buf *out)
{
	return read_xattrs(ns, ino, name, out);
}

int ns_listxattr(struct ns *ns, uint64_t ino, struct buf *out)
{
	return read_xattrs(ns, ino, NULL, out);
}

/* ---- redo -------------------------------------------------------------------------------------- */

struct redo {
	uint64_t intent;
	bool create;
	uint64_t ino;
	struct row_inode row;
};

/* The access control list that a file began with: an intent has only its mode. */
static int redo_acl(struct mvcc_txn *txn, uint64_t ino, const struct row_inode *row)
{
	struct buf access = { 0 }, none = { 0 };
	uint32_t mode = row->mode;
	int err = acl_of_new((struct ns_src){ .txn = txn }, row->parent, 0, &mode, &access, &none);

	if (!err && access.len) {
		acl_chmod(&access, row->mode);
		err = put_acl(txn, ino, ACL_ACCESS, slice_buf(&access), 0);
	}
	buf_release(&access);
	buf_release(&none);
	return err;
}

static int redo_body(struct change *c, struct mvcc_txn *txn, void *arg)
{
	struct redo *r = arg;
	struct row_inode parent, row = r->row;
	struct held_row held = { 0 };
	uint64_t other;
	uint8_t type;
	int err;

	err = mvcc_txn_settle(txn, r->intent);
	if (err)
		return err;
	if (r->create) {
		err = need_dir(txn, row.parent, &parent);
		if (!err)
			err = src_dirent(validated(txn), row.parent, row.name, &other, &type);
		if (err != -ENOENT)
			return err == -ENOTDIR ?
				       0 :
				       err; /* the name is taken: the promise has no place any more */
		/* -ENOENT is also what a directory that is gone gives; then nothing is to be made. */
		if (src_row((struct ns_src){ .txn = txn }, row.parent, &held))
			return 0;
		held_row_release(&held);
		err = put_dirent(txn, row.parent, row.name, r->ino, NS_TYPE_OF(row.mode), 0);
		if (!err)
			err = touch_dir(c->ns, txn, row.parent, row.btime_ns, 0);
		if (!err)
			err = redo_acl(txn, r->ino, &row);
		return err ? err : put_row(txn, r->ino, &row);
	}
	err = src_row(validated(txn), r->ino, &held);
	if (err)
		return err == -ENOENT ? 0 : err;
	row.nlink = held.row.nlink;
	row.parent = held.row.parent;
	row.name = held.row.name;
	row.lease = held.row.lease;
	err = content_drop_rows(txn, ROW_EXTENT, r->ino);
	if (!err)
		err = put_row(txn, r->ino, &row);
	held_row_release(&held);
	return err;
}

static int put_string(struct buf *out, struct slice s)
{
	int err = buf_put_slice(out, s);

	return err ? err : buf_put_u8(out, 0);
}

static int redo_one(struct ns *ns, uint64_t intent, struct slice payload)
{
	struct redo r = { .intent = intent };
	struct slice comm, session, message;
	struct buf texts = { 0 };
	struct ns_who who = { 0 };
	struct change c = { .ns = ns, .who = &who };
	uint64_t uid, gid, pid;
	uint8_t kind;
	int err;

	if (!take_u8(&payload, &kind) || (kind != 'C' && kind != 'T') || !take_varint(&payload, &r.ino) ||
	    !take_varint(&payload, &uid) || !take_varint(&payload, &gid) || !take_varint(&payload, &pid) ||
	    !take_bytes(&payload, &comm) || !take_bytes(&payload, &session) ||
	    !take_bytes(&payload, &message))
		return MVCC_ECORRUPT;
	err = row_inode_decode(payload, &r.row);
	if (!err)
		err = put_string(&texts, comm);
	if (!err)
		err = put_string(&texts, session);
	if (!err)
		err = put_string(&texts, message);
	if (!err) {
		r.create = kind == 'C';
		who = (struct ns_who){
			.uid = (uint32_t)uid,
			.gid = (uint32_t)gid,
			.pid = (uint32_t)pid,
			.comm = (char *)texts.data,
			.session = (char *)texts.data + comm.len + 1,
			.message = (char *)texts.data + comm.len + session.len + 2,
		};
		c.op = r.create ? "create" : "write";
		if (name_path(ns, r.row.parent, r.row.name, &c.path))
			buf_clear(&c.path);
		err = change_run(&c, redo_body, &r);
		if (err == MVCC_ENOLEASE) /* the file goes with its lease, in a moment */
			err = mvcc_intent_drop(ns->db, intent);
	}
	buf_release(&texts);
	return err;
}

struct intent_list {
	struct buf bytes; /* le64 id, then the payload with its length, one after the other */
};

static int intent_note(void *arg, uint64_t intent, struct slice payload)
{
	struct intent_list *list = arg;
	int err = buf_put_le64(&list->bytes, intent);

	return err ? err : buf_put_bytes(&list->bytes, payload);
}

int redo_intents(struct ns *ns)
{
	struct intent_list list = { 0 };
	struct slice rest, payload;
	uint64_t id;
	int err = mvcc_intents(ns->db, intent_note, &list);

	rest = slice_buf(&list.bytes);
	while (!err && take_le64(&rest, &id) && take_bytes(&rest, &payload))
		err = redo_one(ns, id, payload);
	buf_release(&list.bytes);
	return err;
}

/* ---- the timer --------------------------------------------------------------------------------- */

/* The dirty inode that is due first, with a reference; when none is due now, when to look again. */
static struct ns_inode *timer_due(struct ns *ns, int64_t now, int64_t *next_ms)
{
	struct ns_inode *due = NULL;

	*next_ms = INT64_MAX;
	for (struct ns_inode *n = ns->dirty; n && !due; n = n->dirty_next) {
		int64_t at = n->last_write_ms + ns->opt.commit_ms;
		int64_t latest = n->first_dirty_ms + ns->opt.commit_max_ms;

		if (at > latest)
			at = latest;
		if (at <= now)
			due = n;
		else if (at < *next_ms)
			*next_ms = at;
	}
	if (due)
		due->refs++;
	return due;
}

static void *timer_main(void *arg)
{
	struct ns *ns = arg;

	pthread_mutex_lock(&ns->table_lock);
	while (!ns->stop) {
		int64_t now = ns_time_ms(), next;
		struct ns_inode *n = timer_due(ns, now, &next);
		struct timespec until;

		if (n) {
			pthread_mutex_unlock(&ns->table_lock);
			pthread_rwlock_wrlock(stripe_of(ns, n->ino));
			if (inode_commit_locked(n, NULL)) {
				/* Later again: nobody waits for this one. */
				n->first_dirty_ms = n->last_write_ms = ns_time_ms();
			}
			pthread_rwlock_unlock(stripe_of(ns, n->ino));
			inode_put(n);
			pthread_mutex_lock(&ns->table_lock);
			continue;
		}
		if (next == INT64_MAX) {
			pthread_cond_wait(&ns->timer_wake, &ns->table_lock);
			continue;
		}
		until.tv_sec = next / 1000;
		until.tv_nsec = next % 1000 * 1000000;
		pthread_cond_timedwait(&ns->timer_wake, &ns->table_lock, &until);
	}
	pthread_mutex_unlock(&ns->table_lock);
	return NULL;
}

/* ---- open and close ---------------------------------------------------------------------------- */

int ns_init(void *arg, struct mvcc_txn *txn)
{
	int64_t now = ns_time_ns();
	struct row_inode root = {
		.mode = S_IFDIR | 0755,
		.uid = (uint32_t)geteuid(),
		.gid = (uint32_t)getegid(),
		.nlink = 2,
		.atime_ns = now,
		.mtime_ns = now,
		.ctime_ns = now,
		.btime_ns = now,
		.inlined = true,
		.parent = NS_ROOT,
	};

	(void)arg;
	return put_row(txn, NS_ROOT, &root);
}

void ns_free(struct ns *ns)
{
	for (unsigned i = 0; i < NS_STRIPES; i++)
		pthread_rwlock_destroy(&ns->stripes[i]);
	for (unsigned i = 0; i < NS_PATHS; i++)
		buf_release(&ns->paths[i].path);
	pthread_cond_destroy(&ns->timer_wake);
	pthread_mutex_destroy(&ns->table_lock);
	pthread_mutex_destroy(&ns->ino_lock);
	pthread_mutex_destroy(&ns->path_lock);
	free(ns->touch);
	free(ns);
}

struct ns *ns_new(struct mvcc *db, const struct ns_options *opt)
{
	struct ns *ns = calloc(1, sizeof(*ns));
	pthread_condattr_t attr;

	if (!ns)
		return NULL;
	ns->db = db;
	ns->opt = *opt;
	if (!ns->opt.commit_ms)
		ns->opt.commit_ms = 5000;
	if (!ns->opt.commit_max_ms)
		ns->opt.commit_max_ms = 300000;
	if (!ns->opt.dirty_bytes)
		ns->opt.dirty_bytes = (size_t)64 << 20;
	if (ns->opt.dirty_bytes < (size_t)1 << 20)
		ns->opt.dirty_bytes = (size_t)1 << 20;
	ns->inode_dirty_max = ns->opt.dirty_bytes / 4 / NS_PAGE;
	for (unsigned i = 0; i < NS_STRIPES; i++)
		pthread_rwlock_init(&ns->stripes[i], NULL);
	pthread_mutex_init(&ns->table_lock, NULL);
	pthread_mutex_init(&ns->ino_lock, NULL);
	pthread_mutex_init(&ns->path_lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&ns->timer_wake, &attr);
	pthread_condattr_destroy(&attr);
	return ns;
}

int ns_open(struct mvcc *db, const struct ns_options *opt, struct ns **out)
{
	struct ns *ns = ns_new(db, opt);
	int err;

	if (!ns)
		return -ENOMEM;
	err = redo_intents(ns);
	if (!err)
		err = -pthread_create(&ns->timer, NULL, timer_main, ns);
	if (err) {
		ns_free(ns);
		return err;
	}
	ns->timer_started = true;
	*out = ns;
	return 0;
}

int ns_close(struct ns *ns)
{
	int err = 0, first = 0;

	if (!ns)
		return 0;
	pthread_mutex_lock(&ns->table_lock);
	ns->stop = true;
	pthread_cond_signal(&ns->timer_wake);
	pthread_mutex_unlock(&ns->table_lock);
	pthread_join(ns->timer, NULL);
	for (unsigned i = 0; i < NS_BUCKETS; i++) {
		while (ns->table[i]) {
			struct ns_inode *n = ns->table[i];

			pthread_rwlock_wrlock(stripe_of(ns, n->ino));
			err = inode_commit_locked(n, NULL);
			if (err)
				inode_clean_locked(n);
			pthread_rwlock_unlock(stripe_of(ns, n->ino));
			if (err && !first)
				first = err;
			n->refs = 1;
			inode_put(n);
		}
	}
	ns_free(ns);
	return first;
}

struct mvcc *ns_db(struct ns *ns)
{
	return ns->db;
}

void ns_stats(struct ns *ns, struct ns_stats *out)
{
	pthread_mutex_lock(&ns->table_lock);
	*out = (struct ns_stats){
		.open_inodes = ns->ninodes,
		.dirty_inodes = ns->ndirty,
		.pending = ns->npending,
		.dirty_bytes = atomic_load(&ns->dirty_pages) * NS_PAGE,
	};
	pthread_mutex_unlock(&ns->table_lock);
}
