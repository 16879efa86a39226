"""clufs doctor: what this machine lacks for /clu, and the line that mends it."""

import dataclasses
import errno
import importlib
import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clufs import config
from clufs.errors import ConfigError, MissingPart, UsageError

PYTHON_MIN = (3, 11)
PYFUSE3_MIN = (3, 5)
BUILD_TOOLS = "as root: apt-get install gcc libc6-dev pkg-config libfuse3-dev"

USAGE = "usage: clufs doctor [--config FILE] [MOUNTPOINT]"


@dataclass(frozen=True)
class Machine:
    """The places and facts that the checks look at; tests put others there."""

    uid: int = field(default_factory=os.geteuid)
    dev_fuse: Path = Path("/dev/fuse")
    filesystems: Path = Path("/proc/filesystems")
    fuse_conf: Path = Path("/etc/fuse.conf")
    helpers: Path = Path("/sbin")
    config_file: Path = Path(config.CONFIG_FILE)
    mount_point: Path = Path("/clu")
    search_path: str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    python: tuple[int, ...] = sys.version_info[:3]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check. mend: the line that mends it; essential: without it there is no /clu."""

    ok: bool
    what: str
    mend: str = ""
    essential: bool = True

    def __str__(self) -> str:
        if self.ok:
            return f"ok {self.what}"
        return f"{'MISSING' if self.essential else 'note'} {self.what}: {self.mend}"


def check_python(machine: Machine) -> Finding:
    """Python is new enough."""
    version = ".".join(map(str, machine.python))
    wanted = ".".join(map(str, PYTHON_MIN))
    mend = f"install Python {wanted} or later and say make PYTHON=... run"
    return Finding(machine.python >= PYTHON_MIN, f"Python {version}", mend)


def check_kernel(machine: Machine) -> Finding:
    """The kernel has FUSE."""
    try:
        known = {line.split()[-1] for line in machine.filesystems.read_text().splitlines()}
    except OSError:
        known = set()
    return Finding("fuse" in known, "fuse in the kernel", "modprobe fuse")


def check_dev_fuse(machine: Machine) -> Finding:
    """/dev/fuse can be opened."""
    what = f"{machine.dev_fuse}"
    try:
        os.close(os.open(machine.dev_fuse, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return Finding(False, what, f"modprobe fuse, or mknod -m 666 {what} c 10 229")
    except PermissionError:
        return Finding(False, f"right to open {what}", f"as root: chmod 666 {what}")
    except OSError as error:
        return Finding(False, f"{what} ({error.strerror})", "modprobe fuse")
    return Finding(True, what)


def check_fusermount(machine: Machine) -> Finding:
    """fuse3's programs are installed."""
    found = shutil.which("fusermount3", path=machine.search_path)
    return Finding(found is not None, found or "fusermount3", "apt-get install fuse3")


def check_user_allow_other(machine: Machine) -> Finding:
    """Other users may be let in; root needs no permission for that."""
    what = f"user_allow_other in {machine.fuse_conf}"
    if machine.uid == 0:
        return Finding(True, f"{what} (not needed by root)")
    try:
        lines = machine.fuse_conf.read_text().splitlines()
    except OSError:
        lines = []
    mend = f"as root: echo user_allow_other >> {machine.fuse_conf}"
    return Finding("user_allow_other" in (line.strip() for line in lines), what, mend)


def check_pyfuse3(_machine: Machine) -> Finding:
    """pyfuse3 is there and new enough."""
    wanted = ".".join(map(str, PYFUSE3_MIN))
    mend = f"{BUILD_TOOLS}; make clean run"
    try:
        importlib.import_module("pyfuse3")
        version = importlib.metadata.version("pyfuse3")
    except ImportError as error:
        return Finding(False, f"pyfuse3 ({error})", mend)
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    return Finding(numbers >= PYFUSE3_MIN, f"pyfuse3 {version} (at least {wanted})", mend)


def check_lowlevel(_machine: Machine) -> Finding:
    """The C extension was built and loads."""
    mend = f"{BUILD_TOOLS}; make clean run"
    try:
        importlib.import_module("clufs.fuse._lowlevel")
    except ImportError as error:
        return Finding(False, f"clufs.fuse._lowlevel ({error})", mend)
    return Finding(True, "clufs.fuse._lowlevel")


def check_pidfd(_machine: Machine) -> Finding:
    """The kernel has pidfds, by which the daemon sees processes end."""
    mend = "boot Linux 5.3 or later"
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as error:
        return Finding(False, f"pidfd_open ({error})", mend)
    return Finding(True, "pidfd_open")


def check_config(machine: Machine) -> Finding:
    """The configuration, if there is one, says nothing impossible."""
    path = machine.config_file
    if not path.exists():
        return Finding(True, f"{path} (not there, nor needed by a cluster of one)")
    try:
        config.load(path)
    except ConfigError as error:
        return Finding(False, f"a usable configuration ({error})", "correct it; see clufs.toml(5)")
    return Finding(True, f"{path}")


def configured(machine: Machine) -> config.Config:
    """What the configuration says; the defaults if it is not there or not usable."""
    try:
        return config.load(machine.config_file if machine.config_file.exists() else None)
    except ConfigError:
        return config.Config()


def check_state(machine: Machine) -> Finding:
    """The state directory can be written, or made."""
    state = config.state_dir(None, configured(machine).daemon.state)
    mend = f"as root: install -d -o $(id -un) {state} (or clufsd --state DIR)"
    return Finding(_can_write(state), f"state directory {state}", mend)


def check_mount_point(machine: Machine) -> Finding:
    """The mount point is a directory, or can be made."""
    point = machine.mount_point
    mend = f"as root: install -d -o $(id -un) {point}"
    try:
        os.stat(point)
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            # So a killed daemon leaves it.
            return Finding(True, f"mount point {point} (a dead mount, cleared at the next start)")
    return Finding(_can_write(point), f"mount point {point}", mend)


def check_helpers(machine: Machine) -> Finding:
    """mount -t clufs works; nothing else needs it."""
    helper = machine.helpers / "mount.clufs"
    return Finding(helper.exists(), str(helper), "make install", essential=False)


def _can_write(path: Path) -> bool:
    """Whether the directory can be written or, if absent, made below its nearest ancestor."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path.is_dir() and os.access(path, os.W_OK | os.X_OK)


CHECKS: tuple[Callable[[Machine], Finding], ...] = (
    check_python,
    check_kernel,
    check_dev_fuse,
    check_fusermount,
    check_user_allow_other,
    check_pyfuse3,
    check_lowlevel,
    check_pidfd,
    check_config,
    check_state,
    check_mount_point,
    check_helpers,
)


def examine(machine: Machine) -> Iterator[Finding]:
    """Yield the finding of every check, essential ones and notes."""
    for check in CHECKS:
        yield check(machine)
    found = configured(machine)
    if found.engine.kind == "corosync":
        # Loaded here: a cluster of one needs none of it.
        from clufs.cli import doctor_cluster

        yield from doctor_cluster.examine(machine, found)
    if found.luns:
        from clufs.cli import doctor_luns

        yield from doctor_luns.examine(machine, found)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line per check; 0 if nothing essential is missing."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    machine = Machine()
    if arguments[:1] == ["--config"] and len(arguments) > 1:
        machine = dataclasses.replace(machine, config_file=Path(arguments[1]))
        arguments = arguments[2:]
    if len(arguments) > 1 or any(word.startswith("-") for word in arguments):
        raise UsageError(USAGE)
    if arguments:
        machine = dataclasses.replace(machine, mount_point=Path(arguments[0]))
    healthy = True
    for finding in examine(machine):
        print(finding)
        healthy &= finding.ok or not finding.essential
    return 0 if healthy else MissingPart.exit_code
