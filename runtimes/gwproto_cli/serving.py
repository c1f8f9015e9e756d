"""Commands that run until they are told to stop: ``serve``, ``providers-sim``."""

import argparse
import ipaddress
import logging
import os
import shlex
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Protocol

import msgspec

from gwproto.config import ModelSettings, ProviderSettings, Quirks, ServerSettings, Settings, Tier
from gwproto.failures import ConfigurationError
from gwproto.loading import Loaded
from gwproto_cli.environment import environment
from gwproto_cli.inert import inert
from gwproto_cli.process import keep_memory, raise_descriptors
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
        sockets: Sequence[socket.socket] | None = None,
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
    raise_descriptors()
    environ = environment(env_file)
    path = config or environ.get("GWPROTO_CONFIG") or None
    source = source_of(path, env_file, flags)
    loaded = source.load()
    server = loaded.settings.server
    source.make_key = is_loopback(server.host)
    simulated = not loaded.settings.providers and path is None
    # Whatever is wrong shows before anything starts.
    ready = None if simulated else source.read()
    locate(loaded.settings.analytics.database, server.state_dir, environ)
    if server.workers > 1:
        if journal is not None:
            problem = "is one process's, in the order of its events: it needs server.workers = 1"
            raise ConfigurationError((("--journal", problem),))
        from gwproto_cli.workers import supervise

        supervise(source, ready, path=path, env_file=env_file, flags=flags, access_log=access_log)
        return
    tracer = tracing.from_environment(os.environ)
    run = server_of(server.runtime)
    for setting, instead in inert(loaded):
        print(f"{setting}: does nothing yet: {instead}", file=sys.stderr)

    async def main(stack: AsyncExitStack) -> None:
        if simulated:
            from gwproto_cli.simulated import demo_providers, hosted

            providers = demo_providers()
            source.complete = with_simulated(await stack.enter_async_context(hosted(providers)))
        chosen = ready or source.read()
        log(stack, requests=access_log)
        kept = None if simulated else state_file(chosen, environ)
        book = None
        if journal is not None:
            from gwproto_ops import journal as journals

            book = stack.enter_context(journals.opened(journal, bodies=journal_bodies))
        settings = chosen.configuration.settings
        if simulated and loaded.origins["analytics.database"] == "default":
            settings = with_database(settings, stack.enter_context(passing_database()))
        reloader = Reloader(source, chosen)
        await run(
            chosen,
            on_listening=lambda urls: announce(urls, chosen, environ, simulated),
            telemetry=Telemetry(settings, environ=environ, tracer=tracer, reloads=lambda: reloader.status),
            state=kept,
            journal=book,
            reloader=reloader,
        )

    run_in(server, main)


def source_of(
    path: str | None, env_file: str | None, flags: Mapping[str, object], *, made_key: str = ""
) -> Source:
    """Where the configuration comes from, of one process or each of several."""
    return Source(
        path,
        environ=lambda: environment(env_file),
        files=() if env_file is None else (env_file,),
        flags=flags,
        made_key=made_key,
    )


def run_in(server: ServerSettings, main: Callable[[AsyncExitStack], Awaitable[None]]) -> None:
    """Run ``main`` on the runtime's event loop. Raises ``ConfigurationError``, also where nothing can listen."""
    keep_memory()

    async def guarded() -> OSError | ConfigurationError | None:
        async with AsyncExitStack() as stack:
            try:
                await main(stack)
            except (OSError, ConfigurationError) as error:
                return error  # the simulated providers' task group would wrap it
        return None

    if server.runtime == "trio":
        import trio

        error = trio.run(guarded)
    elif server.runtime == "asyncio":
        import gwproto_asyncio

        error = gwproto_asyncio.run(guarded())
    else:
        import asyncio

        error = asyncio.run(guarded())
    if isinstance(error, OSError):
        raise cannot_listen(server.host, server.port, error)
    if error is not None:
        raise error


def log(stack: AsyncExitStack, *, requests: bool, piece: int = 0) -> None:
    """Write notices, and with ``requests`` the access log, to standard error; ``piece``: see :class:`access.Writer`."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    notices.setLevel(logging.INFO)
    if requests:
        stack.enter_context(access.enabled(piece=piece))


@contextmanager
def passing_database() -> Iterator[str]:
    """The URL of one that is gone afterwards: what was only simulated is no part of anybody's figures."""
    with TemporaryDirectory(prefix="gwproto-") as place:
        yield f"sqlite:///{place}/gwproto.db"


def with_database(settings: Settings, database: str) -> Settings:
    analytics = msgspec.structs.replace(settings.analytics, database=database)
    return msgspec.structs.replace(settings, analytics=analytics)


def state_file(deployment: Deployment, environ: Mapping[str, str], number: int = 1) -> StateFile | None:
    """Where the worker of this ``number`` keeps what is known of the providers; None: nowhere."""
    server = deployment.configuration.settings.server
    if not server.state_file:
        return None
    try:
        path = directory(server.state_dir, environ) / Path(server.state_file).expanduser()
    except OSError as error:
        print(f"server.state_dir: nothing is kept over a restart: {error}", file=sys.stderr)
        return None
    if number > 1:  # what each has seen and used is its own
        path = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return StateFile(path, deployment.credentials)


def server_of(runtime: str) -> Serve:
    """Raises ``ConfigurationError`` where what it needs is not installed."""
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


def with_simulated(urls: Sequence[str]) -> Callable[[Loaded], Loaded]:
    """What adds the simulated providers at ``urls`` where there are none."""
    from gwproto_cli.simulated import demo_providers

    simulated = demo_providers()
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


def announce(urls: list[str], deployment: Deployment, environ: Mapping[str, str], simulated: bool) -> None:
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
    raise_descriptors()
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


def cannot_listen(host: str, port: int, error: OSError) -> ConfigurationError:
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
