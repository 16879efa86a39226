#!/bin/sh
# Give way when asked: whoever is inside stays as long as nobody else wants in, and hears the bell when somebody does.
# Run it in one terminal; it stays. Run it in another: the first goes, the second stays.
#     sh doorbell.sh
# CLU_ROOT names another root than /clu.
f=${CLU_ROOT:-/clu}/locks/public/doorbell
rung=
trap 'rung=yes' USR1

echo EX signal=USR1 > "$f" || exit       # USR1 comes once, when this lock stands in somebody's way
echo "$$ is inside"
until [ "$rung" ]; do
    sleep 1 &                            # the work; in the background, for a trap runs only between commands
    wait $!                              # returns at once when the bell rings
done
echo "$$ hears the bell and goes"
echo UN > "$f"
