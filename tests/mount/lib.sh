# What the mount tests in bash share. A script starts with
#
#	. "$(dirname "$0")/lib.sh"
#	setup                       # a scratch directory in $WORK, a fresh database mounted on $MNT
#
# runs cases, and ends with `finish`. A failed assertion says what differed and the script goes on;
# `finish` makes it the exit status. Whatever happens, no mount, daemon or file stays: a second process
# waits for the end of this one and cleans up. (No pipe tells it, as the daemon would inherit that; it
# looks.)
#
# The environment gives MVCCFS_BIN and MVCCCTL_BIN (the programs), MVCCFS_SRC (the source tree) and TMPDIR.
set -euo pipefail

: "${MVCCFS_BIN:?names the program under test}"
: "${MVCCCTL_BIN:?names the program under test}"
: "${MVCCFS_SRC:=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}"

# What the user of a terminal may have set must not change what is compared.
export LC_ALL=C TZ=UTC
unset CDPATH GREP_OPTIONS POSIXLY_CORRECT
umask 022

PATIENCE=60 # seconds that anything that must come about may take
cases=0
failures=0

# ---- assertions ----------------------------------------------------------------------------------------

ok() { # WHAT: a case that held
	cases=$((cases + 1))
	echo "ok    $1"
}

fail() { # WHAT [MORE...]: a case that did not
	cases=$((cases + 1))
	failures=$((failures + 1))
	echo "FAIL  $1"
	shift
	[ $# -eq 0 ] || printf '      %s\n' "$@"
}

equal() { # WHAT WANTED GOT
	if [ "$2" == "$3" ]; then
		ok "$1"
	else
		fail "$1" "wanted: $2" "got:    $3"
	fi
}

# succeeds WHAT COMMAND...: output only if it fails.
succeeds() {
	local what=$1 out status=0
	shift
	out=$("$@" 2>&1) || status=$?
	if [ $status -eq 0 ]; then
		ok "$what"
	else
		fail "$what" "exit $status of: $*" "$(tail -n 15 <<<"$out")"
	fi
}

# exits WHAT STATUS COMMAND...: with exactly this status. The output is left in $output.
exits() {
	local what=$1 wanted=$2 status=0
	shift 2
	output=$("$@" 2>&1 </dev/null) || status=$?
	if [ $status -eq "$wanted" ]; then
		ok "$what"
	else
		fail "$what" "exit $status, not $wanted, of: $*" "$(tail -n 15 <<<"$output")"
	fi
}

# says WHAT TEXT: $output of the last `exits` contains TEXT.
says() {
	if [[ $output == *"$2"* ]]; then
		ok "$1"
	else
		fail "$1" "no '$2' in: $output"
	fi
}

# refuses WHAT ERROR COMMAND...: fails, and says ERROR ("Read-only file system").
refuses() {
	local what=$1 error=$2 out status=0
	shift 2
	out=$("$@" 2>&1 </dev/null) || status=$?
	if [ $status -ne 0 ] && [[ $out == *"$error"* ]]; then
		ok "$what"
	else
		fail "$what" "wanted '$error', got exit $status and: $(tail -n 5 <<<"$out")"
	fi
}

same_trees() { # WHAT DIR DIR: names and contents, by diff (which calls a fifo and its like different)
	local out
	out=$(diff -r --no-dereference "$2" "$3" 2>&1 | sed -E '/ is a (.*) while file .* is a \1$/d') || true
	if [ -z "$out" ]; then
		ok "$1"
	else
		fail "$1" "diff -r $2 $3:" "$(head -n 10 <<<"$out")"
	fi
}

# A listing of a tree with all that stat knows, but inode numbers and what a directory's size means.
listing() {
	(cd "$1" && find . \( -type d -printf '%P %y %m %U:%G %n\n' \) -o \
		-printf '%P %y %m %U:%G %n %s %T@ %l\n' | sort)
}

same_listing() { # WHAT DIR DIR
	local out
	if out=$(diff <(listing "$2") <(listing "$3")); then
		ok "$1"
	else
		fail "$1" "$(head -n 10 <<<"$out")"
	fi
}

finish() {
	if [ $failures -ne 0 ]; then
		echo "$failures of $cases cases failed"
		exit 1
	fi
	echo "all $cases cases hold"
	exit 0
}

# ---- mounting ------------------------------------------------------------------------------------------

# Is the database open? The kernel's list of locks tells whether DB/LOCK is held.
locked() { # [DB]
	local db=${1:-$DB}
	[ -e "$db/LOCK" ] && grep -q ":$(stat -c %i "$db/LOCK") " /proc/locks
}

daemon_pid() { # [DB]
	sed -n '1s/^pid \([0-9]*\),.*/\1/p' "${1:-$DB}/LOCK"
}

# until_true WHAT COMMAND...: waits for a command to succeed; fails the case if patience ends.
until_true() {
	local what=$1 end=$((SECONDS + PATIENCE))
	shift
	until "$@"; do
		if [ $SECONDS -gt $end ]; then
			fail "$what" "did not come about in $PATIENCE s: $*"
			return 1
		fi
		sleep 0.02
	done
}

not_locked() {
	! locked "$@"
}

mount_fs() { # [OPTIONS [DB [MNT]]]
	if [ -n "${1:-}" ]; then
		"$MVCCFS_BIN" -o "$1" "${2:-$DB}" "${3:-$MNT}"
	else
		"$MVCCFS_BIN" "${2:-$DB}" "${3:-$MNT}"
	fi
}

umount_fs() { # [DB [MNT]]: returns when the daemon has ended
	local pid
	pid=$(daemon_pid "${1:-$DB}")
	until_true "unmount ${2:-$MNT}" umount_once "${2:-$MNT}" || umount -l "${2:-$MNT}" || true
	until_true "the database is closed after unmounting" not_locked "${1:-$DB}" || true
	until_true "the daemon ends after unmounting" ended "$pid" || true
}

ended() { # PID
	! kill -0 "$1" 2>/dev/null
}

umount_once() {
	if [ "$(id -u)" -eq 0 ]; then umount "$1"; else fusermount3 -u "$1"; fi
}

# The newest revision, as the mount tells it.
head_rev() { # [MNT]
	getfattr --absolute-names --only-values -n user.mvccfs.rev "${1:-$MNT}/@rev/head"
}

# at_least REV: has the newest revision come this far?
at_least() {
	[ "$(head_rev)" -ge "$1" ]
}

# makes COUNT WHAT COMMAND...: the command makes exactly COUNT revisions. Some revisions come a moment
# after the command has returned (an empty file's, which the kernel ends behind its back), so this waits
# for the count; one revision too many that is late itself is found at the next `makes`, or at
# `no_late_revisions`.
last_counted=
makes() {
	local count=$1 what=$2 before after
	shift 2
	no_late_revisions
	before=$(head_rev)
	if ! "$@"; then
		fail "$what" "the command failed: $*"
		last_counted=
		return
	fi
	until_true "$what" at_least $((before + count)) || true
	after=$(head_rev)
	last_counted=$after
	last_what=$what
	if [ $((after - before)) -eq "$count" ]; then
		ok "$what: $count"
	else
		fail "$what" "$((after - before)) revisions, not $count" "$(story $((before + 1)) "$after")"
	fi
}

# Before commands whose revisions nobody counts.
uncounted() {
	no_late_revisions
	last_counted=
}

no_late_revisions() {
	local now
	now=$(head_rev)
	if [ -n "$last_counted" ] && [ "$now" -ne "$last_counted" ]; then
		fail "no revision comes late" "$((now - last_counted)) after: $last_what" \
			"$(story $((last_counted + 1)) "$now")"
	fi
	last_counted=$now
	last_what=
}

# What the log says of some revisions, for a failure's message.
story() { # FROM TO
	"$MVCCCTL_BIN" --mount "$MNT" log "$1..$2" 2>&1 | head -n 20 || true
}

# ---- set-up and clean-up -------------------------------------------------------------------------------

clean_up() { # DIR: unmounts all below it, ends its daemons, removes it
	local dir=$1 at lock
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		while read -r at; do
			umount -l "$at" 2>/dev/null || fusermount3 -uz "$at" 2>/dev/null || true
		done < <(awk -v dir="$dir/" 'index($2, dir) == 1 { print $2 }' /proc/self/mounts)
		for lock in "$dir"/*/LOCK; do
			if [ -e "$lock" ] && locked "${lock%/LOCK}"; then
				kill -9 "$(daemon_pid "${lock%/LOCK}")" 2>/dev/null || true
				sleep 0.1
			fi
		done
		grep -q " $dir/" /proc/self/mounts || break
	done
	rm -rf --one-file-system "$dir"
}

# Waits for process PID to be gone, and cleans up after it.
janitor() { # PID DIR
	trap '' HUP INT TERM QUIT
	while kill -0 "$1" 2>/dev/null; do
		sleep 0.5
	done
	[ ! -e "$2" ] || clean_up "$2"
}

setup() { # [OPTIONS]
	WORK=$(mktemp -d "${TMPDIR:-/tmp}/mvccfs-test-XXXXXX")
	chmod 755 "$WORK"
	DB=$WORK/db
	MNT=$WORK/mnt
	mkdir "$MNT"
	export -f janitor clean_up locked daemon_pid
	setsid bash -c 'janitor "$@"' janitor $$ "$WORK" </dev/null >/dev/null 2>&1 &
	disown
	trap 'cd /; clean_up "$WORK"' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	mount_fs "${1:-}"
}

seed() {
	SEED=${MVCCFS_TEST_SEED:-$(date +%s%N)}
	echo "seed: MVCCFS_TEST_SEED=$SEED"
	RANDOM=$((SEED % 32768))
}

as_root() { # does the script run as root?
	[ "$(id -u)" -eq 0 ]
}
