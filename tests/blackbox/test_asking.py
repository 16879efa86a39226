"""One write, one line, one request: the verbs, and what each refusal says (contract 2.1)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.blackbox.clu import SHELLS, Clu, Shell
from tests.blackbox.program import Program

Shells = Callable[..., Shell]
Programs = Callable[..., Program]
NOBODY = 65534


@pytest.mark.parametrize("kind", SHELLS)
def test_a_lock_is_asked_for_converted_and_released(
    clu: Clu, name: str, shell: Shells, kind: str
) -> None:
    someone = shell(kind, cwd=clu.public)
    for mode in ("NL", "CR", "CW", "PR", "PW", "EX", "ex", "Pw"):
        assert someone.ask(f"echo {mode} > {name}") == (0, "")
        assert f"GRANTED {mode.upper()} - " in clu.report(name)
        assert f"GRANTMODE={mode.upper()}\n" in clu.report(name)
    assert someone.ask(f"echo UN > {name}") == (0, "")
    assert not (clu.public / name).exists()


@pytest.mark.parametrize("line", ["EX", "EX\n", "  EX  \n", "\tex\tnodeadlock \n"])
def test_newline_and_blanks_are_optional(clu: Clu, name: str, program: Programs, line: str) -> None:
    someone = program(clu.public)
    someone.run(f"fd = own({name!r})")
    assert someone.run(f"os.write(fd, {line!r}.encode())") == len(line)
    assert someone.run("say(fd, 'UN')") is None


def test_truncation_append_and_offset_do_not_matter(
    clu: Clu, name: str, shell: Shells, program: Programs
) -> None:
    someone = shell(cwd=clu.public)
    assert someone.ask(f"echo EX > {name}; echo PR >> {name}; echo NL 1<> {name}")[0] == 0
    assert "GRANTED PR " in clu.report(name)
    assert someone.ask(f"echo UN >> {name}")[0] == 0
    other = program(clu.public)
    other.run(f"fd = own({name!r})")
    assert other.run("os.pwrite(fd, b'EX', 4000)") == 2
    assert other.run("os.lseek(fd, 77, 0); say(fd, 'NL')") is None
    assert "GRANTED NL " in clu.report(name)


@pytest.mark.parametrize(
    ("line", "errno"),
    [
        ("", "EINVAL"),
        ("XX", "EINVAL"),
        ("E X", "EINVAL"),
        ("EX EX", "EINVAL"),
        ("EX later", "EINVAL"),
        ("EX\nUN", "EINVAL"),
        ("EX\0", "EINVAL"),
        ("EX nowait nowait", "EINVAL"),
        ("EX nowait timeout=1", "EINVAL"),
        ("EX nowait async", "EINVAL"),
        ("EX timeout=soon", "EINVAL"),
        ("EX timeout=-1", "EINVAL"),
        ("EX timeout=nan", "EINVAL"),
        ("EX signal=NONE", "EINVAL"),
        ("EX signal=USR1 persistent", "EINVAL"),
        ("EX signal=USR1 group=g", "EINVAL"),
        ("EX lost=USR1 persistent", "EINVAL"),
        ("EX persistent group=g", "EINVAL"),
        ("EX hint=18446744073709551616", "EINVAL"),
        ("EX hint=-1", "EINVAL"),
        ("EX all", "EINVAL"),
        ("EX quecvt", "EINVAL"),
        ("EX invalidate", "EINVAL"),
        ("EX value=new locks write nothing", "EINVAL"),
        ("EX valuehex=0g", "EINVAL"),
        ("UN nowait", "EINVAL"),
        ("UN timeout=1", "EINVAL"),
        ("CANCEL all", "EINVAL"),
        ("WAIT nowait", "EINVAL"),
        ("EX value=" + "x" * 1025, "EMSGSIZE"),
        ("EX valuehex=" + "00" * 1025, "EMSGSIZE"),
        ("EX" + " " * 5000, "EMSGSIZE"),
        ("EX group=nobody_made_it", "ENOENT"),
        ("UN", "EPERM"),
        ("UN all", "EPERM"),
        ("CANCEL", "EPERM"),
        ("WAIT", "EPERM"),
        ("UN persistent", "EPERM"),
    ],
)
def test_a_refused_request_changes_nothing_and_says_why(
    clu: Clu, program: Programs, line: str, errno: str
) -> None:
    someone = program(clu.public)
    assert someone.ask(line, "refused") == errno
    assert clu.why("refused").startswith(f"{errno} ")
    assert len(clu.why("refused").split()) > 3
    assert not (clu.public / "refused").exists()


def test_forty_words_and_bytes_that_are_not_text(clu: Clu, name: str, program: Programs) -> None:
    someone = program(clu.public)
    assert someone.ask("EX " + "nodeadlock " * 40, name) == "EINVAL"
    someone.run(f"fd = own({name!r})")
    assert someone.run(r"os.write(fd, b'\xff\xfe\x80')") == "EINVAL"
    assert r"\377\376\200" in clu.why(name)
    assert someone.run("os.write(fd, b'x' * 1000000)") == "EMSGSIZE"
    assert someone.run("say(fd, 'EX')") is None


def test_a_refused_conversion_keeps_the_lock_as_it_was(
    clu: Clu, name: str, program: Programs
) -> None:
    someone, other = program(clu.public), program(clu.public)
    assert someone.ask("PR", name) is None
    assert other.ask("PR", name) is None
    before = clu.queue(name, "GRANTED")[0].split()[:6]
    assert someone.ask("EX nowait", name) == "EAGAIN"
    assert someone.ask("PR value=only EX and PW write", name) == "EINVAL"
    assert someone.ask("NL invalidate", name) == "EINVAL"
    assert clu.queue(name, "GRANTED")[0].split()[:6] == before


def test_values_are_written_where_the_table_writes_and_nowhere_else(
    clu: Clu, name: str, program: Programs
) -> None:
    someone = program(clu.public)
    writes = {"EX": ("NL", "CR", "CW", "PR", "PW", "EX"), "PW": ("NL", "CR", "CW", "PR", "PW")}
    for held in ("NL", "CR", "CW", "PR", "PW", "EX"):
        for to in ("NL", "CR", "CW", "PR", "PW", "EX"):
            someone.ask(held, name)
            said = someone.ask(f"{to} value={held} to {to}", name)
            if to in writes.get(held, ()):
                assert said is None
                assert (clu.public / name).read_text() == f"{held} to {to}\n"
            else:
                assert said == "EINVAL", f"{held} to {to}"
    for held in ("NL", "CR", "CW", "PR"):
        someone.ask(held, name)
        assert someone.ask("UN value=x", name) == "EINVAL"


def test_a_second_request_while_one_waits_is_ebusy(clu: Clu, name: str, program: Programs) -> None:
    holder, waiter = program(clu.public), program(clu.public)
    holder.ask("EX", name)
    assert waiter.ask("EX async", name) is None
    assert waiter.ask("PR", name) == "EBUSY"
    assert waiter.ask("EX async", name) == "EBUSY"
    assert clu.queue(name, "WAITING")[0].split()[2] == "EX"
    holder.ask("UN", name)
    assert waiter.ask("WAIT", name) is None
    assert waiter.ask("PR", name) is None


def test_cancel_withdraws_a_new_lock(clu: Clu, name: str, program: Programs) -> None:
    holder, waiter = program(clu.public), program(clu.public)
    holder.ask("EX", name)
    waiter.run(f"outcome = aside(ask, 'EX', {name!r})")
    clu.until_queued(name)
    assert waiter.ask("CANCEL", name) is None
    assert waiter.run("outcome()") == "ECANCELED"
    assert clu.why(name) == "ECANCELED CANCEL took the request away"
    assert waiter.ask("CANCEL", name) == "EPERM"
    assert not clu.queue(name, "WAITING")


def test_cancel_of_a_conversion_keeps_the_granted_mode(
    clu: Clu, name: str, program: Programs
) -> None:
    other, converter = program(clu.public), program(clu.public)
    other.ask("PR", name)
    converter.ask("PR", name)
    converter.run(f"outcome = aside(ask, 'EX', {name!r})")
    clu.until_queued(name, queue="CONVERTING")
    assert converter.ask("CANCEL", name) is None
    assert converter.run("outcome()") == "ECANCELED"
    assert [line.split()[1] for line in clu.queue(name, "GRANTED")] == ["PR", "PR"]


def test_un_takes_back_a_request_that_still_waits(clu: Clu, name: str, program: Programs) -> None:
    holder, waiter = program(clu.public), program(clu.public)
    holder.ask("EX", name)
    waiter.run(f"outcome = aside(ask, 'EX', {name!r})")
    clu.until_queued(name)
    assert waiter.ask("UN", name) is None
    assert waiter.run("outcome()") == "ECANCELED"
    assert waiter.ask("UN", name) == "EPERM"


def test_un_of_a_waiting_conversion_releases_the_lock_too(
    clu: Clu, name: str, program: Programs
) -> None:
    other, converter = program(clu.public), program(clu.public)
    other.ask("PR", name)
    converter.ask("PR", name)
    converter.run(f"outcome = aside(ask, 'EX', {name!r})")
    clu.until_queued(name, queue="CONVERTING")
    assert converter.ask("UN", name) is None
    assert converter.run("outcome()") == "ECANCELED"
    assert len(clu.queue(name, "GRANTED")) == 1


def test_what_one_holds_another_cannot_release(clu: Clu, name: str, program: Programs) -> None:
    holder, other = program(clu.public), program(clu.public)
    holder.ask("PR", name)
    assert other.ask("UN", name) == "EPERM"
    assert other.ask("CANCEL", name) == "EPERM"
    assert other.ask("WAIT", name) == "EPERM"
    assert "GRANTED PR " in clu.report(name)


def test_a_private_namespace_refuses_strangers(clu: Clu, shell: Shells, program: Programs) -> None:
    owner = shell(cwd=clu.root)
    assert owner.ask("umask 077; mkdir locks/mine; echo EX > locks/mine/f")[0] == 0
    stranger = program(clu.root)
    stranger.run(f"turn_into({NOBODY})")
    assert stranger.ask("EX", "locks/mine/f") == "EACCES"
    assert stranger.run("os.listdir('locks/mine')") == "EACCES"
    assert stranger.ask("EX", "locks/public/theirs") is None
    assert owner.ask("rm locks/mine/f; rmdir locks/mine") == (0, "")


def test_each_user_sees_the_own_refusals(clu: Clu, name: str, program: Programs) -> None:
    stranger = program(clu.public)
    stranger.run(f"turn_into({NOBODY})")
    program(clu.public).ask("UN", f"{name}_of_root")
    assert stranger.ask("NO", name) == "EINVAL"
    seen = stranger.run("open('../../status/errors').read()")
    assert isinstance(seen, str)
    line = seen.splitlines()[-1]
    assert line.split(" ")[1:4] == [str(stranger.pid), f"locks/public/{name}", "EINVAL"]
    assert "'NO' is neither a mode" in line
    assert f"{name}_of_root" not in seen
    assert f"{name}_of_root" in clu.errors()


def test_opening_what_nobody_holds_is_enoent_and_a_new_name_lives_as_long_as_it_is_open(
    clu: Clu, name: str, shell: Shells
) -> None:
    someone = shell(cwd=clu.public)
    assert someone.ask(f"cat < {name}")[0] != 0
    assert someone.ask(f"exec 9<> {name}; ls {name}") == (0, f"{name}\n")
    assert someone.ask(f"exec 9>&-; ls {name} 2> /dev/null")[0] != 0


@pytest.mark.parametrize("bad", ["x" * 252, "f.sub"])
def test_names_that_cannot_be(clu: Clu, program: Programs, bad: str) -> None:
    assert program(clu.public).ask("EX", bad) in ("EINVAL", "ENAMETOOLONG")
    assert bad not in os.listdir(clu.public)


def test_the_longest_name(clu: Clu, program: Programs) -> None:
    longest = "n" * 251
    someone = program(clu.public)
    assert someone.ask("EX", longest) is None
    assert Path(clu.public / longest).exists()
    assert someone.ask("UN", longest) is None
