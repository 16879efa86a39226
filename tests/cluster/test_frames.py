"""Frames: what goes in comes out, whatever the pieces; anything else is refused."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clufs.cluster.frames import (
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    Batch,
    Cutter,
    Frame,
    Hello,
    Refusal,
    check_hello,
    pack,
)
from clufs.errors import GarbageReceived, OldVersion, OtherCluster, PeerError, WrongName
from clufs.limits import FRAME_MAX_BYTES, HELLO_MAX_BYTES, MESSAGE_MAX_BYTES

HELLO = Hello(PROTOCOL_MIN, PROTOCOL_MAX, "clu", 1, 7, 3, 42)

numbers = st.integers(0, 2**63 - 1)
frames = st.one_of(
    st.builds(Hello, numbers, numbers, st.text(max_size=30), numbers, numbers, numbers, numbers),
    st.builds(Refusal, st.text(max_size=30)),
    st.builds(Batch, st.booleans(), numbers, numbers, st.lists(st.binary(max_size=30), max_size=5)),
)


def cut(cutter: Cutter, data: bytes) -> list[Frame]:
    cutter.feed(data)
    found = []
    while (frame := cutter.next()) is not None:
        found.append(frame)
    return found


def raw(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


@given(st.lists(frames, max_size=5), st.data())
def test_frames_come_out_as_they_went_in_whatever_the_pieces(
    sent: list[Frame], data: st.DataObject
) -> None:
    stream = b"".join(map(pack, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    cutter = Cutter()
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += cut(cutter, stream[start:end])
    assert found == sent


@given(st.binary(max_size=200))
def test_any_bytes_are_frames_or_refused(data: bytes) -> None:
    cutter = Cutter()
    try:
        assert all(isinstance(frame, Hello | Refusal | Batch) for frame in cut(cutter, data))
    except GarbageReceived:
        return


@given(frames, st.data())
def test_a_changed_byte_is_a_frame_or_refused(frame: Frame, data: st.DataObject) -> None:
    stream = bytearray(pack(frame))
    stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    try:
        cut(Cutter(), bytes(stream))
    except GarbageReceived:
        return


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x80",
        msgspec.msgpack.encode([3, "an unknown kind"]),
        msgspec.msgpack.encode([2, True, 1]),
        msgspec.msgpack.encode([2, True, "one", 0, []]),
        msgspec.msgpack.encode([2, 1, 1, 0, []]),
        msgspec.msgpack.encode([2, True, 1, 0, ["text"]]),
        msgspec.msgpack.encode([1, b"\xff"]),
        b"\x92\x01\xa1\xff",
        msgspec.msgpack.encode([1, "a"]) + b"more",
    ],
)
def test_what_is_no_frame_is_refused(body: bytes) -> None:
    with pytest.raises(GarbageReceived, match="not a frame"):
        cut(Cutter(), raw(body))


def test_an_oversize_frame_is_refused_at_its_first_bytes() -> None:
    cutter = Cutter()
    with pytest.raises(GarbageReceived, match=str(HELLO_MAX_BYTES)):
        cut(cutter, (HELLO_MAX_BYTES + 1).to_bytes(4, "big"))
    cutter = Cutter()
    cutter.known()
    assert cut(cutter, (FRAME_MAX_BYTES).to_bytes(4, "big")) == []
    cutter = Cutter()
    cutter.known()
    with pytest.raises(GarbageReceived, match=str(FRAME_MAX_BYTES)):
        cut(cutter, (FRAME_MAX_BYTES + 1).to_bytes(4, "big"))


def test_the_largest_message_fits() -> None:
    largest = Batch(True, 2**63, 2**63, [bytes(MESSAGE_MAX_BYTES)])
    cutter = Cutter()
    cutter.known()
    assert cut(cutter, pack(largest)) == [largest]


@pytest.mark.parametrize(
    "later",
    [
        [0, 1, 2, "clu", 1, 7, 3, 42, "a field of version 2"],
        [2, True, 1, 0, [b"x"], {"more": 1}],
        [1, "why", 5],
    ],
)
def test_what_a_later_version_adds_is_not_looked_at(later: list[object]) -> None:
    (frame,) = cut(Cutter(), raw(msgspec.msgpack.encode(later)))
    known = msgspec.to_builtins(frame, builtin_types=(bytes,))
    assert known == later[: len(known)]
    assert len(known) == len(later) - 1


@pytest.mark.parametrize(
    ("hello", "error"),
    [
        ({"cluster": "other"}, OtherCluster),
        ({"member": 2}, WrongName),
        ({"oldest": 0, "newest": PROTOCOL_MIN - 1}, OldVersion),
        ({"oldest": PROTOCOL_MAX + 1, "newest": PROTOCOL_MAX + 1}, OldVersion),
        ({"oldest": 2, "newest": 1}, GarbageReceived),
        ({"peer": -1}, GarbageReceived),
        ({"received": -1}, GarbageReceived),
    ],
)
def test_a_hello_that_is_refused(hello: dict[str, object], error: type[PeerError]) -> None:
    with pytest.raises(error):
        check_hello(msgspec.structs.replace(HELLO, **hello), "clu", 1)


@pytest.mark.parametrize(
    ("oldest", "newest"),
    [
        (PROTOCOL_MAX, PROTOCOL_MAX),
        (PROTOCOL_MAX, PROTOCOL_MAX + 1),
        (PROTOCOL_MAX - 1, PROTOCOL_MAX),
        (0, PROTOCOL_MAX + 8),
    ],
)
def test_the_highest_common_version_is_spoken(oldest: int, newest: int) -> None:
    hello = msgspec.structs.replace(HELLO, oldest=oldest, newest=newest)
    assert check_hello(hello, "clu", 1) == PROTOCOL_MAX
