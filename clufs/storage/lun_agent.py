"""The fencing agent `lun`: a life of a member is kept from every data LUN, and the LUNs prove it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import trio

from clufs.cluster.agents import Verdict
from clufs.dlm.interface import Life
from clufs.errors import LunError, NotFenced, PathLost, ReservationConflict
from clufs.storage import lock_disk
from clufs.storage.carrier import Lun
from clufs.storage.certificate import Certificate, MemberKey
from clufs.storage.commands import Write16
from clufs.storage.fencing import Ask, Bury, Fencing, Target
from clufs.storage.guard import Guard
from clufs.storage.inventory import KnownPath, SharedLun
from clufs.storage.iscsi import iscsi_lun
from clufs.storage.keeping import Luns
from clufs.storage.lease_wire import Seen, boottime
from clufs.storage.lock_disk import LockCertificate, Taking
from clufs.storage.method import Kind
from clufs.storage.paths import ISCSI, isid_of
from clufs.storage.records import Eviction
from clufs.storage.time_rule import NotYet, TimeCertificate, silence
from clufs.storage.tombstones import Tombstones
from clufs.timeouts import LUN_KEYS_LOOK_S


@dataclass(frozen=True, slots=True)
class Around:
    """What the agent asks of the member around it. number_of: a member's nodeid. view: the number of the present view.
    kind_of: how a LUN is fenced. heartbeats: of a nodeid, what each LUN of clufs has shown of it."""

    number_of: Callable[[str], int]
    view: Callable[[], int]
    kind_of: Callable[[SharedLun], Kind]
    heartbeats: Callable[[int], Mapping[str, Seen | None]]


class LunAgent:
    """Fences with the key of the present life, each LUN by its method. timeout_s: what the LUNs have to answer."""

    def __init__(
        self,
        luns: Luns,
        tombstones: Tombstones,
        guard: Guard,
        around: Around,
        timeout_s: float,
    ) -> None:
        self._luns = luns
        self._tombstones = tombstones
        self._guard = guard
        self._around = around
        self._timeout_s = timeout_s

    async def fence(self, life: Life) -> Verdict:
        """One attempt, of `timeout_s` at most where only LUNs are asked; what they do not answer in time fails, and
        is named. Where time has to tell, as long as time takes."""
        try:
            certificates = await self.certify(life)
        except NotFenced as failure:
            return Verdict(False, str(failure))
        return Verdict(True, "; ".join(one.line() for one in certificates))

    async def certify(self, life: Life) -> tuple[Certificate, ...]:
        """A certificate of every data LUN. Raises NotFenced, which names each LUN that has none, and why."""
        key = self._guard.key
        if key is None:
            raise NotFenced("this member itself is not registered")
        victim = MemberKey(key.cluster, self._around.number_of(life.member), life.incarnation)
        expected = self._luns.inventory.expected("data").items()
        luns = {lun.wwid if lun is not None else name: lun for name, lun in expected}
        if not luns or not self._tombstones.disks:
            raise NotFenced("there must be a LUN of role data and one of role clufs")
        around = self._around
        kinds = {name: around.kind_of(lun) if lun else None for name, lun in luns.items()}
        by_time = {name for name, kind in kinds.items() if kind in (Kind.TIME, Kind.PERSON)}
        run = _Run(
            self, key, victim, {n: lun for n, lun in luns.items() if n not in by_time}, kinds
        )
        await run.carry_out()
        self._guard.aborts.update(run.aborts)
        failures = run.failures
        proved: list[Certificate] = [*run.certificates]
        if by_time or failures:
            try:
                if run.unburied:
                    raise NotFenced(run.unburied)
                proved += await self._by_time(key, victim, by_time | set(failures), bool(by_time))
            except NotFenced as failure:
                failures.update(dict.fromkeys(sorted(by_time), str(failure)))
                raise NotFenced(_sentence(failures)) from None
        return tuple(proved)

    async def _by_time(
        self, key: MemberKey, victim: MemberKey, luns: set[str], patient: bool
    ) -> list[TimeCertificate]:
        """What time proves, for all of these LUNs: also where a stronger way has failed. patient: wait for it.

        Raises NotFenced.
        """
        began_s = boottime()
        while True:
            disks = self._around.heartbeats(victim.member)
            longest_s = max((one.line.by_time_s for one in disks.values() if one), default=0.0)
            try:
                silences = silence(victim, disks, boottime())
                break
            except NotYet as early:
                if not patient or boottime() - began_s > longest_s:
                    raise
                await trio.sleep(min(max(early.left_s, LUN_KEYS_LOOK_S), longest_s))
        ends = key.number, time.time_ns(), silences
        return [TimeCertificate(name, victim.number, *ends) for name in sorted(luns)]

    def tombstone(self, key: MemberKey, victim: MemberKey) -> Eviction:
        """What is written on the LUNs of clufs."""
        return Eviction(
            key.cluster,
            writer=key.member,
            by=key.incarnation,
            victim=victim.member,
            incarnation=victim.incarnation,
            view=self._around.view(),
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
        kinds: Mapping[str, Kind | None],
    ) -> None:
        self._luns = luns
        self._victim = victim
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
            if kinds[name] != Kind.LOCK_DISK
        }
        disks = agent._tombstones.disks
        self._fencing = Fencing(key, victim, disks, targets, time.time_ns)
        self._takings = {
            name: Taking(key, victim, disks, name, _sessions(lun), time.time_ns)
            for name, lun in luns.items()
            if kinds[name] == Kind.LOCK_DISK and lun is not None
        }
        self._over = trio.Event()
        self._nursery: trio.Nursery

    @property
    def aborts(self) -> dict[str, bool]:
        """See Fencing."""
        return self._fencing.aborts

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """Of the LUNs that were fenced."""
        taken = (taking.end for taking in self._takings.values())
        locks = [end for end in taken if isinstance(end, LockCertificate)]
        return (*self._fencing.certificates, *locks)

    @property
    def failures(self) -> dict[str, str]:
        """Why each of the others was not."""
        late = f"no answer within {self._agent._timeout_s:g} s: "
        awaited = late + ", ".join(self._fencing.waits_for)
        found = {name: str(why or awaited) for name, why in self._fencing.unfenced.items()}
        for name, taking in self._takings.items():
            if not isinstance(taking.end, LockCertificate):
                found[name] = str(taking.end or late + taking.waits_for)
        return found

    @property
    def unburied(self) -> str:
        """Why there is no tombstone; empty if there is."""
        if self._fencing.is_buried:
            return ""
        return (
            self._fencing.unburied
            or f"the tombstone has not stood in time: {self._fencing.waits_for}"
        )

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
        self._look()

    def _look(self) -> None:
        if self._fencing.done and all(taking.end for taking in self._takings.values()):
            self._over.set()

    async def _bury(self, disk: str) -> None:
        failure: LunError | None = None
        try:
            await self._agent._tombstones.bury(disk, self._tombstone)
        except LunError as error:
            failure = error
        for taking in self._takings.values():
            self._take(taking, taking.buried(disk, failure))
        self._do(self._fencing.buried(disk, failure))

    # --------------------------------------------------------- without reservations

    def _take(self, taking: Taking, effects: list[lock_disk.Effect]) -> None:
        for effect in effects:
            self._nursery.start_soon(self._carry_out, taking, effect)
        lun, end, guard = self._luns[taking.lun], taking.end, self._agent._guard
        if isinstance(end, LockCertificate) and lun is not None and guard.holding is not None:
            path = self._paths[taking.lun, end.path]
            guard.holding.took(lun, path, end.resets, self._victim)
        self._look()

    async def _carry_out(self, taking: Taking, effect: lock_disk.Effect) -> None:
        path = self._paths[taking.lun, effect.path]
        answer: object = None
        try:
            if path.opened is None or path.opened.lun is None:
                raise PathLost(path.why or "the path is not open")
            match effect:
                case lock_disk.Manage():
                    await path.opened.lun.manage(effect.what)
                case lock_disk.Reserve():
                    await path.opened.lun.run(lock_disk.RESERVE.command)
                    await (
                        trio.lowlevel.checkpoint()
                    )  # a word of a reset that came first is told first
                    answer = path.resets
                case lock_disk.Witness():
                    answer = await self._is_refused(path)
        except LunError as error:
            answer = error
        self._take(taking, taking.answered(effect, answer))

    async def _is_refused(self, path: KnownPath) -> bool:
        """Is a session that nobody uses barred there? Writes nothing. Raises LunError."""
        initiator = self._agent._luns.initiator
        async with iscsi_lun(path.url, initiator, isid_of(path.url, "witness")) as carrier:
            try:
                await Lun(carrier).run(Write16(0, 0))
            except ReservationConflict:
                return True
        return False

    # ------------------------------------------------------------ with reservations

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


def _sessions(lun: SharedLun) -> list[str]:
    """The paths that are sessions of our own, the best first."""
    return [path.name for path in lun.usable() if path.url.startswith(ISCSI)]


def _sentence(failures: Mapping[str, str]) -> str:
    """Each LUN is named, and what is the same for several is said once."""
    said: dict[str, list[str]] = {}
    for name, why in failures.items():
        said.setdefault(why, []).append(name)
    return "; ".join(
        why if all(name in why for name in names) else f"{', '.join(names)}: {why}"
        for why, names in said.items()
    )
