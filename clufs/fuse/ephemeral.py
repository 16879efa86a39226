"""Files of /clu/lockfiles that end with the processes that made them.

While such a file is there its maker counts as the holder of a lock does: it is on record for a daemon
that comes after this one, and killed where this member is expelled, leaves, or may not keep what it holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import trio

from clufs.errors import ClufsError
from clufs.fuse import loop
from clufs.limits import DROPPED_AT_ONCE
from clufs.registry.inode_commands import DropMade, MakeInode, Maker
from clufs.timeouts import DROP_AGAIN_S

if TYPE_CHECKING:
    from clufs.fuse.lock_service import LockService
    from clufs.fuse.owners import ProcessOwner
    from clufs.registry.commands import Command
    from clufs.tree.items import Caller
    from clufs.tree.lockfiles import InodeDirectory, InodeItem, InodeRegistry


class Ephemerals:
    """The makers on this member, and what each has made. life: this member's name and incarnation."""

    def __init__(
        self, service: LockService, registry: InodeRegistry, life: Callable[[], tuple[str, int]]
    ) -> None:
        self._service = service
        self._registry = registry
        self._life = life
        self._makers: dict[int, ProcessOwner] = {}
        self._made: dict[ProcessOwner, set[int]] = {}
        self._to_drop: set[int] = set()
        self._is_dropping = False
        service.makers = self.makers
        service.maker_ended = self._ended

    def makers(self) -> list[ProcessOwner]:
        """The processes whose files are there."""
        return list(self._made)

    async def make(
        self, directory: InodeDirectory, name: bytes, mode: int, caller: Caller
    ) -> InodeItem:
        """Make a file that goes with its maker. Raises what `InodeDirectory.make` does, and
        UnknownProcess where the maker cannot be seen."""
        service = self._service
        process = service.processes.by_pid.get(caller.pid) or service.processes.get(caller.pid)
        process.making += 1
        process.put_on(service.record)
        try:
            maker = Maker(*self._life(), process.pid)
            return await directory.make(name, mode, caller, maker=maker)
        finally:
            self._less(process)

    def _less(self, process: ProcessOwner) -> None:
        process.making -= 1
        if not process.making and not process.locks:
            process.take_off(self._service.record)

    def look(self, command: Command) -> None:
        """The registry has applied a command: whoever asked for a file, and whatever it was told, has it now."""
        table = self._registry.table
        if table.ended:
            self._gone(table.ended)
            table.ended.clear()
        if isinstance(command, MakeInode) and command.maker is not None:
            number = table.find(command.parent, command.name)
            if number is not None:
                self._is_there(number)

    def look_again(self) -> None:
        """The registry was replaced as a whole, or what this member had made is lost."""
        table = self._registry.table
        self._gone([number for number in self._makers if number not in table.inodes])
        for number in table.made_by(*self._life()):
            self._is_there(number)

    def _is_there(self, number: int) -> None:
        maker = self._registry.table.inodes[number].maker
        if maker is None or maker[:2] != self._life() or number in self._makers:
            return
        process = self._service.processes.by_pid.get(maker.pid)
        if process is None:  # it has ended meanwhile
            self._drop_soon([number])
            return
        self._makers[number] = process
        self._made.setdefault(process, set()).add(number)
        process.making += 1
        process.put_on(self._service.record)

    def _gone(self, numbers: Iterable[int]) -> None:
        """These files have no name any more, whoever took it away."""
        for number in numbers:
            process = self._makers.pop(number, None)
            if process is not None:
                made = self._made[process]
                made.discard(number)
                if not made:
                    del self._made[process]
                self._less(process)

    def all_lost(self) -> None:
        """This member was expelled, and the makers are seen gone: the others take their files away."""
        self._gone(list(self._makers))
        self._to_drop.clear()

    def _ended(self, process: ProcessOwner) -> None:
        """A maker has ended: its files go, at the latest when this member has quorum again."""
        made = list(self._made.get(process, ()))
        self._gone(made)
        self._drop_soon(made)

    def _drop_soon(self, numbers: Iterable[int]) -> None:
        self._to_drop.update(numbers)
        if self._to_drop and not self._is_dropping:
            self._is_dropping = True
            loop.spawn(self._drop)

    async def _drop(self) -> None:
        """All that has come together goes in one command."""
        while numbers := sorted(self._to_drop)[:DROPPED_AT_ONCE]:
            self._to_drop.difference_update(numbers)
            try:
                await self._registry.propose(DropMade(numbers, time.time_ns()))
            except ClufsError:
                self._to_drop.update(numbers)
                await trio.sleep(DROP_AGAIN_S)
        self._is_dropping = False
