/*
 * Undo and restore: what goes back, what stays, what is refused; open files and the kernel's view of numbers; and
 * random histories, where the tree must be what it was then, and what others did since must stay.
 */
#include "fs/ns_revert.h"
#include "rocks_backend/rocks.h"

#include "mvcc/keep.h"

#include "tests/ns_history.h"
#include "tests/unit.h"

#include <errno.h>
#include <linux/fs.h>

static const struct ns_who me = { .uid = 1000, .gid = 100, .pid = 42, .comm = "test" };

/* ---- one line each ------------------------------------------------------------------------------ */

static void add_conflict(void *arg, struct slice path, const char *why)
{
	struct buf *out = arg;

	CU_ASSERT(why[0]);
	CU_ASSERT_EQUAL(buf_put_slice(out, path), 0);
	CU_ASSERT_EQUAL(buf_put_u8(out, ' '), 0);
}

/* Undoes; the paths of conflicts must be as expected: "" for none. The revision made, 0 for none. */
static mvcc_rev_t undo(struct history *h, mvcc_rev_t first, mvcc_rev_t last, const char *conflicts)
{
	struct buf told = { 0 };
	struct ns_revert how = { .story = { .op = "undo" }, .conflict = add_conflict, .conflict_arg = &told };
	struct ns_range range = { first, last };
	mvcc_rev_t before = mvcc_current(h->fx->db), rev = 0;

	CU_ASSERT_EQUAL(ns_undo(h->ns, &range, 1, &how, &rev), *conflicts ? 1 : 0);
	CU_ASSERT_EQUAL(buf_put_u8(&told, 0), 0);
	CU_ASSERT_STRING_EQUAL((char *)told.data, conflicts);
	if (!rev)
		CU_ASSERT_EQUAL(mvcc_current(h->fx->db), before);
	buf_release(&told);
	history_check(h);
	return rev;
}

static int restore_err(struct history *h, mvcc_rev_t then, const char *path, mvcc_rev_t *rev)
{
	struct ns_revert how = { .story = { .op = "restore" } };
	struct slice paths[] = { slice_str(path) };

	return ns_restore(h->ns, then, paths, 1, &how, rev);
}

static mvcc_rev_t restore(struct history *h, mvcc_rev_t then, const char *path)
{
	mvcc_rev_t rev = 0;

	CU_ASSERT_EQUAL(restore_err(h, then, path, &rev), 0);
	history_check(h);
	return rev;
}

static mvcc_rev_t now(struct history *h)
{
	return mvcc_current(h->fx->db);
}

static uint64_t mkdir_in(struct history *h, uint64_t dir, const char *name)
{
	struct ns_attr attr = { 0 };

	CU_ASSERT_EQUAL(ns_mkdir(h->ns, &me, dir, slice_str(name), 0755, &attr), 0);
	return attr.ino;
}

static struct ns_file *open_file(struct history *h, uint64_t ino, unsigned flags)
{
	struct ns_file *f = NULL;

	CU_ASSERT_EQUAL_FATAL(ns_file_open(h->ns, &me, ino, flags, (struct ns_gone){ 0 }, &f), 0);
	return f;
}

static uint64_t write_in(struct history *h, uint64_t dir, const char *name, const char *text)
{
	struct ns_file *f = NULL;
	struct ns_attr attr = { 0 };

	if (ns_create(h->ns, &me, dir, slice_str(name), 0644, &f, &attr) == -EEXIST) {
		CU_ASSERT_EQUAL(ns_lookup(h->ns, dir, slice_str(name), &attr), 0);
		f = open_file(h, attr.ino, NS_OPEN_WRITE | NS_OPEN_TRUNC);
	}
	CU_ASSERT_EQUAL(ns_file_write(f, &me, 0, text, strlen(text)), 0);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	return attr.ino;
}

static void remove_from(struct history *h, uint64_t dir, const char *name)
{
	CU_ASSERT_EQUAL(ns_unlink(h->ns, &me, dir, slice_str(name), NULL), 0);
}

static void rename_to(struct history *h, uint64_t dir, const char *name, uint64_t to, const char *new_name)
{
	CU_ASSERT_EQUAL(ns_rename(h->ns, &me, dir, slice_str(name), to, slice_str(new_name), 0, NULL), 0);
}

static void link_to(struct history *h, uint64_t ino, uint64_t dir, const char *name)
{
	struct ns_attr attr;

	CU_ASSERT_EQUAL(ns_link(h->ns, &me, ino, dir, slice_str(name), &attr), 0);
}

static void chmod_to(struct history *h, uint64_t ino, uint32_t mode)
{
	struct ns_attr set = { .mode = mode }, out;

	CU_ASSERT_EQUAL(ns_setattr(h->ns, &me, ino, &set, NS_SET_MODE, false, &out), 0);
}

static uint64_t ino_of(struct history *h, uint64_t dir, const char *name)
{
	struct ns_attr attr = { 0 };

	CU_ASSERT_EQUAL(ns_lookup(h->ns, dir, slice_str(name), &attr), 0);
	return attr.ino;
}

static void assert_text(struct history *h, uint64_t dir, const char *name, const char *text)
{
	struct ns_file *f = open_file(h, ino_of(h, dir, name), NS_OPEN_READ);
	char got[64] = "";

	CU_ASSERT_EQUAL(ns_file_read(f, 0, got, sizeof(got) - 1), (ssize_t)strlen(text));
	CU_ASSERT_STRING_EQUAL(got, text);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
}

static void assert_absent(struct history *h, uint64_t dir, const char *name)
{
	struct ns_attr attr;

	CU_ASSERT_EQUAL(ns_lookup(h->ns, dir, slice_str(name), &attr), -ENOENT);
}

/* The tree at two revisions looks the same. */
static void assert_like(struct history *h, mvcc_rev_t a, mvcc_rev_t b, const char *top, bool but,
			bool dir_times)
{
	struct picture x, y;

	picture_take(h, a, &x);
	picture_take(h, b, &y);
	assert_same_picture(&x, &y, top, but, dir_times);
	picture_free(&x);
	picture_free(&y);
}

/* ---- undo ----------------------------------------------------------------------------------------- */

static void test_undo_takes_back_one_change_and_can_be_undone(void)
{
	struct history h;
	mvcc_rev_t rev;

	history_open(&h, 1);
	write_in(&h, NS_ROOT, "f", "one");
	write_in(&h, NS_ROOT, "f", "two");
	rev = undo(&h, now(&h), now(&h), "");
	CU_ASSERT_EQUAL(rev, 4);
	assert_text(&h, NS_ROOT, "f", "one");
	assert_like(&h, rev, 2, "", false, true);
	rev = undo(&h, rev, rev, "");
	assert_text(&h, NS_ROOT, "f", "two");
	assert_like(&h, rev, 3, "", false, true);
	history_close(&h);
}

static void test_undo_leaves_what_others_changed(void)
{
	struct history h;
	mvcc_rev_t first, last;
	uint64_t f;

	history_open(&h, 1);
	f = write_in(&h, NS_ROOT, "f", "one");
	write_in(&h, NS_ROOT, "other", "one");
	first = now(&h) + 1;
	write_in(&h, NS_ROOT, "f", "two");
	write_in(&h, NS_ROOT, "new", "two");
	remove_from(&h, NS_ROOT, "other");
	last = now(&h);
	chmod_to(&h, f, 0600);
	write_in(&h, NS_ROOT, "later", "three");
	rename_to(&h, NS_ROOT, "f", NS_ROOT, "g");
	CU_ASSERT_NOT_EQUAL(undo(&h, first, last, ""), 0);
	assert_text(&h, NS_ROOT, "g", "one"); /* the inode's content, by whatever name */
	assert_text(&h, NS_ROOT, "other", "one");
	assert_text(&h, NS_ROOT, "later", "three");
	assert_absent(&h, NS_ROOT, "new");
	assert_absent(&h, NS_ROOT, "f");
	CU_ASSERT_EQUAL(undo(&h, first, last, "/other "), 0); /* what came back is not the one that went */
	history_close(&h);
}

static void test_undo_is_refused_as_a_whole_when_both_changed_the_same(void)
{
	struct history h;
	mvcc_rev_t first, last;
	uint64_t d;

	history_open(&h, 1);
	d = mkdir_in(&h, NS_ROOT, "d");
	write_in(&h, NS_ROOT, "f", "one");
	write_in(&h, NS_ROOT, "g", "one");
	write_in(&h, d, "x", "one");
	first = now(&h) + 1;
	write_in(&h, NS_ROOT, "f", "two");
	write_in(&h, NS_ROOT, "g", "two");
	write_in(&h, d, "new", "two");
	remove_from(&h, d, "x");
	last = now(&h);
	write_in(&h, NS_ROOT, "f", "three");
	CU_ASSERT_EQUAL(undo(&h, first, last, "/f "), 0);
	assert_text(&h, NS_ROOT, "g", "two");
	write_in(&h, d, "x", "three"); /* the name is taken */
	write_in(&h, d, "new", "three");
	CU_ASSERT_EQUAL(undo(&h, first, last, "/f /d/new /d/x "), 0);
	history_close(&h);
}

static void test_structure_conflicts(void)
{
	struct history h;
	mvcc_rev_t made, gone, moved, swapped;
	uint64_t d, a, b;

	history_open(&h, 1);
	d = mkdir_in(&h, NS_ROOT, "d");
	made = now(&h);
	write_in(&h, d, "f", "one");
	CU_ASSERT_EQUAL(undo(&h, made, made, "/d "), 0); /* something was put into it since */
	remove_from(&h, d, "f");
	gone = now(&h);
	CU_ASSERT_EQUAL(ns_rmdir(h.ns, &me, NS_ROOT, slice_str("d"), NULL), 0);
	CU_ASSERT_EQUAL(undo(&h, gone, gone, "/d/f "), 0); /* the directory has gone */
	write_in(&h, NS_ROOT, "m", "one");
	rename_to(&h, NS_ROOT, "m", NS_ROOT, "n");
	moved = now(&h);
	rename_to(&h, NS_ROOT, "n", NS_ROOT, "o");
	CU_ASSERT_EQUAL(undo(&h, moved, moved, "/n "), 0);         /* it would have two names */
	CU_ASSERT_EQUAL(undo(&h, moved - 1, moved - 1, "/o "), 0); /* what came has another name now */
	a = mkdir_in(&h, NS_ROOT, "a");
	b = mkdir_in(&h, a, "b");
	rename_to(&h, a, "b", NS_ROOT, "b");
	swapped = now(&h);
	rename_to(&h, NS_ROOT, "a", b, "a");
	CU_ASSERT_EQUAL(undo(&h, swapped, swapped, "/b/a/b "), 0); /* b into a, which is in b now */
	history_close(&h);
}

static void test_undo_of_a_later_removed_change_of_names(void)
{
	struct history h;
	mvcc_rev_t linked, both;
	uint64_t f;

	history_open(&h, 1);
	f = write_in(&h, NS_ROOT, "f", "one");
	link_to(&h, f, NS_ROOT, "g");
	linked = now(&h);
	remove_from(&h, NS_ROOT, "f"); /* g is the only name now: it is not taken away, too */
	CU_ASSERT_EQUAL(undo(&h, linked, linked, "/g "), 0);
	link_to(&h, f, NS_ROOT, "h");
	remove_from(&h, NS_ROOT, "g");
	both = now(&h);
	remove_from(&h, NS_ROOT, "h");
	CU_ASSERT_EQUAL(undo(&h, both, both, "/g "), 0); /* the file itself has gone */
	CU_ASSERT_NOT_EQUAL(undo(&h, both + 1, both + 1, ""), 0);
	assert_text(&h, NS_ROOT, "h", "one");
	CU_ASSERT_NOT_EQUAL(ino_of(&h, NS_ROOT, "h"), f); /* numbers are not given twice */
	history_close(&h);
}

static void test_a_removed_tree_comes_back_with_its_links_and_content(void)
{
	enum { BIG = 400000 };
	struct history h;
	mvcc_rev_t before;
	char *big = malloc(BIG + 1);
	uint64_t d, sub, f;

	CU_ASSERT_PTR_NOT_NULL_FATAL(big);
	memset(big, 'x', BIG);
	big[BIG] = 0;
	history_open(&h, 1);
	d = mkdir_in(&h, NS_ROOT, "d");
	sub = mkdir_in(&h, d, "sub");
	f = write_in(&h, sub, "big", big);
	write_in(&h, d, "small", "one");
	link_to(&h, f, d, "big too");
	CU_ASSERT_EQUAL(ns_setxattr(h.ns, &me, sub, "user.a", slice_str("1"), 0), 0);
	before = now(&h);
	remove_from(&h, sub, "big");
	remove_from(&h, d, "big too");
	remove_from(&h, d, "small");
	CU_ASSERT_EQUAL(ns_rmdir(h.ns, &me, d, slice_str("sub"), NULL), 0);
	CU_ASSERT_EQUAL(ns_rmdir(h.ns, &me, NS_ROOT, slice_str("d"), NULL), 0);
	CU_ASSERT_NOT_EQUAL(undo(&h, before + 1, now(&h), ""), 0);
	assert_like(&h, now(&h), before, "", false, true);
	CU_ASSERT_NOT_EQUAL(ino_of(&h, NS_ROOT, "d"), d);
	/* what history alone had is the live tree's now, whatever of history goes */
	CU_ASSERT_EQUAL(mvcc_compact(h.fx->db, now(&h)), 0);
	CU_ASSERT_EQUAL(mvcc_compact_wait(h.fx->db), 0);
	assert_text(&h, ino_of(&h, NS_ROOT, "d"), "small", "one");
	f = ino_of(&h, ino_of(&h, NS_ROOT, "d"), "big too");
	memset(big, 0, BIG);
	{
		struct ns_file *file = open_file(&h, f, NS_OPEN_READ);

		CU_ASSERT_EQUAL(ns_file_read(file, 0, big, BIG), BIG);
		CU_ASSERT_EQUAL(strspn(big, "x"), BIG);
		CU_ASSERT_EQUAL(ns_file_close(file), 0);
	}
	free(big);
	history_close(&h);
}

static void test_ranges_apart_are_taken_back_together(void)
{
	struct history h;
	struct ns_range ranges[2];
	struct ns_revert how = { .story = { .op = "undo" } };
	mvcc_rev_t rev = 0;

	history_open(&h, 1);
	write_in(&h, NS_ROOT, "f", "one");
	write_in(&h, NS_ROOT, "f", "two"); /* 3 */
	rename_to(&h, NS_ROOT, "f", NS_ROOT, "g");
	write_in(&h, NS_ROOT, "other", "mine"); /* 5, another's */
	rename_to(&h, NS_ROOT, "g", NS_ROOT, "f");
	write_in(&h, NS_ROOT, "f", "three");
	remove_from(&h, NS_ROOT, "f"); /* 8 */
	ranges[0] = (struct ns_range){ 6, 8 };
	ranges[1] = (struct ns_range){ 3, 4 };
	CU_ASSERT_EQUAL(ns_undo(h.ns, ranges, 2, &how, &rev), 0);
	CU_ASSERT_EQUAL(rev, 9);
	assert_text(&h, NS_ROOT, "f", "one");
	assert_text(&h, NS_ROOT, "other", "mine");
	assert_absent(&h, NS_ROOT, "g");
	ranges[1] = (struct ns_range){ 5, 6 };
	CU_ASSERT_EQUAL(ns_undo(h.ns, ranges, 2, &how, &rev), -EINVAL); /* they overlap */
	ranges[0] = (struct ns_range){ 1, 3 };
	CU_ASSERT_EQUAL(ns_undo(h.ns, ranges, 1, &how, &rev), -EINVAL);
	ranges[0] = (struct ns_range){ 9, 10 };
	CU_ASSERT_EQUAL(ns_undo(h.ns, ranges, 1, &how, &rev), MVCC_EFUTURE);
	CU_ASSERT_EQUAL(mvcc_compact(h.fx->db, 5), 0);
	ranges[0] = (struct ns_range){ 5, 6 };
	CU_ASSERT_EQUAL(ns_undo(h.ns, ranges, 1, &how, &rev), MVCC_ECOMPACTED);
	history_close(&h);
}

static int add_status(void *arg, const struct ns_diff_entry *e)
{
	struct buf *out = arg;

	return buf_put_u8(out, (uint8_t)e->status) | buf_put_slice(out, e->path) | buf_put_u8(out, ' ');
}

static void test_a_dry_run_tells_and_does_nothing(void)
{
	struct buf told = { 0 };
	struct ns_revert how = {
		.story = { .op = "undo" }, .dry_run = true, .diff = add_status, .diff_arg = &told
	};
	struct slice all[] = { slice_str("/") };
	struct ns_range range = { 3, 5 };
	struct history h;
	mvcc_rev_t rev = 99;

	history_open(&h, 1);
	write_in(&h, NS_ROOT, "f", "one");
	write_in(&h, NS_ROOT, "f", "two");
	write_in(&h, mkdir_in(&h, NS_ROOT, "d"), "new", "two");
	CU_ASSERT_EQUAL(ns_undo(h.ns, &range, 1, &how, &rev), 0);
	CU_ASSERT_EQUAL(rev, 0);
	CU_ASSERT_EQUAL(ns_restore(h.ns, 2, all, 1, &how, &rev), 0);
	CU_ASSERT_EQUAL(rev, 0);
	CU_ASSERT_EQUAL(now(&h), 5);
	CU_ASSERT_EQUAL(buf_put_u8(&told, 0), 0);
	CU_ASSERT_STRING_EQUAL((char *)told.data, "D/d D/d/new M/f D/d D/d/new M/f ");
	buf_release(&told);
	history_close(&h);
}

/* ---- open files ------------------------------------------------------------------------------------ */

static void test_open_files_see_it_or_keep_what_they_had(void)
{
	struct ns_file *stays, *goes, *dirty;
	struct history h;
	char got[16] = "";
	uint64_t f, g;

	history_open(&h, 1);
	f = write_in(&h, NS_ROOT, "f", "one");
	write_in(&h, NS_ROOT, "f", "two");
	g = write_in(&h, NS_ROOT, "g", "new");
	stays = open_file(&h, f, NS_OPEN_READ);
	goes = open_file(&h, g, NS_OPEN_WRITE);
	CU_ASSERT_NOT_EQUAL(undo(&h, 3, 4, ""), 0);
	CU_ASSERT_EQUAL(ns_file_read(stays, 0, got, 15), 3);
	CU_ASSERT_STRING_EQUAL(got, "one");
	CU_ASSERT_EQUAL(ns_file_read(goes, 0, got, 15), 3);
	CU_ASSERT_STRING_EQUAL(got, "new");
	CU_ASSERT_EQUAL(ns_file_write(goes, &me, 3, "er", 2), 0);
	CU_ASSERT_EQUAL(ns_file_close(goes), 0);
	CU_ASSERT_EQUAL(now(&h), 5);
	assert_absent(&h, NS_ROOT, "g");
	dirty = open_file(&h, f, NS_OPEN_WRITE);
	CU_ASSERT_EQUAL(ns_file_write(dirty, &me, 0, "XXX", 3), 0);
	CU_ASSERT_NOT_EQUAL(restore(&h, 3, "/f"), 0); /* what was being written is a revision first: 6 */
	CU_ASSERT_EQUAL(now(&h), 7);
	CU_ASSERT_EQUAL(ns_file_read(stays, 0, got, 15), 3);
	CU_ASSERT_STRING_EQUAL(got, "two");
	CU_ASSERT_EQUAL(ns_file_close(dirty), 0);
	CU_ASSERT_EQUAL(ns_file_close(stays), 0);
	CU_ASSERT_EQUAL(now(&h), 7);
	history_close(&h);
}

/* ---- restore --------------------------------------------------------------------------------------- */

static void test_restore_makes_a_path_what_it_was(void)
{
	struct history h;
	mvcc_rev_t then, rev;
	uint64_t d, f;

	history_open(&h, 1);
	d = mkdir_in(&h, NS_ROOT, "d");
	f = write_in(&h, d, "f", "one");
	link_to(&h, f, d, "link");
	write_in(&h, NS_ROOT, "outside", "one");
	then = now(&h);
	write_in(&h, d, "f", "two");
	remove_from(&h, d, "link");
	write_in(&h, d, "new", "two");
	write_in(&h, NS_ROOT, "outside", "two");
	rev = restore(&h, then, "d");
	CU_ASSERT_EQUAL(rev, now(&h));
	assert_like(&h, rev, then, "/d", false, true);
	assert_text(&h, NS_ROOT, "outside", "two");
	CU_ASSERT_EQUAL(ino_of(&h, d, "f"), f);
	CU_ASSERT_EQUAL(ino_of(&h, d, "link"), f);
	CU_ASSERT_EQUAL(restore(&h, then, "d"), 0); /* it is so already */
	CU_ASSERT_EQUAL(now(&h), rev);
	CU_ASSERT_EQUAL(restore_err(&h, then, "/no", &rev), -ENOENT);
	CU_ASSERT_EQUAL(restore_err(&h, then, "/d/f/below", &rev), -ENOTDIR);
	CU_ASSERT_EQUAL(restore_err(&h, now(&h) + 1, "/d", &rev), MVCC_EFUTURE);
	history_close(&h);
}

static void test_restore_of_what_went_came_or_became_something_else(void)
{
	struct ns_attr attr;
	struct history h;
	mvcc_rev_t then;
	uint64_t d;

	history_open(&h, 1);
	d = mkdir_in(&h, NS_ROOT, "d");
	write_in(&h, mkdir_in(&h, d, "deep"), "f", "one");
	write_in(&h, NS_ROOT, "type", "one");
	then = now(&h);
	remove_from(&h, ino_of(&h, d, "deep"), "f");
	CU_ASSERT_EQUAL(ns_rmdir(h.ns, &me, d, slice_str("deep"), NULL), 0);
	CU_ASSERT_EQUAL(ns_rmdir(h.ns, &me, NS_ROOT, slice_str("d"), NULL), 0);
	remove_from(&h, NS_ROOT, "type");
	write_in(&h, mkdir_in(&h, NS_ROOT, "type"), "in", "two");
	write_in(&h, NS_ROOT, "new", "two");
	CU_ASSERT_NOT_EQUAL(restore(&h, then, "d/deep/f"), 0); /* with the directories above it */
	assert_text(&h, ino_of(&h, ino_of(&h, NS_ROOT, "d"), "deep"), "f", "one");
	CU_ASSERT_NOT_EQUAL(restore(&h, then, "type"), 0);
	assert_text(&h, NS_ROOT, "type", "one");
	CU_ASSERT_NOT_EQUAL(restore(&h, then, "new"), 0);
	assert_absent(&h, NS_ROOT, "new");
	assert_like(&h, now(&h), then, "", false, false);
	CU_ASSERT_EQUAL(ns_symlink(h.ns, &me, NS_ROOT, slice_str("s"), slice_str("d"), &attr), 0);
	CU_ASSERT_EQUAL(restore_err(&h, then, "s/deep", &then), -ENOTDIR);
	history_close(&h);
}

static void test_restore_takes_nothing_from_outside(void)
{
	struct history h;
	mvcc_rev_t then;
	uint64_t in, out, f;

	history_open(&h, 1);
	in = mkdir_in(&h, NS_ROOT, "in");
	out = mkdir_in(&h, NS_ROOT, "out");
	f = write_in(&h, in, "f", "one");
	write_in(&h, mkdir_in(&h, in, "sub"), "x", "one");
	then = now(&h);
	rename_to(&h, in, "f", out, "f"); /* moved away, and changed: it stays there, as it is */
	write_in(&h, out, "f", "two");
	rename_to(&h, in, "sub", out, "sub");
	CU_ASSERT_NOT_EQUAL(restore(&h, then, "in"), 0);
	assert_like(&h, now(&h), then, "/in", false, true);
	assert_text(&h, out, "f", "two");
	assert_text(&h, ino_of(&h, out, "sub"), "x", "one");
	CU_ASSERT_EQUAL(ino_of(&h, out, "f"), f);
	CU_ASSERT_NOT_EQUAL(ino_of(&h, in, "f"), f);
	history_close(&h);
}

static void test_a_directory_moved_within_is_moved_back(void)
{
	struct history h;
	mvcc_rev_t then;
	uint64_t d, a, b, f;

	history_open(&h, 1);
	d = mkdir_in(&h, NS_ROOT, "d");
	f = write_in(&h, d, "f", "one");
	a = mkdir_in(&h, NS_ROOT, "a");
	b = mkdir_in(&h, a, "b");
	then = now(&h);
	rename_to(&h, NS_ROOT, "d", NS_ROOT, "e");
	rename_to(&h, a, "b", NS_ROOT, "b"); /* turned inside out */
	rename_to(&h, NS_ROOT, "a", b, "a");
	CU_ASSERT_NOT_EQUAL(restore(&h, then, "/"), 0);
	assert_like(&h, now(&h), then, "", false, true);
	CU_ASSERT_EQUAL(ino_of(&h, NS_ROOT, "d"), d);
	CU_ASSERT_EQUAL(ino_of(&h, d, "f"), f);
	CU_ASSERT_EQUAL(ino_of(&h, ino_of(&h, NS_ROOT, "a"), "b"), b);
	history_close(&h);
}

/* ---- random histories ------------------------------------------------------------------------------ */

/* The newest changes are taken back whole; later ones elsewhere stay; undoing twice is as nothing. */
static void random_undo(uint64_t seed)
{
	mvcc_rev_t start, first, last, before, rev;
	struct history h;

	printf(" %llu", (unsigned long long)seed);
	history_open(&h, seed);
	mkdir_in(&h, NS_ROOT, "mine");
	mkdir_in(&h, NS_ROOT, "theirs");
	history_run(&h, "/mine", 80);
	start = history_run(&h, "/theirs", 40);
	for (unsigned round = 0; round < 4; round++) {
		first = now(&h) + 1;
		last = history_run(&h, "/mine", (unsigned)random_below(&h.seed, 40));
		before = history_run(&h, "/theirs", (unsigned)random_below(&h.seed, 20));
		if (last < first)
			continue;
		rev = undo(&h, first, last, "");
		if (!rev) /* it came to nothing */
			rev = before;
		assert_like(&h, rev, first - 1, "/mine", false, true);
		assert_like(&h, rev, before, "/mine", true, false);
		if (rev == before)
			continue;
		CU_ASSERT_NOT_EQUAL(undo(&h, rev, rev, ""), 0);
		assert_like(&h, now(&h), before, "", false, true);
	}
	(void)start;
	history_close(&h);
}

/* Any range, whatever came later: it is taken back, or refused and nothing is changed; the tree is sound. */
static void random_range(uint64_t seed)
{
	struct ns_revert how = { .story = { .op = "undo" } };
	unsigned done = 0, refused = 0;
	struct history h;

	history_open(&h, seed);
	history_run(&h, "", 60);
	for (unsigned round = 0; round < 40; round++) {
		mvcc_rev_t top = history_run(&h, "", 3), rev = 0;
		struct ns_range ranges[2];
		struct picture a, b;
		int got;

		top = now(&h);
		ranges[0].last = top - random_below(&h.seed, 6);
		ranges[0].first = ranges[0].last - random_below(&h.seed, 5);
		ranges[1].last = ranges[0].first - 1 - random_below(&h.seed, 4);
		ranges[1].first = ranges[1].last - random_below(&h.seed, 5);
		picture_take(&h, top, &a);
		got = ns_undo(h.ns, ranges, 1 + random_below(&h.seed, 2), &how, &rev);
		CU_ASSERT(got == 0 || got == 1);
		history_check(&h);
		if (got || !rev) {
			CU_ASSERT_EQUAL(now(&h), top);
			refused++;
		} else {
			/* what was undone can be done again */
			CU_ASSERT_EQUAL(rev, top + 1);
			ranges[0] = (struct ns_range){ rev, rev };
			CU_ASSERT_EQUAL(ns_undo(h.ns, ranges, 1, &how, &rev), 0);
			picture_take(&h, now(&h), &b);
			assert_same_picture(&a, &b, "", false, true);
			picture_free(&b);
			done++;
		}
		picture_free(&a);
	}
	CU_ASSERT(done > 0 && refused > 0);
	history_close(&h);
}

static void random_restore(uint64_t seed)
{
	static const char *const tops[] = { "", "/", "/a", "/b", "/a/b", "/c" };
	struct history h;

	history_open(&h, seed);
	history_run(&h, "", 60);
	for (unsigned round = 0; round < 12; round++) {
		mvcc_rev_t before = history_run(&h, "", 20), rev = 0,
			   then = 1 + random_below(&h.seed, before);
		const char *top = tops[random_below(&h.seed, 6)];
		int err = restore_err(&h, then, top, &rev);

		history_check(&h);
		if (err == -ENOENT || err == -ENOTDIR) {
			CU_ASSERT(top[0] && top[1]);
			CU_ASSERT_EQUAL(now(&h), before);
			continue;
		}
		CU_ASSERT_EQUAL(err, 0);
		if (strcmp(top, "/") == 0)
			top = "";
		assert_like(&h, now(&h), then, top, false, true);
	}
	history_close(&h);
}

static void rounds(const char *what, void (*run)(uint64_t seed), unsigned n)
{
	uint64_t seed = fixture_env("REVERT_SEED", 0);

	printf("  %s", what);
	if (seed)
		run(seed);
	for (uint64_t i = 1; !seed && i <= fixture_env("REVERT_ROUNDS", n); i++)
		run(i);
	printf(" ");
}

static void test_random_undo_keeps_what_came_elsewhere(void)
{
	rounds("seeds", random_undo, 12);
}

static void test_random_ranges_are_undone_whole_or_not_at_all(void)
{
	rounds("", random_range, 12);
}

static void test_random_restore_makes_the_tree_what_it_was(void)
{
	rounds("", random_restore, 12);
}

static void test_random_changes_on_disk(void)
{
	struct rocks_options rocks = { 0 };
	struct engine_provider provider = rocks_provider(&rocks);

	fixture_use(&provider);
	random_undo(1001);
	random_range(1002);
	random_restore(1003);
	fixture_use(NULL);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_undo_takes_back_one_change_and_can_be_undone),
	UNIT_TEST(test_undo_leaves_what_others_changed),
	UNIT_TEST(test_undo_is_refused_as_a_whole_when_both_changed_the_same),
	UNIT_TEST(test_structure_conflicts),
	UNIT_TEST(test_undo_of_a_later_removed_change_of_names),
	UNIT_TEST(test_a_removed_tree_comes_back_with_its_links_and_content),
	UNIT_TEST(test_ranges_apart_are_taken_back_together),
	UNIT_TEST(test_a_dry_run_tells_and_does_nothing),
	UNIT_TEST(test_open_files_see_it_or_keep_what_they_had),
	UNIT_TEST(test_restore_makes_a_path_what_it_was),
	UNIT_TEST(test_restore_of_what_went_came_or_became_something_else),
	UNIT_TEST(test_restore_takes_nothing_from_outside),
	UNIT_TEST(test_a_directory_moved_within_is_moved_back),
	UNIT_TEST(test_random_undo_keeps_what_came_elsewhere),
	UNIT_TEST(test_random_ranges_are_undone_whole_or_not_at_all),
	UNIT_TEST(test_random_restore_makes_the_tree_what_it_was),
	UNIT_TEST(test_random_changes_on_disk),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("revert", NULL, NULL, tests), CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
