#include "tools/ctl_tree.h"

#include "fs/expr.h"
#include "fs/json_bytes.h"
#include "fs/ns.h"
#include "fs/query.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/xattr.h>
#include <unistd.h>

struct ctl_tree {
	struct ctl *ctl;
	char *expr;
	mvcc_rev_t rev;
	struct ctl_at at; /* its root */
};

/* ---- opening ------------------------------------------------------------------------------------- */

static int rev_of(struct ctl_tree *tree, mvcc_rev_t *out)
{
	struct ctl_node root = { .fd = tree->at.fd };
	struct ctl_revs revs;
	int err;

	if (tree->at.view) {
		*out = mvcc_view_rev(tree->at.view);
		return 0;
	}
	err = ctl_node_revs(tree, &root, &revs);
	if (!err)
		*out = revs.rev;
	return err;
}

int ctl_tree_open(struct ctl *ctl, const char *expr, struct ctl_tree **out)
{
	struct ctl_tree *tree;
	int status, err;

	if (!*expr || *expr == '.' || strchr(expr, '/'))
		return ctl_complain(CTL_TROUBLE, "\"%s\" is no revision; say " EXPR_FORMS, expr);
	tree = calloc(1, sizeof(*tree));
	if (!tree)
		return ctl_complain_err(-ENOMEM, expr);
	tree->ctl = ctl;
	tree->at.fd = -1;
	tree->expr = strdup(expr);
	status = tree->expr ? ctl_at_open(ctl, "/", expr, &tree->at) : ctl_complain_err(-ENOMEM, expr);
	if (!status) {
		err = rev_of(tree, &tree->rev);
		status = err ? ctl_complain_err(err, expr) : 0;
	}
	if (status)
		ctl_tree_close(tree);
	else
		*out = tree;
	return status;
}

void ctl_tree_close(struct ctl_tree *tree)
{
	if (!tree)
		return;
	ctl_at_close(&tree->at);
	free(tree->expr);
	free(tree);
}

mvcc_rev_t ctl_tree_rev(const struct ctl_tree *tree)
{
	return tree->rev;
}

int ctl_tree_complain(const struct ctl_tree *tree, int err, const char *path)
{
	if (err == -ENOENT)
		return ctl_complain(CTL_NOT_FOUND, "%s: not there at revision %s", path, tree->expr);
	if (err == -ENOTDIR)
		return ctl_complain(CTL_NOT_FOUND, "%s: %s", path, strerror(ENOTDIR));
	if (err == -ELOOP)
		return ctl_complain(CTL_TROUBLE, "%s: leads over a symbolic link, which is not followed",
				    path);
	return ctl_complain(query_exit(err), "%s: %s", path, mvcc_strerror(err));
}

/* ---- nodes --------------------------------------------------------------------------------------- */

static int node_of_fd(int fd, struct ctl_node *out)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	*out = (struct ctl_node){
		.ino = st.st_ino,
		.mode = st.st_mode,
		.uid = st.st_uid,
		.gid = st.st_gid,
		.rdev = st.st_rdev,
		.nlink = st.st_nlink,
		.size = (uint64_t)st.st_size,
		.mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec,
		.fd = fd,
	};
	return 0;
}

static int node_of_ino(struct ctl_tree *tree, uint64_t ino, struct ctl_node *out)
{
	struct ns_attr attr;
	int err = ns_at_getattr(tree->at.view, ino, &attr);

	if (err)
		return err;
	*out = (struct ctl_node){
		.ino = ino,
		.mode = attr.mode,
		.uid = attr.uid,
		.gid = attr.gid,
		.rdev = attr.rdev,
		.nlink = attr.nlink,
		.size = attr.size,
		.mtime_ns = attr.mtime_ns,
		.fd = -1,
	};
	return 0;
}

/* In a mount. The handle is good for naming it, whatever its mode. */
static int open_name(int dir, const char *name, struct ctl_node *out)
{
	int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC), err;

	if (fd < 0)
		return -errno;
	err = node_of_fd(fd, out);
	if (err)
		close(fd);
	return err;
}

static int open_root(struct ctl_tree *tree, struct ctl_node *out)
{
	return tree->at.view ? node_of_ino(tree, NS_ROOT, out) : open_name(tree->at.fd, ".", out);
}

int ctl_node_open_at(struct ctl_tree *tree, const struct ctl_node *dir, struct slice name,
		     struct ctl_node *out)
{
	char text[NS_NAME_MAX + 1];
	uint64_t ino;
	int err;

	if (!S_ISDIR(dir->mode))
		return S_ISLNK(dir->mode) ? -ELOOP : -ENOTDIR;
	if (name.len > NS_NAME_MAX)
		return -ENAMETOOLONG;
	if (tree->at.view) {
		err = ns_at_lookup(tree->at.view, dir->ino, name, &ino);
		return err ? err : node_of_ino(tree, ino, out);
	}
	memcpy(text, name.data, name.len);
	text[name.len] = 0;
	return open_name(dir->fd, text, out);
}

int ctl_node_open(struct ctl_tree *tree, const char *path, struct ctl_node *out)
{
	struct ctl_node at = CTL_NODE_NONE, next;
	int err = open_root(tree, &at);

	for (path += strspn(path, "/"); !err && *path; path += strspn(path, "/")) {
		size_t len = strcspn(path, "/");

		err = ctl_node_open_at(tree, &at, slice_of(path, len), &next);
		ctl_node_close(&at);
		if (!err)
			at = next;
		path += len;
	}
	if (!err)
		*out = at;
	return err;
}

void ctl_node_close(struct ctl_node *node)
{
	if (node->fd >= 0)
		close(node->fd);
	node->fd = -1;
}

struct fd_path {
	char text[64];
};

static const char *fd_path(const struct ctl_node *node, struct fd_path *out)
{
	snprintf(out->text, sizeof(out->text), "/proc/self/fd/%d", node->fd);
	return out->text;
}

/* In a mount: what names the file becomes what reads it. */
static int make_readable(struct ctl_node *node)
{
	int flags = fcntl(node->fd, F_GETFL), fd;
	struct fd_path path;

	if (flags < 0)
		return -errno;
	if (!(flags & O_PATH))
		return 0;
	fd = open(fd_path(node, &path), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	close(node->fd);
	node->fd = fd;
	return 0;
}

ssize_t ctl_node_read(struct ctl_tree *tree, struct ctl_node *node, uint64_t off, void *out, size_t len)
{
	ssize_t n;

	if (tree->at.view)
		return ns_at_read(tree->ctl->db, tree->at.view, node->ino, off, out, len);
	n = make_readable(node);
	if (n)
		return n;
	do
		n = pread(node->fd, out, len, (off_t)off);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

int ctl_node_content(struct ctl_tree *tree, struct ctl_node *node, struct buf *out)
{
	buf_clear(out);
	for (;;) {
		int err = buf_reserve(out, node->size > out->len ? (size_t)(node->size - out->len) + 1 : 1);
		ssize_t n =
			err ? err :
			      ctl_node_read(tree, node, out->len, out->data + out->len, out->cap - out->len);

		if (n <= 0)
			return (int)n;
		out->len += (size_t)n;
	}
}

static int seek(struct ctl_tree *tree, struct ctl_node *node, uint64_t off, int whence, uint64_t *out)
{
	off_t at;
	int err;

	if (tree->at.view)
		return ns_at_seek(tree->at.view, node->ino, off, whence, out);
	err = make_readable(node);
	if (err)
		return err;
	at = lseek(node->fd, (off_t)off, whence);
	if (at < 0)
		return -errno;
	*out = (uint64_t)at;
	return 0;
}

int ctl_node_data(struct ctl_tree *tree, struct ctl_node *node, uint64_t off, uint64_t *start, uint64_t *end)
{
	int err = off < node->size ? seek(tree, node, off, SEEK_DATA, start) : -ENXIO;

	if (!err)
		err = seek(tree, node, *start, SEEK_HOLE, end);
	return err == -ENXIO ? 0 : err ? err : 1;
}

int ctl_node_readlink(struct ctl_tree *tree, struct ctl_node *node, struct buf *out)
{
	ssize_t n;
	int err;

	if (tree->at.view)
		return ns_at_readlink(tree->at.view, node->ino, out);
	buf_clear(out);
	err = buf_reserve(out, NS_SYMLINK_MAX + 1);
	if (err)
		return err;
	n = readlinkat(node->fd, "", (char *)out->data, out->cap);
	if (n < 0)
		return -errno;
	out->len = (size_t)n;
	return 0;
}

/* ---- extended attributes ------------------------------------------------------------------------- */

int ctl_node_listxattr(struct ctl_tree *tree, struct ctl_node *node, struct buf *out)
{
	struct fd_path path;
	ssize_t n;
	int err;

	if (tree->at.view)
		return ns_at_listxattr(tree->at.view, node->ino, out);
	buf_clear(out);
	err = buf_reserve(out, 65536); /* the kernel has no longer list */
	if (err)
		return err;
	n = listxattr(fd_path(node, &path), (char *)out->data, out->cap);
	if (n < 0)
		return errno == EOPNOTSUPP ? 0 : -errno;
	out->len = (size_t)n;
	return 0;
}

int ctl_node_getxattr(struct ctl_tree *tree, struct ctl_node *node, const char *name, struct buf *out)
{
	struct fd_path path;
	ssize_t n;
	int err;

	if (tree->at.view)
		return ns_at_getxattr(tree->at.view, node->ino, name, out);
	buf_clear(out);
	err = buf_reserve(out, NS_XATTR_MAX);
	if (err)
		return err;
	n = getxattr(fd_path(node, &path), name, out->data, out->cap);
	if (n < 0)
		return -errno;
	out->len = (size_t)n;
	return 0;
}

static int revs_of(struct ctl_tree *tree, struct ctl_node *node, const char *name, uint64_t *out)
{
	struct buf value = { 0 };
	int err = ctl_node_getxattr(tree, node, name, &value);

	if (!err)
		err = buf_put_u8(&value, 0);
	if (!err)
		*out = strtoull((const char *)value.data, NULL, 10);
	buf_release(&value);
	return err;
}

int ctl_node_revs(struct ctl_tree *tree, struct ctl_node *node, struct ctl_revs *out)
{
	struct ns_attr attr;
	int err;

	if (tree->at.view) {
		err = ns_at_getattr(tree->at.view, node->ino, &attr);
		if (!err)
			*out = (struct ctl_revs){ attr.rev, attr.create_rev, attr.version };
		return err;
	}
	err = revs_of(tree, node, "user.mvccfs.rev", &out->rev);
	if (!err)
		err = revs_of(tree, node, "user.mvccfs.create_rev", &out->create_rev);
	if (!err)
		err = revs_of(tree, node, "user.mvccfs.version", &out->version);
	return err;
}

/* ---- walking ------------------------------------------------------------------------------------- */

struct names {
	char **v;
	size_t n, cap;
};

static void names_release(struct names *names)
{
	for (size_t i = 0; i < names->n; i++)
		free(names->v[i]);
	free(names->v);
}

static int names_add(struct names *names, struct slice name)
{
	if (names->n == names->cap) {
		size_t cap = names->cap ? 2 * names->cap : 64;
		char **v = reallocarray(names->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		names->v = v;
		names->cap = cap;
	}
	names->v[names->n] = strndup((const char *)name.data, name.len);
	return names->v[names->n] ? (names->n++, 0) : -ENOMEM;
}

static int list_stored(struct ctl_tree *tree, const struct ctl_node *dir, struct names *out)
{
	struct ns_dirent entry;
	struct ns_dir *d;
	int got = ns_at_opendir(tree->at.view, dir->ino, &d);

	if (got)
		return got;
	for (uint64_t pos = 0; (got = ns_dir_read(d, pos, &entry)) > 0; pos++) {
		got = names_add(out, entry.name);
		if (got)
			break;
	}
	ns_dir_close(d);
	return got;
}

static int list_mounted(const struct ctl_node *dir, struct names *out)
{
	int fd = openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), err = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!d) {
		err = -errno;
		if (fd >= 0)
			close(fd);
		return err;
	}
	while (!err && (errno = 0, entry = readdir(d)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			err = names_add(out, slice_str(entry->d_name));
	if (!err)
		err = -errno;
	closedir(d);
	return err;
}

static int names_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct walk {
	struct ctl_tree *tree;
	ctl_walk_fn *fn;
	void *arg;
	struct buf path; /* ended by a NUL beyond its length */
	char **failed;
};

static int walk_failed(struct walk *w, int err)
{
	if (!*w->failed)
		*w->failed = strdup(w->path.len ? (const char *)w->path.data : "/");
	return err;
}

static int walk_node(struct walk *w, struct ctl_node *node);

static int walk_name(struct walk *w, const struct ctl_node *dir, const char *name)
{
	struct ctl_node node = CTL_NODE_NONE;
	size_t mark = w->path.len;
	int err = buf_put_u8(&w->path, '/');

	if (!err)
		err = buf_put(&w->path, name, strlen(name) + 1);
	if (err)
		return err;
	w->path.len--;
	err = ctl_node_open_at(w->tree, dir, slice_str(name), &node);
	err = err ? walk_failed(w, err) : walk_node(w, &node);
	ctl_node_close(&node);
	w->path.len = mark;
	w->path.data[mark] = 0;
	return err;
}

static int walk_node(struct walk *w, struct ctl_node *node)
{
	struct names names = { 0 };
	int err = w->fn(w->arg, w->path.len ? (const char *)w->path.data : "/", node);

	if (err || !S_ISDIR(node->mode))
		return err;
	err = w->tree->at.view ? list_stored(w->tree, node, &names) : list_mounted(node, &names);
	if (err)
		err = walk_failed(w, err);
	if (names.n)
		qsort(names.v, names.n, sizeof(*names.v), names_cmp);
	for (size_t i = 0; i < names.n && !err; i++)
		err = walk_name(w, node, names.v[i]);
	names_release(&names);
	return err;
}

int ctl_tree_walk(struct ctl_tree *tree, const char *path, ctl_walk_fn *fn, void *arg, char **failed)
{
	struct walk w = { .tree = tree, .fn = fn, .arg = arg, .failed = failed };
	struct ctl_node node = CTL_NODE_NONE;
	int err;

	*failed = NULL;
	if (strcmp(path, "/") == 0)
		path = "";
	err = buf_put(&w.path, path, strlen(path) + 1);
	if (err)
		return err;
	w.path.len--;
	err = ctl_node_open(tree, path, &node);
	err = err ? walk_failed(&w, err) : walk_node(&w, &node);
	ctl_node_close(&node);
	buf_release(&w.path);
	return err;
}
