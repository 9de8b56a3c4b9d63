/* read(2), write(2) and their kin, lseek(2), fsync(2), O_APPEND, O_SYNC, O_DIRECT. */
#include "tests/posix/posix.h"

#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/wait.h>

static int fresh(int flags)
{
	int fd = open("f", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | flags, 0644);

	HOLDS(fd >= 0);
	return fd;
}

static void test_what_is_written_is_read(void)
{
	static const size_t sizes[] = { 1,    2,    511,   512,    1023,   1024,   1025,   4095,
					4096, 4097, 65536, 131071, 131072, 131073, 262144, 1 << 20 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char *data = malloc(sizes[i]), *got = malloc(sizes[i] + 10);
		int fd = fresh(0);

		for (size_t j = 0; j < sizes[i]; j++)
			data[j] = (char)(j * 7 + j / 251);
		SAME((int64_t)sizes[i], write(fd, data, sizes[i]));
		SAME((int64_t)sizes[i], lseek(fd, 0, SEEK_CUR));
		SAME(0, read(fd, got, 10));
		SAME(0, lseek(fd, 0, SEEK_SET));
		SAME((int64_t)sizes[i], read(fd, got, sizes[i] + 10));
		HOLDS(memcmp(data, got, sizes[i]) == 0);
		WORKS(close(fd));
		fd = open("f", O_RDONLY | O_CLOEXEC);
		SAME((int64_t)sizes[i], read(fd, got, sizes[i] + 10));
		HOLDS(memcmp(data, got, sizes[i]) == 0);
		WORKS(close(fd));
		free(data);
		free(got);
	}
}

static void test_positions(void)
{
	char got[16] = "";
	int fd = fresh(0), twin, other;

	SAME(10, write(fd, "0123456789", 10));
	SAME(3, lseek(fd, 3, SEEK_SET));
	SAME(2, read(fd, got, 2));
	HOLDS(memcmp(got, "34", 2) == 0);
	SAME(6, lseek(fd, 1, SEEK_CUR));
	SAME(8, lseek(fd, -2, SEEK_END));
	SAME(2, read(fd, got, 10));
	SAME(20, lseek(fd, 10, SEEK_END));
	SAME(0, read(fd, got, 1));
	FAILS(EINVAL, lseek(fd, -1, SEEK_SET));
	FAILS(EINVAL, lseek(fd, -11, SEEK_END));
	FAILS(EINVAL, lseek(fd, 0, 77));
	SAME(20, lseek(fd, 0, SEEK_CUR));
	/* pread and pwrite do not move. */
	SAME(2, pread(fd, got, 2, 5));
	HOLDS(memcmp(got, "56", 2) == 0);
	SAME(1, pwrite(fd, "x", 1, 0));
	SAME(20, lseek(fd, 0, SEEK_CUR));
	FAILS(EINVAL, pread(fd, got, 1, -1));
	FAILS(EINVAL, pwrite(fd, got, 1, -1));
	/* A duplicate shares the position, another opening does not. */
	twin = dup(fd);
	other = open("f", O_RDONLY | O_CLOEXEC);
	SAME(4, lseek(twin, 4, SEEK_SET));
	SAME(4, lseek(fd, 0, SEEK_CUR));
	SAME(0, lseek(other, 0, SEEK_CUR));
	WORKS(close(fd));
	SAME(1, read(twin, got, 1));
	SAME('4', got[0]);
	WORKS(close(twin));
	WORKS(close(other));
	WORKS(mkfifo("p", 0644));
	fd = open("p", O_RDWR | O_CLOEXEC);
	FAILS(ESPIPE, lseek(fd, 0, SEEK_SET));
	FAILS(ESPIPE, pread(fd, got, 1, 0));
	WORKS(close(fd));
}

static void test_what_is_written_beyond_the_end_leaves_zeros(void)
{
	char got[100];
	int fd = fresh(0);

	SAME(1, write(fd, "a", 1));
	SAME(1, pwrite(fd, "b", 1, 50));
	SAME(51, stat_of("f").st_size);
	SAME(51, pread(fd, got, sizeof(got), 0));
	SAME('a', got[0]);
	SAME('b', got[50]);
	for (int i = 1; i < 50; i++)
		if (got[i])
			CU_FAIL("not zero");
	WORKS(close(fd));
}

static void test_an_overwrite_changes_only_what_it_covers(void)
{
	char got[32] = "";
	int fd = fresh(0);

	SAME(26, write(fd, "abcdefghijklmnopqrstuvwxyz", 26));
	SAME(3, pwrite(fd, "XYZ", 3, 10));
	SAME(26, pread(fd, got, 26, 0));
	HOLDS(strcmp(got, "abcdefghijXYZnopqrstuvwxyz") == 0);
	SAME(2, pwrite(fd, "!!", 2, 25));
	SAME(27, stat_of("f").st_size);
	WORKS(close(fd));
}

static void test_many_small_writes_make_one_file(void)
{
	enum { N = 5000 };
	char got[16];
	int fd = fresh(0);
	unsigned wrong = 0;

	for (int i = 0; i < N; i++) {
		char line[16];
		int len = snprintf(line, sizeof(line), "%07d\n", i);

		wrong += write(fd, line, (size_t)len) != len;
	}
	SAME(N * 8, stat_of("f").st_size);
	for (int i = 0; i < N; i++) {
		wrong += pread(fd, got, 8, (off_t)(N - 1 - i) * 8) != 8;
		got[7] = '\0';
		wrong += atoi(got) != N - 1 - i;
	}
	SAME(0, wrong);
	WORKS(close(fd));
}

static void test_vectors(void)
{
	char a[4] = "", b[8] = "", c[2] = "";
	struct iovec out[3] = { { "one", 3 }, { "", 0 }, { "three", 5 } };
	struct iovec in[3] = { { a, 3 }, { b, 5 }, { c, 2 } };
	int fd = fresh(0);
	volatile int none = -1;

	SAME(8, writev(fd, out, 3));
	SAME(0, lseek(fd, 0, SEEK_SET));
	SAME(8, readv(fd, in, 3));
	HOLDS(memcmp(a, "one", 3) == 0);
	HOLDS(memcmp(b, "three", 5) == 0);
	SAME(8, pwritev(fd, out, 3, 100));
	SAME(108, stat_of("f").st_size);
	SAME(8, preadv(fd, in, 3, 100));
	SAME(8, pwritev2(fd, out, 3, -1, RWF_APPEND));
	SAME(116, stat_of("f").st_size);
	SAME(8, pwritev2(fd, out, 3, 0, RWF_SYNC));
	FAILS(EINVAL, readv(fd, in, none));
	FAILS(EOPNOTSUPP, pwritev2(fd, out, 3, 0, 0x40000000));
	WORKS(close(fd));
}

static void test_appending_writes_at_the_end(void)
{
	char got[16] = "";
	int a = fresh(O_APPEND), b;

	b = open("f", O_WRONLY | O_APPEND | O_CLOEXEC);
	SAME(2, write(a, "a1", 2));
	SAME(2, write(b, "b1", 2));
	SAME(2, write(a, "a2", 2));
	SAME(0, lseek(b, 0, SEEK_SET));
	SAME(2, write(b, "b2", 2));
	SAME(8, lseek(b, 0, SEEK_CUR));
	SAME(8, pread(a, got, 16, 0));
	HOLDS(strcmp(got, "a1b1a2b2") == 0);
	WORKS(truncate("f", 2));
	SAME(2, write(a, "a3", 2));
	assert_content("f", "a1a3");
	WORKS(close(a));
	WORKS(close(b));
}

static void test_appending_by_many_loses_nothing(void)
{
	enum { WRITERS = 4, LINES = 200, LEN = 32 };
	unsigned lines[WRITERS] = { 0 }, wrong = 0;
	char line[LEN + 1] = "";
	int fd = fresh(0);
	FILE *f;

	for (int w = 0; w < WRITERS; w++) {
		if (fork() == 0) {
			int own = open("f", O_WRONLY | O_APPEND | O_CLOEXEC);
			int bad = 0;

			for (int i = 0; i < LINES; i++) {
				memset(line, 'a' + w, LEN - 1);
				line[LEN - 1] = '\n';
				bad |= write(own, line, LEN) != LEN;
			}
			close(own);
			_exit(bad);
		}
	}
	for (int w = 0; w < WRITERS; w++) {
		int status = 1;

		wait(&status);
		SAME(0, status);
	}
	SAME(WRITERS * LINES * LEN, stat_of("f").st_size);
	f = fopen("f", "r");
	while (f && fread(line, 1, LEN, f) == LEN) {
		int w = line[0] - 'a';

		for (int i = 0; i < LEN - 1; i++)
			wrong += line[i] != line[0];
		if (w >= 0 && w < WRITERS)
			lines[w]++;
	}
	for (int w = 0; w < WRITERS; w++)
		SAME(LINES, lines[w]);
	SAME(0, wrong);
	if (f)
		fclose(f);
	WORKS(close(fd));
}

static void test_a_writer_is_seen_at_once(void)
{
	char got[8] = "";
	int writer = fresh(0), reader = open("f", O_RDONLY | O_CLOEXEC);

	for (int i = 0; i < 50; i++) {
		char byte = (char)('a' + i % 26);

		SAME(1, pwrite(writer, &byte, 1, i * 1000));
		SAME(1, pread(reader, got, 1, i * 1000));
		SAME(byte, got[0]);
		SAME(i * 1000 + 1, stat_of("f").st_size);
	}
	WORKS(ftruncate(writer, 10));
	SAME(0, pread(reader, got, 1, 10));
	WORKS(close(writer));
	WORKS(close(reader));
}

static void test_syncing(void)
{
	int fd = fresh(0), dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	SAME(4, write(fd, "data", 4));
	WORKS(fsync(fd));
	SAME(4, write(fd, "more", 4));
	WORKS(fdatasync(fd));
	WORKS(fsync(dir));
	WORKS(fdatasync(dir));
	WORKS(syncfs(fd));
	WORKS(sync_file_range(fd, 0, 8, SYNC_FILE_RANGE_WRITE));
	WORKS(close(fd));
	WORKS(close(dir));
	FAILS(EBADF, fsync(fd));
	FAILS(EBADF, syncfs(fd));
	fd = open("f", O_RDONLY | O_CLOEXEC);
	WORKS(fsync(fd)); /* also of what is open for reading only */
	WORKS(close(fd));
	WORKS(mkfifo("p", 0644));
	fd = open("p", O_RDWR | O_CLOEXEC);
	FAILS(EINVAL, fsync(fd));
	WORKS(close(fd));
	assert_content("f", "datamore");
}

static void test_synchronous_writing(void)
{
	static const int flags[] = { O_SYNC, O_DSYNC, O_SYNC | O_APPEND };

	for (size_t i = 0; i < 3; i++) {
		int fd = fresh(flags[i]);

		SAME(4, write(fd, "data", 4));
		SAME(4, write(fd, "more", 4));
		assert_content("f", "datamore");
		WORKS(close(fd));
	}
}

static void test_direct_io(void)
{
	char *bytes = aligned_alloc(4096, 8192);
	int fd;

	if (!bytes || !need(F_DIRECT)) {
		free(bytes);
		return;
	}
	memset(bytes, 'd', 8192);
	fd = fresh(O_DIRECT);
	SAME(8192, pwrite(fd, bytes, 8192, 0));
	memset(bytes, 0, 8192);
	SAME(4096, pread(fd, bytes, 4096, 4096));
	SAME('d', bytes[0]);
	SAME('d', bytes[4095]);
	SAME(0, pread(fd, bytes, 4096, 8192));
	WORKS(close(fd));
	/* Beside what others have in their pages. */
	fd = open("f", O_RDWR | O_CLOEXEC);
	SAME(1, pwrite(fd, "p", 1, 0));
	WORKS(fsync(fd));
	WORKS(close(fd));
	fd = open("f", O_RDWR | O_DIRECT | O_CLOEXEC);
	SAME(4096, pread(fd, bytes, 4096, 0));
	SAME('p', bytes[0]);
	memset(bytes, 'e', 4096);
	SAME(4096, pwrite(fd, bytes, 4096, 0));
	WORKS(close(fd));
	fd = open("f", O_RDONLY | O_CLOEXEC);
	SAME(1, pread(fd, bytes, 1, 100));
	SAME('e', bytes[0]);
	WORKS(close(fd));
	free(bytes);
}

static void test_reading_and_writing_nothing(void)
{
	char byte = 'x';
	int fd = fresh(0);

	SAME(0, write(fd, &byte, 0));
	SAME(0, read(fd, &byte, 0));
	SAME(0, read(fd, &byte, 1));
	SAME(0, stat_of("f").st_size);
	SAME(0, pwrite(fd, &byte, 0, 100));
	SAME(0, stat_of("f").st_size);
	WORKS(close(fd));
}

static void test_bad_addresses(void)
{
#ifndef __SANITIZE_ADDRESS__
	volatile uintptr_t nowhere = 1;
	void *bad = (void *)nowhere;
	int fd = fresh(0);

	SAME(3, write(fd, "abc", 3));
	FAILS(EFAULT, write(fd, bad, 10));
	FAILS(EFAULT, pread(fd, bad, 3, 0));
	SAME(3, stat_of("f").st_size);
	WORKS(close(fd));
#endif
}

static void test_sendfile_and_splice(void)
{
	loff_t in_off = 2, out_off = 0;
	off_t off = 0;
	int fd = fresh(0), out, pipes[2];
	char got[16] = "";

	SAME(8, write(fd, "contents", 8));
	out = open("g", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	SAME(8, sendfile(out, fd, &off, 100));
	SAME(8, off);
	SAME(8, pread(out, got, 16, 0));
	HOLDS(strcmp(got, "contents") == 0);
	WORKS(pipe2(pipes, O_CLOEXEC));
	SAME(6, splice(fd, &in_off, pipes[1], NULL, 6, 0));
	SAME(6, splice(pipes[0], NULL, out, &out_off, 6, 0));
	SAME(8, pread(out, got, 16, 0));
	HOLDS(strcmp(got, "ntentsts") == 0);
	close(pipes[0]);
	close(pipes[1]);
	WORKS(close(out));
	WORKS(close(fd));
}

static void test_advice_is_taken(void)
{
	int fd = fresh(0);

	SAME(4, write(fd, "data", 4));
	SAME(0, posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL));
	SAME(0, posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED));
	SAME(0, posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	SAME(EINVAL, posix_fadvise(fd, 0, 0, 77));
	WORKS(readahead(fd, 0, 4096));
	assert_content("f", "data");
	WORKS(close(fd));
}

CU_TestInfo io_tests[] = {
	UNIT_TEST(test_what_is_written_is_read),
	UNIT_TEST(test_positions),
	UNIT_TEST(test_what_is_written_beyond_the_end_leaves_zeros),
	UNIT_TEST(test_an_overwrite_changes_only_what_it_covers),
	UNIT_TEST(test_many_small_writes_make_one_file),
	UNIT_TEST(test_vectors),
	UNIT_TEST(test_appending_writes_at_the_end),
	UNIT_TEST(test_appending_by_many_loses_nothing),
	UNIT_TEST(test_a_writer_is_seen_at_once),
	UNIT_TEST(test_syncing),
	UNIT_TEST(test_synchronous_writing),
	UNIT_TEST(test_direct_io),
	UNIT_TEST(test_reading_and_writing_nothing),
	UNIT_TEST(test_bad_addresses),
	UNIT_TEST(test_sendfile_and_splice),
	UNIT_TEST(test_advice_is_taken),
	CU_TEST_INFO_NULL,
};
