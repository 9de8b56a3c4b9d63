#!/bin/bash
# grep and bisect: all versions of files, each once; in a mount, and of a database that is not mounted.
. "$(dirname "$0")/lib.sh"
setup

ctl() {
	if [ "$mounted" ]; then
		"$MVCCCTL_BIN" --mount "$MNT" "$@"
	else
		"$MVCCCTL_BIN" --db "$DB" "$@"
	fi
}

lines() {
	tr '\n' '|' | sed 's/|$//'
}

cd "$MNT"
mkdir d                        # 2
printf 'alpha\nbeta\n' >d/f    # 3
printf 'alpha\nBETA+\n' >d/f   # 4
chmod 600 d/f                  # 5
mv d e                         # 6
printf 'a\0alpha\n' >bin       # 7
ln e/f hard                    # 8
rm e/f                         # 9
printf 'alpha again' >e/g      # 10
cd /

all() {
	equal "$where: grep: each version once" "3:/d/f:alpha|4:/d/f:alpha|5:/d/f:alpha|7:/bin: binary file matches|8:/e/f:alpha|9:/hard:alpha|10:/e/g:alpha again" \
		"$(ctl grep alpha | sed 's/^\(8:\)\/hard/\1\/e\/f/' | lines)"
	equal "$where: grep in a range" "5:/d/f:alpha" "$(ctl grep alpha 5..6)"
	equal "$where: grep below a path" "10:/e/g:alpha again" "$(ctl grep again e)"
	equal "$where: grep in a path that has moved" "3:/d/f:beta" "$(ctl grep beta d)"
	equal "$where: grep -i" "3:/d/f:beta|4:/d/f:BETA+|5:/d/f:BETA+" "$(ctl grep -i beta d | lines)"
	equal "$where: grep -F" "4:/d/f:BETA+" "$(ctl grep -F 'A+' d ..4)"
	equal "$where: grep -E" "3:/d/f:beta" "$(ctl grep -E '^b(e|x)ta$' d)"
	equal "$where: grep -G" "4:/d/f:BETA+" "$(ctl grep -G 'A+$' 4..4)"
	equal "$where: grep -l" "3:/d/f" "$(ctl grep -l a 3..3)"
	equal "$where: grep -z" "/d/f|" "$(ctl grep -z a 3..3 | tr '\0' '|')"
	equal "$where: grep --json" '{"rev":3,"path":"/d/f","line":2,"text":"beta"}' "$(ctl grep --json beta)"
	exits "$where: grep that finds nothing" 1 ctl grep gamma
	exits "$where: grep of what is no pattern" 2 ctl grep 'a('
	exits "$where: grep of a revision that is not there" 1 ctl grep a 999..
	exits "$where: a reader that has had enough" 0 bash -o pipefail -c '"$@" | head -n 1 | grep -q :' - \
		"$MVCCCTL_BIN" "$([ "$mounted" ] && echo --mount || echo --db)" "$([ "$mounted" ] && echo "$MNT" || echo "$DB")" grep -l alpha

	exits "$where: bisect" 0 ctl bisect n -- bash -c 'echo >>"$0/runs"; [ "$(cat "$1")" -lt 23 ]' "$WORK" '{}'
	says "... tells the revision" "$twentythree  "
	equal "... with few runs" 1 "$(($(wc -l <"$WORK/runs") <= 7))"
	rm "$WORK/runs"
	equal "$where: bisect --json, by the environment" "$twentythree" \
		"$(ctl bisect --json n -- bash -c '[ "$(cat "$MVCCFS_VERSION_FILE")" -lt 23 ]' 2>/dev/null |
			sed 's/.*"rev":\([0-9]*\).*/\1/')"
	equal "$where: bisect in a range" "$((twentythree + 3))" \
		"$(ctl bisect n $((twentythree + 3)).. -- bash -c '[ "$(cat "{}")" -lt 23 ]' 2>/dev/null | awk '{ print $1 }')"
	exits "$where: bisect of what is good" 1 ctl bisect n -- true
	exits "$where: bisect of what is nowhere" 1 ctl bisect nowhere -- false
	exits "$where: bisect with a command that is none" 2 ctl bisect n -- "$WORK/none"
	exits "$where: bisect without a command" 2 ctl bisect n
}

equal "the revisions are as told above" 10 "$(head_rev)"
for i in {1..40}; do
	echo "$i" >"$MNT/n"
	[ "$i" -ne 23 ] || twentythree=$(head_rev)
done
mounted=1 where=mounted
all
umount_fs
mounted='' where=unmounted
all
finish
