"""Which words go with which request: refusals that need no look at any queue."""

from __future__ import annotations

from clufs.dlm.interface import Request
from clufs.dlm.lock import Lock
from clufs.dlm.modes import PROTECTED_WRITE_OR_MORE, QUECVT_LEGAL, VALUE_EFFECT, Mode
from clufs.dlm.ranges import union
from clufs.errors import InvalidRequest, NotHeld, RequestError, ValueTooLong
from clufs.limits import SUBLOCK_DEPTH_MAX, VALUE_MAX_BYTES


def judge_new_lock(request: Request, parent: Lock | None) -> RequestError | None:
    """Why this new lock is refused, or None: a new lock writes nothing, converts nothing, and
    its parent must be granted (Tru64 manual, 9.6.5)."""
    if request.value is not None:
        return InvalidRequest(f"a new lock in {request.mode.name} does not write the value")
    if request.invalidate:
        return InvalidRequest(f"a new lock in {request.mode.name} does not invalidate the value")
    if request.quecvt:
        return InvalidRequest("quecvt is for conversions, and nothing is held here")
    if parent is None:
        return None
    if parent.granted is None:
        return NotHeld("the lock above it is not granted")
    depth = 1
    above: Lock | None = parent
    while above is not None:
        above = above.parent
        depth += 1
    if depth > SUBLOCK_DEPTH_MAX:
        return InvalidRequest(f"sublocks go no deeper than {SUBLOCK_DEPTH_MAX}")
    return None


def judge_conversion(request: Request, held: Mode) -> RequestError | None:
    """Why this conversion is refused, or None (Tables 9-5 and 9-6, INVVALBLK in 9.4)."""
    to = request.mode
    if request.quecvt and not QUECVT_LEGAL[held][to]:
        return InvalidRequest(f"quecvt does not go from {held.name} to {to.name}")
    if request.value is not None:
        if request.invalidate:
            return InvalidRequest("value= and invalidate exclude each other")
        if VALUE_EFFECT[held][to] != "W":
            return InvalidRequest(f"{held.name} to {to.name} does not write the value")
        return _judge_length(request.value)
    if request.invalidate and not (PROTECTED_WRITE_OR_MORE >> held & 1 and to < held):
        return InvalidRequest(f"{held.name} to {to.name} does not invalidate the value")
    return None


def judge_ranges(request: Request, lock: Lock) -> RequestError | None:
    """Why this conversion of a lock on ranges is refused, or None: it may give up bytes, and is granted
    at once for that. More bytes, or another mode, are another lock of the same side."""
    asked, held = request.ranges, lock.request.ranges
    if asked is None or held is None:
        return InvalidRequest("a lock on a resource as a whole and one on ranges of it do not mix")
    if asked.side != held.side or request.mode is not lock.granted:
        return InvalidRequest("a lock on ranges keeps its side and its mode")
    if union(asked.spans, held.spans) != held.spans:
        return InvalidRequest("a conversion of a lock on ranges gives up bytes and takes none")
    return None


def judge_release(request: Request, held: Mode | None) -> RequestError | None:
    """Why this release is refused, or None: only from PW or EX does it touch the value (9.4)."""
    if request.value is not None and request.invalidate:
        return InvalidRequest("value= and invalidate exclude each other")
    if request.value is None and not request.invalidate:
        return None
    if held is None or not PROTECTED_WRITE_OR_MORE >> held & 1:
        word = "invalidate" if request.invalidate else "write"
        what = request.verb.value if held is None else f"{held.name} to {request.verb.value}"
        return InvalidRequest(f"{what} does not {word} the value")
    return None if request.value is None else _judge_length(request.value)


def _judge_length(value: bytes) -> RequestError | None:
    if len(value) > VALUE_MAX_BYTES:
        return ValueTooLong(f"a value of {len(value)} bytes; {VALUE_MAX_BYTES} is the most")
    return None


def names(lock: Lock) -> str:
    """A lock in a sentence: `db/x EX held` or, while it waits, `db/x NL to EX wanted`."""
    return names_of(lock.rsb.name, lock.granted, lock.wanted)


def names_of(name: bytes, granted: Mode | None, wanted: Mode | None) -> str:
    """The same of a lock that lives elsewhere."""
    modes = [mode.name for mode in (granted, wanted) if mode is not None]
    state = "held" if wanted is None else "wanted"
    shown = name.replace(b"\0", b"/").decode("utf-8", "backslashreplace")
    return f"{shown} {' to '.join(modes)} {state}"
