/*
 * Batches and pins are the inner engine's own; engines and iterators are wrapped. A call that fails does not
 * reach the inner engine, unless the plan says so.
 */
#include "tests/engines/fault_engine.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct fault_engine {
	struct engine_provider inner;
	pthread_mutex_t lock;
	struct fault_plan plan; /* lock */
	uint64_t calls;         /* lock */
	uint64_t failed;        /* lock */
};

struct fault_handle {
	struct engine base;
	struct fault_engine *fault;
	struct engine *inner;
	int broken; /* why reopen failed; only open and reopen, which run alone, change it */
};

struct fault_iter {
	struct engine_iter base;
	struct fault_engine *fault;
	struct engine_iter *inner;
	int err;
};

static const struct engine_ops fault_ops;

struct fault_engine *fault_engine_new(struct engine_provider inner)
{
	struct fault_engine *fault = calloc(1, sizeof(*fault));

	if (!fault)
		return NULL;
	fault->inner = inner;
	pthread_mutex_init(&fault->lock, NULL);
	return fault;
}

void fault_engine_free(struct fault_engine *fault)
{
	if (!fault)
		return;
	pthread_mutex_destroy(&fault->lock);
	free(fault);
}

void fault_engine_arm(struct fault_engine *fault, struct fault_plan plan)
{
	pthread_mutex_lock(&fault->lock);
	fault->plan = plan;
	fault->calls = 0;
	fault->failed = 0;
	pthread_mutex_unlock(&fault->lock);
}

void fault_engine_disarm(struct fault_engine *fault)
{
	fault_engine_arm(fault, (struct fault_plan){ 0 });
}

uint64_t fault_engine_calls(struct fault_engine *fault)
{
	uint64_t calls;

	pthread_mutex_lock(&fault->lock);
	calls = fault->calls;
	pthread_mutex_unlock(&fault->lock);
	return calls;
}

uint64_t fault_engine_failed(struct fault_engine *fault)
{
	uint64_t failed;

	pthread_mutex_lock(&fault->lock);
	failed = fault->failed;
	pthread_mutex_unlock(&fault->lock);
	return failed;
}

struct engine *fault_engine_inner(struct engine *e)
{
	return ((struct fault_handle *)e)->inner;
}

/* Counts a call. 0, or the code it is to fail with; `*out_done` says whether to carry it out all the same. */
static int judge(struct fault_engine *fault, unsigned kind, bool *out_done)
{
	const struct fault_plan *plan = &fault->plan;
	bool counted, fails;
	int err;

	pthread_mutex_lock(&fault->lock);
	counted = plan->kinds & kind;
	fault->calls += counted;
	if (!plan->at)
		fails = false;
	else if (plan->mode == FAULT_ONCE)
		fails = counted && fault->calls == plan->at;
	else if (plan->mode == FAULT_FROM_ON)
		fails = counted && fault->calls >= plan->at;
	else
		fails = fault->calls >= plan->at;
	*out_done = !fails || (plan->done && fault->failed == 0);
	fault->failed += fails;
	err = fails ? plan->err : 0;
	pthread_mutex_unlock(&fault->lock);
	return err;
}

static struct fault_handle *handle_of(struct engine *e)
{
	return (struct fault_handle *)e;
}

/* Does the call go on to the inner engine? What that says is overruled by `*out_err` where it is set. */
static bool passes(struct engine *e, unsigned kind, int *out_err)
{
	struct fault_handle *h = handle_of(e);
	bool done;

	*out_err = judge(h->fault, kind, &done);
	if (h->broken) {
		*out_err = h->broken;
		return false;
	}
	return done;
}

static int fault_open(void *arg, const char *dir, const struct engine_family *families, unsigned nfamilies,
		      struct engine **out)
{
	struct fault_engine *fault = arg;
	struct fault_handle *h;
	bool done;
	int err = judge(fault, FAULT_OPEN, &done);

	if (err)
		return err;
	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->base.ops = &fault_ops;
	h->fault = fault;
	err = fault->inner.open(fault->inner.arg, dir, families, nfamilies, &h->inner);
	if (err) {
		free(h);
		return err;
	}
	*out = &h->base;
	return 0;
}

struct engine_provider fault_engine_provider(struct fault_engine *fault)
{
	return (struct engine_provider){ fault_open, fault };
}

static void fault_close(struct engine *e)
{
	engine_close(handle_of(e)->inner);
	free(e);
}

static int fault_reopen(struct engine *e)
{
	struct fault_handle *h = handle_of(e);
	bool done;

	h->broken = judge(h->fault, FAULT_OPEN, &done);
	if (!h->broken)
		h->broken = engine_reopen(h->inner);
	return h->broken;
}

static int fault_get(struct engine *e, unsigned family, struct slice key, struct engine_pin *out)
{
	int err;

	passes(e, FAULT_GET, &err);
	return err ? err : engine_get(handle_of(e)->inner, family, key, out);
}

static void fault_pin_release(struct engine *e, struct engine_pin *pin)
{
	engine_pin_release(handle_of(e)->inner, pin);
}

static bool move(struct engine_iter *base, bool (*step)(struct engine_iter *it, struct slice key),
		 struct slice key)
{
	struct fault_iter *it = (struct fault_iter *)base;
	bool done;

	it->err = judge(it->fault, FAULT_MOVE, &done);
	if (it->err || !step(it->inner, key))
		return false;
	base->key = it->inner->key;
	base->value = it->inner->value;
	return true;
}

static bool step_next(struct engine_iter *it, struct slice key)
{
	(void)key;
	return engine_iter_next(it);
}

static bool step_last(struct engine_iter *it, struct slice key)
{
	(void)key;
	return engine_iter_seek_last(it);
}

static bool fault_iter_seek(struct engine_iter *base, struct slice key)
{
	return move(base, engine_iter_seek, key);
}

static bool fault_iter_next(struct engine_iter *base)
{
	return move(base, step_next, slice_of(NULL, 0));
}

static bool fault_iter_seek_last(struct engine_iter *base)
{
	return move(base, step_last, slice_of(NULL, 0));
}

static int fault_iter_error(struct engine_iter *base)
{
	struct fault_iter *it = (struct fault_iter *)base;

	return it->err ? it->err : engine_iter_error(it->inner);
}

static void fault_iter_free(struct engine_iter *base)
{
	engine_iter_free(((struct fault_iter *)base)->inner);
	free(base);
}

static const struct engine_iter_ops fault_iter_ops = {
	.seek = fault_iter_seek,
	.next = fault_iter_next,
	.seek_last = fault_iter_seek_last,
	.error = fault_iter_error,
	.free = fault_iter_free,
};

static int fault_iter_new(struct engine *e, unsigned family, struct slice start, struct slice end,
			  struct engine_iter **out)
{
	struct fault_handle *h = handle_of(e);
	struct fault_iter *it;
	int err;

	passes(e, FAULT_ITER, &err);
	if (err)
		return err;
	it = calloc(1, sizeof(*it));
	if (!it)
		return -ENOMEM;
	it->base.ops = &fault_iter_ops;
	it->fault = h->fault;
	err = engine_iter_new(h->inner, family, start, end, &it->inner);
	if (err) {
		free(it);
		return err;
	}
	*out = &it->base;
	return 0;
}

static struct engine_batch *fault_batch_new(struct engine *e)
{
	int err;

	passes(e, FAULT_BATCH, &err);
	return err ? NULL : engine_batch_new(handle_of(e)->inner);
}

static int fault_write(struct engine *e, struct engine_batch *b, unsigned flags)
{
	int err, said = 0;

	if (passes(e, FAULT_WRITE, &err))
		said = engine_write(handle_of(e)->inner, b, flags);
	return err ? err : said;
}

static int fault_sync(struct engine *e)
{
	int err, said = 0;

	if (passes(e, FAULT_SYNC, &err))
		said = engine_sync(handle_of(e)->inner);
	return err ? err : said;
}

static int fault_checkpoint(struct engine *e, const char *dir)
{
	int err, said = 0;

	if (passes(e, FAULT_CHECKPOINT, &err))
		said = engine_checkpoint(handle_of(e)->inner, dir);
	return err ? err : said;
}

static int fault_rewrite(struct engine *e, unsigned family, struct slice start, struct slice end,
			 uint64_t bytes_per_s, const atomic_bool *stop)
{
	int err, said = 0;

	if (passes(e, FAULT_REWRITE, &err))
		said = engine_rewrite(handle_of(e)->inner, family, start, end, bytes_per_s, stop);
	return err ? err : said;
}

static void fault_stats(struct engine *e, struct engine_stats *out)
{
	engine_stats_get(handle_of(e)->inner, out);
}

/* Batches are the inner engine's, and so are the operations in them. */
static const struct engine_ops fault_ops = {
	.close = fault_close,
	.reopen = fault_reopen,
	.get = fault_get,
	.pin_release = fault_pin_release,
	.iter_new = fault_iter_new,
	.batch_new = fault_batch_new,
	.write = fault_write,
	.sync = fault_sync,
	.checkpoint = fault_checkpoint,
	.rewrite = fault_rewrite,
	.stats = fault_stats,
};
