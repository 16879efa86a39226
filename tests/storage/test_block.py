"""Blocks of LUNs and files: what was written is read, from the medium, and nothing else is touched."""

import os
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from clufs.errors import LunError, LunTimedOut, NotSupported, PathLost, WriteProtected
from clufs.limits import LUN_TRANSFER_MAX_BYTES
from clufs.storage.block import BlockDevice, FileBlock, ScsiBlock
from clufs.storage.carrier import Lun
from clufs.storage.inquiry import ASCII, UTF8, Association, Designator, DesignatorType
from clufs.storage.outcome import Refusal
from clufs.storage.paths import (
    by_wwid,
    file_wwid,
    initiator_name,
    isid_of,
    open_path,
    shown,
    wwid_of,
)
from clufs.storage.sense import Sense, SenseKey
from tests.array.array import Array, Shape
from tests.array.defects import Defect
from tests.storage.tgtd import tgtd

A = initiator_name("Provolone")
CARRIERS = ["array", "without FUA", "tgtd", "file", "file in memory"]


class Unlucky(random.Random):
    """Of what was not safe nothing is kept."""

    def random(self) -> float:
        return 1.0


@asynccontextmanager
async def device_of(carrier: str, tmp_path: Path) -> AsyncIterator[BlockDevice]:
    """16 MiB of blocks of each kind."""
    async with AsyncExitStack() as stack:
        if carrier == "tgtd":
            url = await stack.enter_async_context(tgtd(tmp_path))
        elif carrier.startswith("file"):
            directory = Path("/dev/shm") if carrier == "file in memory" else tmp_path
            file = directory / f"clufs-test-{os.getpid()}"
            file.write_bytes(bytes(1 << 24))
            stack.callback(file.unlink)
            url = str(file)
        else:
            defects = frozenset([Defect.NO_FUA] if carrier == "without FUA" else [])
            array = Array(Shape(cached=True, defects=defects))
            await stack.enter_async_context(array.serving())
            url = array.url()
        yield (await stack.enter_async_context(open_path(url, A))).device


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_what_was_written_is_read(carrier: str, tmp_path: Path) -> None:
    data = os.urandom(3 * LUN_TRANSFER_MAX_BYTES + 512)
    count = len(data) // 512
    async with device_of(carrier, tmp_path) as device:
        assert (device.block_bytes, device.blocks) == (512, 32768)
        await device.write(7, data)
        assert await device.read(7, count) == data
        assert await device.read(6, 1) + await device.read(7 + count, 1) == bytes(1024)
        assert await device.read(0, 0) == b""
        for lba in (32767, 1 << 40):
            with pytest.raises(LunError):
                await device.read(lba, 2)
            with pytest.raises(LunError):
                await device.write(lba, bytes(1024))
        with pytest.raises(LunError, match="no whole blocks"):
            await device.write(0, b"x")
        assert device.blocks == 32768


@pytest.mark.parametrize("defects", [frozenset[Defect](), frozenset([Defect.NO_FUA])])
async def test_a_write_that_has_returned_survives_loss_of_power(defects: frozenset[Defect]) -> None:
    async with Array(Shape(cached=True, defects=defects)).serving() as array:
        async with open_path(array.url(), A) as path:
            await path.device.write(3, b"x" * 1024)
            assert await path.device.compare_and_write(9, bytes(512), b"y" * 512)
        medium = array.units[0].medium
        medium.fail_power(len(medium.log), Unlucky())
        async with open_path(array.url(), A) as path:
            assert await path.device.read(3, 2) == b"x" * 1024
            assert await path.device.read(9, 1) == b"y" * 512


async def test_compare_and_write_is_one_step(tmp_path: Path) -> None:
    async with device_of("array", tmp_path) as device:
        assert await device.compare_and_write(5, bytes(512), b"a" * 512)
        assert not await device.compare_and_write(5, bytes(512), b"b" * 512)
        assert await device.read(5, 1) == b"a" * 512
        with pytest.raises(LunError, match="one block of each"):
            await device.compare_and_write(5, bytes(1024), bytes(1024))


@pytest.mark.parametrize("carrier", ["tgtd", "file"])
async def test_who_has_no_compare_and_write_says_so(carrier: str, tmp_path: Path) -> None:
    async with device_of(carrier, tmp_path) as device:
        with pytest.raises(NotSupported, match="no COMPARE AND WRITE"):
            await device.compare_and_write(5, bytes(512), b"b" * 512)
        assert await device.read(5, 1) == bytes(512)


# ------------------------------------------------------------------------ plain files


async def test_a_file_that_is_closed_does_nothing(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    file.write_bytes(bytes(1000))
    device = FileBlock(str(file))
    assert device.blocks == 1
    await device.close()
    await device.close()
    with pytest.raises(PathLost, match="is closed"):
        await device.read(0, 1)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(PathLost, match="absent: No such file"):
        FileBlock(str(tmp_path / "absent"))
    with pytest.raises(PathLost, match="Is a directory"):
        FileBlock(str(tmp_path))
    with pytest.raises(LunError, match="neither a plain file nor a block device"):
        FileBlock("/dev/null")


async def test_a_file_that_became_shorter_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    file.write_bytes(bytes(4096))
    async with open_path(str(file), A) as path:
        file.write_bytes(bytes(512))
        with pytest.raises(LunError, match="reading: 0 of 512 bytes came"):
            await path.device.read(4, 1)


async def test_a_file_that_does_not_answer_is_given_up(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    file = tmp_path / "disk"
    file.write_bytes(bytes(4096))
    async with open_path(str(file), A) as path:
        hung, over = os.pipe()

        def hang(*_: object) -> int:
            return len(os.read(hung, 1))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("os.preadv", hang)
            with pytest.raises(LunTimedOut, match="no answer within"):
                await path.device.read(0, 1)
        os.write(over, b"x")


# --------------------------------------------------------------- which LUN is behind it


async def test_two_paths_to_one_lun_are_one() -> None:
    async with Array(Shape([32768, 2048], portals=2)).serving() as array, AsyncExitStack() as stack:
        urls = [array.url(lun, portal) for lun in (0, 1) for portal in (0, 1)]
        paths = [await stack.enter_async_context(open_path(url, A)) for url in urls]
        found = by_wwid(paths)
        assert [[path.url for path in each] for each in found.values()] == [urls[:2], urls[2:]]
        assert [each[0].identity.blocks for each in found.values()] == [32768, 2048]
        assert all(name.startswith("naa.3") for name in found)
        assert all(path.identity.alua for path in paths)
        assert len(array.nexuses) == 4


async def test_several_processes_of_one_member_do_not_end_each_others_sessions() -> None:
    async with (
        Array().serving() as array,
        open_path(array.url(), A, "clufsd") as ours,
        open_path(array.url(), A, "lease") as other,
    ):
        await ours.device.write(0, b"x" * 512)
        assert await other.device.read(0, 1) == b"x" * 512


async def test_paths_that_do_not_agree_are_refused(tmp_path: Path) -> None:
    async with Array().serving() as array, open_path(array.url(), A) as first:
        array.units[0].medium.blocks -= 1
        async with open_path(array.url(), A, "other") as second:
            with pytest.raises(LunError, match=r"says that naa\.3.* is another than"):
                by_wwid([first, second])


async def test_a_lun_that_is_not_there_is_no_path() -> None:
    async with Array().serving() as array:
        with pytest.raises(LunError):
            async with open_path(array.url()[:-1] + "7", A):
                raise AssertionError


@pytest.mark.parametrize(
    ("kind", "code_set", "value", "wwid"),
    [
        (DesignatorType.NAA, 1, bytes.fromhex("6001405a"), "naa.6001405a"),
        (DesignatorType.EUI64, 1, bytes(8), "eui.0000000000000000"),
        (DesignatorType.T10_VENDOR, ASCII, b"IET  /../ 1\n", "t10.IET___..__1_"),
        (DesignatorType.SCSI_NAME, UTF8, b"iqn.x,L,0x1", "scsi.iqn.x_L_0x1"),
    ],
)
def test_a_wwid_is_the_name_of_a_directory(
    kind: DesignatorType, code_set: int, value: bytes, wwid: str
) -> None:
    assert wwid_of(Designator(Association.LOGICAL_UNIT, kind, code_set, value)) == wwid


def test_a_file_is_named_by_where_it_lies(tmp_path: Path) -> None:
    file = tmp_path / "a disk"
    file.touch()
    (tmp_path / "link").symlink_to(file)
    assert file_wwid(str(tmp_path / "link")) == file_wwid(str(file))
    assert file_wwid("/srv/disk") == "file.srv:disk"
    long = "/srv/" + "x" * 250
    assert len(file_wwid(long)) == 200 and file_wwid(long) != file_wwid(long + "y")


def test_a_port_is_the_same_after_each_reconnection_and_says_no_password() -> None:
    url = "iscsi://me%secret@127.0.0.1/iqn.x/0"
    assert shown(url) == "iscsi://127.0.0.1/iqn.x/0"
    assert isid_of(url, "clufsd") == isid_of(shown(url), "clufsd") < 1 << 40
    assert isid_of(url, "clufsd") != isid_of(url, "lease")


async def test_a_lun_that_takes_no_writes_says_so() -> None:
    class Protected:
        path = "snapshot"

        async def run(self, *_: object, **__: object) -> bytes:
            raise Refusal("WRITE(16)", Sense(SenseKey.DATA_PROTECT, 0x27, 0x00))

    with pytest.raises(WriteProtected, match="WRITE"):
        await ScsiBlock(Lun(Protected()), 512, 8).write(0, bytes(512))
