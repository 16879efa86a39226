"""The lab's cables: a bridge in the switch's own namespace, a veth pair to each member, and cuts.

The machine itself has no link and no address of the lab.
"""

from __future__ import annotations

import subprocess

from clufs.errors import MissingPart, ProgramError
from clufs.lab.plan import SWITCH, Lab, LabMember

_BRIDGE = "br0"
_CABLE = "eth0"
# A hardware address that nobody has: frames to it are lost without a word, as in a broken cable.
_NOBODY = "02:00:00:00:00:00"


def ip(namespace_of: int, *words: str, may_fail: bool = False) -> None:
    """Run ip(8) in the network namespace of a process. Raises ProgramError."""
    command = ["nsenter", "-t", str(namespace_of), "-n", "--", "ip", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise MissingPart("nsenter is missing: apt-get install util-linux") from None
    if done.returncode != 0 and not may_fail:
        raise ProgramError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def make_bridge(switch: int) -> None:
    """Give the switch its bridge."""
    # Without spanning tree a port forwards at once.
    ip(switch, "link", "add", _BRIDGE, "type", "bridge", "stp_state", "0", "forward_delay", "0")
    ip(switch, "link", "set", _BRIDGE, "up")


def attach(switch: int, init: int, member: LabMember) -> None:
    """Lay a member's cable; also instead of the one that it had before it was killed."""
    ip(switch, "link", "del", member.port, may_fail=True)
    words = ["type", "veth", "peer", "name", _CABLE, "netns", str(init)]
    ip(switch, "link", "add", member.port, *words)
    ip(switch, "link", "set", member.port, "master", _BRIDGE, "up")
    ip(init, "link", "set", "lo", "up")
    ip(init, "addr", "add", f"{member.address}/24", "dev", _CABLE)
    ip(init, "link", "set", _CABLE, "up")


def read_cuts(lab: Lab) -> list[tuple[str, ...]]:
    """The cuts that hold: one name each for a cable, two for a pair."""
    try:
        lines = lab.cuts.read_text().splitlines()
    except FileNotFoundError:
        return []
    return [tuple(line.split()) for line in lines]


def cut(lab: Lab, inits: dict[str, int], names: tuple[str, ...]) -> None:
    """Cut a member off (one name) or two members from each other."""
    cuts = read_cuts(lab)
    if names not in cuts:
        # On disk first: what was cut by a command that was killed can be seen and healed.
        lab.cuts.write_text("".join(f"{' '.join(one)}\n" for one in [*cuts, names]))
    apply_cuts(lab, inits)


def apply_cuts(lab: Lab, inits: dict[str, int]) -> None:
    """Make every cut true, also for members that were just started."""
    for names in read_cuts(lab):
        if len(names) == 1:
            _set_port(lab, inits, names[0], "down")
            continue
        for here, there in (names, names[::-1]):
            if here in inits:
                address = lab.member(there).address
                words = [address, "lladdr", _NOBODY, "nud", "permanent", "dev", _CABLE]
                ip(inits[here], "neigh", "replace", *words)


def heal(lab: Lab, inits: dict[str, int]) -> None:
    """Mend every cut."""
    for names in read_cuts(lab):
        if len(names) == 1:
            _set_port(lab, inits, names[0], "up")
            continue
        for here, there in (names, names[::-1]):
            if here in inits:
                address = lab.member(there).address
                ip(inits[here], "neigh", "del", address, "dev", _CABLE, may_fail=True)
    lab.cuts.unlink(missing_ok=True)


def _set_port(lab: Lab, inits: dict[str, int], name: str, state: str) -> None:
    """A member that is not there has no cable."""
    if name in inits:
        ip(inits[SWITCH], "link", "set", lab.member(name).port, state)
