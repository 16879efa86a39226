"""A logical unit: what it does with a command of a nexus. No clock, no socket: an answer comes back at once,
with what is to happen later if the write is to be late."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from clufs.errors import GarbledAnswer
from clufs.storage import commands as c
from clufs.storage.inquiry import Capacity, encode_luns
from clufs.storage.port_groups import AccessState, decode_wanted, encode_groups
from clufs.storage.sense import Sense, SenseKey, Status
from tests.array import identity, more_commands
from tests.array.defects import Defect, unknown, unknown_action
from tests.array.faults import Fault, Faults
from tests.array.medium import BLOCK_BYTES, Medium
from tests.array.nexus import (
    RESET,
    Conflict,
    Nexus,
    Refused,
    illegal,
    invalid_cdb,
    invalid_parameter,
)
from tests.array.ports import Ports
from tests.array.reservations import Reservations

ALWAYS = (c.Inquiry, c.ReportLuns, c.RequestSense)
"""Answered whatever waits or is reserved (SPC-4, 5.9)."""

READS = (c.Read16, more_commands.Read10)
WRITES = (
    c.Write16,
    more_commands.Write10,
    c.CompareAndWrite,
    c.SynchronizeCache16,
    more_commands.SynchronizeCache10,
)
READ_LIKE = (*READS, more_commands.ModeSense6)
WRITE_LIKE = (*WRITES, c.SetTargetPortGroups)
RESERVE_6 = (c.Reserve6, c.Release6)
ON_ANY_PORT = (
    *ALWAYS,
    c.ReportTargetPortGroups,
    c.SetTargetPortGroups,
    c.PersistentReserveIn,
    c.PersistentReserveOut,
)
"""What a port on standby answers (SPC-4, 5.15.2.7)."""


@dataclass
class Done:
    """How a command ended. late_s, land: the data is written, and this answer given, only then."""

    status: Status = Status.GOOD
    data: bytes = b""
    sense: Sense | None = None
    late_s: float = 0
    land: Callable[[], None] | None = None
    lose_session: bool = False
    lose_answer: bool = False


@dataclass(eq=False)
class Running:
    """A command that is not answered yet. `abort` ends it."""

    nexus: Nexus
    tag: int
    abort: Callable[[], None]


@dataclass
class Unit:
    """One LUN of the array `target`."""

    number: int
    target: str
    serial: str
    medium: Medium
    ports: Ports
    luns: tuple[int, ...]
    faults: Faults = field(default_factory=Faults)
    online: bool = True
    slow_s: float = 0.0
    defects: frozenset[Defect] = frozenset()

    def __post_init__(self) -> None:
        self.reservations = Reservations(self.ports.all, self.defects)
        self.reserved: Nexus | None = None
        self.attentions: dict[Nexus, deque[Sense]] = defaultdict(deque)
        self.running: set[Running] = set()

    # --------------------------------------------------------------- the frame

    def execute(self, nexus: Nexus, command: c.Command | None, data: bytes) -> Done:
        """Do it. `command` None: one that is not known."""
        try:
            return self._execute(nexus, command, data)
        except Refused as refusal:
            return Done(Status.CHECK_CONDITION, sense=refusal.sense)
        except Conflict:
            return Done(Status.RESERVATION_CONFLICT)

    def _execute(self, nexus: Nexus, command: c.Command | None, data: bytes) -> Done:
        if not isinstance(command, ALWAYS) and self.attentions[nexus]:
            raise Refused(self.attentions[nexus].popleft())
        if command is None or unknown(self.defects, command):
            raise illegal(0x20)
        if unknown_action(self.defects, command):
            raise invalid_cdb(1)
        if Defect.NO_FUA in self.defects and getattr(command, "fua", False):
            raise invalid_cdb(1)
        self._look_at_access(nexus, command)
        self._look_at_reservations(nexus, command)
        medium = isinstance(command, (*READS, *WRITES))
        fault = self.faults.decide(isinstance(command, WRITES)) if medium else None
        if fault == Fault.BUSY:
            return Done(Status.BUSY)
        if fault == Fault.SESSION_LOST:
            return Done(lose_session=True)
        if fault == Fault.RESET:
            self.reset()
            raise Refused(self.attentions[nexus].popleft() if self.attentions[nexus] else RESET)
        done = self._handlers()[type(command)](nexus, command, data, fault)
        done.lose_answer = fault == Fault.ANSWER_LOST
        return done

    def _look_at_access(self, nexus: Nexus, command: c.Command) -> None:
        if isinstance(command, ALWAYS):
            return
        if not self.online:
            raise Refused(Sense(SenseKey.NOT_READY, 0x04, 0x03))
        state = self.ports.state(nexus.port)
        if state in (AccessState.ACTIVE_OPTIMIZED, AccessState.ACTIVE_NON_OPTIMIZED):
            return
        if not isinstance(command, ON_ANY_PORT):
            ascq = {AccessState.STANDBY: 0x0B, AccessState.TRANSITIONING: 0x0A}.get(state, 0x0C)
            raise Refused(Sense(SenseKey.NOT_READY, 0x04, ascq))

    def _look_at_reservations(self, nexus: Nexus, command: c.Command) -> None:
        if isinstance(command, ALWAYS):
            return
        if isinstance(command, RESERVE_6):
            if self.reservations.keys:
                raise Conflict  # CRH is 0: SPC-2's reservations and registrations exclude each other
            if isinstance(command, c.Reserve6) and self.reserved not in (None, nexus):
                raise Conflict
            return
        persistent = isinstance(command, c.PersistentReserveIn | c.PersistentReserveOut)
        barred = self.reserved is not None and Defect.DOES_NOT_RESERVE not in self.defects
        if barred and (persistent or self.reserved != nexus):
            raise Conflict
        if isinstance(command, WRITE_LIKE) and self.reservations.bars(nexus, write=True):
            raise Conflict
        if isinstance(command, READ_LIKE) and self.reservations.bars(nexus, write=False):
            raise Conflict

    def _handlers(self) -> dict[type[c.Command], Callable[..., Done]]:
        more = more_commands
        return {
            c.TestUnitReady: lambda *_: Done(),
            c.RequestSense: self._request_sense,
            c.Inquiry: self._inquiry,
            c.Reserve6: self._reserve6,
            c.Release6: self._release6,
            c.Read16: self._read,
            more.Read10: self._read,
            c.Write16: self._write,
            more.Write10: self._write,
            c.CompareAndWrite: self._compare_and_write,
            c.SynchronizeCache16: self._synchronize,
            more.SynchronizeCache10: self._synchronize,
            c.ReadCapacity16: self._capacity16,
            more.ReadCapacity10: self._capacity10,
            c.ReportLuns: lambda *_: Done(data=encode_luns(self.luns)),
            c.PersistentReserveIn: self._persistent_in,
            c.PersistentReserveOut: self._persistent_out,
            c.ReportTargetPortGroups: self._report_groups,
            c.SetTargetPortGroups: self._set_groups,
            more.ModeSense6: self._mode_sense,
            more.ReportSupportedOpcodes: self._opcodes,
        }

    # -------------------------------------------------------------- the medium

    def _range(self, command: Any) -> None:
        if command.protect:
            raise invalid_cdb(1)
        if command.lba + command.blocks > self.medium.blocks:
            raise illegal(0x21)
        if command.blocks > identity.TRANSFER_MAX_BLOCKS:
            raise invalid_cdb(10)

    def _read(self, nexus: Nexus, command: Any, data: bytes, fault: Fault | None) -> Done:
        self._range(command)
        return Done(data=self.medium.read(command.lba, command.blocks))

    def _write(self, nexus: Nexus, command: Any, data: bytes, fault: Fault | None) -> Done:
        self._range(command)
        return self._put(nexus, command, data[: command.blocks * BLOCK_BYTES], fault)

    def _put(self, nexus: Nexus, command: Any, data: bytes, fault: Fault | None) -> Done:
        lba, blocks, luck = command.lba, len(data) // BLOCK_BYTES, self.faults.random
        if fault == Fault.FORGOTTEN:
            return Done()
        if fault == Fault.TORN and blocks > 1:
            data = data[: luck.randrange(1, blocks) * BLOCK_BYTES]
        if fault == Fault.MISDIRECTED:
            lba = luck.randrange(self.medium.blocks - blocks + 1)

        def land() -> None:
            if data:
                self.medium.write(lba, data, nexus.name, command.fua)

        if fault == Fault.LATE:
            return Done(late_s=self.faults.late_s(), land=land)
        land()
        return Done()

    def _compare_and_write(
        self, nexus: Nexus, command: c.CompareAndWrite, data: bytes, fault: Fault | None
    ) -> Done:
        self._range(command)
        if command.blocks > identity.COMPARE_AND_WRITE_MAX:
            raise invalid_cdb(13)
        half = command.blocks * BLOCK_BYTES
        if len(data) != 2 * half:
            raise invalid_cdb(13)  # the data is not what the number of blocks says
        there = self.medium.read(command.lba, command.blocks)
        if there != data[:half]:
            offset = next(at for at in range(half) if there[at] != data[at])
            raise Refused(Sense(SenseKey.MISCOMPARE, 0x1D, 0x00, information=offset))
        return self._put(nexus, command, data[half:], fault)

    def _synchronize(self, nexus: Nexus, command: Any, data: bytes, fault: Fault | None) -> Done:
        if command.lba + command.blocks > self.medium.blocks:
            raise illegal(0x21)
        if fault != Fault.FORGOTTEN:
            self.medium.synchronize(nexus.name)
        return Done()

    # ------------------------------------------------------------ about itself

    def _request_sense(self, nexus: Nexus, command: c.RequestSense, *_: object) -> Done:
        waiting = self.attentions[nexus]
        sense = waiting.popleft() if waiting else Sense(SenseKey.NO_SENSE, 0, 0)
        return Done(data=sense.descriptors() if command.descriptor_format else sense.fixed())

    def _inquiry(self, nexus: Nexus, command: c.Inquiry, *_: object) -> Done:
        if not command.evpd:
            if command.page:
                raise invalid_cdb(2)
            return Done(data=identity.standard(True, Defect.NO_ALUA not in self.defects))
        group = self.ports.group(nexus.port)
        compares = Defect.NO_COMPARE_AND_WRITE not in self.defects
        page = identity.page(command.page, self.serial, nexus.port, group, self.target, compares)
        if page is None:
            raise invalid_cdb(2)
        return Done(data=page)

    def _capacity16(self, *_: object) -> Done:
        return Done(data=Capacity(self.medium.blocks - 1, BLOCK_BYTES).pack())

    def _capacity10(self, nexus: Nexus, command: more_commands.ReadCapacity10, *_: object) -> Done:
        if command.lba and not command.partial:
            raise invalid_cdb(2)
        last = min(self.medium.blocks - 1, 0xFFFFFFFF)
        return Done(data=last.to_bytes(4, "big") + BLOCK_BYTES.to_bytes(4, "big"))

    def _mode_sense(self, nexus: Nexus, command: more_commands.ModeSense6, *_: object) -> Done:
        data = identity.mode_sense(command.page, self.medium.cached)
        if data is None or command.subpage not in (0, 0xFF) or command.control == 3:
            raise invalid_cdb(2)
        return Done(data=data)

    def _opcodes(
        self, nexus: Nexus, command: more_commands.ReportSupportedOpcodes, *_: object
    ) -> Done:
        if command.option > 2:
            raise invalid_cdb(2)
        if command.option == 0:
            return Done(data=more_commands.all_opcodes(command.timeouts))
        one = more_commands.one_opcode(command)
        if one is None:
            raise invalid_cdb(2)
        return Done(data=one)

    # ------------------------------------------------------------ reservations

    def _reserve6(self, nexus: Nexus, *_: object) -> Done:
        self.reserved = nexus
        return Done()

    def _release6(self, nexus: Nexus, *_: object) -> Done:
        if self.reserved == nexus:
            self.reserved = None
        return Done()

    def _persistent_in(self, nexus: Nexus, command: c.PersistentReserveIn, *_: object) -> Done:
        return Done(data=self.reservations.read(command.action))

    def _persistent_out(
        self, nexus: Nexus, command: c.PersistentReserveOut, data: bytes, *_: object
    ) -> Done:
        change = self.reservations.change(nexus, command, data)
        for whom, sense in change.attentions:
            self.attentions[whom].append(sense)
        if Defect.DOES_NOT_ABORT not in self.defects:
            self.abort(lambda one: one.nexus in change.aborted)
        return Done()

    # ------------------------------------------------------------------- ports

    def _report_groups(self, nexus: Nexus, command: c.ReportTargetPortGroups, *_: object) -> Done:
        if command.extended:
            raise invalid_cdb(1)
        return Done(data=encode_groups(self.ports.report()))

    def _set_groups(
        self, nexus: Nexus, command: c.SetTargetPortGroups, data: bytes, *_: object
    ) -> Done:
        try:
            wanted = decode_wanted(data)
        except GarbledAnswer:
            raise invalid_parameter() from None
        for one in wanted:
            if not self.ports.set(one.group, one.state, asked=True):
                raise invalid_parameter(4)
        return Done()

    # ------------------------------------------------------------ what happens

    def abort(self, which: Callable[[Running], bool]) -> int:
        """End the commands under way that fit: none of them reaches the medium. Returns how many."""
        found = [one for one in self.running if which(one)]
        for one in found:
            self.running.discard(one)
            one.abort()
        return len(found)

    def reset(self, sense: Sense = RESET) -> None:
        """LOGICAL UNIT RESET: nothing under way goes on, SPC-2's reservation ends, registrations stay."""
        self.abort(lambda one: True)
        self.reserved = None
        if Defect.RESET_FORGETS in self.defects:
            self.reservations.lose()
        for waiting in self.attentions.values():
            waiting.clear()
            waiting.append(sense)

    def attend(self, nexus: Nexus) -> None:
        """A nexus came: from now on it is told of resets."""
        self.attentions[nexus] = self.attentions[nexus]

    def leave(self, nexus: Nexus) -> None:
        """A nexus was lost: its commands and its reservation of SPC-2 go, its registration stays."""
        self.abort(lambda one: one.nexus == nexus)
        if self.reserved == nexus:
            self.reserved = None

    def tell_all(self, sense: Sense, but: int = -1) -> None:
        """A unit attention for every nexus."""
        for waiting in self.attentions.values():
            if sense not in waiting:
                waiting.append(sense)
