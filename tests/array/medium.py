"""What is on a LUN's disk, and the log of everything written to it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

BLOCK_BYTES = 512


@dataclass(frozen=True)
class Written:
    """Data that reached the medium. safe: with GOOD it was safe from loss of power (FUA, or no cache)."""

    lba: int
    data: bytes
    who: str
    safe: bool


@dataclass(frozen=True)
class Synchronized:
    """A SYNCHRONIZE CACHE: all that was written before is safe."""

    who: str


class Medium:
    """Blocks of a disk. `log` has everything that reached it, in order; it is kept only if asked for.

    note: told of each write (lba, data, who) before it is answered.
    """

    def __init__(self, blocks: int, *, logged: bool = True, cached: bool = False) -> None:
        self.blocks = blocks
        self.logged = logged
        self.cached = cached
        self.log: list[Written | Synchronized] = []
        self.note: Callable[[int, bytes, str], None] = lambda lba, data, who: None
        self._image = bytearray(blocks * BLOCK_BYTES)

    def grow(self, blocks: int) -> None:
        """The disk has become larger."""
        self._image += bytes((blocks - self.blocks) * BLOCK_BYTES)
        self.blocks = blocks

    def read(self, lba: int, blocks: int) -> bytes:
        """What is there now."""
        return bytes(self._image[lba * BLOCK_BYTES : (lba + blocks) * BLOCK_BYTES])

    def write(self, lba: int, data: bytes, who: str, fua: bool = False) -> None:
        """Put `data` there. With a cache (`cached`) it is safe only with `fua` or after `synchronize`."""
        self._put(self._image, lba, data)
        self.note(lba, data, who)
        if self.logged:
            self.log.append(Written(lba, data, who, fua or not self.cached))

    def synchronize(self, who: str) -> None:
        """All that was written is safe."""
        if self.logged:
            self.log.append(Synchronized(who))

    def prefix(self, count: int, lost: random.Random | None = None) -> bytes:
        """The image after the first `count` entries of the log, as if power had failed then.

        lost: which writes that were not safe yet are missing is drawn from it; None: none of them.
        """
        image = bytearray(len(self._image))
        entries = self.log[:count]
        safe = max(
            (at for at, one in enumerate(entries) if isinstance(one, Synchronized)), default=-1
        )
        for at, one in enumerate(entries):
            if isinstance(one, Written):
                kept = at < safe or one.safe or lost is None or lost.random() < 0.5
                if kept:
                    self._put(image, one.lba, one.data)
        return bytes(image)

    def fail_power(self, count: int, lost: random.Random | None = None) -> None:
        """Go on with the image of `prefix`, and a log that ends there."""
        self._image = bytearray(self.prefix(count, lost))
        self.log = [Written(0, bytes(self._image), "power", True)]

    @staticmethod
    def _put(image: bytearray, lba: int, data: bytes) -> None:
        image[lba * BLOCK_BYTES : lba * BLOCK_BYTES + len(data)] = data
