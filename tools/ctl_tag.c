/* tag, untag: names for revisions, which keep them when history is compacted. */
#include "tools/ctl.h"

#include "fs/json_bytes.h"

#include <inttypes.h>
#include <json-c/json.h>

/* ---- one tag --------------------------------------------------------------------------------------- */

static int print_tag(const struct ctl *ctl, struct json_object *o)
{
	char time[64];

	if (ctl->json)
		return ctl_print_json(o);
	if (ctl->nul) {
		ctl_print_nul(o, "name");
		return 0;
	}
	ctl_format_time((int64_t)ctl_number(o, "time_ns"), time);
	printf("%6" PRIu64 "  %s  ", ctl_number(o, "rev"), time);
	ctl_print_bytes(o, "name");
	puts(ctl_flag(o, "auto") ? "  (automatic)" : "");
	return 0;
}

/* A request about the tag `name`, and two further members, which may be NULL. Its reply is the tag. */
static int ask_tag(struct ctl *ctl, const char *verb, const char *name, const char *key, const char *value,
		   struct json_object **out)
{
	struct json_object *req = ctl_request(verb);
	int err = req ? json_add_bytes(req, "name", slice_str(name)) : 0;

	if (!req)
		return CTL_TROUBLE;
	if (!err && value)
		err = json_add_bytes(req, key, slice_str(value));
	return ctl_ask_filled(ctl, req, err, out);
}

static int change_tag(struct ctl *ctl, const char *verb, const char *name, const char *key, const char *value)
{
	struct json_object *reply;
	int status = ctl_open(ctl, NULL);

	if (!status)
		status = ask_tag(ctl, verb, name, key, value, &reply);
	if (!status) {
		if (ctl->json)
			status = ctl_print_json(reply);
		json_object_put(reply);
	}
	ctl_close(ctl);
	return status;
}

/* ---- all of them ----------------------------------------------------------------------------------- */

static int print_page(struct ctl *ctl, struct json_object *reply)
{
	struct json_object *tags;
	int status = 0;
	size_t n;

	tags = ctl_array(reply, "tags", &n);
	for (size_t i = 0; i < n && !status; i++)
		status = print_tag(ctl, json_object_array_get_idx(tags, i));
	return status;
}

static int list(struct ctl *ctl)
{
	struct buf after = { 0 };
	bool more = true;
	int status = ctl_open(ctl, NULL);

	while (!status && more) {
		struct json_object *req = ctl_request("tags"), *reply;
		int err = req && after.len ? json_add_bytes(req, "after", slice_buf(&after)) : 0;

		status = req ? ctl_ask_filled(ctl, req, err, &reply) : CTL_TROUBLE;
		if (status)
			break;
		status = print_page(ctl, reply);
		more = json_get_bytes(reply, "next", &after) == 0;
		json_object_put(reply);
		if (!ctl_flush(&status))
			break;
	}
	buf_release(&after);
	ctl_close(ctl);
	return status;
}

/* ---- arguments ------------------------------------------------------------------------------------- */

static int run_tag(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "delete", no_argument, NULL, 'd' },
						 { "rename", no_argument, NULL, 'm' },
						 CTL_LONG_OPTIONS };
	bool delete = false, rename = false;
	int opt, status;

	while ((opt = getopt_long(argc, argv, "dm" CTL_SHORT_OPTIONS, options, NULL)) != -1) {
		if (opt == 'd')
			delete = true;
		else if (opt == 'm')
			rename = true;
		else if (!ctl_option(ctl, &ctl_tag, opt, &status))
			return status;
	}
	argc -= optind;
	argv += optind;
	if (delete &&rename)
		return ctl_usage(&ctl_tag);
	if (delete &&argc == 1)
		return change_tag(ctl, "untag", argv[0], NULL, NULL);
	if (rename && argc == 2)
		return change_tag(ctl, "retag", argv[0], "to", argv[1]);
	if (delete || rename || argc > 2)
		return ctl_usage(&ctl_tag);
	return argc ? change_tag(ctl, "tag", argv[0], "rev", argv[1]) : list(ctl);
}

const struct ctl_verb ctl_tag = {
	.name = "tag",
	.synopsis = "[--json | -z] [NAME [N] | -d NAME | -m NAME NEW]",
	.summary = "give a revision a name, which keeps it",
	.help = "Without NAME, lists all tags: revision, its local time, name.\n\n"
		"  NAME [N]                names revision N, or the newest. NAME is a revision from then "
		"on,\n"
		"                          also after compaction; and a path, @rev/NAME\n"
		"  -d, --delete NAME       takes the name away, as untag does\n"
		"  -m, --rename NAME NEW   gives it another\n"
		"  --json                  one JSON object a line\n"
		"  -z, --null              only the names, each ended by a NUL\n",
	.run = run_tag,
};

static int run_untag(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { CTL_LONG_OPTIONS };
	int opt, status;

	while ((opt = getopt_long(argc, argv, CTL_SHORT_OPTIONS, options, NULL)) != -1)
		if (!ctl_option(ctl, &ctl_untag, opt, &status))
			return status;
	if (optind + 1 != argc || ctl->nul)
		return ctl_usage(&ctl_untag);
	return change_tag(ctl, "untag", argv[optind], NULL, NULL);
}

const struct ctl_verb ctl_untag = {
	.name = "untag",
	.synopsis = "[--json] NAME",
	.summary = "take a tag away",
	.help = "Takes the name away. A revision below the oldest that nothing else keeps then goes for "
		"good.\n",
	.run = run_untag,
};
