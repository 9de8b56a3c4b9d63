/* compact, retain, why: what of history stays, and for how long. */
#include "tools/ctl.h"

#include "fs/json_bytes.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <string.h>

/* Asks, prints the reply as JSON if that is wanted, or as `print` does. Takes `req`. */
static int ask_and_print(struct ctl *ctl, struct json_object *req, int err,
			 void (*print)(struct json_object *reply))
{
	struct json_object *reply;
	int status = ctl_ask_long(ctl, req, err, &reply);

	if (status)
		return status;
	if (ctl->json)
		status = ctl_print_json(reply);
	else
		print(reply);
	json_object_put(reply);
	return status;
}

/* ---- compact --------------------------------------------------------------------------------------- */

struct compact_args {
	const char *rev;
	uint64_t keep; /* 0: not said */
	bool wait, dry;
};

static void print_compact(struct json_object *o)
{
	uint64_t was = ctl_number(o, "was"), floor = ctl_number(o, "floor"), tagged = ctl_number(o, "tagged");

	if (floor == was)
		printf("nothing to do: the oldest revision is %" PRIu64 "\n", was);
	else
		printf("the oldest revision is %" PRIu64 ", and was %" PRIu64 "; of %" PRIu64
		       " before it, %" PRIu64 " stay by their tags\n",
		       floor, was, floor - was, tagged);
	if (ctl_flag(o, "held"))
		ctl_complain(0,
			     "a reader of the past holds back some of the space; it returns when that ends");
}

static void print_compact_dry(struct json_object *o)
{
	uint64_t was = ctl_number(o, "was"), floor = ctl_number(o, "floor"), tagged = ctl_number(o, "tagged");

	if (floor <= was)
		printf("nothing would go: the oldest revision is %" PRIu64 "\n", was);
	else
		printf("the oldest revision would be %" PRIu64 ", and is %" PRIu64 "; of %" PRIu64
		       " before it, %" PRIu64 " would stay by their tags\n",
		       floor, was, floor - was, tagged);
}

static int ask_compact(struct ctl *ctl, const struct compact_args *args)
{
	struct json_object *req = ctl_request("compact");
	int err = 0;

	if (!req)
		return CTL_TROUBLE;
	if (args->rev)
		err = json_add_bytes(req, "rev", slice_str(args->rev));
	if (!err && args->keep)
		err = json_add_u64(req, "keep", args->keep);
	if (!err && args->wait)
		err = json_add_bool(req, "wait", true);
	if (!err && args->dry)
		err = json_add_bool(req, "dry_run", true);
	return ask_and_print(ctl, req, err, args->dry ? print_compact_dry : print_compact);
}

static int run_compact(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "keep", required_argument, NULL, 'k' },
						 { "wait", no_argument, NULL, 'w' },
						 { "dry-run", no_argument, NULL, 'n' },
						 CTL_LONG_OPTIONS };
	struct compact_args args = { 0 };
	int opt, status;

	while ((opt = getopt_long(argc, argv, "k:wn" CTL_SHORT_OPTIONS, options, NULL)) != -1) {
		if (opt == 'k' && (!ctl_parse_number(optarg, &args.keep) || !args.keep))
			return ctl_complain(CTL_TROUBLE, "--keep wants a number from 1 up, not \"%s\"",
					    optarg);
		if (opt == 'w')
			args.wait = true;
		else if (opt == 'n')
			args.dry = true;
		else if (opt != 'k' && !ctl_option(ctl, &ctl_compact, opt, &status))
			return status;
	}
	if (argc - optind > 1 || (argc > optind && args.keep) || ctl->nul)
		return ctl_usage(&ctl_compact);
	args.rev = argv[optind];
	status = ctl_open(ctl, NULL);
	if (!status)
		status = ask_compact(ctl, &args);
	ctl_close(ctl);
	return status;
}

const struct ctl_verb ctl_compact = {
	.name = "compact",
	.synopsis = "[--wait] [--dry-run] [--json] [N | --keep K]",
	.summary = "let old history go",
	.help = "Lets go of all revisions before N but those with a tag. N itself, and the tree as it is "
		"now,\n"
		"stay. The space comes back in the background. Without N: what the retention policy asks "
		"for.\n\n"
		"  -k, --keep K    the newest K revisions stay\n"
		"  -w, --wait      returns when the space is back\n"
		"  -n, --dry-run   only tells what would go\n",
	.run = run_compact,
};

/* ---- retain ---------------------------------------------------------------------------------------- */

static const struct {
	const char *option, *key;
	bool (*parse)(const char *arg, uint64_t *out);
	const char *wanted;
} policy_options[] = {
	{ "keep-all", "keep_all_s", ctl_parse_span, "a time such as 30d or 12h" },
	{ "revs", "keep_revs", ctl_parse_number, "a number" },
	{ "hourly", "hourly", ctl_parse_number, "a number" },
	{ "daily", "daily", ctl_parse_number, "a number" },
	{ "weekly", "weekly", ctl_parse_number, "a number" },
	{ "monthly", "monthly", ctl_parse_number, "a number" },
	{ "yearly", "yearly", ctl_parse_number, "a number" },
	{ "free", "free_bytes", ctl_parse_bytes, "bytes, such as 10G" },
};
#define NPOLICY (sizeof(policy_options) / sizeof(policy_options[0]))

static void print_kept(struct json_object *o)
{
	static const char *const units[] = { "hour", "day", "week", "month", "year" };
	uint64_t s = ctl_number(o, "keep_all_s"), revs = ctl_number(o, "keep_revs");
	char text[32];
	bool any = false;

	ctl_format_span(s, text);
	if (s)
		printf("kept: all of the last %s", text);
	if (revs)
		printf("%s the newest %" PRIu64 " revisions", s ? ", and" : "kept:", revs);
	putchar('\n');
	for (size_t i = 0; i < 5; i++) {
		uint64_t n = ctl_number(o, policy_options[i + 2].key);

		if (n)
			printf("%s the last %" PRIu64 " %ss", any ? "," : "before that the newest of each of",
			       n, units[i]);
		any |= n != 0;
	}
	if (any)
		putchar('\n');
}

static void print_policy(struct json_object *o)
{
	uint64_t spare = ctl_number(o, "free_bytes"), now = ctl_number(o, "floor");
	char text[32];

	if (ctl_number(o, "keep_all_s") || ctl_number(o, "keep_revs"))
		print_kept(o);
	else
		puts("kept: everything");
	ctl_format_bytes(spare, text);
	if (spare)
		printf("while less than %s of the disk is free, the oldest history goes\n", text);
	if (json_object_object_get_ex(o, "floor_would_be", NULL)) {
		uint64_t would = ctl_number(o, "floor_would_be");

		printf("now the oldest revision would be %" PRIu64 ", and is %" PRIu64 "; %" PRIu64
		       " automatic tags would be made, %" PRIu64 " taken away\n",
		       would, now, ctl_number(o, "tags_made"), ctl_number(o, "tags_taken"));
	} else {
		printf("the oldest revision is %" PRIu64 "\n", now);
	}
}

static int run_retain(struct ctl *ctl, int argc, char **argv)
{
	struct option options[NPOLICY + 8];
	const struct option rest[] = { { "off", no_argument, NULL, 'o' },
				       { "dry-run", no_argument, NULL, 'n' },
				       CTL_LONG_OPTIONS };
	struct json_object *req = ctl_request("retain");
	int opt, err = req ? 0 : -ENOMEM, status = req ? 0 : CTL_TROUBLE;
	uint64_t value;

	_Static_assert(sizeof(rest) / sizeof(rest[0]) <= 8, "they all have a place");
	for (size_t i = 0; i < NPOLICY; i++)
		options[i] =
			(struct option){ policy_options[i].option, required_argument, NULL, 256 + (int)i };
	memcpy(options + NPOLICY, rest, sizeof(rest));
	while (!err && (opt = getopt_long(argc, argv, "n" CTL_SHORT_OPTIONS, options, NULL)) != -1) {
		size_t i = opt < 256 ? NPOLICY : (size_t)opt - 256;

		if (opt == 'o') {
			err = json_add_bool(req, "off", true);
		} else if (opt == 'n') {
			err = json_add_bool(req, "dry_run", true);
		} else if (i >= NPOLICY) {
			if (!ctl_option(ctl, &ctl_retain, opt, &status))
				goto out;
		} else if (policy_options[i].parse(optarg, &value) && value <= INT64_MAX) {
			err = json_add_u64(req, policy_options[i].key, value);
		} else {
			status = ctl_complain(CTL_TROUBLE, "--%s wants %s, not \"%s\"",
					      policy_options[i].option, policy_options[i].wanted, optarg);
			goto out;
		}
	}
	if (!status && (optind != argc || ctl->nul))
		status = ctl_usage(&ctl_retain);
	if (status)
		goto out;
	status = ctl_open(ctl, NULL);
	if (!status) {
		status = ask_and_print(ctl, req, err, print_policy);
		req = NULL;
	}
	ctl_close(ctl);
out:
	json_object_put(req);
	return status;
}

const struct ctl_verb ctl_retain = {
	.name = "retain",
	.synopsis = "[POLICY...] [--off] [--dry-run] [--json]",
	.summary = "how much history is kept: show or set",
	.help = "Without a policy, prints the one that is set. What is not said stays as it is; 0 takes it "
		"away.\n\n"
		"  --keep-all SPAN  everything of the last SPAN stays: 90m, 12h, 30d, 2w, 1y\n"
		"  --revs N         the newest N revisions stay, too\n"
		"  --hourly N       of the time before, the newest revision of each of the last N hours "
		"stays,\n"
		"  --daily N        and so on: by automatic tags. Neither --keep-all nor --revs: everything\n"
		"  --weekly N       stays for ever\n"
		"  --monthly N\n"
		"  --yearly N\n"
		"  --free BYTES     while less of the disk is free, the oldest history goes: 512M, 10G\n"
		"  --off            keeps everything from now on; what follows it is said anew\n"
		"  -n, --dry-run    sets nothing, and tells what would go at once\n",
	.run = run_retain,
};

/* ---- why ------------------------------------------------------------------------------------------- */

static void print_reasons(struct json_object *o)
{
	uint64_t tags = ctl_number(o, "tags"), views = ctl_number(o, "views"), until;
	char time[64];

	if (ctl_flag(o, "newest"))
		puts("  it is the newest");
	if (ctl_flag(o, "above_floor")) {
		until = ctl_number(o, "policy_ns");
		ctl_format_time((int64_t)until, time);
		puts("  nothing from it on was compacted");
		if (until)
			printf("  the retention policy keeps it until %s, by its age\n", time);
	}
	if (tags) {
		printf("  it has the %stag ", ctl_flag(o, "auto") ? "automatic " : "");
		ctl_print_bytes(o, "tag");
		if (tags > 1)
			printf(", and %" PRIu64 " more", tags - 1);
		putchar('\n');
	}
	if (views)
		printf("  it is being read: %" PRIu64 " times\n", views);
}

static void print_why(struct json_object *o)
{
	int64_t time_ns = (int64_t)ctl_number(o, "time_ns");
	char time[64];

	printf("revision %" PRIu64, ctl_number(o, "rev"));
	ctl_format_time(time_ns, time);
	if (time_ns)
		printf(", of %s", time);
	if (ctl_flag(o, "readable")) {
		puts(", is there:");
		print_reasons(o);
	} else {
		puts(" was compacted away: no tag keeps it");
	}
}

static int ask_why(struct ctl *ctl, const char *rev)
{
	struct json_object *req = ctl_request("why"), *reply;
	int err = req ? json_add_bytes(req, "rev", slice_str(rev)) : 0, status;

	if (!req)
		return CTL_TROUBLE;
	status = ctl_ask_filled(ctl, req, err, &reply);
	if (status)
		return status;
	status = ctl_flag(reply, "readable") ? 0 : CTL_COMPACTED;
	if (!ctl->json)
		print_why(reply);
	else if (ctl_print_json(reply))
		status = CTL_TROUBLE;
	json_object_put(reply);
	return status;
}

static int run_why(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { CTL_LONG_OPTIONS };
	int opt, status;

	while ((opt = getopt_long(argc, argv, CTL_SHORT_OPTIONS, options, NULL)) != -1)
		if (!ctl_option(ctl, &ctl_why, opt, &status))
			return status;
	if (optind + 1 != argc || ctl->nul)
		return ctl_usage(&ctl_why);
	status = ctl_open(ctl, NULL);
	if (!status)
		status = ask_why(ctl, argv[optind]);
	ctl_close(ctl);
	return status;
}

const struct ctl_verb ctl_why = {
	.name = "why",
	.synopsis = "[--json] N",
	.summary = "why a revision is still there, or is not",
	.help = "Tells what keeps revision N. Exits 13 if it was compacted away.\n",
	.run = run_why,
};
