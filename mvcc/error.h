/*
 * The codes every layer returns: 0, or one negative number. It is a negative errno where errno has
 * the word, and one of these where it has not; these lie outside errno's range, so that neither is
 * taken for the other.
 */
#ifndef MVCC_ERROR_H
#define MVCC_ERROR_H

/* At the end of each line: what programs see it as. */
enum {
	MVCC_ECOMPACTED = -2001, /* the revision lies below the compaction floor           ESTALE */
	MVCC_EFUTURE = -2002,    /* the revision lies above the newest commit              ENOENT */
	MVCC_ECONFLICT = -2003,  /* another commit changed what this one read              EBUSY  */
	MVCC_ECORRUPT = -2004,   /* a stored record does not decode                        EIO    */
	MVCC_EFORMAT = -2005,    /* the database has a format this program does not know   EINVAL */
	MVCC_ELOCKED = -2006,    /* another process has the database open                  EBUSY  */
	MVCC_ENODB = -2007,      /* the path holds something that is no database           ENOTEMPTY */
	MVCC_ENOLEASE = -2008,   /* there is no such lease                                 ENOENT */
};

#pragma GCC visibility push(default)

/* The negative errno a program is shown for any code above; other codes pass through. */
int mvcc_errno(int err);

/* A short English sentence for any code of the library or negative errno. Static storage. */
const char *mvcc_strerror(int err);

#pragma GCC visibility pop

#endif
