"""The protocol broken on purpose, and how soon the simulator notices: python -m tests.sim.mutants"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace

from clufs.cluster.formation import Formation
from clufs.cluster.session import Session
from clufs.dlm import handing, moving
from clufs.dlm.directory import Directory, directory_member
from clufs.dlm.giving import Giver
from clufs.dlm.grants import Grants
from clufs.dlm.interrupted import Interrupted
from clufs.dlm.lock import Chain
from clufs.dlm.lost import Lost
from clufs.dlm.messages import Ask, Ended
from clufs.dlm.moving import Mover
from clufs.dlm.node import Node
from clufs.dlm.recovery import Recovery
from clufs.dlm.rsb import ResourceBlock
from clufs.dlm.survey import Survey
from clufs.member.core import Core
from clufs.registry.replica import Replica
from tests.sim.clock import Violation
from tests.sim.run import run
from tests.sim.story import story_of

Patch = tuple[Any, str, Callable[[Any], Any]]


def _no_end(found: Any) -> Any:
    def change(self: Any, event: Any) -> Any:
        gone = found(self, event)
        self._awaited = set()
        return gone

    return change


def _always_valid(found: Any) -> Any:
    def new_value(self: Any, now: float, name: bytes, told: Any) -> Any:
        told.is_proven = True
        told.valid = True
        return found(self, now, name, told)

    return new_value


def _forgets_open(found: Any) -> Any:
    def again(self: Any, opened: Any, master: str) -> Any:
        del self._open[opened.message.id]
        return []

    return again


def _old_numbers(found: Any) -> Any:
    def change(self: Any, event: Any) -> Any:
        before = self._sequence
        gone = found(self, event)
        self._sequence = before
        return gone

    return change


def _nothing(found: Any) -> Any:
    return lambda *_words: None


def _no_effects(found: Any) -> Any:
    return lambda *_words: []


def _true(found: Any) -> Any:
    return lambda *_words: True


def _nobody_missed(found: Any) -> Any:
    return lambda self: (found(self)[0], set())


def _loses_flying(found: Any) -> Any:
    def connected(self: Any, *words: Any) -> None:
        found(self, *words)
        for _ in range(min(2, len(self._waiting) - 1)):
            self._waiting.popleft()

    return connected


def _fenced_at_once(found: Any) -> Any:
    def stand(self: Any) -> Any:
        effects = found(self)
        for effect in effects:
            event = getattr(effect, "event", None)
            if hasattr(event, "lost"):
                effect.event.lost = frozenset()
        return effects

    return stand


def _clean(found: Any) -> Any:
    def remove(self: Any, now: float, locks: Any, ended: Any, abnormal: bool, effects: Any) -> None:
        found(self, now, locks, ended, False, effects)

    return remove


def _asks_nothing_anew(found: Any) -> Any:
    def ask_anew(self: Any, opened: Any, master: str) -> Any:
        self._answered(opened.message.id)
        return []

    return ask_anew


def _without_place(found: Any) -> Any:
    def ask_anew(self: Any, opened: Any, master: str) -> Any:
        sent = found(self, opened, master)
        for one in sent:
            if isinstance(one.message, Ask):
                one.message = replace(one.message, place=None)
        return sent

    return ask_anew


def _empty_words(found: Any) -> Any:
    return lambda block, own: found(block, own)._replace(value=b"")


def _all_heard(found: Any) -> Any:
    def built(self: Any, now: float, root: bytes) -> Any:
        arrival = self._arriving[root]
        arrival.heard.update(arrival.homes or ())
        return found(self, now, root)

    return built


def _directory_heard(found: Any) -> Any:
    def built(self: Any, now: float, root: bytes) -> Any:
        self._arriving[root].heard.add(directory_member(root, self.members))
        return found(self, now, root)

    return built


def _goes_on(found: Any) -> Any:
    """The old master keeps what it has given away, and grants on."""

    def take_apart(self: Any, now: float, root: bytes, blocks: Any, master: str) -> None:
        self._departed.pop(root, None)

    return take_apart


def _not_in_doubt(found: Any) -> Any:
    return lambda self: [root for root in found(self) if root not in self._departed]


def _old_floor(found: Any) -> Any:
    def on_moved(self: Any, now: float, sender: str, message: Any) -> Any:
        return found(self, now, sender, replace(message, floor=0))

    return on_moved


def _writes_are_lost(found: Any) -> Any:
    return lambda word, writer, messages: found(
        word, writer, [one for one in messages if isinstance(one, Ended)]
    )


def _at_the_end(found: Any) -> Any:
    return lambda self, lock: self.append(lock)


MUTANTS: dict[str, Patch] = {
    "no phantoms": (Lost, "_haunt", _nothing),
    "queue places are ignored": (Chain, "insert", _at_the_end),
    "nobody waits for End": (Recovery, "_change_lives", _no_end),
    "a rebuilt value counts as valid": (Recovery, "_new_value", _always_valid),
    "requests are not asked again": (Recovery, "_again", _forgets_open),
    "sequencers do not start with the view": (Recovery, "_change_lives", _old_numbers),
    "an abnormal end leaves the value valid": (Grants, "_remove_all", _clean),
    "the directory keeps what was dropped": (Directory, "dropped", _nothing),
    "no sweep when the view is back": (Node, "_thaw", _no_effects),
    "deadlocks over members are not sought": (Survey, "ticked", _no_effects),
    "who missed a view comes back": (Formation, "_dropped", _nobody_missed),
    "one disk commits": (Replica, "_majority", _true),
    "lost lives are not mentioned": (Core, "_stand", _fenced_at_once),
    "a broken connection loses messages": (Session, "connected", _loses_flying),
    "ranges are not looked at": (ResourceBlock, "is_free", _true),
    "who waits for bytes is forgotten": (Grants, "_grant_ranges", _no_effects),
    "what crosses a move is not asked again": (Mover, "_ask_anew", _asks_nothing_anew),
    "a move forgets the waiting order": (Mover, "_ask_anew", _without_place),
    "a move drops the value": (moving, "last_word", _empty_words),
    "a new master builds before all have told": (Mover, "_built", _all_heard),
    "a new master builds before the directory knows": (Mover, "_built", _directory_heard),
    "an old master grants on": (Giver, "_take_apart", _goes_on),
    "a view forgets what was on its way": (Interrupted, "_in_doubt", _not_in_doubt),
    "a new master counts from where it was": (Mover, "_on_moved", _old_floor),
    "a value that crosses a move is lost": (handing, "written_after", _writes_are_lost),
}


@contextmanager
def broken(owner: Any, name: str, how: Callable[[Any], Any]) -> Iterator[None]:
    """The method is replaced meanwhile."""
    found = getattr(owner, name)
    own = name in vars(owner)
    setattr(owner, name, how(found))
    try:
        yield
    finally:
        if own:
            setattr(owner, name, found)
        else:
            delattr(owner, name)


def seeds_until_found(patch: Patch, most: int) -> tuple[int, str]:
    """How many seeds it took, and what was seen; 0 if all went well."""
    with broken(*patch):
        for seed in range(most):
            try:
                run(seed, story=story_of(seed))
            except Violation as error:
                return seed + 1, str(error).splitlines()[-1]
    return 0, "not found"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.mutants", description=__doc__)
    parser.add_argument("--most", type=int, default=1000, help="give up after so many seeds")
    most = parser.parse_args().most
    for name, patch in MUTANTS.items():
        count, why = seeds_until_found(patch, most)
        print(f"{name:45} {count or '-':>5}  {why[:100]}", flush=True)


if __name__ == "__main__":
    main()
