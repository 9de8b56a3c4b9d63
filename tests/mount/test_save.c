/*
 * Editors save by writing a new file and renaming it over the old. Readers that open the name meanwhile must
 * find one of the two, whole, every single time: not one ENOENT, and never an older state after a newer one.
 */
#include "tests/mount/mount_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define READERS 8
#define SAVES 1500
#define TEXT_MAX 20000

struct shared {
	atomic_bool stop;
	atomic_ulong reads[READERS];
	char error[READERS][256];
};

/* State number n of the file: n itself, then bytes that n determines, in a length that changes. */
static size_t state_text(unsigned long n, char *out)
{
	size_t len = 8 + (n * 7919) % (TEXT_MAX - 8);

	memcpy(out, &(uint64_t){ n }, 8);
	mnt_pattern(n, 0, out + 8, len - 8);
	return len;
}

/* Reads the file at `path`, once. Returns false with a message in `error` if it is not what it must be. */
static bool read_once(const char *path, unsigned long *newest, char error[256])
{
	char got[TEXT_MAX + 1], want[TEXT_MAX];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t n;
	ssize_t len;
	struct stat st;

	if (fd < 0) {
		snprintf(error, 256, "open after state %lu: %s", *newest, strerror(errno));
		return false;
	}
	len = read(fd, got, sizeof(got));
	if (len < 8 || fstat(fd, &st)) {
		snprintf(error, 256, "read after state %lu: %zd bytes", *newest, len);
		close(fd);
		return false;
	}
	close(fd);
	memcpy(&n, got, 8);
	if ((size_t)len != state_text(n, want) || memcmp(got, want, (size_t)len)) {
		snprintf(error, 256, "state %llu after %lu: %zd bytes, or other ones", (unsigned long long)n,
			 *newest, len);
		return false;
	}
	if (n < *newest || st.st_size != len) {
		snprintf(error, 256, "state %llu of size %lld after %lu", (unsigned long long)n,
			 (long long)st.st_size, *newest);
		return false;
	}
	*newest = n;
	return true;
}

static _Noreturn void reader(struct shared *shared, unsigned i, const char *path)
{
	unsigned long newest = 0;

	while (!atomic_load(&shared->stop)) {
		if (!read_once(path, &newest, shared->error[i]))
			_exit(1);
		atomic_fetch_add(&shared->reads[i], 1);
	}
	_exit(0);
}

/* vim: a temporary name beside, fsync, rename. emacs: the same, under the name of its lock or backup. */
static bool save(const char *dir, const char *path, unsigned long n)
{
	char temp[400], text[TEXT_MAX];
	size_t len = state_text(n, text);
	int fd;

	snprintf(temp, sizeof(temp), n % 2 ? "%s/.file.swp%lu" : "%s/file~%lu", dir, n % 4);
	fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (!MNT_OK(fd, temp))
		return false;
	MNT_CHECK(write(fd, text, len) == (ssize_t)len, "%s: %s", temp, strerror(errno));
	/* Now and then: a disk waits long for each. */
	if (n % 50 == 0)
		MNT_OK(fsync(fd), temp);
	return MNT_OK(close(fd), temp) && MNT_OK(rename(temp, path), temp);
}

static void save_while_others_read(bool links)
{
	struct shared *shared =
		mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned long saves = mnt_env("MVCCFS_TEST_SAVES", SAVES), reads = 0, newest = 0;
	char text[TEXT_MAX], error[256];
	const char *dir, *path;
	pid_t pids[READERS];
	struct mnt m;
	uint64_t before;

	mnt_init(&m, NULL);
	dir = mnt_path("%s/dir", m.at);
	path = mnt_path("%s/file", dir);
	MNT_OK(mkdir(dir, 0755), dir);
	mnt_write_file(path, text, state_text(0, text));
	for (unsigned i = 0; i < READERS; i++) {
		pids[i] = mnt_fork();
		if (!pids[i])
			reader(shared, i, path);
	}
	before = mnt_current(&m);
	for (unsigned long n = 1; n <= saves; n++) {
		if (links)
			/* A second name for the old state, as backups are made: its inode lives on. */
			MNT_OK(link(path, mnt_path("%s/backup%lu", dir, n)), "link");
		if (!save(dir, path, n))
			break;
	}
	atomic_store(&shared->stop, true);
	for (unsigned i = 0; i < READERS; i++) {
		int status = mnt_wait(pids[i]);

		MNT_CHECK(status == 0, "reader %u: exit %d: %s", i, status, shared->error[i]);
		reads += atomic_load(&shared->reads[i]);
	}
	MNT_CHECK(reads > saves / 10, "%lu reads of %lu saves", reads, saves);
	MNT_CHECK(read_once(path, &newest, error) && newest == saves, "the file holds state %lu of %lu",
		  newest, saves);
	MNT_CHECK(mnt_current(&m) == before + (links ? 3 : 2) * saves, "%llu revisions of %lu saves",
		  (unsigned long long)(mnt_current(&m) - before), saves);
	/* In history too, every state is one or the other, in order. */
	for (unsigned long n = 1; n <= saves; n += 100) {
		uint64_t rev = before + (links ? 3 : 2) * n;

		newest = 0;
		MNT_CHECK(read_once(mnt_path("%s/@rev/%llu/file", dir, (unsigned long long)rev), &newest,
				    error) &&
				  newest == n,
			  "revision %llu holds state %lu, not %lu", (unsigned long long)rev, newest, n);
		newest = 0;
		MNT_CHECK(read_once(mnt_path("%s/@rev/%llu/file", dir, (unsigned long long)rev - 1), &newest,
				    error) &&
				  newest == n - 1,
			  "revision %llu holds state %lu, not %lu", (unsigned long long)rev - 1, newest,
			  n - 1);
	}
	printf("%lu saves, %lu reads ", saves, reads);
	mnt_release(&m);
	munmap(shared, sizeof(*shared));
}

static void test_a_reader_finds_the_file_at_every_moment_of_a_save(void)
{
	save_while_others_read(false);
}

static void test_the_same_while_the_old_states_keep_a_name(void)
{
	save_while_others_read(true);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_a_reader_finds_the_file_at_every_moment_of_a_save),
	UNIT_TEST(test_the_same_while_the_old_states_keep_a_name),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("save", NULL, NULL, tests), CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
