"""From the engine's reports to the view of the lock manager: a whole member, without clock and disk."""

import pytest

from clufs.cluster import gate as g
from clufs.cluster.interface import QuorumChanged
from clufs.dlm.interface import Fenced, Leaving, Life, Resumed, Suspended, ViewInstalled
from clufs.errors import InvalidRequest, NoQuorum
from clufs.registry.commands import PutNamespace
from tests.member.cores import AGENT, NAMES, Cores


def three(**how: object) -> Cores:
    cores = Cores(**how)  # type: ignore[arg-type]
    cores.start(*NAMES)
    return cores


def test_three_members_get_one_view_in_which_nobody_is_lost() -> None:
    cores = three()
    views = {str(one.last(ViewInstalled)) for one in cores.running.values()}
    assert len(views) == 1
    view = cores.running["provolone"].last(ViewInstalled)
    assert set(view.members) == {Life(name, 1) for name in NAMES}
    assert view.lost == frozenset()
    assert all(one.core.waits_for() == "" for one in cores.running.values())


def test_one_of_three_gets_no_view_and_says_what_it_waits_for() -> None:
    cores = Cores()
    cores.start("provolone")
    one = cores.running["provolone"]
    assert one.steps == []
    assert "majority of the votes; not heard of: polishham pepicelli" in one.core.waits_for()
    with pytest.raises(NoQuorum):
        one.core.confirm("polishham")


def test_a_member_that_dies_is_lost_until_a_person_confirms_it() -> None:
    cores = three()
    dead = cores.life("pepicelli")
    cores.kill("pepicelli")
    one, other = cores.running["provolone"], cores.running["polishham"]
    assert one.last(ViewInstalled).lost == frozenset({dead})
    assert "fencing of pepicelli (incarnation 1): no agent is configured" in one.core.waits_for()

    cores.do(one, one.core.confirm("pepicelli"))
    cores.settle()
    assert one.steps[-1] == Fenced(dead)
    assert other.steps[-1] == Fenced(dead)
    assert one.core.waits_for() == ""


def test_an_agent_is_run_by_one_member_only_and_its_certificate_ends_the_wait() -> None:
    cores = three(agents=AGENT)
    dead = cores.life("pepicelli")
    cores.kill("pepicelli")
    shooters = [one for one in cores.running.values() if one.shots]
    assert [one.shots for one in shooters] == [[g.RunAgent(dead, 0)]]

    cores.do(shooters[0], shooters[0].core.agent_done(1.0, dead, 0, True, "power is off"))
    cores.settle()
    assert all(one.steps[-1] == Fenced(dead) for one in cores.running.values())


def test_a_member_without_quorum_is_suspended_and_can_confirm_nothing() -> None:
    cores = three()
    cores.kill("polishham", "pepicelli")
    one = cores.running["provolone"]
    assert one.steps[-1] == Suspended()
    assert not one.core.standing
    with pytest.raises(NoQuorum):
        one.core.confirm("pepicelli")


def test_a_daemon_that_restarts_in_the_same_boot_confirms_its_old_life_if_it_saw_its_owners_gone() -> (
    None
):
    cores = three()
    dead = cores.life("pepicelli")
    cores.kill("pepicelli")
    cores.start("pepicelli", cleared=True)
    one = cores.running["provolone"]
    assert Fenced(dead) in one.steps
    assert one.last(ViewInstalled).lost == frozenset()
    assert Life("pepicelli", 2) in one.last(ViewInstalled).members


def test_a_daemon_that_knows_nothing_of_its_old_life_confirms_nothing() -> None:
    cores = three()
    dead = cores.life("pepicelli")
    cores.kill("pepicelli")
    cores.start("pepicelli")
    assert cores.running["provolone"].last(ViewInstalled).lost == frozenset({dead})
    assert cores.running["pepicelli"].last(ViewInstalled).lost == frozenset({dead})


def test_a_new_boot_of_the_same_machine_confirms_the_old_life() -> None:
    cores = three()
    dead = cores.life("pepicelli")
    cores.kill("pepicelli")
    cores.machines["pepicelli"].boot_id = "the next boot"
    cores.start("pepicelli")
    assert Fenced(dead) in cores.running["provolone"].steps


def test_after_a_power_cut_of_all_whoever_does_not_come_back_is_lost() -> None:
    cores = three()
    dead = cores.life("pepicelli")
    cores.kill(*NAMES)
    cores.start("provolone", "polishham", cleared=True)
    view = cores.running["provolone"].last(ViewInstalled)
    assert view.lost == frozenset({dead})
    assert view.view > 1


def test_a_disk_from_long_ago_is_told_so_and_its_member_may_come_back_as_a_new_life() -> None:
    cores = three()
    cores.kill("pepicelli")
    cores.start("pepicelli", cleared=True)
    cores.kill("pepicelli")
    cores.machines["pepicelli"].incarnation = 0
    cores.start("pepicelli")
    assert "incarnation 1 of pepicelli is out" in cores.running["pepicelli"].expelled
    cores.start("pepicelli")
    cores.start("pepicelli")
    view = cores.running["provolone"].last(ViewInstalled)
    assert Life("pepicelli", 3) in view.members
    assert view.lost == frozenset({Life("pepicelli", 2)})


def test_an_ordered_goodbye_leaves_nobody_lost() -> None:
    cores = three()
    leaver = cores.running["pepicelli"]
    cores.do(leaver, leaver.core.leave())
    assert leaver.steps[-1] == Leaving()
    cores.do(leaver, leaver.core.left())
    cores.settle()
    assert leaver.finished
    cores.kill("pepicelli")
    assert cores.running["provolone"].last(ViewInstalled).lost == frozenset()


def test_a_namespace_is_acknowledged_when_the_others_have_it() -> None:
    cores = three()
    one = cores.running["provolone"]
    id, effects = one.core.propose(PutNamespace(b"db", 1000, 1000, 0o700, True))
    cores.do(one, effects)
    assert id not in one.answers
    cores.settle()
    assert one.answers[id] is None
    spaces = [other.core.replica.state.namespaces for other in cores.running.values()]
    assert all(space[b"db"].uid == 1000 for space in spaces)


def test_a_silent_member_is_expelled_and_the_others_go_on() -> None:
    cores = three()
    silent = cores.machines["pepicelli"].peer.id
    for _ in range(20):
        cores.now += 1.0
        for name in ("provolone", "polishham"):
            one = cores.running[name]
            cores.do(one, one.core.tick(cores.now, [silent]))
        cores.settle()
    assert cores.running["pepicelli"].expelled
    view = cores.running["provolone"].last(ViewInstalled)
    assert {life.member for life in view.members} == {"provolone", "polishham"}
    assert view.lost == frozenset({Life("pepicelli", 1)})


def test_a_member_that_stood_still_goes_on_when_its_view_still_holds() -> None:
    cores = three()
    one = cores.running["provolone"]
    cores.do(one, one.core.probe())
    assert one.steps[-1] != Resumed()
    cores.settle()
    assert one.steps[-1] == Resumed()
    others = [cores.running[name] for name in NAMES[1:]]
    assert all(Resumed() not in other.steps for other in others)


def test_a_member_that_stood_still_and_was_expelled_meanwhile_does_not_go_on() -> None:
    cores = three()
    one = cores.running["pepicelli"]
    cores.do(one, one.core.probe())
    cores.kill("pepicelli")
    assert Resumed() not in one.steps


def test_a_view_that_comes_back_with_the_quorum_is_the_same_view() -> None:
    cores = three()
    one = cores.running["provolone"]
    view, steps = one.core.view, len(one.steps)
    ring = (1, cores.ring)
    cores.do(one, one.core.report(QuorumChanged(ring, False, (1,))))
    cores.do(one, one.core.report(QuorumChanged(ring, True, (1, 2, 3))))
    cores.settle()
    assert one.steps[steps:] == [Suspended(), Resumed()]
    assert one.core.view == view


def test_a_joiner_that_cannot_come_in_is_not_waited_for_for_ever() -> None:
    cores = Cores()
    cores.start("provolone", "polishham")
    cores.mute = "pepicelli"
    cores.start("pepicelli")
    one = cores.running["provolone"]
    assert not one.core.standing
    assert "let pepicelli in" in one.core.waits_for()
    for _ in range(30):
        cores.now += 1.0
        for name in NAMES[:2]:
            other = cores.running[name]
            cores.do(other, other.core.tick(cores.now, []))
        cores.settle()
    assert cores.running["pepicelli"].expelled
    assert one.core.standing
    view = one.last(ViewInstalled)
    assert {life.member for life in view.members} == set(NAMES[:2])
    assert view.lost == frozenset()


def test_who_comes_and_goes_is_an_event() -> None:
    cores = three()
    cores.kill("pepicelli")
    cores.start("pepicelli")
    events = cores.running["provolone"].events
    moves = [(e.what, dict(e.facts)) for e in events if e.what in ("joined", "left")]
    assert moves[-2:] == [
        ("left", {"member": "pepicelli", "incarnation": 1}),
        ("joined", {"member": "pepicelli", "incarnation": 2}),
    ]


def test_nobody_is_fenced_who_is_not_lost() -> None:
    cores = three(agents=AGENT)
    one = cores.running["provolone"]
    with pytest.raises(InvalidRequest, match="pepicelli is not lost"):
        one.core.confirm("pepicelli")


def test_a_full_disk_is_told_once_and_so_is_room_on_it() -> None:
    cores = three()
    one, full = cores.running["provolone"], cores.running["pepicelli"]
    full.machine.is_full = True
    for name in (b"a", b"b"):
        cores.do(one, one.core.propose(PutNamespace(name, 0, 0, 0o700, True))[1])
        cores.settle()
    assert full.core.disk_error == "no room for the log"
    full.machine.is_full = False
    cores.do(full, full.core.tick(1.0, []))
    cores.settle()
    assert full.core.disk_error == ""
    told = [(e.what, dict(e.facts)) for e in full.events if "disk" in e.what]
    assert told == [("disk-full", {"why": "no room for the log"}), ("disk-has-room", {})]
    assert [e.what for e in one.events if "disk" in e.what] == []


def test_a_member_without_room_for_the_number_of_a_view_is_in_it_all_the_same() -> None:
    """Where the others have it on their disks; and it says why it has no part in more."""
    cores = three()
    full = cores.running["pepicelli"]
    full.machine.is_full = True
    cores.change()
    assert full.core.disk_error.startswith("no room")
    assert full.core.view is not None
    assert full.core.view.number > full.machine.view
    assert not full.expelled
