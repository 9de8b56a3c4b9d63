#!/bin/bash
# Large files in a daemon of bounded memory: a dense one, and one of 20 GiB that is mostly hole with data in
# twenty thousand places; each one revision, and all of it read back.
#
#	MVCCFS_TEST_DENSE_MIB   size of the dense file (2048)
. "$(dirname "$0")/lib.sh"
setup

dense_mib=${MVCCFS_TEST_DENSE_MIB:-2048}
limit_kib=$((1 << 20))

peak_kib() {
	sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB$/\1/p' "/proc/$(daemon_pid)/status"
}
check_peak() { # WHAT
	local peak
	peak=$(peak_kib)
	if [ "$peak" -gt 0 ] && [ "$peak" -lt $limit_kib ]; then
		ok "the daemon's memory: $1 (at most $((peak / 1024)) MiB so far)"
	else
		fail "the daemon's memory: $1" "$((peak / 1024)) MiB"
	fi
}

# Numbers in blocks of 64 KiB, each block its own: nothing compresses away to one, and each is known.
dense() {
	perl -e '
		my ($mib) = @ARGV;
		my $base = join("", map { pack("L", ($_ * 2654435761) & 0xffffffff) } 1 .. 16384);
		for my $block (0 .. $mib * 16 - 1) {
			substr($base, 0, 8) = pack("Q", $block);
			print $base;
		}' "$1"
}

# Data of 4 KiB at every MiB of 20 GiB, in an order that jumps; "check" reads it instead.
sparse() { # write|check FILE
	perl -e '
		use Fcntl;
		my ($what, $file) = @ARGV;
		sysopen(my $f, $file, $what eq "write" ? O_WRONLY | O_CREAT : O_RDONLY) or die "$file: $!";
		for my $i (0 .. 20479) {
			my $mib = ($i * 7919) % 20480;
			my $want = pack("Q", $mib) x 512;
			sysseek($f, ($mib << 20) + $mib * 13, 0);
			if ($what eq "write") {
				(syswrite($f, $want) // 0) == 4096 or die "$file: $mib: $!";
			} else {
				(sysread($f, my $got, 4098) // 0) >= 4096 or die "$file: $mib: $!";
				substr($got, 0, 4096) eq $want or die "$file: MiB $mib differs";
				length($got) < 4098 || substr($got, 4096) eq "\0\0" or die "$mib: no hole";
			}
		}
		close($f) or die "$file: $!";' "$1" "$2"
}

check_peak "when fresh"
before=$(head_rev)
succeeds "write $dense_mib MiB" bash -c "$(declare -f dense); dense $dense_mib >'$MNT/dense'"
equal "one revision" $((before + 1)) "$(head_rev)"
check_peak "after a dense file"
succeeds "write 20 GiB of holes and data" sparse write "$MNT/sparse"
equal "one revision" $((before + 2)) "$(head_rev)"
equal "of its size" $(((20479 << 20) + 20479 * 13 + 4096)) "$(stat -c %s "$MNT/sparse")"
check_peak "after a sparse file"
want=$(dense "$dense_mib" | cksum)
equal "the dense file reads" "$want" "$(cksum <"$MNT/dense")"
succeeds "the sparse file reads" sparse check "$MNT/sparse"
blocks=$(stat -c %b "$MNT/sparse")
[ "$blocks" -lt $((20 * 1024 * 2 * 1024 / 2)) ] && ok "and is sparse: $((blocks / 2048)) MiB" ||
	fail "the sparse file takes $((blocks / 2048)) MiB"
check_peak "after reading"

# Changing a little of much, removing much, and reading it in history.
echo x | dd of="$MNT/dense" bs=1 seek=1000000 conv=notrunc status=none
equal "a small change" $((before + 3)) "$(head_rev)"
succeeds "truncate" truncate -s 1000 "$MNT/sparse"
rm "$MNT/dense"
equal "one revision each" $((before + 5)) "$(head_rev)"
check_peak "after truncating and removing"
equal "the dense file of then reads" "$want" "$(cksum <"$MNT/@rev/$((before + 1))/dense")"
succeeds "the sparse file of then reads" sparse check "$MNT/@rev/$((before + 2))/sparse"
check_peak "after reading history"
umount_fs
finish
