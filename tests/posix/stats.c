/* stat(2), statx(2), statvfs(3), pathconf(3), file handles. */
#include "tests/posix/posix.h"

#include <sys/statvfs.h>

static void test_what_stat_tells_of_a_file(void)
{
	struct stat st;

	make_file("f", 0640, "content");
	st = stat_of("f");
	HOLDS(S_ISREG(st.st_mode));
	SAME(0640, st.st_mode & 07777);
	SAME(7, st.st_size);
	SAME(1, st.st_nlink);
	SAME(geteuid(), st.st_uid);
	SAME(0, st.st_rdev);
	HOLDS(st.st_ino > 0);
	HOLDS(st.st_blksize >= 512);
	SAME(stat_of(".").st_dev, st.st_dev);
}

static void test_every_inode_has_a_number_of_its_own(void)
{
	enum { N = 200 };
	ino_t inos[N];
	unsigned same = 0;
	char name[16];

	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		WORKS(i % 2 ? mkdir(name, 0755) : mknod(name, S_IFREG | 0644, 0));
		inos[i] = lstat_of(name).st_ino;
	}
	for (int i = 0; i < N; i++)
		for (int j = 0; j < i; j++)
			same += inos[i] == inos[j];
	SAME(0, same);
}

static void test_a_number_stays(void)
{
	ino_t ino;

	make_file("f", 0644, "x");
	ino = stat_of("f").st_ino;
	WORKS(chmod("f", 0600));
	WORKS(truncate("f", 100));
	WORKS(rename("f", "g"));
	WORKS(link("g", "h"));
	WORKS(unlink("g"));
	SAME(ino, stat_of("h").st_ino);
}

static void test_by_descriptor_by_path_and_by_statx_it_is_the_same(void)
{
	struct stat a, b;
	struct statx x;
	int fd;

	make_file("f", 0640, "content");
	WORKS(link("f", "g"));
	a = stat_of("f");
	fd = open("g", O_RDONLY | O_CLOEXEC);
	WORKS(fstat(fd, &b));
	HOLDS(memcmp(&a.st_mtim, &b.st_mtim, sizeof(a.st_mtim)) == 0);
	SAME(a.st_ino, b.st_ino);
	SAME(a.st_size, b.st_size);
	SAME(a.st_mode, b.st_mode);
	SAME(2, b.st_nlink);
	WORKS(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &x));
	SAME(STATX_BASIC_STATS, x.stx_mask & STATX_BASIC_STATS);
	SAME(a.st_ino, x.stx_ino);
	SAME(a.st_size, x.stx_size);
	SAME(a.st_mode, x.stx_mode);
	SAME(a.st_blocks, x.stx_blocks);
	SAME(a.st_mtim.tv_sec, x.stx_mtime.tv_sec);
	SAME(a.st_mtim.tv_nsec, x.stx_mtime.tv_nsec);
	WORKS(close(fd));
	FAILS(EBADF, fstat(fd, &b));
	FAILS(EINVAL, statx(AT_FDCWD, "f", 0x100000, STATX_BASIC_STATS, &x));
}

static void test_lstat_looks_at_the_link(void)
{
	make_file("f", 0644, "content");
	WORKS(symlink("f", "l"));
	HOLDS(S_ISLNK(lstat_of("l").st_mode));
	HOLDS(S_ISREG(stat_of("l").st_mode));
	SAME(1, lstat_of("l").st_size);
	SAME(7, stat_of("l").st_size);
	HOLDS(lstat_of("l").st_ino != stat_of("l").st_ino);
}

static void test_blocks_count_what_is_stored(void)
{
	char *data = calloc(1, 1 << 20);
	int fd = open("f", O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	memset(data, 'x', 1 << 20);
	SAME(0, stat_of("f").st_blocks);
	SAME(1 << 20, write(fd, data, 1 << 20));
	WORKS(fsync(fd));
	HOLDS(stat_of("f").st_blocks >= 2048);
	HOLDS(stat_of("f").st_blocks < 2048 + 64);
	WORKS(close(fd));
	free(data);
}

static void test_statvfs(void)
{
	struct statvfs st, by_fd;
	int fd;

	make_file("f", 0644, "x");
	WORKS(statvfs(".", &st));
	HOLDS(st.f_bsize > 0);
	HOLDS(st.f_frsize > 0);
	HOLDS(st.f_blocks > 0);
	HOLDS(st.f_bfree <= st.f_blocks);
	HOLDS(st.f_bavail <= st.f_bfree);
	HOLDS(st.f_ffree <= st.f_files);
	SAME(NAME_MAX, st.f_namemax);
	fd = open("f", O_RDONLY | O_CLOEXEC);
	WORKS(fstatvfs(fd, &by_fd));
	SAME(st.f_blocks, by_fd.f_blocks);
	SAME(st.f_frsize, by_fd.f_frsize);
	WORKS(close(fd));
	FAILS(EBADF, fstatvfs(fd, &by_fd));
}

static void test_limits_by_pathconf(void)
{
	make_file("f", 0644, "x");
	SAME(NAME_MAX, pathconf(".", _PC_NAME_MAX));
	SAME(PATH_MAX, pathconf(".", _PC_PATH_MAX));
	HOLDS(pathconf("f", _PC_LINK_MAX) >= 8);
	SAME(1, pathconf("f", _PC_NO_TRUNC));
	HOLDS(pathconf("f", _PC_CHOWN_RESTRICTED) > 0);
	FAILS(ENOENT, pathconf("none", _PC_LINK_MAX));
}

static void test_handles_find_a_file_again(void)
{
	struct {
		struct file_handle h;
		unsigned char bytes[MAX_HANDLE_SZ];
	} file = { .h.handle_bytes = MAX_HANDLE_SZ }, dir = { .h.handle_bytes = MAX_HANDLE_SZ },
	  small = { .h.handle_bytes = 0 };
	int mount_id, at, fd;
	char got[8] = "";

	if (!need(F_HANDLES))
		return;
	make_dir("d", 0755);
	make_dir("d/sub", 0755);
	make_file("d/sub/f", 0644, "content");
	FAILS(EOVERFLOW, name_to_handle_at(AT_FDCWD, "d/sub/f", &small.h, &mount_id, 0));
	WORKS(name_to_handle_at(AT_FDCWD, "d/sub/f", &file.h, &mount_id, 0));
	WORKS(name_to_handle_at(AT_FDCWD, "d/sub", &dir.h, &mount_id, 0));
	at = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	WORKS(rename("d/sub/f", "g"));
	fd = open_by_handle_at(at, &file.h, O_RDONLY | O_CLOEXEC);
	HOLDS(fd >= 0);
	SAME(7, read(fd, got, sizeof(got)));
	close(fd);
	fd = open_by_handle_at(at, &dir.h, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	HOLDS(fd >= 0);
	close(fd);
	WORKS(unlink("g"));
	make_file("g", 0644, "another");
	FAILS(ESTALE, open_by_handle_at(at, &file.h, O_RDONLY | O_CLOEXEC));
	WORKS(rmdir("d/sub"));
	FAILS(ESTALE, open_by_handle_at(at, &dir.h, O_RDONLY | O_CLOEXEC));
	WORKS(close(at));
}

static void test_where_one_is(void)
{
	char path[PATH_MAX], wanted[PATH_MAX + 16];

	make_dir("a", 0755);
	make_dir("a/b", 0755);
	WORKS(chdir("a/b"));
	HOLDS(getcwd(path, sizeof(path)) != NULL);
	HOLDS(strlen(path) > 4 && strcmp(path + strlen(path) - 4, "/a/b") == 0);
	WORKS(rename("../../a", "../../c"));
	HOLDS(getcwd(path, sizeof(path)) != NULL);
	HOLDS(strcmp(path + strlen(path) - 4, "/c/b") == 0);
	snprintf(wanted, sizeof(wanted), "%s", path);
	HOLDS(realpath("../../c/./b/../b", path) != NULL);
	SAME(0, strcmp(path, wanted));
	WORKS(chdir("../.."));
}

CU_TestInfo stat_tests[] = {
	UNIT_TEST(test_what_stat_tells_of_a_file),
	UNIT_TEST(test_every_inode_has_a_number_of_its_own),
	UNIT_TEST(test_a_number_stays),
	UNIT_TEST(test_by_descriptor_by_path_and_by_statx_it_is_the_same),
	UNIT_TEST(test_lstat_looks_at_the_link),
	UNIT_TEST(test_blocks_count_what_is_stored),
	UNIT_TEST(test_statvfs),
	UNIT_TEST(test_limits_by_pathconf),
	UNIT_TEST(test_handles_find_a_file_again),
	UNIT_TEST(test_where_one_is),
	CU_TEST_INFO_NULL,
};
