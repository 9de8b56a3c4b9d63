/* diff and show: what differs between revisions, and what one of them did. */
#include "tools/ctl_diff.h"

#include "fs/json_bytes.h"
#include "fs/query.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* ---- colours --------------------------------------------------------------------------------------- */

bool ctl_want_color(void)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && !(no && *no) && term && strcmp(term, "dumb") != 0;
}

static const char *color_of(const struct ctl_diff *d, char status)
{
	if (!d->color)
		return "";
	switch (status) {
	case 'A':
		return "\033[32m";
	case 'D':
		return "\033[31m";
	case 'R':
		return "\033[36m";
	default:
		return "\033[33m";
	}
}

static const char *color_end(const struct ctl_diff *d)
{
	return d->color ? "\033[m" : "";
}

/* ---- one entry a line ------------------------------------------------------------------------------- */

static void print_summary(const struct ctl_diff *d, struct json_object *o, char status)
{
	struct json_object *what;
	size_t n;

	printf("%s%c%s  ", color_of(d, status), status, color_end(d));
	if (ctl_print_bytes(o, "old_path"))
		fputs(" -> ", stdout);
	ctl_print_bytes(o, "path");
	what = ctl_array(o, "what", &n);
	/* That a changed file has other times goes without saying. */
	if (n > 1 || (n == 1 && status != 'M')) {
		bool any = false;

		for (size_t i = 0; i < n; i++) {
			const char *word = json_object_get_string(json_object_array_get_idx(what, i));

			if (status == 'M' && strcmp(word, "times") == 0)
				continue;
			printf("%s%s", any ? ", " : "  (", word);
			any = true;
		}
		if (any)
			putchar(')');
	}
	putchar('\n');
}

/* Letter, tab, path; of what has another path now, both. With -z, each ended by a NUL, as they are. */
static void print_name_status(const struct ctl_diff *d, struct json_object *o, char status)
{
	struct json_object *old;
	bool moved = json_object_object_get_ex(o, "old_path", &old);

	if (d->ctl->nul) {
		printf("%c%c", status, 0);
		if (moved)
			ctl_print_nul(o, "old_path");
		ctl_print_nul(o, "path");
		return;
	}
	printf("%s%c%s\t", color_of(d, status), status, color_end(d));
	if (moved) {
		ctl_print_bytes(o, "old_path");
		putchar('\t');
	}
	ctl_print_bytes(o, "path");
	putchar('\n');
}

/* ---- a table of them -------------------------------------------------------------------------------- */

struct ctl_stat_line {
	char *name; /* as it is printed */
	struct ctl_stat stat;
	size_t width; /* of the name, in characters */
};

/* The name as it is printed: "path", or "old -> path". */
static char *stat_name(struct json_object *o)
{
	struct buf bytes = { 0 };
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	if (json_get_bytes(o, "old_path", &bytes) == 0) {
		ctl_print_escaped(f, slice_buf(&bytes));
		fputs(" -> ", f);
	}
	if (json_get_bytes(o, "path", &bytes) == 0)
		ctl_print_escaped(f, slice_buf(&bytes));
	buf_release(&bytes);
	if (fclose(f)) {
		free(text);
		return NULL;
	}
	return text;
}

static size_t text_width(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += (*s & 0xc0) != 0x80;
	return n;
}

static int note_stat(struct ctl_diff *d, struct json_object *o)
{
	struct ctl_stat_line line = { 0 };
	int status = ctl_patch_stat(d, o, &line.stat);

	if (status)
		return status;
	if (d->nstat == d->stat_cap) {
		size_t cap = d->stat_cap ? 2 * d->stat_cap : 64;
		struct ctl_stat_line *grown = realloc(d->stat, cap * sizeof(*grown));

		if (!grown)
			return ctl_complain_err(-ENOMEM, "diff");
		d->stat = grown;
		d->stat_cap = cap;
	}
	line.name = stat_name(o);
	if (!line.name)
		return ctl_complain_err(-ENOMEM, "diff");
	line.width = text_width(line.name);
	d->stat[d->nstat++] = line;
	return 0;
}

static unsigned terminal_width(void)
{
	struct winsize size;

	if (isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 30)
		return size.ws_col;
	return 80;
}

static void print_bar(const struct ctl_diff *d, char c, uint64_t n)
{
	fputs(n ? color_of(d, c == '+' ? 'A' : 'D') : "", stdout);
	for (uint64_t i = 0; i < n; i++)
		putchar(c);
	fputs(n ? color_end(d) : "", stdout);
}

/* So many of `width` as `n` is of `max`, but one at least if it is not 0. */
static uint64_t scale(uint64_t n, uint64_t max, uint64_t width)
{
	if (max <= width)
		return n;
	return n ? 1 + (uint64_t)((double)(n - 1) * (double)(width - 1) / (double)max) : 0;
}

static void print_stat(const struct ctl_diff *d)
{
	uint64_t added = 0, removed = 0, max = 0;
	size_t name_width = 0;
	unsigned columns = terminal_width();
	int digits;

	for (size_t i = 0; i < d->nstat; i++) {
		const struct ctl_stat_line *l = &d->stat[i];

		name_width = l->width > name_width ? l->width : name_width;
		if (l->stat.binary)
			continue;
		added += l->stat.added;
		removed += l->stat.removed;
		max = l->stat.added + l->stat.removed > max ? l->stat.added + l->stat.removed : max;
	}
	digits = snprintf(NULL, 0, "%" PRIu64, max);
	for (size_t i = 0; i < d->nstat; i++) {
		const struct ctl_stat_line *l = &d->stat[i];
		size_t used = name_width + (size_t)digits + 5;
		uint64_t room = columns > used + 10 ? columns - used : 10;

		printf(" %s%*s | ", l->name, (int)(name_width - l->width), "");
		if (l->stat.binary) {
			printf("Bin %" PRIu64 " -> %" PRIu64 " bytes\n", l->stat.removed, l->stat.added);
			continue;
		}
		printf("%*" PRIu64 "%s", digits, l->stat.added + l->stat.removed,
		       l->stat.added + l->stat.removed ? " " : "");
		print_bar(d, '+', scale(l->stat.added, max, room));
		print_bar(d, '-', scale(l->stat.removed, max, room));
		putchar('\n');
	}
	if (d->nstat)
		printf(" %zu %s changed, %" PRIu64 " line%s added, %" PRIu64 " removed\n", d->nstat,
		       d->nstat == 1 ? "path" : "paths", added, added == 1 ? "" : "s", removed);
}

/* ---- entries ----------------------------------------------------------------------------------------- */

int ctl_diff_entry(struct ctl_diff *d, struct json_object *o)
{
	const char *status = ctl_text(o, "status");
	char letter = status && *status ? *status : '?';

	d->told++;
	if (d->ctl->json)
		return ctl_print_json(o);
	if (d->form == CTL_DIFF_STAT)
		return note_stat(d, o);
	if (d->form == CTL_DIFF_PATCH)
		return ctl_patch_print(d, o);
	if (d->form == CTL_DIFF_NAME_STATUS)
		print_name_status(d, o, letter);
	else if (d->ctl->nul)
		ctl_print_nul(o, "path");
	else
		print_summary(d, o, letter);
	return 0;
}

int ctl_diff_end(struct ctl_diff *d, int status)
{
	if (!status && d->form == CTL_DIFF_STAT)
		print_stat(d);
	for (size_t i = 0; i < d->nstat; i++)
		free(d->stat[i].name);
	free(d->stat);
	d->stat = NULL;
	d->nstat = 0;
	return status;
}

static int ask_page(struct ctl_diff *d, const char *path, const char *from, const char *to, uint64_t first,
		    struct json_object **reply)
{
	struct json_object *req = ctl_request("diff");
	int err = 0;

	if (!req)
		return CTL_TROUBLE;
	if (path)
		err = json_add_bytes(req, "path", slice_str(path));
	if (!err && from && *from)
		err = json_add_bytes(req, "from", slice_str(from));
	if (!err && to && *to)
		err = json_add_bytes(req, "to", slice_str(to));
	if (!err && first)
		err = json_add_u64(req, "first", first);
	return ctl_ask_filled(d->ctl, req, err, reply);
}

int ctl_diff_ask(struct ctl_diff *d, const char *path, const char *from, const char *to)
{
	char from_text[24], to_text[24];
	uint64_t next = 0;
	int status;

	do {
		struct json_object *reply, *entries;
		size_t n;

		status = ask_page(d, path, from, to, next, &reply);
		if (status)
			break;
		d->from = ctl_number(reply, "from");
		d->to = ctl_number(reply, "to");
		snprintf(from_text, sizeof(from_text), "%" PRIu64,
			 d->from); /* "head" may mean another by now */
		snprintf(to_text, sizeof(to_text), "%" PRIu64, d->to);
		from = from_text;
		to = to_text;
		entries = ctl_array(reply, "entries", &n);
		for (size_t i = 0; !status && i < n; i++)
			status = ctl_diff_entry(d, json_object_array_get_idx(entries, i));
		next = ctl_number(reply, "next");
		json_object_put(reply);
	} while (!status && next && ctl_flush(&status));
	return status;
}

/* ---- diff ------------------------------------------------------------------------------------------- */

enum { OPT_STAT = 256, OPT_NAME_STATUS };

static const struct option form_options[] = { { "patch", no_argument, NULL, 'p' },
					      { "stat", no_argument, NULL, OPT_STAT },
					      { "name-status", no_argument, NULL, OPT_NAME_STATUS },
					      CTL_LONG_OPTIONS };

static bool take_form(int opt, enum ctl_diff_form *form)
{
	switch (opt) {
	case 'p':
		*form = CTL_DIFF_PATCH;
		return true;
	case OPT_STAT:
		*form = CTL_DIFF_STAT;
		return true;
	case OPT_NAME_STATUS:
		*form = CTL_DIFF_NAME_STATUS;
		return true;
	default:
		return false;
	}
}

static int run_diff_args(struct ctl *ctl, enum ctl_diff_form form, int argc, char **argv)
{
	struct ctl_diff d = { .ctl = ctl, .form = form, .color = ctl_want_color() };
	struct slice from = { 0 }, to = { 0 };
	char *from_text = NULL, *to_text = NULL, *path = NULL;
	const char *arg = NULL;
	bool ranged = false;
	int status;

	for (int i = 0; i < argc; i++) {
		if (!ranged && ctl_parse_range(argv[i], &from, &to))
			ranged = true;
		else if (!arg)
			arg = argv[i];
		else
			return ctl_usage(&ctl_diff);
	}
	if (!ranged)
		return ctl_usage(&ctl_diff);
	from_text = strndup(from.len ? (const char *)from.data : "", from.len);
	to_text = strndup(to.len ? (const char *)to.data : "", to.len);
	status = from_text && to_text ? ctl_open(ctl, arg) : ctl_complain_err(-ENOMEM, "diff");
	if (!status && arg)
		status = ctl_tree_path(ctl, arg, &path);
	if (!status)
		status = ctl_diff_ask(&d, path, from_text, to_text);
	status = ctl_diff_end(&d, status);
	ctl_close(ctl);
	free(path);
	free(from_text);
	free(to_text);
	/* What is not there is trouble, as 1 means that something differs. */
	return status == CTL_NOT_FOUND ? CTL_TROUBLE : status ? status : d.told ? CTL_NOT_FOUND : CTL_OK;
}

static int run_diff(struct ctl *ctl, int argc, char **argv)
{
	enum ctl_diff_form form = CTL_DIFF_SUMMARY;
	int opt, status;

	while ((opt = getopt_long(argc, argv, "p" CTL_SHORT_OPTIONS, form_options, NULL)) != -1)
		if (!take_form(opt, &form) && !ctl_option(ctl, &ctl_diff, opt, &status))
			return status;
	if ((ctl->json || ctl->nul) && (form == CTL_DIFF_PATCH || form == CTL_DIFF_STAT))
		return ctl_complain(CTL_TROUBLE, "--json and -z do not go with -p and --stat");
	return run_diff_args(ctl, form, argc - optind, argv + optind);
}

const struct ctl_verb ctl_diff = {
	.name = "diff",
	.synopsis = "[-p | --stat | --name-status] [--json | -z] A..B [PATH]",
	.summary = "what differs between two revisions",
	.help = "Lists the paths that differ, A being the old state and B the new one; A.. is up to the "
		"newest\n"
		"revision. Each is a number, head, head~3, a tag or a time; see mvccfs(7). A letter says "
		"how:\n"
		"  A added     D deleted     M content changed     T of another type now\n"
		"  R moved     P only its mode, owner, xattrs or times changed\n\n"
		"  PATH             only what lies there, or lay there\n"
		"  -p, --patch      the changes of content as diff(1) shows them, for patch -p1 or git "
		"apply\n"
		"      --stat       how many lines were added and removed\n"
		"      --name-status\n"
		"                   letter, tab, path; with -z each ended by a NUL\n"
		"  --json           one JSON object a line\n"
		"  -z, --null       only the paths, each ended by a NUL\n\n"
		"Exit status: 0 nothing differs, 1 something does, 2 trouble, 13 compacted.\n",
	.run = run_diff,
};

/* ---- show ------------------------------------------------------------------------------------------- */

static void print_text(struct json_object *o, const char *label, const char *key)
{
	struct json_object *member;

	if (!json_object_object_get_ex(o, key, &member))
		return;
	printf("%-9s", label);
	ctl_print_bytes(o, key);
	putchar('\n');
}

static void print_story(const struct ctl_diff *d, struct json_object *o)
{
	char time[64];

	ctl_format_time((int64_t)ctl_number(o, "time_ns"), time);
	printf("%srevision %" PRIu64 "%s\n", color_of(d, 'M'), ctl_number(o, "rev"), color_end(d));
	printf("time     %s\n", time);
	printf("user     %s, process %" PRIu64, ctl_user_name((uint32_t)ctl_number(o, "uid")),
	       ctl_number(o, "pid"));
	if (ctl_text(o, "comm") && *ctl_text(o, "comm")) {
		fputs(" (", stdout);
		ctl_print_bytes(o, "comm");
		putchar(')');
	}
	putchar('\n');
	print_text(o, "did", "op");
	print_text(o, "path", "path");
	print_text(o, "and", "path2");
	print_text(o, "session", "session");
	print_text(o, "message", "message");
	putchar('\n');
}

/* The story of one revision. Its number, as a text may mean another one in a moment, is d->to. */
static int tell_story(struct ctl_diff *d, const char *expr)
{
	struct json_object *req = ctl_request("log"), *reply, *entries, *o;
	size_t n;
	int status, err = req ? json_add_bytes(req, "from", slice_str(expr)) : 0;

	if (!req)
		return CTL_TROUBLE;
	if (!err)
		err = json_add_bytes(req, "to", slice_str(expr));
	status = ctl_ask_filled(d->ctl, req, err, &reply);
	if (status)
		return status;
	entries = ctl_array(reply, "entries", &n);
	if (n != 1) {
		json_object_put(reply);
		return ctl_complain(CTL_TROUBLE, "the reply has no entry");
	}
	o = json_object_array_get_idx(entries, 0);
	d->to = ctl_number(o, "rev");
	if (d->ctl->json)
		status = ctl_print_json(o);
	else if (!d->ctl->nul)
		print_story(d, o);
	json_object_put(reply);
	return status;
}

static int run_show_args(struct ctl *ctl, enum ctl_diff_form form, const char *expr)
{
	struct ctl_diff d = { .ctl = ctl, .form = form, .color = ctl_want_color() };
	char from[24], to[24];
	int status = ctl_open(ctl, NULL);

	if (!status)
		status = tell_story(&d, expr);
	if (!status && d.to > MVCC_REV_FIRST) {
		snprintf(from, sizeof(from), "%" PRIu64, d.to - 1);
		snprintf(to, sizeof(to), "%" PRIu64, d.to);
		status = ctl_diff_ask(&d, NULL, from, to);
	}
	status = ctl_diff_end(&d, status);
	ctl_close(ctl);
	return status;
}

static int run_show(struct ctl *ctl, int argc, char **argv)
{
	enum ctl_diff_form form = CTL_DIFF_SUMMARY;
	int opt, status;

	while ((opt = getopt_long(argc, argv, "p" CTL_SHORT_OPTIONS, form_options, NULL)) != -1)
		if (!take_form(opt, &form) && !ctl_option(ctl, &ctl_show, opt, &status))
			return status;
	if ((ctl->json || ctl->nul) && (form == CTL_DIFF_PATCH || form == CTL_DIFF_STAT))
		return ctl_complain(CTL_TROUBLE, "--json and -z do not go with -p and --stat");
	if (argc - optind > 1)
		return ctl_usage(&ctl_show);
	return run_show_args(ctl, form, optind < argc ? argv[optind] : "head");
}

const struct ctl_verb ctl_show = {
	.name = "show",
	.synopsis = "[-p | --stat | --name-status] [--json | -z] [N]",
	.summary = "one revision: who made it, and what it changed",
	.help = "Tells when, by whom and how revision N (the newest, if it is left out) was made, and what "
		"it\n"
		"changed; see diff.\n\n"
		"  -p, --stat, --name-status, -z\n"
		"           as for diff\n"
		"  --json   one JSON object a line: the revision, then what it changed\n",
	.run = run_show,
};
