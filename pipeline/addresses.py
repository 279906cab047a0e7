"""Which addresses are public. An endpoint that a client typed into a form must not lead into our own network."""

from __future__ import annotations

import ipaddress
import socket

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether everybody can reach `address`: not private, loopback, link-local, multicast, reserved, nor one of those
    in IPv6 disguise."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if inner:
            return is_public(str(inner))
        if ip in _NAT64:  # leads to the IPv4 address in its last 32 bits
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
    return ip.is_global and not ip.is_multicast


class PublicResolver(AbstractResolver):
    """Resolves names to public addresses only: a name checked a moment ago may lead elsewhere by now.

    Addresses in numbers never come here; whoever takes an endpoint checks those.
    """

    def __init__(self) -> None:
        self._inner: AbstractResolver | None = None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises OSError when any address of `host` is not public."""
        if self._inner is None:  # it belongs to the loop that runs now
            self._inner = DefaultResolver()
        found = await self._inner.resolve(host, port, family)
        if not all(is_public(item["host"]) for item in found):
            raise OSError("the host name leads to an address inside a private network")
        return found

    async def close(self) -> None:
        """Give up what the resolver holds."""
        if self._inner is not None:
            await self._inner.close()
