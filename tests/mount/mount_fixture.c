/*
 * Set-up and removal of a mount for a test; see the header for what it promises.
 *
 * Two things need care. The daemon is nobody's child once it has daemonized, and its pid is known
 * from the lock file only; being its subreaper gives us its exit status. And whoever cleans up must not keep
 * alive what it waits for: the janitor holds only the reading end of a pipe whose other end is
 * close-on-exec here, so the end of the test (and of its helpers, who die with it) is the end of the file.
 */
#include "tests/mount/mount_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>

static char live_dir[256]; /* what is to be removed at exit; "" if nothing */
static pid_t live_owner;   /* only this process removes it; forked helpers do not */

/* ---- removal ------------------------------------------------------------------------------------- */

/* The daemon that holds the database of `dir`, by its lock file; 0 if nobody. */
static pid_t lock_pid(const char *dir)
{
	struct flock probe = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char path[300], line[512] = "";
	int fd;
	ssize_t n;
	long pid = 0;

	snprintf(path, sizeof(path), "%s/db/LOCK", dir);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (fcntl(fd, F_OFD_GETLK, &probe) == 0 && probe.l_type != F_UNLCK) {
		n = pread(fd, line, sizeof(line) - 1, 0);
		if (n <= 0 || sscanf(line, "pid %ld", &pid) != 1)
			pid = 0;
	}
	close(fd);
	return (pid_t)pid;
}

/* Unmounts, kills and removes, without regard for results. Uses nothing of the test's state. */
static void clean(const char *dir)
{
	char at[300];

	snprintf(at, sizeof(at), "%s/mnt", dir);
	for (int i = 0; i < 100; i++) {
		pid_t pid = lock_pid(dir);

		if (umount2(at, MNT_DETACH) && errno == EPERM)
			mnt_shell("fusermount3 -uz '%s' 2>/dev/null", at);
		if (!pid)
			break;
		kill(pid, SIGKILL);
		mnt_sleep_ms(20);
	}
	/*
	 * A daemon killed before it wrote its pid may have mounted after our look: never walk into a
	 * mount.
	 */
	while (!umount2(at, MNT_DETACH))
		;
	unit_rmtree(dir);
}

static void clean_at_exit(void)
{
	if (*live_dir && getpid() == live_owner) {
		clean(live_dir);
		*live_dir = 0;
	}
}

static void clean_on_signal(int sig)
{
	/* Not a place for any work: the janitor does it when this process has ended. */
	signal(sig, SIG_DFL);
	raise(sig);
}

/* Forks the process that removes `dir` once this one is gone. */
static void janitor_start(const char *dir)
{
	int ends[2];
	pid_t pid;
	char c;

	if (pipe2(ends, O_CLOEXEC) || (pid = fork()) < 0) {
		perror("janitor");
		exit(2);
	}
	if (pid) {
		close(ends[0]);
		waitpid(pid, NULL, 0);
		return;
	}
	/* Out of the session and of the family, or what kills the test's whole tree would kill it, too. */
	if (setsid() < 0 || fork())
		_exit(0);
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	if (!freopen("/dev/null", "r+", stdin) || !freopen("/dev/null", "w", stdout) ||
	    !freopen("/dev/null", "w", stderr))
		_exit(1);
	close(ends[1]);
	while (read(ends[0], &c, 1) < 0 && errno == EINTR)
		;
	if (!access(dir, F_OK))
		clean(dir);
	_exit(0);
}

/* ---- mounting -------------------------------------------------------------------------------------- */

static _Noreturn void give_up(const char *what, const char *more)
{
	fprintf(stderr, "cannot go on: %s%s%s\n", what, more ? ": " : "", more ? more : "");
	exit(1);
}

/* Sanitizers of the daemon write to files of ours: a daemon in the background has no stderr. */
static void redirect_sanitizers(const char *dir)
{
	static const char *const names[] = { "ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS", NULL };

	for (int i = 0; names[i]; i++) {
		const char *old = getenv(names[i]);
		char value[1024];

		snprintf(value, sizeof(value), "%s%slog_path=%s/san", old ? old : "", old && *old ? ":" : "",
			 dir);
		setenv(names[i], value, 1);
	}
}

/* Shows what the sanitizers wrote, and fails the test if they wrote anything. */
static void check_sanitizers(const struct mnt *m)
{
	char pattern[300], line[1024];
	glob_t found;

	snprintf(pattern, sizeof(pattern), "%s/san.*", m->dir);
	if (glob(pattern, 0, NULL, &found))
		return;
	for (size_t i = 0; i < found.gl_pathc; i++) {
		FILE *f = fopen(found.gl_pathv[i], "re");

		while (f && fgets(line, sizeof(line), f))
			fputs(line, stderr);
		if (f)
			fclose(f);
		unlink(found.gl_pathv[i]);
	}
	MNT_CHECK(found.gl_pathc == 0, "a sanitizer complained about the daemon");
	globfree(&found);
}

void mnt_init(struct mnt *m, const char *opts)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGABRT, SIGSEGV, SIGBUS, SIGALRM };

	memset(m, 0, sizeof(*m));
	if (!getenv("MVCCFS_BIN"))
		give_up("MVCCFS_BIN does not name the program under test", NULL);
	if (*live_dir)
		give_up("two fixtures at a time", live_dir);
	unit_tmpdir(m->dir);
	janitor_start(m->dir);
	if (!live_owner) {
		atexit(clean_at_exit);
		for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
			signal(signals[i], clean_on_signal);
		signal(SIGPIPE, SIG_IGN);
	}
	live_owner = getpid();
	snprintf(live_dir, sizeof(live_dir), "%s", m->dir);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	redirect_sanitizers(m->dir);
	snprintf(m->db, sizeof(m->db), "%s/db", m->dir);
	snprintf(m->at, sizeof(m->at), "%s/mnt", m->dir);
	snprintf(m->plain, sizeof(m->plain), "%s/plain", m->dir);
	/* Searchable by all: some tests look as another user. */
	if (chmod(m->dir, 0755) || mkdir(m->at, 0755) || mkdir(m->plain, 0755))
		give_up(m->dir, strerror(errno));
	mnt_up(m, opts ? opts : "");
}

void mnt_up(struct mnt *m, const char *opts)
{
	const char *bin = getenv("MVCCFS_BIN");
	pid_t pid;
	int status;

	if (opts)
		snprintf(m->opts, sizeof(m->opts), "%s", opts);
	pid = fork();
	if (pid < 0)
		give_up("fork", strerror(errno));
	if (!pid) {
		if (*m->opts)
			execl(bin, bin, "-o", m->opts, m->db, m->at, (char *)NULL);
		else
			execl(bin, bin, m->db, m->at, (char *)NULL);
		perror(bin);
		_exit(127);
	}
	status = mnt_wait(pid);
	if (status) {
		char text[64];

		snprintf(text, sizeof(text), "exit %d", status);
		check_sanitizers(m);
		give_up("mvccfs does not mount", text);
	}
	m->daemon = lock_pid(m->dir);
	if (!m->daemon)
		give_up("mvccfs has returned, but DB/LOCK is not held or names no pid", NULL);
}

/* Waits for the end of the daemon: its exit status, or -1 when patience ends. */
static int daemon_wait(struct mnt *m)
{
	uint64_t end = mnt_now_ms() + MNT_PATIENCE_S * 1000;
	int status;
	pid_t got;

	do {
		got = waitpid(m->daemon, &status, WNOHANG);
		if (got == m->daemon)
			return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
		if (got < 0 && errno == ECHILD)
			return lock_pid(m->dir) ? -1 : 0; /* somebody else's child: only the lock can tell */
		mnt_sleep_ms(5);
	} while (mnt_now_ms() < end);
	return -1;
}

static bool unmount(const char *at)
{
	uint64_t end = mnt_now_ms() + MNT_PATIENCE_S * 1000;

	/* Busy for a moment is possible: the kernel lets go of closed files a little later. */
	while (geteuid() ? mnt_shell("fusermount3 -u '%s'", at) : umount2(at, 0)) {
		if (mnt_now_ms() > end || (!geteuid() && errno != EBUSY))
			return false;
		mnt_sleep_ms(10);
	}
	return true;
}

void mnt_down(struct mnt *m)
{
	int status;

	if (!MNT_CHECK(unmount(m->at), "%s: %s", m->at, strerror(errno)))
		umount2(m->at, MNT_DETACH);
	status = daemon_wait(m);
	MNT_CHECK(status == 0, "the daemon ended with %d", status);
	MNT_CHECK(lock_pid(m->dir) == 0, "the database is still locked");
	check_sanitizers(m);
	m->daemon = 0;
}

void mnt_kill(struct mnt *m)
{
	int status;

	kill(m->daemon, SIGKILL);
	status = daemon_wait(m);
	MNT_CHECK(status == 128 + SIGKILL, "the daemon ended with %d before it was killed", status);
	if (umount2(m->at, MNT_DETACH) && geteuid())
		mnt_shell("fusermount3 -uz '%s'", m->at);
	m->daemon = 0;
}

void mnt_release(struct mnt *m)
{
	if (m->daemon)
		mnt_down(m);
	clean(m->dir);
	MNT_CHECK(access(m->dir, F_OK) < 0, "%s: not removed", m->dir);
	*live_dir = 0;
}

/* ---- questions ------------------------------------------------------------------------------------- */

static uint64_t rev_xattr(const char *path)
{
	char text[64];
	ssize_t n = getxattr(path, "user.mvccfs.rev", text, sizeof(text) - 1);
	char *end;
	uint64_t rev;

	if (n <= 0)
		return 0;
	text[n] = 0;
	rev = strtoull(text, &end, 10);
	return *end ? 0 : rev;
}

uint64_t mnt_current(const struct mnt *m)
{
	char path[320];
	uint64_t rev;

	snprintf(path, sizeof(path), "%s/@rev/head", m->at);
	rev = rev_xattr(path);
	MNT_CHECK(rev > 0, "%s: user.mvccfs.rev: %s", path, strerror(errno));
	return rev;
}

uint64_t mnt_await(const struct mnt *m, uint64_t rev)
{
	uint64_t end = mnt_now_ms() + MNT_PATIENCE_S * 1000;
	uint64_t now;

	while ((now = mnt_current(m)) < rev && now > 0 && mnt_now_ms() < end)
		mnt_sleep_ms(2);
	return now;
}

uint64_t mnt_rev_of(const char *path)
{
	uint64_t rev = rev_xattr(path);

	MNT_CHECK(rev > 0, "%s: user.mvccfs.rev: %s", mnt_quote(path), strerror(errno));
	return rev;
}

const char *mnt_path(const char *fmt, ...)
{
	static struct kept {
		struct kept *next;
		char text[];
	} * all; /* only so that a leak checker finds them */
	struct kept *kept;
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	kept = malloc(sizeof(*kept) + (size_t)len + 1);
	if (!kept)
		give_up("memory", NULL);
	va_start(ap, fmt);
	vsnprintf(kept->text, (size_t)len + 1, fmt, ap);
	va_end(ap);
	kept->next = all;
	all = kept;
	return kept->text;
}

uint64_t mnt_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void mnt_sleep_ms(unsigned ms)
{
	struct timespec ts = { ms / 1000, (long)(ms % 1000) * 1000000 };

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

int mnt_shell(const char *fmt, ...)
{
	char *command;
	va_list ap;
	pid_t pid;

	va_start(ap, fmt);
	if (vasprintf(&command, fmt, ap) < 0)
		give_up("memory", NULL);
	va_end(ap);
	fflush(NULL);
	pid = fork();
	if (!pid) {
		execl("/bin/bash", "bash", "-c", command, (char *)NULL);
		_exit(127);
	}
	free(command);
	return mnt_wait(pid);
}

pid_t mnt_fork(void)
{
	pid_t parent = getpid(), pid;

	fflush(NULL);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	return pid;
}

int mnt_wait(pid_t pid)
{
	int status;

	if (pid < 0)
		return -1;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

const char *mnt_quote(const char *path)
{
	static char bufs[8][400];
	static unsigned next;
	char *out = bufs[next++ % 8], *at = out;

	for (; *path && at < out + sizeof(bufs[0]) - 8; path++)
		if (*path >= ' ' && *path < 127 && *path != '\\')
			*at++ = *path;
		else
			at += snprintf(at, 5, "\\x%02x", (unsigned char)*path);
	if (*path)
		at += snprintf(at, 4, "...");
	*at = 0;
	return out;
}

uint64_t mnt_seed(void)
{
	static uint64_t seed;

	if (!seed) {
		struct timespec ts;

		clock_gettime(CLOCK_REALTIME, &ts);
		seed = mnt_env("MVCCFS_TEST_SEED", (unsigned long)(ts.tv_sec * 1000000 + ts.tv_nsec / 1000));
		seed = seed ? seed : 1;
		printf("seed: MVCCFS_TEST_SEED=%llu\n", (unsigned long long)seed);
	}
	return seed;
}

unsigned long mnt_env(const char *name, unsigned long otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoul(text, NULL, 0) : otherwise;
}

uint64_t mnt_random(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * UINT64_C(0x2545F4914F6CDD1D) >> 8;
}

bool mnt_check(bool held, const char *file, int line, const char *expr, const char *fmt, ...)
{
	static CU_pTest test;
	static unsigned told;
	char text[2048];
	va_list ap;

	if (test != CU_get_current_test()) {
		test = CU_get_current_test();
		told = 0;
	}
	if (!held && told++ < 20) {
		va_start(ap, fmt);
		vsnprintf(text, sizeof(text), fmt, ap);
		va_end(ap);
		fflush(stdout);
		fprintf(stderr, "\n%s:%d: %s: %s", file, line, expr, text);
	}
	/* In set-up, tear-down and helpers there is no test to fail: a failure there ends the program. */
	if (test && (held || told <= 20))
		CU_assertImplementation(held, (unsigned)line, expr, file, "", CU_FALSE);
	else if (!test && !held)
		give_up("a check failed outside of any test", NULL);
	return held;
}

/* ---- files ----------------------------------------------------------------------------------------- */

static void write_file(const char *path, int flags, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);
	size_t done = 0;

	if (!MNT_OK(fd, path))
		return;
	while (done < len) {
		ssize_t n = write(fd, (const char *)data + done, len - done);

		if (!MNT_OK(n, path))
			break;
		done += (size_t)n;
	}
	MNT_OK(close(fd), path);
}

void mnt_write_file(const char *path, const void *data, size_t len)
{
	write_file(path, O_TRUNC, data, len);
}

void mnt_append_file(const char *path, const void *data, size_t len)
{
	write_file(path, O_APPEND, data, len);
}

void mnt_same_file(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *got = NULL;
	size_t done = 0;
	struct stat st;

	if (!MNT_OK(fd, path))
		return;
	got = malloc(len + 1);
	if (!got)
		give_up("memory", NULL);
	while (done <= len) {
		ssize_t n = read(fd, got + done, len + 1 - done);

		if (!MNT_OK(n, path) || n == 0)
			break;
		done += (size_t)n;
	}
	if (MNT_OK(fstat(fd, &st), path))
		MNT_CHECK((size_t)st.st_size == len, "%s: size %lld, not %zu", mnt_quote(path),
			  (long long)st.st_size, len);
	if (MNT_CHECK(done == len, "%s: %zu bytes%s, not %zu", mnt_quote(path), done,
		      done > len ? " or more" : "", len)) {
		size_t i = 0;

		while (i < len && got[i] == ((const char *)data)[i])
			i++;
		MNT_CHECK(i == len, "%s: differs at byte %zu of %zu", mnt_quote(path), i, len);
	}
	free(got);
	close(fd);
}

void mnt_pattern(uint64_t seed, uint64_t off, void *out, size_t len)
{
	unsigned char *at = out;

	for (size_t i = 0; i < len;) {
		uint64_t word = (seed + 1) * UINT64_C(0x9E3779B97F4A7C15) ^ (off + i) / 8;
		unsigned skip = (unsigned)((off + i) % 8);

		word *= UINT64_C(0xBF58476D1CE4E5B9);
		word ^= word >> 29;
		word *= UINT64_C(0x94D049BB133111EB);
		word ^= word >> 32;
		word >>= skip * 8;
		for (; skip < 8 && i < len; skip++, i++, word >>= 8)
			at[i] = (unsigned char)word;
	}
}
