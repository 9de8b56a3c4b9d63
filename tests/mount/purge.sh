#!/bin/bash
# A path purged: no revision, tag, version, search or export shows it any more, no file of the database has its bytes, and
# the log tells that it was done.
. "$(dirname "$0")/lib.sh"
setup
cd "$MNT"
PATH=$(dirname "$MVCCCTL_BIN"):$PATH
secret=Chiffre-8f1c2b7a

mkdir keys                                                  # 2
echo "$secret one" >keys/token                              # 3
for i in $(seq 3000); do echo "$secret $i"; done >keys/big  # 4: in blobs
setfattr -n user.note -v "$secret" keys/token               # 5
ln keys/big link                                            # 6
echo kept >keys.txt                                         # 7
echo "$secret two" >keys/token                              # 8
ln -s ../@rev/8 @tag/before
mv keys/token moved                                         # 9
echo other >keys/token                                      # 10
cat keys/token @rev/8/keys/token @history/keys/* >/dev/null 2>&1 || true # the kernel has them now
exec 9<link

exits "it asks first" 2 mvccctl purge keys
says "and says how not to be asked" "--yes"
exits "a dry run tells how much" 0 mvccctl purge --dry-run keys
says "of files" "4 files and directories"
equal "and does nothing" "$secret two" "$(cat @rev/8/keys/token)"
exits "what never was cannot be purged" 1 mvccctl purge --yes nothing
exits "nor the root" 2 mvccctl purge --yes /

exits "purged" 0 mvccctl purge --yes --message "a leak" keys
exec 9<&-
refuses "it is not there" "No such file" ls keys
refuses "nor was it" "No such file" ls @rev/8/keys
refuses "nor in a tag" "No such file" cat @tag/before/keys/token
refuses "nor by another name it got later" "No such file" cat moved
refuses "nor in its history" "No such file" ls @history/keys
refuses "nor by its hard link" "No such file" cat @rev/6/link
equal "what has nothing to do with it stays" "kept kept" "$(cat keys.txt @rev/8/keys.txt | xargs)"
equal "the trees of then list it no more" "keys.txt" "$(ls @rev/8 | xargs)"
exits "a search finds nothing" 1 mvccctl grep "$secret"
exits "check finds nothing wrong" 0 mvccctl check
equal "the log tells of it" "purge a leak" \
	"$(mvccctl log --json -n 1 | python3 -c 'import json,sys; e=json.loads(sys.stdin.readline()); print(e["op"], e["message"])')"
mkdir keys
echo new >keys/token
equal "the path can be used again" "new" "$(cat keys/token)"
equal "and has a history again" "new" "$(cat keys/@history/token/*)"
exits "which ends when it is asked for again" 0 mvccctl purge --yes keys
equal "exports are without it" "keys.txt" "$(mvccctl export 8 | tar -tf - | sed 's:/$::; s:^\./::' | grep -v '^\.*$' | xargs)"
succeeds "the log can be read from its beginning" mvccctl log 1..head
succeeds "revisions that changed it can be compared" bash -c 'mvccctl diff 2..9 >/dev/null || [ $? -eq 1 ]'

# Files that are made in the directory while it is purged go with it, or fail; none is left without a name.
mkdir busy
for i in $(seq 300); do echo "$secret $i" >"busy/f$i"; done
(
	i=0
	while [ -d busy ] && [ $i -lt 100000 ]; do
		i=$((i + 1))
		echo "$secret late $i" >"busy/n$i"
	done
) 2>/dev/null &
until_true "files are being made" [ -e busy/n20 ]
exits "a directory that is being filled is purged" 0 mvccctl purge --yes busy
wait
exits "and nothing of it is left over" 0 mvccctl check
exits "nor found" 1 mvccctl grep "$secret"
cd /

found() { # is the secret in a file of the database?
	grep -rlaF "$secret" "$DB" || true
}
# Readers of before have ended by now; the space comes back once they have.
mvccctl --mount "$MNT" compact --wait 2 >/dev/null 2>&1 || true
equal "no file of the database has the bytes" "" "$(found)"
umount_fs
equal "nor when it is closed" "" "$(found)"
exits "an unmounted database is purged as well" 0 mvccctl --db "$DB" purge --yes /keys.txt
exits "and fits together" 0 mvccctl --db "$DB" check
equal "it is not there either" "" "$(mvccctl --db "$DB" ls / --rev 8)"
finish
