/*
 * How far long work has come. Whoever asks for it may give it a number, "task", and ask for "progress" of that number
 * meanwhile, through another open file: the work itself has the reply to give.
 */
#include "fs/query_int.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sys/queue.h>

static struct {
	pthread_mutex_t lock;
	LIST_HEAD(, query_task) tasks; /* lock */
} running = { .lock = PTHREAD_MUTEX_INITIALIZER };

void task_begin(struct query_task *task, struct json_object *req, const char *what)
{
	*task = (struct query_task){ .what = what };
	if (number_member(req, "task", &task->id))
		task->id = 0;
	pthread_mutex_lock(&running.lock);
	LIST_INSERT_HEAD(&running.tasks, task, link);
	pthread_mutex_unlock(&running.lock);
}

void task_phase(struct query_task *task, const char *what)
{
	pthread_mutex_lock(&running.lock);
	task->what = what;
	task->done = 0;
	pthread_mutex_unlock(&running.lock);
}

void task_end(struct query_task *task)
{
	pthread_mutex_lock(&running.lock);
	LIST_REMOVE(task, link);
	pthread_mutex_unlock(&running.lock);
}

/* The task of that number, if there is one, as it is now. */
static bool task_find(uint64_t id, struct query_task *out)
{
	const struct query_task *task;
	bool found = false;

	pthread_mutex_lock(&running.lock);
	LIST_FOREACH(task, &running.tasks, link)
		if (id && task->id == id) {
			out->what = task->what;
			out->done = task->done;
			found = true;
			break;
		}
	pthread_mutex_unlock(&running.lock);
	return found;
}

int answer_progress(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	struct query_task task;
	uint64_t id;

	(void)env;
	if (number_member(req, "task", &id))
		return refuse(reply, -EINVAL, "the request names no task: its number");
	if (!task_find(id, &task))
		return put_text(reply, "{\"ok\":true,\"running\":false}");
	return put_text(reply, "{\"ok\":true,\"running\":true,\"what\":\"%s\",\"done\":%" PRIu64 "}",
			task.what, task.done);
}
