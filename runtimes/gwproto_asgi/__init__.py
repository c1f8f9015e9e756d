"""The gateway for any ASGI server or framework, on asyncio or trio."""

from gwproto_asgi.app import GatewayApp

__all__ = ["GatewayApp"]
