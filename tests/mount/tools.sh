#!/bin/bash
# Everyday tools with live and historical trees side by side: what reads history gets it whole, what
# walks the live tree does not fall into it, and nothing takes the one for the other.
. "$(dirname "$0")/lib.sh"
setup
cd "$MNT"

# ---- a tree, and a later state of it -------------------------------------------------------------------

mkdir -p proj/sub/deep proj/gone
echo "first" >proj/f
seq 20000 >proj/large
echo "stays as it is" >proj/same
echo "same size 1" >proj/sized
echo "needle in the past" >proj/sub/old
echo "deep" >proj/sub/deep/file
echo "will go" >proj/gone/file
printf '#!/bin/sh\necho hello\n' >proj/run
chmod 755 proj/run
chmod 640 proj/f
ln -s f proj/link
ln proj/same proj/hard
ln -s nowhere proj/dangling
mkfifo proj/fifo
setfattr -n user.label -v one proj/f
truncate -s 3M proj/sparse
echo end >>proj/sparse
touch -d '2003-04-05 06:07:08.123456789' proj/f proj/sub proj/same
if as_root; then
	chown 1234:2345 proj/f
fi
then_rev=$(head_rev)
then=@rev/$then_rev
cp -a proj "$WORK/then" # what stood there then, as a copy outside
copy_listing=$(listing proj)

echo "second" >proj/f
chmod 600 proj/f
setfattr -n user.label -v two proj/f
echo "same size 2" >proj/sized
touch -r proj/same proj/sized
seq 20000 | sed 's/^10000$/X/' >proj/large
rm proj/sub/old proj/run
mv proj/sub/deep proj/sub/moved
rm -r proj/gone
echo "new" >proj/new
mkdir proj/newdir
now_rev=$(head_rev)
cp -a proj "$WORK/now"

# ---- reading -------------------------------------------------------------------------------------------

same_trees "history is what stood there" "$WORK/then" "$then/proj"
equal "with modes, owners, times, nlink and sizes" "$copy_listing" "$(listing "$then/proj")"
same_trees "the same below a directory" "$WORK/then" "proj/$then"
equal "and with all of stat" "$copy_listing" "$(listing "proj/$then")"
same_trees "below a directory of a directory" "$WORK/then/sub" "proj/sub/$then"
same_trees "@rev/head is the live tree" proj @rev/head/proj
same_trees "@rev/head~0 is @rev/head" @rev/head/proj @rev/head~0/proj
same_trees "@rev/head~K counts back" "$then/proj" "@rev/head~$((now_rev - then_rev))/proj"
equal "user.mvccfs.rev tells which revision head is" "$now_rev" \
	"$(getfattr --only-values -n user.mvccfs.rev "proj/@rev/head")"
equal "and which head~1 is" "$((now_rev - 1))" "$(getfattr --only-values -n user.mvccfs.rev "@rev/head~1")"
equal "a symlink reads" f "$(readlink "$then/proj/link")"
equal "a symlink leads within its revision" first "$(cat "$then/proj/link")"
equal "an xattr reads" one "$(getfattr --only-values -n user.label "$then/proj/f")"
equal "the live one has its own" two "$(getfattr --only-values -n user.label proj/f)"
equal "mvccfs' own xattrs are not listed" "user.label" "$(getfattr "$then/proj/f" | sed -n '2p')"
equal "getcwd works in history" "$MNT/$then/proj/sub" "$(cd "$then/proj/sub" && env pwd -P)"
equal ".. leads out of history step by step" "$(stat -c %i "$then")" "$(stat -c %i "$then/proj/..")"
equal "a program of history runs" hello "$("$then/proj/run")"
equal "@rev lists the newest 100 revisions" "$(seq $((now_rev > 100 ? now_rev - 99 : 1)) "$now_rev")" \
	"$(ls -1 @rev | grep '^[0-9]*$' | sort -n)"
there=$(for r in $(seq "$now_rev"); do [ ! -d "@rev/$r/proj/sub" ] || echo "$r"; done)
equal "in every directory those in which it was there" "$there" \
	"$(ls -1 proj/sub/@rev | grep '^[0-9]*$' | sort -n)"
succeeds "ls -la of it all" ls -laR "$then"
equal "SEEK_HOLE: history keeps holes" yes "$([ "$(stat -c %b "$then/proj/sparse")" -lt 1000 ] && echo yes)"

# What is not there.
refuses "a future revision" "No such file or directory" ls "@rev/$((now_rev + 1000))"
refuses "revision 0" "No such file or directory" ls @rev/0
for name in x 01 -1 +1 1x "1 " "" head~ head~x head+1 head~99999999 HEADX 99999999999999999999 1/../2/x; do
	[ -z "$name" ] || refuses "@rev/$name" "No such file or directory" stat "@rev/$name"
done
refuses "a file before it was" "No such file or directory" cat "$then/proj/new"
refuses "a file after it went" "No such file or directory" cat "@rev/$now_rev/proj/run"

# A name that was not there is not remembered as missing.
next=$((now_rev + 1))
[ ! -e "@rev/$next" ] && ok "the next revision is not there yet" || fail "@rev/$next exists"
mkdir proj/made
[ -e "@rev/$next/proj/made" ] && ok "and then it is" || fail "@rev/$next does not exist, at $(head_rev)"
rmdir proj/made

# ---- changing history ----------------------------------------------------------------------------------

ro="Read-only file system"
refuses "writing" "$ro" bash -c "echo x >'$then/proj/f'"
refuses "appending" "$ro" bash -c "echo x >>'$then/proj/f'"
refuses "creating" "$ro" bash -c "echo x >'$then/proj/another'"
refuses "creating in @rev" "" bash -c "echo x >@rev/another"
refuses "unlink" "$ro" unlink "$then/proj/f"
refuses "rm -rf" "$ro" rm -rf "$then/proj/sub"
refuses "rmdir" "$ro" rmdir "$then/proj/gone"
refuses "mkdir" "$ro" mkdir "$then/proj/d"
refuses "chmod" "$ro" chmod 600 "$then/proj/f"
refuses "touch" "$ro" touch "$then/proj/f"
refuses "truncate" "$ro" truncate -s 0 "$then/proj/f"
refuses "mv within" "$ro" mv "$then/proj/f" "$then/proj/g"
refuses "ln within" "$ro" ln "$then/proj/f" "$then/proj/g"
refuses "ln -s" "$ro" ln -s x "$then/proj/g"
refuses "mkfifo" "$ro" mkfifo "$then/proj/p"
refuses "setfattr" "$ro" setfattr -n user.x -v y "$then/proj/f"
refuses "setfattr -x" "$ro" setfattr -x user.label "$then/proj/f"
if as_root; then
	refuses "chown" "$ro" chown 1 "$then/proj/f"
fi
refuses "ln of history into the live tree" "" ln "$then/proj/f" proj/linked
[ ! -e proj/linked ] && ok "makes no link" || fail "proj/linked was made"
same_trees "history has not changed" "$WORK/then" "$then/proj"

# ---- diff, cmp, cp, tar, rsync -------------------------------------------------------------------------

exits "diff -r live history" 1 diff -r --no-dereference proj "$then/proj"
for name in f large sized; do
	says "diff -r: $name differs" "diff -r --no-dereference proj/$name $then/proj/$name"
done
says "diff -r: what went" "Only in $then/proj/sub: old"
says "diff -r: what came" "Only in proj: new"
exits "diff of a file and itself then, of one size and time" 1 diff -q proj/sized "$then/proj/sized"
exits "cmp" 1 cmp proj/sized "$then/proj/sized"
exits "diff of what did not change" 0 diff proj/same "$then/proj/same"
exits "diff -r of two revisions" 1 diff -rq --no-dereference "$then/proj" "@rev/$now_rev/proj"

# A version has one inode number wherever it shows, and never the live one.
equal "the inode number of an unchanged file, in two revisions" "$(stat -c %i "$then/proj/same")" \
	"$(stat -c %i "@rev/$now_rev/proj/same")"
equal "two names of one file, then" "$(stat -c %i "$then/proj/same")" "$(stat -c %i "$then/proj/hard")"
[ "$(stat -c %i "$then/proj/f")" != "$(stat -c %i "@rev/$now_rev/proj/f")" ] &&
	ok "two versions have two numbers" || fail "two versions share an inode number"
shared=$(comm -12 <(find proj -printf '%i\n' | sort -u) \
	<(find "$then" "@rev/$now_rev" -printf '%i\n' | sort -u))
equal "no inode number is both live and historical" "" "$shared"
doubles=$(find "$then" "@rev/$now_rev" -type d -printf '%i\n' | sort | uniq -d)
equal "directories of two revisions are two" "" "$doubles"

cp -a proj "$WORK/live-copy"
succeeds "restoring with cp" cp "$then/proj/f" proj/f
equal "has restored" first "$(cat proj/f)"
equal "and kept the live mode" 600 "$(stat -c %a proj/f)"
succeeds "restoring with cp -a" cp -a "$then/proj/f" proj/f
equal "has restored mode, owner and time" "$(stat -c '%a %u:%g %y %s' "$then/proj/f")" \
	"$(stat -c '%a %u:%g %y %s' proj/f)"
equal "and xattrs" "$(getfattr -d "$then/proj/f" | sed 1d)" "$(getfattr -d proj/f | sed 1d)"
succeeds "restoring what went" cp -a "$then/proj/run" proj/run
succeeds "restoring a directory with cp -a" cp -a "$then/proj" restored
same_trees "has restored" "$WORK/then" restored
equal "in all of stat" "$copy_listing" "$(listing restored)"
succeeds "cp -a out of the mount" cp -a "$then/proj" "$WORK/copied"
equal "gives all of stat" "$copy_listing" "$(listing "$WORK/copied")"
succeeds "cp -al within the live tree" cp -al restored/sub restored/linked

succeeds "tar of live and history together" tar --format=posix -cf "$WORK/both.tar" proj "$then/proj"
mkdir "$WORK/untar"
succeeds "untar" tar -C "$WORK/untar" -xf "$WORK/both.tar"
same_trees "tar: the live tree" proj "$WORK/untar/proj"
same_trees "tar: history is no link to it" "$WORK/then" "$WORK/untar/$then/proj"
equal "tar: in all of stat" "$copy_listing" "$(listing "$WORK/untar/$then/proj")"

if command -v rsync >/dev/null; then
	sleep 1.1 # rsync takes a new link or fifo for dated right if it was made in the second that it is to show
	succeeds "rsync -a of history" rsync -aH "$then/proj/" "$WORK/rsynced"
	equal "in all of stat" "$copy_listing" "$(listing "$WORK/rsynced")"
	succeeds "rsync -aH --delete back to then" rsync -aHI --delete "$then/proj/" proj
	same_trees "has gone back" "$WORK/then" proj
	succeeds "rsync -aH --delete to now again" rsync -aHI --delete "@rev/$now_rev/proj/" proj
	same_trees "has come again" "$WORK/now" proj
else
	ok "rsync: skipped, as there is none"
fi

# ---- what walks ----------------------------------------------------------------------------------------

equal "find" "" "$(find . -name '@*')"
equal "find counts each file once" "$(find "$WORK/now" | wc -l)" "$(find proj | wc -l)"
equal "ls -a" "" "$(ls -a | grep @ || true)"
equal "a glob" "" "$(compgen -G '*@*' || true)"
equal "completion" "" "$(compgen -f @ || true)"
equal "du counts the live tree alone" "$(find proj | wc -l)" "$(du -al proj | wc -l)"
exits "grep -r does not find the past" 1 grep -r "needle in the past" proj
equal "but there it does" "$then/proj/sub/old:needle in the past" "$(grep -r 'needle in the past' "$then")"
equal "tar of the live tree has no history" "" "$(tar -cf - . | tar -tf - | grep @ || true)"

# git: no history among its files, and a good eye for changes.
if command -v git >/dev/null; then
	export GIT_CONFIG_NOSYSTEM=1 HOME=$WORK
	export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
	rm -f proj/fifo
	succeeds "git init, add, commit" bash -c "cd proj && git init -q && git add -A && git commit -qm one"
	equal "git status is clean" "" "$(git -C proj status --porcelain)"
	equal "git has no history of ours" "" "$(git -C proj ls-files | grep @ || true)"
	git_rev=$(head_rev)
	echo more >>proj/f
	equal "git status sees a change" " M f" "$(git -C proj status --porcelain)"
	equal "git in history sees its own state" "" \
		"$(git -C "proj/@rev/$git_rev" --no-optional-locks status --porcelain 2>&1)"
	succeeds "git checkout" git -C proj checkout -q -- f
	equal "is clean again" "" "$(git -C proj status --porcelain)"
	succeeds "git fsck" git -C proj fsck --strict
	rm -rf proj/.git
else
	ok "git: skipped, as there is none"
fi

# rm -rf takes what is live, and leaves what was.
before_rm=$(head_rev)
cp -a proj "$WORK/before-rm"
succeeds "rm -rf of a directory" rm -rf proj
[ ! -e proj ] && ok "it is gone" || fail "proj is still there"
same_trees "history has it" "$WORK/before-rm" "@rev/$before_rm/proj"
refuses "a directory that is gone has no @rev" "No such file or directory" ls "proj/@rev"
mkdir proj
same_trees "by path: a directory made anew shows what stood there" "$WORK/then" "proj/$then"
# A glob in the root must not meet reserved names.
succeeds "rm -rf * in the root" bash -c "rm -rf ./*"
equal "nothing is left" "" "$(ls -A)"
same_trees "but all of history" "$WORK/then" "$then/proj"
same_trees "and what was restored then" "$WORK/before-rm" "@rev/$before_rm/proj"

# A renamed directory: history goes by path.
mkdir one
echo 1 >one/f
r1=$(head_rev)
mv one two
echo 2 >two/f
refuses "under its new name it was not there then" "No such file or directory" ls "two/@rev/$r1/"
equal "under its old name it was" 1 "$(cat "@rev/$r1/one/f")"

equal "df of history is df of the mount" "$(df --output=size . | tail -1)" \
	"$(df --output=size "$then" | tail -1)"
cd /
umount_fs
mount_fs
same_trees "after mounting again history is what it was" "$WORK/then" "$MNT/$then/proj"
equal "in all of stat" "$copy_listing" "$(listing "$MNT/$then/proj")"
umount_fs
finish
