#include "fs/past.h"

#include <errno.h>

#include "fs/query.h"

int past_resolve(struct mvcc *db, struct slice expr, mvcc_rev_t *rev, bool *moving)
{
	int err = query_rev(db, expr, rev);

	*moving = expr.len && expr.data[0] == 'h'; /* counted from head */
	return err == -EINVAL || err == MVCC_EFUTURE ? -ENOENT : err;
}

static int directory_at(struct mvcc *db, mvcc_rev_t rev, struct slice path)
{
	struct mvcc_view *view;
	struct ns_attr attr;
	uint64_t ino;
	int err = mvcc_view_open(db, rev, &view);

	if (err)
		return err;
	err = ns_at_walk(view, path, &ino);
	if (!err)
		err = ns_at_getattr(view, ino, &attr);
	if (!err && !S_ISDIR(attr.mode))
		err = -ENOTDIR;
	mvcc_view_close(view);
	return err;
}

int past_list(struct mvcc *db, struct slice path, mvcc_rev_t *out, unsigned *n)
{
	mvcc_rev_t rev = mvcc_current(db), floor = mvcc_floor(db);
	unsigned looked = 0;

	*n = 0;
	for (; rev >= floor && looked < PAST_LISTED; rev--, looked++) {
		int err = directory_at(db, rev, path);

		if (!err)
			out[(*n)++] = rev;
		else if (err != -ENOENT && err != -ENOTDIR && err != MVCC_ECOMPACTED)
			return err;
	}
	return 0;
}

/* The permission bits that apply to `who`: 4 read, 2 write, 1 search. */
static unsigned bits_for(const struct ns_attr *attr, const struct past_who *who)
{
	if (who->uid == attr->uid)
		return attr->mode >> 6 & 7;
	if (who->gid == attr->gid)
		return attr->mode >> 3 & 7;
	for (unsigned i = 0; i < who->ngroups; i++)
		if (who->groups[i] == attr->gid)
			return attr->mode >> 3 & 7;
	return attr->mode & 7;
}

/* Search permission on every directory from the root down to `dir`. */
static int may_search(struct ns *ns, uint64_t dir, const struct past_who *who)
{
	struct ns_attr attr;
	int err;

	for (;;) {
		err = ns_getattr(ns, dir, &attr);
		if (err)
			return err;
		if (!(bits_for(&attr, who) & 1))
			return -EACCES;
		if (dir == NS_ROOT)
			return 0;
		dir = attr.parent;
	}
}

/* The nearest ancestor of `ino`, as the view has them, that is still alive. */
static int surviving_parent(struct ns *ns, struct mvcc_view *view, uint64_t ino, struct ns_attr *live)
{
	struct ns_attr then;
	int err;

	do {
		err = ns_at_getattr(view, ino, &then);
		if (err)
			return err;
		ino = then.parent;
		err = ns_getattr(ns, ino, live);
	} while (err == -ENOENT && ino != NS_ROOT);
	return err;
}

int past_may_read(struct ns *ns, struct mvcc_view *view, uint64_t ino, const struct past_who *who)
{
	struct ns_attr attr;
	unsigned need = 4;
	int err;

	if (who->uid == 0)
		return 0;
	err = ns_getattr(ns, ino, &attr);
	if (err == -ENOENT) {
		err = surviving_parent(ns, view, ino, &attr);
		need = 4 | 1;
	}
	if (err)
		return err;
	if ((bits_for(&attr, who) & need) != need)
		return -EACCES;
	return attr.ino == NS_ROOT ? 0 : may_search(ns, attr.parent, who);
}
