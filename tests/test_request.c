/*
 * Requests: every compare on what is there and what is not, operations that see each other, nesting, what is refused
 * leaving nothing, large ones, and many at once on the same keys.
 */
#include "mvcc/request.h"

#include "tests/store_fixture.h"

#include "rocks_backend/rocks.h"
#include "tests/unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- one line each ------------------------------------------------------------------------- */

static struct mvcc_request_op op_put(const char *key, const char *value)
{
	return (struct mvcc_request_op){ .kind = MVCC_OP_PUT,
					 .put = { .key = str(key), .value = str(value) } };
}

static struct mvcc_request_op op_del(const char *key)
{
	return (struct mvcc_request_op){ .kind = MVCC_OP_DELETE, .start = str(key) };
}

static struct mvcc_request_op op_del_range(const char *start, const char *end)
{
	return (struct mvcc_request_op){
		.kind = MVCC_OP_DELETE, .range = true, .start = str(start), .end = str(end)
	};
}

static struct mvcc_request_op op_get(const char *key)
{
	return (struct mvcc_request_op){ .kind = MVCC_OP_RANGE, .start = str(key) };
}

static struct mvcc_request_op op_range(const char *start, const char *end)
{
	return (struct mvcc_request_op){
		.kind = MVCC_OP_RANGE, .range = true, .start = str(start), .end = str(end)
	};
}

static struct mvcc_request_op op_nested(const struct mvcc_request *request)
{
	return (struct mvcc_request_op){ .kind = MVCC_OP_REQUEST, .request = request };
}

static struct mvcc_request_op with_prev(struct mvcc_request_op op)
{
	op.prev = true;
	return op;
}

static struct mvcc_request doing(const struct mvcc_request_op *ops, size_t n)
{
	return (struct mvcc_request){ .then_ops = ops, .nthen = n };
}

/* Executes; asserts success. */
static struct mvcc_response execute(struct mvcc *db, const struct mvcc_request *request)
{
	struct mvcc_response response = { 0 };

	CU_ASSERT_EQUAL(mvcc_execute(db, request, NULL, &response), 0);
	return response;
}

/* Asserts that the request is refused, and leaves nothing. */
static void assert_refused(struct fixture *fx, const struct mvcc_request *request, int expected)
{
	struct mvcc_response response = { 0 };
	mvcc_rev_t before = mvcc_current(fx->db);
	int err = mvcc_execute(fx->db, request, NULL, &response);

	if (err != expected)
		fprintf(stderr, "got %d, not %d\n", err, expected);
	CU_ASSERT_EQUAL(err, expected);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), before);
	CU_ASSERT_PTR_NULL(response.results);
}

/* Rows as "key=value@create.mod.version ...". */
static void assert_rows(const struct mvcc_rows *rows, const char *expected)
{
	char got[1024] = "";
	size_t len = 0;

	for (size_t i = 0; i < rows->n && len < sizeof(got) - 128; i++) {
		const struct mvcc_item *item = &rows->rows[i].item;

		len += (size_t)snprintf(got + len, sizeof(got) - len, "%s%.*s=%.*s@%llu.%llu.%llu",
					i ? " " : "", (int)rows->rows[i].key.len,
					(const char *)rows->rows[i].key.data, (int)item->value.len,
					item->value.data ? (const char *)item->value.data : "",
					(unsigned long long)item->create_rev,
					(unsigned long long)item->mod_rev, (unsigned long long)item->version);
	}
	if (strcmp(got, expected) != 0)
		fprintf(stderr, "got \"%s\", not \"%s\"\n", got, expected);
	CU_ASSERT_STRING_EQUAL(got, expected);
}

static bool compare_holds(struct mvcc *db, struct mvcc_compare compare)
{
	struct mvcc_request request = { .compares = &compare, .ncompares = 1 };
	struct mvcc_response response = execute(db, &request);
	bool held = response.succeeded;

	CU_ASSERT_EQUAL(response.rev, mvcc_current(db));
	mvcc_response_release(&response);
	return held;
}

/* ---- compares ------------------------------------------------------------------------------ */

/* Whether EQUAL, NOT_EQUAL, LESS and GREATER hold, as four characters, "." for no. */
static void assert_relations(struct mvcc *db, struct mvcc_compare compare, const char *expected)
{
	char got[5] = "....";

	for (int r = MVCC_EQUAL; r <= MVCC_GREATER; r++) {
		compare.relation = (enum mvcc_relation)r;
		if (compare_holds(db, compare))
			got[r] = "=!<>"[r];
	}
	if (strcmp(got, expected) != 0)
		fprintf(stderr, "target %d number %llu: got %s, not %s\n", (int)compare.target,
			(unsigned long long)compare.number, got, expected);
	CU_ASSERT_STRING_EQUAL(got, expected);
}

static void test_every_target_has_every_relation(void)
{
	/* k: created at 2, modified at 4, version 3, no lease, value "mm" */
	static const struct {
		enum mvcc_target target;
		uint64_t is;
	} numbers[] = { { MVCC_CREATE, 2 }, { MVCC_MOD, 4 }, { MVCC_VERSION, 3 } };
	struct fixture *fx = fixture_open();
	struct mvcc_compare c = { .key = str("k") };

	put(fx->db, "k", "x");
	put(fx->db, "k", "y");
	put(fx->db, "k", "mm");
	for (size_t i = 0; i < COUNT(numbers); i++) {
		c.target = numbers[i].target;
		c.number = numbers[i].is;
		assert_relations(fx->db, c, "=...");
		c.number = numbers[i].is + 1;
		assert_relations(fx->db, c, ".!<.");
		c.number = numbers[i].is - 1;
		assert_relations(fx->db, c, ".!.>");
		c.number = UINT64_MAX;
		assert_relations(fx->db, c, ".!<.");
	}
	c.target = MVCC_LEASE;
	c.number = 0;
	assert_relations(fx->db, c, "=...");
	c.number = 1;
	assert_relations(fx->db, c, ".!<.");
	c.target = MVCC_VALUE;
	c.value = str("mm");
	assert_relations(fx->db, c, "=...");
	c.value = str("mmm");
	assert_relations(fx->db, c, ".!<.");
	c.value = str("m");
	assert_relations(fx->db, c, ".!.>");
	c.value = str("");
	assert_relations(fx->db, c, ".!.>");
	c.value = slice_of("\xff", 1); /* bytes are without sign */
	assert_relations(fx->db, c, ".!<.");
	fixture_close(fx);
}

static void test_an_absent_key_has_zeros_and_no_value(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_compare key = { .key = str("absent") };
	struct mvcc_compare range = { .key = str("a"), .range = true, .end = str("b") };

	put(fx->db, "absent", "once");
	del(fx->db, "absent");
	for (int t = MVCC_VALUE; t <= MVCC_LEASE; t++) {
		key.target = range.target = (enum mvcc_target)t;
		key.number = range.number = 0;
		assert_relations(fx->db, key, t == MVCC_VALUE ? "...." : "=...");
		assert_relations(fx->db, range, t == MVCC_VALUE ? "...." : "=...");
		key.number = range.number = 7;
		assert_relations(fx->db, key, t == MVCC_VALUE ? "...." : ".!<.");
		assert_relations(fx->db, range, t == MVCC_VALUE ? "...." : ".!<.");
	}
	fixture_close(fx);
}

static void test_a_range_compares_as_all_its_keys_do(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_compare c = { .range = true, .key = str("a"), .end = str("d") };

	put(fx->db, "a", "1"); /* 2 */
	put(fx->db, "b", "1"); /* 3 */
	put(fx->db, "c", "2"); /* 4 */
	put(fx->db, "d", "9"); /* 5: outside */
	c.target = MVCC_MOD;
	c.number = 5;
	assert_relations(fx->db, c, ".!<.");
	c.number = 3;
	assert_relations(fx->db, c, "....");
	c.number = 1;
	assert_relations(fx->db, c, ".!.>");
	c.target = MVCC_VERSION;
	assert_relations(fx->db, c, "=...");
	c.target = MVCC_VALUE;
	c.value = str("1");
	assert_relations(fx->db, c, "....");
	c.value = str("3");
	assert_relations(fx->db, c, ".!<.");
	c.end = str("c");
	c.value = str("1");
	assert_relations(fx->db, c, "=...");
	c.end = str(""); /* to the last key */
	c.key = str("d");
	c.value = str("9");
	assert_relations(fx->db, c, "=...");
	fixture_close(fx);
}

static void test_all_compares_must_hold_or_the_other_branch_is_done(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_compare c[] = {
		{ .target = MVCC_VERSION, .relation = MVCC_EQUAL, .key = str("k"), .number = 1 },
		{ .target = MVCC_VALUE, .relation = MVCC_EQUAL, .key = str("k"), .value = str("one") },
	};
	struct mvcc_request_op yes = op_put("branch", "then"), no = op_put("branch", "else");
	struct mvcc_request request = { c, 2, &yes, 1, &no, 1 };
	struct mvcc_response response;

	put(fx->db, "k", "one");
	response = execute(fx->db, &request);
	CU_ASSERT_TRUE(response.succeeded);
	CU_ASSERT_EQUAL(response.rev, 3);
	mvcc_response_release(&response);
	assert_value_at(fx->db, 0, "branch", "then");
	put(fx->db, "k", "two");
	response = execute(fx->db, &request);
	CU_ASSERT_FALSE(response.succeeded);
	mvcc_response_release(&response);
	assert_value_at(fx->db, 0, "branch", "else");
	fixture_close(fx);
}

/* ---- operations ---------------------------------------------------------------------------- */

static void test_operations_see_those_before_them(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_request_op ops[] = { op_put("a", "1"),       op_put("b", "2"), op_range("", ""),
					 op_put("a", "1 again"), op_get("a"),      op_del("b"),
					 op_range("", ""),       op_put("b", "3"), op_get("b"),
					 op_get("absent"),       op_get("old") };
	struct mvcc_request request = doing(ops, COUNT(ops));
	struct mvcc_response response;

	put(fx->db, "old", "o");
	put(fx->db, "b", "before");
	response = execute(fx->db, &request);
	CU_ASSERT_EQUAL(response.rev, 4);
	CU_ASSERT_EQUAL_FATAL(response.nresults, COUNT(ops));
	for (size_t i = 0; i < COUNT(ops); i++)
		CU_ASSERT_EQUAL(response.results[i].kind, ops[i].kind);
	assert_rows(&response.results[2].rows, "a=1@4.4.1 b=2@3.4.2 old=o@2.2.1");
	assert_rows(&response.results[4].rows, "a=1 again@4.4.1");
	CU_ASSERT_EQUAL(response.results[5].deleted, 1);
	assert_rows(&response.results[6].rows, "a=1 again@4.4.1 old=o@2.2.1");
	assert_rows(&response.results[8].rows, "b=3@4.4.1"); /* deleted and put again: a new generation */
	assert_rows(&response.results[9].rows, "");
	assert_rows(&response.results[10].rows, "old=o@2.2.1");
	mvcc_response_release(&response);
	assert_record_at(fx->db, 4, "a", "1 again", 4, 4, 1);
	assert_record_at(fx->db, 4, "b", "3", 4, 4, 1);
	fixture_close(fx);
}

static void test_what_was_there_is_given_when_asked_for(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_request_op ops[] = {
		with_prev(op_put("k", "two")), with_prev(op_put("k", "three")),
		with_prev(op_put("new", "n")), with_prev(op_del("k")),
		with_prev(op_del("k")),        with_prev(op_del_range("a", "z")),
		op_del_range("a", "z"),
	};
	struct mvcc_request request = doing(ops, COUNT(ops));
	struct mvcc_response response;

	put(fx->db, "k", "one");
	put(fx->db, "m", "m");
	response = execute(fx->db, &request);
	CU_ASSERT_EQUAL(response.rev, 4);
	assert_rows(&response.results[0].rows, "k=one@2.2.1");
	assert_rows(&response.results[1].rows, "k=two@2.4.2");
	assert_rows(&response.results[2].rows, "");
	assert_rows(&response.results[3].rows, "k=three@2.4.2");
	CU_ASSERT_EQUAL(response.results[3].deleted, 1);
	assert_rows(&response.results[4].rows, "");
	CU_ASSERT_EQUAL(response.results[4].deleted, 0);
	assert_rows(&response.results[5].rows, "m=m@3.3.1 new=n@4.4.1");
	CU_ASSERT_EQUAL(response.results[5].deleted, 2);
	CU_ASSERT_EQUAL(response.results[6].deleted, 0);
	assert_rows(&response.results[6].rows, "");
	mvcc_response_release(&response);
	assert_range_at(fx->db, 0, "", "", 0, "");
	fixture_close(fx);
}

static void test_options_of_a_range_hold_for_one_key_and_many(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_request_op ops[] = { op_range("", ""), op_get("a"), op_get("a"), op_get("a") };
	struct mvcc_request request = doing(ops, COUNT(ops));
	struct mvcc_response response;

	put(fx->db, "a", "1");
	put(fx->db, "b", "2");
	ops[0].opt = (struct mvcc_range_opt){ .limit = 1, .flags = MVCC_RANGE_COUNT | MVCC_RANGE_DESCENDING };
	ops[1].opt = (struct mvcc_range_opt){ .flags = MVCC_RANGE_COUNT_ONLY };
	ops[2].opt = (struct mvcc_range_opt){ .flags = MVCC_RANGE_KEYS };
	ops[3].opt = (struct mvcc_range_opt){ .min_mod = 3 };
	response = execute(fx->db, &request);
	assert_rows(&response.results[0].rows, "b=2@3.3.1");
	CU_ASSERT_TRUE(response.results[0].rows.more);
	CU_ASSERT_EQUAL(response.results[0].rows.count, 2);
	assert_rows(&response.results[1].rows, "");
	CU_ASSERT_EQUAL(response.results[1].rows.count, 1);
	assert_rows(&response.results[2].rows, "a=@2.2.1");
	assert_rows(&response.results[3].rows, "");
	mvcc_response_release(&response);
	fixture_close(fx);
}

static void test_what_changes_nothing_takes_no_revision(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_request_op reads[] = { op_range("", ""), op_get("k") };
	struct mvcc_request_op dels[] = { op_del("absent"), op_del_range("x", "") };
	struct mvcc_request requests[] = { doing(reads, 2), doing(dels, 2), doing(NULL, 0) };

	put(fx->db, "k", "v");
	for (size_t i = 0; i < COUNT(requests); i++) {
		struct mvcc_response response = execute(fx->db, &requests[i]);

		CU_ASSERT_EQUAL(response.rev, 2);
		CU_ASSERT_TRUE(response.succeeded);
		CU_ASSERT_EQUAL(response.nresults, requests[i].nthen);
		CU_ASSERT_EQUAL(mvcc_current(fx->db), 2);
		mvcc_response_release(&response);
	}
	fixture_close(fx);
}

static void test_values_can_be_kept(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_request_op op = op_put("k", "");
	struct mvcc_request request = doing(&op, 1);
	struct mvcc_response response;

	op.put.flags = MVCC_PUT_KEEP_VALUE;
	assert_refused(fx, &request, -ENOENT);
	put(fx->db, "k", "kept");
	response = execute(fx->db, &request);
	CU_ASSERT_EQUAL(response.rev, 3);
	mvcc_response_release(&response);
	assert_record_at(fx->db, 3, "k", "kept", 2, 3, 2);
	fixture_close(fx);
}

static void test_the_story_goes_with_the_revision(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_story story = { .pid = 7, .op = "execute" };
	struct mvcc_request_op ops[] = { op_put("a", "1"), op_put("b", "2"), op_del("b") };
	struct mvcc_request request = doing(ops, COUNT(ops));
	const struct mvcc_entry *entry;
	struct mvcc_response response;
	struct mvcc_log *log = NULL;

	CU_ASSERT_EQUAL(mvcc_execute(fx->db, &request, &story, &response), 0);
	CU_ASSERT_EQUAL(response.rev, 2);
	mvcc_response_release(&response);
	CU_ASSERT_EQUAL_FATAL(mvcc_log_open(fx->db, 2, 2, &log), 0);
	CU_ASSERT_EQUAL_FATAL(mvcc_log_next(log, &entry), 1);
	CU_ASSERT_EQUAL(entry->story.pid, 7);
	CU_ASSERT_STRING_EQUAL(entry->story.op, "execute");
	mvcc_log_close(log);
	assert_changes(fx->db, 2, "+a<0");
	fixture_close(fx);
}

/* ---- nesting ------------------------------------------------------------------------------- */

static void test_nested_compares_look_at_the_state_before(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_compare is_new = {
		.target = MVCC_CREATE, .relation = MVCC_EQUAL, .key = str("k"), .number = 0
	};
	struct mvcc_request_op deep_then = op_put("deep", "then"), deep_else = op_put("deep", "else");
	struct mvcc_request inner = { &is_new, 1, &deep_then, 1, &deep_else, 1 };
	struct mvcc_request_op ops[] = { op_put("k", "made by the outer one"), op_nested(&inner),
					 op_get("deep") };
	struct mvcc_request outer = { &is_new, 1, ops, 3, ops + 1, 1 };
	struct mvcc_response response = execute(fx->db, &outer);

	CU_ASSERT_EQUAL(response.rev, 2);
	CU_ASSERT_TRUE(response.succeeded);
	CU_ASSERT_PTR_NOT_NULL_FATAL(response.results[1].response);
	CU_ASSERT_TRUE(response.results[1].response->succeeded); /* k was not there before the request */
	CU_ASSERT_EQUAL(response.results[1].response->rev, 2);
	assert_rows(&response.results[2].rows, "deep=then@2.2.1");
	mvcc_response_release(&response);
	response = execute(fx->db, &outer);
	CU_ASSERT_FALSE(response.succeeded);
	CU_ASSERT_EQUAL_FATAL(response.nresults, 1);
	CU_ASSERT_FALSE(response.results[0].response->succeeded);
	mvcc_response_release(&response);
	assert_value_at(fx->db, 0, "deep", "else");
	fixture_close(fx);
}

/* A chain of `depth` nested requests, the innermost of which puts. */
static void nest(struct mvcc_request *requests, struct mvcc_request_op *ops, unsigned depth)
{
	ops[depth] = op_put("deep", "down");
	requests[depth] = doing(&ops[depth], 1);
	while (depth-- > 0) {
		ops[depth] = op_nested(&requests[depth + 1]);
		requests[depth] = doing(&ops[depth], 1);
	}
}

static void test_requests_nest_to_a_depth(void)
{
	struct mvcc_request requests[MVCC_REQUEST_DEPTH_MAX + 2];
	struct mvcc_request_op ops[MVCC_REQUEST_DEPTH_MAX + 2];
	struct fixture *fx = fixture_open();
	struct mvcc_response response;
	const struct mvcc_response *at = &response;
	unsigned depth = 0;

	nest(requests, ops, MVCC_REQUEST_DEPTH_MAX);
	response = execute(fx->db, &requests[0]);
	for (; at->results[0].response; at = at->results[0].response)
		depth++;
	CU_ASSERT_EQUAL(depth, MVCC_REQUEST_DEPTH_MAX);
	CU_ASSERT_EQUAL(at->rev, 2);
	mvcc_response_release(&response);
	assert_value_at(fx->db, 0, "deep", "down");
	nest(requests, ops, MVCC_REQUEST_DEPTH_MAX + 1);
	assert_refused(fx, &requests[0], -EINVAL);
	fixture_close(fx);
}

/* ---- what is refused leaves nothing -------------------------------------------------------- */

static void test_an_illegal_operation_anywhere_leaves_nothing(void)
{
	static char big[MVCC_VALUE_MAX + 1], long_key[MVCC_KEY_MAX + 1];
	struct fixture *fx = fixture_open();
	struct slice too_long = slice_of(long_key, sizeof(long_key));
	struct mvcc_request_op bad[12];
	size_t n = 0;

	bad[n++] = op_put("", "v");
	bad[n] = op_put("k", "");
	bad[n++].put.value = slice_of(big, sizeof(big));
	bad[n] = op_put("k", "v");
	bad[n++].put.key = too_long;
	bad[n] = op_put("k", "v");
	bad[n++].put.flags = 4;
	bad[n] = op_put("k", "v");
	bad[n++].put.flags = MVCC_PUT_KEEP_VALUE;
	bad[n] = op_put("k", "v");
	bad[n].put.lease = 1;
	bad[n++].put.flags = MVCC_PUT_KEEP_LEASE;
	bad[n++] = op_del("");
	bad[n++] = op_get("");
	bad[n] = op_range("", "");
	bad[n++].opt.flags = 64;
	bad[n] = op_get("k");
	bad[n++].opt.sort = (enum mvcc_sort)17;
	bad[n++] = op_nested(NULL);
	bad[n] = op_get("k");
	bad[n++].kind = (enum mvcc_request_kind)9;
	CU_ASSERT_EQUAL(n, COUNT(bad));
	for (size_t i = 0; i < n; i++) {
		struct mvcc_request_op ops[] = { op_put("good", "put"), bad[i] };
		struct mvcc_request first = doing(ops, 2), wrapped, other;
		struct mvcc_request_op nested = op_nested(&first);

		assert_refused(fx, &first, -EINVAL);
		wrapped = doing(&nested, 1);
		assert_refused(fx, &wrapped, -EINVAL);
		other = (struct mvcc_request){ .then_ops = ops, .nthen = 1, .else_ops = ops + 1, .nelse = 1 };
		assert_refused(fx, &other, -EINVAL); /* also where it would not be done */
	}
	assert_absent_at(fx->db, 0, "good");
	fixture_close(fx);
}

static void test_an_illegal_compare_leaves_nothing(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_request_op op = op_put("k", "v");
	struct mvcc_compare bad[] = {
		{ .target = (enum mvcc_target)9, .key = str("k") },
		{ .relation = (enum mvcc_relation)9, .key = str("k") },
		{ .key = str("") },
	};

	for (size_t i = 0; i < COUNT(bad); i++) {
		struct mvcc_request request = { &bad[i], 1, &op, 1, &op, 1 };

		assert_refused(fx, &request, -EINVAL);
	}
	fixture_close(fx);
}

static void test_an_operation_that_fails_later_undoes_those_before(void)
{
	struct fixture *fx = fixture_open_small_ring();
	static char value[60000];
	struct mvcc_request_op ops[20];
	struct mvcc_request request = doing(ops, COUNT(ops));

	put(fx->db, "there", "v");
	for (size_t i = 0; i + 1 < COUNT(ops); i++) { /* so much that it is spilled on the way */
		ops[i] = op_put(i % 2 ? "there" : "k", "");
		ops[i].put.value = slice_of(value, sizeof(value));
	}
	ops[COUNT(ops) - 1] = op_put("absent", "");
	ops[COUNT(ops) - 1].put.flags = MVCC_PUT_KEEP_LEASE;
	assert_refused(fx, &request, -ENOENT);
	ops[COUNT(ops) - 1] = op_put("leased", "v");
	ops[COUNT(ops) - 1].put.lease = 4711;
	assert_refused(fx, &request, MVCC_ENOLEASE);
	assert_range_at(fx->db, 0, "", "", 0, "there=v");
	fixture_drain(fx);
	CU_ASSERT_EQUAL(fixture_rows(fx, ENGINE_USE_STAGE), 0);
	fixture_close(fx);
}

/* ---- many and large ------------------------------------------------------------------------ */

/* 3000 puts, twice of each key, the second one counts. */
static void test_requests_have_any_number_of_operations(void)
{
	enum { N = 3000 };
	struct fixture *fx = fixture_open();
	struct mvcc_request_op *ops = calloc(N + 1, sizeof(*ops));
	char(*keys)[12] = calloc(N, sizeof(*keys));
	struct mvcc_request request = doing(ops, N + 1);
	struct mvcc_response response;

	CU_ASSERT_FATAL(ops && keys);
	for (unsigned i = 0; i < N; i++) {
		snprintf(keys[i], sizeof(keys[i]), "k%04u", i % (N / 2));
		ops[i] = op_put(keys[i], i < N / 2 ? "first" : "second");
	}
	ops[N] = op_range("", "");
	response = execute(fx->db, &request);
	CU_ASSERT_EQUAL(response.rev, 2);
	CU_ASSERT_EQUAL_FATAL(response.nresults, N + 1);
	CU_ASSERT_EQUAL(response.results[N].rows.n, N / 2);
	mvcc_response_release(&response);
	assert_record_at(fx->db, 2, "k0000", "second", 2, 2, 1);
	assert_record_at(fx->db, 2, "k1499", "second", 2, 2, 1);
	free(keys);
	free(ops);
	fixture_close(fx);
}

/* 8 MiB in a ring of 256 KiB. Afterwards a key deleted and put again, far apart, is a new generation. */
static void test_requests_have_any_size(void)
{
	enum { N = 200 };
	struct fixture *fx = fixture_open_small_ring();
	static char value[40000];
	static struct mvcc_request_op ops[N + 3];
	static char keys[N][8];
	struct mvcc_request request = doing(ops, COUNT(ops));
	struct mvcc_response response;

	put(fx->db, "a", "old");
	memset(value, 'v', sizeof(value));
	ops[0] = op_del("a");
	for (unsigned i = 0; i < N; i++) {
		snprintf(keys[i], sizeof(keys[i]), "k%03u", i);
		ops[1 + i] = op_put(keys[i], "");
		ops[1 + i].put.value = slice_of(value, sizeof(value));
	}
	ops[N + 1] = op_put("a", "new");
	ops[N + 2] = op_range("a", "b");
	response = execute(fx->db, &request);
	CU_ASSERT_EQUAL(response.rev, 3);
	assert_rows(&response.results[N + 2].rows, "a=new@3.3.1");
	mvcc_response_release(&response);
	assert_record_at(fx->db, 3, "a", "new", 3, 3, 1);
	fixture_drain(fx);
	assert_record_at(fx->db, 3, "a", "new", 3, 3, 1);
	CU_ASSERT_EQUAL(fixture_rows(fx, ENGINE_USE_STAGE), 0);
	fixture_close(fx);
}

/* ---- many at once -------------------------------------------------------------------------- */

enum { THREADS = 8, ROUNDS = 60 };

struct racer {
	struct mvcc *db;
	_Atomic unsigned errors;
};

static uint64_t number_of(const struct mvcc_rows *rows)
{
	char text[24] = "";

	if (rows->n == 1 && rows->rows[0].item.value.len < sizeof(text))
		memcpy(text, rows->rows[0].item.value.data, rows->rows[0].item.value.len);
	return strtoull(text, NULL, 10);
}

/* One more by compare and swap: reads, and writes if the key is still of that revision. */
static int raise_counter(struct mvcc *db)
{
	for (;;) {
		struct mvcc_request_op get = op_get("counter"), set;
		struct mvcc_request look = doing(&get, 1);
		struct mvcc_compare same = { .target = MVCC_MOD, .key = str("counter") };
		struct mvcc_request swap = { &same, 1, &set, 1, NULL, 0 };
		struct mvcc_response response;
		char text[24];
		bool done;
		int err = mvcc_execute(db, &look, NULL, &response);

		if (err)
			return err;
		snprintf(text, sizeof(text), "%llu",
			 (unsigned long long)number_of(&response.results[0].rows) + 1);
		if (response.results[0].rows.n)
			same.number = response.results[0].rows.rows[0].item.mod_rev;
		mvcc_response_release(&response);
		set = op_put("counter", text);
		err = mvcc_execute(db, &swap, NULL, &response);
		if (err)
			return err;
		done = response.succeeded;
		mvcc_response_release(&response);
		if (done)
			return 0;
	}
}

static void *race(void *arg)
{
	struct racer *racer = arg;

	for (int i = 0; i < ROUNDS; i++)
		if (raise_counter(racer->db))
			atomic_fetch_add(&racer->errors, 1);
	return NULL;
}

static void run_threads(void *(*fn)(void *arg), void *arg)
{
	pthread_t threads[THREADS];
	int started = 0;

	while (started < THREADS && pthread_create(&threads[started], NULL, fn, arg) == 0)
		started++;
	CU_ASSERT_EQUAL(started, THREADS);
	for (int i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
}

static void test_compare_and_swap_loses_no_update(void)
{
	struct fixture *fx = fixture_open();
	struct racer racer = { .db = fx->db };
	char text[24];

	run_threads(race, &racer);
	CU_ASSERT_EQUAL(atomic_load(&racer.errors), 0);
	snprintf(text, sizeof(text), "%d", THREADS * ROUNDS);
	assert_value_at(fx->db, 0, "counter", text);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 1 + THREADS * ROUNDS);
	fixture_close(fx);
}

/* Moves the token to the other key, in one request, wherever it is; and tells if that is not exactly one. */
static void *move_token(void *arg)
{
	struct racer *racer = arg;

	for (int i = 0; i < ROUNDS; i++) {
		struct mvcc_compare here = {
			.target = MVCC_VERSION, .relation = MVCC_GREATER, .key = str("left"), .number = 0
		};
		struct mvcc_request_op right[] = { op_range("", ""), op_del("left"),
						   op_put("right", "token") };
		struct mvcc_request_op left[] = { op_range("", ""), op_del("right"),
						  op_put("left", "token") };
		struct mvcc_request request = { &here, 1, right, 3, left, 3 };
		struct mvcc_response response;

		if (mvcc_execute(racer->db, &request, NULL, &response)) {
			atomic_fetch_add(&racer->errors, 1);
			continue;
		}
		if (response.results[0].rows.n != 1 || response.results[1].deleted != 1)
			atomic_fetch_add(&racer->errors, 1);
		mvcc_response_release(&response);
	}
	return NULL;
}

static void test_conflicting_requests_each_see_a_state_that_was(void)
{
	struct fixture *fx = fixture_open();
	struct racer racer = { .db = fx->db };

	put(fx->db, "left", "token");
	run_threads(move_token, &racer);
	CU_ASSERT_EQUAL(atomic_load(&racer.errors), 0);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 2 + THREADS * ROUNDS);
	assert_value_at(fx->db, 0, "left", THREADS * ROUNDS % 2 ? NULL : "token");
	fixture_close(fx);
}

/* -------------------------------------------------------------------------------------------- */

static void on_memory(void)
{
	fixture_use(NULL);
}

static void on_rocks(void)
{
	static struct rocks_options options = { .cache_bytes = (size_t)8 << 20 };
	static struct engine_provider provider;

	provider = rocks_provider(&options);
	fixture_use(&provider);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_every_target_has_every_relation),
	UNIT_TEST(test_an_absent_key_has_zeros_and_no_value),
	UNIT_TEST(test_a_range_compares_as_all_its_keys_do),
	UNIT_TEST(test_all_compares_must_hold_or_the_other_branch_is_done),
	UNIT_TEST(test_operations_see_those_before_them),
	UNIT_TEST(test_what_was_there_is_given_when_asked_for),
	UNIT_TEST(test_options_of_a_range_hold_for_one_key_and_many),
	UNIT_TEST(test_what_changes_nothing_takes_no_revision),
	UNIT_TEST(test_values_can_be_kept),
	UNIT_TEST(test_the_story_goes_with_the_revision),
	UNIT_TEST(test_nested_compares_look_at_the_state_before),
	UNIT_TEST(test_requests_nest_to_a_depth),
	UNIT_TEST(test_an_illegal_operation_anywhere_leaves_nothing),
	UNIT_TEST(test_an_illegal_compare_leaves_nothing),
	UNIT_TEST(test_an_operation_that_fails_later_undoes_those_before),
	UNIT_TEST(test_requests_have_any_number_of_operations),
	UNIT_TEST(test_requests_have_any_size),
	UNIT_TEST(test_compare_and_swap_loses_no_update),
	UNIT_TEST(test_conflicting_requests_each_see_a_state_that_was),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = {
		UNIT_SUITE("requests on memory", on_memory, NULL, tests),
		UNIT_SUITE("requests on rocksdb", on_rocks, NULL, tests),
		CU_SUITE_INFO_NULL,
	};

	return unit_main(argc, argv, suites);
}
