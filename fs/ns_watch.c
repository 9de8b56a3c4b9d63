#include "fs/ns_watch.h"

#include <errno.h>
#include <stdlib.h>

#include "fs/ns_row.h"
#include "fs/query.h"
#include "mvcc/watch.h"

/* Revisions, or changes of one, looked at in one call: whoever shares a thread gets his turn. */
enum { LOOK_MAX = 512 };

struct ns_watch {
	struct mvcc *db;
	struct mvcc_watch *watch;
	struct buf path;

	/* The revision at hand; entry.rev is 0 when there is none. */
	struct mvcc_entry entry;
	bool by_rows;                  /* told from its rows */
	struct mvcc_view *at, *before; /* as of it, and of the one before; opened when needed */
	uint64_t *dirs;                /* directories of which names were told, in rising order */
	size_t ndirs, dirs_cap;
	uint64_t told; /* of it, so far */
	uint64_t skip; /* of the next one */
	uint64_t dir;  /* whose path `dir_path` is, at this revision; 0: none's */
	struct buf dir_path, told_path;
};

int ns_watch_open(struct mvcc *db, const struct ns_watch_options *opt, struct ns_watch **out)
{
	struct mvcc_watch_options options = {
		.from = opt->from,
		.flags = MVCC_WATCH_KEYS,
		.notify = opt->notify,
		.arg = opt->arg,
	};
	struct ns_watch *w = calloc(1, sizeof(*w));
	int err = w ? buf_copy(&w->path, opt->path) : -ENOMEM;

	if (!err) {
		w->db = db;
		err = mvcc_watch_open(db, &options, &w->watch);
	}
	if (err)
		ns_watch_close(w);
	else
		*out = w;
	return err;
}

void ns_watch_pause(struct ns_watch *w)
{
	mvcc_view_close(w->at);
	mvcc_view_close(w->before);
	w->at = w->before = NULL;
}

void ns_watch_close(struct ns_watch *w)
{
	if (!w)
		return;
	mvcc_watch_close(w->watch);
	ns_watch_pause(w);
	free(w->dirs);
	buf_release(&w->path);
	buf_release(&w->dir_path);
	buf_release(&w->told_path);
	free(w);
}

mvcc_rev_t ns_watch_at(const struct ns_watch *w, uint64_t *given)
{
	*given = w->entry.rev ? w->told : w->skip;
	return w->entry.rev ? w->entry.rev : mvcc_watch_rev(w->watch);
}

void ns_watch_skip(struct ns_watch *w, uint64_t n)
{
	w->skip = n;
}

/* ---- told by its story ------------------------------------------------------------------------- */

/* Does a story of that kind name all that it changed? Its path is known unless it was promised before a kill. */
static bool names_all(const struct mvcc_story *story)
{
	static const char *const ops[] = { "create",      "write",     "mkdir",   "unlink",   "rename",
					   "rmdir",       "chmod",     "utimens", "symlink",  "link",
					   "truncate",    "chown",     "mknod",   "exchange", "setxattr",
					   "removexattr", "fallocate", "lease" };

	for (size_t i = 0; story->path.len && i < sizeof(ops) / sizeof(ops[0]); i++)
		if (strcmp(story->op, ops[i]) == 0)
			return true;
	return false;
}

static bool wanted(const struct ns_watch *w, const struct ns_change *c)
{
	return query_path_below(c->path, slice_buf(&w->path)) ||
	       (c->path2.len && query_path_below(c->path2, slice_buf(&w->path)));
}

/* ---- told by its rows -------------------------------------------------------------------------- */

static int view_of(struct ns_watch *w, struct mvcc_view **view, mvcc_rev_t rev)
{
	return *view ? 0 : mvcc_view_open(w->db, rev, view);
}

/* The path of a directory as of the revision; of one that it removed, as of the one before. */
static int find_dir_path(struct ns_watch *w, uint64_t dir)
{
	int err;

	if (w->dir == dir)
		return 0;
	w->dir = 0;
	err = view_of(w, &w->at, w->entry.rev);
	if (!err)
		err = ns_at_path(w->at, dir, &w->dir_path);
	if (err == -ENOENT) {
		err = view_of(w, &w->before, w->entry.rev - 1);
		if (!err)
			err = ns_at_path(w->before, dir, &w->dir_path);
		if (err == MVCC_ECOMPACTED)
			err = -ENOENT; /* it cannot be told any more what it was called */
	}
	if (!err)
		w->dir = dir;
	return err;
}

static int note_dir(struct ns_watch *w, uint64_t dir)
{
	if (w->ndirs && w->dirs[w->ndirs - 1] == dir)
		return 0;
	if (w->ndirs == w->dirs_cap) {
		size_t cap = w->dirs_cap ? 2 * w->dirs_cap : 16;
		uint64_t *dirs = reallocarray(w->dirs, cap, sizeof(*dirs));

		if (!dirs)
			return -ENOMEM;
		w->dirs = dirs;
		w->dirs_cap = cap;
	}
	w->dirs[w->ndirs++] = dir;
	return 0;
}

static int compare_inos(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Did the revision change names in that directory? Then that it is another now says nothing new. */
static bool dir_was_told(const struct ns_watch *w, uint64_t ino)
{
	return w->ndirs && bsearch(&ino, w->dirs, w->ndirs, sizeof(ino), compare_inos);
}

/* A name in a directory: 1 with kind and path set. */
static int tell_name(struct ns_watch *w, const struct row_key *key, const struct mvcc_event *event,
		     struct ns_change *out)
{
	int err = note_dir(w, key->ino);

	if (!err)
		err = find_dir_path(w, key->ino);
	if (!err)
		err = buf_copy(&w->told_path, slice_buf(&w->dir_path));
	if (!err && w->told_path.len > 1)
		err = buf_put_u8(&w->told_path, '/');
	if (!err)
		err = buf_put_slice(&w->told_path, key->tail);
	out->kind = event->deleted ? "D" : event->item->create_rev == w->entry.rev ? "A" : "M";
	return err == -ENOENT ? 0 : err ? err : 1;
}

/* Was the first name of the inode put by this revision, so that it was told? */
static int name_was_told(struct ns_watch *w, uint64_t ino, bool *told)
{
	struct mvcc_item item = { 0 };
	struct row_inode row;
	struct buf key = { 0 };
	int err = row_inode_key(&key, ino);

	if (!err)
		err = mvcc_get(w->at, slice_buf(&key), &item);
	if (!err)
		err = row_inode_decode(item.value, &row);
	if (!err)
		err = row_dirent_key(&key, row.parent, row.name);
	mvcc_item_release(&item);
	*told = false;
	if (!err && ino != NS_ROOT) {
		err = mvcc_get(w->at, slice_buf(&key), &item);
		*told = !err && item.mod_rev == w->entry.rev;
		mvcc_item_release(&item);
	}
	buf_release(&key);
	return err;
}

/* An inode that was there before: modified, if its name does not tell it already. */
static int tell_inode(struct ns_watch *w, uint64_t ino, const struct mvcc_event *event, struct ns_change *out)
{
	bool told;
	int err;

	if (event->deleted || event->item->create_rev == w->entry.rev || dir_was_told(w, ino))
		return 0;
	err = view_of(w, &w->at, w->entry.rev);
	if (!err)
		err = name_was_told(w, ino, &told);
	if (err || told)
		return err == -ENOENT ? 0 : err;
	err = ns_at_path(w->at, ino, &w->told_path);
	out->kind = "M";
	return err ? err : 1;
}

static int tell_event(struct ns_watch *w, const struct mvcc_event *event, struct ns_change *out)
{
	struct row_key key;
	int got = row_key_decode(event->key, &key);

	if (got)
		return got == MVCC_ECORRUPT ? 0 : got; /* no row of ours */
	got = key.kind == ROW_DIRENT ? tell_name(w, &key, event, out) :
	      key.kind == ROW_INODE  ? tell_inode(w, key.ino, event, out) :
				       0;
	out->path = slice_buf(&w->told_path);
	return got;
}

/* ---- one after the other ----------------------------------------------------------------------- */

/* The next revision: 1, 0, or a code. */
static int begin_revision(struct ns_watch *w)
{
	const struct mvcc_entry *entry;
	int got = mvcc_watch_next(w->watch, 0, &entry);

	if (got <= 0)
		return got;
	ns_watch_pause(w);
	w->entry = *entry;
	w->by_rows = !names_all(&entry->story);
	w->told = w->dir = w->ndirs = 0;
	return 1;
}

/* The next change of the revision at hand: 1, 0 when there is none left, -EAGAIN for one that nobody wants. */
static int next_of_revision(struct ns_watch *w, struct ns_change *out)
{
	struct mvcc_event event;
	int got;

	*out = (struct ns_change){ .rev = w->entry.rev,
				   .time_ns = w->entry.time_ns,
				   .story = &w->entry.story };
	if (!w->by_rows) {
		if (w->told)
			return 0;
		out->kind = w->entry.story.op;
		out->path = w->entry.story.path;
		out->path2 = w->entry.story.path2;
		got = 1;
	} else {
		got = mvcc_watch_event(w->watch, &event);
		if (got <= 0)
			return got;
		got = tell_event(w, &event, out);
	}
	if (got <= 0)
		return got ? got : -EAGAIN;
	w->told++;
	if (w->skip) {
		w->skip--;
		return -EAGAIN;
	}
	return wanted(w, out) ? 1 : -EAGAIN;
}

int ns_watch_next(struct ns_watch *w, struct ns_change *out)
{
	for (unsigned i = 0; i < LOOK_MAX; i++) {
		int got;

		if (!w->entry.rev) {
			got = begin_revision(w);
			if (got <= 0)
				return got;
		}
		got = next_of_revision(w, out);
		if (got == 0)
			w->entry.rev = w->skip = 0; /* it is over */
		else if (got != -EAGAIN)
			return got;
	}
	return -EAGAIN;
}
