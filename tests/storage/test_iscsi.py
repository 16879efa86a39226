"""LUNs over iSCSI, against our array on loopback."""

import math
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from clufs.errors import LunBusy, LunError, LunTimedOut, PathLost, ReservationConflict
from clufs.limits import BUSY_RETRIES_MAX
from clufs.storage import commands as c
from clufs.storage.carrier import Lun
from clufs.storage.commands import ReserveOut
from clufs.storage.inquiry import Capacity, InquiryData, decode_designators, lun_name
from clufs.storage.iscsi import IscsiLun, iscsi_lun
from clufs.storage.outcome import Refusal
from clufs.storage.reservation_data import Keys, OutParameters
from clufs.storage.sense import Sense
from tests.array.array import TARGET, Array, Shape
from tests.array.faults import Fault
from tests.storage.tgtd import tgtd

A, B = "iqn.2026-01.org.clufs:a", "iqn.2026-01.org.clufs:b"
READ_KEYS = c.PersistentReserveIn(c.ReserveIn.READ_KEYS)


@asynccontextmanager
async def served(portals: int = 1, initiator: str = A) -> AsyncIterator[tuple[Array, IscsiLun]]:
    """An array, and a session with its LUN 0."""
    async with (
        Array(Shape(portals=portals)).serving() as array,
        iscsi_lun(array.url(), initiator, 1) as lun,
    ):
        yield array, lun


async def until(reached: Callable[[], bool]) -> None:
    """Wait until something that nobody tells of has happened."""
    while not reached():  # noqa: ASYNC110
        await trio.sleep(0.001)


async def register(lun: IscsiLun | Lun, key: int) -> None:
    """Register anew."""
    command = c.PersistentReserveOut(ReserveOut.REGISTER)
    await lun.run(command, OutParameters(0, key).encode())


async def test_a_lun_says_what_it_is() -> None:
    async with served() as (array, lun):
        await lun.run(c.TestUnitReady())
        assert InquiryData.decode(await lun.run(c.Inquiry())).product == "TEST ARRAY"
        names = decode_designators(await lun.run(c.Inquiry(evpd=True, page=0x83)))
        name = lun_name(names)
        assert name is not None and name.text.startswith("naa.3")
        capacity = Capacity.unpack(await lun.run(c.ReadCapacity16()))
        assert (capacity.blocks, capacity.block_bytes) == (32768, 512)
        assert lun.path == array.url()


@pytest.mark.parametrize("blocks", [1, 8, 128, 129, 2048, 8192])
async def test_what_was_written_is_read(blocks: int) -> None:
    data = b"".join(at.to_bytes(8, "big") for at in range(64 * blocks))
    async with served() as (array, lun):
        await lun.run(c.Write16(7, blocks, fua=True), data)
        assert await lun.run(c.Read16(7, blocks)) == data
        assert array.units[0].medium.read(7, blocks) == data


async def test_many_commands_are_under_way_at_once() -> None:
    async with served() as (array, lun):

        async def write_and_read(at: int) -> None:
            data = at.to_bytes(2, "big") * 256
            await lun.run(c.Write16(at, 1), data)
            assert await lun.run(c.Read16(at, 1)) == data

        array.slow(0, 0.01)
        async with trio.open_nursery() as nursery:
            for at in range(100):
                nursery.start_soon(write_and_read, at)


async def test_a_refusal_comes_with_its_sense_in_words() -> None:
    async with served() as (_, lun):
        with pytest.raises(
            Refusal, match=r"READ\(16\): ILLEGAL REQUEST: block address out of range"
        ) as caught:
            await lun.run(c.Read16(1 << 40, 1))
        assert caught.value.sense.code == (0x21, 0x00)
        with pytest.raises(Refusal, match=r"MISCOMPARE.*information 0x0"):
            await lun.run(c.CompareAndWrite(0, 1), b"\1" * 1024)
        await lun.run(c.CompareAndWrite(0, 1), bytes(512) + b"\1" * 512)
        assert await lun.run(c.Read16(0, 1)) == b"\1" * 512


async def test_reservations_bar_the_others() -> None:
    async with served() as (array, a), iscsi_lun(array.url(), B, 1) as b:
        await register(a, 10)
        await a.run(c.PersistentReserveOut(ReserveOut.RESERVE, type=5), OutParameters(10).encode())
        with pytest.raises(ReservationConflict):
            await b.run(c.Write16(0, 1), bytes(512))
        await b.run(c.Read16(0, 1))


async def test_a_busy_lun_is_told_apart() -> None:
    async with served() as (array, lun):
        array.fail_next(0, Fault.BUSY)
        with pytest.raises(LunBusy):
            await lun.run(c.Read16(0, 1))
        await lun.run(c.Read16(0, 1))


async def test_a_unit_attention_is_told_and_the_command_goes_through() -> None:
    heard: list[Sense] = []
    async with served() as (array, carrier):
        lun = Lun(carrier, heard.append)
        array.reset()
        assert await lun.run(c.Read16(0, 1)) == bytes(512)
        assert [str(one) for one in heard] == [
            "UNIT ATTENTION: power on, reset or bus device reset (6/29/00)"
        ]


async def test_an_array_that_only_has_unit_attentions_is_given_up() -> None:
    async with served() as (array, carrier):
        array.rate(0, Fault.RESET, 1.0)
        with pytest.raises(Refusal, match="UNIT ATTENTION"):
            await Lun(carrier).run(c.Read16(0, 1))


async def test_an_error_inside_comes_out_as_it_was() -> None:
    async with Array().serving() as array:
        with pytest.raises(ZeroDivisionError):
            async with iscsi_lun(array.url(), A, 1):
                raise ZeroDivisionError


async def test_a_lun_that_is_busy_for_a_moment_is_asked_again() -> None:
    async with served() as (array, carrier):
        array.fail_next(0, Fault.BUSY, Fault.RESET, Fault.BUSY)
        await Lun(carrier).run(c.Write16(0, 1), b"x" * 512)
        assert len(array.units[0].medium.log) == 1


async def test_a_lun_that_stays_busy_is_told(autojump_clock: trio.testing.MockClock) -> None:
    class Busy:
        path = "busy"
        asked = 0

        async def run(
            self,
            command: c.Command,
            data: bytes = b"",
            *,
            block_bytes: int = 512,
            timeout_s: float = 10,
        ) -> bytes:
            self.asked += 1
            raise LunBusy("busy")

    busy = Busy()
    with pytest.raises(LunBusy):
        await Lun(busy).run(c.TestUnitReady())
    assert busy.asked == BUSY_RETRIES_MAX + 1


# ------------------------------------------------------------------- broken sessions


@pytest.mark.parametrize("fault", [Fault.SESSION_LOST, Fault.ANSWER_LOST])
async def test_a_lost_session_is_told_and_stays_lost(fault: Fault) -> None:
    async with served() as (array, lun):
        array.fail_next(0, fault)
        with pytest.raises(PathLost):
            await lun.run(c.Write16(0, 1), b"x" * 512)
        with pytest.raises(PathLost):
            await lun.run(c.TestUnitReady())
        done = array.units[0].medium.read(0, 1) == b"x" * 512
        assert done == (fault == Fault.ANSWER_LOST)


async def test_a_session_that_broke_while_idle_is_found_lost() -> None:
    async with served() as (array, lun):
        await lun.run(c.TestUnitReady())
        array.lose_sessions()
        with pytest.raises(PathLost):
            while True:
                await lun.run(c.TestUnitReady())


async def test_a_command_without_an_answer_ends_with_its_session() -> None:
    async with served() as (array, lun):
        array.slow(0, math.inf)
        with pytest.raises(LunTimedOut, match=r"READ\(16\) was not answered within 0.05 s"):
            await lun.run(c.Read16(0, 1), timeout_s=0.05)
        with pytest.raises(PathLost):
            await lun.run(c.TestUnitReady())
    assert not array.units[0].running


async def test_a_command_that_is_given_up_never_takes_effect() -> None:
    async with served() as (array, lun):
        array.slow(0, 0.2)
        with trio.move_on_after(0.02):
            await lun.run(c.Write16(0, 1), b"x" * 512)
        array.slow(0, 0)
        await trio.sleep(0.3)
        assert array.units[0].medium.read(0, 1) == bytes(512)


async def test_what_is_still_on_its_way_when_a_command_is_given_up_never_arrives() -> None:
    """A cable may be whole again long after: the kernel would send what is left of a connection that was closed."""
    async with Array(Shape()).serving() as array:
        front = trio.socket.socket()
        front.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF, 4096
        )  # the rest stays in the sender's kernel
        await front.bind(("127.0.0.1", 0))
        front.listen()
        whole, given_up, over = trio.Event(), trio.Event(), trio.Event()

        async def pass_on() -> None:
            here, _ = await front.accept()
            there = await trio.open_tcp_stream("127.0.0.1", array.tcp_ports[0])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer, trio.SocketStream(here), there)
                try:
                    while True:
                        if whole.is_set():
                            await given_up.wait()
                        data = await here.recv(65536)
                        if not data:
                            break
                        await there.send_all(data)
                except OSError:
                    pass
                with trio.move_on_after(0.2):  # time for the array to do what has come
                    await trio.sleep_forever()
                nursery.cancel_scope.cancel()
            here.close()
            await there.aclose()
            over.set()

        async def answer(here: trio.SocketStream, there: trio.SocketStream) -> None:
            while data := await there.receive_some():
                await here.send_all(data)

        url = array.url().replace(str(array.tcp_ports[0]), str(front.getsockname()[1]))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pass_on)
            async with iscsi_lun(url, A, 1) as lun:
                await lun.run(c.TestUnitReady())
                whole.set()
                with pytest.raises(LunTimedOut):
                    await lun.run(c.Write16(0, 128), bytes(65536), timeout_s=0.2)
            given_up.set()
            with trio.fail_after(10):
                await over.wait()
        front.close()
        assert array.units[0].medium.log == []


async def test_the_same_initiator_port_keeps_its_registration() -> None:
    async with Array().serving() as array:
        async with iscsi_lun(array.url(), A, 7) as carrier:
            await register(carrier, 10)
        async with iscsi_lun(array.url(), A, 7) as carrier:
            lun = Lun(carrier)
            assert Keys.decode(await lun.run(READ_KEYS)).keys == (10,)
            await lun.run(
                c.PersistentReserveOut(ReserveOut.RESERVE, type=5), OutParameters(10).encode()
            )
        async with iscsi_lun(array.url(), A, 8) as carrier:
            with pytest.raises(ReservationConflict):
                await Lun(carrier).run(c.Write16(0, 1), bytes(512))


async def test_where_nothing_listens_there_is_no_path() -> None:
    async with Array().serving() as array:
        url = array.url()
    with pytest.raises(PathLost, match="connecting failed"):
        async with iscsi_lun(url, A, 1):
            raise AssertionError


async def test_a_portal_that_is_down_is_no_path() -> None:
    async with Array().serving() as array:
        array.portal_down(0)
        with pytest.raises(PathLost):
            async with iscsi_lun(array.url(), A, 1):
                raise AssertionError


async def test_another_target_is_no_path() -> None:
    async with Array().serving() as array:
        with pytest.raises(PathLost, match="login failed"):
            async with iscsi_lun(array.url().replace(TARGET, "iqn.x"), A, 1):
                raise AssertionError


class Names(trio.abc.HostnameResolver):
    """Knows one."""

    async def getaddrinfo(self, host: Any, port: Any, *_: Any) -> Any:
        if host != b"array":  # as it goes over the wire
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", int(port)))]

    async def getnameinfo(self, *_: Any) -> Any:
        raise NotImplementedError


async def test_a_portal_may_have_a_name() -> None:
    async with Array().serving() as array:
        trio.socket.set_custom_hostname_resolver(Names())
        async with iscsi_lun(array.url().replace("127.0.0.1", "array"), A, 1) as lun:
            await lun.run(c.TestUnitReady())
        with pytest.raises(PathLost, match="nobody: Name or service not known"):
            async with iscsi_lun(array.url().replace("127.0.0.1", "nobody"), A, 1):
                raise AssertionError


@pytest.mark.parametrize(
    ("portal", "address"),
    [
        ("127.0.0.1:860", "127.0.0.1:860"),
        ("127.0.0.1", "127.0.0.1:3260"),
        ("[::1]:860", "[::1]:860"),
        ("[::1]", "[::1]:3260"),
    ],
)
async def test_an_address_stays_what_it_is(portal: str, address: str) -> None:
    lun = IscsiLun(f"iscsi://{portal}/x/0", A, 1)
    assert await lun._resolved(portal) == address
    lun._close()


@pytest.mark.parametrize("url", ["iscsi://", "http://127.0.0.1/x/0", "iscsi://127.0.0.1/x"])
async def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(LunError):
        async with iscsi_lun(url, A, 1):
            raise AssertionError


async def test_a_password_is_not_shown() -> None:
    lun = IscsiLun("iscsi://me%secret@127.0.0.1/x/0", A, 1)
    assert lun.path == "iscsi://127.0.0.1/x/0"
    lun._close()


# ---------------------------------------------- what is late, and what aborts it


@pytest.mark.parametrize(
    ("action", "lands"), [(ReserveOut.PREEMPT, True), (ReserveOut.PREEMPT_AND_ABORT, False)]
)
async def test_only_with_abort_a_write_under_way_does_not_reach_the_medium(
    action: ReserveOut, lands: bool
) -> None:
    async with served(2) as (array, a), iscsi_lun(array.url(), B, 1) as b:
        await register(a, 10)
        await register(b, 11)
        await a.run(c.PersistentReserveOut(ReserveOut.RESERVE, type=5), OutParameters(10).encode())
        array.fail_next(0, Fault.LATE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b.run, c.Write16(0, 1), b"x" * 512)
            await until(lambda: bool(array.units[0].running))
            await a.run(c.PersistentReserveOut(action, type=5), OutParameters(10, 11).encode())
            await until(lambda: not array.units[0].running)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert (array.units[0].medium.read(0, 1) == b"x" * 512) == lands


async def test_power_takes_sessions_and_what_was_under_way() -> None:
    async with served() as (array, carrier):
        await register(carrier, 10)
        await carrier.run(c.Write16(0, 1), b"x" * 512)
        array.fail_next(0, Fault.LATE)
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                with pytest.raises(PathLost):
                    await carrier.run(c.Write16(0, 1), b"y" * 512)

            nursery.start_soon(write)
            await until(lambda: bool(array.units[0].running))
            array.fail_power()
        async with iscsi_lun(array.url(), A, 1) as again:
            lun = Lun(again)
            assert await lun.run(c.Read16(0, 1)) == b"x" * 512
            assert Keys.decode(await lun.run(READ_KEYS)).keys == ()


async def test_tgtd_takes_and_gives_data_too(tmp_path: Path) -> None:
    data = b"".join(at.to_bytes(8, "big") for at in range(1 << 17))
    async with tgtd(tmp_path) as url, iscsi_lun(url, A, 1) as carrier:
        lun = Lun(carrier)
        assert Capacity.unpack(await lun.run(c.ReadCapacity16())).blocks == 32768
        await lun.run(c.Write16(5, 2048), data)
        await lun.run(c.SynchronizeCache16())
        assert await lun.run(c.Read16(5, 2048)) == data
        with pytest.raises(Refusal, match="out of range"):
            await lun.run(c.Read16(32768, 1))
