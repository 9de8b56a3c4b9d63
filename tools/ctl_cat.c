/*
 * cat: a file as it stood. Through a mount it is read where everybody can read it, below @rev; of a
 * database that is not mounted, from a view of the store. No symbolic link is followed: in a mount it
 * would lead from the past into the present.
 */
#include "tools/ctl.h"

#include "fs/expr.h"
#include "fs/json_bytes.h"
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

#define CHUNK ((size_t)256 << 10)

/* A file being read, from either side. */
struct source {
	int fd; /* -1: from the store */
	struct mvcc *db;
	struct mvcc_view *view;
	uint64_t ino;
};

static ssize_t source_read(const struct source *s, uint64_t off, void *out, size_t len)
{
	ssize_t n;

	if (s->fd < 0)
		return ns_at_read(s->db, s->view, s->ino, off, out, len);
	do
		n = pread(s->fd, out, len, (off_t)off);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* Copies the file to stdout. 0, or the exit status. */
static int copy_out(const struct source *s, const char *path)
{
	char *chunk = malloc(CHUNK);
	uint64_t off = 0;
	int status = chunk ? 0 : ctl_complain_err(-ENOMEM, path);

	while (!status) {
		ssize_t n = source_read(s, off, chunk, CHUNK);

		if (n < 0)
			status = ctl_complain(CTL_TROUBLE, "%s: %s", path, mvcc_strerror((int)n));
		if (n <= 0)
			break;
		off += (uint64_t)n;
		fwrite(chunk, 1, (size_t)n, stdout);
		if (!ctl_flush(&status))
			break;
	}
	free(chunk);
	return status;
}

static int complain_type(uint32_t mode, const char *path)
{
	return ctl_complain(CTL_TROUBLE, "%s: %s", path,
			    S_ISDIR(mode) ? "is a directory" :
			    S_ISLNK(mode) ? "is a symbolic link, which is not followed" :
					    "is no regular file");
}

/* ---- through a mount ----------------------------------------------------------------------------- */

/* What @rev is called in the mount. Who may not ask can still read, by the usual name. */
static int rev_name(struct ctl *ctl, char **out)
{
	struct json_object *req, *reply, *name;
	char *ctl_path;
	int status;

	*out = NULL;
	if (asprintf(&ctl_path, "%s/@ctl", ctl->mountpoint) < 0)
		return ctl_complain_err(-ENOMEM, "cat");
	if (access(ctl_path, R_OK | W_OK) && errno != ENOENT) {
		free(ctl_path);
		*out = strdup("@rev");
		return *out ? 0 : ctl_complain_err(-ENOMEM, "cat");
	}
	free(ctl_path);
	req = json_object_new_object();
	if (!req || json_add_str(req, "verb", "status")) {
		json_object_put(req);
		return ctl_complain_err(-ENOMEM, "cat");
	}
	status = ctl_ask(ctl, req, &reply);
	json_object_put(req);
	if (status)
		return status;
	if (!json_object_object_get_ex(reply, "revname", &name))
		status = ctl_complain(CTL_TROUBLE, "%s shows no history (revdir=disabled)", ctl->mountpoint);
	else if (!(*out = strdup(json_object_get_string(name))))
		status = ctl_complain_err(-ENOMEM, "cat");
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
		return ctl_complain_err(-ENOMEM, "cat");
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

static int open_below(int dir, const char *path, const char *expr, int *out)
{
	struct open_how how = { .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS };
	char self[64];
	struct stat st;
	int fd, err;

	fd = (int)syscall(SYS_openat2, dir, path[1] ? path + 1 : ".", &how, sizeof(how));
	if (fd < 0 && errno == ENOENT)
		return ctl_complain(CTL_NOT_FOUND, "%s: not there at revision %s", path, expr);
	if (fd < 0 && errno == ELOOP)
		return ctl_complain(CTL_TROUBLE, "%s: leads over a symbolic link, which is not followed",
				    path);
	if (fd < 0)
		return ctl_complain(errno == ENOTDIR ? CTL_NOT_FOUND : CTL_TROUBLE, "%s: %s", path,
				    strerror(errno));
	if (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode)) {
		close(fd);
		return complain_type(st.st_mode, path);
	}
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	*out = open(self, O_RDONLY | O_CLOEXEC);
	err = errno;
	close(fd);
	return *out < 0 ? ctl_complain(CTL_TROUBLE, "%s: %s", path, strerror(err)) : 0;
}

static int cat_mounted(struct ctl *ctl, const char *path, const char *expr)
{
	struct source s = { .fd = -1 };
	int dir = -1, status = open_rev_dir(ctl, expr, &dir);

	if (status)
		return status;
	status = open_below(dir, path, expr, &s.fd);
	close(dir);
	if (status)
		return status;
	status = copy_out(&s, path);
	close(s.fd);
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

static int cat_view(struct source *s, const char *path, const char *expr)
{
	struct ns_attr attr;
	int err = ns_at_walk(s->view, slice_str(path), &s->ino);

	if (!err)
		err = ns_at_getattr(s->view, s->ino, &attr);
	if (err == -ENOENT)
		return ctl_complain(CTL_NOT_FOUND, "%s: not there at revision %s", path, expr);
	if (err == -ENOTDIR)
		return ctl_complain(CTL_NOT_FOUND, "%s: %s", path, strerror(ENOTDIR));
	if (err)
		return ctl_complain_err(err, path);
	return S_ISREG(attr.mode) ? copy_out(s, path) : complain_type(attr.mode, path);
}

static int cat_stored(struct ctl *ctl, const char *path, const char *expr)
{
	struct source s = { .fd = -1, .db = ctl->db };
	mvcc_rev_t rev;
	int status, err = query_rev(ctl->db, slice_str(expr), &rev);

	if (!err)
		err = mvcc_view_open(ctl->db, rev, &s.view);
	if (err)
		return complain_rev(ctl, err, expr);
	status = cat_view(&s, path, expr);
	mvcc_view_close(s.view);
	return status;
}

/* ---- arguments ----------------------------------------------------------------------------------- */

static int run_path(struct ctl *ctl, const char *arg, const char *expr)
{
	char *path = NULL;
	int status = ctl_open(ctl, arg);

	if (!status)
		status = ctl_tree_path(ctl, arg, &path);
	if (!status)
		status = ctl->mountpoint ? cat_mounted(ctl, path, expr) : cat_stored(ctl, path, expr);
	free(path);
	ctl_close(ctl);
	return status;
}

static int run(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "rev", required_argument, NULL, 'r' }, CTL_LONG_OPTIONS };
	const char *expr = "head";
	int opt, status;

	while ((opt = getopt_long(argc, argv, "r:" CTL_SHORT_OPTIONS, options, NULL)) != -1) {
		if (opt == 'r')
			expr = optarg;
		else if (!ctl_option(ctl, &ctl_cat, opt, &status))
			return status;
	}
	if (optind + 1 != argc || ctl->json || ctl->nul)
		return ctl_usage(&ctl_cat);
	if (!*expr || *expr == '.' || strchr(expr, '/'))
		return ctl_complain(CTL_TROUBLE, "\"%s\" is no revision; say " EXPR_FORMS, expr);
	return run_path(ctl, argv[optind], expr);
}

const struct ctl_verb ctl_cat = {
	.name = "cat",
	.synopsis = "PATH [--rev N]",
	.summary = "print a file as it stood at a revision",
	.help = "Prints the content of PATH, a regular file.\n\n"
		"  -r, --rev N    at revision N: a number, head, head~3, a tag or a time; see mvccfs(7).\n"
		"                 Without it the newest; what is written but not yet closed is in none\n",
	.run = run,
};
