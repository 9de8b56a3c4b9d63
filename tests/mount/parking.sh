#!/bin/bash
# Writers that fill the ring: their requests are put aside, none is lost or answered early, and the threads that
# serve are free meanwhile.
. "$(dirname "$0")/lib.sh"
setup ring_bytes=256K

figure() { # NAME
	"$MVCCCTL_BIN" --mount "$MNT" status --json | sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p"
}

writers=24 # more than the daemon has threads
links=250  # of each in a round, 4,000 bytes each: a round is a hundred times the ring

# Makes the links of one writer and round, as fast as one process can.
writer() { # WRITER ROUND
	perl -e 'my ($at, $n) = @ARGV; for (1 .. $n) { symlink("x" x 3990 . $_, "$at.$_") or die "$at.$_: $!" }' \
		"$MNT/w$1.$2" $links
}
right() { # WRITER ROUND: how many links are there as they were made
	perl -e 'my ($at, $n) = @ARGV; my $r = 0;
		for (1 .. $n) { $r += (readlink("$at.$_") // "") eq "x" x 3990 . $_ } print $r' "$MNT/w$1.$2" $links
}

before=$(head_rev)
rounds=0
answers=0
end=$((SECONDS + PATIENCE))
# Whether the ring is ever full is a race that one round nearly always wins; it is run until it did.
while [ $rounds -eq 0 ] || { [ "$(figure parked)" -eq 0 ] && [ $SECONDS -lt $end ]; }; do
	rounds=$((rounds + 1))
	for w in $(seq $writers); do
		writer "$w" $rounds &
		pids[w]=$!
	done
	while kill -0 "${pids[@]}" 2>/dev/null; do
		[ -d "$MNT" ] && [ -n "$(getfattr --absolute-names --only-values -n user.mvccfs.rev "$MNT/@rev/head")" ]
		answers=$((answers + 1))
	done
	for w in $(seq $writers); do
		succeeds "writer $w, round $rounds" wait "${pids[w]}"
	done
done
equal "each change is one revision" $((before + writers * links * rounds)) "$(head_rev)"
for w in 1 $((writers / 2)) $writers; do
	equal "the links of writer $w" $links "$(right "$w" $rounds)"
done
if [ "$(figure parked)" -gt 0 ]; then
	ok "$(figure parked) requests were put aside, while $answers others were answered"
else
	fail "in $rounds rounds no request was put aside"
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
