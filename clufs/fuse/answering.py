"""How a handler answers pyfuse3, whatever happens in it."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any, TypeAlias, TypeVar, overload

from clufs.fuse import loop
from clufs.fuse import lowlevel as _lowlevel  # noqa: F401  (comes before pyfuse3)

import pyfuse3  # isort: skip

log = logging.getLogger("clufsd")

_T = TypeVar("_T")


Later: TypeAlias = _T | Coroutine[Any, Any, _T]
"""What a handler returns: the answer, or a coroutine that will have it."""


@overload
def answering(
    handler: Callable[..., Coroutine[Any, Any, _T]],
) -> Callable[..., Coroutine[Any, Any, _T]]: ...


@overload
def answering(handler: Callable[..., Later[_T]]) -> Callable[..., Coroutine[Any, Any, _T]]: ...


def answering(
    handler: Callable[..., _T | Coroutine[Any, Any, _T]],
) -> Callable[..., Coroutine[Any, Any, _T]]:
    """`handler` as pyfuse3 wants it: a coroutine. Nearly always it answers at once; where it cannot
    it returns a coroutine, which is waited for while other requests are served.

    A fault in it is logged and answered EIO: it must not end the daemon, and all locks with it.
    """

    async def answered(*args: Any) -> _T:
        try:
            result = handler(*args)
            if type(result) is CoroutineType:
                return await loop.aside(result)
            return result  # type: ignore[return-value]
        except pyfuse3.FUSEError:
            raise
        except Exception:
            log.exception("a fault in clufs: %s", handler.__name__)
            raise pyfuse3.FUSEError(errno.EIO) from None

    return answered
