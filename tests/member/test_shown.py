"""Who shows what the registry has applied."""

from __future__ import annotations

import pytest

from clufs.errors import GarbageReceived
from clufs.member.shown import Shown, told


def test_a_change_is_shown_when_the_last_has_told() -> None:
    shown = Shown()
    shown.heard(2, told(7))
    assert not shown.by_all([2, 3], 7)
    shown.heard(3, told(6))
    assert shown.by_all([2, 3], 6) and not shown.by_all([2, 3], 7)
    shown.heard(3, told(9))
    assert shown.by_all([2, 3], 7) and shown.by_all([], 100)


def test_nobody_goes_back() -> None:
    shown = Shown()
    for index in (9, 7):
        shown.heard(2, told(index))
    assert shown.by_all([2], 9)


@pytest.mark.parametrize("body", [b"", b"\0" * 7, b"\0" * 9])
def test_garbage_is_refused(body: bytes) -> None:
    with pytest.raises(GarbageReceived):
        Shown().heard(2, body)
