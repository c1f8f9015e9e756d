"""OpenAPI 3.1 made of the endpoints and the types they name."""

import re
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Any

import msgspec

from gwproto.queries import PageQuery
from gwproto_ops.openapi.endpoints import ENDPOINTS, EVENTS, JSON, LIMITS, Endpoint
from gwproto_ops.openapi.rules import RULES
from gwproto_ops.openapi.shapes import ChatCompletionChunk, Error

Json = dict[str, Any]

_SCHEMAS = "#/components/schemas/"
_PARAMETER = re.compile(r"\{(\w+)\}")

_ABOUT = """\
An OpenAI-compatible gateway to many providers. The prefix `/v1` may be left out, a trailing slash added, and `HEAD` is
answered wherever `GET` is. Where `public_stats` is set, analytics, statistics and metrics need no key."""

_DESCRIPTIONS = {
    400: "Malformed, unsupported, or a provider's verdict on the request; `param` names the field or parameter",
    401: "The key is missing, wrong or expired",
    403: "The key may not be used for the model or the project",
    404: "No such model, path or file",
    408: "The body took too long",
    413: "The body, or the number of tokens asked for, is over a limit",
    414: "The request target is too long",
    415: "The body is compressed",
    429: "The key, the project or the address is over a limit, or every candidate is",
    431: "The head is too long",
    500: "A mistake of the gateway's",
    502: "Providers failed",
    503: "Nobody to ask, too much to do, or no database",
    504: "Providers took too long",
}


def _standing(name: str) -> Json:
    if "-reset-" in name:
        return {"type": "string", "pattern": "^([0-9]+h)?([0-9]+m)?[0-9]+s$"}
    return {"type": "integer", "minimum": 0}


#: By name: what a response header holds, and its schema.
_HEADERS: dict[str, tuple[str, Json]] = {
    "x-request-id": ("The request's id", {"type": "string", "pattern": "^[A-Za-z0-9._-]+$"}),
    "x-gateway-request-id": ("The same", {"type": "string", "pattern": "^[A-Za-z0-9._-]+$"}),
    "x-gateway-provider": ("Who served the request", {"type": "string"}),
    "x-gateway-model": ("The provider's name for the model", {"type": "string"}),
    "x-gateway-attempts": ("Tries made, the last included", {"type": "integer", "minimum": 1}),
    "x-gateway-reasoning-effort": (
        "The level sent; `auto`: the provider's default; `none`: there is no such control",
        {"type": "string"},
    ),
    "x-gateway-dropped-params": (
        "Fields left out because the provider does not take them",
        {"type": "string"},
    ),
    "x-gateway-shared": ("The answer is another, equal request's", {"type": "string", "enum": ["true"]}),
    "server-timing": ("Milliseconds spent here and at providers", {"type": "string"}),
    "retry-after": ("Seconds", {"type": "integer", "minimum": 1}),
    "x-should-retry": ("Everything sensible was tried already", {"type": "string", "enum": ["false"]}),
    **{name: ("How the key stands with its limit", _standing(name)) for name in LIMITS},
}
_EVERYWHERE = ("x-request-id", "x-gateway-request-id")
_OF_STATUS = {
    429: ("retry-after", *LIMITS),
    502: ("x-should-retry",),
    503: ("retry-after",),
    504: ("x-should-retry",),
}

#: Headers that a chat request may have: what they say, and their schema.
_ASKED: dict[str, tuple[str, Json]] = {
    "x-gateway-project-id": (
        "Tags the request; wins over project_id",
        {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"},
    ),
    "x-gateway-force-provider": ("Only targets of this provider", {"type": "string"}),
    "x-gateway-force-model": ("Only targets of this model", {"type": "string"}),
    "x-gateway-require-params": (
        "Only providers that take every field sent",
        {"type": "string", "enum": ["true", "false", "1", "0", "yes", "no"]},
    ),
    "x-gateway-affinity": ("Requests with the same value prefer one target", {"type": "string"}),
}


def document() -> Json:
    """The whole description. The same every time."""
    schemas = _components(
        [
            Error,
            ChatCompletionChunk,
            *(endpoint.body for endpoint in ENDPOINTS if endpoint.body is not None),
            *(kind for endpoint in ENDPOINTS for kind in _structs(endpoint)),
        ]
    )
    for name, rules in RULES.items():
        schemas[name]["allOf"] = rules
    paths: Json = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {"title": "gwproto", "version": version("gwproto"), "description": _ABOUT},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "headers": {name: _header(name) for name in _HEADERS},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _operation(endpoint: Endpoint) -> Json:
    described: Json = {
        "operationId": endpoint.id,
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "security": [{"bearer": []}, {"key": []}] if endpoint.key else [],
        "parameters": [*_parameters(endpoint)],
        "responses": {"200": _success(endpoint)},
    }
    if endpoint.body is not None:
        described["requestBody"] = {
            "required": endpoint.body_required,
            "content": {JSON: {"schema": _reference(endpoint.body)}},
        }
    responses = described["responses"]
    for status in endpoint.errors:
        content = {JSON: {"schema": _reference(Error)}}
        responses[str(status)] = _response(status, content, _DESCRIPTIONS[status], *endpoint.headers)
    if endpoint.unready is not None:
        responses["503"] = _response(503, {JSON: {"schema": _reference(endpoint.unready)}}, "It is stopping")
    return described


def _parameters(endpoint: Endpoint) -> Iterator[Json]:
    for name in _PARAMETER.findall(endpoint.path):
        schema: Json = {"type": "string", "minLength": 1}
        if name == "file":
            schema = _properties(PageQuery)["file"]
            schema.pop("default")
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    for name, schema in _properties(endpoint.query).items():
        yield {"name": name, "in": "query", "description": schema.pop("description"), "schema": schema}
    if endpoint.body is not None and endpoint.body.__name__ == "ChatCompletionRequest":
        for name, (about, schema) in _ASKED.items():
            yield {"name": name, "in": "header", "description": about, "schema": schema}


def _properties(kind: type) -> dict[str, Json]:
    """A query's parameters. What stands for "not given" in its type is no value that anybody need send."""
    properties: dict[str, Json] = _components([kind])[kind.__name__]["properties"]
    for schema in properties.values():
        if schema.get("default") in ("", None):
            schema.pop("default")
        if "" in schema.get("enum", ()):
            schema["enum"].remove("")
        for one in schema.pop("anyOf", ()):
            if one != {"type": "null"}:
                schema.update(one)
    return properties


def _success(endpoint: Endpoint) -> Json:
    content: Json = {}
    for media, kind in endpoint.answers.items():
        if media == EVENTS:
            content[media] = {"schema": _event()}
        elif kind is None:
            content[media] = {"schema": {"type": "string"}} if media.startswith("text/") else {}
        else:
            content[media] = {"schema": {"type": "object"} if kind is dict else _reference(kind)}
    return _response(200, content, "It worked", *endpoint.headers)


def _event() -> Json:
    """One event of a stream, since 3.1 has no words for their sequence: ``schema`` is read as that by convention."""
    failure = "in place of [DONE] where an answer breaks off"
    chunk = {"anyOf": [_reference(ChatCompletionChunk), {**_reference(Error), "description": failure}]}
    payload = {"contentMediaType": JSON, "contentSchema": chunk}
    return {
        "title": "Event",
        "description": "What stands behind `data:`: chunks, then `[DONE]`",
        "type": "object",
        "properties": {"data": {"type": "string", "anyOf": [{"const": "[DONE]"}, payload]}},
        "required": ["data"],
    }


def _response(status: int, content: Json, about: str, *more: str) -> Json:
    names = (*_EVERYWHERE, *_OF_STATUS.get(status, ()), *more)
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in dict.fromkeys(names)}
    return {"description": about, "headers": headers, "content": content}


def _header(name: str) -> Json:
    about, schema = _HEADERS[name]
    return {"description": about, "required": name in _EVERYWHERE, "schema": schema}


def _structs(endpoint: Endpoint) -> Iterator[type]:
    yield from (kind for kind in endpoint.answers.values() if kind not in (None, dict))
    if endpoint.unready is not None:
        yield endpoint.unready


def _reference(kind: type) -> Json:
    return {"$ref": _SCHEMAS + kind.__name__}


def _components(kinds: Iterable[type]) -> dict[str, Json]:
    unique = list(dict.fromkeys(kinds))
    _, components = msgspec.json.schema_components(unique, ref_template=_SCHEMAS + "{name}")
    for schema in components.values():
        _translate(schema)
    return components


def _translate(schema: object) -> None:
    """Python's and reStructuredText's ways of writing into JSON Schema's and Markdown's, in place."""
    if isinstance(schema, list):
        for one in schema:
            _translate(one)
    elif isinstance(schema, dict):
        pattern, about = schema.get("pattern"), schema.get("description")
        if isinstance(pattern, str):
            schema["pattern"] = pattern.replace(r"\A", "^").replace(r"\Z", "$")
        if isinstance(about, str):
            schema["description"] = about.replace("``", "`").replace("\n    ", " ")
        for one in schema.values():
            _translate(one)
