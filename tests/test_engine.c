/*
 * The contract of engine.h, stated once and held against every engine: in memory, RocksDB, and the fault
 * engine around memory while it injects nothing. Behind it come a suite for each engine of what only
 * that one can do: lose power, lose files, fail on demand.
 */
#include "mvcc/engine.h"

#include "mvcc/error.h"
#include "rocks_backend/rocks.h"
#include "tests/engines/fault_engine.h"
#include "tests/engines/mem_engine.h"
#include "tests/unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { META, POINT, PREFIX, APPEND, BLOB, STAGE, NFAMILIES };

#define BLOB_LEN ((size_t)3 << 20)

/* Up to the first NUL, with it. */
static size_t prefix_len(struct slice key)
{
	const uint8_t *nul = key.len ? memchr(key.data, 0, key.len) : NULL;

	return nul ? (size_t)(nul - key.data) + 1 : key.len;
}

static atomic_int dropping; /* the predicate says true of nothing until it is set */

static bool drop_old(void *arg, struct slice key, struct slice value)
{
	(void)arg;
	(void)key;
	return atomic_load(&dropping) && slice_starts(value, slice_str("old"));
}

static const struct engine_family families[NFAMILIES + 1] = {
	[META] = { .name = "default", .use = ENGINE_USE_META },
	[POINT] = { .name = "point", .use = ENGINE_USE_POINT },
	[PREFIX] = { .name = "prefix", .use = ENGINE_USE_PREFIX, .prefix_len = prefix_len, .drop = drop_old },
	[APPEND] = { .name = "append", .use = ENGINE_USE_APPEND, .drop = drop_old },
	[BLOB] = { .name = "blob", .use = ENGINE_USE_BLOB },
	[STAGE] = { .name = "stage", .use = ENGINE_USE_STAGE },
	[NFAMILIES] = { .name = "later", .use = ENGINE_USE_POINT },
};

/* ---- the engine under test ------------------------------------------------------------------- */

static struct {
	char tmp[256];
	char dir[300];
	struct engine_provider provider;
	struct engine *e;
	struct mem_engine *mem;
	struct fault_engine *fault;
	struct rocks_options rocks;
} env;

static pthread_mutex_t logged_lock = PTHREAD_MUTEX_INITIALIZER;
static char logged[1024]; /* logged_lock; what the engine said last */

static void on_log(void *arg, int priority, const char *text)
{
	(void)arg;
	(void)priority;
	pthread_mutex_lock(&logged_lock);
	snprintf(logged, sizeof(logged), "%s", text);
	pthread_mutex_unlock(&logged_lock);
}

static bool was_logged(const char *part)
{
	bool found;

	pthread_mutex_lock(&logged_lock);
	found = strstr(logged, part);
	pthread_mutex_unlock(&logged_lock);
	return found;
}

static int open_families(const char *dir, unsigned n, struct engine **out)
{
	return env.provider.open(env.provider.arg, dir, families, n, out);
}

static void set_up_dir(void)
{
	memset(&env, 0, sizeof(env));
	atomic_store(&dropping, 0);
	logged[0] = '\0';
	unit_tmpdir(env.tmp);
	snprintf(env.dir, sizeof(env.dir), "%s/db", env.tmp);
	if (mkdir(env.dir, 0700) < 0)
		abort();
}

static void set_up_open(void)
{
	int err = open_families(env.dir, NFAMILIES, &env.e);

	if (err) {
		fprintf(stderr, "cannot open the engine: %s\n", mvcc_strerror(err));
		abort();
	}
}

static void set_up_mem(void)
{
	set_up_dir();
	env.mem = mem_engine_new();
	env.provider = mem_engine_provider(env.mem);
	set_up_open();
}

static void set_up_fault(void)
{
	set_up_dir();
	env.mem = mem_engine_new();
	env.fault = fault_engine_new(mem_engine_provider(env.mem));
	env.provider = fault_engine_provider(env.fault);
	set_up_open();
}

static void set_up_rocks(void)
{
	set_up_dir();
	env.rocks = (struct rocks_options){ .cache_bytes = 8 << 20, .log = on_log };
	env.provider = rocks_provider(&env.rocks);
	set_up_open();
}

static void tear_down(void)
{
	engine_close(env.e);
	fault_engine_free(env.fault);
	mem_engine_free(env.mem);
	unit_rmtree(env.tmp);
}

/* Rewrites all of a family, as fast as it goes. */
static void rewrite(unsigned family)
{
	CU_ASSERT_EQUAL(engine_rewrite(env.e, family, slice_of(NULL, 0), slice_of(NULL, 0), UINT64_MAX, NULL),
			0);
}

static void close_and_open(unsigned nfamilies)
{
	engine_close(env.e);
	env.e = NULL;
	CU_ASSERT_EQUAL_FATAL(open_families(env.dir, nfamilies, &env.e), 0);
}

/* ---- one line each --------------------------------------------------------------------------- */

#define K(literal) slice_of(literal, sizeof(literal) - 1)
#define NONE slice_of(NULL, 0)

static int write_row(struct engine *e, enum engine_op op, unsigned family, struct slice key,
		     struct slice value)
{
	struct engine_batch *b = engine_batch_new(e);
	int err = b ? b->ops->batch_add(b, op, family, key, value) : -ENOMEM;

	if (!err)
		err = engine_write(e, b, ENGINE_NOSYNC);
	engine_batch_free(b);
	return err;
}

static void put(unsigned family, struct slice key, const char *value)
{
	CU_ASSERT_EQUAL(write_row(env.e, ENGINE_PUT, family, key, slice_str(value)), 0);
}

static void del(unsigned family, struct slice key)
{
	CU_ASSERT_EQUAL(write_row(env.e, ENGINE_DEL, family, key, NONE), 0);
}

static void del_range(unsigned family, struct slice start, struct slice end)
{
	CU_ASSERT_EQUAL(write_row(env.e, ENGINE_DEL_RANGE, family, start, end), 0);
}

/* Asserts what `key` is; NULL: absent. */
static void assert_is(struct engine *e, unsigned family, struct slice key, const char *value)
{
	struct engine_pin pin = { 0 };
	int err = engine_get(e, family, key, &pin);

	if (value) {
		CU_ASSERT_EQUAL(err, 0);
		CU_ASSERT(!err && slice_eq(pin.value, slice_str(value)));
	} else {
		CU_ASSERT_EQUAL(err, -ENOENT);
	}
	engine_pin_release(e, &pin);
}

static const char letters[] = "abcdefghijklmnopqrstuvwxyz";

static bool on(struct engine_iter *it, bool moved, struct slice key)
{
	return moved && slice_eq(it->key, key);
}

static struct engine_iter *iter(unsigned family, struct slice start, struct slice end)
{
	struct engine_iter *it = NULL;

	CU_ASSERT_EQUAL_FATAL(engine_iter_new(env.e, family, start, end, &it), 0);
	return it;
}

/* The rows that are left to the iterator, from `key` on, as "k=v k=v". */
static void assert_rest(struct engine_iter *it, struct slice key, const char *expected)
{
	char got[1024] = "";
	size_t n = 0;

	for (bool ok = engine_iter_seek(it, key); ok && n < sizeof(got) - 64; ok = engine_iter_next(it))
		n += (size_t)snprintf(got + n, 64, "%s%.*s=%.*s", n ? " " : "", (int)it->key.len,
				      (const char *)it->key.data, (int)it->value.len,
				      (const char *)it->value.data);
	CU_ASSERT_EQUAL(engine_iter_error(it), 0);
	CU_ASSERT_STRING_EQUAL(got, expected);
}

static void assert_scan(unsigned family, struct slice start, struct slice end, const char *expected)
{
	struct engine_iter *it = iter(family, start, end);

	assert_rest(it, start, expected);
	engine_iter_free(it);
}

static void put_letters(unsigned family, const char *keys)
{
	for (; *keys; keys++)
		put(family, slice_of(keys, 1), "1");
}

/* ---- gets ------------------------------------------------------------------------------------ */

static void test_a_key_never_put_is_absent(void)
{
	for (unsigned family = 0; family < NFAMILIES; family++)
		assert_is(env.e, family, K("k"), NULL);
}

static void test_a_put_is_read_back_and_overwritten_and_deleted(void)
{
	for (unsigned family = 0; family < NFAMILIES; family++) {
		put(family, K("k"), "one");
		assert_is(env.e, family, K("k"), "one");
		put(family, K("k"), "two");
		assert_is(env.e, family, K("k"), "two");
		del(family, K("k"));
		assert_is(env.e, family, K("k"), NULL);
		del(family, K("k"));
		assert_is(env.e, family, K("k"), NULL);
	}
}

static void test_families_do_not_share_keys(void)
{
	put(POINT, K("k"), "point");
	put(APPEND, K("k"), "append");
	del(APPEND, K("k"));
	assert_is(env.e, POINT, K("k"), "point");
	assert_is(env.e, APPEND, K("k"), NULL);
	assert_is(env.e, STAGE, K("k"), NULL);
}

static void test_an_empty_value_is_a_value(void)
{
	struct engine_pin pin = { 0 };

	put(POINT, K("k"), "");
	CU_ASSERT_EQUAL(engine_get(env.e, POINT, K("k"), &pin), 0);
	CU_ASSERT_EQUAL(pin.value.len, 0);
	CU_ASSERT_PTR_NOT_NULL(pin.handle);
	engine_pin_release(env.e, &pin);
	CU_ASSERT_PTR_NULL(pin.handle);
	engine_pin_release(env.e, &pin);
	assert_scan(POINT, NONE, NONE, "k=");
	rewrite(POINT);
	assert_is(env.e, POINT, K("k"), "");
}

static void test_keys_are_any_bytes(void)
{
	static const struct {
		const char *bytes;
		size_t len;
	} keys[] = { { "\0", 1 },   { "\0\0", 2 }, { "\0\xff", 2 }, { "a", 1 },
		     { "a\0", 2 },  { "a\0b", 3 }, { "a\n", 2 },    { "\x7f", 1 },
		     { "\x80", 1 }, { "\xff", 1 }, { "\xff\0", 2 }, { "\xff\xff", 2 } };
	const size_t n = sizeof(keys) / sizeof(keys[0]);
	struct engine_iter *it;
	size_t at = 0;

	for (size_t i = n; i-- > 0;) {
		char value[24];

		snprintf(value, sizeof(value), "%zu", i);
		put(POINT, slice_of(keys[i].bytes, keys[i].len), value);
	}
	for (size_t i = 0; i < n; i++) {
		char value[24];

		snprintf(value, sizeof(value), "%zu", i);
		assert_is(env.e, POINT, slice_of(keys[i].bytes, keys[i].len), value);
	}
	it = iter(POINT, NONE, NONE);
	for (bool ok = engine_iter_seek(it, NONE); ok; ok = engine_iter_next(it), at++)
		CU_ASSERT(at < n && slice_eq(it->key, slice_of(keys[at].bytes, keys[at].len)));
	CU_ASSERT_EQUAL(at, n);
	engine_iter_free(it);
}

static void test_big_values_come_back_whole(void)
{
	uint8_t *big = malloc(BLOB_LEN);
	struct engine_pin pin = { 0 };

	for (size_t i = 0; i < BLOB_LEN; i++)
		big[i] = (uint8_t)(i * 2654435761U >> 13);
	CU_ASSERT_EQUAL(write_row(env.e, ENGINE_PUT, BLOB, K("b"), slice_of(big, BLOB_LEN)), 0);
	for (int pass = 0; pass < 3; pass++) {
		CU_ASSERT_EQUAL(engine_get(env.e, BLOB, K("b"), &pin), 0);
		CU_ASSERT(slice_eq(pin.value, slice_of(big, BLOB_LEN)));
		engine_pin_release(env.e, &pin);
		if (pass == 0)
			rewrite(BLOB);
		else
			close_and_open(NFAMILIES);
	}
	free(big);
}

static void test_a_pin_outlives_writes_to_its_key(void)
{
	struct engine_pin pin = { 0 }, again = { 0 };

	put(POINT, K("k"), "one");
	CU_ASSERT_EQUAL(engine_get(env.e, POINT, K("k"), &pin), 0);
	put(POINT, K("k"), "two");
	rewrite(POINT);
	CU_ASSERT_EQUAL(engine_get(env.e, POINT, K("k"), &again), 0);
	del(POINT, K("k"));
	rewrite(POINT);
	CU_ASSERT(slice_eq(pin.value, K("one")));
	CU_ASSERT(slice_eq(again.value, K("two")));
	assert_is(env.e, POINT, K("k"), NULL);
	engine_pin_release(env.e, &pin);
	engine_pin_release(env.e, &again);
}

/* ---- iterators ------------------------------------------------------------------------------- */

static void test_rows_come_in_the_order_of_their_bytes(void)
{
	for (unsigned family = 0; family < NFAMILIES; family++) {
		put(family, K("b"), "1");
		put(family, K("aa"), "2");
		put(family, K("a"), "3");
		put(family, K("ab"), "4");
		put(family, K("Z"), "5");
		assert_scan(family, NONE, NONE, "Z=5 a=3 aa=2 ab=4 b=1");
		rewrite(family);
		put(family, K("aaa"), "6");
		assert_scan(family, NONE, NONE, "Z=5 a=3 aa=2 aaa=6 ab=4 b=1");
	}
}

static void test_an_iterator_stays_within_its_bounds(void)
{
	put_letters(POINT, "bdfh");
	assert_scan(POINT, K("b"), K("h"), "b=1 d=1 f=1");
	assert_scan(POINT, K("c"), K("g"), "d=1 f=1");
	assert_scan(POINT, K("d"), K("d\0"), "d=1");
	assert_scan(POINT, K("d"), K("d"), "");
	assert_scan(POINT, K("e"), K("f"), "");
	assert_scan(POINT, K("f"), NONE, "f=1 h=1");
	assert_scan(POINT, K("i"), NONE, "");
	assert_scan(POINT, NONE, K("c"), "b=1");
	assert_scan(POINT, NONE, K("b"), "");
}

static void test_seek_goes_to_the_first_key_not_below(void)
{
	struct engine_iter *it;

	put_letters(POINT, "bdfh");
	it = iter(POINT, K("c"), K("h"));
	CU_ASSERT(on(it, engine_iter_seek(it, K("f")), K("f")));
	CU_ASSERT(on(it, engine_iter_seek(it, K("e")), K("f")));
	CU_ASSERT(on(it, engine_iter_seek(it, K("d\0")), K("f")));
	CU_ASSERT(on(it, engine_iter_seek(it, K("c")), K("d")));
	CU_ASSERT(on(it, engine_iter_seek(it, K("a")), K("d")));
	CU_ASSERT(on(it, engine_iter_seek(it, NONE), K("d")));
	CU_ASSERT_FALSE(engine_iter_seek(it, K("g")));
	CU_ASSERT_FALSE(engine_iter_seek(it, K("h")));
	CU_ASSERT_FALSE(engine_iter_seek(it, K("z")));
	CU_ASSERT_EQUAL(engine_iter_error(it), 0);
	CU_ASSERT(on(it, engine_iter_seek(it, K("d")), K("d")));
	CU_ASSERT(on(it, engine_iter_next(it), K("f")));
	CU_ASSERT_FALSE(engine_iter_next(it));
	engine_iter_free(it);
}

static void test_seek_last_goes_to_the_last_row_in_bounds(void)
{
	struct engine_iter *it;

	put_letters(POINT, "bdfh");
	it = iter(POINT, K("c"), K("h"));
	CU_ASSERT(on(it, engine_iter_seek_last(it), K("f")));
	CU_ASSERT_FALSE(engine_iter_next(it));
	CU_ASSERT(on(it, engine_iter_seek_last(it), K("f")));
	engine_iter_free(it);
	it = iter(POINT, K("c"), NONE);
	CU_ASSERT(on(it, engine_iter_seek_last(it), K("h")));
	engine_iter_free(it);
	it = iter(POINT, NONE, NONE);
	CU_ASSERT(on(it, engine_iter_seek_last(it), K("h")));
	engine_iter_free(it);
	it = iter(POINT, K("e"), K("f"));
	CU_ASSERT_FALSE(engine_iter_seek_last(it));
	CU_ASSERT_EQUAL(engine_iter_error(it), 0);
	engine_iter_free(it);
	it = iter(STAGE, NONE, NONE);
	CU_ASSERT_FALSE(engine_iter_seek_last(it));
	CU_ASSERT_FALSE(engine_iter_seek(it, NONE));
	CU_ASSERT_EQUAL(engine_iter_error(it), 0);
	engine_iter_free(it);
	engine_iter_free(NULL);
}

static void test_the_bounds_are_copied(void)
{
	char start[] = "b", end[] = "d";
	struct engine_iter *it;

	put_letters(POINT, "abcde");
	it = iter(POINT, slice_str(start), slice_str(end));
	start[0] = 'e';
	end[0] = 'a';
	assert_rest(it, NONE, "b=1 c=1");
	engine_iter_free(it);
}

static void test_an_iterator_does_not_see_later_writes(void)
{
	struct engine_iter *it;

	put_letters(PREFIX, "bdf");
	it = iter(PREFIX, NONE, NONE);
	put(PREFIX, K("a"), "new");
	put(PREFIX, K("d"), "new");
	del(PREFIX, K("b"));
	assert_rest(it, NONE, "b=1 d=1 f=1");
	CU_ASSERT(engine_iter_seek(it, NONE));
	del_range(PREFIX, NONE, K("z"));
	rewrite(PREFIX);
	CU_ASSERT(on(it, engine_iter_next(it), K("d")));
	CU_ASSERT(slice_eq(it->value, K("1")));
	CU_ASSERT(on(it, engine_iter_seek_last(it), K("f")));
	engine_iter_free(it);
	assert_scan(PREFIX, NONE, NONE, "");
}

static void check_prefixes(void)
{
	struct engine_iter *it;

	/* Within one prefix, ending inside it, at its end, and past a key that is not there. */
	it = iter(PREFIX, K("b\0001"), K("b\0009"));
	CU_ASSERT(on(it, engine_iter_seek(it, K("b\0002")), K("b\0002")));
	CU_ASSERT(on(it, engine_iter_next(it), K("b\0004")));
	CU_ASSERT_FALSE(engine_iter_next(it));
	CU_ASSERT(on(it, engine_iter_seek_last(it), K("b\0004")));
	CU_ASSERT(on(it, engine_iter_seek(it, NONE), K("b\0002")));
	engine_iter_free(it);
	it = iter(PREFIX, K("b\0003"), K("b\001"));
	CU_ASSERT(on(it, engine_iter_seek(it, K("b\0003")), K("b\0004")));
	CU_ASSERT_FALSE(engine_iter_next(it));
	CU_ASSERT(on(it, engine_iter_seek_last(it), K("b\0004")));
	CU_ASSERT_FALSE(engine_iter_seek(it, K("b\0005")));
	CU_ASSERT_FALSE(engine_iter_seek(it, K("z")));
	engine_iter_free(it);
	it = iter(PREFIX, K("bb\0001"), K("bb\001"));
	CU_ASSERT_FALSE(engine_iter_seek(it, NONE));
	CU_ASSERT_FALSE(engine_iter_seek_last(it));
	CU_ASSERT_EQUAL(engine_iter_error(it), 0);
	engine_iter_free(it);
	/* Over prefixes: the bounds are not whole prefixes. */
	it = iter(PREFIX, K("b"), K("c"));
	CU_ASSERT(on(it, engine_iter_seek(it, K("b")), K("b\0002")));
	CU_ASSERT(on(it, engine_iter_next(it), K("b\0004")));
	CU_ASSERT(on(it, engine_iter_next(it), K("ba\0001")));
	CU_ASSERT_FALSE(engine_iter_next(it));
	CU_ASSERT(on(it, engine_iter_seek_last(it), K("ba\0001")));
	engine_iter_free(it);
	it = iter(PREFIX, K("b\0004"), K("z"));
	CU_ASSERT(on(it, engine_iter_seek(it, K("bzzz\0000")), K("c\0001")));
	CU_ASSERT(on(it, engine_iter_seek(it, NONE), K("b\0004")));
	CU_ASSERT(on(it, engine_iter_next(it), K("ba\0001")));
	CU_ASSERT(on(it, engine_iter_seek_last(it), K("c\0001")));
	engine_iter_free(it);
}

static void test_rows_are_found_by_prefix_and_across(void)
{
	put(PREFIX, K("a\0001"), "1");
	put(PREFIX, K("b\0002"), "2");
	put(PREFIX, K("b\0004"), "3");
	put(PREFIX, K("ba\0001"), "4");
	put(PREFIX, K("c\0001"), "5");
	check_prefixes();
	rewrite(PREFIX);
	check_prefixes();
	close_and_open(NFAMILIES);
	check_prefixes();
	assert_is(env.e, PREFIX, K("b\0004"), "3");
	assert_is(env.e, PREFIX, K("b\0005"), NULL);
}

/* ---- batches --------------------------------------------------------------------------------- */

static void test_a_batch_is_nothing_until_written(void)
{
	struct engine_batch *b = engine_batch_new(env.e);

	CU_ASSERT_PTR_NOT_NULL_FATAL(b);
	CU_ASSERT_EQUAL(engine_batch_put(b, POINT, K("p"), K("1")), 0);
	CU_ASSERT_EQUAL(engine_batch_put(b, BLOB, K("b"), K("2")), 0);
	assert_is(env.e, POINT, K("p"), NULL);
	CU_ASSERT_EQUAL(engine_write(env.e, b, ENGINE_NOSYNC), 0);
	assert_is(env.e, POINT, K("p"), "1");
	assert_is(env.e, BLOB, K("b"), "2");
	engine_batch_free(b);
	b = engine_batch_new(env.e);
	CU_ASSERT_EQUAL(engine_batch_put(b, POINT, K("q"), K("1")), 0);
	engine_batch_free(b);
	assert_is(env.e, POINT, K("q"), NULL);
	engine_batch_free(NULL);
}

static void test_a_batch_copies_and_is_kept_and_cleared(void)
{
	struct engine_batch *b = engine_batch_new(env.e);
	char key[] = "k", value[] = "1";
	size_t empty, one;

	CU_ASSERT_PTR_NOT_NULL_FATAL(b);
	empty = engine_batch_bytes(b);
	CU_ASSERT_EQUAL(engine_write(env.e, b, ENGINE_NOSYNC), 0);
	CU_ASSERT_EQUAL(engine_batch_put(b, POINT, slice_str(key), slice_str(value)), 0);
	one = engine_batch_bytes(b);
	CU_ASSERT(one > empty);
	CU_ASSERT_EQUAL(engine_batch_put(b, POINT, K("l"), K("0123456789")), 0);
	CU_ASSERT(engine_batch_bytes(b) >= one + 10);
	key[0] = 'x';
	value[0] = 'x';
	CU_ASSERT_EQUAL(engine_write(env.e, b, ENGINE_NOSYNC), 0);
	assert_scan(POINT, NONE, NONE, "k=1 l=0123456789");
	del(POINT, K("k"));
	CU_ASSERT_EQUAL(engine_write(env.e, b, ENGINE_SYNC), 0);
	assert_scan(POINT, NONE, NONE, "k=1 l=0123456789");
	engine_batch_clear(b);
	CU_ASSERT_EQUAL(engine_batch_bytes(b), empty);
	del_range(POINT, K("a"), K("z"));
	CU_ASSERT_EQUAL(engine_write(env.e, b, ENGINE_NOSYNC), 0);
	assert_scan(POINT, NONE, NONE, "");
	CU_ASSERT_EQUAL(engine_batch_put(b, POINT, K("m"), K("2")), 0);
	CU_ASSERT_EQUAL(engine_write(env.e, b, ENGINE_NOSYNC), 0);
	assert_scan(POINT, NONE, NONE, "m=2");
	engine_batch_free(b);
}

static void test_rows_of_a_batch_apply_in_order(void)
{
	struct engine_batch *b = engine_batch_new(env.e);
	int err = 0;

	CU_ASSERT_PTR_NOT_NULL_FATAL(b);
	put(POINT, K("deleted-put"), "0");
	put(POINT, K("r3"), "0");
	err |= engine_batch_put(b, POINT, K("put-deleted"), K("1"));
	err |= engine_batch_del(b, POINT, K("put-deleted"));
	err |= engine_batch_del(b, POINT, K("deleted-put"));
	err |= engine_batch_put(b, POINT, K("deleted-put"), K("1"));
	err |= engine_batch_put(b, POINT, K("put-put"), K("1"));
	err |= engine_batch_put(b, POINT, K("put-put"), K("2"));
	err |= engine_batch_put(b, POINT, K("r1"), K("1"));
	err |= engine_batch_del_range(b, POINT, K("r"), K("s"));
	err |= engine_batch_put(b, POINT, K("r2"), K("2"));
	CU_ASSERT_EQUAL(err, 0);
	CU_ASSERT_EQUAL(engine_write(env.e, b, ENGINE_NOSYNC), 0);
	engine_batch_free(b);
	assert_scan(POINT, NONE, NONE, "deleted-put=1 put-put=2 r2=2");
	rewrite(POINT);
	assert_scan(POINT, NONE, NONE, "deleted-put=1 put-put=2 r2=2");
	close_and_open(NFAMILIES);
	assert_scan(POINT, NONE, NONE, "deleted-put=1 put-put=2 r2=2");
}

static void test_del_range_takes_its_start_and_leaves_its_end(void)
{
	for (unsigned family = 0; family < NFAMILIES; family++)
		put_letters(family, "abcdef");
	del_range(STAGE, K("b"), K("e"));
	assert_scan(STAGE, NONE, NONE, "a=1 e=1 f=1");
	assert_is(env.e, STAGE, K("c"), NULL);
	del_range(STAGE, K("e"), K("e"));
	del_range(STAGE, K("f"), K("a"));
	del_range(STAGE, K("x"), K("z"));
	assert_scan(STAGE, NONE, NONE, "a=1 e=1 f=1");
	put(STAGE, K("c"), "2");
	rewrite(STAGE);
	assert_scan(STAGE, NONE, NONE, "a=1 c=2 e=1 f=1");
	for (unsigned family = 0; family < STAGE; family++)
		assert_scan(family, NONE, NONE, "a=1 b=1 c=1 d=1 e=1 f=1");
}

/* ---- the drop predicate ---------------------------------------------------------------------- */

static void test_a_rewrite_drops_what_the_predicate_says(void)
{
	put(APPEND, K("a"), "old 1");
	put(APPEND, K("b"), "keep");
	put(APPEND, K("c"), "old 2");
	put(POINT, K("a"), "old");
	rewrite(APPEND);
	rewrite(POINT);
	assert_scan(APPEND, NONE, NONE, "a=old 1 b=keep c=old 2");
	atomic_store(&dropping, 1);
	rewrite(APPEND);
	rewrite(POINT);
	assert_scan(APPEND, NONE, NONE, "b=keep");
	assert_is(env.e, APPEND, K("a"), NULL);
	assert_scan(POINT, NONE, NONE, "a=old");
	put(APPEND, K("a"), "anew");
	rewrite(APPEND);
	assert_scan(APPEND, NONE, NONE, "a=anew b=keep");
}

static void test_a_rewrite_keeps_to_its_range_and_to_what_iterators_see(void)
{
	struct engine_iter *it;

	put(APPEND, K("a"), "old 1");
	put(APPEND, K("b"), "old 2");
	put(APPEND, K("c"), "old 3");
	put(APPEND, K("d"), "keep");
	it = iter(APPEND, NONE, NONE);
	CU_ASSERT(engine_iter_seek(it, NONE));
	atomic_store(&dropping, 1);
	CU_ASSERT_EQUAL(engine_rewrite(env.e, APPEND, K("x"), K("z"), UINT64_MAX, NULL), 0);
	assert_scan(APPEND, NONE, NONE, "a=old 1 b=old 2 c=old 3 d=keep");
	rewrite(POINT);
	assert_scan(APPEND, NONE, NONE, "a=old 1 b=old 2 c=old 3 d=keep");
	CU_ASSERT_EQUAL(engine_rewrite(env.e, APPEND, K("b"), NONE, UINT64_MAX, NULL), 0);
	assert_is(env.e, APPEND, K("b"), NULL);
	assert_is(env.e, APPEND, K("c"), NULL);
	assert_is(env.e, APPEND, K("d"), "keep");
	CU_ASSERT(engine_iter_next(it) && slice_eq(it->key, K("b")));
	CU_ASSERT(engine_iter_next(it) && slice_eq(it->key, K("c")));
	engine_iter_free(it);
	rewrite(APPEND);
	assert_scan(APPEND, NONE, NONE, "d=keep");
	close_and_open(NFAMILIES);
	assert_scan(APPEND, NONE, NONE, "d=keep");
}

/* A file around the only key of one that lies deeper. */
static void test_a_rewrite_reaches_rows_on_both_sides_of_older_ones(void)
{
	put(APPEND, K("m"), "keep");
	rewrite(APPEND);
	put(APPEND, K("a"), "old");
	put(APPEND, K("z"), "old");
	atomic_store(&dropping, 1);
	rewrite(APPEND);
	assert_scan(APPEND, NONE, NONE, "m=keep");
	put(APPEND, K("m"), "old");
	put(APPEND, K("n"), "keep");
	rewrite(APPEND);
	assert_scan(APPEND, NONE, NONE, "n=keep");
}

static void test_a_rewrite_that_is_to_stop_stops(void)
{
	atomic_bool stop = true;

	put(APPEND, K("a"), "old");
	atomic_store(&dropping, 1);
	CU_ASSERT_EQUAL(engine_rewrite(env.e, APPEND, NONE, NONE, 1000, &stop), -ECANCELED);
	assert_scan(APPEND, NONE, NONE, "a=old");
	atomic_store(&stop, false);
	CU_ASSERT_EQUAL(engine_rewrite(env.e, APPEND, NONE, NONE, UINT64_MAX, &stop), 0);
	assert_scan(APPEND, NONE, NONE, "");
}

/* ---- what stays ------------------------------------------------------------------------------ */

static void test_all_is_there_after_reopen_and_after_close_and_open(void)
{
	for (unsigned family = 0; family < NFAMILIES; family++)
		put_letters(family, "abc");
	CU_ASSERT_EQUAL(engine_reopen(env.e), 0);
	for (unsigned family = 0; family < NFAMILIES; family++)
		assert_scan(family, NONE, NONE, "a=1 b=1 c=1");
	put(POINT, K("d"), "2");
	CU_ASSERT_EQUAL(engine_sync(env.e), 0);
	close_and_open(NFAMILIES);
	for (unsigned family = 0; family < NFAMILIES; family++)
		assert_scan(family, NONE, NONE, family == POINT ? "a=1 b=1 c=1 d=2" : "a=1 b=1 c=1");
}

static void test_much_is_there_after_close_and_open(void)
{
	char value[1001];
	size_t n = 0;
	struct engine_iter *it;

	memset(value, 'v', 1000);
	value[1000] = '\0';
	for (unsigned i = 0; i < 3000; i++) {
		char key[16];

		snprintf(key, sizeof(key), "%06u", i);
		if (write_row(env.e, ENGINE_PUT, POINT, slice_str(key), slice_str(value)))
			break;
	}
	close_and_open(NFAMILIES);
	it = iter(POINT, NONE, NONE);
	for (bool ok = engine_iter_seek(it, NONE); ok; ok = engine_iter_next(it)) {
		char key[16];

		snprintf(key, sizeof(key), "%06zu", n++);
		if (!slice_eq(it->key, slice_str(key)) || !slice_eq(it->value, slice_str(value)))
			break;
	}
	CU_ASSERT_EQUAL(n, 3000);
	CU_ASSERT_EQUAL(engine_iter_error(it), 0);
	engine_iter_free(it);
}

static void test_a_new_family_is_made_empty_and_one_not_named_is_kept(void)
{
	put(STAGE, K("k"), "1");
	close_and_open(NFAMILIES + 1);
	assert_scan(NFAMILIES, NONE, NONE, "");
	put(NFAMILIES, K("k"), "2");
	close_and_open(APPEND);
	put(META, K("k"), "3");
	close_and_open(NFAMILIES + 1);
	assert_is(env.e, META, K("k"), "3");
	assert_is(env.e, STAGE, K("k"), "1");
	assert_is(env.e, NFAMILIES, K("k"), "2");
}

static void test_a_checkpoint_is_a_copy_of_that_moment(void)
{
	char dir[320];
	struct engine *copy = NULL;

	snprintf(dir, sizeof(dir), "%s/copy", env.tmp);
	put(POINT, K("k"), "before");
	put(BLOB, K("k"), "blob");
	CU_ASSERT_EQUAL(engine_checkpoint(env.e, dir), 0);
	put(POINT, K("k"), "after");
	put(POINT, K("l"), "after");
	del(BLOB, K("k"));
	CU_ASSERT_EQUAL(engine_checkpoint(env.e, dir), -EEXIST);
	CU_ASSERT_EQUAL_FATAL(open_families(dir, NFAMILIES, &copy), 0);
	assert_is(copy, POINT, K("k"), "before");
	assert_is(copy, POINT, K("l"), NULL);
	assert_is(copy, BLOB, K("k"), "blob");
	CU_ASSERT_EQUAL(write_row(copy, ENGINE_PUT, POINT, K("k"), K("copy")), 0);
	assert_is(env.e, POINT, K("k"), "after");
	engine_close(copy);
}

static void test_figures_tell_of_what_was_written(void)
{
	struct engine_stats stats;
	char value[4096];

	memset(value, 'x', sizeof(value));
	for (const char *c = letters; *c; c++)
		CU_ASSERT_EQUAL(write_row(env.e, ENGINE_PUT, POINT, slice_of(c, 1),
					  slice_of(value, sizeof(value))),
				0);
	CU_ASSERT_EQUAL(engine_sync(env.e), 0);
	engine_stats_get(env.e, &stats);
	CU_ASSERT_EQUAL(stats.rows_estimate, 26);
	CU_ASSERT(stats.bytes_live + stats.bytes_buffers >= 26 * sizeof(value));
}

/* ---- many threads ---------------------------------------------------------------------------- */

enum { THREAD_ROUNDS = 300, THREAD_KEYS = 8, THREAD_READERS = 3 };

static atomic_int writer_done;
static atomic_uint newest; /* round whose write has returned */

/* Each batch sets all keys to one number; returns how often a call failed. */
static void *writer(void *arg)
{
	uintptr_t wrong = 0;

	(void)arg;
	for (unsigned round = 1; round <= THREAD_ROUNDS; round++) {
		struct engine_batch *b = engine_batch_new(env.e);
		uint8_t value[8];

		put_be64(value, round);
		for (uint8_t k = 0; b && k < THREAD_KEYS; k++) {
			wrong += engine_batch_put(b, POINT, slice_of(&k, 1), slice_of(value, 8)) != 0;
			wrong += engine_batch_put(b, APPEND, slice_of(value, 8), slice_of(&k, 1)) != 0;
		}
		wrong += !b || engine_write(env.e, b, round % 100 ? ENGINE_NOSYNC : ENGINE_SYNC) != 0;
		engine_batch_free(b);
		atomic_store(&newest, round);
	}
	atomic_store(&writer_done, 1);
	return (void *)wrong;
}

/* Counts rounds seen half, seen backwards, or not seen though their write had returned. */
static void *reader(void *arg)
{
	uintptr_t wrong = 0;
	uint64_t last = 0;
	int done;

	(void)arg;
	do {
		uint64_t least = atomic_load(&newest), first = 0;
		unsigned rows = 0;
		struct engine_iter *it;
		struct engine_pin pin = { 0 };

		done = atomic_load(&writer_done);
		if (engine_iter_new(env.e, POINT, NONE, NONE, &it))
			return (void *)(wrong + 1);
		for (bool ok = engine_iter_seek(it, NONE); ok; ok = engine_iter_next(it), rows++) {
			uint64_t round = it->value.len == 8 ? get_be64(it->value.data) : 0;

			first = rows ? first : round;
			wrong += round != first;
		}
		wrong += engine_iter_error(it) != 0;
		wrong += rows != 0 && rows != THREAD_KEYS;
		wrong += first < least || first < last;
		last = first;
		engine_iter_free(it);
		if (!last)
			continue;
		wrong += engine_get(env.e, POINT, K("\003"), &pin) != 0 || pin.value.len != 8 ||
			 get_be64(pin.value.data) < last;
		engine_pin_release(env.e, &pin);
	} while (!done);
	return (void *)wrong;
}

static void test_readers_see_whole_batches_while_a_writer_writes(void)
{
	pthread_t threads[1 + THREAD_READERS];

	atomic_store(&writer_done, 0);
	atomic_store(&newest, 0);
	for (unsigned i = 0; i < 1 + THREAD_READERS; i++)
		if (pthread_create(&threads[i], NULL, i ? reader : writer, NULL))
			abort();
	for (unsigned i = 0; i < 1 + THREAD_READERS; i++) {
		void *wrong;

		pthread_join(threads[i], &wrong);
		CU_ASSERT_PTR_NULL(wrong);
	}
}

static void *adder(void *arg)
{
	uint8_t key[2] = { *(uint8_t *)arg, 0 };
	uintptr_t wrong = 0;

	for (unsigned i = 0; i < 100; i++) {
		key[1] = (uint8_t)i;
		wrong += write_row(env.e, ENGINE_PUT, POINT, slice_of(key, 2), K("v")) != 0;
	}
	return (void *)wrong;
}

static void test_writers_do_not_lose_each_others_rows(void)
{
	uint8_t ids[4] = { 1, 2, 3, 4 };
	pthread_t threads[4];
	struct engine_iter *it;
	unsigned rows = 0;

	for (unsigned i = 0; i < 4; i++)
		if (pthread_create(&threads[i], NULL, adder, &ids[i]))
			abort();
	for (unsigned i = 0; i < 4; i++) {
		void *wrong;

		pthread_join(threads[i], &wrong);
		CU_ASSERT_PTR_NULL(wrong);
	}
	it = iter(POINT, NONE, NONE);
	for (bool ok = engine_iter_seek(it, NONE); ok; ok = engine_iter_next(it))
		rows++;
	CU_ASSERT_EQUAL(rows, 400);
	engine_iter_free(it);
}

/* ---- against a model ------------------------------------------------------------------------- */

enum { MODEL_KEYS = 64, MODEL_STEPS = 1500 };

static uint32_t model_random(uint32_t *seed, uint32_t below)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed % below;
}

/* Keys of three bytes, such that the order of the numbers is that of the keys. */
static struct slice model_key(uint32_t k, uint8_t out[3])
{
	out[0] = (uint8_t)(k / 16 * 85); /* 0, 0x55, 0xaa, 0xff */
	out[1] = (uint8_t)(k / 4 % 4 * 85);
	out[2] = (uint8_t)(k % 4 * 85);
	return slice_of(out, 3);
}

static void model_compare(const uint32_t *model, uint32_t from, uint32_t to)
{
	uint8_t start[3], end[3], key[3], value[4];
	struct engine_iter *it =
		iter(POINT, model_key(from, start), to < MODEL_KEYS ? model_key(to, end) : NONE);
	bool ok = engine_iter_seek(it, NONE);
	uint32_t last = MODEL_KEYS, wrong = 0;

	for (uint32_t k = from; k < to; k++) {
		if (!model[k])
			continue;
		put_le32(value, model[k]);
		wrong += !ok || !slice_eq(it->key, model_key(k, key)) ||
			 !slice_eq(it->value, slice_of(value, 4));
		ok = ok && engine_iter_next(it);
		last = k;
	}
	wrong += ok;
	ok = engine_iter_seek_last(it);
	wrong += last < MODEL_KEYS ? !on(it, ok, model_key(last, key)) : ok;
	CU_ASSERT_EQUAL(wrong, 0);
	engine_iter_free(it);
}

static void test_random_batches_match_a_model(void)
{
	uint32_t model[MODEL_KEYS] = { 0 };
	uint32_t seed = 20111;

	printf("(seed %u) ", seed);
	for (uint32_t step = 1; step <= MODEL_STEPS; step++) {
		struct engine_batch *b = engine_batch_new(env.e);
		uint32_t ops = 1 + model_random(&seed, 6), from;
		int err = 0;

		for (uint32_t i = 0; i < ops; i++) {
			uint32_t k = model_random(&seed, MODEL_KEYS),
				 to = k + model_random(&seed, MODEL_KEYS - k);
			uint8_t key[3], end[3], value[4];

			switch (model_random(&seed, 8)) {
			case 0:
				err |= engine_batch_del_range(b, POINT, model_key(k, key),
							      model_key(to, end));
				for (; k < to; k++)
					model[k] = 0;
				break;
			case 1:
			case 2:
				err |= engine_batch_del(b, POINT, model_key(k, key));
				model[k] = 0;
				break;
			default:
				model[k] = step * 8 + i;
				put_le32(value, model[k]);
				err |= engine_batch_put(b, POINT, model_key(k, key), slice_of(value, 4));
			}
		}
		err |= engine_write(env.e, b, ENGINE_NOSYNC);
		engine_batch_free(b);
		CU_ASSERT_EQUAL_FATAL(err, 0);
		from = model_random(&seed, MODEL_KEYS);
		model_compare(model, from, from + model_random(&seed, MODEL_KEYS + 1 - from));
		if (step % 300 == 0)
			rewrite(POINT);
		if (step % 500 == 0)
			CU_ASSERT_EQUAL_FATAL(engine_reopen(env.e), 0);
	}
	model_compare(model, 0, MODEL_KEYS);
}

static CU_TestInfo contract[] = {
	UNIT_TEST(test_a_key_never_put_is_absent),
	UNIT_TEST(test_a_put_is_read_back_and_overwritten_and_deleted),
	UNIT_TEST(test_families_do_not_share_keys),
	UNIT_TEST(test_an_empty_value_is_a_value),
	UNIT_TEST(test_keys_are_any_bytes),
	UNIT_TEST(test_big_values_come_back_whole),
	UNIT_TEST(test_a_pin_outlives_writes_to_its_key),
	UNIT_TEST(test_rows_come_in_the_order_of_their_bytes),
	UNIT_TEST(test_an_iterator_stays_within_its_bounds),
	UNIT_TEST(test_seek_goes_to_the_first_key_not_below),
	UNIT_TEST(test_seek_last_goes_to_the_last_row_in_bounds),
	UNIT_TEST(test_the_bounds_are_copied),
	UNIT_TEST(test_an_iterator_does_not_see_later_writes),
	UNIT_TEST(test_rows_are_found_by_prefix_and_across),
	UNIT_TEST(test_a_batch_is_nothing_until_written),
	UNIT_TEST(test_a_batch_copies_and_is_kept_and_cleared),
	UNIT_TEST(test_rows_of_a_batch_apply_in_order),
	UNIT_TEST(test_del_range_takes_its_start_and_leaves_its_end),
	UNIT_TEST(test_a_rewrite_drops_what_the_predicate_says),
	UNIT_TEST(test_a_rewrite_keeps_to_its_range_and_to_what_iterators_see),
	UNIT_TEST(test_a_rewrite_reaches_rows_on_both_sides_of_older_ones),
	UNIT_TEST(test_a_rewrite_that_is_to_stop_stops),
	UNIT_TEST(test_all_is_there_after_reopen_and_after_close_and_open),
	UNIT_TEST(test_much_is_there_after_close_and_open),
	UNIT_TEST(test_a_new_family_is_made_empty_and_one_not_named_is_kept),
	UNIT_TEST(test_a_checkpoint_is_a_copy_of_that_moment),
	UNIT_TEST(test_figures_tell_of_what_was_written),
	UNIT_TEST(test_readers_see_whole_batches_while_a_writer_writes),
	UNIT_TEST(test_writers_do_not_lose_each_others_rows),
	UNIT_TEST(test_random_batches_match_a_model),
	CU_TEST_INFO_NULL,
};

/* ---- the memory engine alone ----------------------------------------------------------------- */

static void test_a_power_cut_drops_what_was_not_synced(void)
{
	put(POINT, K("a"), "1");
	CU_ASSERT_EQUAL(engine_sync(env.e), 0);
	put(POINT, K("b"), "1");
	del(POINT, K("a"));
	CU_ASSERT_EQUAL(mem_engine_unsynced(env.mem), 2);
	mem_engine_power_cut(env.mem);
	close_and_open(NFAMILIES);
	assert_scan(POINT, NONE, NONE, "a=1");
	CU_ASSERT_EQUAL(mem_engine_unsynced(env.mem), 0);
}

static void test_a_power_cut_may_leave_a_prefix_of_the_writes(void)
{
	put_letters(POINT, "a");
	CU_ASSERT_EQUAL(engine_sync(env.e), 0);
	put_letters(POINT, "bcd");
	mem_engine_power_cut_keeping(env.mem, 2);
	close_and_open(NFAMILIES);
	assert_scan(POINT, NONE, NONE, "a=1 b=1 c=1");
	put_letters(POINT, "ef");
	mem_engine_power_cut_keeping(env.mem, 99);
	close_and_open(NFAMILIES);
	assert_scan(POINT, NONE, NONE, "a=1 b=1 c=1 e=1 f=1");
}

static void test_what_a_rewrite_dropped_is_not_brought_back_by_a_power_cut(void)
{
	put(APPEND, K("a"), "old");
	put(APPEND, K("b"), "keep");
	CU_ASSERT_EQUAL(engine_sync(env.e), 0);
	put(APPEND, K("c"), "not synced");
	put(APPEND, K("d"), "not synced");
	atomic_store(&dropping, 1);
	rewrite(APPEND);
	CU_ASSERT_EQUAL(mem_engine_unsynced(env.mem), 2);
	mem_engine_power_cut_keeping(env.mem, 1);
	close_and_open(NFAMILIES);
	assert_scan(APPEND, NONE, NONE, "b=keep c=not synced");
}

static void test_a_killed_engine_keeps_its_writes_and_does_nothing_more(void)
{
	struct engine *dead = env.e;
	struct engine_pin pin = { 0 };

	put(POINT, K("a"), "1");
	mem_engine_kill(env.mem);
	CU_ASSERT_EQUAL(write_row(dead, ENGINE_PUT, POINT, K("b"), K("1")), -EIO);
	CU_ASSERT_EQUAL(engine_get(dead, POINT, K("a"), &pin), -EIO);
	CU_ASSERT_EQUAL(engine_sync(dead), -EIO);
	CU_ASSERT_EQUAL(engine_reopen(dead), -EIO);
	CU_ASSERT_EQUAL_FATAL(open_families(env.dir, NFAMILIES, &env.e), 0);
	assert_scan(POINT, NONE, NONE, "a=1");
	CU_ASSERT_EQUAL(write_row(dead, ENGINE_PUT, POINT, K("b"), K("1")), -EIO);
	engine_close(dead);
	assert_scan(POINT, NONE, NONE, "a=1");
}

static CU_TestInfo mem_tests[] = {
	UNIT_TEST(test_a_power_cut_drops_what_was_not_synced),
	UNIT_TEST(test_a_power_cut_may_leave_a_prefix_of_the_writes),
	UNIT_TEST(test_what_a_rewrite_dropped_is_not_brought_back_by_a_power_cut),
	UNIT_TEST(test_a_killed_engine_keeps_its_writes_and_does_nothing_more),
	CU_TEST_INFO_NULL,
};

/* ---- the fault engine alone ------------------------------------------------------------------ */

static int try_put(const char *key)
{
	return write_row(env.e, ENGINE_PUT, POINT, slice_str(key), K("1"));
}

static void test_a_fault_hits_the_nth_call_of_its_kind(void)
{
	fault_engine_arm(env.fault, (struct fault_plan){ .kinds = FAULT_WRITE, .at = 2, .err = -ENOSPC });
	CU_ASSERT_EQUAL(try_put("a"), 0);
	CU_ASSERT_EQUAL(engine_sync(env.e), 0);
	CU_ASSERT_EQUAL(try_put("b"), -ENOSPC);
	CU_ASSERT_EQUAL(try_put("c"), 0);
	CU_ASSERT_EQUAL(fault_engine_calls(env.fault), 3);
	CU_ASSERT_EQUAL(fault_engine_failed(env.fault), 1);
	assert_scan(POINT, NONE, NONE, "a=1 c=1");
}

static void test_a_fault_can_last(void)
{
	struct engine_pin pin = { 0 };

	fault_engine_arm(env.fault,
			 (struct fault_plan){ FAULT_WRITE | FAULT_SYNC, 2, -EIO, FAULT_FROM_ON, false });
	CU_ASSERT_EQUAL(try_put("a"), 0);
	CU_ASSERT_EQUAL(engine_sync(env.e), -EIO);
	CU_ASSERT_EQUAL(try_put("b"), -EIO);
	CU_ASSERT_EQUAL(engine_get(env.e, POINT, K("a"), &pin), 0);
	engine_pin_release(env.e, &pin);
	fault_engine_disarm(env.fault);
	CU_ASSERT_EQUAL(try_put("b"), 0);
	assert_scan(POINT, NONE, NONE, "a=1 b=1");
}

static void test_a_failing_write_may_have_been_done(void)
{
	fault_engine_arm(env.fault, (struct fault_plan){ FAULT_WRITE, 1, -EIO, FAULT_FROM_ON, .done = true });
	CU_ASSERT_EQUAL(try_put("a"), -EIO);
	CU_ASSERT_EQUAL(try_put("b"), -EIO);
	assert_scan(POINT, NONE, NONE, "a=1");
}

static void test_after_a_crash_every_call_fails(void)
{
	struct engine_pin pin = { 0 };
	struct engine_iter *it;
	struct engine *other;

	fault_engine_arm(env.fault, (struct fault_plan){ FAULT_WRITE, 2, -EIO, FAULT_CRASH, false });
	CU_ASSERT_EQUAL(try_put("a"), 0);
	CU_ASSERT_EQUAL(engine_sync(env.e), 0);
	CU_ASSERT_EQUAL(try_put("b"), -EIO);
	CU_ASSERT_EQUAL(engine_get(env.e, POINT, K("a"), &pin), -EIO);
	CU_ASSERT_EQUAL(engine_sync(env.e), -EIO);
	CU_ASSERT_EQUAL(engine_iter_new(env.e, POINT, NONE, NONE, &it), -EIO);
	CU_ASSERT_PTR_NULL(engine_batch_new(env.e));
	CU_ASSERT_EQUAL(engine_reopen(env.e), -EIO);
	CU_ASSERT_EQUAL(open_families(env.dir, NFAMILIES, &other), -EIO);
	fault_engine_disarm(env.fault);
	close_and_open(NFAMILIES);
	assert_scan(POINT, NONE, NONE, "a=1");
}

static void test_a_move_that_fails_is_told_from_the_end(void)
{
	struct engine_iter *it;

	put_letters(POINT, "abc");
	it = iter(POINT, NONE, NONE);
	fault_engine_arm(env.fault,
			 (struct fault_plan){ .kinds = FAULT_MOVE, .at = 2, .err = MVCC_ECORRUPT });
	CU_ASSERT(engine_iter_seek(it, NONE));
	CU_ASSERT_FALSE(engine_iter_next(it));
	CU_ASSERT_EQUAL(engine_iter_error(it), MVCC_ECORRUPT);
	assert_rest(it, K("b"), "b=1 c=1");
	engine_iter_free(it);
}

static void test_a_rewrite_may_fail(void)
{
	put(APPEND, K("a"), "old");
	atomic_store(&dropping, 1);
	fault_engine_arm(env.fault, (struct fault_plan){ .kinds = FAULT_REWRITE, .at = 1, .err = -EIO });
	CU_ASSERT_EQUAL(engine_rewrite(env.e, APPEND, NONE, NONE, UINT64_MAX, NULL), -EIO);
	assert_scan(APPEND, NONE, NONE, "a=old");
	rewrite(APPEND);
	assert_scan(APPEND, NONE, NONE, "");
}

static void test_a_failed_reopen_answers_every_call_until_one_succeeds(void)
{
	struct engine_pin pin = { 0 };

	put_letters(POINT, "a");
	fault_engine_arm(env.fault, (struct fault_plan){ .kinds = FAULT_OPEN, .at = 1, .err = -ENOSPC });
	CU_ASSERT_EQUAL(engine_reopen(env.e), -ENOSPC);
	CU_ASSERT_EQUAL(engine_get(env.e, POINT, K("a"), &pin), -ENOSPC);
	CU_ASSERT_EQUAL(engine_sync(env.e), -ENOSPC);
	CU_ASSERT_EQUAL(engine_reopen(env.e), 0);
	assert_scan(POINT, NONE, NONE, "a=1");
}

static CU_TestInfo fault_tests[] = {
	UNIT_TEST(test_a_fault_hits_the_nth_call_of_its_kind),
	UNIT_TEST(test_a_fault_can_last),
	UNIT_TEST(test_a_failing_write_may_have_been_done),
	UNIT_TEST(test_after_a_crash_every_call_fails),
	UNIT_TEST(test_a_move_that_fails_is_told_from_the_end),
	UNIT_TEST(test_a_rewrite_may_fail),
	UNIT_TEST(test_a_failed_reopen_answers_every_call_until_one_succeeds),
	CU_TEST_INFO_NULL,
};

/* ---- RocksDB alone --------------------------------------------------------------------------- */

/* The newest file of the database whose name matches; false if there is none. */
static bool newest_file(const char *pattern, char out[600])
{
	DIR *d = opendir(env.dir);
	struct dirent *entry;
	char name[256] = "";

	while (d && (entry = readdir(d)))
		if (fnmatch(pattern, entry->d_name, 0) == 0 && strcmp(entry->d_name, name) > 0)
			snprintf(name, sizeof(name), "%s", entry->d_name);
	if (d)
		closedir(d);
	snprintf(out, 600, "%s/%s", env.dir, name);
	return name[0];
}

/* Changes a byte; `at` below 0 counts from the end. */
static void damage(const char *file, off_t at)
{
	int fd = open(file, O_RDWR);
	uint8_t byte;

	CU_ASSERT(fd >= 0);
	if (fd < 0)
		return;
	at = lseek(fd, at, at < 0 ? SEEK_END : SEEK_SET);
	CU_ASSERT_EQUAL(pread(fd, &byte, 1, at), 1);
	byte ^= 0x55;
	CU_ASSERT_EQUAL(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

/* Fills a family, brings it into a file of its own, and closes. */
static void fill_and_close(void)
{
	char value[5001];

	memset(value, 'v', 5000);
	value[5000] = '\0';
	for (const char *c = letters; *c; c++)
		put(BLOB, slice_of(c, 1), value);
	rewrite(BLOB);
	engine_close(env.e);
	env.e = NULL;
}

static void test_a_damaged_block_is_corrupt_and_the_rest_stays_readable(void)
{
	char file[600];
	struct engine_pin pin = { 0 };
	struct engine_iter *it;
	unsigned rows = 0;

	fill_and_close();
	CU_ASSERT_FATAL(newest_file("*.sst", file));
	damage(file, 100);
	CU_ASSERT_EQUAL_FATAL(open_families(env.dir, NFAMILIES, &env.e), 0);
	CU_ASSERT_EQUAL(engine_get(env.e, BLOB, K("a"), &pin), MVCC_ECORRUPT);
	CU_ASSERT(was_logged("Corruption"));
	CU_ASSERT(was_logged(strrchr(file, '/')));
	CU_ASSERT_EQUAL(engine_get(env.e, BLOB, K("z"), &pin), 0);
	engine_pin_release(env.e, &pin);
	it = iter(BLOB, NONE, NONE);
	for (bool ok = engine_iter_seek(it, NONE); ok; ok = engine_iter_next(it))
		rows++;
	CU_ASSERT_EQUAL(engine_iter_error(it), MVCC_ECORRUPT);
	CU_ASSERT_EQUAL(engine_iter_error(it), MVCC_ECORRUPT);
	CU_ASSERT(rows < 26);
	engine_iter_free(it);
}

static void test_a_lost_table_is_told_at_open(void)
{
	char file[600];

	fill_and_close();
	CU_ASSERT_FATAL(newest_file("*.sst", file));
	CU_ASSERT_EQUAL(unlink(file), 0);
	CU_ASSERT_EQUAL(open_families(env.dir, NFAMILIES, &env.e), MVCC_ECORRUPT);
	*strrchr(file, '.') = '\0'; /* LevelDB's suffix may be named for ours */
	CU_ASSERT(was_logged(strrchr(file, '/')));
}

static void test_a_lost_manifest_is_told_at_open(void)
{
	char file[600];

	fill_and_close();
	CU_ASSERT_FATAL(newest_file("MANIFEST-*", file));
	CU_ASSERT_EQUAL(unlink(file), 0);
	CU_ASSERT(open_families(env.dir, NFAMILIES, &env.e) < 0);
	CU_ASSERT(was_logged(strrchr(file, '/')));
}

static void test_a_damaged_manifest_is_told_at_open(void)
{
	char file[600];

	fill_and_close();
	CU_ASSERT_FATAL(newest_file("MANIFEST-*", file));
	damage(file, 20);
	CU_ASSERT_EQUAL(open_families(env.dir, NFAMILIES, &env.e), MVCC_ECORRUPT);
	CU_ASSERT(was_logged("Corruption"));
}

static void test_a_lost_current_does_not_make_a_new_database(void)
{
	char file[600], table[600];

	fill_and_close();
	CU_ASSERT_FATAL(newest_file("*.sst", table));
	snprintf(file, sizeof(file), "%s/CURRENT", env.dir);
	CU_ASSERT_EQUAL(unlink(file), 0);
	CU_ASSERT_EQUAL(open_families(env.dir, NFAMILIES, &env.e), MVCC_ECORRUPT);
	CU_ASSERT(was_logged("CURRENT"));
	CU_ASSERT_EQUAL(access(table, F_OK), 0);
}

static void test_an_absent_directory_is_an_error(void)
{
	struct engine *other = NULL;
	char dir[320];

	snprintf(dir, sizeof(dir), "%s/absent", env.tmp);
	CU_ASSERT_EQUAL(open_families(dir, NFAMILIES, &other), -ENOENT);
	CU_ASSERT(was_logged("absent"));
}

static void test_a_second_open_finds_it_locked(void)
{
	struct engine *other = NULL;

	CU_ASSERT_EQUAL(open_families(env.dir, NFAMILIES, &other), MVCC_ELOCKED);
	put(POINT, K("k"), "1");
	assert_is(env.e, POINT, K("k"), "1");
}

static void test_a_failed_reopen_is_answered_until_the_cause_is_gone(void)
{
	char current[600], away[600];
	struct engine_pin pin = { 0 };
	struct engine_stats stats;

	put(POINT, K("k"), "1");
	rewrite(POINT);
	snprintf(current, sizeof(current), "%s/CURRENT", env.dir);
	snprintf(away, sizeof(away), "%s/CURRENT", env.tmp);
	CU_ASSERT_EQUAL(rename(current, away), 0);
	CU_ASSERT_EQUAL(engine_reopen(env.e), MVCC_ECORRUPT);
	CU_ASSERT_EQUAL(engine_get(env.e, POINT, K("k"), &pin), MVCC_ECORRUPT);
	CU_ASSERT_EQUAL(try_put("l"), MVCC_ECORRUPT);
	CU_ASSERT_EQUAL(engine_sync(env.e), MVCC_ECORRUPT);
	engine_stats_get(env.e, &stats);
	CU_ASSERT_EQUAL(engine_reopen(env.e), MVCC_ECORRUPT);
	CU_ASSERT_EQUAL(rename(away, current), 0);
	CU_ASSERT_EQUAL(engine_reopen(env.e), 0);
	assert_is(env.e, POINT, K("k"), "1");
}

/* A limit on the size of files stands for a disk that takes no more. */
static void test_a_failed_write_stops_writes_and_syncs_until_reopen(void)
{
	static const size_t len = (size_t)64 << 10;
	struct rlimit was, low;
	void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
	char *value = calloc(1, len);
	struct engine_pin pin = { 0 };
	char dir[320];
	unsigned written = 0, rows = 0;
	struct engine_iter *it;

	CU_ASSERT_EQUAL(getrlimit(RLIMIT_FSIZE, &was), 0);
	low = was;
	low.rlim_cur = 512 << 10;
	CU_ASSERT_EQUAL(setrlimit(RLIMIT_FSIZE, &low), 0);
	while (letters[written] &&
	       write_row(env.e, ENGINE_PUT, BLOB, slice_of(&letters[written], 1), slice_of(value, len)) == 0)
		written++;
	CU_ASSERT(written > 0 && written < 26);
	CU_ASSERT(was_logged("rocksdb write: IO error"));
	CU_ASSERT_EQUAL(engine_sync(env.e), -EIO);
	CU_ASSERT_EQUAL(try_put("k"), -EIO);
	snprintf(dir, sizeof(dir), "%s/copy", env.tmp);
	CU_ASSERT_EQUAL(engine_checkpoint(env.e, dir), -EIO);
	CU_ASSERT_EQUAL(engine_get(env.e, BLOB, K("a"), &pin), 0);
	CU_ASSERT_EQUAL(pin.value.len, len);
	engine_pin_release(env.e, &pin);
	CU_ASSERT_EQUAL(setrlimit(RLIMIT_FSIZE, &was), 0);
	CU_ASSERT_EQUAL(try_put("k"), -EIO);
	CU_ASSERT_EQUAL_FATAL(engine_reopen(env.e), 0);
	it = iter(BLOB, NONE, NONE);
	for (bool ok = engine_iter_seek(it, NONE); ok; ok = engine_iter_next(it))
		rows++;
	engine_iter_free(it);
	CU_ASSERT(rows == written || rows == written + 1);
	CU_ASSERT_EQUAL(try_put("k"), 0);
	CU_ASSERT_EQUAL(engine_sync(env.e), 0);
	free(value);
	signal(SIGXFSZ, handler);
}

enum { CHILD_WRITES = 200 };
#define CHILD_ARG "write-and-die"

/* What the child does: batches that set a counter in one family and add a row in another; then it is gone. */
static int child(const char *dir)
{
	struct rocks_options opt = { .cache_bytes = 1 << 20 };
	struct engine_provider provider = rocks_provider(&opt);
	struct engine *e;

	if (provider.open(provider.arg, dir, families, NFAMILIES, &e))
		return 1;
	for (uint64_t i = 1; i <= CHILD_WRITES; i++) {
		struct engine_batch *b = engine_batch_new(e);
		uint8_t n[8];

		put_be64(n, i);
		if (engine_batch_put(b, META, K("count"), slice_of(n, 8)) ||
		    engine_batch_put(b, APPEND, slice_of(n, 8), K("row")) ||
		    engine_write(e, b, ENGINE_NOSYNC))
			return 1;
		engine_batch_free(b);
	}
	kill(getpid(), SIGKILL);
	return 1;
}

static void run_child(void)
{
	char *argv[] = { (char *)"test_engine", (char *)CHILD_ARG, env.dir, NULL };
	pid_t pid;
	int status = 0;

	engine_close(env.e);
	env.e = NULL;
	pid = fork();
	if (pid == 0) {
		execv("/proc/self/exe", argv);
		_exit(1);
	}
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* How many of the child's batches there are; each must be there whole, and none after a missing one. */
static uint64_t child_batches(void)
{
	struct engine_pin pin = { 0 };
	struct engine_iter *it = iter(APPEND, NONE, NONE);
	uint64_t rows = 0, count = 0;

	for (bool ok = engine_iter_seek(it, NONE); ok; ok = engine_iter_next(it)) {
		rows++;
		CU_ASSERT(it->key.len == 8 && get_be64(it->key.data) == rows);
	}
	engine_iter_free(it);
	if (engine_get(env.e, META, K("count"), &pin) == 0 && pin.value.len == 8)
		count = get_be64(pin.value.data);
	engine_pin_release(env.e, &pin);
	CU_ASSERT_EQUAL(count, rows);
	return count;
}

static void test_a_kill_loses_nothing(void)
{
	run_child();
	CU_ASSERT_EQUAL_FATAL(open_families(env.dir, NFAMILIES, &env.e), 0);
	CU_ASSERT_EQUAL(child_batches(), CHILD_WRITES);
}

static void test_a_torn_log_leaves_a_prefix_of_the_batches(void)
{
	char file[600];
	struct stat st;
	uint64_t left;

	run_child();
	CU_ASSERT_FATAL(newest_file("[0-9]*.log", file));
	CU_ASSERT_EQUAL(stat(file, &st), 0);
	CU_ASSERT_EQUAL(truncate(file, st.st_size / 2), 0);
	CU_ASSERT_EQUAL_FATAL(open_families(env.dir, NFAMILIES, &env.e), 0);
	left = child_batches();
	CU_ASSERT(left > 0 && left < CHILD_WRITES);
}

static CU_TestInfo rocks_tests[] = {
	UNIT_TEST(test_a_damaged_block_is_corrupt_and_the_rest_stays_readable),
	UNIT_TEST(test_a_lost_table_is_told_at_open),
	UNIT_TEST(test_a_lost_manifest_is_told_at_open),
	UNIT_TEST(test_a_damaged_manifest_is_told_at_open),
	UNIT_TEST(test_a_lost_current_does_not_make_a_new_database),
	UNIT_TEST(test_an_absent_directory_is_an_error),
	UNIT_TEST(test_a_second_open_finds_it_locked),
	UNIT_TEST(test_a_failed_reopen_is_answered_until_the_cause_is_gone),
	UNIT_TEST(test_a_failed_write_stops_writes_and_syncs_until_reopen),
	UNIT_TEST(test_a_kill_loses_nothing),
	UNIT_TEST(test_a_torn_log_leaves_a_prefix_of_the_batches),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = {
		UNIT_SUITE("contract: memory", set_up_mem, tear_down, contract),
		UNIT_SUITE("contract: RocksDB", set_up_rocks, tear_down, contract),
		UNIT_SUITE("contract: fault engine", set_up_fault, tear_down, contract),
		UNIT_SUITE("only memory", set_up_mem, tear_down, mem_tests),
		UNIT_SUITE("only the fault engine", set_up_fault, tear_down, fault_tests),
		UNIT_SUITE("only RocksDB", set_up_rocks, tear_down, rocks_tests),
		CU_SUITE_INFO_NULL,
	};

	if (argc == 3 && strcmp(argv[1], CHILD_ARG) == 0)
		return child(argv[2]);
	return unit_main(argc, argv, suites);
}
