/* mkdir(2), rmdir(2), and what a directory is. */
#include "tests/posix/posix.h"

static void test_a_new_directory_has_the_mode_asked_for_without_the_umask(void)
{
	static const struct {
		mode_t mask, asked, got;
	} cases[] = {
		{ 0, 0777, 0777 }, { 0, 0, 0 },         { 022, 0777, 0755 },   { 077, 0777, 0700 },
		{ 0777, 0777, 0 }, { 0, 01777, 01777 }, { 027, 01777, 01750 }, { 0, 0123, 0123 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		umask(cases[i].mask);
		WORKS(mkdir("d", cases[i].asked));
		MODE(cases[i].got, "d");
		WORKS(rmdir("d"));
	}
}

static void test_mkdir_makes_no_set_id_bits(void)
{
	umask(0);
	WORKS(mkdir("d", 06777));
	MODE(0777, "d");
}

static void test_a_new_directory_is_empty_and_linked_twice(void)
{
	struct stat st, up;

	WORKS(mkdir("d", 0755));
	st = stat_of("d");
	up = stat_of("d/..");
	HOLDS(S_ISDIR(st.st_mode));
	SAME(2, st.st_nlink);
	SAME(0, count_entries("d"));
	SAME(st.st_ino, stat_of("d/.").st_ino);
	SAME(stat_of(".").st_ino, up.st_ino);
	SAME(geteuid(), st.st_uid);
	SAME(getegid(), st.st_gid);
	SAME(stat_of(".").st_dev, st.st_dev);
}

static void test_the_links_of_a_directory_count_its_directories(void)
{
	WORKS(mkdir("d", 0755));
	WORKS(mkdir("d/a", 0755));
	SAME(3, stat_of("d").st_nlink);
	WORKS(mkdir("d/b", 0755));
	SAME(4, stat_of("d").st_nlink);
	make_file("d/f", 0644, "x");
	WORKS(symlink("f", "d/l"));
	SAME(4, stat_of("d").st_nlink);
	WORKS(rename("d/a", "a"));
	SAME(3, stat_of("d").st_nlink);
	WORKS(rename("a", "d/a"));
	SAME(4, stat_of("d").st_nlink);
	WORKS(rename("d/a", "d/b"));
	SAME(3, stat_of("d").st_nlink);
	WORKS(rmdir("d/b"));
	SAME(2, stat_of("d").st_nlink);
}

static void test_making_and_removing_change_the_times_of_the_parent(void)
{
	struct stat before, after;

	WORKS(mkdir("d", 0755));
	before = stat_of("d");
	tick();
	WORKS(mkdir("d/a", 0755));
	after = stat_of("d");
	HOLDS(ns_of(after.st_mtim) > ns_of(before.st_mtim));
	HOLDS(ns_of(after.st_ctim) > ns_of(before.st_ctim));
	before = after;
	tick();
	WORKS(rmdir("d/a"));
	after = stat_of("d");
	HOLDS(ns_of(after.st_mtim) > ns_of(before.st_mtim));
	HOLDS(ns_of(after.st_ctim) > ns_of(before.st_ctim));
	before = after;
	tick();
	FAILS(ENOENT, rmdir("d/a"));
	make_file("f", 0644, "x");
	after = stat_of("d");
	SAME(ns_of(before.st_mtim), ns_of(after.st_mtim));
}

static void test_only_an_empty_directory_is_removed(void)
{
	WORKS(mkdir("d", 0755));
	make_file("d/f", 0644, "x");
	FAILS(ENOTEMPTY, rmdir("d"));
	FAILS(ENOTEMPTY, unlinkat(AT_FDCWD, "d", AT_REMOVEDIR));
	WORKS(unlink("d/f"));
	WORKS(mkdir("d/sub", 0755));
	FAILS(ENOTEMPTY, rmdir("d"));
	WORKS(rmdir("d/sub"));
	WORKS(symlink("none", "d/l"));
	FAILS(ENOTEMPTY, rmdir("d"));
	WORKS(unlink("d/l"));
	WORKS(mkfifo("d/p", 0644));
	FAILS(ENOTEMPTY, rmdir("d"));
	WORKS(unlink("d/p"));
	make_file("d/.hidden", 0644, "");
	FAILS(ENOTEMPTY, rmdir("d"));
	WORKS(unlink("d/.hidden"));
	WORKS(rmdir("d"));
	HOLDS(!exists("d"));
}

static void test_only_a_directory_is_removed_by_rmdir(void)
{
	WORKS(mkdir("d", 0755));
	make_file("f", 0644, "x");
	WORKS(symlink("d", "to_d"));
	WORKS(mkfifo("p", 0644));
	FAILS(ENOTDIR, rmdir("f"));
	FAILS(ENOTDIR, rmdir("to_d"));
	FAILS(ENOTDIR, rmdir("to_d/"));
	FAILS(ENOTDIR, rmdir("p"));
	FAILS(ENOENT, rmdir("none"));
	HOLDS(exists("d"));
	WORKS(rmdir("d/"));
}

static void test_dot_and_dot_dot_are_not_removed(void)
{
	WORKS(mkdir("d", 0755));
	WORKS(mkdir("d/e", 0755));
	FAILS(EINVAL, rmdir("d/e/."));
	FAILS(ENOTEMPTY, rmdir("d/e/.."));
	FAILS(EINVAL, rmdir("."));
	FAILS(ENOTEMPTY, rmdir(".."));
	FAILS(EINVAL, rmdir("d/."));
}

static void test_a_removed_directory_is_a_dead_end(void)
{
	char path[PATH_MAX];
	struct stat st;
	DIR *dir;
	int fd;

	WORKS(mkdir("d", 0755));
	fd = open("d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	WORKS(chdir("d"));
	WORKS(rmdir("../d"));
	WORKS(fstat(fd, &st));
	SAME(0, st.st_nlink);
	FAILS(ENOENT, mkdir("x", 0755));
	FAILS(ENOENT, open("x", O_RDWR | O_CREAT, 0644));
	FAILS(ENOENT, symlink("y", "x"));
	FAILS(ENOENT, mkfifo("x", 0644));
	FAILS(ENOENT, stat("x", &st));
	HOLDS(getcwd(path, sizeof(path)) == NULL && errno == ENOENT);
	dir = fdopendir(fd);
	HOLDS(dir != NULL);
	HOLDS(dir && readdir(dir) == NULL);
	closedir(dir);
	WORKS(chdir(posix_base));
}

static void test_a_tree_may_be_deep(void)
{
	enum { DEPTH = 200 };
	struct stat st;

	for (int i = 0; i < DEPTH; i++) {
		if (mkdir("deeper", 0755) || chdir("deeper"))
			CU_FAIL("too deep");
	}
	make_file("bottom", 0644, "x");
	WORKS(stat("../../deeper/deeper/bottom", &st));
	WORKS(unlink("bottom"));
	for (int i = 0; i < DEPTH; i++) {
		if (chdir("..") || rmdir("deeper"))
			CU_FAIL("not removed");
	}
	SAME(0, count_entries("."));
}

static void test_a_directory_holds_many(void)
{
	enum { MANY = 3000 };
	char name[32];
	unsigned made = 0, gone = 0;

	WORKS(mkdir("d", 0755));
	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "d/%d", i);
		made += mknod(name, S_IFREG | 0644, 0) == 0;
	}
	SAME(MANY, made);
	SAME(MANY, count_entries("d"));
	FAILS(ENOTEMPTY, rmdir("d"));
	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "d/%d", i);
		gone += unlink(name) == 0;
	}
	SAME(MANY, gone);
	WORKS(rmdir("d"));
}

static void test_a_set_group_id_directory_gives_its_group_on(void)
{
	if (!need(F_ROOT))
		return;
	make_owned_dir("d", 02777, ANN, STAFF);
	become(BEN, GUESTS);
	umask(0);
	WORKS(mkdir("d/sub", 0755));
	SAME(STAFF, stat_of("d/sub").st_gid);
	SAME(BEN, stat_of("d/sub").st_uid);
	MODE(02755, "d/sub");
	make_file("d/f", 0644, "x");
	SAME(STAFF, stat_of("d/f").st_gid);
	WORKS(mkfifo("d/p", 0644));
	SAME(STAFF, stat_of("d/p").st_gid);
	WORKS(symlink("f", "d/l"));
	SAME(STAFF, lstat_of("d/l").st_gid);
	WORKS(mkdir("d/sub/sub", 0755));
	SAME(STAFF, stat_of("d/sub/sub").st_gid);
	/* A set-group-id file of a group that is not the maker's has no such bit. */
	WORKS(close(open("d/s", O_WRONLY | O_CREAT | O_CLOEXEC, 02755)));
	MODE(0755, "d/s");
	WORKS(mknod("d/n", S_IFREG | 02755, 0));
	MODE(0755, "d/n");
}

static void test_elsewhere_the_group_is_the_makers(void)
{
	if (!need(F_ROOT))
		return;
	make_owned_dir("d", 0777, ANN, STAFF);
	become(BEN, GUESTS);
	WORKS(mkdir("d/sub", 0755));
	SAME(GUESTS, stat_of("d/sub").st_gid);
	SAME(BEN, stat_of("d/sub").st_uid);
	make_file("d/f", 0644, "x");
	SAME(GUESTS, stat_of("d/f").st_gid);
	umask(0);
	WORKS(close(open("d/s", O_WRONLY | O_CREAT | O_CLOEXEC, 06755)));
	MODE(06755, "d/s");
}

CU_TestInfo dir_tests[] = {
	UNIT_TEST(test_a_new_directory_has_the_mode_asked_for_without_the_umask),
	UNIT_TEST(test_mkdir_makes_no_set_id_bits),
	UNIT_TEST(test_a_new_directory_is_empty_and_linked_twice),
	UNIT_TEST(test_the_links_of_a_directory_count_its_directories),
	UNIT_TEST(test_making_and_removing_change_the_times_of_the_parent),
	UNIT_TEST(test_only_an_empty_directory_is_removed),
	UNIT_TEST(test_only_a_directory_is_removed_by_rmdir),
	UNIT_TEST(test_dot_and_dot_dot_are_not_removed),
	UNIT_TEST(test_a_removed_directory_is_a_dead_end),
	UNIT_TEST(test_a_tree_may_be_deep),
	UNIT_TEST(test_a_directory_holds_many),
	UNIT_TEST(test_a_set_group_id_directory_gives_its_group_on),
	UNIT_TEST(test_elsewhere_the_group_is_the_makers),
	CU_TEST_INFO_NULL,
};
