/*
 * What only system calls can ask of @watch: reads that wait, do not wait, are interrupted, seek back; poll(2); a hundred
 * readers; who may be told what.
 */
#include "tests/mount/mount_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int open_watch(const struct mnt *m, const char *dir, int flags)
{
	const char *path = mnt_path("%s%s/@watch", m->at, dir);
	int fd = open(path, O_RDONLY | O_CLOEXEC | flags);

	MNT_CHECK(fd >= 0, "%s: %s", path, strerror(errno));
	return fd;
}

/* The end of a test. The kernel does not wait for the release of what was closed; what it asks after that, it asks later. */
static void finish(struct mnt *m)
{
	MNT_OK(mkdir(mnt_path("%s/last", m->at), 0755), m->at);
	mnt_release(m);
}

static void touch(const struct mnt *m, const char *name)
{
	mnt_write_text(mnt_path("%s/%s", m->at, name), "x");
}

/* Kind and path of the next line that is read, as "kind path"; what the read said if it did not give one whole line. */
static const char *next_line(int fd, char out[512])
{
	char line[512], *rest = line;
	ssize_t n;
	size_t len = 0;

	do
		n = read(fd, line + len, 1); /* as a shell does */
	while (n == 1 && line[len] != '\n' && ++len < sizeof(line) - 1);
	if (n <= 0) {
		snprintf(out, 512, "%s", n ? strerrorname_np(errno) : "end");
		return out;
	}
	line[len] = '\0';
	strsep(&rest, "\t");
	strsep(&rest, "\t");
	snprintf(out, 512, "%s", strsep(&rest, "\t"));
	if (rest)
		snprintf(out + strlen(out), 512 - strlen(out), " %s", strsep(&rest, "\t"));
	return out;
}

static void assert_line(int fd, const char *wanted)
{
	char got[512];

	MNT_CHECK(strcmp(next_line(fd, got), wanted) == 0, "got %s, not %s", got, wanted);
}

static int poll_now(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int n = poll(&p, 1, timeout_ms);

	return n <= 0 ? n : p.revents;
}

static void test_a_reader_that_must_not_wait_does_not(void)
{
	struct mnt m;
	int fd;

	mnt_init(&m, NULL);
	touch(&m, "before");
	fd = open_watch(&m, "", O_NONBLOCK);
	assert_line(fd, "EAGAIN");
	touch(&m, "one");
	assert_line(fd, "create /one");
	assert_line(fd, "EAGAIN");
	close(fd);
	finish(&m);
}

static void test_poll_tells_when_there_is_something(void)
{
	struct mnt m;
	pid_t pid;
	int fd;

	mnt_init(&m, NULL);
	fd = open_watch(&m, "", O_NONBLOCK);
	for (int i = 0; i < 3; i++) {
		MNT_CHECK(poll_now(fd, 0) == 0, "round %d: ready without a change", i);
		pid = mnt_fork();
		if (pid == 0) {
			touch(&m, "later");
			_exit(0);
		}
		MNT_CHECK(poll_now(fd, MNT_PATIENCE_S * 1000) == POLLIN, "round %d: not ready", i);
		MNT_CHECK(poll_now(fd, 0) == POLLIN, "round %d: not ready any more", i);
		assert_line(fd, i ? "write /later" : "create /later");
		MNT_CHECK(mnt_wait(pid) == 0, "the writer");
	}
	close(fd);

	/* Files of the tree are always ready, as on any disk. */
	fd = open(mnt_path("%s/later", m.at), O_RDONLY);
	MNT_CHECK(poll_now(fd, 0) == POLLIN, "a file is not ready");
	close(fd);
	finish(&m);
}

static void on_signal(int sig)
{
	(void)sig;
}

/* Reads until it is told something or interrupted. */
static pid_t start_reader(const struct mnt *m)
{
	pid_t pid = mnt_fork();

	if (pid == 0) {
		struct sigaction sa = { .sa_handler = on_signal };
		int fd = open(mnt_path("%s/@watch", m->at), O_RDONLY);
		char c;

		sigaction(SIGUSR1, &sa, NULL);
		mnt_write_text(mnt_path("%s/reading", m->plain), "");
		_exit(fd < 0 ? 3 : read(fd, &c, 1) < 0 && errno == EINTR ? 42 : 4);
	}
	while (access(mnt_path("%s/reading", m->plain), F_OK))
		mnt_sleep_ms(1);
	unlink(mnt_path("%s/reading", m->plain));
	return pid;
}

static void test_a_signal_interrupts_a_read(void)
{
	struct mnt m;
	int status = -1;
	pid_t pid;

	mnt_init(&m, NULL);
	pid = start_reader(&m);
	/* It may not have come to read() yet; then the signal comes again. */
	while (waitpid(pid, &status, WNOHANG) == 0) {
		kill(pid, SIGUSR1);
		mnt_sleep_ms(1);
	}
	MNT_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42, "status %x", status);
	pid = start_reader(&m);
	kill(pid, SIGKILL);
	MNT_CHECK(mnt_wait(pid) == 128 + SIGKILL, "a reader can be killed");
	touch(&m, "alive");
	finish(&m);
}

#define READERS 100

struct reader {
	const struct mnt *m;
	pthread_t thread;
	_Atomic unsigned *opened;
	char got[512];
};

static void *reader_main(void *arg)
{
	struct reader *r = arg;
	int fd = open(mnt_path("%s/d/@watch", r->m->at), O_RDONLY);

	atomic_fetch_add(r->opened, 1);
	next_line(fd, r->got);
	close(fd);
	return NULL;
}

static void test_a_hundred_readers_wait_and_nobody_waits_for_them(void)
{
	static struct reader readers[READERS];
	_Atomic unsigned opened = 0;
	struct mnt m;

	mnt_init(&m, NULL);
	MNT_OK(mkdir(mnt_path("%s/d", m.at), 0755), m.at);
	for (unsigned i = 0; i < READERS; i++) {
		readers[i] = (struct reader){ .m = &m, .opened = &opened };
		pthread_create(&readers[i].thread, NULL, reader_main, &readers[i]);
	}
	while (atomic_load(&opened) < READERS)
		mnt_sleep_ms(1);
	for (int i = 0; i < 200; i++)
		touch(&m, "elsewhere");
	touch(&m, "d/f");
	for (unsigned i = 0; i < READERS; i++) {
		pthread_join(readers[i].thread, NULL);
		MNT_CHECK(strcmp(readers[i].got, "create /d/f") == 0, "reader %u got %s", i, readers[i].got);
	}
	finish(&m);
}

static void test_a_slow_reader_misses_nothing(void)
{
	struct mnt m;
	FILE *f;
	char line[512];
	uint64_t rev;
	int fd;

	mnt_init(&m, NULL);
	rev = mnt_current(&m);
	fd = open_watch(&m, "", 0);
	for (int i = 0; i < 3000; i++)
		MNT_OK(mkdir(mnt_path("%s/%d", m.at, i), 0755), m.at);
	f = fdopen(fd, "r");
	for (int i = 0; i < 3000; i++) {
		uint64_t got = fgets(line, sizeof(line), f) ? strtoull(line, NULL, 10) : 0;

		if (!MNT_CHECK(got == rev + 1 + (uint64_t)i, "line %d is of revision %lu", i, got))
			break;
	}
	fclose(f);
	finish(&m);
}

static void test_what_was_read_can_be_read_again(void)
{
	struct mnt m;
	char first[64], again[64];
	off_t at;
	int fd;

	mnt_init(&m, NULL);
	touch(&m, "x");
	fd = open_watch(&m, "", 0);
	MNT_CHECK(lseek(fd, 0, SEEK_CUR) == 0, "it begins at 0");
	touch(&m, "one");
	touch(&m, "two");
	MNT_CHECK(read(fd, first, 64) == 64, "a line is longer");
	MNT_CHECK(lseek(fd, -60, SEEK_CUR) == 4, "it can be seeked");
	MNT_CHECK(read(fd, again, 60) == 60 && memcmp(again, first + 4, 60) == 0, "the same bytes");
	MNT_OK(lseek(fd, 0, SEEK_SET), "the beginning");
	assert_line(fd, "create /one");
	assert_line(fd, "create /two");
	at = lseek(fd, 0, SEEK_CUR);
	MNT_CHECK(lseek(fd, 0, SEEK_END) == at, "the end is where it is read to");
	assert_line(fd, "end"); /* told once to who looked for it */
	MNT_FAILS(pread(fd, again, 1, at + 1000), ESPIPE, "beyond the end");
	touch(&m, "three");
	assert_line(fd, "create /three");
	close(fd);
	finish(&m);
}

static void test_below_the_floor_a_reader_is_told(void)
{
	struct mnt m;
	int fd;

	mnt_init(&m, NULL);
	fd = open_watch(&m, "", 0);
	for (int i = 0; i < 3; i++)
		touch(&m, "f");
	MNT_CHECK(mnt_shell("\"$MVCCCTL_BIN\" --mount %s compact head >/dev/null", m.at) == 0, "compact");
	assert_line(fd, "ESTALE");
	assert_line(fd, "ESTALE");
	MNT_CHECK(poll_now(fd, 0) == POLLIN, "so that who polls reads it");
	close(fd);
	finish(&m);
}

static void test_it_is_a_file_that_nobody_writes_and_unmounting_waits_for(void)
{
	struct mnt m;
	struct stat st;
	const char *path;
	int fd;

	mnt_init(&m, NULL);
	path = mnt_path("%s/@watch", m.at);
	MNT_OK(mkdir(mnt_path("%s/d", m.at), 0750), m.at);
	MNT_FAILS(open(path, O_WRONLY), EPERM, path);
	MNT_FAILS(unlink(path), EPERM, path);
	MNT_OK(stat(mnt_path("%s/d/@watch", m.at), &st), path);
	MNT_CHECK(st.st_mode == (S_IFREG | 0440), "its mode is %o", st.st_mode);
	MNT_OK(chmod(mnt_path("%s/d", m.at), 0700), m.at);
	MNT_OK(stat(mnt_path("%s/d/@watch", m.at), &st), path);
	MNT_CHECK(st.st_mode == (S_IFREG | 0400), "and follows the directory: %o", st.st_mode);
	fd = open_watch(&m, "", 0);
	if (geteuid() == 0)
		MNT_FAILS(umount2(m.at, 0), EBUSY, m.at);
	close(fd);
	mnt_down(&m);
	mnt_up(&m, NULL);
	finish(&m);
}

/* As somebody else: reads until something public comes; 0 if nothing secret came before. */
static int read_as_other(const struct mnt *m, int told)
{
	char line[512];
	int fd;

	if (setgroups(0, NULL) || setgid(54321) || setuid(54321))
		return 10;
	if (open(mnt_path("%s/closed/@watch", m->at), O_RDONLY) >= 0 || errno != EACCES)
		return 11;
	if (open(mnt_path("%s/passage/@watch", m->at), O_RDONLY) >= 0 || errno != EACCES)
		return 12;
	fd = open(mnt_path("%s/@watch", m->at), O_RDONLY);
	if (fd < 0 || write(told, "", 1) != 1)
		return 13;
	return strcmp(next_line(fd, line), "create /passage/f") != 0 ? 14 :
	       strcmp(next_line(fd, line), "rmdir /closed") != 0     ? 15 :
	       strcmp(next_line(fd, line), "create /public") != 0    ? 16 :
								       0;
}

static void test_nobody_is_told_of_what_he_may_not_reach(void)
{
	struct mnt m;
	int told[2], status;
	char c;
	pid_t pid;

	if (geteuid() != 0) {
		puts("not root: nobody to be"); /* the same is asked of past_may_know() in tests/test_ns_watch.c */
		return;
	}
	mnt_init(&m, "allow_other");
	MNT_OK(chmod(m.dir, 0755), m.dir);
	MNT_OK(mkdir(mnt_path("%s/closed", m.at), 0700), m.at);
	MNT_OK(mkdir(mnt_path("%s/passage", m.at), 0711), m.at);
	MNT_OK(pipe(told), m.at);
	pid = mnt_fork();
	if (pid == 0)
		_exit(read_as_other(&m, told[1]));
	close(told[1]);
	MNT_CHECK(read(told[0], &c, 1) == 1, "it was opened");
	touch(&m, "closed/secret");
	touch(&m, "passage/f");
	MNT_OK(rename(mnt_path("%s/closed/secret", m.at), mnt_path("%s/closed/other", m.at)), m.at);
	MNT_OK(unlink(mnt_path("%s/closed/other", m.at)), m.at);
	MNT_OK(rmdir(mnt_path("%s/closed", m.at)), m.at);
	touch(&m, "public");
	status = mnt_wait(pid);
	MNT_CHECK(status == 0, "exit status %d", status);
	close(told[0]);
	finish(&m);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_a_reader_that_must_not_wait_does_not),
	UNIT_TEST(test_poll_tells_when_there_is_something),
	UNIT_TEST(test_a_signal_interrupts_a_read),
	UNIT_TEST(test_a_hundred_readers_wait_and_nobody_waits_for_them),
	UNIT_TEST(test_a_slow_reader_misses_nothing),
	UNIT_TEST(test_what_was_read_can_be_read_again),
	UNIT_TEST(test_below_the_floor_a_reader_is_told),
	UNIT_TEST(test_it_is_a_file_that_nobody_writes_and_unmounting_waits_for),
	UNIT_TEST(test_nobody_is_told_of_what_he_may_not_reach),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("watch", NULL, NULL, tests), CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
