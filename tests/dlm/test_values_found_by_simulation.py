"""What stories of the simulator have shown of value blocks, each as short as it can be told."""

from __future__ import annotations

from typing import Any

import pytest

from clufs.dlm.directory import directory_member
from clufs.dlm.interface import (
    Asked,
    Done,
    Life,
    Received,
    Resumed,
    Send,
    Suspended,
    ViewInstalled,
    Withdrew,
)
from clufs.dlm.messages import (
    Ask,
    BlockCopies,
    Copies,
    End,
    Finished,
    Granted,
    HeldCopy,
    Id,
    LookedUp,
    Message,
    Settled,
    Withdraw,
)
from clufs.dlm.modes import Mode
from clufs.dlm.node import Node
from tests.dlm.cluster import MEMBERS, Cluster
from tests.dlm.cluster_of_one import Person, parse

A, B, C = MEMBERS


@pytest.mark.parametrize("line", ["PR value=2", "PR invalidate"])
def test_a_write_that_was_taken_back_leaves_the_value_unproven(line: str) -> None:
    """The lost master may have stored it and told others; the home knows only the value before."""
    lives = (Life(A, 1), Life(B, 1))
    node, person = Node(A, 1, (*lives, Life(C, 1)), 1), Person("p")
    names = (b"db/%d" % at for at in range(99))
    views = (sorted((A, B)), sorted((A, B, C)))
    name = next(n for n in names if all(directory_member(n, view) == B for view in views))

    def steps(event: Any) -> list[Message]:
        effects = node.step(0.0, event)
        return [effect.message for effect in effects if isinstance(effect, Send)]

    steps(Asked(person, name, parse("EX"), "p"))
    (ask,) = steps(Received(B, LookedUp(1, name, C, 0)))
    assert isinstance(ask, Ask)
    steps(Received(C, Granted(1, ask.id, Mode.EX, 5, True, b"1", True, 4)))
    steps(Asked(person, name, parse(line), "p"))
    steps(Withdrew(person.locks[name]))
    told = steps(ViewInstalled(2, lives, frozenset({Life(C, 1)})))
    (copies,) = [message for message in told if isinstance(message, Copies)]
    assert copies.blocks[0].locks[0].least is Mode.NL


@pytest.mark.parametrize("end", ["withdraws", "releases", "dies"])
def test_a_release_that_its_master_refuses_is_not_over_at_home(end: str) -> None:
    """When it was sent a sublock was still there, and so it is when the master hears of it."""
    cluster = Cluster()
    cluster.says(A, "p", "NL")
    cluster.settle()
    cluster.says(B, "q", "PR")
    cluster.settle()
    below = cluster.lock(B, "q")
    cluster.says(B, "r", "PR", b"db/x.sub/a", parent=below)
    if end == "releases":
        cluster.settle()
    cluster.says(B, "q", "UN")
    match end:
        case "withdraws":
            cluster.withdraws(B, "r", b"db/x.sub/a")
        case "releases":
            cluster.says(B, "r", "UN", b"db/x.sub/a")
        case _:
            cluster.dies(B, "r")
    for _ in range(2):
        told = cluster.step(B, Suspended())
        assert not any(isinstance(effect, Done) and effect.client == "q: UN" for effect in told)
        cluster.step(B, Resumed())
    cluster.settle()
    assert (B, "HasSublocks") in cluster.refused()
    assert cluster.lock(B, "q").granted is Mode.PR


def test_what_a_new_master_may_have_invalidated_is_proven_by_no_lock_that_was_kept() -> None:
    """A's conversion down was under way when C was lost: B was told of no lock that proves the value.
    The conversion had no effect, but the value is invalid now; then B is lost."""
    d = "prosciutto"
    lives = {member: Life(member, 1) for member in (A, B, C, d)}
    node, person = Node(A, 1, tuple(lives.values()), 1), Person("p")
    after_c, after_b = sorted((A, B, d)), sorted((A, d))
    name = next(
        n
        for n in (b"db/%d" % at for at in range(999))
        if directory_member(n, sorted(lives)) == d == directory_member(n, after_b)
        and directory_member(n, after_c) == B
    )

    def steps(event: Any) -> list[Message]:
        effects = node.step(0.0, event)
        return [effect.message for effect in effects if isinstance(effect, Send)]

    def least(members: list[str], view: int) -> Mode:
        told = steps(ViewInstalled(view, tuple(lives[member] for member in members), frozenset()))
        (copies,) = [message for message in told if isinstance(message, Copies)]
        return copies.blocks[0].locks[0].least

    steps(Asked(person, name, parse("PR"), "p"))
    (ask,) = steps(Received(d, LookedUp(1, name, C, 0)))
    assert isinstance(ask, Ask)
    steps(Received(C, Granted(1, ask.id, Mode.PR, 5, True, b"1", True, 4)))
    steps(Asked(person, name, parse("NL"), "p"))
    (withdraw,) = steps(Withdrew(person.locks[name]))
    assert isinstance(withdraw, Withdraw)
    assert least(after_c, 2) is Mode.NL
    steps(Received(B, Finished(2, withdraw.id)))
    steps(Received(B, Settled(2)))
    assert person.locks[name].granted is Mode.PR
    assert least(after_b, 3) is Mode.NL


def test_what_was_written_before_is_not_written_over_what_came_after() -> None:
    """C has let B's conversion write, then granted to A and told it what was written since; its answer to B
    is lost with it, and B asks again."""
    lives = (Life(A, 1), Life(B, 1))
    node, person = Node(A, 1, (*lives, Life(C, 1)), 1), Person("p")
    name = next(
        n
        for n in (b"db/%d" % at for at in range(99))
        if directory_member(n, sorted((A, B))) == A and directory_member(n, sorted(MEMBERS)) == B
    )
    node.step(0.0, Asked(person, name, parse("EX"), "p"))
    (ask,) = node.step(0.0, Received(B, LookedUp(1, name, C, 0)))
    assert isinstance(ask, Send) and isinstance(ask.message, Ask)
    node.step(0.0, Received(C, Granted(1, ask.message.id, Mode.EX, 9, True, b"newer", True, 8)))
    node.step(0.0, ViewInstalled(2, lives, frozenset()))
    lock, party = Id(B, 1, 4), Id(B, 1, -1)
    held = HeldCopy(lock, None, Mode.EX, Mode.NL, 5, parse("EX"), False, 0, 0, "-", party)
    node.step(0.0, Received(B, Copies(2, (BlockCopies(name, b"old", True, 4, (held,)),))))
    again = Ask(2, Id(B, 1, 5), lock, name, parse("NL value=older"), False, again=True)
    node.step(0.0, Received(B, again))
    node.step(0.0, Received(B, End(2)))
    block = node.blocks[name]
    assert (block.value, block.valid) == (b"newer", True)
