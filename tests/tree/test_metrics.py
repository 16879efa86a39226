"""/clu/status/metrics: what Prometheus itself reads in it."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from clufs.errors import Deadlock, TimedOut
from clufs.tree.metrics import Metrics


def samples(metrics: Metrics) -> dict[str, float]:
    """Every sample that Prometheus' own parser finds, by name and bucket."""
    return {
        sample.name + "".join(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def test_every_family_says_what_it_counts() -> None:
    metrics = Metrics()
    metrics.gauges["open_files"] = ("Files open", lambda: 3)
    families = {f.name: f for f in text_string_to_metric_families(metrics.text().decode())}
    assert all(family.documentation for family in families.values())
    assert {name: family.type for name, family in families.items()} == {
        **dict.fromkeys(
            "clufs_grants clufs_waits clufs_notifications clufs_deadlocks clufs_refusals"
            " clufs_abnormal_releases clufs_streams".split(),
            "counter",
        ),
        **dict.fromkeys(
            "clufs_request_seconds clufs_wait_seconds clufs_hold_seconds".split(), "histogram"
        ),
        "clufs_open_files": "gauge",
    }


def test_counters_count() -> None:
    metrics = Metrics()
    metrics.granted_after(0.5)
    metrics.refused(TimedOut("no"))
    metrics.refused(Deadlock("victim"))
    found = samples(metrics)
    assert found["clufs_grants_total"] == 1
    assert found["clufs_refusals_total"] == 2
    assert found["clufs_deadlocks_total"] == 1


def test_a_histogram_is_cumulative_and_a_bound_belongs_to_its_bucket() -> None:
    metrics = Metrics()
    for seconds in (0.0, 0.00001, 0.002, 0.003, 7000.0):
        metrics.requested(seconds)
    found = samples(metrics)
    name = "clufs_request_seconds_bucket"
    assert [found[name + bound] for bound in ("1e-05", "0.001", "0.003", "600", "+Inf")] == [
        2, 2, 4, 4, 5,
    ]  # fmt: skip
    assert found["clufs_request_seconds_count"] == 5
    assert found["clufs_request_seconds_sum"] == pytest.approx(7000.00501)


def test_what_streams_count_is_asked_when_the_text_is_made() -> None:
    metrics = Metrics()
    metrics.streams = lambda: {"messages_sent": 3, "torn": 1}
    found = samples(metrics)
    assert found["clufs_streams_totalmessages_sent"] == 3
    assert found["clufs_streams_totaltorn"] == 1


def test_gauges_are_asked_when_the_text_is_made() -> None:
    metrics = Metrics()
    lengths = iter((4, 5))
    metrics.gauges["queue_length_max"] = ("Requests queued", lambda: next(lengths))
    assert samples(metrics)["clufs_queue_length_max"] == 4
    assert samples(metrics)["clufs_queue_length_max"] == 5
