#include "mvcc/dir.h"

#include "mvcc/mvcc_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char format_line[] = "mvccfs database, format ";

/* ---- what is there ------------------------------------------------------------------------ */

/* Reads a small text file. Its length, or a negative errno. */
static int read_text(int dir_fd, const char *name, char *out, size_t out_len)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	ssize_t got;
	int err;

	if (fd < 0)
		return -errno;
	got = read(fd, out, out_len - 1);
	err = got < 0 ? -errno : (int)got;
	close(fd);
	if (err >= 0)
		out[err] = '\0';
	return err;
}

/* 1 with the format, 0 if there is no such file, -1 if it is not ours, or a negative errno. */
static int read_format(int dir_fd, unsigned *format)
{
	char text[128], *end;
	unsigned long n;
	int got = read_text(dir_fd, "FORMAT", text, sizeof(text));

	if (got == -ENOENT)
		return 0;
	if (got < 0)
		return got == -EISDIR ? -1 : got;
	if (strncmp(text, format_line, sizeof(format_line) - 1) != 0)
		return -1;
	n = strtoul(text + sizeof(format_line) - 1, &end, 10);
	if (end == text + sizeof(format_line) - 1 || n == 0 || n > UINT32_MAX)
		return -1;
	*format = (unsigned)n;
	return 1;
}

static bool is_one_of(const char *name, const char *const *names)
{
	for (; *names; names++)
		if (strcmp(name, *names) == 0)
			return true;
	return false;
}

/* A lock file of ours: empty (its maker was killed at once), or with the words of one. */
static bool is_our_lock(int dir_fd)
{
	char text[16];
	int got = read_text(dir_fd, "LOCK", text, sizeof(text));

	return got == 0 || (got > 0 && strncmp(text, "pid ", 4) == 0);
}

static int classify_without_format(DIR *d, enum dir_kind *kind)
{
	static const char *const nothing[] = { ".", "..", "lost+found", NULL };
	static const char *const ours[] = { "LOCK",        "engine",     "engine.tmp", RING_NAME,
					    RING_NAME_NEW, "FORMAT.new", NULL };
	bool any = false, lock = false;
	struct dirent *e;

	*kind = DIR_STRANGE;
	for (errno = 0; (e = readdir(d)); errno = 0) {
		if (is_one_of(e->d_name, nothing))
			continue;
		if (!is_one_of(e->d_name, ours))
			return 0;
		any = true;
		lock |= strcmp(e->d_name, "LOCK") == 0;
	}
	if (errno)
		return -errno;
	if (!any)
		*kind = DIR_EMPTY;
	else if (lock && is_our_lock(dirfd(d)))
		*kind = DIR_HALF;
	return 0;
}

int dir_classify(const char *path, enum dir_kind *kind, unsigned *format)
{
	DIR *d = opendir(path);
	int got, err = 0;

	if (!d) {
		err = -errno;
		*kind = err == -ENOENT ? DIR_ABSENT : DIR_STRANGE;
		return err == -ENOENT || err == -ENOTDIR ? 0 : err;
	}
	got = read_format(dirfd(d), format);
	if (got == 1)
		*kind = DIR_DB;
	else if (got == -1)
		*kind = DIR_STRANGE;
	else
		err = got == 0 ? classify_without_format(d, kind) : got;
	closedir(d);
	return err;
}

int mvcc_dir_format(const char *dir, unsigned *format, unsigned *known)
{
	enum dir_kind kind;
	int err = dir_classify(dir, &kind, format);

	if (err)
		return err;
	*known = FORMAT_KNOWN;
	return kind == DIR_DB ? 0 : -ENOENT;
}

/* ---- the lock ----------------------------------------------------------------------------- */

/*
 * An "open file description" lock: it belongs to the descriptor, so that a second open in this very
 * process is refused as well, and unlike flock() it can be asked about without being taken.
 */
int dir_lock(int dir_fd, const char *holder, int *out_fd)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char text[PATH_MAX + 64];
	int fd = openat(dir_fd, "LOCK", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int len;

	if (fd < 0)
		return -errno;
	if (fcntl(fd, F_OFD_SETLK, &whole)) {
		int err = errno == EAGAIN || errno == EACCES ? MVCC_ELOCKED : -errno;

		close(fd);
		return err;
	}
	len = snprintf(text, sizeof(text), holder ? "pid %ld, %.4096s\n" : "pid %ld\n", (long)getpid(),
		       holder);
	if (ftruncate(fd, 0) || pwrite(fd, text, (size_t)len, 0) != len) {
		int err = errno ? -errno : -EIO;

		close(fd);
		return err;
	}
	*out_fd = fd;
	return 0;
}

/* Read-only, so that a database where nothing can be written can be copied all the same. */
int dir_lock_shared(int dir_fd, int *out_fd)
{
	struct flock whole = { .l_type = F_RDLCK, .l_whence = SEEK_SET };
	int fd = openat(dir_fd, "LOCK", O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
	int err = 0;

	if (fd < 0 && errno != EROFS)
		return -errno;
	if (fd >= 0 && fcntl(fd, F_OFD_SETLK, &whole)) {
		err = errno == EAGAIN || errno == EACCES ? MVCC_ELOCKED : -errno;
		close(fd);
		return err;
	}
	*out_fd = fd;
	return 0;
}

int mvcc_lock_holder(const char *dir, char *out, size_t out_len)
{
	struct flock probe = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char path[PATH_MAX], text[PATH_MAX + 64];
	ssize_t got;
	int fd, err = 0;

	if (snprintf(path, sizeof(path), "%s/LOCK", dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -errno;
	if (fcntl(fd, F_OFD_GETLK, &probe))
		err = -errno;
	else if (probe.l_type == F_UNLCK)
		err = -ENOENT;
	got = err ? 0 : pread(fd, text, sizeof(text) - 1, 0);
	if (got < 0)
		err = -errno;
	close(fd);
	if (err)
		return err;
	text[got] = '\0';
	text[strcspn(text, "\n")] = '\0';
	snprintf(out, out_len, "%s", text);
	return 0;
}

/* ---- making one --------------------------------------------------------------------------- */

static int remove_tree(int dir_fd, const char *name)
{
	struct dirent *e;
	DIR *d;
	int fd, err = 0;

	if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	d = fdopendir(fd);
	if (!d) {
		err = -errno;
		close(fd);
		return err;
	}
	while (!err && (e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			err = remove_tree(fd, e->d_name);
	closedir(d);
	if (!err && unlinkat(dir_fd, name, AT_REMOVEDIR))
		err = -errno;
	return err;
}

int dir_wipe(int dir_fd)
{
	static const char *const names[] = { "engine", "engine.tmp", RING_NAME, RING_NAME_NEW, "FORMAT.new" };
	int err = 0;

	for (unsigned i = 0; !err && i < sizeof(names) / sizeof(names[0]); i++)
		err = remove_tree(dir_fd, names[i]);
	return err;
}

int dir_discard(int dir_fd, const char *path)
{
	int err = dir_wipe(dir_fd);

	if (!err && unlinkat(dir_fd, "LOCK", 0) && errno != ENOENT)
		err = -errno;
	if (!err && rmdir(path))
		err = -errno;
	return err;
}

int dir_sync_parent(int dir_fd)
{
	int fd = openat(dir_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = 0;

	if (fd < 0)
		return errno == EACCES ? 0 : -errno; /* then it is not ours to sync */
	if (fsync(fd))
		err = -errno;
	close(fd);
	return err;
}

int dir_write_format(int dir_fd, unsigned format)
{
	char text[64];
	int len = snprintf(text, sizeof(text), "%s%u\n", format_line, format);
	int fd = openat(dir_fd, "FORMAT.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, (size_t)len) != len)
		err = errno ? -errno : -EIO;
	if (!err && fsync(fd))
		err = -errno;
	close(fd);
	if (!err && renameat(dir_fd, "FORMAT.new", dir_fd, "FORMAT"))
		err = -errno;
	if (!err && fsync(dir_fd))
		err = -errno;
	return err;
}
