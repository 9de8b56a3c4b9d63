/*
 * `@ctl`: write a request, read the reply (query.h). Requests run on threads of their own, one each: they may take
 * long, and one that changes the tree from the side tells the kernel, which no thread that serves it may do.
 */
#include "fs/fuse_int.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "fs/query.h"

enum { JOBS_MAX = 32 };

struct ctl_worker {
	pthread_mutex_t lock;
	pthread_cond_t idle; /* njobs is 0 */
	unsigned njobs;      /* lock */
};

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

static void job_run(struct ctl_job *job)
{
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
		.changed = changed,
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
}

static void job_over(struct ctl_worker *w)
{
	pthread_mutex_lock(&w->lock);
	if (--w->njobs == 0)
		pthread_cond_broadcast(&w->idle);
	pthread_mutex_unlock(&w->lock);
}

static void *job_main(void *arg)
{
	struct ctl_job *job = arg;
	struct ctl_worker *w = job->m->ctl;

	job_run(job);
	free(job);
	job_over(w);
	return NULL;
}

static int job_start(struct ctl_worker *w, struct ctl_job *job)
{
	pthread_attr_t attr;
	pthread_t thread;
	bool full;
	int err;

	pthread_mutex_lock(&w->lock);
	full = w->njobs == JOBS_MAX;
	w->njobs += !full;
	pthread_mutex_unlock(&w->lock);
	if (full)
		return -EAGAIN;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	err = pthread_create(&thread, &attr, job_main, job);
	pthread_attr_destroy(&attr);
	if (err)
		job_over(w);
	return -err;
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
	err = job_start(m->ctl, job);
	if (err) {
		free(job);
		reply_err(req, err);
	}
}

/* ---- the file ---------------------------------------------------------------------------------- */

static int ctl_getattr(struct mount *m, struct node *node, struct ns_attr *attr)
{
	(void)node;
	*attr = (struct ns_attr){
		.mode = S_IFREG | 0600,
		.uid = (uint32_t)m->owner,
		.nlink = 1,
		.atime_ns = m->started_ns,
		.mtime_ns = m->started_ns,
		.ctime_ns = m->started_ns,
	};
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

/* ---- start and stop ---------------------------------------------------------------------------- */

int ctl_start(struct mount *m)
{
	m->ctl = calloc(1, sizeof(*m->ctl));
	if (!m->ctl)
		return -ENOMEM;
	pthread_mutex_init(&m->ctl->lock, NULL);
	pthread_cond_init(&m->ctl->idle, NULL);
	return 0;
}

void ctl_stop(struct mount *m)
{
	struct ctl_worker *w = m->ctl;

	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	while (w->njobs)
		pthread_cond_wait(&w->idle, &w->lock);
	pthread_mutex_unlock(&w->lock);
	pthread_cond_destroy(&w->idle);
	pthread_mutex_destroy(&w->lock);
	free(w);
	m->ctl = NULL;
}
