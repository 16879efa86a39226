"""The lab's fencing agent, as clufsd calls it inside a member: it asks the keeper, who stands outside.

    fence.py DIR MEMBER

Exits with 0 only after the keeper said that the member is dead: as it is now, which its process 1 stands
for, so that a request that comes late kills nobody who was started meanwhile. It is run by its path and
loads nothing of clufs, so that it works in any environment and at once.
"""

import os
import socket
import sys

SOCKET = "fence.sock"
DEAD = b"dead\n"


def _record(name: str) -> bytes:
    """What process 1 of the member wrote down; empty if there is none."""
    try:
        with open(f"{name}.init", "rb") as file:
            return file.read()
    except OSError:
        return b""


def main(directory: str, name: str) -> int:
    """Have a member killed; 0 when it is surely dead, else 1 and a sentence on standard error."""
    try:
        # From inside, as a socket's path is short.
        os.chdir(directory)
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(SOCKET)
            line.sendall(name.encode(errors="surrogateescape") + b"\n" + _record(name))
            line.shutdown(socket.SHUT_WR)
            answer = line.makefile("rb").read()
    except OSError as error:
        answer = f"the lab's keeper in {directory}: {error.strerror}\n".encode()
    if answer == DEAD:
        return 0
    sys.stderr.write(answer.decode(errors="replace") or "the lab's keeper ended meanwhile\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
