"""Rows in which the provider's answer is good, in whatever shape it comes."""

from gwproto.testing import Close, Data, End
from scenarios.model import Scenario
from scenarios.parts import (
    COUNTS,
    DONE,
    HELLO,
    PLAIN,
    ROLE,
    SSE,
    STOP,
    STREAM,
    USAGE,
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

_TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}


def _call(index: int | None, arguments: str = "", id: str | None = None, name: str | None = None) -> bytes:
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    call: dict[str, object] = {"function": function}
    if index is not None:
        call["index"] = index
    if id is not None:
        call |= {"id": id, "type": "function"}
    return frame(delta(tool_calls=[call]))


def _halved(event: bytes) -> tuple[bytes, bytes]:
    """Cut inside the first character of several bytes."""
    at = next(index for index, byte in enumerate(event) if byte >= 0xC0) + 1
    return event[:at], event[at:]


_CALLED = frame(delta("tool_calls"))
_WITH_TOOLS = ask(stream=True, tools=[_TOOL])
_WITH_USAGE = ask(stream=True, stream_options={"include_usage": True})
_WHOLE_CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
_ODD = (
    b'{"messages":[{"role":"user","content":"x","odd":1.50}],'
    b'"temperature":0.70,"user":null,"x_odd":{"a":1e2},"project_id":"p"}'
)
_AZURE = b'data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[]}\n\n'
_TWO_CHOICES = (
    ROLE,
    frame(delta(role="assistant", index=1)),
    text("a"),
    STOP,
    frame(delta(content="b", index=1)),
    frame(delta("stop", index=1)),
)
_TRACED = (
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    (b"tracestate", b"rojo=00f067aa0ba902b7"),
)
_SPLIT = ((0.0, b'{"messages":[{"role":"us'), (1.0, b'er","content":"x"}]}'))

REQUESTS: tuple[Scenario, ...] = (
    row("plain", whole=True),
    row("stream", STREAM),
    row("stream_paced", stream(*HELLO, DONE, pace=0.5)),
    row("path_without_v1", asked=ask(target="/chat/completions/")),
    row("upload_in_pieces", asked=ask(pieces=_SPLIT)),
    row("upload_chunked", asked=ask(length=None)),
    row("prompt_instead_of_messages", asked=ask(body=b'{"prompt":"Say hello."}')),
    row("unknown_fields_survive", asked=ask(body=_ODD)),
    row("project_id_stays_here", asked=ask(project_id="p1", headers=((b"x-gateway-project-id", b"p2"),))),
    row("effort_plain", asked=ask(reasoning_effort="high")),
    row(
        "effort_stream",
        stream(ROLE, frame(delta(reasoning_content="Hm.")), text("Hi."), STOP, DONE),
        asked=ask(stream=True, reasoning_effort="low"),
    ),
    row("two_on_a_kept_connection", providers=1, arrivals=one_after_another(ask(), ask())),
    row(
        "two_at_once",
        stream(*HELLO, DONE, pace=1.0),
        arrivals=one_after_another(ask(stream=True), ask(stream=True), gap=0.1),
    ),
    row("rotation", arrivals=one_after_another(ask(), ask(), ask(), ask())),
    row(
        "client_trace",
        reply(fault(), 500),
        PLAIN,
        asked=ask(headers=_TRACED),
    ),
    row("forced_provider", asked=ask(headers=((b"x-gateway-force-provider", b"beta"),))),
    row("model_by_name", asked=ask(model="beta-m")),
    row("slow_client", stream(*HELLO, DONE, pace=0.1), asked=ask(stream=True, write_time=2.0)),
)

SHAPES: tuple[Scenario, ...] = (
    row("tools_plain", reply(answer(None, "tool_calls", tool_calls=[_WHOLE_CALL])), asked=ask(tools=[_TOOL])),
    row(
        "tools_stream",
        stream(ROLE, _call(0, id="c1", name="weather"), _call(0, '{"a":'), _call(0, "1}"), _CALLED, DONE),
        asked=_WITH_TOOLS,
    ),
    row(
        "tool_index_repeated",
        stream(ROLE, _call(0, "{}", "c1", "weather"), _call(0, "{}", "c2", "weather"), _CALLED, DONE),
        asked=_WITH_TOOLS,
    ),
    row(
        "tool_index_missing_and_stop",
        stream(ROLE, _call(None, "{}", "c1", "weather"), _call(None, "{}", "c2", "weather"), STOP, DONE),
        asked=_WITH_TOOLS,
    ),
    row("json_answer_to_a_stream_request", PLAIN),
    row("sse_answer_to_a_plain_request", stream(*HELLO, USAGE, DONE), whole=True),
    row("usage_not_asked_for", stream(*HELLO, USAGE, DONE)),
    row("usage_asked_for", stream(*HELLO, USAGE, DONE), asked=_WITH_USAGE),
    row(
        "usage_in_the_last_chunk",
        stream(ROLE, text("Hi."), frame(delta("stop"), usage=COUNTS), DONE),
        asked=_WITH_USAGE,
    ),
    row("length_without_text", reply(answer("", "length")), whole=True),
    row("no_done", stream(*HELLO)),
    row("no_finish_but_done", stream(ROLE, text("Hi."), DONE)),
    row("no_role", stream(text("Hi."), STOP, DONE)),
    row(
        "role_repeated",
        stream(
            ROLE,
            frame(delta(role="assistant", content="Hel")),
            frame(delta(role="assistant", content="lo.")),
            STOP,
            DONE,
        ),
    ),
    row("done_twice", stream(*HELLO, DONE, DONE)),
    row("data_after_done", stream(*HELLO, DONE, text("more"), pace=0.01)),
    row("connection_open_after_done", stream(*HELLO, DONE, ending=None)),
    row("content_after_finish", stream(ROLE, text("Hi."), STOP, text(" Bye."), DONE)),
    row("finish_of_another_dialect", stream(ROLE, text("Hi."), frame(delta("eos")), DONE)),
    row("several_choices", stream(*_TWO_CHOICES, DONE), asked=ask(stream=True, n=2)),
    row("azure_preamble", stream(_AZURE, *HELLO, DONE)),
)

FRAMING: tuple[Scenario, ...] = (
    row("crlf", stream(*[piece.replace(b"\n", b"\r\n") for piece in (*HELLO, DONE)])),
    row("cr", stream(*[piece.replace(b"\n", b"\r") for piece in (*HELLO, DONE)])),
    row("comments", stream(b": hello\n\n", ROLE, b": ping\n\n", text("Hi."), b":\n\n", STOP, DONE)),
    row("byte_order_mark", stream(b"\xef\xbb\xbf" + ROLE, text("Hi."), STOP, DONE)),
    row(
        "event_names_ids_and_retry",
        stream(b"retry: 5\nid: 1\nevent: message\n" + ROLE, b"id: 2\n" + text("Hi."), STOP, DONE),
    ),
    row("no_space_after_the_colon", stream(*[piece.replace(b": ", b":", 1) for piece in (*HELLO, DONE)])),
    row(
        "data_over_several_lines",
        stream(ROLE, text("Hi.").replace(b',"choices"', b',\ndata: "choices"'), STOP, DONE),
    ),
    row("utf8_split", stream(ROLE, text("Zwölf")[:-40], text("Zwölf")[-40:], STOP, DONE)),
    row("utf8_split_inside_a_character", stream(ROLE, *_halved(text("Grüße 🙂.")), STOP, DONE)),
    row("no_blank_line_at_the_end", stream(*HELLO, DONE.rstrip())),
    row("last_event_unterminated", stream(ROLE, text("Hi."), STOP.rstrip())),
    row("byte_by_byte", stream(*[bytes([byte]) for byte in b"".join((*HELLO, DONE))])),
    row("in_one_piece", stream(b"".join((*HELLO, DONE)))),
    row(
        "closed_instead_of_a_last_chunk",
        timeline(200, SSE, *[Data(piece) for piece in (*HELLO, DONE)], Close()),
    ),
    row("blank_lines_before_the_json", reply(b"\n\n\n" + answer()), whole=True),
    row("json_as_text_plain", timeline(200, b"text/plain", Data(answer()), End()), whole=True),
)
