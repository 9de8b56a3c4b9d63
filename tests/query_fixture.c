#include "tests/query_fixture.h"

#include "fs/json_bytes.h"
#include "tests/unit.h"

#include <inttypes.h>

struct query_fixture *qf;

static void on_changed(void *arg, mvcc_rev_t rev)
{
	((struct query_fixture *)arg)->changed = rev;
}

static void open_tree(void)
{
	const struct ns_options opt = { .commit_ms = 60000 };

	CU_ASSERT_EQUAL_FATAL(ns_open(qf->fx->db, &opt, &qf->ns), 0);
	qf->env.db = qf->fx->db;
	qf->env.ns = qf->ns;
}

void query_open_at(int64_t (*clock)(void *arg))
{
	qf = calloc(1, sizeof(*qf));
	CU_ASSERT_PTR_NOT_NULL_FATAL(qf);
	qf->fx = fixture_new();
	qf->fx->opt.init = ns_init;
	qf->fx->opt.clock = clock;
	qf->fx->opt.manual_upkeep = clock != NULL;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(qf->fx), 0);
	qf->env = (struct query_env){
		.db_path = qf->fx->dir,
		.started_ns = 1000000000,
		.pid = 7,
		.asker = 42,
		.comm = "test",
		.owner = 1000,
		.changed = on_changed,
		.changed_arg = qf,
	};
	open_tree();
}

void query_open(void)
{
	query_open_at(NULL);
}

void query_reopen(void)
{
	CU_ASSERT_EQUAL(ns_close(qf->ns), 0);
	fixture_reopen(qf->fx);
	open_tree();
}

void query_close(void)
{
	CU_ASSERT_EQUAL(ns_close(qf->ns), 0);
	fixture_close(qf->fx);
	free(qf);
	qf = NULL;
}

struct json_object *ask_as(uid_t uid, const char *request)
{
	struct query_env env = qf->env;
	struct json_object *o = NULL;
	struct buf reply = { 0 };

	env.uid = uid;
	CU_ASSERT_EQUAL_FATAL(query_answer(&env, slice_str(request), &reply), 0);
	CU_ASSERT_PTR_EQUAL(memchr(reply.data, '\n', reply.len), reply.data + reply.len - 1);
	CU_ASSERT_EQUAL(json_parse(slice_buf(&reply), &o), 0);
	buf_release(&reply);
	return o;
}

struct json_object *ask(const char *request)
{
	return ask_as(0, request);
}

void ask_ok(const char *request)
{
	struct json_object *o = ask(request);

	CU_ASSERT_TRUE(is_ok(o));
	if (!is_ok(o))
		printf("\n    %s: %s\n", request, text(o, "error"));
	json_object_put(o);
}

uint64_t number(struct json_object *o, const char *key)
{
	struct json_object *member;

	CU_ASSERT_TRUE(json_object_object_get_ex(o, key, &member));
	return json_object_get_uint64(member);
}

const char *text(struct json_object *o, const char *key)
{
	struct json_object *member;

	return json_object_object_get_ex(o, key, &member) ? json_object_get_string(member) : "(none)";
}

bool flag(struct json_object *o, const char *key)
{
	struct json_object *member;

	return json_object_object_get_ex(o, key, &member) && json_object_get_boolean(member);
}

bool is_ok(struct json_object *o)
{
	return flag(o, "ok");
}

void assert_refused(uid_t uid, const char *request, const char *name, int status)
{
	struct json_object *o = ask_as(uid, request);

	CU_ASSERT_FALSE(is_ok(o));
	CU_ASSERT_STRING_EQUAL(text(o, "errno"), name);
	CU_ASSERT_EQUAL(number(o, "exit"), (uint64_t)status);
	CU_ASSERT(strlen(text(o, "error")) > 8);
	if (strcmp(text(o, "errno"), name) != 0)
		printf("\n    %s: %s\n", request, text(o, "error"));
	json_object_put(o);
}

static size_t put_member(struct json_object *o, const char *name, char *out, size_t len)
{
	struct json_object *member;

	if (json_object_object_get_ex(o, name, &member) && json_object_is_type(member, json_type_array))
		return (size_t)snprintf(out, len, "%zu ", json_object_array_length(member));
	return (size_t)snprintf(out, len, "%s ", text(o, name));
}

void assert_reply(const char *request, const char *names, const char *expected)
{
	struct json_object *o = ask(request);
	char copy[256], got[1024] = "", *save, *name;
	size_t len = 0;

	snprintf(copy, sizeof(copy), "%s", names);
	for (name = strtok_r(copy, " ", &save); name && len < sizeof(got); name = strtok_r(NULL, " ", &save))
		len += put_member(o, name, got + len, sizeof(got) - len);
	if (len && len < sizeof(got))
		got[len - 1] = '\0';
	CU_ASSERT_STRING_EQUAL(got, expected);
	if (strcmp(got, expected) != 0)
		printf("\n    %s: got \"%s\", not \"%s\"; %s\n", request, got, expected, text(o, "error"));
	json_object_put(o);
}

/* The directory that `path` lies in, and its last name. */
static uint64_t place_of(const char *path, struct slice *name)
{
	const char *last = strrchr(path, '/');
	struct mvcc_view *view;
	uint64_t dir = 0;

	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(qf->fx->db, MVCC_REV_LATEST, &view), 0);
	CU_ASSERT_EQUAL(ns_at_walk(view, slice_of(path, (size_t)(last - path)), &dir), 0);
	mvcc_view_close(view);
	*name = slice_str(last + 1);
	return dir;
}

static const struct ns_who maker = { .uid = 1000, .gid = 100, .pid = 42, .comm = "maker" };

uint64_t make_file(const char *path, const char *content)
{
	struct ns_file *f = NULL;
	struct ns_attr attr = { 0 };
	struct slice name;
	uint64_t dir = place_of(path, &name);

	CU_ASSERT_EQUAL_FATAL(ns_create(qf->ns, &maker, dir, name, 0644, &f, &attr), 0);
	CU_ASSERT_EQUAL(ns_file_write(f, &maker, 0, content, strlen(content)), 0);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	return attr.ino;
}

uint64_t make_dir(const char *path)
{
	struct ns_attr attr = { 0 };
	struct slice name;
	uint64_t dir = place_of(path, &name);

	CU_ASSERT_EQUAL(ns_mkdir(qf->ns, &maker, dir, name, 0755, &attr), 0);
	return attr.ino;
}
