/*
 * RocksDB by itself: keys and values, no revisions. Options are those of the family that holds the newest state
 * (rocks_backend/rocks.c), but for memtables of RocksDB's own size.
 */
#include "bench/mvcc_bench.h"

#include <rocksdb/c.h>
#include <stdlib.h>

#define MIB ((size_t)1 << 20)
#define CACHE_BYTES (128 * MIB)
#define LOAD_KEYS_IN_BATCH 100

struct raw {
	rocksdb_t *db;
	rocksdb_options_t *options;
	rocksdb_cache_t *cache;
	rocksdb_readoptions_t *read;
	rocksdb_writeoptions_t *write, *write_synced;
};

static void must_raw(char *msg, const char *what)
{
	must_hold(!msg, msg ? msg : what);
}

struct raw *raw_open(const char *dir)
{
	struct raw *r = calloc(1, sizeof(*r));
	rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
	char *msg = NULL;

	must_hold(r, "memory");
	r->cache = rocksdb_cache_create_lru(CACHE_BYTES);
	r->options = rocksdb_options_create();
	r->read = rocksdb_readoptions_create();
	r->write = rocksdb_writeoptions_create();
	r->write_synced = rocksdb_writeoptions_create();
	rocksdb_writeoptions_set_sync(r->write_synced, 1);
	rocksdb_block_based_options_set_block_size(table, 8192);
	rocksdb_block_based_options_set_format_version(table, 5);
	rocksdb_block_based_options_set_block_cache(table, r->cache);
	rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 0);
	rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom(10));
	rocksdb_options_set_block_based_table_factory(r->options, table);
	rocksdb_block_based_options_destroy(table);
	rocksdb_options_set_create_if_missing(r->options, 1);
	rocksdb_options_set_max_background_jobs(r->options, 2);
	rocksdb_options_set_compression(r->options, rocksdb_lz4_compression);
	rocksdb_options_set_level_compaction_dynamic_level_bytes(r->options, 1);
	rocksdb_options_set_memtable_prefix_bloom_size_ratio(r->options, 0.02);
	rocksdb_options_set_memtable_whole_key_filtering(r->options, 1);
	r->db = rocksdb_open(r->options, dir, &msg);
	must_raw(msg, dir);
	return r;
}

void raw_close(struct raw *r)
{
	rocksdb_close(r->db);
	rocksdb_options_destroy(r->options);
	rocksdb_readoptions_destroy(r->read);
	rocksdb_writeoptions_destroy(r->write);
	rocksdb_writeoptions_destroy(r->write_synced);
	rocksdb_cache_destroy(r->cache);
	free(r);
}

void raw_put(struct raw *r, struct slice key, struct slice value, bool sync)
{
	char *msg = NULL;

	rocksdb_put(r->db, sync ? r->write_synced : r->write, (const char *)key.data, key.len,
		    (const char *)value.data, value.len, &msg);
	must_raw(msg, "rocksdb put");
}

void raw_delete(struct raw *r, struct slice key)
{
	char *msg = NULL;

	rocksdb_delete(r->db, r->write, (const char *)key.data, key.len, &msg);
	must_raw(msg, "rocksdb delete");
}

void raw_load(struct raw *r, uint64_t n, uint64_t version)
{
	rocksdb_writebatch_t *batch = rocksdb_writebatch_create();

	for (uint64_t i = 0; i < n; i++) {
		struct key k;
		struct value v;
		struct slice key = key_of(&k, i), value = value_of(&v, i, version, VALUE_BYTES);
		char *msg = NULL;

		rocksdb_writebatch_put(batch, (const char *)key.data, key.len, (const char *)value.data,
				       value.len);
		if ((i + 1) % LOAD_KEYS_IN_BATCH && i + 1 < n)
			continue;
		rocksdb_write(r->db, r->write, batch, &msg);
		must_raw(msg, "rocksdb write");
		rocksdb_writebatch_clear(batch);
	}
	rocksdb_writebatch_destroy(batch);
	raw_sync(r);
}

void raw_sync(struct raw *r)
{
	char *msg = NULL;

	rocksdb_flush_wal(r->db, 1, &msg);
	must_raw(msg, "rocksdb flush_wal");
}

void raw_flush(struct raw *r)
{
	rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
	char *msg = NULL;

	rocksdb_flush(r->db, options, &msg);
	must_raw(msg, "rocksdb flush");
	rocksdb_flushoptions_destroy(options);
}

void raw_rewrite(struct raw *r)
{
	rocksdb_compactoptions_t *options = rocksdb_compactoptions_create();

	rocksdb_compactoptions_set_bottommost_level_compaction(options, 1); /* force */
	rocksdb_compact_range_opt(r->db, options, NULL, 0, NULL, 0);
	rocksdb_compactoptions_destroy(options);
}

bool raw_get(struct raw *r, struct slice key, struct buf *value)
{
	char *msg = NULL;
	size_t len;
	char *got = rocksdb_get(r->db, r->read, (const char *)key.data, key.len, &len, &msg);

	must_raw(msg, "rocksdb get");
	if (!got)
		return false;
	must(buf_copy(value, slice_of(got, len)), "memory");
	rocksdb_free(got);
	return true;
}

uint64_t raw_scan(struct raw *r, struct slice start, uint64_t limit)
{
	rocksdb_iterator_t *it = rocksdb_create_iterator(r->db, r->read);
	char *msg = NULL;
	uint64_t n = 0, bytes = 0;

	for (rocksdb_iter_seek(it, (const char *)start.data, start.len); n < limit && rocksdb_iter_valid(it);
	     rocksdb_iter_next(it)) {
		size_t key_len, value_len;

		rocksdb_iter_key(it, &key_len);
		rocksdb_iter_value(it, &value_len);
		bytes += key_len + value_len;
		n++;
	}
	rocksdb_iter_get_error(it, &msg);
	must_raw(msg, "rocksdb scan");
	must_hold(bytes == n * (KEY_BYTES + VALUE_BYTES), "the bytes of a scan");
	rocksdb_iter_destroy(it);
	return n;
}
