"""/clu/members/MEMBER/drain and if_lost: applications leave a member, or would."""

from __future__ import annotations

import stat
from collections.abc import Awaitable

from clufs.errors import HostDown
from clufs.tree.control import Order, parse_drain
from clufs.tree.files import Registry
from clufs.tree.items import Attributes, Caller, File, StaticDirectory
from clufs.tree.resource import Caa, Orders, SpokenFile


class DrainFile(SpokenFile):
    """1 while no application is placed on the member. Written by root: 1 has all that run there relocated.

    It is kept in the registry, and so lasts until 0 is written, whoever restarts meanwhile.
    """

    __slots__ = ("_member", "_orders", "_registry")

    def __init__(
        self, directory: StaticDirectory, member: str, registry: Registry, orders: Orders
    ) -> None:
        super().__init__(directory.path + b"/drain")
        self._member = member
        self._registry = registry
        self._orders = orders

    def attributes(self, caller: Caller) -> Attributes:
        return Attributes(stat.S_IFREG | 0o644, size=len(self.show(caller)))

    def show(self, caller: Caller) -> bytes:
        return b"%d\n" % (self._member in self._registry.state.drained)

    @property
    def caa(self) -> Caa:
        return self._orders.caa

    def parse(self, data: bytes) -> Order:
        return parse_drain(self._member, data)

    def store(self, data: bytes, caller: Caller) -> Awaitable[None]:
        return self._orders.carry_out(self.parse(data))


class IfLostFile(File):
    """What would be done if the member were lost now, as its planner says."""

    __slots__ = ("_caa", "_member")

    def __init__(self, directory: StaticDirectory, member: str, caa: Caa) -> None:
        super().__init__(directory.path + b"/if_lost")
        self._member = member
        self._caa = caa

    @property
    def elsewhere(self) -> bool:
        return True

    def attributes(self, caller: Caller) -> Attributes:
        return Attributes(stat.S_IFREG | 0o444)

    async def ask_attributes(self, caller: Caller) -> Attributes:
        """Where nobody can tell it has no size; who opens it hears why."""
        try:
            size = len(await self.ask_show(caller))
        except HostDown:
            size = 0
        return Attributes(stat.S_IFREG | 0o444, size=size)

    def show(self, caller: Caller) -> bytes:
        return b""

    async def ask_show(self, caller: Caller) -> bytes:
        lines: list[str] = []
        await self._caa.order(Order("what-if", "", member=self._member), lines.append)
        return "".join(f"{line}\n" for line in lines).encode()
