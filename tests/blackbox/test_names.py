"""Names of lock files: what a name may be, and how odd ones are shown (contract 1 and 2)."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from clufs.tree.names import shown, shown_word
from tests.blackbox.clu import Clu, Shell

ODD = [
    b"two\nlines",
    b"a blank",
    b" ",
    b"-rf",
    b"*?[a]",
    b"$(reboot)`id`'\"",
    b"back\\slash",
    b"\x1b[31mred",
    b"latin \xfc",
    "größe €".encode(),
    b"...",
    b".hidden",
    b"sub",
    b".subs",
    b"x" * 251,
    "ü".encode() * 125,
]


@pytest.mark.parametrize("odd", ODD)
def test_a_lock_may_have_any_name(clu: Clu, odd: bytes) -> None:
    public = os.fsencode(clu.public)
    path = public + b"/" + odd
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(fd, b"EX\n")
    os.write(fd, b"EX value=" + odd.replace(b"\n", b" ") + b"\n")
    assert odd in os.listdir(public)
    assert os.stat(path).st_size > 0
    report = (
        Path(os.fsdecode(os.fsencode(clu.root) + b"/status/locks/public/" + odd))
    ).read_bytes()
    head = report.decode().split("\n")
    assert head[:2] == [f"NAME={shown(odd)}", "NAMESPACE=public"]
    assert all(line.isprintable() for line in head)
    with pytest.raises(OSError):
        os.write(fd, b"EX nonsense\n")
    assert f" locks/public/{shown_word(odd)} EINVAL unknown word 'nonsense'" in clu.errors()
    os.close(fd)


@pytest.mark.parametrize("size", [252, 255])
def test_a_name_that_is_too_long_for_a_lock(clu: Clu, size: int) -> None:
    with pytest.raises(OSError) as refused:
        (clu.public / ("n" * size)).touch()
    assert refused.value.errno == errno.ENAMETOOLONG
    assert f"ENAMETOOLONG a lock name has at most 251 bytes, this one {size}" in clu.errors()


@pytest.mark.parametrize("size", [256, 1000])
def test_a_name_that_is_too_long_for_any_file(clu: Clu, size: int) -> None:
    for act in (Path.touch, Path.mkdir, Path.stat):
        with pytest.raises(OSError) as refused:
            act(clu.public / ("n" * size))
        assert refused.value.errno == errno.ENAMETOOLONG
    assert f"ENAMETOOLONG a name has at most 255 bytes, this one {size}" in clu.errors()


@pytest.mark.parametrize("odd", [".sub", "a.sub", "n" * 247 + ".sub"])
def test_a_lock_does_not_end_in_sub(clu: Clu, odd: str) -> None:
    with pytest.raises(OSError) as refused:
        (clu.public / odd).touch()
    assert refused.value.errno == errno.EINVAL
    assert f" EINVAL a lock name may not end in '.sub': '{odd}'" in clu.errors()


def test_dot_and_dot_dot_are_the_kernels(clu: Clu, shell: Callable[..., Shell]) -> None:
    one = shell(cwd=clu.public)
    for line in ("echo EX > .", "echo EX > ..", "echo EX > ../..", "mkdir .. 2>&1"):
        assert one.ask(line)[0] != 0, line
    assert one.ask("ls -d .. ../../locks/public") == (0, "..\n../../locks/public\n")


def test_a_name_lives_as_long_as_its_locks(
    clu: Clu, name: str, shell: Callable[..., Shell]
) -> None:
    holder = shell(cwd=clu.public)
    assert holder.ask(f"cat {name}")[0] == 1
    holder.ask(f"echo NL > {name}")
    assert (clu.public / name).exists()
    holder.ask(f"echo UN > {name}")
    assert not (clu.public / name).exists()
    assert name not in os.listdir(clu.public)


def test_a_name_just_created_lives_as_long_as_it_is_open(clu: Clu, name: str) -> None:
    path = clu.public / name
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    assert os.listdir(clu.public) == [name]
    assert not (clu.root / "status" / "locks" / "public" / name).exists()
    os.close(fd)
    assert not path.exists()


def test_a_number_stays_with_its_name_while_that_lives(clu: Clu, name: str) -> None:
    """flock-then-compare loops look at st_ino of the descriptor and of the path."""
    path = clu.public / name
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(fd, b"EX\n")
    numbers = {path.stat().st_ino for _ in range(3)} | {os.fstat(fd).st_ino}
    numbers |= {entry.inode() for entry in os.scandir(clu.public) if entry.name == name}
    listed = subprocess.run(["ls", "-i", path], capture_output=True, text=True, check=True)
    assert {int(listed.stdout.split()[0])} == numbers
    os.close(fd)
