#include "rocks_backend/rocks_err.h"

#include "mvcc/error.h"

#include <errno.h>
#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>

static const struct {
	const char *prefix;
	int code;
} known[] = {
	{ "Corruption: ", MVCC_ECORRUPT },
	{ "IO error: No space left on device", -ENOSPC },
	{ "IO error: While lock file: ", MVCC_ELOCKED },
	{ "IO error: lock hold by current process", MVCC_ELOCKED },
	{ "Invalid argument: Directory exists", -EEXIST }, /* of a checkpoint */
};

static int code_of(const char *msg)
{
	static const char quota[] =
		": Disk quota exceeded"; /* no word of RocksDB's own, so errno's ends the text */
	size_t len = strlen(msg);

	for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strncmp(msg, known[i].prefix, strlen(known[i].prefix)) == 0)
			return known[i].code;
	if (len >= sizeof(quota) - 1 && strcmp(msg + len - (sizeof(quota) - 1), quota) == 0)
		return -ENOSPC;
	return -EIO;
}

void rocks_log(const struct rocks_options *opt, const char *op, const char *text)
{
	char *line = NULL;

	if (!opt->log)
		return;
	if (asprintf(&line, "%s: %s", op, text) < 0)
		line = NULL;
	opt->log(opt->log_arg, LOG_ERR, line ? line : text);
	free(line);
}

int rocks_err_take(const struct rocks_options *opt, char *msg, const char *op)
{
	int err;

	if (!msg)
		return 0;
	err = code_of(msg);
	rocks_log(opt, op, msg);
	rocksdb_free(msg);
	return err;
}
