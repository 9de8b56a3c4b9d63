/*
 * An engine in memory, for tests: it keeps what a machine's disk would keep.
 *
 * A `struct mem_engine` is that machine. Its provider opens the engine of a directory; what is written
 * stays with the machine when the engine is closed, under the name of the directory, and is there at the
 * next open through any provider of the same machine. Checkpoints are directories of the machine, too.
 * So a test can close, reopen, kill and cut the power as often as it likes, in microseconds.
 *
 * Nothing but the (empty) directory of a checkpoint is made in the real file system. Out of memory ends
 * the program: this is an engine for tests.
 */
#ifndef TESTS_ENGINES_MEM_ENGINE_H
#define TESTS_ENGINES_MEM_ENGINE_H

#include "mvcc/engine.h"

struct mem_engine;

struct mem_engine *mem_engine_new(void);

/* Frees the machine and all it keeps. Its engines must be closed. Accepts NULL. */
void mem_engine_free(struct mem_engine *mem);

/* Valid as long as `mem`. */
struct engine_provider mem_engine_provider(struct mem_engine *mem);

/*
 * The process dies, as by kill -9: all writes stay, but the engines that are open now answer every call
 * with -EIO, reopen included, and are good for nothing but closing. So whoever still holds one can be closed
 * in order, and changes nothing by it.
 */
void mem_engine_kill(struct mem_engine *mem);

/* The power fails: as mem_engine_kill(), and all writes since the last sync are gone. */
void mem_engine_power_cut(struct mem_engine *mem);

/*
 * The same, but of the unsynced writes of each directory the first `keep` had reached the disk. Kept can be
 * at most MEM_ENGINE_KEPT_MAX of them.
 */
enum { MEM_ENGINE_KEPT_MAX = 256 };
void mem_engine_power_cut_keeping(struct mem_engine *mem, size_t keep);

/* How many writes a power cut would drop now, over all directories. */
size_t mem_engine_unsynced(struct mem_engine *mem);

#endif
