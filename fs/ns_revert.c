#include "fs/ns_revert_int.h"
#include "fs/ns_side.h"

#include <errno.h>
#include <stdlib.h>

/* ---- from inode to inode ----------------------------------------------------------------------- */

static struct ino_pair *place_of(const struct ino_map *map, uint64_t from)
{
	size_t i = (size_t)((from * 0x9e3779b97f4a7c15u) >> 20) & (map->cap - 1);

	while (map->v[i].from && map->v[i].from != from)
		i = (i + 1) & (map->cap - 1);
	return &map->v[i];
}

int ino_map_put(struct ino_map *map, uint64_t from, uint64_t to)
{
	struct ino_pair *place;

	if (2 * (map->n + 1) > map->cap) {
		size_t cap = map->cap ? 2 * map->cap : 64;
		struct ino_map grown = { calloc(cap, sizeof(*grown.v)), map->n, cap };

		if (!grown.v)
			return -ENOMEM;
		for (size_t i = 0; i < map->cap; i++)
			if (map->v[i].from)
				*place_of(&grown, map->v[i].from) = map->v[i];
		free(map->v);
		*map = grown;
	}
	place = place_of(map, from);
	map->n += !place->from;
	*place = (struct ino_pair){ from, to };
	return 0;
}

uint64_t ino_map_get(const struct ino_map *map, uint64_t from)
{
	return map->cap ? place_of(map, from)->to : 0;
}

void ino_map_release(struct ino_map *map)
{
	free(map->v);
	*map = (struct ino_map){ 0 };
}

/* ---- one change -------------------------------------------------------------------------------- */

static void revert_clear(struct revert *r)
{
	edit_end(&r->edit);
	ino_map_release(&r->map);
	while (r->nviews)
		mvcc_view_close(r->views[--r->nviews]);
	free(r->views);
	r->views = NULL;
	buf_clear(&r->conflicts);
}

int revert_view(struct revert *r, mvcc_rev_t rev, struct ns_src *out)
{
	struct mvcc_view **grown = realloc(r->views, (r->nviews + 1) * sizeof(struct mvcc_view *));
	int err = grown ? 0 : -ENOMEM;

	if (err)
		return err;
	r->views = grown;
	err = mvcc_view_open(r->ns->db, rev, &r->views[r->nviews]);
	if (!err)
		*out = (struct ns_src){ .view = r->views[r->nviews++] };
	return err;
}

int revert_conflict(struct revert *r, struct slice path, const char *why)
{
	int err = buf_put_bytes(&r->conflicts, path);

	return err ? err : buf_put_bytes(&r->conflicts, slice_of(why, strlen(why) + 1));
}

static int tell_diff(struct revert *r)
{
	struct touched_set touched;
	int err;

	if (!r->how->diff)
		return 0;
	err = edit_touched(&r->edit, &touched);
	if (!err)
		err = diff_txn(r->ns->db, r->edit.txn, &touched, r->how->diff, r->how->diff_arg);
	return err < 0 ? err : 0;
}

static int fill(void *arg, struct mvcc_txn *txn)
{
	struct revert *r = arg;
	int err;

	revert_clear(r);
	err = edit_begin(&r->edit, r->ns, txn);
	if (!err)
		err = r->body(r, r->arg);
	if (!err && r->conflicts.len)
		err = REVERT_CONFLICT;
	if (!err)
		err = edit_finish(&r->edit);
	if (!err && r->how->dry_run)
		err = tell_diff(r);
	if (!err && (r->how->dry_run || !r->edit.writes))
		err = REVERT_TOLD;
	return err;
}

static void tell_conflicts(const struct revert *r)
{
	struct slice rest = slice_buf(&r->conflicts), path, why;

	while (r->how->conflict && take_bytes(&rest, &path) && take_bytes(&rest, &why))
		r->how->conflict(r->how->conflict_arg, path, (const char *)why.data);
}

int revert_run(struct ns *ns, const struct ns_revert *how, int (*body)(struct revert *r, void *arg),
	       void *arg, mvcc_rev_t *rev)
{
	struct revert r = { .ns = ns, .how = how, .body = body, .arg = arg };
	int err = ns_side_run(ns, fill, &r, &how->story, rev);

	if (err == REVERT_CONFLICT)
		tell_conflicts(&r);
	if (err == REVERT_TOLD) {
		*rev = 0;
		err = 0;
	}
	revert_clear(&r);
	buf_release(&r.conflicts);
	return err;
}
