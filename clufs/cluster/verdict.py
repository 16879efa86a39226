"""Which member goes when streams inside a view are silent: pure, the same on every member.

A stream is no membership: corosync does not see a stopped clufsd, or one dead path. Who hears
nothing of a member says so in the view's order, at once. That opens an inquiry: everybody says
anew whenever what it hears changes, and once more, for the record, after VERDICT_AFTER_S, also who
hears everybody. When those who are on record have a majority of all configured votes, the verdict is
given at that message, from what each said last; all members come to the same one, as all see
the same messages in the same order.

Two members are parted if either has not heard the other. As long as any two are, the one that is
parted from most goes: so who hears nobody, or is heard by nobody, is the one. Among equals it is the one
of whom more others complain, then the one with fewer votes, then the one with the higher id. Nobody
goes whom the rest needs for its majority of votes: then the next goes, or none and they stay as they are.

Who speaks for a quorum disk brings its votes along: to what is on record, and to those who stay.

What it cannot know: a member that answers on its streams and does nothing else is reachable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from clufs.cluster.voice import DISK_ID
from clufs.timeouts import VERDICT_AFTER_S


class _Heard(msgspec.Struct, frozen=True, array_like=True):
    """Whom the sender does not hear. inquiry: how many it has seen closed in this view."""

    inquiry: int
    for_the_record: bool
    silent: tuple[int, ...]


_decoder = msgspec.msgpack.Decoder(_Heard)


# ------------------------------------------------- what is to be done


@dataclass(frozen=True, slots=True)
class Report:
    """Say it in the view, to all members."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Expel:
    """Every member calls the formation's `expel`, also the one that it is about."""

    member: int


Effect = Report | Expel


class Verdict:
    """One member's part. Every method returns effects, to be carried out in their order."""

    def __init__(self, me: int, votes: Mapping[int, int]) -> None:
        """votes: of every configured member, by id, and of the quorum disk."""
        self._me = me
        self._votes = dict(votes)
        self._number = 0
        self._begin(())

    def _begin(self, members: Iterable[int]) -> None:
        self._members = frozenset(members)
        self._said: dict[int, frozenset[int]] = {}
        self._told: frozenset[int] = frozenset()  # what this member said last
        self._voice = DISK_ID  # who speaks for the disk: nobody yet
        self._closed = 0  # inquiries
        self._close()
        self._closed = 0

    def _close(self) -> None:
        self._closed += 1
        self._open = False
        self._since: float | None = None
        self._is_recorded = False
        self._record: set[int] = set()

    # ------------------------------------------------- events

    def installed(self, number: int, members: Iterable[int]) -> None:
        """A view was installed: what was said in another one counts no more."""
        # A view that comes back with the quorum goes on where it was: its messages have one order,
        # quorum has no place in it.
        if number != self._number:
            self._number = number
            self._begin(members)

    def silent(self, now: float, ids: Iterable[int]) -> list[Effect]:
        """These members are silent now; called about every KEEPALIVE_S in a view, also with none."""
        found = frozenset(ids) & self._members - {self._me}
        if self._open and self._since is None:
            self._since = now
        if (
            self._since is not None
            and now - self._since >= VERDICT_AFTER_S
            and not self._is_recorded
        ):
            self._is_recorded = True
            return self._tell(found, for_the_record=True)
        return self._tell(found, for_the_record=False) if found != self._told else []

    def said(self, sender: int, body: bytes) -> list[Effect]:
        """A member said this in the view, which is installed here. Garbage is dropped."""
        try:
            heard = _decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return []
        if sender not in self._members:
            return []
        silent = frozenset(heard.silent) & self._members - {sender}
        changed = silent != self._said.get(sender, frozenset())
        self._said[sender] = silent
        # What is known and could not be mended is no reason to ask once more.
        self._open = self._open or (changed and bool(silent))
        if self._open and heard.for_the_record and heard.inquiry == self._closed:
            self._record.add(sender)
        return self._judge()

    def voice(self, member: int) -> list[Effect]:
        """From this place in the view's order on, this member speaks for the quorum disk."""
        self._voice = member
        return self._judge()

    def _judge(self) -> list[Effect]:
        if not self._has_majority(self._record):
            return []
        self._close()
        verdict = self._verdict()
        # They are as good as gone: what is said from now on is about the others.
        self._members = self._members.difference(verdict)
        self._said = {
            one: self._said[one] & self._members for one in self._said.keys() & self._members
        }
        return [Expel(member) for member in verdict]

    def _tell(self, silent: frozenset[int], *, for_the_record: bool) -> list[Effect]:
        self._told = silent
        heard = _Heard(self._closed, for_the_record, tuple(sorted(silent)))
        return [Report(msgspec.msgpack.encode(heard))]

    # ------------------------------------------------- the verdict

    def _has_majority(self, members: Iterable[int]) -> bool:
        """Whether these, with the disk if one speaks for it, have more than half of all votes."""
        found = set(members)
        found |= {DISK_ID} if self._voice in found else set()
        return 2 * sum(self._votes.get(one, 0) for one in found) > sum(self._votes.values())

    def _verdict(self) -> list[int]:
        """Who goes, in this order."""
        left = set(self._members)
        expelled: list[int] = []
        while (member := self._worst(left)) is not None:
            left.discard(member)
            expelled.append(member)
        return expelled

    def _worst(self, left: set[int]) -> int | None:
        """Who goes next if only `left` are in the view; None if nobody need or can go."""
        parted = {one: self._parted(one, left) for one in left}
        able = [one for one in left if parted[one] and self._has_majority(left - {one})]
        if not able:
            return None

        def badness(one: int) -> tuple[int, int, int, int]:
            complaints = sum(one in self._said.get(other, ()) for other in left)
            return len(parted[one]), complaints, -self._votes.get(one, 0), one

        return max(able, key=badness)

    def _parted(self, one: int, left: set[int]) -> set[int]:
        """Of whom `one` is parted, among `left`."""
        own = self._said.get(one, frozenset())
        return {other for other in left if other in own or one in self._said.get(other, ())}
