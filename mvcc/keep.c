/*
 * What is kept: the floor, the pins, and the horizon that follows from both and from open views.
 *
 * A record that was current for [mod, end) is garbage once end is at or below the *horizon* and no *kept*
 * revision lies in [mod, end). The horizon is the floor, or the oldest open view if that is older and not
 * kept by itself. Kept are the pinned revisions, and for as long as a view is open there those that were
 * pinned (zombies). What has once been garbage stays it: the horizon only rises, as a view is opened at or
 * above the floor or where a pin is, and a revision below the floor is pinned only if it is pinned already.
 * So the engine may drop such rows whenever it meets them (the predicates here), and the keeper (gc.c) can
 * take its time.
 *
 * A change of floor or pins is on disk before it counts. When that fails nobody knows what is on disk, and
 * nothing moves until the engine works again and has told (keep_load()).
 */
#include "mvcc/keep_int.h"

#include <errno.h>
#include <stdlib.h>

#define BYTES_PER_S_DEFAULT ((uint64_t)64 << 20)

/* ---- sorted revisions --------------------------------------------------------------------- */

int revs_reserve(struct revs *revs, size_t n)
{
	size_t cap = revs->cap ? revs->cap : 8;
	mvcc_rev_t *grown;

	if (n <= revs->cap)
		return 0;
	while (cap < n)
		cap *= 2;
	grown = realloc(revs->v, cap * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	revs->v = grown;
	revs->cap = cap;
	return 0;
}

/* Index of the first one at or above `rev`. */
static size_t revs_from(const struct revs *revs, mvcc_rev_t rev)
{
	size_t lo = 0, hi = revs->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (revs->v[mid] < rev)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

bool revs_has(const struct revs *revs, mvcc_rev_t rev)
{
	size_t i = revs_from(revs, rev);

	return i < revs->n && revs->v[i] == rev;
}

void revs_add(struct revs *revs, mvcc_rev_t rev)
{
	size_t i = revs_from(revs, rev);

	if (i < revs->n && revs->v[i] == rev)
		return;
	memmove(revs->v + i + 1, revs->v + i, (revs->n - i) * sizeof(*revs->v));
	revs->v[i] = rev;
	revs->n++;
}

void revs_remove(struct revs *revs, mvcc_rev_t rev)
{
	size_t i = revs_from(revs, rev);

	if (i == revs->n || revs->v[i] != rev)
		return;
	revs->n--;
	memmove(revs->v + i, revs->v + i + 1, (revs->n - i) * sizeof(*revs->v));
}

void revs_subtract(struct revs *revs, const struct revs *gone)
{
	size_t left = 0;

	for (size_t i = 0, j = 0; i < revs->n; i++) {
		while (j < gone->n && gone->v[j] < revs->v[i])
			j++;
		if (j == gone->n || gone->v[j] != revs->v[i])
			revs->v[left++] = revs->v[i];
	}
	revs->n = left;
}

static int by_rev(const void *a, const void *b)
{
	const mvcc_rev_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Makes rising order, each once, of revisions in any. */
static void revs_sort(struct revs *revs)
{
	size_t n = 0;

	if (revs->n)
		qsort(revs->v, revs->n, sizeof(*revs->v), by_rev);
	for (size_t i = 0; i < revs->n; i++)
		if (n == 0 || revs->v[n - 1] != revs->v[i])
			revs->v[n++] = revs->v[i];
	revs->n = n;
}

mvcc_rev_t revs_next(const struct revs *revs, mvcc_rev_t rev)
{
	size_t i = revs_from(revs, rev);

	return i < revs->n ? revs->v[i] : 0;
}

mvcc_rev_t revs_newest_in(const struct revs *revs, mvcc_rev_t mod, mvcc_rev_t end)
{
	size_t i = revs_from(revs, end);

	return i > 0 && revs->v[i - 1] >= mod ? revs->v[i - 1] : 0;
}

/* ---- what the engine's predicates judge by ------------------------------------------------ */

mvcc_rev_t keep_holds(struct keep *k, mvcc_rev_t mod, mvcc_rev_t end)
{
	mvcc_rev_t rev;

	pthread_rwlock_rdlock(&k->kept_lock);
	rev = revs_newest_in(&k->kept, mod, end);
	pthread_rwlock_unlock(&k->kept_lock);
	return rev;
}

mvcc_rev_t keep_log_horizon(struct keep *k)
{
	mvcc_rev_t rev;

	pthread_rwlock_rdlock(&k->kept_lock);
	rev = k->log_horizon;
	pthread_rwlock_unlock(&k->kept_lock);
	return rev;
}

/* The revision of a record, which is all that is asked for; false if it does not decode. */
static bool mod_of(struct slice record, mvcc_rev_t *out)
{
	uint8_t flags;

	return take_u8(&record, &flags) && take_varint(&record, out) && *out > 0;
}

static bool hist_drop(void *arg, struct slice key, struct slice value)
{
	struct keep *k = arg;
	mvcc_rev_t end, mod;
	bool drop;

	if (key.len < 8)
		return false;
	end = get_be64(key.data + key.len - 8);
	pthread_rwlock_rdlock(&k->kept_lock);
	drop = end <= k->horizon && mod_of(value, &mod) && !revs_newest_in(&k->kept, mod, end);
	pthread_rwlock_unlock(&k->kept_lock);
	return drop;
}

static bool log_drop(void *arg, struct slice key, struct slice value)
{
	struct keep *k = arg;

	(void)value;
	return key.len >= 8 && get_be64(key.data) < keep_log_horizon(k);
}

void keep_families(struct mvcc *db)
{
	db->families[FAM_HIST].drop = hist_drop;
	db->families[FAM_HIST].drop_arg = db->keep;
	db->families[FAM_LOG].drop = log_drop;
	db->families[FAM_LOG].drop_arg = db->keep;
}

/* Shows the predicates who is kept; the room for it was reserved. Caller holds views_lock. */
static void show_kept_locked(struct keep *k)
{
	pthread_rwlock_wrlock(&k->kept_lock);
	k->kept.n = 0;
	for (size_t i = 0; i < k->pins.pinned.n; i++)
		k->kept.v[k->kept.n++] = k->pins.pinned.v[i];
	for (size_t i = 0; i < k->pins.zombies.n; i++)
		revs_add(&k->kept, k->pins.zombies.v[i]);
	pthread_rwlock_unlock(&k->kept_lock);
}

/* Room in `set` for one more pinned revision, and for all of it among the kept. Caller holds views_lock. */
static int reserve_locked(struct keep *k, struct pin_set *set)
{
	size_t n = set->pinned.n + set->zombies.n + 1;
	int err = revs_reserve(&set->pinned, n);

	if (!err)
		err = revs_reserve(&set->zombies, n);
	if (!err)
		err = revs_reserve(&set->unpinned, set->unpinned.n + n);
	pthread_rwlock_wrlock(&k->kept_lock);
	if (!err)
		err = revs_reserve(&k->kept, n);
	pthread_rwlock_unlock(&k->kept_lock);
	return err;
}

/* ---- the horizon -------------------------------------------------------------------------- */

static bool view_is_at_locked(struct mvcc *db, mvcc_rev_t rev)
{
	const struct mvcc_view *view;

	LIST_FOREACH(view, &db->views, link)
		if (view->rev == rev)
			return true;
	return false;
}

static void bury_zombies_locked(struct mvcc *db)
{
	struct keep *k = db->keep;

	for (size_t i = k->pins.zombies.n; i-- > 0;)
		if (!view_is_at_locked(db, k->pins.zombies.v[i]))
			revs_remove(&k->pins.zombies, k->pins.zombies.v[i]);
}

static mvcc_rev_t horizon_locked(struct mvcc *db)
{
	struct keep *k = db->keep;
	mvcc_rev_t horizon = atomic_load(&db->floor);
	const struct mvcc_view *view;

	LIST_FOREACH(view, &db->views, link)
		if (view->rev < horizon && (view->holds || !(revs_has(&k->pins.pinned, view->rev) ||
							     revs_has(&k->pins.zombies, view->rev))))
			horizon = view->rev;
	return horizon;
}

int keep_look(struct mvcc *db, struct pass *p)
{
	struct keep *k = db->keep;
	int err;

	pthread_mutex_lock(&db->views_lock);
	bury_zombies_locked(db);
	show_kept_locked(k);
	p->horizon = horizon_locked(db);
	p->held = p->horizon < atomic_load(&db->floor) || k->pins.zombies.n;
	pthread_rwlock_wrlock(&k->kept_lock);
	k->horizon = p->horizon;
	k->log_horizon = p->horizon < k->log_since + 1 ? p->horizon : k->log_since + 1;
	pthread_rwlock_unlock(&k->kept_lock);
	p->todo.n = 0;
	err = revs_reserve(&p->todo, k->pins.unpinned.n);
	for (size_t i = 0; !err && i < k->pins.unpinned.n; i++)
		if (!revs_has(&k->pins.zombies, k->pins.unpinned.v[i]))
			p->todo.v[p->todo.n++] = k->pins.unpinned.v[i];
	pthread_mutex_unlock(&db->views_lock);
	return err;
}

/* ---- the floor ---------------------------------------------------------------------------- */

/*
 * Puts on disk what `batch` has, and with it what an unclean open will go by, as that is now; tells which
 * revision that is. Callers are inside the gate.
 */
static int write_with_low(struct mvcc *db, struct engine_batch *batch, mvcc_rev_t *since)
{
	int err;

	pthread_mutex_lock(&db->refs_lock);
	err = blob_low_put(db, batch, atomic_load(&db->applied), since);
	if (!err)
		err = db_write(db, batch, ENGINE_NOSYNC);
	pthread_mutex_unlock(&db->refs_lock);
	if (err)
		return err;
	err = engine_sync(db->engine); /* not under the lock, for which the committer may wait */
	return err ? db_fail(db, err) : 0;
}

/* Raises the floor, unless `floor` is 0, and tells since when the log is needed. */
static int write_floor(struct mvcc *db, mvcc_rev_t floor, mvcc_rev_t *since)
{
	struct engine_batch *batch;
	int err = -ENOMEM;

	gate_enter(&db->gate);
	batch = engine_batch_new(db->engine);
	if (batch)
		err = floor ? meta_put_u64(batch, META_FLOOR, floor) : 0;
	if (!err)
		err = write_with_low(db, batch, since);
	engine_batch_free(batch);
	gate_leave(&db->gate);
	return err;
}

static void note_since_locked(struct keep *k, mvcc_rev_t since)
{
	if (since > k->log_since)
		k->log_since = since;
}

int keep_log_since(struct mvcc *db)
{
	mvcc_rev_t since;
	int err = write_floor(db, 0, &since);

	if (err)
		return err;
	pthread_mutex_lock(&db->views_lock);
	note_since_locked(db->keep, since);
	pthread_mutex_unlock(&db->views_lock);
	return 0;
}

static int raise_floor(struct mvcc *db, mvcc_rev_t rev)
{
	mvcc_rev_t since;
	int err = write_floor(db, rev, &since);

	if (err)
		return err;
	pthread_mutex_lock(&db->views_lock);
	atomic_store(&db->floor, rev);
	note_since_locked(db->keep, since);
	pthread_mutex_unlock(&db->views_lock);
	atomic_fetch_add_explicit(&db->keep->n_compactions, 1, memory_order_relaxed);
	return 0;
}

int keep_compact(struct mvcc *db, mvcc_rev_t rev, bool thorough)
{
	mvcc_rev_t current = atomic_load(&db->current);
	int err;

	if (rev == MVCC_REV_LATEST)
		rev = current;
	if (rev > current)
		return MVCC_EFUTURE;
	if (rev <= atomic_load(&db->floor))
		return MVCC_ECOMPACTED;
	err = drain_to_rev(db, rev);
	pthread_mutex_lock(&db->keep->keep_lock);
	if (!err)
		err = atomic_load(&db->failed);
	if (!err && rev <= atomic_load(&db->floor))
		err = MVCC_ECOMPACTED;
	if (!err)
		err = raise_floor(db, rev);
	pthread_mutex_unlock(&db->keep->keep_lock);
	if (!err)
		keep_wake(db, thorough);
	return err;
}

int mvcc_compact(struct mvcc *db, mvcc_rev_t rev)
{
	return keep_compact(db, rev, true);
}

/* ---- pins in memory ----------------------------------------------------------------------- */

static bool name_is_legal(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && len <= MVCC_PIN_NAME_MAX && !strchr(name, '/');
}

/* Index of the first pin whose name is not below `name`. */
static size_t pins_from(const struct pin_set *pins, const char *name)
{
	size_t lo = 0, hi = pins->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (strcmp(pins->v[mid].name, name) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* NULL if there is none of that name. */
static struct mvcc_pin *pin_find(const struct pin_set *pins, const char *name)
{
	size_t i = pins_from(pins, name);

	return i < pins->n && strcmp(pins->v[i].name, name) == 0 ? &pins->v[i] : NULL;
}

static const struct mvcc_pin *pin_of_rev(const struct pin_set *pins, mvcc_rev_t rev)
{
	for (size_t i = 0; i < pins->n; i++)
		if (pins->v[i].rev == rev)
			return &pins->v[i];
	return NULL;
}

/* Room for one more. Caller holds views_lock. */
static int pins_reserve_locked(struct pin_set *pins)
{
	size_t cap = pins->cap ? 2 * pins->cap : 8;
	struct mvcc_pin *grown;

	if (pins->n < pins->cap)
		return 0;
	grown = realloc(pins->v, cap * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	pins->v = grown;
	pins->cap = cap;
	return 0;
}

static void pin_add_locked(struct pin_set *pins, const struct mvcc_pin *pin)
{
	size_t i = pins_from(pins, pin->name);

	memmove(pins->v + i + 1, pins->v + i, (pins->n - i) * sizeof(*pins->v));
	pins->v[i] = *pin;
	pins->n++;
}

static void pin_remove_locked(struct pin_set *pins, struct mvcc_pin *pin)
{
	size_t i = (size_t)(pin - pins->v);

	pins->n--;
	memmove(pins->v + i, pins->v + i + 1, (pins->n - i) * sizeof(*pins->v));
}

bool keep_is_pinned_locked(struct mvcc *db, mvcc_rev_t rev)
{
	return revs_has(&db->keep->pins.pinned, rev);
}

int keep_pinned_copy(struct mvcc *db, struct revs *out)
{
	struct revs copy = { 0 };
	int err;

	pthread_mutex_lock(&db->views_lock);
	err = revs_reserve(&copy, db->keep->pins.pinned.n);
	for (size_t i = 0; !err && i < db->keep->pins.pinned.n; i++)
		copy.v[copy.n++] = db->keep->pins.pinned.v[i];
	pthread_mutex_unlock(&db->views_lock);
	if (!err)
		*out = copy;
	return err;
}

mvcc_rev_t keep_pinned_before(struct mvcc *db, int64_t time_ns, mvcc_rev_t floor)
{
	mvcc_rev_t newest = 0;

	pthread_mutex_lock(&db->views_lock);
	for (size_t i = 0; i < db->keep->pins.n; i++) {
		const struct mvcc_pin *pin = &db->keep->pins.v[i];

		if (pin->rev < floor && pin->rev > newest && pin->time_ns <= time_ns)
			newest = pin->rev;
	}
	pthread_mutex_unlock(&db->views_lock);
	return newest;
}

void keep_stats_locked(struct mvcc *db, struct mvcc_stats *s)
{
	s->pins = db->keep->pins.n;
	s->compacted = atomic_load(&db->keep->compacted);
	s->compactions = atomic_load(&db->keep->n_compactions);
	s->blobs_freed = atomic_load(&db->keep->n_blobs_freed);
}

/* ---- pins on disk ------------------------------------------------------------------------- */

/* A change of pins: up to two names, and a revision that lost its last one. */
struct pin_change {
	const struct mvcc_pin *put; /* NULL: none */
	const char *del;
	mvcc_rev_t unpinned; /* 0: none */
};

static int pin_row_del(struct engine_batch *batch, struct buf *key, const char *name)
{
	int err = meta_key_name(key, META_PIN, slice_str(name));

	return err ? err : engine_batch_del(batch, FAM_META, slice_buf(key));
}

static int pin_row_put(struct engine_batch *batch, struct buf *key, const struct mvcc_pin *pin)
{
	struct buf row = { 0 };
	int err = meta_key_name(key, META_PIN, slice_str(pin->name));

	if (!err)
		err = pin_encode(&row, pin);
	if (!err)
		err = engine_batch_put(batch, FAM_META, slice_buf(key), slice_buf(&row));
	buf_release(&row);
	return err;
}

/* On disk when it returns. Caller holds keep_lock, so nothing else of floor and pins moves. */
static int pins_write_locked(struct mvcc *db, const struct pin_change *change)
{
	struct engine_batch *batch = NULL;
	struct buf key = { 0 };
	int err;

	gate_enter(&db->gate);
	err = atomic_load(&db->failed);
	if (!err && !(batch = engine_batch_new(db->engine)))
		err = -ENOMEM;
	if (!err && change->del)
		err = pin_row_del(batch, &key, change->del);
	if (!err && change->put)
		err = pin_row_put(batch, &key, change->put);
	if (!err && change->unpinned)
		err = meta_key_id(&key, META_UNPINNED, change->unpinned);
	if (!err && change->unpinned)
		err = engine_batch_put(batch, FAM_META, slice_buf(&key), slice_of(NULL, 0));
	if (!err)
		err = db_write(db, batch, ENGINE_SYNC);
	engine_batch_free(batch);
	gate_leave(&db->gate);
	buf_release(&key);
	return err;
}

/* When a revision was committed. Below the floor its log row may be gone, but a pin knows. */
static int pin_time_locked(struct mvcc *db, mvcc_rev_t rev, int64_t *out)
{
	if (revs_has(&db->keep->pins.pinned, rev)) {
		*out = pin_of_rev(&db->keep->pins, rev)->time_ns;
		return 0;
	}
	return rev < atomic_load(&db->floor) ? MVCC_ECOMPACTED : log_time_of(db, rev, out);
}

static int pin_locked(struct mvcc *db, struct mvcc_pin *pin)
{
	struct keep *k = db->keep;
	int err;

	if (pin_find(&k->pins, pin->name))
		return -EEXIST;
	err = pin_time_locked(db, pin->rev, &pin->time_ns);
	if (err)
		return err;
	pthread_mutex_lock(&db->views_lock);
	err = pins_reserve_locked(&k->pins);
	if (!err)
		err = reserve_locked(k, &k->pins);
	pthread_mutex_unlock(&db->views_lock);
	if (!err)
		err = pins_write_locked(db, &(struct pin_change){ .put = pin });
	if (err)
		return err;
	pthread_mutex_lock(&db->views_lock);
	pin_add_locked(&k->pins, pin);
	revs_add(&k->pins.pinned, pin->rev);
	show_kept_locked(k);
	pthread_mutex_unlock(&db->views_lock);
	return 0;
}

int keep_pin(struct mvcc *db, const char *name, enum mvcc_pin_kind kind, mvcc_rev_t rev)
{
	mvcc_rev_t current = atomic_load(&db->current);
	struct mvcc_pin pin = { .kind = kind, .rev = rev == MVCC_REV_LATEST ? current : rev };
	int err;

	if (!name_is_legal(name))
		return -EINVAL;
	if (pin.rev > current)
		return MVCC_EFUTURE;
	strcpy(pin.name, name);
	pin.made_ns = wall_ns(db);
	err = mvcc_sync(db, pin.rev);
	if (err)
		return err;
	pthread_mutex_lock(&db->keep->keep_lock);
	err = pin_locked(db, &pin);
	pthread_mutex_unlock(&db->keep->keep_lock);
	return err;
}

int mvcc_pin(struct mvcc *db, const char *name, mvcc_rev_t rev)
{
	return keep_pin(db, name, MVCC_PIN_USER, rev);
}

/* How many names a revision has. */
static size_t names_of(const struct pin_set *pins, mvcc_rev_t rev)
{
	size_t n = 0;

	for (size_t i = 0; i < pins->n; i++)
		n += pins->v[i].rev == rev;
	return n;
}

/*
 * With its last name a revision below the floor loses what kept it; a view that is open there goes on
 * seeing it. One from the floor up loses nothing, as nothing was kept for it.
 */
static int unpin_locked(struct mvcc *db, const char *name)
{
	struct keep *k = db->keep;
	struct mvcc_pin *pin = pin_find(&k->pins, name);
	struct pin_change change = { .del = name };
	bool last;
	int err;

	if (!pin)
		return -ENOENT;
	last = names_of(&k->pins, pin->rev) == 1;
	if (last && pin->rev < atomic_load(&db->floor))
		change.unpinned = pin->rev;
	err = pins_write_locked(db, &change);
	if (err)
		return err;
	pthread_mutex_lock(&db->views_lock);
	if (last)
		revs_remove(&k->pins.pinned, pin->rev);
	if (change.unpinned) {
		revs_add(&k->pins.unpinned, pin->rev);
		if (view_is_at_locked(db, pin->rev))
			revs_add(&k->pins.zombies, pin->rev);
	}
	pin_remove_locked(&k->pins, pin);
	show_kept_locked(k);
	pthread_mutex_unlock(&db->views_lock);
	return 0;
}

int keep_unpin(struct mvcc *db, const char *name, bool thorough)
{
	int err;

	pthread_mutex_lock(&db->keep->keep_lock);
	err = unpin_locked(db, name);
	pthread_mutex_unlock(&db->keep->keep_lock);
	if (!err)
		keep_wake(db, thorough);
	return err;
}

int mvcc_unpin(struct mvcc *db, const char *name)
{
	return keep_unpin(db, name, true);
}

static int rename_locked(struct mvcc *db, const char *name, const char *new_name)
{
	struct keep *k = db->keep;
	struct mvcc_pin *pin = pin_find(&k->pins, name), renamed;
	int err;

	if (!pin)
		return -ENOENT;
	if (pin_find(&k->pins, new_name))
		return -EEXIST;
	renamed = *pin;
	memset(renamed.name, 0, sizeof(renamed.name));
	strcpy(renamed.name, new_name);
	renamed.kind = MVCC_PIN_USER;
	err = pins_write_locked(db, &(struct pin_change){ .put = &renamed, .del = name });
	if (err)
		return err;
	pthread_mutex_lock(&db->views_lock);
	pin_remove_locked(&k->pins, pin);
	pin_add_locked(&k->pins, &renamed);
	pthread_mutex_unlock(&db->views_lock);
	return 0;
}

int mvcc_pin_rename(struct mvcc *db, const char *name, const char *new_name)
{
	int err;

	if (!name_is_legal(new_name))
		return -EINVAL;
	pthread_mutex_lock(&db->keep->keep_lock);
	err = rename_locked(db, name, new_name);
	pthread_mutex_unlock(&db->keep->keep_lock);
	return err;
}

int mvcc_pin_get(struct mvcc *db, const char *name, struct mvcc_pin *out)
{
	const struct mvcc_pin *pin;

	pthread_mutex_lock(&db->views_lock);
	pin = pin_find(&db->keep->pins, name);
	if (pin)
		*out = *pin;
	pthread_mutex_unlock(&db->views_lock);
	return pin ? 0 : -ENOENT;
}

int mvcc_pins(struct mvcc *db, int (*fn)(void *arg, const struct mvcc_pin *pin), void *arg)
{
	struct mvcc_pin *copy;
	size_t n;
	int err = 0;

	pthread_mutex_lock(&db->views_lock);
	n = db->keep->pins.n;
	copy = malloc((n + 1) * sizeof(*copy));
	if (copy && n)
		memcpy(copy, db->keep->pins.v, n * sizeof(*copy));
	pthread_mutex_unlock(&db->views_lock);
	if (!copy)
		return -ENOMEM;
	for (size_t i = 0; !err && i < n; i++)
		err = fn(arg, &copy[i]);
	free(copy);
	return err;
}

/* ---- loading ------------------------------------------------------------------------------ */

/* What the rows say. */
struct loaded {
	struct pin_set pins;
	mvcc_rev_t floor, compacted;
};

static void pin_set_release(struct pin_set *set)
{
	free(set->v);
	free(set->pinned.v);
	free(set->zombies.v);
	free(set->unpinned.v);
}

static int load_pin(struct mvcc *db, struct loaded *l, struct slice name, struct slice value)
{
	struct mvcc_pin pin;
	int err = pin_decode(name, value, &pin);

	if (!err && pin.rev > atomic_load(&db->current)) /* it was synced before the pin */
		err = MVCC_ECORRUPT;
	if (!err)
		err = pins_reserve_locked(&l->pins);
	if (!err)
		err = revs_reserve(&l->pins.pinned, l->pins.pinned.n + 1);
	if (err)
		return err;
	pin_add_locked(&l->pins, &pin);
	l->pins.pinned.v[l->pins.pinned.n++] = pin.rev; /* sorted when all are there */
	return 0;
}

static int load_unpinned(struct mvcc *db, struct loaded *l, struct slice id, struct slice value)
{
	int err;

	(void)db;
	if (id.len != 8 || value.len != 0)
		return MVCC_ECORRUPT;
	err = revs_reserve(&l->pins.unpinned, l->pins.unpinned.n + 1);
	if (!err)
		revs_add(&l->pins.unpinned, get_be64(id.data));
	return err;
}

/* Hands every row that begins with `prefix`, without that, to `take_row`. */
static int load_rows_of(struct mvcc *db, struct loaded *l, const char *prefix,
			int (*take_row)(struct mvcc *db, struct loaded *l, struct slice rest,
					struct slice value))
{
	struct slice start = slice_str(prefix);
	struct engine_iter *it = NULL;
	struct buf end = { 0 };
	int err = buf_prefix_end(&end, start);

	if (!err)
		err = engine_iter_new(db->engine, FAM_META, start, slice_buf(&end), &it);
	if (!err) {
		bool on_row = engine_iter_seek(it, start);

		for (; !err && on_row; on_row = engine_iter_next(it))
			err = take_row(db, l, slice_of(it->key.data + start.len, it->key.len - start.len),
				       it->value);
		if (!err)
			err = engine_iter_error(it);
	}
	engine_iter_free(it);
	buf_release(&end);
	return err;
}

static int load_all(struct mvcc *db, struct loaded *l)
{
	int err = meta_get_u64(db, META_FLOOR, &l->floor);

	if (atomic_load(&db->current) == 0)
		l->floor = 0; /* revision 1 is in the making */
	else if (err == -ENOENT || (!err && (l->floor == 0 || l->floor > atomic_load(&db->current))))
		err = MVCC_ECORRUPT; /* its revision was on disk before the floor was */
	l->compacted = MVCC_REV_FIRST;
	if (!err)
		err = meta_get_u64(db, META_COMPACTED, &l->compacted);
	if (err == -ENOENT)
		err = 0;
	if (!err)
		err = load_rows_of(db, l, META_PIN, load_pin);
	revs_sort(&l->pins.pinned);
	if (!err)
		err = load_rows_of(db, l, META_UNPINNED, load_unpinned);
	return err;
}

/*
 * Takes over what was loaded. A pin that a failed write did take away may have views: where it was they are
 * zombies now. But not from the floor up: nothing would be waiting for the end of those.
 */
static int install_locked(struct mvcc *db, struct loaded *l)
{
	struct keep *k = db->keep;
	struct pin_set was = k->pins;
	int err = revs_reserve(&l->pins.zombies, was.pinned.n + was.zombies.n);

	for (size_t i = 0; !err && i < was.zombies.n; i++)
		revs_add(&l->pins.zombies, was.zombies.v[i]);
	for (size_t i = 0; !err && i < was.pinned.n; i++)
		if (revs_has(&l->pins.unpinned, was.pinned.v[i]) && view_is_at_locked(db, was.pinned.v[i]))
			revs_add(&l->pins.zombies, was.pinned.v[i]);
	if (!err)
		err = reserve_locked(k, &l->pins);
	if (err)
		return err;
	k->pins = l->pins;
	l->pins = was;
	show_kept_locked(k);
	if (l->floor > atomic_load(&db->floor))
		atomic_store(&db->floor, l->floor);
	atomic_store(&k->compacted, l->compacted);
	return 0;
}

int keep_load(struct mvcc *db)
{
	struct loaded l = { .floor = 0 };
	int err;

	pthread_mutex_lock(&db->keep->keep_lock);
	gate_enter(&db->gate);
	err = load_all(db, &l);
	gate_leave(&db->gate);
	pthread_mutex_lock(&db->views_lock);
	if (!err)
		err = install_locked(db, &l);
	pthread_mutex_unlock(&db->views_lock);
	pthread_mutex_unlock(&db->keep->keep_lock);
	pin_set_release(&l.pins);
	return err;
}

/* ---- the struct --------------------------------------------------------------------------- */

struct keep *keep_new(const struct mvcc_options *opt)
{
	struct keep *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	k->bytes_per_s = opt->compact_bytes_per_s ? opt->compact_bytes_per_s : BYTES_PER_S_DEFAULT;
	atomic_store(&k->compacted, MVCC_REV_FIRST);
	pthread_mutex_init(&k->keep_lock, NULL);
	pthread_mutex_init(&k->pass_lock, NULL);
	pthread_mutex_init(&k->purge_lock, NULL);
	TAILQ_INIT(&k->purges);
	pthread_mutex_init(&k->keeper_lock, NULL);
	rwlock_init_fair(&k->kept_lock); /* the engine's threads ask without end while they rewrite */
	cond_init(&k->asked_cv);
	cond_init(&k->done_cv);
	if (reserve_locked(k, &k->pins)) {
		keep_free(k);
		return NULL;
	}
	return k;
}

void keep_free(struct keep *k)
{
	if (!k)
		return;
	pthread_rwlock_wrlock(&k->kept_lock); /* nobody asks any more: the engine is closed */
	pthread_rwlock_unlock(&k->kept_lock);
	pin_set_release(&k->pins);
	purges_free(k);
	free(k->kept.v);
	pthread_cond_destroy(&k->done_cv);
	pthread_cond_destroy(&k->asked_cv);
	pthread_rwlock_destroy(&k->kept_lock);
	pthread_mutex_destroy(&k->keeper_lock);
	pthread_mutex_destroy(&k->purge_lock);
	pthread_mutex_destroy(&k->pass_lock);
	pthread_mutex_destroy(&k->keep_lock);
	free(k);
}
