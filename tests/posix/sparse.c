/* Holes: SEEK_DATA and SEEK_HOLE, and what they cost. */
#include "tests/posix/posix.h"

enum { K = 1024, M = 1024 * 1024 };

static int fresh(void)
{
	int fd = open("f", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	HOLDS(fd >= 0);
	return fd;
}

static void put(int fd, off_t off, size_t len)
{
	char *data = malloc(len);

	memset(data, 'x', len);
	SAME((int64_t)len, pwrite(fd, data, len, off));
	free(data);
}

static void test_a_file_without_holes(void)
{
	int fd = fresh();

	put(fd, 0, 300 * K);
	SAME(0, lseek(fd, 0, SEEK_DATA));
	SAME(100, lseek(fd, 100, SEEK_DATA));
	SAME(300 * K, lseek(fd, 0, SEEK_HOLE)); /* there is one at the end */
	SAME(300 * K, lseek(fd, 299 * K, SEEK_HOLE));
	FAILS(ENXIO, lseek(fd, 300 * K, SEEK_DATA));
	FAILS(ENXIO, lseek(fd, 300 * K, SEEK_HOLE));
	FAILS(ENXIO, lseek(fd, 500 * K, SEEK_DATA));
	FAILS(ENXIO, lseek(fd, 500 * K, SEEK_HOLE));
	FAILS(ENXIO, lseek(fd, -1, SEEK_DATA));
	FAILS(ENXIO, lseek(fd, -1, SEEK_HOLE));
	WORKS(close(fd));
}

static void test_an_empty_file(void)
{
	int fd = fresh();

	FAILS(ENXIO, lseek(fd, 0, SEEK_DATA));
	FAILS(ENXIO, lseek(fd, 0, SEEK_HOLE));
	WORKS(close(fd));
}

static void test_a_file_that_is_a_hole(void)
{
	int fd;

	if (!need(F_HOLES))
		return;
	fd = fresh();
	WORKS(ftruncate(fd, M));
	FAILS(ENXIO, lseek(fd, 0, SEEK_DATA));
	SAME(0, lseek(fd, 0, SEEK_HOLE));
	SAME(500, lseek(fd, 500, SEEK_HOLE));
	SAME(0, stat_of("f").st_blocks);
	WORKS(close(fd));
}

/* Data at 1 MiB and at 3 MiB, 128 KiB each, and the end at 8 MiB. */
static void check_islands(int fd)
{
	off_t data, hole;

	data = lseek(fd, 0, SEEK_DATA);
	HOLDS(data > 0 && data <= M);
	hole = lseek(fd, data, SEEK_HOLE);
	HOLDS(hole >= M + 128 * K && hole <= 3 * M);
	data = lseek(fd, hole, SEEK_DATA);
	HOLDS(data > hole && data <= 3 * M);
	hole = lseek(fd, data, SEEK_HOLE);
	HOLDS(hole >= 3 * M + 128 * K && hole <= 8 * M);
	FAILS(ENXIO, lseek(fd, hole, SEEK_DATA));
	SAME(hole, lseek(fd, hole, SEEK_HOLE));
	SAME(0, lseek(fd, 0, SEEK_HOLE));
	HOLDS(stat_of("f").st_blocks < 2048);
	HOLDS(stat_of("f").st_blocks >= 512);
}

static void test_islands_of_data(void)
{
	int fd;

	if (!need(F_HOLES))
		return;
	fd = fresh();
	put(fd, M, 128 * K);
	put(fd, 3 * M, 128 * K);
	WORKS(ftruncate(fd, 8 * M));
	check_islands(fd);
	WORKS(fsync(fd));
	check_islands(fd);
	WORKS(close(fd));
	fd = open("f", O_RDONLY | O_CLOEXEC);
	check_islands(fd);
	WORKS(close(fd));
}

static void test_a_filled_hole_is_data(void)
{
	int fd;

	if (!need(F_HOLES))
		return;
	fd = fresh();
	WORKS(ftruncate(fd, 1 * M));
	put(fd, 256 * K, 128 * K);
	put(fd, 0, 256 * K);
	SAME(0, lseek(fd, 0, SEEK_DATA));
	SAME(384 * K, lseek(fd, 0, SEEK_HOLE));
	WORKS(close(fd));
}

static void test_zeros_that_are_written_are_data(void)
{
	char *zeros = calloc(1, 256 * K);
	int fd;

	if (!need(F_HOLES)) {
		free(zeros);
		return;
	}
	fd = fresh();
	SAME(256 * K, write(fd, zeros, 256 * K));
	WORKS(fsync(fd));
	SAME(0, lseek(fd, 0, SEEK_DATA));
	SAME(256 * K, lseek(fd, 0, SEEK_HOLE));
	HOLDS(stat_of("f").st_blocks >= 512);
	WORKS(close(fd));
	free(zeros);
}

static void test_a_very_large_hole_costs_nothing(void)
{
	off_t far = (off_t)1 << 42;
	char got[4096];
	int fd;

	if (!need(F_HOLES))
		return;
	fd = fresh();
	put(fd, far, 1);
	SAME(far + 1, stat_of("f").st_size);
	HOLDS(stat_of("f").st_blocks < 2048);
	HOLDS(lseek(fd, 0, SEEK_DATA) > far - M);
	SAME((int64_t)sizeof(got), pread(fd, got, sizeof(got), far / 2));
	for (size_t i = 0; i < sizeof(got); i++)
		if (got[i])
			CU_FAIL("not zero");
	WORKS(close(fd));
}

static void test_seeking_holes_moves_the_position(void)
{
	char byte = 0;
	int fd;

	if (!need(F_HOLES))
		return;
	fd = fresh();
	put(fd, M, 4096);
	WORKS(lseek(fd, 4096 * 10, SEEK_DATA));
	HOLDS(lseek(fd, 0, SEEK_CUR) > 4096 * 10);
	FAILS(ENXIO, lseek(fd, M + 4096, SEEK_DATA));
	HOLDS(lseek(fd, 0, SEEK_CUR) <= M);
	SAME(M, lseek(fd, M, SEEK_DATA));
	SAME(1, read(fd, &byte, 1));
	SAME('x', byte);
	WORKS(close(fd));
}

CU_TestInfo sparse_tests[] = {
	UNIT_TEST(test_a_file_without_holes),
	UNIT_TEST(test_an_empty_file),
	UNIT_TEST(test_a_file_that_is_a_hole),
	UNIT_TEST(test_islands_of_data),
	UNIT_TEST(test_a_filled_hole_is_data),
	UNIT_TEST(test_zeros_that_are_written_are_data),
	UNIT_TEST(test_a_very_large_hole_costs_nothing),
	UNIT_TEST(test_seeking_holes_moves_the_position),
	CU_TEST_INFO_NULL,
};
