/*
 * Requests that may have to wait are parked, never the thread they came on. A change that finds the ring full is put
 * aside whole (struct call) and run by a thread of its own when there is room; fsync is answered from the store's sync
 * thread.
 */
#include "fs/fuse_int.h"

#include <errno.h>
#include <string.h>

static void *copy_bytes(const void *data, size_t len)
{
	void *copy = data ? malloc(len ? len : 1) : NULL;

	if (copy && len)
		memcpy(copy, data, len);
	return copy;
}

void call_free(struct call *c)
{
	free((void *)(uintptr_t)c->name);
	free((void *)(uintptr_t)c->name2);
	free((void *)(uintptr_t)c->data);
	free(c);
}

struct call *call_copy(const struct call *c)
{
	struct call *copy = malloc(sizeof(*copy));

	if (!copy)
		return NULL;
	*copy = *c;
	copy->next = NULL;
	copy->name = copy_bytes(c->name, c->name ? strlen(c->name) + 1 : 0);
	copy->name2 = copy_bytes(c->name2, c->name2 ? strlen(c->name2) + 1 : 0);
	copy->data = copy_bytes(c->data, c->len);
	if ((c->name && !copy->name) || (c->name2 && !copy->name2) || (c->data && !copy->data)) {
		call_free(copy);
		return NULL;
	}
	return copy;
}

/* The store has given a completion it owed. Caller holds park_lock. */
static void wait_over_locked(struct mount *m)
{
	if (--m->nwaits == 0)
		pthread_cond_broadcast(&m->waits_over);
}

/* Called by the store, from one of its threads: only wakes the one that runs what is parked. */
static void room_again(void *arg)
{
	struct mount *m = arg;

	pthread_mutex_lock(&m->park_lock);
	m->room_asked = false;
	pthread_cond_signal(&m->park_wake);
	wait_over_locked(m);
	pthread_mutex_unlock(&m->park_lock);
}

void *parker_main(void *arg)
{
	struct mount *m = arg;

	pthread_mutex_lock(&m->park_lock);
	while (!m->stop || m->parked) {
		struct call *c = m->parked;

		if (!c) {
			pthread_cond_wait(&m->park_wake, &m->park_lock);
			continue;
		}
		if (!m->stop && !mvcc_has_room(m->db)) {
			if (!m->room_asked) {
				m->room_asked = true;
				m->nwaits++;
				pthread_mutex_unlock(&m->park_lock);
				if (mvcc_on_room(m->db, room_again, m))
					room_again(m);
				pthread_mutex_lock(&m->park_lock);
			} else {
				pthread_cond_wait(&m->park_wake, &m->park_lock);
			}
			continue;
		}
		m->parked = c->next;
		if (!m->parked)
			m->parked_end = &m->parked;
		pthread_mutex_unlock(&m->park_lock);
		c->run(c);
		call_free(c);
		pthread_mutex_lock(&m->park_lock);
	}
	pthread_mutex_unlock(&m->park_lock);
	return NULL;
}

void dispatch(struct call *c)
{
	struct mount *m = mount_of(c->req);
	struct call *copy;

	if (mvcc_has_room(m->db)) {
		c->run(c);
		return;
	}
	copy = call_copy(c);
	if (!copy) {
		reply_err(c->req, -ENOMEM);
		return;
	}
	pthread_mutex_lock(&m->park_lock);
	m->nparked++;
	*m->parked_end = copy;
	m->parked_end = &copy->next;
	pthread_cond_signal(&m->park_wake);
	pthread_mutex_unlock(&m->park_lock);
}

/*
 * A request that waits for the disk, answered from the store's sync thread. As on any disk it is not
 * interrupted: there are databases for which an fsync that failed, also with EINTR, is the end.
 */
struct sync_wait {
	struct mount *m;
	fuse_req_t req;
	size_t written; /* of a write; 0 for fsync */
};

static void sync_done(void *arg, int err)
{
	struct sync_wait *w = arg;
	struct mount *m = w->m;

	if (!err && w->written)
		fuse_reply_write(w->req, w->written);
	else
		reply_err(w->req, err);
	free(w);
	pthread_mutex_lock(&m->park_lock);
	wait_over_locked(m);
	pthread_mutex_unlock(&m->park_lock);
}

void reply_when_synced(fuse_req_t req, mvcc_rev_t rev, size_t written)
{
	struct mount *m = mount_of(req);
	struct sync_wait *w = malloc(sizeof(*w));
	int err;

	if (!w) {
		reply_err(req, -ENOMEM);
		return;
	}
	*w = (struct sync_wait){ .m = m, .req = req, .written = written };
	pthread_mutex_lock(&m->park_lock);
	m->nwaits++;
	pthread_mutex_unlock(&m->park_lock);
	err = mvcc_sync_async(m->db, rev, sync_done, w);
	if (err)
		sync_done(w, err);
}

void waits_end(struct mount *m)
{
	pthread_mutex_lock(&m->park_lock);
	while (m->nwaits)
		pthread_cond_wait(&m->waits_over, &m->park_lock);
	pthread_mutex_unlock(&m->park_lock);
}
