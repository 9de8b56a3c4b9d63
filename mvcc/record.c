#include "mvcc/record.h"

#include <errno.h>

/* ---- records ------------------------------------------------------------------------------ */

enum { REC_LEASE = 1 };

int record_encode(struct buf *out, const struct record *rec)
{
	size_t was = out->len;
	int err = buf_reserve(out, 1 + 5 * 10 + rec->blobs.len + rec->value.len);

	if (err)
		return err;
	err = buf_put_u8(out, rec->lease ? REC_LEASE : 0);
	if (!err)
		err = buf_put_varint(out, rec->mod);
	if (!err)
		err = buf_put_varint(out, rec->create);
	if (!err)
		err = buf_put_varint(out, rec->version);
	if (!err && rec->lease)
		err = buf_put_varint(out, rec->lease);
	if (!err)
		err = buf_put_varint(out, rec->nblobs);
	if (!err)
		err = buf_put_slice(out, rec->blobs);
	if (!err)
		err = buf_put_slice(out, rec->value);
	if (err)
		out->len = was;
	return err;
}

/* The front of `in` that holds `n` varints, taken off it. */
static bool take_varints(struct slice *in, uint64_t n, struct slice *out)
{
	struct slice rest = *in;
	uint64_t ignored;

	if (n > in->len) /* a varint has a byte at least */
		return false;
	for (uint64_t i = 0; i < n; i++)
		if (!take_varint(&rest, &ignored))
			return false;
	return take(in, in->len - rest.len, out);
}

int record_decode(struct slice in, struct record *out)
{
	struct record rec = { 0 };
	uint8_t flags;

	if (!take_u8(&in, &flags) || (flags & ~REC_LEASE) || !take_varint(&in, &rec.mod) ||
	    !take_varint(&in, &rec.create) || !take_varint(&in, &rec.version) ||
	    ((flags & REC_LEASE) && (!take_varint(&in, &rec.lease) || rec.lease == 0)) ||
	    !take_varint(&in, &rec.nblobs) || !take_varints(&in, rec.nblobs, &rec.blobs))
		return MVCC_ECORRUPT;
	if (rec.mod >= REV_LIMIT || rec.create >= REV_LIMIT || rec.version == 0)
		return MVCC_ECORRUPT;
	if (rec.mod != 0 && (rec.create == 0 || rec.create > rec.mod))
		return MVCC_ECORRUPT;
	rec.value = in;
	*out = rec;
	return 0;
}

void record_resolve(struct record *rec, mvcc_rev_t rev)
{
	if (rec->mod == 0)
		rec->mod = rev;
	if (rec->create == 0)
		rec->create = rev;
}

int record_blob_put(struct buf *out, mvcc_blob_t blob, bool own)
{
	return buf_put_varint(out, blob << 1 | (own ? 1 : 0));
}

bool record_blob_take(struct slice *blobs, mvcc_blob_t *blob, bool *own)
{
	uint64_t v;

	if (!take_varint(blobs, &v))
		return false;
	*blob = v >> 1;
	*own = v & 1;
	return true;
}

/* ---- operations and commits --------------------------------------------------------------- */

static int op_body_encode(struct buf *out, const struct op *op)
{
	int err = buf_put_u8(out, op->flags);

	if (!err)
		err = buf_put_varint(out, op->prev);
	if (!err && !(op->flags & OP_DEL))
		err = buf_put_bytes(out, op->record);
	return err;
}

static bool op_body_take(struct slice *in, struct op *out)
{
	if (!take_u8(in, &out->flags) || (out->flags & ~(OP_DEL | OP_REBORN)) || !take_varint(in, &out->prev))
		return false;
	out->record = slice_of(NULL, 0);
	return (out->flags & OP_DEL) || take_bytes(in, &out->record);
}

int op_encode(struct buf *out, const struct op *op)
{
	int err = buf_put_bytes(out, op->key);

	return err ? err : op_body_encode(out, op);
}

bool op_take(struct slice *in, struct op *out)
{
	return take_bytes(in, &out->key) && op_body_take(in, out);
}

int staged_encode(struct buf *out, const struct op *op)
{
	return op_body_encode(out, op);
}

int staged_decode(struct slice in, struct op *out)
{
	return op_body_take(&in, out) && in.len == 0 ? 0 : MVCC_ECORRUPT;
}

int shared_put(struct buf *out, mvcc_blob_t blob, uint64_t count)
{
	int err = buf_put_varint(out, blob);

	return err ? err : buf_put_varint(out, count);
}

bool shared_take(struct slice *in, mvcc_blob_t *blob, uint64_t *count)
{
	return take_varint(in, blob) && take_varint(in, count);
}

static struct slice or_empty(const char *s)
{
	return s ? slice_str(s) : slice_of(NULL, 0);
}

int story_encode(struct buf *out, const struct mvcc_story *story)
{
	static const struct mvcc_story none;
	int err;

	if (!story)
		story = &none;
	err = buf_put_varint(out, story->uid);
	if (!err)
		err = buf_put_varint(out, story->gid);
	if (!err)
		err = buf_put_varint(out, story->pid);
	if (!err)
		err = buf_put_bytes(out, or_empty(story->comm));
	if (!err)
		err = buf_put_bytes(out, or_empty(story->op));
	if (!err)
		err = buf_put_bytes(out, story->path);
	if (!err)
		err = buf_put_bytes(out, story->path2);
	if (!err)
		err = buf_put_bytes(out, or_empty(story->session));
	if (!err)
		err = buf_put_bytes(out, or_empty(story->message));
	return err;
}

static bool take_u32(struct slice *in, uint32_t *out)
{
	uint64_t v;

	if (!take_varint(in, &v) || v > UINT32_MAX)
		return false;
	*out = (uint32_t)v;
	return true;
}

bool story_take(struct slice *in, struct story_raw *out)
{
	return take_u32(in, &out->uid) && take_u32(in, &out->gid) && take_u32(in, &out->pid) &&
	       take_bytes(in, &out->comm) && take_bytes(in, &out->op) && take_bytes(in, &out->path) &&
	       take_bytes(in, &out->path2) && take_bytes(in, &out->session) && take_bytes(in, &out->message);
}

/* The front of `in` that is one story, taken off it. */
static bool take_story(struct slice *in, struct slice *out)
{
	struct slice rest = *in;
	struct story_raw raw;

	return story_take(&rest, &raw) && take(in, in->len - rest.len, out);
}

int commit_head_encode(struct buf *out, const struct commit_head *head)
{
	int err = buf_put_varint(out, head->rev);

	if (!err)
		err = buf_put_varint(out, (uint64_t)head->time_ns);
	if (!err)
		err = buf_put_slice(out, head->story);
	if (!err)
		err = buf_put_varint(out, head->run);
	if (!err)
		err = buf_put_varint(out, head->nsettled);
	if (!err)
		err = buf_put_slice(out, head->settled);
	return err;
}

int commit_head_decode(struct slice in, struct commit_head *out)
{
	struct commit_head head;
	uint64_t time_ns;

	if (!take_varint(&in, &head.rev) || head.rev == 0 || head.rev >= REV_LIMIT ||
	    !take_varint(&in, &time_ns) || !take_story(&in, &head.story) || !take_varint(&in, &head.run) ||
	    !take_varint(&in, &head.nsettled) || !take_varints(&in, head.nsettled, &head.settled))
		return MVCC_ECORRUPT;
	head.time_ns = (int64_t)time_ns;
	head.ops = in;
	*out = head;
	return 0;
}

/* ---- keys --------------------------------------------------------------------------------- */

static int put_escaped(struct buf *out, struct slice key)
{
	int err = buf_reserve(out, 2 * key.len + 16);

	if (err)
		return err;
	for (size_t i = 0; i < key.len; i++) {
		out->data[out->len++] = key.data[i];
		if (key.data[i] == 0)
			out->data[out->len++] = 0xff;
	}
	return 0;
}

int hist_key_start(struct buf *out, struct slice key)
{
	int err;

	buf_clear(out);
	err = put_escaped(out, key);
	return err ? err : buf_put_u8(out, 0);
}

int hist_key(struct buf *out, struct slice key, mvcc_rev_t end_rev)
{
	int err = hist_key_start(out, key);

	return err ? err : buf_put_be64(out, end_rev);
}

int hist_key_after(struct buf *out, struct slice key)
{
	int err = hist_key_start(out, key);

	return err ? err :
		     buf_put_u8(out, 1); /* end_rev < 2^56: its rows go on with 00; a longer key's with ff */
}

size_t hist_prefix_len(struct slice in)
{
	for (size_t i = 0; i < in.len; i++) {
		if (in.data[i] != 0)
			continue;
		if (i + 1 == in.len || in.data[i + 1] != 0xff)
			return i + 1;
		i++;
	}
	return in.len;
}

int hist_key_decode(struct slice in, struct buf *key, mvcc_rev_t *end_rev)
{
	size_t prefix = hist_prefix_len(in);
	int err;

	if (prefix < 2 || in.len != prefix + 8 || in.data[prefix - 1] != 0)
		return MVCC_ECORRUPT;
	buf_clear(key);
	err = buf_reserve(key, prefix);
	if (err)
		return err;
	for (size_t i = 0; i < prefix - 1; i++) {
		key->data[key->len++] = in.data[i];
		if (in.data[i] == 0)
			i++;
	}
	*end_rev = get_be64(in.data + prefix);
	return *end_rev < REV_LIMIT ? 0 : MVCC_ECORRUPT;
}

int log_key(struct buf *out, mvcc_rev_t rev, uint32_t part)
{
	uint8_t raw[12];

	put_be64(raw, rev);
	for (int i = 0; i < 4; i++)
		raw[8 + i] = (uint8_t)(part >> (24 - 8 * i));
	buf_clear(out);
	return buf_put(out, raw, sizeof(raw));
}

int log_key_decode(struct slice in, mvcc_rev_t *rev, uint32_t *part)
{
	if (in.len != 12)
		return MVCC_ECORRUPT;
	*rev = get_be64(in.data);
	*part = (uint32_t)in.data[8] << 24 | (uint32_t)in.data[9] << 16 | (uint32_t)in.data[10] << 8 |
		in.data[11];
	return 0;
}

int id_key(struct buf *out, uint64_t id)
{
	buf_clear(out);
	return buf_put_be64(out, id);
}

int stage_key(struct buf *out, uint64_t run, struct slice key)
{
	int err = id_key(out, run);

	return err ? err : buf_put_slice(out, key);
}

enum { LEASE_ROW = 0, LEASE_ATTACHED = 1 }; /* the first byte of a key of FAM_LEASE */

static int lease_prefix(struct buf *out, uint8_t kind, mvcc_lease_t id)
{
	int err;

	buf_clear(out);
	err = buf_put_u8(out, kind);
	return err ? err : buf_put_be64(out, id);
}

int lease_key(struct buf *out, mvcc_lease_t id)
{
	return lease_prefix(out, LEASE_ROW, id);
}

int lease_keys_end(struct buf *out)
{
	buf_clear(out);
	return buf_put_u8(out, LEASE_ROW + 1);
}

int attached_key(struct buf *out, mvcc_lease_t id, struct slice key)
{
	int err = lease_prefix(out, LEASE_ATTACHED, id);

	return err ? err : buf_put_slice(out, key);
}

int attached_key_decode(struct slice in, mvcc_lease_t *id, struct slice *key)
{
	uint8_t kind;

	if (!take_u8(&in, &kind) || kind != LEASE_ATTACHED || !take_be64(&in, id) || in.len == 0)
		return MVCC_ECORRUPT;
	*key = in;
	return 0;
}

void lease_encode(uint8_t out[LEASE_BYTES], const struct lease_row *row)
{
	put_le64(out, row->id);
	put_le64(out + 8, row->ttl_ms);
	put_le64(out + 16, (uint64_t)row->deadline_ms);
}

static int lease_value_decode(struct slice in, mvcc_lease_t id, struct lease_row *out)
{
	struct lease_row row = { .id = id };
	uint64_t deadline_ms;

	if (!take_le64(&in, &row.ttl_ms) || !take_le64(&in, &deadline_ms) || in.len)
		return MVCC_ECORRUPT;
	if (id == 0 || id > INT64_MAX || row.ttl_ms == 0 || row.ttl_ms > LEASE_TTL_MS_MAX)
		return MVCC_ECORRUPT;
	row.deadline_ms = (int64_t)deadline_ms;
	*out = row;
	return 0;
}

int lease_decode(struct slice in, struct lease_row *out)
{
	mvcc_lease_t id;

	return take_le64(&in, &id) ? lease_value_decode(in, id, out) : MVCC_ECORRUPT;
}

int lease_row_decode(struct slice key, struct slice value, struct lease_row *out)
{
	mvcc_lease_t id;
	uint8_t kind;

	if (!take_u8(&key, &kind) || kind != LEASE_ROW || !take_be64(&key, &id) || key.len)
		return MVCC_ECORRUPT;
	return lease_value_decode(value, id, out);
}

int meta_key_id(struct buf *out, const char *prefix, uint64_t id)
{
	int err = buf_copy(out, slice_str(prefix));

	return err ? err : buf_put_be64(out, id);
}

int meta_key_name(struct buf *out, const char *prefix, struct slice name)
{
	int err = buf_copy(out, slice_str(prefix));

	return err ? err : buf_put_slice(out, name);
}

int purge_encode(struct buf *out, const struct purge_row *row)
{
	int err;

	buf_clear(out);
	err = buf_put_varint(out, row->rev);
	if (!err)
		err = buf_put_u8(out, row->done);
	if (!err)
		err = buf_put_bytes(out, row->story);
	return err ? err : buf_put_slice(out, row->ranges);
}

bool purge_range_take(struct slice *ranges, struct slice *start, struct slice *end)
{
	return ranges->len && take_bytes(ranges, start) && take_bytes(ranges, end);
}

int purge_decode(struct slice in, struct purge_row *out)
{
	struct purge_row row;
	struct story_raw story;
	struct slice text, rest, start, end;
	uint8_t done;

	if (!take_varint(&in, &row.rev) || row.rev >= REV_LIMIT || !take_u8(&in, &done) ||
	    done > (row.rev > 0) || !take_bytes(&in, &row.story) || in.len == 0)
		return MVCC_ECORRUPT;
	text = row.story;
	if (!story_take(&text, &story) || text.len)
		return MVCC_ECORRUPT;
	row.done = done;
	row.ranges = rest = in;
	while (rest.len)
		if (!purge_range_take(&rest, &start, &end) || !start.len ||
		    (end.len && slice_cmp(start, end) >= 0))
			return MVCC_ECORRUPT;
	*out = row;
	return 0;
}

int policy_encode(struct buf *out, const struct mvcc_policy *policy)
{
	const uint64_t fields[] = {
		policy->keep_all_s, policy->keep_revs, policy->hourly, policy->daily,
		policy->weekly,     policy->monthly,   policy->yearly, policy->free_bytes
	};
	int err = 0;

	buf_clear(out);
	for (unsigned i = 0; !err && i < sizeof(fields) / sizeof(fields[0]); i++)
		err = buf_put_varint(out, fields[i]);
	return err;
}

int policy_decode(struct slice in, struct mvcc_policy *out)
{
	struct mvcc_policy p = { 0 };

	if (!take_varint(&in, &p.keep_all_s) || !take_varint(&in, &p.keep_revs) ||
	    !take_u32(&in, &p.hourly) || !take_u32(&in, &p.daily) || !take_u32(&in, &p.weekly) ||
	    !take_u32(&in, &p.monthly) || !take_u32(&in, &p.yearly) || !take_varint(&in, &p.free_bytes) ||
	    in.len != 0)
		return MVCC_ECORRUPT;
	*out = p;
	return 0;
}

#define APPLIED_BYTES ((size_t)5 * 8)

int applied_encode(struct buf *out, const struct applied *a)
{
	int err;

	buf_clear(out);
	err = buf_put_le64(out, a->seq);
	if (!err)
		err = buf_put_le64(out, a->pos);
	if (!err)
		err = buf_put_le64(out, a->check);
	if (!err)
		err = buf_put_le64(out, a->rev);
	if (!err)
		err = buf_put_le64(out, (uint64_t)a->time_ns);
	return err;
}

int applied_decode(struct slice in, struct applied *out)
{
	uint64_t time_ns;

	if (!take_le64(&in, &out->seq) || !take_le64(&in, &out->pos) || !take_le64(&in, &out->check) ||
	    !take_le64(&in, &out->rev) || !take_le64(&in, &time_ns) || in.len != 0 || out->rev >= REV_LIMIT)
		return MVCC_ECORRUPT;
	out->time_ns = (int64_t)time_ns;
	return 0;
}

int moving_encode(struct buf *out, const struct applied *after, struct slice payload)
{
	int err = applied_encode(out, after);

	return err ? err : buf_put_slice(out, payload);
}

int moving_decode(struct slice in, struct applied *after, struct slice *payload)
{
	struct slice head;

	if (!take(&in, APPLIED_BYTES, &head))
		return MVCC_ECORRUPT;
	*payload = in;
	return applied_decode(head, after);
}

enum { ENDED_PURGED = 2 }; /* the first byte of a row's key; 0: of the floor, 1: of a pin */

int ended_key_start(struct buf *out, mvcc_rev_t at, mvcc_rev_t end_rev)
{
	int err;

	buf_clear(out);
	err = buf_put_u8(out, at == ENDED_NEW ? 0 : 1);
	if (!err && at != ENDED_NEW)
		err = buf_put_be64(out, at);
	return err ? err : buf_put_be64(out, end_rev);
}

int ended_key(struct buf *out, mvcc_rev_t at, mvcc_rev_t end_rev, struct slice key)
{
	int err = ended_key_start(out, at, end_rev);

	return err ? err : buf_put_slice(out, key);
}

int ended_key_purged(struct buf *out, mvcc_rev_t rev, mvcc_rev_t end_rev, struct slice key)
{
	int err;

	buf_clear(out);
	err = buf_put_u8(out, ENDED_PURGED);
	if (!err)
		err = buf_put_be64(out, rev);
	if (!err)
		err = buf_put_be64(out, end_rev);
	return err ? err : buf_put_slice(out, key);
}

bool ended_is_purged(struct slice in)
{
	return in.len && in.data[0] == ENDED_PURGED;
}

int ended_key_decode(struct slice in, mvcc_rev_t *end_rev, struct slice *key)
{
	mvcc_rev_t at = ENDED_NEW;
	uint8_t kind;

	if (!take_u8(&in, &kind) || kind > ENDED_PURGED ||
	    (kind != 0 && (!take_be64(&in, &at) || at == ENDED_NEW || at >= REV_LIMIT)) ||
	    !take_be64(&in, end_rev) || *end_rev >= REV_LIMIT || in.len == 0)
		return MVCC_ECORRUPT;
	*key = in;
	return 0;
}

int ended_encode(struct buf *out, mvcc_rev_t mod, struct slice blobs)
{
	int err;

	buf_clear(out);
	err = buf_put_varint(out, mod);
	return err ? err : buf_put_slice(out, blobs);
}

int ended_decode(struct slice in, mvcc_rev_t *mod, struct slice *blobs)
{
	struct slice rest;
	mvcc_blob_t blob;
	bool own;

	if (!take_varint(&in, mod) || *mod == 0 || *mod >= REV_LIMIT || in.len == 0)
		return MVCC_ECORRUPT;
	for (rest = in; rest.len;)
		if (!record_blob_take(&rest, &blob, &own))
			return MVCC_ECORRUPT;
	*blobs = in;
	return 0;
}

int pin_encode(struct buf *out, const struct mvcc_pin *pin)
{
	int err;

	buf_clear(out);
	err = buf_put_le64(out, pin->rev);
	if (!err)
		err = buf_put_u8(out, (uint8_t)pin->kind);
	if (!err)
		err = buf_put_le64(out, (uint64_t)pin->time_ns);
	return err ? err : buf_put_le64(out, (uint64_t)pin->made_ns);
}

int pin_decode(struct slice name, struct slice in, struct mvcc_pin *out)
{
	struct mvcc_pin pin = { .kind = MVCC_PIN_USER };
	uint64_t time_ns, made_ns;
	uint8_t kind;

	if (name.len == 0 || name.len > MVCC_PIN_NAME_MAX || memchr(name.data, 0, name.len) ||
	    memchr(name.data, '/', name.len) || !take_le64(&in, &pin.rev) || pin.rev == 0 ||
	    pin.rev >= REV_LIMIT || !take_u8(&in, &kind) || kind > MVCC_PIN_AUTO ||
	    !take_le64(&in, &time_ns) || !take_le64(&in, &made_ns) || in.len != 0)
		return MVCC_ECORRUPT;
	memcpy(pin.name, name.data, name.len);
	pin.kind = kind;
	pin.time_ns = (int64_t)time_ns;
	pin.made_ns = (int64_t)made_ns;
	*out = pin;
	return 0;
}

/* ---- rows of the log ---------------------------------------------------------------------- */

int log_part_encode(struct buf *out, uint32_t part, const struct log_part *p)
{
	int err = 0;

	buf_clear(out);
	if (part == 0)
		err = buf_put_varint(out, (uint64_t)p->time_ns);
	if (!err && part == 0)
		err = buf_put_slice(out, p->story);
	if (!err)
		err = buf_put_varint(out, p->nranges);
	if (!err)
		err = buf_put_slice(out, p->ranges);
	if (!err)
		err = buf_put_slice(out, p->changes);
	return err;
}

int log_part_decode(struct slice in, uint32_t part, struct log_part *out)
{
	struct log_part p = { 0 };
	uint64_t time_ns = 0;

	if (part == 0 && (!take_varint(&in, &time_ns) || !take_story(&in, &p.story)))
		return MVCC_ECORRUPT;
	if (!take_varint(&in, &p.nranges) || p.nranges > in.len ||
	    !take_varints(&in, 2 * p.nranges, &p.ranges))
		return MVCC_ECORRUPT;
	p.time_ns = (int64_t)time_ns;
	p.changes = in;
	*out = p;
	return 0;
}

int log_range_put(struct buf *out, mvcc_blob_t first, uint64_t count)
{
	int err = buf_put_varint(out, first);

	return err ? err : buf_put_varint(out, count);
}

bool log_range_take(struct slice *ranges, mvcc_blob_t *first, uint64_t *count)
{
	return take_varint(ranges, first) && take_varint(ranges, count);
}

int log_change_put(struct buf *out, const struct mvcc_change *change)
{
	int err = buf_put_u8(out, change->deleted ? OP_DEL : 0);

	if (!err)
		err = buf_put_bytes(out, change->key);
	if (!err)
		err = buf_put_varint(out, change->prev_rev);
	return err;
}

bool log_change_take(struct slice *changes, struct mvcc_change *out)
{
	uint8_t flags;

	if (!take_u8(changes, &flags) || (flags & ~OP_DEL) || !take_bytes(changes, &out->key) ||
	    !take_varint(changes, &out->prev_rev))
		return false;
	out->deleted = flags & OP_DEL;
	return true;
}
