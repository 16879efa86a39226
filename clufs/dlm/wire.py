"""The lock manager's messages as bytes: MessagePack, one array each, its first element the kind.

A later version may add fields, with defaults, at the end of a message: an earlier one does not
look at them, a later one takes the default. So two neighbouring versions work together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from clufs import errors
from clufs.dlm.messages import Message
from clufs.errors import GarbageReceived, RequestError

_ERRORS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, RequestError)
}


def _to_wire(found: Any) -> Any:
    if isinstance(found, RequestError):
        return type(found).__name__, str(found)
    raise TypeError(f"{type(found).__name__} does not travel")


def _from_wire(kind: type, found: Any) -> Any:
    if kind is RequestError:
        name, text = found
        # A refusal that this version does not know is a refusal all the same.
        return _ERRORS.get(name, RequestError)(text)
    raise TypeError(f"{kind.__name__} does not travel")


encode: Callable[[Message], bytes] = msgspec.msgpack.Encoder(enc_hook=_to_wire).encode
"""The bytes of a message, which `decode` understands."""

_any: Any = Message
_decode: Callable[[bytes], Message] = msgspec.msgpack.Decoder(_any, dec_hook=_from_wire).decode


def decode(data: bytes) -> Message:
    """The message that was encoded. Raises GarbageReceived for anything else."""
    try:
        return _decode(data)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise GarbageReceived(f"not a message of lock managers: {error}") from error
