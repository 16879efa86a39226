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
- A life that an installed view dropped is in no later view with anybody who installed that one.
  Each hello names the view that its sender installed last, and lives that it has seen dropped; from
  all hellos all members see who missed a view. That one is expelled, the view is formed without it.

A stopped process stays in corosync's group, but is silent. It is left out, always by messages that
all see in one order, so that all agree, itself too once it wakes up:

- In a round: who has waited too long says whose hello is missing. As soon as a majority of all votes
  says so of a process, and its hello has not come before that, the round completes without it.
- In a view: after a verdict (`verdict`) each member calls `expel`. The first message that follows
  from it begins the round again in the same configuration, without that process.
- Who was left out is named in hellos until the process has left the group, so that a joiner does
  not wait for it either.

A quorum disk has votes and no process: the member that holds it is its voice (`voice`), and vouches for
it once the number is on it, too. Where two majorities share nothing but the disk, it is the disk that
knows: it vouches for a number that is above all that it has vouched for, or for the same in the very
same round, under its next voice. Else its voice begins the round again, above what the disk knows.
Nobody waits for the disk where members alone have the majority.
"""

from __future__ import annotations

from collections.abc import Iterable

from clufs.cluster.disk_part import DiskPart
from clufs.cluster.formation_effects import (
    DiskStore,
    Effect,
    Expelled,
    Install,
    Multicast,
    Say,
    Self,
    Store,
    Suspend,
)  # fmt: skip
from clufs.cluster.formation_messages import (
    DISK_SINCE,
    OLDEST,
    VERSION,
    Again,
    Anew,
    DiskGone,
    DiskHere,
    DiskVouched,
    Hello,
    Lives,
    Message,
    Missed,
    Round,
    Said,
    Vouched,
    pack,
    unpack,
)
from clufs.cluster.interface import (
    Delivered,
    EngineLost,
    GroupChanged,
    Peer,
    QuorumChanged,
    Report,
    View,
)
from clufs.cluster.voice import DISK_ID
from clufs.limits import HELD_SAID_MAX_BYTES, MESSAGE_COST_BYTES
from clufs.timeouts import HELLO_LATE_S

__all__ = (
    "DiskStore", "Effect", "Expelled", "Formation", "Install", "Multicast", "Say", "Self", "Store", "Suspend",
)  # fmt: skip


class Formation:
    """One member's part. Every method returns effects, to be carried out in their order."""

    def __init__(
        self,
        me: Self,
        peers: tuple[Peer, ...],
        highest: int,
        hello_late_s: float = HELLO_LATE_S,
        disk_votes: int = 0,
    ) -> None:
        """highest: the highest view number on this member's disk, 0 if none.

        disk_votes: of the quorum disk, 0 if there is none.
        """
        self.me = me
        self.disk_votes = disk_votes
        self._oldest = DISK_SINCE if disk_votes else OLDEST
        self.disk = DiskPart(me.peer.id)
        self._hello_late_s = hello_late_s
        self.peers = {peer.id: peer for peer in peers}
        self.highest = highest
        self.view: View | None = None
        self.dropped = 0
        self._last: tuple[int, Lives] = (0, ())
        self._gone: dict[int, int] = {}  # lives seen in views and not in the last
        self._left_out: set[tuple[int, int]] = set()
        self._round: Round | None = None
        self._quorum: QuorumChanged | None = None
        self._finished = False
        self._begin()

    def _begin(self) -> None:
        self._hellos: dict[int, Hello] = {}
        self._missed: dict[int, set[int]] = {}  # who misses the hello of a member
        self._waits_since: float | None = None
        self._has_complained = False
        self._number = 0
        self._members: Lives = ()  # of the view to come, once the number is known
        self._vouched: set[int] = set()
        self._held: list[Say] = []
        self._held_bytes = 0

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
                return self._expelled(report.why)

    def stored(self, number: int) -> list[Effect]:
        """The number of a Store is on disk."""
        self.highest = max(self.highest, number)
        if self._finished or self._round is None or number != self._number:
            return []
        return [_multicast(Vouched(self._round, number))]

    def tick(self, now: float) -> list[Effect]:
        """It is `now`, on any clock that only grows; called about every KEEPALIVE_S."""
        if self._finished or self._round is None or self._number:
            return []
        if self._waits_since is None:
            self._waits_since = now
        missing = self._missing()
        if not missing or self._has_complained or now - self._waits_since < self._hello_late_s:
            return []
        self._has_complained = True
        return [_multicast(Missed(self._round, tuple(missing)))]

    def say(self, body: bytes) -> list[Effect]:
        """Send to all members of the installed view. Raises ValueError while there is none."""
        if self.view is None:
            raise ValueError("no view is installed")
        return [_multicast(Said(self.view.number, body))]

    def expel(self, member: int) -> list[Effect]:
        """A verdict was given against a member, in the view's order: go on without it.

        If it is this one, it is expelled.
        """
        if self._finished or self._round is None:
            return []
        if member == self.me.peer.id:
            return self._expelled("the others hear nothing of this member")
        again = _multicast(Again(self._round, member))
        self._leave_out([member])
        return [again]

    # ------------------------------------------------- the quorum disk

    @property
    def round(self) -> Round | None:
        """The present round; None before the engine has told of a group, and at the end."""
        return None if self._finished else self._round

    @property
    def caster(self) -> int | None:
        """Who holds the disk that votes in this ring; None while it does not.

        It votes from when it vouched in the ring, through all rounds of it, until it is let go of or
        its holder is no member any more.
        """
        found = self.disk.caster
        if self.round is None or found not in set(self.round[1]) - self._left_out:
            return None
        return found[0] if found else None

    def rank(self, last: int) -> int | None:
        """Whose turn it is to take the disk, from 0; None where even with it there is no majority.

        last: a member whose turn comes after all others'.
        """
        left_out, me = dict(self._left_out), self.me.peer.id
        ids = [one for one in self._ids() if one not in left_out]
        if self._finished or not self._is_majority({DISK_ID, *ids}) or me not in ids:
            return None
        return sorted(ids, key=lambda one: (one == last, one)).index(me)

    def disk_held(self, ballot: int) -> list[Effect]:
        """This member holds the disk from now on, until disk_dropped()."""
        self.disk.ballot = ballot
        return [_multicast(DiskHere(self.round, ballot))] if self.round else []

    def disk_dropped(self) -> list[Effect]:
        """This member holds the disk no more."""
        gone = self.disk.drop()
        return [_multicast(DiskGone(self.round, gone))] if self.round else []

    def disk_stored(self, number: int, round: Round) -> list[Effect]:
        """The number of a DiskStore is on the disk, for that round."""
        if round != self.round or number != self._number or not self.disk.ballot:
            return []
        return [_multicast(DiskVouched(round, number, self.disk.ballot))]

    def anew(self, above: int) -> list[Effect]:
        """Have the round begin again, for a number above this one, for the sake of the disk."""
        self.highest = max(self.highest, above)
        return [_multicast(Anew(self.round))] if self.round else []

    def _ask_disk(self) -> list[Effect]:
        if self._round is None or not self._number or not self.disk.asks():
            return []
        return [DiskStore(self._number, self._round, self._members)]

    def _of_disk(self, sender: int, message: DiskHere | DiskGone | DiskVouched) -> list[Effect]:
        if not self.disk.said(sender, message):
            return []
        if isinstance(message, DiskHere):
            return self._ask_disk() if self._number else self._count_missed()
        if isinstance(message, DiskVouched) and message.number == self._number:
            self._vouched.add(DISK_ID)
            return self._try()
        return []

    # ------------------------------------------------- what is awaited

    def waits_for(self) -> str:
        """What the next view waits for, as a sentence; empty if one is installed."""
        if self.view is not None:
            return ""
        if self._round is None:
            return "corosync's group"
        members = self._ids()
        if len(set(members)) != len(members):
            return "the second clufsd on one machine to end"
        if missing := [self._name(one) for one in self._missing()]:
            return f"the hello of {' '.join(missing)}"
        if others := [one.name for one in self._hellos.values() if not self._understands(one)]:
            return f"{' '.join(others)} to run a version that speaks formation {VERSION}"
        if others := [
            one.name for one in self._hellos.values() if one.disk_votes != self.disk_votes
        ]:
            return f"{' '.join(others)} to have quorum.device.votes {self.disk_votes}, as here"
        if not self._is_majority(self._vouched):
            return f"a majority of the votes{self._unheard()}"
        return "corosync's quorum"

    def _unheard(self) -> str:
        """Who is not in the view to come, and why."""
        ids = self._ids()
        absent = [self._name(one) for one in self.peers if one not in ids]
        names = [self._name(one) for one in ids if one not in dict(self._members)]
        said = f"; not heard of: {' '.join(absent)}" if absent else ""
        if self.disk_votes and DISK_ID not in self._vouched:
            said += "; the quorum disk has not vouched"
        return said + (f"; expelled, to join anew: {' '.join(names)}" if names else "")

    # ------------------------------------------------- the round

    def _ids(self) -> list[int]:
        return [one for one, _ in self._round[1]] if self._round else []

    def _name(self, one: int) -> str:
        return self.peers[one].name if one in self.peers else f"node {one}"

    def _missing(self) -> list[int]:
        """The members whose hello is awaited."""
        left_out = dict(self._left_out)
        return [one for one in self._ids() if one not in self._hellos and one not in left_out]

    def _group_changed(self, report: GroupChanged) -> list[Effect]:
        if self._round is not None and self._round[:2] == (report.ring, report.members):
            return []
        self._left_out &= set(report.members)
        if self._round is None or self._round[0] != report.ring:
            self.disk.caster = None
        return self._begin_round((report.ring, report.members, 0), "the group has changed")

    def _begin_round(self, begun: Round, why: str) -> list[Effect]:
        self._round = begun
        self._begin()
        self.disk.begin()
        me = self.me
        hello = Hello(
            VERSION,
            begun,
            me.peer.name,
            me.incarnation,
            self.highest,
            me.peer.address,
            me.port,
            self._last,
            tuple(sorted(self._gone.items())),
            tuple(sorted(self._left_out)),
            self._oldest,
            self.disk_votes,
        )
        again = self.disk_held(self.disk.ballot) if self.disk.ballot else []
        return [*self._suspend(why), _multicast(hello), *again]

    def _suspend(self, why: str) -> list[Effect]:
        if self.view is None:
            return []
        self.view = None
        return [Suspend(why)]

    def _expelled(self, why: str) -> list[Effect]:
        self._finished = True
        return [*self._suspend(why), Expelled(why)]

    def _leave_out(self, members: Iterable[int]) -> None:
        assert self._round is not None
        self._left_out |= {process for process in self._round[1] if process[0] in members}

    def _delivered(self, report: Delivered) -> list[Effect]:
        message = unpack(report.data)
        if message is None:
            self.dropped += 1
            return []
        if isinstance(message, Said):
            return self._said(Say(report.sender, message.body), message.number)
        if message.round != self._round or report.sender not in self._ids():
            self.dropped += 1
            return []
        match message:
            case Hello():
                return self._hello(report.sender, message)
            case Missed():
                return self._miss(report.sender, message)
            case Again():
                return self._again(message)
            case Vouched():
                return self._vouch(report.sender, message)
            case Anew():
                ring, group, begun = message.round
                why = "the quorum disk needs a later view"
                return self._begin_round((ring, group, begun + 1), why)
            case _:
                return self._of_disk(report.sender, message)

    def _hello(self, sender: int, hello: Hello) -> list[Effect]:
        # After the round is complete a hello is of one that was left out.
        if sender in self._hellos or self._number:
            self.dropped += 1
            return []
        self._hellos[sender] = hello
        self._left_out |= set(hello.left_out) & set(hello.round[1])
        return self._complete()

    def _miss(self, sender: int, message: Missed) -> list[Effect]:
        if sender not in self._hellos or self._number:
            self.dropped += 1
            return []
        for one in message.members:
            self._missed.setdefault(one, set()).add(sender)
        return self._count_missed()

    def _count_missed(self) -> list[Effect]:
        for one, who in self._missed.items():
            if one not in self._hellos and self._is_majority(self.disk.voice.joins(who)):
                self._leave_out([one])
        return self._complete()

    def _again(self, message: Again) -> list[Effect]:
        assert self._round is not None
        self._leave_out([message.member])
        if message.member == self.me.peer.id:
            return self._expelled("the others hear nothing of this member")
        ring, group, begun = self._round
        why = f"{self._name(message.member)} is expelled: nothing is heard of it"
        return self._begin_round((ring, group, begun + 1), why)

    def _complete(self) -> list[Effect]:
        """Go on to the number of the view if every hello that is awaited is there."""
        ids = self._ids()
        if self.me.peer.id in dict(self._left_out):
            return self._expelled("the others went on without this member: it said nothing")
        if self._missing() or len(set(ids)) != len(ids) or not self._all_known():
            return []
        hellos = self._hellos
        newest, dropped = self._dropped()
        if self.me.peer.id in dropped:
            return self._expelled(f"this member missed view {newest}")
        out = dropped | dict(self._left_out).keys()
        self._members = tuple(
            sorted((one, hello.incarnation) for one, hello in hellos.items() if one not in out)
        )
        self._number = max(one.highest for one in hellos.values()) + 1
        return [Store(self._number), *self._ask_disk()]

    def _all_known(self) -> bool:
        return all(
            self._understands(hello)
            and hello.name == self._name(one)
            and hello.disk_votes == self.disk_votes
            for one, hello in self._hellos.items()
        )

    def _understands(self, hello: Hello) -> bool:
        return hello.oldest <= VERSION and hello.version >= self._oldest

    def _dropped(self) -> tuple[int, set[int]]:
        """The number of the newest view that anybody has installed, and who missed it."""
        hellos = self._hellos
        number, members = max(hello.last for hello in hellos.values())
        gone = {life for hello in hellos.values() for life in (*hello.last[1], *hello.dropped)}
        lives = {(one, hello.incarnation) for one, hello in hellos.items()}
        return number, {one for one, _ in lives & gone - set(members)}

    def _vouch(self, sender: int, message: Vouched) -> list[Effect]:
        # Before the last hello nobody can know the number, so there is nothing to vouch for.
        if not self._number or message.number != self._number or sender not in dict(self._members):
            self.dropped += 1
            return []
        self._vouched.add(sender)
        return self._try()

    def _is_majority(self, members: Iterable[int]) -> bool:
        """Whether these, maybe with the disk, have more than half of all configured votes.

        Counted here, whatever corosync's expected votes have been lowered to.
        """
        votes = {one: peer.votes for one, peer in self.peers.items()} | {DISK_ID: self.disk_votes}
        return 2 * sum(votes.get(one, 0) for one in members) > sum(votes.values())

    def _quorate(self) -> bool:
        quorum = self._quorum
        here = quorum is not None and self._round is not None and quorum.ring == self._round[0]
        return here and quorum is not None and quorum.quorate

    # ------------------------------------------------- the view

    def _try(self) -> list[Effect]:
        if not self._quorate():
            return self._suspend("quorum is gone")
        if self.view is not None or not self._is_majority(self._vouched):
            return []
        self.view = View(self._number, self._members, quorate=True)
        self._remember()
        hellos = self._hellos
        streams = {one: (hellos[one].address, hellos[one].port) for one, _ in self._members}
        held = self._held
        self._held, self._held_bytes = [], 0
        return [Install(self.view, streams), *held]

    def _remember(self) -> None:
        """Keep for later hellos who is in the view, and who was seen in earlier ones."""
        for _, lives, gone in sorted(
            (h.last[0], h.last[1], h.dropped) for h in self._hellos.values()
        ):
            self._gone.update(gone)
            self._gone.update(lives)
        self._last = (self._number, self._members)
        for one, _ in self._members:
            self._gone.pop(one, None)

    def _said(self, say: Say, number: int) -> list[Effect]:
        """Deliver, keep for a view that others have installed a moment before, or drop."""
        if self.view is not None and number == self.view.number:
            return [say]
        if not number or number != self._number:
            self.dropped += 1
            return []
        self._held.append(say)
        self._held_bytes += len(say.body) + MESSAGE_COST_BYTES
        if self._held_bytes > HELD_SAID_MAX_BYTES:
            return self._expelled("too much was said in a view that this member has not installed")
        return []


def _multicast(message: Message) -> Multicast:
    return Multicast(pack(message))
