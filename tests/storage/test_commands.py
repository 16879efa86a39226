"""CDBs, each against bytes transcribed by hand from the tables of SPC-4, SPC-2 and SBC-3."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clufs.errors import GarbledAnswer
from clufs.storage import commands as c
from clufs.storage.layout import Layout, places

TRANSCRIBED: list[tuple[str, c.Command, str]] = [
    ("SPC-4 TEST UNIT READY", c.TestUnitReady(), "00 00 00 00 00 00"),
    ("SPC-4 REQUEST SENSE", c.RequestSense(allocation_length=18), "03 00 00 00 12 00"),
    ("SPC-4 REQUEST SENSE, DESC", c.RequestSense(descriptor_format=True), "03 01 00 00 fc 00"),
    ("SPC-4 INQUIRY", c.Inquiry(allocation_length=0x0124), "12 00 00 01 24 00"),
    ("SPC-4 INQUIRY, page 00h", c.Inquiry(evpd=True, page=0x00), "12 01 00 ff ff 00"),
    ("SPC-4 INQUIRY, page 80h", c.Inquiry(evpd=True, page=0x80), "12 01 80 ff ff 00"),
    ("SPC-4 INQUIRY, page 83h", c.Inquiry(evpd=True, page=0x83), "12 01 83 ff ff 00"),
    ("SBC-3 INQUIRY, page B0h", c.Inquiry(True, 0xB0, 64), "12 01 b0 00 40 00"),
    ("SPC-2 RESERVE(6)", c.Reserve6(), "16 00 00 00 00 00"),
    ("SPC-2 RELEASE(6)", c.Release6(), "17 00 00 00 00 00"),
    (
        "SBC-3 READ(16)",
        c.Read16(0x0102030405060708, 0x090A0B0C),
        "88 00 01 02 03 04 05 06 07 08 09 0a 0b 0c 00 00",
    ),
    (
        "SBC-3 READ(16), RDPROTECT 1, DPO, FUA, group 5",
        c.Read16(0, 1, protect=1, dpo=True, fua=True, group=5),
        "88 38 00 00 00 00 00 00 00 00 00 00 00 01 05 00",
    ),
    (
        "SBC-3 WRITE(16), FUA",
        c.Write16(0x1000, 8, fua=True),
        "8a 08 00 00 00 00 00 00 10 00 00 00 00 08 00 00",
    ),
    (
        "SBC-3 COMPARE AND WRITE",
        c.CompareAndWrite(0x1122, 1),
        "89 00 00 00 00 00 00 00 11 22 00 00 00 01 00 00",
    ),
    (
        "SBC-3 COMPARE AND WRITE, FUA",
        c.CompareAndWrite(7, 255, fua=True),
        "89 08 00 00 00 00 00 00 00 07 00 00 00 ff 00 00",
    ),
    (
        "SBC-3 SYNCHRONIZE CACHE(16), the whole LUN",
        c.SynchronizeCache16(),
        "91 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00",
    ),
    (
        "SBC-3 SYNCHRONIZE CACHE(16), IMMED",
        c.SynchronizeCache16(2, 3, immediate=True),
        "91 02 00 00 00 00 00 00 00 02 00 00 00 03 00 00",
    ),
    (
        "SBC-3 READ CAPACITY(16)",
        c.ReadCapacity16(),
        "9e 10 00 00 00 00 00 00 00 00 00 00 00 20 00 00",
    ),
    ("SPC-4 REPORT LUNS", c.ReportLuns(select=2), "a0 00 02 00 00 00 00 00 10 00 00 00"),
    (
        "SPC-4 PERSISTENT RESERVE IN, READ KEYS",
        c.PersistentReserveIn(c.ReserveIn.READ_KEYS),
        "5e 00 00 00 00 00 00 20 00 00",
    ),
    (
        "SPC-4 PERSISTENT RESERVE IN, READ RESERVATION",
        c.PersistentReserveIn(c.ReserveIn.READ_RESERVATION, 24),
        "5e 01 00 00 00 00 00 00 18 00",
    ),
    (
        "SPC-4 PERSISTENT RESERVE IN, REPORT CAPABILITIES",
        c.PersistentReserveIn(c.ReserveIn.REPORT_CAPABILITIES, 8),
        "5e 02 00 00 00 00 00 00 08 00",
    ),
    (
        "SPC-4 PERSISTENT RESERVE IN, READ FULL STATUS",
        c.PersistentReserveIn(c.ReserveIn.READ_FULL_STATUS),
        "5e 03 00 00 00 00 00 20 00 00",
    ),
    (
        "SPC-4 PERSISTENT RESERVE OUT, REGISTER",
        c.PersistentReserveOut(c.ReserveOut.REGISTER),
        "5f 00 00 00 00 00 00 00 18 00",
    ),
    (
        "SPC-4 PERSISTENT RESERVE OUT, RESERVE, type 5",
        c.PersistentReserveOut(c.ReserveOut.RESERVE, type=5),
        "5f 01 05 00 00 00 00 00 18 00",
    ),
    (
        "SPC-4 PERSISTENT RESERVE OUT, RELEASE, type 8",
        c.PersistentReserveOut(c.ReserveOut.RELEASE, type=8),
        "5f 02 08 00 00 00 00 00 18 00",
    ),
    (
        "SPC-4 PERSISTENT RESERVE OUT, CLEAR",
        c.PersistentReserveOut(c.ReserveOut.CLEAR),
        "5f 03 00 00 00 00 00 00 18 00",
    ),
    (
        "SPC-4 PERSISTENT RESERVE OUT, PREEMPT, type 5",
        c.PersistentReserveOut(c.ReserveOut.PREEMPT, type=5),
        "5f 04 05 00 00 00 00 00 18 00",
    ),
    (
        "SPC-4 PERSISTENT RESERVE OUT, PREEMPT AND ABORT, type 5",
        c.PersistentReserveOut(c.ReserveOut.PREEMPT_AND_ABORT, type=5),
        "5f 05 05 00 00 00 00 00 18 00",
    ),
    (
        "SPC-4 PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY",
        c.PersistentReserveOut(c.ReserveOut.REGISTER_AND_IGNORE_EXISTING_KEY),
        "5f 06 00 00 00 00 00 00 18 00",
    ),
    (
        "SPC-4 PERSISTENT RESERVE OUT, REGISTER AND MOVE, type 1",
        c.PersistentReserveOut(c.ReserveOut.REGISTER_AND_MOVE, type=1, parameter_length=0x4C),
        "5f 07 01 00 00 00 00 00 4c 00",
    ),
    (
        "SPC-4 PERSISTENT RESERVE OUT, REPLACE LOST RESERVATION",
        c.PersistentReserveOut(c.ReserveOut.REPLACE_LOST_RESERVATION, type=5),
        "5f 08 05 00 00 00 00 00 18 00",
    ),
    (
        "SPC-4 REPORT TARGET PORT GROUPS",
        c.ReportTargetPortGroups(allocation_length=0x0800),
        "a3 0a 00 00 00 00 00 00 08 00 00 00",
    ),
    (
        "SPC-4 REPORT TARGET PORT GROUPS, extended header",
        c.ReportTargetPortGroups(extended=1),
        "a3 2a 00 00 00 00 00 00 10 00 00 00",
    ),
    (
        "SPC-4 SET TARGET PORT GROUPS",
        c.SetTargetPortGroups(12),
        "a4 0a 00 00 00 00 00 00 00 0c 00 00",
    ),
]


@pytest.mark.parametrize(
    ("source", "command", "cdb"), TRANSCRIBED, ids=[s for s, _, _ in TRANSCRIBED]
)
def test_a_command_has_the_bytes_of_the_standard(source: str, command: c.Command, cdb: str) -> None:
    assert command.cdb().hex(" ") == cdb
    assert c.parse(bytes.fromhex(cdb)) == command


def test_every_command_and_every_service_action_is_transcribed() -> None:
    assert {type(command) for _, command, _ in TRANSCRIBED} == set(c.COMMANDS)
    actions: set[tuple[type[c.Command], int]] = {
        (type(command), command.action)
        for _, command, _ in TRANSCRIBED
        if isinstance(command, c.PersistentReserveIn | c.PersistentReserveOut)
    }
    wanted: set[tuple[type[c.Command], int]] = {
        (c.PersistentReserveIn, each.value) for each in c.ReserveIn
    }
    wanted |= {(c.PersistentReserveOut, each.value) for each in c.ReserveOut}
    assert actions == wanted


def any_of(layout: type[Layout]) -> st.SearchStrategy[Layout]:
    """Any value of the fields that lie in the bytes of `layout`."""
    booleans = {one.name for one in fields(layout) if one.type in ("bool", bool)}
    return st.builds(
        layout,
        **{
            name: st.booleans() if name in booleans else st.integers(0, (1 << place.bits) - 1)
            for name, place in places(layout)
        },
    )


@given(st.one_of([any_of(kind) for kind in c.COMMANDS]))
def test_any_command_comes_back_as_it_was(command: c.Command) -> None:
    assert c.parse(command.cdb()) == command
    assert len(command.cdb()) == command.LENGTH


@given(st.binary(max_size=20))
def test_any_bytes_are_a_command_or_unknown_or_cut_off(data: bytes) -> None:
    try:
        command = c.parse(data)
    except GarbledAnswer:
        return
    if command is not None:
        again = c.parse(command.cdb())
        assert again == command


def test_a_number_too_large_for_its_field_is_refused() -> None:
    with pytest.raises(ValueError, match=r"blocks=0x100 does not fit in 8 bits"):
        c.CompareAndWrite(0, 256).cdb()
    with pytest.raises(ValueError, match="lba"):
        c.Read16(-1, 1).cdb()


def test_an_unknown_command_and_an_unknown_service_action_are_told() -> None:
    assert c.parse(bytes.fromhex("ff 00 00 00 00 00")) is None
    assert c.parse(bytes.fromhex("9e 11 00 00 00 00 00 00 00 00 00 00 00 20 00 00")) is None


def test_how_much_goes_and_comes() -> None:
    assert c.Read16(0, 8).bytes_in(512) == 4096
    assert c.Read16(0, 8).bytes_out(512) == 0
    assert c.Write16(0, 8).bytes_out(4096) == 32768
    assert c.CompareAndWrite(0, 2).bytes_out(512) == 2048
    assert c.PersistentReserveOut(0).bytes_out(512) == 24
    assert c.Inquiry().bytes_in(512) == 0xFFFF
    assert c.TestUnitReady().bytes_in(512) == 0
