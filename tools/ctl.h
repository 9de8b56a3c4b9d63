/*
 * mvccctl: one verb a struct, one file a verb (ctl_VERB.c). mvccctl.c reads the options that stand
 * before the verb and finds it in its table; what verbs share is here: which database is meant
 * (ctl_where.c), asking it, mounted or not (ctl_ask.c), and printing (ctl_out.c).
 *
 * A verb's run() returns the exit status. Results go to stdout; whoever finds something wrong says so
 * on stderr with ctl_complain() and returns the status, so that callers only pass it on.
 */
#ifndef TOOLS_CTL_H
#define TOOLS_CTL_H

#include "mvcc/mvcc.h"

#include <getopt.h>
#include <stdio.h>

/* Exit statuses, the same for all verbs; see mvccctl(1). */
enum {
	CTL_OK = 0,
	CTL_NOT_FOUND = 1, /* or differs */
	CTL_TROUBLE = 2,
	CTL_NO_DB = 10,
	CTL_LOCKED = 11,
	CTL_COMPACTED = 13,
};

struct json_object;
struct ns;

/* The database in question, and how the verb is to behave. All zero at first. */
struct ctl {
	const char *mount_arg; /* --mount */
	const char *db_arg;    /* --db */
	bool json;             /* --json */
	bool nul;              /* -z */
	const char *session;   /* --session, --message: of the revision that a verb makes */
	const char *message;

	/* Set by ctl_open(): either `mountpoint`, or `db` opened by ourselves. */
	char *mountpoint; /* where the root of the tree is seen */
	char *dev;        /* the mount's device, as /proc/self/mountinfo has it */
	int ctl_fd;       /* @ctl there; -1 while not needed */
	char *db_path;
	struct mvcc *db;
	struct ns *ns; /* over `db` */
	int64_t opened_ns;
};

struct ctl_verb {
	const char *name;
	const char *synopsis; /* what may follow the name */
	const char *summary;  /* one line, for mvccctl --help */
	const char *help;     /* the rest of VERB --help */
	int (*run)(struct ctl *ctl, int argc, char **argv);
};

extern const struct ctl_verb ctl_backup;
extern const struct ctl_verb ctl_bisect;
extern const struct ctl_verb ctl_cat;
extern const struct ctl_verb ctl_check;
extern const struct ctl_verb ctl_compact;
extern const struct ctl_verb ctl_del;
extern const struct ctl_verb ctl_diff;
extern const struct ctl_verb ctl_export;
extern const struct ctl_verb ctl_get;
extern const struct ctl_verb ctl_grep;
extern const struct ctl_verb ctl_import;
extern const struct ctl_verb ctl_lease;
extern const struct ctl_verb ctl_log;
extern const struct ctl_verb ctl_ls;
extern const struct ctl_verb ctl_purge;
extern const struct ctl_verb ctl_put;
extern const struct ctl_verb ctl_redo;
extern const struct ctl_verb ctl_restore;
extern const struct ctl_verb ctl_restore_db;
extern const struct ctl_verb ctl_retain;
extern const struct ctl_verb ctl_run;
extern const struct ctl_verb ctl_show;
extern const struct ctl_verb ctl_status;
extern const struct ctl_verb ctl_tag;
extern const struct ctl_verb ctl_txn;
extern const struct ctl_verb ctl_undo;
extern const struct ctl_verb ctl_untag;
extern const struct ctl_verb ctl_watch;
extern const struct ctl_verb ctl_why;

/* ---- options ----------------------------------------------------------------------------------- */

/* What every verb takes besides its own; put these last in its table of long options. */
enum { CTL_OPT_MOUNT = 0x1000, CTL_OPT_DB, CTL_OPT_JSON, CTL_OPT_SESSION, CTL_OPT_MESSAGE };
/* clang-format off */
#define CTL_LONG_OPTIONS                                        \
	{ "mount", required_argument, NULL, CTL_OPT_MOUNT },     \
	{ "db", required_argument, NULL, CTL_OPT_DB },           \
	{ "json", no_argument, NULL, CTL_OPT_JSON },             \
	{ "null", no_argument, NULL, 'z' },                      \
	{ "help", no_argument, NULL, 'h' },                      \
	{ NULL, 0, NULL, 0 }
/* clang-format on */
#define CTL_SHORT_OPTIONS "hz"

/* Before those, for a verb that makes a revision. */
/* clang-format off */
#define CTL_STORY_OPTIONS                                       \
	{ "session", required_argument, NULL, CTL_OPT_SESSION }, \
	{ "message", required_argument, NULL, CTL_OPT_MESSAGE }
/* clang-format on */

/*
 * Deals with an option of the above, or one getopt did not know. True: go on. False: the verb ends with
 * `*status` (help was asked for, or the option is none).
 */
bool ctl_option(struct ctl *ctl, const struct ctl_verb *verb, int opt, int *status);

/* Says how `verb` is used, on stderr; CTL_TROUBLE. */
int ctl_usage(const struct ctl_verb *verb);

/* ---- which database (ctl_where.c) -------------------------------------------------------------- */

/*
 * Finds the database: --mount, --db, the mount that `path` (may be NULL) or else the working directory
 * lies in, $MVCCFS_MOUNT, $MVCCFS_DB, in this order. A mounted one is left to its daemon, another is
 * opened. 0, or the exit status. Undone by ctl_close(), also after a failure.
 */
int ctl_open(struct ctl *ctl, const char *path);
void ctl_close(struct ctl *ctl);

/*
 * The path from the root of the tree that `arg` means: an absolute path below a mount point is what it
 * names there; a relative one starts from the working directory if that is in the mount, and from the
 * root otherwise. "." and ".." are resolved; @rev/N drops out. Gives a string; 0, or the exit status.
 */
int ctl_tree_path(const struct ctl *ctl, const char *arg, char **out);

/* The place of the working directory in the tree of the mount; NULL when it lies elsewhere. Gives a string. */
int ctl_cwd_place(const struct ctl *ctl, char **out);

/* ---- a command (ctl_command.c) ------------------------------------------------------------------ */

/* As env(1) has them: it failed itself, the command cannot be run, there is no such command. */
enum { CTL_RUN_FAILED = 125, CTL_RUN_CANNOT = 126, CTL_RUN_ABSENT = 127 };

/*
 * Runs a command, in directory `dir` (NULL: where we are). Signals that would end this process end the command
 * instead. Returns its exit status, 128 + N when signal N ended it, or one of the above, and has said why.
 */
int ctl_run_command(char **argv, const char *dir);

/* ---- asking (ctl_ask.c) ------------------------------------------------------------------------ */

/*
 * Puts a request to the daemon or to the open database (fs/query.h). Gives a reply that says ok; 0.
 * Another is told on stderr, and gives its exit status. `req` stays the caller's.
 */
int ctl_ask(struct ctl *ctl, struct json_object *req, struct json_object **out);

/* A request for `verb`, to be filled by json_add_*(); NULL when there is no memory, which is said. */
struct json_object *ctl_request(const char *verb);

/* Asks and frees `req`. `err` is what filling it said: then nothing is asked, and it is told. */
int ctl_ask_filled(struct ctl *ctl, struct json_object *req, int err, struct json_object **out);

/* The same for what may take long: if stderr is a terminal, it tells how far it has come (ctl_long.c). */
int ctl_ask_long(struct ctl *ctl, struct json_object *req, int err, struct json_object **out);

/* Adds --session and --message to a request that makes a revision. 0 or -ENOMEM. */
int ctl_add_story(const struct ctl *ctl, struct json_object *req);

/* Members of a reply; 0, false, NULL and an array of no length when they are absent. Lent by `o`. */
uint64_t ctl_number(struct json_object *o, const char *key);
bool ctl_flag(struct json_object *o, const char *key);
const char *ctl_text(struct json_object *o, const char *key);
struct json_object *ctl_array(struct json_object *o, const char *key, size_t *n);

/* ---- the tree at a revision (ctl_at.c) ----------------------------------------------------------- */

/* What stood at a path. Read by one of two ways. */
struct ctl_at {
	uint32_t mode;
	int fd;                 /* through a mount: the place, opened with O_PATH; else -1 */
	struct mvcc_view *view; /* from the store; else NULL */
	struct mvcc *db;
	uint64_t ino;
};

/* `path` as ctl_tree_path() gives it. 0, or the exit status; ctl_at_close() in any case. */
int ctl_at_open(struct ctl *ctl, const char *path, const char *expr, struct ctl_at *out);
void ctl_at_close(struct ctl_at *at);

/* Through a mount: opens the place with these flags. `path` is for the message. 0, or the exit status. */
int ctl_at_reopen(const struct ctl_at *at, int flags, const char *path, int *out);

/* ---- a transaction of a verb's own (ctl_txn.c) ---------------------------------------------------- */

/* Through a mount: begins one, with --message. Gives its directory; 0, or the exit status. */
int ctl_txn_begin(struct ctl *ctl, char **root);

/* Takes the directory. Commits if `status` is 0: `*rev` is the revision; else drops it all. The exit status. */
int ctl_txn_end(char *root, int status, uint64_t *rev);

/* ---- words of the command line (ctl_words.c) ----------------------------------------------------- */

/* Decimal digits alone. */
bool ctl_parse_number(const char *arg, uint64_t *out);

/* A time to last, in seconds: "90", "90s", "15m", "12h", "30d", "2w", "1y" (of 365 days), "1h30m". */
bool ctl_parse_span(const char *arg, uint64_t *out);

/*
 * Revisions: "A..B", "..B" or "A..", lent. A path that looks like one can be written ./A..B. ".." alone is the parent.
 */
bool ctl_parse_range(const char *arg, struct slice *from, struct slice *to);

/* Bytes: "4096", "512K", "10G"; units are powers of 1024. */
bool ctl_parse_bytes(const char *arg, uint64_t *out);

/* ---- printing (ctl_out.c) ---------------------------------------------------------------------- */

/* "mvccctl: ..." on stderr. Returns `status`. */
int ctl_complain(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The text of a code, after "WHAT: ". Returns the exit status that belongs to it. */
int ctl_complain_err(int err, const char *what);

/* Text for a terminal: control characters, '\' and bytes that are no UTF-8 as \n, \t, \\ or \ooo. */
void ctl_print_escaped(FILE *f, struct slice bytes);

/* Prints the bytes of a member, escaped; false if it has none. */
bool ctl_print_bytes(struct json_object *o, const char *key);

/* Prints them as they are, and a NUL. */
void ctl_print_nul(struct json_object *o, const char *key);

/* One line of JSON, without the member "ok". 0, or the exit status. */
int ctl_print_json(struct json_object *o);

/* "2026-11-22 23:30:05", local time. */
void ctl_format_time(int64_t ns, char out[64]);

/* "1.5 GiB"; "2d 3h" (at most two units, of seconds). */
void ctl_format_bytes(uint64_t bytes, char out[32]);
void ctl_format_span(uint64_t s, char out[32]);

/* The name of a user, or its number. Valid until the next call. */
const char *ctl_user_name(uint32_t uid);

/* The same of a group. */
const char *ctl_group_name(uint32_t gid);

/* A reader that has had enough ends the printing, and not the closing of the database. Call this first. */
void ctl_outlive_reader(void);

/* Is nobody reading any more what was written? */
bool ctl_reader_gone(void);

/* Writes out what was printed. False if nobody reads it any more, or it could not be written (then said). */
bool ctl_flush(int *status);

#endif
