/*
 * txn: changes that become one revision, or none. A transaction is a directory, @txn/NAME at the root of the mount
 * (mvccfs(7)); all here is done by its names, so whoever may do it by hand may do it so.
 */
#include "tools/ctl.h"

#include "fs/json_bytes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { TEXT_MAX = 1 << 20 };

/* ---- one transaction ------------------------------------------------------------------------------- */

/* A transaction by its name, and the paths of what belongs to it. */
struct txn {
	const char *name;
	char *root;
};

static int txn_init(const struct ctl *ctl, const char *name, struct txn *out)
{
	*out = (struct txn){ .name = name };
	if (!*name || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		ctl_complain(CTL_TROUBLE, "\"%s\" is no name of a transaction", name);
		return CTL_TROUBLE;
	}
	if (asprintf(&out->root, "%s/@txn/%s", ctl->mountpoint, name) < 0) {
		out->root = NULL;
		ctl_complain_err(-ENOMEM, name);
		return CTL_TROUBLE;
	}
	return 0;
}

static char *path_in(const struct txn *t, const char *more)
{
	char *path;

	return asprintf(&path, "%s/%s", t->root, more) < 0 ? NULL : path;
}

/* Opens a file of ours in a transaction. A descriptor, or -errno. */
static int open_in(const struct txn *t, const char *name, int flags)
{
	char *path = path_in(t, name);
	int fd = path ? open(path, flags | O_CLOEXEC, 0600) : -1;
	int err = fd < 0 ? (path ? -errno : -ENOMEM) : 0;

	free(path);
	return err ? err : fd;
}

static int read_all(int fd, struct buf *out)
{
	uint8_t bytes[4096];
	ssize_t n;

	while ((n = read(fd, bytes, sizeof(bytes))) > 0 && out->len < TEXT_MAX)
		if (buf_put(out, bytes, (size_t)n))
			return -ENOMEM;
	return n < 0 ? -errno : 0;
}

/* The text of @message or @conflicts. */
static int read_in(const struct txn *t, const char *name, struct buf *out)
{
	int fd = open_in(t, name, O_RDONLY), err;

	if (fd < 0)
		return fd;
	err = read_all(fd, out);
	close(fd);
	return err;
}

/* "NAME: what is wrong", with what is meant where the system's words do not tell. */
static int complain(const struct txn *t, int err)
{
	switch (err) {
	case -ENOENT:
	case -ESTALE:
		return ctl_complain(CTL_NOT_FOUND, "%s: no such transaction", t->name);
	case -EEXIST:
		return ctl_complain(CTL_TROUBLE, "%s: there is such a transaction already", t->name);
	case -EMLINK:
		return ctl_complain(CTL_TROUBLE, "%s: too many transactions are open", t->name);
	case -EPERM:
		return ctl_complain(CTL_TROUBLE, "%s: not a name for a transaction, or it is not yours",
				    t->name);
	default:
		return ctl_complain_err(err, t->name);
	}
}

static int set_message(const struct txn *t, const char *text)
{
	int fd = open_in(t, "@message", O_WRONLY | O_TRUNC), err = 0;

	if (fd < 0)
		return fd;
	if (*text && write(fd, text, strlen(text)) < 0)
		err = -errno;
	close(fd);
	return err;
}

static int txn_begin(const struct ctl *ctl, const struct txn *t)
{
	int err = mkdir(t->root, 0700) ? -errno : 0;

	if (!err && ctl->message) {
		err = set_message(t, ctl->message);
		if (err)
			rmdir(t->root);
	}
	return err;
}

static int txn_abort(const struct txn *t)
{
	return rmdir(t->root) ? -errno : 0;
}

/* `*rev`: the revision it has become, or the newest if nothing was done. */
static int txn_commit(const struct txn *t, uint64_t *rev)
{
	struct buf text = { 0 };
	int fd = open_in(t, "@commit", O_RDWR | O_CREAT), err;

	*rev = 0;
	if (fd < 0)
		return fd;
	err = read_all(fd, &text);
	close(fd);
	if (!err)
		err = buf_put_u8(&text, 0);
	if (!err)
		*rev = strtoull((char *)text.data, NULL, 10);
	buf_release(&text);
	return 0; /* it is committed; only its number may be unknown */
}

/* Tells what others have changed, on stderr. The exit status. */
static int complain_conflicts(const struct txn *t)
{
	struct buf text = { 0 };
	int err = read_in(t, "@conflicts", &text);
	size_t n = 0;

	for (size_t i = 0; i < text.len; i++)
		n += text.data[i] == '\n';
	if (err || !n) {
		ctl_complain(0, "%s: others have changed what it has read or changed", t->name);
	} else {
		ctl_complain(0, "%s: others have changed since what it has read or changed:", t->name);
		fwrite(text.data, 1, text.len, stderr);
	}
	buf_release(&text);
	return CTL_NOT_FOUND;
}

/* ---- orders ---------------------------------------------------------------------------------------- */

static int begin(struct ctl *ctl, const struct txn *t)
{
	int err = txn_begin(ctl, t);

	if (err)
		return complain(t, err);
	printf("%s\n", t->root);
	return 0;
}

static int commit(struct ctl *ctl, const struct txn *t)
{
	uint64_t rev;
	int err = ctl->message ? set_message(t, ctl->message) : 0;

	if (!err)
		err = txn_commit(t, &rev);
	if (err == -EBUSY)
		return complain_conflicts(t);
	if (err)
		return complain(t, err);
	printf("%" PRIu64 "\n", rev);
	return 0;
}

static int abort_txn(struct ctl *ctl, const struct txn *t)
{
	int err = txn_abort(t);

	(void)ctl;
	return err ? complain(t, err) : 0;
}

/* ---- list ------------------------------------------------------------------------------------------ */

/* What is known of an open transaction. */
struct facts {
	uint64_t base, uid;
	int64_t begun_ns;
	bool conflicts;
	struct buf message;
};

static int learn(const struct txn *t, struct facts *out)
{
	struct buf conflicts = { 0 };
	char text[32] = "";
	struct stat st;
	int fd = open_in(t, "@message", O_RDONLY), err;

	if (fd < 0)
		return fd;
	err = fstat(fd, &st) ? -errno : read_all(fd, &out->message);
	if (!err && fgetxattr(fd, "user.mvccfs.rev", text, sizeof(text) - 1) < 0)
		err = -errno;
	close(fd);
	if (!err)
		err = read_in(t, "@conflicts", &conflicts);
	if (!err) {
		out->uid = st.st_uid;
		out->begun_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
		out->base = strtoull(text, NULL, 10);
		out->conflicts = conflicts.len > 0;
	}
	if (!err && out->message.len && out->message.data[out->message.len - 1] == '\n')
		out->message.len--;
	buf_release(&conflicts);
	return err;
}

static int print_json(const struct txn *t, const struct facts *f)
{
	struct json_object *o = json_object_new_object();
	int err = o ? 0 : -ENOMEM, status;

	if (!err)
		err = json_add_bytes(o, "name", slice_str(t->name));
	if (!err)
		err = json_add_u64(o, "base", f->base);
	if (!err)
		err = json_add_u64(o, "begun_ns", (uint64_t)f->begun_ns);
	if (!err)
		err = json_add_u64(o, "uid", f->uid);
	if (!err && json_object_object_add(o, "conflicts", json_object_new_boolean(f->conflicts)))
		err = -ENOMEM;
	if (!err && f->message.len)
		err = json_add_bytes(o, "message", slice_buf(&f->message));
	status = err ? ctl_complain_err(err, t->name) : ctl_print_json(o);
	json_object_put(o);
	return status;
}

static int print_facts(const struct ctl *ctl, const struct txn *t, const struct facts *f)
{
	char time[64];

	if (ctl->json)
		return print_json(t, f);
	ctl_format_time(f->begun_ns, time);
	printf("%6" PRIu64 "  %s  %-8s  ", f->base, time, ctl_user_name((uint32_t)f->uid));
	ctl_print_escaped(stdout, slice_str(t->name));
	if (f->conflicts)
		printf("  (conflicts)");
	if (f->message.len) {
		printf("  \"");
		ctl_print_escaped(stdout, slice_buf(&f->message));
		putchar('"');
	}
	putchar('\n');
	return 0;
}

static int list_one(const struct ctl *ctl, const char *name)
{
	struct facts f = { 0 };
	struct txn t;
	int err, status = txn_init(ctl, name, &t);

	if (!status && ctl->nul) {
		printf("%s", name);
		putchar('\0');
	} else if (!status) {
		err = learn(&t, &f);
		if (!err)
			status = print_facts(ctl, &t, &f);
		else if (err != -ENOENT && err != -ESTALE) /* ended meanwhile */
			status = complain(&t, err);
	}
	buf_release(&f.message);
	free(t.root);
	return status;
}

static int list(struct ctl *ctl)
{
	struct dirent *entry;
	int status = 0;
	char *path;
	DIR *dir;

	if (asprintf(&path, "%s/@txn", ctl->mountpoint) < 0)
		return ctl_complain_err(-ENOMEM, "@txn");
	dir = opendir(path);
	if (!dir)
		status = ctl_complain_err(-errno, path);
	while (dir && !status && (entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			status = list_one(ctl, entry->d_name);
	if (dir)
		closedir(dir);
	free(path);
	return status;
}

/* ---- a command in one ------------------------------------------------------------------------------ */

/* The directory in the transaction that stands for the working directory; its root, if that is elsewhere. */
static int place_in(const struct ctl *ctl, const struct txn *t, char **out)
{
	char *place = NULL;
	int status = ctl_cwd_place(ctl, &place);

	if (status)
		return status;
	if (place && strncmp(place, "/@txn/", 6) == 0)
		status = ctl_complain(CTL_TROUBLE, "the working directory is in a transaction already");
	else if (asprintf(out, "%s%s", t->root, place ? place : "") < 0)
		status = ctl_complain_err(-ENOMEM, t->name);
	free(place);
	return status;
}

/* Begins one under a name that nobody has. */
static int begin_fresh(struct ctl *ctl, struct txn *t, char name[32])
{
	int err = -EEXIST;

	for (unsigned i = 0; err == -EEXIST; i++) {
		snprintf(name, 32, i ? "txn-%d-%u" : "txn-%d", getpid(), i);
		free(t->root);
		if (txn_init(ctl, name, t))
			return CTL_TROUBLE;
		err = txn_begin(ctl, t);
	}
	return err ? complain(t, err) : 0;
}

/* Commits what a command that ended well has done, or drops it all. The exit status is the command's. */
static int end(const struct txn *t, int status)
{
	uint64_t rev;
	int err = status ? -ECANCELED : txn_commit(t, &rev);

	if (!err)
		return 0;
	if (err == -EBUSY)
		status = complain_conflicts(t);
	else if (err != -ECANCELED)
		status = complain(t, err);
	err = txn_abort(t);
	if (err && err != -ENOENT) /* the command may have ended it itself */
		complain(t, err);
	return status;
}

static int run_in(struct ctl *ctl, char **command)
{
	struct txn t = { 0 };
	char name[32], *dir = NULL;
	int status = begin_fresh(ctl, &t, name);

	if (!status) {
		status = place_in(ctl, &t, &dir);
		if (!status)
			status = ctl_run_command(command, dir);
		status = end(&t, status);
	}
	free(dir);
	free(t.root);
	return status;
}

/* ---- for other verbs --------------------------------------------------------------------------------- */

int ctl_txn_begin(struct ctl *ctl, char **root)
{
	struct txn t = { 0 };
	char name[32];
	int status = begin_fresh(ctl, &t, name);

	if (status)
		free(t.root);
	else
		*root = t.root;
	return status;
}

int ctl_txn_end(char *root, int status, uint64_t *rev)
{
	const struct txn t = { .name = strrchr(root, '/') + 1, .root = root };
	int err = status ? 0 : txn_commit(&t, rev);

	if (err)
		status = err == -EBUSY ? complain_conflicts(&t) : complain(&t, err);
	if (status)
		txn_abort(&t);
	free(root);
	return status;
}

/* ---- arguments ------------------------------------------------------------------------------------- */

static const struct order {
	const char *name;
	int (*run)(struct ctl *ctl, const struct txn *t);
} orders[] = { { "begin", begin }, { "commit", commit }, { "abort", abort_txn } };
#define NORDERS (sizeof(orders) / sizeof(orders[0]))

/* The order that the words mean; NULL: none, or they are not enough. */
static const struct order *order_of(int n, char **words)
{
	for (size_t i = 0; n == 2 && i < NORDERS; i++)
		if (strcmp(words[0], orders[i].name) == 0)
			return &orders[i];
	return NULL;
}

static int run_order(struct ctl *ctl, const struct order *order, const char *name)
{
	struct txn t;
	int status = txn_init(ctl, name, &t);

	if (!status)
		status = order->run(ctl, &t);
	free(t.root);
	return status;
}

static int run(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "message", required_argument, NULL, CTL_OPT_MESSAGE },
						 CTL_LONG_OPTIONS };
	const struct order *order;
	bool command, lists;
	int opt, status, n;

	while ((opt = getopt_long(argc, argv, CTL_SHORT_OPTIONS, options, NULL)) != -1)
		if (!ctl_option(ctl, &ctl_txn, opt, &status))
			return status;
	n = argc - optind;
	command = n && strcmp(argv[optind - 1], "--") == 0;
	lists = n == 1 && strcmp(argv[optind], "list") == 0;
	order = order_of(n, argv + optind);
	if (!command && !order && !lists)
		return ctl_usage(&ctl_txn);
	status = ctl_open(ctl, NULL);
	if (!status && !ctl->mountpoint)
		status = ctl_complain(CTL_TROUBLE, "a transaction needs the database to be mounted");
	if (!status)
		status = command ? run_in(ctl, argv + optind) :
			 lists   ? list(ctl) :
				   run_order(ctl, order, argv[optind + 1]);
	ctl_close(ctl);
	return status;
}

const struct ctl_verb ctl_txn = {
	.name = "txn",
	.synopsis = "[--message M] -- CMD [ARGUMENT...] | begin NAME | commit NAME | abort NAME | list",
	.summary = "many changes as one revision, or none",
	.help = "  [--message M] -- CMD   runs CMD in a transaction of its own, in the directory there that\n"
		"                         stands for the working directory. If CMD ends with 0, all it did\n"
		"                         becomes one revision; else nothing of it remains\n"
		"  begin NAME             begins one, and prints its directory. --message M: for the log\n"
		"  commit NAME            makes it a revision, and prints its number. --message M\n"
		"  abort NAME             drops it\n"
		"  list                   those that are open: the revision each began with, when, by whom.\n"
		"                         --json: one JSON object a line; -z: the names, each ended by a "
		"NUL\n\n"
		"A transaction in which others have since changed what it has read or changed cannot be\n"
		"committed: the paths are told, and the status is 1. That of CMD is dropped, others stay.\n"
		"Exit status of -- CMD: that of CMD, 128 + N if signal N ended it, 126 if it cannot be run,\n"
		"127 if there is none.\n",
	.run = run,
};
