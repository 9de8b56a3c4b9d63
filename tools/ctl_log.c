#include "tools/ctl_diff.h"

#include "fs/expr.h"
#include "fs/json_bytes.h"
#include "fs/ns.h"
#include "fs/query.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <pwd.h>
#include <stdlib.h>

enum { OPT_SINCE = 256, OPT_UNTIL, OPT_USER, OPT_COMM, OPT_OP, OPT_SESSION, OPT_STAT };

struct log_args {
	char *path;          /* from the root of the tree; NULL: all */
	struct buf from, to; /* as texts; empty: no bound */
	uint64_t limit;
	const char *comm, *op, *session; /* NULL: any */
	bool by_uid;
	uint32_t uid;
	int64_t since_ns, until_ns; /* 0: any; no revision is of 1970 */
	bool diff;                  /* tell what each changed, */
	enum ctl_diff_form form;    /* so */
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
	print_member(o, "session", "  [", "]");
	print_member(o, "message", "  \"", "\"");
	putchar('\n');
}

/* What the revision changed; a blank line ends it. */
static int print_diff(struct ctl *ctl, const struct log_args *args, uint64_t rev)
{
	struct ctl_diff d = { .ctl = ctl, .form = args->form, .color = ctl_want_color() };
	char from[24], to[24];
	int status;

	if (rev == MVCC_REV_FIRST)
		return 0;
	snprintf(from, sizeof(from), "%" PRIu64, rev - 1);
	snprintf(to, sizeof(to), "%" PRIu64, rev);
	status = ctl_diff_end(&d, ctl_diff_ask(&d, NULL, from, to));
	putchar('\n');
	return status;
}

static int print_entry(struct ctl *ctl, const struct log_args *args, struct json_object *o)
{
	if (ctl->json)
		return ctl_print_json(o);
	if (ctl->nul)
		ctl_print_nul(o, "path");
	else
		print_line(o);
	return args->diff ? print_diff(ctl, args, ctl_number(o, "rev")) : 0;
}

/* ---- pages of them ------------------------------------------------------------------------------- */

static int add_filters(const struct log_args *args, struct json_object *req)
{
	int err = args->by_uid ? json_add_u64(req, "uid", args->uid) : 0;

	if (!err && args->comm)
		err = json_add_str(req, "comm", args->comm);
	if (!err && args->op)
		err = json_add_str(req, "op", args->op);
	if (!err && args->session)
		err = json_add_str(req, "session", args->session);
	if (!err && args->since_ns)
		err = json_add_i64(req, "since_ns", args->since_ns);
	if (!err && args->until_ns)
		err = json_add_i64(req, "until_ns", args->until_ns);
	return err;
}

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
		err = add_filters(args, req);
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

static int print_page(struct ctl *ctl, const struct log_args *args, struct json_object *reply, uint64_t *left)
{
	struct json_object *entries;
	size_t n;
	int status = 0;

	if (!json_object_object_get_ex(reply, "entries", &entries) ||
	    !json_object_is_type(entries, json_type_array))
		return ctl_complain(CTL_TROUBLE, "the reply has no entries");
	n = json_object_array_length(entries);
	for (size_t i = 0; i < n && *left && !status; i++, --*left)
		status = print_entry(ctl, args, json_object_array_get_idx(entries, i));
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
		status = print_page(ctl, args, reply, &left);
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

static bool parse_time(const char *arg, bool end, int64_t *out)
{
	struct expr_time time;

	if (expr_time(slice_str(arg), ns_time_ns(), &time))
		return false;
	*out = end ? time.to_ns : time.from_ns;
	return true;
}

/* A name of a user, or a number. */
static bool parse_user(const char *arg, uint32_t *out)
{
	struct passwd *pw = getpwnam(arg);
	uint64_t uid;

	if (pw)
		*out = pw->pw_uid;
	else if (ctl_parse_number(arg, &uid) && uid <= UINT32_MAX)
		*out = (uint32_t)uid;
	else
		return false;
	return true;
}

/* Takes an option of log alone: 0, or the exit status after it was said what is wrong. */
static int take_option(struct log_args *args, int opt)
{
	switch (opt) {
	case 'n':
		return ctl_parse_number(optarg, &args->limit) ?
			       0 :
			       ctl_complain(CTL_TROUBLE, "-n wants a number, not \"%s\"", optarg);
	case OPT_SINCE:
	case OPT_UNTIL:
		if (parse_time(optarg, opt == OPT_UNTIL,
			       opt == OPT_SINCE ? &args->since_ns : &args->until_ns))
			return 0;
		return ctl_complain(
			CTL_TROUBLE,
			"\"%s\" is no time; say 2026-11-22, 2026-11-22T23:30, @1795393438, -5m or yesterday",
			optarg);
	case OPT_USER:
		args->by_uid = parse_user(optarg, &args->uid);
		return args->by_uid ? 0 : ctl_complain(CTL_TROUBLE, "there is no user \"%s\"", optarg);
	case 'p':
	case OPT_STAT:
		args->diff = true;
		args->form = opt == 'p' ? CTL_DIFF_PATCH : CTL_DIFF_STAT;
		return 0;
	case OPT_COMM:
		args->comm = optarg;
		return 0;
	case OPT_OP:
		args->op = optarg;
		return 0;
	default:
		args->session = optarg;
		return 0;
	}
}

static int run_args(struct ctl *ctl, struct log_args *args, int argc, char **argv)
{
	struct slice from = { 0 }, to = { 0 };
	const char *path = NULL;
	bool ranged = false;
	int status;

	for (int i = 0; i < argc; i++) {
		if (!ranged && ctl_parse_range(argv[i], &from, &to))
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
						 { "since", required_argument, NULL, OPT_SINCE },
						 { "until", required_argument, NULL, OPT_UNTIL },
						 { "user", required_argument, NULL, OPT_USER },
						 { "comm", required_argument, NULL, OPT_COMM },
						 { "op", required_argument, NULL, OPT_OP },
						 { "session", required_argument, NULL, OPT_SESSION },
						 { "patch", no_argument, NULL, 'p' },
						 { "stat", no_argument, NULL, OPT_STAT },
						 CTL_LONG_OPTIONS };
	struct log_args args = { .limit = UINT64_MAX };
	int opt, status;

	while ((opt = getopt_long(argc, argv, "n:p" CTL_SHORT_OPTIONS, options, NULL)) != -1) {
		bool own = opt == 'n' || opt == 'p' || (opt >= OPT_SINCE && opt <= OPT_STAT);

		status = own ? take_option(&args, opt) : 0;
		if (status || (!own && !ctl_option(ctl, &ctl_log, opt, &status)))
			return status;
	}
	if (args.diff && (ctl->json || ctl->nul))
		return ctl_complain(CTL_TROUBLE, "--json and -z do not go with -p and --stat");
	status = run_args(ctl, &args, argc - optind, argv + optind);
	free(args.path);
	buf_release(&args.from);
	buf_release(&args.to);
	return status;
}

const struct ctl_verb ctl_log = {
	.name = "log",
	.synopsis = "[-n N] [FILTER...] [-p | --stat | --json | -z] [PATH] [A..B]",
	.summary = "what was changed, when and by whom",
	.help = "Lists revisions, newest first, one a line: revision, local time, user, program, operation,\n"
		"path, after <- the other path of a rename or link, [session] and \"message\" if it has "
		"them.\n\n"
		"  PATH           only changes of PATH and of what lies below it\n"
		"  A..B           only revisions from A to B; either may be left out. Each is\n"
		"                 a number, head, head~3, a tag or a time; see mvccfs(7)\n"
		"  -n, --limit N  at most N\n"
		"  --since TIME   only what was committed at TIME or later, --until TIME: or earlier; a day\n"
		"                 or minute is meant whole. Times are those of mvccfs(7): 2026-11-22, -5m, "
		"yesterday\n"
		"  --user U       only what this user did (a name or number), --comm C: this program,\n"
		"                 --op WORD: by this operation, --session S: with this label\n"
		"  -p, --patch    with each, what it changed, as a patch; --stat: how many lines\n"
		"  --json         one JSON object a line\n"
		"  -z, --null     only the paths, each ended by a NUL\n",
	.run = run,
};
