#!/bin/bash
# The sessions in the manual pages and the README are what happens: commands and output are taken from the sources, the
# commands run in a shell on a fresh mount, and what they print is compared. What is different each time (times,
# processes, whoever runs the tests, where) is made the same on both sides.
. "$(dirname "$0")/lib.sh"
setup
umount_fs
PATH=$(dirname "$MVCCFS_BIN"):$(dirname "$MVCCCTL_BIN"):$PATH
export PATH GIT_CONFIG_NOSYSTEM=1 HOME=$WORK
unset MVCCFS_MOUNT MVCCFS_DB MVCCFS_SESSION MVCCFS_MESSAGE

# session PAGE SECTION...: the lines between .EX and .EE in these sections, as a terminal shows them.
session() {
	local page=$1 wanted
	shift
	wanted=$(printf '%s|' "$@")
	awk -v wanted="^(${wanted%|})\$" '
		/^\.S[HS] / { name = substr($0, 5); gsub(/"/, "", name); here = name ~ wanted }
		/^\.SH / && inside { inside = 0 }
		/^\.SH / && here { inside = 1 }
		/^\.EX/ { shown = 1; next }
		/^\.EE/ { shown = 0 }
		shown && (here || inside)' "$MVCCFS_SRC/man/$page" |
		sed -e 's/^\\&//' -e 's/\\-/-/g' -e 's/\\(ti/~/g' -e "s/\\\\(aq/'/g" -e 's/\\(ha/^/g' -e 's/\\e/\\/g'
}

# The same of the README.
session_of_readme() {
	sed -n '/^## What it looks like/,/^## What is different/s/^    //p' "$MVCCFS_SRC/README.md"
}

# What differs from run to run, on standard input.
masked() {
	sed -E -e "s,^(/root|$WORK/[^/]*)/work,HOME/work," -e 's/[0-9]{4}-[0-9]{2}-[0-9]{2}([ T])[0-9:]{8}(\.[0-9]+Z)?/TIME/g' -e 's/(pid=|process |txn-)[0-9]+/\1PID/g' \
		-e 's/uid=[0-9]+ gid=[0-9]+/uid=UID gid=GID/' -e 's/\t[0-9]+\t[0-9]+\t([^\t]*)$/\tUID\tPID\t\1/' \
		-e "s/\b(root|$(id -un)|$(id -gn))\b */USER /g" -e 's/left [0-9]+[a-z]+/left SOME/' \
		-e 's/[0-9]+ rows/N rows/' -e 's/[0-9]{15,}/INODE/g' -e 's/^bash: line [0-9]+: /bash: /'
}

# Runs the lines of FILE that begin with a prompt, in one shell, and prints what its terminal would show. A session that
# does not begin with mounting begins in a fresh mount.
play() { # FILE
	# shellcheck disable=SC2016
	bash -c '
		while IFS= read -r -u 9 line; do
			case $line in "$ "*)
				printf "%s\n" "$line"
				eval "${line#??}" 9<&-
				;;
			esac
		done 9<"$1"' bash "$1" 2>&1 </dev/null
}

plays() { # WHAT COMMAND...: the session that the command prints
	local what=$1 dir difference
	shift
	dir=$(mktemp -d "$WORK/XXXXXX")
	"$@" >"$dir/page"
	[ "$(grep -c '^\$ ' "$dir/page")" -ge 8 ] || fail "$what" "hardly a command found in $*"
	(
		cd "$dir"
		if ! head -n 1 "$dir/page" | grep -q 'mvccfs work.db'; then
			mkdir work
			mount_fs '' "$dir/db" work
			cd work
		fi
		play "$dir/page"
	) >"$dir/terminal"
	if difference=$(diff <(masked <"$dir/page") <(masked <"$dir/terminal")); then
		ok "$what"
	else
		fail "$what" "< the page, > what came:" "$difference"
	fi
}

plays "the session of the README" session_of_readme
plays "the session of mvccfs(7)" session mvccfs.7 EXAMPLES
plays "versions, tags and figures of mvccfs(7)" session mvccfs.7 "Versions of one file" Tags Figures
plays "the verbs of mvccctl(1)" session mvccctl.1 VERBS
finish
