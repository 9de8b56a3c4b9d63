/* POSIX access control lists, as the kernel keeps them in system.posix_acl_access and system.posix_acl_default. */
#include "tests/posix/posix.h"

#include <sys/xattr.h>

#define ACCESS "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

/* The form in which they travel: a version, then entries of tag, permissions and id, all little-endian. */
enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32 };
enum { R = 4, W = 2, X = 1, NONE = 0 };

struct entry {
	unsigned tag, perm, id;
};

#define NOBODY_IN_PARTICULAR 0xffffffffU

static size_t encode(const struct entry *entries, size_t n, unsigned char *out)
{
	size_t len = 4;

	memcpy(out, "\2\0\0", 4);
	for (size_t i = 0; i < n; i++) {
		unsigned id = entries[i].tag & (USER | GROUP) ? entries[i].id : NOBODY_IN_PARTICULAR;

		out[len++] = (unsigned char)entries[i].tag;
		out[len++] = 0;
		out[len++] = (unsigned char)entries[i].perm;
		out[len++] = 0;
		for (int shift = 0; shift < 32; shift += 8)
			out[len++] = (unsigned char)(id >> shift);
	}
	return len;
}

static int set_acl(const char *path, const char *name, const struct entry *entries, size_t n)
{
	unsigned char bytes[4 + 8 * 32];
	size_t len = encode(entries, n, bytes);

	return setxattr(path, name, bytes, len, 0);
}

#define SET_ACL(path, name, entries) set_acl(path, name, entries, sizeof(entries) / sizeof((entries)[0]))

static void assert_acl(const char *path, const char *name, const struct entry *entries, size_t n)
{
	unsigned char wanted[4 + 8 * 32], got[4 + 8 * 32];
	size_t len = encode(entries, n, wanted);

	SAME((int64_t)len, getxattr(path, name, got, sizeof(got)));
	HOLDS(memcmp(wanted, got, len) == 0);
}

#define ASSERT_ACL(path, name, entries) \
	assert_acl(path, name, entries, sizeof(entries) / sizeof((entries)[0]))

static int opens(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd < 0 ? -1 : 0;
}

static void test_without_a_list_there_is_none(void)
{
	if (!need(F_ACL))
		return;
	make_file("f", 0644, "x");
	make_dir("d", 0755);
	FAILS(ENODATA, getxattr("f", ACCESS, NULL, 0));
	FAILS(ENODATA, getxattr("d", ACCESS, NULL, 0));
	FAILS(ENODATA, getxattr("d", DEFAULT, NULL, 0));
	SAME(0, listxattr("f", NULL, 0));
}

static void test_a_list_is_what_was_set(void)
{
	static const struct entry list[] = { { USER_OBJ, R | W, 0 }, { USER, R, BEN },
					     { USER, R | W, CAROL }, { GROUP_OBJ, R, 0 },
					     { GROUP, X, GUESTS },   { MASK, R | W | X, 0 },
					     { OTHER, NONE, 0 } };
	char names[256];

	if (!need(F_ACL))
		return;
	make_file("f", 0644, "x");
	WORKS(SET_ACL("f", ACCESS, list));
	ASSERT_ACL("f", ACCESS, list);
	SAME((int64_t)sizeof(ACCESS), listxattr("f", names, sizeof(names)));
	SAME(0, strcmp(names, ACCESS));
	WORKS(removexattr("f", ACCESS));
	FAILS(ENODATA, getxattr("f", ACCESS, NULL, 0));
}

static void test_a_list_that_says_no_more_than_a_mode_becomes_one(void)
{
	static const struct entry list[] = { { USER_OBJ, R | W | X, 0 },
					     { GROUP_OBJ, R | X, 0 },
					     { OTHER, X, 0 } };

	if (!need(F_ACL))
		return;
	make_file("f", 0644, "x");
	WORKS(SET_ACL("f", ACCESS, list));
	MODE(0751, "f");
	FAILS(ENODATA, getxattr("f", ACCESS, NULL, 0));
}

static void test_setting_a_list_sets_the_mode(void)
{
	static const struct entry list[] = { { USER_OBJ, R, 0 },
					     { USER, R | W, BEN },
					     { GROUP_OBJ, X, 0 },
					     { MASK, R | W, 0 },
					     { OTHER, W, 0 } };

	if (!need(F_ACL))
		return;
	make_file("f", 04777, "x");
	WORKS(SET_ACL("f", ACCESS, list));
	MODE(04462, "f"); /* the mask stands for the group */
}

static void test_chmod_sets_owner_mask_and_other(void)
{
	static const struct entry before[] = { { USER_OBJ, R | W, 0 },
					       { USER, R | W | X, BEN },
					       { GROUP_OBJ, R, 0 },
					       { MASK, R, 0 },
					       { OTHER, NONE, 0 } };
	static const struct entry after[] = { { USER_OBJ, R | W | X, 0 },
					      { USER, R | W | X, BEN },
					      { GROUP_OBJ, R, 0 },
					      { MASK, R | W, 0 },
					      { OTHER, X, 0 } };

	if (!need(F_ACL))
		return;
	make_file("f", 0644, "x");
	WORKS(SET_ACL("f", ACCESS, before));
	WORKS(chmod("f", 0761));
	MODE(0761, "f");
	ASSERT_ACL("f", ACCESS, after);
}

static void test_lists_that_are_none(void)
{
	static const struct entry no_mask[] = {
		{ USER_OBJ, R, 0 }, { USER, R, BEN }, { GROUP_OBJ, R, 0 }, { OTHER, R, 0 }
	};
	static const struct entry no_other[] = { { USER_OBJ, R, 0 }, { GROUP_OBJ, R, 0 } };
	static const struct entry disorder[] = { { GROUP_OBJ, R, 0 }, { USER_OBJ, R, 0 }, { OTHER, R, 0 } };
	static const struct entry twice[] = {
		{ USER_OBJ, R, 0 }, { USER_OBJ, R, 0 }, { GROUP_OBJ, R, 0 }, { OTHER, R, 0 }
	};
	static const struct entry odd[] = { { USER_OBJ, 8, 0 }, { GROUP_OBJ, R, 0 }, { OTHER, R, 0 } };
	static const struct entry strange[] = {
		{ USER_OBJ, R, 0 }, { 64, R, 0 }, { GROUP_OBJ, R, 0 }, { OTHER, R, 0 }
	};

	if (!need(F_ACL))
		return;
	make_file("f", 0644, "x");
	make_dir("d", 0755);
	FAILS(EINVAL, SET_ACL("f", ACCESS, no_mask));
	FAILS(EINVAL, SET_ACL("f", ACCESS, no_other));
	FAILS(EINVAL, SET_ACL("f", ACCESS, disorder));
	FAILS(EINVAL, SET_ACL("f", ACCESS, twice));
	FAILS(EINVAL, SET_ACL("f", ACCESS, odd));
	FAILS(EINVAL, SET_ACL("f", ACCESS, strange));
	FAILS(EINVAL, SET_ACL("d", DEFAULT, no_mask));
	FAILS(EINVAL, setxattr("f", ACCESS, "\2\0\0\0\1", 5, 0));
	FAILS(EOPNOTSUPP, setxattr("f", ACCESS, "\1\0\0\0", 4, 0)); /* another version */
	MODE(0644, "f");
	FAILS(ENODATA, getxattr("f", ACCESS, NULL, 0));
}

static void test_only_directories_have_a_default(void)
{
	static const struct entry list[] = { { USER_OBJ, R, 0 }, { GROUP_OBJ, R, 0 }, { OTHER, R, 0 } };

	if (!need(F_ACL))
		return;
	make_file("f", 0644, "x");
	make_dir("d", 0755);
	FAILS(EACCES, SET_ACL("f", DEFAULT, list));
	WORKS(SET_ACL("d", DEFAULT, list));
	ASSERT_ACL("d", DEFAULT, list);
	MODE(0755, "d");
	WORKS(removexattr("d", DEFAULT));
	FAILS(ENODATA, getxattr("d", DEFAULT, NULL, 0));
}

static void test_a_symlink_has_no_list(void)
{
	static const struct entry list[] = { { USER_OBJ, R, 0 }, { GROUP_OBJ, R, 0 }, { OTHER, R, 0 } };
	unsigned char bytes[64];
	size_t len = encode(list, 3, bytes);

	if (!need(F_ACL))
		return;
	WORKS(symlink("none", "l"));
	FAILS(EOPNOTSUPP, lsetxattr("l", ACCESS, bytes, len, 0));
	FAILS(EOPNOTSUPP, lgetxattr("l", ACCESS, bytes, sizeof(bytes)));
}

/* ---- inheriting ------------------------------------------------------------------------------------- */

static const struct entry given[] = { { USER_OBJ, R | W | X, 0 }, { USER, R | W, BEN },
				      { GROUP_OBJ, R | X, 0 },    { GROUP, R, GUESTS },
				      { MASK, R | W | X, 0 },     { OTHER, NONE, 0 } };

static void test_a_new_file_inherits_what_its_mode_allows(void)
{
	static const struct entry wanted[] = { { USER_OBJ, R | W, 0 },  { USER, R | W, BEN },
					       { GROUP_OBJ, R | X, 0 }, { GROUP, R, GUESTS },
					       { MASK, R | W, 0 },      { OTHER, NONE, 0 } };

	if (!need(F_ACL))
		return;
	make_dir("d", 0755);
	WORKS(SET_ACL("d", DEFAULT, given));
	umask(077); /* is not asked where there is a default */
	WORKS(close(open("d/f", O_WRONLY | O_CREAT | O_CLOEXEC, 0666)));
	ASSERT_ACL("d/f", ACCESS, wanted);
	MODE(0660, "d/f");
	FAILS(EOPNOTSUPP,
	      getxattr("d/f", DEFAULT, NULL, 0) == -1 && errno == ENODATA ? (errno = EOPNOTSUPP, -1) : -1);
	WORKS(mknod("d/n", S_IFREG | 0666, 0));
	ASSERT_ACL("d/n", ACCESS, wanted);
	WORKS(mkfifo("d/p", 0666));
	ASSERT_ACL("d/p", ACCESS, wanted);
	MODE(0660, "d/p");
	WORKS(symlink("f", "d/l"));
	SAME(0777, lstat_of("d/l").st_mode & 07777);
}

static void test_a_new_directory_inherits_both(void)
{
	static const struct entry wanted[] = { { USER_OBJ, R | W | X, 0 }, { USER, R | W, BEN },
					       { GROUP_OBJ, R | X, 0 },    { GROUP, R, GUESTS },
					       { MASK, R | X, 0 },         { OTHER, NONE, 0 } };

	if (!need(F_ACL))
		return;
	make_dir("d", 0755);
	WORKS(SET_ACL("d", DEFAULT, given));
	umask(022);
	WORKS(mkdir("d/sub", 0757));
	ASSERT_ACL("d/sub", ACCESS, wanted);
	ASSERT_ACL("d/sub", DEFAULT, given);
	MODE(0750, "d/sub");
	WORKS(mkdir("d/sub/sub", 0777));
	ASSERT_ACL("d/sub/sub", DEFAULT, given);
	ASSERT_ACL("d/sub/sub", ACCESS, given);
}

static void test_a_small_default_is_a_mode(void)
{
	static const struct entry list[] = { { USER_OBJ, R | W | X, 0 },
					     { GROUP_OBJ, R | W, 0 },
					     { OTHER, R, 0 } };

	if (!need(F_ACL))
		return;
	make_dir("d", 0755);
	WORKS(SET_ACL("d", DEFAULT, list));
	umask(077);
	WORKS(close(open("d/f", O_WRONLY | O_CREAT | O_CLOEXEC, 0666)));
	MODE(0664, "d/f");
	FAILS(ENODATA, getxattr("d/f", ACCESS, NULL, 0));
	WORKS(mkdir("d/sub", 0777));
	MODE(0764, "d/sub");
	ASSERT_ACL("d/sub", DEFAULT, list);
}

static void test_without_a_default_the_umask_counts(void)
{
	static const struct entry list[] = { { USER_OBJ, R | W | X, 0 },
					     { USER, R, BEN },
					     { GROUP_OBJ, R, 0 },
					     { MASK, R | W, 0 },
					     { OTHER, NONE, 0 } };

	if (!need(F_ACL))
		return;
	make_dir("d", 0755);
	WORKS(SET_ACL("d", ACCESS, list)); /* that of the directory itself is not inherited */
	umask(027);
	WORKS(close(open("d/f", O_WRONLY | O_CREAT | O_CLOEXEC, 0666)));
	MODE(0640, "d/f");
	FAILS(ENODATA, getxattr("d/f", ACCESS, NULL, 0));
}

/* ---- what they permit ------------------------------------------------------------------------------ */

static void test_a_named_user_and_the_mask(void)
{
	static const struct entry list[] = { { USER_OBJ, R | W, 0 }, { USER, R | W, BEN },
					     { USER, NONE, CAROL },  { GROUP_OBJ, R, 0 },
					     { MASK, R | W, 0 },     { OTHER, R, 0 } };

	if (!need(F_ACL | F_ROOT))
		return;
	make_owned_file("f", 0600, ANN, STAFF);
	WORKS(SET_ACL("f", ACCESS, list));
	become(BEN, 1);
	WORKS(opens("f", O_RDWR));
	become_root();
	become(CAROL, 1);
	FAILS(EACCES, opens("f", O_RDONLY));
	become_root();
	become(CAROL, STAFF); /* a user's entry is before a group's */
	FAILS(EACCES, opens("f", O_RDONLY));
	become_root();
	become(30009, STAFF);
	WORKS(opens("f", O_RDONLY));
	FAILS(EACCES, opens("f", O_RDWR));
	become_root();
	become(30009, 1);
	WORKS(opens("f", O_RDONLY));
	become_root();
	WORKS(chmod("f", 0640)); /* the mask: no writing */
	become(BEN, 1);
	WORKS(opens("f", O_RDONLY));
	FAILS(EACCES, opens("f", O_RDWR));
	become_root();
	WORKS(chmod("f", 0600)); /* the mask: nothing */
	become(BEN, 1);
	FAILS(EACCES, opens("f", O_RDONLY));
	become_root();
	become(ANN, 1); /* an owner knows no mask */
	WORKS(opens("f", O_RDWR));
}

static void test_a_named_group(void)
{
	static const struct entry list[] = { { USER_OBJ, R | W | X, 0 },
					     { GROUP_OBJ, NONE, 0 },
					     { GROUP, R | X, GUESTS },
					     { MASK, R | W | X, 0 },
					     { OTHER, NONE, 0 } };

	if (!need(F_ACL | F_ROOT))
		return;
	make_owned_dir("d", 0700, ANN, STAFF);
	make_file("d/f", 0666, "x");
	WORKS(SET_ACL("d", ACCESS, list));
	become(BEN, GUESTS);
	WORKS(opens("d/f", O_RDWR));
	WORKS(opens("d", O_RDONLY));
	FAILS(EACCES, mkdir("d/x", 0755));
	become_root();
	become_member(BEN, 1, GUESTS);
	WORKS(opens("d/f", O_RDWR));
	become_root();
	become(BEN, STAFF);
	FAILS(EACCES, opens("d/f", O_RDONLY));
	become_root();
	become_member(BEN, STAFF, GUESTS); /* one of the groups is enough */
	WORKS(opens("d/f", O_RDONLY));
	become_root();
	become(BEN, 1);
	FAILS(EACCES, opens("d/f", O_RDONLY));
}

static void test_who_may_set_a_list(void)
{
	static const struct entry list[] = { { USER_OBJ, R | W, 0 },
					     { USER, R | W, BEN },
					     { GROUP_OBJ, R, 0 },
					     { MASK, R | W, 0 },
					     { OTHER, NONE, 0 } };

	if (!need(F_ACL | F_ROOT))
		return;
	make_owned_file("f", 0666, ANN, STAFF);
	make_owned_dir("d", 0777, ANN, STAFF);
	become(BEN, STAFF);
	FAILS(EPERM, SET_ACL("f", ACCESS, list));
	FAILS(EPERM, SET_ACL("d", DEFAULT, list));
	FAILS(EPERM, removexattr("f", ACCESS));
	become_root();
	become(ANN, GUESTS);
	WORKS(SET_ACL("f", ACCESS, list));
	WORKS(SET_ACL("d", DEFAULT, list));
	WORKS(removexattr("f", ACCESS));
}

static void test_setting_a_list_may_clear_set_group_id(void)
{
	static const struct entry list[] = { { USER_OBJ, R | W | X, 0 },
					     { USER, R | W, BEN },
					     { GROUP_OBJ, R | X, 0 },
					     { MASK, R | W | X, 0 },
					     { OTHER, NONE, 0 } };

	if (!need(F_ACL | F_ROOT))
		return;
	make_owned_file("f", 02755, ANN, STAFF);
	make_owned_file("g", 02755, ANN, STAFF);
	become(ANN, GUESTS); /* is not in the file's group */
	WORKS(SET_ACL("f", ACCESS, list));
	MODE(0770, "f");
	become_root();
	become(ANN, STAFF);
	WORKS(SET_ACL("g", ACCESS, list));
	MODE(02770, "g");
}

static void test_lists_move_and_change_the_ctime(void)
{
	static const struct entry list[] = { { USER_OBJ, R | W, 0 },
					     { USER, R | W, BEN },
					     { GROUP_OBJ, R, 0 },
					     { MASK, R | W, 0 },
					     { OTHER, NONE, 0 } };
	struct stat before;

	if (!need(F_ACL))
		return;
	make_file("f", 0644, "x");
	before = stat_of("f");
	tick();
	WORKS(SET_ACL("f", ACCESS, list));
	HOLDS(ns_of(stat_of("f").st_ctim) > ns_of(before.st_ctim));
	WORKS(rename("f", "g"));
	ASSERT_ACL("g", ACCESS, list);
	SAME(0, system("cp -p g h && mv g f"));
	ASSERT_ACL("h", ACCESS, list);
	ASSERT_ACL("f", ACCESS, list);
}

CU_TestInfo acl_tests[] = {
	UNIT_TEST(test_without_a_list_there_is_none),
	UNIT_TEST(test_a_list_is_what_was_set),
	UNIT_TEST(test_a_list_that_says_no_more_than_a_mode_becomes_one),
	UNIT_TEST(test_setting_a_list_sets_the_mode),
	UNIT_TEST(test_chmod_sets_owner_mask_and_other),
	UNIT_TEST(test_lists_that_are_none),
	UNIT_TEST(test_only_directories_have_a_default),
	UNIT_TEST(test_a_symlink_has_no_list),
	UNIT_TEST(test_a_new_file_inherits_what_its_mode_allows),
	UNIT_TEST(test_a_new_directory_inherits_both),
	UNIT_TEST(test_a_small_default_is_a_mode),
	UNIT_TEST(test_without_a_default_the_umask_counts),
	UNIT_TEST(test_a_named_user_and_the_mask),
	UNIT_TEST(test_a_named_group),
	UNIT_TEST(test_who_may_set_a_list),
	UNIT_TEST(test_setting_a_list_may_clear_set_group_id),
	UNIT_TEST(test_lists_move_and_change_the_ctime),
	CU_TEST_INFO_NULL,
};
