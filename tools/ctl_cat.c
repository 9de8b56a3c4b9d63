/* cat: a file as it stood. */
#include "tools/ctl_tree.h"

#include "fs/ns.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define CHUNK ((size_t)256 << 10)

/* `fd`: the file opened for reading, if it is read through a mount. */
static ssize_t read_some(const struct ctl_at *at, int fd, uint64_t off, void *out, size_t len)
{
	ssize_t n;

	if (at->view)
		return ns_at_read(at->db, at->view, at->ino, off, out, len);
	do
		n = pread(fd, out, len, (off_t)off);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* Copies the file to stdout. 0, or the exit status. */
static int copy_out(const struct ctl_at *at, int fd, const char *path)
{
	char *chunk = malloc(CHUNK);
	uint64_t off = 0;
	int status = chunk ? 0 : ctl_complain_err(-ENOMEM, path);

	while (!status) {
		ssize_t n = read_some(at, fd, off, chunk, CHUNK);

		if (n < 0)
			status = ctl_complain(CTL_TROUBLE, "%s: %s", path, mvcc_strerror((int)n));
		if (n <= 0)
			break;
		off += (uint64_t)n;
		fwrite(chunk, 1, (size_t)n, stdout);
		if (!ctl_flush(&status))
			break;
	}
	free(chunk);
	return status;
}

int ctl_complain_type(uint32_t mode, const char *path)
{
	return ctl_complain(CTL_TROUBLE, "%s: %s", path,
			    S_ISDIR(mode) ? "is a directory" :
			    S_ISLNK(mode) ? "is a symbolic link, which is not followed" :
					    "is no regular file");
}

int ctl_cat_out(struct ctl *ctl, const char *path, const char *expr)
{
	struct ctl_at at;
	int fd = -1, status = ctl_at_open(ctl, path, expr, &at);

	if (!status && !S_ISREG(at.mode))
		status = ctl_complain_type(at.mode, path);
	if (!status && !at.view)
		status = ctl_at_reopen(&at, O_RDONLY, path, &fd);
	if (!status)
		status = copy_out(&at, fd, path);
	if (fd >= 0)
		close(fd);
	ctl_at_close(&at);
	return status;
}

/* ---- arguments ----------------------------------------------------------------------------------- */

static int run_path(struct ctl *ctl, const char *arg, const char *expr)
{
	char *path = NULL;
	int status = ctl_open(ctl, arg);

	if (!status)
		status = ctl_tree_path(ctl, arg, &path);
	if (!status)
		status = ctl_cat_out(ctl, path, expr);
	free(path);
	ctl_close(ctl);
	return status;
}

static int run(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "rev", required_argument, NULL, 'r' }, CTL_LONG_OPTIONS };
	const char *expr = "head";
	int opt, status;

	while ((opt = getopt_long(argc, argv, "r:" CTL_SHORT_OPTIONS, options, NULL)) != -1) {
		if (opt == 'r')
			expr = optarg;
		else if (!ctl_option(ctl, &ctl_cat, opt, &status))
			return status;
	}
	if (optind + 1 != argc || ctl->json || ctl->nul)
		return ctl_usage(&ctl_cat);
	return run_path(ctl, argv[optind], expr);
}

const struct ctl_verb ctl_cat = {
	.name = "cat",
	.synopsis = "PATH [--rev N]",
	.summary = "print a file as it stood at a revision",
	.help = "Prints the content of PATH, a regular file.\n\n"
		"  -r, --rev N    at revision N: a number, head, head~3, a tag or a time; see mvccfs(7).\n"
		"                 Without it the newest; what is written but not yet closed is in none\n",
	.run = run,
};
