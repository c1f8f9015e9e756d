"""Commands that run until they are told to stop: ``serve``, ``providers-sim``."""

import argparse
import ipaddress
import logging
import os
import shlex
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Protocol

import msgspec

from gwproto.config import ModelSettings, ProviderSettings, Quirks, Settings, Tier
from gwproto.failures import ConfigurationError
from gwproto.loading import Loaded
from gwproto_cli.environment import environment
from gwproto_cli.inert import inert
from gwproto_ops import access, deployment, tracing
from gwproto_ops.deployment import Deployment
from gwproto_ops.records.locating import locate
from gwproto_ops.reloading import Reloader, Source, notices
from gwproto_ops.state import StateFile, directory
from gwproto_ops.telemetry import Telemetry

if TYPE_CHECKING:
    from gwproto_ops.journal import Journal

_TIERS: tuple[Tier, ...] = ("high", "medium", "low")


class Serve(Protocol):
    """A server: returns once it has drained after SIGTERM or SIGINT."""

    def __call__(
        self,
        deployment: Deployment,
        *,
        on_listening: Callable[[list[str]], None],
        telemetry: Telemetry | None = None,
        state: StateFile | None = None,
        journal: "Journal | None" = None,
        reloader: Reloader | None = None,
    ) -> Awaitable[None]: ...


def serve(
    config: str | None,
    env_file: str | None,
    flags: Mapping[str, object],
    *,
    access_log: bool,
    journal: str | None = None,
    journal_bodies: bool = False,
) -> None:
    """Run the gateway until a signal stops it. ``journal``: a file to write every input to."""
    environ = environment(env_file)
    path = config or environ.get("GWPROTO_CONFIG") or None
    source = Source(
        path,
        environ=lambda: environment(env_file),
        files=() if env_file is None else (env_file,),
        flags=flags,
    )
    loaded = source.load()
    server = loaded.settings.server
    source.make_key = is_loopback(server.host)
    simulated = not loaded.settings.providers and path is None
    # Whatever is wrong shows before anything starts.
    ready = None if simulated else source.read()
    tracer = tracing.from_environment(os.environ)
    locate(loaded.settings.analytics.database, server.state_dir, environ)
    run = _server(server.runtime)
    for setting, instead in inert(loaded):
        print(f"{setting}: does nothing yet: {instead}", file=sys.stderr)

    async def main() -> OSError | ConfigurationError | None:
        async with AsyncExitStack() as stack:
            try:
                if simulated:
                    source.complete = await _with_simulated(stack)
                chosen = ready or source.read()
                logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
                notices.setLevel(logging.INFO)
                if access_log:
                    stack.enter_context(access.enabled())
                kept = None if simulated else _state_file(chosen, environ)
                book = None
                if journal is not None:
                    from gwproto_ops import journal as journals

                    book = stack.enter_context(journals.opened(journal, bodies=journal_bodies))
                settings = chosen.configuration.settings
                if simulated and loaded.origins["analytics.database"] == "default":
                    # What was only simulated is no part of anybody's figures.
                    place = stack.enter_context(TemporaryDirectory(prefix="gwproto-"))
                    settings = _with_database(settings, f"sqlite:///{place}/gwproto.db")
                reloader = Reloader(source, chosen)
                await run(
                    chosen,
                    on_listening=lambda urls: _announce(urls, chosen, environ, simulated),
                    telemetry=Telemetry(
                        settings, environ=environ, tracer=tracer, reloads=lambda: reloader.status
                    ),
                    state=kept,
                    journal=book,
                    reloader=reloader,
                )
            except (OSError, ConfigurationError) as error:
                return error  # the simulated providers' task group would wrap it
        return None

    if server.runtime == "trio":
        import trio

        error = trio.run(main)
    elif server.runtime == "asyncio":
        import gwproto_asyncio

        error = gwproto_asyncio.run(main())
    else:
        import asyncio

        error = asyncio.run(main())
    if isinstance(error, OSError):
        raise _cannot_listen(server.host, server.port, error)
    if error is not None:
        raise error


def _with_database(settings: Settings, database: str) -> Settings:
    analytics = msgspec.structs.replace(settings.analytics, database=database)
    return msgspec.structs.replace(settings, analytics=analytics)


def _state_file(deployment: Deployment, environ: Mapping[str, str]) -> StateFile | None:
    """Where to keep what is known of the providers; None: nowhere."""
    server = deployment.configuration.settings.server
    if not server.state_file:
        return None
    try:
        path = directory(server.state_dir, environ) / Path(server.state_file).expanduser()
    except OSError as error:
        print(f"server.state_dir: nothing is kept over a restart: {error}", file=sys.stderr)
        return None
    return StateFile(path, deployment.credentials)


def _server(runtime: str) -> Serve:
    try:
        if runtime == "trio":
            import gwproto_trio

            return gwproto_trio.serve
        if runtime == "asyncio":
            import gwproto_asyncio

            return gwproto_asyncio.serve
        import gwproto_quart

        return gwproto_quart.serve
    except ModuleNotFoundError as error:
        problem = f"{runtime} needs {error.name}: pip install 'gwproto[{runtime}]'"
        raise ConfigurationError((("server.runtime", problem),)) from None


async def _with_simulated(stack: AsyncExitStack) -> Callable[[Loaded], Loaded]:
    """What adds simulated providers, which run on loopback sockets until ``stack`` is closed, where there are none."""
    from gwproto_cli.simulated import demo_providers, hosted

    simulated = demo_providers()
    urls = await stack.enter_async_context(hosted(simulated))
    known = deployment.known_providers()
    providers = []
    for provider, url, tier in zip(simulated, urls, _TIERS, strict=True):
        entry = known[provider.format.name]  # whose own format it is
        providers.append(
            ProviderSettings(
                name=provider.name,
                like=entry.name,
                format=entry.format,
                base_url=url,
                headers=entry.headers,
                quirks=entry.quirks,
                models=tuple([_model(model, tier) for model in provider.models]),
            )
        )

    def complete(loaded: Loaded) -> Loaded:
        if loaded.settings.providers:
            return loaded
        settings = msgspec.structs.replace(loaded.settings, providers=tuple(providers))
        return Loaded(settings, loaded.origins)

    return complete


def _model(name: str, tier: Tier) -> ModelSettings:
    quirks = Quirks(signatures=True) if name.startswith("gemini-3") else Quirks()
    return ModelSettings(id=name, tier=tier, quirks=quirks)


def _announce(urls: list[str], deployment: Deployment, environ: Mapping[str, str], simulated: bool) -> None:
    """Say where the gateway is, what it found and how to try it."""
    settings = deployment.configuration.settings
    print(f"gwproto listens on {', '.join(urls)} ({settings.server.runtime})")
    names = ", ".join(f"{p.name} ({len(p.models)} models)" for p in settings.providers)
    if simulated:
        print("No provider credentials found: routing to simulated providers on loopback.")
    print(f"providers: {names}".replace("(1 models)", "(1 model)"))
    key, explained = _usable_key(deployment, environ)
    print(f"key: {explained}")
    url = urls[0].replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")
    print(f"console: {url}/")
    body = '{"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}'
    print(
        f'try: curl {shlex.quote(url + "/v1/chat/completions")} -H "authorization: Bearer {key}"'
        f" -H 'content-type: application/json' -d '{body}'",
        flush=True,
    )


def _usable_key(deployment: Deployment, environ: Mapping[str, str]) -> tuple[str, str]:
    """The key as a shell word part, and what to say about it. Only a key made just now is shown."""
    if deployment.made_key:
        return deployment.made_key, f"{deployment.made_key} (made for this run; GATEWAY_API_KEY sets one)"
    if value := environ.get("GATEWAY_API_KEY"):
        variable = "${GATEWAY_API_KEY%%,*}" if "," in value else "$GATEWAY_API_KEY"
        return variable, "$GATEWAY_API_KEY"
    for entry in deployment.configuration.settings.auth.keys:
        if entry.env:
            return f"${entry.env}", f"${entry.env}"
    return "$GATEWAY_API_KEY", "one of those whose hashes are configured, as $GATEWAY_API_KEY below"


def serve_simulated(options: argparse.Namespace) -> None:
    """Run the simulated providers alone until Ctrl-C."""
    from gwproto.testing import Knobs
    from gwproto_cli.knobs import knobs_from

    try:
        import anyio

        from gwproto_cli.simulated import demo_providers, serve_providers
    except ModuleNotFoundError as error:
        problem = f"needs {error.name}: pip install 'gwproto[io]'"
        raise ConfigurationError((("providers-sim", problem),)) from None

    try:
        knobs = knobs_from(options)
    except msgspec.ValidationError as error:
        raise ConfigurationError((("knobs", str(error)),)) from None
    providers = demo_providers(demo=_chosen(options.format))
    for provider in providers:
        provider.models = tuple(options.model or provider.models)
        if knobs != Knobs():
            provider.knobs = knobs
    ports = [options.port + number if options.port else 0 for number in range(len(providers))]

    def announce(urls: list[str]) -> None:
        for provider, url in zip(providers, urls, strict=True):
            print(f"{provider.name}: {url} serves {', '.join(provider.models)}", flush=True)

    async def main() -> None:
        await serve_providers(providers, host=options.host, ports=ports, on_listening=announce)

    try:
        anyio.run(main)
    except OSError as error:
        raise ConfigurationError(
            ((f"{options.host}:{options.port}", error.strerror or str(error)),)
        ) from None


def _chosen(formats: list[str] | None) -> Sequence[tuple[str, str, str]]:
    """Name, format and model of the providers to simulate, one to a format."""
    from gwproto.testing.formats import FORMATS
    from gwproto_cli.simulated import DEMO

    if not formats:
        return DEMO
    for format in formats:
        if format not in FORMATS:
            problem = f"{format} is none of the formats known: {', '.join(FORMATS)}"
            raise ConfigurationError((("--format", problem),))
    models = {format: model for _, format, model in DEMO}
    return [
        (
            f"demo-{format}-{number}" if formats.index(format) < number else f"demo-{format}",
            format,
            models.get(format, f"{format}-demo"),
        )
        for number, format in enumerate(formats)
    ]


def _cannot_listen(host: str, port: int, error: OSError) -> ConfigurationError:
    # asyncio adds words of its own to the system's.
    problem = os.strerror(error.errno) if error.errno else str(error)
    return ConfigurationError(((f"{host}:{port}", problem),))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
