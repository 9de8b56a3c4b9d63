/*
 * One walk over all rows, in key order: entries, extents, inodes, links, xattrs. Each row is compared with those it
 * belongs to, which are looked up; both directions, so that what is missing on either side is found. Rows of one inode
 * lie together, so the inode at hand is kept.
 */
#include "fs/ns_check.h"

#include "fs/ns_int.h"

#include <errno.h>

enum { PROGRESS_ROWS = 1000, DEPTH_MAX = 100000 };

struct check {
	struct mvcc *db;
	struct ns_src src;
	const struct ns_check_options *opt;
	uint64_t rows, problems;

	/* The row at hand. */
	struct slice key;
	struct row_key k;
	const struct mvcc_item *item;

	/* The inode it belongs to, if `owner_there`. */
	uint64_t owner_ino;
	bool owner_there;
	struct held_row owner;
};

/* Tells of a problem. 0, or what ends the check. */
static int tell(struct check *c, const char *what)
{
	const struct ns_problem p = { .what = what, .ino = c->k.ino, .name = c->k.tail, .key = c->key };

	c->problems++;
	return c->opt->problem ? c->opt->problem(c->opt->arg, &p) : 0;
}

/* A row that is looked up: 0, 1 when it is absent or does not decode (the walk finds that), or negative. */
static int look_up(struct check *c, uint64_t ino, struct held_row *out)
{
	int err = src_row(c->src, ino, out);

	return err == -ENOENT || err == MVCC_ECORRUPT ? 1 : err;
}

static int load_owner(struct check *c)
{
	int got;

	if (c->owner_ino == c->k.ino)
		return 0;
	held_row_release(&c->owner);
	got = look_up(c, c->k.ino, &c->owner);
	c->owner_there = got == 0;
	c->owner_ino = got < 0 ? 0 : c->k.ino;
	return got < 0 ? got : 0;
}

/* Is there an entry (dir, name) of this inode? 1, 0, or negative. */
static int has_entry(struct check *c, uint64_t dir, struct slice name, uint64_t ino)
{
	uint64_t found;
	uint8_t type;
	int err = src_dirent(c->src, dir, name, &found, &type);

	if (err == -ENOENT || err == MVCC_ECORRUPT)
		return 0;
	return err ? err : found == ino;
}

static int has_link(struct check *c, uint64_t ino, uint64_t dir, struct slice name)
{
	struct mvcc_item item = { 0 };
	struct buf key = { 0 };
	int err = row_link_key(&key, ino, dir, name);

	if (!err)
		err = src_get(c->src, slice_buf(&key), &item);
	mvcc_item_release(&item);
	buf_release(&key);
	return err == -ENOENT ? 0 : err ? err : 1;
}

static bool is_name(struct slice name)
{
	return name.len >= 1 && name.len <= NS_NAME_MAX && !memchr(name.data, '/', name.len) &&
	       !memchr(name.data, 0, name.len) && !slice_eq(name, slice_str(".")) &&
	       !slice_eq(name, slice_str(".."));
}

/* ---- one row of each kind -------------------------------------------------------------------------- */

static int check_dirent(struct check *c)
{
	struct held_row child = { 0 };
	uint64_t ino;
	uint8_t type;
	int got, err = 0;

	if (!is_name(c->k.tail))
		err = tell(c, "an entry has a name that no file can have");
	if (!err && (!c->owner_there || !S_ISDIR(c->owner.row.mode)))
		err = tell(c, "an entry lies in what is no directory");
	if (err)
		return err;
	if (row_dirent_decode(c->item->value, &ino, &type))
		return tell(c, "an entry does not decode");
	got = look_up(c, ino, &child);
	if (got)
		return got < 0 ? got : tell(c, "an entry leads to an inode that is not there");
	if (NS_TYPE_OF(child.row.mode) != type)
		err = tell(c, "an entry and its inode differ in type");
	if (!err && child.row.lease != c->item->lease)
		err = tell(c, "an entry and its inode differ in their lease");
	if (!err && (child.row.parent != c->k.ino || !slice_eq(child.row.name, c->k.tail))) {
		got = S_ISDIR(child.row.mode) ? 0 : has_link(c, ino, c->k.ino, c->k.tail);
		err = got < 0 ? got : got ? 0 : tell(c, "an entry is none of its inode's links");
	}
	held_row_release(&child);
	return err;
}

/* The rows of one kind of the inode at hand: calls `fn` for each. */
static int each_row(struct check *c, uint8_t kind,
		    int (*fn)(void *arg, const struct row_key *k, const struct mvcc_item *item), void *arg)
{
	struct buf start = { 0 }, end = { 0 };
	const struct mvcc_item *item;
	struct mvcc_cursor *cursor = NULL;
	struct row_key k;
	struct slice key;
	int err = row_bounds(kind, c->k.ino, &start, &end);

	if (!err)
		err = src_cursor(c->src, slice_buf(&start), slice_buf(&end), &cursor);
	while (!err && (err = mvcc_cursor_next(cursor, &key, &item)) > 0)
		err = row_key_decode(key, &k) ? 0 : fn(arg, &k, item);
	mvcc_cursor_close(cursor);
	buf_release(&start);
	buf_release(&end);
	return err;
}

static int count_dir(void *arg, const struct row_key *k, const struct mvcc_item *item)
{
	uint64_t ino;
	uint8_t type;

	(void)k;
	if (row_dirent_decode(item->value, &ino, &type) == 0 && type == NS_TYPE_OF(S_IFDIR))
		++*(uint64_t *)arg;
	return 0;
}

static int count_link(void *arg, const struct row_key *k, const struct mvcc_item *item)
{
	(void)k;
	(void)item;
	++*(uint64_t *)arg;
	return 0;
}

struct extents {
	uint64_t sum, end;
	bool overlap, beyond, odd;
	uint64_t size;
};

static int add_extent(void *arg, const struct row_key *k, const struct mvcc_item *item)
{
	struct extents *e = arg;
	struct row_extent ext;

	if (row_extent_decode(item, &ext)) {
		e->odd = true;
		return 0;
	}
	e->overlap |= k->start < e->end;
	e->end = k->start + ext.len;
	e->beyond |= e->end > e->size;
	e->sum += ext.len;
	return 0;
}

static int check_content(struct check *c, const struct row_inode *row)
{
	struct extents e = { .size = row->size };
	int err = each_row(c, ROW_EXTENT, add_extent, &e);

	if (!err && row->inlined && e.sum)
		err = tell(c, "an inode has its content in its row, and extents as well");
	if (!err && !row->inlined && !S_ISREG(row->mode))
		err = tell(c, "an inode that is no file has its content elsewhere");
	if (!err && row->inlined && S_ISREG(row->mode) && row->size > NS_INLINE_MAX)
		err = tell(c, "a row holds more content than a row may");
	if (!err && !S_ISREG(row->mode) && !S_ISLNK(row->mode) && row->size)
		err = tell(c, "an inode without content has a size");
	if (!err && e.overlap)
		err = tell(c, "extents overlap");
	if (!err && e.beyond)
		err = tell(c, "an extent reaches beyond the end of its file");
	if (!err && !e.odd && !row->inlined && e.sum != row->alloc)
		err = tell(c, "the bytes of a file's extents are not those it counts");
	return err;
}

/* From a directory up to the root: 1, 0 when that is not reached, or negative. */
static int reaches_root(struct check *c, uint64_t dir)
{
	struct held_row held = { 0 };
	int got = 0;

	for (unsigned depth = 0; !got && dir != NS_ROOT && depth < DEPTH_MAX; depth++) {
		got = look_up(c, dir, &held);
		dir = got ? dir : held.row.parent;
		held_row_release(&held);
	}
	return got < 0 ? got : dir == NS_ROOT;
}

static int check_links(struct check *c, const struct row_inode *row)
{
	bool dir = S_ISDIR(row->mode);
	uint64_t links = dir ? 2 : 1;
	int got, err;

	err = dir ? each_row(c, ROW_DIRENT, count_dir, &links) : each_row(c, ROW_LINK, count_link, &links);
	if (!err && links != row->nlink)
		err = tell(c, dir ? "a directory does not count its directories right" :
				    "a file does not count its links right");
	if (err || c->k.ino == NS_ROOT)
		return err;
	got = has_entry(c, row->parent, row->name, c->k.ino);
	if (got <= 0)
		return got ? got : tell(c, "an inode's first link is no entry");
	got = dir ? reaches_root(c, c->k.ino) : 1;
	return got < 0 ? got : got ? 0 : tell(c, "a directory does not lie below the root");
}

static int check_inode(struct check *c)
{
	struct row_inode row;
	int err;

	if (row_inode_decode(c->item->value, &row))
		return tell(c, "an inode does not decode");
	if (c->k.ino == NS_ROOT && !S_ISDIR(row.mode))
		return tell(c, "the root is no directory");
	if (S_ISDIR(row.mode) && c->item->lease) {
		err = tell(c, "a directory has a lease");
		if (err)
			return err;
	}
	err = check_links(c, &row);
	return err ? err : check_content(c, &row);
}

static int check_extent(struct check *c)
{
	struct row_extent ext;
	uint8_t last;

	if (!c->owner_there)
		return tell(c, "an extent belongs to an inode that is not there");
	if (row_extent_decode(c->item, &ext))
		return tell(c, "an extent does not decode");
	if (c->owner.row.lease != c->item->lease)
		return tell(c, "an extent and its inode differ in their lease");
	if (mvcc_blob_read(c->db, ext.blob, (size_t)(ext.off + ext.len - 1), &last, 1) != 1)
		return tell(c, "an extent is longer than what it is stored in, or that cannot be read");
	return 0;
}

static int check_link(struct check *c)
{
	int got;

	if (!c->owner_there)
		return tell(c, "a link belongs to an inode that is not there");
	if (c->owner.row.lease != c->item->lease)
		return tell(c, "a link and its inode differ in their lease");
	if (c->owner.row.parent == c->k.dir && slice_eq(c->owner.row.name, c->k.tail))
		return tell(c, "an inode's first link is told twice");
	got = has_entry(c, c->k.dir, c->k.tail, c->k.ino);
	return got < 0 ? got : got ? 0 : tell(c, "a link is no entry");
}

static int check_xattr(struct check *c)
{
	if (!c->owner_there)
		return tell(c, "an xattr belongs to an inode that is not there");
	if (c->owner.row.lease != c->item->lease)
		return tell(c, "an xattr and its inode differ in their lease");
	if (c->k.tail.len == 0 || c->k.tail.len > NS_NAME_MAX || memchr(c->k.tail.data, 0, c->k.tail.len))
		return tell(c, "an xattr has a name that none can have");
	return c->item->value.len > NS_XATTR_MAX ? tell(c, "an xattr is longer than one may be") : 0;
}

/* ---- all of them ----------------------------------------------------------------------------------- */

static int check_row(struct check *c)
{
	int err;

	if (row_key_decode(c->key, &c->k)) {
		c->k = (struct row_key){ 0 };
		return tell(c, "a key is none of a filesystem's");
	}
	if (c->k.kind == ROW_INODE)
		return check_inode(c);
	err = load_owner(c);
	if (err)
		return err;
	switch (c->k.kind) {
	case ROW_DIRENT:
		return check_dirent(c);
	case ROW_EXTENT:
		return check_extent(c);
	case ROW_LINK:
		return check_link(c);
	default:
		return check_xattr(c);
	}
}

static int check_root(struct check *c)
{
	struct held_row root = { 0 };
	int got = look_up(c, NS_ROOT, &root);

	held_row_release(&root);
	c->k = (struct row_key){ .kind = ROW_INODE, .ino = NS_ROOT };
	return got > 0 ? tell(c, "there is no root") : got;
}

int ns_check(struct mvcc *db, struct mvcc_view *view, const struct ns_check_options *opt, uint64_t *problems)
{
	struct check c = { .db = db, .src = { .view = view }, .opt = opt };
	struct mvcc_cursor *cursor = NULL;
	int err = check_root(&c);

	if (!err)
		err = mvcc_cursor_open(view, slice_of(NULL, 0), slice_of(NULL, 0), &cursor);
	while (!err && (err = mvcc_cursor_next(cursor, &c.key, &c.item)) > 0) {
		err = check_row(&c);
		if (++c.rows % PROGRESS_ROWS == 0 && opt->progress)
			opt->progress(opt->arg, c.rows);
	}
	if (!err && opt->progress)
		opt->progress(opt->arg, c.rows);
	mvcc_cursor_close(cursor);
	held_row_release(&c.owner);
	*problems = c.problems;
	return err;
}
