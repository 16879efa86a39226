"""clufs keeps the rule of the rooms, and the checker can tell."""

from pathlib import Path

import pytest

import clufs
from tests.layers import LINES_MAX, violations


def test_clufs_keeps_the_rule() -> None:
    assert violations(Path(clufs.__file__).parent) == []


@pytest.mark.parametrize(
    ("where", "source", "why"),
    [
        ("dlm/node.py", "import clufs.tree.files\n", "dlm does not stand above tree"),
        ("dlm/node.py", "from clufs import daemon\n", "dlm does not stand above daemon"),
        ("dlm/node.py", "from ..cluster import view\n", "dlm does not stand above cluster"),
        ("dlm/node.py", "def f():\n    import time\n", "dlm is pure"),
        ("dlm/node.py", "from os import path\n", "dlm is pure"),
        ("dlm/node.py", "import trio.lowlevel\n", "dlm is pure"),
        ("caa/machine.py", "import time\n", "caa is pure"),
        ("caa/profile.py", "from clufs.registry import log\n", "caa does not stand above registry"),
        (
            "fuse/ops.py",
            "from clufs.config import Config\n",
            "config is a helper of daemon and cli",
        ),
        ("config.py", "from clufs.dlm import modes\n", "helpers import errors, limits"),
        ("errors.py", "import clufs.dlm\n", "errors does not stand above dlm"),
        ("tree/files.py", "#\n" * (LINES_MAX + 1), "more than 500"),
    ],
)
def test_the_checker_finds(tmp_path: Path, where: str, source: str, why: str) -> None:
    path = tmp_path / "clufs" / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    found = violations(tmp_path / "clufs")
    assert len(found) == 1
    assert why in found[0]
    assert where in found[0]


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("cli/clufsd.py", "from clufs.config import load\nfrom clufs.daemon import run\n"),
        ("daemon.py", "import time\nimport clufs.fuse\nfrom clufs import __version__, dlm\n"),
        ("dlm/node.py", "from . import modes\nfrom .modes import Mode\nfrom ..limits import X\n"),
        ("config.py", "from clufs.errors import ConfigError\nimport os\n"),
        ("tree/files.py", "#\n" * LINES_MAX),
        ("tree/__init__.py", "from .files import X\nfrom ..dlm import Y\n"),
    ],
)
def test_the_checker_lets_pass(tmp_path: Path, where: str, source: str) -> None:
    path = tmp_path / "clufs" / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    assert violations(tmp_path / "clufs") == []
