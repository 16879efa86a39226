"""The gate: who runs agents when, what is proposed on which proof, and what is said meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from clufs.cluster.gate import (
    AgentPlan,
    At,
    Effect,
    Gate,
    OrderEnded,
    ProposeOut,
    RunAgent,
    StopAgent,
    Told,
)
from clufs.dlm.interface import Life
from clufs.errors import InvalidRequest, NoQuorum
from clufs.timeouts import FENCING_RETRY_MAX_S, FENCING_RETRY_MIN_S

A, B, C = Life("a", 1), Life("b", 2), Life("c", 3)
B5 = Life("b", 5)
ALL = frozenset((A, B, C))
ONE = (AgentPlan("command", ("/sbin/one",)),)
TWO = (*ONE, AgentPlan("command", ("/sbin/two",)))


def deeds(effects: Sequence[Effect]) -> list[Effect]:
    return [effect for effect in effects if not isinstance(effect, Told)]


def told(effects: Sequence[Effect]) -> list[str]:
    return [
        f"{effect.life.member}{effect.life.incarnation} {effect.agent} {effect.result}"
        for effect in effects
        if isinstance(effect, Told)
    ]


def b_lost(agents: tuple[AgentPlan, ...] = ONE, me: str = "a") -> tuple[Gate, list[Effect]]:
    """A gate of a member of view 2, where `b` is no more."""
    gate = Gate(me, agents)
    assert gate.installed(1, (A, B, C), ALL) == []
    assert gate.waits_for() == ""
    return gate, gate.installed(2, (A, C), ALL)


def test_the_first_member_runs_the_agent_and_its_certificate_is_proposed() -> None:
    gate, effects = b_lost()
    assert deeds(effects) == [RunAgent(B, 0)]
    assert gate.is_fencing(B)
    assert gate.waits_for() == "fencing of b (incarnation 2): agent one runs"
    effects = gate.agent_done(1.0, B, 0, True, "it is off")
    assert effects == [Told(B, "one", "off", "it is off"), ProposeOut(B, "agent one: it is off")]
    assert gate.waits_for() == (
        "fencing of b (incarnation 2): it is off; the registry has to record it"
    )
    assert gate.lost == {B}
    assert gate.changed(ALL - {B}, {B: "agent one: it is off"}) == [
        Told(B, "-", "out", "agent one: it is off")
    ]
    assert gate.waits_for() == ""
    assert gate.lost == frozenset()


def test_the_others_wait_for_the_first() -> None:
    gate, effects = b_lost(me="c")
    assert deeds(effects) == []
    assert told(effects) == ["b2 - lost"]
    assert gate.waits_for() == "fencing of b (incarnation 2): a runs the agents"


def test_if_the_first_dies_the_next_begins_anew() -> None:
    gate = Gate("b", ONE)
    gate.installed(1, (A, B, C), ALL)
    assert deeds(gate.installed(2, (A, B), ALL)) == []
    effects = gate.installed(3, (B,), ALL)
    assert deeds(effects) == [RunAgent(A, 0), RunAgent(C, 0)]
    assert told(effects) == ["a1 - lost", "a1 one begun", "c3 one begun"]


def test_without_an_agent_a_person_is_waited_for() -> None:
    gate, effects = b_lost(agents=())
    assert deeds(effects) == []
    assert gate.waits_for() == (
        "fencing of b (incarnation 2): no agent is configured;"
        " echo confirmed > /clu/members/b/fence once it is surely off"
    )
    effects = gate.confirm("b", "uid 0 on a")
    assert deeds(effects) == [ProposeOut(B, "confirmed by uid 0 on a")]
    assert told(effects) == ["b2 person confirmed"]


def test_the_agent_none_is_no_agent() -> None:
    gate, effects = b_lost(agents=(AgentPlan("none"),))
    assert deeds(effects) == []
    assert "no agent is configured" in gate.waits_for()


def test_agents_are_tried_in_order_and_then_again_later_and_later() -> None:
    gate, effects = b_lost(agents=(AgentPlan("none"), *TWO))
    assert deeds(effects) == [RunAgent(B, 1)]
    now, pauses = 0.0, []
    for round in range(8):
        assert deeds(gate.agent_done(now, B, 1, False, "no route")) == [RunAgent(B, 2)]
        (at,) = deeds(gate.agent_done(now, B, 2, False, "bad password"))
        assert isinstance(at, At)
        pauses.append(at.time_s - now)
        times = "once" if round == 0 else f"{round + 1} times"
        assert gate.waits_for() == (
            f"fencing of b (incarnation 2): all agents have failed {times} (two: bad password);"
            " they are tried again soon, or echo confirmed > /clu/members/b/fence once it is"
            " surely off"
        )
        assert not gate.is_fencing(B)
        assert gate.tick(at.time_s - 0.01) == []
        assert deeds(gate.tick(at.time_s)) == [RunAgent(B, 1)]
        assert "; agent one runs again, or" in gate.waits_for()
        now = at.time_s
    assert pauses[:3] == [FENCING_RETRY_MIN_S * factor for factor in (1, 2, 4)]
    assert pauses[-1] == FENCING_RETRY_MAX_S


def test_a_confirmation_stops_the_agent() -> None:
    gate, _ = b_lost()
    effects = gate.confirm("b")
    assert deeds(effects) == [StopAgent(B), ProposeOut(B, "confirmed by a person")]
    assert deeds(gate.agent_done(1.0, B, 0, False, "killed")) == []


def test_what_another_member_had_recorded_stops_the_agent() -> None:
    gate, _ = b_lost()
    assert deeds(gate.changed(ALL - {B}, {})) == [StopAgent(B)]


def test_nothing_to_confirm() -> None:
    gate, _ = b_lost()
    for member in ("a", "c", "nobody"):
        with pytest.raises(InvalidRequest, match=f"{member} is not lost"):
            gate.confirm(member)


def test_a_minority_neither_shoots_nor_believes_a_person() -> None:
    gate = Gate("a", ONE)
    for orders in (gate.confirm, gate.fence):
        with pytest.raises(NoQuorum):
            orders("b")
    gate.installed(1, (A, B, C), ALL)
    gate.suspended()
    assert gate.changed(ALL | {B5}, {}) == []
    assert gate.waits_for() == ""
    for orders in (gate.confirm, gate.fence):
        with pytest.raises(NoQuorum):
            orders("b")


def test_an_agent_that_runs_goes_on_over_a_change_of_the_view() -> None:
    gate, _ = b_lost()
    gate.suspended()
    assert deeds(gate.installed(3, (A, C), ALL)) == []
    gate.suspended()
    effects = gate.agent_done(1.0, B, 0, True, "off")
    assert deeds(effects) == []
    assert deeds(gate.installed(4, (A, C), ALL)) == [ProposeOut(B, "agent one: off")]


def test_a_failure_without_a_view_is_followed_by_nothing_until_the_next() -> None:
    gate, _ = b_lost(TWO)
    gate.suspended()
    assert deeds(gate.agent_done(1.0, B, 0, False, "no")) == []
    assert deeds(gate.installed(3, (A, C), ALL)) == [RunAgent(B, 0)]


def test_a_pause_ends_with_the_next_view() -> None:
    gate, _ = b_lost()
    gate.agent_done(1.0, B, 0, False, "no")
    assert deeds(gate.installed(3, (A, C), ALL)) == [RunAgent(B, 0)]
    assert gate.tick(1000.0) == []


def test_a_proof_is_proposed_again_in_every_view_until_it_is_recorded() -> None:
    gate, _ = b_lost()
    gate.agent_done(1.0, B, 0, True, "off")
    assert deeds(gate.changed(ALL, {})) == []
    for view in (3, 4):
        assert deeds(gate.installed(view, (A, C), ALL)) == [ProposeOut(B, "agent one: off")]
    assert deeds(gate.installed(5, (A, C), ALL - {B})) == []


def test_a_certificate_holds_for_older_lives_and_not_for_newer() -> None:
    both = ALL | {B5}
    gate = Gate("a", ONE)
    effects = gate.installed(2, (A, C), both)
    assert deeds(effects) == [RunAgent(B5, 0)]
    assert "(incarnation 2): agent one runs; fencing of b (incarnation 5)" in gate.waits_for()
    effects = gate.agent_done(1.0, B5, 0, True, "off")
    proof = "agent one: off"
    assert deeds(effects) == [ProposeOut(B, proof), ProposeOut(B5, proof)]
    b9 = Life("b", 9)
    assert deeds(gate.changed(both | {b9}, {})) == [RunAgent(b9, 0)]


def test_a_member_that_is_back_is_not_shot_for_its_old_life() -> None:
    gate, _ = b_lost()
    effects = gate.installed(3, (A, B5, C), ALL)
    assert deeds(effects) == [StopAgent(B)]
    assert gate.waits_for() == (
        "fencing of b (incarnation 2): incarnation 5, now here, has not ended it;"
        " echo confirmed > /clu/members/b/fence once it is surely off"
    )
    assert deeds(gate.confirm("b")) == [ProposeOut(B, "confirmed by a person")]
    assert deeds(gate.installed(4, (A, C), ALL | {B5})) == [
        ProposeOut(B, "confirmed by a person"),
        RunAgent(B5, 0),
    ]


def test_a_living_member_ordered_off_is_proved_off_when_it_drops_out() -> None:
    gate = Gate("c", TWO)
    gate.installed(1, (A, B, C), ALL)
    effects = gate.fence("b", "uid 0 on c")
    assert deeds(effects) == [RunAgent(B, 0)]
    assert told(effects) == ["b2 person ordered", "b2 one begun"]
    assert deeds(gate.agent_done(1.0, B, 0, False, "no")) == [RunAgent(B, 1)]
    assert deeds(gate.agent_done(2.0, B, 1, True, "off")) == [OrderEnded(B, True, "off")]
    assert deeds(gate.fence("b")) == [OrderEnded(B, True, "agent two: off")]
    assert deeds(gate.installed(2, (A, C), ALL)) == [ProposeOut(B, "agent two: off")]


def test_an_order_against_a_living_member_is_tried_once() -> None:
    gate = Gate("a", ONE)
    gate.installed(1, (A, B, C), ALL)
    gate.fence("b")
    effects = gate.agent_done(1.0, B, 0, False, "no route")
    assert deeds(effects) == [OrderEnded(B, False, "one: no route")]
    assert gate.tick(1000.0) == []
    assert deeds(gate.installed(2, (A, B, C), ALL)) == []


def test_an_order_goes_on_as_fencing_when_the_member_is_lost_meanwhile() -> None:
    gate = Gate("a", ONE)
    gate.installed(1, (A, B, C), ALL)
    gate.fence("b")
    assert deeds(gate.installed(2, (A, C), ALL)) == []
    effects = deeds(gate.agent_done(1.0, B, 0, False, "no"))
    assert effects == [OrderEnded(B, False, "one: no"), At(1.0 + FENCING_RETRY_MIN_S)]


def test_an_order_ends_when_the_member_says_goodbye() -> None:
    gate = Gate("a", ONE)
    gate.installed(1, (A, B, C), ALL)
    gate.fence("b")
    gate.changed(ALL - {B}, {})
    effects = deeds(gate.installed(2, (A, C), ALL - {B}))
    assert effects == [StopAgent(B), OrderEnded(B, False, "it ended by itself")]


def test_an_order_during_a_pause_does_not_wait() -> None:
    gate, _ = b_lost()
    gate.agent_done(1.0, B, 0, False, "no")
    assert deeds(gate.fence("b")) == [RunAgent(B, 0)]
    assert deeds(gate.tick(1000.0)) == []


@pytest.mark.parametrize(
    ("agents", "member", "why"),
    [
        ((), "b", "no agent is configured"),
        (ONE, "a", "does not fence itself"),
        (ONE, "m9", "neither in the view nor lost"),
    ],
)
def test_an_order_that_makes_no_sense(agents: tuple[AgentPlan, ...], member: str, why: str) -> None:
    gate = Gate("a", agents)
    gate.installed(1, (A, B, C), ALL)
    with pytest.raises(InvalidRequest, match=why):
        gate.fence(member)


def test_a_view_with_the_life_in_it_refutes_its_certificate() -> None:
    gate = Gate("a", ONE)
    gate.installed(1, (A, B, C), ALL)
    gate.fence("b")
    gate.agent_done(1.0, B, 0, True, "off, I swear")
    assert told(gate.installed(2, (A, B, C), ALL)) == ["b2 - refuted"]
    assert deeds(gate.installed(3, (A, C), ALL)) == [RunAgent(B, 0)]
