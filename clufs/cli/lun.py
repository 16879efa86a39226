"""clufs lun: make a shared LUN one of clufs' own, or look at what lies on one."""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Iterator, Sequence

import trio

from clufs.errors import ClufsError, LunError, UsageError
from clufs.limits import DISK_SLOTS, DISK_SLOTS_MAX
from clufs.storage.lease_report import ballot_lines, header_lines, slot_lines
from clufs.storage.own_lun import OwnLun, Wish, format_own, open_own
from clufs.storage.paths import LunPath, initiator_name, open_path, shown
from clufs.timeouts.lease import IO_TIMEOUT_S, WATCHDOG_S

_IO_TIMEOUT_MIN_S, _WATCHDOG_MIN_S, _TIME_MAX_S = 0.05, 1.0, 3600.0


def _time(least_s: float, text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not least_s <= found <= _TIME_MAX_S:
        raise argparse.ArgumentTypeError(f"seconds, {least_s:g} to {_TIME_MAX_S:g}")
    return found


def _io_timeout(text: str) -> float:
    return _time(_IO_TIMEOUT_MIN_S, text)


def _watchdog(text: str) -> float:
    return _time(_WATCHDOG_MIN_S, text)


def _members(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= DISK_SLOTS_MAX:
        raise argparse.ArgumentTypeError(f"1 to {DISK_SLOTS_MAX}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clufs lun", description="Shared LUNs that carry clufs' own data, and nothing else."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, purpose: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=purpose, description=purpose)
        found.add_argument("lun", metavar="LUN", help="an iscsi:// URL, a device, or a plain file")
        return found

    make = add("format", "make it a LUN of clufs, with no member running; all on it is lost")
    make.add_argument("--cluster", metavar="NAME", help="whose it is; by default corosync is asked")
    make.add_argument(
        "--members",
        metavar="N",
        type=_members,
        default=DISK_SLOTS,
        help=f"room for nodeids 1 to N ({DISK_SLOTS})",
    )
    make.add_argument(
        "--io-timeout",
        metavar="SECONDS",
        type=_io_timeout,
        default=IO_TIMEOUT_S,
        help=f"from which all times of leases follow ({IO_TIMEOUT_S:g})",
    )
    make.add_argument(
        "--watchdog",
        metavar="SECONDS",
        type=_watchdog,
        default=WATCHDOG_S,
        help=f"after which a watchdog resets the machine ({WATCHDOG_S:g})",
    )
    make.add_argument("--force", action="store_true", help="whatever is on it")
    add("show", "what lies on it: the header, each member's heartbeat, and its ballot")
    return parser


def _cluster_name(given: str | None) -> str:
    if given:
        return given
    # Loaded here: it takes corosync's libraries.
    from clufs.cluster import corosync_config

    try:
        return corosync_config.read()[0].cluster_name
    except ClufsError as error:
        raise UsageError(f"whose shall it be? --cluster NAME, as {error}") from error


async def _format(path: LunPath, arguments: argparse.Namespace, cluster_name: str) -> OwnLun:
    wish = Wish(cluster_name, arguments.members, arguments.io_timeout, arguments.watchdog)
    return await format_own(path.device, wish, force=arguments.force)


async def _lines(lun: OwnLun) -> Iterator[str]:
    slots = await lun.read_slots(lun.header.geometry.slots)
    ballots = await lun.read_ballots()
    return iter([*header_lines(lun.header), *slot_lines(slots), *ballot_lines(ballots)])


async def _run(arguments: argparse.Namespace) -> None:
    name = _cluster_name(arguments.cluster) if arguments.command == "format" else ""
    initiator = initiator_name(socket.gethostname())
    try:
        async with open_path(arguments.lun, initiator, "clufs-lun") as path:
            own = await (_format(path, arguments, name) if name else open_own(path.device))
            for line in await _lines(own):
                print(line)
    except LunError as error:
        where = shown(arguments.lun)
        said = str(error)
        raise LunError(said if said.startswith(where) else f"{where}: {said}") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Do what is asked."""
    trio.run(_run, _parser().parse_args(sys.argv[1:] if argv is None else argv))
    return 0
