#include "mvcc/interval.h"

/* The order of the tree. Of intervals with one start, the address decides: it has to be some order. */
static bool is_before(const struct interval *a, const struct interval *b)
{
	int cmp = slice_cmp(a->start, b->start);

	return cmp ? cmp < 0 : (uintptr_t)a < (uintptr_t)b;
}

static struct slice farther(struct slice a, struct slice b)
{
	if (!a.len || !b.len) /* one has no end */
		return a.len ? b : a;
	return slice_cmp(a, b) < 0 ? b : a;
}

/* Tells the node what is below it, and gives it back. */
static struct interval *fix(struct interval *t)
{
	t->reach = t->end;
	if (t->left)
		t->reach = farther(t->reach, t->left->reach);
	if (t->right)
		t->reach = farther(t->reach, t->right->reach);
	return t;
}

/* Parts the tree into what is before `at` and what is after it. */
static void split(struct interval *t, const struct interval *at, struct interval **before,
		  struct interval **after)
{
	if (!t) {
		*before = *after = NULL;
	} else if (is_before(t, at)) {
		split(t->right, at, &t->right, after);
		*before = fix(t);
	} else {
		split(t->left, at, before, &t->left);
		*after = fix(t);
	}
}

/* Joins two trees; all of `a` is before all of `b`. */
static struct interval *join(struct interval *a, struct interval *b)
{
	if (!a || !b)
		return a ? a : b;
	if (a->priority > b->priority) {
		a->right = join(a->right, b);
		return fix(a);
	}
	b->left = join(a, b->left);
	return fix(b);
}

static struct interval *insert(struct interval *t, struct interval *iv)
{
	if (!t || iv->priority > t->priority) {
		split(t, iv, &iv->left, &iv->right);
		return fix(iv);
	}
	if (is_before(iv, t))
		t->left = insert(t->left, iv);
	else
		t->right = insert(t->right, iv);
	return fix(t);
}

static struct interval *without(struct interval *t, struct interval *iv)
{
	if (t == iv)
		return join(t->left, t->right);
	if (is_before(iv, t))
		t->left = without(t->left, iv);
	else
		t->right = without(t->right, iv);
	return fix(t);
}

void interval_insert(struct interval_index *ix, struct interval *iv)
{
	ix->random = ix->random * 1664525u + 1013904223u; /* of the high bits, which is what is compared */
	iv->priority = ix->random;
	iv->left = iv->right = NULL;
	ix->root = insert(ix->root, iv);
	ix->n++;
}

void interval_remove(struct interval_index *ix, struct interval *iv)
{
	ix->root = without(ix->root, iv);
	ix->n--;
}

static void stab(struct interval *t, struct slice key, void (*fn)(void *arg, struct interval *iv), void *arg)
{
	for (; t && (!t->reach.len || slice_cmp(key, t->reach) < 0); t = t->right) {
		stab(t->left, key, fn, arg);
		if (slice_cmp(key, t->start) < 0)
			return; /* whatever is on the right begins later still */
		if (!t->end.len || slice_cmp(key, t->end) < 0)
			fn(arg, t);
	}
}

void interval_stab(const struct interval_index *ix, struct slice key,
		   void (*fn)(void *arg, struct interval *iv), void *arg)
{
	stab(ix->root, key, fn, arg);
}
