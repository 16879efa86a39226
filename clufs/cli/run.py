"""clufs run: hold a lock while a command runs; the flock(1) of /clu."""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import select
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from clufs.dlm.modes import Mode
from clufs.errors import MissingPart, NotQueued, ProgramError, TimedOut
from clufs.fuse.processes import is_gone, open_pidfd

_PR_SET_PDEATHSIG = 1
_LOST_STATUS = 75
_GRACE_MS = 5000
_LOOK_AGAIN_MS = 200
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class LockRefused(ProgramError):
    """The lock was not granted; flock(1)'s exit status for a conflict."""

    exit_code = 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clufs run",
        usage="clufs run [-m MODE] [-n | -t S] FILE -- COMMAND ...",
        description="Hold the lock FILE while COMMAND runs; the exit status is COMMAND's.",
        epilog=f"Exit status {LockRefused.exit_code}: not granted; {_LOST_STATUS}: the lock was lost.",
    )
    parser.add_argument(
        "-m", dest="mode", metavar="MODE", default="EX", help="NL CR CW PR PW or EX (the default)"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "-n", dest="nowait", action="store_true", help="fail if it is not granted at once"
    )
    how.add_argument("-t", dest="timeout", type=float, metavar="S", help="fail after S seconds")
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("command", metavar="COMMAND", nargs="+")
    return parser


def _line(arguments: argparse.Namespace) -> bytes:
    words = [arguments.mode.upper()]
    if words[0] not in Mode.__members__:
        raise ProgramError(f"'{arguments.mode}' is not a mode: NL CR CW PR PW EX")
    if arguments.nowait:
        words.append("nowait")
    if arguments.timeout is not None:
        words.append(f"timeout={arguments.timeout}")
    return " ".join(words).encode()


def _take(path: str, line: bytes) -> int:
    """The descriptor that owns the lock on `path`. Raises LockRefused with the reason."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        os.getxattr(fd, "user.clu.valseq")
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            raise LockRefused(f"{path} is not a lock file of clufs") from error
        raise LockRefused(f"{path}: {error.strerror}") from error
    try:
        os.write(fd, line)
    except OSError as error:
        known = {one.errno: one for one in (NotQueued, TimedOut)}
        why = (known[error.errno].__doc__ or "") if error.errno in known else ""
        raise LockRefused(f"{path}: {error.strerror}{': ' if why else ''}{why}") from error
    return fd


def _start(command: list[str], environment: dict[str, str]) -> int:
    """Start the command; it dies with us, so that it never outlives the lock."""
    libc = ctypes.CDLL(None)
    parent = os.getpid()
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(_LOST_STATUS)
        try:
            os.execvpe(command[0], command, environment)
        except OSError as error:
            os.write(write_end, os.strerror(error.errno or errno.EIO).encode())
        os._exit(127)
    os.close(write_end)
    complaint = os.read(read_end, 200).decode()
    os.close(read_end)
    if complaint:
        os.waitpid(pid, 0)
        failure = MissingPart(f"{command[0]}: {complaint}")
        failure.exit_code = 127 if complaint == os.strerror(errno.ENOENT) else 126
        raise failure
    return pid


def _await(pid: int, pidfd: int, lock: int) -> bool:
    """Wait for the command to end; False if the lock was lost before, and then the command is ended."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    poller.register(lock, 0)
    while True:
        ready = dict(poller.poll())
        if pidfd in ready:
            return True
        told = ready.get(lock, 0)
        if told & select.POLLHUP or (told and not _stands(lock)):
            os.kill(pid, signal.SIGTERM)
            if not is_gone(pidfd, _GRACE_MS):
                os.kill(pid, signal.SIGKILL)
            return False
        if told and is_gone(pidfd, _LOOK_AGAIN_MS):  # POLLERR is reported as long as quorum is gone
            return True


def _stands(lock: int) -> bool:
    """Whether POLLERR only says that quorum is gone: of a daemon that is gone the kernel says it, too."""
    try:
        os.getxattr(lock, "user.clu.sequencer")
    except OSError:
        return False
    return True


def _status(code: int) -> int:
    number = os.waitstatus_to_exitcode(code)
    return number if number >= 0 else 128 - number


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command under the lock; its exit status."""
    arguments = _parser().parse_args(argv)
    lock = _take(arguments.file, _line(arguments))
    sequencer = os.getxattr(lock, "user.clu.sequencer").decode()
    pid = _start(arguments.command, {**os.environ, "CLU_SEQUENCER": sequencer})
    pidfd = open_pidfd(pid)

    def forward(number: int, frame: FrameType | None) -> None:
        os.kill(pid, number)

    for number in _FORWARDED:
        signal.signal(number, forward)
    kept = True
    if pidfd is not None:
        kept = _await(pid, pidfd, lock)
    _, code = os.waitpid(pid, 0)
    if not kept:
        print(
            f"clufs run: the lock {arguments.file} was lost; the command was ended", file=sys.stderr
        )
        return _LOST_STATUS
    os.close(lock)
    return _status(code)
