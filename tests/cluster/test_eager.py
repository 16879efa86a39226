"""Looking for what comes without going to sleep, where that pays."""

import pytest

from clufs.cluster import eager as module
from clufs.cluster.eager import Eager, Found
from clufs.timeouts import LOOK_S

_STEP_S = LOOK_S / 8
_COMES: Found = [(7, 1)]


class Poll:
    """Something comes after so many looks; the clock goes on by a step with each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        self.looks = 0
        self.comes_after = 0
        monkeypatch.setattr(module, "monotonic", lambda: self.now_s)

    def __call__(self, timeout_s: float) -> Found:
        assert timeout_s == 0
        self.now_s += _STEP_S
        self.looks += 1
        return _COMES if self.looks > self.comes_after else []

    def wait(self, eager: Eager, comes_after: int) -> tuple[Found, int]:
        """What one wait finds, and with how many looks."""
        self.looks, self.comes_after = 0, comes_after
        return eager.look(self), self.looks


@pytest.fixture
def poll(monkeypatch: pytest.MonkeyPatch) -> Poll:
    return Poll(monkeypatch)


_SOON, _LATE = 3, 100


def test_what_comes_soon_is_found_each_time(poll: Poll) -> None:
    eager = Eager()
    assert [poll.wait(eager, _SOON) for _ in range(5)] == [(_COMES, 4)] * 5


def test_what_comes_late_is_not_waited_for_longer_than_the_bound(poll: Poll) -> None:
    found, looks = poll.wait(Eager(), _LATE)
    assert (found, looks) == ([], 9)


def test_in_vain_it_is_tried_less_and_less(poll: Poll) -> None:
    eager = Eager()
    tried = [n for n in range(1200) if poll.wait(eager, _LATE)[1]]
    assert tried == [0, 4, 20, 84, 340, 596, 852, 1108]


def test_once_it_pays_again_it_is_soon_done_each_time(poll: Poll) -> None:
    eager = Eager()
    for _ in range(341):
        poll.wait(eager, _LATE)
    tried = [n for n in range(400) if poll.wait(eager, _SOON)[1]]
    assert tried[:4] == [255, 319, 335, 339]
    assert tried[4:] == list(range(340, 400))


def test_what_was_there_before_says_nothing(poll: Poll) -> None:
    eager = Eager()
    poll.wait(eager, _LATE)
    assert [poll.wait(eager, 0)[1] for _ in range(5)] == [0, 0, 0, 1, 1]
    poll.wait(eager, _LATE)
    assert [poll.wait(eager, _SOON)[1] for _ in range(16)] == [0] * 15 + [4]
