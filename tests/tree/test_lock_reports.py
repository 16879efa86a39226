"""Reports name the member of each lock, and do not take processes of two members for one."""

from __future__ import annotations

from clufs.dlm.interface import Asked, Owner, Received
from clufs.dlm.node import Node
from clufs.tree.lock_reports import report
from tests.dlm.cluster import Cluster
from tests.dlm.cluster_of_one import parse

HERE, THERE = "provolone", "polishham"


class Process(Owner):
    """An owner with a pid, above every process with a higher one."""

    __slots__ = ("_pid",)

    def __init__(self, pid: int) -> None:
        super().__init__()
        self._pid = pid

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def command(self) -> str:
        return f"sh -c {self._pid}"

    def is_above(self, other: Owner) -> bool:
        return self.pid < other.pid


def asked(cluster: Cluster, member: str, owner: Owner, line: str) -> None:
    cluster.step(member, Asked(owner, b"db/x", parse(line), party=owner))
    while pairs := [pair for pair, wire in cluster.wires.items() if wire]:
        cluster.step(pairs[0][1], Received(pairs[0][0], cluster.wires[pairs[0]].popleft()))


def lines_of(node: Node) -> list[str]:
    return report(node.blocks[b"db/x"], HERE, 100.0).decode().splitlines()[7:]


def test_each_line_names_the_member_where_the_owner_is() -> None:
    cluster = Cluster()
    asked(cluster, HERE, Process(10), "NL")
    asked(cluster, THERE, Process(20), "EX")
    asked(cluster, HERE, Process(30), "PR")
    here, there, waits = lines_of(cluster.nodes[HERE])
    assert here.startswith(f"GRANTED NL - {HERE} 10 sh\\040-c\\04010 ")
    assert there.startswith(f"GRANTED EX - {THERE} 20 sh\\040-c\\04020 ")
    assert waits.startswith(f"WAITING - PR {HERE} 30 sh\\040-c\\04030 ")
    assert waits.endswith(f" waits for EX held by 20 (sh -c 20) on {THERE}")


def test_an_ancestor_is_one_on_the_same_member() -> None:
    cluster = Cluster()
    asked(cluster, HERE, Process(10), "EX")
    asked(cluster, THERE, Process(20), "PR")
    asked(cluster, HERE, Process(30), "PR")
    _, there, here = lines_of(cluster.nodes[HERE])
    assert there.endswith(f" waits for EX held by 10 (sh -c 10) on {HERE}")
    assert "its own ancestor" in here
