#!/bin/bash
# Programs that walk a tree, copy it, index it or remove it never enter history by themselves: what is only in the
# past is neither seen, counted, copied nor removed. tools.sh has what they do when they are led there.
. "$(dirname "$0")/lib.sh"
setup
cd "$MNT"

mkdir -p t/sub/deep t/gone
echo "secret-of-the-past" >t/gone/file
echo "secret-of-the-past" >t/sub/f
head -c 3000000 /dev/zero >t/sub/large
past=$(head_rev)
ln -s ../@rev/head @tag/kept
rm -r t/gone t/sub/large
echo "of today" >t/sub/f
echo "of today" >t/sub/deep/g
ln -s sub/f t/link

wanted="t t/link t/sub t/sub/deep t/sub/deep/g t/sub/f"
sorted() {
	sort | xargs
}

# ---- looking -------------------------------------------------------------------------------------------

equal "the past has it" "secret-of-the-past" "$(cat "@rev/$past/t/gone/file")"
equal "find" "$wanted" "$(find t | sorted)"
equal "find from the root" ". $(for p in $wanted; do echo "./$p"; done | xargs)" "$(find . | sorted)"
equal "find -L" "$wanted" "$(find -L t | sorted)"
equal "find -xdev -name '@*'" "" "$(find . -xdev -name '@*')"
exits "grep -r finds nothing of the past" 1 grep -r secret-of-the-past .
exits "grep -R, which follows links, neither" 1 grep -R secret-of-the-past .
equal "du counts what is there" yes "$([ "$(du -s --apparent-size -k . | cut -f1)" -lt 1000 ] && echo yes)"
equal "du -a names it" "$(find . | sorted)" "$(du -a . | cut -f2 | sorted)"
equal "ls -R" 0 "$(ls -AR . | grep -c '^\(./\)*@' || true)"
shopt -s globstar dotglob
names=$(printf '%s\n' ** | sort -u | xargs)
shopt -u globstar dotglob
equal "the shell's ** and dotglob" "$wanted" "$names"

# As backup programs written in Python walk: by scandir, with stat of each entry, and again by file descriptors.
if command -v python3 >/dev/null; then
	walk='
import os, sys
seen = []
def enter(path):
    with os.scandir(path) as entries:
        for e in sorted(entries, key=lambda e: e.name):
            st = e.stat(follow_symlinks=False)
            seen.append((e.path, st.st_ino))
            assert e.inode() == st.st_ino, e.path
            if e.is_dir(follow_symlinks=False):
                enter(e.path)
enter("t")
by_fd = [os.path.join(root, name) for root, dirs, files, fd in os.fwalk("t") for name in dirs + files]
assert sorted(by_fd) == sorted(p for p, i in seen), by_fd
print(" ".join(sorted(p for p, i in seen)))'
	equal "scandir and fwalk" "${wanted#t }" "$(python3 -c "$walk")"
fi

# ---- copying -------------------------------------------------------------------------------------------

tar -cf "$WORK/t.tar" t
equal "tar" "$wanted" "$(tar -tf "$WORK/t.tar" | sed 's,/$,,' | sorted)"
cp -a . "$WORK/copy"
equal "cp -a" ". $(for p in $wanted; do echo "./$p"; done | xargs)" "$(cd "$WORK/copy" && find . | sorted)"
if command -v rsync >/dev/null; then
	rsync -aHX --delete ./ "$WORK/rsync/"
	equal "rsync" "$(find . | sorted)" "$(cd "$WORK/rsync" && find . | sorted)"
	equal "rsync again has nothing to do" "" "$(rsync -aHXi --delete ./ "$WORK/rsync/")"
fi
if command -v updatedb >/dev/null; then
	updatedb -l 0 -U "$MNT" -o "$WORK/locate.db" --prunefs '' --prunepaths ''
	equal "updatedb" "$(find "$MNT/t" | sorted)" "$(locate -d "$WORK/locate.db" "$MNT/t" | sorted)"
	exits "updatedb has nothing of the past" 1 locate -d "$WORK/locate.db" "$MNT/*@*"
fi

# ---- git and removing ----------------------------------------------------------------------------------

if command -v git >/dev/null; then
	git init -q t
	equal "git status" "link sub/deep/g sub/f" \
		"$(git -C t ls-files --others --exclude-standard | sorted)"
	succeeds "git clean" git -C t clean -fdxq
	equal "takes what is there, and no more" "t" "$(find t -path t/.git -prune -o -print | sorted)"
fi
succeeds "rm -rf of a directory" rm -rf t
succeeds "rm -rf of a glob" bash -c 'shopt -s dotglob; rm -rf "$1"/*' rm "$MNT"
equal "leaves nothing" "" "$(ls -A)"
equal "and nothing of the past goes with it" "secret-of-the-past" "$(cat "@rev/$past/t/gone/file")"
equal "nor a tag" "../@rev/$past" "$(readlink @tag/kept)"
mkdir empty
succeeds "a directory that lists nothing can be removed" rmdir empty

finish
