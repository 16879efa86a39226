"""Paths to LUNs as the configuration names them: opened, and asked which LUN is behind them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from clufs.errors import GarbledAnswer, LunError, NotSupported
from clufs.storage import commands as c
from clufs.storage.block import BlockDevice, FileBlock, ScsiBlock
from clufs.storage.carrier import Lun
from clufs.storage.inquiry import (
    IDENTIFICATION,
    Capacity,
    Designator,
    DesignatorType,
    InquiryData,
    decode_designators,
    lun_name,
)
from clufs.storage.sense import Sense
from clufs.storage.sgio import SgIo

INITIATOR = "iqn.2026-01.org.clufs"
ISCSI = "iscsi://"
_NAME_MAX_BYTES = 200
_NOT_IN_A_WWID = re.compile(r"[^A-Za-z0-9._:-]")


@dataclass(frozen=True, slots=True)
class Identity:
    """What a LUN says of itself, the same through each of its paths.

    wwid: a name for a directory: `naa.` or `eui.` and hexadecimal digits as the kernel has it, else `t10.` or
    `scsi.` and the array's words; `file.` and the path for a plain file. alua: its ports have access states.
    """

    wwid: str
    block_bytes: int
    blocks: int
    alua: bool = False


@dataclass(frozen=True, slots=True)
class LunPath:
    """An open path. lun: for SCSI commands; None for a file, which takes none and so has no reservations.

    ended: set when it is no more, where that shows by itself.
    """

    url: str
    identity: Identity
    device: BlockDevice
    lun: Lun | None
    ended: trio.Event


def shown(url: str) -> str:
    """A URL without user and password."""
    scheme, slashes, rest = url.partition("://")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}"


def initiator_name(member: str) -> str:
    """The iSCSI name of a member."""
    return f"{INITIATOR}:{member.lower()}"


def isid_of(url: str, user: str) -> int:
    """40 bits that name the initiator port of one process (`user`) at one URL: the same after every reconnection.

    Two sessions with one portal need two, or the later would end the earlier (RFC 7143, 6.3.5).
    """
    name = f"{user} {shown(url)}".encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:5], "big")


def wwid_of(name: Designator) -> str:
    """The name of a directory for a LUN with this name."""
    if name.type in (DesignatorType.NAA, DesignatorType.EUI64):
        return name.text
    kind = "t10" if name.type == DesignatorType.T10_VENDOR else "scsi"
    return _cut(f"{kind}.{_NOT_IN_A_WWID.sub('_', name.text)}")


def file_wwid(path: str) -> str:
    """The name of a plain file, or of a kernel device without one: from where it really lies."""
    return _cut("file." + _NOT_IN_A_WWID.sub("_", str(Path(path).resolve())[1:].replace("/", ":")))


def _cut(name: str) -> str:
    if len(name) <= _NAME_MAX_BYTES:
        return name
    return f"{name[: _NAME_MAX_BYTES - 17]}.{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def path_name(url: str) -> str:
    """The name of a file for a path: what tells it from the other paths to its LUN."""
    words = shown(url).removeprefix(ISCSI).removeprefix("/dev/").lstrip("/")
    return _cut(_NOT_IN_A_WWID.sub("_", words.replace("/", ":")))


async def identify(lun: Lun) -> Identity:
    """Ask a LUN who it is and how large. Raises LunError; GarbledAnswer for one that has no name or is none."""
    said = InquiryData.decode(await lun.run(c.Inquiry()))
    if not said.present:
        raise GarbledAnswer(f"{lun.path}: the array has no such LUN")
    pages = await lun.run(c.Inquiry(evpd=True, page=IDENTIFICATION))
    name = lun_name(decode_designators(pages))
    if name is None:
        raise GarbledAnswer(f"{lun.path}: the LUN has no name of its own (page 83h)")
    capacity = Capacity.unpack(await lun.run(c.ReadCapacity16()))
    return Identity(wwid_of(name), capacity.block_bytes, capacity.blocks, bool(said.tpgs))


@asynccontextmanager
async def open_path(
    url: str,
    initiator: str,
    user: str = "clufsd",
    on_attention: Callable[[Sense], None] = lambda _: None,
) -> AsyncIterator[LunPath]:
    """A path to the LUN that `url` names, while inside.

    url: `iscsi://...`, or the path of a kernel device or of a plain file. initiator: an iSCSI name. user: which
    of the initiator's processes this is; see `isid_of`. Raises LunError.
    """
    if url.startswith(ISCSI):
        # Loaded here: most daemons have no such LUN, and libiscsi's declarations take their time.
        from clufs.storage.iscsi import iscsi_lun

        async with iscsi_lun(url, initiator, isid_of(url, user)) as carrier:
            yield await _scsi(url, Lun(carrier, on_attention), carrier.ended)
        return
    opened = await _kernel_device(url, on_attention) if url.startswith("/dev/") else None
    if opened is not None:
        device, path = opened
        try:
            yield path
        finally:
            device.close()
        return
    file = FileBlock(url)
    try:
        identity = Identity(file_wwid(url), file.block_bytes, file.blocks)
        yield LunPath(url, identity, file, None, trio.Event())
    finally:
        await file.close()


async def _scsi(url: str, lun: Lun, ended: trio.Event) -> LunPath:
    identity = await identify(lun)
    device = ScsiBlock(lun, identity.block_bytes, identity.blocks)
    return LunPath(url, identity, device, lun, ended)


async def _kernel_device(
    name: str, on_attention: Callable[[Sense], None]
) -> tuple[SgIo, LunPath] | None:
    """A kernel device that takes SCSI commands; None for one that does not."""
    device = SgIo(name)
    try:
        return device, await _scsi(name, Lun(device, on_attention), trio.Event())
    except NotSupported:
        device.close()
        return None
    except BaseException:
        device.close()
        raise


def by_wwid(paths: Iterable[LunPath]) -> dict[str, tuple[LunPath, ...]]:
    """The paths of each LUN, in order. Raises LunError if two do not agree how large a LUN is."""
    found: dict[str, tuple[LunPath, ...]] = {}
    for path in paths:
        known = found.get(path.identity.wwid, ())
        if known and known[0].identity != path.identity:
            raise LunError(
                f"{shown(path.url)}: says that {path.identity.wwid} is another than {shown(known[0].url)} says"
            )
        found[path.identity.wwid] = (*known, path)
    return found
