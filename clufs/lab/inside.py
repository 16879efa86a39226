"""What happens inside a lab's member: commands run there, and whether its programs are ready."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

from clufs.lab import network, processes
from clufs.lab.plan import MOUNT_POINT, Lab, LabMember
from clufs.timeouts import LAB_LOOK_S, LAB_OUT_S, LAB_POLL_S


def enter(init: int, directory: str) -> list[str]:
    """The words before a command that let it run in a member; it outlives whoever starts it."""
    kinds = ["--mount", "--uts", "--ipc", "--net", "--pid"]
    return ["nsenter", "-t", str(init), *kinds, f"--wdns={directory}", "--"]


def output(init: int, *command: str) -> str:
    """What a command prints there; empty if it fails or does not answer in time."""
    words = [*enter(init, "/"), "setpriv", "--pdeathsig", "KILL", "--", *command]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=LAB_LOOK_S)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout if done.returncode == 0 else ""


def running(lab: Lab, service: str) -> set[str]:
    """The names of the members where a service runs and is not paused."""
    inits = processes.inits(lab.directory)
    found = set()
    for member in lab.members():
        init = inits.get(member.name)
        pid = processes.service(init, member.service(service)) if init is not None else None
        if pid is not None and not processes.is_stopped(pid):
            found.add(member.name)
    return found


def lacking(lab: Lab, init: int, member: LabMember, service: str) -> str:
    """What a member's service still lacks to be ready, in a few words; nothing if it is.

    Ready is corosync when it sees, and clufsd when its cluster has, all that can be there: whoever
    is dead, paused or cut off is not waited for.
    """
    if service == "corosync":
        return _corosync_lacks(lab, init)
    if f"ready {MOUNT_POINT}\n" not in service_output(member, service):
        return "it is not mounted"
    return _cluster_lacks(lab, init, member)


def wait_until_out(lab: Lab, name: str) -> None:
    """Wait until no member that decides counts a dead one as its own, or as one to be fenced.

    Returns after LAB_OUT_S in any case: without quorum, it may have to be back for the others to decide.
    """
    deadline = time.monotonic() + LAB_OUT_S
    while time.monotonic() < deadline and any(
        _still_counts(lab, init, name) for init in _deciding(lab)
    ):
        time.sleep(LAB_POLL_S)


def _deciding(lab: Lab) -> Iterator[int]:
    """Process 1 of each member whose cluster has a quorum."""
    inits = processes.inits(lab.directory)
    for name in running(lab, "clufsd"):
        quorum = output(inits[name], "cat", f"{MOUNT_POINT}/status/quorum")
        if "QUORATE=1" in quorum.splitlines():
            yield inits[name]


def _still_counts(lab: Lab, init: int, name: str) -> bool:
    state = output(init, "cat", f"{MOUNT_POINT}/members/{name}/state").strip()
    return state in ("member", "joining", "lost", "fencing")


def service_output(member: LabMember, service: str) -> str:
    """All that a service printed since its last start."""
    return (member.directory / f"{service}.out").read_text(errors="replace")


def _corosync_lacks(lab: Lab, init: int) -> str:
    # It exits with 1 as long as there is no quorum.
    words = ["sh", "-c", "corosync-quorumtool -s || :"]
    lines = [line.split() for line in output(init, *words).splitlines()]
    seen = next((int(words[1]) for words in lines if words[:1] == ["Nodes:"]), 0)
    wanted = 1 if network.read_cuts(lab) else len(running(lab, "corosync"))
    return "" if seen >= wanted else f"it sees {seen} of {wanted} nodes"


def _cluster_lacks(lab: Lab, init: int, member: LabMember) -> str:
    status = f"{MOUNT_POINT}/status"
    text = output(init, "cat", f"{status}/cluster", f"{status}/quorum")
    facts = dict(line.partition("=")[::2] for line in text.splitlines())
    if not facts:
        return f"{MOUNT_POINT} does not answer"
    there = running(lab, "clufsd")
    of_disk = lab.facts().disk_votes
    most = 2 * (len(there) + of_disk) > len(lab.members()) + of_disk
    if not most or network.read_cuts(lab):
        return ""
    missing = sorted(there - set(facts.get("MEMBERS", "").split()))
    if missing:
        return f"not in its cluster: {' '.join(missing)}"
    return "" if facts.get("QUORATE") == "1" else "it has no quorum"
