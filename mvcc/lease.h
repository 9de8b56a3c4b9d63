/*
 * Leases: a time to live, shared by keys.
 *
 * A lease is granted for a time and kept alive by renewing it. Keys are attached by putting them with it
 * (struct mvcc_put); a key has the lease of its newest put, or none. When the lease ends, by expiry or by being
 * revoked, all its keys are deleted in one revision, and it is gone. Semantics are etcd's, but for one: the
 * time a lease has left goes by the clock on the wall and is kept with the store, so neither a restart nor a
 * crash prolongs it, and one that ran out while the store was closed ends when it is opened.
 */
#ifndef MVCC_LEASE_H
#define MVCC_LEASE_H

#include "mvcc/mvcc.h"

#define MVCC_LEASE_TTL_MAX ((uint64_t)9000000000) /* seconds, as etcd's */

struct mvcc_lease {
	mvcc_lease_t id;
	uint64_t ttl_ms;  /* as granted */
	uint64_t left_ms; /* until it expires, 0 when it is due */
};

/*
 * Grants a lease of `ttl_ms`. `id` 0 chooses one: none that is in use, and never the same twice. As safe as a commit when it returns.
 * Returns 0, or
 *   -EEXIST  the id is in use
 *   -EINVAL  a time of 0, or above MVCC_LEASE_TTL_MAX seconds; an id of 2^63 or more
 *   or what stopped the store.
 */
MVCC_API int mvcc_lease_grant(struct mvcc *db, mvcc_lease_t id, uint64_t ttl_ms, mvcc_lease_t *out);

/*
 * Keep-alive: from now on it has its full time again. As safe as a commit. `*ttl_ms` may be NULL.
 * MVCC_ENOLEASE if there is none, or if it has expired and is only waiting to be removed.
 */
MVCC_API int mvcc_lease_renew(struct mvcc *db, mvcc_lease_t id, uint64_t *ttl_ms);

/*
 * Ends a lease now: deletes its keys in one revision, with this story, and the lease. `*out_rev` (may be
 * NULL) is the revision, or the current one if it had no keys. From the call on no put can attach to it.
 * Returns 0, MVCC_ENOLEASE, or what a commit says; after an error the lease is still there, but to be expired.
 */
MVCC_API int mvcc_lease_revoke(struct mvcc *db, mvcc_lease_t id, const struct mvcc_story *story,
			       mvcc_rev_t *out_rev);

MVCC_API int mvcc_lease_get(struct mvcc *db, mvcc_lease_t id, struct mvcc_lease *out); /* or MVCC_ENOLEASE */

/* Calls `fn` for each lease, in order of ids, until it returns non-zero; returns that. No lock is held. */
MVCC_API int mvcc_leases(struct mvcc *db, int (*fn)(void *arg, const struct mvcc_lease *lease), void *arg);

/*
 * Calls `fn` for each key attached now, in key order, until it returns non-zero; returns that. Moves the
 * write-back buffer into the engine first. MVCC_ENOLEASE if there is no such lease.
 */
MVCC_API int mvcc_lease_keys(struct mvcc *db, mvcc_lease_t id, int (*fn)(void *arg, struct slice key),
			     void *arg);

#endif
