/*
 * Random operations of every kind, done on the mount and on a plain directory of the host: every result
 * must be the same, and the two trees. Some revisions are sampled: a digest of the plain tree is kept,
 * together with the number of the revision that was current. Later each @rev/N must have that digest;
 * while mounted, after unmount and mount, and after kill -9 and mount.
 *
 * The host's filesystem is the model, so TMPDIR must be on one with user xattrs (ext4, xfs, btrfs, tmpfs
 * of Linux >= 6.6). What POSIX leaves open is kept out of the comparison or out of the operations, each
 * time with a remark.
 *
 *	MVCCFS_TEST_SEED   repeats a run
 *	MVCCFS_TEST_OPS    operations (10000)
 *	MVCCFS_TEST_STOP   ends after that many operations, to bisect a failure
 */
#include "tests/mount/mount_fixture.h"
#include "tests/mount/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define SIZE_LIMIT ((off_t)5 << 20)  /* of a file */
#define TREE_BYTES ((off_t)24 << 20) /* above this the tree is made smaller rather than larger */
#define TREE_FILES ((size_t)250)     /* likewise */
#define POOL_BYTES ((size_t)8 << 20) /* random bytes that all content is cut from */
#define HANDLES 6
#define SAMPLES 200
#define RECENT 40
#define REL_MAX 2048

enum side { MOUNT, PLAIN, SIDES };

enum kind {
	CREATE,
	REWRITE,
	WRITE_AT,
	APPEND,
	TRUNCATE,
	MAPPED,
	ALLOCATE,
	READ,
	H_OPEN, /* H_: on a file that is kept open over many operations */
	H_WRITE,
	H_TRUNCATE,
	H_ALLOCATE,
	H_MODE,
	H_TIMES,
	H_SETXATTR,
	H_READ,
	H_FSYNC,
	H_UNLINK, /* of the path it was opened by, whatever is there now */
	H_CLOSE,
	MKDIR,
	RMDIR,
	UNLINK,
	RENAME,
	LINK,
	SYMLINK,
	MKNOD,
	CHMOD,
	CHOWN,
	TIMES,
	SETXATTR,
	REMOVEXATTR,
	KINDS
};

/* How often each is done, and its name in messages. */
static const struct {
	unsigned weight;
	const char *name;
} kinds[KINDS] = {
	[CREATE] = { 90, "create" },
	[REWRITE] = { 40, "rewrite" },
	[WRITE_AT] = { 70, "write" },
	[APPEND] = { 50, "append" },
	[TRUNCATE] = { 30, "truncate" },
	[MAPPED] = { 20, "mmap" },
	[ALLOCATE] = { 25, "fallocate" },
	[READ] = { 30, "read" },
	[H_OPEN] = { 40, "h_open" },
	[H_WRITE] = { 60, "h_write" },
	[H_TRUNCATE] = { 15, "h_truncate" },
	[H_ALLOCATE] = { 15, "h_fallocate" },
	[H_MODE] = { 8, "h_chmod" },
	[H_TIMES] = { 8, "h_utimens" },
	[H_SETXATTR] = { 8, "h_setxattr" },
	[H_READ] = { 20, "h_read" },
	[H_FSYNC] = { 8, "h_fsync" },
	[H_UNLINK] = { 10, "h_unlink" },
	[H_CLOSE] = { 32, "h_close" },
	[MKDIR] = { 35, "mkdir" },
	[RMDIR] = { 25, "rmdir" },
	[UNLINK] = { 70, "unlink" },
	[RENAME] = { 70, "rename" },
	[LINK] = { 25, "link" },
	[SYMLINK] = { 20, "symlink" },
	[MKNOD] = { 15, "mknod" },
	[CHMOD] = { 30, "chmod" },
	[CHOWN] = { 25, "chown" },
	[TIMES] = { 25, "utimens" },
	[SETXATTR] = { 30, "setxattr" },
	[REMOVEXATTR] = { 15, "removexattr" },
};

/* An operation with all its arguments, ready to be done on either side. */
struct step {
	enum kind kind;
	char path[REL_MAX],
		to[REL_MAX]; /* relative to the root of the side; `to` is a symlink's target, too */
	mode_t mode;
	dev_t rdev;
	uid_t uid;
	gid_t gid;
	off_t off;
	size_t len;
	size_t data; /* where in the pool the bytes are */
	int flags;
	unsigned variant;
	struct timespec times[2];
	char xattr[64];
	unsigned handle;
};

struct handle {
	bool open;
	int fd[SIDES];
	char path[REL_MAX];
};

struct sample {
	uint64_t rev;
	unsigned long after; /* operations done by then */
	struct tree tree;
};

static struct model {
	struct mnt m;
	uint64_t random;
	unsigned char *pool;
	struct handle handles[HANDLES];

	/* The plain tree as of the last look; names of files that have gone since do no harm. */
	struct tree known;
	off_t known_bytes;
	struct tree_cache *cache; /* content hashes of the plain tree by inode */

	struct sample samples[2 * SAMPLES];
	size_t nsamples;
	char recent[RECENT][REL_MAX * 2 + 200];
	unsigned long done;
	bool diverged;
	bool ran; /* the operations were done: by whichever test came first */
} model;

static uint64_t pick(uint64_t below)
{
	return mnt_random(&model.random) % below;
}

static const char *on(enum side side, const char *rel)
{
	return mnt_path("%s/%s", side == MOUNT ? model.m.at : model.m.plain, rel);
}

/* ---- choosing -------------------------------------------------------------------------------------- */

/* A name: mostly of a small set, so that operations meet; now and then an unusual one. */
static void choose_name(char out[NAME_MAX + 1])
{
	static const char *const odd[] = { "with space",    "new\nline", "\xff\xfe not utf-8",
					   "-rf",           "@revision", "@re",
					   "'\"$(x)`",      "...",       "\x01",
					   "tr\xc3\xa4ger", "%s%n",      "*" };
	uint64_t r = pick(100);

	if (r < 88) {
		snprintf(out, NAME_MAX + 1, "%c%u", "abcdf"[pick(5)], (unsigned)pick(60));
	} else if (r < 97) {
		snprintf(out, NAME_MAX + 1, "%s", odd[pick(sizeof(odd) / sizeof(*odd))]);
	} else {
		memset(out, (int)('A' + pick(3)), NAME_MAX);
		out[NAME_MAX] = 0;
	}
}

/* An existing file that `want` accepts, or any if none was met soon. */
static const struct tree_entry *choose_entry(bool (*want)(mode_t))
{
	const struct tree_entry *e = NULL;

	for (int i = 0; i < 30; i++) {
		e = &model.known.entries[pick(model.known.n)];
		if (want(e->mode))
			return e;
	}
	return e;
}

static bool is_any(mode_t mode)
{
	(void)mode;
	return true;
}

static bool is_reg(mode_t mode)
{
	return S_ISREG(mode);
}

static bool is_dir(mode_t mode)
{
	return S_ISDIR(mode);
}

static bool is_no_dir(mode_t mode)
{
	return !S_ISDIR(mode);
}

static void choose_path(char *out, bool (*want)(mode_t))
{
	snprintf(out, REL_MAX, "%s", choose_entry(want)->path);
}

/* A path in an existing directory; the name may be taken or not. */
static void choose_new(char *out)
{
	char name[NAME_MAX + 1];
	const char *dir = choose_entry(is_dir)->path;

	choose_name(name);
	if (!strcmp(dir, ".") || strlen(dir) > 1500)
		snprintf(out, REL_MAX, "%s", name);
	else
		snprintf(out, REL_MAX, "%.1500s/%s", dir, name);
}

static size_t choose_len(void)
{
	bool full = model.known_bytes > TREE_BYTES;
	uint64_t r = pick(1000);

	if (r < 50)
		return 0;
	if (r < 500 || full)
		return 1 + pick(4096);
	if (r < 760)
		return 1 + pick(65536);
	if (r < 930)
		return 1 + pick(300000);
	if (r < 990)
		return 1 + pick(1 << 20);
	return 1 + pick((uint64_t)SIZE_LIMIT);
}

/* An offset below or a little above `size`, often next to where the store's units begin and end. */
static off_t choose_off(off_t size)
{
	static const off_t units[] = { 512, 1024, 4096, 65536, 131072 };
	off_t off = (off_t)pick((uint64_t)size + 1);

	switch (pick(4)) {
	case 0:
		off = off / units[pick(5)] * units[pick(5)];
		break;
	case 1:
		off = off / units[pick(5)] * units[pick(5)] + (off_t)pick(3) - 1;
		break;
	case 2:
		off = size + (off_t)pick(70000);
		break;
	default:
		break;
	}
	return off < 0 ? 0 : off > SIZE_LIMIT ? SIZE_LIMIT : off;
}

static mode_t choose_mode(void)
{
	mode_t mode = (mode_t)pick(010000);

	/* Without privilege a file we may not open ends the story of that file. */
	return geteuid() ? mode | 0700 : mode;
}

/* A time before 2000, which the comparison demands to be kept to the nanosecond; also ones before 1970. */
static struct timespec choose_time(void)
{
	struct timespec ts = { (time_t)pick(1900000000) - 1000000000, (long)pick(1000000000) };

	if (pick(8) == 0)
		ts.tv_nsec = UTIME_OMIT;
	return ts;
}

static void choose_xattr(struct step *s)
{
	snprintf(s->xattr, sizeof(s->xattr), "user.%s%u", pick(8) ? "x" : "\xfc mlaut", (unsigned)pick(6));
	s->len = pick(4) ? pick(40) : pick(250); /* all of a file's must fit in one 4 KiB block of ext4 */
	s->flags = (int[]){ 0, 0, XATTR_CREATE, XATTR_REPLACE }[pick(4)];
}

static void choose_range(struct step *s, off_t size)
{
	static const int modes[] = { 0,
				     FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_ZERO_RANGE,
				     FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE };

	s->flags = modes[pick(6)];
	s->off = choose_off(size);
	s->len = 1 + (pick(2) ? pick(300000) : pick(10000));
	if (s->off + (off_t)s->len > SIZE_LIMIT)
		s->off = 0;
}

/* The size of a file as the plain side has it now; 0 if there is none. */
static off_t size_of(const char *path)
{
	struct stat st;

	return stat(on(PLAIN, path), &st) || !S_ISREG(st.st_mode) ? 0 : st.st_size;
}

static void choose_write(struct step *s, off_t size)
{
	s->off = choose_off(size);
	s->len = choose_len();
	if (s->off + (off_t)s->len > SIZE_LIMIT)
		s->off = SIZE_LIMIT - (off_t)s->len;
	s->data = pick(POOL_BYTES - s->len);
}

static enum kind choose_kind(void)
{
	unsigned total = 0, r;
	enum kind kind;

	if (model.known.n > TREE_FILES && pick(3) == 0)
		return pick(4) ? UNLINK : RMDIR;
	if (model.known_bytes > TREE_BYTES && pick(8) == 0)
		return pick(2) ? TRUNCATE : UNLINK;
	for (int k = 0; k < KINDS; k++)
		total += kinds[k].weight;
	r = (unsigned)pick(total);
	for (kind = 0; r >= kinds[kind].weight; kind++)
		r -= kinds[kind].weight;
	if (geteuid() && kind == CHOWN)
		kind = CHMOD;
	return kind;
}

/* A handle that is open if `open`, else one that is not; -1 if there is none. */
static int choose_handle(bool open)
{
	unsigned first = (unsigned)pick(HANDLES);

	for (unsigned i = 0; i < HANDLES; i++)
		if (model.handles[(first + i) % HANDLES].open == open)
			return (int)((first + i) % HANDLES);
	return -1;
}

static off_t handle_size(unsigned handle)
{
	struct stat st;

	return fstat(model.handles[handle].fd[PLAIN], &st) ? 0 : st.st_size;
}

static void choose_step(struct step *s)
{
	int handle;

	memset(s, 0, sizeof(*s));
	s->kind = choose_kind();
	s->variant = (unsigned)pick(1000);
	if (s->kind >= H_OPEN && s->kind <= H_CLOSE) {
		handle = choose_handle(s->kind != H_OPEN);
		if (handle < 0) {
			s->kind = s->kind == H_OPEN ? H_CLOSE : H_OPEN;
			handle = choose_handle(s->kind != H_OPEN);
		}
		s->handle = (unsigned)handle;
	}
	switch (s->kind) {
	case CREATE:
	case REWRITE:
		if (s->kind == REWRITE && pick(4))
			choose_path(s->path, is_reg);
		else
			choose_new(s->path);
		s->mode = choose_mode();
		choose_write(s, 0);
		s->off = 0;
		s->flags = s->kind == REWRITE ? O_TRUNC : pick(3) ? O_EXCL : 0;
		break;
	case WRITE_AT:
	case APPEND:
	case MAPPED:
	case READ:
		choose_path(s->path, is_reg);
		choose_write(s, size_of(s->path));
		break;
	case TRUNCATE:
		choose_path(s->path, is_reg);
		s->off = pick(4) ? choose_off(size_of(s->path)) : 0;
		break;
	case ALLOCATE:
		choose_path(s->path, is_reg);
		choose_range(s, size_of(s->path));
		break;
	case H_OPEN:
		if (pick(2))
			choose_path(s->path, is_reg);
		else
			choose_new(s->path);
		s->mode = choose_mode();
		s->flags = (int[]){ 0, O_CREAT, O_CREAT | O_TRUNC, O_CREAT | O_APPEND }[pick(4)];
		break;
	case H_WRITE:
		choose_write(s, handle_size(s->handle));
		break;
	case H_TRUNCATE:
		s->off = choose_off(handle_size(s->handle));
		break;
	case H_ALLOCATE:
		choose_range(s, handle_size(s->handle));
		break;
	case H_READ:
		choose_write(s, handle_size(s->handle));
		break;
	case H_MODE:
	case CHMOD:
		choose_path(s->path, is_any);
		s->mode = choose_mode();
		break;
	case H_TIMES:
	case TIMES:
		choose_path(s->path, is_any);
		s->times[0] = choose_time();
		s->times[1] = choose_time();
		break;
	case H_SETXATTR:
	case SETXATTR:
	case REMOVEXATTR:
		choose_path(s->path, is_any);
		choose_xattr(s);
		s->data = pick(POOL_BYTES - s->len);
		break;
	case H_UNLINK:
		snprintf(s->path, sizeof(s->path), "%s", model.handles[s->handle].path);
		break;
	case MKDIR:
		choose_new(s->path);
		s->mode = choose_mode() & 07777;
		break;
	case RMDIR:
		choose_path(s->path, is_dir);
		break;
	case UNLINK:
		choose_path(s->path, pick(20) ? is_no_dir : is_any);
		break;
	case RENAME:
		choose_path(s->path, is_any);
		if (pick(3))
			choose_new(s->to);
		else
			choose_path(s->to, is_any);
		s->flags = (int[]){ 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE }[pick(4)];
		break;
	case LINK:
		choose_path(s->path, pick(10) ? is_no_dir : is_any);
		choose_new(s->to);
		break;
	case SYMLINK:
		choose_new(s->path);
		if (pick(6)) {
			choose_name(s->to);
		} else {
			memset(s->to, 't', REL_MAX - 1);
			s->to[1 + pick(REL_MAX - 2)] = 0;
		}
		break;
	case MKNOD:
		choose_new(s->path);
		s->mode = (mode_t[]){ S_IFIFO, S_IFSOCK, S_IFREG, S_IFCHR, S_IFBLK }[pick(geteuid() ? 3 : 5)];
		if (S_ISCHR(s->mode) || S_ISBLK(s->mode))
			s->rdev = makedev(1 + (unsigned)pick(4000), (unsigned)pick(1 << 20));
		s->mode |= choose_mode() & 0777;
		break;
	case CHOWN:
		choose_path(s->path, is_any);
		s->uid = pick(4) ? (uid_t)pick(3000) : (uid_t)-1;
		s->gid = pick(4) ? (gid_t)pick(3000) : (gid_t)-1;
		break;
	default:
		break;
	}
}

static void step_text(const struct step *s, char *out, size_t len)
{
	snprintf(out, len, "%s \"%s\"%s%s%s mode %o flags %#x off %lld len %zu handle %u variant %u",
		 kinds[s->kind].name, mnt_quote(s->path), *s->to ? " to \"" : "",
		 *s->to ? mnt_quote(s->to) : "", *s->to ? "\"" : "", s->mode, (unsigned)s->flags,
		 (long long)s->off, s->len, s->handle, s->variant);
}

/* ---- doing ----------------------------------------------------------------------------------------- */

/*
 * Opens a regular file, and nothing else: opening the devices that the test makes would reach real ones on
 * the host, and waits for ever for a fifo's other end.
 */
static int open_regular(const char *path, int flags, mode_t mode)
{
	struct stat st;

	if (!stat(path, &st) && !S_ISREG(st.st_mode)) {
		errno = EINVAL;
		return -1;
	}
	return open(path, flags | O_CLOEXEC | O_NOCTTY, mode);
}

static int write_all(int fd, const unsigned char *data, size_t len, off_t off)
{
	while (len > 0) {
		ssize_t n = off < 0 ? write(fd, data, len) : pwrite(fd, data, len, off);

		if (n < 0)
			return errno;
		data += n;
		len -= (size_t)n;
		if (off >= 0)
			off += n;
	}
	return 0;
}

/* What a read and fstat see, as one number. */
static int look(int fd, off_t off, size_t len, uint64_t *seen)
{
	unsigned char *buf = malloc(len + 1);
	struct stat st;
	ssize_t n = pread(fd, buf, len, off);
	int err = n < 0 || fstat(fd, &st) ? errno : 0;

	if (!err)
		*seen = tree_hash_bytes(buf, (size_t)n) ^ ((uint64_t)st.st_size << 20) ^
			((uint64_t)st.st_nlink << 8) ^ (uint64_t)n;
	free(buf);
	return err;
}

/* fallocate, and a fresh mtime: whether and when it moves the time is left to the filesystem. */
static int allocate(int fd, const struct step *s)
{
	if (fallocate(fd, s->flags, s->off, (off_t)s->len))
		return errno;
	return futimens(fd, NULL) ? errno : 0;
}

/* Truncation to the size it has: whether that moves mtime differs between truncate and ftruncate. */
static int truncate_fd(int fd, off_t size)
{
	struct stat st;

	if (fstat(fd, &st))
		return errno;
	return ftruncate(fd, size == st.st_size ? size + 1 : size) ? errno : 0;
}

/*
 * Changes a piece of a file through a shared mapping. Half of the time the descriptor is closed first,
 * and the pages outlive it; then msync() is what makes them a change that is complete.
 */
static int mapped_write(int fd, const struct step *s)
{
	const unsigned char *data = model.pool + s->data;
	bool close_first = s->variant % 2;
	struct stat st;
	unsigned char *map;
	size_t off, len;
	int err = 0;

	if (fstat(fd, &st) || st.st_size == 0) {
		close(fd);
		return 0;
	}
	map = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		err = errno;
		close(fd);
		return err;
	}
	off = (size_t)s->off % (size_t)st.st_size;
	len = s->len < (size_t)st.st_size - off ? s->len : (size_t)st.st_size - off;
	if (close_first && close(fd))
		err = errno;
	memcpy(map + off, data, len);
	if (close_first && msync(map, (size_t)st.st_size, MS_SYNC))
		err = errno;
	if (munmap(map, (size_t)st.st_size))
		err = errno;
	if (!close_first && close(fd))
		err = errno;
	return err;
}

static int with_file(const char *path, const struct step *s, uint64_t *seen)
{
	static const int how[KINDS] = {
		[CREATE] = O_WRONLY | O_CREAT,
		[REWRITE] = O_WRONLY | O_CREAT,
		[WRITE_AT] = O_WRONLY,
		[APPEND] = O_WRONLY | O_APPEND,
		[MAPPED] = O_RDWR,
		[ALLOCATE] = O_RDWR,
		[READ] = O_RDONLY,
	};
	const unsigned char *data = model.pool + s->data;
	int fd = open_regular(path, how[s->kind] | (s->kind == CREATE || s->kind == REWRITE ? s->flags : 0),
			      s->mode);
	int err;

	if (fd < 0)
		return errno;
	switch (s->kind) {
	case CREATE:
	case REWRITE:
	case WRITE_AT:
		err = write_all(fd, data, s->len, s->off);
		break;
	case APPEND:
		err = write_all(fd, data, s->len / 3, -1);
		if (!err)
			err = write_all(fd, data + s->len / 3, s->len - s->len / 3, -1);
		break;
	case MAPPED:
		err = mapped_write(fd, s);
		/* Which moment mtime shows for stores through a mapping is open, so both get a new one. */
		if (!err && utimensat(AT_FDCWD, path, NULL, 0))
			err = errno;
		return err;
	case ALLOCATE:
		err = allocate(fd, s);
		break;
	default:
		err = look(fd, s->off, s->len, seen);
		break;
	}
	if (close(fd) && !err)
		err = errno;
	return err;
}

static int with_handle(enum side side, const struct step *s, uint64_t *seen)
{
	struct handle *h = &model.handles[s->handle];
	const unsigned char *data = model.pool + s->data;
	int fd = h->fd[side];

	switch (s->kind) {
	case H_OPEN:
		h->fd[side] = open_regular(on(side, s->path), O_RDWR | s->flags, s->mode);
		return h->fd[side] < 0 ? errno : 0;
	case H_WRITE:
		return write_all(fd, data, s->len, s->off);
	case H_TRUNCATE:
		return truncate_fd(fd, s->off);
	case H_ALLOCATE:
		return allocate(fd, s);
	case H_MODE:
		return fchmod(fd, s->mode) ? errno : 0;
	case H_TIMES:
		return futimens(fd, s->times) ? errno : 0;
	case H_SETXATTR:
		return fsetxattr(fd, s->xattr, data, s->len, s->flags) ? errno : 0;
	case H_READ:
		return look(fd, s->off, s->len, seen);
	case H_FSYNC:
		return (s->variant % 2 ? fsync(fd) : fdatasync(fd)) ? errno : 0;
	case H_CLOSE:
		return close(fd) ? errno : 0;
	default:
		return unlink(on(side, s->path)) ? errno : 0;
	}
}

/* Does a step on one side. The errno it ended with, or 0; `*seen` is what it read, if it reads. */
static int step_do(enum side side, const struct step *s, uint64_t *seen)
{
	const char *path = on(side, s->path);
	struct stat st;
	int got;

	switch (s->kind) {
	case CREATE:
	case REWRITE:
	case WRITE_AT:
	case APPEND:
	case MAPPED:
	case ALLOCATE:
	case READ:
		return with_file(path, s, seen);
	case TRUNCATE:
		if (stat(path, &st))
			return errno;
		got = truncate(path, S_ISREG(st.st_mode) && s->off == st.st_size ? s->off + 1 : s->off);
		break;
	case MKDIR:
		got = mkdir(path, s->mode);
		/* mkdir(2) may ignore all but the permissions; the sticky bit of ext4 comes through. */
		break;
	case RMDIR:
		got = rmdir(path);
		break;
	case UNLINK:
		got = unlink(path);
		break;
	case RENAME:
		got = renameat2(AT_FDCWD, path, AT_FDCWD, on(side, s->to), (unsigned)s->flags);
		break;
	case LINK:
		got = link(path, on(side, s->to));
		break;
	case SYMLINK:
		got = symlink(s->to, path);
		break;
	case MKNOD:
		got = mknod(path, s->mode, s->rdev);
		break;
	case CHMOD:
		got = chmod(path, s->mode);
		break;
	case CHOWN:
		got = lchown(path, s->uid, s->gid);
		break;
	case TIMES:
		got = utimensat(AT_FDCWD, path, s->times, AT_SYMLINK_NOFOLLOW);
		break;
	case SETXATTR:
		got = setxattr(path, s->xattr, model.pool + s->data, s->len, s->flags);
		break;
	case REMOVEXATTR:
		got = removexattr(path, s->xattr);
		break;
	default:
		return with_handle(side, s, seen);
	}
	return got ? errno : 0;
}

/* ---- comparing ------------------------------------------------------------------------------------- */

static void tell_recent(void)
{
	unsigned long first = model.done > RECENT ? model.done - RECENT : 0;

	fprintf(stderr, "the last operations (seed %llu):\n", (unsigned long long)mnt_seed());
	for (unsigned long i = first; i < model.done; i++)
		fprintf(stderr, "  %lu: %s\n", i + 1, model.recent[i % RECENT]);
}

static void learn_known(void)
{
	tree_release(&model.known);
	tree_read(&model.known, model.m.plain, TREE_NO_CONTENT, NULL);
	model.known_bytes = 0;
	for (size_t i = 0; i < model.known.n; i++)
		if (S_ISREG(model.known.entries[i].mode))
			model.known_bytes += model.known.entries[i].size;
}

/* Content that a step may have changed is to be hashed anew. By the plain side's inode, whatever its name. */
static void forget_content(const struct step *s)
{
	struct stat st;

	if (s->kind >= H_OPEN && s->kind <= H_CLOSE && model.handles[s->handle].open &&
	    !fstat(model.handles[s->handle].fd[PLAIN], &st))
		tree_cache_forget(model.cache, st.st_ino);
	if (!stat(on(PLAIN, s->path), &st))
		tree_cache_forget(model.cache, st.st_ino);
}

static bool live_trees_agree(const char *when)
{
	struct tree plain, mount;
	bool same;

	tree_read(&plain, model.m.plain, 0, model.cache);
	tree_read(&mount, model.m.at, 0, NULL);
	same = tree_diff(&plain, &mount, 0, when) == 0;
	tree_release(&plain);
	tree_release(&mount);
	return same;
}

static void compare_live(const char *when)
{
	if (!MNT_CHECK(live_trees_agree(when), "the trees differ after %lu operations, %s", model.done,
		       when)) {
		tell_recent();
		model.diverged = true;
	}
}

static void step_once(void)
{
	struct handle *h;
	struct step s;
	uint64_t seen[SIDES] = { 0, 0 };
	int err[SIDES];
	char *text = model.recent[model.done % RECENT];

	choose_step(&s);
	step_text(&s, text, sizeof(model.recent[0]));
	forget_content(&s);
	for (enum side side = MOUNT; side < SIDES; side++)
		err[side] = step_do(side, &s, &seen[side]);
	model.done++;
	forget_content(&s);
	h = &model.handles[s.handle];
	if (s.kind == H_OPEN && !err[MOUNT] && !err[PLAIN]) {
		h->open = true;
		snprintf(h->path, sizeof(h->path), "%s", s.path);
		forget_content(&s);
	} else if (s.kind == H_CLOSE) {
		h->open = false;
	}
	if (!MNT_CHECK(err[MOUNT] == err[PLAIN], "operation %lu, %s: %s, on the host: %s", model.done, text,
		       err[MOUNT] ? strerror(err[MOUNT]) : "success",
		       err[PLAIN] ? strerror(err[PLAIN]) : "success") ||
	    !MNT_CHECK(seen[MOUNT] == seen[PLAIN], "operation %lu, %s: what was read differs from the host's",
		       model.done, text)) {
		tell_recent();
		model.diverged = true;
	}
}

static void close_handles(void)
{
	for (unsigned i = 0; i < HANDLES; i++) {
		if (!model.handles[i].open)
			continue;
		for (enum side side = MOUNT; side < SIDES; side++)
			MNT_OK(close(model.handles[i].fd[side]), model.handles[i].path);
		model.handles[i].open = false;
	}
}

/*
 * Keeps the tree as it stands, under the number of the revision that shows it. fsync() makes what is open and
 * dirty part of a revision. What close() left to RELEASE, which the kernel sends after close() has returned,
 * comes a moment later: so wait for the revision whose tree is the one at hand, by all but the
 * content, which is what is looked at afterwards.
 */
static void take_sample(void)
{
	uint64_t end = mnt_now_ms() + MNT_PATIENCE_S * 1000;
	struct sample *s = &model.samples[model.nsamples];
	struct tree now;
	size_t found;
	bool late;

	if (model.nsamples == sizeof(model.samples) / sizeof(*model.samples))
		return;
	for (unsigned i = 0; i < HANDLES; i++)
		if (model.handles[i].open)
			MNT_OK(fsync(model.handles[i].fd[MOUNT]), model.handles[i].path);
	tree_read(&s->tree, model.m.plain, 0, model.cache);
	do {
		late = mnt_now_ms() > end;
		s->rev = mnt_current(&model.m);
		tree_read(&now, mnt_path("%s/@rev/%llu", model.m.at, (unsigned long long)s->rev),
			  TREE_NO_CONTENT, NULL);
		found = tree_diff(&s->tree, &now, TREE_NO_CONTENT,
				  late ? "no revision became like the tree" : NULL);
		tree_release(&now);
		if (found && !late)
			mnt_sleep_ms(5);
	} while (found && !late);
	s->after = model.done;
	model.nsamples++;
	if (!MNT_CHECK(!found, "after %lu operations revision %llu is not the live tree", model.done,
		       (unsigned long long)s->rev)) {
		tell_recent();
		model.diverged = true;
	}
}

/*
 * Every sampled revision is what it was. Within one pass a historical inode that was read is not read again,
 * as its number stands for its content; but in one revision of four everything is.
 */
static void compare_samples(const char *when)
{
	struct tree_cache *cache = tree_cache_new();
	struct tree live;
	size_t bad = 0, same_ino = 0;

	tree_read(&live, model.m.at, TREE_NO_CONTENT, NULL);
	for (size_t i = 0; i < model.nsamples; i++) {
		struct sample *s = &model.samples[i];
		struct tree then;
		char title[100];

		snprintf(title, sizeof(title), "@rev/%llu (%lu operations) %s", (unsigned long long)s->rev,
			 s->after, when);
		tree_read(&then, mnt_path("%s/@rev/%llu", model.m.at, (unsigned long long)s->rev), 0,
			  i % 4 ? cache : NULL);
		if (tree_diff(&s->tree, &then, 0, bad < 3 ? title : NULL))
			bad++;
		for (size_t k = 0; k < then.n; k++) {
			const struct tree_entry *e = tree_find(&live, then.entries[k].path);

			same_ino += e && e->ino == then.entries[k].ino;
		}
		tree_release(&then);
	}
	MNT_CHECK(bad == 0, "%zu of %zu sampled revisions differ %s", bad, model.nsamples, when);
	MNT_CHECK(same_ino == 0, "%zu historical files have the inode number of the live one", same_ino);
	tree_release(&live);
	tree_cache_free(cache);
}

static void do_steps(unsigned long count, unsigned long sample_every)
{
	for (unsigned long i = 0; i < count && !model.diverged; i++) {
		if (i % 20 == 0)
			learn_known();
		step_once();
		if ((i + 1) % sample_every == 0)
			take_sample();
		if ((i + 1) % 1000 == 0)
			compare_live("meanwhile");
	}
}

/* Does the operations, once for all tests of this program. False when the trees had diverged. */
static bool ran(void)
{
	unsigned long ops = mnt_env("MVCCFS_TEST_OPS", 10000);
	unsigned long stop = mnt_env("MVCCFS_TEST_STOP", ops);

	if (model.ran)
		return !model.diverged;
	model.ran = true;
	model.random = mnt_seed();
	umask(022);
	mnt_init(&model.m, NULL);
	model.pool = malloc(POOL_BYTES);
	for (size_t i = 0; i < POOL_BYTES; i += 8)
		memcpy(model.pool + i, &(uint64_t){ mnt_random(&model.random) }, 8);
	model.cache = tree_cache_new();
	/* The roots belong to whoever made them: start equal. */
	MNT_OK(chmod(model.m.at, 0755), model.m.at);
	MNT_OK(chmod(model.m.plain, 0755), model.m.plain);
	do_steps(stop < ops ? stop : ops, ops < SAMPLES ? 1 : ops / SAMPLES);
	return !model.diverged;
}

static int release_model(void)
{
	for (size_t i = 0; i < model.nsamples; i++)
		tree_release(&model.samples[i].tree);
	tree_release(&model.known);
	tree_cache_free(model.cache);
	free(model.pool);
	return 0;
}

static void test_the_mount_is_what_the_plain_directory_is(void)
{
	if (!ran())
		return;
	compare_live("at the end");
	close_handles();
	take_sample();
	compare_live("with all closed");
	printf("%lu operations, %zu sampled revisions of %llu, %zu files ", model.done, model.nsamples,
	       (unsigned long long)mnt_current(&model.m), model.known.n);
}

static void test_every_sampled_revision_is_what_it_was(void)
{
	MNT_CHECK(ran(), "the trees differ, see above");
	if (!model.diverged)
		compare_samples("while mounted");
}

static void test_both_hold_after_unmount_and_mount(void)
{
	MNT_CHECK(ran(), "the trees differ, see above");
	if (model.diverged)
		return;
	close_handles();
	mnt_down(&model.m);
	mnt_up(&model.m, NULL);
	compare_live("after mounting again");
	compare_samples("after mounting again");
}

static void test_both_hold_after_kill_and_mount(void)
{
	MNT_CHECK(ran(), "the trees differ, see above");
	if (model.diverged)
		return;
	do_steps(mnt_env("MVCCFS_TEST_OPS", 10000) / 50, 20);
	close_handles();
	mnt_kill(&model.m);
	mnt_up(&model.m, NULL);
	compare_live("after kill and mount");
	compare_samples("after kill and mount");
	mnt_release(&model.m);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_the_mount_is_what_the_plain_directory_is),
	UNIT_TEST(test_every_sampled_revision_is_what_it_was),
	UNIT_TEST(test_both_hold_after_unmount_and_mount),
	UNIT_TEST(test_both_hold_after_kill_and_mount),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { { "model", NULL, release_model, NULL, NULL, tests }, CU_SUITE_INFO_NULL };

	mnt_seed();
	return unit_main(argc, argv, suites);
}
