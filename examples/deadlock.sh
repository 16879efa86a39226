#!/bin/sh
# A deadlock: two parties each hold what the other wants. The younger request fails with EDEADLK; what is granted stays.
# It plays both parties itself, and then shows what the lock manager wrote down:
#     sh deadlock.sh
# CLU_ROOT names another root than /clu.
clu=${CLU_ROOT:-/clu}
cd "$clu/locks/public" || exit

party() { # NAME MINE THEIRS
    echo EX > "$2" || exit
    until grep -qs ^GRANTED "$clu/status/locks/public/$3"; do :; done    # the other one holds, too
    echo "$1 holds $2 and asks for $3"
    if echo EX > "$3"; then
        echo "$1 holds both"
    else
        echo "$1 is told to give up, and lets $2 go"
    fi 2> /dev/null
}

party one deadlock-left deadlock-right &
party two deadlock-right deadlock-left &
wait
grep EDEADLK "$clu/status/errors" | tail -n 1
tail -n 5 "$clu/status/deadlocks"
