"""Deadlocks are found when the cycle closes; the youngest waiter is the victim (contract 2.1, 9.3.5)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.blackbox.clu import SHELLS, Clu, Shell, until
from tests.blackbox.program import Program

Shells = Callable[..., Shell]
Programs = Callable[..., Program]


def told(clu: Clu) -> str:
    """The last cycle in status/deadlocks."""
    text = (clu.root / "status" / "deadlocks").read_text()
    return text[text.rindex("DEADLOCK ") :]


@pytest.mark.parametrize("kind", SHELLS)
def test_two_conversions_that_wait_for_each_other(
    clu: Clu, name: str, shell: Shells, kind: str
) -> None:
    elder, younger = shell(kind, cwd=clu.public), shell(kind, cwd=clu.public)
    for one in (elder, younger):
        one.ask(f"echo PR > {name}")
    elder.begin(f"echo EX > {name}")
    clu.until_queued(name, queue="CONVERTING")
    assert younger.ask(f"echo EX > {name}")[0] == 1
    assert clu.why(name).startswith("EDEADLK ")
    assert "conversion" in told(clu).splitlines()[0]
    assert f" {elder.pid} " in told(clu) and f" {younger.pid} " in told(clu)
    assert [line.split()[4] for line in clu.queue(name, "GRANTED")] == [str(younger.pid)]
    assert younger.ask(f"echo UN > {name}") == (0, "")
    assert elder.hear() == (0, "")


@pytest.mark.parametrize("kind", SHELLS)
@pytest.mark.parametrize("how", ["process", "descriptor"])
@pytest.mark.parametrize("count", [2, 3])
def test_a_ring_of_processes_or_descriptors(
    clu: Clu, name: str, shell: Shells, kind: str, how: str, count: int
) -> None:
    ring = [shell(kind, cwd=clu.public) for _ in range(count)]
    names = [f"{name}{i}" for i in range(count)]
    lock = "echo EX > {1}" if how == "process" else "exec {0}<> {1}; echo EX >&{0}"
    for i, one in enumerate(ring):
        assert one.ask(lock.format(7, names[i])) == (0, "")
    for i, one in enumerate(ring[:-1]):
        one.begin(lock.format(8, names[i + 1]))
        clu.until_queued(names[i + 1])
    assert ring[-1].ask(lock.format(8, names[0]))[0] == 1
    assert clu.why(names[0]).startswith("EDEADLK ")
    report = told(clu)
    assert "multi-resource" in report.splitlines()[0]
    assert all(each in report for each in names)
    assert all(f" {one.pid} " in report for one in ring)
    assert "victim" in report.lower()
    ring[-1].close()
    for one in reversed(ring[:-1]):
        assert one.hear() == (0, "")
        one.close()


def test_the_youngest_is_the_victim_also_when_another_closes_the_cycle(
    clu: Clu, name: str, program: Programs
) -> None:
    """A conversion takes an old place in the queue: the one that waits since later is refused."""
    one, other = program(clu.public), program(clu.public)
    a, b = f"{name}_a", f"{name}_b"
    one.ask("EX", a)
    other.ask("EX", b)
    one.run(f"fd = own({b!r}); say(fd, 'EX async')")
    clu.until_queued(b)
    assert other.ask("EX", a) == "EDEADLK"
    other.ask("UN", b)
    assert one.run("say(fd, 'WAIT')") is None


def test_threads_wait_for_each_other_as_processes_do(
    clu: Clu, name: str, program: Programs
) -> None:
    someone, other = program(clu.public), program(clu.public)
    other.ask("EX", name)
    someone.run("""
def take_turn(name):
    fd = own(name)
    say(fd, 'EX')
    os.close(fd)
""")
    someone.run(f"threads = [aside(take_turn, {name!r}) for _ in range(4)]")
    clu.until_queued(name, 4)
    other.ask("UN", name)
    assert someone.run("[thread() for thread in threads]") == [None] * 4


def test_a_ring_of_threads(clu: Clu, name: str, program: Programs) -> None:
    someone = program(clu.public)
    a, b = f"{name}_a", f"{name}_b"
    someone.run("""
def both(first, second):
    fd, then = own(first), own(second)
    say(fd, 'EX')
    barrier.wait()
    try:
        say(then, 'EX')
    finally:
        os.close(then)
        os.close(fd)
""")
    someone.run("barrier = threading.Barrier(2)")
    someone.run(f"one, two = aside(both, {a!r}, {b!r}), aside(both, {b!r}, {a!r})")
    assert someone.run("sorted(map(str, (one(), two())))") == ["EDEADLK", "None"]


def test_through_a_process_and_its_descriptor(clu: Clu, name: str, program: Programs) -> None:
    someone = program(clu.public)
    someone.run(f"fd = own({name!r}); say(fd, 'EX')")
    assert someone.ask("EX", name) == "EDEADLK"
    assert someone.ask("EX nodeadlock timeout=0.05", name) == "ETIMEDOUT"


def test_a_group_is_stuck_when_all_its_members_are(clu: Clu, name: str, program: Programs) -> None:
    one, two, other = (program(clu.public) for _ in range(3))
    a, b = f"{name}_a", f"{name}_b"
    group = clu.root / "groups" / name
    group.mkdir()
    for member in (one, two):
        (group / "procs").write_text(f"{member.pid}\n")
    one.ask(f"EX group={name}", a)
    other.ask("EX", b)
    other.begin_to_ask("EX", a)
    clu.until_queued(a)
    one.begin_to_ask("EX", b)
    clu.until_queued(b)
    assert two.ask("EX", b) == "EDEADLK"
    assert two.ask(f"UN group={name}", a) is None
    assert other.hear() is None
    other.ask("UN", b)
    assert one.hear() is None
    for member in (one, two):
        member.close()
    until(lambda: not (group / "procs").read_text(), "an empty group")
    group.rmdir()


def test_the_death_of_a_member_can_close_a_cycle(clu: Clu, name: str, program: Programs) -> None:
    one, two, other = (program(clu.public) for _ in range(3))
    a, b = f"{name}_a", f"{name}_b"
    group = clu.root / "groups" / name
    group.mkdir()
    for member in (one, two):
        (group / "procs").write_text(f"{member.pid}\n")
    one.ask(f"EX group={name}", a)
    other.ask("EX", b)
    other.begin_to_ask("EX", a)
    clu.until_queued(a)
    one.begin_to_ask("EX", b)
    clu.until_queued(b)
    two.close()
    assert one.hear() == "EDEADLK"
    assert one.ask(f"UN group={name}", a) is None
    assert other.hear() is None
    one.close()
    until(lambda: not (group / "procs").read_text(), "an empty group")
    group.rmdir()


def test_nodeadlock_breaks_no_cycle_and_is_no_victim(
    clu: Clu, name: str, program: Programs
) -> None:
    one, other = program(clu.public), program(clu.public)
    a, b = f"{name}_a", f"{name}_b"
    one.ask("EX", a)
    other.ask("EX", b)
    one.run(f"outcome = aside(ask, 'EX nodeadlock', {b!r})")
    clu.until_queued(b)
    assert other.ask("EX timeout=0.1", a) == "ETIMEDOUT"
    assert other.ask("UN", b) is None
    assert one.run("outcome()") is None


def test_a_queue_without_a_cycle_is_none(clu: Clu, name: str, program: Programs) -> None:
    holder, first, second = (program(clu.public) for _ in range(3))
    a, b = f"{name}_a", f"{name}_b"
    holder.ask("EX", a)
    first.ask("EX", b)
    first.begin_to_ask("EX", a)
    clu.until_queued(a)
    second.begin_to_ask("EX", b)
    clu.until_queued(b)
    assert holder.ask("UN", a) is None
    assert first.hear() is None
    first.ask("UN", b)
    assert second.hear() is None


def test_an_async_request_can_be_the_victim(clu: Clu, name: str, program: Programs) -> None:
    one, other = program(clu.public), program(clu.public)
    for who in (one, other):
        who.ask("PR", name)
    assert one.ask("EX async", name) is None
    one.begin_to_ask("WAIT", name)
    assert other.ask("EX async", name) == "EDEADLK"
    other.ask("UN", name)
    assert one.hear() is None
