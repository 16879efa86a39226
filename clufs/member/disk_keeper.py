"""A member's part in the quorum disk: when to take it and let it go, and what is said for it. Pure.

The disk is a member, DISK_ID, without a process: whoever holds it, the keeper, has its journal and runs
its part in the formation (it vouches for numbers) and in the registry (a replica of its own).

Why nothing is forgotten though two majorities may share nothing but the disk: whatever is said for it
is on it before (`storage.quorum` sees to it that only one holder appends, and that the next finds all
that was appended), and it takes part in views of growing numbers only: it enters a view when it has
vouched for it, and vouches for nothing at or below what it knows. So it is one more acceptor among the
members. A keeper that stood still and comes back may still say what it had queued: that is true, as it
was on the disk then; what it queued as a promise only, its tail, binds a view in which it cannot
write any more, and no view of a later number lacks what the disk had acknowledged before.

Why a keeper may change within a view: the journal knows for which round the number was kept, so the
disk goes on in it as the member it was; its new replica begins with a new tail. If the disk itself
leads the view, what its former keeper ordered and what the new one orders could be two logs: then the
round begins again.

Why both halves of a cut are not quorate at once, which no data depend on: who holds the disk casts its
vote until `sure_until_s` at most; the others of its ring as long as they see themselves that it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from clufs.cluster import formation as f
from clufs.cluster.formation import Formation
from clufs.cluster.interface import RingId
from clufs.cluster.voice import DISK_ID, Voice
from clufs.registry import journal
from clufs.registry import messages as r
from clufs.registry.journal import Image, Numbered, Written
from clufs.registry.log import Snapshot, Write
from clufs.registry.replica import Replica
from clufs.storage.quorum import Share, Sight
from clufs.timeouts import QUORUM_DISK_CALM_S, QUORUM_DISK_SURE_S, QUORUM_DISK_TURN_S

# ------------------------------------------------- what is to be done


@dataclass(frozen=True, slots=True)
class TakeDisk:
    """Take the quorum disk, then call disk_taken() or disk_refused()."""


@dataclass(frozen=True, slots=True)
class DropDisk:
    """Let go of what is held under this ballot."""

    ballot: int


@dataclass(frozen=True, slots=True)
class DiskWrite:
    """Append the record to the journal held under this ballot, then call disk_written().

    One after the other, in order. Where the journal is full, put a checkpoint of Core.disk_whole() there.
    """

    ballot: int
    ticket: int
    record: bytes


@dataclass(frozen=True, slots=True)
class SayForDisk:
    """Say it in the view, in the registry, for the disk."""

    ballot: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Kept:
    """This member has become the disk's keeper, or is it no more: then `why` says it."""

    why: str = ""


@dataclass(frozen=True, slots=True)
class Vote:
    """Count the disk's votes for this member in that ring, or no longer."""

    ring: RingId
    cast: bool


Effect = TakeDisk | DropDisk | DiskWrite | SayForDisk | Kept | Vote | f.Effect


class DiskKeeper:
    """Of one life of one member. Methods return effects, to be carried out in their order.

    ballot: under which this member holds the disk, 0 if it does not.
    """

    def __init__(self, formation: Formation, registry: Replica, votes: Mapping[int, int]) -> None:
        """registry: this member's own replica. votes: of all members and of the disk."""
        self._me = formation.me.peer.id
        self._formation, self._registry, self._votes = formation, registry, votes
        self.ballot = 0
        self.sight = Sight(False, "not looked at yet")
        self._now = self._seen_at = 0.0
        self._voted: tuple[RingId, bool] | None = None
        self._view = 0
        self._in_view = Voice()
        self._is_mute = False
        self._turn_since: float | None = None
        self._taken_at = self._not_before = 0.0
        self._taking = False
        self._forget()

    def _forget(self) -> None:
        self.ballot = 0
        self._image = Image()
        self._latest: Numbered | None = None  # on the disk when all that is queued is there
        self._replica: Replica | None = None
        self._tickets = 0
        self._queue: dict[int, tuple[Numbered | Written, int]] = {}

    # ------------------------------------------------- to hold it

    def seen(self, now: float, sight: Sight) -> list[Effect]:
        """What a look at the disk has shown that began at `now`; about every QUORUM_DISK_LOOK_S, also by
        the keeper."""
        self.sight, self._seen_at = sight, now
        self._now = max(self._now, now)
        return self._decide(now)

    def tick(self, now: float) -> list[Effect]:
        """Time has passed; called every KEEPALIVE_S."""
        self._now = now
        return [*self._decide(now), *self._end_orphan()]

    def _decide(self, now: float) -> list[Effect]:
        """Take the disk, or let go of it, or do nothing.

        The lowest id takes it that can; whoever held it and is not heard of comes last. Ballots decide
        where two try at once.
        """
        sight = self.sight
        is_dead = not sight.alive and not sight.free
        rank = self._formation.rank(sight.holder if is_dead else 0)
        if rank is None:
            return self._drop("with it, too, there is no majority here") if self.ballot else []
        is_busy = self.ballot != 0 or self._taking or now < self._not_before
        if is_busy or not sight.may_take(self._me):
            self._turn_since = None
            return []
        if self._turn_since is None:
            self._turn_since = now
        if now - self._turn_since < rank * QUORUM_DISK_TURN_S:
            return []
        self._taking = True
        return [TakeDisk()]

    def taken(self, ballot: int, share: Share) -> list[Effect]:
        """The disk is held under this ballot; share: what is on it."""
        self._forget()
        self._taking, self._taken_at = False, self._now
        try:
            self._image = journal.load(share.checkpoint, share.records)
        except ValueError as error:
            self._calm()
            return [DropDisk(ballot), Kept(str(error))]
        self.ballot, self._latest = ballot, self._image.numbered
        return [Kept(), *self._formation.disk_held(ballot)]

    def refused(self) -> list[Effect]:
        """The disk could not be taken."""
        self._taking = False
        self._turn_since = None
        return []

    def lost(self, ballot: int, why: str) -> list[Effect]:
        """What was held under this ballot is over."""
        if ballot != self.ballot:
            return []
        self._calm()
        return self._end(why)

    def _end(self, why: str) -> list[Effect]:
        view = self._formation.view
        leads = view is not None and self._registry.disk_leads
        effects = self._formation.anew(0) if leads else []
        self._forget()
        return [Kept(why), *effects, *self._formation.disk_dropped()]

    def _calm(self) -> None:
        """What ended as soon as it had begun may do so again: others get their turn, and logs stay short."""
        if self._now - self._taken_at < QUORUM_DISK_CALM_S:
            self._not_before = self._now + QUORUM_DISK_CALM_S

    def _drop(self, why: str) -> list[Effect]:
        return [DropDisk(self.ballot), *self._end(why)]

    def vote(self) -> list[Effect]:
        """Whether the disk's votes count for this member, in the ring that it is in, if that has changed.

        In a new ring they do not count until it is said.
        """
        round, before = self._formation.round, self._voted
        if round is None:
            return []
        self._voted = ring, cast = round[0], self._casts()
        if self._voted == before or not (cast or before == (ring, True)):
            return []
        return [Vote(ring, cast)]

    def _casts(self) -> bool:
        caster, sight = self._formation.caster, self.sight
        if caster is None or caster == self._me:
            return caster is not None and self.ballot != 0
        is_seen = self._now - self._seen_at < QUORUM_DISK_SURE_S and sight.readable
        return is_seen and sight.holder == caster and sight.alive and not sight.free

    @property
    def votes_here(self) -> bool:
        """Whether this member counts the disk's votes."""
        return self._voted is not None and self._voted[1]

    def shown(self, name: Callable[[int], str]) -> str:
        """Who keeps the disk, and whether its votes count for this member, as a sentence."""
        keeper = self._formation.caster
        if keeper is not None:
            counts = "count" if self.votes_here else "do not count"
            return f"kept by {name(keeper)}; its votes {counts} here"
        if not self.sight.readable:
            return f"not readable here: {self.sight.why}"
        if self.sight.holder and self.sight.alive and not self.sight.free:
            return f"kept by {name(self.sight.holder)}, elsewhere"
        return "kept by nobody"

    # ------------------------------------------------- to vouch for it

    def store(self, effect: f.DiskStore) -> list[Effect]:
        """The formation wants the number on the disk."""
        wanted, latest = Numbered(effect.number, effect.round, effect.members), self._latest
        if wanted == self._image.numbered == latest:
            return [*self._formation.disk_stored(wanted.number, wanted.round), *self.enter()]
        if latest is not None and latest.number >= wanted.number:
            return list(self._formation.anew(latest.number))
        self._latest = wanted
        return self._append(wanted, 0)

    def _append(self, record: Numbered | Written, write: int) -> list[Effect]:
        self._tickets += 1
        self._queue[self._tickets] = record, write
        return [DiskWrite(self.ballot, self._tickets, journal.encode(record))]

    def written(self, ballot: int, ticket: int) -> list[Effect]:
        """The record of a DiskWrite is on the disk."""
        if ballot != self.ballot:
            return []
        record, write = self._queue.pop(ticket)
        self._image = self._image.after(record)
        if isinstance(record, Numbered):
            vouched = self._formation.disk_stored(record.number, record.round)
            return [*vouched, *self.enter()]
        assert self._replica is not None
        return self._register(self._replica.stored(write))

    def whole(self, ballot: int, ticket: int) -> bytes | None:
        """The checkpoint that has all up to the record of this ticket; None if it is held no more."""
        if ballot != self.ballot:
            return None
        image = self._image.after(self._queue[ticket][0])
        replica = self._replica
        if replica is not None:
            image = image.shorter(Snapshot(replica.applied, replica.state.snapshot()))
        return image.checkpoint()

    # ------------------------------------------------- its replica

    def enter(self) -> list[Effect]:
        """Have the disk's replica in the installed view, if the disk has vouched for it."""
        view, round = self._formation.view, self._formation.round
        if not self.ballot or view is None or round is None:
            return []
        if self._image.numbered != Numbered(view.number, round, view.members):
            return []
        if self._registry.view != view.number:
            return []
        replica = self._replica
        if replica is None:
            if self._registry.disk_leads:
                return list(self._formation.anew(view.number))
            replica = self._replica = Replica(DISK_ID, self._votes, self._image.stored, 0)
        is_new = replica.view != view.number
        if not is_new and not replica.is_suspended:
            return []
        effects = replica.installed(view.number, tuple(one for one, _ in view.members))
        return self._register([*effects, *(replica.told_by(self._registry) if is_new else [])])

    def installed(self, number: int) -> list[Effect]:
        """A view holds from now on; maybe the one before."""
        if number != self._view:
            self._view, self._in_view, self._is_mute = number, Voice(), False
        return self.enter()

    def hear(self, sender: int, ballot: int) -> tuple[bool, bool]:
        """A member says something in the view for the disk: whether it is its voice from now on, and counts.

        A log that is led by the disk ends with its keeper's word, until the view is another.
        """
        if DISK_ID not in self._votes:
            return False, False
        had_voice = self._in_view.ballot > 0
        is_new = self._in_view.here(sender, ballot)
        self._is_mute |= is_new and had_voice and self._registry.disk_leads
        return is_new, self._in_view.is_of(sender, ballot) and not self._is_mute

    def _end_orphan(self) -> list[Effect]:
        """Have a view end that is led by the disk, for which this member spoke last and speaks no more."""
        leads = self._formation.view is not None and self._registry.disk_leads
        mine = self._in_view.member == self._me
        if not leads or not mine or (self._in_view.ballot == self.ballot and not self._is_mute):
            return []
        return list(self._formation.anew(0))

    def suspended(self) -> None:
        """The view holds no more."""
        if self._replica is not None:
            self._replica.suspended()

    def said(self, sender: int, body: bytes) -> list[Effect]:
        """A member, or the disk, said this in the registry, in the view that is installed."""
        replica, view = self._replica, self._formation.view
        if replica is None or view is None or replica.view != view.number:
            return []
        return self._register(replica.said(sender, body))

    def _register(self, found: list[r.Effect]) -> list[Effect]:
        effects: list[Effect] = []
        for effect in found:
            if isinstance(effect, r.Say):
                effects.append(SayForDisk(self.ballot, effect.body))
            elif isinstance(effect, Write):
                effects += self._append(journal.written(effect), effect.ticket)
        return effects
