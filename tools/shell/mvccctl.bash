# Completion of mvccctl(1) for bash, and of the hidden names of a mount of mvccfs(7) for any command.
#
# Verbs and options are asked of mvccctl itself, so that this file knows none that it has not. Hidden names are offered
# once a word begins with "@" in some directory of a mount: D/@<TAB>; what lies below (tags, recent revisions, versions)
# is listed by the mount. For other commands than mvccctl that is switched on by
#
#	complete -o filenames -F _mvccfs_names cat cp diff grep less

_mvccfs_in_mount() # DIR: does it lie in a mount?
{
	[[ $(stat -f -c %T -- "$1" 2>/dev/null) == fuseblk || $(stat -f -c %T -- "$1" 2>/dev/null) == fuse ]] &&
		[[ -e $1/@rev ]]
}

# _mvccfs_paths WORD: files, and the hidden names where WORD may mean one.
_mvccfs_paths()
{
	local word=$1 dir=. prefix='' name

	mapfile -t COMPREPLY < <(compgen -f -- "$word")
	if [[ $word == */* ]]; then
		dir=${word%/*}/
		prefix=$dir
	fi
	name=${word##*/}
	[[ $name == @* ]] && _mvccfs_in_mount "${dir/#\~/$HOME}" || return 0
	for hidden in @rev @history @watch @tag @txn @status @ctl; do
		[[ $hidden == "$name"* && -e ${dir/#\~/$HOME}/$hidden ]] && COMPREPLY+=("$prefix$hidden")
	done
}

_mvccfs_names()
{
	_mvccfs_paths "${COMP_WORDS[COMP_CWORD]}"
}

_mvccctl_verb() # the verb on the line, if it is there already
{
	local i

	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--mount | --db) i=$((i + 1)) ;;
		-*) ;;
		*)
			echo "${COMP_WORDS[i]}"
			return
			;;
		esac
	done
}

_mvccctl_options() # [VERB]: the options that its help tells of
{
	mvccctl ${1:+"$1"} --help 2>/dev/null | grep -oE '(^|[ ,|[])--?[a-z][a-z-]*' | tr -d ' ,|[' | sort -u
}

_mvccctl()
{
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} verb

	COMPREPLY=()
	case $before in
	--mount | --db)
		mapfile -t COMPREPLY < <(compgen -d -- "$word")
		return
		;;
	--rev | -r)
		mapfile -t COMPREPLY < <(compgen -W "head $(mvccctl tag -z 2>/dev/null | tr '\0' ' ')" -- "$word")
		return
		;;
	esac
	verb=$(_mvccctl_verb)
	if [[ $word == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(_mvccctl_options "$verb") --mount --db --help" -- "$word")
	elif [[ -z $verb ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(mvccctl --help 2>/dev/null |
			sed -n '/^Verbs:/,/^$/s/^  \([a-z-]*\) .*/\1/p')" -- "$word")
	else
		_mvccfs_paths "$word"
	fi
}

complete -o filenames -F _mvccctl mvccctl
