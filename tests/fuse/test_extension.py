"""The C part as a module: how it is loaded, and what it refuses without any mount."""

import ctypes
import subprocess
import sys

import pytest

from clufs.fuse import _lowlevel, lowlevel
from clufs.fuse.lowlevel import Request


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(TypeError):
        lowlevel.handlers(interrupted=())  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Request()


def test_installed_means_a_session_of_ours() -> None:
    assert not lowlevel.installed()


def test_the_c_part_must_come_before_pyfuse3() -> None:
    code = "import pyfuse3, clufs.fuse.lowlevel"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingPart: pyfuse3 was imported before" in done.stderr


def test_names_are_found_before_libfuse() -> None:
    """What pyfuse3's linking relies on: the process-wide name is the extension's."""
    everywhere = ctypes.CDLL(None).fuse_session_new
    extension = ctypes.CDLL(_lowlevel.__file__).fuse_session_new
    address = [ctypes.cast(f, ctypes.c_void_p).value for f in (everywhere, extension)]
    assert address[0] == address[1]
