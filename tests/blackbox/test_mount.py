"""mount(8), fstab and umount(8) with the real clufsd.

Each script runs in a mount namespace of its own, in which /sbin is a copy that
has the helpers: whatever becomes of the test, the machine's /sbin stays as it was.
"""

import subprocess
import sys
from pathlib import Path

import pytest

PRELUDE = """
set -eu
real=$TMP/real
mkdir "$real" "$TMP/clu"
mount --bind "$(readlink -f /sbin)" "$real"
mount -t tmpfs none "$(readlink -f /sbin)"
ln -s "$real"/* /sbin/
ln -s "$BIN/mount.clufs" "$BIN/mount.fuse.clufs" /sbin/
cd /
options=config=$TMP/clufs.toml

daemons() { pgrep -f "clufsd $TMP/clu" || :; }

ended() {
    for _ in $(seq 100); do
        [ -n "$(daemons)" ] || return 0
        sleep 0.05
    done
    echo "the daemon is still there"
    return 1
}

works() {
    findmnt -no FSTYPE,SOURCE "$TMP/clu"
    echo EX >"$TMP/clu/locks/public/f"
    grep -c "^GRANTED .*EX" "$TMP/clu/status/locks/public/f"
    echo UN >"$TMP/clu/locks/public/f"
}
"""


def script(tmp_path: Path, text: str) -> "subprocess.CompletedProcess[str]":
    """Run `text` after the prelude; it may use $TMP, $options and the functions there."""
    config = f"[daemon]\nstate = '{tmp_path}/state'\n[member]\nname = 'provolone'\n"
    (tmp_path / "clufs.toml").write_text(config)
    environment = {
        "TMP": str(tmp_path),
        "BIN": str(Path(sys.executable).parent),
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    }
    words = [f"{name}={value}" for name, value in environment.items()]
    return subprocess.run(
        [
            "unshare",
            "--mount",
            "--propagation=private",
            "env",
            *words,
            "bash",
            "-c",
            PRELUDE + text,
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("kind", ["clufs", "fuse.clufs"])
def test_mount_and_umount(tmp_path: Path, kind: str) -> None:
    done = script(
        tmp_path,
        f"""
        mount -t {kind} clufs "$TMP/clu" -o "$options"
        works
        daemons | wc -l
        umount "$TMP/clu"
        ended
        ls "$TMP/clu"
        """,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "fuse.clufs clufs\n1\n1\n"


def test_an_fstab_line(tmp_path: Path) -> None:
    (tmp_path / "fstab").write_text(
        f"clufs {tmp_path}/clu clufs _netdev,nofail,noatime,x-systemd.after=corosync.service,"
        f"config={tmp_path}/clufs.toml 0 0\n"
    )
    done = script(
        tmp_path,
        """
        mount --fstab "$TMP/fstab" "$TMP/clu"
        works
        mount --fstab "$TMP/fstab" -a
        daemons | wc -l
        umount "$TMP/clu"
        ended
        """,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "fuse.clufs clufs\n1\n1\n"


def test_a_second_mount_is_refused(tmp_path: Path) -> None:
    done = script(
        tmp_path,
        """
        mount -t clufs clufs "$TMP/clu" -o "$options"
        mount -t clufs clufs "$TMP/clu" -o "$options,state=$TMP/other" || echo "status $?"
        works
        umount "$TMP/clu"
        ended
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("status 32\n")
    assert done.stderr.startswith("mount.clufs: ")
    assert f"{tmp_path}/clu" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "status", "sentence"),
    [
        ("frobnicate", 1, "unknown option 'frobnicate'"),
        ("config=/absent.toml", 32, "/absent.toml: cannot be read: No such file"),
        ("state=/proc/none", 2, "/proc/none/clufsd.log: cannot be opened"),
    ],
)
def test_a_refusal_reaches_the_caller(
    tmp_path: Path, option: str, status: int, sentence: str
) -> None:
    done = script(
        tmp_path,
        f'mount -t clufs clufs "$TMP/clu" -o "$options,{option}" || echo "status $?"; ended',
    )
    assert done.stdout == f"status {status}\n"
    assert done.stderr.startswith(f"mount.clufs: {sentence}")
    assert done.stderr.count("\n") == 1
