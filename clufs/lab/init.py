"""Process 1 of a lab's member (and of its switch): with it the whole member goes.

    python -m clufs.lab.init DIR NAME MOUNTPOINT

Runs in new namespaces already; gives them their own root, says `ready` on standard output and then
only collects the dead. DIR/NAME.init is how the lab finds it.
"""

import contextlib
import ctypes
import os
import signal
import socket
import sys
from pathlib import Path

from clufs.lab.processes import PID_SUFFIX, write_down

_MS_NOSUID, _MS_NODEV, _MS_BIND = 2, 4, 4096
_MS_MOVE, _MS_REC, _MS_UNBINDABLE = 8192, 16384, 1 << 17

# What a machine has to itself, and its kind of file system.
_OWN = {"/proc": "proc", "/run": "tmpfs", "/dev/shm": "tmpfs"}


def _mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    words = (source.encode(), os.fsencode(target), kind.encode() or None)
    if libc.mount(*words, ctypes.c_ulong(flags), options.encode() or None) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), target)


def _own_root(directory: str, mount_point: str) -> None:
    """Make a root of its own: all that the machine's root has, but another mount point and what is _OWN.

    So the mount point is there whatever becomes of the machine's, which is never looked at: a dead
    mount may be on it.
    """
    root = f"{directory}/root"
    _mount("tmpfs", root, "tmpfs", options="mode=755")
    # Bound somewhere below, the machine's directories must not show it again.
    _mount("", root, flags=_MS_UNBINDABLE)
    with os.scandir("/") as entries:
        for entry in entries:
            if entry.path != mount_point:
                _show(entry, root)
    os.makedirs(root + mount_point)
    for place, kind in _OWN.items():
        _mount(kind, root + place, kind, _MS_NOSUID | _MS_NODEV)
    # The lab's directory stays visible even if it is below one of them.
    os.makedirs(root + directory, exist_ok=True)
    _mount(directory, root + directory, flags=_MS_BIND | _MS_REC)
    os.chdir(root)
    _mount(root, "/", flags=_MS_MOVE)
    os.chroot(".")


def _show(entry: os.DirEntry[str], root: str) -> None:
    """Let something of the machine's root be seen in the new one."""
    target = root + entry.path
    if entry.is_symlink():
        os.symlink(os.readlink(entry.path), target)
        return
    if entry.is_dir(follow_symlinks=False):
        os.mkdir(target)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
    if entry.path not in _OWN:
        _mount(entry.path, target, flags=_MS_BIND | _MS_REC)


def main(directory: str, name: str, mount_point: str) -> None:
    """Never returns: it ends by SIGKILL from outside."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # While /proc is the machine's.
    write_down(Path(directory, name + PID_SUFFIX))
    socket.sethostname(name)
    _own_root(directory, mount_point)
    print("ready", flush=True)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    while True:
        signal.sigwait({signal.SIGCHLD})
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


if __name__ == "__main__":
    main(*sys.argv[1:])
