# Several at work in one mount, each under a session of its own, as coding agents are: git commits in a repository, trees
# unpacked and removed, files saved by rename. Afterwards git fsck and mvccctl check find nothing, and every revision says
# whose it was.
#
# So many rounds for each (AGENTS_ROUNDS), or for so long: AGENTS_MINUTES=10 tests/mount/agents.sh
. "$(dirname "$0")/lib.sh"
setup
: "${AGENTS_ROUNDS:=8}"
end=0
[ -n "${AGENTS_MINUTES:-}" ] && end=$((SECONDS + AGENTS_MINUTES * 60))

export WORK GIT_AUTHOR_NAME=agent GIT_AUTHOR_EMAIL=agent@example.org GIT_CONFIG_NOSYSTEM=1 HOME=$WORK/home
export GIT_COMMITTER_NAME=agent GIT_COMMITTER_EMAIL=agent@example.org
mkdir "$HOME" "$WORK/plain"

# What is unpacked: a few hundred files, a link among them.
(
	cd "$WORK/plain"
	for i in $(seq 20); do
		mkdir "dir$i"
		for j in $(seq 10); do
			seq $((i * j * 10)) >"dir$i/file$j"
		done
	done
	ln -s dir1/file1 link
)
tar -C "$WORK/plain" -cf "$WORK/plain.tar" .

cat >"$WORK/agent" <<'AGENT'
# agent KIND DIR ROUNDS SECONDS: works in DIR, so many rounds or so long.
set -euo pipefail
kind=$1 dir=$2 rounds=$3 seconds=$4
mkdir "$dir"
cd "$dir"

round_git() {
	[ -d .git ] || git init -q .
	for i in 1 2 3; do
		echo "$1 $i" >>"src$i"
		seq $((100 * $1)) >"gen$1.$i"
	done
	git add -A
	git commit -qm "round $1"
	if [ $(($1 % 3)) -eq 0 ]; then
		git checkout -q -b "topic$1"
		echo "$1" >topic
		git add topic
		git commit -qm topic
		git checkout -q -
		git merge -q --no-edit "topic$1"
	fi
	if [ $(($1 % 4)) -eq 0 ]; then git gc -q; fi
}

round_unpack() {
	mkdir "new$1"
	tar -C "new$1" -xf "$WORK/plain.tar"
	rm -rf current
	mv "new$1" current
}

round_save() {
	for i in $(seq 20); do
		seq $((i * $1)) >.doc$i.tmp
		mv .doc$i.tmp doc$i
		[ ! -e doc$i~ ] || rm doc$i~
		ln doc$i doc$i~
	done
}

round_edit() {
	for i in $(seq 10); do
		echo "$1" >>log
		sed -i "1s/.*/$1/" log
		chmod 60$((i % 2 * 4)) log
		truncate -s $((i * 1000)) sparse
	done
}

more() {
	if [ "$seconds" -gt 0 ]; then [ $SECONDS -lt "$seconds" ]; else [ $n -lt "$rounds" ]; fi
}

n=0
SECONDS=0
while more; do
	n=$((n + 1))
	"round_$kind" $n
done
AGENT

agents=()
names=()
for kind in git unpack save edit; do
	for copy in 1 2; do
		name=$kind$copy
		[ $copy -eq 1 ] || [ $end -gt 0 ] || continue # eight of them, when there is time
		names+=("$name")
		"$MVCCCTL_BIN" run --session "$name" --message "agent $name" -- \
			bash "$WORK/agent" "$kind" "$MNT/$name" "$AGENTS_ROUNDS" \
			$((${AGENTS_MINUTES:-0} * 60)) >"$WORK/$name.out" 2>&1 &
		agents+=($!)
	done
done
for i in "${!agents[@]}"; do
	status=0
	wait "${agents[$i]}" || status=$?
	equal "agent ${names[$i]} does its work" 0 $status
	[ $status -eq 0 ] || tail -n 20 "$WORK/${names[$i]}.out"
done
no_late_revisions

# Whose each revision was: its paths lie in the directory of the session that it tells, with the message of that.
wrong=$("$MVCCCTL_BIN" --mount "$MNT" log --json | python3 -c '
import json, sys
names = set(sys.argv[1:])
seen = {name: 0 for name in names}
for line in sys.stdin:
    e = json.loads(line)
    if e["rev"] == 1:
        continue
    for path in (e["path"], e.get("path2")):
        if path is None:
            continue
        name = path.split("/")[1]
        if e.get("session") != name or e.get("message") != "agent " + name:
            print(e["rev"], e["op"], path, e.get("session"), e.get("comm"))
        elif name in seen:
            seen[name] += 1
for name, n in seen.items():
    if n < 20:
        print("only", n, "of", name)
' "${names[@]}")
equal "every revision tells its session" "" "$(head -n 20 <<<"$wrong")"

for name in "${names[@]}"; do
	case $name in
	git*)
		exits "git fsck in $name" 0 git -C "$MNT/$name" fsck --full --strict --no-dangling
		equal "it finds nothing in $name" "" "$output"
		equal "git status is clean in $name" "" "$(git -C "$MNT/$name" status --porcelain)"
		;;
	unpack*) same_trees "$name holds what was unpacked" "$WORK/plain" "$MNT/$name/current" ;;
	esac
done

exits "mvccctl check" 0 "$MVCCCTL_BIN" --mount "$MNT" check
umount_fs
exits "and again, not mounted" 0 "$MVCCCTL_BIN" --db "$DB" check
mount_fs
for name in "${names[@]}"; do
	case $name in
	git*) exits "git fsck in $name, mounted again" 0 git -C "$MNT/$name" fsck --full --strict --no-dangling ;;
	esac
done

finish
