#!/bin/bash
# mvccctl on a mount and on a database that is not mounted: what it prints, and its exit statuses.
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

# fields NAME...: these members of the JSON objects on stdin, a line each.
fields() {
	python3 -c 'import json, sys
for line in sys.stdin:
	print(*(json.loads(line).get(name, "-") for name in sys.argv[1:]))' "$@"
}

revs() { mvccctl "$@" --json | fields rev | paste -sd' '; }
stories() { mvccctl "$@" --json | fields op path path2; }
escapes() { tr '\0' '|'; }
count_down() { seq "$1" -1 "$2" | paste -sd' '; }

up() { mount_fs "${1:-}"; }
down() { cd "$WORK" && umount_fs; }

# ---- without any database -------------------------------------------------------------------------------
setup
down
cd "$WORK"
exits "--help" 0 mvccctl --help
says "--help lists the verbs" "  cat "
exits "--version" 0 mvccctl --version
for verb in status log cat; do
	exits "$verb --help" 0 mvccctl $verb --help
	says "$verb --help tells the usage" "usage: mvccctl [--mount M | --db DB] $verb"
done
refused 2 "usage" mvccctl
refused 2 "no such verb: sing" mvccctl sing
refused 2 "usage" mvccctl --db
refused 2 "usage" mvccctl cat
refused 2 "usage" mvccctl cat a b
refused 2 "usage" mvccctl status extra
refused 2 "usage" mvccctl log a b
refused 2 "-n wants a number" mvccctl log -n x
refused 2 "which database" mvccctl status
refused 10 "no database" mvccctl --db "$WORK/none" status
refused 10 "not a database" mvccctl --db "$MVCCFS_SRC" status
refused 10 "no mvccfs is mounted" mvccctl --mount "$WORK" status
refused 10 "No such file" mvccctl --mount "$WORK/none" status
exits "asking made nothing" 1 test -e "$WORK/none"

# ---- a mount --------------------------------------------------------------------------------------------
odd=$'odd\nname\t\\ \xff'
up
cd "$MNT"
mkdir d             # 2
echo one >d/f       # 3
echo two >d/f       # 4
mv d/f d/g          # 5
echo three >d/f     # 6
ln d/g hard         # 7
echo odd >"$odd"    # 8
is "log: all, newest first" "8 7 6 5 4 3 2 1" revs log
is "log: one" "4" revs log 4..4
is "log: A..B" "5 4 3" revs log 3..5
is "log: A.." "8 7" revs log 7..
is "log: ..B" "2 1" revs log ..2
is "log: counted from head" "8 7 6" revs log head~2..head
is "log: -n" "8 7" revs log -n 2
is "log: -n of a path" "6" revs log -n 1 d/f
is "log: a file" "6 5 4 3" revs log d/f
is "log: a directory" "7 6 5 4 3 2" revs log d
is "log: by another name" "7 5" revs log d/g
is "log: path and range" "5 4" revs log d/f 4..5
is "log: range and path" "5 4" revs log 4..5 d/f
is "log: a path that is not there" "" revs log nowhere
is "story of a rename" "rename /d/g /d/f" stories log 5..5
is "story of a link" "link /hard /d/g" stories log 7..7
is "story of a mkdir" "mkdir /d -" stories log 2..2
is "story of a write" "write /d/f -" stories log 4..4

# Where one stands, and how a path may be said.
cd d
is "from below: f" "6 5 4 3" revs log f
is "from below: ../hard" "7" revs log ../hard
is "from below: ./g" "7 5" revs log ./g
is "from below: ." "7 6 5 4 3 2" revs log .
is "from below: .." "8 7 6 5 4 3 2 1" revs log ..
is "absolute" "6 5 4 3" revs log "$MNT/d/f"
is "absolute, with detours" "6 5 4 3" revs log "$MNT//d/../d/./f"
cd "$MNT/@rev/4/d"
is "standing in the past" "6 5 4 3" revs log f
cd "$WORK"
ln -s "$MNT/d" way
is "over a link" "6 5 4 3" revs log way/f
is "over an absolute link" "6 5 4 3" revs log "$WORK/way/f"
is "a path into the past" "6 5 4 3" revs log "$MNT/@rev/4/d/f"
is "--mount, relative" "6 5 4 3" revs --mount "$MNT" log d/f
is "--mount of a place below" "6 5 4 3" revs --mount "$MNT/d" log d/f
is "--mount, from the root" "6 5 4 3" revs --mount "$MNT" log /d/f
is "--mount after the verb" "6 5 4 3" revs log d/f --mount "$MNT"
is "--db of a mounted database" "6 5 4 3" revs --db "$DB" log d/f
MVCCFS_MOUNT=$MNT is "by MVCCFS_MOUNT" "6 5 4 3" revs log d/f

# What is printed.
line=$(mvccctl --mount "$MNT" log 5..5)
[[ $line =~ ^\ +5\ \ 20[0-9-]{8}\ [0-9:]{8}\ \ $(id -un)\ +mv\ +rename\ +/d/g\ \<-\ /d/f$ ]] && line=good
equal "a line of the log" good "$line"
line=$(mvccctl --mount "$MNT" log 8..8)
equal "odd bytes are escaped" '/odd\nname\t\\ \377' "/${line#*/}"
mvccctl --mount "$MNT" log -z 6..7 >"$WORK/got"
is "-z" "/hard|/d/f|" escapes <"$WORK/got"
mvccctl --mount "$MNT" log -z 8..8 >"$WORK/got"
printf '/%s\0' "$odd" >"$WORK/want"
succeeds "-z prints the very bytes" cmp "$WORK/want" "$WORK/got"
mvccctl --mount "$MNT" log 8..8 --json | fields path_b64 | base64 -d >"$WORK/got"
printf '/%s' "$odd" >"$WORK/want"
succeeds "path_b64 is the very bytes" cmp "$WORK/want" "$WORK/got"
is "a path of odd bytes is found" "8" revs --mount "$MNT" log "$odd"
is "who" "$(id -u) $(id -g) mkdir" fields uid gid comm < <(mvccctl --mount "$MNT" log 2..2 --json)
is "status --json" "8 1 True $MNT $DB @rev" fields current floor mounted mountpoint db revname \
	< <(mvccctl --mount "$MNT" status --json)
exits "status" 0 mvccctl --mount "$MNT" status
says "status tells the revision" "revision     8"

# cat
is "cat" three mvccctl cat "$MNT/d/f"
is "cat --rev N" one mvccctl cat "$MNT/d/f" --rev 3
is "cat --rev=N PATH" two mvccctl cat --rev=4 "$MNT/d/f"
is "cat -r head~K" two mvccctl --mount "$MNT" cat d/f -r head~4
is "cat of a link" two mvccctl --mount "$MNT" cat hard
is "cat of odd bytes" odd mvccctl --mount "$MNT" cat "$odd"
refused 1 "not there at revision 2" mvccctl --mount "$MNT" cat d/f --rev 2
refused 1 "Not a directory" mvccctl --mount "$MNT" cat d/f/x --rev 3
refused 1 "no revision 99" mvccctl --mount "$MNT" cat d/f --rev 99
refused 2 "no revision" mvccctl --mount "$MNT" cat d/f --rev ../..
refused 2 "is a directory" mvccctl --mount "$MNT" cat d
refused 2 "is a directory" mvccctl --mount "$MNT" cat /
refused 1 "99 does not exist" mvccctl --mount "$MNT" log ..99
refused 1 "no revision 0" mvccctl --mount "$MNT" log 0..
refused 2 "backwards" mvccctl --mount "$MNT" log 4..2
ln -s d/f "$MNT/link"              # 9
mkfifo "$MNT/fifo"                 # 10
head -c 3000000 /dev/urandom >big
cp big "$MNT/big"                  # 11
refused 2 "symbolic link" mvccctl --mount "$MNT" cat link
refused 2 "no regular file" mvccctl --mount "$MNT" cat fifo
mvccctl --mount "$MNT" cat big >got
succeeds "cat of a large file" cmp big got
# shellcheck disable=SC2016
exits "a reader that goes away is no trouble" 0 bash -o pipefail -c '"$@" | head -c 10 >/dev/null' - \
	"$MVCCCTL_BIN" --mount "$MNT" cat big
equal "... nor worth a word" "" "$output"

# A long log comes in pages.
for i in $(seq 1500); do echo "$i" >"$MNT/n"; done
is "pages: all" "$(count_down 1511 1)" revs --mount "$MNT" log
is "pages: of a path" "$(count_down 1511 12)" revs --mount "$MNT" log n
is "pages: limited" "$(count_down 1511 411)" revs --mount "$MNT" log -n 1101

# @ctl by hand: more than one question to one open file, as a shell does it.
exec 7<>"$MNT/@ctl"
echo '{"verb":"log","limit":1}' >&7
reply=$(cat <&7)
[[ $reply == '{"ok":true,'*'"rev":1511,'*'"next":1510}' ]] && reply=good
equal "@ctl answers a shell" good "$reply"
echo 'nonsense' >&7
reply=$(cat <&7)
[[ $reply == '{"ok":false,'*'"errno":"EINVAL","exit":2}' ]] && reply=good
equal "@ctl answers again" good "$reply"
exec 7>&-

# Somebody else may read what modes allow, but not ask.
if as_root; then
	down
	up allow_other
	chmod 755 "$MNT"
	cp "$MVCCCTL_BIN" mvccctl
	chmod 755 mvccctl
	nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups "$WORK/mvccctl")
	refused 2 "only root and the owner" "${nobody[@]}" --mount "$MNT" status
	refused 2 "only root and the owner" "${nobody[@]}" --mount "$MNT" log
	is "anybody may read what modes allow" one "${nobody[@]}" --mount "$MNT" cat d/f --rev 3
	mkdir bind
	mount --bind "$MNT/d" bind
	cd bind
	is "a bind mount: log" "6 5 4 3" revs log f
	is "a bind mount: cat" one mvccctl cat f --rev 3
	cd "$WORK"
	umount bind
fi

# Mounts that show the past otherwise, or not at all.
down
up revname=.history
is "cat, revname=" one mvccctl --mount "$MNT" cat d/f --rev 3
down
up revdir=disabled
is "log, revdir=disabled" 4 revs --mount "$MNT" log 4..4
refused 2 "shows no history" mvccctl --mount "$MNT" cat d/f --rev 3
down
up rev=4
refused 2 "single revision" mvccctl --mount "$MNT" log
refused 2 "single revision" mvccctl --mount "$MNT" cat d/f
down

# ---- not mounted ----------------------------------------------------------------------------------------
head=$(mvccctl --db "$DB" status --json | fields current)
is "log of a file" "6 5 4 3" revs --db "$DB" log d/f 1..1511
is "log of a file, from the root" "6 5 4 3" revs --db "$DB" log /d/f 1..1511
MVCCFS_DB=$DB is "by MVCCFS_DB" "6 5 4 3" revs log d/f 1..1511
is "log, all" "$(count_down "$head" 1)" revs --db "$DB" log
is "cat --rev" one mvccctl --db "$DB" cat d/f --rev 3
is "cat" three mvccctl --db "$DB" cat d/f
is "cat, options last" two mvccctl cat --rev 4 /d/f --db "$DB"
is "cat of odd bytes, not mounted" odd mvccctl --db "$DB" cat "$odd"
mvccctl --db "$DB" cat big >got
succeeds "cat of a large file, not mounted" cmp big got
refused 1 "not there at revision 2" mvccctl --db "$DB" cat d/f --rev 2
refused 1 "Not a directory" mvccctl --db "$DB" cat d/f/x --rev 3
refused 1 "no revision 9999" mvccctl --db "$DB" cat d/f --rev 9999
refused 2 "no revision" mvccctl --db "$DB" cat d/f --rev yore
refused 2 "is a directory" mvccctl --db "$DB" cat d
refused 2 "symbolic link" mvccctl --db "$DB" cat link
refused 2 "no regular file" mvccctl --db "$DB" cat fifo
is "status --json, not mounted" "$head False -" fields current mounted mountpoint \
	< <(mvccctl --db "$DB" status --json)
exits "status, not mounted" 0 mvccctl --db "$DB" status
says "... and says so" "not mounted"

# Locked by what is no mount: a mvccctl whose output nobody takes.
mkfifo hold
"$MVCCCTL_BIN" --db "$DB" cat big >hold &
holder=$!
exec 8<hold
head -c 1 <&8 >/dev/null
refused 11 "in use by pid $holder" mvccctl --db "$DB" status
exec 8<&-
wait $holder
succeeds "... and free again" mvccctl --db "$DB" status

finish
