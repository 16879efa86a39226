"""Persistent reservations of one logical unit (SPC-4, 5.13): pure, what a unit attention is due for is returned."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from clufs.errors import GarbledAnswer
from clufs.storage.commands import PersistentReserveOut, ReserveIn, ReserveOut
from clufs.storage.reservation_data import (
    Capabilities,
    FullStatus,
    Keys,
    MoveParameters,
    OutParameters,
    Reservation,
    ReservationType,
    encode_full_status,
    encode_reservation,
)
from clufs.storage.sense import Sense
from tests.array.defects import Defect
from tests.array.nexus import (
    REGISTRATIONS_PREEMPTED,
    RESERVATIONS_PREEMPTED,
    RESERVATIONS_RELEASED,
    Conflict,
    Nexus,
    illegal,
    invalid_cdb,
    invalid_parameter,
)

LIST_BYTES = 24
T = TypeVar("T")


@dataclass
class Change:
    """What else a PERSISTENT RESERVE OUT brings about."""

    attentions: list[tuple[Nexus, Sense]] = field(default_factory=list)
    aborted: set[Nexus] = field(default_factory=set)

    def tell(self, whom: Iterable[Nexus], sense: Sense, but: Nexus) -> None:
        """A unit attention for all of them but one."""
        self.attentions += [(one, sense) for one in whom if one != but]


class Reservations:
    """Registrations and the reservation. `ports`: the array's relative target ports."""

    def __init__(self, ports: tuple[int, ...], defects: frozenset[Defect] = frozenset()) -> None:
        self._ports = ports
        self._defects = defects
        self.keys: dict[Nexus, int] = {}
        self.holder: Nexus | None = None
        self.type: ReservationType | None = None
        self.generation = 0
        self.aptpl = False
        self.lost = False

    # ------------------------------------------------------------ who may what

    def holds(self, nexus: Nexus) -> bool:
        """Does it hold the reservation, alone or as one of all registrants?"""
        if self.type is None:
            return False
        return nexus in self.keys if self.type.all_registrants else nexus == self.holder

    def bars(self, nexus: Nexus, write: bool) -> bool:
        """Is this nexus kept from writing, or from reading?"""
        if self.type is None or self.holds(nexus) or Defect.DOES_NOT_BAR in self._defects:
            return False
        if nexus in self.keys and self.type.registrants_only:
            return False
        return write or self.type.excludes_reads

    # --------------------------------------------------------------------- in

    def read(self, action: int) -> bytes:
        """Data of PERSISTENT RESERVE IN. Raises Refused."""
        if action == ReserveIn.READ_KEYS:
            return Keys.of(self.generation, tuple(self.keys.values())).encode()
        if action == ReserveIn.READ_RESERVATION:
            return encode_reservation(self.generation, self._reservation())
        if action == ReserveIn.REPORT_CAPABILITIES:
            return self._capabilities().pack()
        if action == ReserveIn.READ_FULL_STATUS:
            return encode_full_status(self.generation, tuple(map(self._status, self.keys)))
        raise invalid_cdb(1)

    def _reservation(self) -> Reservation | None:
        if self.type is None:
            return None
        return Reservation(self.keys[self.holder] if self.holder else 0, self.type)

    def _capabilities(self) -> Capabilities:
        mask = sum(1 << one for one in ReservationType)
        return Capabilities(
            replace_lost=True,
            spec_i_pt=True,
            all_tg_pt=True,
            aptpl=Defect.NO_APTPL not in self._defects,
            mask_valid=True,
            aptpl_active=self.aptpl,
            low_mask=mask & 0xFF,
            high_mask=mask >> 8,
        )

    def _status(self, nexus: Nexus) -> FullStatus:
        held = self.holds(nexus) and self.type is not None
        return FullStatus(
            self.keys[nexus],
            holder=held,
            type=self.type if held and self.type else 0,
            target_port=nexus.port,
            initiator=nexus.initiator,
        )

    # -------------------------------------------------------------------- out

    def change(self, nexus: Nexus, command: PersistentReserveOut, data: bytes) -> Change:
        """Carry out PERSISTENT RESERVE OUT, wholly or not at all. Raises Conflict or Refused."""
        try:
            action = ReserveOut(command.action)
        except ValueError:
            raise invalid_cdb(1) from None
        if len(data) != command.parameter_length or len(data) < LIST_BYTES:
            raise illegal(0x1A)
        if action == ReserveOut.REGISTER_AND_MOVE:
            return self._move(nexus, _decoded(MoveParameters.decode, data))
        said: OutParameters = _decoded(OutParameters.decode, data)
        if action in (ReserveOut.REGISTER, ReserveOut.REGISTER_AND_IGNORE_EXISTING_KEY):
            return self._register(nexus, said, action == ReserveOut.REGISTER)
        if said.spec_i_pt or len(data) != LIST_BYTES:
            raise illegal(0x1A)
        if action == ReserveOut.REPLACE_LOST_RESERVATION:
            return self._replace_lost(nexus, said, _kind(command))
        if self.keys.get(nexus) != said.key:
            raise Conflict
        if action == ReserveOut.CLEAR:
            return self._clear(nexus)
        kind = _kind(command)
        if action == ReserveOut.RESERVE:
            return self._reserve(nexus, kind)
        if action == ReserveOut.RELEASE:
            return self._release(nexus, kind)
        return self._preempt(nexus, said.action_key, kind, action == ReserveOut.PREEMPT_AND_ABORT)

    def _register(self, nexus: Nexus, said: OutParameters, checked: bool) -> Change:
        known = self.keys.get(nexus)
        if checked and said.key != (known or 0):
            raise Conflict
        no_aptpl = said.aptpl and Defect.NO_APTPL in self._defects
        if no_aptpl or (said.spec_i_pt and (not checked or known is not None)):
            raise invalid_parameter(20)
        if known is None and not said.action_key:
            return Change()
        self.aptpl = said.aptpl
        self.generation = self.generation + 1 & 0xFFFFFFFF
        change = Change()
        for one in self._named(nexus, said):
            if said.action_key:
                self.keys[one] = said.action_key
            elif one in self.keys:
                self._unregister(one, change)
        return change

    def _named(self, nexus: Nexus, said: OutParameters) -> list[Nexus]:
        """All that a REGISTER is about: itself, initiator ports named in it, at this port or at all."""
        who = [nexus.initiator, *said.initiators]
        if any(one.isid is None for one in who):
            raise invalid_parameter(24)
        ports = self._ports if said.all_tg_pt else (nexus.port,)
        named = [Nexus(one.name, one.isid or 0, port) for one in who for port in ports]
        # What is registered at other ports has a key of its own, and keeps it.
        return [one for one in named if one == nexus or one not in self.keys or not said.action_key]

    def _unregister(self, nexus: Nexus, change: Change) -> None:
        held = self.holds(nexus)
        del self.keys[nexus]
        if held and self.type is not None and not (self.type.all_registrants and self.keys):
            if self.type.registrants_only:
                change.tell(self.keys, RESERVATIONS_RELEASED, nexus)
            self._hold(None, None)

    def _hold(self, nexus: Nexus | None, kind: ReservationType | None) -> None:
        self.type = kind
        self.holder = None if kind is None or kind.all_registrants else nexus

    def _reserve(self, nexus: Nexus, kind: ReservationType) -> Change:
        if self.type is not None and not (self.holds(nexus) and self.type == kind):
            raise Conflict
        self._hold(nexus, kind)
        return Change()

    def _release(self, nexus: Nexus, kind: ReservationType) -> Change:
        change = Change()
        if not self.holds(nexus):
            return change
        if self.type != kind:
            raise illegal(0x26, 0x04)
        if kind.registrants_only or kind.all_registrants:
            change.tell(self.keys, RESERVATIONS_RELEASED, nexus)
        self._hold(None, None)
        return change

    def _clear(self, nexus: Nexus) -> Change:
        change = Change()
        change.tell(self.keys, RESERVATIONS_PREEMPTED, nexus)
        self.keys.clear()
        self._hold(None, None)
        self.generation = self.generation + 1 & 0xFFFFFFFF
        return change

    def _preempt(self, nexus: Nexus, victim: int, kind: ReservationType, abort: bool) -> Change:
        takes_over = self._preempts_holder(victim)
        if victim:
            victims = {one for one, key in self.keys.items() if key == victim}
        elif takes_over:
            victims = set(self.keys) - {nexus}
        else:
            raise invalid_parameter(8)
        if not victims and not takes_over:
            raise Conflict
        change = Change(aborted=victims if abort else set())
        gone = victims - {nexus} if takes_over else victims
        if Defect.ONE_PORT_ONLY in self._defects:
            gone = {one for one in gone if one.port == nexus.port}
        for one in gone:
            del self.keys[one]
        wrong = Defect.WRONG_ATTENTION in self._defects
        change.tell(gone, RESERVATIONS_PREEMPTED if wrong else REGISTRATIONS_PREEMPTED, nexus)
        if takes_over:
            if self.type not in (None, kind):
                change.tell(self.keys, RESERVATIONS_RELEASED, nexus)
            self._hold(nexus, kind)
        elif self.type is not None and self.type.all_registrants and not self.keys:
            self._hold(None, None)
        self.generation = self.generation + 1 & 0xFFFFFFFF
        return change

    def _preempts_holder(self, victim: int) -> bool:
        """Does preempting this key take the reservation over (SPC-4, 5.13.11.2.4)?"""
        if self.type is None:
            return False
        if self.type.all_registrants:
            return victim == 0
        return self.holder is not None and self.keys[self.holder] == victim

    def _move(self, nexus: Nexus, said: MoveParameters) -> Change:
        if self.keys.get(nexus) != said.key or self.holder != nexus:
            raise Conflict
        there = said.initiator
        if not said.action_key or there.isid is None or said.target_port not in self._ports:
            raise invalid_parameter()
        to = Nexus(there.name, there.isid, said.target_port)
        if to == nexus:
            raise invalid_parameter(24)
        self.keys[to] = said.action_key
        self.holder = to
        if said.unregister:
            del self.keys[nexus]
        self.aptpl = said.aptpl
        self.generation = self.generation + 1 & 0xFFFFFFFF
        return Change()

    def _replace_lost(self, nexus: Nexus, said: OutParameters, kind: ReservationType) -> Change:
        if not self.lost or said.key or not said.action_key:
            raise invalid_cdb(1)
        self.keys = {nexus: said.action_key}
        self._hold(nexus, kind)
        self.aptpl, self.lost = said.aptpl, False
        self.generation = self.generation + 1 & 0xFFFFFFFF
        return Change()

    # ------------------------------------------------------------------ faults

    def lose(self) -> None:
        """Forget all registrations and the reservation, as a broken controller would."""
        self.keys.clear()
        self._hold(None, None)
        self.lost = True

    def power_on(self) -> None:
        """Power was lost: what was registered with APTPL is kept, and the generation begins anew."""
        if not self.aptpl or Defect.POWER_FORGETS in self._defects:
            self.keys.clear()
            self._hold(None, None)
        self.generation = 0


def _kind(command: PersistentReserveOut) -> ReservationType:
    if command.scope != 0:
        raise invalid_cdb(2)
    try:
        return ReservationType(command.type)
    except ValueError:
        raise invalid_cdb(2) from None


def _decoded(decode: Callable[[bytes], T], data: bytes) -> T:
    try:
        return decode(data)
    except GarbledAnswer:
        raise invalid_parameter() from None
