#include "tools/ctl.h"

#include <inttypes.h>
#include <json-c/json.h>

static void print_size(uint64_t bytes)
{
	char text[32];

	ctl_format_bytes(bytes, text);
	fputs(text, stdout);
}

static void print_time(uint64_t ns)
{
	if (ns < 10000)
		printf("%.1f us", (double)ns / 1e3);
	else if (ns < 10000000)
		printf("%.0f us", (double)ns / 1e3);
	else
		printf("%.0f ms", (double)ns / 1e6);
}

/* How long something took, if it was done since the database was opened. */
static void print_times(struct json_object *o, const char *key, const char *title)
{
	struct json_object *times;

	if (!json_object_object_get_ex(o, key, &times) || !ctl_number(times, "count"))
		return;
	fputs(title, stdout);
	print_time(ctl_number(times, "p50_ns"));
	printf(" for half, ");
	print_time(ctl_number(times, "p99_ns"));
	printf(" for 99 of 100, ");
	print_time(ctl_number(times, "max_ns"));
	printf(" at most");
}

static void print_store(struct json_object *o)
{
	struct json_object *failed;

	printf("\nrevision     %" PRIu64, ctl_number(o, "current"));
	if (ctl_number(o, "synced") < ctl_number(o, "current"))
		printf(" (on disk: %" PRIu64 ")", ctl_number(o, "synced"));
	printf("\noldest       %" PRIu64, ctl_number(o, "floor"));
	printf("\ncommits      %" PRIu64 " since opened", ctl_number(o, "commits"));
	if (ctl_number(o, "replayed"))
		printf(", %" PRIu64 " recovered then", ctl_number(o, "replayed"));
	printf("\nkept         tags %" PRIu64 ", leases %" PRIu64 ", watches %" PRIu64, ctl_number(o, "tags"),
	       ctl_number(o, "leases"), ctl_number(o, "watches"));
	print_times(o, "commit", "\na commit     ");
	print_times(o, "sync", "\na sync       ");
	if (json_object_object_get_ex(o, "failed", &failed))
		printf("\nstopped      no change is accepted: %s", json_object_get_string(failed));
	printf("\nbuffer       ");
	print_size(ctl_number(o, "ring_used"));
	printf(" of ");
	print_size(ctl_number(o, "ring_bytes"));
}

static void print_tree(struct json_object *o)
{
	printf("\nopen files   %" PRIu64 ", %" PRIu64 " with changes not yet committed (",
	       ctl_number(o, "open_inodes"), ctl_number(o, "dirty_inodes"));
	print_size(ctl_number(o, "dirty_bytes"));
	printf(")");
}

static void print_status(struct json_object *o)
{
	struct json_object *mounted;
	char since[64];

	ctl_format_time((int64_t)ctl_number(o, "started_ns"), since);
	printf("database     ");
	ctl_print_bytes(o, "db");
	printf(" (format %" PRIu64 ")\n", ctl_number(o, "format"));
	if (json_object_object_get_ex(o, "mounted", &mounted) && json_object_get_boolean(mounted)) {
		printf("mounted at   ");
		ctl_print_bytes(o, "mountpoint");
		printf(" by pid %" PRIu64 " since %s", ctl_number(o, "pid"), since);
	} else {
		printf("not mounted");
	}
	print_store(o);
	if (json_object_object_get_ex(o, "mountpoint", NULL))
		print_tree(o);
	printf("\ndisk         ");
	print_size(ctl_number(o, "engine_bytes_disk"));
	printf(" used, ");
	print_size(ctl_number(o, "disk_free"));
	printf(" free\n");
}

static int ask_status(struct ctl *ctl)
{
	struct json_object *req = ctl_request("status"), *reply;
	int status = req ? ctl_ask_filled(ctl, req, 0, &reply) : CTL_TROUBLE;

	if (status)
		return status;
	if (ctl->json)
		status = ctl_print_json(reply);
	else
		print_status(reply);
	json_object_put(reply);
	return status;
}

static int run(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { CTL_LONG_OPTIONS };
	int opt, status;

	while ((opt = getopt_long(argc, argv, CTL_SHORT_OPTIONS, options, NULL)) != -1)
		if (!ctl_option(ctl, &ctl_status, opt, &status))
			return status;
	if (optind != argc)
		return ctl_usage(&ctl_status);
	status = ctl_open(ctl, NULL);
	if (!status)
		status = ask_status(ctl);
	ctl_close(ctl);
	return status;
}

const struct ctl_verb ctl_status = {
	.name = "status",
	.synopsis = "[--json]",
	.summary = "what a database holds, and how it is",
	.help = "Prints the newest and the oldest revision, what is not yet committed or not yet on disk,\n"
		"and sizes. With --json every figure there is, as one object.\n",
	.run = run,
};
