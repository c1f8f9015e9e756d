"""The Quart application: a place for pages, with the gateway in front of it."""

import asyncio
import os
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from gwproto_asgi import GatewayApp
from gwproto_ops.deployment import Deployment, from_environment
from gwproto_ops.state import StateFile
from gwproto_ops.telemetry import Telemetry
from gwproto_ops.tracing import from_environment as from_variables

if TYPE_CHECKING:
    from quart import Quart

    from gwproto_asgi.scope import Receive, Scope, Send
    from gwproto_ops.journal import Journal


class Dispatch:
    """Hands what the application has a route for to Quart, everything else straight to the gateway.

    Quart's own request and response objects cost about 200 µs, which no request for the gateway has to pay.
    """

    def __init__(self, app: "Quart", gateway: GatewayApp) -> None:
        self._app = app
        self._pages = app.asgi_app
        self._gateway = gateway
        self._exact: frozenset[str] | None = None
        self._prefixes: tuple[str, ...] = ()

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] == "lifespan" or self._is_page(scope["path"]):
            await self._pages(scope, receive, send)  # type: ignore[arg-type]  # hypercorn's TypedDicts, same shape
        else:
            await self._gateway(scope, receive, send)

    def _is_page(self, path: str) -> bool:
        if self._exact is None:  # routes may be added until the first request
            rules = [rule.rule for rule in self._app.url_map.iter_rules()]
            self._exact = frozenset(rule for rule in rules if "<" not in rule)
            self._prefixes = tuple(rule[: rule.index("<")] for rule in rules if "<" in rule)
        return path in self._exact or path.startswith(self._prefixes)


def create_app(
    deployment: Deployment | None = None,
    *,
    telemetry: Telemetry | None = None,
    state: StateFile | None = None,
    journal: "Journal | None" = None,
) -> "Quart":
    """A Quart application that serves ``deployment``; pages may be added to it like to any other.

    Without one it is read from the environment, and from the file that ``GWPROTO_CONFIG`` names. Raises
    ``ConfigurationError`` when that cannot be used or holds no client key. The gateway itself is
    ``app.extensions["gwproto"]``. ``state``: where to keep what is known of the providers. ``telemetry``: what keeps
    records and figures; read from the environment, the configuration says where, else there is no store.
    """
    # Half a second of imports, which a program that only passes by here need not wait for.
    from quart import Quart

    app = Quart("gwproto", static_folder=None, template_folder=None)
    # Quart's limits are for pages. The first would cut every longer stream, and silently.
    app.config.update(RESPONSE_TIMEOUT=None, BODY_TIMEOUT=None, MAX_CONTENT_LENGTH=None)
    if deployment is None:
        deployment = from_environment()
        if telemetry is None:
            telemetry = Telemetry(deployment.configuration.settings, tracer=from_variables(os.environ))
    gateway = GatewayApp(
        deployment,
        telemetry=telemetry,
        state=state,
        journal=journal,
    )
    app.extensions["gwproto"] = gateway
    # Quart's documented place for middleware, whose messages it types one by one
    app.asgi_app = Dispatch(app, gateway)  # type: ignore[method-assign, assignment]

    async def keep_state() -> AsyncGenerator[None, None]:
        keeping = asyncio.create_task(gateway.keep_state())
        yield
        keeping.cancel()

    app.while_serving(keep_state)
    app.after_serving(gateway.aclose)
    return app


def gateway_of(app: "Quart") -> GatewayApp:
    gateway: GatewayApp = app.extensions["gwproto"]
    return gateway
