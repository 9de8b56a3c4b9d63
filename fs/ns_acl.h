/*
 * POSIX access control lists as the kernel hands them over in extended attributes: a version, then entries, each of
 * a tag, permissions and an id, all little-endian. A list is kept as it came; here is what it means.
 *
 * The mode and the list of a file say the same of its owner, of others, and of the mask (which the mode
 * calls the group): whoever changes one changes the other.
 */
#ifndef FS_NS_ACL_H
#define FS_NS_ACL_H

#include "fs/ns.h"

#define ACL_ACCESS "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default" /* of a directory: what is made in it begins with */

bool acl_is_name(const char *name);

/* 0, -EINVAL for what is no list, -EOPNOTSUPP for another version of it. The rest takes only lists that are valid. */
int acl_check(struct slice acl);

/* The nine permission bits that go with the list; `*minimal` says that it holds nothing more than these. */
uint32_t acl_mode(struct slice acl, bool *minimal);

/* chmod: the list gets the nine bits of `mode`. */
void acl_chmod(struct buf *acl, uint32_t mode);

/* A file is made with `*mode`: `acl`, a copy of its directory's default list, becomes its own, and both allow what both did. */
void acl_inherit(struct buf *acl, uint32_t *mode);

struct acl_who {
	uint32_t uid, gid;
	const uint32_t *groups;
	unsigned ngroups;
};

/* Does the list of a file of this owner and group grant all of `want` (4 read, 2 write, 1 search)? */
bool acl_permits(struct slice acl, uint32_t owner, uint32_t group, const struct acl_who *who, unsigned want);

#endif
