/*
 * watch: what changes, from now on or from a revision on. It asks by the verb `watch`, which needs to be told where it
 * was; that there is something new to ask for it learns from the @watch of the mount's root.
 */
#include "tools/ctl.h"

#include "fs/json_bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#define PAGE 1000

struct watch_args {
	const char *from; /* as said; NULL: from now on */
	uint64_t left;    /* changes still wanted */
	char *path;       /* from the root of the tree; NULL: all */
};

/* Where it is. */
struct place {
	uint64_t rev, skip; /* rev 0: nowhere yet */
};

/* ---- one change -------------------------------------------------------------------------------- */

static void print_field(struct json_object *o, const char *key, const char *before)
{
	fputs(before, stdout);
	if (!ctl_print_bytes(o, key))
		putchar('-');
}

/* As @watch has it. */
static void print_line(struct json_object *o)
{
	printf("%" PRIu64 "\t%s\t%s", ctl_number(o, "rev"), ctl_text(o, "time"), ctl_text(o, "kind"));
	print_field(o, "path", "\t");
	printf("\t%" PRIu64 "\t%" PRIu64, ctl_number(o, "uid"), ctl_number(o, "pid"));
	print_field(o, "comm", "\t");
	if (json_object_object_get_ex(o, "path2", NULL))
		print_field(o, "path2", "\t");
	putchar('\n');
}

static int print_change(const struct ctl *ctl, struct json_object *o)
{
	if (ctl->json)
		return ctl_print_json(o);
	if (ctl->nul)
		ctl_print_nul(o, "path");
	else
		print_line(o);
	return 0;
}

/* ---- asking ------------------------------------------------------------------------------------ */

static struct json_object *make_request(const struct watch_args *args, const struct place *at, int *err)
{
	struct json_object *req = ctl_request("watch");

	*err = 0;
	if (!req)
		return NULL;
	if (at->rev) {
		*err = json_add_u64(req, "from", at->rev);
		if (!*err)
			*err = json_add_u64(req, "skip", at->skip);
	} else if (args->from) {
		*err = json_add_bytes(req, "from", slice_str(args->from));
	}
	if (!*err && args->path)
		*err = json_add_bytes(req, "path", slice_str(args->path));
	if (!*err)
		*err = json_add_u64(req, "limit", args->left < PAGE ? args->left : PAGE);
	return req;
}

/* Asks once, prints what there is, and moves on. */
static int print_page(struct ctl *ctl, struct watch_args *args, struct place *at, bool *more)
{
	struct json_object *req, *reply = NULL, *changes;
	size_t n;
	int err, status;

	req = make_request(args, at, &err);
	if (!req)
		return CTL_TROUBLE;
	status = ctl_ask_filled(ctl, req, err, &reply);
	if (status)
		return status;
	changes = ctl_array(reply, "changes", &n);
	for (size_t i = 0; i < n && !status; i++, args->left--)
		status = print_change(ctl, json_object_array_get_idx(changes, i));
	*at = (struct place){ ctl_number(reply, "from"), ctl_number(reply, "skip") };
	*more = ctl_flag(reply, "more");
	json_object_put(reply);
	return status;
}

/* ---- waiting ----------------------------------------------------------------------------------- */

static int open_watch(const struct ctl *ctl, int *fd)
{
	char *name;

	if (asprintf(&name, "%s/@watch", ctl->mountpoint) < 0)
		return ctl_complain_err(-ENOMEM, ctl->mountpoint);
	*fd = open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (*fd < 0)
		ctl_complain(CTL_TROUBLE, "%s: %s", name, strerror(errno));
	free(name);
	return *fd < 0 ? CTL_TROUBLE : 0;
}

/* Waits until @watch has something, and takes it out: what it is, is asked for. */
static int wait_for_more(const struct ctl *ctl, int *fd)
{
	struct pollfd p = { .fd = *fd, .events = POLLIN };
	char bytes[65536];
	ssize_t n;

	if (poll(&p, 1, -1) < 0)
		return errno == EINTR ? 0 : ctl_complain(CTL_TROUBLE, "poll: %s", strerror(errno));
	do
		n = read(*fd, bytes, sizeof(bytes));
	while (n > 0 || (n < 0 && errno == EINTR));
	if (n < 0 && errno == EAGAIN)
		return 0;
	close(*fd); /* it was too slow, or the mount is no more: which of them, the next question tells */
	return open_watch(ctl, fd);
}

static int watch_mount(struct ctl *ctl, struct watch_args *args)
{
	struct place at = { 0 };
	bool more = false;
	int fd = -1, status = open_watch(ctl, &fd);

	while (!status) {
		status = print_page(ctl, args, &at, &more);
		if (!ctl_flush(&status) || status || !args->left)
			break;
		if (!more)
			status = wait_for_more(ctl, &fd);
	}
	if (fd >= 0)
		close(fd);
	return status;
}

/* Nobody changes a database that we have open ourselves: what is there is all. */
static int tell_database(struct ctl *ctl, struct watch_args *args)
{
	struct place at = { 0 };
	bool more = true;
	int status = 0;

	if (!args->from)
		return ctl_complain(CTL_TROUBLE,
				    "%s is not mounted, so nothing will change; say --from N to see what "
				    "changed since revision N",
				    ctl->db_path);
	while (!status && more && args->left) {
		status = print_page(ctl, args, &at, &more);
		if (!ctl_flush(&status))
			break;
	}
	return status;
}

/* ---- arguments --------------------------------------------------------------------------------- */

static int run_args(struct ctl *ctl, struct watch_args *args, int argc, char **argv)
{
	const char *path = argc ? argv[0] : NULL;
	int status;

	if (argc > 1)
		return ctl_usage(&ctl_watch);
	status = ctl_open(ctl, path);
	if (!status && path)
		status = ctl_tree_path(ctl, path, &args->path);
	if (!status && args->left)
		status = ctl->mountpoint ? watch_mount(ctl, args) : tell_database(ctl, args);
	ctl_close(ctl);
	return status;
}

static int run(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "from", required_argument, NULL, 'f' },
						 { "count", required_argument, NULL, 'n' },
						 CTL_LONG_OPTIONS };
	struct watch_args args = { .left = UINT64_MAX };
	int opt, status;

	while ((opt = getopt_long(argc, argv, "n:" CTL_SHORT_OPTIONS, options, NULL)) != -1) {
		if (opt == 'f')
			args.from = optarg;
		else if (opt == 'n' && !ctl_parse_number(optarg, &args.left))
			return ctl_complain(CTL_TROUBLE, "-n wants a number, not \"%s\"", optarg);
		else if (opt != 'n' && !ctl_option(ctl, &ctl_watch, opt, &status))
			return status;
	}
	status = run_args(ctl, &args, argc - optind, argv + optind);
	free(args.path);
	return status;
}

const struct ctl_verb ctl_watch = {
	.name = "watch",
	.synopsis = "[--from EXPR] [-n N] [--json | -z] [PATH]",
	.summary = "what changes, as it happens",
	.help = "Prints a line for each change, until interrupted: revision, time, kind, path, uid, pid and\n"
		"program, and of a rename or link the other path, apart by tabs; as @watch has them, see\n"
		"mvccfs(7).\n\n"
		"  PATH           only changes of PATH and of what lies below it\n"
		"  --from EXPR    begin with this revision, instead of with the next one. Ends with\n"
		"                 status 13 if what changed since then was compacted away\n"
		"  -n, --count N  end after N lines\n"
		"  --json         one JSON object a line\n"
		"  -z, --null     only the paths, each ended by a NUL\n\n"
		"To go on later, say the revision after the last one seen. Of a database that is not\n"
		"mounted, --from prints what is there, and ends.\n",
	.run = run,
};
