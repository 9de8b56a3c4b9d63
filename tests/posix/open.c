/* open(2), creat(2), close(2): flags, modes of what is made, what may be opened. */
#include "tests/posix/posix.h"

#include <sys/resource.h>
#include <sys/wait.h>

static int opens(const char *path, int flags, mode_t mode)
{
	int fd = open(path, flags | O_CLOEXEC, mode);

	if (fd >= 0)
		close(fd);
	return fd < 0 ? -1 : 0;
}

static void test_a_new_file_has_the_mode_asked_for_without_the_umask(void)
{
	static const struct {
		mode_t mask, asked, got;
	} cases[] = {
		{ 0, 0777, 0777 },   { 0, 0, 0 },         { 022, 0666, 0644 },  { 077, 0777, 0700 },
		{ 0777, 0777, 0 },   { 027, 0664, 0640 }, { 0, 04755, 04755 },  { 0, 02755, 02755 },
		{ 0, 01777, 01777 }, { 0, 07777, 07777 }, { 0111, 0777, 0666 }, { 0222, 0666, 0444 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		umask(cases[i].mask);
		WORKS(opens("f", O_WRONLY | O_CREAT | O_EXCL, cases[i].asked));
		MODE(cases[i].got, "f");
		SAME(0, stat_of("f").st_size);
		WORKS(unlink("f"));
		WORKS(mknod("n", S_IFREG | cases[i].asked, 0));
		MODE(cases[i].got, "n");
		WORKS(unlink("n"));
	}
}

static void test_the_mode_counts_only_when_a_file_is_made(void)
{
	make_file("f", 0640, "x");
	WORKS(opens("f", O_RDWR | O_CREAT, 0777));
	MODE(0640, "f");
}

static void test_a_file_made_without_permissions_is_open_all_the_same(void)
{
	int fd = open("f", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0);

	HOLDS(fd >= 0);
	SAME(3, write(fd, "abc", 3));
	WORKS(close(fd));
	MODE(0, "f");
	SAME(3, stat_of("f").st_size);
}

static void test_exclusive_making(void)
{
	make_file("f", 0644, "x");
	WORKS(symlink("f", "l"));
	WORKS(symlink("none", "dangling"));
	FAILS(EEXIST, opens("f", O_RDWR | O_CREAT | O_EXCL, 0644));
	FAILS(EEXIST, opens("l", O_RDWR | O_CREAT | O_EXCL, 0644));
	FAILS(EEXIST, opens("dangling", O_RDWR | O_CREAT | O_EXCL, 0644));
	HOLDS(!exists("none"));
	FAILS(EEXIST, opens(".", O_RDWR | O_CREAT | O_EXCL, 0644));
}

static void test_truncating(void)
{
	make_file("f", 0644, "content");
	WORKS(opens("f", O_WRONLY, 0));
	SAME(7, stat_of("f").st_size);
	WORKS(opens("f", O_WRONLY | O_TRUNC, 0));
	SAME(0, stat_of("f").st_size);
	SAME(0, stat_of("f").st_blocks);
	make_file("g", 0644, "content");
	WORKS(opens("g", O_RDWR | O_TRUNC | O_CREAT, 0600));
	SAME(0, stat_of("g").st_size);
	MODE(0644, "g");
	make_file("h", 0644, "content");
	SAME(0, close(creat("h", 0600)));
	SAME(0, stat_of("h").st_size);
}

static void test_truncating_changes_the_times_even_of_an_empty_file(void)
{
	struct stat before, after;

	make_file("f", 0644, "");
	before = stat_of("f");
	tick();
	WORKS(opens("f", O_WRONLY | O_TRUNC, 0));
	after = stat_of("f");
	HOLDS(ns_of(after.st_mtim) > ns_of(before.st_mtim));
	HOLDS(ns_of(after.st_ctim) > ns_of(before.st_ctim));
}

static void test_a_directory_is_opened_for_reading_only(void)
{
	make_dir("d", 0755);
	WORKS(opens("d", O_RDONLY, 0));
	WORKS(opens("d", O_RDONLY | O_DIRECTORY, 0));
	WORKS(opens("d/", O_RDONLY, 0));
	FAILS(EISDIR, opens("d", O_WRONLY, 0));
	FAILS(EISDIR, opens("d", O_RDWR, 0));
	FAILS(EISDIR, opens("d", O_RDONLY | O_TRUNC, 0));
	FAILS(EISDIR, opens("d", O_WRONLY | O_TRUNC, 0));
	FAILS(EISDIR, opens("d", O_RDONLY | O_CREAT, 0644));
	FAILS(EISDIR, opens(".", O_RDWR, 0));
	FAILS(EISDIR, opens("..", O_WRONLY, 0));
}

static void test_a_descriptor_of_a_directory_is_not_read_or_written(void)
{
	char byte;
	int fd;

	make_dir("d", 0755);
	fd = open("d", O_RDONLY | O_CLOEXEC);
	FAILS(EISDIR, read(fd, &byte, 1));
	FAILS(EISDIR, pread(fd, &byte, 1, 0));
	FAILS(EBADF, write(fd, "x", 1));
	FAILS(EINVAL, ftruncate(fd, 0));
	WORKS(fsync(fd));
	WORKS(fdatasync(fd));
	WORKS(close(fd));
}

static void test_o_directory_wants_a_directory(void)
{
	make_file("f", 0644, "x");
	make_dir("d", 0755);
	WORKS(symlink("d", "to_d"));
	WORKS(symlink("f", "to_f"));
	WORKS(mkfifo("p", 0644));
	FAILS(ENOTDIR, opens("f", O_RDONLY | O_DIRECTORY, 0));
	FAILS(ENOTDIR, opens("to_f", O_RDONLY | O_DIRECTORY, 0));
	FAILS(ENOTDIR, opens("p", O_RDONLY | O_DIRECTORY, 0));
	WORKS(opens("to_d", O_RDONLY | O_DIRECTORY, 0));
	FAILS(ENOENT, opens("none", O_RDONLY | O_DIRECTORY, 0));
}

static void test_o_nofollow_follows_no_link_at_the_end(void)
{
	make_file("f", 0644, "x");
	make_dir("d", 0755);
	make_file("d/g", 0644, "y");
	WORKS(symlink("f", "to_f"));
	WORKS(symlink("d", "to_d"));
	FAILS(ELOOP, opens("to_f", O_RDONLY | O_NOFOLLOW, 0));
	FAILS(ELOOP, opens("to_f", O_RDWR | O_CREAT | O_NOFOLLOW, 0644));
	FAILS(ENOTDIR, opens("to_d", O_RDONLY | O_NOFOLLOW | O_DIRECTORY, 0));
	WORKS(opens("to_d/g", O_RDONLY | O_NOFOLLOW, 0));
	WORKS(opens("f", O_RDONLY | O_NOFOLLOW, 0));
	WORKS(opens("to_f", O_PATH | O_NOFOLLOW, 0));
}

static void test_o_path_opens_anything_and_does_nothing(void)
{
	struct stat st;
	char byte;
	int fd;

	make_file("f", 0, "x");
	fd = open("f", O_PATH | O_CLOEXEC);
	HOLDS(fd >= 0);
	FAILS(EBADF, read(fd, &byte, 1));
	FAILS(EBADF, write(fd, &byte, 1));
	FAILS(EBADF, fchmod(fd, 0644));
	FAILS(EBADF, ftruncate(fd, 0));
	FAILS(EBADF, lseek(fd, 0, SEEK_SET));
	WORKS(fstat(fd, &st));
	SAME(1, st.st_size);
	WORKS(close(fd));
}

static void test_what_a_descriptor_was_not_opened_for(void)
{
	char byte;
	int fd;

	make_file("f", 0644, "x");
	fd = open("f", O_WRONLY | O_CLOEXEC);
	FAILS(EBADF, read(fd, &byte, 1));
	FAILS(EBADF, pread(fd, &byte, 1, 0));
	WORKS(ftruncate(fd, 3));
	WORKS(close(fd));
	fd = open("f", O_RDONLY | O_CLOEXEC);
	FAILS(EBADF, write(fd, "x", 1));
	FAILS(EBADF, pwrite(fd, "x", 1, 0));
	FAILS(EINVAL, ftruncate(fd, 0));
	FAILS(EBADF, posix_fallocate(fd, 0, 10) ? (errno = posix_fallocate(fd, 0, 10), -1) : 0);
	WORKS(close(fd));
	FAILS(EBADF, close(fd));
	FAILS(EBADF, read(fd, &byte, 1));
	FAILS(EBADF, fsync(fd));
}

static void test_the_flags_of_a_descriptor(void)
{
	int fd;

	make_file("f", 0644, "x");
	fd = open("f", O_RDWR | O_APPEND | O_NONBLOCK | O_CLOEXEC);
	SAME(O_RDWR, fcntl(fd, F_GETFL) & O_ACCMODE);
	HOLDS(fcntl(fd, F_GETFL) & O_APPEND);
	WORKS(fcntl(fd, F_SETFL, 0));
	HOLDS(!(fcntl(fd, F_GETFL) & O_APPEND));
	SAME(1, pwrite(fd, "y", 1, 0));
	WORKS(fcntl(fd, F_SETFL, O_APPEND));
	SAME(1, write(fd, "z", 1));
	WORKS(close(fd));
	assert_content("f", "yz");
	fd = open("f", O_RDONLY | O_NOATIME | O_CLOEXEC);
	HOLDS(fd >= 0);
	WORKS(close(fd));
}

static void test_a_file_can_be_opened_many_times(void)
{
	int fds[200];

	make_file("f", 0644, "x");
	for (size_t i = 0; i < 200; i++)
		fds[i] = open("f", O_RDWR | O_CLOEXEC);
	HOLDS(fds[199] >= 0);
	SAME(1, pwrite(fds[0], "y", 1, 0));
	for (size_t i = 0; i < 200; i++) {
		char byte = 0;

		SAME(1, pread(fds[i], &byte, 1, 0));
		SAME('y', byte);
		close(fds[i]);
	}
}

static void test_an_executable_that_runs_cannot_be_written(void)
{
	int status = 0, to[2], from[2];
	char byte = 0;
	pid_t pid;

	WORKS(pipe(to));
	WORKS(pipe(from));
	SAME(0, system("cp /bin/cat run"));
	pid = fork();
	if (pid == 0) {
		dup2(to[0], 0);
		dup2(from[1], 1);
		close(to[1]);
		execl("./run", "run", NULL);
		_exit(127);
	}
	close(to[0]);
	close(from[1]);
	SAME(1, write(to[1], "x", 1));
	SAME(1, read(from[0], &byte, 1)); /* it runs */
	FAILS(ETXTBSY, opens("run", O_WRONLY, 0));
	FAILS(ETXTBSY, opens("run", O_RDWR | O_TRUNC, 0));
	FAILS(ETXTBSY, truncate("run", 0));
	WORKS(opens("run", O_RDONLY, 0));
	WORKS(rename("run", "walk"));
	WORKS(unlink("walk"));
	close(to[1]);
	SAME(pid, waitpid(pid, &status, 0));
	SAME(0, status);
	close(from[0]);
}

static void test_a_file_open_for_writing_is_not_executed(void)
{
	int fd, status = 0;
	pid_t pid;

	SAME(0, system("cp /bin/true run"));
	fd = open("run", O_WRONLY | O_CLOEXEC);
	pid = fork();
	if (pid == 0) {
		execl("./run", "run", NULL);
		_exit(errno == ETXTBSY ? 42 : 1);
	}
	SAME(pid, waitpid(pid, &status, 0));
	SAME(42, WEXITSTATUS(status));
	WORKS(close(fd));
	SAME(0, system("./run"));
	WORKS(chmod("run", 0644));
	pid = fork();
	if (pid == 0) {
		execl("./run", "run", NULL);
		_exit(errno == EACCES ? 43 : 1);
	}
	SAME(pid, waitpid(pid, &status, 0));
	SAME(43, WEXITSTATUS(status));
}

static void test_an_unlinked_file_lives_until_its_last_close(void)
{
	struct stat st;
	char got[16] = "";
	int fd, other;

	make_file("f", 0644, "content");
	fd = open("f", O_RDWR | O_CLOEXEC);
	other = open("f", O_RDONLY | O_CLOEXEC);
	WORKS(unlink("f"));
	FAILS(ENOENT, opens("f", O_RDONLY, 0));
	WORKS(fstat(fd, &st));
	SAME(0, st.st_nlink);
	SAME(7, st.st_size);
	SAME(4, pwrite(fd, "more", 4, 7));
	SAME(11, pread(other, got, 15, 0));
	HOLDS(strcmp(got, "contentmore") == 0);
	WORKS(ftruncate(fd, 3));
	WORKS(fchmod(fd, 0600));
	WORKS(fstat(other, &st));
	SAME(3, st.st_size);
	SAME(0600, st.st_mode & 07777);
	make_file("f", 0644, "new");
	assert_content("f", "new");
	SAME(3, pread(fd, got, 15, 0));
	WORKS(close(other));
	WORKS(close(fd));
	assert_content("f", "new");
}

static void test_an_unlinked_file_is_reached_through_proc(void)
{
	char path[64];
	int fd;

	make_file("f", 0644, "content");
	fd = open("f", O_RDWR | O_CLOEXEC);
	WORKS(unlink("f"));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_content(path, "content");
	FAILS(ENOENT, linkat(AT_FDCWD, path, AT_FDCWD, "g", AT_SYMLINK_FOLLOW));
	WORKS(close(fd));
}

static void test_o_tmpfile(void)
{
	char path[64];
	struct stat st;
	int fd;

	if (!have(F_TMPFILE)) {
		FAILS(EOPNOTSUPP, opens(".", O_TMPFILE | O_RDWR, 0600));
		return;
	}
	fd = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0640);
	HOLDS(fd >= 0);
	SAME(0, count_entries("."));
	SAME(3, write(fd, "abc", 3));
	WORKS(fstat(fd, &st));
	SAME(0, st.st_nlink);
	SAME(0640, st.st_mode & 07777);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	WORKS(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
	assert_content("named", "abc");
	SAME(1, stat_of("named").st_nlink);
	WORKS(close(fd));
	fd = open(".", O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	FAILS(ENOENT, linkat(AT_FDCWD, path, AT_FDCWD, "never", AT_SYMLINK_FOLLOW));
	WORKS(close(fd));
	FAILS(EINVAL, opens(".", O_TMPFILE | O_RDONLY, 0600));
}

static void test_openat_begins_at_its_directory(void)
{
	int dir, fd;

	make_dir("d", 0755);
	make_dir("d/sub", 0755);
	make_file("f", 0644, "outside");
	dir = open("d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = openat(dir, "new", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	HOLDS(fd >= 0);
	WORKS(close(fd));
	HOLDS(exists("d/new"));
	FAILS(ENOENT, openat(dir, "f", O_RDONLY));
	fd = openat(dir, "../f", O_RDONLY | O_CLOEXEC);
	HOLDS(fd >= 0);
	FAILS(ENOTDIR, openat(fd, "x", O_RDONLY));
	WORKS(close(fd));
	FAILS(EBADF, openat(fd, "x", O_RDONLY));
	WORKS(mkdirat(dir, "m", 0755));
	WORKS(mknodat(dir, "n", S_IFREG | 0644, 0));
	WORKS(symlinkat("n", dir, "s"));
	WORKS(linkat(dir, "n", dir, "l", 0));
	WORKS(renameat(dir, "m", dir, "sub/m2"));
	HOLDS(exists("d/sub/m2"));
	WORKS(unlinkat(dir, "sub/m2", AT_REMOVEDIR));
	WORKS(unlinkat(dir, "s", 0));
	FAILS(EISDIR, unlinkat(dir, "sub", 0));
	FAILS(ENOTDIR, unlinkat(dir, "n", AT_REMOVEDIR));
	FAILS(EINVAL, unlinkat(dir, "n", 0x10000));
	/* The directory goes on when it is renamed, and is a dead end when it is removed. */
	WORKS(rename("d", "e"));
	fd = openat(dir, "n", O_RDONLY | O_CLOEXEC);
	HOLDS(fd >= 0);
	WORKS(close(fd));
	SAME(0, system("rm -r e"));
	FAILS(ENOENT, openat(dir, "n", O_RDONLY));
	FAILS(ENOENT, openat(dir, "n", O_RDWR | O_CREAT, 0644));
	FAILS(ENOENT, mkdirat(dir, "n", 0755));
	WORKS(close(dir));
}

static void test_a_large_offset_needs_no_large_file(void)
{
	int fd = open("f", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	char byte = 'x';

	SAME((off_t)1 << 40, lseek(fd, (off_t)1 << 40, SEEK_SET));
	SAME(1, write(fd, &byte, 1));
	SAME(((off_t)1 << 40) + 1, stat_of("f").st_size);
	byte = 0;
	SAME(1, pread(fd, &byte, 1, (off_t)1 << 40));
	SAME('x', byte);
	WORKS(close(fd));
}

static void test_descriptors_may_run_out(void)
{
	struct rlimit limit, low;
	int fd;

	make_file("f", 0644, "x");
	WORKS(getrlimit(RLIMIT_NOFILE, &limit));
	fd = open("f", O_RDONLY | O_CLOEXEC);
	low = (struct rlimit){ (rlim_t)fd + 1, limit.rlim_max };
	WORKS(setrlimit(RLIMIT_NOFILE, &low));
	FAILS(EMFILE, opens("f", O_RDONLY, 0));
	FAILS(EMFILE, opens("new", O_RDWR | O_CREAT, 0644));
	HOLDS(!exists("new"));
	WORKS(setrlimit(RLIMIT_NOFILE, &limit));
	WORKS(close(fd));
}

CU_TestInfo open_tests[] = {
	UNIT_TEST(test_a_new_file_has_the_mode_asked_for_without_the_umask),
	UNIT_TEST(test_the_mode_counts_only_when_a_file_is_made),
	UNIT_TEST(test_a_file_made_without_permissions_is_open_all_the_same),
	UNIT_TEST(test_exclusive_making),
	UNIT_TEST(test_truncating),
	UNIT_TEST(test_truncating_changes_the_times_even_of_an_empty_file),
	UNIT_TEST(test_a_directory_is_opened_for_reading_only),
	UNIT_TEST(test_a_descriptor_of_a_directory_is_not_read_or_written),
	UNIT_TEST(test_o_directory_wants_a_directory),
	UNIT_TEST(test_o_nofollow_follows_no_link_at_the_end),
	UNIT_TEST(test_o_path_opens_anything_and_does_nothing),
	UNIT_TEST(test_what_a_descriptor_was_not_opened_for),
	UNIT_TEST(test_the_flags_of_a_descriptor),
	UNIT_TEST(test_a_file_can_be_opened_many_times),
	UNIT_TEST(test_an_executable_that_runs_cannot_be_written),
	UNIT_TEST(test_a_file_open_for_writing_is_not_executed),
	UNIT_TEST(test_an_unlinked_file_lives_until_its_last_close),
	UNIT_TEST(test_an_unlinked_file_is_reached_through_proc),
	UNIT_TEST(test_o_tmpfile),
	UNIT_TEST(test_openat_begins_at_its_directory),
	UNIT_TEST(test_a_large_offset_needs_no_large_file),
	UNIT_TEST(test_descriptors_may_run_out),
	CU_TEST_INFO_NULL,
};
