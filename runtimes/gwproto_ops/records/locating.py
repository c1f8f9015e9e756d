"""Which database a URL names."""

from collections.abc import Mapping
from pathlib import Path

from gwproto import ConfigurationError
from gwproto_ops.records.database import Source
from gwproto_ops.state import directory

SETTING = "analytics.database"
_FILE = "sqlite:///"
_SERVERS = ("postgresql://", "postgres://")


def locate(url: str, state_dir: str = "", environ: Mapping[str, str] | None = None) -> Source | None:
    """``sqlite:///`` and a path, which is relative to the state directory, or ``postgresql://…``; ``""``: None.

    Raises ``ConfigurationError`` for anything else, and where what it needs is not installed. Nothing is opened.
    """
    if not url:
        return None
    if url.startswith(_FILE):
        return _file(url.removeprefix(_FILE), state_dir, environ)
    if url.startswith(_SERVERS):
        return _server(url)
    # Not what it is: it may hold a password.
    raise ConfigurationError(
        ((SETTING, "expected sqlite:///FILE, postgresql://USER@HOST/NAME, or nothing for no records"),)
    )


def _file(name: str, state_dir: str, environ: Mapping[str, str] | None) -> Source:
    from gwproto_ops.records.sqlite import SQLiteFile

    if not name or name.startswith(":") or "\0" in name or name.endswith("/"):
        raise ConfigurationError(((SETTING, "sqlite:/// needs a file's path after it"),))

    def path() -> Path:
        given = Path(name).expanduser()
        return given if given.is_absolute() else directory(state_dir, environ) / given

    return SQLiteFile(path, f"sqlite:///{name}")


def _server(url: str) -> Source:
    try:
        from gwproto_ops.records.postgres import PostgresServer
    except ImportError as error:  # psycopg without libpq says so by an ImportError, too
        problem = f"needs {error.name or 'psycopg with libpq'}: pip install 'gwproto[postgres]'"
        raise ConfigurationError(((SETTING, problem),)) from None
    try:
        return PostgresServer(url)
    except ValueError:
        raise ConfigurationError(((SETTING, "is no URL that PostgreSQL's client understands"),)) from None
