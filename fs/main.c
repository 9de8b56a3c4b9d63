/*
 * mvccfs: opens the engine, the store and the tree, mounts them, and goes to the background once the
 * mount answers.
 *
 * It forks before the database is opened, as RocksDB's threads do not survive a fork. The parent
 * waits for one byte, the exit status, from the child.
 */
#define FUSE_USE_VERSION 312

#include <fuse_opt.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "fs/mount.h"
#include "fs/past.h"
#include "rocks_backend/rocks.h"

/* Exit statuses; see mvccfs(8). */
enum { EXIT_USAGE = 1, EXIT_TROUBLE = 2, EXIT_NO_DB = 10, EXIT_LOCKED = 11, EXIT_COMPACTED = 13 };

struct options {
	char *db, *mountpoint;
	char *cache_bytes, *dirty_bytes, *ring_bytes, *revdir, *revname, *rev, *revperm;
	char *commit_ms_text, *commit_max_ms_text, *sync_ms_text;
	int foreground, debug, single_thread, help, version, verbose;
	char *fuse_options;

	/* Made of the strings above. */
	size_t cache, dirty, ring;
	unsigned commit_ms, commit_max_ms, sync_ms;
	enum mount_revdir revdir_mode;
};

/* What the process is, for the log and for the one who waits for it. */
static struct {
	atomic_bool to_syslog; /* set while other threads may log already */
	int ready_fd;          /* the parent waits at its other end; -1: nobody does */
} daemon_state = { .ready_fd = -1 };

static void log_text(void *arg, int priority, const char *text)
{
	(void)arg;
	if (daemon_state.to_syslog)
		syslog(priority, "%s", text);
	else if (priority <= LOG_INFO)
		fprintf(stderr, "mvccfs: %s\n", text);
}

__attribute__((format(printf, 1, 2))) static void complain(const char *format, ...)
{
	char text[4096];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	log_text(NULL, LOG_ERR, text);
}

/* ---- options ----------------------------------------------------------------------------------- */

#define OPTION(text, field)                              \
	{                                                \
		text, offsetof(struct options, field), 1 \
	}

enum { KEY_IGNORE = 1, MS_MAX = 86400000 };

/* FUSE_OPT_KEY() without its negated literal, of which clang warns in our code. */
#define IGNORED(text)                      \
	{                                  \
		text, UINT_MAX, KEY_IGNORE \
	}

static const struct fuse_opt option_spec[] = {
	OPTION("db=%s", db),
	OPTION("commit_ms=%s", commit_ms_text),
	OPTION("commit_max_ms=%s", commit_max_ms_text),
	OPTION("sync_ms=%s", sync_ms_text),
	OPTION("cache_bytes=%s", cache_bytes),
	OPTION("dirty_bytes=%s", dirty_bytes),
	OPTION("ring_bytes=%s", ring_bytes),
	OPTION("revdir=%s", revdir),
	OPTION("revname=%s", revname),
	OPTION("rev=%s", rev),
	OPTION("revperm=%s", revperm),
	OPTION("-f", foreground),
	OPTION("-d", debug),
	OPTION("debug", debug),
	OPTION("-s", single_thread),
	OPTION("-h", help),
	OPTION("--help", help),
	OPTION("-V", version),
	OPTION("--version", version),
	/* Words of fstab that are mount(8)'s business. */
	IGNORED("defaults"),
	IGNORED("auto"),
	IGNORED("noauto"),
	IGNORED("user"),
	IGNORED("nouser"),
	IGNORED("users"),
	IGNORED("owner"),
	IGNORED("group"),
	IGNORED("nofail"),
	IGNORED("_netdev"),
	IGNORED("rw"),
	/* Given by mount(8) to its helpers. */
	IGNORED("-n"),
	IGNORED("-v"),
	FUSE_OPT_END,
};

static int add_fuse_option(struct options *o, const char *text)
{
	return fuse_opt_add_opt_escaped(&o->fuse_options, text);
}

static int take_argument(void *data, const char *arg, int key, struct fuse_args *args)
{
	struct options *o = data;

	(void)args;
	if (key == KEY_IGNORE)
		return 0;
	if (key == FUSE_OPT_KEY_OPT) {
		if (arg[0] == '-') {
			fprintf(stderr, "mvccfs: unknown option '%s'; see mvccfs --help\n", arg);
			return -1;
		}
		if (strncmp(arg, "x-", 2) == 0 || strncmp(arg, "comment=", 8) == 0)
			return 0;
		return add_fuse_option(o, arg);
	}
	if (!o->db) {
		o->db = strdup(strncmp(arg, "mvccfs#", 7) == 0 ? arg + 7 : arg);
		return o->db ? 0 : -1;
	}
	if (!o->mountpoint) {
		o->mountpoint = strdup(arg);
		return o->mountpoint ? 0 : -1;
	}
	fprintf(stderr, "mvccfs: '%s' is one argument too many; see mvccfs --help\n", arg);
	return -1;
}

static void print_help(void)
{
	puts("usage: mvccfs [options] DB MOUNTPOINT\n"
	     "\n"
	     "Mounts the database DB (made if it does not exist) as a file system that keeps\n"
	     "every revision: MOUNTPOINT/@rev/N/... is the tree as it stood at revision N.\n"
	     "\n"
	     "    -o opt,[opt...]        mount options\n"
	     "    -f                     stay in the foreground, log to stderr\n"
	     "    -d   -o debug          the same, and print every request\n"
	     "    -s                     serve with one thread\n"
	     "    -h   --help            this text\n"
	     "    -V   --version         the version\n"
	     "\n"
	     "    -o db=DB               the database, instead of the first argument\n"
	     "    -o commit_ms=N         an open file is committed when not written for N ms (5000)\n"
	     "    -o commit_max_ms=N     and at the latest after N ms (300000)\n"
	     "    -o sync_ms=N           revisions reach the disk after at most N ms (1000)\n"
	     "    -o cache_bytes=N[KMG]  memory for caching the database (128M)\n"
	     "    -o dirty_bytes=N[KMG]  memory for data not committed yet (64M)\n"
	     "    -o ring_bytes=N[KMG]   the write-back ring, a power of two from 256K (16M)\n"
	     "    -o revdir=MODE         @rev: hidden (as it is), visible or disabled\n"
	     "    -o revname=NAME        another name for @rev\n"
	     "    -o rev=EXPR            mount a past revision, read-only: N, head~K, a tag, a time\n"
	     "    -o revperm=MODE        the past asks permissions: both (then's and today's), then\n"
	     "\n"
	     "and the options of FUSE: allow_other, ro, noexec, ...; see mvccfs(8).");
}

static int bad_option(const char *name, const char *value, const char *want)
{
	fprintf(stderr, "mvccfs: -o %s=%s: %s\n", name, value, want);
	return EXIT_USAGE;
}

/* "64M": false if it is no size. */
static bool parse_size(const char *text, size_t *out)
{
	static const char units[] = "KMGT";
	const char *unit;
	unsigned long long n;
	unsigned shift = 0;
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno)
		return false;
	if (*end) {
		unit = strchr(units, toupper((unsigned char)*end));
		if (!unit || end[1])
			return false;
		shift = 10 * (unsigned)(unit - units + 1);
	}
	if (n > SIZE_MAX >> shift)
		return false;
	*out = (size_t)(n << shift);
	return true;
}

/* Milliseconds, from one to a day. 0 if there is no text, or an exit status. */
static int check_ms(const char *name, const char *text, unsigned *out)
{
	size_t n = 0;

	if (!text)
		return 0;
	if (!parse_size(text, &n) || !isdigit((unsigned char)text[strlen(text) - 1]) || n < 1 || n > MS_MAX)
		return bad_option(name, text, "must be a number of milliseconds from 1 to 86400000");
	*out = (unsigned)n;
	return 0;
}

static int check_times(struct options *o)
{
	int status = check_ms("commit_ms", o->commit_ms_text, &o->commit_ms);

	if (!status)
		status = check_ms("commit_max_ms", o->commit_max_ms_text, &o->commit_max_ms);
	return status ? status : check_ms("sync_ms", o->sync_ms_text, &o->sync_ms);
}

static int check_options(struct options *o)
{
	if (o->cache_bytes && (!parse_size(o->cache_bytes, &o->cache) || o->cache < (size_t)1 << 20))
		return bad_option("cache_bytes", o->cache_bytes, "must be a size of at least 1M, as in 256M");
	if (o->dirty_bytes && (!parse_size(o->dirty_bytes, &o->dirty) || o->dirty < (size_t)1 << 20))
		return bad_option("dirty_bytes", o->dirty_bytes, "must be a size of at least 1M, as in 64M");
	if (o->ring_bytes && (!parse_size(o->ring_bytes, &o->ring) || o->ring < (size_t)256 << 10 ||
			      o->ring > (size_t)1 << 30 || o->ring & (o->ring - 1)))
		return bad_option("ring_bytes", o->ring_bytes,
				  "must be a power of two from 256K to 1G, as in 16M");
	if (!o->revdir || strcmp(o->revdir, "hidden") == 0)
		o->revdir_mode = REVDIR_HIDDEN;
	else if (strcmp(o->revdir, "visible") == 0)
		o->revdir_mode = REVDIR_VISIBLE;
	else if (strcmp(o->revdir, "disabled") == 0)
		o->revdir_mode = REVDIR_DISABLED;
	else
		return bad_option("revdir", o->revdir, "must be hidden, visible or disabled");
	if (o->revname &&
	    (o->revname[0] == '\0' || strchr(o->revname, '/') || strlen(o->revname) > NS_NAME_MAX ||
	     strcmp(o->revname, ".") == 0 || strcmp(o->revname, "..") == 0))
		return bad_option("revname", o->revname, "must be a name of 1 to 255 bytes without '/'");
	if (o->revperm && strcmp(o->revperm, "both") != 0 && strcmp(o->revperm, "then") != 0)
		return bad_option("revperm", o->revperm, "must be both or then");
	return 0;
}

/* An absolute path, also of something whose last part does not exist yet. NULL with errno set. */
static char *absolute(const char *path)
{
	char *full = realpath(path, NULL);
	char *copy, *slash, *dir, *out = NULL;

	if (full || errno != ENOENT)
		return full;
	copy = strdup(path);
	if (!copy)
		return NULL;
	for (size_t n = strlen(copy); n > 1 && copy[n - 1] == '/'; n--)
		copy[n - 1] = '\0';
	slash = strrchr(copy, '/');
	dir = realpath(!slash ? "." : slash == copy ? "/" : (*slash = '\0', copy), NULL);
	if (dir && asprintf(&out, "%s/%s", strcmp(dir, "/") == 0 ? "" : dir, slash ? slash + 1 : copy) < 0)
		out = NULL;
	free(dir);
	free(copy);
	return out;
}

static bool below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

static int check_paths(struct options *o)
{
	struct stat st;
	char *full;

	if (!o->db || !o->mountpoint) {
		fprintf(stderr, "mvccfs: %s is missing\nusage: mvccfs [options] DB MOUNTPOINT\n",
			o->db ? "the mount point" : "the database");
		return EXIT_USAGE;
	}
	full = absolute(o->db);
	if (!full) {
		fprintf(stderr, "mvccfs: %s: %s\n", o->db, strerror(errno));
		return EXIT_NO_DB;
	}
	free(o->db);
	o->db = full;
	if (strncmp(o->mountpoint, "/dev/fd/", 8) == 0)
		return 0; /* mounted already, by whoever started us */
	full = realpath(o->mountpoint, NULL);
	if (!full || stat(full, &st)) {
		fprintf(stderr, "mvccfs: %s: %s%s\n", o->mountpoint, strerror(errno),
			errno == ENOTCONN ? "; a daemon died there: umount it first" : "");
		free(full);
		return EXIT_USAGE;
	}
	free(o->mountpoint);
	o->mountpoint = full;
	if (!S_ISDIR(st.st_mode)) {
		fprintf(stderr, "mvccfs: %s is not a directory\n", full);
		return EXIT_USAGE;
	}
	if (below(full, o->db) || below(o->db, full)) {
		fprintf(stderr, "mvccfs: the mount point and the database lie in one another: %s, %s\n", full,
			o->db);
		return EXIT_USAGE;
	}
	return 0;
}

/* ---- opening, serving, closing ----------------------------------------------------------------- */

static int open_failure(const struct options *o, int err)
{
	char holder[512];
	unsigned format, known;

	switch (err) {
	case MVCC_ELOCKED:
		if (mvcc_lock_holder(o->db, holder, sizeof(holder)))
			snprintf(holder, sizeof(holder), "another process");
		complain("%s is in use by %s", o->db, holder);
		return EXIT_LOCKED;
	case MVCC_ENODB:
		complain("%s is not a database, and not empty: give the path of a database, of an empty "
			 "directory, "
			 "or of something that does not exist yet; nothing was touched",
			 o->db);
		return EXIT_NO_DB;
	case MVCC_EFORMAT:
		if (mvcc_dir_format(o->db, &format, &known))
			complain("%s has a format that cannot be read", o->db);
		else
			complain("%s has format %u; this mvccfs knows up to format %u: use a newer mvccfs",
				 o->db, format, known);
		return EXIT_TROUBLE;
	default:
		complain("%s cannot be opened: %s", o->db, mvcc_strerror(err));
		return EXIT_TROUBLE;
	}
}

/* Tells the parent, who answers the shell; from then on there is no terminal to talk to. */
static void ready(void *arg)
{
	char status = 0;
	int null;

	(void)arg;
	if (daemon_state.ready_fd < 0)
		return;
	null = open("/dev/null", O_RDWR);
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		if (null > STDERR_FILENO)
			close(null);
	}
	daemon_state.to_syslog = true;
	if (write(daemon_state.ready_fd, &status, 1) != 1)
		syslog(LOG_WARNING, "the process that started the daemon is gone");
	close(daemon_state.ready_fd);
	daemon_state.ready_fd = -1;
}

static struct mount_news news = MOUNT_NEWS_INIT;

static int serve(struct options *o, struct mvcc *db)
{
	struct ns_options ns_options = {
		.commit_ms = o->commit_ms,
		.commit_max_ms = o->commit_max_ms,
		.dirty_bytes = o->dirty,
		.log = log_text,
	};
	struct mount_config config = {
		.db = db,
		.news = &news,
		.program = "mvccfs",
		.db_path = o->db,
		.mountpoint = o->mountpoint,
		.fuse_options = o->fuse_options ? o->fuse_options : "",
		.revname = o->revname ? o->revname : "@rev",
		.revdir = o->revdir_mode,
		.revperm_both = !o->revperm || strcmp(o->revperm, "both") == 0,
		.debug = o->debug,
		.single_thread = o->single_thread,
		.ready = ready,
		.log = log_text,
	};
	bool moving;
	int err, close_err;

	if (o->rev) {
		err = past_resolve(db, slice_str(o->rev), &config.root_rev, &moving);
		if (err) {
			complain("-o rev=%s: %s; the newest revision is %llu", o->rev,
				 err == -ENOENT ? "no such revision" : mvcc_strerror(err),
				 (unsigned long long)mvcc_current(db));
			return err == MVCC_ECOMPACTED ? EXIT_COMPACTED : EXIT_USAGE;
		}
	}
	err = ns_open(db, &ns_options, &config.ns);
	if (err) {
		complain("%s: the tree cannot be opened: %s", o->db, mvcc_strerror(err));
		return EXIT_TROUBLE;
	}
	err = mount_serve(&config);
	if (err)
		complain("%s: mounting or serving failed: %s", o->mountpoint, mvcc_strerror(err));
	close_err = ns_close(config.ns);
	if (close_err)
		complain("%s: files were still open and could not be committed: %s", o->db,
			 mvcc_strerror(close_err));
	return err || close_err ? EXIT_TROUBLE : 0;
}

static int run(struct options *o)
{
	struct rocks_options rocks = { .cache_bytes = o->cache, .log = log_text };
	struct mvcc_options options = {
		.dir = o->db,
		.engine = rocks_provider(&rocks),
		.holder = o->mountpoint,
		.ring_bytes = o->ring,
		.sync_ms = o->sync_ms,
		.create = true,
		.init = ns_init,
		.committed = mount_committed,
		.committed_arg = &news,
		.log = log_text,
	};
	struct mvcc *db;
	int err, status;

	mount_block_signals(); /* before there are threads, which inherit it */
	err = mvcc_open(&options, &db);
	if (err)
		return open_failure(o, err);
	status = serve(o, db);
	err = mvcc_close(db);
	if (err) {
		complain("%s: closing failed: %s; the next mount replays what is not in its place yet", o->db,
			 mvcc_strerror(err));
		status = EXIT_TROUBLE;
	}
	return status;
}

/* In the parent: waits for the child's word, and sees for itself that the mount answers. */
static int wait_for_child(pid_t pid, int fd, const char *mountpoint)
{
	char status = EXIT_TROUBLE;
	struct statvfs st;
	ssize_t n;

	do
		n = read(fd, &status, 1);
	while (n < 0 && errno == EINTR);
	if (n != 1) {
		int wait_status;

		if (waitpid(pid, &wait_status, 0) == pid && WIFEXITED(wait_status) &&
		    WEXITSTATUS(wait_status))
			return WEXITSTATUS(wait_status);
		return EXIT_TROUBLE;
	}
	if (strncmp(mountpoint, "/dev/fd/", 8) != 0 && statvfs(mountpoint, &st)) {
		complain("%s: mounted, but does not answer: %s", mountpoint, strerror(errno));
		return EXIT_TROUBLE;
	}
	return 0;
}

static int run_in_background(struct options *o)
{
	int fds[2], status;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC)) {
		complain("pipe: %s", strerror(errno));
		return EXIT_TROUBLE;
	}
	pid = fork();
	if (pid < 0) {
		complain("fork: %s", strerror(errno));
		return EXIT_TROUBLE;
	}
	if (pid > 0) {
		close(fds[1]);
		return wait_for_child(pid, fds[0], o->mountpoint);
	}
	close(fds[0]);
	setsid();
	if (chdir("/"))
		complain("chdir /: %s", strerror(errno));
	daemon_state.ready_fd = fds[1];
	openlog("mvccfs", LOG_PID, LOG_DAEMON);
	status = run(o);
	if (daemon_state.ready_fd >= 0)
		close(daemon_state.ready_fd);
	return status;
}

static void options_release(struct options *o)
{
	free(o->db);
	free(o->mountpoint);
	free(o->cache_bytes);
	free(o->dirty_bytes);
	free(o->ring_bytes);
	free(o->commit_ms_text);
	free(o->commit_max_ms_text);
	free(o->sync_ms_text);
	free(o->revdir);
	free(o->revname);
	free(o->rev);
	free(o->revperm);
	free(o->fuse_options);
}

int main(int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(argc, argv);
	struct options o = { 0 };
	int status = EXIT_USAGE;

	if (fuse_opt_parse(&args, &o, option_spec, take_argument) == 0) {
		if (o.help) {
			print_help();
			status = 0;
		} else if (o.version) {
			puts("mvccfs " MVCCFS_VERSION);
			status = 0;
		} else {
			status = check_options(&o);
			if (!status)
				status = check_times(&o);
			if (!status)
				status = check_paths(&o);
			if (!status)
				status = o.foreground || o.debug ? run(&o) : run_in_background(&o);
		}
	}
	options_release(&o);
	fuse_opt_free_args(&args);
	return status;
}
