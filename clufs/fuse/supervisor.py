"""The supervisor: where no hardware watchdog resets the machine, it ends the member whose lease ran out.

    python -m clufs.fuse.supervisor LINE DAEMON MOUNTPOINT OWNERS [COMMAND ...]

LINE is a socket that it inherits, which the lease process and the daemon write; DAEMON the daemon's pid;
OWNERS its record of lock owners. It fires when nobody has reset it in time, or when the daemon dies
while it is armed: COMMAND is started, the daemon killed, then every process that held a lock of its.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from clufs.errors import ClufsError
from clufs.fuse.left_over import end_owners
from clufs.storage.lease_wire import boottime
from clufs.storage.watchdog import FRAME_BYTES, deadline
from clufs.timeouts.lease import SUPERVISOR_LOOK_S

log = logging.getLogger("clufs-supervisor")


def watch(line: socket.socket, daemon: int) -> str:
    """Wait until it is time to fire, and return why; empty if there is nothing left to watch over.

    daemon: a pidfd. The time is looked at on CLOCK_BOOTTIME, on which no timer of poll(2) runs: so every now
    and then.
    """
    poll = select.poll()
    poll.register(line, select.POLLIN)
    poll.register(daemon, select.POLLIN)
    fires_s: float | None = None
    while True:
        ready = dict(poll.poll(SUPERVISOR_LOOK_S * 1000))
        if line.fileno() in ready:
            frame = line.recv(FRAME_BYTES)
            if frame:
                fires_s = deadline(frame, boottime())
            elif fires_s is None:
                return ""
            else:
                poll.unregister(line)  # they are gone, and have not let go
        elif daemon in ready:
            return "the daemon died without a goodbye" if fires_s is not None else ""
        elif fires_s is not None and boottime() >= fires_s:
            return "the lease process has not renewed the lease in time"


def fire(why: str, daemon: int, mount: str, owners: Path, command: Sequence[str]) -> None:
    """End the member, whatever fails: each step is tried."""
    log.error("%s: this member is ended", why)
    if command:
        with suppress(OSError):
            subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(daemon, signal.SIGKILL)
    select.select([daemon], [], [])
    try:
        killed = end_owners(mount, owners).killed
    except ClufsError as error:
        log.error("%s", error)
    else:
        log.error("killed the daemon and %d lock owners", len(killed))


def main(line_fd: str, daemon_pid: str, mount: str, owners: str, *command: str) -> int:
    """0 if it was let go, 1 if it fired."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=int(line_fd)) as line:
        try:
            daemon = os.pidfd_open(int(daemon_pid))
        except ProcessLookupError:
            return 0
        why = watch(line, daemon)
        if why:
            fire(why, daemon, mount, Path(owners), command)
    return 1 if why else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
