/* Compare-and-swap of open files: a change based on a state that is no longer the newest does not happen. */
#include "fs/ns.h"

#include "tests/store_fixture.h"
#include "tests/unit.h"

#include <errno.h>

static const struct ns_who me = { .uid = 1000, .gid = 100, .pid = 42, .comm = "test" };

static struct fixture *fx;
static struct ns *ns;
static unsigned ndropped;
static struct ns_dropped dropped;

static void note_dropped(void *arg, const struct ns_dropped *what)
{
	(void)arg;
	ndropped++;
	dropped = *what;
}

static void set_up(void)
{
	const struct ns_options opt = { .commit_ms = 60000 };

	fx = fixture_new();
	fx->opt.init = ns_init;
	CU_ASSERT_EQUAL_FATAL(fixture_try_open(fx), 0);
	ns = NULL;
	CU_ASSERT_EQUAL_FATAL(ns_open(fx->db, &opt, &ns), 0);
	ndropped = 0;
	ns_on_dropped(ns, note_dropped, NULL);
}

static void tear_down(void)
{
	CU_ASSERT_EQUAL(ns_close(ns), 0);
	fixture_verify(fx);
	fixture_close(fx);
}

static struct ns_file *create(const char *name, uint64_t *ino)
{
	struct ns_file *f = NULL;
	struct ns_attr attr = { 0 };

	CU_ASSERT_EQUAL_FATAL(ns_create(ns, &me, NS_ROOT, slice_str(name), 0644, &f, &attr), 0);
	*ino = attr.ino;
	return f;
}

static struct ns_file *open_file(uint64_t ino, unsigned flags)
{
	struct ns_file *f = NULL;

	CU_ASSERT_EQUAL_FATAL(ns_file_open(ns, &me, ino, flags, (struct ns_gone){ 0 }, &f), 0);
	return f;
}

static int write_text(struct ns_file *f, const char *text)
{
	return ns_file_write(f, &me, 0, text, strlen(text));
}

/* As the kernel closes a descriptor: what close(2) says. */
static int close_file(struct ns_file *f)
{
	int err = ns_file_flush(f);

	ns_file_close(f);
	return err;
}

static uint64_t make_file(const char *name, const char *text)
{
	uint64_t ino = 0;
	struct ns_file *f = create(name, &ino);

	CU_ASSERT_EQUAL(write_text(f, text), 0);
	CU_ASSERT_EQUAL(close_file(f), 0);
	return ino;
}

static void rewrite(uint64_t ino, const char *text)
{
	struct ns_file *f = open_file(ino, NS_OPEN_WRITE | NS_OPEN_TRUNC);

	CU_ASSERT_EQUAL(write_text(f, text), 0);
	CU_ASSERT_EQUAL(close_file(f), 0);
}

static mvcc_rev_t rev_of(uint64_t ino)
{
	struct ns_attr attr = { 0 };

	CU_ASSERT_EQUAL(ns_getattr(ns, ino, &attr), 0);
	return attr.rev;
}

static void assert_content(uint64_t ino, const char *text)
{
	struct ns_file *f = open_file(ino, NS_OPEN_READ);
	char got[64] = { 0 };

	CU_ASSERT_EQUAL(ns_file_read(f, 0, got, sizeof(got) - 1), (ssize_t)strlen(text));
	CU_ASSERT_STRING_EQUAL(got, text);
	CU_ASSERT_EQUAL(ns_file_close(f), 0);
}

static void test_a_change_of_the_newest_happens(void)
{
	uint64_t ino = make_file("f", "one");
	struct ns_file *f = open_file(ino, NS_OPEN_WRITE | NS_OPEN_TRUNC);

	CU_ASSERT_EQUAL(ns_file_if(ns, ino, NS_IF_REV, rev_of(ino)), 0);
	CU_ASSERT_EQUAL(write_text(f, "two"), 0);
	CU_ASSERT_EQUAL(close_file(f), 0);
	assert_content(ino, "two");
	CU_ASSERT_EQUAL(ndropped, 0);
}

static void test_a_change_of_an_older_one_does_not(void)
{
	uint64_t ino = make_file("f", "one");
	mvcc_rev_t seen = rev_of(ino), before;
	struct ns_file *f;

	rewrite(ino, "newer");
	before = mvcc_current(fx->db);
	f = open_file(ino, NS_OPEN_WRITE | NS_OPEN_TRUNC);
	CU_ASSERT_EQUAL(ns_file_if(ns, ino, NS_IF_REV, seen), 0);
	CU_ASSERT_EQUAL(write_text(f, "two"), 0);
	CU_ASSERT_EQUAL(close_file(f), -EBUSY);
	assert_content(ino, "newer");
	CU_ASSERT_EQUAL(mvcc_current(fx->db), before);
	CU_ASSERT_EQUAL(ndropped, 1);
	CU_ASSERT_EQUAL(dropped.ino, ino);
	CU_ASSERT_EQUAL(dropped.gone.rev, 0);
	rewrite(ino, "later"); /* the next one knows nothing of it */
	assert_content(ino, "later");
}

static void test_versions_compare_too(void)
{
	uint64_t ino = make_file("f", "one");
	struct ns_file *f = open_file(ino, NS_OPEN_WRITE);

	CU_ASSERT_EQUAL(ns_file_if(ns, ino, NS_IF_VERSION, 1), 0);
	CU_ASSERT_EQUAL(write_text(f, "two"), 0);
	CU_ASSERT_EQUAL(close_file(f), 0);
	f = open_file(ino, NS_OPEN_WRITE);
	CU_ASSERT_EQUAL(ns_file_if(ns, ino, NS_IF_VERSION, 1), 0);
	CU_ASSERT_EQUAL(write_text(f, "six"), 0);
	CU_ASSERT_EQUAL(close_file(f), -EBUSY);
	assert_content(ino, "two");
}

static void test_zero_means_that_it_is_new(void)
{
	uint64_t ino = make_file("f", "one"), fresh = 0;
	struct ns_file *f = open_file(ino, NS_OPEN_WRITE);

	CU_ASSERT_EQUAL(ns_file_if(ns, ino, NS_IF_REV, 0), 0);
	CU_ASSERT_EQUAL(write_text(f, "two"), 0);
	CU_ASSERT_EQUAL(close_file(f), -EBUSY);
	f = create("g", &fresh);
	CU_ASSERT_EQUAL(ns_file_if(ns, fresh, NS_IF_REV, 0), 0);
	CU_ASSERT_EQUAL(write_text(f, "two"), 0);
	CU_ASSERT_EQUAL(close_file(f), 0);
	assert_content(ino, "one");
	assert_content(fresh, "two");
}

static void test_a_file_made_by_a_failing_change_is_gone(void)
{
	uint64_t ino = 0;
	struct ns_file *f = create("f", &ino);
	struct ns_attr attr;

	CU_ASSERT_EQUAL(ns_file_if(ns, ino, NS_IF_REV, 7), 0);
	CU_ASSERT_EQUAL(write_text(f, "two"), 0);
	CU_ASSERT_EQUAL(ns_file_flush(f), -EBUSY);
	CU_ASSERT_EQUAL(ns_lookup(ns, NS_ROOT, slice_str("f"), &attr), -ENOENT);
	CU_ASSERT_EQUAL(write_text(f, "more"), -EBUSY);
	ns_file_close(f);
	CU_ASSERT_EQUAL(ndropped, 1);
	CU_ASSERT_EQUAL(dropped.gone.ino, ino);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), 1);
	make_file("f", "again");
}

static void test_truncating_alone_is_compared_at_its_close(void)
{
	uint64_t ino = make_file("f", "one");
	struct ns_file *f = open_file(ino, NS_OPEN_WRITE | NS_OPEN_TRUNC);
	mvcc_rev_t before = mvcc_current(fx->db);

	CU_ASSERT_EQUAL(ns_file_flush(f), 0); /* a shell closes a duplicate: a promise is made */
	CU_ASSERT_EQUAL(ns_file_if(ns, ino, NS_IF_REV, 99), 0);
	CU_ASSERT_EQUAL(close_file(f), -EBUSY);
	assert_content(ino, "one");
	CU_ASSERT_EQUAL(ns_close(ns), 0);
	fixture_reopen(fx); /* the promise is not kept */
	CU_ASSERT_EQUAL(ns_open(fx->db, &(struct ns_options){ .commit_ms = 60000 }, &ns), 0);
	assert_content(ino, "one");
	CU_ASSERT_EQUAL(mvcc_current(fx->db), before);
}

static void test_a_file_may_be_synced_in_between(void)
{
	uint64_t ino = make_file("f", "one");
	struct ns_file *f = open_file(ino, NS_OPEN_WRITE);
	mvcc_rev_t rev;

	CU_ASSERT_EQUAL(ns_file_if(ns, ino, NS_IF_REV, rev_of(ino)), 0);
	CU_ASSERT_EQUAL(write_text(f, "two"), 0);
	CU_ASSERT_EQUAL(ns_file_commit(f, &rev), 0);
	CU_ASSERT_EQUAL(rev, rev_of(ino));
	CU_ASSERT_EQUAL(write_text(f, "six"), 0);
	CU_ASSERT_EQUAL(close_file(f), 0);
	assert_content(ino, "six");
}

/* What is changed from beside meanwhile is newer, whoever does it. */
static void test_a_change_of_attributes_counts(void)
{
	uint64_t ino = make_file("f", "one");
	struct ns_file *f = open_file(ino, NS_OPEN_WRITE);
	struct ns_attr attr = { .mode = 0600 };

	CU_ASSERT_EQUAL(ns_file_if(ns, ino, NS_IF_REV, rev_of(ino)), 0);
	CU_ASSERT_EQUAL(ns_setattr(ns, &me, ino, &attr, NS_SET_MODE, false, &attr), 0);
	CU_ASSERT_EQUAL(write_text(f, "two"), 0);
	CU_ASSERT_EQUAL(close_file(f), -EBUSY);
	assert_content(ino, "one");
}

static void test_what_was_removed_has_changed(void)
{
	uint64_t ino = make_file("f", "one");
	struct ns_file *f = open_file(ino, NS_OPEN_WRITE);

	CU_ASSERT_EQUAL(ns_file_if(ns, ino, NS_IF_REV, rev_of(ino)), 0);
	CU_ASSERT_EQUAL(write_text(f, "two"), 0);
	CU_ASSERT_EQUAL(ns_unlink(ns, &me, NS_ROOT, slice_str("f"), NULL), 0);
	CU_ASSERT_EQUAL(close_file(f), -EBUSY);
}

static void test_a_large_file_gives_back_what_it_staged(void)
{
	uint64_t ino = make_file("f", "one");
	struct ns_file *f = open_file(ino, NS_OPEN_WRITE);
	size_t len = (size_t)80 << 20;
	char *data = calloc(1, len);

	CU_ASSERT_PTR_NOT_NULL_FATAL(data);
	CU_ASSERT_EQUAL(ns_file_if(ns, ino, NS_IF_REV, 77), 0);
	CU_ASSERT_EQUAL(ns_file_write(f, &me, 0, data, len), 0);
	free(data);
	CU_ASSERT_EQUAL(close_file(f), -EBUSY);
	assert_content(ino, "one"); /* and the store is verified at the end: no blob is left */
}

static void test_it_needs_a_writer(void)
{
	uint64_t ino = make_file("f", "one");
	struct ns_file *f = open_file(ino, NS_OPEN_READ);

	CU_ASSERT_EQUAL(ns_file_if(ns, ino, NS_IF_REV, 2), -EINVAL);
	ns_file_close(f);
	CU_ASSERT_EQUAL(ns_file_if(ns, ino, NS_IF_REV, 2), -EINVAL);
}

static void test_writers_of_one_file_share_what_is_refused(void)
{
	uint64_t ino = make_file("f", "one");
	struct ns_file *a = open_file(ino, NS_OPEN_WRITE), *b;

	CU_ASSERT_EQUAL(ns_file_if(ns, ino, NS_IF_REV, 99), 0);
	b = open_file(ino, NS_OPEN_WRITE);
	CU_ASSERT_EQUAL(write_text(b, "two"), 0);
	CU_ASSERT_EQUAL(close_file(b), -EBUSY);
	CU_ASSERT_EQUAL(write_text(a, "six"), -EBUSY);
	CU_ASSERT_EQUAL(close_file(a), -EBUSY);
	assert_content(ino, "one");
}

/* Both would find what they expect, and one change would be lost. */
static void test_two_writers_cannot_both_compare(void)
{
	uint64_t ino = make_file("f", "one");
	mvcc_rev_t rev = rev_of(ino);
	struct ns_file *a = open_file(ino, NS_OPEN_WRITE), *b, *c = NULL;

	CU_ASSERT_EQUAL(ns_file_if(ns, ino, NS_IF_REV, rev), 0);
	CU_ASSERT_EQUAL(write_text(a, "two"), 0);
	b = open_file(ino, NS_OPEN_WRITE);
	CU_ASSERT_EQUAL(ns_file_if(ns, ino, NS_IF_REV, rev), -EBUSY);
	CU_ASSERT_EQUAL(ns_file_open(ns, &me, ino, NS_OPEN_WRITE | NS_OPEN_TRUNC, (struct ns_gone){ 0 }, &c),
			-EBUSY);
	CU_ASSERT_EQUAL(close_file(a), 0);
	CU_ASSERT_EQUAL(ns_file_if(ns, ino, NS_IF_REV, rev), 0);
	CU_ASSERT_EQUAL(write_text(b, "six"), 0);
	CU_ASSERT_EQUAL(close_file(b), -EBUSY);
	assert_content(ino, "two");
}

static void test_a_change_can_be_given_up(void)
{
	uint64_t ino = make_file("f", "one");
	struct ns_file *a = open_file(ino, NS_OPEN_WRITE), *b = open_file(ino, NS_OPEN_WRITE);

	CU_ASSERT_EQUAL(write_text(a, "two"), 0);
	CU_ASSERT_EQUAL(ns_file_if(ns, ino, NS_IF_REV, NS_IF_NEVER), 0);
	CU_ASSERT_EQUAL(close_file(a), -EBUSY);
	CU_ASSERT_EQUAL(ns_file_if(ns, ino, NS_IF_REV, rev_of(ino)), 0); /* the other begins anew */
	CU_ASSERT_EQUAL(write_text(b, "six"), 0);
	CU_ASSERT_EQUAL(close_file(b), 0);
	assert_content(ino, "six");
}

static void test_emptying_first_makes_no_revision_of_its_own(void)
{
	uint64_t ino = make_file("f", "one");
	mvcc_rev_t before = rev_of(ino);
	struct ns_file *f = open_file(ino, NS_OPEN_WRITE), *other;
	struct ns_attr attr = { .size = 0 };

	CU_ASSERT_EQUAL(ns_file_if(ns, ino, NS_IF_REV, before), 0);
	other = open_file(ino, NS_OPEN_WRITE); /* truncate(1) */
	CU_ASSERT_EQUAL(ns_setattr(ns, &me, ino, &attr, NS_SET_SIZE, true, &attr), 0);
	CU_ASSERT_EQUAL(close_file(other), 0);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), before);
	CU_ASSERT_EQUAL(write_text(f, "x"), 0);
	CU_ASSERT_EQUAL(close_file(f), 0);
	CU_ASSERT_EQUAL(mvcc_current(fx->db), before + 1);
	assert_content(ino, "x");
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_a_change_of_the_newest_happens),
	UNIT_TEST(test_a_change_of_an_older_one_does_not),
	UNIT_TEST(test_versions_compare_too),
	UNIT_TEST(test_zero_means_that_it_is_new),
	UNIT_TEST(test_a_file_made_by_a_failing_change_is_gone),
	UNIT_TEST(test_truncating_alone_is_compared_at_its_close),
	UNIT_TEST(test_a_file_may_be_synced_in_between),
	UNIT_TEST(test_a_change_of_attributes_counts),
	UNIT_TEST(test_what_was_removed_has_changed),
	UNIT_TEST(test_a_large_file_gives_back_what_it_staged),
	UNIT_TEST(test_it_needs_a_writer),
	UNIT_TEST(test_writers_of_one_file_share_what_is_refused),
	UNIT_TEST(test_two_writers_cannot_both_compare),
	UNIT_TEST(test_a_change_can_be_given_up),
	UNIT_TEST(test_emptying_first_makes_no_revision_of_its_own),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("ns_compare", set_up, tear_down, tests), CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
