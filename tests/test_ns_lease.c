/* Files with a time to live, by a clock that the test moves. */
#include "fs/ns.h"
#include "fs/ns_check.h"
#include "fs/ns_row.h"

#include "mvcc/keep.h"
#include "mvcc/lease.h"
#include "tests/store_fixture.h"
#include "tests/unit.h"

#include <errno.h>
#include <linux/fs.h>

static const struct ns_who me = { .uid = 1000, .gid = 100, .pid = 42, .comm = "test" };

static struct fixture *fx;
static struct ns *ns;
static int64_t clock_ns;

static int64_t told_time(void *arg)
{
	(void)arg;
	return clock_ns;
}

static void open_ns(void)
{
	const struct ns_options opt = { .commit_ms = 60000 };

	ns = NULL;
	CU_ASSERT_EQUAL_FATAL(ns_open(fx->db, &opt, &ns), 0);
}

static void set_up(void)
{
	clock_ns = (int64_t)1700000000 * 1000000000;
	fx = fixture_new();
	fx->opt.init = ns_init;
	fx->opt.clock = told_time;
	fx->opt.manual_upkeep = true;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	open_ns();
}

static void tear_down(void)
{
	const struct ns_check_options opt = { 0 };
	struct mvcc_view *view;
	uint64_t problems;

	CU_ASSERT_EQUAL(ns_close(ns), 0);
	fixture_verify(fx);
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, MVCC_REV_LATEST, &view), 0);
	CU_ASSERT_EQUAL(ns_check(fx->db, view, &opt, &problems), 0);
	CU_ASSERT_EQUAL(problems, 0);
	mvcc_view_close(view);
	fixture_close(fx);
}

/* The clock moves on; what is due then happens. */
static void pass(int64_t s)
{
	clock_ns += s * 1000000000;
	CU_ASSERT_EQUAL(mvcc_upkeep(fx->db), 0);
}

static struct ns_file *create(const char *name, uint64_t *ino)
{
	struct ns_file *f = NULL;
	struct ns_attr attr = { 0 };

	CU_ASSERT_EQUAL_FATAL(ns_create(ns, &me, NS_ROOT, slice_str(name), 0644, &f, &attr), 0);
	*ino = attr.ino;
	return f;
}

static void write_at(struct ns_file *f, uint64_t off, const char *text, size_t len)
{
	CU_ASSERT_EQUAL(ns_file_write(f, &me, off, text, len), 0);
}

static uint64_t make_file(const char *name, size_t len)
{
	char *content = calloc(1, len);
	struct ns_file *f;
	uint64_t ino = 0;

	CU_ASSERT_PTR_NOT_NULL_FATAL(content);
	f = create(name, &ino);
	memset(content, 'x', len);
	write_at(f, 0, content, len);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	free(content);
	return ino;
}

static bool is_there(const char *name)
{
	struct ns_attr attr;
	int err = ns_lookup(ns, NS_ROOT, slice_str(name), &attr);

	CU_ASSERT(err == 0 || err == -ENOENT);
	return !err;
}

/* How many rows of the newest state there are in all. */
static size_t rows(void)
{
	struct mvcc_view *view;
	struct mvcc_cursor *c;
	const struct mvcc_item *item;
	struct slice key;
	size_t n = 0;

	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, MVCC_REV_LATEST, &view), 0);
	CU_ASSERT_EQUAL_FATAL(mvcc_cursor_open(view, slice_of(NULL, 0), slice_of(NULL, 0), &c), 0);
	while (mvcc_cursor_next(c, &key, &item) > 0)
		n++;
	mvcc_cursor_close(c);
	mvcc_view_close(view);
	return n;
}

static int set_xattr(uint64_t ino, const char *name)
{
	return ns_setxattr(ns, &me, ino, name, slice_str("value"), 0);
}

/* ---- the end of a file ----------------------------------------------------------------------------- */

static void test_a_file_goes_with_all_its_rows_in_one_revision(void)
{
	size_t before;
	uint64_t other = make_file("other", 300000), ino;
	struct ns_attr attr;
	mvcc_rev_t rev;

	CU_ASSERT_EQUAL(set_xattr(other, "user.x"), 0);
	before = rows();
	ino = make_file("f", 1000000);
	CU_ASSERT_EQUAL(ns_link(ns, &me, ino, NS_ROOT, slice_str("g"), &attr), 0);
	CU_ASSERT_EQUAL(set_xattr(ino, "user.a"), 0);
	CU_ASSERT_EQUAL(set_xattr(ino, "user.b"), 0);
	rev = mvcc_current(fx->db);
	CU_ASSERT_EQUAL(ns_set_ttl(ns, &me, ino, 60), 0);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), rev + 1);
	pass(59);
	CU_ASSERT_TRUE(is_there("f"));
	pass(2);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), rev + 2);
	CU_ASSERT_FALSE(is_there("f"));
	CU_ASSERT_FALSE(is_there("g"));
	CU_ASSERT_TRUE(is_there("other"));
	CU_ASSERT_EQUAL(rows(), before);
}

static void test_what_is_done_meanwhile_goes_as_well(void)
{
	static const char big[400000];
	size_t before;
	struct ns_attr attr = { .mode = 0600, .size = 250000 };
	struct ns_file *f = NULL;
	uint64_t ino;

	CU_ASSERT_EQUAL(ns_mkdir(ns, &me, NS_ROOT, slice_str("d"), 0755, &attr), 0);
	before = rows();
	ino = make_file("f", 5);
	CU_ASSERT_EQUAL(ns_set_ttl(ns, &me, ino, 60), 0);
	CU_ASSERT_EQUAL(ns_file_open(ns, &me, ino, NS_OPEN_WRITE, (struct ns_gone){ 0 }, &f), 0);
	write_at(f, 3, big, sizeof(big));
	CU_ASSERT_EQUAL(ns_setxattr(ns, &me, ino, "user.dirty", slice_str("v"), 0), 0);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	CU_ASSERT_EQUAL(set_xattr(ino, "user.x"), 0);
	CU_ASSERT_EQUAL(ns_link(ns, &me, ino, NS_ROOT, slice_str("g"), &attr), 0);
	CU_ASSERT_EQUAL(ns_link(ns, &me, ino, NS_ROOT, slice_str("h"), &attr), 0);
	CU_ASSERT_EQUAL(ns_rename(ns, &me, NS_ROOT, slice_str("f"), ino - 1, slice_str("f2"), 0, NULL), 0);
	CU_ASSERT_EQUAL(ns_rename(ns, &me, NS_ROOT, slice_str("g"), NS_ROOT, slice_str("g2"), 0, NULL), 0);
	CU_ASSERT_EQUAL(ns_unlink(ns, &me, ino - 1, slice_str("f2"), NULL), 0);
	attr = (struct ns_attr){ .mode = 0600, .size = 250000 };
	CU_ASSERT_EQUAL(ns_setattr(ns, &me, ino, &attr, NS_SET_MODE | NS_SET_SIZE, false, &attr), 0);
	CU_ASSERT_TRUE(is_there("g2") && is_there("h"));
	pass(61);
	CU_ASSERT_FALSE(is_there("g2"));
	CU_ASSERT_FALSE(is_there("h"));
	CU_ASSERT_EQUAL(rows(), before);
}

static void test_an_exchange_leaves_each_file_its_own_time(void)
{
	uint64_t a = make_file("a", 5);

	make_file("b", 7);
	CU_ASSERT_EQUAL(ns_set_ttl(ns, &me, a, 60), 0);
	CU_ASSERT_EQUAL(ns_rename(ns, &me, NS_ROOT, slice_str("a"), NS_ROOT, slice_str("b"), RENAME_EXCHANGE,
				  NULL),
			0);
	pass(61);
	CU_ASSERT_TRUE(is_there("a"));
	CU_ASSERT_FALSE(is_there("b"));
}

/* More rows than are looked at in one go. */
static void test_a_file_of_many_rows_goes(void)
{
	struct ns_file *f;
	size_t before = rows();
	char name[32];
	uint64_t ino;

	f = create("f", &ino);
	for (uint64_t i = 0; i < 700; i++)
		write_at(f, i * NS_EXTENT_MAX * 2, "data", 4);
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "user.%d", i);
		CU_ASSERT_EQUAL(set_xattr(ino, name), 0);
	}
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	CU_ASSERT(rows() >= before + 1000);
	CU_ASSERT_EQUAL(ns_set_ttl(ns, &me, ino, 60), 0);
	pass(61);
	CU_ASSERT_EQUAL(rows(), before);
}

/* ---- setting, renewing, taking away ---------------------------------------------------------------- */

static void test_setting_it_again_renews_without_a_revision(void)
{
	uint64_t ino = make_file("f", 5);
	struct mvcc_lease lease;
	mvcc_rev_t rev;

	CU_ASSERT_EQUAL(ns_get_lease(ns, ino, &lease), -ENODATA);
	CU_ASSERT_EQUAL(ns_set_ttl(ns, &me, ino, 60), 0);
	rev = mvcc_current(fx->db);
	pass(50);
	CU_ASSERT_EQUAL(ns_get_lease(ns, ino, &lease), 0);
	CU_ASSERT_EQUAL(lease.left_ms, 10000);
	CU_ASSERT_EQUAL(ns_set_ttl(ns, &me, ino, 60), 0);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), rev);
	pass(50);
	CU_ASSERT_TRUE(is_there("f"));
	CU_ASSERT_EQUAL(ns_set_ttl(ns, &me, ino, 100), 0);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), rev + 1);
	pass(99);
	CU_ASSERT_TRUE(is_there("f"));
	pass(2);
	CU_ASSERT_FALSE(is_there("f"));
	CU_ASSERT_EQUAL(ns_set_ttl(ns, &me, ino, 100), -ENOENT);
}

static void test_zero_takes_it_away(void)
{
	uint64_t ino = make_file("f", 300000);
	struct mvcc_lease lease;

	CU_ASSERT_EQUAL(set_xattr(ino, "user.x"), 0);
	CU_ASSERT_EQUAL(ns_set_ttl(ns, &me, ino, 60), 0);
	CU_ASSERT_EQUAL(ns_set_ttl(ns, &me, ino, 0), 0);
	CU_ASSERT_EQUAL(ns_get_lease(ns, ino, &lease), -ENODATA);
	CU_ASSERT_EQUAL(ns_set_ttl(ns, &me, ino, 0), 0); /* changes nothing */
	pass(100);
	CU_ASSERT_TRUE(is_there("f"));
	CU_ASSERT_EQUAL(rows(), 1 + 2 + 3 + 1); /* root, D and I, E, X */
}

static void test_files_share_a_lease(void)
{
	uint64_t a = make_file("a", 5), b = make_file("b", 5);
	struct mvcc_lease lease;
	mvcc_lease_t id = 0;
	mvcc_rev_t rev = 0;

	CU_ASSERT_EQUAL(mvcc_lease_grant(fx->db, 0, 60000, &id), 0);
	CU_ASSERT_EQUAL(ns_set_lease(ns, &me, a, id, NULL), 0);
	CU_ASSERT_EQUAL(ns_set_lease(ns, &me, b, id, &rev), 0);
	CU_ASSERT_EQUAL(rev, mvcc_current(fx->db));
	CU_ASSERT_EQUAL(ns_get_lease(ns, b, &lease), 0);
	CU_ASSERT_EQUAL(lease.id, id);
	CU_ASSERT_EQUAL(ns_set_lease(ns, &me, b, id + 1, NULL), MVCC_ENOLEASE);
	rev = mvcc_current(fx->db);
	pass(61);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), rev + 1);
	CU_ASSERT_FALSE(is_there("a") || is_there("b"));
}

static void test_a_directory_has_none(void)
{
	struct ns_attr attr;
	struct mvcc_stats stats;

	CU_ASSERT_EQUAL(ns_mkdir(ns, &me, NS_ROOT, slice_str("d"), 0755, &attr), 0);
	CU_ASSERT_EQUAL(ns_set_ttl(ns, &me, attr.ino, 60), -EISDIR);
	CU_ASSERT_EQUAL(ns_set_ttl(ns, &me, NS_ROOT, 60), -EISDIR);
	CU_ASSERT_EQUAL(ns_set_ttl(ns, &me, 999, 60), -ENOENT);
	CU_ASSERT_EQUAL(ns_set_ttl(ns, &me, attr.ino, UINT64_MAX), -EINVAL);
	mvcc_stats(fx->db, &stats);
	CU_ASSERT_EQUAL(stats.leases, 0); /* none is left behind */
}

/* ---- files that are open --------------------------------------------------------------------------- */

/* Still dirty when it ends: nothing of it comes back, and who has it open goes on. */
static void test_a_dirty_file_does_not_come_back(void)
{
	static const char big[300000];
	size_t before = rows();
	uint64_t ino = make_file("f", 200000);
	struct ns_file *f = NULL;
	char got[8] = "";

	CU_ASSERT_EQUAL(ns_set_ttl(ns, &me, ino, 60), 0);
	CU_ASSERT_EQUAL(ns_file_open(ns, &me, ino, NS_OPEN_WRITE, (struct ns_gone){ 0 }, &f), 0);
	write_at(f, 0, "first", 5);
	pass(61);
	CU_ASSERT_FALSE(is_there("f"));
	write_at(f, 5, "second", 6);
	write_at(f, 100000, big, sizeof(big));
	CU_ASSERT_EQUAL(ns_file_read(f, 3, got, 5), 5);
	CU_ASSERT_STRING_EQUAL(got, "stsec");
	CU_ASSERT_EQUAL(ns_file_read(f, 50000, got, 2), 2);
	CU_ASSERT_EQUAL(got[0], 'x');
	CU_ASSERT_EQUAL(ns_file_flush(f), 0);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	CU_ASSERT_EQUAL(rows(), before);
	CU_ASSERT_EQUAL(ns_getxattr(ns, ino, "user.x", &(struct buf){ 0 }), -ENODATA);
}

/* It has gone, and whoever has it open comes before that is told: as after an unlink, not as if it had never been. */
static void test_an_open_file_that_has_just_gone(void)
{
	uint64_t ino = make_file("f", 200000), data = 1;
	struct ns_file *reader = NULL, *late = NULL;
	struct ns_attr attr = { 0 };
	char got[8] = "";

	CU_ASSERT_EQUAL(ns_set_ttl(ns, &me, ino, 60), 0);
	CU_ASSERT_EQUAL(ns_file_open(ns, &me, ino, NS_OPEN_READ, (struct ns_gone){ 0 }, &reader), 0);
	pass(61);
	CU_ASSERT_EQUAL(ns_file_read(reader, 199998, got, 8), 2);
	CU_ASSERT_EQUAL(got[1], 'x');
	CU_ASSERT_EQUAL(ns_file_seek(reader, 0, SEEK_DATA, &data), 0);
	CU_ASSERT_EQUAL(data, 0);
	CU_ASSERT_EQUAL(ns_getattr(ns, ino, &attr), 0);
	CU_ASSERT_EQUAL(attr.nlink, 0);
	CU_ASSERT_EQUAL(attr.size, 200000);
	CU_ASSERT_EQUAL(ns_file_open(ns, &me, ino, NS_OPEN_WRITE, (struct ns_gone){ 0 }, &late), 0);
	write_at(late, 0, "y", 1);
	CU_ASSERT_EQUAL(ns_file_close(late), 0);
	CU_ASSERT_EQUAL(ns_file_read(reader, 0, got, 2), 2);
	CU_ASSERT_NSTRING_EQUAL(got, "yx", 2);
	CU_ASSERT_EQUAL(ns_file_close(reader), 0);
	CU_ASSERT_EQUAL(ns_getattr(ns, ino, &attr), -ENOENT);
	CU_ASSERT_EQUAL(rows(), 1);
}

static void test_the_first_to_come_is_a_writer(void)
{
	uint64_t ino = make_file("f", 5);
	struct ns_file *f = NULL;
	char got[8] = "";

	CU_ASSERT_EQUAL(ns_set_ttl(ns, &me, ino, 60), 0);
	CU_ASSERT_EQUAL(ns_file_open(ns, &me, ino, NS_OPEN_WRITE, (struct ns_gone){ 0 }, &f), 0);
	pass(61);
	write_at(f, 5, "y", 1);
	CU_ASSERT_EQUAL(ns_file_read(f, 0, got, 8), 6);
	CU_ASSERT_NSTRING_EQUAL(got, "xxxxxy", 6);
	CU_ASSERT_EQUAL(ns_file_flush(f), 0);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	CU_ASSERT_EQUAL(rows(), 1);
}

/* The time is over, and nobody has removed it yet: no change of it is taken. */
static void test_a_file_whose_time_is_over_cannot_be_changed(void)
{
	uint64_t ino = make_file("f", 5);
	struct ns_attr attr = { .mode = 0600 };
	struct ns_file *f = NULL;

	CU_ASSERT_EQUAL(ns_set_ttl(ns, &me, ino, 60), 0);
	clock_ns += (int64_t)61 * 1000000000;
	CU_ASSERT_EQUAL(ns_setattr(ns, &me, ino, &attr, NS_SET_MODE, false, &attr), MVCC_ENOLEASE);
	CU_ASSERT_EQUAL(ns_link(ns, &me, ino, NS_ROOT, slice_str("g"), &attr), MVCC_ENOLEASE);
	CU_ASSERT_EQUAL(ns_set_ttl(ns, &me, ino, 60), MVCC_ENOLEASE);
	CU_ASSERT_EQUAL(ns_file_open(ns, &me, ino, NS_OPEN_WRITE, (struct ns_gone){ 0 }, &f), 0);
	write_at(f, 0, "late", 4); /* as into a file without a name */
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	pass(0);
	CU_ASSERT_FALSE(is_there("f"));
	CU_ASSERT_EQUAL(rows(), 1);
}

static void test_it_can_be_unlinked_before(void)
{
	uint64_t ino = make_file("f", 300000);

	CU_ASSERT_EQUAL(ns_set_ttl(ns, &me, ino, 60), 0);
	CU_ASSERT_EQUAL(ns_unlink(ns, &me, NS_ROOT, slice_str("f"), NULL), 0);
	CU_ASSERT_EQUAL(rows(), 1);
	pass(61);
	CU_ASSERT_EQUAL(rows(), 1);
}

/* ---- beyond a restart ------------------------------------------------------------------------------ */

static void test_it_outlives_a_restart(void)
{
	uint64_t ino = make_file("f", 300000);

	CU_ASSERT_EQUAL(ns_set_ttl(ns, &me, ino, 60), 0);
	CU_ASSERT_EQUAL(ns_close(ns), 0);
	clock_ns += (int64_t)30 * 1000000000;
	fixture_reopen(fx);
	open_ns();
	pass(0);
	CU_ASSERT_TRUE(is_there("f"));
	CU_ASSERT_EQUAL(ns_close(ns), 0);
	clock_ns += (int64_t)31 * 1000000000;
	fixture_reopen(fx);
	open_ns();
	pass(0);
	CU_ASSERT_FALSE(is_there("f"));
}

/* The promise of a killed process to empty the file (fs/FORMAT.md). */
static void promise_to_truncate(uint64_t ino)
{
	const struct row_inode row = {
		.mode = S_IFREG | 0644, .nlink = 1, .inlined = true, .parent = NS_ROOT, .name = slice_str("f")
	};
	struct buf payload = { 0 }, value = { 0 };
	uint64_t intent;

	CU_ASSERT_EQUAL(buf_put_u8(&payload, 'T'), 0);
	CU_ASSERT_EQUAL(buf_put_varint(&payload, ino), 0);
	for (int i = 0; i < 3; i++)
		CU_ASSERT_EQUAL(buf_put_varint(&payload, 1), 0);
	CU_ASSERT_EQUAL(buf_put_bytes(&payload, slice_str("sh")), 0);
	CU_ASSERT_EQUAL(buf_put_bytes(&payload, slice_str("a session")), 0);
	CU_ASSERT_EQUAL(buf_put_bytes(&payload, slice_str("")), 0);
	CU_ASSERT_EQUAL(row_inode_encode(&value, &row), 0);
	CU_ASSERT_EQUAL(buf_put_slice(&payload, slice_buf(&value)), 0);
	CU_ASSERT_EQUAL(mvcc_intent_put(fx->db, slice_buf(&payload), &intent), 0);
	buf_release(&payload);
	buf_release(&value);
}

static void test_a_promise_is_kept_within_the_time(void)
{
	uint64_t ino = make_file("f", 300000);
	struct ns_attr attr;

	CU_ASSERT_EQUAL(ns_set_ttl(ns, &me, ino, 60), 0);
	promise_to_truncate(ino);
	CU_ASSERT_EQUAL(ns_close(ns), 0);
	fixture_reopen(fx);
	open_ns();
	CU_ASSERT_EQUAL(ns_getattr(ns, ino, &attr), 0);
	CU_ASSERT_EQUAL(attr.size, 0);
	pass(61);
	CU_ASSERT_EQUAL(rows(), 1);
}

/* A promise for a file whose time is over cannot be kept, and keeps nobody from opening the tree. */
static void test_a_promise_for_what_is_over_is_dropped(void)
{
	uint64_t ino = make_file("f", 5);

	CU_ASSERT_EQUAL(ns_set_ttl(ns, &me, ino, 60), 0);
	promise_to_truncate(ino);
	CU_ASSERT_EQUAL(ns_close(ns), 0);
	clock_ns += (int64_t)61 * 1000000000;
	fixture_reopen(fx);
	open_ns();
	pass(0);
	CU_ASSERT_EQUAL(rows(), 1);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_a_file_goes_with_all_its_rows_in_one_revision),
	UNIT_TEST(test_what_is_done_meanwhile_goes_as_well),
	UNIT_TEST(test_an_exchange_leaves_each_file_its_own_time),
	UNIT_TEST(test_a_file_of_many_rows_goes),
	UNIT_TEST(test_setting_it_again_renews_without_a_revision),
	UNIT_TEST(test_zero_takes_it_away),
	UNIT_TEST(test_files_share_a_lease),
	UNIT_TEST(test_a_directory_has_none),
	UNIT_TEST(test_a_dirty_file_does_not_come_back),
	UNIT_TEST(test_an_open_file_that_has_just_gone),
	UNIT_TEST(test_the_first_to_come_is_a_writer),
	UNIT_TEST(test_a_file_whose_time_is_over_cannot_be_changed),
	UNIT_TEST(test_it_can_be_unlinked_before),
	UNIT_TEST(test_it_outlives_a_restart),
	UNIT_TEST(test_a_promise_is_kept_within_the_time),
	UNIT_TEST(test_a_promise_for_what_is_over_is_dropped),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("ns_lease", set_up, tear_down, tests), CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
