/*
 * The directory of a database: telling one from what is none, the lock, and the FORMAT file, whose
 * presence alone says that a database was made to the end.
 */
#ifndef MVCC_DIR_H
#define MVCC_DIR_H

#include <stdbool.h>

enum dir_kind {
	DIR_ABSENT,
	DIR_EMPTY,
	DIR_HALF, /* making one was cut short: there are our files, but no FORMAT */
	DIR_DB,
	DIR_STRANGE, /* anything else */
};

/* What is at `path`? `*format` is set for DIR_DB. 0 or a negative errno. */
int dir_classify(const char *path, enum dir_kind *kind, unsigned *format);

/* Takes the lock, for as long as the descriptor given is open. MVCC_ELOCKED, or a negative errno. */
int dir_lock(int dir_fd, const char *holder, int *out_fd);

/* As a reader: nobody can open the database as long as the descriptor given is open; -1 if nobody can at all. */
int dir_lock_shared(int dir_fd, int *out_fd);

/* Removes everything a half-made database has, but the lock. */
int dir_wipe(int dir_fd);

/* Removes a half-made database, the lock and the directory, too. Its lock is held. */
int dir_discard(int dir_fd, const char *path);

/* Puts the name of a directory just made on disk: it is to be as safe as what the directory holds. */
int dir_sync_parent(int dir_fd);

/* Declares the database made. */
int dir_write_format(int dir_fd, unsigned format);

#endif
