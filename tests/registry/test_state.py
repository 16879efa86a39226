"""The registry's state: what each command does, that each is done once, and snapshots."""

from __future__ import annotations

import stat
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clufs.caa.records import ResourceRecord
from clufs.errors import InvalidRequest, NameExists, NoSuchName, StateError
from clufs.limits import ANSWERS_KEPT, LIVES_ANSWERED, LIVES_OUT_KEPT
from clufs.registry import commands
from clufs.registry.commands import (
    Command,
    CommandId,
    DropNamespace,
    MemberIn,
    MemberOut,
    MemberServed,
    PutNamespace,
)
from clufs.registry.files import ChangeFile, DropFile, MoveFile, PutFile, WriteFile
from clufs.registry.inode_commands import (
    ChangeInode,
    DropMade,
    LinkInode,
    MakeInode,
    Maker,
    Rename,
    Unlink,
    WriteInode,
)
from clufs.registry.resources import Register, SaveDrained, SaveResources, Unregister
from clufs.registry.state import State

DB = PutNamespace(b"db", 1, 2, 0o700, new=True)


def after(*done: Command) -> State:
    state = State()
    for command in done:
        assert state.apply(command) is None
    return state


def came_in(
    life: int, boot: str = "boot", machine: str = "machine", cleared: bool = False
) -> MemberIn:
    return MemberIn("provolone", life, boot, machine, cleared)


def living(state: State) -> list[int]:
    return [life for _, life in state.living("provolone")]


def test_a_namespace_is_made_changed_and_dropped() -> None:
    state = after(DB, PutNamespace(b"db", 3, 4, 0o770, new=False))
    assert state.namespaces == {b"db": (3, 4, 0o770)}
    assert state.apply(DropNamespace(b"db")) is None
    assert state.namespaces == {}


@pytest.mark.parametrize(
    ("done", "command", "refusal", "error"),
    [
        ([DB], DB, "namespace 'db' is there already", NameExists),
        ([], PutNamespace(b"a\n", 1, 2, 0, False), r"namespace 'a\012' is not there", NoSuchName),
        ([], DropNamespace(b"db"), "namespace 'db' is not there", NoSuchName),
        ([], MemberOut("m", 1, "x"), "incarnation 1 of m is not known", InvalidRequest),
        (
            [came_in(1), MemberOut("provolone", 1, "fenced")],
            MemberOut("provolone", 1, "again"),
            "incarnation 1 of provolone is out: fenced",
            InvalidRequest,
        ),
        (
            [came_in(1), MemberOut("provolone", 1, "fenced")],
            came_in(1),
            "incarnation 1 of provolone is out: fenced",
            InvalidRequest,
        ),
        (
            [came_in(7)],
            came_in(6),
            "provolone has had incarnation 7 already: 6 is an old disk's",
            InvalidRequest,
        ),
    ],
)
def test_a_refusal_changes_nothing_and_has_its_errno(
    done: Sequence[Command], command: Command, refusal: str, error: type[Exception]
) -> None:
    state = after(*done)
    before = state.snapshot()
    assert state.apply(command) == refusal
    assert state.snapshot() == before
    assert type(commands.error_of(command, refusal)) is error


@pytest.mark.parametrize(
    ("later", "still_in"),
    [
        (came_in(2), [1, 2]),
        (came_in(2, cleared=True), [2]),
        (came_in(2, boot="next boot"), [2]),
        (came_in(2, boot="next boot", machine="another"), [1, 2]),
        (came_in(2, machine="another", cleared=True), [1, 2]),
        (came_in(2, boot=""), [1, 2]),
        (came_in(2, boot="next boot", machine=""), [1, 2]),
    ],
)
def test_a_new_life_confirms_the_end_of_an_older_one_only_with_proof(
    later: MemberIn, still_in: list[int]
) -> None:
    assert living(after(came_in(1), later)) == still_in


def test_unknown_machines_are_never_the_same() -> None:
    state = after(came_in(1, machine=""), came_in(2, "next boot", ""), came_in(3, "", "", True))
    assert living(state) == [1, 2, 3]


def test_several_lives_may_be_in_and_a_boot_ends_them_all() -> None:
    state = after(came_in(1), came_in(2), came_in(3, boot="other"))
    assert living(state) == [3]
    assert state.lives["provolone", 1].out == "its machine has booted since"
    assert not state.is_in("provolone", 2) and state.is_in("provolone", 3)


def test_a_life_that_is_in_may_say_later_that_it_has_cleared_up() -> None:
    state = after(came_in(1), came_in(2))
    assert living(state) == [1, 2]
    assert state.apply(came_in(2, cleared=True)) is None
    assert living(state) == [2]
    assert state.lives["provolone", 1].out == "its lock owners were seen gone"


def test_a_life_that_others_may_write_for_is_out_by_the_gate_alone() -> None:
    server = MemberIn("polishham", 5, "boot", "another", False)
    served = MemberServed("provolone", 1, "polishham", 5)
    state = after(came_in(1), server, served, served, came_in(2, cleared=True))
    assert living(state) == [1, 2]
    assert state.servers() == {("provolone", 1): {("polishham", 5)}}
    assert state.lives["provolone", 1].ended == "its lock owners were seen gone"
    again = State.restore(state.snapshot())
    assert again.lives == state.lives
    assert again.apply(MemberOut("provolone", 1, "its lock owners were seen gone")) is None
    assert living(again) == [2] and again.servers() == {}


def test_a_server_that_is_out_writes_for_nobody() -> None:
    server = MemberIn("polishham", 5, "boot", "another", False)
    served = MemberServed("provolone", 1, "polishham", 5)
    state = after(came_in(1), server, served, MemberOut("polishham", 5, "fenced"))
    assert state.apply(served) == "incarnation 5 of polishham is not in"
    assert state.apply(came_in(2, cleared=True)) is None
    assert living(state) == [2]


def test_another_member_on_the_same_machine_proves_nothing() -> None:
    state = after(came_in(1), MemberIn("polishham", 2, "next boot", "machine", True))
    assert state.living() == [("polishham", 2), ("provolone", 1)]


def test_only_finished_lives_are_forgotten_the_oldest_first() -> None:
    state = after(came_in(1, machine="of its own"))
    for life in range(2, 50):
        state.apply(came_in(life, f"boot {life}"))
    assert living(state) == [1, 49]
    out = [life for (_, life), record in state.lives.items() if record.out]
    assert out == list(range(49 - LIVES_OUT_KEPT, 49))


def test_a_command_is_applied_once_and_its_refusal_is_remembered() -> None:
    state = State()
    assert state.take(CommandId(1, 1, 1), DB) == (True, None)
    assert state.take(CommandId(1, 1, 2), DB) == (True, "namespace 'db' is there already")
    before = state.snapshot()
    assert state.take(CommandId(1, 1, 2), DropNamespace(b"db")) == (
        False,
        "namespace 'db' is there already",
    )
    assert state.take(CommandId(1, 1, 1), DropNamespace(b"db")) == (False, None)
    assert state.snapshot() == before


def test_ids_are_bounded_and_what_is_older_is_never_new() -> None:
    state = State()
    for counter in range(1, 1000):
        assert state.take(CommandId(1, 1, counter), DropNamespace(b"x"))[0]
    assert not state.take(CommandId(1, 1, 999 - ANSWERS_KEPT), DB)[0]
    for life in range(2, 100):
        assert state.take(CommandId(1, life, 1), DropNamespace(b"x"))[0]
    assert not state.take(CommandId(1, 99 - LIVES_ANSWERED, 2), DB)[0]
    assert state.take(CommandId(2, 1, 1), DB)[0]
    assert len(state.snapshot()) < 100 * ANSWERS_KEPT


def test_ids_out_of_their_order_within_what_may_be_under_way() -> None:
    state = State()
    assert state.take(CommandId(1, 1, ANSWERS_KEPT), DropNamespace(b"x"))[0]
    assert state.take(CommandId(1, 1, 1), DB) == (True, None)
    assert state.take(CommandId(1, 1, 1), DB) == (False, None)


words = st.text(max_size=5)
numbers = st.integers(0, 9)
paths = st.sampled_from([b"resources/a.cap", b"resources/b.cap", b"scripts/a.scr"])
records = st.builds(
    ResourceRecord,
    name=st.sampled_from("ab"),
    target=st.sampled_from(["ONLINE", "OFFLINE"]),
    state=st.sampled_from(["ONLINE", "OFFLINE", "UNKNOWN"]),
    changed_ns=numbers,
)
names = st.sampled_from([b"a", b"b", b""])
makers = st.none() | st.builds(Maker, st.sampled_from("ab"), numbers, numbers)
modes = st.sampled_from([stat.S_IFREG, stat.S_IFDIR, stat.S_IFDIR | stat.S_ISGID, stat.S_IFLNK])
any_command: st.SearchStrategy[Command] = st.one_of(
    st.builds(PutNamespace, st.binary(max_size=3), numbers, numbers, numbers, st.booleans()),
    st.builds(DropNamespace, st.binary(max_size=3)),
    st.builds(MemberIn, st.sampled_from("ab"), numbers, words, words, st.booleans()),
    st.builds(MemberOut, st.sampled_from("ab"), numbers, words),
    st.builds(MemberServed, st.sampled_from("ab"), numbers, st.sampled_from("ab"), numbers),
    st.builds(PutFile, paths, st.binary(max_size=3), *[numbers] * 4, st.booleans()),
    st.builds(WriteFile, numbers, st.binary(max_size=3), numbers),
    st.builds(ChangeFile, numbers, *[st.none() | numbers] * 4),
    st.builds(DropFile, paths, numbers),
    st.builds(MoveFile, paths, paths, st.booleans(), numbers),
    st.builds(Register, st.sampled_from("ab"), words, st.booleans()),
    st.builds(Unregister, st.sampled_from("ab")),
    st.builds(SaveResources, numbers, st.lists(records, max_size=3)),
    st.builds(SaveDrained, numbers, st.lists(words, max_size=2)),
    st.builds(MakeInode, numbers, names, modes, *[numbers] * 3, st.just(b"x"), makers),
    st.builds(LinkInode, numbers, numbers, names, numbers),
    st.builds(Unlink, numbers, names, st.booleans(), numbers),
    st.builds(Rename, numbers, names, numbers, names, st.integers(-1, 3), numbers),
    st.builds(WriteInode, numbers, st.integers(-2, 9), st.binary(max_size=3), numbers),
    st.builds(ChangeInode, *[numbers] * 2, *[st.none() | numbers] * 6, st.none() | st.booleans()),
    st.builds(DropMade, st.lists(numbers, max_size=3), numbers),
)


@given(st.lists(any_command, max_size=30), st.lists(any_command, max_size=10))
def test_a_restored_state_goes_on_as_the_one_it_was_taken_of(
    before: list[Command], later: list[Command]
) -> None:
    state = State()
    for counter, command in enumerate(before, 1):
        state.take(CommandId(1, 1, counter), command)
    restored = State.restore(state.snapshot())
    for counter, command in enumerate(later, 1):
        id = CommandId(2, 1, counter)
        assert state.take(id, command) == restored.take(id, command)
    assert restored.snapshot() == state.snapshot()


@given(any_command)
def test_a_command_comes_back_as_it_was_encoded(command: Command) -> None:
    id = CommandId(3, 2, 1)
    assert commands.decode(commands.encode(id, command)) == (id, command)


def test_what_is_no_command_or_of_a_later_version_is_refused() -> None:
    for data in (b"", b"\xc1", b"\x93\x01\x93\x01\x01\x01\x91\xa1x"):
        with pytest.raises(StateError, match="not a command"):
            commands.decode(data)
    later = msgspec.msgpack.encode((commands.VERSION + 1, (1, 1, 1), ("something new",)))
    with pytest.raises(StateError, match="of version 4, where this clufs knows up to 3"):
        commands.decode(later)


def test_what_is_no_snapshot_or_of_a_later_version_is_refused() -> None:
    with pytest.raises(StateError, match="not a snapshot"):
        State.restore(b"x")
    with pytest.raises(StateError, match="of version 4"):
        State.restore(msgspec.msgpack.encode((4, [], [], [])))


def test_a_snapshot_from_before_there_were_files_and_resources() -> None:
    state = State.restore(msgspec.msgpack.encode((1, [(b"db", (1, 2, 0o700))], [], [])))
    assert state.namespaces == {b"db": (1, 2, 0o700)}
    assert state.files == {} and state.resources == {}
