#!/bin/bash
# The first of the two commands of the README, run more than once, as a new user might. It builds in build/, which is
# up to date when the tests run from there.
set -euo pipefail

tmp=$(mktemp -d)
cleanup()
{
	fusermount3 -uz "$tmp/mnt" 2>/dev/null || true
	rm -rf "$tmp"
}
trap cleanup EXIT

fail()
{
	echo "FAIL: $*" >&2
	exit 1
}

quickstart=$MVCCFS_SRC/tools/quickstart

for round in 1 2; do
	"$quickstart" "$tmp/db" "$tmp/mnt" >"$tmp/out" 2>&1 || { cat "$tmp/out"; fail "round $round"; }
	grep -q $'\e' "$tmp/out" && fail "colours, though this is no terminal"
	mountpoint -q "$tmp/mnt" || fail "round $round: nothing mounted"
	[ "$(cat "$tmp/mnt/quickstart/list")" = $'tea\nbread' ] || fail "round $round: the file was not brought back"
	tail -n 1 "$tmp/out" | grep -qF "fusermount3 -u $tmp/mnt" || fail "round $round: no word on how to go on"
done
grep -q "mounted at .* already" "$tmp/out" || fail "the second round did not use the mount it found"

# A daemon that was killed: its mount is replaced, and nothing is lost.
pid=$("$MVCCFS_SRC/build/bin/mvccctl" --mount "$tmp/mnt" --json status | sed 's/.*"pid":\([0-9]*\).*/\1/')
kill -9 "$pid"
while stat -f "$tmp/mnt" >/dev/null 2>&1; do sleep 0.1; done
"$quickstart" "$tmp/db" "$tmp/mnt" >"$tmp/out" 2>&1 || { cat "$tmp/out"; fail "after a kill"; }
[ "$(cat "$tmp/mnt/quickstart/list")" = $'tea\nbread' ] || fail "after a kill: the file is not there"

if "$quickstart" one >/dev/null 2>&1; then fail "one argument was taken"; fi
mkdir "$tmp/other"
if "$quickstart" "$tmp/other" "$tmp/mnt" >"$tmp/out" 2>&1; then fail "another database in the same place"; fi
grep -q "another database" "$tmp/out" || fail "no clear word about the other database"
