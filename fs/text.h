/*
 * Bytes and times as text, for terminals and for programs that read lines.
 */
#ifndef FS_TEXT_H
#define FS_TEXT_H

#include "mvcc/bytes.h"

/* Appends `s`: control characters, '\' and bytes that are no UTF-8 as \n, \t, \\ or \ooo. 0 or -ENOMEM. */
int put_escaped(struct buf *out, struct slice s);

/* "2026-11-22T22:30:05.123456789Z" */
void format_time(int64_t ns, char out[64]);

#endif
