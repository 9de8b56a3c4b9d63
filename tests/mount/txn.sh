#!/bin/bash
# @txn: a writable view of the whole tree that is one revision in the end, or nothing; by its names, and by mvccctl.
. "$(dirname "$0")/lib.sh"
setup
cd "$MNT"
ctl() { "$MVCCCTL_BIN" "$@"; }

# ---- isolation -----------------------------------------------------------------------------------------

echo old >f
echo bystander >g
mkdir d
echo moved >d/moved
ls new 2>/dev/null || true # the kernel now knows that it is absent
makes 0 "beginning a transaction" mkdir @txn/t
fill() {
	echo of t >@txn/t/f
	echo new >@txn/t/new
	mv @txn/t/d/moved @txn/t/away
	mkdir -p @txn/t/d/sub/sub
	rm @txn/t/g
}
makes 0 "what is done in it" fill
equal "it is seen in it" "of t new moved" "$(cat @txn/t/f @txn/t/new @txn/t/away | xargs)"
equal "and by nobody else" "old bystander moved" "$(cat f g d/moved | xargs)"
refuses "nor is it in the live tree" "No such file" cat new
uncounted
mkdir @txn/u
equal "nor in another transaction" "old" "$(cat @txn/u/f)"
echo live >live
refuses "what others do is not seen in it" "No such file" cat @txn/t/live
equal "@txn lists what is open" "t u" "$(ls @txn | xargs)"
equal "with its parent" ". .. t u" "$(ls -a @txn | xargs)"
equal "and is in no listing itself" "d f g live" "$(ls -A | xargs)"
equal "its numbers are its own" "" "$(comm -12 <(ls -i f d | awk '{print $1}' | sort) \
	<(ls -i @txn/t/f @txn/t/d | awk '{print $1}' | sort))"
refuses "nothing is moved between trees" "Invalid cross-device link" \
	perl -e 'rename($ARGV[0], $ARGV[1]) or die "$!\n"' f @txn/t/f2
refuses "nothing is made beside them" "Operation not permitted" touch @txn/x
exec 5<f
equal "a handle, before" "old" "$(cat <&5)"
echo "why it was made" >@txn/t/@message
equal "the message can be read" "why it was made" "$(cat @txn/t/@message)"
makes 1 "a commit" touch @txn/t/@commit
equal "the live tree follows: files the kernel had read" "of t" "$(cat f)"
equal "a handle that was open" "of t" "$(cat /proc/self/fd/5 <&5)"
exec 5<&-
equal "names it knew to be absent, or present" "new moved" "$(cat new away | xargs)"
equal "listings" "away d f live new" "$(ls | xargs)"
refuses "what was removed is gone" "No such file" cat g
equal "what others did is kept" "live" "$(cat live)"
refuses "the transaction is over" "No such file" ls @txn/t
equal "the other one still sees what it saw" "old" "$(cat @txn/u/f)"
output=$(ctl log | head -n 1)
says "the log tells what it was called" "/@txn/t"
says "and why" '"why it was made"'
says "and who committed" "touch"

# ---- conflicts -----------------------------------------------------------------------------------------

echo mine >@txn/u/f
echo other >@txn/u/other
refuses "a file that others changed since" "Device or resource busy" touch @txn/u/@commit
equal "it says which" "/f" "$(cat @txn/u/@conflicts)"
equal "it stays open" "mine other" "$(cat @txn/u/f @txn/u/other | xargs)"
makes 0 "an abort" rmdir @txn/u
refuses "then nothing is left of it" "No such file" ls @txn/u
equal "the live tree is as it was" "of t" "$(cat f)"

uncounted
mkdir @txn/w
cat @txn/w/f >/dev/null
echo derived >@txn/w/derived
echo changed >f
refuses "a file that was only read, and changed since" "Device or resource busy" touch @txn/w/@commit
rmdir @txn/w
mkdir @txn/w
ls -l @txn/w >/dev/null
echo more >@txn/w/d/more
echo changed again >f
echo beside >d/beside
makes 1 "what was only listed does not hold it up, nor a new name beside one of its" touch @txn/w/@commit
equal "both are there" "beside more sub" "$(ls d | xargs)"

uncounted
# A live file that is being written when the commit comes is a revision before it.
mkdir @txn/w
echo x >>@txn/w/f
exec 5>>f
echo being written >&5
refuses "a file being written meanwhile" "Device or resource busy" touch @txn/w/@commit
exec 5>&-
rmdir @txn/w
equal "which lost nothing" "changed again being written" "$(xargs <f)"

# ---- an ordinary tree ----------------------------------------------------------------------------------

ctl txn begin o >/dev/null
cd @txn/o
seq 400000 >big # more than may be dirty in memory
cp big copy
ln big link
mv copy d/copy
ln -s big sym
mkfifo fifo
setfattr -n user.note -v hello big
chmod 751 d
touch -d 2001-02-03 d
equal "content" "$(seq 400000 | md5sum)" "$(md5sum <big)"
succeeds "a copy" cmp big d/copy
equal "links have one number" "1" "$(stat -c %i big link | sort -u | wc -l)"
equal "and are counted" "2" "$(stat -c %h link)"
equal "a symbolic link" "big" "$(readlink sym)"
equal "an xattr" "hello" "$(getfattr --only-values -n user.note link)"
equal "times and mode of a directory" "751 2001-02-03" "$(stat -c '%a %y' d | cut -c 1-14)"
exec 5<d/copy
rm d/copy
equal "a file that lost its name while open" "$(seq 400000 | md5sum)" "$(md5sum <&5)"
exec 5<&-
truncate -s 1000 big
equal "truncated" "$(seq 400000 | head -c 1000 | md5sum)" "$(md5sum <link)"
if command -v git >/dev/null; then
	git_work() {
		git init -q repo && cd repo && git config user.email a@b && git config user.name n &&
			cp "$MVCCFS_SRC"/fs/*.c . && git add . && git commit -qm one &&
			git mv ns.c renamed.c && git commit -qm two && git gc -q && git fsck --strict
	}
	succeeds "git, with its maps and renames" git_work
fi
listing . | grep -v ' fifo ' >"$WORK/inside"
cd "$MNT"
makes 1 "all of it" touch @txn/o/@commit
listing . | grep -v ' fifo ' >"$WORK/outside"
equal "is the same in the live tree" "" "$(diff "$WORK/inside" "$WORK/outside" | head -n 5)"
[ ! -d repo ] || succeeds "git agrees" git -C repo fsck --strict

# Who stands in one that ends is told so.
mkdir @txn/s
cd @txn/s/d
rmdir "$MNT/@txn/s"
refuses "the working directory is stale after an abort" "" ls .
cd "$MNT"
refuses "an ended name" "No such file" ls @txn/s

# ---- mvccctl -------------------------------------------------------------------------------------------

uncounted
mkdir sub
cd sub
load() { ctl txn --message "a load" -- sh -c 'i=0; while [ $i -lt 5000 ]; do echo $i >n$i; i=$((i+1)); done'; }
makes 1 "5,000 files by mvccctl txn" load
equal "in the directory that corresponds" "5000" "$(ls | wc -l)"
cd "$MNT"
makes 0 "a command that fails" exits "its status" 7 ctl txn -- sh -c 'echo x >failed; exit 7'
refuses "leaves nothing" "No such file" cat failed
uncounted
exits "a command that is not there" 127 ctl txn -- no-such-program
exits "a command ended by a signal" 143 ctl txn -- sh -c 'kill -TERM $$'
exits "a conflicting writer meanwhile" 1 ctl txn -- sh -c "cat f >copy; echo theirs >'$MNT/f'; echo ours >f"
says "is told by its path" "/f"
equal "and has won" "theirs" "$(cat f)"
refuses "nothing else came of it" "No such file" cat copy
exits "inside another one" 2 ctl txn -- sh -c "cd @txn/* 2>/dev/null; '$MVCCCTL_BIN' txn -- true"
equal "none is left open" "" "$(ls @txn)"
exits "a labelled one" 0 ctl run --session nightly --message "what for" -- "$MVCCCTL_BIN" txn -- sh -c 'echo x >labelled'
output=$(ctl log --json -n 1)
says "has the session's label" '"session":"nightly"'
says "and its message" '"message":"what for"'
echo 0 >n
count_up() { # each step again until nobody came in between
	for _ in 1 2 3 4 5; do
		# shellcheck disable=SC2016
		until ctl txn -- sh -c 'echo $(($(cat n) + 1)) >n' 2>/dev/null; do :; done
	done
}
count_up &
count_up &
count_up &
wait
equal "counting by several at once" "15" "$(cat n)"
exits "begin" 0 ctl txn begin --message why 'a b'
equal "says where" "$MNT/@txn/a b" "$output"
exits "the same again" 2 ctl txn begin 'a b'
exits "list" 0 ctl txn list
says "has its name" "a b"
says "and its message" '"why"'
exits "as JSON" 0 ctl txn list --json
says "in members" '"name":"a b"'
echo x >'@txn/a b/x'
exits "commit" 0 ctl txn commit 'a b'
equal "says which revision" "$(head_rev)" "$output"
exits "once only" 1 ctl txn commit 'a b'
exits "abort of none" 1 ctl txn abort none
exits "no words" 2 ctl txn

# ---- kills: all or nothing -----------------------------------------------------------------------------

cd /
mkdir "$MNT/kill"
load_here() { # FILES, and one that is stored apart
	for ((i = 0; i < 300; i++)); do
		[ $i -ne "$1" ] || kill -9 "$2"
		echo $i >f$i || return 1
	done 2>/dev/null
	head -c 3000000 /dev/zero >big
	[ "$1" -ne 300 ] || kill -9 "$2"
}
export -f load_here
# The command itself kills the daemon, at its N-th file, or at its end.
killed_within() { # N
	ctl --mount "$MNT" txn -- bash -c 'cd "$1/@txn/"*/kill && load_here "$2" "$3"' bash "$MNT" "$1" "$pid"
}
# The commit is on its way, or (0) has been acknowledged.
killed_in_commit() { # HOW-LONG, in turns of a loop
	mkdir "$MNT/@txn/k"
	(cd "$MNT/@txn/k/kill" && load_here -1)
	if [ "$1" -eq 0 ]; then
		touch "$MNT/@txn/k/@commit" && acknowledged=yes
	else
		touch "$MNT/@txn/k/@commit" &
		for ((i = 0; i < $1; i++)); do :; done
	fi
	kill -9 "$pid"
	wait || true
}
for at in "within 0" "within 1" "within 150" "within 299" "within 300" \
	"in_commit 1" "in_commit 1000" "in_commit 3000" "in_commit 6000" "in_commit 0"; do
	rm -rf "$MNT"/kill/*
	sync -f "$MNT"
	pid=$(daemon_pid)
	before=$(head_rev)
	acknowledged=
	# shellcheck disable=SC2086
	killed_$at >/dev/null 2>&1 || true
	until_true "the database is let go" not_locked || true
	umount -l "$MNT" 2>/dev/null || fusermount3 -uz "$MNT"
	mount_fs
	have=$(find "$MNT/kill" -type f | wc -l)
	after=$(head_rev)
	if [ "$have" -eq 0 ] && [ "$after" -eq "$before" ] && [ -z "$acknowledged" ]; then
		ok "killed $at: nothing of it"
	elif [ "$have" -eq 301 ] && [ "$after" -eq $((before + 1)) ] && [ "${at%% *}" = in_commit ] &&
		cmp -s "$MNT/kill/big" <(head -c 3000000 /dev/zero); then
		ok "killed $at: all of it"
	else
		fail "killed $at" "$have of 301 files, revision $before, then $after"
	fi
	equal "no transaction is left" "" "$(ls "$MNT/@txn")"
done
umount_fs
exits "without a mount" 2 ctl --db "$DB" txn -- true
says "it says so" "mounted"
finish
