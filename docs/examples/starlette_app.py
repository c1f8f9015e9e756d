"""The gateway beside the pages of a Starlette application: ``uvicorn starlette_app:app``."""

from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from gwproto_asgi import GatewayApp
from gwproto_ops.deployment import from_environment

gateway = GatewayApp(from_environment())


@asynccontextmanager
async def lifespan(app):
    yield
    await gateway.aclose()


async def home(request):
    return PlainTextResponse("The gateway is at /llm/v1.")


app = Starlette(routes=[Route("/", home), Mount("/llm", gateway)], lifespan=lifespan)
