#!/bin/bash
# What the kernel is told it keeps, and what it leaves to us it does not do: set-id bits, blocks, and names of the past
# below a directory that has moved. Each beside the same on a plain directory.
. "$(dirname "$0")/lib.sh"
setup allow_other
plain=$WORK/plain
mkdir "$plain"
chmod 777 "$plain" "$MNT"

as_other() {
	setpriv --reuid 65534 --regid 65534 --clear-groups -- "$@"
}

if as_root; then
	for what in write truncate chown append; do
		for at in "$plain" "$MNT"; do
			file=$at/$what
			echo content >"$file"
			chmod 6777 "$file"
			case $what in
			write) as_other dd if=/dev/zero of="$file" bs=3 count=1 conv=notrunc status=none ;;
			truncate) as_other truncate -s 2 "$file" ;;
			append) as_other sh -c "echo more >>'$file'" ;;
			chown) chown 1:1 "$file" ;;
			esac
		done
		equal "set-id bits after $what" "$(stat -c %a "$plain/$what")" "$(stat -c %a "$MNT/$what")"
		equal "also once it is committed" "$(stat -c %a "$plain/$what")" "$(stat -c %a "$MNT/@rev/head/$what")"
	done
fi

truncate -s 1G "$MNT/hole"
equal "a hole has no blocks" 0 "$(stat -c %b "$MNT/hole")"
head -c 300000 /dev/zero | tr '\0' x >"$MNT/full"
equal "a file has the blocks of its bytes" 586 "$(stat -c %b "$MNT/full")"
head -c 300000 /dev/zero | tr '\0' y | dd of="$MNT/full" conv=notrunc bs=300000 iflag=fullblock status=none
equal "and no more after it was overwritten" 586 "$(stat -c %b "$MNT/full")"
: >"$MNT/full"
equal "and none after it was emptied" 0 "$(stat -c %b "$MNT/full")"

mkdir "$MNT/d" "$MNT/d/sub"
echo one >"$MNT/d/f"
rev=$(head_rev)
equal "the past of a directory" "f sub" "$(ls "$MNT/d/@rev/$rev" | tr '\n' ' ' | sed 's/ $//')"
equal "of one below it" "" "$(ls "$MNT/d/sub/@rev/$rev")"
mv "$MNT/d" "$MNT/e"
refuses "by its new path it was not there" "No such file" ls "$MNT/e/@rev/$rev"
refuses "nor was what moved with it" "No such file" ls "$MNT/e/sub/@rev/$rev"
equal "by the root it is where it was" one "$(cat "$MNT/@rev/$rev/d/f")"
mkdir "$MNT/d"
equal "and by its old path, made anew" one "$(cat "$MNT/d/@rev/$rev/f")"

# An fsync is not interrupted: a database takes a failed one for the end.
succeeds "fsync under a storm of signals" timeout 60 perl -e '
	use IO::Handle; use Time::HiRes qw(setitimer ITIMER_REAL);
	$SIG{ALRM} = sub { };
	open(my $f, ">", $ARGV[0]) or die;
	setitimer(ITIMER_REAL, 0.0005, 0.0005);
	for my $i (1 .. 300) {
		while (!defined(syswrite($f, "line $i\n"))) { $!{EINTR} or die "write: $!" }
		$f->sync or die "fsync: $!";
	}
	setitimer(ITIMER_REAL, 0);' "$MNT/synced"
equal "and all is there" 300 "$(wc -l <"$MNT/synced")"
umount_fs
finish
