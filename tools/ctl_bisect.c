/*
 * bisect: the first version of a file that a command finds bad, by halving the revisions. A version that was tried is
 * not tried again.
 */
#include "tools/ctl_changes.h"

#include "fs/json_bytes.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NO_COMMAND = 126 }; /* from here on a shell means that it could not be run, or a signal */

struct bisect {
	struct ctl *ctl;
	const char *path;
	char **command;
	char file[64];     /* a copy of the version at hand */
	mvcc_rev_t passed; /* versions, by the revision that made them; 0: none yet */
	mvcc_rev_t failed;
};

/* ---- one version --------------------------------------------------------------------------------- */

static int copy_version(struct bisect *b, struct ctl_tree *tree, struct ctl_node *node)
{
	struct buf content = { 0 };
	int err = ctl_node_content(tree, node, &content);
	FILE *f = err ? NULL : fopen(b->file, "we");

	if (!err && !f)
		err = -errno;
	if (f && content.len && fwrite(content.data, 1, content.len, f) != content.len)
		err = -EIO;
	if (f && fclose(f) && !err)
		err = -errno;
	if (!err && chmod(b->file, (node->mode & 0777) | S_IRUSR | S_IWUSR))
		err = -errno;
	buf_release(&content);
	return err;
}

/* "{}" among the words after the first is the file. */
static void exec_command(const struct bisect *b, mvcc_rev_t rev)
{
	char number[32];

	snprintf(number, sizeof(number), "%" PRIu64, rev);
	setenv("MVCCFS_VERSION_FILE", b->file, 1);
	setenv("MVCCFS_VERSION_REV", number, 1);
	for (size_t i = 1; b->command[i]; i++)
		if (strcmp(b->command[i], "{}") == 0)
			b->command[i] = (char *)b->file;
	dup2(STDERR_FILENO, STDOUT_FILENO); /* results alone go to stdout */
	execvp(*b->command, b->command);
	fprintf(stderr, "mvccctl: %s: %s\n", *b->command, strerror(errno));
	_exit(127);
}

/* Runs the command: its exit status, or -1 when that was told. */
static int run_command(const struct bisect *b, mvcc_rev_t rev)
{
	pid_t pid;
	int status;

	fflush(stdout);
	pid = fork();
	if (pid == 0)
		exec_command(b, rev);
	if (pid < 0 || waitpid(pid, &status, 0) < 0) {
		ctl_complain(CTL_TROUBLE, "%s: %s", b->command[0], strerror(errno));
		return -1;
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status) >= NO_COMMAND) {
		ctl_complain(CTL_TROUBLE, "%s: cannot be run, or was killed; nothing is known then",
			     b->command[0]);
		return -1;
	}
	return WEXITSTATUS(status);
}

/* Does the version at `rev` pass? 1, 0, or negative when it was told why not. Where there is none, nothing is bad. */
static int passes_at(struct bisect *b, mvcc_rev_t rev)
{
	struct ctl_node node = CTL_NODE_NONE;
	struct ctl_revs revs;
	struct ctl_tree *tree;
	char expr[32];
	int err, got = -1;

	snprintf(expr, sizeof(expr), "%" PRIu64, rev);
	if (ctl_tree_open(b->ctl, expr, &tree))
		return -1;
	err = ctl_node_open(tree, b->path, &node);
	if (err == -ENOENT || err == -ENOTDIR || (!err && !S_ISREG(node.mode))) {
		ctl_node_close(&node);
		ctl_tree_close(tree);
		return 1;
	}
	if (!err)
		err = ctl_node_revs(tree, &node, &revs);
	if (!err && revs.rev == b->failed)
		got = 0;
	else if (!err && revs.rev == b->passed)
		got = 1;
	else if (!err && !(err = copy_version(b, tree, &node))) {
		int status = run_command(b, revs.rev);

		fprintf(stderr, "%" PRIu64 ": %s\n", revs.rev, status < 0 ? "?" : status ? "bad" : "good");
		got = status < 0 ? -1 : status == 0;
		if (got > 0)
			b->passed = revs.rev;
		else if (got == 0)
			b->failed = revs.rev;
	}
	if (err)
		ctl_tree_complain(tree, err, b->path);
	ctl_node_close(&node);
	ctl_tree_close(tree);
	return got;
}

/* ---- the search ---------------------------------------------------------------------------------- */

/* Prints who made the version, as log does. */
static int print_story(struct bisect *b)
{
	struct json_object *req = ctl_request("log"), *reply, *entries, *story;
	char time[64];
	size_t n;
	int err = req ? json_add_u64(req, "from", b->failed) : 0, status;

	if (req && !err)
		err = json_add_u64(req, "to", b->failed);
	status = req ? ctl_ask_filled(b->ctl, req, err, &reply) : CTL_TROUBLE;
	if (status)
		return status;
	entries = ctl_array(reply, "entries", &n);
	if (n == 1) {
		story = json_object_array_get_idx(entries, 0);
		if (b->ctl->json) {
			status = ctl_print_json(story);
		} else {
			ctl_format_time((int64_t)ctl_number(story, "time_ns"), time);
			printf("%6" PRIu64 "  %s  %s  %s  %s  ", b->failed, time,
			       ctl_user_name((uint32_t)ctl_number(story, "uid")), ctl_text(story, "comm"),
			       ctl_text(story, "op"));
			ctl_print_bytes(story, "path");
			putchar('\n');
		}
	} else {
		printf("%6" PRIu64 "\n", b->failed); /* its story was compacted away */
	}
	json_object_put(reply);
	return status;
}

static int search(struct bisect *b, mvcc_rev_t from, mvcc_rev_t to)
{
	mvcc_rev_t good = from - 1, bad = to;
	int got = passes_at(b, to);

	if (got > 0)
		return ctl_complain(CTL_NOT_FOUND, "%s: the newest version is good, or there is none",
				    b->path);
	while (got >= 0 && bad - good > 1) {
		mvcc_rev_t middle = good + (bad - good) / 2;

		got = passes_at(b, middle);
		if (got > 0)
			good = middle;
		else
			bad = middle;
	}
	return got < 0 ? CTL_TROUBLE : print_story(b);
}

static int make_file(struct bisect *b)
{
	const char *dir = getenv("TMPDIR");
	int fd;

	if (!dir || strlen(dir) + sizeof("/mvccfs-XXXXXX") > sizeof(b->file))
		dir = "/tmp";
	snprintf(b->file, sizeof(b->file), "%s/mvccfs-XXXXXX", dir);
	fd = mkstemp(b->file);
	if (fd < 0)
		return ctl_complain(CTL_TROUBLE, "%s: %s", b->file, strerror(errno));
	close(fd);
	return 0;
}

static int bisect(struct bisect *b, const char *arg, const char *range)
{
	mvcc_rev_t from = 0, to = 0;
	char *path = NULL;
	int status = ctl_open(b->ctl, arg);

	if (!status)
		status = ctl_tree_path(b->ctl, arg, &path);
	if (!status)
		status = ctl_range(b->ctl, range, &from, &to);
	b->path = path;
	if (!status)
		status = make_file(b);
	if (!status) {
		status = search(b, from, to);
		unlink(b->file);
	}
	free(path);
	ctl_close(b->ctl);
	return status;
}

static int run(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { CTL_LONG_OPTIONS };
	struct bisect b = { .ctl = ctl };
	const char *path, *range = NULL;
	int opt, status;

	while ((opt = getopt_long(argc, argv, "+" CTL_SHORT_OPTIONS, options, NULL)) != -1)
		if (!ctl_option(ctl, &ctl_bisect, opt, &status))
			return status;
	if (optind + 2 > argc || ctl->nul)
		return ctl_usage(&ctl_bisect);
	path = argv[optind++];
	if (strcmp(argv[optind], "--") != 0)
		range = argv[optind++];
	if (optind + 1 >= argc || strcmp(argv[optind], "--") != 0)
		return ctl_usage(&ctl_bisect);
	b.command = argv + optind + 1;
	return bisect(&b, path, range);
}

const struct ctl_verb ctl_bisect = {
	.name = "bisect",
	.synopsis = "[--json] PATH [A..B] -- COMMAND...",
	.summary = "find the first version of a file that a command finds bad",
	.help = "Runs COMMAND with one version of PATH after the other, halving the revisions A..B or all "
		"there are\n"
		"each time, and prints the revision that made the first one for which it exits with anything "
		"but 0.\n"
		"The version is in a file: \"{}\" among the words of COMMAND becomes its name, and "
		"$MVCCFS_VERSION_FILE\n"
		"has it; $MVCCFS_VERSION_REV has its revision. An exit of 126 and above ends the search.\n"
		"Where PATH was no file it counts as good. Exits with 1 when the newest version is good.\n\n"
		"  --json   prints the entry of the log as a JSON object\n",
	.run = run,
};
