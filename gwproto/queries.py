"""What may stand behind the ``?`` of the gateway's own pages: types that validate it, and their reading."""

import re
from typing import Annotated, Any, Literal, TypeVar, get_type_hints
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Meta, Struct

from gwproto.failures import Failure, FailureClass

# A type's description is what a client is told whose value does not fit.
ProjectId = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z0-9._:-]{0,64}\Z",
        description="1 to 64 of the characters A-Z a-z 0-9 . _ : -",
    ),
]
Name = Annotated[
    str,
    Meta(
        max_length=256,
        pattern=r"\A[^\x00-\x1f\x7f-\x9f\u2028\u2029]*\Z",
        description="at most 256 characters, no control characters",
    ),
]
Days = Annotated[int, Meta(ge=1, le=366, description="a whole number from 1 to 366")]


class Query(Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters by name. An empty string is one that is not given."""


class NoQuery(Query, frozen=True):
    """None is taken."""


class PageQuery(Query, frozen=True):
    """A file of the console; taken from the path."""

    file: Annotated[
        str, Meta(pattern=r"\A[a-z0-9_][a-z0-9_.-]{0,63}\Z", description="the name of a file")
    ] = "index.html"


class AnalyticsQuery(Query, frozen=True):
    """``GET /v1/analytics``: the last ``days``; ``by``: what the series are of."""

    days: Days = 7
    project_id: ProjectId = ""
    provider: Name = ""
    model: Name = ""
    by: Annotated[
        Literal["", "provider", "model", "project"], Meta(description="one of provider, model, project")
    ] = ""


class StatsQuery(Query, frozen=True):
    """``GET /v1/stats/providers``."""

    days: Days = 1


class RequestsQuery(Query, frozen=True):
    """``GET /v1/requests``: the latest first; ``before`` is the ``next`` of the page before."""

    limit: Annotated[int, Meta(ge=1, le=500, description="a whole number from 1 to 500")] = 50
    before: Annotated[
        str, Meta(max_length=64, pattern=r"\A[A-Za-z0-9._:-]*\Z", description="the next of an earlier page")
    ] = ""
    project_id: ProjectId = ""
    provider: Name = ""
    model: Name = ""
    label: Name = ""  # of the client's key; "key" in a URL would look like a secret
    ending: Annotated[
        Literal["", "completed", "refused", "failed", "truncated", "client_closed", "abandoned"],
        Meta(description="one of completed, refused, failed, truncated, client_closed, abandoned"),
    ] = ""
    status: Annotated[
        Annotated[int, Meta(ge=100, le=599)] | None, Meta(description="a whole number from 100 to 599")
    ] = None
    request_id: Annotated[
        str, Meta(max_length=64, pattern=r"\A[A-Za-z0-9._-]*\Z", description="the id of a request")
    ] = ""


Q = TypeVar("Q", bound=Query)

_WHOLE = re.compile(r"-?[0-9]{1,9}")
_SHOWN = 64  # characters of a name that nobody knows


def read_query(text: str, kind: type[Q]) -> Q | Failure:
    """The parameters in ``text`` (``application/x-www-form-urlencoded``), or what is wrong with one of them."""
    defaults: dict[str, object] = dict(zip(kind.__struct_fields__, kind.__struct_defaults__, strict=True))
    given: dict[str, str | int] = {}
    for pair in filter(None, text.split("&")):
        name, value = _decoded(pair)
        if name not in defaults:
            return _unknown(name, defaults)
        if value is None:
            return _refused(f"The value of '{name}' is not UTF-8.", name)
        if name in given:
            return _refused(f"The query parameter '{name}' is there more than once.", name)
        if value == "" or isinstance(defaults[name], str):
            given[name] = value
        elif _WHOLE.fullmatch(value):
            given[name] = int(value)
        else:
            return _misfit(name, kind)
    try:
        return msgspec.convert({name: value for name, value in given.items() if value != ""}, kind)
    except msgspec.ValidationError as error:
        return _misfit(str(error).partition(" - at `$.")[2].rstrip("`"), kind)


def _decoded(pair: str) -> tuple[str, str | None]:
    """Name and value; None for a value that is no text. A name that is none is a name that nobody knows."""
    name, _, value = (unquote_to_bytes(part) for part in pair.replace("+", " ").partition("="))
    try:
        return name.decode(errors="replace"), value.decode()
    except UnicodeDecodeError:
        return name.decode(errors="replace"), None


def _unknown(name: str, known: dict[str, object]) -> Failure:
    from difflib import get_close_matches  # only when there is something to say

    shown = name[:_SHOWN]
    near = get_close_matches(shown, known, n=1, cutoff=0.0)
    hint = f" The nearest known one is '{near[0]}'." if near else " This endpoint takes none."
    return _refused(f"Unknown query parameter {shown!r}.{hint}", shown)


def _misfit(name: str, kind: type[Query]) -> Failure:
    hint: Any = get_type_hints(kind, include_extras=True)[name]
    return _refused(f"Invalid value for '{name}': expected {hint.__metadata__[0].description}.", name)


def _refused(message: str, param: str) -> Failure:
    return Failure(
        FailureClass.INVALID,
        message,
        status=400,
        type="invalid_request_error",
        code="invalid_value",
        param=param,
    )
