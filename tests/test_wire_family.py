"""OpenAI's format as its compatible providers take it: what each quirk changes, and that nothing else does."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from wirestream import events, translate

from gwproto.config import Quirks
from gwproto.wire.neutral import ChatRequest, Completion, EncodedRequest, Rendering
from gwproto.wire.openai.adapt import adapt, short_id, without_keywords
from gwproto.wire.openai.completion import decode_completion
from gwproto.wire.openai.parts import tool_fragment
from gwproto.wire.openai.request import encode_request, parse_request
from gwproto_ops.deployment import known_providers

KNOWN = known_providers()

# The request that every format's golden is made from.
SOURCE = (
    b'{"model":"m","messages":[{"role":"system","content":"S"},{"role":"user","content":[{"type":"text","text":"Q"},'
    b'{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBO"}}]},{"role":"assistant","content":null,'
    b'"tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{\\"x\\":1}"}},'
    b'{"id":"call_2","type":"function","function":{"name":"g","arguments":""}}]},'
    b'{"role":"tool","tool_call_id":"call_1","content":"7"},'
    b'{"role":"tool","tool_call_id":"call_2","content":"{\\"ok\\":true}"},{"role":"user","content":"Go"}],'
    b'"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object",'
    b'"properties":{"x":{"type":"integer"}},"additionalProperties":false},"strict":true}},'
    b'{"type":"function","function":{"name":"g"}}],"tool_choice":"required","parallel_tool_calls":false,'
    b'"max_completion_tokens":50,"stop":"END","temperature":1.5,"reasoning_effort":null,"user":"u1","store":false,'
    b'"seed":7}'
)
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
USER = {"role": "user", "content": "Q"}
KEYS = frozenset(("role", "content", "name", "tool_calls", "tool_call_id"))


def encoded(body: object, quirks: Quirks | None = None, model: str = "m") -> EncodedRequest:
    request = parse_request(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert isinstance(request, ChatRequest), request
    return encode_request(request, Rendering(model=model, quirks=quirks or Quirks()))


def sent(body: object, quirks: Quirks | None = None) -> Any:
    return json.loads(encoded(body, quirks).body)


def turns(*messages: object, **quirks: Any) -> Any:
    """What becomes of these messages."""
    return sent({"messages": list(messages)}, Quirks(**quirks))["messages"]


def offered(tools: object, choice: object = None, **quirks: Any) -> Any:
    """What becomes of these tools, with the rest of the request."""
    return sent({"messages": [USER], "tools": tools, "tool_choice": choice}, Quirks(**quirks))


class TestMistral:
    @pytest.mark.golden("Q3")
    def test_the_golden_request(self) -> None:
        first, second = short_id("call_1"), short_id("call_2")
        result = encoded(SOURCE, KNOWN["mistral"].quirks)
        assert result.path == "/chat/completions"
        assert set(result.dropped) == {"user", "store"}
        assert json.loads(result.body) == {
            "model": "m",
            "messages": [
                {"role": "system", "content": "S"},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Q"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
                    ],
                },
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [
                        {
                            "id": first,
                            "type": "function",
                            "function": {"name": "f", "arguments": '{"x":1}'},
                        },
                        {"id": second, "type": "function", "function": {"name": "g", "arguments": "{}"}},
                    ],
                },
                {"role": "tool", "tool_call_id": first, "content": "7", "name": "f"},
                {"role": "tool", "tool_call_id": second, "content": '{"ok":true}', "name": "g"},
                {"role": "user", "content": "Go"},
            ],
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "f",
                        "description": "d",
                        "parameters": {
                            "type": "object",
                            "properties": {"x": {"type": "integer"}},
                            "additionalProperties": False,
                        },
                        "strict": True,
                    },
                },
                {
                    "type": "function",
                    "function": {"name": "g", "parameters": {"type": "object", "properties": {}}},
                },
            ],
            "tool_choice": "any",
            "parallel_tool_calls": False,
            "max_tokens": 50,
            "stop": "END",
            "temperature": 1.5,
            "random_seed": 7,
        }

    def test_nothing_goes_out_that_is_a_422(self) -> None:
        body = {
            "messages": [
                USER,
                {"role": "assistant", "content": "A", "name": "n", "refusal": None, "reasoning_content": "T"},
                {"role": "user", "name": "me", "content": "Go", "cache": 1},
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
            "logprobs": False,
            "logit_bias": {},
            "service_tier": "auto",
            "repetition": 1,
            "safe_prompt": True,
            "prediction": {"type": "content", "content": "x"},
        }
        result = encoded(body, KNOWN["mistral"].quirks)
        assert json.loads(result.body) == {
            "messages": [USER, {"role": "assistant", "content": "A"}, {"role": "user", "content": "Go"}],
            "stream": True,
            "model": "m",
            "safe_prompt": True,
            "prediction": {"type": "content", "content": "x"},
        }
        assert set(result.dropped) == {
            "stream_options",
            "logprobs",
            "logit_bias",
            "service_tier",
            "repetition",
        }

    def test_a_last_turn_to_go_on_from_is_marked(self) -> None:
        said: dict[str, object] = {"role": "assistant", "content": "{"}
        marked, unmarked = said | {"prefix": True}, said | {"prefix": False}
        for last, expected in ((said, marked), (marked, marked), (unmarked, unmarked)):
            after = sent({"messages": [USER, said, USER, last]}, KNOWN["mistral"].quirks)["messages"]
            assert after == [USER, said, USER, expected]
        calling = {"role": "assistant", "content": "", "tool_calls": [CALL | {"id": "123456789"}]}
        empty = {"role": "assistant", "content": ""}
        assert sent({"messages": [USER, calling]}, KNOWN["mistral"].quirks)["messages"] == [USER, calling]
        assert sent({"messages": [empty]}, KNOWN["mistral"].quirks)["messages"] == []


class TestWithoutQuirks:
    BODY = (
        b'{"model":"x", "messages": [ {"role":"assistant","content":"","refusal":null},\n'
        b' {"content":"Q","role":"user","odd":1.0e0} ],"odd":[1.50, {"a" :"\\u00e9"}],"tools": [ {"type":"function",'
        b'"function":{"name":"f","parameters":null}} ],"tool_choice":{"type":"allowed_tools"},"logprobs":true}'
    )

    def test_every_field_goes_on_byte_for_byte(self) -> None:
        result = encoded(self.BODY)
        before = msgspec.json.decode(self.BODY, type=dict[str, Raw])
        after = msgspec.json.decode(result.body, type=dict[str, Raw])
        assert result.dropped == ()
        assert list(after) == list(before)
        assert {name: bytes(value) for name, value in after.items() if name != "model"} == {
            name: bytes(value) for name, value in before.items() if name != "model"
        }
        assert after["model"] == Raw(b'"m"')

    @pytest.mark.parametrize("name", ["openai", "azure", "openrouter", "vllm", "lm_studio"])
    def test_so_do_the_messages_of_those_that_know_it_all(self, name: str) -> None:
        after = msgspec.json.decode(encoded(self.BODY, KNOWN[name].quirks).body, type=dict[str, Raw])
        before = msgspec.json.decode(self.BODY, type=dict[str, Raw])
        assert all(after[field] == before[field] for field in ("messages", "tools", "tool_choice", "odd"))

    def test_what_another_provider_wants_back_stays_here(self) -> None:
        extra = {"google": {"thought_signature": "s"}}
        message = {"role": "assistant", "content": "A", "extra_content": extra, "reasoning": "T"}
        call = {"role": "assistant", "tool_calls": [{**CALL, "extra_content": extra}]}
        assert turns(USER, message, call) == [
            USER,
            {"role": "assistant", "content": "A", "reasoning": "T"},
            {"role": "assistant", "tool_calls": [CALL]},
        ]
        assert turns(message, call, extra_content=True) == [message, call]


class TestMessages:
    def test_keys_that_are_not_known_go(self) -> None:
        message = {"role": "user", "content": "Q", "name": "n", "odd": 1}
        assert turns(message, message_keys=frozenset(("role", "content"))) == [USER]
        assert turns(message, message_keys=KEYS) == [{"role": "user", "content": "Q", "name": "n"}]

    def test_nulls_go_but_for_contents(self) -> None:
        call = {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None}
        assert turns(call, message_keys=KEYS) == [
            {"role": "assistant", "content": None, "tool_calls": [CALL]}
        ]

    def test_no_null_content(self) -> None:
        call = {"role": "assistant", "tool_calls": [CALL]}
        filled = [{"role": "assistant", "tool_calls": [CALL], "content": ""}]
        assert turns(call, null_content=False) == filled
        assert turns(call | {"content": None}, null_content=False) == filled
        assert turns(call, null_content=True) == [call]

    def test_turns_without_anything_in_them_go(self) -> None:
        thought: dict[str, Any] = {"content": None, "reasoning_content": "T", "tool_calls": []}
        empties: tuple[dict[str, Any], ...] = ({"content": ""}, {"content": "", "name": "n"}, thought)
        for empty in empties:
            assert turns(USER, {"role": "assistant", **empty}, USER, message_keys=KEYS) == [USER, USER]
        assert turns({"role": "user", "content": ""}, message_keys=KEYS) == [{"role": "user", "content": ""}]

    def test_an_empty_list_of_calls_goes(self) -> None:
        message = {"role": "assistant", "content": "A", "tool_calls": []}
        assert turns(message, message_keys=KEYS) == [{"role": "assistant", "content": "A"}]

    def test_developers(self) -> None:
        message = {"role": "developer", "content": "D"}
        assert turns(message, developer_role=False) == [{"role": "system", "content": "D"}]
        assert turns(message, developer_role=True, null_content=False) == [message]

    def test_refusals_are_text(self) -> None:
        message = {"role": "assistant", "content": None, "refusal": "No"}
        assert turns(message, message_keys=KEYS) == [{"role": "assistant", "content": "No"}]
        assert turns(message | {"content": "A"}, message_keys=KEYS) == [{"role": "assistant", "content": "A"}]
        parts = [{"type": "text", "text": "A"}, {"type": "refusal", "refusal": "No"}]
        assert turns({"role": "assistant", "content": parts}, message_keys=KEYS) == [
            {"role": "assistant", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "No"}]}
        ]
        assert turns(message, null_content=True, developer_role=False) == [
            {"role": "assistant", "content": None, "refusal": "No"}
        ]

    def test_texts_are_joined_where_no_parts_are_taken(self) -> None:
        texts = [{"type": "text", "text": "A"}, {"type": "text", "text": "B", "image_url": None}]
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}, "text": None}
        assert turns({"role": "user", "content": texts}, text_parts=False) == [
            {"role": "user", "content": "A\nB"}
        ]
        assert turns({"role": "user", "content": [*texts, image]}, text_parts=False) == [
            {"role": "user", "content": [*texts, image]}
        ]
        assert turns({"role": "user", "content": []}, text_parts=False) == [{"role": "user", "content": ""}]

    def test_parts_lose_the_marks_of_caches(self) -> None:
        part = {"type": "text", "text": "A", "prompt_cache_breakpoint": {"mode": "explicit"}}
        assert turns({"role": "user", "content": [part]}, message_keys=KEYS) == [
            {"role": "user", "content": [{"type": "text", "text": "A"}]}
        ]
        assert turns({"role": "user", "content": [part]}, developer_role=False) == [
            {"role": "user", "content": [part]}
        ]

    @pytest.mark.parametrize(
        ("quirks", "plain", "calling"),
        [
            ({"message_keys": KEYS}, False, False),
            ({"message_keys": KEYS, "replay": "tools"}, False, True),
            ({"replay": "tools"}, False, True),
            ({"message_keys": KEYS, "replay": "all"}, True, True),
            ({"replay": "nothing"}, False, False),
            ({"developer_role": False}, True, True),
        ],
    )
    def test_reasoning_of_earlier_turns(self, quirks: dict[str, Any], plain: bool, calling: bool) -> None:
        thought = {"reasoning_content": "T", "reasoning": "T", "reasoning_details": [{"type": "x"}]}
        said = {"role": "assistant", "content": "A"}
        called = {"role": "assistant", "content": "A", "tool_calls": [CALL]}
        assert turns(said | thought, called | thought, **quirks) == [
            said | (thought if plain else {}),
            called | (thought if calling else {}),
        ]

    def test_system_texts_go_to_the_first_user(self) -> None:
        system = {"role": "system", "content": "S"}
        parts = {"role": "system", "content": [{"type": "text", "text": "P"}, {"type": "text", "text": ""}]}
        said = {"role": "assistant", "content": "A"}
        image = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
        assert turns(said, USER, system_role=False) == [said, USER]
        assert turns(system, said, USER, parts, USER, system_role=False) == [
            said,
            {"role": "user", "content": "S\n\nP\n\nQ"},
            USER,
        ]
        assert turns(system, {"role": "user", "content": [image]}, system_role=False) == [
            {"role": "user", "content": [{"type": "text", "text": "S"}, image]}
        ]
        assert turns(system, said, system_role=False) == [{"role": "user", "content": "S"}, said]
        developer = {"role": "developer", "content": "D"}
        assert turns(developer, USER, system_role=False, developer_role=False) == [
            {"role": "user", "content": "D\n\nQ"}
        ]


class TestCalls:
    def test_answers_name_their_function(self) -> None:
        call = {"role": "assistant", "content": "A", "tool_calls": [CALL]}
        tool = {"role": "tool", "tool_call_id": "c1", "content": "7", "name": "wrong"}
        other = {"role": "tool", "tool_call_id": "c2", "content": "7"}
        assert turns(call, tool, other, tool_names=True) == [call, {**tool, "name": "f"}, other]
        assert turns(call, tool, message_keys=KEYS) == [call, tool]
        assert turns(call, tool, message_keys=KEYS - {"name"}, tool_names=True) == [
            call,
            {**tool, "name": "f"},
        ]
        named = {**other, "name": "own"}
        assert turns(named, tool_names=True, message_keys=KEYS - {"name"}) == [named]

    def test_ids_of_nine(self) -> None:
        call = {"role": "assistant", "content": "A", "tool_calls": [CALL]}
        tool = {"role": "tool", "tool_call_id": "c1", "content": "7"}
        called, answered = turns(call, tool, tool_ids="alphanumeric9")
        assert called["tool_calls"][0]["id"] == answered["tool_call_id"] == short_id("c1")
        assert turns(call, tool, tool_ids="any", null_content=False) == [call, tool]

    def test_keys_of_calls(self) -> None:
        call = {"role": "assistant", "content": "A", "tool_calls": [{**CALL, "index": 0, "extra": None}]}
        assert turns(call, message_keys=KEYS) == [{**call, "tool_calls": [CALL]}]
        assert turns(call, null_content=False) == [{**call, "tool_calls": [{**CALL, "index": 0}]}]

    def test_calls_of_custom_tools_are_left_alone(self) -> None:
        custom = {"id": "c1", "type": "custom", "custom": {"name": "f", "input": ""}, "function": None}
        del custom["function"]
        call = {"role": "assistant", "content": "A", "tool_calls": [{**custom, "function": None}]}
        assert turns(call, message_keys=KEYS) == [{**call, "tool_calls": [custom]}]

    def test_silent_calls_have_an_empty_object(self) -> None:
        silent = {**CALL, "function": {"name": "f", "arguments": ""}}
        call = {"role": "assistant", "content": "A", "tool_calls": [silent]}
        assert turns(call, message_keys=KEYS) == [{**call, "tool_calls": [CALL]}]

    def test_calls_without_a_signature_get_what_stands_for_one(self) -> None:
        """Google: the first call of a turn carries it; without any the request is a 400."""
        signed = {**CALL, "extra_content": {"google": {"thought_signature": "s"}}}
        dummy = {"google": {"thought_signature": "skip_thought_signature_validator"}}
        foreign = {**CALL, "extra_content": {"other": 1}}

        def calls(*calls: object, **quirks: Any) -> Any:
            message = {"role": "assistant", "content": "A", "tool_calls": list(calls)}
            return turns(message, **quirks)[0]["tool_calls"]

        wanted = {"signatures": True, "extra_content": True}
        assert calls(signed, CALL, **wanted) == [signed, CALL]
        assert calls(CALL, CALL, **wanted) == [{**CALL, "extra_content": dummy}, CALL]
        assert calls(foreign, **wanted) == [{**CALL, "extra_content": dummy}]
        assert calls(CALL, extra_content=True, null_content=False) == [CALL]
        assert calls(signed, signatures=True) == [CALL]

    def test_shipped_gemini_is_given_its_signatures(self) -> None:
        compat = KNOWN["gemini_compat"]
        assert compat.quirks.extra_content
        model = next(one for one in compat.models if one.upstream == "gemini-3-flash-preview")
        assert model.quirks.signatures

    @pytest.mark.parametrize("id_", ["abc123XYZ", "000000000"])
    def test_an_id_that_is_one_stays(self, id_: str) -> None:
        assert short_id(id_) == id_

    @given(st.text(max_size=12))
    def test_short_ids(self, id_: str) -> None:
        made = short_id(id_)
        assert len(made) == 9
        assert made.isascii()
        assert made.isalnum()
        assert short_id(id_) == short_id(made) == made

    def test_short_ids_stay_as_they_are_from_release_to_release(self) -> None:
        made = [short_id(id_) for id_ in ("", "call_1", "abcdefgh", "ébcdefghi", "abcdefgh_")]
        assert made == ["gl0rb63P6", "t8wLHgKZJ", "Sif9EKdbC", "BvDbZX4nS", "WpJOim8Fi"]


class TestLegacyFunctions:
    OLD = (
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "7"},
    )

    def test_calls_and_answers(self) -> None:
        call = {**CALL, "id": "call_1"}
        assert turns(USER, *self.OLD, legacy_functions=False) == [
            USER,
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "name": "f", "content": "7", "tool_call_id": "call_1"},
        ]
        assert turns(*self.OLD, legacy_functions=True, null_content=True) == [*self.OLD]

    def test_answers_without_a_call_or_content(self) -> None:
        answer = {"role": "function", "name": "f", "content": None}
        assert turns(USER, answer, legacy_functions=False) == [
            USER,
            {"role": "tool", "name": "f", "tool_call_id": "call", "content": ""},
        ]

    def test_declarations_and_choice(self) -> None:
        f = {"name": "f", "parameters": {"type": "object"}}
        body = {"messages": [USER], "functions": [f], "function_call": {"name": "f"}}
        after = sent(body, Quirks(legacy_functions=False))
        assert after["tools"] == [{"type": "function", "function": f}]
        assert after["tool_choice"] == {"type": "function", "function": {"name": "f"}}
        assert "functions" not in after
        assert "function_call" not in after
        assert (
            sent({**body, "function_call": "none"}, Quirks(legacy_functions=False))["tool_choice"] == "none"
        )
        assert sent(body) == {"model": "m", **body}

    def test_both_at_once(self) -> None:
        f, g = {"name": "f"}, {"name": "g"}
        body = {
            "messages": [USER],
            "tools": [{"type": "function", "function": f}],
            "functions": [g],
            "tool_choice": "auto",
            "function_call": "none",
        }
        after = sent(body, Quirks(legacy_functions=False))
        assert [tool["function"]["name"] for tool in after["tools"]] == ["f", "g"]
        assert after["tool_choice"] == "auto"


NAMED = {"type": "function", "function": {"name": "f"}}
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}}


class TestTools:
    @pytest.mark.parametrize(
        ("words", "choice", "expected"),
        [
            ({"auto": "auto", "required": "any"}, "required", "any"),
            ({"auto": "auto", "required": "any"}, "auto", "auto"),
            ({"auto": "auto", "required": "any"}, "any", "any"),
            ({"auto": "auto"}, "required", None),
            ({"auto": "auto"}, NAMED, None),
            ({"named": "named"}, NAMED, NAMED),
            ({"named": "required"}, NAMED, "required"),
            ({"named": "named", "auto": "auto"}, ALLOWED, None),
            ({}, "auto", None),
            (None, ALLOWED, ALLOWED),
            (None, "any", "any"),
        ],
    )
    def test_choices_in_the_providers_words(self, words: Any, choice: object, expected: object) -> None:
        after = offered([TOOL], choice, tool_choices=words)
        assert after.get("tool_choice") == expected
        assert after["tools"] == [TOOL]

    def test_a_choice_of_none_where_there_is_no_word_for_it(self) -> None:
        """The tools are not offered then: they must not be called."""
        body = {
            "messages": [USER],
            "tools": [TOOL],
            "tool_choice": "none",
            "parallel_tool_calls": True,
            "top_k": 1,
        }
        result = encoded(body, Quirks(tool_choices={"auto": "auto"}))
        assert json.loads(result.body) == {"messages": [USER], "top_k": 1, "model": "m"}
        assert result.dropped == ("tool_choice", "tools", "parallel_tool_calls")
        only = encoded(
            {"messages": [USER], "tools": [TOOL], "tool_choice": "required"}, Quirks(tool_choices={})
        )
        assert only.dropped == ("tool_choice",)

    def test_keys_of_functions(self) -> None:
        tool = {"type": "function", "function": {"name": "f", "strict": True, "odd": 1, "parameters": None}}
        keys = frozenset(("name", "parameters"))
        assert offered([tool], tool_keys=keys)["tools"] == [TOOL]
        assert offered([tool], tool_keys=keys | {"strict"})["tools"][0]["function"]["strict"] is True
        assert offered([tool])["tools"] == [tool]

    def test_tools_that_are_no_functions_stay(self) -> None:
        search = {"type": "web_search", "filters": []}
        assert offered([search], tool_keys=frozenset(("name",)))["tools"] == [search]

    def test_keywords_of_schemas(self) -> None:
        schema = {
            "$schema": "s",
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "additionalProperties": {"$schema": 1, "enum": [{"$schema": 1}]},
                "list": {"items": [{"additionalProperties": {}}, True], "const": {"$schema": 2}},
            },
            "$defs": {"$schema": {"default": {"$schema": 3}, "examples": [{"$schema": 4}]}},
            "definitions": "odd",
            "anyOf": [{"$schema": "s", "type": "null"}],
        }
        plainer = {
            "type": "object",
            "properties": {
                "additionalProperties": {"enum": [{"$schema": 1}]},
                "list": {"items": [{}, True], "const": {"$schema": 2}},
            },
            "$defs": {"$schema": {"default": {"$schema": 3}, "examples": [{"$schema": 4}]}},
            "definitions": "odd",
            "anyOf": [{"type": "null"}],
        }
        refused = frozenset(("$schema", "additionalProperties"))
        assert without_keywords(schema, refused) == plainer
        tool = {"type": "function", "function": {"name": "f", "parameters": schema, "strict": True}}
        function = {"name": "f", "parameters": plainer, "strict": True}
        assert offered([tool], schema_drop=refused)["tools"] == [{"type": "function", "function": function}]
        bare = {"type": "function", "function": {"name": "f"}}
        assert offered([bare], schema_drop=refused)["tools"] == [bare]

        wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
        after = sent({"messages": [USER], "response_format": wanted}, Quirks(schema_drop=refused))
        assert after["response_format"] == {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": plainer, "strict": True},
        }
        for plain in ({"type": "json_object"}, {"type": "json_schema", "json_schema": {"name": "n"}}):
            body = {"messages": [USER], "response_format": plain}
            assert sent(body, Quirks(schema_drop=refused))["response_format"] == plain
        assert sent({"messages": [USER], "response_format": wanted})["response_format"] == wanted

    def test_a_schema_with_an_impossible_number_is_left_to_the_provider(self) -> None:
        body = (
            b'{"messages":[{"role":"user","content":"Q"}],"tools":[{"type":"function","function":{"name":"f",'
            b'"parameters":{"$schema":"s","maximum":1e999}}}],"tool_choice":{"type":"function","x":1e999}}'
        )
        result = encoded(body, Quirks(schema_drop=frozenset(("$schema",)), tool_choices={"named": "named"}))
        assert b'"parameters":{"$schema":"s","maximum":1e999}' in result.body
        assert result.dropped == ("tool_choice",)


def test_fields_by_other_names_and_fields_that_go() -> None:
    body = {"messages": [USER], "max_completion_tokens": 5, "seed": 1, "user": "u", "odd": 1, "extra": 2}
    result = encoded(
        body,
        Quirks(
            rename={"max_completion_tokens": "max_tokens"},
            drop=frozenset(("user",)),
            open=False,
            keep=frozenset(("extra",)),
        ),
    )
    assert json.loads(result.body) == {
        "messages": [USER],
        "seed": 1,
        "extra": 2,
        "max_tokens": 5,
        "model": "m",
    }
    assert result.dropped == ("user", "odd")


@pytest.mark.parametrize("name", [name for name, entry in KNOWN.items() if entry.compatible])
def test_what_most_refuse_goes_to_no_compatible_provider(name: str) -> None:
    quirks = KNOWN[name].quirks
    body = {
        "messages": [{"role": "developer", "content": [{"type": "text", "text": "D"}]}, USER],
        "store": True,
        "metadata": {"a": "b"},
        "modalities": ["text"],
        "verbosity": "low",
        "web_search_options": {},
        "safety_identifier": "s",
        "stream": True,
        "stream_options": {"include_obfuscation": True},
        "functions": [{"name": "f", "strict": True}],
        "function_call": "auto",
    }
    result = encoded(body, quirks)
    after = json.loads(result.body)
    refused = {"store", "metadata", "modalities", "verbosity", "web_search_options", "safety_identifier"}
    refused -= quirks.keep or set()
    assert not refused & after.keys()
    assert refused <= set(result.dropped)
    role = "system" if quirks.developer_role is False else "developer"
    assert after["messages"][0] == {"role": role, "content": "D"}
    assert after["tools"][0]["function"]["parameters"] == {"type": "object", "properties": {}}
    options = after.get("stream_options")
    assert options == (None if quirks.stream_usage is False else {"include_usage": True})


# What Hypothesis puts together for the laws below.
ASSISTANTS: tuple[dict[str, Any], ...] = (
    {"content": ""},
    {"content": "A", "reasoning_content": "T", "name": "n"},
    {"content": None, "refusal": "No"},
    {"content": [{"type": "text", "text": "A"}, {"type": "refusal", "refusal": "No"}]},
    {"content": None, "tool_calls": [CALL, {**CALL, "id": "abcdefghi", "index": 1}], "reasoning": "T"},
    {"tool_calls": [{**CALL, "extra_content": {"google": {"thought_signature": "s"}}}]},
    {"content": None, "function_call": {"name": "f", "arguments": ""}},
    {"content": "A", "extra_content": {"x": 1}, "audio": None},
)
OTHERS: tuple[dict[str, Any], ...] = (
    {"role": "system", "content": "S"},
    {"role": "developer", "content": [{"type": "text", "text": "D"}]},
    {"role": "user", "content": "Q", "name": "n"},
    {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": "https://x/y"}},
            {"type": "text", "text": "Q"},
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "7"},
    {"role": "tool", "tool_call_id": "abcdefghi", "content": [{"type": "text", "text": "7"}], "name": "g"},
    {"role": "function", "name": "f", "content": "7"},
)
MESSAGES = st.lists(
    st.sampled_from([*({"role": "assistant", **one} for one in ASSISTANTS), *OTHERS]), min_size=1, max_size=6
)
FLAGS = st.sampled_from((None, True, False))
QUIRKS = st.builds(
    Quirks,
    message_keys=st.sampled_from((None, KEYS, KEYS - {"name"})),
    developer_role=FLAGS,
    system_role=FLAGS,
    null_content=FLAGS,
    extra_content=FLAGS,
    text_parts=FLAGS,
    tool_names=FLAGS,
    tool_ids=st.sampled_from((None, "any", "alphanumeric9")),
    tool_choices=st.sampled_from((None, {}, {"auto": "auto"}, {"required": "any", "named": "named"})),
    tool_keys=st.sampled_from((None, frozenset(("name", "parameters")))),
    legacy_functions=FLAGS,
    schema_drop=st.sampled_from((None, frozenset(("$schema",)))),
    replay=st.sampled_from((None, "nothing", "tools", "all")),
    signatures=FLAGS,
)
SCHEMAS: tuple[dict[str, Any], ...] = ({}, {"$schema": "s", "type": "object"}, {"items": [{"$schema": "s"}]})
REQUESTS = st.fixed_dictionaries(
    {"messages": MESSAGES},
    optional={
        "tools": st.just([TOOL]),
        "functions": st.sampled_from(SCHEMAS).map(lambda schema: [{"name": "g", "parameters": schema}]),
        "tool_choice": st.sampled_from(("auto", "none", "required", "any", NAMED)),
        "function_call": st.sampled_from(("auto", {"name": "g"})),
        "response_format": st.sampled_from(SCHEMAS).map(
            lambda schema: {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
        ),
    },
)


@given(REQUESTS, QUIRKS)
def test_adapting_twice_is_adapting_once(body: dict[str, Any], quirks: Quirks) -> None:
    fields = {name: Raw(json.dumps(value).encode()) for name, value in body.items()}
    adapt(fields, quirks, [], extra_content=True)
    once = {name: bytes(value) for name, value in fields.items()}
    dropped: list[str] = []
    adapt(fields, quirks, dropped, extra_content=True)
    assert {name: bytes(value) for name, value in fields.items()} == once
    assert dropped == []


@given(REQUESTS, st.sampled_from(sorted(KNOWN)))
def test_what_goes_out_is_a_request_again(body: dict[str, Any], name: str) -> None:
    """No shipped provider's quirks make anything that the gateway itself would refuse."""
    after = encoded(body, KNOWN[name].quirks)
    messages = json.loads(after.body)["messages"]
    if messages:  # only empty turns of the assistant leave none
        assert isinstance(parse_request(after.body), ChatRequest)


def test_an_id_spelled_null_is_none() -> None:
    """Mistral's SDK writes a missing id so."""
    fragment = tool_fragment(Raw(b'{"id":"null","index":0,"function":{"name":"f","arguments":{"x":1}}}'))
    assert fragment.id is None
    assert (fragment.index, fragment.name, fragment.arguments) == (0, "f", '{"x":1}')
    chunk = (
        b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"id":"null","function":{"name":"f","arguments":"{}"},'
        b'"index":%d}]},"finish_reason":null}]}\n\n'
    )
    stream = chunk % 0 + chunk % 1 + b"data: [DONE]\n\n"
    calls = [event for event in events(translate([stream])) if event[0] == "K"]
    assert [call[2] for call in calls] == [0, 1]
    assert "null" not in [call[3] for call in calls]
    assert calls[0][3] != calls[1][3]


def test_nor_is_it_one_where_nothing_else_is_odd() -> None:
    call = {**CALL, "id": "null"}
    head = {"id": "c1", "created": 1, "model": "m"}
    piece = {"index": 0, "delta": {"tool_calls": [{"index": 0, **call}]}, "finish_reason": None}
    chunk = {**head, "object": "chat.completion.chunk", "choices": [piece]}
    out = events(translate([b"data: " + json.dumps(chunk).encode() + b"\n\n", b"data: [DONE]\n\n"]))
    ((_, _, _, id_, _),) = (event for event in out if event[0] == "K")
    assert id_.startswith("call_")
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    answer = {**head, "object": "chat.completion", "choices": [choice]}
    completion = decode_completion(json.dumps(answer).encode())
    assert isinstance(completion, Completion)
    assert (completion.choices[0].tools[0].id or "").startswith("call_")
