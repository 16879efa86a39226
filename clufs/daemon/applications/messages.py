"""What members say to each other about applications: the planner's orders, and what came of them.

A message is a MessagePack array that starts with its kind. A later version may add fields at the end
and kinds: an earlier one does not look at the first, and drops the second. Between two members of a
view messages come in order, and none is lost; from one view to the next some may be, so the planner
says again what is open (`Order`), and who carried it out answers again.

applied: the index of the last command of the registry that the sender had applied; the message is
heard where the registry is as far (`early`).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from clufs.errors import GarbageReceived

Entry = Literal["start", "stop", "clear"]


class ActionId(NamedTuple):
    """An action anywhere, ever: the number of the planner's lock, and a count of that planner."""

    planner: int
    action: int


class Order(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """The planner orders an action on an application. Said again, it takes effect once.

    entry: start takes the application's lock first; stop gives it up when all has ended. clear: nothing
    is run, whatever is left of the application is ended, and the lock given up.
    profile: the merged text. variables: USR_ ones of a command. locale, output: of the user, as the
    action's environment has them; with `output` each line that it prints goes to the planner.
    """

    planner: int
    action: int
    resource: str
    entry: Entry
    reason: str
    profile: str
    variables: dict[str, str] = {}
    locale: str = ""
    output: str = ""
    applied: int = 0


class Done(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """The action of an order has ended. why: one sentence.

    fenced_s: waited for a fencing, then waited_s for the lock; ran_s: the script.
    """

    planner: int
    action: int
    resource: str
    ok: bool
    why: str
    waited_s: float = 0.0
    ran_s: float = 0.0
    fenced_s: float = 0.0


class Printed(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """A line of output of an action whose user wants to see it."""

    planner: int
    action: int
    line: str


class Inquiry(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """Who sends this plans, under this number: report."""

    planner: int


class UnderWay(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An action that has not ended."""

    planner: int
    action: int
    resource: str
    entry: Entry


class Running(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An application that has its lock. failed: the entry ("start", "stop", "check") that failed last."""

    resource: str
    failed: str = ""
    why: str = ""


class Report(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """What this member runs now, to the planner `planner`; unasked, too, when that changed by itself.

    seen: the highest number of a planner before it that this daemon has heard of, 0 if of none; first: the
    lowest of any, this one included.
    online: monitored resources that are ONLINE here; offline: that are not. given_up: applications
    that this member ended with all others, nobody has started here since, and why, as want of quorum.
    """

    planner: int
    seen: int
    running: list[Running] = []
    under_way: list[UnderWay] = []
    online: list[str] = []
    offline: list[str] = []
    given_up: dict[str, str] = {}
    first: int = 0


class CheckFailed(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """The check entry of an application that runs here failed; it is called again, until an order comes."""

    planner: int
    resource: str
    why: str


class Watched(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """A monitored resource is ONLINE here, or not."""

    planner: int
    resource: str
    online: bool


class Ask(msgspec.Struct, frozen=True, array_like=True, tag=7, gc=False):
    """A user at this member orders something. job: a number of this member's.

    verb: start, stop, relocate, balance, update, maintain, drain, what-if, candidates; leave: this
    member is about to leave the cluster in good order; output: what the resource printed at the member
    that is asked, whether it plans or not. profile: the merged text, for update. holder: the
    descriptor that holds the maintenance, a number of this member's; 0 for none.
    """

    job: int
    verb: str
    resource: str = ""
    member: str = ""
    force: bool = False
    dry_run: bool = False
    on: bool = True
    variables: dict[str, str] = {}
    locale: str = ""
    output: str = ""
    profile: str = ""
    holder: int = 0
    applied: int = 0


class Said(msgspec.Struct, frozen=True, array_like=True, tag=8, gc=False):
    """A line of progress for the user of a job."""

    job: int
    line: str


class JobOver(msgspec.Struct, frozen=True, array_like=True, tag=9, gc=False):
    """The job has ended. taken: False where the member asked does not plan, and has done nothing.

    data: what was asked for, as bytes.
    """

    job: int
    exit: int
    taken: bool = True
    data: bytes = b""
    applied: int = 0


Message = Order | Done | Printed | Inquiry | Report | CheckFailed | Watched | Ask | Said | JobOver

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_parts = msgspec.msgpack.Decoder(list[msgspec.Raw])
_KINDS = 10
_NO_MESSAGE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def encode(message: Message) -> bytes:
    """What `decode` understands, also that of a later version of clufs."""
    return _encoder.encode(message)


def decode(data: bytes) -> Message | None:
    """The message; None for one of a kind that only later versions know. Raises GarbageReceived."""
    try:
        return _decoder.decode(data)
    except _NO_MESSAGE as error:
        if _is_of_later_kind(data):
            return None
        raise GarbageReceived(f"no message about applications: {error}") from error


def _is_of_later_kind(data: bytes) -> bool:
    try:
        parts = _parts.decode(data)
        return bool(parts) and msgspec.msgpack.decode(parts[0], type=int) >= _KINDS
    except _NO_MESSAGE:
        return False
