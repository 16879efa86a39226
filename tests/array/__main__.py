"""`python -m tests.array`: an array of its own process; commands of `control` on standard input, answers on output."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import trio

from tests.array.array import Array, Shape
from tests.array.control import obey
from tests.array.defects import Defect
from tests.array.journal import Journal


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.array")
    parser.add_argument("--luns", type=int, default=1)
    parser.add_argument("--mib", type=int, default=16, help="size of each LUN")
    parser.add_argument("--portals", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ports", type=int, nargs="*", default=[], help="TCP ports of the portals")
    parser.add_argument("--defects", type=Defect, nargs="*", default=[], help=" ".join(Defect))
    parser.add_argument("--control", help="a socket for commands, beside standard input")
    parser.add_argument(
        "--journal", type=Path, help="a file for all writes, in place of a log in memory"
    )
    given = parser.parse_args()
    shape = Shape(
        [given.mib * 2048] * given.luns,
        given.portals,
        given.seed,
        logged=given.journal is None,
        defects=frozenset(given.defects),
    )
    found = Array(shape)
    if given.journal is not None:
        found.journal(Journal(given.journal))
    async with found.serving(given.ports) as array:
        for portal in range(given.portals):
            print(f"portal {portal} {array.url(0, portal)}", flush=True)
        async with trio.open_nursery() as nursery:
            if given.control:
                await nursery.start(serve_control, array, given.control)
            print("ready", flush=True)
            while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
                print(obey(array, line), flush=True)
            nursery.cancel_scope.cancel()


async def serve_control(
    array: Array, path: str, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """A line of a connection is a command, and gets a line."""
    listener = trio.socket.socket(trio.socket.AF_UNIX)
    await listener.bind(path)
    listener.listen()
    task_status.started()

    async def handle(stream: trio.SocketStream) -> None:
        data = await stream.receive_some()
        await stream.send_all(f"{obey(array, data.decode())}\n".encode())
        await stream.aclose()

    await trio.serve_listeners(handle, [trio.SocketListener(listener)])


trio.run(main)
