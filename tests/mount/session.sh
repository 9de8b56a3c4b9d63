# Sessions: what runs under `mvccctl run`, or with the variables in its environment, labels its revisions.
. "$(dirname "$0")/lib.sh"
setup
cd "$MNT"
unset MVCCFS_SESSION MVCCFS_MESSAGE

# The session and message of the newest revision that names PATH.
labels_of() { # PATH
	"$MVCCCTL_BIN" log --json -n 1 "$1" |
		python3 -c 'import json, sys; e = json.load(sys.stdin); print(e.get("session"), e.get("message"))'
}

run() {
	"$MVCCCTL_BIN" run "$@"
}

run --session s1 --message "tidy up" -- sh -c 'mkdir d && echo hello >d/f && mv d/f d/g && ln d/g d/h && rm d/h'
sync -f . # nothing: but every command has ended, and what it closed is committed
for revision in $("$MVCCCTL_BIN" log --json d | python3 -c '
import json, sys
for line in sys.stdin:
    e = json.loads(line)
    print(e["op"] + "=" + e.get("session", "-") + "=" + e.get("message", "-").replace(" ", "_"))'); do
	equal "every revision is labelled: ${revision%%=*}" "${revision%%=*}=s1=tidy_up" "$revision"
done
equal "there were as many as it made" 5 "$("$MVCCCTL_BIN" log d | wc -l)"

echo x >plain
equal "what runs outside has no label" "None None" "$(labels_of plain)"
run --session "$(printf 'so\303\274')" -- touch umlaut
equal "a session is any text" "$(printf 'so\303\274 None')" "$(PYTHONIOENCODING=utf-8 labels_of umlaut)"
run --message "only why" -- touch why
equal "a message alone" "None only why" "$(labels_of why)"
run --session outer --message m -- "$MVCCCTL_BIN" run --session inner -- touch nested
equal "the inner session wins, the message is inherited" "inner m" "$(labels_of nested)"
(
	export MVCCFS_SESSION=by-hand
	sh -c 'echo x >exported'
)
equal "the environment alone is enough" "by-hand None" "$(labels_of exported)"
MVCCFS_SESSION=$(head -c 5000 /dev/zero | tr '\0' z) touch long
equal "a label that is too long is cut" "$(head -c 64 /dev/zero | tr '\0' z) None" "$(labels_of long)"
out=$("$MVCCCTL_BIN" log -n 1 d)
case $out in
*'  [s1]  "tidy up"') ok "log shows session and message" ;;
*) fail "log shows session and message" "$out" ;;
esac

exits "the status of the command is passed on" 7 run --session s -- sh -c 'exit 7'
exits "a signal is 128 and its number" 143 run --session s -- sh -c 'kill -TERM $$'
exits "no such command" 127 run --session s -- "$WORK/absent"
exits "a command that cannot be run" 126 run --session s -- "$MNT/plain"
exits "no command" 125 run --session s
exits "no label" 125 run -- true
says "and it is said" "--session S or --message M"
exits "a session that is too long is refused" 125 run --session "$(head -c 65 /dev/zero | tr '\0' z)" -- touch never
says "with the limit" "may be 64"
exits "a session that is no text is refused" 125 run --session "$(printf '\377')" -- touch never
exits "nothing was run" 1 test -e never
exits "help is not an error" 0 run --help

# What is sent to `run` reaches the command.
"$MVCCCTL_BIN" run --session s -- sh -c 'trap "echo told >told; exit 3" TERM; : >waiting; while :; do sleep 0.05; done' &
pid=$!
until_true "the command runs" test -e waiting
kill -TERM $pid
status=0
wait $pid || status=$?
equal "SIGTERM is passed on" 3 $status
equal "and was heard" told "$(cat told)"

finish
