/*
 * Long work: while the answer is waited for, another thread asks how far it has come, and tells that on stderr if it is
 * a terminal.
 */
#include "tools/ctl.h"

#include "fs/json_bytes.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_MS = 500 };

struct watcher {
	struct ctl ctl; /* the same database, by an open @ctl of its own */
	uint64_t task;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t over;
	bool stop; /* lock */
	bool told; /* the thread's: there is a line to be wiped away */
};

static void tell(struct watcher *w)
{
	struct json_object *req = ctl_request("progress"), *reply;
	int err = req ? json_add_u64(req, "task", w->task) : 0;

	if (!req || ctl_ask_filled(&w->ctl, req, err, &reply))
		return;
	if (ctl_flag(reply, "running")) {
		uint64_t done = ctl_number(reply, "done");

		fprintf(stderr, "\r%s", ctl_text(reply, "what"));
		if (done)
			fprintf(stderr, ": %" PRIu64, done);
		fputs(" ...\033[K", stderr);
		fflush(stderr);
		w->told = true;
	}
	json_object_put(reply);
}

static void *watch(void *arg)
{
	struct watcher *w = arg;
	struct timespec next;

	clock_gettime(CLOCK_REALTIME, &next);
	pthread_mutex_lock(&w->lock);
	while (!w->stop) {
		int err;

		next.tv_nsec += (long)LOOK_MS * 1000000;
		next.tv_sec += next.tv_nsec / 1000000000;
		next.tv_nsec %= 1000000000;
		do
			err = pthread_cond_timedwait(&w->over, &w->lock, &next);
		while (!err && !w->stop);
		if (w->stop)
			break;
		pthread_mutex_unlock(&w->lock);
		tell(w);
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static bool watcher_start(struct watcher *w, const struct ctl *ctl)
{
	*w = (struct watcher){ .ctl = *ctl, .task = (uint64_t)getpid() << 32 | (uint32_t)time(NULL) };
	w->ctl.ctl_fd = -1;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->over, NULL);
	return isatty(STDERR_FILENO) && pthread_create(&w->thread, NULL, watch, w) == 0;
}

static void watcher_stop(struct watcher *w)
{
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_signal(&w->over);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	if (w->told)
		fputs("\r\033[K", stderr);
	if (w->ctl.ctl_fd >= 0)
		close(w->ctl.ctl_fd);
}

int ctl_ask_long(struct ctl *ctl, struct json_object *req, int err, struct json_object **out)
{
	struct watcher w;
	bool watched = watcher_start(&w, ctl);
	int status;

	if (!err && watched)
		err = json_add_u64(req, "task", w.task);
	status = ctl_ask_filled(ctl, req, err, out);
	if (watched)
		watcher_stop(&w);
	pthread_cond_destroy(&w.over);
	pthread_mutex_destroy(&w.lock);
	return status;
}
