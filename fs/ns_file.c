/*
 * Open files: what was written and is in no revision yet.
 *
 * Data goes to dirty pages first. A file's pages above its share are staged as blobs with their
 * extents in a transaction of the inode's own, so that memory is bounded while nothing is visible to
 * any revision; the close adds the rest, the inode's row and, for a new file, its name, and commits
 * all as one. A file that stays open is committed by the timer.
 *
 * The life of a dirty inode is told in ns_int.h. All functions named _locked want the inode's stripe
 * lock held exclusively.
 */
#include "fs/ns_acl.h"
#include "fs/ns_int.h"

#include "mvcc/lease.h"

#include <assert.h>
#include <errno.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>
#include <unistd.h>

struct ns_file {
	struct ns_inode *inode;
	bool write; /* opened for writing: its close completes a change */
};

/* ---- the table of open and dirty inodes -------------------------------------------------------- */

static struct ns_inode **bucket_of(struct ns *ns, uint64_t ino)
{
	return &ns->table[(ino * 0x9e3779b97f4a7c15u) >> 52];
}

static struct ns_inode *find_locked(struct ns *ns, uint64_t ino)
{
	struct ns_inode *n = *bucket_of(ns, ino);

	while (n && n->ino != ino)
		n = n->next;
	return n;
}

struct ns_inode *inode_find(struct ns *ns, uint64_t ino)
{
	struct ns_inode *n;

	pthread_mutex_lock(&ns->table_lock);
	n = find_locked(ns, ino);
	if (n)
		n->refs++;
	pthread_mutex_unlock(&ns->table_lock);
	return n;
}

struct ns_inode *inode_get(struct ns *ns, uint64_t ino)
{
	struct ns_inode *n;

	pthread_mutex_lock(&ns->table_lock);
	n = find_locked(ns, ino);
	if (!n) {
		n = calloc(1, sizeof(*n));
		if (!n)
			goto out;
		n->ns = ns;
		n->ino = ino;
		n->cut = UINT64_MAX;
		n->next = *bucket_of(ns, ino);
		*bucket_of(ns, ino) = n;
		ns->ninodes++;
	}
	n->refs++;
out:
	pthread_mutex_unlock(&ns->table_lock);
	return n;
}

static void chunks_drop(struct ns_inode *n)
{
	for (size_t i = 0; i < n->nchunks; i++)
		free(n->chunks[i].data);
	n->nchunks = 0;
	atomic_fetch_sub(&n->ns->dirty_pages, n->dirty_pages);
	n->dirty_pages = 0;
}

static void txn_drop(struct ns_inode *n)
{
	if (n->txn != n->ns->bound)
		mvcc_txn_abort(n->txn);
	n->txn = NULL;
	mvcc_view_close(n->lender);
	n->lender = NULL;
}

static void inode_free(struct ns_inode *n)
{
	chunks_drop(n);
	free(n->chunks);
	txn_drop(n);
	buf_release(&n->name);
	buf_release(&n->content);
	buf_release(&n->label);
	free(n);
}

void inode_put(struct ns_inode *n)
{
	struct ns *ns = n->ns;
	struct ns_inode **p;

	pthread_mutex_lock(&ns->table_lock);
	if (--n->refs || (n->dirty && !n->gone.rev)) {
		pthread_mutex_unlock(&ns->table_lock);
		return;
	}
	for (p = bucket_of(ns, n->ino); *p != n; p = &(*p)->next)
		;
	*p = n->next;
	ns->ninodes--;
	pthread_mutex_unlock(&ns->table_lock);
	inode_free(n);
}

/* ---- pending names ----------------------------------------------------------------------------- */

static struct ns_inode **pending_bucket(struct ns *ns, uint64_t dir)
{
	return &ns->pending[(dir * 0x9e3779b97f4a7c15u) >> 52];
}

static void pending_add(struct ns_inode *n)
{
	struct ns_inode **bucket = pending_bucket(n->ns, n->row.parent);

	pthread_mutex_lock(&n->ns->table_lock);
	n->pending = true;
	n->pending_next = *bucket;
	n->pending_prev = bucket;
	if (*bucket)
		(*bucket)->pending_prev = &n->pending_next;
	*bucket = n;
	n->ns->npending++;
	pthread_mutex_unlock(&n->ns->table_lock);
}

static void pending_remove(struct ns_inode *n)
{
	pthread_mutex_lock(&n->ns->table_lock);
	*n->pending_prev = n->pending_next;
	if (n->pending_next)
		n->pending_next->pending_prev = n->pending_prev;
	n->pending = false;
	n->ns->npending--;
	pthread_mutex_unlock(&n->ns->table_lock);
}

uint64_t pending_find(struct ns *ns, uint64_t dir, struct slice name)
{
	struct ns_inode *n;
	uint64_t ino = 0;

	pthread_mutex_lock(&ns->table_lock);
	for (n = *pending_bucket(ns, dir); n; n = n->pending_next)
		if (n->row.parent == dir && slice_eq(slice_buf(&n->name), name))
			ino = n->ino;
	pthread_mutex_unlock(&ns->table_lock);
	return ino;
}

static int name_cmp(const void *a, const void *b)
{
	const struct ns_pending_name *x = a, *y = b;

	return slice_cmp(slice_of(x->name, x->len), slice_of(y->name, y->len));
}

int pending_names(struct ns *ns, uint64_t dir, struct ns_pending_name **out, size_t *out_n)
{
	struct ns_pending_name *names = NULL;
	size_t n = 0, want = 0;
	struct ns_inode *p;
	int err = 0;

	pthread_mutex_lock(&ns->table_lock);
	for (p = *pending_bucket(ns, dir); p; p = p->pending_next)
		want += p->row.parent == dir;
	if (want)
		names = calloc(want, sizeof(*names));
	if (want && !names)
		err = -ENOMEM;
	for (p = *pending_bucket(ns, dir); names && !err && p; p = p->pending_next) {
		if (p->row.parent != dir)
			continue;
		names[n] = (struct ns_pending_name){ malloc(p->name.len + 1), p->name.len, p->ino,
						     NS_TYPE_OF(S_IFREG) };
		if (!names[n].name)
			err = -ENOMEM;
		else
			memcpy(names[n++].name, p->name.data, p->name.len);
	}
	pthread_mutex_unlock(&ns->table_lock);
	if (err) {
		while (n)
			free(names[--n].name);
		free(names);
		return err;
	}
	if (n)
		qsort(names, n, sizeof(*names), name_cmp);
	*out = names;
	*out_n = n;
	return 0;
}

/* A directory with pending files was changed when the newest of them was made. */
void inode_dir_times(struct ns *ns, uint64_t dir, struct ns_attr *attr)
{
	pthread_mutex_lock(&ns->table_lock);
	for (struct ns_inode *n = *pending_bucket(ns, dir); n; n = n->pending_next) {
		if (n->row.parent != dir || n->row.btime_ns <= attr->mtime_ns)
			continue;
		attr->mtime_ns = n->row.btime_ns;
		if (attr->ctime_ns < n->row.btime_ns)
			attr->ctime_ns = n->row.btime_ns;
	}
	pthread_mutex_unlock(&ns->table_lock);
}

/* ---- loading and dirtying ---------------------------------------------------------------------- */

/* The committed tree below an inode's own changes; as ns_source(). */
static int base_source(struct ns_inode *n, struct ns_src *out)
{
	*out = (struct ns_src){ 0 };
	if (n->ns->live || !n->gone.rev)
		return ns_source(n->ns, out);
	return mvcc_view_open(n->ns->db, n->gone.rev - 1, &out->view);
}

int inode_load_locked(struct ns_inode *n)
{
	struct held_row held = { 0 };
	struct ns_src src;
	int err;

	if (n->loaded)
		return 0;
	err = base_source(n, &src);
	if (err)
		return err;
	err = src_row(src, n->ino, &held);
	mvcc_view_close(src.view);
	if (err == -ENOENT && n->opens && !n->gone.rev) {
		err = inode_notice_locked(n);
		return err || n->loaded ? err : -ENOENT;
	}
	if (!err)
		err = buf_copy(&n->name, held.row.name);
	if (!err)
		err = buf_copy(&n->content, held.row.content);
	if (!err) {
		n->row = held.row;
		n->row.name = slice_buf(&n->name);
		n->row.content = slice_buf(&n->content);
		n->base.mod_rev = held.item.mod_rev;
		n->base.create_rev = held.item.create_rev;
		n->base.version = held.item.version;
		n->cut = UINT64_MAX;
		n->stored_end = n->row.inlined ? 0 : n->row.size;
		n->loaded = true;
	}
	held_row_release(&held);
	return err;
}

void inode_attr(const struct ns_inode *n, struct ns_attr *out)
{
	uint64_t stored;

	row_to_attr(n->ino, &n->row, &n->base, out);
	/* What is not stored yet will be: count it, as du on any disk does. The kernel keeps what it is told. */
	stored = n->row.inlined ? n->content.len : n->cut == 0 ? 0 : n->row.alloc;
	out->alloc = stored + (uint64_t)n->dirty_pages * NS_PAGE;
	if (out->alloc > (n->row.size + NS_PAGE - 1) / NS_PAGE * NS_PAGE)
		out->alloc = (n->row.size + NS_PAGE - 1) / NS_PAGE * NS_PAGE;
	if (n->row.size <= NS_INLINE_MAX)
		out->alloc = n->row.size;
	if (n->gone.rev)
		out->nlink = 0;
}

static int set_label(struct ns_inode *n, const struct ns_who *who)
{
	const char *session = who->session ? who->session : "", *message = who->message ? who->message : "";
	int err = 0;

	buf_clear(&n->label);
	if (*session || *message)
		err = buf_put(&n->label, session, strlen(session) + 1);
	if (!err && n->label.len)
		err = buf_put(&n->label, message, strlen(message) + 1);
	return err;
}

static const char *session_of(const struct ns_inode *n)
{
	return n->label.len ? (const char *)n->label.data : "";
}

static const char *message_of(const struct ns_inode *n)
{
	const char *session = session_of(n);

	return n->label.len ? session + strlen(session) + 1 : "";
}

/* A file whose lease has ended can take no row any more. */
static int lease_check_locked(struct ns_inode *n)
{
	struct mvcc_lease lease;

	if (!n->row.lease || n->gone.rev || n->ns->live ||
	    (!mvcc_lease_get(n->ns->db, n->row.lease, &lease) && lease.left_ms))
		return 0;
	return inode_lease_over_locked(n);
}

int inode_dirty_locked(struct ns_inode *n, const struct ns_who *who, const char *op)
{
	struct ns *ns = n->ns;
	int err = ns->failed ? ns->failed : n->refused ? -EBUSY : inode_load_locked(n);

	if (!err)
		err = lease_check_locked(n);
	if (err)
		return err;
	n->last_write_ms = ns_time_ms();
	if (n->dirty)
		return 0;
	err = set_label(n, who);
	if (err)
		return err;
	n->first_dirty_ms = n->last_write_ms;
	n->uid = who->uid;
	n->gid = who->gid;
	n->pid = who->pid;
	snprintf(n->comm, sizeof(n->comm), "%s", who->comm ? who->comm : "");
	n->op = op;
	n->has_data = false;

	pthread_mutex_lock(&ns->table_lock);
	n->dirty = true;
	if (!n->gone.rev) {
		n->dirty_next = ns->dirty;
		n->dirty_prev = &ns->dirty;
		if (ns->dirty)
			ns->dirty->dirty_prev = &n->dirty_next;
		ns->dirty = n;
		if (ns->ndirty++ == 0)
			pthread_cond_signal(&ns->timer_wake);
	}
	pthread_mutex_unlock(&ns->table_lock);
	return 0;
}

static void dirty_unlink(struct ns_inode *n)
{
	struct ns *ns = n->ns;

	pthread_mutex_lock(&ns->table_lock);
	if (n->dirty && n->dirty_prev) {
		*n->dirty_prev = n->dirty_next;
		if (n->dirty_next)
			n->dirty_next->dirty_prev = n->dirty_prev;
		n->dirty_prev = NULL;
		n->dirty_next = NULL;
		ns->ndirty--;
	}
	n->dirty = false;
	pthread_mutex_unlock(&ns->table_lock);
}

void inode_clean_locked(struct ns_inode *n)
{
	dirty_unlink(n);
	if (n->pending)
		pending_remove(n);
	chunks_drop(n);
	txn_drop(n);
	n->loaded = false;
	n->intent = 0;
	n->intent_stale = false;
	n->acl_only = false;
	n->cut = UINT64_MAX;
}

static void set_gone(struct ns_inode *n, struct ns_gone gone)
{
	pthread_mutex_lock(&n->ns->table_lock);
	n->gone = gone;
	pthread_mutex_unlock(&n->ns->table_lock);
}

int inode_gone_locked(struct ns_inode *n, struct ns_gone gone)
{
	int err;

	dirty_unlink(n);
	set_gone(n, gone);
	err = inode_load_locked(n);
	n->row.nlink = 0;
	n->row.lease = 0; /* what it has from now on is its own */
	return err;
}

static int note_end(void *arg, const struct mvcc_item *item, mvcc_rev_t end_rev)
{
	(void)item;
	*(mvcc_rev_t *)arg = end_rev;
	return 0;
}

int inode_notice_locked(struct ns_inode *n)
{
	struct mvcc_item item = { 0 };
	struct mvcc_view *view;
	struct buf key = { 0 };
	mvcc_rev_t end = 0;
	int err;

	if (n->pending || n->gone.rev || n->ns->live)
		return 0;
	err = mvcc_view_open(n->ns->db, MVCC_REV_LATEST, &view);
	if (err)
		return err;
	err = row_inode_key(&key, n->ino);
	if (!err)
		err = mvcc_get(view, slice_buf(&key), &item);
	mvcc_item_release(&item);
	mvcc_view_close(view);
	if (err == -ENOENT) {
		err = mvcc_history(n->ns->db, slice_buf(&key), note_end, &end);
		if (!err && n->intent)
			err = mvcc_intent_drop(n->ns->db, n->intent);
		if (!err) {
			n->intent = 0;
			err = end ? inode_gone_locked(n, (struct ns_gone){ n->ino, end }) : -ENOENT;
		}
	}
	buf_release(&key);
	return err;
}

int inode_lease_over_locked(struct ns_inode *n)
{
	mvcc_rev_t floor = mvcc_floor(n->ns->db);

	if (n->intent)
		mvcc_intent_drop(n->ns->db, n->intent);
	n->intent = 0;
	/* Whichever revision removes it: at that of its row's last change it is as it was. */
	return inode_gone_locked(
		n, (struct ns_gone){ n->ino, (n->base.mod_rev > floor ? n->base.mod_rev : floor) + 1 });
}

bool inode_was_removed(struct ns_inode *n)
{
	pthread_rwlock_t *lock = stripe_of(n->ns, n->ino);
	bool gone;

	pthread_rwlock_wrlock(lock);
	if (n->opens && !n->gone.rev)
		inode_notice_locked(n);
	gone = n->gone.rev && n->loaded;
	pthread_rwlock_unlock(lock);
	return gone;
}

int inode_names_locked(struct ns *ns, uint64_t ino)
{
	struct ns_inode *n = ino ? inode_find(ns, ino) : NULL;
	struct held_row held = { 0 };
	struct ns_src src = { 0 };
	int err = 0;

	if (n && n->loaded && !n->pending && !n->gone.rev) {
		err = ns_source(ns, &src);
		if (!err)
			err = src_row(src, ino, &held);
		if (!err)
			err = buf_copy(&n->name, held.row.name);
		if (!err) {
			n->row.name = slice_buf(&n->name);
			n->row.parent = held.row.parent;
			n->row.nlink = held.row.nlink;
			if (n->row.ctime_ns < held.row.ctime_ns)
				n->row.ctime_ns = held.row.ctime_ns;
		}
		held_row_release(&held);
		mvcc_view_close(src.view);
	}
	if (n)
		inode_put(n);
	return err;
}

void inode_discard_locked(struct ns_inode *n)
{
	pending_remove(n);
	dirty_unlink(n);
	if (n->intent)
		mvcc_intent_drop(n->ns->db, n->intent);
	n->intent = 0;
	if (n->ns->live)
		bound_discard(n);
	else
		set_gone(n, (struct ns_gone){ n->ino, mvcc_current(n->ns->db) + 1 });
	n->row.nlink = 0;
}

/* ---- content ----------------------------------------------------------------------------------- */

/* A file that is gone has no rows any more: its transaction gets those of one kind that it had. */
static int copy_gone_rows(struct ns_inode *n, uint8_t kind)
{
	struct buf start = { 0 }, end = { 0 };
	const struct mvcc_item *item;
	struct mvcc_cursor *c = NULL;
	struct ns_src src;
	struct slice key;
	int err;

	err = base_source(n, &src);
	if (!err)
		err = row_bounds(kind, n->ino, &start, &end);
	if (!err)
		err = src_cursor(src, slice_buf(&start), slice_buf(&end), &c);
	while (!err && (err = mvcc_cursor_next(c, &key, &item)) > 0)
		err = mvcc_txn_put(n->txn, key, item->value, item->blobs, item->nblobs);
	mvcc_cursor_close(c);
	mvcc_view_close(src.view);
	buf_release(&start);
	buf_release(&end);
	return err;
}

static int cut_in_txn(struct ns_inode *n)
{
	int err = 0;

	if (n->cut != UINT64_MAX && !n->row.inlined)
		err = content_cut(n->txn, n->ino, n->cut, NS_SIZE_MAX, &n->row);
	if (!err)
		n->cut = UINT64_MAX;
	return err;
}

/* A transaction of an inode's own, that will not be committed, with what it has now. */
static int gone_txn(struct ns_inode *n)
{
	int err = mvcc_txn_begin(n->ns->db, &n->txn);

	/* A live file's rows may be there still, as what removed them is only in the bound transaction. */
	if (!err)
		err = content_drop_rows(n->txn, ROW_EXTENT, n->ino);
	if (!err)
		err = content_drop_rows(n->txn, ROW_XATTR, n->ino);
	if (!err)
		err = copy_gone_rows(n, ROW_EXTENT);
	if (!err)
		err = copy_gone_rows(n, ROW_XATTR);
	return err;
}

/* A transaction of a live inode's own, to be committed. */
static int live_txn(struct ns_inode *n)
{
	int err = mvcc_txn_begin(n->ns->db, &n->txn);

	/* Before it is put: so this is about what others do to it. */
	return err || n->pending ? err : expect_exists(n->txn, n->ino);
}

int inode_txn_locked(struct ns_inode *n)
{
	int err;

	if (n->txn)
		return 0;
	err = inode_notice_locked(n);
	if (err)
		return err;
	if (n->gone.rev)
		err = gone_txn(n);
	else if (n->ns->live)
		n->txn = n->ns->bound;
	else
		err = live_txn(n);
	if (!err && !n->txn)
		err = -ESTALE;
	if (!err)
		err = cut_in_txn(n);
	if (err)
		txn_drop(n);
	return err;
}

int inode_leave_locked(struct ns_inode *n)
{
	struct mvcc_txn *was = n->txn;
	int err = inode_load_locked(n);

	if (err)
		return err;
	n->txn = NULL;
	err = gone_txn(n);
	if (!err)
		err = cut_in_txn(n);
	if (err) {
		txn_drop(n);
		n->txn = was;
	}
	return err ? err : inode_gone_locked(n, (struct ns_gone){ n->ino, 1 });
}

/* What lies under the dirty pages. Bytes past the end of what is stored are zeros. */
static int read_base(struct ns_inode *n, uint64_t off, uint8_t *out, size_t len)
{
	struct ns_src src = { .txn = n->txn };
	int err;

	if (n->row.inlined) {
		size_t have = off < n->content.len ? (size_t)(n->content.len - off) : 0;

		if (have > len)
			have = len;
		if (have)
			memcpy(out, n->content.data + off, have);
		memset(out + have, 0, len - have);
		return 0;
	}
	if (n->row.alloc == 0) {
		memset(out, 0, len);
		return 0;
	}
	if (!n->txn) {
		err = base_source(n, &src);
		if (err)
			return err;
	}
	err = src_read_extents(n->ns->db, src, n->ino, n->cut, off, out, len);
	mvcc_view_close(src.view);
	return err;
}

/* The place of chunk `index`, or where it would be. */
static size_t chunk_pos(const struct ns_inode *n, uint64_t index)
{
	size_t lo = 0, hi = n->nchunks;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (n->chunks[mid].index < index)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct chunk *chunk_find(const struct ns_inode *n, uint64_t index)
{
	size_t i = chunk_pos(n, index);

	return i < n->nchunks && n->chunks[i].index == index ? &n->chunks[i] : NULL;
}

/* The chunk, made if need be, with memory for its first `bytes` bytes. */
static struct chunk *chunk_get(struct ns_inode *n, uint64_t index, size_t bytes)
{
	size_t i = chunk_pos(n, index);
	struct chunk *c;

	if (i == n->nchunks || n->chunks[i].index != index) {
		if (n->nchunks == n->chunks_cap) {
			size_t cap = n->chunks_cap ? 2 * n->chunks_cap : 4;
			struct chunk *more = realloc(n->chunks, cap * sizeof(*more));

			if (!more)
				return NULL;
			n->chunks = more;
			n->chunks_cap = cap;
		}
		memmove(&n->chunks[i + 1], &n->chunks[i], (n->nchunks - i) * sizeof(*n->chunks));
		n->chunks[i] = (struct chunk){ .index = index };
		n->nchunks++;
	}
	c = &n->chunks[i];
	if (c->cap < bytes) {
		size_t cap = c->cap ? c->cap : NS_PAGE;
		uint8_t *data;

		while (cap < bytes)
			cap *= 2;
		data = realloc(c->data, cap);
		if (!data)
			return NULL;
		c->data = data;
		c->cap = cap;
	}
	return c;
}

static void chunk_remove(struct ns_inode *n, size_t i)
{
	size_t pages = (size_t)__builtin_popcount(n->chunks[i].dirty);

	free(n->chunks[i].data);
	memmove(&n->chunks[i], &n->chunks[i + 1], (n->nchunks - i - 1) * sizeof(*n->chunks));
	n->nchunks--;
	n->dirty_pages -= pages;
	atomic_fetch_sub(&n->ns->dirty_pages, pages);
}

/* Makes page `p` of the file dirty; its old content is read when the caller won't write all of it. */
static int page_dirty(struct ns_inode *n, uint64_t p, bool whole, uint8_t **out)
{
	unsigned i = (unsigned)(p % CHUNK_PAGES);
	struct chunk *c = chunk_get(n, p / CHUNK_PAGES, (size_t)(i + 1) * NS_PAGE);
	int err;

	if (!c)
		return -ENOMEM;
	assert(c->data); /* as it has room for this page now */
	*out = c->data + (size_t)i * NS_PAGE;
	if (c->dirty & 1u << i)
		return 0;
	if (!whole) {
		err = read_base(n, p * NS_PAGE, *out, NS_PAGE);
		if (err)
			return err;
	}
	c->dirty |= 1u << i;
	n->dirty_pages++;
	atomic_fetch_add(&n->ns->dirty_pages, 1);
	return 0;
}

/* Puts the dirty pages of one chunk into the transaction. */
static int chunk_stage(struct ns_inode *n, const struct chunk *c)
{
	uint64_t base = c->index * NS_EXTENT_MAX;
	unsigned i = 0;
	int err = 0;

	while (!err && i < CHUNK_PAGES) {
		uint64_t from, to;
		unsigned first;

		while (i < CHUNK_PAGES && !(c->dirty & 1u << i))
			i++;
		first = i;
		while (i < CHUNK_PAGES && c->dirty & 1u << i)
			i++;
		from = base + (uint64_t)first * NS_PAGE;
		to = base + (uint64_t)i * NS_PAGE;
		if (to > n->row.size)
			to = n->row.size;
		if (first == CHUNK_PAGES || from >= to)
			continue;
		err = content_place(n->txn, n->ino, from,
				    slice_of(c->data + (size_t)first * NS_PAGE, (size_t)(to - from)),
				    from >= n->stored_end, &n->row);
		if (n->stored_end < to)
			n->stored_end = to;
	}
	return err;
}

/* Content that lived in the row goes to extents, where no dirty page has replaced it. */
static int inode_uninline(struct ns_inode *n)
{
	int err = 0;

	if (!n->row.inlined)
		return 0;
	err = inode_txn_locked(n);
	if (err)
		return err;
	n->row.inlined = false;
	n->row.alloc = 0;
	if (n->content.len) {
		struct chunk *c = chunk_find(n, 0);

		if (!c || !(c->dirty & 1))
			err = content_place(n->txn, n->ino, 0, slice_buf(&n->content), true, &n->row);
		n->stored_end = n->content.len;
	}
	if (err) {
		n->row.inlined = true;
		return err;
	}
	buf_clear(&n->content);
	n->row.content = slice_buf(&n->content);
	return 0;
}

/*
 * Keeps an inode within its share of memory: stages whole chunks from the front, leaving the one at
 * hand (a sequential writer still fills it) for last.
 */
static int inode_shrink(struct ns_inode *n, uint64_t at_hand)
{
	struct ns *ns = n->ns;
	size_t total_max = ns->opt.dirty_bytes / NS_PAGE;
	int err;

	while (n->nchunks &&
	       (n->dirty_pages > ns->inode_dirty_max || atomic_load(&ns->dirty_pages) > total_max)) {
		size_t i = n->nchunks > 1 && n->chunks[0].index == at_hand ? 1 : 0;

		err = inode_uninline(n);
		if (!err)
			err = inode_txn_locked(n);
		if (!err)
			err = chunk_stage(n, &n->chunks[i]);
		if (err)
			return err;
		chunk_remove(n, i);
	}
	return 0;
}

static ssize_t read_dirty(struct ns_inode *n, uint64_t off, uint8_t *out, size_t len)
{
	int err;

	if (off >= n->row.size)
		return 0;
	if (len > n->row.size - off)
		len = (size_t)(n->row.size - off);
	err = read_base(n, off, out, len);
	if (err)
		return err;
	for (size_t i = chunk_pos(n, off / NS_EXTENT_MAX); i < n->nchunks; i++) {
		const struct chunk *c = &n->chunks[i];
		uint64_t base = c->index * NS_EXTENT_MAX;

		if (base >= off + len)
			break;
		for (unsigned p = 0; p < CHUNK_PAGES; p++) {
			uint64_t from = base + (uint64_t)p * NS_PAGE, to = from + NS_PAGE;
			size_t skip;

			if (!(c->dirty & 1u << p) || to <= off || from >= off + len)
				continue;
			skip = from < off ? (size_t)(off - from) : 0;
			if (to > off + len)
				to = off + len;
			memcpy(out + (from + skip - off), c->data + (size_t)p * NS_PAGE + skip,
			       (size_t)(to - from) - skip);
		}
	}
	return (ssize_t)len;
}

void lock_for_reading(struct ns_inode *n)
{
	pthread_rwlock_t *lock = stripe_of(n->ns, n->ino);

	pthread_rwlock_rdlock(lock);
	if (!n->txn)
		return;
	pthread_rwlock_unlock(lock);
	pthread_rwlock_wrlock(lock);
}

static ssize_t read_now(struct ns_inode *n, uint64_t off, void *out, size_t len)
{
	struct ns_src src;
	ssize_t got;

	lock_for_reading(n);
	if (n->loaded) {
		got = read_dirty(n, off, out, len);
	} else {
		got = ns_source(n->ns, &src);
		if (!got) {
			got = src_read(n->ns->db, src, n->ino, off, out, len);
			mvcc_view_close(src.view);
		}
	}
	pthread_rwlock_unlock(stripe_of(n->ns, n->ino));
	return got;
}

ssize_t ns_file_read(struct ns_file *f, uint64_t off, void *out, size_t len)
{
	struct ns_inode *n = f->inode;
	ssize_t got = read_now(n, off, out, len);

	return got == -ENOENT && inode_was_removed(n) ? read_now(n, off, out, len) : got;
}

static void touch_data(struct ns_inode *n)
{
	n->row.mtime_ns = n->row.ctime_ns = ns_time_ns();
	n->has_data = true;
}

int ns_file_write(struct ns_file *f, const struct ns_who *who, uint64_t off, const void *data, size_t len)
{
	struct ns_inode *n = f->inode;
	pthread_rwlock_t *lock = stripe_of(n->ns, n->ino);
	const uint8_t *from = data;
	uint64_t at = off, end = off + len;
	int err;

	if (off > NS_SIZE_MAX || len > NS_SIZE_MAX - off)
		return -EFBIG;
	if (len == 0)
		return 0;
	pthread_rwlock_wrlock(lock);
	err = inode_dirty_locked(n, who, "write");
	while (!err && at < end) {
		size_t skip = (size_t)(at % NS_PAGE);
		size_t part = NS_PAGE - skip;
		uint8_t *to;

		if (part > end - at)
			part = (size_t)(end - at);
		if (at == off || at % NS_EXTENT_MAX == 0)
			err = inode_shrink(n, at / NS_EXTENT_MAX);
		if (!err)
			err = page_dirty(n, at / NS_PAGE, part == NS_PAGE, &to);
		if (err)
			break;
		memcpy(to + skip, from, part);
		from += part;
		at += part;
		if (at > n->row.size)
			n->row.size = at;
	}
	if (at > off)
		touch_data(n);
	pthread_rwlock_unlock(lock);
	return err;
}

/* Zeroes the part of page `p` between two offsets in it, if there may be something to zero. */
static int page_zero(struct ns_inode *n, uint64_t p, size_t from, size_t to)
{
	struct chunk *c = chunk_find(n, p / CHUNK_PAGES);
	unsigned i = (unsigned)(p % CHUNK_PAGES);
	uint8_t *page;
	int err;

	if (from >= to || p * NS_PAGE >= n->row.size)
		return 0;
	if (!c || !(c->dirty & 1u << i)) {
		if (n->row.inlined ? n->content.len <= p * NS_PAGE + from : n->row.alloc == 0)
			return 0;
	}
	err = page_dirty(n, p, false, &page);
	if (!err)
		memset(page + from, 0, to - from);
	return err;
}

/* Drops the dirty pages first <= p < last. */
static void pages_drop(struct ns_inode *n, uint64_t first, uint64_t last)
{
	size_t i = chunk_pos(n, first / CHUNK_PAGES);

	while (i < n->nchunks && n->chunks[i].index * CHUNK_PAGES < last) {
		struct chunk *c = &n->chunks[i];
		uint64_t base = c->index * CHUNK_PAGES;
		uint32_t drop = 0;

		for (unsigned p = 0; p < CHUNK_PAGES; p++)
			if (base + p >= first && base + p < last)
				drop |= 1u << p;
		drop &= c->dirty;
		c->dirty &= ~drop;
		n->dirty_pages -= (size_t)__builtin_popcount(drop);
		atomic_fetch_sub(&n->ns->dirty_pages, (size_t)__builtin_popcount(drop));
		if (c->dirty)
			i++;
		else
			chunk_remove(n, i);
	}
}

/* Makes [from, to) a hole of zeros, within the file's size. */
static int punch(struct ns_inode *n, uint64_t from, uint64_t to)
{
	uint64_t first = (from + NS_PAGE - 1) / NS_PAGE, last = to / NS_PAGE;
	int err = 0;

	if (to >= n->row.size) {
		to = n->row.size;
		last = (to + NS_PAGE - 1) / NS_PAGE;
	}
	if (from >= to)
		return 0;
	if (first > last)
		return page_zero(n, from / NS_PAGE, (size_t)(from % NS_PAGE), (size_t)(to % NS_PAGE));
	if (from % NS_PAGE)
		err = page_zero(n, from / NS_PAGE, (size_t)(from % NS_PAGE), NS_PAGE);
	if (!err && to % NS_PAGE && last == to / NS_PAGE)
		err = page_zero(n, last, 0, (size_t)(to % NS_PAGE));
	if (err || first >= last)
		return err;
	pages_drop(n, first, last);
	if (n->row.inlined) {
		/* What is inlined lies in page 0, and page 0 is punched whole if it is punched here. */
		if (first == 0)
			buf_clear(&n->content);
		n->row.content = slice_buf(&n->content);
		return 0;
	}
	if (n->row.alloc == 0)
		return 0;
	err = inode_txn_locked(n);
	return err ? err : content_cut(n->txn, n->ino, first * NS_PAGE, last * NS_PAGE, &n->row);
}

static int truncate_locked(struct ns_inode *n, uint64_t size)
{
	int err = 0;

	if (size > NS_SIZE_MAX)
		return -EFBIG;
	if (size < n->row.size) {
		unsigned i = (unsigned)(size / NS_PAGE % CHUNK_PAGES);
		struct chunk *c;

		pages_drop(n, (size + NS_PAGE - 1) / NS_PAGE, UINT64_MAX);
		c = chunk_find(n, size / NS_EXTENT_MAX);
		if (size % NS_PAGE && c && c->dirty & 1u << i)
			memset(c->data + (size_t)i * NS_PAGE + size % NS_PAGE, 0,
			       NS_PAGE - (size_t)(size % NS_PAGE));
		if (n->row.inlined && n->content.len > size)
			n->content.len = (size_t)size;
		n->row.content = slice_buf(&n->content);
		if (!n->row.inlined && n->txn)
			err = content_cut(n->txn, n->ino, size, NS_SIZE_MAX, &n->row);
		else if (!n->row.inlined && size < n->cut)
			n->cut = size;
	}
	if (!err)
		n->row.size = size;
	return err;
}

/* The access control list of a dirty inode, if it has one, gets the bits of `mode`. */
static int acl_follow_mode_locked(struct ns_inode *n, uint32_t mode)
{
	struct ns_src src = { 0 };
	struct buf acl = { 0 };
	int err = 0;

	if (!n->txn && n->pending)
		return 0;
	if (!n->txn) {
		/* Few files have one: no transaction is begun to find out. */
		err = base_source(n, &src);
		if (!err)
			err = src_acl(src, n->ino, ACL_ACCESS, &acl);
		mvcc_view_close(src.view);
		buf_release(&acl);
		if (!err)
			err = inode_txn_locked(n);
	}
	if (!err)
		err = acl_follow_mode(n->txn, (struct ns_src){ .txn = n->txn }, n->ino, mode, n->row.lease);
	return err == -ENODATA ? 0 : err;
}

int inode_setattr_locked(struct ns_inode *n, const struct ns_attr *set, unsigned what)
{
	int64_t now = ns_time_ns();
	int err = 0;

	n->intent_stale = true;
	if (what & NS_SET_SIZE) {
		err = truncate_locked(n, set->size);
		if (err)
			return err;
		n->row.mtime_ns = now;
		n->has_data = true;
	}
	if (what & NS_SET_MODE) {
		err = acl_follow_mode_locked(n, set->mode);
		if (err)
			return err;
		n->row.mode = (n->row.mode & S_IFMT) | (set->mode & 07777);
	}
	if (what & NS_SET_UID)
		n->row.uid = set->uid;
	if (what & NS_SET_GID)
		n->row.gid = set->gid;
	if (what & NS_SET_ATIME)
		n->row.atime_ns = set->atime_ns;
	if (what & NS_SET_MTIME)
		n->row.mtime_ns = set->mtime_ns;
	n->row.ctime_ns = what & NS_SET_CTIME ? set->ctime_ns : now;
	return err;
}

int ns_file_allocate(struct ns_file *f, const struct ns_who *who, int mode, uint64_t off, uint64_t len)
{
	struct ns_inode *n = f->inode;
	pthread_rwlock_t *lock = stripe_of(n->ns, n->ino);
	bool keep = mode & FALLOC_FL_KEEP_SIZE;
	int kind = mode & ~FALLOC_FL_KEEP_SIZE;
	int err;

	if (kind != 0 && kind != FALLOC_FL_ZERO_RANGE && !(kind == FALLOC_FL_PUNCH_HOLE && keep))
		return -EOPNOTSUPP;
	if (len == 0)
		return -EINVAL;
	if (off > NS_SIZE_MAX || len > NS_SIZE_MAX - off)
		return -EFBIG;
	pthread_rwlock_wrlock(lock);
	err = inode_load_locked(n);
	/* Space is not set aside, so allocating inside the file, or beyond its end unseen, changes nothing. */
	if (err || (kind == 0 && (keep || off + len <= n->row.size)))
		goto out;
	err = inode_dirty_locked(n, who, "fallocate");
	if (!err && kind)
		err = punch(n, off, off + len);
	if (!err && !keep && off + len > n->row.size)
		n->row.size = off + len;
	if (!err)
		touch_data(n);
out:
	if (!n->dirty && !n->gone.rev)
		n->loaded = false;
	pthread_rwlock_unlock(lock);
	return err;
}

/* ---- copying by sharing ------------------------------------------------------------------------ */

/* Where copied bytes are, and how many there are up to the end of the file. */
struct source {
	struct mvcc_view *view;
	uint64_t ino, size;
	bool inlined;
};

/*
 * The source as it is committed; of a live file that is not possible while it is being written. Caller holds its stripe
 * lock if it is live.
 */
static int source_open(struct ns *ns, const struct ns_copy *copy, struct source *src)
{
	const struct ns_inode *from = copy->from ? copy->from->inode : NULL;
	struct held_row held = { 0 };
	int err;

	if (from && (from->dirty || from->gone.rev))
		return -EXDEV;
	src->ino = from ? from->ino : copy->ino;
	err = mvcc_view_open(ns->db, from ? MVCC_REV_LATEST : copy->rev, &src->view);
	if (!err)
		err = src_row((struct ns_src){ .view = src->view }, src->ino, &held);
	src->size = held.row.size;
	src->inlined = held.row.inlined;
	held_row_release(&held);
	return err;
}

/* Takes away what is at [from, to), whole pages or up to the end: the transaction may put extents there. */
static int clear_for_extents(struct ns_inode *n, uint64_t from, uint64_t to)
{
	int err = inode_uninline(n);

	if (!err)
		err = inode_txn_locked(n);
	if (err)
		return err;
	pages_drop(n, from / NS_PAGE, (to + NS_PAGE - 1) / NS_PAGE);
	return from < n->stored_end ? content_cut(n->txn, n->ino, from, to, &n->row) : 0;
}

/*
 * What a past revision has may go when nobody looks at it: so a view stays open until the commit. One is enough, as a
 * target with several sources is rare.
 */
static int lend(struct ns_inode *n, const struct ns_copy *copy, struct source *src)
{
	if (copy->from || (n->lender && mvcc_view_rev(n->lender) == copy->rev))
		return 0;
	if (n->lender)
		return -EXDEV;
	n->lender = src->view;
	src->view = NULL;
	return 0;
}

static int share_locked(struct ns_inode *n, const struct ns_copy *copy, const struct ns_who *who,
			struct source *src, uint64_t len)
{
	uint64_t end = copy->to_off + len;
	struct ns_src rows;
	int err = inode_dirty_locked(n, who, "write");

	if (!err)
		err = lend(n, copy, src);
	if (!err)
		err = clear_for_extents(n, copy->to_off,
					end); /* from here on it cannot be refused any more */
	rows = (struct ns_src){ .view = src->view ? src->view : n->lender };
	if (!err)
		err = content_share(n->txn, rows, src->ino, copy->off, n->ino, copy->to_off, len, &n->row);
	if (err)
		return err;
	if (n->stored_end < end)
		n->stored_end = end;
	if (n->row.size < end)
		n->row.size = end;
	touch_data(n);
	return 0;
}

/* How many of the bytes can be shared: those up to the last whole page, or all if they end the target. */
static uint64_t shareable(const struct ns_copy *copy, const struct source *src, uint64_t target_size)
{
	uint64_t len = copy->len < NS_COPY_MAX ? copy->len : NS_COPY_MAX;

	if (copy->off >= src->size)
		return 0;
	if (len > src->size - copy->off)
		len = src->size - copy->off;
	if (copy->to_off + len < target_size)
		len -= (copy->to_off + len) % NS_PAGE;
	return len;
}

static int copy_locked(struct ns_inode *n, const struct ns_copy *copy, const struct ns_who *who,
		       uint64_t *copied)
{
	struct source src = { 0 };
	uint64_t len = 0;
	int err = source_open(n->ns, copy, &src);

	if (!err)
		err = inode_load_locked(n);
	if (!err) {
		len = shareable(copy, &src, n->row.size);
		if (copy->off < src.size && (src.inlined || len < NS_PAGE))
			err = -EXDEV;
	}
	if (!err && len)
		err = share_locked(n, copy, who, &src, len);
	if (!n->dirty && !n->gone.rev)
		n->loaded = false;
	mvcc_view_close(src.view);
	if (!err)
		*copied = len;
	return err;
}

int ns_file_copy(const struct ns_copy *copy, const struct ns_who *who, uint64_t *copied)
{
	struct ns_inode *n = copy->to->inode;
	uint64_t inos[2] = { n->ino, copy->from ? copy->from->inode->ino : n->ino };
	struct lock_set locks;
	int err;

	if (copy->off > NS_SIZE_MAX || copy->len > NS_SIZE_MAX - copy->off)
		return -EINVAL;
	if (copy->to_off > NS_SIZE_MAX || copy->len > NS_SIZE_MAX - copy->to_off)
		return -EFBIG;
	if (copy->to_off % NS_PAGE || (copy->from && copy->from->inode == n))
		return -EXDEV;
	lock_set(n->ns, &locks, inos, 2);
	err = copy_locked(n, copy, who, copied);
	unlock_set(n->ns, &locks);
	return err;
}

/* ---- holes ------------------------------------------------------------------------------------- */

/* The first dirty data at or after `off`: true with its bounds. */
static bool next_dirty(const struct ns_inode *n, uint64_t off, uint64_t *start, uint64_t *end)
{
	for (size_t i = chunk_pos(n, off / NS_EXTENT_MAX); i < n->nchunks; i++)
		for (unsigned p = 0; p < CHUNK_PAGES; p++) {
			uint64_t from = n->chunks[i].index * NS_EXTENT_MAX + (uint64_t)p * NS_PAGE;

			if (!(n->chunks[i].dirty & 1u << p) || from + NS_PAGE <= off)
				continue;
			*start = from > off ? from : off;
			*end = from + NS_PAGE;
			return true;
		}
	return false;
}

/* The first data at or after `off`, dirty or stored: 1, 0 when there is none, or negative. */
static int next_data(struct ns_inode *n, struct ns_src src, uint64_t off, uint64_t *start, uint64_t *end)
{
	uint64_t s = 0, e = 0;
	bool dirty = next_dirty(n, off, &s, &e);
	int got = 0;

	if (n->row.inlined) {
		if (off < n->content.len) {
			*start = off;
			*end = n->content.len;
			got = 1;
		}
	} else if (n->row.alloc) {
		got = src_next_data(src, n->ino, n->cut < n->row.size ? n->cut : n->row.size, off, start,
				    end);
	}
	if (got >= 0 && dirty && (got == 0 || s < *start)) {
		*start = s;
		*end = e;
		got = 1;
	}
	return got;
}

static int seek_dirty(struct ns_inode *n, uint64_t off, int whence, uint64_t *out)
{
	struct ns_src src = { .txn = n->txn };
	uint64_t at = off, start = 0, end = 0;
	int got = 0;

	if (off >= n->row.size)
		return -ENXIO;
	if (!n->txn) {
		got = base_source(n, &src);
		if (got)
			return got;
	}
	if (whence == SEEK_DATA) {
		got = next_data(n, src, off, &start, &end);
		if (got > 0 && start < n->row.size)
			*out = start;
		else if (got >= 0)
			got = -ENXIO;
	} else {
		while ((got = next_data(n, src, at, &start, &end)) > 0 && start == at && at < n->row.size)
			at = end;
		*out = at < n->row.size ? at : n->row.size;
	}
	mvcc_view_close(src.view);
	return got < 0 ? got : 0;
}

static int seek_now(struct ns_inode *n, uint64_t off, int whence, uint64_t *out)
{
	struct ns_src src;
	int err;

	lock_for_reading(n);
	if (n->loaded) {
		err = seek_dirty(n, off, whence, out);
	} else {
		err = ns_source(n->ns, &src);
		if (!err) {
			err = src_seek(src, n->ino, off, whence, out);
			mvcc_view_close(src.view);
		}
	}
	pthread_rwlock_unlock(stripe_of(n->ns, n->ino));
	return err;
}

int ns_file_seek(struct ns_file *f, uint64_t off, int whence, uint64_t *out)
{
	struct ns_inode *n = f->inode;
	int err;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	err = seek_now(n, off, whence, out);
	return err == -ENOENT && inode_was_removed(n) ? seek_now(n, off, whence, out) : err;
}

/* ---- committing -------------------------------------------------------------------------------- */

/* Brings all content into the transaction and the row into the form it is stored in. */
static int content_commit(struct ns_inode *n)
{
	int err;

	if (n->row.size <= NS_INLINE_MAX) {
		uint8_t bytes[NS_INLINE_MAX];
		ssize_t got = read_dirty(n, 0, bytes, (size_t)n->row.size);
		uint64_t alloc = n->row.alloc;

		if (got < 0)
			return (int)got;
		err = inode_txn_locked(n);
		if (!err && !n->row.inlined && alloc)
			err = content_cut(n->txn, n->ino, 0, NS_SIZE_MAX, &n->row);
		if (!err)
			err = buf_copy(&n->content, slice_of(bytes, (size_t)got));
		if (err)
			return err;
		n->row.inlined = true;
		n->row.alloc = 0;
		n->row.content = slice_buf(&n->content);
		return 0;
	}
	err = inode_uninline(n);
	if (!err)
		err = inode_txn_locked(n);
	/* What is in the transaction stays there if the commit fails: it is not staged again by the next try. */
	while (!err && n->nchunks) {
		err = chunk_stage(n, &n->chunks[n->nchunks - 1]);
		if (!err)
			chunk_remove(n, n->nchunks - 1);
	}
	return err;
}

static int commit_path(struct ns_inode *n, struct buf *path)
{
	int err = dir_path(n->ns, n->row.parent, path);

	if (err)
		return err;
	if (path->len > 1)
		err = buf_put(path, "/", 1);
	return err ? err : buf_put_slice(path, n->row.name);
}

/* Puts the inode's row, and the name of a new file, into its transaction. */
static int rows_commit(struct ns_inode *n)
{
	int err = 0;

	if (n->pending) {
		err = expect_exists(n->txn, n->row.parent);
		if (!err)
			err = put_dirent(n->txn, n->row.parent, n->row.name, n->ino, NS_TYPE_OF(n->row.mode),
					 0);
		if (!err)
			err = touch_dir(n->ns, n->txn, n->row.parent, n->row.btime_ns, 0);
	}
	return err ? err : put_row(n->txn, n->ino, &n->row);
}

/*
 * Only we change this inode's rows, under its lock, except that it may be removed this very moment: then it is gone,
 * as it was committed last. Else somebody changed them, or we have a bug.
 */
static int commit_refused(struct ns_inode *n)
{
	bool pending = n->pending;
	int err;

	inode_clean_locked(n);
	err = pending ? 0 : inode_notice_locked(n);
	if (err || n->gone.rev)
		return err;
	if (n->ns->opt.log)
		n->ns->opt.log(n->ns->opt.log_arg, LOG_CRIT, "a file being written was changed by another");
	return -EIO;
}

/* ---- compare-and-swap -------------------------------------------------------------------------- */

int ns_file_if(struct ns *ns, uint64_t ino, enum ns_compare what, uint64_t number)
{
	pthread_rwlock_t *lock = stripe_of(ns, ino);
	struct ns_inode *n = inode_find(ns, ino);
	int err = 0;

	if (ns->live) {
		if (n)
			inode_put(n);
		return -EOPNOTSUPP;
	}
	if (!n)
		return -EINVAL;
	pthread_rwlock_wrlock(lock);
	if (!n->writers || n->gone.rev)
		err = -EINVAL;
	else if (n->writers > 1 && number != NS_IF_NEVER)
		err = -EBUSY; /* two who each compared with the same would both find it */
	if (!err) {
		n->compare = what;
		n->compare_n = number;
		n->refused = n->refused && n->writers > 1;
	}
	pthread_rwlock_unlock(lock);
	inode_put(n);
	return err;
}

void ns_on_dropped(struct ns *ns, void (*fn)(void *arg, const struct ns_dropped *what), void *arg)
{
	pthread_mutex_lock(&ns->table_lock);
	ns->dropped = fn;
	ns->dropped_arg = arg;
	pthread_mutex_unlock(&ns->table_lock);
}

/* What the inode's committed row has to compare; 0 when there is none. */
static int compared(struct ns_inode *n, uint64_t *out)
{
	struct held_row held = { 0 };
	struct mvcc_view *view;
	int err = mvcc_view_open(n->ns->db, MVCC_REV_LATEST, &view);

	*out = 0;
	if (err)
		return err;
	err = src_row((struct ns_src){ .view = view }, n->ino, &held);
	if (!err)
		*out = n->compare == NS_IF_REV ? held.item.mod_rev : held.item.version;
	held_row_release(&held);
	mvcc_view_close(view);
	return err == -ENOENT ? 0 : err;
}

/* The change at hand must not happen. */
static void drop_locked(struct ns_inode *n)
{
	struct ns_dropped what = { .ino = n->ino, .dir = n->row.parent, .name = slice_buf(&n->name) };

	n->refused = true;
	if (n->pending) {
		inode_discard_locked(n);
		what.gone = n->gone;
	} else {
		if (n->intent)
			mvcc_intent_drop(n->ns->db, n->intent);
		inode_clean_locked(n);
	}
	pthread_mutex_lock(&n->ns->table_lock);
	if (n->ns->dropped)
		n->ns->dropped(n->ns->dropped_arg, &what);
	pthread_mutex_unlock(&n->ns->table_lock);
}

/* Compares, if there is something to; what does not compare is dropped, which is no error here: see refused_locked(). */
static int compare_locked(struct ns_inode *n)
{
	uint64_t found;
	int err = n->compare ? compared(n, &found) : 0;

	if (!err && n->compare && found != n->compare_n)
		drop_locked(n);
	return err;
}

/* What whoever writes the file is told after a commit of it that went well. What was removed meanwhile has changed, too. */
static int refused_locked(const struct ns_inode *n)
{
	return n->refused || (n->compare && n->gone.rev) ? -EBUSY : 0;
}

/* The change of an inode of the live tree becomes a revision. */
static int commit_alone(struct ns_inode *n, mvcc_rev_t *rev)
{
	struct mvcc_story story = {
		.uid = n->uid,
		.gid = n->gid,
		.pid = n->pid,
		.comm = n->comm,
		.session = session_of(n),
		.message = message_of(n),
	};
	struct buf path = { 0 };
	mvcc_rev_t made;
	int err = commit_path(n, &path);

	if (!err)
		err = rows_commit(n);
	if (!err && n->intent)
		err = mvcc_txn_settle(n->txn, n->intent);
	if (err)
		goto out;
	story.op = n->pending ? "create" : n->op;
	story.path = slice_buf(&path);
	err = mvcc_txn_commit(n->txn, &story, MVCC_COMMIT_KEEP, &made);
	if (err == MVCC_ECONFLICT) {
		n->txn = NULL;
		err = commit_refused(n);
	} else if (!err) {
		n->txn = NULL;
		if (n->compare)
			n->compare_n = n->compare == NS_IF_REV ? made : n->compare_n + 1;
		if (rev)
			*rev = made;
		inode_clean_locked(n);
	}
out:
	if (err == MVCC_ENOLEASE) /* it has ended just now */
		err = inode_lease_over_locked(n);
	buf_release(&path);
	return err;
}

int inode_commit_locked(struct ns_inode *n, mvcc_rev_t *rev)
{
	int err;

	if (!n->dirty || n->gone.rev)
		return 0;
	err = lease_check_locked(n);
	if (!err && n->txn)
		err = inode_notice_locked(n);
	if (!err && !n->gone.rev)
		err = compare_locked(n);
	if (!err && n->dirty && !n->gone.rev)
		err = content_commit(n);
	if (err || !n->dirty || n->gone.rev)
		return err;
	if (!n->ns->live)
		return commit_alone(n, rev);
	err = rows_commit(n);
	if (!err)
		inode_clean_locked(n);
	return err;
}

void inode_finish_locked(struct ns_inode *n, const struct ns_who *who)
{
	/* If it cannot be committed now, the change at hand just goes on. */
	if (n->dirty && n->intent && (!who || n->pid != who->pid))
		inode_commit_locked(n, NULL);
}

/* Tells the log once for a file that could not be committed; it stays dirty, and is tried again. */
static void log_failure(struct ns_inode *n, int err)
{
	char text[128];

	if (!n->ns->opt.log)
		return;
	snprintf(text, sizeof(text), "inode %llu cannot be committed yet: %s", (unsigned long long)n->ino,
		 mvcc_strerror(err));
	n->ns->opt.log(n->ns->opt.log_arg, LOG_ERR, text);
}

int settle_ino(struct ns *ns, uint64_t ino)
{
	pthread_rwlock_t *lock = stripe_of(ns, ino);
	struct ns_inode *n = inode_find(ns, ino);
	int err;

	if (!n)
		return 0;
	pthread_rwlock_wrlock(lock);
	err = inode_commit_locked(n, NULL);
	pthread_rwlock_unlock(lock);
	inode_put(n);
	return err;
}

int settle_name(struct ns *ns, uint64_t dir, struct slice name)
{
	uint64_t ino = pending_find(ns, dir, name);

	return ino ? settle_ino(ns, ino) : 0;
}

int ns_settle_dir(struct ns *ns, uint64_t dir, mvcc_rev_t *rev)
{
	struct ns_pending_name *names;
	size_t n;
	int err = pending_names(ns, dir, &names, &n);

	if (err)
		return err;
	for (size_t i = 0; i < n; i++) {
		if (!err)
			err = settle_ino(ns, names[i].ino);
		free(names[i].name);
	}
	free(names);
	if (!err && rev)
		*rev = mvcc_current(ns->db);
	return err;
}

/* ---- handles ----------------------------------------------------------------------------------- */

static struct ns_file *file_new(struct ns *ns, uint64_t ino, bool write)
{
	struct ns_file *f = malloc(sizeof(*f));

	if (!f)
		return NULL;
	f->inode = inode_get(ns, ino);
	if (!f->inode) {
		free(f);
		return NULL;
	}
	f->write = write;
	return f;
}

/* As writing does: but this truncation is the open's, of which the kernel says nothing more. */
static void drop_set_id(struct ns_inode *n, const struct ns_who *who)
{
	if (who->uid == 0)
		return;
	n->row.mode &= ~(uint32_t)S_ISUID;
	if (n->row.mode & S_IXGRP)
		n->row.mode &= ~(uint32_t)S_ISGID;
}

int ns_file_open(struct ns *ns, const struct ns_who *who, uint64_t ino, unsigned flags, struct ns_gone gone,
		 struct ns_file **out)
{
	pthread_rwlock_t *lock = stripe_of(ns, ino);
	struct ns_file *f = file_new(ns, ino, flags & (NS_OPEN_WRITE | NS_OPEN_TRUNC));
	bool trunc = flags & NS_OPEN_TRUNC;
	struct ns_inode *n;
	int err = 0;

	if (!f)
		return -ENOMEM;
	n = f->inode;
	pthread_rwlock_wrlock(lock);
	if (f->write)
		inode_finish_locked(n, NULL);
	if (trunc && n->compare && n->dirty)
		err = -EBUSY; /* it would empty what another has compared and is writing */
	else if (ns->live && !n->loaded)
		err = bound_validate(ns, ino);
	if (!err && !n->loaded && gone.rev)
		err = ns->live ? -ENOENT : inode_gone_locked(n, gone);
	else if (!err && !n->loaded && !trunc) {
		err = inode_load_locked(n); /* is it there? */
		n->loaded = n->loaded && n->gone.rev;
	}
	if (!err && trunc) {
		err = inode_dirty_locked(n, who, "write");
		if (!err)
			err = truncate_locked(n, 0);
		if (!err) {
			n->row.mtime_ns = n->row.ctime_ns = ns_time_ns();
			drop_set_id(n, who);
		}
	}
	if (!err) {
		n->opens++;
		n->writers += f->write;
	}
	pthread_rwlock_unlock(lock);
	if (err) {
		inode_put(n);
		free(f);
	} else {
		*out = f;
	}
	return err;
}

int ns_create(struct ns *ns, const struct ns_who *who, uint64_t dir, struct slice name, uint32_t mode,
	      struct ns_file **out, struct ns_attr *attr)
{
	struct lock_set locks;
	struct held_row parent = { 0 };
	struct buf access = { 0 }, none = { 0 };
	struct ns_src src = { 0 };
	struct ns_file *f = NULL;
	struct ns_inode *n = NULL;
	uint64_t ino = 0, other;
	uint8_t type;
	int err;

	err = new_ino(ns, &ino);
	if (err)
		return err;
	lock_set(ns, &locks, (uint64_t[]){ dir, ino }, 2);
	if (pending_find(ns, dir, name))
		err = -EEXIST;
	if (!err)
		err = ns_source(ns, &src);
	if (!err)
		err = src_row(src, dir, &parent);
	if (!err && !S_ISDIR(parent.row.mode))
		err = -ENOTDIR;
	src.validate = true; /* of a bound tree: free, and still so at its commit */
	if (!err) {
		err = src_dirent(src, dir, name, &other, &type);
		err = err == -ENOENT ? 0 : err ? err : -EEXIST;
	}
	mode = S_IFREG | (mode & 07777);
	if (!err)
		err = acl_of_new(src, dir, who->umask, &mode, &access, &none);
	if (!err) {
		f = file_new(ns, ino, true);
		err = f ? 0 : -ENOMEM;
	}
	if (!err) {
		n = f->inode;
		err = buf_copy(&n->name, name);
	}
	if (err)
		goto out;
	n->row = (struct row_inode){
		.mode = mode,
		.uid = who->uid,
		.gid = parent.row.mode & S_ISGID ? parent.row.gid : who->gid,
		.nlink = 1,
		.inlined = true,
		.parent = dir,
		.name = slice_buf(&n->name),
	};
	n->row.atime_ns = n->row.mtime_ns = n->row.ctime_ns = n->row.btime_ns = ns_time_ns();
	n->base = (struct mvcc_item){ 0 };
	n->loaded = true;
	err = inode_dirty_locked(n, who, "create");
	if (err)
		goto out;
	pending_add(n);
	if (access.len) {
		err = inode_txn_locked(n);
		if (!err)
			err = put_acl(n->txn, ino, ACL_ACCESS, slice_buf(&access), 0);
		n->acl_only = true;
	}
	if (err) {
		if (ns->live)
			ns->failed = err; /* a part of it may be in the transaction */
		inode_clean_locked(n);
		goto out;
	}
	n->opens++;
	n->writers++;
	inode_attr(n, attr);
	*out = f;
	f = NULL;
out:
	unlock_set(ns, &locks);
	held_row_release(&parent);
	mvcc_view_close(src.view);
	buf_release(&access);
	buf_release(&none);
	if (f) {
		inode_put(f->inode);
		free(f);
	}
	return err;
}

/* The bytes of an intent: what redo_intents() needs to make the change again. */
static int intent_put(struct ns_inode *n)
{
	struct buf payload = { 0 }, row = { 0 };
	struct row_inode empty = n->row;
	uint64_t old = n->intent;
	int err;

	empty.inlined = true;
	empty.content = slice_of(NULL, 0);
	empty.alloc = 0;
	err = buf_put_u8(&payload, n->pending ? 'C' : 'T');
	if (!err)
		err = buf_put_varint(&payload, n->ino);
	if (!err)
		err = buf_put_varint(&payload, n->uid);
	if (!err)
		err = buf_put_varint(&payload, n->gid);
	if (!err)
		err = buf_put_varint(&payload, n->pid);
	if (!err)
		err = buf_put_bytes(&payload, slice_str(n->comm));
	if (!err)
		err = buf_put_bytes(&payload, slice_str(session_of(n)));
	if (!err)
		err = buf_put_bytes(&payload, slice_str(message_of(n)));
	if (!err)
		err = row_inode_encode(&row, &empty);
	if (!err)
		err = buf_put_slice(&payload, slice_buf(&row));
	if (!err)
		err = mvcc_intent_put(n->ns->db, slice_buf(&payload), &n->intent);
	if (!err && old)
		err = mvcc_intent_drop(n->ns->db, old);
	if (!err)
		n->intent_stale = false;
	buf_release(&payload);
	buf_release(&row);
	return err;
}

int ns_file_flush(struct ns_file *f)
{
	struct ns_inode *n = f->inode;
	pthread_rwlock_t *lock = stripe_of(n->ns, n->ino);
	int err = 0;

	pthread_rwlock_wrlock(lock);
	if (!f->write)
		goto out;
	err = refused_locked(n);
	if (err || !n->dirty || n->gone.rev)
		goto out;
	if ((!n->has_data || n->compare) && (!n->txn || n->acl_only) && n->row.size == 0) {
		err = compare_locked(n); /* a release has nobody to tell */
		if (!err && n->dirty && !n->gone.rev && !n->ns->live && (!n->intent || n->intent_stale))
			err = intent_put(n);
	} else {
		err = inode_commit_locked(n, NULL);
	}
	if (!err)
		err = refused_locked(n);
out:
	pthread_rwlock_unlock(lock);
	return err;
}

int ns_file_commit(struct ns_file *f, mvcc_rev_t *rev)
{
	struct ns_inode *n = f->inode;
	pthread_rwlock_t *lock = stripe_of(n->ns, n->ino);
	int err;

	pthread_rwlock_wrlock(lock);
	err = inode_commit_locked(n, NULL);
	if (!err)
		err = refused_locked(n);
	pthread_rwlock_unlock(lock);
	if (!err)
		*rev = mvcc_current(n->ns->db);
	return err;
}

int ns_file_close(struct ns_file *f)
{
	struct ns_inode *n = f->inode;
	pthread_rwlock_t *lock = stripe_of(n->ns, n->ino);
	int err = 0;

	pthread_rwlock_wrlock(lock);
	n->opens--;
	n->writers -= f->write;
	/* With another writer open, its close completes the change at hand: it may have just begun. */
	if ((f->write && n->writers == 0) || n->opens == 0) {
		err = inode_commit_locked(n, NULL);
		if (err)
			log_failure(n, err);
		else if (f->write)
			err = refused_locked(n);
	}
	if (n->writers == 0) {
		n->compare = 0;
		n->refused = false;
	}
	pthread_rwlock_unlock(lock);
	inode_put(n);
	free(f);
	return err;
}
