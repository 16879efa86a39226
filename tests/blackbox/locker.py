"""A program that locks by fcntl(2) as it is told, a JSON line each: what legacy programs do, one call at a time.

`python locker.py`; alone, so that it also runs where the tests are not installed. Each line is a list: what to do
and its arguments; the answer is one line, too. A call that waits is answered when it returns.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import struct
import sys
import threading
from typing import Any

_FLOCK = struct.Struct("hhqqi")
_KINDS = {"r": fcntl.F_RDLCK, "w": fcntl.F_WRLCK, "u": fcntl.F_UNLCK}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_SET, _WAIT, _GET = fcntl.F_SETLK, fcntl.F_SETLKW, fcntl.F_GETLK
_OFD_GET, _OFD_SET, _OFD_WAIT = 36, 37, 38
_FLAGS = {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR}


def _call(fd: int, command: int, kind: str, first: int, count: int) -> tuple[Any, ...]:
    asked = _FLOCK.pack(_KINDS[kind], os.SEEK_SET, first, count, 0)
    return _FLOCK.unpack(fcntl.fcntl(fd, command, asked))


def set_lock(
    fd: int, kind: str, first: int = 0, count: int = 0, wait: bool = False, ofd: bool = False
) -> str:
    """`granted`, or the name of the errno."""
    command = (_OFD_WAIT if ofd else _WAIT) if wait else (_OFD_SET if ofd else _SET)
    try:
        _call(fd, command, kind, first, count)
    except OSError as error:
        return _name(error)
    return "granted"


def _name(error: OSError) -> str:
    return "EDEADLK" if error.errno == errno.EDEADLK else errno.errorcode[error.errno or 0]


def get_lock(fd: int, kind: str, first: int = 0, count: int = 0, ofd: bool = False) -> Any:
    """`[kind, first, count, pid]` of what is in the way."""
    try:
        found = _call(fd, _OFD_GET if ofd else _GET, kind, first, count)
    except OSError as error:
        return _name(error)
    return [_NAMES[found[0]], *found[2:]]


def open_file(path: str, how: str) -> int:
    """A descriptor; the file is made if it is not there."""
    return os.open(path, _FLAGS[how] | os.O_CREAT, 0o666)


def fork() -> int:
    """A child that has all that is open, and sleeps."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    return pid


def ping_pong(path: str, counter: str, count: int, locks: int) -> int:
    """Samba's pattern: hold one byte, take the next, let go of the one before. How often the counter was
    raised, each time under the lock on byte 0, with nobody between reading and writing it."""
    fd = open_file(path, "rw")
    raised = at = 0
    set_lock(fd, "w", 0, 1, True)
    for _ in range(count):
        if at == 0:
            with open(counter, "r+") as file:
                value = int(file.read() or 0)
                file.seek(0)
                file.write(str(value + 1))
            raised += 1
        following = (at + 1) % locks
        if set_lock(fd, "w", following, 1, True) != "granted":
            raise RuntimeError("not granted")
        set_lock(fd, "u", at, 1)
        at = following
    os.close(fd)
    return raised


def thread(*words: Any) -> str:
    """Do it in a thread of its own, which answers when it is done."""
    threading.Thread(target=_answer, args=(words,), daemon=True).start()
    return "started"


_SAYING = threading.Lock()
_DEEDS = {
    "open": open_file,
    "close": os.close,
    "dup": os.dup,
    "set": set_lock,
    "get": get_lock,
    "fork": fork,
    "kill": lambda pid: os.kill(pid, signal.SIGKILL) or os.waitpid(pid, 0)[0],
    "ping_pong": ping_pong,
    "thread": thread,
}


def _answer(words: Any) -> None:
    what, *arguments = words
    answer = _DEEDS[what](*arguments)  # type: ignore[operator]
    with _SAYING:
        print(json.dumps(answer), flush=True)


def main() -> None:
    """Do what each line says."""
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.siginterrupt(signal.SIGUSR1, True)
    print(json.dumps(os.getpid()), flush=True)
    for line in sys.stdin:
        _answer(json.loads(line))


if __name__ == "__main__":
    main()
