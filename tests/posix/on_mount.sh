#!/bin/bash
# on_mount.sh SUITE [TEST...]: the conformance suite on a fresh mount, history on. What a mount offers is required:
# a feature that went missing must not turn into tests left out.
suite=$1
shift
. "$(dirname "$0")/../mount/lib.sh"
features=user,exchange,whiteout,punch,zero,holes,direct,acl
if as_root; then
	setup allow_other
	features=$features,root,trusted,devices
else
	setup
fi
cd /
"$suite" --require "$features" "$MNT" "$@" || fail "the suite on a mount"
succeeds "the database is closed well" umount_fs
finish
