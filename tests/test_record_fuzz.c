/*
 * Damaged bytes: whatever the decoders of mvcc/record.h are given, they neither crash nor read outside of
 * it, and what they lend lies inside it. Every encoding is made once, then cut at every length, and has each
 * byte flipped in each bit and set to the values that lengths and varints like least. The input always
 * ends where its allocation ends, so that the address sanitizer sees a step too far. The same for the ring:
 * a damaged one yields a prefix of what was written.
 */
#include "tests/store_fixture.h"

#include "mvcc/record.h"
#include "mvcc/ring.h"
#include "tests/unit.h"

#include <fcntl.h>

static const uint8_t nasty[] = { 0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff };

/* ---- one decoder for each encoding --------------------------------------------------------- */

static bool inside(struct slice in, struct slice part)
{
	return part.len == 0 || (part.data >= in.data && part.data + part.len <= in.data + in.len);
}

/* What a test of one encoding is: it decodes `in` to the end; false when something lent is not in it. */
typedef bool decode_fn(struct slice in);

static bool blob_list_is_inside(struct slice in, uint64_t n, struct slice list)
{
	mvcc_blob_t blob;
	uint64_t i = 0;
	bool fresh;

	if (!inside(in, list))
		return false;
	while (record_blob_take(&list, &blob, &fresh))
		i++;
	return i == n && list.len == 0;
}

static bool decode_record(struct slice in)
{
	struct record rec;

	if (record_decode(in, &rec))
		return true;
	if (!inside(in, rec.value) || !blob_list_is_inside(in, rec.nblobs, rec.blobs))
		return false;
	record_resolve(&rec, 7);
	return rec.mod != 0 && rec.create != 0;
}

static bool op_is_inside(struct slice in, const struct op *op)
{
	return inside(in, op->record) && (op->record.len == 0 || decode_record(op->record));
}

static bool decode_ops(struct slice in)
{
	struct slice rest = in;
	struct op op;

	while (op_take(&rest, &op))
		if (!inside(in, op.key) || !op_is_inside(in, &op) || !inside(in, rest))
			return false;
	return inside(in, rest);
}

static bool decode_staged(struct slice in)
{
	struct op op;

	return staged_decode(in, &op) != 0 || op_is_inside(in, &op);
}

static bool decode_story(struct slice in)
{
	struct slice rest = in;
	struct story_raw raw;

	if (!story_take(&rest, &raw))
		return true;
	return inside(in, rest) && inside(in, raw.comm) && inside(in, raw.op) && inside(in, raw.path) &&
	       inside(in, raw.path2) && inside(in, raw.session) && inside(in, raw.message);
}

static bool decode_commit(struct slice in)
{
	struct commit_head head;
	struct slice settled;
	uint64_t id, n = 0;

	if (commit_head_decode(in, &head))
		return true;
	settled = head.settled;
	while (take_varint(&settled, &id))
		n++;
	return inside(in, head.story) && decode_story(head.story) && inside(in, head.settled) &&
	       n == head.nsettled && settled.len == 0 && inside(in, head.ops) && decode_ops(head.ops);
}

static bool decode_hist_key(struct slice in)
{
	struct buf key = { 0 }, again = { 0 };
	mvcc_rev_t end_rev;
	size_t prefix = hist_prefix_len(in);
	bool good = prefix <= in.len && hist_prefix_len(slice_of(in.data, prefix)) == prefix;

	/* what decodes is the encoding of what it decodes to: no two rows are one key */
	if (good && hist_key_decode(in, &key, &end_rev) == 0)
		good = hist_key(&again, slice_buf(&key), end_rev) == 0 && slice_eq(slice_buf(&again), in);
	buf_release(&key);
	buf_release(&again);
	return good;
}

static bool decode_log_key(struct slice in)
{
	mvcc_rev_t rev;
	uint32_t part;
	struct buf again = { 0 };
	bool good;

	if (log_key_decode(in, &rev, &part))
		return true;
	good = log_key(&again, rev, part) == 0 && slice_eq(slice_buf(&again), in);
	buf_release(&again);
	return good;
}

/* A decode that succeeds must be of the very bytes it encodes to: no two rows are one record. */
static bool decode_ended_key(struct slice in)
{
	mvcc_rev_t end_rev, at = ENDED_NEW;
	struct buf again = { 0 };
	struct slice key;
	bool good;

	if (ended_key_decode(in, &end_rev, &key))
		return true;
	if (in.data[0])
		at = get_be64(in.data + 1);
	good = inside(in, key) &&
	       (ended_is_purged(in) ? ended_key_purged(&again, at, end_rev, key) :
				      ended_key(&again, at, end_rev, key)) == 0 &&
	       slice_eq(slice_buf(&again), in);
	buf_release(&again);
	return good;
}

static bool decode_ended(struct slice in)
{
	struct slice blobs;
	mvcc_blob_t blob;
	mvcc_rev_t mod;
	bool own;

	if (ended_decode(in, &mod, &blobs))
		return true;
	if (!inside(in, blobs) || blobs.len == 0 || mod == 0)
		return false;
	while (record_blob_take(&blobs, &blob, &own))
		;
	return blobs.len == 0;
}

static bool decode_purge(struct slice in)
{
	struct slice rest, start, end;
	struct purge_row row;

	if (purge_decode(in, &row))
		return true;
	if (!inside(in, row.story) || !inside(in, row.ranges) || (row.done && !row.rev))
		return false;
	rest = row.ranges;
	while (rest.len)
		if (!purge_range_take(&rest, &start, &end) || start.len == 0)
			return false;
	return true;
}

static bool decode_pin(struct slice in)
{
	struct mvcc_pin pin;
	struct buf again = { 0 };
	bool good;

	if (pin_decode(str("name"), in, &pin))
		return true;
	good = pin_encode(&again, &pin) == 0 && slice_eq(slice_buf(&again), in);
	buf_release(&again);
	return good;
}

static bool decode_applied(struct slice in)
{
	struct applied applied;
	struct buf again = { 0 };
	bool good;

	if (applied_decode(in, &applied))
		return true;
	good = applied_encode(&again, &applied) == 0 && slice_eq(slice_buf(&again), in);
	buf_release(&again);
	return good;
}

static bool log_part_is_inside(struct slice in, uint32_t part)
{
	struct mvcc_change change;
	struct log_part p;
	struct slice rest;
	mvcc_blob_t first;
	uint64_t count, n = 0;

	if (log_part_decode(in, part, &p))
		return true;
	if (!inside(in, p.story) || !inside(in, p.ranges) || !inside(in, p.changes))
		return false;
	if (part == 0 && !decode_story(p.story))
		return false;
	for (rest = p.ranges; log_range_take(&rest, &first, &count);)
		n++;
	if (n != p.nranges || rest.len != 0)
		return false;
	for (rest = p.changes; log_change_take(&rest, &change);)
		if (!inside(in, change.key))
			return false;
	return inside(in, rest);
}

static bool decode_log_first(struct slice in)
{
	return log_part_is_inside(in, 0);
}

static bool decode_log_next(struct slice in)
{
	return log_part_is_inside(in, 3);
}

/* ---- damaging ------------------------------------------------------------------------------ */

/* Decodes a copy that ends where its memory ends. */
static bool decode_exact(struct slice in, decode_fn *decode)
{
	uint8_t *copy = malloc(in.len ? in.len : 1);
	bool good;

	if (!copy)
		abort();
	if (in.len)
		memcpy(copy, in.data, in.len);
	good = decode(slice_of(in.len ? copy : NULL, in.len));
	free(copy);
	return good;
}

static unsigned damage_every_byte(struct buf *whole, decode_fn *decode)
{
	struct slice in = slice_buf(whole);
	unsigned wrong = !decode_exact(in, decode);

	for (size_t i = 0; i < whole->len; i++) {
		uint8_t was = whole->data[i];

		wrong += !decode_exact(slice_of(whole->data, i), decode); /* cut here */
		wrong += !decode_exact(slice_of(whole->data + i, whole->len - i), decode);
		for (unsigned bit = 0; bit < 8; bit++) {
			whole->data[i] = (uint8_t)(was ^ 1u << bit);
			wrong += !decode_exact(in, decode);
		}
		for (size_t j = 0; j < sizeof(nasty); j++) {
			whole->data[i] = nasty[j];
			wrong += !decode_exact(in, decode);
			for (size_t k = i + 1; k < whole->len && k < i + 10; k++) { /* a long varint */
				uint8_t k_was = whole->data[k];

				whole->data[k] = nasty[j];
				wrong += !decode_exact(in, decode);
				whole->data[k] = k_was;
			}
		}
		whole->data[i] = was;
	}
	return wrong;
}

static unsigned damage_at_random(const struct buf *whole, decode_fn *decode, uint64_t state)
{
	struct buf copy = { 0 };
	unsigned wrong = 0;

	for (int round = 0; round < 3000; round++) {
		if (buf_copy(&copy, slice_buf(whole)))
			abort();
		for (uint64_t n = 1 + random_below(&state, 6); n; n--)
			copy.data[random_below(&state, copy.len)] = (uint8_t)random_next(&state);
		wrong += !decode_exact(slice_of(copy.data, random_below(&state, copy.len + 1)), decode);
		wrong += !decode_exact(slice_buf(&copy), decode);
		for (size_t i = 0; i < copy.len; i++)
			copy.data[i] = (uint8_t)random_next(&state);
		wrong += !decode_exact(slice_buf(&copy), decode);
	}
	buf_release(&copy);
	return wrong;
}

static void check(struct buf *whole, decode_fn *decode)
{
	CU_ASSERT(whole->len > 0);
	CU_ASSERT_EQUAL(damage_every_byte(whole, decode), 0);
	CU_ASSERT_EQUAL(damage_at_random(whole, decode, 11), 0);
	buf_release(whole);
}

/* ---- the encodings ------------------------------------------------------------------------- */

static void blobs_encode(struct buf *out)
{
	CU_ASSERT_EQUAL(record_blob_put(out, 1, true), 0);
	CU_ASSERT_EQUAL(record_blob_put(out, 300, false), 0);
	CU_ASSERT_EQUAL(record_blob_put(out, (mvcc_blob_t)1 << 62, true), 0);
}

static void make_record(struct buf *out)
{
	struct buf blobs = { 0 };
	struct record rec = { .mod = 70000,
			      .create = 300,
			      .version = 129,
			      .lease = 7000,
			      .nblobs = 3,
			      .value = str("a value") };

	blobs_encode(&blobs);
	rec.blobs = slice_buf(&blobs);
	CU_ASSERT_EQUAL(record_encode(out, &rec), 0);
	buf_release(&blobs);
}

static void test_damaged_records_are_read_within_their_bounds(void)
{
	struct buf whole = { 0 };

	make_record(&whole);
	check(&whole, decode_record);
	CU_ASSERT_EQUAL(record_encode(&whole, &(struct record){ .mod = 1, .create = 1, .version = 1 }), 0);
	check(&whole, decode_record);
}

static bool lease_is_legal(const struct lease_row *row)
{
	return row->id > 0 && row->id <= INT64_MAX && row->ttl_ms > 0 && row->ttl_ms <= LEASE_TTL_MS_MAX;
}

static bool decode_lease(struct slice in)
{
	uint8_t again[LEASE_BYTES];
	struct lease_row row;

	if (lease_decode(in, &row))
		return true;
	lease_encode(again, &row);
	return lease_is_legal(&row) && slice_eq(slice_of(again, sizeof(again)), in);
}

static bool decode_lease_row(struct slice in)
{
	struct slice key;
	struct lease_row row;

	return !take(&in, 9, &key) || lease_row_decode(key, in, &row) != 0 || lease_is_legal(&row);
}

static bool decode_attached_key(struct slice in)
{
	struct buf again = { 0 };
	mvcc_lease_t id;
	struct slice key;
	bool good;

	if (attached_key_decode(in, &id, &key))
		return true;
	good = inside(in, key) && attached_key(&again, id, key) == 0 && slice_eq(slice_buf(&again), in);
	buf_release(&again);
	return good;
}

static void test_damaged_leases_are_read_within_their_bounds(void)
{
	struct lease_row row = { .id = 70000, .ttl_ms = 1000, .deadline_ms = 1764000000000 };
	uint8_t raw[LEASE_BYTES];
	struct buf whole = { 0 };

	lease_encode(raw, &row);
	CU_ASSERT_EQUAL(buf_put(&whole, raw, sizeof(raw)), 0);
	check(&whole, decode_lease);
	CU_ASSERT_EQUAL(lease_key(&whole, row.id), 0);
	CU_ASSERT_EQUAL(buf_put(&whole, raw + LEASE_VALUE, sizeof(raw) - LEASE_VALUE), 0);
	check(&whole, decode_lease_row);
	CU_ASSERT_EQUAL(attached_key(&whole, row.id, str("a key")), 0);
	check(&whole, decode_attached_key);
}

static const struct mvcc_story story = {
	.uid = 1000,
	.gid = 100,
	.pid = 70000,
	.comm = "bash",
	.op = "write",
	.session = "s",
	.message = "why it was done",
};

static void ops_encode(struct buf *out)
{
	struct buf rec = { 0 };
	struct op ops[] = {
		{ .key = str("a key"), .prev = 200 },
		{ .flags = OP_DEL, .key = str("b"), .prev = 7 },
		{ .flags = OP_REBORN, .key = str("c"), .prev = 0 },
	};

	make_record(&rec);
	ops[0].record = slice_buf(&rec);
	ops[2].record = slice_buf(&rec);
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		CU_ASSERT_EQUAL(op_encode(out, &ops[i]), 0);
	buf_release(&rec);
}

static void test_damaged_operations_are_read_within_their_bounds(void)
{
	struct buf whole = { 0 }, rec = { 0 };

	ops_encode(&whole);
	check(&whole, decode_ops);
	make_record(&rec);
	CU_ASSERT_EQUAL(staged_encode(&whole, &(struct op){ .prev = 5, .record = slice_buf(&rec) }), 0);
	check(&whole, decode_staged);
	CU_ASSERT_EQUAL(staged_encode(&whole, &(struct op){ .flags = OP_DEL, .prev = 300 }), 0);
	check(&whole, decode_staged);
	buf_release(&rec);
}

static void test_damaged_stories_are_read_within_their_bounds(void)
{
	struct mvcc_story full = story;
	struct buf whole = { 0 };

	full.path = str("some/path");
	full.path2 = str("another/path");
	CU_ASSERT_EQUAL(story_encode(&whole, &full), 0);
	check(&whole, decode_story);
	CU_ASSERT_EQUAL(story_encode(&whole, NULL), 0);
	check(&whole, decode_story);
}

static void test_damaged_commits_are_read_within_their_bounds(void)
{
	struct buf whole = { 0 }, told = { 0 }, settled = { 0 };
	struct commit_head head = { .rev = 70001, .time_ns = 1764000000000000000, .run = 300, .nsettled = 2 };

	CU_ASSERT_EQUAL(story_encode(&told, &story), 0);
	CU_ASSERT_EQUAL(buf_put_varint(&settled, 5), 0);
	CU_ASSERT_EQUAL(buf_put_varint(&settled, 1000), 0);
	head.story = slice_buf(&told);
	head.settled = slice_buf(&settled);
	CU_ASSERT_EQUAL(commit_head_encode(&whole, &head), 0);
	ops_encode(&whole);
	check(&whole, decode_commit);
	buf_release(&told);
	buf_release(&settled);
}

static void test_damaged_keys_decode_to_no_other_row(void)
{
	static const char zeros[] = { 'k', 0, 0, 'e', (char)0xff, 0, 'y', 0 };
	struct buf whole = { 0 };

	CU_ASSERT_EQUAL(hist_key(&whole, slice_of(zeros, sizeof(zeros)), 70000), 0);
	check(&whole, decode_hist_key);
	CU_ASSERT_EQUAL(hist_key(&whole, str("k"), REV_LIMIT - 1), 0);
	check(&whole, decode_hist_key);
	CU_ASSERT_EQUAL(log_key(&whole, 70000, 3), 0);
	check(&whole, decode_log_key);
	CU_ASSERT_EQUAL(applied_encode(&whole, &(struct applied){ 5, 4096, 99, 70000, 1764000000000000000 }),
			0);
	check(&whole, decode_applied);
}

static void test_damaged_rows_of_what_is_kept_are_read_within_their_bounds(void)
{
	struct mvcc_pin pin = { .kind = MVCC_PIN_AUTO, .rev = 70000, .time_ns = 1764000000000000000 };
	struct buf whole = { 0 }, blobs = { 0 }, told = { 0 }, ranges = { 0 };

	CU_ASSERT_EQUAL(ended_key(&whole, ENDED_NEW, 70000, str("key")), 0);
	check(&whole, decode_ended_key);
	CU_ASSERT_EQUAL(ended_key(&whole, 300, 70000, str("key")), 0);
	check(&whole, decode_ended_key);
	CU_ASSERT_EQUAL(ended_key_purged(&whole, 70001, 70000, str("key")), 0);
	check(&whole, decode_ended_key);
	CU_ASSERT_EQUAL(story_encode(&told, &story), 0);
	CU_ASSERT_EQUAL(buf_put_bytes(&ranges, str("a")), 0);
	CU_ASSERT_EQUAL(buf_put_bytes(&ranges, str("b")), 0);
	CU_ASSERT_EQUAL(buf_put_bytes(&ranges, str("c")), 0);
	CU_ASSERT_EQUAL(buf_put_bytes(&ranges, str("")), 0);
	CU_ASSERT_EQUAL(purge_encode(&whole, &(struct purge_row){ 70000, true, slice_buf(&told),
								  slice_buf(&ranges) }),
			0);
	check(&whole, decode_purge);
	buf_release(&told);
	buf_release(&ranges);
	CU_ASSERT_EQUAL(record_blob_put(&blobs, 7, true), 0);
	CU_ASSERT_EQUAL(record_blob_put(&blobs, 70000, false), 0);
	CU_ASSERT_EQUAL(ended_encode(&whole, 300, slice_buf(&blobs)), 0);
	check(&whole, decode_ended);
	CU_ASSERT_EQUAL(pin_encode(&whole, &pin), 0);
	check(&whole, decode_pin);
	buf_release(&blobs);
}

static void test_damaged_log_rows_are_read_within_their_bounds(void)
{
	struct buf whole = { 0 }, told = { 0 }, ranges = { 0 }, changes = { 0 };
	struct log_part part = { .time_ns = 1764000000000000000, .nranges = 2 };

	CU_ASSERT_EQUAL(story_encode(&told, &story), 0);
	CU_ASSERT_EQUAL(log_range_put(&ranges, 300, 7), 0);
	CU_ASSERT_EQUAL(log_range_put(&ranges, 70000, 1), 0);
	CU_ASSERT_EQUAL(log_change_put(&changes, &(struct mvcc_change){ str("key"), false, 300 }), 0);
	CU_ASSERT_EQUAL(log_change_put(&changes, &(struct mvcc_change){ str("other"), true, 1 }), 0);
	part.story = slice_buf(&told);
	part.ranges = slice_buf(&ranges);
	part.changes = slice_buf(&changes);
	CU_ASSERT_EQUAL(log_part_encode(&whole, 0, &part), 0);
	check(&whole, decode_log_first);
	CU_ASSERT_EQUAL(log_part_encode(&whole, 3, &part), 0);
	check(&whole, decode_log_next);
	buf_release(&told);
	buf_release(&ranges);
	buf_release(&changes);
}

/* The escaping keeps the order, which is what readers seek by. */
static void test_history_keys_order_as_their_keys_and_revisions_do(void)
{
	static const uint8_t bytes[] = { 0x00, 0x00, 0x01, 0xfe, 0xff, 'a' };
	uint64_t state = 3;
	unsigned wrong = 0;

	for (int round = 0; round < 20000; round++) {
		struct buf rows[2] = { { 0 }, { 0 } }, after = { 0 };
		mvcc_rev_t end[2];
		struct slice key[2];
		uint8_t raw[2][6];
		int order;

		for (int i = 0; i < 2; i++) {
			key[i] = slice_of(raw[i], 1 + random_below(&state, 6));
			for (size_t j = 0; j < key[i].len; j++)
				raw[i][j] = bytes[random_below(&state, sizeof(bytes))];
			end[i] = 2 + random_below(&state, random_below(&state, 2) ? 4 : REV_LIMIT - 2);
			wrong += hist_key(&rows[i], key[i], end[i]) != 0;
		}
		order = slice_cmp(key[0], key[1]);
		if (order == 0)
			order = (end[0] > end[1]) - (end[0] < end[1]);
		wrong += (slice_cmp(slice_buf(&rows[0]), slice_buf(&rows[1])) > 0) != (order > 0);
		wrong += hist_key_after(&after, key[0]) != 0;
		wrong += slice_cmp(slice_buf(&rows[0]), slice_buf(&after)) >= 0;
		if (slice_cmp(key[0], key[1]) < 0)
			wrong += slice_cmp(slice_buf(&after), slice_buf(&rows[1])) >= 0;
		buf_release(&rows[0]);
		buf_release(&rows[1]);
		buf_release(&after);
	}
	CU_ASSERT_EQUAL(wrong, 0);
}

/* ---- the ring ------------------------------------------------------------------------------ */

enum { RECORDS = 12, INCARNATION = 77 };

/* Record i has 40 * i bytes, each of them i. */
static void ring_fill(struct ring *r, struct ring_at at)
{
	uint8_t bytes[40 * RECORDS];

	ring_start(r, at);
	for (unsigned i = 0; i < RECORDS; i++) {
		memset(bytes, (int)i, sizeof(bytes));
		ring_append(r, i % 2 ? RING_COMMIT : RING_INTENT, slice_of(bytes, 40 * i));
	}
}

/* How many records the chain from `at` has; RECORDS + 1 when one of them is not what was written. */
static unsigned ring_count(struct ring *r, struct ring_at at)
{
	struct slice payload;
	uint32_t type;
	unsigned n = 0;

	ring_start(r, at);
	while (n <= RECORDS && ring_next(r, &at, &type, &payload)) {
		if (type != (n % 2 ? (uint32_t)RING_COMMIT : (uint32_t)RING_INTENT) || payload.len != 40 * n)
			return RECORDS + 1;
		for (size_t i = 0; i < payload.len; i++)
			if (payload.data[i] != n)
				return RECORDS + 1;
		n++;
	}
	return n;
}

static void test_a_damaged_ring_yields_a_prefix(void)
{
	const struct ring_at starts[] = { { .check = 99 },
					  { .pos = RING_BYTES_MIN - 1000, .seq = 5, .check = 7 } };
	struct ring r = { 0 };
	unsigned wrong = 0;
	char dir[256];
	int fd;

	fixture_tmpdir(dir);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT_EQUAL(ring_create(fd, "ring", RING_BYTES_MIN, INCARNATION), 0);
	CU_ASSERT_EQUAL_FATAL(ring_map(&r, fd, "ring", INCARNATION), 0);
	for (size_t s = 0; s < 2; s++) { /* the second one runs over the end */
		size_t used;

		ring_fill(&r, starts[s]);
		used = ring_used(&r);
		CU_ASSERT_EQUAL(ring_count(&r, starts[s]), RECORDS);
		CU_ASSERT_EQUAL(ring_count(&r, (struct ring_at){ starts[s].pos, starts[s].seq, 1 }), 0);
		CU_ASSERT_EQUAL(
			ring_count(&r, (struct ring_at){ starts[s].pos, starts[s].seq + 1, starts[s].check }),
			0);
		for (size_t i = 0; i < used; i++) {
			uint8_t *p = &r.data[(starts[s].pos + i) % r.size], was = *p;

			for (unsigned bit = 0; bit < 8; bit++) {
				*p = (uint8_t)(was ^ 1u << bit);
				wrong += ring_count(&r, starts[s]) > RECORDS;
			}
			for (size_t j = 0; j < sizeof(nasty); j++) {
				*p = nasty[j];
				wrong += ring_count(&r, starts[s]) > RECORDS;
			}
			*p = was;
		}
		CU_ASSERT_EQUAL(ring_count(&r, starts[s]), RECORDS);
	}
	CU_ASSERT_EQUAL(wrong, 0);
	ring_unmap(&r);
	close(fd);
	fixture_rmdir(dir);
}

static void test_a_ring_with_a_damaged_header_is_refused(void)
{
	struct ring r = { 0 };
	unsigned wrong = 0;
	char dir[256];
	int fd, file;

	fixture_tmpdir(dir);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT_EQUAL(ring_create(fd, "ring", RING_BYTES_MIN, INCARNATION), 0);
	CU_ASSERT_EQUAL(ring_map(&r, fd, "ring", INCARNATION + 1), MVCC_ECORRUPT);
	file = openat(fd, "ring", O_RDWR | O_CLOEXEC);
	CU_ASSERT_FATAL(file >= 0);
	for (off_t i = 0; i < 40; i++) {
		uint8_t was = 0, now;

		wrong += pread(file, &was, 1, i) != 1;
		now = was ^ 0x10;
		wrong += pwrite(file, &now, 1, i) != 1;
		wrong += ring_map(&r, fd, "ring", INCARNATION) != MVCC_ECORRUPT;
		wrong += pwrite(file, &was, 1, i) != 1;
	}
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_EQUAL(ring_map(&r, fd, "ring", INCARNATION), 0);
	ring_unmap(&r);
	CU_ASSERT_EQUAL(ftruncate(file, 4096 + (off_t)RING_BYTES_MIN - 1), 0);
	CU_ASSERT_EQUAL(ring_map(&r, fd, "ring", INCARNATION), MVCC_ECORRUPT);
	CU_ASSERT_EQUAL(ftruncate(file, 10), 0);
	CU_ASSERT_EQUAL(ring_map(&r, fd, "ring", INCARNATION), MVCC_ECORRUPT);
	CU_ASSERT_EQUAL(ftruncate(file, 0), 0);
	CU_ASSERT_EQUAL(ring_map(&r, fd, "ring", INCARNATION), MVCC_ECORRUPT);
	close(file);
	close(fd);
	fixture_rmdir(dir);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_damaged_records_are_read_within_their_bounds),
	UNIT_TEST(test_damaged_leases_are_read_within_their_bounds),
	UNIT_TEST(test_damaged_operations_are_read_within_their_bounds),
	UNIT_TEST(test_damaged_stories_are_read_within_their_bounds),
	UNIT_TEST(test_damaged_commits_are_read_within_their_bounds),
	UNIT_TEST(test_damaged_keys_decode_to_no_other_row),
	UNIT_TEST(test_damaged_rows_of_what_is_kept_are_read_within_their_bounds),
	UNIT_TEST(test_damaged_log_rows_are_read_within_their_bounds),
	UNIT_TEST(test_history_keys_order_as_their_keys_and_revisions_do),
	UNIT_TEST(test_a_damaged_ring_yields_a_prefix),
	UNIT_TEST(test_a_ring_with_a_damaged_header_is_refused),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("damaged bytes", NULL, NULL, tests), CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
