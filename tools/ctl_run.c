/*
 * run: a command whose changes all carry a label. The label is in the command's environment, so that whatever it starts
 * inherits it; the daemon reads it there. The command is a process of its own, and not this one with another program in it,
 * as the daemon may just have looked at this one, which had no label.
 */
#include "tools/ctl.h"

#include "fs/json_bytes.h"
#include "fs/label.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_text(const char *s)
{
	struct slice rest = slice_str(s);
	size_t n;

	while (rest.len && (n = utf8_char(rest)))
		rest = slice_of(rest.data + n, rest.len - n);
	return !rest.len;
}

static int check_label(const char *what, const char *text, size_t max)
{
	if (text && strlen(text) > max)
		return ctl_complain(CTL_RUN_FAILED, "the %s is %zu bytes long, and may be %zu", what,
				    strlen(text), max);
	if (text && !is_text(text))
		return ctl_complain(CTL_RUN_FAILED, "the %s is not UTF-8", what);
	return 0;
}

static int set_label(const char *name, const char *text)
{
	return text && setenv(name, text, 1) ? ctl_complain(CTL_RUN_FAILED, "%s: %s", name, strerror(errno)) :
					       0;
}

static int run(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { CTL_STORY_OPTIONS, CTL_LONG_OPTIONS };
	int opt, status;

	while ((opt = getopt_long(argc, argv, "+" CTL_SHORT_OPTIONS, options, NULL)) != -1)
		if (!ctl_option(ctl, &ctl_run, opt, &status))
			return status ? CTL_RUN_FAILED : 0;
	if (optind == argc) {
		ctl_usage(&ctl_run);
		return CTL_RUN_FAILED;
	}
	if (!ctl->session && !ctl->message)
		return ctl_complain(CTL_RUN_FAILED, "say --session S or --message M, or both");
	status = check_label("session", ctl->session, NS_SESSION_MAX);
	if (!status)
		status = check_label("message", ctl->message, NS_MESSAGE_MAX);
	if (!status)
		status = set_label(LABEL_SESSION, ctl->session);
	if (!status)
		status = set_label(LABEL_MESSAGE, ctl->message);
	return status ? status : ctl_run_command(argv + optind, NULL);
}

const struct ctl_verb ctl_run = {
	.name = "run",
	.synopsis = "[--session S] [--message M] [--] CMD [ARGUMENT...]",
	.summary = "run a command and label every revision it makes",
	.help = "Every revision that CMD and the programs it starts make, in any mount, tells the label;\n"
		"mvccctl log shows it.\n\n"
		"  --session S  what the session is called, at most 64 bytes\n"
		"  --message M  what it is for, at most 512 bytes\n\n"
		"One that is not given is inherited. CMD finds them in its environment, as MVCCFS_SESSION\n"
		"and MVCCFS_MESSAGE. Exit status: that of CMD, 128 + N if signal N ended it; 125 if run\n"
		"itself failed, 126 if CMD cannot be run, 127 if there is no CMD.\n",
	.run = run,
};
