/*
 * A FUSE server that keeps everything in memory and does nothing else: the floor that any FUSE server pays. It asks the
 * kernel for the same caching as mvccfs, so it gets the same requests (FLUSH, too, where mvccfs does), and answers each from
 * a few pointers under one lock.
 *
 *	memfs [-f] DIR        serves DIR until it is unmounted
 */
#define FUSE_USE_VERSION 312

#include <errno.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FOREVER 1e8
#define WRITE_MAX ((unsigned)1 << 20)

struct inode {
	struct stat st;
	uint64_t lookups;
	unsigned opens;
	char *data; /* of a file or a link */
	size_t cap;
	struct entry **buckets; /* of a directory: by the hash of the name */
	size_t nbuckets, nentries;
	struct entry *first, *last; /* all of them, in the order in which they came */
};

struct entry {
	struct entry *next_in_bucket, *prev, *next;
	struct inode *inode;
	uint64_t hash, number; /* the offset of the entry behind it, in a listing */
	size_t len;
	char name[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct inode *root;
static uint64_t numbers;

static void *must(void *p)
{
	if (!p) {
		fprintf(stderr, "memfs: out of memory\n");
		abort();
	}
	return p;
}

/* ---- inodes and names ---------------------------------------------------------------------- */

static struct inode *inode_of(fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? root : (struct inode *)(uintptr_t)ino;
}

static fuse_ino_t ino_of(const struct inode *inode)
{
	return inode == root ? FUSE_ROOT_ID : (fuse_ino_t)(uintptr_t)inode;
}

static struct inode *inode_new(mode_t mode, uid_t uid, gid_t gid)
{
	struct inode *inode = must(calloc(1, sizeof(*inode)));

	inode->st = (struct stat){ .st_mode = mode, .st_uid = uid, .st_gid = gid, .st_blksize = 4096 };
	inode->st.st_nlink = S_ISDIR(mode) ? 2 : 1;
	clock_gettime(CLOCK_REALTIME, &inode->st.st_mtim);
	inode->st.st_atim = inode->st.st_ctim = inode->st.st_mtim;
	inode->st.st_ino = ino_of(inode);
	return inode;
}

static void touch(struct inode *inode)
{
	clock_gettime(CLOCK_REALTIME, &inode->st.st_mtim);
	inode->st.st_ctim = inode->st.st_mtim;
}

static void inode_put(struct inode *inode)
{
	if (inode == root || inode->lookups || inode->opens || inode->st.st_nlink)
		return;
	free(inode->data);
	free(inode->buckets);
	free(inode);
}

static uint64_t hash_of(const char *name)
{
	uint64_t hash = 14695981039346656037u;

	for (; *name; name++)
		hash = (hash ^ (uint8_t)*name) * 1099511628211u;
	return hash;
}

static struct entry **entry_at(struct inode *dir, const char *name, uint64_t hash)
{
	struct entry **at = dir->nbuckets ? &dir->buckets[hash & (dir->nbuckets - 1)] : NULL;

	while (at && *at && !((*at)->hash == hash && strcmp((*at)->name, name) == 0))
		at = &(*at)->next_in_bucket;
	return at;
}

static struct entry *entry_find(struct inode *dir, const char *name)
{
	struct entry **at = entry_at(dir, name, hash_of(name));

	return at ? *at : NULL;
}

static void grow(struct inode *dir)
{
	dir->nbuckets = dir->nbuckets ? 2 * dir->nbuckets : 16;
	free(dir->buckets);
	dir->buckets = must(calloc(dir->nbuckets, sizeof(dir->buckets[0])));
	for (struct entry *e = dir->first; e; e = e->next) {
		struct entry **at = &dir->buckets[e->hash & (dir->nbuckets - 1)];

		e->next_in_bucket = *at;
		*at = e;
	}
}

static void entry_add(struct inode *dir, const char *name, struct inode *inode)
{
	size_t len = strlen(name);
	struct entry *e = must(calloc(1, sizeof(*e) + len + 1)), **at;

	if (dir->nentries == dir->nbuckets)
		grow(dir);
	e->inode = inode;
	e->hash = hash_of(name);
	e->number = ++numbers;
	e->len = len;
	memcpy(e->name, name, len + 1);
	at = &dir->buckets[e->hash & (dir->nbuckets - 1)];
	e->next_in_bucket = *at;
	*at = e;
	e->prev = dir->last;
	*(dir->last ? &dir->last->next : &dir->first) = e;
	dir->last = e;
	dir->nentries++;
	if (S_ISDIR(inode->st.st_mode))
		dir->st.st_nlink++;
	touch(dir);
}

static void entry_remove(struct inode *dir, struct entry *e)
{
	struct entry **at = &dir->buckets[e->hash & (dir->nbuckets - 1)];

	while (*at != e)
		at = &(*at)->next_in_bucket;
	*at = e->next_in_bucket;
	*(e->prev ? &e->prev->next : &dir->first) = e->next;
	*(e->next ? &e->next->prev : &dir->last) = e->prev;
	dir->nentries--;
	if (S_ISDIR(e->inode->st.st_mode))
		dir->st.st_nlink--;
	touch(dir);
	free(e);
}

static void unlink_inode(struct inode *inode)
{
	inode->st.st_nlink = S_ISDIR(inode->st.st_mode) ? 0 : inode->st.st_nlink - 1;
	inode_put(inode);
}

/* Shows an inode to the kernel, which then knows it once more. */
static struct fuse_entry_param param_of(struct inode *inode)
{
	inode->lookups++;
	return (struct fuse_entry_param){
		.ino = ino_of(inode), .attr = inode->st, .attr_timeout = FOREVER, .entry_timeout = FOREVER
	};
}

/* ---- requests -------------------------------------------------------------------------------- */

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	conn->want &=
		~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_HANDLE_KILLPRIV);
	conn->want |= conn->capable &
		      (FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_PARALLEL_DIROPS |
		       FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK);
	conn->max_write = WRITE_MAX;
	conn->max_readahead = WRITE_MAX;
	conn->max_background = 64;
	conn->congestion_threshold = 48;
	conn->time_gran = 1;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = { .entry_timeout = FOREVER };
	struct entry *found;

	pthread_mutex_lock(&lock);
	found = entry_find(inode_of(parent), name);
	if (found)
		e = param_of(found->inode);
	pthread_mutex_unlock(&lock);
	fuse_reply_entry(req, &e);
}

static void forget(fuse_ino_t ino, uint64_t nlookup)
{
	struct inode *inode = inode_of(ino);

	pthread_mutex_lock(&lock);
	inode->lookups -= nlookup;
	inode_put(inode);
	pthread_mutex_unlock(&lock);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	forget(ino, nlookup);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		forget(forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;

	(void)fi;
	pthread_mutex_lock(&lock);
	st = inode_of(ino)->st;
	pthread_mutex_unlock(&lock);
	fuse_reply_attr(req, &st, FOREVER);
}

static void set_size(struct inode *inode, size_t size)
{
	if (size > inode->cap) {
		inode->cap = size > 2 * inode->cap ? size : 2 * inode->cap;
		inode->data = must(realloc(inode->data, inode->cap));
	}
	if (size > (size_t)inode->st.st_size)
		memset(inode->data + inode->st.st_size, 0, size - (size_t)inode->st.st_size);
	inode->st.st_size = (off_t)size;
	inode->st.st_blocks = (inode->st.st_size + 511) / 512;
	touch(inode);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		       struct fuse_file_info *fi)
{
	struct inode *inode = inode_of(ino);
	struct stat st;

	(void)fi;
	pthread_mutex_lock(&lock);
	if (to_set & FUSE_SET_ATTR_MODE)
		inode->st.st_mode = attr->st_mode;
	if (to_set & FUSE_SET_ATTR_UID)
		inode->st.st_uid = attr->st_uid;
	if (to_set & FUSE_SET_ATTR_GID)
		inode->st.st_gid = attr->st_gid;
	if (to_set & FUSE_SET_ATTR_SIZE)
		set_size(inode, (size_t)attr->st_size);
	clock_gettime(CLOCK_REALTIME, &inode->st.st_ctim);
	if (to_set & FUSE_SET_ATTR_ATIME)
		inode->st.st_atim = to_set & FUSE_SET_ATTR_ATIME_NOW ? inode->st.st_ctim : attr->st_atim;
	if (to_set & FUSE_SET_ATTR_MTIME)
		inode->st.st_mtim = to_set & FUSE_SET_ATTR_MTIME_NOW ? inode->st.st_ctim : attr->st_mtim;
	st = inode->st;
	pthread_mutex_unlock(&lock);
	fuse_reply_attr(req, &st, FOREVER);
}

/* Makes an inode under a name. The kernel has seen that the name is free. */
static struct fuse_entry_param make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
				    const char *link)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct inode *inode = inode_new(mode & ~ctx->umask, ctx->uid, ctx->gid);

	if (link) {
		inode->data = must(strdup(link));
		inode->cap = strlen(link) + 1;
		inode->st.st_size = (off_t)strlen(link);
	}
	entry_add(inode_of(parent), name, inode);
	return param_of(inode);
}

static void reply_made(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, const char *link)
{
	struct fuse_entry_param e;

	pthread_mutex_lock(&lock);
	e = make(req, parent, name, mode, link);
	pthread_mutex_unlock(&lock);
	fuse_reply_entry(req, &e);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	(void)rdev;
	reply_made(req, parent, name, mode, NULL);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	reply_made(req, parent, name, S_IFDIR | mode, NULL);
}

static void op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
	reply_made(req, parent, name, S_IFLNK | 0777, link);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	fuse_reply_readlink(req, inode_of(ino)->data);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	struct fuse_entry_param e;

	pthread_mutex_lock(&lock);
	e = make(req, parent, name, mode, NULL);
	inode_of(e.ino)->opens++;
	pthread_mutex_unlock(&lock);
	fi->keep_cache = 1;
	fuse_reply_create(req, &e, fi);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct entry *e;
	struct inode *inode;
	int err = ENOENT;

	pthread_mutex_lock(&lock);
	e = entry_find(inode_of(parent), name);
	if (e && e->inode->nentries) {
		err = ENOTEMPTY;
	} else if (e) {
		inode = e->inode;
		entry_remove(inode_of(parent), e);
		unlink_inode(inode);
		err = 0;
	}
	pthread_mutex_unlock(&lock);
	fuse_reply_err(req, err);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
		      const char *new_name, unsigned flags)
{
	struct inode *from = inode_of(parent), *to = inode_of(new_parent), *inode, *gone;
	struct entry *e, *there;
	int err = flags ? EINVAL : ENOENT;

	pthread_mutex_lock(&lock);
	e = flags ? NULL : entry_find(from, name);
	if (e) {
		inode = e->inode;
		there = entry_find(to, new_name);
		gone = there ? there->inode : NULL;
		if (gone)
			entry_remove(to, there);
		entry_remove(from, e);
		entry_add(to, new_name, inode);
		if (gone)
			unlink_inode(gone);
		err = 0;
	}
	pthread_mutex_unlock(&lock);
	fuse_reply_err(req, err);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct inode *inode = inode_of(ino);

	pthread_mutex_lock(&lock);
	inode->opens++;
	if (fi->flags & O_TRUNC)
		set_size(inode, 0);
	pthread_mutex_unlock(&lock);
	fi->keep_cache = 1;
	fi->noflush = (fi->flags & O_ACCMODE) == O_RDONLY;
	fuse_reply_open(req, fi);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct inode *inode = inode_of(ino);

	(void)fi;
	pthread_mutex_lock(&lock);
	inode->opens--;
	inode_put(inode);
	pthread_mutex_unlock(&lock);
	fuse_reply_err(req, 0);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino, (void)fi;
	fuse_reply_err(req, 0);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)ino, (void)datasync, (void)fi;
	fuse_reply_err(req, 0);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	const struct inode *inode = inode_of(ino);
	size_t len;

	(void)fi;
	pthread_mutex_lock(&lock);
	len = off < inode->st.st_size ? (size_t)(inode->st.st_size - off) : 0;
	if (len > size)
		len = size;
	fuse_reply_buf(req, len ? inode->data + off : NULL, len);
	pthread_mutex_unlock(&lock);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	struct inode *inode = inode_of(ino);

	(void)fi;
	pthread_mutex_lock(&lock);
	if (off + (off_t)size > inode->st.st_size)
		set_size(inode, (size_t)off + size);
	memcpy(inode->data + off, buf, size);
	touch(inode);
	pthread_mutex_unlock(&lock);
	fuse_reply_write(req, size);
}

/* ---- listings ---------------------------------------------------------------------------------- */

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	fuse_reply_open(req, fi);
}

static const struct entry *entry_behind(const struct inode *dir, uint64_t number)
{
	const struct entry *e = dir->first;

	while (e && e->number <= number)
		e = e->next;
	return e;
}

/* The offset of what comes next is the number of the entry before, which goes with that entry and with no other. */
static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi, bool plus)
{
	char *out = must(malloc(size));
	const struct entry *e;
	size_t used = 0;

	(void)fi;
	pthread_mutex_lock(&lock);
	for (e = entry_behind(inode_of(ino), (uint64_t)off); e; e = e->next) {
		struct fuse_entry_param param = { .ino = ino_of(e->inode),
						  .attr = e->inode->st,
						  .attr_timeout = FOREVER,
						  .entry_timeout = FOREVER };
		size_t len = plus ? fuse_add_direntry_plus(req, out + used, size - used, e->name, &param,
							   (off_t)e->number) :
				    fuse_add_direntry(req, out + used, size - used, e->name, &e->inode->st,
						      (off_t)e->number);

		if (len > size - used)
			break;
		used += len;
		e->inode->lookups += plus;
	}
	pthread_mutex_unlock(&lock);
	fuse_reply_buf(req, out, used);
	free(out);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	list(req, ino, size, off, fi, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	list(req, ino, size, off, fi, true);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	(void)ino, (void)name, (void)size;
	fuse_reply_err(req, ENODATA);
}

static const struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_unlink,
	.symlink = op_symlink,
	.rename = op_rename,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.release = op_release,
	.fsync = op_fsync,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.getxattr = op_getxattr,
	.create = op_create,
};

/* ---- main --------------------------------------------------------------------------------------- */

int main(int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	bool foreground = argc == 3 && strcmp(argv[1], "-f") == 0;
	struct fuse_loop_config *loop;
	struct fuse_session *session;
	int err = 1;

	if (argc != 2 && !foreground) {
		fprintf(stderr, "usage: memfs [-f] DIR\n");
		return 2;
	}
	root = inode_new(S_IFDIR | 0755, getuid(), getgid());
	root->st.st_ino = FUSE_ROOT_ID;
	fuse_opt_add_arg(&args, argv[0]);
	fuse_opt_add_arg(&args, "-odefault_permissions");
	fuse_opt_add_arg(&args, "-osubtype=memfs,fsname=memory");
	session = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	loop = fuse_loop_cfg_create();
	if (session && loop && fuse_session_mount(session, argv[argc - 1]) == 0) {
		if (fuse_daemonize(foreground) == 0) {
			fuse_loop_cfg_set_clone_fd(loop, 0);
			err = fuse_session_loop_mt(session, loop) != 0;
		}
		fuse_session_unmount(session);
	}
	fuse_loop_cfg_destroy(loop);
	if (session)
		fuse_session_destroy(session);
	fuse_opt_free_args(&args);
	return err;
}
