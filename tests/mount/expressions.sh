#!/bin/bash
# Revisions by other names than their numbers: in paths, with mvccctl, in listings, and as Samba asks for them.
. "$(dirname "$0")/lib.sh"
setup
cd "$MNT"

# ---- paths ---------------------------------------------------------------------------------------------

# No test may wait for a clock, but two changes must not lie in one second: so it asks until it is the next.
next_second() {
	local now
	now=$(date +%s)
	until [ "$(date +%s)" -gt "$now" ]; do
		sleep 0.02
	done
}

mkdir d
echo one >d/f
one=$(date +%s)
one_rev=$(head_rev)
next_second
echo two >d/f

# shows WHAT EXPR: what EXPR in @rev has of the file, also from the directory itself.
shows() {
	equal "@rev/$2" "$1" "$(cat "@rev/$2/d/f")"
	equal "d/@rev/$2" "$1" "$(cat "d/@rev/$2/f")"
}

shows one "$one_rev"
shows one "@$one"
shows one "@$one.999999999"
shows one "$(date -d "@$one" +%FT%TZ)"
shows one "$(date -d "@$one" +%FT%T)"
shows one "$(date -d "@$one" +%FT%T | tr T t)z"
shows one "$(TZ=XXX-5:30 date -d "@$one" +%FT%T%:z)"
shows one "$(date -d "@$one" +@GMT-%Y.%m.%d-%H.%M.%S)"
shows two head
shows two HEAD
shows two today
shows two -0s
shows two 2999-12-31
shows one "head~$(($(head_rev) - one_rev))"

for expr in nonsense Head head~ head~x 0 01 1.5 @ @x -5 -5x 2026-13-01 2026-11-22T25:00:00Z yesterdays; do
	refuses "$expr is no revision" "No such file or directory" ls "@rev/$expr"
done
for expr in -1d @1 1999-12-31 @GMT-1999.12.31-23.59.59; do
	refuses "$expr is before the first" "No such file or directory" ls "@rev/$expr"
done
refuses "the past is read-only by any name" "Read-only file system" touch "@rev/today/new"

# What moves is looked up again: the kernel has not kept it.
rev_of() {
	getfattr --absolute-names --only-values -n user.mvccfs.rev "$MNT/@rev/$1"
}
for expr in head today 2999-12-31 -0s; do
	before=$(rev_of "$expr")
	echo "$expr" >d/g
	equal "$expr moves on" "$((before + 1))" "$(rev_of "$expr")"
done

# ---- listings ------------------------------------------------------------------------------------------

equal "a listing has the numbers" "$(seq "$(head_rev)")" "$(ls -1 @rev | grep '^[0-9]*$' | sort -n)"
# What Samba's shadow_copy2 reads by its default format, all of it.
times=$(ls -1 @rev | grep '^@GMT-')
equal "and times as Samba wants them" "$times" \
	"$(grep -E '^@GMT-[0-9]{4}(\.[0-9]{2}){2}-[0-9]{2}(\.[0-9]{2}){2}$' <<<"$times")"
[ -n "$times" ] && ok "there are such" || fail "no @GMT- name is listed"
equal "besides there are no names" "" "$(ls -1 @rev | grep -v -e '^@GMT-' -e '^[0-9]*$')"
while read -r name; do
	succeeds "$name is a directory" test -d "@rev/$name/." || true
done <<<"$times"
equal "the newest time is the newest state" "$(cat d/g)" "$(cat "@rev/$(sort <<<"$times" | tail -n 1)/d/g")"
succeeds "ls -l finds no name that is not there" ls -l @rev d/@rev

# ---- mvccctl -------------------------------------------------------------------------------------------

ctl() {
	"$MVCCCTL_BIN" "$@"
}
equal "cat --rev TIME, mounted" one "$(ctl cat d/f --rev "@$one")"
equal "log by times" "$(ctl log 1..head)" "$(ctl log "$(date -d "@$one" +@GMT-%Y.%m.%d-%H.%M.%S)..-0s" | cat - <(ctl log "1..$((one_rev - 1))"))"
exits "a time before the first" 1 "$MVCCCTL_BIN" cat d/f --rev 1999-12-31
exits "a bad form in a range" 2 "$MVCCCTL_BIN" log "12:00..head"
says "names the forms" "say a number, head, head~3, a tag, or a time such as"

cd /
umount_fs
equal "cat --rev TIME, not mounted" one "$(ctl --db "$DB" cat d/f --rev "@$one")"
exits "a bad form" 2 "$MVCCCTL_BIN" --db "$DB" cat d/f --rev 12:00
says "names the forms" "say a number, head, head~3, a tag, or a time such as"
exits "a time before the first" 1 "$MVCCCTL_BIN" --db "$DB" cat d/f --rev -1d

mount_fs "rev=@$one"
equal "-o rev=TIME" one "$(cat "$MNT/d/f")"

finish
