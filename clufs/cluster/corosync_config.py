"""What corosync was configured with, read from its cmap: never from corosync.conf, never repeated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from clufs.cluster import libcorosync as lib
from clufs.cluster.interface import Peer
from clufs.errors import ConfigError, MissingPart
from clufs.timeouts import QUORUM_DEVICE_SYNC_S, QUORUM_DEVICE_TIMEOUT_S

_KEY_MAX = 256
_VALUE_MAX = 4096
_NODE_KEY = re.compile(r"nodelist\.node\.(\d+)\.(\w+)")
# What a member's name may be: it becomes a directory name in /clu/members.
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")

_NOT_RUNNING = "corosync does not answer on this machine: start it (systemctl start corosync)"

DEVICE_MODEL = "clufs"
_MODEL = "quorum.device.model"

_SPLIT = (
    (lib.FLAG_TWO_NODE, "two_node", "both members would be quorate once they lose each other"),
    (
        lib.FLAG_LAST_MAN_STANDING,
        "last_man_standing",
        "it lowers the quorum while members are away",
    ),
    (lib.FLAG_ALLOW_DOWNSCALE, "allow_downscale", "it lowers the quorum as members leave"),
)


@dataclass(frozen=True, slots=True)
class Configuration:
    """A cluster as corosync knows it.

    device_timeout_s: how long it counts a quorum device's votes after a poll. device_sync_s: how long it waits for a
    poll where a ring breaks.
    """

    cluster_name: str
    peers: tuple[Peer, ...]
    device_timeout_s: float = QUORUM_DEVICE_TIMEOUT_S
    device_sync_s: float = QUORUM_DEVICE_SYNC_S


@dataclass(frozen=True, slots=True)
class Votes:
    """votequorum's settings: its flags, the votes that it expects, and those of the quorum disk."""

    flags: int
    expected: int
    disk: int = 0


def configuration(keys: Mapping[str, str | int]) -> Configuration:
    """Return the cluster that cmap's keys describe. Raises ConfigError where clufs cannot use it."""
    provider = keys.get("quorum.provider")
    if provider != "corosync_votequorum":
        raise ConfigError("corosync.conf: quorum: provider must be corosync_votequorum")
    nodes: dict[int, dict[str, str | int]] = {}
    for key, value in keys.items():
        found = _NODE_KEY.fullmatch(key)
        if found:
            nodes.setdefault(int(found[1]), {})[found[2]] = value
    peers = sorted((_peer(node) for _, node in sorted(nodes.items())), key=lambda peer: peer.id)
    _refuse_doubles(peers)
    name = str(keys.get("totem.cluster_name") or "")
    if not name:
        raise ConfigError("corosync.conf: totem: cluster_name is not set")
    _refuse_device(keys)
    timeout_ms = int(keys.get("quorum.device.timeout", QUORUM_DEVICE_TIMEOUT_S * 1000))
    sync_ms = int(keys.get("quorum.device.sync_timeout", QUORUM_DEVICE_SYNC_S * 1000))
    return Configuration(name, tuple(peers), timeout_ms / 1000, sync_ms / 1000)


def _refuse_device(keys: Mapping[str, str | int]) -> None:
    """Another quorum device than ours, or one whose votes corosync does not expect until it has seen them."""
    model = keys.get(_MODEL, "")
    if model and model != DEVICE_MODEL:
        raise ConfigError(
            f"corosync.conf: quorum: device: model must be {DEVICE_MODEL}, not {model}: the quorum disk is the only"
            " quorum device that knows what was agreed on"
        )
    if model and "quorum.device.votes" in keys and "quorum.expected_votes" not in keys:
        raise ConfigError(
            "corosync.conf: quorum: device: votes needs quorum: expected_votes, the sum of all: two halves could both"
            " be quorate after a start; or leave votes away, then the disk has one vote less than there are nodes"
        )


def _peer(node: Mapping[str, str | int]) -> Peer:
    address = str(node.get("ring0_addr", ""))
    if "nodeid" not in node:
        raise ConfigError(f"corosync.conf: nodelist: the node at {address} has no nodeid")
    name = str(node.get("name", ""))
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"corosync.conf: nodelist: node {node['nodeid']} needs a name of letters, digits, _, . and -"
        )
    return Peer(int(node["nodeid"]), name, address, int(node.get("quorum_votes", 1)))


def _refuse_doubles(peers: list[Peer]) -> None:
    if not peers:
        raise ConfigError("corosync.conf: there is no nodelist")
    names = [peer.name for peer in peers]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"corosync.conf: nodelist: two nodes are named {name}")


def refuse_two_quorums(found: Configuration, votes: Votes) -> None:
    """Raise ConfigError if two halves of the cluster could both be quorate."""
    for flag, option, why in _SPLIT:
        if votes.flags & flag:
            raise ConfigError(f"corosync.conf: quorum: {option} must be off: {why}")
    nodes = sum(peer.votes for peer in found.peers)
    total = nodes + votes.disk
    if votes.expected < total:
        whose = "its nodes and the quorum disk" if votes.disk else "its nodes"
        raise ConfigError(
            f"corosync expects {votes.expected} votes, but {whose} have {total}:"
            " two halves could both be quorate"
        )
    if votes.disk >= nodes:
        raise ConfigError(
            f"corosync.conf: quorum: device: {votes.disk} votes are too many: without the disk all nodes together,"
            f" with {nodes}, would not be quorate"
        )


def refuse_votes_without_disk(votes: int, luns: int) -> None:
    """Raise ConfigError if the quorum disk has votes, but no LUNs to be kept on."""
    if votes and not luns:
        raise ConfigError(
            "corosync.conf has a quorum device, but clufs.toml no LUN of role `clufs` for the quorum disk to be on"
        )


def read() -> tuple[Configuration, Votes]:
    """Ask the corosync on this machine. Raises MissingPart if it does not answer, or ConfigError."""
    try:
        keys = _cmap_keys()
        found = configuration(keys)
        votes = _votes(bool(keys.get(_MODEL)))
    except lib.CorosyncError as error:
        if error.code in (lib.LIBRARY, lib.TRY_AGAIN):
            raise MissingPart(_NOT_RUNNING) from error
        raise
    refuse_two_quorums(found, votes)
    return found, votes


def _votes(with_device: bool) -> Votes:
    handle = lib.ffi.new("uint64_t *")
    so = lib.votequorum()
    lib.checked("votequorum_initialize", so.votequorum_initialize(handle, lib.ffi.NULL))
    try:
        info = lib.ffi.new("struct votequorum_info *")
        lib.checked("votequorum_getinfo", so.votequorum_getinfo(handle[0], 0, info))
        disk = info.qdevice_votes if with_device else 0
        return Votes(info.flags, info.node_expected_votes, disk)
    finally:
        so.votequorum_finalize(handle[0])


def _cmap_keys() -> dict[str, str | int]:
    handle = lib.ffi.new("uint64_t *")
    so = lib.cmap()
    lib.checked("cmap_initialize", so.cmap_initialize(handle))
    try:
        found: dict[str, str | int] = {}
        for prefix in ("nodelist.", "quorum.", "totem.cluster_name"):
            found |= _keys_below(handle[0], prefix)
        return found
    finally:
        so.cmap_finalize(handle[0])


def _keys_below(handle: int, prefix: str) -> dict[str, str | int]:
    so, ffi = lib.cmap(), lib.ffi
    iterator = ffi.new("uint64_t *")
    lib.checked("cmap_iter_init", so.cmap_iter_init(handle, prefix.encode(), iterator))
    key, length, kind = ffi.new("char[]", _KEY_MAX), ffi.new("size_t *"), ffi.new("int *")
    found: dict[str, str | int] = {}
    try:
        while so.cmap_iter_next(handle, iterator[0], key, length, kind) == lib.OK:
            value = _value(handle, key)
            if value is not None:
                found[ffi.string(key).decode()] = value
    finally:
        so.cmap_iter_finalize(handle, iterator[0])
    return found


def _value(handle: int, key: object) -> str | int | None:
    """The value of a key; None if it is neither a string nor a whole number, or gone meanwhile."""
    ffi = lib.ffi
    buffer, length, kind = (
        ffi.new("char[]", _VALUE_MAX),
        ffi.new("size_t *", _VALUE_MAX),
        ffi.new("int *"),
    )
    if lib.cmap().cmap_get(handle, key, buffer, length, kind) != lib.OK:
        return None
    data = bytes(ffi.buffer(buffer, length[0]))
    if kind[0] == lib.TYPE_STRING:
        return data.rstrip(b"\0").decode(errors="replace")
    if kind[0] in lib.INTEGER_TYPES:
        # Odd type numbers are the signed ones.
        return int.from_bytes(data, "little", signed=bool(kind[0] % 2))
    return None
