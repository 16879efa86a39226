"""A profile's text with other values: what is not changed stays to the byte."""

from hypothesis import given
from hypothesis import strategies as st

from clufs.caa.syntax import changed, parse

TEXT = b"""\
# The clock \\
NAME=clock
  TYPE = application

REQUIRED_RESOURCES=a \\
    b \\
    # no comment
# PLACEMENT=no
PLACEMENT = favored
"""


def test_what_changes_takes_one_line() -> None:
    after = changed(TEXT, {"REQUIRED_RESOURCES": "c", "PLACEMENT": "balanced"})
    head = TEXT.partition(b"REQUIRED_RESOURCES")[0]
    assert after == head + b"REQUIRED_RESOURCES=c\n# PLACEMENT=no\nPLACEMENT=balanced\n"


def test_what_is_new_stands_where_a_profile_has_it() -> None:
    after = changed(TEXT, {"AUTO_START": "1", "USR_X": "2"})
    assert after == TEXT.replace(b"\nREQUIRED", b"\nAUTO_START=1\nREQUIRED") + b"USR_X=2\n"


def test_nothing_changed_is_the_same_text() -> None:
    assert changed(TEXT, {}) == TEXT


@given(
    st.dictionaries(
        st.sampled_from("NAME TYPE PLACEMENT AUTO_START REBALANCE".split()), st.just("v")
    )
)
def test_the_values_are_those_asked_for(values: dict[str, str]) -> None:
    before = {line.attribute: line.value for line in parse(TEXT)}
    after = {line.attribute: line.value for line in parse(changed(TEXT, values))}
    assert after == {**before, **values}
