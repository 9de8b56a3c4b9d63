# @watch as it is used from a shell, and mvccctl watch.
. "$(dirname "$0")/lib.sh"
setup
cd "$MNT"
tab=$(printf '\t')

# Starts COMMAND with its output in $WORK/NAME, and returns when it has opened the @watch it reads.
start() { # NAME COMMAND...
	local name=$1
	shift
	"$@" >"$WORK/$name" 2>"$WORK/$name.err" &
	last=$!
	until_true "$name opens @watch" watches $last
}

# Has the process, or a child of it, an @watch open?
watches() { # PID
	local pid
	for pid in "$1" $(pgrep -P "$1"); do
		readlink "/proc/$pid"/fd/* 2>/dev/null | grep -q '/@watch$' && return 0
	done
	return 1
}

lines() { # NAME COUNT: has it so many lines?
	[ "$(wc -l <"$WORK/$1")" -ge "$2" ]
}

kinds() { # NAME: kind and path of each line
	cut -f 3,4 "$WORK/$1" | tr '\t' ' '
}

stop() { # PID
	kill "$1"
	wait "$1" || true
}

wanted='create /a
mkdir /d
rename /d/a
unlink /d/a'
change() {
	echo x >a
	mkdir d
	mv a d/a
	rm d/a
}

# ends WHAT PID: a process of `start` ends, and well. (`wait` waits for children of this shell only, and
# `succeeds` has one of its own.)
ends() {
	local status=0
	wait "$2" || status=$?
	equal "$1" 0 $status
}

# ---- tail, when nobody else reads and makes the file look longer -----------------------------------------

start alone tail -f @watch
alone=$last
mkdir first
until_true "tail alone is told" lines alone 1 || true
equal "and shows it" "mkdir /first" "$(kinds alone)"
rmdir first
until_true "tail alone is told again" lines alone 2 || true
stop $alone

# ---- common readers --------------------------------------------------------------------------------------

start head head -n 1 @watch
head=$last
start cat cat @watch
cat=$last
start tail tail -f @watch
tail=$last
# shellcheck disable=SC2016
start while bash -c 'while IFS=$1 read -r rev time kind path rest; do printf "%s\t%s\t%s\t%s\n" "$rev" "$time" "$kind" "$path"; done <@watch' - "$tab"
while=$last
start dash sh -c 'while read -r line; do printf "%s\n" "$line"; done <@watch'
dash=$last
start grep grep --line-buffered unlink @watch
grep=$last
change
ends "head -n 1 ends after a line" $head
equal "and shows it" "create /a" "$(kinds head)"
for reader in cat tail while dash; do
	until_true "$reader is told" lines $reader 4 || true
	equal "$reader shows each change" "$wanted" "$(kinds $reader)"
done
until_true "grep is told" lines grep 1 || true
equal "grep finds the one" "unlink /d/a" "$(kinds grep)"
equal "tail has nothing to say" "" "$(cat "$WORK/tail.err")"
line=$(sed -n 3p "$WORK/cat")
equal "a rename tells the old name, and who did it" "$(id -u)	mv	/a" "$(cut -f 5,7,8 <<<"$line")"
equal "the revision is the log's" "$(cut -f 1 <<<"$line")" "$(getfattr --only-values -n user.mvccfs.rev @rev/head | awk '{ print $1 - 1 }')"
for reader in $cat $tail $while $dash $grep; do
	stop "$reader"
done
exits "timeout ends a reader" 124 timeout 0.2 cat @watch
refuses "there is nothing to write" "Operation not permitted" sh -c "echo x >@watch"
start odd head -n 1 d/@watch
odd=$last
touch "d/$(printf 'a\tb\nc\\d\377')"
wait $odd
equal "odd names are escaped" 'create /d/a\tb\nc\\d\377' "$(kinds odd)"
# shellcheck disable=SC2016
succeeds "python waits for it by select" python3 -c '
import os, select, sys
f = os.open("@watch", os.O_RDONLY)
assert select.select([f], [], [], 0)[0] == []
os.mkdir("by-python")
assert select.select([f], [], [], 60)[0] == [f]
assert b"\tmkdir\t/by-python\t" in os.read(f, 4096)'

# ---- mvccctl watch ---------------------------------------------------------------------------------------

watch() {
	"$MVCCCTL_BIN" watch "$@"
}

start now "$MVCCCTL_BIN" watch -n 3
now=$last
start below "$MVCCCTL_BIN" watch -z -n 2 p/q
below=$last
last_rev=$(head_rev)
mkdir p p/q p/qq
touch p/q/f
ends "mvccctl watch ends after as many as it was told" $now
equal "and shows them as @watch does" "mkdir /p
mkdir /p/q
mkdir /p/qq" "$(kinds now)"
ends "of one path" $below
equal "only what is there" "/p/q /p/q/f " "$(tr '\0' ' ' <"$WORK/below")"
equal "it goes on from a revision" "$(cat "$WORK/now")" "$(watch --from $((last_rev + 1)) -n 3)"
equal "with nothing left out" "$(seq $((last_rev + 1)) $((last_rev + 4)))" \
	"$(watch --from $((last_rev + 1)) -n 4 | cut -f 1)"
equal "as JSON" "create /p/q/f" "$(watch --json --from head -n 1 |
	python3 -c 'import json, sys; e = json.load(sys.stdin); print(e["kind"], e["path"])')"
start future "$MVCCCTL_BIN" watch --from $((last_rev + 6)) -n 1
future=$last
mkdir next
mkdir after-next
wait $future
equal "a revision still to come" "mkdir /after-next" "$(kinds future)"
start many "$MVCCCTL_BIN" watch -n 2500
many=$last
mkdir many
(cd many && seq 2499 | xargs mkdir)
ends "more than a page" $many
equal "in order, each once" "/many
$(seq -f /many/%.0f 2499)" "$(cut -f 4 "$WORK/many")"
exits "what is no revision" 2 watch --from yore
exits "two paths" 2 watch a b
"$MVCCCTL_BIN" compact head >/dev/null
exits "what was compacted away is status 13" 13 watch --from $((last_rev + 1))
says "and said" "compacted away"

# ---- the end ---------------------------------------------------------------------------------------------

head=$(head_rev)
mkdir end
cd /
umount_fs
exits "not mounted, nothing will change" 2 "$MVCCCTL_BIN" --db "$DB" watch
says "and that is said" "not mounted"
equal "but what changed is there" "mkdir /end" \
	"$("$MVCCCTL_BIN" --db "$DB" watch --from $((head + 1)) | cut -f 3,4 | tr '\t' ' ')"

mount_fs
start left cat "$MNT/@watch"
left=$last
daemon=$(daemon_pid)
kill -TERM "$daemon"
until_true "a daemon that is told to end does, though somebody waits" ended "$daemon" || true
until_true "who waited is answered" ended $left || true
status=0
wait $left || status=$?
equal "with an error" 1 $status
mountpoint -q "$MNT" && umount -l "$MNT"
mount_fs
succeeds "and the next mount is whole" mkdir "$MNT/again"

finish
