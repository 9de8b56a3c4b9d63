/*
 * Bytes: a borrowed run of them (slice), an owned one (buf), and the few integer encodings that
 * FORMAT.md uses. Encoders append to a buf; decoders take from the front of a slice and fail, with
 * the slice untouched, when it is too short. Nothing here trusts what it decodes.
 */
#ifndef MVCC_BYTES_H
#define MVCC_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A program that uses libmvcc, or gives it an engine, needs these, too. */
#pragma GCC visibility push(default)

/* Borrowed bytes. Valid as long as whoever lent them says. */
struct slice {
	const uint8_t *data;
	size_t len;
};

/* Owned bytes that can grow. All zero is an empty buf. */
struct buf {
	uint8_t *data;
	size_t len;
	size_t cap;
};

static inline struct slice slice_of(const void *data, size_t len)
{
	return (struct slice){ (const uint8_t *)data, len };
}

static inline struct slice slice_str(const char *s)
{
	return slice_of(s, strlen(s));
}

static inline struct slice slice_buf(const struct buf *b)
{
	return slice_of(b->data, b->len);
}

/* Order of keys: bytes as unsigned numbers, a prefix before what it begins. <0, 0 or >0. */
static inline int slice_cmp(struct slice a, struct slice b)
{
	size_t n = a.len < b.len ? a.len : b.len;
	int c = n ? memcmp(a.data, b.data, n) : 0;

	return c ? c : (a.len > b.len) - (a.len < b.len);
}

static inline bool slice_eq(struct slice a, struct slice b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline bool slice_starts(struct slice s, struct slice prefix)
{
	return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.data, prefix.data, prefix.len) == 0);
}

/*
 * Growing a buf. Each append returns 0 or -ENOMEM. After a failed append the buf holds what it held
 * before; a later append may be tried again.
 */
int buf_reserve(struct buf *b, size_t more);
int buf_put(struct buf *b, const void *data, size_t len);
int buf_put_slice(struct buf *b, struct slice s);
int buf_put_u8(struct buf *b, uint8_t v);
int buf_put_be64(struct buf *b, uint64_t v);
int buf_put_le32(struct buf *b, uint32_t v);
int buf_put_le64(struct buf *b, uint64_t v);
int buf_put_varint(struct buf *b, uint64_t v);    /* LEB128: 7 bits a byte, low first */
int buf_put_bytes(struct buf *b, struct slice s); /* varint length, then the bytes */
int buf_copy(struct buf *b, struct slice s);      /* replaces the contents */
void buf_clear(struct buf *b);                    /* length 0, memory kept */
void buf_release(struct buf *b);                  /* memory freed; the buf is empty again */

/* The first key after every key that starts with `prefix`; empty when there is none (all 0xff). */
int buf_prefix_end(struct buf *b, struct slice prefix);

/* Decoders: true and advance, or false. */
bool take_u8(struct slice *s, uint8_t *out);
bool take_be64(struct slice *s, uint64_t *out);
bool take_le32(struct slice *s, uint32_t *out);
bool take_le64(struct slice *s, uint64_t *out);
bool take_varint(struct slice *s, uint64_t *out); /* only the shortest form, at most 10 bytes */
bool take_bytes(struct slice *s, struct slice *out);
bool take(struct slice *s, size_t len, struct slice *out);

void put_le32(uint8_t *p, uint32_t v);
void put_le64(uint8_t *p, uint64_t v);
void put_be64(uint8_t *p, uint64_t v);
uint32_t get_le32(const uint8_t *p);
uint64_t get_le64(const uint8_t *p);
uint64_t get_be64(const uint8_t *p);

#pragma GCC visibility pop

#endif
