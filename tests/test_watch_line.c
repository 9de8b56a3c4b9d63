/*
 * The lines of @watch.
 */
#include "fs/text.h"
#include "fs/watch_line.h"

#include "tests/unit.h"

static const struct mvcc_story story = { .uid = 1000, .pid = 4294967295, .comm = "vi" };

static struct ns_change change_of(const char *kind, const char *path)
{
	return (struct ns_change){ .rev = 41,
				   .time_ns = 1732314605123456789,
				   .kind = kind,
				   .path = slice_str(path),
				   .story = &story };
}

static void assert_line(const struct ns_change *c, const char *wanted)
{
	struct buf out = { 0 };

	CU_ASSERT_EQUAL(watch_line(&out, c), 0);
	CU_ASSERT_EQUAL(buf_put_u8(&out, 0), 0);
	CU_ASSERT_STRING_EQUAL((char *)out.data, wanted);
	buf_release(&out);
}

static void test_a_change_is_a_line_of_seven_fields(void)
{
	struct ns_change c = change_of("write", "/a b/\xc3\xbc.c");

	assert_line(&c, "41\t2024-11-22T22:30:05.123456789Z\twrite\t/a b/\xc3\xbc.c\t1000\t4294967295\tvi\n");
}

static void test_a_second_path_comes_last(void)
{
	struct ns_change c = change_of("rename", "/new");

	c.path2 = slice_str("/old");
	assert_line(&c, "41\t2024-11-22T22:30:05.123456789Z\trename\t/new\t1000\t4294967295\tvi\t/old\n");
}

static void test_no_byte_of_a_name_is_taken_for_an_end(void)
{
	struct ns_change c = change_of("create", "/t\tn\nb\\r\r\x7f\xff\xc2\x9b");

	assert_line(&c, "41\t2024-11-22T22:30:05.123456789Z\tcreate\t"
			"/t\\tn\\nb\\\\r\\015\\177\\377\\302\\233\t1000\t4294967295\tvi\n");
}

static void test_no_field_is_empty(void)
{
	const struct mvcc_story unknown = { .comm = "" };
	struct ns_change c = change_of("D", "/x");

	c.story = &unknown;
	assert_line(&c, "41\t2024-11-22T22:30:05.123456789Z\tD\t/x\t0\t0\t-\n");
}

static void test_times_before_1970_have_their_nanoseconds(void)
{
	char text[64];

	format_time(-1, text);
	CU_ASSERT_STRING_EQUAL(text, "1969-12-31T23:59:59.999999999Z");
	format_time(0, text);
	CU_ASSERT_STRING_EQUAL(text, "1970-01-01T00:00:00.000000000Z");
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_a_change_is_a_line_of_seven_fields),       UNIT_TEST(test_a_second_path_comes_last),
	UNIT_TEST(test_no_byte_of_a_name_is_taken_for_an_end),    UNIT_TEST(test_no_field_is_empty),
	UNIT_TEST(test_times_before_1970_have_their_nanoseconds), CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("watch_line", NULL, NULL, tests), CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
