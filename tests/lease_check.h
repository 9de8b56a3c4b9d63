/*
 * What must hold of leases at any time: a key that has one has one that exists, and the rows that tell the
 * keys of each lease tell exactly those.
 */
#ifndef TESTS_LEASE_CHECK_H
#define TESTS_LEASE_CHECK_H

#include "mvcc/lease.h"

/* Moves the write-back buffer into the engine and looks at all of it. NULL, or what is wrong. */
const char *lease_check(struct mvcc *db);

/* Rows of the engine: of leases, or of keys attached to any. SIZE_MAX when they cannot be read. */
size_t lease_rows(struct mvcc *db);
size_t attached_rows(struct mvcc *db);

/* The row of a lease, once all is in the engine: its deadline, in ms since 1970; INT64_MIN if there is none. */
int64_t lease_row_deadline(struct mvcc *db, mvcc_lease_t id);

#endif
