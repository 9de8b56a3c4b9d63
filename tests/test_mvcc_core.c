/*
 * The parts the store is made of, each alone: the bytes of format 1, the ring, the ordered table, the
 * overlay, the window; then the store on top of them, far enough to see that they are put together right.
 */
#include "mvcc/dir.h"
#include "mvcc/txn_int.h"
#include "tests/store_fixture.h"
#include "tests/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

static void assert_bytes(struct slice got, const void *expected, size_t len)
{
	CU_ASSERT_EQUAL(got.len, len);
	CU_ASSERT(slice_eq(got, slice_of(expected, len)));
	if (slice_eq(got, slice_of(expected, len)))
		return;
	fprintf(stderr, "\ngot");
	for (size_t i = 0; i < got.len; i++)
		fprintf(stderr, " %02x", got.data[i]);
	fprintf(stderr, "\n");
}

#define ASSERT_BYTES(buf, ...)                                              \
	do {                                                                \
		static const uint8_t expected_[] = { __VA_ARGS__ };         \
		assert_bytes(slice_buf(buf), expected_, sizeof(expected_)); \
	} while (0)

/* ---- golden bytes ------------------------------------------------------------------------- */

static const uint8_t awkward[] = { 'a', 0, 'b' };

static void test_a_record_has_the_bytes_of_the_example(void)
{
	struct buf blobs = { 0 }, out = { 0 };
	struct record rec = { .mod = 3, .create = 3, .version = 1, .nblobs = 1, .value = str("hi") }, got;
	mvcc_blob_t blob;
	bool own;

	CU_ASSERT_EQUAL(record_blob_put(&blobs, 7, true), 0);
	rec.blobs = slice_buf(&blobs);
	CU_ASSERT_EQUAL(record_encode(&out, &rec), 0);
	ASSERT_BYTES(&out, 0x00, 0x03, 0x03, 0x01, 0x01, 0x0f, 'h', 'i');
	CU_ASSERT_EQUAL(record_decode(slice_buf(&out), &got), 0);
	CU_ASSERT_EQUAL(got.mod, 3);
	CU_ASSERT_EQUAL(got.create, 3);
	CU_ASSERT_EQUAL(got.version, 1);
	CU_ASSERT(slice_eq(got.value, str("hi")));
	CU_ASSERT(record_blob_take(&got.blobs, &blob, &own));
	CU_ASSERT_EQUAL(blob, 7);
	CU_ASSERT(own);
	CU_ASSERT(!record_blob_take(&got.blobs, &blob, &own));
	buf_release(&blobs);
	buf_release(&out);
}

static void test_a_lease_has_the_bytes_of_the_example(void)
{
	struct lease_row row = { .id = 7, .ttl_ms = 1000, .deadline_ms = 0x0102030405 }, got;
	struct record rec = { .mod = 3, .create = 3, .version = 1, .lease = 300, .value = str("hi") }, back;
	struct buf out = { 0 };
	mvcc_lease_t id;
	struct slice key;
	uint8_t raw[LEASE_BYTES];

	CU_ASSERT_EQUAL(record_encode(&out, &rec), 0);
	ASSERT_BYTES(&out, 0x01, 0x03, 0x03, 0x01, 0xac, 0x02, 0x00, 'h', 'i');
	CU_ASSERT_EQUAL(record_decode(slice_buf(&out), &back), 0);
	CU_ASSERT(back.lease == 300 && back.nblobs == 0 && slice_eq(back.value, str("hi")));
	lease_encode(raw, &row);
	assert_bytes(slice_of(raw, sizeof(raw)), "\7\0\0\0\0\0\0\0\xe8\3\0\0\0\0\0\0\5\4\3\2\1\0\0\0",
		     LEASE_BYTES);
	CU_ASSERT_EQUAL(lease_decode(slice_of(raw, sizeof(raw)), &got), 0);
	CU_ASSERT(got.id == 7 && got.ttl_ms == 1000 && got.deadline_ms == 0x0102030405);
	CU_ASSERT_EQUAL(lease_key(&out, 7), 0);
	ASSERT_BYTES(&out, 0, 0, 0, 0, 0, 0, 0, 0, 7);
	CU_ASSERT_EQUAL(lease_row_decode(slice_buf(&out), slice_of(raw + 8, 16), &got), 0);
	CU_ASSERT(got.id == 7 && got.ttl_ms == 1000 && got.deadline_ms == 0x0102030405);
	CU_ASSERT_EQUAL(lease_keys_end(&out), 0);
	ASSERT_BYTES(&out, 1);
	CU_ASSERT_EQUAL(attached_key(&out, 7, str("k")), 0);
	ASSERT_BYTES(&out, 1, 0, 0, 0, 0, 0, 0, 0, 7, 'k');
	CU_ASSERT_EQUAL(attached_key_decode(slice_buf(&out), &id, &key), 0);
	CU_ASSERT(id == 7 && slice_eq(key, str("k")));
	CU_ASSERT_EQUAL(RING_LEASE, 4);
	CU_ASSERT_EQUAL(RING_LEASE_DROP, 5);
	buf_release(&out);
}

static void test_a_lease_that_cannot_be_is_refused(void)
{
	static const struct lease_row bad[] = {
		{ .id = 0, .ttl_ms = 1 },
		{ .id = (mvcc_lease_t)1 << 63, .ttl_ms = 1 },
		{ .id = 1, .ttl_ms = 0 },
		{ .id = 1, .ttl_ms = LEASE_TTL_MS_MAX + 1 },
	};
	uint8_t raw[LEASE_BYTES + 1] = { 0 };
	struct lease_row got;
	mvcc_lease_t id;
	struct slice key;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		lease_encode(raw, &bad[i]);
		CU_ASSERT_EQUAL(lease_decode(slice_of(raw, LEASE_BYTES), &got), MVCC_ECORRUPT);
	}
	lease_encode(raw, &(struct lease_row){ .id = 1, .ttl_ms = LEASE_TTL_MS_MAX });
	CU_ASSERT_EQUAL(lease_decode(slice_of(raw, LEASE_BYTES), &got), 0);
	CU_ASSERT_EQUAL(lease_decode(slice_of(raw, LEASE_BYTES - 1), &got), MVCC_ECORRUPT);
	CU_ASSERT_EQUAL(lease_decode(slice_of(raw, LEASE_BYTES + 1), &got), MVCC_ECORRUPT);
	CU_ASSERT_EQUAL(lease_row_decode(slice_of("\1\0\0\0\0\0\0\0\7", 9), slice_of(raw + 8, 16), &got),
			MVCC_ECORRUPT);
	CU_ASSERT_EQUAL(attached_key_decode(slice_of("\1\0\0\0\0\0\0\0\7", 9), &id, &key), MVCC_ECORRUPT);
	CU_ASSERT_EQUAL(attached_key_decode(slice_of("\0\0\0\0\0\0\0\0\7k", 10), &id, &key), MVCC_ECORRUPT);
}

static void test_a_staged_record_takes_the_revision_of_its_commit(void)
{
	struct record fresh = { .version = 1 }, further = { .create = 4, .version = 2 };

	record_resolve(&fresh, 9);
	CU_ASSERT_EQUAL(fresh.mod, 9);
	CU_ASSERT_EQUAL(fresh.create, 9);
	record_resolve(&further, 9);
	CU_ASSERT_EQUAL(further.mod, 9);
	CU_ASSERT_EQUAL(further.create, 4);
}

static void test_a_record_that_cannot_be_is_refused(void)
{
	static const struct record bad[] = {
		{ .mod = 3, .create = 4, .version = 1 },
		{ .mod = 3, .create = 0, .version = 1 },
		{ .mod = 3, .create = 3, .version = 0 },
		{ .mod = REV_LIMIT, .create = 3, .version = 1 },
		{ .mod = 0, .create = REV_LIMIT, .version = 1 },
		{ .mod = 3, .create = 3, .version = 1, .nblobs = 1 },
	};
	struct buf out = { 0 };
	struct record got;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		buf_clear(&out);
		CU_ASSERT_EQUAL(record_encode(&out, &bad[i]), 0);
		CU_ASSERT_EQUAL(record_decode(slice_buf(&out), &got), MVCC_ECORRUPT);
	}
	CU_ASSERT_EQUAL(record_decode(slice_of("\2\3\3\1\0", 5), &got), MVCC_ECORRUPT); /* an unknown flag */
	CU_ASSERT_EQUAL(record_decode(slice_of("\1\3\3\1\0\0", 6), &got), MVCC_ECORRUPT); /* lease 0 */
	CU_ASSERT_EQUAL(record_decode(slice_of(NULL, 0), &got), MVCC_ECORRUPT);
	buf_release(&out);
}

static void test_keys_have_the_bytes_of_the_example(void)
{
	struct slice key = slice_of(awkward, sizeof(awkward));
	struct buf out = { 0 }, back = { 0 };
	mvcc_rev_t rev;
	uint32_t part;

	CU_ASSERT_EQUAL(hist_key(&out, key, 300), 0);
	ASSERT_BYTES(&out, 'a', 0, 0xff, 'b', 0, 0, 0, 0, 0, 0, 0, 0x01, 0x2c);
	CU_ASSERT_EQUAL(hist_prefix_len(slice_buf(&out)), 5);
	CU_ASSERT_EQUAL(hist_prefix_len(slice_of(out.data, 5)), 5);
	CU_ASSERT_EQUAL(hist_key_decode(slice_buf(&out), &back, &rev), 0);
	CU_ASSERT(slice_eq(slice_buf(&back), key));
	CU_ASSERT_EQUAL(rev, 300);
	CU_ASSERT_EQUAL(hist_key_start(&out, key), 0);
	ASSERT_BYTES(&out, 'a', 0, 0xff, 'b', 0);
	CU_ASSERT_EQUAL(hist_key_after(&out, key), 0);
	ASSERT_BYTES(&out, 'a', 0, 0xff, 'b', 0, 1);
	CU_ASSERT_EQUAL(log_key(&out, 3, 258), 0);
	ASSERT_BYTES(&out, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 1, 2);
	CU_ASSERT_EQUAL(log_key_decode(slice_buf(&out), &rev, &part), 0);
	CU_ASSERT(rev == 3 && part == 258);
	CU_ASSERT_EQUAL(id_key(&out, 0x0102), 0);
	ASSERT_BYTES(&out, 0, 0, 0, 0, 0, 0, 1, 2);
	CU_ASSERT_EQUAL(stage_key(&out, 5, key), 0);
	ASSERT_BYTES(&out, 0, 0, 0, 0, 0, 0, 0, 5, 'a', 0, 'b');
	CU_ASSERT_EQUAL(meta_key_id(&out, META_INTENT, 9), 0);
	ASSERT_BYTES(&out, 'i', 'n', 't', 'e', 'n', 't', '/', 0, 0, 0, 0, 0, 0, 0, 9);
	CU_ASSERT_EQUAL(meta_key_id(&out, META_BLOBREF, 9), 0);
	ASSERT_BYTES(&out, 'b', 'l', 'o', 'b', 'r', 'e', 'f', '/', 0, 0, 0, 0, 0, 0, 0, 9);
	CU_ASSERT_EQUAL(meta_key_name(&out, META_COUNTER, str("ino")), 0);
	ASSERT_BYTES(&out, 'c', 'o', 'u', 'n', 't', 'e', 'r', '/', 'i', 'n', 'o');
	CU_ASSERT_EQUAL(meta_key_id(&out, META_UNPINNED, 9), 0);
	ASSERT_BYTES(&out, 'u', 'n', 'p', 'i', 'n', 'n', 'e', 'd', '/', 0, 0, 0, 0, 0, 0, 0, 9);
	buf_release(&out);
	buf_release(&back);
}

static void test_the_row_of_a_purge_has_its_bytes(void)
{
	struct buf out = { 0 }, ranges = { 0 }, told = { 0 };
	struct purge_row row = { 0 };
	struct slice start, end;

	CU_ASSERT_EQUAL(meta_key_id(&out, META_PURGE, 2), 0);
	ASSERT_BYTES(&out, 'p', 'u', 'r', 'g', 'e', '/', 0, 0, 0, 0, 0, 0, 0, 2);
	CU_ASSERT_EQUAL(story_encode(&told, NULL), 0);
	CU_ASSERT_EQUAL(buf_put_bytes(&ranges, slice_of("k", 1)), 0);
	CU_ASSERT_EQUAL(buf_put_bytes(&ranges, slice_of("k\0", 2)), 0);
	row = (struct purge_row){ 300, true, slice_buf(&told), slice_buf(&ranges) };
	CU_ASSERT_EQUAL(purge_encode(&out, &row), 0);
	ASSERT_BYTES(&out, 0xac, 0x02, 1, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 'k', 2, 'k', 0);
	row = (struct purge_row){ 0 };
	CU_ASSERT_EQUAL(purge_decode(slice_buf(&out), &row), 0);
	CU_ASSERT(row.rev == 300 && row.done && slice_eq(row.story, slice_buf(&told)));
	CU_ASSERT_TRUE(purge_range_take(&row.ranges, &start, &end));
	CU_ASSERT(slice_eq(start, slice_of("k", 1)) && slice_eq(end, slice_of("k\0", 2)));
	CU_ASSERT_FALSE(purge_range_take(&row.ranges, &start, &end));
	CU_ASSERT_EQUAL(purge_decode(slice_of(out.data, out.len - 5), &row), MVCC_ECORRUPT); /* no range */
	out.data[2] = 2;
	CU_ASSERT_EQUAL(purge_decode(slice_buf(&out), &row), MVCC_ECORRUPT);
	CU_ASSERT_EQUAL(ended_key_purged(&out, 5, 4, slice_of("k", 1)), 0);
	ASSERT_BYTES(&out, 2, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 4, 'k');
	buf_release(&out);
	buf_release(&ranges);
	buf_release(&told);
}

static void test_rows_of_ended_have_the_bytes_of_the_example(void)
{
	struct slice key = slice_of(awkward, sizeof(awkward)), got_key, got_blobs;
	struct buf out = { 0 }, blobs = { 0 };
	mvcc_rev_t rev;

	CU_ASSERT_EQUAL(ended_key(&out, ENDED_NEW, 300, key), 0);
	ASSERT_BYTES(&out, 0, 0, 0, 0, 0, 0, 0, 0x01, 0x2c, 'a', 0, 'b');
	CU_ASSERT_EQUAL(ended_key_decode(slice_buf(&out), &rev, &got_key), 0);
	CU_ASSERT(rev == 300 && slice_eq(got_key, key));
	CU_ASSERT_EQUAL(ended_key(&out, 5, 300, key), 0);
	ASSERT_BYTES(&out, 1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0x01, 0x2c, 'a', 0, 'b');
	CU_ASSERT_EQUAL(ended_key_decode(slice_buf(&out), &rev, &got_key), 0);
	CU_ASSERT(rev == 300 && slice_eq(got_key, key));
	CU_ASSERT_EQUAL(ended_key_start(&out, 5, 300), 0);
	CU_ASSERT_EQUAL(ended_key_decode(slice_buf(&out), &rev, &got_key), MVCC_ECORRUPT); /* no key */
	CU_ASSERT_EQUAL(record_blob_put(&blobs, 7, true), 0);
	CU_ASSERT_EQUAL(ended_encode(&out, 3, slice_buf(&blobs)), 0);
	ASSERT_BYTES(&out, 3, 0x0f);
	CU_ASSERT_EQUAL(ended_decode(slice_buf(&out), &rev, &got_blobs), 0);
	CU_ASSERT(rev == 3 && slice_eq(got_blobs, slice_buf(&blobs)));
	CU_ASSERT_EQUAL(ended_decode(slice_of(out.data, 1), &rev, &got_blobs), MVCC_ECORRUPT);
	buf_release(&out);
	buf_release(&blobs);
}

static void test_a_pin_has_its_bytes(void)
{
	struct mvcc_pin pin = {
		.name = "n", .kind = MVCC_PIN_AUTO, .rev = 0x0102, .time_ns = 3, .made_ns = 0x0405
	};
	struct mvcc_pin got;
	struct buf out = { 0 };

	CU_ASSERT_EQUAL(pin_encode(&out, &pin), 0);
	ASSERT_BYTES(&out, 2, 1, 0, 0, 0, 0, 0, 0, 1, 3, 0, 0, 0, 0, 0, 0, 0, 5, 4, 0, 0, 0, 0, 0, 0);
	CU_ASSERT_EQUAL(pin_decode(str("n"), slice_buf(&out), &got), 0);
	CU_ASSERT_STRING_EQUAL(got.name, "n");
	CU_ASSERT(got.kind == MVCC_PIN_AUTO && got.rev == 0x0102);
	CU_ASSERT(got.time_ns == 3 && got.made_ns == 0x0405);
	CU_ASSERT_EQUAL(pin_decode(str(""), slice_buf(&out), &got), MVCC_ECORRUPT);
	CU_ASSERT_EQUAL(pin_decode(str("a/b"), slice_buf(&out), &got), MVCC_ECORRUPT);
	CU_ASSERT_EQUAL(pin_decode(slice_of("a\0b", 3), slice_buf(&out), &got), MVCC_ECORRUPT);
	out.data[8] = 2; /* an unknown kind */
	CU_ASSERT_EQUAL(pin_decode(str("n"), slice_buf(&out), &got), MVCC_ECORRUPT);
	out.data[8] = 0;
	CU_ASSERT_EQUAL(pin_decode(str("n"), slice_of(out.data, out.len - 1), &got), MVCC_ECORRUPT);
	buf_release(&out);
}

static void test_operations_have_their_bytes(void)
{
	struct op put = { .key = str("k"), .prev = 300, .record = str("rec") };
	struct op del = { .flags = OP_DEL, .key = str("k"), .prev = 2 }, got;
	struct buf out = { 0 };
	struct slice in;

	CU_ASSERT_EQUAL(op_encode(&out, &put), 0);
	CU_ASSERT_EQUAL(op_encode(&out, &del), 0);
	ASSERT_BYTES(&out, 1, 'k', 0, 0xac, 0x02, 3, 'r', 'e', 'c', 1, 'k', 1, 2);
	in = slice_buf(&out);
	CU_ASSERT(op_take(&in, &got));
	CU_ASSERT(slice_eq(got.record, str("rec")) && got.prev == 300 && got.flags == 0);
	CU_ASSERT(op_take(&in, &got));
	CU_ASSERT(got.flags == OP_DEL && got.prev == 2 && in.len == 0);
	buf_clear(&out);
	put.flags = OP_REBORN;
	CU_ASSERT_EQUAL(staged_encode(&out, &put), 0);
	ASSERT_BYTES(&out, 2, 0xac, 0x02, 3, 'r', 'e', 'c');
	CU_ASSERT_EQUAL(staged_decode(slice_buf(&out), &got), 0);
	CU_ASSERT_EQUAL(buf_put_u8(&out, 0), 0);
	CU_ASSERT_EQUAL(staged_decode(slice_buf(&out), &got), MVCC_ECORRUPT);
	buf_release(&out);
}

static void test_a_commit_has_its_bytes(void)
{
	struct mvcc_story story = {
		.uid = 1, .gid = 2, .pid = 300, .comm = "sh", .op = "write", .path = str("/p"), .message = "m"
	};
	struct commit_head head = {
		.rev = 5, .time_ns = 128, .run = 6, .nsettled = 2, .settled = slice_of("\1\2", 2)
	};
	struct buf text = { 0 }, out = { 0 };
	struct commit_head got;

	CU_ASSERT_EQUAL(story_encode(&text, &story), 0);
	ASSERT_BYTES(&text, 1, 2, 0xac, 0x02, 2, 's', 'h', 5, 'w', 'r', 'i', 't', 'e', 2, '/', 'p', 0, 0, 1,
		     'm');
	head.story = slice_buf(&text);
	CU_ASSERT_EQUAL(commit_head_encode(&out, &head), 0);
	CU_ASSERT_EQUAL(buf_put_slice(&out, str("ops")), 0);
	ASSERT_BYTES(&out, 5, 0x80, 0x01, 1, 2, 0xac, 0x02, 2, 's', 'h', 5, 'w', 'r', 'i', 't', 'e', 2, '/',
		     'p', 0, 0, 1, 'm', 6, 2, 1, 2, 'o', 'p', 's');
	CU_ASSERT_EQUAL(commit_head_decode(slice_buf(&out), &got), 0);
	CU_ASSERT(got.rev == 5 && got.time_ns == 128 && got.run == 6 && got.nsettled == 2);
	CU_ASSERT(slice_eq(got.story, slice_buf(&text)));
	CU_ASSERT(slice_eq(got.ops, str("ops")));
	buf_release(&text);
	buf_release(&out);
}

static void test_log_rows_have_their_bytes(void)
{
	struct mvcc_change put = { .key = slice_of(awkward, 3) },
			   del = { .key = str("k"), .deleted = true, .prev_rev = 2 };
	struct buf story = { 0 }, ranges = { 0 }, changes = { 0 }, out = { 0 };
	struct log_part part = { .time_ns = 1, .nranges = 1 }, got;
	struct mvcc_change change;
	mvcc_blob_t first;
	uint64_t count;

	CU_ASSERT_EQUAL(story_encode(&story, NULL), 0);
	CU_ASSERT_EQUAL(log_range_put(&ranges, 7, 1), 0);
	CU_ASSERT_EQUAL(log_change_put(&changes, &put), 0);
	CU_ASSERT_EQUAL(log_change_put(&changes, &del), 0);
	part.story = slice_buf(&story);
	part.ranges = slice_buf(&ranges);
	part.changes = slice_buf(&changes);
	CU_ASSERT_EQUAL(log_part_encode(&out, 0, &part), 0);
	ASSERT_BYTES(&out, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 7, 1, 0, 3, 'a', 0, 'b', 0, 1, 1, 'k', 2);
	CU_ASSERT_EQUAL(log_part_decode(slice_buf(&out), 0, &got), 0);
	CU_ASSERT(log_range_take(&got.ranges, &first, &count) && first == 7 && count == 1);
	CU_ASSERT(log_change_take(&got.changes, &change) && !change.deleted && change.prev_rev == 0);
	CU_ASSERT(log_change_take(&got.changes, &change) && change.deleted && change.prev_rev == 2);
	CU_ASSERT_EQUAL(log_part_encode(&out, 1, &part), 0);
	ASSERT_BYTES(&out, 1, 7, 1, 0, 3, 'a', 0, 'b', 0, 1, 1, 'k', 2);
	buf_release(&story);
	buf_release(&ranges);
	buf_release(&changes);
	buf_release(&out);
}

static void test_the_applied_row_has_its_bytes(void)
{
	struct applied a = { .seq = 1, .pos = 2, .check = 3, .rev = 4, .time_ns = 5 }, got;
	struct buf out = { 0 };

	CU_ASSERT_EQUAL(applied_encode(&out, &a), 0);
	ASSERT_BYTES(&out, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0,
		     0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0);
	CU_ASSERT_EQUAL(applied_decode(slice_buf(&out), &got), 0);
	CU_ASSERT(got.seq == 1 && got.pos == 2 && got.check == 3 && got.rev == 4 && got.time_ns == 5);
	out.len--;
	CU_ASSERT_EQUAL(applied_decode(slice_buf(&out), &got), MVCC_ECORRUPT);
	buf_release(&out);
}

static void test_the_moving_row_is_applied_and_a_commit(void)
{
	struct applied a = { .seq = 1, .pos = 2, .check = 3, .rev = 4, .time_ns = 5 }, got;
	struct buf out = { 0 }, first = { 0 };
	struct slice payload;

	CU_ASSERT_EQUAL(applied_encode(&first, &a), 0);
	CU_ASSERT_EQUAL(moving_encode(&out, &a, str("commit")), 0);
	CU_ASSERT(slice_eq(slice_of(out.data, first.len), slice_buf(&first)));
	CU_ASSERT(slice_eq(slice_of(out.data + first.len, out.len - first.len), str("commit")));
	CU_ASSERT_EQUAL(moving_decode(slice_buf(&out), &got, &payload), 0);
	CU_ASSERT(got.seq == 1 && got.time_ns == 5 && slice_eq(payload, str("commit")));
	out.len = first.len - 1;
	CU_ASSERT_EQUAL(moving_decode(slice_buf(&out), &got, &payload), MVCC_ECORRUPT);
	buf_release(&out);
	buf_release(&first);
}

/* ---- the ring ----------------------------------------------------------------------------- */

struct ring_fixture {
	char tmp[256];
	int fd;
	struct ring r;
};

static struct ring_fixture ring_fixture_open(void)
{
	struct ring_fixture f;

	fixture_tmpdir(f.tmp);
	f.fd = open(f.tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CU_ASSERT_FATAL(f.fd >= 0);
	CU_ASSERT_EQUAL_FATAL(ring_create(f.fd, "ring", RING_BYTES_MIN, 77), 0);
	CU_ASSERT_EQUAL_FATAL(ring_map(&f.r, f.fd, "ring", 77), 0);
	return f;
}

static void ring_fixture_close(struct ring_fixture *f)
{
	ring_unmap(&f->r);
	close(f->fd);
	fixture_rmdir(f->tmp);
}

static void test_a_ring_file_has_its_bytes(void)
{
	static const uint8_t header[40] = {
		'm',  'v',  'c',  'c',  'r',  'i',  'n',  'g',  /* magic */
		1,    0,    0,    0,    0,    0,    0,    0,    /* format */
		0,    0,    4,    0,    0,    0,    0,    0,    /* size */
		77,   0,    0,    0,    0,    0,    0,    0,    /* incarnation */
		0x37, 0x9b, 0x38, 0xec, 0xd6, 0xc9, 0xc8, 0x54, /* check */
	};
	static const uint8_t record[32] = {
		0xcc, 0x09, 0xd8, 0x69, 0xde, 0xe3, 0x72, 0x4e, /* check */
		2,    0,    0,    0,    1,    0,    0,    0,    /* len, type */
		10,   0,    0,    0,    0,    0,    0,    0,    /* seq */
		'h',  'i',  0,    0,    0,    0,    0,    0,    /* payload */
	};
	struct ring_fixture f = ring_fixture_open();
	uint8_t got[4096 + 32];
	struct stat st;
	int fd = openat(f.fd, "ring", O_RDONLY | O_CLOEXEC);

	ring_start(&f.r, (struct ring_at){ .seq = 9, .check = 5 });
	ring_append(&f.r, RING_COMMIT, str("hi"));
	CU_ASSERT_EQUAL(pread(fd, got, sizeof(got), 0), (ssize_t)sizeof(got));
	assert_bytes(slice_of(got, sizeof(header)), header, sizeof(header));
	assert_bytes(slice_of(got + 4096, sizeof(record)), record, sizeof(record));
	CU_ASSERT_EQUAL(fstat(fd, &st), 0);
	CU_ASSERT_EQUAL(st.st_size, (off_t)(4096 + RING_BYTES_MIN));
	CU_ASSERT(st.st_blocks * 512 >= st.st_size); /* no holes */
	close(fd);
	ring_fixture_close(&f);
}

static void test_ring_records_come_back_in_order_over_many_rounds(void)
{
	struct ring_fixture f = ring_fixture_open();
	struct ring_at at = { .seq = 0, .check = 1234 };
	uint8_t bytes[5000];
	unsigned bad = 0;

	ring_start(&f.r, at);
	for (unsigned i = 0; i < 1000; i++) { /* 2.5 MB through 256 KiB: records wrap at every offset */
		size_t len = i * 37 % sizeof(bytes);
		struct slice payload;
		uint32_t type;

		memset(bytes, (int)i, len);
		CU_ASSERT_FATAL(ring_used(&f.r) + ring_record_bytes(len) <= f.r.size);
		ring_append(&f.r, RING_INTENT, slice_of(bytes, len));
		bad += !ring_next(&f.r, &at, &type, &payload) || type != RING_INTENT || at.seq != i + 1;
		bad += !slice_eq(payload, slice_of(bytes, len));
		bad += ring_next(&f.r, &at, &type, &payload); /* nothing behind the newest */
		atomic_store(&f.r.tail, at.pos);
	}
	CU_ASSERT_EQUAL(bad, 0);
	CU_ASSERT_EQUAL(ring_used(&f.r), 0);
	ring_fixture_close(&f);
}

static void test_a_full_ring_can_be_read_to_its_last_byte(void)
{
	struct ring_fixture f = ring_fixture_open();
	struct ring_at at = { .pos = 4096, .seq = 0, .check = 1 };
	size_t len = f.r.size / 2 - ring_record_bytes(0);
	uint8_t *bytes = calloc(1, len);
	struct slice payload;
	uint32_t type;

	CU_ASSERT_FATAL(bytes != NULL);
	ring_start(&f.r, at);
	ring_append(&f.r, RING_COMMIT, slice_of(bytes, len));
	ring_append(&f.r, RING_COMMIT, slice_of(bytes, len));
	CU_ASSERT_EQUAL(ring_used(&f.r), f.r.size);
	CU_ASSERT(ring_next(&f.r, &at, &type, &payload));
	CU_ASSERT(ring_next(&f.r, &at, &type, &payload));
	CU_ASSERT_EQUAL(payload.len, len);
	CU_ASSERT(!ring_next(&f.r, &at, &type, &payload));
	free(bytes);
	ring_fixture_close(&f);
}

static void test_a_record_of_another_epoch_ends_the_chain(void)
{
	struct ring_fixture f = ring_fixture_open();
	struct ring_at at = { .seq = 0, .check = 1 };
	struct slice payload;
	uint32_t type;

	ring_start(&f.r, at);
	ring_append(&f.r, RING_COMMIT, str("old 1"));
	ring_append(&f.r, RING_COMMIT, str("old 2"));
	at.check = 2;
	ring_start(&f.r, at);
	CU_ASSERT(!ring_next(&f.r, &at, &type, &payload));
	ring_append(&f.r, RING_COMMIT,
		    str("new 1")); /* as long as what it overwrites: old 2 stands behind it */
	CU_ASSERT(ring_next(&f.r, &at, &type, &payload));
	CU_ASSERT(slice_eq(payload, str("new 1")));
	CU_ASSERT(!ring_next(&f.r, &at, &type, &payload));
	ring_fixture_close(&f);
}

static void test_a_ring_of_another_store_is_refused(void)
{
	struct ring_fixture f = ring_fixture_open();
	struct ring other;

	CU_ASSERT_EQUAL(ring_map(&other, f.fd, "ring", 78), MVCC_ECORRUPT);
	CU_ASSERT_EQUAL(ring_map(&other, f.fd, "no ring", 77), -ENOENT);
	ring_fixture_close(&f);
}

/* ---- the ordered table -------------------------------------------------------------------- */

static void test_a_table_orders_keys_up_and_revisions_down(void)
{
	struct memtable mt;
	struct mem_node *node;

	CU_ASSERT_EQUAL_FATAL(memtable_init(&mt), 0);
	CU_ASSERT_PTR_NULL(memtable_first(&mt));
	CU_ASSERT_PTR_NOT_NULL(memtable_insert(&mt, str("b"), 5, str("b5"), 0));
	CU_ASSERT_PTR_NOT_NULL(memtable_insert(&mt, str("b"), 9, str("b9"), 0));
	CU_ASSERT_PTR_NOT_NULL(memtable_insert(&mt, str("bb"), 1, str("bb1"), 0));
	CU_ASSERT_PTR_NOT_NULL(memtable_insert(&mt, str("a"), 7, str("a7"), MEM_NEW));
	node = memtable_first(&mt);
	CU_ASSERT(slice_eq(node->value, str("a7")) && node->flags == MEM_NEW);
	node = memtable_next(node);
	CU_ASSERT(slice_eq(node->value, str("b9")));
	node = memtable_next(node);
	CU_ASSERT(slice_eq(node->value, str("b5")));
	node = memtable_next(node);
	CU_ASSERT(slice_eq(node->value, str("bb1")));
	CU_ASSERT_PTR_NULL(memtable_next(node));
	CU_ASSERT(slice_eq(memtable_find(&mt, str("b"), 8)->value, str("b5")));
	CU_ASSERT(slice_eq(memtable_find(&mt, str("b"), 9)->value, str("b9")));
	CU_ASSERT_PTR_NULL(memtable_find(&mt, str("b"), 4));
	CU_ASSERT(slice_eq(memtable_seek(&mt, str("b"), 4)->value, str("bb1")));
	CU_ASSERT_PTR_NULL(memtable_find(&mt, str("c"), 100));
	CU_ASSERT_EQUAL(atomic_load(&mt.count), 4);
	memtable_release(&mt);
}

static void test_reserved_memory_is_enough_for_what_it_was_reserved_for(void)
{
	struct memtable mt;
	uint8_t key[300] = { 1 }, value[900] = { 2 };
	size_t bytes = 0;
	uint8_t *limit;

	CU_ASSERT_EQUAL_FATAL(memtable_init(&mt), 0);
	for (unsigned i = 1; i <= 300; i++)
		bytes += memtable_node_bytes(i) + memtable_copy_bytes(3 * i);
	CU_ASSERT_EQUAL_FATAL(memtable_reserve(&mt, bytes), 0);
	limit = mt.limit;
	for (unsigned i = 1; i <= 300; i++) {
		struct slice copy = memtable_copy(&mt, slice_of(value, 3 * i));

		CU_ASSERT_PTR_NOT_NULL(memtable_insert(&mt, slice_of(key, i), i, copy, 0));
	}
	CU_ASSERT_PTR_EQUAL(mt.limit, limit); /* no other chunk was taken */
	memtable_release(&mt);
}

enum { TABLE_KEYS = 20000 };

struct table_reader {
	const struct memtable *mt;
	atomic_bool *stop;
	unsigned errors;
};

static void *read_table(void *arg)
{
	struct table_reader *reader = arg;

	while (!atomic_load(reader->stop)) {
		uint64_t before = 0;

		for (struct mem_node *n = memtable_first(reader->mt); n; n = memtable_next(n)) {
			uint64_t at = get_be64(n->key.data);

			reader->errors += at <= before || n->rev != at || !slice_eq(n->value, n->key);
			before = at;
		}
	}
	return NULL;
}

static void test_a_table_is_read_while_it_is_written(void)
{
	atomic_bool stop = false;
	struct memtable mt;
	struct table_reader readers[2];
	pthread_t threads[2];
	uint64_t state = 42;

	CU_ASSERT_EQUAL_FATAL(memtable_init(&mt), 0);
	for (int i = 0; i < 2; i++) {
		readers[i] = (struct table_reader){ .mt = &mt, .stop = &stop };
		CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, read_table, &readers[i]), 0);
	}
	for (unsigned i = 0; i < TABLE_KEYS; i++) {
		uint64_t n = 1 + random_next(&state) % 1000000;
		uint8_t raw[8];
		struct slice key = slice_of(raw, 8);

		put_be64(raw, n);
		if (!memtable_find(&mt, key, n))
			memtable_insert(&mt, key, n, memtable_copy(&mt, key), 0);
	}
	atomic_store(&stop, true);
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		CU_ASSERT_EQUAL(readers[i].errors, 0);
	}
	CU_ASSERT(atomic_load(&mt.count) > TABLE_KEYS / 2);
	memtable_release(&mt);
}

/* ---- overlay and window ------------------------------------------------------------------- */

static void test_a_held_set_keeps_what_was_dropped_from_the_overlay(void)
{
	struct generation *first = generation_new(), *second = generation_new();
	struct overlay o;
	struct gen_set *held, *now;

	CU_ASSERT_FATAL(first && second);
	memtable_insert(&first->mt, str("k"), 1, str("v"), 0);
	CU_ASSERT_EQUAL_FATAL(overlay_init(&o, first), 0);
	CU_ASSERT_EQUAL_FATAL(overlay_push(&o, &second, 1), 0);
	held = overlay_ref(&o);
	CU_ASSERT_EQUAL(held->n, 2);
	CU_ASSERT_PTR_EQUAL(held->gens[0], second);
	overlay_drop_last(&o);
	now = overlay_ref(&o);
	CU_ASSERT_EQUAL(now->n, 1);
	CU_ASSERT_PTR_EQUAL(now->gens[0], second);
	CU_ASSERT_PTR_NOT_NULL(memtable_find(&held->gens[1]->mt, str("k"), 1));
	gen_set_unref(now);
	gen_set_unref(held);
	overlay_release(&o);
}

static void push_one(struct window *w, const char *key, mvcc_rev_t rev)
{
	struct window_commit c = window_begin(1, strlen(key));

	window_add(&c, str(key), (struct header){ true, rev, rev, 1 });
	window_push(w, c);
}

static void test_the_window_knows_the_newest_commits_by_revision(void)
{
	struct window w;

	window_init(&w, 10);
	push_one(&w, "a", 11);
	push_one(&w, "b", 12);
	CU_ASSERT_EQUAL(w.low, 10);
	CU_ASSERT(slice_eq(window_at(&w, 11)->changes[0].key, str("a")));
	CU_ASSERT(slice_eq(window_at(&w, 12)->changes[0].key, str("b")));
	CU_ASSERT_EQUAL(window_at(&w, 12)->changes[0].header.mod, 12);
	window_release(&w);
}

static void test_the_window_forgets_the_oldest_when_it_is_full(void)
{
	enum { COMMITS = 200000 };
	struct window w;
	char key[32];

	window_init(&w, 0);
	for (unsigned i = 1; i <= COMMITS; i++) {
		snprintf(key, sizeof(key), "key %u", i);
		push_one(&w, key, i);
	}
	CU_ASSERT_EQUAL(w.low + w.n, COMMITS);
	CU_ASSERT(w.low > 0);
	CU_ASSERT(w.n > 1000);
	CU_ASSERT(w.bytes <= (size_t)8 << 20);
	snprintf(key, sizeof(key), "key %u", (unsigned)w.low + 1);
	CU_ASSERT(slice_eq(window_at(&w, w.low + 1)->changes[0].key, str(key)));
	CU_ASSERT_EQUAL(window_at(&w, COMMITS)->changes[0].header.mod, COMMITS);
	window_release(&w);
}

/* ---- directories -------------------------------------------------------------------------- */

static enum dir_kind kind_of(const char *path)
{
	enum dir_kind kind = DIR_ABSENT;
	unsigned format;

	CU_ASSERT_EQUAL(dir_classify(path, &kind, &format), 0);
	return kind;
}

static void touch(const char *dir, const char *name, const char *text)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	CU_ASSERT(fputs(text, f) >= 0);
	CU_ASSERT_EQUAL(fclose(f), 0);
}

static void test_a_directory_is_told_by_what_is_in_it(void)
{
	char tmp[256], path[512];
	unsigned format = 0;
	enum dir_kind kind;

	fixture_tmpdir(tmp);
	CU_ASSERT_EQUAL(kind_of(tmp), DIR_EMPTY);
	snprintf(path, sizeof(path), "%s/none", tmp);
	CU_ASSERT_EQUAL(kind_of(path), DIR_ABSENT);
	snprintf(path, sizeof(path), "%s/lost+found", tmp);
	CU_ASSERT_EQUAL(mkdir(path, 0700), 0);
	CU_ASSERT_EQUAL(kind_of(tmp), DIR_EMPTY);
	touch(tmp, "LOCK", "somebody else's\n");
	CU_ASSERT_EQUAL(kind_of(tmp), DIR_STRANGE);
	touch(tmp, "LOCK", "pid 1\n");
	touch(tmp, "ring", "");
	CU_ASSERT_EQUAL(kind_of(tmp), DIR_HALF);
	touch(tmp, "thesis.tex", "\\begin");
	CU_ASSERT_EQUAL(kind_of(tmp), DIR_STRANGE);
	touch(tmp, "FORMAT", "mvccfs database, format 7\n");
	CU_ASSERT_EQUAL(dir_classify(tmp, &kind, &format), 0);
	CU_ASSERT(kind == DIR_DB && format == 7);
	touch(tmp, "FORMAT", "A4\n");
	CU_ASSERT_EQUAL(kind_of(tmp), DIR_STRANGE);
	snprintf(path, sizeof(path), "%s/FORMAT", tmp);
	CU_ASSERT_EQUAL(kind_of(path), DIR_STRANGE);
	fixture_rmdir(tmp);
}

/* ---- put together ------------------------------------------------------------------------- */

static void test_a_commit_stands_in_the_rows_that_the_format_says(void)
{
	struct fixture *fx = fixture_open();
	struct slice key = slice_of(awkward, sizeof(awkward));
	struct buf row = { 0 };
	struct engine_pin pin;
	struct mvcc_txn *txn = begin(fx->db);
	struct record rec;
	struct op op;

	CU_ASSERT_EQUAL(mvcc_txn_put(txn, key, str("one"), NULL, 0), 0);
	CU_ASSERT_EQUAL(commit(txn), 2);
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, key, str("two"), NULL, 0), 0);
	CU_ASSERT_EQUAL(commit(txn), 3);
	fixture_drain(fx);
	gate_enter(&fx->db->gate);
	CU_ASSERT_EQUAL_FATAL(engine_get(fx->db->engine, FAM_LATEST, key, &pin), 0);
	CU_ASSERT_EQUAL(record_decode(pin.value, &rec), 0);
	CU_ASSERT(rec.mod == 3 && rec.create == 2 && rec.version == 2 && slice_eq(rec.value, str("two")));
	engine_pin_release(fx->db->engine, &pin);
	CU_ASSERT_EQUAL(hist_key(&row, key, 3), 0);
	CU_ASSERT_EQUAL_FATAL(engine_get(fx->db->engine, FAM_HIST, slice_buf(&row), &pin), 0);
	CU_ASSERT_EQUAL(record_decode(pin.value, &rec), 0);
	CU_ASSERT(rec.mod == 2 && slice_eq(rec.value, str("one")));
	engine_pin_release(fx->db->engine, &pin);
	CU_ASSERT_EQUAL(log_key(&row, 3, 0), 0);
	CU_ASSERT_EQUAL(engine_get(fx->db->engine, FAM_LOG, slice_buf(&row), &pin), 0);
	engine_pin_release(fx->db->engine, &pin);
	CU_ASSERT_EQUAL(stage_get(fx->db, 1, key, &pin, &op), -ENOENT);
	gate_leave(&fx->db->gate);
	buf_release(&row);
	fixture_close(fx);
}

static void test_a_shared_blob_is_counted_from_its_second_record_on(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn = begin(fx->db);
	struct buf row = { 0 };
	struct engine_pin pin;
	mvcc_blob_t blob = 0;

	CU_ASSERT_EQUAL_FATAL(mvcc_txn_stage_blob(txn, str("large"), &blob), 0);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("a"), str(""), &blob, 1), 0);
	commit(txn);
	fixture_drain(fx);
	CU_ASSERT_EQUAL(meta_key_id(&row, META_BLOBREF, blob), 0);
	gate_enter(&fx->db->gate);
	CU_ASSERT_EQUAL(engine_get(fx->db->engine, FAM_META, slice_buf(&row), &pin), -ENOENT);
	gate_leave(&fx->db->gate);
	txn = begin(fx->db);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("b"), str(""), &blob, 1), 0);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("c"), str(""), &blob, 1), 0);
	commit(txn);
	put(fx->db, "a", "without it"); /* the record with it goes to the past, and still counts */
	fixture_drain(fx);
	gate_enter(&fx->db->gate);
	CU_ASSERT_EQUAL_FATAL(engine_get(fx->db->engine, FAM_META, slice_buf(&row), &pin), 0);
	assert_bytes(pin.value, "\3\0\0\0\0\0\0\0", 8);
	engine_pin_release(fx->db->engine, &pin);
	gate_leave(&fx->db->gate);
	buf_release(&row);
	fixture_close(fx);
}

/* How many records are said to refer to the blob; 1 where no row says otherwise. */
static uint64_t count_of(struct fixture *fx, mvcc_blob_t blob)
{
	struct buf row = { 0 };
	struct engine_pin pin;
	uint64_t count = 1;

	fixture_drain(fx);
	CU_ASSERT_EQUAL(meta_key_id(&row, META_BLOBREF, blob), 0);
	gate_enter(&fx->db->gate);
	if (engine_get(fx->db->engine, FAM_META, slice_buf(&row), &pin) == 0) {
		CU_ASSERT_EQUAL(pin.value.len, 8);
		count = get_le64(pin.value.data);
		engine_pin_release(fx->db->engine, &pin);
	}
	gate_leave(&fx->db->gate);
	buf_release(&row);
	return count;
}

static void test_a_blob_shared_at_once_is_counted(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_txn *txn = begin(fx->db);
	mvcc_blob_t shared = 0, twice = 0;

	CU_ASSERT_EQUAL_FATAL(mvcc_txn_stage_blob(txn, str("shared"), &shared), 0);
	CU_ASSERT_EQUAL_FATAL(mvcc_txn_stage_blob(txn, str("twice"), &twice), 0);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("a"), str(""), &shared, 1), 0);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("b"), str(""), &shared, 1), 0);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("c"), str("first"), &twice, 1), 0);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("c"), str("again"), &twice, 1), 0);
	commit(txn);
	CU_ASSERT_EQUAL(count_of(fx, shared), 2);
	CU_ASSERT_EQUAL(count_of(fx, twice), 1);
	fixture_close(fx);
}

/* Rows that make a transaction on the smallest ring spill what it wrote before. */
static void put_filler(struct mvcc_txn *txn)
{
	static const uint8_t zeros[1000];
	char key[24];

	for (unsigned i = 0; i < 40; i++) {
		snprintf(key, sizeof(key), "filler%u", i);
		CU_ASSERT_EQUAL(mvcc_txn_put(txn, str(key), slice_of(zeros, sizeof(zeros)), NULL, 0), 0);
	}
}

static void test_a_blob_stays_with_the_rows_of_a_run_that_still_refer_to_it(void)
{
	struct fixture *fx = fixture_open_small_ring();
	struct mvcc_txn *txn = begin(fx->db);
	mvcc_blob_t kept = 0, gone = 0, shared = 0;
	char got[8];

	CU_ASSERT_EQUAL_FATAL(mvcc_txn_stage_blob(txn, str("kept"), &kept), 0);
	CU_ASSERT_EQUAL_FATAL(mvcc_txn_stage_blob(txn, str("gone"), &gone), 0);
	CU_ASSERT_EQUAL_FATAL(mvcc_txn_stage_blob(txn, str("shared"), &shared), 0);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("a"), str(""), &kept, 1), 0);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("b"), str(""), &kept, 1), 0);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("c"), str(""), &gone, 1), 0);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("d"), str(""), &shared, 1), 0);
	put_filler(txn);
	CU_ASSERT(txn->run != 0);
	CU_ASSERT_EQUAL(mvcc_txn_del(txn, str("a")), 0); /* the first row to refer to it */
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("c"), str("without"), NULL, 0), 0);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("e"), str(""), &shared, 1), 0);
	CU_ASSERT_EQUAL(mvcc_txn_put(txn, str("f"), str(""), &shared, 1), 0);
	commit(txn);
	CU_ASSERT_EQUAL(count_of(fx, kept), 1);
	CU_ASSERT_EQUAL(count_of(fx, shared), 3);
	CU_ASSERT_EQUAL(mvcc_blob_read(fx->db, kept, 0, got, sizeof(got)), 4);
	CU_ASSERT_EQUAL(mvcc_blob_read(fx->db, gone, 0, got, sizeof(got)), -ENOENT);
	fixture_reopen(fx);
	CU_ASSERT_EQUAL(mvcc_blob_read(fx->db, kept, 0, got, sizeof(got)), 4);
	CU_ASSERT_EQUAL(fixture_rows(fx, ENGINE_USE_BLOB), 2);
	fixture_close(fx);
}

static int append_x(const void *arg, struct slice old, struct buf *out)
{
	int err = buf_put_slice(out, old);

	for (uint32_t i = 0; !err && i < get_le32(arg); i++)
		err = buf_put_u8(out, 'x');
	return err;
}

static void txn_append(struct mvcc_txn *txn, const char *key, uint32_t n)
{
	uint8_t arg[4];

	put_le32(arg, n);
	CU_ASSERT_EQUAL(mvcc_txn_update(txn, str(key), append_x, arg, sizeof(arg)), 0);
}

static void test_updates_too_many_for_the_ring_are_one_commit(void)
{
	enum { KEYS = 2000, MORE = 100 };
	struct fixture *fx = fixture_open_small_ring();
	struct mvcc_view *view = NULL;
	struct mvcc_rows rows = { 0 };
	struct mvcc_txn *txn = begin(fx->db);
	unsigned bad = 0;
	mvcc_rev_t rev;
	char key[16];

	for (unsigned i = 0; i < KEYS; i++) {
		snprintf(key, sizeof(key), "%05u", i);
		txn_put(txn, key, "abc");
	}
	commit(txn);
	txn = begin(fx->db);
	for (unsigned i = 0; i < KEYS + 10; i++) { /* the last ones are absent */
		snprintf(key, sizeof(key), "%05u", i);
		txn_append(txn, key, MORE);
	}
	rev = commit(txn);
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, MVCC_REV_LATEST, &view), 0);
	CU_ASSERT_EQUAL(mvcc_range(view, str("0"), str("1"), NULL, &rows), 0);
	CU_ASSERT_EQUAL(rows.n, KEYS);
	for (size_t i = 0; i < rows.n; i++) {
		const struct mvcc_item *item = &rows.rows[i].item;

		bad += item->value.len != 3 + MORE || item->version != 2 || item->mod_rev != rev;
	}
	CU_ASSERT_EQUAL(bad, 0);
	mvcc_rows_release(&rows);
	mvcc_view_close(view);
	fixture_close(fx);
}

static void test_an_update_may_make_a_value_larger_than_the_ring(void)
{
	struct fixture *fx = fixture_open_small_ring();
	struct mvcc_txn *txn = begin(fx->db);
	struct mvcc_view *view = NULL;
	struct mvcc_item item = { 0 };

	txn_put(txn, "k", "v");
	txn_append(txn, "k", 900000);
	commit(txn);
	txn = begin(fx->db);
	txn_append(txn, "k", 1);
	commit(txn);
	CU_ASSERT_EQUAL_FATAL(mvcc_view_open(fx->db, MVCC_REV_LATEST, &view), 0);
	CU_ASSERT_EQUAL(mvcc_get(view, str("k"), &item), 0);
	CU_ASSERT_EQUAL(item.value.len, 900002);
	mvcc_item_release(&item);
	mvcc_view_close(view);
	fixture_close(fx);
}

static void test_what_waits_in_the_ring_is_replayed(void)
{
	struct fixture *fx = fixture_open();
	struct mvcc_stats stats;

	put(fx->db, "k", "drained");
	fixture_drain(fx);
	fixture_reopen(fx);
	put(fx->db, "k", "again");
	fixture_reopen(fx);
	mvcc_stats(fx->db, &stats);
	CU_ASSERT_EQUAL(stats.replayed, 0); /* a clean close leaves nothing to do */
	CU_ASSERT_EQUAL(stats.current, 3);
	assert_value_at(fx->db, 2, "k", "drained");
	assert_value_at(fx->db, 3, "k", "again");
	fixture_close(fx);
}

static void test_the_gate_shuts_only_when_nobody_is_inside(void)
{
	struct gate g;

	gate_init(&g);
	gate_enter(&g);
	gate_enter(&g);
	CU_ASSERT(!gate_try_shut(&g));
	gate_leave(&g);
	CU_ASSERT(!gate_try_shut(&g));
	gate_leave(&g);
	CU_ASSERT(gate_try_shut(&g));
	gate_open(&g);
	gate_enter(&g);
	gate_leave(&g);
	gate_release(&g);
}

static CU_TestInfo format_tests[] = {
	UNIT_TEST(test_a_record_has_the_bytes_of_the_example),
	UNIT_TEST(test_a_lease_has_the_bytes_of_the_example),
	UNIT_TEST(test_a_lease_that_cannot_be_is_refused),
	UNIT_TEST(test_a_staged_record_takes_the_revision_of_its_commit),
	UNIT_TEST(test_a_record_that_cannot_be_is_refused),
	UNIT_TEST(test_keys_have_the_bytes_of_the_example),
	UNIT_TEST(test_the_row_of_a_purge_has_its_bytes),
	UNIT_TEST(test_rows_of_ended_have_the_bytes_of_the_example),
	UNIT_TEST(test_a_pin_has_its_bytes),
	UNIT_TEST(test_operations_have_their_bytes),
	UNIT_TEST(test_a_commit_has_its_bytes),
	UNIT_TEST(test_log_rows_have_their_bytes),
	UNIT_TEST(test_the_applied_row_has_its_bytes),
	UNIT_TEST(test_the_moving_row_is_applied_and_a_commit),
	CU_TEST_INFO_NULL,
};

static CU_TestInfo part_tests[] = {
	UNIT_TEST(test_a_ring_file_has_its_bytes),
	UNIT_TEST(test_ring_records_come_back_in_order_over_many_rounds),
	UNIT_TEST(test_a_full_ring_can_be_read_to_its_last_byte),
	UNIT_TEST(test_a_record_of_another_epoch_ends_the_chain),
	UNIT_TEST(test_a_ring_of_another_store_is_refused),
	UNIT_TEST(test_a_table_orders_keys_up_and_revisions_down),
	UNIT_TEST(test_reserved_memory_is_enough_for_what_it_was_reserved_for),
	UNIT_TEST(test_a_table_is_read_while_it_is_written),
	UNIT_TEST(test_a_held_set_keeps_what_was_dropped_from_the_overlay),
	UNIT_TEST(test_the_window_knows_the_newest_commits_by_revision),
	UNIT_TEST(test_the_window_forgets_the_oldest_when_it_is_full),
	UNIT_TEST(test_a_directory_is_told_by_what_is_in_it),
	UNIT_TEST(test_the_gate_shuts_only_when_nobody_is_inside),
	CU_TEST_INFO_NULL,
};

static CU_TestInfo whole_tests[] = {
	UNIT_TEST(test_a_commit_stands_in_the_rows_that_the_format_says),
	UNIT_TEST(test_a_shared_blob_is_counted_from_its_second_record_on),
	UNIT_TEST(test_a_blob_shared_at_once_is_counted),
	UNIT_TEST(test_a_blob_stays_with_the_rows_of_a_run_that_still_refer_to_it),
	UNIT_TEST(test_updates_too_many_for_the_ring_are_one_commit),
	UNIT_TEST(test_an_update_may_make_a_value_larger_than_the_ring),
	UNIT_TEST(test_what_waits_in_the_ring_is_replayed),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = {
		UNIT_SUITE("format 1", NULL, NULL, format_tests),
		UNIT_SUITE("parts", NULL, NULL, part_tests),
		UNIT_SUITE("put together", NULL, NULL, whole_tests),
		CU_SUITE_INFO_NULL,
	};

	return unit_main(argc, argv, suites);
}
