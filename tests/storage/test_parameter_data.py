"""Data of commands, against bytes transcribed by hand from SPC-4 and SBC-3."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clufs.errors import GarbledAnswer
from clufs.storage import inquiry as i
from clufs.storage import port_groups as p
from clufs.storage import reservation_data as r
from tests.storage.test_commands import any_of


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


# ----------------------------------------------------------- registrations

HOST_A = r.TransportId(name="iqn.a:b", isid=0x80AABBCCDDEE)
HOST_A_RAW = "45 00 00 1c" + b"iqn.a:b,i,0x80aabbccddee".hex() + "00 00 00 00"
NAME_ONLY = r.TransportId(name="iqn.a:b")
NAME_ONLY_RAW = "05 00 00 14" + b"iqn.a:b".hex() + "00" * 13
FIBRE = r.TransportId(0, raw=raw("00" * 8 + "21 00 00 24 ff 00 00 01" + "00" * 8))

OUT = [
    (
        "REGISTER with APTPL",
        r.OutParameters(0, 0x1122334455667788, aptpl=True),
        "00 00 00 00 00 00 00 00 11 22 33 44 55 66 77 88 00 00 00 00 01 00 00 00",
    ),
    (
        "REGISTER with ALL_TG_PT",
        r.OutParameters(1, 2, all_tg_pt=True),
        "00 00 00 00 00 00 00 01 00 00 00 00 00 00 00 02 00 00 00 00 04 00 00 00",
    ),
    (
        "PREEMPT: our key, then the victim's",
        r.OutParameters(0xA, 0xB),
        "00 00 00 00 00 00 00 0a 00 00 00 00 00 00 00 0b 00 00 00 00 00 00 00 00",
    ),
    (
        "REGISTER with SPEC_I_PT",
        r.OutParameters(0, 2, spec_i_pt=True, initiators=(HOST_A,)),
        "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 02 00 00 00 00 08 00 00 00 00 00 00 20"
        + HOST_A_RAW,
    ),
]


@pytest.mark.parametrize(("source", "parameters", "data"), OUT, ids=[s for s, _, _ in OUT])
def test_reserve_out_has_the_bytes_of_spc_4(
    source: str, parameters: r.OutParameters, data: str
) -> None:
    assert parameters.encode() == raw(data)
    assert r.OutParameters.decode(raw(data)) == parameters


def test_register_and_move_has_the_bytes_of_spc_4() -> None:
    move = r.MoveParameters(1, 2, unregister=True, aptpl=True, target_port=3, initiator=HOST_A)
    data = raw(
        "00 00 00 00 00 00 00 01 00 00 00 00 00 00 00 02 00 03 00 03 00 00 00 20" + HOST_A_RAW
    )
    assert move.encode() == data
    assert r.MoveParameters.decode(data) == move


@pytest.mark.parametrize(
    ("port", "data"), [(HOST_A, HOST_A_RAW), (NAME_ONLY, NAME_ONLY_RAW), (FIBRE, FIBRE.raw.hex())]
)
def test_a_transport_id_has_the_bytes_of_spc_4(port: r.TransportId, data: str) -> None:
    assert port.encode() == raw(data)
    assert r.decode_transport_ids(raw(data)) == (port,)


def test_keys_have_the_bytes_of_spc_4() -> None:
    data = raw("00 00 00 05 00 00 00 10 00 00 00 00 00 00 00 0a 00 00 00 00 00 00 00 0b")
    assert r.Keys.of(5, (0xA, 0xB)).encode() == data
    assert r.Keys.decode(data) == r.Keys.of(5, (0xA, 0xB))
    assert r.Keys.decode(data).whole
    cut = r.Keys.decode(data[:20])
    assert (cut.keys, cut.length, cut.whole) == ((0xA,), 16, False)


def test_a_reservation_has_the_bytes_of_spc_4() -> None:
    data = raw("00 00 00 07 00 00 00 10 11 22 33 44 55 66 77 88 00 00 00 00 00 05 00 00")
    held = r.Reservation(0x1122334455667788, 5)
    assert r.encode_reservation(7, held) == data
    assert r.decode_reservation(data) == (7, held)
    assert r.decode_reservation(raw("00 00 00 07 00 00 00 00")) == (7, None)
    assert r.encode_reservation(7, None) == raw("00 00 00 07 00 00 00 00")


def test_capabilities_have_the_bytes_of_spc_4() -> None:
    data = raw("00 08 0d 81 ea 01 00 00")
    found = r.Capabilities.unpack(data)
    assert found.pack() == data
    assert (found.aptpl, found.all_tg_pt, found.spec_i_pt, found.aptpl_active) == (True,) * 4
    assert not found.compatible_reserve
    assert found.types == set(r.ReservationType)
    only_5 = r.Capabilities.unpack(raw("00 08 00 80 20 00 00 00"))
    assert only_5.types == {r.ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY}
    assert r.Capabilities.unpack(raw("00 08 00 00 00 00 00 00")).types == set(r.ReservationType)


def test_full_status_has_the_bytes_of_spc_4() -> None:
    head = "00 00 00 09 00 00 00 70"
    holder = "00 00 00 00 00 00 00 0a 00 00 00 00 03 05 00 00 00 00 00 01 00 00 00 20" + HOST_A_RAW
    other = "00 00 00 00 00 00 00 0b 00 00 00 00 00 00 00 00 00 00 00 02 00 00 00 20" + HOST_A_RAW
    statuses = (
        r.FullStatus(0xA, True, True, type=5, target_port=1, initiator=HOST_A),
        r.FullStatus(0xB, target_port=2, initiator=HOST_A),
    )
    data = raw(head + holder + other)
    assert r.encode_full_status(9, statuses) == data
    assert r.decode_full_status(data) == (9, statuses)
    with pytest.raises(GarbledAnswer, match="112 bytes, 111 came"):
        r.decode_full_status(data[:-1])


@pytest.mark.parametrize("kind", r.ReservationType)
def test_types_have_the_properties_of_spc_4_table_66(kind: r.ReservationType) -> None:
    assert kind.excludes_reads == kind.name.startswith("EXCLUSIVE")
    assert kind.registrants_only == kind.name.endswith("REGISTRANTS_ONLY")
    assert kind.all_registrants == kind.name.endswith("ALL_REGISTRANTS")


# -------------------------------------------------------------- the LUN itself


def test_inquiry_data_has_the_bytes_of_spc_4() -> None:
    text = b"CLUFS   ARRAY           0001".hex()
    data = raw("00 00 06 02 1f 30 00 02" + text)
    said = i.InquiryData(
        tpgs=3, command_queue=True, vendor="CLUFS", product="ARRAY", revision="0001"
    )
    assert said.encode() == data
    assert i.InquiryData.decode(data) == said
    assert said.present
    assert not i.InquiryData.decode(raw("7f") + data[1:]).present


def test_vital_product_data_has_the_bytes_of_spc_4() -> None:
    assert i.encode_page(0, raw("00 80 83 b0")) == raw("00 00 00 04 00 80 83 b0")
    assert i.decode_page(0, raw("00 00 00 04 00 80 83 b0")) == raw("00 80 83 b0")
    assert i.encode_serial("S1") == raw("00 80 00 02 53 31")
    assert i.decode_serial(raw("00 80 00 04 20 53 31 20")) == "S1"
    with pytest.raises(GarbledAnswer, match="not page 83h"):
        i.decode_page(0x83, raw("00 80 00 00"))


def test_designators_have_the_bytes_of_spc_4() -> None:
    data = raw(
        "00 83 00 24"
        "01 03 00 08 60 01 02 03 04 05 06 07"
        "51 94 00 04 00 00 00 02"
        "51 95 00 04 00 00 00 07"
        "02 01 00 04 43 4c 55 46"
    )
    found = i.decode_designators(data)
    assert i.encode_designators(found) == data
    naa, port, group, vendor = found
    assert (naa.text, naa.association, naa.protocol) == ("naa.6001020304050607", 0, None)
    assert (port.type, port.number, port.protocol) == (i.DesignatorType.RELATIVE_TARGET_PORT, 2, 5)
    assert (group.type, group.number) == (i.DesignatorType.TARGET_PORT_GROUP, 7)
    assert vendor.text == "CLUF"
    assert i.lun_name(found) == naa
    assert i.lun_name((port, vendor)) == vendor
    assert i.lun_name((port, group)) is None


def test_block_limits_have_the_bytes_of_sbc_3() -> None:
    content = "00 01 00 08 00 00 20 00 00 00 00 80" + "00" * 48
    data = raw("00 b0 00 3c" + content)
    limits = i.BlockLimits(
        compare_and_write=1, granularity=8, transfer_max=0x2000, transfer_best=0x80
    )
    assert limits.encode() == data
    assert i.BlockLimits.decode(data) == limits
    short = raw("00 b0 00 10 00 01 00 08 00 00 20 00 00 00 00 80 00 00 00 00")
    assert i.BlockLimits.decode(short) == limits


def test_capacity_has_the_bytes_of_sbc_3() -> None:
    data = raw("00 00 00 00 00 01 ff ff 00 00 02 00 00 03 80 00" + "00" * 16)
    capacity = i.Capacity(0x1FFFF, 512, physical_exponent=3, thin=True)
    assert capacity.pack() == data
    assert i.Capacity.unpack(data) == capacity
    assert capacity.blocks == 0x20000


def test_report_luns_has_the_bytes_of_spc_4() -> None:
    data = raw("00 00 00 10 00 00 00 0000 00 00 00 00 00 00 0000 03 00 00 00 00 00 00")
    assert i.encode_luns((0, 3)) == data
    assert i.decode_luns(data) == (0, 3)
    flat = raw("00 00 00 08 00 00 00 00 41 02 00 00 00 00 00 00")
    assert i.decode_luns(flat) == (0x102,)


# ----------------------------------------------------------------- port groups


def test_port_groups_have_the_bytes_of_spc_4() -> None:
    data = raw(
        "00 00 00 1c"
        "80 0f 00 01 00 01 00 02 00 00 00 01 00 00 00 02"
        "02 0f 00 02 00 02 00 01 00 00 00 03"
    )
    common = {
        "can_unavailable": True,
        "can_standby": True,
        "can_non_optimized": True,
        "can_optimized": True,
    }
    groups = (
        p.PortGroup(preferred=True, group=1, why=1, ports=(1, 2), **common),
        p.PortGroup(state=p.AccessState.STANDBY, group=2, why=2, ports=(3,), **common),
    )
    assert p.encode_groups(groups) == data
    assert p.decode_groups(data) == groups
    with pytest.raises(GarbledAnswer):
        p.decode_groups(data[:-1])


def test_set_port_groups_has_the_bytes_of_spc_4() -> None:
    data = raw("00 00 00 00 00 00 00 01 02 00 00 02")
    wanted = (
        p.WantedState(p.AccessState.ACTIVE_OPTIMIZED, 1),
        p.WantedState(p.AccessState.STANDBY, 2),
    )
    assert p.encode_wanted(wanted) == data
    assert p.decode_wanted(data) == wanted


# ------------------------------------------------------------------ any of them

NAMES = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=","),
    min_size=1,
    max_size=200,
)
INITIATORS = st.builds(
    r.TransportId, name=NAMES, isid=st.none() | st.integers(0, 2**48 - 1)
) | st.binary(min_size=24, max_size=24).filter(lambda b: b[0] & 15 != 5).map(
    lambda b: r.TransportId(b[0] & 15, raw=b)
)
FEW = st.lists(INITIATORS, max_size=3).map(tuple)


@given(any_of(r.OutParameters), FEW)
def test_any_reserve_out_comes_back(
    parameters: r.OutParameters, initiators: tuple[r.TransportId, ...]
) -> None:
    if parameters.spec_i_pt:
        parameters = replace(parameters, initiators=initiators)
    assert r.OutParameters.decode(parameters.encode()) == parameters


@given(any_of(r.MoveParameters), INITIATORS)
def test_any_move_comes_back(parameters: r.MoveParameters, initiator: r.TransportId) -> None:
    parameters = replace(parameters, id_length=0, initiator=initiator)
    assert r.MoveParameters.decode(parameters.encode()) == parameters


@given(st.integers(0, 2**32 - 1), st.lists(st.tuples(any_of(r.FullStatus), INITIATORS), max_size=4))
def test_any_full_status_comes_back(
    generation: int, pairs: list[tuple[r.FullStatus, r.TransportId]]
) -> None:
    statuses = tuple(replace(one, id_length=0, initiator=who) for one, who in pairs)
    assert r.decode_full_status(r.encode_full_status(generation, statuses)) == (
        generation,
        statuses,
    )


@given(
    st.integers(0, 2**32 - 1), st.lists(st.integers(0, 2**64 - 1), max_size=9), st.integers(8, 90)
)
def test_any_keys_come_back_and_a_cut_shows(generation: int, keys: list[int], length: int) -> None:
    said = r.Keys.of(generation, tuple(keys))
    assert r.Keys.decode(said.encode()) == said
    cut = r.Keys.decode(said.encode()[:length])
    assert cut.keys == tuple(keys[: (length - 8) // 8])
    assert cut.whole == (cut.keys == said.keys)


@given(
    st.lists(
        st.tuples(any_of(p.PortGroup), st.lists(st.integers(0, 65535), max_size=4)), max_size=4
    )
)
def test_any_port_groups_come_back(pairs: list[tuple[p.PortGroup, list[int]]]) -> None:
    groups = tuple(replace(one, count=0, ports=tuple(ports)) for one, ports in pairs)
    assert p.decode_groups(p.encode_groups(groups)) == groups


DECODERS = [
    r.OutParameters.decode,
    r.MoveParameters.decode,
    r.Keys.decode,
    r.decode_reservation,
    r.decode_full_status,
    r.Capabilities.unpack,
    i.InquiryData.decode,
    i.decode_serial,
    i.decode_designators,
    i.BlockLimits.decode,
    i.Capacity.unpack,
    i.decode_luns,
    p.decode_groups,
    p.decode_wanted,
]


@given(st.sampled_from(DECODERS), st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(decode: object, data: bytes) -> None:
    assert callable(decode)
    try:
        decode(data)
    except GarbledAnswer as error:
        assert str(error)
