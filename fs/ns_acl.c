#include "fs/ns_acl.h"

#include "fs/ns_int.h"

#include <errno.h>

enum { VERSION = 2, HEADER = 4, ENTRY = 8 };

/* Tags, in the order in which a list has them. */
enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32 };

struct entry {
	unsigned tag, perm;
	uint32_t id;
};

static unsigned le16(const uint8_t *p)
{
	return p[0] | (unsigned)p[1] << 8;
}

static struct entry entry_at(const uint8_t *p)
{
	return (struct entry){ le16(p), le16(p + 2), le16(p + 4) | (uint32_t)le16(p + 6) << 16 };
}

static size_t entries(struct slice acl)
{
	return (acl.len - HEADER) / ENTRY;
}

static struct entry entry_of(struct slice acl, size_t i)
{
	return entry_at(acl.data + HEADER + i * ENTRY);
}

static void set_perm(struct buf *acl, size_t i, unsigned perm)
{
	acl->data[HEADER + i * ENTRY + 2] = (uint8_t)perm;
}

bool acl_is_name(const char *name)
{
	return strcmp(name, ACL_ACCESS) == 0 || strcmp(name, ACL_DEFAULT) == 0;
}

/* Where a tag stands in the order of a list; 0 for what is none. */
static unsigned place_of(unsigned tag)
{
	switch (tag) {
	case USER_OBJ:
		return 1;
	case USER:
		return 2;
	case GROUP_OBJ:
		return 3;
	case GROUP:
		return 4;
	case MASK:
		return 5;
	case OTHER:
		return 6;
	default:
		return 0;
	}
}

int acl_check(struct slice acl)
{
	unsigned last = 0, seen = 0;

	if (acl.len < HEADER)
		return -EINVAL;
	if ((le16(acl.data) | le16(acl.data + 2) << 16) != VERSION)
		return -EOPNOTSUPP;
	if ((acl.len - HEADER) % ENTRY)
		return -EINVAL;
	for (size_t i = 0; i < entries(acl); i++) {
		struct entry e = entry_of(acl, i);
		unsigned place = place_of(e.tag);

		if (!place || place < last || e.perm > 7)
			return -EINVAL;
		if (seen & e.tag && !(e.tag & (USER | GROUP)))
			return -EINVAL;
		last = place;
		seen |= e.tag;
	}
	if ((seen & (USER_OBJ | GROUP_OBJ | OTHER)) != (USER_OBJ | GROUP_OBJ | OTHER))
		return -EINVAL;
	return seen & (USER | GROUP) && !(seen & MASK) ? -EINVAL : 0;
}

/* The entry of that tag, of those there is one of at most; entries() if there is none. */
static size_t find(struct slice acl, unsigned tag)
{
	size_t i = 0;

	while (i < entries(acl) && entry_of(acl, i).tag != tag)
		i++;
	return i;
}

/* The entry that the group's bits of the mode stand for. */
static size_t find_group_class(struct slice acl)
{
	size_t mask = find(acl, MASK);

	return mask < entries(acl) ? mask : find(acl, GROUP_OBJ);
}

uint32_t acl_mode(struct slice acl, bool *minimal)
{
	*minimal = entries(acl) == 3;
	return entry_of(acl, find(acl, USER_OBJ)).perm << 6 | entry_of(acl, find_group_class(acl)).perm << 3 |
	       entry_of(acl, find(acl, OTHER)).perm;
}

void acl_chmod(struct buf *acl, uint32_t mode)
{
	struct slice list = slice_buf(acl);

	set_perm(acl, find(list, USER_OBJ), mode >> 6 & 7);
	set_perm(acl, find_group_class(list), mode >> 3 & 7);
	set_perm(acl, find(list, OTHER), mode & 7);
}

void acl_inherit(struct buf *acl, uint32_t *mode)
{
	bool minimal;

	*mode &= ~0777U | acl_mode(slice_buf(acl), &minimal);
	acl_chmod(acl, *mode);
}

static bool has_group(const struct acl_who *who, uint32_t gid)
{
	if (who->gid == gid)
		return true;
	for (unsigned i = 0; i < who->ngroups; i++)
		if (who->groups[i] == gid)
			return true;
	return false;
}

bool acl_permits(struct slice acl, uint32_t owner, uint32_t group, const struct acl_who *who, unsigned want)
{
	size_t n = entries(acl), mask_at = find(acl, MASK);
	unsigned mask = mask_at < n ? entry_of(acl, mask_at).perm : 7;
	bool member = false;

	if (who->uid == owner)
		return (entry_of(acl, find(acl, USER_OBJ)).perm & want) == want;
	for (size_t i = 0; i < n; i++) {
		struct entry e = entry_of(acl, i);

		if (e.tag == USER && e.id == who->uid)
			return (e.perm & mask & want) == want;
		if ((e.tag == GROUP_OBJ && has_group(who, group)) ||
		    (e.tag == GROUP && has_group(who, e.id))) {
			/* One group that grants all is enough; two that grant it together are not. */
			if ((e.perm & mask & want) == want)
				return true;
			member = true;
		}
	}
	return !member && (entry_of(acl, find(acl, OTHER)).perm & want) == want;
}

/* ---- of inodes --------------------------------------------------------------------------------- */

int src_acl(struct ns_src src, uint64_t ino, const char *name, struct buf *out)
{
	int err = src_getxattr(src, ino, name, out);

	return !err && acl_check(slice_buf(out)) ? MVCC_ECORRUPT : err;
}

int put_acl(struct mvcc_txn *txn, uint64_t ino, const char *name, struct slice acl, mvcc_lease_t lease)
{
	struct mvcc_put put = { .value = acl, .lease = lease };
	struct buf key = { 0 };
	int err = row_xattr_key(&key, ino, slice_str(name));

	put.key = slice_buf(&key);
	if (!err)
		err = mvcc_txn_put_with(txn, &put);
	buf_release(&key);
	return err;
}

int acl_of_new(struct ns_src src, uint64_t dir, uint32_t umask, uint32_t *mode, struct buf *access,
	       struct buf *dflt)
{
	bool minimal;
	int err;

	if (S_ISLNK(*mode))
		return 0;
	err = src_acl(src, dir, ACL_DEFAULT, access);
	if (err == -ENODATA) {
		*mode &= ~(umask & 0777);
		return 0;
	}
	if (!err && S_ISDIR(*mode))
		err = buf_copy(dflt, slice_buf(access));
	if (err)
		return err;
	acl_inherit(access, mode);
	acl_mode(slice_buf(access), &minimal);
	if (minimal)
		buf_clear(access);
	return 0;
}

int acl_follow_mode(struct mvcc_txn *txn, struct ns_src src, uint64_t ino, uint32_t mode, mvcc_lease_t lease)
{
	struct buf acl = { 0 };
	int err = src_acl(src, ino, ACL_ACCESS, &acl);

	if (!err) {
		acl_chmod(&acl, mode);
		err = put_acl(txn, ino, ACL_ACCESS, slice_buf(&acl), lease);
	}
	buf_release(&acl);
	return err == -ENODATA ? 0 : err;
}
