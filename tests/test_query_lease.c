/* Leases, asked through fs/query.h. */
#include "fs/query.h"

#include "mvcc/keep.h"
#include "mvcc/lease.h"
#include "tests/query_fixture.h"
#include "tests/unit.h"

#include <inttypes.h>

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

static void pass(int64_t s)
{
	clock_ns += s * 1000000000;
	CU_ASSERT_EQUAL(mvcc_upkeep(qf->fx->db), 0);
}

/* All leases: "7:60000:/a,/d/b 9:1000:", and " next N" where there are more. */
static void assert_leases(const char *request, const char *expected)
{
	struct json_object *o = ask(request), *leases, *paths;
	char got[512] = "";
	size_t len = 0;

	CU_ASSERT_TRUE(is_ok(o));
	if (!json_object_object_get_ex(o, "leases", &leases))
		leases = NULL;
	for (size_t i = 0; leases && i < json_object_array_length(leases) && len < sizeof(got); i++) {
		struct json_object *lease = json_object_array_get_idx(leases, i);

		len += (size_t)snprintf(got + len, sizeof(got) - len, "%s%" PRIu64 ":%" PRIu64 ":",
					i ? " " : "", number(lease, "id"), number(lease, "left_ms"));
		if (!json_object_object_get_ex(lease, "paths", &paths))
			continue;
		for (size_t j = 0; j < json_object_array_length(paths) && len < sizeof(got); j++)
			len += (size_t)snprintf(got + len, sizeof(got) - len, "%s%s", j ? "," : "",
						text(json_object_array_get_idx(paths, j), "path"));
	}
	CU_ASSERT_STRING_EQUAL(got, expected);
	if (strcmp(got, expected) != 0)
		printf("\n    got \"%s\", not \"%s\"\n", got, expected);
	json_object_put(o);
}

static void test_a_lease_is_granted_listed_and_kept_alive(void)
{
	assert_reply("{\"verb\":\"lease_grant\",\"ttl_ms\":60000,\"id\":7}", "ok id ttl_ms left_ms files",
		     "true 7 60000 60000 0");
	assert_reply("{\"verb\":\"lease_grant\",\"ttl_ms\":1000}", "ok ttl_ms", "true 1000");
	pass(50);
	assert_reply("{\"verb\":\"lease\",\"id\":7}", "ok left_ms paths", "true 10000 0");
	assert_leases("{\"verb\":\"leases\"}", "7:10000:");
	assert_reply("{\"verb\":\"lease_keepalive\",\"id\":7}", "ok left_ms", "true 60000");
	pass(50);
	assert_leases("{\"verb\":\"leases\"}", "7:10000:");
	assert_leases("{\"verb\":\"leases\",\"after\":7}", "");
	pass(11);
	assert_leases("{\"verb\":\"leases\"}", "");
	assert_refused(0, "{\"verb\":\"lease\",\"id\":7}", "ENOENT", 1);
	assert_refused(0, "{\"verb\":\"lease_keepalive\",\"id\":7}", "ENOENT", 1);
}

static void test_files_are_attached_and_go(void)
{
	mvcc_rev_t rev;

	make_dir("/d");
	make_file("/d/a", "x");
	make_file("/b", "x");
	make_file("/c", "x");
	ask_ok("{\"verb\":\"lease_grant\",\"ttl_ms\":60000,\"id\":7}");
	rev = mvcc_current(qf->fx->db);
	assert_reply("{\"verb\":\"lease_attach\",\"id\":7,\"path\":\"/d/a\"}", "ok id rev", "true 7 6");
	CU_ASSERT_EQUAL(qf->changed, rev + 1);
	ask_ok("{\"verb\":\"lease_attach\",\"id\":7,\"path\":\"b\"}");
	ask_ok("{\"verb\":\"lease_attach\",\"id\":7,\"path\":\"/c\"}");
	assert_leases("{\"verb\":\"leases\"}", "7:60000:/d/a,/b,/c");
	ask_ok("{\"verb\":\"lease_detach\",\"path\":\"/b\"}");
	assert_reply("{\"verb\":\"lease\",\"id\":7}", "files paths", "2 2");
	qf->changed = 0;
	assert_reply("{\"verb\":\"lease_revoke\",\"id\":7,\"session\":\"s\",\"message\":\"m\"}", "ok id rev",
		     "true 7 10");
	CU_ASSERT_EQUAL(qf->changed, 10);
	assert_refused(0, "{\"verb\":\"lease_attach\",\"id\":7,\"path\":\"/b\"}", "ENOENT", 1);
	ask_ok("{\"verb\":\"lease_grant\",\"ttl_ms\":60000,\"id\":8}");
	assert_refused(0, "{\"verb\":\"lease_attach\",\"id\":8,\"path\":\"/c\"}", "ENOENT", 1);
	ask_ok("{\"verb\":\"lease_attach\",\"id\":8,\"path\":\"/b\"}");
}

static void test_who_has_a_file_open_keeps_it(void)
{
	uint64_t ino = make_file("/a", "content");
	struct ns_file *f = NULL;
	char got[8] = "";

	CU_ASSERT_EQUAL_FATAL(ns_file_open(qf->ns, &(struct ns_who){ .uid = 1 }, ino, NS_OPEN_READ,
					   (struct ns_gone){ 0 }, &f),
			      0);
	ask_ok("{\"verb\":\"lease_grant\",\"ttl_ms\":60000,\"id\":7}");
	ask_ok("{\"verb\":\"lease_attach\",\"id\":7,\"path\":\"/a\"}");
	ask_ok("{\"verb\":\"lease_revoke\",\"id\":7}");
	CU_ASSERT_EQUAL(ns_file_read(f, 0, got, 7), 7);
	CU_ASSERT_STRING_EQUAL(got, "content");
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	assert_reply("{\"verb\":\"check\"}", "ok problems", "true 0");
}

/* The story of a revocation is the asker's, with the labels it gave. */
static void test_a_revocation_tells_who_and_why(void)
{
	struct json_object *o, *entries, *e;

	make_file("/a", "x");
	ask_ok("{\"verb\":\"lease_grant\",\"ttl_ms\":60000,\"id\":7}");
	ask_ok("{\"verb\":\"lease_attach\",\"id\":7,\"path\":\"/a\"}");
	ask_ok("{\"verb\":\"lease_revoke\",\"id\":7,\"session\":\"night\",\"message\":\"too old\"}");
	o = ask("{\"verb\":\"log\",\"limit\":1}");
	CU_ASSERT_TRUE_FATAL(json_object_object_get_ex(o, "entries", &entries));
	e = json_object_array_get_idx(entries, 0);
	CU_ASSERT_STRING_EQUAL(text(e, "op"), "revoke");
	CU_ASSERT_STRING_EQUAL(text(e, "session"), "night");
	CU_ASSERT_STRING_EQUAL(text(e, "message"), "too old");
	CU_ASSERT_STRING_EQUAL(text(e, "comm"), "test");
	CU_ASSERT_EQUAL(number(e, "pid"), 42);
	json_object_put(o);
}

static void test_what_cannot_be_is_refused(void)
{
	make_dir("/d");
	assert_refused(0, "{\"verb\":\"lease_grant\"}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"lease_grant\",\"ttl_ms\":0}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"lease_grant\",\"ttl_ms\":9000000000001}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"lease_grant\",\"ttl_ms\":1,\"id\":\"x\"}", "EINVAL", 2);
	ask_ok("{\"verb\":\"lease_grant\",\"ttl_ms\":1000,\"id\":7}");
	assert_refused(0, "{\"verb\":\"lease_grant\",\"ttl_ms\":1000,\"id\":7}", "EEXIST", 2);
	assert_refused(0, "{\"verb\":\"lease\"}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"lease\",\"id\":0}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"lease_revoke\",\"id\":9}", "ENOENT", 1);
	assert_refused(0, "{\"verb\":\"lease_attach\",\"id\":7}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"lease_attach\",\"id\":7,\"path\":\"/d\"}", "EISDIR", 2);
	assert_refused(0, "{\"verb\":\"lease_attach\",\"id\":7,\"path\":\"/no\"}", "ENOENT", 1);
	assert_refused(0, "{\"verb\":\"lease_detach\",\"path\":\"/no\"}", "ENOENT", 1);
	assert_refused(0, "{\"verb\":\"leases\",\"after\":\"x\"}", "EINVAL", 2);
	assert_refused(7, "{\"verb\":\"lease_grant\",\"ttl_ms\":1000}", "EACCES", 2);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_a_lease_is_granted_listed_and_kept_alive),
	UNIT_TEST(test_files_are_attached_and_go),
	UNIT_TEST(test_who_has_a_file_open_keeps_it),
	UNIT_TEST(test_a_revocation_tells_who_and_why),
	UNIT_TEST(test_what_cannot_be_is_refused),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("query_lease", open_by_clock, query_close, tests),
				  CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
