/*
 * Bytes in JSON, whose strings are text. A name or path is any bytes, so a member "path" that is not
 * valid UTF-8 shows U+FFFD for what is odd, and "path_b64" beside it has the very bytes in base64. Who
 * reads prefers the latter. Both sides of @ctl, the daemon and mvccctl, use these.
 */
#ifndef FS_JSON_BYTES_H
#define FS_JSON_BYTES_H

#include "mvcc/bytes.h"

struct json_object;

/* The length of the well-formed UTF-8 character that `s` begins with; 0 if it begins with none. */
size_t utf8_char(struct slice s);

/* Adds member `key`, and `key`_b64 when `bytes` are not UTF-8. 0 or -ENOMEM. */
int json_add_bytes(struct json_object *o, const char *key, struct slice bytes);

/* Reads what json_add_bytes() wrote; `out` is replaced. -ENOENT when absent, -EINVAL when no such thing. */
int json_get_bytes(struct json_object *o, const char *key, struct buf *out);

/* Adds member `key`. 0 or -ENOMEM. */
int json_add_u64(struct json_object *o, const char *key, uint64_t v);
int json_add_i64(struct json_object *o, const char *key, int64_t v);
int json_add_bool(struct json_object *o, const char *key, bool v);
int json_add_str(struct json_object *o, const char *key, const char *s);

/* Adds `child`, which is taken whatever is returned; NULL is -ENOMEM. */
int json_add(struct json_object *o, const char *key, struct json_object *child);

/* Appends the text of `o`, on one line without its end. 0 or -ENOMEM. */
int json_append(struct buf *out, struct json_object *o);

/* Parses one object, with nothing but white space after it. -EINVAL when it is none. */
int json_parse(struct slice text, struct json_object **out);

#endif
