/*
 * Restore: a walk down the two trees side by side, then and now, through what was changed in between and nothing else.
 * What has the same name is made equal if it is the same inode, or if neither has a place in the other tree; else the
 * one now gives way, and the one then is brought: moved here if all its names now are within what is restored, and
 * made anew otherwise.
 */
#include "fs/ns_revert_int.h"

#include <errno.h>
#include <stdlib.h>

struct restore {
	struct revert *r;
	struct edit *edit;
	mvcc_rev_t rev;
	struct buf *scopes; /* "/a/b", or empty for the root */
	size_t n;
	struct ns_src then, base; /* base: the tree now, before anything was changed */
	struct path_cache paths_then, paths_base;
	struct touched_set touched;
	struct ino_map above; /* directories, then or now, with something touched below */
};

/* ---- what is within ---------------------------------------------------------------------------- */

static bool in_scope(const struct restore *s, struct slice path)
{
	for (size_t i = 0; i < s->n; i++) {
		struct slice scope = slice_buf(&s->scopes[i]);

		if (slice_starts(path, scope) &&
		    (path.len == scope.len || scope.len == 0 || path.data[scope.len] == '/'))
			return true;
	}
	return false;
}

/* Does the inode exist in that tree, with all its names within what is restored? 1 or 0, or negative. */
static int lies_within(struct restore *s, struct path_cache *paths, uint64_t ino)
{
	struct link_list links = { 0 };
	struct buf path = { 0 };
	int err = links_of(paths->src, ino, NULL, &links);
	int within = links.n > 0;

	for (size_t i = 0; !err && within && i < links.n; i++) {
		err = path_of_name(paths, links.v[i].dir, links.v[i].name, &path);
		within = !err && in_scope(s, slice_buf(&path));
	}
	links_release(&links);
	buf_release(&path);
	return err ? err : within;
}

/* Is it the same object in both trees, which has only moved? */
static int has_moved(struct restore *s, uint64_t ino)
{
	struct held_row then = { 0 }, now = { 0 };
	int got = src_row(s->then, ino, &then);

	if (!got)
		got = src_row(s->base, ino, &now);
	if (!got)
		got = (then.row.mode & S_IFMT) == (now.row.mode & S_IFMT) ? 1 : 0;
	else if (got == -ENOENT)
		got = 0;
	held_row_release(&then);
	held_row_release(&now);
	if (got > 0)
		got = lies_within(s, &s->paths_then, ino);
	return got > 0 ? lies_within(s, &s->paths_base, ino) : got;
}

/* Does it still have one of the names that it had within what is restored? 1 or 0, or negative. */
static int keeps_place(struct restore *s, uint64_t ino)
{
	struct link_list links = { 0 };
	struct buf path = { 0 };
	uint64_t now = 0;
	int err = links_of(s->then, ino, NULL, &links);

	for (size_t i = 0; links.n > 1 && !err && now != ino && i < links.n; i++) {
		err = path_of_name(&s->paths_then, links.v[i].dir, links.v[i].name, &path);
		if (err || !in_scope(s, slice_buf(&path)))
			continue;
		err = ns_at_walk(s->base.view, slice_buf(&path), &now);
		if (err == -ENOENT || err == -ENOTDIR)
			err = 0;
	}
	links_release(&links);
	buf_release(&path);
	return err ? err : now == ino;
}

static int exists(struct ns_src src, uint64_t ino)
{
	struct held_row held = { 0 };
	int err = src_row(src, ino, &held);

	held_row_release(&held);
	return err == -ENOENT ? 0 : err ? err : 1;
}

/* Notes the directories above what was touched. */
static int note_above(struct restore *s, struct ns_src src, uint64_t ino)
{
	struct link_list links = { 0 };
	struct held_row held = { 0 };
	int err = links_of(src, ino, NULL, &links);

	for (size_t i = 0; !err && i < links.n; i++) {
		uint64_t dir = links.v[i].dir;

		while (!err && !ino_map_get(&s->above, dir)) {
			err = ino_map_put(&s->above, dir, dir);
			if (!err)
				err = src_row(src, dir, &held);
			if (!err)
				dir = held.row.parent;
			held_row_release(&held);
		}
	}
	links_release(&links);
	return err;
}

static bool untouched(const struct restore *s, uint64_t ino)
{
	return !touched_find(&s->touched, ino) && !ino_map_get(&s->above, ino);
}

/* ---- one inode --------------------------------------------------------------------------------- */

static int set_content(struct restore *s, struct edit_inode *n, uint64_t then, const struct row_inode *row)
{
	int same = 0;

	if (S_ISDIR(row->mode))
		return 0;
	if (!n->fresh && n->row.size == row->size && n->row.inlined == row->inlined &&
	    slice_eq(n->row.content, row->content))
		same = row->inlined ? 1 : rows_same(s->edit->src, n->ino, s->then, then, ROW_EXTENT, NULL);
	return same < 0 ? same : same ? 0 : edit_content(s->edit, n, s->then, then, row);
}

static int set_xattrs(struct restore *s, struct edit_inode *n, uint64_t then)
{
	int same = n->fresh ? 0 : rows_same(s->edit->src, n->ino, s->then, then, ROW_XATTR, NULL);

	return same < 0 ? same : same ? 0 : edit_xattrs(s->edit, n, s->then, then);
}

/* Makes all but names and entries what `then` was. */
static int set_inode(struct restore *s, struct edit_inode *n, uint64_t then, const struct row_inode *row)
{
	int err = set_content(s, n, then, row);

	if (!err)
		err = set_xattrs(s, n, then);
	if (n->row.mode != row->mode || n->row.uid != row->uid || n->row.gid != row->gid ||
	    n->row.rdev != row->rdev || n->row.atime_ns != row->atime_ns || n->row.mtime_ns != row->mtime_ns)
		n->changed = true;
	n->row.mode = row->mode;
	n->row.uid = row->uid;
	n->row.gid = row->gid;
	n->row.rdev = row->rdev;
	n->row.atime_ns = row->atime_ns;
	n->row.mtime_ns = row->mtime_ns;
	n->times_set = true;
	return err;
}

/* ---- directories ------------------------------------------------------------------------------- */

static int list_dir(struct ns_src src, uint64_t dir, struct link_list *out)
{
	struct buf start = { 0 }, end = { 0 };
	const struct mvcc_item *item;
	struct mvcc_cursor *c = NULL;
	struct row_key k;
	struct slice key;
	uint64_t ino;
	uint8_t type;
	int err = row_bounds(ROW_DIRENT, dir, &start, &end);

	if (!err)
		err = src_cursor(src, slice_buf(&start), slice_buf(&end), &c);
	while (!err && (err = mvcc_cursor_next(c, &key, &item)) > 0) {
		err = row_key_decode(key, &k);
		if (!err)
			err = row_dirent_decode(item->value, &ino, &type);
		if (!err)
			err = links_add(out, ino, dir, k.tail, type);
	}
	mvcc_cursor_close(c);
	buf_release(&start);
	buf_release(&end);
	return err;
}

static int place(struct restore *s, uint64_t dir, struct slice name, uint64_t then, uint64_t now);

/* Makes the entries of `now` what those of `then` were. 0 for `then`: none; for a new directory `now` has none. */
static int set_entries(struct restore *s, uint64_t then, uint64_t now)
{
	struct link_list a = { 0 }, b = { 0 };
	size_t i = 0, j = 0;
	int err = then ? list_dir(s->then, then, &a) : 0;

	if (!err)
		err = list_dir(s->edit->src, now, &b);
	while (!err && (i < a.n || j < b.n)) {
		int c = i == a.n ? 1 : j == b.n ? -1 : slice_cmp(a.v[i].name, b.v[j].name);

		if (c < 0) {
			err = place(s, now, a.v[i].name, a.v[i].ino, 0);
			i++;
		} else if (c > 0) {
			err = place(s, now, b.v[j].name, 0, b.v[j].ino);
			j++;
		} else {
			if (a.v[i].ino != b.v[j].ino || !untouched(s, a.v[i].ino))
				err = place(s, now, a.v[i].name, a.v[i].ino, b.v[j].ino);
			i++;
			j++;
		}
	}
	links_release(&a);
	links_release(&b);
	return err;
}

/* ---- one name ---------------------------------------------------------------------------------- */

/* Makes the inode, with all below if it is a directory, what `then` was. */
static int set_tree(struct restore *s, struct edit_inode *n, uint64_t then, const struct row_inode *row)
{
	int err = set_inode(s, n, then, row);

	return !err && S_ISDIR(row->mode) ? set_entries(s, then, n->ino) : err;
}

/* Takes the name away, and with the last one all that is below. */
static int take_name(struct restore *s, uint64_t dir, struct slice name, uint64_t now)
{
	struct edit_inode *n;
	int moved = 0, err = edit_get(s->edit, now, &n);

	if (!err && S_ISDIR(n->row.mode))
		moved = n->fresh ? 1 : has_moved(s, now);
	if (moved < 0)
		return moved;
	if (!err)
		err = edit_unlink(s->edit, n, dir, name);
	return !err && S_ISDIR(n->row.mode) && !moved ? set_entries(s, 0, now) : err;
}

/* Gives the name, which is free, to what had it then. */
static int bring_name(struct restore *s, uint64_t dir, struct slice name, uint64_t then)
{
	uint64_t now = ino_map_get(&s->r->map, then);
	struct held_row held = { 0 };
	struct edit_inode *n;
	int moved, err;

	if (now) { /* another of its names came first */
		err = edit_get(s->edit, now, &n);
		return err ? err : edit_link(s->edit, n, dir, name);
	}
	moved = has_moved(s, then);
	if (!moved)
		moved = keeps_place(s, then);
	if (moved < 0)
		return moved;
	err = src_row(s->then, then, &held);
	if (!err)
		err = moved ? edit_get(s->edit, then, &n) : edit_new(s->edit, &held.row, &n);
	if (!err)
		err = ino_map_put(&s->r->map, then, n->ino);
	if (!err)
		err = edit_link(s->edit, n, dir, name);
	if (!err)
		err = set_tree(s, n, then, &held.row);
	held_row_release(&held);
	return err;
}

/*
 * May the inode that has the name now become what had it then? The same one; or two that are nothing in the other
 * tree, of a type that handles and the kernel see change, and without further names.
 */
static int may_become(struct restore *s, uint64_t then, const struct row_inode *row, uint64_t now,
		      const struct row_inode *row_now)
{
	bool dirs = S_ISDIR(row->mode) && S_ISDIR(row_now->mode);
	bool files = S_ISREG(row->mode) && S_ISREG(row_now->mode) && row->nlink == 1 && row_now->nlink == 1;
	int got;

	if (then == now)
		return 1;
	if (ino_map_get(&s->r->map, then) || !(dirs || files))
		return 0;
	got = exists(s->base, then);
	if (got == 0)
		got = exists(s->then, now);
	return got < 0 ? got : !got;
}

/* The inode `now` (0: none) has the name; `then` (0: none) had it. */
static int place(struct restore *s, uint64_t dir, struct slice name, uint64_t then, uint64_t now)
{
	struct held_row held = { 0 };
	struct edit_inode *n;
	int err = 0, same = 0;

	if (then && now) {
		err = src_row(s->then, then, &held);
		if (!err)
			err = edit_get(s->edit, now, &n);
		if (!err)
			same = may_become(s, then, &held.row, now, &n->row);
		if (same < 0)
			err = same;
		if (!err && same > 0)
			err = ino_map_put(&s->r->map, then, now);
		if (!err && same > 0)
			err = set_tree(s, n, then, &held.row);
		held_row_release(&held);
		if (err || same)
			return err;
	}
	if (now)
		err = take_name(s, dir, name, now);
	return !err && then ? bring_name(s, dir, name, then) : err;
}

/* ---- one path ---------------------------------------------------------------------------------- */

static int entry_of(struct ns_src src, uint64_t dir, struct slice name, uint64_t *ino)
{
	uint8_t type;
	int err = dir ? src_dirent(src, dir, name, ino, &type) : -ENOENT;

	if (err == -ENOENT)
		*ino = 0;
	return err == -ENOENT ? 0 : err;
}

/* A directory on the way that is missing now, as it was; without what was in it. */
static int make_parent(struct restore *s, uint64_t dir, struct slice name, uint64_t then, uint64_t *now)
{
	struct held_row held = { 0 };
	struct edit_inode *n;
	int err = src_row(s->then, then, &held);

	if (!err && !S_ISDIR(held.row.mode))
		err = -ENOENT; /* nothing was below it */
	if (!err)
		err = edit_new(s->edit, &held.row, &n);
	if (!err)
		err = edit_link(s->edit, n, dir, name);
	if (!err)
		err = edit_xattrs(s->edit, n, s->then, then);
	if (!err)
		*now = n->ino;
	held_row_release(&held);
	return err;
}

static int need_directory(struct restore *s, uint64_t ino)
{
	struct edit_inode *n;
	int err = edit_get(s->edit, ino, &n);

	return err ? err : S_ISDIR(n->row.mode) ? 0 : -ENOTDIR;
}

static int restore_root(struct restore *s)
{
	struct held_row held = { 0 };
	struct edit_inode *n;
	int err = src_row(s->then, NS_ROOT, &held);

	if (!err)
		err = edit_get(s->edit, NS_ROOT, &n);
	if (!err)
		err = set_tree(s, n, NS_ROOT, &held.row);
	held_row_release(&held);
	return err;
}

static int restore_path(struct restore *s, struct slice path)
{
	uint64_t dir = NS_ROOT, dir_then = NS_ROOT, then = 0, now = 0;
	int err;

	if (path.len == 0)
		return restore_root(s);
	err = ns_at_walk(s->then.view, path, &then);
	if (err == -ENOENT || err == -ENOTDIR)
		then = 0;
	else if (err)
		return err;
	for (;;) {
		const uint8_t *slash;
		struct slice name;

		path = slice_of(path.data + 1, path.len - 1);
		slash = memchr(path.data, '/', path.len);
		name = slice_of(path.data, slash ? (size_t)(slash - path.data) : path.len);
		err = entry_of(s->edit->src, dir, name, &now);
		if (err || !slash) {
			if (!err && !then && !now)
				err = -ENOENT;
			return err ? err : place(s, dir, name, then, now);
		}
		err = entry_of(s->then, dir_then, name, &dir_then);
		if (!err && !now && !then)
			return -ENOENT;
		if (!err && !now)
			err = make_parent(s, dir, name, dir_then, &now);
		if (!err)
			err = need_directory(s, now);
		if (err)
			return err;
		dir = now;
		path = slice_of(slash, path.len - name.len);
	}
}

/* ---- the whole --------------------------------------------------------------------------------- */

static int begin_walk(struct restore *s)
{
	int err = revert_view(s->r, s->rev, &s->then);

	if (!err)
		err = revert_view(s->r, mvcc_txn_rev(s->edit->txn), &s->base);
	s->paths_then.src = s->then;
	s->paths_base.src = s->base;
	if (!err)
		err = touched_between(s->r->ns->db, s->then.view, s->base.view, &s->touched);
	for (size_t i = 0; !err && i < s->touched.n; i++) {
		err = note_above(s, s->then, s->touched.v[i].ino);
		if (!err)
			err = note_above(s, s->base, s->touched.v[i].ino);
	}
	return err;
}

static void end_walk(struct restore *s)
{
	path_cache_release(&s->paths_then);
	path_cache_release(&s->paths_base);
	touched_release(&s->touched);
	ino_map_release(&s->above);
}

/* A directory that goes must be empty by now. */
static int check_gone(struct edit *e)
{
	int got = 0;

	for (struct edit_inode *n = e->all; !got && n; n = n->all)
		if (n->gone && !n->fresh && S_ISDIR(n->row.mode))
			got = edit_occupied(e, n->ino);
	return got > 0 ? -ENOTEMPTY : got;
}

static int restore_body(struct revert *r, void *arg)
{
	struct restore *s = arg;
	int err;

	s->r = r;
	s->edit = &r->edit;
	err = begin_walk(s);
	for (size_t i = 0; !err && i < s->n; i++)
		err = restore_path(s, slice_buf(&s->scopes[i]));
	end_walk(s);
	if (!err)
		err = edit_settle(s->edit);
	return err ? err : check_gone(s->edit);
}

static int by_bytes(const void *a, const void *b)
{
	return slice_cmp(slice_buf(a), slice_buf(b));
}

/* Paths below others are done with these. */
static void drop_nested(struct restore *s)
{
	size_t n = 0;

	qsort(s->scopes, s->n, sizeof(*s->scopes), by_bytes);
	for (size_t i = 0; i < s->n; i++) {
		bool nested = false;

		for (size_t j = 0; j < n && !nested; j++) {
			struct slice path = slice_buf(&s->scopes[i]), above = slice_buf(&s->scopes[j]);

			nested = slice_starts(path, above) &&
				 (path.len == above.len || above.len == 0 || path.data[above.len] == '/');
		}
		if (nested)
			buf_release(&s->scopes[i]);
		else
			s->scopes[n++] = s->scopes[i];
	}
	s->n = n;
}

int ns_restore(struct ns *ns, mvcc_rev_t then, const struct slice *paths, size_t n,
	       const struct ns_revert *how, mvcc_rev_t *rev)
{
	struct restore s = { .rev = then, .n = n, .scopes = calloc(n + 1, sizeof(struct buf)) };
	int err = s.scopes ? 0 : -ENOMEM;

	for (size_t i = 0; !err && i < n; i++)
		err = scope_of(paths[i], &s.scopes[i]);
	if (!err)
		drop_nested(&s);
	if (!err)
		err = revert_run(ns, how, restore_body, &s, rev);
	for (size_t i = 0; s.scopes && i < s.n; i++)
		buf_release(&s.scopes[i]);
	free(s.scopes);
	return err;
}
