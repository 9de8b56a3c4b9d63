/* utimensat(2), and which call changes which time. */
#include "tests/posix/posix.h"

#include <time.h>

static int set_times(const char *path, time_t a_s, long a_ns, time_t m_s, long m_ns, int flags)
{
	const struct timespec times[2] = { { a_s, a_ns }, { m_s, m_ns } };

	return utimensat(AT_FDCWD, path, times, flags);
}

static void test_times_are_kept_to_the_nanosecond(void)
{
	static const struct timespec cases[] = {
		{ 0, 0 },
		{ 1, 1 },
		{ 1000000000, 999999999 },
		{ 1795390205, 123456789 },
		{ 2147483647, 5 },
		{ 2147483648, 999999999 },
		{ 4102444800, 1 },
		{ -1, 0 },
		{ -1000000000, 999999999 },
	};

	make_file("f", 0644, "x");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct stat st;

		WORKS(set_times("f", cases[i].tv_sec, cases[i].tv_nsec, cases[i].tv_sec + 1, cases[i].tv_nsec,
				0));
		st = stat_of("f");
		SAME(cases[i].tv_sec, st.st_atim.tv_sec);
		SAME(cases[i].tv_nsec, st.st_atim.tv_nsec);
		SAME(cases[i].tv_sec + 1, st.st_mtim.tv_sec);
		SAME(cases[i].tv_nsec, st.st_mtim.tv_nsec);
	}
}

static void test_now_and_omit(void)
{
	struct stat before, after;

	make_file("f", 0644, "x");
	WORKS(set_times("f", 1000, 1, 2000, 2, 0));
	before = stat_of("f");
	tick();
	WORKS(set_times("f", 0, UTIME_OMIT, 3000, 3, 0));
	after = stat_of("f");
	SAME(1000, after.st_atim.tv_sec);
	SAME(1, after.st_atim.tv_nsec);
	SAME(3000, after.st_mtim.tv_sec);
	HOLDS(ns_of(after.st_ctim) > ns_of(before.st_ctim));
	WORKS(set_times("f", 4000, 4, 0, UTIME_OMIT, 0));
	after = stat_of("f");
	SAME(4000, after.st_atim.tv_sec);
	SAME(3000, after.st_mtim.tv_sec);
	WORKS(set_times("f", 0, UTIME_NOW, 0, UTIME_OMIT, 0));
	after = stat_of("f");
	HOLDS(after.st_atim.tv_sec > 1000000000);
	SAME(3000, after.st_mtim.tv_sec);
	WORKS(set_times("f", 0, UTIME_OMIT, 0, UTIME_NOW, 0));
	after = stat_of("f");
	HOLDS(after.st_mtim.tv_sec > 1000000000);
	before = after;
	tick();
	WORKS(set_times("f", 0, UTIME_OMIT, 0, UTIME_OMIT, 0));
	after = stat_of("f");
	SAME(ns_of(before.st_atim), ns_of(after.st_atim));
	SAME(ns_of(before.st_mtim), ns_of(after.st_mtim));
	SAME(ns_of(before.st_ctim), ns_of(after.st_ctim));
	WORKS(utimensat(AT_FDCWD, "f", NULL, 0));
	after = stat_of("f");
	HOLDS(ns_of(after.st_mtim) > ns_of(before.st_mtim));
	SAME(ns_of(after.st_mtim), ns_of(after.st_atim));
}

static void test_times_that_are_none(void)
{
	make_file("f", 0644, "x");
	FAILS(EINVAL, set_times("f", 1, 1000000000, 1, 0, 0));
	FAILS(EINVAL, set_times("f", 1, -1, 1, 0, 0));
	FAILS(EINVAL, set_times("f", 1, 0, 1, 1000000000, 0));
	FAILS(EINVAL, set_times("f", 1, 0, 1, 0, 0x8000));
}

static void test_times_of_every_kind(void)
{
	static const char *const names[] = { "f", "d", "p", "l" };
	int fd;

	make_file("f", 0644, "x");
	make_dir("d", 0755);
	WORKS(mkfifo("p", 0644));
	WORKS(symlink("f", "l"));
	for (size_t i = 0; i < 4; i++) {
		WORKS(set_times(names[i], 100, 1, 200, 2, AT_SYMLINK_NOFOLLOW));
		SAME(100, lstat_of(names[i]).st_atim.tv_sec);
		SAME(200, lstat_of(names[i]).st_mtim.tv_sec);
		SAME(2, lstat_of(names[i]).st_mtim.tv_nsec);
	}
	WORKS(set_times("l", 300, 0, 400, 0, 0));
	SAME(400, stat_of("f").st_mtim.tv_sec);
	SAME(200, lstat_of("l").st_mtim.tv_sec);
	fd = open("f", O_RDONLY | O_CLOEXEC);
	{
		const struct timespec times[2] = { { 500, 5 }, { 600, 6 } };

		WORKS(futimens(fd, times));
	}
	SAME(600, stat_of("f").st_mtim.tv_sec);
	WORKS(close(fd));
}

static void test_who_may_set_times(void)
{
	if (!need(F_ROOT))
		return;
	make_owned_file("f", 0666, ANN, STAFF);
	make_owned_file("g", 0644, ANN, STAFF);
	become(BEN, GUESTS);
	WORKS(utimensat(AT_FDCWD, "f", NULL, 0)); /* who may write may say "now" */
	FAILS(EPERM, set_times("f", 1, 0, 1, 0, 0));
	FAILS(EPERM, set_times("f", 0, UTIME_NOW, 0, UTIME_OMIT, 0));
	WORKS(set_times("f", 0, UTIME_OMIT, 0, UTIME_OMIT, 0));
	FAILS(EACCES, utimensat(AT_FDCWD, "g", NULL, 0));
	FAILS(EPERM, set_times("g", 1, 0, 1, 0, 0));
	become_root();
	become(ANN, GUESTS);
	WORKS(chmod("f", 0444));
	WORKS(set_times("f", 1, 0, 2, 0, 0));
	WORKS(utimensat(AT_FDCWD, "f", NULL, 0));
}

static void test_writing_changes_mtime_and_ctime(void)
{
	struct stat before, after;
	int fd;

	make_file("f", 0644, "content");
	fd = open("f", O_RDWR | O_CLOEXEC);
	for (int how = 0; how < 5; how++) {
		before = stat_of("f");
		tick();
		switch (how) {
		case 0:
			SAME(1, write(fd, "x", 1));
			break;
		case 1:
			SAME(1, pwrite(fd, "x", 1, 100));
			break;
		case 2:
			WORKS(ftruncate(fd, 5));
			break;
		case 3:
			WORKS(truncate("f", 50));
			break;
		default:
			WORKS(ftruncate(fd, 500));
			break;
		}
		after = stat_of("f");
		HOLDS(ns_of(after.st_mtim) > ns_of(before.st_mtim));
		HOLDS(ns_of(after.st_ctim) > ns_of(before.st_ctim));
	}
	before = after;
	tick();
	SAME(0, write(fd, "x", 0));
	WORKS(fsync(fd));
	WORKS(close(fd));
	after = stat_of("f");
	SAME(ns_of(before.st_mtim), ns_of(after.st_mtim));
	SAME(ns_of(before.st_ctim), ns_of(after.st_ctim));
}

static void test_times_set_are_not_undone_by_closing(void)
{
	int fd = open("f", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	const struct timespec times[2] = { { 100, 1 }, { 200, 2 } };

	SAME(1, write(fd, "x", 1));
	WORKS(futimens(fd, times));
	WORKS(close(fd));
	SAME(200, stat_of("f").st_mtim.tv_sec);
	SAME(2, stat_of("f").st_mtim.tv_nsec);
	SAME(100, stat_of("f").st_atim.tv_sec);
}

static void test_a_new_file_has_one_time(void)
{
	struct stat st;
	struct statx stx;

	make_file("f", 0644, "");
	make_dir("d", 0755);
	WORKS(mkfifo("p", 0644));
	st = stat_of("p");
	SAME(ns_of(st.st_atim), ns_of(st.st_mtim));
	SAME(ns_of(st.st_mtim), ns_of(st.st_ctim));
	SAME(ns_of(stat_of("d").st_atim), ns_of(stat_of("d").st_mtim));
	WORKS(statx(AT_FDCWD, "f", 0, STATX_ALL, &stx));
	HOLDS(stx.stx_mask & STATX_MTIME);
	HOLDS(stx.stx_mask & STATX_CTIME);
	HOLDS(llabs((long long)stx.stx_mtime.tv_sec - (long long)time(NULL)) < 3600);
}

static void test_looking_changes_no_mtime(void)
{
	struct stat before, after;
	char got[8];
	int fd;

	make_file("f", 0644, "x");
	make_dir("d", 0755);
	WORKS(symlink("f", "l"));
	before = stat_of("f");
	tick();
	fd = open("f", O_RDWR | O_CLOEXEC);
	SAME(1, read(fd, got, 8));
	WORKS(close(fd));
	SAME(1, readlink("l", got, 8));
	SAME(0, count_entries("d"));
	FAILS(EEXIST, link("f", "l"));
	FAILS(EEXIST, mkdir("d", 0755));
	after = stat_of("f");
	SAME(ns_of(before.st_mtim), ns_of(after.st_mtim));
	SAME(ns_of(before.st_ctim), ns_of(after.st_ctim));
}

CU_TestInfo time_tests[] = {
	UNIT_TEST(test_times_are_kept_to_the_nanosecond),
	UNIT_TEST(test_now_and_omit),
	UNIT_TEST(test_times_that_are_none),
	UNIT_TEST(test_times_of_every_kind),
	UNIT_TEST(test_who_may_set_times),
	UNIT_TEST(test_writing_changes_mtime_and_ctime),
	UNIT_TEST(test_times_set_are_not_undone_by_closing),
	UNIT_TEST(test_a_new_file_has_one_time),
	UNIT_TEST(test_looking_changes_no_mtime),
	CU_TEST_INFO_NULL,
};
