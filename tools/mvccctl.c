/*
 * mvccctl: questions and orders to a database of mvccfs. Here are only the options before the verb and
 * the table of verbs; see ctl.h.
 */
#include "tools/ctl.h"

#include "fs/label.h"

#include <stdlib.h>

/* clang-format off */
static const struct ctl_verb *const verbs[] = {
	&ctl_status,
	&ctl_log,
	&ctl_show,
	&ctl_diff,
	&ctl_undo,
	&ctl_redo,
	&ctl_restore,
	&ctl_ls,
	&ctl_cat,
	&ctl_put,
	&ctl_get,
	&ctl_del,
	&ctl_grep,
	&ctl_bisect,
	&ctl_export,
	&ctl_import,
	&ctl_tag,
	&ctl_untag,
	&ctl_purge,
	&ctl_compact,
	&ctl_retain,
	&ctl_why,
	&ctl_run,
	&ctl_watch,
	&ctl_lease,
	&ctl_check,
	&ctl_backup,
	&ctl_restore_db,
	&ctl_txn,
};
/* clang-format on */
#define NVERBS (sizeof(verbs) / sizeof(verbs[0]))

static void print_help(void)
{
	printf("usage: mvccctl [--mount M | --db DB] VERB [ARGUMENTS]\n\n"
	       "Asks a database of mvccfs, mounted or not.\n\nVerbs:\n");
	for (size_t i = 0; i < NVERBS; i++)
		printf("  %-10s %s\n", verbs[i]->name, verbs[i]->summary);
	printf("\nOptions, before or after the verb:\n"
	       "  --mount M   the database mounted at M, or at a directory above M\n"
	       "  --db DB     the database in directory DB\n"
	       "              without either: the mount that PATH or the working directory lies in,\n"
	       "              then $MVCCFS_MOUNT, then $MVCCFS_DB\n"
	       "  --json      print JSON\n"
	       "  -z, --null  print paths alone, each ended by a NUL\n"
	       "  -h, --help  this, or after a verb what that does\n"
	       "  -V, --version\n\n"
	       "Exit status: 0 done, 1 not found or differs, 2 trouble, 10 no database, 11 locked,\n"
	       "13 compacted.\n"
	       "See mvccctl(1).\n");
}

static void print_verb_usage(FILE *f, const struct ctl_verb *verb)
{
	fprintf(f, "usage: mvccctl [--mount M | --db DB] %s%s%s\n", verb->name, *verb->synopsis ? " " : "",
		verb->synopsis);
}

int ctl_usage(const struct ctl_verb *verb)
{
	print_verb_usage(stderr, verb);
	fprintf(stderr, "Try 'mvccctl %s --help'.\n", verb->name);
	return CTL_TROUBLE;
}

bool ctl_option(struct ctl *ctl, const struct ctl_verb *verb, int opt, int *status)
{
	switch (opt) {
	case CTL_OPT_MOUNT:
		ctl->mount_arg = optarg;
		return true;
	case CTL_OPT_DB:
		ctl->db_arg = optarg;
		return true;
	case CTL_OPT_JSON:
		ctl->json = true;
		return true;
	case CTL_OPT_SESSION:
		ctl->session = optarg;
		return true;
	case CTL_OPT_MESSAGE:
		ctl->message = optarg;
		return true;
	case 'z':
		ctl->nul = true;
		return true;
	case 'h':
		print_verb_usage(stdout, verb);
		printf("\n%s", verb->help);
		*status = CTL_OK;
		return false;
	default:
		*status = ctl_usage(verb);
		return false;
	}
}

static int usage_error(void)
{
	fputs("usage: mvccctl [--mount M | --db DB] VERB [ARGUMENTS]\nTry 'mvccctl --help'.\n", stderr);
	return CTL_TROUBLE;
}

static int run_verb(struct ctl *ctl, int argc, char **argv)
{
	for (size_t i = 0; i < NVERBS; i++)
		if (strcmp(verbs[i]->name, argv[0]) == 0) {
			optind = 0; /* getopt starts anew, with the verb in the place of the program */
			return verbs[i]->run(ctl, argc, argv);
		}
	ctl_complain(CTL_TROUBLE, "no such verb: %s", argv[0]);
	return usage_error();
}

/* A revision that a verb makes belongs to the session that mvccctl itself is part of, if nothing else is said. */
static void inherit_label(struct ctl *ctl)
{
	static struct label label;
	const char *session = getenv(LABEL_SESSION), *message = getenv(LABEL_MESSAGE);

	if (session && *session) {
		label_copy(label.session, sizeof(label.session), slice_str(session));
		ctl->session = label.session;
	}
	if (message && *message) {
		label_copy(label.message, sizeof(label.message), slice_str(message));
		ctl->message = label.message;
	}
}

static int run(int argc, char **argv)
{
	static const struct option options[] = { { "version", no_argument, NULL, 'V' }, CTL_LONG_OPTIONS };
	struct ctl ctl = { .ctl_fd = -1 };
	int opt;

	inherit_label(&ctl);
	while ((opt = getopt_long(argc, argv, "+V" CTL_SHORT_OPTIONS, options, NULL)) != -1) {
		switch (opt) {
		case 'V':
			printf("mvccctl %s\n", MVCCFS_VERSION);
			return CTL_OK;
		case 'h':
			print_help();
			return CTL_OK;
		case CTL_OPT_MOUNT:
			ctl.mount_arg = optarg;
			break;
		case CTL_OPT_DB:
			ctl.db_arg = optarg;
			break;
		case CTL_OPT_JSON:
			ctl.json = true;
			break;
		case 'z':
			ctl.nul = true;
			break;
		default:
			return usage_error();
		}
	}
	if (optind == argc)
		return usage_error();
	return run_verb(&ctl, argc - optind, argv + optind);
}

int main(int argc, char **argv)
{
	int status;

	ctl_outlive_reader();
	status = run(argc, argv);
	ctl_flush(&status);
	return status;
}
