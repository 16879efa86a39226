"""clufs import-ase: services of an Available Server Environment become profiles and script skeletons."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from clufs.caa import ase
from clufs.errors import ClufsError, ProgramError, UsageError

_SCRIPT_MODE, _PROFILE_MODE = 0o755, 0o644


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; usage: clufs import-ase [--dir DIR] [--force] FILE")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="clufs import-ase",
        description="Turn the text of `asemgr -d -C` into resource profiles and skeletons of action"
        " scripts in DIR. What must be changed by hand is told on standard error, a line each.",
    )
    parser.add_argument("file", metavar="FILE", help="the text, or - for standard input")
    parser.add_argument("--dir", type=Path, default=Path(), metavar="DIR", help="default: here")
    parser.add_argument("--force", action="store_true", help="write over files that are there")
    return parser


def _text(file: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise ProgramError(f"{file}: {error.strerror}") from error
    return data.decode(errors="replace")


def _found(file: str) -> list[ase.Imported]:
    try:
        return [ase.imported(service) for service in ase.services(_text(file))]
    except ProgramError:
        raise
    except ClufsError as error:
        raise ProgramError(f"{file}: {error}") from error


def _write(directory: Path, files: list[tuple[str, str]], force: bool) -> None:
    """Write all of them, or nothing if one is there already."""
    there = [name for name, _ in files if (directory / name).exists()]
    if there and not force:
        raise ProgramError(f"{directory / there[0]} is there already; --force writes over it")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files:
            path = directory / name
            path.write_text(text)
            path.chmod(_SCRIPT_MODE if name.endswith(".scr") else _PROFILE_MODE)
            print(path)
    except OSError as error:
        raise ProgramError(f"{error.filename or directory}: {error.strerror}") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files and print their paths; warnings go to standard error. Raises ProgramError."""
    options = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    found = _found(options.file)
    _write(options.dir, [file for one in found for file in one.files], options.force)
    for one in found:
        for warning in one.warnings:
            print(f"clufs import-ase: {warning}", file=sys.stderr)
    return 0
