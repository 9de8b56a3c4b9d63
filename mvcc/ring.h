/*
 * The ring: a file of fixed size, mapped, into which every commit is encoded before it is
 * acknowledged. The kernel keeps the pages when the process dies, so a kill loses nothing; open
 * replays what the engine had not got yet.
 *
 * A record's checksum is seeded with that of the record before it, the first one's with a random
 * number (the epoch) that the engine knew before the ring was written. So a record is taken for
 * valid only right behind the very record it was written after: what a power cut left half written,
 * or left over from an earlier round or epoch, ends the chain.
 *
 * The data area is mapped twice, back to back, so that a record that runs over the end is one
 * stretch of memory. Positions count bytes since ever; the place in the file is the position modulo
 * the size. The file is allocated in full when made: a hole would end the process by SIGBUS on a
 * full disk.
 */
#ifndef MVCC_RING_H
#define MVCC_RING_H

#include "mvcc/bytes.h"

#include <stdatomic.h>

#define RING_BYTES_MIN ((size_t)256 << 10)

enum ring_type {
	RING_COMMIT = 1,
	RING_INTENT = 2,
	RING_INTENT_DROP = 3,
	RING_LEASE = 4, /* granted or renewed */
	RING_LEASE_DROP = 5,
};

/* A place between two records. */
struct ring_at {
	uint64_t pos;   /* where the next record begins */
	uint64_t seq;   /* number of the record before */
	uint64_t check; /* its checksum */
};

struct ring {
	uint8_t *map; /* header page, data, data again */
	uint8_t *data;
	size_t size;           /* of the data area: a power of two */
	struct ring_at head;   /* where the next record will be written; its writer's lock guards it */
	_Atomic uint64_t tail; /* everything before this position is applied */
};

/*
 * Makes the file anew in directory `dir_fd`, all zero, and puts it on disk under its name in one
 * step: a crash leaves the old file or the new one. `size` is a power of two, RING_BYTES_MIN or more.
 * `incarnation` tells the store it belongs to. 0 or a negative errno.
 */
int ring_create(int dir_fd, const char *name, size_t size, uint64_t incarnation);

/* Maps the file. -ENOENT; MVCC_ECORRUPT when it is no ring of this store. */
int ring_map(struct ring *r, int dir_fd, const char *name, uint64_t incarnation);
void ring_unmap(struct ring *r); /* accepts a zeroed ring */

/* The ring is empty and goes on at `at`. */
void ring_start(struct ring *r, struct ring_at at);

size_t ring_record_bytes(size_t payload_len); /* what a record takes */
size_t ring_used(const struct ring *r);       /* callers hold the writer's lock */

/* Writes a record behind the head. The caller has seen that it fits. */
void ring_append(struct ring *r, enum ring_type type, struct slice payload);

/*
 * Reads the record behind `*at`, which lies in the ring at or after the tail, and steps over it. The
 * payload is lent until the tail passes it. False where the chain ends.
 */
bool ring_next(const struct ring *r, struct ring_at *at, uint32_t *type, struct slice *payload);

/*
 * Copies up to `max` of the bytes written from `pos` on, which lies between tail and head, wherever records
 * begin and end. Gives how many. Callers hold the writer's lock.
 */
size_t ring_copy(const struct ring *r, uint64_t pos, size_t max, uint8_t *out);

/*
 * Zeros some of what neither belongs to a record behind the tail nor is part of one to come: all that was there when
 * it was first called, with both numbers 0, is gone once it says false. Callers hold the writer's lock each time.
 */
bool ring_wipe(struct ring *r, uint64_t *pos, uint64_t *end);
int ring_sync(struct ring *r); /* the file is on disk; 0 or a negative errno */

/*
 * Takes a record off the front of bytes so copied, from memory that was never written to disk and back:
 * its checksum is not looked at. False when it is not whole yet.
 */
bool ring_take(struct slice *bytes, uint64_t *seq, uint32_t *type, struct slice *payload);

#endif
