/*
 * The tail: the newest commits, as notes that all watches of a store share. It has a bounded number of
 * them and of bytes; a note that has fallen off lives on until whoever looks at it is done. The owner's
 * lock guards the tail; a note itself does not change.
 */
#ifndef MVCC_TAIL_H
#define MVCC_TAIL_H

#include "mvcc/record.h"

#include <stdatomic.h>

#define TAIL_NOTES_MAX ((size_t)4096)
#define TAIL_BYTES_MAX ((size_t)4 << 20)
#define NOTE_BYTES_MAX ((size_t)1 << 20) /* the changes of a larger commit are left to the log */

struct note {
	_Atomic unsigned refs;
	uint64_t seq; /* of its record in the ring */
	bool in_log;  /* its changes are not here: the log has them, once `seq` is drained */
	size_t len;
	struct commit_head head; /* lent from `bytes` */
	uint8_t bytes[];
};

/* A note of a commit's payload, which decodes. Holds one reference; NULL when out of memory. */
struct note *note_new(uint64_t seq, struct slice payload, const struct commit_head *head);
struct note *note_ref(struct note *note);
void note_unref(struct note *note); /* accepts NULL */

/* The revisions first <= rev < end. All zero is an empty one of revision 0; tail_release() frees it. */
struct tail {
	struct note *notes[TAIL_NOTES_MAX]; /* that of a revision is at its number modulo the size */
	mvcc_rev_t first, end;
	uint64_t before_seq; /* once this record is drained, the log has all before `first` */
	size_t bytes;
};

/* Forgets all and goes on at revision `at`; the log has all before once `before_seq` is drained. */
void tail_restart(struct tail *t, mvcc_rev_t at, uint64_t before_seq);
void tail_release(struct tail *t);

/* Takes the note of revision `end`. */
void tail_push(struct tail *t, struct note *note);

/* The note of a revision within; lent by the tail. */
struct note *tail_at(const struct tail *t, mvcc_rev_t rev);

#endif
