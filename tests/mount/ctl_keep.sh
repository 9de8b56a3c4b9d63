#!/bin/bash
# mvccctl tag, untag, compact, retain, why, lease, ls, check, backup, restore-db and the filters of log: on a mount and
# on a database that is not mounted.
. "$(dirname "$0")/lib.sh"
unset MVCCFS_MOUNT MVCCFS_DB

mvccctl() { "$MVCCCTL_BIN" "$@"; }

# is WHAT EXPECTED COMMAND...: its output; the last newline does not count.
is() {
	local what=$1 want=$2 got
	shift 2
	got=$("$@" 2>&1) || got+=" (exit $?)"
	equal "$what" "$want" "$got"
}

# refused STATUS TEXT COMMAND...: it exits so, and says that.
refused() {
	exits "exit $1: ${*:3}" "$1" "${@:3}"
	says "... and says so" "$2"
}

# of NAMES COMMAND...: these members of the JSON objects it prints, joined by spaces.
of() {
	local names=$1
	shift
	"$@" --json | python3 -c 'import json, sys
print(*(json.loads(line).get(name, "-") for line in sys.stdin for name in sys.argv[1].split()))' "$names"
}

bars() { tr '\0' '|'; }
nul() { "$@" -z | bars; }

# ---- what they say of themselves ------------------------------------------------------------------------
setup
cd "$WORK"
for verb in tag untag compact retain why lease ls check backup restore-db; do
	exits "$verb --help" 0 mvccctl $verb --help
	says "... tells the usage" "usage: mvccctl [--mount M | --db DB] $verb"
done
for words in "tag -d" "tag a b c" "tag -d -m a" "untag" "compact 1 2" "compact 1 --keep 2" "retain x" "why" "why 1 2" \
	"lease" "lease grant" "lease sing 1" "lease list 3" "lease ttl 1 --id 2" "ls a b" "check x" "backup" "restore-db x" \
	"restore-db x y --json"; do
	# shellcheck disable=SC2086
	refused 2 "usage" mvccctl $words
done
refused 2 "--keep wants a number" mvccctl compact --keep x
refused 2 "--keep-all wants a time" mvccctl retain --keep-all soon
refused 2 "--free wants bytes" mvccctl retain --free much
refused 2 "--daily wants a number" mvccctl retain --daily x
refused 2 "is no time to live" mvccctl --mount "$MNT" lease grant soon
refused 2 "is no number of a lease" mvccctl --mount "$MNT" lease ttl x
refused 2 "is no time" mvccctl log --since someday
refused 2 "there is no user" mvccctl log --user nobody-of-that-name

# both WHAT: the cases that hold on a mount and on a database alone; $which says which it is.
both() {
	odd=$'odd\nname \xff'

	# tags
	is "$1: no tags" "" mvccctl "${which[@]}" tag
	is "$1: tag" "" mvccctl "${which[@]}" tag v1 3
	is "$1: tag the newest" "fresh $head" of "name rev" mvccctl "${which[@]}" tag fresh
	is "$1: tags" "fresh|v1|" nul mvccctl "${which[@]}" tag
	is "$1: a tag is a revision" one mvccctl "${which[@]}" cat d/f -r v1
	refused 2 "exists already, for revision 3" mvccctl "${which[@]}" tag v1
	refused 2 "cannot be a tag" mvccctl "${which[@]}" tag head~1
	refused 2 "cannot be a tag" mvccctl "${which[@]}" tag 2026-11-22
	refused 1 "no tag v9" mvccctl "${which[@]}" untag v9
	refused 1 "does not exist yet" mvccctl "${which[@]}" tag v9 999999
	is "$1: rename a tag" "" mvccctl "${which[@]}" tag -m fresh "$odd"
	is "$1: odd tags" "$(printf '%s|v1|' "$odd")" nul mvccctl "${which[@]}" tag
	is "$1: untag" "" mvccctl "${which[@]}" untag "$odd"
	is "$1: tag -d" "" mvccctl "${which[@]}" tag -d v1
	is "$1: no tags again" "" mvccctl "${which[@]}" tag

	# ls
	is "$1: ls" $'f\nl' mvccctl "${which[@]}" ls d
	is "$1: ls -r" f mvccctl "${which[@]}" ls d -r 4
	is "$1: ls -z" "$(printf 'd|hard|%s|' "$odd")" nul mvccctl "${which[@]}" ls /
	is "$1: ls of a file" /d/f mvccctl "${which[@]}" ls d/f
	is "$1: ls --json" "f - 0644 2 4 - l l 0777 1 1 f" of "name type mode nlink size target" mvccctl "${which[@]}" ls d
	refused 1 "not there at revision 2" mvccctl "${which[@]}" ls d/f -r 2
	refused 1 "o revision 999999" mvccctl "${which[@]}" ls d -r 999999
	line=$(mvccctl "${which[@]}" ls -l d | tail -n 1)
	[[ $line =~ ^lrwxrwxrwx\ +1\ $(id -un)\ +$(id -gn)\ +1\ 20[0-9-]{8}\ [0-9:]{8}\ l\ -\>\ f$ ]] && line=good
	equal "$1: ls -l" good "$line"

	# the filters of log
	is "$1: log --op" "6 3" of rev mvccctl "${which[@]}" log --op create
	is "$1: log --comm" "2" of rev mvccctl "${which[@]}" log --comm mkdir ..8
	is "$1: log --user" "8 7" of rev mvccctl "${which[@]}" log --user "$(id -un)" -n 2 ..8
	is "$1: log --user, none" "" of rev mvccctl "${which[@]}" log --user 54321
	is "$1: log --session" "" of rev mvccctl "${which[@]}" log --session night
	is "$1: log --since" "3 2" of rev mvccctl "${which[@]}" log --since "@$(time_of 2)" --until "@$(time_of 3)"
	is "$1: log --until" "1" of rev mvccctl "${which[@]}" log --until "@$(time_of 1)"

	# check
	is "$1: check" "$head 0" of "rev problems" mvccctl "${which[@]}" check
	exits "$1: check, in words" 0 mvccctl "${which[@]}" check
	says "... says that it is clean" "clean: revision $head"

	# leases
	is "$1: lease grant" 7 mvccctl "${which[@]}" lease grant 1h --id 7
	is "$1: lease attach" "" mvccctl "${which[@]}" lease attach 7 "$odd"
	is "$1: lease ttl" "7 3600000 1" of "id ttl_ms files" mvccctl "${which[@]}" lease ttl 7
	is "$1: lease list" "$(printf '/%s|' "$odd")" nul mvccctl "${which[@]}" lease list
	exits "$1: lease list, in words" 0 mvccctl "${which[@]}" lease list
	says "... tells the file" '    /odd\nname \377'
	exits "$1: lease keepalive" 0 mvccctl "${which[@]}" lease keepalive 7
	says "... tells its time" "7  ttl 1h  left 1h  files 1"
	is "$1: lease detach" "" mvccctl "${which[@]}" lease detach "$odd"
	is "$1: lease without files" 0 of files mvccctl "${which[@]}" lease ttl 7
	is "$1: lease attach again" "" mvccctl "${which[@]}" lease attach 7 "$odd"
	refused 2 "is a directory" mvccctl "${which[@]}" lease attach 7 d
	refused 1 "no lease 8" mvccctl "${which[@]}" lease attach 8 d/f
	refused 2 "exists already" mvccctl "${which[@]}" lease grant 1h --id 7
	is "$1: lease revoke" "" mvccctl "${which[@]}" lease revoke 7 --session night --message "too old"
	is "$1: its file is gone" "d|hard|" nul mvccctl "${which[@]}" ls /
	is "$1: the story of it" "revoke night too old" of "op session message" mvccctl "${which[@]}" log --session night -n 1
	refused 1 "no lease 7" mvccctl "${which[@]}" lease revoke 7

	# backup
	exits "$1: backup" 0 mvccctl "${which[@]}" backup "$1"
	says "... tells the revision" "revision $((head + 4))"
	refused 2 "cannot be made" mvccctl "${which[@]}" backup "$1"
	is "$1: the backup is a database" "$((head + 4)) 0" of "rev problems" mvccctl --db "$1" check
	is "$1: restore-db" "" mvccctl restore-db "$1" "$1-again"
	is "$1: the restored one, too" "$((head + 4)) 0" of "rev problems" mvccctl --db "$1-again" check
	is "$1: with its history" one mvccctl --db "$1-again" cat d/f -r 3
	refused 2 "is a database already" mvccctl restore-db "$1" "$1-again"

	# retention and compaction
	is "$1: retain" "kept: everything
the oldest revision is 1" mvccctl "${which[@]}" retain
	exits "$1: retain --dry-run" 0 mvccctl "${which[@]}" retain --revs 2 --dry-run
	says "... tells what would go" "now the oldest revision would be $((head + 3)), and is 1"
	exits "$1: retain" 0 mvccctl "${which[@]}" retain --keep-all 4w --daily 7 --monthly 3 --free 1K
	says "... tells what it set" "kept: all of the last 28d
before that the newest of each of the last 7 days, the last 3 months
while less than 1.0 KiB of the disk is free, the oldest history goes
the oldest revision is 1"
	is "$1: retain in parts" "2419200 0 9" of "keep_all_s keep_revs daily" mvccctl "${which[@]}" retain --daily 9
	is "$1: spans and sizes" "5400 3145728" of "keep_all_s free_bytes" mvccctl "${which[@]}" retain --dry-run \
		--keep-all 1h30m --free 3M
	is "$1: retain --off" "0 0 0" of "keep_all_s daily free_bytes" mvccctl "${which[@]}" retain --off
	is "$1: a tag to be kept" "" mvccctl "${which[@]}" tag kept 4
	is "$1: compact --dry-run" "the oldest revision would be 5, and is 1; of 4 before it, 1 would stay by their tags" \
		mvccctl "${which[@]}" compact 5 --dry-run
	is "$1: compact" "1 5 1" of "was floor tagged" mvccctl "${which[@]}" compact 5 --wait
	is "$1: compact again" "nothing to do: the oldest revision is 5" mvccctl "${which[@]}" compact 5
	is "$1: compact --keep" "5 6" of "was floor" mvccctl "${which[@]}" compact --keep $((head + 4 - 5))
	refused 13 "was compacted away" mvccctl "${which[@]}" compact 5
	refused 13 "was compacted away" mvccctl "${which[@]}" cat d/f -r 3
	is "$1: the tagged one is there" two mvccctl "${which[@]}" cat d/f -r kept
	exits "$1: why, of what is gone" 13 mvccctl "${which[@]}" why 3
	says "... says so" "revision 3 was compacted away: no tag keeps it"
	exits "$1: why, of what has a tag" 0 mvccctl "${which[@]}" why 4
	says "... names it" "it has the tag kept"
	is "$1: why --json" "True True" of "newest above_floor" mvccctl "${which[@]}" why head
	refused 1 "does not exist yet" mvccctl "${which[@]}" why 999999
}

# time_of REV: when it was committed, in seconds with all digits
time_of() {
	mvccctl "${which[@]}" log "$1..$1" --json | python3 -c 'import json, sys
ns = json.loads(sys.stdin.readline())["time_ns"]
print("%d.%09d" % (ns // 10**9, ns % 10**9))'
}

fill() {
	mkdir "$MNT/d"                          # 2
	echo one >"$MNT/d/f"                    # 3
	echo two >"$MNT/d/f"                    # 4
	ln -s f "$MNT/d/l"                      # 5
	echo odd >"$MNT/"$'odd\nname \xff'      # 6
	ln "$MNT/d/f" "$MNT/hard"               # 7
	chmod 644 "$MNT/d/f"                    # 8
	head=8
}

fill
which=(--mount "$MNT")
both mounted

# What only a mount has: the kernel knows at once; ttl by its xattr; a backup must lie elsewhere.
echo x >"$MNT/brief"
setfattr -n user.mvccfs.ttl -v 3600 "$MNT/brief"
is "ttl is set" /brief\| nul mvccctl --mount "$MNT" lease list
ttl=$(getfattr --absolute-names --only-values -n user.mvccfs.ttl "$MNT/brief")
[ "$ttl" -gt 3000 ] && [ "$ttl" -le 3600 ] && ttl=good
equal "ttl tells what is left" good "$ttl"
lease=$(getfattr --absolute-names --only-values -n user.mvccfs.lease "$MNT/brief")
is "lease tells its number" "$lease" of id mvccctl --mount "$MNT" lease list
is "ttl is not listed" "" getfattr --absolute-names "$MNT/brief"
refuses "ttl of a directory" "Is a directory" setfattr -n user.mvccfs.ttl -v 3600 "$MNT/d"
refuses "ttl that is none" "Invalid argument" setfattr -n user.mvccfs.ttl -v soon "$MNT/brief"
setfattr -x user.mvccfs.ttl "$MNT/brief"
refuses "ttl is taken away" "No such attribute" getfattr --absolute-names -n user.mvccfs.ttl "$MNT/brief"
refuses "... once" "No such attribute" setfattr -x user.mvccfs.ttl "$MNT/brief"
setfattr -n user.mvccfs.ttl -v 3600 "$MNT/brief"
lease=$(getfattr --absolute-names --only-values -n user.mvccfs.lease "$MNT/brief")
exec 7<"$MNT/brief"
is "revoke" "" mvccctl --mount "$MNT" lease revoke "$lease"
exits "its file is gone for the kernel, too" 1 test -e "$MNT/brief"
is "who has it open keeps it" x cat <&7
exec 7<&-
# A lease ends by itself: the kernel learns of it, and who has the file open does not.
absent() { ! test -e "$1"; }
echo x >"$MNT/brief"
exec 7<>"$MNT/brief"
setfattr -n user.mvccfs.ttl -v 1 "$MNT/brief"
until_true "its file goes when a lease ends" absent "$MNT/brief"
is "... from listings, too" "" bash -c 'ls "$1" | grep brief || true' - "$MNT"
is "... and who has it open keeps it" x cat <&7
echo more >&7
exec 7<&-
is "the story of an end" expire of op mvccctl --mount "$MNT" log -n 1
refused 2 "cannot lie in the mount" mvccctl --mount "$MNT" backup "$MNT/backup"
is "a relative directory" "" bash -c 'cd "$1" && "$2" --mount "$3" backup here >/dev/null' - "$WORK" "$MVCCCTL_BIN" "$MNT"
exits "... is where one stands" 0 test -d "$WORK/here"

# A terminal sees how far long work has come; what is printed stays the same.
cat >"$WORK/terminal.py" <<'EOF'
import os, pty, subprocess, sys
master, slave = pty.openpty()
done = subprocess.run(sys.argv[1:], stdin=slave, stdout=subprocess.PIPE, stderr=slave)
sys.stdout.buffer.write(done.stdout)
sys.exit(done.returncode)
EOF
exits "check on a terminal" 0 python3 "$WORK/terminal.py" "$MVCCCTL_BIN" --mount "$MNT" check
says "... says that it is clean" "clean: revision"

# ---- not mounted ----------------------------------------------------------------------------------------
umount_fs
rm -rf "$DB"
mount_fs
fill
umount_fs
which=(--db "$DB")
both alone
finish
