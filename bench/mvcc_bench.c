/*
 * The store as a library, beside RocksDB by itself with the same keys and values. The rows are those of etcd's own
 * benchmarks, and what a store of all revisions is asked besides.
 *
 *	mvcc_bench [--scale X] [--rounds N] [--dir DIR] [--huge] [--list] [PART or PART.ROW]...
 *
 * prints for each figure a line "row TAB title TAB unit TAB round TAB side TAB value", which bench/run makes tables of.
 */
#include "bench/mvcc_bench.h"

#include "rocks_backend/rocks.h"

#include <ftw.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOAD_KEYS_IN_TXN 100

static const struct part {
	const char *name;
	const char *about;
	void (*run)(struct bench *b);
	bool by_name_only;
} parts[] = {
	{ "put", "commits that return before they are on disk", part_put, false },
	{ "durable", "commits that wait for the disk", part_durable, false },
	{ "read", "gets, ranges and scans of the newest state", part_read, false },
	{ "past", "gets and listings of old revisions", part_past, false },
	{ "open", "opening, by number of keys and revisions", part_open, false },
	{ "compact", "giving back the space of history", part_compact, false },
	{ "watch", "telling watchers of changes", part_watch, false },
	{ "lease", "granting, renewing, revoking", part_lease, false },
	{ "contention", "latencies alone, and with all else going on", part_contention, true },
};

/* ---- the run --------------------------------------------------------------------------------- */

static bool begins_with(const char *s, const char *with)
{
	return strncmp(s, with, strlen(with)) == 0;
}

bool bench_row(struct bench *b, const char *row, const char *unit, const char *title)
{
	bool wanted = !*b->chosen;

	for (char *const *chosen = b->chosen; *chosen && !wanted; chosen++)
		wanted = begins_with(row, *chosen);
	b->row = row;
	b->unit = unit;
	b->title = title;
	return wanted;
}

void bench_figure(const struct bench *b, unsigned round, const char *side, double value)
{
	printf("%s\t%s\t%s\t%u\t%s\t%.4f\n", b->row, b->title, b->unit, round, side, value);
	fflush(stdout);
}

uint64_t bench_scaled(const struct bench *b, uint64_t n, uint64_t least)
{
	uint64_t scaled = (uint64_t)((double)n * b->scale);

	return scaled < least ? least : scaled;
}

int64_t bench_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

double bench_since_us(int64_t start_ns)
{
	return (double)(bench_now_ns() - start_ns) / 1000;
}

static char scratch[256]; /* all files of this run; removed at exit */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void bench_remove(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void remove_scratch(void)
{
	if (scratch[0])
		bench_remove(scratch);
}

/* Other threads may be at work, so nothing but our own files is tidied up. */
static void give_up(const char *what, const char *why)
{
	fprintf(stderr, "mvcc_bench: %s: %s\n", what, why);
	remove_scratch();
	_exit(2);
}

void must(int err, const char *what)
{
	if (err)
		give_up(what, mvcc_strerror(err));
}

void must_hold(bool holds, const char *what)
{
	if (!holds)
		give_up(what, "not what it should be");
}

struct path bench_path(const struct bench *b, const char *name)
{
	struct path path;

	snprintf(path.name, sizeof(path.name), "%s/%s", b->dir, name);
	return path;
}

/* ---- inputs ---------------------------------------------------------------------------------- */

uint64_t random_next(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

/* Letters that do not compress well. `len` is a multiple of 8. */
static void fill(char *out, size_t len, uint64_t seed)
{
	for (size_t i = 0; i < len; i += 8) {
		uint64_t x = random_next(&seed);

		for (size_t j = 0; j < 8; j++)
			out[i + j] = (char)('0' + (x >> (8 * j)) % 75);
	}
}

struct slice key_of(struct key *k, uint64_t i)
{
	put_be64((uint8_t *)k->bytes, i);
	fill(k->bytes + 8, KEY_BYTES - 8, i);
	return slice_of(k->bytes, KEY_BYTES);
}

struct slice value_of(struct value *v, uint64_t i, uint64_t version, size_t len)
{
	fill(v->bytes, len, i * 1000003 + version);
	return slice_of(v->bytes, len);
}

/* ---- ours ------------------------------------------------------------------------------------ */

static struct mvcc *store_open_at(const char *dir, uint64_t compact_bytes_per_s)
{
	static struct rocks_options rocks; /* the open engine borrows it */
	const struct mvcc_options opt = {
		.dir = dir,
		.engine = rocks_provider(&rocks),
		.create = true,
		.holder = "mvcc_bench",
		.compact_bytes_per_s = compact_bytes_per_s,
	};
	struct mvcc *db;

	must(mvcc_open(&opt, &db), dir);
	return db;
}

struct mvcc *store_open(const char *dir)
{
	return store_open_at(dir, 0);
}

struct mvcc *store_open_unlimited(const char *dir)
{
	return store_open_at(dir, UINT64_MAX);
}

void store_close(struct mvcc *db)
{
	must(mvcc_close(db), "close");
}

void store_put(struct mvcc *db, struct slice key, struct slice value)
{
	struct mvcc_txn *txn;

	must(mvcc_txn_begin(db, &txn), "begin");
	must(mvcc_txn_put(txn, key, value, NULL, 0), "put");
	must(mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, NULL), "commit");
}

mvcc_rev_t store_load(struct mvcc *db, uint64_t n, uint64_t version)
{
	mvcc_rev_t rev = mvcc_current(db);
	struct key k;
	struct value v;

	for (uint64_t i = 0; i < n;) {
		struct mvcc_txn *txn;
		uint64_t end = i + LOAD_KEYS_IN_TXN < n ? i + LOAD_KEYS_IN_TXN : n;

		must(mvcc_txn_begin(db, &txn), "begin");
		for (; i < end; i++)
			must(mvcc_txn_put(txn, key_of(&k, i), value_of(&v, i, version, VALUE_BYTES), NULL, 0),
			     "put");
		must(mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, &rev), "commit");
	}
	must(mvcc_sync(db, MVCC_REV_LATEST), "sync");
	return rev;
}

void store_expect(struct mvcc_view *view, uint64_t i, uint64_t version)
{
	struct mvcc_item item = { 0 };
	struct key k;
	struct value v;

	must(mvcc_get(view, key_of(&k, i), &item), "get");
	must_hold(slice_eq(item.value, value_of(&v, i, version, VALUE_BYTES)), "a value");
	mvcc_item_release(&item);
}

/* ---- the command line ------------------------------------------------------------------------- */

static bool part_wanted(const struct bench *b, const struct part *part)
{
	if (!*b->chosen)
		return !part->by_name_only;
	for (char *const *name = b->chosen; *name; name++)
		if (begins_with(*name, part->name))
			return true;
	return false;
}

static void list_parts(void)
{
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		printf("%-12s %s%s\n", parts[i].name, parts[i].about,
		       parts[i].by_name_only ? " (only when named)" : "");
}

static int usage(FILE *out)
{
	fprintf(out, "usage: mvcc_bench [--scale X] [--rounds N] [--dir DIR] [--huge] [--list] [PART or "
		     "PART.ROW]...\n");
	return out == stdout ? 0 : 2;
}

static void make_scratch(const char *base)
{
	if (!base || !*base)
		base = getenv("TMPDIR");
	snprintf(scratch, sizeof(scratch), "%.200s/mvcc-bench-XXXXXX", base && *base ? base : "/tmp");
	if (!mkdtemp(scratch)) {
		perror(scratch);
		exit(2);
	}
	atexit(remove_scratch);
}

static int run_parts(struct bench *b)
{
	unsigned ran = 0;

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (!part_wanted(b, &parts[i]))
			continue;
		snprintf(b->dir, sizeof(b->dir), "%.230s/%s", scratch, parts[i].name);
		must_hold(mkdir(b->dir, 0700) == 0, b->dir);
		parts[i].run(b);
		bench_remove(b->dir);
		ran++;
	}
	if (!ran)
		fprintf(stderr, "mvcc_bench: nothing of that name; --list tells what there is\n");
	return ran ? 0 : 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "scale", required_argument, NULL, 's' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "dir", required_argument, NULL, 'd' },
		{ "huge", no_argument, NULL, 'H' },
		{ "list", no_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct bench b = { .scale = 1, .rounds = 5 };
	const char *dir = NULL;
	int c;

	if (argc == 4 && strcmp(argv[1], "open-once") == 0)
		return open_once(argv[2], argv[3]);
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 's':
			b.scale = strtod(optarg, NULL);
			break;
		case 'r':
			b.rounds = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'd':
			dir = optarg;
			break;
		case 'H':
			b.huge = true;
			break;
		case 'l':
			list_parts();
			return 0;
		default:
			return usage(c == 'h' ? stdout : stderr);
		}
	}
	if (!(b.scale > 0) || !b.rounds)
		return usage(stderr);
	b.chosen = argv + optind;
	make_scratch(dir);
	return run_parts(&b);
}
