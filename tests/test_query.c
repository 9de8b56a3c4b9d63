/* The questions of fs/query.h, put to a store in memory. Mounted or not makes no difference to them. */
#include "fs/query.h"

#include "fs/json_bytes.h"
#include "tests/query_fixture.h"
#include "tests/unit.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>

/* One revision with a story; its key is `key`. */
static mvcc_rev_t commit_story(const char *key, const char *op, struct slice path, struct slice path2)
{
	struct mvcc_story story = {
		.uid = 1000, .gid = 100, .pid = 42, .comm = "vi", .op = op, .path = path, .path2 = path2
	};
	struct mvcc_txn *txn = begin(qf->fx->db);
	mvcc_rev_t rev = 0;

	txn_put(txn, key, "value");
	CU_ASSERT_EQUAL(mvcc_txn_commit(txn, &story, MVCC_COMMIT_WAIT, &rev), 0);
	return rev;
}

static mvcc_rev_t commit_path(const char *path)
{
	return commit_story("k", "write", slice_str(path), slice_of(NULL, 0));
}

/* The revisions of a log reply as "5 4 3", with " next 2" when there is more. */
static void assert_revs(const char *request, const char *expected)
{
	struct json_object *o = ask(request), *entries;
	char got[1024] = "";
	size_t len = 0;

	CU_ASSERT_TRUE(is_ok(o));
	if (json_object_object_get_ex(o, "entries", &entries))
		for (size_t i = 0; i < json_object_array_length(entries) && len < sizeof(got) - 32; i++)
			len += (size_t)snprintf(got + len, sizeof(got) - len, "%s%" PRIu64, i ? " " : "",
						number(json_object_array_get_idx(entries, i), "rev"));
	if (json_object_object_get_ex(o, "next", NULL))
		snprintf(got + len, sizeof(got) - len, "%snext %" PRIu64, len ? " " : "", number(o, "next"));
	CU_ASSERT_STRING_EQUAL(got, expected);
	if (strcmp(got, expected) != 0)
		printf("\n    %s: got \"%s\", not \"%s\"\n", request, got, expected);
	json_object_put(o);
}

/* ---- status and refusals ------------------------------------------------------------------------ */

static void test_status_tells_revisions_and_process(void)
{
	struct json_object *o, *times;

	commit_path("/a");
	commit_path("/b");
	o = ask("{\"verb\":\"status\"}");
	CU_ASSERT_TRUE(is_ok(o));
	CU_ASSERT_EQUAL(number(o, "current"), 3);
	CU_ASSERT_EQUAL(number(o, "floor"), 1);
	CU_ASSERT(number(o, "commits") >= 2);
	CU_ASSERT_EQUAL(number(o, "pid"), 7);
	CU_ASSERT_STRING_EQUAL(text(o, "db"), qf->fx->dir);
	CU_ASSERT_FALSE(flag(o, "mounted"));
	CU_ASSERT_EQUAL(number(o, "open_inodes"), 0);
	CU_ASSERT(number(o, "tags") == 0 && number(o, "leases") == 0 && number(o, "watches") == 0);
	CU_ASSERT_TRUE_FATAL(json_object_object_get_ex(o, "commit", &times));
	CU_ASSERT(number(times, "count") >= 2);
	CU_ASSERT(number(times, "p50_ns") > 0 && number(times, "p50_ns") <= number(times, "p99_ns"));
	CU_ASSERT(number(times, "mean_ns") <= number(times, "max_ns"));
	json_object_put(o);
}

static void test_only_root_and_the_owner_may_ask(void)
{
	struct json_object *o = ask_as(1000, "{\"verb\":\"status\"}");

	CU_ASSERT_TRUE(is_ok(o));
	json_object_put(o);
	assert_refused(1001, "{\"verb\":\"status\"}", "EACCES", 2);
	assert_refused(1001, "nonsense", "EACCES", 2);
}

static void test_what_is_no_request_is_refused(void)
{
	static const char *const bad[] = {
		"",
		"\n",
		"status",
		"{",
		"[]",
		"3",
		"null",
		"{\"verb\":\"status\"} x",
		"{\"verb\":\"status\"}{}",
		"{\"verb\":[[[[[[[[[[[[1]]]]]]]]]]]]}",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_refused(0, bad[i], "EINVAL", 2);
	assert_refused(0, "{}", "EOPNOTSUPP", 2);
	assert_refused(0, "{\"verb\":\"sing\"}", "EOPNOTSUPP", 2);
	assert_refused(0, "{\"verb\":7}", "EOPNOTSUPP", 2);
	assert_refused(0, "{\"verb\":null}", "EOPNOTSUPP", 2);
}

static void test_a_request_of_any_length_gets_an_answer(void)
{
	char *big = malloc(QUERY_REQUEST_MAX + 2);

	CU_ASSERT_PTR_NOT_NULL_FATAL(big);
	memset(big, ' ', QUERY_REQUEST_MAX + 1);
	big[QUERY_REQUEST_MAX + 1] = 0;
	assert_refused(0, big, "EMSGSIZE", 2);
	free(big);
}

static void test_cut_and_flipped_requests_never_do_harm(void)
{
	static const char good[] =
		"{\"verb\":\"log\",\"path\":\"/a\",\"from\":1,\"to\":\"head~0\",\"limit\":3}";
	char bad[sizeof(good)];

	commit_path("/a");
	for (size_t i = 0; i < sizeof(good) - 1; i++) {
		memcpy(bad, good, sizeof(good));
		bad[i] = 0;
		assert_refused(0, bad, "EINVAL", 2);
		for (unsigned bit = 0; bit < 8; bit++) {
			memcpy(bad, good, sizeof(good));
			bad[i] = (char)(bad[i] ^ (1 << bit));
			json_object_put(ask(bad)); /* whatever it says: it is JSON */
		}
	}
}

/* ---- revisions ----------------------------------------------------------------------------------- */

static void test_a_revision_is_a_number_or_counted_from_head(void)
{
	static const struct {
		const char *expr;
		int err;
		mvcc_rev_t rev;
	} cases[] = {
		{ "1", 0, 1 },
		{ "4", 0, 4 },
		{ "head", 0, 4 },
		{ "head~0", 0, 4 },
		{ "head~3", 0, 1 },
		{ "head~4", -ENOENT, 0 },
		{ "head~18446744073709551615", -ENOENT, 0 },
		{ "0", -ENOENT, 0 },
		{ "5", MVCC_EFUTURE, 0 },
		{ "18446744073709551615", MVCC_EFUTURE, 0 },
		{ "18446744073709551616", -EINVAL, 0 },
		{ "99999999999999999999999", -EINVAL, 0 },
		{ "", -EINVAL, 0 },
		{ "01", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "+1", -EINVAL, 0 },
		{ " 1", -EINVAL, 0 },
		{ "1 ", -EINVAL, 0 },
		{ "0x1", -EINVAL, 0 },
		{ "head~", -EINVAL, 0 },
		{ "head~~1", -EINVAL, 0 },
		{ "head1", -EINVAL, 0 },
		{ "headlong", -EINVAL, 0 },
		{ "Head", -EINVAL, 0 },
	};

	for (int i = 0; i < 3; i++)
		commit_path("/a");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		mvcc_rev_t rev = 0;

		CU_ASSERT_EQUAL(query_rev(qf->fx->db, slice_str(cases[i].expr), &rev), cases[i].err);
		CU_ASSERT_EQUAL(rev, cases[i].rev);
	}
}

static void test_codes_become_the_exit_statuses_of_the_manual(void)
{
	CU_ASSERT_EQUAL(query_exit(0), 0);
	CU_ASSERT_EQUAL(query_exit(-ENOENT), 1);
	CU_ASSERT_EQUAL(query_exit(MVCC_EFUTURE), 1);
	CU_ASSERT_EQUAL(query_exit(-EIO), 2);
	CU_ASSERT_EQUAL(query_exit(MVCC_ECORRUPT), 2);
	CU_ASSERT_EQUAL(query_exit(MVCC_ENODB), 10);
	CU_ASSERT_EQUAL(query_exit(MVCC_ELOCKED), 11);
	CU_ASSERT_EQUAL(query_exit(MVCC_ECOMPACTED), 13);
}

/* ---- log ----------------------------------------------------------------------------------------- */

static void test_log_tells_the_story_newest_first(void)
{
	struct json_object *o, *entries, *e;

	commit_path("/a");
	commit_story("k2", "rename", slice_str("/new"), slice_str("/old"));
	assert_revs("{\"verb\":\"log\"}", "3 2 1");
	o = ask("{\"verb\":\"log\",\"limit\":1}");
	CU_ASSERT_TRUE(json_object_object_get_ex(o, "entries", &entries));
	e = json_object_array_get_idx(entries, 0);
	CU_ASSERT_EQUAL(number(e, "rev"), 3);
	CU_ASSERT_EQUAL(number(e, "uid"), 1000);
	CU_ASSERT_EQUAL(number(e, "gid"), 100);
	CU_ASSERT_EQUAL(number(e, "pid"), 42);
	CU_ASSERT_EQUAL(number(e, "changes"), 1);
	CU_ASSERT_STRING_EQUAL(text(e, "comm"), "vi");
	CU_ASSERT_STRING_EQUAL(text(e, "op"), "rename");
	CU_ASSERT_STRING_EQUAL(text(e, "path"), "/new");
	CU_ASSERT_STRING_EQUAL(text(e, "path2"), "/old");
	CU_ASSERT_STRING_EQUAL(text(e, "session"), "(none)");
	CU_ASSERT_EQUAL(strlen(text(e, "time")), strlen("2026-11-22T23:30:05.123456789Z"));
	CU_ASSERT(number(e, "time_ns") > 0);
	json_object_put(o);
}

static void test_log_takes_ranges(void)
{
	for (int i = 0; i < 5; i++)
		commit_path("/a");
	assert_revs("{\"verb\":\"log\",\"from\":2,\"to\":4}", "4 3 2");
	assert_revs("{\"verb\":\"log\",\"from\":\"5\"}", "6 5");
	assert_revs("{\"verb\":\"log\",\"to\":\"head~4\"}", "2 1");
	assert_revs("{\"verb\":\"log\",\"from\":\"head\",\"to\":\"head\"}", "6");
	assert_refused(0, "{\"verb\":\"log\",\"from\":4,\"to\":2}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"log\",\"to\":7}", "ENOENT", 1);
	assert_refused(0, "{\"verb\":\"log\",\"from\":0}", "ENOENT", 1);
	assert_refused(0, "{\"verb\":\"log\",\"from\":\"yore\"}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"log\",\"from\":[1]}", "EINVAL", 2);
}

static void test_limits_are_checked(void)
{
	assert_refused(0, "{\"verb\":\"log\",\"limit\":0}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"log\",\"limit\":-1}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"log\",\"limit\":1001}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"log\",\"limit\":\"10\"}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"log\",\"limit\":1.5}", "EINVAL", 2);
}

static void test_pages_join_without_gap_or_repeat(void)
{
	uint64_t next = 701, expect = 701;
	unsigned pages = 0;
	char request[128];

	for (int i = 0; i < 700; i++)
		commit_path("/a");
	while (next && pages < 100) {
		struct json_object *o, *entries;

		snprintf(request, sizeof(request), "{\"verb\":\"log\",\"to\":%" PRIu64 ",\"limit\":13}",
			 next);
		o = ask(request);
		CU_ASSERT_TRUE_FATAL(json_object_object_get_ex(o, "entries", &entries));
		for (size_t i = 0; i < json_object_array_length(entries); i++)
			CU_ASSERT_EQUAL(number(json_object_array_get_idx(entries, i), "rev"), expect--);
		next = json_object_object_get_ex(o, "next", NULL) ? number(o, "next") : 0;
		json_object_put(o);
		pages++;
	}
	CU_ASSERT_EQUAL(expect, 0);
	CU_ASSERT_EQUAL(pages, (701 + 12) / 13);
}

static void test_a_full_last_page_has_no_next(void)
{
	for (int i = 0; i < 3; i++)
		commit_path("/a");
	assert_revs("{\"verb\":\"log\",\"limit\":4}", "4 3 2 1");
	assert_revs("{\"verb\":\"log\",\"limit\":3}", "4 3 2 next 1");
	assert_revs("{\"verb\":\"log\",\"limit\":3,\"from\":2}", "4 3 2");
}

static void test_a_path_means_itself_and_what_lies_below(void)
{
	commit_path("/dir/a");                                                /* 2 */
	commit_path("/dir");                                                  /* 3 */
	commit_path("/dirt");                                                 /* 4 */
	commit_path("/other");                                                /* 5 */
	commit_story("k", "rename", slice_str("/away"), slice_str("/dir/b")); /* 6 */
	assert_revs("{\"verb\":\"log\",\"path\":\"/dir\"}", "6 3 2");
	assert_revs("{\"verb\":\"log\",\"path\":\"dir/\"}", "6 3 2");
	assert_revs("{\"verb\":\"log\",\"path\":\"/dir/a\"}", "2");
	assert_revs("{\"verb\":\"log\",\"path\":\"/away\"}", "6");
	assert_revs("{\"verb\":\"log\",\"path\":\"/nowhere\"}", "");
	assert_revs("{\"verb\":\"log\",\"path\":\"/\"}", "6 5 4 3 2 1");
	assert_revs("{\"verb\":\"log\",\"path\":\"\"}", "6 5 4 3 2 1");
	assert_revs("{\"verb\":\"log\",\"path\":\"/dir\",\"limit\":1}", "6 next 3");
	assert_revs("{\"verb\":\"log\",\"path\":\"/dir\",\"limit\":2,\"to\":3}", "3 2");
	assert_refused(0, "{\"verb\":\"log\",\"path\":5}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"log\",\"path_b64\":\"!\"}", "EINVAL", 2);
}

static void test_a_rare_path_is_found_far_back(void)
{
	commit_path("/rare");
	for (int i = 0; i < 1000; i++)
		commit_path("/common");
	commit_path("/rare");
	assert_revs("{\"verb\":\"log\",\"path\":\"/rare\"}", "1003 2");
	assert_revs("{\"verb\":\"log\",\"path\":\"/rare\",\"limit\":1}", "1003 next 2");
}

/* A revision that differs from commit_path()'s in all that is filtered by. */
static mvcc_rev_t commit_other(const char *path)
{
	const struct mvcc_story story = {
		.uid = 7, .comm = "ed", .op = "rename", .path = slice_str(path), .session = "night"
	};
	struct mvcc_txn *txn = begin(qf->fx->db);
	mvcc_rev_t rev = 0;

	txn_put(txn, "k", "value");
	CU_ASSERT_EQUAL(mvcc_txn_commit(txn, &story, MVCC_COMMIT_WAIT, &rev), 0);
	return rev;
}

static void test_filters_leave_what_matches_all_of_them(void)
{
	commit_path("/a");  /* 2 */
	commit_other("/a"); /* 3 */
	commit_path("/b");  /* 4 */
	commit_other("/b"); /* 5 */
	assert_revs("{\"verb\":\"log\",\"uid\":7}", "5 3");
	assert_revs("{\"verb\":\"log\",\"uid\":1000}", "4 2");
	assert_revs("{\"verb\":\"log\",\"comm\":\"ed\"}", "5 3");
	assert_revs("{\"verb\":\"log\",\"op\":\"write\"}", "4 2");
	assert_revs("{\"verb\":\"log\",\"session\":\"night\"}", "5 3");
	assert_revs("{\"verb\":\"log\",\"session\":\"nigh\"}", "");
	assert_revs("{\"verb\":\"log\",\"session\":\"night\",\"path\":\"/a\"}", "3");
	assert_revs("{\"verb\":\"log\",\"uid\":7,\"op\":\"write\"}", "");
	assert_revs("{\"verb\":\"log\",\"uid\":7,\"to\":4}", "3");
	assert_revs("{\"verb\":\"log\",\"comm\":\"vi\",\"limit\":1}", "4 next 2");
	assert_refused(0, "{\"verb\":\"log\",\"uid\":\"root\"}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"log\",\"uid\":-1}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"log\",\"since_ns\":\"now\"}", "EINVAL", 2);
}

/* When a revision was committed, which the log knows. */
static int64_t time_of(mvcc_rev_t rev)
{
	const struct mvcc_entry *e;
	struct mvcc_log *log;
	int64_t time_ns = 0;

	CU_ASSERT_EQUAL_FATAL(mvcc_log_open(qf->fx->db, rev, rev, &log), 0);
	if (mvcc_log_next(log, &e) == 1)
		time_ns = e->time_ns;
	mvcc_log_close(log);
	return time_ns;
}

static void assert_revs_between(int64_t since_ns, int64_t until_ns, const char *expected)
{
	char request[256];

	snprintf(request, sizeof(request),
		 "{\"verb\":\"log\",\"since_ns\":%" PRId64 ",\"until_ns\":%" PRId64 "}", since_ns, until_ns);
	assert_revs(request, expected);
}

static void test_times_are_bounds_that_are_included(void)
{
	int64_t second, third;

	commit_path("/a");
	while (ns_time_ns() <= time_of(2)) /* revisions may have one time; these must not */
		;
	commit_path("/b");
	second = time_of(2);
	third = time_of(3);
	CU_ASSERT(third > second);
	assert_revs_between(second, third, "3 2");
	assert_revs_between(second + 1, third, "3");
	assert_revs_between(second, third - 1, "2");
	assert_revs_between(third + 1, INT64_MAX, "");
	assert_revs_between(0, second, "2 1");
	assert_revs_between(0, 5, "");
	assert_revs_between(INT64_MIN, INT64_MAX, "3 2 1");
}

static void test_a_reply_stays_near_its_bound(void)
{
	struct query_env env = qf->env;
	struct buf reply = { 0 };
	char *path = malloc(4096);
	struct json_object *o = NULL;

	CU_ASSERT_PTR_NOT_NULL_FATAL(path);
	memset(path, 'x', 4095);
	path[0] = '/';
	for (int i = 0; i < 600; i++)
		commit_story("k", "write", slice_of(path, 4095), slice_of(NULL, 0));
	CU_ASSERT_EQUAL(query_answer(&env, slice_str("{\"verb\":\"log\"}"), &reply), 0);
	CU_ASSERT(reply.len > QUERY_REPLY_BYTES);
	CU_ASSERT(reply.len < QUERY_REPLY_BYTES + 8192);
	CU_ASSERT_EQUAL(json_parse(slice_buf(&reply), &o), 0);
	CU_ASSERT_TRUE(json_object_object_get_ex(o, "next", NULL));
	json_object_put(o);
	buf_release(&reply);
	free(path);
}

/* ---- bytes --------------------------------------------------------------------------------------- */

static void test_any_bytes_come_through_json_unchanged(void)
{
	struct json_object *o, *entries, *e;
	struct buf back = { 0 };
	char odd[257];

	odd[0] = '/';
	for (int i = 1; i < 256; i++)
		odd[i] = (char)i;
	commit_story("k", "write", slice_of(odd, 256), slice_str("/caf\xc3\xa9"));
	o = ask("{\"verb\":\"log\",\"limit\":1}");
	CU_ASSERT_TRUE(json_object_object_get_ex(o, "entries", &entries));
	e = json_object_array_get_idx(entries, 0);
	CU_ASSERT_EQUAL(json_get_bytes(e, "path", &back), 0);
	CU_ASSERT_TRUE(slice_eq(slice_buf(&back), slice_of(odd, 256)));
	CU_ASSERT_PTR_NOT_NULL(strstr(text(e, "path"), "xyz{|}~\x7f\xef\xbf\xbd\xef\xbf\xbd"));
	CU_ASSERT_STRING_EQUAL(text(e, "path2"), "/caf\xc3\xa9");
	CU_ASSERT_FALSE(json_object_object_get_ex(e, "path2_b64", NULL));
	json_object_put(o);
	buf_release(&back);
}

static void test_base64_is_that_of_the_standard(void)
{
	static const struct {
		const char *bytes, *text;
	} cases[] = {
		{ "\xff", "/w==" },
		{ "\xff\xfe", "//4=" },
		{ "\xff\xfe\xfd", "//79" },
		{ "\xff"
		  "foob",
		  "/2Zvb2I=" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct json_object *o = json_object_new_object();
		struct buf back = { 0 };

		CU_ASSERT_EQUAL(json_add_bytes(o, "p", slice_str(cases[i].bytes)), 0);
		CU_ASSERT_STRING_EQUAL(text(o, "p_b64"), cases[i].text);
		CU_ASSERT_EQUAL(json_get_bytes(o, "p", &back), 0);
		CU_ASSERT_TRUE(slice_eq(slice_buf(&back), slice_str(cases[i].bytes)));
		buf_release(&back);
		json_object_put(o);
	}
}

static void test_damaged_base64_is_refused(void)
{
	static const char *const bad[] = { "A",    "AA",    "AAA",      "A===", "=AAA",
					   "AA=A", "AAA\n", "AA==AAAA", "AAA-" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct json_object *o = json_object_new_object();
		struct buf back = { 0 };

		json_object_object_add(o, "p_b64", json_object_new_string(bad[i]));
		CU_ASSERT_EQUAL(json_get_bytes(o, "p", &back), -EINVAL);
		CU_ASSERT_EQUAL(json_get_bytes(o, "q", &back), -ENOENT);
		buf_release(&back);
		json_object_put(o);
	}
}

static void test_utf8_is_what_rfc_3629_says(void)
{
	static const struct {
		const char *bytes;
		size_t len;
	} cases[] = {
		{ "a", 1 },
		{ "\xc3\xa9", 2 },
		{ "\xe2\x82\xac", 3 },
		{ "\xf0\x9f\x98\x80", 4 },
		{ "\xf4\x8f\xbf\xbf", 4 },
		{ "", 0 },
		{ "\x80", 0 },
		{ "\xc3", 0 },
		{ "\xc3(", 0 },
		{ "\xc0\x80", 0 }, /* overlong */
		{ "\xe0\x9f\xbf", 0 },
		{ "\xf0\x8f\xbf\xbf", 0 },
		{ "\xed\xa0\x80", 0 },     /* a surrogate */
		{ "\xf4\x90\x80\x80", 0 }, /* above U+10FFFF */
		{ "\xf5\x80\x80\x80", 0 },
		{ "\xe2\x82", 0 },
		{ "\xe2\x82(", 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CU_ASSERT_EQUAL(utf8_char(slice_str(cases[i].bytes)), cases[i].len);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_status_tells_revisions_and_process),
	UNIT_TEST(test_only_root_and_the_owner_may_ask),
	UNIT_TEST(test_what_is_no_request_is_refused),
	UNIT_TEST(test_a_request_of_any_length_gets_an_answer),
	UNIT_TEST(test_cut_and_flipped_requests_never_do_harm),
	UNIT_TEST(test_a_revision_is_a_number_or_counted_from_head),
	UNIT_TEST(test_codes_become_the_exit_statuses_of_the_manual),
	UNIT_TEST(test_log_tells_the_story_newest_first),
	UNIT_TEST(test_log_takes_ranges),
	UNIT_TEST(test_limits_are_checked),
	UNIT_TEST(test_pages_join_without_gap_or_repeat),
	UNIT_TEST(test_a_full_last_page_has_no_next),
	UNIT_TEST(test_a_path_means_itself_and_what_lies_below),
	UNIT_TEST(test_a_rare_path_is_found_far_back),
	UNIT_TEST(test_filters_leave_what_matches_all_of_them),
	UNIT_TEST(test_times_are_bounds_that_are_included),
	UNIT_TEST(test_a_reply_stays_near_its_bound),
	UNIT_TEST(test_any_bytes_come_through_json_unchanged),
	CU_TEST_INFO_NULL,
};

static CU_TestInfo byte_tests[] = {
	UNIT_TEST(test_base64_is_that_of_the_standard),
	UNIT_TEST(test_damaged_base64_is_refused),
	UNIT_TEST(test_utf8_is_what_rfc_3629_says),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = {
		UNIT_SUITE("query", query_open, query_close, tests),
		UNIT_SUITE("json", NULL, NULL, byte_tests),
		CU_SUITE_INFO_NULL,
	};

	fixture_use(NULL);
	return unit_main(argc, argv, suites);
}
