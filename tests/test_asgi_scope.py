"""Where a request's target comes from, in every style of mounting."""

import pytest

from gwproto import RequestHead
from gwproto_asgi.scope import path_below_mount, request_head

Scope = dict[str, object]


def scope(path: str, raw_path: bytes | None = None, root_path: str | None = None) -> Scope:
    found: Scope = {"type": "http", "method": "GET", "path": path, "headers": []}
    if raw_path is not None:
        found["raw_path"] = raw_path
    if root_path is not None:
        found["root_path"] = root_path
    return found


@pytest.mark.parametrize(
    ("path", "raw_path", "root_path", "target"),
    [
        ("/livez", b"/livez", "", "/livez"),
        ("/livez", b"/livez", None, "/livez"),
        ("/livez", None, None, "/livez"),
        ("/livez/", b"/livez/", "", "/livez/"),
        ("/", b"/", "", "/"),
        ("*", b"*", "", "*"),
        ("http://h/livez", b"http://h/livez", "", "http://h/livez"),
        # What was escaped stays as the client wrote it.
        ("/v1/models/a/b", b"/v1/models/a%2Fb", "", "/v1/models/a%2Fb"),
        ("/v1/models/a/b", b"/v1/models/a%2fb", "", "/v1/models/a%2fb"),
        ("/v1/models/ü", None, "", "/v1/models/%C3%BC"),
        ("/v1/models/100%", None, "", "/v1/models/100%25"),
        # Starlette, FastAPI, Quart, Hypercorn's dispatcher: the whole path, and the prefix beside it.
        ("/llm/v1/models", b"/llm/v1/models", "/llm", "/v1/models"),
        ("/llm/v1/models", None, "/llm", "/v1/models"),
        ("/llm/v1/models", b"/llm/v1/models", "/llm/", "/v1/models"),
        ("/llm/v1/models/a/b", b"/llm/v1/models/a%2Fb", "/llm", "/v1/models/a%2Fb"),
        ("/llm", b"/llm", "/llm", "/"),
        ("/llm/", b"/llm/", "/llm", "/"),
        ("/llm/livez/", b"/llm/livez/", "/llm", "/livez/"),
        ("/l m/livez", b"/l%20m/livez", "/l m", "/livez"),
        ("/l~m/livez", b"/l%7Em/livez", "/l~m", "/livez"),  # escaped where we would not
        # A prefix of letters is not a prefix of segments.
        ("/llmx/livez", b"/llmx/livez", "/llm", "/llmx/livez"),
        # Litestar: the prefix is gone from the path alone, and a slash is added.
        ("/v1/models/", b"/llm/v1/models", "/llm", "/v1/models"),
        ("/v1/models/", b"/llm/v1/models/", "/llm", "/v1/models/"),
        ("/v1/models/", b"/llm/v1/models", "", "/v1/models"),
        ("/", b"/llm", "/llm", "/"),
        # Prefix taken off both, as some proxies' middleware does.
        ("/v1/models", b"/v1/models", "/llm", "/v1/models"),
        # A raw path of something else is worth nothing.
        ("/livez", b"/elsewhere", "", "/livez"),
        ("/livez", b"/livez?x=1", "", "/livez"),
    ],
)
def test_target(path: str, raw_path: bytes | None, root_path: str | None, target: str) -> None:
    assert path_below_mount(scope(path, raw_path, root_path)) == target


def test_head() -> None:
    given: Scope = {
        "type": "http",
        "http_version": "2",
        "method": "POST",
        "path": "/v1/chat/completions",
        "raw_path": b"/v1/chat/completions",
        "query_string": b"a=%20b",
        "headers": [[b"host", b"h"], (b"x-a", b"1"), [b"x-a", b"2"]],
        "client": ["192.0.2.7", 4711],
    }
    assert request_head(given) == RequestHead(
        "POST",
        "/v1/chat/completions?a=%20b",
        ((b"host", b"h"), (b"x-a", b"1"), (b"x-a", b"2")),
        "2",
        "192.0.2.7",
    )


def test_head_of_a_bare_scope() -> None:
    assert request_head(scope("/")) == RequestHead("GET", "/", ())
