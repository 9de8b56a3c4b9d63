#include "fs/ns_txn.h"

#include "fs/ns_bound.h"
#include "fs/ns_row.h"
#include "fs/ns_side.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct ns_txn {
	struct ns_txns *txns;
	struct ns_txn *next; /* txns->lock; by name */
	unsigned refs;       /* txns->lock; one of them is the table's, while it is open */
	char *name;
	size_t name_len;
	uint64_t id;
	mvcc_rev_t base;
	int64_t begun_ns;
	uint32_t uid, gid, pid;
	char comm[32];

	pthread_mutex_t
		lock; /* guards what follows, and all of the tree; taken before the live tree's locks */
	struct ns *ns;
	bool ended;
	struct buf message, conflicts;
};

struct ns_txns {
	struct ns *live;
	pthread_mutex_t lock; /* taken last */
	struct ns_txn *first;
	size_t n;
	uint64_t last_id;
};

/* ---- the table --------------------------------------------------------------------------------- */

int ns_txns_new(struct ns *live, struct ns_txns **out)
{
	struct ns_txns *txns = calloc(1, sizeof(*txns));

	if (!txns)
		return -ENOMEM;
	txns->live = live;
	pthread_mutex_init(&txns->lock, NULL);
	*out = txns;
	return 0;
}

static struct slice name_of(const struct ns_txn *t)
{
	return slice_of(t->name, t->name_len);
}

/* The place of that name in the table, or where it would be. */
static struct ns_txn **place_locked(struct ns_txns *txns, struct slice name)
{
	struct ns_txn **at = &txns->first;

	while (*at && slice_cmp(name_of(*at), name) < 0)
		at = &(*at)->next;
	return at;
}

static struct ns_txn *find_locked(struct ns_txns *txns, struct slice name)
{
	struct ns_txn *t = *place_locked(txns, name);

	return t && slice_eq(name_of(t), name) ? t : NULL;
}

static void txn_free(struct ns_txn *t)
{
	if (t->ns)
		mvcc_txn_abort(ns_bound_end(t->ns));
	ns_bound_free(t->ns);
	buf_release(&t->message);
	buf_release(&t->conflicts);
	pthread_mutex_destroy(&t->lock);
	free(t->name);
	free(t);
}

void ns_txn_ref(struct ns_txn *t)
{
	pthread_mutex_lock(&t->txns->lock);
	t->refs++;
	pthread_mutex_unlock(&t->txns->lock);
}

void ns_txn_unref(struct ns_txn *t)
{
	struct ns_txns *txns;
	bool last;

	if (!t)
		return;
	txns = t->txns;
	pthread_mutex_lock(&txns->lock);
	last = --t->refs == 0;
	pthread_mutex_unlock(&txns->lock);
	if (last)
		txn_free(t);
}

/* The table's hold goes, and the name is free. */
static void leave_table(struct ns_txn *t)
{
	pthread_mutex_lock(&t->txns->lock);
	*place_locked(t->txns, name_of(t)) = t->next;
	t->txns->n--;
	pthread_mutex_unlock(&t->txns->lock);
	ns_txn_unref(t);
}

void ns_txns_free(struct ns_txns *txns)
{
	if (!txns)
		return;
	while (txns->first) {
		struct ns_txn *t = txns->first;

		txns->first = t->next;
		mvcc_txn_abort(ns_bound_end(t->ns));
		t->ended = true;
		ns_txn_unref(t); /* the last hold, unless files were open when the mount was forced to end */
	}
	pthread_mutex_destroy(&txns->lock);
	free(txns);
}

int ns_txn_find(struct ns_txns *txns, struct slice name, struct ns_txn **out)
{
	struct ns_txn *t;

	pthread_mutex_lock(&txns->lock);
	t = find_locked(txns, name);
	if (t)
		t->refs++;
	pthread_mutex_unlock(&txns->lock);
	if (!t)
		return -ENOENT;
	*out = t;
	return 0;
}

int ns_txn_find_id(struct ns_txns *txns, uint64_t id, struct ns_txn **out)
{
	struct ns_txn *t;

	pthread_mutex_lock(&txns->lock);
	for (t = txns->first; t && t->id != id; t = t->next)
		;
	if (t)
		t->refs++;
	pthread_mutex_unlock(&txns->lock);
	if (!t)
		return -ENOENT;
	*out = t;
	return 0;
}

int ns_txns_list(struct ns_txns *txns, struct ns_txn ***out, size_t *n)
{
	struct ns_txn **list;

	pthread_mutex_lock(&txns->lock);
	list = calloc(txns->n + 1, sizeof(*list));
	*n = 0;
	for (struct ns_txn *t = txns->first; list && t; t = t->next) {
		t->refs++;
		list[(*n)++] = t;
	}
	pthread_mutex_unlock(&txns->lock);
	*out = list;
	return list ? 0 : -ENOMEM;
}

/* ---- begin ------------------------------------------------------------------------------------- */

static int name_check(struct slice name)
{
	if (name.len == 0 || name.len > NS_NAME_MAX || memchr(name.data, '/', name.len) ||
	    memchr(name.data, 0, name.len))
		return -EINVAL;
	if (slice_eq(name, slice_str(".")) || slice_eq(name, slice_str("..")))
		return -EINVAL;
	return name.data[0] == '@' ? -EPERM : 0;
}

static struct ns_txn *txn_new(struct ns_txns *txns, struct slice name, const struct ns_who *who)
{
	struct ns_txn *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->name = malloc(name.len + 1);
	if (!t->name) {
		free(t);
		return NULL;
	}
	memcpy(t->name, name.data, name.len);
	t->name_len = name.len;
	t->txns = txns;
	t->begun_ns = ns_time_ns();
	t->uid = who->uid;
	t->gid = who->gid;
	t->pid = who->pid;
	snprintf(t->comm, sizeof(t->comm), "%s", who->comm ? who->comm : "");
	pthread_mutex_init(&t->lock, NULL);
	return t;
}

static int enter_table(struct ns_txn *t, unsigned refs)
{
	struct ns_txns *txns = t->txns;
	struct ns_txn **at;
	int err = 0;

	pthread_mutex_lock(&txns->lock);
	if (find_locked(txns, name_of(t)))
		err = -EEXIST;
	else if (txns->n == NS_TXNS_MAX)
		err = -EMLINK;
	if (!err) {
		at = place_locked(txns, name_of(t));
		t->next = *at;
		*at = t;
		t->refs = refs;
		t->id = ++txns->last_id;
		txns->n++;
	}
	pthread_mutex_unlock(&txns->lock);
	return err;
}

int ns_txn_begin(struct ns_txns *txns, struct slice name, const struct ns_who *who, struct ns_txn **out)
{
	struct ns_txn *t;
	int err = name_check(name);

	if (err)
		return err;
	t = txn_new(txns, name, who);
	if (!t)
		return -ENOMEM;
	err = ns_bound_open(txns->live, &t->ns);
	if (!err) {
		t->base = mvcc_txn_rev(ns_bound_txn(t->ns));
		err = enter_table(t, out ? 2 : 1);
	}
	if (err) {
		txn_free(t);
		return err;
	}
	if (out)
		*out = t;
	return 0;
}

/* ---- while it is open -------------------------------------------------------------------------- */

int ns_txn_may(const struct ns_txn *t, uint32_t uid)
{
	return uid == 0 || uid == t->uid ? 0 : -EPERM;
}

struct ns *ns_txn_enter_ended(struct ns_txn *t)
{
	pthread_mutex_lock(&t->lock);
	return t->ns;
}

struct ns *ns_txn_enter(struct ns_txn *t)
{
	struct ns *ns = ns_txn_enter_ended(t);

	if (!t->ended)
		return ns;
	ns_txn_leave(t);
	return NULL;
}

void ns_txn_leave(struct ns_txn *t)
{
	pthread_mutex_unlock(&t->lock);
}

int ns_txn_set_message(struct ns_txn *t, struct slice text)
{
	int err;

	while (text.len && text.data[text.len - 1] == '\n')
		text.len--;
	if (text.len > NS_TXN_MESSAGE_MAX)
		return -EFBIG;
	if (text.len && memchr(text.data, 0, text.len))
		return -EINVAL;
	pthread_mutex_lock(&t->lock);
	err = buf_copy(&t->message, text);
	pthread_mutex_unlock(&t->lock);
	return err;
}

int ns_txn_message(struct ns_txn *t, struct buf *out)
{
	int err;

	pthread_mutex_lock(&t->lock);
	err = buf_copy(out, slice_buf(&t->message));
	pthread_mutex_unlock(&t->lock);
	return err;
}

int ns_txn_conflicts(struct ns_txn *t, struct buf *out)
{
	int err;

	pthread_mutex_lock(&t->lock);
	err = buf_copy(out, slice_buf(&t->conflicts));
	pthread_mutex_unlock(&t->lock);
	return err;
}

void ns_txn_info(struct ns_txn *t, struct ns_txn_info *out)
{
	*out = (struct ns_txn_info){
		.name = name_of(t),
		.id = t->id,
		.base = t->base,
		.begun_ns = t->begun_ns,
		.uid = t->uid,
		.gid = t->gid,
		.pid = t->pid,
		.comm = t->comm,
	};
	pthread_mutex_lock(&t->lock);
	out->conflicts = t->conflicts.len > 0;
	pthread_mutex_unlock(&t->lock);
}

/* ---- conflicts --------------------------------------------------------------------------------- */

/* Paths, each a line, in the order they came. */
struct conflict_list {
	struct ns_txn *t;
	struct buf *lines;
	uint64_t
		last_ino; /* whose rows are in the list already: several rows of one inode come one after the other */
	bool full;
};

/* The path of an inode: in the transaction, or where it stands now, or where it stood when that began. */
static int inode_path(struct ns_txn *t, uint64_t ino, struct buf *out)
{
	struct mvcc_view *view;
	int err = ns_path(t->ns, ino, out);

	if (err == -ENOENT)
		err = ns_path(t->txns->live, ino, out);
	if (err != -ENOENT)
		return err;
	err = mvcc_view_open(ns_db(t->txns->live), t->base, &view);
	if (!err) {
		err = ns_at_path(view, ino, out);
		mvcc_view_close(view);
	}
	return err;
}

static int put_line(struct buf *lines, struct slice path)
{
	int err = 0;

	for (size_t i = 0; !err && i < path.len; i++) {
		uint8_t c = path.data[i];
		char text[5];

		if (c == '\\')
			err = buf_put(lines, "\\\\", 2);
		else if (c == '\n')
			err = buf_put(lines, "\\n", 2);
		else if (c == '\t')
			err = buf_put(lines, "\\t", 2);
		else if (c < 0x20 || c == 0x7f) {
			snprintf(text, sizeof(text), "\\%03o", c);
			err = buf_put(lines, text, 4);
		} else
			err = buf_put_u8(lines, c);
	}
	return err ? err : buf_put_u8(lines, '\n');
}

static int note_conflict(void *arg, const struct mvcc_conflict *conflict)
{
	struct conflict_list *list = arg;
	struct buf path = { 0 };
	struct row_key k;
	char unknown[40];
	int err = row_key_decode(conflict->key, &k);

	if (err || list->full)
		return err;
	if (list->lines->len > NS_TXN_CONFLICTS_BYTES) {
		list->full = true;
		return buf_put(list->lines, "...\n", 4);
	}
	if (k.kind != ROW_DIRENT && k.ino == list->last_ino)
		return 0;
	err = inode_path(list->t, k.ino, &path);
	if (err) {
		snprintf(unknown, sizeof(unknown), "inode %llu", (unsigned long long)k.ino);
		err = buf_copy(&path, slice_str(unknown));
	}
	if (!err && k.kind == ROW_DIRENT) {
		if (path.len > 1)
			err = buf_put_u8(&path, '/');
		if (!err)
			err = buf_put_slice(&path, k.tail);
	} else {
		list->last_ino = k.ino;
	}
	if (!err)
		err = put_line(list->lines, slice_buf(&path));
	buf_release(&path);
	return err;
}

static int conflicts_learn(struct ns_txn *t)
{
	struct conflict_list list = { .t = t, .lines = &t->conflicts };

	buf_clear(&t->conflicts);
	return mvcc_txn_conflicts(ns_bound_txn(t->ns), note_conflict, &list);
}

/* ---- end --------------------------------------------------------------------------------------- */

static int story_path(const struct ns_txn *t, struct buf *out)
{
	int err = buf_copy(out, slice_str("/@txn/"));

	return err ? err : buf_put_slice(out, name_of(t));
}

static int commit_locked(struct ns_txn *t, const struct ns_who *who, mvcc_rev_t *rev)
{
	struct mvcc_story story = {
		.uid = who->uid,
		.gid = who->gid,
		.pid = who->pid,
		.comm = who->comm,
		.op = "txn",
		.session = who->session,
	};
	struct buf path = { 0 }, message = { 0 };
	int err, told;

	err = ns_bound_settle(t->ns);
	if (!err)
		err = story_path(t, &path);
	if (!err)
		err = buf_copy(&message, slice_buf(&t->message));
	if (!err)
		err = buf_put_u8(&message, 0);
	if (!err) {
		story.path = slice_buf(&path);
		story.message = t->message.len ? (const char *)message.data : who->message;
		err = ns_side_try(t->txns->live, ns_bound_txn(t->ns), &story, rev);
	}
	if (err == MVCC_ENOLEASE)
		err = MVCC_ECONFLICT; /* of a file that is about to go: soon it will be told as one that has gone */
	if (!err) {
		ns_bound_end(t->ns); /* the transaction is gone with its commit */
		t->ended = true;
	}
	if (err == MVCC_ECONFLICT) {
		told = conflicts_learn(t);
		err = told ? told : err;
	}
	buf_release(&path);
	buf_release(&message);
	return err;
}

int ns_txn_commit(struct ns_txn *t, const struct ns_who *who, mvcc_rev_t *rev)
{
	int err = -ESTALE;

	pthread_mutex_lock(&t->lock);
	if (!t->ended)
		err = commit_locked(t, who, rev);
	pthread_mutex_unlock(&t->lock);
	if (!err)
		leave_table(t);
	return err;
}

int ns_txn_abort(struct ns_txn *t)
{
	bool was_open;

	pthread_mutex_lock(&t->lock);
	was_open = !t->ended;
	if (was_open)
		mvcc_txn_abort(ns_bound_end(t->ns));
	t->ended = true;
	pthread_mutex_unlock(&t->lock);
	if (was_open)
		leave_table(t);
	return was_open ? 0 : -ESTALE;
}
