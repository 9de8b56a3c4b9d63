/* The questions diff, undo, redo and restore: pages, which revisions are meant, stories, refusals. */
#include "fs/query.h"

#include "fs/json_bytes.h"
#include "tests/query_fixture.h"
#include "tests/unit.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>

static const struct ns_who me = { .uid = 1000, .gid = 100, .pid = 42, .comm = "test" };

/* The entries of a reply as "M /a; A /b; "; of one with conflicts, these as "! /a; ". */
static void entries_text(struct json_object *o, char *out, size_t size)
{
	struct json_object *list;
	size_t len = 0;
	bool conflicts = json_object_object_get_ex(o, "conflicts", &list);

	*out = 0;
	if (!conflicts && !json_object_object_get_ex(o, "entries", &list))
		return;
	for (size_t i = 0; i < json_object_array_length(list) && len + 64 < size; i++) {
		struct json_object *e = json_object_array_get_idx(list, i);

		len += (size_t)snprintf(out + len, size - len, "%s %s; ", conflicts ? "!" : text(e, "status"),
					text(e, "path"));
	}
}

static void assert_entries(const char *request, const char *expected)
{
	struct json_object *o = ask(request);
	char got[1024];

	CU_ASSERT_TRUE(is_ok(o));
	entries_text(o, got, sizeof(got));
	CU_ASSERT_STRING_EQUAL(got, expected);
	if (strcmp(got, expected) != 0)
		printf("\n    %s: \"%s\"\n", request, got);
	json_object_put(o);
}

/* A request that changes the tree: the revision it makes, and its message; the mount is told of it. */
static void assert_change(const char *request, mvcc_rev_t rev, const char *message)
{
	struct json_object *o;

	qf->changed = 0;
	o = ask(request);
	CU_ASSERT_TRUE(is_ok(o));
	CU_ASSERT_EQUAL(number(o, "rev"), rev);
	CU_ASSERT_STRING_EQUAL(text(o, "message"), message);
	CU_ASSERT_EQUAL(qf->changed, rev);
	if (number(o, "rev") != rev || strcmp(text(o, "message"), message) != 0)
		printf("\n    %s: %s\n", request, json_object_to_json_string(o));
	json_object_put(o);
}

static void write_again(uint64_t ino, const char *content)
{
	struct ns_file *f = NULL;

	CU_ASSERT_EQUAL_FATAL(
		ns_file_open(qf->ns, &me, ino, NS_OPEN_WRITE | NS_OPEN_TRUNC, (struct ns_gone){ 0 }, &f), 0);
	CU_ASSERT_EQUAL(ns_file_write(f, &me, 0, content, strlen(content)), 0);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
}

static void unlink_from_root(const char *name)
{
	CU_ASSERT_EQUAL(ns_unlink(qf->ns, &me, NS_ROOT, slice_str(name), NULL), 0);
}

/* ---- diff ------------------------------------------------------------------------------------------- */

static void test_diff_tells_what_differs_and_how(void)
{
	struct json_object *o, *list, *e, *child;
	uint64_t f;

	f = make_file("/f", "one"); /* 2 */
	make_dir("/d");             /* 3 */
	make_file("/d/g", "two");   /* 4 */
	write_again(f, "three");    /* 5 */
	assert_entries("{\"verb\":\"diff\",\"from\":2,\"to\":\"head\"}", "A /d; A /d/g; M /f; ");
	assert_entries("{\"verb\":\"diff\",\"from\":\"head\",\"to\":2}", "D /d; D /d/g; M /f; ");
	assert_entries("{\"verb\":\"diff\",\"from\":2,\"path\":\"/d\"}", "A /d; A /d/g; ");
	assert_entries("{\"verb\":\"diff\"}", "A /d; A /d/g; A /f; ");
	assert_entries("{\"verb\":\"diff\",\"from\":5}", "");
	o = ask("{\"verb\":\"diff\",\"from\":4,\"to\":5}");
	CU_ASSERT_TRUE_FATAL(json_object_object_get_ex(o, "entries", &list));
	e = json_object_array_get_idx(list, 0);
	CU_ASSERT_TRUE_FATAL(json_object_object_get_ex(e, "old", &child));
	CU_ASSERT_EQUAL(number(child, "size"), 3);
	CU_ASSERT_EQUAL(number(child, "ino"), f);
	CU_ASSERT_EQUAL(number(child, "rev"), 2);
	CU_ASSERT_TRUE_FATAL(json_object_object_get_ex(e, "new", &child));
	CU_ASSERT_EQUAL(number(child, "size"), 5);
	CU_ASSERT_EQUAL(number(child, "mode"), S_IFREG | 0644);
	json_object_put(o);
	assert_refused(0, "{\"verb\":\"diff\",\"from\":1,\"to\":99}", "ENOENT", 1);
	assert_refused(0, "{\"verb\":\"diff\",\"from\":1,\"path\":\"/none\"}", "ENOENT", 1);
	assert_refused(0, "{\"verb\":\"diff\",\"from\":1,\"limit\":0}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"diff\",\"from\":1,\"first\":\"x\"}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"diff\",\"path_b64\":\"?\"}", "EINVAL", 2);
	ask_ok("{\"verb\":\"compact\",\"rev\":4}");
	assert_refused(0, "{\"verb\":\"diff\",\"from\":3,\"to\":5}", "ESTALE", 13);
}

static void test_diff_in_pages(void)
{
	char request[128], name[16], got[2048] = "", page[256];
	uint64_t next = 0;
	unsigned pages = 0;

	for (unsigned i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "/f%u", i);
		make_file(name, "one");
	}
	do {
		struct json_object *o;

		snprintf(request, sizeof(request),
			 "{\"verb\":\"diff\",\"from\":1,\"to\":11,\"limit\":3,\"first\":%" PRIu64 "}", next);
		o = ask(request);
		entries_text(o, page, sizeof(page));
		strcat(got, page);
		next = json_object_object_get_ex(o, "next", NULL) ? number(o, "next") : 0;
		json_object_put(o);
		pages++;
	} while (next && pages < 10);
	CU_ASSERT_EQUAL(pages, 4);
	CU_ASSERT_STRING_EQUAL(got, "A /f0; A /f1; A /f2; A /f3; A /f4; A /f5; A /f6; A /f7; A /f8; A /f9; ");
}

/* ---- undo, redo -------------------------------------------------------------------------------------- */

static void test_undo_and_redo_go_back_and_forth(void)
{
	make_file("/a", "one"); /* 2 */
	make_file("/b", "one"); /* 3 */
	make_file("/c", "one"); /* 4 */
	assert_change("{\"verb\":\"undo\"}", 5, "undo of 4");
	assert_change("{\"verb\":\"undo\"}", 6, "undo of 3");
	assert_entries("{\"verb\":\"diff\",\"from\":4}", "D /b; D /c; ");
	assert_change("{\"verb\":\"redo\"}", 7, "redo of 6");
	assert_change("{\"verb\":\"undo\"}", 8, "undo of 7"); /* b, which came anew */
	assert_change("{\"verb\":\"undo\"}", 9, "undo of 2");
	assert_refused(0, "{\"verb\":\"undo\"}", "ENOENT", 1);
	assert_change("{\"verb\":\"redo\"}", 10, "redo of 9");
	assert_change("{\"verb\":\"redo\"}", 11, "redo of 8");
	assert_change("{\"verb\":\"redo\"}", 12, "redo of 5");
	assert_refused(0, "{\"verb\":\"redo\"}", "ENOENT", 1);
	assert_entries("{\"verb\":\"diff\",\"from\":4}", "");
	make_file("/d", "one");
	assert_change("{\"verb\":\"undo\"}", 14, "undo of 13");
	assert_change("{\"verb\":\"undo\"}", 15, "undo of 12");
}

static void chmod_to(uint64_t ino, uint32_t mode)
{
	struct ns_attr set = { .mode = mode }, out;

	CU_ASSERT_EQUAL(ns_setattr(qf->ns, &me, ino, &set, NS_SET_MODE, false, &out), 0);
}

static void test_an_undo_that_has_nothing_to_do_passes_on(void)
{
	uint64_t f = make_file("/f", "one"); /* 2 */

	chmod_to(f, 0600); /* 3 */
	chmod_to(f, 0644); /* 4 */
	chmod_to(f, 0644); /* 5: it was so already */
	assert_change("{\"verb\":\"undo\",\"rev\":3}", 0, "undo of 3");
	assert_change("{\"verb\":\"undo\",\"from\":3,\"to\":5}", 0, "undo of 3..5");
	assert_entries("{\"verb\":\"undo\",\"dry_run\":true}", "P /f; ");
	assert_change("{\"verb\":\"undo\"}", 6, "undo of 4");
	assert_change("{\"verb\":\"undo\"}", 7, "undo of 3");
	assert_change("{\"verb\":\"undo\",\"rev\":2,\"dry_run\":true}", 0, "undo of 2");
	assert_entries("{\"verb\":\"undo\",\"rev\":2,\"dry_run\":true}", "D /f; ");
	CU_ASSERT_EQUAL(mvcc_current(qf->fx->db), 7);
}

static void test_a_session_is_undone_and_nothing_of_others(void)
{
	uint64_t f = make_file("/f", "one"), g = make_file("/g", "one"); /* 2, 3 */

	write_again(f, "two"); /* 4 */
	write_again(g, "two"); /* 5 */
	assert_change("{\"verb\":\"restore\",\"rev\":3,\"path\":\"/f\",\"session\":\"S\",\"message\":\"m\"}",
		      6, "restored from 3: m");
	make_file("/other", "x"); /* 7 */
	assert_change("{\"verb\":\"restore\",\"rev\":3,\"path\":\"/g\",\"session\":\"S\"}", 8,
		      "restored from 3");
	assert_refused(0, "{\"verb\":\"undo\",\"of_session\":\"T\"}", "ENOENT", 1);
	assert_change("{\"verb\":\"undo\",\"of_session\":\"S\"}", 9, "undo of 8,6");
	assert_entries("{\"verb\":\"diff\",\"from\":5}", "A /other; ");
	assert_change("{\"verb\":\"undo\"}", 10, "undo of 7"); /* 8 and 6 are undone */
	assert_change("{\"verb\":\"undo\"}", 11, "undo of 5");
	assert_change("{\"verb\":\"redo\"}", 12, "redo of 11");
	assert_reply("{\"verb\":\"log\",\"from\":9,\"to\":9}", "entries", "1");
}

static void test_the_story_tells_who_and_where(void)
{
	struct json_object *o, *list, *e;

	make_dir("/d");
	make_file("/d/f", "one");
	make_dir("/d/e");
	make_file("/d/e/g", "one"); /* 5 */
	assert_change("{\"verb\":\"undo\",\"from\":3,\"to\":5,\"session\":\"S\",\"message\":\"why: so\"}", 6,
		      "undo of 3..5: why: so");
	o = ask("{\"verb\":\"log\",\"from\":6,\"to\":6}");
	CU_ASSERT_TRUE_FATAL(json_object_object_get_ex(o, "entries", &list));
	e = json_object_array_get_idx(list, 0);
	CU_ASSERT_STRING_EQUAL(text(e, "op"), "undo");
	CU_ASSERT_STRING_EQUAL(text(e, "path"), "/d");
	CU_ASSERT_STRING_EQUAL(text(e, "session"), "S");
	CU_ASSERT_EQUAL(number(e, "uid"), 0);
	json_object_put(o);
	assert_change("{\"verb\":\"redo\",\"message\":\"after all\"}", 7, "redo of 6: after all");
	assert_change("{\"verb\":\"undo\"}", 8, "undo of 7");
}

static void test_conflicts_are_told_and_nothing_is_done(void)
{
	uint64_t f = make_file("/f", "one"); /* 2 */
	struct json_object *o, *list;

	write_again(f, "two");   /* 3 */
	write_again(f, "three"); /* 4 */
	assert_entries("{\"verb\":\"undo\",\"rev\":3}", "! /f; ");
	o = ask("{\"verb\":\"undo\",\"rev\":3}");
	CU_ASSERT_EQUAL(number(o, "nconflicts"), 1);
	CU_ASSERT_EQUAL(number(o, "rev"), 0);
	CU_ASSERT_TRUE_FATAL(json_object_object_get_ex(o, "conflicts", &list));
	CU_ASSERT_STRING_EQUAL(text(json_object_array_get_idx(list, 0), "why"), "it was written to since");
	json_object_put(o);
	CU_ASSERT_EQUAL(mvcc_current(qf->fx->db), 4);
}

static void test_which_revisions_cannot_be_undone(void)
{
	make_file("/f", "one");
	assert_refused(0, "{\"verb\":\"undo\",\"rev\":1}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"undo\",\"rev\":9}", "ENOENT", 1);
	assert_refused(0, "{\"verb\":\"undo\",\"from\":2,\"to\":1}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"undo\",\"to\":2}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"undo\",\"rev\":\"no such tag\"}", "EINVAL", 2);
	assert_refused(1001, "{\"verb\":\"undo\"}", "EACCES", 2);
	make_file("/g", "one");
	ask_ok("{\"verb\":\"compact\",\"rev\":\"head\"}");
	assert_refused(0, "{\"verb\":\"undo\",\"rev\":2}", "ESTALE", 13);
	assert_refused(0, "{\"verb\":\"undo\"}", "ENOENT", 1); /* nothing is left that could be */
	assert_refused(0, "{\"verb\":\"redo\"}", "ENOENT", 1);
}

/* ---- restore ------------------------------------------------------------------------------------------- */

static void test_restore_of_several_paths_is_one_revision(void)
{
	uint64_t f = make_file("/f", "one"); /* 2 */

	make_file("/g", "one"); /* 3 */
	write_again(f, "two");  /* 4 */
	unlink_from_root("g");  /* 5 */
	make_file("/h", "two"); /* 6 */
	make_file("/i", "two"); /* 7 */
	assert_entries("{\"verb\":\"restore\",\"rev\":3,\"paths\":[{\"path\":\"/f\"},{\"path\":\"/"
		       "h\"}],\"dry_run\":true}",
		       "M /f; D /h; ");
	assert_change("{\"verb\":\"restore\",\"rev\":3,\"paths\":[{\"path\":\"/"
		      "f\"},{\"path_b64\":\"L2c=\"},{\"path\":\"h/\"}]}",
		      8, "restored from 3");
	assert_entries("{\"verb\":\"diff\",\"from\":3}", "A /i; ");
	assert_change("{\"verb\":\"restore\",\"rev\":3,\"path\":\"/f\"}", 0, "restored from 3");
	assert_change("{\"verb\":\"restore\",\"rev\":\"head~5\",\"path\":\"\"}", 9, "restored from 3");
	assert_entries("{\"verb\":\"diff\",\"from\":3}", "");
	assert_refused(0, "{\"verb\":\"restore\",\"rev\":3,\"path\":\"/none\"}", "ENOENT", 1);
	assert_refused(0, "{\"verb\":\"restore\",\"rev\":3,\"path\":\"/f/x\"}", "ENOTDIR", 2);
	assert_refused(0, "{\"verb\":\"restore\",\"rev\":3}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"restore\",\"rev\":3,\"paths\":[]}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"restore\",\"rev\":3,\"paths\":[\"/f\"]}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"restore\",\"rev\":3,\"paths\":[{}]}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"restore\",\"path\":\"/f\"}", "EINVAL", 2);
	assert_refused(0, "{\"verb\":\"restore\",\"rev\":99,\"path\":\"/f\"}", "ENOENT", 1);
	ask_ok("{\"verb\":\"compact\",\"rev\":\"head\"}");
	assert_refused(0, "{\"verb\":\"restore\",\"rev\":3,\"path\":\"/f\"}", "ESTALE", 13);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_diff_tells_what_differs_and_how),
	UNIT_TEST(test_diff_in_pages),
	UNIT_TEST(test_undo_and_redo_go_back_and_forth),
	UNIT_TEST(test_an_undo_that_has_nothing_to_do_passes_on),
	UNIT_TEST(test_a_session_is_undone_and_nothing_of_others),
	UNIT_TEST(test_the_story_tells_who_and_where),
	UNIT_TEST(test_conflicts_are_told_and_nothing_is_done),
	UNIT_TEST(test_which_revisions_cannot_be_undone),
	UNIT_TEST(test_restore_of_several_paths_is_one_revision),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("query_diff", query_open, query_close, tests),
				  CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
