/*
 * `/@tag`: names for revisions, which keep them (pins of keep.h), as symbolic links into @rev. `ln -s` makes one, `mv` gives
 * it another name, `rm` takes it away. Others make and move pins, too (mvccctl, retention), so the kernel keeps nothing.
 */
#include "fs/fuse_int.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>

#include "fs/expr.h"
#include "mvcc/keep.h"

static void target_of(struct mount *m, const struct mvcc_pin *pin, char out[512])
{
	snprintf(out, 512, "../%s/%" PRIu64, m->config->revname, pin->rev);
}

/* ---- one tag ----------------------------------------------------------------------------------- */

static int tag_getattr(struct mount *m, struct node *node, struct ns_attr *attr)
{
	struct mvcc_pin pin;
	char target[512];
	int err = mvcc_pin_get(m->db, node->name, &pin);

	if (err)
		return err;
	target_of(m, &pin, target);
	*attr = (struct ns_attr){
		.mode = S_IFLNK | 0777,
		.uid = (uint32_t)m->owner,
		.nlink = 1,
		.size = strlen(target),
		.atime_ns = pin.made_ns,
		.mtime_ns = pin.made_ns,
		.ctime_ns = pin.made_ns,
	};
	return 0;
}

static int tag_readlink(fuse_req_t req, struct node *node, struct buf *out)
{
	struct mount *m = mount_of(req);
	struct mvcc_pin pin;
	char target[512];
	int err = mvcc_pin_get(m->db, node->name, &pin);

	if (err)
		return err;
	target_of(m, &pin, target);
	return buf_copy(out, slice_str(target));
}

const struct kind kind_tag = {
	.getattr = tag_getattr,
	.readlink = tag_readlink,
	.attr_moves = true,
	.read_only = -EPERM,
};

/* ---- the directory ----------------------------------------------------------------------------- */

static int tagdir_getattr(struct mount *m, struct node *node, struct ns_attr *attr)
{
	(void)node;
	own_attr(m, S_IFDIR | 0755, attr);
	return 0;
}

/* The node of a tag is one for each time that the name was given: what another one was is not mixed up with it. */
static int tag_entry(struct mount *m, struct node *dir, const char *name, struct fuse_entry_param *e)
{
	struct mvcc_pin pin;
	int err = mvcc_pin_get(m->db, name, &pin);

	return err ? err : kind_entry(m, NODE_TAG, (uint64_t)pin.made_ns, pin.rev, dir, name, 0, e);
}

struct tags {
	struct mvcc_pin *pins;
	size_t n, cap;
};

static void tags_free(void *arg)
{
	struct tags *tags = arg;

	free(tags->pins);
	free(tags);
}

static int tags_add(void *arg, const struct mvcc_pin *pin)
{
	struct tags *tags = arg;

	if (tags->n == tags->cap) {
		size_t cap = tags->cap ? 2 * tags->cap : 16;
		struct mvcc_pin *more = realloc(tags->pins, cap * sizeof(*more));

		if (!more)
			return -ENOMEM;
		tags->pins = more;
		tags->cap = cap;
	}
	tags->pins[tags->n++] = *pin;
	return 0;
}

static int tagdir_opendir(fuse_req_t req, struct node *dir, struct handle *h)
{
	struct tags *tags = calloc(1, sizeof(*tags));

	(void)dir;
	if (!tags)
		return -ENOMEM;
	h->own = tags;
	h->free_own = tags_free;
	return mvcc_pins(mount_of(req)->db, tags_add, tags);
}

static int tagdir_list(struct mount *m, struct node *dir, struct handle *h, uint64_t pos, struct listed *out)
{
	const struct tags *tags = h->own;

	(void)m;
	(void)dir;
	if (pos >= tags->n)
		return 0;
	memcpy(out->name, tags->pins[pos].name, sizeof(out->name));
	out->ino = node_stat_ino(NODE_TAG, (uint64_t)tags->pins[pos].made_ns, tags->pins[pos].rev);
	out->type = NS_TYPE_OF(S_IFLNK);
	return 1;
}

/* ---- changes ----------------------------------------------------------------------------------- */

/* Takes the last name off a path, and slashes at its end. */
static struct slice last_name(struct slice *path)
{
	size_t at;

	while (path->len && path->data[path->len - 1] == '/')
		path->len--;
	for (at = path->len; at && path->data[at - 1] != '/'; at--)
		;
	path->len = at;
	return slice_of(path->data + at, strcspn((const char *)path->data + at, "/"));
}

/*
 * What the target of a link means as a revision: "EXPR", or a path that ends in "@rev/EXPR" or "@tag/NAME". -EINVAL when
 * it is neither.
 */
static int target_rev(struct mount *m, const char *target, mvcc_rev_t *rev)
{
	struct slice rest = slice_str(target), expr = last_name(&rest), dir;
	bool moving;

	if (rest.len) {
		dir = last_name(&rest);
		if (!slice_eq(dir, slice_str(m->config->revname)) && !slice_eq(dir, slice_str("@tag")))
			return -EINVAL;
	}
	return past_resolve(m->db, expr, rev, &moving);
}

static void run_tag(struct call *c)
{
	struct mount *m = mount_of(c->req);
	struct fuse_entry_param e;
	mvcc_rev_t rev = 0;
	int err = expr_is_reserved_form(slice_str(c->name)) ? -EINVAL : target_rev(m, c->data, &rev);

	if (!err)
		err = mvcc_pin(m->db, c->name, rev);
	if (!err)
		err = tag_entry(m, c->node, c->name, &e);
	if (err)
		reply_err(c->req, err);
	else if (fuse_reply_entry(c->req, &e) == -ENOENT)
		forget_entry(m, &e);
}

static void run_untag(struct call *c)
{
	reply_err(c->req, mvcc_unpin(mount_of(c->req)->db, c->name));
}

/*
 * `ln -sfn` and `mv` replace what has the name. The revision that is named anew has a name at every moment, so if we are
 * killed in between nothing of history is lost: it is still called `from` then.
 */
static int retag(struct mvcc *db, const char *from, const char *to, bool replace)
{
	int err = mvcc_pin_rename(db, from, to);

	if (err != -EEXIST || !replace || strcmp(from, to) == 0)
		return err;
	err = mvcc_unpin(db, to);
	return err && err != -ENOENT ? err : mvcc_pin_rename(db, from, to);
}

static void run_retag(struct call *c)
{
	struct mvcc_pin pin;
	int err = expr_is_reserved_form(slice_str(c->name2)) ? -EINVAL : 0;

	if (!err)
		err = mvcc_pin_get(mount_of(c->req)->db, c->name,
				   &pin); /* before another is taken away for it */
	if (!err)
		err = retag(mount_of(c->req)->db, c->name, c->name2, !(c->flags & RENAME_NOREPLACE));
	reply_err(c->req, err);
}

/* A pin is on disk when it is made, so none of these keeps a thread that the kernel may need. */
static void tagdir_change(struct call *c)
{
	if (strlen(c->name) > NS_NAME_MAX || (c->name2 && strlen(c->name2) > NS_NAME_MAX)) {
		reply_err(c->req, -ENAMETOOLONG);
		return;
	}
	switch (c->change) {
	case CHANGE_SYMLINK:
		c->run = run_tag;
		break;
	case CHANGE_UNLINK:
		c->run = run_untag;
		break;
	case CHANGE_RENAME:
		if (c->node2->kind != NODE_TAGDIR) {
			reply_err(c->req, -EXDEV);
			return;
		}
		if (c->flags & ~(unsigned)RENAME_NOREPLACE) {
			reply_err(c->req, -EINVAL);
			return;
		}
		c->run = run_retag;
		break;
	default:
		reply_err(c->req, -EPERM);
		return;
	}
	dispatch_long(c);
}

const struct kind kind_tagdir = {
	.getattr = tagdir_getattr,
	.lookup = tag_entry,
	.opendir = tagdir_opendir,
	.list = tagdir_list,
	.change = tagdir_change,
	.read_only = -EPERM,
};
