/*
 * The figures of a mount in Prometheus' text format, version 0.0.4: what `/@status` shows.
 */
#ifndef FS_METRICS_H
#define FS_METRICS_H

#include "fs/ns.h"

struct metrics_env {
	struct mvcc *db;
	struct ns *ns;
	const char *db_path;
	int64_t started_ns;
	uint64_t nodes, parked;
};

/* Appends the text. 0 or -ENOMEM. */
int metrics_text(const struct metrics_env *env, struct buf *out);

#endif
