"""Replicas on one ordered multicast that breaks as a ring does, each with a disk; all from one seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from clufs.registry.commands import Command, CommandId, Entry
from clufs.registry.log import Stored, Write
from clufs.registry.messages import Answered, Applied, Effect, GaveUp, Restored, Say, Synced
from clufs.registry.replica import Replica
from clufs.registry.state import State


@dataclass
class Ring:
    """One view: its messages in their order."""

    view: int
    members: tuple[int, ...]
    promised: int  # the last index that was answered before it
    order: list[tuple[int, bytes]] = field(default_factory=list)


@dataclass
class Member:
    """One life: its replica, the ring that it is on, and what is under way."""

    replica: Replica
    ring: Ring | None = None
    suspended: bool = True
    delivered: int = 0
    sending: list[bytes] = field(default_factory=list)
    write: Write | None = None


class Cluster:
    """Members 1 to N. Checks, with every effect, what must hold always.

    truth: every entry that any member applied, by index: all must apply the same.
    promised: refusals by id, of all that was answered.
    eager: what a member proposes as soon as it is told something, before it does what else was to be done.
    """

    def __init__(self, votes: Sequence[int], seed: int = 0) -> None:
        self.random = Random(seed)
        self.votes = dict(enumerate(votes, 1))
        self.disks = {one: Stored(token=b"disk %d" % one) for one in self.votes}
        self.full: dict[int, bool] = dict.fromkeys(self.votes, False)
        self.stuck: dict[int, bool] = dict.fromkeys(self.votes, False)
        self.lives = dict.fromkeys(self.votes, 0)
        self.up: dict[int, Member] = {}
        self.view = 0
        self.truth: dict[int, Entry] = {}
        self.applied: dict[CommandId, int] = {}
        self.states: dict[int, bytes] = {0: State().snapshot()}
        self.promised: dict[CommandId, str | None] = {}
        self.given_up: dict[CommandId, str] = {}
        self.eager: dict[int, Command] = {}
        self.told: dict[int, list[Effect]] = defaultdict(list)
        self.acked: dict[int, int] = {}

    # ------------------------------------------------- what happens to members

    def start(self, one: int) -> None:
        self.lives[one] += 1
        replica = Replica(one, self.votes, self.disks[one], self.lives[one])
        self.up[one] = Member(replica)
        self.check_state(replica)

    def crash(self, one: int, written: bool | None = None) -> None:
        """Its process or its power is gone: a write under way is on disk, or is not."""
        member = self.up.pop(one)
        if written is None:
            written = self.random.random() < 0.5
        if member.write is not None and written:
            self.disks[one] = self.disks[one].after(member.write)

    def part(self, *sides: Sequence[int]) -> None:
        """The ring breaks: each side delivers its last messages, and has a view if it has quorum.

        What one of a side has, all of it get; beyond, only what its own members sent. Whatever they
        say of that is of a view that is over.
        """
        ends: dict[int, list[tuple[int, bytes]]] = {}
        for side in sides:
            self._last_of(side, ends)
        for side in sides:
            self._end_rings(side, ends)
            if self._quorate(side):
                self._install(side)

    def _last_of(self, side: Sequence[int], ends: dict[int, list[tuple[int, bytes]]]) -> None:
        """Per old ring, what those of this side deliver of it before they leave."""
        rings = {m.ring.view: m.ring for one in side if (m := self.up[one]).ring}
        for ring in rings.values():
            here = [one for one in side if self.up[one].ring is ring]
            reached = max(self.up[one].delivered for one in here)
            hole = self.random.randint(reached, len(ring.order))
            rest = [each for each in ring.order[hole:] if each[0] in here]
            for one in here:
                ends[one] = ring.order[self.up[one].delivered : hole] + rest

    def _end_rings(self, side: Sequence[int], ends: dict[int, list[tuple[int, bytes]]]) -> None:
        for one in side:
            member = self.up[one]
            if not member.suspended:
                for sender, body in ends.get(one, []):
                    self.do(one, member.replica.said(sender, body))
                member.replica.suspended()
            member.ring, member.suspended, member.delivered = None, True, 0
            member.sending = []

    def _quorate(self, side: Sequence[int]) -> bool:
        return 2 * sum(self.votes[one] for one in side) > sum(self.votes.values())

    def _install(self, side: Sequence[int]) -> None:
        self.view += self.random.randint(1, 3)
        answered = [index for index, entry in self.truth.items() if entry.id in self.promised]
        ring = Ring(self.view, tuple(sorted(side)), max(answered, default=0))
        for one in side:
            self.up[one].ring = ring

    def lose_quorum(self, one: int) -> None:
        """For a moment, in the same view: it goes on where it was."""
        member = self.up[one]
        if member.ring is not None and not member.suspended:
            member.suspended = True
            member.replica.suspended()

    # ------------------------------------------------- one step

    def step(self) -> bool:
        """Deliver or send one message, end one write, or install one view; False if all is quiet."""
        choices = [(one, what) for one in self.up for what in self._ready(one)]
        if not choices:
            return False
        self.do_what(*self.random.choice(choices))
        return True

    def step_of(self, one: int) -> bool:
        """The same, of one member."""
        choices = self._ready(one)
        if choices:
            self.do_what(one, self.random.choice(choices))
        return bool(choices)

    def do_what(self, one: int, what: str) -> None:
        member, ring = self.up[one], self.up[one].ring
        if what == "disk":
            self._end_write(one, member)
            return
        assert ring is not None
        if what == "install":
            member.suspended = False
            self.do(one, member.replica.installed(ring.view, ring.members))
        elif what == "send":
            ring.order.append((one, member.sending.pop(0)))
        else:
            sender, body = ring.order[member.delivered]
            member.delivered += 1
            self.do(one, member.replica.said(sender, body))

    def _ready(self, one: int) -> list[str]:
        member, found = self.up[one], []
        if member.write is not None and not self.stuck[one]:
            found.append("disk")
        if member.ring is not None:
            if member.suspended:
                found.append("install")
            elif member.delivered < len(member.ring.order):
                found.append("deliver")
            if member.sending:
                found.append("send")
        return found

    def _end_write(self, one: int, member: Member) -> None:
        write = member.write
        assert write is not None
        member.write = None
        if self.full[one]:
            self.do(one, member.replica.failed(write.ticket, "no space"))
        else:
            self.disks[one] = self.disks[one].after(write)
            self.check_disk(one)
            self.do(one, member.replica.stored(write.ticket))

    def settle(self) -> None:
        for _ in range(100_000):
            if not self.step():
                return
        raise AssertionError("they never come to rest")

    def propose(self, one: int, command: Command) -> CommandId:
        id, effects = self.up[one].replica.propose(command)
        self.do(one, effects)
        return id

    # ------------------------------------------------- effects, and what holds always

    def do(self, one: int, effects: list[Effect]) -> None:
        member = self.up[one]
        for effect in effects:
            self.told[one].append(effect)
            match effect:
                case Say():
                    assert not member.suspended, "said something without a view"
                    member.sending.append(effect.body)
                case Write():
                    assert member.write is None, "two writes at once"
                    member.write = effect
                case Applied():
                    self.check_applied(effect)
                case Answered():
                    self.check_answer(one, effect.id)
                    self.promised[effect.id] = effect.refusal
                case GaveUp():
                    self.check_answer(one, effect.id)
                    self.given_up[effect.id] = effect.why
                case Synced():
                    self.check_synced(one, effect)
                case Restored():
                    assert effect.index == member.replica.applied
            if not isinstance(effect, Say | Write) and one in self.eager:
                self.propose(one, self.eager.pop(one))
        self.check_state(member.replica)

    def check_applied(self, applied: Applied) -> None:
        """All apply the same at one index, and each command once."""
        same = self.truth.get(applied.index)
        view = same.view if same else 0
        entry = Entry(applied.index, view, applied.id, applied.command)
        assert same in (None, entry), f"{entry} applied, and {same} elsewhere"
        if same is None:
            assert applied.id not in self.applied, f"{applied.id} is applied twice"
            assert applied.id not in self.given_up
            self.applied[applied.id] = applied.index
            self.truth[applied.index] = entry
        holders = [one for one, disk in self.disks.items() if self._has(disk, entry)]
        assert self._quorate(holders), f"{entry} is applied, on disk at {holders} only"

    @staticmethod
    def _has(disk: Stored, entry: Entry) -> bool:
        if entry.index <= disk.base:
            return True
        if entry.index > disk.last:
            return False
        return disk.entries[entry.index - disk.base - 1].id == entry.id

    def check_answer(self, one: int, id: CommandId) -> None:
        assert id.member == one and id.incarnation == self.lives[one]
        assert id not in self.promised and id not in self.given_up, "answered twice"

    def check_synced(self, one: int, synced: Synced) -> None:
        """Where commands flow, everything is there that was acknowledged before the view began."""
        member = self.up[one]
        assert not member.suspended
        if member.ring is not None:  # else the last messages of a ring that broke
            assert synced.view == member.ring.view
            assert member.replica.applied >= member.ring.promised, "what was acknowledged is lost"

    def check_state(self, replica: Replica) -> None:
        """Two members that have applied the same number of entries have the same state."""
        now = replica.state.snapshot()
        assert self.states.setdefault(replica.applied, now) == now

    def check_disk(self, one: int) -> None:
        disk = self.disks[one]
        indexes = [entry.index for entry in disk.entries]
        assert indexes == list(range(disk.base + 1, disk.last + 1)), "a gap in the log"
        views = [entry.view for entry in disk.entries]
        assert views == sorted(views) and (not views or views[-1] <= disk.adopted)
        assert disk.base <= disk.snapshot.at <= disk.committed <= disk.last
        assert State.restore(disk.snapshot.data).snapshot() == self.states[disk.snapshot.at]
