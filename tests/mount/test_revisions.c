/*
 * What makes a revision, call by call; revisions.sh counts for whole programs. And what a revision shows:
 * all of a change, and nothing of one that is not finished.
 */
#include "tests/mount/mount_fixture.h"
#include "tests/mount/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>

static struct mnt m;

static int open_mount(void)
{
	umask(022);
	/* Nothing is committed by time, so that every revision is of a call. */
	mnt_init(&m, "commit_ms=600000");
	return 0;
}

static int close_mount(void)
{
	mnt_release(&m);
	return 0;
}

static const char *in(const char *name)
{
	return mnt_path("%s/%s", m.at, name);
}

static const char *then(uint64_t rev, const char *name)
{
	return mnt_path("%s/@rev/%llu/%s", m.at, (unsigned long long)rev, name);
}

static bool there(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

/*
 * Counting: makes(n) asserts that since the last call exactly n revisions were made. It waits for them,
 * as some come with the kernel's RELEASE, after close(2) has returned; one that comes too late to be seen
 * here is found by the next.
 */
static uint64_t counted;

static void count_from_here(void)
{
	counted = mnt_current(&m);
}

static void check_made(uint64_t n, int line, const char *what)
{
	uint64_t now = mnt_await(&m, counted + n);

	mnt_check(now == counted + n, __FILE__, line, what, "%llu revisions, not %llu",
		  (unsigned long long)(now - counted), (unsigned long long)n);
	counted = now;
}

#define MAKES(n, call)                            \
	do {                                      \
		MNT_OK(call, #call);              \
		check_made((n), __LINE__, #call); \
	} while (0)

static int write_text(int fd, const char *text)
{
	return write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -1;
}

static int create(const char *name)
{
	return open(in(name), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
}

static int opened(const char *name, int flags)
{
	return open(in(name), flags | O_CLOEXEC);
}

/* ---- counting ---------------------------------------------------------------------------------------- */

static void test_each_change_of_a_name_is_one_revision(void)
{
	count_from_here();
	MAKES(1, mkdir(in("d"), 0755));
	MAKES(1, mkdir(in("d/e"), 0755));
	MAKES(1, symlink("target", in("d/s")));
	MAKES(1, mknod(in("d/p"), S_IFIFO | 0644, 0));
	MAKES(1, mknod(in("d/r"), S_IFREG | 0644, 0));
	MAKES(1, link(in("d/r"), in("d/l")));
	MAKES(1, rename(in("d/r"), in("d/q")));
	MAKES(0, rename(in("d/q"), in("d/l"))); /* two names of one file: POSIX says to do nothing */
	MAKES(1, renameat2(AT_FDCWD, in("d/q"), AT_FDCWD, in("d/n"), RENAME_NOREPLACE));
	MAKES(1, renameat2(AT_FDCWD, in("d/e"), AT_FDCWD, in("d/n"), RENAME_EXCHANGE));
	MAKES(1, rename(in("d/s"), in("d/p")));
	MAKES(1, unlink(in("d/p")));
	MAKES(1, unlink(in("d/l")));
	MAKES(1, rename(in("d"), in("d2")));
	MAKES(1, rmdir(in("d2/n")));
	MAKES(1, unlink(in("d2/e")));
	MAKES(1, rmdir(in("d2")));
}

static void test_each_change_of_attributes_is_one_revision(void)
{
	struct timespec times[2] = { { 1000000000, 1 }, { 1000000001, 2 } };

	mnt_write_text(in("attr"), "x");
	count_from_here();
	MAKES(1, chmod(in("attr"), 0600));
	MAKES(1, utimensat(AT_FDCWD, in("attr"), times, 0));
	MAKES(1, setxattr(in("attr"), "user.a", "1", 1, 0));
	MAKES(1, setxattr(in("attr"), "user.a", "2", 1, XATTR_REPLACE));
	MAKES(1, removexattr(in("attr"), "user.a"));
	MAKES(1, truncate(in("attr"), 1000));
	MAKES(1, truncate(in("attr"), 0));
	if (!geteuid())
		MAKES(1, lchown(in("attr"), 1, 1));
	MAKES(1, unlink(in("attr")));
}

static void test_what_is_refused_makes_none(void)
{
	mnt_write_text(in("refused"), "x");
	count_from_here();
	MNT_FAILS(mkdir(in("refused"), 0755), EEXIST, "refused");
	MNT_FAILS(rmdir(in("refused")), ENOTDIR, "refused");
	MNT_FAILS(unlink(in("nothing")), ENOENT, "nothing");
	MNT_FAILS(rename(in("nothing"), in("refused")), ENOENT, "nothing");
	MNT_FAILS(link(in("nothing"), in("x")), ENOENT, "nothing");
	MNT_FAILS(removexattr(in("refused"), "user.none"), ENODATA, "refused");
	MNT_FAILS(renameat2(AT_FDCWD, in("refused"), AT_FDCWD, in("nothing"), RENAME_EXCHANGE), ENOENT,
		  "refused");
	MNT_FAILS(opened("refused", O_WRONLY | O_CREAT | O_EXCL), EEXIST, "refused");
	check_made(0, __LINE__, "what is refused");
}

static void test_a_file_is_one_revision_at_its_close(void)
{
	int fd, copy;

	count_from_here();
	fd = create("closed");
	MNT_OK(write_text(fd, "one "), "closed");
	MNT_OK(write_text(fd, "two "), "closed");
	check_made(0, __LINE__, "open and written");
	mnt_same_text(in("closed"), "one two ");
	MAKES(1, close(fd));
	mnt_same_text(then(counted, "closed"), "one two ");
	MNT_CHECK(!there(then(counted - 1, "closed")), "the revision before has it");

	fd = opened("closed", O_WRONLY | O_APPEND);
	copy = dup(fd);
	MNT_OK(write_text(fd, "three "), "closed");
	MAKES(1, close(copy));
	MAKES(0, close(fd));

	fd = opened("closed", O_RDWR);
	MAKES(0, close(fd));
	fd = opened("closed", O_RDWR);
	MNT_CHECK(write(fd, "", 0) == 0, "write of nothing");
	MAKES(0, close(fd));
	fd = opened("closed", O_RDWR);
	MNT_CHECK(read(fd, (char[10]){ 0 }, 10) == 10, "read");
	MAKES(0, close(fd));
	mnt_same_text(in("closed"), "one two three ");
}

static void test_a_new_or_emptied_file_without_data_is_one_revision(void)
{
	int fd, copy;

	count_from_here();
	fd = create("blank");
	MAKES(1, close(fd));
	fd = opened("blank", O_WRONLY);
	MAKES(0, close(fd));
	/* As shells do it: a duplicate is closed first, before there is any data. */
	fd = opened("blank", O_WRONLY | O_TRUNC);
	copy = dup(fd);
	MNT_OK(close(fd), "blank");
	MNT_OK(write_text(copy, "text"), "blank");
	MAKES(1, close(copy));
	fd = create("blank2");
	copy = dup(fd);
	MNT_OK(close(fd), "blank2");
	MNT_OK(write_text(copy, "text"), "blank2");
	MAKES(1, close(copy));
	mnt_same_text(then(counted, "blank2"), "text");
	MNT_CHECK(!there(then(counted - 1, "blank2")), "a revision shows blank2 empty");
	fd = opened("blank", O_WRONLY | O_TRUNC);
	MAKES(1, close(fd));
	mnt_same_text(then(counted, "blank"), "");
	mnt_same_text(then(counted - 1, "blank"), "text");
	MAKES(1, ({
		      fd = opened("blank", O_WRONLY);
		      int r = ftruncate(fd, 5000);
		      r | close(fd);
	      }));
	mnt_same_text(in("blank2"), "text");
}

static void test_what_is_done_to_a_new_file_before_its_close_is_part_of_it(void)
{
	struct timespec times[2] = { { 100000000, 1 }, { 200000000, 2 } };
	struct stat st;
	char value[8];
	int fd;

	count_from_here();
	fd = create("folded");
	MNT_OK(write_text(fd, "folded"), "folded");
	MNT_OK(fchmod(fd, 0640), "folded");
	MNT_OK(fsetxattr(fd, "user.a", "b", 1, 0), "folded");
	if (!geteuid())
		MNT_OK(fchown(fd, 7, 8), "folded");
	MNT_OK(futimens(fd, times), "folded");
	MNT_OK(chmod(in("folded"), 0604), "folded"); /* by its name, too */
	check_made(0, __LINE__, "before the close");
	MAKES(1, close(fd));
	MNT_OK(stat(then(counted, "folded"), &st), "folded");
	MNT_CHECK((st.st_mode & 07777) == 0604, "mode %o", st.st_mode);
	MNT_CHECK(st.st_mtim.tv_sec == 200000000 && st.st_mtim.tv_nsec == 2, "mtime %lld.%ld",
		  (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	MNT_CHECK(geteuid() || (st.st_uid == 7 && st.st_gid == 8), "owner %u:%u", st.st_uid, st.st_gid);
	MNT_CHECK(getxattr(then(counted, "folded"), "user.a", value, sizeof(value)) == 1, "user.a");
	mnt_same_text(then(counted, "folded"), "folded");
	MNT_CHECK(!there(then(counted - 1, "folded")), "a revision shows a part of it");
}

static void test_fsync_commits(void)
{
	int fd;

	count_from_here();
	fd = create("synced");
	MNT_OK(write_text(fd, "one "), "synced");
	MAKES(1, fsync(fd));
	mnt_same_text(then(counted, "synced"), "one ");
	MAKES(0, fsync(fd));
	MNT_OK(write_text(fd, "two "), "synced");
	MAKES(1, fdatasync(fd));
	MNT_OK(write_text(fd, "three "), "synced");
	MAKES(1, close(fd));
	mnt_same_text(then(counted - 1, "synced"), "one two ");
	mnt_same_text(then(counted, "synced"), "one two three ");
	fd = opened("synced", O_WRONLY | O_SYNC | O_APPEND);
	MAKES(1, write_text(fd, "four "));
	mnt_same_text(then(counted, "synced"), "one two three four ");
	MAKES(0, close(fd));
}

static void test_a_mapping_is_committed_by_msync_and_close(void)
{
	char *map;
	int fd;

	mnt_write_text(in("mapped"), "0123456789");
	count_from_here();
	fd = opened("mapped", O_RDWR);
	map = mmap(NULL, 10, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	memcpy(map, "abc", 3);
	MAKES(1, msync(map, 10, MS_SYNC));
	mnt_same_text(then(counted, "mapped"), "abc3456789");
	memcpy(map + 3, "def", 3);
	MNT_OK(munmap(map, 10), "mapped");
	MAKES(1, close(fd));
	mnt_same_text(then(counted, "mapped"), "abcdef6789");
}

static void test_saving_as_editors_do_is_two(void)
{
	int fd;

	mnt_write_text(in("edited"), "old");
	count_from_here();
	fd = create("edited.tmp");
	MNT_OK(write_text(fd, "new"), "edited.tmp");
	MNT_OK(fsync(fd), "edited.tmp");
	MNT_OK(close(fd), "edited.tmp");
	MNT_OK(rename(in("edited.tmp"), in("edited")), "edited");
	check_made(2, __LINE__, "write a temporary file, fsync, rename");
	mnt_same_text(then(counted, "edited"), "new");
	mnt_same_text(then(counted - 1, "edited"), "old");
	MNT_CHECK(!there(then(counted, "edited.tmp")), "the temporary name is still there");
}

/* ---- what is not finished ------------------------------------------------------------------------------ */

static void test_an_operation_on_the_name_of_a_new_file_commits_it_first(void)
{
	int fd;

	MNT_OK(mkdir(in("early"), 0755), "early");
	count_from_here();
	fd = create("early/a");
	MNT_OK(write_text(fd, "a"), "early/a");
	MAKES(2, rename(in("early/a"), in("early/b")));
	mnt_same_text(then(counted - 1, "early/a"), "a");
	mnt_same_text(then(counted, "early/b"), "a");
	MAKES(0, close(fd));

	/* A directory that must see it settled. */
	fd = create("early/c");
	MNT_OK(write_text(fd, "c"), "early/c");
	MAKES(2, rename(in("early"), in("late")));
	mnt_same_text(then(counted - 1, "early/c"), "c");
	mnt_same_text(then(counted, "late/c"), "c");
	MNT_OK(write_text(fd, "c"), "late/c");
	MAKES(1, close(fd));
	mnt_same_text(then(counted, "late/c"), "cc");

	fd = create("late/d");
	MNT_OK(write_text(fd, "d"), "late/d");
	MAKES(2, unlink(in("late/d")));
	MNT_OK(close(fd), "late/d");
	MNT_CHECK(!there(in("late/d")), "late/d came again at its close");
	count_from_here();
	fd = create("late/e");
	MNT_FAILS(rmdir(in("late")), ENOTEMPTY, "late");
	MNT_OK(close(fd), "late/e");
	mnt_same_text(in("late/e"), "");
}

static void test_other_changes_show_nothing_of_a_file_being_written(void)
{
	struct tree tree;
	int fresh, old;

	MNT_OK(mkdir(in("busy"), 0755), "busy");
	mnt_write_text(in("busy/old"), "old text");
	count_from_here();
	fresh = create("busy/fresh");
	MNT_OK(write_text(fresh, "fresh"), "busy/fresh");
	old = opened("busy/old", O_WRONLY | O_TRUNC);
	MNT_OK(write_text(old, "half"), "busy/old");
	MAKES(1, mkdir(in("busy/dir"), 0755));
	MNT_CHECK(!there(then(counted, "busy/fresh")), "a file that is not closed is in a revision");
	mnt_same_text(then(counted, "busy/old"), "old text");
	mnt_same_text(in("busy/fresh"), "fresh");
	mnt_same_text(in("busy/old"), "half");
	tree_read(&tree, in("busy"), 0, NULL);
	MNT_CHECK(tree.n == 4, "%zu files are listed in busy", tree.n);
	tree_release(&tree);
	MAKES(1, close(old));
	MAKES(1, close(fresh));
	mnt_same_text(then(counted - 1, "busy/old"), "half");
	MNT_CHECK(!there(then(counted - 1, "busy/fresh")), "busy/fresh is there before its close");
	mnt_same_text(then(counted, "busy/fresh"), "fresh");
}

/*
 * The kernel's RELEASE of one descriptor comes while the next has already emptied the file: it must not take
 * that, which nobody has finished, for a change of its own. Several processes, so that RELEASE is late at
 * times, and several writes, so that there is time for it.
 */
static void test_the_end_of_one_descriptor_does_not_commit_what_another_has_begun(void)
{
	enum { WRITERS = 6, TIMES = 300, PIECES = 12 };
	pid_t pids[WRITERS];
	uint64_t first;
	size_t torn = 0;
	struct stat st;

	for (int w = 0; w < WRITERS; w++)
		mnt_write_text(in(mnt_path("again%d", w)), "0");
	count_from_here();
	first = counted;
	for (int w = 0; w < WRITERS; w++) {
		pids[w] = mnt_fork();
		if (pids[w])
			continue;
		for (int i = 0; i < TIMES; i++) {
			int fd = opened(mnt_path("again%d", w), O_WRONLY | O_TRUNC);
			char text[8000];

			memset(text, 'a' + i % 26, sizeof(text));
			for (int k = 0; k < PIECES; k++)
				if (fd < 0 || write(fd, text, sizeof(text)) != sizeof(text))
					_exit(1);
			if (close(fd))
				_exit(1);
		}
		_exit(0);
	}
	for (int w = 0; w < WRITERS; w++)
		MNT_CHECK(mnt_wait(pids[w]) == 0, "writer %d failed", w);
	check_made(WRITERS * TIMES, __LINE__, "rewriting 6 files 300 times each");
	for (uint64_t rev = first + 1; rev <= counted; rev++)
		for (int w = 0; w < WRITERS; w++)
			torn += stat(then(rev, mnt_path("again%d", w)), &st) ||
				(st.st_size != 1 && st.st_size != PIECES * 8000);
	MNT_CHECK(torn == 0, "%zu times a revision shows a size that the file never had at a close", torn);
}

static void test_closing_what_was_only_read_commits_nothing(void)
{
	int reads, writes;

	mnt_write_text(in("read"), "whole");
	reads = opened("read", O_RDONLY);
	writes = opened("read", O_WRONLY | O_TRUNC);
	count_from_here();
	MNT_OK(write_text(writes, "half"), "read");
	MNT_OK(close(reads), "read");
	MNT_OK(mkdir(in("read-dir"), 0755), "read-dir");
	check_made(1, __LINE__, "closing a file that was only read, and a mkdir");
	mnt_same_text(then(counted, "read"), "whole");
	MAKES(1, close(writes));
	mnt_same_text(then(counted, "read"), "half");
}

static void test_a_directory_keeps_the_time_that_was_set_while_a_file_was_new_in_it(void)
{
	struct timespec times[2] = { { 1000000, 1 }, { 2000000, 2 } };
	struct stat st;
	int fd;

	MNT_OK(mkdir(in("timed"), 0755), "timed");
	fd = create("timed/file");
	MNT_OK(write_text(fd, "x"), "timed/file");
	MNT_OK(utimensat(AT_FDCWD, in("timed"), times, 0), "timed");
	MNT_OK(close(fd), "timed/file");
	MNT_OK(stat(in("timed"), &st), "timed");
	MNT_CHECK(st.st_mtim.tv_sec == 2000000 && st.st_mtim.tv_nsec == 2, "live: mtime %lld.%ld",
		  (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	MNT_OK(stat(then(mnt_current(&m), "timed"), &st), "timed");
	MNT_CHECK(st.st_mtim.tv_sec == 2000000 && st.st_mtim.tv_nsec == 2, "in its revision: mtime %lld.%ld",
		  (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

static void test_an_unlinked_file_is_a_file_until_its_last_close(void)
{
	char text[16] = "", value[8];
	struct stat st;
	uint64_t rev;
	int fd;

	fd = create("unlinked");
	MNT_OK(write_text(fd, "before "), "unlinked");
	MNT_OK(fsetxattr(fd, "user.a", "1", 1, 0), "unlinked");
	MNT_OK(fsync(fd), "unlinked");
	rev = mnt_current(&m);
	MNT_OK(unlink(in("unlinked")), "unlinked");
	MNT_OK(write_text(fd, "after "), "unlinked");
	MNT_CHECK(pread(fd, text, sizeof(text), 0) == 13 && !strcmp(text, "before after "), "it reads %s",
		  text);
	MNT_OK(fchmod(fd, 0600), "unlinked");
	MNT_OK(fsetxattr(fd, "user.a", "22", 2, XATTR_REPLACE), "unlinked");
	MNT_CHECK(fgetxattr(fd, "user.a", value, sizeof(value)) == 2, "user.a: %s", strerror(errno));
	MNT_OK(fsetxattr(fd, "user.b", "333", 3, XATTR_CREATE), "unlinked");
	MNT_CHECK(fgetxattr(fd, "user.b", value, sizeof(value)) == 3, "user.b: %s", strerror(errno));
	MNT_OK(ftruncate(fd, 3), "unlinked");
	MNT_OK(fsync(fd), "unlinked");
	MNT_OK(fstat(fd, &st), "unlinked");
	MNT_CHECK(st.st_nlink == 0 && st.st_size == 3 && (st.st_mode & 0777) == 0600,
		  "nlink %lu size %lld mode %o", (unsigned long)st.st_nlink, (long long)st.st_size,
		  st.st_mode);
	mnt_write_text(in("unlinked"), "another");
	MNT_OK(close(fd), "unlinked");
	mnt_same_text(in("unlinked"), "another");
	mnt_same_text(then(rev, "unlinked"), "before ");
	MNT_CHECK(getxattr(then(rev, "unlinked"), "user.a", value, sizeof(value)) == 1, "user.a then");
}

/* ---- asking ------------------------------------------------------------------------------------------- */

static void test_files_tell_their_revision(void)
{
	char text[64], list[256];
	ssize_t n;
	uint64_t made, changed;

	mnt_write_text(in("told"), "one");
	made = mnt_current(&m);
	MNT_CHECK(mnt_rev_of(in("told")) == made, "user.mvccfs.rev is %llu",
		  (unsigned long long)mnt_rev_of(in("told")));
	MNT_OK(mkdir(in("elsewhere"), 0755), "elsewhere");
	MNT_CHECK(mnt_rev_of(in("told")) == made, "it moved with another file's change");
	mnt_write_text(in("told"), "two");
	changed = mnt_current(&m);
	MNT_CHECK(mnt_rev_of(in("told")) == changed, "user.mvccfs.rev is %llu",
		  (unsigned long long)mnt_rev_of(in("told")));
	MNT_CHECK(mnt_rev_of(then(made, "told")) == made, "of then: %llu",
		  (unsigned long long)mnt_rev_of(then(made, "told")));
	n = getxattr(in("told"), "user.mvccfs.create_rev", text, sizeof(text) - 1);
	text[n < 0 ? 0 : n] = 0;
	MNT_CHECK(strtoull(text, NULL, 10) == made, "create_rev is \"%s\"", text);
	MNT_CHECK(listxattr(in("told"), list, sizeof(list)) == 0, "listxattr names them");
	MNT_CHECK(getxattr(mnt_path("%s/@rev/head", m.at), "user.mvccfs.rev", text, sizeof(text)) > 0,
		  "of @rev/head");
	MNT_CHECK(mnt_rev_of(mnt_path("%s/@rev/head~1", in("elsewhere"))) == changed - 1, "of @rev/head~1");
}

static void test_a_revision_can_be_seen_once_it_is_made_and_not_before(void)
{
	for (int i = 0; i < 50; i++) {
		uint64_t next = mnt_current(&m) + 1;
		const char *name = mnt_path("next%d", i);
		struct stat st;

		MNT_FAILS(stat(then(next, ""), &st), ENOENT, "the next revision");
		MNT_FAILS(stat(mnt_path("%s/@rev/head/%s", m.at, name), &st), ENOENT, name);
		mnt_write_text(in(name), name);
		mnt_same_text(then(next, name), name);
		mnt_same_text(mnt_path("%s/@rev/head/%s", m.at, name), name);
		MNT_FAILS(stat(mnt_path("%s/@rev/head~1/%s", m.at, name), &st), ENOENT, name);
	}
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_each_change_of_a_name_is_one_revision),
	UNIT_TEST(test_each_change_of_attributes_is_one_revision),
	UNIT_TEST(test_what_is_refused_makes_none),
	UNIT_TEST(test_a_file_is_one_revision_at_its_close),
	UNIT_TEST(test_a_new_or_emptied_file_without_data_is_one_revision),
	UNIT_TEST(test_what_is_done_to_a_new_file_before_its_close_is_part_of_it),
	UNIT_TEST(test_fsync_commits),
	UNIT_TEST(test_a_mapping_is_committed_by_msync_and_close),
	UNIT_TEST(test_saving_as_editors_do_is_two),
	UNIT_TEST(test_an_operation_on_the_name_of_a_new_file_commits_it_first),
	UNIT_TEST(test_other_changes_show_nothing_of_a_file_being_written),
	UNIT_TEST(test_the_end_of_one_descriptor_does_not_commit_what_another_has_begun),
	UNIT_TEST(test_closing_what_was_only_read_commits_nothing),
	UNIT_TEST(test_a_directory_keeps_the_time_that_was_set_while_a_file_was_new_in_it),
	UNIT_TEST(test_an_unlinked_file_is_a_file_until_its_last_close),
	UNIT_TEST(test_files_tell_their_revision),
	UNIT_TEST(test_a_revision_can_be_seen_once_it_is_made_and_not_before),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { { "revisions", open_mount, close_mount, NULL, NULL, tests },
				  CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
