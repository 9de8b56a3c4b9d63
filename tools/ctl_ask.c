#include "tools/ctl.h"

#include "fs/json_bytes.h"
#include "fs/query.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <unistd.h>

#define CTL_NAME "@ctl"

static int open_ctl(struct ctl *ctl)
{
	char *path;
	int status = 0;

	if (asprintf(&path, "%s/" CTL_NAME, ctl->mountpoint) < 0)
		return ctl_complain_err(-ENOMEM, ctl->mountpoint);
	ctl->ctl_fd = open(path, O_RDWR | O_CLOEXEC);
	if (ctl->ctl_fd < 0 && errno == ENOENT)
		status = ctl_complain(CTL_TROUBLE,
				      "%s: the mount has no %s: it shows a single revision (-o rev=)",
				      ctl->mountpoint, CTL_NAME);
	else if (ctl->ctl_fd < 0 && (errno == EACCES || errno == EPERM))
		status = ctl_complain(CTL_TROUBLE, "%s: only root and the owner of the mount may ask",
				      ctl->mountpoint);
	else if (ctl->ctl_fd < 0)
		status = ctl_complain(CTL_TROUBLE, "%s: %s", path, strerror(errno));
	free(path);
	return status;
}

/* Writes the request in one go, for that is how the daemon knows where it ends, and reads the reply. */
static int ask_daemon(int fd, struct slice text, struct buf *reply)
{
	ssize_t n = write(fd, text.data, text.len);

	if (n < 0)
		return -errno;
	if ((size_t)n != text.len)
		return -EIO;
	if (lseek(fd, 0, SEEK_SET) < 0 && errno != ESPIPE) /* a reply begins at 0 */
		return -errno;
	for (;;) {
		int err = buf_reserve(reply, (size_t)128 << 10);

		if (err)
			return err;
		n = read(fd, reply->data + reply->len, reply->cap - reply->len);
		if (n == 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			reply->len += (size_t)n;
	}
}

static int ask_self(struct ctl *ctl, struct slice text, struct buf *reply)
{
	struct query_env env = {
		.db = ctl->db,
		.ns = ctl->ns,
		.db_path = ctl->db_path,
		.started_ns = ctl->opened_ns,
		.pid = (unsigned)getpid(),
		.uid = getuid(),
		.gid = getgid(),
		.asker = (unsigned)getpid(),
		.comm = "mvccctl",
		.owner = getuid(), /* who can open the database needs no other leave */
	};

	return query_answer(&env, text, reply);
}

/* A reply that is not ok says why, for people and for exit(). */
static int told_error(struct json_object *reply)
{
	struct json_object *text, *exit_status;
	int status = CTL_TROUBLE;

	if (json_object_object_get_ex(reply, "exit", &exit_status))
		status = json_object_get_int(exit_status);
	if (!json_object_object_get_ex(reply, "error", &text))
		return ctl_complain(status, "the daemon refuses without a word");
	return ctl_complain(status, "%s", json_object_get_string(text));
}

int ctl_ask(struct ctl *ctl, struct json_object *req, struct json_object **out)
{
	struct buf text = { 0 }, reply = { 0 };
	struct json_object *o = NULL, *good;
	int err, status = 0;

	if (ctl->mountpoint && ctl->ctl_fd < 0) {
		status = open_ctl(ctl);
		if (status)
			return status;
	}
	err = json_append(&text, req);
	if (!err)
		err = buf_put_u8(&text, '\n');
	if (!err)
		err = ctl->mountpoint ? ask_daemon(ctl->ctl_fd, slice_buf(&text), &reply) :
					ask_self(ctl, slice_buf(&text), &reply);
	if (!err)
		err = json_parse(slice_buf(&reply), &o);
	if (err)
		status = ctl_complain(CTL_TROUBLE, "no answer from %s: %s",
				      ctl->mountpoint ? ctl->mountpoint : ctl->db_path, mvcc_strerror(err));
	else if (!json_object_object_get_ex(o, "ok", &good) || !json_object_get_boolean(good))
		status = told_error(o);
	buf_release(&text);
	buf_release(&reply);
	if (status)
		json_object_put(o);
	else
		*out = o;
	return status;
}

struct json_object *ctl_request(const char *verb)
{
	struct json_object *req = json_object_new_object();

	if (req && !json_add_str(req, "verb", verb))
		return req;
	json_object_put(req);
	ctl_complain_err(-ENOMEM, verb);
	return NULL;
}

int ctl_ask_filled(struct ctl *ctl, struct json_object *req, int err, struct json_object **out)
{
	int status = err ? ctl_complain_err(err, "the request") : ctl_ask(ctl, req, out);

	json_object_put(req);
	return status;
}

int ctl_add_story(const struct ctl *ctl, struct json_object *req)
{
	int err = ctl->session ? json_add_str(req, "session", ctl->session) : 0;

	if (!err && ctl->message)
		err = json_add_str(req, "message", ctl->message);
	return err;
}

uint64_t ctl_number(struct json_object *o, const char *key)
{
	struct json_object *member;

	return json_object_object_get_ex(o, key, &member) ? json_object_get_uint64(member) : 0;
}

bool ctl_flag(struct json_object *o, const char *key)
{
	struct json_object *member;

	return json_object_object_get_ex(o, key, &member) && json_object_get_boolean(member);
}

const char *ctl_text(struct json_object *o, const char *key)
{
	struct json_object *member;

	return json_object_object_get_ex(o, key, &member) ? json_object_get_string(member) : NULL;
}

struct json_object *ctl_array(struct json_object *o, const char *key, size_t *n)
{
	struct json_object *member;

	*n = 0;
	if (!json_object_object_get_ex(o, key, &member) || !json_object_is_type(member, json_type_array))
		return NULL;
	*n = json_object_array_length(member);
	return member;
}
