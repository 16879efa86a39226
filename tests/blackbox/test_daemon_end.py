"""The end of a daemon in order: SIGTERM and umount, with holders and waiters present (contract 0)."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.blackbox.clu import Clu, Shell, until


def is_mounted(clu: Clu) -> bool:
    return f" {clu.root} " in Path("/proc/self/mountinfo").read_text()


def close(fd: int) -> None:
    """Close a descriptor whose file system may be gone."""
    with suppress(OSError):
        os.close(fd)


@pytest.fixture
def holding(own_clu: Clu) -> Iterator[Callable[[], int]]:
    """Opens `f` and takes EX by the descriptor."""
    with ExitStack() as opened:

        def hold() -> int:
            fd = os.open(own_clu.public / "f", os.O_RDWR | os.O_CREAT)
            opened.callback(close, fd)
            os.write(fd, b"EX\n")
            return fd

        yield hold


@pytest.fixture
def crowd(own_clu: Clu, shell: Callable[..., Shell]) -> tuple[Shell, Shell]:
    """A holder and a waiter on `f`, each in a shell that stands outside."""
    holder, waiter = shell(), shell()
    holder.ask(f"f={own_clu.public}/f; echo EX > $f")
    waiter.ask(f"f={own_clu.public}/f")
    waiter.begin("echo PR > $f")
    own_clu.until_queued("f")
    return holder, waiter


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_daemon_and_waiters_are_told(
    own_clu: Clu, crowd: tuple[Shell, Shell], number: signal.Signals
) -> None:
    begin = time.monotonic()
    assert own_clu.stop(number) == 0
    assert time.monotonic() - begin < 2
    assert not is_mounted(own_clu)
    holder, waiter = crowd
    assert waiter.hear()[0] != 0
    assert holder.ask("test -e $f")[0] == 1
    assert not (own_clu.state / "owners").exists()
    assert own_clu.log.read_text().count(f"{number.name}: stopping") == 1


WAITER = """
import errno, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
try:
    os.write(fd, b"EX\\n")
except OSError as error:
    print(errno.errorcode[error.errno])
"""


def test_a_waiter_gets_eshutdown(own_clu: Clu, crowd: tuple[Shell, Shell]) -> None:
    command = ["/usr/bin/env", "python3", "-S", "-c", WAITER, str(own_clu.public / "f")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as waiter:
        own_clu.until_queued("f", 2)
        assert own_clu.stop() == 0
        assert waiter.stdout is not None
        assert waiter.stdout.read() == "ESHUTDOWN\n"


def test_a_holder_that_polls_sees_its_lock_lost(own_clu: Clu, holding: Callable[[], int]) -> None:
    fd = holding()
    poller = select.poll()
    poller.register(fd, 0)
    assert not poller.poll(0)
    assert own_clu.stop() == 0
    assert poller.poll(10_000)[0][1] & (select.POLLHUP | select.POLLERR)


POLLER = """
import os, select, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.write(fd, b"EX\\n")
poller = select.poll()
poller.register(fd, 0)
print("polls", flush=True)
print(poller.poll()[0][1] & select.POLLHUP, flush=True)
"""


def test_a_holder_that_sleeps_in_poll_wakes_with_pollhup(own_clu: Clu) -> None:
    command = ["/usr/bin/env", "python3", "-S", "-c", POLLER, str(own_clu.public / "f")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as poller:
        assert poller.stdout is not None
        assert poller.stdout.readline() == "polls\n"
        assert own_clu.stop() == 0
        assert poller.stdout.read() == f"{select.POLLHUP}\n"


def test_lost_sends_its_signal(own_clu: Clu, shell: Callable[..., Shell]) -> None:
    holder = shell()
    holder.ask(f"trap 'echo lost' USR2; echo 'EX lost=USR2' > {own_clu.public}/f")
    assert own_clu.stop() == 0
    assert holder.ask("true") == (0, "lost\n")


def test_who_stands_inside_does_not_keep_it_mounted(
    own_clu: Clu, shell: Callable[..., Shell]
) -> None:
    standing = shell(cwd=own_clu.public)
    standing.ask("exec 9<>f; echo EX >&9")
    assert own_clu.stop() == 0
    assert not is_mounted(own_clu)
    assert standing.ask("ls 2>/dev/null")[0] != 0
    own_clu.start()
    assert shell(cwd=own_clu.public).ask("echo EX > f") == (0, "")


def test_a_second_sigterm_hurts_nothing(own_clu: Clu, crowd: tuple[Shell, Shell]) -> None:
    own_clu.daemon.send_signal(signal.SIGTERM)
    while own_clu.daemon.poll() is None:
        own_clu.daemon.send_signal(signal.SIGTERM)
        time.sleep(0.002)
    assert own_clu.ended() == 0
    assert not is_mounted(own_clu)
    assert crowd[1].hear()[0] != 0


def test_umount_ends_the_daemon(own_clu: Clu, shell: Callable[..., Shell]) -> None:
    holder = shell()
    holder.ask(f"trap 'echo lost' USR2; echo 'EX lost=USR2' > {own_clu.public}/f")
    subprocess.run(["umount", own_clu.root], check=True)
    assert own_clu.ended() == 0
    assert holder.ask("true") == (0, "lost\n")
    assert not (own_clu.state / "owners").exists()


def test_umount_is_refused_while_a_file_is_open_and_a_lazy_one_is_not(
    own_clu: Clu, holding: Callable[[], int]
) -> None:
    fd = holding()
    busy = subprocess.run(["umount", own_clu.root], capture_output=True, text=True)
    assert busy.returncode == 32 and "busy" in busy.stderr
    subprocess.run(["umount", "-l", own_clu.root], check=True)
    assert os.write(fd, b"NL\n") == 3
    os.close(fd)
    assert own_clu.ended() == 0


def test_a_daemon_starts_again_and_numbers_its_view(own_clu: Clu) -> None:
    def view() -> int:
        text = (own_clu.root / "status" / "cluster").read_text()
        return int(dict(line.split("=", 1) for line in text.splitlines())["VIEW"])

    views = [view()]
    for number in (signal.SIGTERM, signal.SIGKILL):
        own_clu.stop(number)
        own_clu.start()
        views.append(view())
    assert views == sorted(set(views))


def test_a_sequencer_of_an_earlier_daemon_is_stale(
    own_clu: Clu, holding: Callable[[], int]
) -> None:
    first = os.getxattr(holding(), "user.clu.sequencer").decode()
    own_clu.stop()
    own_clu.start()
    second = os.getxattr(holding(), "user.clu.sequencer").decode()
    checker = own_clu.root / "status" / "sequencer"
    checker.write_text(second)
    with pytest.raises(OSError, match="Stale"):
        checker.write_text(first)
    assert int(first.split()[2]) < int(second.split()[2])


def test_an_idle_daemon_uses_no_processor(own_clu: Clu, crowd: tuple[Shell, Shell]) -> None:
    def ticks() -> int:
        with open(f"/proc/{own_clu.daemon.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    until(lambda: own_clu.errors() is not None, "an answer")
    time.sleep(0.2)
    before = ticks()
    time.sleep(1.0)
    assert ticks() - before <= 1
