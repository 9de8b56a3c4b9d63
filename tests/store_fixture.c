#include "tests/store_fixture.h"

#include "tests/engines/mem_engine.h"
#include "tests/unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

/* ---- directories --------------------------------------------------------------------------- */

/*
 * A failing FATAL assertion jumps over a test's own cleaning up, and one more directory on the list costs
 * nothing; so each is removed at exit once more. Children leave by _exit() and remove nothing.
 */
enum { TMPDIRS_MAX = 4096 };

static char *tmpdirs[TMPDIRS_MAX];
static unsigned ntmpdirs;

static void remove_tmpdirs(void)
{
	for (unsigned i = 0; i < ntmpdirs; i++) {
		unit_rmtree(tmpdirs[i]);
		free(tmpdirs[i]);
	}
	ntmpdirs = 0;
}

void fixture_tmpdir(char out[256])
{
	unit_tmpdir(out);
	if (!ntmpdirs)
		atexit(remove_tmpdirs);
	if (ntmpdirs < TMPDIRS_MAX)
		tmpdirs[ntmpdirs++] = strdup(out);
}

void fixture_rmdir(const char *dir)
{
	unit_rmtree(dir);
	for (unsigned i = 0; i < ntmpdirs; i++) {
		if (strcmp(tmpdirs[i], dir) == 0) {
			free(tmpdirs[i]);
			tmpdirs[i] = tmpdirs[--ntmpdirs];
			return;
		}
	}
}

static int copy_file(const char *from, const char *to)
{
	char bytes[1 << 16];
	ssize_t n = -1;
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (in >= 0 && out >= 0)
		while ((n = read(in, bytes, sizeof(bytes))) > 0)
			if (write(out, bytes, (size_t)n) != n) {
				n = -1;
				break;
			}
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
	return n < 0 ? -EIO : 0;
}

int fixture_copy_files(const char *from, const char *to)
{
	char a[1024], b[1024];
	struct dirent *d;
	struct stat st;
	int err = 0;
	DIR *dir = opendir(from);

	if (!dir)
		return -errno;
	while (!err && (d = readdir(dir))) {
		snprintf(a, sizeof(a), "%s/%s", from, d->d_name);
		snprintf(b, sizeof(b), "%s/%s", to, d->d_name);
		if (lstat(a, &st) == 0 && S_ISREG(st.st_mode))
			err = copy_file(a, b);
	}
	closedir(dir);
	return err;
}

uint64_t fixture_env(const char *name, uint64_t fallback)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : fallback;
}

/* ---- the sluice ------------------------------------------------------------------------------ */

/* An engine before the engine: all passes through, but writes wait while it is shut. */
struct sluice {
	struct engine_provider inner; /* immutable */
	struct engine *engine;        /* the store's: the one opened first, NULL when closed */
	const struct engine_family *families;
	unsigned nfamilies;
	pthread_mutex_t lock;
	pthread_cond_t moved;
	bool shut; /* lock */
};

/* One of the engines opened through it: the store opens its checkpoints while it is open itself. */
struct sluice_handle {
	struct engine base;
	struct sluice *sluice;
	struct engine *engine;
};

static struct sluice_handle *sluice_of(struct engine *e)
{
	return (struct sluice_handle *)e;
}

static void sluice_close(struct engine *e)
{
	struct sluice_handle *h = sluice_of(e);

	if (h->sluice->engine == h->engine)
		h->sluice->engine = NULL;
	engine_close(h->engine);
	free(h);
}

static int sluice_reopen(struct engine *e)
{
	return engine_reopen(sluice_of(e)->engine);
}

static int sluice_get(struct engine *e, unsigned family, struct slice key, struct engine_pin *out)
{
	return engine_get(sluice_of(e)->engine, family, key, out);
}

static void sluice_pin_release(struct engine *e, struct engine_pin *pin)
{
	engine_pin_release(sluice_of(e)->engine, pin);
}

static int sluice_iter_new(struct engine *e, unsigned family, struct slice start, struct slice end,
			   struct engine_iter **out)
{
	return engine_iter_new(sluice_of(e)->engine, family, start, end, out);
}

static struct engine_batch *sluice_batch_new(struct engine *e)
{
	return engine_batch_new(sluice_of(e)->engine);
}

static int sluice_write(struct engine *e, struct engine_batch *b, unsigned flags)
{
	struct sluice *sluice = sluice_of(e)->sluice;

	pthread_mutex_lock(&sluice->lock);
	while (sluice->shut)
		pthread_cond_wait(&sluice->moved, &sluice->lock);
	pthread_mutex_unlock(&sluice->lock);
	return engine_write(sluice_of(e)->engine, b, flags);
}

static int sluice_sync(struct engine *e)
{
	return engine_sync(sluice_of(e)->engine);
}

static int sluice_checkpoint(struct engine *e, const char *dir)
{
	return engine_checkpoint(sluice_of(e)->engine, dir);
}

static int sluice_rewrite(struct engine *e, unsigned family, struct slice start, struct slice end,
			  uint64_t bytes_per_s, const atomic_bool *stop)
{
	return engine_rewrite(sluice_of(e)->engine, family, start, end, bytes_per_s, stop);
}

static void sluice_stats(struct engine *e, struct engine_stats *out)
{
	engine_stats_get(sluice_of(e)->engine, out);
}

/* Batches are the inner engine's own and never come here. */
static const struct engine_ops sluice_ops = {
	.close = sluice_close,
	.reopen = sluice_reopen,
	.get = sluice_get,
	.pin_release = sluice_pin_release,
	.iter_new = sluice_iter_new,
	.batch_new = sluice_batch_new,
	.write = sluice_write,
	.sync = sluice_sync,
	.checkpoint = sluice_checkpoint,
	.rewrite = sluice_rewrite,
	.stats = sluice_stats,
};

static int sluice_open_engine(void *arg, const char *dir, const struct engine_family *families,
			      unsigned nfamilies, struct engine **out)
{
	struct sluice *sluice = arg;
	struct sluice_handle *h = calloc(1, sizeof(*h));
	int err = h ? sluice->inner.open(sluice->inner.arg, dir, families, nfamilies, &h->engine) : -ENOMEM;

	if (err) {
		free(h);
		return err;
	}
	h->base.ops = &sluice_ops;
	h->sluice = sluice;
	if (!sluice->engine) {
		sluice->engine = h->engine;
		sluice->families = families;
		sluice->nfamilies = nfamilies;
	}
	*out = &h->base;
	return 0;
}

static struct sluice *sluice_new(struct engine_provider inner)
{
	struct sluice *sluice = calloc(1, sizeof(*sluice));

	if (!sluice)
		abort();
	sluice->inner = inner;
	pthread_mutex_init(&sluice->lock, NULL);
	pthread_cond_init(&sluice->moved, NULL);
	return sluice;
}

static void sluice_free(struct sluice *sluice)
{
	pthread_mutex_destroy(&sluice->lock);
	pthread_cond_destroy(&sluice->moved);
	free(sluice);
}

static void sluice_set(struct sluice *sluice, bool shut)
{
	pthread_mutex_lock(&sluice->lock);
	sluice->shut = shut;
	pthread_cond_broadcast(&sluice->moved);
	pthread_mutex_unlock(&sluice->lock);
}

/* ---- the fixture --------------------------------------------------------------------------- */

static const struct engine_provider *chosen; /* NULL: memory */

void fixture_use(const struct engine_provider *provider)
{
	chosen = provider;
}

struct fixture *fixture_new(void)
{
	struct fixture *fx = calloc(1, sizeof(*fx));
	struct engine_provider inner;

	if (!fx)
		abort();
	fixture_tmpdir(fx->tmp);
	snprintf(fx->dir, sizeof(fx->dir), "%s/db", fx->tmp);
	if (chosen) {
		inner = *chosen;
	} else {
		fx->mem = mem_engine_new();
		if (!fx->mem)
			abort();
		inner = mem_engine_provider(fx->mem);
	}
	fx->sluice = sluice_new(inner);
	fx->opt.dir = fx->dir;
	fx->opt.engine = (struct engine_provider){ sluice_open_engine, fx->sluice };
	fx->opt.holder = "a test";
	fx->opt.create = true;
	return fx;
}

int fixture_try_open(struct fixture *fx)
{
	int err = mvcc_open(&fx->opt, &fx->db);

	if (err)
		fx->db = NULL;
	return err;
}

static struct fixture *open_or_die(struct fixture *fx)
{
	int err = fixture_try_open(fx);

	if (err) {
		fprintf(stderr, "mvcc_open: %s\n", mvcc_strerror(err));
		fixture_close(fx);
		CU_FAIL_FATAL("mvcc_open");
	}
	return fx;
}

struct fixture *fixture_open(void)
{
	return open_or_die(fixture_new());
}

struct fixture *fixture_open_small_ring(void)
{
	struct fixture *fx = fixture_new();

	fx->opt.ring_bytes = (size_t)256 << 10;
	return open_or_die(fx);
}

void fixture_reopen(struct fixture *fx)
{
	CU_ASSERT_EQUAL(mvcc_close(fx->db), 0);
	fx->db = NULL;
	open_or_die(fx);
}

void fixture_close(struct fixture *fx)
{
	sluice_set(fx->sluice, false);
	CU_ASSERT_EQUAL(mvcc_close(fx->db), 0);
	sluice_free(fx->sluice);
	mem_engine_free(fx->mem);
	fixture_rmdir(fx->tmp);
	free(fx);
}

void fixture_sluice_shut(struct fixture *fx)
{
	sluice_set(fx->sluice, true);
}

void fixture_sluice_open(struct fixture *fx)
{
	sluice_set(fx->sluice, false);
}

struct engine *fixture_engine(struct fixture *fx)
{
	return fx->sluice->engine;
}

static int tell_problem(void *arg, const struct mvcc_problem *problem)
{
	(void)arg;
	fprintf(stderr, "\nverify: %s: key \"%.*s\" revision %llu blob %llu\n", problem->what,
		(int)problem->key.len, problem->key.data, (unsigned long long)problem->rev,
		(unsigned long long)problem->blob);
	return 0;
}

unsigned verify_problems(struct mvcc *db)
{
	uint64_t problems = 0;
	int err = mvcc_verify(db, tell_problem, NULL, &problems);

	if (err)
		fprintf(stderr, "\nmvcc_verify: %s\n", mvcc_strerror(err));
	return (unsigned)problems + (err != 0);
}

void fixture_verify(struct fixture *fx)
{
	CU_ASSERT_EQUAL(verify_problems(fx->db), 0);
}

void fixture_drain(struct fixture *fx)
{
	struct mvcc_stats stats;

	CU_ASSERT_EQUAL(mvcc_sync(fx->db, MVCC_REV_LATEST), 0);
	mvcc_stats(fx->db, &stats);
	CU_ASSERT_EQUAL(stats.applied, stats.current);
	CU_ASSERT_EQUAL(stats.synced, stats.current);
}

static size_t rows_of_family(struct fixture *fx, unsigned family, const char *prefix)
{
	struct slice none = slice_of(NULL, 0);
	struct engine_iter *it;
	size_t n = 0;

	if (engine_iter_new(fx->sluice->engine, family, none, none, &it)) {
		CU_FAIL("engine_iter_new");
		return 0;
	}
	for (bool on = engine_iter_seek(it, none); on; on = engine_iter_next(it))
		n += slice_starts(it->key, str(prefix));
	CU_ASSERT_EQUAL(engine_iter_error(it), 0);
	engine_iter_free(it);
	return n;
}

size_t fixture_rows(struct fixture *fx, enum engine_use use)
{
	size_t n = 0;

	for (unsigned i = 0; i < fx->sluice->nfamilies; i++)
		if (fx->sluice->families[i].use == use)
			n += rows_of_family(fx, i, "");
	return n;
}

size_t fixture_rows_of(struct fixture *fx, const char *family, const char *prefix)
{
	size_t n = 0;

	for (unsigned i = 0; i < fx->sluice->nfamilies; i++)
		if (strcmp(fx->sluice->families[i].name, family) == 0)
			n += rows_of_family(fx, i, prefix);
	return n;
}

/* ---- one line each ------------------------------------------------------------------------- */

struct slice str(const char *s)
{
	return slice_str(s);
}

struct mvcc_txn *begin(struct mvcc *db)
{
	struct mvcc_txn *txn = NULL;

	CU_ASSERT_EQUAL_FATAL(mvcc_txn_begin(db, &txn), 0);
	return txn;
}

mvcc_rev_t commit(struct mvcc_txn *txn)
{
	mvcc_rev_t rev = 0;

	CU_ASSERT_EQUAL(mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, &rev), 0);
	return rev;
}

int commit_err(struct mvcc_txn *txn)
{
	return mvcc_txn_commit(txn, NULL, MVCC_COMMIT_WAIT, NULL);
}

void txn_put(struct mvcc_txn *txn, const char *key, const char *value)
{
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str(key), str(value), NULL, 0), 0);
}

void txn_del(struct mvcc_txn *txn, const char *key)
{
	CU_ASSERT_EQUAL(mvcc_txn_del(txn, str(key)), 0);
}

mvcc_rev_t put(struct mvcc *db, const char *key, const char *value)
{
	struct mvcc_txn *txn = begin(db);

	txn_put(txn, key, value);
	return commit(txn);
}

mvcc_rev_t del(struct mvcc *db, const char *key)
{
	struct mvcc_txn *txn = begin(db);

	txn_del(txn, key);
	return commit(txn);
}

/* ---- rendering and comparing --------------------------------------------------------------- */

static void put_text(struct buf *out, const char *text)
{
	if (buf_put(out, text, strlen(text)))
		abort();
}

static void put_slice(struct buf *out, struct slice s)
{
	if (buf_put_slice(out, s))
		abort();
}

static void put_word(struct buf *out)
{
	if (out->len)
		put_text(out, " ");
}

static void put_number(struct buf *out, uint64_t n)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
	put_text(out, text);
}

static void put_row(struct buf *out, struct slice key, struct slice value)
{
	put_word(out);
	put_slice(out, key);
	put_text(out, "=");
	put_slice(out, value);
}

static bool same_text(const struct buf *got, const char *expected, const char *what)
{
	if (slice_eq(slice_buf(got), str(expected)))
		return true;
	fprintf(stderr, "%s:\n    got      \"%.*s\"\n    expected \"%s\"\n", what, (int)got->len,
		got->data ? (const char *)got->data : "", expected);
	return false;
}

static struct mvcc_view *view_at(struct mvcc *db, mvcc_rev_t rev)
{
	struct mvcc_view *view = NULL;
	int err = mvcc_view_open(db, rev, &view);

	if (err) {
		fprintf(stderr, "view at %llu: %s\n", (unsigned long long)rev, mvcc_strerror(err));
		CU_FAIL("mvcc_view_open");
		return NULL;
	}
	return view;
}

void assert_record_at(struct mvcc *db, mvcc_rev_t rev, const char *key, const char *value,
		      mvcc_rev_t create_rev, mvcc_rev_t mod_rev, uint64_t version)
{
	struct mvcc_view *view = view_at(db, rev);
	struct mvcc_item item = { 0 };
	int err;

	if (!view)
		return;
	err = mvcc_get(view, str(key), &item);
	CU_ASSERT_EQUAL(err, 0);
	if (!err) {
		if (!slice_eq(item.value, str(value)))
			fprintf(stderr, "%s at %llu is \"%.*s\", not \"%s\"\n", key, (unsigned long long)rev,
				(int)item.value.len, (const char *)item.value.data, value);
		CU_ASSERT(slice_eq(item.value, str(value)));
		if (item.create_rev != create_rev || item.mod_rev != mod_rev || item.version != version)
			fprintf(stderr, "%s at %llu is %llu.%llu.%llu, not %llu.%llu.%llu\n", key,
				(unsigned long long)rev, (unsigned long long)item.create_rev,
				(unsigned long long)item.mod_rev, (unsigned long long)item.version,
				(unsigned long long)create_rev, (unsigned long long)mod_rev,
				(unsigned long long)version);
		CU_ASSERT_EQUAL(item.create_rev, create_rev);
		CU_ASSERT_EQUAL(item.mod_rev, mod_rev);
		CU_ASSERT_EQUAL(item.version, version);
		mvcc_item_release(&item);
	}
	mvcc_view_close(view);
}

void assert_view_value(struct mvcc_view *view, const char *key, const char *value)
{
	struct mvcc_item item = { 0 };
	int err = mvcc_get(view, str(key), &item);

	if (err != (value ? 0 : -ENOENT) || (!err && !slice_eq(item.value, str(value))))
		fprintf(stderr, "%s at %llu: %s \"%.*s\", not \"%s\"\n", key,
			(unsigned long long)mvcc_view_rev(view), err ? mvcc_strerror(err) : "is",
			(int)item.value.len, item.value.data ? (const char *)item.value.data : "",
			value ? value : "(absent)");
	CU_ASSERT_EQUAL(err, value ? 0 : -ENOENT);
	CU_ASSERT(err || !value || slice_eq(item.value, str(value)));
	if (!err)
		mvcc_item_release(&item);
}

void assert_value_at(struct mvcc *db, mvcc_rev_t rev, const char *key, const char *value)
{
	struct mvcc_view *view = view_at(db, rev);

	if (!view)
		return;
	assert_view_value(view, key, value);
	mvcc_view_close(view);
}

void assert_absent_at(struct mvcc *db, mvcc_rev_t rev, const char *key)
{
	assert_value_at(db, rev, key, NULL);
}

/* Renders up to `limit` rows (0: all), and " ..." when there are more. 0 or a negative code. */
static int render_cursor(struct mvcc_cursor *c, size_t limit, struct buf *out)
{
	const struct mvcc_item *item;
	struct slice key;
	size_t n = 0;
	int got;

	while ((got = mvcc_cursor_next(c, &key, &item)) == 1) {
		if (limit && n++ == limit) {
			put_word(out);
			put_text(out, "...");
			return 0;
		}
		put_row(out, key, item->value);
	}
	return got;
}

void assert_view_range(struct mvcc_view *view, const char *start, const char *end, size_t limit,
		       const char *expected)
{
	struct mvcc_rows rows = { 0 };
	struct mvcc_cursor *c = NULL;
	struct buf text = { 0 };
	int err = mvcc_range(view, str(start), str(end), &(struct mvcc_range_opt){ .limit = limit }, &rows);

	CU_ASSERT_EQUAL(err, 0);
	if (!err) {
		for (size_t i = 0; i < rows.n; i++)
			put_row(&text, slice_buf(&rows.rows[i].key), rows.rows[i].item.value);
		if (rows.more) {
			put_word(&text);
			put_text(&text, "...");
		}
		CU_ASSERT(same_text(&text, expected, "mvcc_range"));
		mvcc_rows_release(&rows);
	}
	buf_clear(&text);
	err = mvcc_cursor_open(view, str(start), str(end), &c);
	CU_ASSERT_EQUAL(err, 0);
	if (!err) {
		CU_ASSERT_EQUAL(render_cursor(c, limit, &text), 0);
		CU_ASSERT(same_text(&text, expected, "cursor"));
		mvcc_cursor_close(c);
	}
	buf_release(&text);
}

void assert_range_at(struct mvcc *db, mvcc_rev_t rev, const char *start, const char *end, size_t limit,
		     const char *expected)
{
	struct mvcc_view *view = view_at(db, rev);

	if (!view)
		return;
	assert_view_range(view, start, end, limit, expected);
	mvcc_view_close(view);
}

static void assert_txn_item(struct mvcc_txn *txn, const char *key, const char *value,
			    int (*get)(struct mvcc_txn *txn, struct slice key, struct mvcc_item *out))
{
	struct mvcc_item item = { 0 };
	int err = get(txn, str(key), &item);

	CU_ASSERT_EQUAL(err, value ? 0 : -ENOENT);
	if (!err) {
		CU_ASSERT(value && slice_eq(item.value, str(value)));
		mvcc_item_release(&item);
	}
}

void assert_txn_value(struct mvcc_txn *txn, const char *key, const char *value)
{
	assert_txn_item(txn, key, value, mvcc_txn_get);
}

void assert_txn_peek(struct mvcc_txn *txn, const char *key, const char *value)
{
	assert_txn_item(txn, key, value, mvcc_txn_peek);
}

static void assert_txn_rows(struct mvcc_txn *txn, const char *start, const char *end, const char *expected,
			    int (*cursor_open)(struct mvcc_txn *txn, struct slice start, struct slice end,
					       struct mvcc_cursor **out))
{
	struct mvcc_cursor *c = NULL;
	struct buf text = { 0 };
	int err = cursor_open(txn, str(start), str(end), &c);

	CU_ASSERT_EQUAL(err, 0);
	if (!err) {
		CU_ASSERT_EQUAL(render_cursor(c, 0, &text), 0);
		CU_ASSERT(same_text(&text, expected, "cursor of a transaction"));
		mvcc_cursor_close(c);
	}
	buf_release(&text);
}

void assert_txn_range(struct mvcc_txn *txn, const char *start, const char *end, const char *expected)
{
	assert_txn_rows(txn, start, end, expected, mvcc_txn_cursor_open);
}

void assert_txn_peek_range(struct mvcc_txn *txn, const char *start, const char *end, const char *expected)
{
	assert_txn_rows(txn, start, end, expected, mvcc_txn_peek_cursor_open);
}

void assert_changes(struct mvcc *db, mvcc_rev_t rev, const char *expected)
{
	const struct mvcc_entry *entry;
	struct mvcc_change change;
	struct mvcc_log *log = NULL;
	struct buf text = { 0 };
	int got = mvcc_log_open(db, rev, rev, &log);

	CU_ASSERT_EQUAL(got, 0);
	if (got)
		return;
	got = mvcc_log_next(log, &entry);
	CU_ASSERT_EQUAL(got, 1);
	if (got == 1) {
		CU_ASSERT_EQUAL(entry->rev, rev);
		while ((got = mvcc_log_change(log, &change)) == 1) {
			put_word(&text);
			put_text(&text, change.deleted ? "-" : "+");
			put_slice(&text, change.key);
			put_text(&text, "<");
			put_number(&text, change.prev_rev);
		}
		CU_ASSERT_EQUAL(got, 0);
		CU_ASSERT(same_text(&text, expected, "changes"));
		CU_ASSERT_EQUAL(mvcc_log_next(log, &entry), 0);
	}
	mvcc_log_close(log);
	buf_release(&text);
}

static int render_life(void *arg, const struct mvcc_item *item, mvcc_rev_t end_rev)
{
	struct buf *out = arg;

	put_word(out);
	put_number(out, item->create_rev);
	put_text(out, ".");
	put_number(out, item->mod_rev);
	put_text(out, ".");
	put_number(out, item->version);
	put_text(out, "-");
	put_number(out, end_rev);
	put_text(out, "=");
	put_slice(out, item->value);
	return 0;
}

void assert_history(struct mvcc *db, const char *key, const char *expected)
{
	struct buf text = { 0 };

	CU_ASSERT_EQUAL(mvcc_history(db, str(key), render_life, &text), 0);
	CU_ASSERT(same_text(&text, expected, "history"));
	buf_release(&text);
}

/* xorshift64*: short, and good enough to be surprised by. */
uint64_t random_next(uint64_t *state)
{
	uint64_t x = *state ? *state : 0x9e3779b97f4a7c15u;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * 0x2545f4914f6cdd1du;
}

uint64_t random_below(uint64_t *state, uint64_t n)
{
	return (random_next(state) >> 11) % n;
}
