/* ls: what a directory held. Names as the store has them, in order of their bytes; nothing is hidden. */
#include "tools/ctl.h"

#include "fs/json_bytes.h"
#include "fs/ns.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <unistd.h>

struct ls_args {
	const char *expr;
	bool detail; /* -l */
};

/* One thing to be listed. */
struct listed {
	struct slice name;
	uint32_t mode, uid, gid;
	uint64_t nlink, size;
	int64_t mtime_ns;
	struct slice target; /* of a symbolic link */
};

/* ---- printing -------------------------------------------------------------------------------------- */

static char type_letter(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return 'd';
	case S_IFLNK:
		return 'l';
	case S_IFIFO:
		return 'p';
	case S_IFSOCK:
		return 's';
	case S_IFCHR:
		return 'c';
	case S_IFBLK:
		return 'b';
	default:
		return '-';
	}
}

static void mode_text(uint32_t mode, char out[11])
{
	static const char bits[] = "rwxrwxrwx";

	out[0] = type_letter(mode);
	for (int i = 0; i < 9; i++)
		out[i + 1] = mode & (0400u >> i) ? bits[i] : '-';
	if (mode & S_ISUID)
		out[3] = mode & S_IXUSR ? 's' : 'S';
	if (mode & S_ISGID)
		out[6] = mode & S_IXGRP ? 's' : 'S';
	if (mode & S_ISVTX)
		out[9] = mode & S_IXOTH ? 't' : 'T';
	out[10] = '\0';
}

static void print_detail(const struct listed *l)
{
	char mode[11], time[64];

	mode_text(l->mode, mode);
	ctl_format_time(l->mtime_ns, time);
	printf("%s %2" PRIu64 " %-8s ", mode, l->nlink, ctl_user_name(l->uid));
	printf("%-8s %10" PRIu64 " %s ", ctl_group_name(l->gid), l->size, time);
}

static int print_json(const struct listed *l)
{
	struct json_object *o = json_object_new_object();
	char mode[11], octal[16];
	int err = o ? json_add_bytes(o, "name", l->name) : -ENOMEM, status;

	mode_text(l->mode, mode);
	mode[1] = '\0';
	snprintf(octal, sizeof(octal), "%04o", l->mode & 07777);
	if (!err)
		err = json_add_str(o, "type", mode);
	if (!err)
		err = json_add_str(o, "mode", octal);
	if (!err)
		err = json_add_u64(o, "nlink", l->nlink);
	if (!err)
		err = json_add_u64(o, "uid", l->uid);
	if (!err)
		err = json_add_u64(o, "gid", l->gid);
	if (!err)
		err = json_add_u64(o, "size", l->size);
	if (!err)
		err = json_add_i64(o, "mtime_ns", l->mtime_ns);
	if (!err && l->target.len)
		err = json_add_bytes(o, "target", l->target);
	status = err ? ctl_complain_err(err, "ls") : ctl_print_json(o);
	json_object_put(o);
	return status;
}

static int print_listed(const struct ctl *ctl, const struct ls_args *args, const struct listed *l)
{
	if (ctl->json)
		return print_json(l);
	if (ctl->nul) {
		fwrite(l->name.data, 1, l->name.len, stdout);
		putchar(0);
		return 0;
	}
	if (args->detail)
		print_detail(l);
	ctl_print_escaped(stdout, l->name);
	if (args->detail && l->target.len) {
		printf(" -> ");
		ctl_print_escaped(stdout, l->target);
	}
	putchar('\n');
	return 0;
}

/* ---- through a mount ------------------------------------------------------------------------------- */

/* What `name` in directory `dir` is; with an empty name, what `dir` itself is. */
static int list_name(struct ctl *ctl, const struct ls_args *args, int dir, const char *name,
		     const char *shown)
{
	struct listed l = { .name = slice_str(shown) };
	char target[NS_SYMLINK_MAX + 1];
	struct stat st;
	ssize_t n = 0;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
		return ctl_complain(CTL_TROUBLE, "%s: %s", shown, strerror(errno));
	if (S_ISLNK(st.st_mode))
		n = readlinkat(dir, name, target, sizeof(target));
	if (n < 0)
		return ctl_complain(CTL_TROUBLE, "%s: %s", shown, strerror(errno));
	l.target = slice_of(target, (size_t)n);
	l.mode = st.st_mode;
	l.uid = st.st_uid;
	l.gid = st.st_gid;
	l.nlink = st.st_nlink;
	l.size = (uint64_t)st.st_size;
	l.mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
	return print_listed(ctl, args, &l);
}

static int list_mounted(struct ctl *ctl, const struct ls_args *args, const struct ctl_at *at,
			const char *path)
{
	struct dirent *entry;
	int fd, status = ctl_at_reopen(at, O_RDONLY | O_DIRECTORY, path, &fd);
	DIR *dir;

	if (status)
		return status;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return ctl_complain(CTL_TROUBLE, "%s: %s", path, strerror(errno));
	}
	while (!status && (errno = 0, entry = readdir(dir)) != NULL)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			status = list_name(ctl, args, dirfd(dir), entry->d_name, entry->d_name);
	if (!status && errno)
		status = ctl_complain(CTL_TROUBLE, "%s: %s", path, strerror(errno));
	closedir(dir);
	return status;
}

/* ---- from the store -------------------------------------------------------------------------------- */

static int list_inode(struct ctl *ctl, const struct ls_args *args, struct mvcc_view *view, uint64_t ino,
		      struct slice shown)
{
	struct listed l = { .name = shown };
	struct buf target = { 0 };
	struct ns_attr attr;
	int status, err = ns_at_getattr(view, ino, &attr);

	if (!err && S_ISLNK(attr.mode))
		err = ns_at_readlink(view, ino, &target);
	if (err) {
		status = ctl_complain_err(err, "ls");
	} else {
		l.target = slice_buf(&target);
		l.mode = attr.mode;
		l.uid = attr.uid;
		l.gid = attr.gid;
		l.nlink = attr.nlink;
		l.size = attr.size;
		l.mtime_ns = attr.mtime_ns;
		status = print_listed(ctl, args, &l);
	}
	buf_release(&target);
	return status;
}

static int list_stored(struct ctl *ctl, const struct ls_args *args, const struct ctl_at *at, const char *path)
{
	struct ns_dirent entry;
	struct ns_dir *dir = NULL;
	int status = 0, got = ns_at_opendir(at->view, at->ino, &dir);

	for (uint64_t pos = 0; !got && !status; pos++) {
		got = ns_dir_read(dir, pos, &entry);
		if (got <= 0)
			break;
		got = 0;
		status = list_inode(ctl, args, at->view, entry.ino, entry.name);
	}
	ns_dir_close(dir);
	return got < 0 ? ctl_complain_err(got, path) : status;
}

/* ---- arguments ------------------------------------------------------------------------------------- */

static int ls(struct ctl *ctl, const struct ls_args *args, const char *path)
{
	struct ctl_at at;
	int status = ctl_at_open(ctl, path, args->expr, &at);

	if (status)
		;
	else if (S_ISDIR(at.mode))
		status = at.view ? list_stored(ctl, args, &at, path) : list_mounted(ctl, args, &at, path);
	else if (at.view)
		status = list_inode(ctl, args, at.view, at.ino, slice_str(path));
	else
		status = list_name(ctl, args, at.fd, "", path);
	ctl_at_close(&at);
	return status;
}

static int run_path(struct ctl *ctl, const struct ls_args *args, const char *arg)
{
	char *path = NULL;
	int status = ctl_open(ctl, arg);

	if (!status)
		status = ctl_tree_path(ctl, arg, &path);
	if (!status)
		status = ls(ctl, args, path);
	free(path);
	ctl_close(ctl);
	return status;
}

static int run(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "rev", required_argument, NULL, 'r' }, CTL_LONG_OPTIONS };
	struct ls_args args = { .expr = "head" };
	int opt, status;

	while ((opt = getopt_long(argc, argv, "lr:" CTL_SHORT_OPTIONS, options, NULL)) != -1) {
		if (opt == 'r')
			args.expr = optarg;
		else if (opt == 'l')
			args.detail = true;
		else if (!ctl_option(ctl, &ctl_ls, opt, &status))
			return status;
	}
	if (argc - optind > 1)
		return ctl_usage(&ctl_ls);
	return run_path(ctl, &args, optind < argc ? argv[optind] : ".");
}

const struct ctl_verb ctl_ls = {
	.name = "ls",
	.synopsis = "[-l] [--json | -z] [PATH] [--rev N]",
	.summary = "list a directory as it stood at a revision",
	.help = "Lists what PATH held, one name a line; without PATH the working directory, or the root. Of "
		"a file,\n"
		"its path.\n\n"
		"  -r, --rev N    at revision N: a number, head, head~3, a tag or a time; see mvccfs(7).\n"
		"                 Without it the newest; what is not yet closed is in none\n"
		"  -l             with mode, links, owner, group, size and local time of the last change\n"
		"  --json         one JSON object a line\n"
		"  -z, --null     only the names, each ended by a NUL\n",
	.run = run,
};
