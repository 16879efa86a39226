"""A cluster on one machine, up and down: members in namespaces, each with corosync, clufsd and /clu."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import clufs
from clufs.actions import leftovers
from clufs.errors import MissingPart, ProgramError, UsageError
from clufs.lab import array, enter, inside, network, plan, processes
from clufs.lab.plan import MOUNT_POINT, SWITCH, Facts, Lab, LabMember
from clufs.timeouts import LAB_END_S, LAB_EXEC_S, LAB_POLL_S, LAB_START_S, LAB_STOP_S
from clufs.tree.names import read_word

_KEY_BYTES = 128
_LOG_LINES_SHOWN = 5

# In the order in which they are started.
SERVICES = ("corosync", "clufsd")


def check_machine() -> None:
    """Raise MissingPart with the line that mends it, or UsageError for who is not root."""
    if os.geteuid() != 0:
        raise UsageError("a lab needs root: it makes namespaces and mounts")
    packages = {"corosync": "corosync", "ip": "iproute2", "unshare": "util-linux"}
    missing = [package for program, package in packages.items() if not shutil.which(program)]
    if missing:
        raise MissingPart(f"programs are missing: apt-get install {' '.join(missing)}")


# ------------------------------------------------------------------ up and down


def up(lab: Lab, facts: Facts) -> None:
    """Bring a lab up; returns when all members are in and every /clu answers.

    Raises UsageError if one is up there, MissingPart, or ProgramError with what a log said; then
    nothing is left.
    """
    check_machine()
    if facts.luns:
        array.check_machine(facts.array)
    _claim(lab, facts)
    try:
        _write_files(lab)
        processes.start(processes.KEEPER, [str(lab.directory)], [], _environment())
        network.make_bridge(_start_init(lab, SWITCH))
        if facts.luns:
            _start_array(lab)
        for member in lab.members():
            (member.directory / "clufs.toml").write_text(plan.clufs_toml(lab, member))
            _start_namespaces(lab, member)
        start(lab, lab.members())
    except BaseException:
        down(lab)
        raise


def _claim(lab: Lab, facts: Facts) -> None:
    """Make the directory this lab's, or raise UsageError."""
    try:
        check_free(lab)
        lab.directory.mkdir(parents=True, exist_ok=True)
        lab.write(facts)
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from error


def check_free(lab: Lab) -> None:
    """Raise UsageError if a lab is in that directory, or anything else."""
    lab.check_absent()
    if lab.directory.exists() and any(lab.directory.iterdir()):
        lab.check_absent()  # two at once: the other one has come first
        raise UsageError(f"{lab.directory} is not empty and not a lab's")


def _write_files(lab: Lab) -> None:
    # Loaded here: it takes longer than all else, and only a lab that comes up needs it.
    from clufs.cluster.authority import make_keys

    lab.root.mkdir()
    lab.key.touch(mode=0o400)
    lab.key.write_bytes(secrets.token_bytes(_KEY_BYTES))
    everybody = lab.members()
    make_keys(lab.keys, [member.name for member in everybody])
    for member in everybody:
        for directory in ("corosync", "state"):
            (member.directory / directory).mkdir(parents=True)
        conf = plan.corosync_conf(lab, member, everybody)
        (member.directory / "corosync.conf").write_text(conf)


def down(lab: Lab) -> None:
    """End everything of the lab and remove its directory, also what is left of a broken one.

    Raises UsageError if nothing of a lab is there or, before anything is ended, if somebody has mounted
    something in it: to remove the directory would be to remove what is in there.
    """
    nothing = UsageError(f"no lab is up in {lab.directory}")
    if not lab.directory.is_dir():
        raise nothing
    with lab.locked():
        left = list(processes.inits(lab.directory).values())
        keeper = processes.living(lab.keeper)
        if not left and not keeper and not lab.exists():
            raise nothing
        if foreign := _mounts_below(lab.directory):
            raise UsageError(f"{foreign[0]} is mounted, and not the lab's: umount it first")
        if keeper is not None:
            left.append(keeper)
        processes.kill(left, LAB_END_S)
        # A member that is killed leaves its applications' cgroups, empty.
        for state in lab.directory.glob("*/state"):
            leftovers.forget_cgroups(state)
        _remove(lab.directory)


def _mounts_below(directory: Path) -> list[str]:
    """What is mounted in it here; what the members mount is in namespaces of theirs."""
    above = f"{directory.resolve()}/"
    lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    paths = [os.fsdecode(read_word(line.split(b" ")[4])) for line in lines]
    return [path for path in paths if path.startswith(above)]


def _remove(directory: Path) -> None:
    """Raises ProgramError if something in it cannot be removed; a mount point stays, emptied."""
    try:
        shutil.rmtree(directory)
    except OSError as error:
        if error.errno != errno.EBUSY or Path(error.filename) != directory:
            raise ProgramError(f"{error.filename}: {error.strerror}") from error


# ------------------------------------------------------------------ members


def _environment() -> dict[str, str]:
    """The environment of the lab's programs: they run this clufs, installed or not."""
    here = str(Path(clufs.__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": here}


def _start_init(lab: Lab, name: str) -> int:
    """Start process 1 of a member in namespaces of its own; its pid. Raises ProgramError."""
    flags = ["--fork", "--kill-child", "--pid", "--net", "--mount", "--uts", "--ipc"]
    prefix = ["unshare", *flags, "--propagation", "private"]
    words = [str(lab.directory), name, MOUNT_POINT]
    processes.start(processes.INIT, words, prefix, _environment())
    return _init(lab, name)


def _init(lab: Lab, name: str) -> int:
    init = processes.living(lab.init(name))
    if init is None:
        raise ProgramError(
            f"{name} was killed meanwhile, as if it was fenced: clufs lab restart {name}"
        )
    return init


def _start_array(lab: Lab) -> None:
    """Start the array beside the switch, and make clufs' own LUNs what they are."""
    switch = _init(lab, SWITCH)
    network.make_storage_bridge(switch)
    prefix = [*inside.enter(switch, "/"), "setsid", "--fork"]
    processes.start(processes.ARRAY, [str(lab.directory)], prefix, _environment())
    facts = lab.facts()
    for lun in range(facts.luns - facts.own + 1, facts.luns + 1):
        _format(switch, lab.urls(lun)[0], facts)


def _format(switch: int, url: str, facts: Facts) -> None:
    """Make a LUN clufs' own. Raises ProgramError."""
    program = [sys.executable, "-m", "clufs.cli.clufs", "lun", "format", url]
    words = ["--cluster", plan.CLUSTER, "--members", str(facts.members)]
    # Time enough to resume by hand who was paused, before its watchdog ends it; and to see what members do without
    # the quorum disk, before their leases end them.
    words += ["--io-timeout", "3" if facts.quorum_disk else "1", "--watchdog", "15"]
    command = [*inside.enter(switch, "/"), *program, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment())
    if done.returncode != 0:
        raise ProgramError(done.stderr.strip() or f"{url} could not be formatted")


def _start_namespaces(lab: Lab, member: LabMember) -> None:
    init, switch = _start_init(lab, member.name), _init(lab, SWITCH)
    network.attach(switch, init, member)
    if lab.facts().luns:
        network.attach_storage(switch, init, member)


def start(lab: Lab, members: list[LabMember]) -> None:
    """Start the services of members whose namespaces are there, and wait for them."""
    network.apply_cuts(lab, processes.inits(lab.directory))
    for service in SERVICES:
        for member in members:
            _start_service(_init(lab, member.name), member, service)
        for member in members:
            _await_service(lab, member, service)


def _start_service(init: int, member: LabMember, service: str) -> None:
    command = ["setsid", "--fork", *member.service(service)]
    # What corosync says before it has its own log file, and all that clufsd says.
    with open(member.directory / f"{service}.out", "wb") as out:
        subprocess.run(
            [*inside.enter(init, "/"), *command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=_environment(),
            check=True,
        )


def _await_service(lab: Lab, member: LabMember, service: str) -> None:
    """Returns when it is ready. Raises ProgramError with what it lacks, or with its last words."""
    init = _init(lab, member.name)
    deadline = time.monotonic() + LAB_EXEC_S
    # It is started by setsid(1), which may not have become it yet.
    while processes.service(init, member.service(service)) is None and time.monotonic() < deadline:
        time.sleep(LAB_POLL_S)
    deadline = time.monotonic() + LAB_START_S
    while lacks := inside.lacking(lab, init, member, service):
        if processes.service(init, member.service(service)) is None:
            words = _last_words(member, service)
            _init(lab, member.name)
            raise ProgramError(f"{member.name}: {service} ended: {words}")
        if time.monotonic() > deadline:
            words = f"{lacks} after {LAB_START_S:g} s: {_last_words(member, service)}"
            raise ProgramError(f"{member.name}: {service} is not ready: {words}")
        time.sleep(LAB_POLL_S)


def _last_words(member: LabMember, service: str) -> str:
    lines = inside.service_output(member, service).splitlines()
    return " / ".join(lines[-_LOG_LINES_SHOWN:]) or "it said nothing"


# ------------------------------------------------------------------ what a person does to it


def living(lab: Lab, name: str) -> tuple[LabMember, int]:
    """A member and its process 1. Raises UsageError if there is no such member or it is dead."""
    member = lab.member(name)
    init = processes.living(lab.init(name))
    if init is None:
        raise UsageError(f"{name} is dead: clufs lab restart {name}")
    return member, init


def execute(lab: Lab, name: str, command: list[str]) -> int:
    """Run a command in a member as if it ran here; its exit status."""
    _, init = living(lab, name)
    return enter.run(init, command)


def _service(lab: Lab, name: str, what: str) -> int:
    """The process of a member's service. Raises UsageError if it does not run."""
    member, init = living(lab, name)
    pid = processes.service(init, member.service(what))
    if pid is None:
        raise UsageError(f"{name}: {what} does not run: clufs lab restart {name} --what {what}")
    return pid


def kill(lab: Lab, name: str, what: str) -> None:
    """SIGKILL a member or one of its services, and see it gone."""
    pid = living(lab, name)[1] if what == "member" else _service(lab, name, what)
    processes.kill([pid], LAB_END_S)


def pause(lab: Lab, name: str, what: str) -> None:
    """Stop a member with all its processes, or one of its services, as it stands.

    Raises UsageError for a whole one whose supervisor counts as a hardware watchdog, which nothing would stop.
    """
    if what == "member" and lab.facts().trusted:
        raise UsageError(
            "its watchdog would stand still, too, and it counts as one of hardware here"
        )
    _signal(lab, name, what, signal.SIGSTOP)


def resume(lab: Lab, name: str, what: str) -> None:
    """Let go on what was paused."""
    _signal(lab, name, what, signal.SIGCONT)


def _signal(lab: Lab, name: str, what: str, number: signal.Signals) -> None:
    if what == "member":
        processes.signal_member(living(lab, name)[1], number)
    else:
        processes.send(_service(lab, name, what), number)


def restart(lab: Lab, name: str, what: str) -> None:
    """End it in order if it is there, start it, and wait until it answers. Its disk stays.

    A member that was killed is started when the others are done with it: a machine that comes back
    while they fence it would be killed again.
    """
    member = lab.member(name)
    if what == "member":
        _stop(lab, member)
        inside.wait_until_out(lab, name)
        _start_namespaces(lab, member)
        start(lab, [member])
        return
    member, init = living(lab, name)
    pid = processes.service(init, member.service(what))
    if pid is not None:
        processes.end(pid, LAB_STOP_S, LAB_END_S)
    _start_service(init, member, what)
    _await_service(lab, member, what)


def _stop(lab: Lab, member: LabMember) -> None:
    """End a member: its services in order, then all else."""
    init = processes.living(lab.init(member.name))
    if init is None:
        return
    for service in reversed(SERVICES):
        pid = processes.service(init, member.service(service))
        if pid is not None:
            processes.end(pid, LAB_STOP_S, LAB_END_S)
    processes.kill([init], LAB_END_S)


def cut(lab: Lab, names: tuple[str, ...]) -> None:
    """Cut one member off, or two from each other. Raises UsageError."""
    if len(set(names)) != len(names):
        raise UsageError("a member cannot be cut from itself")
    for name in names:
        lab.member(name)
    with lab.locked():
        network.cut(lab, processes.inits(lab.directory), tuple(sorted(names)))


def heal(lab: Lab) -> None:
    """Mend every cut."""
    lab.facts()
    with lab.locked():
        network.heal(lab, processes.inits(lab.directory))


def lun(lab: Lab, what: str, *words: object) -> None:
    """Let members see a LUN fail, or mend it. Raises UsageError, ProgramError."""
    _check_luns(lab)
    array.ask(lab, what, *map(str, words))


def _check_luns(lab: Lab) -> int:
    luns = lab.facts().luns
    if not luns:
        raise UsageError("this lab has no LUNs: clufs lab up --luns N")
    return luns


def lun_status(lab: Lab) -> list[str]:
    """A line for each LUN: whose it is, what its members see, the paths to it."""
    luns, own, said = _check_luns(lab), lab.facts().own, array.ask(lab, "show")
    return [
        f"{number} role={'clufs' if number > luns - own else 'data'} {words}: "
        + " ".join(lab.urls(number))
        for number, words in enumerate(said, 1)
    ]


def status(lab: Lab) -> list[str]:
    """A line for each member: what runs there, what it is cut from."""
    everybody, inits = lab.members(), processes.inits(lab.directory)
    cuts = network.read_cuts(lab)
    return [_status_line(member, inits.get(member.name), cuts) for member in everybody]


def _status_line(member: LabMember, init: int | None, cuts: list[tuple[str, ...]]) -> str:
    words = [member.name, f"address={member.address}", f"member={_state(init)}"]
    for service in SERVICES:
        pid = processes.service(init, member.service(service)) if init is not None else None
        words.append(f"{service}={_state(pid)}")
    for names in cuts:
        if member.name in names:
            others = [name for name in names if name != member.name]
            words.append(f"cut={others[0] if others else 'all'}")
    return " ".join(words)


def _state(pid: int | None) -> str:
    if pid is None:
        return "dead"
    return "paused" if processes.is_stopped(pid) else "up"
