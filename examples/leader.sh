#!/bin/sh
# One of many runs: the others stand by, and one takes over when the leader ends, or is killed with -9.
# Run it in three terminals, and kill the one that leads:
#     sh leader.sh
# The value block names the leader; that it is invalid (test -k) tells the next one that the last had no time to say goodbye.
# CLU_ROOT names another root than /clu.
f=${CLU_ROOT:-/clu}/locks/public/leader

echo "$$ stands by"
echo EX > "$f" || exit
if [ -k "$f" ]; then
    echo "$$ takes over from $(cat "$f"), who died"
fi
echo "EX value=$$" > "$f" || exit
trap 'echo UN > "$f"' EXIT
trap 'exit 0' HUP INT TERM
echo "$$ leads"
while :; do
    sleep 1 &                            # the work; in the background, for a trap runs only between commands
    wait $!
done
