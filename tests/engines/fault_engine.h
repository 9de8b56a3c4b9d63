/*
 * An engine that fails when told to, around any other: a test arms it, runs a scenario with the 1st, 2nd,
 * 3rd ... call failing, and looks what is left after each.
 */
#ifndef TESTS_ENGINES_FAULT_ENGINE_H
#define TESTS_ENGINES_FAULT_ENGINE_H

#include "mvcc/engine.h"

struct fault_engine;

/* Kinds of calls. */
enum {
	FAULT_OPEN = 1, /* open and reopen */
	FAULT_GET = 2,
	FAULT_ITER = 4, /* a new iterator */
	FAULT_MOVE = 8, /* seek, next, seek_last */
	FAULT_WRITE = 16,
	FAULT_SYNC = 32,
	FAULT_CHECKPOINT = 64,
	FAULT_BATCH = 128, /* a new batch: NULL, whatever the code */
	FAULT_REWRITE = 256,
	FAULT_ALL = 511,
};

enum fault_mode {
	FAULT_ONCE,    /* that call only */
	FAULT_FROM_ON, /* that call, and all later ones of the same kinds */
	FAULT_CRASH,   /* that call, and all later calls of any kind: the process might as well be dead */
};

struct fault_plan {
	unsigned kinds; /* which calls count */
	uint64_t at;    /* the first to fail; 1 is the next, 0 none, to count only */
	int err;        /* what it says */
	enum fault_mode mode;
	bool done; /* the first failing call is carried out all the same, and says that it failed */
};

/* `inner` opens the engine inside. The provider is valid as long as the fault engine. */
struct fault_engine *fault_engine_new(struct engine_provider inner);
void fault_engine_free(struct fault_engine *fault); /* accepts NULL */
struct engine_provider fault_engine_provider(struct fault_engine *fault);

/* From now on; counting begins at 0. From any thread. */
void fault_engine_arm(struct fault_engine *fault, struct fault_plan plan);
void fault_engine_disarm(struct fault_engine *fault);

/* Calls of the plan's kinds since it was armed, the failing ones included. */
uint64_t fault_engine_calls(struct fault_engine *fault);

/* How many calls were failed since it was armed. */
uint64_t fault_engine_failed(struct fault_engine *fault);

/* The engine inside an open engine of this kind; borrowed. */
struct engine *fault_engine_inner(struct engine *e);

#endif
