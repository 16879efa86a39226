"""Names: how they are shown and read back, and which a lock may have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clufs.errors import InvalidRequest, NameTooLong
from clufs.tree.names import (
    check_depth,
    check_lock_name,
    parent_block,
    read_word,
    shown,
    shown_word,
)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain", "plain"),
        (b"with blank", "with blank"),
        ("größe €".encode(), "größe €"),
        (b"two\nlines\ttab", "two\\012lines\\011tab"),
        (b"back\\slash", "back\\134slash"),
        (b"latin \xfc", "latin \\374"),
        (b"\x1b[31m", "\\033[31m"),
        ("a\u2028b".encode(), "a\\342\\200\\250b"),
        (b"", ""),
    ],
)
def test_control_and_undecodable_bytes_are_shown_in_octal(raw: bytes, text: str) -> None:
    assert shown(raw) == text


@given(st.one_of(st.binary(), st.text().map(str.encode)))
def test_what_is_shown_as_a_word_is_one_word_and_reads_back(raw: bytes) -> None:
    word = shown_word(raw)
    assert word.isprintable() and " " not in word
    assert read_word(word.encode()) == raw


@pytest.mark.parametrize("text", [b"\\", b"\\9", b"\\12", b"\\777", b"\\ 12", b"a\\+17", b"\\0x1"])
def test_a_bad_escape_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidRequest, match="bad escape"):
        read_word(text)


@given(st.binary(max_size=40))
def test_reading_a_word_never_fails_otherwise(text: bytes) -> None:
    try:
        read_word(text)
    except InvalidRequest as error:
        assert str(error).isprintable()


@pytest.mark.parametrize("name", [b"a", b"x" * 251, b"\n", b"sub", b".subs", "ü".encode() * 125])
def test_a_lock_name(name: bytes) -> None:
    check_lock_name(name)


@pytest.mark.parametrize("name", [b"x" * 252, "ü".encode() * 126])
def test_a_lock_name_that_is_too_long(name: bytes) -> None:
    with pytest.raises(NameTooLong, match=r"251.*252"):
        check_lock_name(name)


@pytest.mark.parametrize("name", [b".sub", b"a.sub", b"x" * 247 + b".sub"])
def test_a_lock_name_does_not_end_in_sub(name: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"\.sub"):
        check_lock_name(name)


def test_sublocks_go_deep_but_not_for_ever() -> None:
    check_depth(b"ns" + b"/a.sub" * 63 + b"/a")
    with pytest.raises(InvalidRequest, match="64 deep"):
        check_depth(b"ns" + b"/a.sub" * 64 + b"/a")


@pytest.mark.parametrize(
    ("name", "parent"),
    [
        (b"ns/a", None),
        (b"ns/a.sub/b", b"ns/a"),
        (b"ns/a.sub/b.sub/c", b"ns/a.sub/b"),
        (b"odd.sub/a", None),
    ],
)
def test_the_block_above_a_sublock(name: bytes, parent: bytes | None) -> None:
    assert parent_block(name) == parent
