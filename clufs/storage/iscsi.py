"""LUNs behind iscsi:// URLs: a session of libiscsi for one LUN through one portal, without blocking.

The library never reconnects by itself: what was under way when a connection broke is reported as
PathLost, and whoever asked decides. A command that is not answered in time, or whose caller is
cancelled, takes its session with it: the array then ends the command (SAM-5, 6.5), and no late
answer can be taken for another's.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from clufs.errors import LunError, LunTimedOut, NotSupported, PathLost
from clufs.storage import libiscsi
from clufs.storage.carrier import Management
from clufs.storage.commands import Command
from clufs.storage.libiscsi import ffi, library, text
from clufs.storage.outcome import check
from clufs.timeouts import LUN_COMMAND_S, LUN_CONNECT_S, LUN_LOGOUT_S

ISCSI_PORT = "3260"
_PORTAL = re.compile(r"(?:\[(.+)\]|([^:]+))(?::([0-9]+))?")
_SENSE_LENGTH_BYTES = 2


@dataclass(eq=False)
class _Call:
    """Something asked of the library, until its callback came."""

    done: trio.Event = field(default_factory=trio.Event)
    status: int = libiscsi.CANCELLED
    data: bytes = b""
    handle: Any = None
    ours: bool = False
    """It was ended here, and the library does not know."""

    def __post_init__(self) -> None:
        self.handle = ffi.new_handle(self)

    def finish(self, status: int, data: bytes = b"") -> None:
        """The first word counts: the library may say more when a session ends."""
        if not self.done.is_set():
            self.status, self.data = status, data
            self.done.set()


def _on_step(context: Any, status: int, said: Any, private: Any) -> None:
    """A connection, login or logout came to an end."""
    ffi.from_handle(private).finish(status)


def _on_answer(context: Any, status: int, said: Any, private: Any) -> None:
    """A command was answered; its data, or its sense data, is the library's only until we return."""
    data = b""
    if said:
        task = ffi.cast("struct scsi_task *", said)
        if task.datain:
            data = bytes(ffi.buffer(task.datain, task.datain_size))
    ffi.from_handle(private).finish(status, data)


def _on_managed(context: Any, status: int, said: Any, private: Any) -> None:
    """Task management was answered."""
    answer = int(ffi.cast("uint32_t *", said)[0]) if said and status == libiscsi.GOOD else -1
    ffi.from_handle(private).finish(answer)


_MANAGED = ffi.callback("iscsi_command_cb", _on_managed)
_STEP = ffi.callback("iscsi_command_cb", _on_step)
_ANSWER = ffi.callback("iscsi_command_cb", _on_answer)


class IscsiLun:
    """A logged-in session for one LUN. Made by `iscsi_lun`."""

    def __init__(self, url: str, initiator: str, isid: int) -> None:
        self._lib = library()
        self._url = url
        self._context = self._lib.iscsi_create_context(initiator.encode())
        self._calls: set[_Call] = set()
        self._managed: set[_Call] = set()
        self._kept: list[_Call] = []
        self._tasks: list[Any] = []
        self._lun = 0
        self._lost = ""
        self.ended = trio.Event()
        """Set when the session is no more, whoever ended it."""
        self._output = trio.Event()
        # Whoever is cancelled still says goodbye, and its answer has to be read.
        self._scope = trio.CancelScope(shield=True)
        self._socket: socket.socket | None = None
        self._lib.iscsi_set_isid_random(self._context, isid >> 16 & 0xFFFFFF, isid & 0xFFFF)
        self._lib.iscsi_set_noautoreconnect(self._context, 1)
        self._lib.iscsi_set_session_type(self._context, libiscsi.NORMAL_SESSION)

    @property
    def path(self) -> str:
        """The URL, without a password."""
        scheme, _, rest = self._url.partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}"

    # --------------------------------------------------------------- commands

    async def run(
        self,
        command: Command,
        data: bytes = b"",
        *,
        block_bytes: int = 512,
        timeout_s: float = LUN_COMMAND_S,
    ) -> bytes:
        """Send a command with its data, and return what came back; see Carrier."""
        if self._lost:
            raise PathLost(f"{self.path}: {self._lost}")
        call = _Call()
        buffer = ffi.from_buffer("unsigned char[]", data)
        task = self._task(command, len(data), block_bytes)
        self._calls.add(call)
        try:
            out = ffi.new("struct iscsi_data *", {"size": len(data), "data": buffer})
            sent = self._lib.iscsi_scsi_command_async(
                self._context, self._lun, task, _ANSWER, out if data else ffi.NULL, call.handle
            )
            if sent != 0:
                self._lose(text(self._lib.iscsi_get_error(self._context)))
                raise PathLost(f"{self.path}: {self._lost}")
            self._push()
            await self._wait(call, command.NAME, timeout_s)
        finally:
            self._calls.discard(call)
            # The library may hold the task and the data until the session has ended.
            if call.done.is_set() and not self._lost and not call.ours:
                self._lib.scsi_free_scsi_task(task)
            else:
                self._tasks.append((task, buffer, data, call))
        return self._result(command, call)

    async def manage(self, what: Management) -> None:
        """See Manager. The array answers none of the commands that it ends (SAM-5, 5.8.2), so they are ended here."""
        name = what.name.replace("_", " ")
        if self._lost:
            raise PathLost(f"{self.path}: {self._lost}")
        call, ended = _Call(), list(self._calls)
        self._kept.append(call)
        words = self._lun, int(what), libiscsi.NO_TAG, 0, _MANAGED, call.handle
        if self._lib.iscsi_task_mgmt_async(self._context, *words) != 0:
            self._lose(text(self._lib.iscsi_get_error(self._context)))
            raise PathLost(f"{self.path}: {self._lost}")
        self._managed.add(call)
        try:
            self._push()
            await self._wait(call, name, LUN_COMMAND_S)
        finally:
            self._managed.discard(call)
        if call.status == libiscsi.NO_SUCH_FUNCTION:
            raise NotSupported(f"{self.path}: the array has no {name}")
        if call.status != libiscsi.DONE:
            raise PathLost(f"{self.path}: {name}: {self._lost or f'response {call.status}'}")
        for one in ended:
            if not one.done.is_set():
                one.ours = True
                one.finish(libiscsi.CANCELLED)

    def _task(self, command: Command, bytes_out: int, block_bytes: int) -> Any:
        cdb = command.cdb()
        bytes_in = command.bytes_in(block_bytes)
        direction = libiscsi.WRITE if bytes_out else libiscsi.READ if bytes_in else libiscsi.NOTHING
        block = ffi.from_buffer("unsigned char[]", cdb)
        return self._lib.scsi_create_task(len(cdb), block, direction, bytes_out or bytes_in)

    async def _wait(self, call: _Call, what: str, timeout_s: float) -> None:
        try:
            with trio.move_on_after(timeout_s):
                await call.done.wait()
                return
        except BaseException:
            self._lose(f"{what} was given up")
            raise
        self._lose(f"{what} was not answered within {timeout_s} s")
        raise LunTimedOut(f"{self.path}: {self._lost}")

    def _result(self, command: Command, call: _Call) -> bytes:
        if call.status in (libiscsi.CANCELLED, libiscsi.ERROR, libiscsi.TIMEOUT):
            raise PathLost(f"{self.path}: {command.NAME}: {self._lost or 'the connection broke'}")
        sense = call.data[_SENSE_LENGTH_BYTES:] if call.status == libiscsi.CHECK_CONDITION else b""
        check(f"{self.path}: {command.NAME}", call.status, sense)
        return call.data

    # ------------------------------------------------------------ the session

    async def _open(self) -> None:
        """Connect and log in. Raises PathLost."""
        url = self._lib.iscsi_parse_full_url(self._context, self._url.encode())
        if not url:
            raise LunError(f"{self.path}: {text(self._lib.iscsi_get_error(self._context))}")
        try:
            self._lun = url.lun
            self._lib.iscsi_set_targetname(self._context, url.target)
            if text(url.user):
                self._lib.iscsi_set_initiator_username_pwd(self._context, url.user, url.passwd)
            named = text(url.portal)
        finally:
            self._lib.iscsi_destroy_url(url)
        with trio.move_on_after(LUN_CONNECT_S) as scope:
            portal = (await self._resolved(named)).encode()
            connect = ("connecting", self._lib.iscsi_connect_async, (ffi.new("char[]", portal),))
            await self._step(*connect)
            self._forget_at_close()
            await self._step("login", self._lib.iscsi_login_async, ())
        if scope.cancelled_caught:
            raise PathLost(f"{self.path}: no session within {LUN_CONNECT_S} s")

    async def _resolved(self, portal: str) -> str:
        """The portal by its address: the library would look a name up itself, and all would wait. Raises PathLost."""
        found = _PORTAL.fullmatch(portal)
        host, port = (
            (found[1] or found[2], found[3] or ISCSI_PORT) if found else (portal, ISCSI_PORT)
        )
        try:
            known = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise PathLost(f"{self.path}: {host}: {error.strerror}") from error
        address = str(known[0][4][0])
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

    async def _step(self, what: str, function: Any, arguments: tuple[Any, ...]) -> None:
        """Do one step of making a session, moving bytes here as `_serve` does later."""
        call = _Call()
        self._kept.append(call)
        failed = function(self._context, *arguments, _STEP, call.handle) != 0
        while not failed and not call.done.is_set():
            descriptor = self._lib.iscsi_get_fd(self._context)
            events = self._lib.iscsi_which_events(self._context)
            if descriptor < 0:
                break
            if events & libiscsi.POLL_OUT:
                await trio.lowlevel.wait_writable(descriptor)
                events = libiscsi.POLL_OUT
            else:
                await trio.lowlevel.wait_readable(descriptor)
                events = libiscsi.POLL_IN
                if self._ended():
                    break
            failed = self._lib.iscsi_service(self._context, events) != 0
        if failed or call.status != libiscsi.GOOD:
            why = text(self._lib.iscsi_get_error(self._context)) or "the connection was closed"
            raise PathLost(f"{self.path}: {what} failed: {why}")

    def _forget_at_close(self) -> None:
        """Once the socket is closed, by us or because we were killed, nothing that lies in it is sent any more.

        Else the kernel would go on trying, and a write that was given up would arrive when a cable is whole again.
        """
        linger = struct.pack("ii", 1, 0)
        self._own_socket().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def _own_socket(self) -> socket.socket:
        """The library's socket, by a descriptor of ours."""
        if self._socket is None:
            descriptor = self._lib.iscsi_get_fd(self._context)
            self._socket = socket.socket(fileno=socket.dup(descriptor))
        return self._socket

    def _ended(self) -> bool:
        """Did the other side close? The library would turn in circles over a closed connection."""
        try:
            return not self._own_socket().recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    async def _serve(self) -> None:
        """Move bytes until the session ends, whoever ends it."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                descriptor = self._lib.iscsi_get_fd(self._context)
                while not self._lost:
                    await trio.lowlevel.wait_readable(descriptor)
                    if self._ended():
                        self._lose("the array closed the connection")
                    elif self._lib.iscsi_service(self._context, libiscsi.POLL_IN) != 0:
                        self._lose(text(self._lib.iscsi_get_error(self._context)))
                    else:
                        self._push()
        for call in [*self._calls, *self._managed]:
            call.finish(libiscsi.CANCELLED)

    async def _write(self) -> None:
        """Send what did not fit at once."""
        descriptor = self._lib.iscsi_get_fd(self._context)
        while True:
            await self._output.wait()
            self._output = trio.Event()
            await trio.lowlevel.wait_writable(descriptor)
            self._push()

    def _push(self) -> None:
        """Send what there is to send, as far as it goes."""
        if self._lost or not self._wants_to_write():
            return
        if self._lib.iscsi_service(self._context, libiscsi.POLL_OUT) != 0:
            self._lose(text(self._lib.iscsi_get_error(self._context)))
        elif self._wants_to_write():
            self._output.set()

    def _wants_to_write(self) -> bool:
        return bool(self._lib.iscsi_which_events(self._context) & libiscsi.POLL_OUT)

    def _lose(self, why: str) -> None:
        """The session is no more."""
        if not self._lost:
            self._lost = why or "the connection broke"
            self._scope.cancel()
            self.ended.set()
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    async def _logout(self) -> None:
        """Say goodbye, so that the array need not find out; not for long."""
        if self._lost:
            return
        call = _Call()
        self._kept.append(call)
        with trio.move_on_after(LUN_LOGOUT_S) as scope:
            scope.shield = True
            if self._lib.iscsi_logout_async(self._context, _STEP, call.handle) == 0:
                self._push()
                await call.done.wait()
        self._lose("logged out")

    def _close(self) -> None:
        """Free everything; the library calls back for what was still under way."""
        if self._socket is not None:
            self._socket.close()
        self._lib.iscsi_destroy_context(self._context)
        for task, *_ in self._tasks:
            self._lib.scsi_free_scsi_task(task)


@asynccontextmanager
async def iscsi_lun(url: str, initiator: str, isid: int) -> AsyncIterator[IscsiLun]:
    """A session with the LUN that `url` names, while inside.

    url: iscsi://[user%password@]host[:port]/target/lun. initiator: an iSCSI name. isid: 40 bits that,
    with it, name the initiator port: the same after a reconnection, or the registration is another's.
    Raises PathLost if it cannot be made; when it breaks later, `run` raises PathLost from then on.
    """
    lun = IscsiLun(url, initiator, isid)
    failure: Exception | None = None
    try:
        await lun._open()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lun._serve)
            try:
                yield lun
            except Exception as error:
                failure = error  # a nursery would hand it on in a group
            finally:
                await lun._logout()
                nursery.cancel_scope.cancel()
    finally:
        lun._close()
    if failure is not None:
        raise failure
