"""A request in words of no format, and whole answers read as streams."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from strategies import JSON

from gwproto.failures import Failure, FailureClass
from gwproto.values import Usage
from gwproto.wire.conversation import (
    ALWAYS,
    Call,
    Media,
    Options,
    ResponseFormat,
    Tool,
    ToolChoice,
    Turn,
    arguments_object,
    data_url,
    ignored,
    options_of,
    parallel_calls_of,
    response_format_of,
    tool_choice_of,
    tools_of,
    turns_of,
)
from gwproto.wire.neutral import ChatRequest, Chunk, Completion, CompletionChoice, Delta, ToolFragment
from gwproto.wire.openai.request import parse_request
from gwproto.wire.whole import completed

PIXEL = "data:image/png;base64,iVBO"
USER: Any = {"role": "user", "content": "Q"}


def asked(messages: Any = (USER,), **fields: Any) -> ChatRequest:
    request = parse_request(json.dumps({"messages": list(messages), **fields}).encode())
    assert isinstance(request, ChatRequest), request
    return request


def turn(**message: Any) -> Turn:
    (only,) = turns_of(asked([message]))
    return only


def called(id_: str, name: str = "f", arguments: str = "{}", **more: Any) -> Any:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


class TestTurns:
    def test_roles(self) -> None:
        roles = ("system", "developer", "user", "assistant")
        assert [one.role for one in turns_of(asked({"role": role, "content": "A"} for role in roles))] == [
            "system",
            "system",
            "user",
            "assistant",
        ]

    def test_parts(self) -> None:
        parts = [
            {"type": "text", "text": "A"},
            {"type": "text", "text": ""},
            {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
            {"type": "image_url", "image_url": "https://x/y.png"},
            {"type": "input_audio", "input_audio": {"data": "UklG", "format": "mp3"}},
            {"type": "input_audio", "input_audio": {"data": "UklG"}},
            {"type": "input_audio", "input_audio": "UklG"},
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE", "filename": "a.pdf"}},
            {"type": "file", "file": {"file_data": "JVBE"}},
            {"type": "file", "file": {"file_id": "f1"}},
            {"type": "refusal", "refusal": "No"},
            {"type": "unheard_of"},
            {"type": "text", "text": "B"},
        ]
        message = turn(role="user", content=parts)
        assert message.parts == (
            "A",
            Media("image", "image/png", "iVBO", detail="low"),
            Media("image", url="https://x/y.png"),
            Media("audio", "audio/mp3", "UklG"),
            Media("audio", "audio/wav", "UklG"),
            Media("audio", "audio/wav", "UklG"),
            Media("file", "application/pdf", "JVBE", name="a.pdf"),
            Media("file", data="JVBE"),
            Media("file", url="f1"),
            "No",
            "B",
        )
        assert message.text == "A\nNo\nB"

    def test_contents(self) -> None:
        assert turn(role="user", content="Q") == Turn("user", ("Q",))
        assert turn(role="assistant", content=None, refusal="No").parts == ("No",)
        assert turn(role="assistant", content="A", refusal="No").parts == ("A",)
        assert turn(role="assistant", tool_calls=[called("c1")]).parts == ()

    def test_calls_and_their_answers(self) -> None:
        messages = [
            {
                "role": "assistant",
                "tool_calls": [
                    called("c1", "f", '{"x":1}'),
                    called("c2", "g", ""),
                    {"id": "", "type": "custom", "custom": {"name": "h", "input": 'say "A"'}},
                ],
            },
            {"role": "tool", "tool_call_id": "c2", "content": "7", "name": "wrong"},
            {"role": "tool", "tool_call_id": "c3", "content": [{"type": "text", "text": "8"}]},
            {"role": "tool", "tool_call_id": "c4", "content": "9", "name": "own"},
        ]
        calling, *answers = turns_of(asked(messages))
        custom = Call("call_0_2", "h", r'{"input":"say \"A\""}')
        assert calling.calls == (Call("c1", "f", '{"x":1}'), Call("c2", "g", "{}"), custom)
        assert answers == [
            Turn("tool", ("7",), (), "c2", "g"),
            Turn("tool", ("8",), (), "c3", ""),
            Turn("tool", ("9",), (), "c4", "own"),
        ]

    def test_a_reused_id_is_the_latest_calls(self) -> None:
        first, second = ({"role": "assistant", "tool_calls": [called("c", name)]} for name in "fg")
        answer = {"role": "tool", "tool_call_id": "c", "content": "7"}
        assert [one.name for one in turns_of(asked([first, answer, second, answer]))] == ["", "f", "", "g"]

    def test_legacy_calls(self) -> None:
        messages = [
            USER,
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}},
            {"role": "function", "name": "f", "content": None},
            {"role": "function", "name": "g", "content": "7"},
        ]
        _, calling, answer, other = turns_of(asked(messages))
        assert calling == Turn("assistant", (), (Call("call_1", "f", "{}"),))
        assert answer == Turn("tool", (), (), "call_1", "f")
        assert other.call_id == "call_1"

    def test_reasoning(self) -> None:
        assert turn(role="assistant", content="A", reasoning_content="T", reasoning="U").reasoning == "T"
        assert turn(role="assistant", content="A", reasoning="U").reasoning == "U"
        assert turn(role="assistant", content="A", reasoning={"odd": [1]}).reasoning == ""
        assert turn(role="assistant", content="A").reasoning == ""

    def test_what_providers_want_back(self) -> None:
        extra = {"google": {"thought_signature": "s"}}
        message = turn(
            role="assistant", content="A", extra_content=extra, tool_calls=[called("c1", extra_content=extra)]
        )
        raw = Raw(json.dumps(extra).encode())
        assert message.extra == {"extra_content": raw}
        assert message.calls[0].extra == {"extra_content": raw}
        bare = turn(role="assistant", content="A", extra_content=None, tool_calls=[called("c1")])
        assert bare.extra == bare.calls[0].extra == {}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("data:image/png;base64,iVBO", ("image/png", "iVBO")),
        ("data:text/plain;charset=utf-8;base64,eA==", ("text/plain", "eA==")),
        ("data:;base64,eA==", ("", "eA==")),
        ("data:text/plain,x", ("", "")),
        ("data:image/png;base64", ("", "")),
        ("https://x/y,z;base64,", ("", "")),
        ("", ("", "")),
    ],
)
def test_data_urls(url: str, expected: tuple[str, str]) -> None:
    assert data_url(url) == expected


class TestTools:
    SCHEMA = b'{"type" : "object", "n":1.0}'

    def test_declarations(self) -> None:
        body = (
            b'{"messages":[{"role":"user","content":"Q"}],"tools":[{"type":"function","function":{"name":"f",'
            b'"description":"d","parameters":'
            + self.SCHEMA
            + b',"strict":true}},{"type":"function","function":'
            b'{"name":"g","parameters":null,"strict":null}},{"type":"custom","custom":{"name":"c"}}],'
            b'"functions":[{"name":"h"}]}'
        )
        request = parse_request(body)
        assert isinstance(request, ChatRequest)
        tools = tools_of(request)
        assert tools == [Tool("f", "d", Raw(self.SCHEMA), True), Tool("g"), Tool("h")]
        assert tools[0].parameters is not None
        assert bytes(tools[0].parameters) == self.SCHEMA

    def test_none(self) -> None:
        assert tools_of(asked()) == []

    NAMED: Any = {"type": "function", "function": {"name": "f"}}  # noqa: RUF012  # nobody changes it

    @pytest.mark.parametrize(
        ("choice", "expected"),
        [
            ("auto", ToolChoice()),
            ("none", ToolChoice("none")),
            ("required", ToolChoice("required")),
            ("any", ToolChoice("required")),
            (NAMED, ToolChoice("required", ("f",))),
            ({"type": "function", "name": "f"}, ToolChoice("required", ("f",))),
            ({"type": "function"}, ToolChoice("required")),
            (
                {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED, {}]}},
                ToolChoice("auto", ("f",)),
            ),
            (
                {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "required", "tools": [{"type": "function", "name": "g"}]},
                },
                ToolChoice("required", ("g",)),
            ),
            ({"type": "allowed_tools"}, ToolChoice()),
            ({"type": 5}, None),
            ({"function": []}, None),
            (None, None),
        ],
    )
    def test_choice(self, choice: object, expected: object) -> None:
        assert tool_choice_of(asked(tools=[self.NAMED], tool_choice=choice)) == expected

    @pytest.mark.parametrize(
        ("choice", "expected"),
        [("none", ToolChoice("none")), ({"name": "f"}, ToolChoice("required", ("f",))), ({"name": 1}, None)],
    )
    def test_legacy_choice(self, choice: object, expected: object) -> None:
        assert tool_choice_of(asked(functions=[{"name": "f"}], function_call=choice)) == expected
        newer = asked(functions=[{"name": "f"}], function_call=choice, tool_choice="auto")
        assert tool_choice_of(newer) == ToolChoice()

    def test_parallel_calls(self) -> None:
        for said in (True, False, None):
            assert parallel_calls_of(asked(tools=[self.NAMED], parallel_tool_calls=said)) is said

    @given(JSON)
    def test_any_choice_can_be_read(self, choice: object) -> None:
        request = ChatRequest(fields={"tool_choice": Raw(json.dumps(choice).encode())})
        assert isinstance(tool_choice_of(request), ToolChoice | None)


class TestResponseFormat:
    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            (None, None),
            ({"type": "text"}, None),
            ({"type": "unheard_of", "json_schema": {"name": "n"}}, None),
            ({"type": "json_object", "json_schema": None}, ResponseFormat()),
            ({"type": "json_schema", "json_schema": {"name": "n"}}, ResponseFormat(None, "n")),
            (
                {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
                },
                ResponseFormat(Raw(b'{"type": "object"}'), "n", True),
            ),
            (
                {"type": "json_schema", "json_schema": {"name": "n", "schema": None, "strict": False}},
                ResponseFormat(None, "n"),
            ),
        ],
    )
    def test_what_is_asked_for(self, wanted: object, expected: object) -> None:
        assert response_format_of(asked(response_format=wanted)) == expected


class TestOptions:
    def test_none_said(self) -> None:
        assert options_of(asked()) == Options()

    def test_all(self) -> None:
        request = asked(
            max_completion_tokens=5,
            temperature=1,
            top_p=0.5,
            top_k=3,
            seed=-7,
            frequency_penalty=-1,
            presence_penalty=2,
            logprobs=True,
            top_logprobs=2,
            stop=["a", "b"],
            n=2,
            user="u",
            safety_identifier="s",
        )
        assert options_of(request) == Options(
            max_tokens=5,
            temperature=1.0,
            top_p=0.5,
            top_k=3,
            seed=-7,
            frequency_penalty=-1.0,
            presence_penalty=2.0,
            logprobs=True,
            top_logprobs=2,
            stop=("a", "b"),
            n=2,
            user="u",
        )

    def test_other_spellings(self) -> None:
        options = options_of(asked(max_tokens=6, stop="END", safety_identifier="s", logprobs=False))
        assert (options.max_tokens, options.stop, options.user, options.logprobs) == (6, ("END",), "s", False)

    @pytest.mark.parametrize("top_k", ["3", 2.5, [], True])
    def test_what_is_none_of_openais_fields_may_be_anything(self, top_k: object) -> None:
        assert options_of(asked(top_k=top_k)).top_k is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"x":1}', b'{"x":1}'),
        (' \n{"x" : 1.0}\n', b'{"x" : 1.0}'),
        ("", b"{}"),
        ("  ", b"{}"),
        ("[1]", b'{"value":[1]}'),
        ('"x"', b'{"value":"x"}'),
        ("null", b'{"value":null}'),
        ("not JSON", b'{"value":"not JSON"}'),
        ('{"x":', b'{"value":"{\\"x\\":"}'),
        ("1e999", b'{"value":"1e999"}'),
        ('{"é":"😀"}', '{"é":"😀"}'.encode()),
    ],
)
def test_arguments_are_objects(text: str, expected: bytes) -> None:
    assert bytes(arguments_object(text)) == expected


def test_arguments_nested_too_deeply_are_text() -> None:
    text = "[" * 100_000
    assert json.loads(bytes(arguments_object(text))) == {"value": text}


@given(JSON | st.dictionaries(st.text(max_size=3), JSON, max_size=3))
def test_arguments_keep_their_value(value: object) -> None:
    back = json.loads(bytes(arguments_object(json.dumps(value))))
    assert back == (value if isinstance(value, dict) else {"value": value})


def test_what_a_format_leaves_out() -> None:
    request = asked(stream=True, stop="END", top_p=1, odd=1, model="m", reasoning_effort="low", logit_bias={})
    assert ignored(request, ALWAYS | {"stop", "top_p"}) == ("odd", "logit_bias")


class TestWholeAnswersAsStreams:
    def test_an_answer(self) -> None:
        chunks = [
            Chunk((Delta(content="<A"), Delta(1, content="B")), "c1", 5, "m"),
            Chunk((Delta(reasoning="T", tools=(ToolFragment(None, "x", "f"),)),)),
            Chunk((Delta(finish="end_turn"), Delta(1, finish="max_tokens"))),
            Chunk(usage=Usage(1, 2, 3)),
            Chunk(done=True),
        ]
        out = completed(chunks)
        assert isinstance(out, Completion)
        assert (out.id, out.created, out.model, out.usage) == ("c1", 5, "m", Usage(1, 2, 3))
        assert out.choices == (
            CompletionChoice(0, "<A", "T", tools=(ToolFragment(0, "x", "f", "{}"),), finish="tool_calls"),
            CompletionChoice(1, "B", finish="length"),
        )

    def test_without_a_finish_it_is_complete_all_the_same(self) -> None:
        out = completed([Chunk((Delta(content="A"),))])
        assert isinstance(out, Completion)
        assert out.choices == (CompletionChoice(0, "A"),)

    def test_an_error_in_it(self) -> None:
        error = Failure(FailureClass.OVERLOADED, "Busy.")
        assert completed([Chunk((Delta(content="A"),)), Chunk(failure=error), Chunk(done=True)]) is error

    def test_a_finish_that_admits_to_one(self) -> None:
        out = completed([Chunk((Delta(content="A", finish="MALFORMED_FUNCTION_CALL"),))])
        assert isinstance(out, Failure)
        assert out.kind is FailureClass.TOOL_GENERATION

    @pytest.mark.parametrize("chunks", [[], [Chunk()], [Chunk((Delta(role=True),)), Chunk(done=True)]])
    def test_nothing(self, chunks: list[Chunk]) -> None:
        out = completed(chunks)
        assert isinstance(out, Failure)
        assert (out.kind, out.code) == (FailureClass.EMPTY, "bad_upstream_response")
