"""What every engine promises, tried on the embedded one; and configurations that corosync's refuses."""

import pytest
import trio

from clufs.cluster import corosync_config
from clufs.cluster.corosync_config import (
    Configuration,
    Votes,
    configuration,
    refuse_two_quorums,
    refuse_votes_without_disk,
)
from clufs.cluster.embedded import EmbeddedEngine
from clufs.cluster.formation import Formation, Install, Multicast, Self, Store
from clufs.cluster.interface import Delivered, Peer, Report
from clufs.errors import ConfigError
from clufs.limits import MULTICAST_MAX_BYTES

KEYS: dict[str, str | int] = {
    "quorum.provider": "corosync_votequorum",
    "totem.cluster_name": "c",
    "nodelist.node.0.nodeid": 2,
    "nodelist.node.0.name": "polishham",
    "nodelist.node.0.ring0_addr": "10.77.0.2",
    "nodelist.node.1.nodeid": 1,
    "nodelist.node.1.name": "provolone",
    "nodelist.node.1.ring0_addr": "10.77.0.1",
    "nodelist.node.1.quorum_votes": 2,
}


async def test_the_embedded_engine_delivers_in_order() -> None:
    engine = EmbeddedEngine("provolone")
    told: list[Report] = []
    for number in range(3):
        engine.multicast(b"%d" % number)
    with trio.move_on_after(0.1):
        await engine.run(told.append)
    assert told[2:] == [Delivered(1, b"0"), Delivered(1, b"1"), Delivered(1, b"2")]
    with pytest.raises(ValueError, match="bytes"):
        engine.multicast(bytes(MULTICAST_MAX_BYTES + 1))


async def test_a_cluster_of_one_forms_a_view() -> None:
    engine = EmbeddedEngine("provolone")
    formation = Formation(Self(engine.me, 1, 0), engine.peers, 41)
    installed: list[Install] = []

    def tell(report: Report) -> None:
        effects = formation.report(report)
        for effect in effects:
            match effect:
                case Multicast():
                    engine.multicast(effect.data)
                case Store():
                    effects += formation.stored(effect.number)
                case Install():
                    installed.append(effect)

    with trio.move_on_after(0.1):
        await engine.run(tell)
    assert [one.view.number for one in installed] == [42]


def test_a_nodelist_becomes_peers() -> None:
    first = Peer(1, "provolone", "10.77.0.1", 2)
    second = Peer(2, "polishham", "10.77.0.2", 1)
    assert configuration(KEYS) == Configuration("c", (first, second))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("quorum.provider", "", "provider"),
        ("totem.cluster_name", "", "cluster_name"),
        ("nodelist.node.0.name", "a b", "name"),
        ("nodelist.node.0.name", "provolone", "two nodes"),
        ("quorum.device.model", "net", "model must be clufs, not net"),
    ],
)
def test_a_nodelist_that_does_not_do_is_refused(key: str, value: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        configuration({**KEYS, key: value})


@pytest.mark.parametrize("option", [one for _, one, _ in corosync_config._SPLIT])
def test_what_lets_two_halves_be_quorate_is_refused(option: str) -> None:
    flags = {name: flag for flag, name, _ in corosync_config._SPLIT}
    with pytest.raises(ConfigError, match=option):
        refuse_two_quorums(configuration(KEYS), Votes(flags[option], 3))
    refuse_two_quorums(configuration(KEYS), Votes(0, 3))


def test_fewer_expected_votes_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match="expects 2 votes"):
        refuse_two_quorums(configuration(KEYS), Votes(0, 2))


def test_votes_of_a_disk_that_corosync_does_not_expect_are_refused() -> None:
    device: dict[str, str | int] = {**KEYS, "quorum.device.model": "clufs"}
    assert configuration({**device, "quorum.device.timeout": 5000}).device_timeout_s == 5
    # corosync would count two of three nodes as quorate, and the third one with the disk, too.
    with pytest.raises(ConfigError, match="needs quorum: expected_votes"):
        configuration({**device, "quorum.device.votes": 1})
    found = configuration({**device, "quorum.device.votes": 1, "quorum.expected_votes": 4})
    refuse_two_quorums(found, Votes(0, 4, 1))
    with pytest.raises(ConfigError, match="expects 3 votes, but its nodes and the quorum disk"):
        refuse_two_quorums(found, Votes(0, 3, 1))


def test_a_disk_that_outvotes_all_nodes_is_refused() -> None:
    refuse_two_quorums(configuration(KEYS), Votes(0, 5, 2))
    with pytest.raises(ConfigError, match="3 votes are too many"):
        refuse_two_quorums(configuration(KEYS), Votes(0, 6, 3))


def test_a_disk_needs_somewhere_to_be() -> None:
    refuse_votes_without_disk(1, 1)
    refuse_votes_without_disk(0, 0)
    with pytest.raises(ConfigError, match="no LUN of role `clufs`"):
        refuse_votes_without_disk(1, 0)
