"""Verdicts: the least reachable goes, all agree, and the rest keeps its majority."""

import random

import pytest

from clufs.cluster.verdict import Expel, Report, Verdict
from clufs.timeouts import VERDICT_AFTER_S


class Members:
    """Verdicts of one view over one order of messages, and whom each member does not hear."""

    def __init__(self, votes: dict[int, int]) -> None:
        self.votes = votes
        self.members = {one: Verdict(one, votes) for one in votes}
        for verdict in self.members.values():
            verdict.installed(7, votes)
        self.silent: dict[int, set[int]] = {one: set() for one in votes}
        self.stopped: set[int] = set()
        self.now = 0.0
        self.order: list[tuple[int, bytes]] = []
        self.heard = dict.fromkeys(votes, 0)
        self.verdicts: dict[int, list[int]] = {one: [] for one in votes}

    def tick(self, passed: float = VERDICT_AFTER_S / 2) -> None:
        self.now += passed
        for one in self.members.keys() - self.stopped:
            for effect in self.members[one].silent(self.now, self.silent[one]):
                assert isinstance(effect, Report)
                self.order.append((one, effect.body))

    def hear(self, one: int) -> None:
        """A member hears the next of what was said."""
        effects = self.members[one].said(*self.order[self.heard[one]])
        self.heard[one] += 1
        for effect in effects:
            assert isinstance(effect, Expel)
            self.verdicts[one].append(effect.member)

    def pass_time(self, ticks: int = 5) -> None:
        for _ in range(ticks):
            for one in self.members.keys() - self.stopped:
                while self.heard[one] < len(self.order):
                    self.hear(one)
            self.tick()

    def stop(self, one: int) -> None:
        self.stopped.add(one)
        for other in self.votes.keys() - self.stopped:
            self.silent[other].add(one)

    def cut(self, one: int, *others: int) -> None:
        """Neither hears the other."""
        for other in others:
            self.silent[one].add(other)
            self.silent[other].add(one)

    def expelled(self) -> list[int]:
        """Whom everybody that runs expels."""
        self.pass_time()
        found = [self.verdicts[one] for one in self.votes.keys() - self.stopped]
        assert all(one == found[0] for one in found)
        return found[0]


def of(count: int) -> Members:
    return Members(dict.fromkeys(range(1, count + 1), 1))


def test_nobody_silent_nothing_said() -> None:
    members = of(3)
    members.pass_time(20)
    assert members.order == []


@pytest.mark.parametrize("one", [1, 2, 3])
def test_a_stopped_member_goes(one: int) -> None:
    members = of(3)
    members.stop(one)
    assert members.expelled() == [one]
    said = len(members.order)
    members.pass_time(20)
    assert len(members.order) == said


@pytest.mark.parametrize("one", [1, 2, 3])
def test_who_hears_nobody_goes_though_others_hear_it(one: int) -> None:
    members = of(3)
    members.silent[one] = {1, 2, 3} - {one}
    assert members.expelled() == [one]


@pytest.mark.parametrize("one", [1, 2, 3, 4, 5])
def test_who_is_cut_off_on_one_side_after_the_other_goes(one: int) -> None:
    members = of(5)
    for other in {1, 2, 3, 4, 5} - {one}:
        members.cut(one, other)
        members.tick(0.01)
    assert members.expelled() == [one]


def test_of_two_that_are_parted_one_goes() -> None:
    members = of(3)
    members.cut(1, 2)
    assert members.expelled() == [2]


def test_of_two_that_are_parted_the_one_complained_of_goes() -> None:
    members = of(3)
    members.silent[2] = {1}
    assert members.expelled() == [1]


def test_of_two_that_are_parted_the_one_with_fewer_votes_goes() -> None:
    members = Members({1: 1, 2: 2, 3: 1, 4: 1})
    members.cut(1, 2)
    assert members.expelled() == [1]


def test_two_stopped_of_five_go() -> None:
    members = of(5)
    members.stop(2)
    members.stop(5)
    assert sorted(members.expelled()) == [2, 5]


@pytest.mark.parametrize("count", [2, 4])
def test_half_of_the_votes_expels_nobody(count: int) -> None:
    members = of(count)
    for one in range(count // 2):
        members.stop(one + 1)
    assert members.expelled() == []


def test_who_is_needed_for_the_majority_stays() -> None:
    members = Members({1: 3, 2: 1, 3: 1})
    members.cut(1, 2, 3)
    # The next go instead: the first has its majority alone.
    assert sorted(members.expelled()) == [2, 3]


def test_two_members_that_are_parted_stay_as_they_are_and_ask_no_more() -> None:
    members = of(2)
    members.cut(1, 2)
    assert members.expelled() == []
    said = len(members.order)
    members.pass_time(20)
    assert len(members.order) == said


def test_a_member_that_is_heard_again_in_time_stays() -> None:
    members = of(3)
    members.stop(3)
    members.pass_time(1)
    members.tick(0.01)
    members.stopped.clear()
    members.silent = {1: set(), 2: set(), 3: set()}
    assert members.expelled() == []
    members.stop(3)
    assert members.expelled() == [3]


def test_a_view_begins_anew_and_one_that_comes_back_does_not() -> None:
    members = of(3)
    members.silent[1] = {3}
    members.pass_time(2)
    one = members.members[1]
    one.installed(7, members.votes)
    assert one._open
    one.installed(8, members.votes)
    assert not one._open
    assert len(one.silent(100, {3})) == 1


def test_garbage_and_strangers_change_nothing() -> None:
    members = of(3)
    members.stop(3)
    members.order += [
        (1, b"\xc1"),
        (9, b"\x93\x00\xc3\x91\x02"),
        (1, b""),
        (2, b"\x93\x00\xc3\xc0"),
    ]
    assert members.expelled() == [3]


@pytest.mark.parametrize("block", range(5))
def test_all_come_to_one_verdict_and_the_rest_has_a_majority(block: int) -> None:
    for seed in range(400 * block, 400 * block + 400):
        chosen = random.Random(seed)
        votes = {one: chosen.choice((1, 1, 1, 2)) for one in range(1, chosen.randint(2, 6))}
        members = Members(votes)
        for _ in range(200):
            what = chosen.random()
            one, other = (chosen.choice(list(votes)) for _ in range(2))
            if what < 0.05:
                members.silent[one].symmetric_difference_update({other})
            elif what < 0.07:
                members.stopped.symmetric_difference_update({one})
            elif what < 0.2:
                members.tick()
            elif one not in members.stopped and members.heard[one] < len(members.order):
                members.hear(one)
        members.stopped.clear()
        expelled = members.expelled()
        assert len(set(expelled)) == len(expelled)
        rest = votes.keys() - set(expelled)
        assert not expelled or 2 * sum(votes[one] for one in rest) > sum(votes.values())
