"""What is said to a LUN about its reservations, one command after the other, as coroutines. Pure.

A step yields the command that it sends and takes the data that came back; a command that failed is thrown
into it as the LunError that it failed with. Whoever carries it (`carrier.carry`) does nothing else.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

from clufs.errors import CheckCondition, GarbledAnswer, ReservationConflict
from clufs.limits import KEYS_READ_BYTES
from clufs.storage.commands import (
    Command,
    PersistentReserveIn,
    PersistentReserveOut,
    ReserveIn,
    ReserveOut,
    TestUnitReady,
)
from clufs.storage.reservation_data import (
    Capabilities,
    FullStatus,
    Keys,
    OutParameters,
    Reservation,
    ReservationType,
    decode_full_status,
    decode_reservation,
)
from clufs.storage.sense import SenseKey

TYPE = ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY
_NO_COMMAND = (0x20, 0x00)
_NOT_KNOWN = (_NO_COMMAND, (0x24, 0x00))
"""What an array says to a service action that it does not have."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A command with its data."""

    command: Command
    data: bytes = b""


READ_KEYS = Sent(PersistentReserveIn(ReserveIn.READ_KEYS, KEYS_READ_BYTES))
READY = Sent(TestUnitReady())
READ_RESERVATION = Sent(PersistentReserveIn(ReserveIn.READ_RESERVATION, 24))

T = TypeVar("T")
Steps = Generator[Sent, bytes, T]


def read_keys() -> Steps[Keys]:
    """The registered keys, all of them. Raises LunError."""
    return keys_of((yield READ_KEYS))


def keys_of(data: bytes) -> Keys:
    """What READ KEYS said. Raises GarbledAnswer."""
    keys = Keys.decode(data)
    if not keys.whole:
        raise GarbledAnswer(f"{keys.length // 8} registrations are more than can be")
    return keys


def read_reservation() -> Steps[Reservation | None]:
    """Who reserved, and how. Raises LunError."""
    return reservation_of((yield READ_RESERVATION))


def reservation_of(data: bytes) -> Reservation | None:
    """What READ RESERVATION said. Raises GarbledAnswer."""
    return decode_reservation(data)[1]


def read_capabilities() -> Steps[Capabilities]:
    """What the array can do. Raises LunError."""
    return Capabilities.unpack((yield _read(ReserveIn.REPORT_CAPABILITIES, 8)))


def read_full_status() -> Steps[tuple[FullStatus, ...]]:
    """Every registration with its initiator port. Raises LunError."""
    return decode_full_status((yield _read(ReserveIn.READ_FULL_STATUS, KEYS_READ_BYTES)))[1]


def register(key: int, aptpl: bool = False) -> Steps[None]:
    """Register at this path, whatever was registered there before. Raises LunError.

    aptpl: keep it when the array loses power; an array that cannot is asked again without.
    """
    action = ReserveOut.REGISTER_AND_IGNORE_EXISTING_KEY
    try:
        yield _write(action, OutParameters(0, key, aptpl=aptpl))
    except CheckCondition as refusal:
        if not aptpl or refusal.key != SenseKey.ILLEGAL_REQUEST:
            raise
        yield _write(action, OutParameters(0, key))


def unregister() -> Steps[None]:
    """Give the registration of this path back; none is no error. Raises LunError.

    The last registration of anybody says for the whole LUN whether all are kept through loss of power (SPC-4,
    5.13.5): who leaves must not turn that off for the others.
    """
    yield from register(0, aptpl=True)


def reserve(key: int) -> Steps[Reservation]:
    """Make sure that the LUN is reserved in our way, by us or by another registrant; which one is returned.

    Raises ReservationConflict if it is reserved in another way or we are not registered, LunError.
    """
    try:
        yield _write(ReserveOut.RESERVE, OutParameters(key), TYPE)
    except ReservationConflict:
        held = yield from read_reservation()
        if held is None or held.type != TYPE:
            raise
        keys = yield from read_keys()
        if key not in keys.keys:
            raise
        return held
    return Reservation(key, TYPE)


def preempt(key: int, victim: int, aborts: bool = True) -> Steps[bool]:
    """Take the victim's key away everywhere on this LUN; True if its commands under way were aborted, too.

    aborts: False where it is known that the array has no PREEMPT AND ABORT.
    Raises ReservationConflict if the victim, or we, are not registered, LunError.
    """
    try:
        if aborts:
            yield _write(ReserveOut.PREEMPT_AND_ABORT, OutParameters(key, victim), TYPE)
            return True
    except CheckCondition as refusal:
        known = (refusal.asc, refusal.ascq) not in _NOT_KNOWN
        if refusal.key != SenseKey.ILLEGAL_REQUEST or known:
            raise
    yield _write(ReserveOut.PREEMPT, OutParameters(key, victim), TYPE)
    return False


def is_unknown_command(refusal: CheckCondition) -> bool:
    """Did the LUN say that it does not know the command at all?"""
    return refusal.key == SenseKey.ILLEGAL_REQUEST and (refusal.asc, refusal.ascq) == _NO_COMMAND


def _read(action: ReserveIn, room: int) -> Sent:
    return Sent(PersistentReserveIn(action, room))


def _write(action: ReserveOut, said: OutParameters, kind: int = 0) -> Sent:
    data = said.encode()
    return Sent(PersistentReserveOut(action, type=kind, parameter_length=len(data)), data)
