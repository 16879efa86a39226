"""Process 1 of a lab's member (and of its switch): with it the whole member goes.

    python -m clufs.lab.init DIR NAME

Runs in new namespaces already; gives them their own /proc, /run and /dev/shm, says `ready` on
standard output and then only collects the dead. DIR/NAME.init is how the lab finds it.
"""

import contextlib
import ctypes
import os
import signal
import socket
import sys

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC = 2, 4, 8, 4096, 16384


def _mount(source: str, target: str, kind: str = "", flags: int = 0) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    words = (source.encode(), os.fsencode(target), kind.encode() or None)
    if libc.mount(*words, ctypes.c_ulong(flags), None) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), target)


def _own_file_systems(directory: str) -> None:
    """Mount what a machine has to itself; `directory` stays visible even if it is below one of them."""
    kept = os.open(directory, os.O_PATH)
    _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    for place in ("/run", "/dev/shm"):
        _mount("tmpfs", place, "tmpfs", _MS_NOSUID | _MS_NODEV)
    os.makedirs(directory, exist_ok=True)
    # The path leads into the new file system; the descriptor still leads to the old one.
    _mount(f"/proc/self/fd/{kept}", directory, flags=_MS_BIND | _MS_REC)
    os.close(kept)


def _write_down(directory: str, name: str) -> None:
    """Leave pid and start time as the machine sees them: to be called under the machine's /proc."""
    pid = os.readlink("/proc/self")
    with open("/proc/self/stat", errors="replace") as stat:
        started = stat.read().rpartition(")")[2].split()[19]
    with open(f"{directory}/{name}.init", "w") as file:
        file.write(f"{pid} {started}\n")


def main(directory: str, name: str) -> None:
    """Never returns: it ends by SIGKILL from outside."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _write_down(directory, name)
    socket.sethostname(name)
    _own_file_systems(directory)
    os.chdir("/")
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
