/*
 * The bytes of the filesystem's rows: golden ones that fail when the format changes, and damaged ones.
 */
#include "fs/ns_row.h"

#include "tests/unit.h"

static void assert_bytes(const struct buf *b, const char *hex)
{
	char got[2048] = "";

	for (size_t i = 0; i < b->len && i < 1000; i++)
		snprintf(got + 2 * i, 3, "%02x", b->data[i]);
	CU_ASSERT_STRING_EQUAL(got, hex);
	if (strcmp(got, hex))
		fprintf(stderr, "got %s, expected %s\n", got, hex);
}

static void test_keys_have_their_golden_bytes(void)
{
	struct buf k = { 0 };

	CU_ASSERT_EQUAL(row_inode_key(&k, 1), 0);
	assert_bytes(&k, "490101");
	CU_ASSERT_EQUAL(row_inode_key(&k, 0x1234), 0);
	assert_bytes(&k, "49021234");
	CU_ASSERT_EQUAL(row_dirent_key(&k, 1, slice_str("a\nb")), 0);
	assert_bytes(&k, "440101610a62");
	CU_ASSERT_EQUAL(row_link_key(&k, 256, 1, slice_str("x")), 0);
	assert_bytes(&k, "4c0201000101"
			 "78");
	CU_ASSERT_EQUAL(row_extent_key(&k, 2, 0), 0);
	assert_bytes(&k, "45010200");
	CU_ASSERT_EQUAL(row_extent_key(&k, 2, 131072), 0);
	assert_bytes(&k, "45010203020000");
	CU_ASSERT_EQUAL(row_xattr_key(&k, 2, slice_str("user.a")), 0);
	assert_bytes(&k, "580102757365722e61");
	buf_release(&k);
}

static void test_values_have_their_golden_bytes(void)
{
	struct row_inode row = {
		.mode = 0100644,
		.uid = 1000,
		.gid = 100,
		.nlink = 1,
		.size = 2,
		.atime_ns = 1,
		.mtime_ns = -1,
		.ctime_ns = 0x0102030405060708,
		.btime_ns = 0,
		.inlined = true,
		.parent = 1,
		.name = slice_str("f"),
		.content = slice_str("hi"),
	};
	struct row_extent ext = { .blob = 9, .off = 4096, .len = 131072 };
	struct buf v = { 0 };

	CU_ASSERT_EQUAL(row_inode_encode(&v, &row), 0);
	assert_bytes(&v, "01"
			 "a48302"
			 "e807"
			 "64"
			 "00"
			 "01"
			 "02"
			 "00"
			 "0100000000000000"
			 "ffffffffffffffff"
			 "0807060504030201"
			 "0000000000000000"
			 "01"
			 "0166"
			 "6869");
	CU_ASSERT_EQUAL(row_dirent_encode(&v, 300, 8), 0);
	assert_bytes(&v, "08ac02");
	CU_ASSERT_EQUAL(row_extent_encode(&v, &ext), 0);
	assert_bytes(&v, "8020808008");
	buf_release(&v);
}

static void test_key_order_is_number_order(void)
{
	static const uint64_t numbers[] = { 0,
					    1,
					    255,
					    256,
					    65535,
					    65536,
					    1 << 24,
					    1u << 31,
					    1ull << 40,
					    1ull << 56,
					    (1ull << 63) - 1,
					    UINT64_MAX };
	struct buf a = { 0 }, b = { 0 };

	for (size_t i = 0; i + 1 < sizeof(numbers) / sizeof(numbers[0]); i++) {
		CU_ASSERT_EQUAL(row_extent_key(&a, 7, numbers[i]), 0);
		CU_ASSERT_EQUAL(row_extent_key(&b, 7, numbers[i + 1]), 0);
		CU_ASSERT_TRUE(slice_cmp(slice_buf(&a), slice_buf(&b)) < 0);
		CU_ASSERT_EQUAL(row_extent_key(&a, numbers[i], 9), 0);
		CU_ASSERT_EQUAL(row_extent_key(&b, numbers[i + 1], 0), 0);
		CU_ASSERT_TRUE(slice_cmp(slice_buf(&a), slice_buf(&b)) < 0);
	}
	buf_release(&a);
	buf_release(&b);
}

static void test_keys_come_back(void)
{
	struct buf k = { 0 };
	struct row_key out;

	CU_ASSERT_EQUAL(row_link_key(&k, 77, 1ull << 40, slice_of("n\0m", 3)), 0);
	CU_ASSERT_EQUAL(row_key_decode(slice_buf(&k), &out), 0);
	CU_ASSERT_EQUAL(out.kind, ROW_LINK);
	CU_ASSERT_EQUAL(out.ino, 77);
	CU_ASSERT_EQUAL(out.dir, 1ull << 40);
	CU_ASSERT_TRUE(slice_eq(out.tail, slice_of("n\0m", 3)));
	CU_ASSERT_EQUAL(row_extent_key(&k, 77, UINT64_MAX), 0);
	CU_ASSERT_EQUAL(row_key_decode(slice_buf(&k), &out), 0);
	CU_ASSERT_EQUAL(out.start, UINT64_MAX);
	buf_release(&k);
}

/* Decodes bytes that may be anything: must say so, or give something that encodes. */
static void decode_all(struct slice s)
{
	struct row_inode row;
	struct row_key key;
	uint64_t ino;
	uint8_t type;

	if (!row_inode_decode(s, &row)) {
		CU_ASSERT_TRUE(row.name.len <= NS_NAME_MAX);
		CU_ASSERT_TRUE(!row.inlined || row.content.len == row.size);
	}
	if (!row_key_decode(s, &key))
		CU_ASSERT_TRUE(key.tail.len < s.len);
	if (!row_dirent_decode(s, &ino, &type))
		CU_ASSERT_TRUE(type <= 15);
}

static void test_every_damaged_byte_is_survived(void)
{
	struct row_inode row = { .mode = 0100600,
				 .nlink = 1,
				 .size = 5,
				 .inlined = true,
				 .parent = 3,
				 .name = slice_str("name"),
				 .content = slice_str("12345") };
	struct buf v = { 0 };

	CU_ASSERT_EQUAL(row_inode_encode(&v, &row), 0);
	for (size_t len = 0; len <= v.len; len++) {
		/* On the heap and exactly as long, so that a sanitizer sees a step outside. */
		uint8_t *copy = malloc(len ? len : 1);

		if (len)
			memcpy(copy, v.data, len);
		decode_all(slice_of(copy, len));
		for (size_t i = 0; i < len; i++)
			for (int bit = 0; bit < 8; bit++) {
				copy[i] ^= (uint8_t)(1 << bit);
				decode_all(slice_of(copy, len));
				copy[i] ^= (uint8_t)(1 << bit);
			}
		free(copy);
	}
	buf_release(&v);
}

static void test_truncated_rows_are_corrupt(void)
{
	struct row_inode row = { .mode = 0100600,
				 .nlink = 1,
				 .size = 5,
				 .inlined = true,
				 .parent = 3,
				 .name = slice_str("name"),
				 .content = slice_str("12345") };
	struct row_inode out;
	struct buf v = { 0 };

	CU_ASSERT_EQUAL(row_inode_encode(&v, &row), 0);
	for (size_t len = 0; len < v.len; len++)
		CU_ASSERT_EQUAL(row_inode_decode(slice_of(v.data, len), &out), MVCC_ECORRUPT);
	CU_ASSERT_EQUAL(row_inode_decode(slice_buf(&v), &out), 0);
	v.data[0] = 2; /* a flag of a later format */
	CU_ASSERT_EQUAL(row_inode_decode(slice_buf(&v), &out), MVCC_ECORRUPT);
	buf_release(&v);
}

static void test_an_extent_needs_its_one_blob(void)
{
	struct row_extent ext = { .blob = 5, .off = 0, .len = 10 }, out;
	mvcc_blob_t blobs[] = { 5, 6 };
	struct mvcc_item item = { .blobs = blobs, .nblobs = 1 };
	struct buf v = { 0 };

	CU_ASSERT_EQUAL(row_extent_encode(&v, &ext), 0);
	item.value = slice_buf(&v);
	CU_ASSERT_EQUAL(row_extent_decode(&item, &out), 0);
	CU_ASSERT_EQUAL(out.blob, 5);
	item.nblobs = 2;
	CU_ASSERT_EQUAL(row_extent_decode(&item, &out), MVCC_ECORRUPT);
	item.nblobs = 0;
	CU_ASSERT_EQUAL(row_extent_decode(&item, &out), MVCC_ECORRUPT);
	item.nblobs = 1;
	ext.len = NS_EXTENT_MAX + 1;
	CU_ASSERT_EQUAL(row_extent_encode(&v, &ext), 0);
	item.value = slice_buf(&v);
	CU_ASSERT_EQUAL(row_extent_decode(&item, &out), MVCC_ECORRUPT);
	buf_release(&v);
}

static CU_TestInfo tests[] = {
	UNIT_TEST(test_keys_have_their_golden_bytes),   UNIT_TEST(test_values_have_their_golden_bytes),
	UNIT_TEST(test_key_order_is_number_order),      UNIT_TEST(test_keys_come_back),
	UNIT_TEST(test_every_damaged_byte_is_survived), UNIT_TEST(test_truncated_rows_are_corrupt),
	UNIT_TEST(test_an_extent_needs_its_one_blob),   CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	CU_SuiteInfo suites[] = { UNIT_SUITE("ns_row", NULL, NULL, tests), CU_SUITE_INFO_NULL };

	return unit_main(argc, argv, suites);
}
