"""What may be written to a lock file: every word, and why a line is refused (contract 2.1)."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clufs.dlm.interface import Verb
from clufs.dlm.modes import Mode
from clufs.errors import ClufsError, InvalidRequest, ValueTooLong
from clufs.limits import HINT_MAX, LINE_MAX_BYTES, VALUE_MAX_BYTES
from clufs.tree.grammar import Line, parse


def asked(data: bytes) -> tuple[Verb, Mode]:
    request = parse(data).request
    assert request is not None
    return request.verb, request.mode


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("spelled", [str.upper, str.lower, str.title])
def test_a_mode_in_any_case_asks_for_a_lock(mode: Mode, spelled: object) -> None:
    word = spelled(mode.name)  # type: ignore[operator]
    assert asked(word.encode() + b"\n") == (Verb.LOCK, mode)


@pytest.mark.parametrize("data", [b"EX", b"EX\n", b" EX\n", b"\tEX \n", b"EX\r\n", b"EX\x0b\n"])
def test_the_newline_and_blanks_around_do_not_matter(data: bytes) -> None:
    assert parse(data) == parse(b"EX")


@pytest.mark.parametrize(
    ("data", "verb"),
    [(b"UN\n", Verb.UNLOCK), (b"un all", Verb.UNLOCK_ALL), (b"Cancel\n", Verb.CANCEL)],
)
def test_the_other_verbs(data: bytes, verb: Verb) -> None:
    assert asked(data)[0] is verb


def test_wait_asks_the_lock_manager_for_nothing() -> None:
    assert parse(b"WAIT\n").request is None


@pytest.mark.parametrize("word", ["nowait", "quecvt", "invalidate", "nodeadlock"])
def test_a_word_for_the_lock_manager(word: str) -> None:
    request, without = parse(f"EX {word.upper()}".encode()).request, parse(b"EX").request
    assert getattr(request, word) is True
    assert getattr(without, word) is False


@pytest.mark.parametrize(
    ("word", "field", "value"),
    [
        ("timeout=0.25", "timeout_s", 0.25),
        ("timeout=5", "timeout_s", 5.0),
        ("async", "is_async", True),
        ("signal=USR1", "signal", signal.SIGUSR1),
        ("signal=sigio", "signal", signal.SIGIO),
        ("signal=RTMIN+2", "signal", signal.SIGRTMIN + 2),
        ("lost=TERM", "lost", signal.SIGTERM),
        ("strict", "strict", True),
        ("persistent", "persistent", True),
        ("group=crew", "group", b"crew"),
        ("group=the\\040crew", "group", b"the crew"),
    ],
)
def test_a_word_for_the_asking_side(word: str, field: str, value: object) -> None:
    assert getattr(parse(f"PW {word}\n".encode()), field) == value
    assert getattr(parse(b"PW"), field) == Line.__dataclass_fields__[field].default


@pytest.mark.parametrize(
    ("word", "hint"), [("hint=0", 0), ("hint=0xff", 255), (f"hint={HINT_MAX}", HINT_MAX)]
)
def test_a_hint_has_64_bits(word: str, hint: int) -> None:
    request = parse(f"EX {word}".encode()).request
    assert request is not None and request.hint == hint


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"UN value=a b  c\n", b"a b  c"),
        (b"EX VALUE=x\n", b"x"),
        (b"NL value=\n", b""),
        (b"UN value=nowait value=2", b"nowait value=2"),
        (b"UN value=\xff\xfe\n", b"\xff\xfe"),
        (b"UN valuehex=00ff0a\n", b"\x00\xff\n"),
        (b"UN valuehex=", b""),
        (b"UN value=" + b"x" * VALUE_MAX_BYTES, b"x" * VALUE_MAX_BYTES),
        (b"UN valuehex=" + b"ab" * VALUE_MAX_BYTES, b"\xab" * VALUE_MAX_BYTES),
    ],
)
def test_a_value_is_the_text_to_the_end_of_the_line(data: bytes, value: bytes) -> None:
    request = parse(data).request
    assert request is not None and request.value == value


REFUSED = {
    b"": "empty request",
    b"\n": "empty request",
    b"\r": "empty request",
    b"   \t \n": "empty request",
    b"value=lonely": "value=",
    b"EXX\n": "'EXX'",
    b"ex,nowait": "'ex,nowait'",
    b"UNLOCK": "'UNLOCK'",
    b"EX nowiat": "'nowiat'",
    b"EX nowait=1": "'nowait=1'",
    b"EX timeout": "'timeout'",
    b"EX timeout=": "'timeout='",
    b"EX timeout=soon": "'timeout=soon'",
    b"EX timeout=-1": "'timeout=-1'",
    b"EX timeout=nan": "'timeout=nan'",
    b"EX timeout=inf": "'timeout=inf'",
    b"EX timeout=1e999": "'timeout=1e999'",
    b"EX signal=": "'signal='",
    b"EX signal=USR3": "'signal=USR3'",
    b"EX signal=10": "'signal=10'",
    b"EX signal=RTMIN+99": "'signal=RTMIN+99'",
    b"EX signal=USR1+1": "'signal=USR1+1'",
    b"EX lost=NONE": "'lost=NONE'",
    b"EX hint=many": "'hint=many'",
    b"EX hint=-1": "'hint=-1'",
    b"EX hint=0x10000000000000000": "'hint=0x10000000000000000'",
    b"EX group=": "'group='",
    b"EX group=a/b": "'group=a/b'",
    b"EX group=a\\9": "'a\\1349'",
    b"UN valuehex=abc": "'valuehex='",
    b"UN valuehex=zz": "'valuehex='",
    b"EX nowait NOWAIT": "'NOWAIT'",
    b"EX valuehex=00 value=1": "'value='",
    b"EX all": "'all'",
    b"UN nowait": "'nowait'",
    b"CANCEL value=x": "'value='",
    b"WAIT strict": "'strict'",
    b"EX nowait timeout=1": "'nowait'",
    b"EX nowait async": "'async'",
    b"EX invalidate value=x": "'invalidate'",
    b"EX persistent group=g": "'persistent'",
    b"EX persistent signal=USR1": "'signal'",
    b"EX persistent lost=USR1": "'lost'",
    b"EX group=g signal=USR1": "'group'",
    b"EX group=g lost=USR1": "'lost'",
    b"UN all value=x": "'all'",
    b"UN all invalidate": "'invalidate'",
    b"EX\nUN\n": "two lines",
    b"EX\0\n": "NUL",
    b"EX \xff\xfe": "'\\377\\376'",
    b"EX \x1b[31m": "'\\033[31m'",
    b"EX " + b" ".join(b"w%d" % n for n in range(40)): "'w0'",
}


@pytest.mark.parametrize("data", REFUSED)
def test_a_refusal_quotes_what_was_wrong(data: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(data)
    assert REFUSED[data] in str(refused.value)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("data", "sizes"),
    [
        (b"UN value=" + b"x" * (VALUE_MAX_BYTES + 1), ("1024", "1025")),
        (b"UN valuehex=" + b"00" * (VALUE_MAX_BYTES + 1), ("1024", "1025")),
        (b"x" * (LINE_MAX_BYTES + 1), ("4096", "4097")),
        (b"x" * 1_000_000, ("4096", "1000000")),
    ],
)
def test_what_is_too_long_is_told_with_its_size(data: bytes, sizes: tuple[str, str]) -> None:
    with pytest.raises(ValueTooLong) as refused:
        parse(data)
    assert all(size in str(refused.value) for size in sizes)


def test_a_line_is_the_same_when_it_is_parsed_again() -> None:
    assert parse(b"EX nowait\n") is parse(b"EX nowait\n")


WORDS = (
    b"EX PR un CANCEL wait nowait timeout= timeout=3 async quecvt signal=USR1 signal= lost=IO hint="
    b" hint=7 invalidate strict persistent group=g group=\\777 group=\\ nodeadlock all value= "
    b"valuehex=0 valuehex=00 RTMIN+ signal=RTMIN+\xd9\xa1 \r \0 \n \x0b \xff hint=0x timeout=1e9999"
).split(b" ")


@given(st.one_of(st.binary(max_size=64), st.lists(st.sampled_from(WORDS)).map(b" ".join)))
def test_any_bytes_are_a_line_or_a_refusal(data: bytes) -> None:
    try:
        line = parse(data)
    except ClufsError as error:
        assert str(error).isprintable()
    else:
        assert isinstance(line, Line)
        assert parse(data) == line
