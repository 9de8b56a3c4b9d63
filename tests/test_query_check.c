/* check, backup and progress, asked through fs/query.h. */
#include "fs/query.h"

#include "fs/query_int.h"
#include "mvcc/check.h"
#include "tests/query_fixture.h"
#include "tests/unit.h"

#include <inttypes.h>
#include <sys/stat.h>

/* ---- check ----------------------------------------------------------------------------------------- */

static void test_a_good_database_is_clean(void)
{
	make_dir("/d");
	make_file("/d/f", "x");
	assert_reply("{\"verb\":\"check\"}", "ok rev rows problems told", "true 3 5 0 0");
	assert_refused(7, "{\"verb\":\"check\"}", "EACCES", 2);
}

static void test_problems_are_told_with_their_file(void)
{
	struct json_object *o, *told, *p;
	uint64_t dir = make_dir("/d");
	struct mvcc_txn *txn;

	make_file("/d/f", "x");
	CU_ASSERT_EQUAL(ns_setxattr(qf->ns, &(struct ns_who){ .uid = 1 }, dir, "user.x", slice_str("v"), 0),
			0);
	txn = begin(qf->fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, slice_of("D\1\2no", 5), slice_of("\x08\x7f", 2), NULL, 0), 0);
	txn_put(txn, "zzz", "value");
	commit(txn);
	o = ask("{\"verb\":\"check\"}");
	CU_ASSERT_TRUE(is_ok(o));
	CU_ASSERT_EQUAL(number(o, "problems"), 2);
	CU_ASSERT_TRUE_FATAL(json_object_object_get_ex(o, "told", &told));
	p = json_object_array_get_idx(told, 0);
	CU_ASSERT_STRING_EQUAL(text(p, "part"), "tree");
	CU_ASSERT_STRING_EQUAL(text(p, "what"), "an entry leads to an inode that is not there");
	CU_ASSERT_STRING_EQUAL(text(p, "name"), "no");
	CU_ASSERT_EQUAL(number(p, "ino"), dir);
	CU_ASSERT_STRING_EQUAL(text(p, "path"), "/d");
	p = json_object_array_get_idx(told, 1);
	CU_ASSERT_STRING_EQUAL(text(p, "key"), "zzz");
	json_object_put(o);
}

static void test_a_flood_of_problems_is_cut_but_counted(void)
{
	struct mvcc_txn *txn = begin(qf->fx->db);
	char key[32];

	for (int i = 0; i < 1500; i++) {
		snprintf(key, sizeof(key), "zzz%d", i);
		txn_put(txn, key, "value");
	}
	commit(txn);
	assert_reply("{\"verb\":\"check\"}", "ok problems told", "true 1500 1000");
}

/* ---- backup ---------------------------------------------------------------------------------------- */

static void ask_backup(const char *name, char request[512])
{
	snprintf(request, 512, "{\"verb\":\"backup\",\"dir\":\"%s/%s\"}", qf->fx->tmp, name);
}

static void test_what_cannot_be_a_backup_is_refused(void)
{
	char request[512];

	assert_refused(0, "{\"verb\":\"backup\"}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"backup\",\"dir\":\"here\"}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"backup\",\"dir\":\"\"}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"backup\",\"dir\":\"/a\\u0000b\"}", "EINVAL", 2);
	ask_backup("taken", request);
	snprintf(request, sizeof(request), "%s/taken", qf->fx->tmp);
	CU_ASSERT_EQUAL(mkdir(request, 0755), 0);
	ask_backup("taken", request);
	assert_refused(0, request, "EEXIST", 2);
	ask_backup("no/such", request);
	assert_refused(0, request, "ENOENT", 1);
	qf->env.mountpoint = qf->fx->tmp; /* as if this were the mount */
	ask_backup("inside", request);
	assert_refused(0, request, "EINVAL", 2);
}

/* ---- progress -------------------------------------------------------------------------------------- */

static void test_progress_tells_of_the_task_that_is_asked_for(void)
{
	struct query_task one, two;
	struct json_object *req = json_object_new_object();

	CU_ASSERT_PTR_NOT_NULL_FATAL(req);
	task_begin(&two, req, "nothing");
	json_object_object_add(req, "task", json_object_new_uint64(77));
	task_begin(&one, req, "rows");
	assert_reply("{\"verb\":\"progress\",\"task\":77}", "ok running what done", "true true rows 0");
	one.done = 5;
	assert_reply("{\"verb\":\"progress\",\"task\":77}", "running what done", "true rows 5");
	task_phase(&one, "bytes");
	assert_reply("{\"verb\":\"progress\",\"task\":77}", "running what done", "true bytes 0");
	assert_reply("{\"verb\":\"progress\",\"task\":78}", "ok running", "true false");
	assert_reply("{\"verb\":\"progress\",\"task\":0}", "ok running", "true false");
	task_end(&one);
	task_end(&two);
	assert_reply("{\"verb\":\"progress\",\"task\":77}", "ok running", "true false");
	assert_refused(0, "{\"verb\":\"progress\"}", "EINVAL", 2);
	json_object_put(req);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_a_good_database_is_clean),
	UNIT_TEST(test_problems_are_told_with_their_file),
	UNIT_TEST(test_a_flood_of_problems_is_cut_but_counted),
	UNIT_TEST(test_what_cannot_be_a_backup_is_refused),
	UNIT_TEST(test_progress_tells_of_the_task_that_is_asked_for),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("query_check", query_open, query_close, tests),
				  CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
