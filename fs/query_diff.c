/*
 * diff, undo, redo, restore: how revisions differ, and the way back.
 *
 * What an undo took back stands in its revision's message, "undo of 41..43", so that undo without an argument, and redo,
 * find what is to be done next in the log alone.
 */
#include "fs/query_int.h"

#include "fs/ns_revert.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define LOG_CHUNK 256         /* revisions read at a time, forward, to be looked at backward */
#define DIFF_LIMIT_MAX 100000 /* larger pages than others have, as each one finds out anew what was changed */
#define DIFF_REPLY_BYTES ((size_t)8 << 20)
#define PATHS_MAX ((size_t)1000) /* of one restore */

/* ---- entries of a diff ----------------------------------------------------------------------------- */

static int add_attr(struct json_object *o, const char *key, const struct ns_attr *attr)
{
	struct json_object *child = json_object_new_object();
	int err = child ? 0 : -ENOMEM;

	if (!attr) {
		json_object_put(child);
		return 0;
	}
	if (!err)
		err = ADD_FIGURES(child, ((const struct figure[]){
						 { "ino", attr->ino },
						 { "mode", attr->mode },
						 { "uid", attr->uid },
						 { "gid", attr->gid },
						 { "nlink", attr->nlink },
						 { "size", attr->size },
						 { "rdev", attr->rdev },
						 { "rev", attr->rev },
					 }));
	if (!err)
		err = json_add_i64(child, "mtime_ns", attr->mtime_ns);
	if (err) {
		json_object_put(child);
		return err;
	}
	return json_add(o, key, child);
}

static int add_what(struct json_object *o, unsigned what)
{
	static const char *const words[] = { "content", "mode", "owner", "xattr", "times", "type" };
	struct json_object *list = json_object_new_array();
	int err = list ? 0 : -ENOMEM;

	for (unsigned i = 0; !err && i < sizeof(words) / sizeof(words[0]); i++) {
		struct json_object *word = what & 1u << i ? json_object_new_string(words[i]) : NULL;

		if (what & 1u << i && (!word || json_object_array_add(list, word))) {
			json_object_put(word);
			err = -ENOMEM;
		}
	}
	if (err) {
		json_object_put(list);
		return err;
	}
	return json_add(o, "what", list);
}

static int entry_text(const struct ns_diff_entry *e, struct buf *out)
{
	const char status[2] = { e->status, 0 };
	struct json_object *o = json_object_new_object();
	int err = o ? json_add_str(o, "status", status) : -ENOMEM;

	if (!err)
		err = json_add_bytes(o, "path", e->path);
	if (!err && e->old_attr && e->new_attr && !slice_eq(e->path, e->old_path))
		err = json_add_bytes(o, "old_path", e->old_path);
	if (!err)
		err = add_what(o, e->what);
	if (!err)
		err = add_attr(o, "old", e->old_attr);
	if (!err)
		err = add_attr(o, "new", e->new_attr);
	if (!err)
		err = json_append(out, o);
	json_object_put(o);
	return err;
}

/* A page of entries. */
struct page {
	struct buf *reply;
	size_t start; /* of the array's first entry */
	uint64_t told, limit;
	bool more;
	uint64_t next;
};

/* 1 when the page is full: the entry is the first of the next one. */
static int page_add(void *arg, const struct ns_diff_entry *e)
{
	struct page *p = arg;
	int err = 0;

	if (p->told == p->limit || p->reply->len - p->start >= DIFF_REPLY_BYTES) {
		p->more = true;
		p->next = e->index;
		return 1;
	}
	if (p->told++)
		err = buf_put_u8(p->reply, ',');
	return err ? err : entry_text(e, p->reply);
}

/* ---- diff ------------------------------------------------------------------------------------------ */

struct diff_query {
	mvcc_rev_t from, to;
	uint64_t limit, first;
	struct buf path;
};

static int tell_diff(const struct query_env *env, const struct diff_query *q, struct buf *reply)
{
	struct page page = { .reply = reply, .limit = q->limit };
	int err = put_text(reply, "{\"ok\":true,\"from\":%" PRIu64 ",\"to\":%" PRIu64 ",\"entries\":[",
			   q->from, q->to);

	page.start = reply->len;
	if (!err)
		err = ns_diff(env->db, q->from, q->to, slice_buf(&q->path), (size_t)q->first, page_add,
			      &page);
	if (err < 0)
		return err;
	err = put_text(reply, "]");
	if (!err && page.more)
		err = put_text(reply, ",\"next\":%" PRIu64, page.next);
	return err ? err : put_text(reply, "}");
}

int answer_diff(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	const char *from = rev_member(req, "from"), *to = rev_member(req, "to");
	struct diff_query q = { .limit = DIFF_LIMIT_MAX };
	size_t mark = reply->len;
	int err;

	q.from = mvcc_floor(env->db);
	q.to = mvcc_current(env->db);
	err = from ? query_rev(env->db, slice_str(from), &q.from) : 0;
	if (err)
		return refuse_rev(env, reply, err, from);
	err = to ? query_rev(env->db, slice_str(to), &q.to) : 0;
	if (err)
		return refuse_rev(env, reply, err, to);
	err = number_member(req, "first", &q.first);
	if (err == -EINVAL)
		return refuse(reply, err, "first is the \"next\" of the reply before");
	err = number_member(req, "limit", &q.limit);
	if ((err && err != -ENOENT) || q.limit == 0 || q.limit > DIFF_LIMIT_MAX)
		return refuse(reply, -EINVAL, "limit is a number from 1 to %d", DIFF_LIMIT_MAX);
	err = json_get_bytes(req, "path", &q.path);
	if (err == -EINVAL)
		return refuse(reply, err, "path is text, or path_b64 is base64");
	if (!err || err == -ENOENT)
		err = tell_diff(env, &q, reply);
	if (err && err != -ENOMEM) {
		reply->len = mark;
		if (err == -ENOENT)
			err = refuse(reply, err, "there is nothing of that path at %" PRIu64 " or %" PRIu64,
				     q.from, q.to);
		else if (err == MVCC_ECOMPACTED)
			err = refuse(reply, err, "revision %" PRIu64 " or %" PRIu64 " was compacted away",
				     q.from, q.to);
		else
			err = refuse(reply, err, "the revisions cannot be compared: %s", mvcc_strerror(err));
	}
	buf_release(&q.path);
	return err;
}

/* ---- changes of the tree ----------------------------------------------------------------------------- */

/* One of undo, redo, restore: what it is told, and what it tells. */
struct change_query {
	const struct query_env *env;
	struct json_object *req;
	struct buf *reply;
	struct buf message, path;
	struct buf entries, conflicts;
	struct page page;
	uint64_t nconflicts;
};

static void change_release(struct change_query *q)
{
	buf_release(&q->message);
	buf_release(&q->path);
	buf_release(&q->entries);
	buf_release(&q->conflicts);
}

static void conflict_add(void *arg, struct slice path, const char *why)
{
	struct change_query *q = arg;
	struct json_object *o;
	size_t mark = q->conflicts.len;
	int err;

	q->nconflicts++;
	if (q->conflicts.len >= QUERY_REPLY_BYTES)
		return; /* the number tells of the others */
	o = json_object_new_object();
	err = o ? json_add_bytes(o, "path", path) : -ENOMEM;
	if (!err)
		err = json_add_str(o, "why", why);
	if (!err && q->conflicts.len)
		err = buf_put_u8(&q->conflicts, ',');
	if (!err)
		err = json_append(&q->conflicts, o);
	if (err)
		q->conflicts.len = mark;
	json_object_put(o);
}

/* "undo of 41..43", and what the user has to say. */
static int set_message(struct change_query *q, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int set_message(struct change_query *q, const char *fmt, ...)
{
	struct mvcc_story story;
	char text[1200];
	va_list ap;
	int err;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	query_story(q->env, q->req, "", slice_of(NULL, 0), &story);
	err = buf_copy(&q->message, slice_str(text));
	if (!err && story.message && *story.message) {
		err = buf_put(&q->message, ": ", 2);
		if (!err)
			err = buf_put_slice(&q->message, slice_str(story.message));
	}
	return err ? err : buf_put_u8(&q->message, 0);
}

static struct ns_revert revert_of(struct change_query *q, const char *op)
{
	struct ns_revert how = {
		.dry_run = flag_member(q->req, "dry_run"),
		.diff = page_add,
		.diff_arg = &q->page,
		.conflict = conflict_add,
		.conflict_arg = q,
	};

	query_story(q->env, q->req, op, slice_buf(&q->path), &how.story);
	how.story.message = (const char *)q->message.data;
	q->page = (struct page){ .reply = &q->entries, .limit = UINT64_MAX };
	return how;
}

/*
 * {"ok":true,"rev":R,"message":...}, R being 0 if nothing was changed; of a dry run with "entries", and "more" if there
 * are too many; of one refused with "conflicts", and how many there are.
 */
static int tell_change(struct change_query *q, int result, bool dry_run, mvcc_rev_t rev)
{
	struct json_object *o = json_object_new_object();
	struct buf head = { 0 };
	int err = o ? json_add_bool(o, "ok", true) : -ENOMEM;

	if (!err)
		err = json_add_u64(o, "rev", result ? 0 : rev);
	if (!err)
		err = json_add_str(o, "message", (const char *)q->message.data);
	if (!err && result)
		err = json_add_u64(o, "nconflicts", q->nconflicts);
	if (!err && dry_run)
		err = json_add_bool(o, "dry_run", true);
	if (!err && q->page.more)
		err = json_add_bool(o, "more", true);
	if (!err)
		err = json_append(&head, o);
	if (!err)
		err = buf_put(q->reply, head.data, head.len - 1); /* without the brace at its end */
	if (!err && result)
		err = put_text(q->reply, ",\"conflicts\":[");
	else if (!err)
		err = put_text(q->reply, ",\"entries\":[");
	if (!err)
		err = buf_put_slice(q->reply, slice_buf(result ? &q->conflicts : &q->entries));
	if (!err)
		err = put_text(q->reply, "]}");
	json_object_put(o);
	buf_release(&head);
	return err;
}

/* What came of it, told. */
static int answer_change(struct change_query *q, int result, bool dry_run, mvcc_rev_t rev)
{
	if (result < 0)
		return result;
	if (result == 0 && rev && !dry_run)
		query_changed(q->env, rev);
	return tell_change(q, result, dry_run, rev);
}

static int refuse_change(struct change_query *q, int err)
{
	switch (err) {
	case -ENOMEM:
		return err;
	case MVCC_ECOMPACTED:
		return refuse(q->reply, err,
			      "these revisions, or the one before, were compacted away; the oldest there is, "
			      "is %" PRIu64,
			      mvcc_floor(q->env->db));
	default:
		return refuse(q->reply, err, "nothing was changed: %s", mvcc_strerror(err));
	}
}

/* ---- the log, backward --------------------------------------------------------------------------------- */

struct range_list {
	struct ns_range *v;
	size_t n, cap;
};

static int range_add(struct range_list *list, mvcc_rev_t first, mvcc_rev_t last)
{
	if (list->n == list->cap) {
		size_t cap = list->cap ? 2 * list->cap : 16;
		struct ns_range *grown = realloc(list->v, cap * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		list->v = grown;
		list->cap = cap;
	}
	list->v[list->n++] = (struct ns_range){ first, last };
	return 0;
}

/* What is kept of a revision's story. */
struct told {
	mvcc_rev_t rev;
	bool undo, redo, wanted;
	struct slice undone; /* "41..43" of "undo of 41..43"; in `text` */
};

struct backward {
	struct mvcc *db;
	mvcc_rev_t floor;
	const char *session; /* NULL: any */
	struct told told[LOG_CHUNK];
	struct buf text;
};

static int note_story(struct backward *b, const struct mvcc_entry *e, struct told *out)
{
	static const char *const heads[] = { "undo of ", "redo of " };
	struct slice message = slice_str(e->story.message);
	const uint8_t *end;
	int err;

	*out = (struct told){ .rev = e->rev,
			      .undo = strcmp(e->story.op, "undo") == 0,
			      .redo = strcmp(e->story.op, "redo") == 0,
			      .wanted = !b->session || strcmp(e->story.session, b->session) == 0 };
	if (!out->undo && !out->redo)
		return 0;
	if (!slice_starts(message, slice_str(heads[out->redo])))
		return 0;
	message = slice_of(message.data + 8, message.len - 8);
	end = memchr(message.data, ':', message.len);
	if (end)
		message.len = (size_t)(end - message.data);
	err = buf_put_slice(&b->text, message);
	out->undone = slice_of(NULL, message.len); /* its place is known when all is in */
	return err;
}

/* Reads revisions `low` to `high`; how many. */
static int read_chunk(struct backward *b, mvcc_rev_t low, mvcc_rev_t high)
{
	const struct mvcc_entry *e;
	struct mvcc_log *log;
	size_t off = 0;
	int n = 0, err = mvcc_log_open(b->db, low, high, &log);

	buf_clear(&b->text);
	if (err)
		return err;
	while (n < LOG_CHUNK && (err = mvcc_log_next(log, &e)) > 0) {
		err = note_story(b, e, &b->told[n]);
		if (err)
			break;
		n++;
	}
	mvcc_log_close(log);
	for (int i = 0; i < n; i++) {
		b->told[i].undone.data = b->text.data + off;
		off += b->told[i].undone.len;
	}
	return err < 0 ? err : n;
}

/* Calls `fn` for each revision, the newest first, until it returns non-zero, and returns that. */
static int walk_back(struct backward *b, int (*fn)(void *arg, const struct told *t), void *arg)
{
	mvcc_rev_t high = mvcc_current(b->db);
	int err = 0;

	b->floor = mvcc_floor(b->db);
	while (!err && high > b->floor) {
		mvcc_rev_t low = high - b->floor <= LOG_CHUNK ? b->floor + 1 : high - LOG_CHUNK + 1;
		int n = read_chunk(b, low, high);

		if (n < 0)
			err = n;
		while (!err && n > 0)
			err = fn(arg, &b->told[--n]);
		high = low - 1;
	}
	buf_release(&b->text);
	return err;
}

/* Appends the ranges of "41..43,45"; of another text, as far as it is one. */
static int parse_undone(struct slice s, struct range_list *out)
{
	int err = 0;

	while (!err && s.len) {
		const uint8_t *comma = memchr(s.data, ',', s.len);
		struct slice part = slice_of(s.data, comma ? (size_t)(comma - s.data) : s.len), right = part;
		uint64_t first, last;

		for (size_t i = 0; i + 1 < part.len; i++)
			if (part.data[i] == '.' && part.data[i + 1] == '.') {
				right = slice_of(part.data + i + 2, part.len - i - 2);
				part.len = i;
				break;
			}
		if (!decimal(part, &first) || !decimal(right, &last))
			break;
		err = range_add(out, first, last);
		s = slice_of(right.data + right.len, s.len - (size_t)(right.data + right.len - s.data));
		if (s.len)
			s = slice_of(s.data + 1, s.len - 1);
	}
	return err;
}

/* ---- which revisions ----------------------------------------------------------------------------------- */

/* What is left to be undone, or to be done again, going back. */
struct search {
	struct range_list *undone; /* by a newer undo that stands; a redo undoes an undo */
	bool redo; /* wanted is the newest undo that stands, else the newest other change that does */
	mvcc_rev_t found;
};

static bool is_undone(const struct search *s, mvcc_rev_t rev)
{
	for (size_t i = 0; i < s->undone->n; i++)
		if (rev >= s->undone->v[i].first && rev <= s->undone->v[i].last)
			return true;
	return false;
}

static int search_step(void *arg, const struct told *t)
{
	struct search *s = arg;

	if (is_undone(s, t->rev))
		return 0;
	if (t->undo == s->redo && !(t->redo && s->redo)) {
		s->found = t->rev;
		return 1;
	}
	return t->undo || t->redo ? parse_undone(t->undone, s->undone) : 0;
}

/* 0 with the revision in `ranges`, or -ENOENT. Those in `skip` count as undone. */
static int find_next(const struct query_env *env, bool redo, const struct range_list *skip,
		     struct range_list *ranges)
{
	struct backward *b = calloc(1, sizeof(*b));
	struct range_list undone = { 0 };
	struct search s = { .undone = &undone, .redo = redo };
	int err = b ? 0 : -ENOMEM;

	for (size_t i = 0; !err && i < skip->n; i++)
		err = range_add(&undone, skip->v[i].first, skip->v[i].last);
	if (!err) {
		b->db = env->db;
		err = walk_back(b, search_step, &s);
	}
	free(b);
	free(undone.v);
	if (err < 0)
		return err;
	ranges->n = 0;
	return s.found ? range_add(ranges, s.found, s.found) : -ENOENT;
}

static int session_step(void *arg, const struct told *t)
{
	struct range_list *ranges = arg;

	if (!t->wanted)
		return 0;
	if (ranges->n && ranges->v[ranges->n - 1].first == t->rev + 1) {
		ranges->v[ranges->n - 1].first = t->rev;
		return 0;
	}
	return range_add(ranges, t->rev, t->rev);
}

static int find_session(const struct query_env *env, const char *session, struct range_list *ranges)
{
	struct backward *b = calloc(1, sizeof(*b));
	int err = b ? 0 : -ENOMEM;

	if (!err) {
		b->db = env->db;
		b->session = session;
		err = walk_back(b, session_step, ranges);
	}
	free(b);
	return err ? err : ranges->n ? 0 : -ENOENT;
}

/* "41..43,45", as far as there is room: oldest last. */
static void ranges_text(const struct range_list *ranges, char *out, size_t size)
{
	size_t len = 0;

	for (size_t i = 0; i < ranges->n && len + 48 < size; i++) {
		const struct ns_range *r = &ranges->v[i];

		len += (size_t)snprintf(out + len, size - len,
					r->first == r->last ? "%s%" PRIu64 : "%s%" PRIu64 "..%" PRIu64,
					i ? "," : "", r->first, r->last);
	}
}

/* The longest directory that both lie in, or the path itself if they are the same. */
static void common_path(struct buf *common, struct slice path)
{
	size_t n = 0, same = 0;

	while (n < common->len && n < path.len && common->data[n] == path.data[n]) {
		if (common->data[n] == '/')
			same = n;
		n++;
	}
	if (n == common->len && (n == path.len || path.data[n] == '/'))
		return;
	if (n == path.len && common->data[n] == '/')
		same = n;
	common->len = same;
}

/* The path that the story of an undo names: above all that its revisions name. */
static int find_path(const struct query_env *env, const struct range_list *ranges, struct buf *out)
{
	bool first = true;
	int err = 0;

	for (size_t i = 0; !err && i < ranges->n; i++) {
		const struct mvcc_entry *e;
		struct mvcc_log *log;

		err = mvcc_log_open(env->db, ranges->v[i].first, ranges->v[i].last, &log);
		if (err)
			return err;
		while ((err = mvcc_log_next(log, &e)) > 0) {
			if (first)
				err = buf_copy(out, e->story.path);
			else
				common_path(out, e->story.path);
			if (err < 0)
				break;
			if (e->story.path2.len)
				common_path(out, e->story.path2);
			first = false;
		}
		mvcc_log_close(log);
	}
	if (!err && !out->len)
		err = buf_put_u8(out, '/');
	return err;
}

/* ---- undo, redo ---------------------------------------------------------------------------------------- */

/* Undoes, and tells; or, if `nothing` is not NULL and nothing is left to be undone, only sets that. */
static int do_undo(struct change_query *q, const char *op, const struct range_list *ranges, bool *nothing)
{
	char text[1024];
	mvcc_rev_t rev = 0;
	struct ns_revert how;
	int err;

	if (ranges->v[0].last > mvcc_current(q->env->db))
		return refuse(q->reply, MVCC_EFUTURE,
			      "revision %" PRIu64 " does not exist yet; the newest is %" PRIu64,
			      ranges->v[0].last, mvcc_current(q->env->db));
	err = find_path(q->env, ranges, &q->path);
	ranges_text(ranges, text, sizeof(text));
	if (!err)
		err = set_message(q, "%s of %s", op, text);
	if (err)
		return refuse_change(q, err);
	how = revert_of(q, op);
	err = ns_undo(q->env->ns, ranges->v, ranges->n, &how, &rev);
	if (err == -EINVAL)
		return refuse(q->reply, err, "revision 1, the empty tree, cannot be undone");
	if (nothing && !err && !rev && !q->page.told) {
		*nothing = true;
		return 0;
	}
	return err < 0 ? refuse_change(q, err) : answer_change(q, err, how.dry_run, rev);
}

/* The revisions of a request: `rev`, or `from` and `to`, or `of_session`; else none. Refused: 1, with *res. */
static int ranges_of(struct change_query *q, struct range_list *out, int *res)
{
	const char *rev = rev_member(q->req, "rev"), *from = rev_member(q->req, "from"),
		   *to = rev_member(q->req, "to"), *session = rev_member(q->req, "of_session");
	struct mvcc *db = q->env->db;
	struct ns_range range = { 0, mvcc_current(db) };
	int err = 0;

	if (session) {
		err = find_session(q->env, session, out);
		if (err == -ENOENT) {
			*res = refuse(q->reply, err, "no revision has the session \"%s\"", session);
			return 1;
		}
		return err;
	}
	from = rev ? rev : from;
	to = rev ? rev : to;
	if (!from && to) {
		*res = refuse(q->reply, -EINVAL,
			      "from is missing: say which is the first revision to be undone");
		return 1;
	}
	if (!from)
		return 0;
	err = query_rev(db, slice_str(from), &range.first);
	if (!err && to) {
		from = to;
		err = query_rev(db, slice_str(to), &range.last);
	}
	if (err) {
		*res = refuse_rev(q->env, q->reply, err, from);
		return 1;
	}
	if (range.first > range.last) {
		*res = refuse(q->reply, -EINVAL,
			      "the range runs backwards: %" PRIu64 " is above %" PRIu64
			      "; say it the other way round",
			      range.first, range.last);
		return 1;
	}
	return range_add(out, range.first, range.last);
}

/* The newest change that stands; one that has left nothing to be undone is passed over. */
static int undo_newest(struct change_query *q, struct range_list *ranges)
{
	struct range_list skip = { 0 };
	bool nothing;
	int err, res = 0;

	do {
		nothing = false;
		err = find_next(q->env, false, &skip, ranges);
		if (!err)
			res = do_undo(q, "undo", ranges, &nothing);
		if (!err && nothing)
			err = range_add(&skip, ranges->v[0].first, ranges->v[0].last);
	} while (!err && nothing);
	free(skip.v);
	if (err == -ENOENT)
		return refuse(q->reply, err, "there is nothing to undo");
	return err ? refuse_change(q, err) : res;
}

int answer_undo(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	struct change_query q = { .env = env, .req = req, .reply = reply };
	struct range_list ranges = { 0 };
	size_t mark = reply->len;
	int res = 0, err = query_settle(env); /* what is being written is the newest change, perhaps */

	if (!err)
		err = ranges_of(&q, &ranges, &res);
	if (err < 0)
		res = refuse_change(&q, err);
	else if (!err)
		res = ranges.n ? do_undo(&q, "undo", &ranges, NULL) : undo_newest(&q, &ranges);
	if (res < 0)
		reply->len = mark;
	free(ranges.v);
	change_release(&q);
	return res;
}

int answer_redo(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	struct change_query q = { .env = env, .req = req, .reply = reply };
	struct range_list ranges = { 0 }, none = { 0 };
	size_t mark = reply->len;
	int res, err = query_settle(env);

	if (!err)
		err = find_next(env, true, &none, &ranges);

	if (err == -ENOENT)
		res = refuse(reply, err, "there is nothing to redo: no undo stands");
	else if (err)
		res = refuse_change(&q, err);
	else
		res = do_undo(&q, "redo", &ranges, NULL);
	if (res < 0)
		reply->len = mark;
	free(ranges.v);
	change_release(&q);
	return res;
}

/* ---- restore ------------------------------------------------------------------------------------------- */

/* The members "path" of the objects in "paths"; or the one "path" of the request itself. */
static int paths_of(struct json_object *req, struct buf *bufs, size_t *n)
{
	struct json_object *list;
	size_t len;
	int err = 0;

	if (!json_object_object_get_ex(req, "paths", &list)) {
		err = json_get_bytes(req, "path", &bufs[0]);
		*n = !err;
		return err == -ENOENT ? -EINVAL : err;
	}
	if (!json_object_is_type(list, json_type_array))
		return -EINVAL;
	len = json_object_array_length(list);
	if (len == 0 || len > PATHS_MAX)
		return -EINVAL;
	for (size_t i = 0; !err && i < len; i++) {
		struct json_object *o = json_object_array_get_idx(list, i);

		err = json_object_is_type(o, json_type_object) ? json_get_bytes(o, "path", &bufs[i]) :
								 -EINVAL;
		if (!err)
			*n = i + 1;
	}
	return err == -ENOENT ? -EINVAL : err;
}

/* Takes a path, as a user may write it, into that of the story. */
static int story_path(struct change_query *q, struct slice path, bool first)
{
	struct buf clean = { 0 };
	int err;

	while (path.len && path.data[0] == '/')
		path = slice_of(path.data + 1, path.len - 1);
	while (path.len && path.data[path.len - 1] == '/')
		path.len--;
	err = buf_put_u8(&clean, '/');
	if (!err)
		err = buf_put_slice(&clean, path);
	if (!err && first)
		err = buf_copy(&q->path, slice_buf(&clean));
	else if (!err)
		common_path(&q->path, slice_buf(&clean));
	buf_release(&clean);
	return err;
}

static int do_restore(struct change_query *q, mvcc_rev_t then, const struct buf *bufs, size_t n)
{
	struct slice *paths = calloc(n, sizeof(*paths));
	struct ns_revert how;
	mvcc_rev_t rev = 0;
	int err = paths ? 0 : -ENOMEM;

	for (size_t i = 0; !err && i < n; i++) {
		paths[i] = slice_buf(&bufs[i]);
		err = story_path(q, paths[i], i == 0);
	}
	if (!err && !q->path.len)
		err = buf_put_u8(&q->path, '/');
	if (!err)
		err = set_message(q, "restored from %" PRIu64, then);
	if (!err)
		err = query_settle(q->env);
	if (!err) {
		how = revert_of(q, "restore");
		err = ns_restore(q->env->ns, then, paths, n, &how, &rev);
		if (err == 0) {
			free(paths);
			return answer_change(q, 0, how.dry_run, rev);
		}
	}
	free(paths);
	if (err == -ENOENT)
		return refuse(q->reply, err, "a path is neither there now nor at revision %" PRIu64, then);
	if (err == -ENOTDIR)
		return refuse(q->reply, err, "what is above a path is no directory now: restore that");
	return refuse_change(q, err);
}

int answer_restore(const struct query_env *env, struct json_object *req, struct buf *reply)
{
	struct change_query q = { .env = env, .req = req, .reply = reply };
	struct buf *bufs = calloc(PATHS_MAX, sizeof(*bufs));
	const char *expr = rev_member(req, "rev");
	size_t n = 0, mark = reply->len;
	mvcc_rev_t then = 0;
	int res, err = bufs ? 0 : -ENOMEM;

	if (!err && expr)
		err = query_rev(env->db, slice_str(expr), &then);
	if (err == -ENOMEM) {
		res = err;
	} else if (!expr) {
		res = refuse(reply, -EINVAL, "rev is missing: say from which revision");
	} else if (err) {
		res = refuse_rev(env, reply, err, expr);
	} else {
		err = paths_of(req, bufs, &n);
		if (err == -ENOMEM)
			res = err;
		else if (err)
			res = refuse(reply, -EINVAL,
				     "paths is a list of 1 to %zu objects with path, or path_b64 in base64",
				     PATHS_MAX);
		else
			res = do_restore(&q, then, bufs, n);
	}
	if (res < 0)
		reply->len = mark;
	for (size_t i = 0; bufs && i < n; i++)
		buf_release(&bufs[i]);
	free(bufs);
	change_release(&q);
	return res;
}
