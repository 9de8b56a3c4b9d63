#include "mvcc/overlay.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

struct generation *generation_new(void)
{
	struct generation *gen = calloc(1, sizeof(*gen));

	if (!gen)
		return NULL;
	if (memtable_init(&gen->mt)) {
		free(gen);
		return NULL;
	}
	atomic_init(&gen->refs, 1);
	return gen;
}

void generation_unref(struct generation *gen)
{
	if (!gen || atomic_fetch_sub(&gen->refs, 1) != 1)
		return;
	memtable_release(&gen->mt);
	free(gen);
}

static struct gen_set *set_new(unsigned n)
{
	struct gen_set *set = malloc(sizeof(*set) + n * sizeof(set->gens[0]));

	if (!set)
		return NULL;
	atomic_init(&set->refs, 1);
	set->n = n;
	return set;
}

void gen_set_unref(struct gen_set *set)
{
	if (!set || atomic_fetch_sub(&set->refs, 1) != 1)
		return;
	for (unsigned i = 0; i < set->n; i++)
		generation_unref(set->gens[i]);
	free(set);
}

int overlay_init(struct overlay *o, struct generation *first)
{
	o->set = set_new(1);
	if (!o->set)
		return -ENOMEM;
	o->set->gens[0] = first;
	pthread_mutex_init(&o->lock, NULL);
	return 0;
}

void overlay_release(struct overlay *o)
{
	if (!o->set)
		return;
	gen_set_unref(o->set);
	o->set = NULL;
	pthread_mutex_destroy(&o->lock);
}

struct gen_set *overlay_ref(struct overlay *o)
{
	struct gen_set *set;

	pthread_mutex_lock(&o->lock);
	set = o->set;
	atomic_fetch_add(&set->refs, 1);
	pthread_mutex_unlock(&o->lock);
	return set;
}

static void set_fill(struct gen_set *set, unsigned at, struct generation *const *gens, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		atomic_fetch_add(&gens[i]->refs, 1);
		set->gens[at + i] = gens[i];
	}
}

int overlay_push(struct overlay *o, struct generation *const *gens, unsigned n)
{
	struct gen_set *next, *old;

	pthread_mutex_lock(&o->lock);
	old = o->set;
	next = set_new(old->n + n);
	if (next) {
		memcpy(next->gens, gens, n * sizeof(gens[0])); /* their first reference becomes the set's */
		set_fill(next, n, old->gens, old->n);
		o->set = next;
	}
	pthread_mutex_unlock(&o->lock);
	if (!next)
		return -ENOMEM;
	gen_set_unref(old);
	return 0;
}

void overlay_drop_last(struct overlay *o)
{
	struct gen_set *next = NULL, *old;

	while (!next) {
		pthread_mutex_lock(&o->lock);
		old = o->set;
		assert(old->n > 1);
		next = set_new(old->n - 1);
		if (next) {
			set_fill(next, 0, old->gens, old->n - 1);
			o->set = next;
		}
		pthread_mutex_unlock(&o->lock);
		if (!next) {
			struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };

			nanosleep(&pause, NULL);
		}
	}
	gen_set_unref(old);
}
