"""Sublocks: `<name>.sub/` is the directory of what lies below a lock (contract 2.4)."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.blackbox.clu import SHELLS, Clu, Shell, until
from tests.blackbox.program import Program

Shells = Callable[..., Shell]
Programs = Callable[..., Program]


@pytest.mark.parametrize("kind", SHELLS)
def test_a_sublock_needs_its_parent_granted_to_the_same_owner(
    clu: Clu, name: str, shell: Shells, kind: str
) -> None:
    someone, other = shell(kind, cwd=clu.public), shell(kind, cwd=clu.public)
    assert someone.ask(f"echo EX > {name}.sub/row 2> /dev/null")[0] != 0
    someone.ask(f"echo CR > {name}")
    assert other.ask(f"( echo EX > {name}.sub/row ) 2> /dev/null")[0] != 0
    assert clu.why(f"{name}.sub/row").startswith("EPERM ")
    assert someone.ask(f"echo EX > {name}.sub/row; ls {name}.sub") == (0, "row\n")
    assert other.ask(f"( echo NL > {name}.sub/row ) 2> /dev/null")[0] != 0
    other.ask(f"echo CR > {name}")
    assert other.ask(f"echo EX nowait > {name}.sub/row")[0] == 1
    assert other.ask(f"echo EX nowait > {name}.sub/other")[0] == 0


def test_a_parent_that_only_waits_lets_nobody_below(clu: Clu, name: str, program: Programs) -> None:
    holder, waiter = program(clu.public), program(clu.public)
    holder.ask("EX", name)
    waiter.ask("EX async", name)
    assert waiter.ask("NL", f"{name}.sub/row") == "EPERM"


def test_un_of_a_parent_with_sublocks_is_enotempty(
    clu: Clu, name: str, shell: Shells, program: Programs
) -> None:
    someone = program(clu.public)
    someone.ask("CR", name)
    someone.ask("EX", f"{name}.sub/row")
    assert someone.ask("UN", name) == "ENOTEMPTY"
    assert someone.run(f"os.unlink({name!r})") == "ENOTEMPTY"
    assert someone.ask("EX", name) is None
    assert someone.ask("UN", f"{name}.sub/row") is None
    assert someone.ask("UN", name) is None
    assert clu.report(name) == ""


def test_un_all_releases_what_is_below_and_keeps_the_parent(
    clu: Clu, name: str, program: Programs
) -> None:
    someone, other = program(clu.public), program(clu.public)
    for one in (someone, other):
        one.ask("CR", name)
    someone.ask("EX", f"{name}.sub/a")
    someone.ask("CR", f"{name}.sub/b")
    someone.ask("EX", f"{name}.sub/b.sub/c")
    other.ask("CR", f"{name}.sub/b")
    other.begin_to_ask("EX", f"{name}.sub/a")
    clu.until_queued(f"{name}.sub/a")
    assert someone.ask("UN all", name) is None
    assert other.hear() is None
    assert len(clu.queue(name, "GRANTED")) == 2
    assert len(clu.queue(f"{name}.sub/b", "GRANTED")) == 1
    assert clu.report(f"{name}.sub/b.sub/c") == ""
    assert someone.ask("UN", name) is None


def test_a_deep_tree(clu: Clu, program: Programs) -> None:
    someone = program(clu.public)
    path = "deep"
    depth = 0
    while (said := someone.ask("CR", path)) is None and depth < 100:
        depth += 1
        path += ".sub/d"
    assert depth >= 20
    assert said == "EINVAL"
    found = [directory for directory, _, files in os.walk(clu.public) if "d" in files]
    assert len(found) == depth - 1
    assert someone.ask("UN all", "deep") is None
    assert someone.ask("UN", "deep") is None


def test_an_exit_releases_a_whole_tree(clu: Clu, name: str, program: Programs) -> None:
    someone, witness = program(clu.public), program(clu.public)
    for one in (someone, witness):
        one.ask("CR", name)
    witness.ask("NL", f"{name}.sub/row")
    someone.ask("EX", f"{name}.sub/row")
    someone.ask("EX value=half", f"{name}.sub/row")
    someone.close()
    until(lambda: len(clu.queue(f"{name}.sub/row", "GRANTED")) == 1, "the release")
    assert "VALID=0" in clu.report(f"{name}.sub/row")
    assert len(clu.queue(name, "GRANTED")) == 1


def test_sublocks_by_descriptor_below_a_parent_of_the_process(
    clu: Clu, name: str, shell: Shells
) -> None:
    someone = shell(cwd=clu.public)
    someone.ask(f"exec 8<> {name}; echo CR >&8")
    assert someone.ask(f"exec 9<> {name}.sub/row; echo EX >&9") == (0, "")
    assert someone.ask("echo UN >&8")[0] == 1
    assert someone.ask("echo PR >&9; echo UN >&9; echo UN >&8") == (0, "")


def test_a_child_releases_the_sublock_that_it_inherited(clu: Clu, name: str, shell: Shells) -> None:
    """Only a new sublock needs the parent: who has the descriptor converts and releases."""
    someone = shell(cwd=clu.public)
    someone.ask(f"echo CR > {name}; exec 9<> {name}.sub/row; echo EX >&9")
    assert someone.ask("( echo PR >&9 ); /bin/echo UN >&9") == (0, "")
    assert clu.report(f"{name}.sub/row") == ""


def test_a_group_and_the_member_have_trees_too(clu: Clu, name: str, program: Programs) -> None:
    someone, other = program(clu.public), program(clu.public)
    assert someone.ask("CR persistent", name) is None
    assert someone.ask("EX persistent", f"{name}.sub/row") is None
    assert other.ask("EX", f"{name}.sub/row") == "EPERM"
    assert other.ask("UN all persistent", name) is None
    assert other.ask("UN persistent", name) is None
    assert clu.report(name) == ""
