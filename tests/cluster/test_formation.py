"""Formation: a view needs everybody's hello, a number on a majority's disks, and one ring."""

import random

import msgspec
import pytest

from clufs.cluster import formation as f
from clufs.cluster import formation_messages as m
from clufs.cluster.interface import Delivered, EngineLost, GroupChanged, QuorumChanged, View
from clufs.limits import HELD_SAID_MAX_BYTES
from clufs.timeouts import HELLO_LATE_S, KEEPALIVE_S, PEER_DEAD_S, VERDICT_AFTER_S
from tests.cluster.bus import Bus, peers, up


def ticks(seconds: float) -> int:
    """How many ticks it takes to see that so much time has passed, and that something followed."""
    return int(seconds / KEEPALIVE_S) + 2


def installs(bus: Bus, one: int) -> list[View]:
    return [effect.view for effect in bus.effects[one] if isinstance(effect, f.Install)]


def test_three_agree_on_a_view() -> None:
    bus = up(3)
    view = View(1, ((1, 1), (2, 1), (3, 1)), quorate=True)
    assert bus.views_now() == {1: view, 2: view, 3: view}
    assert bus.disks == {1: 1, 2: 1, 3: 1}
    streams = [effect.streams for effect in bus.effects[2] if isinstance(effect, f.Install)]
    assert streams[0][3] == ("10.77.0.3", 7003)


def test_the_minority_suspends_and_the_majority_goes_on() -> None:
    bus = up(3)
    bus.part({1}, {2, 3})
    bus.settle()
    assert bus.living[1].formation.view is None
    assert "majority" in bus.living[1].formation.waits_for()
    assert bus.living[2].formation.view == View(2, ((2, 1), (3, 1)), quorate=True)


def test_numbers_grow_when_all_were_off() -> None:
    bus = up(3)
    for one in (1, 2, 3):
        bus.crash(one)
    for one in (2, 3):
        bus.start(one)
    bus.part({2, 3})
    bus.settle()
    assert bus.living[2].formation.view == View(2, ((2, 2), (3, 2)), quorate=True)


def test_what_is_said_is_heard_in_its_view_only() -> None:
    bus = up(3)
    bus.carry_out(1, bus.living[1].formation.say(b"now"))
    (late,) = bus.living[1].formation.say(b"late")
    bus.settle()
    assert f.Say(1, b"now") in bus.effects[3]
    bus.part({1, 2, 3})
    bus.settle()
    bus.carry_out(1, [late])
    bus.settle()
    assert f.Say(1, b"late") not in bus.effects[3]
    assert bus.living[3].formation.dropped == 1


def test_without_a_view_nothing_can_be_said() -> None:
    with pytest.raises(ValueError, match="no view"):
        f.Formation(f.Self(peers(1)[0], 1, 0), peers(1), 0).say(b"x")


def test_garbage_is_counted_and_changes_nothing() -> None:
    bus = up(1)
    assert bus.living[1].formation.report(Delivered(1, b"\xc1garbage")) == []
    assert bus.living[1].formation.dropped == 1


def hello_of(version: int, oldest: int) -> m.Hello:
    round = ((1, 4), ((1, 9),), 0)
    return m.Hello(version, round, "provolone", 1, 0, "", 0, (0, ()), (), (), oldest)


def alone() -> f.Formation:
    one = f.Formation(f.Self(peers(1)[0], 1, 0), peers(1), 0)
    one.report(QuorumChanged((1, 4), True, (1,)))
    one.report(GroupChanged((1, 4), ((1, 9),)))
    return one


def test_no_view_with_a_version_that_understands_this_one_no_more() -> None:
    one = alone()
    assert one.report(Delivered(1, m.pack(hello_of(version=4, oldest=3)))) == []
    assert "version" in one.waits_for()


def test_neighbouring_versions_form_a_view() -> None:
    one = alone()
    raw = msgspec.msgpack.decode(m.pack(hello_of(version=2, oldest=1)))
    later = msgspec.msgpack.encode([*raw, "a field of tomorrow"])
    assert one.report(Delivered(1, later)) == [f.Store(1)]
    one = alone()
    raw = msgspec.msgpack.decode(m.pack(hello_of(version=1, oldest=1)))
    assert one.report(Delivered(1, msgspec.msgpack.encode(raw[:-1]))) == [f.Store(1)]


def test_two_daemons_on_one_machine_form_no_view() -> None:
    one = f.Formation(f.Self(peers(1)[0], 1, 0), peers(1), 0)
    (hello,) = one.report(GroupChanged((1, 4), ((1, 8), (1, 9))))
    assert isinstance(hello, f.Multicast)
    assert one.report(Delivered(1, hello.data)) == []
    assert "second clufsd" in one.waits_for()


def test_a_quorum_of_another_ring_installs_nothing() -> None:
    bus = up(3)
    view = bus.living[1].formation.view
    assert view is not None
    effects = bus.living[1].formation.report(QuorumChanged((1, 99), True, (1, 2, 3)))
    assert [type(effect) for effect in effects] == [f.Suspend]


def test_the_end_of_the_engine_is_the_end() -> None:
    bus = up(3)
    effects = bus.living[1].formation.report(EngineLost("gone"))
    assert effects == [f.Suspend("gone"), f.Expelled("gone")]
    assert bus.living[1].formation.report(GroupChanged((1, 99), ((1, 1),))) == []


def test_who_missed_a_view_is_expelled_and_the_others_do_not_wait() -> None:
    bus = up(3)
    bus.part({1}, {2, 3})
    bus.settle()
    bus.part({1, 2, 3})
    bus.settle()
    assert bus.expelled == [((1, 1), "this member missed view 2")]
    view = bus.living[2].formation.view
    assert view is not None and view.members == ((1, 2), (2, 1), (3, 1))
    assert set(bus.views_now().values()) == {view}
    assert ((2, 1), (3, 1)) in [one.members for one in installs(bus, 2)]


def test_a_minority_that_comes_back_before_a_view_without_it_stays() -> None:
    bus = up(3)
    bus.part({1}, {2, 3})
    bus.part({1, 2, 3})
    bus.settle()
    assert bus.expelled == []
    view = View(2, ((1, 1), (2, 1), (3, 1)), quorate=True)
    assert bus.views_now() == {1: view, 2: view, 3: view}


def test_a_life_that_others_saw_dropped_does_not_come_back_though_it_saw_nothing() -> None:
    bus = up(5)
    bus.crash(5)
    bus.start(5)
    # Its hello makes the view of the others, which it does not hear of any more.
    bus.part({1, 2, 3, 4, 5})
    late = bus.living[5]
    while not any(bus.seen[one, 1][0] & {(5, 2)} for one in (1, 2, 3, 4)):
        bus.step()
        late.queue = [one for one in late.queue if not isinstance(one, QuorumChanged)]
    assert late.formation.view is None
    late.queue.clear()
    bus.part({1, 2, 3, 4}, {5})
    bus.settle()
    bus.part({1, 2, 3, 4, 5})
    bus.settle()
    assert [life for life, _ in bus.expelled] == [(5, 2)]
    assert {view and view.members[-1] for view in bus.views_now().values()} == {(5, 3)}


def test_a_new_incarnation_joins() -> None:
    bus = up(3)
    bus.crash(3)
    bus.regroup(3)
    bus.settle()
    bus.start(3)
    bus.living[3].queue.append(bus.quorum(3))
    bus.regroup(3)
    bus.settle()
    assert {view and view.members for view in bus.views_now().values()} == {
        ((1, 1), (2, 1), (3, 2))
    }
    assert bus.expelled == []


def test_every_corosync_restarts_and_rings_begin_again() -> None:
    bus = up(3)
    for one in (1, 2, 3):
        bus.carry_out(one, bus.living[one].formation.report(EngineLost("restarted")))
        bus.living[one].queue.clear()
    bus.sequence = 0
    bus.part({1, 2, 3})
    bus.settle()
    view = View(2, ((1, 2), (2, 2), (3, 2)), quorate=True)
    assert bus.views_now() == {1: view, 2: view, 3: view}


def test_one_corosync_restarts() -> None:
    bus = up(3)
    bus.carry_out(2, bus.living[2].formation.report(EngineLost("restarted")))
    bus.living[2].queue.clear()
    bus.part({1, 3}, {2})
    bus.part({1, 2, 3})
    bus.settle()
    assert {view and view.members for view in bus.views_now().values()} == {
        ((1, 1), (2, 2), (3, 1))
    }


def test_a_stopped_process_does_not_hold_a_round_up() -> None:
    bus = up(3)
    bus.living[3].stopped = True
    bus.part({1, 2, 3})
    bus.settle()
    assert bus.living[1].formation.waits_for() == "the hello of pepicelli"
    bus.pass_time(ticks(HELLO_LATE_S))
    view = View(2, ((1, 1), (2, 1)), quorate=True)
    assert bus.living[1].formation.view == bus.living[2].formation.view == view
    # A new member need not wait for it; and it is told when it wakes up.
    bus.crash(2)
    bus.start(2)
    bus.living[2].queue.append(bus.quorum(2))
    bus.regroup(2)
    bus.settle()
    assert bus.living[2].formation.view == View(3, ((1, 1), (2, 2)), quorate=True)
    bus.living[3].stopped = False
    bus.settle()
    assert [life for life, _ in bus.expelled] == [(3, 1)]
    assert {view and view.members for view in bus.views_now().values()} == {
        ((1, 1), (2, 2), (3, 2))
    }


def test_a_late_hello_is_in_time_before_the_majority_complains() -> None:
    bus = up(3)
    bus.living[3].stopped = True
    bus.part({1, 2, 3})
    bus.settle()
    bus.now += HELLO_LATE_S
    bus.carry_out(1, bus.living[1].formation.tick(0))
    bus.carry_out(1, bus.living[1].formation.tick(bus.now))
    bus.settle()
    assert bus.living[1].formation.view is None
    bus.living[3].stopped = False
    bus.settle()
    assert bus.expelled == []
    assert {view and view.number for view in bus.views_now().values()} == {2}


def test_a_verdict_forms_a_view_without_a_stopped_process() -> None:
    bus = up(3)
    bus.living[2].stopped = True
    bus.pass_time(ticks(PEER_DEAD_S + VERDICT_AFTER_S))
    view = View(2, ((1, 1), (3, 1)), quorate=True)
    assert bus.living[1].formation.view == bus.living[3].formation.view == view
    assert f.Suspend("polishham is expelled: nothing is heard of it") in bus.effects[1]
    bus.living[2].stopped = False
    bus.settle()
    assert bus.expelled == [((2, 1), "the others hear nothing of this member")]
    assert {view and view.members for view in bus.views_now().values()} == {
        ((1, 1), (2, 2), (3, 1))
    }


def test_a_member_that_hears_nobody_is_expelled() -> None:
    bus = up(3)
    bus.cuts = {frozenset((1, 2)), frozenset((1, 3))}
    bus.pass_time(ticks(PEER_DEAD_S + VERDICT_AFTER_S))
    assert [life for life, _ in bus.expelled] == [(1, 1)]
    bus.cuts.clear()
    bus.pass_time(20)
    assert {view and view.members for view in bus.views_now().values()} == {
        ((1, 2), (2, 1), (3, 1))
    }


@pytest.mark.parametrize("in_time", [True, False])
def test_who_was_left_out_is_in_no_view_whenever_its_hello_comes(in_time: bool) -> None:
    here = Bus(3)
    here.start(1)
    one, here_round = here.living[1].formation, ((1, 4), ((1, 1), (2, 1), (3, 1)), 0)
    one.report(QuorumChanged((1, 4), True, (1, 2, 3)))
    one.report(GroupChanged(*here_round[:2]))

    def hello(of: int, highest: int, left_out: m.Processes) -> list[f.Effect]:
        name = here.peers[of - 1].name
        said = m.Hello(1, here_round, name, of, highest, "", 0, (0, ()), (), left_out)
        return one.report(Delivered(of, m.pack(said)))

    if in_time:
        assert hello(2, 5, ()) == []
    assert hello(1, 5, ()) == []
    # The third one's hello tells of a verdict against the second.
    assert hello(3, 0, ((2, 1),)) == [f.Store(6)]
    if not in_time:
        assert hello(2, 9, ()) == []
    one.stored(6)
    vouched = [one.report(Delivered(of, m.pack(m.Vouched(here_round, 6)))) for of in (2, 1, 3)]
    assert vouched[:2] == [[], []]
    assert [effect.view for effect in vouched[2] if isinstance(effect, f.Install)] == [
        View(6, ((1, 1), (3, 3)), quorate=True)
    ]


def test_what_is_held_for_a_view_is_bounded() -> None:
    bus = up(3)
    bus.living[1].formation.report(QuorumChanged((1, 4), False, (1,)))
    body = bytes(2**20)
    found: list[f.Effect] = []
    for count in range(1, HELD_SAID_MAX_BYTES // 2**20 + 1):
        found = bus.living[1].formation.report(Delivered(2, m.pack(m.Said(1, body))))
        assert bool(found) == (count == HELD_SAID_MAX_BYTES // 2**20)
    assert isinstance(found[0], f.Expelled)


def disturb(bus: Bus, *, stops: bool) -> None:
    """Something of all that may happen to the members and the network between them."""
    everybody, chance = set(bus.disks), bus.random.random
    for one in everybody:
        process = bus.living.get(one)
        if process is None:
            if chance() < 0.5:
                bus.start(one)
        elif chance() < 0.12:
            bus.crash(one)
        elif stops and chance() < (0.5 if process.stopped else 0.12):
            process.stopped = not process.stopped
    if chance() < 0.5:
        here = {one for one in everybody if chance() < 0.7}
        bus.part(*(part for part in (here, everybody - here) if part))
    else:
        for one in everybody - bus.rings.keys():
            bus.part({one})
        for one in everybody & bus.living.keys():
            if not bus.living[one].queue:
                bus.living[one].queue.append(bus.quorum(one))
        for one in {bus.rings[one][0]: one for one in everybody}.values():
            bus.regroup(one)
    if stops and chance() < 0.3:
        pair = frozenset(bus.random.sample(sorted(everybody), 2))
        bus.cuts.symmetric_difference_update({pair})


def story(seed: int, *, stops: bool) -> Bus:
    bus = Bus(random.Random(seed).choice((3, 4, 5)), seed)
    bus.part(set(bus.disks))
    for _ in range(15):
        disturb(bus, stops=stops)
        for _ in range(bus.random.choice((0, 5, 20, 60, 200))):
            bus.step()
            if bus.random.random() < 0.1:
                bus.chat(bus.random.choice(list(bus.disks)))
        for _ in range(bus.random.choice((0, 0, 4, 16)) if stops else 0):
            bus.tick()
            for _ in range(bus.random.choice((10, 100))):
                bus.step()
    return bus


def come_together(bus: Bus, stopped: set[int]) -> None:
    """All that run and are not cut off form one view, of exactly them."""
    everybody = set(bus.disks)
    bus.cuts.clear()
    for one in everybody - bus.living.keys():
        bus.start(one)
    for one, process in bus.living.items():
        process.stopped = one in stopped
    bus.part(everybody)
    bus.pass_time(40)
    running = bus.running()
    lives = tuple((one, running[one].incarnation) for one in sorted(running))
    assert {one.formation.view for one in running.values()} == {bus.views[max(bus.views)]}
    assert bus.views[max(bus.views)].members == lives
    bus.check_what_was_heard()


@pytest.mark.parametrize("block", range(10))
def test_partitions_and_crashes(block: int) -> None:
    for seed in range(100 * block, 100 * block + 100):
        bus = story(seed, stops=False)
        come_together(bus, set())
        # Nobody was expelled but who was in a view and then not in a later one.
        for life, _ in bus.expelled:
            first = min(number for number, view in bus.views.items() if life in view.members)
            assert any(n > first and life not in view.members for n, view in bus.views.items())


@pytest.mark.parametrize("block", range(20))
def test_partitions_crashes_stops_and_cuts(block: int) -> None:
    for seed in range(100 * block, 100 * block + 100):
        bus = story(seed, stops=True)
        few = bus.random.randint(0, (len(bus.disks) - 1) // 2)
        come_together(bus, set(bus.random.sample(sorted(bus.disks), few)))
        come_together(bus, set())
