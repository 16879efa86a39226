"""A member of a cluster ends: nobody acts upon a lock of it any more, or the next daemon sees to that."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.blackbox.clu import Clu, Shell, until

STOP_S = 3


class AccompaniedClu(Clu):
    """A /clu of a cluster with other members."""

    program = (sys.executable, "-m", "tests.blackbox.accompanied")

    def begins_to_end(self) -> None:
        """It has been told to, and waits for its holders."""
        self.daemon.send_signal(signal.SIGTERM)
        until(
            lambda: f"they have {STOP_S} s to end" in self.log.read_text(), "its beginning to end"
        )


@pytest.fixture
def clu(tmp_path: Path) -> Iterator[AccompaniedClu]:
    config = tmp_path / "clufs.toml"
    config.write_text(f"[daemon]\nstop_s = {STOP_S}\n")
    clu = AccompaniedClu(tmp_path, "--config", str(config))
    yield clu
    clu.close()


@pytest.fixture
def holder(clu: AccompaniedClu, tmp_path: Path) -> Iterator[Shell]:
    """It holds a lock, and has no file open."""
    shell = Shell(cwd=tmp_path)
    assert shell.ask(f"echo EX > {clu.public}/f") == (0, "")
    yield shell
    shell.close()


@pytest.mark.parametrize("quorum", [True, False])
def test_who_holds_a_lock_is_dead_when_the_daemon_has_ended(
    clu: AccompaniedClu, holder: Shell, quorum: bool
) -> None:
    """The next one says of the life before that nothing is left of it."""
    if not quorum:
        clu.daemon.send_signal(signal.SIGUSR1)
    assert clu.stop() == 0
    assert holder.process.wait(1) == -signal.SIGKILL
    assert not (clu.state / "owners").exists()


def test_umount_does_not_cut_the_goodbye_short(clu: AccompaniedClu, holder: Shell) -> None:
    clu.begins_to_end()
    subprocess.run(["umount", str(clu.root)], check=True)
    assert clu.ended() == 0
    assert holder.process.wait(1) == -signal.SIGKILL


def test_whom_a_second_signal_leaves_alive_the_next_daemon_ends(
    clu: AccompaniedClu, holder: Shell
) -> None:
    clu.begins_to_end()
    assert clu.stop() == 0
    assert holder.ask("echo here") == (0, "here\n")
    clu.start()
    assert holder.process.wait(1) == -signal.SIGKILL
