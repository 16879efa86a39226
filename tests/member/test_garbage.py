"""What a member decodes may go on with fields of a later version; however deep these are, they are garbage at worst."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from clufs.cluster import formation_messages, frames
from clufs.cluster.verdict import Verdict
from clufs.dlm import wire
from clufs.dlm.messages import Id, Withdrawn
from clufs.dlm.modes import Mode
from clufs.dlm.node import Node
from clufs.errors import GarbageReceived, StateError
from clufs.member.queries import Queries, Question
from clufs.registry import commands, messages
from clufs.registry.state import State

_DEEP = b"\x91" * 100_000 + b"\xc0"


def deeper(message: bytes) -> bytes:
    """The message, a short array, with one more element: a list in a list in a list."""
    assert 0x90 <= message[0] < 0x9F, "no short array"
    return bytes([message[0] + 1]) + message[1:] + _DEEP


encode = msgspec.msgpack.encode
COMMAND = commands.encode(commands.CommandId(1, 2, 3), commands.DropNamespace(b"db"))
ROUND = ((1, 2), ((1, 2),), 3)


@pytest.mark.parametrize(
    ("decode", "message"),
    [
        (wire.decode, wire.encode(Withdrawn(1, Id("a", 1, 2), Mode.PR, 3))),
        (commands.decode, COMMAND),
        (State.restore, State().snapshot()),
    ],
    ids=["wire", "command", "snapshot"],
)
def test_depth_is_refused(decode: Callable[[bytes], object], message: bytes) -> None:
    decode(message)
    with pytest.raises((GarbageReceived, StateError)):
        decode(deeper(message))


def test_depth_is_dropped_where_nobody_can_be_told() -> None:
    formed = formation_messages.pack(formation_messages.Again(ROUND, 1))
    assert formation_messages.unpack(formed) is not None
    assert formation_messages.unpack(deeper(formed)) is None
    acknowledged = encode(messages.Ack(7))
    assert messages.decode(acknowledged) == messages.Ack(7)
    assert messages.decode(deeper(acknowledged)) is None
    verdict = Verdict(1, {1: 1, 2: 1})
    verdict.installed(3, (1, 2))
    assert verdict.said(2, b"\x91" + _DEEP) == []


def test_a_deep_frame_and_a_deep_question_are_garbage() -> None:
    cutter = frames.Cutter()
    cutter.known()
    packed = frames.pack(frames.Hello(1, 1, "deli", 1, 1, 0, 0))
    body = deeper(packed[4:])
    cutter.feed(len(body).to_bytes(4, "big") + body)
    with pytest.raises(GarbageReceived):
        cutter.next()
    queries = Queries(Node("a", 0, (), 1), lambda member, data: None, lambda: ("a", "b"))
    with pytest.raises(GarbageReceived):
        queries.received("b", deeper(encode(Question(1, 0, b"db/x"))))
