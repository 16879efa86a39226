"""The fencing agent `lun`: a life of a member is kept from every data LUN, and the LUNs prove it."""

from __future__ import annotations

import time
from collections.abc import Callable

import trio

from clufs.cluster.agents import Verdict
from clufs.dlm.interface import Life
from clufs.errors import LunError, NotFenced, PathLost
from clufs.storage.certificate import FenceCertificate, MemberKey
from clufs.storage.fencing import Ask, Bury, Fencing, Target
from clufs.storage.guard import Guard
from clufs.storage.inventory import KnownPath, SharedLun
from clufs.storage.keeping import Luns
from clufs.storage.records import Eviction
from clufs.storage.tombstones import Tombstones


class LunAgent:
    """Fences with the key of the present life. number_of: a member's nodeid. view: the number of the present view."""

    def __init__(
        self,
        luns: Luns,
        tombstones: Tombstones,
        guard: Guard,
        number_of: Callable[[str], int],
        view: Callable[[], int],
        timeout_s: float,
    ) -> None:
        self._luns = luns
        self._tombstones = tombstones
        self._guard = guard
        self._number_of = number_of
        self._view = view
        self._timeout_s = timeout_s

    async def fence(self, life: Life) -> Verdict:
        """One attempt, of `timeout_s` at most; what the LUNs do not answer in time fails, and is named."""
        try:
            certificates = await self.certify(life)
        except NotFenced as failure:
            return Verdict(False, str(failure))
        return Verdict(True, "; ".join(one.line() for one in certificates))

    async def certify(self, life: Life) -> tuple[FenceCertificate, ...]:
        """A certificate of every data LUN. Raises NotFenced, which names each LUN that has none, and why."""
        key = self._guard.key
        if key is None:
            raise NotFenced("this member itself is not registered")
        victim = MemberKey(key.cluster, self._number_of(life.member), life.incarnation)
        expected = self._luns.inventory.expected("data").items()
        luns = {lun.wwid if lun is not None else name: lun for name, lun in expected}
        if not luns or not self._tombstones.disks:
            raise NotFenced("there must be a LUN of role data and one of role clufs")
        run = _Run(self, key, victim, luns)
        await run.carry_out()
        self._guard.aborts.update(run.aborts)
        return run.certificates

    def tombstone(self, key: MemberKey, victim: MemberKey) -> Eviction:
        """What is written on the LUNs of clufs."""
        return Eviction(
            key.cluster,
            writer=key.member,
            by=key.incarnation,
            victim=victim.member,
            incarnation=victim.incarnation,
            view=self._view(),
            time_ns=time.time_ns(),
        )


class _Run:
    """One fencing under way."""

    def __init__(
        self,
        agent: LunAgent,
        key: MemberKey,
        victim: MemberKey,
        luns: dict[str, SharedLun | None],
    ) -> None:
        self._agent = agent
        self._tombstone = agent.tombstone(key, victim)
        self._paths: dict[tuple[str, str], KnownPath] = {
            (name, path.name): path
            for name, lun in luns.items()
            if lun is not None
            for path in lun.paths.values()
            if path.entry is not None
        }
        targets = {
            name: Target(
                tuple(path for lun, path in self._paths if lun == name),
                agent._guard.aborts.get(name, True),
            )
            for name in luns
        }
        disks = agent._tombstones.disks
        self._fencing = Fencing(key, victim, disks, targets, time.time_ns)
        self._over = trio.Event()
        self._nursery: trio.Nursery

    @property
    def aborts(self) -> dict[str, bool]:
        """See Fencing."""
        return self._fencing.aborts

    @property
    def certificates(self) -> tuple[FenceCertificate, ...]:
        """Of all LUNs. Raises NotFenced."""
        failures = [str(one) for one in self._fencing.failures]
        if not self._fencing.done:
            waited_for = ", ".join(self._fencing.waits_for)
            failures.append(f"no answer within {self._agent._timeout_s:g} s: {waited_for}")
        if failures:
            raise NotFenced("; ".join(failures))
        return self._fencing.certificates

    async def carry_out(self) -> None:
        """Until every LUN is finished, or the time is up: each command has a deadline of its own besides."""
        with trio.move_on_after(self._agent._timeout_s):
            async with trio.open_nursery() as self._nursery:
                self._do(self._fencing.begin())
                await self._over.wait()
                self._nursery.cancel_scope.cancel()

    def _do(self, effects: list[Bury | Ask]) -> None:
        for effect in effects:
            if isinstance(effect, Bury):
                self._nursery.start_soon(self._bury, effect.disk)
            else:
                self._nursery.start_soon(self._ask, effect)
        if self._fencing.done:
            self._over.set()

    async def _bury(self, disk: str) -> None:
        failure: LunError | None = None
        try:
            await self._agent._tombstones.bury(disk, self._tombstone)
        except LunError as error:
            failure = error
        self._do(self._fencing.buried(disk, failure))

    async def _ask(self, ask: Ask) -> None:
        path = self._paths[ask.at.lun, ask.at.path]
        answer: bytes | LunError
        try:
            if path.opened is None or path.opened.lun is None:
                raise PathLost(path.why or "takes no reservations")
            answer = await path.opened.lun.run(ask.sent.command, ask.sent.data)
        except LunError as error:
            answer = error
        self._do(self._fencing.answered(ask, answer))
