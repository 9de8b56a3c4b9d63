/*
 * The lines of @watch: one a change, fields apart by tabs.
 *
 *	revision  time  kind  path  uid  pid  comm  [path2]
 *
 * The time is RFC 3339, in UTC with nanoseconds; paths begin at the root of the mount, with '/'. Bytes that could be taken
 * for the end of a field or line, or are no text, are escaped as put_escaped() does. A comm that is not known
 * is "-", so that no field is empty: read(1) of a shell would pass over it.
 */
#ifndef FS_WATCH_LINE_H
#define FS_WATCH_LINE_H

#include "fs/ns_watch.h"

/* Appends the line, its end included. 0 or -ENOMEM, then with `out` as it was. */
int watch_line(struct buf *out, const struct ns_change *c);

#endif
