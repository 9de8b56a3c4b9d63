/*
 * Operations on small files, by system calls, in any directory: bench/run compares a mount with the disk
 * below it.
 *
 *	small_bench DIR FILES BYTES         prints "OPERATION nanoseconds-each", a line an operation
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CONTENT_MAX 65536

static char content[CONTENT_MAX];
static size_t bytes; /* of a file; what is appended comes to as much again */

static void must(int res, const char *what)
{
	if (res >= 0)
		return;
	fprintf(stderr, "small_bench: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void name_of(char out[32], unsigned long i)
{
	snprintf(out, 32, "f%06lu", i);
}

static void write_file(unsigned long i, int flags)
{
	char name[32];
	int fd;

	name_of(name, i);
	fd = open(name, O_WRONLY | flags, 0644);
	must(fd, name);
	if (write(fd, content, bytes) != (ssize_t)bytes)
		must(-1, "write");
	must(close(fd), "close");
}

static void create_one(unsigned long i)
{
	write_file(i, O_CREAT | O_EXCL);
}

static void overwrite_one(unsigned long i)
{
	write_file(i, O_TRUNC);
}

static void append_one(unsigned long i)
{
	write_file(i, O_APPEND);
}

static void stat_one(unsigned long i)
{
	char name[32];
	struct stat st;

	name_of(name, i);
	must(stat(name, &st), name);
}

static void read_one(unsigned long i)
{
	char name[32];
	int fd;

	name_of(name, i);
	fd = open(name, O_RDONLY);
	must(fd, name);
	if (read(fd, content, bytes) != (ssize_t)bytes)
		must(-1, "read");
	must(close(fd), "close");
}

/* Of each name its share: the first one has them all listed. */
static void list_one(unsigned long i)
{
	const struct dirent *e;
	DIR *dir;

	if (i > 0)
		return;
	dir = opendir(".");
	must(dir ? 0 : -1, "opendir");
	do {
		errno = 0;
		e = readdir(dir);
	} while (e);
	must(errno ? -1 : 0, "readdir");
	must(closedir(dir), "closedir");
}

static void chmod_one(unsigned long i)
{
	char name[32];

	name_of(name, i);
	must(chmod(name, 0600), name);
}

static void rename_one(unsigned long i)
{
	char name[32], other[40];

	name_of(name, i);
	snprintf(other, sizeof(other), "r%s", name);
	must(rename(name, other), name);
}

static void unlink_one(unsigned long i)
{
	char name[32], other[40];

	name_of(name, i);
	snprintf(other, sizeof(other), "r%s", name);
	must(unlink(other), other);
}

static void mkdir_one(unsigned long i)
{
	char name[32];

	name_of(name, i);
	must(mkdir(name, 0755), name);
}

static void rmdir_one(unsigned long i)
{
	char name[32];

	name_of(name, i);
	must(rmdir(name), name);
}

static const struct {
	const char *name;
	void (*one)(unsigned long i);
} operations[] = {
	{ "create-write-close", create_one },
	{ "overwrite", overwrite_one },
	{ "append", append_one },
	{ "stat", stat_one },
	{ "open-read", read_one },
	{ "list, each name", list_one },
	{ "chmod", chmod_one },
	{ "rename", rename_one },
	{ "unlink", unlink_one },
	{ "mkdir", mkdir_one },
	{ "rmdir", rmdir_one },
};

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int main(int argc, char **argv)
{
	unsigned long files = argc == 4 ? strtoul(argv[2], NULL, 10) : 0;

	bytes = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;
	if (!files || !bytes || bytes > CONTENT_MAX) {
		fprintf(stderr, "usage: small_bench DIR FILES BYTES\n");
		return 2;
	}
	must(chdir(argv[1]), argv[1]);
	memset(content, 'x', sizeof(content));
	for (size_t op = 0; op < sizeof(operations) / sizeof(operations[0]); op++) {
		int64_t start = now_ns();

		for (unsigned long i = 0; i < files; i++)
			operations[op].one(i);
		printf("%s\t%lld\n", operations[op].name, (long long)((now_ns() - start) / (int64_t)files));
	}
	return 0;
}
