/*
 * A store under test: on the memory engine or on another, in a directory of its own that is removed
 * whatever happens. The engine stands behind a sluice: while that is shut, writes to the engine wait, so
 * commits stay in the write-back buffer and a test decides what is merged with what. Helpers put, get
 * and compare in one line each; they fail the running test by themselves.
 *
 * CUnit's assertions are not for threads: threads of a test use mvcc.h alone and count what went wrong.
 */
#ifndef TESTS_STORE_FIXTURE_H
#define TESTS_STORE_FIXTURE_H

#include "mvcc/check.h"
#include "mvcc/mvcc.h"

struct sluice;
struct mem_engine;

/* What fixtures use from now on; lent for as long. NULL is memory, as at first. */
void fixture_use(const struct engine_provider *provider);

struct fixture {
	struct mvcc *db;         /* NULL while closed */
	char tmp[256];           /* holds all files of the fixture */
	char dir[300];           /* the database, in it; made by mvcc_open() */
	struct mvcc_options opt; /* what fixture_reopen() uses; a test may change it */
	struct mem_engine *mem;  /* what outlives a close in memory; NULL on another engine */
	struct sluice *sluice;
};

/* A fresh store with the default options, with the smallest ring (256 KiB), or not yet open. */
struct fixture *fixture_open(void);
struct fixture *fixture_open_small_ring(void);
struct fixture *fixture_new(void);

/* Opens the store with fx->opt. 0, or what mvcc_open() says. */
int fixture_try_open(struct fixture *fx);

/* Closes and opens; asserts that both succeed. */
void fixture_reopen(struct fixture *fx);

/* Opens the sluice, closes if open, asserts that it succeeds; removes the directory, frees. */
void fixture_close(struct fixture *fx);

/* Engine writes wait (shut) or go on (open, as it is at first). */
void fixture_sluice_shut(struct fixture *fx);
void fixture_sluice_open(struct fixture *fx);

/* Brings everything committed into the engine, and to disk. Asserts. */
void fixture_drain(struct fixture *fx);

/* The engine itself, behind the sluice, to damage it or to look into it. Borrowed, while the store is open. */
struct engine *fixture_engine(struct fixture *fx);

/*
 * Verifies the open store; asserts that nothing is wrong with it, and tells what is.
 */
void fixture_verify(struct fixture *fx);
unsigned verify_problems(struct mvcc *db); /* the same without asserting: how many there are */

/* How many rows the engine holds in the families of that use. Asserts. */
size_t fixture_rows(struct fixture *fx, enum engine_use use);

/* How many of the family of that name, with keys that begin with `prefix`. Asserts. */
size_t fixture_rows_of(struct fixture *fx, const char *family, const char *prefix);

/* A fresh directory, removed at exit at the latest. Ends the program if there is none. */
void fixture_tmpdir(char out[256]);
void fixture_rmdir(const char *dir); /* with all that is in it */

/* Copies the regular files of `from` (not those of directories in it) to the directory `to`. */
int fixture_copy_files(const char *from, const char *to);

/* A number from the environment, or `fallback`. */
uint64_t fixture_env(const char *name, uint64_t fallback);

/* ---- one line each ------------------------------------------------------------------------- */

struct slice str(const char *s); /* the bytes of a string, without its NUL */

struct mvcc_txn *begin(struct mvcc *db);
mvcc_rev_t commit(struct mvcc_txn *txn); /* asserts success */
int commit_err(struct mvcc_txn *txn);    /* what the commit says */

void txn_put(struct mvcc_txn *txn, const char *key, const char *value);
void txn_del(struct mvcc_txn *txn, const char *key);

mvcc_rev_t put(struct mvcc *db, const char *key, const char *value); /* one transaction */
mvcc_rev_t del(struct mvcc *db, const char *key);

/* What a key is. A value of NULL: absent. */
void assert_value_at(struct mvcc *db, mvcc_rev_t rev, const char *key, const char *value);
void assert_absent_at(struct mvcc *db, mvcc_rev_t rev, const char *key);
void assert_record_at(struct mvcc *db, mvcc_rev_t rev, const char *key, const char *value,
		      mvcc_rev_t create_rev, mvcc_rev_t mod_rev, uint64_t version);
void assert_view_value(struct mvcc_view *view, const char *key, const char *value);
void assert_txn_value(struct mvcc_txn *txn, const char *key, const char *value);
void assert_txn_peek(struct mvcc_txn *txn, const char *key, const char *value);

/*
 * The rows of start <= key < end as "a=1 b=2", with " ..." at the end when the limit cut rows off; asked
 * of mvcc_range() and of a cursor, which must both say the same.
 */
void assert_range_at(struct mvcc *db, mvcc_rev_t rev, const char *start, const char *end, size_t limit,
		     const char *expected);
void assert_view_range(struct mvcc_view *view, const char *start, const char *end, size_t limit,
		       const char *expected);
void assert_txn_range(struct mvcc_txn *txn, const char *start, const char *end, const char *expected);
void assert_txn_peek_range(struct mvcc_txn *txn, const char *start, const char *end, const char *expected);

/* The changes of one revision in the log, each with the revision of what it replaced: "+a<0 -b<7". */
void assert_changes(struct mvcc *db, mvcc_rev_t rev, const char *expected);

/* The life of a key, as "CREATE.MOD.VERSION-END=VALUE ...". */
void assert_history(struct mvcc *db, const char *key, const char *expected);

/* Numbers that look random, the same ones for the same seed. */
uint64_t random_next(uint64_t *state);
uint64_t random_below(uint64_t *state, uint64_t n);

#endif
