"""The manual's tables, transcribed as they are printed, every cell tried through the node."""

from __future__ import annotations

import pytest

from clufs.dlm.modes import COMPATIBLE, QUECVT_LEGAL, VALUE_EFFECT, Mode
from tests.dlm.cluster_of_one import Story

TABLE_9_3 = """
Mode of Requested Lock | NL  CR  CW  PR  PW  EX
Null (NL)              | Yes Yes Yes Yes Yes Yes
Concurrent Read (CR)   | Yes Yes Yes Yes Yes No
Concurrent Write (CW)  | Yes Yes Yes No  No  No
Protected Read (PR)    | Yes Yes No  Yes No  No
Protected Write (PW)   | Yes Yes No  No  No  No
Exclusive (EX)         | Yes No  No  No  No  No
"""

TABLE_9_5 = """
Mode at Which Lock Is Held | NL CR    CW    PR    PW    EX
Null (NL)                  | -  Legal Legal Legal Legal Legal
Concurrent Read (CR)       | -  -     Legal Legal Legal Legal
Concurrent Write (CW)      | -  -     -     -     Legal Legal
Protected Read (PR)        | -  -     -     -     Legal Legal
Protected Write (PW)       | -  -     -     -     -     -
Exclusive (EX)             | -  -     -     -     -     -
"""

TABLE_9_6 = """
Mode at Which Lock Is Held | NL    CR    CW    PR    PW    EX
Null (NL)                  | Read  Read  Read  Read  Read  Read
Concurrent Read (CR)       | -     Read  Read  Read  Read  Read
Concurrent Write (CW)      | -     -     Read  -     Read  Read
Protected Read (PR)        | -     -     -     Read  Read  Read
Protected Write (PW)       | Write Write Write Write Write Read
Exclusive (EX)             | Write Write Write Write Write Write
"""


def cells(table: str) -> dict[tuple[Mode, Mode], str]:
    head, *rows = (line.split("|")[1].split() for line in table.strip().splitlines())
    columns = [Mode[name] for name in head]
    return {
        (row_mode, column): cell
        for row_mode, row in zip(columns, rows, strict=True)
        for column, cell in zip(columns, row, strict=True)
    }


COMPATIBILITY = cells(TABLE_9_3)
QUECVT = cells(TABLE_9_5)
VALUE = cells(TABLE_9_6)
PAIRS = list(COMPATIBILITY)


@pytest.mark.parametrize(("asked", "granted"), PAIRS)
def test_a_new_lock_is_granted_beside_another_as_table_9_3_says(asked: Mode, granted: Mode) -> None:
    story = Story()
    story.says("a", granted.name)
    story.says("b", asked.name)
    expected = "GRANTED" if COMPATIBILITY[asked, granted] == "Yes" else "QUEUED"
    assert story.outcome() == expected
    assert COMPATIBLE[asked][granted] == (expected == "GRANTED")


@pytest.mark.parametrize(("asked", "granted"), PAIRS)
def test_a_conversion_is_granted_beside_another_as_table_9_3_says(
    asked: Mode, granted: Mode
) -> None:
    story = Story()
    story.says("a", granted.name)
    story.says("b", "NL")
    story.says("b", asked.name)
    assert story.outcome() == ("GRANTED" if COMPATIBILITY[asked, granted] == "Yes" else "QUEUED")


@pytest.mark.parametrize(("held", "to"), PAIRS)
def test_quecvt_waits_behind_conversions_where_table_9_5_allows_it(held: Mode, to: Mode) -> None:
    legal = QUECVT[held, to] == "Legal"
    assert QUECVT_LEGAL[held][to] == legal
    story = Story()
    story.says("a", held.name)
    story.says("a", f"{to.name} quecvt")
    assert story.outcome() == ("GRANTED" if legal else "InvalidRequest")
    assert story.lock("a").granted is (to if legal else held)


@pytest.mark.parametrize(("held", "to"), PAIRS)
def test_the_value_is_written_exactly_where_table_9_6_says_so(held: Mode, to: Mode) -> None:
    story = Story()
    story.says("a", "EX")
    story.says("a", "EX value=old")
    story.says("a", held.name)
    before = story.block().valseq
    story.says("a", f"{to.name} value=new")
    block = story.block()
    if VALUE[held, to] == "Write":
        assert story.outcome() == "GRANTED"
        assert (block.value, block.valid, block.value_at) == (b"new", True, story.now)
        assert block.valseq > before
        assert story.lock("a").granted is to
    else:
        assert story.outcome() == "InvalidRequest"
        assert {held.name, to.name} <= set(str(story.effects[0].error).split())  # type: ignore[union-attr]
        assert (block.value, block.valid, block.valseq) == (b"old", True, before)
        assert story.lock("a").granted is held


def test_the_value_is_read_where_table_9_6_says_so() -> None:
    letters = {"Read": "R", "Write": "W", "-": "-"}
    for (held, to), cell in VALUE.items():
        # "CW to PR is unspecified in Tru64; it reads here, as Linux does.
        expected = "R" if (held, to) == (Mode.CW, Mode.PR) else letters[cell]
        assert VALUE_EFFECT[held][to] == expected


TABLE_9_4 = """
lkid_p | DLM_DEQALL | Result
/= 0   | Clear      | Only the lock specified by lkid_p is released.
/= 0   | Set        | All sublocks of the indicated lock are released. The lock is not released.
= 0    | Clear      | Returns the invalid lock ID condition value (DLM_IVLOCKID).
= 0    | Set        | All locks held by the process are released.
"""


def family(story: Story) -> None:
    story.says("a", "CR", b"db/x")
    story.says("a", "CR", b"db/x.sub/y", parent=story.lock("a"))
    story.says("a", "EX", b"db/x.sub/y.sub/z", parent=story.lock("a", b"db/x.sub/y"))
    story.says("a", "EX", b"db/x.sub/w", parent=story.lock("a"))
    story.says("a", "EX", b"db/other")


@pytest.mark.parametrize("row", TABLE_9_4.strip().splitlines()[1:])
def test_releases_take_what_table_9_4_says(row: str) -> None:
    lock, dequeue_all, _ = (column.strip() for column in row.split("|"))
    story = Story()
    family(story)
    left = set(story.person("a").locks)
    if (lock, dequeue_all) == ("/= 0", "Clear"):
        story.says("a", "UN", b"db/x.sub/w")
        left -= {b"db/x.sub/w"}
    elif (lock, dequeue_all) == ("/= 0", "Set"):
        story.says("a", "UN all")
        left = {b"db/x", b"db/other"}
    elif dequeue_all == "Clear":
        story.says("a", "UN", b"db/unknown")
        assert story.outcome() == "NotHeld"
    else:
        story.dies("a", abnormal=False)
        left = set()
    assert set(story.person("a").locks) == left
    assert set(story.node.blocks) == left
