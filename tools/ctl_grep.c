/*
 * grep: through all versions of all files in a range of revisions, each read once. The first revision is walked; of each
 * later one only what it changed is looked at.
 */
#include "tools/ctl_changes.h"
#include "tools/ctl_progress.h"

#include "fs/json_bytes.h"
#include "fs/query.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <regex.h>
#include <stdlib.h>
#include <sys/stat.h>

/* A version that was read: which file, as of which revision. */
struct version {
	uint64_t ino, rev;
};

struct grep {
	struct ctl *ctl;
	struct ctl_tree *tree; /* at the revision at hand */
	const char *path;      /* what is searched; "" for all */
	const char *fixed;     /* -F: the words themselves */
	regex_t regex;
	bool names_only, any_case;
	struct version *seen; /* a power of two slots, at most half full; rev 0 is free */
	size_t nseen, cap;
	struct buf content;
	struct ctl_progress progress;
	bool found;
};

/* ---- versions ------------------------------------------------------------------------------------ */

static struct version *slot_of(struct version *slots, size_t cap, struct version v)
{
	size_t i = (size_t)((v.ino ^ v.rev << 32) * 0x9e3779b97f4a7c15u >> 20) & (cap - 1);

	while (slots[i].rev && (slots[i].ino != v.ino || slots[i].rev != v.rev))
		i = (i + 1) & (cap - 1);
	return &slots[i];
}

/* Is it read for the first time? 1, 0, or -ENOMEM. */
static int first_time(struct grep *g, struct version v)
{
	struct version *slot;

	if (g->nseen * 2 >= g->cap) {
		size_t cap = g->cap ? 2 * g->cap : 1024;
		struct version *slots = calloc(cap, sizeof(*slots));

		if (!slots)
			return -ENOMEM;
		for (size_t i = 0; i < g->cap; i++)
			if (g->seen[i].rev)
				*slot_of(slots, cap, g->seen[i]) = g->seen[i];
		free(g->seen);
		g->seen = slots;
		g->cap = cap;
	}
	slot = slot_of(g->seen, g->cap, v);
	if (slot->rev)
		return 0;
	*slot = v;
	g->nseen++;
	return 1;
}

/* ---- matching ------------------------------------------------------------------------------------ */

/* `line` is ended by a NUL in the place of its newline. */
static bool matches(const struct grep *g, const char *line)
{
	if (!g->fixed)
		return regexec(&g->regex, line, 0, NULL, 0) == 0;
	return g->any_case ? strcasestr(line, g->fixed) != NULL : strstr(line, g->fixed) != NULL;
}

static int print_json(const struct grep *g, const char *path, mvcc_rev_t rev, const char *line,
		      uint64_t number)
{
	struct json_object *o = json_object_new_object();
	int err = o ? json_add_u64(o, "rev", rev) : -ENOMEM;

	if (!err)
		err = json_add_bytes(o, "path", slice_str(path));
	if (!err && line && !g->names_only) {
		err = json_add_u64(o, "line", number);
		if (!err)
			err = json_add_bytes(o, "text", slice_str(line));
	}
	if (!err && ctl_print_json(o))
		err = -ENOMEM;
	json_object_put(o);
	return err;
}

/* `line` NULL: a file that is no text. */
static int print_match(const struct grep *g, const char *path, mvcc_rev_t rev, const char *line,
		       uint64_t number)
{
	if (g->ctl->json)
		return print_json(g, path, rev, line, number);
	if (g->ctl->nul) {
		fwrite(path, 1, strlen(path) + 1, stdout);
		return 0;
	}
	printf("%" PRIu64 ":", rev);
	ctl_print_escaped(stdout, slice_str(path));
	if (!line && !g->names_only)
		printf(": binary file matches\n");
	else if (g->names_only)
		putchar('\n');
	else
		printf(":%s\n", line);
	return 0;
}

static int grep_content(struct grep *g, const char *path, mvcc_rev_t rev)
{
	char *at = (char *)g->content.data, *end = at + g->content.len;
	bool binary = memchr(at, 0, g->content.len) != NULL;
	uint64_t number = 0;
	int err = 0;

	*end = 0; /* grep_node() left room for it */
	for (; at < end && !err; at++) {
		char *line = at;

		at += strcspn(at, "\n"); /* of what is no text a NUL ends a line, too */
		*at = 0;
		number++;
		if (!matches(g, line))
			continue;
		g->found = true;
		ctl_progress_end(&g->progress);
		err = print_match(g, path, rev, binary ? NULL : line, number);
		if (binary || g->names_only || g->ctl->nul)
			break;
	}
	return err;
}

/* 0, a code, or 1 when nobody reads the output any more. */
static int grep_node(void *arg, const char *path, struct ctl_node *node)
{
	struct grep *g = arg;
	struct ctl_revs revs;
	int err, status = 0;

	if (!S_ISREG(node->mode) || !query_path_below(slice_str(path), slice_str(g->path)))
		return 0;
	err = ctl_node_revs(g->tree, node, &revs);
	if (!err)
		err = first_time(g, (struct version){ node->ino, revs.rev });
	if (err <= 0)
		return err;
	err = ctl_node_content(g->tree, node, &g->content);
	if (!err)
		err = buf_reserve(&g->content, 1);
	if (!err && g->content.len)
		err = grep_content(g, path, revs.rev);
	g->progress.n++;
	g->progress.bytes += g->content.len;
	ctl_progress(&g->progress);
	return err ? err : ctl_flush(&status) ? 0 : 1;
}

/* ---- revisions ----------------------------------------------------------------------------------- */

static int grep_tree(struct grep *g, const char *path)
{
	char *failed = NULL;
	int status = 0, err = ctl_tree_walk(g->tree, path, grep_node, g, &failed);

	if (err == -ENOENT && failed && strcmp(failed, path) == 0)
		err = 0; /* not there yet */
	if (err < 0)
		status = ctl_tree_complain(g->tree, err, failed ? failed : path);
	free(failed);
	return err > 0 ? CTL_TROUBLE : status == CTL_NOT_FOUND ? CTL_TROUBLE : status;
}

static int grep_change(void *arg, const char *path, bool tree)
{
	struct ctl_node node = CTL_NODE_NONE;
	struct grep *g = arg;
	int err;

	if (tree)
		return query_path_below(slice_str(g->path), slice_str(path)) ? grep_tree(g, g->path) :
									       grep_tree(g, path);
	if (!query_path_below(slice_str(path), slice_str(g->path)))
		return 0;
	err = ctl_node_open(g->tree, path, &node);
	if (!err)
		err = grep_node(g, path, &node);
	ctl_node_close(&node);
	if (err < 0)
		ctl_tree_complain(g->tree, err, path);
	return err ? CTL_TROUBLE : 0;
}

static int grep_revision(struct grep *g, mvcc_rev_t rev, bool first)
{
	char expr[32];
	int status;

	snprintf(expr, sizeof(expr), "%" PRIu64, rev);
	status = ctl_tree_open(g->ctl, expr, &g->tree);
	if (status)
		return status;
	status = first ? grep_tree(g, *g->path ? g->path : "/") :
			 ctl_changes(g->ctl, rev, true, grep_change, g);
	ctl_tree_close(g->tree);
	return status;
}

static int grep(struct grep *g, const char *arg, const char *range)
{
	mvcc_rev_t from = 0, to = 0;
	char *path = NULL;
	int status = ctl_open(g->ctl, arg);

	if (!status)
		status = arg ? ctl_tree_path(g->ctl, arg, &path) : 0;
	if (!status)
		status = ctl_range(g->ctl, range, &from, &to);
	g->path = path && strcmp(path, "/") != 0 ? path : "";
	for (mvcc_rev_t rev = from; !status && rev <= to; rev++)
		status = grep_revision(g, rev, rev == from);
	ctl_progress_end(&g->progress);
	free(g->seen);
	buf_release(&g->content);
	free(path);
	ctl_close(g->ctl);
	if (ctl_reader_gone())
		return CTL_OK; /* it has what it wanted */
	return status ? status : g->found ? CTL_OK : CTL_NOT_FOUND;
}

/* ---- arguments ----------------------------------------------------------------------------------- */

static int compile(struct grep *g, const char *pattern, bool basic, int *status)
{
	char text[256];
	int err;

	if (g->fixed)
		return 0;
	err = regcomp(&g->regex, pattern,
		      REG_NOSUB | (basic ? 0 : REG_EXTENDED) | (g->any_case ? REG_ICASE : 0));
	if (err) {
		regerror(err, &g->regex, text, sizeof(text));
		*status = ctl_complain(CTL_TROUBLE, "%s: %s", pattern, text);
	}
	return err;
}

/* Whatever has ".." and no slash is a range, as for log. */
static bool is_range(const char *arg)
{
	return strstr(arg, "..") && !strchr(arg, '/') && strcmp(arg, "..") != 0;
}

static int run(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { CTL_LONG_OPTIONS };
	struct grep g = { .ctl = ctl, .progress = { .what = "versions" } };
	const char *path = NULL, *range = NULL;
	bool basic = false, fixed = false;
	int opt, status;

	while ((opt = getopt_long(argc, argv, "EFGil" CTL_SHORT_OPTIONS, options, NULL)) != -1) {
		if (opt == 'E' || opt == 'F' || opt == 'G') {
			fixed = opt == 'F';
			basic = opt == 'G';
		} else if (opt == 'i') {
			g.any_case = true;
		} else if (opt == 'l') {
			g.names_only = true;
		} else if (!ctl_option(ctl, &ctl_grep, opt, &status)) {
			return status;
		}
	}
	if (optind == argc || optind + 3 < argc || (ctl->nul && ctl->json))
		return ctl_usage(&ctl_grep);
	for (int i = optind + 1; i < argc; i++) {
		const char **word = is_range(argv[i]) ? &range : &path;

		if (*word)
			return ctl_usage(&ctl_grep);
		*word = argv[i];
	}
	g.fixed = fixed ? argv[optind] : NULL;
	if (compile(&g, argv[optind], basic, &status))
		return status;
	status = grep(&g, path, range);
	if (!fixed)
		regfree(&g.regex);
	return status;
}

const struct ctl_verb ctl_grep = {
	.name = "grep",
	.synopsis = "[-E | -F | -G] [-i] [-l] [--json | -z] PATTERN [PATH] [A..B]",
	.summary = "search all versions of files",
	.help = "Prints the lines that match PATTERN in each version of each regular file, of all or of PATH "
		"and\n"
		"what is below it, in the revisions A..B or all there are: revision that made the version, "
		"path and\n"
		"line, with colons between. Each version is read once. Exits with 0 when there is one, 1 "
		"when not.\n\n"
		"  -E         PATTERN is an extended regular expression, as without it\n"
		"  -F         PATTERN is what is looked for itself\n"
		"  -G         PATTERN is a basic regular expression\n"
		"  -i         small and capital letters are the same\n"
		"  -l         only revision and path of what matches\n"
		"  --json     one JSON object a line\n"
		"  -z, --null only the paths, each ended by a NUL\n",
	.run = run,
};
