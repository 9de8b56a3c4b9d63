/*
 * A conformance suite for one directory of a POSIX filesystem on Linux: each case is a fact with its errno,
 * grouped by system call. The same program runs on a mount of mvccfs and, as the control, on a
 * plain directory of the host: where the two differ, the suite is wrong or we are.
 *
 * Each test runs in an empty directory of its own, which is the working directory, as root if the program
 * runs as root, with umask 022. What only some filesystems have is a feature, found by trying at the start;
 * a test of it says so by `need()`. docs/posix.md has the figures.
 */
#ifndef TESTS_POSIX_H
#define TESTS_POSIX_H

#include "tests/unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

/* ---- assertions ----------------------------------------------------------------------------------- */

/* The call did not return -1. Gives what it returned. */
#define WORKS(call)                                                        \
	({                                                                 \
		errno = 0;                                                 \
		__auto_type got_ = (call);                                 \
		posix_works(got_ != -1, errno, #call, __FILE__, __LINE__); \
		got_;                                                      \
	})

/* The call returned -1 with this errno. */
#define FAILS(err, call)                                                       \
	({                                                                     \
		errno = 0;                                                     \
		bool failed_ = (call) == -1;                                   \
		posix_fails(failed_, errno, (err), #call, __FILE__, __LINE__); \
	})

/* Two numbers are the same. */
#define SAME(wanted, got) \
	posix_same((int64_t)(wanted), (int64_t)(got), #wanted " == " #got, __FILE__, __LINE__)

#define HOLDS(cond) posix_holds((cond), #cond, __FILE__, __LINE__)

bool posix_works(bool worked, int got, const char *call, const char *file, unsigned line);
bool posix_fails(bool failed, int got, int wanted, const char *call, const char *file, unsigned line);
bool posix_same(int64_t wanted, int64_t got, const char *text, const char *file, unsigned line);
bool posix_holds(bool held, const char *text, const char *file, unsigned line);

/* As posix_fails(), or with `wanted` 0 as posix_works(); `what` and `path` tell which case of many it was. */
bool posix_outcome(int result, int got, int wanted, const char *what, const char *path, const char *file,
		   unsigned line);
#define OUTCOME(wanted, what, path, call)                                                    \
	({                                                                                   \
		errno = 0;                                                                   \
		int result_ = (call);                                                        \
		posix_outcome(result_, errno, (wanted), (what), (path), __FILE__, __LINE__); \
	})

/* ---- what is here --------------------------------------------------------------------------------- */

enum feature {
	F_ROOT = 1,      /* the program may become anybody */
	F_ACL = 2,       /* system.posix_acl_* */
	F_USER = 4,      /* user.* attributes */
	F_TRUSTED = 8,   /* trusted.* and security.* attributes */
	F_TMPFILE = 16,  /* O_TMPFILE */
	F_EXCHANGE = 32, /* RENAME_EXCHANGE, RENAME_NOREPLACE */
	F_WHITEOUT = 64, /* RENAME_WHITEOUT */
	F_PUNCH = 128,   /* FALLOC_FL_PUNCH_HOLE and KEEP_SIZE */
	F_ZERO = 256,    /* FALLOC_FL_ZERO_RANGE */
	F_DEVICES = 512, /* device nodes can be made */
	F_HOLES = 1024,  /* SEEK_DATA and SEEK_HOLE know holes */
	F_DIRECT = 2048, /* O_DIRECT */
	F_HANDLES = 4096 /* name_to_handle_at() and open_by_handle_at() */
};

/* All these features are here; if not, tells that the test is left out. */
bool need(unsigned features);
bool have(unsigned features); /* the same without telling */

/* The directory under test, absolute. */
extern char posix_base[PATH_MAX];

/* ---- who -------------------------------------------------------------------------------------------- */

enum { ANN = 30001, BEN = 30002, CAROL = 30003, STAFF = 40001, GUESTS = 40002 };

/* Goes on as another user, without any privilege, until become_root(). Only with F_ROOT. */
void become(uid_t uid, gid_t gid);
void become_member(uid_t uid, gid_t gid, gid_t also); /* with a supplementary group */
void become_root(void);

/* ---- files ------------------------------------------------------------------------------------------ */

/* Makes what its name says, for set-up; a failure fails the test. */
void make_file(const char *path, mode_t mode, const char *content);
void make_dir(const char *path, mode_t mode);
void make_owned_file(const char *path, mode_t mode, uid_t uid, gid_t gid);
void make_owned_dir(const char *path, mode_t mode, uid_t uid, gid_t gid);

/* What stat says; all zeros, and a failed assertion, if it says nothing. */
struct stat stat_of(const char *path);
struct stat lstat_of(const char *path);
mode_t mode_of(const char *path); /* permissions and set-id bits */
bool exists(const char *path);    /* by lstat */

void assert_content(const char *path, const char *content);
void assert_mode(mode_t wanted, const char *path);
#define MODE(wanted, path) SAME((wanted), mode_of(path))

/* Entries of a directory but "." and "..". */
unsigned count_entries(const char *path);

/* A name of `len` bytes, lent until the next call with the same len. */
const char *long_name(size_t len);

/* Waits until the clock of the filesystem has moved on: what is done next has a later time. */
void tick(void);
int64_t ns_of(struct timespec ts);

/* ---- the groups, each ended by CU_TEST_INFO_NULL ------------------------------------------------ */

extern CU_TestInfo path_tests[], open_tests[], dir_tests[], link_tests[], rename_tests[], mode_tests[],
	time_tests[], size_tests[], io_tests[], sparse_tests[], copy_tests[], xattr_tests[], acl_tests[],
	lock_tests[], map_tests[], listing_tests[], special_tests[], permission_tests[], stat_tests[];

#endif
