"""Stories that a random search found and that were once wrong, told step by step."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from clufs.dlm.directory import directory_member
from clufs.dlm.interface import (
    Asked,
    Cycle,
    Done,
    Effect,
    Life,
    Notify,
    OwnerEnded,
    Received,
    Refuse,
    Released,
    Resumed,
    Send,
    Suspended,
    ViewInstalled,
    Withdrew,
)
from clufs.dlm.messages import (
    Ask,
    BlockCopies,
    Blocking,
    Copies,
    End,
    Gather,
    Gathered,
    Gone,
    Granted,
    Id,
    LookedUp,
    Lookup,
    Message,
    NotMaster,
    Queued,
    Settled,
    Unsettled,
)
from clufs.dlm.modes import Mode
from clufs.dlm.node import Node
from clufs.limits import REMASTER_AFTER
from tests.dlm.cluster import MEMBERS, Cluster
from tests.dlm.cluster_of_one import Person, Story, parse
from tests.dlm.oracle import deadlocked
from tests.dlm.test_cluster import name_with_directory

A, B, C = MEMBERS


def test_a_request_on_its_way_is_taken_back_where_it_went(monkeypatch: pytest.MonkeyPatch) -> None:
    """B's two requests meet a master that gives the name up and takes it again: one is turned away,
    and what it learns or does not learn of the master does not touch the other."""
    monkeypatch.setattr("clufs.dlm.seeking.IDLE_NAMES_KEPT", 0)
    cluster = Cluster()
    name = name_with_directory(C)
    cluster.says(A, "a", "CR", name)
    cluster.settle()
    cluster.says(B, "p", "PW", name)
    cluster.deliver((B, C))
    cluster.deliver((C, B))
    cluster.says(B, "q", "PR", name)
    cluster.says(A, "a", "UN", name)
    cluster.says(A, "b", "NL", name_with_directory(A))  # the first name is given up
    cluster.deliver((B, A))  # p is turned away
    cluster.says(A, "b", "CW", name)
    cluster.deliver((B, A))  # q waits for what the directory says
    cluster.deliver((A, B))
    cluster.withdraws(B, "p", name)
    cluster.settle()
    cluster.dies(B, "q")
    cluster.settle()
    assert not cluster.nodes[A].guests
    assert cluster.nodes[B].open_requests() == []


def test_a_group_that_waits_for_a_cycle_without_being_in_it() -> None:
    """Groups of groups: what is stuck need not be part of what holds it."""
    story = Story()
    story.says("p1", "CW", b"z", party="g", waiter="p1")
    story.says("p0", "EX", b"y", party="g", waiter="p0")
    story.says("p1", "CR", b"y", party="g", waiter="p1")
    story.says("p2", "PW", b"z", party="g", waiter="p2")
    story.says("p0", "NL", b"z")
    story.group("p0", "p1")
    story.says("p0", "PR", b"z", party="g", waiter="p0")
    story.group("g", "p1", "p2")
    assert story.all(Cycle)
    assert deadlocked(story.node) == []


def test_nl_does_not_wait_behind_others_when_the_view_is_back() -> None:
    """NL is always granted at once; without a view it waits for that, and for nothing else."""
    story = Story()
    life = Life("provolone", 0)
    story.says("a", "EX")
    story.step(Suspended())
    story.says("b", "PR")
    story.says("c", "NL")
    assert story.granted() == []
    story.step(ViewInstalled(2, (life,), frozenset()))
    assert story.granted() == ["c"]
    assert story.queues() == "a:EX c:NL |  | b:PR"


def test_a_request_that_was_taken_back_is_not_said_to_wait() -> None:
    """Its place among those whose master is sought is of no account any more."""
    lives = tuple(Life(member, 1) for member in MEMBERS)
    node = Node(A, 1, lives, 1)
    name, person = name_with_directory(B), Person("p")
    node.step(0.0, Asked(person, name, parse("EX"), "p"))
    cancelled = node.step(1.0, Asked(person, name, parse("CANCEL"), "p"))
    assert [type(effect) for effect in cancelled] == [Done, Refuse]
    assert node.step(2.0, Suspended()) == []


def test_a_request_that_waits_for_the_directory_and_comes_again_is_served_once() -> None:
    """B asks A, which B takes for the master; A is only becoming it, and asks B for all it knows."""
    lives = (Life(A, 1), Life(B, 1))
    node = Node(A, 1, (*lives, Life(C, 1)), 1)
    node.step(0.0, ViewInstalled(2, lives, frozenset()))
    names = (b"db/%d" % at for at in range(99))
    name = next(name for name in names if node.directory_member(name) == A)
    node.step(1.0, Asked(Person("p"), name, parse("PR"), "p"))
    ask = Ask(2, Id(B, 1, 8), Id(B, 1, 7), name, parse("PR"), new=True)
    copies = BlockCopies(name, b"", True, 5, ())
    heard = []
    for message in (
        Unsettled(2, (name,)),
        ask,
        End(2),
        Copies(2, (copies,)),
        replace(ask, again=True),
        Gathered(2),
    ):
        heard += node.step(2.0, Received(B, message))
    answers = [effect.message for effect in heard if isinstance(effect, Send)]
    kinds = [type(one) for one in answers if getattr(one, "id", None) == ask.id]
    assert kinds == [Queued, Granted]


def test_who_grants_is_the_master_whatever_another_request_was_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A gives the name up, turns one request away, takes it again and grants the next."""
    monkeypatch.setattr("clufs.dlm.seeking.IDLE_NAMES_KEPT", 0)
    cluster = Cluster()
    name = name_with_directory(C)
    cluster.says(A, "a", "CR", name)
    cluster.settle()
    cluster.says(B, "p", "PW", name)
    cluster.deliver((B, C))
    cluster.deliver((C, B))
    cluster.says(B, "q", "NL", name)
    cluster.says(A, "a", "UN", name)
    cluster.says(A, "b", "NL", name_with_directory(A))  # the first name is given up
    cluster.deliver((B, A))  # p is turned away
    cluster.says(A, "b", "CR", name)
    for pair in ((A, C), (A, C), (C, A), (B, A), (A, B), (A, B)):
        cluster.deliver(pair)
    assert cluster.lock(B, "q", name).granted is Mode.NL
    cluster.says(B, "q", "UN", name)
    cluster.settle()
    assert not [guest for guest in cluster.nodes[A].guests.values() if not guest.locks]
    assert len(cluster.nodes[A].guests) == 1  # p's


def test_a_tree_that_was_given_up_is_not_unsettled_for_ever() -> None:
    """Its new master's word comes when others are asked for the name already; they may refuse."""
    lives = (Life(A, 1), Life(B, 1))
    lost = frozenset({Life(C, 1)})
    node, person = Node(A, 1, (*lives, Life(C, 1)), 1), Person("p")
    names = (b"db/%d" % at for at in range(99))
    views = (sorted((A, B)), sorted((A, B, C)))
    name = next(n for n in names if all(directory_member(n, view) == B for view in views))

    def asks() -> list[Effect]:
        return list(node.step(0.0, Asked(person, name, parse("EX"), "p")))

    def hears(member: str, message: Message) -> list[Message]:
        effects = node.step(0.0, Received(member, message))
        return [effect.message for effect in effects if isinstance(effect, Send)]

    asks()
    (ask,) = hears(B, LookedUp(1, name, C, 0))
    assert isinstance(ask, Ask)
    hears(C, Queued(1, ask.id, 5))
    node.step(0.0, ViewInstalled(2, lives, lost))
    node.step(0.0, Suspended())
    node.step(0.0, Withdrew(person.locks[name]))
    asks()
    node.step(0.0, ViewInstalled(3, lives, lost))
    hears(B, Settled(2))
    (ask,) = hears(B, LookedUp(3, name, B, 0))
    assert isinstance(ask, Ask)
    assert hears(B, NotMaster(3, ask.id)) == [Lookup(3, name)]


def test_a_name_that_is_taken_is_not_given_up_while_its_first_requests_are_served() -> None:
    """B has asked so much of A, while A was becoming the master, that A would give an idle name up."""
    cluster = Cluster()
    name = name_with_directory(C)
    cluster.says(A, "a", "NL", name)
    cluster.settle()
    cluster.says(A, "a", "UN", name)
    for line in ["NL", "UN"] * (REMASTER_AFTER // 2):
        cluster.says(B, "b", line, name)
        cluster.settle()
    assert cluster.nodes[A].master_hint(name) is None
    cluster.says(A, "first", "NL", name)
    for number in range(REMASTER_AFTER // 2):
        for line in ("NL", "UN"):
            cluster.says(B, f"b{number}", line, name)
            cluster.deliver((B, A))
    cluster.withdraws(A, "first", name)
    cluster.says(A, "last", "EX", name)
    cluster.settle()
    cluster.says(C, "c", "EX", name)
    cluster.settle()
    assert cluster.lock(A, "last", name).granted is Mode.EX
    assert cluster.lock(C, "c", name).granted is None


def test_what_was_asked_about_a_lock_that_ended_before_its_tree_was_gathered_is_over() -> None:
    """B is to rebuild a tree of which nothing is left. What it answers before it has said that it has is
    not believed, so that only A can end what A asked."""
    lives = (Life(A, 1), Life(B, 1))
    node, person = Node(A, 1, (*lives, Life(C, 1)), 1), Person("p")
    names = (b"db/%d" % at for at in range(99))
    views = (sorted((A, B)), sorted((A, B, C)))
    name = next(n for n in names if all(directory_member(n, view) == B for view in views))

    def steps(event: Any) -> list[Message]:
        effects = node.step(0.0, event)
        return [effect.message for effect in effects if isinstance(effect, Send)]

    steps(Asked(person, name, parse("EX"), "p"))
    (ask,) = steps(Received(B, LookedUp(1, name, C, 0)))
    assert isinstance(ask, Ask)
    steps(Received(C, Granted(1, ask.id, Mode.EX, 5, True, b"", True, 4)))
    steps(ViewInstalled(2, lives, frozenset({Life(C, 1)})))
    (release,) = steps(Asked(person, name, parse("UN"), "p"))
    assert isinstance(release, Ask)
    steps(ViewInstalled(3, lives, frozenset()))
    steps(OwnerEnded(person, False))
    other = next(n for n in names if directory_member(n, sorted((A, B))) == A)
    for message in (
        Unsettled(3, (other,)),
        End(3),
        Gather(3, (name,), True),
        NotMaster(3, release.id),
        Gathered(3),
        Settled(3),
    ):
        steps(Received(B, message))
    assert not [one for one in node.open_requests() if isinstance(one, Ask)]


def test_a_new_lock_that_was_turned_away_is_not_built_with_what_followed_it() -> None:
    """C did not master the name when p asked, and does when q asks; then it is lost. p has not been
    asked of anybody then, only its cancel has."""
    lives = (Life(A, 1), Life(B, 1))
    node = Node(A, 1, (*lives, Life(C, 1)), 1)
    names = (b"db/%d" % at for at in range(99))
    name = next(
        n
        for n in names
        if directory_member(n, sorted((A, B))) == A and directory_member(n, sorted(MEMBERS)) == B
    )
    p, q = Person("p"), Person("q")

    def steps(event: Any) -> list[Message]:
        heard.extend(effects := node.step(0.0, event))
        return [effect.message for effect in effects if isinstance(effect, Send)]

    heard: list[Effect] = []
    steps(Asked(p, name, parse("PR"), "p", "p"))
    (first,) = steps(Received(B, LookedUp(1, name, C, 0)))
    (second,) = steps(Asked(q, name, parse("PR"), "q", "q"))
    assert isinstance(first, Ask) and isinstance(second, Ask)
    steps(Asked(p, name, parse("CANCEL"), "p", "cancel"))
    steps(Received(C, NotMaster(1, first.id)))
    steps(Received(C, Granted(1, second.id, Mode.PR, 5, True, b"", True, 4)))
    heard.clear()
    steps(ViewInstalled(2, lives, frozenset()))
    steps(Received(B, End(2)))
    ended = [(type(one), one.client) for one in heard if isinstance(one, Done | Refuse)]
    assert ended == [(Done, "cancel"), (Refuse, "p")]
    assert q.locks[name].granted is Mode.PR
    assert node.open_requests() == []


def test_who_hears_late_that_it_stood_in_the_way_may_have_no_lock_any_more() -> None:
    """The notification and the end of the lock both came while A had no quorum."""
    lives = (Life(A, 1), Life(B, 1), Life(C, 1))
    node, person = Node(A, 1, lives, 1), Person("p")
    name = name_with_directory(B)

    def steps(event: Any) -> list[Message]:
        effects = node.step(0.0, event)
        return [effect.message for effect in effects if isinstance(effect, Send)]

    steps(Asked(person, name, parse("EX notify"), "p"))
    (ask,) = steps(Received(B, LookedUp(1, name, C, 0)))
    assert isinstance(ask, Ask)
    steps(Received(C, Granted(1, ask.id, Mode.EX, 5, True, b"", True, 4)))
    for suspended in (False, True):
        if suspended:
            node.step(0.0, Suspended())
        heard = node.step(0.0, Received(C, Blocking(1, ask.lock, Mode.PR, 0)))
        assert [type(effect) for effect in heard] == ([] if suspended else [Notify])
    node.step(0.0, Received(C, Gone(1, ask.lock, Mode.EX, False)))
    told = [type(effect) for effect in node.step(0.0, Resumed())]
    assert Released in told and Notify not in told


def test_who_is_released_while_a_tree_is_rebuilt_has_not_stood_in_the_way() -> None:
    """What B had asked of C is asked again, and queues behind a lock whose release follows."""
    lives = (Life(A, 1), Life(B, 1))
    node, person = Node(A, 1, (*lives, Life(C, 1)), 1), Person("p")
    name = next(
        n
        for n in (b"db/%d" % at for at in range(99))
        if directory_member(n, sorted((A, B))) == A and directory_member(n, sorted(MEMBERS)) == B
    )

    def step(event: Any) -> list[Effect]:
        return list(node.step(0.0, event))

    step(Asked(person, name, parse("PR notify"), "p"))
    (ask,) = step(Received(B, LookedUp(1, name, C, 0)))
    assert isinstance(ask, Send) and isinstance(ask.message, Ask)
    step(Received(C, Granted(1, ask.message.id, Mode.PR, 5, True, b"", True, 4)))
    step(Asked(person, name, parse("UN"), "p"))
    step(ViewInstalled(2, lives, frozenset()))
    other = Ask(2, Id(B, 1, 5), Id(B, 1, 4), name, parse("EX"), True, again=True)
    step(Received(B, Copies(2, (BlockCopies(name, b"", True, 4, ()),))))
    step(Received(B, other))
    heard = step(Received(B, End(2)))
    assert [type(one) for one in heard if isinstance(one, Notify | Released)] == [Released]


def test_a_name_that_is_sought_anew_is_looked_up_once() -> None:
    """C never was its master, as far as A has heard. A second answer would come when A has given the
    name up already, and would make it the master once more."""
    lives = (Life(A, 1), Life(B, 1))
    node, person = Node(A, 1, (*lives, Life(C, 1)), 1), Person("p")
    name = next(
        n
        for n in (b"db/%d" % at for at in range(99))
        if directory_member(n, sorted((A, B))) == B == directory_member(n, sorted(MEMBERS))
    )
    node.step(0.0, Asked(person, name, parse("PR"), "p"))
    node.step(0.0, Received(B, LookedUp(1, name, C, 0)))
    effects = node.step(0.0, ViewInstalled(2, lives, frozenset()))
    messages = [effect.message for effect in effects if isinstance(effect, Send)]
    assert [message for message in messages if isinstance(message, Lookup)] == [Lookup(2, name)]


def test_a_cancel_comes_after_the_request_that_was_turned_away_and_asked_elsewhere() -> None:
    """C was not the master, B is, and is lost before C has answered the cancel."""
    lives = (Life(A, 1), Life(C, 1))
    node, person = Node(A, 1, (*lives, Life(B, 1)), 1), Person("p")
    name = next(
        n
        for n in (b"db/%d" % at for at in range(99))
        if directory_member(n, sorted((A, C))) == A and directory_member(n, sorted(MEMBERS)) == B
    )

    def step(event: Any) -> list[Effect]:
        return list(node.step(0.0, event))

    def asked(event: Any) -> Ask:
        (ask,) = [effect.message for effect in step(event) if isinstance(effect, Send)]
        assert isinstance(ask, Ask)
        return ask

    step(Asked(person, name, parse("PR"), "p", "p"))
    first = asked(Received(B, LookedUp(1, name, C, 0)))
    step(Asked(person, name, parse("CANCEL"), "p", "cancel"))
    step(Received(C, NotMaster(1, first.id)))
    again = asked(Received(B, LookedUp(1, name, B, 0)))
    step(Received(B, Queued(1, again.id, 3)))
    heard = [*step(ViewInstalled(2, lives, frozenset())), *step(Received(C, End(2)))]
    ended = [(type(one), one.client) for one in heard if isinstance(one, Done | Refuse)]
    assert ended == [(Refuse, "p"), (Done, "cancel")]
    assert node.open_requests() == []


def test_a_grant_from_the_queue_of_ranges_may_close_a_cycle() -> None:
    """q waits for h alone while p waits ahead of it; when p is granted, q waits for p, which as another
    thread of its own waits for q."""
    story = Story()
    story.says("h", "EX bytes=0-9", b"db/x")
    story.says("q2", "EX bytes=0-9", b"db/y", party="q")
    story.says("p1", "EX bytes=0-9", b"db/x", party="p")
    story.says("q1", "EX bytes=0-9", b"db/x", party="q")
    story.says("p2", "EX bytes=0-9", b"db/y", party="p")
    assert not story.all(Cycle)
    story.says("h", "UN", b"db/x")
    (found,) = story.all(Cycle)
    assert str(found.victim.owner) == "p2"
