"""The lab's keeper: a process outside all members that kills the one that is to be fenced.

    python -m clufs.lab.keeper DIR

A member cannot kill another: they do not see each other's processes. It asks here, through a socket
in the lab's directory that root alone can open, with a member's name. Nothing but process 1 of a
member of this lab is ever killed, with which the kernel ends all of that member; a request that was
begun is finished, whatever becomes of the one who asked.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import suppress

from clufs.errors import ClufsError, ProgramError
from clufs.lab import processes
from clufs.lab.fence import DEAD, SOCKET
from clufs.lab.plan import Lab
from clufs.limits import MEMBER_NAME_MAX_BYTES
from clufs.timeouts import LAB_ASK_S, LAB_END_S, LAB_KEEPER_LOOK_S

_RECORD_MAX_BYTES = 64


def fence(lab: Lab, name: str, meant: str = "") -> None:
    """Kill a member; returns when its last process is gone, at once if it is dead already.

    meant: what its process 1 had written down when it was asked for; another one is not killed for it.
    Raises UsageError if there is no such member, ProgramError if it is not known to be dead.
    """
    member = lab.member(name)
    record = processes.record(lab.init(member.name))
    if record is None:
        raise ProgramError(f"{name}: not known to be dead: it never wrote down its process 1")
    if meant and tuple(meant.split()) != (str(record.pid), record.started):
        return
    try:
        handle = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return
    try:
        # Looked at only now that the handle is held: the pid may have gone to another before.
        gone = processes.ended(handle, deadline=0)
        if gone or processes.start_time(record.pid) != record.started:
            return
        if not processes.is_init(record.pid):
            raise ProgramError(f"{name}: process {record.pid} is not process 1 of a member")
        processes.kill_handle(handle)
        if not processes.ended(handle, time.monotonic() + LAB_END_S):
            raise ProgramError(f"{name}: process {record.pid} does not end")
    finally:
        os.close(handle)


def _serve(lab: Lab, listener: socket.socket) -> None:
    """Answer one after the other, as long as the lab is there."""
    listener.settimeout(LAB_KEEPER_LOOK_S)
    while lab.exists():
        try:
            line, _ = listener.accept()
        except TimeoutError:
            continue
        with line, suppress(OSError):
            line.settimeout(LAB_ASK_S)
            line.sendall(_answer(lab, line))


def _answer(lab: Lab, line: socket.socket) -> bytes:
    text = line.makefile("rb").read(MEMBER_NAME_MAX_BYTES + _RECORD_MAX_BYTES)
    asked, _, meant = text.decode(errors="replace").partition("\n")
    try:
        fence(lab, asked, meant)
    except ClufsError as error:
        _log(f"{asked!r}: refused: {error}")
        return f"{error}\n".encode()
    _log(f"{asked}: dead")
    return DEAD


def _log(sentence: str) -> None:
    print(f"{time.strftime('%F %T')} {sentence}", file=sys.stderr, flush=True)


def main(directory: str) -> None:
    """Serve until the lab's directory is gone or somebody ends it."""
    lab = Lab(directory)
    os.chdir(lab.directory)
    with socket.socket(socket.AF_UNIX) as listener:
        previous = os.umask(0o177)
        listener.bind(SOCKET)
        os.umask(previous)
        listener.listen()
        processes.write_down(lab.keeper)
        print("ready", flush=True)
        _to_its_log(lab)
        _serve(lab, listener)


def _to_its_log(lab: Lab) -> None:
    """Let go of the pipes of the one who started it."""
    log = os.open(lab.directory / "keeper.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.close(log)


if __name__ == "__main__":
    main(*sys.argv[1:])
