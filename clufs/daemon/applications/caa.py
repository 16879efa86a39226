"""What the tree's files of resources stand on: orders, and what other members know."""

from __future__ import annotations

from clufs.daemon.applications.messages import Ask
from clufs.daemon.applications.service import Applications
from clufs.errors import NoSuchName
from clufs.tree.control import Order
from clufs.tree.resource import Say


class ApplicationOrders:
    """Implements the tree's `Caa`: an order goes to the member that plans, and its lines come back."""

    def __init__(self, applications: Applications) -> None:
        self._applications = applications

    async def order(self, order: Order, say: Say) -> int:
        """Carry out; the exit status. Cancelled, the order goes on. Raises HostDown."""
        ask = Ask(
            0,
            order.verb,
            order.resource,
            order.member,
            order.force,
            order.dry_run,
            order.on,
            dict(order.variables),
            order.locale,
            order.output,
            order.profile,
            order.holder,
        )
        return await self._applications.asking.ask(ask, say)

    async def output(self, resource: str) -> bytes:
        """What it printed on the member where it runs, or ran last. Raises HostDown, NoSuchName."""
        record = self._applications.resources().get(resource)
        if record is None:
            raise NoSuchName(f"{resource} is not registered")
        runs = record.starts_and_stops
        member = record.member or (runs[-1].member if runs else self._applications.name)
        return await self._applications.asking.ask_member(member, Ask(0, "output", resource))

    async def candidates(self, resource: str) -> str:
        """A line for each member, the best first: whether it is eligible, its rank, and why. Raises HostDown."""
        lines: list[str] = []
        await self._applications.asking.ask(Ask(0, "candidates", resource), lines.append)
        return "".join(f"{line}\n" for line in lines)
