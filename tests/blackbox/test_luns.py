"""/clu/luns with a shell: which LUNs there are, who is registered, which paths work, and their bytes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from clufs.storage.certificate import MemberKey
from clufs.storage.disk_header import cluster_number
from clufs.storage.own_lun import Wish, format_own
from clufs.storage.paths import LunPath, open_path
from clufs.storage.reservations import register, reserve, unregister
from tests.blackbox.clu import PATIENCE_S, Clu, running, until
from tests.blackbox.people import ALICE, ROOT

STRANGER = "iqn.2026-01.org.example:stranger"
DATA_LUN, OWN_LUN = 0, 1
MIB = 4
SIZE = MIB << 20


class ArrayProcess:
    """`python -m tests.array`: two LUNs behind two portals."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.array",
                "--luns",
                "2",
                "--portals",
                "2",
                "--mib",
                str(MIB),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.portals = [self.process.stdout.readline().split()[2] for _ in (0, 1)]
        assert self.process.stdout.readline() == "ready\n"

    def url(self, lun: int, portal: int) -> str:
        return self.portals[portal].rpartition("/")[0] + f"/{lun}"

    def do(self, line: str) -> None:
        """A command of tests.array.control."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ok\n"

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def array() -> Iterator[ArrayProcess]:
    found = ArrayProcess()
    yield found
    found.close()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("luns")


@pytest.fixture(scope="module")
def clu(array: ArrayProcess, directory: Path) -> Iterator[Clu]:
    """A /clu with a LUN for data, one of clufs' own, and a plain file."""
    outside(array.url(OWN_LUN, 0), form)
    file = directory / "disk"
    file.write_bytes(bytes(1 << 20))
    config = directory / "clufs.toml"
    config.write_text(
        f"""
        [member]
        name = "provolone"
        [[luns]]
        url = "{array.url(DATA_LUN, 0)}"
        paths = ["{array.url(DATA_LUN, 1)}"]
        [[luns]]
        url = "{array.url(OWN_LUN, 0)}"
        role = "clufs"
        [[luns]]
        url = "{file}"
        """
    )
    for one in running(directory, "--config", str(config)):
        until(lambda one=one: len(os.listdir(one.root / "luns")) >= 3, "the LUNs")
        yield one


def by_number(clu: Clu, array: ArrayProcess, lun: int) -> Path:
    """The directory of a LUN of the array."""
    for directory in (clu.root / "luns").iterdir():
        if any(f"/{lun}\n" in one.read_text() for one in (directory / "paths").iterdir()):
            return directory
    raise AssertionError(f"LUN {lun} is not there")


@pytest.fixture
def lun(clu: Clu, array: ArrayProcess) -> Path:
    """The directory of the LUN for data, with both paths up."""
    found = by_number(clu, array, DATA_LUN)
    until(lambda: states(found) == ["up", "up"], "both paths")
    return found


def facts(file: Path) -> dict[str, str]:
    """KEY=value lines."""
    return dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line)


def states(lun: Path) -> list[str]:
    """Of the paths."""
    return [facts(path)["STATE"] for path in sorted((lun / "paths").iterdir())]


def outside(url: str, act: Callable[[LunPath], Awaitable[object]]) -> None:
    """Another machine does something to a LUN."""

    async def go() -> None:
        async with open_path(url, STRANGER) as path:
            await act(path)

    trio.run(go)


async def form(path: LunPath) -> None:
    """Make a LUN clufs' own."""
    await format_own(path.device, Wish("provolone", members=2))


@contextmanager
def registered(url: str, key: int) -> Iterator[None]:
    """Another machine holds the LUN's reservation."""

    async def enter(path: LunPath) -> None:
        assert path.lun is not None
        await register(path.lun, key)
        await reserve(path.lun, key)

    async def leave(path: LunPath) -> None:
        assert path.lun is not None
        await unregister(path.lun)

    outside(url, enter)
    try:
        yield
    finally:
        outside(url, leave)


def errno_of(path: Path, flags: int, act: Callable[[int], object]) -> int:
    """The errno that a system call on an open file ends with, 0 if it ends well."""
    fd = os.open(path, flags)
    try:
        act(fd)
        return 0
    except OSError as error:
        return error.errno or 0
    finally:
        os.close(fd)


def sh(line: str, cwd: Path) -> str:
    """What a line of dash prints; it must end well."""
    status, said = ROOT.runs(line, cwd)
    assert status == 0, said
    return said


# ---------------------------------------------------------------------- looking


def test_each_lun_has_a_directory_by_its_own_name(clu: Clu, lun: Path) -> None:
    names = os.listdir(clu.root / "luns")
    assert sum(name.startswith("naa.") for name in names) == 2
    assert sum(name.endswith(":disk") for name in names) == 1
    assert sorted(os.listdir(lun)) == [
        "access_state",
        "keys",
        "method",
        "paths",
        "reservation",
        "slots",
    ]


def test_each_path_says_where_it_leads_and_whether_it_works(lun: Path, array: ArrayProcess) -> None:
    paths = [facts(path) for path in sorted((lun / "paths").iterdir())]
    assert {path["URL"] for path in paths} == {array.url(DATA_LUN, portal) for portal in (0, 1)}
    for path in paths:
        assert (path["PATH"], path["MEMBER"], path["STATE"]) == ("direct", "provolone", "up")
        assert path["ACCESS"] == "active_optimized"


def test_a_walk_over_the_tree_reads_no_lun(clu: Clu) -> None:
    said = sh(
        "find luns -type f; grep -r . luns > /dev/null; du -s luns; tar cf /dev/null luns", clu.root
    )
    assert "/data" not in said
    assert "/method" in said


def test_what_is_not_there_is_not_found(clu: Clu, lun: Path) -> None:
    assert not (clu.root / "luns" / "naa.0").exists()
    assert not (lun / "paths" / "sdx").exists()
    assert not (lun / "date").exists()


# ------------------------------------------------------------- keys, reservation


def test_keys_are_those_that_the_lun_has_now(lun: Path, array: ArrayProcess) -> None:
    with registered(array.url(DATA_LUN, 0), 0xABC):
        line = (lun / "keys").read_text()
        assert line.startswith("KEY=0x0000000000000abc INITIATOR=iqn.2026-01.org.example:stranger")
        assert line.endswith(" PORT=1 HOLDS=1\n")
        assert os.stat(lun / "keys").st_size == len(line)
        assert facts(lun / "reservation")["TYPE"] == "write_exclusive_registrants_only"
        assert facts(lun / "reservation")["KEY"] == "0x0000000000000abc"
    assert (lun / "keys").read_text() == ""
    assert facts(lun / "reservation")["TYPE"] == "none"


def test_a_key_of_this_cluster_is_shown_with_its_member(
    clu: Clu, lun: Path, array: ArrayProcess
) -> None:
    name = facts(clu.root / "status" / "cluster")["NAME"]
    ours = MemberKey(cluster_number(name), int((clu.root / "members/self/id").read_text()), 7)
    with registered(array.url(DATA_LUN, 0), ours.number):
        assert " MEMBER=provolone INCARNATION=7 " in (lun / "keys").read_text()
        assert facts(lun / "reservation")["MEMBER"] == "provolone"
    other = MemberKey(1 + ours.cluster % 0xFFFF, ours.member, 7)
    with registered(array.url(DATA_LUN, 0), other.number):
        assert "MEMBER" not in (lun / "keys").read_text()


def test_a_file_has_no_reservations(clu: Clu) -> None:
    (file,) = (one for one in (clu.root / "luns").iterdir() if one.name.endswith(":disk"))
    assert (file / "keys").read_text() == ""
    assert (file / "reservation").read_text() == "TYPE=impossible\n"
    assert (file / "access_state").read_text() == "STATE=active\n"


# ------------------------------------------------------------------------- data


def test_what_dd_writes_dd_reads(lun: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes((b"clufs\n" * (1 << 16))[: 1 << 18])
    sh(f"dd if={image} of=data bs=64k conv=notrunc 2>&1", lun)
    sh(f"dd if=data bs=64k count=4 2>/dev/null | cmp - {image}", lun)
    assert sh("dd if=data bs=512 skip=1 count=1 2>/dev/null | head -c 6", lun) == "ufs\ncl"
    assert os.stat(lun / "data").st_size == SIZE


def test_a_part_can_be_read_but_only_whole_blocks_be_written(clu: Clu, lun: Path) -> None:
    data, block, end = lun / "data", b"0123456789" * 51 + b"ab", SIZE
    assert errno_of(data, os.O_WRONLY, lambda fd: os.pwrite(fd, block * 2, end - 1024)) == 0
    fd = os.open(data, os.O_RDONLY)
    try:
        assert os.pread(fd, 7, end - 1024 + 3) == b"3456789"
        assert os.pread(fd, 100, end - 10) == b"23456789ab"
        assert os.pread(fd, 100, end) == b""
        assert os.pread(fd, 514, end - 513) == b"b" + block
    finally:
        os.close(fd)
    assert errno_of(data, os.O_WRONLY, lambda fd: os.pwrite(fd, b"x", 0)) == errno.EINVAL
    assert errno_of(data, os.O_WRONLY, lambda fd: os.pwrite(fd, block, 1)) == errno.EINVAL
    assert "whole blocks of 512 bytes" in clu.why("/data")
    assert errno_of(data, os.O_WRONLY, lambda fd: os.pwrite(fd, block, end)) == errno.ENOSPC


def test_data_is_for_root(lun: Path) -> None:
    assert os.stat(lun / "data").st_mode & 0o777 == 0o600
    assert ALICE.calls("os.open('data', os.O_RDONLY)", lun) == "EACCES"


def test_clufs_own_lun_is_not_written_by_others(clu: Clu, array: ArrayProcess) -> None:
    own = by_number(clu, array, OWN_LUN) / "data"
    assert errno_of(own, os.O_WRONLY, lambda fd: os.write(fd, bytes(512))) == errno.EPERM
    assert len(own.read_bytes()) == SIZE
    assert "SEQUENCE=" in (own.parent / "slots").read_text()


def test_a_write_that_the_reservation_bars_fails_as_the_kernels_would(
    lun: Path, array: ArrayProcess
) -> None:
    with registered(array.url(DATA_LUN, 0), 0xABC):
        barred = errno_of(lun / "data", os.O_WRONLY, lambda fd: os.write(fd, bytes(512)))
        assert barred == errno.EBADE
        assert errno_of(lun / "data", os.O_RDONLY, lambda fd: os.read(fd, 512)) == 0


# ------------------------------------------------------------------- access states


def test_the_access_state_of_a_group_of_ports_is_changed_by_writing_it(clu: Clu, lun: Path) -> None:
    state = lun / "access_state"
    assert state.read_text().startswith("STATE=active\nGROUP=1 STATE=active_optimized PORTS=1 ")
    sh("echo standby 1 > access_state", lun)
    assert "GROUP=1 STATE=standby" in state.read_text()
    assert " GROUP=1 FROM=active_optimized TO=standby\n" in state.read_text()
    sh("dd if=data of=/dev/null bs=4k count=1 2>&1", lun)
    sh("echo active 1 > access_state", lun)
    assert "GROUP=1 STATE=active_optimized" in state.read_text()
    until(lambda: "access-changed" in (clu.root / "events").read_text(), "the event")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("asleep 1", "'asleep' is no state to ask for: active, active_non_optimized"),
        ("standby", "which group? naa."),
        ("standby 9", "which group? naa."),
        ("standby 1 now", "write STATE, or STATE GROUP"),
    ],
)
def test_a_wrong_access_state_is_refused_in_words(clu: Clu, lun: Path, line: str, why: str) -> None:
    before = (lun / "access_state").read_text()
    number = errno_of(lun / "access_state", os.O_WRONLY, lambda fd: os.write(fd, line.encode()))
    assert number == errno.EINVAL
    assert why in clu.why("/access_state")
    assert (lun / "access_state").read_text() == before


# ---------------------------------------------------------------- paths come and go


def test_a_path_that_is_cut_shows_and_the_other_one_is_used(
    clu: Clu, lun: Path, array: ArrayProcess
) -> None:
    array.do("portal 0 down")
    until(lambda: sorted(states(lun)) == ["down", "up"], "the loss")
    sh("dd if=/dev/zero of=data bs=4k count=2 conv=notrunc 2>&1", lun)
    (down,) = (one for one in map(facts, (lun / "paths").iterdir()) if one["STATE"] == "down")
    assert down["WHY"]
    array.do("portal 0 up")
    until(lambda: states(lun) == ["up", "up"], "the path")
    events = (clu.root / "events").read_text()
    assert " path-down lun=naa." in events and " path-up lun=naa." in events


def test_a_lun_that_hangs_is_listed_and_keeps_nobody_else_waiting(
    clu: Clu, lun: Path, array: ArrayProcess
) -> None:
    array.do(f"lun {DATA_LUN} hang")
    try:
        begun = time.monotonic()
        with pytest.raises(OSError) as caught:
            (lun / "keys").read_text()
        assert caught.value.errno in (errno.ETIMEDOUT, errno.ENOLINK)
        waited_s = time.monotonic() - begun
        names = os.listdir(lun)
        (clu.public / "beside").write_text("EX")
        assert waited_s < PATIENCE_S / 2 and "keys" in names
    finally:
        array.do(f"lun {DATA_LUN} slow 0")
