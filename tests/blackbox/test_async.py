"""`async`: the write returns once queued; WAIT and poll(2) tell the rest (contract 2.1, 2.3)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.blackbox.clu import SHELLS, Clu, Shell, until
from tests.blackbox.program import Program

Shells = Callable[..., Shell]
Programs = Callable[..., Program]

EVENTS = """
def events(fd):
    poller = select.poll()
    poller.register(fd, select.POLLOUT | select.POLLPRI)
    names = {select.POLLOUT: "OUT", select.POLLPRI: "PRI", select.POLLHUP: "HUP", select.POLLERR: "ERR"}
    found = poller.poll(0)
    bits = found[0][1] if found else 0
    return sorted(name for bit, name in names.items() if bits & bit)

def until_event(fd, bits):
    # Without a timeout: the kernel looks again when one runs out, and would find what nobody told.
    poller = select.poll()
    poller.register(fd, bits)
    return bool(poller.poll())
"""


def is_polling(one: Program) -> bool:
    """Whether the program sleeps in poll(2)."""
    return "poll" in Path(f"/proc/{one.pid}/wchan").read_text()


@pytest.mark.parametrize("kind", SHELLS)
def test_a_shell_asks_ahead_and_waits_later(clu: Clu, name: str, shell: Shells, kind: str) -> None:
    holder, asker = shell(kind, cwd=clu.public), shell(kind, cwd=clu.public)
    holder.ask(f"echo EX > {name}")
    assert asker.ask(f"echo EX async > {name}") == (0, "")
    assert len(clu.queue(name, "WAITING")) == 1
    asker.begin(f"echo WAIT > {name}")
    assert holder.ask(f"echo UN > {name}") == (0, "")
    assert asker.hear() == (0, "")
    assert f" {asker.pid} " in clu.queue(name, "GRANTED")[0]


def test_granted_at_once_leaves_nothing_to_wait_for(clu: Clu, name: str, program: Programs) -> None:
    someone = program(clu.public)
    assert someone.ask("EX async", name) is None
    assert "GRANTED EX " in clu.report(name)
    assert someone.ask("WAIT", name) is None
    assert someone.ask("WAIT", name) is None


def test_granted_while_nobody_waited_for_it(clu: Clu, name: str, program: Programs) -> None:
    holder, asker = program(clu.public), program(clu.public)
    holder.ask("EX", name)
    asker.ask("PR async", name)
    holder.ask("UN", name)
    assert "GRANTED PR " in clu.report(name)
    assert asker.ask("WAIT", name) is None


def test_a_failure_is_kept_until_somebody_asks_also_when_the_name_is_gone(
    clu: Clu, name: str, program: Programs
) -> None:
    holder, asker = program(clu.public), program(clu.public)
    holder.ask("EX", name)
    assert asker.ask("EX async timeout=0.05", name) is None
    until(lambda: not clu.queue(name, "WAITING"), "the timeout")
    holder.ask("UN", name)
    assert not (clu.public / name).exists()
    assert asker.ask("WAIT", name) == "ETIMEDOUT"
    assert asker.ask("WAIT", name) == "EPERM"


def test_a_new_request_ends_the_memory_of_the_old(clu: Clu, name: str, program: Programs) -> None:
    holder, asker = program(clu.public), program(clu.public)
    holder.ask("PR", name)
    assert asker.ask("EX async timeout=0.05", name) is None
    until(lambda: not clu.queue(name, "WAITING"), "the timeout")
    assert asker.ask("PR", name) is None
    assert asker.ask("WAIT", name) is None


def test_a_wait_that_is_under_way_hears_the_failure(clu: Clu, name: str, program: Programs) -> None:
    holder, asker = program(clu.public), program(clu.public)
    holder.ask("EX", name)
    asker.ask("EX async", name)
    asker.run(f"first = aside(ask, 'WAIT', {name!r})")
    asker.run(f"second = aside(ask, 'WAIT', {name!r})")
    until(lambda: _waiting_calls(clu) >= 2, "two WAITs under way")
    assert asker.ask("CANCEL", name) is None
    assert asker.run("first()") == "ECANCELED"
    assert asker.run("second()") == "ECANCELED"


def _waiting_calls(clu: Clu) -> int:
    text = (clu.root / "status" / "metrics").read_text()
    line = next(line for line in text.splitlines() if line.startswith("clufs_waiting "))
    return int(float(line.split()[1]))


def test_a_killed_wait_leaves_the_request_queued(
    clu: Clu, name: str, shell: Shells, program: Programs
) -> None:
    """WAIT by a child on an inherited descriptor: it only looks on."""
    holder, asker = program(clu.public), shell(cwd=clu.public)
    holder.ask("EX", name)
    asker.ask(f"exec 9<> {name}; echo EX async >&9")
    asker.ask("(echo WAIT >&9) & waiter=$!")
    until(lambda: _waiting_calls(clu) == 1, "the WAIT")
    assert asker.ask("kill $waiter; wait $waiter")[0] == 143
    assert len(clu.queue(name, "WAITING")) == 1
    holder.ask("UN", name)
    assert asker.ask("echo WAIT >&9") == (0, "")


def test_the_exit_of_the_asker_takes_the_request_back(
    clu: Clu, name: str, program: Programs
) -> None:
    holder, asker = program(clu.public), program(clu.public)
    holder.ask("EX", name)
    asker.ask("EX async", name)
    asker.close()
    until(lambda: not clu.queue(name, "WAITING"), "the queue without the dead")


def test_the_last_close_takes_a_descriptors_request_back(
    clu: Clu, name: str, program: Programs
) -> None:
    holder, asker = program(clu.public), program(clu.public)
    holder.ask("EX", name)
    asker.run(f"fd = own({name!r}); say(fd, 'EX async')")
    clu.until_queued(name)
    asker.run("os.close(fd)")
    until(lambda: not clu.queue(name, "WAITING"), "the queue without the closed")


def test_poll_tells_the_grant(clu: Clu, name: str, program: Programs) -> None:
    holder, asker = program(clu.public), program(clu.public)
    asker.run(EVENTS)
    holder.ask("EX", name)
    asker.run(f"fd = own({name!r})")
    assert asker.run("events(fd)") == ["OUT"]
    asker.run("say(fd, 'PR async')")
    assert asker.run("events(fd)") == []
    asker.begin("until_event(fd, select.POLLOUT)")
    until(lambda: is_polling(asker), "the asker in poll(2)")
    holder.ask("UN", name)
    assert asker.hear() is True
    assert "GRANTED PR " in clu.report(name)
    assert asker.run("say(fd, 'WAIT')") is None


def test_poll_tells_that_the_request_failed(clu: Clu, name: str, program: Programs) -> None:
    holder, asker = program(clu.public), program(clu.public)
    asker.run(EVENTS)
    holder.ask("EX", name)
    asker.run(f"fd = own({name!r}); say(fd, 'PR async timeout=0.1')")
    assert asker.run("until_event(fd, select.POLLOUT)") is True
    assert asker.run("say(fd, 'WAIT')") == "ETIMEDOUT"


@pytest.mark.parametrize("words", ["", " signal=URG"])
def test_poll_tells_the_holder_that_it_blocks_somebody(
    clu: Clu, name: str, program: Programs, words: str
) -> None:
    holder, asker = program(clu.public), program(clu.public)
    holder.run(EVENTS)
    holder.run(f"fd = own({name!r}); say(fd, 'EX{words}')")
    assert holder.run("events(fd)") == ["OUT"]
    holder.begin("until_event(fd, select.POLLPRI)")
    until(lambda: is_polling(holder), "the holder in poll(2)")
    asker.begin_to_ask("PR", name)
    assert holder.hear() is True
    assert holder.run("events(fd)") == ["OUT", "PRI"]
    assert holder.run("say(fd, 'PR')") is None
    assert asker.hear() is None
    assert holder.run("events(fd)") == ["OUT"]


def test_poll_tells_the_holder_each_time_somebody_comes(
    clu: Clu, name: str, program: Programs
) -> None:
    """A signal comes once per grant; poll(2) shows what is so now."""
    holder, first, second = (program(clu.public) for _ in range(3))
    holder.run(EVENTS)
    holder.run(f"fd = own({name!r}); say(fd, 'EX')")
    assert first.ask("PR async", name) is None
    assert holder.run("events(fd)") == ["OUT", "PRI"]
    first.ask("CANCEL", name)
    assert holder.run("events(fd)") == ["OUT"]
    holder.begin("until_event(fd, select.POLLPRI)")
    until(lambda: is_polling(holder), "the holder in poll(2)")
    assert second.ask("PR async", name) is None
    assert holder.hear() is True


def test_poll_tells_a_new_holder_that_others_wait_already(
    clu: Clu, name: str, program: Programs
) -> None:
    holder, second, third = (program(clu.public) for _ in range(3))
    second.run(EVENTS)
    holder.ask("EX", name)
    second.run(f"fd = own({name!r}); say(fd, 'EX async')")
    clu.until_queued(name)
    third.begin_to_ask("EX", name)
    clu.until_queued(name, 2)
    second.begin("until_event(fd, select.POLLPRI)")
    until(lambda: is_polling(second), "the second in poll(2)")
    holder.ask("UN", name)
    assert second.hear() is True
    second.run("os.close(fd)")
    assert third.hear() is None


def test_the_end_of_the_daemon_is_a_hangup(own_clu: Clu, name: str, program: Programs) -> None:
    holder = program(own_clu.public)
    holder.run(EVENTS)
    holder.run(f"fd = own({name!r}); say(fd, 'EX')")
    holder.begin("until_event(fd, 0)")
    until(lambda: is_polling(holder), "the holder in poll(2)")
    assert own_clu.stop() == 0
    assert holder.hear() is True
