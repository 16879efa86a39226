"""tgtd, the array of Debian's package tgt, on loopback: an array that is not ours."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

TARGET = "iqn.2026-01.org.clufs:tgtd"
READY_S = 10.0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def _admin(control: int, *words: str) -> int:
    command = ["tgtadm", "-C", str(control), "--lld", "iscsi", *words]
    done = await trio.run_process(
        command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return done.returncode


@asynccontextmanager
async def tgtd(directory: Path) -> AsyncIterator[str]:
    """The URL of a LUN of 16 MiB, while inside."""
    control, port = os.getpid() % 32000 + 100, _free_port()
    disk = directory / "disk"
    disk.write_bytes(bytes(1 << 24))
    command = ["tgtd", "-f", "-C", str(control), "--iscsi", f"portal=127.0.0.1:{port}"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with trio.fail_after(READY_S):
            while await _admin(control, "--op", "show", "--mode", "target"):  # noqa: ASYNC110
                await trio.sleep(0.02)
        new = ["--op", "new", "--tid", "1"]
        assert await _admin(control, *new, "--mode", "target", "-T", TARGET) == 0
        assert (
            await _admin(control, *new, "--mode", "logicalunit", "--lun", "1", "-b", str(disk)) == 0
        )
        assert (
            await _admin(control, "--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL")
            == 0
        )
        yield f"iscsi://127.0.0.1:{port}/{TARGET}/1"
    finally:
        process.kill()  # it ignores SIGTERM once it has a target
        process.wait()
