"""Query strings: what they mean, and what is said of those that mean nothing."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwproto import Delegate
from gwproto.failures import Failure, FailureClass
from gwproto.policy.guard import MAX_TARGET
from gwproto.queries import AnalyticsQuery, NoQuery, PageQuery, Query, RequestsQuery, StatsQuery, read_query
from support.conversation import START, gateway, head, sent_error, sent_head

KINDS = (NoQuery, PageQuery, AnalyticsQuery, StatsQuery, RequestsQuery)


def refused(text: str, kind: type[Query] = RequestsQuery) -> Failure:
    failure = read_query(text, kind)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.status) == (FailureClass.INVALID, 400)
    assert (failure.type, failure.code) == ("invalid_request_error", "invalid_value")
    assert failure.param is not None
    assert failure.message.isprintable()
    return failure


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["", "&", "&&&"])
def test_nothing_is_the_defaults(kind: type[Query], text: str) -> None:
    assert read_query(text, kind) == kind()


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("days=1", AnalyticsQuery(days=1)),
        ("days=366", AnalyticsQuery(days=366)),
        ("days=007", AnalyticsQuery(days=7)),
        ("&days=3&&by=model&", AnalyticsQuery(days=3, by="model")),
        ("project_id=a.b_c:d-9", AnalyticsQuery(project_id="a.b_c:d-9")),
        ("project_id=" + "x" * 64, AnalyticsQuery(project_id="x" * 64)),
        ("project_id=null", AnalyticsQuery(project_id="null")),
        ("days=&by=&provider", AnalyticsQuery()),
        ("%64ays=%35", AnalyticsQuery(days=5)),
        ("provider=a+b%2Bc", AnalyticsQuery(provider="a b+c")),
        ("provider=a=b", AnalyticsQuery(provider="a=b")),
        ("provider=100%25_%", AnalyticsQuery(provider="100%_%")),
        ("provider=%zz", AnalyticsQuery(provider="%zz")),
        ("model=%27%3B%20DROP%20TABLE%20requests--", AnalyticsQuery(model="'; DROP TABLE requests--")),
        ("model=%E6%A8%A1%E5%9E%8B/x", AnalyticsQuery(model="模型/x")),
        ("model=%3Cscript%3E", AnalyticsQuery(model="<script>")),
    ],
)
def test_parameters_are_read_as_forms_are(text: str, query: AnalyticsQuery) -> None:
    assert read_query(text, AnalyticsQuery) == query


def test_records_are_filtered_by_all_they_hold() -> None:
    text = "limit=500&before=1700000000.5:7&label=ci&ending=client_closed&status=499&request_id=abc-1.2_3"
    assert read_query(text, RequestsQuery) == RequestsQuery(
        limit=500,
        before="1700000000.5:7",
        label="ci",
        ending="client_closed",
        status=499,
        request_id="abc-1.2_3",
    )


@pytest.mark.parametrize(
    ("text", "param", "expected"),
    [
        ("limit=0", "limit", "a whole number from 1 to 500"),
        ("limit=501", "limit", "a whole number from 1 to 500"),
        ("limit=-1", "limit", "a whole number from 1 to 500"),
        ("limit=1.0", "limit", "a whole number"),
        ("limit=1e2", "limit", "a whole number"),
        ("limit=+5", "limit", "a whole number"),
        ("limit=%2B5", "limit", "a whole number"),
        ("limit=0x10", "limit", "a whole number"),
        ("limit=1_0", "limit", "a whole number"),
        ("limit=%D9%A3", "limit", "a whole number"),
        ("limit=true", "limit", "a whole number"),
        ("limit=5%00", "limit", "a whole number"),
        ("limit=5%0A", "limit", "a whole number"),
        ("limit=" + "9" * 8000, "limit", "a whole number"),
        ("limit=99999999999999999999", "limit", "a whole number"),
        ("status=null", "status", "a whole number from 100 to 599"),
        ("status=99", "status", "a whole number from 100 to 599"),
        ("status=600", "status", "a whole number from 100 to 599"),
        ("ending=gone", "ending", "one of completed, refused"),
        ("ending=COMPLETED", "ending", "one of completed"),
        ("project_id=a%20b", "project_id", "1 to 64 of the characters A-Z a-z 0-9 . _ : -"),
        ("project_id=a%0A", "project_id", "1 to 64"),
        ("project_id=%25", "project_id", "1 to 64"),
        ("project_id=" + "x" * 65, "project_id", "1 to 64"),
        ("project_id=%C3%A9", "project_id", "1 to 64"),
        ("provider=%00", "provider", "no control characters"),
        ("provider=a%0Db", "provider", "no control characters"),
        ("provider=%7F", "provider", "no control characters"),
        ("provider=%C2%85", "provider", "no control characters"),
        ("provider=%E2%80%A8", "provider", "no control characters"),
        ("model=" + "x" * 257, "model", "at most 256 characters"),
        ("label=%1B%5B31m", "label", "no control characters"),
        ("before=%27", "before", "the next of an earlier page"),
        ("before=" + "1" * 65, "before", "the next of an earlier page"),
        ("request_id=%2A", "request_id", "the id of a request"),
    ],
)
def test_a_value_that_does_not_fit_is_told_what_would(text: str, param: str, expected: str) -> None:
    failure = refused(text)
    assert failure.param == param
    assert failure.message.startswith(f"Invalid value for '{param}': expected ")
    assert expected in failure.message
    assert len(failure.message) < 200


def test_a_misfit_of_a_type_is_told_by_every_kind_that_has_it() -> None:
    assert refused("days=0", StatsQuery).message == refused("days=367", AnalyticsQuery).message
    assert "one of provider, model, project" in refused("by=key", AnalyticsQuery).message
    assert "the name of a file" in refused("file=.hidden", PageQuery).message


@pytest.mark.parametrize(
    ("text", "kind", "param", "message"),
    [
        ("day=1", AnalyticsQuery, "day", "Unknown query parameter 'day'. The nearest known one is 'days'."),
        ("Days=1", StatsQuery, "Days", "Unknown query parameter 'Days'. The nearest known one is 'days'."),
        ("x=1", NoQuery, "x", "Unknown query parameter 'x'. This endpoint takes none."),
        ("%0A=1", NoQuery, "\n", "Unknown query parameter '\\n'. This endpoint takes none."),
        ("%ff=1", NoQuery, "�", "Unknown query parameter '�'. This endpoint takes none."),
        ("=1", NoQuery, "", "Unknown query parameter ''. This endpoint takes none."),
    ],
)
def test_an_unknown_parameter_is_named(text: str, kind: type[Query], param: str, message: str) -> None:
    failure = refused(text, kind)
    assert (failure.param, failure.message) == (param, message)


def test_of_a_long_name_the_beginning_is_shown() -> None:
    failure = refused("x" * 8000 + "=1")
    assert failure.param == "x" * 64
    assert len(failure.message) < 200


@pytest.mark.parametrize(
    "text", ["limit=1&limit=2", "limit=1&limit=1", "limit=&limit=1", "label=a&limit=1&label="]
)
def test_a_parameter_that_is_there_twice_is_refused(text: str) -> None:
    failure = refused(text)
    assert failure.param in ("limit", "label")
    assert failure.message == f"The query parameter '{failure.param}' is there more than once."


@pytest.mark.parametrize("value", ["%ff", "%C3", "%ED%A0%80", "%C0%AF"])
def test_what_is_not_utf8_is_refused(value: str) -> None:
    failure = refused(f"label=a{value}")
    assert (failure.param, failure.message) == ("label", "The value of 'label' is not UTF-8.")


@given(st.sampled_from(KINDS), st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60))
def test_every_text_has_a_reading_or_an_error(kind: type[Query], text: str) -> None:
    for one in (text, *(f"{name}={text}" for name in kind.__struct_fields__)):
        read = read_query(one, kind)
        if isinstance(read, Failure):
            refused(one, kind)
        else:
            assert msgspec.json.decode(msgspec.json.encode(read), type=kind) == read


# Through the gateway; who may ask is in test_pages


def asked(target: str) -> Any:
    return gateway().begin(head("GET", target), START).start(START)


@pytest.mark.parametrize(
    ("target", "name", "query"),
    [
        ("/metrics", "metrics", {}),
        ("/openapi.json", "openapi", {}),
        ("/v1/stats/providers", "stats", {"days": 1}),
        ("/stats/providers?days=2", "stats", {"days": 2}),
        (
            "/v1/analytics/?project_id=p&by=model",
            "analytics",
            {"days": 7, "project_id": "p", "provider": "", "model": "", "by": "model"},
        ),
        (
            "http://gateway.example/v1/requests?status=200&model=a%2Fb",
            "requests",
            {
                "limit": 50,
                "before": "",
                "project_id": "",
                "provider": "",
                "model": "a/b",
                "label": "",
                "ending": "",
                "status": 200,
                "request_id": "",
            },
        ),
        ("/?anything=1", "console", {"file": "index.html"}),
        ("/console/app.js?v=1", "console", {"file": "app.js"}),
    ],
)
def test_the_runtime_gets_the_query_as_canonical_json(target: str, name: str, query: dict[str, Any]) -> None:
    (command,) = asked(target)
    assert isinstance(command, Delegate)
    assert (command.name, json.loads(command.query)) == (name, query)
    assert command.query == json.dumps(query, separators=(",", ":"))


@pytest.mark.parametrize(
    "file", ["", ".", "..", ".hidden", "A.js", "a/b", "a%2Fb", "a%00", "a&b=1", "a+b", "x" * 65]
)
def test_a_file_by_an_impossible_name_is_not_there(file: str) -> None:
    commands = asked(f"/console/{file}")
    assert sent_head(commands)[0] == 404
    assert sent_error(commands)["code"] == "unknown_url"


def test_a_megabyte_never_gets_here() -> None:
    commands = asked("/v1/analytics?project_id=" + "x" * 1_000_000)
    assert sent_head(commands)[0] == 414
    longest = "/v1/analytics?project_id="
    assert sent_head(asked(longest + "x" * (MAX_TARGET - len(longest))))[0] == 400
