"""The value block and its validity (Tru64 manual, 9.4 and 9.6.6)."""

from __future__ import annotations

import pytest

from clufs.dlm.interface import Refuse
from clufs.limits import VALUE_MAX_BYTES
from tests.dlm.cluster_of_one import Story


def two(mode: str) -> Story:
    """b holds NL, so that the block stays; a wrote `old` and holds `mode`."""
    story = Story()
    story.says("b", "NL")
    story.says("a", "EX")
    story.says("a", f"{mode} value=old")
    return story


def state(story: Story) -> tuple[bytes, bool]:
    return story.block().value, story.block().valid


def test_a_new_value_block_is_empty_and_valid() -> None:
    story = Story()
    story.says("a", "NL")
    assert state(story) == (b"", True)
    assert story.block().value_at is None


@pytest.mark.parametrize("mode", ["PW", "EX"])
def test_an_unlock_from_pw_or_ex_writes(mode: str) -> None:
    story = two(mode)
    story.says("a", "UN value=new")
    assert state(story) == (b"new", True)


@pytest.mark.parametrize("line", ["UN value=new", "UN invalidate"])
@pytest.mark.parametrize("mode", ["NL", "CR", "CW", "PR"])
def test_an_unlock_from_a_lower_mode_touches_nothing(mode: str, line: str) -> None:
    story = two(mode)
    before = story.block().valseq
    story.says("a", line)
    assert story.refusal() == "InvalidRequest"
    assert (*state(story), story.block().valseq) == (b"old", True, before)
    assert story.lock("a").queue == "GRANTED"


def test_an_unlock_writes_from_a_conversion_that_waits() -> None:
    story = two("PW")
    story.says("b", "CR")
    story.says("a", "EX")
    assert story.outcome() == "QUEUED"
    story.says("a", "UN value=new")
    assert state(story) == (b"new", True)
    assert story.queues() == "b:CR |  |"


def test_a_clean_release_leaves_the_value_as_it_is() -> None:
    story = two("EX")
    before = story.block().valseq
    story.says("a", "UN")
    assert (*state(story), story.block().valseq) == (b"old", True, before)


@pytest.mark.parametrize("line", ["UN invalidate", "PR invalidate"])
def test_invalidate_keeps_the_bytes_and_advances_valseq(line: str) -> None:
    story = two("EX")
    before = story.block().valseq
    story.says("a", line)
    assert state(story) == (b"old", False)
    assert story.block().valseq > before


@pytest.mark.parametrize(
    ("held", "line", "legal"),
    [
        ("EX", "PW invalidate", True),
        ("PW", "PR invalidate", True),
        ("EX", "EX invalidate", False),
        ("PW", "PW invalidate", False),
        ("PW", "EX invalidate", False),
        ("PR", "NL invalidate", False),
        ("EX", "PR invalidate value=v", False),
        ("EX", "UN invalidate value=v", False),
        ("EX", "UN all value=v", False),
        ("EX", "CANCEL invalidate", False),
    ],
)
def test_where_invalidate_and_value_may_stand(held: str, line: str, legal: bool) -> None:
    story = two(held)
    story.says("a", line)
    assert story.refusal() == ("" if legal else "InvalidRequest")
    assert story.block().valid is not legal


@pytest.mark.parametrize("word", ["value=v", "invalidate"])
def test_a_new_lock_writes_and_invalidates_nothing(word: str) -> None:
    story = Story()
    story.says("a", f"EX {word}")
    assert story.refusal() == "InvalidRequest"
    assert story.node.blocks == {}


def test_the_next_value_makes_it_valid_again() -> None:
    story = two("EX")
    story.says("a", "UN invalidate")
    story.says("b", "EX")
    assert state(story) == (b"old", False)
    story.says("b", "NL value=new")
    assert state(story) == (b"new", True)


@pytest.mark.parametrize(
    ("mode", "abnormal", "valid"),
    [("EX", True, False), ("PW", True, False), ("PR", True, True), ("EX", False, True)],
)
def test_an_abnormal_end_invalidates_what_could_be_written(
    mode: str, abnormal: bool, valid: bool
) -> None:
    story = two(mode)
    story.dies("a", abnormal)
    assert state(story) == (b"old", valid)


def test_a_holder_that_dies_while_it_converts_still_held_the_mode() -> None:
    story = two("PW")
    story.says("b", "CR")
    story.says("a", "EX")
    story.dies("a")
    assert state(story) == (b"old", False)


def test_a_value_has_a_limit() -> None:
    story = two("EX")
    story.says("a", "EX value=" + "x" * VALUE_MAX_BYTES)
    assert story.outcome() == "GRANTED"
    story.says("a", "EX value=" + "x" * (VALUE_MAX_BYTES + 1))
    (refuse,) = story.effects
    assert isinstance(refuse, Refuse)
    assert type(refuse.error).__name__ == "ValueTooLong"
    assert len(story.block().value) == VALUE_MAX_BYTES


def test_valseq_never_falls_even_when_the_block_was_gone() -> None:
    story = Story(view=2)
    seen = []
    for text in ("one", "two"):
        story.says("a", "EX")
        seen.append(story.block().valseq)
        story.says("a", f"EX value={text}")
        seen.append(story.block().valseq)
        story.says("a", "UN")
    assert seen == sorted(seen)
    assert len(set(seen)) == 4
    assert all(number >> 40 == 2 for number in seen)
