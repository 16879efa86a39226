"""One member's copy of the registry: pure. It takes what was said in a view and what the disk has done.

In each view the members come to one log, and only then does it grow:

1. Each says its tail: the view whose log it has on disk, and how far. Of the first tails that make a
   majority of all configured votes the highest (view, last index) leads. All see them in one order.
2. The leader says so, and sends what the others lack above what they know to be committed: entries,
   or a snapshot and the entries after it.
3. Each puts that log on disk, in one write with the number of the new view, and acknowledges.
4. A majority of all votes having done so, the log is *synced*: commands may be proposed.

A command gets its index from the leader, and is committed when a majority of all votes acknowledges
that index in the view. Only then is it applied and answered.

Why nothing committed is lost: every majority of tails has a member that has it on disk, under the
view where it was committed or a later one, and the log of each view begins with that of a majority.

Why an entry of an older view does not count by being on a majority's disks: such a log may still
lose against that of a view in between, which fewer have. Under the new view's number it cannot.

Why the order of the multicast alone does not make the log: where a ring breaks, each side still
delivers its own last messages, with holes where the other's were; two sides would give one index to
two commands. But nothing that was sent after such a message is delivered in the view. So the log is
what a leader has sent after the majority of tails, and there is one such leader in a view.

Why commands are applied once: one is proposed again only when its view is over and the new log,
synced, lacks it; no log that has it can win against that. The state remembers ids besides.

A quorum disk is a member as the others, DISK_ID, whose replica runs at whoever holds it. In one view
it may have several, one after the other; each begins with a tail of its own, which counts anew. What
the disk has of this very view is of the view's leader, and stays. Only a log that is led by the
disk itself does not survive a change of hands: then the view has to end (see `member.disk_keeper`).
"""

from __future__ import annotations

from collections.abc import Mapping

from clufs.cluster.voice import DISK_ID
from clufs.limits import (
    ANSWERS_KEPT,
    COMMAND_MAX_BYTES,
    LOG_KEPT_BYTES,
    LOG_KEPT_ENTRIES,
    LOG_MAX_BYTES,
    LOG_MAX_ENTRIES,
)
from clufs.registry import messages as m
from clufs.registry.commands import Command, CommandId, Entry
from clufs.registry.filling import Parts, choice, provisions
from clufs.registry.log import Log, Snapshot, Stored, Write
from clufs.registry.state import State


class Replica:
    """One life of one member. Every method returns effects, to be carried out in their order.

    What is to be said comes before what is told: who is told may propose at once, and a leader's commands
    must be said in the order of their indexes.

    state: what is committed, as far as this member knows. To be read only.
    synced: whether commands flow in the installed view.
    disk_error: why the last write failed, until one succeeds.
    dropped: messages that were none, or of members that cannot be understood.
    stranger: the others have a registry that has nothing in common with what is on disk here.
    """

    def __init__(self, me: int, votes: Mapping[int, int], stored: Stored, incarnation: int) -> None:
        """me, votes: peer ids. incarnation: higher than that of any earlier life of this member."""
        self.me = me
        self.incarnation = incarnation
        self.votes = dict(sorted(votes.items()))
        self.view = 0
        self.members: tuple[int, ...] = ()
        self.synced = False
        self.disk_error = ""
        self.dropped = 0
        self._suspended = True
        self._counter = 0
        self._pending: dict[CommandId, Command] = {}
        self._disk = stored
        self._writing: Write | None = None
        self._tickets = 0
        self._log = Log(stored.base, stored.entries)
        self.state = State.restore(stored.snapshot.data)
        self.applied = stored.snapshot.at
        while self.applied < stored.committed:
            entry = self._log.at(self.applied + 1)
            self.state.take(entry.id, entry.command)
            self.applied += 1
        self._sure = self.applied  # up to here the log on disk is that of everybody
        self._begin()

    def _begin(self) -> None:
        """Forget all that belongs to one view."""
        self.synced = self.stranger = False
        self._outbox: list[m.Effect] = []
        self._tails: dict[int, m.Tail] = {}
        self._chosen: int | None = None  # who is to lead
        self._leader: int | None = None  # who does
        self._origin = b""  # of the view's log
        self._end = 0  # up to here the log is older than the view
        self._ahead: list[Entry] = []  # sent by this member as leader, not delivered yet
        self._parts = Parts()
        self._entered = False  # the own tail is said
        self._based = False  # the log is the view's
        self._snapshot: Snapshot | None = None  # received, and not on disk yet
        self._same = 0  # up to here the disk has what the log has
        self._acks: dict[int, int] = {}
        self._note = False  # once in a view, what is committed is worth a write of its own
        self._said: dict[CommandId, None] = {}
        self._blocked = False  # the disk refused, and nothing new has come since

    # ------------------------------------------------- events

    def installed(self, view: int, members: tuple[int, ...]) -> list[m.Effect]:
        """A view holds from now on; the same one again goes on where it was."""
        self._suspended = False
        if view == self.view:
            outbox, self._outbox = self._outbox, []
            again: list[m.Effect] = [m.Synced(view)] if self.synced else []
            return [*outbox, *self._say_pending(), *again]
        self.view, self.members = view, members
        self._begin()
        return self._enter() if self._writing is None else []

    def told_by(self, other: Replica) -> list[m.Effect]:
        """Learn from another replica what was said in its view, which was installed here just now."""
        self._tails, self._acks = dict(other._tails), dict(other._acks)
        self._chosen, self._leader = other._chosen, other._leader
        self._end, self._origin = other._end, other._origin
        return self._follow()

    @property
    def is_suspended(self) -> bool:
        """Whether no view holds."""
        return self._suspended

    @property
    def disk_leads(self) -> bool:
        """Whether the log of this view is the quorum disk's."""
        return self._chosen == DISK_ID

    def suspended(self) -> None:
        """The view holds no more: nothing is said until the next `installed`."""
        self._suspended = True

    def said(self, sender: int, body: bytes) -> list[m.Effect]:
        """A message of this view, also one's own, at its place in the one order."""
        message = m.decode(body)
        if message is None or sender not in (*self.members, DISK_ID):
            self.dropped += 1
            return []
        match message:
            case m.Tail():
                return self._tail(sender, message)
            case m.Base() if self._leader is None:
                return self._base(sender, message)
            case m.Fill() if sender == self._leader:
                return self._fill(message)
            case m.Part() if sender == self._leader:
                return self._part(message)
            case m.Proposal():
                return self._proposal(message)
            case m.Ack():
                self._acks[sender] = message.index
                return self._commit()
            case _:
                self.dropped += 1
                return []

    def stored(self, ticket: int) -> list[m.Effect]:
        """The write of this ticket is on disk."""
        write = self._written(ticket)
        self.disk_error = ""
        self._disk = self._disk.after(write)
        self._sure = min(self.applied, self._disk.last)
        if not self._based:
            return self._enter()
        self._same = self._disk.last
        if self._disk.base > self._log.base:
            self._log.begin_at(self._disk.base)
        if write.snapshot is not None and write.snapshot is self._snapshot:
            self._snapshot = None
        return [*self._say(m.Ack(self._disk.last)), *self._write()]

    def failed(self, ticket: int, why: str) -> list[m.Effect]:
        """The write of this ticket changed nothing, for certain: the disk is full.

        It is tried again with the next command or by `retry`. A member whose disk failed in any other
        way cannot know what is on it and must end.
        """
        self._written(ticket)
        self.disk_error = why
        if not self._based:
            return self._enter()
        self._blocked = True
        alone = self.members == (self.me,) and DISK_ID not in self.votes
        return self._give_up(why) if self.synced and alone else []

    def retry(self) -> list[m.Effect]:
        """Write again what the disk refused; to be called now and then while there is `disk_error`."""
        self._blocked = False
        return self._write()

    def propose(self, command: Command) -> tuple[CommandId, list[m.Effect]]:
        """Have a command applied once, if it takes several views. Raises ValueError if it is too large.

        Answered or GaveUp tells the end; with this life of the member it may end untold.
        """
        if len(m.encode(command)) > COMMAND_MAX_BYTES:
            raise ValueError("the command is too large")
        self._counter += 1
        id = CommandId(self.me, self.incarnation, self._counter)
        self._pending[id] = command
        return id, self._say_pending()

    def waits_for(self) -> str:
        """What stands before the next command, as a sentence; empty if nothing does."""
        if self._suspended:
            return "a view"
        full = f"; this member's disk: {self.disk_error}" if self.disk_error else ""
        if self.stranger:
            return "this member's registry is of another cluster: remove its state directory first"
        if self._leader is None:
            silent = [str(one) for one in self.members if one not in self._tails]
            return f"the registry's tails of members {' '.join(silent)}{full}"
        if not self._based:
            return f"the registry's log from member {self._leader}{full}"
        if not self.synced:
            silent = [str(one) for one in self.members if one not in self._acks]
            return f"the registry to be on disk at members {' '.join(silent)}{full}"
        return f"room on the disk: {self.disk_error}" if self.disk_error else ""

    # ------------------------------------------------- coming to one log

    def _enter(self) -> list[m.Effect]:
        """No write is under way: what is on disk changes only through this view from now on."""
        log = Log(self._disk.base, self._disk.entries)
        self._log, self._entered = log, True
        self._same = log.last if self._disk.adopted == self.view else self._sure
        votes = tuple(self.votes.items())
        disk = self._disk
        tail = m.Tail(m.VERSION, votes, disk.adopted, log.last, self._same, disk.origin, m.OLDEST)
        return [*self._say(tail), *self._follow()]

    def _tail(self, sender: int, tail: m.Tail) -> list[m.Effect]:
        known = tail.is_understood and tail.votes == tuple(self.votes.items())
        if not known or (sender in self._tails and sender != DISK_ID):
            self.dropped += 1
            return []
        self._tails[sender] = tail
        if self._chosen is not None:
            return self._serve([sender])
        tails = self._tails
        candidates = choice(tails, self.members, self._majority)
        if not candidates:
            return []
        self._chosen = max(candidates, key=self._rank)
        if self._chosen != self.me:
            return []
        self._origin = self._disk.origin or self._disk.token
        return [*self._say(m.Base(self._log.last, self._origin)), *self._serve(list(tails))]

    def _rank(self, one: int) -> tuple[int, int, bool, int]:
        """The highest leads; the disk only where nobody else has as much."""
        tail = self._tails[one]
        return tail.adopted, tail.last, one != DISK_ID, -one

    def _serve(self, receivers: list[int]) -> list[m.Effect]:
        """As the leader, send what they lack."""
        if self._chosen != self.me:
            return []
        tails = {one: self._tails[one] for one in receivers if one != self.me}
        common = {one: t.committed for one, t in tails.items() if t.belongs_to(self._origin)}
        found = provisions(self._log, self._ahead, common, self._now)
        return [effect for message in found for effect in self._say(message)]

    def _now(self) -> Snapshot:
        return Snapshot(self.applied, self.state.snapshot())

    def _part(self, part: m.Part) -> list[m.Effect]:
        if not self._entered or self._based or self.me not in part.receivers:
            return []
        snapshot = self._parts.take(part)
        if snapshot is None:
            return []
        self._snapshot = snapshot
        self._log, self._same = Log(snapshot.at), snapshot.at
        return self._grown()

    def _base(self, sender: int, base: m.Base) -> list[m.Effect]:
        self._leader, self._end, self._origin = sender, base.end, base.origin
        return self._follow()

    def _follow(self) -> list[m.Effect]:
        """The leader and the own tail are known: of the own log, what is committed is the leader's too."""
        if self._leader is None or not self._entered:
            return []
        self.stranger = self._disk.origin != self._origin and self._same > 0
        if self.stranger:
            return []
        if self._leader == self.me:
            self._same = self._log.last
        else:
            self._log.cut(self._same)
        return self._grown()

    def _fill(self, fill: m.Fill) -> list[m.Effect]:
        if not self._entered or self.stranger:
            return []
        self._log.extend(fill.entries)
        self._ahead = [entry for entry in self._ahead if entry.index > self._log.last]
        self._blocked = False
        return self._grown()

    def _grown(self) -> list[m.Effect]:
        """Go on with a longer log, once it is the view's."""
        if self._based:
            return [*self._write(), *self._commit()]
        if self._log.last < self._end:
            return []
        self._based = True
        if self._disk.adopted == self.view:  # the disk's, under an earlier voice of this view
            return [*self._say(m.Ack(self._disk.last)), *self._write(), *self._commit()]
        if self._snapshot is not None and self._snapshot.at > self.applied:
            return self._restore(self._snapshot)
        return [*self._write(), *self._commit()]

    def _restore(self, snapshot: Snapshot) -> list[m.Effect]:
        """Who is told to look at the whole state again finds there what is applied along with it."""
        self.state = State.restore(snapshot.data)
        self.applied = snapshot.at
        mine = [id for id in self._pending if self.state.was_taken(id)]
        answers = [answer for id in mine for answer in self._answer(id, self.state.answer(id))]
        effects = [*answers, *self._write(), *self._commit()]
        told = (effect for effect in effects if not isinstance(effect, m.Applied))
        return [m.Restored(self.applied), *told]

    # ------------------------------------------------- commands

    def _proposal(self, proposal: m.Proposal) -> list[m.Effect]:
        return self._order(proposal.id, proposal.command) if self._leader == self.me else []

    def _order(self, id: CommandId, command: Command) -> list[m.Effect]:
        """As the leader, give a command its place."""
        last = self._ahead[-1].index if self._ahead else self._log.last
        entry = Entry(last + 1, self.view, id, command)
        self._ahead.append(entry)
        return self._say(m.Fill((entry,)))

    def _say_pending(self) -> list[m.Effect]:
        """Say what was not said in this view, at most so much as the state remembers ids."""
        if not self.synced or self._suspended or not self._pending:
            return []
        oldest = next(iter(self._pending)).counter
        effects: list[m.Effect] = []
        for id, command in self._pending.items():
            if id.counter >= oldest + ANSWERS_KEPT:
                break
            if id not in self._said:
                self._said[id] = None
                lead = self._leader == self.me
                effects += self._order(id, command) if lead else self._say(m.Proposal(id, command))
        return effects

    def _commit(self) -> list[m.Effect]:
        """Apply what a majority has on disk under this view."""
        committed = self._committed()
        if not self._based or committed < self._end:
            return []
        effects: list[m.Effect] = []
        while self.applied < min(committed, self._log.last):
            effects += self._apply(self._log.at(self.applied + 1))
        if self._disk.adopted == self.view:
            self._sure = min(self.applied, self._disk.last)
        if not self.synced and self.applied >= committed:
            self.synced = self._note = True
            effects += self._write()
            effects += [] if self._suspended else [m.Synced(self.view)]
        return [*self._say_pending(), *effects]

    def _committed(self) -> int:
        """The highest index that members with a majority of all votes have acknowledged; -1: none."""
        reached = -1
        for index in self._acks.values():
            holders = [one for one, acked in self._acks.items() if acked >= index]
            if index > reached and self._majority(holders):
                reached = index
        return reached

    def _apply(self, entry: Entry) -> list[m.Effect]:
        self.applied = entry.index
        new, refusal = self.state.take(entry.id, entry.command)
        made = self.state.inode_table.made if new else 0
        told = [m.Applied(entry.index, entry.id, entry.command, refusal, made)] if new else []
        return [*told, *self._answer(entry.id, refusal, made, entry.index)]

    def _answer(
        self, id: CommandId, refusal: str | None, made: int = 0, index: int = 0
    ) -> list[m.Effect]:
        known = self._pending.pop(id, None)
        self._said.pop(id, None)
        return [] if known is None else [m.Answered(id, refusal, made, index)]

    def _give_up(self, why: str) -> list[m.Effect]:
        """Alone, with a full disk: what is not on it is nowhere, and does not become true later.

        What is still on its way to the log does not fit it any more then and is dropped there.
        """
        if self._log.last == self._disk.last:
            return []
        lost = [entry.id for entry in [*self._log.after(self._disk.last), *self._ahead]]
        self._log.cut(self._disk.last)
        self._ahead = []
        self._blocked = False
        mine = [id for id in lost if self._pending.pop(id, None) is not None]
        for id in lost:
            self._said.pop(id, None)
        return [*self._say_pending(), *(m.GaveUp(id, why) for id in mine)]

    # ------------------------------------------------- small parts

    def _majority(self, members: list[int]) -> bool:
        """Whether these have more than half of all configured votes."""
        return 2 * sum(self.votes.get(one, 0) for one in members) > sum(self.votes.values())

    def _say(self, message: m.Message) -> list[m.Effect]:
        """Say it now, or when this view is installed again."""
        effect = m.Say(m.encode(message))
        if not self._suspended:
            return [effect]
        self._outbox.append(effect)
        return []

    def _written(self, ticket: int) -> Write:
        write = self._writing
        if write is None or write.ticket != ticket:
            raise ValueError(f"no write {ticket} is under way")
        self._writing = None
        return write

    def _write(self) -> list[m.Effect]:
        """Put on disk what it lacks: one write at a time, the next takes all that came meanwhile."""
        disk, log = self._disk, self._log
        if self._writing is not None or not self._based or self._blocked:
            return []
        unknown = self._note and disk.committed < min(self.applied, log.last)
        if disk.adopted == self.view and self._same == disk.last == log.last and not unknown:
            return []
        self._note = False
        snapshot, base = self._snapshot, log.base
        is_long = len(log.entries) > LOG_MAX_ENTRIES or log.size > LOG_MAX_BYTES
        if snapshot is None and is_long:
            snapshot, base = self._shorter(log)
        entries = tuple(log.after(max(self._same, base)))
        committed = min(max(self._committed(), self.applied), log.last)
        self._tickets += 1
        self._writing = Write(
            self._tickets, self.view, base, self._same, entries, committed, snapshot, self._origin
        )
        return [self._writing]

    def _shorter(self, log: Log) -> tuple[Snapshot | None, int]:
        """A snapshot of what is applied, and the log's new base, if enough is applied for it."""
        after = log.last - self.applied
        base = min(log.base_for(LOG_KEPT_ENTRIES + after, LOG_KEPT_BYTES), self.applied)
        if self.applied > log.last or base <= log.base:
            return None, log.base
        return self._now(), base
