#!/bin/bash
# Completion in bash: verbs and options are those mvccctl has, hidden names are offered in a mount and nowhere else.
. "$(dirname "$0")/lib.sh"
setup
PATH=$(dirname "$MVCCCTL_BIN"):$PATH
. "$MVCCFS_SRC/tools/shell/mvccctl.bash"

# completes WHAT WANTED WORD...: the last WORD is to be completed; WANTED is among what is offered.
offers() {
	COMP_WORDS=("${@:2}")
	COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
	COMPREPLY=()
	"$1"
	echo "${COMPREPLY[*]}"
}

verbs=$(mvccctl --help | sed -n '/^Verbs:/,/^$/s/^  \([a-z-]*\) .*/\1/p' | sort | tr '\n' ' ')
equal "all verbs" "$verbs" "$(offers _mvccctl mvccctl '' | tr ' ' '\n' | sort | tr '\n' ' ')"
equal "a verb by its beginning" "status" "$(offers _mvccctl mvccctl stat)"
equal "a verb after options" "status" "$(offers _mvccctl mvccctl --mount "$MNT" stat)"
equal "an option of a verb" "--since" "$(offers _mvccctl mvccctl log --sin)"
for verb in $verbs; do
	[[ " $(offers _mvccctl mvccctl "$verb" --) " == *" --help "* ]] || fail "options of $verb"
done
ok "options of every verb"

echo one >"$MNT/file"
mkdir "$MNT/dir"
cd "$MNT"
equal "files" "file" "$(offers _mvccfs_names cat fi)"
equal "a hidden name" "@rev" "$(offers _mvccfs_names cat @re)"
equal "in a directory below" "dir/@rev" "$(offers _mvccfs_names cat dir/@r)"
equal "by an absolute path" "$MNT/@rev" "$(offers _mvccfs_names cat "$MNT/@r")"
equal "not unasked" "dir file" "$(offers _mvccfs_names cat '' | tr ' ' '\n' | sort | tr '\n' ' ' | sed 's/ $//')"
equal "revisions" "@rev/3" "$(offers _mvccfs_names cat @rev/3)"
mvccctl tag before >/dev/null
equal "a tag as a revision" "before" "$(offers _mvccctl mvccctl cat --rev bef)"
equal "a tag below @rev" "@rev/before" "$(offers _mvccfs_names cat @rev/bef)"
cd "$WORK"
equal "no hidden name outside a mount" "" "$(offers _mvccfs_names cat @re)"
if command -v zsh >/dev/null; then
	succeeds "zsh reads its file" zsh -n "$MVCCFS_SRC/tools/shell/_mvccctl"
fi
finish
