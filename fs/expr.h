/*
 * Revision expressions: what a person may write where a revision is meant. The words are in
 * mvccfs(7); here is what they mean to a program.
 *
 *	41                        a revision by its number
 *	head  head~3              the newest, or so many before it (HEAD, too)
 *	2026-11-22                a day of the local time zone
 *	2026-11-22T23:30:05Z      RFC 3339; without an offset local, the seconds may be left out
 *	@1795393438  @1795393438.5       seconds since 1970 UTC
 *	@GMT-2026.11.22-23.30.05  as Samba writes it, UTC
 *	-30s -5m -2h -3d -1w      so long ago
 *	today  yesterday
 *	v1.0                      a tag: the name of a pin
 *
 * A time is as long as it is written: a day, a minute, a second, a fraction of one. It means the newest
 * readable revision that is not after it, so that a day means how it ended, and a second that a
 * listing shows means what was committed in it.
 *
 * A name that has another of these forms is never looked for among the tags.
 */
#ifndef FS_EXPR_H
#define FS_EXPR_H

#include "mvcc/mvcc.h"

/* For messages. */
#define EXPR_FORMS                                                                                         \
	"a number, head, head~3, a tag, or a time such as 2026-11-22, 2026-11-22T23:30:05Z, @1795393438, " \
	"-5m or yesterday"

/* From the first to the last nanosecond of it, since 1970 UTC; ends of what cannot be told so are cut. */
struct expr_time {
	int64_t from_ns, to_ns;
};

/* The time that `text` means when the clock says `now_ns`. 0, or -EINVAL when it is no time. */
int expr_time(struct slice text, int64_t now_ns, struct expr_time *out);

/*
 * The revision that `text` means when the clock says `now_ns`. `*moving` (may be NULL) says that the
 * same text may mean another one later: as all but numbers may, since tags are moved, and what a time
 * means also changes when the floor passes it.
 *
 * Reads the log for a time, and waits as mvcc_log_open() does. Returns 0, or
 *   -EINVAL          it is of none of these forms, and no tag
 *   -ENOENT          before the first revision
 *   MVCC_EFUTURE     a number that is not reached yet
 *   MVCC_ECOMPACTED  below the floor and not pinned
 *   or what reading says.
 */
int expr_rev(struct mvcc *db, struct slice text, int64_t now_ns, mvcc_rev_t *rev, bool *moving);

/*
 * May no tag have this name, since it is or may become another form, or could not be told from a range?
 * That is what the table above has, all digits, "@" and "-" at the front, "~" and ".." anywhere, and ".".
 */
bool expr_is_reserved_form(struct slice name);

#endif
