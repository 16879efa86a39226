"""One member's time as planner: the pure planner of applications, its ears, hands and memory.

The planner is whoever holds the lock `.caa/planner`; the lock's sequencer numbers it. It begins by
asking every member what runs there, counts a member as up once that one has answered, and then
takes one event after the other. What it decides is ordered at once and saved soon: the orders of
all events at hand go out first, then one save for all of them; a user hears of the end of a
command when all that was decided for it is on record at a quorum.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import trio

from clufs.caa import interface as i
from clufs.caa.machine import Planner
from clufs.caa.records import ResourceRecord
from clufs.daemon.applications.commands import command_of, joined, local_time, profile_of
from clufs.daemon.applications.ground import Ground
from clufs.daemon.applications.messages import (
    ActionId,
    Ask,
    CheckFailed,
    Done,
    Inquiry,
    JobOver,
    Message,
    Order,
    Printed,
    Report,
    Said,
    Watched,
)
from clufs.errors import ClufsError, OldPlanner
from clufs.registry.resources import Register, Unregister
from clufs.timeouts import INQUIRE_AGAIN_S, INQUIRY_S, SAVE_AGAIN_S, WALL_LOOK_S, WALL_SET_S

log = logging.getLogger("clufsd")


class _Job:
    """A command under way, and who waits for it: number is the waiting member's."""

    def __init__(self, member: str, ask: Ask) -> None:
        self.member = member
        self.ask = ask


class _Changed:
    """The view has changed."""


class _Restored:
    """All of the registry may have changed."""


Item = tuple[str, Message] | Register | Unregister | _Changed | _Restored | i.Ticked


class Reign:
    """number: the sequencer of the lock. `run` lasts until it is cancelled, or another planner has saved."""

    def __init__(self, number: int, ground: Ground) -> None:
        self.number = number
        self._ground = ground
        self._put, self._items = trio.open_memory_channel[Item](math.inf)
        self._planner: Planner
        self._up: dict[str, int] = {}
        self._monitors: dict[tuple[str, str], bool] = {}
        self._orders: dict[int, tuple[str, Order, int]] = {}
        self._inherited: dict[ActionId, tuple[str, int]] = {}
        self._jobs: dict[int, _Job] = {}
        self._job = 0
        self._leaving: set[str] = set()
        self._unsaved: dict[str, ResourceRecord] = {}
        self._drained: Sequence[str] | None = None
        self._endings: list[i.EndJob] = []
        self._dirty = trio.Event()
        self._booted_at = ground.wall() - ground.since_boot()
        self._wake_at = math.inf
        self._wake_changed = trio.Event()

    # ------------------------------------------------------------ what comes

    def heard(self, sender: str, message: Message) -> None:
        """A member says something to the planner."""
        self._put.send_nowait((sender, message))

    def registered(self, command: Register | Unregister) -> None:
        """The registry has applied this."""
        self._put.send_nowait(command)

    def restored(self) -> None:
        """All of the registry may have changed."""
        self._put.send_nowait(_Restored())

    def view_changed(self) -> None:
        """Members came or went; it is only called while there is a view with quorum."""
        self._put.send_nowait(_Changed())

    # ------------------------------------------------------------- the reign

    async def run(self) -> None:
        """Plan. Returns when another planner has saved something."""
        early = await self._ask_around()
        self._begin()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._save_all, nursery.cancel_scope)
            nursery.start_soon(self._wake)
            nursery.start_soon(self._ask_the_silent)
            for item in early:
                self._take(item)
            while True:
                self._dirty.set()
                item = await self._items.receive()
                await self._ground.stands()
                self._take(item)
                while self._items.statistics().current_buffer_used:
                    self._take(self._items.receive_nowait())

    async def _ask_around(self) -> list[Item]:
        """Have every member report, for so long; what else came meanwhile."""
        early: list[Item] = []
        self._reports: dict[str, Report] = {}
        await self._ground.stands()
        lives = dict(self._ground.lives())
        for member in lives:
            self._ground.send(member, Inquiry(self.number))
        with trio.move_on_after(INQUIRY_S):
            while lives.keys() - self._reports.keys():
                item = await self._items.receive()
                if isinstance(item, tuple) and isinstance(item[1], Report):
                    if item[1].planner == self.number:
                        self._reports[item[0]] = item[1]
                else:
                    early.append(item)
                if isinstance(item, _Changed):
                    now = dict(self._ground.lives())
                    for member in [m for m, life in now.items() if lives.get(m) != life]:
                        self._reports.pop(member, None)
                        self._ground.send(member, Inquiry(self.number))
                    lives = now
        self._up = {member: life for member, life in lives.items() if member in self._reports}
        return early

    def _begin(self) -> None:
        """Make the planner of what is on record and what the members say."""
        reports = {member: self._reports[member] for member in self._up}
        records = self._ground.resources()
        profiles = {
            name: profile for name, record in records.items() if (profile := profile_of(record))
        }
        under_way = []
        for member, report in reports.items():
            for one in report.under_way:
                self._inherited[ActionId(one.planner, one.action)] = (member, one.action)
                under_way.append(i.UnderWay(one.action, one.resource, member, one.entry))
            self._monitors |= {(name, member): True for name in report.online}
            self._monitors |= {(name, member): False for name in report.offline}
        self._planner = Planner(
            [records[name] for name in profiles],
            profiles,
            tuple(self._up),
            running={
                member: [one.resource for one in report.running]
                for member, report in reports.items()
            },
            given_up={member: report.given_up for member, report in reports.items()},
            under_way=under_way,
            monitors=self._monitors,
            drained=self._ground.drained(),
            incarnations=dict(self._up),
            silent_s=self._ground.silent_s(),
            booted=all(self._saw_no_planner(report) for report in reports.values()),
            local=local_time,
        )
        self._step(self._members_changed())
        for member, report in reports.items():
            self._compare(member, report)
        self._reports.clear()

    def _saw_no_planner(self, report: Report) -> bool:
        """Whether no planner that this member has heard of has saved anything: what one begins with is on record."""
        return not report.seen or (report.first or report.seen) > self._ground.saved_by()

    def _take(self, item: Item) -> None:
        match item:
            case _Changed():
                self._count_members()
            case _Restored():
                self._compare_registry()
            case Register() | Unregister():
                self._resource_changed(item.name)
            case i.Ticked():
                self._step(item)
            case (sender, message):
                self._hear(sender, message)

    def _step(self, event: i.Event) -> None:
        by_s = self._clock_set_by()
        if by_s:
            self._booted_at += by_s
            self._step(i.ClockSet(by_s))
        for effect in self._planner.step(self._ground.wall(), event):
            self._carry_out(effect)

    # --------------------------------------------------------------- members

    def _members_changed(self, *joined: str) -> i.MembersChanged:
        order = [member for member in self._ground.lives() if member in self._up]
        silent_s = self._ground.silent_s()
        return i.MembersChanged(tuple(order), joined, dict(self._up), silent_s=silent_s)

    def _count_members(self) -> None:
        lives = self._ground.lives()
        gone = [member for member, life in self._up.items() if lives.get(member) != life]
        for member in gone:
            del self._up[member]
            self._orders = {n: one for n, one in self._orders.items() if one[0] != member}
            self._monitors = {key: on for key, on in self._monitors.items() if key[1] != member}
        if gone:
            self._step(self._members_changed())
        for member in lives:
            self._ground.send(member, Inquiry(self.number))
        for member, order, _ in self._orders.values():
            self._ground.send(member, order)

    async def _ask_the_silent(self) -> None:
        while True:
            await trio.sleep(INQUIRE_AGAIN_S)
            for member in self._ground.lives():
                if member not in self._up:
                    self._ground.send(member, Inquiry(self.number))

    def _reported(self, member: str, report: Report) -> None:
        life = self._ground.lives().get(member)
        if life is None or report.planner != self.number:
            return
        if member not in self._up:
            self._up[member] = life
            # What it runs although it was not heard of: it was silent when this planner began.
            running = {member: [one.resource for one in report.running]}
            self._step(replace(self._members_changed(member), running=running))
            if member in self._leaving:
                self._leaving.discard(member)
                self._order_inside(i.Drain(member, on=False))
        self._compare(member, report)

    def _compare(self, member: str, report: Report) -> None:
        """What the member says against what is known: it may have ended something by itself."""
        for resource in report.online:
            self._watched(resource, member, True)
        for resource in report.offline:
            self._watched(resource, member, False)
        running = {one.resource: one for one in report.running}
        busy = {order.resource for where, order, _ in self._orders.values() if where == member}
        busy |= {one.resource for one in report.under_way}
        for name, known in list(self._planner.table.resources.items()):
            if name in busy or not known.is_application or not known.runs_on(member):
                continue
            if name not in running:
                given_up = report.given_up.get(name)
                why = (
                    f"{member} stopped it: {given_up}" if given_up else f"it has ended on {member}"
                )
                self._step(i.Ended(name, member, why, failed=given_up is None))
            elif running[name].failed == "check":
                self._step(i.CheckFailed(name, member, running[name].why))
        for name in running.keys() - busy:
            self._step(i.Found(name, member))

    def _watched(self, resource: str, member: str, online: bool) -> None:
        if self._monitors.get((resource, member)) != online:
            self._monitors[resource, member] = online
            self._step(i.MonitorChanged(resource, member, online))

    # -------------------------------------------------------------- messages

    def _hear(self, sender: str, message: Message) -> None:
        match message:
            case Done():
                self._ended(sender, message)
            case Printed():
                self._printed(sender, message)
            case Report():
                self._reported(sender, message)
            case CheckFailed():
                if sender in self._up:
                    self._step(i.CheckFailed(message.resource, sender, message.why))
            case Watched():
                if sender in self._up:
                    self._watched(message.resource, sender, message.online)
            case Ask():
                self._asked(sender, message)

    def _ended(self, sender: str, done: Done) -> None:
        id = ActionId(done.planner, done.action)
        if done.planner == self.number:
            found = self._orders.get(done.action)
            if found is None or found[0] != sender:
                # Ordered before its member was out of sight for a while: what came of it, it tells itself.
                self._ground.send(sender, Inquiry(self.number))
                return
            del self._orders[done.action]
            action = done.action
        else:
            member, action = self._inherited.pop(id, ("", 0))
            if member != sender:
                return
        times = done.waited_s, done.ran_s, done.fenced_s
        self._step(i.ActionEnded(action, done.ok, done.why, *times))

    def _printed(self, sender: str, printed: Printed) -> None:
        found = self._orders.get(printed.action)
        if found is None or printed.planner != self.number or found[0] != sender:
            return
        member, order, job = found
        prefix = "" if order.output == "vs" else f"{member}:{order.resource}:"
        self._say(job, prefix + printed.line)

    # -------------------------------------------------------------- commands

    def _asked(self, member: str, ask: Ask) -> None:
        self._job += 1
        self._jobs[self._job] = _Job(member, ask)
        if ask.verb == "leave" and member not in self._planner.table.drained_members:
            self._leaving.add(member)
        if ask.verb == "candidates":
            self._tell_candidates(ask.resource)
            return
        try:
            command = command_of(ask, member)
        except ClufsError as error:
            self._say(self._job, str(error))
            self._carry_out(i.EndJob(self._job, 1))
            return
        self._step(i.Ordered(self._job, command))
        if ask.verb == "drain" and ask.on and not ask.dry_run and ask.member in self._leaving:
            # A person means it beyond the goodbye.
            self._leaving.discard(ask.member)
            self._keep_drained(self._planner.table.drained_members)

    def _tell_candidates(self, resource: str) -> None:
        for one in self._planner.candidates(resource):
            rank = f"eligible {one.rank}" if one.eligible else "not-eligible -"
            self._say(self._job, f"{one.member} {rank} {one.reason}")
        self._carry_out(i.EndJob(self._job, 0))

    def _order_inside(self, command: i.Command) -> None:
        """A command that nobody waits for."""
        self._job += 1
        self._step(i.Ordered(self._job, command))

    def _say(self, job: int, line: str) -> None:
        found = self._jobs.get(job)
        if found is not None:
            self._ground.send(found.member, Said(found.ask.job, line))

    # --------------------------------------------------------------- effects

    def _carry_out(self, effect: i.Effect) -> None:
        match effect:
            case i.RunAction():
                self._order(effect)
            case i.Save():
                for record in effect.records:
                    self._unsaved[record.name] = joined(self._unsaved.get(record.name), record)
            case i.SaveDrained():
                self._keep_drained(effect.members)
            case i.Say():
                self._say(effect.job, effect.text)
            case i.EndJob():
                self._endings.append(effect)
            case i.WakeAt():
                self._wake_at = effect.time_s
                self._wake_changed.set()

    def _keep_drained(self, members: Iterable[str]) -> None:
        """Who only leaves is not drained any more when it comes back."""
        self._drained = sorted({*members} - self._leaving)

    def _order(self, effect: i.RunAction) -> None:
        job = self._jobs.get(effect.job)
        known = self._planner.table.resources[effect.resource]
        order = Order(
            self.number,
            effect.action,
            effect.resource,
            effect.entry,
            str(effect.reason),
            known.profile.text(),
            dict(effect.variables),
            job.ask.locale if job is not None else "",
            job.ask.output if job is not None else "",
        )
        self._orders[effect.action] = (effect.member, order, effect.job)
        self._ground.send(effect.member, order)

    def _clock_set_by(self) -> float:
        """By how much the wall clock was set since it was looked at last, 0 if it was not."""
        by_s = self._ground.wall() - self._ground.since_boot() - self._booted_at
        return by_s if abs(by_s) >= WALL_SET_S else 0.0

    async def _wake(self) -> None:
        """The wall clock may be set: it is looked at again every so often."""
        while True:
            left_s = self._wake_at - self._ground.wall()
            if left_s <= 0 or (self._clock_set_by() and self._wake_at < math.inf):
                self._wake_at = math.inf
                self._put.send_nowait(i.Ticked())
                continue
            self._wake_changed = trio.Event()
            with trio.move_on_after(min(left_s, WALL_LOOK_S)):
                await self._wake_changed.wait()

    # ---------------------------------------------------------------- saving

    async def _save_all(self, over: trio.CancelScope) -> None:
        """Save what has gathered, again and again; what fails is tried again, with what came since.

        The first save says at least who plans: until then the cluster has not booted.
        """
        is_known = False
        while True:
            await self._dirty.wait()
            self._dirty = trio.Event()
            records, self._unsaved = self._unsaved, {}
            endings, self._endings = self._endings, []
            drained, self._drained = self._drained, None
            try:
                if records or not is_known:
                    await self._ground.save(self.number, list(records.values()))
                    records, is_known = {}, True
                if drained is not None:
                    await self._ground.save_drained(self.number, drained)
            except OldPlanner as error:
                log.warning("planner %d ends: %s", self.number, error)
                over.cancel()
                return
            except ClufsError as error:
                log.warning("what became of resources is not on record yet: %s", error)
                self._put_back(records, drained)
                self._endings = endings + self._endings
                self._dirty.set()
                await trio.sleep(SAVE_AGAIN_S)
                continue
            for ending in endings:
                self._end_job(ending)

    def _put_back(
        self, records: Mapping[str, ResourceRecord], drained: Sequence[str] | None
    ) -> None:
        for name, record in records.items():
            later = self._unsaved.get(name)
            self._unsaved[name] = record if later is None else joined(record, later)
        if self._drained is None:
            self._drained = drained

    def _end_job(self, ending: i.EndJob) -> None:
        found = self._jobs.pop(ending.job, None)
        if found is not None:
            self._ground.send(found.member, JobOver(found.ask.job, ending.exit))

    # -------------------------------------------------------------- registry

    def _resource_changed(self, name: str) -> None:
        record = self._ground.resources().get(name)
        known = self._planner.table.get(name)
        if record is None:
            if known is not None:
                self._step(i.Unregistered(name))
            return
        profile = profile_of(record)
        if profile is None:
            return
        if known is None:
            self._step(i.Registered(record, profile))
            # A member may have applied the command before this one, and have looked.
            for (resource, member), online in self._monitors.items():
                if resource == name:
                    self._step(i.MonitorChanged(name, member, online))
        elif known.profile != profile:
            self._order_inside(i.Update(name, profile))

    def _compare_registry(self) -> None:
        for name in {*self._ground.resources(), *self._planner.table.resources}:
            self._resource_changed(name)
