/*
 * The wording of RocksDB's errors is no interface, and yet decides our codes: here each prefix that
 * code_of() knows is pinned, as this library says it today. tests/test_engine.c provokes those that can
 * be provoked.
 */
#include "rocks_backend/rocks_err.h"

#include "mvcc/error.h"
#include "tests/unit.h"

#include <errno.h>
#include <syslog.h>

static char logged[256];
static int logged_priority;
static unsigned logged_times;

static void on_log(void *arg, int priority, const char *text)
{
	CU_ASSERT_PTR_EQUAL(arg, &logged_times);
	logged_priority = priority;
	logged_times++;
	snprintf(logged, sizeof(logged), "%s", text);
}

static struct rocks_options opt = { .log = on_log, .log_arg = &logged_times };

static void set_up(void)
{
	logged_times = 0;
	logged[0] = '\0';
}

static int take_copy(const char *msg)
{
	return rocks_err_take(&opt, strdup(msg), "get");
}

static void test_no_message_is_no_error_and_no_log(void)
{
	CU_ASSERT_EQUAL(rocks_err_take(&opt, NULL, "get"), 0);
	CU_ASSERT_EQUAL(logged_times, 0);
}

static void test_corruption(void)
{
	CU_ASSERT_EQUAL(
		take_copy("Corruption: block checksum mismatch: stored = 1, computed = 2  in /db/000012.sst"),
		MVCC_ECORRUPT);
	CU_ASSERT_EQUAL(
		take_copy("Corruption: Can't access /000012.sst: IO error: No such file or directory"),
		MVCC_ECORRUPT);
}

static void test_no_space(void)
{
	CU_ASSERT_EQUAL(take_copy(
				"IO error: No space left on device: While appending to file: /db/000012.log: "
				"No space left on device"),
			-ENOSPC);
	CU_ASSERT_EQUAL(take_copy("IO error: While appending to file: /db/000012.log: Disk quota exceeded"),
			-ENOSPC);
}

static void test_a_lock_held(void)
{
	CU_ASSERT_EQUAL(take_copy("IO error: While lock file: /db/LOCK: Resource temporarily unavailable"),
			MVCC_ELOCKED);
	CU_ASSERT_EQUAL(take_copy(
				"IO error: lock hold by current process, acquire time 1 acquiring thread 2: "
				"/db/LOCK: No locks available"),
			MVCC_ELOCKED);
}

static void test_a_checkpoint_that_exists(void)
{
	CU_ASSERT_EQUAL(take_copy("Invalid argument: Directory exists"), -EEXIST);
}

static void test_all_else_is_an_io_error(void)
{
	static const char *const others[] = {
		"IO error: No such file or directory: While open a file for random read: /db/000012.sst: No "
		"such file "
		"or directory",
		"IO error: While pread offset 0 len 48: /db/000012.sst: Input/output error",
		"Invalid argument: Column family not found",
		"Not implemented: Unsupported compression method",
		"Shutdown in progress: ",
		"Disk quota exceeded",
		"no Corruption: at the beginning",
		"",
	};

	for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		CU_ASSERT_EQUAL(take_copy(others[i]), -EIO);
}

static void test_every_error_is_logged_with_what_was_tried(void)
{
	take_copy("IO error: something else");
	CU_ASSERT_STRING_EQUAL(logged, "get: IO error: something else");
	CU_ASSERT_EQUAL(logged_priority, LOG_ERR);
	CU_ASSERT_EQUAL(logged_times, 1);
	take_copy("Corruption: bad");
	CU_ASSERT_STRING_EQUAL(logged, "get: Corruption: bad");
	CU_ASSERT_EQUAL(logged_times, 2);
}

static void test_without_a_log_the_code_is_the_same(void)
{
	struct rocks_options silent = { 0 };

	CU_ASSERT_EQUAL(rocks_err_take(&silent, strdup("Corruption: bad"), "get"), MVCC_ECORRUPT);
	CU_ASSERT_EQUAL(logged_times, 0);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_no_message_is_no_error_and_no_log),
	UNIT_TEST(test_corruption),
	UNIT_TEST(test_no_space),
	UNIT_TEST(test_a_lock_held),
	UNIT_TEST(test_a_checkpoint_that_exists),
	UNIT_TEST(test_all_else_is_an_io_error),
	UNIT_TEST(test_every_error_is_logged_with_what_was_tried),
	UNIT_TEST(test_without_a_log_the_code_is_the_same),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("RocksDB's errors", set_up, NULL, tests), CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
