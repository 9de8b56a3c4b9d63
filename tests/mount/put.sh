#!/bin/bash
# Paths as keys: put, get, del, and compare-and-swap; in a mount, and of a database that is not mounted.
. "$(dirname "$0")/lib.sh"
setup

ctl() {
	if [ "$mounted" ]; then
		"$MVCCCTL_BIN" --mount "$MNT" "$@"
	else
		"$MVCCCTL_BIN" --db "$DB" "$@"
	fi
}

put() { # CONTENT ARGUMENTS...: the exit status is put's
	local content=$1
	shift
	printf %s "$content" | ctl put "$@"
}

member() { # NAME: of the JSON object on stdin
	sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p"
}

rev_of() {
	ctl get --json --keys "$1" | member rev
}

keys() {
	equal "$where: put --help" 0 "$(ctl put --help >/dev/null && echo 0)"
	exits "$where: no such directory" 2 put one a/b
	says "... and what to do" "-p"
	exits "$where: no such file" 1 ctl get a/b
	exits "$where: -p makes it" 0 put one -p a/b
	equal "$where: get" one "$(ctl get a/b)"
	local first second
	first=$(rev_of a/b)
	exits "$where: as told" 0 put two --if-rev "$first" a/b
	exits "$where: not as told" 1 put three --if-rev "$first" a/b
	equal "$where: what was refused is not there" two "$(ctl get a/b)"
	second=$(rev_of a/b)
	equal "$where: put --json tells the revision" $((second + 1)) "$(put three --json --if-version 2 a/b | member rev)"
	exits "$where: another version" 1 put four --if-version 2 a/b
	exits "$where: a file is there" 1 put four --if-absent a/b
	exits "$where: revision 0 means none" 1 put four --if-rev 0 a/b
	exits "$where: none is there" 0 put four --if-absent a/c
	exits "$where: a compare with what is not there" 1 put five --if-rev 3 a/none
	exits "$where: ... makes nothing" 1 ctl get a/none
	equal "$where: an earlier one" one "$(ctl get --rev "$first" a/b)"
	equal "$where: put of nothing" 0 "$(put "" a/empty && ctl get a/empty | wc -c)"
	equal "$where: get --prefix" "$(printf '/a/b\t%s\t5\n/a/c\t%s\t4\n/a/empty\t%s\t0' \
		"$(rev_of a/b)" "$(rev_of a/c)" "$(rev_of a/empty)")" "$(ctl get --prefix a)"
	equal "$where: get --prefix -z" "/a/b|/a/c|/a/empty|" "$(ctl get --prefix -z a | tr '\0' '|')"
	equal "$where: get --prefix --json has values" '"value":"three"' \
		"$(ctl get --prefix --json a | head -n 1 | grep -o '"value":"three"')"
	exits "$where: a directory is no key" 2 put x a
	exits "$where: a file that cannot be read" 2 ctl put a/b "$WORK/none"
	exits "$where: what cannot be read halfway" 2 ctl put a/b /
	equal "$where: ... changes nothing" three "$(ctl get a/b)"
	head -c 9000000 /dev/urandom >"$WORK/big"
	exits "$where: a large one" 0 ctl put a/big "$WORK/big"
	equal "$where: ... is all there" "$(sha1sum <"$WORK/big")" "$(ctl get a/big | sha1sum)"
	exits "$where: del not as told" 1 ctl del --if-rev "$first" a/b
	exits "$where: del as told" 0 ctl del --if-version 3 a/b
	exits "$where: del takes the rest, and tells of one" 1 ctl del a/none a/c a/empty a/big
	exits "$where: del of an empty directory" 0 ctl del a
	exits "$where: all is gone" 1 ctl get --prefix a
}

mounted=1 where=mounted
keys

# What a script sees, as mvccfs(7) tells it.
cd "$MNT"
echo one >f
exec 3>f
exits "if_rev by path" 0 setfattr -n user.mvccfs.if_rev -v 7777 f
echo two >&3 2>/dev/null || true
exits "sync tells" 1 sync f
exec 3>&-
equal "nothing was changed" one "$(cat f)"
exec 3>f
setfattr -n user.mvccfs.if_rev -v "$(getfattr --only-values -n user.mvccfs.rev f)" f
exits "what holds is written" 0 bash -c 'echo two >&3 && sync f'
exec 3>&-
equal "... and is there" two "$(cat f)"
exec 3>new
setfattr -n user.mvccfs.if_rev -v 7777 new
echo two >&3 2>/dev/null || true
exec 3>&-
exits "what was made by it is gone" 1 test -e new
equal "... from listings, too" f "$(ls)"
exits "without a writer" 1 setfattr -n user.mvccfs.if_rev -v 1 f
says "... it is invalid" "Invalid argument"
output=$(python3 -c '
import errno, mmap, os
fd = os.open("f", os.O_RDWR)
m = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
os.setxattr(fd, "user.mvccfs.if_rev", b"7777")
os.pwrite(fd, b"six", 0)
print(m[0:3])
try:
    os.close(fd)
except OSError as e:
    print(errno.errorcode[e.errno])
print(m[0:3])
m.close()
f = open("f", "w")
os.setxattr("f", "user.mvccfs.if_rev", b"7777")
f.write("python")
try:
    f.close()
    print("closed")
except OSError as e:
    print(errno.errorcode[e.errno])
')
equal "close(2) tells, and mapped pages follow" "b'six' EBUSY b'two' EBUSY" "$(tr '\n' ' ' <<<"$output" | sed 's/ $//')"
cd /

# Four writers at once, each adding one, by compare-and-swap: none is lost.
echo 0 >"$MNT/counter"
add() {
	local json
	for _ in 1 2 3 4 5; do
		while :; do
			json=$("$MVCCCTL_BIN" --mount "$MNT" get --json counter)
			[[ $json =~ \"rev\":([0-9]+) ]]
			local rev=${BASH_REMATCH[1]}
			[[ $json =~ \"value\":\"([0-9]+) ]]
			echo $((BASH_REMATCH[1] + 1)) |
				"$MVCCCTL_BIN" --mount "$MNT" put --if-rev "$rev" counter 2>/dev/null && break
		done
	done
}
for _ in 1 2 3 4; do
	add &
	adders+=($!)
done
wait "${adders[@]}"
equal "no increment is lost" 20 "$(cat "$MNT/counter")"

umount_fs
mounted='' where=unmounted
keys
finish
