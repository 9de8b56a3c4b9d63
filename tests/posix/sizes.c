/* truncate(2), ftruncate(2), fallocate(2). */
#include "tests/posix/posix.h"

#include <linux/falloc.h>
#include <signal.h>
#include <sys/resource.h>

/* Asserts that `len` bytes at `off` are all `byte`. */
static void assert_bytes(int fd, off_t off, size_t len, int byte)
{
	char *got = malloc(len);
	size_t same = 0;

	memset(got, ~byte, len);
	SAME((int64_t)len, pread(fd, got, len, off));
	while (same < len && (unsigned char)got[same] == byte)
		same++;
	SAME((int64_t)len, (int64_t)same);
	free(got);
}

static int file_of(size_t len, int byte)
{
	char *data = malloc(len);
	int fd = open("f", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	memset(data, byte, len);
	SAME((int64_t)len, write(fd, data, len));
	free(data);
	return fd;
}

static void test_cut_and_grown_again_it_is_zero(void)
{
	static const size_t sizes[] = { 1,    100,  1023,   1024,   1025,   4095,
					4096, 4097, 131071, 131072, 131073, 300000 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t size = sizes[i];
		int fd = file_of(size, 'x');

		WORKS(ftruncate(fd, (off_t)(size / 2)));
		SAME((int64_t)(size / 2), stat_of("f").st_size);
		WORKS(ftruncate(fd, (off_t)(size * 2)));
		SAME((int64_t)(size * 2), stat_of("f").st_size);
		assert_bytes(fd, 0, size / 2, 'x');
		assert_bytes(fd, (off_t)(size / 2), size * 2 - size / 2, 0);
		WORKS(close(fd));
	}
}

static void test_truncate_by_path(void)
{
	make_file("f", 0644, "content");
	WORKS(truncate("f", 4));
	assert_content("f", "cont");
	WORKS(truncate("f", 0));
	SAME(0, stat_of("f").st_size);
	WORKS(truncate("f", 1 << 30));
	SAME(1 << 30, stat_of("f").st_size);
	WORKS(truncate("f", 7));
	SAME(7, stat_of("f").st_size);
	WORKS(symlink("f", "l"));
	WORKS(truncate("l", 3));
	SAME(3, stat_of("f").st_size);
}

static void test_what_cannot_be_truncated(void)
{
	int fd;

	make_file("f", 0644, "x");
	make_dir("d", 0755);
	WORKS(mkfifo("p", 0644));
	FAILS(EINVAL, truncate("f", -1));
	FAILS(EISDIR, truncate("d", 0));
	FAILS(EINVAL, truncate("p", 0));
	FAILS(EISDIR, truncate(".", 0));
	fd = open("f", O_RDWR | O_CLOEXEC);
	FAILS(EINVAL, ftruncate(fd, -1));
	WORKS(close(fd));
	FAILS(EBADF, ftruncate(fd, 0));
}

static void test_the_limit_of_the_process(void)
{
	struct rlimit old, low = { 1000, RLIM_INFINITY };
	int fd;

	signal(SIGXFSZ, SIG_IGN);
	WORKS(getrlimit(RLIMIT_FSIZE, &old));
	low.rlim_max = old.rlim_max;
	fd = file_of(500, 'x');
	WORKS(setrlimit(RLIMIT_FSIZE, &low));
	FAILS(EFBIG, ftruncate(fd, 1001));
	FAILS(EFBIG, truncate("f", 1001));
	WORKS(ftruncate(fd, 1000));
	SAME(4, pwrite(fd, "12345678", 8, 996)); /* what fits */
	FAILS(EFBIG, pwrite(fd, "x", 1, 1000));
	FAILS(EFBIG, fallocate(fd, 0, 0, 1001));
	WORKS(setrlimit(RLIMIT_FSIZE, &old));
	signal(SIGXFSZ, SIG_DFL);
	SAME(1000, stat_of("f").st_size);
	WORKS(close(fd));
}

static void test_sizes_beyond_32_bits(void)
{
	static const off_t sizes[] = { (off_t)1 << 31, ((off_t)1 << 32) - 1, (off_t)1 << 32,
				       ((off_t)1 << 32) + 1, (off_t)1 << 40 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int fd = file_of(10, 'x');

		WORKS(ftruncate(fd, sizes[i]));
		SAME(sizes[i], stat_of("f").st_size);
		SAME(1, pwrite(fd, "y", 1, sizes[i] - 1));
		assert_bytes(fd, sizes[i] - 1, 1, 'y');
		assert_bytes(fd, sizes[i] - 3, 2, 0);
		assert_bytes(fd, 0, 10, 'x');
		WORKS(close(fd));
	}
}

static void test_truncating_gives_the_space_back(void)
{
	int fd = file_of(1 << 20, 'x');

	WORKS(fsync(fd));
	HOLDS(stat_of("f").st_blocks >= 2000);
	WORKS(ftruncate(fd, 4096));
	HOLDS(stat_of("f").st_blocks <= 16);
	WORKS(ftruncate(fd, 0));
	SAME(0, stat_of("f").st_blocks);
	WORKS(close(fd));
}

/* ---- fallocate ------------------------------------------------------------------------------------- */

static void test_allocating_makes_larger_and_changes_nothing(void)
{
	int fd = file_of(100, 'x');

	WORKS(fallocate(fd, 0, 0, 50));
	SAME(100, stat_of("f").st_size);
	WORKS(fallocate(fd, 0, 50, 10000));
	SAME(10050, stat_of("f").st_size);
	assert_bytes(fd, 0, 100, 'x');
	assert_bytes(fd, 100, 9950, 0);
	SAME(0, posix_fallocate(fd, 0, 20000));
	SAME(20000, stat_of("f").st_size);
	WORKS(close(fd));
}

static void test_keep_size_keeps_the_size(void)
{
	int fd;

	if (!need(F_PUNCH))
		return;
	fd = file_of(100, 'x');
	WORKS(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100000));
	SAME(100, stat_of("f").st_size);
	WORKS(fallocate(fd, FALLOC_FL_KEEP_SIZE, 1 << 20, 100000));
	SAME(100, stat_of("f").st_size);
	assert_bytes(fd, 0, 100, 'x');
	WORKS(close(fd));
}

static void test_a_punched_hole_is_zero(void)
{
	static const struct {
		off_t off, len;
	} cases[] = { { 0, 1 },         { 10, 100 },     { 4096, 4096 }, { 4000, 9000 },
		      { 131072, 4096 }, { 131000, 200 }, { 0, 262144 },  { 299000, 5000 } };

	if (!need(F_PUNCH))
		return;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		off_t off = cases[i].off, end = off + cases[i].len;
		int fd = file_of(300000, 'x');

		WORKS(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, cases[i].len));
		SAME(300000, stat_of("f").st_size);
		if (off)
			assert_bytes(fd, 0, (size_t)off, 'x');
		assert_bytes(fd, off, (size_t)((end < 300000 ? end : 300000) - off), 0);
		if (end < 300000)
			assert_bytes(fd, end, (size_t)(300000 - end), 'x');
		WORKS(close(fd));
	}
}

static void test_a_hole_gives_space_back(void)
{
	blkcnt_t before;
	int fd;

	if (!need(F_PUNCH))
		return;
	fd = file_of(1 << 20, 'x');
	WORKS(fsync(fd));
	before = stat_of("f").st_blocks;
	WORKS(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1 << 17, 1 << 19));
	WORKS(fsync(fd));
	HOLDS(stat_of("f").st_blocks <= before - 1000);
	WORKS(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 20));
	WORKS(fsync(fd));
	HOLDS(stat_of("f").st_blocks <= 16);
	WORKS(close(fd));
}

static void test_zero_range_is_zero(void)
{
	int fd;

	if (!need(F_ZERO))
		return;
	fd = file_of(10000, 'x');
	WORKS(fallocate(fd, FALLOC_FL_ZERO_RANGE, 100, 200));
	assert_bytes(fd, 0, 100, 'x');
	assert_bytes(fd, 100, 200, 0);
	assert_bytes(fd, 300, 9700, 'x');
	WORKS(fallocate(fd, FALLOC_FL_ZERO_RANGE, 9000, 11000));
	SAME(20000, stat_of("f").st_size);
	assert_bytes(fd, 9000, 11000, 0);
	WORKS(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 19000, 11000));
	SAME(20000, stat_of("f").st_size);
	WORKS(close(fd));
}

static void test_what_cannot_be_allocated(void)
{
	int fd = file_of(10, 'x'), dir;

	FAILS(EINVAL, fallocate(fd, 0, 0, 0));
	FAILS(EINVAL, fallocate(fd, 0, -1, 10));
	FAILS(EINVAL, fallocate(fd, 0, 0, -1));
	FAILS(EFBIG, fallocate(fd, 0, INT64_MAX, 10));
	FAILS(EOPNOTSUPP, fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10)); /* KEEP_SIZE belongs to it */
	FAILS(EOPNOTSUPP, fallocate(fd, 0x4000, 0, 10));
	WORKS(close(fd));
	FAILS(EBADF, fallocate(fd, 0, 0, 10));
	fd = open("f", O_RDONLY | O_CLOEXEC);
	FAILS(EBADF, fallocate(fd, 0, 0, 10));
	WORKS(close(fd));
	dir = open(".", O_RDONLY | O_CLOEXEC);
	FAILS(EBADF, fallocate(dir, 0, 0, 10));
	WORKS(close(dir));
	SAME(10, stat_of("f").st_size);
}

CU_TestInfo size_tests[] = {
	UNIT_TEST(test_cut_and_grown_again_it_is_zero),
	UNIT_TEST(test_truncate_by_path),
	UNIT_TEST(test_what_cannot_be_truncated),
	UNIT_TEST(test_the_limit_of_the_process),
	UNIT_TEST(test_sizes_beyond_32_bits),
	UNIT_TEST(test_truncating_gives_the_space_back),
	UNIT_TEST(test_allocating_makes_larger_and_changes_nothing),
	UNIT_TEST(test_keep_size_keeps_the_size),
	UNIT_TEST(test_a_punched_hole_is_zero),
	UNIT_TEST(test_a_hole_gives_space_back),
	UNIT_TEST(test_zero_range_is_zero),
	UNIT_TEST(test_what_cannot_be_allocated),
	CU_TEST_INFO_NULL,
};
