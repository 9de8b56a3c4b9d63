#include "fs/node.h"

#include <errno.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { FIRST_BUCKETS = 1024 };

uint64_t node_stat_ino(enum node_kind kind, uint64_t ino, mvcc_rev_t rev)
{
	uint8_t raw[24];

	if (kind == NODE_LIVE)
		return ino;
	put_le64(raw, (uint64_t)kind);
	put_le64(raw + 8, ino);
	put_le64(raw + 16, rev);
	/* Live numbers are counted up from 1 and never reach the upper half. */
	return XXH3_64bits(raw, sizeof(raw)) | (uint64_t)1 << 63;
}

static size_t hash_of(enum node_kind kind, uint64_t ino, mvcc_rev_t rev, const struct node *parent,
		      const char *name)
{
	XXH64_hash_t h = XXH3_64bits_withSeed(&ino, sizeof(ino), rev * 8 + (uint64_t)kind);

	if (name)
		h = XXH3_64bits_withSeed(name, strlen(name), h ^ (uintptr_t)parent);
	return (size_t)h;
}

static bool is(const struct node *n, enum node_kind kind, uint64_t ino, mvcc_rev_t rev,
	       const struct node *parent, const char *name)
{
	return n->kind == kind && n->ino == ino && n->rev == rev && n->parent == parent &&
	       (n->name == name || (n->name && name && strcmp(n->name, name) == 0));
}

static struct node **bucket_locked(struct node_table *t, const struct node *n)
{
	return &t->buckets[hash_of(n->kind, n->ino, n->rev, n->parent, n->name) & (t->nbuckets - 1)];
}

/* Twice as many buckets; when there is no memory for them the chains just grow longer. */
static void grow_locked(struct node_table *t)
{
	struct node **old = t->buckets;
	size_t nold = t->nbuckets;
	struct node **more = calloc(2 * nold, sizeof(struct node *));

	if (!more)
		return;
	t->buckets = more;
	t->nbuckets = 2 * nold;
	for (size_t i = 0; i < nold; i++) {
		while (old[i]) {
			struct node *n = old[i], **to;

			old[i] = n->next;
			to = bucket_locked(t, n);
			n->next = *to;
			*to = n;
		}
	}
	free(old);
}

struct node *node_get(struct node_table *t, enum node_kind kind, uint64_t ino, mvcc_rev_t rev,
		      struct node *parent, const char *name)
{
	struct node *n, **bucket;

	pthread_mutex_lock(&t->lock);
	bucket = &t->buckets[hash_of(kind, ino, rev, parent, name) & (t->nbuckets - 1)];
	for (n = *bucket; n && !is(n, kind, ino, rev, parent, name); n = n->next)
		;
	if (!n) {
		n = calloc(1, sizeof(*n));
		if (n && name) {
			n->name = strdup(name);
			if (!n->name) {
				free(n);
				n = NULL;
			}
		}
		if (!n)
			goto out;
		n->kind = kind;
		n->ino = ino;
		n->rev = rev;
		n->parent = parent;
		if (parent)
			parent->refs++;
		n->next = *bucket;
		*bucket = n;
		if (++t->n > 2 * t->nbuckets)
			grow_locked(t);
	}
	if (n->nlookup++ == 0)
		n->refs++;
out:
	pthread_mutex_unlock(&t->lock);
	return n;
}

/* Drops one hold; nodes without any go, and let go of their parents. */
static void unref_locked(struct node_table *t, struct node *n)
{
	while (n && --n->refs == 0) {
		struct node *parent = n->parent, **p;

		for (p = bucket_locked(t, n); *p != n; p = &(*p)->next)
			;
		*p = n->next;
		t->n--;
		free(n->name);
		free(n);
		n = parent;
	}
}

void node_forget(struct node_table *t, struct node *node, uint64_t nlookup)
{
	pthread_mutex_lock(&t->lock);
	if (node->nlookup >= nlookup) {
		node->nlookup -= nlookup;
		if (node->nlookup == 0 && nlookup)
			unref_locked(t, node);
	}
	pthread_mutex_unlock(&t->lock);
}

static struct node *find_locked(struct node_table *t, enum node_kind kind, uint64_t ino)
{
	struct node *n = t->buckets[hash_of(kind, ino, 0, NULL, NULL) & (t->nbuckets - 1)];

	while (n && !is(n, kind, ino, 0, NULL, NULL))
		n = n->next;
	return n;
}

struct node *node_hold(struct node_table *t, enum node_kind kind, uint64_t ino)
{
	struct node *n;

	pthread_mutex_lock(&t->lock);
	n = find_locked(t, kind, ino);
	if (n)
		n->refs++;
	pthread_mutex_unlock(&t->lock);
	return n;
}

void node_release(struct node_table *t, struct node *node)
{
	pthread_mutex_lock(&t->lock);
	unref_locked(t, node);
	pthread_mutex_unlock(&t->lock);
}

static int ino_cmp(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static bool is_past_of(const struct node *n, const uint64_t *inos, size_t ninos)
{
	return (n->kind == NODE_PAST_FILE || n->kind == NODE_PAST_DIR) && n->nlookup &&
	       bsearch(&n->ino, inos, ninos, sizeof(inos[0]), ino_cmp);
}

int node_past(struct node_table *t, const uint64_t *inos, size_t ninos, struct node ***out, size_t *n)
{
	struct node **nodes;
	size_t found = 0;

	pthread_mutex_lock(&t->lock);
	nodes = malloc((t->n + 1) * sizeof(struct node *));
	for (size_t i = 0; nodes && i < t->nbuckets; i++)
		for (struct node *at = t->buckets[i]; at; at = at->next)
			if (is_past_of(at, inos, ninos)) {
				at->refs++;
				nodes[found++] = at;
			}
	pthread_mutex_unlock(&t->lock);
	if (!nodes)
		return -ENOMEM;
	*out = nodes;
	*n = found;
	return 0;
}

void node_set_gone(struct node_table *t, struct ns_gone gone)
{
	struct node *n;

	if (!gone.ino)
		return;
	pthread_mutex_lock(&t->lock);
	n = find_locked(t, NODE_LIVE, gone.ino);
	if (n)
		n->gone = gone;
	pthread_mutex_unlock(&t->lock);
}

struct ns_gone node_gone(struct node_table *t, struct node *node)
{
	struct ns_gone gone;

	pthread_mutex_lock(&t->lock);
	gone = node->gone;
	pthread_mutex_unlock(&t->lock);
	return gone;
}

int node_table_init(struct node_table *t, enum node_kind kind, mvcc_rev_t rev)
{
	*t = (struct node_table){ .nbuckets = FIRST_BUCKETS };
	t->buckets = calloc(FIRST_BUCKETS, sizeof(struct node *));
	if (!t->buckets)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	t->root = node_get(t, kind, NS_ROOT, kind == NODE_LIVE ? 0 : rev, NULL, NULL);
	if (!t->root) {
		node_table_release(t);
		return -ENOMEM;
	}
	return 0;
}

void node_table_release(struct node_table *t)
{
	for (size_t i = 0; i < t->nbuckets; i++) {
		while (t->buckets[i]) {
			struct node *n = t->buckets[i];

			t->buckets[i] = n->next;
			free(n->name);
			free(n);
		}
	}
	free(t->buckets);
	pthread_mutex_destroy(&t->lock);
	*t = (struct node_table){ 0 };
}

size_t node_count(struct node_table *t)
{
	size_t n;

	pthread_mutex_lock(&t->lock);
	n = t->n;
	pthread_mutex_unlock(&t->lock);
	return n;
}
