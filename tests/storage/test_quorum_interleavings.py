"""Two members at one quorum disk, in every order that their I/O can have; and the orders that are known to be bad."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, islice

import pytest

from clufs.storage.shelf import Lane
from clufs.timeouts import QUORUM_DISK_DEAD_S
from tests.storage.quorum_model import Ledger, Medium, Member

TAKE_IOS = 10
"""A look, the promise in both blocks and a look, the journal read and written, `accepted` in both and a look."""


class World:
    """LUNs, and members that have them all in their configuration."""

    def __init__(self, luns: int = 1, members: int = 2) -> None:
        self.now_s = 1000.0
        self.luns = [Medium(number + 1) for number in range(luns)]
        self.ledger = Ledger(lambda: self.now_s)
        self.members = [
            Member(number + 1, self.luns, self.ledger, lambda: self.now_s)
            for number in range(members)
        ]

    def all_do(self, member: Member, *what: str) -> None:
        for one in what:
            getattr(member, one)()
            member.run()

    def seems_dead_to(self, member: Member) -> None:
        """Nobody has written anything for so long as it takes."""
        self.all_do(member, "look")
        self.now_s += QUORUM_DISK_DEAD_S + 0.01

    def crash(self, member: Member, landed: bool = False) -> None:
        """It ends between two I/Os."""
        for lane in member.lanes.values():
            lane.io = None
        member.begin()

    def online(self, *numbers: int) -> None:
        """These LUNs answer, and no other."""
        for at, lun in enumerate(self.luns):
            lun.online = at + 1 in numbers
        for member in self.members:
            member.reopen()

    def all_is_found(self, by: Member) -> None:
        """Whoever comes later has everything that was acknowledged: the ledger says so otherwise."""
        self.crash(by)
        self.seems_dead_to(by)
        self.all_do(by, "take")
        assert by.tenure is not None, by.errors


def orders(first: int, second: int, each: int = 1) -> Iterator[frozenset[int]]:
    """Each way to put so many I/Os of one between those of another: at which places the first one's are.

    each: only each second, third, ... of them, where all are too many.
    """
    for chosen in islice(combinations(range(first + second), first), 0, None, each):
        yield frozenset(chosen)


def in_order(world: World, a: Member, b: Member, places: frozenset[int], ios: int) -> None:
    """Do a's I/O at these places, and b's at the others."""
    for at in range(ios):
        now = a if at in places else b
        if now.due:
            now.advance(now.due[0])
        world.ledger.check_times()
        world.now_s += 0.001
    a.run()
    b.run()
    world.ledger.check_times()


@pytest.mark.parametrize(
    ("what", "ios", "each"), [("beat", 2, 1), ("append", 2, 1), ("checkpoint", 4, 5)]
)
def test_a_holder_that_was_thought_dead_and_who_takes_the_disk(
    what: str, ios: int, each: int
) -> None:
    lost = 0
    for places in orders(ios, TAKE_IOS, each):
        world = World()
        a, b = world.members
        world.all_do(a, "take", "append", "append")
        world.seems_dead_to(b)
        b.take()
        getattr(a, what)()
        in_order(world, a, b, places, ios + TAKE_IOS)
        lost += a.tenure is None
        assert not (a.tenure and b.tenure and a.tenure.ballot > b.tenure.ballot)
        world.all_is_found(a)
    assert lost > 10


def test_two_members_that_take_a_free_disk_at_once() -> None:
    """All orders in which the two change turns up to three times."""
    won = 0
    for first in range(TAKE_IOS + 1):
        for second in range(TAKE_IOS + 1):
            for third in (1, 5, 9):
                world = World()
                a, b = world.members
                world.all_do(a, "take", "append", "let_go")
                a.take()
                b.take()
                places = [True] * first + [False] * second + [True] * third
                chosen = frozenset(at for at, one in enumerate(places) if one)
                in_order(world, a, b, chosen, len(places))
                won += len([one for one in (a, b) if one.tenure is not None])
                world.all_is_found(b)
    assert won > 100


@pytest.mark.parametrize("beats", [0, 1])
def test_a_ballot_of_a_former_life_that_lands_late_unsays_no_promise(beats: int) -> None:
    found = 0
    for landing in range(TAKE_IOS):
        for places in orders(2, TAKE_IOS - landing, 2):
            world = World()
            a, b = world.members
            world.all_do(b, "take", *["beat"] * beats)
            b.beat()
            b.advance(b.due[0], "late")
            (late,) = world.luns[0].late
            world.crash(b)
            world.seems_dead_to(a)
            world.all_do(a, "take", "append")
            world.seems_dead_to(b)
            b.take()
            for _ in range(landing):
                if b.due:
                    b.advance(b.due[0])
            world.luns[0].do(late.write)
            a.append()
            in_order(world, a, b, places, TAKE_IOS - landing + 2)
            found += b.tenure is not None
            world.all_is_found(a)
    assert found > 10


def test_a_frame_that_lands_late_spoils_no_later_journal() -> None:
    world = World()
    a, b = world.members
    world.all_do(a, "take", "append")
    a.append()
    a.advance(a.due[0], "late")
    a.run()
    assert a.tenure is None
    (late,) = world.luns[0].late
    world.all_do(a, "take", "append")
    # Its next journal would stand where that frame may still be written.
    world.all_do(a, "checkpoint")
    assert "may still be done" in a.errors[-1]
    world.luns[0].do(late.write)
    world.all_is_found(b)
    assert len(b.known) == 2


def accepted(member: Member) -> int:
    """The ballot under which a member says, or is about to say, that it has the journal."""
    return member.candidate.own().accepted


def until_said(member: Member, lun: Medium) -> None:
    """Let a take go on, its journal not on `lun`, until its `accepted` is on `lun`, and there only."""
    before, uuid = accepted(member), lun.header.uuid
    while member.works:
        keys = [key for key in member.due if key != (uuid, Lane.JOURNAL)]
        if accepted(member) != before:
            keys = [key for key in keys if key == (uuid, Lane.BALLOTS)]
        if not keys:
            return
        member.advance(keys[0])


def test_what_was_accepted_by_one_lun_alone_binds_nobody_once_its_member_has_gone_on() -> None:
    world = World(luns=3)
    a, b = world.members
    world.all_do(a, "take", "append", "append")
    first = accepted(a)
    a.take()
    until_said(a, world.luns[1])
    assert a.tenure is None and accepted(a) != first
    world.crash(a)
    # It comes back without that LUN, and writes where the journal stands that was accepted there.
    world.online(1, 3)
    a.take()
    while a.works and (a.candidate.record is None or accepted(a) == first):
        a.advance(a.due[0])
    world.crash(a)
    world.online(1, 2)
    world.all_is_found(b)
    assert b.known == [1, 2]


def test_what_was_said_on_new_luns_alone_is_not_enough_to_go_on() -> None:
    one = World(luns=1)
    (a, b) = one.members
    one.all_do(a, "take", "append", "let_go")
    more = World(luns=3)
    more.luns[0].header, more.luns[0].blocks = one.luns[0].header, one.luns[0].blocks
    more.ledger.sure, more.ledger.asked = one.ledger.sure, one.ledger.asked
    more.ledger.highest = one.ledger.highest
    more.online(1, 2, 3)
    a, b = more.members
    for member in more.members:
        member.begin()
    a.take()
    # Two of the three have the new journal accepted, and not the one that had it alone before.
    before = (more.luns[0].header.uuid, Lane.BALLOTS)
    while a.works:
        own = a.candidate.record
        keys = [key for key in a.due if own is None or len(own.luns) < 3 or key != before]
        if not keys:
            break
        a.advance(keys[0])
    assert a.tenure is None
    more.crash(a)
    more.online(1)
    more.now_s += 10
    more.all_do(a, "look")
    more.now_s += 10
    more.all_do(a, "take", "append")
    assert a.known == [1, 2]
    more.online(2, 3)
    more.crash(b)
    more.seems_dead_to(b)
    more.all_do(b, "take")
    assert b.tenure is None
    more.online(1, 2, 3)
    more.all_is_found(b)


@pytest.mark.parametrize("luns", [1, 3, 5])
def test_luns_that_know_nothing_are_no_witnesses(luns: int) -> None:
    world = World(luns=luns)
    a, b = world.members
    majority = luns // 2 + 1
    world.online(*range(1, majority + 1))
    if luns > 1:
        world.all_do(a, "take")
        assert a.tenure is None, "a journal was begun without having seen all LUNs"
    world.online(*range(1, luns + 1))
    world.all_do(a, "take")
    world.online(*range(1, majority + 1))
    world.all_do(a, "append")
    assert a.known == [1]
    # All but one of those that have the record are formatted anew; the others never had it.
    for at in range(majority - 1):
        world.luns[at] = Medium(50 + at)
    for member in world.members:
        member.luns = world.luns
    world.online(*(number for number in range(1, luns + 1) if number != majority))
    world.crash(b)
    world.seems_dead_to(b)
    world.all_do(b, "take")
    assert b.tenure is None
    world.online(*range(1, luns + 1))
    world.all_is_found(b)
    assert b.known == [1]


def test_a_lun_that_was_replaced_counts_once_the_journal_is_on_it() -> None:
    world = World(luns=3)
    a, b = world.members
    world.all_do(a, "take", "append")
    world.luns[0] = Medium(50)
    for member in world.members:
        member.luns = world.luns
    world.online(1, 2, 3)
    world.all_do(a, "append")
    assert a.tenure is not None and world.luns[0].header.uuid not in a.tenure.luns
    world.all_do(a, "checkpoint")
    assert a.tenure is not None and world.luns[0].header.uuid in a.tenure.luns
    world.all_do(a, "append")
    # Of those of before one more may go now.
    world.luns[1] = Medium(51)
    for member in world.members:
        member.luns = world.luns
    world.online(1, 3)
    world.all_is_found(b)
    assert b.known == [1, 2, 3]


def test_a_lun_that_was_away_is_brought_level() -> None:
    world = World(luns=3)
    a, b = world.members
    world.all_do(a, "take", "append")
    world.online(1, 2)
    world.all_do(a, "append", "checkpoint", "append")
    world.online(1, 2, 3)
    assert a.tenure is not None and a.tenure.behind() == {world.luns[2].header.uuid}
    world.all_do(a, "level", "beat")
    assert not a.tenure.behind()
    world.luns[0] = Medium(50)
    world.luns[1].online = False
    world.online(3)
    world.seems_dead_to(b)
    world.all_do(b, "take")
    assert b.tenure is None, "one of three is no majority"
    world.online(2, 3)
    world.all_is_found(b)
    assert b.known == [1, 2, 3]


def test_a_lun_that_forgot_an_acknowledged_record_is_not_believed() -> None:
    world = World()
    a, b = world.members
    world.all_do(a, "take", "append")
    forgotten = world.luns[0].copy().blocks
    world.all_do(a, "append", "beat")
    ballots = {
        lba: block for lba, block in world.luns[0].blocks.items() if forgotten.get(lba) != block
    }
    journal = max(ballots)
    del world.luns[0].blocks[journal]
    world.seems_dead_to(b)
    world.all_do(b, "take")
    assert b.tenure is None and "not whole" in b.errors[-1]


def test_a_share_that_a_torn_ballot_pair_hides_is_not_taken_for_an_empty_disk() -> None:
    world = World()
    a, b = world.members
    world.all_do(a, "take", "append")
    lba = world.luns[0].header.geometry.ballot(1)
    for at in (lba, lba + 1):
        world.luns[0].blocks[at] = world.luns[0].blocks[at][:100] + b"#" * 3996
    world.all_do(b, "look")
    world.all_do(b, "take")
    assert b.tenure is None and a.tenure is not None


@pytest.mark.parametrize("luns", [1, 3, 5])
@pytest.mark.parametrize(("what", "ios"), [("look", 1), ("append", 2), ("beat", 2)])
def test_so_many_ios_are_done_one_after_the_other(what: str, ios: int, luns: int) -> None:
    world = World(luns)
    a, _ = world.members
    world.all_do(a, "take", "append")
    getattr(a, what)()
    for _ in range(ios):
        assert a.works
        for key in a.due:
            a.advance(key)
    assert not a.works
