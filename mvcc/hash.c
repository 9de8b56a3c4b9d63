/*
 * The hash of a state: what a view sees, row by row in key order, each part behind its length, so that no two
 * states have the same bytes. Of a blob its contents count, not its id, which depends on what else was staged.
 */
#include "mvcc/check.h"

#include "mvcc/mvcc_int.h"

#include <errno.h>
#include <xxhash.h>

static void add_number(XXH3_state_t *state, uint64_t n)
{
	uint8_t raw[8];

	put_le64(raw, n);
	XXH3_128bits_update(state, raw, sizeof(raw));
}

static void add_bytes(XXH3_state_t *state, struct slice bytes)
{
	add_number(state, bytes.len);
	if (bytes.len)
		XXH3_128bits_update(state, bytes.data, bytes.len);
}

/* The engine lends a blob whole, which is cheaper than to read it again for every piece. */
static int add_blob(XXH3_state_t *state, struct mvcc *db, mvcc_blob_t blob)
{
	struct engine_pin pin = { 0 };
	uint8_t key[8];
	int err;

	put_be64(key, blob);
	gate_enter(&db->gate);
	err = engine_get(db->engine, FAM_BLOB, slice_of(key, sizeof(key)), &pin);
	if (!err)
		add_bytes(state, pin.value);
	engine_pin_release(db->engine, &pin);
	gate_leave(&db->gate);
	return err == -ENOENT ? MVCC_ECORRUPT : err;
}

static int add_row(XXH3_state_t *state, struct mvcc *db, struct slice key, const struct mvcc_item *item)
{
	int err = 0;

	add_bytes(state, key);
	add_number(state, item->create_rev);
	add_number(state, item->mod_rev);
	add_number(state, item->version);
	add_number(state, item->lease);
	add_bytes(state, item->value);
	add_number(state, item->nblobs);
	for (size_t i = 0; !err && i < item->nblobs; i++)
		err = add_blob(state, db, item->blobs[i]);
	return err;
}

int mvcc_hash(struct mvcc_view *view, struct mvcc_hash *out)
{
	XXH3_state_t *state = XXH3_createState();
	const struct mvcc_item *item;
	struct mvcc_cursor *c = NULL;
	struct mvcc_hash hash = { 0 };
	XXH128_hash_t digest;
	struct slice key;
	int err;

	if (!state)
		return -ENOMEM;
	XXH3_128bits_reset(state);
	err = mvcc_cursor_open(view, slice_of(NULL, 0), slice_of(NULL, 0), &c);
	while (!err && (err = mvcc_cursor_next(c, &key, &item)) == 1) {
		err = add_row(state, view->db, key, item);
		hash.keys++;
	}
	mvcc_cursor_close(c);
	digest = XXH3_128bits_digest(state);
	XXH3_freeState(state);
	if (err)
		return err;
	hash.hi = digest.high64;
	hash.lo = digest.low64;
	*out = hash;
	return 0;
}
