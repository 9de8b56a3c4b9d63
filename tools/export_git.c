/*
 * History as a stream for git fast-import: a commit for each revision, with its author, time and message from the
 * story. The first has the whole tree, each later one what it changed, told by the daemon (`changes` of @ctl). Git
 * knows files, their executable bit and symbolic links; no empty directory, no device, and no name ".git".
 */
#include "tools/ctl_export.h"

#include "tools/ctl_changes.h"

#include "fs/json_bytes.h"
#include "fs/query.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK ((size_t)256 << 10)

struct git {
	struct ctl *ctl;
	FILE *out;
	const char *branch, *path; /* what is exported: "" for all, or "/a/b" */
	struct ctl_tree *tree;     /* at the revision at hand */
	struct ctl_progress progress;
	char host[256];
	char *chunk;
	bool told_names;
	int status;
};

/* ---- words of the stream ------------------------------------------------------------------------- */

/* In quotes, from the root, without the slash in front. */
static void put_path(FILE *out, const char *path)
{
	putc('"', out);
	for (path += *path == '/'; *path; path++) {
		if (*path == '"' || *path == '\\')
			fprintf(out, "\\%c", *path);
		else if (*path == '\n')
			fputs("\\n", out);
		else
			putc(*path, out);
	}
	fputs("\"\n", out);
}

/* A name in a commit must not have what delimits it. */
static void put_author(struct git *g, uint32_t uid)
{
	const char *name = ctl_user_name(uid);

	for (const char *p = name; *p; p++)
		if (!strchr("<>\n", *p))
			putc(*p, g->out);
	fputs(" <", g->out);
	for (const char *p = name; *p; p++)
		if (!strchr("<>\n ", *p))
			putc(*p, g->out);
	fprintf(g->out, "@%s>", g->host);
}

/* Can git check out what has such a name in its path? */
static bool git_takes(const char *path)
{
	while (*path) {
		size_t len = strcspn(path += strspn(path, "/"), "/");

		if ((len == 4 && strncasecmp(path, ".git", 4) == 0) ||
		    (len == 5 && strncasecmp(path, "git~1", 5) == 0))
			return false;
		path += len;
	}
	return true;
}

static void leave_out(struct git *g, const char *path)
{
	if (g->told_names)
		return;
	g->told_names = true;
	ctl_progress_end(&g->progress);
	ctl_complain(0, "%s: left out, as all with this name: git has no place for it", path);
}

/* ---- files --------------------------------------------------------------------------------------- */

static int put_content(struct git *g, struct ctl_node *node)
{
	uint64_t off = 0;

	fprintf(g->out, "data %" PRIu64 "\n", node->size);
	while (off < node->size) {
		ssize_t n = ctl_node_read(g->tree, node, off, g->chunk, CHUNK);

		if (n <= 0)
			return n ? (int)n : -EIO;
		fwrite(g->chunk, 1, (size_t)n, g->out);
		off += (uint64_t)n;
		g->progress.bytes += (uint64_t)n;
		ctl_progress(&g->progress);
	}
	putc('\n', g->out);
	return 0;
}

static int put_link(struct git *g, struct ctl_node *node)
{
	struct buf target = { 0 };
	int err = ctl_node_readlink(g->tree, node, &target);

	if (!err) {
		fprintf(g->out, "data %zu\n", target.len);
		fwrite(target.data, 1, target.len, g->out);
		putc('\n', g->out);
	}
	buf_release(&target);
	return err;
}

static int put_node(void *arg, const char *path, struct ctl_node *node)
{
	struct git *g = arg;

	if (!S_ISREG(node->mode) && !S_ISLNK(node->mode))
		return 0;
	if (!git_takes(path)) {
		leave_out(g, path);
		return 0;
	}
	fprintf(g->out, "M %s inline ",
		S_ISLNK(node->mode)  ? "120000" :
		node->mode & S_IXUSR ? "100755" :
				       "100644");
	put_path(g->out, path);
	return S_ISLNK(node->mode) ? put_link(g, node) : put_content(g, node);
}

static int failed_at(struct git *g, int err, const char *path)
{
	ctl_progress_end(&g->progress);
	g->status = ctl_tree_complain(g->tree, err, path);
	return g->status;
}

static int put_tree(struct git *g, const char *path)
{
	char *failed = NULL;
	int err = ctl_tree_walk(g->tree, path, put_node, g, &failed);

	if (err == -ENOENT && failed && strcmp(failed, path) == 0)
		err = 0; /* what is exported was not there yet */
	if (err)
		failed_at(g, err, failed ? failed : path);
	free(failed);
	return g->status;
}

static int put_file(struct git *g, const char *path)
{
	struct ctl_node node = CTL_NODE_NONE;
	int err = ctl_node_open(g->tree, path, &node);

	if (!err)
		err = put_node(g, path, &node);
	ctl_node_close(&node);
	return err ? failed_at(g, err, path) : 0;
}

/* ---- what a revision changed --------------------------------------------------------------------- */

/* Is `path` `dir`, or below it? */
static bool below(const char *path, const char *dir)
{
	return query_path_below(slice_str(path), slice_str(dir));
}

static int put_change(struct git *g, const char *path, bool after, bool tree)
{
	if (below(g->path, path))
		path = *g->path ? g->path : path; /* what is exported lies in what was changed */
	else if (!below(path, g->path))
		return 0;
	if (after)
		return tree ? put_tree(g, path) : put_file(g, path);
	if (git_takes(path)) {
		fputs("D ", g->out);
		put_path(g->out, path);
	}
	return 0;
}

struct side {
	struct git *g;
	bool after;
};

static int side_change(void *arg, const char *path, bool tree)
{
	const struct side *s = arg;

	return put_change(s->g, path, s->after, tree);
}

static int put_changes(struct git *g, mvcc_rev_t rev, bool after)
{
	struct side s = { g, after };

	return g->status = ctl_changes(g->ctl, rev, after, side_change, &s);
}

/* ---- commits ------------------------------------------------------------------------------------- */

/* The entry of the log; to be released. */
static int ask_story(struct git *g, mvcc_rev_t rev, struct json_object **out)
{
	struct json_object *req = ctl_request("log"), *reply, *entries;
	size_t n;
	int err = req ? json_add_u64(req, "from", rev) : 0;

	if (req && !err)
		err = json_add_u64(req, "to", rev);
	g->status = req ? ctl_ask_filled(g->ctl, req, err, &reply) : CTL_TROUBLE;
	if (g->status)
		return g->status;
	entries = ctl_array(reply, "entries", &n);
	if (n == 1)
		*out = json_object_get(json_object_array_get_idx(entries, 0));
	else
		g->status = ctl_complain(CTL_COMPACTED, "the log of revision %" PRIu64 " was compacted away",
					 rev);
	json_object_put(reply);
	return g->status;
}

/* The message that the story has, or what was done to which path. */
static void message_of(struct json_object *story, mvcc_rev_t rev, FILE *out)
{
	const char *message = ctl_text(story, "message"), *session = ctl_text(story, "session");
	struct buf path = { 0 };

	if (message && *message) {
		fputs(message, out);
	} else {
		fputs(ctl_text(story, "op") ? ctl_text(story, "op") : "", out);
		if (json_get_bytes(story, "path", &path) == 0 && path.len) {
			putc(' ', out);
			ctl_print_escaped(out, slice_buf(&path));
		}
	}
	fprintf(out, "\n\nMvccfs-Revision: %" PRIu64 "\n", rev);
	if (session && *session)
		fprintf(out, "Mvccfs-Session: %s\n", session);
	buf_release(&path);
}

static int put_head(struct git *g, mvcc_rev_t rev, bool first)
{
	struct json_object *story = NULL;
	char *message = NULL;
	size_t len = 0;
	FILE *text;

	if (ask_story(g, rev, &story))
		return g->status;
	text = open_memstream(&message, &len);
	if (text) {
		message_of(story, rev, text);
		fclose(text);
	}
	if (!message) {
		json_object_put(story);
		return g->status = ctl_complain_err(-ENOMEM, "export");
	}
	fprintf(g->out, "commit refs/heads/%s\nmark :%" PRIu64 "\ncommitter ", g->branch, rev);
	put_author(g, (uint32_t)ctl_number(story, "uid"));
	fprintf(g->out, " %" PRIu64 " +0000\ndata %zu\n%s", ctl_number(story, "time_ns") / 1000000000, len,
		message);
	if (first)
		fputs("deleteall\n", g->out);
	free(message);
	json_object_put(story);
	return 0;
}

static int put_revision(struct git *g, mvcc_rev_t rev, bool first)
{
	char expr[32];

	snprintf(expr, sizeof(expr), "%" PRIu64, rev);
	g->status = ctl_tree_open(g->ctl, expr, &g->tree);
	if (g->status)
		return g->status;
	if (!put_head(g, rev, first)) {
		if (first)
			put_tree(g, *g->path ? g->path : "/");
		else if (!put_changes(g, rev, false))
			put_changes(g, rev, true);
	}
	if (!g->status)
		putc('\n', g->out);
	ctl_tree_close(g->tree);
	g->tree = NULL;
	g->progress.n++;
	ctl_progress(&g->progress);
	return g->status;
}

static int put_range(struct git *g, mvcc_rev_t from, mvcc_rev_t to)
{
	fputs("feature done\n", g->out); /* so that a stream cut short is an error there, too */
	for (mvcc_rev_t rev = from; rev <= to && !g->status; rev++) {
		put_revision(g, rev, rev == from);
		if (!g->status && ferror(g->out))
			g->status = CTL_TROUBLE;
	}
	if (!g->status)
		fputs("done\n", g->out);
	ctl_progress_end(&g->progress);
	if ((fflush(g->out) || ferror(g->out)) && !ctl_reader_gone())
		g->status = ctl_complain(CTL_TROUBLE, "cannot write the output");
	return g->status;
}

int export_git(struct ctl *ctl, const char *range, const char *path, const char *branch, FILE *out)
{
	struct git g = {
		.ctl = ctl,
		.out = out,
		.branch = branch,
		.path = strcmp(path, "/") == 0 ? "" : path,
		.progress = { .what = "revisions" },
	};
	mvcc_rev_t from, to;
	int status = ctl_range(ctl, range, &from, &to);

	if (status)
		return status;
	if (gethostname(g.host, sizeof(g.host) - 1))
		strcpy(g.host, "localhost");
	g.chunk = malloc(CHUNK);
	status = g.chunk ? put_range(&g, from, to) : ctl_complain_err(-ENOMEM, "export");
	free(g.chunk);
	return status;
}
