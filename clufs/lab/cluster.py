"""A cluster on one machine, up and down: members in namespaces, each with corosync, clufsd and /clu."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import clufs
from clufs.errors import ClufsError, MissingPart, ProgramError, UsageError
from clufs.lab import network, plan, processes
from clufs.lab.plan import MOUNT_POINT, SWITCH, Facts, Lab, LabMember
from clufs.timeouts import LAB_END_S, LAB_EXEC_S, LAB_START_S

_KEY_BYTES = 128
_POLL_S = 0.05
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


def up(lab: Lab, count: int) -> None:
    """Bring a lab of `count` members up; returns when all are in and every /clu answers.

    Raises UsageError if one is up there, MissingPart, or ProgramError with what a log said; then
    nothing is left.
    """
    check_machine()
    if lab.exists() or processes.inits(lab.directory):
        raise UsageError(f"a lab is up in {lab.directory}: lab down")
    try:
        _write_files(lab, count)
        network.make_bridge(_start_init(lab, SWITCH))
        for member in lab.members():
            _start_namespaces(lab, member)
        start(lab, lab.members())
    except BaseException:
        down(lab)
        raise


def _write_files(lab: Lab, count: int) -> None:
    if lab.directory.exists() and any(lab.directory.iterdir()):
        raise UsageError(f"{lab.directory} is not empty and not a lab's")
    lab.directory.mkdir(parents=True, exist_ok=True)
    mount_point = Path(MOUNT_POINT)
    # A member's root is the machine's: its mount point must be there, as long as the lab is.
    lab.write(Facts(count, made_mount_point=not mount_point.exists()))
    mount_point.mkdir(exist_ok=True)
    lab.key.touch(mode=0o400)
    lab.key.write_bytes(secrets.token_bytes(_KEY_BYTES))
    everybody = lab.members()
    for member in everybody:
        for directory in ("corosync", "state"):
            (member.directory / directory).mkdir(parents=True)
        conf = plan.corosync_conf(lab, member, everybody)
        (member.directory / "corosync.conf").write_text(conf)
        (member.directory / "clufs.toml").write_text(plan.clufs_toml(member))


def down(lab: Lab) -> None:
    """End everything of the lab and remove its directory, also what is left of a broken one.

    Raises UsageError if nothing of a lab is there.
    """
    left = processes.inits(lab.directory)
    if not left and not lab.exists():
        raise UsageError(f"no lab is up in {lab.directory}")
    kill_inits(list(left.values()))
    made_mount_point = False
    with suppress(ClufsError):
        made_mount_point = lab.facts().made_mount_point
    if made_mount_point:
        with suppress(OSError):
            os.rmdir(MOUNT_POINT)
    shutil.rmtree(lab.directory)


def kill_inits(pids: list[int]) -> None:
    """Kill whole members at once; returns when the last process of each is gone."""
    processes.kill(pids, LAB_END_S)


# ------------------------------------------------------------------ members


def _environment() -> dict[str, str]:
    """The environment of the lab's programs: they run this clufs, installed or not."""
    here = str(Path(clufs.__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": here}


def _start_init(lab: Lab, name: str) -> int:
    """Start process 1 of a member in namespaces of its own; its pid. Raises ProgramError."""
    flags = ["--fork", "--kill-child", "--pid", "--net", "--mount", "--uts", "--ipc"]
    command = ["unshare", *flags, "--propagation", "private", sys.executable]
    init = subprocess.Popen(
        [*command, "-m", processes.INIT, str(lab.directory), name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(),
        start_new_session=True,
    )
    assert init.stdout is not None and init.stderr is not None
    with init.stdout, init.stderr:
        if init.stdout.readline() != b"ready\n":
            raise ProgramError(f"{name}: {init.stderr.read().decode(errors='replace').strip()}")
    # It is left to itself, and is no zombie of ours that anybody would have to await.
    init.returncode = 0
    return processes.inits(lab.directory)[name]


def _start_namespaces(lab: Lab, member: LabMember) -> int:
    init = _start_init(lab, member.name)
    network.attach(processes.inits(lab.directory)[SWITCH], init, member)
    return init


def start(lab: Lab, members: list[LabMember]) -> None:
    """Start the services of members whose namespaces are there, and wait for them."""
    inits = processes.inits(lab.directory)
    network.apply_cuts(lab, inits)
    for service in SERVICES:
        for member in members:
            _start_service(inits[member.name], member, service)
        for member in members:
            _await_service(lab, inits[member.name], member, service)


def _log(member: LabMember, service: str) -> Path:
    return member.directory / f"{service}.log"


def _start_service(init: int, member: LabMember, service: str) -> None:
    command = ["setsid", "--fork", *member.service(service)]
    # What corosync says before it has its own log file, and all that clufsd says.
    with open(member.directory / f"{service}.out", "wb") as out:
        subprocess.run(
            [*_enter(init, "/"), *command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=_environment(),
            check=True,
        )


def _await_service(lab: Lab, init: int, member: LabMember, service: str) -> None:
    answers = _corosync_answers if service == "corosync" else _clufsd_answers
    # Whoever is dead or cut off is not waited for.
    everybody = len(processes.inits(lab.directory)) - 1 if not network.read_cuts(lab) else 1
    command = member.service(service)
    # It is started by setsid(1), which may not have become it yet.
    _wait_for(lambda: processes.service(init, command) is not None, LAB_EXEC_S)
    ready = _wait_for(
        lambda: processes.service(init, command) is None or answers(init, member, everybody),
        LAB_START_S,
    )
    if processes.service(init, command) is None:
        raise ProgramError(f"{member.name}: {service} ended: {_last_words(member, service)}")
    if not ready:
        words = _last_words(member, service)
        raise ProgramError(
            f"{member.name}: {service} is not ready after {LAB_START_S:g} s: {words}"
        )


def _wait_for(true: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _corosync_answers(init: int, member: LabMember, everybody: int) -> bool:
    """Whether it answers and has seen as many nodes as there must be."""
    done = _inside(init, "corosync-quorumtool", "-s")
    nodes = [line for line in done.stdout.splitlines() if line.startswith("Nodes:")]
    return bool(nodes) and int(nodes[0].split()[1]) >= everybody


def _clufsd_answers(init: int, member: LabMember, everybody: int) -> bool:
    out = (member.directory / "clufsd.out").read_text(errors="replace")
    if f"ready {MOUNT_POINT}\n" not in out:
        return False
    return _inside(init, "stat", f"{MOUNT_POINT}/status").returncode == 0


def _last_words(member: LabMember, service: str) -> str:
    text = (member.directory / f"{service}.out").read_text(errors="replace")
    return " / ".join(text.splitlines()[-_LOG_LINES_SHOWN:]) or "it said nothing"


def _enter(init: int, directory: str) -> list[str]:
    kinds = ["--mount", "--uts", "--ipc", "--net", "--pid"]
    return ["nsenter", "-t", str(init), *kinds, f"--wdns={directory}", "--"]


def _inside(init: int, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*_enter(init, "/"), *command], capture_output=True, text=True)


# ------------------------------------------------------------------ what a person does to it


def living(lab: Lab, name: str) -> tuple[LabMember, int]:
    """A member and its process 1. Raises UsageError if there is no such member or it is dead."""
    member = lab.member(name)
    init = processes.inits(lab.directory).get(name)
    if init is None:
        raise UsageError(f"{name} is dead: lab restart {name}")
    return member, init


def command_in(lab: Lab, name: str, command: list[str]) -> list[str]:
    """The command line that runs `command` in a member, in the same directory if it is there too."""
    _, init = living(lab, name)
    here = os.getcwd()
    directory = here if os.path.isdir(f"/proc/{init}/root{here}") else "/"
    return [*_enter(init, directory), *command]


def _service(lab: Lab, name: str, what: str) -> int:
    """The process of a member's service. Raises UsageError if it does not run."""
    member, init = living(lab, name)
    pid = processes.service(init, member.service(what))
    if pid is None:
        raise UsageError(f"{name}: {what} does not run: lab restart {name} --what {what}")
    return pid


def kill(lab: Lab, name: str, what: str) -> None:
    """SIGKILL a member or one of its services, and see it gone."""
    pid = living(lab, name)[1] if what == "member" else _service(lab, name, what)
    processes.kill([pid], LAB_END_S)


def pause(lab: Lab, name: str, what: str) -> None:
    """Stop a member with all its processes, or one of its services, as it stands."""
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
    """Kill it if it is there, start it, and wait until it answers. Its disk stays."""
    member = lab.member(name)
    init = processes.inits(lab.directory).get(name)
    if what == "member":
        if init is not None:
            kill_inits([init])
        _start_namespaces(lab, member)
        start(lab, [member])
        return
    member, init = living(lab, name)
    pid = processes.service(init, member.service(what))
    if pid is not None:
        processes.kill([pid], LAB_END_S)
    _start_service(init, member, what)
    _await_service(lab, init, member, what)


def cut(lab: Lab, names: tuple[str, ...]) -> None:
    """Cut one member off, or two from each other. Raises UsageError."""
    if len(set(names)) != len(names):
        raise UsageError("a member cannot be cut from itself")
    for name in names:
        lab.member(name)
    network.cut(lab, processes.inits(lab.directory), tuple(sorted(names)))


def heal(lab: Lab) -> None:
    """Mend every cut."""
    lab.facts()
    network.heal(lab, processes.inits(lab.directory))


def status(lab: Lab) -> list[str]:
    """A line for each member: what runs there, and what it is cut from."""
    inits = processes.inits(lab.directory)
    cuts = network.read_cuts(lab)
    return [_status_line(member, inits.get(member.name), cuts) for member in lab.members()]


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
