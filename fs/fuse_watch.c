/*
 * D/@watch: whoever reads it is told what changes under D, from the open on; a read that finds nothing waits. It waits as
 * a parked request, never as a thread: one thread of the mount, the teller, looks for those whose watch may have
 * something, makes their lines and answers. It looks only for who has asked, by reading or polling, so a reader that is
 * slow or asleep costs nothing.
 *
 * An open file is a stream of bytes, which begins at offset 0 with the open. The last ones given are kept for who seeks
 * back: shells and head(1) read ahead, then return to the end of the line they wanted. Whoever seeks to the end, as
 * `tail -f` does to begin with, is told once that this is the end; from then on it looks at size and time to see that
 * there is more.
 */
#include "fs/fuse_int.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>

#include "fs/watch_line.h"

enum {
	MAKE_BYTES = 64 << 10, /* lines made at a time, about */
	KEEP_BYTES = 64 << 10, /* of what was read already */
	MORE_BYTES = 64 << 10, /* that a reader may expect, as nobody knows how many there will be */
	GROUPS_MAX = 256,
};

/* A request that waits for the teller. */
struct asking {
	struct asking *next;
	fuse_req_t req;
	bool poll;
	bool interrupted; /* lock of struct teller */
	bool nonblock;
	size_t size;
	uint64_t off;
};

struct watcher {
	struct teller *all;
	struct watcher *next, **prev; /* of all that are open */
	struct watcher *queue_next;   /* all->lock, as down to `handle` */
	bool queued, closed;
	struct asking *asking;
	struct fuse_pollhandle *handle; /* of one who polls and wants to be told */

	struct past_who who; /* who opened it; `sees_all`: may know everything */
	uint32_t groups[GROUPS_MAX];
	bool sees_all;
	_Atomic bool end_owed; /* somebody seeked to the end */
	_Atomic uint64_t end;  /* of the stream, so far */

	/* The teller's alone. */
	struct ns_watch *watch;
	struct buf text; /* the stream from `start` on */
	uint64_t start, read_to;
	int err; /* after the text: there is no more */
};

struct teller {
	struct mount *m;
	pthread_t thread;
	pthread_mutex_t lock; /* taken after any lock of libfuse's requests */
	pthread_cond_t wake, idle;
	struct watcher *watchers;
	struct watcher *queue, **queue_end;
	struct watcher *busy; /* the one the teller works for */
	bool stop;

	/* What stat shows. */
	_Atomic uint64_t longest; /* stream */
	mvcc_rev_t seen_rev;      /* lock */
	int64_t seen_ns;          /* lock; when that was seen first */
};

/* ---- who waits --------------------------------------------------------------------------------- */

static void queue_locked(struct watcher *w)
{
	struct teller *all = w->all;

	if (w->queued || w->closed)
		return;
	w->queued = true;
	w->queue_next = NULL;
	*all->queue_end = w;
	all->queue_end = &w->queue_next;
	pthread_cond_signal(&all->wake);
}

static void unqueue_locked(struct watcher *w)
{
	struct teller *all = w->all;

	for (struct watcher **p = &all->queue; w->queued && *p; p = &(*p)->queue_next)
		if (*p == w) {
			*p = w->queue_next;
			if (!*p)
				all->queue_end = p;
			w->queued = false;
			return;
		}
}

/* The store has something new. From one of its threads. */
static void notify(void *arg)
{
	struct watcher *w = arg;

	pthread_mutex_lock(&w->all->lock);
	if (w->asking || w->handle)
		queue_locked(w);
	pthread_mutex_unlock(&w->all->lock);
}

/*
 * The kernel says that nobody waits for this request any more. libfuse holds the request's lock, so it is answered by the
 * teller; and the request may have been answered just now, so it is only looked for.
 */
static void interrupted(fuse_req_t req, void *arg)
{
	struct teller *all = arg;

	pthread_mutex_lock(&all->lock);
	for (struct watcher *w = all->watchers; w; w = w->next)
		for (struct asking *a = w->asking; a; a = a->next)
			if (a->req == req) {
				a->interrupted = true;
				queue_locked(w);
			}
	pthread_mutex_unlock(&all->lock);
}

static void ask(struct watcher *w, struct asking *a)
{
	struct teller *all = w->all;

	if (!a->poll)
		fuse_req_interrupt_func(a->req, interrupted, all);
	pthread_mutex_lock(&all->lock);
	a->interrupted =
		!a->poll && fuse_req_interrupted(a->req); /* it may have been too early for the function */
	a->next = w->asking;
	w->asking = a;
	queue_locked(w);
	pthread_mutex_unlock(&all->lock);
}

/* ---- the teller -------------------------------------------------------------------------------- */

static bool may_know(struct watcher *w, const struct ns_change *c)
{
	struct mount *m = w->all->m;

	return w->sees_all ||
	       (past_may_know(m->ns, m->db, c->rev, c->path, &w->who) == 0 &&
		(!c->path2.len || past_may_know(m->ns, m->db, c->rev, c->path2, &w->who) == 0));
}

static uint64_t end_of(const struct watcher *w)
{
	return w->start + w->text.len;
}

/* Drops what was read long ago. */
static void trim(struct watcher *w)
{
	uint64_t keep_from = w->read_to < KEEP_BYTES ? 0 : w->read_to - KEEP_BYTES;
	size_t n;

	if (keep_from <= w->start + MAKE_BYTES)
		return;
	n = (size_t)(keep_from - w->start);
	memmove(w->text.data, w->text.data + n, w->text.len - n);
	w->text.len -= n;
	w->start = keep_from;
}

/* Makes lines. `*more`: it was stopped by their number, or had only looked at many changes that are none of ours. */
static void make_lines(struct watcher *w, bool *more)
{
	size_t enough = w->text.len + MAKE_BYTES;
	struct ns_change change;
	int got = 1;

	*more = false;
	trim(w);
	while (got == 1 && w->text.len < enough) {
		got = ns_watch_next(w->watch, &change);
		if (got == 1 && may_know(w, &change))
			w->err = watch_line(&w->text, &change);
		if (w->err)
			break;
	}
	ns_watch_pause(w->watch);
	if (got == 1 || got == -EAGAIN)
		*more = true;
	else if (got < 0)
		w->err = got;
	atomic_store(&w->end, end_of(w));
	if (atomic_load(&w->all->longest) < end_of(w))
		atomic_store(&w->all->longest, end_of(w)); /* the teller alone stores it */
}

static void reply_text(struct watcher *w, struct asking *a)
{
	struct slice rest = slice_of(w->text.data + (a->off - w->start), (size_t)(end_of(w) - a->off));
	size_t n = rest.len < a->size ? rest.len : a->size;

	w->read_to = a->off + n;
	fuse_reply_buf(a->req, (const char *)rest.data, n);
}

static bool has_unread(const struct watcher *w)
{
	return w->err || w->read_to < end_of(w);
}

/* Answers if it can be answered now. `last`: nothing more is to be had at the moment. */
static bool answer(struct watcher *w, struct asking *a, bool last)
{
	if (a->poll) {
		if (!has_unread(w) && !last)
			return false;
		fuse_reply_poll(a->req, has_unread(w) ? POLLIN | POLLRDNORM : 0);
		return true;
	}
	if (a->interrupted)
		reply_err(a->req, -EINTR);
	else if (a->off < w->start || a->off > end_of(w))
		reply_err(a->req, -ESPIPE);
	else if (a->off < end_of(w) && a->size)
		reply_text(w, a);
	else if (!a->size)
		fuse_reply_buf(a->req, NULL, 0);
	else if (w->err)
		reply_err(a->req, w->err);
	else if (last && a->nonblock)
		reply_err(a->req, -EAGAIN);
	else if (last && atomic_exchange(&w->end_owed, false))
		fuse_reply_buf(a->req, NULL, 0);
	else
		return false;
	return true;
}

/* Answers whom it can; the others wait on. */
static void answer_all(struct watcher *w, bool last)
{
	struct teller *all = w->all;
	struct fuse_pollhandle *handle = NULL;
	struct asking *list, *a;

	pthread_mutex_lock(&all->lock);
	list = w->asking;
	w->asking = NULL;
	pthread_mutex_unlock(&all->lock);
	while ((a = list)) {
		list = a->next;
		if (answer(w, a, last)) {
			free(a);
			continue;
		}
		pthread_mutex_lock(&all->lock);
		if (!a->poll && fuse_req_interrupted(a->req)) {
			a->interrupted = true; /* while it was not in the list */
			queue_locked(w);
		}
		a->next = w->asking;
		w->asking = a;
		pthread_mutex_unlock(&all->lock);
	}
	pthread_mutex_lock(&all->lock);
	if (w->handle && has_unread(w)) {
		handle = w->handle;
		w->handle = NULL;
	}
	pthread_mutex_unlock(&all->lock);
	if (handle) {
		fuse_lowlevel_notify_poll(handle);
		fuse_pollhandle_destroy(handle);
	}
}

static bool wants_more(struct watcher *w)
{
	bool wants;

	pthread_mutex_lock(&w->all->lock);
	wants = w->asking || w->handle;
	pthread_mutex_unlock(&w->all->lock);
	return wants && !w->err;
}

static void serve(struct watcher *w)
{
	bool more = false;

	answer_all(w, false);
	if (!wants_more(w))
		return;
	make_lines(w, &more);
	answer_all(w, !more);
	if (!more || !wants_more(w))
		return;
	pthread_mutex_lock(&w->all->lock);
	queue_locked(w); /* after those who wait for their turn */
	pthread_mutex_unlock(&w->all->lock);
}

static void *teller_main(void *arg)
{
	struct teller *all = arg;

	pthread_mutex_lock(&all->lock);
	while (!all->stop) {
		struct watcher *w = all->queue;

		if (!w) {
			pthread_cond_wait(&all->wake, &all->lock);
			continue;
		}
		unqueue_locked(w);
		all->busy = w;
		pthread_mutex_unlock(&all->lock);
		serve(w);
		pthread_mutex_lock(&all->lock);
		all->busy = NULL;
		pthread_cond_broadcast(&all->idle);
	}
	pthread_mutex_unlock(&all->lock);
	return NULL;
}

/* ---- the file ---------------------------------------------------------------------------------- */

/* Whoever may read D may read this. Its time moves with the newest revision. */
static int watch_getattr(struct mount *m, struct node *node, struct ns_attr *attr)
{
	struct teller *all = m->teller;
	mvcc_rev_t rev = mvcc_current(m->db);
	int err = ns_getattr(m->ns, node->ino, attr);

	if (err)
		return err;
	pthread_mutex_lock(&all->lock);
	if (all->seen_rev != rev) {
		all->seen_rev = rev;
		all->seen_ns = ns_time_ns();
	}
	attr->mode = S_IFREG | (attr->mode & 0444);
	attr->nlink = 1;
	/* It never shrinks for one who has read so much; and is more, as `tail -f` reads no further than the size. */
	attr->size = atomic_load(&all->longest) + MORE_BYTES;
	attr->alloc = 0;
	attr->mtime_ns = attr->ctime_ns = all->seen_ns;
	pthread_mutex_unlock(&all->lock);
	return 0;
}

/* An attribute of the open file: the kernel asks for it when somebody seeks to the end. */
static int watch_open_getattr(struct mount *m, struct node *node, struct handle *h, struct ns_attr *attr)
{
	struct watcher *w = h->own;
	int err = watch_getattr(m, node, attr);

	attr->size = atomic_load(&w->end);
	atomic_store(&w->end_owed, true);
	return err;
}

static void watcher_free(void *own)
{
	struct watcher *w = own;
	struct teller *all = w->all;

	pthread_mutex_lock(&all->lock);
	w->closed = true;
	unqueue_locked(w);
	while (all->busy == w)
		pthread_cond_wait(&all->idle, &all->lock);
	*w->prev = w->next;
	if (w->next)
		w->next->prev = w->prev;
	pthread_mutex_unlock(&all->lock);
	ns_watch_close(w->watch); /* from here on nobody calls notify() */
	if (w->handle)
		fuse_pollhandle_destroy(w->handle);
	buf_release(&w->text);
	free(w);
}

static struct watcher *watcher_new(fuse_req_t req)
{
	struct watcher *w = calloc(1, sizeof(*w));
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct mount *m = mount_of(req);
	int n;

	if (!w)
		return NULL;
	w->all = m->teller;
	w->sees_all = ctx->uid == 0 || ctx->uid == m->owner;
	n = w->sees_all ? 0 : fuse_req_getgroups(req, GROUPS_MAX, w->groups);
	w->who = (struct past_who){
		.uid = ctx->uid,
		.gid = ctx->gid,
		.groups = w->groups,
		.ngroups = n < 0          ? 0 :
			   n > GROUPS_MAX ? GROUPS_MAX :
					    (unsigned)n,
	};
	return w;
}

/* The kernel has asked the mode that stat shows; an access control list of the directory may say less. */
static int may_open(const struct watcher *w, uint64_t dir)
{
	struct mount *m = w->all->m;
	struct mvcc_view *view;
	int err;

	if (w->sees_all)
		return 0;
	err = mvcc_view_open(m->db, MVCC_REV_LATEST, &view);
	if (err)
		return err;
	err = past_may_read(m->ns, view, dir, &w->who);
	mvcc_view_close(view);
	return err;
}

static int watch_open(fuse_req_t req, struct node *node, struct handle *h, struct fuse_file_info *fi)
{
	struct mount *m = mount_of(req);
	struct watcher *w;
	struct ns_watch_options opt = { .from = MVCC_REV_LATEST, .notify = notify };
	struct buf path = { 0 };
	int err;

	if ((fi->flags & O_ACCMODE) != O_RDONLY || fi->flags & O_TRUNC)
		return -EPERM;
	err = ns_path(m->ns, node->ino, &path);
	if (err)
		return err;
	w = watcher_new(req);
	opt.arg = w;
	opt.path = slice_buf(&path);
	err = w ? may_open(w, node->ino) : -ENOMEM;
	if (!err)
		err = ns_watch_open(m->db, &opt, &w->watch);
	buf_release(&path);
	if (err) {
		free(w);
		return err;
	}
	pthread_mutex_lock(&w->all->lock);
	w->next = w->all->watchers;
	w->prev = &w->all->watchers;
	if (w->next)
		w->next->prev = &w->next;
	w->all->watchers = w;
	pthread_mutex_unlock(&w->all->lock);
	h->own = w;
	h->free_own = watcher_free;
	fi->direct_io = 1;
	fi->noflush = 1;
	return 0;
}

static void watch_read(fuse_req_t req, struct node *node, struct handle *h, size_t size, uint64_t off)
{
	struct asking *a = malloc(sizeof(*a));

	(void)node;
	if (!a) {
		reply_err(req, -ENOMEM);
		return;
	}
	*a = (struct asking){ .req = req, .nonblock = h->nonblock, .size = size, .off = off };
	ask(h->own, a);
}

static void watch_poll(fuse_req_t req, struct handle *h, struct fuse_pollhandle *handle)
{
	struct watcher *w = h->own;
	struct asking *a = malloc(sizeof(*a));
	struct fuse_pollhandle *old = handle;

	if (a) {
		pthread_mutex_lock(&w->all->lock);
		if (handle) {
			old = w->handle;
			w->handle = handle;
		}
		pthread_mutex_unlock(&w->all->lock);
		*a = (struct asking){ .req = req, .poll = true };
	}
	if (old)
		fuse_pollhandle_destroy(old);
	if (a)
		ask(w, a);
	else
		reply_err(req, -ENOMEM);
}

const struct kind kind_watch = {
	.getattr = watch_getattr,
	.attr_moves = true,
	.open = watch_open,
	.read = watch_read,
	.open_getattr = watch_open_getattr,
	.poll = watch_poll,
	.read_only = -EPERM,
};

/* ---- poll(2) of any file ----------------------------------------------------------------------- */

void op_poll(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, struct fuse_pollhandle *handle)
{
	const struct kind *kind = kind_of(node_of(req, id));

	if (kind->poll) {
		kind->poll(req, handle_of(fi), handle);
		return;
	}
	if (handle)
		fuse_pollhandle_destroy(handle);
	fuse_reply_poll(req, POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM); /* as any file on a disk */
}

/* ---- start and stop ---------------------------------------------------------------------------- */

static void teller_free(struct mount *m)
{
	struct teller *all = m->teller;

	pthread_cond_destroy(&all->wake);
	pthread_cond_destroy(&all->idle);
	pthread_mutex_destroy(&all->lock);
	free(all);
	m->teller = NULL;
}

int teller_start(struct mount *m)
{
	struct teller *all = calloc(1, sizeof(*all));
	int err;

	if (!all)
		return -ENOMEM;
	all->m = m;
	all->seen_ns = m->started_ns;
	all->seen_rev = mvcc_current(m->db);
	all->queue_end = &all->queue;
	pthread_mutex_init(&all->lock, NULL);
	pthread_cond_init(&all->wake, NULL);
	pthread_cond_init(&all->idle, NULL);
	m->teller = all;
	err = -pthread_create(&all->thread, NULL, teller_main, all);
	if (err)
		teller_free(m);
	return err;
}

void teller_stop(struct mount *m)
{
	struct teller *all = m->teller;

	if (!all)
		return;
	pthread_mutex_lock(&all->lock);
	all->stop = true;
	pthread_cond_signal(&all->wake);
	pthread_mutex_unlock(&all->lock);
	pthread_join(all->thread, NULL);
	/* A session that ended while files were open: nobody releases them any more. */
	for (struct watcher *w = all->watchers, *next; w; w = next) {
		next = w->next;
		while (w->asking) {
			struct asking *a = w->asking;

			w->asking = a->next;
			reply_err(a->req, -ENODEV);
			free(a);
		}
		watcher_free(w);
	}
	teller_free(m);
}
