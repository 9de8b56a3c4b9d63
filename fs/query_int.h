/*
 * What the verbs of @ctl share: query.c finds the verb, and each query_TOPIC.c answers some. An answer
 * appends one JSON object to `reply`, without its end of line, and returns 0 or -ENOMEM: what is wrong
 * with a request is an answer, too, see refuse().
 */
#ifndef FS_QUERY_INT_H
#define FS_QUERY_INT_H

#include "fs/json_bytes.h"
#include "fs/ns.h"
#include "fs/query.h"
#include "fs/text.h"

#include <json-c/json.h>
#include <stdatomic.h>
#include <sys/queue.h>

/* The verbs, one after the other as in the table of query.c. */
int answer_status(const struct query_env *env, struct json_object *req, struct buf *reply);
int answer_log(const struct query_env *env, struct json_object *req, struct buf *reply);
int answer_tag(const struct query_env *env, struct json_object *req, struct buf *reply);
int answer_untag(const struct query_env *env, struct json_object *req, struct buf *reply);
int answer_retag(const struct query_env *env, struct json_object *req, struct buf *reply);
int answer_tags(const struct query_env *env, struct json_object *req, struct buf *reply);
int answer_compact(const struct query_env *env, struct json_object *req, struct buf *reply);
int answer_retain(const struct query_env *env, struct json_object *req, struct buf *reply);
int answer_progress(const struct query_env *env, struct json_object *req, struct buf *reply);
int answer_check(const struct query_env *env, struct json_object *req, struct buf *reply);
int answer_backup(const struct query_env *env, struct json_object *req, struct buf *reply);
int answer_lease(const struct query_env *env, struct json_object *req, struct buf *reply);
int answer_leases(const struct query_env *env, struct json_object *req, struct buf *reply);
int answer_lease_grant(const struct query_env *env, struct json_object *req, struct buf *reply);
int answer_lease_keepalive(const struct query_env *env, struct json_object *req, struct buf *reply);
int answer_lease_revoke(const struct query_env *env, struct json_object *req, struct buf *reply);
int answer_lease_attach(const struct query_env *env, struct json_object *req, struct buf *reply);
int answer_lease_detach(const struct query_env *env, struct json_object *req, struct buf *reply);
int answer_watch(const struct query_env *env, struct json_object *req, struct buf *reply);
int answer_changes(const struct query_env *env, struct json_object *req, struct buf *reply);
int answer_purge(const struct query_env *env, struct json_object *req, struct buf *reply);
int answer_del(const struct query_env *env, struct json_object *req, struct buf *reply);
int answer_diff(const struct query_env *env, struct json_object *req, struct buf *reply);
int answer_undo(const struct query_env *env, struct json_object *req, struct buf *reply);
int answer_redo(const struct query_env *env, struct json_object *req, struct buf *reply);
int answer_restore(const struct query_env *env, struct json_object *req, struct buf *reply);
int answer_why(const struct query_env *env, struct json_object *req, struct buf *reply);

/* ---- replies --------------------------------------------------------------------------------------- */

/* Gives up on the request: `err`, and a sentence for people. */
int refuse(struct buf *reply, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The same for an `expr` that query_rev() answered with `err`. */
int refuse_rev(const struct query_env *env, struct buf *reply, int err, const char *expr);

/* Appends a text of less than 128 bytes: the braces and numbers between what json-c makes. */
int put_text(struct buf *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

struct figure {
	const char *key;
	uint64_t value;
};
int add_figures(struct json_object *o, const struct figure *figures, size_t n);
#define ADD_FIGURES(o, figures) add_figures(o, figures, sizeof(figures) / sizeof((figures)[0]))

/* ---- requests -------------------------------------------------------------------------------------- */

/* A number as people write it: digits alone, no leading zero, and it fits. */
bool decimal(struct slice s, uint64_t *out);

/* Is member `key` there, and true? */
bool flag_member(struct json_object *req, const char *key);

/* A number from 0 up. -ENOENT when absent, -EINVAL when it is none. */
int number_member(struct json_object *req, const char *key, uint64_t *out);

/* A text; NULL when absent, or no text. Lent by `req`. */
const char *text_member(struct json_object *req, const char *key);

/* The text of member `key` as query_rev() wants it; NULL when absent. Lent by `req`. */
const char *rev_member(struct json_object *req, const char *key);

/*
 * The story of a revision that a verb makes: who asks, and the request's members "session" and
 * "message". Lent by `env`, `req` and `path`.
 */
void query_story(const struct query_env *env, struct json_object *req, const char *op, struct slice path,
		 struct mvcc_story *out);

/* Add members: "rev", "time" and "time_ns"; "session" and "message", so far as there are any. 0 or -ENOMEM. */
int add_when(struct json_object *o, mvcc_rev_t rev, int64_t time_ns);
int add_labels(struct json_object *o, const struct mvcc_story *story);

/* The inode that a path means in the live tree, what is not committed yet included. No link is followed. */
int live_walk(struct ns *ns, struct slice path, struct ns_attr *out);

/* Before the tree is changed from the side: all that is being written becomes revisions. */
int query_settle(const struct query_env *env);

/* After a revision was made from the side, and before the reply: lets the mount tell the kernel. */
void query_changed(const struct query_env *env, mvcc_rev_t rev);

/* ---- long work (query_task.c) ---------------------------------------------------------------------- */

struct query_task {
	LIST_ENTRY(query_task) link;
	uint64_t id;           /* as the request gave it; 0: none */
	const char *what;      /* what is counted, or done: a constant, letters and spaces */
	_Atomic uint64_t done; /* how many so far; 0 where nothing is counted */
};

/* From here on {"verb":"progress"} tells of it, until task_end(). */
void task_begin(struct query_task *task, struct json_object *req, const char *what);
void task_phase(struct query_task *task, const char *what); /* counting begins anew */
void task_end(struct query_task *task);

#endif
