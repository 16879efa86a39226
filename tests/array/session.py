"""One iSCSI session, of one connection: login, commands with their data, task management, logout (RFC 7143)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from clufs.errors import GarbledAnswer
from clufs.storage import commands as c
from clufs.storage.sense import Sense, SenseKey, Status
from tests.array import identity, more_commands, negotiation, pdu
from tests.array.defects import Defect
from tests.array.medium import BLOCK_BYTES
from tests.array.nexus import Nexus, illegal
from tests.array.unit import Done, Running, Unit

if TYPE_CHECKING:
    from tests.array.array import Array

WINDOW = 127
"""So many commands may be under way beyond the one expected next."""

TASK_DONE, NO_SUCH_TASK, NO_SUCH_LUN, NOT_SUPPORTED = 0, 1, 2, 5
ABORT_TASK, ABORT_TASK_SET, CLEAR_TASK_SET, LUN_RESET, WARM_RESET, COLD_RESET = 1, 2, 4, 5, 6, 7
REJECT_PROTOCOL_ERROR, REJECT_NOT_SUPPORTED = 0x04, 0x05
INITIATOR_ERROR, NOT_FOUND, MISSING_PARAMETER = 2, 3, 7
A = TypeVar("A", bound=pdu.Answer)


@dataclass
class Collecting:
    """A command whose data is still on its way."""

    command: pdu.ScsiCommand
    cdb: bytes
    data: bytearray
    received: int = 0
    r2ts: int = 0
    data_sn: int = 0

    def take(self, offset: int, data: bytes) -> None:
        """More data came."""
        self.data[offset : offset + len(data)] = data
        self.received += len(data)
        self.data_sn += 1

    @property
    def whole(self) -> bool:
        """Is everything there?"""
        return self.received >= len(self.data)


@dataclass
class Waiting:
    """A command that is under way for `seconds`, and can be aborted meanwhile."""

    unit: Unit
    running: Running
    scope: trio.CancelScope
    seconds: float

    async def over(self) -> bool:
        """Wait for the end. False if it was aborted."""
        try:
            with self.scope:
                await trio.sleep(self.seconds)
            return self.running in self.unit.running
        finally:
            self.unit.running.discard(self.running)


class Session:
    """`run` serves a connection to its end; `lose` breaks it."""

    def __init__(self, array: Array, stream: trio.SocketStream, port: int) -> None:
        self.array = array
        self.port = port
        self.nexus: Nexus | None = None
        self.discovery = False
        self._stream = stream
        self._reader = pdu.Reader(stream)
        self._parameters = negotiation.Parameters()
        self._collecting: dict[int, Collecting] = {}
        self._stat_sn = 0
        self._exp_cmd_sn = 0
        self._sending = trio.Lock()
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        """Serve until the connection ends, whatever ends it."""
        with self._scope:
            try:
                if await self._login():
                    async with trio.open_nursery() as nursery:
                        self._nursery = nursery
                        await self._serve()
                        nursery.cancel_scope.cancel()
            except* (trio.BrokenResourceError, trio.ClosedResourceError, GarbledAnswer):
                pass
        self.array.left(self)
        await trio.aclose_forcefully(self._stream)

    def lose(self) -> None:
        """Break the connection, without a word."""
        self._scope.cancel()

    # ------------------------------------------------------------------ login

    async def _login(self) -> bool:
        text = b""
        while True:
            came = await self._reader.next()
            if came is None or not isinstance(came[1], pdu.Login):
                return False
            request, text = came[1], text + came[2]
            answers: dict[str, str] = {}
            if not request.more:
                answers = negotiation.negotiate(self._parameters, negotiation.parse(text))
                text = b""
            wrong = self._identify(request, answers)
            tsih = request.tsih or 1
            self._exp_cmd_sn = request.cmd_sn
            done = not wrong and request.transit and request.next_stage == 3
            if done and not self.discovery:
                self.array.entered(self)
            await self._send_login(request, answers, wrong, tsih)
            if wrong or done:
                return done

    def _identify(self, request: pdu.Login, answers: dict[str, str]) -> int:
        """Who is it, and does it want our target? Returns the detail of a refusal, or 0."""
        said = self._parameters.said
        if "InitiatorName" not in said:
            return MISSING_PARAMETER
        self.discovery = said.get("SessionType") == "Discovery"
        if not self.discovery:
            if said.get("TargetName") != self.array.target:
                return NOT_FOUND
            if self.nexus is None:
                answers["TargetPortalGroupTag"] = str(self.port)
        self.nexus = Nexus(said["InitiatorName"], request.isid, self.port)
        return 0

    async def _send_login(
        self, request: pdu.Login, answers: dict[str, str], wrong: int, tsih: int
    ) -> None:
        answer = pdu.LoginResponse(
            itt=request.itt,
            transit=request.transit and not wrong,
            stage=request.stage,
            next_stage=request.next_stage if request.transit and not wrong else 0,
            isid=request.isid,
            tsih=tsih if request.next_stage == 3 else request.tsih,
            stat_sn=self._stat_sn,
            exp_cmd_sn=self._exp_cmd_sn,
            max_cmd_sn=self._exp_cmd_sn + WINDOW & pdu.NO_TAG,
            status_class=INITIATOR_ERROR if wrong else 0,
            status_detail=wrong,
        )
        self._stat_sn += 1
        await self._stream.send_all(pdu.encode(answer, negotiation.encode(answers)))

    # -------------------------------------------------------------- what comes

    async def _serve(self) -> None:
        while True:
            came = await self._reader.next()
            if came is None:
                return
            raw, header, data = came
            if isinstance(header, pdu.Request) and not header.immediate:
                if header.cmd_sn != self._exp_cmd_sn:
                    continue  # outside the window, or doubled: silently ignored (RFC 7143, 4.2.2.1)
                self._exp_cmd_sn = self._exp_cmd_sn + 1 & pdu.NO_TAG
            if isinstance(header, pdu.Logout):
                await self._send(pdu.LogoutResponse(itt=header.itt))
                return
            await self._handle(raw, header, data)

    async def _handle(self, raw: bytes, header: pdu.Header | None, data: bytes) -> None:
        match header:
            case pdu.ScsiCommand() if not self.discovery:
                await self._on_command(raw, header, data)
            case pdu.DataOut():
                await self._on_data(header, data)
            case pdu.NopOut():
                if header.itt != pdu.NO_TAG:
                    await self._send(pdu.NopIn(itt=header.itt, lun=header.lun), data)
            case pdu.TaskManagement() if not self.discovery:
                await self._on_task_management(header)
            case pdu.Text():
                await self._on_text(header, data)
            case _:
                reason = REJECT_PROTOCOL_ERROR if header else REJECT_NOT_SUPPORTED
                await self._send(pdu.Reject(reason=reason), raw)

    async def _on_text(self, header: pdu.Text, data: bytes) -> None:
        offered = negotiation.parse(data)
        if "SendTargets" in offered:
            await self._send(pdu.TextResponse(itt=header.itt), self.array.send_targets())
        else:
            answers = negotiation.negotiate(self._parameters, offered)
            await self._send(pdu.TextResponse(itt=header.itt), negotiation.encode(answers))

    async def _on_command(self, raw: bytes, header: pdu.ScsiCommand, data: bytes) -> None:
        cdb = raw[32:48]
        if not header.write or not header.length:
            await self._begin(header, cdb, b"")
            return
        one = Collecting(header, cdb, bytearray(header.length))
        one.take(0, data)
        one.data_sn = 0
        self._collecting[header.itt] = one
        if header.final:
            await self._go_on(one)

    async def _on_data(self, header: pdu.DataOut, data: bytes) -> None:
        one = self._collecting.get(header.itt)
        if one is None:
            return  # its command was aborted
        if header.data_sn != one.data_sn or header.offset != one.received:
            del self._collecting[header.itt]
            done = Done(Status.CHECK_CONDITION, sense=Sense(SenseKey.ABORTED_COMMAND, 0x4B, 0x00))
            await self._answer(one.command, None, done)
            return
        one.take(header.offset, data)
        if header.final:
            await self._go_on(one)

    async def _go_on(self, one: Collecting) -> None:
        """Do the command, or ask for more of its data."""
        if one.whole:
            del self._collecting[one.command.itt]
            await self._begin(one.command, one.cdb, bytes(one.data))
            return
        r2t = pdu.ReadyToTransfer(
            itt=one.command.itt,
            lun=one.command.lun,
            ttt=one.r2ts,
            r2t_sn=one.r2ts,
            offset=one.received,
            desired=min(self._parameters.burst, len(one.data) - one.received),
        )
        one.r2ts += 1
        one.data_sn = 0
        await self._send(r2t, counts=False)

    # ---------------------------------------------------------------- commands

    async def _begin(self, header: pdu.ScsiCommand, cdb: bytes, data: bytes) -> None:
        """Do a command at once, so that the order is that of arrival; in a task of its own if it takes time."""
        command = c.parse(cdb, more_commands.KINDS)
        unit = self.array.units.get(lun_number(header.lun))
        if unit is None:
            await self._answer(header, command, self._without_unit(command))
        elif unit.slow_s:
            waiting = self._waiting(header, unit, unit.slow_s)
            self._nursery.start_soon(self._slowly, header, command, data, waiting)
        else:
            await self._do(header, command, data, unit)

    async def _do(
        self, header: pdu.ScsiCommand, command: c.Command | None, data: bytes, unit: Unit
    ) -> None:
        assert self.nexus is not None
        done = unit.execute(self.nexus, command, data)
        if done.land is None:
            await self._answer(header, command, done)
        else:
            # From this moment on, not from the task's first, it can be aborted.
            waiting = self._waiting(header, unit, done.late_s)
            self._nursery.start_soon(self._late, header, command, done, waiting)

    def _without_unit(self, command: c.Command | None) -> Done:
        if isinstance(command, c.Inquiry) and not command.evpd:
            return Done(data=identity.standard(False))
        if isinstance(command, c.ReportLuns):
            return Done(data=self.array.lun_list())
        return Done(Status.CHECK_CONDITION, sense=illegal(0x25).sense)

    async def _slowly(
        self,
        header: pdu.ScsiCommand,
        command: c.Command | None,
        data: bytes,
        waiting: Waiting,
    ) -> None:
        if await waiting.over():
            await self._do(header, command, data, waiting.unit)

    async def _late(
        self, header: pdu.ScsiCommand, command: c.Command | None, done: Done, waiting: Waiting
    ) -> None:
        if await waiting.over():
            assert done.land is not None
            done.land()
            await self._answer(header, command, done)

    def _waiting(self, header: pdu.ScsiCommand, unit: Unit, seconds: float) -> Waiting:
        assert self.nexus is not None
        scope = trio.CancelScope()
        running = Running(self.nexus, header.itt, scope.cancel)
        unit.running.add(running)
        return Waiting(unit, running, scope, seconds)

    async def _answer(self, header: pdu.ScsiCommand, command: c.Command | None, done: Done) -> None:
        if done.lose_session or done.lose_answer:
            self.lose()
            return
        expected = header.length if header.read else 0
        limit = command.bytes_in(BLOCK_BYTES) if command else 0
        data = done.data[:limit]
        meant = len(data)
        if header.write and command and done.status == Status.GOOD:
            expected, meant = header.length, command.bytes_out(BLOCK_BYTES)
        residual: dict[str, Any] = {
            "overflow": meant > expected,
            "underflow": meant < expected,
            "residual": abs(meant - expected),
        }
        if header.read and data[:expected] and done.status == Status.GOOD:
            await self._send_data(header, data[:expected], residual)
            return
        sense = b""
        if done.sense:
            sense = done.sense.fixed()
            sense = len(sense).to_bytes(2, "big") + sense
        await self._send(pdu.ScsiResponse(itt=header.itt, status=done.status, **residual), sense)

    async def _send_data(
        self, header: pdu.ScsiCommand, data: bytes, residual: dict[str, Any]
    ) -> None:
        """Data-In in pieces; the last one carries status GOOD."""
        step = min(self._parameters.send_max, negotiation.SEGMENT_BYTES)
        for number, offset in enumerate(range(0, len(data), step)):
            piece = data[offset : offset + step]
            last = offset + len(piece) == len(data)
            part = pdu.DataIn(
                itt=header.itt, final=last, has_status=last, data_sn=number, offset=offset
            )
            await self._send(replace(part, **residual) if last else part, piece, counts=last)

    # --------------------------------------------------------- task management

    async def _on_task_management(self, header: pdu.TaskManagement) -> None:
        response = self._manage(header)
        await self._send(pdu.TaskManagementResponse(itt=header.itt, response=response))
        if header.function == COLD_RESET:
            self.array.lose_sessions()

    def _manage(self, header: pdu.TaskManagement) -> int:
        function = header.function
        if function in (WARM_RESET, COLD_RESET):
            self._collecting.clear()
            self.array.reset()
            return TASK_DONE
        unit = self.array.units.get(lun_number(header.lun))
        if unit is None:
            return NO_SUCH_LUN
        if function == ABORT_TASK:
            found = self._collecting.pop(header.referenced, None) is not None
            found |= (
                unit.abort(lambda one: one.nexus == self.nexus and one.tag == header.referenced) > 0
            )
            return TASK_DONE if found else NO_SUCH_TASK
        if function not in (ABORT_TASK_SET, CLEAR_TASK_SET, LUN_RESET):
            return NOT_SUPPORTED
        if function == CLEAR_TASK_SET and Defect.NO_CLEAR_TASK_SET in unit.defects:
            return NOT_SUPPORTED
        self.forget_data(header.lun)
        if function == LUN_RESET:
            self.array.reset_unit(unit)
        else:
            unit.abort(lambda one: function == CLEAR_TASK_SET or one.nexus == self.nexus)
        return TASK_DONE

    def forget_data(self, lun: int) -> None:
        """Commands of a LUN whose data is on its way are aborted."""
        for itt in [itt for itt, one in self._collecting.items() if one.command.lun == lun]:
            del self._collecting[itt]

    # ----------------------------------------------------------------- sending

    async def _send(self, answer: A, data: bytes = b"", counts: bool = True) -> None:
        """Number it and send it. counts: it carries a status, so StatSN goes on."""
        async with self._sending:
            numbered = replace(
                answer,
                stat_sn=self._stat_sn,
                exp_cmd_sn=self._exp_cmd_sn,
                max_cmd_sn=self._exp_cmd_sn + WINDOW & pdu.NO_TAG,
            )
            self._stat_sn = self._stat_sn + counts & pdu.NO_TAG
            await self._stream.send_all(pdu.encode(numbered, data))


def lun_number(field: int) -> int:
    """The number in the eight bytes of a LUN (peripheral or flat addressing)."""
    return field >> 48 & 0x3FFF
