"""Messages about applications: what older and later versions make of them, and strangers' bytes."""

from __future__ import annotations

import msgspec
import pytest

from clufs.daemon.applications.messages import (
    Ask,
    Done,
    JobOver,
    Message,
    Order,
    Report,
    Running,
    UnderWay,
    decode,
    encode,
)
from clufs.errors import GarbageReceived

MESSAGES: tuple[Message, ...] = (
    Order(7, 1, "web", "start", "user", "NAME=web\n", {"USR_X": "1"}, "C", "vs", 41),
    Done(7, 1, "web", False, "it failed", 0.5, 1.5),
    Report(7, 6, [Running("web", "check", "gone")], [UnderWay(6, 2, "db", "stop")], ["net"]),
    Ask(3, "relocate", "web", "rye", force=True),
    JobOver(3, 1, taken=False, data=b"\xff", applied=41),
)


@pytest.mark.parametrize("message", MESSAGES)
def test_what_is_encoded_is_decoded(message: Message) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize("message", MESSAGES)
def test_fields_of_a_later_version_are_not_looked_at(message: Message) -> None:
    fields = msgspec.msgpack.decode(encode(message))
    assert decode(msgspec.msgpack.encode([*fields, {"later": 1}])) == message


def test_kinds_of_a_later_version_are_dropped() -> None:
    assert decode(msgspec.msgpack.encode([250, "what", "ever"])) is None


NOTHING = (b"", b"\xc1", b"\x90", b"\x91\xa1x", b"\x92\x00\xa1x", b"\x91\x05", b"\x91" * 100_000)


@pytest.mark.parametrize("data", NOTHING, ids=range(len(NOTHING)))
def test_anything_else_is_garbage(data: bytes) -> None:
    with pytest.raises(GarbageReceived):
        decode(data)
