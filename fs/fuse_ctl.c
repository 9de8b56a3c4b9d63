/*
 * `@ctl`: write a request, read the reply (query.h). Requests run on threads of their own, as they may take long.
 */
#include "fs/fuse_int.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "fs/query.h"

struct ctl_job {
	struct mount *m;
	fuse_req_t req;
	struct handle *h; /* open until the request is answered */
	struct asker asker;
	size_t len;
	char text[];
};

/* ---- requests ---------------------------------------------------------------------------------- */

static void changed(void *arg, mvcc_rev_t rev)
{
	notify_changed(arg, rev);
}

static void write_back(void *arg)
{
	notify_write_back(arg);
}

static void purged(void *arg, const uint64_t *inos, size_t n)
{
	notify_purged(arg, inos, n);
}

static void job_run(void *arg)
{
	struct ctl_job *job = arg;
	struct mount *m = job->m;
	struct query_env env = {
		.db = m->db,
		.ns = m->ns,
		.db_path = m->config->db_path,
		.mountpoint = m->config->mountpoint,
		.revname = m->config->revdir == REVDIR_DISABLED ? NULL : m->config->revname,
		.started_ns = m->started_ns,
		.nodes = node_count(&m->nodes),
		.parked = m->nparked,
		.pid = (unsigned)getpid(),
		.uid = job->asker.who.uid,
		.gid = job->asker.who.gid,
		.asker = job->asker.who.pid,
		.comm = job->asker.who.comm,
		.owner = m->owner,
		.write_back = write_back,
		.changed = changed,
		.purged = purged,
		.changed_arg = m,
	};
	struct buf reply = { 0 };
	int err = query_answer(&env, slice_of(job->text, job->len), &reply);

	pthread_mutex_lock(&job->h->lock);
	buf_release(&job->h->reply);
	job->h->reply = reply;
	job->h->reply_at = 0;
	pthread_mutex_unlock(&job->h->lock);
	if (err)
		reply_err(job->req, err);
	else
		fuse_reply_write(job->req, job->len);
	free(job);
}

static void ctl_write(fuse_req_t req, struct node *node, struct handle *h, const char *data, size_t len)
{
	struct mount *m = mount_of(req);
	struct ctl_job *job;
	int err;

	(void)node;
	if (len > QUERY_REQUEST_MAX) {
		reply_err(req, -EMSGSIZE);
		return;
	}
	job = malloc(sizeof(*job) + len);
	if (!job) {
		reply_err(req, -ENOMEM);
		return;
	}
	*job = (struct ctl_job){ .m = m, .req = req, .h = h, .len = len };
	who_asks(req, &job->asker);
	memcpy(job->text, data, len);
	err = work_start(m, job_run, job);
	if (err) {
		free(job);
		reply_err(req, err);
	}
}

/* ---- the file ---------------------------------------------------------------------------------- */

static int ctl_getattr(struct mount *m, struct node *node, struct ns_attr *attr)
{
	(void)node;
	own_attr(m, S_IFREG | 0600, attr);
	return 0;
}

static int ctl_open(fuse_req_t req, struct node *node, struct handle *h, struct fuse_file_info *fi)
{
	(void)req;
	(void)node;
	(void)h;
	fi->direct_io = 1;
	fi->nonseekable = 1;
	fi->noflush = 1;
	return 0;
}

static void ctl_read(fuse_req_t req, struct node *node, struct handle *h, size_t size, uint64_t off)
{
	char *data = malloc(size);
	size_t n;

	(void)node;
	(void)off; /* a reply is read on from where the last read ended */
	if (!data) {
		reply_err(req, -ENOMEM);
		return;
	}
	pthread_mutex_lock(&h->lock);
	n = h->reply.len - h->reply_at;
	if (n > size)
		n = size;
	if (n)
		memcpy(data, h->reply.data + h->reply_at, n);
	h->reply_at += n;
	pthread_mutex_unlock(&h->lock);
	fuse_reply_buf(req, data, n); /* last: the handle may be closed at once */
	free(data);
}

const struct kind kind_ctl = {
	.getattr = ctl_getattr,
	.open = ctl_open,
	.read = ctl_read,
	.write = ctl_write,
	.read_only = -EPERM,
};
