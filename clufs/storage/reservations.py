"""Persistent reservations as clufs uses them: Write Exclusive, Registrants Only, one key for each life of a member.

Every member registers its key at every path of every LUN, and one of them reserves. To fence a life
is to take its key away: from then on the LUN refuses its writes (SPC-4, 5.13.11.2), whatever it does
later, except that it could register anew. So a key carries the incarnation, and who registers looks
for its own tombstone before it writes (`entering`).

The proof of a fencing is what the LUN itself says afterwards: the keys, read back through every path.
Here the steps of `steps` and `fencing` are carried to the LUNs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import trio

from clufs.errors import LunError
from clufs.storage import steps
from clufs.storage.carrier import Lun
from clufs.storage.certificate import FenceCertificate, MemberKey, Proof, Unproven
from clufs.storage.fencing import Ask, Fencing, Target
from clufs.storage.reservation_data import Capabilities, FullStatus, Keys, Reservation
from clufs.storage.steps import TYPE, Steps

__all__ = ["TYPE", "FenceCertificate", "MemberKey", "Proof", "Unproven"]

T = TypeVar("T")


async def carry(lun: Lun, wanted: Steps[T]) -> T:
    """Send what the steps yield, and give them what comes back, to their end. Raises LunError."""
    try:
        sent = next(wanted)
        while True:
            try:
                answer = await lun.run(sent.command, sent.data)
            except LunError as error:
                sent = wanted.throw(error)
            else:
                sent = wanted.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def read_keys(lun: Lun) -> Keys:
    """See `steps`."""
    return await carry(lun, steps.read_keys())


async def read_reservation(lun: Lun) -> Reservation | None:
    """See `steps`."""
    return await carry(lun, steps.read_reservation())


async def read_capabilities(lun: Lun) -> Capabilities:
    """See `steps`."""
    return await carry(lun, steps.read_capabilities())


async def read_full_status(lun: Lun) -> tuple[FullStatus, ...]:
    """See `steps`."""
    return await carry(lun, steps.read_full_status())


async def register(lun: Lun, key: int, aptpl: bool = False) -> None:
    """See `steps`."""
    await carry(lun, steps.register(key, aptpl))


async def unregister(lun: Lun) -> None:
    """See `steps`."""
    await carry(lun, steps.unregister())


async def reserve(lun: Lun, key: int) -> Reservation:
    """See `steps`."""
    return await carry(lun, steps.reserve(key))


async def preempt(lun: Lun, key: int, victim: int) -> bool:
    """See `steps`."""
    return await carry(lun, steps.preempt(key, victim))


async def fence(
    name: str, paths: Sequence[Lun], key: int, victim: int, now_ns: Callable[[], int] = time.time_ns
) -> FenceCertificate:
    """Take a victim's key from the LUN `name` and prove it, through all of our paths at once, without a tombstone.

    Fencing the same victim again gives another certificate. Raises NotFenced if the victim's key is still
    there, or ours is not: then we are fenced ourselves; if the LUN does not stay reserved; or if no path answered.
    """
    ours, theirs = MemberKey.of(key), MemberKey.of(victim)
    assert ours is not None and theirs is not None
    by_name = {lun.path: lun for lun in paths}
    fencing = Fencing(ours, theirs, (), {name: Target(tuple(by_name))}, now_ns)

    async def ask(one: Ask) -> None:
        answer: bytes | LunError
        try:
            answer = await by_name[one.at.path].run(one.sent.command, one.sent.data)
        except LunError as error:
            answer = error
        do(fencing.answered(one, answer))

    def do(effects: Sequence[object]) -> None:
        for effect in effects:
            if isinstance(effect, Ask):
                nursery.start_soon(ask, effect)

    async with trio.open_nursery() as nursery:
        do(fencing.begin())
    for failure in fencing.failures:
        raise failure
    return fencing.certificates[0]
