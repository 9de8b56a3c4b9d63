/*
 * A revision as an archive: pax, so that names of any length, times to the nanosecond, extended attributes and holes
 * are in it. Of several names of one file the first has the content, the others are links to it.
 */
#include "tools/ctl_export.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <sys/stat.h>

#define CHUNK ((size_t)256 << 10)
#define RECORD 10240 /* what every tar rounds up to */

/* Names of files that have several: by number, the path of the first. */
struct first_name {
	uint64_t ino;
	char *path;
};

struct first_names {
	struct first_name *slots; /* a power of two, at most half full */
	size_t n, cap;
};

static struct first_name *slot_of(struct first_names *f, uint64_t ino)
{
	size_t i = (size_t)(ino * 0x9e3779b97f4a7c15u) & (f->cap - 1);

	while (f->slots[i].path && f->slots[i].ino != ino)
		i = (i + 1) & (f->cap - 1);
	return &f->slots[i];
}

static int grow(struct first_names *f)
{
	struct first_names more = { .cap = f->cap ? 2 * f->cap : 256, .n = f->n };

	more.slots = calloc(more.cap, sizeof(*more.slots));
	if (!more.slots)
		return -ENOMEM;
	for (size_t i = 0; i < f->cap; i++)
		if (f->slots[i].path)
			*slot_of(&more, f->slots[i].ino) = f->slots[i];
	free(f->slots);
	*f = more;
	return 0;
}

/* `*first` is the path that the file was told by before; NULL: it is the first one, and remembered. */
static int first_name(struct first_names *f, uint64_t ino, const char *path, const char **first)
{
	struct first_name *slot;

	if (f->n * 2 >= f->cap && grow(f))
		return -ENOMEM;
	slot = slot_of(f, ino);
	*first = slot->path;
	if (slot->path)
		return 0;
	slot->ino = ino;
	slot->path = strdup(path);
	f->n += slot->path != NULL;
	return slot->path ? 0 : -ENOMEM;
}

static void first_names_release(struct first_names *f)
{
	for (size_t i = 0; i < f->cap; i++)
		free(f->slots[i].path);
	free(f->slots);
}

struct tar {
	struct ctl_tree *tree;
	struct archive *archive;
	struct first_names names;
	struct ctl_progress progress;
	char *chunk, *zeros;
	int status; /* once something is wrong that was told */
};

/* ENOMEM and the like end up here as well as a full disk. */
static int archive_failed(struct tar *t)
{
	const char *text = archive_error_string(t->archive);

	ctl_progress_end(&t->progress);
	t->status = ctl_reader_gone() ?
			    CTL_TROUBLE :
			    ctl_complain(CTL_TROUBLE, "cannot write the archive: %s", text ? text : "?");
	return 1;
}

/* ---- an entry ------------------------------------------------------------------------------------ */

static int add_xattrs(struct tar *t, struct ctl_node *node, struct archive_entry *entry)
{
	struct buf names = { 0 }, value = { 0 };
	int err = ctl_node_listxattr(t->tree, node, &names);

	for (size_t at = 0; !err && at < names.len;) {
		const char *name = (const char *)names.data + at;

		err = ctl_node_getxattr(t->tree, node, name, &value);
		if (!err)
			archive_entry_xattr_add_entry(entry, name, value.data, value.len);
		at += strlen(name) + 1;
	}
	buf_release(&names);
	buf_release(&value);
	return err;
}

static int add_holes(struct tar *t, struct ctl_node *node, struct archive_entry *entry)
{
	uint64_t start = 0, end = 0, off = 0, n = 0;
	int got;

	while ((got = ctl_node_data(t->tree, node, off, &start, &end)) > 0) {
		if (start == 0 && end >= node->size)
			return 0; /* no hole */
		archive_entry_sparse_add_entry(entry, (int64_t)start, (int64_t)(end - start));
		off = end;
		n++;
	}
	if (!got && !n && node->size)
		archive_entry_sparse_add_entry(entry, (int64_t)node->size, 0);
	return got;
}

/*
 * The header has a decimal number, which the library puts together from seconds and nanoseconds as if both had the sign
 * of the first.
 */
static void set_mtime(struct archive_entry *entry, int64_t ns)
{
	int64_t s = ns / 1000000000, rest = ns % 1000000000;

	archive_entry_set_mtime(entry, (time_t)s, s < 0 ? -rest : rest < 0 ? 0 : rest);
}

static int fill_entry(struct tar *t, const char *path, struct ctl_node *node, struct archive_entry *entry)
{
	struct buf target = { 0 };
	int err = 0;

	archive_entry_copy_pathname(entry, path);
	archive_entry_set_mode(entry, node->mode);
	archive_entry_set_uid(entry, node->uid);
	archive_entry_set_gid(entry, node->gid);
	set_mtime(entry, node->mtime_ns);
	archive_entry_set_nlink(entry, (unsigned)node->nlink);
	if (S_ISCHR(node->mode) || S_ISBLK(node->mode))
		archive_entry_set_rdev(entry, (dev_t)node->rdev);
	archive_entry_set_size(entry, S_ISREG(node->mode) ? (int64_t)node->size : 0);
	if (S_ISLNK(node->mode)) {
		err = ctl_node_readlink(t->tree, node, &target);
		if (!err)
			err = buf_put_u8(&target, 0);
		if (!err)
			archive_entry_copy_symlink(entry, (const char *)target.data);
	}
	if (!err)
		err = add_xattrs(t, node, entry);
	if (!err && S_ISREG(node->mode))
		err = add_holes(t, node, entry);
	buf_release(&target);
	return err;
}

/* ---- content ------------------------------------------------------------------------------------- */

/* The writer wants the holes, too, and leaves them out itself. */
static int write_hole(struct tar *t, uint64_t len)
{
	while (len) {
		size_t n = len < CHUNK ? (size_t)len : CHUNK;

		if (archive_write_data(t->archive, t->zeros, n) < 0)
			return archive_failed(t);
		len -= n;
	}
	return 0;
}

static int write_range(struct tar *t, struct ctl_node *node, uint64_t off, uint64_t end)
{
	while (off < end) {
		size_t want = end - off < CHUNK ? (size_t)(end - off) : CHUNK;
		ssize_t n = ctl_node_read(t->tree, node, off, t->chunk, want);

		if (n <= 0)
			return n ? (int)n : -EIO; /* a version of the past does not shrink */
		if (archive_write_data(t->archive, t->chunk, (size_t)n) < 0)
			return archive_failed(t);
		off += (uint64_t)n;
		t->progress.bytes += (uint64_t)n;
		ctl_progress(&t->progress);
	}
	return 0;
}

static int write_content(struct tar *t, struct ctl_node *node)
{
	uint64_t off = 0, start, end;
	int got;

	while ((got = ctl_node_data(t->tree, node, off, &start, &end)) > 0) {
		if (end > node->size)
			end = node->size;
		got = write_hole(t, start - off);
		if (!got)
			got = write_range(t, node, start, end);
		if (got)
			return got;
		off = end;
	}
	return got ? got : write_hole(t, node->size - off);
}

/* A negative code, or 1 when it was told. */
static int write_entry(struct tar *t, struct archive_entry *entry, const char *path, struct ctl_node *node)
{
	const char *first = NULL;
	int err = 0;

	if (node->nlink > 1 && !S_ISDIR(node->mode))
		err = first_name(&t->names, node->ino, path, &first);
	if (!err)
		err = fill_entry(t, path, node, entry);
	if (err)
		return err;
	if (first) {
		archive_entry_copy_hardlink(entry, first);
		archive_entry_set_size(entry, 0);
		archive_entry_sparse_clear(entry);
		archive_entry_xattr_clear(entry);
	}
	if (archive_write_header(t->archive, entry) < ARCHIVE_WARN)
		return archive_failed(t);
	return S_ISREG(node->mode) && !first ? write_content(t, node) : 0;
}

static int tar_node(void *arg, const char *path, struct ctl_node *node)
{
	struct tar *t = arg;
	struct archive_entry *entry;
	int err;

	if (S_ISSOCK(node->mode)) {
		ctl_progress_end(&t->progress);
		ctl_complain(0, "%s: a socket, which no archive can hold, is left out", path);
		return 0;
	}
	entry = archive_entry_new();
	if (!entry)
		return -ENOMEM;
	err = write_entry(t, entry, strcmp(path, "/") == 0 ? "./" : path + 1, node);
	archive_entry_free(entry);
	t->progress.n++;
	ctl_progress(&t->progress);
	return err;
}

/* ---- the archive --------------------------------------------------------------------------------- */

static int write_all(struct tar *t, const char *path, int fd)
{
	char *failed = NULL;
	int err;

	archive_write_set_bytes_in_last_block(t->archive, RECORD); /* a pipe or a file, the same */
	if (archive_write_set_format_pax(t->archive) < ARCHIVE_WARN ||
	    archive_write_set_format_option(t->archive, "pax", "xattrheader", "SCHILY") < ARCHIVE_WARN ||
	    archive_write_open_fd(t->archive, fd)) {
		archive_failed(t);
		return t->status;
	}
	err = ctl_tree_walk(t->tree, path, tar_node, t, &failed);
	ctl_progress_end(&t->progress);
	if (err < 0)
		t->status = ctl_tree_complain(t->tree, err, failed ? failed : path);
	else if (!err && archive_write_close(t->archive) < ARCHIVE_WARN)
		archive_failed(t);
	if (t->status)
		archive_write_fail(t->archive); /* what was cut short must not look whole */
	free(failed);
	return t->status;
}

int export_tar(struct ctl *ctl, const char *expr, const char *path, int fd)
{
	struct tar t = { .progress = { .what = "files" } };
	int status = ctl_tree_open(ctl, expr, &t.tree);

	if (status)
		return status;
	setlocale(LC_CTYPE, "C.UTF-8"); /* names that are UTF-8 are marked as such, others as bytes */
	t.archive = archive_write_new();
	t.chunk = malloc(CHUNK);
	t.zeros = calloc(1, CHUNK);
	status = t.archive && t.chunk && t.zeros ? write_all(&t, path, fd) : ctl_complain_err(-ENOMEM, path);
	if (t.archive)
		archive_write_free(t.archive);
	first_names_release(&t.names);
	free(t.chunk);
	free(t.zeros);
	ctl_tree_close(t.tree);
	return status;
}
