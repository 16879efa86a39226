#!/bin/sh
# A file kept in memory, and read again only when it has changed (the TruCluster manual's 9.7.1: Using the Lock Value Block).
# Readers look once a second and say whether they had to read; run several, and then a writer:
#     sh cache.sh FILE            a reader, until Ctrl-C
#     sh cache.sh FILE TEXT       a writer: replaces the contents
# CLU_ROOT names another root than /clu.
f=${CLU_ROOT:-/clu}/locks/public/cache-${1##*/}

echo NL > "$f" || exit                   # interest: it keeps the version number alive, and blocks nobody
if [ $# -gt 1 ]; then
    echo EX > "$f" || exit
    version=$(cat "$f")
    printf '%s\n' "$2" > "$1"
    echo "UN value=$((${version:-0} + 1))" > "$f"
    exit
fi
have=none
while :; do
    echo PR > "$f" || exit               # shared: nobody writes now
    version=$(cat "$f")
    if [ "$version" != "$have" ] || [ -k "$f" ]; then    # -k: a writer died half way
        copy=$(cat "$1")
        have=$version
        echo "version ${have:-0}, read: $copy"
    else
        echo "version ${have:-0}, cached: $copy"
    fi
    echo NL > "$f"
    sleep 1
done
