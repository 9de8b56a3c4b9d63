#include "mvcc/ring.h"

#include "mvcc/error.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define HEADER_BYTES ((size_t)4096)
#define RING_FORMAT 1
#define WIPE_BYTES ((size_t)256 << 10)
#define RECORD_HEAD 24 /* check 8, len 4, type 4, seq 8 */

static const uint8_t magic[8] = { 'm', 'v', 'c', 'c', 'r', 'i', 'n', 'g' };

/* ---- the file ----------------------------------------------------------------------------- */

static void header_encode(uint8_t *p, size_t size, uint64_t incarnation)
{
	memcpy(p, magic, sizeof(magic));
	put_le64(p + 8, RING_FORMAT);
	put_le64(p + 16, size);
	put_le64(p + 24, incarnation);
	put_le64(p + 32, XXH3_64bits_withSeed(p, 32, 0));
}

static int header_decode(const uint8_t *p, size_t file_len, uint64_t incarnation, size_t *size)
{
	uint64_t n = get_le64(p + 16);

	if (memcmp(p, magic, sizeof(magic)) != 0 || get_le64(p + 8) != RING_FORMAT ||
	    get_le64(p + 32) != XXH3_64bits_withSeed(p, 32, 0) || get_le64(p + 24) != incarnation ||
	    n < RING_BYTES_MIN || (n & (n - 1)) != 0 || file_len != HEADER_BYTES + n)
		return MVCC_ECORRUPT;
	*size = (size_t)n;
	return 0;
}

int ring_create(int dir_fd, const char *name, size_t size, uint64_t incarnation)
{
	uint8_t header[HEADER_BYTES] = { 0 };
	char tmp[64];
	int fd, err;

	if (snprintf(tmp, sizeof(tmp), "%s.new", name) >= (int)sizeof(tmp))
		return -ENAMETOOLONG;
	fd = openat(dir_fd, tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	header_encode(header, size, incarnation);
	err = -posix_fallocate(fd, 0, (off_t)(HEADER_BYTES + size));
	if (!err && pwrite(fd, header, sizeof(header), 0) != (ssize_t)sizeof(header))
		err = -EIO;
	if (!err && fsync(fd))
		err = -errno;
	if (!err && renameat(dir_fd, tmp, dir_fd, name))
		err = -errno;
	if (!err && fsync(dir_fd))
		err = -errno;
	close(fd);
	if (err)
		unlinkat(dir_fd, tmp, 0);
	return err;
}

/* Reserves the addresses first, then lays the file over them twice. */
static int map_twice(struct ring *r, int fd)
{
	size_t whole = HEADER_BYTES + r->size;
	uint8_t *base = mmap(NULL, whole + r->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (base == MAP_FAILED)
		return -errno;
	if (mmap(base, whole, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
	    mmap(base + whole, r->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
		 (off_t)HEADER_BYTES) == MAP_FAILED) {
		int err = -errno;

		munmap(base, whole + r->size);
		return err;
	}
	r->map = base;
	r->data = base + HEADER_BYTES;
	return 0;
}

int ring_map(struct ring *r, int dir_fd, const char *name, uint64_t incarnation)
{
	uint8_t header[64];
	struct stat st;
	int fd, err;

	*r = (struct ring){ 0 };
	fd = openat(dir_fd, name, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st))
		err = -errno;
	else if (pread(fd, header, sizeof(header), 0) != (ssize_t)sizeof(header))
		err = MVCC_ECORRUPT;
	else
		err = header_decode(header, (size_t)st.st_size, incarnation, &r->size);
	if (!err)
		err = -posix_fallocate(fd, 0, st.st_size); /* a copied file may have got holes */
	if (!err)
		err = map_twice(r, fd);
	close(fd);
	return err;
}

void ring_unmap(struct ring *r)
{
	if (r->map)
		munmap(r->map, HEADER_BYTES + 2 * r->size);
	*r = (struct ring){ 0 };
}

/* ---- records ------------------------------------------------------------------------------ */

void ring_start(struct ring *r, struct ring_at at)
{
	at.pos = (at.pos + 7) & ~(uint64_t)7;
	r->head = at;
	atomic_store(&r->tail, at.pos);
}

size_t ring_record_bytes(size_t payload_len)
{
	return (RECORD_HEAD + payload_len + 7) & ~(size_t)7;
}

size_t ring_used(const struct ring *r)
{
	return (size_t)(r->head.pos - atomic_load(&r->tail));
}

static uint8_t *place(const struct ring *r, uint64_t pos)
{
	return r->data + (pos & (r->size - 1));
}

void ring_append(struct ring *r, enum ring_type type, struct slice payload)
{
	uint8_t *p = place(r, r->head.pos);

	assert(payload.len <= UINT32_MAX && ring_used(r) + ring_record_bytes(payload.len) <= r->size);
	put_le32(p + 8, (uint32_t)payload.len);
	put_le32(p + 12, (uint32_t)type);
	put_le64(p + 16, r->head.seq + 1);
	if (payload.len)
		memcpy(p + RECORD_HEAD, payload.data, payload.len);
	r->head.check = XXH3_64bits_withSeed(p + 8, RECORD_HEAD - 8 + payload.len, r->head.check);
	put_le64(p, r->head.check);
	r->head.seq++;
	r->head.pos += ring_record_bytes(payload.len);
}

bool ring_next(const struct ring *r, struct ring_at *at, uint32_t *type, struct slice *payload)
{
	const uint8_t *p = place(r, at->pos);
	uint64_t left = atomic_load(&r->tail) + r->size - at->pos;
	size_t len;

	if (left < RECORD_HEAD)
		return false;
	len = get_le32(p + 8);
	if (ring_record_bytes(len) > left || get_le64(p + 16) != at->seq + 1 ||
	    get_le64(p) != XXH3_64bits_withSeed(p + 8, RECORD_HEAD - 8 + len, at->check))
		return false;
	*type = get_le32(p + 12);
	*payload = slice_of(p + RECORD_HEAD, len);
	at->check = get_le64(p);
	at->seq++;
	at->pos += ring_record_bytes(len);
	return true;
}

size_t ring_copy(const struct ring *r, uint64_t pos, size_t max, uint8_t *out)
{
	uint64_t left = r->head.pos - pos;
	size_t len = left < max ? (size_t)left : max;

	assert(pos >= atomic_load(&r->tail) && left <= r->size);
	memcpy(out, place(r, pos), len);
	return len;
}

bool ring_wipe(struct ring *r, uint64_t *pos, uint64_t *end)
{
	size_t len;

	if (*end == 0)
		*end = atomic_load(&r->tail) + r->size;
	if (*pos < r->head.pos)
		*pos = r->head.pos; /* written over, or first */
	if (*pos >= *end)
		return false;
	len = *end - *pos < WIPE_BYTES ? (size_t)(*end - *pos) : WIPE_BYTES;
	memset(place(r, *pos), 0, len);
	*pos += len;
	return *pos < *end;
}

int ring_sync(struct ring *r)
{
	return msync(r->map, HEADER_BYTES + r->size, MS_SYNC) ? -errno : 0;
}

bool ring_take(struct slice *bytes, uint64_t *seq, uint32_t *type, struct slice *payload)
{
	const uint8_t *p = bytes->data;
	size_t len;

	if (bytes->len < RECORD_HEAD)
		return false;
	len = get_le32(p + 8);
	if (bytes->len < ring_record_bytes(len))
		return false;
	*type = get_le32(p + 12);
	*seq = get_le64(p + 16);
	*payload = slice_of(p + RECORD_HEAD, len);
	return take(bytes, ring_record_bytes(len), &(struct slice){ 0 });
}

/* the head of a record must be readable at any position */
_Static_assert(RECORD_HEAD % 8 == 0, "records are aligned to 8 bytes");
