#!/bin/bash
# What leaves the libraries is what the installed headers declare, no more and no less, and the shared ones have it
# under one version; and each header can be included alone.
. "$(dirname "$0")/lib.sh"
install_here

exported() { # LIBRARY
	nm -D --defined-only "$LIB/$1" | awk '$2 != "A" { print $3 }'
}

declares() { # NAME HEADER...: the library, in both kinds, exports what these declare
	local library=$1.so
	nm -g --defined-only "$LIB/$1.a" | awk 'NF == 3 { print $3 }' >"$WORK/archived"
	shift
	"$HERE/declared" "$@" >"$WORK/declared"
	exported "$library" | sed 's/@.*//' >"$WORK/exported"
	[ -s "$WORK/declared" ] || fail "$library: no function found in the headers"
	same_lists "$library exports what is declared, and nothing else" "$WORK/declared" "$WORK/exported"
	same_lists "and the archive, too" "$WORK/declared" "$WORK/archived"
	equal "$library: all of it by its version" "" "$(exported "$library" | grep -v '@@MVCC_0$' || true)"
	equal "$library has a soname" "$library.0" \
		"$(readelf -d "$LIB/$library" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')"
}

mapfile -t headers < <(find "$INCLUDE/mvcc" -name '*.h' ! -name rocks.h)
declares libmvcc "${headers[@]}"
declares libmvcc_rocks "$INCLUDE/mvcc/rocks.h"

for header in "$INCLUDE"/mvcc/*.h; do
	name=mvcc/$(basename "$header")
	printf '#include <%s>\n' "$name" >"$WORK/alone.c"
	succeeds "$name compiles alone, as C11" cc -std=c11 -Wall -Wextra -Werror -fsyntax-only -I"$INCLUDE" "$WORK/alone.c"
done
finish
