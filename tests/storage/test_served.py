"""LUNs through other members: who asks, who may, what is waited for. Against our array, members in one process."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from clufs.dlm.interface import Life
from clufs.errors import GarbageReceived, LunTimedOut, NoQuorum, PathLost, ReservationConflict
from clufs.limits import SERVED_IN_FLIGHT_MAX, SERVED_PIECE_BYTES
from clufs.registry.commands import MemberIn, MemberOut, MemberServed
from clufs.registry.state import State
from clufs.storage import through
from clufs.storage.inventory import PathState, SharedLun
from clufs.storage.keeping import Luns
from clufs.storage.served import Served
from clufs.storage.served_wire import NOT_NOW, Answer, Ask, Message, Offer, Reach, encode
from clufs.storage.serving import Cluster, Ledger
from clufs.storage.through import ServedPath
from tests.array.array import Array, Shape

A, B, C = "provolone", "polishham", "pepicelli"
NAMES = (A, B, C)


class Clu:
    """Members with a portal each, one registry, and streams that can be held up."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self.registry = State()
        self.lives = dict.fromkeys(NAMES, 1)
        self.number: int | None = 1
        self.held: set[str] = set()
        self.kept: list[tuple[str, str, Message]] = []
        self.sent: list[tuple[str, str, Message]] = []
        self.members: dict[str, tuple[Luns, Served]] = {}
        self.says = 0
        for name in NAMES:
            self.registry.apply(MemberIn(name, 1, "boot", name, True))

    def add(self, name: str) -> Luns:
        luns = Luns(f"iqn.2026-01.org.clufs:{name}", watches_devices=False)
        luns.expect("data", [self.array.url(0, NAMES.index(name))])

        def send(member: str, message: Message) -> None:
            self.sent.append((name, member, message))
            if member in self.held:
                self.kept.append((name, member, message))
            else:
                self.members[member][1].received(name, encode(message))

        async def note(author: Life, server: Life) -> None:
            assert self.registry.apply(MemberServed(*author, *server)) is None

        def view() -> tuple[int, dict[str, int]] | None:
            return None if self.number is None else (self.number, dict(self.lives))

        def may_serve(author: Life, server: Life) -> bool:
            return server in self.registry.lives[author].servers

        served = Served(
            luns,
            Cluster(
                me=lambda: Life(name, self.lives.get(name, 0)),
                view=view,
                is_in=lambda life: self.registry.is_in(*life),
                may_serve=may_serve,
                note=note,
                send=send,
            ),
        )
        served.say = self.say
        self.members[name] = luns, served
        return luns

    def say(self) -> None:
        self.says += 1

    def lun(self, name: str) -> SharedLun:
        (lun,) = self.members[name][0].inventory.luns.values()
        return lun

    def served(self, name: str) -> Served:
        return self.members[name][1]

    def changed(self) -> None:
        """Everybody hears that the view or the registry is another."""
        for name, (_, served) in self.members.items():
            if name in self.lives:
                served.view_changed()

    async def down(self, name: str, down: bool = True) -> None:
        """The path of a member."""
        self.array.portal_down(NAMES.index(name), down)
        wanted = PathState.DOWN if down else PathState.UP
        await until(lambda: [one.state for one in self.lun(name).paths.values()] == [wanted])

    async def read(self, name: str = A, blocks: int = 1) -> bytes:
        return await self.served(name).through.read(self.lun(name), 0, blocks)

    async def write(self, data: bytes, name: str = A) -> None:
        await self.served(name).through.write(self.lun(name), 0, data)

    def asks(self) -> list[str]:
        """Whom requests were sent to."""
        return [member for _, member, message in self.sent if isinstance(message, Ask)]

    def outcome(self, author: str, server: str, ask: Ask) -> Answer:
        """What a server answers at once."""
        begun = len(self.sent)
        self.served(server).received(author, encode(ask))
        (answer,) = [one for *_, one in self.sent[begun:] if isinstance(one, Answer)]
        return answer


async def until(true: Callable[[], object]) -> None:
    with trio.fail_after(30):
        while not true():  # noqa: ASYNC110 - whatever it is, nobody tells
            await trio.sleep(0.002)


@pytest.fixture
async def clu() -> AsyncIterator[Clu]:
    """Three members, each with a path of its own that is up, and known to the others."""
    async with made() as found:
        yield found


@asynccontextmanager
async def made() -> AsyncIterator[Clu]:
    async with Array(Shape(portals=3)).serving() as array, trio.open_nursery() as nursery:
        clu = Clu(array)
        for name in NAMES:
            nursery.start_soon(clu.add(name).serve)
        for name in NAMES:
            await until(lambda name=name: clu.members[name][0].inventory.luns)
        for name in NAMES:
            nursery.start_soon(clu.served(name).serve)
        await until(lambda: all(known(clu, name, [True, True]) for name in NAMES))
        clu.sent.clear()
        yield clu
        nursery.cancel_scope.cancel()


def known(clu: Clu, name: str, reads: list[bool]) -> bool:
    paths = clu.served(name).through.paths(clu.lun(name).wwid)
    return [path.reads for path in paths] == reads


DATA = bytes(range(256)) * 2


async def test_without_a_path_of_its_own_a_member_goes_through_another_and_back(clu: Clu) -> None:
    await clu.write(DATA)
    assert clu.asks() == []
    await clu.down(A)
    assert await clu.read() == DATA
    await clu.write(DATA[::-1])
    assert await clu.read(B) == await clu.read(A) == DATA[::-1]
    assert set(clu.asks()) == {C}
    await clu.down(A, False)
    clu.sent.clear()
    assert await clu.read() == DATA[::-1]
    assert clu.asks() == []


async def test_who_has_no_path_either_is_not_asked_and_shows_so(clu: Clu) -> None:
    await clu.down(A)
    await clu.down(C)
    await until(lambda: known(clu, A, [False, True]))
    assert await clu.read() == bytes(512)
    assert clu.asks() == [B]
    await clu.down(B)
    await until(lambda: known(clu, A, [False, False]))


async def test_what_is_told_before_the_view_stands_here_is_known_when_it_does(clu: Clu) -> None:
    wwid = clu.lun(A).wwid
    clu.number = None
    clu.served(A).received(B, encode(Reach(2, {wwid: Offer(True, False)})))
    assert clu.served(A).through.paths(wwid) == []
    clu.number, clu.lives[B] = 2, 2
    clu.changed()
    assert clu.served(A).through.paths(wwid)[1] == ServedPath(B, True, False)


async def test_what_is_large_goes_in_pieces(clu: Clu) -> None:
    await clu.down(A)
    data = bytes(SERVED_PIECE_BYTES - 512) + DATA * 3
    await clu.write(data)
    assert await clu.read(A, len(data) // 512) == data == await clu.read(B, len(data) // 512)
    sizes = [len(message.data) for *_, message in clu.sent if isinstance(message, Ask)]
    assert sizes[:2] == [SERVED_PIECE_BYTES, 1024]


async def test_the_registry_knows_who_may_write_before_it_does(clu: Clu) -> None:
    await clu.down(A)
    await clu.read()
    assert clu.registry.servers() == {}
    await clu.write(DATA)
    assert clu.registry.servers() == {(A, 1): {(C, 1)}}


async def test_without_quorum_nothing_is_noted_and_nothing_written(
    clu: Clu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(through, "SERVED_S", 0.05)
    await clu.down(A)

    async def note(author: Life, server: Life) -> None:
        raise NoQuorum("no quorum")

    object.__setattr__(clu.served(A).through._cluster, "note", note)
    with pytest.raises(PathLost, match="no quorum"):
        await clu.write(DATA)
    assert clu.asks() == []


def ask(clu: Clu, **changes: object) -> Ask:
    found = {
        "serial": 7,
        "incarnation": 1,
        "wwid": clu.lun(A).wwid,
        "lba": 0,
        "count": 1,
        **changes,
    }
    return Ask(**found)  # type: ignore[arg-type]


async def test_a_server_refuses_whoever_is_not_in_its_view(clu: Clu) -> None:
    said = clu.outcome(A, B, ask(clu, wwid="naa.0"))
    assert (said.outcome, said.why) == (NOT_NOW, "it has no path to that LUN")
    said = clu.outcome(A, B, ask(clu, data=DATA))
    assert (said.outcome, said.why) == (
        NOT_NOW,
        "the registry here does not know yet that it may write for provolone",
    )
    said = clu.outcome(A, B, ask(clu, count=SERVED_PIECE_BYTES // 512 + 1))
    assert (said.outcome, said.why) == (NOT_NOW, f"more than {SERVED_PIECE_BYTES} bytes")
    begun = len(clu.sent)
    for wrong in (ask(clu, incarnation=2), ask(clu, incarnation=0, data=DATA)):
        clu.served(B).received(A, encode(wrong))
    clu.number = None
    clu.served(B).received(A, encode(ask(clu)))
    assert clu.sent[begun:] == []  # nobody of theirs is there to be told
    clu.number = 1
    clu.registry.apply(MemberServed(A, 1, B, 1))
    clu.lun(B).role = "clufs"
    said = clu.outcome(A, B, ask(clu, data=DATA))
    assert said.why == "it writes for others to LUNs for data only"
    assert not clu.served(B).drains(None)


async def test_a_server_does_so_much_at_a_time_for_one_member(clu: Clu) -> None:
    clu.array.slow(0, 0.2)
    for serial in range(SERVED_IN_FLIGHT_MAX):
        clu.served(B).received(A, encode(ask(clu, serial=serial)))
    assert clu.outcome(A, B, ask(clu)).why == "it is busy with what was asked before"


async def test_who_is_busy_or_knows_it_later_is_asked_again(clu: Clu) -> None:
    await clu.down(A)
    clu.array.slow(0, 0.05)
    done = []

    async def read() -> None:
        done.append(await clu.read())

    async with trio.open_nursery() as nursery:
        for _ in range(4 * SERVED_IN_FLIGHT_MAX):
            nursery.start_soon(read)
    assert len(done) == 4 * SERVED_IN_FLIGHT_MAX


async def test_a_write_waits_for_the_fate_of_its_server_and_then_goes_through_the_next(
    clu: Clu,
) -> None:
    await clu.down(A)
    clu.held = {C}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(clu.write, DATA)
        await until(lambda: clu.kept)
        del clu.lives[C]
        clu.number = 2
        clu.changed()
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert clu.asks() == [C]  # it is lost, and may still write
        clu.registry.apply(MemberOut(C, 1, "fenced"))
        clu.changed()
    assert clu.asks() == [C, B]
    assert await clu.read(B) == DATA


async def test_a_read_does_not_wait_for_who_says_nothing(
    clu: Clu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(through, "SERVED_READ_S", 0.05)
    await clu.down(A)
    clu.held = {C}
    assert await clu.read() == bytes(512)
    assert clu.asks() == [C, B]
    clu.held = {B, C}
    monkeypatch.setattr(through, "SERVED_S", 0.05)
    with pytest.raises(LunTimedOut, match="does not answer"):
        await clu.read()


async def test_who_leaves_the_view_is_not_waited_for_with_a_read(clu: Clu) -> None:
    await clu.down(A)
    clu.held = {C}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(clu.read)
        await until(lambda: clu.kept)
        del clu.lives[C]
        clu.number = 2
        clu.changed()
    assert clu.asks() == [C, B]


async def test_where_nobody_has_a_path_the_own_reasons_are_told_at_once(clu: Clu) -> None:
    await clu.down(A)
    clu.lives = {A: 1}
    clu.changed()
    with pytest.raises(PathLost, match=r"naa\..*: no path works: 127.0.0.1"):
        await clu.read()
    assert clu.asks() == []


async def test_who_is_fenced_itself_writes_nothing_and_the_next_one_does(clu: Clu) -> None:
    await clu.down(A)
    run = clu.members[C][0].run

    async def fenced(*arguments: object, **words: object) -> bytes:
        raise ReservationConflict("its key is gone")

    clu.members[C][0].run = fenced  # type: ignore[method-assign, assignment]
    await clu.write(DATA)
    assert clu.asks() == [C, B]
    clu.members[C][0].run = run  # type: ignore[method-assign]
    assert await clu.read(C) == DATA


async def test_a_write_under_way_keeps_its_server_from_the_next_view(clu: Clu) -> None:
    await clu.down(A)
    clu.array.slow(0, math.inf)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(clu.write, DATA)
        await until(lambda: clu.served(C).drains(None))
        assert not clu.served(C).drains(1) and clu.served(C).drains(2)
        begun = clu.says
        clu.array.slow(0, 0)
        clu.array.lose_sessions()
    assert clu.says > begun
    assert not clu.served(C).drains(None)


async def test_an_answer_to_a_life_before_is_not_given_to_the_next_one(clu: Clu) -> None:
    clu.array.slow(0, 0.1)
    clu.served(B).received(A, encode(ask(clu)))
    clu.lives[A] = 2
    await until(lambda: not clu.served(B).server._under_way)
    assert not [one for *_, one in clu.sent if isinstance(one, Answer)]


async def test_a_write_ends_with_the_life_that_asked(clu: Clu) -> None:
    await clu.down(A)
    clu.held = {C}
    with pytest.RaisesGroup(PathLost):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clu.write, DATA)
            await until(lambda: clu.kept)
            clu.lives[A] = 2
            clu.changed()
    assert clu.asks() == [C]


async def test_what_a_life_could_not_write_the_next_one_does_not_write_either(clu: Clu) -> None:
    await clu.down(A)
    clu.number = None
    clu.changed()
    with pytest.RaisesGroup(PathLost):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clu.write, DATA)
            await trio.testing.wait_all_tasks_blocked(0.05)
            clu.lives[A] = 2
            await clu.down(A, False)
            clu.number = 2
            clu.changed()
    assert await clu.read(B) == bytes(512)


async def test_who_is_fenced_has_nobody_write_for_it(clu: Clu) -> None:
    async def conflict(*arguments: object, **words: object) -> bytes:
        raise ReservationConflict("its key is gone")

    clu.members[A][0].run = conflict  # type: ignore[method-assign, assignment]
    with pytest.raises(ReservationConflict):
        await clu.write(DATA)
    assert clu.asks() == []


async def test_between_two_lives_nothing_is_waited_for(clu: Clu) -> None:
    await clu.down(A)
    clu.lives[A], clu.number = 0, None
    clu.changed()
    with pytest.raises(PathLost, match="no path works"):
        await clu.read()


async def test_the_goodbye_waits_for_writes_on_both_sides(clu: Clu) -> None:
    await clu.down(A)
    clu.held = {C}
    finished: list[str] = []

    async def finish(name: str) -> None:
        await clu.served(name).finished()
        finished.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(clu.write, DATA)
        await until(lambda: clu.kept)
        nursery.start_soon(finish, A)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert finished == []
        clu.held = set()
        for sender, member, message in clu.kept:
            clu.served(member).received(sender, encode(message))
        await until(lambda: clu.says)
        await finish(C)
    assert sorted(finished) == [C, A]
    assert clu.outcome(A, C, ask(clu)).why == "it is about to leave"


def test_the_ledger_knows_in_which_view_each_write_was_begun() -> None:
    ledger = Ledger()
    assert not ledger.drains(None) and not ledger.drains(3)
    ledger.begin(3)
    ledger.begin(3)
    assert ledger.drains(None) and ledger.drains(4) and not ledger.drains(3)
    ledger.end(3)
    assert ledger.drains(4)
    ledger.end(3)
    assert not ledger.drains(4)


async def test_garbage_changes_nothing(clu: Clu) -> None:
    for data in (b"", b"\xc1", b"\x93\x09\x01\x02", encode(Reach(1, {}))[:-1]):
        with pytest.raises(GarbageReceived):
            clu.served(B).received(A, data)
    clu.served(B).received(A, encode(Answer(99, 0)))
    assert known(clu, B, [True, True])
