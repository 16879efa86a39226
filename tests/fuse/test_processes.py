"""What the kernel says about processes, asked of real ones."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from clufs.fuse import processes
from clufs.fuse.processes import ExitWatch

PATIENCE_S = 10.0
Starter = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts children, and ends them after the test."""
    children: list[subprocess.Popen[bytes]] = []

    def begin(*command: str, **options: object) -> subprocess.Popen[bytes]:
        children.append(subprocess.Popen(command, **options))  # type: ignore[call-overload]
        return children[-1]

    yield begin
    for child in children:
        child.kill()
        child.wait()
        if child.stdin:
            child.stdin.close()
        if child.stdout:
            child.stdout.close()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_process_has_its_command_parent_and_start(start: Starter) -> None:
    child = start("sleep", "60")
    until(lambda: (now := processes.stat(child.pid)) and now.command == "sleep")
    now = processes.stat(child.pid)
    assert now is not None
    assert (now.ppid, processes.is_ending(child.pid)) == (os.getpid(), False)
    assert now.start_time > 0
    assert processes.uid_of(child.pid) == os.geteuid()


def test_many_groups_hide_nothing(start: Starter) -> None:
    child = start("sleep", "60", extra_groups=list(range(100_000, 103_000)))
    assert not processes.is_ending(child.pid)


def test_the_effective_uid_counts(start: Starter) -> None:
    child = start("sleep", "60", user=65534)
    assert processes.uid_of(child.pid) == 65534


ODD_NAME = """
import ctypes, sys
ctypes.CDLL(None).prctl(15, b") R 1 (\\n")
print("named", flush=True)
sys.stdin.read()
"""


def test_a_process_cannot_forge_its_record_with_its_name(start: Starter) -> None:
    child = start("python3", "-c", ODD_NAME, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"named\n"
    now = processes.stat(child.pid)
    assert now is not None
    assert (now.command, now.ppid) == (") R 1 (\n", os.getpid())
    assert processes.command_of(child.pid) == ") R 1 (\\n"
    assert list(processes.ancestors(child.pid))[1] == os.getpid()


def test_a_zombie_is_dying_and_then_gone(start: Starter) -> None:
    child = start("true")
    until(lambda: processes.is_ending(child.pid))
    assert processes.must_interrupt(child.pid)
    child.wait()
    assert processes.stat(child.pid) is None
    assert processes.is_ending(child.pid)
    assert processes.uid_of(child.pid) is None
    assert processes.group_leader(child.pid) is None
    assert processes.open_pidfd(child.pid) is None


def test_a_thread_belongs_to_its_process_and_has_no_pidfd() -> None:
    done, tid = threading.Event(), []
    thread = threading.Thread(target=lambda: (tid.append(threading.get_native_id()), done.wait()))
    thread.start()
    until(lambda: tid)
    assert processes.group_leader(tid[0]) == os.getpid()
    assert processes.open_pidfd(tid[0]) is None
    assert not processes.is_ending(os.getpid())
    done.set()
    thread.join()


def test_ancestors_begin_with_the_process_itself(start: Starter) -> None:
    child = start("sleep", "60")
    line = list(processes.ancestors(child.pid))
    assert line[:2] == [child.pid, os.getpid()]
    assert line[-1] == 1


BLOCK_USR1 = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.{0}])
os.kill(os.getpid(), signal.{0})
print("pending", flush=True)
sys.stdin.read()
"""


def test_a_blocked_signal_does_not_end_a_wait(start: Starter) -> None:
    code = BLOCK_USR1.format("SIGUSR1")
    child = start("python3", "-c", code, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"pending\n"
    assert not processes.must_interrupt(child.pid)


AWAIT_USR2 = """
import ctypes, signal, struct
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
print("awaits", flush=True)
wanted, info = (ctypes.c_ulong * 16)(1 << signal.SIGUSR2 - 1), ctypes.create_string_buffer(128)
ctypes.CDLL(None).sigwaitinfo(wanted, info)
print(*struct.unpack("=iii4xiiQ", info.raw[:32]))
"""


def test_a_signal_carries_a_value_of_64_bits(start: Starter) -> None:
    child = start("python3", "-c", AWAIT_USR2, stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"awaits\n"
    pidfd = os.pidfd_open(child.pid)
    processes.send_signal(pidfd, signal.SIGUSR2, 2**63 + 5)
    os.close(pidfd)
    number, _, _, pid, uid, value = map(int, child.stdout.read().split())
    assert (number, pid, uid, value) == (signal.SIGUSR2, os.getpid(), os.getuid(), 2**63 + 5)


def test_a_signal_to_a_process_that_is_gone_is_nothing(start: Starter) -> None:
    child = start("sleep", "60")
    pidfd = os.pidfd_open(child.pid)
    child.kill()
    child.wait()
    assert processes.is_gone(pidfd)
    processes.send_signal(pidfd, signal.SIGUSR1, 0)
    os.close(pidfd)


def test_the_watch_tells_of_each_exit_once(start: Starter) -> None:
    watch, ended = ExitWatch(), []
    children = [start("sleep", "60") for _ in range(3)]
    for child in children:
        watch.add(os.pidfd_open(child.pid), lambda pid=child.pid: ended.append(pid))  # type: ignore[misc]
    watch.sweep()
    assert ended == []
    children[1].kill()
    assert select.select([watch.fd], [], [], PATIENCE_S)[0]
    watch.sweep()
    watch.sweep()
    assert ended == [children[1].pid]
    children[0].kill()
    children[2].kill()
    until(lambda: (watch.sweep(), len(ended) == 3)[1])
    watch.close()
