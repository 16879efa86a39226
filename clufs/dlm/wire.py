"""The lock manager's messages as bytes: MessagePack, one array each, its first element the kind.

A later version may add fields, with defaults, at the end of a message: an earlier one does not
look at them, a later one takes the default. So two neighbouring versions work together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import reduce
from operator import attrgetter, or_
from typing import Any, cast, get_args, get_type_hints

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


def _struct(kind: Any, tag: int) -> type[msgspec.Struct]:
    """What carries a kind of message: its fields in their order."""
    hints = get_type_hints(kind)
    described: list[Any] = []
    for field in fields(kind):
        if field.default is MISSING:
            described.append((field.name, hints[field.name]))
        else:
            described.append((field.name, hints[field.name], field.default))
    return msgspec.defstruct(
        kind.__name__, described, array_like=True, tag=tag, frozen=True, gc=False
    )


_KINDS: tuple[Any, ...] = get_args(Message)
_STRUCTS: dict[type, type[msgspec.Struct]] = {
    kind: _struct(kind, tag) for tag, kind in enumerate(_KINDS)
}
_MESSAGES: dict[type, Callable[..., Message]] = {
    struct: cast(Callable[..., Message], kind) for kind, struct in _STRUCTS.items()
}
_FIELDS: dict[type, tuple[Callable[..., msgspec.Struct], Callable[[Any], Any], bool]] = {
    kind: (struct, attrgetter(*struct.__struct_fields__), len(struct.__struct_fields__) == 1)
    for kind, struct in _STRUCTS.items()
}
_encode = msgspec.msgpack.Encoder(enc_hook=_to_wire).encode
_any: Any = reduce(or_, _MESSAGES)
_decode: Callable[[bytes], Any] = msgspec.msgpack.Decoder(_any, dec_hook=_from_wire).decode


def encode(message: Message) -> bytes:
    """The bytes of a message, which `decode` understands."""
    struct, get, single = _FIELDS[type(message)]
    found = get(message)
    return _encode(struct(found) if single else struct(*found))


def decode(data: bytes) -> Message:
    """The message that was encoded. Raises GarbageReceived for anything else."""
    try:
        struct = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, TypeError) as error:
        raise GarbageReceived(f"not a message of lock managers: {error}") from error
    return _MESSAGES[type(struct)](*msgspec.structs.astuple(struct))
