"""One seed from the beginning to the end."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from clufs.dlm import seeking as seeking_module
from clufs.dlm.interface import Life, Request, Verb
from clufs.dlm.node import Node
from tests.sim.clock import Violation, line
from tests.sim.settled import check_empty, check_settled
from tests.sim.story import Story, story_of
from tests.sim.world import World

SETTLE_STEPS = 200_000


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


def run(seed: int, trace: bool = False, story: Story | None = None) -> Outcome:
    """Play the story of a seed. Raises Violation, with the last lines, when something is wrong."""
    story = story or story_of(seed)
    world = World(seed, story, trace)
    kept = seeking_module.IDLE_NAMES_KEPT
    seeking_module.IDLE_NAMES_KEPT = story.idle_names
    try:
        _play(world, story)
    except Exception as error:
        if isinstance(error, Violation) or not trace:
            lines = "\n".join(line(*one) for one in world.clock.lines)
            raise Violation(f"{lines}\nseed {seed}: {story}\n{type(error).__name__}: {error}") from error
        raise
    finally:
        seeking_module.IDLE_NAMES_KEPT = kept
    claims = world.claims
    return Outcome(
        seed, str(story), world.clock.steps, claims.grants, world.streams.sent, claims.reads,
        world.clock.digest,
    )  # fmt: skip


def _play(world: World, story: Story) -> None:
    clock = world.clock
    for member in story.members:
        life = Life(member, 1)
        world.add(life, Node(member, 1, [Life(one, 1) for one in story.members], 1))
    for host in world.hosts.values():
        host.peers = {one.member: one for one in world.lives if one != host.life}
    while clock.steps < story.events:
        clock.step()
    end(world)


def end(world: World) -> None:
    """Nobody asks anything new; what is under way comes to rest, and all is given back."""
    world.closing = True
    _rest(world)
    hosts = [host for host in world.hosts.values() if not host.dead]
    check_settled(hosts)
    random = world.clock.random
    for _ in range(100):
        clients = [client for host in hosts for client in host.clients if client.locks]
        if not clients:
            break
        for client in clients:
            _give_back(world, client, random)
        _rest(world)
    check_settled(hosts)
    check_empty([host.node for host in hosts])


def _give_back(world: World, client, random: Random) -> None:
    for name in sorted(client.locks, key=len, reverse=True):
        lock = client.locks.get(name)
        if lock is None:
            continue
        if lock.wanted is not None:
            if len(client.locks) > 1 and name in client.ops and random.random() < 0.3:
                client.give_up(client.ops[name])
        elif name in client.claims and name not in client.ops:
            client.ask(name, Request(Verb.UNLOCK))


def _rest(world: World) -> None:
    steps = 0
    while world.clock.step():
        steps += 1
        if steps > SETTLE_STEPS:
            raise Violation("they never come to rest")
