"""What may be written to a resource's `control`, `target`, `host` and `maintenance`, and what the programs write."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clufs.cli.caa_program import control_line
from clufs.errors import InvalidRequest
from clufs.tree.control import (
    Order,
    parse_control,
    parse_drain,
    parse_host,
    parse_maintenance,
    parse_target,
)


@pytest.mark.parametrize(
    ("line", "order"),
    [
        (b"start\n", Order("start", "r")),
        (b"  start -c rye -f ", Order("start", "r", member="rye", force=True)),
        (b"start USR_A=1 USR_B=", Order("start", "r", variables={"USR_A": "1", "USR_B": ""})),
        (rb"start USR_A=a\040b\134c", Order("start", "r", variables={"USR_A": "a b\\c"})),
        (b"start -n", Order("start", "r", dry_run=True)),
        (b"stop -f -n", Order("stop", "r", force=True, dry_run=True)),
        (b"relocate -f -c rye -n", Order("relocate", "r", "rye", force=True, dry_run=True)),
        (b"balance -n", Order("balance", "r", dry_run=True)),
        (b"update", Order("update", "r")),
        (b"stop output=vs", Order("stop", "r", output="vs")),
        (rb"stop output=v locale=C\040de", Order("stop", "r", output="v", locale="C de")),
    ],
)
def test_a_command(line: bytes, order: Order) -> None:
    assert parse_control("r", line) == order


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"", "write one line"),
        (b"\n", "write one line"),
        (b"begin", "'begin' is no command: start, stop, relocate, balance, update"),
        (b"maintain", "'maintain' is no command"),
        (b"start -c", "'-c' wants a member"),
        (b"stop -c rye", "'-c' does not go with stop"),
        (b"balance -f", "'-f' does not go with balance"),
        (b"update -n", "'-n' does not go with update"),
        (b"balance USR_A=1", "'USR_A=1' does not go with balance"),
        (b"start A=1", "unknown word 'A=1'"),
        (b"start output=x", "unknown word 'output=x'"),
        (b"start clock", "unknown word 'clock'"),
        (b"start USR_A=a\\b", "bad escape"),
        (b"start USR_A=\\000", "a NUL byte in the line"),
        (b"start USR_A=\xff", "is no text"),
        (b"start USR_A=\\377", "is no text"),
        (b"start\nstop\n", "write one line"),
    ],
)
def test_what_is_no_command(line: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_control("r", line)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("parse", "line", "order"),
    [
        (parse_target, b"ONLINE\n", Order("start", "r")),
        (parse_target, b"OFFLINE", Order("stop", "r")),
        (parse_host, b"rye\n", Order("relocate", "r", member="rye")),
        (parse_host, b"any\n", Order("relocate", "r")),
        (parse_maintenance, b"1\n", Order("maintain", "r", on=True)),
        (parse_maintenance, b"0", Order("maintain", "r", on=False)),
        (parse_drain, b"1\n", Order("drain", "", member="r")),
        (parse_drain, b"1 -n\n", Order("drain", "", member="r", dry_run=True)),
        (parse_drain, b"0", Order("drain", "", member="r", on=False)),
    ],
)
def test_the_short_forms(parse: Callable[[str, bytes], Order], line: bytes, order: Order) -> None:
    assert parse("r", line) == order


@pytest.mark.parametrize(
    ("parse", "line", "said"),
    [
        (parse_target, b"online", "'online' is no target: ONLINE or OFFLINE"),
        (parse_target, b"ONLINE now", "'ONLINE now': one word is expected"),
        (parse_host, b"", "write one line"),
        (parse_maintenance, b"yes", "'yes': write 1 to begin maintenance, 0 to end it"),
        (parse_drain, b"0 -n", "'0 -n': write 1 to drain r, '1 -n' to see what that would do, 0"),
        (parse_drain, b"", "write one line"),
    ],
)
def test_what_is_no_short_form(
    parse: Callable[[str, bytes], Order], line: bytes, said: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse("r", line)
    assert str(refused.value).startswith(said)


@given(
    st.dictionaries(
        st.from_regex(r"USR_[A-Za-z0-9_]{1,8}", fullmatch=True),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
        max_size=3,
    )
)
def test_what_the_programs_write_is_understood_as_it_was_meant(variables: dict[str, str]) -> None:
    line = control_line("relocate", "-c", "rye", "-f", variables=variables)
    order = parse_control("r", line.encode())
    assert (order.member, order.force, order.variables) == ("rye", True, variables)
    assert len(order.locale.split(" ")) == 6
