#include "tools/ctl.h"

#include "fs/json_bytes.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>

static uint64_t figure(struct json_object *o, const char *key)
{
	struct json_object *member;

	return json_object_object_get_ex(o, key, &member) ? json_object_get_uint64(member) : 0;
}

static void print_path(struct json_object *o, const char *key)
{
	struct buf path = { 0 };

	if (json_get_bytes(o, key, &path) == 0)
		ctl_print_escaped(stdout, slice_buf(&path));
	buf_release(&path);
}

static void print_bytes(uint64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };
	double v = (double)bytes;
	unsigned unit = 0;

	while (v >= 1024 && unit < 5) {
		v /= 1024;
		unit++;
	}
	printf(unit ? "%.1f %s" : "%.0f %s", v, units[unit]);
}

static void print_store(struct json_object *o)
{
	struct json_object *failed;

	printf("\nrevision     %" PRIu64, figure(o, "current"));
	if (figure(o, "synced") < figure(o, "current"))
		printf(" (on disk: %" PRIu64 ")", figure(o, "synced"));
	printf("\noldest       %" PRIu64, figure(o, "floor"));
	printf("\ncommits      %" PRIu64 " since opened", figure(o, "commits"));
	if (figure(o, "replayed"))
		printf(", %" PRIu64 " recovered then", figure(o, "replayed"));
	if (json_object_object_get_ex(o, "failed", &failed))
		printf("\nstopped      no change is accepted: %s", json_object_get_string(failed));
	printf("\nbuffer       ");
	print_bytes(figure(o, "ring_used"));
	printf(" of ");
	print_bytes(figure(o, "ring_bytes"));
}

static void print_tree(struct json_object *o)
{
	printf("\nopen files   %" PRIu64 ", %" PRIu64 " with changes not yet committed (",
	       figure(o, "open_inodes"), figure(o, "dirty_inodes"));
	print_bytes(figure(o, "dirty_bytes"));
	printf(")");
}

static void print_status(struct json_object *o)
{
	struct json_object *mounted;
	char since[64];

	ctl_format_time((int64_t)figure(o, "started_ns"), since);
	printf("database     ");
	print_path(o, "db");
	printf(" (format %" PRIu64 ")\n", figure(o, "format"));
	if (json_object_object_get_ex(o, "mounted", &mounted) && json_object_get_boolean(mounted)) {
		printf("mounted at   ");
		print_path(o, "mountpoint");
		printf(" by pid %" PRIu64 " since %s", figure(o, "pid"), since);
	} else {
		printf("not mounted");
	}
	print_store(o);
	if (json_object_object_get_ex(o, "mountpoint", NULL))
		print_tree(o);
	printf("\ndisk         ");
	print_bytes(figure(o, "engine_bytes_disk"));
	printf(" used, ");
	print_bytes(figure(o, "disk_free"));
	printf(" free\n");
}

static int print_reply(struct json_object *o, bool as_json)
{
	struct buf text = { 0 };
	int err;

	if (!as_json) {
		print_status(o);
		return 0;
	}
	json_object_object_del(o, "ok");
	err = json_append(&text, o);
	if (err)
		return ctl_complain_err(err, "status");
	fwrite(text.data, 1, text.len, stdout);
	putchar('\n');
	buf_release(&text);
	return 0;
}

static int ask_status(struct ctl *ctl)
{
	struct json_object *req = json_object_new_object(), *reply;
	int status;

	if (!req || json_add_str(req, "verb", "status"))
		return ctl_complain_err(-ENOMEM, "status");
	status = ctl_ask(ctl, req, &reply);
	json_object_put(req);
	if (status)
		return status;
	status = print_reply(reply, ctl->json);
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
