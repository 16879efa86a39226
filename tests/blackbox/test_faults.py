"""A fault in clufs itself: one caller gets EIO, the log gets the traceback, and everybody goes on."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
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
