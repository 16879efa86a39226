"""What /clu/events and /clu/status/metrics tell of resources, those that are stopped among them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from clufs.caa.records import ONLINE, ResourceRecord
from clufs.registry.commands import Command
from clufs.registry.resources import Register, SaveDrained, SaveResources, Unregister
from clufs.tree.files import Registry
from clufs.tree.journals import Events
from clufs.tree.names import shown

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric


def tell(events: Events, command: Command) -> None:
    """Add the events of a command that the registry has applied, if it is one of resources."""
    match command:
        case Register():
            events.add("registered" if command.new else "updated", resource=command.name)
        case Unregister():
            events.add("unregistered", resource=command.name)
        case SaveDrained():
            events.add("drained", members=",".join(command.members) or "-")
        case SaveResources():
            for record in command.records:
                _tell_moves(events, record)


def _tell_moves(events: Events, record: ResourceRecord) -> None:
    """A record that is saved has those moves only that are new."""
    for move in record.history:
        facts = {"from": move.before, "to": move.after, "why": shown(move.reason.encode())}
        events.add("resource", resource=record.name, **facts)


def metrics(registry: Registry) -> Iterator[Metric]:
    """A sample for each resource and, for network, tape and changer, each member."""
    from prometheus_client.core import GaugeMetricFamily

    labels = ["resource", "member"]
    target = GaugeMetricFamily(
        "clufs_resource_target", "Whether the resource is to be ONLINE", labels=labels
    )
    state = GaugeMetricFamily(
        "clufs_resource_state", "1 for ONLINE, 0 for OFFLINE, -1 for UNKNOWN", labels=labels
    )
    failures = GaugeMetricFamily(
        "clufs_resource_failures", "Failures within FAILURE_INTERVAL", labels=labels
    )
    restarts = GaugeMetricFamily(
        "clufs_resource_restarts", "RESTART_COUNT of the application", labels=["resource"]
    )
    for name, record in sorted(registry.state.resources.items()):
        for member, wanted, found, failed in _places(record):
            target.add_metric([name, member], float(wanted == ONLINE))
            state.add_metric([name, member], _NUMBERS.get(found, -1.0))
            failures.add_metric([name, member], failed)
        if not record.monitors:
            restarts.add_metric([name], record.restart_count)
    yield from (target, state, failures, restarts)


_NUMBERS = {ONLINE: 1.0, "OFFLINE": 0.0}


def _places(record: ResourceRecord) -> list[tuple[str, str, str, int]]:
    if not record.monitors:
        return [(record.member, record.target, record.state, record.failure_count)]
    return [(one.member, one.target, one.state, one.failure_count) for one in record.monitors]
