#!/bin/bash
# diff, show, undo, redo and restore: on a mount, which follows at once, with files open and mapped meanwhile; and on a
# database that is not mounted.
. "$(dirname "$0")/lib.sh"
unset MVCCFS_MOUNT MVCCFS_DB
setup
cd "$MNT"

mvccctl() { "$MVCCCTL_BIN" "$@"; }

# is WHAT EXPECTED COMMAND...: its output; the last newline does not count.
is() {
	local what=$1 want=$2 got
	shift 2
	got=$("$@" 2>&1) || got+=" (exit $?)"
	equal "$what" "$want" "$got"
}

quiet() { "$@" >/dev/null; }
members() { python3 -c 'import json, sys
for line in sys.stdin:
	print(*(json.loads(line).get(name, "-") for name in sys.argv[1:]))' "$@"; }

# ---- a history --------------------------------------------------------------------------------------------
odd=$'odd\nname \xff'
mkdir d                                    # 2
printf 'one\ntwo\nthree\n' >d/f            # 3
printf 'same\n' >d/kept                    # 4
printf 'one\nTWO\nthree\n' >d/f            # 5
chmod 600 d/f                              # 6
mv d e                                     # 7
printf 'x\n' >"e/$odd"                     # 8
rm e/kept                                  # 9
ln -s f e/link                             # 10
printf 'a\0b' >e/bin                       # 11
equal "one revision each" 11 "$(head_rev)"

# ---- diff -------------------------------------------------------------------------------------------------
is "diff: nothing differs" "" mvccctl diff 5..5
is "diff: a list, and status 1" 'P  /d/f  (mode) (exit 1)' mvccctl diff 5..6
is "diff: A.. is up to now" 'A  /e/bin (exit 1)' mvccctl diff 10..
is "diff: backward" 'D  /e/bin (exit 1)' mvccctl diff 11..10
is "diff: a moved directory is one line" 'R  /d -> /e (exit 1)' mvccctl diff 6..7
is "diff: a path" 'A  /e/link (exit 1)' mvccctl diff 3.. e/link
is "diff: what was there counts, too" $'D  /d/kept\nR  /d -> /e\nM  /d/f -> /e/f  (content, mode) (exit 1)' \
	mvccctl diff 4.. /d
is "diff: odd names are escaped" 'A  /e/odd\nname \377 (exit 1)' mvccctl diff 7..8
is "diff: --name-status" $'R\t/d\t/e\nM\t/d/f\t/e/f (exit 1)' mvccctl diff --name-status 4..7 /d
equal "diff: -z" $'/e/odd\nname \xff|' "$(mvccctl diff -z 7..8 | tr '\0' '|')"
equal "diff: --name-status -z" 'R|/d|/e|M|/d/f|/e/f|' "$(mvccctl diff --name-status -z 4..7 | tr '\0' '|')"
equal "diff: --json" $'M /d/f [\'content\', \'times\']' "$(mvccctl diff --json 4..5 | members status path what)"
is "diff: --stat" ' /d/f | 2 +-
 1 path changed, 1 line added, 1 removed (exit 1)' mvccctl diff --stat 4..5
is "diff: --stat of what is binary" ' /e/bin | Bin 0 -> 3 bytes
 1 path changed, 0 lines added, 0 removed (exit 1)' mvccctl diff --stat 10..
is "diff: -p" 'diff --git a/d/f b/d/f
--- a/d/f
+++ b/d/f
@@ -1,3 +1,3 @@
 one
-two
+TWO
 three (exit 1)' mvccctl diff -p 4..5
is "diff: -p of what is binary" 'diff --git a/e/bin b/e/bin
new file mode 100644
Binary files /dev/null and b/e/bin differ (exit 1)' mvccctl diff -p 10..
cp -r --no-dereference @rev/7/e "$WORK/patched"
(cd "$WORK/patched" && cd .. && mkdir tree && mv patched tree/e)
exits "diff: what is not there is trouble" 2 mvccctl diff 1.. /nowhere
exits "diff: a range is needed" 2 mvccctl diff 4
exits "diff: a revision to come" 2 mvccctl diff 1..99
mvccctl diff -p 7..10 >"$WORK/p" || true
succeeds "diff: -p is a patch" git -C "$WORK/tree" apply --unsafe-paths "$WORK/p"
same_trees "... that makes the one tree of the other" "$WORK/tree/e" @rev/10/e

# ---- show -------------------------------------------------------------------------------------------------
exits "show" 0 mvccctl show 5
says "show: what was done" "did      write"
says "show: what it changed" "M  /d/f"
equal "show: --json" $'5 write - -\n- - M /d/f' "$(mvccctl show --json 5 | python3 -c 'import json, sys
for line in sys.stdin:
	o = json.loads(line)
	print(o.get("rev", "-"), o.get("op", "-"), o.get("status", "-"), o["path"] if "status" in o else "-")')"
is "show: the newest" "/e/bin|" sh -c "'$MVCCCTL_BIN' show -z | tr '\0' '|'"
exits "show: the first one" 0 mvccctl show 1
exits "show: none such" 1 mvccctl show 99

is "log -p" '+TWO' sh -c "'$MVCCCTL_BIN' log -p 5..5 | grep '^+T'"
is "log --stat" $' /e/link | 1 +\n /d/f | 2 +-' sh -c "'$MVCCCTL_BIN' log --stat | grep -E '(link|d/f) \\| [12] (.-|.\$)'"
exits "log -p is no JSON" 2 mvccctl log -p --json

# ---- undo, followed at once ---------------------------------------------------------------------------------
cat e/bin >"$WORK/bin"
exec 5<e/bin 6<e/f
stat e/link e/kept >/dev/null 2>&1 || true # so that the kernel knows one, and that the other is not there
is "undo --dry-run" 'A  /e/kept' mvccctl undo --dry-run 9
equal "... does nothing" 11 "$(head_rev)"
is "undo a removal" 'revision 12: undo of 9' mvccctl undo 9
equal "the name is there at once" same "$(cat e/kept)"
is "undo without a number: the newest" 'revision 13: undo of 11' mvccctl undo
refuses "the name has gone at once" "No such file" cat e/bin
equal "who has it open keeps it" "$(od -c "$WORK/bin")" "$(od -c <&5)"
is "undo again: the one before" 'revision 14: undo of 10' mvccctl undo
exits "that has gone, too" 1 readlink e/link
is "and one further: 9 is undone already" 'revision 15: undo of 8' mvccctl undo
is "redo" 'revision 16: redo of 15' mvccctl redo
equal "the odd name is back" x "$(cat "e/$odd")"
is "redo again" 'revision 17: redo of 14' mvccctl redo
equal "a link is back" f "$(readlink e/link)"
quiet mvccctl redo
succeeds "and content" cmp e/bin "$WORK/bin"
quiet mvccctl redo
refuses "what was undone by number is redone last" "No such file" cat e/kept
exits "nothing to redo" 1 mvccctl redo
says "... and says so" "nothing to redo"
same_trees "all is as it was" . @rev/11
equal "the stories" "redo undo" "$(mvccctl log --json -n 8 | members op | sort -u | paste -sd' ')"

# ---- content of open and mapped files ------------------------------------------------------------------------
head -c 300000 /dev/zero | tr '\0' 1 >e/big
head -c 300000 /dev/zero | tr '\0' 2 >e/big
exec 7<e/big
mkfifo "$WORK/go"
touch "$WORK/mapped"
python3 -c 'import mmap, os, sys
fd = os.open("e/big", os.O_RDONLY)
m = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
assert m[:] == b"2" * 300000
print("mapped", flush=True)
sys.stdin.readline()
assert m[:] == b"1" * 300000, m[:10]
assert os.pread(fd, 300000, 0) == b"1" * 300000
print("followed", flush=True)' <"$WORK/go" >"$WORK/mapped" &
mapper=$!
exec 8>"$WORK/go"
until_true "the file is mapped" grep -q mapped "$WORK/mapped"
quiet mvccctl undo
equal "a handle reads the new content" "$(head -c 300000 /dev/zero | tr '\0' 1 | md5sum)" "$(md5sum <&7)"
echo go >&8
status=0
wait $mapper || status=$?
equal "and so does a mapping" 0 $status
exec 5<&- 6<&- 7<&- 8>&-

# ---- a file that is being written ---------------------------------------------------------------------------
printf 'old old' >w
mkfifo "$WORK/write"
: >"$WORK/written"
python3 -c 'import mmap, os, sys
fd = os.open("w", os.O_RDWR)
m = mmap.mmap(fd, 0)
os.write(fd, b"new")   # in no revision yet
m[4:7] = b"new"        # and this is with the kernel alone
print("written", flush=True)
sys.stdin.readline()
assert m[:] == b"old old", m[:]
assert os.pread(fd, 9, 0) == b"old old"' <"$WORK/write" >"$WORK/written" &
writer=$!
exec 9>"$WORK/write"
until_true "it is being written" grep -q written "$WORK/written"
before=$(head_rev)
quiet mvccctl restore "$before" w
equal "what was being written is overwritten" "old old" "$(cat w)"
equal "and is in history" "new new" "$(cat "@rev/$((before + 1))/w")"
echo go >&9
status=0
wait $writer || status=$?
equal "the writer sees it" 0 $status
exec 9>&-
equal "and closing writes nothing more" "old old" "$(cat w)"

# ---- conflicts ------------------------------------------------------------------------------------------------
echo one >c
echo two >c
changed=$(head_rev)
echo three >c
exits "both changed it: status 1" 1 mvccctl undo "$changed"
says "the path is told" "/c: it was written to since"
exits "in JSON, too" 1 mvccctl undo --json "$changed"
says "... with the reason" '"why":"it was written to since"'
equal "nothing was changed" three "$(cat c)"
exits "the first revision stays" 2 mvccctl undo 1
exits "undo: backward" 2 mvccctl undo 9..5
exits "undo: of a session there is not" 1 mvccctl undo --session none

# ---- a range, a session, and who did it --------------------------------------------------------------------------
first=$(($(head_rev) + 1))
for i in 1 2 3; do echo $i >"r$i"; done
last=$(head_rev)
echo mine >mine
is "a range" "revision $((last + 2)): undo of $first..$last: wrong turn" mvccctl undo --message "wrong turn" "$first..$last"
equal "what others did stays" "c e mine w" "$(ls | paste -sd' ')"
mvccctl restore --session S "$last" r1 >/dev/null
echo other >other
mvccctl restore --session S "$last" r2 >/dev/null
succeeds "a session, with another's change in between" mvccctl undo --session S
equal "... is undone" "c e mine other w" "$(ls | paste -sd' ')"

# ---- restore -------------------------------------------------------------------------------------------------------
is "restore --dry-run" $'D  /e/big\nD  /e/bin\nA  /e/kept\nD  /e/link' mvccctl restore --dry-run 8 e
quiet mvccctl restore 8 e
same_trees "a directory as it was" e @rev/8/e
same_listing "with all of stat" e @rev/8/e
equal "the rest stays" "c e mine other w" "$(ls | paste -sd' ')"
quiet mvccctl restore 4 /
same_trees "the whole tree" . @rev/4
same_listing "with all of stat" . @rev/4
(cd d && quiet mvccctl restore 5 f kept)
equal "paths from where one is" TWO "$(sed -n 2p d/f)"
exits "restore: all is so already" 0 mvccctl restore 5 d
exits "restore: neither now nor then" 1 mvccctl restore 5 none
exits "restore: below a file" 2 mvccctl restore 5 d/f/x
exits "restore: usage" 2 mvccctl restore 5

# ---- killed meanwhile: all of it or nothing -----------------------------------------------------------------
mkdir many
for i in {1..400}; do echo "$i" >"many/$i"; done
full=$(head_rev)
rm -r many
for round in 0 1 2 3 4 5; do
	before=$(head_rev)
	(mvccctl undo "$((full + 1))..$before" >"$WORK/undone" 2>&1 || true) &
	undoer=$!
	python3 -c "import time; time.sleep($round * 0.015)" # anywhere in it: whatever came of it must be sound
	kill -9 "$(daemon_pid)"
	wait $undoer
	cd "$WORK"
	umount -l "$MNT" 2>/dev/null || fusermount3 -uz "$MNT"
	until_true "the killed daemon is gone" not_locked
	mount_fs
	cd "$MNT"
	if [ -e many ]; then
		same_trees "killed after $round: undone whole" . "@rev/$full"
		equal "... in one revision" $((before + 1)) "$(head_rev)"
		quiet mvccctl undo "$((before + 1))"
	else
		equal "killed after $round: nothing was done" "$before" "$(head_rev)"
	fi
done
exits "and the database is sound" 0 mvccctl check
cd "$WORK"

# ---- not mounted -----------------------------------------------------------------------------------------------------
cd "$WORK"
umount_fs
exits "diff of a database" 1 mvccctl --db "$DB" diff -p 4..5
says "... with content" "+TWO"
exits "--stat of a database" 1 mvccctl --db "$DB" diff --stat 10..11
says "... with sizes" "Bin 0 -> 3 bytes"
succeeds "undo" mvccctl --db "$DB" undo
succeeds "redo" mvccctl --db "$DB" redo
succeeds "restore" mvccctl --db "$DB" restore 11 /
mount_fs
same_trees "and it is so" "$MNT" "$MNT/@rev/11"
quiet mvccctl --mount "$MNT" compact head
cd "$MNT"
exits "below the floor: 13" 13 mvccctl undo 5
exits "diff below the floor: 13" 13 mvccctl diff 4..5
exits "restore from below the floor: 13" 13 mvccctl restore 4 /
finish
