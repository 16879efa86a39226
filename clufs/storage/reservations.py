"""Persistent reservations as clufs uses them: Write Exclusive, Registrants Only, one key for each life of a member.

Every member registers its key at every path of every LUN, and one of them reserves. To fence a life
is to take its key away: from then on the LUN refuses its writes (SPC-4, 5.13.11.2), whatever it does
later, except that it could register anew. So a key carries the incarnation, and who registers looks
for its own tombstone before it writes.

The proof of a fencing is what the LUN itself says afterwards: the keys, read back through every path.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import trio

from clufs.errors import (
    CheckCondition,
    GarbledAnswer,
    LunError,
    NotFenced,
    PathLost,
    ReservationConflict,
)
from clufs.limits import KEYS_READ_BYTES
from clufs.storage import commands as c
from clufs.storage.carrier import Lun
from clufs.storage.commands import ReserveIn, ReserveOut
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

TYPE = ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY
_ILLEGAL_REQUEST = 5
_NOT_KNOWN = ((0x20, 0x00), (0x24, 0x00))
"""What an array says to a service action that it does not have."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, order=True)
class MemberKey:
    """A reservation key: cluster and member (16 bits each), incarnation (32 bits). Never 0, which is no key.

    cluster: a number drawn when the cluster is made, 1 to 65535, so that clusters that share a LUN
    by mistake do not take each other's keys for their own.
    """

    cluster: int
    member: int
    incarnation: int

    def __post_init__(self) -> None:
        """Raises ValueError for a number out of range."""
        if not (
            0 < self.cluster < 1 << 16
            and 0 <= self.member < 1 << 16
            and 0 <= self.incarnation < 1 << 32
        ):
            raise ValueError(f"no key: {self}")

    @property
    def number(self) -> int:
        """As the LUN knows it."""
        return self.cluster << 48 | self.member << 32 | self.incarnation

    @classmethod
    def of(cls, number: int) -> MemberKey | None:
        """The key of a number; None for one whose first 16 bits are 0: not a key of clufs."""
        if not number >> 48:
            return None
        return cls(number >> 48, number >> 32 & 0xFFFF, number & 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Proof:
    """What a LUN said through one path after a fencing.

    generation: PRgeneration, which grows with every change of registrations. type: of the reservation; each bars
    the writes of those that are not registered.
    """

    path: str
    generation: int
    keys: tuple[int, ...]
    type: int | None

    def line(self) -> str:
        """For a person."""
        keys = ",".join(f"{key:#018x}" for key in self.keys)
        return f"PATH={self.path} GENERATION={self.generation} TYPE={self.type} KEYS={keys}"


@dataclass(frozen=True, slots=True)
class FenceCertificate:
    """A LUN refuses the writes of `victim` since `time_ns` (wall clock), as every path in `proofs` has shown.

    aborted: commands of the victim that were under way were ended, too (PREEMPT AND ABORT); otherwise a write
    that the LUN had taken in before may still reach the medium. already: the key was gone before we came.
    unproven: paths that did not answer.
    """

    lun: str
    victim: int
    by: int
    time_ns: int
    aborted: bool
    already: bool
    proofs: tuple[Proof, ...]
    unproven: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For /clu/status/fencing: one line, then one for each path."""
        how = (
            "was gone"
            if self.already
            else "preempted, commands aborted"
            if self.aborted
            else "preempted"
        )
        head = f"LUN={self.lun} VICTIM={self.victim:#018x} BY={self.by:#018x} TIME_NS={self.time_ns} HOW={how}"
        shown = [one.line() for one in self.proofs]
        return [head, *shown, *(f"PATH={path} no answer" for path in self.unproven)]


# ------------------------------------------------------------------ one path


async def read_keys(lun: Lun) -> Keys:
    """The registered keys, all of them. Raises LunError."""
    keys = Keys.decode(await _read(lun, ReserveIn.READ_KEYS, KEYS_READ_BYTES))
    if not keys.whole:
        raise GarbledAnswer(f"{lun.path}: {keys.length // 8} registrations are more than can be")
    return keys


async def read_reservation(lun: Lun) -> Reservation | None:
    """Who reserved, and how. Raises LunError."""
    return decode_reservation(await _read(lun, ReserveIn.READ_RESERVATION, 24))[1]


async def read_capabilities(lun: Lun) -> Capabilities:
    """What the array can do. Raises LunError."""
    return Capabilities.unpack(await _read(lun, ReserveIn.REPORT_CAPABILITIES, 8))


async def read_full_status(lun: Lun) -> tuple[FullStatus, ...]:
    """Every registration with its initiator port. Raises LunError."""
    return decode_full_status(await _read(lun, ReserveIn.READ_FULL_STATUS, KEYS_READ_BYTES))[1]


async def register(lun: Lun, key: int, aptpl: bool = False) -> None:
    """Register at this path, whatever was registered there before. Raises LunError.

    aptpl: keep it when the array loses power; an array that cannot is asked again without.
    """
    action = ReserveOut.REGISTER_AND_IGNORE_EXISTING_KEY
    try:
        await _write(lun, action, OutParameters(0, key, aptpl=aptpl))
    except CheckCondition as refusal:
        if not aptpl or refusal.key != _ILLEGAL_REQUEST:
            raise
        await _write(lun, action, OutParameters(0, key))


async def unregister(lun: Lun) -> None:
    """Give the registration of this path back; none is no error. Raises LunError."""
    await _write(lun, ReserveOut.REGISTER_AND_IGNORE_EXISTING_KEY, OutParameters(0, 0))


async def reserve(lun: Lun, key: int) -> Reservation:
    """Make sure that the LUN is reserved in our way, by us or by another registrant; which one is returned.

    Raises ReservationConflict if it is reserved in another way or we are not registered, LunError.
    """
    try:
        await _write(lun, ReserveOut.RESERVE, OutParameters(key), TYPE)
    except ReservationConflict:
        held = await read_reservation(lun)
        if held is None or held.type != TYPE:
            raise
        if key not in (await read_keys(lun)).keys:
            raise
        return held
    return Reservation(key, TYPE)


async def preempt(lun: Lun, key: int, victim: int) -> bool:
    """Take the victim's key away everywhere on this LUN; True if its commands under way were aborted, too.

    Raises ReservationConflict if the victim, or we, are not registered, LunError.
    """
    try:
        await _write(lun, ReserveOut.PREEMPT_AND_ABORT, OutParameters(key, victim), TYPE)
        return True
    except CheckCondition as refusal:
        if refusal.key != _ILLEGAL_REQUEST or (refusal.asc, refusal.ascq) not in _NOT_KNOWN:
            raise
    await _write(lun, ReserveOut.PREEMPT, OutParameters(key, victim), TYPE)
    return False


async def _read(lun: Lun, action: ReserveIn, room: int) -> bytes:
    return await lun.run(c.PersistentReserveIn(action, room))


async def _write(lun: Lun, action: ReserveOut, said: OutParameters, kind: int = 0) -> None:
    data = said.encode()
    await lun.run(c.PersistentReserveOut(action, type=kind, parameter_length=len(data)), data)


# ------------------------------------------------------------------ all paths


async def fence(
    name: str, paths: Sequence[Lun], key: int, victim: int, now_ns: Callable[[], int] = time.time_ns
) -> FenceCertificate:
    """Take a victim's key from the LUN `name` and prove it, through all of our paths at once.

    Three commands one after the other on each path: preempt, read keys, read reservation; a fourth where
    the array has no PREEMPT AND ABORT, a fifth where nobody had reserved. Fencing the same victim again
    gives another certificate.

    Raises NotFenced if the victim's key is still there, or ours is not: then we are fenced ourselves; if the
    LUN is not reserved; or if no path answered.
    """
    if key == victim:
        raise NotFenced(f"{name}: nobody fences itself")
    preempted = await _on_all(paths, lambda lun: preempt(lun, key, victim))
    keys = await _on_all(paths, read_keys)
    held = await _on_all(paths, read_reservation)
    proofs = _proofs(paths, keys, held)
    _judge(name, key, victim, proofs, preempted)
    if any(proof.type is None for proof in proofs):
        proofs = await _reserve_late(name, paths, key, proofs)
    done = [one for one in preempted if isinstance(one, bool)]
    proven = {proof.path for proof in proofs}
    unproven = tuple(lun.path for lun in paths if lun.path not in proven)
    return FenceCertificate(name, victim, key, now_ns(), any(done), not done, proofs, unproven)


def _proofs(
    paths: Sequence[Lun],
    keys: Sequence[Keys | LunError],
    held: Sequence[Reservation | LunError | None],
) -> tuple[Proof, ...]:
    """What those paths said that answered both questions."""
    found = []
    for lun, known, reserved in zip(paths, keys, held, strict=True):
        if isinstance(known, Keys) and not isinstance(reserved, LunError):
            kind = reserved.type if reserved else None
            found.append(Proof(lun.path, known.generation, known.keys, kind))
    return tuple(found)


def _judge(
    name: str, key: int, victim: int, proofs: Sequence[Proof], preempted: Sequence[bool | LunError]
) -> None:
    """Raise NotFenced unless every proof has our key and not the victim's."""
    why = "; ".join(str(one) for one in preempted if isinstance(one, LunError))
    if not proofs:
        raise NotFenced(f"{name}: no path answered: {why or 'there is none'}")
    for proof in proofs:
        if victim in proof.keys:
            raise NotFenced(f"{name}: {victim:#018x} is still registered, says {proof.path}: {why}")
        if key not in proof.keys:
            raise NotFenced(f"{name}: our own key is not registered any more, says {proof.path}")


async def _reserve_late(
    name: str, paths: Sequence[Lun], key: int, proofs: Sequence[Proof]
) -> tuple[Proof, ...]:
    """Without a reservation whoever is not registered writes, too: make one."""
    proven = {proof.path for proof in proofs}
    lun = next(lun for lun in paths if lun.path in proven)
    try:
        held = await reserve(lun, key)
    except LunError as error:
        raise NotFenced(f"{name}: the LUN is not reserved: {error}") from error
    return tuple(replace(proof, type=held.type) for proof in proofs)


async def _on_all(paths: Sequence[Lun], ask: Callable[[Lun], Awaitable[T]]) -> list[T | LunError]:
    """Ask every path at once; what it said, or how it failed."""
    found: list[T | LunError] = [PathLost("not asked")] * len(paths)

    async def one(at: int, lun: Lun) -> None:
        try:
            found[at] = await ask(lun)
        except LunError as error:
            found[at] = error

    async with trio.open_nursery() as nursery:
        for at, lun in enumerate(paths):
            nursery.start_soon(one, at, lun)
    return found
