"""Three members and a disk of two votes, so that one with the disk goes on: what the disk knows and who says it."""

from __future__ import annotations

from typing import Any

from clufs.cluster import formation as f
from clufs.cluster.formation import Self
from clufs.cluster.interface import GroupChanged, QuorumChanged
from clufs.member import core as c
from clufs.member import disk_keeper as k
from clufs.member.core import Core, Start
from clufs.registry import journal
from clufs.registry.commands import PutNamespace
from clufs.storage.quorum import Share, Sight
from clufs.timeouts import QUORUM_DISK_CALM_S, QUORUM_DISK_SURE_S, QUORUM_DISK_TURN_S
from tests.member.cores import NAMES, PEERS, Cores, Running

VOTES = 2
FREE = Sight(True, "", 0, 0, alive=False, free=True)


class DiskCores(Cores):
    """records: what is on the disk. ballot: of who holds it. stuck: writes stay on their way."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[bytes] = []
        self.ballot = 0
        self.stuck: list[tuple[Running, k.DiskWrite]] | None = None
        self.taking: list[str] = []
        self.drops: list[int] = []
        self.rings: dict[int, tuple[int, int]] = {}

    def start(self, *names: str, cleared: bool = False) -> None:
        for name in names:
            machine = self.machines[name]
            machine.incarnation += 1
            me = Self(machine.peer, machine.incarnation, 7788)
            start = Start(machine.view, machine.stored, machine.boot_id, name, 0)
            self.pids += 1
            self.running[name] = Running(machine, Core(me, PEERS, (), start, VOTES), self.pids)
        self.change()

    def change(self) -> None:
        """Rings of who runs; `part` makes several."""
        self.part(tuple(self.running))

    def part(self, *sides: tuple[str, ...]) -> None:
        for side in sides:
            self.ring += 1
            self._bus.clear()
            lives = [self.running[name] for name in side]
            ids = tuple(sorted(one.machine.peer.id for one in lives))
            ring = (min(ids, default=0), self.ring)
            group = tuple(sorted((one.machine.peer.id, one.pid) for one in lives))
            others = {name: self.running.pop(name) for name in set(self.running) - set(side)}
            for one in lives:
                self.rings[one.machine.peer.id] = ring
                self.do(one, one.core.report(GroupChanged(ring, group)))
                self.tell_quorum(one, len(ids))
            self.settle()
            self.running.update(others)

    def tell_quorum(self, one: Running, members: int, votes: int = 0) -> None:
        ring = self.rings[one.machine.peer.id]
        quorate = 2 * (members + votes) > len(PEERS) + VOTES
        self.do(one, one.core.report(QuorumChanged(ring, quorate, ())))

    def look(self, name: str, sight: Sight = FREE, now: float | None = None) -> None:
        """A member looks at the disk, and what follows."""
        self.now += 0.3
        core = self.running[name].core
        at = self.now if now is None else now
        self.do(self.running[name], core.keep(core.keeper.seen(at, sight)))
        self.settle()

    def _deed(self, one: Running, effect: Any) -> None:
        core = one.core
        match effect:
            case k.TakeDisk():
                self.taking.append(one.machine.peer.name)
                self.ballot += 1
                share = Share(b"", tuple(self.records))
                self.do(one, core.keep(core.keeper.taken(self.ballot, share)))
            case k.DropDisk():
                self.drops.append(effect.ballot)
            case k.DiskWrite():
                self.write(one, effect)
            case k.Vote():
                members = len(core.formation.round[1]) if core.formation.round else 0
                self.tell_quorum(one, members, VOTES * effect.cast)
            case _:
                super()._deed(one, effect)

    def write(self, one: Running, effect: k.DiskWrite) -> None:
        core = one.core
        if self.stuck is not None:
            self.stuck.append((one, effect))
        elif effect.ballot == self.ballot:
            self.records.append(effect.record)
            self.do(one, core.keep(core.keeper.written(effect.ballot, effect.ticket)))
        else:
            self.do(one, core.keep(core.keeper.lost(effect.ballot, "another took it")))

    def core(self, name: str) -> Core:
        return self.running[name].core

    def put(self, name: str, what: bytes) -> Any:
        """A member has a namespace made."""
        id, effects = self.core(name).propose(PutNamespace(what, 1, 1, 0o700, new=True))
        self.do(self.running[name], effects)
        self.settle()
        return id

    def namespaces(self, name: str) -> list[bytes]:
        return sorted(self.core(name).replica.state.namespaces)


def held_by_one(*names: str) -> DiskCores:
    """These members, and the first of them holds the disk."""
    cores = DiskCores()
    cores.start(*names)
    cores.look(names[0])
    for name in names[1:]:
        cores.look(name, kept_by(cores, names[0]))
    return cores


def takes_over(cores: DiskCores, name: str, dead: str) -> None:
    """A member sees that the one that kept the disk has ended, and the others see what it does."""
    keeper = cores.machines[dead].peer.id
    cores.look(name, Sight(True, "", keeper, 1, alive=False))
    for other in cores.running.keys() - {name, dead}:
        cores.look(other, kept_by(cores, name))


def kept_by(cores: DiskCores, name: str) -> Sight:
    """What the others see while this member keeps the disk."""
    return Sight(True, "", cores.machines[name].peer.id, 1, alive=True)


def test_one_member_and_the_disk_go_on() -> None:
    cores = held_by_one("provolone")
    assert cores.core("provolone").standing
    assert journal.load(b"", tuple(cores.records)).number == 1
    id = cores.put("provolone", b"db")
    assert cores.running["provolone"].answers[id] is None


def test_what_one_member_and_the_disk_acknowledged_the_next_one_knows() -> None:
    cores = held_by_one("provolone")
    cores.put("provolone", b"db")
    cores.kill("provolone")
    cores.start("pepicelli")
    cores.look("pepicelli")
    pepicelli = cores.core("pepicelli")
    assert pepicelli.replica.disk_leads
    assert pepicelli.view is not None and pepicelli.view.number == 2
    assert cores.namespaces("pepicelli") == [b"db"]
    assert [life.member for life in pepicelli.gate.lost] == ["provolone"]


def test_a_keeper_whose_ring_cannot_win_lets_go() -> None:
    cores = DiskCores()
    cores.start(*NAMES)
    for core in (one.core for one in cores.running.values()):
        core.formation.disk_votes = 1
        core.keeper._votes = {0: 1, 1: 1, 2: 1, 3: 1}
    cores.look("provolone")
    assert cores.core("provolone").keeper.ballot == 1
    cores.part(("provolone",), ("polishham", "pepicelli"))
    cores.look("provolone")
    assert cores.drops == [1]
    assert cores.core("provolone").keeper.ballot == 0


def test_the_next_keeper_in_a_view_goes_on_in_it() -> None:
    cores = held_by_one(*NAMES)
    view = cores.core("polishham").view
    assert view is not None
    cores.put("polishham", b"db")
    takes_over(cores, "polishham", dead="provolone")
    provolone = cores.core("provolone")
    assert cores.core("polishham").view is view
    assert provolone.formation.caster == 2
    before = len(cores.records)
    cores.put("provolone", b"more")
    assert len(cores.records) > before
    image = journal.load(b"", tuple(cores.records))
    assert image.stored.adopted == view.number
    assert image.stored.last == provolone.replica.applied


def test_what_the_former_keeper_has_under_way_is_refused_and_it_knows() -> None:
    cores = held_by_one("provolone", "polishham", "pepicelli")
    cores.stuck = []
    cores.put("provolone", b"db")
    (late,) = cores.stuck
    cores.stuck = None
    takes_over(cores, "polishham", dead="provolone")
    before = list(cores.records)
    cores.write(*late)
    cores.settle()
    assert cores.records == before
    assert cores.core("provolone").keeper.ballot == 0
    assert cores.core("provolone").formation.caster == 2


def test_a_view_that_the_disk_leads_ends_with_its_keeper() -> None:
    cores = held_by_one("provolone")
    cores.put("provolone", b"db")
    cores.kill("provolone")
    cores.start("polishham", "pepicelli")
    takes_over(cores, "polishham", dead="provolone")
    polishham = cores.core("polishham")
    assert polishham.replica.disk_leads
    view = polishham.view
    assert view is not None
    takes_over(cores, "pepicelli", dead="polishham")
    cores.look("polishham", kept_by(cores, "pepicelli"))
    cores.do(cores.running["pepicelli"], cores.core("pepicelli").tick(cores.now, []))
    cores.settle()
    now = cores.core("pepicelli").view
    assert now is not None and now.number > view.number
    id = cores.put("pepicelli", b"more")
    assert cores.running["pepicelli"].answers[id] is None
    assert cores.namespaces("polishham") == [b"db", b"more"]


def test_a_second_voice_in_a_view_that_the_disk_leads_does_not_count_and_ends_it() -> None:
    """Where it took the disk before it could know that the first one's log was to lead."""
    cores = held_by_one("provolone")
    cores.put("provolone", b"db")
    cores.kill("provolone")
    cores.start("polishham", "pepicelli")
    takes_over(cores, "polishham", dead="provolone")
    polishham, pepicelli = (cores.core(name).keeper for name in ("polishham", "pepicelli"))
    for keeper in (polishham, pepicelli):
        assert keeper.hear(3, cores.ballot + 1) == (True, False)
        assert keeper.hear(3, cores.ballot + 1) == (False, False)
        assert keeper.hear(2, cores.ballot) == (False, False)
    assert not [one for one in polishham.tick(cores.now) if isinstance(one, f.Multicast)]
    assert [one for one in pepicelli.tick(cores.now) if isinstance(one, f.Multicast)]


def test_a_keeper_that_loses_the_disk_while_it_leads_ends_the_view() -> None:
    cores = held_by_one("provolone")
    cores.put("provolone", b"db")
    cores.kill("provolone")
    cores.start("polishham", "pepicelli")
    takes_over(cores, "polishham", dead="provolone")
    keeper = cores.core("polishham").keeper
    effects = cores.core("polishham").keep(keeper.lost(keeper.ballot, "gone"))
    cores.do(cores.running["polishham"], effects)
    cores.settle()
    assert cores.core("polishham").view is None
    assert "the quorum disk has not vouched" in cores.core("polishham").waits_for()


def test_others_count_its_votes_only_as_long_as_they_see_its_keeper() -> None:
    cores = held_by_one("provolone", "polishham")
    polishham = cores.running["polishham"].core
    assert polishham.view is not None
    seen = kept_by(cores, "provolone")
    others = Sight(True, "", 3, 1, alive=True)
    for sight in (Sight(False, "no path"), others):
        cores.look("polishham", sight)
        assert polishham.view is None
        cores.look("polishham", seen)
        assert polishham.view is not None
    polishham.keeper.tick(cores.now + QUORUM_DISK_SURE_S + 0.1)
    assert polishham.keeper.vote() == [k.Vote(cores.rings[2], False)]


def test_who_is_next_waits_for_its_turn() -> None:
    cores = DiskCores()
    cores.start("provolone", "polishham")
    cores.look("polishham", now=1.0)
    assert cores.taking == []
    cores.look("polishham", now=1.0 + QUORUM_DISK_TURN_S)
    assert cores.taking == ["polishham"]


def test_who_died_with_the_disk_comes_last() -> None:
    cores = DiskCores()
    cores.start("provolone", "polishham")
    dead = Sight(True, "", 1, 1, alive=False)
    cores.look("polishham", dead)
    assert cores.taking == ["polishham"]


def test_nobody_takes_it_from_a_living_keeper_or_twice_at_once() -> None:
    cores = DiskCores()
    cores.start("provolone")
    keeper = cores.core("provolone").keeper
    assert keeper.seen(1.0, Sight(True, "", 2, 1, alive=True)) == []
    assert keeper.seen(2.0, Sight(False, "one of three answers")) == []
    assert keeper.seen(3.0, FREE) == [k.TakeDisk()]
    assert keeper.seen(4.0, FREE) == []
    keeper.refused()
    assert keeper.seen(5.0, FREE) == [k.TakeDisk()]


def test_a_journal_that_is_not_understood_is_let_go_of() -> None:
    cores = DiskCores()
    cores.records.append(b"\xc1")
    cores.start("provolone")
    cores.look("provolone")
    assert cores.drops == [1]
    cores.look("provolone")
    assert cores.taking == ["provolone"]
    told = [event for event in cores.running["provolone"].events if event.what == "quorum-disk"]
    assert "does not understand" in str(told)


def test_what_ends_as_soon_as_it_began_is_left_alone_for_a_while() -> None:
    cores = held_by_one(*NAMES)
    keeper = cores.core("provolone").keeper
    cores.do(cores.running["provolone"], cores.core("provolone").keep(keeper.lost(1, "too small")))
    cores.look("provolone")
    assert cores.taking == ["provolone"]
    cores.look("provolone", now=cores.now + QUORUM_DISK_CALM_S)
    assert cores.taking == ["provolone", "provolone"]


def test_without_a_disk_nothing_is_said_of_one() -> None:
    cores = Cores()
    cores.start(*NAMES)
    core = cores.running["provolone"].core
    assert core.tick(2.0, []) == []
    assert all(not isinstance(effect, f.DiskStore | c.k.Vote) for effect in core.tick(3.0, []))
