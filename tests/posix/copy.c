/* copy_file_range(2). */
#include "tests/posix/posix.h"

#include <linux/fs.h>
#include <sys/ioctl.h>

enum { LEN = 500000 };

static unsigned char pattern(size_t i)
{
	return (unsigned char)(i * 31 + i / 4096 * 7 + 1);
}

static int source_of(size_t len)
{
	unsigned char *data = malloc(len);
	int fd = open("from", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	for (size_t i = 0; i < len; i++)
		data[i] = pattern(i);
	SAME((int64_t)len, write(fd, data, len));
	free(data);
	return fd;
}

static int target(void)
{
	return open("to", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
}

/* Copies all of [in, in + len) to `out`, in as many calls as it takes. */
static void copy(int from, int to, off_t in, off_t out, size_t len)
{
	while (len) {
		ssize_t n = copy_file_range(from, &in, to, &out, len, 0);

		HOLDS(n > 0);
		if (n <= 0)
			return;
		len -= (size_t)n;
	}
}

/* What is at `off` of the target is what is at `from` of the source, or zero where `from` is negative. */
static void assert_copied(int fd, off_t off, size_t len, off_t from)
{
	unsigned char *got = malloc(len);
	size_t same = 0;

	SAME((int64_t)len, pread(fd, got, len, off));
	while (same < len && got[same] == (from < 0 ? 0 : pattern((size_t)from + same)))
		same++;
	SAME((int64_t)len, (int64_t)same);
	free(got);
}

static void test_a_whole_file(void)
{
	int from = source_of(LEN), to = target();

	copy(from, to, 0, 0, LEN);
	SAME(LEN, stat_of("to").st_size);
	assert_copied(to, 0, LEN, 0);
	WORKS(close(to));
	WORKS(close(from));
	to = open("to", O_RDONLY | O_CLOEXEC);
	assert_copied(to, 0, LEN, 0);
	WORKS(close(to));
}

static void test_parts_at_any_offset(void)
{
	static const struct {
		off_t in, out;
		size_t len;
	} cases[] = {
		{ 0, 0, 1 },
		{ 0, 1, 1000 },
		{ 1, 0, 5000 },
		{ 4096, 8192, 4096 },
		{ 131072, 131072, 131072 },
		{ 131072, 0, 262144 },
		{ 130000, 130500, 3000 },
		{ 7, 131065, 200000 },
		{ 400000, 900000, 100000 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int from = source_of(LEN), to = target();

		copy(from, to, cases[i].in, cases[i].out, cases[i].len);
		SAME(cases[i].out + (off_t)cases[i].len, stat_of("to").st_size);
		if (cases[i].out)
			assert_copied(to, 0, (size_t)cases[i].out, -1);
		assert_copied(to, cases[i].out, cases[i].len, cases[i].in);
		WORKS(close(from));
		WORKS(close(to));
	}
}

static void test_over_what_is_there(void)
{
	int from = source_of(LEN), to = target();

	copy(from, to, 0, 0, LEN);
	copy(from, to, 1000, 200000, 100000);
	SAME(LEN, stat_of("to").st_size);
	assert_copied(to, 0, 200000, 0);
	assert_copied(to, 200000, 100000, 1000);
	assert_copied(to, 300000, 200000, 300000);
	WORKS(close(from));
	WORKS(close(to));
}

static void test_the_copy_is_a_copy(void)
{
	int from = source_of(LEN), to = target();

	copy(from, to, 0, 0, LEN);
	WORKS(fsync(to));
	SAME(3, pwrite(from, "new", 3, 1000));
	assert_copied(to, 0, LEN, 0);
	SAME(3, pwrite(to, "NEW", 3, 300000));
	WORKS(close(from));
	from = open("from", O_RDONLY | O_CLOEXEC);
	assert_copied(from, 2000, LEN - 2000, 2000);
	WORKS(unlink("from"));
	assert_copied(to, 0, 300000, 0);
	WORKS(close(from));
	WORKS(close(to));
}

static void test_within_one_file(void)
{
	int fd = source_of(LEN);
	loff_t in = 0, out = 1000;

	copy(fd, fd, 0, LEN, LEN);
	SAME(2 * LEN, stat_of("from").st_size);
	assert_copied(fd, 0, LEN, 0);
	assert_copied(fd, LEN, LEN, 0);
	FAILS(EINVAL, copy_file_range(fd, &in, fd, &out, 5000, 0)); /* they overlap */
	WORKS(close(fd));
}

static void test_beyond_the_end_there_is_nothing(void)
{
	int from = source_of(1000), to = target();
	loff_t in = 1000, out = 0;

	SAME(0, copy_file_range(from, &in, to, &out, 100, 0));
	in = 5000;
	SAME(0, copy_file_range(from, &in, to, &out, 100, 0));
	in = 900;
	SAME(100, copy_file_range(from, &in, to, &out, 5000, 0));
	SAME(1000, in);
	SAME(100, out);
	SAME(100, stat_of("to").st_size);
	SAME(0, copy_file_range(from, &in, to, &out, 0, 0));
	WORKS(close(from));
	WORKS(close(to));
}

static void test_without_offsets_the_positions_move(void)
{
	int from = source_of(1000), to = target();

	WORKS(lseek(from, 200, SEEK_SET));
	SAME(300, copy_file_range(from, NULL, to, NULL, 300, 0));
	SAME(500, lseek(from, 0, SEEK_CUR));
	SAME(300, lseek(to, 0, SEEK_CUR));
	assert_copied(to, 0, 300, 200);
	WORKS(close(from));
	WORKS(close(to));
}

static void test_of_what_was_just_written(void)
{
	int from = open("from", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644), to = target();
	char got[8] = "";

	SAME(5, write(from, "fresh", 5));
	copy(from, to, 0, 0, 5);
	SAME(5, pread(to, got, 8, 0));
	HOLDS(memcmp(got, "fresh", 5) == 0);
	SAME(5, pwrite(from, "other", 5, 0));
	copy(from, to, 0, 10, 5);
	SAME(5, pread(to, got, 8, 10));
	HOLDS(memcmp(got, "other", 5) == 0);
	WORKS(close(from));
	WORKS(close(to));
}

static void test_holes_are_copied_as_zeros(void)
{
	int from = open("from", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644), to = target();

	SAME(1, pwrite(from, "x", 1, 1 << 20));
	SAME(6, write(to, "before", 6));
	copy(from, to, 0, 0, (1 << 20) + 1);
	assert_copied(to, 0, 1 << 20, -1);
	SAME((1 << 20) + 1, stat_of("to").st_size);
	WORKS(close(from));
	WORKS(close(to));
}

static void test_the_target_changes_its_times_and_the_source_not(void)
{
	struct stat before_from, before_to;
	int from = source_of(1000), to = target();

	WORKS(fsync(from));
	before_from = stat_of("from");
	before_to = stat_of("to");
	tick();
	copy(from, to, 0, 0, 1000);
	HOLDS(ns_of(stat_of("to").st_mtim) > ns_of(before_to.st_mtim));
	SAME(ns_of(before_from.st_mtim), ns_of(stat_of("from").st_mtim));
	WORKS(close(from));
	WORKS(close(to));
}

static void test_what_cannot_be_copied(void)
{
	int from = source_of(1000), to = target(), read_only, dir, append;
	loff_t in = 0, out = 0, bad = -1;

	read_only = open("to", O_RDONLY | O_CLOEXEC);
	append = open("to", O_WRONLY | O_APPEND | O_CLOEXEC);
	dir = open(".", O_RDONLY | O_CLOEXEC);
	FAILS(EBADF, copy_file_range(from, &in, read_only, &out, 10, 0));
	FAILS(EBADF, copy_file_range(from, &in, append, &out, 10, 0));
	FAILS(EISDIR, copy_file_range(dir, &in, to, &out, 10, 0));
	FAILS(EINVAL, copy_file_range(from, &in, to, &out, 10, 1));
	HOLDS(copy_file_range(from, &bad, to, &out, 10, 0) == -1);
	WORKS(close(read_only));
	WORKS(close(append));
	WORKS(close(dir));
	WORKS(close(to));
	FAILS(EBADF, copy_file_range(from, &in, to, &out, 10, 0));
	WORKS(close(from));
	SAME(0, stat_of("to").st_size);
}

static void test_to_and_from_a_file_without_a_name(void)
{
	int from = source_of(LEN), to = target();

	WORKS(unlink("from"));
	copy(from, to, 0, 0, LEN);
	WORKS(unlink("to"));
	copy(from, to, 100, 0, 1000);
	assert_copied(to, 0, 1000, 100);
	assert_copied(to, 1000, LEN - 1000, 1000);
	WORKS(close(from));
	WORKS(close(to));
}

static void test_cp_makes_the_same(void)
{
	int from = source_of(LEN), to;

	WORKS(close(from));
	SAME(0, system("cp --reflink=auto from to"));
	to = open("to", O_RDONLY | O_CLOEXEC);
	assert_copied(to, 0, LEN, 0);
	WORKS(close(to));
	SAME(0, system("cp --sparse=always from to2 && cmp from to2"));
}

CU_TestInfo copy_tests[] = {
	UNIT_TEST(test_a_whole_file),
	UNIT_TEST(test_parts_at_any_offset),
	UNIT_TEST(test_over_what_is_there),
	UNIT_TEST(test_the_copy_is_a_copy),
	UNIT_TEST(test_within_one_file),
	UNIT_TEST(test_beyond_the_end_there_is_nothing),
	UNIT_TEST(test_without_offsets_the_positions_move),
	UNIT_TEST(test_of_what_was_just_written),
	UNIT_TEST(test_holes_are_copied_as_zeros),
	UNIT_TEST(test_the_target_changes_its_times_and_the_source_not),
	UNIT_TEST(test_what_cannot_be_copied),
	UNIT_TEST(test_to_and_from_a_file_without_a_name),
	UNIT_TEST(test_cp_makes_the_same),
	CU_TEST_INFO_NULL,
};
