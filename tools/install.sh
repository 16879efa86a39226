#!/bin/sh
# Makes this checkout's programs known to the machine, or takes them away again.
#
#   install.sh install|uninstall DESTDIR PREFIX BIN
#
# Programs become links to BIN (the virtual environment of this checkout), so that
# an update of the checkout needs no second install. The configuration is written
# once and, when it was edited, kept.

set -eu
action=$1
destdir=$2
prefix=$3
bin=$4
from=$(dirname "$0")/../mount

# Where each program is linked; mount(8) looks for its helpers in /sbin only.
links="
/sbin/mount.clufs mount.clufs
/sbin/mount.fuse.clufs mount.fuse.clufs
$prefix/bin/clufs clufs
$prefix/bin/clu_get_info clu_get_info
$prefix/bin/caa_balance caa_balance
$prefix/bin/caa_profile caa_profile
$prefix/bin/caa_register caa_register
$prefix/bin/caa_relocate caa_relocate
$prefix/bin/caa_report caa_report
$prefix/bin/caa_start caa_start
$prefix/bin/caa_stat caa_stat
$prefix/bin/caa_stop caa_stop
$prefix/bin/caa_unregister caa_unregister
$prefix/sbin/clufsd clufsd
"

# Where each file of mount/ is copied.
files="
$prefix/lib/systemd/system/clufsd.service clufsd.service
$prefix/share/bash-completion/completions/clufs clufs.bash
$prefix/share/bash-completion/completions/clufsd clufs.bash
$prefix/share/bash-completion/completions/caa_balance caa.bash
$prefix/share/bash-completion/completions/caa_profile caa.bash
$prefix/share/bash-completion/completions/caa_register caa.bash
$prefix/share/bash-completion/completions/caa_relocate caa.bash
$prefix/share/bash-completion/completions/caa_report caa.bash
$prefix/share/bash-completion/completions/caa_start caa.bash
$prefix/share/bash-completion/completions/caa_stat caa.bash
$prefix/share/bash-completion/completions/caa_stop caa.bash
$prefix/share/bash-completion/completions/caa_unregister caa.bash
$prefix/share/man/man8/clufsd.8 clufsd.8
$prefix/share/man/man8/clufs.8 clufs.8
$prefix/share/man/man8/clu_get_info.8 clu_get_info.8
$prefix/share/man/man8/caa_balance.8 caa_balance.8
$prefix/share/man/man8/caa_profile.8 caa_profile.8
$prefix/share/man/man8/caa_register.8 caa_register.8
$prefix/share/man/man8/caa_relocate.8 caa_relocate.8
$prefix/share/man/man8/caa_report.8 caa_report.8
$prefix/share/man/man8/caa_start.8 caa_start.8
$prefix/share/man/man8/caa_stat.8 caa_stat.8
$prefix/share/man/man8/caa_stop.8 caa_stop.8
$prefix/share/man/man8/caa_unregister.8 caa_unregister.8
$prefix/share/man/man8/clufs-keygen.8 clufs-keygen.8
$prefix/share/man/man8/clufs-lab.8 clufs-lab.8
$prefix/share/man/man8/mount.clufs.8 mount.clufs.8
$prefix/share/man/man5/caa.5 caa.5
$prefix/share/man/man5/clufs.toml.5 clufs.toml.5
$prefix/share/man/man7/clufs-files.7 clufs-files.7
"
config=$destdir/etc/clufs/clufs.toml

each() {
    echo "$2" | while read -r path name; do
        [ -z "$path" ] || "$1" "$destdir$path" "$name"
    done
}

make_link() {
    mkdir -p "$(dirname "$1")"
    ln -sfn "$bin/$2" "$1"
}

make_file() {
    mkdir -p "$(dirname "$1")"
    # The unit names the program where it was linked.
    sed "s|/usr/local/|$prefix/|g" "$from/$2" >"$1.new"
    chmod 644 "$1.new"
    mv -f "$1.new" "$1"
}

remove_link() {
    if [ "$(readlink "$1" || :)" = "$bin/$2" ]; then
        rm -f "$1"
    fi
}

remove_file() {
    rm -f "$1"
}

case $action in
install)
    each make_link "$links"
    each make_file "$files"
    mkdir -p "$(dirname "$config")"
    [ -e "$config" ] || cp "$from/clufs.toml" "$config"
    ;;
uninstall)
    each remove_link "$links"
    each remove_file "$files"
    if cmp -s "$from/clufs.toml" "$config"; then
        rm -f "$config"
        rmdir --ignore-fail-on-non-empty "$(dirname "$config")"
    fi
    ;;
*)
    echo "usage: install.sh install|uninstall DESTDIR PREFIX BIN" >&2
    exit 2
    ;;
esac
