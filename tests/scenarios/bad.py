"""Rows in which a provider or the network fails."""

from gwproto.testing import Close, Connection, Data, End, Reset, Stall
from scenarios.model import Scenario
from scenarios.parts import (
    CLOSED,
    DONE,
    HELLO,
    NO_ADDRESS,
    NO_TLS,
    PLAIN,
    REFUSED,
    RESET,
    ROLE,
    SILENT,
    SSE,
    STOP,
    STREAM,
    answer,
    ask,
    delta,
    fault,
    frame,
    one_after_another,
    reply,
    row,
    stream,
    text,
    timeline,
)

_IN_BAND = b"data: " + fault("Out of cards.") + b"\n\n"
_HTML = b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>"

BEFORE_CONTENT: tuple[Scenario, ...] = (
    row("refused", REFUSED, PLAIN, whole=True),
    row("no_address", NO_ADDRESS, PLAIN, whole=True),
    row("no_tls", NO_TLS, PLAIN, whole=True),
    row("reset_before_head", RESET, STREAM),
    row("closed_before_head", CLOSED, STREAM),
    row("reset_before_content", stream(ROLE, ending=Reset()), STREAM),
    row("closed_before_content", stream(ROLE, ending=Close()), STREAM),
    row("ended_before_content", stream(ROLE), STREAM),
    row("first_event_error", stream(_IN_BAND), STREAM),
    row("error_after_the_role", stream(ROLE, _IN_BAND, DONE), STREAM),
    row("named_error_event", stream(b'event: error\ndata: {"message":"No.","code":500}\n\n'), STREAM),
    row("error_object_in_a_200", reply(fault()), PLAIN, whole=True),
    row("only_done", stream(DONE), STREAM),
    row("empty_200", reply(b""), PLAIN, whole=True),
    row("empty_stream", stream(), STREAM),
    row("no_choices", reply(b'{"id":"x","object":"chat.completion","choices":[]}'), PLAIN, whole=True),
    row("html_200", reply(_HTML, kind=b"text/html"), PLAIN, whole=True),
    row("html_200_to_a_stream_request", reply(_HTML, kind=b"text/html"), STREAM),
    row("truncated_json", timeline(200, b"application/json", Data(answer()[:60]), End()), PLAIN, whole=True),
    row(
        "short_of_its_length",
        timeline(200, b"application/json", Data(answer()[:60]), Close(), content_length="500"),
        PLAIN,
        whole=True,
    ),
    row("invalid_utf8", reply(answer("H*i.").replace(b"*", b"\xff")), whole=True),
    row("invalid_utf8_in_an_error", reply(fault("No *.").replace(b"*", b"\xff"), 400), whole=True),
    row(
        "invalid_utf8_in_a_stream",
        stream(ROLE, text("Hi.").replace(b"Hi", b"H\xffi"), STOP, DONE),
        STREAM,
    ),
    row("not_json", reply(b"upstream connect error"), PLAIN, whole=True),
    row("garbage_in_a_stream", stream(ROLE, b"data: {nonsense\n\n", DONE), STREAM),
    row("redirect", reply(b"", 307, location="http://169.254.169.254/"), PLAIN, whole=True),
    row(
        "stale_kept_connection",
        PLAIN,
        CLOSED,
        PLAIN,
        providers=1,
        arrivals=one_after_another(ask(), ask()),
    ),
)

STATUSES: tuple[Scenario, ...] = (
    *[
        row(f"status_{status}_then_good", reply(fault(code=code), status), PLAIN, whole=True)
        for status, code in (
            (401, "invalid_api_key"),
            (402, None),
            (403, None),
            (404, "model_not_found"),
            (408, None),
            (429, "rate_limit_exceeded"),
            (500, None),
            (502, None),
            (503, "server_is_overloaded"),
            (529, None),
        )
    ],
    *[
        row(
            f"status_{status}_is_final",
            reply(fault("Bad field.", "invalid_request_error"), status),
            whole=True,
        )
        for status in (400, 422)
    ],
    row("too_big_everywhere", reply(fault(), 413), whole=True),
    row(
        "context_too_long",
        reply(fault("Too long.", "invalid_request_error", "context_length_exceeded"), 400),
        whole=True,
    ),
    row("rate_limited_everywhere", reply(fault(), 429, retry_after="7"), whole=True),
    row("quota_used_up", reply(fault(type="insufficient_quota", code="insufficient_quota"), 429), PLAIN),
    row("failing_everywhere", reply(fault(), 500), whole=True, slow=True),
    row("unreachable_everywhere", REFUSED, whole=True, slow=True),
    row("html_500", reply(_HTML, 502, b"text/html"), PLAIN, whole=True),
    row("error_that_never_ends", timeline(500, b"application/json", Data(b'{"err'), Stall()), PLAIN),
    row("single_provider_recovers", RESET, PLAIN, providers=1, whole=True, slow=True),
)

AFTER_CONTENT: tuple[Scenario, ...] = (
    row("reset_after_content", stream(ROLE, text("Hel"), ending=Reset())),
    row("closed_after_content", stream(ROLE, text("Hel"), ending=Close())),
    row("ended_after_content", stream(ROLE, text("Hel"))),
    row("ended_inside_an_event", stream(ROLE, text("Hel"), text("lo.")[:30])),
    row("reset_after_finish", stream(*HELLO, ending=Reset())),
    row("in_band_error", stream(ROLE, text("Hel"), _IN_BAND, DONE)),
    row("garbage_after_content", stream(ROLE, text("Hel"), b"data: {nonsense\n\n", text("lo"), STOP, DONE)),
    row("failing_finish_reason", stream(ROLE, text("Hel"), frame(delta("error")), DONE)),
    row("whole_answer_cut", timeline(200, SSE, Data(ROLE + text("Hel")), Close()), PLAIN, whole=True),
)

_LATE = Connection(PLAIN.steps, dial=9.0)
_QUICK = {"timeouts": {"connect": 2, "first_content": 5, "idle": 3, "total": 20, "stream_total": 30}}
_BEATS = {"server": {"heartbeat_interval": 4}, **_QUICK}

TIMES: tuple[Scenario, ...] = (
    row("silent_then_good", SILENT, STREAM, settings=_QUICK),
    row("stall_before_content", stream(ROLE, ending=None), STREAM, settings=_QUICK),
    row("stall_after_content", stream(ROLE, text("Hel"), ending=None), settings=_QUICK),
    row(
        "comments_are_no_progress",
        stream(ROLE, text("Hel"), *[b": ping\n\n"] * 9, DONE, pace=1.0),
        settings=_QUICK,
    ),
    row("reasoning_is_progress", stream(ROLE, *[frame(delta(reasoning_content="h"))] * 9, text("x"), STOP, DONE,
        pace=1.4), settings=_QUICK),
    row("stream_total", stream(ROLE, *[text("x")] * 40, STOP, DONE, pace=1.0), settings=_QUICK),
    row("total", SILENT, whole=True, settings=_QUICK),
    row("slow_dial", _LATE, PLAIN, whole=True, settings=_QUICK),
    row("heartbeats", stream(ROLE, text("Hi."), STOP, DONE, pace=4.5), settings={"server": {"heartbeat_interval": 4}}),
    row("heartbeats_then_failover", SILENT, STREAM, settings=_BEATS),
    row("heartbeats_then_error", SILENT, settings=_BEATS),
    row("heartbeats_while_streaming", stream(ROLE, text("Hi."), text(" there"), STOP, DONE, pace=2.9),
        settings={"server": {"heartbeat_interval": 1}}),
    row("wait_for_a_target", reply(fault(), 429, retry_after="1"), PLAIN, providers=1, whole=True, slow=True),
)  # fmt: skip # what is streamed reads better on one line
