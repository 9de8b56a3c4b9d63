/*
 * import: a directory or an archive as one revision, by a transaction of the mount. What an archive says of paths is not
 * believed: none leads out of the place it is unpacked in, by "..", from the root, or over a symbolic link, whether that
 * was there before or comes from the archive.
 */
#include "tools/ctl.h"
#include "tools/ctl_progress.h"

#include "fs/json_bytes.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <linux/openat2.h>
#include <locale.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CHUNK ((size_t)256 << 10)

struct import {
	struct ctl *ctl;
	const char *source, *to;
	char *dir; /* the source, absolute, when it is a directory */
	struct archive *in, *out;
	struct archive_entry_linkresolver *links; /* of a directory: finds the names of one file */
	struct ctl_progress progress;
};

static int failed(struct import *im, struct archive *a, const char *path)
{
	const char *text = archive_error_string(a);

	ctl_progress_end(&im->progress);
	return ctl_complain(CTL_TROUBLE, "%s: %s", path, text ? text : "cannot be imported");
}

/* ---- entries ------------------------------------------------------------------------------------- */

static int copy_data(struct import *im, struct archive_entry *entry)
{
	const void *data;
	size_t len;
	la_int64_t off;
	int got;

	while ((got = archive_read_data_block(im->in, &data, &len, &off)) == ARCHIVE_OK) {
		if (archive_write_data_block(im->out, data, len, off) < ARCHIVE_WARN)
			return failed(im, im->out, archive_entry_pathname(entry));
		im->progress.bytes += len;
		ctl_progress(&im->progress);
	}
	return got == ARCHIVE_EOF ? 0 : failed(im, im->in, archive_entry_pathname(entry));
}

/* A decimal number below zero, which the library takes apart as if only the seconds were negative. */
static void mend_time(struct import *im, struct archive_entry *entry)
{
	time_t s = archive_entry_mtime(entry);
	long ns = archive_entry_mtime_nsec(entry);

	if ((archive_format(im->in) & ARCHIVE_FORMAT_BASE_MASK) == ARCHIVE_FORMAT_TAR && s < 0 && ns > 0)
		archive_entry_set_mtime(entry, s - 1, 1000000000 - ns);
}

/* Below the source, as what it is there. */
static void cut_prefix(struct import *im, struct archive_entry *entry)
{
	const char *path = archive_entry_pathname(entry) + strlen(im->dir);
	char *rest = strdup(path + strspn(path, "/"));

	archive_entry_copy_pathname(entry, rest && *rest ? rest : "./");
	free(rest);
}

static int write_entry(struct import *im, struct archive_entry *entry)
{
	const char *path = archive_entry_pathname(entry);
	int status = 0;

	if (archive_write_header(im->out, entry) < ARCHIVE_WARN)
		return failed(im, im->out, path ? path : "?");
	if (archive_entry_size(entry) > 0 && !archive_entry_hardlink(entry))
		status = copy_data(im, entry);
	if (!status && archive_write_finish_entry(im->out) < ARCHIVE_WARN)
		status = failed(im, im->out, path);
	im->progress.n++;
	ctl_progress(&im->progress);
	return status;
}

static int import_entry(struct import *im, struct archive_entry *entry)
{
	struct archive_entry *spare = NULL;

	if (!archive_entry_pathname(entry))
		return ctl_complain(CTL_TROUBLE, "%s: has a name that cannot be read", im->source);
	if (im->dir) {
		archive_read_disk_descend(im->in);
		cut_prefix(im, entry);
		archive_entry_linkify(im->links, &entry, &spare);
	} else {
		mend_time(im, entry);
	}
	return entry ? write_entry(im, entry) : 0;
}

static int import_entries(struct import *im)
{
	struct archive_entry *entry = archive_entry_new();
	int got = ARCHIVE_OK, status = entry ? 0 : ctl_complain_err(-ENOMEM, im->source);

	while (!status && (got = archive_read_next_header2(im->in, entry)) >= ARCHIVE_WARN &&
	       got != ARCHIVE_EOF)
		status = import_entry(im, entry);
	if (!status && got != ARCHIVE_EOF)
		status = failed(im, im->in, im->source);
	if (!status && archive_write_close(im->out) < ARCHIVE_WARN)
		status = failed(im, im->out, im->source);
	ctl_progress_end(&im->progress);
	archive_entry_free(entry);
	return status;
}

/* ---- both sides ---------------------------------------------------------------------------------- */

static int open_source(struct import *im)
{
	bool in = strcmp(im->source, "-") == 0;
	struct stat st;
	int got;

	if (!in && stat(im->source, &st))
		return ctl_complain(errno == ENOENT ? CTL_NOT_FOUND : CTL_TROUBLE, "%s: %s", im->source,
				    strerror(errno));
	if (!in && S_ISDIR(st.st_mode)) {
		im->dir = realpath(im->source, NULL);
		im->in = archive_read_disk_new();
		im->links = archive_entry_linkresolver_new();
		if (!im->dir || !im->in || !im->links)
			return ctl_complain_err(-ENOMEM, im->source);
		archive_entry_linkresolver_set_strategy(im->links, ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE);
		archive_read_disk_set_symlink_physical(im->in);
		got = ARCHIVE_OK; /* opened by begin_reading() */
	} else {
		im->in = archive_read_new();
		if (!im->in)
			return ctl_complain_err(-ENOMEM, im->source);
		archive_read_support_filter_all(im->in);
		archive_read_support_format_tar(im->in);
		archive_read_support_format_cpio(im->in);
		got = archive_read_open_filename(im->in, in ? NULL : im->source, CHUNK);
	}
	return got < ARCHIVE_WARN ? failed(im, im->in, im->source) : 0;
}

/* The library writes below the working directory, so that becomes the place, found without following a link. */
static int enter_place(const char *root, const char *to)
{
	struct open_how how = { .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
				.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS };
	int top = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -1, status = 0;

	to += strspn(to, "/");
	if (top >= 0)
		fd = (int)syscall(SYS_openat2, top, *to ? to : ".", &how, sizeof(how));
	if (fd < 0 || fchdir(fd))
		status = ctl_complain(errno == ENOENT ? CTL_NOT_FOUND : CTL_TROUBLE, "/%s: %s", to,
				      errno == ELOOP ? "leads over a symbolic link, which is not followed" :
						       strerror(errno));
	if (fd >= 0)
		close(fd);
	if (top >= 0)
		close(top);
	return status;
}

/* Between two entries a reader of directories goes back to where it was opened: that must be the place to write to. */
static int begin_reading(struct import *im)
{
	if (im->dir && archive_read_disk_open(im->in, im->dir) < ARCHIVE_WARN)
		return failed(im, im->in, im->source);
	return 0;
}

static int open_target(struct import *im)
{
	int flags = ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_TIME | ARCHIVE_EXTRACT_XATTR |
		    ARCHIVE_EXTRACT_SECURE_SYMLINKS | ARCHIVE_EXTRACT_SECURE_NODOTDOT |
		    ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS;

	im->out = archive_write_disk_new();
	if (!im->out)
		return ctl_complain_err(-ENOMEM, im->source);
	archive_write_disk_set_options(im->out, geteuid() == 0 ? flags | ARCHIVE_EXTRACT_OWNER : flags);
	return 0;
}

static int import_into(struct import *im, const char *root)
{
	int home = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC), status;

	status = open_target(im);
	if (!status)
		status = enter_place(root, im->to);
	if (!status)
		status = begin_reading(im);
	if (!status)
		status = import_entries(im);
	archive_write_free(im->out); /* also sets the last times */
	if (home < 0 || fchdir(home)) {
		/* Nowhere to go back to: at least out of what is about to end. */
		if (chdir("/") && !status)
			status = ctl_complain(CTL_TROUBLE, "/: %s", strerror(errno));
	}
	if (home >= 0)
		close(home);
	return status;
}

static int told(struct ctl *ctl, uint64_t rev)
{
	struct json_object *o;
	int err, status;

	if (!ctl->json) {
		printf("%" PRIu64 "\n", rev);
		return 0;
	}
	o = json_object_new_object();
	err = o ? json_add_u64(o, "rev", rev) : -ENOMEM;
	status = err ? ctl_complain_err(err, "import") : ctl_print_json(o);
	json_object_put(o);
	return status;
}

static int import_mounted(struct import *im)
{
	char *root;
	uint64_t rev;
	int status = ctl_txn_begin(im->ctl, &root);

	if (status)
		return status;
	status = import_into(im, root);
	status = ctl_txn_end(root, status, &rev);
	return status ? status : told(im->ctl, rev);
}

static int import(struct import *im, const char *to)
{
	char *path = NULL, *message = NULL;
	int status;

	setlocale(LC_CTYPE, "C.UTF-8"); /* names in archives are UTF-8, or bytes */
	if (!im->ctl->message && asprintf(&message, "import %s", im->source) >= 0)
		im->ctl->message = message;
	status = open_source(im); /* before anything is changed */
	if (!status)
		status = ctl_open(im->ctl, to);
	if (!status && !im->ctl->mountpoint)
		status = ctl_complain(CTL_TROUBLE, "import works through a mount: mount the database first");
	if (!status && to)
		status = ctl_tree_path(im->ctl, to, &path);
	im->to = path ? path : "/";
	if (!status)
		status = import_mounted(im);
	archive_read_free(im->in);
	archive_entry_linkresolver_free(im->links);
	free(im->dir);
	free(path);
	free(message);
	ctl_close(im->ctl);
	return status;
}

static int run(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "to", required_argument, NULL, 't' },
						 { "message", required_argument, NULL, CTL_OPT_MESSAGE },
						 CTL_LONG_OPTIONS };
	struct import im = { .ctl = ctl, .progress = { .what = "files" } };
	const char *to = NULL;
	int opt, status;

	while ((opt = getopt_long(argc, argv, "t:" CTL_SHORT_OPTIONS, options, NULL)) != -1) {
		if (opt == 't')
			to = optarg;
		else if (!ctl_option(ctl, &ctl_import, opt, &status))
			return status;
	}
	if (optind + 1 != argc || ctl->nul)
		return ctl_usage(&ctl_import);
	im.source = argv[optind];
	return import(&im, to);
}

const struct ctl_verb ctl_import = {
	.name = "import",
	.synopsis = "[--to PATH] [--message TEXT] [--json] DIR | TAR | -",
	.summary = "bring a directory or an archive in, as one revision",
	.help = "Brings all that is in DIR, or in an archive (tar or cpio, compressed or not), into a mount, "
		"as one\n"
		"revision, which is printed; or nothing. What is there under other names stays. Exits with 1 "
		"when\n"
		"others have changed the same meanwhile.\n\n"
		"  -t, --to PATH    into this directory; without it, the root of the tree\n"
		"  --message TEXT   what the log will say\n"
		"  --json           prints a JSON object\n",
	.run = run,
};
