"""Whose request it is, by address: the peer's, or what trusted proxies say.

A proxy appends the address it was called from, so the hop furthest to the right that is no trusted proxy is the client.
What stands left of it anybody can have written.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from gwproto.values import RequestHead

#: Hops that are looked at: more proxies in a row than anybody has.
MAX_HOPS = 32

# A hop with a port: 192.0.2.1:8080, [2001:db8::1] or [2001:db8::1]:8080 (RFC 7239, 6).
_HOP = re.compile(r"\[([^\]]*)\](?::\d+)?\Z|([\d.]+):\d+\Z")
_FOR = re.compile(r'(?:^|;)[ \t]*for[ \t]*=[ \t]*"?([^";]*)', re.IGNORECASE)


class Addresses:
    """Knows the proxies that are ``trusted``: addresses and networks. Raises ``ValueError`` for anything else."""

    __slots__ = ("_trusted",)

    def __init__(self, trusted: Sequence[str]) -> None:
        self._trusted = tuple([ip_network(one) for one in trusted])

    def of(self, head: RequestHead) -> str:
        """What the client is counted by: its IPv4 address, or the /64 that its IPv6 address is in.

        One customer has a whole /64 (RFC 6177, 2). A peer without an address is counted as ``""``.
        """
        peer = head.client
        if not self._trusted and ":" not in peer:
            return peer
        address = _parse(peer)
        if address is None:
            return peer
        if self._is_trusted(address):
            address = self._forwarded(head) or address
        return f"{int(address) >> 64:x}/64" if isinstance(address, IPv6Address) else str(address)

    def _is_trusted(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._trusted)

    def _forwarded(self, head: RequestHead) -> IPv4Address | IPv6Address | None:
        """The client by the headers of a trusted peer; None when they do not say.

        Proxies write one of the two headers and pass the other one on as it came. So where there are both and they
        differ, one of them is the client's invention.
        """
        chains = {b"x-forwarded-for": b"", b"forwarded": b""}
        for name, value in head.headers:
            if name in chains:  # several are one list (RFC 9110, 5.3)
                chains[name] += b"," + value
        found = [
            self._client(chain.decode("latin-1"), name == b"forwarded")
            for name, chain in chains.items()
            if chain
        ]
        return found[0] if found and found[0] == found[-1] else None

    def _client(self, chain: str, labelled: bool) -> IPv4Address | IPv6Address | None:
        """The first hop from the right that is not trusted. What is no address ends the search."""
        client = None
        for hop in reversed(chain.rsplit(",", MAX_HOPS)[1:]):
            if labelled:
                said = _FOR.search(hop)
                hop = "" if said is None else said[1]
            hop = hop.strip()
            with_port = _HOP.match(hop)
            address = _parse(hop if with_port is None else with_port[1] or with_port[2])
            if address is None:
                break
            client = address
            if not self._is_trusted(address):
                break
        return client


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
