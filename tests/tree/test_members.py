"""The cluster as files: /clu/members, status/cluster, status/quorum, status/fencing."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable

import pytest
import trio

from clufs.cluster.gate import Told
from clufs.dlm.interface import Life
from clufs.dlm.node import Node
from clufs.errors import InvalidRequest, NoQuorum, NoSuchName
from clufs.tree.cluster import Cluster, FenceWord, MemberFacts, OneMember, Votes
from clufs.tree.items import NOBODY, Caller, Directory, File, Link
from clufs.tree.lock_tree import LockTree
from clufs.tree.member import Journals, Member
from clufs.tree.members import MembersDirectory
from clufs.tree.status import Facts

PROVOLONE = MemberFacts(1, "provolone", 1, "member", "10.77.0.1", 7788, "0.1.0", 9)
POLISHHAM = MemberFacts(2, "polishham", 2, "lost", "fd00::2", 7788, "0.1.0", 7)
PEPICELLI = MemberFacts(3, "pepicelli", 1, "down")


class Fake:
    """A cluster of three as `provolone` sees it."""

    name, engine, me = "cheese", "corosync", "provolone"

    def __init__(self) -> None:
        self.view = 12
        self.configured = [PROVOLONE, POLISHHAM, PEPICELLI]
        self.waiting = self.full = ""
        self.words: list[tuple[str, str, str]] = []

    def members(self) -> list[MemberFacts]:
        return self.configured

    def votes(self) -> Votes:
        return Votes(self.view > 0, 2, 4, 3)

    def waits_for(self) -> str:
        return self.waiting

    def disk_error(self) -> str:
        return self.full

    async def fence(self, member: str, word: FenceWord, by: str) -> None:
        await trio.lowlevel.checkpoint()
        if not self.view:
            raise NoQuorum("no quorum here")
        self.words.append((member, word, by))


@pytest.fixture
def journals() -> Journals:
    return Journals(Member("provolone", 9, "0.1.0"))


def locks() -> LockTree:
    class Store:
        def namespaces(self) -> list[tuple[bytes, int, int, int]]:
            return []

        async def put_namespace(
            self, name: bytes, uid: int, gid: int, mode: int, *, new: bool = False
        ) -> None:
            raise AssertionError("nobody makes a namespace here")

        async def drop_namespace(self, name: bytes) -> None:
            raise AssertionError("nobody removes a namespace here")

    node = Node("provolone", 9)
    return LockTree(node, Store(), lambda: 0.0, lambda: 0.0, lambda kind, space: None)


def members(cluster: Cluster, journals: Journals) -> MembersDirectory:
    return MembersDirectory(cluster, journals.fencing)


def file(directory: Directory, member: str, name: str) -> File:
    below = directory.find(member.encode())
    assert isinstance(below, Directory)
    found = below.find(name.encode())
    assert isinstance(found, File)
    return found


def shown(directory: Directory, member: str) -> dict[str, str]:
    below = directory.find(member.encode())
    assert isinstance(below, Directory)
    return {
        name.decode(): item.show(NOBODY).decode()
        for name, item in below.names()
        if isinstance(item, File)
    }


async def written(target: File, data: bytes, caller: Caller = NOBODY) -> None:
    done = target.store(data, caller)
    assert isinstance(done, Awaitable)
    await done


def test_every_configured_member_has_a_directory(journals: Journals) -> None:
    directory = members(Fake(), journals)
    assert shown(directory, "polishham") == {
        "id": "2\n",
        "state": "lost\n",
        "votes": "2\n",
        "address": "[fd00::2]:7788\n",
        "version": "0.1.0\n",
        "incarnation": "7\n",
        "fence": "",
    }
    assert shown(directory, "provolone")["address"] == "10.77.0.1:7788\n"
    down = shown(directory, "pepicelli")
    assert [down[key] for key in ("address", "version", "incarnation")] == ["-\n"] * 3
    own = directory.find(b"self")
    assert isinstance(own, Link) and own.target == b"provolone"
    assert [name for name, _ in directory.names()] == [
        b"self", b"provolone", b"polishham", b"pepicelli"
    ]  # fmt: skip


def test_the_directories_follow_the_configuration(journals: Journals) -> None:
    cluster = Fake()
    directory = members(cluster, journals)
    votes = file(directory, "pepicelli", "votes")
    kept = directory.find(b"provolone")
    m4 = MemberFacts(4, "m4", 1, "joining")
    cluster.configured = [PROVOLONE, dataclasses.replace(POLISHHAM, state="member"), m4]
    assert shown(directory, "m4")["state"] == "joining\n"
    assert shown(directory, "polishham")["state"] == "member\n"
    assert directory.find(b"pepicelli") is None
    assert b"pepicelli" not in dict(directory.names())
    assert directory.find(b"provolone") is kept
    with pytest.raises(NoSuchName):
        votes.show(NOBODY)


async def test_a_word_to_fence_is_passed_on_with_who_wrote_it(journals: Journals) -> None:
    cluster = Fake()
    fence = file(members(cluster, journals), "polishham", "fence")
    await written(fence, b"confirmed\n", Caller(7, 0, 0))
    await written(fence, b" off")
    assert cluster.words == [
        ("polishham", "confirmed", "uid 0 on provolone"),
        ("polishham", "off", "uid 0 on provolone"),
    ]
    cluster.view = 0
    with pytest.raises(NoQuorum):
        await written(fence, b"off\n")


@pytest.mark.parametrize("data", [b"OFF\n", b"on\n", b"off confirmed\n", b"off\noff\n", b"\n", b""])
def test_other_words_are_refused(journals: Journals, data: bytes) -> None:
    cluster = Fake()
    fence = file(members(cluster, journals), "polishham", "fence")
    with pytest.raises(InvalidRequest):
        fence.store(data, NOBODY)
    assert cluster.words == []


def test_only_root_may_write_to_fence(journals: Journals) -> None:
    attributes = file(members(Fake(), journals), "polishham", "fence").attributes(NOBODY)
    assert (attributes.mode & 0o7777, attributes.uid, attributes.gid) == (0o644, 0, 0)


def test_alone_nobody_is_fenced(journals: Journals) -> None:
    alone = OneMember(journals.member)
    fence = file(members(alone, journals), "provolone", "fence")
    for word in (b"off\n", b"confirmed\n"):
        with pytest.raises(InvalidRequest):
            fence.store(word, NOBODY)
    assert (alone.votes(), alone.waits_for()) == (Votes(True, 1, 1, 1), "")


def facts_of(show: bytes) -> dict[str, str]:
    return dict(line.split("=", 1) for line in show.decode().splitlines())


def test_the_report_of_quorum_says_what_is_awaited_only_while_something_is() -> None:
    journals = Journals(Member("provolone", 9, "0.1.0"))
    cluster = Fake()
    facts = Facts(journals.member, cluster, locks(), journals)
    assert facts.quorum(NOBODY) == (b"QUORATE=1\nVOTES=2\nEXPECTED_VOTES=4\nQUORUM=3\nVIEW=12\n")
    cluster.waiting = "fencing of polishham (incarnation 7): agent ipmi runs"
    cluster.view = 0
    shown = facts_of(facts.quorum(NOBODY))
    assert shown["WAITS_FOR"] == cluster.waiting
    assert (shown["QUORATE"], shown["VIEW"]) == ("0", "0")
    assert "DISK_FULL" not in shown
    cluster.full = "state directory /var/lib/clufs: database or disk is full"
    assert facts_of(facts.quorum(NOBODY))["DISK_FULL"] == cluster.full


def test_the_report_of_the_cluster_names_the_members_of_the_view() -> None:
    journals = Journals(Member("provolone", 9, "0.1.0"))
    cluster = Fake()
    cluster.configured = [PROVOLONE, POLISHHAM, dataclasses.replace(PEPICELLI, state="member")]
    facts = Facts(journals.member, cluster, locks(), journals)
    shown = facts_of(facts.about_cluster(NOBODY))
    assert shown.pop("STARTED")
    assert shown == {
        "NAME": "cheese",
        "MEMBER": "provolone",
        "ENGINE": "corosync",
        "VERSION": "0.1.0",
        "MEMBERS": "provolone pepicelli",
        "VIEW": "12",
    }


def test_what_the_gate_tells_is_an_event_a_log_line_and_what_fence_reads(
    journals: Journals,
) -> None:
    life = Life("polishham", 7)
    journals.fenced(Told(life, "ipmi", "begun", ""))
    journals.fenced(Told(life, "ipmi", "off", "exit status 0: power\tis off"))
    journals.fenced(Told(Life("pepicelli", 2), "-", "lost", "no agent is configured"))
    log = journals.fencing.show().decode().splitlines()
    assert [line.split(" ", 1)[1] for line in log] == [
        "polishham 7 ipmi begun",
        "polishham 7 ipmi off exit status 0: power\\011is off",
        "pepicelli 2 - lost no agent is configured",
    ]
    directory = members(Fake(), journals)
    assert shown(directory, "polishham")["fence"] == log[1] + "\n"
    events = journals.events.read(0, journals.events.end).decode().splitlines()
    assert [line.split(" ", 1)[1] for line in events[:1]] == [
        "fencing member=polishham incarnation=7 agent=ipmi result=begun"
    ]
    assert events[2].endswith(" result=lost why=no\\040agent\\040is\\040configured")
    assert all(line.isprintable() for line in events)
