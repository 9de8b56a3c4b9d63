/* check: does everything in the database fit together? */
#include "tools/ctl.h"

#include <inttypes.h>
#include <json-c/json.h>

static void print_problem(struct json_object *o)
{
	uint64_t ino = ctl_number(o, "ino"), rev = ctl_number(o, "rev"), blob = ctl_number(o, "blob");

	printf("%s: %s", ctl_text(o, "part"), ctl_text(o, "what"));
	if (ino) {
		printf(": inode %" PRIu64, ino);
		if (json_object_object_get_ex(o, "path", NULL)) {
			printf(", ");
			ctl_print_bytes(o, "path");
		}
	}
	if (json_object_object_get_ex(o, "name", NULL)) {
		printf(", name ");
		ctl_print_bytes(o, "name");
	}
	if (json_object_object_get_ex(o, "key", NULL)) {
		printf(": key ");
		ctl_print_bytes(o, "key");
	}
	if (rev)
		printf(", revision %" PRIu64, rev);
	if (blob)
		printf(", blob %" PRIu64, blob);
	putchar('\n');
}

static void print_check(struct json_object *o)
{
	uint64_t problems = ctl_number(o, "problems");
	struct json_object *told;
	size_t n;

	told = ctl_array(o, "told", &n);
	for (size_t i = 0; i < n; i++)
		print_problem(json_object_array_get_idx(told, i));
	if (problems > n)
		printf("and %" PRIu64 " more\n", problems - n);
	if (problems)
		printf("%" PRIu64 " problems\n", problems);
	else
		printf("clean: revision %" PRIu64 ", %" PRIu64 " rows\n", ctl_number(o, "rev"),
		       ctl_number(o, "rows"));
}

static int check(struct ctl *ctl)
{
	struct json_object *req = ctl_request("check"), *reply;
	int status = req ? ctl_ask_long(ctl, req, 0, &reply) : CTL_TROUBLE;

	if (status)
		return status;
	status = ctl_number(reply, "problems") ? CTL_NOT_FOUND : CTL_OK;
	if (!ctl->json)
		print_check(reply);
	else if (ctl_print_json(reply))
		status = CTL_TROUBLE;
	json_object_put(reply);
	return status;
}

static int run(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { CTL_LONG_OPTIONS };
	int opt, status;

	while ((opt = getopt_long(argc, argv, CTL_SHORT_OPTIONS, options, NULL)) != -1)
		if (!ctl_option(ctl, &ctl_check, opt, &status))
			return status;
	if (optind != argc || ctl->nul)
		return ctl_usage(&ctl_check);
	status = ctl_open(ctl, NULL);
	if (!status)
		status = check(ctl);
	ctl_close(ctl);
	return status;
}

const struct ctl_verb ctl_check = {
	.name = "check",
	.synopsis = "[--json]",
	.summary = "does everything in the database fit together?",
	.help = "Reads every row of the store, with its checksums, and of the tree, and tells what does not "
		"fit:\n"
		"one problem a line. Changes nothing, and can run while the database is in use.\n"
		"Exits 0 if there is no problem, 1 if there are some, 2 if they could not be looked for.\n",
	.run = run,
};
