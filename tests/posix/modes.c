/* chmod(2), chown(2), and when set-id bits go. */
#include "tests/posix/posix.h"

#include <sys/syscall.h>

static void test_every_mode_can_be_set(void)
{
	static const mode_t modes[] = { 0,    0111,  0222,  0444,  0644,  0755,
					0777, 01777, 02755, 04755, 07777, 06000 };

	make_file("f", 0644, "x");
	make_dir("d", 0755);
	WORKS(mkfifo("p", 0644));
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		WORKS(chmod("f", modes[i]));
		MODE(modes[i], "f");
		WORKS(chmod("d", modes[i]));
		MODE(modes[i], "d");
		WORKS(chmod("p", modes[i]));
		MODE(modes[i], "p");
	}
	HOLDS(S_ISREG(stat_of("f").st_mode));
	HOLDS(S_ISDIR(stat_of("d").st_mode));
	HOLDS(S_ISFIFO(stat_of("p").st_mode));
	WORKS(chmod("f", 0100644)); /* the type is not looked at */
	MODE(0644, "f");
}

static void test_by_a_descriptor_and_through_a_link(void)
{
	int fd;

	make_file("f", 0644, "x");
	WORKS(symlink("f", "l"));
	fd = open("f", O_RDONLY | O_CLOEXEC);
	WORKS(fchmod(fd, 0600));
	MODE(0600, "f");
	WORKS(chmod("l", 0640));
	MODE(0640, "f");
	SAME(0777, lstat_of("l").st_mode & 07777);
	WORKS(fchmodat(AT_FDCWD, "l", 0604, 0));
	MODE(0604, "f");
	FAILS(EOPNOTSUPP, fchmodat(AT_FDCWD, "l", 0600, AT_SYMLINK_NOFOLLOW));
	WORKS(close(fd));
	FAILS(EBADF, fchmod(fd, 0600));
}

static void test_chmod_changes_the_ctime_only(void)
{
	struct stat before, after;

	make_file("f", 0644, "x");
	before = stat_of("f");
	tick();
	WORKS(chmod("f", 0600));
	after = stat_of("f");
	HOLDS(ns_of(after.st_ctim) > ns_of(before.st_ctim));
	SAME(ns_of(before.st_mtim), ns_of(after.st_mtim));
	SAME(ns_of(before.st_atim), ns_of(after.st_atim));
	tick();
	WORKS(chmod("f", 0600)); /* the same again is a change, too */
	HOLDS(ns_of(stat_of("f").st_ctim) > ns_of(after.st_ctim));
}

static void test_only_the_owner_and_root_change_the_mode(void)
{
	struct stat before;

	if (!need(F_ROOT))
		return;
	make_owned_file("f", 0666, ANN, STAFF);
	make_owned_dir("d", 0777, ANN, STAFF);
	before = stat_of("f");
	tick();
	become(BEN, STAFF);
	FAILS(EPERM, chmod("f", 0600));
	FAILS(EPERM, chmod("d", 0700));
	MODE(0666, "f");
	SAME(ns_of(before.st_ctim), ns_of(stat_of("f").st_ctim));
	become_root();
	become(ANN, GUESTS);
	WORKS(chmod("f", 0600));
	WORKS(chmod("d", 0700));
	become_root();
	WORKS(chmod("f", 0644));
}

static void test_set_group_id_needs_the_group(void)
{
	if (!need(F_ROOT))
		return;
	make_owned_file("f", 0644, ANN, STAFF);
	make_owned_dir("d", 0755, ANN, STAFF);
	become(ANN, GUESTS);
	WORKS(chmod("f", 02755));
	MODE(0755, "f");
	WORKS(chmod("f", 04755));
	MODE(04755, "f");
	WORKS(chmod("d", 02755));
	MODE(0755, "d");
	become_root();
	become_member(ANN, GUESTS, STAFF);
	WORKS(chmod("f", 02755));
	MODE(02755, "f");
	become_root();
	become(ANN, STAFF);
	WORKS(chmod("f", 06755));
	MODE(06755, "f");
}

static void test_the_sticky_bit_on_anything(void)
{
	if (!need(F_ROOT))
		return;
	make_owned_file("f", 0644, ANN, STAFF);
	make_owned_dir("d", 0755, ANN, STAFF);
	become(ANN, STAFF);
	WORKS(chmod("d", 01755));
	MODE(01755, "d");
	WORKS(chmod("f", 01644));
	MODE(01644, "f");
}

/* ---- chown ----------------------------------------------------------------------------------------- */

static void test_root_gives_anything_to_anybody(void)
{
	static const char *const names[] = { "f", "d", "p", "l" };

	if (!need(F_ROOT))
		return;
	make_file("f", 0644, "x");
	make_dir("d", 0755);
	WORKS(mkfifo("p", 0644));
	WORKS(symlink("f", "l"));
	for (size_t i = 0; i < 4; i++) {
		WORKS(lchown(names[i], ANN, STAFF));
		SAME(ANN, lstat_of(names[i]).st_uid);
		SAME(STAFF, lstat_of(names[i]).st_gid);
		WORKS(lchown(names[i], BEN, (gid_t)-1));
		SAME(BEN, lstat_of(names[i]).st_uid);
		SAME(STAFF, lstat_of(names[i]).st_gid);
		WORKS(lchown(names[i], (uid_t)-1, GUESTS));
		SAME(BEN, lstat_of(names[i]).st_uid);
		SAME(GUESTS, lstat_of(names[i]).st_gid);
		WORKS(lchown(names[i], 0, 0));
		SAME(0, lstat_of(names[i]).st_uid);
	}
	WORKS(lchown("f", 4000000000U, 4000000001U));
	SAME(4000000000U, stat_of("f").st_uid);
	SAME(4000000001U, stat_of("f").st_gid);
	WORKS(chown("l", ANN, STAFF)); /* what it leads to */
	SAME(ANN, stat_of("f").st_uid);
	SAME(0, lstat_of("l").st_uid);
}

static void test_chown_changes_the_ctime_only(void)
{
	struct stat before, after;

	make_file("f", 0644, "x");
	before = stat_of("f");
	tick();
	WORKS(chown("f", before.st_uid, before.st_gid));
	after = stat_of("f");
	HOLDS(ns_of(after.st_ctim) > ns_of(before.st_ctim));
	SAME(ns_of(before.st_mtim), ns_of(after.st_mtim));
}

static void test_an_owner_gives_nothing_away(void)
{
	int fd;

	if (!need(F_ROOT))
		return;
	make_owned_file("f", 0666, ANN, STAFF);
	become_member(ANN, STAFF, GUESTS);
	FAILS(EPERM, chown("f", BEN, (gid_t)-1));
	FAILS(EPERM, chown("f", 0, 0));
	FAILS(EPERM, chown("f", ANN, 12345));
	WORKS(chown("f", ANN, GUESTS));
	SAME(GUESTS, stat_of("f").st_gid);
	WORKS(chown("f", (uid_t)-1, STAFF));
	SAME(STAFF, stat_of("f").st_gid);
	WORKS(chown("f", (uid_t)-1, (gid_t)-1));
	fd = open("f", O_RDWR | O_CLOEXEC);
	FAILS(EPERM, fchown(fd, BEN, STAFF));
	WORKS(fchown(fd, (uid_t)-1, GUESTS));
	SAME(GUESTS, stat_of("f").st_gid);
	WORKS(close(fd));
	become_root();
	become(BEN, GUESTS);
	FAILS(EPERM, chown("f", BEN, GUESTS));
	FAILS(EPERM, chown("f", (uid_t)-1, GUESTS));
}

/* ---- set-id bits ----------------------------------------------------------------------------------- */

static void test_chown_clears_set_id_bits_of_files(void)
{
	static const struct {
		mode_t before, after;
	} cases[] = {
		{ 06755, 0755 },  { 04755, 0755 },  { 02755, 0755 },  { 06711, 0711 },
		{ 01755, 01755 }, { 07777, 01777 }, { 02745, 02745 }, /* locking, once: not by group execute */
		{ 04644, 0644 },
	};

	if (!need(F_ROOT))
		return;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		make_owned_file("f", 0644, ANN, STAFF);
		WORKS(chmod("f", cases[i].before));
		WORKS(chown("f", BEN, STAFF)); /* by root */
		MODE(cases[i].after, "f");
		WORKS(unlink("f"));
	}
	make_owned_file("f", 0644, ANN, STAFF);
	WORKS(chmod("f", 06755));
	become_member(ANN, STAFF, GUESTS);
	WORKS(chown("f", (uid_t)-1, GUESTS)); /* by the owner */
	MODE(0755, "f");
}

static void test_chown_keeps_those_of_directories(void)
{
	if (!need(F_ROOT))
		return;
	make_owned_dir("d", 06755, ANN, STAFF);
	WORKS(chown("d", BEN, GUESTS));
	MODE(06755, "d");
}

static void test_writing_clears_set_id_bits(void)
{
	if (!need(F_ROOT))
		return;
	for (int how = 0; how < 4; how++) {
		int fd;

		make_owned_file("f", 06777, ANN, STAFF);
		become(BEN, GUESTS);
		MODE(06777, "f");
		fd = open("f", O_RDWR | O_CLOEXEC);
		MODE(06777, "f");
		switch (how) {
		case 0:
			SAME(1, write(fd, "x", 1));
			break;
		case 1:
			SAME(1, pwrite(fd, "x", 1, 3));
			break;
		case 2:
			WORKS(ftruncate(fd, 3));
			break;
		default:
			WORKS(truncate("f", 3));
			break;
		}
		MODE(0777, "f");
		WORKS(close(fd));
		become_root();
		WORKS(unlink("f"));
	}
}

static void test_writing_by_root_keeps_them(void)
{
	int fd;

	if (!need(F_ROOT))
		return;
	make_owned_file("f", 06777, ANN, STAFF);
	fd = open("f", O_RDWR | O_CLOEXEC);
	SAME(1, write(fd, "x", 1));
	WORKS(close(fd));
	MODE(06777, "f");
}

static void test_opening_to_truncate_clears_them(void)
{
	if (!need(F_ROOT))
		return;
	make_owned_file("f", 06777, ANN, STAFF);
	become(BEN, GUESTS);
	WORKS(close(open("f", O_WRONLY | O_TRUNC | O_CLOEXEC)));
	MODE(0777, "f");
}

static void test_what_does_not_write_keeps_them(void)
{
	char got[8];
	int fd;

	if (!need(F_ROOT))
		return;
	make_owned_file("f", 06777, ANN, STAFF);
	become(BEN, GUESTS);
	fd = open("f", O_RDWR | O_CLOEXEC);
	SAME(7, read(fd, got, 8));
	SAME(0, write(fd, got, 0));
	WORKS(fsync(fd));
	WORKS(close(fd));
	MODE(06777, "f");
	become_root();
	become(ANN, STAFF);
	WORKS(utimensat(AT_FDCWD, "f", NULL, 0));
	WORKS(chmod("f", 06755));
	MODE(06755, "f");
}

static void test_set_group_id_without_group_execute_is_no_privilege(void)
{
	int fd;

	if (!need(F_ROOT))
		return;
	make_owned_file("f", 02666, ANN, STAFF);
	become(BEN, STAFF);
	fd = open("f", O_RDWR | O_CLOEXEC);
	SAME(1, write(fd, "x", 1));
	WORKS(close(fd));
	MODE(02666, "f");
}

CU_TestInfo mode_tests[] = {
	UNIT_TEST(test_every_mode_can_be_set),
	UNIT_TEST(test_by_a_descriptor_and_through_a_link),
	UNIT_TEST(test_chmod_changes_the_ctime_only),
	UNIT_TEST(test_only_the_owner_and_root_change_the_mode),
	UNIT_TEST(test_set_group_id_needs_the_group),
	UNIT_TEST(test_the_sticky_bit_on_anything),
	UNIT_TEST(test_root_gives_anything_to_anybody),
	UNIT_TEST(test_chown_changes_the_ctime_only),
	UNIT_TEST(test_an_owner_gives_nothing_away),
	UNIT_TEST(test_chown_clears_set_id_bits_of_files),
	UNIT_TEST(test_chown_keeps_those_of_directories),
	UNIT_TEST(test_writing_clears_set_id_bits),
	UNIT_TEST(test_writing_by_root_keeps_them),
	UNIT_TEST(test_opening_to_truncate_clears_them),
	UNIT_TEST(test_what_does_not_write_keeps_them),
	UNIT_TEST(test_set_group_id_without_group_execute_is_no_privilege),
	CU_TEST_INFO_NULL,
};
