#!/bin/bash
# Writers that fill the ring: their requests are put aside, none is lost or answered early, and the threads that
# serve are free meanwhile.
. "$(dirname "$0")/lib.sh"
setup ring_bytes=256K

figure() { # NAME
	"$MVCCCTL_BIN" --mount "$MNT" status --json | sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p"
}

value() { # N: 60,000 bytes that tell their number
	printf '%060000d' "$1"
}

writers=24 # more than the daemon has threads
rounds=40
for w in $(seq $writers); do : >"$MNT/f$w"; done
until_true "the files are there" at_least $((1 + writers))
before=$(head_rev)

for w in $(seq $writers); do
	(for r in $(seq $rounds); do setfattr -n user.v -v "$(value "$r")" "$MNT/f$w" || exit 1; done) &
	pids[w]=$!
done
answers=0
while kill -0 "${pids[@]}" 2>/dev/null; do
	stat "$MNT/f1" "$MNT" >/dev/null && [ -n "$(getfattr --only-values -n user.mvccfs.rev "$MNT/@rev/head" 2>/dev/null)" ]
	answers=$((answers + 1))
done
for w in $(seq $writers); do
	succeeds "writer $w" wait "${pids[w]}"
done
equal "each change is one revision" $((before + writers * rounds)) "$(head_rev)"
for w in 1 $((writers / 2)) $writers; do
	equal "the last value of f$w" "$(value $rounds)" "$(getfattr --absolute-names --only-values -n user.v "$MNT/f$w")"
done
if [ "$(figure parked)" -gt 0 ]; then
	ok "requests were put aside: $(figure parked), while $answers others were answered"
else
	fail "no request was put aside: the case proves nothing"
fi

# The same with close(2), and a kill in the midst of it.
for w in $(seq 8); do
	(for r in $(seq 200); do
		printf '%0900d' "$r" >"$MNT/g$w" && echo "$r" >>"$WORK/done.$w"
	done) 2>/dev/null &
done
sleep 0.5
kill -9 "$(daemon_pid)"
wait || true
umount_once "$MNT"
mount_fs ring_bytes=256K
lost=0
for w in $(seq 8); do
	acknowledged=$(tail -n 1 "$WORK/done.$w" 2>/dev/null || echo 0)
	content=$(sed 's/^0*//' "$MNT/g$w" 2>/dev/null || true)
	# What came after the last acknowledged one: the next may be there, or its truncation.
	if [ "${content:-0}" != "$acknowledged" ] && [ "${content:-0}" != $((acknowledged + 1)) ] && [ -n "$content" ]; then
		lost=$((lost + 1))
	fi
done
equal "writers whose acknowledged change is lost" 0 $lost
umount_fs
finish
