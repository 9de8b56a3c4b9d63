#include "mvcc/tail.h"

#include <assert.h>
#include <stdlib.h>

struct note *note_new(uint64_t seq, struct slice payload, const struct commit_head *head)
{
	bool in_log = head->run || payload.len > NOTE_BYTES_MAX;
	size_t len = in_log ? payload.len - head->ops.len : payload.len; /* they are the end of it */
	struct note *note = malloc(sizeof(*note) + len);
	int err;

	if (!note)
		return NULL;
	atomic_init(&note->refs, 1);
	note->seq = seq;
	note->in_log = in_log;
	note->len = len;
	memcpy(note->bytes, payload.data, len);
	err = commit_head_decode(slice_of(note->bytes, len), &note->head);
	assert(!err); /* it has decoded before */
	(void)err;
	return note;
}

struct note *note_ref(struct note *note)
{
	atomic_fetch_add(&note->refs, 1);
	return note;
}

void note_unref(struct note *note)
{
	if (note && atomic_fetch_sub(&note->refs, 1) == 1)
		free(note);
}

static struct note **place(struct tail *t, mvcc_rev_t rev)
{
	return &t->notes[rev % TAIL_NOTES_MAX];
}

static size_t note_bytes(const struct note *note)
{
	return sizeof(*note) + note->len;
}

static void drop_first(struct tail *t)
{
	struct note *note = *place(t, t->first);

	t->first++;
	t->before_seq = note->seq;
	t->bytes -= note_bytes(note);
	note_unref(note);
}

void tail_release(struct tail *t)
{
	while (t->first < t->end)
		drop_first(t);
}

void tail_restart(struct tail *t, mvcc_rev_t at, uint64_t before_seq)
{
	tail_release(t);
	t->first = t->end = at;
	t->before_seq = before_seq;
}

void tail_push(struct tail *t, struct note *note)
{
	assert(note->head.rev == t->end);
	while (t->first < t->end &&
	       (t->end - t->first == TAIL_NOTES_MAX || t->bytes + note_bytes(note) > TAIL_BYTES_MAX))
		drop_first(t);
	*place(t, t->end++) = note;
	t->bytes += note_bytes(note);
}

struct note *tail_at(const struct tail *t, mvcc_rev_t rev)
{
	assert(t->first <= rev && rev < t->end);
	return t->notes[rev % TAIL_NOTES_MAX];
}
