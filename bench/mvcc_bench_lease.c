/*
 * A hundred thousand leases granted, renewed, revoked, one call each. Beside them RocksDB's put, put and delete
 * of a row of that size.
 */
#include "bench/mvcc_bench.h"

#include "mvcc/lease.h"

#define TTL_MS ((uint64_t)3600 * 1000)
#define LEASE_BYTES 24

static void grant(struct mvcc *db, uint64_t id)
{
	mvcc_lease_t given;

	must(mvcc_lease_grant(db, id, TTL_MS, &given), "grant");
	must_hold(given == id, "the id of a lease");
}

static void renew(struct mvcc *db, uint64_t id)
{
	uint64_t ttl_ms;

	must(mvcc_lease_renew(db, id, &ttl_ms), "renew");
	must_hold(ttl_ms == TTL_MS, "the time of a lease");
}

static void revoke(struct mvcc *db, uint64_t id)
{
	must(mvcc_lease_revoke(db, id, NULL, NULL), "revoke");
}

static const struct step {
	const char *row, *title;
	void (*one)(struct mvcc *db, uint64_t id);
	bool removes;
} steps[] = {
	{ "lease.grant", "grant (LessorGrant)", grant, false },
	{ "lease.renew", "renew (LessorRenew)", renew, false },
	{ "lease.revoke", "revoke (LessorRevoke)", revoke, true },
};

static double raw_us(struct raw *raw, uint64_t leases, bool removes)
{
	int64_t start = bench_now_ns();

	for (uint64_t id = 1; id <= leases; id++) {
		struct key k;
		struct value v;

		key_of(&k, id);
		if (removes)
			raw_delete(raw, slice_of(k.bytes, 8));
		else
			raw_put(raw, slice_of(k.bytes, 8), value_of(&v, id, 1, LEASE_BYTES), false);
	}
	return bench_since_us(start) / (double)leases;
}

void part_lease(struct bench *b)
{
	const uint64_t leases = bench_scaled(b, 100000, 1000);
	struct path ours = bench_path(b, "ours"), theirs = bench_path(b, "raw");
	struct mvcc *db = store_open(ours.name);
	struct raw *raw = raw_open(theirs.name);

	for (unsigned round = 0; round < b->rounds; round++) {
		for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
			bool wanted = bench_row(b, steps[i].row, "us", steps[i].title);
			int64_t start = bench_now_ns();
			struct mvcc_stats stats;
			double us, raw_each_us;

			/* Not left out if it is not wanted: the next step needs it. */
			for (uint64_t id = 1; id <= leases; id++)
				steps[i].one(db, id);
			us = bench_since_us(start) / (double)leases;
			mvcc_stats(db, &stats);
			must_hold(stats.leases == (steps[i].removes ? 0 : leases),
				  "how many leases there are");
			raw_each_us = raw_us(raw, leases, steps[i].removes);
			if (!wanted)
				continue;
			bench_figure(b, round, "ours", us);
			bench_figure(b, round, "raw", raw_each_us);
		}
	}
	must_hold(mvcc_current(db) == MVCC_REV_FIRST, "no revision without keys");
	store_close(db);
	raw_close(raw);
}
