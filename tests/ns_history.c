#include "tests/ns_history.h"

#include "fs/ns_check.h"
#include "fs/ns_diff.h"
#include "tests/unit.h"

#include <errno.h>
#include <linux/fs.h>

enum { BIG = 300000 };

void history_open(struct history *h, uint64_t seed)
{
	struct ns_options opt = { .commit_ms = 600000 };

	h->seed = seed;
	h->fx = fixture_new();
	h->fx->opt.init = ns_init;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(h->fx), 0);
	CU_ASSERT_EQUAL_FATAL(ns_open(h->fx->db, &opt, &h->ns), 0);
}

static int print_problem(void *arg, const struct ns_problem *p)
{
	(void)arg;
	printf("    inode %llu, \"%.*s\": %s\n", (unsigned long long)p->ino, (int)p->name.len,
	       (const char *)p->name.data, p->what);
	return 0;
}

void history_check(struct history *h)
{
	struct ns_check_options opt = { .problem = print_problem };
	struct mvcc_view *view;
	uint64_t problems = 1;

	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(h->fx->db, MVCC_REV_LATEST, &view), 0);
	CU_ASSERT_EQUAL(ns_check(h->fx->db, view, &opt, &problems), 0);
	CU_ASSERT_EQUAL(problems, 0);
	mvcc_view_close(view);
}

void history_close(struct history *h)
{
	CU_ASSERT_EQUAL(ns_close(h->ns), 0);
	fixture_verify(h->fx);
	history_check(h);
	fixture_close(h->fx);
}

/* ---- random changes ---------------------------------------------------------------------------- */

static uint64_t below(struct history *h, uint64_t n)
{
	return random_below(&h->seed, n);
}

static struct ns_who someone(struct history *h)
{
	return (struct ns_who){
		.uid = 1000 + (uint32_t)below(h, 3), .gid = 100, .pid = 42, .comm = "history"
	};
}

/* Few names, so that they meet. */
static void random_name(struct history *h, char out[8])
{
	snprintf(out, 8, "%c", (char)('a' + (int)below(h, 6)));
	if (below(h, 8) == 0)
		strcat(out, "\n\x80");
}

/* The inode of a random directory below `top`; 0 if there is no such place. */
static uint64_t random_dir(struct history *h, const char *top)
{
	struct mvcc_view *view;
	uint64_t dir = 0;
	unsigned depth = (unsigned)below(h, 4);
	char name[8];

	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(h->fx->db, MVCC_REV_LATEST, &view), 0);
	if (ns_at_walk(view, slice_str(top), &dir))
		depth = 0;
	for (; depth; depth--) {
		struct ns_attr attr;
		uint64_t next;

		random_name(h, name);
		if (!ns_at_lookup(view, dir, slice_str(name), &next) && !ns_at_getattr(view, next, &attr) &&
		    S_ISDIR(attr.mode))
			dir = next;
	}
	mvcc_view_close(view);
	return dir;
}

static void write_file(struct history *h, uint64_t dir, const char *name)
{
	struct ns_who who = someone(h);
	struct ns_file *f = NULL;
	struct ns_attr attr;
	size_t len = below(h, 4) ? below(h, 2000) : below(h, BIG);
	uint64_t off = below(h, 3) ? 0 : below(h, BIG);
	uint8_t *bytes = malloc(len + 1);
	unsigned flags = NS_OPEN_WRITE | (below(h, 3) ? 0 : NS_OPEN_TRUNC);

	CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
	memset(bytes, (int)('A' + below(h, 26)), len + 1);
	if (ns_create(h->ns, &who, dir, slice_str(name), 0600 + (uint32_t)below(h, 64), &f, &attr) ==
		    -EEXIST &&
	    ns_lookup(h->ns, dir, slice_str(name), &attr) == 0 && S_ISREG(attr.mode))
		CU_ASSERT_EQUAL(ns_file_open(h->ns, &who, attr.ino, flags, (struct ns_gone){ 0 }, &f), 0);
	if (f) {
		CU_ASSERT_EQUAL(ns_file_write(f, &who, off, bytes, len), 0);
		CU_ASSERT_EQUAL(ns_file_flush(f), 0);
		CU_ASSERT_EQUAL(ns_file_close(f), 0);
	}
	free(bytes);
}

/* As editors do: another file, which then takes the place. */
static void save_file(struct history *h, uint64_t dir, const char *name)
{
	struct ns_who who = someone(h);

	write_file(h, dir, "#tmp#");
	ns_rename(h->ns, &who, dir, slice_str("#tmp#"), dir, slice_str(name), 0, NULL);
}

static void change_attr(struct history *h, uint64_t ino)
{
	static const unsigned what[] = { NS_SET_MODE, NS_SET_UID, NS_SET_GID, NS_SET_MTIME | NS_SET_ATIME };
	struct ns_attr set = { .mode = (uint32_t)below(h, 512),
			       .uid = (uint32_t)below(h, 5),
			       .gid = (uint32_t)below(h, 5),
			       .mtime_ns = (int64_t)below(h, 1000000000),
			       .atime_ns = (int64_t)below(h, 1000000000) };
	struct ns_who who = someone(h);
	struct ns_attr out;

	CU_ASSERT_EQUAL(ns_setattr(h->ns, &who, ino, &set, what[below(h, 4)], false, &out), 0);
}

static void change_xattr(struct history *h, uint64_t ino)
{
	char name[8], value[8];
	struct ns_who who = someone(h);

	snprintf(name, sizeof(name), "user.%c", (char)('a' + (int)below(h, 3)));
	snprintf(value, sizeof(value), "%u", (unsigned)below(h, 3));
	if (below(h, 3))
		ns_setxattr(h->ns, &who, ino, name, slice_str(value), 0);
	else
		ns_removexattr(h->ns, &who, ino, name);
}

static void truncate_file(struct history *h, const struct ns_attr *attr)
{
	struct ns_attr set = { .size = below(h, 2) ? below(h, 3000) : below(h, BIG) };
	struct ns_who who = someone(h);
	struct ns_attr out;

	if (S_ISREG(attr->mode))
		CU_ASSERT_EQUAL(ns_setattr(h->ns, &who, attr->ino, &set, NS_SET_SIZE, false, &out), 0);
}

static void move_name(struct history *h, const char *top, uint64_t dir, const char *name)
{
	uint64_t to = random_dir(h, top);
	unsigned flags = below(h, 4) ? 0 : RENAME_EXCHANGE;
	struct ns_who who = someone(h);
	char new_name[8];

	random_name(h, new_name);
	ns_rename(h->ns, &who, dir, slice_str(name), to, slice_str(new_name), flags, NULL);
}

static void link_name(struct history *h, const char *top, const struct ns_attr *attr)
{
	uint64_t dir = random_dir(h, top);
	struct ns_who who = someone(h);
	struct ns_attr out;
	char name[8];

	random_name(h, name);
	ns_link(h->ns, &who, attr->ino, dir, slice_str(name), &out);
}

void history_step(struct history *h, const char *top)
{
	uint64_t dir = random_dir(h, top), what = below(h, 20);
	struct ns_who who = someone(h);
	struct ns_attr attr;
	char name[8];
	bool there;

	if (!dir)
		return;
	random_name(h, name);
	there = ns_lookup(h->ns, dir, slice_str(name), &attr) == 0;
	if (what < 5)
		write_file(h, dir, name);
	else if (what < 7)
		save_file(h, dir, name);
	else if (what < 10)
		ns_mkdir(h->ns, &who, dir, slice_str(name), 0700 + (uint32_t)below(h, 64), &attr);
	else if (what == 10)
		ns_symlink(h->ns, &who, dir, slice_str(name), slice_str(below(h, 2) ? "a" : "b/c"), &attr);
	else if (what == 11)
		ns_mknod(h->ns, &who, dir, slice_str(name), S_IFCHR | 0600, below(h, 4), &attr);
	else if (!there)
		history_step(h, top);
	else if (what == 12)
		change_attr(h, attr.ino);
	else if (what == 13)
		change_xattr(h, attr.ino);
	else if (what == 14)
		truncate_file(h, &attr);
	else if (what == 15)
		link_name(h, top, &attr);
	else if (what < 18)
		move_name(h, top, dir, name);
	else if (S_ISDIR(attr.mode))
		ns_rmdir(h->ns, &who, dir, slice_str(name), NULL);
	else
		ns_unlink(h->ns, &who, dir, slice_str(name), NULL);
}

mvcc_rev_t history_run(struct history *h, const char *top, unsigned n)
{
	while (n--)
		history_step(h, top);
	return mvcc_current(h->fx->db);
}

/* ---- pictures ---------------------------------------------------------------------------------- */

static uint64_t hash_more(uint64_t hash, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len--)
		hash = (hash ^ *p++) * 0x100000001b3u;
	return hash;
}

static uint64_t hash_content(struct mvcc *db, struct mvcc_view *view, const struct ns_attr *attr)
{
	static uint8_t bytes[65536];
	struct buf target = { 0 };
	uint64_t hash = 1, off = 0;
	ssize_t n;

	if (S_ISLNK(attr->mode)) {
		CU_ASSERT_EQUAL(ns_at_readlink(view, attr->ino, &target), 0);
		hash = hash_more(hash, target.data, target.len);
		buf_release(&target);
	}
	while (S_ISREG(attr->mode) && (n = ns_at_read(db, view, attr->ino, off, bytes, sizeof(bytes))) > 0) {
		hash = hash_more(hash, bytes, (size_t)n);
		off += (uint64_t)n;
	}
	CU_ASSERT(!S_ISREG(attr->mode) || off == attr->size);
	return hash;
}

static uint64_t hash_xattrs(struct mvcc_view *view, uint64_t ino)
{
	struct buf names = { 0 }, value = { 0 };
	uint64_t hash = 1;

	CU_ASSERT_EQUAL(ns_at_listxattr(view, ino, &names), 0);
	for (size_t i = 0; i < names.len; i += strlen((char *)names.data + i) + 1) {
		const char *name = (char *)names.data + i;

		CU_ASSERT_EQUAL(ns_at_getxattr(view, ino, name, &value), 0);
		hash = hash_more(hash, name, strlen(name) + 1);
		hash = hash_more(hash, value.data, value.len);
	}
	buf_release(&names);
	buf_release(&value);
	return hash;
}

static void show(struct history *h, struct mvcc_view *view, uint64_t ino, const char *path,
		 struct picture *out)
{
	struct ns_attr attr = { 0 };
	struct ns_dir *d = NULL;
	struct ns_dirent e;
	struct shown *s;
	uint64_t pos = 0;

	CU_ASSERT_EQUAL(ns_at_getattr(view, ino, &attr), 0);
	out->v = realloc(out->v, (out->n + 1) * sizeof(*out->v));
	CU_ASSERT_PTR_NOT_NULL_FATAL(out->v);
	s = &out->v[out->n++];
	*s = (struct shown){ .path = strdup(path),
			     .ino = ino,
			     .mode = attr.mode,
			     .uid = attr.uid,
			     .gid = attr.gid,
			     .rdev = attr.rdev,
			     .size = attr.size,
			     .nlink = attr.nlink,
			     .mtime_ns = attr.mtime_ns,
			     .atime_ns = attr.atime_ns };
	s->content = hash_content(h->fx->db, view, &attr);
	s->xattrs = hash_xattrs(view, ino);
	if (!S_ISDIR(attr.mode))
		return;
	CU_ASSERT_EQUAL_FATAL(ns_at_opendir(view, ino, &d), 0);
	while (ns_dir_read(d, pos++, &e) > 0) {
		char child[512];

		snprintf(child, sizeof(child), "%s/%.*s", strcmp(path, "/") ? path : "", (int)e.name.len,
			 (const char *)e.name.data);
		show(h, view, e.ino, child, out);
	}
	ns_dir_close(d);
}

static int by_path(const void *a, const void *b)
{
	const struct shown *x = a, *y = b;

	return strcmp(x->path, y->path);
}

void picture_take(struct history *h, mvcc_rev_t rev, struct picture *out)
{
	struct mvcc_view *view;

	*out = (struct picture){ 0 };
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(h->fx->db, rev, &view), 0);
	show(h, view, NS_ROOT, "/", out);
	mvcc_view_close(view);
	qsort(out->v, out->n, sizeof(*out->v), by_path);
	for (size_t i = 0; i < out->n; i++) {
		size_t first = 0;

		while (out->v[first].ino != out->v[i].ino)
			first++;
		out->v[i].same = first;
	}
}

void picture_free(struct picture *p)
{
	while (p->n)
		free(p->v[--p->n].path);
	free(p->v);
	p->v = NULL;
}

const struct shown *picture_find(const struct picture *p, const char *path)
{
	struct shown key = { .path = (char *)(uintptr_t)path };

	return p->n ? bsearch(&key, p->v, p->n, sizeof(*p->v), by_path) : NULL;
}

unsigned shown_differs(const struct shown *a, const struct shown *b)
{
	unsigned what = 0;

	if ((a->mode & S_IFMT) != (b->mode & S_IFMT))
		what |= NS_DIFF_TYPE;
	else if (!S_ISDIR(a->mode) && (a->content != b->content || a->size != b->size || a->rdev != b->rdev))
		what |= NS_DIFF_CONTENT;
	if ((a->mode & 07777) != (b->mode & 07777))
		what |= NS_DIFF_MODE;
	if (a->uid != b->uid || a->gid != b->gid)
		what |= NS_DIFF_OWNER;
	if (a->xattrs != b->xattrs)
		what |= NS_DIFF_XATTR;
	if (!(what & NS_DIFF_TYPE) && !S_ISDIR(a->mode) &&
	    (a->mtime_ns != b->mtime_ns || a->atime_ns != b->atime_ns))
		what |= NS_DIFF_TIMES;
	return what;
}

static bool counts(const char *path, const char *top, bool but)
{
	size_t len = strlen(top);
	bool below_top = strncmp(path, top, len) == 0 && (path[len] == '/' || path[len] == 0 || len == 0);

	return below_top != but;
}

static size_t count_those(const struct picture *p, const char *top, bool but)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n; i++)
		n += counts(p->v[i].path, top, but);
	return n;
}

void assert_same_picture(const struct picture *a, const struct picture *b, const char *top, bool but,
			 bool dir_times)
{
	bool whole = *top == 0 || but; /* else a file may have names elsewhere */

	CU_ASSERT_EQUAL(count_those(a, top, but), count_those(b, top, but));
	for (size_t i = 0; i < a->n; i++) {
		const struct shown *x = &a->v[i], *y;
		bool same;

		if (!counts(x->path, top, but))
			continue;
		y = picture_find(b, x->path);
		same = y && shown_differs(x, y) == 0 &&
		       (!whole ||
			(x->nlink == y->nlink && strcmp(a->v[x->same].path, b->v[y->same].path) == 0)) &&
		       (!dir_times || (x->mtime_ns == y->mtime_ns && x->atime_ns == y->atime_ns));
		CU_ASSERT(same);
		if (!same)
			printf("    %s: %s, 0x%x, links %d %d, first names %s %s, times %lld %lld\n", x->path,
			       y ? "differs" : "missing", y ? shown_differs(x, y) : 0, (int)x->nlink,
			       y ? (int)y->nlink : 0, a->v[x->same].path, y ? b->v[y->same].path : "",
			       (long long)x->mtime_ns, y ? (long long)y->mtime_ns : 0);
	}
}
