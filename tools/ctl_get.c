/* get: the value of a key, or all keys below a directory. */
#include "tools/ctl_tree.h"

#include "fs/json_bytes.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <sys/stat.h>

struct get {
	struct ctl *ctl;
	struct ctl_tree *tree;
	bool keys; /* no values */
	int status;
};

static int print_json(struct get *g, const char *path, struct ctl_node *node, const struct ctl_revs *revs)
{
	struct json_object *o = json_object_new_object();
	struct buf value = { 0 };
	int err = o ? json_add_bytes(o, "path", slice_str(path)) : -ENOMEM;

	if (!err)
		err = json_add_u64(o, "rev", revs->rev);
	if (!err)
		err = json_add_u64(o, "create_rev", revs->create_rev);
	if (!err)
		err = json_add_u64(o, "version", revs->version);
	if (!err)
		err = json_add_u64(o, "size", node->size);
	if (!err && !g->keys) {
		err = ctl_node_content(g->tree, node, &value);
		if (!err)
			err = json_add_bytes(o, "value", slice_buf(&value));
	}
	if (!err)
		g->status = ctl_print_json(o);
	buf_release(&value);
	json_object_put(o);
	return err;
}

/* 0, a code, or 1: enough, `g->status` says why. */
static int print_key(void *arg, const char *path, struct ctl_node *node)
{
	struct get *g = arg;
	struct ctl_revs revs;
	int err;

	if (!S_ISREG(node->mode))
		return 0;
	if (g->ctl->nul) {
		fwrite(path, 1, strlen(path) + 1, stdout);
		return ctl_flush(&g->status) ? 0 : 1;
	}
	err = ctl_node_revs(g->tree, node, &revs);
	if (!err && g->ctl->json) {
		err = print_json(g, path, node, &revs);
	} else if (!err) {
		ctl_print_escaped(stdout, slice_str(path));
		printf("\t%" PRIu64 "\t%" PRIu64 "\n", revs.rev, node->size);
	}
	if (err || g->status)
		return err ? err : 1;
	return ctl_flush(&g->status) ? 0 : 1;
}

static int get_prefix(struct get *g, const char *path)
{
	char *failed;
	int err = ctl_tree_walk(g->tree, path, print_key, g, &failed);

	if (err < 0)
		g->status = ctl_tree_complain(g->tree, err, failed ? failed : path);
	free(failed);
	return g->status;
}

static int get_json(struct get *g, const char *path)
{
	struct ctl_node node = CTL_NODE_NONE;
	int err = ctl_node_open(g->tree, path, &node);

	if (err)
		g->status = ctl_tree_complain(g->tree, err, path);
	else if (!S_ISREG(node.mode))
		g->status = ctl_complain_type(node.mode, path);
	else if ((err = print_key(g, path, &node)) < 0)
		g->status = ctl_tree_complain(g->tree, err, path);
	ctl_node_close(&node);
	return g->status;
}

static int get(struct get *g, const char *arg, const char *expr, bool prefix)
{
	char *path = NULL;
	int status = ctl_open(g->ctl, arg);

	if (!status)
		status = ctl_tree_path(g->ctl, arg, &path);
	if (!status && !prefix && !g->ctl->json) {
		status = ctl_cat_out(g->ctl, path, expr);
	} else if (!status) {
		status = ctl_tree_open(g->ctl, expr, &g->tree);
		if (!status)
			status = prefix ? get_prefix(g, path) : get_json(g, path);
	}
	ctl_tree_close(g->tree);
	free(path);
	ctl_close(g->ctl);
	return status;
}

static int run(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "rev", required_argument, NULL, 'r' },
						 { "prefix", no_argument, NULL, 'p' },
						 { "keys", no_argument, NULL, 'k' },
						 CTL_LONG_OPTIONS };
	struct get g = { .ctl = ctl };
	const char *expr = "head";
	bool prefix = false;
	int opt, status;

	while ((opt = getopt_long(argc, argv, "r:p" CTL_SHORT_OPTIONS, options, NULL)) != -1) {
		if (opt == 'r')
			expr = optarg;
		else if (opt == 'p')
			prefix = true;
		else if (opt == 'k')
			g.keys = true;
		else if (!ctl_option(ctl, &ctl_get, opt, &status))
			return status;
	}
	if (optind + 1 != argc || (ctl->nul && (ctl->json || !prefix)) || (g.keys && !ctl->json))
		return ctl_usage(&ctl_get);
	return get(&g, argv[optind], expr, prefix);
}

const struct ctl_verb ctl_get = {
	.name = "get",
	.synopsis = "[--rev N] [--json [--keys]] PATH | --prefix [--rev N] [--json [--keys] | -z] DIR",
	.summary = "print a file, or all files below a directory, with their revisions",
	.help = "Prints the content of PATH. Exits with 1 when there is none.\n\n"
		"  -r, --rev N    at revision N: a number, head, head~3, a tag or a time; see mvccfs(7).\n"
		"                 Without it the newest\n"
		"  -p, --prefix   all regular files below DIR, in the order of names, one a line: path, "
		"revision of\n"
		"                 its last change, size, with tabs between\n"
		"  --json         one JSON object for each, with its value; --keys leaves the values out\n"
		"  -z, --null     only the paths, each ended by a NUL\n",
	.run = run,
};
