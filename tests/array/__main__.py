"""`python -m tests.array`: an array of its own process; commands of `control` on standard input, answers on output."""

from __future__ import annotations

import argparse
import sys

import trio

from tests.array.array import Array, Shape
from tests.array.control import obey
from tests.array.defects import Defect


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.array")
    parser.add_argument("--luns", type=int, default=1)
    parser.add_argument("--mib", type=int, default=16, help="size of each LUN")
    parser.add_argument("--portals", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ports", type=int, nargs="*", default=[], help="TCP ports of the portals")
    parser.add_argument("--defects", type=Defect, nargs="*", default=[], help=" ".join(Defect))
    given = parser.parse_args()
    shape = Shape(
        [given.mib * 2048] * given.luns, given.portals, given.seed, defects=frozenset(given.defects)
    )
    async with Array(shape).serving(given.ports) as array:
        for portal in range(given.portals):
            print(f"portal {portal} {array.url(0, portal)}", flush=True)
        print("ready", flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            print(obey(array, line), flush=True)


trio.run(main)
