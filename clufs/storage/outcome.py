"""From a status and sense data to what Python code sees: nothing, or the error of the right class."""

from __future__ import annotations

from clufs.errors import (
    CheckCondition,
    GarbledAnswer,
    LunBusy,
    LunError,
    PathLost,
    ReservationConflict,
)
from clufs.storage.sense import Sense, SenseKey, Status


class Refusal(CheckCondition):
    """CHECK CONDITION, with the sense data as it was decoded."""

    def __init__(self, what: str, sense: Sense) -> None:
        super().__init__(f"{what}: {sense}", sense.key, sense.asc, sense.ascq)
        self.sense = sense


def check(what: str, status: int, sense: bytes) -> None:
    """Return if a command, named `what`, ended well; CONDITION MET is well.

    Raises the LunError that fits: Refusal, ReservationConflict, LunBusy (nothing was done),
    PathLost (TASK ABORTED: it may have taken effect), or LunError for a status that no standard has.
    """
    if status in (Status.GOOD, Status.CONDITION_MET):
        return
    if status == Status.CHECK_CONDITION:
        raise Refusal(what, _decoded(sense))
    if status == Status.RESERVATION_CONFLICT:
        raise ReservationConflict(f"{what}: the LUN is reserved for others")
    if status in (Status.BUSY, Status.TASK_SET_FULL, Status.ACA_ACTIVE):
        raise LunBusy(f"{what}: the LUN says {Status(status).name.replace('_', ' ')}")
    if status == Status.TASK_ABORTED:
        raise PathLost(f"{what}: aborted by the array or another initiator")
    raise LunError(f"{what}: status {status:#x}")


def _decoded(sense: bytes) -> Sense:
    """Sense data; without any that can be read, what SPC-4 says for none: nothing is known."""
    try:
        return Sense.decode(sense)
    except GarbledAnswer:
        return Sense(SenseKey.HARDWARE_ERROR, 0x00, 0x00)
