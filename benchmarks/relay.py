"""The reference where nginx is not installed: the least a relay can do on trio and h11, with no rule of a gateway.

``python -m benchmarks.relay PORT PROVIDER_PORT``. One kept-alive provider connection per client connection; what one
read delivered goes out in one write.
"""

import sys
from functools import partial

import h11
import trio

READ_SIZE = 65536


async def next_event(connection: h11.Connection, stream: trio.SocketStream) -> h11.Event:
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(READ_SIZE))
        elif isinstance(event, h11.Event):
            return event
        else:
            return h11.ConnectionClosed()  # paused: nothing more belongs to this message


async def relay(provider_port: int, client_stream: trio.SocketStream) -> None:
    """Serve one client connection to its end."""
    async with client_stream, await trio.open_tcp_stream("127.0.0.1", provider_port) as provider_stream:
        client = h11.Connection(h11.SERVER)
        provider = h11.Connection(h11.CLIENT)
        while True:
            request = await next_event(client, client_stream)
            if not isinstance(request, h11.Request):
                return
            body = b""
            while isinstance(event := await next_event(client, client_stream), h11.Data):
                body += event.data
            sent = provider.send(request) or b""
            if body:
                sent += provider.send(h11.Data(data=body)) or b""
            await provider_stream.send_all(sent + (provider.send(h11.EndOfMessage()) or b""))
            await answer(client, client_stream, provider, provider_stream)
            client.start_next_cycle()
            provider.start_next_cycle()


async def answer(
    client: h11.Connection,
    client_stream: trio.SocketStream,
    provider: h11.Connection,
    provider_stream: trio.SocketStream,
) -> None:
    """Pass one response on: one write, and one chunk, per read."""
    out = b""
    body = b""
    while True:
        event = provider.next_event()
        if isinstance(event, h11.Data):
            body += event.data
            continue
        if body:
            out += client.send(h11.Data(data=body)) or b""
            body = b""
        if event is h11.NEED_DATA:
            if out:
                await client_stream.send_all(out)
                out = b""
            provider.receive_data(await provider_stream.receive_some(READ_SIZE))
        elif isinstance(event, h11.Response | h11.EndOfMessage):
            out += client.send(event) or b""
            if isinstance(event, h11.EndOfMessage):
                await client_stream.send_all(out)
                return
        else:
            raise ConnectionError(f"the provider's connection ended: {event!r}")


async def main(port: int, provider_port: int) -> None:
    await trio.serve_tcp(partial(relay, provider_port), port, host="127.0.0.1")


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), int(sys.argv[2]))
