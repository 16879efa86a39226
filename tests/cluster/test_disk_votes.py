"""Formation and verdict with a quorum disk: its votes, its voice, and the numbers that it knows."""

from __future__ import annotations

from clufs.cluster import formation as f
from clufs.cluster import formation_messages as m
from clufs.cluster import verdict as v
from clufs.cluster.interface import Delivered, QuorumChanged, Report, View
from clufs.cluster.voice import DISK_ID
from clufs.timeouts import HELLO_LATE_S, KEEPALIVE_S, PEER_DEAD_S, VERDICT_AFTER_S
from tests.cluster.bus import Bus
from tests.cluster.test_formation import alone, hello_of, ticks


class DiskBus(Bus):
    """Members and a disk of `votes` votes. known: the number on it, and for which round."""

    def __init__(self, count: int, votes: int, seed: int = 0) -> None:
        super().__init__(count, seed)
        self.votes = votes
        self.known: tuple[int, m.Round | None] = (0, None)
        self.ballot = 0
        for one in self.disks:
            self.start(one)

    def start(self, one: int, *, same_pid: bool = False) -> None:
        super().start(one, same_pid=same_pid)
        process = self.living[one]
        me, highest = process.formation.me, self.disks[one]
        process.formation = f.Formation(me, self.peers, highest, disk_votes=self.votes)
        votes = {peer.id: peer.votes for peer in self.peers} | {DISK_ID: self.votes}
        process.verdict = v.Verdict(one, votes)

    def quorum(self, one: int) -> Report:
        ring, nodes = self.rings[one]
        votes = len(nodes)
        if one in self.living and self.living[one].formation.caster is not None:
            votes += self.votes
        return QuorumChanged(ring, 2 * votes > len(self.peers) + self.votes, nodes)

    def take(self, one: int) -> int:
        """A member holds the disk from now on; those who held it do not know that yet."""
        self.ballot += 1
        self.carry_out(one, self.living[one].formation.disk_held(self.ballot))
        return self.ballot

    def carry_out(self, one: int, effects: list[f.Effect]) -> None:
        super().carry_out(one, effects)
        formation = self.living[one].formation
        for effect in effects:
            if isinstance(effect, f.DiskStore):
                self.vouch(one, formation, effect)

    def vouch(self, one: int, formation: f.Formation, wanted: f.DiskStore) -> None:
        if self.known[0] >= wanted.number and self.known != (wanted.number, wanted.round):
            self.carry_out(one, formation.anew(self.known[0]))
            return
        self.known = wanted.number, wanted.round
        self.carry_out(one, formation.disk_stored(wanted.number, wanted.round))

    def settle(self) -> None:
        """Also corosync counts again, once the disk votes."""
        super().settle()
        for one, process in self.running().items():
            process.queue.append(self.quorum(one))
        super().settle()

    def view(self, one: int) -> View | None:
        return self.living[one].formation.view


def two(*, keeper: int = 0) -> DiskBus:
    bus = DiskBus(2, 1)
    bus.part({1, 2})
    if keeper:
        bus.take(keeper)
    bus.settle()
    return bus


def test_members_with_the_majority_do_not_wait_for_the_disk() -> None:
    bus = two()
    assert bus.view(1) == bus.view(2) == View(1, ((1, 1), (2, 1)), quorate=True)
    assert bus.known == (0, None)


def test_one_of_two_goes_on_with_the_disk_and_not_without_it() -> None:
    bus = two(keeper=1)
    bus.part({1}, {2})
    bus.settle()
    assert bus.view(1) == View(2, ((1, 1),), quorate=True)
    assert bus.known[0] == 2
    assert bus.view(2) is None
    assert "the quorum disk has not vouched" in bus.living[2].formation.waits_for()


def test_the_disk_knows_the_numbers_of_views_that_nobody_here_has_seen() -> None:
    bus = two(keeper=1)
    bus.crash(2)
    for _ in range(5):
        bus.part({1})
        bus.settle()
    assert bus.known[0] == 6
    bus.crash(1)
    bus.start(2)
    bus.part({2})
    bus.take(2)
    bus.settle()
    assert bus.disks[2] == 7
    assert bus.view(2) == View(7, ((2, 2),), quorate=True)


def test_the_disk_does_not_vouch_for_one_number_in_two_rounds() -> None:
    bus = two()
    bus.known = (2, ((9, 9), ((1, 1),), 0))
    bus.part({1})
    bus.take(1)
    bus.settle()
    assert bus.view(1) == View(3, ((1, 1),), quorate=True)


def test_the_next_voice_of_a_round_vouches_for_its_number_and_the_view_stays() -> None:
    bus = two(keeper=1)
    view = bus.view(2)
    bus.take(2)
    bus.settle()
    assert bus.view(2) is view
    assert bus.living[1].formation.caster == bus.living[2].formation.caster == 2


def test_what_an_earlier_voice_says_afterwards_does_not_count() -> None:
    bus = two()
    first = bus.take(1)
    bus.take(2)
    bus.settle()
    formation = bus.living[2].formation
    assert formation.round is not None
    stale = m.DiskVouched(formation.round, 1, first)
    formation.disk.caster = None
    assert formation.report(Delivered(1, m.pack(stale))) == []
    assert formation.caster is None
    gone = m.DiskGone(formation.round, first)
    assert formation.report(Delivered(1, m.pack(gone))) == []
    assert formation.disk.voice.member == 2


def test_votes_end_when_the_disk_is_let_go_of_and_with_the_ring() -> None:
    bus = two(keeper=1)
    assert [bus.living[one].formation.caster for one in (1, 2)] == [1, 1]
    bus.carry_out(1, bus.living[1].formation.disk_dropped())
    assert bus.living[1].formation.caster is None
    bus.settle()
    assert bus.living[2].formation.caster is None
    bus.take(1)
    bus.settle()
    bus.part({1}, {2})
    for one in (1, 2):
        for report in bus.living[one].queue:
            bus.living[one].formation.report(report)
        assert bus.living[one].formation.caster is None


def test_votes_outlast_a_round_within_the_ring() -> None:
    bus = two(keeper=1)
    bus.crash(2)
    bus.regroup(1)
    process = bus.living[1]
    bus.carry_out(1, process.formation.report(process.queue.pop(0)))
    assert process.formation.view is None
    assert process.formation.caster == 1


def test_a_process_that_stands_still_beside_the_keeper_is_left_out() -> None:
    bus = two(keeper=1)
    bus.living[2].stopped = True
    bus.part({1, 2})
    bus.pass_time(ticks(HELLO_LATE_S))
    assert bus.view(1) == View(2, ((1, 1),), quorate=True)
    bus.living[2].stopped = False
    bus.settle()
    assert [life for life, _ in bus.expelled] == [(2, 1)]


def test_complaints_count_again_when_the_disk_comes_to_who_complained() -> None:
    bus = two()
    bus.living[2].stopped = True
    bus.part({1, 2})
    bus.pass_time(ticks(HELLO_LATE_S))
    assert bus.view(1) is None
    bus.take(1)
    bus.settle()
    assert bus.view(1) == View(2, ((1, 1),), quorate=True)


def test_whose_turn_it_is() -> None:
    bus = DiskBus(4, 1)
    bus.part({1, 2}, {3}, {4})
    bus.settle()
    assert [bus.living[one].formation.rank(0) for one in (1, 2, 3, 4)] == [0, 1, None, None]
    assert [bus.living[one].formation.rank(1) for one in (1, 2)] == [1, 0]


def test_all_must_give_the_disk_the_same_votes() -> None:
    bus = DiskBus(2, 1)
    bus.living[2].formation.disk_votes = 3
    bus.part({1, 2})
    bus.settle()
    assert bus.view(1) is None
    waits = bus.living[1].formation.waits_for()
    assert waits == "polishham to have quorum.device.votes 1, as here"


def test_who_counts_no_disk_is_understood_only_where_there_is_none() -> None:
    bus = DiskBus(1, 1)
    bus.part({1})
    one = bus.living[1].formation
    bus.step()
    bus.step()
    bus.living[1].queue.clear()
    old = hello_of(version=1, oldest=1)
    assert one.round is not None
    mine = m.Hello(1, one.round, *[getattr(old, name) for name in m.Hello.__struct_fields__[2:]])
    one.report(Delivered(1, m.pack(mine)))
    assert "to run a version" in one.waits_for()
    assert alone().report(Delivered(1, m.pack(old))) == [f.Store(1)]


# ------------------------------------------------- verdicts


def test_a_verdict_counts_the_disk_with_who_speaks_for_it() -> None:
    """Nobody hears the other; whoever has the disk can do without the other."""
    for keeper, goes in ((1, 2), (2, 1)):
        bus = two(keeper=keeper)
        for process in bus.living.values():
            process.verdict.voice(keeper)
        bus.cuts = {frozenset((1, 2))}
        for _ in range(ticks(PEER_DEAD_S + VERDICT_AFTER_S)):
            bus.settle()
            if bus.expelled:
                break
            bus.tick()
        assert bus.expelled[0][0] == (goes, 1)


def test_two_who_do_not_hear_each_other_stay_without_a_disk() -> None:
    bus = two()
    bus.cuts = {frozenset((1, 2))}
    bus.pass_time(ticks(PEER_DEAD_S + VERDICT_AFTER_S))
    assert bus.expelled == []


def test_a_verdict_waits_for_the_disk_where_its_keeper_stands_still() -> None:
    verdict = v.Verdict(1, {0: 1, 1: 1, 2: 1})
    verdict.installed(7, (1, 2))
    verdict.voice(2)
    said: list[v.Effect] = []
    for at in range(2 * int(VERDICT_AFTER_S / KEEPALIVE_S)):
        for effect in verdict.silent(at * KEEPALIVE_S, [2]):
            assert isinstance(effect, v.Report)
            said += verdict.said(1, effect.body)
    assert said == []
    assert verdict.voice(1) == [v.Expel(2)]
