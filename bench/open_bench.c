/*
 * What opening costs as a database grows: nothing is rebuilt at open, so it must not grow with it.
 *
 *	open_bench make DIR FILES     a database of so many files, of 32 bytes each, a thousand in a directory
 *	open_bench open DIR           opens and closes it; prints "open_us close_us rss_kib"
 */
#include "fs/ns.h"
#include "rocks_backend/rocks.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define FILES_IN_DIR 1000

static void must(int err, const char *what)
{
	if (!err)
		return;
	fprintf(stderr, "open_bench: %s: %s\n", what, mvcc_strerror(err));
	exit(2);
}

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static struct ns *open_ns(const char *dir, bool create)
{
	static struct rocks_options rocks; /* the open engine borrows it */
	struct mvcc_options opt = {
		.dir = dir,
		.engine = rocks_provider(&rocks),
		.create = create,
		.init = ns_init,
		.holder = "open_bench",
	};
	struct ns_options ns_opt = { 0 };
	struct mvcc *db;
	struct ns *ns;

	must(mvcc_open(&opt, &db), dir);
	must(ns_open(db, &ns_opt, &ns), dir);
	return ns;
}

static void close_ns(struct ns *ns)
{
	struct mvcc *db = ns_db(ns);

	must(ns_close(ns), "close");
	must(mvcc_close(db), "close");
}

static void make_file(struct ns *ns, const struct ns_who *who, uint64_t dir, unsigned long i)
{
	struct ns_file *f;
	struct ns_attr attr;
	char text[64];

	snprintf(text, sizeof(text), "file-%08lu", i);
	must(ns_create(ns, who, dir, slice_str(text), S_IFREG | 0644, &f, &attr), text);
	snprintf(text, sizeof(text), "this is file number %011lu\n", i);
	must(ns_file_write(f, who, 0, text, 32), "write");
	must(ns_file_close(f), "close of a file");
}

static void make(const char *path, unsigned long files)
{
	const struct ns_who who = { .comm = "open_bench" };
	struct ns *ns = open_ns(path, true);
	uint64_t dir = NS_ROOT;
	struct ns_attr attr;
	char name[32];

	for (unsigned long i = 0; i < files; i++) {
		if (i % FILES_IN_DIR == 0) {
			snprintf(name, sizeof(name), "dir-%05lu", i / FILES_IN_DIR);
			must(ns_mkdir(ns, &who, NS_ROOT, slice_str(name), S_IFDIR | 0755, &attr), name);
			dir = attr.ino;
		}
		make_file(ns, &who, dir, i);
	}
	close_ns(ns);
}

static long rss_kib(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[256];
	long kib = 0;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "VmRSS: %ld", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
}

static void measure_open(const char *path)
{
	int64_t start = now_us(), opened, closing;
	struct ns *ns = open_ns(path, false);
	struct ns_attr attr;
	long rss;

	must(ns_getattr(ns, NS_ROOT, &attr), "root");
	opened = now_us();
	rss = rss_kib();
	closing = now_us();
	close_ns(ns);
	printf("%" PRId64 " %" PRId64 " %ld\n", opened - start, now_us() - closing, rss);
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "make") == 0)
		make(argv[2], strtoul(argv[3], NULL, 10));
	else if (argc == 3 && strcmp(argv[1], "open") == 0)
		measure_open(argv[2]);
	else {
		fprintf(stderr, "usage: open_bench make DIR FILES | open_bench open DIR\n");
		return 2;
	}
	return 0;
}
