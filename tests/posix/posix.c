#include "tests/posix/posix.h"

#include <grp.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>

char posix_base[PATH_MAX];
static unsigned features;

/* ---- assertions ----------------------------------------------------------------------------------- */

static bool tell(bool held, const char *file, unsigned line, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

static bool tell(bool held, const char *file, unsigned line, const char *fmt, ...)
{
	char text[600] = "";
	va_list ap;

	if (!held) {
		va_start(ap, fmt);
		vsnprintf(text, sizeof(text), fmt, ap);
		va_end(ap);
	}
	CU_assertImplementation(held, line, text, file, "", CU_FALSE);
	return held;
}

static const char *errname(int err)
{
	const char *name = err ? strerrorname_np(err) : "success";

	return name ? name : "an unknown error";
}

bool posix_works(bool worked, int got, const char *call, const char *file, unsigned line)
{
	return tell(worked, file, line, "%s: %s", call, errname(got));
}

bool posix_fails(bool failed, int got, int wanted, const char *call, const char *file, unsigned line)
{
	return tell(failed && got == wanted, file, line, "%s: %s, not %s", call, errname(failed ? got : 0),
		    errname(wanted));
}

bool posix_same(int64_t wanted, int64_t got, const char *text, const char *file, unsigned line)
{
	return tell(wanted == got, file, line, "%s: wanted %lld (0%llo), got %lld (0%llo)", text,
		    (long long)wanted, (unsigned long long)wanted, (long long)got, (unsigned long long)got);
}

bool posix_holds(bool held, const char *text, const char *file, unsigned line)
{
	return tell(held, file, line, "%s", text);
}

bool posix_outcome(int result, int got, int wanted, const char *what, const char *path, const char *file,
		   unsigned line)
{
	bool failed = result == -1;

	return tell(failed ? got == wanted : wanted == 0, file, line, "%s(%.60s): %s, not %s", what, path,
		    errname(failed ? got : 0), errname(wanted));
}

/* ---- features ------------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	unsigned bit;
} feature_names[] = {
	{ "root", F_ROOT },         { "acl", F_ACL },         { "user", F_USER },
	{ "trusted", F_TRUSTED },   { "tmpfile", F_TMPFILE }, { "exchange", F_EXCHANGE },
	{ "whiteout", F_WHITEOUT }, { "punch", F_PUNCH },     { "zero", F_ZERO },
	{ "devices", F_DEVICES },   { "holes", F_HOLES },     { "direct", F_DIRECT },
	{ "handles", F_HANDLES },
};

enum { NFEATURES = sizeof(feature_names) / sizeof(feature_names[0]) };

bool have(unsigned wanted)
{
	return (features & wanted) == wanted;
}

bool need(unsigned wanted)
{
	if (have(wanted))
		return true;
	printf(" (left out:");
	for (unsigned i = 0; i < NFEATURES; i++)
		if (wanted & ~features & feature_names[i].bit)
			printf(" no %s", feature_names[i].name);
	printf(") ");
	return false;
}

static bool knows_holes(int fd)
{
	struct stat st;

	return ftruncate(fd, 1 << 20) == 0 && pwrite(fd, "x", 1, (1 << 20) - 1) == 1 &&
	       lseek(fd, 0, SEEK_DATA) > 0 && lseek(fd, 0, SEEK_HOLE) == 0 && fstat(fd, &st) == 0 &&
	       st.st_blocks < 2048;
}

static bool knows_handles(void)
{
	struct {
		struct file_handle h;
		unsigned char bytes[MAX_HANDLE_SZ];
	} handle = { .h.handle_bytes = MAX_HANDLE_SZ };
	int mount_id, dir, fd;

	if (name_to_handle_at(AT_FDCWD, "probe", &handle.h, &mount_id, 0))
		return false;
	dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = open_by_handle_at(dir, &handle.h, O_RDONLY);
	close(dir);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* In a directory of its own. */
static void find_features(void)
{
	/* Version 2, then user::rwx, group::r-x, other::r-x. */
	static const unsigned char acl[] = { 2,    0,    0, 0, 1,    0,    7,    0,    0xff, 0xff,
					     0xff, 0xff, 4, 0, 5,    0,    0xff, 0xff, 0xff, 0xff,
					     0x20, 0,    5, 0, 0xff, 0xff, 0xff, 0xff };
	int fd = open("probe", O_RDWR | O_CREAT | O_CLOEXEC, 0644), other;
	bool root = geteuid() == 0 && setresuid(ANN, ANN, 0) == 0 && setresuid(0, 0, 0) == 0;

	if (root)
		features |= F_ROOT;
	if (setxattr("probe", "system.posix_acl_access", acl, sizeof(acl), 0) == 0)
		features |= F_ACL;
	if (setxattr("probe", "user.probe", "x", 1, 0) == 0)
		features |= F_USER;
	if (root && setxattr("probe", "trusted.probe", "x", 1, 0) == 0 &&
	    setxattr("probe", "security.probe", "x", 1, 0) == 0)
		features |= F_TRUSTED;
	other = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (other >= 0) {
		features |= F_TMPFILE;
		close(other);
	}
	if (knows_holes(fd))
		features |= F_HOLES;
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0)
		features |= F_PUNCH;
	if (fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, 4096) == 0)
		features |= F_ZERO;
	other = open("probe", O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (other >= 0) {
		features |= F_DIRECT;
		close(other);
	}
	if (root && knows_handles())
		features |= F_HANDLES;
	if (root && mknod("device", S_IFCHR | 0600, makedev(1, 3)) == 0)
		features |= F_DEVICES;
	if (mkdir("other", 0755) == 0 &&
	    renameat2(AT_FDCWD, "probe", AT_FDCWD, "other", RENAME_EXCHANGE) == 0)
		features |= F_EXCHANGE;
	if (root && renameat2(AT_FDCWD, "other", AT_FDCWD, "moved", RENAME_WHITEOUT) == 0)
		features |= F_WHITEOUT;
	close(fd);
}

static bool required(const char *words)
{
	bool all = true;
	char name[32];
	size_t len;

	for (; *words; words += len + (words[len] == ',')) {
		unsigned bit = 0;

		len = strcspn(words, ",");
		snprintf(name, sizeof(name), "%.*s", (int)len, words);
		for (unsigned i = 0; i < NFEATURES; i++)
			if (strcmp(feature_names[i].name, name) == 0)
				bit = feature_names[i].bit;
		if (bit && have(bit))
			continue;
		fprintf(stderr, "%s: %s\n", name, bit ? "not here, but required" : "no such feature");
		all = false;
	}
	return all;
}

/* ---- who -------------------------------------------------------------------------------------------- */

static void must(int res, const char *what)
{
	if (res == 0)
		return;
	perror(what);
	exit(2);
}

void become_root(void)
{
	if (!have(F_ROOT))
		return;
	must(setresuid(0, 0, 0), "setresuid");
	must(setresgid(0, 0, 0), "setresgid");
	must(setgroups(0, NULL), "setgroups");
}

static void become_one(uid_t uid, gid_t gid, size_t ngroups, const gid_t *groups)
{
	become_root();
	must(setgroups(ngroups, groups), "setgroups");
	must(setresgid(gid, gid, 0), "setresgid");
	must(setresuid(uid, uid, 0), "setresuid");
}

void become_member(uid_t uid, gid_t gid, gid_t also)
{
	become_one(uid, gid, 1, &also);
}

void become(uid_t uid, gid_t gid)
{
	become_one(uid, gid, 0, NULL);
}

/* ---- files ------------------------------------------------------------------------------------------ */

void make_file(const char *path, mode_t mode, const char *content)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	HOLDS(fd >= 0);
	SAME((int64_t)strlen(content), write(fd, content, strlen(content)));
	WORKS(fchmod(fd, mode));
	WORKS(close(fd));
}

void make_dir(const char *path, mode_t mode)
{
	WORKS(mkdir(path, 0700));
	WORKS(chmod(path, mode));
}

void make_owned_file(const char *path, mode_t mode, uid_t uid, gid_t gid)
{
	make_file(path, 0600, "content");
	WORKS(chown(path, uid, gid));
	WORKS(chmod(path, mode));
}

void make_owned_dir(const char *path, mode_t mode, uid_t uid, gid_t gid)
{
	WORKS(mkdir(path, 0700));
	WORKS(chown(path, uid, gid));
	WORKS(chmod(path, mode));
}

struct stat stat_of(const char *path)
{
	struct stat st = { 0 };

	WORKS(stat(path, &st));
	return st;
}

struct stat lstat_of(const char *path)
{
	struct stat st = { 0 };

	WORKS(lstat(path, &st));
	return st;
}

mode_t mode_of(const char *path)
{
	struct stat st = { 0 };

	return lstat(path, &st) ? (mode_t)-1 : st.st_mode & 07777;
}

bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

void assert_content(const char *path, const char *content)
{
	size_t len = strlen(content);
	char got[4096];
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	HOLDS(fd >= 0);
	SAME((int64_t)len, read(fd, got, sizeof(got)));
	HOLDS(memcmp(got, content, len) == 0);
	close(fd);
}

unsigned count_entries(const char *path)
{
	DIR *dir = opendir(path);
	unsigned n = 0;

	HOLDS(dir != NULL);
	if (!dir)
		return 0;
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

const char *long_name(size_t len)
{
	static char names[4][PATH_MAX + 64];
	static unsigned next;
	char *name = names[next++ % 4];

	memset(name, 'n', len);
	name[len] = '\0';
	return name;
}

int64_t ns_of(struct timespec ts)
{
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void tick(void)
{
	struct stat before = { 0 }, after = { 0 };
	const struct timespec pause = { 0, 1000000 };

	/* Times are of a coarse clock of the kernel's, or of the daemon's: a probe tells. */
	must(mknod(".tick", S_IFREG | 0600, 0), ".tick");
	must(stat(".tick", &before), ".tick");
	do {
		nanosleep(&pause, NULL);
		must(chmod(".tick", 0600), ".tick");
		must(stat(".tick", &after), ".tick");
	} while (ns_of(after.st_ctim) <= ns_of(before.st_ctim));
	must(unlink(".tick"), ".tick");
}

/* ---- running ---------------------------------------------------------------------------------------- */

static unsigned test_number;

static void set_up(void)
{
	char name[32];

	snprintf(name, sizeof(name), "t%u", ++test_number);
	must(chdir(posix_base), posix_base);
	must(mkdir(name, 0755), name);
	must(chdir(name), name);
	umask(022);
}

static void tear_down(void)
{
	char name[PATH_MAX + 32];

	become_root();
	umask(022);
	snprintf(name, sizeof(name), "%s/t%u", posix_base, test_number);
	must(chdir(posix_base), posix_base);
	unit_rmtree(name);
}

static void clean_base(void)
{
	must(chdir("/"), "/");
	unit_rmtree(posix_base);
}

static int usage(void)
{
	fprintf(stderr, "usage: posix_suite [--require FEATURE,...] DIR [TEST...]\n");
	return 2;
}

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = {
		UNIT_SUITE("paths", set_up, tear_down, path_tests),
		UNIT_SUITE("open", set_up, tear_down, open_tests),
		UNIT_SUITE("directories", set_up, tear_down, dir_tests),
		UNIT_SUITE("link, symlink, unlink", set_up, tear_down, link_tests),
		UNIT_SUITE("rename", set_up, tear_down, rename_tests),
		UNIT_SUITE("chmod and chown", set_up, tear_down, mode_tests),
		UNIT_SUITE("times", set_up, tear_down, time_tests),
		UNIT_SUITE("truncate and fallocate", set_up, tear_down, size_tests),
		UNIT_SUITE("read and write", set_up, tear_down, io_tests),
		UNIT_SUITE("holes", set_up, tear_down, sparse_tests),
		UNIT_SUITE("copy_file_range", set_up, tear_down, copy_tests),
		UNIT_SUITE("extended attributes", set_up, tear_down, xattr_tests),
		UNIT_SUITE("access control lists", set_up, tear_down, acl_tests),
		UNIT_SUITE("locks", set_up, tear_down, lock_tests),
		UNIT_SUITE("mmap", set_up, tear_down, map_tests),
		UNIT_SUITE("listings", set_up, tear_down, listing_tests),
		UNIT_SUITE("special files", set_up, tear_down, special_tests),
		UNIT_SUITE("permissions", set_up, tear_down, permission_tests),
		UNIT_SUITE("stat and statvfs", set_up, tear_down, stat_tests),
		CU_SUITE_INFO_NULL,
	};
	const char *require = "";
	char base[PATH_MAX];
	int status;

	if (argc > 2 && strcmp(argv[1], "--require") == 0) {
		require = argv[2];
		argc -= 2;
		argv += 2;
	}
	if (argc < 2 || argv[1][0] == '-')
		return usage();
	must(realpath(argv[1], base) ? 0 : -1, argv[1]);
	if (snprintf(posix_base, sizeof(posix_base), "%s/posix-XXXXXX", base) >= (int)sizeof(posix_base))
		return usage();
	umask(022);
	must(mkdtemp(posix_base) ? 0 : -1, posix_base);
	must(chmod(posix_base, 0755), posix_base);
	must(chdir(posix_base), posix_base);
	must(mkdir("features", 0755), "features");
	must(chdir("features"), "features");
	find_features();
	if (!required(require)) {
		clean_base();
		return 1;
	}
	status = unit_main(argc - 1, argv + 1, suites);
	clean_base();
	return status;
}
