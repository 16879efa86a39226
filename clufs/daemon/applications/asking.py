"""Commands of users at this member: they go to the member that plans, and its answers come back.

If that member is lost while a command is under way nobody can tell how far it came. What was set
going goes on: the next planner finds it. A command that says what is to be so is given to it again;
of a relocation the user hears that nobody knows, and the resource's `state` shows what became of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

import msgspec
import trio

from clufs.daemon.applications.messages import Ask, JobOver, Message, Said
from clufs.errors import HostDown
from clufs.timeouts import PLANNER_AGAIN_S, PLANNER_S, QUERY_S

_SAYS_WHAT_IS_TO_BE = frozenset(
    ("start", "stop", "update", "maintain", "drain", "leave", "candidates")
)


class Planning(NamedTuple):
    """Who plans, and under which number; 0 for a member that is asked though it need not plan.

    life: the incarnation of this member that asks: what is said to it is not said to the next one.
    """

    number: int
    member: str
    life: int = 0


class _Waiting:
    """A command whose end is awaited."""

    def __init__(self, planner: Planning, say: Callable[[str], None]) -> None:
        self.planner = planner
        self.say = say
        self.over = trio.Event()
        self.end: JobOver | None = None


class Asking:
    """send: brings a message to a member. planner: who plans, or None. members: those of the view."""

    def __init__(
        self,
        send: Callable[[str, Message], None],
        planner: Callable[[], Planning | None],
        members: Callable[[], Collection[str]],
    ) -> None:
        self._send = send
        self._planner = planner
        self._members = members
        self._changed = trio.Event()
        self._jobs = 0
        self._waiting: dict[int, _Waiting] = {}

    async def ask(self, command: Ask, say: Callable[[str], None]) -> int:
        """Have a command carried out; its exit status. say: gets each line of progress as it comes.

        Raises HostDown if no member plans within PLANNER_S, or nobody knows what became of the command.
        """
        while True:
            planner = await self._find_planner()
            try:
                end = await self._try(command, planner, say)
            except HostDown:
                if command.verb not in _SAYS_WHAT_IS_TO_BE:
                    raise
                say(f"{self._lost_touch(planner)}: who plans now is asked again")
                continue
            if end.taken:
                return end.exit
            await trio.sleep(PLANNER_AGAIN_S)

    def _lost_touch(self, asked: Planning) -> str:
        now = self._planner()
        if now is not None and now[:2] == asked[:2]:
            return f"{asked.member} plans, and this member was out of touch with it"
        return f"{asked.member} planned, and does no more"

    async def ask_member(self, member: str, command: Ask) -> bytes:
        """What a certain member has to tell. Raises HostDown."""
        if member not in self._members():
            raise HostDown(f"{member} is not there")
        with trio.move_on_after(QUERY_S):
            return (await self._try(command, Planning(0, member), lambda line: None)).data
        raise HostDown(f"{member} does not answer")

    async def _find_planner(self) -> Planning:
        with trio.move_on_after(PLANNER_S):
            while self._planner() is None:
                await self._changed.wait()
        planner = self._planner()
        if planner is None:
            raise HostDown("no member plans: there is no quorum, or a lost one is not fenced yet")
        return planner

    async def _try(self, command: Ask, planner: Planning, say: Callable[[str], None]) -> JobOver:
        self._jobs = job = self._jobs + 1
        waiting = self._waiting[job] = _Waiting(planner, say)
        try:
            self._send(planner.member, msgspec.structs.replace(command, job=job))
            await waiting.over.wait()
        finally:
            del self._waiting[job]
        if waiting.end is None:
            if not planner.number:
                raise HostDown(f"{planner.member} was lost")
            raise HostDown(f"{self._lost_touch(planner)}: see the resource's state")
        return waiting.end

    def heard(self, sender: str, message: Said | JobOver) -> None:
        """The planner says something to a user here."""
        waiting = self._waiting.get(message.job)
        if waiting is None or waiting.planner.member != sender:
            return
        if isinstance(message, Said):
            waiting.say(message.line)
        else:
            waiting.end = message
            waiting.over.set()

    def planner_changed(self) -> None:
        """Another member plans, or none does: who asked the one before hears no more of it."""
        self._changed.set()
        self._changed = trio.Event()
        planner = self._planner()
        for waiting in self._waiting.values():
            asked = waiting.planner
            if asked != planner and (asked.number or asked.member not in self._members()):
                waiting.over.set()
