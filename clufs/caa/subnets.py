"""Whether an address is in the SUBNET of a network resource (TruCluster manual 2.2.3)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


def is_in(subnet: str, addresses: Iterable[Interface]) -> bool:
    """Whether the bitwise AND of an address and its own netmask is `subnet`.

    `subnet` may carry a prefix length: then the netmask has to be that one, too. A text that is
    no address matches nothing.
    """
    base, _, prefix = subnet.partition("/")
    try:
        wanted = ipaddress.ip_address(base)
    except ValueError:
        return False
    return any(
        address.network.network_address == wanted and prefix in ("", str(address.network.prefixlen))
        for address in addresses
    )
