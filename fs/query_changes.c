/*
 * changes: what one revision changed, in paths, for whoever carries history elsewhere. Asked for what was before, it
 * tells the names that were taken away or came to mean something else, by the paths they had; asked for what is after,
 * the files and links that are new or have changed, under each of their names, and the directories that came whole
 * from elsewhere. Removing the first and then taking the second over makes of the tree before the one after.
 */
#include "fs/query_int.h"

#include "fs/ns_row.h"

#include <errno.h>

struct changes {
	struct mvcc_view *view; /* before or after */
	mvcc_rev_t rev;
	bool after;
	struct json_object *list;
	size_t n;
};

static int add(struct changes *c, uint64_t dir, struct slice name, bool tree)
{
	struct json_object *o = json_object_new_object();
	struct buf path = { 0 };
	int err = o ? ns_at_path(c->view, dir, &path) : -ENOMEM;

	if (!err && path.len > 1)
		err = buf_put_u8(&path, '/');
	if (!err)
		err = buf_put_slice(&path, name);
	if (!err)
		err = json_add_bytes(o, "path", slice_buf(&path));
	if (!err && tree)
		err = json_add_bool(o, "tree", true);
	if (!err && json_object_array_add(c->list, o))
		err = -ENOMEM;
	buf_release(&path);
	if (err)
		json_object_put(o);
	else
		c->n++;
	return err;
}

/* A name came to mean something. A directory that is itself new has all that is in it among the changes. */
static int add_name(struct changes *c, const struct row_key *key)
{
	struct ns_attr attr;
	uint64_t ino;
	int err = ns_at_lookup(c->view, key->ino, key->tail, &ino);

	if (!err)
		err = ns_at_getattr(c->view, ino, &attr);
	if (err || (S_ISDIR(attr.mode) && attr.create_rev == c->rev))
		return err;
	return add(c, key->ino, key->tail, S_ISDIR(attr.mode));
}

/* Unless the name itself has changed, which tells it already. */
static int add_link(struct changes *c, uint64_t dir, struct slice name)
{
	struct mvcc_item item = { 0 };
	struct buf key = { 0 };
	int err = row_dirent_key(&key, dir, name);

	if (!err)
		err = mvcc_get(c->view, slice_buf(&key), &item);
	if (!err && item.mod_rev != c->rev)
		err = add(c, dir, name, false);
	mvcc_item_release(&item);
	buf_release(&key);
	return err;
}

static int add_further_links(struct changes *c, uint64_t ino)
{
	struct buf start = { 0 }, end = { 0 };
	const struct mvcc_item *item;
	struct mvcc_cursor *cursor = NULL;
	struct slice key;
	struct row_key link;
	int err = row_bounds(ROW_LINK, ino, &start, &end);

	if (!err)
		err = mvcc_cursor_open(c->view, slice_buf(&start), slice_buf(&end), &cursor);
	while (!err && (err = mvcc_cursor_next(cursor, &key, &item)) > 0) {
		err = row_key_decode(key, &link);
		if (!err)
			err = add_link(c, link.dir, link.tail);
	}
	mvcc_cursor_close(cursor);
	buf_release(&start);
	buf_release(&end);
	return err;
}

static int add_inode(struct changes *c, uint64_t ino)
{
	struct mvcc_item item = { 0 };
	struct row_inode row;
	struct buf key = { 0 };
	int err = row_inode_key(&key, ino);

	if (!err)
		err = mvcc_get(c->view, slice_buf(&key), &item);
	if (!err)
		err = row_inode_decode(item.value, &row);
	if (!err && !S_ISDIR(row.mode)) {
		err = add_link(c, row.parent, row.name);
		if (!err && row.nlink > 1)
			err = add_further_links(c, ino);
	}
	mvcc_item_release(&item);
	buf_release(&key);
	return err;
}

static int add_change(struct changes *c, const struct mvcc_change *change)
{
	struct row_key key;
	int err = row_key_decode(change->key, &key);

	if (err)
		return err;
	if (!c->after)
		return change->prev_rev ? add(c, key.ino, key.tail, false) : 0;
	if (change->deleted)
		return 0;
	return key.kind == ROW_DIRENT ? add_name(c, &key) : add_inode(c, key.ino);
}

/* The changes of one kind of row behind the key `*from`, which is moved on: 1 when the page is full, 0 at the end. */
static int add_kind(const struct query_env *env, struct changes *c, uint8_t kind, struct buf *from)
{
	const uint8_t end = (uint8_t)(kind + 1);
	const struct mvcc_entry *entry;
	struct mvcc_change change;
	struct mvcc_log *log = NULL;
	int got = 0;

	if (!from->len || from->data[0] < kind)
		got = buf_copy(from, slice_of(&kind, 1));
	if (!got)
		got = mvcc_log_open(env->db, c->rev, c->rev, &log);
	if (!got)
		got = mvcc_log_filter(log, slice_buf(from), slice_of(&end, 1));
	if (!got)
		got = mvcc_log_next(log, &entry);
	while (got > 0 && (got = mvcc_log_change(log, &change)) > 0) {
		got = buf_copy(from, change.key);
		if (!got)
			got = buf_put_u8(from, 0); /* the next key there can be */
		if (!got)
			got = add_change(c, &change);
		if (got)
			break;
		got = 1;
		if (c->n >= QUERY_LIMIT_MAX)
			break;
	}
	mvcc_log_close(log);
	return got;
}

static int add_page(const struct query_env *env, struct changes *c, struct buf *from)
{
	int got = 0;

	if (!from->len || from->data[0] == ROW_DIRENT)
		got = add_kind(env, c, ROW_DIRENT, from);
	if (!got && c->after)
		got = add_kind(env, c, ROW_INODE, from);
	return got;
}

static int reply_page(struct changes *c, bool more, const struct buf *from, struct buf *reply)
{
	struct json_object *o = json_object_new_object();
	int err = o ? json_add_bool(o, "ok", true) : -ENOMEM;

	if (!err)
		err = json_add(o, "changes", json_object_get(c->list));
	if (!err && more)
		err = json_add_bytes(o, "next", slice_buf(from));
	if (!err)
		err = json_append(reply, o);
	json_object_put(o);
	return err;
}

int answer_changes(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	struct changes c = { .after = flag_member(req, "after") };
	const char *expr = rev_member(req, "rev");
	struct buf from = { 0 };
	int got, res;

	if (!expr)
		return refuse(reply, -EINVAL, "changes wants a revision");
	got = query_rev(env->db, slice_str(expr), &c.rev);
	if (!got)
		got = mvcc_view_open(env->db, c.after ? c.rev : c.rev - 1, &c.view);
	if (got)
		return refuse_rev(env, reply, got, expr);
	got = json_get_bytes(req, "from", &from);
	if (got == -ENOENT)
		got = 0;
	c.list = json_object_new_array();
	if (!got)
		got = c.list ? add_page(env, &c, &from) : -ENOMEM;
	if (got < 0)
		res = got == -ENOMEM ? got : refuse(reply, got, "revision %s: %s", expr, mvcc_strerror(got));
	else
		res = reply_page(&c, got > 0, &from, reply);
	json_object_put(c.list);
	mvcc_view_close(c.view);
	buf_release(&from);
	return res;
}
