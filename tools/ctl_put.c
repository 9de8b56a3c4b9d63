/*
 * put, del: paths as keys. In a mount they are done as any program would do them, with the rights of whoever asks: the
 * compare is an attribute of the file being written (see mvccfs(7)), and what fails halfway is dropped by a compare
 * that cannot hold. The path is walked name by name, and no symbolic link is followed.
 */
#include "tools/ctl.h"

#include "fs/json_bytes.h"
#include "fs/ns.h"
#include "fs/query.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define CHUNK ((size_t)256 << 10)

enum { TRIES_MAX = 2000 }; /* some ten seconds */

enum { COMPARE_NONE = 0, COMPARE_ABSENT = 3 }; /* besides enum ns_compare */

struct put {
	struct ctl *ctl;
	const char *path; /* from the root */
	const char *source;
	int in;
	bool parents;
	unsigned compare;
	uint64_t n;
	struct ns_who who;
};

static bool must_be_new(const struct put *p)
{
	return p->compare == COMPARE_ABSENT || (p->compare && p->n == 0);
}

static int compare_failed(const char *path)
{
	return ctl_complain(CTL_NOT_FOUND, "%s: has changed, or is not as told", path);
}

static int put_failed(const struct put *p, int err)
{
	if ((err == -EBUSY && p->compare) || (err == -EEXIST && must_be_new(p)) ||
	    (err == -ENOENT && p->compare && !must_be_new(p)))
		return compare_failed(p->path);
	if (err == -EISDIR)
		return ctl_complain(CTL_TROUBLE, "%s: is a directory", p->path);
	if (err == -ELOOP)
		return ctl_complain(CTL_TROUBLE, "%s: a symbolic link, which is not followed", p->path);
	if (err == -ENOENT)
		return ctl_complain(CTL_TROUBLE, "%s: no such directory (-p makes it)", p->path);
	return ctl_complain(CTL_TROUBLE, "%s: %s", p->path, mvcc_strerror(err));
}

static ssize_t read_in(const struct put *p, void *out)
{
	ssize_t n;

	do
		n = read(p->in, out, CHUNK);
	while (n < 0 && errno == EINTR);
	return n;
}

/* Copies all of the input by `write_at`. 0, or the exit status; then nothing of it must remain. */
static int copy_in(const struct put *p,
		   int (*write_at)(void *arg, uint64_t off, const void *data, size_t len), void *arg,
		   uint64_t *len)
{
	char *chunk = malloc(CHUNK);
	uint64_t off = 0;
	int err = chunk ? 0 : -ENOMEM, status = 0;
	ssize_t n = 0;

	while (!err && (n = read_in(p, chunk)) > 0) {
		err = write_at(arg, off, chunk, (size_t)n);
		off += (uint64_t)n;
	}
	if (n < 0)
		status = ctl_complain(CTL_TROUBLE, "%s: %s", p->source, strerror(errno));
	else if (err)
		status = put_failed(p, err);
	free(chunk);
	*len = off;
	return status;
}

static int told(const struct put *p, mvcc_rev_t rev)
{
	struct json_object *o;
	int err, status = 0;

	if (!p->ctl->json)
		return 0;
	o = json_object_new_object();
	err = o ? json_add_bytes(o, "path", slice_str(p->path)) : -ENOMEM;
	if (!err)
		err = json_add_u64(o, "rev", rev);
	status = err ? ctl_complain_err(err, p->path) : ctl_print_json(o);
	json_object_put(o);
	return status;
}

/* ---- in a mount ---------------------------------------------------------------------------------- */

/* The directory of the path; `*name` is its last name, lent by the path. */
static int open_parent(const struct ctl *ctl, const char *path, bool make, const char **name, int *out)
{
	int dir = open(ctl->mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC), next, err;

	for (;;) {
		size_t len = strcspn(path += strspn(path, "/"), "/");
		char word[NS_NAME_MAX + 1];

		if (dir < 0)
			return -errno;
		if (!path[len]) {
			*name = path;
			*out = dir;
			return 0;
		}
		if (len > NS_NAME_MAX) {
			close(dir);
			return -ENAMETOOLONG;
		}
		memcpy(word, path, len);
		word[len] = 0;
		path += len;
		next = openat(dir, word, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0 && errno == ENOENT && make && (mkdirat(dir, word, 0777) == 0 || errno == EEXIST))
			next = openat(dir, word, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		err = errno;
		close(dir);
		errno = err;
		dir = next;
	}
}

/* Says what the close of `fd` compares with. */
static int set_compare(int fd, unsigned compare, uint64_t n)
{
	char text[32];
	int len = snprintf(text, sizeof(text), "%" PRIu64, n);

	return fsetxattr(fd, compare == NS_IF_VERSION ? "user.mvccfs.if_version" : "user.mvccfs.if_rev", text,
			 (size_t)len, 0) ?
		       -errno :
		       0;
}

static int fd_write(void *arg, uint64_t off, const void *data, size_t len)
{
	int fd = *(int *)arg;

	while (len) {
		ssize_t n = pwrite(fd, data, len, (off_t)off);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n < 0)
			continue;
		data = (const char *)data + n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static mvcc_rev_t fd_rev(int fd)
{
	char text[32];
	ssize_t n = fgetxattr(fd, "user.mvccfs.rev", text, sizeof(text) - 1);

	if (n < 0)
		return 0;
	text[n] = 0;
	return strtoull(text, NULL, 10);
}

/* A close of a copy of the descriptor makes the revision, so that the file can still be asked for its number. */
static int finish(int fd, uint64_t len, mvcc_rev_t *rev)
{
	int copy = len ? dup(fd) : -1;

	if (len ? copy < 0 || close(copy) : fsync(fd))
		return -errno;
	*rev = fd_rev(fd);
	return 0;
}

static int write_mounted(struct put *p, int fd)
{
	mvcc_rev_t rev = 0;
	uint64_t len = 0;
	int err = ftruncate(fd, 0) ? -errno : 0;
	int status = err ? put_failed(p, err) : copy_in(p, fd_write, &fd, &len);
	if (status) {
		set_compare(fd, NS_IF_REV, NS_IF_NEVER);
		close(fd); /* whose failure is what is meant */
		return status;
	}
	err = finish(fd, len, &rev);
	if (close(fd) && !err)
		err = -errno;
	return err ? put_failed(p, err) : told(p, rev);
}

/*
 * Opens, and says what to compare with, which only one writer at a time may: waits a little while another does. A file
 * that was just closed is its writer's for a moment more.
 */
static int open_to_write(const struct put *p, int dir, const char *name, int flags, int *out)
{
	for (unsigned try = 0;; try++) {
		int fd = openat(dir, name, flags, 0666);
		int err = fd < 0 ? -errno : 0;

		if (!err && p->compare && p->compare != COMPARE_ABSENT)
			err = set_compare(fd, p->compare, p->n);
		if (!err) {
			*out = fd;
			return 0;
		}
		if (fd >= 0)
			close(fd);
		if (err != -EBUSY || try == TRIES_MAX)
			return err;
		usleep(1000 * (1 + (unsigned)(random() % 10)));
	}
}

static int put_mounted(struct put *p)
{
	bool may_make = !p->compare || must_be_new(p);
	int flags = O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | (may_make ? O_CREAT : 0) |
		    (must_be_new(p) ? O_EXCL : 0);
	const char *name = "";
	struct stat st;
	int dir = -1, fd = -1, err = open_parent(p->ctl, p->path, p->parents, &name, &dir);

	if (err)
		return put_failed(p, err);
	srandom((unsigned)getpid());
	err = open_to_write(p, dir, name, flags, &fd);
	close(dir);
	if (err)
		return put_failed(p, err);
	if (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode)) {
		close(fd);
		return ctl_complain(CTL_TROUBLE, "%s: is no regular file", p->path);
	}
	return write_mounted(p, fd);
}

/* ---- not mounted --------------------------------------------------------------------------------- */

/* As open_parent(). */
static int walk_parent(struct put *p, uint64_t *dir, struct slice *name)
{
	mode_t mask = umask(0);
	const char *path = p->path;
	struct ns_attr attr = { .ino = NS_ROOT };
	int err = 0;

	umask(mask);
	for (;;) {
		size_t len = strcspn(path += strspn(path, "/"), "/");

		*dir = attr.ino;
		*name = slice_of(path, len);
		if (!path[len] || err)
			return err;
		err = ns_lookup(p->ctl->ns, *dir, *name, &attr);
		if (err == -ENOENT && p->parents)
			err = ns_mkdir(p->ctl->ns, &p->who, *dir, *name, 0777 & ~mask, &attr);
		if (!err && !S_ISDIR(attr.mode))
			err = S_ISLNK(attr.mode) ? -ELOOP : -ENOTDIR;
		path += len;
	}
}

static int open_stored(struct put *p, struct ns_file **out, uint64_t *ino)
{
	struct ns_attr attr;
	struct slice name;
	mode_t mask = umask(0);
	uint64_t dir;
	int err = walk_parent(p, &dir, &name);

	umask(mask);
	if (err)
		return err;
	err = ns_lookup(p->ctl->ns, dir, name, &attr);
	if (!err && must_be_new(p))
		return -EEXIST;
	if (err == -ENOENT && (!p->compare || must_be_new(p))) {
		err = ns_create(p->ctl->ns, &p->who, dir, name, 0666 & ~mask, out, &attr);
		*ino = attr.ino;
		return err;
	}
	if (err)
		return err;
	*ino = attr.ino;
	if (!S_ISREG(attr.mode))
		return S_ISDIR(attr.mode) ? -EISDIR : S_ISLNK(attr.mode) ? -ELOOP : -EINVAL;
	return ns_file_open(p->ctl->ns, &p->who, *ino, NS_OPEN_WRITE, (struct ns_gone){ 0 }, out);
}

struct stored_file {
	struct ns_file *file;
	const struct ns_who *who;
};

static int stored_write(void *arg, uint64_t off, const void *data, size_t len)
{
	struct stored_file *f = arg;

	return ns_file_write(f->file, f->who, off, data, len);
}

static int put_stored(struct put *p)
{
	const struct ns_attr empty = { .size = 0 };
	struct stored_file f = { .who = &p->who };
	struct ns_attr attr;
	mvcc_rev_t rev = 0;
	uint64_t ino, len;
	int status, err = open_stored(p, &f.file, &ino);

	if (err)
		return put_failed(p, err);
	if (p->compare && p->compare != COMPARE_ABSENT)
		err = ns_file_if(p->ctl->ns, ino, p->compare, p->n);
	if (!err)
		err = ns_setattr(p->ctl->ns, &p->who, ino, &empty, NS_SET_SIZE, true, &attr);
	status = err ? put_failed(p, err) : copy_in(p, stored_write, &f, &len);
	if (status) {
		ns_file_if(p->ctl->ns, ino, NS_IF_REV, NS_IF_NEVER);
		ns_file_close(f.file);
		return status;
	}
	err = ns_file_commit(f.file, &rev);
	ns_file_close(f.file);
	return err ? put_failed(p, err) : told(p, rev);
}

/* ---- put ----------------------------------------------------------------------------------------- */

static int put(struct put *p, const char *arg)
{
	char *path = NULL;
	int status = ctl_open(p->ctl, arg);

	if (!status)
		status = ctl_tree_path(p->ctl, arg, &path);
	if (!status && strcmp(path, "/") == 0)
		status = ctl_complain(CTL_TROUBLE, "/: is a directory");
	p->path = path;
	if (!status)
		status = p->ctl->mountpoint ? put_mounted(p) : put_stored(p);
	free(path);
	ctl_close(p->ctl);
	return status;
}

static int open_source(struct put *p, const char *source)
{
	p->source = source && strcmp(source, "-") != 0 ? source : "standard input";
	p->in = p->source == source ? open(source, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
	return p->in < 0 ? ctl_complain(CTL_TROUBLE, "%s: %s", source, strerror(errno)) : 0;
}

static struct ns_who myself(void)
{
	return (struct ns_who){
		.uid = getuid(), .gid = getgid(), .pid = (uint32_t)getpid(), .comm = "mvccctl"
	};
}

/* One compare at most. */
static bool take_compare(struct put *p, unsigned compare, const char *arg)
{
	if (p->compare)
		return false;
	p->compare = compare;
	return compare == COMPARE_ABSENT || ctl_parse_number(arg, &p->n);
}

static int run_put(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "if-rev", required_argument, NULL, 'r' },
						 { "if-version", required_argument, NULL, 'v' },
						 { "if-absent", no_argument, NULL, 'a' },
						 { "parents", no_argument, NULL, 'p' },
						 CTL_LONG_OPTIONS };
	struct put p = { .ctl = ctl, .who = myself() };
	int opt, status;

	while ((opt = getopt_long(argc, argv, "p" CTL_SHORT_OPTIONS, options, NULL)) != -1) {
		if (opt == 'p')
			p.parents = true;
		else if (opt == 'r' || opt == 'v' || opt == 'a') {
			if (!take_compare(&p,
					  opt == 'r' ? NS_IF_REV :
					  opt == 'v' ? NS_IF_VERSION :
						       COMPARE_ABSENT,
					  optarg))
				return ctl_usage(&ctl_put);
		} else if (!ctl_option(ctl, &ctl_put, opt, &status))
			return status;
	}
	if (optind == argc || optind + 2 < argc || ctl->nul)
		return ctl_usage(&ctl_put);
	status = open_source(&p, optind + 2 == argc ? argv[optind + 1] : NULL);
	if (status)
		return status;
	status = put(&p, argv[optind]);
	if (p.in != STDIN_FILENO)
		close(p.in);
	return status;
}

const struct ctl_verb ctl_put = {
	.name = "put",
	.synopsis = "[-p] [--json] [--if-rev N | --if-version N | --if-absent] PATH [FILE]",
	.summary = "write a file, if it is still as it was",
	.help = "Makes the content of FILE, or of standard input, that of PATH, as one revision; or "
		"nothing.\n"
		"Exits with 1 when the compare fails.\n\n"
		"  --if-rev N       only if the newest revision of PATH is N (0: it does not exist)\n"
		"  --if-version N   only if PATH has version N (0: it does not exist)\n"
		"  --if-absent      only if PATH does not exist\n"
		"  -p, --parents    makes missing directories above it, each a revision of its own\n"
		"  --json           prints the revision that was made\n",
	.run = run_put,
};

/* ---- del ----------------------------------------------------------------------------------------- */

struct del {
	struct ctl *ctl;
	const char *rev; /* --if-rev, --if-version as given; NULL */
	const char *version;
};

static int del_one(const struct del *d, const char *arg)
{
	struct json_object *req = ctl_request("del"), *reply;
	char *path = NULL;
	uint64_t n;
	int err, status = req ? ctl_tree_path(d->ctl, arg, &path) : CTL_TROUBLE;

	if (status) {
		json_object_put(req);
		return status;
	}
	err = json_add_bytes(req, "path", slice_str(path));
	if (!err && d->rev && ctl_parse_number(d->rev, &n))
		err = json_add_u64(req, "if_rev", n);
	if (!err && d->version && ctl_parse_number(d->version, &n))
		err = json_add_u64(req, "if_version", n);
	free(path);
	status = ctl_ask_filled(d->ctl, req, err, &reply);
	if (status)
		return status;
	if (d->ctl->json)
		status = ctl_print_json(reply);
	json_object_put(reply);
	return status;
}

/* All are tried; the worst status is returned. */
static int del_all(const struct del *d, char **args)
{
	int worst = ctl_open(d->ctl, args[0]);

	if (!worst)
		for (; *args; args++) {
			int status = del_one(d, *args);

			if (status > worst)
				worst = status;
		}
	ctl_close(d->ctl);
	return worst;
}

static int run_del(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "if-rev", required_argument, NULL, 'r' },
						 { "if-version", required_argument, NULL, 'v' },
						 CTL_LONG_OPTIONS };
	struct del d = { .ctl = ctl };
	uint64_t n;
	int opt, status;

	while ((opt = getopt_long(argc, argv, CTL_SHORT_OPTIONS, options, NULL)) != -1) {
		if (opt == 'r')
			d.rev = optarg;
		else if (opt == 'v')
			d.version = optarg;
		else if (!ctl_option(ctl, &ctl_del, opt, &status))
			return status;
	}
	if (optind == argc || ctl->nul || (d.rev && d.version) || (d.rev && !ctl_parse_number(d.rev, &n)) ||
	    (d.version && !ctl_parse_number(d.version, &n)))
		return ctl_usage(&ctl_del);
	return del_all(&d, argv + optind);
}

const struct ctl_verb ctl_del = {
	.name = "del",
	.synopsis = "[--json] [--if-rev N | --if-version N] PATH...",
	.summary = "remove files, if they are still as they were",
	.help = "Removes each PATH, which may be anything but a directory that is not empty. Exits with 1 "
		"when\n"
		"one did not exist, or the compare failed; the others are removed all the same.\n\n"
		"  --if-rev N       only if its newest revision is N\n"
		"  --if-version N   only if it has version N\n"
		"  --json           prints the revision of each, one JSON object a line\n",
	.run = run_del,
};
