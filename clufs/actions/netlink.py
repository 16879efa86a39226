"""The addresses of this machine that can be reached from outside, and news of changes: rtnetlink(7), read only.

A socket of our own, 150 lines, because all that is asked is two dumps, and an event is only ever a
reason to dump again.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator

from clufs.caa.subnets import Interface

# linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h, linux/if.h
_NETLINK_ROUTE = 0
_RTMGRP_LINK, _RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR = 0x1, 0x10, 0x100
_RTM_NEWLINK, _RTM_GETLINK, _RTM_NEWADDR, _RTM_GETADDR = 16, 18, 20, 22
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_DUMP, _NLM_F_DUMP_INTR = 0x1, 0x300, 0x10
_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_IFA_F_DADFAILED, _IFA_F_TENTATIVE = 0x08, 0x40

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_READ_BYTES = 2**17

_Message = tuple[int, int, bytes]


class RouteSocket:
    """Tells of changes of links and addresses, and what they are now, of the network namespace that it was made in.

    All methods raise OSError.
    """

    def __init__(self) -> None:
        groups = _RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR
        self._events = _open(groups)
        self._events.setblocking(False)
        self._questions = _open(0)
        self._sequence = 0

    def close(self) -> None:
        """Close both sockets."""
        self._events.close()
        self._questions.close()

    def fileno(self) -> int:
        """Readable when something has changed."""
        return self._events.fileno()

    def take_events(self) -> None:
        """Forget the changes that are told so far: `usable` knows them. Too many to be kept are a change, too."""
        while True:
            try:
                self._events.recv(_READ_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise

    def usable(self) -> list[Interface]:
        """The addresses of interfaces that are up and have a carrier; no IPv6 address that is not certain yet."""
        links = {index for index, flags in map(_link, self._dump(_RTM_GETLINK, _RTM_NEWLINK))
                 if flags & _IFF_UP and flags & _IFF_LOWER_UP}  # fmt: skip
        found = []
        for body in self._dump(_RTM_GETADDR, _RTM_NEWADDR):
            index, address = _address(body)
            if address is not None and index in links:
                found.append(address)
        return found

    def _dump(self, ask: int, kind: int) -> list[bytes]:
        """All objects of one kind; asked again where they changed meanwhile."""
        while True:
            self._sequence += 1
            body = b"\0" * _LINK.size
            flags = _NLM_F_REQUEST | _NLM_F_DUMP
            header = _HEADER.pack(_HEADER.size + len(body), ask, flags, self._sequence, 0)
            self._questions.sendto(header + body, (0, 0))
            found = self._answers(kind)
            if found is not None:
                return found

    def _answers(self, wanted: int) -> list[bytes] | None:
        found: list[bytes] = []
        changed = False
        while True:
            for kind, flags, body in _messages(self._questions.recv(_READ_BYTES), self._sequence):
                changed |= bool(flags & _NLM_F_DUMP_INTR)
                if kind == _NLMSG_DONE:
                    return None if changed else found
                if kind == _NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", body)
                    raise OSError(-code, os.strerror(-code))
                if kind == wanted:
                    found.append(body)


def _open(groups: int) -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
    opened.bind((0, groups))
    return opened


def _messages(data: bytes, sequence: int) -> Iterator[_Message]:
    """Kind, flags and body of each message in a datagram that answers the question of this number."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, flags, number, _ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            return
        if number == sequence:
            yield kind, flags, data[at + _HEADER.size : at + length]
        at += _aligned(length)


def _link(body: bytes) -> tuple[int, int]:
    """Index and flags of an interface."""
    _, _, index, flags, _ = _LINK.unpack_from(body)
    return index, flags


def _address(body: bytes) -> tuple[int, Interface | None]:
    """The interface's index and the address; None if that is not one to count on."""
    family, prefix, flags, _, index = _ADDRESS.unpack_from(body)
    found = dict(_attributes(body[_ADDRESS.size :]))
    if _IFA_FLAGS in found:
        (flags,) = struct.unpack_from("=I", found[_IFA_FLAGS])
    # Of a point to point link IFA_ADDRESS is the other end.
    raw = found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS))
    if raw is None or flags & (_IFA_F_DADFAILED | _IFA_F_TENTATIVE):
        return index, None
    if family == socket.AF_INET:
        return index, ipaddress.IPv4Interface((raw, prefix))
    if family == socket.AF_INET6:
        return index, ipaddress.IPv6Interface((raw, prefix))
    return index, None


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind, data[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)


def _aligned(length: int) -> int:
    return (length + 3) & ~3
