#!/bin/bash
# What makes a revision, counted for the programs people use: each completed change that a person would
# name is one.
. "$(dirname "$0")/lib.sh"
setup
cd "$MNT"

# ---- the shell -----------------------------------------------------------------------------------------

sh_new() { echo x >f1; }
sh_over() { echo y >f1; }
sh_empty() { : >f2; }
sh_truncate() { : >f1; }
sh_append_new() { echo x >>f3; }
sh_append() { echo y >>f3; }
sh_append_nothing_new() { : >>f4; }
sh_append_nothing() { : >>f3; }
sh_heredoc() {
	cat >f5 <<-END
		a here-document
		of two lines
	END
}
sh_herestring() { cat <<<"a here-string" >f6; }
sh_pipeline() { seq 1000 | sort -r >f7; }
sh_pipeline_big() { seq 200000 | cat >f8; }
sh_group() { { echo a; echo b; printf '%s\n' c d; } >f9; }
sh_tee() { echo x | tee f10 >/dev/null; }
sh_both() { ls . /nonexistent >f11 2>&1 || true; }
sh_dash() { dash -c 'echo x >f12'; }
sh_printf_append() { printf 'no newline' >>f12; }

makes 1 "echo x > new" sh_new
makes 1 "echo x > old" sh_over
makes 1 ": > new" sh_empty
makes 1 ": > old" sh_truncate
makes 1 "echo x >> new" sh_append_new
makes 1 "echo x >> old" sh_append
makes 1 ": >> new" sh_append_nothing_new
makes 0 ": >> old" sh_append_nothing
makes 1 "a here-document" sh_heredoc
makes 1 "a here-string" sh_herestring
makes 1 "a | b > f" sh_pipeline
makes 1 "a | b > f of a megabyte" sh_pipeline_big
makes 1 "{ a; b; } > f" sh_group
makes 1 "| tee f" sh_tee
makes 1 "> f 2>&1" sh_both
makes 1 "dash: echo x > new" sh_dash
makes 1 "dash: printf >> old" sh_printf_append
equal "contents" "$(printf 'x\ny\n|a\nb\nc\nd\n|x\nno newline')" "$(cat f3)
|$(cat f9)
|$(cat f12)"
rev=$(head_rev)

# ---- programs ------------------------------------------------------------------------------------------

src=$WORK/src
mkdir "$src"
seq 30000 >"$src/big"
echo small >"$src/small"
touch -d 2001-02-03 "$src/small"
chmod 640 "$src/small"
setfattr -n user.colour -v blue "$src/small"
setfattr -n user.taste -v sweet "$src/small"

makes 1 "touch new" touch t1
makes 1 "touch old" touch t1
makes 1 "touch -d old" touch -d 2001-01-01 t1
makes 1 "cp new" cp "$src/big" c1
makes 1 "cp over" cp "$src/small" c1
makes 1 "cp of an empty file" cp /dev/null c2
makes 1 "cp -p" cp -p "$src/small" c3
makes 1 "cp -a with xattrs and times" cp -a "$src/small" c4
makes 1 "cp within the mount" cp c1 c5
makes 1 "dd" dd if="$src/big" of=c7 bs=1000 status=none
makes 1 "dd conv=notrunc" dd if="$src/small" of=c7 conv=notrunc status=none
makes 1 "cat >> f" bash -c "cat $src/big >>c7"
makes 1 "mv" mv c5 c8
makes 1 "mv over another" mv c8 c1
makes 1 "ln" ln c1 l1
makes 1 "ln -s" ln -s c1 l2
makes 1 "mkdir" mkdir d1
makes 3 "mkdir -p a/b/c" mkdir -p a/b/c
makes 1 "mv of a directory" mv a/b a/z
makes 1 "rmdir" rmdir a/z/c
makes 1 "rm" rm l1
makes 1 "rm of a symlink" rm l2
makes 1 "chmod" chmod 600 c1
makes 1 "truncate of an old file" truncate -s 100 c1
makes 1 "truncate of a new file" truncate -s 1M c9
makes 1 "fallocate" fallocate -l 100k c10
makes 1 "fallocate --punch-hole" fallocate -p -o 4096 -l 8192 c10
makes 1 "setfattr" setfattr -n user.a -v b c1
makes 1 "setfattr -x" setfattr -x user.a c1
makes 1 "mkfifo" mkfifo p1
makes 2 "sed -i: the new file, and its rename" sed -i s/1/2/ c7
makes 1 "sort -o over itself" sort -o c7 c7
if as_root; then
	makes 1 "chown" chown 1000:1000 c1
	makes 1 "mknod" mknod n1 c 1 3
fi
equal "cp -a has kept the xattrs" "$(cd "$src" && getfattr -d small)" "$(getfattr -d c4 | sed 's/c4/small/')"
equal "cp -a has kept the time and mode" "$(stat -c '%Y %a' "$src/small")" "$(stat -c '%Y %a' c4)"

# What a revision shows of them: the whole change, never the file without its mode or time.
rev_c4=$(getfattr --only-values -n user.mvccfs.rev c4)
equal "the revision of cp -a shows all of it" \
	"$(stat -c '%Y %a %s' c4)" "$(stat -c '%Y %a %s' "@rev/$rev_c4/c4")"
equal "with its xattrs" "$(getfattr -d c4)" "$(getfattr -d "@rev/$rev_c4/c4" | sed "s|@rev/$rev_c4/||")"
[ ! -e "@rev/$((rev_c4 - 1))/c4" ] && ok "the revision before has nothing of it" ||
	fail "c4 was there before its revision"

# ---- many files at a time ------------------------------------------------------------------------------

mkdir "$src/many"
for i in $(seq 50); do
	seq "$i" $((i * 40)) >"$src/many/f$i"
done
touch -d 2002-03-04 "$src"/many/*
(cd "$src/many" && tar -cf ../many.tar -- *)

uncounted
mkdir tar cpa make
makes 50 "tar -x of 50 files" tar -C tar -xf "$src/many.tar"
makes 50 "cp -a of 50 files" bash -c "cp -a $src/many/* cpa/"
makes 50 "cat >> of 50 files" bash -c "for f in cpa/*; do cat $src/small >>\$f; done"
same_trees "tar -x gives the files" "$src/many" tar
same_listing "with mode and time" "$src/many" tar

if command -v make >/dev/null && command -v cc >/dev/null; then
	uncounted
	for i in $(seq 20); do
		printf 'int f%d(void)\n{\n\treturn %d;\n}\n' "$i" "$i" >"make/f$i.c"
	done
	cat >make/Makefile <<-'END'
		.RECIPEPREFIX = >
		all: $(patsubst %.c,%.o,$(wildcard *.c))
		%.o: %.c
		>@$(CC) -O1 -c -o $@ $<
	END
	export TMPDIR="$WORK"
	makes 20 "make -j4 of 20 objects" make -s -C make -j4 all
	makes 0 "make with nothing to do" make -s -C make -j4 all
else
	ok "make: skipped, as there is no make or cc"
fi

# ---- what makes none -----------------------------------------------------------------------------------

reads() {
	cat c7 tar/* >/dev/null
	ls -laR . >/dev/null
	find . -type f -newer c7 >/dev/null
	grep -r nothing-like-this . || true
	du -s . >/dev/null
	cmp c7 c7
	tar -cf "$WORK/out.tar" tar cpa
}
read_history() {
	cat "@rev/$rev/f3" >/dev/null
	ls -l @rev "@rev/$rev" "tar/@rev/head" >/dev/null
}
open_without_writing() {
	exec 7>>c7 8<>c1
	exec 7>&- 8>&-
}
write_nothing() { printf '' >>c7; }
refused() {
	! { mkdir d1 || rmdir tar || mkdir @rev || rm nonexistent; } 2>/dev/null
}
makes 0 "reading" reads
makes 0 "reading history" read_history
makes 0 "opening for writing without writing" open_without_writing
makes 0 "writing nothing" write_nothing
makes 0 "what was refused" refused
makes 0 "waiting" sleep 0.3

# ---- one large file ------------------------------------------------------------------------------------

size_mib=${MVCCFS_TEST_LARGE_MIB:-1024}
large() { dd if="$WORK/large-piece" of=large bs=1M iflag=fullblock count="$size_mib" status=none; }
mkfifo "$WORK/large-piece"
# Bytes that do not compress or repeat, and that the test need not store: a cipher's stream, or seq
# without openssl.
stream() {
	if command -v openssl >/dev/null; then
		openssl enc -aes-128-ctr -K 0011223344556677 -iv 0 -in /dev/zero 2>/dev/null || true
	else
		seq 1000000000
	fi
}
stream >"$WORK/large-piece" &
feeder=$!
makes 1 "one file of $size_mib MiB" large
kill $feeder 2>/dev/null || true
wait $feeder 2>/dev/null || true
want=$({ stream || true; } 2>/dev/null | head -c "${size_mib}M" | cksum)
equal "its content" "$want" "$(cksum <large)"
equal "its content in the newest revision" "$want" "$(cksum <@rev/head/large)"
[ ! -e "@rev/$(($(head_rev) - 1))/large" ] && ok "no revision shows a part of it" ||
	fail "a revision shows a part of it"

status=$("$MVCCCTL_BIN" --mount "$MNT" status --json | tr -d ' \n')
equal "mvccctl status names the same revision" "$(head_rev)" \
	"$(sed -n 's/.*"current":\([0-9]*\).*/\1/p' <<<"$status")"
no_late_revisions
cd /
umount_fs
finish
