/*
 * What the kernel was told stays true until the kernel itself changes it. A revision made from the side (undo, a
 * transaction's commit, the end of a lease) breaks that: here the kernel is made to forget what such a revision
 * changed. The log says what that is: a dirent's row is a name of a directory, every other row belongs to an inode,
 * whose attributes and pages go.
 */
#include "fs/fuse_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/ns_row.h"
#include "fs/ns_side.h"

/* Forgets `name` in directory `dir`, also that it is absent. */
static void forget_name(struct mount *m, uint64_t dir, struct slice name)
{
	struct node *node = node_hold(&m->nodes, NODE_LIVE, dir);
	char text[NS_NAME_MAX + 1];

	if (!node)
		return;
	memcpy(text, name.data, name.len);
	text[name.len] = '\0';
	fuse_lowlevel_notify_inval_entry(m->session, id_of(m, node), text, name.len);
	node_release(&m->nodes, node);
}

static void forget_inode(struct mount *m, uint64_t ino)
{
	struct node *node = node_hold(&m->nodes, NODE_LIVE, ino);

	if (!node)
		return;
	fuse_lowlevel_notify_inval_inode(m->session, id_of(m, node), 0, 0);
	node_release(&m->nodes, node);
}

static int forget_change(struct mount *m, mvcc_rev_t rev, const struct mvcc_change *change)
{
	struct row_key key;
	int err = row_key_decode(change->key, &key);

	if (err)
		return err;
	if (key.kind == ROW_DIRENT) {
		forget_name(m, key.ino, key.tail);
		return 0;
	}
	if (key.kind != ROW_INODE)
		return 0; /* what changes another row of an inode changes its own, too */
	if (change->deleted)
		node_set_gone(&m->nodes, (struct ns_gone){ key.ino, rev });
	forget_inode(m, key.ino);
	return 0;
}

void notify_purged(struct mount *m, const uint64_t *inos, size_t n)
{
	struct node **nodes;
	size_t found;

	if (node_past(&m->nodes, inos, n, &nodes, &found))
		return; /* what the kernel has cached goes when it needs the memory */
	for (size_t i = 0; i < found; i++) {
		fuse_lowlevel_notify_inval_inode(m->session, id_of(m, nodes[i]), 0, 0);
		node_release(&m->nodes, nodes[i]);
	}
	free(nodes);
}

void notify_changed(struct mount *m, mvcc_rev_t rev)
{
	const struct mvcc_entry *entry;
	struct mvcc_change change;
	struct mvcc_log *log;
	int got = mvcc_log_open(m->db, rev, rev, &log);

	if (got)
		return; /* the store has stopped, and so has the mount */
	got = mvcc_log_next(log, &entry);
	while (got > 0) {
		got = mvcc_log_change(log, &change);
		if (got > 0 && forget_change(m, rev, &change))
			break;
	}
	mvcc_log_close(log);
}

/* ---- what must wait for a thread of its own ------------------------------------------------------ */

/* Something to forget or, with `req`, a request to answer once all before it is forgotten. */
struct notice {
	struct notice *next;
	fuse_req_t req;
	int err;
	struct ns_gone gone; /* its rev may be 0 */
	uint64_t ino, dir;
	size_t len;
	uint8_t name[NS_NAME_MAX];
};

struct notifier {
	struct mount *m;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct notice *first, **end; /* lock, as the rest */
	bool stop;
};

static void notice_add(struct notifier *n, struct notice *notice)
{
	pthread_mutex_lock(&n->lock);
	*n->end = notice;
	n->end = &notice->next;
	pthread_cond_signal(&n->wake);
	pthread_mutex_unlock(&n->lock);
}

/* A compare failed, and what was written is not there any more. Runs with locks of the tree held. */
static void on_dropped(void *arg, const struct ns_dropped *what)
{
	struct notifier *n = arg;
	struct notice *notice = calloc(1, sizeof(*notice));

	if (!notice)
		return; /* the writer is told all the same; the kernel keeps the pages until the next change */
	notice->ino = what->ino;
	notice->gone = what->gone;
	notice->dir = what->dir;
	notice->len = what->name.len;
	memcpy(notice->name, what->name.data, what->name.len);
	notice_add(n, notice);
}

void reply_after_notices(fuse_req_t req, int err)
{
	struct notice *notice = calloc(1, sizeof(*notice));

	if (!notice) {
		reply_err(req, err);
		return;
	}
	notice->req = req;
	notice->err = err;
	notice_add(mount_of(req)->notifier, notice);
}

static void notice_do(struct mount *m, const struct notice *notice)
{
	if (notice->req) {
		reply_err(notice->req, notice->err);
		return;
	}
	if (notice->gone.rev) {
		node_set_gone(&m->nodes, notice->gone);
		forget_name(m, notice->dir, slice_of(notice->name, notice->len));
	}
	forget_inode(m, notice->ino);
}

static void *notifier_main(void *arg)
{
	struct notifier *n = arg;

	pthread_mutex_lock(&n->lock);
	while (n->first || !n->stop) {
		struct notice *notice = n->first;

		if (!notice) {
			pthread_cond_wait(&n->wake, &n->lock);
			continue;
		}
		n->first = notice->next;
		if (!n->first)
			n->end = &n->first;
		pthread_mutex_unlock(&n->lock);
		notice_do(n->m, notice);
		free(notice);
		pthread_mutex_lock(&n->lock);
	}
	pthread_mutex_unlock(&n->lock);
	return NULL;
}

int notifier_start(struct mount *m)
{
	struct notifier *n = calloc(1, sizeof(*n));
	int err;

	if (!n)
		return -ENOMEM;
	n->m = m;
	n->end = &n->first;
	pthread_mutex_init(&n->lock, NULL);
	pthread_cond_init(&n->wake, NULL);
	err = -pthread_create(&n->thread, NULL, notifier_main, n);
	if (err) {
		pthread_mutex_destroy(&n->lock);
		pthread_cond_destroy(&n->wake);
		free(n);
		return err;
	}
	m->notifier = n;
	if (m->ns)
		ns_on_dropped(m->ns, on_dropped, n);
	return 0;
}

void notifier_stop(struct mount *m)
{
	struct notifier *n = m->notifier;

	if (!n)
		return;
	if (m->ns)
		ns_on_dropped(m->ns, NULL, NULL);
	pthread_mutex_lock(&n->lock);
	n->stop = true;
	pthread_cond_signal(&n->wake);
	pthread_mutex_unlock(&n->lock);
	pthread_join(n->thread, NULL);
	pthread_mutex_destroy(&n->lock);
	pthread_cond_destroy(&n->wake);
	free(n);
	m->notifier = NULL;
}

void notify_write_back(struct mount *m)
{
	uint64_t *inos;
	size_t n;

	if (ns_writers(m->ns, &inos, &n))
		return; /* what is mapped stays with the kernel, and comes later */
	for (size_t i = 0; i < n; i++)
		forget_inode(m, inos[i]);
	free(inos);
}
