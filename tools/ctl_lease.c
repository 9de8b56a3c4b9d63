/* lease: files with a time to live. One verb, with a word after it for what is to be done. */
#include "tools/ctl.h"

#include "fs/json_bytes.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

/* ---- printing -------------------------------------------------------------------------------------- */

static void print_paths(const struct ctl *ctl, struct json_object *o)
{
	struct json_object *paths;
	uint64_t files = ctl_number(o, "files");
	size_t n;

	paths = ctl_array(o, "paths", &n);
	for (size_t i = 0; i < n; i++) {
		struct json_object *at = json_object_array_get_idx(paths, i);

		if (ctl->nul) {
			ctl_print_nul(at, "path");
			continue;
		}
		printf("    ");
		ctl_print_bytes(at, "path");
		putchar('\n');
	}
	if (files > n && !ctl->nul)
		printf("    and %" PRIu64 " more\n", files - n);
}

static int print_lease(const struct ctl *ctl, struct json_object *o)
{
	char ttl[32], left[32];

	if (ctl->json)
		return ctl_print_json(o);
	ctl_format_span(ctl_number(o, "ttl_ms") / 1000, ttl);
	ctl_format_span((ctl_number(o, "left_ms") + 999) / 1000, left);
	if (!ctl->nul)
		printf("%" PRIu64 "  ttl %s  left %s  files %" PRIu64 "\n", ctl_number(o, "id"), ttl, left,
		       ctl_number(o, "files"));
	print_paths(ctl, o);
	return 0;
}

static int print_id(const struct ctl *ctl, struct json_object *o)
{
	if (ctl->json)
		return ctl_print_json(o);
	printf("%" PRIu64 "\n", ctl_number(o, "id"));
	return 0;
}

static int print_nothing(const struct ctl *ctl, struct json_object *o)
{
	return ctl->json ? ctl_print_json(o) : 0;
}

/* ---- asking ---------------------------------------------------------------------------------------- */

/* Asks, and has the reply printed. Takes `req`, which may be NULL: that was said. */
static int ask(struct ctl *ctl, struct json_object *req, int err,
	       int (*print)(const struct ctl *ctl, struct json_object *o))
{
	struct json_object *reply;
	int status = req ? ctl_ask_filled(ctl, req, err, &reply) : CTL_TROUBLE;

	if (status)
		return status;
	status = print(ctl, reply);
	json_object_put(reply);
	return status;
}

static int ask_id(struct ctl *ctl, const char *verb, uint64_t id,
		  int (*print)(const struct ctl *ctl, struct json_object *o))
{
	struct json_object *req = ctl_request(verb);
	int err = req ? json_add_u64(req, "id", id) : 0;

	if (req && !err)
		err = ctl_add_story(ctl, req);
	return ask(ctl, req, err, print);
}

static int list(struct ctl *ctl)
{
	uint64_t after = 0;
	int status = 0;

	do {
		struct json_object *req = ctl_request("leases"), *reply, *leases;
		int err = req && after ? json_add_u64(req, "after", after) : 0;
		size_t n;

		status = req ? ctl_ask_filled(ctl, req, err, &reply) : CTL_TROUBLE;
		if (status)
			break;
		leases = ctl_array(reply, "leases", &n);
		for (size_t i = 0; i < n && !status; i++)
			status = print_lease(ctl, json_object_array_get_idx(leases, i));
		after = ctl_number(reply, "next");
		json_object_put(reply);
	} while (!status && after && ctl_flush(&status));
	return status;
}

static int grant(struct ctl *ctl, const char *ttl, uint64_t id)
{
	struct json_object *req;
	uint64_t s;
	int err;

	if (!ctl_parse_span(ttl, &s) || s == 0 || s > INT64_MAX / 1000)
		return ctl_complain(CTL_TROUBLE, "\"%s\" is no time to live; say 90, 15m, 12h or 30d", ttl);
	req = ctl_request("lease_grant");
	err = req ? json_add_u64(req, "ttl_ms", s * 1000) : 0;
	if (req && !err && id)
		err = json_add_u64(req, "id", id);
	return ask(ctl, req, err, print_id);
}

/* Attaches a file, or (id 0) lets go of it. */
static int attach(struct ctl *ctl, uint64_t id, const char *arg)
{
	struct json_object *req;
	char *path;
	int err, status = ctl_tree_path(ctl, arg, &path);

	if (status)
		return status;
	req = ctl_request(id ? "lease_attach" : "lease_detach");
	err = req ? json_add_bytes(req, "path", slice_str(path)) : 0;
	if (req && !err && id)
		err = json_add_u64(req, "id", id);
	free(path);
	return ask(ctl, req, err, print_nothing);
}

/* ---- arguments ------------------------------------------------------------------------------------- */

static const struct order {
	const char *name;
	int words;    /* after it */
	int id, path; /* which of them is the lease's number, and a path; -1: none */
} orders[] = {
	{ "list", 0, -1, -1 },  { "grant", 1, -1, -1 }, { "ttl", 1, 0, -1 },    { "keepalive", 1, 0, -1 },
	{ "revoke", 1, 0, -1 }, { "attach", 2, 0, 1 },  { "detach", 1, -1, 0 },
};

static int carry_out(struct ctl *ctl, const struct order *order, uint64_t id, char **words)
{
	if (strcmp(order->name, "list") == 0)
		return list(ctl);
	if (strcmp(order->name, "grant") == 0)
		return grant(ctl, words[0], id);
	if (strcmp(order->name, "ttl") == 0)
		return ask_id(ctl, "lease", id, print_lease);
	if (strcmp(order->name, "keepalive") == 0)
		return ask_id(ctl, "lease_keepalive", id, print_lease);
	if (strcmp(order->name, "revoke") == 0)
		return ask_id(ctl, "lease_revoke", id, print_nothing);
	return attach(ctl, id, words[order->path]);
}

static int run_order(struct ctl *ctl, const struct order *order, uint64_t id, char **words)
{
	int status;

	if (order->id >= 0 && (!ctl_parse_number(words[order->id], &id) || !id || id > INT64_MAX))
		return ctl_complain(CTL_TROUBLE, "\"%s\" is no number of a lease", words[order->id]);
	status = ctl_open(ctl, order->path < 0 ? NULL : words[order->path]);
	if (!status)
		status = carry_out(ctl, order, id, words);
	ctl_close(ctl);
	return status;
}

static int run(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "id", required_argument, NULL, 'i' },
						 CTL_STORY_OPTIONS,
						 CTL_LONG_OPTIONS };
	uint64_t id = 0;
	int opt, status;

	while ((opt = getopt_long(argc, argv, "i:" CTL_SHORT_OPTIONS, options, NULL)) != -1) {
		if (opt == 'i' && ctl_parse_number(optarg, &id) && id && id <= INT64_MAX)
			continue;
		if (opt == 'i')
			return ctl_complain(CTL_TROUBLE, "--id wants a number from 1 up, not \"%s\"", optarg);
		if (!ctl_option(ctl, &ctl_lease, opt, &status))
			return status;
	}
	for (size_t i = 0; optind < argc && i < sizeof(orders) / sizeof(orders[0]); i++)
		if (strcmp(argv[optind], orders[i].name) == 0 && argc - optind - 1 == orders[i].words &&
		    (!id || strcmp(orders[i].name, "grant") == 0))
			return run_order(ctl, &orders[i], id, argv + optind + 1);
	return ctl_usage(&ctl_lease);
}

const struct ctl_verb ctl_lease = {
	.name = "lease",
	.synopsis = "grant TTL [--id ID] | keepalive ID | ttl ID | list | revoke ID | attach ID PATH | "
		    "detach PATH",
	.summary = "files with a time to live",
	.help = "  grant TTL       makes a lease that ends after TTL (90, 15m, 12h, 30d) and prints its "
		"number\n"
		"      -i, --id ID     which is to be this one\n"
		"  keepalive ID    from now on it has its full time again\n"
		"  ttl ID          prints its time, what is left of it, and the files it has\n"
		"  list            the same of all leases. --json: one object a line; -z: the paths alone\n"
		"  revoke ID       ends it now: all its files go, in one revision\n"
		"      --session S, --message M   labels of that revision\n"
		"  attach ID PATH  PATH goes when the lease ends\n"
		"  detach PATH     PATH stays\n\n"
		"A file alone: setfattr -n user.mvccfs.ttl -v 3600 FILE.\n",
	.run = run,
};
