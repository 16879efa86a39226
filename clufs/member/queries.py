"""Questions between members about resource blocks, and their answers.

The master of a block knows all about it. Who it is, a member knows from its own copy, from an
earlier answer, or from the directory member; a question creates nothing and changes nothing. Each
question is bounded in time, all of them in number, and one to a member that leaves the view fails.

A question or an answer is a MessagePack array that starts with its kind. A later version may add
fields at the end: an earlier one does not look at them. Answers come in parts where they are long.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from typing import Protocol

import msgspec
import trio

from clufs.dlm.directory import root_of
from clufs.dlm.modes import Mode
from clufs.dlm.node import Node
from clufs.dlm.ranges import Ranges
from clufs.dlm.rsb import UNIT, ResourceBlock
from clufs.errors import GarbageReceived, HostDown
from clufs.limits import ANSWER_PART_BYTES, MASTERS_REMEMBERED, QUERIES_MAX
from clufs.member.facts import BlockFacts, Obstacle, facts_of, first_obstacle, holds
from clufs.timeouts import QUERY_AGAIN_S, QUERY_LATE_S, QUERY_S


class What(IntEnum):
    """What is asked. MASTER of the directory member, NAMES of everybody, the rest of the master."""

    MASTER = 0
    FACTS = 1
    REPORT = 2
    NAMES = 3
    HOLDS = 4
    IN_THE_WAY = 5


class Outcome(IntEnum):
    """How a question ended."""

    FOUND = 0
    NOTHING = 1  # no such block, no master, not held
    NOT_MASTER = 2  # ask the directory member
    NOT_NOW = 3  # recovering, on its way to another master, or without quorum
    ONLY_LOST = 4  # nobody in the view knows the name; a lost member that is not fenced yet may


class Question(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """name: a resource block's or, for NAMES, a directory's. mode, number: of a sequencer.

    mode, ranges: those that somebody would ask for.
    """

    serial: int
    what: int
    name: bytes
    mode: str = ""
    number: int = 0
    ranges: Ranges | None = None


class Answer(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """The answer to the question `serial`; more: another part follows."""

    serial: int
    outcome: int
    more: bool = False
    master: str = ""
    facts: BlockFacts | None = None
    text: bytes = b""
    names: list[bytes] = []
    obstacle: Obstacle | None = None


_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Question | Answer] = msgspec.msgpack.Decoder(Question | Answer)


class Witness(Protocol):
    """What this member tells others beside the facts of a block."""

    def report(self, block: ResourceBlock) -> bytes:
        """The report of a block that is mastered here."""

    def names(self, directory: bytes) -> Iterable[bytes]:
        """The names that locks here, copies among them, give this directory."""

    def wall_s(self, monotonic_s: float) -> float:
        """A time of the lock manager as wall clock."""


class _Open:
    """A question that awaits its answer."""

    __slots__ = ("answer", "ended", "member", "names", "text")

    def __init__(self, member: str) -> None:
        self.member = member
        self.ended = trio.Event()
        self.answer: Answer | None = None
        self.text: list[bytes] = []
        self.names: list[bytes] = []


class Queries:
    """This member's questions to the others, and its answers to theirs.

    send: hands bytes to the stream to a member, in order. members: those of the present view,
    this one included. witness: to be set before the first question comes.
    """

    witness: Witness

    def __init__(
        self,
        node: Node,
        send: Callable[[str, bytes], None],
        members: Callable[[], Sequence[str]],
    ) -> None:
        self.node = node
        self._send = send
        self._members = members
        self._serial = 0
        self._open: dict[int, _Open] = {}
        self._late: dict[str, None] = {}
        self._masters: OrderedDict[bytes, str] = OrderedDict()

    # ------------------------------------------------------------ what is known

    @property
    def shared(self) -> bool:
        """Whether there are other members at all."""
        return self.node.shared

    @property
    def quorum(self) -> int:
        """1 while this member has quorum, else 0."""
        return 0 if self.node.suspended else 1

    def knows(self, name: bytes) -> bool:
        """Whether value and existence of this block are known here: it is mastered here, or a lock
        here keeps everybody else from writing it."""
        node = self.node
        if name in node.blocks:
            return True
        copy = node.copies.get(name)
        if copy is not None:
            return copy.counts >= UNIT[Mode.CW]
        return not node.shared or node.master_hint(name) == node.member

    # ---------------------------------------------------------------- questions

    async def facts(self, name: bytes) -> BlockFacts | None:
        """The block as its master sees it. None if no lock on it exists.

        Without quorum or while recovery goes on, as a lock here has heard of it last, with quorum 0.
        Raises HostDown where nothing has been heard, or the master just does not answer.
        """
        try:
            answer = await self._of_master(Question(0, What.FACTS, name))
        except HostDown:
            block = self.node.find(name)
            if block is None or not (self.node.suspended or self.node.waits_for()):
                raise
            master = self.node.master_hint(name) or ""
            return facts_of(block, master, 0, self.witness.wall_s)
        return answer.facts

    async def report(self, name: bytes) -> bytes | None:
        """The report of the block, by its master; None if no lock on it exists. Raises HostDown."""
        answer = await self._of_master(Question(0, What.REPORT, name))
        return answer.text if answer.outcome == Outcome.FOUND else None

    async def holds(self, name: bytes, mode: str, number: int) -> bool:
        """Whether the lock with this sequencer is still held in this mode, as the master says, which
        must have quorum. Raises HostDown."""
        if self.node.suspended:
            raise HostDown("this member has no quorum")
        answer = await self._of_master(Question(0, What.HOLDS, name, mode, number))
        return answer.outcome == Outcome.FOUND

    async def in_the_way(self, name: bytes, mode: Mode, ranges: Ranges) -> Obstacle | None:
        """What keeps somebody from these ranges in this mode, None if nothing does, as the master says,
        which must have quorum. Raises HostDown."""
        question = Question(0, What.IN_THE_WAY, name, mode.name, ranges=ranges)
        answer = await self._of_master(question)
        return answer.obstacle

    async def names(self, directory: bytes) -> set[bytes]:
        """The names that locks of the other members give this directory. Raises HostDown unless all
        of them answer."""
        self._must_have_quorum()
        found: set[bytes] = set()
        failed: list[HostDown] = []
        question = Question(0, What.NAMES, directory)
        deadline = trio.current_time() + QUERY_S

        async def ask(member: str) -> None:
            try:
                answer = await self._ask(member, question, deadline)
                if answer.outcome != Outcome.FOUND:
                    raise HostDown(f"{member} has left, or has no quorum")
                found.update(answer.names)
            except HostDown as error:
                failed.append(error)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for member in self._members():
                if member != self.node.member:
                    nursery.start_soon(ask, member)
        if failed:
            raise failed[0]
        return found

    def _must_have_quorum(self) -> None:
        if self.node.suspended:
            raise HostDown("this member has no quorum, and nothing of this is known here")

    async def _of_master(self, question: Question) -> Answer:
        """The answer of the block's master, wherever it is; a recovery on the way is waited for
        within the time of one question."""
        deadline = trio.current_time() + QUERY_S
        while True:
            self._must_have_quorum()
            answer = await self._try_master(question, deadline)
            if answer.outcome == Outcome.ONLY_LOST:
                raise HostDown("who may hold this is lost and not fenced yet")
            if answer.outcome not in (Outcome.NOT_MASTER, Outcome.NOT_NOW):
                return answer
            self._masters.pop(question.name, None)
            if trio.current_time() + QUERY_AGAIN_S > deadline:
                raise HostDown("the master of the lock is being replaced")
            await trio.sleep(QUERY_AGAIN_S)

    async def _try_master(self, question: Question, deadline: float) -> Answer:
        """One attempt. A remembered master that is none any more is asked about at the directory;
        a master that the directory names and that knows nothing has just let the name go, unless the
        directory has heard meanwhile that the name has moved on."""
        name = question.name
        remembered = self.node.master_hint(name) or self._masters.get(name)
        if remembered is not None:
            answer = await self._ask(remembered, question, deadline)
            if answer.outcome != Outcome.NOT_MASTER:
                return answer
            self._masters.pop(name, None)
        directory = self.node.directory_member(name)
        found = await self._ask(directory, Question(0, What.MASTER, name), deadline)
        if found.outcome != Outcome.FOUND:
            return found
        self._masters[name] = found.master
        if len(self._masters) > MASTERS_REMEMBERED:
            self._masters.popitem(last=False)
        answer = await self._ask(found.master, question, deadline)
        if answer.outcome != Outcome.NOT_MASTER:
            return answer
        again = await self._ask(directory, Question(0, What.MASTER, name), deadline)
        if again.outcome != Outcome.FOUND:
            return again
        same = again.master == found.master
        return Answer(0, Outcome.NOTHING if same else Outcome.NOT_MASTER)

    async def _ask(self, member: str, question: Question, deadline: float) -> Answer:
        """Ask one member, perhaps oneself. Raises HostDown if it does not answer; one that is not in
        the view, or leaves it, answers NOT_NOW."""
        if member == self.node.member:
            return self._answer(question)
        if member not in self._members():
            return Answer(0, Outcome.NOT_NOW)
        if len(self._open) >= QUERIES_MAX:
            raise HostDown("too many questions to other members are open")
        self._serial = serial = self._serial + 1
        waiting = self._open[serial] = _Open(member)
        try:
            self._send(member, _encode(msgspec.structs.replace(question, serial=serial)))
            if member in self._late:
                deadline = min(deadline, trio.current_time() + QUERY_LATE_S)
            with trio.move_on_at(deadline):
                await waiting.ended.wait()
        finally:
            del self._open[serial]
        if not waiting.ended.is_set():
            self._late[member] = None
            raise HostDown(f"{member} does not answer")
        if waiting.answer is None:
            return Answer(0, Outcome.NOT_NOW)
        return msgspec.structs.replace(
            waiting.answer, text=b"".join(waiting.text), names=waiting.names
        )

    # ------------------------------------------------------------------ answers

    def received(self, member: str, data: bytes) -> None:
        """A question or an answer came from `member`. Raises GarbageReceived."""
        try:
            message = _decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise GarbageReceived(f"neither question nor answer: {error}") from error
        if isinstance(message, Question):
            for part in _parts(self._answer(message)):
                self._send(member, _encode(part))
            return
        self._late.pop(member, None)
        waiting = self._open.get(message.serial)
        if waiting is None or waiting.member != member:
            return
        waiting.text.append(message.text)
        waiting.names += message.names
        if not message.more:
            waiting.answer = message
            waiting.ended.set()

    def view_changed(self) -> None:
        """Another view is installed: who is not in it does not answer any more."""
        members = self._members()
        self._masters.clear()
        for waiting in self._open.values():
            if waiting.member not in members:
                waiting.ended.set()
        for member in [member for member in self._late if member not in members]:
            del self._late[member]

    def _answer(self, question: Question) -> Answer:
        node, name = self.node, question.name
        serial, what = question.serial, question.what
        if node.suspended:
            return Answer(serial, Outcome.NOT_NOW)
        if what == What.NAMES:
            names = sorted(self.witness.names(name))
            return Answer(serial, Outcome.FOUND, names=names)
        if what == What.MASTER:
            return self._answer_master(question)
        block = node.blocks.get(name)
        if block is None:
            if node.is_being_made(root_of(name)):
                return Answer(serial, Outcome.NOT_NOW)
            here = node.master_hint(name) == node.member
            return Answer(serial, Outcome.NOTHING if here else Outcome.NOT_MASTER)
        if what == What.FACTS:
            facts = facts_of(block, node.member, self.quorum, self.witness.wall_s)
            return Answer(serial, Outcome.FOUND, facts=facts)
        if what == What.REPORT:
            return Answer(serial, Outcome.FOUND, text=self.witness.report(block))
        if what == What.HOLDS:
            held = holds(block, question.mode, question.number)
            return Answer(serial, Outcome.FOUND if held else Outcome.NOTHING)
        if what == What.IN_THE_WAY and question.mode in Mode.__members__:
            found = first_obstacle(block, Mode[question.mode], question.ranges)
            return Answer(serial, Outcome.FOUND, obstacle=None if found is None else found[0])
        return Answer(serial, Outcome.NOT_NOW)

    def _answer_master(self, question: Question) -> Answer:
        node, name = self.node, question.name
        master = node.master_hint(name)
        if master != node.member:
            master = node.directory.look(name)
        if master is not None:
            return Answer(question.serial, Outcome.FOUND, master=master)
        outcome = Outcome.NOT_NOW
        if node.directory_member(name) == node.member and not node.is_gathering():
            outcome = Outcome.ONLY_LOST if node.lost else Outcome.NOTHING
        return Answer(question.serial, outcome)


def _parts(answer: Answer) -> Iterable[Answer]:
    """The answer in messages that are not too long."""
    text, names = answer.text, answer.names
    while True:
        rest, size = 0, 0
        while rest < len(names) and size < ANSWER_PART_BYTES:
            size += len(names[rest]) + 5
            rest += 1
        part, text = text[:ANSWER_PART_BYTES], text[ANSWER_PART_BYTES:]
        some, names = names[:rest], names[rest:]
        more = bool(text or names)
        yield msgspec.structs.replace(answer, more=more, text=part, names=some)
        if not more:
            return
