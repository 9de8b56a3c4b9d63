#!/bin/bash
# export: a revision as a tar loses nothing, and a range as a stream for git makes every revision's tree.
. "$(dirname "$0")/lib.sh"
setup
seed

ctl() {
	"$MVCCCTL_BIN" --mount "$MNT" "$@"
}

tree_of() { # DIR: names, kinds, modes, owners, sizes, times to the nanosecond, link counts
	(cd "$1" && find . \( -type d -printf '%P %y %m %U:%G %T@\n' \) -o \
		-printf '%P %y %m %U:%G %n %s %T@ %l\n' | sort)
}

# ---- a tar -----------------------------------------------------------------------------------------------
mkdir -p "$MNT/d/deep"
echo one >"$MNT/d/one"
ln "$MNT/d/one" "$MNT/d/deep/same"
ln -s ../one "$MNT/d/deep/link"
chmod 4751 "$MNT/d/one"
truncate -s 3M "$MNT/sparse"
printf end | dd of="$MNT/sparse" bs=1 seek=2000000 conv=notrunc status=none
truncate -s 1M "$MNT/hole"
head -c 5000000 /dev/urandom >"$MNT/big"
: >"$MNT/empty"
mkfifo "$MNT/fifo"
long=$(printf 'n%.0s' {1..250})
mkdir -p "$MNT/$long/$long"
echo deep >"$MNT/$long/$long/$long"
odd=$'odd\nname\t\\ \xff'
echo odd >"$MNT/$odd"
setfattr -n user.colour -v blue "$MNT/d/one"
touch -d '1969-07-20 20:17:40.123456789 UTC' "$MNT/empty"
if as_root; then
	chown 1234:5678 "$MNT/empty"
	mknod "$MNT/null" c 1 3
fi
rev=$(head_rev)
echo later >"$MNT/later"

exits "export to a file" 0 ctl export -o "$WORK/a.tar" "$rev"
exits "... and nothing beside it" 1 test -e "$WORK/a.tar.part"
mkdir "$WORK/out"
tar --xattrs -xpf "$WORK/a.tar" -C "$WORK/out" 2>"$WORK/tar.err"
equal "... without being puzzled" "" "$(grep xattr "$WORK/tar.err")"
equal "what tar makes of it" "$(tree_of "$MNT/@rev/$rev")" "$(tree_of "$WORK/out")"
same_trees "... and the contents" "$MNT/@rev/$rev" "$WORK/out"
equal "a hole stays one" 1 "$(($(stat -c %b "$WORK/out/sparse") * 512 < 1000000))"
equal "extended attributes" blue "$(getfattr --absolute-names --only-values -n user.colour "$WORK/out/d/one")"
equal "hard links" "$(stat -c %i "$WORK/out/d/one")" "$(stat -c %i "$WORK/out/d/deep/same")"
equal "a part" "d/deep/ d/deep/link d/deep/same" "$(ctl export "$rev" d/deep | tar -t | sort | tr '\n' ' ' | sed 's/ $//')"
exits "what is not there" 1 ctl export -o "$WORK/b.tar" "$rev" later
exits "... leaves no file" 1 test -e "$WORK/b.tar"
exits "a revision that is none" 1 ctl export -o "$WORK/b.tar" 99999
exits "no place for it" 2 ctl export -o "$WORK/none/b.tar" "$rev"
if [ -e /dev/full ]; then
	exits "a full disk is told" 2 bash -c '"$0" --mount "$1" export "$2" >/dev/full' "$MVCCCTL_BIN" "$MNT" "$rev"
fi

# ---- git -------------------------------------------------------------------------------------------------
# What git can hold of a tree: files with their content and executable bit, links.
git_view() {
	(cd "$1" 2>/dev/null || exit 0
	find . -name .git -prune -o \( -type f -printf '%P f %s ' -a \
		\( -perm -u+x -printf 'x\n' -o -printf '-\n' \) \) -o -type l -printf '%P l %l\n' | sort
	find . -name .git -prune -o -type f -print0 | sort -z | xargs -0r sha1sum)
}

names=(a b c "with space" 'quo"te' 'back\slash' $'new\nline' ü)
place() { # sets `at` to a random path
	local depth=$((RANDOM % 3))
	at=$MNT/work
	while [ $depth -gt 0 ]; do
		at+=/d$((RANDOM % 3))
		depth=$((depth - 1))
	done
	dir=$at
	at+=/${names[RANDOM % ${#names[@]}]}
}
mkdir "$MNT/work"
start=$(head_rev)
for _ in {1..80}; do
	place
	case $((RANDOM % 12)) in
	0 | 1 | 2 | 3) mkdir -p "$dir" && echo $RANDOM >"$at" ;;
	4) mkdir -p "$dir" && ln -sfn "to $RANDOM" "$at" ;;
	5) rm -rf "$at" ;;
	6) from=$at && place && mkdir -p "$dir" && mv -T "$from" "$at" ;;
	7) mv -T "$MNT/work/d$((RANDOM % 3))" "$MNT/work/d$((RANDOM % 3))" ;;
	8) from=$at && place && ln "$from" "$at" ;;
	9) chmod $((RANDOM % 2 ? 644 : 755)) "$at" ;;
	10) mv -T "$MNT/work/d$((RANDOM % 3))" "$MNT/work/d$((RANDOM % 3))/d$((RANDOM % 3))" ;;
	11) rm -rf "$MNT/work/d$((RANDOM % 3))" ;;
	esac 2>/dev/null || true
done
mkdir "$MNT/work/repo" "$MNT/work/repo/.git"
echo x >"$MNT/work/repo/.git/HEAD"
uncounted
end=$(head_rev)

git init -q -b other "$WORK/git"
succeeds "the stream is taken" bash -o pipefail -c \
	'"$0" --mount "$1" export --git "$2..$3" work 2>"$4/git.err" | git -C "$4/git" fast-import --quiet --export-marks="$4/marks"' \
	"$MVCCCTL_BIN" "$MNT" "$start" "$end" "$WORK"
equal "a commit for each revision" $((end - start + 1)) "$(git -C "$WORK/git" rev-list --count main)"
bad=
for ((n = start; n <= end; n++)); do
	git -C "$WORK/git" checkout -q --detach "$(sed -n "s/^:$n //p" "$WORK/marks")"
	if ! diff <(git_view "$MNT/@rev/$n/work") <(git_view "$WORK/git/work") >"$WORK/diff"; then
		bad+=" $n"
		[ -s "$WORK/first" ] || { story "$n" "$n"; cat "$WORK/diff"; } >"$WORK/first"
	fi
done
if [ -z "$bad" ]; then
	ok "every revision's tree ($((end - start + 1)) of them)"
else
	fail "every revision's tree" "not:$bad" "$(cat "$WORK/first")"
fi
equal "git fsck" "" "$(git -C "$WORK/git" fsck 2>&1 | grep -v dangling)"
equal "the names git has no place for are told once" 1 "$(grep -c "git has no place" "$WORK/git.err")"
equal "author and time" "$(id -un) $(ctl log --json "$end..$end" | sed 's/.*"time_ns":\([0-9]*\)[0-9]\{9\},.*/\1/')" \
	"$(git -C "$WORK/git" log -1 --format='%an %at' main)"
equal "message" "create /work/repo/.git/HEAD" "$(git -C "$WORK/git" log -1 --format=%s main)"

umount_fs
exits "not mounted: the same stream" 0 bash -c '"$0" --db "$1" export --git "$2..$3" work 2>/dev/null >"$4/stream"' \
	"$MVCCCTL_BIN" "$DB" "$start" "$end" "$WORK"
git init -q -b other "$WORK/git2"
git -C "$WORK/git2" fast-import --quiet <"$WORK/stream"
equal "... to the byte" "$(git -C "$WORK/git" rev-parse main)" "$(git -C "$WORK/git2" rev-parse main)"
exits "not mounted: a tar" 0 bash -c '"$0" --db "$1" export "$2" >"$3/c.tar"' "$MVCCCTL_BIN" "$DB" "$rev" "$WORK"
equal "... the same" "$(sha1sum <"$WORK/a.tar")" "$(sha1sum <"$WORK/c.tar")"
finish
