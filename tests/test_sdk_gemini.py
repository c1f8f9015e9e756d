"""The google-genai package, against the simulated provider of its format and against this format's translation."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google import genai
from google.genai import errors, types
from pydantic import BaseModel

from gwproto.failures import Failure
from gwproto.testing import Data, End, Head, Knobs, Step
from gwproto.values import Headers
from gwproto.wire import gemini, openai
from gwproto.wire.neutral import Envelope, Rendering
from gwproto.wire.translate import StreamTranslator, error_body, translate_request, translate_response
from support.servers import Provider, hosting

pytestmark = pytest.mark.sockets

PIXEL = b"\x89PNG\r\n\x1a\n" + bytes(range(244, 256))
MODEL = "gemini-3-mock"
OLDER = "gemini-2.5-mock"
WEATHER = types.FunctionDeclaration(
    name="get_weather",
    description="The weather somewhere",
    parameters=types.Schema(
        type=types.Type.OBJECT, properties={"city": types.Schema(type=types.Type.STRING)}, required=["city"]
    ),
)


class Place(BaseModel):
    city: str
    days: int


def google(name: str, **knobs: Any) -> Provider:
    return Provider(name, Knobs(**knobs), (MODEL, OLDER), "gemini")


class Translated(Provider):
    """A provider of OpenAI's format that is spoken to in Google's."""

    def respond(self, method: str, target: str, headers: Headers, body: bytes, now: float) -> list[Step]:
        ours, theirs = gemini.DIALECT, openai.DIALECT
        encoded = translate_request(body, ours, theirs, Rendering(model=MODEL), target)
        if isinstance(encoded, Failure):
            return self._sent(400, error_body(encoded, ours))
        steps = super().respond("POST", f"/v1{encoded.path}", headers, encoded.body, now)
        head = steps[0].action
        assert isinstance(head, Head)
        events = [step.action.data for step in steps if isinstance(step.action, Data)]
        envelope = Envelope("r1", 1, MODEL)
        if "stream" in target:
            translator = StreamTranslator(theirs, ours, envelope)
            stream = [translator.receive(event) for event in events]
            return self._sent(200, *stream, translator.end())
        answer = translate_response(b"".join(events), theirs, ours, envelope)
        assert isinstance(answer, bytes), answer
        return self._sent(200, answer)

    def _sent(self, status: int, *data: bytes) -> list[Step]:
        return [
            Step(0.0, Head(status, ())),
            *(Step(0.0, Data(one)) for one in data if one),
            Step(0.0, End()),
        ]


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, str]]:
    providers = [
        google("good"),
        Translated("translated", models=(MODEL,)),
        google("locked", api_key="secret"),
        google("breaking", first_event_error=True),
        *(google(f"failing-{status}", status=status) for status in (400, 403, 404, 429, 500, 503)),
    ]
    with hosting(providers) as urls:
        yield {provider.name: url for provider, url in zip(providers, urls, strict=True)}


def connected(url: str, key: str = "key") -> genai.Client:
    base = url.removesuffix("/v1beta").removesuffix("/v1")
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=base))


@pytest.fixture(params=["good", "translated"])
def client(request: pytest.FixtureRequest, hosts: dict[str, str]) -> Iterator[genai.Client]:
    with connected(hosts[request.param]) as client:
        yield client


@pytest.fixture
def google_client(hosts: dict[str, str]) -> Iterator[genai.Client]:
    with connected(hosts["good"]) as client:
        yield client


Answer = types.GenerateContentResponse
Ask = Callable[..., Answer]


def whole(client: genai.Client, contents: Any, model: str = MODEL, **config: Any) -> Answer:
    return client.models.generate_content(
        model=model, contents=contents, config=types.GenerateContentConfig(**config)
    )


def streamed(client: genai.Client, contents: Any, model: str = MODEL, **config: Any) -> Answer:
    """The events of a stream as the one answer they make."""
    events = list(
        client.models.generate_content_stream(
            model=model, contents=contents, config=types.GenerateContentConfig(**config)
        )
    )
    last = events[-1]
    assert last.usage_metadata is not None
    every = [part for event in events for part in event.parts or ()]
    parts = [part for part in every if part.text != "" or part.thought_signature]
    assert last.candidates is not None
    assert last.candidates[0].content is not None
    last.candidates[0].content.parts = parts
    return last


both = pytest.mark.parametrize("ask", [whole, streamed])


def text_of(answer: Answer) -> str:
    return "".join(part.text or "" for part in answer.parts or () if not part.thought)


def finish_of(answer: Answer) -> str:
    assert answer.candidates is not None
    reason = answer.candidates[0].finish_reason
    assert reason is not None
    return reason.value


@both
def test_an_answer(client: genai.Client, ask: Ask) -> None:
    answer = ask(client, "Good morning", system_instruction="Be brief.", temperature=0.5, safety_settings=[])
    assert text_of(answer).startswith('You said "Good morning", and ')
    assert finish_of(answer) == "STOP"
    assert answer.model_version == MODEL
    assert answer.response_id
    usage = answer.usage_metadata
    assert usage is not None
    assert (usage.prompt_token_count, usage.candidates_token_count, usage.total_token_count) == (5, 12, 17)


@both
def test_tools_round_trip(client: genai.Client, ask: Ask) -> None:
    history: list[types.Content] = [types.UserContent("How is it in Paris?")]
    tools = [types.Tool(function_declarations=[WEATHER])]
    answer = ask(client, history, tools=tools)
    (part,) = [part for part in answer.parts or () if part.function_call]
    call = part.function_call
    assert call is not None
    assert (call.name, call.args) == ("get_weather", {"city": "Paris"})
    assert answer.candidates is not None
    assert answer.candidates[0].content is not None
    result = types.Part(
        function_response=types.FunctionResponse(id=call.id, name=call.name, response={"result": "sunny"})
    )
    history += [answer.candidates[0].content, types.UserContent([result])]
    assert text_of(ask(client, history, tools=tools)).startswith("The tool answered sunny, says ")


def test_calls_of_gemini_3_need_their_signature(google_client: genai.Client) -> None:
    call = types.Part(function_call=types.FunctionCall(name="get_weather", args={"city": "Rome"}))
    result = types.Part(
        function_response=types.FunctionResponse(name="get_weather", response={"result": "sunny"})
    )
    history = [types.UserContent("Q"), types.ModelContent([call]), types.UserContent([result])]
    tools = [types.Tool(function_declarations=[WEATHER])]
    assert whole(google_client, history, OLDER, tools=tools).text == "The tool answered sunny, says good."
    with pytest.raises(errors.ClientError, match="missing a thought_signature"):
        whole(google_client, history, tools=tools)


@both
def test_images(client: genai.Client, ask: Ask) -> None:
    parts = [types.Part.from_bytes(data=PIXEL, mime_type="image/png"), types.Part(text="What is it?")]
    assert "saw image/png of 28 characters." in text_of(ask(client, parts))
    linked = types.Part.from_uri(file_uri="https://example.com/a.png", mime_type="image/png")
    assert "saw https://example.com/a.png." in text_of(ask(client, [linked, parts[1]]))


@both
def test_json(client: genai.Client, ask: Ask) -> None:
    json_type = "application/json"
    answer = ask(client, "Rome", response_mime_type=json_type, response_schema=Place)
    assert json.loads(text_of(answer)) == {"city": "Rome", "days": 7}
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    answer = ask(client, "Rome", response_mime_type=json_type, response_json_schema=schema)
    assert json.loads(text_of(answer)) == {"n": 7}
    answer = ask(client, "Rome", response_mime_type=json_type)
    assert json.loads(text_of(answer))["echo"] == "Rome"


def test_a_parsed_answer(client: genai.Client) -> None:
    answer = whole(client, "Rome", response_mime_type="application/json", response_schema=Place)
    assert answer.parsed == Place(city="Rome", days=7)


@both
def test_thoughts(client: genai.Client, ask: Ask) -> None:
    config = types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW, include_thoughts=True)
    answer = ask(client, "Hm", thinking_config=config)
    thoughts = "".join(part.text or "" for part in answer.parts or () if part.thought)
    assert thoughts.endswith("low effort will do.")
    assert answer.usage_metadata is not None
    assert answer.usage_metadata.thoughts_token_count == 11


@both
def test_limits(client: genai.Client, ask: Ask) -> None:
    cut = ask(client, "Hi", max_output_tokens=3, top_k=40, top_p=0.5, seed=1)
    assert (text_of(cut), finish_of(cut)) == ('You said "', "MAX_TOKENS")
    stopped = ask(client, "Hi", stop_sequences=["Hi"])
    assert (text_of(stopped), finish_of(stopped)) == ('You said "', "STOP")


def test_candidates_and_logprobs(client: genai.Client) -> None:
    answer = whole(client, "Hi", candidate_count=2, response_logprobs=True, max_output_tokens=2)
    assert answer.candidates is not None
    assert [candidate.index for candidate in answer.candidates] == [0, 1]
    result = answer.candidates[1].logprobs_result
    assert result is not None
    assert [token.token for token in result.chosen_candidates or ()] == ["You", " said"]


def test_a_chat(client: genai.Client) -> None:
    chat = client.chats.create(model=MODEL)
    for text in ("One", "Two"):
        answers = list(chat.send_message_stream(text))
        assert "".join(answer.text or "" for answer in answers).startswith(f'You said "{text}"')
    assert len(chat.get_history(curated=True)) >= 4


def test_asynchronously(client: genai.Client) -> None:
    async def said() -> str:
        async with client.aio as google:
            stream = await google.models.generate_content_stream(model=MODEL, contents="Hi")
            return "".join([event.text or "" async for event in stream])

    assert asyncio.run(said()).startswith('You said "Hi"')


def test_models(google_client: genai.Client) -> None:
    assert [model.name for model in google_client.models.list()] == [f"models/{MODEL}", f"models/{OLDER}"]


def test_unknown_model(google_client: genai.Client) -> None:
    for ask in (whole, streamed):
        with pytest.raises(errors.ClientError) as caught:
            ask(google_client, "Hi", "gone")
        assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")
        assert "models/gone is not found" in str(caught.value)


def test_refusals(client: genai.Client) -> None:
    with pytest.raises(errors.ClientError) as caught:
        whole(client, "Hi", temperature=5)
    assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")
    with pytest.raises(errors.ClientError, match="role"):
        streamed(client, types.Content(role="robot", parts=[types.Part(text="Hi")]))


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (400, "INVALID_ARGUMENT"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL"),
        (503, "UNAVAILABLE"),
    ],
)
@both
def test_errors(hosts: dict[str, str], ask: Ask, status: int, word: str) -> None:
    expected = errors.ClientError if status < 500 else errors.ServerError
    with connected(hosts[f"failing-{status}"]) as client, pytest.raises(expected) as caught:
        ask(client, "Hi")
    assert (caught.value.code, caught.value.status) == (status, word)


def test_an_error_inside_a_stream(hosts: dict[str, str]) -> None:
    with connected(hosts["breaking"]) as client, pytest.raises(errors.ServerError, match="internal error"):
        streamed(client, "Hi")


def test_keys(hosts: dict[str, str]) -> None:
    with connected(hosts["locked"], "secret") as client:
        assert whole(client, "Hi").text
    with (
        connected(hosts["locked"], "another") as client,
        pytest.raises(errors.ClientError, match="API key not valid"),
    ):
        whole(client, "Hi")
