/* mknod(2), mkfifo(3), sockets, devices, ioctl(2). */
#include "tests/posix/posix.h"

#include <linux/fs.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>

static void test_a_fifo(void)
{
	struct stat st;
	char got[8] = "";
	int in, out;

	WORKS(mkfifo("p", 0640));
	st = lstat_of("p");
	HOLDS(S_ISFIFO(st.st_mode));
	SAME(0640, st.st_mode & 07777);
	SAME(0, st.st_size);
	SAME(1, st.st_nlink);
	FAILS(ENXIO, open("p", O_WRONLY | O_NONBLOCK | O_CLOEXEC));
	in = open("p", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	out = open("p", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	SAME(5, write(out, "hello", 5));
	SAME(5, read(in, got, sizeof(got)));
	HOLDS(strcmp(got, "hello") == 0);
	FAILS(EAGAIN, read(in, got, sizeof(got)));
	WORKS(rename("p", "q")); /* it is the same fifo */
	WORKS(unlink("q"));
	SAME(1, write(out, "x", 1));
	SAME(1, read(in, got, sizeof(got)));
	WORKS(close(out));
	SAME(0, read(in, got, sizeof(got)));
	WORKS(close(in));
}

static void test_a_fifo_connects_processes(void)
{
	char got[8] = "";
	int fd, status = 1;
	pid_t pid;

	WORKS(mkfifo("p", 0600));
	pid = fork();
	if (pid == 0) {
		int own = open("p", O_WRONLY | O_CLOEXEC);

		_exit(write(own, "child", 5) == 5 ? 0 : 1);
	}
	fd = open("p", O_RDONLY | O_CLOEXEC);
	SAME(5, read(fd, got, sizeof(got)));
	HOLDS(strcmp(got, "child") == 0);
	waitpid(pid, &status, 0);
	SAME(0, status);
	WORKS(close(fd));
}

static void test_a_socket(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = "s" };
	const struct sockaddr *at = (const struct sockaddr *)&addr;
	int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), other, peer;
	char got[8] = "";

	FAILS(ENOENT, connect(client, at, sizeof(addr)));
	WORKS(bind(server, at, sizeof(addr)));
	HOLDS(S_ISSOCK(lstat_of("s").st_mode));
	other = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	FAILS(EADDRINUSE, bind(other, at, sizeof(addr)));
	FAILS(ECONNREFUSED, connect(client, at, sizeof(addr)));
	WORKS(listen(server, 1));
	WORKS(connect(client, at, sizeof(addr)));
	peer = accept4(server, NULL, NULL, SOCK_CLOEXEC);
	SAME(4, write(client, "ping", 4));
	SAME(4, read(peer, got, sizeof(got)));
	HOLDS(strcmp(got, "ping") == 0);
	FAILS(ENXIO, open("s", O_RDWR | O_CLOEXEC));
	WORKS(chmod("s", 0600));
	MODE(0600, "s");
	WORKS(unlink("s"));
	close(peer);
	close(other);
	close(client);
	close(server);
}

static void test_a_socket_by_mknod(void)
{
	WORKS(mknod("s", S_IFSOCK | 0755, 0));
	HOLDS(S_ISSOCK(lstat_of("s").st_mode));
	WORKS(unlink("s"));
}

static void test_devices(void)
{
	static const struct {
		mode_t type;
		unsigned major, minor;
	} cases[] = { { S_IFCHR, 1, 3 },      { S_IFCHR, 1, 5 },         { S_IFBLK, 7, 200 },
		      { S_IFCHR, 4095, 255 }, { S_IFBLK, 254, 1048575 }, { S_IFCHR, 0, 0 } };
	char got[4] = "xxx";
	int fd;

	if (!need(F_DEVICES))
		return;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct stat st;

		WORKS(mknod("n", cases[i].type | 0600, makedev(cases[i].major, cases[i].minor)));
		st = lstat_of("n");
		SAME(cases[i].type, st.st_mode & S_IFMT);
		SAME(cases[i].major, major(st.st_rdev));
		SAME(cases[i].minor, minor(st.st_rdev));
		WORKS(unlink("n"));
	}
	WORKS(mknod("zero", S_IFCHR | 0666, makedev(1, 5)));
	fd = open("zero", O_RDWR | O_CLOEXEC);
	if (fd >= 0) { /* a mount with nodev does not open it */
		SAME(3, read(fd, got, 3));
		HOLDS(memcmp(got, "\0\0\0", 3) == 0);
		WORKS(close(fd));
	}
}

static void test_devices_are_roots(void)
{
	if (!need(F_ROOT))
		return;
	WORKS(chmod(".", 0777));
	become(ANN, STAFF);
	FAILS(EPERM, mknod("n", S_IFCHR | 0600, makedev(1, 3)));
	FAILS(EPERM, mknod("n", S_IFBLK | 0600, makedev(7, 0)));
	WORKS(mknod("p", S_IFIFO | 0600, 0));
	WORKS(mknod("s", S_IFSOCK | 0600, 0));
	WORKS(mknod("f", S_IFREG | 0600, 0));
	WORKS(mknod("g", 0600, 0)); /* no type is a file */
	HOLDS(S_ISREG(lstat_of("g").st_mode));
}

static void test_what_mknod_does_not_make(void)
{
	FAILS(EPERM, mknod("d", S_IFDIR | 0755, 0));
	FAILS(EINVAL, mknod("l", S_IFLNK | 0755, 0));
	FAILS(EINVAL, mknod("x", 0170000 | 0755, 0));
	SAME(0, count_entries("."));
}

static void test_ioctls(void)
{
	int fd, n = -1, dir;

	make_file("f", 0644, "content");
	fd = open("f", O_RDWR | O_CLOEXEC);
	FAILS(ENOTTY, ioctl(fd, TCGETS, &n));
	FAILS(ENOTTY, ioctl(fd, 0x12345678, &n));
	WORKS(lseek(fd, 3, SEEK_SET));
	WORKS(ioctl(fd, FIONREAD, &n));
	SAME(4, n);
	HOLDS(ioctl(fd, FS_IOC_GETFLAGS, &n) == 0 || errno == ENOTTY || errno == EOPNOTSUPP);
	SAME(0, isatty(fd));
	WORKS(close(fd));
	dir = open(".", O_RDONLY | O_CLOEXEC);
	FAILS(ENOTTY, ioctl(dir, TCGETS, &n));
	WORKS(close(dir));
}

static void test_a_file_is_always_ready(void)
{
	struct pollfd p = { .events = POLLIN | POLLOUT };

	make_file("f", 0644, "x");
	p.fd = open("f", O_RDWR | O_CLOEXEC);
	SAME(1, poll(&p, 1, 0));
	SAME(POLLIN | POLLOUT, p.revents);
	close(p.fd);
}

CU_TestInfo special_tests[] = {
	UNIT_TEST(test_a_fifo),
	UNIT_TEST(test_a_fifo_connects_processes),
	UNIT_TEST(test_a_socket),
	UNIT_TEST(test_a_socket_by_mknod),
	UNIT_TEST(test_devices),
	UNIT_TEST(test_devices_are_roots),
	UNIT_TEST(test_what_mknod_does_not_make),
	UNIT_TEST(test_ioctls),
	UNIT_TEST(test_a_file_is_always_ready),
	CU_TEST_INFO_NULL,
};
