/*
 * kill -9 at random moments under load, again and again on one database.
 *
 * Each writer follows a plan that its seed determines: operation k of it is known without looking. It
 * counts in shared memory the operations that have returned (the acknowledged ones), so after the kill
 * the test knows the least that must be there, and that at most one operation more may be. As each
 * operation is one revision, the test can also take any revision r of the round and ask for the state of
 * every writer: it must be that after k operations for some k, whole, and the k of all writers must add
 * up to r. So nothing is torn, nothing is reordered, and no revision shows what is not finished.
 *
 * Beside the writers run: one that makes empty files (which the kernel ends after close(2) has returned),
 * a file written and not closed, a file created and not closed, and an unlinked one still open.
 *
 *	MVCCFS_TEST_SEED    repeats plans and moments, as far as a scheduler can be repeated
 *	MVCCFS_TEST_ROUNDS  kills (50)
 */
#include "tests/mount/mount_fixture.h"
#include "tests/mount/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define WRITERS 4
#define FILES 20      /* names a writer uses */
#define SEGMENTS 6    /* appends that a file takes before it is written anew */
#define KEEP_ROUNDS 3 /* directories of older rounds are removed */
#define PIECE ((size_t)48 << 10)
#define REVISIONS 6     /* looked at in each round */
#define LATE_RELEASES 4 /* closes that others may overtake */

/* ---- the plan -------------------------------------------------------------------------------------- */

struct content {
	unsigned n;
	struct {
		uint64_t seed;
		size_t len;
	} segment[SEGMENTS];
};

struct plan_file {
	bool exists;
	mode_t mode;
	struct content content;
};

/* A writer's directory after `done` operations. */
struct plan {
	uint64_t random;
	unsigned long done;
	struct plan_file files[FILES];
	struct plan_file held; /* "held": open all the time, each write fsynced */
	unsigned long ndirs;   /* "d1" to "dN" */
};

enum verb { WRITE, APPEND, RENAME, UNLINK, MKDIR, CHMOD, HELD };

struct op {
	enum verb verb;
	unsigned a, b; /* numbers of files */
	mode_t mode;
	uint64_t seed;
	size_t len;
};

static size_t plan_len(uint64_t *random)
{
	uint64_t r = mnt_random(random) % 100;

	if (r < 70)
		return 1 + mnt_random(random) % 8192;
	if (r < 90)
		return 1 + mnt_random(random) % 100000;
	if (r < 99)
		return 1 + mnt_random(random) % 600000;
	return 1 + mnt_random(random) % (3 << 20);
}

static size_t content_size(const struct content *c)
{
	size_t size = 0;

	for (unsigned i = 0; i < c->n; i++)
		size += c->segment[i].len;
	return size;
}

static void content_add(struct content *c, const struct op *op)
{
	c->segment[c->n].seed = op->seed;
	c->segment[c->n].len = op->len;
	c->n++;
}

static void plan_init(struct plan *p, uint64_t seed)
{
	memset(p, 0, sizeof(*p));
	p->random = seed * UINT64_C(0x9E3779B97F4A7C15) | 1;
	p->held.exists = true;
	p->held.mode = S_IFREG | 0644;
	p->held.content.n = 1;
	p->held.content.segment[0].seed = seed;
	p->held.content.segment[0].len = 5;
}

/* The next operation, and the state after it. */
static void plan_next(struct plan *p, struct op *op)
{
	static const enum verb verbs[] = { WRITE,  WRITE,  WRITE,  WRITE,  WRITE,  WRITE,  WRITE,
					   APPEND, APPEND, APPEND, RENAME, RENAME, RENAME, UNLINK,
					   UNLINK, MKDIR,  CHMOD,  HELD,   HELD };
	struct plan_file *a, *b;

	memset(op, 0, sizeof(*op));
	op->verb = verbs[mnt_random(&p->random) % (sizeof(verbs) / sizeof(*verbs))];
	op->a = (unsigned)(mnt_random(&p->random) % FILES);
	op->b = (op->a + 1 + (unsigned)(mnt_random(&p->random) % (FILES - 1))) % FILES;
	op->seed = mnt_random(&p->random);
	op->len = plan_len(&p->random);
	a = &p->files[op->a];
	b = &p->files[op->b];
	op->mode = (a->mode & 0777) == 0600 ? 0640 : 0600;
	if (!a->exists &&
	    (op->verb == APPEND || op->verb == RENAME || op->verb == UNLINK || op->verb == CHMOD))
		op->verb = WRITE;
	if (op->verb == APPEND && a->content.n == SEGMENTS)
		op->verb = WRITE;
	if (op->verb == HELD && p->held.content.n == SEGMENTS)
		op->verb = MKDIR;
	p->done++;
	switch (op->verb) {
	case WRITE:
		if (!a->exists)
			a->mode = S_IFREG | 0644;
		a->exists = true;
		a->content.n = 0;
		content_add(&a->content, op);
		break;
	case APPEND:
		content_add(&a->content, op);
		break;
	case RENAME:
		*b = *a;
		a->exists = false;
		break;
	case UNLINK:
		a->exists = false;
		break;
	case MKDIR:
		op->a = (unsigned)++p->ndirs;
		break;
	case CHMOD:
		a->mode = S_IFREG | op->mode;
		break;
	case HELD:
		content_add(&p->held.content, op);
		break;
	}
}

/* ---- doing it -------------------------------------------------------------------------------------- */

/* What the processes of a round share. The mapping outlives the daemon and the writers. */
struct shared {
	atomic_bool go;
	atomic_bool killing; /* set before the kill: errors are expected from then on */
	atomic_ulong acked[WRITERS];
	atomic_ulong empties;
	char error[WRITERS + 1][256];
};

static struct shared *shared;

static int write_pieces(int fd, uint64_t seed, size_t len)
{
	unsigned char piece[PIECE];

	for (size_t off = 0; off < len;) {
		size_t n = len - off < sizeof(piece) ? len - off : sizeof(piece);
		ssize_t wrote;

		mnt_pattern(seed, off, piece, n);
		wrote = write(fd, piece, n);
		if (wrote < 0)
			return -1;
		off += (size_t)wrote;
	}
	return 0;
}

static int op_do(int dir, int held, const struct op *op)
{
	char a[16], b[16];
	int fd, err;

	snprintf(a, sizeof(a), "%c%u", op->verb == MKDIR ? 'd' : 'f', op->a);
	snprintf(b, sizeof(b), "f%u", op->b);
	switch (op->verb) {
	case WRITE:
	case APPEND:
		fd = openat(dir, a, O_WRONLY | O_CLOEXEC | (op->verb == WRITE ? O_CREAT | O_TRUNC : O_APPEND),
			    0644);
		if (fd < 0)
			return -1;
		err = write_pieces(fd, op->seed, op->len);
		return close(fd) || err ? -1 : 0;
	case RENAME:
		return renameat(dir, a, dir, b);
	case UNLINK:
		return unlinkat(dir, a, 0);
	case MKDIR:
		return mkdirat(dir, a, 0755);
	case CHMOD:
		return fchmodat(dir, a, op->mode, 0);
	case HELD:
		return write_pieces(held, op->seed, op->len) || fsync(held) ? -1 : 0;
	}
	return -1;
}

static _Noreturn void helper_ends(unsigned slot, const char *what, unsigned long done)
{
	if (!atomic_load(&shared->killing))
		snprintf(shared->error[slot], sizeof(shared->error[0]), "%s %lu: %s", what, done,
			 strerror(errno));
	_exit(0);
}

/*
 * All by descriptors of the mount: paths would lead to the directory below once the dead mount is taken away.
 */
static _Noreturn void writer(int dir, unsigned w, uint64_t seed)
{
	int held = openat(dir, "held", O_WRONLY | O_APPEND | O_CLOEXEC);
	struct plan plan;
	struct op op;

	plan_init(&plan, seed);
	while (!atomic_load(&shared->go))
		mnt_sleep_ms(1);
	for (;;) {
		plan_next(&plan, &op);
		if (op_do(dir, held, &op))
			helper_ends(w, "operation", plan.done);
		atomic_store(&shared->acked[w], plan.done);
	}
}

static _Noreturn void maker_of_empties(int dir)
{
	char name[32];
	int fd;

	while (!atomic_load(&shared->go))
		mnt_sleep_ms(1);
	for (unsigned long n = 1;; n++) {
		snprintf(name, sizeof(name), "e%lu", n);
		fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		if (fd < 0 || close(fd))
			helper_ends(WRITERS, "empty file", n);
		atomic_store(&shared->empties, n);
		mnt_sleep_ms(1);
	}
}

/* ---- judging --------------------------------------------------------------------------------------- */

struct round {
	unsigned number;
	uint64_t seed[WRITERS];
	unsigned long acked[WRITERS], empties;
	uint64_t before, after; /* revisions: when the load began, and found after the kill */
};

static uint64_t content_hash(const struct content *c)
{
	size_t size = content_size(c), off = 0;
	unsigned char *all = malloc(size + 1);
	uint64_t hash;

	for (unsigned i = 0; i < c->n; i++) {
		mnt_pattern(c->segment[i].seed, 0, all + off, c->segment[i].len);
		off += c->segment[i].len;
	}
	hash = tree_hash_bytes(all, size);
	free(all);
	return hash;
}

static bool file_as_planned(const struct plan_file *want, const struct tree_entry *got, bool content)
{
	if (!want->exists || !got)
		return !want->exists && !got;
	return got->mode == want->mode && (size_t)got->size == content_size(&want->content) &&
	       (!content || got->content == content_hash(&want->content));
}

/* Is this the writer's directory as planned, no file more and none less? */
static bool dir_as_planned(const struct plan *p, const struct tree *got, bool content)
{
	char name[32];
	size_t files = 2; /* the directory itself, and "held" */

	for (unsigned i = 0; i < FILES; i++)
		files += p->files[i].exists;
	if (got->n != files + p->ndirs || got->errors)
		return false;
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		if (!file_as_planned(&p->files[i], tree_find(got, name), content))
			return false;
	}
	for (unsigned long i = 1; i <= p->ndirs; i++) {
		snprintf(name, sizeof(name), "d%lu", i);
		if (!tree_find(got, name))
			return false;
	}
	return file_as_planned(&p->held, tree_find(got, "held"), content);
}

/* All k in [from, to] after which the plan is what `tree` shows. Few: of most states there is only one. */
#define MATCHES 16

static unsigned match(const struct tree *tree, uint64_t seed, unsigned long from, unsigned long to,
		      unsigned long found[MATCHES])
{
	struct plan plan;
	struct op op;
	unsigned n = 0;

	plan_init(&plan, seed);
	for (;; plan_next(&plan, &op)) {
		if (plan.done >= from && n < MATCHES && dir_as_planned(&plan, tree, false) &&
		    dir_as_planned(&plan, tree, true))
			found[n++] = plan.done;
		if (plan.done >= to)
			return n;
	}
}

/*
 * The number of empty files, which must be e1 to eN, all of them empty; -1 and a message otherwise. In a revision of
 * the past one may be missing before the last ones: each is committed by its RELEASE, which the kernel sends after
 * close(2) has returned, and which may be overtaken by that of the next.
 */
static long count_empties(const struct tree *tree, bool live)
{
	const size_t n = tree->n - 1;
	size_t found = 0, at = 0;
	char name[32];

	while (found < n && at < n + (live ? 0 : LATE_RELEASES)) {
		const struct tree_entry *e;

		snprintf(name, sizeof(name), "e%zu", ++at);
		e = tree_find(tree, name);
		if (e && e->size)
			break;
		found += e != NULL;
	}
	if (found < n) {
		fprintf(stderr, "%s is missing or not empty, of %zu\n", name, n);
		return -1;
	}
	return tree->errors ? -1 : (long)n;
}

/* Can one of each writer's matches be chosen so that they add up to `sum`? */
static bool adds_up(unsigned long matches[WRITERS][MATCHES], const unsigned n[WRITERS], unsigned w,
		    uint64_t sum)
{
	if (w == WRITERS)
		return sum == 0;
	for (unsigned i = 0; i < n[w]; i++)
		if (matches[w][i] <= sum && adds_up(matches, n, w + 1, sum - matches[w][i]))
			return true;
	return false;
}

/*
 * Judges the round's tree below `root`: at revision `rev`, or live (`rev` is then the newest, and all
 * that was acknowledged must be there). `slack` revisions may have been made by something else than the
 * load.
 */
static void judge(const struct mnt *m, const struct round *r, uint64_t rev, bool live)
{
	const char *root = live ? mnt_path("%s/r%u", m->at, r->number) :
				  mnt_path("%s/@rev/%llu/r%u", m->at, (unsigned long long)rev, r->number);
	unsigned long matches[WRITERS][MATCHES];
	unsigned n[WRITERS];
	struct tree tree;
	long empties;
	bool all = true, sum;

	for (unsigned w = 0; w < WRITERS; w++) {
		unsigned long from = live ? r->acked[w] : 0;

		tree_read(&tree, mnt_path("%s/w%u", root, w), 0, NULL);
		n[w] = match(&tree, r->seed[w], from, r->acked[w] + 1, matches[w]);
		all &= MNT_CHECK(n[w] > 0,
				 "round %u, writer %u, %s %llu: no state of it between operation %lu and %lu "
				 "(%zu files)",
				 r->number, w, live ? "live at" : "revision", (unsigned long long)rev, from,
				 r->acked[w] + 1, tree.n);
		tree_release(&tree);
	}
	tree_read(&tree, mnt_path("%s/empties", root), 0, NULL);
	empties = count_empties(&tree, live);
	tree_release(&tree);
	if (!MNT_CHECK(empties >= (live ? (long)r->empties : 0) && empties <= (long)r->empties + 1,
		       "round %u, %s %llu: %ld empty files, %lu were closed", r->number,
		       live ? "live at" : "revision", (unsigned long long)rev, empties, r->empties) ||
	    !all)
		return;
	/* Mounting again may take one revision for what it sweeps. */
	sum = rev >= r->before + (uint64_t)empties &&
	      (adds_up(matches, n, 0, rev - r->before - (uint64_t)empties) ||
	       (rev == r->after && adds_up(matches, n, 0, rev - r->before - (uint64_t)empties - 1)));
	MNT_CHECK(sum,
		  "round %u, %s %llu: %lu+%lu+%lu+%lu operations and %ld empty files since revision %llu",
		  r->number, live ? "live at" : "revision", (unsigned long long)rev, matches[0][0],
		  matches[1][0], matches[2][0], matches[3][0], empties, (unsigned long long)r->before);
}

/* ---- rounds ---------------------------------------------------------------------------------------- */

/* A round that is over: what its last revision showed, for looking again later. */
struct past {
	unsigned number;
	uint64_t rev, hash;
};

static uint64_t hash_of(const struct mnt *m, uint64_t rev, unsigned number)
{
	struct tree tree;
	uint64_t hash;

	tree_read(&tree, mnt_path("%s/@rev/%llu/r%u", m->at, (unsigned long long)rev, number), 0, NULL);
	hash = tree.errors ? 0 : tree_hash(&tree);
	tree_release(&tree);
	return hash;
}

static void live_is_head(const struct mnt *m, const struct round *r)
{
	struct tree live, head;

	tree_read(&live, mnt_path("%s/r%u", m->at, r->number), 0, NULL);
	tree_read(&head, mnt_path("%s/@rev/%llu/r%u", m->at, (unsigned long long)r->after, r->number), 0,
		  NULL);
	MNT_CHECK(tree_diff(&live, &head, 0, "newest revision against the live tree") == 0, "round %u",
		  r->number);
	tree_release(&live);
	tree_release(&head);
}

struct odd_files {
	int dirty, pending, gone;
	uint64_t gone_rev; /* shows it still */
};

#define OLD_TEXT "as it was closed\n"
#define NEW_TEXT "AS IT IS WRITTEN\n"

/* Files in the states that a kill must treat each in its own way. */
static void odd_files_make(const struct mnt *m, const char *root, struct odd_files *odd)
{
	const char *path = mnt_path("%s/dirty", root);

	mnt_write_text(path, OLD_TEXT);
	odd->dirty = open(path, O_WRONLY | O_CLOEXEC);
	MNT_OK(pwrite(odd->dirty, NEW_TEXT, strlen(NEW_TEXT), 0), path);
	path = mnt_path("%s/pending", root);
	odd->pending = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	MNT_OK(write(odd->pending, NEW_TEXT, strlen(NEW_TEXT)), path);
	path = mnt_path("%s/gone", root);
	mnt_write_text(path, OLD_TEXT);
	odd->gone_rev = mnt_current(m);
	odd->gone = open(path, O_RDWR | O_CLOEXEC);
	MNT_OK(unlink(path), path);
	MNT_OK(pwrite(odd->gone, NEW_TEXT, strlen(NEW_TEXT), 100000), path);
}

static void odd_files_judge(const struct mnt *m, unsigned number, const struct odd_files *odd)
{
	struct stat st;
	const char *path = mnt_path("%s/r%u/gone", m->at, number);

	close(odd->dirty);
	close(odd->pending);
	close(odd->gone);
	MNT_FAILS(stat(path, &st), ENOENT, path);
	mnt_same_text(mnt_path("%s/@rev/%llu/r%u/gone", m->at, (unsigned long long)odd->gone_rev, number),
		      OLD_TEXT);
	path = mnt_path("%s/r%u/pending", m->at, number);
	MNT_FAILS(stat(path, &st), ENOENT, path);
	mnt_same_text(mnt_path("%s/r%u/dirty", m->at, number), OLD_TEXT);
}

static void start_round(const struct mnt *m, struct round *r, struct odd_files *odd, pid_t pids[WRITERS + 1],
			uint64_t *random)
{
	const char *root = mnt_path("%s/r%u", m->at, r->number), *path;
	int dir;

	memset(shared, 0, sizeof(*shared));
	MNT_OK(mkdir(root, 0755), root);
	odd_files_make(m, root, odd);
	for (unsigned w = 0; w <= WRITERS; w++) {
		path = w < WRITERS ? mnt_path("%s/w%u", root, w) : mnt_path("%s/empties", root);
		MNT_OK(mkdir(path, 0755), path);
		if (w < WRITERS) {
			char five[5];

			r->seed[w] = mnt_random(random);
			mnt_pattern(r->seed[w], 0, five, sizeof(five));
			mnt_write_file(mnt_path("%s/held", path), five, sizeof(five));
		}
		dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		MNT_OK(dir, path);
		pids[w] = mnt_fork();
		if (!pids[w]) {
			if (w < WRITERS)
				writer(dir, w, r->seed[w]);
			maker_of_empties(dir);
		}
		close(dir);
	}
	r->before = mnt_current(m);
}

static void kill_round(struct mnt *m, struct round *r, uint64_t *random)
{
	pid_t pids[WRITERS + 1];
	struct odd_files odd;
	unsigned ms =
		(unsigned)(mnt_random(random) % 5 ? 20 + mnt_random(random) % 280 : mnt_random(random) % 20);

	start_round(m, r, &odd, pids, random);
	atomic_store(&shared->go, true);
	mnt_sleep_ms(ms);
	atomic_store(&shared->killing, true);
	mnt_kill(m);
	for (unsigned w = 0; w <= WRITERS; w++) {
		mnt_wait(pids[w]);
		MNT_CHECK(!*shared->error[w], "round %u, writer %u: %s", r->number, w, shared->error[w]);
	}
	for (unsigned w = 0; w < WRITERS; w++)
		r->acked[w] = atomic_load(&shared->acked[w]);
	r->empties = atomic_load(&shared->empties);
	mnt_up(m, NULL);
	if (mnt_random(random) % 5 == 0) {
		/* Once more before anybody has looked: what was replayed must not need a good end. */
		mnt_kill(m);
		mnt_up(m, NULL);
	}
	r->after = mnt_current(m);
	judge(m, r, r->after, true);
	live_is_head(m, r);
	odd_files_judge(m, r->number, &odd);
	for (unsigned i = 0; i < REVISIONS && r->after > r->before; i++)
		judge(m, r, r->before + 1 + mnt_random(random) % (r->after - r->before), false);
}

static void test_a_kill_loses_nothing_that_was_closed(void)
{
	unsigned rounds = (unsigned)mnt_env("MVCCFS_TEST_ROUNDS", 50);
	struct past *past = calloc(rounds + 1, sizeof(*past));
	unsigned long acked = 0;
	uint64_t random = mnt_seed();
	struct mnt m;
	int bad_before;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	umask(022);
	/* No commit by time: a file that nobody closed is in no revision. */
	mnt_init(&m, "commit_ms=600000");
	for (unsigned i = 0; i < rounds; i++) {
		struct round r = { .number = i };
		unsigned again = i ? (unsigned)(mnt_random(&random) % i) : 0;

		bad_before = (int)CU_get_number_of_failure_records();
		kill_round(&m, &r, &random);
		for (unsigned w = 0; w < WRITERS; w++)
			acked += r.acked[w];
		past[i] = (struct past){ i, r.after, hash_of(&m, r.after, i) };
		MNT_CHECK(past[i].hash != 0, "round %u cannot be read at revision %llu", i,
			  (unsigned long long)r.after);
		if (i)
			MNT_CHECK(hash_of(&m, past[again].rev, past[again].number) == past[again].hash,
				  "revision %llu of round %u has changed by round %u",
				  (unsigned long long)past[again].rev, again, i);
		if (i >= KEEP_ROUNDS)
			MNT_CHECK(mnt_shell("rm -rf '%s/r%u'", m.at, i - KEEP_ROUNDS) == 0, "rm");
		if ((int)CU_get_number_of_failure_records() - bad_before > 0) {
			fprintf(stderr, "failed in round %u, which ends the test\n", i);
			break;
		}
	}
	printf("%u kills, %lu operations acknowledged, revision %llu ", rounds, acked,
	       (unsigned long long)mnt_current(&m));
	free(past);
	mnt_release(&m);
	munmap(shared, sizeof(*shared));
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_a_kill_loses_nothing_that_was_closed),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("kill", NULL, NULL, tests), CU_SUITE_INFO_NULL };

	mnt_seed();
	return unit_main(argc, argv, suites);
}
