"""Questions between members: who is asked, what is said, and what happens when nobody answers."""

from __future__ import annotations

import msgspec
import pytest
import trio

from clufs.dlm.interface import Life
from clufs.dlm.rsb import ResourceBlock
from clufs.errors import GarbageReceived, HostDown
from clufs.limits import QUERIES_MAX
from clufs.member.facts import BlockFacts
from clufs.member.queries import Answer, Question, What
from clufs.timeouts import QUERY_LATE_S, QUERY_S
from tests.dlm.cluster import make_eager
from tests.member.asking import BEGIN_S, Asking

HERE, THERE, THIRD = "provolone", "polishham", "pepicelli"


def holding(line: str, name: bytes, member: str = THERE) -> Asking:
    """A cluster in which somebody at `member`, the master, has said this."""
    asking = Asking()
    asking.says(member, "anna", line, name)
    asking.settle()
    assert asking.master(name) == member
    return asking


def name_known_by(member: str) -> bytes:
    return Asking().name_with_directory(member)


async def test_the_facts_of_a_block_are_its_masters() -> None:
    name = name_known_by(THIRD)
    asking = holding("EX", name)
    asking.says(THERE, "anna", "EX value=ripe", name)
    asking.says(THIRD, "carl", "PR", name)
    asking.settle()
    block = asking.nodes[THERE].blocks[name]
    facts = await asking.queries[HERE].facts(name)
    assert facts is not None
    assert (facts.value, facts.valid, facts.valseq) == (b"ripe", True, block.valseq)
    assert (facts.group_mode, facts.granted, facts.converting, facts.waiting) == ("EX", 1, 0, 1)
    assert (facts.master, facts.quorum) == (THERE, 1)
    assert block.value_at is not None
    assert facts.written_s == BEGIN_S + block.value_at


async def test_a_first_question_costs_two_round_trips_and_a_further_one_one() -> None:
    name = name_known_by(THIRD)
    asking = holding("EX", name)
    await asking.queries[HERE].facts(name)
    assert asking.messages == 4
    await asking.queries[HERE].facts(name)
    assert asking.messages == 6


async def test_the_directory_member_asks_the_master_only() -> None:
    name = name_known_by(HERE)
    asking = holding("EX", name)
    assert await asking.queries[HERE].facts(name) is not None
    assert asking.messages == 2


async def test_a_master_that_is_the_directory_is_asked_at_once() -> None:
    name = name_known_by(THERE)
    asking = holding("EX", name)
    assert await asking.queries[HERE].facts(name) is not None
    assert asking.messages == 4
    assert await asking.queries[HERE].report(name) is not None
    assert asking.messages == 6


async def test_a_question_about_nothing_makes_nobody_a_master() -> None:
    asking = Asking()
    for member in (HERE, THERE, THIRD):
        name = asking.name_with_directory(member)
        assert await asking.queries[HERE].facts(name) is None
        assert await asking.queries[HERE].report(name) is None
        assert not await asking.queries[HERE].holds(name, "EX", 1)
    assert not any(node.directory.masters for node in asking.nodes.values())
    assert all(node.master_hint(name) is None for node in asking.nodes.values())


async def test_a_name_whose_last_lock_went_does_not_exist() -> None:
    name = name_known_by(THIRD)
    asking = holding("EX", name)
    assert await asking.queries[HERE].facts(name) is not None
    asking.says(THERE, "anna", "UN", name)
    assert await asking.queries[HERE].facts(name) is None
    assert asking.queries[THERE].knows(name)


async def test_a_master_that_let_the_name_go_is_not_asked_for_ever() -> None:
    """Its word to the directory is still on its way, or got lost with a question in between."""
    name = name_known_by(THIRD)
    asking = holding("EX", name)
    asking.says(THERE, "anna", "UN", name)
    node = asking.nodes[THERE]
    node._idle.clear()
    assert await asking.queries[HERE].facts(name) is None
    assert asking.directory(name) == THIRD
    assert asking.nodes[THIRD].directory.look(name) == THERE


async def test_a_remembered_master_that_is_none_any_more_is_asked_about_again() -> None:
    name = name_known_by(THIRD)
    asking = holding("EX", name)
    await asking.queries[HERE].facts(name)
    asking.says(THERE, "anna", "UN", name)
    asking.nodes[THERE]._idle.clear()
    asking.nodes[THIRD].directory.dropped(name, THERE)
    asking.says(THIRD, "carl", "EX", name)
    asking.settle()
    assert asking.master(name) == THIRD
    facts = await asking.queries[HERE].facts(name)
    assert facts is not None
    assert facts.master == THIRD


async def test_what_is_known_here_asks_nobody() -> None:
    name = name_known_by(THIRD)
    asking = holding("NL", name)
    here = asking.queries[HERE]
    assert asking.queries[THERE].knows(name)
    assert not here.knows(name)
    for mode, known in (("CR", False), ("CW", True), ("PR", True), ("EX", True), ("NL", False)):
        asking.says(HERE, "bert", mode, name)
        asking.settle()
        assert here.knows(name) is known, mode


async def test_a_sublock_is_asked_for_at_the_master_of_its_root() -> None:
    name = name_known_by(THIRD)
    asking = holding("EX", name)
    below = name + b".sub/row"
    parent = asking.lock(THERE, "anna", name)
    asking.says(THERE, "anna", "PW", below, parent=parent)
    asking.settle()
    facts = await asking.queries[HERE].facts(below)
    assert facts is not None
    assert (facts.master, facts.group_mode) == (THERE, "PW")
    assert await asking.queries[HERE].facts(name + b".sub/other") is None


async def test_reports_are_the_masters_also_long_ones() -> None:
    name = name_known_by(THIRD)
    asking = holding("NL", name)
    for i in range(1000):
        asking.says(THERE, f"crowd{i}", "NL", name)
    said = asking.queries[THERE].witness.report(asking.nodes[THERE].blocks[name])
    assert await asking.queries[HERE].report(name) == said
    asking.queries[THERE].witness.report = lambda block: said * 1000  # type: ignore[method-assign]
    assert await asking.queries[HERE].report(name) == said * 1000


async def test_the_names_of_all_members_come_together() -> None:
    asking = Asking()
    for member in (HERE, THERE, THIRD):
        for i in range(2):
            name = b"db/%s%d" % (member.encode(), i)
            asking.says(member, "anna", "EX", name)
    asking.says(THERE, "anna", "EX", b"other/x")
    asking.settle()
    parent = asking.lock(THERE, "anna", b"db/polishham0")
    asking.says(THERE, "anna", "EX", b"db/polishham0.sub/row", parent=parent)
    expected = {b"polishham0", b"polishham0.sub", b"polishham1", b"pepicelli0", b"pepicelli1"}
    assert await asking.queries[HERE].names(b"db") == expected
    assert await asking.queries[HERE].names(b"db/polishham0.sub") == {b"row"}
    assert await asking.queries[HERE].names(b"none") == set()


async def test_a_hundred_thousand_names_come_in_parts() -> None:
    asking = Asking()
    names = {b"name-of-a-lock-%06d" % i for i in range(100_000)}
    asking.queries[THERE].witness.names = lambda directory: names  # type: ignore[method-assign]
    assert await asking.queries[HERE].names(b"db") == names
    assert asking.messages > 6


async def test_a_sequencer_holds_while_its_lock_does_in_that_mode() -> None:
    name = name_known_by(THIRD)
    asking = holding("NL", name)
    asking.says(THIRD, "carl", "EX", name)
    asking.settle()
    number = asking.lock(THIRD, "carl", name).number
    for member in (HERE, THERE, THIRD):
        queries = asking.queries[member]
        assert await queries.holds(name, "EX", number)
        assert not await queries.holds(name, "PR", number)
        assert not await queries.holds(name, "EX", number + 1)
    asking.says(THIRD, "carl", "UN", name)
    asking.settle()
    assert not await asking.queries[HERE].holds(name, "EX", number)


@pytest.mark.parametrize("directory", [HERE, THERE, THIRD])
async def test_a_lock_that_stands_is_known_to_all_while_its_master_changes(
    directory: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """Whoever asks, and whatever has been said of the move by then: nobody hears of no lock."""
    make_eager(monkeypatch, 4)
    name = name_known_by(directory)
    for seed in range(3):
        for delivered in range(20):
            asking = Asking(seed)
            asking.says(THERE, "anna", "EX", name)
            asking.settle()
            number = asking.lock(THERE, "anna", name).number
            for _ in range(3):
                asking.says(HERE, "bert", "NL", name)
                asking.settle()
            asking.says(HERE, "bert", "NL", name)
            asking.says(HERE, "bert", "NL", name)
            for _ in range(delivered):
                if any(asking.wires.values()):
                    asking.deliver()
            found: list[object] = []

            async def ask(
                member: str,
                asking: Asking = asking,
                number: int = number,
                found: list[object] = found,
            ) -> None:
                facts = await asking.queries[member].facts(name)
                assert facts is not None
                found.append(facts.group_mode)
                found.append(await asking.queries[member].holds(name, "EX", number))

            async with trio.open_nursery() as nursery:
                for member in (HERE, THERE, THIRD):
                    nursery.start_soon(ask, member)
                await trio.testing.wait_all_tasks_blocked()
                asking.settle()
            assert found.count("EX") == found.count(True) == 3
            assert asking.master(name) == HERE, "it has moved"


async def test_a_member_that_does_not_answer_is_waited_for_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    name = name_known_by(THIRD)
    asking = holding("EX", name)
    asking.silent = {THIRD}
    began = trio.current_time()
    with pytest.raises(HostDown, match="pepicelli does not answer"):
        await asking.queries[HERE].facts(name)
    assert trio.current_time() - began == pytest.approx(QUERY_S)
    with pytest.raises(HostDown):
        await asking.queries[HERE].names(b"db")
    assert trio.current_time() - began == pytest.approx(QUERY_S + QUERY_LATE_S)
    asking.late()
    assert await asking.queries[HERE].facts(name) is not None
    asking.silent = {THERE}
    with pytest.raises(HostDown):
        await asking.queries[HERE].facts(name)


async def test_a_listing_without_one_member_is_refused_not_shortened(
    autojump_clock: trio.testing.MockClock,
) -> None:
    asking = holding("EX", b"db/x")
    asking.silent = {THIRD}
    with pytest.raises(HostDown):
        await asking.queries[HERE].names(b"db")


async def test_a_member_that_leaves_ends_what_it_was_asked(
    autojump_clock: trio.testing.MockClock,
) -> None:
    name = name_known_by(THIRD)
    asking = holding("EX", name)
    asking.silent = {THIRD}
    began = trio.current_time()
    ended_at: list[float] = []

    async def ask() -> None:
        with pytest.raises(HostDown, match="has left"):
            await asking.queries[HERE].names(b"db")
        ended_at.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        asking.view.remove(THIRD)
        asking.queries[HERE].view_changed()
    assert ended_at == [began]


async def test_a_master_that_is_replaced_within_the_time_is_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    name = name_known_by(THERE)
    asking = holding("EX", name)
    left = [HERE, THIRD]
    answers: list[BlockFacts | None] = []

    async def ask() -> None:
        answers.append(await asking.queries[HERE].facts(name))

    asking.silent = {THERE}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        asking.view = left
        for member in left:
            asking.nodes[member].members = left
            asking.nodes[member].is_gathering = lambda: True  # type: ignore[method-assign]
        asking.queries[HERE].view_changed()
        await trio.sleep(QUERY_S / 2)
        assert not answers
        asking.nodes[THIRD].blocks[name] = ResourceBlock(name, 0.0, 1)
        asking.nodes[asking.directory(name)].directory.masters[name] = THIRD
    assert answers[0] is not None
    assert answers[0].master == THIRD


async def test_what_only_a_lost_member_may_know_of_is_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    asking = Asking()
    for member in (HERE, THERE):
        asking.nodes[member].lost.add(Life(THIRD, 1))
    began = trio.current_time()
    for directory in (HERE, THERE):
        with pytest.raises(HostDown, match="not fenced"):
            await asking.queries[HERE].facts(asking.name_with_directory(directory))
    assert trio.current_time() == began


async def test_questions_that_are_open_are_bounded(
    autojump_clock: trio.testing.MockClock,
) -> None:
    name = name_known_by(THIRD)
    asking = holding("EX", name)
    asking.silent = {THIRD}
    refused: list[str] = []

    async def ask() -> None:
        try:
            await asking.queries[HERE].facts(name)
        except HostDown as error:
            refused.append(str(error))

    async with trio.open_nursery() as nursery:
        for _ in range(QUERIES_MAX + 5):
            nursery.start_soon(ask)
    assert len(refused) == QUERIES_MAX + 5
    assert sum("too many" in why for why in refused) == 5


async def test_an_interrupted_question_leaves_nothing_open() -> None:
    name = name_known_by(THIRD)
    asking = holding("EX", name)
    asking.silent = {THIRD}
    with trio.move_on_after(0.01):
        await asking.queries[HERE].facts(name)
    assert not asking.queries[HERE]._open
    asking.late()


async def test_an_answer_that_another_member_gives_counts_for_nothing() -> None:
    name = name_known_by(THIRD)
    asking = holding("EX", name)
    asking.silent = {THIRD}
    here = asking.queries[HERE]

    async def ask() -> None:
        assert await here.facts(name) is not None

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            serial = next(iter(here._open))
            here.received(THERE, msgspec.msgpack.encode(Answer(serial, 1)))
            assert serial in here._open
            assert not here._open[serial].ended.is_set()
            asking.late()


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x93\x07\x01\x02", b"\x92\x00\xa1x", b"\xff" * 9])
async def test_garbage_is_refused_and_changes_nothing(data: bytes) -> None:
    asking = holding("EX", b"db/x")
    with pytest.raises(GarbageReceived):
        asking.queries[THERE].received(HERE, data)
    assert asking.messages == 0


async def test_fields_of_a_later_version_are_not_looked_at() -> None:
    name = name_known_by(THIRD)
    asking = holding("EX", name)
    question = msgspec.msgpack.decode(
        msgspec.msgpack.encode(Question(77, What.FACTS, name)), type=list
    )
    got: list[bytes] = []
    there = asking.queries[THERE]
    there._send = lambda member, data: got.append(data)
    there.received(HERE, msgspec.msgpack.encode([*question, "later", 1]))
    answer = msgspec.msgpack.decode(got[0], type=Answer)
    assert (answer.serial, answer.outcome) == (77, 0)


async def test_a_question_of_a_later_kind_is_answered_not_now() -> None:
    asking = holding("EX", b"db/x")
    got: list[bytes] = []
    there = asking.queries[THERE]
    there._send = lambda member, data: got.append(data)
    there.received(HERE, msgspec.msgpack.encode(Question(5, 99, b"db/x")))
    assert msgspec.msgpack.decode(got[0], type=Answer).outcome == 3


async def test_a_copy_answers_while_recovery_goes_on_and_not_for_a_silent_master(
    autojump_clock: trio.testing.MockClock,
) -> None:
    name = name_known_by(THIRD)
    asking = holding("EX", name)
    asking.says(THERE, "anna", "EX value=old", name)
    asking.says(THERE, "anna", "NL", name)
    asking.says(HERE, "bert", "CR", name)
    asking.settle()
    asking.silent = {THERE, THIRD}
    with pytest.raises(HostDown):
        await asking.queries[HERE].facts(name)
    asking.nodes[HERE].waits_for = lambda: "recovery"  # type: ignore[method-assign]
    facts = await asking.queries[HERE].facts(name)
    assert facts is not None
    assert (facts.value, facts.quorum, facts.master) == (b"old", 0, THERE)
    with pytest.raises(HostDown):
        await asking.queries[HERE].facts(asking.name_with_directory(THIRD) + b"other")
