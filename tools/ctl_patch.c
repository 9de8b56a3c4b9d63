/*
 * Differences of content: diff(1) makes them, of the two files as they stood. What it is given are open files, through
 * /dev/fd; so nothing is copied but what is no file yet: the target of a link, or content of a database that is not
 * mounted. What is around it is in the form that patch(1) and git understand.
 */
#include "tools/ctl_diff.h"

#include "fs/json_bytes.h"
#include "fs/ns.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* One side of an entry. */
struct side {
	uint32_t mode; /* 0: not there */
	uint64_t size;
	char *path; /* from the root of the tree, "/a/b" */
	int fd;     /* its content, from the beginning; -1: it has none */
};

static void side_release(struct side *s)
{
	if (s->fd >= 0)
		close(s->fd);
	free(s->path);
	*s = (struct side){ .fd = -1 };
}

/* ---- content ---------------------------------------------------------------------------------------- */

static int write_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno != EINTR)
			return -errno;
		p += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int copy_stored(const struct ctl_at *at, int fd)
{
	enum { CHUNK = 256 << 10 };
	char *chunk = malloc(CHUNK);
	uint64_t off = 0;
	ssize_t n;
	int err = chunk ? 0 : -ENOMEM;

	while (!err && (n = ns_at_read(at->db, at->view, at->ino, off, chunk, CHUNK)) != 0) {
		err = n < 0 ? (int)n : write_all(fd, chunk, (size_t)n);
		off += n > 0 ? (uint64_t)n : 0;
	}
	free(chunk);
	return err;
}

static int copy_target(const struct ctl_at *at, int fd)
{
	struct buf target = { 0 };
	char text[4096];
	ssize_t n;
	int err = 0;

	if (at->fd >= 0) {
		n = readlinkat(at->fd, "", text, sizeof(text));
		return n < 0 ? -errno : write_all(fd, text, (size_t)n);
	}
	err = ns_at_readlink(at->view, at->ino, &target);
	if (!err)
		err = write_all(fd, target.data, target.len);
	buf_release(&target);
	return err;
}

/* Opens the content. 0, or the exit status. */
static int side_open(struct ctl *ctl, struct side *s, uint64_t rev)
{
	char expr[24];
	struct ctl_at at;
	int fd, err = 0, status;

	if (!S_ISREG(s->mode) && !S_ISLNK(s->mode))
		return 0;
	snprintf(expr, sizeof(expr), "%" PRIu64, rev);
	status = ctl_at_open(ctl, s->path, expr, &at);
	if (!status && at.fd >= 0 && S_ISREG(s->mode)) {
		status = ctl_at_reopen(&at, O_RDONLY, s->path, &fd);
		s->fd = status ? -1 : fd;
	} else if (!status) {
		s->fd = memfd_create("mvccctl", MFD_CLOEXEC);
		err = s->fd < 0 ? -errno : 0;
		if (!err)
			err = S_ISLNK(s->mode) ? copy_target(&at, s->fd) : copy_stored(&at, s->fd);
		if (err)
			status = ctl_complain_err(err, s->path);
	}
	ctl_at_close(&at);
	return status;
}

/* As git and diff judge: by a NUL near the beginning. */
static bool is_binary(const struct side *s)
{
	char head[8000];
	ssize_t n = s->fd >= 0 ? pread(s->fd, head, sizeof(head), 0) : 0;

	return n > 0 && memchr(head, 0, (size_t)n);
}

/* ---- names ------------------------------------------------------------------------------------------ */

static bool needs_quotes(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || (unsigned char)*s >= 0x7f || *s == '"' || *s == '\\')
			return true;
	return false;
}

/* "a/path" as patches name it: in quotes, with octal escapes, if it has odd bytes. */
static char *patch_name(const char *prefix, const char *path)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	if (!needs_quotes(path)) {
		fprintf(f, "%s%s", prefix, path);
	} else {
		fprintf(f, "\"%s", prefix);
		for (; *path; path++) {
			unsigned char c = (unsigned char)*path;

			if (c == '"' || c == '\\')
				fprintf(f, "\\%c", c);
			else if (c < 0x20 || c >= 0x7f)
				fprintf(f, "\\%03o", c);
			else
				putc(c, f);
		}
		putc('"', f);
	}
	if (fclose(f)) {
		free(text);
		return NULL;
	}
	return text;
}

/* ---- diff(1) ---------------------------------------------------------------------------------------- */

/* Starts diff with these arguments, the two files as 3 and 4, and stdout as `out`. 0, or the exit status. */
static int spawn_diff(const struct side *a, const struct side *b, char *const argv[], int out, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	/* High, so that one is not closed by putting the other in its place. */
	int fa = a->fd >= 0 ? fcntl(a->fd, F_DUPFD_CLOEXEC, 16) : open("/dev/null", O_RDONLY | O_CLOEXEC);
	int fb = b->fd >= 0 ? fcntl(b->fd, F_DUPFD_CLOEXEC, 16) : open("/dev/null", O_RDONLY | O_CLOEXEC);
	int err = fa < 0 || fb < 0 ? errno : posix_spawn_file_actions_init(&actions);

	if (!err) {
		posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
		posix_spawn_file_actions_adddup2(&actions, fb, 4);
		posix_spawn_file_actions_adddup2(&actions, fa, 3);
		err = posix_spawnp(pid, "diff", &actions, NULL, argv, environ);
		posix_spawn_file_actions_destroy(&actions);
	}
	if (fa >= 0)
		close(fa);
	if (fb >= 0)
		close(fb);
	return err ? ctl_complain(CTL_TROUBLE, "cannot run diff: %s", strerror(err)) : 0;
}

static int wait_diff(pid_t pid)
{
	int how;

	while (waitpid(pid, &how, 0) < 0)
		if (errno != EINTR)
			return ctl_complain(CTL_TROUBLE, "diff: %s", strerror(errno));
	if (WIFEXITED(how) && WEXITSTATUS(how) <= 1)
		return 0;
	if (WIFSIGNALED(how) && WTERMSIG(how) == SIGPIPE)
		return 0; /* nobody reads any more; our own next write tells */
	return ctl_complain(CTL_TROUBLE, WIFEXITED(how) && WEXITSTATUS(how) == 127 ?
						 "there is no diff to run" :
						 "diff failed");
}

/* ---- a patch ---------------------------------------------------------------------------------------- */

static void print_modes(const struct side *a, const struct side *b, bool moved)
{
	if (!a->mode)
		printf("new file mode %06o\n", b->mode);
	else if (!b->mode)
		printf("deleted file mode %06o\n", a->mode);
	else if (a->mode != b->mode)
		printf("old mode %06o\nnew mode %06o\n", a->mode, b->mode);
	if (moved) {
		char *from = patch_name("", a->path + 1), *to = patch_name("", b->path + 1);

		printf("rename from %s\nrename to %s\n", from ? from : "", to ? to : "");
		free(from);
		free(to);
	}
}

static int print_content(struct ctl_diff *d, const struct side *a, const struct side *b, char *name_a,
			 char *name_b)
{
	char label_a[] = "--label", label_b[] = "--label", null[] = "/dev/null";
	char *argv[] = { (char[]){ "diff" },
			 (char[]){ "-u" },
			 d->color ? (char[]){ "--color=always" } : (char[]){ "--color=never" },
			 label_a,
			 a->mode ? name_a : null,
			 label_b,
			 b->mode ? name_b : null,
			 (char[]){ "/dev/fd/3" },
			 (char[]){ "/dev/fd/4" },
			 NULL };
	int status = 0;
	pid_t pid = -1;

	if (is_binary(a) || is_binary(b)) {
		printf("Binary files %s and %s differ\n", argv[4], argv[6]);
		return 0;
	}
	if (!ctl_flush(&status))
		return status;
	status = spawn_diff(a, b, argv, STDOUT_FILENO, &pid);
	return status ? status : wait_diff(pid);
}

/* A patch knows files and links only. */
static bool has_content(uint32_t mode)
{
	return S_ISREG(mode) || S_ISLNK(mode);
}

static int print_patch(struct ctl_diff *d, struct side *a, struct side *b, bool content, bool moved)
{
	char *name_a = patch_name("a/", a->path + 1), *name_b = patch_name("b/", b->path + 1);
	int status = name_a && name_b ? 0 : ctl_complain_err(-ENOMEM, "diff");

	if (!status) {
		printf("%sdiff --git %s %s%s\n", d->color ? "\033[1m" : "", name_a, name_b,
		       d->color ? "\033[m" : "");
		print_modes(a, b, moved);
	}
	if (!status && content)
		status = side_open(d->ctl, a, d->from);
	if (!status && content)
		status = side_open(d->ctl, b, d->to);
	if (!status && content)
		status = print_content(d, a, b, name_a, name_b);
	free(name_a);
	free(name_b);
	return status;
}

/* ---- entries ---------------------------------------------------------------------------------------- */

/* A copy that ends with a NUL; NULL when out of memory. */
static char *path_text(struct json_object *entry, const char *key)
{
	struct buf path = { 0 };
	char *text = NULL;

	if (json_get_bytes(entry, key, &path) == -ENOENT)
		json_get_bytes(entry, "path", &path);
	if (buf_put_u8(&path, 0) == 0)
		text = strdup((const char *)path.data);
	buf_release(&path);
	return text;
}

static int side_of(struct json_object *entry, const char *key, const char *path_key, struct side *out)
{
	struct json_object *attr;

	*out = (struct side){ .fd = -1 };
	if (json_object_object_get_ex(entry, key, &attr)) {
		out->mode = (uint32_t)ctl_number(attr, "mode");
		out->size = ctl_number(attr, "size");
	}
	out->path = path_text(entry, path_key);
	return out->path ? 0 : ctl_complain_err(-ENOMEM, "diff");
}

static bool differs_in(struct json_object *entry, const char *word)
{
	size_t n;
	struct json_object *what = ctl_array(entry, "what", &n);

	for (size_t i = 0; i < n; i++)
		if (strcmp(json_object_get_string(json_object_array_get_idx(what, i)), word) == 0)
			return true;
	return false;
}

int ctl_patch_print(struct ctl_diff *d, struct json_object *entry)
{
	bool moved = json_object_object_get_ex(entry, "old_path", NULL); /* itself, or what it lies in */
	struct side a, b = { .fd = -1 };
	int status = side_of(entry, "old", "old_path", &a);

	if (!status)
		status = side_of(entry, "new", "path", &b);
	if (!status && a.mode && b.mode && (a.mode & S_IFMT) != (b.mode & S_IFMT)) {
		/* Another type: what was there goes, and the other comes. */
		struct side gone = { .path = a.path, .fd = -1 }, came = { .path = b.path, .fd = -1 };

		if (has_content(a.mode))
			status = print_patch(d, &a, &came, true, false);
		if (!status && has_content(b.mode))
			status = print_patch(d, &gone, &b, true, false);
	} else if (!status && has_content(a.mode ? a.mode : b.mode)) {
		bool content = !a.mode || !b.mode || differs_in(entry, "content");

		if (content || moved || a.mode != b.mode)
			status = print_patch(d, &a, &b, content, moved);
	}
	side_release(&a);
	side_release(&b);
	return status;
}

/* Counts the lines that diff -U0 begins with '+' and '-', but for its two of the head. */
static void count_lines(FILE *f, struct ctl_stat *out)
{
	char *line = NULL;
	size_t cap = 0, n = 0;

	while (getline(&line, &cap, f) >= 0) {
		out->removed += n >= 2 && line[0] == '-';
		out->added += n >= 2 && line[0] == '+';
		n++;
	}
	free(line);
}

static int count_content(const struct side *a, const struct side *b, struct ctl_stat *out)
{
	char *argv[] = { (char[]){ "diff" }, (char[]){ "-aU0" }, (char[]){ "/dev/fd/3" },
			 (char[]){ "/dev/fd/4" }, NULL };
	int ends[2], status;
	pid_t pid = -1;
	FILE *f;

	if (pipe2(ends, O_CLOEXEC))
		return ctl_complain(CTL_TROUBLE, "diff: %s", strerror(errno));
	status = spawn_diff(a, b, argv, ends[1], &pid);
	close(ends[1]);
	f = fdopen(ends[0], "r");
	if (!status && f)
		count_lines(f, out);
	if (f)
		fclose(f);
	else
		close(ends[0]);
	return status ? status : wait_diff(pid);
}

int ctl_patch_stat(struct ctl_diff *d, struct json_object *entry, struct ctl_stat *out)
{
	struct side a, b = { .fd = -1 };
	int status = side_of(entry, "old", "old_path", &a);

	*out = (struct ctl_stat){ 0 };
	if (!status)
		status = side_of(entry, "new", "path", &b);
	if (!status && (!a.mode || !b.mode || differs_in(entry, "content") || differs_in(entry, "type"))) {
		status = side_open(d->ctl, &a, d->from);
		if (!status)
			status = side_open(d->ctl, &b, d->to);
		out->binary = is_binary(&a) || is_binary(&b);
		if (out->binary) {
			out->removed = a.fd >= 0 ? a.size : 0;
			out->added = b.fd >= 0 ? b.size : 0;
		} else if (!status && (a.fd >= 0 || b.fd >= 0)) {
			status = count_content(&a, &b, out);
		}
	}
	side_release(&a);
	side_release(&b);
	return status;
}
