"""The registry's resources: registering, unregistering, and what planners save."""

from __future__ import annotations

import errno

import msgspec

from clufs.caa.records import MonitorRecord, ResourceRecord, Transition
from clufs.limits import COMMAND_MAX_BYTES, RESOURCE_HISTORY_KEPT, RESOURCES_MAX
from clufs.registry import commands, resources
from clufs.registry.commands import CommandId
from clufs.registry.resources import (
    Register,
    ResourceCommand,
    ResourceTable,
    SaveDrained,
    SaveResources,
    Unregister,
    saves,
)

WEB = Register("web", "NAME=web\n", new=True)
ONLINE = ResourceRecord("web", target="ONLINE", state="ONLINE", member="provolone")


def after(*done: ResourceCommand) -> ResourceTable:
    table = ResourceTable()
    for command in done:
        assert table.apply(command) is None
    return table


def refused(table: ResourceTable, command: ResourceCommand, number: int) -> None:
    before = dict(table.records), table.planner, table.drained
    refusal = table.apply(command)
    assert refusal is not None
    assert resources.error_of(refusal).errno == number, refusal
    assert (table.records, table.planner, table.drained) == before


def test_a_resource_begins_offline() -> None:
    assert after(WEB).records == {"web": ResourceRecord("web", "NAME=web\n")}


def test_a_new_profile_changes_nothing_else() -> None:
    table = after(WEB, SaveResources(1, [ONLINE]), Register("web", "NAME=web\n#2\n", new=False))
    assert table.records["web"].profile == "NAME=web\n#2\n"
    assert table.records["web"].state == "ONLINE"


def test_what_is_registered_and_what_is_not() -> None:
    refused(after(WEB), WEB, errno.EEXIST)
    refused(after(), Register("web", "", new=False), errno.ENOENT)
    refused(after(), Unregister("web"), errno.ENOENT)
    assert after(WEB, Unregister("web")).records == {}


def test_what_runs_or_is_to_run_stays_registered() -> None:
    for record in (
        ONLINE,
        ResourceRecord("web", target="ONLINE"),
        ResourceRecord("web", state="UNKNOWN", member="provolone"),
    ):
        table = after(WEB, SaveResources(1, [record]))
        refused(table, Unregister("web"), errno.EBUSY)


def test_a_network_can_be_unregistered_while_it_is_there() -> None:
    monitor = MonitorRecord("provolone", "ONLINE", "ONLINE")
    record = ResourceRecord("net", target="ONLINE", state="ONLINE", monitors=(monitor,))
    net = Register("net", "NAME=net\n", new=True)
    assert after(net, SaveResources(1, [record]), Unregister("net")).records == {}


def test_an_old_planner_changes_nothing() -> None:
    table = after(WEB, SaveResources(7, []), SaveDrained(7, ["pepicelli"]))
    refused(table, SaveResources(6, [ONLINE]), errno.ESTALE)
    refused(table, SaveDrained(6, []), errno.ESTALE)
    assert table.apply(SaveResources(8, [ONLINE])) is None
    assert table.records["web"].member == "provolone"
    assert table.drained == ("pepicelli",)


def test_what_was_unregistered_meanwhile_is_not_saved() -> None:
    table = after(WEB, SaveResources(1, [ONLINE, ResourceRecord("gone")]))
    assert list(table.records) == ["web"]


def test_history_grows_by_what_is_new_and_profiles_stay() -> None:
    table = after(WEB)
    for at in range(RESOURCE_HISTORY_KEPT + 5):
        move = Transition(float(at), "OFFLINE", "ONLINE on provolone", f"move {at}")
        saved = msgspec.structs.replace(ONLINE, history=(move,))
        assert table.apply(SaveResources(1, [saved])) is None
    record = table.records["web"]
    assert len(record.history) == RESOURCE_HISTORY_KEPT
    assert record.history[0].reason == "move 5"
    assert record.profile == "NAME=web\n"


def test_one_resource_too_many() -> None:
    table = ResourceTable()
    for at in range(RESOURCES_MAX):
        assert table.apply(Register(f"r{at}", "", new=True)) is None
    refused(table, WEB, errno.ENOSPC)
    assert table.apply(Register("r0", "other", new=False)) is None


def test_many_records_go_in_commands_that_may_be_proposed() -> None:
    moves = tuple(Transition(float(at), "OFFLINE", "ONLINE", "x" * 80) for at in range(20))
    records = [ResourceRecord(f"r{at}", history=moves) for at in range(500)]
    found = list(saves(3, records))
    assert [record for command in found for record in command.records] == records
    assert len(found) > 1
    for command in found:
        assert command.planner == 3
        assert len(commands.encode(CommandId(1, 1, 1), command)) <= COMMAND_MAX_BYTES
    assert list(saves(3, [])) == [SaveResources(3, [])], "who plans is known from then on"
