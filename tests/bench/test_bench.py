"""The benchmark runs and shows every row; what it measures is nobody's test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(300)
_PLACED = """
    hello bare conversions lock flock hello-path bare-path path read shell hand-over hand-over-crowd
    own-conversions own-lock remote-grant by-flock by-fcntl ping-pong
""".split()
_ONCE = """
    core-pair core-conversions core-share clients ls idle waiter-memory kill start
    block-bytes lock-bytes pause-ms own-conversions-apart own-lock-apart remote-grant-each ping-pong-each
    own-messages own-throughput remote-messages remote-frames remote-bytes
    remote-pair remote-clients remote-hand-over recovery recovery-blocked
    heartbeat placement placement-all checks checks-members takeover takeover-detection takeover-fencing takeover-lock
    lockfiles-pair multicast quorum-flush quorum-disk
    takeover-script takeover-rest
""".split()


def test_every_row_is_measured(tmp_path: Path) -> None:
    kept = tmp_path / "bench.json"
    command = [sys.executable, "-m", "tests.bench", "--tiny", "--json", str(kept)]
    root = Path(__file__).parents[2]
    table = subprocess.check_output(command, cwd=root, text=True, timeout=240)
    rows = {row["key"]: row for row in json.loads(kept.read_text())["rows"]}
    placed = {f"{key}-{where}" for key in _PLACED for where in ("pinned", "free")}
    assert set(rows) == placed | set(_ONCE)
    for row in rows.values():
        assert row["what"] in table
        assert (row["reached"] is None) == (row["target"] is None)
