"""What a logical unit says of itself: INQUIRY and its pages, mode pages."""

from __future__ import annotations

from clufs.storage import inquiry as i
from clufs.storage.reservation_data import ISCSI

VENDOR, PRODUCT, REVISION = "CLUFS", "TEST ARRAY", "0001"
COMPARE_AND_WRITE_MAX = 128
TRANSFER_MAX_BLOCKS = 0x8000
BLOCK_DEVICE = 0xB1
SBC3 = 0x04C0

CACHING = bytes((0x08, 0x12)) + bytes(18)
CONTROL = bytes((0x0A, 0x0A)) + bytes(10)
WITH_CACHE = bytes((0x08, 0x12, 0x04)) + bytes(17)
DPO_AND_FUA = 0x10


def standard(present: bool, alua: bool = True) -> bytes:
    """Standard INQUIRY data with the version descriptor of SBC-3; `present`: is there such a LUN?"""
    data = i.InquiryData(
        qualifier=0 if present else 3,
        device_type=i.DISK if present else 0x1F,
        tpgs=3 if alua else 0,
        command_queue=True,
        vendor=VENDOR,
        product=PRODUCT,
        revision=REVISION,
    ).encode()
    data += bytes(22) + SBC3.to_bytes(2, "big") + bytes(6)
    return data[:4] + bytes((len(data) - 5,)) + data[5:]


def naa(serial: str) -> bytes:
    """A locally assigned name (NAA 3) of 8 bytes, from the serial number."""
    return bytes((0x30,)) + serial.encode()[-7:].rjust(7, b"0")


def page(
    number: int, serial: str, port: int, group: int, target: str, compares: bool = True
) -> bytes | None:
    """A page of vital product data, None if there is none of that number."""
    if number == i.SUPPORTED_PAGES:
        known = (i.SUPPORTED_PAGES, i.SERIAL_NUMBER, i.IDENTIFICATION, i.BLOCK_LIMITS, BLOCK_DEVICE)
        return i.encode_page(i.SUPPORTED_PAGES, bytes(known))
    if number == i.SERIAL_NUMBER:
        return i.encode_serial(serial)
    if number == i.IDENTIFICATION:
        return i.encode_designators(_names(serial, port, group, target))
    if number == i.BLOCK_LIMITS:
        compared = COMPARE_AND_WRITE_MAX if compares else 0
        return i.BlockLimits(compared, 1, TRANSFER_MAX_BLOCKS, 128).encode()
    if number == BLOCK_DEVICE:
        return i.encode_page(BLOCK_DEVICE, bytes((0, 1)) + bytes(58))
    return None


def _names(serial: str, port: int, group: int, target: str) -> tuple[i.Designator, ...]:
    unit, at_port, device = i.Association
    kind = i.DesignatorType
    port_name = f"{target},t,0x{port:04x}".encode() + b"\0"
    return (
        i.Designator(unit, kind.NAA, i.BINARY, naa(serial)),
        i.Designator(unit, kind.T10_VENDOR, i.ASCII, f"{VENDOR:8}{serial}".encode()),
        i.Designator(at_port, kind.RELATIVE_TARGET_PORT, i.BINARY, port.to_bytes(4, "big"), ISCSI),
        i.Designator(at_port, kind.TARGET_PORT_GROUP, i.BINARY, group.to_bytes(4, "big"), ISCSI),
        i.Designator(at_port, kind.SCSI_NAME, i.UTF8, _filled(port_name), ISCSI),
        i.Designator(device, kind.SCSI_NAME, i.UTF8, _filled(target.encode() + b"\0"), ISCSI),
    )


def _filled(name: bytes) -> bytes:
    return name + bytes(-len(name) % 4)


def mode_sense(number: int, cached: bool) -> bytes | None:
    """MODE SENSE(6) data, None for a page that is not there."""
    caching = WITH_CACHE if cached else CACHING
    pages = {0x08: caching, 0x0A: CONTROL, 0x3F: caching + CONTROL}.get(number)
    if pages is None:
        return None
    return bytes((3 + len(pages), 0, DPO_AND_FUA, 0)) + pages
