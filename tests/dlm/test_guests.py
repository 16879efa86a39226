"""What a report can say of an owner at another member."""

from __future__ import annotations

from typing import Any

from clufs.dlm.guests import Guest
from clufs.dlm.interface import Life
from tests.dlm.cluster import MEMBERS, Cluster
from tests.dlm.cluster_of_one import Person

A, B, C = MEMBERS


class Process(Person):
    __slots__ = ()

    @property
    def pid(self) -> int:
        return 4711

    @property
    def command(self) -> str:
        return "backup.sh"


def test_a_guest_is_named_as_its_home_names_it() -> None:
    cluster = Cluster()
    cluster.says(A, "p", "PR")
    cluster.settle()
    cluster.people[B, "q"] = Process("q@b")
    cluster.says(B, "q", "PR")
    cluster.says(C, "r", "PR")
    cluster.settle()
    own, known, other = (lock.owner for lock in cluster.nodes[A].blocks[b"db/x"].granted)
    guests: list[Any] = [known, other]
    guests.sort(key=lambda guest: guest.pid)
    assert (own.pid, own.command) == (0, "-")
    assert all(type(guest) is Guest and not guest.is_above(own) for guest in guests)
    assert [(guest.member, guest.pid, guest.command) for guest in guests] == [
        (C, 0, "-"),
        (B, 4711, "backup.sh"),
    ]
    assert guests[1].life == Life(B, 7)
