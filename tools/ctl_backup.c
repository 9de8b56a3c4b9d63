/* backup, restore-db: copies of a whole database. */
#include "tools/ctl.h"

#include "fs/json_bytes.h"
#include "fs/query.h"
#include "mvcc/check.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <unistd.h>

/* `arg` made absolute: a daemon stands elsewhere. NULL: no memory, or no working directory. */
static char *absolute(const char *arg)
{
	char *cwd, *out = NULL;

	if (arg[0] == '/')
		return strdup(arg);
	cwd = getcwd(NULL, 0);
	if (!cwd || asprintf(&out, "%s/%s", cwd, arg) < 0)
		out = NULL;
	free(cwd);
	return out;
}

/* "DIR/" means DIR. */
static void trim_end(char *path)
{
	for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
		path[n - 1] = 0;
}

static int ask_backup(struct ctl *ctl, const char *dir)
{
	struct json_object *req = ctl_request("backup"), *reply;
	int err = req ? json_add_bytes(req, "dir", slice_str(dir)) : 0;
	int status = req ? ctl_ask_long(ctl, req, err, &reply) : CTL_TROUBLE;

	if (status)
		return status;
	if (ctl->json)
		status = ctl_print_json(reply);
	else
		printf("revision %" PRIu64 "\n", ctl_number(reply, "rev"));
	json_object_put(reply);
	return status;
}

static int run_backup(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { CTL_LONG_OPTIONS };
	int opt, status;
	char *dir;

	while ((opt = getopt_long(argc, argv, CTL_SHORT_OPTIONS, options, NULL)) != -1)
		if (!ctl_option(ctl, &ctl_backup, opt, &status))
			return status;
	if (optind + 1 != argc || ctl->nul || !*argv[optind])
		return ctl_usage(&ctl_backup);
	dir = absolute(argv[optind]);
	if (!dir)
		return ctl_complain_err(-errno, argv[optind]);
	trim_end(dir);
	status = ctl_open(ctl, NULL);
	if (!status)
		status = ask_backup(ctl, dir);
	ctl_close(ctl);
	free(dir);
	return status;
}

const struct ctl_verb ctl_backup = {
	.name = "backup",
	.synopsis = "[--json] DIR",
	.summary = "copy the database while it is in use",
	.help = "Makes the new directory DIR, a database with all history up to now, and prints its newest\n"
		"revision. On the filesystem of the database it costs little time and space. What is "
		"written\n"
		"but not yet closed is not in it. See restore-db.\n",
	.run = run_backup,
};

/* ---- restore-db ------------------------------------------------------------------------------------ */

static int restore(const char *from, const char *to)
{
	int err = mvcc_restore(from, to);

	switch (err) {
	case 0:
		return CTL_OK;
	case -EEXIST:
		return ctl_complain(CTL_TROUBLE, "%s: there is a database already", to);
	case -ENOENT:
		return ctl_complain(CTL_NO_DB, "%s: no database there", from);
	case MVCC_ENODB:
		return ctl_complain(CTL_NO_DB, "%s is no database, or %s holds something else", from, to);
	case MVCC_ELOCKED:
		return ctl_complain(CTL_LOCKED, "%s: in use; make a backup of it instead", from);
	default:
		return ctl_complain(query_exit(err), "%s cannot be made from %s: %s", to, from,
				    mvcc_strerror(err));
	}
}

static int run_restore(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { CTL_LONG_OPTIONS };
	int opt, status;

	while ((opt = getopt_long(argc, argv, CTL_SHORT_OPTIONS, options, NULL)) != -1)
		if (!ctl_option(ctl, &ctl_restore_db, opt, &status))
			return status;
	if (optind + 2 != argc || ctl->nul || ctl->json || ctl->mount_arg || ctl->db_arg)
		return ctl_usage(&ctl_restore_db);
	return restore(argv[optind], argv[optind + 1]);
}

const struct ctl_verb ctl_restore_db = {
	.name = "restore-db",
	.synopsis = "FROM TO",
	.summary = "make a database from a backup",
	.help = "Copies FROM, a backup or any database that is not in use, to the new database TO. FROM "
		"stays as\n"
		"it is. Cut short, TO is no database, and another try replaces it.\n",
	.run = run_restore,
};
