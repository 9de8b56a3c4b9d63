/*
 * Extended attributes: the tree's, and `user.mvccfs.*`, by which the store answers.
 */
#include "fs/fuse_int.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

#include "fs/ns_acl.h"
#include "mvcc/lease.h"

#define XATTR_PREFIX "user.mvccfs."
#define XATTR_TTL XATTR_PREFIX "ttl"
#define XATTR_IF_REV XATTR_PREFIX "if_rev"
#define XATTR_IF_VERSION XATTR_PREFIX "if_version"

static int author_of(struct mvcc *db, mvcc_rev_t rev, struct buf *out)
{
	const struct mvcc_entry *entry;
	struct mvcc_log *log;
	char text[128];
	int got = mvcc_log_open(db, rev, rev, &log);

	if (got)
		return got;
	got = mvcc_log_next(log, &entry);
	if (got > 0) {
		snprintf(text, sizeof(text), "uid=%u gid=%u pid=%u comm=%s", entry->story.uid,
			 entry->story.gid, entry->story.pid, entry->story.comm);
		got = buf_copy(out, slice_str(text));
	} else if (got == 0) {
		got = -ENODATA;
	}
	mvcc_log_close(log);
	return got;
}

/* The lease of a file that lives, and what is left of its time, in seconds. */
static int lease_xattr(struct mount *m, struct node *node, bool ttl, struct buf *out)
{
	struct mvcc_lease lease;
	struct tree tree;
	char text[32];
	int err = tree_of(node) ? tree_enter(m, node, &tree) : -ENODATA;

	if (!err) {
		err = ns_get_lease(tree.ns, node->ino, &lease);
		tree_leave(&tree);
	}
	if (err)
		return err;
	snprintf(text, sizeof(text), "%" PRIu64, ttl ? (lease.left_ms + 999) / 1000 : lease.id);
	return buf_copy(out, slice_str(text));
}

/* What the store knows of a node, as text. */
static int own_xattr(struct mount *m, struct node *node, const char *name, struct buf *out)
{
	struct ns_attr attr;
	char text[32];
	uint64_t value;
	int err;

	if (strcmp(name, "ttl") == 0 || strcmp(name, "lease") == 0)
		return lease_xattr(m, node, name[0] == 't', out);
	err = node_getattr(m, node, &attr);
	if (err)
		return err;
	/* A view's directory answers with the view's revision: what `@rev/head` has become. */
	if (strcmp(name, "rev") == 0)
		value = node->kind == NODE_PAST_DIR ? node->rev : attr.rev;
	else if (strcmp(name, "create_rev") == 0)
		value = attr.create_rev;
	else if (strcmp(name, "version") == 0)
		value = attr.version;
	else if (strcmp(name, "author") == 0 && attr.rev)
		return author_of(m->db, attr.rev, out);
	else
		return -ENODATA;
	if (!value)
		return -ENODATA; /* not committed yet */
	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return buf_copy(out, slice_str(text));
}

static void reply_xattr(fuse_req_t req, int err, const struct buf *value, size_t size)
{
	if (err)
		reply_err(req, err);
	else if (size == 0)
		fuse_reply_xattr(req, value->len);
	else if (size < value->len)
		reply_err(req, -ERANGE);
	else
		fuse_reply_buf(req, (const char *)value->data, value->len);
}

static bool is_own_xattr(const char *name)
{
	return strncmp(name, XATTR_PREFIX, sizeof(XATTR_PREFIX) - 1) == 0;
}

/* The kernel hands over names of any kind; these there are. */
static int name_check(const char *name)
{
	static const char *const spaces[] = { "user.", "trusted.", "security." };

	if (acl_is_name(name))
		return 0;
	for (size_t i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++)
		if (strncmp(name, spaces[i], strlen(spaces[i])) == 0)
			return name[strlen(spaces[i])] ? 0 : -EINVAL;
	return -EOPNOTSUPP;
}

void op_getxattr(fuse_req_t req, fuse_ino_t id, const char *name, size_t size)
{
	struct node *node = node_of(req, id);
	const struct kind *kind = kind_of(node);
	struct buf value = { 0 };
	int err = -ENODATA;

	if (name_check(name)) {
		err = name_check(name);
	} else if (is_own_xattr(name)) {
		if (kind->has_own_xattrs)
			err = own_xattr(mount_of(req), node, name + sizeof(XATTR_PREFIX) - 1, &value);
	} else if (kind->getxattr) {
		err = kind->getxattr(req, node, name, &value);
	}
	reply_xattr(req, err, &value, size);
	buf_release(&value);
}

void op_listxattr(fuse_req_t req, fuse_ino_t id, size_t size)
{
	struct node *node = node_of(req, id);
	const struct kind *kind = kind_of(node);
	struct buf names = { 0 };
	int err = kind->listxattr ? kind->listxattr(req, node, &names) : 0;

	if (!err && names.len > XATTR_LIST_MAX)
		err = -E2BIG;
	reply_xattr(req, err, &names, size);
	buf_release(&names);
}

/* A number in digits. */
static int parse_number(struct slice value, uint64_t *out)
{
	uint64_t n = 0;

	if (!value.len)
		return -EINVAL;
	for (size_t i = 0; i < value.len; i++)
		if (value.data[i] < '0' || value.data[i] > '9' ||
		    __builtin_mul_overflow(n, (uint64_t)10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(value.data[i] - '0'), &n))
			return -EINVAL;
	*out = n;
	return 0;
}

/* One of ours: `ttl` in whole seconds, or what a compare-and-swap compares with. */
static int set_own(struct call *c, struct ns *ns)
{
	struct asker asker;
	uint64_t n;
	int err = parse_number(slice_of(c->data, c->len), &n);

	if (err)
		return err;
	if (strcmp(c->name, XATTR_TTL) == 0)
		return ns_set_ttl(ns, who_asks(c->req, &asker), c->node->ino, n);
	return ns_file_if(ns, c->node->ino, strcmp(c->name, XATTR_IF_REV) == 0 ? NS_IF_REV : NS_IF_VERSION,
			  n);
}

/* Whoever sets an access list without being in the file's group takes its set-group-id bit away, as chmod would. */
static bool keeps_sgid(fuse_req_t req, struct node *node)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	gid_t groups[256];
	struct ns_attr attr;
	int n;

	if (ctx->uid == 0 || node_getattr(mount_of(req), node, &attr) || !(attr.mode & S_ISGID) ||
	    ctx->gid == attr.gid)
		return true;
	n = fuse_req_getgroups(req, sizeof(groups) / sizeof(groups[0]), groups);
	for (int i = 0; i < n && i < (int)(sizeof(groups) / sizeof(groups[0])); i++)
		if (groups[i] == attr.gid)
			return true;
	return false;
}

static void run_setxattr(struct call *c)
{
	struct asker asker;
	struct tree tree;
	int err;

	if (strcmp(c->name, ACL_ACCESS) == 0 && !keeps_sgid(c->req, c->node))
		c->flags |= NS_XATTR_DROP_SGID;
	err = tree_enter(mount_of(c->req), c->node, &tree);
	if (!err && is_own_xattr(c->name))
		err = set_own(c, tree.ns);
	else if (!err)
		err = ns_setxattr(tree.ns, who_asks(c->req, &asker), c->node->ino, c->name,
				  slice_of(c->data, c->len), (int)c->flags);
	tree_leave(&tree);
	reply_err(c->req, err);
}

/* May this xattr be removed or, with `set`, set? */
static int need_xattr_writable(const struct node *node, const char *name, bool set)
{
	bool compare = strcmp(name, XATTR_IF_REV) == 0 || strcmp(name, XATTR_IF_VERSION) == 0;

	if (!tree_of(node))
		return kind_of(node)->read_only;
	if (is_own_xattr(name) && strcmp(name, XATTR_TTL) != 0 && !(set && compare))
		return -EPERM;
	return name_check(name);
}

void op_setxattr(fuse_req_t req, fuse_ino_t id, const char *name, const char *value, size_t size, int flags)
{
	struct call c = {
		.run = run_setxattr,
		.req = req,
		.node = node_of(req, id),
		.name = name,
		.data = value,
		.len = size,
		.flags = (unsigned)flags,
	};
	int err = need_xattr_writable(c.node, name, true);

	if (err)
		reply_err(req, err);
	else
		dispatch(&c);
}

static int remove_ttl(struct ns *ns, const struct ns_who *who, uint64_t ino)
{
	struct mvcc_lease lease;
	int err = ns_get_lease(ns, ino, &lease);

	return err ? err : ns_set_ttl(ns, who, ino, 0);
}

static void run_removexattr(struct call *c)
{
	struct asker asker;
	struct tree tree;
	int err = tree_enter(mount_of(c->req), c->node, &tree);

	if (!err && strcmp(c->name, XATTR_TTL) == 0)
		err = remove_ttl(tree.ns, who_asks(c->req, &asker), c->node->ino);
	else if (!err)
		err = ns_removexattr(tree.ns, who_asks(c->req, &asker), c->node->ino, c->name);
	tree_leave(&tree);
	reply_err(c->req, err);
}

void op_removexattr(fuse_req_t req, fuse_ino_t id, const char *name)
{
	struct call c = { .run = run_removexattr, .req = req, .node = node_of(req, id), .name = name };
	int err = need_xattr_writable(c.node, name, false);

	if (err)
		reply_err(req, err);
	else
		dispatch(&c);
}
