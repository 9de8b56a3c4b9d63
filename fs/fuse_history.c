/*
 * `D/@history`: the names that D has or had; below each its versions, named by revisions (ns_history.h). What a version
 * is, as a node, is what it is under @rev, so that the kernel caches it once and stat shows the same number.
 */
#include "fs/fuse_int.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fs/ns_history.h"

/* As D, of which it tells nothing to who may not list D. */
static int history_getattr(struct mount *m, struct node *node, struct ns_attr *attr)
{
	int err = ns_getattr(m->ns, node->ino, attr);

	attr->mode = S_IFDIR | (attr->mode & 0555);
	attr->nlink = 2;
	attr->size = attr->alloc = 0;
	return err;
}

/* ---- D/@history -------------------------------------------------------------------------------- */

/* The path of D/NAME as D is called today. */
static int history_path(struct mount *m, uint64_t dir, const char *name, struct buf *out)
{
	int err = ns_path(m->ns, dir, out);

	if (!err && out->len > 1)
		err = buf_put_u8(out, '/');
	return err ? err : buf_put_slice(out, slice_str(name));
}

static int histdir_lookup(struct mount *m, struct node *dir, const char *name, struct fuse_entry_param *e)
{
	struct buf path = { 0 };
	int err = history_path(m, dir->ino, name, &path);

	if (!err)
		err = ns_history_any(m->db, slice_buf(&path));
	buf_release(&path);
	return err ? err : kind_entry(m, NODE_HISTORY, dir->ino, 0, dir, name, 0, e);
}

/* Names, each after its length in one byte, and where each begins. */
struct names {
	struct buf bytes;
	size_t *at;
	size_t n, cap;
};

static void names_free(void *arg)
{
	struct names *names = arg;

	buf_release(&names->bytes);
	free(names->at);
	free(names);
}

static int names_add(void *arg, struct slice name)
{
	struct names *names = arg;
	size_t at = names->bytes.len;
	int err;

	if (names->n == names->cap) {
		size_t cap = names->cap ? 2 * names->cap : 64;
		size_t *more = realloc(names->at, cap * sizeof(*more));

		if (!more)
			return -ENOMEM;
		names->at = more;
		names->cap = cap;
	}
	err = buf_put_u8(&names->bytes, (uint8_t)name.len);
	if (!err)
		err = buf_put_slice(&names->bytes, name);
	if (!err)
		names->at[names->n++] = at;
	return err;
}

static int histdir_opendir(fuse_req_t req, struct node *dir, struct handle *h)
{
	struct mount *m = mount_of(req);
	struct names *names = calloc(1, sizeof(*names));
	struct buf path = { 0 };
	int err;

	if (!names)
		return -ENOMEM;
	h->own = names;
	h->free_own = names_free;
	err = ns_path(m->ns, dir->ino, &path);
	if (!err)
		err = ns_history_names(m->db, slice_buf(&path), names_add, names);
	buf_release(&path);
	return err;
}

static int histdir_list(struct mount *m, struct node *dir, struct handle *h, uint64_t pos, struct listed *out)
{
	const struct names *names = h->own;
	const uint8_t *at;

	(void)m;
	if (pos >= names->n)
		return 0;
	at = names->bytes.data + names->at[pos];
	memcpy(out->name, at + 1, at[0]);
	out->name[at[0]] = '\0';
	out->ino = node_stat_ino(NODE_HISTORY, dir->ino, 0);
	return 1;
}

const struct kind kind_histdir = {
	.getattr = history_getattr,
	.lookup = histdir_lookup,
	.opendir = histdir_opendir,
	.list = histdir_list,
	.attr_moves = true,
	.read_only = -EROFS,
};

/* ---- D/@history/NAME --------------------------------------------------------------------------- */

static bool decimal(const char *text, mvcc_rev_t *out)
{
	mvcc_rev_t v = 0;

	if (*text < '1' || *text > '9')
		return false;
	for (; *text; text++)
		if (*text < '0' || *text > '9' || __builtin_mul_overflow(v, (mvcc_rev_t)10, &v) ||
		    __builtin_add_overflow(v, (mvcc_rev_t)(*text - '0'), &v))
			return false;
	*out = v;
	return true;
}

static int history_lookup(struct mount *m, struct node *node, const char *name, struct fuse_entry_param *e)
{
	struct mvcc_view *view = NULL;
	struct ns_version version;
	struct buf path = { 0 };
	mvcc_rev_t rev;
	int err;

	if (!decimal(name, &rev))
		return -ENOENT;
	err = history_path(m, node->ino, node->name, &path);
	if (!err)
		err = ns_history_at(m->db, slice_buf(&path), rev, &version);
	if (!err)
		err = mvcc_view_open(m->db, rev, &view);
	/* The path of D may change, and what was the oldest revision that shows a version may be compacted. */
	if (!err)
		err = past_entry(m, view, version.ino, node, name, 0, e);
	mvcc_view_close(view);
	buf_release(&path);
	return err;
}

struct version_list {
	struct ns_version *at;
	size_t n;
};

static void versions_free(void *arg)
{
	struct version_list *list = arg;

	free(list->at);
	free(list);
}

static int history_opendir(fuse_req_t req, struct node *node, struct handle *h)
{
	struct mount *m = mount_of(req);
	struct version_list *list = calloc(1, sizeof(*list));
	struct buf path = { 0 };
	int err;

	if (!list)
		return -ENOMEM;
	h->own = list;
	h->free_own = versions_free;
	err = history_path(m, node->ino, node->name, &path);
	if (!err)
		err = ns_history(m->db, slice_buf(&path), &list->at, &list->n);
	buf_release(&path);
	return err;
}

static int history_list(struct mount *m, struct node *node, struct handle *h, uint64_t pos,
			struct listed *out)
{
	const struct version_list *list = h->own;
	const struct ns_version *v;

	(void)m;
	(void)node;
	if (pos >= list->n)
		return 0;
	v = &list->at[pos];
	snprintf(out->name, sizeof(out->name), "%" PRIu64, v->rev);
	out->type = NS_TYPE_OF(v->mode);
	out->ino = S_ISDIR(v->mode) ? node_stat_ino(NODE_PAST_DIR, v->ino, v->rev) :
				      node_stat_ino(NODE_PAST_FILE, v->ino, v->row_rev);
	return 1;
}

const struct kind kind_history = {
	.getattr = history_getattr,
	.lookup = history_lookup,
	.opendir = history_opendir,
	.list = history_list,
	.attr_moves = true,
	.read_only = -EROFS,
};
