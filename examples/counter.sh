#!/bin/sh
# A counter in a value block: the number travels with the lock, and no file is involved.
# Run several at once, nothing is lost; `end` forgets the number, which otherwise stays for the next run:
#     sh counter.sh [TIMES | end]
# CLU_ROOT names another root than /clu.
f=${CLU_ROOT:-/clu}/locks/public/counter
[ "$1" != end ] || { echo UN persistent > "$f"; exit; }

echo NL persistent > "$f" || exit        # a value lives as long as its locks: this one outlives the script
left=${1:-10}
while [ "$left" -gt 0 ]; do
    echo EX > "$f" || exit
    n=$(cat "$f")
    echo "UN value=$((${n:-0} + 1))" > "$f" || exit
    left=$((left - 1))
done
echo "$$ sees $(cat "$f")"
