"""One seed from the beginning to the end."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from random import Random

from clufs import limits
from clufs.dlm.interface import Request, Verb
from clufs.timeouts import SURVEY_AFTER_S, SURVEY_ANSWER_S, SURVEY_PAUSE_S
from tests.sim.clients import Client
from tests.sim.clock import Violation, line
from tests.sim.faults import Faults
from tests.sim.platform import Member, Platform
from tests.sim.settled import check_empty, check_one_view, check_settled
from tests.sim.story import Story, story_of
from tests.sim.world import World

SLICE_S = 0.5
DEADLOCK_S = SURVEY_AFTER_S + SURVEY_PAUSE_S + SURVEY_ANSWER_S + 1.0
"""A deadlock is found and broken within this."""
SET_BY_STORIES = (
    "IDLE_NAMES_KEPT", "RECOVERY_STEP_LOCKS", "REMASTER_AFTER", "REMASTER_LOCKED_AFTER", "REMASTER_OTHERS_COUNT",
)  # fmt: skip
LONGEST_PEACE_S = 300.0
"""In peace everything comes to rest within this."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to. digest: equal for equal runs."""

    seed: int
    story: str
    steps: int
    grants: int
    messages: int
    reads: int
    digest: int
    moves: int


def run(seed: int, trace: bool = False, story: Story | None = None) -> Outcome:
    """Play the story of a seed. Raises Violation, with the last lines, when something is wrong."""
    story = story or story_of(seed)
    world = World(seed, story, trace)
    _set_limits(story)
    try:
        _play(world, story)
    except Exception as error:
        if isinstance(error, Violation) or not trace:
            lines = "\n".join(line(*one) for one in world.clock.lines)
            raise Violation(
                f"{lines}\nseed {seed}: {story}\n{type(error).__name__}: {error}"
            ) from error
        raise
    finally:
        _set_limits(None)
    claims = world.claims
    return Outcome(
        seed, str(story), world.clock.steps, claims.grants, world.streams.sent, claims.reads,
        world.clock.digest, world.moves,
    )  # fmt: skip


def _set_limits(story: Story | None) -> None:
    """Set limits in every module that has taken them over; None: to what they are in life."""
    found = {name: getattr(limits, name) for name in SET_BY_STORIES}
    if story is not None:
        found["IDLE_NAMES_KEPT"] = story.idle_names
        found["RECOVERY_STEP_LOCKS"] = story.step_locks
    if story is not None and story.eager:
        found["REMASTER_AFTER"] = found["REMASTER_LOCKED_AFTER"] = story.eager
        found["REMASTER_OTHERS_COUNT"] = 1
    for name, module in list(sys.modules.items()):
        if name.startswith("clufs.dlm."):
            for limit, count in found.items():
                if hasattr(module, limit):
                    setattr(module, limit, count)


def _play(world: World, story: Story) -> None:
    clock = world.clock
    for member in story.members:
        world.start(member)
    world.service.begin()
    faults = Faults(world)
    clock.after(story.detect_s * 3, faults.start)
    while clock.steps < story.events:
        clock.step()
    faults.stop()
    while clock.steps < story.events + 300:
        clock.step()
    end(world)


def end(world: World) -> None:
    """Nobody asks anything new; what is under way comes to rest, and all is given back."""
    world.closing = True
    _rest(world)
    hosts = list(world.hosts.values())
    check_one_view(hosts)
    if isinstance(world.service, Platform):
        world.service.check_registry()
    check_settled(hosts)
    for _ in range(100):
        clients = [client for host in world.hosts.values() for client in host.clients]
        holding = [client for client in clients if client.locks]
        if not holding:
            break
        for client in holding:
            _give_back(client, world.clock.random)
        _rest(world)
    hosts = list(world.hosts.values())
    check_one_view(hosts)
    check_settled(hosts)
    check_empty([host.node for host in hosts])


def _give_back(client: Client, random: Random) -> None:
    for name in sorted(client.locks, key=len, reverse=True):
        lock = client.locks.get(name)
        if lock is None:
            continue
        if lock.wanted is not None:
            # What it holds may be in the way; a conversion may be stuck where nobody looks.
            holds = len(client.locks) > 1 or lock.granted is not None
            if holds and name in client.ops and random.random() < 0.3:
                client.give_up(client.ops[name])
        elif name in client.claims and name not in client.ops:
            client.ask(name, Request(Verb.UNLOCK))


def _rest(world: World) -> None:
    """Until nothing is under way, and deadlocks have had their time to be found."""
    _until_rest(world)
    world.clock.run_until(world.clock.now + DEADLOCK_S)
    _until_rest(world)


def _until_rest(world: World) -> None:
    clock = world.clock
    deadline = clock.now + LONGEST_PEACE_S
    while True:
        clock.run_until(clock.now + SLICE_S)
        if _at_rest(world) or clock.now > deadline:
            return


def _at_rest(world: World) -> bool:
    try:
        check_one_view(list(world.hosts.values()))
    except Violation:
        return False
    if isinstance(world.service, Platform) and world.service.shots:
        return False
    busy = any(isinstance(host, Member) and host.asked for host in world.hosts.values())
    busy = busy or any(host.node.wants_turn() for host in world.hosts.values())
    return world.streams.quiet() and not busy
