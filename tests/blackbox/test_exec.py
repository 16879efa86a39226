"""exec(2) closes descriptors while the kernel keeps /proc/PID/stat locked: clufsd must not look there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from clufs.fuse import processes
from tests.blackbox.clu import Clu, until

HOLD_AND_EXEC = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
os.write(fd, b"EX\\n")
os.execvp("cat", ["cat"])
"""

WAIT_AND_EXEC = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
os.write(fd, b"EX\\n")
sys.stdin.read()
os.execvp("sleep", ["sleep", "1"])
"""

EXEC_AGAIN_AND_AGAIN = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
os.write(fd, b"PR\\n")
if int(sys.argv[2]):
    os.execv(sys.executable, [sys.executable, "-S", "-c", sys.argv[3], sys.argv[1],
        str(int(sys.argv[2]) - 1), sys.argv[3]])
"""


def test_a_program_that_execs_lets_go_of_its_lock_and_lives(clu: Clu, name: str) -> None:
    command = [sys.executable, "-S", "-c", HOLD_AND_EXEC, str(clu.public / name)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as program:
        until(lambda: os.readlink(f"/proc/{program.pid}/exe").endswith("cat"), "the exec")
        until(lambda: clu.report(name) == "", "the release")
        assert program.stdin is not None
        program.stdin.close()
        assert program.wait(10) == 0


def test_reports_and_look_ups_go_on_while_a_holder_execs(clu: Clu, name: str) -> None:
    path = str(clu.public / name)
    code = EXEC_AGAIN_AND_AGAIN
    with subprocess.Popen([sys.executable, "-S", "-c", code, path, "20", code]) as program:
        while program.poll() is None:
            clu.report(name)
            clu.errors()
    assert program.returncode == 0
    until(lambda: clu.report(name) == "", "the release")


def test_a_process_in_the_midst_of_an_exec_is_not_waited_for(own_clu: Clu, name: str) -> None:
    path = str(own_clu.public / name)
    with subprocess.Popen([sys.executable, "-S", "-c", WAIT_AND_EXEC, path], stdin=-1) as program:
        assert program.stdin is not None
        until(lambda: own_clu.queue(name, "GRANTED"), "the grant")
        own_clu.daemon.send_signal(signal.SIGSTOP)
        program.stdin.close()  # it execs, and the exec waits for the daemon to answer a close
        until(lambda: processes.stat_soon(program.pid) is None, "an exec that waits")
        assert processes.command_of(program.pid) is not None
        own_clu.daemon.send_signal(signal.SIGCONT)
        until(lambda: processes.stat_soon(program.pid) is not None, "its end")
        assert program.wait(10) == 0
