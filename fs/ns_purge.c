#include "fs/ns_purge.h"

#include <errno.h>
#include <stdlib.h>

#include "fs/ns_edit.h"
#include "fs/ns_history.h"
#include "fs/ns_side.h"
#include "mvcc/keep.h"

/* ---- a set of numbers, in the order they came --------------------------------------------------- */

struct inos {
	uint64_t *at;
	size_t n, cap;
	size_t *slots; /* index + 1 of a number; 0: free */
	size_t nslots; /* a power of two */
};

static size_t slot_of(const struct inos *set, uint64_t ino)
{
	size_t i = (size_t)(ino * 0x9e3779b97f4a7c15u) & (set->nslots - 1);

	while (set->slots[i] && set->at[set->slots[i] - 1] != ino)
		i = (i + 1) & (set->nslots - 1);
	return i;
}

static bool inos_has(const struct inos *set, uint64_t ino)
{
	return set->nslots && set->slots[slot_of(set, ino)];
}

static int inos_grow(struct inos *set)
{
	size_t cap = set->cap ? 2 * set->cap : 64;
	uint64_t *at = realloc(set->at, cap * sizeof(*at));
	size_t *slots;

	if (!at)
		return -ENOMEM;
	set->at = at;
	slots = calloc(4 * cap, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	free(set->slots);
	set->slots = slots;
	set->nslots = 4 * cap;
	set->cap = cap;
	for (size_t i = 0; i < set->n; i++)
		set->slots[slot_of(set, set->at[i])] = i + 1;
	return 0;
}

static int inos_add(void *arg, uint64_t ino)
{
	struct inos *set = arg;
	int err = 0;

	if (inos_has(set, ino))
		return 0;
	if (set->n == set->cap)
		err = inos_grow(set);
	if (err)
		return err;
	set->at[set->n++] = ino;
	set->slots[slot_of(set, ino)] = set->n;
	return 0;
}

static void inos_release(struct inos *set)
{
	free(set->at);
	free(set->slots);
}

/* ---- what goes ---------------------------------------------------------------------------------- */

struct purge {
	struct ns *ns;
	struct mvcc *db;
	struct inos inos;
	struct buf names;  /* keys of dirents that may go, each with its length; some twice */
	struct buf ranges; /* start and end of each range of keys, each with its length */
	size_t nranges;
	uint64_t gone_names;
};

static int dirent_named(void *arg, const struct mvcc_item *item, mvcc_rev_t end_rev)
{
	uint64_t ino;
	uint8_t type;
	int err = row_dirent_decode(item->value, &ino, &type);

	(void)end_rev;
	return err ? err : inos_add(arg, ino);
}

/* All that a dirent ever named. */
static int add_named(struct purge *p, struct slice key)
{
	int err = mvcc_history(p->db, key, dirent_named, &p->inos);

	return err == -ENOENT ? 0 : err;
}

static int note_name(struct purge *p, uint64_t dir, struct slice name)
{
	struct buf key = { 0 };
	int err = name.len ? row_dirent_key(&key, dir, name) : 0;

	if (!err && name.len)
		err = buf_put_bytes(&p->names, slice_buf(&key));
	buf_release(&key);
	return err;
}

static int row_linked(void *arg, const struct mvcc_item *item, mvcc_rev_t end_rev)
{
	struct row_inode row;
	int err = row_inode_decode(item->value, &row);

	(void)end_rev;
	return err ? err : note_name(arg, row.parent, row.name);
}

/* Walks the keys that an inode ever had of one kind. */
static int each_key(struct purge *p, uint8_t kind, uint64_t ino, int (*fn)(struct purge *p, struct slice key))
{
	struct buf start = { 0 }, end = { 0 };
	struct mvcc_keys *keys = NULL;
	struct slice key;
	int got = row_bounds(kind, ino, &start, &end);

	if (!got)
		got = mvcc_keys_ever_open(p->db, slice_buf(&start), slice_buf(&end), &keys);
	while (!got && (got = mvcc_keys_next(keys, &key)) > 0)
		got = fn(p, key);
	mvcc_keys_close(keys);
	buf_release(&start);
	buf_release(&end);
	return got;
}

static int entry_found(struct purge *p, struct slice key)
{
	p->gone_names++;
	return add_named(p, key);
}

static int link_found(struct purge *p, struct slice key)
{
	struct row_key k;
	int err = row_key_decode(key, &k);

	return err ? err : note_name(p, k.dir, k.tail);
}

/* What was ever in an inode, if it is a directory, and the names it ever had. */
static int look_into(struct purge *p, uint64_t ino)
{
	struct buf key = { 0 };
	int err = each_key(p, ROW_DIRENT, ino, entry_found);

	if (!err)
		err = each_key(p, ROW_LINK, ino, link_found);
	if (!err)
		err = row_inode_key(&key, ino);
	if (!err)
		err = mvcc_history(p->db, slice_buf(&key), row_linked, p);
	buf_release(&key);
	return err == -ENOENT ? 0 : err;
}

/* The directories that the path's last name was ever in. */
struct place {
	struct purge *p;
	struct slice name;
};

static int parent_found(void *arg, uint64_t dir)
{
	const struct place *place = arg;
	struct buf key = { 0 };
	int err = row_dirent_key(&key, dir, place->name);

	if (!err)
		err = add_named(place->p, slice_buf(&key));
	if (!err)
		err = note_name(place->p, dir, place->name);
	buf_release(&key);
	return err;
}

static int gather(struct purge *p, struct slice path)
{
	struct place place = { .p = p };
	size_t at;
	int err;

	while (path.len && path.data[path.len - 1] == '/')
		path.len--;
	for (at = path.len; at && path.data[at - 1] != '/'; at--)
		;
	place.name = slice_of(path.data + at, path.len - at);
	if (!place.name.len)
		return -EINVAL;
	if (place.name.len > NS_NAME_MAX)
		return -ENAMETOOLONG;
	err = ns_history_inodes(p->db, slice_of(path.data, at), parent_found, &place);
	if (!err && !p->inos.n)
		err = -ENOENT;
	for (size_t i = 0; i < p->inos.n && !err; i++) /* grows as it is walked */
		err = look_into(p, p->inos.at[i]);
	return err;
}

/* ---- the keys ----------------------------------------------------------------------------------- */

static int put_range(struct purge *p, struct slice start, struct slice end)
{
	int err = buf_put_bytes(&p->ranges, start);

	if (!err)
		err = buf_put_bytes(&p->ranges, end);
	p->nranges += !err;
	return err;
}

/* The rows of one kind that inodes with numbers first .. last have: they are neighbours. */
static int put_kind(struct purge *p, uint8_t kind, uint64_t first, uint64_t last)
{
	struct buf start = { 0 }, end = { 0 }, other = { 0 };
	int err = row_bounds(kind, first, &start, &other);

	if (!err)
		err = row_bounds(kind, last, &other, &end);
	if (!err)
		err = put_range(p, slice_buf(&start), slice_buf(&end));
	buf_release(&start);
	buf_release(&end);
	buf_release(&other);
	return err;
}

/* Of one key: its end is the key and a 00. */
static int put_key(struct purge *p, struct slice key)
{
	struct buf end = { 0 };
	int err = buf_copy(&end, key);

	if (!err)
		err = buf_put_u8(&end, 0);
	if (!err)
		err = put_range(p, key, slice_buf(&end));
	buf_release(&end);
	return err;
}

static int put_run(struct purge *p, uint64_t first, uint64_t last)
{
	static const uint8_t kinds[] = { ROW_DIRENT, ROW_EXTENT, ROW_LINK, ROW_XATTR };
	struct buf start = { 0 }, end = { 0 };
	int err = row_inode_key(&start, first);

	if (!err)
		err = row_inode_key(&end, last);
	if (!err)
		err = buf_put_u8(&end, 0);
	if (!err)
		err = put_range(p, slice_buf(&start), slice_buf(&end));
	for (size_t i = 0; i < sizeof(kinds) && !err; i++)
		err = put_kind(p, kinds[i], first, last);
	buf_release(&start);
	buf_release(&end);
	return err;
}

static int ino_cmp(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* In order of numbers, those that follow each other as one: a tree that was made at once is a few ranges. */
static int put_inodes(struct purge *p, uint64_t *sorted)
{
	size_t i = 0;
	int err = 0;

	qsort(sorted, p->inos.n, sizeof(*sorted), ino_cmp);
	while (!err && i < p->inos.n) {
		size_t first = i;

		while (i + 1 < p->inos.n && sorted[i + 1] == sorted[i] + 1)
			i++;
		err = put_run(p, sorted[first], sorted[i++]);
	}
	return err;
}

struct only {
	const struct inos *inos;
	bool others; /* it named something that stays */
};

static int dirent_others(void *arg, const struct mvcc_item *item, mvcc_rev_t end_rev)
{
	struct only *only = arg;
	uint64_t ino;
	uint8_t type;
	int err = row_dirent_decode(item->value, &ino, &type);

	(void)end_rev;
	if (!err && !inos_has(only->inos, ino))
		only->others = true;
	return err;
}

static int key_cmp(const void *a, const void *b)
{
	return slice_cmp(*(const struct slice *)a, *(const struct slice *)b);
}

/* The keys of names, each once, in order. */
static int sort_names(const struct purge *p, struct slice **out, size_t *n)
{
	struct slice rest = slice_buf(&p->names), key;
	struct slice *keys;
	size_t all = 0;

	while (take_bytes(&rest, &key))
		all++;
	keys = calloc(all + 1, sizeof(*keys));
	if (!keys)
		return -ENOMEM;
	rest = slice_buf(&p->names);
	for (size_t i = 0; i < all; i++)
		take_bytes(&rest, &keys[i]);
	qsort(keys, all, sizeof(*keys), key_cmp);
	*n = 0;
	for (size_t i = 0; i < all; i++)
		if (!*n || !slice_eq(keys[i], keys[*n - 1]))
			keys[(*n)++] = keys[i];
	*out = keys;
	return 0;
}

/* A name in a directory that stays: it goes if it never meant anything that stays. */
static int put_name(struct purge *p, struct slice key)
{
	struct only only = { .inos = &p->inos };
	struct row_key k;
	int err = row_key_decode(key, &k);

	if (err || inos_has(&p->inos, k.ino))
		return err;
	err = mvcc_history(p->db, key, dirent_others, &only);
	if (err == -ENOENT)
		err = 0;
	if (err || only.others) /* of a purge: or it means something again, since what is there was removed */
		return err;
	p->gone_names++;
	return put_key(p, key);
}

static int put_names(struct purge *p)
{
	struct slice *keys;
	size_t n;
	int err = sort_names(p, &keys, &n);

	if (err)
		return err;
	for (size_t i = 0; i < n && !err; i++)
		err = put_name(p, keys[i]);
	free(keys);
	return err;
}

/* ---- what is there now -------------------------------------------------------------------------- */

static int unlink_all(struct edit *e, uint64_t ino)
{
	struct buf start = { 0 }, end = { 0 };
	struct mvcc_cursor *c = NULL;
	const struct mvcc_item *item;
	struct edit_inode *n;
	struct held_row held = { 0 };
	struct row_key k;
	struct slice key;
	int got = src_row(e->src, ino, &held);

	if (got)
		return got == -ENOENT ? 0 : got;
	got = edit_get(e, ino, &n);
	if (!got)
		got = edit_unlink(e, n, held.row.parent, held.row.name);
	if (!got)
		got = row_bounds(ROW_LINK, ino, &start, &end);
	if (!got)
		got = src_cursor(e->src, slice_buf(&start), slice_buf(&end), &c);
	while (!got && (got = mvcc_cursor_next(c, &key, &item)) > 0) {
		got = row_key_decode(key, &k);
		if (!got)
			got = edit_unlink(e, n, k.dir, k.tail);
	}
	mvcc_cursor_close(c);
	buf_release(&start);
	buf_release(&end);
	held_row_release(&held);
	return got;
}

static int remove_live(void *arg, struct mvcc_txn *txn)
{
	struct purge *p = arg;
	struct edit e = { 0 };
	int err = edit_begin(&e, p->ns, txn);

	for (size_t i = 0; i < p->inos.n && !err; i++)
		err = unlink_all(&e, p->inos.at[i]);
	if (!err)
		err = edit_settle(&e);
	if (!err)
		err = edit_finish(&e);
	edit_end(&e);
	return err;
}

/* ---- the whole ---------------------------------------------------------------------------------- */

static int purge_ranges(struct purge *p, const struct mvcc_story *story, mvcc_rev_t *rev)
{
	struct mvcc_purge_range *ranges = calloc(MVCC_PURGE_MAX, sizeof(*ranges));
	struct slice rest = slice_buf(&p->ranges);
	int err = ranges ? 0 : -ENOMEM;

	while (!err && rest.len) {
		size_t n = 0;

		while (n < MVCC_PURGE_MAX && take_bytes(&rest, &ranges[n].start) &&
		       take_bytes(&rest, &ranges[n].end))
			n++;
		err = mvcc_purge(p->db, ranges, n, story, rev);
	}
	free(ranges);
	return err;
}

static void forget_gathered(struct purge *p)
{
	inos_release(&p->inos);
	p->inos = (struct inos){ 0 };
	buf_clear(&p->names);
	p->gone_names = 0;
}

/* With the tree standing still: nothing comes into a directory between what is found there and its removal. */
struct removal {
	struct purge *p;
	struct slice path;
};

static int gather_and_remove(void *arg, struct mvcc_txn *txn)
{
	struct removal *r = arg;
	int err;

	forget_gathered(r->p);
	err = gather(r->p, r->path);
	return err ? err : remove_live(r->p, txn);
}

/* Gives what was found to the caller, who has a copy to sort. */
static int tell(struct purge *p, struct ns_purged *out)
{
	out->inos = calloc(p->inos.n + 1, sizeof(*out->inos));
	if (!out->inos)
		return -ENOMEM;
	if (p->inos.n)
		memcpy(out->inos, p->inos.at, p->inos.n * sizeof(*out->inos));
	out->n = p->inos.n;
	return 0;
}

static int purge_all(struct purge *p, struct slice path, const struct mvcc_story *story,
		     struct ns_purged *out)
{
	struct removal r = { p, path };
	mvcc_rev_t before = mvcc_current(p->db), removed = 0;
	int err = ns_side_run_still(p->ns, gather_and_remove, &r, story, &removed);

	if (err)
		return err;
	if (removed > before)
		out->removed_rev = removed;
	err = tell(p, out);
	if (!err)
		err = put_names(p);
	if (!err)
		err = put_inodes(p, out->inos);
	return err ? err : purge_ranges(p, story, &out->rev);
}

int ns_purge(struct ns *ns, struct slice path, const struct mvcc_story *story, bool dry_run,
	     struct ns_purged *out)
{
	struct purge p = { .ns = ns, .db = ns_db(ns) };
	int err;

	*out = (struct ns_purged){ 0 };
	if (dry_run) {
		err = gather(&p, path);
		if (!err)
			err = put_names(&p);
		if (!err)
			err = tell(&p, out);
	} else {
		err = purge_all(&p, path, story, out);
	}
	out->names = p.gone_names;
	inos_release(&p.inos);
	buf_release(&p.names);
	buf_release(&p.ranges);
	return err;
}

void ns_purged_release(struct ns_purged *p)
{
	free(p->inos);
	*p = (struct ns_purged){ 0 };
}
