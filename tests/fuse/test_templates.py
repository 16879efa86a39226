"""/clu/templates on a real mount: a text that would refuse every profile is itself refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from clufs.caa.templates import BUILT_IN
from tests.fuse.test_resources import applications

WRITE = """fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
os.write(fd, sys.argv[2].encode())
os.close(fd)
"""
SHOW = "print(open(sys.argv[1]).read(), end='')"


@pytest.mark.parametrize(
    ("file", "bad", "said", "good"),
    [
        ("TYPE_tape.cap", "DEVICE_NAME=tape1\n", "line 1: DEVICE_NAME: tape1", "TYPE=tape\n"),
        ("TYPE_generic.cap", "AUTO_START=x\n", "line 1: AUTO_START: x", "AUTO_START=1\n"),
        ("application.tdf", "type: x\n", "line 1: type: stands", "# none\n"),
    ],
)
async def test_a_template_is_judged_when_it_is_closed(
    tmp_path: Path, file: str, bad: str, said: str, good: str
) -> None:
    async with applications(tmp_path) as member:
        path = member.root / "templates" / file
        built_in = BUILT_IN[file].decode()
        assert await member.runs(WRITE, path, bad) == "EINVAL\n"
        refusals = member.journals.refusals.show(0).decode()
        assert f" templates/{file} EINVAL templates/{file} {said}" in refusals
        assert await member.runs(SHOW, path) == built_in
        assert await member.runs(SHOW, f"{path}.refused") == bad
        assert await member.runs(WRITE, path, good) == ""
        assert await member.runs(SHOW, path) == good
        assert await member.runs(SHOW, f"{path}.refused") == "ENOENT\n"
        assert await member.runs(WRITE, path, bad) == "EINVAL\n"
        assert await member.runs(SHOW, path) == good


async def test_a_template_is_judged_when_it_gets_its_name(tmp_path: Path) -> None:
    async with applications(tmp_path) as member:
        templates = member.root / "templates"
        move = "os.rename(sys.argv[1] + '/new', sys.argv[1] + '/TYPE_application.cap')"
        assert await member.runs(WRITE, templates / "new", "AUTO_START=2\n") == ""
        assert await member.runs(move, templates) == "EINVAL\n"
        path = templates / "TYPE_application.cap"
        assert await member.runs(SHOW, path) == BUILT_IN[path.name].decode()
        assert await member.runs(WRITE, templates / "new", "AUTO_START=1\n") == ""
        assert await member.runs(move, templates) == ""
        assert await member.runs(SHOW, path) == "AUTO_START=1\n"
        assert await member.runs("os.unlink(sys.argv[1])", path) == ""
        assert await member.runs(SHOW, path) == BUILT_IN[path.name].decode()


async def test_the_template_of_a_script_is_any_text(tmp_path: Path) -> None:
    async with applications(tmp_path) as member:
        path = member.root / "templates" / "template.scr"
        assert await member.runs(WRITE, path, "anything") == ""
        assert await member.runs(SHOW, path) == "anything"
