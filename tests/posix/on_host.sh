#!/bin/bash
# on_host.sh SUITE [TEST...]: the control: the conformance suite on a plain directory, that of $TMPDIR.
set -euo pipefail
suite=$1
shift
dir=$(mktemp -d "${TMPDIR:-/tmp}/posix-host-XXXXXX")
chmod 755 "$dir"
trap 'cd /; rm -rf --one-file-system "$dir"' EXIT
trap 'exit 130' INT TERM HUP
"$suite" "$dir" "$@"
