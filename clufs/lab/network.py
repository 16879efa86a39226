"""The lab's cables: a bridge in the switch's own namespace, a veth pair to each member, and cuts.

The machine itself has no link and no address of the lab.
"""

from __future__ import annotations

import subprocess

from clufs.errors import MissingPart, ProgramError
from clufs.lab.plan import PORTALS, SWITCH, Lab, LabMember

_BRIDGE = "br0"
_STORAGE_BRIDGE = "br1"
_BRIDGE_ADDRESS = "02:63:6c:75:66:73"
_CABLE = "eth0"
_STORAGE_CABLE = "san0"
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
    _make_bridge(switch, _BRIDGE)


def make_storage_bridge(switch: int) -> None:
    """Give it another one, on which the array has its addresses: a cut cable of a member is not its path to a LUN."""
    ip(switch, "link", "set", "lo", "up")
    _make_bridge(switch, _STORAGE_BRIDGE)
    for address in PORTALS:
        ip(switch, "addr", "add", f"{address}/24", "dev", _STORAGE_BRIDGE)


def _make_bridge(switch: int, name: str) -> None:
    # Without spanning tree a port forwards at once. With an address of its own the bridge keeps it when a
    # port goes: else it takes another port's, and nobody reaches the array until all have asked anew.
    kind = ("type", "bridge", "stp_state", "0", "forward_delay", "0")
    ip(switch, "link", "add", name, "address", _BRIDGE_ADDRESS, *kind)
    ip(switch, "link", "set", name, "up")


def attach(switch: int, init: int, member: LabMember) -> None:
    """Lay a member's cable; also instead of the one that it had before it was killed."""
    ip(init, "link", "set", "lo", "up")
    _lay(switch, member.port, _BRIDGE, init, _CABLE, member.address)


def attach_storage(switch: int, init: int, member: LabMember) -> None:
    """Lay its cable to the array."""
    _lay(switch, member.storage_port, _STORAGE_BRIDGE, init, _STORAGE_CABLE, member.storage)


def _lay(switch: int, port: str, bridge: str, init: int, cable: str, address: str) -> None:
    ip(switch, "link", "del", port, may_fail=True)
    ip(switch, "link", "add", port, "type", "veth", "peer", "name", cable, "netns", str(init))
    ip(switch, "link", "set", port, "master", bridge, "up")
    ip(init, "addr", "add", f"{address}/24", "dev", cable)
    ip(init, "link", "set", cable, "up")


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
