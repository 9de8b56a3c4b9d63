#!/bin/bash
# import: a directory or an archive is one revision, whole, or nothing; and no archive writes elsewhere.
. "$(dirname "$0")/lib.sh"
setup

ctl() {
	"$MVCCCTL_BIN" --mount "$MNT" "$@"
}

tree_of() { # DIR
	(cd "$1" && find . \( -type d -printf '%P %y %m %U:%G %T@\n' \) -o \
		-printf '%P %y %m %U:%G %n %s %T@ %l\n' | grep -av "^ d " | sort)
}

S=$WORK/source
mkdir -p "$S/d/deep"
echo one >"$S/d/one"
ln "$S/d/one" "$S/d/deep/same"
ln -s ../one "$S/d/deep/link"
chmod 4751 "$S/d/one"
truncate -s 3M "$S/sparse"
printf end | dd of="$S/sparse" bs=1 seek=2000000 conv=notrunc status=none
head -c 5000000 /dev/urandom >"$S/big"
mkfifo "$S/fifo"
odd=$'odd\nname\t\\ \xff'
echo odd >"$S/$odd"
touch -d '1969-07-20 20:17:40.123456789 UTC' "$S/d/deep/same"
touch -d '2001-02-03 04:05:06.789 UTC' "$S/d"
as_root && chown 1234:5678 "$S/big"

mkdir "$MNT/in"
echo kept >"$MNT/in/kept"
uncounted
before=$(head_rev)
equal "import of a directory tells its revision" $((before + 1)) "$(ctl import --to in "$S")"
equal "... which is one" $((before + 1)) "$(head_rev)"
equal "what was there stays" kept "$(cat "$MNT/in/kept")"
rm "$MNT/in/kept"
equal "all is there" "$(tree_of "$S")" "$(tree_of "$MNT/in")"
same_trees "... with its content" "$S" "$MNT/in"
equal "a hole stays one" 1 "$(($(stat -c %b "$MNT/in/sparse") * 512 < 1000000))"
equal "the log tells" "import $S" "$(ctl log --json "$((before + 1))..$((before + 1))" | sed 's/.*"message":"\([^"]*\)".*/\1/')"

rev=$(head_rev)
ctl export -o "$WORK/a.tar" "$rev" in
exits "import of what export made" 0 ctl import --message "back again" "$WORK/a.tar"
equal "... changes nothing but times of directories" "$(tree_of "$S" | grep -av ' d ')" "$(tree_of "$MNT/in" | grep -av ' d ')"
mkdir "$MNT/again"
uncounted
exits "from a pipe, compressed" 0 bash -c 'gzip <"$2" | "$0" --mount "$1" import --to again --json -' \
	"$MVCCCTL_BIN" "$MNT" "$WORK/a.tar"
says "... --json" '"rev"'
equal "... the same" "$(tree_of "$S")" "$(tree_of "$MNT/again/in")"

# Archives that are up to something.
cat >"$WORK/evil.py" <<'P'
import io, sys, tarfile
def tar(name, *entries):
    with tarfile.open(sys.argv[1] + "/" + name, "w", format=tarfile.PAX_FORMAT) as t:
        for path, kind, data in entries:
            info = tarfile.TarInfo(path)
            info.type = kind
            info.mode = 0o755
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info.linkname = data
                t.addfile(info)
            else:
                info.size = len(data)
                t.addfile(info, io.BytesIO(data))
out = sys.argv[1] + "/outside"
F, S, H = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
tar("dotdot.tar", ("good", F, b"x"), ("a/../../../../outside/x", F, b"x"))
tar("absolute.tar", ("good", F, b"x"), (out + "/x", F, b"x"))
tar("link.tar", ("good", F, b"x"), ("l", S, out), ("l/x", F, b"x"))
tar("old.tar", ("good", F, b"x"), ("there/x", F, b"x"))
tar("hard.tar", ("good", F, b"x"), ("h", H, "../../../outside/secret"), ("h", F, b"x"))
tar("reserved.tar", ("good", F, b"x"), ("@rev/1/x", F, b"x"))
P
mkdir "$WORK/outside"
echo secret >"$WORK/outside/secret"
python3 "$WORK/evil.py" "$WORK"
ln -s "$WORK/outside" "$MNT/there"
uncounted
before=$(head_rev)
for evil in dotdot absolute link old hard reserved; do
	exits "$evil.tar is refused" 2 ctl import "$WORK/$evil.tar"
done
head -c 2000000 "$WORK/a.tar" >"$WORK/cut.tar"
exits "one cut short is refused" 2 ctl import "$WORK/cut.tar"
exits "what is no archive is refused" 2 ctl import "$S/big"
exits "a source that is not there" 1 ctl import "$WORK/none"
exits "a place that is not there" 1 ctl import --to none "$S"
exits "a place over a link" 2 ctl import --to there "$S"
equal "nothing was written elsewhere" secret "$(cat "$WORK"/outside/*)"
equal "nor anything here" "$before" "$(head_rev)"
equal "no transaction is left" "" "$(ctl txn list)"
umount_fs
exits "not mounted" 2 "$MVCCCTL_BIN" --db "$DB" import "$S"
says "... it says what to do" "mount"
finish
