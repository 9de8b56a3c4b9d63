#!/bin/bash
# Ordinary work in a mount, with the tools that ask most of a filesystem: git, cmake, tar, sqlite.
. "$(dirname "$0")/lib.sh"
setup
cd "$MNT"
export GIT_CONFIG_NOSYSTEM=1 HOME=$WORK
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b

# ---- git -----------------------------------------------------------------------------------------------

# A repository of 2,000 files and 200 commits, as git fast-import reads it. Each commit adds, changes,
# moves.
history() {
	perl -e '
		my ($files, $commits, $n) = (2000, 200, 0);
		for my $c (1 .. $commits) {
			print "commit refs/heads/main\ncommitter a <a\@b> ", 1000000000 + $c, " +0000\n";
			printf "data 2\n%02d\n", $c % 100;
			my @now = map { $n++ } 1 .. $files / $commits;
			for my $i (@now, map { ($c * 31 + $_ * 17) % $n } 1 .. 5) {
				my $text = join("", map { "file $i at $c line $_\n" } 1 .. 1 + $i * 7 % 90);
				my $mode = $i % 50 ? "100644" : "100755";
				printf "M $mode inline dir%d/sub%d/file$i.txt\n", $i % 40, $i % 7;
				printf "data %d\n%s\n", length($text), $text;
			}
		}'
}

if command -v git >/dev/null; then
	git init -q --bare -b main "$WORK/repo.git"
	history | git -C "$WORK/repo.git" fast-import --quiet
	equal "the repository has its commits" 200 "$(git -C "$WORK/repo.git" rev-list --count main)"
	equal "and files" 2000 "$(git -C "$WORK/repo.git" ls-tree -r --name-only main | wc -l)"
	reference() { # COMMIT DIR
		mkdir "$2"
		git -C "$WORK/repo.git" archive "$1" | tar -C "$2" -xf -
	}
	reference main "$WORK/at-main"
	reference main~150 "$WORK/at-old"

	succeeds "git clone" git clone -q --no-hardlinks "$WORK/repo.git" clone
	cloned=$(head_rev)
	succeeds "git fsck" git -C clone fsck --full --strict
	compare() { # WHAT DIR
		local out
		out=$(diff -r --exclude=.git "$2" clone 2>&1 | head) || true
		equal "$1" "" "$out"
	}
	compare "its files are right" "$WORK/at-main"
	equal "git status is clean" "" "$(git -C clone status --porcelain)"
	succeeds "checkout of an old commit" git -C clone checkout -q main~150
	compare "has the old files" "$WORK/at-old"
	equal "and is clean" "" "$(git -C clone status --porcelain)"
	succeeds "checkout of the newest" git -C clone checkout -q main
	compare "has the new files" "$WORK/at-main"
	succeeds "git gc" git -C clone gc -q --prune=now
	succeeds "git fsck after it" git -C clone fsck --full --strict
	echo change >>clone/dir0/sub0/file0.txt
	succeeds "git commit" git -C clone commit -qam change
	succeeds "git push" git -C clone push -q origin main:pushed
	equal "has arrived" "$(git -C clone rev-parse HEAD)" "$(git -C "$WORK/repo.git" rev-parse pushed)"
	out=$(diff -r --exclude=.git "$WORK/at-main" "@rev/$cloned/clone" 2>&1 | head) || true
	equal "the clone of then is in history" "" "$out"
	equal "with git's own state, which is sound" "" \
		"$(git -C "@rev/$cloned/clone" fsck --full --strict 2>&1)"
	equal "and clean" "" "$(git -C "@rev/$cloned/clone" --no-optional-locks status --porcelain 2>&1)"
else
	ok "git: skipped, as there is none"
fi

# ---- tar, and building this project --------------------------------------------------------------------

(cd "$MVCCFS_SRC" && tar -cf "$WORK/src.tar" --exclude='./build*' --exclude=./.git .)
mkdir src "$WORK/src"
succeeds "tar -x" tar -C src -xf "$WORK/src.tar"
tar -C "$WORK/src" -xf "$WORK/src.tar"
same_trees "gives the files" "$WORK/src" src
same_listing "with modes, owners and times" "$WORK/src" src

if command -v cmake >/dev/null && command -v cc >/dev/null; then
	succeeds "cmake configures this project" \
		cmake -S src -B built -DBUILD_TESTING=OFF -DCMAKE_BUILD_TYPE=Debug
	succeeds "and builds its library" cmake --build built --target mvcc mvcc_shared -j 2
	lib=$(find built -name 'libmvcc.so*' -type f)
	[ -n "$lib" ] && ok "which is there" || fail "no libmvcc.so was built"
	grep -q mvcc_open <(nm -D --defined-only "$lib") && ok "and sound" || fail "$lib has no mvcc_open"
	built=$(head_rev)
	stamp=$(stat -c %y "$lib")
	cp "$lib" "$WORK/lib"
	succeeds "building again" cmake --build built --target mvcc mvcc_shared -j 2
	equal "has nothing to do" "$stamp" "$(stat -c %y "$lib")"
	touch src/mvcc/bytes.h
	succeeds "a touched header" cmake --build built --target mvcc_shared -j 2
	[ "$stamp" != "$(stat -c %y "$lib")" ] && ok "is built anew" || fail "a touched header was not seen"
	succeeds "the build of then is in history" cmp "$WORK/lib" "@rev/$built/$lib"
	equal "with its time" "$stamp" "$(stat -c %y "@rev/$built/$lib")"
else
	ok "cmake: skipped, as there is none"
fi

# ---- sqlite --------------------------------------------------------------------------------------------

if command -v sqlite3 >/dev/null; then
	mkdir sql
	inserts() { # WHO COUNT
		echo ".timeout 30000"
		for i in $(seq "$2"); do
			echo "INSERT INTO t VALUES ('$1', $i, hex(randomblob(200)));"
		done
	}
	equal "sqlite in WAL mode" wal \
		"$(sqlite3 sql/db 'PRAGMA journal_mode=WAL; CREATE TABLE t(who, n, x);')"
	inserts a 300 | sqlite3 sql/db &
	first=$!
	inserts b 300 | sqlite3 sql/db &
	second=$!
	seen=0
	while kill -0 $first 2>/dev/null || kill -0 $second 2>/dev/null; do
		now=$(sqlite3 -cmd '.timeout 30000' sql/db 'SELECT count(*) FROM t')
		[ "$now" -ge "$seen" ] || fail "sqlite: a reader saw $now rows after $seen"
		seen=$now
	done
	wait $first && ok "one writer" || fail "the first sqlite writer failed"
	wait $second && ok "and another at the same time" || fail "the second sqlite writer failed"
	equal "all rows are there" "a|300|45150 b|300|45150 " \
		"$(sqlite3 sql/db 'SELECT who, count(*), sum(n) FROM t GROUP BY 1 ORDER BY 1' | tr '\n' ' ')"
	equal "integrity" ok "$(sqlite3 sql/db 'PRAGMA integrity_check')"
	sqlite3 sql/db 'PRAGMA wal_checkpoint(TRUNCATE)' >/dev/null
	rev=$(head_rev)
	sqlite3 sql/db 'DELETE FROM t'
	cp "@rev/$rev/sql/db" "$WORK/old.db"
	equal "the database of then is in history" "ok 600 " \
		"$(sqlite3 "$WORK/old.db" 'PRAGMA integrity_check; SELECT count(*) FROM t' | tr '\n' ' ')"
	equal "where the live one is empty" 0 "$(sqlite3 sql/db 'SELECT count(*) FROM t')"
else
	ok "sqlite: skipped, as there is none"
fi

# ---- all of it again after mounting again --------------------------------------------------------------

cp -a "$MNT" "$WORK/copy"
listing "$MNT" >"$WORK/listing"
cd /
umount_fs
mount_fs
same_trees "after mounting again all is there" "$WORK/copy" "$MNT"
equal "in all of stat" "" "$(diff "$WORK/listing" <(listing "$MNT") | head)"
umount_fs
finish
