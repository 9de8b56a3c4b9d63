/* The question `watch`: pages, where to go on, and what is refused. */
#include "fs/query.h"

#include "tests/query_fixture.h"
#include "tests/unit.h"

#include "mvcc/keep.h"

#include <inttypes.h>
#include <stdio.h>

/* The changes of a reply as "create /a, mkdir /d", then " | from skip" and "+" when there is more at once. */
static void assert_told(const char *request, const char *expected)
{
	struct json_object *o = ask(request), *changes = NULL;
	char got[2048] = "";
	size_t len = 0;

	CU_ASSERT_TRUE(is_ok(o));
	if (json_object_object_get_ex(o, "changes", &changes))
		for (size_t i = 0; i < json_object_array_length(changes); i++) {
			struct json_object *c = json_object_array_get_idx(changes, i);

			len += (size_t)snprintf(got + len, sizeof(got) - len, "%s%s %s", i ? ", " : "",
						text(c, "kind"), text(c, "path"));
		}
	snprintf(got + len, sizeof(got) - len, " | %" PRIu64 " %" PRIu64 "%s", number(o, "from"),
		 number(o, "skip"), flag(o, "more") ? "+" : "");
	CU_ASSERT_STRING_EQUAL(got, expected);
	if (strcmp(got, expected) != 0)
		printf("\n    %s: got \"%s\", not \"%s\"\n", request, got, expected);
	json_object_put(o);
}

static void make_some(void)
{
	make_dir("/d");            /* 2 */
	make_file("/d/f", "text"); /* 3 */
	make_file("/g", "text");   /* 4 */
}

static void test_all_from_a_revision_on(void)
{
	make_some();
	assert_told("{\"verb\":\"watch\",\"from\":2}", "mkdir /d, create /d/f, create /g | 5 0");
	assert_told("{\"verb\":\"watch\",\"from\":3}", "create /d/f, create /g | 5 0");
	assert_told("{\"verb\":\"watch\",\"from\":\"head\"}", "create /g | 5 0");
	assert_told("{\"verb\":\"watch\",\"from\":2,\"path\":\"/d\"}", "mkdir /d, create /d/f | 5 0");
}

static void test_from_now_on_there_is_nothing_yet(void)
{
	make_some();
	assert_told("{\"verb\":\"watch\"}", " | 5 0");
	assert_told("{\"verb\":\"watch\",\"from\":5}", " | 5 0");
	assert_told("{\"verb\":\"watch\",\"from\":50}", " | 50 0");
}

static void test_a_page_says_where_to_go_on(void)
{
	make_some();
	assert_told("{\"verb\":\"watch\",\"from\":2,\"limit\":1}", "mkdir /d | 2 1+");
	assert_told("{\"verb\":\"watch\",\"from\":2,\"skip\":1,\"limit\":2}",
		    "create /d/f, create /g | 4 1+");
	assert_told("{\"verb\":\"watch\",\"from\":4,\"skip\":1}", " | 5 0");
}

static void test_a_change_tells_who_and_what_for(void)
{
	const struct ns_who who = {
		.uid = 7, .gid = 8, .pid = 9, .comm = "mv", .session = "s", .message = "m"
	};

	make_some();
	CU_ASSERT_EQUAL(ns_rename(qf->ns, &who, NS_ROOT, slice_str("g"), NS_ROOT, slice_str("h"), 0, NULL),
			0);
	{
		struct json_object *o = ask("{\"verb\":\"watch\",\"from\":5}"), *changes = NULL, *c;

		CU_ASSERT_TRUE(json_object_object_get_ex(o, "changes", &changes));
		CU_ASSERT_EQUAL(json_object_array_length(changes), 1);
		c = json_object_array_get_idx(changes, 0);
		CU_ASSERT_EQUAL(number(c, "rev"), 5);
		CU_ASSERT_STRING_EQUAL(text(c, "kind"), "rename");
		CU_ASSERT_STRING_EQUAL(text(c, "path"), "/h");
		CU_ASSERT_STRING_EQUAL(text(c, "path2"), "/g");
		CU_ASSERT_EQUAL(number(c, "uid"), 7);
		CU_ASSERT_EQUAL(number(c, "gid"), 8);
		CU_ASSERT_EQUAL(number(c, "pid"), 9);
		CU_ASSERT_STRING_EQUAL(text(c, "comm"), "mv");
		CU_ASSERT_STRING_EQUAL(text(c, "session"), "s");
		CU_ASSERT_STRING_EQUAL(text(c, "message"), "m");
		json_object_put(o);
	}
}

static void test_what_is_no_question_is_refused(void)
{
	make_some();
	assert_refused(0, "{\"verb\":\"watch\",\"from\":\"yore\"}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"watch\",\"from\":0}", "ENOENT", 1);
	assert_refused(0, "{\"verb\":\"watch\",\"limit\":1001}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"watch\",\"skip\":-1}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"watch\",\"path_b64\":\"?\"}", "EINVAL", 2);
	assert_refused(12345, "{\"verb\":\"watch\"}", "EACCES", 2);
}

static void test_what_was_compacted_away_is_said(void)
{
	make_some();
	CU_ASSERT_EQUAL(mvcc_compact(qf->fx->db, 4), 0);
	assert_refused(0, "{\"verb\":\"watch\",\"from\":2}", "ESTALE", 13);
	assert_told("{\"verb\":\"watch\",\"from\":4}", "create /g | 5 0");
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_all_from_a_revision_on),
	UNIT_TEST(test_from_now_on_there_is_nothing_yet),
	UNIT_TEST(test_a_page_says_where_to_go_on),
	UNIT_TEST(test_a_change_tells_who_and_what_for),
	UNIT_TEST(test_what_is_no_question_is_refused),
	UNIT_TEST(test_what_was_compacted_away_is_said),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("query_watch", query_open, query_close, tests),
				  CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
