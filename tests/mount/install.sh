#!/bin/bash
# What `cmake --install` puts where, and that it works from there: the mount helper, a page for each program, and a
# program of somebody else's against the library.
. "$(dirname "$0")/lib.sh"
setup
umount_fs

build=$(cd "$(dirname "$MVCCFS_BIN")/.." && pwd)
root=$WORK/root
succeeds "cmake --install" env DESTDIR="$root" cmake --install "$build" --prefix /usr
for file in bin/mvccctl sbin/mvccfs sbin/mount.fuse.mvccfs share/man/man8/mvccfs.8 share/man/man7/mvccfs.7 \
	share/man/man1/mvccctl.1 share/bash-completion/completions/mvccctl share/zsh/site-functions/_mvccctl \
	lib/systemd/system/mvccfs@.service include/mvcc/mvcc.h include/mvcc/rocks.h share/man/man3/mvcc.3; do
	if [ -s "$root/usr/$file" ]; then ok "$file"; else fail "$file is not installed"; fi
done
pc=$(find "$root" -name mvcc.pc)
so=$(find "$root" -name 'libmvcc.so')
if [ -n "$pc" ] && [ -n "$so" ]; then ok "libmvcc and mvcc.pc"; else fail "no libmvcc.so or no mvcc.pc"; fi

# As mount(8) calls its helper for a line of fstab.
succeeds "mount.fuse.mvccfs" "$root/usr/sbin/mount.fuse.mvccfs" "$DB" "$MNT" -o rw,nofail,noauto,x-systemd.automount
echo helped >"$MNT/f"
equal "the mount it made" "helped" "$(cat "$MNT/@rev/head/f")"
equal "as df and findmnt show it" "$DB fuse.mvccfs" "$(findmnt -n -o SOURCE,FSTYPE "$MNT" | tr -s ' ')"
umount_fs

if command -v cc >/dev/null && command -v pkg-config >/dev/null; then
	cat >"$WORK/user.c" <<-'C'
		#include <mvcc/mvcc.h>

		#include <stdio.h>

		int main(int argc, char **argv)
		{
			unsigned format, known;
			int err = mvcc_dir_format(argv[argc - 1], &format, &known);

			if (err)
				printf("%s\n", mvcc_strerror(err));
			else
				printf("format %u, known %u\n", format, known);
			return err != 0;
		}
	C
	flags=$(PKG_CONFIG_PATH=$(dirname "$pc") pkg-config --cflags --libs mvcc)
	# shellcheck disable=SC2086
	succeeds "a program builds with mvcc.pc" cc -Wall -Werror -o "$WORK/user" "$WORK/user.c" $flags
	equal "and runs with the library" "format 1, known 1" "$(LD_LIBRARY_PATH=$(dirname "$so") "$WORK/user" "$DB")"
	exits "and is told of what is none" 1 env LD_LIBRARY_PATH="$(dirname "$so")" "$WORK/user" "$WORK"
fi
finish
