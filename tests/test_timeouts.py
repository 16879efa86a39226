"""The timelines in timeouts.py are what their inputs make them, and hold what they must."""

from __future__ import annotations

import itertools
import re

import pytest

from clufs import timeouts
from clufs.timeouts import KILLING_S, QuorumTimeline, killing_begins_s
from clufs.timeouts.lease import CLOCK_DRIFT, LeaseTimeline


def corosync(members: int, token_ms: int = 3000) -> tuple[float, float]:
    """Token and consensus of corosync for so many members, from corosync.conf's token."""
    token_s = (token_ms + 650 * max(0, members - 2)) / 1000
    return token_s, 1.2 * token_s


def test_the_table_is_what_the_defaults_make() -> None:
    defaults = QuorumTimeline(*corosync(3))
    text = QuorumTimeline.__doc__ or ""
    rows = re.findall(r"t = +([0-9.]+)  (\w+_s) ", text)
    assert len(rows) == len(set(rows)) == 10
    for shown, name in rows:
        assert f"{getattr(defaults, name):.2f}" == shown, name
    properties = {name for name, one in vars(QuorumTimeline).items() if isinstance(one, property)}
    assert {name for _, name in rows} == properties


def test_a_command_outlives_the_leader_of_the_registry() -> None:
    """Its leader may be who stands still or is cut off: with the others it goes on record all the same."""
    defaults = QuorumTimeline(*corosync(3))
    for gone_s in (defaults.view_s, defaults.standing_view_s):
        assert gone_s + timeouts.FORMING_S < timeouts.PROPOSE_S


@pytest.mark.parametrize(
    ("members", "token_ms", "peer_dead_s", "kill_s", "agent_s"),
    list(
        itertools.product((2, 3, 16), (1000, 3000), (2.5, 5.0, 60.0), (0.0, 0.5, 5.0), (1.0, 30.0))
    ),
)
def test_any_inputs_keep_the_order(
    members: int, token_ms: int, peer_dead_s: float, kill_s: float, agent_s: float
) -> None:
    line = QuorumTimeline(*corosync(members, token_ms), peer_dead_s, kill_s, agent_s)
    assert 0 < line.token_lost_s < line.rings_s <= line.killing_s < line.holders_dead_s
    assert line.rings_s < line.view_s < line.fenced_s
    assert line.silent_s < line.verdict_s < line.standing_view_s < line.standing_fenced_s
    assert line.holders_dead_s - line.killing_s >= KILLING_S
    # A stream is given up before its member is, and reconnects; a member that is cut off is found
    # by corosync or by its silence, whichever is first.
    assert line.silent_s > timeouts.LINK_SILENT_S + timeouts.DIAL_MAX_S


@pytest.mark.parametrize(("kill_s", "begins_s"), [(0.0, 0.0), (0.5, 0.0), (1.0, 0.0), (5.0, 4.0)])
def test_killing_begins_so_that_it_ends_in_time(kill_s: float, begins_s: float) -> None:
    assert killing_begins_s(kill_s) == begins_s


def test_the_table_of_a_lease_is_what_the_defaults_make() -> None:
    text = LeaseTimeline.__doc__ or ""
    rows = re.findall(r"t = +([0-9.]+)  (\w+_s) ", text)
    for shown, name in rows:
        assert f"{getattr(LeaseTimeline(), name):.1f}" == shown, name
    properties = {name for name, one in vars(LeaseTimeline).items() if isinstance(one, property)}
    assert {name for _, name in rows} == properties - {"pet_s", "supervisor_s"}


@pytest.mark.parametrize(
    ("io_s", "watchdog_s"), list(itertools.product((0.1, 1, 10, 60), (1, 10, 60)))
)
def test_any_lease_ends_here_before_it_ends_there(io_s: float, watchdog_s: float) -> None:
    line = LeaseTimeline(io_s, watchdog_s)
    assert 0 < line.renew_s < line.retry_s < line.warn_s < line.fail_s < line.dead_s
    # Two beats may fail, each with its timeout, before anybody is warned.
    assert line.renew_s + 2 * (line.renew_s + line.io_timeout_s) >= line.warn_s >= 2 * line.retry_s
    # The watchdog was last reset before fail_s, so it fires before the others may go on by the slower clock.
    assert line.fail_s + line.watchdog_s <= line.dead_s < line.takeover_s / (1 + CLOCK_DRIFT)
    assert line.pet_s < line.supervisor_s < line.watchdog_s
