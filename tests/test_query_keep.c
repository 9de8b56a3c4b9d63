/* Tags, compaction, retention and why, asked through fs/query.h. */
#include "fs/query.h"

#include "mvcc/keep.h"
#include "tests/query_fixture.h"
#include "tests/unit.h"

#include <inttypes.h>

#define HOUR ((int64_t)3600 * 1000000000)

static int64_t clock_ns;

static int64_t told_time(void *arg)
{
	(void)arg;
	return clock_ns;
}

static void open_by_clock(void)
{
	clock_ns = (int64_t)1700000000 * 1000000000;
	query_open_at(told_time);
}

/* Revisions 2..n, an hour apart. */
static void files(int n)
{
	char path[32];

	for (int i = 2; i <= n; i++) {
		clock_ns += HOUR;
		snprintf(path, sizeof(path), "/f%d", i);
		make_file(path, "x");
	}
}

/* The names of a listing's tags: "a=3 b=2", and " next N" where there are more. */
static void assert_tags(const char *request, const char *expected)
{
	struct json_object *o = ask(request), *tags;
	char got[512] = "";
	size_t len = 0;

	CU_ASSERT_TRUE(is_ok(o));
	if (json_object_object_get_ex(o, "tags", &tags))
		for (size_t i = 0; i < json_object_array_length(tags) && len < sizeof(got); i++) {
			struct json_object *tag = json_object_array_get_idx(tags, i);

			len += (size_t)snprintf(got + len, sizeof(got) - len, "%s%s=%" PRIu64, i ? " " : "",
						text(tag, "name"), number(tag, "rev"));
		}
	CU_ASSERT_STRING_EQUAL(got, expected);
	json_object_put(o);
}

/* ---- tags ------------------------------------------------------------------------------------------ */

static void test_a_tag_names_a_revision(void)
{
	files(5);
	assert_reply("{\"verb\":\"tag\",\"name\":\"v1\",\"rev\":3}", "ok name rev auto", "true v1 3 false");
	assert_reply("{\"verb\":\"tag\",\"name\":\"fresh\"}", "name rev", "fresh 5");
	assert_reply("{\"verb\":\"tag\",\"name\":\"before\",\"rev\":\"head~1\"}", "name rev", "before 4");
	assert_tags("{\"verb\":\"tags\"}", "before=4 fresh=5 v1=3");
	assert_tags("{\"verb\":\"tags\",\"after\":\"fresh\"}", "v1=3");
	query_reopen();
	assert_tags("{\"verb\":\"tags\"}", "before=4 fresh=5 v1=3");
	assert_reply("{\"verb\":\"untag\",\"name\":\"v1\"}", "ok name rev", "true v1 3");
	assert_reply("{\"verb\":\"retag\",\"name\":\"fresh\",\"to\":\"v2\"}", "ok name rev", "true v2 5");
	assert_tags("{\"verb\":\"tags\"}", "before=4 v2=5");
}

static void test_a_tag_of_odd_bytes_is_found_again(void)
{
	assert_reply("{\"verb\":\"tag\",\"name_b64\":\"/25hbWU=\"}", "ok name_b64", "true /25hbWU=");
	assert_reply("{\"verb\":\"untag\",\"name_b64\":\"/25hbWU=\"}", "ok", "true");
	assert_tags("{\"verb\":\"tags\"}", "");
}

static void test_what_cannot_be_a_tag_is_refused(void)
{
	static const char *const names[] = { "3", "head", "yesterday", "2026-11-22", "-5m",     "head~2",
					     ".", "..",   "",          "a/b",        "a\\u0000" };
	char request[128];

	files(3);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(request, sizeof(request), "{\"verb\":\"tag\",\"name\":\"%s\"}", names[i]);
		assert_refused(0, request, "EINVAL", 2);
	}
	assert_refused(0, "{\"verb\":\"tag\"}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"tag\",\"name\":\"a\",\"rev\":9}", "ENOENT", 1);
	assert_refused(0, "{\"verb\":\"tag\",\"name\":\"a\",\"rev\":\"x y\"}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"untag\",\"name\":\"a\"}", "ENOENT", 1);
	ask_ok("{\"verb\":\"tag\",\"name\":\"a\",\"rev\":2}");
	assert_refused(0, "{\"verb\":\"tag\",\"name\":\"a\"}", "EEXIST", 2);
	ask_ok("{\"verb\":\"tag\",\"name\":\"b\"}");
	assert_refused(0, "{\"verb\":\"retag\",\"name\":\"a\",\"to\":\"b\"}", "EEXIST", 2);
	assert_refused(0, "{\"verb\":\"retag\",\"name\":\"a\",\"to\":\"head\"}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"retag\",\"name\":\"c\",\"to\":\"d\"}", "ENOENT", 1);
	assert_refused(0, "{\"verb\":\"retag\",\"name\":\"a\"}", "EINVAL", 2);
	assert_refused(7, "{\"verb\":\"tag\",\"name\":\"z\"}", "EACCES", 2);
	assert_refused(0, "{\"verb\":\"tags\",\"after\":3,\"after_b64\":\"?\"}", "EINVAL", 2);
	assert_tags("{\"verb\":\"tags\"}", "a=2 b=3");
}

/* ---- compaction ------------------------------------------------------------------------------------ */

static void test_compaction_leaves_what_it_says(void)
{
	files(9);
	ask_ok("{\"verb\":\"tag\",\"name\":\"kept\",\"rev\":4}");
	assert_reply("{\"verb\":\"compact\",\"rev\":6,\"dry_run\":true}", "ok was floor tagged",
		     "true 1 6 1");
	CU_ASSERT_EQUAL(mvcc_floor(qf->fx->db), 1);
	assert_reply("{\"verb\":\"compact\",\"rev\":6,\"wait\":true}", "ok was floor tagged held",
		     "true 1 6 1 false");
	CU_ASSERT_EQUAL(mvcc_floor(qf->fx->db), 6);
	assert_reply("{\"verb\":\"compact\",\"rev\":6}", "ok was floor", "true 6 6");
	assert_refused(0, "{\"verb\":\"compact\",\"rev\":5}", "ESTALE", 13);
	assert_refused(0, "{\"verb\":\"tag\",\"name\":\"late\",\"rev\":5}", "ESTALE", 13);
	assert_reply("{\"verb\":\"compact\",\"keep\":2}", "ok was floor", "true 6 8");
	assert_reply("{\"verb\":\"compact\",\"keep\":5}", "ok was floor", "true 8 8");
	assert_reply("{\"verb\":\"compact\",\"keep\":500}", "ok was floor", "true 8 8");
	assert_reply("{\"verb\":\"compact\"}", "ok was floor", "true 8 8");
	assert_refused(0, "{\"verb\":\"compact\",\"keep\":0}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"compact\",\"keep\":\"x\"}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"compact\",\"keep\":1,\"rev\":9}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"compact\",\"rev\":10}", "ENOENT", 1);
}

static void test_a_reader_of_the_past_holds_space_back(void)
{
	struct mvcc_view *view;

	files(5);
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(qf->fx->db, 2, &view), 0);
	assert_reply("{\"verb\":\"compact\",\"rev\":5,\"wait\":true}", "ok floor held", "true 5 true");
	mvcc_view_close(view);
	assert_reply("{\"verb\":\"compact\",\"rev\":5,\"wait\":true}", "ok floor held", "true 5 false");
}

/* ---- retention ------------------------------------------------------------------------------------- */

static void test_a_policy_is_set_part_by_part(void)
{
	const char *all = "keep_all_s keep_revs hourly daily weekly monthly yearly free_bytes";

	assert_reply("{\"verb\":\"retain\"}", all, "0 0 0 0 0 0 0 0");
	assert_reply("{\"verb\":\"retain\",\"keep_all_s\":86400,\"daily\":7}", all, "86400 0 0 7 0 0 0 0");
	assert_reply("{\"verb\":\"retain\",\"keep_revs\":100,\"yearly\":2,\"free_bytes\":5}", all,
		     "86400 100 0 7 0 0 2 5");
	query_reopen();
	assert_reply("{\"verb\":\"retain\"}", all, "86400 100 0 7 0 0 2 5");
	assert_reply("{\"verb\":\"retain\",\"dry_run\":true,\"off\":true}", all, "0 0 0 0 0 0 0 0");
	assert_reply("{\"verb\":\"retain\",\"daily\":0}", all, "86400 100 0 0 0 0 2 5");
	assert_reply("{\"verb\":\"retain\",\"off\":true,\"weekly\":3}", all, "0 0 0 0 3 0 0 0");
	assert_reply("{\"verb\":\"retain\",\"off\":true}", all, "0 0 0 0 0 0 0 0");
	assert_refused(0, "{\"verb\":\"retain\",\"daily\":-1}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"retain\",\"daily\":4294967296}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"retain\",\"keep_all_s\":\"long\"}", "EINVAL", 2);
	assert_reply("{\"verb\":\"retain\"}", all, "0 0 0 0 0 0 0 0");
}

static void test_a_dry_policy_tells_what_the_real_one_does(void)
{
	files(60);
	assert_reply("{\"verb\":\"retain\",\"keep_all_s\":7200,\"daily\":2,\"dry_run\":true}",
		     "floor floor_would_be tags_made tags_taken", "1 58 2 0");
	ask_ok("{\"verb\":\"retain\",\"keep_all_s\":7200,\"daily\":2}");
	CU_ASSERT_EQUAL(mvcc_floor(qf->fx->db), 1);
	assert_reply("{\"verb\":\"compact\",\"dry_run\":true}", "was floor", "1 58");
	assert_reply("{\"verb\":\"compact\"}", "was floor tagged", "1 58 2");
	assert_reply("{\"verb\":\"tags\"}", "tags", "2");
}

/* ---- why ------------------------------------------------------------------------------------------- */

static void test_why_gives_all_reasons(void)
{
	files(9);
	ask_ok("{\"verb\":\"tag\",\"name\":\"b\",\"rev\":4}");
	ask_ok("{\"verb\":\"tag\",\"name\":\"a\",\"rev\":4}");
	ask_ok("{\"verb\":\"compact\",\"rev\":6}");
	assert_reply("{\"verb\":\"why\",\"rev\":9}", "rev readable newest above_floor tags views",
		     "9 true true true 0 0");
	assert_reply("{\"verb\":\"why\",\"rev\":\"head~1\"}", "rev readable newest above_floor",
		     "8 true false true");
	assert_reply("{\"verb\":\"why\",\"rev\":4}", "rev readable above_floor tags tag auto",
		     "4 true false 2 a false");
	assert_reply("{\"verb\":\"why\",\"rev\":5}", "ok rev readable above_floor tags",
		     "true 5 false false 0");
	assert_reply("{\"verb\":\"why\"}", "rev newest", "9 true");
	ask_ok("{\"verb\":\"retain\",\"keep_all_s\":86400}");
	assert_reply("{\"verb\":\"why\",\"rev\":8}", "readable policy_ns time",
		     "true 1700115200000000000 2023-11-15T05:13:20.000000000Z");
	assert_refused(0, "{\"verb\":\"why\",\"rev\":10}", "ENOENT", 1);
	assert_refused(0, "{\"verb\":\"why\",\"rev\":0}", "ENOENT", 1);
	assert_refused(0, "{\"verb\":\"why\",\"rev\":\"so\"}", "EINVAL", 2);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_a_tag_names_a_revision),
	UNIT_TEST(test_a_tag_of_odd_bytes_is_found_again),
	UNIT_TEST(test_what_cannot_be_a_tag_is_refused),
	UNIT_TEST(test_compaction_leaves_what_it_says),
	UNIT_TEST(test_a_reader_of_the_past_holds_space_back),
	UNIT_TEST(test_a_policy_is_set_part_by_part),
	UNIT_TEST(test_a_dry_policy_tells_what_the_real_one_does),
	UNIT_TEST(test_why_gives_all_reasons),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("query_keep", open_by_clock, query_close, tests),
				  CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
