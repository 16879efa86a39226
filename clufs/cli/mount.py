"""mount.clufs(8): the helper that mount(8) runs for `mount -t clufs`, fstab and systemd.

It starts clufsd in the background, waits until the daemon answers at the mount
point, and only then returns; `umount` ends the daemon.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from clufs import config
from clufs.errors import ClufsError, MissingPart, MountError, ProgramError

USAGE = "usage: mount.clufs SPEC DIR [-sfnv] [-t TYPE] [-o OPTION[,OPTION...]]"

LOG_NAME = "clufsd.log"

# Options that fstab lines carry for mount(8), systemd or the kernel: true here already, or without meaning.
IGNORED = frozenset(
    "rw defaults auto noauto user users nouser owner group _netdev nofail"
    " exec noexec suid nosuid dev nodev sync async atime noatime relatime norelatime"
    " strictatime nodiratime diratime allow_other default_permissions".split()
)
IGNORED_PREFIXES = ("x-", "X-", "comment=")


class BadInvocation(ProgramError):
    """Wrong arguments or options; mount(8) gives it exit code 1."""

    exit_code = 1


class SystemFailure(ProgramError):
    """Out of something, or no clufsd; mount(8) gives it exit code 2."""

    exit_code = 2


@dataclass(frozen=True)
class Call:
    """What mount(8) asked for. sloppy: pass over unknown options. fake: do everything but mount."""

    spec: str
    directory: str
    options: tuple[str, ...] = ()
    sloppy: bool = False
    fake: bool = False
    verbose: bool = False


@dataclass(frozen=True)
class Plan:
    """The daemon to start: its arguments after the program, and its log file."""

    arguments: tuple[str, ...]
    log: Path


def main(argv: Sequence[str] | None = None) -> int:
    """Mount, and return an exit status as mount(8) defines it: 0, 1, 2 or 32."""
    try:
        call = parse(list(sys.argv[1:] if argv is None else argv))
        plan = plan_for(call)
        if not call.fake:
            start([str(find_clufsd()), *plan.arguments], plan.log, verbose=call.verbose)
    except ClufsError as error:
        print(f"mount.clufs: {error}", file=sys.stderr)
        return error.exit_code if error.exit_code in (1, 2) else MountError.exit_code
    return 0


def parse(arguments: Sequence[str]) -> Call:
    """Read `SPEC DIR [-sfnv] [-t TYPE] [-o OPTIONS]`, the flags anywhere, as mount(8) passes them."""
    words: list[str] = []
    options: list[str] = []
    flags: set[str] = set()
    rest = iter(arguments)
    for word in rest:
        if word.startswith("-") and len(word) > 1:
            _read_flags(word[1:], rest, flags, options)
        else:
            words.append(word)
    if len(words) != 2:
        raise BadInvocation(USAGE)
    return Call(
        words[0], words[1], tuple(options), "s" in flags, "f" in flags, verbose="v" in flags
    )


def _read_flags(letters: str, rest: Iterator[str], flags: set[str], options: list[str]) -> None:
    """Take one word of flags; -o and -t have an argument, in the same word or the next."""
    for place, letter in enumerate(letters):
        if letter in "sfnv":
            flags.add(letter)
        elif letter in "ot":
            argument = letters[place + 1 :] or next(rest, None)
            if argument is None:
                raise BadInvocation(f"-{letter} needs an argument; {USAGE}")
            if letter == "o":
                options += [option for option in argument.split(",") if option]
            return
        else:
            raise BadInvocation(f"unknown flag -{letter}; {USAGE}")


def plan_for(call: Call) -> Plan:
    """Turn the call into clufsd's arguments, or say which option is not understood."""
    config_file = call.spec if call.spec.startswith("/") else None
    state = None
    for option in call.options:
        key, _, value = option.partition("=")
        if key == "config" and value:
            config_file = value
        elif key == "state" and value:
            state = value
        elif not _is_ignored(option) and not call.sloppy:
            raise BadInvocation(
                f"unknown option {option!r}; clufs has config=FILE and state=DIR (see mount.clufs(8))"
            )
    if config_file is None and Path(config.CONFIG_FILE).exists():
        config_file = config.CONFIG_FILE
    arguments = [os.path.abspath(call.directory)]
    if config_file is not None:
        arguments += ["--config", config_file]
    if state is not None:
        arguments += ["--state", os.path.abspath(state)]
    # With state= the daemon alone reads, and judges, the configuration.
    configured = config.STATE_DIR if state else config.load(config_file).daemon.state
    log_dir = config.state_dir(state, configured)
    return Plan(tuple(arguments), log_dir / LOG_NAME)


def _is_ignored(option: str) -> bool:
    return option in IGNORED or option.startswith(IGNORED_PREFIXES)


def find_clufsd() -> Path:
    """Find the clufsd that was installed with this program.

    mount(8) clears PATH, and a clufsd found there could be another version:
    it lies beside the program that runs, or beside its interpreter.
    """
    for beside in (Path(sys.argv[0]).resolve(), Path(sys.executable)):
        found = shutil.which("clufsd", path=str(beside.parent))
        if found:
            return Path(found)
    raise MissingPart(f"clufsd is not in {Path(sys.executable).parent}; install clufs again")


def start(command: Sequence[str], log: Path, *, verbose: bool = False) -> None:
    """Start the daemon detached, and return once it printed its `ready` line.

    There is no deadline: the daemon either becomes ready or ends, and a start that
    first has to see lock owners of a killed predecessor gone takes the time that takes.
    Ending this program before that ends the daemon too.
    """
    log_fd = _open_log(log)
    before = os.fstat(log_fd).st_size
    if verbose:
        print(f"mount.clufs: {' '.join(command)} (log in {log})")
    try:
        daemon = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log_fd,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise SystemFailure(f"{command[0]} cannot be started: {error.strerror}") from error
    finally:
        os.close(log_fd)
    _end_together(daemon)
    assert daemon.stdout is not None
    if daemon.stdout.readline().startswith(b"ready "):
        # Popen would complain of a child still running; this one shall outlive us.
        daemon.returncode = 0
        return
    daemon.terminate()
    status = daemon.wait()
    raise MountError(_last_words(log, before) or f"clufsd ended with status {status}, see {log}")


def _open_log(log: Path) -> int:
    try:
        log.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        return os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise SystemFailure(f"{log}: cannot be opened: {error.strerror}") from error


def _end_together(daemon: "subprocess.Popen[bytes]") -> None:
    """Let a signal that ends this program end the daemon that is not ready yet."""

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        daemon.terminate()
        daemon.wait()
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)


def _last_words(log: Path, before: int) -> str:
    """Return the last line that the daemon wrote since `before`, without its own name."""
    with log.open("rb") as stream:
        stream.seek(before)
        lines = stream.read().decode(errors="replace").split("\n")
    words = next((line for line in reversed(lines) if line.strip()), "")
    return words.removeprefix("clufsd: ").strip()


if __name__ == "__main__":
    sys.exit(main())
