#include "mvcc/error.h"

#include <errno.h>
#include <string.h>

static const struct {
	int code;
	int errno_;
	const char *text;
} own_codes[] = {
	{ MVCC_ECOMPACTED, ESTALE, "the revision was compacted away" },
	{ MVCC_EFUTURE, ENOENT, "the revision does not exist yet" },
	{ MVCC_ECONFLICT, EBUSY, "another change came first" },
	{ MVCC_ECORRUPT, EIO, "a stored record is damaged" },
	{ MVCC_EFORMAT, EINVAL, "the database has an unknown format" },
	{ MVCC_ELOCKED, EBUSY, "another process has the database open" },
	{ MVCC_ENODB, ENOTEMPTY, "not a database, and not empty" },
	{ MVCC_ENOLEASE, ENOENT, "there is no such lease" },
};

int mvcc_errno(int err)
{
	for (unsigned i = 0; i < sizeof(own_codes) / sizeof(own_codes[0]); i++)
		if (own_codes[i].code == err)
			return -own_codes[i].errno_;
	return err;
}

const char *mvcc_strerror(int err)
{
	const char *name;

	for (unsigned i = 0; i < sizeof(own_codes) / sizeof(own_codes[0]); i++)
		if (own_codes[i].code == err)
			return own_codes[i].text;
	name = strerrordesc_np(-err);
	return name ? name : "unknown error";
}
