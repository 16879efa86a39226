"""What is counted, and its Prometheus text."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from clufs.errors import ClufsError, Deadlock

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_BOUNDS_S = (
    0.00001,
    0.00003,
    0.0001,
    0.0003,
    0.001,
    0.003,
    0.01,
    0.03,
    0.1,
    0.3,
    1,
    3,
    10,
    60,
    600,
)


class Histogram:
    """Counts of durations in seconds; adding one costs two list operations."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(_BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(_BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts by upper bound, as Prometheus wants them."""
        total = 0
        out: list[tuple[str, float]] = []
        for bound, count in zip((*map(str, _BOUNDS_S), "+Inf"), self.counts, strict=True):
            total += count
            out.append((bound, total))
        return out


class Metrics:
    """The counters of one daemon. gauges, streams, families: asked when the text is made.

    streams: what the streams to other members count. families: further ones, with labels.
    """

    def __init__(self) -> None:
        self.grants = 0
        self.waits = 0
        self.notifications = 0
        self.deadlocks = 0
        self.refusals = 0
        self.abnormal_releases = 0
        self._request = Histogram()
        self._wait = Histogram()
        self._hold = Histogram()
        self.requested = self._request.add
        self.held_for = self._hold.add
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self.streams: Callable[[], dict[str, int]] = dict
        self.families: list[Callable[[], Iterator[Metric]]] = []

    def granted_after(self, wait_s: float) -> None:
        """A request was granted after it had waited."""
        self.grants += 1
        self._wait.add(wait_s)

    def refused(self, error: ClufsError) -> None:
        """A request was refused, or its wait ended without a grant."""
        self.refusals += 1
        if isinstance(error, Deadlock):
            self.deadlocks += 1

    def text(self) -> bytes:
        """The Prometheus exposition of everything counted."""
        # Imported when first read: it costs a daemon's start more than all its own modules.
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """The metric families, for prometheus_client."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        for name, what, count in (
            ("grants", "Requests granted, at once or after a wait", self.grants),
            ("waits", "Requests that had to wait", self.waits),
            ("notifications", "Blocking notifications", self.notifications),
            ("deadlocks", "Deadlocks broken", self.deadlocks),
            ("refusals", "Requests refused or ended without a grant", self.refusals),
            (
                "abnormal_releases",
                "Releases that left a value block invalid",
                self.abnormal_releases,
            ),
        ):
            yield CounterMetricFamily(f"clufs_{name}", what, value=count)
        streams = CounterMetricFamily(
            "clufs_streams", "What the streams to other members count", labels=["what"]
        )
        for what, count in self.streams().items():
            streams.add_metric([what], count)
        yield streams
        for family in self.families:
            yield from family()
        for name, (what, gauge) in self.gauges.items():
            yield GaugeMetricFamily(f"clufs_{name}", what, value=gauge())
        for name, what, histogram in (
            ("request_seconds", "Time to answer or park a request", self._request),
            (
                "wait_seconds",
                "Time from the request to the grant, of those that waited",
                self._wait,
            ),
            ("hold_seconds", "Time from the last grant to the release", self._hold),
        ):
            yield HistogramMetricFamily(
                f"clufs_{name}", what, buckets=histogram.buckets(), sum_value=histogram.sum_s
            )
