/* Who may do what: the nine bits for owner, group and others, and root. */
#include "tests/posix/posix.h"

#include <sys/wait.h>

static int opens(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd < 0 ? -1 : 0;
}

/* One class of callers, and where its bits are. */
static const struct class
{
	const char *name;
	uid_t uid;
	gid_t gid, also;
	int shift;
} classes[] = {
	{ "owner", ANN, GUESTS, GUESTS, 6 },
	{ "group", BEN, STAFF, GUESTS, 3 },
	{ "member of the group", BEN, GUESTS, STAFF, 3 },
	{ "other", CAROL, GUESTS, GUESTS, 0 },
};

enum { NCLASSES = sizeof(classes) / sizeof(classes[0]) };

static void test_all_modes_of_a_file(void)
{
	if (!need(F_ROOT))
		return;
	make_owned_file("f", 0, ANN, STAFF);
	for (unsigned c = 0; c < NCLASSES; c++) {
		for (unsigned bits = 0; bits < 8; bits++) {
			/* The other classes have the opposite: theirs must not count. */
			mode_t mode = (mode_t)((0777 & ~(7U << classes[c].shift) & ((bits ^ 7) * 0111)) |
					       bits << classes[c].shift);
			const char *who = classes[c].name;

			WORKS(chmod("f", mode));
			become_member(classes[c].uid, classes[c].gid, classes[c].also);
			OUTCOME(bits & 4 ? 0 : EACCES, "open O_RDONLY", who, opens("f", O_RDONLY));
			OUTCOME(bits & 2 ? 0 : EACCES, "open O_WRONLY", who, opens("f", O_WRONLY));
			OUTCOME((bits & 6) == 6 ? 0 : EACCES, "open O_RDWR", who, opens("f", O_RDWR));
			OUTCOME(bits & 2 ? 0 : EACCES, "truncate", who, truncate("f", 7));
			OUTCOME(bits & 4 ? 0 : EACCES, "access R_OK", who, access("f", R_OK));
			OUTCOME(bits & 2 ? 0 : EACCES, "access W_OK", who, access("f", W_OK));
			OUTCOME(bits & 1 ? 0 : EACCES, "access X_OK", who, access("f", X_OK));
			OUTCOME(0, "access F_OK", who, access("f", F_OK));
			become_root();
		}
	}
}

static void test_all_modes_of_a_directory(void)
{
	struct stat st;

	if (!need(F_ROOT))
		return;
	make_owned_dir("d", 0755, ANN, STAFF);
	make_file("d/f", 0666, "x");
	for (unsigned c = 0; c < NCLASSES; c++) {
		for (unsigned bits = 0; bits < 8; bits++) {
			mode_t mode = (mode_t)((0777 & ~(7U << classes[c].shift) & ((bits ^ 7) * 0111)) |
					       bits << classes[c].shift);
			const char *who = classes[c].name;
			bool search = bits & 1, change = (bits & 3) == 3;
			int absent = change ? 0 : search ? ENOENT : EACCES;

			WORKS(chmod("d", mode));
			become_member(classes[c].uid, classes[c].gid, classes[c].also);
			OUTCOME(bits & 4 ? 0 : EACCES, "open", who, opens("d", O_RDONLY | O_DIRECTORY));
			OUTCOME(search ? 0 : EACCES, "stat", who, stat("d/f", &st));
			OUTCOME(search ? 0 : EACCES, "open inside", who, opens("d/f", O_RDWR));
			OUTCOME(search ? 0 : EACCES, "chdir", who, chdir("d"));
			if (search)
				WORKS(chdir(".."));
			OUTCOME(change ? 0 : EACCES, "mkdir", who, mkdir("d/new", 0755));
			OUTCOME(change ? 0 : EACCES, "rename", who, rename("d/f", "d/g"));
			OUTCOME(absent, "rename", who, rename("d/g", "d/f"));
			OUTCOME(absent, "rmdir", who, rmdir("d/new"));
			become_root();
		}
	}
}

static void test_root_may_everything_but_execute_what_nobody_may(void)
{
	if (!need(F_ROOT))
		return;
	make_owned_file("f", 0, ANN, STAFF);
	make_owned_dir("d", 0, ANN, STAFF);
	WORKS(opens("f", O_RDWR));
	WORKS(access("f", R_OK | W_OK));
	FAILS(EACCES, access("f", X_OK));
	WORKS(chmod("f", 0010));
	WORKS(access("f", X_OK));
	WORKS(access("d", R_OK | W_OK | X_OK));
	WORKS(mkdir("d/x", 0755));
	WORKS(rmdir("d/x"));
}

static void test_access_asks_for_the_real_user(void)
{
	if (!need(F_ROOT))
		return;
	make_owned_file("f", 0600, ANN, STAFF);
	WORKS(seteuid(BEN)); /* real user root */
	FAILS(EACCES, opens("f", O_RDONLY));
	WORKS(access("f", R_OK));
	FAILS(EACCES, faccessat(AT_FDCWD, "f", R_OK, AT_EACCESS));
	WORKS(seteuid(0));
	FAILS(EINVAL, access("f", 77));
}

static void test_a_descriptor_keeps_its_rights(void)
{
	char got[8];
	int fd;

	if (!need(F_ROOT))
		return;
	make_owned_file("f", 0600, ANN, STAFF);
	become(ANN, STAFF);
	fd = open("f", O_RDWR | O_CLOEXEC);
	WORKS(chmod("f", 0));
	FAILS(EACCES, opens("f", O_RDONLY));
	SAME(7, read(fd, got, 7));
	SAME(1, write(fd, "x", 1));
	WORKS(ftruncate(fd, 3));
	become_root();
	WORKS(chown("f", CAROL, GUESTS));
	become(BEN, GUESTS);
	SAME(1, pwrite(fd, "y", 1, 0));
	FAILS(EPERM, fchmod(fd, 0666));
	WORKS(close(fd));
}

static void test_changes_of_rights_count_at_once(void)
{
	if (!need(F_ROOT))
		return;
	make_owned_dir("d", 0755, ANN, STAFF);
	make_owned_file("d/f", 0644, ANN, STAFF);
	for (int i = 0; i < 10; i++) {
		become(BEN, GUESTS);
		WORKS(opens("d/f", O_RDONLY));
		become_root();
		WORKS(chmod("d/f", 0600));
		become(BEN, GUESTS);
		FAILS(EACCES, opens("d/f", O_RDONLY));
		become_root();
		WORKS(chmod("d/f", 0644));
		WORKS(chmod("d", 0700));
		become(BEN, GUESTS);
		FAILS(EACCES, opens("d/f", O_RDONLY));
		become_root();
		WORKS(chmod("d", 0755));
	}
}

static void test_the_mode_of_a_link_does_not_count(void)
{
	if (!need(F_ROOT))
		return;
	make_owned_file("f", 0600, ANN, STAFF);
	WORKS(symlink("f", "l"));
	become(ANN, STAFF);
	WORKS(opens("l", O_RDWR));
	become_root();
	become(BEN, STAFF);
	FAILS(EACCES, opens("l", O_RDONLY));
}

static void test_a_set_user_id_program_runs_as_its_owner(void)
{
	int status = 1, to[2];
	char got[32] = "";
	pid_t pid;

	if (!need(F_ROOT))
		return;
	SAME(0, system("cp /usr/bin/id run"));
	WORKS(chown("run", CAROL, GUESTS));
	WORKS(chmod("run", 06755));
	WORKS(pipe(to));
	pid = fork();
	if (pid == 0) {
		if (setgid(STAFF) || setuid(ANN))
			_exit(2);
		dup2(to[1], 1);
		execl("./run", "run", "-u", NULL);
		_exit(127);
	}
	close(to[1]);
	HOLDS(read(to[0], got, sizeof(got) - 1) > 0);
	close(to[0]);
	waitpid(pid, &status, 0);
	SAME(0, status);
	/* A mount with nosuid, as those of users are, leaves the caller's. */
	HOLDS(atoi(got) == CAROL || atoi(got) == ANN);
}

CU_TestInfo permission_tests[] = {
	UNIT_TEST(test_all_modes_of_a_file),
	UNIT_TEST(test_all_modes_of_a_directory),
	UNIT_TEST(test_root_may_everything_but_execute_what_nobody_may),
	UNIT_TEST(test_access_asks_for_the_real_user),
	UNIT_TEST(test_a_descriptor_keeps_its_rights),
	UNIT_TEST(test_changes_of_rights_count_at_once),
	UNIT_TEST(test_the_mode_of_a_link_does_not_count),
	UNIT_TEST(test_a_set_user_id_program_runs_as_its_owner),
	CU_TEST_INFO_NULL,
};
