#!/bin/bash
# The manual pages are well-formed, mvccctl(1) has each verb and each option of it, mvcc(3) names every public function,
# and what docs/etcd.md says is tested by a function is tested by one that exists.
. "$(dirname "$0")/lib.sh"
cd "$MVCCFS_SRC"

for page in man/*.[1-8]; do
	equal "$page is clean" "" "$(groff -t -man -Tutf8 -ww -b -z "$page" 2>&1)"
done

# mvccctl(1): synopsis and sections are those of `mvccctl --help`, in its order; and each option that the help of a verb
# tells is on the page.
"$MVCCCTL_BIN" --help | sed -n '/^Verbs:/,/^$/s/^  \([a-z-]*\) .*/\1/p' >"$WORK/verbs"
[ -s "$WORK/verbs" ] || fail "mvccctl --help tells no verb"
sed 's/\\-/-/g' man/mvccctl.1 >"$WORK/mvccctl.1"
equal "mvccctl(1) has a synopsis of each verb, in order" "$(cat "$WORK/verbs")" \
	"$(sed -n '/^\.SH SYNOPSIS/,/^\.SH DESCRIPTION/s/^\.B mvccctl \([a-z-]*\).*/\1/p' "$WORK/mvccctl.1" | uniq)"
equal "and a section, in order" "$(cat "$WORK/verbs")" \
	"$(sed -n '/^\.SH VERBS/,/^\.SH EXIT/s/^\.SS \([a-z-]*\).*/\1/p' "$WORK/mvccctl.1" | uniq)"
missing=
while read -r verb; do
	for option in $("$MVCCCTL_BIN" "$verb" --help | grep -oE '(^|[ [(,])--[a-z][a-z-]+' | tr -d ' [(,' | sort -u); do
		grep -qE -e "$option([^a-z-]|\$)" "$WORK/mvccctl.1" || missing+=" $verb $option"
	done
done <"$WORK/verbs"
equal "and each option" "" "$missing"

# The headers that are installed.
mapfile -t headers < <(sed -n '/set(mvccfs_public_headers/,/)/p' cmake/install.cmake | grep -o 'mvcc/[a-z]*\.h')
"$PWD/tests/library/declared" "${headers[@]}" rocks_backend/rocks.h | sort -u >"$WORK/declared"
[ -s "$WORK/declared" ] || fail "no function found in the headers"
groff -t -man -rHY=0 -Tutf8 -P-cbou man/mvcc.3 | grep -oE '\b[a-z_0-9]+\b' | sort -u >"$WORK/words"
equal "mvcc(3) names every public function" "" "$(comm -23 "$WORK/declared" "$WORK/words")"
# And no other: each `mvcc_something(` of its synopsis is declared.
groff -t -man -rHY=0 -Tutf8 -P-cbou man/mvcc.3 | grep -oE '\b(mvcc|rocks)_[a-z_0-9]+\(' | tr -d '(' | sort -u >"$WORK/named"
equal "and none that there is not" "" "$(comm -13 "$WORK/declared" "$WORK/named")"

grep -oE '\btest_[a-z0-9_]+' docs/etcd.md | sort -u >"$WORK/told"
{
	grep -ohP 'void \Ktest_[a-z0-9_]+(?=\()' tests/*.c tests/mount/*.c
	basename -s .c tests/test_*.c
} | sort -u >"$WORK/tests"
[ -s "$WORK/told" ] || fail "docs/etcd.md names no test"
equal "docs/etcd.md names tests that exist" "" "$(comm -23 "$WORK/told" "$WORK/tests")"
finish
