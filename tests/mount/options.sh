#!/bin/bash
# mvccfs(8): how it starts and ends, what it refuses, and each of its mount options.
. "$(dirname "$0")/lib.sh"
setup

mounted() { # MNT
	grep -q " $1 fuse" /proc/self/mounts
}
not_mounted() {
	! mounted "$1"
}
# Everything of a directory that could be touched, by name, size, time and content.
fingerprint() {
	find "$1" -printf '%p %y %m %U:%G %n %s %T@ %C@\n' | sort
	find "$1" -type f -exec cksum {} + | sort
}

# hold FILE: a process opens FILE for writing; `held TEXT` makes it write a line; `let_go` makes it
# close. Not by a descriptor of the shell: that closes a duplicate after each `>&7`, and each close is a
# commit.
hold() {
	coproc HOLDER { perl -e 'open(my $f, ">", $ARGV[0]) or die $!; $| = 1;
		while (<STDIN>) { syswrite($f, $_) or die $!; print "done\n" } close($f)' "$1"; }
	holder=$HOLDER_PID
}
held() {
	local answer
	echo "$1" >&"${HOLDER[1]}"
	read -r -u "${HOLDER[0]}" answer
	[ "$answer" == "done" ]
}
let_go() {
	eval "exec ${HOLDER[1]}>&-"
	wait "$holder" || true
}

# ---- starting ------------------------------------------------------------------------------------------

mounted "$MNT" && ok "when mvccfs returns the mount is there" || fail "nothing is mounted on $MNT"
equal "what mount(8) shows" "$DB $MNT fuse.mvccfs" \
	"$(awk -v at="$MNT" '$2 == at { print $1, $2, $3 }' /proc/self/mounts)"
mkdir "$MNT/dir"
echo kept >"$MNT/dir/file"
rev=$(head_rev)
pid=$(daemon_pid)
equal "DB/LOCK names pid and mount point" "pid $pid, $MNT" "$(head -n 1 "$DB/LOCK")"
[ "$(stat -c %i "/proc/$pid/cwd/")" == "$(stat -c %i /)" ] && ok "the daemon keeps no directory busy" ||
	fail "the daemon works in $(readlink "/proc/$pid/cwd")"

# The second mount of a database.
mkdir "$WORK/mnt2"
exits "a second mount of one database" 11 "$MVCCFS_BIN" "$DB" "$WORK/mnt2"
says "names the holder's pid" "$pid"
says "and mount point" "$MNT"
not_mounted "$WORK/mnt2" && ok "and mounts nothing" || fail "mounted on $WORK/mnt2"
equal "the first goes on" kept "$(cat "$MNT/dir/file")"
exits "the same in the foreground" 11 timeout 60 "$MVCCFS_BIN" -f "$DB" "$WORK/mnt2"
umount_fs
not_mounted "$MNT" && ok "umount" || fail "still mounted"

# Forms of the command.
cd "$WORK"
succeeds "relative paths" "$MVCCFS_BIN" db mnt
equal "are found" kept "$(cat mnt/dir/file)"
cd /
equal "from anywhere" kept "$(cat "$MNT/dir/file")"
umount_fs
succeeds "-o db=" "$MVCCFS_BIN" -o "db=$DB" "$MNT"
equal "opens it" "$rev" "$(head_rev)"
umount_fs
succeeds "options after the paths" "$MVCCFS_BIN" "$DB" "$MNT" -o commit_ms=1000,sync_ms=100
umount_fs
succeeds "mvccfs#DB, the old form of fstab" "$MVCCFS_BIN" "mvccfs#$DB" "$MNT"
umount_fs
mkdir "$WORK/empty"
succeeds "an empty directory becomes a database" "$MVCCFS_BIN" "$WORK/empty" "$MNT"
equal "with an empty root, at revision 1" "1 " "$(head_rev) $(ls -A "$MNT")"
umount_fs "$WORK/empty"

# As mount(8) calls a helper: mount.fuse.mvccfs SOURCE TARGET -o OPTIONS.
ln -s "$MVCCFS_BIN" "$WORK/mount.fuse.mvccfs"
succeeds "as the helper of mount(8)" "$WORK/mount.fuse.mvccfs" "$DB" "$MNT" \
	-o rw,nofail,noauto,_netdev,x-systemd.automount,x-foo,commit_ms=1000
equal "opens it" kept "$(cat "$MNT/dir/file")"
umount_fs

# ---- the foreground, and signals -----------------------------------------------------------------------

for signal in TERM INT; do
	# In a shell without job control what is put to the background ignores SIGINT; so not by `&` alone.
	perl -e '$SIG{INT} = "DEFAULT"; exec @ARGV' "$MVCCFS_BIN" -f "$DB" "$MNT" 2>"$WORK/log" &
	pid=$!
	until_true "-f mounts" mounted "$MNT"
	equal "-f stays" "$pid" "$(daemon_pid)"
	echo "$signal" >"$MNT/by-$signal"
	kill -s $signal $pid
	status=0
	wait $pid || status=$?
	equal "SIG$signal in the foreground: exit" 0 $status
	if not_mounted "$MNT"; then
		ok "SIG$signal unmounts"
	else
		fail "SIG$signal leaves the mount" "$(cat "$WORK/log")"
		umount -l "$MNT"
	fi
	not_locked && ok "SIG$signal closes the database" || fail "the database is still locked"

	mount_fs
	equal "what was written is there" "$signal" "$(cat "$MNT/by-$signal")"
	pid=$(daemon_pid)
	hold "$MNT/open-$signal"
	held "not closed"
	kill -s $signal "$pid"
	until_true "SIG$signal in the background" not_locked
	until_true "unmounts, also with a file open" not_mounted "$MNT" || umount -l "$MNT"
	let_go
	mount_fs
	equal "the end of the daemon keeps what was written" "not closed" "$(cat "$MNT/open-$signal")"
	umount_fs
done

# ---- refusals ------------------------------------------------------------------------------------------

mkdir "$WORK/nodb" "$WORK/nodb/sub"
echo precious >"$WORK/nodb/file"
echo precious >"$WORK/regular"
before=$(fingerprint "$WORK/nodb"; fingerprint "$WORK/regular")
exits "a directory that is no database" 10 "$MVCCFS_BIN" "$WORK/nodb" "$MNT"
says "is named" "$WORK/nodb"
exits "a regular file" 10 "$MVCCFS_BIN" "$WORK/regular" "$MNT"
says "is named" "$WORK/regular"
exits "the same in the foreground" 10 timeout 60 "$MVCCFS_BIN" -f "$WORK/nodb" "$MNT"
equal "nothing is touched" "$before" "$(fingerprint "$WORK/nodb"; fingerprint "$WORK/regular")"
not_mounted "$MNT" && ok "nothing is mounted" || fail "something is mounted"

cp -a "$DB" "$WORK/newer"
equal "the format is told by DB/FORMAT" "mvccfs database, format 1" "$(head -n 1 "$DB/FORMAT")"
sed -i '1s/format 1$/format 2/' "$WORK/newer/FORMAT"
before=$(fingerprint "$WORK/newer" | grep -v /LOCK)
status=0
output=$("$MVCCFS_BIN" "$WORK/newer" "$MNT" 2>&1) || status=$?
[ $status -ne 0 ] && ok "a newer format is refused" || fail "a newer format was mounted"
names() { # NUMBER: does the message have it, as a number of its own?
	grep -Eq "(^|[^0-9])$1([^0-9]|\$)" <<<"${output//"$WORK"/}"
}
names 2 && ok "its version is named" || fail "no 2 in: $output"
names 1 && ok "and the known one" || fail "no 1 in: $output"
equal "nothing of it is touched" "$before" "$(fingerprint "$WORK/newer" | grep -v /LOCK)"

refuses "a mount point that does not exist" "No such file" "$MVCCFS_BIN" "$DB" "$WORK/nonexistent"
refuses "a database below what does not exist" "No such file" "$MVCCFS_BIN" "$WORK/nonexistent/db" "$MNT"
refuses "a mount point that is a file" "" "$MVCCFS_BIN" "$DB" "$WORK/regular"
refuses "no arguments" "" "$MVCCFS_BIN"
refuses "one argument" "" "$MVCCFS_BIN" "$DB"
refuses "three arguments" "" "$MVCCFS_BIN" "$DB" "$MNT" more
refuses "an unknown option" "no-such-option" "$MVCCFS_BIN" -o no-such-option "$DB" "$MNT"
for bad in commit_ms=x sync_ms=-1 cache_bytes=x cache_bytes=1Q dirty_bytes= revdir=maybe \
	revname=a/b revname=.. rev=x rev=99999 rev=head~99999 revperm=never; do
	refuses "-o $bad" "" "$MVCCFS_BIN" -o "$bad" "$DB" "$MNT"
	not_mounted "$MNT" || umount_fs
done
not_mounted "$MNT" && ok "nothing is mounted" || fail "something is mounted"
not_locked && ok "nothing is locked" || fail "the database is locked"
exits "--help is no error" 0 "$MVCCFS_BIN" --help
says "and tells the usage" "DB MOUNTPOINT"
exits "-V" 0 "$MVCCFS_BIN" -V
says "tells the version" mvccfs
equal "--help goes to stdout" "" "$("$MVCCFS_BIN" --help 2>&1 >/dev/null)"

# ---- what is kept by time ------------------------------------------------------------------------------

mount_fs commit_ms=200
before=$(head_rev)
hold "$MNT/left-open"
held "not closed"
until_true "commit_ms commits a file left open" at_least $((before + 1))
equal "its revision has what was written" "not closed" "$(cat "$MNT/@rev/head/left-open")"
equal "one revision" $((before + 1)) "$(head_rev)"
sleep 0.5
equal "and none more while nothing is written" $((before + 1)) "$(head_rev)"
held more
until_true "further data makes a further one" at_least $((before + 2))
equal "with it" "not closed more" "$(tr '\n' ' ' <"$MNT/@rev/head/left-open" | sed 's/ $//')"
let_go
equal "closing it unchanged makes none" $((before + 2)) "$(head_rev)"
umount_fs

mount_fs commit_ms=600000
before=$(head_rev)
hold "$MNT/not-yet"
held "not closed"
sleep 0.5
equal "a long commit_ms leaves it uncommitted" "$before" "$(head_rev)"
equal "but seen in the live tree" "not closed" "$(cat "$MNT/not-yet")"
[ ! -e "$MNT/@rev/head/not-yet" ] && ok "and in no revision" || fail "@rev/head/not-yet is there"
let_go
equal "until it is closed" $((before + 1)) "$(head_rev)"
umount_fs

# ---- @rev ----------------------------------------------------------------------------------------------

mount_fs revdir=visible
equal "revdir=visible lists @rev in the root" "@rev" "$(ls -A "$MNT" | grep -x @rev)"
equal "not below" "file" "$(ls -A "$MNT/dir")"
equal "and it works" kept "$(cat "$MNT/@rev/$rev/dir/file")"
umount_fs

mount_fs revdir=hidden
equal "revdir=hidden lists none" "" "$(ls -A "$MNT" | grep @ || true)"
equal "and it works" kept "$(cat "$MNT/@rev/$rev/dir/file")"
umount_fs

mount_fs revdir=disabled
refuses "revdir=disabled has no @rev" "No such file or directory" ls "$MNT/@rev"
refuses "nor below" "No such file or directory" ls "$MNT/dir/@rev/$rev"
equal "the live tree is there" kept "$(cat "$MNT/dir/file")"
umount_fs

mount_fs revname=.snapshot
equal "revname= renames @rev" kept "$(cat "$MNT/.snapshot/$rev/dir/file")"
equal "below, too" kept "$(cat "$MNT/dir/.snapshot/$rev/file")"
equal "hidden under that name, too" "" "$(ls -A "$MNT" | grep snapshot || true)"
refuses "@rev is no more" "No such file or directory" ls "$MNT/@rev/"
refuses "and the new name is refused" "" mkdir "$MNT/dir/.snapshot"
mkdir "$MNT/dir/@rev"
echo mine >"$MNT/dir/@rev/file"
equal "@rev is a name as any other" mine "$(cat "$MNT/dir/@rev/file")"
umount_fs
mount_fs
equal "with revname= gone, @rev is history again" "$rev" "$(ls "$MNT/dir/@rev" | grep -x "$rev")"
umount_fs

echo_rev() { getfattr --absolute-names --only-values -n user.mvccfs.rev "$1"; }
mount_fs
echo changed >"$MNT/dir/file"
now=$(head_rev)
umount_fs
for form in "rev=$rev" "rev=head~$((now - rev))"; do
	mount_fs "$form"
	equal "-o $form mounts the past" kept "$(cat "$MNT/dir/file")"
	refuses "read-only: write" "Read-only file system" bash -c "echo x >'$MNT/dir/file'"
	refuses "read-only: create" "Read-only file system" touch "$MNT/new"
	refuses "read-only: mkdir" "Read-only file system" mkdir "$MNT/new"
	refuses "read-only: rm" "Read-only file system" rm "$MNT/dir/file"
	umount_fs
done
mount_fs
equal "and leaves the newest as it was" "changed, revision $now" \
	"$(cat "$MNT/dir/file"), revision $(head_rev)"
umount_fs

mount_fs ro
refuses "-o ro: write" "Read-only file system" bash -c "echo x >'$MNT/dir/file'"
refuses "-o ro: mkdir" "Read-only file system" mkdir "$MNT/new"
equal "-o ro reads" changed "$(cat "$MNT/dir/file")"
equal "-o ro reads history" kept "$(cat "$MNT/@rev/$rev/dir/file")"
equal "-o ro makes no revision" "$now" "$(head_rev)"
umount_fs

# ---- space ---------------------------------------------------------------------------------------------

mount_fs cache_bytes=16M,dirty_bytes=4M,sync_ms=10
head -c 20000000 /dev/urandom >"$WORK/random"
cp "$WORK/random" "$MNT/random"
succeeds "small caches hold large files" cmp "$WORK/random" "$MNT/random"
host_size=$(df --output=size -B1 "$DB" | tail -1)
host_free=$(df --output=avail -B1 "$DB" | tail -1)
equal "statfs: the size is the disk's" "$host_size" "$(df --output=size -B1 "$MNT" | tail -1 | tr -d ' ')"
free=$(df --output=avail -B1 "$MNT" | tail -1)
# Others write to this disk meanwhile, and the store keeps a reserve; but it is the disk's free space.
if [ "$free" -gt $((host_free / 2)) ] && [ "$free" -lt $((host_free + (1 << 30))) ]; then
	ok "statfs: the free space is the disk's"
else
	fail "statfs: the free space" "$free, the disk has $host_free"
fi
equal "statfs: names of 255 bytes" 255 "$(stat -f -c %l "$MNT")"
umount_fs

# ---- other users ---------------------------------------------------------------------------------------

nobody() {
	setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@"
}
denied="Permission denied"
if as_root; then
	mount_fs
	refuses "without allow_other nobody else comes in" "$denied" nobody ls "$MNT"
	umount_fs

	mount_fs allow_other
	chmod 755 "$MNT"
	cd "$MNT"
	mkdir public private shut sticky
	chmod 777 public
	chmod 1777 sticky
	echo open >public/open
	echo closed >public/closed
	echo tight >public/tight
	echo listed >shut/listed
	echo hidden >private/hidden
	echo roots >sticky/roots
	chmod 600 public/closed
	chmod 644 public/open public/tight sticky/roots
	then=$(head_rev)
	equal "others read what is open" open "$(nobody cat public/open)"
	refuses "and not what is closed" "$denied" nobody cat public/closed
	refuses "nor write what is not theirs" "$denied" nobody bash -c 'echo x >>public/open'
	refuses "nor make files where they may not" "$denied" nobody touch private/x
	refuses "nor change modes" "Operation not permitted" nobody chmod 666 public/open
	refuses "nor owners" "Operation not permitted" nobody chown nobody public/open
	refuses "nor remove in a sticky directory" "Operation not permitted" nobody rm -f sticky/roots
	succeeds "but make their own" nobody bash -c \
		'echo mine >public/mine; mkdir public/dir; echo x >public/dir/x'
	equal "which are theirs" 65534:65534 "$(stat -c %u:%g public/mine public/dir | uniq)"
	nobody rm public/open
	[ ! -e public/open ] && ok "a directory that is theirs to write lets them remove" ||
		fail "public/open is there"

	# History asks the mode shown, that of then, and today's, too.
	equal "what was and is open reads" tight "$(nobody cat "@rev/$then/public/tight")"
	chmod 600 public/tight
	refuses "a file tightened since is refused in history" "$denied" nobody cat "@rev/$then/public/tight"
	equal "but not to those who may" tight "$(cat "@rev/$then/public/tight")"
	refuses "a file closed then is refused" "$denied" nobody cat "@rev/$then/public/closed"
	chmod 644 public/closed
	refuses "also when it is open today" "$denied" nobody cat "@rev/$then/public/closed"
	equal "where it reads today" closed "$(nobody cat public/closed)"
	chmod 700 shut
	refuses "the list of a directory shut since" "$denied" nobody ls "@rev/$then/shut"
	refuses "and below itself" "$denied" nobody ls "shut/@rev/$then"
	equal "what is gone reads by its parent" open "$(nobody cat "@rev/$then/public/open")"
	echo gone >private/gone
	chmod 644 private/gone
	gone=$(head_rev)
	rm private/gone
	equal "also here" gone "$(nobody cat "@rev/$gone/private/gone")"
	chmod 700 private
	refuses "until the parent is shut" "$denied" nobody cat "@rev/$gone/private/gone"
	chmod 755 private
	equal "and opened again" gone "$(nobody cat "@rev/$gone/private/gone")"
	chmod 644 public/tight
	equal "as the file is" tight "$(nobody cat "@rev/$then/public/tight")"
	chmod 600 public/tight
	cd /
	umount_fs

	mount_fs allow_other,revperm=then
	equal "revperm=then asks the mode of then alone" tight "$(nobody cat "$MNT/@rev/$then/public/tight")"
	refuses "which is kept" "$denied" nobody cat "$MNT/@rev/$then/public/closed"
	umount_fs
else
	ok "other users: skipped, as this is not root"
fi
finish
