"""Which processes have which open of a lock file, asked of the kernel alone.

A descriptor travels by fork and by message, and the daemon is told of neither. But each open has
a node id of its own, and the kernel tells the node id behind any descriptor without a question
to the file system: so the daemon may ask while it serves, and no process can keep it waiting.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator

from clufs.fuse import processes

Device = tuple[int, int]

_AT_EMPTY_PATH = 0x1000
_AT_STATX_DONT_SYNC = 0x4000  # what the kernel knows already: FUSE is not asked
_STATX_INO = 0x100
_STATX_BYTES = 256
_STATX_DEVICE_AT = 0x88
_FILE_ID_INO64_GEN = 0x81  # how FUSE encodes a handle: node id, generation
_HANDLE = struct.Struct("=Ii")  # bytes, type
_NODE = struct.Struct("=II")  # the upper half comes first
_HANDLE_BYTES = 128

_libc = ctypes.CDLL(None, use_errno=True)


def holders(device: Device, nodes: set[int]) -> Iterator[tuple[int, int]]:
    """The other processes with one of these nodes open: pid, and a pidfd that the caller closes."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid() or not _has(entry, device, nodes):
            continue
        pidfd = processes.open_pidfd(int(entry))
        if pidfd is None:
            continue
        if _has(entry, device, nodes):  # still the process that was looked at
            yield int(entry), pidfd
        else:
            os.close(pidfd)


def _has(pid: str, device: Device, nodes: set[int]) -> bool:
    directory = f"/proc/{pid}/fd"
    try:
        return any(_is_one(f"{directory}/{fd}", device, nodes) for fd in os.listdir(directory))
    except OSError:
        return False


def _is_one(link: str, device: Device, nodes: set[int]) -> bool:
    try:
        if not os.readlink(link).startswith("/"):
            return False  # a pipe or a socket
        fd = os.open(link, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return _device(fd) == device and _node(fd) in nodes
    finally:
        os.close(fd)


def _device(fd: int) -> Device | None:
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    flags = _AT_EMPTY_PATH | _AT_STATX_DONT_SYNC
    if _libc.statx(fd, b"", flags, _STATX_INO, buffer) != 0:
        return None
    major, minor = _NODE.unpack_from(buffer, _STATX_DEVICE_AT)
    return major, minor


def _node(fd: int) -> int | None:
    buffer = ctypes.create_string_buffer(
        _HANDLE.pack(_HANDLE_BYTES, 0), _HANDLE.size + _HANDLE_BYTES
    )
    mount_id = ctypes.c_int()
    if _libc.name_to_handle_at(fd, b"", buffer, ctypes.byref(mount_id), _AT_EMPTY_PATH) != 0:
        return None
    _, kind = _HANDLE.unpack_from(buffer)
    if kind != _FILE_ID_INO64_GEN:
        return None
    upper, lower = _NODE.unpack_from(buffer, _HANDLE.size)
    return int(upper << 32 | lower)
