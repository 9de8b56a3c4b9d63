/* The border between RocksDB's error strings and the codes of mvcc/error.h. */
#ifndef ROCKS_BACKEND_ROCKS_ERR_H
#define ROCKS_BACKEND_ROCKS_ERR_H

#include "rocks_backend/rocks.h"

/*
 * A code for the C API's error string `msg`, which is freed here; 0 if it is NULL. Logged too, as the code
 * alone would lose the text; `op` says what was tried. Nothing else reads these strings: their wording is
 * no interface, so tests/test_rocks_err.c pins each prefix that code_of() knows.
 */
int rocks_err_take(const struct rocks_options *opt, char *msg, const char *op);

/* Logs `text` about `op`, at syslog's LOG_ERR, where opt->log is given. */
void rocks_log(const struct rocks_options *opt, const char *op, const char *text);

#endif
