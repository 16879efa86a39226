"""A logical unit without its array, and commands to it as a test says them."""

from __future__ import annotations

from typing import Any

from clufs.storage import commands as c
from clufs.storage.commands import ReserveIn, ReserveOut
from clufs.storage.reservation_data import (
    FullStatus,
    Keys,
    OutParameters,
    Reservation,
    decode_full_status,
    decode_reservation,
)
from clufs.storage.sense import Status
from tests.array.defects import Defect
from tests.array.faults import Faults
from tests.array.medium import BLOCK_BYTES, Medium
from tests.array.nexus import Nexus
from tests.array.ports import Ports
from tests.array.unit import Done, Unit

A, B, C = (Nexus(f"iqn.{name}", 1, 1) for name in "abc")
A2 = Nexus("iqn.a", 1, 2)
WERO = 5


def unit(seed: int = 0, ports: int = 2, cached: bool = False, *defects: Defect) -> Unit:
    """A LUN of 256 blocks."""
    medium, wrong = Medium(256, cached=cached), frozenset(defects)
    return Unit(0, "iqn.t", "1", medium, Ports(ports), (0,), Faults(seed), defects=wrong)


def blocks(text: str, count: int = 1) -> bytes:
    """Blocks full of a text."""
    return (text.encode() * BLOCK_BYTES)[:BLOCK_BYTES] * count


def out(
    u: Unit,
    who: Nexus,
    action: ReserveOut,
    key: int = 0,
    to: int = 0,
    kind: int = WERO,
    **bits: Any,
) -> Done:
    """PERSISTENT RESERVE OUT."""
    data = OutParameters(key, to, **bits).encode()
    command = c.PersistentReserveOut(action, type=kind, parameter_length=len(data))
    return u.execute(who, command, data)


def register(u: Unit, who: Nexus, key: int, **bits: bool) -> None:
    """Register anew."""
    assert out(u, who, ReserveOut.REGISTER, 0, key, **bits).status == Status.GOOD


def keys(u: Unit) -> tuple[int, ...]:
    """The registered keys."""
    return Keys.decode(u.reservations.read(ReserveIn.READ_KEYS)).keys


def generation(u: Unit) -> int:
    """PRgeneration."""
    return Keys.decode(u.reservations.read(ReserveIn.READ_KEYS)).generation


def reservation(u: Unit) -> Reservation | None:
    """What is reserved."""
    return decode_reservation(u.reservations.read(ReserveIn.READ_RESERVATION))[1]


def statuses(u: Unit) -> tuple[FullStatus, ...]:
    """Every registration in full."""
    return decode_full_status(u.reservations.read(ReserveIn.READ_FULL_STATUS))[1]


def write(u: Unit, who: Nexus, lba: int, data: bytes, fua: bool = False) -> Done:
    """WRITE(16)."""
    return u.execute(who, c.Write16(lba, len(data) // BLOCK_BYTES, fua=fua), data)


def read(u: Unit, who: Nexus, lba: int, count: int = 1) -> Done:
    """READ(16)."""
    return u.execute(who, c.Read16(lba, count), b"")


def attention(u: Unit, who: Nexus) -> tuple[int, int] | None:
    """Fetch the unit attention that waits for a nexus, if any."""
    sense = u.execute(who, c.TestUnitReady(), b"").sense
    return sense.code if sense else None
