/*
 * Undo: a three-way merge of each thing that the revisions changed: what it was before them, what they left, what it
 * is now. If it is as they left it, it becomes what it was; if it is what it was, nothing is to be done; else somebody
 * changed it since, and that is a conflict. Names are merged as names, whatever inode they mean; so links, counts and
 * first links need no merge, they follow (ns_edit.h).
 */
#include "fs/ns_revert_int.h"

#include <errno.h>
#include <stdlib.h>

/* One range being taken back. */
struct undo {
	struct revert *r;
	struct edit *edit;
	struct ns_src before, after;
	struct path_cache paths_before, paths_after;
	struct touched_set touched;
	struct link_list names;  /* each name in a directory that was changed, once */
	struct link_list xattrs; /* each xattr: ino, name */
	struct link_list missed; /* names to be taken that are not there any more: of which inode now */
	struct buf path;
};

struct undo_arg {
	const struct ns_range *ranges;
	size_t n;
};

/* ---- conflicts --------------------------------------------------------------------------------- */

static int conflict_name(struct undo *u, uint64_t dir, struct slice name, const char *why)
{
	int err = path_of_name(&u->paths_after, dir, name, &u->path);

	if (err == -ENOENT)
		err = path_of_name(&u->paths_before, dir, name, &u->path);
	return err ? err : revert_conflict(u->r, slice_buf(&u->path), why);
}

static int conflict_inode(struct undo *u, uint64_t ino, const char *why)
{
	struct held_row held = { 0 };
	int err = 0;

	if (ino == NS_ROOT)
		return revert_conflict(u->r, slice_str("/"), why);
	err = src_row(u->after, ino, &held);
	if (err == -ENOENT)
		err = src_row(u->before, ino, &held);
	if (!err)
		err = conflict_name(u, held.row.parent, held.row.name, why);
	held_row_release(&held);
	return err;
}

/* ---- what was changed -------------------------------------------------------------------------- */

static int by_key(const void *a, const void *b)
{
	const struct link_at *x = a, *y = b;

	return x->dir != y->dir ? (x->dir > y->dir) - (x->dir < y->dir) : slice_cmp(x->name, y->name);
}

/* In order, each once. */
static void sort_keys(struct link_list *list)
{
	size_t n = 0;

	if (list->n)
		qsort(list->v, list->n, sizeof(*list->v), by_key);
	for (size_t i = 0; i < list->n; i++)
		if (!n || by_key(&list->v[n - 1], &list->v[i]))
			list->v[n++] = list->v[i];
	list->n = n;
}

static int note_key(struct undo *u, struct slice key)
{
	struct row_key k;
	int err = row_key_decode(key, &k);

	if (err)
		return err;
	if (k.kind == ROW_DIRENT)
		return links_add(&u->names, 0, k.ino, k.tail, 0);
	if (k.kind == ROW_XATTR)
		err = links_add(&u->xattrs, 0, k.ino, k.tail, 0);
	return err;
}

static int read_log(struct undo *u, mvcc_rev_t first, mvcc_rev_t last)
{
	const struct mvcc_entry *e;
	struct mvcc_change change;
	struct mvcc_log *log;
	int err = mvcc_log_open(u->r->ns->db, first, last, &log);

	if (err)
		return err;
	while ((err = mvcc_log_next(log, &e)) > 0) {
		while ((err = mvcc_log_change(log, &change)) > 0) {
			err = note_key(u, change.key);
			if (err)
				break;
		}
		if (err)
			break;
	}
	mvcc_log_close(log);
	sort_keys(&u->names);
	sort_keys(&u->xattrs);
	return err;
}

/* What stands for the inode now. */
static uint64_t now_of(const struct undo *u, uint64_t ino)
{
	uint64_t to = ino_map_get(&u->r->map, ino);

	return to ? to : ino;
}

/* ---- inodes ------------------------------------------------------------------------------------ */

/* Is the content the same, row by row? 1 or 0, or negative. */
static int same_content(struct ns_src a, uint64_t ino_a, const struct row_inode *row_a, struct ns_src b,
			uint64_t ino_b, const struct row_inode *row_b)
{
	if (row_a->size != row_b->size || row_a->inlined != row_b->inlined ||
	    !slice_eq(row_a->content, row_b->content))
		return 0;
	return row_a->inlined ? 1 : rows_same(a, ino_a, b, ino_b, ROW_EXTENT, NULL);
}

/* It went: made anew, as it was. */
static int bring_back(struct undo *u, uint64_t ino, const struct row_inode *before)
{
	struct edit_inode *n;
	int err = edit_new(u->edit, before, &n);

	if (!err)
		err = ino_map_put(&u->r->map, ino, n->ino);
	if (!err && !S_ISDIR(before->mode))
		err = edit_content(u->edit, n, u->before, ino, before);
	if (!err)
		err = edit_xattrs(u->edit, n, u->before, ino);
	return err;
}

/* It came: goes, unless something was done to it since. Its names are taken by themselves. */
static int take_away(struct undo *u, uint64_t ino, const struct row_inode *after)
{
	struct edit_inode *n;
	int err = edit_get(u->edit, now_of(u, ino), &n);
	int same;

	if (err)
		return err == -ENOENT ? 0 : err;
	n->must_go = true;
	if (n->row.mode != after->mode || n->row.uid != after->uid || n->row.gid != after->gid)
		return conflict_inode(u, ino, "its mode or owner was changed since");
	same = same_content(u->edit->src, n->ino, &n->row, u->after, ino, after);
	if (same == 0)
		return conflict_inode(u, ino, "it was written to since");
	if (same > 0)
		same = rows_same(u->edit->src, n->ino, u->after, ino, ROW_XATTR, NULL);
	if (same == 0)
		return conflict_inode(u, ino, "its xattrs were changed since");
	return same < 0 ? same : 0;
}

/* One number of a row. True if it became what it was; a conflict is in `*both`. */
static bool merge_number(uint64_t before, uint64_t after, uint64_t now, bool *both)
{
	if (before == after || now == before)
		return false;
	*both |= now != after;
	return now == after;
}

static int merge_owner(struct undo *u, uint64_t ino, struct edit_inode *n, const struct row_inode *before,
		       const struct row_inode *after)
{
	bool both = false;

	if (merge_number(before->mode, after->mode, n->row.mode, &both)) {
		n->row.mode = before->mode;
		n->changed = true;
	}
	if (merge_number(before->uid, after->uid, n->row.uid, &both)) {
		n->row.uid = before->uid;
		n->changed = true;
	}
	if (merge_number(before->gid, after->gid, n->row.gid, &both)) {
		n->row.gid = before->gid;
		n->changed = true;
	}
	return both ? conflict_inode(u, ino, "its mode or owner was changed since") : 0;
}

/* Times are no conflict: what somebody set since stays. */
static void merge_times(struct edit_inode *n, const struct row_inode *before, const struct row_inode *after)
{
	if (n->row.mtime_ns ==
	    after->mtime_ns) { /* of a directory: also if names in it are changed back now */
		n->changed |= before->mtime_ns != after->mtime_ns;
		n->row.mtime_ns = before->mtime_ns;
		n->times_set = true;
	}
	if (before->atime_ns != after->atime_ns && n->row.atime_ns == after->atime_ns) {
		n->row.atime_ns = before->atime_ns;
		n->changed = true;
	}
}

static int merge_content(struct undo *u, uint64_t ino, struct edit_inode *n, const struct row_inode *before,
			 const struct row_inode *after)
{
	int same = same_content(u->before, ino, before, u->after, ino, after);

	if (same == 0)
		same = same_content(u->edit->src, n->ino, &n->row, u->before, ino, before);
	if (same)
		return same < 0 ? same : 0;
	same = same_content(u->edit->src, n->ino, &n->row, u->after, ino, after);
	if (same == 0)
		return conflict_inode(u, ino, "it was written to since");
	return same < 0 ? same : edit_content(u->edit, n, u->before, ino, before);
}

/* It was changed, and stayed. */
static int merge_inode(struct undo *u, uint64_t ino, const struct row_inode *before,
		       const struct row_inode *after)
{
	struct edit_inode *n;
	int err = edit_get(u->edit, now_of(u, ino), &n);
	int same = 1;

	if (err ==
	    -ENOENT) { /* gone since: what was done to it before matters no more, unless it is to be named again */
		if (!S_ISDIR(before->mode))
			same = same_content(u->before, ino, before, u->after, ino, after);
		if (same < 0)
			return same;
		if (!same || before->mode != after->mode || before->uid != after->uid ||
		    before->gid != after->gid)
			return conflict_inode(u, ino, "it was removed since");
		return 0;
	}
	if (!err && !S_ISDIR(before->mode))
		n->extra = (int64_t)(n->row.nlink + n->adds - n->dels) - (int64_t)after->nlink;
	if (!err)
		err = merge_owner(u, ino, n, before, after);
	if (!err && !S_ISDIR(before->mode))
		err = merge_content(u, ino, n, before, after);
	if (!err)
		merge_times(n, before, after);
	return err;
}

static int undo_inode(struct undo *u, uint64_t ino)
{
	struct held_row before = { 0 }, after = { 0 };
	int err_b = src_row(u->before, ino, &before), err_a = src_row(u->after, ino, &after), err = 0;

	if (err_b && err_b != -ENOENT)
		err = err_b;
	else if (err_a && err_a != -ENOENT)
		err = err_a;
	else if (!err_b && err_a)
		err = bring_back(u, ino, &before.row);
	else if (err_b && !err_a)
		err = take_away(u, ino, &after.row);
	else if (!err_b)
		err = merge_inode(u, ino, &before.row, &after.row);
	held_row_release(&before);
	held_row_release(&after);
	return err;
}

/* ---- names ------------------------------------------------------------------------------------- */

/* The inode behind a name: 0 if there is none. */
static int entry_of(struct ns_src src, uint64_t dir, struct slice name, uint64_t *ino)
{
	uint8_t type;
	int err = src_dirent(src, dir, name, ino, &type);

	if (err == -ENOENT) {
		*ino = 0;
		err = 0;
	}
	return err;
}

/* A name becomes what it was: `from` (0: nothing), which is there now, gives way to `to`. */
static int change_name(struct undo *u, uint64_t dir, struct slice name, uint64_t now_dir, uint64_t from,
		       uint64_t to)
{
	struct edit_inode *n;
	int err = 0;

	if (from) {
		err = edit_get(u->edit, now_of(u, from), &n);
		if (!err)
			err = edit_unlink(u->edit, n, now_dir, name);
	}
	if (err || !to)
		return err;
	err = edit_get(u->edit, now_of(u, to), &n);
	if (err == -ENOENT)
		return conflict_name(u, dir, name, "what was called so was removed since");
	return err ? err : edit_link(u->edit, n, now_dir, name);
}

/*
 * A name that the range gave is not there any more. If the inode got another one in its place it was renamed since, and
 * would have two if its old one came back.
 */
static int check_missed(struct undo *u, const struct link_at *missed)
{
	struct edit_inode *n;
	int err = edit_get(u->edit, missed->ino, &n);

	if (err)
		return err == -ENOENT ? 0 : err;
	return ++n->extra > 0 && n->adds ?
		       conflict_name(u, missed->dir, missed->name, "it was renamed since") :
		       0;
}

static int undo_name(struct undo *u, const struct link_at *at)
{
	uint64_t before, after, now, now_dir = now_of(u, at->dir);
	struct edit_inode *dir;
	int err = entry_of(u->before, at->dir, at->name, &before);

	if (!err)
		err = entry_of(u->after, at->dir, at->name, &after);
	if (err || before == after)
		return err;
	err = edit_get(u->edit, now_dir, &dir);
	if (err == -ENOENT && before)
		return conflict_name(u, at->dir, at->name, "the directory was removed since");
	if (err)
		return err == -ENOENT ? 0 : err;
	err = entry_of(u->edit->src, now_dir, at->name, &now);
	if (err)
		return err;
	if (now == (after ? now_of(u, after) : 0))
		return change_name(u, at->dir, at->name, now_dir, after, before);
	if (now == (before ? now_of(u, before) : 0))
		return after ? links_add(&u->missed, now_of(u, after), at->dir, at->name, 0) : 0;
	return conflict_name(u, at->dir, at->name,
			     now ? "something else was given that name since" :
				   "it was removed or renamed since");
}

/* ---- xattrs ------------------------------------------------------------------------------------ */

/* 1 if it is there, 0, or negative. */
static int xattr_of(struct ns_src src, uint64_t ino, struct slice name, struct mvcc_item *out)
{
	struct buf key = { 0 };
	int err = row_xattr_key(&key, ino, name);

	if (!err)
		err = src_get(src, slice_buf(&key), out);
	buf_release(&key);
	return err == -ENOENT ? 0 : err ? err : 1;
}

static bool same_xattr(int there_a, const struct mvcc_item *a, int there_b, const struct mvcc_item *b)
{
	return there_a == there_b && (!there_a || slice_eq(a->value, b->value));
}

/* Does the inode exist in both states of the range, so that its xattrs are merged one by one? */
static int stayed(struct undo *u, uint64_t ino)
{
	struct held_row held = { 0 };
	int err = src_row(u->before, ino, &held);

	held_row_release(&held);
	if (!err)
		err = src_row(u->after, ino, &held);
	held_row_release(&held);
	return err == -ENOENT ? 0 : err ? err : 1;
}

static int undo_xattr(struct undo *u, const struct link_at *at)
{
	struct mvcc_item before = { 0 }, after = { 0 }, now = { 0 };
	int has_before = 0, has_after = 0, has_now = 0;
	struct edit_inode *n;
	int err = stayed(u, at->dir);

	if (err <= 0)
		return err;
	has_before = xattr_of(u->before, at->dir, at->name, &before);
	has_after = xattr_of(u->after, at->dir, at->name, &after);
	err = has_before < 0 ? has_before : has_after < 0 ? has_after : 0;
	if (err || same_xattr(has_before, &before, has_after, &after))
		goto out;
	err = edit_get(u->edit, now_of(u, at->dir), &n);
	if (err) {
		if (err == -ENOENT)
			err = conflict_inode(u, at->dir, "it was removed since");
		goto out;
	}
	has_now = xattr_of(u->edit->src, n->ino, at->name, &now);
	if (has_now < 0)
		err = has_now;
	else if (same_xattr(has_now, &now, has_after, &after))
		err = edit_xattr(u->edit, n, at->name, has_before ? &before.value : NULL);
	else if (!same_xattr(has_now, &now, has_before, &before))
		err = conflict_inode(u, at->dir, "its xattrs were changed since");
out:
	mvcc_item_release(&before);
	mvcc_item_release(&after);
	mvcc_item_release(&now);
	return err;
}

/* ---- the whole --------------------------------------------------------------------------------- */

static int undo_range(struct undo *u, const struct ns_range *range)
{
	struct mvcc *db = u->r->ns->db;
	int err = revert_view(u->r, range->first - 1, &u->before);

	if (!err)
		err = revert_view(u->r, range->last, &u->after);
	u->paths_before.src = u->before;
	u->paths_after.src = u->after;
	if (!err)
		err = read_log(u, range->first, range->last);
	if (!err)
		err = touched_between(db, u->before.view, u->after.view, &u->touched);
	for (size_t i = 0; !err && i < u->touched.n; i++)
		err = undo_inode(u, u->touched.v[i].ino);
	for (size_t i = 0; !err && i < u->names.n; i++)
		err = undo_name(u, &u->names.v[i]);
	for (size_t i = 0; !err && i < u->missed.n; i++)
		err = check_missed(u, &u->missed.v[i]);
	for (size_t i = 0; !err && i < u->xattrs.n; i++)
		err = undo_xattr(u, &u->xattrs.v[i]);
	return err;
}

static void undo_release(struct undo *u)
{
	path_cache_release(&u->paths_before);
	path_cache_release(&u->paths_after);
	touched_release(&u->touched);
	links_release(&u->names);
	links_release(&u->xattrs);
	links_release(&u->missed);
	buf_release(&u->path);
}

/* The path of an inode as the transaction has it, for a conflict that only the whole shows. */
static int conflict_now(struct revert *r, const struct edit_inode *n, const char *why)
{
	struct path_cache paths = { .src = { .txn = r->edit.txn } };
	struct buf path = { 0 };
	int err = path_of_name(&paths, n->row.parent, n->row.name, &path);

	if (err == -ENOENT) { /* above it all is new, and put in the end only */
		err = buf_copy(&path, n->row.name);
	}
	if (!err)
		err = revert_conflict(r, slice_buf(&path), why);
	path_cache_release(&paths);
	buf_release(&path);
	return err;
}

/* What the names, each for itself, cannot tell. */
static int check_inode(struct revert *r, struct edit_inode *n)
{
	int got;

	if (n->must_go && !n->gone && n->ino != NS_ROOT)
		return conflict_now(r, n, "it was renamed, or linked to, since");
	if (!n->must_go && n->gone && !n->fresh)
		return conflict_now(r, n, "it would lose its last name, as its others were removed since");
	if (!S_ISDIR(n->row.mode))
		return 0;
	if (n->gone && (n->must_go || !n->fresh)) {
		got = edit_occupied(&r->edit, n->ino);
		return got > 0 ? conflict_now(r, n, "something was put into it since") : got;
	}
	if (!n->gone && n->adds) {
		got = edit_circular(&r->edit, n);
		if (got > 0)
			return conflict_now(r, n, "it would lie in itself, as directories were moved since");
		return got == -ENOENT ? 0 : got; /* what it lies in is a conflict, and has been told */
	}
	return 0;
}

static int undo_body(struct revert *r, void *arg)
{
	const struct undo_arg *a = arg;
	int err = 0;

	for (size_t i = 0; !err && i < a->n; i++) {
		struct undo u = { .r = r, .edit = &r->edit };

		err = undo_range(&u, &a->ranges[i]);
		undo_release(&u);
	}
	if (!err)
		err = edit_settle(&r->edit);
	for (struct edit_inode *n = r->edit.all; !err && n; n = n->all)
		err = check_inode(r, n);
	return err;
}

int ns_undo(struct ns *ns, const struct ns_range *ranges, size_t n, const struct ns_revert *how,
	    mvcc_rev_t *rev)
{
	struct undo_arg arg = { ranges, n };

	for (size_t i = 0; i < n; i++) {
		if (ranges[i].first <= MVCC_REV_FIRST || ranges[i].last < ranges[i].first ||
		    (i && ranges[i].last >= ranges[i - 1].first))
			return -EINVAL;
		if (ranges[i].last > mvcc_current(ns->db))
			return MVCC_EFUTURE;
	}
	return revert_run(ns, how, undo_body, &arg, rev);
}
