/*
 * Threads for what takes long: one each, which ends with it. They serve no request of the kernel, so they may wait for
 * the disk, and tell the kernel to forget things.
 */
#include "fs/fuse_int.h"

#include <errno.h>

enum { WORK_MAX = 32 };

struct work {
	pthread_mutex_t lock;
	pthread_cond_t idle; /* n is 0 */
	unsigned n;          /* lock; threads that run */
};

struct job {
	struct work *work;
	void (*run)(void *arg);
	void *arg;
};

static void job_over(struct work *w)
{
	pthread_mutex_lock(&w->lock);
	if (--w->n == 0)
		pthread_cond_broadcast(&w->idle);
	pthread_mutex_unlock(&w->lock);
}

static void *job_main(void *arg)
{
	struct job job = *(struct job *)arg;

	free(arg);
	job.run(job.arg);
	job_over(job.work);
	return NULL;
}

static int thread_start(struct job *job)
{
	pthread_attr_t attr;
	pthread_t thread;
	int err;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	err = -pthread_create(&thread, &attr, job_main, job);
	pthread_attr_destroy(&attr);
	return err;
}

int work_start(struct mount *m, void (*run)(void *arg), void *arg)
{
	struct work *w = m->work;
	struct job *job = malloc(sizeof(*job));
	bool full;
	int err;

	if (!job)
		return -ENOMEM;
	*job = (struct job){ w, run, arg };
	pthread_mutex_lock(&w->lock);
	full = w->n == WORK_MAX;
	w->n += !full;
	pthread_mutex_unlock(&w->lock);
	err = full ? -EAGAIN : thread_start(job);
	if (err && !full)
		job_over(w);
	if (err)
		free(job);
	return err;
}

int work_init(struct mount *m)
{
	m->work = calloc(1, sizeof(*m->work));
	if (!m->work)
		return -ENOMEM;
	pthread_mutex_init(&m->work->lock, NULL);
	pthread_cond_init(&m->work->idle, NULL);
	return 0;
}

void work_end(struct mount *m)
{
	struct work *w = m->work;

	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	while (w->n)
		pthread_cond_wait(&w->idle, &w->lock);
	pthread_mutex_unlock(&w->lock);
	pthread_cond_destroy(&w->idle);
	pthread_mutex_destroy(&w->lock);
	free(w);
	m->work = NULL;
}

static void call_run(void *arg)
{
	struct call *c = arg;

	c->run(c);
	call_free(c);
}

void dispatch_long(struct call *c)
{
	struct call *copy = call_copy(c);
	int err = copy ? work_start(mount_of(c->req), call_run, copy) : -ENOMEM;

	if (!err)
		return;
	if (copy)
		call_free(copy);
	reply_err(c->req, err);
}
