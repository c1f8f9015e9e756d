"""The command line: what can be asked for. What a command needs is imported when it runs, so that help is quick."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 when done, 1 after ``path: problem`` lines on standard error, 130 on Ctrl-C.

    Raises ``SystemExit(2)`` for wrong usage, as argparse does.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    options = _parser(arguments[:1]).parse_args(arguments)
    run: Callable[[argparse.Namespace], None] = options.run

    from gwproto.failures import ConfigurationError

    try:
        run(options)
        sys.stdout.flush()
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130  # 128 + SIGINT, as shells have it
    except BaseExceptionGroup as group:  # from a task group, when Ctrl-C was pressed again
        if group.split(KeyboardInterrupt)[1] is not None:
            raise
        return 130
    except BrokenPipeError:
        # Whoever read our output has had enough. The interpreter would flush once more, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _parser(command: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gwproto", description="An OpenAI-compatible gateway in front of many language model providers."
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    serve = commands.add_parser("serve", help="run the gateway")
    _add_sources(serve)
    serve.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port to listen on, 0 for any free one (default 8080)")
    serve.add_argument(
        "--runtime", choices=("quart", "trio", "asyncio"), help="server to use (default quart)"
    )
    serve.add_argument("--workers", type=int, metavar="N", help="processes that serve (default 1)")
    serve.add_argument("--no-access-log", action="store_true", help="log no requests")
    serve.add_argument(
        "--journal", metavar="FILE", help="write every input there, for replay; texts are replaced"
    )
    serve.add_argument("--journal-bodies", action="store_true", help="keep the texts in the journal")
    serve.set_defaults(run=_serve)

    replay = commands.add_parser(
        "replay",
        help="feed a journal to fresh machines and say where they act differently",
        description="Exits with 1 if they do. With --policy, estimates how the same requests would have fared.",
    )
    replay.add_argument("journal", metavar="JOURNAL", help="what serve --journal wrote")
    replay.add_argument(
        "--policy", metavar="FILE", help="other settings of routing, retries, health, timeouts"
    )
    replay.add_argument("--json", action="store_true", help="print JSON")
    replay.set_defaults(run=_replay)

    check = commands.add_parser("check", help="validate the configuration and show what is in force")
    _add_sources(check)
    check.add_argument("--json", action="store_true", help="print JSON")
    check.set_defaults(run=_check)

    models = commands.add_parser("models", help="list models, and what the unavailable ones need")
    _add_sources(models)
    models.add_argument("--json", action="store_true", help="print JSON")
    models.set_defaults(run=_models)

    keys = commands.add_parser("keys", help="keys for clients of the gateway")
    new = keys.add_subparsers(metavar="COMMAND", required=True).add_parser("new", help="make a key")
    new.add_argument("--label", default="client", help="its name in logs (default client)")
    new.add_argument(
        "--expires", metavar="WHEN", help="when it ends: RFC 3339, or a date (its beginning, UTC)"
    )
    new.add_argument("--models", metavar="NAMES", help="the only models it may use, separated by commas")
    new.add_argument(
        "--projects", metavar="IDS", help="the only projects; the first is its requests' default"
    )
    new.add_argument("--json", action="store_true", help="print JSON")
    new.set_defaults(run=_new_key)

    export = commands.add_parser("export", help="write the records of requests as JSON lines or a table")
    _add_sources(export)
    export.set_defaults(run=_export)
    if command == ["export"]:
        from gwproto_cli.exporting import add_flags as add_export_flags

        add_export_flags(export)

    translate = commands.add_parser(
        "translate",
        help="turn one wire format into another, from standard input to standard output",
        description="Translates a request, a whole answer or a stream. Without a flag that says which, it is told by "
        "its looks. What could not be said in the other format is named on standard error.",
    )
    translate.add_argument(
        "--from", dest="source", required=True, metavar="FORMAT", help="the format that comes in"
    )
    translate.add_argument(
        "--to", dest="target", required=True, metavar="FORMAT", help="the format that goes out"
    )
    what = translate.add_mutually_exclusive_group()
    for name, text in (
        ("request", "a request"),
        ("response", "a whole answer"),
        ("stream", "a streamed answer"),
    ):
        what.add_argument(f"--{name}", dest="what", action="store_const", const=name, help=f"it is {text}")
    translate.add_argument(
        "--provider", default="", metavar="NAME", help="read or write as this known provider does"
    )
    translate.add_argument("--model", default="", metavar="NAME", help="the provider's name for the model")
    translate.set_defaults(run=_translate)

    simulate = commands.add_parser(
        "simulate",
        help="compare routing policies in simulated hours",
        description="Runs the gateway's own machines on a virtual clock against scripted providers.",
    )
    simulate.set_defaults(run=_simulate)
    if command == ["simulate"]:
        from gwproto_cli.simulating import add_flags

        add_flags(simulate)

    simulated = commands.add_parser("providers-sim", help="run simulated providers")
    simulated.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    simulated.add_argument(
        "--port", type=int, default=9901, help="the first provider's port (default 9901; 0: any free ones)"
    )
    simulated.add_argument(
        "--format",
        action="append",
        metavar="FORMAT",
        help="run one provider that speaks this format; may be repeated (default: the three that serve starts)",
    )
    simulated.add_argument(
        "--model",
        action="append",
        metavar="NAME",
        help="a model that every one of them serves, as a known provider names it; may be repeated (default: one each)",
    )
    simulated.set_defaults(run=_simulated_providers)
    if command == ["providers-sim"]:
        from gwproto_cli.knobs import add_knob_flags

        add_knob_flags(simulated)
    return parser


def _add_sources(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="configuration file (default: $GWPROTO_CONFIG)")
    parser.add_argument("--env-file", metavar="FILE", help="more variables; those of the environment win")


class _Version(argparse.Action):
    """Looks the version up only when asked: importlib.metadata is slow to import."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version, and whether it is compiled")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        from gwproto.exchange import exchange

        compiled = not (exchange.__file__ or "").endswith(".py")
        print("gwproto", version("gwproto"), *(["compiled"] if compiled else []))
        parser.exit()


def _serve(options: argparse.Namespace) -> None:
    from gwproto_cli.serving import serve

    flags = {
        f"server.{name}": value
        for name in ("host", "port", "runtime", "workers")
        if (value := getattr(options, name)) is not None
    }
    if options.journal_bodies and options.journal is None:
        from gwproto.failures import ConfigurationError

        raise ConfigurationError((("--journal-bodies", "says nothing without --journal"),))
    serve(
        options.config,
        options.env_file,
        flags,
        access_log=not options.no_access_log,
        journal=options.journal,
        journal_bodies=options.journal_bodies,
    )


def _replay(options: argparse.Namespace) -> None:
    from gwproto_cli.replaying import replay

    replay(options.journal, options.policy, as_json=options.json)


def _check(options: argparse.Namespace) -> None:
    from gwproto_cli.reports import check

    check(options.config, options.env_file, as_json=options.json)


def _models(options: argparse.Namespace) -> None:
    from gwproto_cli.reports import models

    models(options.config, options.env_file, as_json=options.json)


def _new_key(options: argparse.Namespace) -> None:
    from gwproto_cli.keys import new_key

    new_key(options)


def _export(options: argparse.Namespace) -> None:
    from gwproto_cli.exporting import run

    run(options)


def _translate(options: argparse.Namespace) -> None:
    from gwproto_cli.translating import translate

    translate(options.source, options.target, options.what, options.provider, options.model)


def _simulate(options: argparse.Namespace) -> None:
    from gwproto_cli.simulating import run

    run(options)


def _simulated_providers(options: argparse.Namespace) -> None:
    from gwproto_cli.serving import serve_simulated

    serve_simulated(options)
