"""One member's part in the cluster, pure: from what the engine reports to what the lock manager is told.

    formation    who is in the view, and its number
    verdict      who is silent, and has to go
    replica      the registry: which lives may hold locks, which namespaces there are
    gate         which lost lives are fenced, and by what
    keeper       the quorum disk, where this member holds it

A view that is installed passes these stages: the registry's logs become one; every member of the
view has its life marked `in`; then the lock manager gets the view, with the lives that are in and
not in the view as lost. What each of them says in the view is told apart by its first byte.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from clufs.cluster import formation as f
from clufs.cluster import gate as g
from clufs.cluster import verdict as v
from clufs.cluster.formation import Formation, Self
from clufs.cluster.gate import AgentPlan, Gate
from clufs.cluster.interface import Peer, Report, View
from clufs.cluster.verdict import Verdict
from clufs.cluster.voice import DISK_ID
from clufs.dlm.interface import Event, Fenced, Leaving, Life, Resumed, Suspended, ViewInstalled
from clufs.member import disk_keeper as k
from clufs.member.disk_keeper import DiskKeeper
from clufs.registry import messages as r
from clufs.registry.commands import (
    GOODBYE,
    Command,
    CommandId,
    MemberIn,
    MemberOut,
    MemberServed,
)
from clufs.registry.log import Stored, Write
from clufs.registry.replica import Replica
from clufs.timeouts import JOIN_LATE_S

_REGISTRY, _VERDICT, _PROBE, _LATE, _DISK = b"R", b"V", b"P", b"L", b"D"
_ID_BYTES, _BALLOT_BYTES = 4, 8

# ------------------------------------------------- what is to be done


@dataclass(frozen=True, slots=True)
class SetView:
    """The streams serve these members from now on; streams: peer id -> (address, port)."""

    view: View
    streams: dict[int, tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Step:
    """The lock manager is to take this event."""

    event: Event


@dataclass(frozen=True, slots=True)
class Happened:
    """A line for /clu/events."""

    what: str
    facts: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The goodbye is on record: this life holds nothing, and the others know it."""


Effect = (
    f.Multicast
    | f.Store
    | f.Expelled
    | SetView
    | Step
    | Happened
    | Finished
    | Write
    | r.Applied
    | r.Restored
    | r.Answered
    | r.GaveUp
    | g.RunAgent
    | g.StopAgent
    | g.OrderEnded
    | g.Told
    | g.At
    | k.TakeDisk
    | k.DropDisk
    | k.DiskWrite
    | k.Vote
)


@dataclass(frozen=True, slots=True)
class Start:
    """What is known when a life begins.

    highest: the highest view number on this disk. cleared: the incarnation whose recorded lock
    owners, and those of all before, were seen gone; 0 if that is not known.
    boot_id, machine: the boot that this life runs in and the system it runs on. version: of clufs.
    """

    highest: int
    stored: Stored
    boot_id: str
    machine: str
    cleared: int = 0
    version: str = ""


class Core:
    """One life of one member. Methods return effects, to be carried out in their order."""

    def __init__(
        self,
        me: Self,
        peers: tuple[Peer, ...],
        agents: tuple[AgentPlan, ...],
        start: Start,
        disk_votes: int = 0,
    ) -> None:
        """disk_votes: of the quorum disk, 0 if there is none."""
        votes = {peer.id: peer.votes for peer in peers}
        votes |= {DISK_ID: disk_votes} if disk_votes else {}
        self.life = Life(me.peer.name, me.incarnation)
        self.start = start
        self.peers = {peer.id: peer for peer in peers}
        self.formation = Formation(me, peers, start.highest, disk_votes=disk_votes)
        self.verdict = Verdict(me.peer.id, votes)
        self.replica = Replica(me.peer.id, votes, start.stored, me.incarnation)
        self.gate = Gate(self.life.member, agents)
        self.keeper = DiskKeeper(self.formation, self.replica, votes)
        self.view: View | None = None
        """The view that is installed, also while the registry comes to one log."""
        self.standing = False
        """Whether the lock manager has the view: requests are granted."""
        self.disk_error = ""
        """Why the last write found no room on this member's disk, until one does."""
        self._coming: CommandId | None = None
        self._leaving: CommandId | None = None
        self._ins: frozenset[Life] = frozenset()
        self._stood = 0
        self._seen: frozenset[Life] = frozenset()
        self._waits_since: float | None = None

    # ------------------------------------------------- what is so

    @property
    def members(self) -> tuple[Life, ...]:
        """The lives in the view; empty without one."""
        if self.view is None:
            return ()
        return tuple(Life(self.name(one), life) for one, life in self.view.members)

    def name(self, peer_id: int) -> str:
        """A member's name, as configured."""
        peer = self.peers.get(peer_id)
        return peer.name if peer is not None else f"node {peer_id}"

    def ins(self) -> frozenset[Life]:
        """The lives that the registry says may hold locks."""
        return frozenset(Life(*life) for life in self.replica.state.living())

    def waits_for(self) -> str:
        """What stands between this member and grants, as a sentence; empty if nothing does."""
        if self.view is None:
            return self.formation.waits_for()
        if not self.replica.synced:
            return self.replica.waits_for()
        if not self.standing:
            absent = [life.member for life in self.members if life not in self.ins()]
            return f"the registry to let {' '.join(absent)} in"
        return self.gate.waits_for()

    # ------------------------------------------------- events

    def report(self, report: Report) -> list[Effect]:
        """The engine tells something."""
        return [*self._form(self.formation.report(report)), *self._keep(self.keeper.vote())]

    def view_stored(self, number: int) -> list[Effect]:
        """The number of a Store is on disk."""
        return [*self._disk(self.replica.disk_error), *self._form(self.formation.stored(number))]

    def view_failed(self, why: str) -> list[Effect]:
        """The number of a Store is not on disk, which is full; it is to be tried again.

        The view goes on with this member in it if others enough have it on theirs.
        """
        return self._disk(why)

    def log_stored(self, ticket: int) -> list[Effect]:
        """The write of this ticket is on disk."""
        return [*self._disk(""), *self._register(self.replica.stored(ticket))]

    def log_failed(self, ticket: int, why: str) -> list[Effect]:
        """The write of this ticket changed nothing: the disk is full."""
        return [*self._disk(why), *self._register(self.replica.failed(ticket, why))]

    def _disk(self, error: str) -> list[Effect]:
        before, self.disk_error = self.disk_error, error
        if bool(before) == bool(error):
            return []
        return [Happened("disk-full", (("why", error),)) if error else Happened("disk-has-room")]

    def tick(self, now: float, silent: Iterable[int]) -> list[Effect]:
        """Time has passed; these members are silent on their streams. Called every KEEPALIVE_S."""
        effects = self._form(self.formation.tick(now))
        if self.view is not None:
            effects += self._judge(self.verdict.silent(now, silent))
        if self.replica.disk_error:
            effects += self._register(self.replica.retry())
        return [*effects, *self._stand(), *self._tell_late(now), *self.keep(self.keeper.tick(now))]

    def _tell_late(self, now: float) -> list[Effect]:
        """Nobody waits for ever for a joiner that cannot come in, as one with a broken disk: the first
        of the others says so, and the view's order makes it a verdict."""
        if self.view is None or self.standing or not self.replica.synced:
            self._waits_since = None
            return []
        if self._waits_since is None:
            self._waits_since = now
        ins = self.ins()
        inside = [life for life in self.members if life in ins]
        if now - self._waits_since < JOIN_LATE_S or inside[:1] != [self.life]:
            return []
        self._waits_since = None
        late = [one for one, life in self.view.members if Life(self.name(one), life) not in ins]
        body = b"".join(one.to_bytes(_ID_BYTES, "big") for one in late)
        return self._say(_LATE, body)

    def _expel_late(self, body: bytes) -> list[Effect]:
        effects: list[Effect] = []
        for at in range(0, len(body) - _ID_BYTES + 1, _ID_BYTES):
            member = int.from_bytes(body[at : at + _ID_BYTES], "big")
            effects.append(Happened("member-late", (("member", self.name(member)),)))
            effects += self._form(self.formation.expel(member))
        return effects

    def probe(self) -> list[Effect]:
        """This member stood still, and its lock manager is suspended: does the view still hold?

        What was said in the view comes back in it or never: then it is resumed.
        """
        return self._say(_PROBE, b"") if self.standing else []

    def propose(self, command: Command) -> tuple[CommandId, list[Effect]]:
        """Have the registry apply a command; Answered tells the end."""
        id, effects = self.replica.propose(command)
        return id, self._register(effects)

    def leave(self) -> list[Effect]:
        """This life ends in good order: its locks are released; its masterships go to others."""
        return [Step(Leaving())]

    def left(self) -> list[Effect]:
        """Nothing is mastered here any more: say goodbye. Finished tells that it is on record."""
        goodbye = MemberOut(self.life.member, self.life.incarnation, GOODBYE)
        self._leaving, effects = self.propose(goodbye)
        return effects

    def keep(self, found: list[k.Effect]) -> list[Effect]:
        """Something happened to the quorum disk: what follows from what the keeper says to it."""
        return [*self._keep(found), *self._keep(self.keeper.vote())]

    # The gate's events pass through.

    def agent_done(self, now: float, life: Life, agent: int, ok: bool, said: str) -> list[Effect]:
        """A fencing agent has ended."""
        return self._fence(self.gate.agent_done(now, life, agent, ok, said))

    def gate_tick(self, now: float) -> list[Effect]:
        """The time of an At has come."""
        return self._fence(self.gate.tick(now))

    def fence(self, member: str, by: str = "a person") -> list[Effect]:
        """A person orders a member off. Raises NoQuorum, InvalidRequest."""
        return self._fence(self.gate.fence(member, by))

    def confirm(self, member: str, by: str = "a person") -> list[Effect]:
        """A person says that the lost life of a member is finished. Raises NoQuorum, InvalidRequest."""
        return self._fence(self.gate.confirm(member, by))

    # ------------------------------------------------- what follows from each part

    def _form(self, found: list[f.Effect]) -> list[Effect]:
        effects: list[Effect] = []
        for effect in found:
            match effect:
                case f.Install():
                    effects += self._install(effect)
                case f.Suspend():
                    effects += self._suspend(effect.why)
                case f.Say():
                    effects += self._said(effect.sender, effect.body)
                case f.DiskStore():
                    effects += self._keep(self.keeper.store(effect))
                case _:
                    effects.append(effect)
        return effects

    def _said(self, sender: int, body: bytes) -> list[Effect]:
        kind, rest = body[:1], body[1:]
        if kind == _REGISTRY:
            return self._registry_said(sender, rest)
        if kind == _VERDICT:
            return self._judge(self.verdict.said(sender, rest))
        if kind == _DISK:
            return self._said_for_disk(sender, rest)
        if kind == _LATE:
            return self._expel_late(rest)
        if kind == _PROBE and sender == self.formation.me.peer.id and self.standing:
            return [Step(Resumed())]
        return []

    def _registry_said(self, sender: int, body: bytes) -> list[Effect]:
        effects = self._register(self.replica.said(sender, body))
        return effects + self._keep(self.keeper.said(sender, body))

    def _said_for_disk(self, sender: int, body: bytes) -> list[Effect]:
        ballot, rest = int.from_bytes(body[:_BALLOT_BYTES], "big"), body[_BALLOT_BYTES:]
        is_new, counts = self.keeper.hear(sender, ballot)
        effects = self._judge(self.verdict.voice(sender)) if is_new else []
        return effects + (self._registry_said(DISK_ID, rest) if counts else [])

    def _keep(self, found: list[k.Effect]) -> list[Effect]:
        effects: list[Effect] = []
        for effect in found:
            match effect:
                case k.SayForDisk():
                    ballot = effect.ballot.to_bytes(_BALLOT_BYTES, "big")
                    effects += self._say(_DISK, ballot + effect.body)
                case k.Kept():
                    facts = (
                        (("state", "lost"), ("why", effect.why))
                        if effect.why
                        else (("state", "taken"),)
                    )
                    effects.append(Happened("quorum-disk", facts))
                case k.TakeDisk() | k.DropDisk() | k.DiskWrite() | k.Vote():
                    effects.append(effect)
                case _:
                    effects += self._form([effect])
        return effects

    def _say(self, kind: bytes, body: bytes) -> list[Effect]:
        if self.formation.view is None:  # this life was expelled a moment before
            return []
        return self._form(self.formation.say(kind + body))

    def _judge(self, found: list[v.Effect]) -> list[Effect]:
        effects: list[Effect] = []
        for effect in found:
            if isinstance(effect, v.Expel):
                why = (("member", self.name(effect.member)),)
                effects.append(Happened("member-silent", why))
                effects += self._form(self.formation.expel(effect.member))
            else:
                effects += self._say(_VERDICT, effect.body)
        return effects

    def _register(self, found: list[r.Effect]) -> list[Effect]:
        effects: list[Effect] = []
        for effect in found:
            match effect:
                case r.Say():
                    effects += self._say(_REGISTRY, effect.body)
                case r.Synced():
                    effects += self._stand()
                case r.Applied():
                    effects.append(effect)
                    if isinstance(effect.command, MemberIn | MemberOut | MemberServed):
                        effects += self._lives_changed()
                case r.Restored():
                    effects += [effect, *self._lives_changed()]
                case r.Answered():
                    effects += self._answered(effect)
                case _:
                    if isinstance(effect, r.GaveUp) and effect.id == self._coming:
                        self._coming = None  # the disk is full: `tick` tries again
                    effects.append(effect)
        return effects

    def _fence(self, found: list[g.Effect]) -> list[Effect]:
        effects: list[Effect] = []
        for effect in found:
            if isinstance(effect, g.ProposeOut):
                out = MemberOut(effect.life.member, effect.life.incarnation, effect.why)
                effects += self.propose(out)[1]
            else:
                effects.append(effect)
        return effects

    # ------------------------------------------------- the stages of a view

    def _install(self, install: f.Install) -> list[Effect]:
        view = install.view
        self.view = view
        ids = tuple(one for one, _ in view.members)
        self.verdict.installed(view.number, ids)
        members = ",".join(life.member for life in self.members)
        return [
            SetView(view, install.streams),
            Happened("view", (("number", view.number), ("members", members))),
            *self._comings_and_goings(),
            *self._register(self.replica.installed(view.number, ids)),
            *self._keep(self.keeper.installed(view.number)),
        ]

    def _comings_and_goings(self) -> list[Effect]:
        before, self._seen = self._seen, frozenset(self.members)
        moves = [("left", life) for life in sorted(before - self._seen)]
        if before:
            moves += [("joined", life) for life in sorted(self._seen - before)]
        return [
            Happened(what, (("member", life.member), ("incarnation", life.incarnation)))
            for what, life in moves
        ]

    def _suspend(self, why: str) -> list[Effect]:
        was_standing, self.standing, self.view = self.standing, False, None
        self.replica.suspended()
        self.keeper.suspended()
        effects = self._fence(self.gate.suspended())
        if was_standing:
            effects += [Step(Suspended()), Happened("suspended", (("why", why),))]
        return effects

    def _stand(self) -> list[Effect]:
        """Give the lock manager the view, as soon as the registry has let everybody in."""
        view = self.view
        if view is None or self.standing or not self.replica.synced:
            return []
        ins = self.ins()
        if self.life not in ins:
            record = self.replica.state.lives.get(self.life)
            return self._come_in() if record is None or not record.out else self._is_out(record.out)
        if any(life not in ins for life in self.members):
            return []
        self.standing = True
        self.gate.learn(self.replica.state.servers(), self.replica.state.ended())
        before, self._ins = self._ins, ins
        # A view comes back, as it was, when quorum went and came in one configuration.
        event: Event = Resumed()
        if view.number != self._stood:
            event = ViewInstalled(view.number, self.members, ins - set(self.members))
        self._stood = view.number
        return [
            Step(event),
            *(Step(Fenced(life)) for life in sorted(before - ins)),
            *self._fence(self.gate.installed(view.number, self.members, ins)),
        ]

    def _is_out(self, why: str) -> list[Effect]:
        """The registry has this life as finished, as it is where the answer to its goodbye was lost."""
        if self._leaving is not None:
            return [Finished()]
        return [
            f.Expelled(f"incarnation {self.life.incarnation} of {self.life.member} is out: {why}")
        ]

    def _come_in(self) -> list[Effect]:
        if self._coming is not None:
            return []
        start, life = self.start, self.life
        earlier = [n for member, n in self.replica.state.lives if member == life.member]
        cleared = start.cleared >= max(earlier, default=0)
        command = MemberIn(
            life.member, life.incarnation, start.boot_id, start.machine, cleared, start.version
        )
        self._coming, effects = self.propose(command)
        return effects

    def _lives_changed(self) -> list[Effect]:
        if not self.standing:
            return self._stand()
        self.gate.learn(self.replica.state.servers(), self.replica.state.ended())
        before, self._ins = self._ins, self.ins()
        effects: list[Effect] = [Step(Fenced(life)) for life in sorted(before - self._ins)]
        lives = self.replica.state.lives.items()
        outs = {Life(*key): life.out for key, life in lives if life.out}
        return effects + self._fence(self.gate.changed(self._ins, outs))

    def _answered(self, answer: r.Answered) -> list[Effect]:
        if answer.id == self._leaving:
            return [Finished()]
        if answer.id == self._coming and self.life not in self.ins():
            used = f"incarnation {self.life.incarnation} of {self.life.member} was used before"
            return [f.Expelled(answer.refusal or used)]
        return [answer]
