/* link(2), symlink(2), readlink(2), unlink(2). */
#include "tests/posix/posix.h"

/* ---- link ------------------------------------------------------------------------------------------ */

static void test_a_link_is_the_same_file(void)
{
	struct stat a, b;

	make_file("a", 0640, "content");
	WORKS(link("a", "b"));
	a = stat_of("a");
	b = stat_of("b");
	SAME(a.st_ino, b.st_ino);
	SAME(2, a.st_nlink);
	SAME(2, b.st_nlink);
	assert_content("b", "content");
	WORKS(chmod("b", 0600));
	MODE(0600, "a");
	WORKS(truncate("b", 3));
	assert_content("a", "con");
	WORKS(unlink("a"));
	SAME(1, stat_of("b").st_nlink);
	assert_content("b", "con");
	WORKS(unlink("b"));
}

static void test_linking_changes_the_ctime_only(void)
{
	struct stat before, after;

	make_file("a", 0644, "x");
	before = stat_of("a");
	tick();
	WORKS(link("a", "b"));
	after = stat_of("a");
	HOLDS(ns_of(after.st_ctim) > ns_of(before.st_ctim));
	SAME(ns_of(before.st_mtim), ns_of(after.st_mtim));
	SAME(ns_of(before.st_atim), ns_of(after.st_atim));
	before = after;
	tick();
	WORKS(unlink("b"));
	after = stat_of("a");
	HOLDS(ns_of(after.st_ctim) > ns_of(before.st_ctim));
	SAME(ns_of(before.st_mtim), ns_of(after.st_mtim));
	before = after;
	tick();
	FAILS(EEXIST, link("a", "a"));
	SAME(ns_of(before.st_ctim), ns_of(stat_of("a").st_ctim));
}

static void test_linking_changes_the_times_of_the_directory(void)
{
	struct stat before, after;

	make_dir("d", 0755);
	make_file("a", 0644, "x");
	before = stat_of("d");
	tick();
	WORKS(link("a", "d/b"));
	after = stat_of("d");
	HOLDS(ns_of(after.st_mtim) > ns_of(before.st_mtim));
	before = after;
	tick();
	WORKS(unlink("d/b"));
	after = stat_of("d");
	HOLDS(ns_of(after.st_mtim) > ns_of(before.st_mtim));
	HOLDS(ns_of(after.st_ctim) > ns_of(before.st_ctim));
}

static void test_a_directory_is_not_linked(void)
{
	make_dir("d", 0755);
	FAILS(EPERM, link("d", "e"));
	FAILS(EPERM, link(".", "e"));
	FAILS(EPERM, link("d/", "e"));
	HOLDS(!exists("e"));
}

static void test_every_other_kind_is_linked(void)
{
	make_dir("d", 0755);
	make_file("f", 0644, "x");
	WORKS(symlink("f", "l"));
	WORKS(mkfifo("p", 0644));
	WORKS(link("f", "d/f"));
	WORKS(link("p", "d/p"));
	HOLDS(S_ISFIFO(stat_of("d/p").st_mode));
	/* The link itself, not what it leads to. */
	WORKS(link("l", "d/l"));
	HOLDS(S_ISLNK(lstat_of("d/l").st_mode));
	SAME(lstat_of("l").st_ino, lstat_of("d/l").st_ino);
	SAME(2, lstat_of("l").st_nlink);
	WORKS(linkat(AT_FDCWD, "l", AT_FDCWD, "followed", AT_SYMLINK_FOLLOW));
	SAME(stat_of("f").st_ino, lstat_of("followed").st_ino);
	SAME(3, stat_of("f").st_nlink);
	FAILS(EINVAL, linkat(AT_FDCWD, "f", AT_FDCWD, "x", 0x8000));
}

static void test_a_link_may_have_many_names(void)
{
	enum { MANY = 500 };
	char name[32];
	unsigned made = 0;

	make_file("f", 0644, "x");
	for (int i = 1; i < MANY; i++) {
		snprintf(name, sizeof(name), "l%d", i);
		made += link("f", name) == 0;
	}
	SAME(MANY - 1, made);
	SAME(MANY, stat_of("f").st_nlink);
	SAME(MANY, stat_of("l250").st_nlink);
	for (int i = 1; i < MANY; i++) {
		snprintf(name, sizeof(name), "l%d", i);
		made -= unlink(name) == 0;
	}
	SAME(0, made);
	SAME(1, stat_of("f").st_nlink);
}

static void test_an_open_file_without_a_name_gets_none_by_its_path(void)
{
	char path[64];
	int fd;

	make_file("f", 0644, "x");
	fd = open("f", O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	WORKS(linkat(AT_FDCWD, path, AT_FDCWD, "g", AT_SYMLINK_FOLLOW));
	SAME(2, stat_of("g").st_nlink);
	WORKS(close(fd));
}

/* ---- symlink and readlink -------------------------------------------------------------------------- */

static void assert_target(const char *path, const char *target)
{
	static char got[PATH_MAX + 1];

	SAME((int64_t)strlen(target), readlink(path, got, sizeof(got)));
	HOLDS(memcmp(got, target, strlen(target)) == 0);
}

static void test_a_symlink_holds_any_text(void)
{
	static const char *const targets[] = { "f",         "/etc/passwd", "../../..", "no such file",
					       "a//b/./c/", "\xff\xfe",    " ",        "\n",
					       "x" };
	char name[16];

	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		snprintf(name, sizeof(name), "l%zu", i);
		WORKS(symlink(targets[i], name));
		assert_target(name, targets[i]);
		SAME((int64_t)strlen(targets[i]), lstat_of(name).st_size);
		HOLDS(S_ISLNK(lstat_of(name).st_mode));
		SAME(0777, lstat_of(name).st_mode & 07777);
	}
}

static void test_a_symlink_of_every_length(void)
{
	static const size_t lengths[] = { 1, 59, 60, 61, 255, 256, 1023, 1024, 1025, 4000, 4094, 4095 };
	char name[16];

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		snprintf(name, sizeof(name), "l%zu", lengths[i]);
		WORKS(symlink(long_name(lengths[i]), name));
		assert_target(name, long_name(lengths[i]));
	}
	FAILS(ENAMETOOLONG, symlink(long_name(4096), "too_long"));
	FAILS(ENOENT, symlink("", "empty"));
	HOLDS(!exists("too_long"));
	HOLDS(!exists("empty"));
}

static void test_readlink_cuts_what_does_not_fit(void)
{
	char got[8] = "-------";

	WORKS(symlink("target", "l"));
	SAME(3, readlink("l", got, 3));
	HOLDS(memcmp(got, "tar----", 7) == 0);
	SAME(6, readlink("l", got, 6));
	HOLDS(memcmp(got, "target-", 7) == 0);
	SAME(6, readlink("l", got, 8));
	FAILS(EINVAL, readlink("l", got, 0));
}

static void test_only_a_symlink_is_read_by_readlink(void)
{
	char got[8];

	make_file("f", 0644, "x");
	make_dir("d", 0755);
	WORKS(mkfifo("p", 0644));
	WORKS(symlink("d", "to_d"));
	FAILS(EINVAL, readlink("f", got, sizeof(got)));
	FAILS(EINVAL, readlink("d", got, sizeof(got)));
	FAILS(EINVAL, readlink("p", got, sizeof(got)));
	FAILS(EINVAL, readlink("to_d/", got, sizeof(got)));
}

static void test_a_symlink_belongs_to_its_maker(void)
{
	if (!need(F_ROOT))
		return;
	WORKS(chmod(".", 0777));
	become(ANN, STAFF);
	WORKS(symlink("x", "l"));
	SAME(ANN, lstat_of("l").st_uid);
	SAME(STAFF, lstat_of("l").st_gid);
	become_root();
	WORKS(lchown("l", BEN, GUESTS));
	SAME(BEN, lstat_of("l").st_uid);
	SAME(GUESTS, lstat_of("l").st_gid);
}

static void test_making_a_symlink_changes_the_times_of_the_directory(void)
{
	struct stat before, after;

	make_dir("d", 0755);
	before = stat_of("d");
	tick();
	WORKS(symlink("x", "d/l"));
	after = stat_of("d");
	HOLDS(ns_of(after.st_mtim) > ns_of(before.st_mtim));
	HOLDS(ns_of(after.st_ctim) > ns_of(before.st_ctim));
	HOLDS(ns_of(lstat_of("d/l").st_mtim) > ns_of(before.st_mtim));
}

/* ---- unlink ---------------------------------------------------------------------------------------- */

static void test_a_directory_is_not_unlinked(void)
{
	make_dir("d", 0755);
	FAILS(EISDIR, unlink("d"));
	FAILS(EISDIR, unlink("d/"));
	FAILS(EISDIR, unlink("."));
	FAILS(EISDIR, unlink("d/.."));
	HOLDS(exists("d"));
}

static void test_every_other_kind_is_unlinked(void)
{
	make_file("f", 0, "x");
	WORKS(symlink("f", "l"));
	WORKS(mkfifo("p", 0));
	WORKS(unlink("l"));
	HOLDS(exists("f"));
	WORKS(unlink("f"));
	WORKS(unlink("p"));
	SAME(0, count_entries("."));
	FAILS(ENOENT, unlink("f"));
}

static void test_a_name_can_be_made_again(void)
{
	ino_t first;

	for (int i = 0; i < 20; i++) {
		make_file("f", 0644, "x");
		WORKS(unlink("f"));
		make_dir("f", 0755);
		WORKS(rmdir("f"));
		WORKS(symlink("g", "f"));
		WORKS(unlink("f"));
	}
	make_file("f", 0644, "one");
	first = stat_of("f").st_ino;
	make_file("g", 0644, "two");
	HOLDS(first != stat_of("g").st_ino);
}

static void test_the_sticky_bit_keeps_the_files_of_others(void)
{
	if (!need(F_ROOT))
		return;
	make_owned_dir("d", 01777, CAROL, STAFF);
	make_owned_file("d/ann", 0666, ANN, STAFF);
	make_owned_file("d/ann2", 0666, ANN, STAFF);
	make_owned_dir("d/anns", 0777, ANN, STAFF);
	become(BEN, STAFF);
	FAILS(EPERM, unlink("d/ann"));
	FAILS(EPERM, rename("d/ann", "d/x"));
	FAILS(EPERM, rmdir("d/anns"));
	FAILS(EPERM, rename("d/anns", "d/x"));
	make_file("d/ben", 0666, "x");
	FAILS(EPERM, rename("d/ben", "d/ann"));
	WORKS(rename("d/ben", "d/bens"));
	WORKS(unlink("d/bens"));
	become_root();
	become(ANN, GUESTS); /* owns the file */
	WORKS(unlink("d/ann"));
	WORKS(rmdir("d/anns"));
	become_root();
	become(CAROL, GUESTS); /* owns the directory */
	WORKS(unlink("d/ann2"));
	become_root();
	make_owned_file("d/ann", 0666, ANN, STAFF);
	WORKS(unlink("d/ann")); /* root may */
}

CU_TestInfo link_tests[] = {
	UNIT_TEST(test_a_link_is_the_same_file),
	UNIT_TEST(test_linking_changes_the_ctime_only),
	UNIT_TEST(test_linking_changes_the_times_of_the_directory),
	UNIT_TEST(test_a_directory_is_not_linked),
	UNIT_TEST(test_every_other_kind_is_linked),
	UNIT_TEST(test_a_link_may_have_many_names),
	UNIT_TEST(test_an_open_file_without_a_name_gets_none_by_its_path),
	UNIT_TEST(test_a_symlink_holds_any_text),
	UNIT_TEST(test_a_symlink_of_every_length),
	UNIT_TEST(test_readlink_cuts_what_does_not_fit),
	UNIT_TEST(test_only_a_symlink_is_read_by_readlink),
	UNIT_TEST(test_a_symlink_belongs_to_its_maker),
	UNIT_TEST(test_making_a_symlink_changes_the_times_of_the_directory),
	UNIT_TEST(test_a_directory_is_not_unlinked),
	UNIT_TEST(test_every_other_kind_is_unlinked),
	UNIT_TEST(test_a_name_can_be_made_again),
	UNIT_TEST(test_the_sticky_bit_keeps_the_files_of_others),
	CU_TEST_INFO_NULL,
};
