/* mmap(2): shared and private, beside read and write. */
#include "tests/posix/posix.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { PAGE = 4096 };

static int file_of(size_t len, int byte)
{
	char *data = malloc(len);
	int fd = open("f", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	memset(data, byte, len);
	SAME((int64_t)len, write(fd, data, len));
	free(data);
	return fd;
}

static char *map(int fd, size_t len, int prot, int flags)
{
	char *at = mmap(NULL, len, prot, flags, fd, 0);

	HOLDS(at != MAP_FAILED);
	return at;
}

static void test_a_shared_map_is_the_file(void)
{
	int fd = file_of(3 * PAGE, 'a');
	char *at = map(fd, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED), byte = 0;

	SAME('a', at[0]);
	at[100] = 'm';
	SAME(1, pread(fd, &byte, 1, 100));
	SAME('m', byte);
	SAME(1, pwrite(fd, "w", 1, PAGE + 5));
	SAME('w', at[PAGE + 5]);
	WORKS(msync(at, 3 * PAGE, MS_SYNC));
	WORKS(munmap(at, 3 * PAGE));
	WORKS(close(fd));
	fd = open("f", O_RDONLY | O_CLOEXEC);
	SAME(1, pread(fd, &byte, 1, 100));
	SAME('m', byte);
	SAME(1, pread(fd, &byte, 1, PAGE + 5));
	SAME('w', byte);
	WORKS(close(fd));
}

static void test_a_map_outlives_its_descriptor(void)
{
	int fd = file_of(PAGE, 'a');
	char *at = map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);

	WORKS(close(fd));
	at[7] = 'z';
	WORKS(unlink("f"));
	SAME('z', at[7]);
	SAME('a', at[8]);
	at[8] = 'y';
	WORKS(munmap(at, PAGE));
}

static void test_what_is_written_by_a_map_stays_without_msync(void)
{
	int fd = file_of(PAGE, 'a');
	char *at = map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED), byte = 0;

	WORKS(close(fd));
	memset(at, 'b', PAGE);
	WORKS(munmap(at, PAGE));
	fd = open("f", O_RDONLY | O_CLOEXEC);
	SAME(1, pread(fd, &byte, 1, PAGE - 1));
	SAME('b', byte);
	WORKS(close(fd));
	SAME(PAGE, stat_of("f").st_size);
}

static void test_two_maps_are_one(void)
{
	int fd = file_of(PAGE, 'a'), other = open("f", O_RDWR | O_CLOEXEC), status = 1;
	char *one = map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
	char *two = map(other, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
	pid_t pid;

	one[1] = '1';
	SAME('1', two[1]);
	two[2] = '2';
	SAME('2', one[2]);
	pid = fork();
	if (pid == 0) {
		two[3] = '3';
		_exit(one[1] == '1' ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	SAME(0, status);
	SAME('3', one[3]);
	WORKS(munmap(one, PAGE));
	WORKS(munmap(two, PAGE));
	WORKS(close(fd));
	WORKS(close(other));
}

static void test_a_private_map_keeps_its_changes(void)
{
	int fd = file_of(PAGE, 'a');
	char *at = map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE), byte = 0;

	at[10] = 'p';
	SAME(1, pread(fd, &byte, 1, 10));
	SAME('a', byte);
	WORKS(munmap(at, PAGE));
	WORKS(close(fd));
	fd = open("f", O_RDONLY | O_CLOEXEC);
	at = map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	at[0] = 'q';
	SAME('q', at[0]);
	WORKS(munmap(at, PAGE));
	WORKS(close(fd));
	SAME('a', byte);
}

static void test_what_may_be_mapped(void)
{
	int fd = file_of(PAGE, 'a'), read_only = open("f", O_RDONLY | O_CLOEXEC),
	    write_only = open("f", O_WRONLY | O_CLOEXEC), dir = open(".", O_RDONLY | O_CLOEXEC);

	HOLDS(mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, read_only, 0) == MAP_FAILED && errno == EACCES);
	HOLDS(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, write_only, 0) == MAP_FAILED && errno == EACCES);
	HOLDS(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, dir, 0) == MAP_FAILED && errno == ENODEV);
	HOLDS(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 1) == MAP_FAILED && errno == EINVAL);
	HOLDS(mmap(NULL, 0, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EINVAL);
	WORKS(close(fd));
	WORKS(close(read_only));
	WORKS(close(write_only));
	WORKS(close(dir));
}

static void test_the_end_of_a_file_in_a_map(void)
{
	int fd = file_of(100, 'a');
	char *at = map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED), byte = 'x';

	SAME('a', at[99]);
	SAME(0, at[100]); /* the rest of the page */
	SAME(0, at[PAGE - 1]);
	at[200] = 'n'; /* beyond the end: lost */
	SAME(100, stat_of("f").st_size);
	WORKS(munmap(at, PAGE));
	WORKS(ftruncate(fd, 300));
	SAME(1, pread(fd, &byte, 1, 150));
	SAME(0, byte);
	SAME(300, stat_of("f").st_size);
	WORKS(close(fd));
}

static sigjmp_buf back;

static void on_bus(int sig)
{
	siglongjmp(back, sig);
}

/* Reads a byte: 0, or the signal that came instead. */
static int signal_of_reading(const volatile char *at)
{
	struct sigaction act = { .sa_handler = on_bus }, old;
	int sig;

	sigaction(SIGBUS, &act, &old);
	sig = sigsetjmp(back, 1);
	if (!sig)
		(void)*at;
	sigaction(SIGBUS, &old, NULL);
	return sig;
}

static void test_a_page_beyond_the_end_is_sigbus(void)
{
	int fd = file_of(2 * PAGE, 'a');
	char *at = map(fd, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);

	SAME(0, signal_of_reading(at + PAGE));
	WORKS(ftruncate(fd, PAGE));
	SAME(SIGBUS, signal_of_reading(at + PAGE));
	SAME(0, signal_of_reading(at));
	WORKS(ftruncate(fd, 2 * PAGE));
	SAME(0, signal_of_reading(at + PAGE));
	SAME(0, at[PAGE]);
	SAME('a', at[0]);
	WORKS(munmap(at, 2 * PAGE));
	WORKS(close(fd));
}

static void test_truncation_shows_in_a_map(void)
{
	int fd = file_of(PAGE, 'a');
	char *at = map(fd, PAGE, PROT_READ, MAP_SHARED);

	SAME('a', at[500]);
	WORKS(ftruncate(fd, 300));
	SAME('a', at[299]);
	SAME(0, at[300]);
	SAME(0, at[500]);
	WORKS(ftruncate(fd, PAGE));
	SAME(0, at[500]);
	SAME(4, pwrite(fd, "back", 4, 500));
	SAME('b', at[500]);
	WORKS(munmap(at, PAGE));
	WORKS(close(fd));
}

static void test_writing_by_a_map_changes_the_times(void)
{
	int fd = file_of(PAGE, 'a');
	char *at = map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
	struct stat before;

	WORKS(fsync(fd));
	before = stat_of("f");
	tick();
	at[0] = 'b';
	WORKS(msync(at, PAGE, MS_SYNC));
	HOLDS(ns_of(stat_of("f").st_mtim) > ns_of(before.st_mtim));
	HOLDS(ns_of(stat_of("f").st_ctim) > ns_of(before.st_ctim));
	WORKS(munmap(at, PAGE));
	WORKS(close(fd));
}

static void test_a_large_map_of_a_hole(void)
{
	enum { FAR = 64 << 20 };
	int fd = file_of(1, 'a');
	char *at, byte = 0;

	WORKS(ftruncate(fd, FAR));
	at = map(fd, FAR, PROT_READ | PROT_WRITE, MAP_SHARED);
	for (size_t off = 0; off < FAR; off += 8 << 20)
		at[off] = 'h';
	SAME(0, at[FAR - 1]);
	WORKS(msync(at, FAR, MS_SYNC));
	WORKS(munmap(at, FAR));
	SAME(1, pread(fd, &byte, 1, 32 << 20));
	SAME('h', byte);
	HOLDS(stat_of("f").st_blocks < 16384);
	WORKS(close(fd));
}

CU_TestInfo map_tests[] = {
	UNIT_TEST(test_a_shared_map_is_the_file),
	UNIT_TEST(test_a_map_outlives_its_descriptor),
	UNIT_TEST(test_what_is_written_by_a_map_stays_without_msync),
	UNIT_TEST(test_two_maps_are_one),
	UNIT_TEST(test_a_private_map_keeps_its_changes),
	UNIT_TEST(test_what_may_be_mapped),
	UNIT_TEST(test_the_end_of_a_file_in_a_map),
	UNIT_TEST(test_a_page_beyond_the_end_is_sigbus),
	UNIT_TEST(test_truncation_shows_in_a_map),
	UNIT_TEST(test_writing_by_a_map_changes_the_times),
	UNIT_TEST(test_a_large_map_of_a_hole),
	CU_TEST_INFO_NULL,
};
