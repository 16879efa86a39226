"""A member without a planner."""

from __future__ import annotations

from clufs.errors import HostDown
from clufs.tree.control import Order
from clufs.tree.resource import Say


class Unplanned:
    """Implements the tree's `Caa` where no member plans applications."""

    async def order(self, order: Order, say: Say) -> int:
        """Raises HostDown."""
        raise HostDown("no member plans applications")

    async def output(self, resource: str) -> bytes:
        """Raises HostDown."""
        raise HostDown("no member plans applications")

    async def candidates(self, resource: str) -> str:
        """Raises HostDown."""
        raise HostDown("no member plans applications")
