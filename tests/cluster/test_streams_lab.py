"""Formation, verdict and streams on three real members: a view, a member that stands still, its return."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clufs.cluster.authority import make_keys
from tests.cluster.test_lab import NAMES, Lab, within

pytestmark = pytest.mark.timeout(100)

# A member without locks. It sends numbered messages to every life of its view, and looks at the
# numbers of those that come. It prints JSON lines; each line it reads is for how long it stands still.
MEMBER = """
import json, sys, time, trio
from collections import defaultdict
from pathlib import Path
from clufs.cluster import formation as f, verdict as v
from clufs.cluster.corosync import CorosyncEngine
from clufs.cluster.keys import Keys
from clufs.cluster.mesh import Mesh

KEYS = Path(sys.argv[1])
DEAD_S = 1.5
highest = 0

def say(*words):
    print(json.dumps(words), flush=True)

class Member:
    def __init__(self, incarnation):
        self.incarnation = incarnation
        self.engine = engine = CorosyncEngine()
        self.got = defaultdict(int)
        self.sent = defaultdict(int)
        self.view = None
        self.mesh = Mesh(
            engine.me, engine.peers, Keys.in_directory(KEYS / engine.me.name), self.received,
            cluster=engine.cluster_name, incarnation=incarnation, port=7788, peer_dead_s=DEAD_S,
        )
        me = f.Self(engine.me, incarnation, 7788)
        self.formation = f.Formation(me, engine.peers, highest, DEAD_S)
        self.verdict = v.Verdict(engine.me.id, {peer.id: peer.votes for peer in engine.peers})

    def received(self, sender, message):
        life, number = json.loads(message)
        key = sender, life
        if number != self.got[key] + 1:
            say("Gap", *key, self.got[key], number)
        self.got[key] = number
        if number % 50 == 0:
            say("Got", *key, number)

    def carry_out(self, effects):
        global highest
        for effect in effects:
            match effect:
                case f.Multicast():
                    self.engine.multicast(effect.data)
                case f.Store():
                    highest = max(highest, effect.number)
                    self.carry_out(self.formation.stored(effect.number))
                case f.Suspend():
                    self.view = None
                case f.Install():
                    self.view = effect.view
                    say("Install", effect.view.number, effect.view.members)
                    self.mesh.set_addresses(effect.streams)
                    self.mesh.set_view(effect.view)
                    self.verdict.installed(effect.view.number, dict(effect.view.members))
                case f.Say():
                    self.judge(self.verdict.said(effect.sender, effect.body))
                case f.Expelled():
                    say("Expelled", effect.why)
                    self.scope.cancel()

    def judge(self, effects):
        for effect in effects:
            if isinstance(effect, v.Report):
                self.carry_out(self.formation.say(effect.body))
            else:
                self.carry_out(self.formation.expel(effect.member))

    async def tick(self):
        while True:
            await trio.sleep(0.25)
            self.carry_out(self.formation.tick(trio.current_time()))
            if self.view is not None:
                others = [one for one, _ in self.view.members if one != self.engine.me.id]
                silent = [one for one in others if self.mesh.silent_since(one) is not None]
                self.judge(self.verdict.silent(trio.current_time(), silent))

    async def send(self):
        while True:
            await trio.sleep(0.005)
            for one, life in self.view.members if self.view else ():
                if one != self.engine.me.id:
                    self.sent[one, life] += 1
                    self.mesh.send(one, json.dumps([self.incarnation, self.sent[one, life]]).encode())

    async def run(self):
        async with trio.open_nursery() as nursery:
            self.scope = nursery.cancel_scope
            await nursery.start(self.mesh.run)
            nursery.start_soon(self.tick)
            nursery.start_soon(self.send)
            await self.engine.run(lambda report: self.carry_out(self.formation.report(report)))

async def lives():
    incarnation = 0
    while True:
        incarnation += 1
        await Member(incarnation).run()

async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lives)
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            time.sleep(float(line))
        nursery.cancel_scope.cancel()

trio.run(main)
"""


class Member:
    """The program inside a member, and all that it told."""

    def __init__(self, lab: Lab, name: str, directory: Path) -> None:
        self.told = directory / f"{name}.told"
        with open(self.told, "wb") as out:
            command = lab.line("exec", name, "--", sys.executable, "-c", MEMBER, str(directory))
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, text=True)

    def heard(self, kind: str) -> list[list[object]]:
        lines = self.told.read_text().splitlines(keepends=True)
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return [one[1:] for one in found if one[0] == kind]

    def views(self) -> list[object]:
        return [members for _, members in self.heard("Install")]

    def stand_still(self, seconds: float) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()


@pytest.fixture
def members(tmp_path: Path) -> Iterator[list[Member]]:
    if os.geteuid() != 0:
        pytest.fail("the lab needs root")
    lab = Lab(tmp_path / "lab")
    lab.do("up")
    started = []
    try:
        make_keys(tmp_path, list(NAMES))
        for name in NAMES:
            lab.do(
                "pause", name, "--what", "clufsd"
            )  # so that no daemon has another's member fenced
        for name in NAMES:
            # There may be one process of the group on each.
            lab.do("kill", name, "--what", "clufsd")
            started.append(Member(lab, name, tmp_path))
        yield started
        for member in started:
            member.process.communicate()
    finally:
        lab.run("down")


def test_a_member_that_stands_still_is_expelled_and_comes_back(members: list[Member]) -> None:
    everybody = [[1, 1], [2, 1], [3, 1]]
    assert within(10, lambda: all(everybody in one.views() for one in members))
    assert within(10, lambda: all(len(one.heard("Got")) >= 4 for one in members))
    members[1].stand_still(6)
    assert within(5, lambda: all(one.views()[-1] == [[1, 1], [3, 1]] for one in members[::2]))
    assert not members[1].heard("Expelled")
    again = [[1, 1], [2, 2], [3, 1]]
    assert within(10, lambda: all(one.views()[-1] == again for one in members))
    assert members[1].heard("Expelled") == [["the others hear nothing of this member"]]
    # The stream between the other two went on through every view, and each new one works.
    before = len(members[0].heard("Got"))
    assert within(10, lambda: [2, 2, 100] in members[0].heard("Got"))
    assert within(10, lambda: len(members[0].heard("Got")) >= before + 4)
    assert all(one.heard("Gap") == [] for one in members)
    assert [one for one in members[0].heard("Got") if one[0] == 3] == [
        [3, 1, 50 * at] for at in range(1, sum(one[0] == 3 for one in members[0].heard("Got")) + 1)
    ]
