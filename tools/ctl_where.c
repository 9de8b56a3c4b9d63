/*
 * Which database is meant. The kernel's list of mounts says which mount a path lies in, so a user who
 * stands in one need not name it. A database that is mounted belongs to its daemon: it is asked there,
 * also when it was named by --db; its lock file tells where that is.
 */
#include "tools/ctl.h"

#include "fs/ns.h"
#include "fs/query.h"
#include "rocks_backend/rocks.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define FSTYPE "fuse.mvccfs"

/* ---- the kernel's list of mounts ----------------------------------------------------------------- */

struct mount {
	char *dev;  /* "0:52": the same for all views of one mount */
	char *root; /* what of its tree is seen at `point`: "/", or a path by a bind mount */
	char *point;
	bool ours;
};

struct mounts {
	struct mount *at;
	size_t n;
};

static void mounts_release(struct mounts *ms)
{
	for (size_t i = 0; i < ms->n; i++) {
		free(ms->at[i].dev);
		free(ms->at[i].root);
		free(ms->at[i].point);
	}
	free(ms->at);
	*ms = (struct mounts){ 0 };
}

/* "\040" and the like stand for what would end a field. */
static void unescape(char *s)
{
	char *out = s;

	while (*s) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' &&
		    s[3] <= '7') {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 4;
		} else {
			*out++ = *s++;
		}
	}
	*out = 0;
}

/* ID PARENT DEV ROOT POINT OPTIONS [TAGS...] - FSTYPE SOURCE OPTIONS */
static int mounts_add(struct mounts *ms, char *line)
{
	char *field[5], *save, *type = strstr(line, " - ");
	struct mount *at;

	if (!type)
		return 0;
	*type = 0;
	type = strtok_r(type + 3, " ", &save);
	for (int i = 0; i < 5; i++) {
		field[i] = strtok_r(i ? NULL : line, " ", &save);
		if (!field[i])
			return 0;
	}
	at = realloc(ms->at, (ms->n + 1) * sizeof(*at));
	if (!at)
		return -ENOMEM;
	ms->at = at;
	at += ms->n++;
	unescape(field[3]);
	unescape(field[4]);
	*at = (struct mount){ strdup(field[2]), strdup(field[3]), strdup(field[4]),
			      type && strcmp(type, FSTYPE) == 0 };
	return at->dev && at->root && at->point ? 0 : -ENOMEM;
}

static int mounts_read(struct mounts *ms)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t cap = 0;
	int err = f ? 0 : -errno;

	*ms = (struct mounts){ 0 };
	while (!err && getline(&line, &cap, f) > 0)
		err = mounts_add(ms, line);
	free(line);
	if (f)
		fclose(f);
	if (err)
		mounts_release(ms);
	return err;
}

/* What follows `dir` in `path`: "" or "/...". NULL if it does not lie there. */
static const char *path_after(const char *path, const char *dir)
{
	size_t len = strcmp(dir, "/") == 0 ? 0 : strlen(dir);

	return strncmp(path, dir, len) == 0 && (!path[len] || path[len] == '/') ? path + len : NULL;
}

/* The mount that a path without symbolic links lies in; of several at one place the last, which is on top. */
static const struct mount *mounts_find(const struct mounts *ms, const char *path)
{
	const struct mount *best = NULL;

	for (size_t i = 0; i < ms->n; i++)
		if (path_after(path, ms->at[i].point) &&
		    (!best || strlen(ms->at[i].point) >= strlen(best->point)))
			best = &ms->at[i];
	return best;
}

/* Where the whole tree of a mount is seen. */
static const struct mount *mounts_whole(const struct mounts *ms, const char *dev)
{
	for (size_t i = ms->n; i-- > 0;)
		if (ms->at[i].ours && strcmp(ms->at[i].dev, dev) == 0 && strcmp(ms->at[i].root, "/") == 0)
			return &ms->at[i];
	return NULL;
}

/* ---- paths --------------------------------------------------------------------------------------- */

/* Resolves "//", "." and ".." of an absolute path by its words alone, in place. */
static void path_clean(char *path)
{
	char *out = path, *in = path, *save, *word;

	for (word = strtok_r(in, "/", &save); word; word = strtok_r(NULL, "/", &save)) {
		size_t len = strlen(word);

		if (strcmp(word, ".") == 0)
			continue;
		if (strcmp(word, "..") == 0) {
			while (out > path && *--out != '/')
				;
			continue;
		}
		memmove(out + 1, word, len); /* words only move to the front */
		*out = '/';
		out += len + 1;
	}
	if (out == path)
		*out++ = '/';
	*out = 0;
}

/* `path` made absolute, and free of links as far as it exists; the last word may itself be a link. */
static char *path_real(const char *path)
{
	char *abs = NULL, *cwd, *dir, *out = NULL;
	size_t cut;

	if (path[0] != '/') {
		cwd = getcwd(NULL, 0);
		if (!cwd || asprintf(&abs, "%s/%s", cwd, path) < 0)
			abs = NULL;
		free(cwd);
	} else {
		abs = strdup(path);
	}
	if (!abs)
		return NULL;
	for (cut = strlen(abs); cut && abs[cut - 1] == '/'; cut--)
		abs[cut - 1] = 0;
	/* From the last directory up to the first that exists. */
	while (cut > 0) {
		while (abs[--cut] != '/')
			;
		dir = strndup(abs, cut ? cut : 1);
		if (!dir)
			break;
		char *real = realpath(dir, NULL);

		free(dir);
		if (real) {
			if (asprintf(&out, "%s%s", strcmp(real, "/") == 0 ? "" : real, abs + cut) < 0)
				out = NULL;
			free(real);
			break;
		}
	}
	if (!out)
		out = strdup(*abs ? abs : "/");
	free(abs);
	if (out)
		path_clean(out);
	return out;
}

/* Drops "@rev/N": what a path into the past means is that path. `revname` may be NULL. */
static void path_drop_rev(char *path, const char *revname)
{
	size_t len = revname ? strlen(revname) : 0;
	char *at = path;

	while (len && *at) {
		char *end;

		if (strncmp(at + 1, revname, len) != 0 || at[len + 1] != '/') {
			at = strchrnul(at + 1, '/');
			continue;
		}
		end = strchrnul(at + len + 2, '/');
		memmove(at, end, strlen(end) + 1);
	}
	if (!*path)
		strcpy(path, "/");
}

/* The place in the tree of mount `dev` that an absolute path names; NULL when it lies elsewhere. */
static char *tree_place(const struct mounts *ms, const char *dev, const char *abs)
{
	const struct mount *m = mounts_find(ms, abs);
	char *out;

	if (!m || strcmp(m->dev, dev) != 0)
		return NULL;
	if (asprintf(&out, "%s/%s", m->root, path_after(abs, m->point)) < 0)
		return NULL;
	return out;
}

static char *mounted_place(const struct ctl *ctl, const struct mounts *ms, const char *arg)
{
	char *out = NULL, *abs;

	if (arg[0] == '/') {
		/* By its words first: no request to a daemon, and no surprise by a link. */
		abs = strdup(arg);
		if (abs) {
			path_clean(abs);
			out = tree_place(ms, ctl->dev, abs);
		}
		free(abs);
	}
	if (!out) {
		abs = path_real(arg);
		out = abs ? tree_place(ms, ctl->dev, abs) : NULL;
		free(abs);
	}
	return out;
}

int ctl_tree_path(const struct ctl *ctl, const char *arg, char **out)
{
	struct mounts ms;
	char *path = NULL;
	int err;

	if (ctl->mountpoint) {
		err = mounts_read(&ms);
		if (err)
			return ctl_complain_err(err, "/proc/self/mountinfo");
		path = mounted_place(ctl, &ms, arg);
		mounts_release(&ms);
	}
	if (!path && asprintf(&path, "/%s", arg) < 0)
		return ctl_complain_err(-ENOMEM, arg);
	path_clean(path);
	path_drop_rev(path, ctl->mountpoint ? "@rev" : NULL);
	*out = path;
	return 0;
}

int ctl_cwd_place(const struct ctl *ctl, char **out)
{
	char *cwd = getcwd(NULL, 0);
	struct mounts ms;
	int err;

	*out = NULL;
	if (!cwd)
		return ctl_complain_err(-errno, "the working directory");
	err = mounts_read(&ms);
	if (!err && ctl->dev)
		*out = tree_place(&ms, ctl->dev, cwd);
	if (!err)
		mounts_release(&ms);
	if (*out) {
		path_clean(*out);
		path_drop_rev(*out, "@rev");
	}
	free(cwd);
	return err ? ctl_complain_err(err, "the working directory") : 0;
}

/* ---- opening ------------------------------------------------------------------------------------- */

static int use_mount(struct ctl *ctl, const struct mounts *ms, const struct mount *m)
{
	const struct mount *whole = mounts_whole(ms, m->dev);

	if (!whole)
		return ctl_complain(CTL_TROUBLE, "only a part of the mount is seen, at %s, but not its root",
				    m->point);
	ctl->mountpoint = strdup(whole->point);
	ctl->dev = strdup(whole->dev);
	return ctl->mountpoint && ctl->dev ? 0 : ctl_complain_err(-ENOMEM, whole->point);
}

static int open_mount(struct ctl *ctl, const struct mounts *ms, const char *path)
{
	char *real = realpath(path, NULL);
	const struct mount *m;
	int status;

	if (!real)
		return ctl_complain(errno == ENOENT ? CTL_NO_DB : CTL_TROUBLE, "%s: %s", path,
				    strerror(errno));
	m = mounts_find(ms, real);
	if (m && m->ours)
		status = use_mount(ctl, ms, m);
	else
		status = ctl_complain(CTL_NO_DB, "%s: no mvccfs is mounted there", path);
	free(real);
	return status;
}

/* The database is locked by `holder`, "pid 812, /mnt": talk to that mount, if it is one that we see. */
static int open_held(struct ctl *ctl, const struct mounts *ms, const char *path, const char *holder)
{
	const char *point = strchr(holder, '/');

	for (size_t i = ms->n; point && i-- > 0;)
		if (ms->at[i].ours && strcmp(ms->at[i].point, point) == 0)
			return use_mount(ctl, ms, &ms->at[i]);
	return ctl_complain(CTL_LOCKED, "%s: in use by %s", path, holder);
}

static void log_to_stderr(void *arg, int priority, const char *text)
{
	(void)arg;
	if (priority <= 4) /* LOG_WARNING */
		ctl_complain(0, "%s", text);
}

static int open_error(int err, const char *path)
{
	unsigned format = 0, known = 0;

	switch (err) {
	case -ENOENT:
		return ctl_complain(CTL_NO_DB, "%s: no database there", path);
	case MVCC_ENODB:
		return ctl_complain(CTL_NO_DB, "%s: not a database", path);
	case MVCC_EFORMAT:
		mvcc_dir_format(path, &format, &known);
		return ctl_complain(CTL_TROUBLE,
				    "%s: the database has format %u, this program knows up to %u", path,
				    format, known);
	default:
		return ctl_complain_err(err, path);
	}
}

/* What a killed daemon had promised is redone here, as a mount would. */
static int open_tree(struct ctl *ctl, const char *path)
{
	const struct ns_options opt = { .log = log_to_stderr };
	int err = ns_open(ctl->db, &opt, &ctl->ns);

	return err ? ctl_complain(query_exit(err), "%s: the tree cannot be opened: %s", path,
				  mvcc_strerror(err)) :
		     0;
}

static int open_db(struct ctl *ctl, const struct mounts *ms, const char *path)
{
	static struct rocks_options rocks = { .log = log_to_stderr }; /* the open engine borrows it */
	struct mvcc_options opt = {
		.dir = path,
		.engine = rocks_provider(&rocks),
		.holder = "mvccctl",
		.log = log_to_stderr,
	};
	char holder[4096 + 64];
	struct timespec now;
	int err;

	if (mvcc_lock_holder(path, holder, sizeof(holder)) == 0)
		return open_held(ctl, ms, path, holder);
	err = mvcc_open(&opt, &ctl->db);
	if (err == MVCC_ELOCKED && mvcc_lock_holder(path, holder, sizeof(holder)) == 0)
		return open_held(ctl, ms, path, holder);
	if (err)
		return open_error(err, path);
	clock_gettime(CLOCK_REALTIME, &now);
	ctl->opened_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
	ctl->db_path = realpath(path, NULL);
	return ctl->db_path ? open_tree(ctl, path) : ctl_complain_err(-errno, path);
}

/* The mount that `path` lies in, as far as it exists. NULL when that is none of ours. */
static const struct mount *mount_around(const struct mounts *ms, const char *path)
{
	char *real = path_real(path);
	const struct mount *m = real ? mounts_find(ms, real) : NULL;

	free(real);
	return m && m->ours ? m : NULL;
}

int ctl_open(struct ctl *ctl, const char *path)
{
	const char *env_mount = getenv("MVCCFS_MOUNT"), *env_db = getenv("MVCCFS_DB");
	const struct mount *m = NULL;
	struct mounts ms;
	int status, err;

	ctl->ctl_fd = -1;
	err = mounts_read(&ms);
	if (err)
		return ctl_complain_err(err, "/proc/self/mountinfo");
	if (!ctl->mount_arg && !ctl->db_arg) {
		m = path ? mount_around(&ms, path) : NULL;
		if (!m)
			m = mount_around(&ms, "./."); /* the working directory itself, not its parent */
	}
	if (ctl->mount_arg)
		status = open_mount(ctl, &ms, ctl->mount_arg);
	else if (ctl->db_arg)
		status = open_db(ctl, &ms, ctl->db_arg);
	else if (m)
		status = use_mount(ctl, &ms, m);
	else if (env_mount && *env_mount)
		status = open_mount(ctl, &ms, env_mount);
	else if (env_db && *env_db)
		status = open_db(ctl, &ms, env_db);
	else
		status = ctl_complain(CTL_TROUBLE,
				      "which database? Stand in a mount, or say --mount M or --db DB");
	mounts_release(&ms);
	return status;
}

void ctl_close(struct ctl *ctl)
{
	int ns_err = ns_close(ctl->ns), err = mvcc_close(ctl->db);

	if (ns_err || err)
		ctl_complain_err(ns_err ? ns_err : err, ctl->db_path ? ctl->db_path : "closing the database");
	if (ctl->ctl_fd >= 0)
		close(ctl->ctl_fd);
	free(ctl->mountpoint);
	free(ctl->dev);
	free(ctl->db_path);
	ctl->ns = NULL;
	ctl->db = NULL;
	ctl->ctl_fd = -1;
	ctl->mountpoint = ctl->dev = ctl->db_path = NULL;
}
