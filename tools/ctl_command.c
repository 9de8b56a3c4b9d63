/*
 * Running a command for a verb, as env(1) does, but as a process of its own: the verb has something to do afterwards.
 */
#include "tools/ctl.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t child;

static void pass_on(int sig)
{
	if (child > 0)
		kill(child, sig);
}

/* What a terminal sends, it sends to the command as well; what is sent to this process alone is passed on. */
static struct {
	int sig;
	void (*handler)(int sig);
	struct sigaction before;
} signals[] = { { .sig = SIGINT, .handler = SIG_IGN },
		{ .sig = SIGQUIT, .handler = SIG_IGN },
		{ .sig = SIGTERM, .handler = pass_on },
		{ .sig = SIGHUP, .handler = pass_on } };
#define NSIGNALS (sizeof(signals) / sizeof(signals[0]))

static void set_signals(void)
{
	for (size_t i = 0; i < NSIGNALS; i++) {
		struct sigaction sa = { .sa_handler = signals[i].handler };

		sigaction(signals[i].sig, &sa, &signals[i].before);
	}
}

/* The command finds signals as they were, or what nohup(1) ignores would end it. */
static void run_child(char **argv, const char *dir, const sigset_t *mask)
{
	int status;

	for (size_t i = 0; i < NSIGNALS; i++)
		sigaction(signals[i].sig, &signals[i].before, NULL);
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, mask, NULL);
	if (dir && (chdir(dir) || setenv("PWD", dir, 1))) {
		ctl_complain(CTL_RUN_FAILED, "%s: %s", dir, strerror(errno));
		_exit(CTL_RUN_FAILED);
	}
	execvp(argv[0], argv);
	status = errno == ENOENT ? CTL_RUN_ABSENT : CTL_RUN_CANNOT;
	ctl_complain(status, "%s: %s", argv[0], strerror(errno));
	_exit(status);
}

int ctl_run_command(char **argv, const char *dir)
{
	sigset_t passed, before;
	int status;
	pid_t pid;

	fflush(stdout);
	sigemptyset(&passed);
	sigaddset(&passed, SIGTERM);
	sigaddset(&passed, SIGHUP);
	sigprocmask(SIG_BLOCK, &passed, &before); /* none is lost before there is somebody to pass it to */
	set_signals();
	pid = fork();
	if (pid == 0)
		run_child(argv, dir, &before);
	child = pid;
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (pid < 0)
		return ctl_complain(CTL_RUN_FAILED, "fork: %s", strerror(errno));
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return ctl_complain(CTL_RUN_FAILED, "wait: %s", strerror(errno));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
