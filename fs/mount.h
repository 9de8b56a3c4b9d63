/*
 * A mounted tree: what main() asks of the part that talks to the kernel.
 */
#ifndef FS_MOUNT_H
#define FS_MOUNT_H

#include <pthread.h>

#include "fs/ns.h"

enum mount_revdir {
	REVDIR_HIDDEN,   /* @rev answers by name and is in no listing */
	REVDIR_VISIBLE,  /* and the root lists it */
	REVDIR_DISABLED, /* it answers to nothing */
};

struct mount;

/*
 * Where the store brings news of revisions that it makes by itself (mvcc_options.committed): they reach the mount while
 * there is one. Outlives the store.
 */
struct mount_news {
	pthread_mutex_t lock;
	struct mount *mount; /* lock */
};
#define MOUNT_NEWS_INIT                           \
	{                                         \
		.lock = PTHREAD_MUTEX_INITIALIZER \
	}
void mount_committed(void *news, mvcc_rev_t rev);

struct mount_config {
	struct mvcc *db;
	struct ns *ns;
	struct mount_news *news;
	const char *program; /* argv[0] */
	const char *db_path; /* as shown by df and by @ctl */
	const char *mountpoint;
	const char *fuse_options; /* "allow_other,ro", for libfuse; may be empty */
	const char *revname;      /* "@rev" */
	enum mount_revdir revdir;
	mvcc_rev_t root_rev; /* mount this revision, read-only; 0: the live tree */
	bool revperm_both;   /* the past also asks today's permissions */
	bool debug;          /* libfuse prints every request */
	bool single_thread;
	void (*ready)(void *arg); /* called once, when the kernel has been answered */
	void *ready_arg;
	void (*log)(void *arg, int priority, const char *text);
	void *log_arg;
};

/*
 * Blocks the signals that end a mount, so that the thread which waits for them is the one that gets
 * them. To be called before any thread is started.
 */
void mount_block_signals(void);

/*
 * Mounts, serves until unmounted (or SIGTERM, SIGINT), unmounts. 0, or a negative code; what libfuse
 * had to say went to stderr.
 */
int mount_serve(const struct mount_config *config);

#endif
