/*
 * Labels: what a session of work is called, and what it is for. Whoever starts a program says so in its
 * environment, MVCCFS_SESSION and MVCCFS_MESSAGE, from where all programs below inherit it; they go into the
 * story of each revision. A label is what somebody said, and proves nothing.
 */
#ifndef FS_LABEL_H
#define FS_LABEL_H

#include "fs/ns.h"

#define LABEL_SESSION "MVCCFS_SESSION"
#define LABEL_MESSAGE "MVCCFS_MESSAGE"

/* Text: UTF-8, and no longer than the namespace keeps. Empty: none was given. */
struct label {
	char session[NS_SESSION_MAX + 1];
	char message[NS_MESSAGE_MAX + 1];
};

/*
 * Copies text that somebody gave into `out` of `size` bytes: too long, it is cut at the end of a character; a byte that
 * is no UTF-8 becomes '?'.
 */
void label_copy(char *out, size_t size, struct slice text);

/* Reads an environment piece by piece, in the form of /proc/PID/environ. All zero at first, but `out`. */
struct label_scan {
	struct label *out;
	size_t len; /* of `entry`, whose end is cut off if there is no room for it */
	char entry[NS_MESSAGE_MAX + 32];
};
void label_scan(struct label_scan *scan, struct slice piece);

/* What the environment of a process says. Nothing, if it may not be read. */
void label_of_process(pid_t pid, struct label *out);

#endif
