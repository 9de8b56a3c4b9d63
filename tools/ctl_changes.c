#include "tools/ctl_changes.h"

#include "fs/json_bytes.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>

/* The number that an expression means. */
static int number_of(struct ctl *ctl, const char *expr, mvcc_rev_t *out)
{
	struct ctl_tree *tree;
	int status = ctl_tree_open(ctl, expr, &tree);

	if (status)
		return status;
	*out = ctl_tree_rev(tree);
	ctl_tree_close(tree);
	return 0;
}

static int oldest(struct ctl *ctl, mvcc_rev_t *out)
{
	struct json_object *req = ctl_request("status"), *reply;
	int status = req ? ctl_ask_filled(ctl, req, 0, &reply) : CTL_TROUBLE;

	if (status)
		return status;
	*out = ctl_number(reply, "floor");
	json_object_put(reply);
	return 0;
}

int ctl_range(struct ctl *ctl, const char *range, mvcc_rev_t *from, mvcc_rev_t *to)
{
	char *a = strdup(range ? range : ".."), *b;
	int status;

	if (!a)
		return ctl_complain_err(-ENOMEM, "the range");
	b = strstr(a, "..");
	if (b) {
		*b = 0;
		b += 2;
	} else {
		b = a;
	}
	status = *a ? number_of(ctl, a, from) : oldest(ctl, from);
	if (!status)
		status = number_of(ctl, *b ? b : "head", to);
	if (!status && *from > *to)
		status = ctl_complain(CTL_TROUBLE, "%s: ends before it begins", range);
	free(a);
	return status;
}

static int tell_page(struct json_object *reply, ctl_change_fn *fn, void *arg)
{
	struct json_object *changes;
	struct buf path = { 0 };
	int status = 0;
	size_t n;

	changes = ctl_array(reply, "changes", &n);
	for (size_t i = 0; i < n && !status; i++) {
		struct json_object *o = json_object_array_get_idx(changes, i);
		int err = json_get_bytes(o, "path", &path);

		if (!err)
			err = buf_put_u8(&path, 0);
		status = err ? ctl_complain_err(err, "the changes") :
			       fn(arg, (const char *)path.data, ctl_flag(o, "tree"));
	}
	buf_release(&path);
	return status;
}

int ctl_changes(struct ctl *ctl, mvcc_rev_t rev, bool after, ctl_change_fn *fn, void *arg)
{
	struct buf from = { 0 };
	bool more = true;
	int status = 0;

	while (more && !status) {
		struct json_object *req = ctl_request("changes"), *reply;
		int err = req ? json_add_u64(req, "rev", rev) : 0;

		if (req && !err)
			err = json_add_bool(req, "after", after);
		if (req && !err && from.len)
			err = json_add_bytes(req, "from", slice_buf(&from));
		status = req ? ctl_ask_filled(ctl, req, err, &reply) : CTL_TROUBLE;
		if (status)
			break;
		status = tell_page(reply, fn, arg);
		more = json_get_bytes(reply, "next", &from) == 0;
		json_object_put(reply);
	}
	buf_release(&from);
	return status;
}
