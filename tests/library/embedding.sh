#!/bin/bash
# docs/embedding.md, compiled. A block of C that has a main() is a program; the block of text after it is what it
# prints, linked with the shared library and with the static one. A block that begins with a declaration is compiled
# as it stands, any other one as the inside of a function that has the store.
. "$(dirname "$0")/lib.sh"
install_here
cd "$WORK"

# block-N.c and block-N.text, N counting the blocks of C.
awk '
	/^```c$/ { n++; out = sprintf("block-%02d.c", n); next }
	/^```text$/ { out = sprintf("block-%02d.text", n); next }
	/^```/ { if (out) close(out); out = ""; next }
	out { print > out }
' "$MVCCFS_SRC/docs/embedding.md"

programs=0
flags=$(pkg-config --cflags --libs mvcc-rocks)
statics="$(pkg-config --cflags mvcc-rocks) $LIB/libmvcc_rocks.a $LIB/libmvcc.a -lrocksdb -lxxhash -lpthread"

prints() { # BLOCK HOW FLAGS: a program built so prints its text
	local at=$WORK/$1-$2
	mkdir "$at"
	# shellcheck disable=SC2086
	succeeds "$1 builds ($2)" cc -Wall -Wextra -Werror -o "$at/program" "$1.c" $3
	equal "and prints what the document says" "$(cat "$1.text")" \
		"$(cd "$at" && LD_LIBRARY_PATH=$LIB ./program 2>&1)"
}

for file in block-*.c; do
	block=${file%.c}
	if grep -q '^int main(' "$file"; then
		programs=$((programs + 1))
		prints "$block" shared "$flags"
		prints "$block" static "$statics"
		continue
	fi
	{
		for header in "$INCLUDE"/mvcc/*.h; do
			echo "#include <mvcc/$(basename "$header")>"
		done
		printf '#include <%s.h>\n' errno stdio stdlib unistd
		if head -n 1 "$file" | grep -Eq '^(static|struct [a-z_]* \{|#include)'; then
			echo "#line 1 \"$file\""
			cat "$file"
		else
			echo "int inside(struct mvcc *db); int inside(struct mvcc *db) { int err = 0; (void)db;"
			echo "#line 1 \"$file\""
			cat "$file"
			echo "return err; }"
		fi
	} >snippet.c
	succeeds "$block compiles: $(head -n 1 "$file")" cc -std=gnu11 -Wall -Wextra -Werror \
		-Wno-unused -fsyntax-only -I"$INCLUDE" snippet.c
done
equal "the document has a program" 1 "$programs"
finish
