/* What every system call that takes a path says of one that leads nowhere. */
#include "tests/posix/posix.h"

#include <linux/fs.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <utime.h>

static int close_it(int fd)
{
	return fd < 0 ? -1 : close(fd);
}

static int do_stat(const char *p)
{
	struct stat st;

	return stat(p, &st);
}

static int do_lstat(const char *p)
{
	struct stat st;

	return lstat(p, &st);
}

static int do_statx(const char *p)
{
	struct statx st;

	return statx(AT_FDCWD, p, 0, STATX_BASIC_STATS, &st);
}

static int do_access(const char *p)
{
	return access(p, F_OK);
}

static int do_read_access(const char *p)
{
	return faccessat(AT_FDCWD, p, R_OK, AT_EACCESS);
}

static int do_open(const char *p)
{
	return close_it(open(p, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
}

static int do_open_nofollow(const char *p)
{
	return close_it(open(p, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC));
}

static int do_open_path(const char *p)
{
	return close_it(open(p, O_PATH | O_CLOEXEC));
}

static int do_open_write(const char *p)
{
	return close_it(open(p, O_WRONLY | O_CLOEXEC));
}

static int do_open_create(const char *p)
{
	return close_it(open(p, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
}

static int do_open_exclusive(const char *p)
{
	return close_it(open(p, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
}

static int do_open_directory(const char *p)
{
	return close_it(open(p, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static int do_creat(const char *p)
{
	return close_it(creat(p, 0644));
}

static int do_truncate(const char *p)
{
	return truncate(p, 3);
}

static int do_chmod(const char *p)
{
	return chmod(p, 0755);
}

static int do_chown(const char *p)
{
	return chown(p, (uid_t)-1, (gid_t)-1);
}

static int do_lchown(const char *p)
{
	return lchown(p, (uid_t)-1, (gid_t)-1);
}

static int do_utime(const char *p)
{
	return utime(p, NULL);
}

static int do_utimensat(const char *p)
{
	return utimensat(AT_FDCWD, p, NULL, AT_SYMLINK_NOFOLLOW);
}

static int do_chdir(const char *p)
{
	return chdir(p);
}

static int do_statfs(const char *p)
{
	struct statfs st;

	return statfs(p, &st);
}

static int do_readlink(const char *p)
{
	char target[64];

	return (int)readlink(p, target, sizeof(target));
}

static int do_mkdir(const char *p)
{
	return mkdir(p, 0755);
}

static int do_mknod(const char *p)
{
	return mknod(p, S_IFREG | 0644, 0);
}

static int do_mkfifo(const char *p)
{
	return mkfifo(p, 0644);
}

static int do_symlink(const char *p)
{
	return symlink("target", p);
}

static int do_link_from(const char *p)
{
	return link(p, "linked");
}

static int do_link_to(const char *p)
{
	return link("file", p);
}

static int do_rename_from(const char *p)
{
	return rename(p, "renamed");
}

static int do_rename_to(const char *p)
{
	return rename("spare", p);
}

static int do_unlink(const char *p)
{
	return unlink(p);
}

static int do_rmdir(const char *p)
{
	return rmdir(p);
}

static int do_getxattr(const char *p)
{
	char value[16];

	return (int)getxattr(p, "user.x", value, sizeof(value));
}

static int do_lgetxattr(const char *p)
{
	char value[16];

	return (int)lgetxattr(p, "user.x", value, sizeof(value));
}

static int do_listxattr(const char *p)
{
	char names[64];

	return (int)listxattr(p, names, sizeof(names));
}

static int do_setxattr(const char *p)
{
	return setxattr(p, "user.x", "y", 1, 0);
}

static int do_removexattr(const char *p)
{
	return removexattr(p, "user.x");
}

static int do_open_tmpfile(const char *p)
{
	return close_it(open(p, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
}

static int do_handle(const char *p)
{
	struct {
		struct file_handle h;
		unsigned char bytes[MAX_HANDLE_SZ];
	} handle = { .h.handle_bytes = MAX_HANDLE_SZ };
	int mount_id;

	return name_to_handle_at(AT_FDCWD, p, &handle.h, &mount_id, AT_SYMLINK_FOLLOW);
}

/* What a call does with the last name of its path. */
enum {
	MAKES = 1,   /* it must not be there, or is made */
	TAKES = 2,   /* it goes away */
	FOLLOWS = 4, /* a symbolic link is followed */
	READS = 8,
	WRITES = 16
};

static const struct call {
	const char *name;
	int (*run)(const char *path);
	unsigned does;
} calls[] = {
	{ "stat", do_stat, FOLLOWS },
	{ "lstat", do_lstat, 0 },
	{ "statx", do_statx, FOLLOWS },
	{ "access", do_access, FOLLOWS },
	{ "faccessat R_OK", do_read_access, FOLLOWS | READS },
	{ "open", do_open, FOLLOWS | READS },
	{ "open O_NOFOLLOW", do_open_nofollow, READS },
	{ "open O_PATH", do_open_path, FOLLOWS },
	{ "open O_WRONLY", do_open_write, FOLLOWS | WRITES },
	{ "open O_CREAT", do_open_create, FOLLOWS | MAKES },
	{ "open O_CREAT|O_EXCL", do_open_exclusive, MAKES },
	{ "open O_DIRECTORY", do_open_directory, FOLLOWS | READS },
	{ "open O_TMPFILE", do_open_tmpfile, FOLLOWS },
	{ "creat", do_creat, FOLLOWS | MAKES },
	{ "truncate", do_truncate, FOLLOWS | WRITES },
	{ "chmod", do_chmod, FOLLOWS },
	{ "chown", do_chown, FOLLOWS },
	{ "lchown", do_lchown, 0 },
	{ "utime", do_utime, FOLLOWS },
	{ "utimensat AT_SYMLINK_NOFOLLOW", do_utimensat, 0 },
	{ "chdir", do_chdir, FOLLOWS },
	{ "statfs", do_statfs, FOLLOWS },
	{ "readlink", do_readlink, 0 },
	{ "mkdir", do_mkdir, MAKES },
	{ "mknod", do_mknod, MAKES },
	{ "mkfifo", do_mkfifo, MAKES },
	{ "symlink", do_symlink, MAKES },
	{ "link from", do_link_from, 0 },
	{ "link to", do_link_to, MAKES },
	{ "rename from", do_rename_from, TAKES },
	{ "rename to", do_rename_to, MAKES },
	{ "unlink", do_unlink, TAKES },
	{ "rmdir", do_rmdir, TAKES },
	{ "getxattr", do_getxattr, FOLLOWS | READS },
	{ "lgetxattr", do_lgetxattr, READS },
	{ "listxattr", do_listxattr, FOLLOWS },
	{ "setxattr", do_setxattr, FOLLOWS | WRITES },
	{ "removexattr", do_removexattr, FOLLOWS | WRITES },
	{ "name_to_handle_at", do_handle, FOLLOWS },
};

enum { NCALLS = sizeof(calls) / sizeof(calls[0]) };

/* What the calls with two paths need beside the one that is tried. */
static void others(void)
{
	if (!exists("file"))
		make_file("file", 0644, "x");
	if (!exists("spare"))
		make_file("spare", 0644, "y");
}

/* Every call but those that do one of `but` fails on `path` so. */
static void all_fail(int err, const char *path, unsigned but)
{
	others();
	for (unsigned i = 0; i < NCALLS; i++)
		if (!(calls[i].does & but))
			OUTCOME(err, calls[i].name, path, calls[i].run(path));
}

/* Only those that do all of `only`. */
static void these_fail(int err, const char *path, unsigned only)
{
	others();
	for (unsigned i = 0; i < NCALLS; i++)
		if ((calls[i].does & only) == only)
			OUTCOME(err, calls[i].name, path, calls[i].run(path));
}

static void test_a_component_that_does_not_exist(void)
{
	all_fail(ENOENT, "none/x", 0);
}

static void test_an_empty_path(void)
{
	all_fail(ENOENT, "", 0);
}

static void test_a_name_that_does_not_exist(void)
{
	all_fail(ENOENT, "none", MAKES);
}

static void test_a_component_that_is_no_directory(void)
{
	others();
	WORKS(mkfifo("fifo", 0644));
	all_fail(ENOTDIR, "file/x", 0);
	all_fail(ENOTDIR, "fifo/x", 0);
}

static void test_a_file_with_a_slash_after_it(void)
{
	all_fail(ENOTDIR, "file/", MAKES | TAKES);
	these_fail(ENOTDIR, "file/", TAKES);
}

static void test_a_name_that_is_too_long(void)
{
	all_fail(ENAMETOOLONG, long_name(NAME_MAX + 1), 0);
	all_fail(ENAMETOOLONG, long_name(4000), 0);
}

static void test_a_component_that_is_too_long(void)
{
	char path[600];

	snprintf(path, sizeof(path), "%s/x", long_name(NAME_MAX + 1));
	all_fail(ENAMETOOLONG, path, 0);
}

static void test_the_longest_name_that_may_be(void)
{
	const char *name = long_name(NAME_MAX);

	all_fail(ENOENT, name, MAKES);
	others();
	for (unsigned i = 0; i < NCALLS; i++) {
		if (!(calls[i].does & MAKES))
			continue;
		others();
		OUTCOME(0, calls[i].name, "the longest name", calls[i].run(name));
		HOLDS(exists(name));
		if (rmdir(name))
			WORKS(unlink(name));
	}
}

/* "./././" and so on, PATH_MAX bytes. */
static void fill_with_dots(char *path)
{
	for (size_t i = 0; i < PATH_MAX; i++)
		path[i] = i % 2 ? '/' : '.';
	path[PATH_MAX] = '\0';
}

static void test_a_path_that_is_too_long(void)
{
	static char path[PATH_MAX + 8];

	fill_with_dots(path);
	all_fail(ENAMETOOLONG, path, 0);
}

static void test_the_longest_path_that_may_be(void)
{
	static char path[PATH_MAX + 8];

	fill_with_dots(path);
	snprintf(path + PATH_MAX - 6, 6, "/none");
	all_fail(ENOENT, path, MAKES);
}

static void test_a_loop_of_links_on_the_way(void)
{
	WORKS(symlink("loop2", "loop1"));
	WORKS(symlink("loop1", "loop2"));
	WORKS(symlink("self", "self"));
	all_fail(ELOOP, "loop1/x", 0);
	all_fail(ELOOP, "self/x", 0);
}

static void test_a_loop_of_links_at_the_end(void)
{
	WORKS(symlink("self", "self"));
	these_fail(ELOOP, "self", FOLLOWS);
	FAILS(ELOOP, do_open_nofollow("self"));
	WORKS(do_lstat("self"));
	WORKS(do_readlink("self"));
	WORKS(do_lchown("self"));
	WORKS(do_utimensat("self"));
	FAILS(EEXIST, do_mkdir("self"));
	FAILS(EEXIST, do_open_exclusive("self"));
	FAILS(ENOTDIR, do_rmdir("self"));
	WORKS(do_rename_from("self"));
	WORKS(do_unlink("renamed"));
}

static void test_a_link_to_nothing_on_the_way(void)
{
	WORKS(symlink("none", "dangling"));
	all_fail(ENOENT, "dangling/x", 0);
}

static void test_a_link_to_nothing_at_the_end(void)
{
	WORKS(symlink("none", "dangling"));
	for (unsigned i = 0; i < NCALLS; i++)
		if (calls[i].does & FOLLOWS && !(calls[i].does & MAKES))
			OUTCOME(ENOENT, calls[i].name, "a dangling link", calls[i].run("dangling"));
	others();
	FAILS(EEXIST, do_mkdir("dangling"));
	FAILS(EEXIST, do_mknod("dangling"));
	FAILS(EEXIST, do_mkfifo("dangling"));
	FAILS(EEXIST, do_symlink("dangling"));
	FAILS(EEXIST, do_link_to("dangling"));
	FAILS(EEXIST, do_open_exclusive("dangling"));
	HOLDS(!exists("none"));
	WORKS(do_open_create("dangling"));
	HOLDS(exists("none"));
}

static void test_a_link_is_followed_on_the_way(void)
{
	make_dir("d", 0755);
	make_file("d/f", 0644, "in d");
	WORKS(symlink("d", "to_d"));
	WORKS(symlink("to_d", "to_to_d"));
	assert_content("to_d/f", "in d");
	assert_content("to_to_d/f", "in d");
	assert_content("to_d/../d/./f", "in d");
	make_file("to_to_d/g", 0644, "made");
	assert_content("d/g", "made");
	WORKS(unlink("to_d/g"));
	HOLDS(!exists("d/g"));
}

static void test_forty_links_are_followed_and_no_more(void)
{
	char name[16], target[16];

	make_file("l0", 0644, "the end");
	for (int i = 1; i <= 41; i++) {
		snprintf(name, sizeof(name), "l%d", i);
		snprintf(target, sizeof(target), "l%d", i - 1);
		WORKS(symlink(target, name));
	}
	assert_content("l40", "the end");
	FAILS(ELOOP, do_open("l41"));
}

static void test_slashes_and_dots_do_not_count(void)
{
	make_dir("d", 0755);
	make_file("d/f", 0644, "x");
	assert_content("d//f", "x");
	assert_content("d///././/f", "x");
	assert_content("./d/../d/f", "x");
	WORKS(do_stat("d/"));
	WORKS(do_stat("d/."));
	WORKS(do_stat("d/.."));
	SAME(stat_of("d/..").st_ino, stat_of(".").st_ino);
	SAME(stat_of("d/.").st_ino, stat_of("d").st_ino);
	FAILS(ENOTDIR, do_stat("d/f/."));
	FAILS(ENOTDIR, do_stat("d/f/.."));
	FAILS(ENOTDIR, do_stat("d/f/"));
}

static void test_a_name_that_exists_is_not_made_again(void)
{
	static const char *const names[] = { "file", "dir", "link", "dangling", "fifo", "dir/", "." };

	others();
	make_dir("dir", 0755);
	WORKS(symlink("dir", "link"));
	WORKS(symlink("none", "dangling"));
	WORKS(mkfifo("fifo", 0644));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		FAILS(EEXIST, do_mkdir(names[i]));
		FAILS(EEXIST, do_mknod(names[i]));
		FAILS(EEXIST, do_mkfifo(names[i]));
		FAILS(EEXIST, do_symlink(names[i]));
		FAILS(EEXIST, do_link_to(names[i]));
	}
	FAILS(EEXIST, do_open_exclusive("file"));
	FAILS(EEXIST, do_open_exclusive("dir"));
	FAILS(EEXIST, do_open_exclusive("link"));
	assert_content("file", "x");
}

static void test_a_new_name_with_a_slash_after_it(void)
{
	others();
	WORKS(do_mkdir("new/"));
	WORKS(rmdir("new"));
	FAILS(ENOENT, do_mknod("new/"));
	FAILS(ENOENT, do_mkfifo("new/"));
	FAILS(ENOENT, do_symlink("new/"));
	FAILS(ENOENT, do_link_to("new/"));
	FAILS(EISDIR, do_open_create("new/"));
	FAILS(EISDIR, do_creat("new/"));
	FAILS(ENOTDIR, do_rename_to("new/"));
	HOLDS(!exists("new"));
}

static void test_any_byte_but_two_may_be_in_a_name(void)
{
	char name[3] = "x";

	for (int c = 1; c < 256; c++) {
		if (c == '/')
			continue;
		name[1] = (char)c;
		OUTCOME(0, "mknod", name, do_mknod(name));
	}
	SAME(254, count_entries("."));
	for (int c = 1; c < 256; c++) {
		if (c == '/')
			continue;
		name[1] = (char)c;
		OUTCOME(0, "unlink", name, unlink(name));
	}
	SAME(0, count_entries("."));
}

static void test_names_differ_by_case_and_by_form(void)
{
	make_file("a", 0644, "small");
	make_file("A", 0644, "large");
	make_file("\xc3\xa4", 0644, "composed");
	make_file("a\xcc\x88", 0644, "decomposed");
	make_file("a ", 0644, "a blank");
	make_file("...", 0644, "three dots");
	SAME(6, count_entries("."));
	assert_content("a", "small");
	assert_content("A", "large");
	assert_content("\xc3\xa4", "composed");
	assert_content("a\xcc\x88", "decomposed");
	assert_content("a ", "a blank");
	assert_content("...", "three dots");
}

static void test_an_address_that_is_none(void)
{
#ifndef __SANITIZE_ADDRESS__
	volatile uintptr_t nowhere = 1;
	const char *bad = (const char *)nowhere;

	others();
	for (unsigned i = 0; i < NCALLS; i++)
		OUTCOME(EFAULT, calls[i].name, "a bad address", calls[i].run(bad));
#else
	need(0); /* its interceptors would read there themselves */
#endif
}

/* ---- as another user ------------------------------------------------------------------------------- */

static void test_a_directory_that_may_not_be_searched(void)
{
	if (!need(F_ROOT))
		return;
	others();
	make_owned_dir("closed", 0600, ANN, STAFF);
	make_dir("closed/d", 0777);
	make_file("closed/x", 0666, "x");
	WORKS(chmod(".", 0777));
	become(ANN, STAFF);
	all_fail(EACCES, "closed/x", 0);
	all_fail(EACCES, "closed/none", 0);
	all_fail(EACCES, "closed/d/x", 0);
	become(BEN, GUESTS);
	all_fail(EACCES, "closed/x", 0);
}

static void test_a_directory_that_may_not_be_written(void)
{
	if (!need(F_ROOT))
		return;
	others();
	WORKS(chmod(".", 0777));
	make_owned_file("file2", 0666, ANN, STAFF);
	WORKS(rename("file2", "file")); /* for link(): what is linked must be the caller's */
	make_dir("fixed", 0755);
	make_file("fixed/x", 0666, "x");
	make_dir("fixed/d", 0777);
	become(ANN, STAFF);
	these_fail(EACCES, "fixed/new", MAKES);
	FAILS(EACCES, do_unlink("fixed/x"));
	FAILS(EACCES, do_rename_from("fixed/x"));
	FAILS(EACCES, do_rmdir("fixed/d"));
	WORKS(do_open("fixed/x"));
	WORKS(do_open_write("fixed/x"));
	WORKS(do_truncate("fixed/x"));
	WORKS(do_utime("fixed/x"));
	FAILS(EEXIST, do_mkdir("fixed/x"));
	FAILS(EEXIST, do_mkfifo("fixed/d"));
}

static void test_a_file_that_may_not_be_read_or_written(void)
{
	if (!need(F_ROOT))
		return;
	make_owned_file("unreadable", 0333, ANN, STAFF);
	make_owned_file("unwritable", 0555, ANN, STAFF);
	become(ANN, STAFF);
	FAILS(EACCES, do_open("unreadable"));
	FAILS(EACCES, do_open_nofollow("unreadable"));
	FAILS(EACCES, do_read_access("unreadable"));
	FAILS(EACCES, do_getxattr("unreadable"));
	WORKS(do_open_write("unreadable"));
	WORKS(do_stat("unreadable"));
	WORKS(do_open_path("unreadable"));
	FAILS(EACCES, do_open_write("unwritable"));
	FAILS(EACCES, do_truncate("unwritable"));
	FAILS(EACCES, do_setxattr("unwritable"));
	FAILS(EACCES, do_creat("unwritable"));
	FAILS(EACCES, do_open_create("unwritable"));
	WORKS(do_open("unwritable"));
	WORKS(do_utime("unwritable")); /* its owner may */
	become_root();
	become(BEN, GUESTS);
	FAILS(EACCES, do_open("unreadable"));
	FAILS(EACCES, do_utime("unwritable"));
	FAILS(EPERM, do_chmod("unwritable"));
	become_root();
	WORKS(do_open("unreadable"));
	WORKS(do_open_write("unwritable"));
}

CU_TestInfo path_tests[] = {
	UNIT_TEST(test_a_component_that_does_not_exist),
	UNIT_TEST(test_an_empty_path),
	UNIT_TEST(test_a_name_that_does_not_exist),
	UNIT_TEST(test_a_component_that_is_no_directory),
	UNIT_TEST(test_a_file_with_a_slash_after_it),
	UNIT_TEST(test_a_name_that_is_too_long),
	UNIT_TEST(test_a_component_that_is_too_long),
	UNIT_TEST(test_the_longest_name_that_may_be),
	UNIT_TEST(test_a_path_that_is_too_long),
	UNIT_TEST(test_the_longest_path_that_may_be),
	UNIT_TEST(test_a_loop_of_links_on_the_way),
	UNIT_TEST(test_a_loop_of_links_at_the_end),
	UNIT_TEST(test_a_link_to_nothing_on_the_way),
	UNIT_TEST(test_a_link_to_nothing_at_the_end),
	UNIT_TEST(test_a_link_is_followed_on_the_way),
	UNIT_TEST(test_forty_links_are_followed_and_no_more),
	UNIT_TEST(test_slashes_and_dots_do_not_count),
	UNIT_TEST(test_a_name_that_exists_is_not_made_again),
	UNIT_TEST(test_a_new_name_with_a_slash_after_it),
	UNIT_TEST(test_any_byte_but_two_may_be_in_a_name),
	UNIT_TEST(test_names_differ_by_case_and_by_form),
	UNIT_TEST(test_an_address_that_is_none),
	UNIT_TEST(test_a_directory_that_may_not_be_searched),
	UNIT_TEST(test_a_directory_that_may_not_be_written),
	UNIT_TEST(test_a_file_that_may_not_be_read_or_written),
	CU_TEST_INFO_NULL,
};
