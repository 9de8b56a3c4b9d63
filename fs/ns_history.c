#include "fs/ns_history.h"

#include <errno.h>
#include <stdlib.h>

#include "fs/ns_int.h"
#include "mvcc/keep.h"

/* ---- stretches: which inode a path led to, from when until when -------------------------------- */

struct stretch {
	mvcc_rev_t from, end; /* from <= rev < end */
	uint64_t ino;
};

struct stretches {
	struct stretch *at;
	size_t n, cap;
};

static int stretch_add(struct stretches *s, mvcc_rev_t from, mvcc_rev_t end, uint64_t ino)
{
	if (from >= end)
		return 0;
	if (s->n && s->at[s->n - 1].ino == ino && s->at[s->n - 1].end == from) {
		s->at[s->n - 1].end = end; /* the entry was put anew, and means the same */
		return 0;
	}
	if (s->n == s->cap) {
		size_t cap = s->cap ? 2 * s->cap : 8;
		struct stretch *more = realloc(s->at, cap * sizeof(*more));

		if (!more)
			return -ENOMEM;
		s->at = more;
		s->cap = cap;
	}
	s->at[s->n++] = (struct stretch){ from, end, ino };
	return 0;
}

/* The life of one entry, of which the part within a stretch of its directory counts. */
struct entry_life {
	struct stretches *out;
	const struct stretch *dir;
};

static mvcc_rev_t later(mvcc_rev_t a, mvcc_rev_t b)
{
	return a > b ? a : b;
}

static mvcc_rev_t earlier(mvcc_rev_t a, mvcc_rev_t b)
{
	return a < b ? a : b;
}

static int entry_lived(void *arg, const struct mvcc_item *item, mvcc_rev_t end_rev)
{
	const struct entry_life *life = arg;
	uint64_t ino;
	uint8_t type;
	int err = row_dirent_decode(item->value, &ino, &type);

	return err ? err :
		     stretch_add(life->out, later(item->mod_rev, life->dir->from),
				 earlier(end_rev ? end_rev : UINT64_MAX, life->dir->end), ino);
}

/* From the stretches of a directory to those of a name in it. */
static int step_into(struct mvcc *db, const struct stretches *dirs, struct slice name, struct stretches *out)
{
	struct buf key = { 0 };
	int err = 0;

	for (size_t i = 0; i < dirs->n && !err; i++) {
		struct entry_life life = { out, &dirs->at[i] };

		err = row_dirent_key(&key, dirs->at[i].ino, name);
		if (!err)
			err = mvcc_history(db, slice_buf(&key), entry_lived, &life);
		if (err == -ENOENT)
			err = 0;
	}
	buf_release(&key);
	return err;
}

static int path_stretches(struct mvcc *db, struct slice path, struct stretches *out)
{
	struct stretches s = { 0 };
	struct slice name;
	int err = stretch_add(&s, MVCC_REV_FIRST, UINT64_MAX, NS_ROOT);

	while (!err && ns_path_take(&path, &name)) {
		struct stretches below = { 0 };

		err = name.len > NS_NAME_MAX ? -ENAMETOOLONG : step_into(db, &s, name, &below);
		free(s.at);
		s = below;
	}
	if (err)
		free(s.at);
	else
		*out = s;
	return err;
}

/* ---- which revisions are readable -------------------------------------------------------------- */

/* Pinned revisions below the floor, in order, and the floor. From the floor up all are readable. */
struct readable {
	mvcc_rev_t floor;
	mvcc_rev_t *pins;
	size_t n, cap;
};

static int note_pin(void *arg, const struct mvcc_pin *pin)
{
	struct readable *r = arg;

	if (pin->rev >= r->floor)
		return 0;
	if (r->n == r->cap) {
		size_t cap = r->cap ? 2 * r->cap : 16;
		mvcc_rev_t *more = realloc(r->pins, cap * sizeof(*more));

		if (!more)
			return -ENOMEM;
		r->pins = more;
		r->cap = cap;
	}
	r->pins[r->n++] = pin->rev;
	return 0;
}

static int rev_cmp(const void *a, const void *b)
{
	const mvcc_rev_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static int readable_get(struct mvcc *db, struct readable *r)
{
	int err;

	*r = (struct readable){ .floor = mvcc_floor(db) };
	err = mvcc_pins(db, note_pin, r);
	if (err)
		free(r->pins);
	else if (r->n)
		qsort(r->pins, r->n, sizeof(r->pins[0]), rev_cmp);
	return err;
}

/* The oldest readable revision from `rev` on. */
static mvcc_rev_t readable_from(const struct readable *r, mvcc_rev_t rev)
{
	size_t i = 0;

	if (rev >= r->floor)
		return rev;
	while (i < r->n && r->pins[i] < rev)
		i++;
	return i < r->n ? r->pins[i] : r->floor;
}

/* The newest readable revision before `rev`; 0 if there is none. */
static mvcc_rev_t readable_before(const struct readable *r, mvcc_rev_t rev)
{
	size_t i = r->n;

	if (rev > r->floor)
		return rev - 1;
	while (i && r->pins[i - 1] >= rev)
		i--;
	return i ? r->pins[i - 1] : 0;
}

/* ---- versions ---------------------------------------------------------------------------------- */

struct versions {
	const struct readable *readable;
	const struct stretch *stretch;
	struct ns_version *at;
	size_t n, cap;
};

static int row_lived(void *arg, const struct mvcc_item *item, mvcc_rev_t end_rev)
{
	struct versions *v = arg;
	mvcc_rev_t end = earlier(end_rev ? end_rev : UINT64_MAX, v->stretch->end);
	mvcc_rev_t rev = readable_from(v->readable, later(item->mod_rev, v->stretch->from));
	struct row_inode row;
	int err;

	if (rev >= end)
		return 0;
	err = row_inode_decode(item->value, &row);
	if (err)
		return err;
	if (v->n == v->cap) {
		size_t cap = v->cap ? 2 * v->cap : 16;
		struct ns_version *more = realloc(v->at, cap * sizeof(*more));

		if (!more)
			return -ENOMEM;
		v->at = more;
		v->cap = cap;
	}
	v->at[v->n++] = (struct ns_version){ rev, v->stretch->ino, item->mod_rev, row.mode };
	return 0;
}

int ns_history(struct mvcc *db, struct slice path, struct ns_version **out, size_t *n)
{
	struct stretches s = { 0 };
	struct readable readable;
	struct versions v = { .readable = &readable };
	struct buf key = { 0 };
	int err = readable_get(db, &readable);

	if (err)
		return err;
	err = path_stretches(db, path, &s);
	for (size_t i = 0; i < s.n && !err; i++) {
		v.stretch = &s.at[i];
		err = row_inode_key(&key, s.at[i].ino);
		if (!err)
			err = mvcc_history(db, slice_buf(&key), row_lived, &v);
		if (err == -ENOENT)
			err = 0;
	}
	buf_release(&key);
	free(s.at);
	free(readable.pins);
	if (err) {
		free(v.at);
		return err;
	}
	*out = v.at;
	*n = v.n;
	return 0;
}

/* What stands at the path in one revision, as a version. */
static int version_in(struct mvcc *db, struct slice path, mvcc_rev_t rev, struct ns_version *out)
{
	struct mvcc_view *view;
	struct ns_attr attr;
	uint64_t ino;
	int err = mvcc_view_open(db, rev, &view);

	if (err)
		return err;
	err = ns_at_walk(view, path, &ino);
	if (!err)
		err = ns_at_getattr(view, ino, &attr);
	mvcc_view_close(view);
	if (err)
		return err == -ENOTDIR ? -ENOENT : err;
	*out = (struct ns_version){ rev, ino, attr.rev, attr.mode };
	return 0;
}

int ns_history_at(struct mvcc *db, struct slice path, mvcc_rev_t rev, struct ns_version *out)
{
	struct ns_version this, before;
	struct readable readable;
	mvcc_rev_t previous;
	int err = version_in(db, path, rev, &this);

	if (err)
		return err == MVCC_EFUTURE ? -ENOENT : err;
	err = readable_get(db, &readable);
	if (err)
		return err;
	previous = readable_before(&readable, rev);
	free(readable.pins);
	if (previous) {
		err = version_in(db, path, previous, &before);
		if (err && err != -ENOENT)
			return err;
		if (!err && before.ino == this.ino && before.row_rev == this.row_rev)
			return -ENOENT; /* the same: it is named by an older revision */
	}
	*out = this;
	return 0;
}

int ns_history_inodes(struct mvcc *db, struct slice path, int (*fn)(void *arg, uint64_t ino), void *arg)
{
	struct stretches s = { 0 };
	int got = path_stretches(db, path, &s);

	for (size_t i = 0; i < s.n && !got; i++)
		got = fn(arg, s.at[i].ino);
	free(s.at);
	return got;
}

int ns_history_any(struct mvcc *db, struct slice path)
{
	struct stretches s = { 0 };
	struct readable readable;
	int err = readable_get(db, &readable);
	bool any = false;

	if (err)
		return err;
	err = path_stretches(db, path, &s);
	for (size_t i = 0; i < s.n && !err; i++)
		any = any || readable_from(&readable, s.at[i].from) < s.at[i].end;
	free(s.at);
	free(readable.pins);
	return err ? err : any ? 0 : -ENOENT;
}

/* ---- names ------------------------------------------------------------------------------------- */

/* Names gathered from several sources, to be sorted and told once each. */
struct names {
	struct buf bytes; /* one after the other */
	struct {
		size_t off, len;
	} * at;
	size_t n, cap;
};

static int names_add(struct names *names, struct slice name)
{
	size_t off = names->bytes.len;
	int err;

	if (names->n == names->cap) {
		size_t cap = names->cap ? 2 * names->cap : 64;
		void *more = realloc(names->at, cap * sizeof(names->at[0]));

		if (!more)
			return -ENOMEM;
		names->at = more;
		names->cap = cap;
	}
	err = buf_put_slice(&names->bytes, name);
	if (err)
		return err;
	names->at[names->n].off = off;
	names->at[names->n++].len = name.len;
	return 0;
}

static void names_release(struct names *names)
{
	buf_release(&names->bytes);
	free(names->at);
}

static int add_key(struct names *names, struct slice key)
{
	struct row_key k;
	int err = row_key_decode(key, &k);

	return err ? err : names_add(names, k.tail);
}

/* The names that a directory's inode has, or had in a readable revision. */
static int names_of(struct mvcc *db, uint64_t dir, struct names *names)
{
	struct buf start = { 0 }, end = { 0 };
	struct mvcc_keys *keys = NULL;
	struct slice key;
	int got = row_bounds(ROW_DIRENT, dir, &start, &end);

	if (!got)
		got = mvcc_keys_ever_open(db, slice_buf(&start), slice_buf(&end), &keys);
	while (!got && (got = mvcc_keys_next(keys, &key)) > 0)
		got = add_key(names, key);
	mvcc_keys_close(keys);
	buf_release(&start);
	buf_release(&end);
	return got;
}

static struct slice name_at(const struct names *names, size_t i)
{
	return slice_of(names->bytes.data + names->at[i].off, names->at[i].len);
}

static int name_cmp(const void *a, const void *b, void *arg)
{
	const struct names *names = arg;
	const size_t *x = a, *y = b;

	return slice_cmp(slice_of(names->bytes.data + x[0], x[1]), slice_of(names->bytes.data + y[0], y[1]));
}

/*
 * Tells each name once. A directory may have had a name while the path was another's, or in a revision that is gone: whether it
 * has versions at this path is asked.
 */
static int tell_names(struct mvcc *db, struct slice dir, const struct names *names,
		      int (*fn)(void *arg, struct slice name), void *arg)
{
	struct buf path = { 0 };
	int got = buf_put_slice(&path, dir);
	size_t len;

	if (!got)
		got = buf_put_u8(&path, '/');
	len = path.len;
	for (size_t i = 0; i < names->n && !got; i++) {
		struct slice name = name_at(names, i);

		if (i && slice_eq(name, name_at(names, i - 1)))
			continue;
		path.len = len;
		got = buf_put_slice(&path, name);
		if (!got)
			got = ns_history_any(db, slice_buf(&path));
		if (!got)
			got = fn(arg, name);
		else if (got == -ENOENT)
			got = 0;
	}
	buf_release(&path);
	return got;
}

int ns_history_names(struct mvcc *db, struct slice path, int (*fn)(void *arg, struct slice name), void *arg)
{
	struct stretches s = { 0 };
	struct names names = { 0 };
	int err = path_stretches(db, path, &s);

	for (size_t i = 0; i < s.n && !err; i++)
		err = names_of(db, s.at[i].ino, &names);
	if (!err && names.n)
		qsort_r(names.at, names.n, sizeof(names.at[0]), name_cmp, &names);
	if (!err)
		err = tell_names(db, path, &names, fn, arg);
	names_release(&names);
	free(s.at);
	return err;
}
