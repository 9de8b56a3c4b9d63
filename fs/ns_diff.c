/*
 * From the inodes whose rows changed to the paths that differ. A name that an inode has on both sides makes a pair.
 * What is left on one side is paired by path, as a file saved by renaming another over it is a changed file; a
 * directory's name, and what is still left, by inode: it has moved.
 */
#include "fs/ns_diff.h"
#include "fs/ns_change.h"

#include <errno.h>
#include <stdlib.h>

struct side {
	struct ns_src src;
	struct path_cache paths;
	struct link_list left; /* names that the other side has not got */
};

/* A difference, perhaps: what stands at the two paths has not been compared yet. */
struct candidate {
	struct slice path, old_path; /* in the arena; empty where it is not there */
	uint64_t old_ino, new_ino;
	bool moved;
};

struct diff {
	struct mvcc *db;
	struct side a, b;
	struct touched_set touched;
	struct slice scope;
	struct candidate *v;
	size_t n, cap;
	struct link_list arena; /* keeps the paths */
	struct buf path, old_path;
};

/* ---- candidates -------------------------------------------------------------------------------- */

static bool below(struct slice path, struct slice dir)
{
	return slice_starts(path, dir) && (path.len == dir.len || dir.len == 0 || path.data[dir.len] == '/');
}

static int keep_path(struct diff *d, const struct buf *path, struct slice *out)
{
	int err = links_add(&d->arena, 0, 0, slice_buf(path), 0);

	if (!err)
		*out = d->arena.v[--d->arena.n].name; /* only its bytes are kept */
	return err;
}

/* Takes the paths from d->old_path and d->path. */
static int add_candidate(struct diff *d, uint64_t old_ino, uint64_t new_ino, bool moved)
{
	struct candidate c = { .old_ino = old_ino, .new_ino = new_ino, .moved = moved };
	int err = 0;

	if (!(old_ino && below(slice_buf(&d->old_path), d->scope)) &&
	    !(new_ino && below(slice_buf(&d->path), d->scope)))
		return 0;
	if (d->n == d->cap) {
		size_t cap = d->cap ? 2 * d->cap : 64;
		struct candidate *grown = realloc(d->v, cap * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		d->v = grown;
		d->cap = cap;
	}
	if (old_ino)
		err = keep_path(d, &d->old_path, &c.old_path);
	if (!err && new_ino)
		err = keep_path(d, &d->path, &c.path);
	if (!err && !new_ino)
		c.path = c.old_path;
	if (!err)
		d->v[d->n++] = c;
	return err;
}

/* Two names, each on its side, that belong together. */
static int add_pair(struct diff *d, const struct link_at *a, const struct link_at *b, bool moved)
{
	int err = path_of_name(&d->a.paths, a->dir, a->name, &d->old_path);

	if (!err)
		err = path_of_name(&d->b.paths, b->dir, b->name, &d->path);
	return err ? err : add_candidate(d, a->ino, b->ino, moved);
}

/* ---- one inode --------------------------------------------------------------------------------- */

static int by_place(const void *a, const void *b)
{
	const struct link_at *x = a, *y = b;

	return x->dir != y->dir ? (x->dir > y->dir) - (x->dir < y->dir) : slice_cmp(x->name, y->name);
}

/* Pairs the names that an inode has on both sides, those from `na` and `nb` on; the others stay. */
static int pair_names(struct diff *d, size_t na, size_t nb)
{
	struct link_list *la = &d->a.left, *lb = &d->b.left;
	size_t i = na, j = nb, ki = na, kj = nb;
	int err = 0;

	if (la->n > na)
		qsort(la->v + na, la->n - na, sizeof(*la->v), by_place);
	if (lb->n > nb)
		qsort(lb->v + nb, lb->n - nb, sizeof(*lb->v), by_place);
	while (!err && (i < la->n || j < lb->n)) {
		int c = i == la->n ? 1 : j == lb->n ? -1 : by_place(&la->v[i], &lb->v[j]);

		if (c < 0)
			la->v[ki++] = la->v[i++];
		else if (c > 0)
			lb->v[kj++] = lb->v[j++];
		else
			err = add_pair(d, &la->v[i++], &lb->v[j++], false);
	}
	la->n = ki;
	lb->n = kj;
	return err;
}

/* Is a directory, as far as it is told, the same on both sides? 1 or 0, or negative. */
static int same_directory(struct diff *d, uint64_t ino, const struct row_inode *a, const struct row_inode *b)
{
	if (a->parent != b->parent || !slice_eq(a->name, b->name) || a->mode != b->mode || a->uid != b->uid ||
	    a->gid != b->gid)
		return 0;
	return rows_same(d->a.src, ino, d->b.src, ino, ROW_XATTR, NULL);
}

static int look_at_directory(struct diff *d, uint64_t ino, const struct row_inode *a,
			     const struct row_inode *b)
{
	struct link_list *la = &d->a.left, *lb = &d->b.left;
	size_t na = la->n, nb = lb->n;
	int err = same_directory(d, ino, a, b);

	if (err)
		return err < 0 ? err : 0;
	if (ino == NS_ROOT) {
		err = buf_copy(&d->old_path, slice_str("/"));
		if (!err)
			err = buf_copy(&d->path, slice_str("/"));
		return err ? err : add_candidate(d, ino, ino, false);
	}
	err = links_of(d->a.src, ino, a, la);
	if (!err)
		err = links_of(d->b.src, ino, b, lb);
	if (!err)
		err = add_pair(d, &la->v[na], &lb->v[nb], by_place(&la->v[na], &lb->v[nb]) != 0);
	la->n = na;
	lb->n = nb;
	return err;
}

static int look_at(struct diff *d, uint64_t ino)
{
	struct held_row a = { 0 }, b = { 0 };
	size_t na = d->a.left.n, nb = d->b.left.n;
	int err_a = src_row(d->a.src, ino, &a), err_b = src_row(d->b.src, ino, &b), err = 0;

	if ((err_a && err_a != -ENOENT) || (err_b && err_b != -ENOENT)) {
		err = err_a && err_a != -ENOENT ? err_a : err_b;
	} else if (!err_a && !err_b && S_ISDIR(a.row.mode)) {
		err = look_at_directory(d, ino, &a.row, &b.row);
	} else {
		if (!err_a)
			err = links_of(d->a.src, ino, &a.row, &d->a.left);
		if (!err && !err_b)
			err = links_of(d->b.src, ino, &b.row, &d->b.left);
		if (!err)
			err = pair_names(d, na, nb);
	}
	held_row_release(&a);
	held_row_release(&b);
	return err;
}

/* ---- what is left ------------------------------------------------------------------------------ */

/* The path that a name of the old side would have on the new one: there, directories may have moved. */
static int path_there(struct diff *d, const struct link_at *link, struct buf *out)
{
	struct link_list up = { 0 };
	struct link_at at = *link;
	struct held_row held = { 0 };
	int err = 0;

	while (!err) {
		/* Only what was touched can have gone. */
		bool touched = touched_find(&d->touched, at.dir) != NULL;

		err = links_add(&up, at.ino, at.dir, at.name, 0);
		if (!err)
			err = touched ? src_row(d->b.src, at.dir, &held) : 0;
		held_row_release(&held);
		if (err != -ENOENT)
			break;
		err = src_row(d->a.src, at.dir, &held); /* its name, then */
		if (!err) {
			at = (struct link_at){ .ino = at.dir, .dir = held.row.parent };
			err = links_add(&up, 0, 0, held.row.name, 0);
			at.name = err ? at.name : up.v[--up.n].name;
		}
		held_row_release(&held);
	}
	if (!err)
		err = path_of_name(&d->b.paths, at.dir, at.name, out);
	for (size_t i = up.n > 1 ? up.n - 1 : 0; !err && i > 0; i--) {
		err = buf_put_u8(out, '/');
		if (!err)
			err = buf_put_slice(out, up.v[i - 1].name);
	}
	links_release(&up);
	return err;
}

/* A name that is left, and the path it has on the new side, or would have. */
struct leftover {
	struct link_at *link;
	struct slice path;
};

static int by_path(const void *a, const void *b)
{
	const struct leftover *x = a, *y = b;

	return slice_cmp(x->path, y->path);
}

static int leftovers(struct diff *d, struct side *s, bool old, struct leftover **out)
{
	struct leftover *v = calloc(s->left.n + 1, sizeof(*v));
	int err = v ? 0 : -ENOMEM;

	for (size_t i = 0; !err && i < s->left.n; i++) {
		struct link_at *link = &s->left.v[i];

		v[i].link = link;
		err = old ? path_there(d, link, &d->path) :
			    path_of_name(&s->paths, link->dir, link->name, &d->path);
		if (!err)
			err = keep_path(d, &d->path, &v[i].path);
	}
	if (err) {
		free(v);
		return err;
	}
	qsort(v, s->left.n, sizeof(*v), by_path);
	*out = v;
	return 0;
}

/* Something else stands at the same path now. */
static int pair_by_path(struct diff *d)
{
	struct leftover *a = NULL, *b = NULL;
	size_t i = 0, j = 0;
	int err = leftovers(d, &d->a, true, &a);

	if (!err)
		err = leftovers(d, &d->b, false, &b);
	while (!err && i < d->a.left.n && j < d->b.left.n) {
		int c = slice_cmp(a[i].path, b[j].path);

		if (c < 0) {
			i++;
		} else if (c > 0) {
			j++;
		} else {
			err = add_pair(d, a[i].link, b[j].link, false);
			a[i++].link->found = b[j++].link->found = true;
		}
	}
	free(a);
	free(b);
	return err;
}

static int by_ino(const void *a, const void *b)
{
	const struct link_at *x = a, *y = b;

	return x->ino != y->ino ? (x->ino > y->ino) - (x->ino < y->ino) : by_place(a, b);
}

static void drop_found(struct link_list *list)
{
	size_t n = 0;

	for (size_t i = 0; i < list->n; i++)
		if (!list->v[i].found)
			list->v[n++] = list->v[i];
	list->n = n;
	if (n)
		qsort(list->v, n, sizeof(*list->v), by_ino);
}

/* The same inode has lost a name, and has got one: it has moved. What then is left is new, or gone. */
static int pair_by_inode(struct diff *d)
{
	struct link_list *la = &d->a.left, *lb = &d->b.left;
	size_t i = 0, j = 0;
	int err = 0;

	drop_found(la);
	drop_found(lb);
	while (!err && (i < la->n || j < lb->n)) {
		uint64_t a = i < la->n ? la->v[i].ino : UINT64_MAX, b = j < lb->n ? lb->v[j].ino : UINT64_MAX;

		if (a == b) {
			err = add_pair(d, &la->v[i++], &lb->v[j++], true);
		} else if (a < b) {
			err = path_of_name(&d->a.paths, la->v[i].dir, la->v[i].name, &d->old_path);
			if (!err)
				err = add_candidate(d, la->v[i++].ino, 0, false);
		} else {
			err = path_of_name(&d->b.paths, lb->v[j].dir, lb->v[j].name, &d->path);
			if (!err)
				err = add_candidate(d, 0, lb->v[j++].ino, false);
		}
	}
	return err;
}

static int by_candidate(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;
	int c = slice_cmp(x->path, y->path);

	/* What has gone from a path is told before what has come there. */
	return c ? c : (x->new_ino > y->new_ino) - (x->new_ino < y->new_ino);
}

static int find_candidates(struct diff *d)
{
	int err = 0;

	d->a.paths.src = d->a.src;
	d->b.paths.src = d->b.src;
	for (size_t i = 0; !err && i < d->touched.n; i++)
		err = look_at(d, d->touched.v[i].ino);
	if (!err)
		err = pair_by_path(d);
	if (!err)
		err = pair_by_inode(d);
	if (!err && d->n)
		qsort(d->v, d->n, sizeof(*d->v), by_candidate);
	return err;
}

/* ---- comparing --------------------------------------------------------------------------------- */

/* What may differ of an inode that is the same on both sides. */
static unsigned touched_rows(const struct diff *d, const struct candidate *c)
{
	const struct touched *t = c->old_ino == c->new_ino ? touched_find(&d->touched, c->new_ino) : NULL;

	return t ? t->rows : TOUCHED_ROW | TOUCHED_EXTENTS | TOUCHED_XATTRS;
}

/* Is the content the same? 1 or 0, or negative. */
static int same_content(const struct diff *d, const struct candidate *c, const struct row_inode *a,
			const struct row_inode *b)
{
	if (S_ISDIR(a->mode))
		return 1;
	if (!S_ISREG(a->mode) && !S_ISLNK(a->mode))
		return a->rdev == b->rdev;
	if (!(touched_rows(d, c) & TOUCHED_EXTENTS) && !a->inlined && !b->inlined && a->size == b->size)
		return 1;
	return content_same(d->db, d->a.src, c->old_ino, a, d->b.src, c->new_ino, b);
}

static int compare(const struct diff *d, const struct candidate *c, const struct row_inode *a,
		   const struct row_inode *b, unsigned *what)
{
	int same;

	*what = 0;
	if ((a->mode & S_IFMT) != (b->mode & S_IFMT)) {
		*what |= NS_DIFF_TYPE;
	} else {
		same = same_content(d, c, a, b);
		if (same < 0)
			return same;
		if (!same)
			*what |= NS_DIFF_CONTENT;
		if (!S_ISDIR(a->mode) && (a->mtime_ns != b->mtime_ns || a->atime_ns != b->atime_ns))
			*what |= NS_DIFF_TIMES;
	}
	if ((a->mode & 07777) != (b->mode & 07777))
		*what |= NS_DIFF_MODE;
	if (a->uid != b->uid || a->gid != b->gid)
		*what |= NS_DIFF_OWNER;
	if (touched_rows(d, c) & TOUCHED_XATTRS) {
		same = rows_same(d->a.src, c->old_ino, d->b.src, c->new_ino, ROW_XATTR, NULL);
		if (same < 0)
			return same;
		if (!same)
			*what |= NS_DIFF_XATTR;
	}
	return 0;
}

static char status_of(const struct candidate *c, unsigned what)
{
	if (!c->old_ino)
		return 'A';
	if (!c->new_ino)
		return 'D';
	if (what & NS_DIFF_TYPE)
		return 'T';
	if (c->moved)
		return 'R';
	return what & NS_DIFF_CONTENT ? 'M' : what ? 'P' : 0;
}

static int tell(struct diff *d, size_t i, ns_diff_fn *fn, void *arg)
{
	const struct candidate *c = &d->v[i];
	struct ns_diff_entry e = { .path = c->path, .old_path = c->old_path, .index = i };
	struct held_row a = { 0 }, b = { 0 };
	struct ns_attr old_attr, new_attr;
	int err = c->old_ino ? src_row(d->a.src, c->old_ino, &a) : 0;

	if (!err && c->new_ino)
		err = src_row(d->b.src, c->new_ino, &b);
	if (!err && c->old_ino) {
		row_to_attr(c->old_ino, &a.row, &a.item, &old_attr);
		e.old_attr = &old_attr;
	}
	if (!err && c->new_ino) {
		row_to_attr(c->new_ino, &b.row, &b.item, &new_attr);
		e.new_attr = &new_attr;
	}
	if (!err && c->old_ino && c->new_ino)
		err = compare(d, c, &a.row, &b.row, &e.what);
	if (!err) {
		e.status = status_of(c, e.what);
		err = e.status ? fn(arg, &e) : 0;
	}
	held_row_release(&a);
	held_row_release(&b);
	return err;
}

/* ---- the whole --------------------------------------------------------------------------------- */

/* Tells what differs, from candidate `first` on. The sources, the inodes touched, and the scope are set. */
static int compare_sides(struct diff *d, size_t first, ns_diff_fn *fn, void *arg)
{
	int err = find_candidates(d);

	for (size_t i = first; !err && i < d->n; i++)
		err = tell(d, i, fn, arg);
	return err;
}

/* -ENOENT if the path is on neither side. */
static int need_path(const struct diff *d)
{
	uint64_t ino;
	int err = ns_at_walk(d->a.src.view, d->scope, &ino);

	if (err == -ENOENT || err == -ENOTDIR)
		err = ns_at_walk(d->b.src.view, d->scope, &ino);
	return err == -ENOTDIR ? -ENOENT : err;
}

static void diff_release(struct diff *d)
{
	path_cache_release(&d->a.paths);
	path_cache_release(&d->b.paths);
	links_release(&d->a.left);
	links_release(&d->b.left);
	links_release(&d->arena);
	touched_release(&d->touched);
	buf_release(&d->path);
	buf_release(&d->old_path);
	free(d->v);
	mvcc_view_close(d->a.src.view);
	mvcc_view_close(d->b.src.view);
}

int diff_txn(struct mvcc *db, struct mvcc_txn *txn, struct touched_set *touched, ns_diff_fn *fn, void *arg)
{
	struct diff d = { .db = db, .touched = *touched };
	int err = mvcc_view_open(db, mvcc_txn_rev(txn), &d.a.src.view);

	*touched = (struct touched_set){ 0 };
	d.b.src.txn = txn;
	if (!err)
		err = compare_sides(&d, 0, fn, arg);
	diff_release(&d);
	return err;
}

int ns_diff(struct mvcc *db, mvcc_rev_t from, mvcc_rev_t to, struct slice path, size_t first, ns_diff_fn *fn,
	    void *arg)
{
	struct diff d = { .db = db };
	struct buf scope = { 0 };
	int err = scope_of(path, &scope);

	d.scope = slice_buf(&scope);
	if (!err)
		err = mvcc_view_open(db, from, &d.a.src.view);
	if (!err)
		err = mvcc_view_open(db, to, &d.b.src.view);
	if (!err && d.scope.len)
		err = need_path(&d);
	if (!err)
		err = touched_between(db, d.a.src.view, d.b.src.view, &d.touched);
	if (!err)
		err = compare_sides(&d, first, fn, arg);
	diff_release(&d);
	buf_release(&scope);
	return err;
}
