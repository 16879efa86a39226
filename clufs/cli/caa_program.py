"""What the caa_ programs share: their arguments, and the files of a /clu that they read and write.

All of it works on $CLU_ROOT (default /clu), and what only reads works on a copy of one too.
"""

from __future__ import annotations

import argparse
import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from clufs.caa.profile import parse
from clufs.errors import ClufsError, ProfileRefused, ProgramError, UsageError

ROOT_VARIABLE = "CLU_ROOT"
ROOT = "/clu"
APPLICATION = "application"


class Refused(ProgramError):
    """What was asked for was refused, or failed."""


class Parser(argparse.ArgumentParser):
    """Options are words with a single dash; a wrong argument is a UsageError."""

    def __init__(self, prog: str, description: str, usage: str, **more: bool) -> None:
        super().__init__(
            prog=prog,
            usage=usage.replace("\n", "\n       "),
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **more,  # type: ignore[arg-type]
        )

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}\n{self.format_usage().rstrip()}")

    def names(self, meaning: str) -> None:
        """Resources are named anywhere among the options."""
        self.add_argument("names", metavar="RESOURCE", nargs="*", help=meaning)

    def flag(self, option: str, meaning: str) -> None:
        """An option without a value."""
        self.add_argument(option, action="store_true", help=meaning)

    def quiet(self) -> None:
        """-q, which all of them have."""
        self.flag("-q", "no messages; the exit status tells")


def run(name: str, program: Callable[[Sequence[str]], int], argv: Sequence[str] | None) -> int:
    """Call `program` and return its exit status; what it raises becomes the sentence on standard error."""
    try:
        status = program(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except ClufsError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output wants no more of it; Python would complain of it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Refused.exit_code
    except KeyboardInterrupt:
        return 128 + 2
    return status


class Teller:
    """Messages of a program: one sentence each on standard error, none if it is quiet."""

    def __init__(self, program: str, quiet: bool) -> None:
        self._program = program
        self._quiet = quiet

    def tell(self, error: ClufsError) -> int:
        """Say why; return the exit status that goes with it."""
        sentences = error.problems if isinstance(error, ProfileRefused) else (str(error),)
        # A wrong argument is told all the same: nothing at all was done.
        if not self._quiet or isinstance(error, UsageError):
            for sentence in sentences:
                print(f"{self._program}: {sentence}", file=sys.stderr)
        return error.exit_code

    def each(self, names: Sequence[str], act: Callable[[str], int]) -> int:
        """Act on all of them, whatever becomes of one; return the first status that is not 0."""
        worst = 0
        for name in names:
            try:
                status = act(name)
            except ClufsError as error:
                status = self.tell(error)
            worst = worst or status
        return worst


@dataclass(frozen=True, slots=True)
class Standing:
    """Target, state or count of a resource on a member; member: empty where none is named."""

    what: str
    member: str

    def __str__(self) -> str:
        return f"{self.what} on {self.member}" if self.member else self.what


def _standings(text: str) -> list[Standing]:
    parts = [line.partition(" on ") for line in text.splitlines() if line.strip()]
    return [Standing(what.strip(), member.strip()) for what, _, member in parts]


class Resource:
    """The directory of a registered resource."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.name = directory.name
        self.profile_text = self._text("profile")
        self.profile = values(self.profile_text.encode(), f"{self.name}/profile")

    def _text(self, file: str) -> str:
        """What a file says, empty if there is none. Raises Refused."""
        try:
            return (self.directory / file).read_text(errors="replace")
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise Refused(f"{error.filename}: {error.strerror}") from error

    @property
    def type(self) -> str:
        return self.profile.get("TYPE", "")

    @property
    def targets(self) -> list[Standing]:
        """TARGET; of a network, tape or changer one for each member."""
        return _standings(self._text("target"))

    @property
    def states(self) -> list[Standing]:
        """STATE, likewise."""
        return _standings(self._text("state"))

    @property
    def failure_counts(self) -> list[Standing]:
        """FAILURE_COUNT, likewise."""
        return _standings(self._text("failure_count"))

    @property
    def restart_count(self) -> str:
        return self._text("restart_count").strip()

    @property
    def uptime(self) -> str:
        """Starts and stops, a line each."""
        return self._text("uptime")

    @property
    def history(self) -> str:
        """Every transition, a line each."""
        return self._text("history")

    @property
    def required(self) -> list[str]:
        return self.profile.get("REQUIRED_RESOURCES", "").split()

    def is_online(self, member: str = "") -> bool:
        """Whether it runs, on that member or on any."""
        return any(state.what == "ONLINE" and member in ("", state.member) for state in self.states)

    def is_stopped(self) -> bool:
        """Whether nothing is left to stop, nor would be started."""
        return all(each.what == "OFFLINE" for each in [*self.targets, *self.states])


def values(text: bytes, where: str) -> dict[str, str]:
    """What a profile or template says, as it stands there. Raises ProfileRefused."""
    return {line.attribute: line.value for line in parse(text, where)}


class Tree:
    """A /clu, or a copy of one."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or Path(os.environ.get(ROOT_VARIABLE) or ROOT)
        self.resources = self.root / "resources"
        self.scripts = self.root / "scripts"
        self.templates = self.root / "templates"
        if not self.resources.is_dir():
            raise Refused(f"{self.resources} is not there: is clufsd running?")

    def member(self, name: str) -> Path:
        """The directory of a member. Raises Refused for one that is not configured."""
        members = self.root / "members"
        if not members.is_dir():
            raise Refused(f"{members} is not there: is clufsd running?")
        if not name or "/" in name or name.startswith(".") or not (members / name).is_dir():
            raise Refused(f"Could not find member '{name}': it is not configured")
        return members / name

    def directory(self, name: str) -> Path:
        """Where a registered resource is; raises Refused if it is not registered."""
        directory = self.resources / name
        if not name or "/" in name or name.startswith(".") or not (directory / "profile").is_file():
            raise Refused(f"Could not find resource '{name}': it is not registered")
        return directory

    def resource(self, name: str) -> Resource:
        """A registered resource. Raises Refused."""
        return Resource(self.directory(name))

    def names(self) -> list[str]:
        """The names of all registered resources, sorted."""
        entries = sorted(self.resources.iterdir())
        return [each.name for each in entries if (each / "profile").is_file()]

    def all(self) -> list[Resource]:
        """All registered resources, sorted by name. One that goes away meanwhile is left out."""
        found = []
        for name in self.names():
            try:
                found.append(self.resource(name))
            except Refused:
                if (self.resources / name).exists():
                    raise
        return found

    def applications(self) -> list[Resource]:
        """All registered applications, sorted by name."""
        return [each for each in self.all() if each.type == APPLICATION]

    def why(self, error: OSError) -> str:
        """The sentence that clufsd keeps of our last refusal, if it is of that errno; else the errno's own."""
        own = str(os.getpid())
        said = error.strerror or str(error)
        try:
            lines = (self.root / "status" / "errors").read_text(errors="replace").splitlines()
        except OSError:
            return said
        for line in lines:
            words = line.split(" ", 4)
            if len(words) == 5 and words[1] == own and getattr(errno, words[3], 0) == error.errno:
                said = words[4]
        return said


def in_order_of_need(resources: Sequence[Resource]) -> list[Resource]:
    """Each resource after those that it requires; otherwise in the order given."""
    by_name = {each.name: each for each in resources}
    order = after_required({each.name: each.required for each in resources})
    return [by_name[name] for name in order]


def after_required(required: Mapping[str, Sequence[str]]) -> list[str]:
    """The names, each after those of them that it requires; otherwise in the order given."""
    left = dict(required)
    ordered = []
    while left:
        free = (name for name, needs in left.items() if not left.keys() & needs)
        # In a circle, which no profile may close, any is as good.
        following = next(free, next(iter(left)))
        del left[following]
        ordered.append(following)
    return ordered


def split_variables(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The resources among the words, and the values of `USR_name=value`."""
    variables = dict(word.split("=", 1) for word in words if _is_variable(word))
    return [word for word in words if not _is_variable(word)], variables


def _is_variable(word: str) -> bool:
    return word.startswith("USR_") and "=" in word


_LOCALE = ("LC_ALL", "LC_CTYPE", "LC_MONETARY", "LC_NUMERIC", "LC_TIME", "LC_MESSAGES")


def word(text: str) -> str:
    """`text` as one word of a control line: blanks, backslashes and control characters as `\\ooo`."""
    return "".join(
        char if char.isprintable() and char not in " \\" else _octal(char) for char in text
    )


def _octal(char: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in char.encode(errors="surrogateescape"))


def control_line(verb: str, *words: str, variables: Mapping[str, str] | None = None) -> str:
    """A line for `control`, with what of our environment the action script may want (manual 2.3.3, 2.3.4)."""
    environment = os.environ
    line = [verb, *words]
    line += [word(f"{name}={value}") for name, value in (variables or {}).items()]
    if environment.get("_CAA_UI_FMT") in ("v", "vs"):
        line.append(f"output={environment['_CAA_UI_FMT']}")
    line.append(word("locale=" + " ".join(_locale())))
    return " ".join(line) + "\n"


def _locale() -> list[str]:
    """The client's locale, category by category, as setlocale(3) finds it."""
    try:
        # Python may have set LC_CTYPE in its own environment (PEP 538).
        pairs = Path("/proc/self/environ").read_text(errors="replace").split("\0")
    except OSError:
        pairs = [f"{name}={value}" for name, value in os.environ.items()]
    given = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    return [given.get("LC_ALL") or given.get(name) or given.get("LANG") or "C" for name in _LOCALE]


def command(tree: Tree, name: str, line: str, quiet: bool) -> int:
    """Give a resource's `control` one line: `converse`. Raises Refused."""
    control = tree.directory(name) / "control"
    see = f"caa_stat {name} shows what became of it"
    return converse(tree, control, f"resource '{name}'", line, quiet, see)


def converse(tree: Tree, path: Path, whose: str, line: str, quiet: bool, see: str) -> int:
    """Write one line to a file, print what it answers, return the exit status that ends it.

    Raises Refused with the reason if the line is refused, or if there is no end to what it answers.
    whose: names the file in that sentence; see: says where to look then.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise Refused(f"{path}: {tree.why(error)}") from error
    try:
        if _is_of_a_copy(fd):
            raise Refused(f"{path}: a copy of /clu takes no orders")
        os.write(fd, line.encode(errors="surrogateescape"))
        for answer in _lines(fd):
            verb, equals, status = answer.partition("=")
            if verb == "exit" and equals and status.isdecimal():
                return int(status)
            if not quiet:
                print(answer, flush=True)
    except OSError as error:
        raise Refused(f"{whose}: {tree.why(error)}") from error
    finally:
        os.close(fd)
    raise Refused(f"{whose}: the answer broke off; {see}")


def _is_of_a_copy(fd: int) -> bool:
    """Whether a file is an ordinary one: nobody would answer what is written to it."""
    about = os.fstat(fd)
    if not stat.S_ISREG(about.st_mode):
        return False
    device = f"{os.major(about.st_dev)}:{os.minor(about.st_dev)}"
    for mount in Path("/proc/self/mountinfo").read_text().splitlines():
        words = mount.split()
        if words[2] == device:
            return not words[words.index("-") + 1].startswith("fuse")
    return False


def _lines(fd: int) -> Iterator[str]:
    rest = b""
    while data := os.read(fd, 65536):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")
