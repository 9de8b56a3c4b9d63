#include "fs/watch_line.h"

#include <inttypes.h>
#include <stdio.h>

#include "fs/text.h"

static int put_line(struct buf *out, const struct ns_change *c)
{
	const struct mvcc_story *story = c->story;
	char time[64], text[128];
	int err;

	format_time(c->time_ns, time);
	err = buf_put(out, text,
		      (size_t)snprintf(text, sizeof(text), "%" PRIu64 "\t%s\t%.20s\t", c->rev, time,
				       c->kind));
	if (!err)
		err = put_escaped(out, c->path);
	if (!err)
		err = buf_put(out, text,
			      (size_t)snprintf(text, sizeof(text), "\t%" PRIu32 "\t%" PRIu32 "\t", story->uid,
					       story->pid));
	if (!err)
		err = put_escaped(out, slice_str(story->comm[0] ? story->comm : "-"));
	if (!err && c->path2.len)
		err = buf_put_u8(out, '\t');
	if (!err && c->path2.len)
		err = put_escaped(out, c->path2);
	return err ? err : buf_put_u8(out, '\n');
}

int watch_line(struct buf *out, const struct ns_change *c)
{
	size_t mark = out->len;
	int err = put_line(out, c);

	if (err)
		out->len = mark;
	return err;
}
