"""The openai package's asynchronous client, on asyncio and on trio, against both servers over sockets."""

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import openai
import pytest
from openai import AsyncOpenAI

from gwproto.testing import Knobs
from support.servers import (
    FIVE_HEADERS,
    KEY,
    RUNTIMES,
    GatewayProcess,
    Provider,
    configuration,
    hosting,
    serving,
)

pytestmark = [
    pytest.mark.sockets,
    # The package and its HTTP client leave finished streams' generators to the garbage collector, which trio reports.
    pytest.mark.filterwarnings(
        "ignore:Async generator '(openai|httpx2|httpx|httpcore2|httpcore)\\.:ResourceWarning"
    ),
]


class Service:
    """A gateway and its providers."""

    def __init__(self, gateway: GatewayProcess, providers: list[Provider]) -> None:
        self.gateway = gateway
        self.providers = {provider.name: provider for provider in providers}


@pytest.fixture(scope="module", params=RUNTIMES)
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    providers = [
        Provider("good", models=("mock",)),
        Provider("breaking", Knobs(reset_after=3)),
        Provider("endless", Knobs(stall_after=3)),
        Provider("silent", Knobs(stall_after=0)),
    ]
    with (
        hosting(providers) as urls,
        serving(tmp_path_factory.mktemp("gateway"), request.param, configuration(providers, urls)) as gateway,
    ):
        yield Service(gateway, providers)


Scenario = Callable[[AsyncOpenAI], Awaitable[None]]
Run = Callable[[Scenario], None]


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest, service: Service) -> Run:
    """Runs a scenario with a client on the event loop of the fixture's parameter."""

    def run(scenario: Scenario) -> None:
        async def main() -> None:
            with anyio.fail_after(30):
                async with AsyncOpenAI(
                    base_url=service.gateway.base_url, api_key=KEY, max_retries=0
                ) as client:
                    await scenario(client)

        anyio.run(main, backend=request.param)

    return run


def says(text: str) -> Any:
    return [{"role": "user", "content": text}]


def test_a_completion(run: Run) -> None:
    async def scenario(client: AsyncOpenAI) -> None:
        raw = await client.chat.completions.with_raw_response.create(model="mock", messages=says("hello"))
        assert all(raw.headers[name] for name in FIVE_HEADERS)
        answer = raw.parse()
        assert answer.choices[0].message.content == 'You said "hello", and good heard you.'

    run(scenario)


def test_a_stream(run: Run) -> None:
    async def scenario(client: AsyncOpenAI) -> None:
        stream = await client.chat.completions.create(
            model="mock", messages=says("hello"), stream=True, stream_options={"include_usage": True}
        )
        async with stream:
            *chunks, last = [chunk async for chunk in stream]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text == 'You said "hello", and good heard you.'
        assert last.choices == []
        assert last.usage is not None

    run(scenario)


def test_many_at_once(run: Run) -> None:
    async def scenario(client: AsyncOpenAI) -> None:
        said: dict[int, str] = {}

        async def talk(number: int) -> None:
            async with client.chat.completions.stream(model="mock", messages=says(f"no. {number}")) as stream:
                final = await stream.get_final_completion()
            said[number] = final.choices[0].message.content or ""

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(talk, number)
        assert said == {number: f'You said "no. {number}", and good heard you.' for number in range(20)}

    run(scenario)


def test_a_tool_call(run: Run) -> None:
    tool: Any = {
        "type": "function",
        "function": {
            "name": "look",
            "parameters": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]},
        },
    }

    async def scenario(client: AsyncOpenAI) -> None:
        messages = says("Look at Oslo")
        async with client.chat.completions.stream(model="mock", messages=messages, tools=[tool]) as stream:
            message = (await stream.get_final_completion()).choices[0].message
        assert message.tool_calls is not None
        (call,) = message.tool_calls
        assert json.loads(call.function.arguments) == {"at": "Oslo"}
        messages += [
            message.model_dump(exclude_none=True, exclude={"parsed": True}),
            {"role": "tool", "tool_call_id": call.id, "content": "nice"},
        ]
        answer = await client.chat.completions.create(model="mock", messages=messages, tools=[tool])
        assert "The tool answered nice" in (answer.choices[0].message.content or "")

    run(scenario)


def test_errors(run: Run) -> None:
    async def scenario(client: AsyncOpenAI) -> None:
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="gw-wrong").chat.completions.create(
                model="mock", messages=says("hello")
            )
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="nothing", messages=says("hello"))
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="mock", messages=[], stream=True)
        assert caught.value.param == "messages"

    run(scenario)


def test_a_stream_that_breaks_raises(run: Run) -> None:
    async def scenario(client: AsyncOpenAI) -> None:
        stream = await client.chat.completions.create(
            model="breaking-model", messages=says("hello"), stream=True
        )
        text = ""

        async def read() -> None:
            nonlocal text
            async for chunk in stream:
                text += chunk.choices[0].delta.content or ""

        async with stream:
            with pytest.raises(openai.APIError) as caught:
                await read()
        assert caught.value.type == "provider_error"
        assert text.startswith("You said")

    run(scenario)


def test_cancelling_closes_the_provider_s(run: Run, service: Service) -> None:
    """A cancelled request, streaming or waiting."""
    endless, silent = service.providers["endless"], service.providers["silent"]

    async def scenario(client: AsyncOpenAI) -> None:
        before = endless.departures
        async with anyio.create_task_group() as tasks:
            stream = await client.chat.completions.create(
                model="endless-model", messages=says("hello"), stream=True
            )
            async for _ in stream:
                tasks.cancel_scope.cancel()
        await anyio.to_thread.run_sync(endless.wait, lambda provider: provider.departures == before + 1)

        before, asked = silent.departures, len(silent.received)

        async def ask() -> None:
            await client.chat.completions.create(model="silent-model", messages=says("hello"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await anyio.to_thread.run_sync(silent.wait, lambda provider: len(provider.received) > asked)
            tasks.cancel_scope.cancel()
        await anyio.to_thread.run_sync(silent.wait, lambda provider: provider.departures == before + 1)

    run(scenario)
