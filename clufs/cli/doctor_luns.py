"""The part of clufs doctor that is about shared LUNs: each path leads somewhere, and all of a LUN's to the same."""

from __future__ import annotations

from collections.abc import Iterator

import trio

from clufs.cli.doctor import Finding, Machine
from clufs.config import Config, Lun
from clufs.errors import BadBlock, LunError, MissingPart
from clufs.storage.own_lun import open_own
from clufs.storage.paths import LunPath, initiator_name, open_path, shown

_USER = "clufs-doctor"
_MIB = 1 << 20


def examine(machine: Machine, config: Config) -> Iterator[Finding]:
    """Yield a finding for each path, tried all at once; nothing is written."""
    initiator = config.storage.initiator or initiator_name(config.member.name)
    found: dict[str, Finding] = {}
    wwids: dict[int, str] = {}

    async def look(at: int, url: str) -> None:
        found[url] = await _look(config.luns[at], url, at, wwids, initiator, machine)

    async def look_at_all() -> None:
        async with trio.open_nursery() as nursery:
            for at, lun in enumerate(config.luns):
                for url in lun.urls:
                    nursery.start_soon(look, at, url)

    trio.run(look_at_all)
    for lun in config.luns:
        yield from (found[url] for url in lun.urls)


async def _look(
    lun: Lun, url: str, at: int, wwids: dict[int, str], initiator: str, machine: Machine
) -> Finding:
    what, mend = f"LUN {shown(url)}", f"correct it, or luns[{at}] in {machine.config_file}"
    try:
        async with open_path(url, initiator, _USER) as path:
            wwid = wwids.setdefault(at, path.identity.wwid)
            if path.identity.wwid != wwid:
                return Finding(False, f"{what}: {path.identity.wwid}, and beside it {wwid}", mend)
            if lun.role == "clufs":
                await open_own(path.device)
            return Finding(True, f"{what}: {_words(path)}")
    except BadBlock as error:
        return Finding(False, f"{what} ({error})", f"clufs lun format {shown(url)}")
    except MissingPart as error:
        return Finding(False, what, str(error).rpartition(": ")[2])
    except LunError as error:
        return Finding(False, f"{what} ({error})", mend)


def _words(path: LunPath) -> str:
    identity = path.identity
    size = identity.blocks * identity.block_bytes // _MIB
    kept = "" if path.lun is not None else ", without reservations"
    return f"{identity.wwid}, {size} MiB{kept}"
