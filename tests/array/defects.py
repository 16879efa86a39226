"""What real arrays lack or get wrong, one by one: an array can be given any of them."""

from __future__ import annotations

from enum import StrEnum

from clufs.storage import commands as c
from clufs.storage.commands import ReserveIn, ReserveOut


class Defect(StrEnum):
    """Those of the first group are said by the array itself; those of the second it does not know of."""

    NO_PERSISTENT_RESERVE = "no_persistent_reserve"
    NO_PREEMPT_AND_ABORT = "no_preempt_and_abort"
    NO_APTPL = "no_aptpl"
    NO_CAPABILITIES = "no_capabilities"
    NO_FULL_STATUS = "no_full_status"
    NO_COMPARE_AND_WRITE = "no_compare_and_write"
    NO_RESERVE_6 = "no_reserve_6"
    NO_ALUA = "no_alua"
    NO_FUA = "no_fua"
    NO_CLEAR_TASK_SET = "no_clear_task_set"

    DOES_NOT_BAR = "does_not_bar"  # whoever is not registered writes all the same
    DOES_NOT_RESERVE = "does_not_reserve"  # RESERVE(6) ends well and bars nobody
    DOES_NOT_ABORT = "does_not_abort"  # PREEMPT AND ABORT leaves writes under way alone
    ONE_PORT_ONLY = "one_port_only"  # preempting takes registrations away at the own port only
    RESET_FORGETS = "reset_forgets"  # a reset of the LUN takes registrations away
    POWER_FORGETS = "power_forgets"  # APTPL is accepted, and registrations are lost with power
    WRONG_ATTENTION = "wrong_attention"  # who was preempted hears 2A/03 in place of 2A/05


UNKNOWN_COMMANDS: dict[Defect, tuple[type[c.Command], ...]] = {
    Defect.NO_PERSISTENT_RESERVE: (c.PersistentReserveIn, c.PersistentReserveOut),
    Defect.NO_COMPARE_AND_WRITE: (c.CompareAndWrite,),
    Defect.NO_RESERVE_6: (c.Reserve6, c.Release6),
    Defect.NO_ALUA: (c.ReportTargetPortGroups, c.SetTargetPortGroups),
}

UNKNOWN_READS = {
    Defect.NO_CAPABILITIES: ReserveIn.REPORT_CAPABILITIES,
    Defect.NO_FULL_STATUS: ReserveIn.READ_FULL_STATUS,
}

UNKNOWN_WRITES = {Defect.NO_PREEMPT_AND_ABORT: ReserveOut.PREEMPT_AND_ABORT}


def unknown(defects: frozenset[Defect], command: c.Command | None) -> bool:
    """Does an array with these defects not know the command at all?"""
    return any(isinstance(command, UNKNOWN_COMMANDS.get(defect, ())) for defect in defects)


def unknown_action(defects: frozenset[Defect], command: c.Command) -> bool:
    """Does it know the command, but not its service action?"""
    if isinstance(command, c.PersistentReserveIn):
        return any(UNKNOWN_READS.get(defect) == command.action for defect in defects)
    if isinstance(command, c.PersistentReserveOut):
        return any(UNKNOWN_WRITES.get(defect) == command.action for defect in defects)
    return False
