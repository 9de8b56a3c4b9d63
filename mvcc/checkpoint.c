/*
 * Copies of a store: of one that runs (checkpoint), and of one that is closed (restore).
 *
 * Both make a directory as the first open of a store does: the lock, the engine's files, the ring, and the FORMAT
 * file last of all, before which it is no database, but one half made that anybody may make anew.
 *
 * A checkpoint is the engine's: one moment between two of its batches, which is a prefix of history, unless that
 * moment is in the middle of a run, which takes several; so no run is moved meanwhile. The ring is not copied. The
 * copy gets an empty one, and an identity of its own, so that the two can never be mixed up. While it is being made
 * a row tells where, so that the next open finds what a kill has left.
 */
#include "mvcc/dir.h"
#include "mvcc/mvcc_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#define PIECE_BYTES ((size_t)128 << 10)

/* ---- trees of files ----------------------------------------------------------------------- */

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Calls `fn` for every name in a directory, which may be a whole tree. 0 or a negative errno. */
static int each_name(int dir_fd, int (*fn)(void *arg, int dir_fd, const char *name), void *arg)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	int err = 0;

	if (!d) {
		err = -errno;
		if (fd >= 0)
			close(fd);
		return err;
	}
	for (errno = 0; !err && (e = readdir(d)); errno = 0)
		if (!is_dots(e->d_name))
			err = fn(arg, dirfd(d), e->d_name);
	if (!err && errno)
		err = -errno;
	closedir(d);
	return err;
}

static int sync_tree(int fd);

static int sync_one(void *arg, int dir_fd, const char *name)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	int err;

	(void)arg;
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st))
		err = -errno;
	else if (S_ISDIR(st.st_mode))
		err = sync_tree(fd);
	else
		err = fsync(fd) ? -errno : 0;
	close(fd);
	return err;
}

/* Puts a directory and all in it on disk. */
static int sync_tree(int fd)
{
	int err = each_name(fd, sync_one, NULL);

	if (!err && fsync(fd))
		err = -errno;
	return err;
}

/* Where the kernel cannot copy. */
static int copy_pieces(int in, int out)
{
	uint8_t *piece = malloc(PIECE_BYTES);
	ssize_t got;
	int err = piece ? 0 : -ENOMEM;

	while (!err && (got = read(in, piece, PIECE_BYTES)) != 0) {
		if (got < 0)
			err = -errno;
		for (ssize_t done = 0, put; !err && done < got; done += put) {
			put = write(out, piece + done, (size_t)(got - done));
			if (put < 0)
				err = -errno;
		}
	}
	free(piece);
	return err;
}

static int copy_bytes(int in, int out)
{
	bool any = false;

	for (;;) {
		ssize_t put = copy_file_range(in, NULL, out, NULL, (size_t)1 << 30, 0);

		if (put > 0) {
			any = true;
			continue;
		}
		/* some filesystems say that they are at the end without having copied anything */
		if (any ||
		    (put < 0 && errno != EXDEV && errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP))
			return put < 0 ? -errno : 0;
		return copy_pieces(in, out);
	}
}

/* The directory that is being filled: one that lies inside what is copied would never end. */
struct copy {
	int to_fd;
	dev_t dev;
	ino_t ino;
};

static int copy_one(void *arg, int dir_fd, const char *name);

static int copy_dir(const struct copy *copy, int in, const char *name)
{
	struct copy inner = *copy;
	int err;

	if (mkdirat(copy->to_fd, name, 0700))
		return -errno;
	inner.to_fd = openat(copy->to_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (inner.to_fd < 0)
		return -errno;
	err = each_name(in, copy_one, &inner);
	close(inner.to_fd);
	return err;
}

static int copy_file(const struct copy *copy, int in, const char *name, mode_t mode)
{
	int out = openat(copy->to_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode & 0777);
	int err;

	if (out < 0)
		return -errno;
	err = copy_bytes(in, out);
	if (close(out) && !err)
		err = -errno;
	return err;
}

static int copy_one(void *arg, int dir_fd, const char *name)
{
	const struct copy *copy = arg;
	int in = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	int err;

	if (in < 0)
		return -errno;
	if (fstat(in, &st))
		err = -errno;
	else if (S_ISREG(st.st_mode))
		err = copy_file(copy, in, name, st.st_mode);
	else if (!S_ISDIR(st.st_mode) || (st.st_dev == copy->dev && st.st_ino == copy->ino))
		err = -EINVAL;
	else
		err = copy_dir(copy, in, name);
	close(in);
	return err;
}

/* ---- a directory in the making ------------------------------------------------------------ */

struct making {
	const char *path;
	int dir_fd, lock_fd; /* -1 while there is none */
	bool made;           /* the directory itself is ours */
	bool ours;           /* what is in it, too */
};

/* May a database be made there? 0, or why not. */
static int judge(const char *path)
{
	enum dir_kind kind;
	unsigned format;
	int err = dir_classify(path, &kind, &format);

	if (err)
		return err;
	return kind == DIR_DB ? -EEXIST : kind == DIR_STRANGE ? MVCC_ENODB : 0;
}

/* Makes the directory, or takes one that is empty or half made, and locks it. It holds nothing but the lock then. */
static int making_begin(struct making *m, bool fresh)
{
	int err;

	if (mkdir(m->path, 0700) == 0)
		m->made = true;
	else if (fresh || errno != EEXIST)
		return -errno;
	err = judge(m->path);
	if (err)
		return err;
	m->dir_fd = open(m->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (m->dir_fd < 0)
		return -errno;
	err = dir_lock(m->dir_fd, NULL, &m->lock_fd);
	if (!err) /* somebody may have made something of it between the look and the lock */
		err = judge(m->path);
	if (err)
		return err;
	m->ours = true;
	return dir_wipe(m->dir_fd);
}

/* Declares it a database, or takes it away again. Gives back `err`, or why it could not be declared. */
static int making_end(struct making *m, int err)
{
	if (!err)
		err = sync_tree(m->dir_fd);
	if (!err)
		err = dir_sync_parent(m->dir_fd);
	if (!err)
		err = dir_write_format(m->dir_fd, FORMAT_KNOWN);
	if (err && m->ours && m->made)
		dir_discard(m->dir_fd, m->path);
	else if (err && m->ours)
		dir_wipe(m->dir_fd);
	else if (err && m->made)
		rmdir(m->path); /* if it is still empty */
	if (m->lock_fd >= 0)
		close(m->lock_fd);
	if (m->dir_fd >= 0)
		close(m->dir_fd);
	return err;
}

/* ---- the row that tells of it ------------------------------------------------------------- */

static int note_write(struct mvcc *db, const char *path, bool there)
{
	struct engine_batch *batch;
	struct buf key = { 0 };
	int err = meta_key_name(&key, META_CHECKPOINT, slice_str(path));

	gate_enter(&db->gate);
	batch = engine_batch_new(db->engine);
	if (!err && !batch)
		err = -ENOMEM;
	if (!err && there)
		err = engine_batch_put(batch, FAM_META, slice_buf(&key), slice_of(NULL, 0));
	else if (!err)
		err = engine_batch_del(batch, FAM_META, slice_buf(&key));
	if (!err)
		err = db_write(db, batch, ENGINE_SYNC);
	engine_batch_free(batch);
	gate_leave(&db->gate);
	buf_release(&key);
	return err;
}

/* Removes what a kill left of a checkpoint. What is no half-made database is left alone. */
static int clear_half(const char *path)
{
	enum dir_kind kind;
	unsigned format;
	int dir_fd, lock_fd = -1, err = dir_classify(path, &kind, &format);

	if (err || (kind != DIR_HALF && kind != DIR_EMPTY))
		return err;
	dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir_fd < 0)
		return -errno;
	err = dir_lock(dir_fd, NULL, &lock_fd);
	if (!err)
		err = dir_classify(path, &kind, &format);
	if (!err && kind == DIR_HALF)
		err = dir_discard(dir_fd, path);
	if (lock_fd >= 0)
		close(lock_fd);
	close(dir_fd);
	return err;
}

/* Adds the removal of every row that tells of a checkpoint, once what it tells of is gone if `clear`. */
static int notes_drop(struct mvcc *db, struct engine *engine, struct engine_batch *batch, bool clear)
{
	struct slice prefix = slice_str(META_CHECKPOINT);
	struct engine_iter *it = NULL;
	struct buf end = { 0 };
	char path[PATH_MAX];
	int err = buf_prefix_end(&end, prefix);

	if (!err)
		err = engine_iter_new(engine, FAM_META, prefix, slice_buf(&end), &it);
	if (err)
		goto out;
	for (bool on = engine_iter_seek(it, prefix); on && !err; on = engine_iter_next(it)) {
		int left = 0;

		snprintf(path, sizeof(path), "%.*s", (int)(it->key.len - prefix.len),
			 it->key.data + prefix.len);
		if (clear)
			left = clear_half(path);
		if (left)
			db_log(db, LOG_WARNING, "what is left of the checkpoint %s cannot be removed yet: %s",
			       path, mvcc_strerror(left));
		else
			err = engine_batch_del(batch, FAM_META, it->key);
	}
	if (!err)
		err = engine_iter_error(it);
out:
	engine_iter_free(it);
	buf_release(&end);
	return err;
}

int checkpoints_sweep(struct mvcc *db)
{
	struct engine_batch *batch = engine_batch_new(db->engine);
	size_t empty = batch ? engine_batch_bytes(batch) : 0;
	int err = batch ? notes_drop(db, db->engine, batch, true) : -ENOMEM;

	if (!err && engine_batch_bytes(batch) > empty)
		err = engine_write(db->engine, batch, ENGINE_NOSYNC);
	engine_batch_free(batch);
	return err;
}

/* ---- checkpoint --------------------------------------------------------------------------- */

static int copy_engine(struct mvcc *db, const char *path)
{
	int err;

	gate_enter(&db->gate);
	pthread_mutex_lock(&db->run_lock);
	err = atomic_load(&db->failed); /* then a run may be half moved all the same */
	if (!err)
		err = engine_checkpoint(db->engine, path);
	pthread_mutex_unlock(&db->run_lock);
	gate_leave(&db->gate);
	return err;
}

/* Gives the copy an identity, and asks how far it goes. */
static int adopt_rows(struct mvcc *db, struct engine *engine, uint64_t *incarnation, mvcc_rev_t *rev)
{
	struct engine_batch *batch = engine_batch_new(engine);
	struct engine_pin pin = { 0 };
	struct applied applied;
	uint8_t raw[8];
	int err = batch ? 0 : -ENOMEM;

	if (!err && getrandom(incarnation, sizeof(*incarnation), 0) != (ssize_t)sizeof(*incarnation))
		err = -EIO;
	if (!err)
		err = engine_get(engine, FAM_META, slice_str(META_APPLIED), &pin);
	if (!err)
		err = applied_decode(pin.value, &applied);
	engine_pin_release(engine, &pin);
	put_le64(raw, *incarnation);
	if (!err)
		err = engine_batch_put(batch, FAM_META, slice_str(META_STORE), slice_of(raw, sizeof(raw)));
	if (!err)
		err = notes_drop(db, engine, batch, false);
	if (!err)
		err = engine_write(engine, batch, ENGINE_SYNC);
	engine_batch_free(batch);
	if (!err)
		*rev = applied.rev;
	return err == -ENOENT ? MVCC_ECORRUPT : err;
}

/* Opens the copy's engine, which also shows that it can be opened. Nothing may be dropped by the original's rules. */
static int adopt(struct mvcc *db, const char *path, uint64_t *incarnation, mvcc_rev_t *rev)
{
	struct engine_family families[FAM_COUNT];
	struct engine *engine;
	int err;

	for (unsigned i = 0; i < FAM_COUNT; i++) {
		families[i] = db->families[i];
		families[i].drop = NULL;
	}
	err = db->provider.open(db->provider.arg, path, families, FAM_COUNT, &engine);
	if (err)
		return err;
	err = adopt_rows(db, engine, incarnation, rev);
	engine_close(engine);
	return err;
}

static int make_copy(struct mvcc *db, const char *path, mvcc_rev_t *rev)
{
	struct making m = { .path = path, .dir_fd = -1, .lock_fd = -1 };
	char engine_dir[PATH_MAX];
	uint64_t incarnation = 0;
	int err = making_begin(&m, true);

	if (!err && snprintf(engine_dir, sizeof(engine_dir), "%s/engine", path) >= (int)sizeof(engine_dir))
		err = -ENAMETOOLONG;
	if (!err)
		err = copy_engine(db, engine_dir);
	if (!err)
		err = adopt(db, engine_dir, &incarnation, rev);
	if (!err)
		err = ring_create(m.dir_fd, RING_NAME, db->ring.size, incarnation);
	return making_end(&m, err);
}

/* The path as it is from everywhere; the directory it names does not exist yet. */
static int resolve(const char *dir, char out[PATH_MAX])
{
	char parent[PATH_MAX], real[PATH_MAX], *slash;
	size_t len = strlen(dir);
	const char *name;
	struct stat st;

	if (lstat(dir, &st) == 0)
		return -EEXIST;
	while (len > 1 && dir[len - 1] == '/')
		len--;
	if (snprintf(parent, sizeof(parent), "%.*s", (int)len, dir) >= (int)sizeof(parent))
		return -ENAMETOOLONG;
	slash = strrchr(parent, '/');
	name = dir + (slash ? slash + 1 - parent : 0);
	if (slash)
		slash[slash == parent ? 1 : 0] = '\0';
	if (!realpath(slash ? parent : ".", real))
		return -errno;
	len -= (size_t)(name - dir);
	if (snprintf(out, PATH_MAX, "%s/%.*s", strcmp(real, "/") == 0 ? "" : real, (int)len, name) >=
	    PATH_MAX)
		return -ENAMETOOLONG;
	return 0;
}

int mvcc_checkpoint(struct mvcc *db, const char *dir, mvcc_rev_t *out_rev)
{
	char path[PATH_MAX];
	mvcc_rev_t rev = 0;
	int err;

	pthread_mutex_lock(&db->checkpoint_lock);
	err = resolve(dir, path);
	if (!err)
		err = mvcc_sync(db, MVCC_REV_LATEST);
	if (!err)
		err = note_write(db, path, true);
	if (!err) {
		err = make_copy(db, path, &rev);
		note_write(db, path, false); /* else the next open does it */
	}
	pthread_mutex_unlock(&db->checkpoint_lock);
	if (!err && out_rev)
		*out_rev = rev;
	return err;
}

/* ---- restore ------------------------------------------------------------------------------ */

/* Opens a database for copying: nobody else can open it meanwhile. */
static int source_open(const char *path, int *dir_fd, int *lock_fd)
{
	enum dir_kind kind;
	unsigned format;
	int err = dir_classify(path, &kind, &format);

	if (!err && kind != DIR_DB)
		err = kind == DIR_ABSENT ? -ENOENT : MVCC_ENODB;
	if (!err && format != FORMAT_KNOWN)
		err = MVCC_EFORMAT;
	if (err)
		return err;
	*dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*dir_fd < 0)
		return -errno;
	return dir_lock_shared(*dir_fd, lock_fd);
}

static int copy_database(int from_fd, int to_fd)
{
	struct copy copy = { .to_fd = to_fd };
	struct stat st;
	int err;

	if (fstat(to_fd, &st))
		return -errno;
	copy.dev = st.st_dev;
	copy.ino = st.st_ino;
	err = copy_one(&copy, from_fd, "engine");
	if (!err)
		err = copy_one(&copy, from_fd, RING_NAME);
	return err == -ENOENT ? MVCC_ENODB : err;
}

int mvcc_restore(const char *checkpoint, const char *dir)
{
	struct making m = { .path = dir, .dir_fd = -1, .lock_fd = -1 };
	int from_fd = -1, from_lock = -1;
	int err = source_open(checkpoint, &from_fd, &from_lock);

	if (!err) {
		err = making_begin(&m, false);
		if (!err)
			err = copy_database(from_fd, m.dir_fd);
		err = making_end(&m, err);
	}
	if (from_lock >= 0)
		close(from_lock);
	if (from_fd >= 0)
		close(from_fd);
	return err;
}
