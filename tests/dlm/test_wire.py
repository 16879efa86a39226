"""The lock manager's messages as bytes, and back."""

from typing import Any

import msgspec
import pytest

from clufs.dlm import wire
from clufs.dlm.interface import CycleLock, Request, Verb
from clufs.dlm.messages import (
    Ask,
    BlockCopies,
    Copies,
    Ended,
    Granted,
    HeldCopy,
    Id,
    LastWord,
    Lookup,
    Refused,
    Withdraw,
)
from clufs.dlm.modes import Mode
from clufs.dlm.moves import Built, HandedOver, Kept, Moved, MoveHeard, Offer, Taken
from clufs.dlm.survey_messages import (
    Blockers,
    Break,
    Check,
    Describe,
    Described,
    Found,
    Group,
    InCycle,
    Overdue,
    Part,
    Waits,
    WhatWaits,
    WhoBlocks,
)
from clufs.errors import GarbageReceived, NotHeld, RequestError

LOCK = Id("polishham", 7, 41)
ASKED = Request(Verb.LOCK, Mode.EX, nowait=True, hint=2**63, notify=True)
KEPT = Request(Verb.LOCK, Mode.PR, value=b"\x00\xff")
PARTY = Id("provolone", 1, -1)
WAITS = Part(LOCK, 1 << 40, None, Mode.EX, 3, 0.1 + 0.2, True, PARTY, LOCK, LOCK)
HELD = Part(LOCK, 1 << 40, Mode.PR, None, 0, 1e9 + 2**-20, False, PARTY, None, None)
COPY = HeldCopy(LOCK, None, Mode.EX, Mode.NL, 5 << 40, ASKED, True, 1500, 4711, "dash", LOCK)

MESSAGES = (
    Lookup(5, b"db/\xff\x00"),
    Ask(5, Id("polishham", 7, 42), LOCK, b"db/x", ASKED, True, LOCK, None, 4711, "dash"),
    Granted(5, LOCK, Mode.EX, 5 << 40, True, b"page 41", False, 2**62),
    Withdraw(5, LOCK, LOCK, b"db/x", LOCK, KEPT, Mode.EX),
    Copies(5, (BlockCopies(b"db/x", b"page 41", True, 5 << 40, (COPY,)),)),
    Ended(5, LOCK, (LOCK, Id("provolone", 1, 1)), True),
    Overdue(5),
    WhoBlocks(5, 1),
    Blockers(5, 1, (LOCK, PARTY), (Group(PARTY, 3, (PARTY,)),)),
    WhatWaits(5, 2, (PARTY,), (Check(LOCK, 5 << 40, None), Check(LOCK, 0, LOCK))),
    Waits(5, 2, 1.5, ((b"db/x", (WAITS, HELD)),), (), (LOCK,), True),
    Break(5, "conversion", (InCycle(LOCK, b"db/\xff", Mode.PR, Mode.EX),), 7, 1e9 + 2**-20),
    Describe(5, "polishham", 3, ((LOCK, b"db/x"),)),
    Described(5, 3, ((4711, "dash"), (0, "-"))),
    Offer(5, b"db/x"),
    Taken(5, b"db/x", True),
    Kept(5, b"db/x"),
    Moved(
        5, b"db/x", "polishham", (LastWord(b"db/x", b"page", False, 9, LOCK),), 7, ("pepicelli",)
    ),
    HandedOver(5, b"db/x", (BlockCopies(b"db/x", b"", True, 9, (COPY,), True, PARTY),), False),
    Built(5, b"db/x"),
    MoveHeard(5, b"db/x"),
    Found(5, "conversion", (CycleLock(b"db/x", None, Mode.EX, "provolone", 1, "sh", True),)),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_as_it_was(message: Any) -> None:
    assert wire.decode(wire.encode(message)) == message


def test_a_mode_comes_back_as_a_mode() -> None:
    found = wire.decode(wire.encode(Granted(1, LOCK, Mode.PW, 1, True, b"", True, 0)))
    assert isinstance(found, Granted)
    assert found.mode is Mode.PW


def test_a_refusal_keeps_its_class_and_sentence() -> None:
    found = wire.decode(wire.encode(Refused(1, LOCK, NotHeld("nothing is held here"))))
    assert isinstance(found, Refused)
    assert type(found.error) is NotHeld
    assert str(found.error) == "nothing is held here"


def test_a_refusal_of_a_later_version_is_a_refusal() -> None:
    raw = msgspec.msgpack.decode(wire.encode(Refused(1, LOCK, NotHeld("no"))))
    raw[-1][0] = "RefusalOfTomorrow"
    found = wire.decode(msgspec.msgpack.encode(raw))
    assert isinstance(found, Refused)
    assert type(found.error) is RequestError


def test_what_a_later_version_adds_at_the_end_is_not_looked_at() -> None:
    raw = msgspec.msgpack.decode(wire.encode(MESSAGES[1]))
    assert wire.decode(msgspec.msgpack.encode([*raw, "new"])) == MESSAGES[1]


def test_what_an_earlier_version_lacks_at_the_end_has_its_default() -> None:
    raw = msgspec.msgpack.decode(wire.encode(MESSAGES[1]))
    found = wire.decode(msgspec.msgpack.encode(raw[:-5]))
    assert isinstance(found, Ask)
    assert (found.pid, found.command) == (0, "-")


def test_a_request_is_an_array_whose_end_may_grow() -> None:
    raw = msgspec.msgpack.decode(wire.encode(MESSAGES[1]))
    request = raw[5]
    assert request[:2] == ["LOCK", Mode.EX]
    raw[5] = [*request, "new"]
    assert wire.decode(msgspec.msgpack.encode(raw)) == MESSAGES[1]
    raw[5] = request[:2]
    found = wire.decode(msgspec.msgpack.encode(raw))
    assert isinstance(found, Ask)
    assert found.request == Request(Verb.LOCK, Mode.EX)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x90", b"\x91\x63", b"\x92\x00\x01"])
def test_anything_else_is_garbage(data: bytes) -> None:
    with pytest.raises(GarbageReceived):
        wire.decode(data)
