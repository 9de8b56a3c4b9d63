#include "fs/json_bytes.h"

#include <errno.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>

#define DEPTH_MAX 8
#define KEY_MAX 64

/* RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
size_t utf8_char(struct slice s)
{
	uint8_t low = 0x80, high = 0xbf; /* bounds of the second byte */
	size_t len;
	uint8_t c;

	if (!s.len)
		return 0;
	c = s.data[0];
	if (c < 0x80)
		return 1;
	if (c >= 0xc2 && c <= 0xdf)
		len = 2;
	else if (c >= 0xe0 && c <= 0xef)
		len = 3;
	else if (c >= 0xf0 && c <= 0xf4)
		len = 4;
	else
		return 0;
	if (c == 0xe0)
		low = 0xa0;
	else if (c == 0xed)
		high = 0x9f;
	else if (c == 0xf0)
		low = 0x90;
	else if (c == 0xf4)
		high = 0x8f;
	if (s.len < len || s.data[1] < low || s.data[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((s.data[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

/* Appends `s` with U+FFFD for every byte that belongs to no character. 1 if there was one, 0, -ENOMEM. */
static int utf8_scrub(struct buf *out, struct slice s)
{
	int odd = 0, err;

	while (s.len) {
		size_t n = utf8_char(s);

		err = n ? buf_put(out, s.data, n) : buf_put(out, "\xef\xbf\xbd", 3);
		if (err)
			return err;
		odd |= !n;
		s = slice_of(s.data + (n ? n : 1), s.len - (n ? n : 1));
	}
	return odd;
}

static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int base64_encode(struct buf *out, struct slice s)
{
	for (size_t i = 0; i < s.len; i += 3) {
		size_t n = s.len - i < 3 ? s.len - i : 3;
		uint32_t v = (uint32_t)s.data[i] << 16;
		char quad[4];
		int err;

		if (n > 1)
			v |= (uint32_t)s.data[i + 1] << 8;
		if (n > 2)
			v |= s.data[i + 2];
		quad[0] = base64[v >> 18];
		quad[1] = base64[v >> 12 & 63];
		quad[2] = n > 1 ? base64[v >> 6 & 63] : '=';
		quad[3] = n > 2 ? base64[v & 63] : '=';
		err = buf_put(out, quad, sizeof(quad));
		if (err)
			return err;
	}
	return 0;
}

static int base64_decode(struct buf *out, struct slice s)
{
	if (s.len % 4)
		return -EINVAL;
	for (size_t i = 0; i < s.len; i += 4) {
		size_t n = 3;
		uint32_t v = 0;
		uint8_t raw[3];
		int err;

		if (i + 4 == s.len && s.data[i + 3] == '=')
			n = s.data[i + 2] == '=' ? 1 : 2;
		for (size_t j = 0; j < 4; j++) {
			const char *at = j <= n ? memchr(base64, s.data[i + j], sizeof(base64) - 1) : base64;

			if (!at)
				return -EINVAL;
			v = v << 6 | (uint32_t)(at - base64);
		}
		raw[0] = (uint8_t)(v >> 16);
		raw[1] = (uint8_t)(v >> 8);
		raw[2] = (uint8_t)v;
		err = buf_put(out, raw, n);
		if (err)
			return err;
	}
	return 0;
}

int json_add(struct json_object *o, const char *key, struct json_object *child)
{
	if (!child)
		return -ENOMEM;
	if (json_object_object_add(o, key, child) == 0)
		return 0;
	json_object_put(child);
	return -ENOMEM;
}

int json_add_u64(struct json_object *o, const char *key, uint64_t v)
{
	return json_add(o, key, json_object_new_uint64(v));
}

int json_add_i64(struct json_object *o, const char *key, int64_t v)
{
	return json_add(o, key, json_object_new_int64(v));
}

int json_add_bool(struct json_object *o, const char *key, bool v)
{
	return json_add(o, key, json_object_new_boolean(v));
}

static int add_text(struct json_object *o, const char *key, struct slice s)
{
	if (s.len > INT_MAX)
		return -ENOMEM;
	return json_add(o, key, json_object_new_string_len(s.len ? (const char *)s.data : "", (int)s.len));
}

int json_add_str(struct json_object *o, const char *key, const char *s)
{
	return json_add_bytes(o, key, slice_str(s));
}

int json_add_bytes(struct json_object *o, const char *key, struct slice bytes)
{
	struct buf text = { 0 };
	char key64[KEY_MAX];
	int err = utf8_scrub(&text, bytes);
	bool odd = err > 0;

	if (err >= 0)
		err = add_text(o, key, slice_buf(&text));
	if (!err && odd) {
		buf_clear(&text);
		snprintf(key64, sizeof(key64), "%s_b64", key);
		err = base64_encode(&text, bytes);
		if (!err)
			err = add_text(o, key64, slice_buf(&text));
	}
	buf_release(&text);
	return err;
}

static bool text_of(struct json_object *o, const char *key, struct slice *out)
{
	struct json_object *member;

	if (!json_object_object_get_ex(o, key, &member) || !json_object_is_type(member, json_type_string))
		return false;
	*out = slice_of(json_object_get_string(member), (size_t)json_object_get_string_len(member));
	return true;
}

int json_get_bytes(struct json_object *o, const char *key, struct buf *out)
{
	char key64[KEY_MAX];
	struct slice text;

	buf_clear(out);
	snprintf(key64, sizeof(key64), "%s_b64", key);
	if (text_of(o, key64, &text))
		return base64_decode(out, text);
	if (text_of(o, key, &text))
		return buf_put_slice(out, text);
	if (json_object_object_get_ex(o, key, NULL) || json_object_object_get_ex(o, key64, NULL))
		return -EINVAL;
	return -ENOENT;
}

int json_append(struct buf *out, struct json_object *o)
{
	size_t len;
	const char *text = json_object_to_json_string_length(
		o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);

	return text ? buf_put(out, text, len) : -ENOMEM;
}

int json_parse(struct slice text, struct json_object **out)
{
	struct json_tokener *tok;
	struct json_object *o;
	size_t end;
	int err = 0;

	if (text.len > INT_MAX)
		return -EINVAL;
	tok = json_tokener_new_ex(DEPTH_MAX);
	if (!tok)
		return -ENOMEM;
	o = json_tokener_parse_ex(tok, (const char *)text.data, (int)text.len);
	end = json_tokener_get_parse_end(tok);
	if (json_tokener_get_error(tok) != json_tokener_success || !json_object_is_type(o, json_type_object))
		err = -EINVAL;
	for (; !err && end < text.len; end++)
		if (!strchr(" \t\r\n", text.data[end]) || !text.data[end])
			err = -EINVAL;
	json_tokener_free(tok);
	if (err)
		json_object_put(o);
	else
		*out = o;
	return err;
}
