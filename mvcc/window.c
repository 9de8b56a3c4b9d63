#include "mvcc/window.h"

#include <stdlib.h>

#define KEYS_MAX ((size_t)64 << 10)
#define BYTES_MAX ((size_t)8 << 20)
#define COMMITS_MAX ((size_t)64 << 10)

/* A commit under construction: the array, then the bytes of the keys. */
struct window_commit window_begin(unsigned n, size_t key_bytes)
{
	struct window_commit c = { 0 };

	c.changes = malloc(n * sizeof(c.changes[0]) + key_bytes + 1);
	c.bytes = n * sizeof(c.changes[0]); /* where the next key goes */
	return c;
}

void window_add(struct window_commit *c, struct slice key, struct header header)
{
	uint8_t *p;

	if (!c->changes)
		return;
	p = (uint8_t *)c->changes + c->bytes;
	if (key.len)
		memcpy(p, key.data, key.len);
	c->bytes += key.len;
	c->changes[c->n++] = (struct window_change){ .key = slice_of(p, key.len), .header = header };
}

void window_discard(struct window_commit *c)
{
	free(c->changes);
	*c = (struct window_commit){ 0 };
}

void window_init(struct window *w, mvcc_rev_t current)
{
	*w = (struct window){ .low = current };
}

static void forget_first(struct window *w)
{
	struct window_commit *c = &w->ring[w->first];

	w->keys -= c->n;
	w->bytes -= c->bytes;
	window_discard(c);
	w->first = (w->first + 1) % w->cap;
	w->n--;
	w->low++;
}

void window_release(struct window *w)
{
	while (w->n)
		forget_first(w);
	free(w->ring);
	*w = (struct window){ 0 };
}

static bool grow(struct window *w)
{
	size_t cap = w->cap ? 2 * w->cap : 256;
	struct window_commit *ring = malloc(cap * sizeof(*ring));

	if (!ring)
		return false;
	for (size_t i = 0; i < w->n; i++)
		ring[i] = w->ring[(w->first + i) % w->cap];
	free(w->ring);
	w->ring = ring;
	w->cap = cap;
	w->first = 0;
	return true;
}

void window_push(struct window *w, struct window_commit c)
{
	if (!c.changes || (w->n == w->cap && !grow(w))) {
		while (w->n)
			forget_first(w);
		w->low++;
		window_discard(&c);
		return;
	}
	w->ring[(w->first + w->n) % w->cap] = c;
	w->n++;
	w->keys += c.n;
	w->bytes += c.bytes;
	while (w->n && (w->keys > KEYS_MAX || w->bytes > BYTES_MAX || w->n > COMMITS_MAX))
		forget_first(w);
}

const struct window_commit *window_at(const struct window *w, mvcc_rev_t rev)
{
	return &w->ring[(w->first + (size_t)(rev - w->low - 1)) % w->cap];
}
