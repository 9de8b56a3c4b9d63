/*
 * `/@status`: the mount's figures (metrics.h), as they were when the file was opened.
 */
#include "fs/fuse_int.h"

#include <errno.h>
#include <fcntl.h>

#include "fs/metrics.h"

static int status_getattr(struct mount *m, struct node *node, struct ns_attr *attr)
{
	(void)node;
	own_attr(m, S_IFREG | 0444, attr);
	attr->mtime_ns = ns_time_ns();
	return 0;
}

static int status_open(fuse_req_t req, struct node *node, struct handle *h, struct fuse_file_info *fi)
{
	struct mount *m = mount_of(req);
	const struct metrics_env env = {
		.db = m->db,
		.ns = m->ns,
		.db_path = m->config->db_path,
		.started_ns = m->started_ns,
		.nodes = node_count(&m->nodes),
		.parked = m->nparked,
	};

	(void)node;
	if ((fi->flags & O_ACCMODE) != O_RDONLY)
		return -EPERM;
	fi->direct_io = 1; /* its size is not known before */
	fi->noflush = 1;
	return metrics_text(&env, &h->reply);
}

static void status_read(fuse_req_t req, struct node *node, struct handle *h, size_t size, uint64_t off)
{
	(void)node;
	reply_part(req, slice_buf(&h->reply), size, off);
}

const struct kind kind_status = {
	.getattr = status_getattr,
	.open = status_open,
	.read = status_read,
	.attr_moves = true,
	.read_only = -EPERM,
};
