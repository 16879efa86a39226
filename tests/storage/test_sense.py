"""Sense data, against bytes transcribed by hand from SPC-4, 4.5.2 and 4.5.3."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clufs.errors import GarbledAnswer
from clufs.storage.sense import Sense, SenseKey

UNIT_ATTENTION = SenseKey.UNIT_ATTENTION
ILLEGAL = SenseKey.ILLEGAL_REQUEST
PREEMPTED = Sense(UNIT_ATTENTION, 0x2A, 0x05)
OUT_OF_RANGE = Sense(ILLEGAL, 0x21, 0x00, information=0x01020304)
BAD_FIELD = Sense(ILLEGAL, 0x24, 0x00, field_byte=2)
BAD_DATA = Sense(ILLEGAL, 0x26, 0x00, field_byte=20, in_cdb=False)
LATE = Sense(SenseKey.MEDIUM_ERROR, 0x0C, 0x00, information=9, deferred=True)

FIXED = [
    (PREEMPTED, "70 00 06 00 00 00 00 0a 00 00 00 00 2a 05 00 00 00 00"),
    (OUT_OF_RANGE, "f0 00 05 01 02 03 04 0a 00 00 00 00 21 00 00 00 00 00"),
    (BAD_FIELD, "70 00 05 00 00 00 00 0a 00 00 00 00 24 00 00 c0 00 02"),
    (BAD_DATA, "70 00 05 00 00 00 00 0a 00 00 00 00 26 00 00 80 00 14"),
    (LATE, "f1 00 03 00 00 00 09 0a 00 00 00 00 0c 00 00 00 00 00"),
]
DESCRIPTORS = [
    (PREEMPTED, "72 06 2a 05 00 00 00 00"),
    (OUT_OF_RANGE, "72 05 21 00 00 00 00 0c 00 0a 80 00 00 00 00 00 01 02 03 04"),
    (BAD_FIELD, "72 05 24 00 00 00 00 08 02 06 00 00 c0 00 02 00"),
    (BAD_DATA, "72 05 26 00 00 00 00 08 02 06 00 00 80 00 14 00"),
    (LATE, "73 03 0c 00 00 00 00 0c 00 0a 80 00 00 00 00 00 00 00 00 09"),
]


@pytest.mark.parametrize(("sense", "data"), FIXED)
def test_the_fixed_format_has_the_bytes_of_the_standard(sense: Sense, data: str) -> None:
    assert sense.fixed().hex(" ") == data
    assert Sense.decode(bytes.fromhex(data)) == sense


@pytest.mark.parametrize(("sense", "data"), DESCRIPTORS)
def test_the_descriptor_format_has_the_bytes_of_the_standard(sense: Sense, data: str) -> None:
    assert sense.descriptors().hex(" ") == data
    assert Sense.decode(bytes.fromhex(data)) == sense


def test_descriptors_that_are_not_known_are_passed_over() -> None:
    data = "72 05 24 00 00 00 00 14 80 02 aa bb 03 02 00 07 03 02 00 00 02 06 00 00 c0 00 01 00"
    assert Sense.decode(bytes.fromhex(data)) == Sense(ILLEGAL, 0x24, 0x00, field_byte=1)


@pytest.mark.parametrize(
    ("sense", "words"),
    [
        (PREEMPTED, "UNIT ATTENTION: registrations preempted (6/2A/05)"),
        (
            BAD_FIELD,
            "ILLEGAL REQUEST: invalid field in the command (5/24/00), byte 2 of the command",
        ),
        (
            BAD_DATA,
            "ILLEGAL REQUEST: invalid field in the parameter list (5/26/00), byte 20 of the data",
        ),
        (
            OUT_OF_RANGE,
            "ILLEGAL REQUEST: block address out of range (5/21/00), information 0x1020304",
        ),
        (LATE, "MEDIUM ERROR: write error (3/0C/00), information 0x9, about an earlier command"),
        (
            Sense(UNIT_ATTENTION, 0x29, 0x7F),
            "UNIT ATTENTION: power on, reset or bus device reset (6/29/7F)",
        ),
        (Sense(SenseKey.HARDWARE_ERROR, 0x99, 0x01), "HARDWARE ERROR: cause not known (4/99/01)"),
    ],
)
def test_a_person_reads_it_in_words(sense: Sense, words: str) -> None:
    assert str(sense) == words


def senses() -> st.SearchStrategy[Sense]:
    byte = st.integers(0, 255)
    number = st.none() | st.integers(0, 2**32 - 1)
    plain = st.builds(Sense, st.sampled_from(SenseKey), byte, byte, number, deferred=st.booleans())
    pointer = st.builds(
        Sense, st.just(ILLEGAL), byte, byte, number, st.integers(0, 2**16 - 1), st.booleans()
    )
    return plain | pointer


@given(senses())
def test_any_sense_comes_back_from_both_formats(sense: Sense) -> None:
    assert Sense.decode(sense.fixed()) == sense
    assert Sense.decode(sense.descriptors()) == sense


@given(senses(), st.integers(4, 20))
def test_what_is_cut_off_still_tells_its_key(sense: Sense, length: int) -> None:
    assert Sense.decode(sense.descriptors()[:length]).code == sense.code
    assert Sense.decode(sense.fixed()[:length]).key == sense.key


@given(st.binary(max_size=40))
def test_any_bytes_are_sense_or_refused(data: bytes) -> None:
    try:
        assert str(Sense.decode(data))
    except GarbledAnswer as error:
        assert "unknown format" in str(error)
