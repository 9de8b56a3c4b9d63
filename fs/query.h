/*
 * Questions about a database, each answered with one bounded reply.
 *
 * The daemon answers them through the file @ctl at the root of a mount: open it O_RDWR, write one
 * request, read the reply to its end; then the next request may be written. mvccctl answers them to
 * itself when nothing is mounted. A request is one JSON object, a reply is one line:
 *
 *	{"verb":"status"}
 *	{"verb":"log","path":"/a","from":3,"to":"head","limit":100}
 *
 *	{"ok":true, ...}
 *	{"ok":false,"error":"what is wrong and what to do","errno":"ESTALE","exit":13}
 *
 * `log` lists revisions from `to` (default: the newest) down to `from` (default: the oldest there is),
 * newest first, at most `limit` (QUERY_LIMIT_MAX, which is the default). A revision is a number or text
 * as query_rev() reads it. `path`, or `path_b64`, leaves only revisions whose story names that path or
 * one below it. Where there may be more, the reply has "next": ask again with that as `to`, and with the
 * reply's `from`, as "head" may have moved. Further members leave only what matches all of them: `uid`, `comm`, `op`
 * and `session` as in the story, and `since_ns` and `until_ns`, times that are included. A page may be empty and have a next, since one request looks
 * at QUERY_SCAN_MAX revisions at most. So neither side needs memory for more than a page.
 *
 *	tag {name, rev}  untag {name}  retag {name, to}    the tag, with its revision and times; a name may be name_b64
 *	tags {after}                     "tags", a page of them; where there are more, "next": ask again with that as `after`
 *	compact {rev | keep, wait, dry_run}        the floor as it "was" and is; how many "tagged" ones lie between
 *	retain {keep_all_s, keep_revs, hourly ... yearly, free_bytes, off, dry_run}          the policy, as in mvcc/keep.h
 *	why {rev}                        what keeps it
 *	lease {id}  lease_grant {ttl_ms, id}  lease_keepalive {id}  lease_revoke {id}  lease_attach {id, path}
 *	lease_detach {path}              the lease, with its "files" and the first of their "paths"
 *	leases {after}                   "leases", paged as tags are
 *	check                            "problems", and the first of them "told"
 *	backup {dir}                     the newest "rev" in it
 *	progress {task}                  of a request that has that number as its "task": is it "running", at "what", "done"
 *
 *	purge {path, dry_run}            how many "files" and "names" go; the bytes wait for a reader: "waits"
 *
 * One that makes a revision takes its labels, "session" and "message".
 *
 * `watch` lists what was changed from revision `from` on (default: from the next one; a number may be still to come), oldest
 * first, one path after the other (ns_watch.h), at most `limit`; `path` as above. The reply has "changes", and the "from"
 * and "skip" to go on with; "more" says that asking at once gives more. So nothing is kept between requests;
 * when to ask again is told by @watch.
 *
 * `diff` lists what differs between the trees at `from` and `to` (defaults as above; either may be the newer one) below
 * `path`, in order of paths: "status" and "what" as in ns_diff.h, "path", "old_path" if it is another, and "old" and
 * "new", what stands there. Where there is more, ask again with the reply's "from", "to", and its "next" as `first`.
 *
 * `undo` takes back revision `rev`, or those `from` .. `to` (both included), or all of the session `of_session`;
 * without any, the newest change that stands. `redo` takes back the newest undo that stands. `restore` makes each path
 * of `paths`, a list of objects with "path", what it was at `rev`. Each is one revision, whose story gets `session` and
 * `message`; the reply has it as "rev", 0 if there was nothing to be done. If both sides changed the same nothing is
 * done, and the reply, which is ok, has "conflicts" instead of "entries": a "path" and a reason, "why", each. With
 * `dry_run` nothing is done either, and "entries" tells what would differ.
 */
#ifndef FS_QUERY_H
#define FS_QUERY_H

#include "mvcc/mvcc.h"

#define QUERY_REQUEST_MAX ((size_t)64 << 10)
#define QUERY_REPLY_BYTES ((size_t)1 << 20) /* entries are added until the reply is about this long */
#define QUERY_LIMIT_MAX 1000
#define QUERY_SCAN_MAX 50000

struct ns;

/* Who is asked, and who asks. Everything is borrowed. */
struct query_env {
	struct mvcc *db;
	struct ns *ns;
	const char *db_path;
	const char *mountpoint; /* NULL when not mounted */
	const char *revname;    /* what @rev is called there; NULL when there is none */
	int64_t started_ns;     /* wall clock */
	uint64_t nodes;         /* mounted: inodes the kernel knows */
	uint64_t parked;        /* mounted: requests put aside, since the mount, as the ring was full */
	unsigned pid;           /* of the process that has the database open */
	uid_t uid;              /* who asks */
	gid_t gid;
	unsigned asker;   /* its pid */
	const char *comm; /* the asker's program; may be NULL */
	uid_t owner;      /* of the mount: besides root, the only one who may */

	/*
	 * Called before a request changes the tree from the side, with no lock held: what programs have written through
	 * mappings is to come first, or it would overwrite the change later. NULL when not mounted.
	 */
	void (*write_back)(void *arg);

	/*
	 * Called after a request made a revision without the kernel knowing of it, before the reply, with no
	 * lock held. NULL when not mounted.
	 */
	void (*changed)(void *arg, mvcc_rev_t rev);

	/* The same after a purge, with the inodes that went, in order. May be NULL. */
	void (*purged)(void *arg, const uint64_t *inos, size_t n);
	void *changed_arg; /* of all */
};

/*
 * Appends the reply, its newline included, to `reply`. What is wrong with the request is in the reply,
 * too. Returns 0 or -ENOMEM, then with `reply` as it was.
 */
int query_answer(const struct query_env *env, struct slice request, struct buf *reply);

/*
 * The revision that `expr` means now: expr_rev(), by the clock on the wall.
 */
int query_rev(struct mvcc *db, struct slice expr, mvcc_rev_t *out);

/* The exit status of a program that ends with this code: 0, 1 not found, 2, 10, 11 or 13; see mvccctl(1). */
int query_exit(int err);

/* Is `path` `dir` or below it? Slashes at the front of either, and at the end of `dir`, do not count. */
bool query_path_below(struct slice path, struct slice dir);

#endif
