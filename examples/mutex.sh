#!/bin/sh
# A critical section: of all who run this, in whatever shell and on whatever member, one at a time is inside.
# Run it in two terminals, with a command to run inside, or without one for a nap:
#     sh mutex.sh [COMMAND [ARGUMENT ...]]
# CLU_ROOT names another root than /clu.
f=${CLU_ROOT:-/clu}/locks/public/mutex
[ $# -gt 0 ] || set -- sleep 3

echo "$$ asks" >&2
echo EX > "$f" || exit                   # returns when the lock is ours, not before
trap 'echo UN > "$f"' EXIT
trap 'exit 1' HUP INT TERM               # end through EXIT; set only now, so that a shell that waits dies at once
echo "$$ is inside" >&2
"$@"
