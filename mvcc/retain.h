/*
 * What a retention policy asks for, computed: which revisions are to be pinned, which automatic pins go, where the
 * floor comes to lie. No store in it, only numbers and times, so that years can be tried in a moment.
 */
#ifndef MVCC_RETAIN_H
#define MVCC_RETAIN_H

#include "mvcc/keep.h"

enum retain_unit { RETAIN_HOUR, RETAIN_DAY, RETAIN_WEEK, RETAIN_MONTH, RETAIN_YEAR, RETAIN_UNITS };

/* When the hour, day, ... of a time began: UTC, weeks on Monday. In ns since 1970. */
int64_t retain_begin(enum retain_unit unit, int64_t time_ns);

/* A revision, and when it was committed. */
struct retain_rev {
	mvcc_rev_t rev;
	int64_t time_ns;
};

/* How a store stands. Revisions from the floor up are asked for by `at`, in any order. */
struct retain_state {
	int64_t now_ns;
	mvcc_rev_t floor, current;
	const struct retain_rev *pins; /* the automatic ones, in order of revisions */
	size_t npins;
	bool full; /* there is less space than the policy wants free */
	/* The newest revision from the floor up that is not after `time_ns`: 1, 0 if there is none, or a code. */
	int (*at)(void *arg, int64_t time_ns, struct retain_rev *out);
	/* When one was committed: 0 or a code. */
	int (*time_of)(void *arg, mvcc_rev_t rev, int64_t *time_ns);
	void *arg;
};

/* What is to be done: first the new pins, then the floor, then the pins that go. Release it. */
struct retain_plan {
	mvcc_rev_t floor; /* as it is, or higher */
	struct retain_rev *add, *drop;
	size_t nadd, ndrop;
	/*
	 * When to ask again, if there is nothing new: INT64_MAX is never. What will be committed from now on is not due
	 * earlier either, but for the count of revisions, which rises with commits.
	 */
	int64_t due_ns;
};

int retain_plan(const struct mvcc_policy *policy, const struct retain_state *state, struct retain_plan *out);
void retain_plan_release(struct retain_plan *plan);

#endif
