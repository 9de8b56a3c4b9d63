/* flock(2), fcntl(2)'s locks of processes and of open files. */
#include "tests/posix/posix.h"

#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>

static int opened(void)
{
	int fd = open("f", O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	HOLDS(fd >= 0);
	return fd;
}

static int lock(int fd, int cmd, short type, off_t start, off_t len)
{
	struct flock fl = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len };

	return fcntl(fd, cmd, &fl);
}

/* What `call` says in a child: 0, or its errno. */
static int in_child(int (*call)(int fd, short type, off_t start, off_t len), short type, off_t start,
		    off_t len)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		int fd = open("f", O_RDWR | O_CLOEXEC);

		_exit(call(fd, type, start, len) ? errno : 0);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int try_process(int fd, short type, off_t start, off_t len)
{
	return lock(fd, F_SETLK, type, start, len);
}

static int try_file(int fd, short type, off_t start, off_t len)
{
	return lock(fd, F_OFD_SETLK, type, start, len);
}

static int try_flock(int fd, short type, off_t start, off_t len)
{
	(void)start;
	(void)len;
	return flock(fd, (type == F_WRLCK ? LOCK_EX : LOCK_SH) | LOCK_NB);
}

static void test_flock_excludes_or_shares(void)
{
	int a = opened(), b = opened();

	WORKS(flock(a, LOCK_EX));
	FAILS(EWOULDBLOCK, flock(b, LOCK_EX | LOCK_NB));
	FAILS(EWOULDBLOCK, flock(b, LOCK_SH | LOCK_NB));
	SAME(EWOULDBLOCK, in_child(try_flock, F_RDLCK, 0, 0));
	WORKS(flock(a, LOCK_SH)); /* now a shared one */
	WORKS(flock(b, LOCK_SH | LOCK_NB));
	SAME(0, in_child(try_flock, F_RDLCK, 0, 0));
	FAILS(EWOULDBLOCK, flock(b, LOCK_EX | LOCK_NB));
	WORKS(flock(a, LOCK_UN));
	WORKS(flock(b, LOCK_EX | LOCK_NB));
	WORKS(close(b)); /* gives it back */
	WORKS(flock(a, LOCK_EX | LOCK_NB));
	FAILS(EINVAL, flock(a, 77));
	WORKS(close(a));
	FAILS(EBADF, flock(a, LOCK_SH));
}

static void test_flock_belongs_to_the_open_file(void)
{
	int a = opened(), twin = dup(a), b = opened();

	WORKS(flock(a, LOCK_EX));
	WORKS(flock(twin, LOCK_EX | LOCK_NB));
	WORKS(close(a));
	FAILS(EWOULDBLOCK, flock(b, LOCK_SH | LOCK_NB));
	WORKS(flock(twin, LOCK_UN));
	WORKS(flock(b, LOCK_SH | LOCK_NB));
	WORKS(close(twin));
	WORKS(close(b));
}

static void test_locks_of_processes(void)
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = opened(), other;

	WORKS(lock(fd, F_SETLK, F_WRLCK, 0, 100));
	WORKS(lock(fd, F_SETLK, F_WRLCK, 50, 100)); /* one's own are no obstacle */
	SAME(EAGAIN, in_child(try_process, F_RDLCK, 0, 10));
	SAME(EAGAIN, in_child(try_process, F_WRLCK, 149, 1));
	SAME(0, in_child(try_process, F_WRLCK, 150, 10));
	WORKS(lock(fd, F_SETLK, F_UNLCK, 40, 20)); /* from the middle */
	SAME(0, in_child(try_process, F_WRLCK, 40, 20));
	SAME(EAGAIN, in_child(try_process, F_WRLCK, 39, 1));
	SAME(EAGAIN, in_child(try_process, F_WRLCK, 60, 1));
	WORKS(lock(fd, F_SETLK, F_RDLCK, 0, 10));
	SAME(0, in_child(try_process, F_RDLCK, 0, 10));
	SAME(EAGAIN, in_child(try_process, F_WRLCK, 0, 10));
	SAME(EAGAIN, in_child(try_process, F_RDLCK, 0, 0)); /* to the end */
	WORKS(fcntl(fd, F_GETLK, &fl));
	SAME(F_UNLCK, fl.l_type);
	/* Closing any descriptor of the file gives all back. */
	other = opened();
	WORKS(close(other));
	SAME(0, in_child(try_process, F_WRLCK, 0, 0));
	WORKS(close(fd));
}

static void test_who_holds_a_lock(void)
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = opened(), to[2], from[2];
	char byte;
	pid_t pid;

	WORKS(pipe(to));
	WORKS(pipe(from));
	pid = fork();
	if (pid == 0) {
		int own = open("f", O_RDWR | O_CLOEXEC);
		bool good = lock(own, F_SETLK, F_WRLCK, 10, 20) == 0 && write(to[1], "x", 1) == 1;

		close(from[1]);
		_exit(good && read(from[0], &byte, 1) == 0 ? 0 : 1);
	}
	close(from[0]);
	SAME(1, read(to[0], &byte, 1));
	WORKS(fcntl(fd, F_GETLK, &fl));
	SAME(F_WRLCK, fl.l_type);
	SAME(pid, fl.l_pid);
	SAME(10, fl.l_start);
	SAME(20, fl.l_len);
	FAILS(EAGAIN, lock(fd, F_SETLK, F_RDLCK, 0, 0));
	close(from[1]);
	waitpid(pid, NULL, 0);
	WORKS(lock(fd, F_SETLK, F_WRLCK, 0, 0)); /* the end of a process gives back */
	close(to[0]);
	close(to[1]);
	WORKS(close(fd));
}

static void test_waiting_for_a_lock(void)
{
	int fd = opened(), status = 1;
	pid_t pid;

	WORKS(lock(fd, F_SETLK, F_WRLCK, 0, 0));
	pid = fork();
	if (pid == 0) {
		int own = open("f", O_RDWR | O_CLOEXEC);

		_exit(lock(own, F_SETLKW, F_WRLCK, 0, 0) ? 1 : 0);
	}
	WORKS(lock(fd, F_SETLK, F_UNLCK, 0, 0));
	SAME(pid, waitpid(pid, &status, 0));
	SAME(0, status);
	WORKS(close(fd));
}

static void interrupted(int sig)
{
	(void)sig;
}

static void test_waiting_can_be_interrupted(void)
{
	struct sigaction act = { .sa_handler = interrupted };
	int fd = opened(), status = 1;
	int go[2];
	char byte;
	pid_t pid;

	WORKS(pipe(go));
	WORKS(flock(fd, LOCK_EX));
	pid = fork();
	if (pid == 0) {
		int own = open("f", O_RDWR | O_CLOEXEC);

		sigaction(SIGUSR1, &act, NULL);
		if (write(go[1], "x", 1) != 1)
			_exit(2);
		_exit(flock(own, LOCK_EX) == -1 && errno == EINTR ? 0 : 1);
	}
	SAME(1, read(go[0], &byte, 1));
	/* It may not have begun to wait: so until it has ended. */
	while (waitpid(pid, &status, WNOHANG) == 0) {
		kill(pid, SIGUSR1);
		usleep(1000);
	}
	SAME(0, status);
	close(go[0]);
	close(go[1]);
	WORKS(close(fd));
}

static void test_a_deadlock_is_noticed(void)
{
	int fd = opened(), to[2], status = 1, err;
	char byte;
	pid_t pid;

	WORKS(pipe(to));
	WORKS(lock(fd, F_SETLK, F_WRLCK, 0, 1));
	pid = fork();
	if (pid == 0) {
		int own = open("f", O_RDWR | O_CLOEXEC);

		if (lock(own, F_SETLK, F_WRLCK, 1, 1) || write(to[1], "x", 1) != 1)
			_exit(2);
		_exit(lock(own, F_SETLKW, F_WRLCK, 0, 1) ? errno : 0);
	}
	SAME(1, read(to[0], &byte, 1));
	err = lock(fd, F_SETLKW, F_WRLCK, 1, 1) ? errno : 0;
	WORKS(close(fd));
	SAME(pid, waitpid(pid, &status, 0));
	/* One of the two is told, the other gets its lock. */
	HOLDS((err == EDEADLK && WEXITSTATUS(status) == 0) || (err == 0 && WEXITSTATUS(status) == EDEADLK));
	close(to[0]);
	close(to[1]);
}

static void test_locks_of_open_files(void)
{
	int a = opened(), b = opened(), c;

	WORKS(lock(a, F_OFD_SETLK, F_WRLCK, 0, 100));
	FAILS(EAGAIN, lock(b, F_OFD_SETLK, F_WRLCK, 50, 10));
	FAILS(EAGAIN, lock(b, F_OFD_SETLK, F_RDLCK, 0, 1));
	WORKS(lock(b, F_OFD_SETLK, F_WRLCK, 100, 10));
	SAME(EAGAIN, in_child(try_file, F_RDLCK, 0, 1));
	FAILS(EAGAIN, lock(b, F_SETLK, F_RDLCK, 0, 1)); /* the two kinds know each other */
	c = opened();
	WORKS(close(c)); /* gives nothing back */
	FAILS(EAGAIN, lock(b, F_OFD_SETLK, F_WRLCK, 50, 10));
	WORKS(close(a));
	WORKS(lock(b, F_OFD_SETLK, F_WRLCK, 50, 10));
	WORKS(close(b));
}

static void test_what_is_no_lock(void)
{
	int fd = opened(), read_only = open("f", O_RDONLY | O_CLOEXEC),
	    write_only = open("f", O_WRONLY | O_CLOEXEC);

	FAILS(EBADF, lock(read_only, F_SETLK, F_WRLCK, 0, 1));
	FAILS(EBADF, lock(write_only, F_SETLK, F_RDLCK, 0, 1));
	WORKS(lock(read_only, F_SETLK, F_RDLCK, 0, 1));
	FAILS(EINVAL, lock(fd, F_SETLK, F_WRLCK, -1, 1));
	FAILS(EINVAL, lock(fd, F_SETLK, 77, 0, 1));
	WORKS(lock(fd, F_SETLK, F_WRLCK, INT64_MAX, 1));
	FAILS(EOVERFLOW, lock(fd, F_SETLK, F_WRLCK, INT64_MAX, 2));
	WORKS(close(fd));
	WORKS(close(read_only));
	WORKS(close(write_only));
}

static void test_directories_have_locks_too(void)
{
	int a = open(".", O_RDONLY | O_CLOEXEC), b = open(".", O_RDONLY | O_CLOEXEC);

	WORKS(flock(a, LOCK_EX));
	FAILS(EWOULDBLOCK, flock(b, LOCK_EX | LOCK_NB));
	WORKS(close(a));
	WORKS(flock(b, LOCK_EX | LOCK_NB));
	WORKS(close(b));
}

CU_TestInfo lock_tests[] = {
	UNIT_TEST(test_flock_excludes_or_shares),
	UNIT_TEST(test_flock_belongs_to_the_open_file),
	UNIT_TEST(test_locks_of_processes),
	UNIT_TEST(test_who_holds_a_lock),
	UNIT_TEST(test_waiting_for_a_lock),
	UNIT_TEST(test_waiting_can_be_interrupted),
	UNIT_TEST(test_a_deadlock_is_noticed),
	UNIT_TEST(test_locks_of_open_files),
	UNIT_TEST(test_what_is_no_lock),
	UNIT_TEST(test_directories_have_locks_too),
	CU_TEST_INFO_NULL,
};
