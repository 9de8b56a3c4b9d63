/*
 * Listings: READDIR and READDIRPLUS of any kind of directory.
 */
#include "fs/fuse_int.h"

#include <errno.h>
#include <string.h>

static int open_dir(fuse_req_t req, struct node *dir, struct handle *h)
{
	return kind_of(dir)->opendir ? kind_of(dir)->opendir(req, dir, h) : -ENOTDIR;
}

void op_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct handle *h = handle_new(fi);
	int err = h ? open_dir(req, node_of(req, id), h) : -ENOMEM;

	if (err) {
		if (h)
			handle_free(h);
		reply_err(req, err);
	} else if (fuse_reply_open(req, fi) == -ENOENT) {
		handle_free(h);
	}
}

void op_releasedir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	(void)id;
	handle_free(handle_of(fi));
	reply_err(req, 0);
}

static uint64_t parent_stat_ino(struct mount *m, struct node *dir)
{
	struct ns_attr attr;

	if (dir->parent)
		return stat_ino_of(dir->parent);
	if (dir->kind == NODE_TXN && dir->ino == NS_ROOT)
		return txns_stat_ino();
	if (tree_of(dir))
		return node_getattr(m, dir, &attr) ? stat_ino_of(dir) :
						     node_stat_ino(dir->kind, attr.parent, dir->rev);
	if (dir->kind == NODE_PAST_DIR)
		return stat_ino_of(dir);
	/* Virtual ones: D/@rev and the like, and those of the root, @tag and @txn. */
	return dir->ino ? dir->ino : NS_ROOT;
}

/* Line number `pos` of a listing: 1, 0 at the end, or negative. */
static int list_at(struct mount *m, struct node *dir, struct handle *h, uint64_t pos, struct listed *out)
{
	*out = (struct listed){ .type = NS_TYPE_OF(S_IFDIR) };
	if (pos < 2) {
		strcpy(out->name, pos == 0 ? "." : "..");
		out->ino = pos == 0 ? stat_ino_of(dir) : parent_stat_ino(m, dir);
		return 1;
	}
	out->entry = true;
	return kind_of(dir)->list(m, dir, h, pos - 2, out);
}

/* From the beginning again: then a listing shows what is there now. */
static int rewind_dir(fuse_req_t req, struct node *dir, struct handle *h)
{
	handle_clear(h);
	h->dir_used = false;
	return open_dir(req, dir, h);
}

static void list_dir(fuse_req_t req, fuse_ino_t id, size_t size, off_t off, struct fuse_file_info *fi,
		     bool plus)
{
	struct mount *m = mount_of(req);
	struct node *dir = node_of(req, id);
	struct handle *h = handle_of(fi);
	char *out = malloc(size);
	struct listed line;
	size_t used = 0;
	int got = out ? 1 : -ENOMEM;

	pthread_mutex_lock(&h->lock);
	if (got > 0 && off == 0 && h->dir_used)
		got = rewind_dir(req, dir, h);
	got = got == 0 ? 1 : got;
	h->dir_used = true;
	for (uint64_t pos = (uint64_t)off; got > 0; pos++) {
		struct fuse_entry_param e = { 0 };
		size_t need;

		got = list_at(m, dir, h, pos, &line);
		if (got <= 0)
			break;
		e.attr.st_ino = line.ino;
		e.attr.st_mode = (mode_t)line.type << 12;
		if (!plus) {
			need = fuse_add_direntry(req, out + used, size - used, line.name, &e.attr,
						 (off_t)(pos + 1));
		} else {
			/* Room first: an entry that is counted must be sent. */
			if (fuse_add_direntry_plus(req, NULL, 0, line.name, &e, 0) > size - used)
				break;
			if (line.entry) {
				int err = lookup(m, dir, line.name, &e);

				if (err == -ENOENT)
					continue; /* removed since */
				if (err)          /* shown, but nothing the kernel could keep */
					e = (struct fuse_entry_param){ .attr.st_ino = line.ino,
								       .attr.st_mode = (mode_t)line.type
										       << 12 };
			}
			need = fuse_add_direntry_plus(req, out + used, size - used, line.name, &e,
						      (off_t)(pos + 1));
		}
		if (need > size - used)
			break;
		used += need;
	}
	if (h->dir)
		ns_dir_pause(h->dir);
	pthread_mutex_unlock(&h->lock);
	if (got < 0 && used == 0)
		reply_err(req, got);
	else
		fuse_reply_buf(req, out, used);
	free(out);
}

void op_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t off, struct fuse_file_info *fi)
{
	list_dir(req, id, size, off, fi, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t id, size_t size, off_t off, struct fuse_file_info *fi)
{
	list_dir(req, id, size, off, fi, true);
}
