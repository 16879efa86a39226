"""The array as a process of its own, driven by lines."""

import subprocess
import sys

import trio

from clufs.errors import PathLost
from clufs.storage import commands as c
from clufs.storage.iscsi import iscsi_lun
from clufs.storage.outcome import Refusal


async def test_a_process_serves_and_obeys() -> None:
    command = [
        sys.executable,
        "-m",
        "tests.array",
        "--luns",
        "2",
        "--portals",
        "2",
        "--defects",
        "no_alua",
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as array:
        assert array.stdin is not None and array.stdout is not None

        def say(line: str) -> str:
            assert array.stdin is not None and array.stdout is not None
            array.stdin.write(line + "\n")
            array.stdin.flush()
            return array.stdout.readline().strip()

        urls = [array.stdout.readline().split()[-1] for _ in range(2)]
        assert array.stdout.readline() == "ready\n"
        async with iscsi_lun(urls[1], "iqn.2026-01.org.clufs:a", 1) as lun:
            await lun.run(c.Write16(0, 1), bytes(512))
            assert say("writes 0") == "1"
            assert say("lun 0 offline") == "ok"
            try:
                await lun.run(c.Read16(0, 1))
                raise AssertionError
            except Refusal as refusal:
                assert refusal.sense.code == (0x04, 0x03)
            assert say("portal 1 down") == "ok"
            with trio.fail_after(10):
                while True:
                    try:
                        await lun.run(c.Inquiry())
                    except PathLost:
                        break
        array.stdin.close()
        assert array.wait() == 0
