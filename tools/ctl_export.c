/* export: a revision as an archive, or a range of them for git. */
#include "tools/ctl_export.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct exporting {
	struct ctl *ctl;
	bool git;
	const char *branch, *output;
	const char *what, *path; /* N or A..B; PATH or NULL */
};

static int run_to(const struct exporting *e, const char *path, int fd)
{
	FILE *out;
	int status;

	if (!e->git)
		return export_tar(e->ctl, e->what, path, fd);
	out = fdopen(dup(fd), "w");
	if (!out)
		return ctl_complain_err(-ENOMEM, "export");
	status = export_git(e->ctl, e->what, path, e->branch, out);
	if (fclose(out) && !status)
		status = ctl_complain(CTL_TROUBLE, "cannot write the output: %s", strerror(errno));
	return status;
}

/* To a file: it is there when all of it is. */
static int run_to_file(const struct exporting *e, const char *path)
{
	char *part = NULL;
	int status, fd;

	if (asprintf(&part, "%s.part", e->output) < 0)
		return ctl_complain_err(-ENOMEM, e->output);
	fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0) {
		status = ctl_complain(CTL_TROUBLE, "%s: %s", part, strerror(errno));
	} else {
		status = run_to(e, path, fd);
		if ((fsync(fd) && errno != EINVAL && errno != EROFS) + close(fd) && !status)
			status = ctl_complain(CTL_TROUBLE, "%s: %s", part, strerror(errno));
		if (!status && rename(part, e->output))
			status = ctl_complain(CTL_TROUBLE, "%s: %s", e->output, strerror(errno));
		if (status)
			unlink(part);
	}
	free(part);
	return status;
}

static int run_export(const struct exporting *e)
{
	char *path = NULL;
	int status;

	if (!e->output && isatty(STDOUT_FILENO))
		return ctl_complain(CTL_TROUBLE, "an archive is not for a terminal; say -o FILE");
	status = ctl_open(e->ctl, e->path);
	if (!status)
		status = e->path              ? ctl_tree_path(e->ctl, e->path, &path) :
			 (path = strdup("/")) ? 0 :
						ctl_complain_err(-ENOMEM, "export");
	if (!status)
		status = e->output ? run_to_file(e, path) : run_to(e, path, STDOUT_FILENO);
	free(path);
	ctl_close(e->ctl);
	return status;
}

static int run(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "git", no_argument, NULL, 'g' },
						 { "branch", required_argument, NULL, 'b' },
						 { "output", required_argument, NULL, 'o' },
						 CTL_LONG_OPTIONS };
	struct exporting e = { .ctl = ctl, .branch = "main" };
	int opt, status;

	while ((opt = getopt_long(argc, argv, "o:" CTL_SHORT_OPTIONS, options, NULL)) != -1) {
		if (opt == 'g')
			e.git = true;
		else if (opt == 'b')
			e.branch = optarg;
		else if (opt == 'o')
			e.output = optarg;
		else if (!ctl_option(ctl, &ctl_export, opt, &status))
			return status;
	}
	if (optind == argc || optind + 2 < argc || ctl->json || ctl->nul)
		return ctl_usage(&ctl_export);
	e.what = argv[optind];
	e.path = argv[optind + 1];
	return run_export(&e);
}

const struct ctl_verb ctl_export = {
	.name = "export",
	.synopsis = "[-o FILE] N [PATH] | --git [--branch NAME] [-o FILE] A..B [PATH]",
	.summary = "write a revision as a tar, or a range of them for git",
	.help = "Writes what stood at revision N, or PATH and what is below it, to standard output as a tar "
		"(pax).\n\n"
		"  -o, --output FILE   to FILE, which is there when it is whole\n"
		"  --git               for git fast-import: a commit for each revision from A to B, the "
		"first\n"
		"                      with the whole tree, and each later one with what it changed\n"
		"  --branch NAME       of the branch they go to; main is the default\n",
	.run = run,
};
