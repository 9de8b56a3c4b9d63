/* The check of a tree: silent on a good one, and each kind of damage is found and named. */
#include "fs/ns_check.h"

#include "fs/ns_row.h"
#include "mvcc/lease.h"
#include "tests/store_fixture.h"
#include "tests/unit.h"

#include <errno.h>

static const struct ns_who me = { .uid = 1000, .gid = 100, .pid = 42, .comm = "test" };

static struct fixture *fx;
static struct ns *ns;
static uint64_t dir, below, file, big, leased; /* inodes of the tree */

static uint64_t make_file(uint64_t in, const char *name, size_t len)
{
	char *content = calloc(1, len);
	struct ns_file *f = NULL;
	struct ns_attr attr = { 0 };

	CU_ASSERT_PTR_NOT_NULL_FATAL(content);
	CU_ASSERT_EQUAL_FATAL(ns_create(ns, &me, in, slice_str(name), 0644, &f, &attr), 0);
	CU_ASSERT_EQUAL(ns_file_write(f, &me, 0, content, len), 0);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
	free(content);
	return attr.ino;
}

/* A tree with something of everything. */
static void set_up(void)
{
	const struct ns_options opt = { .commit_ms = 60000 };
	struct ns_attr attr = { 0 };

	fx = fixture_new();
	fx->opt.init = ns_init;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	CU_ASSERT_EQUAL_FATAL(ns_open(fx->db, &opt, &ns), 0);
	CU_ASSERT_EQUAL(ns_mkdir(ns, &me, NS_ROOT, slice_str("dir"), 0755, &attr), 0);
	dir = attr.ino;
	CU_ASSERT_EQUAL(ns_mkdir(ns, &me, dir, slice_str("below"), 0755, &attr), 0);
	below = attr.ino;
	file = make_file(dir, "file", 10);
	big = make_file(below, "big", 300000);
	leased = make_file(below, "leased", 200000);
	CU_ASSERT_EQUAL(ns_link(ns, &me, big, dir, slice_str("link"), &attr), 0);
	CU_ASSERT_EQUAL(ns_link(ns, &me, leased, dir, slice_str("leased link"), &attr), 0);
	CU_ASSERT_EQUAL(ns_setxattr(ns, &me, big, "user.x", slice_str("v"), 0), 0);
	CU_ASSERT_EQUAL(ns_setxattr(ns, &me, leased, "user.x", slice_str("v"), 0), 0);
	CU_ASSERT_EQUAL(ns_symlink(ns, &me, dir, slice_str("symlink"), slice_str("file"), &attr), 0);
	CU_ASSERT_EQUAL(ns_mknod(ns, &me, dir, slice_str("fifo"), S_IFIFO | 0644, 0, &attr), 0);
	CU_ASSERT_EQUAL(ns_set_ttl(ns, &me, leased, 3600), 0);
	attr.size = 5000000;
	CU_ASSERT_EQUAL(ns_setattr(ns, &me, make_file(dir, "sparse", 5000), &attr, NS_SET_SIZE, false, &attr),
			0);
}

static void tear_down(void)
{
	CU_ASSERT_EQUAL(ns_close(ns), 0);
	fixture_close(fx);
}

/* ---- looking --------------------------------------------------------------------------------------- */

struct found {
	char text[2048];
	uint64_t rows;
	int stop;
};

static int note_problem(void *arg, const struct ns_problem *p)
{
	struct found *f = arg;
	size_t len = strlen(f->text);

	snprintf(f->text + len, sizeof(f->text) - len, "%s; ", p->what);
	return f->stop;
}

static void note_rows(void *arg, uint64_t rows)
{
	struct found *f = arg;

	f->rows = rows;
}

static uint64_t check(struct found *f)
{
	const struct ns_check_options opt = { note_problem, note_rows, f };
	struct mvcc_view *view;
	uint64_t problems = 0;

	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, MVCC_REV_LATEST, &view), 0);
	CU_ASSERT_EQUAL(ns_check(fx->db, view, &opt, &problems), f->stop && problems ? f->stop : 0);
	mvcc_view_close(view);
	return problems;
}

/* The tree has a problem that says so; then the damage is undone. */
static void assert_found(const char *what)
{
	struct found f = { .text = "" };

	CU_ASSERT(check(&f) > 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(f.text, what));
	if (!strstr(f.text, what))
		printf("\n    wanted \"%s\", found \"%s\"\n", what, f.text);
}

/* ---- damage ---------------------------------------------------------------------------------------- */

static void put_row(const struct buf *key, struct slice value)
{
	struct mvcc_txn *txn = begin(fx->db);

	CU_ASSERT_EQUAL(mvcc_txn_put(txn, slice_buf(key), value, NULL, 0), 0);
	commit(txn);
}

static void del_row(const struct buf *key)
{
	struct mvcc_txn *txn = begin(fx->db);

	CU_ASSERT_EQUAL(mvcc_txn_del(txn, slice_buf(key)), 0);
	commit(txn);
}

/* Damages an inode's row by `fn`, and puts it back afterwards, when what was found is `what`. */
static void spoil_inode(uint64_t ino, void (*fn)(struct row_inode *row), const char *what)
{
	struct buf key = { 0 }, value = { 0 };
	struct mvcc_item item = { 0 };
	struct mvcc_put put = { .lease = 0 };
	struct mvcc_view *view;
	struct row_inode row;
	struct mvcc_txn *txn = begin(fx->db);

	CU_ASSERT_EQUAL(row_inode_key(&key, ino), 0);
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, MVCC_REV_LATEST, &view), 0);
	CU_ASSERT_EQUAL_FATAL(mvcc_get(view, slice_buf(&key), &item), 0);
	CU_ASSERT_EQUAL_FATAL(row_inode_decode(item.value, &row), 0);
	fn(&row);
	CU_ASSERT_EQUAL(row_inode_encode(&value, &row), 0);
	put = (struct mvcc_put){ .key = slice_buf(&key), .value = slice_buf(&value), .lease = item.lease };
	CU_ASSERT_EQUAL(mvcc_txn_put_with(txn, &put), 0);
	commit(txn);
	assert_found(what);
	txn = begin(fx->db);
	put.value = item.value;
	CU_ASSERT_EQUAL(mvcc_txn_put_with(txn, &put), 0);
	commit(txn);
	mvcc_view_close(view);
	mvcc_item_release(&item);
	buf_release(&key);
	buf_release(&value);
}

static void more_links(struct row_inode *row)
{
	row->nlink++;
}

static void less_stored(struct row_inode *row)
{
	row->alloc--;
}

static void cut_off(struct row_inode *row)
{
	row->size = 200000;
}

static void other_name(struct row_inode *row)
{
	row->name = slice_str("other");
}

static void other_type(struct row_inode *row)
{
	row->mode = S_IFIFO | 0644;
}

static void into_itself(struct row_inode *row)
{
	row->parent = below;
}

static void test_a_good_tree_has_no_problem(void)
{
	struct found f = { .text = "" };

	CU_ASSERT_EQUAL(check(&f), 0);
	CU_ASSERT_STRING_EQUAL(f.text, "");
	CU_ASSERT(f.rows > 25);
}

static void test_damaged_inodes_are_found(void)
{
	struct found f = { .text = "" };

	spoil_inode(big, more_links, "a file does not count its links right");
	spoil_inode(dir, more_links, "a directory does not count its directories right");
	spoil_inode(big, less_stored, "the bytes of a file's extents are not those it counts");
	spoil_inode(big, cut_off, "an extent reaches beyond the end of its file");
	spoil_inode(file, other_name, "an inode's first link is no entry");
	spoil_inode(file, other_name, "an entry is none of its inode's links");
	spoil_inode(file, other_type, "an entry and its inode differ in type");
	spoil_inode(file, other_type, "an inode without content has a size");
	spoil_inode(NS_ROOT, other_type, "the root is no directory");
	spoil_inode(NS_ROOT, other_type, "an entry lies in what is no directory");
	spoil_inode(dir, into_itself, "an inode's first link is no entry");
	CU_ASSERT_EQUAL(check(&f), 0);
}

/* Two directories that lie in each other. */
static void test_a_ring_of_directories_is_found(void)
{
	struct buf key = { 0 }, value = { 0 };

	CU_ASSERT_EQUAL(row_dirent_key(&key, below, slice_str("dir")), 0);
	CU_ASSERT_EQUAL(row_dirent_encode(&value, dir, NS_TYPE_OF(S_IFDIR)), 0);
	put_row(&key, slice_buf(&value));
	spoil_inode(dir, into_itself, "a directory does not lie below the root");
	buf_release(&key);
	buf_release(&value);
}

static void test_rows_that_lack_their_inode_are_found(void)
{
	struct buf key = { 0 };

	CU_ASSERT_EQUAL(row_inode_key(&key, big), 0);
	del_row(&key);
	assert_found("an entry leads to an inode that is not there");
	assert_found("an extent belongs to an inode that is not there");
	assert_found("a link belongs to an inode that is not there");
	assert_found("an xattr belongs to an inode that is not there");
	CU_ASSERT_EQUAL(row_inode_key(&key, NS_ROOT), 0);
	del_row(&key);
	assert_found("there is no root");
	buf_release(&key);
}

static void test_entries_that_are_wrong_are_found(void)
{
	struct buf key = { 0 }, value = { 0 };

	CU_ASSERT_EQUAL(row_dirent_encode(&value, file, NS_TYPE_OF(S_IFREG)), 0);
	CU_ASSERT_EQUAL(row_dirent_key(&key, dir, slice_str("a/b")), 0);
	put_row(&key, slice_buf(&value));
	assert_found("an entry has a name that no file can have");
	del_row(&key);
	CU_ASSERT_EQUAL(row_dirent_key(&key, dir, slice_str("again")), 0);
	put_row(&key, slice_buf(&value));
	assert_found("an entry is none of its inode's links");
	put_row(&key, slice_str("\xff"));
	assert_found("an entry does not decode");
	del_row(&key);
	CU_ASSERT_EQUAL(row_dirent_key(&key, file, slice_str("in a file")), 0);
	put_row(&key, slice_buf(&value));
	assert_found("an entry lies in what is no directory");
	del_row(&key);
	CU_ASSERT_EQUAL(row_dirent_key(&key, dir, slice_str("link")), 0);
	del_row(&key);
	assert_found("a link is no entry");
	buf_release(&key);
	buf_release(&value);
}

static void test_links_that_are_wrong_are_found(void)
{
	struct buf key = { 0 };

	CU_ASSERT_EQUAL(row_link_key(&key, file, dir, slice_str("file")), 0);
	put_row(&key, slice_of(NULL, 0));
	assert_found("an inode's first link is told twice");
	del_row(&key);
	CU_ASSERT_EQUAL(row_link_key(&key, big, dir, slice_str("link")), 0);
	del_row(&key);
	assert_found("a file does not count its links right");
	assert_found("an entry is none of its inode's links");
	buf_release(&key);
}

static void put_extent(uint64_t start, uint64_t off, uint64_t len)
{
	struct mvcc_txn *txn = begin(fx->db);
	struct row_extent ext = { .off = off, .len = len };
	struct buf key = { 0 }, value = { 0 };

	CU_ASSERT_EQUAL(mvcc_txn_stage_blob(txn, slice_str("some bytes"), &ext.blob), 0);
	CU_ASSERT_EQUAL(row_extent_key(&key, big, start), 0);
	CU_ASSERT_EQUAL(row_extent_encode(&value, &ext), 0);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, slice_buf(&key), slice_buf(&value), &ext.blob, 1), 0);
	commit(txn);
	buf_release(&key);
	buf_release(&value);
}

static void test_extents_that_are_wrong_are_found(void)
{
	put_extent(100, 0, 10);
	assert_found("extents overlap");
	assert_found("the bytes of a file's extents are not those it counts");
	put_extent(100, 5, 10);
	assert_found("an extent is longer than what it is stored in");
	put_extent(299995, 0, 10);
	assert_found("an extent reaches beyond the end of its file");
}

static void test_rows_without_the_lease_of_their_file_are_found(void)
{
	struct buf key = { 0 }, value = { 0 };

	CU_ASSERT_EQUAL(row_xattr_key(&key, leased, slice_str("user.x")), 0);
	put_row(&key, slice_str("v"));
	assert_found("an xattr and its inode differ in their lease");
	CU_ASSERT_EQUAL(row_link_key(&key, leased, dir, slice_str("leased link")), 0);
	put_row(&key, slice_of(NULL, 0));
	assert_found("a link and its inode differ in their lease");
	CU_ASSERT_EQUAL(row_dirent_key(&key, below, slice_str("leased")), 0);
	CU_ASSERT_EQUAL(row_dirent_encode(&value, leased, NS_TYPE_OF(S_IFREG)), 0);
	put_row(&key, slice_buf(&value));
	assert_found("an entry and its inode differ in their lease");
	buf_release(&key);
	buf_release(&value);
}

static void test_keys_of_no_filesystem_are_found(void)
{
	struct found f = { .stop = 7 };

	put(fx->db, "key", "value");
	assert_found("a key is none of a filesystem's");
	put(fx->db, "kez", "value");
	CU_ASSERT_EQUAL(check(&f), 1); /* stopped at the first */
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_a_good_tree_has_no_problem),
	UNIT_TEST(test_damaged_inodes_are_found),
	UNIT_TEST(test_a_ring_of_directories_is_found),
	UNIT_TEST(test_rows_that_lack_their_inode_are_found),
	UNIT_TEST(test_entries_that_are_wrong_are_found),
	UNIT_TEST(test_links_that_are_wrong_are_found),
	UNIT_TEST(test_extents_that_are_wrong_are_found),
	UNIT_TEST(test_rows_without_the_lease_of_their_file_are_found),
	UNIT_TEST(test_keys_of_no_filesystem_are_found),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("ns_check", set_up, tear_down, tests), CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
