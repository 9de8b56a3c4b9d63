/*
 * Copies that share what is stored: contents against plain arrays, what costs nothing, what cannot be shared, and that
 * neither side is touched by what happens to the other, compaction included.
 */
#include "fs/ns.h"
#include "mvcc/keep.h"

#include "tests/store_fixture.h"
#include "tests/unit.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/falloc.h>

enum { PAGE = 4096, EXTENT = 128 << 10, LEN = 1 << 20 };

static const struct ns_who me = { .uid = 1000, .gid = 100, .pid = 42, .comm = "test" };

static struct fixture *fx;
static struct ns *ns;

static void open_tree(void)
{
	struct ns_options opt = { .commit_ms = 60000 };

	fx = fixture_new();
	fx->opt.init = ns_init;
	fx->opt.manual_upkeep = true;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	CU_ASSERT_EQUAL_FATAL(ns_open(fx->db, &opt, &ns), 0);
}

static void close_tree(void)
{
	CU_ASSERT_EQUAL(ns_close(ns), 0);
	fixture_verify(fx);
	fixture_close(fx);
}

static uint64_t staged_blobs(void)
{
	struct mvcc_stats stats;

	mvcc_stats(fx->db, &stats);
	return stats.blobs_staged;
}

static void done(struct ns_file *f)
{
	CU_ASSERT_EQUAL(ns_file_flush(f), 0);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
}

static struct ns_file *create(const char *name, uint64_t *ino)
{
	struct ns_attr attr = { 0 };
	struct ns_file *f = NULL;

	CU_ASSERT_EQUAL_FATAL(ns_create(ns, &me, NS_ROOT, slice_str(name), 0644, &f, &attr), 0);
	*ino = attr.ino;
	return f;
}

static struct ns_file *reopen(uint64_t ino, unsigned flags)
{
	struct ns_file *f = NULL;

	CU_ASSERT_EQUAL_FATAL(ns_file_open(ns, &me, ino, flags, (struct ns_gone){ 0 }, &f), 0);
	return f;
}

static uint8_t pattern(uint64_t seed, uint64_t i)
{
	return (uint8_t)((i * 2654435761U >> 13) + seed * 37 + 1);
}

/* A committed file of `len` bytes. */
static uint64_t make_file(const char *name, uint64_t seed, size_t len)
{
	uint8_t *data = malloc(len);
	uint64_t ino;
	struct ns_file *f = create(name, &ino);

	for (size_t i = 0; i < len; i++)
		data[i] = pattern(seed, i);
	CU_ASSERT_EQUAL(ns_file_write(f, &me, 0, data, len), 0);
	done(f);
	free(data);
	return ino;
}

/* Of a file: bytes of the pattern, or zeros where `seed` is 0. */
static void assert_bytes(struct ns_file *f, uint64_t off, size_t len, uint64_t seed, uint64_t from)
{
	uint8_t *got = malloc(len);
	size_t same = 0;

	CU_ASSERT_EQUAL(ns_file_read(f, off, got, len), (ssize_t)len);
	while (same < len && got[same] == (seed ? pattern(seed, from + same) : 0))
		same++;
	CU_ASSERT_EQUAL(same, len);
	free(got);
}

static void assert_file(uint64_t ino, size_t len, uint64_t seed)
{
	struct ns_attr attr = { 0 };
	struct ns_file *f = reopen(ino, NS_OPEN_READ);

	CU_ASSERT_EQUAL(ns_getattr(ns, ino, &attr), 0);
	CU_ASSERT_EQUAL(attr.size, len);
	assert_bytes(f, 0, len, seed, 0);
	done(f);
}

static int copy_live(struct ns_file *from, uint64_t off, struct ns_file *to, uint64_t to_off, uint64_t len,
		     uint64_t *copied)
{
	struct ns_copy copy = { .from = from, .off = off, .to = to, .to_off = to_off, .len = len };

	return ns_file_copy(&copy, &me, copied);
}

static int copy_past(mvcc_rev_t rev, uint64_t ino, uint64_t off, struct ns_file *to, uint64_t to_off,
		     uint64_t len, uint64_t *copied)
{
	struct ns_copy copy = { .ino = ino, .rev = rev, .off = off, .to = to, .to_off = to_off, .len = len };

	return ns_file_copy(&copy, &me, copied);
}

static void test_a_copy_stores_nothing(void)
{
	uint64_t source = make_file("source", 7, LEN + 100), target, copied = 0, before = staged_blobs();
	struct ns_file *from = reopen(source, NS_OPEN_READ), *to = create("target", &target);
	struct ns_attr attr = { 0 };
	mvcc_rev_t rev = mvcc_current(fx->db);

	CU_ASSERT_EQUAL(copy_live(from, 0, to, 0, LEN + 5000, &copied), 0);
	CU_ASSERT_EQUAL(copied, LEN + 100);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), rev); /* seen at once, in no revision before the close */
	assert_bytes(to, 0, LEN + 100, 7, 0);
	done(to);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), rev + 1);
	CU_ASSERT_EQUAL(staged_blobs(), before);
	CU_ASSERT_EQUAL(ns_getattr(ns, target, &attr), 0);
	CU_ASSERT_EQUAL(attr.alloc, LEN + 100);
	assert_file(target, LEN + 100, 7);
	done(from);
}

static void test_each_side_has_its_own_life(void)
{
	uint64_t source = make_file("source", 7, LEN), target, copied;
	struct ns_file *from = reopen(source, NS_OPEN_WRITE), *to = create("target", &target);

	CU_ASSERT_EQUAL(copy_live(from, 0, to, 0, LEN, &copied), 0);
	CU_ASSERT_EQUAL(ns_file_write(from, &me, 1000, "changed", 7), 0);
	assert_bytes(to, 0, LEN, 7, 0);
	done(to);
	done(from);
	to = reopen(target, NS_OPEN_WRITE);
	CU_ASSERT_EQUAL(ns_file_write(to, &me, EXTENT - 2, "four", 4), 0);
	done(to);
	from = reopen(source, NS_OPEN_READ);
	assert_bytes(from, 2000, LEN - 2000, 7, 2000);
	done(from);
	/* The source goes, with all of its history. */
	CU_ASSERT_EQUAL(ns_unlink(ns, &me, NS_ROOT, slice_str("source"), NULL), 0);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, MVCC_REV_LATEST), 0);
	CU_ASSERT_EQUAL(mvcc_upkeep(fx->db), 0);
	to = reopen(target, NS_OPEN_READ);
	assert_bytes(to, 0, EXTENT - 2, 7, 0);
	assert_bytes(to, EXTENT + 2, LEN - EXTENT - 2, 7, EXTENT + 2);
	done(to);
}

static void test_a_source_that_goes_before_the_copy_is_committed(void)
{
	uint64_t source = make_file("source", 7, LEN), target, copied;
	struct ns_file *from = reopen(source, NS_OPEN_READ), *to = create("target", &target);

	CU_ASSERT_EQUAL(copy_live(from, 0, to, 0, LEN, &copied), 0);
	done(from);
	CU_ASSERT_EQUAL(ns_unlink(ns, &me, NS_ROOT, slice_str("source"), NULL), 0);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, MVCC_REV_LATEST), 0);
	CU_ASSERT_EQUAL(mvcc_upkeep(fx->db), 0);
	assert_bytes(to, 0, LEN, 7, 0);
	done(to);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, MVCC_REV_LATEST), 0);
	CU_ASSERT_EQUAL(mvcc_upkeep(fx->db), 0);
	assert_file(target, LEN, 7);
}

/* The target's transaction began before the second source was there, and does not see it. */
static void test_a_source_younger_than_what_the_target_has(void)
{
	uint64_t first = make_file("first", 7, LEN), second, target, copied;
	struct ns_file *to = create("target", &target), *from = reopen(first, NS_OPEN_READ);

	CU_ASSERT_EQUAL(copy_live(from, 0, to, 0, LEN, &copied), 0);
	done(from);
	second = make_file("second", 8, LEN);
	from = reopen(second, NS_OPEN_READ);
	CU_ASSERT_EQUAL(copy_live(from, 0, to, LEN, LEN / 2, &copied), 0);
	CU_ASSERT_EQUAL(copy_live(from, LEN / 2, to, LEN + LEN / 2, LEN / 2, &copied), 0);
	done(from);
	CU_ASSERT_EQUAL(ns_unlink(ns, &me, NS_ROOT, slice_str("second"), NULL), 0);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, MVCC_REV_LATEST), 0);
	CU_ASSERT_EQUAL(mvcc_upkeep(fx->db), 0);
	done(to);
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, MVCC_REV_LATEST), 0);
	CU_ASSERT_EQUAL(mvcc_upkeep(fx->db), 0);
	to = reopen(target, NS_OPEN_READ);
	assert_bytes(to, 0, LEN, 7, 0);
	assert_bytes(to, LEN, LEN, 8, 0);
	done(to);
}

static void test_the_past_is_shared_too(void)
{
	uint64_t source = make_file("source", 7, LEN), target, copied = 0, before;
	mvcc_rev_t then = mvcc_current(fx->db);
	struct ns_file *to;

	CU_ASSERT_EQUAL(ns_unlink(ns, &me, NS_ROOT, slice_str("source"), NULL), 0);
	before = staged_blobs();
	to = create("target", &target);
	CU_ASSERT_EQUAL(copy_past(then, source, 0, to, 0, LEN, &copied), 0);
	CU_ASSERT_EQUAL(copied, LEN);
	/* What was borrowed stays until it is one's own. */
	CU_ASSERT_EQUAL(mvcc_compact(fx->db, MVCC_REV_LATEST), 0);
	CU_ASSERT_EQUAL(mvcc_upkeep(fx->db), 0);
	assert_bytes(to, 0, LEN, 7, 0);
	CU_ASSERT_EQUAL(copy_past(then - 1, source, 0, to, 0, LEN, &copied), MVCC_ECOMPACTED);
	done(to);
	CU_ASSERT_EQUAL(mvcc_upkeep(fx->db), 0);
	assert_file(target, LEN, 7);
	CU_ASSERT_EQUAL(staged_blobs(), before);
}

static void test_one_revision_of_the_past_at_a_time(void)
{
	uint64_t one = make_file("one", 1, LEN), two = make_file("two", 2, LEN), target, copied = 0;
	mvcc_rev_t then = mvcc_current(fx->db);
	struct ns_file *to = create("target", &target);

	CU_ASSERT_EQUAL(copy_past(then - 1, one, 0, to, 0, LEN, &copied), 0);
	CU_ASSERT_EQUAL(copy_past(then, two, 0, to, LEN, LEN, &copied), -EXDEV);
	CU_ASSERT_EQUAL(copy_past(then - 1, one, 0, to, LEN, LEN, &copied), 0);
	done(to);
	to = reopen(target, NS_OPEN_WRITE);
	CU_ASSERT_EQUAL(copy_past(then, two, 0, to, LEN, LEN, &copied), 0);
	assert_bytes(to, 0, LEN, 1, 0);
	assert_bytes(to, LEN, LEN, 2, 0);
	done(to);
}

static void test_what_cannot_be_shared(void)
{
	uint64_t source = make_file("source", 7, LEN), small = make_file("small", 8, 500), target,
		 copied = 77;
	struct ns_file *from = reopen(source, NS_OPEN_WRITE), *to = create("target", &target);
	struct ns_file *little = reopen(small, NS_OPEN_READ);

	CU_ASSERT_EQUAL(copy_live(from, 0, to, 1, LEN, &copied), -EXDEV);      /* not aligned there */
	CU_ASSERT_EQUAL(copy_live(from, 0, from, LEN, PAGE, &copied), -EXDEV); /* the same file */
	CU_ASSERT_EQUAL(copy_live(little, 0, to, 0, 500, &copied), -EXDEV);    /* stands in its inode's row */
	CU_ASSERT_EQUAL(copy_live(from, 0, to, 0, 100, &copied), -EXDEV);      /* too little */
	CU_ASSERT_EQUAL(ns_file_write(from, &me, 0, "x", 1), 0);
	CU_ASSERT_EQUAL(copy_live(from, 0, to, 0, LEN, &copied), -EXDEV); /* being written */
	done(from);
	from = reopen(source, NS_OPEN_READ);
	CU_ASSERT_EQUAL(copy_live(from, 0, to, NS_SIZE_MAX / PAGE * PAGE, LEN, &copied), -EFBIG);
	CU_ASSERT_EQUAL(copy_live(from, NS_SIZE_MAX, to, 0, LEN, &copied), -EINVAL);
	CU_ASSERT_EQUAL(copied, 77);
	CU_ASSERT_EQUAL(copy_live(from, LEN, to, 0, LEN, &copied), 0); /* beyond the end there is nothing */
	CU_ASSERT_EQUAL(copied, 0);
	/* In front of what the target has, whole pages only. */
	CU_ASSERT_EQUAL(copy_live(from, 0, to, 0, LEN, &copied), 0);
	CU_ASSERT_EQUAL(copy_live(from, 0, to, 0, 3 * PAGE + 5, &copied), 0);
	CU_ASSERT_EQUAL(copied, 3 * PAGE);
	CU_ASSERT_EQUAL(ns_unlink(ns, &me, NS_ROOT, slice_str("source"), NULL), 0);
	CU_ASSERT_EQUAL(copy_live(from, 0, to, 0, LEN, &copied), -EXDEV); /* has no name any more */
	done(from);
	done(little);
	done(to);
}

static void test_a_long_copy_comes_in_parts(void)
{
	uint64_t source, target, copied = 0;
	struct ns_file *from = create("source", &source), *to;
	struct ns_attr attr = { 0 };

	CU_ASSERT_EQUAL(ns_file_write(from, &me, 3 * NS_COPY_MAX, "end", 3), 0);
	CU_ASSERT_EQUAL(ns_file_write(from, &me, 0, "begin", 5), 0);
	done(from);
	from = reopen(source, NS_OPEN_READ);
	to = create("target", &target);
	for (uint64_t off = 0; off < 3 * NS_COPY_MAX + 3; off += copied) {
		CU_ASSERT_EQUAL_FATAL(copy_live(from, off, to, off, INT64_MAX - off, &copied), 0);
		CU_ASSERT(copied > 0 && copied <= NS_COPY_MAX);
		if (off + copied == 3 * NS_COPY_MAX)
			break; /* three bytes are left: they are copied, not shared */
	}
	CU_ASSERT_EQUAL(copy_live(from, 3 * NS_COPY_MAX, to, 3 * NS_COPY_MAX, 10, &copied), -EXDEV);
	CU_ASSERT_EQUAL(ns_getattr(ns, target, &attr), 0);
	CU_ASSERT_EQUAL(attr.size, 3 * NS_COPY_MAX);
	CU_ASSERT(attr.alloc <= 2 * EXTENT); /* holes stay holes */
	done(from);
	done(to);
}

/* ---- against plain arrays ---------------------------------------------------------------------------- */

enum { FILES = 3, MAX = 600 << 10, PASTS = 4 };

struct model {
	uint64_t ino[FILES];
	uint8_t *bytes[FILES];
	size_t size[FILES];
	mvcc_rev_t past_rev[PASTS]; /* 0: none */
	uint8_t *past[PASTS];
	size_t past_size[PASTS];
	unsigned past_file[PASTS];
	uint64_t seed;
	unsigned copies, shared;
};

static void model_grow(struct model *m, unsigned i, size_t size)
{
	if (size > m->size[i]) {
		memset(m->bytes[i] + m->size[i], 0, size - m->size[i]);
		m->size[i] = size;
	}
}

static void model_write(struct model *m, unsigned i, struct ns_file *f)
{
	size_t off = random_below(&m->seed, MAX - 1), len = 1 + random_below(&m->seed, MAX - off);

	if (len > 100000)
		len %= 100000;
	model_grow(m, i, off + len);
	for (size_t j = 0; j < len; j++)
		m->bytes[i][off + j] = pattern(m->seed, j);
	CU_ASSERT_EQUAL(ns_file_write(f, &me, off, m->bytes[i] + off, len), 0);
}

static void model_cut(struct model *m, unsigned i, struct ns_file *f)
{
	size_t size = random_below(&m->seed, MAX), off = random_below(&m->seed, MAX);
	struct ns_attr set = { .size = size }, out;

	if (random_below(&m->seed, 2)) {
		CU_ASSERT_EQUAL(ns_setattr(ns, &me, m->ino[i], &set, NS_SET_SIZE, true, &out), 0);
		model_grow(m, i, size);
		m->size[i] = size;
		return;
	}
	CU_ASSERT_EQUAL(ns_file_allocate(f, &me, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, 50000), 0);
	if (off < m->size[i])
		memset(m->bytes[i] + off, 0, m->size[i] - off < 50000 ? m->size[i] - off : 50000);
}

static void model_copy(struct model *m, unsigned i, struct ns_file *f)
{
	unsigned j = (unsigned)random_below(&m->seed, FILES), p = (unsigned)random_below(&m->seed, PASTS);
	bool past = random_below(&m->seed, 2) && m->past_rev[p];
	size_t to = random_below(&m->seed, MAX / PAGE / 2) * PAGE, from = random_below(&m->seed, MAX / 2);
	size_t len = 1 + random_below(&m->seed, MAX / 2);
	const uint8_t *bytes = past ? m->past[p] : m->bytes[j];
	struct ns_file *source = past ? NULL : reopen(m->ino[j], NS_OPEN_READ);
	uint64_t copied = 0;
	int err;

	err = past ? copy_past(m->past_rev[p], m->ino[m->past_file[p]], from, f, to, len, &copied) :
		     copy_live(source, from, f, to, len, &copied);
	m->copies++;
	CU_ASSERT(err == 0 || err == -EXDEV);
	CU_ASSERT(from + copied <= (past ? m->past_size[p] : m->size[j]) || !copied);
	if (!err && copied) {
		m->shared++;
		model_grow(m, i, to + copied);
		memcpy(m->bytes[i] + to, bytes + from, copied);
	}
	if (source)
		done(source);
}

static void model_remember(struct model *m, unsigned i)
{
	unsigned p = (unsigned)random_below(&m->seed, PASTS);

	CU_ASSERT_EQUAL(ns_close(ns), 0); /* all is committed */
	CU_ASSERT_EQUAL_FATAL(ns_open(fx->db, &(struct ns_options){ .commit_ms = 60000 }, &ns), 0);
	m->past_rev[p] = mvcc_current(fx->db);
	m->past_file[p] = i;
	m->past_size[p] = m->size[i];
	memcpy(m->past[p], m->bytes[i], m->size[i]);
}

static void model_check(struct model *m, unsigned i)
{
	struct ns_file *f = reopen(m->ino[i], NS_OPEN_READ);
	uint8_t *got = malloc(MAX + 1);
	ssize_t n = ns_file_read(f, 0, got, MAX + 1);

	CU_ASSERT_EQUAL(n, (ssize_t)m->size[i]);
	CU_ASSERT_EQUAL(memcmp(got, m->bytes[i], m->size[i]), 0);
	free(got);
	done(f);
}

static void model_check_past(struct model *m, unsigned p)
{
	struct mvcc_view *view = NULL;
	uint8_t *got = malloc(MAX + 1);

	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, m->past_rev[p], &view), 0);
	CU_ASSERT_EQUAL(ns_at_read(fx->db, view, m->ino[m->past_file[p]], 0, got, MAX + 1),
			(ssize_t)m->past_size[p]);
	CU_ASSERT_EQUAL(memcmp(got, m->past[p], m->past_size[p]), 0);
	mvcc_view_close(view);
	free(got);
}

/* The floor follows what is remembered; sometimes it jumps over it. */
static void model_compact(struct model *m)
{
	mvcc_rev_t floor =
		mvcc_floor(fx->db) + random_below(&m->seed, 1 + mvcc_current(fx->db) - mvcc_floor(fx->db));
	int err = mvcc_compact(fx->db, floor);

	CU_ASSERT(err == 0 || err == MVCC_ECOMPACTED);
	CU_ASSERT_EQUAL(mvcc_upkeep(fx->db), 0);
	for (unsigned p = 0; p < PASTS; p++)
		if (m->past_rev[p] < mvcc_floor(fx->db))
			m->past_rev[p] = 0;
}

static void test_random_copies_against_plain_arrays(void)
{
	uint64_t steps = fixture_env("COPY_OPS", 600);
	struct model m = { .seed = fixture_env("MVCCFS_TEST_SEED", 4711) };

	if (steps > 600)
		steps = 600;
	for (unsigned i = 0; i < FILES; i++) {
		struct ns_file *f;
		char name[16];

		snprintf(name, sizeof(name), "f%u", i);
		m.bytes[i] = malloc(MAX * 2);
		f = create(name, &m.ino[i]);
		done(f);
	}
	for (unsigned p = 0; p < PASTS; p++)
		m.past[p] = malloc(MAX * 2);
	for (uint64_t step = 0; step < steps; step++) {
		unsigned i = (unsigned)random_below(&m.seed, FILES);
		struct ns_file *f = reopen(m.ino[i], NS_OPEN_WRITE);

		for (uint64_t n = 1 + random_below(&m.seed, 3); n; n--) {
			switch (random_below(&m.seed, 4)) {
			case 0:
				model_write(&m, i, f);
				break;
			case 1:
				model_cut(&m, i, f);
				break;
			default:
				model_copy(&m, i, f);
				break;
			}
		}
		if (random_below(&m.seed, 4) == 0)
			model_check(&m, i); /* while it is dirty */
		done(f);
		if (random_below(&m.seed, 8) == 0)
			model_remember(&m, i);
		if (random_below(&m.seed, 16) == 0)
			model_compact(&m);
		model_check(&m, i);
	}
	for (unsigned i = 0; i < FILES; i++) {
		model_check(&m, i);
		free(m.bytes[i]);
	}
	for (unsigned p = 0; p < PASTS; p++) {
		if (m.past_rev[p])
			model_check_past(&m, p);
		free(m.past[p]);
	}
	CU_ASSERT(m.shared * 4 > m.copies);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_a_copy_stores_nothing),
	UNIT_TEST(test_each_side_has_its_own_life),
	UNIT_TEST(test_a_source_that_goes_before_the_copy_is_committed),
	UNIT_TEST(test_a_source_younger_than_what_the_target_has),
	UNIT_TEST(test_the_past_is_shared_too),
	UNIT_TEST(test_one_revision_of_the_past_at_a_time),
	UNIT_TEST(test_what_cannot_be_shared),
	UNIT_TEST(test_a_long_copy_comes_in_parts),
	UNIT_TEST(test_random_copies_against_plain_arrays),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("copies", open_tree, close_tree, tests), CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
