"""The program clufs: its subcommands, and what it says to anything else."""

import os
import subprocess
import sys

import pytest

from clufs import __version__
from clufs.cli import clufs


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert clufs.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: clufs ")
    assert all(f"  {name} " in out for name in clufs.COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert clufs.main(["--version"]) == 0
    assert capsys.readouterr().out == f"clufs {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["-x"]])
def test_anything_else_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert clufs.main(arguments) == 2
    err = capsys.readouterr().err
    assert "usage: clufs " in err
    assert all(repr(word) in err for word in arguments)


def test_a_refusal_of_a_command_has_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert clufs.main(["doctor", "--frobnicate"]) == 2
    assert capsys.readouterr().err.startswith("clufs doctor: usage: ")


def test_who_wants_no_more_of_the_output_is_no_fault() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "clufs.cli.clufs", "doctor"]
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("name", clufs.COMMANDS)
def test_every_command_has_its_program(name: str) -> None:
    code = f"import importlib; importlib.import_module({clufs.COMMANDS[name][0]!r}).main"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_start_loads_no_event_loop() -> None:
    code = (
        "import sys, clufs.cli.clufs; sys.exit('trio' in sys.modules or 'pyfuse3' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
