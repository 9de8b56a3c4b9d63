/*
 * Walks a tree by descriptors, so that its depth and the length of its paths do not matter, and
 * never follows a link. What cannot be read is told at once, with its path: in a comparison it would
 * only show as missing.
 */
#include "tests/mount/tree.h"

#include "tests/mount/mount_fixture.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define YEAR_2000_NS ((int64_t)946684800 * 1000000000)
#define CACHE_SLOTS 65536

static void *must(void *p)
{
	if (!p) {
		fputs("out of memory\n", stderr);
		exit(2);
	}
	return p;
}

uint64_t tree_hash_bytes(const void *data, size_t len)
{
	return XXH3_64bits(data, len);
}

/* ---- cache: open addressing, never more than half full ------------------------------------------- */

struct tree_cache {
	size_t used;
	struct {
		ino_t ino; /* 0: free */
		uint64_t hash;
		bool known;
	} slots[CACHE_SLOTS];
};

struct tree_cache *tree_cache_new(void)
{
	return must(calloc(1, sizeof(struct tree_cache)));
}

void tree_cache_free(struct tree_cache *cache)
{
	free(cache);
}

static size_t cache_slot(struct tree_cache *cache, ino_t ino)
{
	size_t i = (size_t)(((uint64_t)ino * UINT64_C(0x9E3779B97F4A7C15)) >> 32) % CACHE_SLOTS;

	while (cache->slots[i].ino && cache->slots[i].ino != ino)
		i = (i + 1) % CACHE_SLOTS;
	return i;
}

void tree_cache_forget(struct tree_cache *cache, ino_t ino)
{
	cache->slots[cache_slot(cache, ino)].known = false;
}

static void cache_put(struct tree_cache *cache, ino_t ino, uint64_t hash)
{
	size_t i;

	if (cache->used >= CACHE_SLOTS / 2) {
		memset(cache->slots, 0, sizeof(cache->slots));
		cache->used = 0;
	}
	i = cache_slot(cache, ino);
	if (!cache->slots[i].ino) {
		cache->slots[i].ino = ino;
		cache->used++;
	}
	cache->slots[i].hash = hash;
	cache->slots[i].known = true;
}

/* ---- reading --------------------------------------------------------------------------------------- */

struct walk {
	struct tree *tree;
	size_t room;
	unsigned flags;
	struct tree_cache *cache;
	char *path; /* of the entry at hand, relative */
	size_t path_room;
	unsigned char *block;
};

#define BLOCK ((size_t)256 << 10)

static void walk_failed(struct walk *w, const char *what)
{
	fprintf(stderr, "tree: %s: %s: %s\n", mnt_quote(w->path), what, strerror(errno));
	w->tree->errors++;
}

/* The hash of a file's bytes; false after an error was reported. */
static bool content_of(struct walk *w, int dir, const char *name, const struct stat *st, uint64_t *out)
{
	size_t slot;
	XXH3_state_t *state;
	off_t total = 0;
	ssize_t n;
	int fd;

	if (w->cache) {
		slot = cache_slot(w->cache, st->st_ino);
		if (w->cache->slots[slot].ino && w->cache->slots[slot].known) {
			*out = w->cache->slots[slot].hash;
			return true;
		}
	}
	fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		walk_failed(w, "open");
		return false;
	}
	state = must(XXH3_createState());
	XXH3_64bits_reset(state);
	while ((n = read(fd, w->block, BLOCK)) > 0) {
		XXH3_64bits_update(state, w->block, (size_t)n);
		total += n;
	}
	*out = XXH3_64bits_digest(state);
	XXH3_freeState(state);
	if (n < 0)
		walk_failed(w, "read");
	close(fd);
	if (n == 0 && total != st->st_size) {
		fprintf(stderr, "tree: %s: %lld bytes read, stat says %lld\n", mnt_quote(w->path),
			(long long)total, (long long)st->st_size);
		w->tree->errors++;
		return false;
	}
	if (n == 0 && w->cache)
		cache_put(w->cache, st->st_ino, *out);
	return n == 0;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The hash of all user.* xattrs of an entry; by way of /proc, as no call takes (dir, name, nofollow). */
static bool xattrs_of(struct walk *w, int dir, const char *name, uint64_t *out)
{
	char via[320], names[16384], *list[512];
	static char value[65537];
	ssize_t len, n;
	size_t count = 0;
	uint64_t hash = 0;

	snprintf(via, sizeof(via), "/proc/self/fd/%d/%s", dir, name);
	len = llistxattr(via, names, sizeof(names));
	if (len < 0 && errno != ENOTSUP) {
		walk_failed(w, "listxattr");
		return false;
	}
	for (char *at = names; at < names + len && count < 512; at += strlen(at) + 1)
		if (!strncmp(at, "user.", 5))
			list[count++] = at;
	qsort(list, count, sizeof(*list), by_text);
	for (size_t i = 0; i < count; i++) {
		n = lgetxattr(via, list[i], value, sizeof(value));
		if (n < 0) {
			walk_failed(w, list[i]);
			return false;
		}
		hash = XXH3_64bits_withSeed(list[i], strlen(list[i]), hash + 1);
		hash = XXH3_64bits_withSeed(value, (size_t)n, hash);
	}
	*out = hash;
	return true;
}

static void walk_entry(struct walk *w, int dir, const char *name, size_t path_len);

static void walk_dir(struct walk *w, int dir, const char *name, size_t path_len)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		walk_failed(w, "opendir");
		if (fd >= 0)
			close(fd);
		return;
	}
	while (errno = 0, (e = readdir(d))) {
		size_t len = strlen(e->d_name), at = path_len;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (w->path_room < at + len + 2) {
			w->path_room = (at + len + 2) * 2;
			w->path = must(realloc(w->path, w->path_room));
		}
		if (at)
			w->path[at++] = '/';
		memcpy(w->path + at, e->d_name, len + 1);
		walk_entry(w, dirfd(d), e->d_name, at + len);
	}
	w->path[path_len] = 0;
	if (errno)
		walk_failed(w, "readdir");
	closedir(d);
}

static void walk_entry(struct walk *w, int dir, const char *name, size_t path_len)
{
	struct tree_entry *e;
	struct stat st;
	char target[4097];
	ssize_t n;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW)) {
		walk_failed(w, "stat");
		return;
	}
	if (w->tree->n == w->room) {
		w->room = w->room ? w->room * 2 : 256;
		w->tree->entries = must(realloc(w->tree->entries, w->room * sizeof(*e)));
	}
	e = &w->tree->entries[w->tree->n];
	memset(e, 0, sizeof(*e));
	e->mode = st.st_mode;
	e->uid = st.st_uid;
	e->gid = st.st_gid;
	e->nlink = st.st_nlink;
	e->size = S_ISDIR(st.st_mode) ? 0 : st.st_size;
	e->rdev = S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode) ? st.st_rdev : 0;
	e->ino = st.st_ino;
	e->mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
	if (S_ISLNK(st.st_mode)) {
		n = readlinkat(dir, name, target, sizeof(target));
		if (n < 0) {
			walk_failed(w, "readlink");
			return;
		}
		e->content = XXH3_64bits(target, (size_t)n);
	} else if (S_ISREG(st.st_mode) && !(w->flags & TREE_NO_CONTENT)) {
		if (!content_of(w, dir, name, &st, &e->content))
			return;
	}
	if ((S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) && !xattrs_of(w, dir, name, &e->xattrs))
		return;
	e->path = must(strdup(*w->path ? w->path : "."));
	w->tree->n++;
	if (S_ISDIR(st.st_mode))
		walk_dir(w, dir, name, path_len);
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct tree_entry *)a)->path, ((const struct tree_entry *)b)->path);
}

void tree_read(struct tree *out, const char *root, unsigned flags, struct tree_cache *cache)
{
	struct walk w = { .tree = out, .flags = flags, .cache = cache, .path_room = 512 };
	int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	memset(out, 0, sizeof(*out));
	w.path = must(calloc(1, w.path_room));
	w.block = must(malloc(BLOCK));
	if (fd < 0) {
		fprintf(stderr, "tree: %s: %s\n", mnt_quote(root), strerror(errno));
		out->errors++;
	} else {
		walk_entry(&w, fd, ".", 0);
		close(fd);
	}
	if (out->n)
		qsort(out->entries, out->n, sizeof(*out->entries), by_path);
	free(w.block);
	free(w.path);
}

void tree_release(struct tree *tree)
{
	for (size_t i = 0; i < tree->n; i++)
		free(tree->entries[i].path);
	free(tree->entries);
	memset(tree, 0, sizeof(*tree));
}

/* ---- comparing ------------------------------------------------------------------------------------- */

#define LIST_SOME 10

struct diff {
	const char *what;
	size_t found;
};

static void __attribute__((format(printf, 3, 4))) tell(struct diff *d, const char *path, const char *fmt, ...)
{
	va_list ap;

	d->found++;
	if (!d->what || d->found > LIST_SOME)
		return;
	fprintf(stderr, "%s: %s: ", d->what, mnt_quote(path));
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

static bool times_differ(int64_t want, int64_t got)
{
	if (want < YEAR_2000_NS || got < YEAR_2000_NS)
		return want != got;
	return false;
}

static void diff_entry(struct diff *d, const struct tree_entry *want, const struct tree_entry *got,
		       unsigned flags)
{
	const char *path = want->path;

	if (want->mode != got->mode)
		tell(d, path, "mode %o, not %o", got->mode, want->mode);
	if (!(flags & TREE_NO_OWNER) && (want->uid != got->uid || want->gid != got->gid))
		tell(d, path, "owner %u:%u, not %u:%u", got->uid, got->gid, want->uid, want->gid);
	if (!(flags & TREE_NO_NLINK) && want->nlink != got->nlink)
		tell(d, path, "nlink %lu, not %lu", (unsigned long)got->nlink, (unsigned long)want->nlink);
	if (want->size != got->size)
		tell(d, path, "size %lld, not %lld", (long long)got->size, (long long)want->size);
	else if (want->content != got->content && (S_ISLNK(want->mode) || !(flags & TREE_NO_CONTENT)))
		tell(d, path, "%s differs", S_ISLNK(want->mode) ? "target" : "content");
	if (want->rdev != got->rdev)
		tell(d, path, "device %lx, not %lx", (unsigned long)got->rdev, (unsigned long)want->rdev);
	if (want->xattrs != got->xattrs)
		tell(d, path, "xattrs differ");
	if (!(flags & TREE_NO_TIMES) && times_differ(want->mtime_ns, got->mtime_ns))
		tell(d, path, "mtime %lld ns, not %lld ns", (long long)got->mtime_ns,
		     (long long)want->mtime_ns);
}

size_t tree_diff(const struct tree *want, const struct tree *got, unsigned flags, const char *what)
{
	struct diff d = { .what = what };
	size_t i = 0, j = 0;

	while (i < want->n || j < got->n) {
		int order = i == want->n ? 1 :
			    j == got->n  ? -1 :
					   strcmp(want->entries[i].path, got->entries[j].path);

		if (order < 0) {
			tell(&d, want->entries[i].path, "missing");
			i++;
		} else if (order > 0) {
			tell(&d, got->entries[j].path, "should not be there");
			j++;
		} else {
			if (!(flags & TREE_NO_ROOT) || strcmp(want->entries[i].path, "."))
				diff_entry(&d, &want->entries[i], &got->entries[j], flags);
			i++;
			j++;
		}
	}
	d.found += (size_t)(want->errors + got->errors);
	if (what && d.found > LIST_SOME)
		fprintf(stderr, "%s: %zu differences\n", what, d.found);
	return d.found;
}

const struct tree_entry *tree_find(const struct tree *tree, const char *path)
{
	struct tree_entry key = { .path = (char *)(uintptr_t)path };

	return tree->n ? bsearch(&key, tree->entries, tree->n, sizeof(key), by_path) : NULL;
}

uint64_t tree_hash(const struct tree *tree)
{
	uint64_t hash = tree->n;

	for (size_t i = 0; i < tree->n; i++) {
		const struct tree_entry *e = &tree->entries[i];
		uint64_t fields[] = { e->mode,           e->uid,  e->gid,     e->nlink,
				      (uint64_t)e->size, e->rdev, e->content, e->xattrs };

		hash = XXH3_64bits_withSeed(e->path, strlen(e->path), hash);
		hash = XXH3_64bits_withSeed(fields, sizeof(fields), hash);
	}
	return hash;
}
