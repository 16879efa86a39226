"""What lies on a LUN of clufs' own, for a person: KEY=value."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from clufs.storage.ballots import BallotRecord
from clufs.storage.disk_header import DiskHeader
from clufs.storage.records import LeaseState, LunMessage, MemberRecord, Word
from clufs.storage.slots import Pair, Slot


def header_lines(header: DiskHeader) -> Iterator[str]:
    """Whose it is, and the times it sets."""
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(header.made_ns / 1e9))
    yield f"CLUSTER={header.cluster_name}"
    yield f"UUID={header.uuid}"
    yield f"MEMBERS={header.geometry.slots}"
    yield f"IO_TIMEOUT_S={header.io_timeout_ms / 1000:g}"
    yield f"WATCHDOG_S={header.watchdog_ms / 1000:g}"
    yield f"GENERATION={header.generation}"
    yield f"MADE={made}"


def slot_lines(slots: Iterable[tuple[int, Slot]]) -> Iterator[str]:
    """A line for each slot in which something stands, right or wrong, and one for each message."""
    for member, slot in slots:
        if slot.record.record is not None or slot.record.flaws:
            yield _record_line(member, slot.record)
        if slot.message.record is not None:
            yield _message_line(slot.message.record)


def _record_line(member: int, pair: Pair[MemberRecord]) -> str:
    flaws = f" FLAWS={'; '.join(pair.flaws)}" if pair.flaws else ""
    record = pair.record
    if record is None:
        return f"MEMBER={member}{flaws}"
    hears = ",".join(str(one) for one in sorted(record.hears))
    return (
        f"MEMBER={member} INCARNATION={record.incarnation} SEQUENCE={pair.sequence}"
        f" STATE={state_name(record.state)} VIEW={record.view} QUORATE={record.quorate:d}"
        f" VOTES={record.votes} HEARS={hears} KEY={record.key:#018x}{flaws}"
    )


def _message_line(message: LunMessage) -> str:
    word = Word(message.word).name if message.word in list(Word) else str(message.word)
    return f"MESSAGE={word} TO={message.member} UP_TO={message.incarnation} BY={message.writer}"


def ballot_lines(ballots: Iterable[tuple[int, Pair[BallotRecord]]]) -> Iterator[str]:
    """A line for each member that has said something about the quorum disk, right or wrong."""
    for member, pair in ballots:
        record = pair.record
        flaws = f" FLAWS={'; '.join(pair.flaws)}" if pair.flaws else ""
        if record is not None:
            yield (
                f"BALLOT={record.promised:#x} MEMBER={member} INCARNATION={record.incarnation}"
                f" ACCEPTED={record.accepted:#x} FRAMES={record.safe} BEAT={record.beat}"
                f" FREE={record.free:d} LUNS={len(record.luns)}{flaws}"
            )
        elif flaws:
            yield f"BALLOT= MEMBER={member}{flaws}"


def state_name(state: int) -> str:
    """A member's word on itself; a number where a later version has another one."""
    return LeaseState(state).name if state in list(LeaseState) else str(state)
