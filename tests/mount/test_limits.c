/*
 * The edges: lengths of names and paths, bytes that names may hold, depth, many entries, and file sizes
 * around each size at which the store changes its way of keeping them. Every case is looked at live, as a
 * revision after it was changed, and after mounting again.
 */
#include "tests/mount/mount_fixture.h"
#include "tests/mount/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define END_OF_FILES INT64_MAX /* 8 EiB - 1: the largest size a file can have */

static struct mnt m;

static int open_mount(void)
{
	umask(022);
	mnt_init(&m, NULL);
	return 0;
}

static int close_mount(void)
{
	mnt_release(&m);
	return 0;
}

static const char *at_rev(uint64_t rev)
{
	return mnt_path("%s/@rev/%llu", m.at, (unsigned long long)rev);
}

/* ---- names ----------------------------------------------------------------------------------------- */

static unsigned char name_byte(unsigned i)
{
	return (unsigned char)(i + 1 == '/' ? 1 : i + 1);
}

/* Names of every kind; the count of them. Each is at most 255 bytes. */
static size_t make_names(char names[][NAME_MAX + 1])
{
	static const char *const odd[] = {
		"\n",
		"line\nline\n",
		" ",
		"\t",
		"\\",
		"\"",
		"'",
		"*",
		"-",
		"--",
		"~",
		"...",
		"..a",
		".a",
		"\x7f",
		"\x01",
		"\xff",
		"\xfe\xff",
		"\xc3\x28",
		"\xed\xa0\x80",
		"\xf0\x9f\x98\x80",
		"e\xcc\x81",
		"\xc3\xa9",
		"@",
		"@revs",
		"@re",
		"@Rev",
		"x@rev",
		"%d%s",
		"A",
		"a",
		"a ",
		" a",
		"a.",
		"nul",
		"con",
		"\x80",
		"\xc0\x80",
	};
	size_t n = 0;

	for (size_t i = 0; i < sizeof(odd) / sizeof(*odd); i++)
		snprintf(names[n++], NAME_MAX + 1, "%s", odd[i]);
	for (int len = NAME_MAX - 2; len <= NAME_MAX; len++) {
		memset(names[n], 'n', (size_t)len);
		names[n++][len] = 0;
		memset(names[n], 0xff, (size_t)len);
		names[n++][len] = 0;
	}
	/* Every byte a name can hold, in one name. */
	for (unsigned i = 0; i < NAME_MAX; i++)
		names[n][i] = (char)name_byte(i);
	names[n++][NAME_MAX] = 0;
	return n;
}

static void names_are_all_there(const char *dir, char names[][NAME_MAX + 1], size_t n, size_t skip)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	size_t found = 0, strange = 0;

	if (!MNT_OK(d ? 0 : -1, dir))
		return;
	while ((e = readdir(d))) {
		bool known = false;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		for (size_t i = skip; i < n; i++)
			known |= !strcmp(e->d_name, names[i]);
		if (!known)
			fprintf(stderr, "%s: strange name %s\n", dir, mnt_quote(e->d_name));
		strange += !known;
		found += known;
	}
	closedir(d);
	MNT_CHECK(found == n - skip && !strange, "%s: %zu of %zu names, and %zu strange ones", dir, found,
		  n - skip, strange);
	for (size_t i = skip; i < n; i++)
		mnt_same_text(mnt_path("%s/%s", dir, names[i]), names[i]);
}

static void test_names_are_bytes(void)
{
	static char names[64][NAME_MAX + 1];
	size_t n = make_names(names);
	const char *dir = mnt_path("%s/names", m.at);
	uint64_t rev;

	MNT_OK(mkdir(dir, 0755), dir);
	for (size_t i = 0; i < n; i++)
		mnt_write_text(mnt_path("%s/%s", dir, names[i]), names[i]);
	names_are_all_there(dir, names, n, 0);
	rev = mnt_current(&m);
	for (size_t i = 0; i < n / 2; i++)
		MNT_OK(unlink(mnt_path("%s/%s", dir, names[i])), names[i]);
	names_are_all_there(dir, names, n, n / 2);
	names_are_all_there(mnt_path("%s/names", at_rev(rev)), names, n, 0);
	names_are_all_there(mnt_path("%s/@rev/%llu", dir, (unsigned long long)rev), names, n, 0);
	mnt_down(&m);
	mnt_up(&m, NULL);
	names_are_all_there(dir, names, n, n / 2);
	names_are_all_there(mnt_path("%s/names", at_rev(rev)), names, n, 0);
}

static void test_a_name_of_256_bytes_is_too_long(void)
{
	char name[NAME_MAX + 2];
	const char *path, *other = mnt_path("%s/other", m.at);
	struct stat st;

	memset(name, 'l', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	path = mnt_path("%s/%s", m.at, name);
	mnt_write_text(other, "x");
	MNT_FAILS(open(path, O_WRONLY | O_CREAT, 0644), ENAMETOOLONG, path);
	MNT_FAILS(mkdir(path, 0755), ENAMETOOLONG, path);
	MNT_FAILS(symlink("x", path), ENAMETOOLONG, path);
	MNT_FAILS(rename(other, path), ENAMETOOLONG, path);
	MNT_FAILS(link(other, path), ENAMETOOLONG, path);
	MNT_FAILS(stat(path, &st), ENAMETOOLONG, path);
	mnt_same_text(other, "x");
}

/*
 * A new file may not have this name: EPERM. Where the name can be looked up (as @rev always can) the kernel
 * does not even ask, and says that there is something of that name.
 */
static void refused(int result, const char *what, const char *path)
{
	int err = errno;
	struct stat st;
	bool there = lstat(path, &st) == 0;

	MNT_CHECK(result < 0 && (err == EPERM || (there && (err == EEXIST || err == EISDIR))), "%s %s: %s",
		  what, path, result < 0 ? strerror(err) : "no error");
}

static void name_is_refused(const char *path, const char *file)
{
	refused(mkdir(path, 0755), "mkdir", path);
	refused(open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644), "create", path);
	refused(symlink("x", path), "symlink", path);
	refused(mknod(path, S_IFIFO | 0644, 0), "mknod", path);
	refused(link(file, path), "link", path);
	refused(rename(file, path), "rename", path);
}

static void test_reserved_names_are_refused_and_hidden(void)
{
	static const char *const everywhere[] = { "@rev", "@history", "@watch" };
	static const char *const in_root[] = { "@txn", "@tag", "@status", "@ctl" };
	const char *sub = mnt_path("%s/reserved", m.at), *file = mnt_path("%s/reserved-file", m.at), *path;
	uint64_t rev;
	DIR *d;
	struct dirent *e;

	MNT_OK(mkdir(sub, 0755), sub);
	mnt_write_text(file, "x");
	rev = mnt_current(&m);
	for (size_t i = 0; i < sizeof(everywhere) / sizeof(*everywhere); i++) {
		name_is_refused(mnt_path("%s/%s", m.at, everywhere[i]), file);
		name_is_refused(mnt_path("%s/%s", sub, everywhere[i]), file);
	}
	for (size_t i = 0; i < sizeof(in_root) / sizeof(*in_root); i++)
		name_is_refused(mnt_path("%s/%s", m.at, in_root[i]), file);
	MNT_CHECK(mnt_current(&m) == rev, "refusals made %llu revisions",
		  (unsigned long long)(mnt_current(&m) - rev));
	for (size_t i = 0; i < sizeof(in_root) / sizeof(*in_root); i++) {
		/* Below the root these are names as any other. */
		path = mnt_path("%s/%s", sub, in_root[i]);
		MNT_OK(mkdir(path, 0755), path);
		MNT_OK(rmdir(path), path);
	}
	path = mnt_path("%s/@rev", sub);
	MNT_CHECK(rmdir(path) < 0 && (errno == EPERM || errno == EROFS), "rmdir %s: %s", path,
		  strerror(errno));
	MNT_CHECK(rename(path, mnt_path("%s/x", sub)) < 0 && (errno == EPERM || errno == EROFS),
		  "rename %s: %s", path, strerror(errno));
	d = opendir(m.at);
	while (d && (e = readdir(d)))
		MNT_CHECK(e->d_name[0] != '@', "readdir shows %s", e->d_name);
	if (d)
		closedir(d);
	MNT_OK(rmdir(sub), sub);
	mnt_same_text(file, "x");
}

/* ---- paths ----------------------------------------------------------------------------------------- */

static void test_a_path_of_4000_bytes(void)
{
	char path[4200], component[101], *end;
	size_t base = strlen(m.at), len;
	uint64_t rev;
	char tail[4200];

	memset(component, 'p', 99);
	component[99] = 0;
	end = path + snprintf(path, sizeof(path), "%s", m.at);
	/* 4,000 bytes below the mount point where PATH_MAX allows it, which counts the mount point too. */
	while ((len = (size_t)(end - path)) - base + 100 <= 4000 && len + 100 + 40 < PATH_MAX) {
		end += snprintf(end, sizeof(path) - len, "/%s", component);
		MNT_OK(mkdir(path, 0755), path);
	}
	len = PATH_MAX - 1 - (size_t)(end - path) - 1 - strlen("/@rev/12345678");
	len = len > 99 ? 99 : len;
	component[len] = 0;
	component[0] = 'f';
	snprintf(end, sizeof(path) - (size_t)(end - path), "/%s", component);
	MNT_CHECK(strlen(path) - base > 3900, "%zu bytes", strlen(path) - base);
	mnt_write_text(path, "deep\n");
	rev = mnt_current(&m);
	mnt_append_file(path, "deeper\n", 7);
	mnt_same_text(path, "deep\ndeeper\n");
	mnt_same_text(mnt_path("%.*s/@rev/%llu%s", (int)base, path, (unsigned long long)rev, path + base),
		      "deep\n");
	/* The same by way of the last directory that leaves room for the longer path. */
	snprintf(tail, sizeof(tail), "%.*s", (int)(end - path), path);
	{
		int dir = open(tail, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd;
		char name[64 + 101], text[16];

		MNT_OK(dir, tail);
		snprintf(name, sizeof(name), "@rev/%llu/%s", (unsigned long long)rev, component);
		fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
		MNT_OK(fd, name);
		MNT_CHECK(read(fd, text, sizeof(text)) == 5, "%s in the deepest directory", name);
		close(fd);
		close(dir);
	}
	MNT_CHECK(mnt_shell("rm -rf '%s'/pppp*", m.at) == 0, "rm of the deep path");
}

static void test_64_levels_of_255_bytes(void)
{
	char name[NAME_MAX + 1];
	int dir = open(m.at, O_RDONLY | O_DIRECTORY | O_CLOEXEC), next, fd;
	struct tree live, then;
	uint64_t rev;

	memset(name, 'd', NAME_MAX);
	name[NAME_MAX] = 0;
	for (int level = 0; level < 64; level++) {
		MNT_OK(mkdirat(dir, name, 0755), name);
		next = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (!MNT_OK(next, name))
			break;
		close(dir);
		dir = next;
	}
	fd = openat(dir, "bottom", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	MNT_OK(write(fd, "bottom", 6), "bottom");
	MNT_OK(close(fd), "bottom");
	rev = mnt_current(&m);
	/* All of 16 KiB of path, walked by descriptors, live and in history. */
	tree_read(&live, mnt_path("%s/%s", m.at, name), 0, NULL);
	tree_read(&then, mnt_path("%s/%s", at_rev(rev), name), 0, NULL);
	MNT_CHECK(live.n == 65, "%zu files", live.n);
	MNT_CHECK(tree_diff(&live, &then, 0, "64 levels at their revision") == 0, "64 levels");
	tree_release(&live);
	tree_release(&then);
	fd = openat(dir, "@rev/head/bottom", O_RDONLY | O_CLOEXEC);
	MNT_OK(fd, "@rev/head/bottom in the deepest directory");
	close(fd);
	close(dir);
	MNT_CHECK(mnt_shell("rm -rf '%s'/dddd*", m.at) == 0, "rm of 64 levels");
}

/* ---- many entries ---------------------------------------------------------------------------------- */

#define MANY 100000

/*
 * Reads a directory and asserts that it holds `n` of the files "e0" to "e<of-1>", and shows each
 * exactly once.
 */
static void entries_come_once(const char *path, unsigned n, unsigned of)
{
	unsigned char *seen = calloc(of + 1, 1);
	DIR *d = opendir(path);
	struct dirent *e;
	unsigned found = 0, strange = 0, dots = 0;

	if (!MNT_OK(d ? 0 : -1, path)) {
		free(seen);
		return;
	}
	while (errno = 0, (e = readdir(d))) {
		char *end;
		unsigned long i;

		if (e->d_name[0] == '.') {
			dots++;
			continue;
		}
		i = strtoul(e->d_name + 1, &end, 10);
		if (e->d_name[0] != 'e' || *end || i >= of || seen[i] || e->d_type != DT_REG)
			strange++;
		else
			seen[i] = 1;
		found++;
	}
	MNT_CHECK(errno == 0, "%s: readdir: %s", path, strerror(errno));
	closedir(d);
	MNT_CHECK(found == n && !strange && dots == 2,
		  "%s: %u entries, %u of them strange or double, %u of . and ..", path, found, strange, dots);
	free(seen);
}

static void test_100000_entries_in_one_directory(void)
{
	unsigned many = (unsigned)mnt_env("MVCCFS_TEST_ENTRIES", MANY);
	const char *dir = mnt_path("%s/many", m.at);
	char name[NAME_MAX + 1];
	uint64_t before, rev, random = mnt_seed();
	struct stat st;
	struct dirent *e;
	long where;
	int fd, file;
	DIR *d;

	MNT_OK(mkdir(dir, 0755), dir);
	before = mnt_current(&m);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (unsigned i = 0; i < many; i++) {
		snprintf(name, sizeof(name), "e%u", i);
		file = openat(fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (file < 0 || write(file, name, 3) != 3 || close(file)) {
			MNT_CHECK(false, "%s: %s", name, strerror(errno));
			break;
		}
	}
	rev = mnt_current(&m);
	MNT_CHECK(rev == before + many, "%llu revisions of %u files", (unsigned long long)(rev - before),
		  many);
	entries_come_once(dir, many, many);
	MNT_FAILS(rmdir(dir), ENOTEMPTY, dir);
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "e%u", (unsigned)(mnt_random(&random) % many));
		MNT_OK(fstatat(fd, name, &st, 0), name);
	}
	snprintf(name, sizeof(name), "e%u", many);
	MNT_FAILS(fstatat(fd, name, &st, 0), ENOENT, name);

	/* A position of telldir() leads back to the same entry. */
	d = opendir(dir);
	for (unsigned i = 0; i < many / 2; i++)
		e = readdir(d);
	where = telldir(d);
	e = readdir(d);
	snprintf(name, sizeof(name), "%s", e ? e->d_name : "");
	for (unsigned i = 0; i < 5000; i++)
		readdir(d);
	seekdir(d, where);
	e = readdir(d);
	MNT_CHECK(e && !strcmp(e->d_name, name), "seekdir leads to %s, not %s", e ? e->d_name : "the end",
		  name);
	closedir(d);

	/* As rm -r does it: removing while reading must skip none. */
	d = opendir(dir);
	while ((e = readdir(d)))
		if (e->d_name[0] == 'e' && unlinkat(fd, e->d_name, 0))
			MNT_CHECK(false, "unlink %s: %s", e->d_name, strerror(errno));
	closedir(d);
	close(fd);
	entries_come_once(dir, 0, many);
	MNT_OK(rmdir(dir), dir);
	MNT_CHECK(mnt_current(&m) == rev + many + 1,
		  "%llu revisions of removing %u files and their directory",
		  (unsigned long long)(mnt_current(&m) - rev), many);
	entries_come_once(mnt_path("%s/many", at_rev(rev)), many, many);
	entries_come_once(mnt_path("%s/many", at_rev(rev + many / 2)), many - many / 2, many);
}

static void test_a_file_of_1000_links(void)
{
	const char *dir = mnt_path("%s/links", m.at), *first = mnt_path("%s/l0", dir);
	uint64_t rev;
	struct stat st, other;

	MNT_OK(mkdir(dir, 0755), dir);
	mnt_write_text(first, "linked");
	for (int i = 1; i < 1000; i++)
		MNT_OK(link(first, mnt_path("%s/l%d", dir, i)), "link");
	rev = mnt_current(&m);
	MNT_OK(stat(first, &st), first);
	MNT_CHECK(st.st_nlink == 1000, "nlink %lu", (unsigned long)st.st_nlink);
	for (int i = 0; i < 999; i++)
		MNT_OK(unlink(mnt_path("%s/l%d", dir, i)), "unlink");
	MNT_OK(stat(mnt_path("%s/l999", dir), &other), "l999");
	MNT_CHECK(other.st_nlink == 1 && other.st_ino == st.st_ino, "nlink %lu",
		  (unsigned long)other.st_nlink);
	MNT_OK(stat(mnt_path("%s/links/l500", at_rev(rev)), &st), "l500");
	MNT_OK(stat(mnt_path("%s/links/l7", at_rev(rev)), &other), "l7");
	MNT_CHECK(st.st_nlink == 1000 && st.st_ino == other.st_ino, "nlink %lu then",
		  (unsigned long)st.st_nlink);
	mnt_same_text(mnt_path("%s/l999", dir), "linked");
}

/* ---- sizes ----------------------------------------------------------------------------------------- */

/* Sizes around what the store has as units: content in the inode's row, pages, extents, blobs, requests. */
static const size_t sizes[] = {
	0,      1,      2,      7,       8,       511,     512,     513,           1000,     1022,
	1023,   1024,   1025,   1026,    2047,    2048,    2049,    4095,          4096,     4097,
	8192,   65535,  65536,  65537,   131071,  131072,  131073,  131072 + 1024, 262143,   262144,
	262145, 393216, 524288, 1048575, 1048576, 1048577, 2097153, 16777215,      16777216, 16777217,
};

#define NSIZES (sizeof(sizes) / sizeof(*sizes))

static void sized_files_hold(const char *dir, uint64_t seed)
{
	for (size_t i = 0; i < NSIZES; i++) {
		char *data = malloc(sizes[i] + 1);

		mnt_pattern(seed + sizes[i], 0, data, sizes[i]);
		mnt_same_file(mnt_path("%s/s%zu", dir, sizes[i]), data, sizes[i]);
		free(data);
	}
}

static void write_sized_files(const char *dir, uint64_t seed)
{
	for (size_t i = 0; i < NSIZES; i++) {
		char *data = malloc(sizes[i] + 1);

		mnt_pattern(seed + sizes[i], 0, data, sizes[i]);
		mnt_write_file(mnt_path("%s/s%zu", dir, sizes[i]), data, sizes[i]);
		free(data);
	}
}

/* Closing an empty file ends with RELEASE, which comes after close(2); a sync of the directory settles it. */
static void settle(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	MNT_OK(fsync(fd), dir);
	close(fd);
}

static void test_sizes_around_every_unit(void)
{
	const char *dir = mnt_path("%s/sizes", m.at);
	uint64_t first, second;

	MNT_OK(mkdir(dir, 0755), dir);
	write_sized_files(dir, 1);
	settle(dir);
	first = mnt_current(&m);
	sized_files_hold(dir, 1);
	write_sized_files(dir, 2);
	settle(dir);
	second = mnt_current(&m);
	/* What follows must not shine through: one byte more for each, at its end. */
	for (size_t i = 0; i < NSIZES; i++)
		mnt_append_file(mnt_path("%s/s%zu", dir, sizes[i]), "+", 1);
	sized_files_hold(mnt_path("%s/sizes", at_rev(first)), 1);
	sized_files_hold(mnt_path("%s/sizes", at_rev(second)), 2);
	mnt_down(&m);
	mnt_up(&m, NULL);
	sized_files_hold(mnt_path("%s/sizes", at_rev(first)), 1);
	sized_files_hold(mnt_path("%s/sizes", at_rev(second)), 2);
	for (size_t i = 0; i < NSIZES; i++) {
		char *data = malloc(sizes[i] + 1);

		mnt_pattern(2 + sizes[i], 0, data, sizes[i]);
		data[sizes[i]] = '+';
		mnt_same_file(mnt_path("%s/s%zu", dir, sizes[i]), data, sizes[i] + 1);
		free(data);
	}
}

static void test_growing_and_shrinking_over_every_unit(void)
{
	const char *path = mnt_path("%s/elastic", m.at);
	size_t room = 300000;
	char *want = calloc(1, room), *bytes = malloc(room);
	size_t size = 0;
	uint64_t random = mnt_seed();
	struct {
		uint64_t rev, hash;
		size_t size;
	} kept[60];

	mnt_pattern(3, 0, bytes, room);
	mnt_write_file(path, "", 0);
	for (size_t i = 0; i < 60; i++) {
		size_t to = sizes[mnt_random(&random) % 30], off;

		if (mnt_random(&random) % 2) {
			to = to > room ? room : to;
			to += to == size;
			MNT_OK(truncate(path, (off_t)to), path);
			if (to > size)
				memset(want + size, 0, to - size);
			size = to;
		} else {
			int fd = open(path, O_WRONLY | O_CLOEXEC);

			off = to > room - 5000 ? room - 5000 : to;
			MNT_CHECK(pwrite(fd, bytes + i, 4999, (off_t)off) == 4999, "%s", strerror(errno));
			MNT_OK(close(fd), path);
			if (off > size)
				memset(want + size, 0, off - size);
			memcpy(want + off, bytes + i, 4999);
			size = off + 4999 > size ? off + 4999 : size;
		}
		mnt_same_file(path, want, size);
		kept[i].rev = mnt_current(&m);
		kept[i].hash = tree_hash_bytes(want, size);
		kept[i].size = size;
	}
	for (size_t i = 0; i < 60; i++) {
		const char *old = mnt_path("%s/elastic", at_rev(kept[i].rev));
		int fd = open(old, O_RDONLY | O_CLOEXEC);
		ssize_t n = read(fd, bytes, room);

		close(fd);
		MNT_CHECK(n == (ssize_t)kept[i].size && tree_hash_bytes(bytes, kept[i].size) == kept[i].hash,
			  "%s: %zd bytes, not %zu, or other ones", old, n, kept[i].size);
	}
	free(want);
	free(bytes);
}

static void byte_is(int fd, off_t off, const char *want, const char *path)
{
	char got[2] = "";
	ssize_t n = pread(fd, got, 1, off);

	MNT_CHECK(n == 1 && got[0] == *want, "%s at %lld: %zd bytes, %#x not %#x", path, (long long)off, n,
		  got[0], *want);
}

static void huge_is_right(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char c;

	if (!MNT_OK(fd, path))
		return;
	MNT_OK(fstat(fd, &st), path);
	MNT_CHECK(st.st_size == END_OF_FILES, "%s: size %lld", path, (long long)st.st_size);
	MNT_CHECK(st.st_blocks < 10000, "%s: %lld blocks for three bytes", path, (long long)st.st_blocks);
	byte_is(fd, 0, "a", path);
	byte_is(fd, 1, "", path);
	byte_is(fd, (off_t)1 << 40, "b", path);
	byte_is(fd, ((off_t)1 << 40) + 1, "", path);
	byte_is(fd, END_OF_FILES - 2, "", path);
	byte_is(fd, END_OF_FILES - 1, "z", path);
	MNT_CHECK(pread(fd, &c, 1, END_OF_FILES) <= 0, "%s: a byte past the end", path);
	MNT_CHECK(lseek(fd, 0, SEEK_END) == END_OF_FILES, "%s: SEEK_END", path);
	MNT_CHECK(lseek(fd, 0, SEEK_DATA) == 0, "%s: SEEK_DATA from 0", path);
	/* Holes may be told coarser than they are, but never data as a hole, and not all of it as data. */
	MNT_CHECK(lseek(fd, (off_t)1 << 40, SEEK_DATA) == (off_t)1 << 40, "%s: SEEK_DATA in data", path);
	MNT_CHECK(lseek(fd, (off_t)1 << 30, SEEK_HOLE) == (off_t)1 << 30, "%s: SEEK_HOLE in a hole", path);
	MNT_CHECK(lseek(fd, (off_t)1 << 50, SEEK_DATA) > (off_t)1 << 60, "%s: SEEK_DATA to the last", path);
	MNT_CHECK(lseek(fd, END_OF_FILES - 1, SEEK_DATA) == END_OF_FILES - 1, "%s: SEEK_DATA at the last",
		  path);
	close(fd);
}

static void test_a_file_may_end_at_8_EiB_minus_1(void)
{
	const char *path = mnt_path("%s/huge", m.at);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	uint64_t rev;

	MNT_OK(fd, path);
	MNT_CHECK(pwrite(fd, "z", 1, END_OF_FILES - 1) == 1, "%s", strerror(errno));
	MNT_CHECK(pwrite(fd, "b", 1, (off_t)1 << 40) == 1, "%s", strerror(errno));
	MNT_CHECK(pwrite(fd, "a", 1, 0) == 1, "%s", strerror(errno));
	MNT_CHECK(pwrite(fd, "x", 1, END_OF_FILES) < 0, "%s: written past the end of all files", path);
	MNT_OK(close(fd), path);
	huge_is_right(path);
	rev = mnt_current(&m);
	MNT_OK(truncate(path, 1), path);
	mnt_same_text(path, "a");
	MNT_OK(truncate(path, END_OF_FILES), path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	byte_is(fd, END_OF_FILES - 1, "", path);
	byte_is(fd, (off_t)1 << 40, "", path);
	byte_is(fd, 0, "a", path);
	MNT_CHECK(lseek(fd, (off_t)1 << 20, SEEK_DATA) < 0 && errno == ENXIO, "%s: data behind the hole",
		  path);
	close(fd);
	huge_is_right(mnt_path("%s/huge", at_rev(rev)));
	mnt_down(&m);
	mnt_up(&m, NULL);
	huge_is_right(mnt_path("%s/huge", at_rev(rev)));
	MNT_OK(unlink(path), path);
}

/* Walks a file by SEEK_DATA and SEEK_HOLE: what is called a hole must read as zeros. */
static void holes_are_zeros(const char *path, const char *want, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t at = 0;
	size_t data_bytes = 0;

	MNT_OK(fd, path);
	while (at < (off_t)size) {
		off_t data = lseek(fd, at, SEEK_DATA), hole;

		if (data < 0)
			data = errno == ENXIO ? (off_t)size : at;
		for (off_t i = at; i < data; i++)
			if (want[i]) {
				MNT_CHECK(false, "%s: data at %lld is called a hole", path, (long long)i);
				break;
			}
		if (data >= (off_t)size)
			break;
		hole = lseek(fd, data, SEEK_HOLE);
		if (!MNT_CHECK(hole > data, "%s: SEEK_HOLE from %lld is %lld", path, (long long)data,
			       (long long)hole))
			break;
		data_bytes += (size_t)(hole - data);
		at = hole;
	}
	MNT_CHECK(data_bytes < size / 2, "%s: %zu of %zu bytes are called data", path, data_bytes, size);
	close(fd);
}

static void test_holes(void)
{
	const char *path = mnt_path("%s/holes", m.at);
	size_t size = (size_t)8 << 20;
	char *want = calloc(1, size);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	uint64_t rev, random = mnt_seed();
	struct stat st;

	MNT_OK(ftruncate(fd, (off_t)size), path);
	for (int i = 0; i < 20; i++) {
		size_t off = mnt_random(&random) % (size - 10000), len = 1 + mnt_random(&random) % 9999;

		mnt_pattern(random, off, want + off, len);
		MNT_CHECK(pwrite(fd, want + off, len, (off_t)off) == (ssize_t)len, "%s", strerror(errno));
	}
	MNT_OK(close(fd), path);
	rev = mnt_current(&m);
	mnt_same_file(path, want, size);
	holes_are_zeros(path, want, size);
	MNT_OK(stat(path, &st), path);
	MNT_CHECK(st.st_blocks * 512 < (blkcnt_t)size / 2, "%lld blocks of a file that is mostly hole",
		  (long long)st.st_blocks);
	/* Punching gives the room back, and history keeps what was there. */
	fd = open(path, O_RDWR | O_CLOEXEC);
	MNT_OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1000, (off_t)size - 2000), path);
	MNT_OK(close(fd), path);
	mnt_same_file(mnt_path("%s/holes", at_rev(rev)), want, size);
	holes_are_zeros(mnt_path("%s/holes", at_rev(rev)), want, size);
	memset(want + 1000, 0, size - 2000);
	mnt_same_file(path, want, size);
	holes_are_zeros(path, want, size);
	free(want);
}

/* ---- other values ---------------------------------------------------------------------------------- */

static void test_symlinks_up_to_4095_bytes(void)
{
	char target[PATH_MAX], got[PATH_MAX + 1];
	const char *path = mnt_path("%s/symlink", m.at);
	size_t lens[] = { 1, 255, 1023, 1024, 1025, 4000, PATH_MAX - 1 };
	uint64_t rev = 0;
	struct stat st;

	for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
		memset(target, 't', lens[i]);
		target[lens[i]] = 0;
		MNT_OK(symlink(target, path), path);
		rev = mnt_current(&m);
		MNT_OK(lstat(path, &st), path);
		MNT_CHECK((size_t)st.st_size == lens[i], "st_size %lld of a target of %zu",
			  (long long)st.st_size, lens[i]);
		MNT_CHECK(readlink(path, got, sizeof(got)) == (ssize_t)lens[i] &&
				  !memcmp(got, target, lens[i]),
			  "target of %zu bytes", lens[i]);
		MNT_OK(unlink(path), path);
		path = mnt_path("%s/symlink", at_rev(rev));
		MNT_CHECK(readlink(path, got, sizeof(got)) == (ssize_t)lens[i] &&
				  !memcmp(got, target, lens[i]),
			  "target of %zu bytes, then", lens[i]);
		path = mnt_path("%s/symlink", m.at);
	}
}

static void test_xattrs_up_to_64_KiB(void)
{
	static char value[XATTR_SIZE_MAX + 1], got[XATTR_SIZE_MAX + 1];
	static const size_t lens[] = { 0, 1, 255, 1024, 4096, 4097, 65535, XATTR_SIZE_MAX };
	const char *path = mnt_path("%s/xattrs", m.at), *then;
	char name[XATTR_NAME_MAX + 2] = "user.";
	uint64_t rev;
	ssize_t n;

	mnt_write_text(path, "x");
	mnt_pattern(9, 0, value, sizeof(value));
	memset(name + 5, 'n', XATTR_NAME_MAX - 5);
	for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
		MNT_OK(setxattr(path, name, value + i, lens[i], i ? XATTR_REPLACE : XATTR_CREATE), path);
		rev = mnt_current(&m);
		n = getxattr(path, name, got, sizeof(got));
		MNT_CHECK(n == (ssize_t)lens[i] && !memcmp(got, value + i, lens[i]), "%zd bytes of %zu", n,
			  lens[i]);
		MNT_CHECK(getxattr(path, name, NULL, 0) == (ssize_t)lens[i], "size of %zu bytes", lens[i]);
		if (lens[i] > 1)
			MNT_FAILS(getxattr(path, name, got, lens[i] - 1), ERANGE, path);
		then = mnt_path("%s/xattrs", at_rev(rev));
		n = getxattr(then, name, got, sizeof(got));
		MNT_CHECK(n == (ssize_t)lens[i] && !memcmp(got, value + i, lens[i]), "%zd bytes of %zu then",
			  n, lens[i]);
	}
	MNT_CHECK(listxattr(path, got, sizeof(got)) == XATTR_NAME_MAX + 1 && !strcmp(got, name),
		  "listxattr shows other than the one name");
	MNT_FAILS(setxattr(path, "user.big", value, XATTR_SIZE_MAX + 1, 0), E2BIG, path);
	MNT_FAILS(setxattr(path, name, "", 0, XATTR_CREATE), EEXIST, path);
	MNT_FAILS(setxattr(path, "user.absent", "", 0, XATTR_REPLACE), ENODATA, path);
	MNT_FAILS(removexattr(path, "user.absent"), ENODATA, path);
	MNT_OK(removexattr(path, name), path);
	MNT_CHECK(listxattr(path, got, sizeof(got)) == 0, "listxattr of a file without any");
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_names_are_bytes),
	UNIT_TEST(test_a_name_of_256_bytes_is_too_long),
	UNIT_TEST(test_reserved_names_are_refused_and_hidden),
	UNIT_TEST(test_a_path_of_4000_bytes),
	UNIT_TEST(test_64_levels_of_255_bytes),
	UNIT_TEST(test_100000_entries_in_one_directory),
	UNIT_TEST(test_a_file_of_1000_links),
	UNIT_TEST(test_sizes_around_every_unit),
	UNIT_TEST(test_growing_and_shrinking_over_every_unit),
	UNIT_TEST(test_a_file_may_end_at_8_EiB_minus_1),
	UNIT_TEST(test_holes),
	UNIT_TEST(test_symlinks_up_to_4095_bytes),
	UNIT_TEST(test_xattrs_up_to_64_KiB),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { { "limits", open_mount, close_mount, NULL, NULL, tests },
				  CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
