#!/bin/sh
# Makes sure that the Debian packages clufs needs are there: as root it installs
# what is missing, otherwise it prints the exact line and fails.
#
#   packages.sh PYTHON run|test|bench|qemu

set -eu
python=$1
purpose=$2

# fuse3 mounts for ordinary users; the others let pip build pyfuse3 and clufs.fuse._lowlevel.
wanted="fuse3 libfuse3-dev pkg-config gcc libc6-dev"

# What the tests drive /clu with, and what they read the man pages with.
if [ "$purpose" = test ]; then
    wanted="$wanted attr bash busybox corosync dash ed groff-base iproute2 lsof man-db procps redis-server rsync util-linux vim-tiny"
    # OCF agents, and the systemctl that is asked whether it understands us.
    wanted="$wanted resource-agents systemd"
    # Programs that lock by making files, as they are.
    wanted="$wanted git liblockfile-bin lockfile-progs procmail"
    # The suites that our array must pass, and the library that clufs reaches iscsi:// LUNs with.
    wanted="$wanted libiscsi-bin"
    # Another array, not written by us, that reservations are tried on.
    wanted="$wanted tgt"
fi

# Whose locks the benchmark compares with.
if [ "$purpose" = bench ]; then
    wanted="$wanted etcd-server"
fi

# The machine; its kernel is unpacked and not installed.
if [ "$purpose" = qemu ]; then
    wanted="$wanted qemu-system-x86"
fi

# Debian's python3 comes without headers and without ensurepip; any other brings both.
if ! command -v "$python" >/dev/null; then
    wanted="$wanted python3 python3-dev python3-venv"
elif [ "$("$python" -c 'import sys; print(sys.base_prefix)')" = /usr ]; then
    wanted="$wanted python3-dev python3-venv"
fi

if ! command -v dpkg-query >/dev/null; then
    echo "clufs: this is not Debian; install what these packages hold: $wanted" >&2
    pkg-config --exists fuse3 && command -v fusermount3 gcc "$python" >/dev/null
    exit
fi

missing=
for package in $wanted; do
    # shellcheck disable=SC2016  # dpkg-query expands it
    case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || :) in
    *' installed') ;;
    *) missing="$missing $package" ;;
    esac
done

if [ -n "$missing" ]; then
    line="apt-get install -y --no-install-recommends$missing"
    if [ "$(id -u)" != 0 ]; then
        echo "clufs: Debian packages are missing; as root: apt-get update && $line" >&2
        exit 69
    fi
    echo "clufs: $line"
    # Nothing of this is to run as a service of this machine: at runlevel 1 none starts.
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
    apt-get update -qq
    $line -qq >/dev/null
    # Nor after the next boot, unless it was there before us.
    for service in corosync tgt; do
        case " $missing " in
        *" $service "*) systemctl --quiet disable "$service" >/dev/null 2>&1 || : ;;
        esac
    done
fi

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "clufs: Python 3.11 or later is needed, $python is older; say make PYTHON=..." >&2
    exit 69
}
