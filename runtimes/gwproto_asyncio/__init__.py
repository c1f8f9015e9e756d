"""The gateway on asyncio's transports: no task for a connection or a request, and uvloop where there is one."""

from gwproto_asyncio.loops import run
from gwproto_asyncio.server import Server, serve

__all__ = ["Server", "run", "serve"]
