/* purge: takes paths out of all of history. */
#include "tools/ctl.h"

#include "fs/json_bytes.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <unistd.h>

enum { OPT_YES = 'y', OPT_DRY_RUN = 'n' };

static int ask(struct ctl *ctl, const char *path, bool dry_run, struct json_object **reply)
{
	struct json_object *req = ctl_request("purge");
	int err;

	if (!req)
		return CTL_TROUBLE;
	err = json_add_bytes(req, "path", slice_str(path));
	if (!err)
		err = json_add_bool(req, "dry_run", dry_run);
	if (!err)
		err = ctl_add_story(ctl, req);
	return ctl_ask_long(ctl, req, err, reply);
}

/* Is it really meant? Told is what would go; only "yes" is yes. */
static bool confirmed(const char *path, struct json_object *would)
{
	char answer[8];

	fprintf(stderr,
		"%s: %" PRIu64 " files and directories with %" PRIu64
		" names would go, out of every revision and every tag,\n"
		"with all other names they have. This cannot be undone. Type yes to go on: ",
		path, ctl_number(would, "files"), ctl_number(would, "names"));
	return fgets(answer, sizeof(answer), stdin) && strcmp(answer, "yes\n") == 0;
}

static void print_purged(const char *path, struct json_object *o, bool dry_run)
{
	ctl_print_escaped(stdout, slice_str(path));
	printf(": %" PRIu64 " files and directories, %" PRIu64 " names%s", ctl_number(o, "files"),
	       ctl_number(o, "names"), dry_run ? " would go\n" : " are gone, by revision ");
	if (!dry_run)
		printf("%" PRIu64 "\n", ctl_number(o, "rev"));
	if (ctl_flag(o, "waits"))
		ctl_complain(0, "%s: somebody still reads; the bytes leave the disk when he has ended", path);
}

static int purge(struct ctl *ctl, const char *path, bool yes, bool dry_run)
{
	struct json_object *reply;
	int status;

	if (!yes || dry_run) {
		status = ask(ctl, path, true, &reply);
		if (status)
			return status;
		if (!dry_run && !confirmed(path, reply)) {
			json_object_put(reply);
			return ctl_complain(CTL_TROUBLE, "%s: nothing was purged", path);
		}
	}
	if (!dry_run) {
		if (!yes)
			json_object_put(reply);
		status = ask(ctl, path, false, &reply);
		if (status)
			return status;
	}
	status = CTL_OK;
	if (!ctl->json)
		print_purged(path, reply, dry_run);
	else if (ctl_print_json(reply))
		status = CTL_TROUBLE;
	json_object_put(reply);
	return status;
}

static int purge_each(struct ctl *ctl, char **paths, bool yes, bool dry_run)
{
	int status = ctl_open(ctl, paths[0]), first = status;

	for (; !status && *paths; paths++) {
		char *path = NULL;
		int this = ctl_tree_path(ctl, *paths, &path);

		if (!this)
			this = purge(ctl, path, yes, dry_run);
		free(path);
		if (!first)
			first = this;
	}
	ctl_close(ctl);
	return first;
}

static int run(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "yes", no_argument, NULL, OPT_YES },
						 { "dry-run", no_argument, NULL, OPT_DRY_RUN },
						 CTL_STORY_OPTIONS,
						 CTL_LONG_OPTIONS };
	bool yes = false, dry_run = false;
	int opt, status;

	while ((opt = getopt_long(argc, argv, "yn" CTL_SHORT_OPTIONS, options, NULL)) != -1) {
		if (opt == OPT_YES)
			yes = true;
		else if (opt == OPT_DRY_RUN)
			dry_run = true;
		else if (!ctl_option(ctl, &ctl_purge, opt, &status))
			return status;
	}
	if (optind == argc || ctl->nul)
		return ctl_usage(&ctl_purge);
	if (!yes && !dry_run && !isatty(STDIN_FILENO))
		return ctl_complain(CTL_TROUBLE,
				    "purge asks before it does what cannot be undone; say --yes");
	return purge_each(ctl, argv + optind, yes, dry_run);
}

const struct ctl_verb ctl_purge = {
	.name = "purge",
	.synopsis = "[--yes | --dry-run] PATH...",
	.summary = "take paths out of all of history",
	.help = "Takes what PATH is and ever was, and what was ever below it, out of every revision, and "
		"its\n"
		"bytes off the disk. All other names that such a file has go, too. The log goes on telling\n"
		"that there was something, and that it was purged, by whom and when. Backups are not "
		"reached.\n\n"
		"  -n, --dry-run     only tells how much would go\n"
		"  -y, --yes         does not ask\n"
		"      --session S, --message M   labels of the revisions it makes\n",
	.run = run,
};
