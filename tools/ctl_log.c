#include "tools/ctl.h"

#include "fs/json_bytes.h"
#include "fs/query.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>

struct log_args {
	char *path;          /* from the root of the tree; NULL: all */
	struct buf from, to; /* as texts; empty: no bound */
	uint64_t limit;
};

/* ---- one entry ----------------------------------------------------------------------------------- */

/* Is there something to print? */
static bool print_member(struct json_object *o, const char *key, const char *before, const char *after)
{
	struct json_object *member;

	if (!json_object_object_get_ex(o, key, &member) || !json_object_get_string_len(member))
		return false;
	fputs(before, stdout);
	ctl_print_bytes(o, key);
	fputs(after, stdout);
	return true;
}

/* Words in columns, where a longer one pushes the rest aside. */
static void print_column(struct json_object *o, const char *key, int width)
{
	struct json_object *member;
	int len = 0;

	if (json_object_object_get_ex(o, key, &member))
		len = json_object_get_string_len(member);
	print_member(o, key, "", "");
	printf("%*s", len < width ? width - len + 2 : 2, "");
}

static void print_line(struct json_object *o)
{
	char time[64];

	ctl_format_time((int64_t)ctl_number(o, "time_ns"), time);
	printf("%6" PRIu64 "  %s  %-8s  ", ctl_number(o, "rev"), time,
	       ctl_user_name((uint32_t)ctl_number(o, "uid")));
	print_column(o, "comm", 12);
	print_column(o, "op", 8);
	if (!print_member(o, "path", "", ""))
		putchar('/'); /* the tree as a whole */
	print_member(o, "path2", " <- ", "");
	print_member(o, "message", "  \"", "\"");
	putchar('\n');
}

static int print_entry(const struct ctl *ctl, struct json_object *o)
{
	if (ctl->json)
		return ctl_print_json(o);
	if (ctl->nul)
		ctl_print_nul(o, "path");
	else
		print_line(o);
	return 0;
}

/* ---- pages of them ------------------------------------------------------------------------------- */

static int make_request(const struct log_args *args, uint64_t left, struct json_object **out)
{
	struct json_object *req = json_object_new_object();
	int err = req ? json_add_str(req, "verb", "log") : -ENOMEM;

	if (!err && args->path)
		err = json_add_bytes(req, "path", slice_str(args->path));
	if (!err && args->from.len)
		err = json_add_bytes(req, "from", slice_buf(&args->from));
	if (!err && args->to.len)
		err = json_add_bytes(req, "to", slice_buf(&args->to));
	if (!err)
		err = json_add_u64(req, "limit", left < QUERY_LIMIT_MAX ? left : QUERY_LIMIT_MAX);
	if (err) {
		json_object_put(req);
		return ctl_complain_err(err, "log");
	}
	*out = req;
	return 0;
}

/* The bounds of the next page, as the last reply had them: "head" may mean something else by then. */
static int set_rev(struct buf *text, uint64_t rev)
{
	char digits[24];

	snprintf(digits, sizeof(digits), "%" PRIu64, rev);
	return buf_copy(text, slice_str(digits)) ? ctl_complain_err(-ENOMEM, "log") : 0;
}

static int print_page(const struct ctl *ctl, struct json_object *reply, uint64_t *left)
{
	struct json_object *entries;
	size_t n;
	int status = 0;

	if (!json_object_object_get_ex(reply, "entries", &entries) ||
	    !json_object_is_type(entries, json_type_array))
		return ctl_complain(CTL_TROUBLE, "the reply has no entries");
	n = json_object_array_length(entries);
	for (size_t i = 0; i < n && *left && !status; i++, --*left)
		status = print_entry(ctl, json_object_array_get_idx(entries, i));
	return status;
}

static int print_log(struct ctl *ctl, struct log_args *args)
{
	uint64_t left = args->limit, next = 1;
	int status = 0;

	while (!status && next && left) {
		struct json_object *req = NULL, *reply = NULL;

		status = make_request(args, left, &req);
		if (status)
			break;
		status = ctl_ask(ctl, req, &reply);
		json_object_put(req);
		if (status)
			break;
		status = print_page(ctl, reply, &left);
		next = ctl_number(reply, "next");
		if (!status && next)
			status = set_rev(&args->from, ctl_number(reply, "from"));
		if (!status && next)
			status = set_rev(&args->to, next);
		json_object_put(reply);
		if (!ctl_flush(&status))
			break;
	}
	return status;
}

/* ---- arguments ----------------------------------------------------------------------------------- */

/* Anything that is no path: a tag may be called anything but that. */
static bool is_bound(struct slice s)
{
	return !s.len || !memchr(s.data, '/', s.len);
}

/* "A..B", "..B" or "A..". A path that looks like one can be written ./A..B. ".." alone is the parent. */
static bool parse_range(const char *arg, struct slice *from, struct slice *to)
{
	const char *dots = strstr(arg, "..");
	struct slice left, right;

	if (!dots || strcmp(arg, "..") == 0)
		return false;
	left = slice_of(arg, (size_t)(dots - arg));
	right = slice_str(dots + 2);
	if (!is_bound(left) || !is_bound(right))
		return false;
	*from = left;
	*to = right;
	return true;
}

static int run_args(struct ctl *ctl, struct log_args *args, int argc, char **argv)
{
	struct slice from = { 0 }, to = { 0 };
	const char *path = NULL;
	bool ranged = false;
	int status;

	for (int i = 0; i < argc; i++) {
		if (!ranged && parse_range(argv[i], &from, &to))
			ranged = true;
		else if (!path)
			path = argv[i];
		else
			return ctl_usage(&ctl_log);
	}
	if (buf_copy(&args->from, from) || buf_copy(&args->to, to))
		return ctl_complain_err(-ENOMEM, "log");
	status = ctl_open(ctl, path);
	if (!status && path)
		status = ctl_tree_path(ctl, path, &args->path);
	if (!status)
		status = print_log(ctl, args);
	ctl_close(ctl);
	return status;
}

static int run(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "limit", required_argument, NULL, 'n' },
						 CTL_LONG_OPTIONS };
	struct log_args args = { .limit = UINT64_MAX };
	int opt, status;

	while ((opt = getopt_long(argc, argv, "n:" CTL_SHORT_OPTIONS, options, NULL)) != -1) {
		if (opt == 'n' && ctl_parse_number(optarg, &args.limit))
			continue;
		if (opt == 'n')
			return ctl_complain(CTL_TROUBLE, "-n wants a number, not \"%s\"", optarg);
		if (!ctl_option(ctl, &ctl_log, opt, &status))
			return status;
	}
	status = run_args(ctl, &args, argc - optind, argv + optind);
	free(args.path);
	buf_release(&args.from);
	buf_release(&args.to);
	return status;
}

const struct ctl_verb ctl_log = {
	.name = "log",
	.synopsis = "[-n N] [--json | -z] [PATH] [A..B]",
	.summary = "what was changed, when and by whom",
	.help = "Lists revisions, newest first, one a line: revision, local time, user, program, operation,\n"
		"path, and after <- the other path of a rename or link.\n\n"
		"  PATH           only changes of PATH and of what lies below it\n"
		"  A..B           only revisions from A to B; either may be left out. Each is\n"
		"                 a number, head, head~3, a tag or a time; see mvccfs(7)\n"
		"  -n, --limit N  at most N\n"
		"  --json         one JSON object a line\n"
		"  -z, --null     only the paths, each ended by a NUL\n",
	.run = run,
};
