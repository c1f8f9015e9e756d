"""How the asyncio server connects to providers."""

import asyncio
import socket
from asyncio.staggered import staggered_race
from collections.abc import Sequence
from functools import partial
from itertools import chain, zip_longest
from typing import Any

from gwproto import Origin
from gwproto_asyncio.loops import protocol_of
from gwproto_io import dialling

EYEBALLS_DELAY = 0.25  # seconds until the next address is tried beside the one before (RFC 8305, 5)

Address = tuple[Any, ...]  # as getaddrinfo has them


async def dial_tcp(origin: Origin, connection: object) -> None:
    """Connect, over TLS for ``https``."""
    loop = asyncio.get_running_loop()
    sock = await connected(loop, await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM))
    try:
        if origin.scheme == "https":
            context = dialling.tls_context()
            await loop.create_connection(
                lambda: protocol_of(connection), sock=sock, ssl=context, server_hostname=origin.host
            )
        else:
            await loop.create_connection(lambda: protocol_of(connection), sock=sock)
    except BaseException:
        sock.close()
        raise


async def connected(loop: asyncio.AbstractEventLoop, found: Sequence[Address]) -> socket.socket:
    """A socket to the first of the addresses that answers (RFC 8305); uvloop would try one after the other."""
    if len(found) == 1:
        return await _connect(loop, found[0])
    first = [one for one in found if one[0] == found[0][0]]
    others = [one for one in found if one[0] != found[0][0]]
    in_turns = [one for one in chain.from_iterable(zip_longest(first, others)) if one is not None]
    tries = [partial(_connect, loop, one) for one in in_turns]
    made: socket.socket | None
    made, _, errors = await staggered_race(tries, EYEBALLS_DELAY, loop=loop)
    if made is None:
        raise next(error for error in reversed(errors) if error is not None)
    return made


async def _connect(loop: asyncio.AbstractEventLoop, address: Address) -> socket.socket:
    family, kind, protocol, _, where = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock
