/* rename(2) and renameat2(2). */
#include "tests/posix/posix.h"

#include <linux/fs.h>
#include <sys/sysmacros.h>

static int rename2(const char *from, const char *to, unsigned flags)
{
	return renameat2(AT_FDCWD, from, AT_FDCWD, to, flags);
}

/* What a name may be. */
enum kind { NOTHING, FILE_, EMPTY, FULL, LINK, FIFO, KINDS };
static const char *const kind_names[] = { "nothing",          "a file",    "an empty directory",
					  "a full directory", "a symlink", "a fifo" };

static void make_kind(const char *path, enum kind kind)
{
	char inner[64];

	switch (kind) {
	case FILE_:
		make_file(path, 0644, "x");
		break;
	case FULL:
		make_dir(path, 0755);
		snprintf(inner, sizeof(inner), "%s/inner", path);
		make_file(inner, 0644, "y");
		break;
	case EMPTY:
		make_dir(path, 0755);
		break;
	case LINK:
		WORKS(symlink("target", path));
		break;
	case FIFO:
		WORKS(mkfifo(path, 0644));
		break;
	case NOTHING:
	case KINDS:
		break;
	}
}

static void remove_any(const char *path)
{
	char inner[64];

	snprintf(inner, sizeof(inner), "%s/inner", path);
	unlink(inner);
	if (rmdir(path))
		unlink(path);
}

static int wanted_of(enum kind from, enum kind to)
{
	bool dir = from == EMPTY || from == FULL;

	if (from == NOTHING)
		return ENOENT;
	if (to == NOTHING)
		return 0;
	if (dir)
		return to == FULL ? ENOTEMPTY : to == EMPTY ? 0 : ENOTDIR;
	return to == EMPTY || to == FULL ? EISDIR : 0;
}

static void test_every_kind_over_every_kind(void)
{
	for (int from = 0; from < KINDS; from++) {
		for (int to = 0; to < KINDS; to++) {
			int wanted = wanted_of((enum kind)from, (enum kind)to);
			ino_t ino = 0;

			make_kind("from", (enum kind)from);
			make_kind("to", (enum kind)to);
			if (from != NOTHING)
				ino = lstat_of("from").st_ino;
			OUTCOME(wanted, kind_names[from], kind_names[to], rename("from", "to"));
			if (!wanted) {
				HOLDS(!exists("from"));
				SAME(ino, lstat_of("to").st_ino);
			} else {
				HOLDS(exists("from") == (from != NOTHING));
				HOLDS(exists("to") == (to != NOTHING));
			}
			remove_any("from");
			remove_any("to");
		}
	}
}

static void test_noreplace_replaces_nothing(void)
{
	if (!need(F_EXCHANGE))
		return;
	for (int from = 1; from < KINDS; from++) {
		for (int to = 0; to < KINDS; to++) {
			make_kind("from", (enum kind)from);
			make_kind("to", (enum kind)to);
			OUTCOME(to == NOTHING ? 0 : EEXIST, kind_names[from], kind_names[to],
				rename2("from", "to", RENAME_NOREPLACE));
			HOLDS(exists("to"));
			HOLDS(exists("from") == (to != NOTHING));
			remove_any("from");
			remove_any("to");
		}
	}
	FAILS(ENOENT, rename2("none", "to", RENAME_NOREPLACE));
	make_file("f", 0644, "x");
	FAILS(EEXIST, rename2("f", "f", RENAME_NOREPLACE));
}

static void test_exchange_swaps_any_two(void)
{
	if (!need(F_EXCHANGE))
		return;
	for (int from = 1; from < KINDS; from++) {
		for (int to = 1; to < KINDS; to++) {
			ino_t a, b;

			make_kind("from", (enum kind)from);
			make_kind("to", (enum kind)to);
			a = lstat_of("from").st_ino;
			b = lstat_of("to").st_ino;
			OUTCOME(0, kind_names[from], kind_names[to], rename2("from", "to", RENAME_EXCHANGE));
			SAME(b, lstat_of("from").st_ino);
			SAME(a, lstat_of("to").st_ino);
			remove_any("from");
			remove_any("to");
		}
	}
	make_file("f", 0644, "x");
	FAILS(ENOENT, rename2("f", "none", RENAME_EXCHANGE));
	FAILS(ENOENT, rename2("none", "f", RENAME_EXCHANGE));
	WORKS(rename2("f", "f", RENAME_EXCHANGE));
	assert_content("f", "x");
}

static void test_exchange_between_directories(void)
{
	if (!need(F_EXCHANGE))
		return;
	make_dir("a", 0755);
	make_dir("b", 0755);
	make_dir("a/d", 0755);
	make_file("a/d/in_a", 0644, "x");
	make_file("b/f", 0644, "y");
	WORKS(rename2("a/d", "b/f", RENAME_EXCHANGE));
	assert_content("a/d", "y");
	assert_content("b/f/in_a", "x");
	SAME(2, stat_of("a").st_nlink);
	SAME(3, stat_of("b").st_nlink);
	SAME(stat_of("b").st_ino, stat_of("b/f/..").st_ino);
	FAILS(EINVAL, rename2("b", "b/f", RENAME_EXCHANGE));
	FAILS(EINVAL, rename2("b/f", "b", RENAME_EXCHANGE));
}

static void test_flags_that_do_not_go_together(void)
{
	make_file("f", 0644, "x");
	make_file("g", 0644, "y");
	FAILS(EINVAL, rename2("f", "g", RENAME_NOREPLACE | RENAME_EXCHANGE));
	FAILS(EINVAL, rename2("f", "g", RENAME_WHITEOUT | RENAME_EXCHANGE));
	FAILS(EINVAL, rename2("f", "g", 1U << 10));
	assert_content("f", "x");
	assert_content("g", "y");
}

static void test_whiteout_leaves_a_mark(void)
{
	struct stat st;

	if (!need(F_WHITEOUT))
		return;
	make_file("f", 0644, "x");
	make_file("over", 0644, "y");
	make_dir("d", 0755);
	WORKS(rename2("f", "g", RENAME_WHITEOUT));
	st = lstat_of("f");
	HOLDS(S_ISCHR(st.st_mode));
	SAME(makedev(0, 0), st.st_rdev);
	SAME(0, st.st_mode & 07777);
	SAME(1, st.st_nlink);
	assert_content("g", "x");
	WORKS(unlink("f"));
	WORKS(rename2("g", "over", RENAME_WHITEOUT));
	assert_content("over", "x");
	HOLDS(S_ISCHR(lstat_of("g").st_mode));
	WORKS(rename2("d", "e", RENAME_WHITEOUT));
	HOLDS(S_ISDIR(lstat_of("e").st_mode));
	HOLDS(S_ISCHR(lstat_of("d").st_mode));
	FAILS(EEXIST, rename2("e", "over", RENAME_WHITEOUT | RENAME_NOREPLACE));
	WORKS(rename2("e", "new", RENAME_WHITEOUT | RENAME_NOREPLACE));
	HOLDS(S_ISCHR(lstat_of("e").st_mode));
	SAME(stat_of(".").st_ino, stat_of("new/..").st_ino);
}

static void test_onto_itself_nothing_happens(void)
{
	struct stat before;

	make_file("f", 0644, "x");
	make_dir("d", 0755);
	WORKS(link("f", "g"));
	before = stat_of("f");
	tick();
	WORKS(rename("f", "f"));
	WORKS(rename("d", "d"));
	WORKS(rename("f", "g")); /* two names of one file: both stay */
	HOLDS(exists("f"));
	HOLDS(exists("g"));
	SAME(2, stat_of("f").st_nlink);
	SAME(ns_of(before.st_ctim), ns_of(stat_of("f").st_ctim));
}

static void test_a_directory_does_not_go_into_itself(void)
{
	make_dir("d", 0755);
	make_dir("d/e", 0755);
	make_dir("d/e/f", 0755);
	FAILS(EINVAL, rename("d", "d/x"));
	FAILS(EINVAL, rename("d", "d/e/x"));
	FAILS(EINVAL, rename("d", "d/e/f"));
	FAILS(EINVAL, rename("d/e", "d/e/f/x"));
	FAILS(ENOTEMPTY, rename("d/e/f", "d"));
	FAILS(ENOTEMPTY, rename("d/e/f", "d/e"));
}

static void test_dot_and_dot_dot_are_not_renamed(void)
{
	make_dir("d", 0755);
	make_dir("d/e", 0755);
	FAILS(EBUSY, rename("d/.", "x"));
	FAILS(EBUSY, rename("d/..", "x"));
	FAILS(EBUSY, rename(".", "x"));
	FAILS(EBUSY, rename("..", "x"));
	FAILS(EBUSY, rename("d", "d/."));
	FAILS(EBUSY, rename("d", "d/e/.."));
	FAILS(EBUSY, rename("d", "."));
	FAILS(EBUSY, rename("d", ".."));
}

static void test_a_slash_after_the_name(void)
{
	make_file("f", 0644, "x");
	make_dir("d", 0755);
	FAILS(ENOTDIR, rename("f", "g/"));
	FAILS(ENOTDIR, rename("f/", "g"));
	WORKS(rename("d", "e/"));
	WORKS(rename("e/", "d"));
	WORKS(rename("d/", "e/"));
	HOLDS(exists("e"));
	WORKS(symlink("e", "l"));
	FAILS(ENOTDIR, rename("l/", "m"));
	FAILS(ENOTDIR, rename("e", "l/"));
	WORKS(rename("l", "m"));
	HOLDS(S_ISLNK(lstat_of("m").st_mode));
}

static void test_what_is_replaced_is_gone_and_lives_on_where_it_is_open(void)
{
	struct stat st;
	char got[8] = "";
	int fd;

	make_file("old", 0644, "old");
	make_file("new", 0600, "newer");
	WORKS(link("old", "other"));
	fd = open("old", O_RDONLY | O_CLOEXEC);
	WORKS(rename("new", "old"));
	assert_content("old", "newer");
	MODE(0600, "old");
	SAME(1, stat_of("other").st_nlink);
	WORKS(fstat(fd, &st));
	SAME(1, st.st_nlink);
	SAME(3, read(fd, got, sizeof(got)));
	HOLDS(strcmp(got, "old") == 0);
	WORKS(unlink("other"));
	WORKS(fstat(fd, &st));
	SAME(0, st.st_nlink);
	SAME(3, pread(fd, got, sizeof(got), 0));
	WORKS(close(fd));
}

static void test_an_open_file_goes_on_under_its_new_name(void)
{
	int fd;

	make_file("f", 0644, "one");
	make_dir("d", 0755);
	fd = open("f", O_RDWR | O_APPEND | O_CLOEXEC);
	WORKS(rename("f", "d/g"));
	SAME(3, write(fd, "two", 3));
	assert_content("d/g", "onetwo");
	WORKS(close(fd));
	fd = open("d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	WORKS(rename("d", "e"));
	WORKS(mkdirat(fd, "sub", 0755));
	HOLDS(exists("e/sub"));
	WORKS(close(fd));
}

static void test_a_directory_moves_with_all_below_it(void)
{
	ino_t ino;

	make_dir("a", 0755);
	make_dir("a/b", 0755);
	make_dir("a/b/c", 0755);
	make_file("a/b/c/f", 0644, "deep");
	make_dir("z", 0755);
	ino = stat_of("a/b/c/f").st_ino;
	WORKS(rename("a/b", "z/b"));
	assert_content("z/b/c/f", "deep");
	SAME(ino, stat_of("z/b/c/f").st_ino);
	SAME(2, stat_of("a").st_nlink);
	SAME(3, stat_of("z").st_nlink);
	SAME(stat_of("z").st_ino, stat_of("z/b/..").st_ino);
	FAILS(ENOENT, open("a/b/c/f", O_RDONLY));
	make_dir("a/b", 0700);
	SAME(0, count_entries("a/b"));
	WORKS(rename("z/b", "a/b"));
	assert_content("a/b/c/f", "deep");
}

static void test_renaming_changes_the_times_of_the_directories_and_the_ctime(void)
{
	struct stat a, b, f;

	make_dir("a", 0755);
	make_dir("b", 0755);
	make_file("a/f", 0644, "x");
	a = stat_of("a");
	b = stat_of("b");
	f = stat_of("a/f");
	tick();
	WORKS(rename("a/f", "b/f"));
	HOLDS(ns_of(stat_of("a").st_mtim) > ns_of(a.st_mtim));
	HOLDS(ns_of(stat_of("a").st_ctim) > ns_of(a.st_ctim));
	HOLDS(ns_of(stat_of("b").st_mtim) > ns_of(b.st_mtim));
	HOLDS(ns_of(stat_of("b").st_ctim) > ns_of(b.st_ctim));
	HOLDS(ns_of(stat_of("b/f").st_ctim) > ns_of(f.st_ctim));
	SAME(ns_of(f.st_mtim), ns_of(stat_of("b/f").st_mtim));
}

static void test_renaming_needs_both_directories(void)
{
	if (!need(F_ROOT))
		return;
	make_owned_dir("own", 0755, ANN, STAFF);
	make_owned_file("own/f", 0644, ANN, STAFF);
	make_dir("other", 0755);
	make_file("other/f", 0666, "x");
	make_dir("hidden", 0766);
	become(ANN, STAFF);
	FAILS(EACCES, rename("own/f", "other/g"));
	FAILS(EACCES, rename("other/f", "own/g"));
	FAILS(EACCES, rename("own/f", "other/f"));
	FAILS(EACCES, rename("own/f", "hidden/f"));
	FAILS(EACCES, rename2("own/f", "other/f", RENAME_EXCHANGE));
	WORKS(rename("own/f", "own/g"));
}

static void test_a_directory_of_others_does_not_change_its_parent(void)
{
	if (!need(F_ROOT))
		return;
	make_owned_dir("from", 0777, ANN, STAFF);
	make_owned_dir("to", 0777, ANN, STAFF);
	make_owned_dir("from/d", 0755, CAROL, STAFF);
	become(BEN, GUESTS);
	/* Its ".." would change, which writes to it. */
	FAILS(EACCES, rename("from/d", "to/d"));
	WORKS(rename("from/d", "from/e"));
}

static void test_long_names_and_many_renames(void)
{
	char from[300], to[300];

	snprintf(from, sizeof(from), "a%s", long_name(254));
	snprintf(to, sizeof(to), "b%s", long_name(254));
	make_file(from, 0644, "x");
	for (int i = 0; i < 100; i++) {
		WORKS(rename(from, to));
		WORKS(rename(to, from));
	}
	assert_content(from, "x");
	SAME(1, count_entries("."));
}

CU_TestInfo rename_tests[] = {
	UNIT_TEST(test_every_kind_over_every_kind),
	UNIT_TEST(test_noreplace_replaces_nothing),
	UNIT_TEST(test_exchange_swaps_any_two),
	UNIT_TEST(test_exchange_between_directories),
	UNIT_TEST(test_flags_that_do_not_go_together),
	UNIT_TEST(test_whiteout_leaves_a_mark),
	UNIT_TEST(test_onto_itself_nothing_happens),
	UNIT_TEST(test_a_directory_does_not_go_into_itself),
	UNIT_TEST(test_dot_and_dot_dot_are_not_renamed),
	UNIT_TEST(test_a_slash_after_the_name),
	UNIT_TEST(test_what_is_replaced_is_gone_and_lives_on_where_it_is_open),
	UNIT_TEST(test_an_open_file_goes_on_under_its_new_name),
	UNIT_TEST(test_a_directory_moves_with_all_below_it),
	UNIT_TEST(test_renaming_changes_the_times_of_the_directories_and_the_ctime),
	UNIT_TEST(test_renaming_needs_both_directories),
	UNIT_TEST(test_a_directory_of_others_does_not_change_its_parent),
	UNIT_TEST(test_long_names_and_many_renames),
	CU_TEST_INFO_NULL,
};
