"""What may stand behind the ``?`` of the gateway's own pages: types that validate it, and their reading."""

from typing import Annotated, Literal, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Meta, Struct

from gwproto.failures import Failure, FailureClass

Days = Annotated[int, Meta(ge=1, le=366)]
ProjectId = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._:-]{0,64}\Z")]
Name = Annotated[str, Meta(max_length=256, pattern=r"\A[^\x00-\x1f\x7f]*\Z")]


class Query(Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters by name. An empty string is one that is not given."""


class NoQuery(Query, frozen=True):
    """None is taken."""


class PageQuery(Query, frozen=True):
    """A file of the console; taken from the path."""

    file: Annotated[str, Meta(pattern=r"\A[a-z0-9_][a-z0-9_.-]{0,63}\Z")] = "index.html"


class AnalyticsQuery(Query, frozen=True):
    """``GET /v1/analytics``: the last ``days``; ``by``: what the series are of."""

    days: Days = 7
    project_id: ProjectId = ""
    provider: Name = ""
    model: Name = ""
    by: Literal["", "provider", "model", "project"] = ""


class StatsQuery(Query, frozen=True):
    """``GET /v1/stats/providers``."""

    days: Days = 1


class RequestsQuery(Query, frozen=True):
    """``GET /v1/requests``: the latest first; ``before`` is the ``next`` of the page before."""

    limit: Annotated[int, Meta(ge=1, le=500)] = 50
    before: Annotated[str, Meta(max_length=64, pattern=r"\A[A-Za-z0-9._:-]*\Z")] = ""
    project_id: ProjectId = ""
    provider: Name = ""
    model: Name = ""
    label: Name = ""  # of the client's key; "key" in a URL would look like a secret
    ending: Literal["", "completed", "refused", "failed", "truncated", "client_closed", "abandoned"] = ""
    status: Annotated[int, Meta(ge=100, le=599)] | None = None
    request_id: Annotated[str, Meta(max_length=64, pattern=r"\A[A-Za-z0-9._-]*\Z")] = ""


Q = TypeVar("Q", bound=Query)


def read_query(text: str, kind: type[Q]) -> Q | Failure:
    """The parameters in ``text`` (``application/x-www-form-urlencoded``), or what is wrong with one of them."""
    given: dict[str, str] = {}
    for pair in filter(None, text.split("&")):
        name, _, value = pair.partition("=")
        try:
            name, value = _decoded(name), _decoded(value)
        except UnicodeDecodeError:
            return _refused("The query is not UTF-8.", None)
        if name not in kind.__struct_fields__:
            known = ", ".join(kind.__struct_fields__) or "none"
            return _refused(f"Unknown query parameter {name[:64]!r}. Known: {known}.", name[:64])
        if name in given:
            return _refused(f"{name} is there twice.", name)
        given[name] = value
    try:
        return msgspec.convert({name: value for name, value in given.items() if value}, kind, strict=False)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$.")
        return _refused(f"Invalid value: {what}.", path.rstrip("`"))


def _decoded(text: str) -> str:
    return unquote_to_bytes(text.replace("+", " ")).decode()


def _refused(message: str, param: str | None) -> Failure:
    return Failure(
        FailureClass.INVALID,
        message,
        status=400,
        type="invalid_request_error",
        code="invalid_value",
        param=param,
    )
