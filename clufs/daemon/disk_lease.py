"""The lease of this member on the LUNs of clufs' own: one for each of its lives, and none without such LUNs."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from clufs.cluster.gate import Told
from clufs.config import Config
from clufs.member.runtime import Runtime
from clufs.storage.lease import Neighbour, OnDisk, Standing
from clufs.storage.lease_line import LeaseLine, lease_of
from clufs.storage.lease_report import state_name
from clufs.storage.lease_wire import Said, Seen, Settings, boottime
from clufs.storage.paths import initiator_name, shown
from clufs.storage.records import LeaseState, bitmap
from clufs.tree.journals import Events

log = logging.getLogger("clufsd")

_SUPERVISOR = "clufs.fuse.supervisor"
_SAYS_NOTHING = (OnDisk.UNPROVEN, OnDisk.ABSENT)


class Lives(Protocol):
    """Whose lives have the leases."""

    name: str
    cluster_name: str
    incarnation: int
    runtime: Runtime


class DiskLease:
    """Without LUNs of role `clufs` nothing is started, and the lease always stands."""

    def __init__(self, config: Config, mount_point: str, owners: Path) -> None:
        self.events: Events | None = None
        self.urls = [list(lun.urls) for lun in config.luns if lun.role == "clufs"]
        self.line: LeaseLine | None = None
        self._storage = config.storage
        self._mount_point, self._owners = mount_point, owners
        self._lives: Lives | None = None
        self._let_go = False
        self._told: dict[str, str] = {}
        self._trouble = ""

    # ------------------------------------------------------------ a life

    @asynccontextmanager
    async def held(self, lives: Lives) -> AsyncIterator[str]:
        """The lease of the present life, while inside: empty once there is one, else why there will be none.

        Whoever leaves without `let_go` leaves the watchdog armed: then its holders may still be there.
        """
        self._lives, self._let_go = lives, False
        self._told.clear()
        if not self.urls:
            yield ""
            return
        async with lease_of(self._settings(lives), self._supervisor(), self._changed) as line:
            self.line = line
            try:
                yield await line.settled()
            finally:
                self.line = None
                if self._let_go:
                    line.let_go()

    def let_go(self) -> None:
        """Nobody holds anything of this life any more: its end is no reason for a reset."""
        self._let_go = True

    def _settings(self, lives: Lives) -> Settings:
        peers = lives.runtime.engine.peers
        device = self._storage.watchdog
        return Settings(
            self.urls,
            self._storage.initiator or initiator_name(lives.name),
            lives.cluster_name,
            lives.runtime.engine.me.id,
            lives.incarnation,
            Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            max(peer.id for peer in peers),
            device if device and os.path.exists(device) else "",
            self._storage.trust_supervisor,
        )

    def _supervisor(self) -> Sequence[str]:
        words = [sys.executable, "-m", _SUPERVISOR, "{}", str(os.getpid())]
        return [*words, self._mount_point, str(self._owners), *self._storage.watchdog_command]

    # ------------------------------------------------------------ as it goes

    def grants_for_s(self) -> float:
        """For how long from now on grants may be told by it: 0 or less is no more, infinite without LUNs."""
        if not self.urls:
            return math.inf
        return self.line.grants_for_s() if self.line is not None else 0.0

    def tick(self) -> None:
        """Look how it stands, also when the lease process says nothing, and say what shall stand on the LUNs."""
        if self.line is not None and self._lives is not None:
            self.line.catch_up()
            self.line.say(self._said(self._lives.runtime))
            self._look(self.line, self._lives.runtime)

    def fencing(self, told: Told) -> None:
        """A member that is lost is told to stop, by the LUNs: no proof of anything, and often the quickest."""
        if told.result != "lost" or self.line is None or self._lives is None:
            return
        for peer in self._lives.runtime.engine.peers:
            if peer.name == told.life.member:
                self.line.poison(peer.id, told.life.incarnation)

    def _changed(self) -> None:
        """The lease process has said something."""
        if self.line is not None and self._lives is not None:
            self._look(self.line, self._lives.runtime)
            self._tell(self.line)

    def _look(self, line: LeaseLine, runtime: Runtime) -> None:
        if line.standing() == Standing.FAILED:
            why = line.over or f"not renewed for {line.line.fail_s:g} s"
            runtime.end(f"its lease on the LUNs of clufs is over: {why}")

    def _said(self, runtime: Runtime) -> Said:
        core, view = runtime.core, runtime.core.view
        return Said(
            LeaseState.IN if core.standing else LeaseState.STARTING,
            runtime.engine.me.votes,
            runtime.quorate,
            view.number if view is not None else 0,
            heard=bitmap(self._heard(runtime)),
        )

    def _heard(self, runtime: Runtime) -> frozenset[int]:
        """Whom this member hears on the network."""
        if runtime.mesh is None:
            return frozenset()
        return frozenset(one.peer.id for one in runtime.mesh.states() if one.connected)

    def heartbeats(self, member: int) -> dict[str, Seen | None]:
        """Of a nodeid, what each LUN of clufs has shown of it in this life; None where nothing was."""
        line = self.line
        if line is None:
            return {}
        return {
            shown(urls[0]): next((one for one in line.seen(n) if one.member == member), None)
            for n, urls in enumerate(self.urls)
        }

    # ------------------------------------------------------------ for people

    def waits_for(self) -> str:
        """What keeps this member from its lease, or empty."""
        line = self.line
        if not self.urls or (line is not None and line.standing() == Standing.GOOD):
            return ""
        trouble = line.trouble() if line is not None else ""
        return f"its lease on the LUNs of clufs{': ' * bool(trouble)}{trouble}"

    def neighbours(self) -> dict[str, Neighbour]:
        """The other members by name, as disk and network show them."""
        if self.line is None or self._lives is None:
            return {}
        runtime = self._lives.runtime
        names = {peer.id: peer.name for peer in runtime.engine.peers}
        names.pop(runtime.engine.me.id, None)
        found = self.line.neighbours(list(names), self._heard(runtime))
        return {names[member]: one for member, one in found.items()}

    def _tell(self, line: LeaseLine) -> None:
        """What has changed, in events and log."""
        for name, one in self.neighbours().items():
            if one.on_disk in _SAYS_NOTHING or self._told.get(name) == one.words:
                continue
            self._told[name] = one.words
            if self.events is not None:
                self.events.add("lun-heartbeat", member=name, seen=one.words)
        trouble = line.trouble()
        if trouble and trouble != self._trouble:
            log.warning("a LUN of clufs: %s", trouble)
        self._trouble = trouble

    def slots(self, urls: Iterable[str]) -> str:
        """/clu/luns/<wwid>/slots of the LUN that has one of these paths: a line for each heartbeat on it."""
        wanted = set(urls)
        number = next((n for n, paths in enumerate(self.urls) if wanted.intersection(paths)), None)
        if number is None or self.line is None or self._lives is None:
            return ""
        names = {peer.id: peer.name for peer in self._lives.runtime.engine.peers}
        heard = self._heard(self._lives.runtime) | {self.line.settings.member}
        lines = [_slot_line(one, names, one.member in heard) for one in self.line.seen(number)]
        return "".join(f"{line}\n" for line in lines)


def _slot_line(one: Seen, names: dict[int, str], heard: bool) -> str:
    hears = ",".join(names.get(member, str(member)) for member in sorted(one.hears))
    age_s = max(0.0, boottime() - one.changed_s)
    return (
        f"MEMBER={names.get(one.member, one.member)} SEQUENCE={one.sequence} AGE_S={age_s:.1f}"
        f" ON_DISK={one.on_disk.name.lower()} HEARD={heard:d} STATE={state_name(one.state)}"
        f" INCARNATION={one.incarnation} VIEW={one.view} VOTES={one.votes} HEARS={hears}"
        f" FLAWS={one.flaws}"
    )
