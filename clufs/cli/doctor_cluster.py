"""The part of clufs doctor that is about a cluster of several members: corosync, keys, fencing agents."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from cryptography import x509
from cryptography.x509.oid import NameOID

from clufs.cli.doctor import Finding, Machine
from clufs.cluster import corosync_config, libcorosync
from clufs.cluster.keys import Keys
from clufs.config import Config, LunAgent
from clufs.errors import ClufsError, ConfigError, MissingPart
from clufs.timeouts import QUORUM_DEVICE_SYNC_LONG_S

INSTALL = "apt-get install corosync"


def examine(machine: Machine, config: Config) -> Iterator[Finding]:
    """Yield the findings that matter when the engine is corosync."""
    program = shutil.which("corosync", path=machine.search_path)
    yield Finding(program is not None, program or "corosync", INSTALL)
    yield check_libraries()
    names, findings = check_nodelist(len(config.own_luns))
    yield from findings
    yield check_keys(config.engine.keys, names)
    yield from check_agents(machine, config)


def check_libraries() -> Finding:
    """corosync's client libraries load."""
    what = "corosync's client libraries"
    try:
        for load in (libcorosync.cpg, libcorosync.quorum, libcorosync.votequorum, libcorosync.cmap):
            load()
    except MissingPart as error:
        return Finding(False, f"{what} ({error})", INSTALL)
    return Finding(True, what)


def check_nodelist(own_luns: int) -> tuple[list[str], list[Finding]]:
    """corosync runs, with a configuration that clufs can use; the members' names, empty if not."""
    try:
        found, votes = corosync_config.read()
        corosync_config.refuse_votes_without_disk(votes.disk, own_luns)
    except ConfigError as error:
        return [], [Finding(False, f"a usable cluster ({error})", "correct corosync.conf(5)")]
    except ClufsError as error:
        return [], [Finding(False, f"corosync running ({error})", "systemctl start corosync")]
    names = [peer.name for peer in found.peers]
    nodes = Finding(True, f"cluster {found.cluster_name}: {' '.join(names)}")
    return names, [nodes, *_device(found, votes)]


def _device(found: corosync_config.Configuration, votes: corosync_config.Votes) -> list[Finding]:
    """The quorum disk, and a note if a daemon that hangs would hold up all others for long."""
    if not votes.disk:
        return []
    findings = [Finding(True, f"quorum disk with {votes.disk} of {votes.expected} votes")]
    if found.device_sync_s > QUORUM_DEVICE_SYNC_LONG_S:
        what = f"a short wait for a daemon that hangs ({found.device_sync_s:g} s)"
        mend = "corosync.conf(5): quorum: device: sync_timeout: 2000"
        findings.append(Finding(False, what, mend, essential=False))
    return findings


def check_keys(directory: str, names: list[str]) -> Finding:
    """The keys load, and are those of a member of the cluster (of any, if `names` is empty)."""
    mend = f"clufs keygen --dir DIR MEMBER..., and copy DIR/MEMBER to {directory}"
    keys = Keys.in_directory(directory)
    try:
        keys.accepting()
        keys.dialing()
    except ConfigError as error:
        return Finding(False, f"keys ({error})", mend)
    subject = x509.load_pem_x509_certificate(keys.member.read_bytes()).subject
    name = str(subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    if names and name not in names:
        return Finding(False, f"keys of a member ({keys.member} is {name}'s)", mend)
    return Finding(True, f"keys of {name} in {directory}")


def check_agents(machine: Machine, config: Config) -> Iterator[Finding]:
    """The programs of the fencing agents are there; a note if there is no agent."""
    if not config.fencing.agents:
        mend = "without one, a person must say: echo confirmed > /clu/members/MEMBER/fence"
        yield Finding(False, "a fencing agent", mend, essential=False)
    for agent in config.fencing.agents:
        if isinstance(agent, LunAgent):
            continue  # the LUNs themselves are looked at
        program = agent.command[0]
        found = shutil.which(program, path=machine.search_path)
        mend = f"install it, or correct [fencing] in {machine.config_file}"
        yield Finding(found is not None, f"fencing agent {found or program}", mend)
