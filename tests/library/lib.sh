# What the tests of the library as others have it share: the assertions of the mount tests, and an installation
# of this build in a directory of its own. It does not mount, so lib.sh's setup is left out.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../mount/lib.sh"

WORK=$(mktemp -d "${TMPDIR:-/tmp}/mvccfs-test-XXXXXX")
trap 'cd /; rm -rf "$WORK"' EXIT
HERE=$MVCCFS_SRC/tests/library

# install_here: sets ROOT, INCLUDE, LIB (directories), and what pkg-config finds.
install_here() {
	local build
	build=$(cd "$(dirname "$MVCCFS_BIN")/.." && pwd)
	ROOT=$WORK/root
	succeeds "cmake --install" env DESTDIR="$ROOT" cmake --install "$build" --prefix /usr
	INCLUDE=$ROOT/usr/include
	LIB=$(dirname "$(find "$ROOT" -name libmvcc.so)")
	export PKG_CONFIG_PATH=$LIB/pkgconfig
}

# same_lists WHAT FILE FILE: the first has what is wanted, the second what there is; sorted by us.
same_lists() {
	local out
	if out=$(diff <(sort -u "$2") <(sort -u "$3")); then
		ok "$1"
	else
		fail "$1" "< is wanted, > is there:" "$(grep '^[<>]' <<<"$out")"
	fi
}
