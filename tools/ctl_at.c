/*
 * A place in the tree as it stood. Through a mount it is found where everybody can see it, below @rev; of a
 * database that is not mounted, in a view of the store. No symbolic link is followed: in a mount it
 * would lead from the past into the present.
 */
#include "tools/ctl.h"

#include "fs/expr.h"
#include "fs/ns.h"
#include "fs/query.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- through a mount ----------------------------------------------------------------------------- */

/* What @rev is called in the mount. Who may not ask can still read, by the usual name. */
static int rev_name(struct ctl *ctl, char **out)
{
	struct json_object *req, *reply, *name;
	char *ctl_path;
	int status;

	*out = NULL;
	if (asprintf(&ctl_path, "%s/@ctl", ctl->mountpoint) < 0)
		return ctl_complain_err(-ENOMEM, "@rev");
	if (access(ctl_path, R_OK | W_OK) && errno != ENOENT) {
		free(ctl_path);
		*out = strdup("@rev");
		return *out ? 0 : ctl_complain_err(-ENOMEM, "@rev");
	}
	free(ctl_path);
	req = ctl_request("status");
	status = req ? ctl_ask_filled(ctl, req, 0, &reply) : CTL_TROUBLE;
	if (status)
		return status;
	if (!json_object_object_get_ex(reply, "revname", &name))
		status = ctl_complain(CTL_TROUBLE, "%s shows no history (revdir=disabled)", ctl->mountpoint);
	else if (!(*out = strdup(json_object_get_string(name))))
		status = ctl_complain_err(-ENOMEM, "@rev");
	json_object_put(reply);
	return status;
}

/* In steps, so that a path as long as the kernel takes can be read at a revision, too. */
static int open_rev_dir(struct ctl *ctl, const char *expr, int *out)
{
	char *dir = NULL, *name;
	int status = rev_name(ctl, &name);

	if (status)
		return status;
	if (asprintf(&dir, "%s/%s/%s", ctl->mountpoint, name, expr) < 0)
		dir = NULL;
	free(name);
	if (!dir)
		return ctl_complain_err(-ENOMEM, "@rev");
	*out = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*out < 0 && errno == ENOENT)
		status = ctl_complain(CTL_NOT_FOUND, "there is no revision %s", expr);
	else if (*out < 0 && errno == ESTALE)
		status = ctl_complain(CTL_COMPACTED, "revision %s was compacted away", expr);
	else if (*out < 0)
		status = ctl_complain(CTL_TROUBLE, "%s: %s", dir, strerror(errno));
	free(dir);
	return status;
}

static int open_below(int dir, const char *path, const char *expr, struct ctl_at *out)
{
	struct open_how how = { .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS };
	struct stat st;
	int fd = (int)syscall(SYS_openat2, dir, path[1] ? path + 1 : ".", &how, sizeof(how));

	if (fd < 0 && errno == ENOENT)
		return ctl_complain(CTL_NOT_FOUND, "%s: not there at revision %s", path, expr);
	if (fd < 0 && errno == ELOOP)
		return ctl_complain(CTL_TROUBLE, "%s: leads over a symbolic link, which is not followed",
				    path);
	if (fd < 0)
		return ctl_complain(errno == ENOTDIR ? CTL_NOT_FOUND : CTL_TROUBLE, "%s: %s", path,
				    strerror(errno));
	if (fstat(fd, &st)) {
		int err = errno;

		close(fd);
		return ctl_complain(CTL_TROUBLE, "%s: %s", path, strerror(err));
	}
	out->fd = fd;
	out->mode = st.st_mode;
	return 0;
}

static int open_mounted(struct ctl *ctl, const char *path, const char *expr, struct ctl_at *out)
{
	int dir = -1, status = open_rev_dir(ctl, expr, &dir);

	if (status)
		return status;
	status = open_below(dir, path, expr, out);
	close(dir);
	return status;
}

/* ---- from the store ------------------------------------------------------------------------------ */

static int complain_rev(struct ctl *ctl, int err, const char *expr)
{
	if (err == -EINVAL)
		return ctl_complain(CTL_TROUBLE, "\"%s\" is no revision; say " EXPR_FORMS, expr);
	if (err == MVCC_ECOMPACTED)
		return ctl_complain(CTL_COMPACTED,
				    "revision %s was compacted away; the oldest there is, is %" PRIu64, expr,
				    mvcc_floor(ctl->db));
	if (query_exit(err) == CTL_NOT_FOUND)
		return ctl_complain(CTL_NOT_FOUND, "there is no revision %s; the newest is %" PRIu64, expr,
				    mvcc_current(ctl->db));
	return ctl_complain_err(err, expr);
}

static int open_stored(struct ctl *ctl, const char *path, const char *expr, struct ctl_at *out)
{
	struct ns_attr attr;
	mvcc_rev_t rev;
	int err = query_rev(ctl->db, slice_str(expr), &rev);

	if (!err)
		err = mvcc_view_open(ctl->db, rev, &out->view);
	if (err)
		return complain_rev(ctl, err, expr);
	err = ns_at_walk(out->view, slice_str(path), &out->ino);
	if (!err)
		err = ns_at_getattr(out->view, out->ino, &attr);
	if (err == -ENOENT)
		return ctl_complain(CTL_NOT_FOUND, "%s: not there at revision %s", path, expr);
	if (err == -ENOTDIR)
		return ctl_complain(CTL_NOT_FOUND, "%s: %s", path, strerror(ENOTDIR));
	if (err)
		return ctl_complain_err(err, path);
	out->db = ctl->db;
	out->mode = attr.mode;
	return 0;
}

int ctl_at_open(struct ctl *ctl, const char *path, const char *expr, struct ctl_at *out)
{
	*out = (struct ctl_at){ .fd = -1 };
	if (!*expr || *expr == '.' || strchr(expr, '/'))
		return ctl_complain(CTL_TROUBLE, "\"%s\" is no revision; say " EXPR_FORMS, expr);
	return ctl->mountpoint ? open_mounted(ctl, path, expr, out) : open_stored(ctl, path, expr, out);
}

int ctl_at_reopen(const struct ctl_at *at, int flags, const char *path, int *out)
{
	char self[64];

	snprintf(self, sizeof(self), "/proc/self/fd/%d", at->fd);
	*out = open(self, flags | O_CLOEXEC);
	return *out < 0 ? ctl_complain(CTL_TROUBLE, "%s: %s", path, strerror(errno)) : 0;
}

void ctl_at_close(struct ctl_at *at)
{
	if (at->fd >= 0)
		close(at->fd);
	mvcc_view_close(at->view);
	*at = (struct ctl_at){ .fd = -1 };
}
