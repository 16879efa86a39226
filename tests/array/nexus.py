"""Who talks to a logical unit, and how it refuses."""

from __future__ import annotations

from dataclasses import dataclass

from clufs.storage.reservation_data import TransportId
from clufs.storage.sense import Sense, SenseKey


@dataclass(frozen=True, order=True)
class Nexus:
    """An I_T nexus: an initiator port (name and ISID) at a target port (relative target port identifier)."""

    name: str
    isid: int
    port: int

    @property
    def initiator(self) -> TransportId:
        """The initiator port."""
        return TransportId(name=self.name, isid=self.isid)


class Refused(Exception):
    """CHECK CONDITION with `sense`."""

    def __init__(self, sense: Sense) -> None:
        super().__init__(str(sense))
        self.sense = sense


class Conflict(Exception):
    """RESERVATION CONFLICT."""


def illegal(asc: int, ascq: int = 0, byte: int | None = None, in_cdb: bool = True) -> Refused:
    """ILLEGAL REQUEST."""
    return Refused(Sense(SenseKey.ILLEGAL_REQUEST, asc, ascq, field_byte=byte, in_cdb=in_cdb))


def invalid_cdb(byte: int) -> Refused:
    """INVALID FIELD IN CDB."""
    return illegal(0x24, byte=byte)


def invalid_parameter(byte: int | None = None) -> Refused:
    """INVALID FIELD IN PARAMETER LIST."""
    return illegal(0x26, byte=byte, in_cdb=False)


def attention(asc: int, ascq: int) -> Sense:
    """UNIT ATTENTION."""
    return Sense(SenseKey.UNIT_ATTENTION, asc, ascq)


POWER_ON = attention(0x29, 0x01)
RESET = attention(0x29, 0x00)
NEXUS_LOST = attention(0x29, 0x07)
RESERVATIONS_PREEMPTED = attention(0x2A, 0x03)
RESERVATIONS_RELEASED = attention(0x2A, 0x04)
REGISTRATIONS_PREEMPTED = attention(0x2A, 0x05)
ACCESS_STATE_CHANGED = attention(0x2A, 0x06)
