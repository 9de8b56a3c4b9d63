/* undo, redo, restore: the way back. */
#include "tools/ctl_diff.h"

#include "fs/json_bytes.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>

/* ---- what came of it ---------------------------------------------------------------------------------- */

static int tell_conflicts(struct json_object *reply)
{
	uint64_t all = ctl_number(reply, "nconflicts");
	struct json_object *list;
	size_t n;

	list = ctl_array(reply, "conflicts", &n);
	ctl_complain(0, "nothing was done, as %" PRIu64 " %s changed by others since:", all,
		     all == 1 ? "path was" : "paths were");
	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		struct buf path = { 0 };
		const char *why = ctl_text(o, "why");

		fputs("  ", stderr);
		if (json_get_bytes(o, "path", &path) == 0)
			ctl_print_escaped(stderr, slice_buf(&path));
		fprintf(stderr, ": %s\n", why ? why : "");
		buf_release(&path);
	}
	if (n < all)
		fprintf(stderr, "  and %" PRIu64 " more\n", all - n);
	return CTL_NOT_FOUND;
}

static int tell_entries(struct ctl *ctl, struct json_object *reply)
{
	struct ctl_diff d = { .ctl = ctl, .color = ctl_want_color() };
	struct json_object *entries;
	size_t n;
	int status = 0;

	entries = ctl_array(reply, "entries", &n);
	for (size_t i = 0; !status && i < n; i++)
		status = ctl_diff_entry(&d, json_object_array_get_idx(entries, i));
	if (!status && ctl_flag(reply, "more") && !ctl->nul)
		puts("and more");
	return ctl_diff_end(&d, status);
}

static int tell_change(struct ctl *ctl, struct json_object *reply)
{
	uint64_t rev = ctl_number(reply, "rev");
	bool dry = ctl_flag(reply, "dry_run"), refused = ctl_number(reply, "nconflicts") != 0;
	int status;

	if (ctl->json) {
		status = ctl_print_json(reply);
		return status ? status : refused ? CTL_NOT_FOUND : CTL_OK;
	}
	if (refused)
		return tell_conflicts(reply);
	if (dry)
		return tell_entries(ctl, reply);
	if (rev && !ctl->nul) {
		printf("revision %" PRIu64 ": ", rev);
		ctl_print_bytes(reply, "message");
		putchar('\n');
	} else if (!rev) {
		ctl_complain(0, "nothing to do: it is so already");
	}
	return CTL_OK;
}

/* Asks, and tells. Takes `req`. */
static int ask_change(struct ctl *ctl, struct json_object *req, int err, bool dry)
{
	struct json_object *reply;
	int status;

	if (!err)
		err = ctl_add_story(ctl, req);
	if (!err && dry)
		err = json_add_bool(req, "dry_run", true);
	status = ctl_ask_long(ctl, req, err, &reply);
	if (status)
		return status;
	status = tell_change(ctl, reply);
	json_object_put(reply);
	return status;
}

/* ---- undo --------------------------------------------------------------------------------------------- */

/* "41", "41..43", "41.."; nothing for NULL. */
static int add_revs(struct json_object *req, const char *arg)
{
	struct slice from, to;
	int err;

	if (!arg)
		return 0;
	if (!ctl_parse_range(arg, &from, &to))
		return json_add_bytes(req, "rev", slice_str(arg));
	err = from.len ? json_add_bytes(req, "from", from) : 0;
	return !err && to.len ? json_add_bytes(req, "to", to) : err;
}

static int run_undo(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "dry-run", no_argument, NULL, 'n' },
						 CTL_STORY_OPTIONS,
						 CTL_LONG_OPTIONS };
	struct json_object *req;
	const char *session;
	bool dry = false;
	int opt, status, err;

	while ((opt = getopt_long(argc, argv, "n" CTL_SHORT_OPTIONS, options, NULL)) != -1) {
		if (opt == 'n')
			dry = true;
		else if (!ctl_option(ctl, &ctl_undo, opt, &status))
			return status;
	}
	session = ctl->session; /* here it says what is undone */
	ctl->session = NULL;
	if (argc - optind > 1 || (argc > optind && session))
		return ctl_usage(&ctl_undo);
	if (argc > optind && strncmp(argv[optind], "..", 2) == 0)
		return ctl_complain(CTL_TROUBLE, "say which is the first revision to be undone: A..B");
	status = ctl_open(ctl, NULL);
	req = status ? NULL : ctl_request("undo");
	if (req) {
		err = session ? json_add_bytes(req, "of_session", slice_str(session)) :
				add_revs(req, argv[optind]);
		status = ask_change(ctl, req, err, dry);
	} else if (!status) {
		status = CTL_TROUBLE;
	}
	ctl_close(ctl);
	return status;
}

const struct ctl_verb ctl_undo = {
	.name = "undo",
	.synopsis = "[--dry-run] [--message M] [--json] [N | A..B | --session S]",
	.summary = "take back what revisions changed",
	.help = "Takes back what revision N, or all from A to B, both included, or all of a session, "
		"changed, in\n"
		"one new revision; what others changed since stays. Without any: the newest change that was "
		"not\n"
		"undone yet, so that undo again goes one further back. If both changed the same, nothing is "
		"done,\n"
		"the paths are listed, and the exit status is 1. An undo can be undone, see redo.\n\n"
		"      --session S   all revisions that have this session\n"
		"  -n, --dry-run     only tells what would change, as diff does\n"
		"      --message M   kept with the revision\n"
		"      --json        the reply\n",
	.run = run_undo,
};

/* ---- redo --------------------------------------------------------------------------------------------- */

static int run_redo(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "dry-run", no_argument, NULL, 'n' },
						 CTL_STORY_OPTIONS,
						 CTL_LONG_OPTIONS };
	struct json_object *req;
	bool dry = false;
	int opt, status;

	while ((opt = getopt_long(argc, argv, "n" CTL_SHORT_OPTIONS, options, NULL)) != -1) {
		if (opt == 'n')
			dry = true;
		else if (!ctl_option(ctl, &ctl_redo, opt, &status))
			return status;
	}
	if (argc > optind)
		return ctl_usage(&ctl_redo);
	status = ctl_open(ctl, NULL);
	req = status ? NULL : ctl_request("redo");
	if (!status)
		status = req ? ask_change(ctl, req, 0, dry) : CTL_TROUBLE;
	ctl_close(ctl);
	return status;
}

const struct ctl_verb ctl_redo = {
	.name = "redo",
	.synopsis = "[--dry-run] [--session S] [--message M] [--json]",
	.summary = "take back the newest undo",
	.help = "Takes back the newest undo that was not taken back yet, in one new revision. What it would\n"
		"change may not have been changed by others since; see undo.\n\n"
		"  -n, --dry-run     only tells what would change, as diff does\n"
		"      --session S, --message M\n"
		"                    kept with the revision\n"
		"      --json        the reply\n",
	.run = run_redo,
};

/* ---- restore ------------------------------------------------------------------------------------------ */

static int add_path(struct ctl *ctl, struct json_object *list, const char *arg)
{
	struct json_object *o;
	char *path = NULL;
	int status = ctl_tree_path(ctl, arg, &path);

	if (status)
		return status;
	o = json_object_new_object();
	if (!o || json_add_bytes(o, "path", slice_str(path)) || json_object_array_add(list, o)) {
		json_object_put(o);
		status = ctl_complain_err(-ENOMEM, "restore");
	}
	free(path);
	return status;
}

static int ask_restore(struct ctl *ctl, const char *rev, char **args, bool dry)
{
	struct json_object *req = ctl_request("restore"), *list = json_object_new_array();
	int err = 0, status = req && list ? 0 : CTL_TROUBLE;

	for (; !status && *args; args++)
		status = add_path(ctl, list, *args);
	if (status) {
		json_object_put(req);
		json_object_put(list);
		return status;
	}
	err = json_add(req, "paths", list);
	if (!err)
		err = json_add_bytes(req, "rev", slice_str(rev));
	return ask_change(ctl, req, err, dry);
}

static int run_restore(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "dry-run", no_argument, NULL, 'n' },
						 CTL_STORY_OPTIONS,
						 CTL_LONG_OPTIONS };
	bool dry = false;
	int opt, status;

	while ((opt = getopt_long(argc, argv, "n" CTL_SHORT_OPTIONS, options, NULL)) != -1) {
		if (opt == 'n')
			dry = true;
		else if (!ctl_option(ctl, &ctl_restore, opt, &status))
			return status;
	}
	if (argc - optind < 2)
		return ctl_usage(&ctl_restore);
	status = ctl_open(ctl, argv[optind + 1]);
	if (!status)
		status = ask_restore(ctl, argv[optind], argv + optind + 1, dry);
	ctl_close(ctl);
	return status;
}

const struct ctl_verb ctl_restore = {
	.name = "restore",
	.synopsis = "[--dry-run] [--session S] [--message M] [--json] N PATH...",
	.summary = "make paths what they were at a revision",
	.help = "Makes what stands at each PATH what stood there at revision N, with all below, in one new\n"
		"revision: content, modes, owners, times, xattrs and hard links; what was not there then "
		"goes.\n"
		"Whatever was changed there since is overwritten, and stays in history. PATH / is the whole "
		"tree.\n\n"
		"  -n, --dry-run     only tells what would change, as diff does\n"
		"      --session S, --message M\n"
		"                    kept with the revision\n"
		"      --json        the reply\n",
	.run = run_restore,
};
