"""What is done to a lab whose members share LUNs, and how that is mended."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clufs.errors import ClufsError
from clufs.lab import network, plan, processes
from tests.cluster.lab import NAMES, Lab
from tests.cluster.torture import faults

DATA, OWN = "1", "2"
CONTROL = "control"
LEASE = "[c]lufs.storage.lease_process"
LONG_CHANCE = 0.08
HOLDER_CHANCE = 0.6
SHORT_S = (0.5, 2.0, 4.0, 7.0)
LONG_S = (12.0, 26.0)
"""Longer than a lease of the lab, and than what its watchdog waits."""
CUT_S = 6.0
SLOW_S = ("0.05", "0.4", "1.5", "3")
NOISE = {"late": 0.03, "busy": 0.01, "session_lost": 0.001, "answer_lost": 0.001}
"""What the array does to commands for the data LUN all the time, and how often: a write that it has taken in and that
lands later is what aborting is for."""


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Fault:
    """One fault: what it is called, how it begins, how long it stays, how it ends."""

    name: str
    begin: Callable[[], object]
    lasts_s: float = 0.0
    end: Callable[[], object] = _nothing

    def strike(self) -> None:
        """Let it happen and end. Who is dead already can be neither killed nor resumed, which is no failure."""
        with contextlib.suppress(ClufsError):
            self.begin()
        time.sleep(self.lasts_s)
        with contextlib.suppress(ClufsError):
            self.end()


class Faults:
    """Those of a lab whose array is told through the socket `control`; None for tgtd, which cannot be told.

    tgtd is not restarted: it forgets its registrations, and the LUN is anybody's until they are back.
    """

    def __init__(self, lab: Lab, control: Path | None) -> None:
        self._lab = lab
        self._control = control

    def draw(self, dice: random.Random, holder: str) -> Fault:
        """A fault, at random; more often than not of who holds the lock just now."""
        member = holder if holder and dice.random() < HOLDER_CHANCE else dice.choice(NAMES)
        lasts_s = dice.choice(LONG_S if dice.random() < LONG_CHANCE else SHORT_S)
        kind = dice.choice(
            (
                self._of_members,
                self._of_members,
                self._of_members,
                self._storage_cut,
                self._both_cut,
                self._slow,
                self._gone,
                self._lease,
                self._array if self._control else self._gone,
            )
        )
        return kind(dice, member, lasts_s)

    def _lab_does(self, *words: str) -> Callable[[], object]:
        return lambda: self._lab.run(*words)

    def _of_members(self, dice: random.Random, member: str, lasts_s: float) -> Fault:
        one = faults.draw(dice, member, lasts_s)
        words = f"{one.name}: {' '.join(one.begin[1:])} {one.lasts_s:g} s"
        end = self._lab_does(*one.end) if one.end else _nothing
        return Fault(words, self._lab_does(*one.begin), one.lasts_s, end)

    def cut(self, member: str) -> Fault:
        """Off from the other members, not from the array, for as long as a fence takes, and some more."""
        begin, end = self._lab_does("cut", member), self._lab_does("heal")
        return Fault(f"cut a member: {member} {CUT_S:g} s", begin, CUT_S, end)

    def _storage_cut(self, dice: random.Random, member: str, lasts_s: float) -> Fault:
        return Fault(
            f"cut {member} from the array {lasts_s:g} s",
            lambda: self._cable(member, "down"),
            lasts_s,
            lambda: self._cable(member, "up"),
        )

    def _both_cut(self, dice: random.Random, member: str, lasts_s: float) -> Fault:
        def begin() -> None:
            self._cable(member, "down")
            self._lab.run("cut", member)

        def end() -> None:
            self._cable(member, "up")
            self._lab.run("heal")

        return Fault(f"cut all cables of {member} {lasts_s:g} s", begin, lasts_s, end)

    def _slow(self, dice: random.Random, member: str, lasts_s: float) -> Fault:
        where = self._where(dice, member)
        words = (*where, "--seconds", dice.choice(SLOW_S))
        end = self._lab_does("lun", "online", *where)
        return Fault(
            f"slow {' '.join(words)} {lasts_s:g} s",
            self._lab_does("lun", "slow", *words),
            lasts_s,
            end,
        )

    def _gone(self, dice: random.Random, member: str, lasts_s: float) -> Fault:
        where = self._where(dice, member)
        end = self._lab_does("lun", "online", *where)
        begin = self._lab_does("lun", "offline", *where)
        return Fault(f"offline {' '.join(where)} {lasts_s:g} s", begin, lasts_s, end)

    def _where(self, dice: random.Random, member: str) -> tuple[str, ...]:
        lun = dice.choice((DATA, DATA, OWN))
        whose = dice.choice(((), ("--member", member), ("--member", member)))
        path = dice.choice(((), (), ("--path", dice.choice("12"))))
        return (lun, *whose, *path)

    def _array(self, dice: random.Random, member: str, lasts_s: float) -> Fault:
        line = dice.choice(("power", "power", "sessions", "lun 0 reset", "lun 1 reset"))
        return Fault(f"array: {line}", lambda: self.tell_array(line))

    def _lease(self, dice: random.Random, member: str, lasts_s: float) -> Fault:
        signal = dice.choice(("KILL", "STOP"))
        words = ("exec", member, "--", "pkill", f"-{signal}", "-f", LEASE)
        which = "" if dice.random() < 0.5 else "-n "  # the supervisor, or who writes
        if which:
            words = ("exec", member, "--", "pkill", f"-{signal}", "-n", "-f", LEASE)
        return Fault(f"lease of {member}: {which}{signal}", self._lab_does(*words))

    # ---------------------------------------------------------------- the array

    def begin(self) -> None:
        """Let the array be as noisy as it is from now on."""
        if self._control is None:
            return
        for name, chance in NOISE.items():
            self.tell_array(f"lun 0 rate {name} {chance}")

    def tell_array(self, line: str) -> str:
        """A command of `tests.array.control`; what the array says."""
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(str(self._control))
            stream.sendall(f"{line}\n".encode())
            return stream.recv(1 << 16).decode().strip()

    def _cable(self, member: str, state: str) -> None:
        lab = plan.Lab(self._lab.directory)
        switch = processes.living(lab.init(plan.SWITCH))
        if switch is not None:
            port = lab.member(member).storage_port
            network.ip(switch, "link", "set", port, state, may_fail=True)

    def mend(self) -> None:
        """Cables and LUNs are whole again."""
        self._lab.run("heal")
        for lun in (DATA, OWN):
            self._lab.run("lun", "online", lun)
        for member in NAMES:
            self._cable(member, "up")
