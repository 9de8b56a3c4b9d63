#!/bin/bash
# @tag, @history and @status: made, read, renamed and removed by ordinary tools, hidden from those that walk.
. "$(dirname "$0")/lib.sh"
setup
cd "$MNT"
PATH=$(dirname "$MVCCCTL_BIN"):$PATH

echo one >f          # 2
echo two >f          # 3
mkdir d              # 4
echo deep >d/g       # 5
ln -s f link         # 6
chmod 600 f          # 7
rm link              # 8

# ---- @history ------------------------------------------------------------------------------------------
equal "versions of a file" "2 3 7" "$(ls -v @history/f | xargs)"
equal "with contents" "one two two" "$(cat @history/f/{2,3,7} | xargs)"
equal "with modes and sizes" "644 4 600 4" "$(stat -c '%a %s' @history/f/2 @history/f/7 | xargs)"
equal "with times" "$(stat -c %y @rev/2/f)" "$(stat -c %y @history/f/2)"
equal "the same file as under @rev" "$(stat -c %i @rev/2/f @rev/5/f @rev/7/f)" "$(stat -c %i @history/f/{2,3,7})"
equal "by time, as ls -lt has it" "2" "$(ls -t @history/f | tail -n 1)"
equal "found by content" "@history/f/2" "$(grep -l one @history/f/*)"
output=$(diff @history/f/2 f || true)
equal "compared with today" "< one > two" "$(grep '^[<>]' <<<"$output" | xargs)"
equal "of a symlink that is gone" "f" "$(readlink @history/link/6)"
equal "of a directory: its listings" "4 5" "$(ls -v @history/d | xargs)"
equal "and what was in it" "deep" "$(cat @history/d/5/g)"
equal "names, those that are gone too" "d f link" "$(ls @history | xargs)"
equal "in a directory below" "g" "$(ls d/@history)"
refuses "no such version" "No such file" cat @history/f/4
refuses "nothing ever had that name" "No such file" ls @history/nothing
refuses "cannot be changed" "Read-only" touch @history/f/9
refuses "nor removed" "Read-only" rm -f @history/f/2
refuses "nor opened for writing" "Read-only" bash -c 'echo x > @history/f/2'
rm -r d # 9, 10
equal "of a directory that is gone" "4 5 9" "$(ls -v @history/d | xargs)"
mv f moved # 11
equal "a name ends with a rename" "2 3 7" "$(ls -v @history/f | xargs)"
equal "and another begins" "11" "$(ls -v @history/moved | xargs)"
equal "no listing shows it" "moved" "$(ls -A)"

# ---- @tag ----------------------------------------------------------------------------------------------
succeeds "ln -s makes a tag" ln -s ../@rev/3 @tag/v1
succeeds "of the revision a word means now" ln -s ../@rev/head @tag/now
succeeds "by an absolute path" ln -s "$MNT/@rev/5" @tag/five
succeeds "by the expression alone" ln -s head~8 @tag/three
equal "tags are links" "../@rev/5 ../@rev/11 ../@rev/3 ../@rev/3" "$(readlink @tag/{five,now,three,v1} | xargs)"
equal "to be followed" "two" "$(cat @tag/v1/f)"
equal "and revisions" "two" "$(cat @rev/v1/f)"
equal "listed" "five now three v1" "$(ls @tag | xargs)"
equal "as mvccctl lists them" "five now three v1" "$(mvccctl tag -z | tr '\0' ' ' | xargs)"
refuses "no tag twice" "File exists" ln -sn head @tag/v1
refuses "none of a revision that is not there" "No such file" ln -s ../@rev/999 @tag/x
refuses "none of what is no revision" "Invalid argument" ln -s ../elsewhere/3 @tag/x
refuses "none by a name that means another revision" "Invalid argument" ln -s head @tag/12
refuses "no file among them" "Operation not permitted" touch @tag/x
refuses "no directory among them" "Operation not permitted" mkdir @tag/x
succeeds "mv gives another name" mv @tag/v1 @tag/v2
equal "which is there at once" "two" "$(cat @rev/v2/f)"
refuses "the old one is not" "No such file" cat @rev/v1/f
succeeds "of a tag" ln -s ../@tag/v2 @tag/same
succeeds "with a slash at its end" ln -s ../@rev/3/ @tag/slash
equal "mean the same" "../@rev/3 ../@rev/3" "$(readlink @tag/{same,slash} | xargs)"
succeeds "ln -sfn moves a tag" ln -sfn ../@rev/5 @tag/same
equal "to where it was told" "../@rev/5" "$(readlink @tag/same)"
succeeds "mv replaces one" mv -T @tag/slash @tag/same
equal "by the other" "../@rev/3" "$(readlink @tag/same)"
rm @tag/same
succeeds "rm takes it away" rm @tag/three
equal "gone" "five now v2" "$(ls @tag | xargs)"
mvccctl tag made 4 >/dev/null
equal "made from the side, seen at once" "../@rev/4" "$(readlink @tag/made)"
mvccctl untag made >/dev/null
refuses "removed from the side, gone at once" "No such file" stat @tag/made

echo more >>moved
mvccctl compact --wait head >/dev/null
equal "a tag survives compaction" "two" "$(cat @rev/v2/f)"
refuses "what has none does not" "Stale file handle" cat @rev/2/f
equal "of a file's versions those stay that a tag shows" "3" "$(ls -v @history/f | xargs)"
equal "a file unchanged since before the floor is read" "two more" "$(cat @rev/head/moved | xargs)"
cd /
umount_fs
mount_fs
cd "$MNT"
equal "and a restart" "five now v2" "$(ls @tag | xargs)"
equal "with what it keeps" "two" "$(cat @tag/v2/f)"

# ---- @status -------------------------------------------------------------------------------------------
equal "the newest revision" "$(getfattr --only-values -n user.mvccfs.rev @rev/head)" \
	"$(sed -n 's/^mvccfs_revision //p' @status)"
equal "it is read to its end" "1" "$(grep -c '^mvccfs_compaction_duration_seconds_count ' @status)"
refuses "and not written" "Operation not permitted" bash -c 'echo x >> @status'
if command -v promtool >/dev/null; then
	succeeds "promtool finds nothing" bash -c "promtool check metrics < '$MNT/@status'"
fi

# ---- hidden --------------------------------------------------------------------------------------------
equal "find sees none of it" "moved" "$(find . -mindepth 1 -printf '%P ' | xargs)"
equal "nor does a glob" "moved" "$(echo *)"
for name in @tag @history @status; do
	refuses "$name is no name for a file" "" mkdir "$name"
done
cd /
umount_fs
mount_fs revdir=visible
equal "revdir=visible lists them" "@ctl @history @rev @status @tag moved" "$(ls "$MNT" | grep -v '@watch\|@txn' | xargs)"
umount_fs
mount_fs revdir=disabled
refuses "revdir=disabled has no history" "No such file" ls "$MNT/@history"
refuses "and no tags" "No such file" ls "$MNT/@tag"
finish
