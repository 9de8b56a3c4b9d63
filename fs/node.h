/*
 * What the kernel knows: one node for each inode it holds, living from the first lookup to the last
 * forget. A node's address is its nodeid.
 *
 * nodeid is not ino. A live inode, the same inode as it stood at revision 7, and as it stood at 9, are
 * different nodes with different numbers in stat, or diff would call them equal without reading.
 * Versions of a file that are the same in two revisions are one node: the kernel caches them once.
 * Directories of the past are a node per (parent node, name), as the kernel allows a directory one
 * place only and `/@rev/41/D` and `D/@rev/41` are two.
 */
#ifndef FS_NODE_H
#define FS_NODE_H

#include <pthread.h>
#include <stdatomic.h>

#include "fs/ns.h"

enum node_kind {
	NODE_LIVE,      /* an inode of the live tree */
	NODE_REVDIR,    /* D/@rev of the live directory `ino` */
	NODE_PAST_DIR,  /* directory `ino` at revision `rev` */
	NODE_PAST_FILE, /* anything else, in the version that revision `rev` made; seen at revision `seen` */
	NODE_CTL,       /* /@ctl */
	NODE_TAGDIR,    /* /@tag */
	NODE_TAG,       /* /@tag/NAME: `ino` tells pins of one revision apart */
	NODE_HISTDIR,   /* D/@history of the live directory `ino` */
	NODE_HISTORY,   /* D/@history/NAME */
	NODE_STATUS,    /* /@status */
	NODE_WATCH,     /* D/@watch of the live directory `ino` */
	NODE_TXN,       /* an inode of the tree of a transaction, whose id `rev` is */
	NODE_TXNS,      /* /@txn */
	NODE_TXN_FILE,  /* @commit, @conflicts or @message of transaction `rev`: `ino` says which */
};

struct node {
	enum node_kind kind;
	uint64_t ino;
	mvcc_rev_t rev;
	struct node
		*parent; /* of what is known by its place (PAST_DIR, TAG, HISTORY): a held node; else NULL */
	char *name;      /* likewise */
	_Atomic mvcc_rev_t
		seen; /* PAST_FILE: a revision that has this version, and was readable when last looked up */
	/* The table's lock guards the rest. */
	uint64_t nlookup;
	uint64_t refs;       /* children, and 1 while nlookup > 0 */
	struct ns_gone gone; /* LIVE: set when its last name was removed */
	struct node *next;
};

struct node_table {
	pthread_mutex_t lock;
	struct node **buckets;
	size_t nbuckets;
	size_t n;
	struct node *root;
};

/* The root is `kind` NODE_LIVE, or NODE_PAST_DIR at `rev` when the past itself is mounted. */
int node_table_init(struct node_table *t, enum node_kind kind, mvcc_rev_t rev);
void node_table_release(struct node_table *t);

/*
 * The node, with one more lookup counted; NULL when out of memory. `parent` and `name` for what is known by its place,
 * `rev` for the past only.
 */
struct node *node_get(struct node_table *t, enum node_kind kind, uint64_t ino, mvcc_rev_t rev,
		      struct node *parent, const char *name);
void node_forget(struct node_table *t, struct node *node, uint64_t nlookup);

/*
 * The node of that kind and number that has no parent, held until node_release(): no forget takes it away meanwhile. NULL
 * if the kernel knows none.
 */
struct node *node_hold(struct node_table *t, enum node_kind kind, uint64_t ino);
void node_release(struct node_table *t, struct node *node);

/*
 * All nodes of the past that stand for one of `inos`, which are in order, each held until node_release(). The array is the
 * caller's to free(). 0 or -ENOMEM.
 */
int node_past(struct node_table *t, const uint64_t *inos, size_t ninos, struct node ***out, size_t *n);

/* Notes that a live inode is gone, if the kernel knows it. */
void node_set_gone(struct node_table *t, struct ns_gone gone);
struct ns_gone node_gone(struct node_table *t, struct node *node);

/* The number stat shows. */
uint64_t node_stat_ino(enum node_kind kind, uint64_t ino, mvcc_rev_t rev);

size_t node_count(struct node_table *t);

#endif
