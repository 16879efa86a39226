"""python -m tests.sim SEED [--count N] [--trace] [--disk]"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable

from tests.sim.clock import Violation
from tests.sim.run import Outcome, run
from tests.sim.story import Story, story_of, with_disk


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="simulate clusters")
    parser.add_argument("seed", type=int)
    parser.add_argument("--count", type=int, default=1, help="so many seeds, from SEED on")
    parser.add_argument("--trace", action="store_true", help="print every step")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--disk", action="store_true", help="whole members with a quorum disk")
    arguments = parser.parse_args()
    story = with_disk if arguments.disk else story_of
    if arguments.count == 1:
        return _one(arguments.seed, arguments.trace, story)
    seeds = range(arguments.seed, arguments.seed + arguments.count)
    return _many(seeds, arguments.jobs, _try_disk if arguments.disk else _try)


def _one(seed: int, trace: bool, story: Callable[[int], Story]) -> int:
    print(f"seed {seed}: {story(seed)}", flush=True)
    try:
        print(run(seed, trace, story(seed)))
    except Violation as error:
        print(f"VIOLATION\n{error}")
        return 1
    return 0


def _try(seed: int) -> Outcome | str:
    try:
        return run(seed)
    except Violation as error:
        return f"seed {seed}: {str(error).splitlines()[-1]}"


def _try_disk(seed: int) -> Outcome | str:
    try:
        return run(seed, story=with_disk(seed))
    except Violation as error:
        return f"seed {seed}: {str(error).splitlines()[-1]}"


def _many(seeds: range, jobs: int, attempt: Callable[[int], Outcome | str]) -> int:
    began = time.monotonic()
    bad, steps, grants, messages, reads, moves = [], 0, 0, 0, 0, 0
    with multiprocessing.Pool(jobs) as pool:
        for outcome in pool.imap_unordered(attempt, seeds, chunksize=10):
            if isinstance(outcome, str):
                print(outcome, flush=True)
                bad.append(outcome)
                continue
            steps += outcome.steps
            grants += outcome.grants
            messages += outcome.messages
            reads += outcome.reads
            moves += outcome.moves
    print(
        f"{len(seeds)} seeds in {time.monotonic() - began:.1f} s: {steps} steps, {grants} grants, "
        f"{messages} messages, {reads} values read, {moves} moves; {len(bad)} violations"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
