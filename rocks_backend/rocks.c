/*
 * One RocksDB for one store, a column family for each family, laid out by how mvcc says it is used (see
 * family_options()). Three things decide most of what stands here:
 *
 * - Misuse of RocksDB aborts the process: what lives in a database is destroyed before it, so iterators and
 *   pins go first (the caller's duty), then the handles of the families, then the database. In the same order
 *   reopen takes it down to build it up again.
 * - Writes never sync by themselves: rocksdb_write() with sync holds the mutex of RocksDB's log while the
 *   disk works, and every other writer waits. Nor does sync ask RocksDB: rocksdb_flush_wal() aborts the
 *   process (an assertion, and Debian builds them in) when a write to the log has failed before or fails
 *   meanwhile. What a write has returned for is in the files of the log, so sync is fdatasync() of those.
 * - The C API's options for reading keep bounds by reference, so an iterator owns the bytes of its bounds and
 *   its own options until it is freed.
 *
 * While the database could not be opened again, `db` is NULL and `failed` is what every call answers.
 * Both change only in open and reopen, which the caller runs alone, so they need no lock. After a write
 * or sync has failed, `broken` is what writes and syncs answer until a reopen: RocksDB may by then have
 * lost what a later one would build on.
 */
#include "rocks_backend/rocks.h"

#include "mvcc/error.h"
#include "rocks_backend/rocks_err.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <pthread.h>
#include <rocksdb/c.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

#define CACHE_BYTES_DEFAULT (128 * MIB)
#define WAL_BYTES_MAX (64 * MIB) /* bounds what an open after a crash replays */
#define FLUSH_AT_CLOSE_BYTES MIB /* less is replayed sooner than it is flushed */
#define FILES_OPEN_MAX 256       /* bounds the memory of indexes and filters, which are not in the cache */
#define INFO_LOG_BYTES_MAX MIB
#define REWRITE_SLICE_BYTES (32 * MIB) /* how much a rewrite does between two looks at whether to go on */
#define OTHERS_END_NS (10 * (uint64_t)1000000000) /* how long it waits for compactions that run already */
#define HISTORY_REWRITE_S (7 * 86400) /* rows that may go do not wait longer for a compaction to meet them */

struct rocks {
	struct engine base;
	const struct rocks_options *opt;
	char *dir;
	const struct engine_family *families;
	unsigned nfamilies;
	rocksdb_cache_t *cache;
	rocksdb_readoptions_t *read_options;
	rocksdb_writeoptions_t *write_options;
	rocksdb_compactionfilter_t **filters; /* of the families; NULL where none */

	rocksdb_t *db; /* NULL while `failed` */
	int failed;
	rocksdb_column_family_handle_t *
		*handles; /* the families in their order, then what else the database has */
	size_t nhandles;
	atomic_size_t written_bytes; /* since open */
	atomic_int broken;           /* the first write or sync that failed since open */

	pthread_mutex_t sync_lock; /* one sync at a time */
	uint64_t synced_log;       /* sync_lock; older files of the log are complete and on disk */
};

struct rocks_iter {
	struct engine_iter base;
	const struct rocks_options *opt;
	rocksdb_iterator_t *it;
	rocksdb_readoptions_t *read_options;
	struct buf start, end; /* referred to by read_options */
	bool walk_to_last;     /* see prefix_mode() */
	int err;
};

struct rocks_batch {
	struct engine_batch base;
	struct rocks *r;
	rocksdb_writebatch_t *batch;
};

static const struct engine_ops rocks_ops;

static struct rocks *rocks_of(struct engine *e)
{
	return (struct rocks *)e;
}

static const char *chars(struct slice s)
{
	return s.data ? (const char *)s.data : "";
}

/* ---- the layout of a family ------------------------------------------------------------------ */

/*
 * RocksDB's threads call these. What orders them after the open and before the close are RocksDB's own
 * locks, which a thread sanitizer is not shown (tests/tsan.supp).
 */
#define CALLED_BY_ROCKSDB __attribute__((no_sanitize("thread")))

static void nothing(void *state)
{
	(void)state;
}

static const char *prefix_name(void *state)
{
	(void)state;
	return "mvcc.prefix";
}

CALLED_BY_ROCKSDB static char *prefix_transform(void *state, const char *key, size_t len, size_t *out_len)
{
	const struct engine_family *family = state;

	*out_len = family->prefix_len(slice_of(key, len));
	return (char *)(uintptr_t)key; /* the API lacks a const: it is not written to */
}

static unsigned char prefix_in_domain(void *state, const char *key, size_t len)
{
	(void)state;
	(void)key;
	(void)len;
	return 1;
}

static const char *filter_name(void *state)
{
	(void)state;
	return "mvcc.drop";
}

/* How many databases were opened. Loaded for the order alone: what was there before the open is seen. */
static atomic_uint opened;

static unsigned char filter_drop(void *state, int level, const char *key, size_t key_len, const char *value,
				 size_t value_len, char **new_value, size_t *new_len, unsigned char *changed)
{
	const struct engine_family *family = state;

	(void)level;
	(void)new_value;
	(void)new_len;
	(void)atomic_load(&opened);
	*changed = 0;
	return family->drop(family->drop_arg, slice_of(key, key_len), slice_of(value, value_len));
}

/* What the uses differ in. Figures are of measurements on the layout that mvcc's FORMAT.md describes. */
struct layout {
	size_t buffer_bytes;
	int buffers;
	size_t block_bytes;
	int compression; /* 0: none */
	int compression_bottom;
	bool bloom;             /* over whole keys, or over prefixes for ENGINE_USE_PREFIX */
	bool memtable_bloom;    /* most gets of an unflushed absent key end there */
	bool compact_deletions; /* many deletes are compacted soon, so that scans do not wade through them */
};

static const struct layout layouts[] = {
	[ENGINE_USE_META] = {
		.buffer_bytes = MIB,
		.buffers = 2,
		.block_bytes = 4096,
	},
	/* Small buffers: what is overwritten in one and not flushed yet slows scans. */
	[ENGINE_USE_POINT] = {
		.buffer_bytes = 8 * MIB,
		.buffers = 3,
		.block_bytes = 8192,
		.compression = rocksdb_lz4_compression,
		.compression_bottom = rocksdb_lz4_compression,
		.bloom = true,
		.memtable_bloom = true,
		.compact_deletions = true,
	},
	[ENGINE_USE_PREFIX] = {
		.buffer_bytes = 16 * MIB,
		.buffers = 3,
		.block_bytes = 16384,
		.compression = rocksdb_lz4_compression,
		.compression_bottom = rocksdb_zstd_compression,
		.bloom = true,
	},
	[ENGINE_USE_APPEND] = {
		.buffer_bytes = 8 * MIB,
		.buffers = 2,
		.block_bytes = 16384,
		.compression = rocksdb_lz4_compression,
		.compression_bottom = rocksdb_zstd_compression,
	},
	/* Rising keys make files that do not overlap: they move down the levels without being rewritten. */
	[ENGINE_USE_BLOB] = {
		.buffer_bytes = 32 * MIB,
		.buffers = 3,
		.block_bytes = 16384,
	},
	[ENGINE_USE_STAGE] = {
		.buffer_bytes = 4 * MIB,
		.buffers = 2,
		.block_bytes = 16384,
		.compact_deletions = true,
	},
};

static rocksdb_options_t *family_options(struct rocks *r, const struct engine_family *family,
					 rocksdb_compactionfilter_t *filter)
{
	const struct layout *layout = &layouts[family->use];
	rocksdb_options_t *o = rocksdb_options_create();
	rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();

	if (filter) {
		/* The C API has no function for this one. */
		rocksdb_options_t *plain = o;
		char text[64], *msg = NULL;

		snprintf(text, sizeof(text), "periodic_compaction_seconds=%d", HISTORY_REWRITE_S);
		o = rocksdb_options_create();
		rocksdb_get_options_from_string(plain, text, o, &msg);
		rocks_err_take(r->opt, msg, "rocksdb options");
		rocksdb_options_destroy(plain);
		rocksdb_options_set_compaction_filter(o, filter);
	}

	rocksdb_block_based_options_set_block_size(table, layout->block_bytes);
	rocksdb_block_based_options_set_format_version(table, 5);
	rocksdb_block_based_options_set_block_cache(table, r->cache);
	rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 0);
	if (layout->bloom) {
		rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom(10));
		rocksdb_block_based_options_set_whole_key_filtering(table, family->use != ENGINE_USE_PREFIX);
	}
	rocksdb_options_set_block_based_table_factory(o, table);
	rocksdb_block_based_options_destroy(table);

	if (family->use == ENGINE_USE_PREFIX && family->prefix_len) {
		/* The state is not written to; the API lacks a const. */
		void *state = (void *)(uintptr_t)family;

		rocksdb_options_set_prefix_extractor(
			o, rocksdb_slicetransform_create(state, nothing, prefix_transform, prefix_in_domain,
							 prefix_in_domain, prefix_name));
	}
	rocksdb_options_set_write_buffer_size(o, layout->buffer_bytes);
	rocksdb_options_set_max_write_buffer_number(o, layout->buffers);
	if (layout->memtable_bloom) {
		rocksdb_options_set_memtable_prefix_bloom_size_ratio(o, 0.02);
		rocksdb_options_set_memtable_whole_key_filtering(o, 1);
	}
	rocksdb_options_set_compression(o, layout->compression);
	rocksdb_options_set_bottommost_compression(o, layout->compression_bottom);
	rocksdb_options_set_level_compaction_dynamic_level_bytes(o, 1);
	rocksdb_options_set_target_file_size_base(o, 64 * MIB);
	rocksdb_options_set_max_bytes_for_level_base(o, 256 * MIB);
	if (layout->compact_deletions)
		rocksdb_options_add_compact_on_deletion_collector_factory(o, 10000, 2500);
	return o;
}

static rocksdb_options_t *db_options(bool create)
{
	rocksdb_options_t *o = rocksdb_options_create();

	rocksdb_options_set_create_if_missing(o, create);
	rocksdb_options_set_create_missing_column_families(o, 1);
	rocksdb_options_set_max_background_jobs(o, 2);
	rocksdb_options_set_max_open_files(o, FILES_OPEN_MAX);
	rocksdb_options_set_max_total_wal_size(o, WAL_BYTES_MAX);
	rocksdb_options_set_wal_recovery_mode(o, rocksdb_point_in_time_recovery);
	rocksdb_options_set_manual_wal_flush(o, 0);
	rocksdb_options_set_bytes_per_sync(o, MIB);
	rocksdb_options_set_skip_stats_update_on_db_open(o, 1);
	rocksdb_options_set_info_log_level(o, 2); /* warnings */
	rocksdb_options_set_max_log_file_size(o, INFO_LOG_BYTES_MAX);
	rocksdb_options_set_keep_log_file_num(o, 4);
	rocksdb_options_set_stats_dump_period_sec(o, 0);
	rocksdb_options_set_stats_persist_period_sec(o, 0);
	return o;
}

/* ---- open and close -------------------------------------------------------------------------- */

/*
 * Does the directory hold a database, or nothing of one? RocksDB takes a directory whose CURRENT is lost
 * for an empty one, makes a new database in it and deletes the files of the old: so that is found out
 * here.
 */
static int dir_state(struct rocks *r, bool *out_exists)
{
	static const char *const data[] = { "*.sst", "[0-9]*.log" };
	DIR *d = opendir(r->dir);
	struct dirent *entry;
	bool current = false;
	char found[256] = "";

	if (!d) {
		int err = -errno;

		rocks_log(r->opt, r->dir, strerror(-err));
		return err;
	}
	while ((entry = readdir(d))) {
		if (strcmp(entry->d_name, "CURRENT") == 0)
			current = true;
		for (unsigned i = 0; i < sizeof(data) / sizeof(data[0]); i++)
			if (fnmatch(data[i], entry->d_name, 0) == 0)
				snprintf(found, sizeof(found), "%s", entry->d_name);
	}
	closedir(d);
	*out_exists = current;
	if (current || !found[0])
		return 0;
	rocks_log(r->opt, r->dir, "the file CURRENT is lost, yet there are files of a database");
	return MVCC_ECORRUPT;
}

/* The families a database has; RocksDB wants all of them opened, those unknown to us, too. */
struct names {
	const char **names;
	const rocksdb_options_t **options;
	size_t n;
	char **listed; /* RocksDB's, referred to by names */
	size_t nlisted;
};

static bool names_has(const struct names *names, const char *name)
{
	for (size_t i = 0; i < names->n; i++)
		if (names->names[i] && strcmp(names->names[i], name) == 0)
			return true;
	return false;
}

/* Takes `options`. */
static void names_add(struct names *names, const char *name, rocksdb_options_t *options)
{
	names->names[names->n] = name;
	names->options[names->n++] = options;
}

static int names_init(struct names *names, struct rocks *r, const rocksdb_options_t *db_opt, bool exists)
{
	char *msg = NULL;

	*names = (struct names){ 0 };
	if (exists) {
		names->listed = rocksdb_list_column_families(db_opt, r->dir, &names->nlisted, &msg);
		if (msg)
			return rocks_err_take(r->opt, msg, "rocksdb families");
	}
	names->names = calloc(r->nfamilies + names->nlisted + 1, sizeof(*names->names));
	names->options = calloc(r->nfamilies + names->nlisted + 1, sizeof(*names->options));
	if (!names->names || !names->options)
		return -ENOMEM;
	for (unsigned i = 0; i < r->nfamilies; i++)
		names_add(names, r->families[i].name, family_options(r, &r->families[i], r->filters[i]));
	if (!names_has(names, "default"))
		names_add(names, "default", rocksdb_options_create());
	for (size_t i = 0; i < names->nlisted; i++)
		if (!names_has(names, names->listed[i]))
			names_add(names, names->listed[i], rocksdb_options_create());
	return 0;
}

static void names_release(struct names *names)
{
	for (size_t i = 0; i < names->n; i++)
		rocksdb_options_destroy((rocksdb_options_t *)(uintptr_t)names->options[i]);
	free(names->options);
	free(names->names);
	rocksdb_list_column_families_destroy(names->listed, names->nlisted);
}

/* Sets db, handles and `failed`, which it returns. */
static int db_open(struct rocks *r)
{
	rocksdb_options_t *db_opt = NULL;
	struct names names = { 0 };
	char *msg = NULL;
	bool exists = false;
	int err;

	err = dir_state(r, &exists);
	if (err)
		goto out;
	db_opt = db_options(!exists);
	err = names_init(&names, r, db_opt, exists);
	if (err)
		goto out;
	r->handles = calloc(names.n, sizeof(rocksdb_column_family_handle_t *));
	if (!r->handles) {
		err = -ENOMEM;
		goto out;
	}
	atomic_fetch_add(&opened, 1);
	r->db = rocksdb_open_column_families(db_opt, r->dir, (int)names.n, names.names, names.options,
					     r->handles, &msg);
	if (msg) {
		err = rocks_err_take(r->opt, msg, "rocksdb open");
		r->db = NULL;
		free(r->handles);
		r->handles = NULL;
		goto out;
	}
	r->nhandles = names.n;
	atomic_store(&r->written_bytes, 0);
	atomic_store(&r->broken, 0);
	r->synced_log = 0;
out:
	names_release(&names);
	if (db_opt)
		rocksdb_options_destroy(db_opt);
	r->failed = err;
	return err;
}

/* What the log alone holds is kept anyway; flushed, it need not be replayed by the next open. */
static void db_flush(struct rocks *r)
{
	rocksdb_flushoptions_t *o = rocksdb_flushoptions_create();
	int err = 0;

	rocksdb_flushoptions_set_wait(o, 1);
	for (unsigned i = 0; i < r->nfamilies && !err; i++) {
		char *msg = NULL;

		rocksdb_flush_cf(r->db, o, r->handles[i], &msg);
		err = rocks_err_take(r->opt, msg, "rocksdb flush");
	}
	rocksdb_flushoptions_destroy(o);
}

static void db_close(struct rocks *r)
{
	if (!r->db)
		return;
	for (size_t i = 0; i < r->nhandles; i++)
		rocksdb_column_family_handle_destroy(r->handles[i]);
	free(r->handles);
	r->handles = NULL;
	r->nhandles = 0;
	rocksdb_close(r->db);
	r->db = NULL;
}

static void rocks_free(struct rocks *r)
{
	for (unsigned i = 0; r->filters && i < r->nfamilies; i++)
		if (r->filters[i])
			rocksdb_compactionfilter_destroy(r->filters[i]);
	free(r->filters);
	if (r->write_options)
		rocksdb_writeoptions_destroy(r->write_options);
	if (r->read_options)
		rocksdb_readoptions_destroy(r->read_options);
	if (r->cache)
		rocksdb_cache_destroy(r->cache);
	pthread_mutex_destroy(&r->sync_lock);
	free(r->dir);
	free(r);
}

static int rocks_open(void *arg, const char *dir, const struct engine_family *families, unsigned nfamilies,
		      struct engine **out)
{
	const struct rocks_options *opt = arg;
	struct rocks *r = calloc(1, sizeof(*r));
	rocksdb_env_t *env;
	int err = -ENOMEM;

	if (!r)
		return -ENOMEM;
	pthread_mutex_init(&r->sync_lock, NULL);
	r->base.ops = &rocks_ops;
	r->opt = opt;
	r->families = families;
	r->nfamilies = nfamilies;
	r->dir = strdup(dir);
	r->filters = calloc(nfamilies + 1, sizeof(rocksdb_compactionfilter_t *));
	if (!r->dir || !r->filters)
		goto fail;
	for (unsigned i = 0; i < nfamilies; i++)
		if (families[i].drop)
			r->filters[i] = rocksdb_compactionfilter_create((void *)(uintptr_t)&families[i],
									nothing, filter_drop, filter_name);
	r->cache = rocksdb_cache_create_lru(opt->cache_bytes ? opt->cache_bytes : CACHE_BYTES_DEFAULT);
	r->read_options = rocksdb_readoptions_create();
	r->write_options = rocksdb_writeoptions_create();

	/* Compactions yield to whoever waits for an answer. */
	env = rocksdb_create_default_env();
	rocksdb_env_lower_thread_pool_cpu_priority(env);
	rocksdb_env_destroy(env);

	err = db_open(r);
	if (err)
		goto fail;
	*out = &r->base;
	return 0;
fail:
	rocks_free(r);
	return err;
}

struct engine_provider rocks_provider(struct rocks_options *opt)
{
	return (struct engine_provider){ rocks_open, opt };
}

static void rocks_close(struct engine *e)
{
	struct rocks *r = rocks_of(e);

	if (r->db && !atomic_load(&r->broken) && atomic_load(&r->written_bytes) > FLUSH_AT_CLOSE_BYTES)
		db_flush(r);
	db_close(r);
	rocks_free(r);
}

/* Without a flush: the state left behind is one in which it would fail. */
static int rocks_reopen(struct engine *e)
{
	struct rocks *r = rocks_of(e);

	db_close(r);
	return db_open(r);
}

/* ---- reading --------------------------------------------------------------------------------- */

static int rocks_get(struct engine *e, unsigned family, struct slice key, struct engine_pin *out)
{
	struct rocks *r = rocks_of(e);
	rocksdb_pinnableslice_t *pin;
	char *msg = NULL;
	const char *value;
	size_t len;

	if (!r->db)
		return r->failed;
	pin = rocksdb_get_pinned_cf(r->db, r->read_options, r->handles[family], chars(key), key.len, &msg);
	if (msg)
		return rocks_err_take(r->opt, msg, "rocksdb get");
	if (!pin)
		return -ENOENT;
	value = rocksdb_pinnableslice_value(pin, &len);
	out->value = slice_of(value, len);
	out->handle = pin;
	return 0;
}

static void rocks_pin_release(struct engine *e, struct engine_pin *pin)
{
	(void)e;
	rocksdb_pinnableslice_destroy(pin->handle);
}

/* Where the iterator stands now, or why it stands nowhere. */
static bool iter_moved(struct rocks_iter *it)
{
	char *msg = NULL;
	const char *data;
	size_t len;

	it->err = 0;
	if (!rocksdb_iter_valid(it->it)) {
		rocksdb_iter_get_error(it->it, &msg);
		it->err = rocks_err_take(it->opt, msg, "rocksdb iterate");
		return false;
	}
	data = rocksdb_iter_key(it->it, &len);
	it->base.key = slice_of(data, len);
	data = rocksdb_iter_value(it->it, &len);
	it->base.value = slice_of(data, len);
	return true;
}

static bool rocks_iter_seek(struct engine_iter *base, struct slice key)
{
	struct rocks_iter *it = (struct rocks_iter *)base;

	if (slice_cmp(key, slice_buf(&it->start)) < 0)
		key = slice_buf(&it->start);
	/* Beyond the end there is nothing, and the prefix filter must not be asked about another prefix. */
	if (it->end.len && slice_cmp(key, slice_buf(&it->end)) > 0)
		key = slice_buf(&it->end);
	rocksdb_iter_seek(it->it, chars(key), key.len);
	return iter_moved(it);
}

static bool rocks_iter_next(struct engine_iter *base)
{
	struct rocks_iter *it = (struct rocks_iter *)base;

	if (!rocksdb_iter_valid(it->it))
		return false;
	rocksdb_iter_next(it->it);
	return iter_moved(it);
}

static bool rocks_iter_seek_last(struct engine_iter *base)
{
	struct rocks_iter *it = (struct rocks_iter *)base;
	struct buf last = { 0 };
	bool on;
	int err = 0;

	if (!it->walk_to_last) {
		rocksdb_iter_seek_to_last(it->it);
		return iter_moved(it);
	}
	for (on = rocks_iter_seek(base, slice_buf(&it->start)); on && !err; on = rocks_iter_next(base))
		err = buf_copy(&last, base->key);
	if (!err && !it->err && last.len)
		on = rocks_iter_seek(base, slice_buf(&last));
	buf_release(&last);
	if (err)
		it->err = err;
	return on && !err;
}

static int rocks_iter_error(struct engine_iter *base)
{
	return ((struct rocks_iter *)base)->err;
}

static void rocks_iter_free(struct engine_iter *base)
{
	struct rocks_iter *it = (struct rocks_iter *)base;

	if (it->it)
		rocksdb_iter_destroy(it->it);
	if (it->read_options)
		rocksdb_readoptions_destroy(it->read_options);
	buf_release(&it->start);
	buf_release(&it->end);
	free(it);
}

static const struct engine_iter_ops rocks_iter_ops = {
	.seek = rocks_iter_seek,
	.next = rocks_iter_next,
	.seek_last = rocks_iter_seek_last,
	.error = rocks_iter_error,
	.free = rocks_iter_free,
};

/*
 * May the prefix filter answer for this iterator? Only if all keys in its bounds have one prefix P. It
 * does when `start` goes on after its prefix P (which is then complete, whatever follows) and `end` is
 * not beyond the keys that begin with P. Where `end` itself does not begin with P, the filter would
 * judge a search backwards from `end` by the wrong prefix: then the last row is found by walking (the
 * rows of one prefix are few).
 */
static int prefix_mode(struct rocks_iter *it, const struct engine_family *family, bool *out)
{
	struct slice start = slice_buf(&it->start), end = slice_buf(&it->end), prefix;
	struct buf limit = { 0 };
	int err;

	*out = false;
	if (family->use != ENGINE_USE_PREFIX || !family->prefix_len || !end.len)
		return 0;
	prefix = slice_of(start.data, family->prefix_len(start));
	if (prefix.len == 0 || prefix.len >= start.len)
		return 0;
	err = buf_prefix_end(&limit, prefix);
	if (!err) {
		*out = !limit.len || slice_cmp(end, slice_buf(&limit)) <= 0;
		it->walk_to_last = *out && !slice_starts(end, prefix);
	}
	buf_release(&limit);
	return err;
}

static int rocks_iter_new(struct engine *e, unsigned family, struct slice start, struct slice end,
			  struct engine_iter **out)
{
	struct rocks *r = rocks_of(e);
	struct rocks_iter *it;
	bool by_prefix;
	int err;

	if (!r->db)
		return r->failed;
	it = calloc(1, sizeof(*it));
	if (!it)
		return -ENOMEM;
	it->base.ops = &rocks_iter_ops;
	it->opt = r->opt;
	err = buf_put_slice(&it->start, start);
	if (!err)
		err = buf_put_slice(&it->end, end);
	if (!err)
		err = prefix_mode(it, &r->families[family], &by_prefix);
	if (err)
		goto fail;
	it->read_options = rocksdb_readoptions_create();
	rocksdb_readoptions_set_total_order_seek(it->read_options, !by_prefix);
	rocksdb_readoptions_set_prefix_same_as_start(it->read_options, by_prefix);
	if (it->start.len)
		rocksdb_readoptions_set_iterate_lower_bound(it->read_options, chars(slice_buf(&it->start)),
							    it->start.len);
	if (it->end.len)
		rocksdb_readoptions_set_iterate_upper_bound(it->read_options, chars(slice_buf(&it->end)),
							    it->end.len);
	it->it = rocksdb_create_iterator_cf(r->db, it->read_options, r->handles[family]);
	*out = &it->base;
	return 0;
fail:
	rocks_iter_free(&it->base);
	return err;
}

/* ---- writing --------------------------------------------------------------------------------- */

static struct engine_batch *rocks_batch_new(struct engine *e)
{
	struct rocks_batch *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->base.ops = &rocks_ops;
	b->r = rocks_of(e);
	b->batch = rocksdb_writebatch_create();
	return &b->base;
}

static int rocks_batch_add(struct engine_batch *base, enum engine_op op, unsigned family, struct slice key,
			   struct slice value_or_end)
{
	struct rocks_batch *b = (struct rocks_batch *)base;
	rocksdb_column_family_handle_t *handle;

	if (!b->r->db)
		return b->r->failed;
	handle = b->r->handles[family];
	switch (op) {
	case ENGINE_PUT:
		rocksdb_writebatch_put_cf(b->batch, handle, chars(key), key.len, chars(value_or_end),
					  value_or_end.len);
		break;
	case ENGINE_DEL:
		rocksdb_writebatch_delete_cf(b->batch, handle, chars(key), key.len);
		break;
	case ENGINE_DEL_RANGE:
		if (slice_cmp(key, value_or_end) < 0)
			rocksdb_writebatch_delete_range_cf(b->batch, handle, chars(key), key.len,
							   chars(value_or_end), value_or_end.len);
		break;
	}
	return 0;
}

static size_t rocks_batch_bytes(const struct engine_batch *base)
{
	size_t len;

	rocksdb_writebatch_data(((const struct rocks_batch *)base)->batch, &len);
	return len;
}

static void rocks_batch_clear(struct engine_batch *base)
{
	rocksdb_writebatch_clear(((struct rocks_batch *)base)->batch);
}

static void rocks_batch_free(struct engine_batch *base)
{
	struct rocks_batch *b = (struct rocks_batch *)base;

	rocksdb_writebatch_destroy(b->batch);
	free(b);
}

/* The error that every write and sync gives from now on; `err` itself if it is the first. */
static int break_with(struct rocks *r, int err)
{
	int none = 0;

	return atomic_compare_exchange_strong(&r->broken, &none, err) ? err : none;
}

/* Puts one file of the log on disk. One that is gone by now was not needed any more. */
static int log_file_sync(DIR *d, const char *name)
{
	int fd = openat(dirfd(d), name, O_RDONLY | O_CLOEXEC);
	int err = 0;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fdatasync(fd) < 0)
		err = -errno;
	close(fd);
	return err;
}

/*
 * RocksDB writes to the newest file of its log alone, and begins one only between writes: so of the
 * older ones each needs one sync, and then is done with.
 */
static int log_sync_locked(struct rocks *r)
{
	DIR *d = opendir(r->dir);
	struct dirent *entry;
	uint64_t newest = r->synced_log;
	int err = 0;

	if (!d)
		return -errno;
	while (!err && (entry = readdir(d))) {
		uint64_t number;
		char *end;

		if (fnmatch("[0-9]*.log", entry->d_name, 0) != 0)
			continue;
		number = strtoull(entry->d_name, &end, 10);
		if (strcmp(end, ".log") != 0 || number < r->synced_log)
			continue;
		if (number > newest)
			newest = number;
		err = log_file_sync(d, entry->d_name);
	}
	if (!err && newest > r->synced_log) {
		if (fsync(dirfd(d)) < 0) /* the name of a new file */
			err = -errno;
		else
			r->synced_log = newest;
	}
	closedir(d);
	return err;
}

static int rocks_sync(struct engine *e)
{
	struct rocks *r = rocks_of(e);
	int err;

	if (!r->db)
		return r->failed;
	err = atomic_load(&r->broken);
	if (err)
		return err;
	pthread_mutex_lock(&r->sync_lock);
	err = log_sync_locked(r);
	pthread_mutex_unlock(&r->sync_lock);
	if (!err)
		return 0;
	rocks_log(r->opt, "sync of the log", strerror(-err));
	return break_with(r, err == -ENOSPC || err == -EDQUOT ? -ENOSPC : -EIO);
}

static int rocks_write(struct engine *e, struct engine_batch *base, unsigned flags)
{
	struct rocks *r = rocks_of(e);
	struct rocks_batch *b = (struct rocks_batch *)base;
	char *msg = NULL;
	int err;

	if (!r->db)
		return r->failed;
	err = atomic_load(&r->broken);
	if (err)
		return err;
	if (rocksdb_writebatch_count(b->batch)) {
		atomic_fetch_add(&r->written_bytes, rocks_batch_bytes(base));
		rocksdb_write(r->db, r->write_options, b->batch, &msg);
		if (msg)
			return break_with(r, rocks_err_take(r->opt, msg, "rocksdb write"));
	}
	return flags & ENGINE_SYNC ? rocks_sync(e) : 0;
}

static int rocks_checkpoint(struct engine *e, const char *dir)
{
	struct rocks *r = rocks_of(e);
	rocksdb_checkpoint_t *checkpoint;
	struct stat st;
	char *msg = NULL;

	if (!r->db)
		return r->failed;
	if (atomic_load(&r->broken))
		return atomic_load(&r->broken);
	if (lstat(dir, &st) == 0)
		return -EEXIST;
	checkpoint = rocksdb_checkpoint_object_create(r->db, &msg);
	if (msg)
		return rocks_err_take(r->opt, msg, "rocksdb checkpoint");
	rocksdb_checkpoint_create(checkpoint, dir, 0, &msg);
	rocksdb_checkpoint_object_destroy(checkpoint);
	return rocks_err_take(r->opt, msg, "rocksdb checkpoint");
}

/* ---- giving space back ----------------------------------------------------------------------- */

/* A file of the family; its name and keys are lent by the list of live files. */
struct table {
	const char *name;
	struct slice first, last;
	uint64_t bytes;
	int level;
	bool counted; /* its bytes were those of a slice before */
};

/* How a rewrite is to go on. */
struct rewrite {
	struct rocks *r;
	unsigned family;
	struct slice start, end;
	uint64_t bytes_per_s;
	const atomic_bool *stop; /* may be NULL */
};

static bool is_to_stop(const struct rewrite *rw)
{
	return rw->stop && atomic_load(rw->stop);
}

static int by_name(const void *a, const void *b)
{
	const struct table *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static int by_first_key(const void *a, const void *b)
{
	const struct table *x = a, *y = b;

	return slice_cmp(x->first, y->first);
}

static struct slice live_key(const rocksdb_livefiles_t *live, int i, bool largest)
{
	size_t len;
	const char *key = largest ? rocksdb_livefiles_largestkey(live, i, &len) :
				    rocksdb_livefiles_smallestkey(live, i, &len);

	return slice_of(key, len);
}

/* The files that have keys in the range, by their first ones. Gives NULL when out of memory. */
static struct table *tables_take(const struct rewrite *rw, const rocksdb_livefiles_t *live, size_t *out_n)
{
	const char *family = rw->r->families[rw->family].name;
	int count = rocksdb_livefiles_count(live);
	struct table *tables = calloc((size_t)count + 1, sizeof(*tables));
	size_t n = 0;

	for (int i = 0; tables && i < count; i++) {
		struct table table = { .name = rocksdb_livefiles_name(live, i),
				       .first = live_key(live, i, false),
				       .last = live_key(live, i, true),
				       .bytes = rocksdb_livefiles_size(live, i),
				       .level = rocksdb_livefiles_level(live, i) };

		if (strcmp(rocksdb_livefiles_column_family_name(live, i), family) == 0 &&
		    slice_cmp(table.last, rw->start) >= 0 &&
		    (!rw->end.len || slice_cmp(table.first, rw->end) < 0))
			tables[n++] = table;
	}
	if (n)
		qsort(tables, n, sizeof(*tables), by_first_key);
	*out_n = n;
	return tables;
}

static bool tables_meet(const struct table *a, const struct table *b)
{
	return slice_cmp(a->first, b->last) <= 0 && slice_cmp(b->first, a->last) <= 0;
}

static uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void nap(void)
{
	struct timespec pause = { .tv_nsec = 20 * 1000 * 1000 };

	nanosleep(&pause, NULL);
}

static uint64_t property(struct rocks *r, unsigned family, const char *name)
{
	uint64_t value;

	return rocksdb_property_int_cf(r->db, r->handles[family], name, &value) == 0 ? value : 0;
}

/*
 * Compacts first <= key <= last, and sleeps until `bytes` have taken their time. The C API says nothing of how
 * it went, but RocksDB counts what failed in its threads.
 */
static int compact_slice(const struct rewrite *rw, rocksdb_compactoptions_t *o, struct slice first,
			 struct slice last, uint64_t bytes)
{
	static const char errors[] = "rocksdb.background-errors";
	double due_ns = (double)bytes / (double)rw->bytes_per_s * 1e9;
	uint64_t start_ns = clock_ns(), failed;

	if (is_to_stop(rw))
		return -ECANCELED;
	failed = property(rw->r, rw->family, errors);
	rocksdb_compact_range_cf_opt(rw->r->db, rw->r->handles[rw->family], o, chars(first), first.len,
				     chars(last), last.len);
	if (property(rw->r, rw->family, errors) != failed)
		return break_with(rw->r, -EIO);
	while (rw->bytes_per_s != UINT64_MAX && (double)(clock_ns() - start_ns) < due_ns && !is_to_stop(rw))
		nap();
	return 0;
}

/* Brings the files of the upper levels down; what they meet there is rewritten with them. */
static int compact_upper(const struct rewrite *rw, rocksdb_compactoptions_t *o, struct table *tables,
			 size_t n)
{
	int deepest = 0, err = 0;

	for (size_t i = 0; i < n; i++)
		deepest = tables[i].level > deepest ? tables[i].level : deepest;
	rocksdb_compactoptions_set_bottommost_level_compaction(o, 0); /* not what they do not meet */
	for (size_t i = 0; !err && i < n; i++) {
		uint64_t bytes = 0;

		if (tables[i].level == deepest && deepest > 0)
			continue;
		for (size_t j = 0; j < n; j++) {
			if (tables[j].counted || !tables_meet(&tables[i], &tables[j]))
				continue;
			tables[j].counted = true;
			bytes += tables[j].bytes;
		}
		err = compact_slice(rw, o, tables[i].first, tables[i].last, bytes);
	}
	return err;
}

/* Rewrites those files that were there before, `old`, a few at a time. */
static int compact_old(const struct rewrite *rw, rocksdb_compactoptions_t *o, struct table *old, size_t nold,
		       const struct table *tables, size_t n)
{
	int err = 0;

	rocksdb_compactoptions_set_bottommost_level_compaction(o, 2); /* all that lies in the range */
	if (nold)
		qsort(old, nold, sizeof(*old), by_name);
	for (size_t i = 0, next; !err && i < n; i = next) {
		uint64_t bytes = 0;

		for (next = i; next < n && bytes < REWRITE_SLICE_BYTES; next++) {
			if (!bsearch(&tables[next], old, nold, sizeof(*old), by_name))
				break;
			bytes += tables[next].bytes;
		}
		if (next == i)
			next++;
		else
			err = compact_slice(rw, o, tables[i].first, tables[next - 1].last, bytes);
	}
	return err;
}

/*
 * In two steps, as RocksDB compacts a range level by level and looks into those alone that have keys in it:
 * the upper levels, file by file; then what of the files of before is still there.
 */
static int compact_files(const struct rewrite *rw)
{
	rocksdb_compactoptions_t *o = rocksdb_compactoptions_create();
	const rocksdb_livefiles_t *before = rocksdb_livefiles(rw->r->db);
	size_t nold;
	struct table *old = tables_take(rw, before, &nold);
	int err = -ENOMEM;

	rocksdb_compactoptions_set_exclusive_manual_compaction(o, 0);
	if (old)
		err = compact_upper(rw, o, old, nold);
	if (!err) {
		const rocksdb_livefiles_t *after = rocksdb_livefiles(rw->r->db);
		size_t n;
		struct table *tables = tables_take(rw, after, &n);

		err = tables ? compact_old(rw, o, old, nold, tables, n) : -ENOMEM;
		free(tables);
		rocksdb_livefiles_destroy(after);
	}
	free(old);
	rocksdb_livefiles_destroy(before);
	rocksdb_compactoptions_destroy(o);
	return err;
}

/* Compactions that run already may have asked about rows when they were still to stay. */
static int let_others_end(const struct rewrite *rw)
{
	uint64_t start_ns = clock_ns();

	while (property(rw->r, rw->family, "rocksdb.num-running-compactions") &&
	       clock_ns() - start_ns < OTHERS_END_NS) {
		if (is_to_stop(rw))
			return -ECANCELED;
		nap();
	}
	return 0;
}

/* A predicate is asked only about rows in files, so what is still in memory goes to one first. */
static int rocks_rewrite(struct engine *e, unsigned family, struct slice start, struct slice end,
			 uint64_t bytes_per_s, const atomic_bool *stop)
{
	struct rocks *r = rocks_of(e);
	struct rewrite rw = { r, family, start, end, bytes_per_s, stop };
	rocksdb_flushoptions_t *flush;
	char *msg = NULL;
	int err;

	if (!r->db)
		return r->failed;
	if (atomic_load(&r->broken))
		return atomic_load(&r->broken);
	if (is_to_stop(&rw))
		return -ECANCELED;
	flush = rocksdb_flushoptions_create();
	rocksdb_flush_cf(r->db, flush, r->handles[family], &msg);
	rocksdb_flushoptions_destroy(flush);
	if (msg)
		return break_with(r, rocks_err_take(r->opt, msg, "rocksdb flush"));
	err = let_others_end(&rw);
	return err ? err : compact_files(&rw);
}

/* ---- figures --------------------------------------------------------------------------------- */

static uint64_t dir_bytes(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *entry;
	uint64_t bytes = 0;

	while (d && (entry = readdir(d))) {
		struct stat st;

		if (fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
			bytes += (uint64_t)st.st_size;
	}
	if (d)
		closedir(d);
	return bytes;
}

static void rocks_stats(struct engine *e, struct engine_stats *out)
{
	struct rocks *r = rocks_of(e);

	out->bytes_disk = dir_bytes(r->dir);
	if (!r->db)
		return;
	out->bytes_cache = rocksdb_cache_get_usage(r->cache);
	for (unsigned i = 0; i < r->nfamilies; i++) {
		out->bytes_live += property(r, i, "rocksdb.estimate-live-data-size");
		out->bytes_buffers += property(r, i, "rocksdb.cur-size-all-mem-tables");
		out->rows_estimate += property(r, i, "rocksdb.estimate-num-keys");
	}
}

static const struct engine_ops rocks_ops = {
	.close = rocks_close,
	.reopen = rocks_reopen,
	.get = rocks_get,
	.pin_release = rocks_pin_release,
	.iter_new = rocks_iter_new,
	.batch_new = rocks_batch_new,
	.batch_add = rocks_batch_add,
	.batch_bytes = rocks_batch_bytes,
	.batch_clear = rocks_batch_clear,
	.batch_free = rocks_batch_free,
	.write = rocks_write,
	.sync = rocks_sync,
	.checkpoint = rocks_checkpoint,
	.rewrite = rocks_rewrite,
	.stats = rocks_stats,
};
