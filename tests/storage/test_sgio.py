"""SG_IO: the struct's bytes, transcribed by hand from Linux's scsi/sg.h for 64 bits; what answers mean."""

import pytest

from clufs.errors import (
    GarbledAnswer,
    LunBusy,
    LunError,
    LunTimedOut,
    PathLost,
    ReservationConflict,
)
from clufs.storage import commands as c
from clufs.storage import sgio
from clufs.storage.outcome import Refusal
from clufs.storage.sense import Sense, SenseKey

ASKED = (
    "53 00 00 00"  # interface_id 'S'
    "fd ff ff ff"  # dxfer_direction SG_DXFER_FROM_DEV
    "10 fc 00 00"  # cmd_len, mx_sb_len, iovec_count
    "00 10 00 00"  # dxfer_len
    "88 77 66 55 44 33 22 11"  # dxferp
    "01 00 00 00 00 00 00 00"  # cmdp
    "02 00 00 00 00 00 00 00"  # sbp
    "10 27 00 00"  # timeout, milliseconds
    "00 00 00 00"  # flags
    "00 00 00 00 00 00 00 00"  # pack_id, hole
    "00 00 00 00 00 00 00 00"  # usr_ptr
    "00 00 00 00"  # status, masked_status, msg_status, sb_len_wr
    "00 00 00 00"  # host_status, driver_status
    "00 00 00 00"  # resid
    "00 00 00 00"  # duration
    "00 00 00 00"  # info
    "00 00 00 00"  # hole at the end
)


def test_a_request_has_the_bytes_of_scsi_sg_h() -> None:
    packed = sgio.pack(sgio.FROM_DEVICE, 1, 16, 0x1122334455667788, 4096, 2, 10_000)
    assert packed.hex() == bytes.fromhex(ASKED).hex()
    assert len(packed) == sgio.HEADER_BYTES == 88


def test_an_answer_has_the_bytes_of_scsi_sg_h() -> None:
    answered = bytearray(bytes.fromhex(ASKED))
    answered[64:76] = bytes.fromhex("02 01 00 12 00 00 08 00 f0 0f 00 00")
    assert sgio.unpack(bytes(answered)) == sgio.Answer(2, 0, 8, 18, 0x0FF0)
    with pytest.raises(GarbledAnswer):
        sgio.unpack(bytes(answered[:-4]))


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (sgio.Answer(0x18, 0, 0, 0, 0), ReservationConflict, "reserved for others"),
        (sgio.Answer(0x08, 0, 0, 0, 0), LunBusy, "BUSY"),
        (sgio.Answer(0x40, 0, 0, 0, 0), PathLost, "aborted"),
        (sgio.Answer(0x22, 0, 0, 0, 0), LunError, "status 0x22"),
        (sgio.Answer(0, 0x01, 0, 0, 0), PathLost, "no connection"),
        (sgio.Answer(0, 0x03, 0, 0, 0), LunTimedOut, "no answer in time"),
        (sgio.Answer(0, 0x0F, 0, 0, 0), PathLost, "transport failed"),
        (sgio.Answer(0, 0, 0x06, 0, 0), PathLost, "driver status 0x6"),
    ],
)
def test_a_bad_answer_is_an_error_of_its_class(
    answer: sgio.Answer, kind: type[LunError], words: str
) -> None:
    with pytest.raises(LunError, match=words) as caught:
        sgio.judge("sda: READ(16)", answer, b"")
    assert type(caught.value) is kind


def test_sense_is_read_whatever_the_driver_says() -> None:
    sense = Sense(SenseKey.UNIT_ATTENTION, 0x2A, 0x05)
    with pytest.raises(Refusal, match="registrations preempted"):
        sgio.judge("sda", sgio.Answer(2, 0, 0x08, 18, 0), sense.fixed())
    with pytest.raises(Refusal, match="HARDWARE ERROR"):
        sgio.judge("sda", sgio.Answer(2, 0, 0, 0, 0), b"")
    sgio.judge("sda", sgio.Answer(0, 0, 0, 0, 0), b"")
    sgio.judge("sda", sgio.Answer(0, 0, 0x08, 0, 0), b"")


async def test_what_is_no_scsi_device_says_so() -> None:
    device = sgio.SgIo("/dev/null")
    try:
        with pytest.raises(LunError, match="/dev/null: TEST UNIT READY: Inappropriate ioctl"):
            await device.run(c.TestUnitReady())
    finally:
        device.close()
    with pytest.raises(PathLost, match="No such file"):
        sgio.SgIo("/dev/none-of-that-name")
