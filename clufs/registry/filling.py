"""Whose log is that of a view, and how a member that lacks something comes to it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from clufs.limits import REGISTRY_PART_BYTES
from clufs.registry.commands import Entry
from clufs.registry.log import Log, Snapshot
from clufs.registry.messages import Fill, Part, Tail


def choice(
    tails: Mapping[int, Tail], members: Sequence[int], is_majority: Callable[[list[int]], bool]
) -> list[int]:
    """Those whose logs may be that of the view, as soon as enough have said their tails; else nobody.

    Of the ones of a registry in which something is known to be committed, if there is one: a disk
    that never was in it says nothing about it, however many views it has seen elsewhere. Where there
    are two, only their own members count. Where there is none, the next tail may be of one, so all
    are awaited, unless a majority is of one already.
    """
    known = list(dict.fromkeys(one.origin for one in tails.values() if one.committed))
    groups = {o: [one for one in tails if tails[one].origin == o] for o in known}
    if len(known) == 1:
        return groups[known[0]] if is_majority(list(tails)) else []
    if not known:
        if all(one in tails for one in members):
            return list(tails) if is_majority(list(tails)) else []
        origins = dict.fromkeys(one.origin for one in tails.values() if one.origin)
        groups = {o: [one for one in tails if tails[one].origin == o] for o in origins}
    return next((group for group in groups.values() if is_majority(group)), [])


class Parts:
    """The parts of a snapshot as they come, in their order, from one leader."""

    def __init__(self) -> None:
        self._at = 0
        self._pieces: list[bytes] = []

    def take(self, part: Part) -> Snapshot | None:
        """Take the next part; return the snapshot with the last one."""
        if part.number == 0:
            self._at, self._pieces = part.at, []
        if part.at != self._at or part.number != len(self._pieces):
            return None
        self._pieces.append(part.data)
        return Snapshot(part.at, b"".join(self._pieces)) if part.number == part.count - 1 else None


def provisions(
    log: Log, ahead: Sequence[Entry], common: Mapping[int, int], snapshot: Callable[[], Snapshot]
) -> Iterator[Fill | Part]:
    """What members need who have the log up to these indices, in the order to be said.

    ahead: entries that follow the log. snapshot: the state as it is, asked for only if somebody needs it.
    """
    behind = tuple(one for one, index in common.items() if index < log.base)
    starts = [index for index in common.values() if index >= log.base]
    if behind:
        state = snapshot()
        starts.append(state.at)
        yield from _parts(behind, state)
    if starts:
        yield from fills([*log.after(min(starts)), *ahead])


def _parts(receivers: tuple[int, ...], snapshot: Snapshot) -> Iterator[Part]:
    size = REGISTRY_PART_BYTES
    pieces = [snapshot.data[at : at + size] for at in range(0, len(snapshot.data), size)]
    for number, piece in enumerate(pieces):
        yield Part(receivers, snapshot.at, number, len(pieces), piece)


def fills(entries: Sequence[Entry]) -> Iterator[Fill]:
    """The entries in messages of a bearable size."""
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        cost = len(msgspec.msgpack.encode(entry))
        if batch and size + cost > REGISTRY_PART_BYTES:
            yield Fill(tuple(batch))
            batch, size = [], 0
        batch.append(entry)
        size += cost
    if batch:
        yield Fill(tuple(batch))
