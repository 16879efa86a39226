"""A member whose corosync is gone, seen from its /clu."""

import subprocess
import time

from tests.cluster.lab import Lab, within

EVENTS = "cat /clu/events"


def test_who_asks_while_corosync_is_gone_waits_until_it_is_back(alone: Lab) -> None:
    alone.do("kill", "provolone", "--what", "corosync")
    assert within(10, lambda: " expelled " in alone.sh("provolone", EVENTS))
    nowait = "echo EX nowait > /clu/locks/public/gone || tail -1 /clu/status/errors"
    assert "EHOSTDOWN" in alone.sh("provolone", nowait)
    assert alone.sh("provolone", "cat /clu/members/self/state") == "joining\n"
    script = "echo EX > /clu/locks/public/gone && echo granted"
    waiting = alone.start("provolone", "sh", "-c", script, stdout=subprocess.PIPE)
    time.sleep(1)
    assert waiting.poll() is None
    alone.do("restart", "provolone", "--what", "corosync")
    assert waiting.communicate(timeout=20)[0] == "granted\n"


def test_the_daemon_answers_while_it_lets_go_of_a_corosync_that_is_gone(alone: Lab) -> None:
    watch = (
        "import time\nlongest = 0.0\nend = time.monotonic() + 5\nwhile time.monotonic() < end:\n"
        "    began = time.monotonic()\n    open('/clu/status/quorum').read()\n"
        "    longest = max(longest, time.monotonic() - began)\n    time.sleep(0.01)\n"
        "print(longest)\n"
    )
    watching = alone.start("provolone", "python3", "-c", watch, stdout=subprocess.PIPE)
    time.sleep(1)
    alone.do("kill", "provolone", "--what", "corosync")
    longest_s = float(watching.communicate(timeout=30)[0])
    alone.do("restart", "provolone", "--what", "corosync")
    assert longest_s < 1


def test_mkdir_ends_while_corosync_stands_still(alone: Lab) -> None:
    quorum = "cat /clu/status/quorum"
    assert within(20, lambda: "QUORATE=1" in alone.sh("provolone", quorum))
    alone.do("pause", "provolone", "--what", "corosync")
    script = "mkdir /clu/locks/still; tail -1 /clu/status/errors"
    try:
        said = alone.sh("provolone", script)
    finally:
        alone.do("resume", "provolone", "--what", "corosync")
    assert "locks/still ETIMEDOUT" in said
    there = "ls /clu/locks"
    assert within(10, lambda: "still" in alone.sh("provolone", there))
    assert alone.sh("provolone", "rmdir /clu/locks/still && ls /clu/locks") == "public\n"
