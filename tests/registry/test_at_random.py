"""Seeds: any members come, go, part and meet, with slow and full disks; see Cluster for what must hold."""

from __future__ import annotations

import pytest

from clufs.caa.records import ResourceRecord
from clufs.registry import filling, replica
from clufs.registry.commands import Command, DropNamespace, MemberIn, MemberOut, PutNamespace
from clufs.registry.files import ChangeFile, DropFile, MoveFile, PutFile, WriteFile
from clufs.registry.resources import Register, SaveResources, Unregister
from tests.registry.cluster import Cluster

VOTES = [(1,), (1, 1), (1, 1, 1), (1, 1, 1), (2, 1, 1), (3, 1, 1), (1, 1, 1, 1), (1, 1, 1, 1, 1)]
SEEDS, AT_ONCE = 3000, 100


class Weather:
    """What happens to a cluster."""

    def __init__(self, seed: int) -> None:
        self.cluster = Cluster(VOTES[seed % len(VOTES)], seed)
        self.random = self.cluster.random
        self.asked = 0

    def act(self) -> None:
        cluster, pick = self.cluster, self.random.random()
        one = self.random.choice(list(cluster.votes))
        if pick < 0.55:
            if one in cluster.up:
                cluster.propose(one, self.command())
        elif pick < 0.65:
            self.part()
        elif pick < 0.70 and one in cluster.up:
            cluster.crash(one)
            self.part()
        elif pick < 0.72:
            for each in list(cluster.up):
                cluster.crash(each)
        elif pick < 0.85 and one not in cluster.up:
            cluster.start(one)
            self.part()
        elif pick < 0.90:
            cluster.full[one] = not cluster.full[one]
        elif pick < 0.95:
            cluster.stuck[one] = not cluster.stuck[one]
        elif one in cluster.up:
            cluster.lose_quorum(one)
            cluster.do(one, cluster.up[one].replica.retry())

    def part(self) -> None:
        sides: list[list[int]] = [[], [], []]
        ways = self.random.choice([1, 1, 2, 3])
        for one in self.cluster.up:
            sides[self.random.randrange(ways)].append(one)
        self.cluster.part(*[side for side in sides if side])

    def command(self) -> Command:
        self.asked += 1
        name = b"n%d" % self.random.randrange(5)
        member = self.random.choice(["provolone", "polishham"])
        life = self.random.randrange(1, 9)
        return self.random.choice(
            [
                PutNamespace(name, self.asked, 1, 0o700, new=True),
                PutNamespace(name, self.asked, 1, 0o770, new=False),
                DropNamespace(name),
                MemberIn(member, life, f"boot {life % 3}", "machine", self.random.random() < 0.5),
                MemberOut(member, life, "fenced"),
                *self.of_files(),
                *self.of_resources(),
            ]
        )

    def of_files(self) -> list[Command]:
        path, to = (b"f%d" % self.random.randrange(4) for _ in range(2))
        number, text = self.random.randrange(1, 40), b"text %d" % self.asked
        return [
            PutFile(path, text, 0, 0, 0o644, self.asked, new=self.random.random() < 0.5),
            WriteFile(number, text, self.asked),
            ChangeFile(number, mode=0o600),
            DropFile(path),
            MoveFile(path, to, self.random.random() < 0.5),
        ]

    def of_resources(self) -> list[Command]:
        name = f"r{self.random.randrange(3)}"
        state = self.random.choice(["ONLINE", "OFFLINE"])
        record = ResourceRecord(name, target=state, state=state, changed_ns=self.asked)
        return [
            Register(name, f"NAME={name}", new=self.random.random() < 0.7),
            Unregister(name),
            SaveResources(self.random.randrange(3) + self.asked // 10, [record]),
        ]

    def clear_up(self) -> None:
        """Everything works again and stays: all that was asked for and whose asker lives is answered."""
        cluster = self.cluster
        cluster.full = dict.fromkeys(cluster.votes, False)
        cluster.stuck = dict.fromkeys(cluster.votes, False)
        for one in cluster.votes:
            if one not in cluster.up:
                cluster.start(one)
        cluster.part(list(cluster.votes))
        cluster.settle()
        for one, member in cluster.up.items():
            cluster.do(one, member.replica.retry())
        cluster.settle()


def run(seed: int) -> Cluster:
    weather = Weather(seed)
    cluster = weather.cluster
    for one in cluster.votes:
        cluster.start(one)
    weather.part()
    for _ in range(weather.random.choice([10, 30, 60])):
        weather.act()
        for _ in range(weather.random.choice([0, 3, 10, 40])):
            cluster.step()
    weather.clear_up()
    for one, member in cluster.up.items():
        assert not member.replica.waits_for()
        life = cluster.lives[one]
        count = member.replica.propose(weather.command())[0].counter - 1
        ends = [id for id in [*cluster.promised, *cluster.given_up] if id[:2] == (one, life)]
        assert len(ends) == count, f"member {one} still waits for an answer"
    assert {member.replica.applied for member in cluster.up.values()} == {max(cluster.states)}
    assert all(id in cluster.applied for id in cluster.promised)
    return cluster


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_what_was_acknowledged_is_never_lost(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until a majority of disks is destroyed, that is: what is on a disk stays on it."""
    if first % (2 * AT_ONCE):  # half of them with snapshots all the time, in many parts
        monkeypatch.setattr(replica, "LOG_MAX_ENTRIES", 6)
        monkeypatch.setattr(replica, "LOG_KEPT_ENTRIES", 3)
        monkeypatch.setattr(replica, "LOG_MAX_BYTES", 40)
        monkeypatch.setattr(replica, "LOG_KEPT_BYTES", 20)
        monkeypatch.setattr(filling, "REGISTRY_PART_BYTES", 100)
    for seed in range(first, first + AT_ONCE):
        try:
            run(seed)
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
