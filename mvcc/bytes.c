#include "mvcc/bytes.h"

#include <errno.h>
#include <stdlib.h>

int buf_reserve(struct buf *b, size_t more)
{
	size_t cap = b->cap ? b->cap : 64;
	uint8_t *data;

	if (more <= b->cap - b->len)
		return 0;
	if (more > SIZE_MAX / 4 - b->len)
		return -ENOMEM;
	while (cap < b->len + more)
		cap *= 2;
	data = realloc(b->data, cap);
	if (!data)
		return -ENOMEM;
	b->data = data;
	b->cap = cap;
	return 0;
}

int buf_put(struct buf *b, const void *data, size_t len)
{
	int err = buf_reserve(b, len);

	if (err)
		return err;
	if (len)
		memcpy(b->data + b->len, data, len);
	b->len += len;
	return 0;
}

int buf_put_slice(struct buf *b, struct slice s)
{
	return buf_put(b, s.data, s.len);
}

int buf_put_u8(struct buf *b, uint8_t v)
{
	return buf_put(b, &v, 1);
}

void put_le32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

void put_le64(uint8_t *p, uint64_t v)
{
	for (int i = 0; i < 8; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

void put_be64(uint8_t *p, uint64_t v)
{
	for (int i = 0; i < 8; i++)
		p[i] = (uint8_t)(v >> (56 - 8 * i));
}

uint32_t get_le32(const uint8_t *p)
{
	uint32_t v = 0;

	for (int i = 0; i < 4; i++)
		v |= (uint32_t)p[i] << (8 * i);
	return v;
}

uint64_t get_le64(const uint8_t *p)
{
	uint64_t v = 0;

	for (int i = 0; i < 8; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

uint64_t get_be64(const uint8_t *p)
{
	uint64_t v = 0;

	for (int i = 0; i < 8; i++)
		v = v << 8 | p[i];
	return v;
}

int buf_put_be64(struct buf *b, uint64_t v)
{
	uint8_t raw[8];

	put_be64(raw, v);
	return buf_put(b, raw, sizeof(raw));
}

int buf_put_le32(struct buf *b, uint32_t v)
{
	uint8_t raw[4];

	put_le32(raw, v);
	return buf_put(b, raw, sizeof(raw));
}

int buf_put_le64(struct buf *b, uint64_t v)
{
	uint8_t raw[8];

	put_le64(raw, v);
	return buf_put(b, raw, sizeof(raw));
}

int buf_put_varint(struct buf *b, uint64_t v)
{
	uint8_t raw[10];
	size_t n = 0;

	while (v >= 0x80) {
		raw[n++] = (uint8_t)(v | 0x80);
		v >>= 7;
	}
	raw[n++] = (uint8_t)v;
	return buf_put(b, raw, n);
}

int buf_put_bytes(struct buf *b, struct slice s)
{
	int err = buf_reserve(b, s.len + 10);

	if (!err)
		err = buf_put_varint(b, s.len);
	if (!err)
		err = buf_put_slice(b, s);
	return err;
}

int buf_copy(struct buf *b, struct slice s)
{
	buf_clear(b);
	return buf_put_slice(b, s);
}

void buf_clear(struct buf *b)
{
	b->len = 0;
}

void buf_release(struct buf *b)
{
	free(b->data);
	*b = (struct buf){ 0 };
}

int buf_prefix_end(struct buf *b, struct slice prefix)
{
	int err = buf_copy(b, prefix);

	if (err)
		return err;
	while (b->len && b->data[b->len - 1] == 0xff)
		b->len--;
	if (b->len)
		b->data[b->len - 1]++;
	return 0;
}

bool take(struct slice *s, size_t len, struct slice *out)
{
	if (s->len < len)
		return false;
	*out = slice_of(s->data, len);
	s->data += len;
	s->len -= len;
	return true;
}

bool take_u8(struct slice *s, uint8_t *out)
{
	struct slice raw;

	if (!take(s, 1, &raw))
		return false;
	*out = raw.data[0];
	return true;
}

bool take_be64(struct slice *s, uint64_t *out)
{
	struct slice raw;

	if (!take(s, 8, &raw))
		return false;
	*out = get_be64(raw.data);
	return true;
}

bool take_le32(struct slice *s, uint32_t *out)
{
	struct slice raw;

	if (!take(s, 4, &raw))
		return false;
	*out = get_le32(raw.data);
	return true;
}

bool take_le64(struct slice *s, uint64_t *out)
{
	struct slice raw;

	if (!take(s, 8, &raw))
		return false;
	*out = get_le64(raw.data);
	return true;
}

bool take_varint(struct slice *s, uint64_t *out)
{
	uint64_t v = 0;

	for (size_t i = 0; i < 10 && i < s->len; i++) {
		uint8_t byte = s->data[i];

		if (i == 9 && byte > 1)
			return false;
		v |= (uint64_t)(byte & 0x7f) << (7 * i);
		if (byte & 0x80)
			continue;
		if (byte == 0 && i > 0)
			return false;
		s->data += i + 1;
		s->len -= i + 1;
		*out = v;
		return true;
	}
	return false;
}

bool take_bytes(struct slice *s, struct slice *out)
{
	struct slice rest = *s;
	uint64_t len;

	if (!take_varint(&rest, &len) || len > rest.len || !take(&rest, (size_t)len, out))
		return false;
	*s = rest;
	return true;
}
