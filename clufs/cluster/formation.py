"""How a view comes to be: pure. It takes what the engine reports and yields what is to be done.

A round is one configuration of the group: its ring and its processes. In each round every member
says hello; when all have, the view's number is one more than the highest that any of them has on
disk; each puts it on disk and vouches for it; when those who vouched have a majority of all
configured votes, and corosync says quorate about this very ring, the view is installed.

- Two views never have one number: two majorities share a member, and what that member vouched for
  in the earlier round is in its hello of the later one.
- All members of a view agree on it: hellos and vouchers come in one order, and one of another
  round is dropped.
- A message sent in a view is delivered in that view or never.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from clufs.cluster.interface import (
    Delivered,
    EngineLost,
    GroupChanged,
    Peer,
    QuorumChanged,
    Report,
    RingId,
    View,
)

VERSION = 1
"""The version of these messages. Members of different versions form no view with each other."""

Round: TypeAlias = tuple[RingId, tuple[tuple[int, int], ...]]


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    """Who a member is in this round. highest: the highest view number that it has on disk."""

    version: int
    round: Round
    name: str
    incarnation: int
    highest: int
    address: str
    port: int


class Vouched(msgspec.Struct, frozen=True, array_like=True, tag="vouched"):
    """The sender has the number on disk."""

    round: Round
    number: int


class Said(msgspec.Struct, frozen=True, array_like=True, tag="said"):
    """What the rooms above send in a view."""

    number: int
    body: bytes


class Goodbye(msgspec.Struct, frozen=True, array_like=True, tag="goodbye"):
    """The sender has let everything go and will not come back under this incarnation."""

    incarnation: int


_Message: TypeAlias = Hello | Vouched | Said | Goodbye
_decoder = msgspec.msgpack.Decoder(_Message)


# ------------------------------------------------- what is to be done


@dataclass(frozen=True, slots=True)
class Multicast:
    """Send through the engine."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Store:
    """Put the number on disk, then call stored() with it."""

    number: int


@dataclass(frozen=True, slots=True)
class Suspend:
    """The view that was installed holds no more: nothing may be granted until Install."""

    why: str


@dataclass(frozen=True, slots=True)
class Install:
    """The view holds from now on. After a quorum that went and came it may be the one before.

    streams: peer id -> (address, port) of each member's streams.
    """

    view: View
    streams: dict[int, tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Lost:
    """A member of the view before that is gone, with no goodbye: (peer id, incarnation)."""

    member: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Say:
    """Something said in the installed view."""

    sender: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Expelled:
    """The engine is gone. This formation is finished."""

    why: str


Effect = Multicast | Store | Suspend | Install | Lost | Say | Expelled


@dataclass(frozen=True, slots=True)
class Self:
    """What a member says of itself."""

    peer: Peer
    incarnation: int
    port: int


class Formation:
    """One member's part. Every method returns effects, to be carried out in their order."""

    def __init__(self, me: Self, peers: tuple[Peer, ...], highest: int) -> None:
        """highest: the highest view number on this member's disk, 0 if none."""
        self.me = me
        self.peers = {peer.id: peer for peer in peers}
        self.highest = highest
        self.view: View | None = None
        self.dropped = 0
        self._last: View | None = None
        self._round: Round | None = None
        self._quorum: QuorumChanged | None = None
        self._finished = False
        self._goodbyes: set[tuple[int, int]] = set()
        self._begin()

    def _begin(self) -> None:
        self._hellos: dict[int, Hello] = {}
        self._number = 0
        self._vouched: set[int] = set()
        self._held: list[Say] = []

    # ------------------------------------------------- events

    def report(self, report: Report) -> list[Effect]:
        """Take what the engine tells."""
        if self._finished:
            return []
        match report:
            case GroupChanged():
                return self._group_changed(report)
            case QuorumChanged():
                self._quorum = report
                return self._try()
            case Delivered():
                return self._delivered(report)
            case EngineLost():
                self._finished = True
                return [*self._suspend(report.why), Expelled(report.why)]

    def stored(self, number: int) -> list[Effect]:
        """The number of a Store is on disk."""
        self.highest = max(self.highest, number)
        if self._finished or self._round is None or number != self._number:
            return []
        return [_multicast(Vouched(self._round, number))]

    def say(self, body: bytes) -> list[Effect]:
        """Send to all members of the installed view. Raises ValueError while there is none."""
        if self.view is None:
            raise ValueError("no view is installed")
        return [_multicast(Said(self.view.number, body))]

    def goodbye(self) -> list[Effect]:
        """Tell the others, in order, that this incarnation is finished and holds nothing."""
        return [_multicast(Goodbye(self.me.incarnation))]

    def waits_for(self) -> str:
        """What the next view waits for, as a sentence; empty if one is installed."""
        if self.view is not None:
            return ""
        if self._round is None:
            return "corosync's group"
        members = self._ids()
        if len(set(members)) != len(members):
            return "the second clufsd on one machine to end"
        if missing := [self._name(one) for one in members if one not in self._hellos]:
            return f"the hello of {' '.join(missing)}"
        if others := [one.name for one in self._hellos.values() if one.version != VERSION]:
            return f"{' '.join(others)} to run a version that speaks formation {VERSION}"
        if not self._is_majority():
            names = [self._name(one) for one in self.peers if one not in self._vouched]
            return f"a majority of the votes; not heard of: {' '.join(names)}"
        return "corosync's quorum"

    # ------------------------------------------------- the round

    def _ids(self) -> list[int]:
        return [one for one, _ in self._round[1]] if self._round else []

    def _name(self, one: int) -> str:
        return self.peers[one].name if one in self.peers else f"node {one}"

    def _group_changed(self, report: GroupChanged) -> list[Effect]:
        changed: Round = (report.ring, report.members)
        if changed == self._round:
            return []
        self._round = changed
        self._begin()
        me = self.me
        hello = Hello(
            VERSION,
            changed,
            me.peer.name,
            me.incarnation,
            self.highest,
            me.peer.address,
            me.port,
        )
        return [*self._suspend("the group has changed"), _multicast(hello)]

    def _suspend(self, why: str) -> list[Effect]:
        if self.view is None:
            return []
        self.view = None
        return [Suspend(why)]

    def _delivered(self, report: Delivered) -> list[Effect]:
        try:
            message: _Message = _decoder.decode(report.data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.dropped += 1
            return []
        match message:
            case Hello():
                return self._hello(report.sender, message)
            case Vouched():
                return self._vouch(report.sender, message)
            case Said():
                return self._said(Say(report.sender, message.body), message.number)
            case Goodbye():
                self._goodbyes.add((report.sender, message.incarnation))
                return []

    def _hello(self, sender: int, hello: Hello) -> list[Effect]:
        if hello.round != self._round or sender in self._hellos or sender not in self._ids():
            self.dropped += 1
            return []
        self._hellos[sender] = hello
        if not self._all_said_hello():
            return []
        self._number = max(one.highest for one in self._hellos.values()) + 1
        return [Store(self._number)]

    def _all_said_hello(self) -> bool:
        ids = self._ids()
        known = all(
            one in self._hellos
            and self._hellos[one].version == VERSION
            and self._hellos[one].name == self._name(one)
            for one in ids
        )
        return known and len(set(ids)) == len(ids)

    def _vouch(self, sender: int, message: Vouched) -> list[Effect]:
        # Before the last hello nobody can know the number, so there is nothing to vouch for.
        if message.round != self._round or not self._number or message.number != self._number:
            self.dropped += 1
            return []
        self._vouched.add(sender)
        return self._try()

    def _is_majority(self) -> bool:
        """Whether those who vouched have more than half of all configured votes.

        Counted here, whatever corosync's expected votes have been lowered to.
        """
        total = sum(peer.votes for peer in self.peers.values())
        return 2 * sum(self.peers[one].votes for one in self._vouched if one in self.peers) > total

    def _quorate(self) -> bool:
        quorum = self._quorum
        here = quorum is not None and self._round is not None and quorum.ring == self._round[0]
        return here and quorum is not None and quorum.quorate

    def _try(self) -> list[Effect]:
        if not self._quorate():
            return self._suspend("quorum is gone")
        if self.view is not None or not self._is_majority():
            return []
        members = tuple(sorted((one, h.incarnation) for one, h in self._hellos.items()))
        view = View(self._number, members, quorate=True)
        before = self._last.members if self._last else ()
        lost = [Lost(one) for one in before if one not in members and one not in self._goodbyes]
        self.view = self._last = view
        self._goodbyes -= set(before)
        streams = {one: (h.address, h.port) for one, h in self._hellos.items()}
        held, self._held = self._held, []
        return [*lost, Install(view, streams), *held]

    def _said(self, say: Say, number: int) -> list[Effect]:
        """Deliver, keep for a view that others have installed a moment before, or drop."""
        if self.view is not None and number == self.view.number:
            return [say]
        if number and number == self._number:
            self._held.append(say)
        else:
            self.dropped += 1
        return []


def _multicast(message: _Message) -> Multicast:
    return Multicast(msgspec.msgpack.encode(message))
