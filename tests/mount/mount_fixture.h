/*
 * What the mount tests in C share: a database in a scratch directory, mounted by the program under test as a
 * user would do it, and taken down again whatever happens to the test.
 *
 * The programs come from the environment: MVCCFS_BIN, and MVCCCTL_BIN for the tests that use it. A
 * fixture that cannot be set up ends the test program with a message, as there is nothing left to test.
 * The test adopts the daemon (it is the child subreaper), so a daemon that ends with anything but 0, or
 * that a sanitizer complains about, fails the test that unmounted it. Removal does not rest on the test's
 * good behaviour: a second process waits for the end of this one, however it comes (SIGKILL too), and
 * then unmounts, kills and removes.
 */
#ifndef TESTS_MOUNT_FIXTURE_H
#define TESTS_MOUNT_FIXTURE_H

#include "tests/unit.h"

#include <stdint.h>
#include <sys/types.h>

/* How long anything that must come about may take. Reached only when it does not come about at all. */
#define MNT_PATIENCE_S 60

struct mnt {
	char dir[256]; /* scratch: the database, the mount point, and room for the test */
	char db[300];
	char at[300];    /* the mount point */
	char plain[300]; /* an empty plain directory on the host */
	char opts[256];  /* of the mount at hand; "" if none were given */
	pid_t daemon;    /* 0 while nothing is mounted */
};

/* Makes the scratch directory and mounts a fresh database with `opts` ("a,b=c", or NULL). Once at a time. */
void mnt_init(struct mnt *m, const char *opts);

/* Unmounts if need be, removes everything. Fails the test if the daemon did not end well. */
void mnt_release(struct mnt *m);

/* Mounts again, with `opts` (NULL: those of last time). */
void mnt_up(struct mnt *m, const char *opts);

/* Unmounts, waits until the database is closed, and asserts that the daemon ended with 0. */
void mnt_down(struct mnt *m);

/* kill -9: returns when the daemon is gone and the dead mount is out of the way. */
void mnt_kill(struct mnt *m);

/* The newest revision, as the mount tells it. */
uint64_t mnt_current(const struct mnt *m);

/* Waits until the newest revision is at least `rev`, or patience ends. Returns the newest revision. */
uint64_t mnt_await(const struct mnt *m, uint64_t rev);

/* The revision of a path's last change by its xattr; 0 (and a failed assertion) if there is none. */
uint64_t mnt_rev_of(const char *path);

/* A path by printf. It lives as long as the program: not for loops of a million. */
const char *mnt_path(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Milliseconds of a clock that never goes back. */
uint64_t mnt_now_ms(void);
void mnt_sleep_ms(unsigned ms);

/* Runs a shell command and returns its exit status; 128 + n if signal n ended it. */
int mnt_shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Forks a helper process of the test that dies with it. Returns as fork() does. */
pid_t mnt_fork(void);

/* Waits for a helper: its exit status, or 128 + n. */
int mnt_wait(pid_t pid);

/* A name or path as text, cut if long: bytes that do not print become \xNN. One of 8 buffers used in turn. */
const char *mnt_quote(const char *path);

/* The seed of this run: of the environment (MVCCFS_TEST_SEED) or of the clock; printed once. */
uint64_t mnt_seed(void);

/* A number of the environment, or `otherwise`. */
unsigned long mnt_env(const char *name, unsigned long otherwise);

/* xorshift64*: the tests' own generator, so that a seed means the same everywhere. `*state` is never 0. */
uint64_t mnt_random(uint64_t *state);

/*
 * Assertions that say what differed, and go on. Each returns whether it held. A test that fails all over
 * tells the first twenty.
 *
 *	MNT_CHECK(x == 3, "x is %d", x);
 *	MNT_OK(mkdir(path, 0755), path);
 *	MNT_FAILS(mkdir(path, 0755), EPERM, path);
 */
bool mnt_check(bool held, const char *file, int line, const char *expr, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
#define MNT_CHECK(cond, ...) mnt_check((cond), __FILE__, __LINE__, #cond, __VA_ARGS__)
#define MNT_OK(call, path)                                                                              \
	({                                                                                              \
		bool ok_ = (call) >= 0;                                                                 \
		int errno_ = errno;                                                                     \
		mnt_check(ok_, __FILE__, __LINE__, #call, "%s: %s", mnt_quote(path), strerror(errno_)); \
	})
#define MNT_FAILS(call, err, path)                                                                  \
	({                                                                                          \
		errno = 0;                                                                          \
		bool failed_ = (call) < 0;                                                          \
		int errno_ = errno;                                                                 \
		mnt_check(failed_ &&errno_ == (err), __FILE__, __LINE__, #call, "%s: %s, not %s",   \
			  mnt_quote(path), failed_ ? strerror(errno_) : "no error", strerror(err)); \
	})

/* Files, for set-up and comparison. Each asserts that it worked. */
void mnt_write_file(const char *path, const void *data, size_t len); /* O_CREAT|O_TRUNC, write, close */
void mnt_append_file(const char *path, const void *data, size_t len);
void mnt_same_file(const char *path, const void *data, size_t len); /* asserts the whole content */
#define mnt_write_text(path, text) mnt_write_file(path, text, strlen(text))
#define mnt_same_text(path, text) mnt_same_file(path, text, strlen(text))

/*
 * Fills `out` with bytes that only (seed, off) determine, so that content can be checked without
 * keeping it.
 */
void mnt_pattern(uint64_t seed, uint64_t off, void *out, size_t len);

#endif
