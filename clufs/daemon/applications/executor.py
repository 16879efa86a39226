"""What this member does for the planner: it starts, stops and checks applications.

An application runs under an EX lock of this member, `.caa/app/<resource>`: taken before its start
entry is called, given up when its stop entry has succeeded and nothing that it started is left.
While the lock of a lost member stands, the gate stands before it: nobody starts the application.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from typing import Literal, Protocol

import trio

from clufs.actions.interface import ActionResult, ActionRunner, ActionSpec
from clufs.daemon.applications.messages import (
    ActionId,
    CheckFailed,
    Done,
    Inquiry,
    Message,
    Order,
    Printed,
    Report,
    Running,
    UnderWay,
    Watched,
)
from clufs.errors import NoQuorum
from clufs.fuse.internal import InternalLock
from clufs.limits import ACTIONS_REMEMBERED, CHECKS_AT_ONCE
from clufs.tree.reserved import application_lock

log = logging.getLogger("clufsd")

Stage = Literal["waiting", "starting", "online", "failed", "stopping"]


class Locks(Protocol):
    """Where the executor's locks come from: `fuse.internal.InternalLocks`."""

    def ask(self, name: bytes) -> InternalLock:
        """Ask for EX."""

    def release(self, lock: InternalLock) -> None:
        """Give it up, granted or awaited."""


class Specs(Protocol):
    """Knows what is to be run for an application, and how often it is to be checked."""

    def spec(self, order: Order, entry: Literal["start", "stop", "check"]) -> ActionSpec:
        """The action of this entry. A check or a stop without an order takes the profile of now."""

    def check_interval_s(self, order: Order) -> float:
        """CHECK_INTERVAL of the profile of now; 0 for never."""


class _Application:
    """An application that this member has, or is about to: it holds or awaits its lock."""

    def __init__(self, order: Order, lock: InternalLock) -> None:
        self.order = order
        self.lock = lock
        self.stage: Stage = "waiting"
        self.checks = trio.CancelScope()
        self.failed: tuple[str, str] = ("", "")


class _Action:
    """An order that is being carried out. begun_s: when its script was called, 0 before."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.scope = trio.CancelScope()
        self.why_cancelled = ""
        self.begun_s = 0.0


class Executor:
    """Carries out orders; each takes effect once, and none of a planner that has a successor.

    send: brings a message to the planner. planner: the number of the newest that was heard of.
    monitored: what the monitors of this member say, by resource. leaving: no planner is to count on it.
    is_open: between the begin and the end of `run`. on_planner: hears of each new planner, its member and number.
    """

    def __init__(
        self,
        locks: Locks,
        runner: ActionRunner,
        specs: Specs,
        send: Callable[[str, Message], None],
    ) -> None:
        self._locks = locks
        self._runner = runner
        self._specs = specs
        self._send = send
        self.planner = 0
        self.planner_member = ""
        self.planner_changed = trio.Event()
        self.on_planner: Callable[[str, int], None] = lambda member, number: None
        self.monitored: dict[str, bool] = {}
        self.leaving = False
        self._before = self._first = 0
        self._fenced_at_s = -math.inf
        self._closed = ""
        self._given_up: dict[str, str] = {}
        self._applications: dict[str, _Application] = {}
        self._turns: dict[str, trio.Lock] = {}
        self._actions: dict[ActionId, _Action] = {}
        self._ended: OrderedDict[ActionId, Done] = OrderedDict()
        self._checking = trio.CapacityLimiter(CHECKS_AT_ONCE)
        self.is_open = False
        self._nursery: trio.Nursery

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry out orders until cancelled."""
        async with trio.open_nursery() as self._nursery:
            self.is_open = True
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self.is_open = False

    def fenced(self) -> None:
        """A lost member is surely off: what waited for that waits for it no more."""
        self._fenced_at_s = trio.current_time()

    # ------------------------------------------------------------ what is so

    def running(self) -> list[str]:
        """The applications that were started here and not stopped."""
        return [name for name, each in self._applications.items() if each.stage in _HELD]

    # -------------------------------------------------------------- messages

    def inquired(self, sender: str, inquiry: Inquiry) -> None:
        """A member plans, and wants to know what is so here; who is as good as gone does not answer."""
        if self._follow(sender, inquiry.planner) and not self.leaving:
            self.report()

    def _follow(self, sender: str, planner: int) -> bool:
        """Whether this is the newest planner; its predecessors are not heard any more."""
        if planner < self.planner:
            return False
        if planner > self.planner:
            self._before, self.planner = self.planner, planner
            self._first = self._first or planner
            self._ended.clear()
            self.on_planner(sender, planner)
        if sender != self.planner_member:
            self.planner_member = sender
        self.planner_changed.set()
        self.planner_changed = trio.Event()
        return True

    def report(self) -> None:
        """Tell the planner what is so here."""
        applications = self._applications.items()
        self._tell(
            Report(
                self.planner,
                self._before,
                [Running(name, *each.failed) for name, each in applications if each.stage in _HELD],
                [
                    UnderWay(*id, action.order.resource, action.order.entry)
                    for id, action in self._actions.items()
                ],
                [name for name, online in self.monitored.items() if online],
                [name for name, online in self.monitored.items() if not online],
                dict(self._given_up),
                self._first,
            )
        )

    def watched(self, resource: str, online: bool) -> None:
        """A monitor of this member has found a network or a device, or misses it."""
        self.monitored[resource] = online
        self._tell(Watched(self.planner, resource, online))

    def forget_monitor(self, resource: str) -> None:
        """The network or device is not watched any more."""
        self.monitored.pop(resource, None)

    def _tell(self, message: Message) -> None:
        if self.planner_member:
            self._send(self.planner_member, message)

    def ordered(self, sender: str, order: Order) -> None:
        """The planner orders an action."""
        id = ActionId(order.planner, order.action)
        if not self._follow(sender, order.planner):
            why = f"planner {order.planner} was followed by {self.planner}"
            self._send(sender, Done(*id, order.resource, False, why))
        elif id in self._ended:
            self._tell(self._ended[id])
        elif id not in self._actions and self.is_open:
            self._actions[id] = action = _Action(order)
            self._nursery.start_soon(self._carry_out, id, action)

    # --------------------------------------------------------------- actions

    async def _carry_out(self, id: ActionId, action: _Action) -> None:
        order = action.order
        result, begun_s = _not_done(""), trio.current_time()
        if order.entry != "start":
            self._give_up_start(order.resource)
        with action.scope:
            async with self._turns.setdefault(order.resource, trio.Lock()):
                result = await self._act(action)
        if action.scope.cancelled_caught:
            result = _not_done(action.why_cancelled)
        del self._actions[id]
        ran_s = trio.current_time() - action.begun_s if action.begun_s else 0.0
        waited_s = trio.current_time() - begun_s - ran_s
        fenced_s = min(max(0.0, self._fenced_at_s - begun_s), waited_s)
        times = waited_s - fenced_s, ran_s, fenced_s
        done = Done(*id, order.resource, result.ok, result.why, *times)
        self._ended[id] = done
        if len(self._ended) > ACTIONS_REMEMBERED:
            self._ended.popitem(last=False)
        self._tell(done)

    async def _act(self, action: _Action) -> ActionResult:
        entry = action.order.entry
        if entry == "start":
            return await self._start(action)
        if entry == "clear":
            await self._clear(action.order.resource)
            return _DONE
        return await self._stop(action)

    def _give_up_start(self, resource: str) -> None:
        """A start that only waits for the application's lock ends when a stop is ordered."""
        application = self._applications.get(resource)
        if application is None or application.stage != "waiting":
            return
        for action in self._actions.values():
            if action.order.resource == resource and action.order.entry == "start":
                action.why_cancelled = "it was to be stopped before it could be started"
                action.scope.cancel()

    async def _start(self, action: _Action) -> ActionResult:
        if self._closed:
            return _not_done(self._closed)
        order = action.order
        application = self._applications.get(order.resource)
        self._given_up.pop(order.resource, None)
        if application is None:
            lock = self._locks.ask(application_lock(order.resource))
            application = self._applications[order.resource] = _Application(order, lock)
            try:
                await lock.granted()
            except NoQuorum as error:
                self._forget(application)
                return _not_done(str(error))
            except trio.Cancelled:
                self._forget(application)
                raise
        self._watch_no_more(application)
        application.order, application.stage = order, "starting"
        result = await self._run(action, "start")
        application.stage = "online" if result.ok else "failed"
        if result.ok:
            self._watch(application)
        else:
            application.failed = ("start", result.why)
        return result

    async def _stop(self, action: _Action) -> ActionResult:
        application = self._applications.get(action.order.resource)
        if application is None:
            return _DONE
        self._watch_no_more(application)
        application.stage = "stopping"
        result = await self._run(action, "stop")
        if result.keeper_died:
            result = _DONE  # the next keeper begins by ending all that is left of it
        if result.ok:
            await self._clear(action.order.resource)
        else:
            application.stage = "failed"
            application.failed = ("stop", result.why)
        return result

    async def _clear(self, resource: str) -> None:
        """End whatever is left of an application, then give up its lock."""
        application = self._applications.get(resource)
        if application is None:
            return
        self._watch_no_more(application)
        with trio.CancelScope(shield=True):
            await self._runner.end(resource)
        self._forget(application)

    def _forget(self, application: _Application) -> None:
        self._locks.release(application.lock)
        if self._applications.get(application.order.resource) is application:
            del self._applications[application.order.resource]

    async def _run(self, action: _Action, entry: Literal["start", "stop"]) -> ActionResult:
        order = action.order

        def say(line: str) -> None:
            self._tell(Printed(order.planner, order.action, line))

        action.begun_s = trio.current_time()
        spec = self._specs.spec(order, entry)
        return await self._runner.run(spec, say if order.output else None)

    # ---------------------------------------------------------------- checks

    def _watch(self, application: _Application) -> None:
        application.checks = trio.CancelScope()
        self._nursery.start_soon(self._check, application, application.checks)

    def _watch_no_more(self, application: _Application) -> None:
        application.checks.cancel()
        application.failed = ("", "")

    async def _check(self, application: _Application, scope: trio.CancelScope) -> None:
        """Call the check entry every CHECK_INTERVAL; whenever it fails the planner decides what follows."""
        with scope:
            while True:
                interval_s = self._specs.check_interval_s(application.order)
                await trio.sleep(interval_s or _LOOK_AGAIN_S)
                if not interval_s:
                    continue
                async with self._checking:
                    spec = self._specs.spec(application.order, "check")
                    result = await self._runner.run(spec)
                application.failed = ("", "") if result.ok else ("check", result.why)
                if not result.ok:
                    name = application.order.resource
                    self._tell(CheckFailed(self.planner, name, result.why))

    # -------------------------------------------------------------- the ends

    async def stop_all(
        self, why: str, within_s: float, names: Collection[str] | None = None
    ) -> list[str]:
        """Stop every application, or these, at once: a stop entry has so long, then all is ended.

        Starts are refused until `reopen`. Returns the names when nothing of them is left and no lock held.
        """
        self._closed = why
        for action in list(self._actions.values()):
            action.why_cancelled = why
            action.scope.cancel()
        stopped = [name for name in self._applications if names is None or name in names]
        async with trio.open_nursery() as nursery:
            for name in stopped:
                nursery.start_soon(self._stop_at_once, name, within_s)
        return stopped

    async def _stop_at_once(self, name: str, within_s: float) -> None:
        async with self._turns.setdefault(name, trio.Lock()):
            application = self._applications.get(name)
            if application is None:
                return
            has_failed_to_stop = application.failed[0] == "stop"
            self._watch_no_more(application)
            if application.stage != "waiting":
                application.stage = "stopping"
                if not has_failed_to_stop:  # stop is not called from UNKNOWN
                    with trio.move_on_after(within_s):
                        await self._runner.run(self._specs.spec(application.order, "stop"))
                await self._runner.end(name)
                self._given_up[name] = self._closed
            self._forget(application)

    def ended_by_themselves(self, names: Iterable[str]) -> None:
        """These applications were ended without an order: nothing of them is left."""
        for name in names:
            application = self._applications.get(name)
            is_ours = application is not None and application.stage != "waiting"
            if application is not None and is_ours and self.is_open:
                self._nursery.start_soon(self._after_an_end, application)

    async def _after_an_end(self, application: _Application) -> None:
        name = application.order.resource
        async with self._turns.setdefault(name, trio.Lock()):
            if self._applications.get(name) is application:
                await self._clear(name)
                self.report()

    def reopen(self) -> None:
        """Starts are carried out again; the planner hears what is so."""
        self._closed = ""
        self.report()


_HELD = ("online", "failed", "stopping")
_LOOK_AGAIN_S = 5.0
_DONE = ActionResult(True, "nothing of it is left", 0, False, b"")


def _not_done(why: str) -> ActionResult:
    return ActionResult(False, why, None, False, b"")
