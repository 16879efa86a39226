"""A fault in clufs itself: one caller gets EIO, the log gets the traceback, and everybody goes on."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.blackbox.clu import Clu, Shell, until

FAULTY = """
import sys
from clufs.cli import clufsd
from clufs.fuse import groups, xattrs
from clufs.tree.lock_tree import LockDirectory

def fault(*arguments):
    raise ZeroDivisionError("a fault made for a test")

def unless_called_wrong(method):
    return lambda self, name, *rest: fault() if b"wrong" in name else method(self, name, *rest)

xattrs.Xattrs.get = fault
groups.Groups.mkdir = fault
LockDirectory.find = unless_called_wrong(LockDirectory.find)
sys.exit(clufsd.main(sys.argv[1:]))
"""


class FaultyClu(Clu):
    program = (sys.executable, "-c", FAULTY)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clu]:
    clu = FaultyClu(tmp_path_factory.mktemp("faulty"))
    yield clu
    clu.close()


def faults(clu: Clu) -> int:
    return clu.log.read_text().count("ZeroDivisionError: a fault made for a test")


def getxattr(public: Path) -> None:
    with (public / "f").open("w") as file:
        os.getxattr(file.fileno(), "user.clu.value")


def mkdir(public: Path) -> None:
    (public.parent.parent / "groups" / "g").mkdir()


def look_up(public: Path) -> None:
    (public / "wrong").stat()


@pytest.mark.parametrize("call", [getxattr, mkdir, look_up])
def test_the_caller_gets_eio_and_nobody_else_notices(
    faulty: Clu, shell: Callable[..., Shell], call: Callable[[Path], None]
) -> None:
    holder = shell(cwd=faulty.public)
    assert holder.ask("echo EX > held; echo 'EX value=kept' > held") == (0, "")
    before = faults(faulty)
    with pytest.raises(OSError) as caught:
        call(faulty.public)
    assert caught.value.errno == errno.EIO
    until(lambda: faults(faulty) > before, "the traceback in the log")
    assert faulty.daemon.poll() is None
    assert holder.ask("cat held; echo UN > held") == (0, "kept\n")


FEW_NUMBERS = """
import itertools, sys
from clufs.tree import items
items._numbers = itertools.cycle(range(items.FIRST_NUMBER, 300))
from clufs.cli import clufsd
sys.exit(clufsd.main(sys.argv[1:]))
"""


class CluWithFewNumbers(Clu):
    program = (sys.executable, "-c", FEW_NUMBERS)


def test_file_numbers_come_again_but_never_while_they_are_in_use(
    tmp_path: Path, shell: Callable[..., Shell]
) -> None:
    with ExitStack() as opened:
        clu = CluWithFewNumbers(tmp_path)
        opened.callback(clu.close)
        holder = shell(cwd=clu.public)
        holder.ask("for n in 1 2 3 4 5 6 7 8 9; do echo EX > held$n; done")
        held = [opened.enter_context((clu.public / f"held{n}").open()) for n in range(1, 10)]
        reports = clu.root / "status" / "locks" / "public"
        for turn in range(50):
            assert len(os.listdir(reports)) == len(held) + turn
            assert holder.ask(f"echo NL > more{turn}") == (0, "")
        numbers = [path.stat().st_ino for path in clu.public.iterdir()]
        assert len(set(numbers)) == len(numbers) == len(held) + 50
        assert {os.fstat(file.fileno()).st_ino for file in held} <= set(numbers)
