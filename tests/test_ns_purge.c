/*
 * A path purged: what goes with it, and what stays though it was near.
 */
#include "fs/ns_purge.h"

#include "fs/ns_check.h"
#include "fs/ns_history.h"
#include "mvcc/check.h"
#include "tests/store_fixture.h"
#include "tests/unit.h"

#include <errno.h>

static const struct ns_who me = { .uid = 1000, .gid = 100, .pid = 42, .comm = "test" };
static struct fixture *fx;
static struct ns *ns;

static void set_up(void)
{
	struct ns_options opt = { .commit_ms = 60000 };

	fx = fixture_new();
	fx->opt.init = ns_init;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	CU_ASSERT_EQUAL_FATAL(ns_open(fx->db, &opt, &ns), 0);
}

/* Every test ends with a look whether all still fits together. */
static void tear_down(void)
{
	struct mvcc_view *view = NULL;
	uint64_t problems = 1;

	CU_ASSERT_EQUAL(mvcc_verify(fx->db, NULL, NULL, &problems), 0);
	CU_ASSERT_EQUAL(problems, 0);
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, MVCC_REV_LATEST, &view), 0);
	CU_ASSERT_EQUAL(ns_check(fx->db, view, &(struct ns_check_options){ 0 }, &problems), 0);
	CU_ASSERT_EQUAL(problems, 0);
	mvcc_view_close(view);
	CU_ASSERT_EQUAL(ns_close(ns), 0);
	fixture_close(fx);
}

/* ---- a tree to work on -------------------------------------------------------------------------- */

static uint64_t ino_at(mvcc_rev_t rev, const char *path)
{
	struct mvcc_view *view;
	struct ns_attr attr;
	uint64_t ino = 0;

	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, rev, &view), 0);
	if (ns_at_walk(view, slice_str(path), &ino) || ns_at_getattr(view, ino, &attr))
		ino = 0;
	mvcc_view_close(view);
	return ino;
}

static mvcc_rev_t write_file(uint64_t dir, const char *name, const char *text)
{
	struct ns_file *f = NULL;
	struct ns_attr attr;
	int err = ns_create(ns, &me, dir, slice_str(name), 0644, &f, &attr);

	if (err == -EEXIST && !ns_lookup(ns, dir, slice_str(name), &attr))
		err = ns_file_open(ns, &me, attr.ino, NS_OPEN_WRITE | NS_OPEN_TRUNC, (struct ns_gone){ 0 },
				   &f);
	CU_ASSERT_EQUAL_FATAL(err, 0);
	CU_ASSERT_EQUAL(ns_file_write(f, &me, 0, text, strlen(text)), 0);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	return mvcc_current(fx->db);
}

static uint64_t make_dir(uint64_t dir, const char *name)
{
	struct ns_attr attr = { 0 };

	CU_ASSERT_EQUAL(ns_mkdir(ns, &me, dir, slice_str(name), 0755, &attr), 0);
	return attr.ino;
}

static uint64_t names; /* of the last purge */

static int purge(const char *path, bool dry_run, size_t *files)
{
	const struct mvcc_story story = { .uid = 7, .op = "purge", .path = slice_str(path) };
	struct ns_purged purged = { 0 };
	int err = ns_purge(ns, slice_str(path), &story, dry_run, &purged);

	*files = purged.n;
	names = purged.names;
	ns_purged_release(&purged);
	return err;
}

/* ---- tests -------------------------------------------------------------------------------------- */

static void test_a_file_goes_from_every_revision(void)
{
	mvcc_rev_t first = write_file(NS_ROOT, "f", "one"), second = write_file(NS_ROOT, "f", "two");
	mvcc_rev_t other = write_file(NS_ROOT, "g", "other");
	size_t files;

	CU_ASSERT_EQUAL(purge("/f", false, &files), 0);
	CU_ASSERT_EQUAL(files, 1);
	CU_ASSERT_EQUAL(names, 1); /* however many versions had it */
	CU_ASSERT_EQUAL(ino_at(first, "/f"), 0);
	CU_ASSERT_EQUAL(ino_at(second, "/f"), 0);
	CU_ASSERT_EQUAL(ino_at(MVCC_REV_LATEST, "/f"), 0);
	CU_ASSERT_NOT_EQUAL(ino_at(other, "/g"), 0);
	CU_ASSERT_EQUAL(ns_history_any(fx->db, slice_str("/f")), -ENOENT);
	CU_ASSERT_EQUAL(ns_history_any(fx->db, slice_str("/g")), 0);
}

static void test_a_file_that_is_gone_can_be_purged(void)
{
	mvcc_rev_t rev = write_file(NS_ROOT, "f", "one");
	size_t files;

	CU_ASSERT_EQUAL(ns_unlink(ns, &me, NS_ROOT, slice_str("f"), NULL), 0);
	CU_ASSERT_EQUAL(purge("f", false, &files), 0);
	CU_ASSERT_EQUAL(ino_at(rev, "/f"), 0);
}

static void test_a_directory_takes_all_that_was_ever_in_it(void)
{
	uint64_t d = make_dir(NS_ROOT, "d"), e = make_dir(d, "e");
	mvcc_rev_t rev = write_file(e, "f", "one");
	struct ns_attr root;
	size_t files;

	CU_ASSERT_EQUAL(ns_rename(ns, &me, e, slice_str("f"), NS_ROOT, slice_str("out"), 0, NULL), 0);
	CU_ASSERT_EQUAL(purge("/d", false, &files), 0);
	CU_ASSERT_EQUAL(files, 3);
	CU_ASSERT_EQUAL(ino_at(rev, "/d"), 0);
	CU_ASSERT_EQUAL(ino_at(MVCC_REV_LATEST, "/out"), 0);
	CU_ASSERT_EQUAL(ns_getattr(ns, NS_ROOT, &root), 0);
	CU_ASSERT_EQUAL(root.nlink, 2);
}

static void test_all_links_of_a_file_go(void)
{
	mvcc_rev_t rev = write_file(NS_ROOT, "f", "one");
	struct ns_attr attr;
	size_t files;

	CU_ASSERT_EQUAL(ns_link(ns, &me, ino_at(rev, "/f"), NS_ROOT, slice_str("g"), &attr), 0);
	CU_ASSERT_EQUAL(purge("/f", false, &files), 0);
	CU_ASSERT_EQUAL(ino_at(MVCC_REV_LATEST, "/g"), 0);
	CU_ASSERT_EQUAL(ino_at(rev + 1, "/g"), 0);
}

static void test_a_name_that_meant_something_else_keeps_that(void)
{
	mvcc_rev_t rev = write_file(NS_ROOT, "g", "kept");
	size_t files;

	CU_ASSERT_EQUAL(ns_unlink(ns, &me, NS_ROOT, slice_str("g"), NULL), 0);
	write_file(NS_ROOT, "f", "secret");
	CU_ASSERT_EQUAL(ns_rename(ns, &me, NS_ROOT, slice_str("f"), NS_ROOT, slice_str("g"), 0, NULL), 0);
	CU_ASSERT_EQUAL(purge("/f", false, &files), 0);
	CU_ASSERT_EQUAL(files, 1);
	CU_ASSERT_NOT_EQUAL(ino_at(rev, "/g"), 0);
	CU_ASSERT_EQUAL(ino_at(MVCC_REV_LATEST, "/g"), 0);
}

static void test_a_dry_run_changes_nothing(void)
{
	mvcc_rev_t rev = write_file(NS_ROOT, "f", "one");
	size_t files;

	CU_ASSERT_EQUAL(purge("/f", true, &files), 0);
	CU_ASSERT_EQUAL(files, 1);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), rev);
	CU_ASSERT_NOT_EQUAL(ino_at(rev, "/f"), 0);
}

static void test_what_is_no_path_of_anything_is_refused(void)
{
	mvcc_rev_t rev = write_file(NS_ROOT, "f", "one");
	size_t files;

	CU_ASSERT_EQUAL(purge("/", false, &files), -EINVAL);
	CU_ASSERT_EQUAL(purge("/g", false, &files), -ENOENT);
	CU_ASSERT_EQUAL(purge("/f/g", false, &files), -ENOENT);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), rev);
}

static void test_an_open_file_has_lost_its_name(void)
{
	mvcc_rev_t rev = write_file(NS_ROOT, "f", "one");
	struct ns_file *f = NULL;
	struct ns_attr attr;
	size_t files;

	CU_ASSERT_EQUAL_FATAL(
		ns_file_open(ns, &me, ino_at(rev, "/f"), NS_OPEN_WRITE, (struct ns_gone){ 0 }, &f), 0);
	CU_ASSERT_EQUAL(purge("/f", false, &files), 0);
	CU_ASSERT_EQUAL(ns_lookup(ns, NS_ROOT, slice_str("f"), &attr), -ENOENT);
	ns_file_write(f, &me, 0, "late", 4); /* into nothing, or refused */
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	CU_ASSERT_EQUAL(ns_lookup(ns, NS_ROOT, slice_str("f"), &attr), -ENOENT);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_a_file_goes_from_every_revision),
	UNIT_TEST(test_a_file_that_is_gone_can_be_purged),
	UNIT_TEST(test_a_directory_takes_all_that_was_ever_in_it),
	UNIT_TEST(test_all_links_of_a_file_go),
	UNIT_TEST(test_a_name_that_meant_something_else_keeps_that),
	UNIT_TEST(test_a_dry_run_changes_nothing),
	UNIT_TEST(test_what_is_no_path_of_anything_is_refused),
	UNIT_TEST(test_an_open_file_has_lost_its_name),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("purge of paths", set_up, tear_down, tests),
				  CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
