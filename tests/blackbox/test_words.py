"""The words of a request, one by one (contract 2.1)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from tests.blackbox.clu import SHELLS, Clu, Shell, until
from tests.blackbox.program import Program

Shells = Callable[..., Shell]
Programs = Callable[..., Program]
DAEMON, NOBODY = 1, 65534


# ---------------------------------------------------------- nowait, timeout=


@pytest.mark.parametrize("kind", SHELLS)
def test_nowait_asks_without_waiting(clu: Clu, name: str, shell: Shells, kind: str) -> None:
    holder, other = shell(kind, cwd=clu.public), shell(kind, cwd=clu.public)
    assert other.ask(f"echo EX nowait > {name}; echo UN > {name}")[0] == 0
    holder.ask(f"echo PR > {name}")
    assert other.ask(f"echo EX nowait > {name}")[0] == 1
    assert clu.why(name).startswith("EAGAIN ")
    assert other.ask(f"echo PR nowait > {name}")[0] == 0
    assert holder.ask(f"echo EX nowait > {name}")[0] == 1


@pytest.mark.parametrize("kind", SHELLS)
def test_timeout_gives_up_and_leaves_the_queue(
    clu: Clu, name: str, shell: Shells, kind: str
) -> None:
    holder, other = shell(kind, cwd=clu.public), shell(kind, cwd=clu.public)
    holder.ask(f"echo EX > {name}")
    before = time.monotonic()
    assert other.ask(f"echo EX timeout=0.2 > {name}")[0] == 1
    assert time.monotonic() - before >= 0.2
    assert clu.why(name).startswith("ETIMEDOUT ")
    assert not clu.queue(name, "WAITING")
    assert other.ask(f"echo EX timeout=0 > {name}")[0] == 1
    other.begin(f"echo EX timeout=60 > {name}")
    clu.until_queued(name)
    holder.ask(f"echo UN > {name}")
    assert other.hear()[0] == 0


def test_a_conversion_that_times_out_keeps_its_mode(clu: Clu, name: str, program: Programs) -> None:
    one, other = program(clu.public), program(clu.public)
    one.ask("CR", name)
    other.ask("CR", name)
    assert one.ask("EX timeout=0.05", name) == "ETIMEDOUT"
    assert [line.split()[1] for line in clu.queue(name, "GRANTED")] == ["CR", "CR"]


# -------------------------------------------------------------------- quecvt


def test_quecvt_lines_up_behind_the_conversions_that_wait(
    clu: Clu, name: str, program: Programs
) -> None:
    first, second, third = (program(clu.public) for _ in range(3))
    for one, mode in ((first, "NL"), (second, "CR"), (third, "NL")):
        one.ask(mode, name)
    first.begin_to_ask("EX", name)
    clu.until_queued(name, queue="CONVERTING")
    assert second.ask("PR quecvt nowait", name) == "EAGAIN"
    assert second.ask("PR nowait", name) is None
    third.begin_to_ask("PR quecvt", name)
    clu.until_queued(name, 2, "CONVERTING")
    second.ask("UN", name)
    assert first.hear() is None
    assert len(clu.queue(name, "CONVERTING")) == 1
    first.ask("UN", name)
    assert third.hear() is None


def test_quecvt_of_a_pair_that_has_none(clu: Clu, name: str, program: Programs) -> None:
    someone = program(clu.public)
    for held, to in (("EX", "PR"), ("PW", "EX"), ("PR", "CW"), ("CW", "PR")):
        someone.ask(held, name)
        assert someone.ask(f"{to} quecvt", name) == "EINVAL"
        assert f"GRANTED {held} " in clu.report(name)
    someone.ask("NL", name)
    assert someone.ask("EX quecvt", name) is None


# -------------------------------------------------------------- nodeadlock


def test_nodeadlock_is_neither_chosen_nor_counted(clu: Clu, name: str, program: Programs) -> None:
    one, other = program(clu.public), program(clu.public)
    one.ask("PR", name)
    other.ask("PR", name)
    one.begin_to_ask("EX nodeadlock", name)
    clu.until_queued(name, queue="CONVERTING")
    other.begin_to_ask("EX nodeadlock timeout=0.1", name)
    assert other.hear() == "ETIMEDOUT"
    other.ask("UN", name)
    assert one.hear() is None


# ---------------------------------------------------------- persistent, group=


def test_a_persistent_lock_outlives_its_maker_and_any_process_of_the_user_converts_it(
    clu: Clu, name: str, shell: Shells, program: Programs
) -> None:
    assert shell(cwd=clu.public).ask(f"/bin/echo EX persistent > {name}")[0] == 0
    assert "GRANTED EX " in clu.report(name)
    other = program(clu.public)
    assert other.ask("UN", name) == "EPERM"
    assert other.ask("PW persistent value=still here", name) is None
    stranger = program(clu.public)
    stranger.run(f"turn_into({NOBODY})")
    assert stranger.ask("UN persistent", name) == "EPERM"
    assert stranger.ask("EX nowait", name) == "EAGAIN"
    other.close()
    assert (clu.public / name).read_text() == "still here\n"
    assert not os.stat(clu.public / name).st_mode & 0o1000
    assert shell(cwd=clu.public).ask(f"/bin/echo UN persistent > {name}")[0] == 0
    assert not (clu.public / name).exists()


def test_two_users_have_each_their_persistent_lock(clu: Clu, name: str, program: Programs) -> None:
    one, other = program(clu.public), program(clu.public)
    one.run(f"turn_into({NOBODY})")
    other.run(f"turn_into({DAEMON})")
    assert one.ask("PR persistent", name) is None
    assert other.ask("PR persistent", name) is None
    assert other.ask("EX persistent nowait", name) == "EAGAIN"
    assert one.ask("UN persistent", name) is None
    assert other.ask("EX persistent nowait", name) is None
    assert other.ask("UN persistent", name) is None


def test_what_became_of_a_persistent_request_is_told_to_any_process_of_the_user(
    clu: Clu, name: str, program: Programs
) -> None:
    holder, asker, other = (program(clu.public) for _ in range(3))
    holder.ask("EX", name)
    assert asker.ask("EX persistent async timeout=0.05", name) is None
    asker.close()
    until(lambda: not clu.queue(name, "WAITING"), "the timeout")
    assert other.ask("WAIT persistent", name) == "ETIMEDOUT"
    assert other.ask("WAIT persistent", name) == "EPERM"


# ------------------------------------------------- value=, valuehex=, invalidate


@pytest.mark.parametrize("kind", SHELLS)
def test_a_value_is_text_to_the_end_of_the_line(
    clu: Clu, name: str, shell: Shells, kind: str
) -> None:
    someone = shell(kind, cwd=clu.public)
    someone.ask(f"echo EX > {name}; echo 'EX value=  two  words, value=3 ' > {name}")
    assert someone.ask(f"cat {name}") == (0, "  two  words, value=3 \n")
    someone.ask(f"echo 'NL value=' > {name}")
    assert someone.ask(f"cat {name}") == (0, "")


def test_a_value_of_bytes(clu: Clu, name: str, program: Programs) -> None:
    someone = program(clu.public)
    someone.ask("EX", name)
    assert someone.ask("EX valuehex=00FF0a41", name) is None
    assert (clu.public / name).read_bytes() == b"\0\xff\nA\n"
    assert os.getxattr(clu.public / name, "user.clu.value") == b"\0\xff\nA"
    assert someone.ask("EX valuehex=" + "ab" * 1024, name) is None
    assert (clu.public / name).read_bytes() == b"\xab" * 1024 + b"\n"


def test_a_value_goes_on_with_the_release(clu: Clu, name: str, program: Programs) -> None:
    one, other = program(clu.public), program(clu.public)
    one.ask("PW", name)
    other.ask("NL", name)
    assert one.ask("UN value=goodbye", name) is None
    assert (clu.public / name).read_text() == "goodbye\n"


@pytest.mark.parametrize("line", ["NL invalidate", "UN invalidate"])
def test_invalidate_marks_the_value_until_the_next_is_written(
    clu: Clu, name: str, shell: Shells, line: str
) -> None:
    other, someone = shell(cwd=clu.public), shell(cwd=clu.public)
    other.ask(f"echo NL > {name}")
    someone.ask(f"echo EX > {name}; echo 'EX value=old' > {name}; echo {line} > {name}")
    assert other.ask(f"test -k {name} && cat {name}") == (0, "old\n")
    assert "VALID=0" in clu.report(name)
    assert os.getxattr(clu.public / name, "user.clu.valid") == b"0"
    someone.ask(f"echo EX > {name}; echo 'NL value=new' > {name}")
    assert other.ask(f"test -k {name} || cat {name}") == (0, "new\n")
    assert os.getxattr(clu.public / name, "user.clu.valid") == b"1"


def test_strict_reads_no_invalid_value(clu: Clu, name: str, shell: Shells) -> None:
    someone, strict = shell(cwd=clu.public), shell("bash", cwd=clu.public)
    strict.ask(f"exec 9<> {name}; echo NL strict >&9")
    someone.ask(f"echo EX > {name}; echo 'EX value=good' > {name}")
    assert strict.ask("cat <&9") == (0, "good\n")
    someone.ask(f"echo NL invalidate > {name}")
    status, said = strict.ask("echo NL >&9; cat <&9")
    assert status == 1 and "Stale file handle" in said
    assert clu.why(name).startswith("ESTALE ")
    assert strict.ask(f"cat {name}") == (0, "good\n")


# ------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "line", ["EX NOWAIT", "ex Timeout=1", "pr ASYNC", "Nl STRICT", "pW NoDeadlock Hint=0x10"]
)
def test_words_in_any_case(clu: Clu, name: str, program: Programs, line: str) -> None:
    assert program(clu.public).ask(line, "any_case") is None
