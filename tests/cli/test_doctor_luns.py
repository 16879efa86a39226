"""clufs doctor tries every path to every LUN of the configuration, and writes to none."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from clufs.cli import doctor_luns
from clufs.cli.doctor import Finding, Machine
from clufs.config import load
from clufs.storage import libiscsi
from clufs.storage.own_lun import Wish, format_own
from clufs.storage.paths import open_path
from tests.array.array import Array, Shape


@pytest.fixture
def array() -> Iterator[Array]:
    """Two LUNs by two portals, served beside the test."""
    found = Array(Shape([8192, 8192], portals=2))
    ready, over = threading.Event(), trio.Event()
    token: list[trio.lowlevel.TrioToken] = []

    async def serve() -> None:
        token.append(trio.lowlevel.current_trio_token())
        async with found.serving():
            ready.set()
            await over.wait()

    thread = threading.Thread(target=trio.run, args=[serve])
    thread.start()
    ready.wait()
    yield found
    token[0].run_sync_soon(over.set)
    thread.join()


def findings(tmp_path: Path, text: str) -> list[Finding]:
    file = tmp_path / "clufs.toml"
    file.write_text(text)
    machine = dataclasses.replace(Machine(), config_file=file)
    return list(doctor_luns.examine(machine, load(file)))


def test_each_path_says_where_it_leads(array: Array, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    first, second, file = findings(
        tmp_path,
        f"[[luns]]\nurl = '{array.url(0, 0)}'\npaths = ['{array.url(0, 1)}']\n[[luns]]\nurl = '{disk}'\n",
    )
    assert str(first).startswith(f"ok LUN {array.url(0, 0)}: naa.")
    assert first.what.endswith(", 4 MiB")
    assert second.ok
    assert file.what.endswith(":disk, 1 MiB, without reservations")
    assert not array.units[0].medium.log


def test_a_path_to_another_lun_is_found(array: Array, tmp_path: Path) -> None:
    text = f"[[luns]]\nurl = '{array.url(0, 0)}'\npaths = ['{array.url(1, 1)}']\n"
    wrong = [one for one in findings(tmp_path, text) if not one.ok]
    assert len(wrong) == 1
    assert ", and beside it naa." in wrong[0].what
    assert "luns[0]" in wrong[0].mend


def test_a_lun_of_clufs_must_be_formatted(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(4 << 20))
    text = f"[[luns]]\nurl = '{disk}'\nrole = 'clufs'\n"
    (bare,) = findings(tmp_path, text)
    assert (bare.ok, bare.mend) == (False, f"clufs lun format {disk}")

    async def form() -> None:
        async with open_path(str(disk), "iqn.x") as path:
            await format_own(path.device, Wish("x", members=2))

    trio.run(form)
    assert [one.ok for one in findings(tmp_path, text)] == [True]


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    text = f"[[luns]]\nurl = '{tmp_path}/absent'\n[[luns]]\nurl = 'iscsi://127.0.0.1:1/iqn.x/0'\n"
    file, array = findings(tmp_path, text)
    assert "No such file or directory" in str(file)
    assert "connecting failed" in str(array)


def test_a_missing_library_has_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libiscsi, "LIBRARY", "libiscsi.so.absent")
    libiscsi.library.cache_clear()
    (found,) = findings(tmp_path, "[[luns]]\nurl = 'iscsi://127.0.0.1:1/iqn.x/0'\n")
    libiscsi.library.cache_clear()
    assert str(found) == "MISSING LUN iscsi://127.0.0.1:1/iqn.x/0: apt-get install libiscsi7"
