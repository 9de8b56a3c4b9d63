/* getxattr(2), setxattr(2), listxattr(2), removexattr(2). */
#include "tests/posix/posix.h"

#include <sys/xattr.h>

static void assert_value(const char *path, const char *name, const char *value)
{
	char got[1024];

	SAME((int64_t)strlen(value), lgetxattr(path, name, got, sizeof(got)));
	HOLDS(memcmp(got, value, strlen(value)) == 0);
}

/* The number of names in the list that begin with `prefix`. */
static int count_names(const char *path, const char *prefix)
{
	static char names[65536];
	ssize_t len = llistxattr(path, names, sizeof(names));
	int n = 0;

	HOLDS(len >= 0);
	for (ssize_t i = 0; i < len; i += (ssize_t)strlen(names + i) + 1)
		n += strncmp(names + i, prefix, strlen(prefix)) == 0;
	return n;
}

static void test_what_is_set_is_there(void)
{
	char got[16];
	int fd;

	if (!need(F_USER))
		return;
	make_file("f", 0644, "x");
	make_dir("d", 0755);
	WORKS(setxattr("f", "user.a", "one", 3, 0));
	WORKS(setxattr("d", "user.a", "two", 3, 0));
	assert_value("f", "user.a", "one");
	assert_value("d", "user.a", "two");
	SAME(3, getxattr("f", "user.a", NULL, 0));
	WORKS(setxattr("f", "user.a", "longer", 6, 0));
	assert_value("f", "user.a", "longer");
	WORKS(setxattr("f", "user.a", "", 0, 0));
	SAME(0, getxattr("f", "user.a", got, sizeof(got)));
	WORKS(setxattr("f", "user.b", "\0\1\2", 3, 0));
	SAME(3, getxattr("f", "user.b", got, sizeof(got)));
	HOLDS(memcmp(got, "\0\1\2", 3) == 0);
	fd = open("f", O_RDONLY | O_CLOEXEC);
	WORKS(fsetxattr(fd, "user.c", "three", 5, 0));
	SAME(5, fgetxattr(fd, "user.c", got, sizeof(got)));
	HOLDS(flistxattr(fd, NULL, 0) >= 21);
	WORKS(fremovexattr(fd, "user.c"));
	FAILS(ENODATA, fgetxattr(fd, "user.c", got, sizeof(got)));
	WORKS(close(fd));
}

static void test_create_and_replace(void)
{
	if (!need(F_USER))
		return;
	make_file("f", 0644, "x");
	FAILS(ENODATA, setxattr("f", "user.a", "1", 1, XATTR_REPLACE));
	WORKS(setxattr("f", "user.a", "1", 1, XATTR_CREATE));
	FAILS(EEXIST, setxattr("f", "user.a", "2", 1, XATTR_CREATE));
	assert_value("f", "user.a", "1");
	WORKS(setxattr("f", "user.a", "3", 1, XATTR_REPLACE));
	assert_value("f", "user.a", "3");
	FAILS(EINVAL, setxattr("f", "user.a", "4", 1, 8));
	WORKS(removexattr("f", "user.a"));
	FAILS(ENODATA, removexattr("f", "user.a"));
	FAILS(ENODATA, getxattr("f", "user.a", NULL, 0));
	WORKS(setxattr("f", "user.a", "5", 1, XATTR_CREATE));
}

static void test_buffers_that_are_too_small(void)
{
	char got[16];

	if (!need(F_USER))
		return;
	make_file("f", 0644, "x");
	WORKS(setxattr("f", "user.abc", "value", 5, 0));
	FAILS(ERANGE, getxattr("f", "user.abc", got, 4));
	SAME(5, getxattr("f", "user.abc", got, 5));
	FAILS(ERANGE, listxattr("f", got, 8));
	HOLDS(listxattr("f", NULL, 0) >= 9);
}

static void test_names_and_their_limits(void)
{
	char name[300] = "user.";

	if (!need(F_USER))
		return;
	make_file("f", 0644, "x");
	memset(name + 5, 'n', 250);
	name[255] = '\0';
	WORKS(setxattr("f", name, "x", 1, 0));
	SAME(1, getxattr("f", name, NULL, 0));
	WORKS(removexattr("f", name));
	name[255] = 'n';
	name[256] = '\0';
	FAILS(ERANGE, setxattr("f", name, "x", 1, 0));
	FAILS(ERANGE, getxattr("f", name, NULL, 0));
	FAILS(ERANGE, removexattr("f", name));
	FAILS(ERANGE, setxattr("f", "", "x", 1, 0));
	FAILS(EINVAL, setxattr("f", "user.", "x", 1, 0));
	FAILS(EOPNOTSUPP, setxattr("f", "nonsense.a", "x", 1, 0));
	FAILS(EOPNOTSUPP, setxattr("f", "nodot", "x", 1, 0));
	FAILS(EOPNOTSUPP, getxattr("f", "nonsense.a", NULL, 0));
	WORKS(setxattr("f", "user.a b\nc\xff", "x", 1, 0));
	SAME(1, getxattr("f", "user.a b\nc\xff", NULL, 0));
}

static void test_values_of_every_size(void)
{
	static const size_t sizes[] = { 0, 1, 100, 1000, 1024, 1025, 2000, 3000 };
	char *value = malloc(70000), *got = malloc(70000);

	if (need(F_USER)) {
		memset(value, 'v', 70000);
		make_file("f", 0644, "x");
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			WORKS(setxattr("f", "user.a", value, sizes[i], 0));
			SAME((int64_t)sizes[i], getxattr("f", "user.a", got, 70000));
			HOLDS(memcmp(value, got, sizes[i]) == 0);
		}
		FAILS(E2BIG, setxattr("f", "user.a", value, 65537, 0));
		SAME(3000, getxattr("f", "user.a", NULL, 0));
	}
	free(value);
	free(got);
}

static void test_the_list(void)
{
	char name[32];

	if (!need(F_USER))
		return;
	make_file("f", 0644, "x");
	make_file("g", 0644, "x");
	SAME(0, count_names("f", "user."));
	for (int i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "user.n%d", i);
		WORKS(setxattr("f", name, name, strlen(name), 0));
	}
	SAME(50, count_names("f", "user."));
	SAME(0, count_names("g", "user."));
	for (int i = 0; i < 50; i += 2) {
		snprintf(name, sizeof(name), "user.n%d", i);
		WORKS(removexattr("f", name));
	}
	SAME(25, count_names("f", "user.n"));
	assert_value("f", "user.n1", "user.n1");
}

static void test_user_attributes_are_for_files_and_directories(void)
{
	if (!need(F_USER))
		return;
	make_file("f", 0644, "x");
	WORKS(symlink("f", "l"));
	WORKS(mkfifo("p", 0644));
	FAILS(EPERM, lsetxattr("l", "user.a", "x", 1, 0));
	FAILS(ENODATA,
	      lgetxattr("l", "user.a", NULL, 0) == -1 && errno == EPERM ? (errno = ENODATA, -1) : -1);
	FAILS(EPERM, setxattr("p", "user.a", "x", 1, 0));
	WORKS(setxattr("l", "user.a", "x", 1, 0)); /* of what it leads to */
	SAME(1, getxattr("f", "user.a", NULL, 0));
}

static void test_attributes_follow_a_file_and_go_with_it(void)
{
	if (!need(F_USER))
		return;
	make_file("f", 0644, "x");
	WORKS(setxattr("f", "user.a", "x", 1, 0));
	WORKS(rename("f", "g"));
	assert_value("g", "user.a", "x");
	WORKS(link("g", "h"));
	assert_value("h", "user.a", "x");
	WORKS(setxattr("h", "user.b", "y", 1, 0));
	assert_value("g", "user.b", "y");
	WORKS(unlink("g"));
	WORKS(unlink("h"));
	make_file("g", 0644, "x");
	FAILS(ENODATA, getxattr("g", "user.a", NULL, 0));
}

static void test_setting_changes_the_ctime_only(void)
{
	struct stat before, after;

	if (!need(F_USER))
		return;
	make_file("f", 0644, "x");
	before = stat_of("f");
	tick();
	WORKS(setxattr("f", "user.a", "x", 1, 0));
	after = stat_of("f");
	HOLDS(ns_of(after.st_ctim) > ns_of(before.st_ctim));
	SAME(ns_of(before.st_mtim), ns_of(after.st_mtim));
	tick();
	WORKS(removexattr("f", "user.a"));
	HOLDS(ns_of(stat_of("f").st_ctim) > ns_of(after.st_ctim));
}

static void test_who_may(void)
{
	char got[16];

	if (!need(F_USER | F_ROOT))
		return;
	make_owned_file("f", 0640, ANN, STAFF);
	make_owned_dir("sticky", 01777, ANN, STAFF);
	WORKS(setxattr("f", "user.a", "x", 1, 0));
	become(BEN, STAFF);
	SAME(1, getxattr("f", "user.a", got, sizeof(got)));
	FAILS(EACCES, setxattr("f", "user.a", "y", 1, 0));
	FAILS(EACCES, removexattr("f", "user.a"));
	FAILS(EPERM, setxattr("sticky", "user.a", "y", 1, 0));
	HOLDS(listxattr("f", got, sizeof(got)) > 0);
	become_root();
	become(BEN, GUESTS);
	FAILS(EACCES, getxattr("f", "user.a", got, sizeof(got)));
	become_root();
	become(ANN, GUESTS);
	WORKS(setxattr("f", "user.a", "z", 1, 0));
	WORKS(setxattr("sticky", "user.a", "z", 1, 0));
}

static void test_trusted_and_security_are_roots(void)
{
	char got[16];

	if (!need(F_TRUSTED))
		return;
	make_owned_file("f", 0666, ANN, STAFF);
	WORKS(symlink("f", "l"));
	WORKS(setxattr("f", "trusted.a", "secret", 6, 0));
	WORKS(setxattr("f", "security.mine", "label", 5, 0));
	WORKS(lsetxattr("l", "trusted.a", "link", 4, 0)); /* also of a link */
	assert_value("f", "trusted.a", "secret");
	assert_value("l", "trusted.a", "link");
	assert_value("f", "security.mine", "label");
	SAME(1, count_names("f", "trusted."));
	become(ANN, STAFF);
	FAILS(ENODATA, getxattr("f", "trusted.a", got, sizeof(got)));
	FAILS(EPERM, setxattr("f", "trusted.a", "x", 1, 0));
	FAILS(EPERM, removexattr("f", "trusted.a"));
	FAILS(EPERM, setxattr("f", "security.mine", "x", 1, 0));
	SAME(5, getxattr("f", "security.mine", got, sizeof(got)));
	become_root();
	assert_value("f", "trusted.a", "secret");
	WORKS(removexattr("f", "trusted.a"));
	FAILS(ENODATA, getxattr("f", "trusted.a", got, sizeof(got)));
}

/* As setcap has it: version 2, one capability. */
static void test_capabilities_go_with_a_write(void)
{
	static const unsigned char caps[] = { 1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 };
	char got[32];
	int fd;

	if (!need(F_TRUSTED))
		return;
	make_file("f", 0755, "x");
	WORKS(setxattr("f", "security.capability", caps, sizeof(caps), 0));
	SAME((int64_t)sizeof(caps), getxattr("f", "security.capability", got, sizeof(got)));
	fd = open("f", O_RDWR | O_CLOEXEC);
	SAME(1, write(fd, "y", 1));
	WORKS(close(fd));
	FAILS(ENODATA, getxattr("f", "security.capability", got, sizeof(got)));
	WORKS(setxattr("f", "security.capability", caps, sizeof(caps), 0));
	WORKS(chown("f", ANN, STAFF));
	FAILS(ENODATA, getxattr("f", "security.capability", got, sizeof(got)));
}

CU_TestInfo xattr_tests[] = {
	UNIT_TEST(test_what_is_set_is_there),
	UNIT_TEST(test_create_and_replace),
	UNIT_TEST(test_buffers_that_are_too_small),
	UNIT_TEST(test_names_and_their_limits),
	UNIT_TEST(test_values_of_every_size),
	UNIT_TEST(test_the_list),
	UNIT_TEST(test_user_attributes_are_for_files_and_directories),
	UNIT_TEST(test_attributes_follow_a_file_and_go_with_it),
	UNIT_TEST(test_setting_changes_the_ctime_only),
	UNIT_TEST(test_who_may),
	UNIT_TEST(test_trusted_and_security_are_roots),
	UNIT_TEST(test_capabilities_go_with_a_write),
	CU_TEST_INFO_NULL,
};
