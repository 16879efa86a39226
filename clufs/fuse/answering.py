"""How a handler answers pyfuse3, whatever happens in it."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from clufs.fuse import lowlevel as _lowlevel  # noqa: F401  (comes before pyfuse3)

import pyfuse3  # isort: skip

log = logging.getLogger("clufsd")

_T = TypeVar("_T")


def answering(handler: Callable[..., _T]) -> Callable[..., Coroutine[Any, Any, _T]]:
    """`handler` as pyfuse3 wants it: a coroutine, which never waits.

    A fault in it is logged and answered EIO: it must not end the daemon, and all locks with it.
    """

    async def answered(*args: Any) -> _T:
        try:
            return handler(*args)
        except pyfuse3.FUSEError:
            raise
        except Exception:
            log.exception("a fault in clufs: %s", handler.__name__)
            raise pyfuse3.FUSEError(errno.EIO) from None

    return answered
