/*
 * Access control lists: what they are and mean, that mode and list go together, what new files inherit, also when the
 * daemon is killed before their revision, and that today's lists guard the past.
 */
#include "fs/ns.h"
#include "fs/ns_acl.h"
#include "fs/past.h"
#include "rocks_backend/rocks.h"

#include "tests/store_fixture.h"
#include "tests/unit.h"

#include <errno.h>
#include <linux/fs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32 };

static const struct ns_who me = { .uid = 1000, .gid = 100, .pid = 42, .comm = "test" };

/* ---- lists as text: "u:rw u7:r g:x g8:rx m:rwx o:" ------------------------------------------------ */

static unsigned tag_of(char letter, bool named)
{
	switch (letter) {
	case 'u':
		return named ? USER : USER_OBJ;
	case 'g':
		return named ? GROUP : GROUP_OBJ;
	case 'm':
		return MASK;
	default:
		return OTHER;
	}
}

static struct buf list(const char *text)
{
	struct buf out = { 0 };

	CU_ASSERT_EQUAL(buf_put_le32(&out, 2), 0);
	while (*text) {
		char letter = *text++;
		bool named = *text != ':';
		uint32_t id = named ? (uint32_t)strtoul(text, NULL, 10) : UINT32_MAX;
		unsigned perm = 0;

		text = strchr(text, ':') + 1;
		for (; *text && *text != ' '; text++)
			perm |= *text == 'r' ? 4 : *text == 'w' ? 2 : 1;
		CU_ASSERT_EQUAL(buf_put_le32(&out, tag_of(letter, named) | perm << 16), 0);
		CU_ASSERT_EQUAL(buf_put_le32(&out, id), 0);
		text += *text == ' ';
	}
	return out;
}

static void assert_same_list(struct slice got, const char *text)
{
	struct buf wanted = list(text);

	CU_ASSERT_TRUE(slice_eq(got, slice_buf(&wanted)));
	buf_release(&wanted);
}

static int check(const char *text)
{
	struct buf acl = list(text);
	int err = acl_check(slice_buf(&acl));

	buf_release(&acl);
	return err;
}

static void test_what_is_a_list(void)
{
	CU_ASSERT_EQUAL(check("u:rwx g:rx o:x"), 0);
	CU_ASSERT_EQUAL(check("u: g: m: o:"), 0);
	CU_ASSERT_EQUAL(check("u:r u1:r u2:w g:r g3:x g4: m:rwx o:"), 0);
	CU_ASSERT_EQUAL(check(""), -EINVAL);
	CU_ASSERT_EQUAL(check("u:r g:r"), -EINVAL);
	CU_ASSERT_EQUAL(check("u:r o:r"), -EINVAL);
	CU_ASSERT_EQUAL(check("g:r o:r"), -EINVAL);
	CU_ASSERT_EQUAL(check("u:r u1:r g:r o:r"), -EINVAL);
	CU_ASSERT_EQUAL(check("u:r g:r g1:r o:r"), -EINVAL);
	CU_ASSERT_EQUAL(check("g:r u:r o:r"), -EINVAL);
	CU_ASSERT_EQUAL(check("u:r g:r o:r m:r"), -EINVAL);
	CU_ASSERT_EQUAL(check("u:r u:r g:r o:r"), -EINVAL);
	CU_ASSERT_EQUAL(check("u:r g:r g:r o:r"), -EINVAL);
	CU_ASSERT_EQUAL(check("u:r g:r m:r m:r o:r"), -EINVAL);
}

/* Every byte of a list changed in every way: judged, and nothing is read beyond it. */
static void test_damaged_lists_are_judged(void)
{
	struct buf good = list("u:rw u7:r g:x g8:rx m:rwx o:");
	unsigned valid = 0;

	for (size_t len = 0; len <= good.len; len++) {
		uint8_t *exact = malloc(len + 1);

		for (unsigned bit = 0; bit < 8 * len; bit++) {
			int err;

			memcpy(exact, good.data, len);
			exact[bit / 8] ^= (uint8_t)(1U << bit % 8);
			err = acl_check(slice_of(exact, len));
			valid += err == 0;
			if (err && err != -EINVAL && err != -EOPNOTSUPP)
				CU_FAIL("another error");
		}
		free(exact);
	}
	/* Other ids are as good, other permissions, and a named entry's tag may be its neighbour's. */
	CU_ASSERT(valid >= 6 * 32 && valid < 8 * good.len);
	buf_release(&good);
}

static void assert_mode(const char *text, uint32_t wanted, bool wanted_minimal)
{
	struct buf acl = list(text);
	bool minimal;

	CU_ASSERT_EQUAL(acl_mode(slice_buf(&acl), &minimal), wanted);
	CU_ASSERT_EQUAL(minimal, wanted_minimal);
	buf_release(&acl);
}

static void test_the_mode_of_a_list(void)
{
	assert_mode("u:rwx g:rx o:x", 0751, true);
	assert_mode("u:rw g:r m:rwx o:", 0670, false);
	assert_mode("u:r u1:rwx g:rwx m:x o:w", 0412, false);
}

static void test_chmod_of_a_list(void)
{
	struct buf acl = list("u:rw u7:rwx g:r m:r o:");

	acl_chmod(&acl, 04731);
	assert_same_list(slice_buf(&acl), "u:rwx u7:rwx g:r m:wx o:x");
	buf_release(&acl);
	acl = list("u:rw g:r o:");
	acl_chmod(&acl, 0731);
	assert_same_list(slice_buf(&acl), "u:rwx g:wx o:x");
	buf_release(&acl);
}

static void assert_inherits(const char *dflt, uint32_t mode, const char *wanted, uint32_t wanted_mode)
{
	struct buf acl = list(dflt);

	acl_inherit(&acl, &mode);
	assert_same_list(slice_buf(&acl), wanted);
	CU_ASSERT_EQUAL(mode, wanted_mode);
	buf_release(&acl);
}

static void test_inheriting_allows_what_both_allow(void)
{
	assert_inherits("u:rwx u7:rwx g:rx m:rwx o:r", S_IFREG | 0666, "u:rw u7:rwx g:rx m:rw o:r",
			S_IFREG | 0664);
	assert_inherits("u:rw g:r o:", S_IFDIR | 01777, "u:rw g:r o:", S_IFDIR | 01640);
	assert_inherits("u:rwx g:rwx o:rwx", S_IFREG, "u: g: o:", S_IFREG);
}

/* As user 7 or another, of group 8 and 9 or others, against a file of user 1 and group 2. */
static bool permits(const char *text, uint32_t uid, uint32_t gid, uint32_t also, unsigned want)
{
	struct buf acl = list(text);
	struct acl_who who = { .uid = uid, .gid = gid, .groups = &also, .ngroups = 1 };
	bool granted = acl_permits(slice_buf(&acl), 1, 2, &who, want);

	buf_release(&acl);
	return granted;
}

static void test_what_a_list_permits(void)
{
	const char *text = "u:rw u7:rwx g:r g8:wx g9:r m:rw o:x";

	CU_ASSERT_TRUE(permits(text, 1, 0, 0, 6)); /* an owner knows no mask */
	CU_ASSERT_FALSE(permits(text, 1, 0, 0, 1));
	CU_ASSERT_TRUE(permits(text, 7, 0, 0, 6));
	CU_ASSERT_FALSE(permits(text, 7, 0, 0, 1)); /* the mask */
	CU_ASSERT_TRUE(permits(text, 5, 2, 0, 4));
	CU_ASSERT_FALSE(permits(text, 5, 2, 0, 2));
	CU_ASSERT_TRUE(permits(text, 5, 8, 0, 2));
	CU_ASSERT_FALSE(permits(text, 5, 8, 0, 1)); /* not others' either: a member is no other */
	CU_ASSERT_TRUE(permits(text, 5, 0, 9, 4));
	CU_ASSERT_FALSE(permits(text, 5, 8, 9, 6)); /* no single group grants both */
	CU_ASSERT_TRUE(permits(text, 5, 0, 0, 1));
	CU_ASSERT_FALSE(permits(text, 5, 0, 0, 4));
	CU_ASSERT_TRUE(permits("u:r g:rw o:", 5, 0, 2, 6)); /* without a mask */
}

/* ---- of files -------------------------------------------------------------------------------------- */

static struct fixture *fx;
static struct ns *ns;

static void open_tree(void)
{
	struct ns_options opt = { .commit_ms = 60000 };

	fx = fixture_new();
	fx->opt.init = ns_init;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	CU_ASSERT_EQUAL_FATAL(ns_open(fx->db, &opt, &ns), 0);
}

static void close_tree(void)
{
	CU_ASSERT_EQUAL(ns_close(ns), 0);
	fixture_close(fx);
}

static int set(uint64_t ino, const char *name, const char *text, int flags)
{
	struct buf acl = list(text);
	int err = ns_setxattr(ns, &me, ino, name, slice_buf(&acl), flags);

	buf_release(&acl);
	return err;
}

/* NULL: there is none. */
static void assert_acl(uint64_t ino, const char *name, const char *text)
{
	struct buf got = { 0 };
	int err = ns_getxattr(ns, ino, name, &got);

	CU_ASSERT_EQUAL(err, text ? 0 : -ENODATA);
	if (text)
		assert_same_list(slice_buf(&got), text);
	buf_release(&got);
}

static void assert_ino_mode(uint64_t ino, uint32_t mode)
{
	struct ns_attr attr = { 0 };

	CU_ASSERT_EQUAL(ns_getattr(ns, ino, &attr), 0);
	CU_ASSERT_EQUAL(attr.mode & 07777, mode);
}

static uint64_t make_dir(const struct ns_who *who, uint64_t in, const char *name, uint32_t mode)
{
	struct ns_attr attr = { 0 };

	CU_ASSERT_EQUAL(ns_mkdir(ns, who, in, slice_str(name), mode, &attr), 0);
	return attr.ino;
}

static struct ns_file *create(const struct ns_who *who, uint64_t in, const char *name, uint32_t mode,
			      uint64_t *ino)
{
	struct ns_attr attr = { 0 };
	struct ns_file *f = NULL;

	CU_ASSERT_EQUAL_FATAL(ns_create(ns, who, in, slice_str(name), mode, &f, &attr), 0);
	*ino = attr.ino;
	return f;
}

static void done(struct ns_file *f)
{
	CU_ASSERT_EQUAL(ns_file_flush(f), 0);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
}

static int chmod_to(uint64_t ino, uint32_t mode)
{
	struct ns_attr set_to = { .mode = mode }, out;

	return ns_setattr(ns, &me, ino, &set_to, NS_SET_MODE, false, &out);
}

static void test_list_and_mode_are_one_revision(void)
{
	uint64_t ino;
	mvcc_rev_t before;

	done(create(&me, NS_ROOT, "f", 02644, &ino));
	before = mvcc_current(fx->db);
	CU_ASSERT_EQUAL(set(ino, ACL_ACCESS, "u:rwx u7:rw g:r m:rw o:x", 0), 0);
	assert_ino_mode(ino, 02761);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), before + 1);
	CU_ASSERT_EQUAL(chmod_to(ino, 0640), 0);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), before + 2);
	assert_acl(ino, ACL_ACCESS, "u:rw u7:rw g:r m:r o:");
	CU_ASSERT_EQUAL(set(ino, ACL_ACCESS, "u:r g:r o:r", 0), 0);
	assert_acl(ino, ACL_ACCESS, NULL);
	assert_ino_mode(ino, 0444);
	CU_ASSERT_EQUAL(chmod_to(ino, 02755), 0);
	CU_ASSERT_EQUAL(set(ino, ACL_ACCESS, "u:r g:r m:rwx o:r", NS_XATTR_DROP_SGID), 0);
	assert_ino_mode(ino, 0474);
}

static void test_what_no_list_can_be_set_on(void)
{
	struct ns_attr attr = { 0 };
	uint64_t ino;

	done(create(&me, NS_ROOT, "f", 0644, &ino));
	CU_ASSERT_EQUAL(ns_symlink(ns, &me, NS_ROOT, slice_str("l"), slice_str("f"), &attr), 0);
	CU_ASSERT_EQUAL(set(ino, ACL_DEFAULT, "u:r g:r o:r", 0), -EACCES);
	CU_ASSERT_EQUAL(set(attr.ino, ACL_ACCESS, "u:r g:r o:r", 0), -EOPNOTSUPP);
	CU_ASSERT_EQUAL(set(ino, ACL_ACCESS, "u:r u7:r g:r o:r", 0), -EINVAL);
	assert_ino_mode(ino, 0644);
	assert_acl(ino, ACL_ACCESS, NULL);
}

/* While a file is open and dirty the same holds of what it will be. */
static void test_of_a_file_that_is_being_written(void)
{
	uint64_t ino;
	struct ns_file *f = create(&me, NS_ROOT, "f", 0644, &ino);

	CU_ASSERT_EQUAL(ns_file_write(f, &me, 0, "data", 4), 0);
	CU_ASSERT_EQUAL(set(ino, ACL_ACCESS, "u:rw u7:r g:r m:r o:", 0), 0);
	assert_ino_mode(ino, 0640);
	CU_ASSERT_EQUAL(chmod_to(ino, 0660), 0);
	assert_acl(ino, ACL_ACCESS, "u:rw u7:r g:r m:rw o:");
	done(f);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 2);
	assert_acl(ino, ACL_ACCESS, "u:rw u7:r g:r m:rw o:");
	assert_ino_mode(ino, 0660);
	/* A dirty file whose list is committed already. */
	CU_ASSERT_EQUAL(ns_file_open(ns, &me, ino, NS_OPEN_WRITE, (struct ns_gone){ 0 }, &f), 0);
	CU_ASSERT_EQUAL(ns_file_write(f, &me, 0, "more", 4), 0);
	CU_ASSERT_EQUAL(chmod_to(ino, 0600), 0);
	done(f);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 3);
	assert_acl(ino, ACL_ACCESS, "u:rw u7:r g:r m: o:");
}

static void test_new_things_inherit(void)
{
	const struct ns_who masked = { .uid = 1000, .gid = 100, .umask = 077 };
	uint64_t d = make_dir(&me, NS_ROOT, "d", 0755), sub, ino;
	struct ns_attr attr = { 0 };
	mvcc_rev_t before;
	struct ns_file *f;

	CU_ASSERT_EQUAL(set(d, ACL_DEFAULT, "u:rwx u7:rx g:rx m:rwx o:", 0), 0);
	before = mvcc_current(fx->db);
	f = create(&masked, d, "f", 0666, &ino);
	assert_acl(ino, ACL_ACCESS, "u:rw u7:rx g:rx m:rw o:");
	assert_ino_mode(ino, 0660);
	CU_ASSERT_EQUAL(ns_file_flush(f), 0); /* the shell's early close is no revision here, either */
	CU_ASSERT_EQUAL(mvcc_current(fx->db), before);
	CU_ASSERT_EQUAL(ns_file_write(f, &me, 0, "data", 4), 0);
	done(f);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), before + 1);
	assert_acl(ino, ACL_ACCESS, "u:rw u7:rx g:rx m:rw o:");
	sub = make_dir(&masked, d, "sub", 0777);
	assert_acl(sub, ACL_DEFAULT, "u:rwx u7:rx g:rx m:rwx o:");
	assert_acl(sub, ACL_ACCESS, "u:rwx u7:rx g:rx m:rwx o:");
	assert_ino_mode(sub, 0770);
	CU_ASSERT_EQUAL(ns_mknod(ns, &masked, sub, slice_str("p"), S_IFIFO | 0644, 0, &attr), 0);
	assert_acl(attr.ino, ACL_ACCESS, "u:rw u7:rx g:rx m:r o:");
	CU_ASSERT_EQUAL(ns_symlink(ns, &masked, sub, slice_str("l"), slice_str("x"), &attr), 0);
	assert_acl(attr.ino, ACL_ACCESS, NULL);
	CU_ASSERT_EQUAL(attr.mode, S_IFLNK | 0777);
}

static void test_without_a_default_the_umask_counts(void)
{
	const struct ns_who masked = { .uid = 1000, .gid = 100, .umask = 027 };
	uint64_t d = make_dir(&masked, NS_ROOT, "d", 01777), ino;

	assert_ino_mode(d, 01750);
	done(create(&masked, d, "f", 0666, &ino));
	assert_ino_mode(ino, 0640);
	assert_acl(ino, ACL_ACCESS, NULL);
}

static void test_the_past_is_guarded_by_the_list_of_today(void)
{
	uint64_t d = make_dir(&me, NS_ROOT, "d", 0755), ino;
	struct past_who ben = { .uid = 7, .gid = 8 }, carol = { .uid = 9, .gid = 100 };
	struct mvcc_view *view = NULL;

	CU_ASSERT_EQUAL(chmod_to(NS_ROOT, 0755), 0);
	done(create(&me, d, "f", 0644, &ino));
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, MVCC_REV_LATEST, &view), 0);
	CU_ASSERT_EQUAL(past_may_read(ns, view, ino, &ben), 0);
	/* The group's bits of the mode are the mask: they grant nothing to the group itself. */
	CU_ASSERT_EQUAL(set(ino, ACL_ACCESS, "u:rw u7:r g: m:r o:", 0), 0);
	CU_ASSERT_EQUAL(past_may_read(ns, view, ino, &ben), 0);
	CU_ASSERT_EQUAL(past_may_read(ns, view, ino, &carol), -EACCES);
	CU_ASSERT_EQUAL(set(d, ACL_ACCESS, "u:rwx u7: g:rx m:rx o:rx", 0), 0);
	CU_ASSERT_EQUAL(past_may_read(ns, view, ino, &ben), -EACCES);
	mvcc_view_close(view);
}

/* In a process of its own: makes a file in a directory with a default list, closes a duplicate, and dies. */
static void promise_and_die(const struct mvcc_options *opt)
{
	struct ns_options ns_options = { .commit_ms = 60000 };
	struct buf dflt = list("u:rwx u7:rx g:rx m:rwx o:");
	struct ns_attr attr, set_to = { .mode = 0600 };
	struct ns_file *f;
	struct mvcc *db;
	bool good;

	good = !mvcc_open(opt, &db) && !ns_open(db, &ns_options, &ns) &&
	       !ns_setxattr(ns, &me, NS_ROOT, ACL_DEFAULT, slice_buf(&dflt), 0) &&
	       !ns_create(ns, &me, NS_ROOT, slice_str("new"), 0666, &f, &attr) &&
	       !ns_setattr(ns, &me, attr.ino, &set_to, NS_SET_MODE, false, &attr) && !ns_file_flush(f);
	_exit(good ? 0 : 1);
}

static void test_what_a_promised_file_inherits_survives_a_kill(void)
{
	struct rocks_options rocks = { 0 };
	struct mvcc_options opt = { .create = true, .init = ns_init, .engine = rocks_provider(&rocks) };
	struct ns_options ns_options = { .commit_ms = 60000 };
	char tmp[256], dir[300];
	struct ns_attr attr = { 0 };
	struct mvcc *db = NULL;
	int status = -1;
	pid_t pid;

	fixture_tmpdir(tmp);
	snprintf(dir, sizeof(dir), "%s/db", tmp);
	opt.dir = dir;
	pid = fork();
	if (pid == 0)
		promise_and_die(&opt);
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT_EQUAL(status, 0);
	CU_ASSERT_EQUAL_FATAL(mvcc_open(&opt, &db), 0);
	CU_ASSERT_EQUAL_FATAL(ns_open(db, &ns_options, &ns), 0);
	CU_ASSERT_EQUAL(ns_lookup(ns, NS_ROOT, slice_str("new"), &attr), 0);
	CU_ASSERT_EQUAL(attr.mode, S_IFREG | 0600);
	assert_acl(attr.ino, ACL_ACCESS, "u:rw u7:rx g:rx m: o:");
	CU_ASSERT_EQUAL(ns_close(ns), 0);
	CU_ASSERT_EQUAL(mvcc_close(db), 0);
	fixture_rmdir(tmp);
}

/* ---- beside them ------------------------------------------------------------------------------------ */

static void test_a_whiteout_is_one_revision_with_the_rename(void)
{
	struct ns_attr attr = { 0 };
	uint64_t ino;
	mvcc_rev_t before;

	done(create(&me, NS_ROOT, "f", 0644, &ino));
	before = mvcc_current(fx->db);
	CU_ASSERT_EQUAL(ns_rename(ns, &me, NS_ROOT, slice_str("f"), NS_ROOT, slice_str("g"), RENAME_WHITEOUT,
				  NULL),
			0);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), before + 1);
	CU_ASSERT_EQUAL(ns_lookup(ns, NS_ROOT, slice_str("g"), &attr), 0);
	CU_ASSERT_EQUAL(attr.ino, ino);
	CU_ASSERT_EQUAL(ns_lookup(ns, NS_ROOT, slice_str("f"), &attr), 0);
	CU_ASSERT(attr.ino != ino);
	CU_ASSERT_EQUAL(attr.mode, S_IFCHR);
	CU_ASSERT_EQUAL(attr.rdev, makedev(0, 0));
	CU_ASSERT_EQUAL(attr.nlink, 1);
	CU_ASSERT_EQUAL(ns_unlink(ns, &me, NS_ROOT, slice_str("f"), NULL), 0);
}

static void test_opening_to_truncate_takes_set_id_bits_from_others(void)
{
	const struct ns_who root = { .uid = 0 };
	struct ns_file *f = NULL;
	uint64_t ino;

	done(create(&me, NS_ROOT, "f", 06755, &ino));
	CU_ASSERT_EQUAL(
		ns_file_open(ns, &root, ino, NS_OPEN_WRITE | NS_OPEN_TRUNC, (struct ns_gone){ 0 }, &f), 0);
	done(f);
	assert_ino_mode(ino, 06755);
	CU_ASSERT_EQUAL(ns_file_open(ns, &me, ino, NS_OPEN_WRITE | NS_OPEN_TRUNC, (struct ns_gone){ 0 }, &f),
			0);
	assert_ino_mode(ino, 0755);
	done(f);
	assert_ino_mode(ino, 0755);
}

static CU_TestInfo list_tests[] = {
	UNIT_TEST(test_what_is_a_list),
	UNIT_TEST(test_damaged_lists_are_judged),
	UNIT_TEST(test_the_mode_of_a_list),
	UNIT_TEST(test_chmod_of_a_list),
	UNIT_TEST(test_inheriting_allows_what_both_allow),
	UNIT_TEST(test_what_a_list_permits),
	CU_TEST_INFO_NULL,
};

static CU_TestInfo file_tests[] = {
	UNIT_TEST(test_list_and_mode_are_one_revision),
	UNIT_TEST(test_what_no_list_can_be_set_on),
	UNIT_TEST(test_of_a_file_that_is_being_written),
	UNIT_TEST(test_new_things_inherit),
	UNIT_TEST(test_without_a_default_the_umask_counts),
	UNIT_TEST(test_the_past_is_guarded_by_the_list_of_today),
	UNIT_TEST(test_a_whiteout_is_one_revision_with_the_rename),
	UNIT_TEST(test_opening_to_truncate_takes_set_id_bits_from_others),
	CU_TEST_INFO_NULL,
};

static CU_TestInfo kill_tests[] = {
	UNIT_TEST(test_what_a_promised_file_inherits_survives_a_kill),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = {
		UNIT_SUITE("lists", NULL, NULL, list_tests),
		UNIT_SUITE("files", open_tree, close_tree, file_tests),
		UNIT_SUITE("a kill", NULL, NULL, kill_tests),
		CU_SUITE_INFO_NULL,
	};

	return unit_main(argc, argv, suites);
}
