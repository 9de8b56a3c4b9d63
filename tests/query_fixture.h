/*
 * A tree in memory, and the questions of fs/query.h put to it. Helpers fail the running test by themselves.
 * A suite gives query_open and query_close as its set-up and tear-down.
 */
#ifndef TESTS_QUERY_FIXTURE_H
#define TESTS_QUERY_FIXTURE_H

#include "fs/ns.h"
#include "fs/query.h"

#include "tests/store_fixture.h"

#include <json-c/json.h>

/* What is asked. A test may change `env`: as whom, and who is told of changes. */
struct query_fixture {
	struct fixture *fx;
	struct ns *ns;
	struct query_env env; /* asks as root, of a mount that user 1000 owns */
	mvcc_rev_t changed;   /* the last revision that the mount was told of */
};
extern struct query_fixture *qf;

void query_open(void);
void query_close(void);
void query_reopen(void);
void query_open_at(int64_t (*clock)(void *arg)); /* query_open() by another clock, and no upkeep by itself */

/* The reply to `request`; asserts that it is one JSON object on one line. The caller's, by json_object_put(). */
struct json_object *ask(const char *request);
struct json_object *ask_as(uid_t uid, const char *request);
void ask_ok(const char *request); /* asserts that it is, and no more */

/* Members of a reply; "(none)" is no text. */
uint64_t number(struct json_object *o, const char *key);
const char *text(struct json_object *o, const char *key);
bool flag(struct json_object *o, const char *key);
bool is_ok(struct json_object *o);

/* Asserts that `request` is refused with this errno and exit status, and a sentence. */
void assert_refused(uid_t uid, const char *request, const char *name, int status);

/* Asserts that the reply's members of these names, one space after each, are `expected`; an array's are counted. */
void assert_reply(const char *request, const char *names, const char *expected);

/* A file or directory of the tree, "/a/b", made by one revision each. Gives its number. */
uint64_t make_file(const char *path, const char *content);
uint64_t make_dir(const char *path);

#endif
