/* readdir(3), telldir(3), seekdir(3): complete, each entry once, also while entries come and go. */
#include "tests/posix/posix.h"

#include <sys/syscall.h>

enum { MANY = 2000 };

static void fill(unsigned n)
{
	char name[64];
	unsigned bad = 0;

	WORKS(mkdir("d", 0755));
	for (unsigned i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "d/entry_%06u", i);
		bad += mknod(name, S_IFREG | 0644, 0) != 0;
	}
	SAME(0, bad);
}

/* The number in a name, or MANY for any other. */
static unsigned number_of(const char *name)
{
	return strncmp(name, "entry_", 6) == 0 ? (unsigned)strtoul(name + 6, NULL, 10) : MANY;
}

static void test_every_kind_is_listed_with_its_type(void)
{
	static const struct {
		const char *name;
		unsigned char type;
	} wanted[] = { { "f", DT_REG },  { "d", DT_DIR }, { "l", DT_LNK },
		       { "p", DT_FIFO }, { ".", DT_DIR }, { "..", DT_DIR } };
	unsigned seen = 0;
	struct dirent *e;
	DIR *dir;

	make_file("f", 0644, "x");
	make_dir("d", 0755);
	WORKS(symlink("f", "l"));
	WORKS(mkfifo("p", 0644));
	dir = opendir(".");
	HOLDS(dir != NULL);
	while ((e = readdir(dir))) {
		for (size_t i = 0; i < 6; i++) {
			if (strcmp(e->d_name, wanted[i].name) != 0)
				continue;
			seen |= 1U << i;
			HOLDS(e->d_type == wanted[i].type || e->d_type == DT_UNKNOWN);
			if (strcmp(e->d_name, "..") != 0)
				SAME(lstat_of(e->d_name).st_ino, e->d_ino);
		}
	}
	SAME(63, seen);
	closedir(dir);
}

static void test_every_entry_once(void)
{
	static unsigned char seen[MANY + 1];
	unsigned n = 0, wrong = 0;
	struct dirent *e;
	DIR *dir;

	memset(seen, 0, sizeof(seen));
	fill(MANY);
	dir = opendir("d");
	while ((e = readdir(dir))) {
		wrong += number_of(e->d_name) < MANY && seen[number_of(e->d_name)]++;
		n++;
	}
	SAME(MANY + 2, n);
	SAME(0, wrong);
	/* And again from the beginning. */
	rewinddir(dir);
	n = 0;
	while (readdir(dir))
		n++;
	SAME(MANY + 2, n);
	closedir(dir);
}

static void test_going_back_to_a_place(void)
{
	static long places[MANY + 8];
	static char names[MANY + 8][32];
	unsigned n = 0, wrong = 0;
	struct dirent *e;
	DIR *dir;

	fill(MANY);
	dir = opendir("d");
	for (;;) {
		places[n] = telldir(dir);
		e = readdir(dir);
		if (!e)
			break;
		snprintf(names[n++], sizeof(names[0]), "%.31s", e->d_name);
	}
	SAME(MANY + 2, n);
	for (unsigned i = 0; i < 300; i++) {
		unsigned at = (i * 7919 + 13) % n;

		seekdir(dir, places[at]);
		e = readdir(dir);
		wrong += !e || strcmp(e->d_name, names[at]) != 0;
	}
	SAME(0, wrong);
	seekdir(dir, places[n]);
	HOLDS(readdir(dir) == NULL);
	seekdir(dir, places[0]);
	HOLDS(readdir(dir) != NULL);
	closedir(dir);
}

/* What was there all the time is listed once, whatever else comes and goes. */
static void test_entries_removed_while_listing(void)
{
	static unsigned char seen[MANY + 1];
	unsigned wrong = 0, missing = 0;
	char name[64];
	struct dirent *e;
	unsigned n = 0;
	DIR *dir;

	memset(seen, 0, sizeof(seen));
	fill(MANY);
	dir = opendir("d");
	while ((e = readdir(dir))) {
		unsigned i = number_of(e->d_name);

		wrong += i < MANY && seen[i]++;
		if (n++ % 100 == 50)
			for (unsigned j = (n * 17) % MANY / 3 * 3; j < MANY; j += 300) {
				snprintf(name, sizeof(name), "d/entry_%06u", j); /* every third may go */
				unlink(name);
			}
	}
	for (unsigned i = 0; i < MANY; i++)
		missing += i % 3 && !seen[i];
	SAME(0, wrong);
	SAME(0, missing);
	closedir(dir);
}

static void test_entries_made_while_listing(void)
{
	static unsigned char seen[MANY + 1];
	unsigned wrong = 0, missing = 0, made = 0;
	char name[64];
	struct dirent *e;
	DIR *dir;

	memset(seen, 0, sizeof(seen));
	fill(MANY);
	dir = opendir("d");
	while ((e = readdir(dir))) {
		unsigned i = number_of(e->d_name);

		wrong += i < MANY && seen[i]++;
		if (made < 500) {
			snprintf(name, sizeof(name), "d/%s_%u", made % 2 ? "aaa" : "zzz", made);
			wrong += mknod(name, S_IFREG | 0644, 0) != 0;
			made++;
		}
	}
	for (unsigned i = 0; i < MANY; i++)
		missing += !seen[i];
	SAME(0, wrong);
	SAME(0, missing);
	closedir(dir);
	SAME(MANY + 500, count_entries("d"));
}

static void test_removing_what_is_listed(void)
{
	struct dirent *e;
	char name[300];
	unsigned bad = 0;
	DIR *dir;

	fill(MANY);
	dir = opendir("d");
	while ((e = readdir(dir))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "d/%s", e->d_name);
		bad += unlink(name) != 0;
	}
	SAME(0, bad);
	closedir(dir);
	SAME(0, count_entries("d"));
	WORKS(rmdir("d"));
}

static void test_renaming_what_is_listed(void)
{
	struct dirent *e;
	char from[300], to[300];
	unsigned n = 0, bad = 0;
	DIR *dir;

	fill(500);
	dir = opendir("d");
	while ((e = readdir(dir)) && n < 5000) {
		if (strncmp(e->d_name, "entry_", 6) != 0)
			continue;
		snprintf(from, sizeof(from), "d/%s", e->d_name);
		snprintf(to, sizeof(to), "d/renamed_%s", e->d_name);
		bad += rename(from, to) != 0;
		n++;
	}
	SAME(500, n);
	SAME(0, bad);
	closedir(dir);
	SAME(500, count_entries("d"));
}

static void test_a_rewound_listing_is_new(void)
{
	unsigned n = 0;
	DIR *dir;

	make_dir("d", 0755);
	make_file("d/a", 0644, "x");
	dir = opendir("d");
	while (readdir(dir))
		n++;
	SAME(3, n);
	make_file("d/b", 0644, "x");
	WORKS(unlink("d/a"));
	make_file("d/c", 0644, "x");
	rewinddir(dir);
	n = 0;
	while (readdir(dir))
		n++;
	SAME(4, n);
	closedir(dir);
}

static void test_two_listings_do_not_disturb_each_other(void)
{
	unsigned a = 0, b = 0;
	DIR *one, *two;

	fill(500);
	one = opendir("d");
	two = opendir("d");
	for (;;) {
		bool more = readdir(one) != NULL;

		a += more;
		if (a % 3 == 0 && readdir(two))
			b++;
		if (!more)
			break;
	}
	while (readdir(two))
		b++;
	SAME(502, a);
	SAME(502, b);
	closedir(one);
	closedir(two);
}

static void test_buffers_of_every_size(void)
{
	static const size_t sizes[] = { 300, 512, 1024, 4096, 32768 };
	static char buffer[32768];

	fill(200);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int fd = open("d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		unsigned n = 0;
		long got;

		while ((got = syscall(SYS_getdents64, fd, buffer, sizes[i])) > 0)
			for (long at = 0; at < got; n++) {
				unsigned short len;

				memcpy(&len, buffer + at + 16, sizeof(len)); /* d_reclen */
				at += len;
			}
		SAME(0, got);
		SAME(202, n);
		FAILS(EINVAL, lseek(fd, 0, SEEK_SET) == 0 ? syscall(SYS_getdents64, fd, buffer, 10) : 0);
		WORKS(close(fd));
	}
	make_file("f", 0644, "x");
	{
		int fd = open("f", O_RDONLY | O_CLOEXEC);

		FAILS(ENOTDIR, syscall(SYS_getdents64, fd, buffer, sizeof(buffer)));
		WORKS(close(fd));
	}
}

static void test_long_names_are_listed_whole(void)
{
	char name[NAME_MAX + 1];
	unsigned n = 0, wrong = 0;
	struct dirent *e;
	DIR *dir;

	make_dir("d", 0755);
	WORKS(chdir("d"));
	for (int i = 0; i < 50; i++) {
		memset(name, 'a' + i % 26, NAME_MAX);
		snprintf(name + NAME_MAX - 3, 4, "%03d", i);
		WORKS(mknod(name, S_IFREG | 0644, 0));
	}
	dir = opendir(".");
	while ((e = readdir(dir))) {
		if (e->d_name[0] == '.')
			continue;
		wrong += strlen(e->d_name) != NAME_MAX;
		n++;
	}
	SAME(50, n);
	SAME(0, wrong);
	closedir(dir);
	WORKS(chdir(".."));
}

CU_TestInfo listing_tests[] = {
	UNIT_TEST(test_every_kind_is_listed_with_its_type),
	UNIT_TEST(test_every_entry_once),
	UNIT_TEST(test_going_back_to_a_place),
	UNIT_TEST(test_entries_removed_while_listing),
	UNIT_TEST(test_entries_made_while_listing),
	UNIT_TEST(test_removing_what_is_listed),
	UNIT_TEST(test_renaming_what_is_listed),
	UNIT_TEST(test_a_rewound_listing_is_new),
	UNIT_TEST(test_two_listings_do_not_disturb_each_other),
	UNIT_TEST(test_buffers_of_every_size),
	UNIT_TEST(test_long_names_are_listed_whole),
	CU_TEST_INFO_NULL,
};
